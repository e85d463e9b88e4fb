/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * task_is_runnable() came with delayed dequeue in 6.12: before that, a task on
 * its run queue was runnable.
 */
#ifndef ACTV_COMPAT_SCHED_H
#define ACTV_COMPAT_SCHED_H

#include <linux/sched.h>

#ifndef ACTV_HAVE_TASK_IS_RUNNABLE
static inline bool task_is_runnable(struct task_struct *p)
{
	return p->on_rq;
}
#endif

#endif /* ACTV_COMPAT_SCHED_H */
