// SPDX-License-Identifier: GPL-2.0-only
/*
 * Spaces: their areas, limits and counters.
 *
 * Layout of the areas, which begin alike:
 *
 *	header | processors | activations | info: registers, idle bits
 *	                                  | control: stopped bits
 */
#include <linux/bitops.h>
#include <linux/capability.h>
#include <linux/delay.h>
#include <linux/module.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>
#include <linux/vmalloc.h>

#include "activation.h"
#include "compat/hrtimer.h"
#include "compat/mm.h"
#include "processor.h"

#include <activations/abi_linux.h>

unsigned int actv_recheck_us = 100;
module_param_named(recheck_us, actv_recheck_us, uint, 0644);
MODULE_PARM_DESC(recheck_us,
		 "how long a blocked activation keeps its processor before a spare looks for work, in us; 0 = for ever");

static unsigned int max_processors = 64;
module_param(max_processors, uint, 0644);
MODULE_PARM_DESC(max_processors, "virtual processors of a space, at most");

static unsigned int max_activations = 4096;
module_param(max_activations, uint, 0644);
MODULE_PARM_DESC(max_activations, "activations of a space, at most");

static unsigned int max_spaces = 16;
module_param(max_spaces, uint, 0644);
MODULE_PARM_DESC(max_spaces, "spaces of one user, at most");

static unsigned int max_user_activations = 16384;
module_param(max_user_activations, uint, 0644);
MODULE_PARM_DESC(max_user_activations,
		 "activations in all spaces of one user, at most");

#ifdef ACTIVATIONS_TEST
unsigned int actv_skip;
module_param_named(skip, actv_skip, uint, 0600);
MODULE_PARM_DESC(skip, "for tests: parts to leave out, a mask");
#endif

/* For tests: the nth allocation from now fails, and only that. */
static atomic_t fail_allocation = ATOMIC_INIT(0);

static int fail_allocation_set(const char *text, const struct kernel_param *kp)
{
	unsigned int nth;
	int result = kstrtouint(text, 0, &nth);

	if (!result)
		atomic_set(&fail_allocation, nth);
	return result;
}

static int fail_allocation_get(char *buffer, const struct kernel_param *kp)
{
	return sysfs_emit(buffer, "%d\n", atomic_read(&fail_allocation));
}

static const struct kernel_param_ops fail_allocation_ops = {
	.set = fail_allocation_set,
	.get = fail_allocation_get,
};
module_param_cb(fail_allocation, &fail_allocation_ops, NULL, 0600);
MODULE_PARM_DESC(fail_allocation,
		 "for tests: let the nth allocation from now fail; 0 = none");

/* Context: before each allocation. */
bool actv_allocation_fails(void)
{
	return atomic_read(&fail_allocation) &&
	       atomic_fetch_add_unless(&fail_allocation, -1, 0) == 1;
}

/* All spaces, for the limits of users. */
static LIST_HEAD(spaces);
static DEFINE_MUTEX(spaces_mutex);

void actv_histogram_add(struct actv_histogram *h, u64 ns)
{
	unsigned int bucket = fls64(ns);

	/* Two clock reads on two CPUs may be a little out of order. */
	if ((s64)ns < 0)
		ns = bucket = 0;
	h->bucket[min_t(unsigned int, bucket, ACTV_HISTOGRAM_BUCKETS - 1)]++;
	h->total_ns += ns;
	h->maximum_ns = max(h->maximum_ns, ns);
}

static bool actv_over_limit(kuid_t uid, u32 activations)
{
	u64 count = 1, total = activations;
	struct actv_space *s;

	lockdep_assert_held(&spaces_mutex);
	if (capable(CAP_SYS_RESOURCE))
		return false;
	list_for_each_entry(s, &spaces, link) {
		if (uid_eq(s->uid, uid)) {
			count++;
			total += s->activation_count;
		}
	}
	return count > READ_ONCE(max_spaces) ||
	       total > READ_ONCE(max_user_activations);
}

static void *actv_area(size_t bytes)
{
	return actv_allocation_fails() ? NULL : vmalloc_user(bytes);
}

static int actv_make_areas(struct actv_space *s)
{
	struct activations_info_header *info;
	struct activations_control_header *control;
	size_t processors, activations, end;

	/* All at most some megabytes: the counts were checked. */
	processors = sizeof(*info);
	activations = processors + s->processor_count *
		      sizeof(struct activations_processor_info);
	BUILD_BUG_ON(sizeof(*info) != sizeof(*control));

	end = activations + s->activation_count *
	      sizeof(struct activations_activation_info);
	s->info_bytes = PAGE_ALIGN(end + s->activation_count *
				   sizeof(struct activations_registers) +
				   BITS_TO_LONGS(s->processor_count) *
				   sizeof(long));
	info = actv_area(s->info_bytes);
	if (!info)
		return -ENOMEM;
	s->info = info;
	info->magic = ACTIVATIONS_ABI_MAGIC;
	info->version = ACTIVATIONS_ABI_VERSION;
	info->bytes = s->info_bytes;
	info->processor_count = s->processor_count;
	info->processor_offset = processors;
	info->activation_count = s->activation_count;
	info->activation_offset = activations;
	info->register_offset = end;
	s->registers = (void *)info + end;
	end += s->activation_count * sizeof(struct activations_registers);
	info->idle_offset = end;
	s->info_idle = (void *)info + end;

	end = activations + s->activation_count *
	      sizeof(struct activations_activation_control);
	s->control_bytes = PAGE_ALIGN(end +
				      BITS_TO_LONGS(s->activation_count) *
				      sizeof(long));
	control = actv_area(s->control_bytes);
	if (!control)
		return -ENOMEM;
	s->control = control;
	control->magic = ACTIVATIONS_ABI_MAGIC;
	control->version = ACTIVATIONS_ABI_VERSION;
	control->bytes = s->control_bytes;
	control->processor_count = s->processor_count;
	control->processor_offset = processors;
	control->activation_count = s->activation_count;
	control->activation_offset = activations;
	control->stopped_offset = end;
	s->control_stopped = (void *)control + end;
	return 0;
}

static void actv_space_free(struct actv_space *s)
{
	u32 i;

	for (i = 0; s->processors && i < s->processor_count; i++)
		actv_processor_destroy(&s->processors[i]);
	for (i = 0; s->activations && i < s->activation_count; i++)
		if (s->activations[i])
			actv_free(s->activations[i]);
	kvfree(s->processors);
	kvfree(s->activations);
	vfree(s->control);
	vfree(s->info);
	mmdrop(s->mm);
	kfree(s);
}

/**
 * actv_space_open - OPEN, up to where others can see the space
 * @args: checked by the caller; counts and sizes are filled in
 *
 * Context: process.
 * Return: the space; -ENOMEM; -EMFILE: the user has too many.
 */
struct actv_space *actv_space_open(struct activations_open *args)
{
	struct actv_space *s;
	int result = -ENOMEM;
	u32 i;

	if (actv_allocation_fails())
		return ERR_PTR(-ENOMEM);
	s = kzalloc(sizeof(*s), GFP_KERNEL_ACCOUNT);
	if (!s)
		return ERR_PTR(-ENOMEM);
	s->mm = current->mm;
	mmgrab(s->mm);
	s->uid = current_uid();
	s->tgid = current->tgid;
	s->park_stub = args->park_stub;
	s->park_stub_bytes = args->park_stub_bytes;
	s->processor_count = min3(args->processors, READ_ONCE(max_processors),
				  (u32)ACTV_PROCESSORS_MAX);
	s->activation_count = min3(args->activations,
				   READ_ONCE(max_activations),
				   (u32)ACTIVATIONS_INDEX_NONE);
	if (!s->processor_count || !s->activation_count) {
		result = -EINVAL;
		goto err_space;
	}
	raw_spin_lock_init(&s->lock);
	INIT_LIST_HEAD(&s->spares);
	INIT_LIST_HEAD(&s->stopped);
	INIT_LIST_HEAD(&s->link);
	s->timer_ns = ACTV_NEVER;
	s->timer_armed_ns = ACTV_NEVER;
	hrtimer_setup(&s->timer, actv_timer_due, CLOCK_MONOTONIC,
		      HRTIMER_MODE_ABS_PINNED_HARD);

	result = actv_make_areas(s);
	if (result)
		goto err_space;
	s->info->features = args->features;
	result = -ENOMEM;
	if (!actv_allocation_fails())
		s->activations = kvcalloc(s->activation_count,
					  sizeof(*s->activations),
					  GFP_KERNEL_ACCOUNT);
	if (!s->activations)
		goto err_space;
	if (!actv_allocation_fails())
		s->processors = kvcalloc(s->processor_count,
					 sizeof(*s->processors),
					 GFP_KERNEL_ACCOUNT);
	if (!s->processors)
		goto err_space;
	for (i = 0; i < s->processor_count; i++)
		actv_processor_init(s, i);

	mutex_lock(&spaces_mutex);
	if (actv_over_limit(s->uid, s->activation_count)) {
		mutex_unlock(&spaces_mutex);
		result = -EMFILE;
		goto err_space;
	}
	list_add(&s->link, &spaces);
	mutex_unlock(&spaces_mutex);

	args->processors = s->processor_count;
	args->activations = s->activation_count;
	args->info_bytes = s->info_bytes;
	args->control_bytes = s->control_bytes;
	return s;

err_space:
	actv_space_free(s);
	return ERR_PTR(result);
}

/**
 * actv_space_close - the file is gone, hence every thread and mapping too
 * @s: the space
 *
 * Context: process, may sleep.
 */
void actv_space_close(struct actv_space *s)
{
	mutex_lock(&spaces_mutex);
	list_del(&s->link);
	mutex_unlock(&spaces_mutex);
	actv_check_report(s);
	hrtimer_cancel(&s->timer);
	/* Kicks may still be on their way; each counts itself off as the last
	 * thing it does with the space. */
	while (atomic_read(&s->kicks_in_flight))
		usleep_range(10, 100);
	/* Interrupt handlers that just did, and wakers under RCU, are gone. */
	synchronize_rcu();
	actv_space_free(s);
}

/* Context: process; the mapping's mm is the space's. */
int actv_space_mmap(struct actv_space *s, struct vm_area_struct *vma)
{
	u64 offset = (u64)vma->vm_pgoff << PAGE_SHIFT;
	size_t bytes = vma->vm_end - vma->vm_start;
	void *area;

	/* A private copy would not be what the kernel reads and writes. */
	if (!(vma->vm_flags & VM_SHARED) || (vma->vm_flags & VM_EXEC))
		return -EINVAL;
	if (offset == ACTIVATIONS_MMAP_INFO && bytes == s->info_bytes) {
		if (vma->vm_flags & VM_WRITE)
			return -EACCES;
		vm_flags_clear(vma, VM_MAYWRITE);
		area = s->info;
	} else if (offset == ACTIVATIONS_MMAP_CONTROL &&
		   bytes == s->control_bytes) {
		area = s->control;
	} else {
		return -EINVAL;
	}
	/* After fork the child has nothing there: it is not the space. */
	vm_flags_clear(vma, VM_MAYEXEC);
	vm_flags_set(vma, VM_DONTCOPY | VM_DONTEXPAND | VM_DONTDUMP);
	return remap_vmalloc_range(vma, area, 0);
}

void actv_space_stats(struct actv_space *s, struct activations_stats *stats)
{
	unsigned long flags;

	memset(stats, 0, sizeof(*stats));
	actv_lock_irqsave(s, flags);
	stats->blocks = s->counters[ACTV_blocks];
	stats->unblocks = s->counters[ACTV_unblocks];
	stats->preemptions = s->counters[ACTV_preemptions];
	stats->keeps = s->counters[ACTV_keeps];
	stats->disabled_blocks = s->counters[ACTV_disabled_blocks];
	stats->no_spare = s->counters[ACTV_no_spare];
	stats->direct_resumes = s->counters[ACTV_direct_resumes];
#define X(name, text) stats->fallbacks += s->counters[ACTV_##name];
	ACTV_DEGRADED(X)
#undef X
	actv_unlock_irqrestore(s, flags);
}
