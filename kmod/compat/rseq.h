/* SPDX-License-Identifier: GPL-2.0-only */
/* rseq_preempt() moved from linux/sched.h to linux/rseq.h in 6.9. */
#ifndef ACTV_COMPAT_RSEQ_H
#define ACTV_COMPAT_RSEQ_H

#include <linux/sched.h>
#ifdef ACTV_HAVE_RSEQ_H
#include <linux/rseq.h>
#endif

#endif /* ACTV_COMPAT_RSEQ_H */
