/* SPDX-License-Identifier: GPL-2.0-only */
/* hrtimer_setup() replaced hrtimer_init() and its store in 6.13. */
#ifndef ACTV_COMPAT_HRTIMER_H
#define ACTV_COMPAT_HRTIMER_H

#include <linux/hrtimer.h>

#ifndef ACTV_HAVE_HRTIMER_SETUP
static inline void
hrtimer_setup(struct hrtimer *timer,
	      enum hrtimer_restart (*function)(struct hrtimer *),
	      clockid_t clock, enum hrtimer_mode mode)
{
	hrtimer_init(timer, clock, mode);
	timer->function = function;
}
#endif

#endif /* ACTV_COMPAT_HRTIMER_H */
