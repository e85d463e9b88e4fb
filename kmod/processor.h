/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A virtual processor: the right to run one activation.  The word in the info
 * area is only a publication; what the module acts on is here.
 */
#ifndef ACTV_PROCESSOR_H
#define ACTV_PROCESSOR_H

#include <linux/hrtimer.h>
#include <linux/nospec.h>
#include <linux/smp.h>

#include "space.h"

struct actv_processor {
	struct actv_space *space;
	struct activations_processor_info *info;
	struct activations_processor_control *control;
	u32 index;

	/* Under space->lock. */
	enum activations_processor_state state;	/* OFFLINE, RUNNING or IDLE */
	struct actv_activation *owner;		/* NULL: OFFLINE */
	bool orphan;		/* OFFLINE, for whoever can use it */
	u64 tag;
	u64 deadline_ns;	/* of its idler; ACTV_NEVER */
	u64 kept_since_ns;	/* by a keeper; 0 = looked into already */
	u32 returners;		/* had it one after the other */
	struct hrtimer recheck;

	/* The owner while it runs, or an interrupt on its CPU. */
	u64 slice_used_ns;
	u64 dispatches;		/* as the last slice tick saw it */

	call_single_data_t kick;
	atomic_t kick_under_way;
};

/* Returners that follow each other on a processor before a spare does. */
#define ACTV_RETURNERS_MAX 8

/* @index was checked; speculation has not heard of it. */
static inline struct actv_processor *actv_processor_at(struct actv_space *s,
							u32 index)
{
	return &s->processors[array_index_nospec(index, s->processor_count)];
}

void actv_processor_init(struct actv_space *s, u32 index);
void actv_processor_destroy(struct actv_processor *v);

void actv_grant(struct actv_processor *v, struct actv_activation *to,
		u32 events, struct actv_activation *before, u64 now);
void actv_dispatch(struct actv_processor *v, struct actv_activation *to,
		   u32 events, struct actv_activation *before, u64 now);
void actv_grant_returner(struct actv_processor *v, struct actv_activation *to,
			 u64 now);
struct actv_activation *actv_hand_over(struct actv_processor *v,
				       u32 events, u64 now);
struct actv_activation *actv_take_kept(struct actv_processor *v, u32 events,
				       u64 now);
void actv_lose_kept(struct actv_activation *keeper, struct actv_processor *v,
		    u64 now);
void actv_go_idle(struct actv_processor *v, u64 now);
void actv_end_idle(struct actv_processor *v, u64 now);
bool actv_claim_idle(struct actv_activation *a, u64 now);
struct actv_processor *actv_find_unserved(struct actv_space *s);
struct actv_activation *actv_give_up(struct actv_processor *v, u64 now);
void actv_keep(struct actv_processor *v, u64 now);
void actv_forget_orphans(struct actv_space *s);
void actv_hold(struct actv_processor *v, u64 now);

/* Calls; the arguments are checked (device.c). */
long actv_wake_processor(struct actv_processor *v);
long actv_kick(struct actv_processor *v);
void actv_slice(struct actv_processor *v, u64 ns);
long actv_request(struct actv_space *s, u32 wanted);
void actv_timer(struct actv_space *s, u64 deadline_ns);

void actv_timer_lower(struct actv_space *s, u64 deadline_ns);
enum hrtimer_restart actv_timer_due(struct hrtimer *timer);
enum hrtimer_restart actv_slice_due(struct hrtimer *timer);

#endif /* ACTV_PROCESSOR_H */
