/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A space: one process that takes part, its areas and its limits.  It belongs
 * to one open file and dies with it; every attached thread holds that file.
 */
#ifndef ACTV_SPACE_H
#define ACTV_SPACE_H

#include <linux/bitmap.h>
#include <linux/cred.h>
#include <linux/fs.h>
#include <linux/hrtimer.h>
#include <linux/list.h>
#include <linux/mm_types.h>
#include <linux/spinlock.h>
#include <linux/timekeeping.h>

#include <activations/abi.h>

struct actv_activation;
struct actv_processor;

#define ACTV_NEVER		(~0ull)
#define ACTV_PROCESSORS_MAX	1024
#define ACTV_SLICE_MIN_NS	100000ull
#define ACTV_SLICE_MAX_NS	10000000000ull

/*
 * Counters: name, and what one more of it means.  The first seven are those of
 * struct activations_stats; the ones in ACTV_DEGRADED add up to its fallbacks.
 */
#define ACTV_COUNTERS(X) \
	X(blocks, "hand-overs because an activation blocked") \
	X(unblocks, "returns from a block without a processor") \
	X(preemptions, "activations stopped by a slice or a kick") \
	X(keeps, "blocks with nothing waiting") \
	X(disabled_blocks, "blocks while disabled") \
	X(no_spare, "hand-overs that found no spare") \
	X(direct_resumes, "stopped activations resumed for lack of a spare") \
	X(kept_returns, "keepers back before anybody else") \
	X(kept_taken, "processors of blocked owners that work took later") \
	X(followed, "blocks whose processor a returner got that ran next") \
	X(claims, "returners that found an idle processor") \
	X(stops, "activations stopped by the park stub") \
	X(stop_calls, "activations stopped by the STOP call") \
	X(interrupted_stops, "stops broken off by a signal") \
	X(switches, "SWITCH_TO calls that switched") \
	X(stale_switches, "SWITCH_TO calls that came too late") \
	X(idles, "processors released") \
	X(wakes, "idle processors woken by WAKE") \
	X(rechecks, "spares sent to look on behalf of a keeper") \
	X(timers, "timers that came due") \
	X(slices, "slices that ended with work waiting") \
	X(kicks, "KICK calls") \
	X(preempt_needless, "preemptions skipped: nothing waits any more") \
	ACTV_DEGRADED(X)

#define ACTV_DEGRADED(X) \
	X(held, "blocks with work waiting and nobody to send") \
	X(preempt_nobody, "preemptions skipped: nobody to take over") \
	X(preempt_disabled, "preemptions left pending: disabled") \
	X(return_disabled, "returners that went on: disabled") \
	X(unstoppable_no_stub, "not stopped: no stub, or it failed before") \
	X(unstoppable_32bit, "not stopped: not in 64-bit code") \
	X(unstoppable_single_step, "not stopped: single-stepped") \
	X(unstoppable_dispatch, "not stopped: system call user dispatch") \
	X(unstoppable_seccomp, "not stopped: seccomp state changed") \
	X(stub_returned, "park stubs whose call did not reach the module") \
	X(paused_blocks, "blocks of a traced, stopped or frozen thread") \
	X(timer_unserved, "due timers that found no idle processor") \
	X(offline, "processors whose owner left with nobody to follow")

enum actv_counter {
#define X(name, text) ACTV_##name,
	ACTV_COUNTERS(X)
#undef X
	ACTV_COUNTER_COUNT
};

/* Bucket i counts values of [2^(i-1), 2^i) ns, bucket 0 counts 0. */
#define ACTV_HISTOGRAM_BUCKETS 40

struct actv_histogram {
	u64 bucket[ACTV_HISTOGRAM_BUCKETS];
	u64 total_ns;
	u64 maximum_ns;
};

struct actv_space {
	/* Constant after OPEN. */
	struct mm_struct *mm;		/* identity only, mmgrab'ed */
	kuid_t uid;
	pid_t tgid;			/* of OPEN, for names */
	u64 park_stub;
	u32 park_stub_bytes;		/* 0: no stops */
	u32 processor_count;
	u32 activation_count;

	/* The areas.  info is written by the module alone and maps read-only
	 * to the process; control is anybody's and never believed. */
	struct activations_info_header *info;
	struct activations_control_header *control;
	struct activations_registers *registers;
	unsigned long *info_idle;
	unsigned long *control_stopped;
	size_t info_bytes;
	size_t control_bytes;

	struct actv_processor *processors;

	/* The lock, a leaf: see main.c.  All below it is under it. */
	raw_spinlock_t lock;
	struct actv_activation **activations;	/* a slot is set once */
	struct list_head spares;		/* last in, first out */
	struct list_head stopped;		/* first in, first out */
	u32 spare_count;
	u32 stopped_count;
	u32 idle_count;
	u32 held_count;
	u32 orphan_count;
	u32 attached_count;
	DECLARE_BITMAP(idle, ACTV_PROCESSORS_MAX);
	u64 timer_ns;			/* earliest TIMER; ACTV_NEVER */
	u64 timer_armed_ns;		/* when `timer` is set for */
	struct hrtimer timer;
	u64 counters[ACTV_COUNTER_COUNT];
	struct actv_histogram excess;
	struct actv_histogram idle_with_work;

#ifdef ACTIVATIONS_TEST
	const char *broken;	/* what check.c found first */
#endif

	atomic_t kicks_in_flight;
	struct list_head link;		/* all spaces; under their mutex */
	struct dentry *debugfs;
};

/* check.c: the invariants of all of the above, in test builds. */
#ifdef ACTIVATIONS_TEST
void actv_check(struct actv_space *s);
void actv_check_report(struct actv_space *s);
#else
static inline void actv_check(struct actv_space *s) { }
static inline void actv_check_report(struct actv_space *s) { }
#endif

#define actv_lock_irqsave(s, flags) raw_spin_lock_irqsave(&(s)->lock, flags)
#define actv_unlock_irqrestore(s, flags)				\
do {									\
	actv_check(s);							\
	raw_spin_unlock_irqrestore(&(s)->lock, flags);			\
} while (0)

/* Interrupts are off. */
static inline void actv_lock(struct actv_space *s) __acquires(&s->lock)
{
	raw_spin_lock(&s->lock);
}

static inline void actv_unlock(struct actv_space *s) __releases(&s->lock)
{
	actv_check(s);
	raw_spin_unlock(&s->lock);
}

/* CLOCK_MONOTONIC; callable under the run-queue lock. */
static inline u64 actv_now(void)
{
	return ktime_get_mono_fast_ns();
}

static inline void actv_count(struct actv_space *s, enum actv_counter which)
{
	lockdep_assert_held(&s->lock);
	s->counters[which]++;
}

/* The hint of the process, read as the bare word it is. */
static inline bool actv_work_waiting(struct actv_space *s)
{
	return READ_ONCE(s->control->work_waiting) != 0;
}

/* Module parameters, space.c. */
extern unsigned int actv_recheck_us;
bool actv_allocation_fails(void);

/* Parts that a test build leaves out on demand, to show what they are for. */
#define ACTV_SKIP_MASK	BIT(0)	/* signals are not blocked at a stop */
#define ACTV_SKIP_RSEQ	BIT(1)	/* no rseq_preempt() at a preemption */
#ifdef ACTIVATIONS_TEST
extern unsigned int actv_skip;
#define actv_skips(what) (READ_ONCE(actv_skip) & (what))
#else
#define actv_skips(what) false
#endif

void actv_histogram_add(struct actv_histogram *h, u64 ns);
struct actv_space *actv_space_open(struct activations_open *args);
void actv_space_close(struct actv_space *s);
int actv_space_mmap(struct actv_space *s, struct vm_area_struct *vma);
void actv_space_stats(struct actv_space *s, struct activations_stats *stats);

/* debugfs.c */
void actv_debugfs_init(void);
void actv_debugfs_exit(void);
void actv_debugfs_add(struct actv_space *s);
void actv_debugfs_remove(struct actv_space *s);

/* probes.c */
int actv_probes_init(void);
void actv_probes_exit(void);

/* device.c */
int actv_device_init(void);
void actv_device_exit(void);

#endif /* ACTV_SPACE_H */
