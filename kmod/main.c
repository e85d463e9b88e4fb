// SPDX-License-Identifier: GPL-2.0-only
/*
 * Scheduler activations: a kernel that tells a process of every block, unblock
 * and preemption of its threads, and lets it decide what runs.
 *
 * include/activations/abi.h is the contract.  device.c takes the calls;
 * activation.c hooks the scheduler; stop.c stops threads at their user boundary;
 * processor.c lends processors; space.c owns areas and limits; probes.c sees
 * threads off.
 *
 * Locks
 *
 *	siglock -> pi_lock -> run-queue lock -> actv_space.lock -> hrtimer base
 *
 * actv_space.lock is a leaf for everybody but timers: a raw spinlock, taken with
 * interrupts off in sched_out (under the run-queue lock), sched_in, the
 * user-return notifier, timers, inter-processor interrupts and calls.  Under it
 * nothing sleeps, allocates, wakes or sends a signal.  A wake-up takes a
 * run-queue lock, so it comes after it: directly in calls, by irq_work from
 * sched_out and interrupts.  Hence also siglock is never taken under it: the
 * notifier decides first, and masks signals after.
 *
 * One lock keeps one truth: who owns which processor changes in one place, and
 * what was decided under it needs no second look.  It is held for some tens of
 * instructions, and only by threads of one process.
 *
 * spaces_mutex (space.c) and open_mutex (device.c) are taken in calls alone,
 * open before spaces.
 *
 * Lives
 *
 * Every attached thread holds the device's file; the file is the space.  So
 * callbacks of attached threads find it alive; timers, irq_work and kicks are
 * waited for when it ends; and while it lives the module cannot be unloaded.
 */
#include <linux/module.h>
#include <linux/preempt.h>

#include "space.h"

static int __init actv_init(void)
{
	int result;

	preempt_notifier_inc();
	actv_debugfs_init();
	result = actv_probes_init();
	if (result)
		goto err_probes;
	result = actv_device_init();
	if (result)
		goto err_device;
	return 0;

err_device:
	actv_probes_exit();
err_probes:
	actv_debugfs_exit();
	preempt_notifier_dec();
	return result;
}

static void __exit actv_exit(void)
{
	actv_device_exit();
	actv_probes_exit();
	actv_debugfs_exit();
	preempt_notifier_dec();
}

module_init(actv_init);
module_exit(actv_exit);

MODULE_DESCRIPTION("Scheduler activations");
MODULE_LICENSE("GPL");
