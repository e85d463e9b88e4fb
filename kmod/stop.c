// SPDX-License-Identifier: GPL-2.0-only
/*
 * Stopping a thread at its user boundary, and letting it go on.
 *
 * 1. Something is wanted of it (actv_activation.want); its user-return notifier
 *    is armed, on its CPU.  That fires with interrupts off, after signals and
 *    system call restart: the registers are what user code will see.
 * 2. It decides (actv_decide).  To stop the thread it saves the registers,
 *    blocks all signals but SIGKILL, and sends the thread to the process's park
 *    stub, a bare `syscall` that asks llseek of the device.  It cannot sleep
 *    here: the exit path has cached its work already.
 * 3. llseek (actv_llseek) restores the signal mask, hands over the processor,
 *    sleeps until the thread is switched to, and puts every register back.
 *    Its result is 64 bits wide, so rax is restored as well.
 *
 * Why signals are blocked between 2 and 3: one that arrives there would be
 * delivered on top of the stub; its handler would see the stub's address, and
 * a stop in the handler would overwrite what is saved.
 *
 * A signal that interrupts the sleep gets the thread as it was: llseek returns,
 * the handler's frame is set up over the real registers, and the notifier, armed
 * again, stops the thread at the handler's first instruction.
 *
 * If the stub's call does not reach us (descriptor closed, seccomp), what follows
 * it in the stub restores the thread in user mode, from the copy in the info
 * area.  The notifier, which stays armed until llseek, sees that; such a thread is
 * not stopped again.
 */
#include <linux/sched/signal.h>
#include <linux/signal.h>
#include <linux/thread_info.h>
#include <asm/fsgsbase.h>
#include <asm/unistd.h>

#include "activation.h"
#include "processor.h"
#include "trace.h"

enum actv_decision {
	ACTV_GO_ON,
	ACTV_STOP_RETURNED,	/* back from a block, no processor */
	ACTV_STOP_PREEMPTED,	/* owns one, and somebody waits for it */
};

static void actv_save(struct actv_registers *to, const struct pt_regs *regs)
{
	to->r15 = regs->r15;
	to->r14 = regs->r14;
	to->r13 = regs->r13;
	to->r12 = regs->r12;
	to->bp = regs->bp;
	to->bx = regs->bx;
	to->r11 = regs->r11;
	to->r10 = regs->r10;
	to->r9 = regs->r9;
	to->r8 = regs->r8;
	to->ax = regs->ax;
	to->cx = regs->cx;
	to->dx = regs->dx;
	to->si = regs->si;
	to->di = regs->di;
	to->ip = regs->ip;
	to->flags = regs->flags;
	to->sp = regs->sp;
}

static void actv_restore(struct pt_regs *regs, const struct actv_registers *from)
{
	regs->r15 = from->r15;
	regs->r14 = from->r14;
	regs->r13 = from->r13;
	regs->r12 = from->r12;
	regs->bp = from->bp;
	regs->bx = from->bx;
	regs->r11 = from->r11;
	regs->r10 = from->r10;
	regs->r9 = from->r9;
	regs->r8 = from->r8;
	regs->ax = from->ax;
	regs->cx = from->cx;
	regs->dx = from->dx;
	regs->si = from->si;
	regs->di = from->di;
	regs->ip = from->ip;
	regs->flags = from->flags;
	regs->sp = from->sp;
	/* No system call is under way: rax is never a restart code. */
	regs->orig_ax = -1;
}

/* The copy for debuggers and for the stub's tail: struct user_regs_struct. */
static void actv_show_registers(struct actv_activation *a,
				const struct pt_regs *regs)
{
	struct activations_registers *slot = &a->space->registers[a->index];
	const struct actv_registers *from = &a->saved;
	u64 *to = slot->values;

	slot->signal_mask = a->saved_mask.sig[0];
	*to++ = from->r15;
	*to++ = from->r14;
	*to++ = from->r13;
	*to++ = from->r12;
	*to++ = from->bp;
	*to++ = from->bx;
	*to++ = from->r11;
	*to++ = from->r10;
	*to++ = from->r9;
	*to++ = from->r8;
	*to++ = from->ax;
	*to++ = from->cx;
	*to++ = from->dx;
	*to++ = from->si;
	*to++ = from->di;
	*to++ = (u64)-1; /* orig_rax */
	*to++ = from->ip;
	*to++ = __USER_CS;
	*to++ = from->flags;
	*to++ = from->sp;
	*to++ = __USER_DS;
	*to++ = boot_cpu_has(X86_FEATURE_FSGSBASE) ? rdfsbase() :
						     current->thread.fsbase;
	*to++ = current->thread.gsbase;
	*to++ = 0; /* ds, es, fs, gs: without meaning in 64-bit code */
	*to++ = 0;
	*to++ = 0;
	*to++ = 0;
	smp_store_release(&slot->bytes, (to - slot->values) * sizeof(*to));
}

/* A running thread's own sighand stays; only others must look it up by RCU. */
static spinlock_t *actv_siglock(void)
{
	return &rcu_dereference_protected(current->sighand, true)->siglock;
}

/*
 * From the stop to llseek nothing but SIGKILL may be delivered.  SIGSTOP is held
 * back too, so that a debugger that attaches there sees the real registers; job
 * control's stop of a whole process is no signal to this thread, and works.
 * Context: interrupts off, space->lock not held (see main.c).
 */
static void actv_mask_signals(struct actv_activation *a)
{
	spin_lock(actv_siglock());
	a->saved_mask = current->blocked;
	sigfillset(&current->blocked);
	sigdelset(&current->blocked, SIGKILL);
	if (actv_skips(ACTV_SKIP_MASK))
		current->blocked = a->saved_mask;
	spin_unlock(actv_siglock());
}

/* Context: likewise. */
static void actv_unmask_signals(struct actv_activation *a)
{
	spin_lock(actv_siglock());
	current->blocked = a->saved_mask;
	recalc_sigpending();
	spin_unlock(actv_siglock());
}

/* Sends the thread to the park stub instead of to where it was. */
static void actv_redirect(struct actv_activation *a, struct pt_regs *regs)
{
	struct actv_space *s = a->space;

	actv_save(&a->saved, regs);
	actv_mask_signals(a);
	actv_show_registers(a, regs);
	regs->ip = s->park_stub;
	regs->ax = __NR_lseek;
	regs->di = a->fd;
	regs->si = a->registers;
	/* On another file than ours, this moves nothing. */
	regs->dx = SEEK_HOLE;
	regs->orig_ax = -1;
	regs->flags &= ~X86_EFLAGS_RF;
	/* What `syscall` leaves there: the exit may use sysret. */
	regs->cx = regs->ip;
	regs->r11 = regs->flags;
	a->redirected = true;
}

/* At the stub and not yet called?  After the call, rax is its result. */
static bool actv_at_stub(struct actv_activation *a, const struct pt_regs *regs)
{
	return regs->ip - a->space->park_stub < a->space->park_stub_bytes &&
	       regs->ax == __NR_lseek && (long)regs->orig_ax == -1;
}

/**
 * actv_unstoppable - why this thread must not be stopped where it is
 * @a: current's
 * @regs: its user registers
 *
 * Context: space->lock.
 * Return: the counter that has just been raised, or -1: it may be stopped.
 */
static int actv_unstoppable(struct actv_activation *a,
			    const struct pt_regs *regs)
{
	struct actv_space *s = a->space;
	int why = -1;

	if (!s->park_stub_bytes || a->no_stop)
		why = ACTV_unstoppable_no_stub;
	else if (regs->cs != __USER_CS)
		why = ACTV_unstoppable_32bit;
	else if ((regs->flags & X86_EFLAGS_TF) ||
		 test_thread_flag(TIF_SINGLESTEP))
		why = ACTV_unstoppable_single_step;
	else if (test_syscall_work(SYSCALL_USER_DISPATCH))
		why = ACTV_unstoppable_dispatch;
	else if (current->seccomp.mode != a->seccomp_mode ||
		 atomic_read(&current->seccomp.filter_count) !=
			 a->seccomp_filters)
		why = ACTV_unstoppable_seccomp;
	if (why >= 0)
		actv_count(s, why);
	return why;
}

/* It is in a critical part of its runtime: it will ask when it leaves that.
 * Returns true if so.  Context: space->lock. */
static bool actv_disabled(struct actv_activation *a)
{
	if (!READ_ONCE(a->control->disabled))
		return false;
	WRITE_ONCE(a->control->pending, 1);
	return true;
}

static enum actv_decision actv_decide(struct actv_activation *a, int want,
				      const struct pt_regs *regs)
{
	struct actv_space *s = a->space;
	u64 now = actv_now();
	atomic_t *pending;

	lockdep_assert_held(&s->lock);
	switch (a->state) {
	case ACTV_BLOCKED:
		if (actv_claim_idle(a, now)) {
			actv_excess_end(a, now);
			return ACTV_GO_ON;
		}
		/* Those that stay without one are asked again whenever they
		 * come back to a CPU: sched_in sees the state. */
		if (actv_disabled(a)) {
			actv_count(s, ACTV_return_disabled);
		} else if (actv_unstoppable(a, regs) < 0) {
			return ACTV_STOP_RETURNED;
		} else if (a->no_stop) {
			actv_excess_end(a, now);
			actv_set_state(a, ACTV_LOOSE,
				       ACTIVATIONS_ACTIVATION_UNBLOCKED, now);
			return ACTV_GO_ON;
		}
		actv_set_state(a, ACTV_BLOCKED,
			       ACTIVATIONS_ACTIVATION_UNBLOCKED, now);
		return ACTV_GO_ON;
	case ACTV_OWNER:
		if (!(want & ACTV_WANT_PREEMPT))
			return ACTV_GO_ON;
		if (actv_disabled(a)) {
			pending = (atomic_t *)&a->processor->control->pending;
			atomic_or(ACTIVATIONS_EVENT_TIMER, pending);
			actv_count(s, ACTV_preempt_disabled);
		} else if (!s->stopped_count && !actv_work_waiting(s)) {
			actv_count(s, ACTV_preempt_needless);
		} else if (!s->stopped_count && !s->spare_count) {
			actv_count(s, ACTV_preempt_nobody);
		} else if (actv_unstoppable(a, regs) < 0) {
			return ACTV_STOP_PREEMPTED;
		} else if (!a->no_stop) {
			/* The wish stays; sched_in arms for it again. */
			atomic_or(want & ACTV_WANT_PREEMPT, &a->want);
		}
		return ACTV_GO_ON;
	default:
		return ACTV_GO_ON;
	}
}

/*
 * The stub's call came back without having been here.  What follows it in the
 * stub restores mask and registers, from the copy in the info area.
 */
static void actv_stub_returned(struct actv_activation *a)
{
	struct actv_space *s = a->space;

	a->redirected = false;
	a->no_stop = true;
	actv_lock(s);
	actv_count(s, ACTV_stub_returned);
	if (a->state == ACTV_BLOCKED) {
		actv_excess_end(a, actv_now());
		actv_set_state(a, ACTV_LOOSE, ACTIVATIONS_ACTIVATION_UNBLOCKED,
			       actv_now());
	}
	trace_activations_stub_returned(s->tgid, a->index);
	actv_unlock(s);
}

/* Context: on the way to user mode, interrupts off. */
void actv_user_return(struct user_return_notifier *urn)
{
	struct actv_activation *a =
		container_of(urn, struct actv_activation, returner);
	struct pt_regs *regs = current_pt_regs();
	struct actv_space *s = a->space;
	enum actv_decision decision;
	unsigned long flags;
	int want;

	local_irq_save(flags);
	/* The list is the CPU's, not the thread's. */
	if (WARN_ON_ONCE(READ_ONCE(a->task) != current))
		goto out;
	if (a->redirected) {
		/* Stays armed until llseek. */
		if (actv_at_stub(a, regs))
			goto out;
		actv_disarm(a);
		if (current->mm == s->mm)
			actv_stub_returned(a);
		goto out;
	}
	want = atomic_xchg(&a->want, 0);
	if (current->mm != s->mm) {
		actv_disarm(a);
		goto out;
	}
	actv_lock(s);
	decision = actv_decide(a, want, regs);
	if (decision != ACTV_GO_ON)
		trace_activations_stop(s->tgid, a->index,
				       decision == ACTV_STOP_PREEMPTED, want);
	actv_unlock(s);
	if (decision == ACTV_GO_ON) {
		actv_disarm(a);
		actv_slice_start(a, actv_now());
	} else {
		actv_redirect(a, regs);
	}
out:
	local_irq_restore(flags);
}

/**
 * actv_llseek - where stopped activations sleep; called from the park stub only
 * @file: the device
 * @offset: what the module put there; not looked at
 * @whence: likewise
 *
 * Return: the thread's own rax; -ESPIPE for any other caller.
 */
loff_t actv_llseek(struct file *file, loff_t offset, int whence)
{
	/* Pairs with the release in OPEN. */
	struct actv_space *s = smp_load_acquire(&file->private_data);
	struct actv_activation *a = s ? actv_current(s) : NULL;
	struct pt_regs *regs = current_pt_regs();
	struct actv_activation *to = NULL;
	struct actv_processor *v;
	bool stopped = false, interrupted = false;
	unsigned long flags;
	u64 now;

	if (!a || !a->redirected ||
	    regs->ip - s->park_stub > s->park_stub_bytes)
		return -ESPIPE;

	local_irq_save(flags);
	a->redirected = false;
	actv_disarm(a);
	actv_unmask_signals(a);
	actv_lock(s);
	now = actv_now();
	atomic_set(&a->want, 0);
	if (a->state == ACTV_OWNER) {
		v = a->processor;
		actv_slice_pause(a);
		to = actv_hand_over(v, ACTIVATIONS_EVENT_PREEMPTED |
				    ACTIVATIONS_EVENT_TIMER, now);
		if (to) {
			actv_count(s, ACTV_preemptions);
			WRITE_ONCE(v->info->preemptions,
				   v->info->preemptions + 1);
			a->processor = NULL;
			stopped = !actv_claim_idle(a, now);
			if (stopped)
				actv_stopped_in(a,
					ACTIVATIONS_ACTIVATION_PREEMPTED, now);
		} else {
			actv_count(s, ACTV_preempt_nobody);
		}
	} else if (!actv_claim_idle(a, now)) {
		actv_count(s, ACTV_unblocks);
		if (a->last)
			WRITE_ONCE(a->last->info->unblocks,
				   a->last->info->unblocks + 1);
		actv_stopped_in(a, ACTIVATIONS_ACTIVATION_UNBLOCKED, now);
		stopped = true;
	}
	if (stopped)
		actv_count(s, ACTV_stops);
	actv_excess_end(a, now);
	actv_unlock_irqrestore(s, flags);
	if (to && !stopped)
		actv_wake(to);

	if (stopped && !actv_sleep(a, to)) {
		actv_lock_irqsave(s, flags);
		if (a->token) {
			a->token = false;
		} else {
			/* Signals are seen to with the real registers; at the
			 * next user boundary the thread is asked again. */
			now = actv_now();
			actv_list_out(a);
			actv_set_state(a, ACTV_BLOCKED,
				       ACTIVATIONS_ACTIVATION_UNBLOCKED, now);
			actv_count(s, ACTV_interrupted_stops);
			a->excess_since_ns = now;
			atomic_or(ACTV_WANT_RETURN, &a->want);
			interrupted = true;
		}
		actv_unlock_irqrestore(s, flags);
	}
	WRITE_ONCE(s->registers[a->index].bytes, 0);
	trace_activations_resume(s->tgid, a->index, interrupted);
	if (stopped)
		actv_after_sleep(a);
	else
		actv_on_cpu(a);
	actv_restore(regs, &a->saved);
	return a->saved.ax;
}
