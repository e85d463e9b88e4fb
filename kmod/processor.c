// SPDX-License-Identifier: GPL-2.0-only
/*
 * Processors: to whom they are lent, idleness, timers.
 *
 * Nothing here sleeps, allocates or wakes.  What dispatches an activation
 * returns it, and the caller wakes it when it has dropped the lock.  One file,
 * though a long one: every change of a processor's word is here, so that the
 * argument for them can be read in one place.
 */
#include <linux/smp.h>

#include "activation.h"
#include "compat/hrtimer.h"
#include "compat/rseq.h"
#include "processor.h"
#include "trace.h"

/* Spares that may have slept on the wrong CPU before any will do. */
#define ACTV_SPARES_LOOKED_AT 8

static enum hrtimer_restart actv_recheck_due(struct hrtimer *timer);

/* Before the registers are copied, or restartable sequences would not see that
 * they were interrupted. */
static void actv_rseq_preempt(void)
{
	if (!actv_skips(ACTV_SKIP_RSEQ))
		rseq_preempt(current);
}
static void actv_kick_arrived(void *data);

void actv_processor_init(struct actv_space *s, u32 index)
{
	struct actv_processor *v = &s->processors[index];

	v->space = s;
	v->index = index;
	v->info = (void *)s->info + s->info->processor_offset +
		  index * sizeof(*v->info);
	/* The same offset; that in the control area is anybody's to change. */
	v->control = (void *)s->control + s->info->processor_offset +
		     index * sizeof(*v->control);
	BUILD_BUG_ON(sizeof(*v->info) != sizeof(*v->control));
	v->state = ACTIVATIONS_PROCESSOR_OFFLINE;
	v->deadline_ns = ACTV_NEVER;
	v->info->cpu = ~0u;
	v->info->node = ~0u;
	hrtimer_setup(&v->recheck, actv_recheck_due, CLOCK_MONOTONIC,
			   HRTIMER_MODE_REL_PINNED_HARD);
	INIT_CSD(&v->kick, actv_kick_arrived, v);
}

/* Context: no activation is left; may sleep. */
void actv_processor_destroy(struct actv_processor *v)
{
	hrtimer_cancel(&v->recheck);
}

/* The one place that changes a processor's word. */
static void actv_publish(struct actv_processor *v,
			 enum activations_processor_state state, u64 now)
{
	u64 owner = v->owner ? v->owner->index : ACTIVATIONS_INDEX_NONE;

	lockdep_assert_held(&v->space->lock);
	v->state = state;
	v->tag++;
	WRITE_ONCE(v->info->since_ns, now);
	/* Pairs with the acquire loads of schedulers: whom the word names has
	 * its info complete. */
	smp_store_release(&v->info->word,
			  state | owner << ACTIVATIONS_WORD_OWNER_SHIFT |
				  v->tag << ACTIVATIONS_WORD_TAG_SHIFT);
}

static void actv_idle_bit(struct actv_processor *v, bool idle)
{
	struct actv_space *s = v->space;
	size_t word = BIT_WORD(v->index);

	if (idle)
		__set_bit(v->index, s->idle);
	else
		__clear_bit(v->index, s->idle);
	s->idle_count += idle ? 1 : -1;
	WRITE_ONCE(s->info_idle[word], s->idle[word]);
	WRITE_ONCE(s->info->idle_count, s->idle_count);
}

/**
 * actv_go_idle - the owner stays, the processor waits for work
 * @v: a running processor; its owner's state is the caller's business
 * @now: the time
 *
 * The caller looks at work_waiting once more afterwards.  The full barrier is
 * one half of the agreement with pushers: they queue, set work_waiting, then
 * read idle_count (all seq_cst); we write idle_count, then read work_waiting.
 */
void actv_go_idle(struct actv_processor *v, u64 now)
{
	actv_publish(v, ACTIVATIONS_PROCESSOR_IDLE, now);
	actv_idle_bit(v, true);
	smp_mb();
}

/* Idle no more, the owner stays. */
void actv_end_idle(struct actv_processor *v, u64 now)
{
	actv_idle_bit(v, false);
	v->deadline_ns = ACTV_NEVER;
	v->kept_since_ns = 0;
	actv_publish(v, ACTIVATIONS_PROCESSOR_RUNNING, now);
}

/* The owner left and there was nobody to follow; it stays the space's. */
static void actv_orphan(struct actv_processor *v)
{
	struct actv_space *s = v->space;

	actv_count(s, ACTV_offline);
	if (s->attached_count) {
		v->orphan = true;
		s->orphan_count++;
	}
}

static void actv_adopt(struct actv_processor *v)
{
	if (v->orphan) {
		v->orphan = false;
		v->space->orphan_count--;
	}
}

/* Nobody is left to adopt one: the next ATTACH says who gets what. */
void actv_forget_orphans(struct actv_space *s)
{
	u32 i;

	lockdep_assert_held(&s->lock);
	for (i = 0; s->orphan_count && i < s->processor_count; i++)
		actv_adopt(&s->processors[i]);
}

static struct actv_processor *actv_find_orphan(struct actv_space *s)
{
	u32 i;

	if (!s->orphan_count)
		return NULL;
	for (i = 0; i < s->processor_count; i++)
		if (s->processors[i].orphan)
			return &s->processors[i];
	return NULL;
}

/**
 * actv_grant - lends a processor
 * @v: the processor, whose owner, if any, has been dealt with
 * @to: owns nothing, and is on no list
 * @events: that come with it, 0 if @to just goes on
 * @before: who had it, or NULL
 * @now: the time
 *
 * Context: space->lock.
 */
void actv_grant(struct actv_processor *v, struct actv_activation *to,
		u32 events, struct actv_activation *before, u64 now)
{
	lockdep_assert_held(&v->space->lock);
	if (v->state == ACTIVATIONS_PROCESSOR_IDLE)
		actv_idle_bit(v, false);
	/* A deadline that nobody will look at becomes the space's. */
	if (v->deadline_ns != ACTV_NEVER && to != v->owner)
		v->space->timer_ns = min(v->space->timer_ns, v->deadline_ns);
	v->deadline_ns = ACTV_NEVER;
	v->kept_since_ns = 0;
	v->slice_used_ns = 0;
	actv_adopt(v);
	v->owner = to;
	to->processor = v;
	to->last = v;
	/* Meant for what it ran before. */
	atomic_andnot(ACTV_WANT_PREEMPT, &to->want);
	WRITE_ONCE(to->info->processor, v->index);
	WRITE_ONCE(to->info->predecessor,
		   before ? before->index : ACTIVATIONS_INDEX_NONE);
	/* Pairs with the acquire of the activation as it starts. */
	if (events)
		smp_store_release(&to->info->events, events);
	actv_set_state(to, ACTV_OWNER, ACTIVATIONS_ACTIVATION_RUNNING, now);
	WRITE_ONCE(v->info->grants, v->info->grants + 1);
	actv_publish(v, ACTIVATIONS_PROCESSOR_RUNNING, now);
	trace_activations_grant(v->space->tgid, v->index, to->index, events,
				before ? before->index : -1);
}

/**
 * actv_dispatch - lends a processor to an activation that sleeps
 * @v: as for actv_grant()
 * @to: a spare, stopped, or the idler of @v
 * @events: that come with it
 * @before: who had it, or NULL
 * @now: the time
 *
 * Context: space->lock.  The caller wakes @to after dropping it.
 */
void actv_dispatch(struct actv_processor *v, struct actv_activation *to,
		   u32 events, struct actv_activation *before, u64 now)
{
	if (to->state == ACTV_SPARE || to->state == ACTV_STOPPED)
		actv_list_out(to);
	actv_grant(v, to, events, before, now);
	v->returners = 0;
	actv_latency_end(to);
	to->dispatched_ns = now;
	/* Pairs with the acquire in actv_sleep(). */
	smp_store_release(&to->token, true);
}

/*
 * The processor of an activation went to one that does not enter the scheduler:
 * what the former left in queues of its own is for others to find.
 */
static void actv_look_again(struct actv_space *s)
{
	WRITE_ONCE(s->control->stopped, 1);
}

/*
 * The newest spare that slept on this CPU, or else the newest: where the
 * processor becomes free the successor's caches are warm, and the scheduler has
 * no reason to put it on the CPU of another processor's owner.
 * Context: space->lock.
 */
static struct actv_activation *actv_find_spare(struct actv_space *s)
{
	int cpu = smp_processor_id(), left = ACTV_SPARES_LOOKED_AT;
	struct actv_activation *a;

	list_for_each_entry(a, &s->spares, link) {
		if (READ_ONCE(a->cpu) == cpu)
			return a;
		if (!--left)
			break;
	}
	return list_first_entry_or_null(&s->spares, struct actv_activation,
					link);
}

/**
 * actv_hand_over - finds a successor and lends it the processor
 * @v: a processor whose owner is leaving it
 * @events: for the successor
 * @now: the time
 *
 * A spare; for lack of one, the activation stopped longest, so that a stopped
 * holder of a lock that all others wait for finishes.
 *
 * Context: space->lock.
 * Return: whom the caller has to wake; NULL if nobody is there, and then
 * nothing was changed.  The former owner's state is the caller's business.
 */
struct actv_activation *actv_hand_over(struct actv_processor *v, u32 events,
				       u64 now)
{
	struct actv_space *s = v->space;
	struct actv_activation *to;

	lockdep_assert_held(&s->lock);
	to = actv_find_spare(s);
	if (!to) {
		actv_count(s, ACTV_no_spare);
		to = list_first_entry_or_null(&s->stopped,
					      struct actv_activation, link);
		if (!to)
			return NULL;
		actv_count(s, ACTV_direct_resumes);
		actv_look_again(s);
	}
	actv_dispatch(v, to, ACTIVATIONS_EVENT_GRANTED | events, v->owner, now);
	return to;
}

/**
 * actv_grant_returner - the owner blocks, and a returner goes on in its place
 * @v: the processor
 * @to: runs on this CPU next; BLOCKED
 * @now: the time
 *
 * As when a returner claims an idle processor: it has no event, and finds the
 * processor at its next look.
 * Context: space->lock.
 */
void actv_grant_returner(struct actv_processor *v, struct actv_activation *to,
			 u64 now)
{
	struct actv_space *s = v->space;
	struct actv_activation *before = v->owner;

	actv_grant(v, to, 0, before, now);
	v->returners++;
	before->processor = NULL;
	actv_set_state(before, ACTV_BLOCKED, ACTIVATIONS_ACTIVATION_BLOCKED,
		       now);
	actv_look_again(s);
	actv_count(s, ACTV_blocks);
	actv_count(s, ACTV_followed);
	WRITE_ONCE(v->info->blocks, v->info->blocks + 1);
}

/* The processor of a keeper or of one that is held is another's now. */
void actv_lose_kept(struct actv_activation *before, struct actv_processor *v,
		    u64 now)
{
	struct actv_space *s = v->space;

	actv_count(s, ACTV_blocks);
	actv_count(s, ACTV_kept_taken);
	WRITE_ONCE(v->info->blocks, v->info->blocks + 1);
	if (before->state == ACTV_HELD)
		s->held_count--;
	before->processor = NULL;
	actv_set_state(before, ACTV_BLOCKED, ACTIVATIONS_ACTIVATION_BLOCKED,
		       now);
}

/**
 * actv_take_kept - hands over a processor whose owner is blocked and keeps it
 * @v: idle, its owner a keeper
 * @events: for the successor, beside GRANTED and BLOCKED
 * @now: the time
 *
 * Context: space->lock.
 * Return: whom the caller has to wake; NULL: it is kept as before.
 */
struct actv_activation *actv_take_kept(struct actv_processor *v, u32 events,
				       u64 now)
{
	struct actv_activation *keeper = v->owner;
	struct actv_activation *to;

	to = actv_hand_over(v, ACTIVATIONS_EVENT_BLOCKED | events, now);
	if (to)
		actv_lose_kept(keeper, v, now);
	return to;
}

/*
 * One that is set already looks at kept_since_ns when it is due.  Always by
 * hrtimer_start(), also from the timer itself: another CPU may have set it
 * while it waited for the lock.
 * Context: space->lock.
 */
static void actv_recheck_start(struct actv_processor *v, u64 ns)
{
	if (!hrtimer_is_queued(&v->recheck))
		hrtimer_start(&v->recheck, ns_to_ktime(ns),
			      HRTIMER_MODE_REL_PINNED_HARD);
}

/**
 * actv_keep - the owner blocked and nothing else is known to wait
 * @v: its processor
 * @now: the time
 *
 * Context: space->lock, under the run-queue lock.  The caller looks at
 * work_waiting once more.
 */
void actv_keep(struct actv_processor *v, u64 now)
{
	actv_count(v->space, ACTV_keeps);
	actv_set_state(v->owner, ACTV_KEEPER, ACTIVATIONS_ACTIVATION_BLOCKED,
		       now);
	actv_go_idle(v, now);
	v->kept_since_ns = now;
	trace_activations_keep(v->space->tgid, v->index, v->owner->index);
	if (actv_recheck_us)
		actv_recheck_start(v, actv_recheck_us * NSEC_PER_USEC);
}

/**
 * actv_hold - the owner blocked, work waits, and there is nobody to send
 * @v: its processor, idle or not
 * @now: the time
 *
 * An ordinary block.  It is not shown as idle, or pushers would try to wake it
 * in vain; a returner or a new spare takes it.
 *
 * Context: space->lock.
 */
void actv_hold(struct actv_processor *v, u64 now)
{
	struct actv_space *s = v->space;

	if (v->state == ACTIVATIONS_PROCESSOR_IDLE)
		actv_end_idle(v, now);
	s->held_count++;
	actv_count(s, ACTV_held);
	actv_set_state(v->owner, ACTV_HELD, ACTIVATIONS_ACTIVATION_BLOCKED,
		       now);
}

/*
 * A processor has been kept for a while.  One spare looks whether there is
 * work after all that nobody announced; if not it releases the processor.
 */
static enum hrtimer_restart actv_recheck_due(struct hrtimer *timer)
{
	struct actv_processor *v =
		container_of(timer, struct actv_processor, recheck);
	struct actv_space *s = v->space;
	struct actv_activation *to = NULL;
	u64 now = actv_now(), due;
	unsigned long flags;

	actv_lock_irqsave(s, flags);
	if (v->owner && v->owner->state == ACTV_KEEPER && v->kept_since_ns) {
		due = v->kept_since_ns + actv_recheck_us * NSEC_PER_USEC;
		if (now < due) {
			actv_recheck_start(v, due - now);
		} else {
			v->kept_since_ns = 0;
			to = actv_take_kept(v, 0, now);
			if (to)
				actv_count(s, ACTV_rechecks);
		}
	}
	actv_unlock_irqrestore(s, flags);
	if (to)
		irq_work_queue(&to->wake_work);
	return HRTIMER_NORESTART;
}

static struct actv_processor *actv_find_held(struct actv_space *s)
{
	struct actv_processor *v;

	if (!s->held_count)
		return NULL;
	for (v = s->processors; v < s->processors + s->processor_count; v++)
		if (v->owner && v->owner->state == ACTV_HELD)
			return v;
	return NULL;
}

/**
 * actv_find_unserved - a processor that misses a spare
 * @s: the space
 *
 * Context: space->lock.
 * Return: one whose owner left or blocked when there was no spare, or that
 * nobody could look into when it had been kept for a while; NULL if there is none.
 */
struct actv_processor *actv_find_unserved(struct actv_space *s)
{
	bool work = actv_work_waiting(s) || s->stopped_count;
	struct actv_processor *v;
	u32 i;

	lockdep_assert_held(&s->lock);
	v = actv_find_orphan(s);
	if (v)
		return v;
	if (work) {
		v = actv_find_held(s);
		if (v)
			return v;
	}
	for_each_set_bit(i, s->idle, s->processor_count) {
		v = &s->processors[i];
		if (v->owner->state == ACTV_KEEPER &&
		    (work || !v->kept_since_ns))
			return v;
	}
	return NULL;
}

/* One that work waits for, else its last, else one whose owner sleeps here, else
 * any idle one. */
static struct actv_processor *actv_find_idle(struct actv_activation *a)
{
	struct actv_space *s = a->space;
	struct actv_processor *kept = NULL;
	u32 i;

	if (s->orphan_count)
		return actv_find_orphan(s);
	if (s->held_count)
		return actv_find_held(s);
	if (!s->idle_count)
		return NULL;
	if (a->last && a->last->state == ACTIVATIONS_PROCESSOR_IDLE)
		return a->last;
	for_each_set_bit(i, s->idle, s->processor_count) {
		if (s->processors[i].owner->state == ACTV_IDLER)
			return &s->processors[i];
		kept = &s->processors[i];
	}
	return kept;
}

/**
 * actv_claim_idle - lends an idle processor to who has none and runs
 * @a: the current activation
 * @now: the time
 *
 * Its idler just stays asleep, now as a spare; its keeper is blocked.
 *
 * Context: space->lock.
 * Return: whether there was one.
 */
bool actv_claim_idle(struct actv_activation *a, u64 now)
{
	struct actv_processor *v = actv_find_idle(a);
	struct actv_activation *before;

	if (!v)
		return false;
	before = v->owner;
	actv_grant(v, a, 0, before, now);
	if (!before) {
		actv_look_again(a->space);
	} else if (before->state == ACTV_IDLER) {
		before->processor = NULL;
		actv_spare_in(before, now);
	} else {
		actv_lose_kept(before, v, now);
		actv_look_again(a->space);
	}
	actv_count(a->space, ACTV_claims);
	return true;
}

/**
 * actv_give_up - the owner detaches: somebody else's turn, or nobody's
 * @v: the processor
 * @now: the time
 *
 * Context: space->lock.
 * Return: whom the caller has to wake, or NULL.
 */
struct actv_activation *actv_give_up(struct actv_processor *v, u64 now)
{
	struct actv_space *s = v->space;
	struct actv_activation *to;

	to = list_first_entry_or_null(&s->stopped, struct actv_activation,
				      link);
	if (to)
		actv_look_again(s);
	if (to)
		actv_dispatch(v, to, ACTIVATIONS_EVENT_GRANTED, v->owner, now);
	else
		to = actv_hand_over(v, 0, now);
	if (!to) {
		if (v->state == ACTIVATIONS_PROCESSOR_IDLE)
			actv_end_idle(v, now);
		v->owner = NULL;
		actv_publish(v, ACTIVATIONS_PROCESSOR_OFFLINE, now);
		actv_orphan(v);
	}
	return to;
}

/**
 * actv_wake_processor - WAKE: there is work for an idle processor
 * @v: the processor
 *
 * Return: 1; 0 if it was not idle, or is kept and there is nobody to send.
 */
long actv_wake_processor(struct actv_processor *v)
{
	struct actv_space *s = v->space;
	struct actv_activation *to = NULL;
	u64 now = actv_now();
	unsigned long flags;

	actv_lock_irqsave(s, flags);
	if (v->state == ACTIVATIONS_PROCESSOR_IDLE) {
		if (v->owner->state == ACTV_IDLER) {
			to = v->owner;
			actv_dispatch(v, to, ACTIVATIONS_EVENT_GRANTED, NULL,
				      now);
		} else {
			to = actv_take_kept(v, 0, now);
			if (!to)
				actv_hold(v, now);
		}
		if (to)
			actv_count(s, ACTV_wakes);
	}
	actv_unlock_irqrestore(s, flags);
	if (to)
		actv_wake(to);
	return to ? 1 : 0;
}

/* Sets the timer for the earliest of all deadlines.  Context: space->lock. */
static void actv_timer_set(struct actv_space *s, u64 at)
{
	lockdep_assert_held(&s->lock);
	if (at >= s->timer_armed_ns)
		return;
	s->timer_armed_ns = at;
	if (at < KTIME_MAX)
		hrtimer_start(&s->timer, ns_to_ktime(at),
			      HRTIMER_MODE_ABS_PINNED_HARD);
}

/* Context: space->lock. */
void actv_timer_lower(struct actv_space *s, u64 deadline_ns)
{
	actv_timer_set(s, deadline_ns);
}

/* TIMER: an idle processor is wanted at this time. */
void actv_timer(struct actv_space *s, u64 deadline_ns)
{
	unsigned long flags;

	actv_lock_irqsave(s, flags);
	s->timer_ns = min(s->timer_ns, deadline_ns);
	actv_timer_set(s, s->timer_ns);
	actv_unlock_irqrestore(s, flags);
}

/* One idler for the space's timer, and every idler whose own time has come. */
enum hrtimer_restart actv_timer_due(struct hrtimer *timer)
{
	struct actv_space *s = container_of(timer, struct actv_space, timer);
	/* Not actv_now(), which may be a trifle behind the timer's clock. */
	u64 now = ktime_get_ns(), next = ACTV_NEVER;
	struct actv_processor *v, *kept = NULL;
	struct actv_activation *to;
	unsigned long flags;
	bool wanted;
	u32 i;

	actv_lock_irqsave(s, flags);
	wanted = s->timer_ns <= now;
	if (wanted)
		s->timer_ns = ACTV_NEVER;
	for_each_set_bit(i, s->idle, s->processor_count) {
		v = &s->processors[i];
		if (v->owner->state != ACTV_IDLER) {
			kept = v;
		} else if (v->deadline_ns <= now) {
			to = v->owner;
			actv_dispatch(v, to,
				      ACTIVATIONS_EVENT_GRANTED |
					      ACTIVATIONS_EVENT_TIMER,
				      NULL, now);
			actv_count(s, ACTV_timers);
			irq_work_queue(&to->wake_work);
			wanted = false;
		}
	}
	if (wanted) {
		actv_count(s, ACTV_timers);
		to = NULL;
		for_each_set_bit(i, s->idle, s->processor_count) {
			v = &s->processors[i];
			if (v->owner->state != ACTV_IDLER)
				continue;
			to = v->owner;
			actv_dispatch(v, to,
				      ACTIVATIONS_EVENT_GRANTED |
					      ACTIVATIONS_EVENT_TIMER,
				      NULL, now);
			break;
		}
		if (!to && kept)
			to = actv_take_kept(kept, ACTIVATIONS_EVENT_TIMER, now);
		if (to) {
			irq_work_queue(&to->wake_work);
		} else {
			/* Whoever blocks next, or looks for work, finds it. */
			WRITE_ONCE(s->control->work_waiting, 1);
			actv_count(s, ACTV_timer_unserved);
		}
	}
	for_each_set_bit(i, s->idle, s->processor_count)
		next = min(next, s->processors[i].deadline_ns);
	s->timer_armed_ns = ACTV_NEVER;
	actv_timer_set(s, min(next, s->timer_ns));
	actv_unlock_irqrestore(s, flags);
	return HRTIMER_NORESTART;
}

/*
 * A slice ended, on the CPU where its activation runs.  With nothing waiting
 * there is no reason to stop; nor has a user thread used up its slice if it was
 * dispatched since the last tick.
 */
enum hrtimer_restart actv_slice_due(struct hrtimer *timer)
{
	struct actv_activation *a =
		container_of(timer, struct actv_activation, slice_timer);
	struct actv_space *s = a->space;
	struct actv_processor *v;
	u64 slice, dispatches;
	unsigned long flags;

	if (__this_cpu_read(actv_running) != a)
		return HRTIMER_NORESTART;

	actv_lock_irqsave(s, flags);
	v = a->state == ACTV_OWNER ? a->processor : NULL;
	slice = v ? READ_ONCE(v->control->slice_ns) : 0;
	if (!slice) {
		actv_unlock_irqrestore(s, flags);
		return HRTIMER_NORESTART;
	}
	dispatches = READ_ONCE(v->control->dispatches);
	if (dispatches == v->dispatches &&
	    (s->stopped_count || actv_work_waiting(s))) {
		actv_count(s, ACTV_slices);
		atomic_or(ACTV_WANT_SLICE, &a->want);
		actv_rseq_preempt();
		actv_arm(a);
	}
	v->dispatches = dispatches;
	v->slice_used_ns = 0;
	a->slice_since_ns = actv_now();
	actv_unlock_irqrestore(s, flags);
	/* Set already?  Then on another CPU: this one went offline. */
	if (hrtimer_is_queued(timer))
		return HRTIMER_NORESTART;
	/* A whole slice from now on: on a slow machine the interrupt itself may
	 * take as long as the shortest one. */
	slice = clamp(slice, ACTV_SLICE_MIN_NS, ACTV_SLICE_MAX_NS);
	hrtimer_set_expires(timer, ktime_add_ns(ktime_get(), slice));
	return HRTIMER_RESTART;
}

/*
 * Context: the caller holds a reference to the space, or is a kick in flight.
 *
 * The call data of a processor is one, and its users have to take turns.  Who
 * finds it in use may go: the kick that is on its way looks after it has said
 * that it arrived.  What it shall see was stored before the atomic_xchg.
 */
static void actv_interrupt(struct actv_processor *v, int cpu)
{
	struct actv_space *s = v->space;

	if (atomic_xchg(&v->kick_under_way, 1))
		return;
	atomic_inc(&s->kicks_in_flight);
	if (smp_call_function_single_async(cpu, &v->kick)) {
		/* The CPU went offline; sched_in sees the wish elsewhere. */
		atomic_set(&v->kick_under_way, 0);
		atomic_dec(&s->kicks_in_flight);
	}
}

/* On the CPU where the owner of a kicked processor was seen last. */
static void actv_kick_arrived(void *data)
{
	struct actv_processor *v = data;
	struct actv_space *s = v->space;
	struct actv_activation *a = __this_cpu_read(actv_running);
	int cpu = -1;

	/* The call data is free from here on.  Pairs with the atomic_xchg in
	 * actv_interrupt(). */
	atomic_set(&v->kick_under_way, 0);
	smp_mb();
	if (a && a->space == s) {
		if (atomic_read(&a->want) & ACTV_WANT_PREEMPT) {
			actv_rseq_preempt();
			actv_arm(a);
		}
		/* SLICE may have changed its slice. */
		actv_slice_pause(a);
		actv_slice_start(a, actv_now());
	}

	/* The owner may have gone elsewhere, and been kicked there while this
	 * one was on its way; if it is not running, sched_in sees its wish. */
	actv_lock(s);
	if (v->owner && v->owner != a && v->owner->state == ACTV_OWNER &&
	    (atomic_read(&v->owner->want) & ACTV_WANT_KICK))
		cpu = READ_ONCE(v->owner->cpu);
	actv_unlock(s);
	if (cpu >= 0 && cpu != smp_processor_id())
		actv_interrupt(v, cpu);

	/* The last touch of the space: its end waits for this. */
	smp_mb__before_atomic();
	atomic_dec(&s->kicks_in_flight);
}

/**
 * actv_kick - KICK: what runs on the processor shall stop
 * @v: the processor
 *
 * Return: 1; 0 if nothing runs there.
 */
long actv_kick(struct actv_processor *v)
{
	struct actv_space *s = v->space;
	struct actv_activation *a;
	unsigned long flags;
	int cpu = -1;

	actv_lock_irqsave(s, flags);
	a = v->owner;
	if (a && a->state == ACTV_OWNER) {
		actv_count(s, ACTV_kicks);
		atomic_or(ACTV_WANT_KICK, &a->want);
		/* Pairs with the barrier in sched_in: it sees the wish, or we
		 * see the CPU. */
		smp_mb__after_atomic();
		cpu = READ_ONCE(a->cpu);
	}
	actv_unlock_irqrestore(s, flags);
	if (cpu < 0)
		return 0;
	actv_interrupt(v, cpu);
	return 1;
}

/* SLICE: also for the activation that runs there now. */
void actv_slice(struct actv_processor *v, u64 ns)
{
	struct actv_space *s = v->space;
	unsigned long flags;
	int cpu = -1;

	WRITE_ONCE(v->control->slice_ns, ns);
	actv_lock_irqsave(s, flags);
	if (v->owner && v->owner->state == ACTV_OWNER)
		cpu = READ_ONCE(v->owner->cpu);
	actv_unlock_irqrestore(s, flags);
	if (cpu >= 0)
		actv_interrupt(v, cpu);
}

/* REQUEST: all processors stay lent; sharing between spaces may change that. */
long actv_request(struct actv_space *s, u32 wanted)
{
	return min(wanted, s->processor_count);
}
