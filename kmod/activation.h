/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * An activation: a kernel thread that carries user code of a space.
 *
 * States.  "Sleeps" means asleep inside this module, at a place from which it
 * can be dispatched; nowhere else is an activation a spare, stopped or an
 * idler.
 *
 *	UNUSED	no thread in this slot
 *	LOOSE	attached and nothing more: no processor, nobody will ask
 *	OWNER	a processor is lent to it; it runs, waits for a CPU, or is
 *		blocked as an ordinary thread because it is disabled or traced
 *	KEEPER	blocked in the kernel, with nothing else to run: its processor
 *		is idle and goes with whoever comes first, the keeper or work
 *	HELD	blocked in the kernel; work waits, but there was nobody to send:
 *		an ordinary block, until somebody comes who can use its processor
 *	BLOCKED	blocked in the kernel, its processor is another's; or back from
 *		that and not yet at its user boundary
 *	STOPPED	sleeps until switched to, on the space's queue
 *	SPARE	sleeps until dispatched
 *	IDLER	sleeps, its processor is idle
 *
 *	from		to	by
 *	UNUSED		OWNER	itself: ATTACH with a processor
 *	UNUSED		LOOSE	itself: ATTACH without
 *	OWNER		BLOCKED	itself in sched_out; another was dispatched
 *	OWNER		KEEPER	itself in sched_out
 *	OWNER		HELD	itself in sched_out; no spare, none stopped
 *	KEEPER		HELD	WAKE, for lack of a spare
 *	KEEPER, HELD	OWNER	itself in sched_in
 *	KEEPER, HELD	BLOCKED	who takes its processor
 *	BLOCKED		OWNER	itself at the user boundary or in its llseek
 *	BLOCKED, OWNER	STOPPED	itself: llseek from the park stub, STOP
 *	STOPPED		OWNER	who dispatches it
 *	STOPPED		BLOCKED	itself, a signal interrupted llseek
 *	STOPPED		LOOSE	itself, a signal interrupted STOP
 *	OWNER		SPARE	itself: SWITCH_TO
 *	LOOSE, BLOCKED	SPARE	itself: PARK
 *	SPARE		OWNER	who dispatches it
 *	SPARE		LOOSE	END, or itself, a signal interrupted its sleep
 *	OWNER		IDLER	itself: RELEASE
 *	IDLER		OWNER	WAKE, a timer, END, or itself (signal)
 *	IDLER		SPARE	who claims its idle processor
 *	any		UNUSED	itself: DETACH, exit, exec
 *
 * All of them are made under the space's lock.
 */
#ifndef ACTV_ACTIVATION_H
#define ACTV_ACTIVATION_H

#include <linux/hrtimer.h>
#include <linux/irq_work.h>
#include <linux/list.h>
#include <linux/percpu-defs.h>
#include <linux/preempt.h>
#include <linux/ptrace.h>
#include <linux/sched/signal.h>
#include <linux/sched/task_stack.h>
#include <linux/user-return-notifier.h>

#include "space.h"

enum actv_state {
	ACTV_UNUSED,
	ACTV_LOOSE,
	ACTV_OWNER,
	ACTV_KEEPER,
	ACTV_HELD,
	ACTV_BLOCKED,
	ACTV_STOPPED,
	ACTV_SPARE,
	ACTV_IDLER,
};

/* Bits of actv_activation.want: what is to be seen to at the user boundary. */
#define ACTV_WANT_RETURN	BIT(0)	/* back from a block, no processor */
#define ACTV_WANT_SLICE		BIT(1)
#define ACTV_WANT_KICK		BIT(2)
#define ACTV_WANT_PREEMPT	(ACTV_WANT_SLICE | ACTV_WANT_KICK)

/**
 * struct actv_registers - what a stop saves: all that user code can see
 *
 * No selectors: those of the thread stay as they are, and none is ever taken
 * from memory that user code has seen.
 */
struct actv_registers {
	unsigned long r15, r14, r13, r12, bp, bx, r11, r10, r9, r8;
	unsigned long ax, cx, dx, si, di, ip, flags, sp;
};

struct actv_activation {
	struct actv_space *space;
	struct activations_activation_info *info;
	struct activations_activation_control *control;
	u32 index;

	/* Written under space->lock; what only the owner of the slot leaves
	 * (OWNER, BLOCKED, LOOSE) it may also read without. */
	enum actv_state state;
	struct actv_processor *processor;	/* OWNER, KEEPER, HELD, IDLER */
	struct actv_processor *last;		/* the one it had last */
	struct list_head link;			/* spares or stopped */
	struct task_struct *task;		/* NULL: UNUSED; RCU */
	u64 dispatched_ns;			/* when; 0 = seen to run since */
	u64 latency_ns;		/* from then to that, not in the histogram yet */
	bool token;	/* dispatched, and did not notice yet */
	bool ending;	/* EVENT_EXIT at the next park */
	bool parks_again;	/* its sleep as a spare was interrupted */

	/* The thread itself, or an interrupt on its CPU while it runs. */
	bool parking;		/* sleeps in this module: not a block */
	bool armed;		/* its user-return notifier is registered */
	bool scheduled_in;	/* since actv_sleep() began */
	bool redirected;	/* on its way to llseek, by the park stub */
	bool no_stop;		/* the stub failed once */
	u64 excess_since_ns;	/* runs since, without a processor */
	u64 slice_since_ns;	/* runs since, slice timer armed */

	atomic_t want;		/* ACTV_WANT_*; KICK sets from anywhere */
	int cpu;		/* last seen on */

	struct actv_registers saved;
	sigset_t saved_mask;

	struct preempt_notifier notifier;
	struct user_return_notifier returner;
	struct hrtimer slice_timer;
	struct irq_work wake_work;

	/* From ATTACH on, constant. */
	struct file *file;		/* one reference */
	int fd;				/* for the park stub's call */
	u64 registers;			/* and its argument */
	int seccomp_mode;
	int seccomp_filters;
};

/* The activation that runs on this CPU, NULL for any other thread.  Changed
 * with interrupts off in the context of the thread. */
DECLARE_PER_CPU(struct actv_activation *, actv_running);

struct actv_activation *actv_current(struct actv_space *s);
struct actv_activation *actv_new(struct actv_space *s, u32 index);
void actv_free(struct actv_activation *a);

/* Calls; the arguments are checked (device.c). */
long actv_attach(struct actv_space *s, struct file *file, int fd, u32 index,
		 u32 processor, u64 registers);
long actv_park(struct actv_activation *a);
long actv_switch_to(struct actv_activation *a, u32 index);
long actv_release(struct actv_activation *a, u64 deadline_ns);
long actv_stop(struct actv_activation *a);
long actv_end(struct actv_space *s, u32 index);
void actv_leave(struct actv_activation *a);

/* Context: process; the caller holds a reference to the space. */
void actv_wake(struct actv_activation *a);

void actv_set_state(struct actv_activation *a, enum actv_state state,
		    u32 published, u64 now);
void actv_spare_in(struct actv_activation *a, u64 now);
void actv_stopped_in(struct actv_activation *a, u32 published, u64 now);
void actv_list_out(struct actv_activation *a);
bool actv_sleep(struct actv_activation *a, struct actv_activation *to);
void actv_on_cpu(struct actv_activation *a);
void actv_after_sleep(struct actv_activation *a);
void actv_excess_end(struct actv_activation *a, u64 now);
void actv_latency_end(struct actv_activation *a);

void actv_arm(struct actv_activation *a);
void actv_disarm(struct actv_activation *a);
void actv_slice_start(struct actv_activation *a, u64 now);
void actv_slice_pause(struct actv_activation *a);

/* stop.c */
void actv_user_return(struct user_return_notifier *urn);
loff_t actv_llseek(struct file *file, loff_t offset, int whence);

#endif /* ACTV_ACTIVATION_H */
