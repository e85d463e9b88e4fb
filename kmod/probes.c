// SPDX-License-Identifier: GPL-2.0-only
/*
 * Threads that exit or exec leave their space.  The scheduler's tracepoints
 * tell us; they are not exported by name, so they are looked up, as any tracer
 * does.
 */
#include <linux/sched.h>
#include <linux/string.h>
#include <linux/tracepoint.h>

#include "activation.h"

static struct tracepoint *exit_tracepoint;
static struct tracepoint *exec_tracepoint;

/* Context: preemption off.  For every exit in the system: one load and a test
 * if the thread is not ours. */
static void actv_current_leaves(struct task_struct *task)
{
	struct actv_activation *a = __this_cpu_read(actv_running);

	if (likely(!a))
		return;
	if (!WARN_ON_ONCE(task != current))
		actv_leave(a);
}

static void actv_probe_exit(void *unused, struct task_struct *task)
{
	actv_current_leaves(task);
}

static void actv_probe_exec(void *unused, struct task_struct *task,
			    pid_t old_pid, struct linux_binprm *bprm)
{
	actv_current_leaves(task);
}

static void actv_find(struct tracepoint *tracepoint, void *unused)
{
	if (!strcmp(tracepoint->name, "sched_process_exit"))
		exit_tracepoint = tracepoint;
	else if (!strcmp(tracepoint->name, "sched_process_exec"))
		exec_tracepoint = tracepoint;
}

int actv_probes_init(void)
{
	int result;

	for_each_kernel_tracepoint(actv_find, NULL);
	if (!exit_tracepoint || !exec_tracepoint)
		return -ENOENT;
	result = tracepoint_probe_register(exit_tracepoint, actv_probe_exit,
					   NULL);
	if (result)
		return result;
	result = tracepoint_probe_register(exec_tracepoint, actv_probe_exec,
					   NULL);
	if (result)
		goto err_exec;
	return 0;

err_exec:
	tracepoint_probe_unregister(exit_tracepoint, actv_probe_exit, NULL);
	tracepoint_synchronize_unregister();
	return result;
}

void actv_probes_exit(void)
{
	tracepoint_probe_unregister(exec_tracepoint, actv_probe_exec, NULL);
	tracepoint_probe_unregister(exit_tracepoint, actv_probe_exit, NULL);
	tracepoint_synchronize_unregister();
}
