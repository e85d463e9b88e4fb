/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Where a wake-up puts a thread depends on flags that the scheduler keeps to
 * itself; default_wake_function(), made for wait queues, passes them on, and
 * warns of any that it does not know.  WF_SYNC: the waker is about to sleep.
 * WF_CURRENT_CPU, since 6.6: on this CPU, unless the thread may not run here.
 */
#ifndef ACTV_COMPAT_WAKE_H
#define ACTV_COMPAT_WAKE_H

#include <linux/sched.h>
#include <linux/wait.h>

#define ACTV_WAKE_SYNC 0x10
#ifdef ACTV_HAVE_WAKE_ON_CURRENT_CPU
#define ACTV_WAKE_HERE 0x40
#else
#define ACTV_WAKE_HERE 0
#endif

static inline void actv_wake_task(struct task_struct *task, int flags)
{
	struct wait_queue_entry entry = { .private = task };

	default_wake_function(&entry, TASK_NORMAL, flags, NULL);
}

#endif /* ACTV_COMPAT_WAKE_H */
