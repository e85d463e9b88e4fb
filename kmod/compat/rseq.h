/* SPDX-License-Identifier: GPL-2.0-only */
/* rseq_preempt() moved from linux/sched.h to linux/rseq.h in 6.9. */
#ifndef ACTV_COMPAT_RSEQ_H
#define ACTV_COMPAT_RSEQ_H

#include <linux/sched.h>
#if __has_include(<linux/rseq.h>)
#include <linux/rseq.h>
#endif

#endif /* ACTV_COMPAT_RSEQ_H */
