// SPDX-License-Identifier: GPL-2.0-only
/*
 * /sys/kernel/debug/activations/<pid>.<n>: everything that a space counts, and
 * where its processors and activations are.  Root only, like all of debugfs.
 */
#include <linux/debugfs.h>
#include <linux/seq_file.h>

#include "activation.h"
#include "processor.h"

static struct dentry *root;
static atomic_t opened = ATOMIC_INIT(0);

static const char *const counter_names[] = {
#define X(name, text) #name,
	ACTV_COUNTERS(X)
#undef X
};

static const char *const state_names[] = {
	[ACTV_UNUSED] = "unused",
	[ACTV_LOOSE] = "loose",
	[ACTV_OWNER] = "owner",
	[ACTV_KEEPER] = "keeper",
	[ACTV_HELD] = "held",
	[ACTV_BLOCKED] = "blocked",
	[ACTV_STOPPED] = "stopped",
	[ACTV_SPARE] = "spare",
	[ACTV_IDLER] = "idler",
};

static const char *const processor_names[] = {
	[ACTIVATIONS_PROCESSOR_OFFLINE] = "offline",
	[ACTIVATIONS_PROCESSOR_RUNNING] = "running",
	[ACTIVATIONS_PROCESSOR_IDLE] = "idle",
};

/* A line for each bucket in use: its lower bound and its count. */
static void show_histogram(struct seq_file *m, const char *name,
			   struct actv_space *s,
			   const struct actv_histogram *source)
{
	struct actv_histogram h;
	unsigned long flags;
	unsigned int i;

	actv_lock_irqsave(s, flags);
	h = *source;
	actv_unlock_irqrestore(s, flags);
	seq_printf(m, "%s_total_ns %llu\n", name, h.total_ns);
	seq_printf(m, "%s_maximum_ns %llu\n", name, h.maximum_ns);
	for (i = 0; i < ACTV_HISTOGRAM_BUCKETS; i++)
		if (h.bucket[i])
			seq_printf(m, "%s_ns %llu %llu\n", name,
				   i ? 1ull << (i - 1) : 0, h.bucket[i]);
}

static int space_show(struct seq_file *m, void *unused)
{
	struct actv_space *s = m->private;
	struct actv_activation *a;
	struct actv_processor *v;
	unsigned long flags;
	unsigned int i;
	int owner, processor;
	u64 value;

	for (i = 0; i < ACTV_COUNTER_COUNT; i++) {
		actv_lock_irqsave(s, flags);
		value = s->counters[i];
		actv_unlock_irqrestore(s, flags);
		seq_printf(m, "%s %llu\n", counter_names[i], value);
	}
	for (i = 0; i < s->activation_count; i++) {
		a = READ_ONCE(s->activations[i]);
		if (!a)
			continue;
		actv_lock_irqsave(s, flags);
		actv_latency_end(a);
		actv_unlock_irqrestore(s, flags);
	}
	show_histogram(m, "excess", s, &s->excess);
	show_histogram(m, "idle_with_work", s, &s->idle_with_work);
	seq_printf(m, "spare_count %u\n", READ_ONCE(s->spare_count));
	seq_printf(m, "stopped_count %u\n", READ_ONCE(s->stopped_count));
	seq_printf(m, "idle_count %u\n", READ_ONCE(s->idle_count));
	seq_printf(m, "held_count %u\n", READ_ONCE(s->held_count));
	seq_printf(m, "work_waiting %d\n", actv_work_waiting(s));

	for (i = 0; i < s->processor_count; i++) {
		enum activations_processor_state state;

		v = &s->processors[i];
		actv_lock_irqsave(s, flags);
		state = v->state;
		owner = v->owner ? v->owner->index : -1;
		actv_unlock_irqrestore(s, flags);
		if (owner >= 0)
			seq_printf(m, "processor %u %s owner %d cpu %d\n", i,
				   processor_names[state], owner,
				   (int)READ_ONCE(v->info->cpu));
	}
	for (i = 0; i < s->activation_count; i++) {
		enum actv_state state;
		bool parking;

		a = READ_ONCE(s->activations[i]);
		if (!a)
			continue;
		actv_lock_irqsave(s, flags);
		state = a->state;
		parking = a->parking;
		processor = a->processor ? a->processor->index : -1;
		actv_unlock_irqrestore(s, flags);
		if (state == ACTV_UNUSED)
			continue;
		seq_printf(m, "activation %u %s tid %u processor %d asleep %d disabled %u want %#x\n",
			   i, state_names[state], READ_ONCE(a->info->tid),
			   processor, parking, READ_ONCE(a->control->disabled),
			   atomic_read(&a->want));
	}
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(space);

void actv_debugfs_init(void)
{
	BUILD_BUG_ON(ARRAY_SIZE(counter_names) != ACTV_COUNTER_COUNT);
	root = debugfs_create_dir("activations", NULL);
}

void actv_debugfs_exit(void)
{
	debugfs_remove(root);
}

void actv_debugfs_add(struct actv_space *s)
{
	char name[32];

	snprintf(name, sizeof(name), "%d.%u", s->tgid,
		 (unsigned int)atomic_inc_return(&opened));
	s->debugfs = debugfs_create_file(name, 0400, root, s, &space_fops);
}

/* Waits for readers. */
void actv_debugfs_remove(struct actv_space *s)
{
	debugfs_remove(s->debugfs);
}
