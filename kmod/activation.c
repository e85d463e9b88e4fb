// SPDX-License-Identifier: GPL-2.0-only
/*
 * Activations: attach, leave, the scheduler's hooks, and the calls that sleep.
 *
 * One file, though a long one: the hooks and the calls are the two sides of the
 * same few states, and each line of one relies on what the other leaves behind.
 */
#include <linux/file.h>
#include <linux/nospec.h>
#include <linux/pid.h>
#include <linux/sched/jobctl.h>
#include <linux/slab.h>
#include <linux/topology.h>
#include <asm/special_insns.h>
#include <asm/syscall.h>
#include <asm/unistd.h>

#include "activation.h"
#include "compat/hrtimer.h"
#include "compat/sched.h"
#include "compat/wake.h"
#include "processor.h"
#include "trace.h"

DEFINE_PER_CPU(struct actv_activation *, actv_running);

static void actv_sched_in(struct preempt_notifier *notifier, int cpu);
static void actv_sched_out(struct preempt_notifier *notifier,
			   struct task_struct *next);

static struct preempt_ops actv_preempt_ops = {
	.sched_in = actv_sched_in,
	.sched_out = actv_sched_out,
};

/*
 * Waking.
 *
 * `task` is cleared under the space's lock when a thread detaches, which it
 * does before it dies, and a task is freed an RCU grace period after that: who
 * reads it inside a read-side section may wake it.  Every sleep here is a loop
 * over a token, so a wake-up too many does no harm.
 */
static void actv_wake_with(struct actv_activation *a, int flags)
{
	struct task_struct *task;

	rcu_read_lock();
	task = READ_ONCE(a->task);
	if (task)
		actv_wake_task(task, flags);
	rcu_read_unlock();
}

void actv_wake(struct actv_activation *a)
{
	actv_wake_with(a, 0);
}

/*
 * Successors wake on this CPU: they take the very place of who has just left it,
 * or is about to.  So each CPU runs as many of our threads as before.  Anywhere
 * else they would disturb the owner of another processor, and beside other
 * programs two owners would share one CPU.
 */
static void actv_wake_work(struct irq_work *work)
{
	struct actv_activation *a =
		container_of(work, struct actv_activation, wake_work);

	if (READ_ONCE(a->token))
		actv_wake_with(a, ACTV_WAKE_HERE);
}

/*
 * By current, which sleeps next.  Its state is that of a sleeper already, and
 * interrupts are off: so the successor does not preempt it on its way to
 * schedule(), which would cost a switch more.
 */
static void actv_wake_successor(struct actv_activation *to)
{
	unsigned long flags;

	local_irq_save(flags);
	actv_wake_with(to, ACTV_WAKE_SYNC | ACTV_WAKE_HERE);
	local_irq_restore(flags);
}

/* Context: process; the slot stays its own until the space is closed. */
struct actv_activation *actv_new(struct actv_space *s, u32 index)
{
	struct actv_activation *a;

	if (actv_allocation_fails())
		return NULL;
	a = kzalloc(sizeof(*a), GFP_KERNEL_ACCOUNT);
	if (!a)
		return NULL;
	a->space = s;
	a->index = index;
	a->info = (void *)s->info + s->info->activation_offset +
		  index * sizeof(*a->info);
	/* The same offset; that in the control area is anybody's to change. */
	a->control = (void *)s->control + s->info->activation_offset +
		     index * sizeof(*a->control);
	a->state = ACTV_UNUSED;
	INIT_LIST_HEAD(&a->link);
	preempt_notifier_init(&a->notifier, &actv_preempt_ops);
	a->returner.on_user_return = actv_user_return;
	hrtimer_setup(&a->slice_timer, actv_slice_due, CLOCK_MONOTONIC,
		      HRTIMER_MODE_REL_PINNED_HARD);
	a->wake_work = IRQ_WORK_INIT_HARD(actv_wake_work);
	return a;
}

/* Context: no thread of the space is left; may sleep. */
void actv_free(struct actv_activation *a)
{
	hrtimer_cancel(&a->slice_timer);
	irq_work_sync(&a->wake_work);
	kfree(a);
}

/**
 * actv_current - the activation that the caller is
 * @s: the space it has to belong to
 *
 * Return: NULL if the caller is not attached to @s.
 */
struct actv_activation *actv_current(struct actv_space *s)
{
	struct actv_activation *a;

	/* Set whenever an attached thread runs, so right on whichever CPU. */
	preempt_disable();
	a = __this_cpu_read(actv_running);
	preempt_enable();
	return a && a->space == s ? a : NULL;
}

void actv_set_state(struct actv_activation *a, enum actv_state state,
		    u32 published, u64 now)
{
	lockdep_assert_held(&a->space->lock);
	WRITE_ONCE(a->state, state);
	WRITE_ONCE(a->info->since_ns, now);
	/* Pairs with the acquire loads of schedulers and spinning waiters. */
	smp_store_release(&a->info->state, published);
}

/*
 * Only what spinning waiters read.  Context: the thread itself, while it is an
 * owner; nobody else changes or publishes an owner's state.
 */
static void actv_show(struct actv_activation *a, u32 published, u64 now)
{
	if (READ_ONCE(a->info->state) == published)
		return;
	WRITE_ONCE(a->info->since_ns, now);
	smp_store_release(&a->info->state, published);
}

/* Context: space->lock, for these three. */
void actv_spare_in(struct actv_activation *a, u64 now)
{
	struct actv_space *s = a->space;

	actv_set_state(a, ACTV_SPARE, ACTIVATIONS_ACTIVATION_SPARE, now);
	list_add(&a->link, &s->spares);
	WRITE_ONCE(s->info->spare_count, ++s->spare_count);
}

void actv_stopped_in(struct actv_activation *a, u32 published, u64 now)
{
	struct actv_space *s = a->space;

	actv_set_state(a, ACTV_STOPPED, published, now);
	list_add_tail(&a->link, &s->stopped);
	WRITE_ONCE(s->stopped_count, s->stopped_count + 1);
	/* A full barrier: who sees `stopped` finds the bit. */
	set_bit(a->index, s->control_stopped);
	smp_mb__after_atomic();
	WRITE_ONCE(s->control->stopped, 1);
}

void actv_list_out(struct actv_activation *a)
{
	struct actv_space *s = a->space;

	lockdep_assert_held(&s->lock);
	list_del_init(&a->link);
	if (a->state == ACTV_SPARE)
		WRITE_ONCE(s->info->spare_count, --s->spare_count);
	else
		WRITE_ONCE(s->stopped_count, s->stopped_count - 1);
}

/* Context: interrupts off; the thread itself, or an interrupt upon it. */
void actv_arm(struct actv_activation *a)
{
	lockdep_assert_irqs_disabled();
	if (a->armed)
		return;
	a->armed = true;
	user_return_notifier_register(&a->returner);
}

void actv_disarm(struct actv_activation *a)
{
	lockdep_assert_irqs_disabled();
	if (!a->armed)
		return;
	a->armed = false;
	user_return_notifier_unregister(&a->returner);
}

/*
 * The slice timer belongs to the activation and to the CPU where that runs; how
 * much of the slice is used up belongs to the processor.
 * Context: interrupts off, on the CPU of the thread.
 */
void actv_slice_start(struct actv_activation *a, u64 now)
{
	struct actv_processor *v;
	u64 slice, used;

	if (READ_ONCE(a->state) != ACTV_OWNER)
		return;
	v = a->processor;
	slice = READ_ONCE(v->control->slice_ns);
	if (!slice || hrtimer_is_queued(&a->slice_timer))
		return;
	slice = clamp(slice, ACTV_SLICE_MIN_NS, ACTV_SLICE_MAX_NS);
	used = min(v->slice_used_ns, slice - ACTV_SLICE_MIN_NS);
	a->slice_since_ns = now;
	hrtimer_start(&a->slice_timer, ns_to_ktime(slice - used),
		      HRTIMER_MODE_REL_PINNED_HARD);
}

void actv_slice_pause(struct actv_activation *a)
{
	struct actv_processor *v = a->processor;
	u64 now;

	if (!hrtimer_is_queued(&a->slice_timer))
		return;
	now = actv_now();
	hrtimer_try_to_cancel(&a->slice_timer);
	if (READ_ONCE(a->state) == ACTV_OWNER && now > a->slice_since_ns)
		v->slice_used_ns += now - a->slice_since_ns;
}

/* Context: space->lock. */
void actv_excess_end(struct actv_activation *a, u64 now)
{
	if (!a->excess_since_ns)
		return;
	actv_histogram_add(&a->space->excess, now - a->excess_since_ns);
	a->excess_since_ns = 0;
}

/*
 * What the thread measured as it began to run goes into the histogram when
 * somebody has the lock anyway.  Context: space->lock.
 */
void actv_latency_end(struct actv_activation *a)
{
	u64 latency = READ_ONCE(a->latency_ns);

	if (!latency)
		return;
	WRITE_ONCE(a->latency_ns, 0);
	actv_histogram_add(&a->space->idle_with_work, latency);
}

/*
 * It runs, and owns what the word says: say so.
 * Context: interrupts off, not under space->lock.
 */
static void actv_show_running(struct actv_activation *a, u64 now)
{
	int cpu = smp_processor_id();

	if (READ_ONCE(a->state) != ACTV_OWNER)
		return;
	if (a->dispatched_ns) {
		WRITE_ONCE(a->latency_ns, now - a->dispatched_ns);
		a->dispatched_ns = 0;
	}
	actv_show(a, ACTIVATIONS_ACTIVATION_RUNNING, now);
	if (READ_ONCE(a->processor->info->cpu) != cpu) {
		WRITE_ONCE(a->processor->info->cpu, cpu);
		WRITE_ONCE(a->processor->info->node, cpu_to_node(cpu));
	}
	actv_slice_start(a, now);
}

/* It may own a processor that it did not, and runs.  Context: process. */
void actv_on_cpu(struct actv_activation *a)
{
	unsigned long flags;

	local_irq_save(flags);
	actv_show_running(a, actv_now());
	if (atomic_read(&a->want))
		actv_arm(a);
	local_irq_restore(flags);
}

/* After actv_sleep().  If it slept and was dispatched then, sched_in did it. */
void actv_after_sleep(struct actv_activation *a)
{
	if (!a->scheduled_in || a->dispatched_ns || atomic_read(&a->want))
		actv_on_cpu(a);
}

/* Is a debugger, job control or a freezer at work?  Then no upcall is due. */
static bool actv_paused(struct task_struct *task)
{
	return (READ_ONCE(task->__state) & (__TASK_STOPPED | __TASK_TRACED)) ||
	       (task->jobctl & JOBCTL_TRAP_FREEZE);
}

/*
 * Why current blocks.  The address of a fault is what the CPU remembers, so it
 * is the right one unless another fault came between.
 */
static void actv_sample_cause(struct actv_activation *a)
{
	struct activations_cause *cause = &a->info->cause;
	struct pt_regs *regs = current_pt_regs();
	unsigned long address;

	if ((long)regs->orig_ax < 0) {
		address = read_cr2();
		cause->kind = ACTIVATIONS_CAUSE_FAULT;
		cause->number = 0;
		cause->address = address < TASK_SIZE_MAX ? address : 0;
		return;
	}
	cause->kind = regs->orig_ax == __NR_futex ? ACTIVATIONS_CAUSE_FUTEX :
						    ACTIVATIONS_CAUSE_SYSCALL;
	cause->number = regs->orig_ax;
	cause->address = 0;
	cause->arguments[0] = regs->di;
	cause->arguments[1] = regs->si;
	cause->arguments[2] = regs->dx;
	cause->arguments[3] = regs->r10;
	cause->arguments[4] = regs->r8;
	cause->arguments[5] = regs->r9;
}

/*
 * The activation that a thread is, from outside.  Only the thread itself changes
 * the list: it holds still while the thread is on this run queue, whose lock is
 * held, and does not run.
 */
static struct actv_activation *actv_of(struct task_struct *task)
{
	struct preempt_notifier *notifier;

	hlist_for_each_entry(notifier, &task->preempt_notifiers, link)
		if (notifier->ops == &actv_preempt_ops)
			return container_of(notifier, struct actv_activation,
					    notifier);
	return NULL;
}

/*
 * Does this CPU turn to a thread of the space that is back from its own block and
 * has no processor?  It would have to be stopped to let a spare run, which would
 * switch to it in the end: three switches, where none but this is needed.  Not
 * one that is on its way to stop already; and after a few a spare gets its turn,
 * since what waits in the program's queues was there before them.
 * Context: space->lock, under the run-queue lock.
 */
static struct actv_activation *actv_find_returner(struct actv_processor *v,
						  struct task_struct *next)
{
	struct actv_activation *to = actv_of(next);

	if (!to || to->space != v->space || to->state != ACTV_BLOCKED ||
	    to->redirected || v->returners >= ACTV_RETURNERS_MAX)
		return NULL;
	return to;
}

/*
 * Current blocks, outside this module.  The heart of it all: its processor goes
 * to a returner that runs here next, or to a spare if work is known to wait, else
 * it is kept, idle.
 *
 * Context: run-queue lock held, interrupts off.
 * Return: whom to wake, by irq_work.
 */
static struct actv_activation *actv_block(struct actv_activation *a,
					  struct task_struct *next, u64 now)
{
	struct actv_space *s = a->space;
	struct actv_activation *returner, *to = NULL;
	struct actv_processor *v;

	actv_lock(s);
	if (a->state != ACTV_OWNER)
		goto out;
	if (READ_ONCE(a->control->disabled)) {
		actv_count(s, ACTV_disabled_blocks);
		actv_show(a, ACTIVATIONS_ACTIVATION_BLOCKED, now);
		goto out;
	}
	if (actv_paused(current)) {
		actv_count(s, ACTV_paused_blocks);
		actv_show(a, ACTIVATIONS_ACTIVATION_BLOCKED, now);
		goto out;
	}
	v = a->processor;
	actv_sample_cause(a);
	returner = actv_find_returner(v, next);
	if (returner) {
		actv_grant_returner(v, returner, now);
		trace_activations_block(s->tgid, v->index, a->index,
					returner->index, a->info->cause.kind,
					a->info->cause.number);
		goto out;
	}
	if (!s->stopped_count && !actv_work_waiting(s)) {
		actv_keep(v, now);
		if (actv_work_waiting(s)) {
			to = actv_take_kept(v, 0, now);
			if (!to)
				actv_hold(v, now);
		}
		goto out;
	}
	to = actv_hand_over(v, ACTIVATIONS_EVENT_BLOCKED, now);
	if (!to) {
		actv_hold(v, now);
		goto out;
	}
	actv_count(s, ACTV_blocks);
	WRITE_ONCE(v->info->blocks, v->info->blocks + 1);
	a->processor = NULL;
	actv_set_state(a, ACTV_BLOCKED, ACTIVATIONS_ACTIVATION_BLOCKED, now);
	trace_activations_block(s->tgid, v->index, a->index, to->index,
				a->info->cause.kind, a->info->cause.number);
out:
	actv_unlock(s);
	return to;
}

/* Context: run-queue lock held, interrupts off, current is the activation. */
static void actv_sched_out(struct preempt_notifier *notifier,
			   struct task_struct *next)
{
	struct actv_activation *a =
		container_of(notifier, struct actv_activation, notifier);
	struct actv_activation *to;

	__this_cpu_write(actv_running, NULL);
	actv_disarm(a);
	actv_slice_pause(a);
	if (a->excess_since_ns) {
		actv_lock(a->space);
		actv_excess_end(a, actv_now());
		actv_unlock(a->space);
	}
	/* Reading the clock is most of what a sleep in this module would cost
	 * here: only who needs it reads it. */
	if (a->parking)
		return;
	if (task_is_runnable(current)) {
		/* For another process, or for another of our activations:
		 * published for those who spin, and no event. */
		if (READ_ONCE(a->state) == ACTV_OWNER)
			actv_show(a, ACTIVATIONS_ACTIVATION_PREEMPTED,
				  actv_now());
		return;
	}
	to = actv_block(a, next, actv_now());
	if (to)
		irq_work_queue(&to->wake_work);
}

/* Context: preemption off, interrupts on, current is the activation. */
static void actv_sched_in(struct preempt_notifier *notifier, int cpu)
{
	struct actv_activation *a =
		container_of(notifier, struct actv_activation, notifier);
	struct actv_space *s = a->space;
	enum actv_state state;
	unsigned long flags;
	u64 now = actv_now();

	local_irq_save(flags);
	__this_cpu_write(actv_running, a);
	WRITE_ONCE(a->cpu, cpu);
	a->scheduled_in = true;
	/* Pairs with the barrier in actv_kick(). */
	smp_mb();
	state = READ_ONCE(a->state);
	if (state == ACTV_KEEPER || state == ACTV_HELD ||
	    state == ACTV_BLOCKED) {
		actv_lock(s);
		if (a->state == ACTV_KEEPER) {
			actv_set_state(a, ACTV_OWNER,
				       ACTIVATIONS_ACTIVATION_RUNNING, now);
			actv_end_idle(a->processor, now);
			actv_count(s, ACTV_kept_returns);
		} else if (a->state == ACTV_HELD) {
			actv_set_state(a, ACTV_OWNER,
				       ACTIVATIONS_ACTIVATION_RUNNING, now);
			s->held_count--;
		} else {
			a->excess_since_ns = now;
			atomic_or(ACTV_WANT_RETURN, &a->want);
		}
		actv_unlock(s);
	}
	actv_show_running(a, now);
	if (a->redirected || atomic_read(&a->want))
		actv_arm(a);
	local_irq_restore(flags);
}

/**
 * actv_sleep - sleeps until dispatched
 * @a: current, a spare, stopped, or an idler
 * @to: who was dispatched in its place and is not awake yet, or NULL
 *
 * Return: true, and the token is taken; false if a signal came first: the caller
 * then looks at the token under the lock, since it may have come meanwhile.
 */
bool actv_sleep(struct actv_activation *a, struct actv_activation *to)
{
	bool dispatched;

	/* Before the state is set: from there on sched_out sees a block. */
	WRITE_ONCE(a->parking, true);
	a->scheduled_in = false;
	set_current_state(TASK_INTERRUPTIBLE);
	if (to)
		actv_wake_successor(to);
	for (;;) {
		/* Pairs with the release in actv_dispatch(). */
		dispatched = smp_load_acquire(&a->token);
		if (dispatched || signal_pending(current))
			break;
		schedule();
		set_current_state(TASK_INTERRUPTIBLE);
	}
	__set_current_state(TASK_RUNNING);
	WRITE_ONCE(a->parking, false);
	/* Who has been dispatched is nobody's to dispatch: its token is its. */
	if (dispatched)
		a->token = false;
	return dispatched;
}

/**
 * actv_attach - ATTACH: current becomes an activation
 * @s: the space
 * @file: the device's open file
 * @fd: its descriptor
 * @index: of the slot
 * @processor: to own from the start, or ACTIVATIONS_INDEX_NONE
 * @registers: where the process maps its registers: the stub's argument
 *
 * Return: 0; -EBUSY: the thread is attached, the slot is taken, or the
 * processor is not offline; -ENOMEM.
 */
long actv_attach(struct actv_space *s, struct file *file, int fd, u32 index,
		 u32 processor, u64 registers)
{
	struct actv_processor *v = NULL;
	struct actv_activation *a, *fresh;
	unsigned long flags;
	bool attached;
	u64 now;

	preempt_disable();
	attached = __this_cpu_read(actv_running);
	preempt_enable();
	if (attached)
		return -EBUSY;

	if (processor != ACTIVATIONS_INDEX_NONE)
		v = actv_processor_at(s, processor);
	index = array_index_nospec(index, s->activation_count);
	if (!READ_ONCE(s->activations[index])) {
		fresh = actv_new(s, index);
		if (!fresh)
			return -ENOMEM;
		actv_lock_irqsave(s, flags);
		if (!s->activations[index]) {
			/* Pairs with the plain loads under the lock. */
			s->activations[index] = fresh;
			fresh = NULL;
		}
		actv_unlock_irqrestore(s, flags);
		kfree(fresh);
	}

	actv_lock_irqsave(s, flags);
	a = s->activations[index];
	if (a->state != ACTV_UNUSED ||
	    (v && v->state != ACTIVATIONS_PROCESSOR_OFFLINE)) {
		actv_unlock_irqrestore(s, flags);
		return -EBUSY;
	}
	now = actv_now();
	a->file = get_file(file);
	a->fd = fd;
	a->registers = registers;
	a->seccomp_mode = current->seccomp.mode;
	a->seccomp_filters = atomic_read(&current->seccomp.filter_count);
	a->processor = NULL;
	a->last = NULL;
	a->token = false;
	a->ending = false;
	a->parks_again = false;
	a->parking = false;
	a->armed = false;
	a->redirected = false;
	a->no_stop = false;
	a->excess_since_ns = 0;
	a->dispatched_ns = 0;
	a->latency_ns = 0;
	a->scheduled_in = false;
	atomic_set(&a->want, 0);
	a->cpu = smp_processor_id();
	s->attached_count++;
	WRITE_ONCE(a->task, current);
	WRITE_ONCE(a->info->generation, a->info->generation + 1);
	WRITE_ONCE(a->info->tid, task_pid_vnr(current));
	WRITE_ONCE(a->info->processor, ACTIVATIONS_INDEX_NONE);
	WRITE_ONCE(a->info->predecessor, ACTIVATIONS_INDEX_NONE);
	WRITE_ONCE(a->info->events, 0);
	if (v)
		actv_grant(v, a, ACTIVATIONS_EVENT_GRANTED, NULL, now);
	else
		actv_set_state(a, ACTV_LOOSE, ACTIVATIONS_ACTIVATION_UNBLOCKED,
			       now);
	__this_cpu_write(actv_running, a);
	preempt_notifier_register(&a->notifier);
	trace_activations_attach(s->tgid, a->index, task_pid_nr(current),
				 v ? v->index : -1);
	actv_unlock_irqrestore(s, flags);
	actv_on_cpu(a);
	return 0;
}

/**
 * actv_leave - current is an activation no more
 * @a: current's
 *
 * Context: process, perhaps with preemption off (tracepoints).
 */
void actv_leave(struct actv_activation *a)
{
	struct actv_activation *to = NULL;
	struct actv_space *s = a->space;
	u64 now = actv_now();
	unsigned long flags;
	struct file *file;

	local_irq_save(flags);
	actv_disarm(a);
	actv_slice_pause(a);
	__this_cpu_write(actv_running, NULL);
	preempt_notifier_unregister(&a->notifier);
	actv_lock(s);
	actv_excess_end(a, now);
	actv_latency_end(a);
	if (a->state == ACTV_SPARE || a->state == ACTV_STOPPED)
		actv_list_out(a);
	s->attached_count--;
	if (a->processor)
		to = actv_give_up(a->processor, now);
	a->processor = NULL;
	if (!s->attached_count)
		actv_forget_orphans(s);
	file = a->file;
	a->file = NULL;
	WRITE_ONCE(a->task, NULL);
	WRITE_ONCE(a->info->tid, 0);
	WRITE_ONCE(a->info->processor, ACTIVATIONS_INDEX_NONE);
	WRITE_ONCE(s->registers[a->index].bytes, 0);
	actv_set_state(a, ACTV_UNUSED, ACTIVATIONS_ACTIVATION_UNUSED, now);
	trace_activations_detach(s->tgid, a->index, task_pid_nr(current));
	actv_unlock(s);
	/* From here on the slot may be another thread's. */
	if (to)
		irq_work_queue(&to->wake_work);
	local_irq_restore(flags);
	/* Perhaps the last reference to the space: nothing of it from here. */
	fput(file);
}

/* What EVENT_EXIT does to who parks.  Context: space->lock. */
static bool actv_ends(struct actv_activation *a)
{
	if (!a->ending)
		return false;
	a->ending = false;
	WRITE_ONCE(a->info->predecessor, ACTIVATIONS_INDEX_NONE);
	smp_store_release(&a->info->events, ACTIVATIONS_EVENT_EXIT);
	return true;
}

/* The sleep of PARK, SWITCH_TO and RELEASE. */
static long actv_sleep_idle(struct actv_activation *a,
			    struct actv_activation *to)
{
	struct actv_space *s = a->space;
	u64 now;
	long result = 0;
	unsigned long flags;

	if (actv_sleep(a, to)) {
		actv_after_sleep(a);
		return 0;
	}
	now = actv_now();
	actv_lock_irqsave(s, flags);
	if (a->token) {
		a->token = false;
	} else {
		/* The handler runs, then the call is made again. */
		result = -ERESTARTNOINTR;
		if (a->state == ACTV_IDLER) {
			actv_set_state(a, ACTV_OWNER,
				       ACTIVATIONS_ACTIVATION_RUNNING, now);
			actv_end_idle(a->processor, now);
		} else {
			actv_list_out(a);
			actv_set_state(a, ACTV_LOOSE,
				       ACTIVATIONS_ACTIVATION_UNBLOCKED, now);
			a->parks_again = true;
		}
	}
	actv_unlock_irqrestore(s, flags);
	actv_on_cpu(a);
	return result;
}

/**
 * actv_park - PARK
 * @a: current's
 *
 * Return: 0 when dispatched, -EBUSY if it owns a processor; a signal restarts
 * the call after its handler.
 */
long actv_park(struct actv_activation *a)
{
	struct actv_space *s = a->space;
	struct actv_activation *keeper;
	struct actv_processor *v;
	long result = 1;
	unsigned long flags;
	u64 now;

	actv_lock_irqsave(s, flags);
	now = actv_now();
	if (a->state == ACTV_OWNER) {
		actv_unlock_irqrestore(s, flags);
		return -EBUSY;
	}
	a->parks_again = false;
	actv_excess_end(a, now);
	atomic_set(&a->want, 0);
	if (actv_ends(a)) {
		actv_set_state(a, ACTV_LOOSE, ACTIVATIONS_ACTIVATION_UNBLOCKED,
			       now);
		result = 0;
	} else {
		v = actv_find_unserved(s);
		if (v) {
			keeper = v->owner;
			actv_grant(v, a, ACTIVATIONS_EVENT_GRANTED |
				   (keeper ? ACTIVATIONS_EVENT_BLOCKED : 0),
				   keeper, now);
			if (keeper)
				actv_lose_kept(keeper, v, now);
			result = 0;
		} else {
			actv_spare_in(a, now);
		}
	}
	actv_unlock_irqrestore(s, flags);
	if (!result) {
		actv_on_cpu(a);
		return 0;
	}
	return actv_sleep_idle(a, NULL);
}

/**
 * actv_switch_to - SWITCH_TO
 * @a: current's
 * @index: whom to
 *
 * Return: 0 when dispatched again; -EAGAIN: @index is not stopped; -EPERM: the
 * caller owns no processor.  A signal that comes after the switch restarts the
 * call after its handler, and it goes on to park.
 */
long actv_switch_to(struct actv_activation *a, u32 index)
{
	struct actv_space *s = a->space;
	struct actv_activation *to;
	struct actv_processor *v;
	unsigned long flags;
	bool ends;
	u64 now;

	if (a->parks_again)
		return actv_park(a);
	actv_lock_irqsave(s, flags);
	now = actv_now();
	if (a->state != ACTV_OWNER) {
		actv_unlock_irqrestore(s, flags);
		return -EPERM;
	}
	to = s->activations[array_index_nospec(index, s->activation_count)];
	if (!to || to->state != ACTV_STOPPED) {
		actv_count(s, ACTV_stale_switches);
		actv_unlock_irqrestore(s, flags);
		return -EAGAIN;
	}
	v = a->processor;
	actv_slice_pause(a);
	actv_dispatch(v, to, ACTIVATIONS_EVENT_GRANTED, a, now);
	actv_count(s, ACTV_switches);
	a->processor = NULL;
	ends = actv_ends(a);
	if (ends)
		actv_set_state(a, ACTV_LOOSE, ACTIVATIONS_ACTIVATION_UNBLOCKED,
			       now);
	else
		actv_spare_in(a, now);
	actv_unlock_irqrestore(s, flags);
	if (!ends)
		return actv_sleep_idle(a, to);
	actv_wake(to);
	return 0;
}

/**
 * actv_release - RELEASE
 * @a: current's
 * @deadline_ns: ACTV_NEVER, or when it wants to be dispatched
 *
 * Return: 0 when dispatched or told to end; -EAGAIN: there is work; -EPERM:
 * the caller owns no processor.  A signal restarts the call after its handler;
 * if the processor was claimed meanwhile, it goes on to park.
 */
long actv_release(struct actv_activation *a, u64 deadline_ns)
{
	struct actv_space *s = a->space;
	struct actv_processor *v;
	long result = 1;
	unsigned long flags;
	u64 now;

	if (a->parks_again)
		return actv_park(a);
	actv_lock_irqsave(s, flags);
	now = actv_now();
	if (a->state != ACTV_OWNER) {
		result = -EPERM;
	} else if (s->stopped_count) {
		result = -EAGAIN;
	} else if (actv_ends(a)) {
		result = 0;
	} else {
		v = a->processor;
		actv_slice_pause(a);
		actv_set_state(a, ACTV_IDLER, ACTIVATIONS_ACTIVATION_PARKED,
			       now);
		actv_go_idle(v, now);
		if (actv_work_waiting(s)) {
			actv_set_state(a, ACTV_OWNER,
				       ACTIVATIONS_ACTIVATION_RUNNING, now);
			actv_end_idle(v, now);
			result = -EAGAIN;
		} else {
			actv_count(s, ACTV_idles);
			v->deadline_ns = deadline_ns;
			actv_timer_lower(s, deadline_ns);
			trace_activations_idle(s->tgid, v->index, a->index);
		}
	}
	actv_unlock_irqrestore(s, flags);
	if (result <= 0) {
		actv_on_cpu(a);
		return result;
	}
	return actv_sleep_idle(a, NULL);
}

/**
 * actv_stop - STOP
 * @a: current's
 *
 * Return: 0 when switched to, or at once if a processor is idle; -EAGAIN:
 * nobody to take over.  A signal restarts the call after its handler.
 */
long actv_stop(struct actv_activation *a)
{
	struct actv_space *s = a->space;
	struct actv_activation *to = NULL;
	struct actv_processor *v;
	bool stopped = false;
	long result = 0;
	unsigned long flags;
	u64 now;

	actv_lock_irqsave(s, flags);
	now = actv_now();
	if (a->state == ACTV_OWNER) {
		v = a->processor;
		actv_slice_pause(a);
		to = actv_hand_over(v, ACTIVATIONS_EVENT_PREEMPTED, now);
		if (!to) {
			actv_unlock_irqrestore(s, flags);
			actv_on_cpu(a);
			return -EAGAIN;
		}
		a->processor = NULL;
	}
	a->parks_again = false;
	atomic_set(&a->want, 0);
	actv_excess_end(a, now);
	if (!actv_claim_idle(a, now)) {
		actv_stopped_in(a, ACTIVATIONS_ACTIVATION_PREEMPTED, now);
		actv_count(s, ACTV_stop_calls);
		stopped = true;
	}
	actv_unlock_irqrestore(s, flags);
	if (to && !stopped)
		actv_wake(to);
	if (stopped && !actv_sleep(a, to)) {
		actv_lock_irqsave(s, flags);
		if (a->token) {
			a->token = false;
		} else {
			actv_list_out(a);
			actv_set_state(a, ACTV_LOOSE,
				       ACTIVATIONS_ACTIVATION_UNBLOCKED,
				       actv_now());
			a->excess_since_ns = actv_now();
			actv_count(s, ACTV_interrupted_stops);
			result = -ERESTARTNOINTR;
		}
		actv_unlock_irqrestore(s, flags);
	}
	if (stopped)
		actv_after_sleep(a);
	else
		actv_on_cpu(a);
	return result;
}

/**
 * actv_end - END
 * @s: the space
 * @index: whom, or ~0 for any spare
 *
 * Return: its index; -EAGAIN: no spare; -ESRCH: nobody is attached there.
 */
long actv_end(struct actv_space *s, u32 index)
{
	struct actv_activation *a, *wake = NULL;
	long result;
	unsigned long flags;
	u64 now;

	actv_lock_irqsave(s, flags);
	now = actv_now();
	if (index == ~0u) {
		/* The one that sleeps longest. */
		if (list_empty(&s->spares)) {
			result = -EAGAIN;
			goto out;
		}
		a = list_last_entry(&s->spares, struct actv_activation, link);
	} else {
		a = s->activations[array_index_nospec(index,
						      s->activation_count)];
		if (!a || a->state == ACTV_UNUSED) {
			result = -ESRCH;
			goto out;
		}
	}
	result = a->index;
	a->ending = true;
	if (a->state == ACTV_SPARE) {
		actv_list_out(a);
		actv_set_state(a, ACTV_LOOSE, ACTIVATIONS_ACTIVATION_UNBLOCKED,
			       now);
		wake = a;
	} else if (a->state == ACTV_IDLER) {
		actv_set_state(a, ACTV_OWNER, ACTIVATIONS_ACTIVATION_RUNNING,
			       now);
		actv_end_idle(a->processor, now);
		wake = a;
	}
	if (wake) {
		actv_ends(a);
		/* Pairs with the acquire in actv_sleep(). */
		smp_store_release(&a->token, true);
	}
out:
	actv_unlock_irqrestore(s, flags);
	if (wake)
		actv_wake(wake);
	return result;
}
