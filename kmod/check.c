// SPDX-License-Identifier: GPL-2.0-only
/*
 * In test builds only: the invariants of a space, looked at whenever its lock is
 * dropped.  A warning there could come under the run-queue lock, which printing
 * may need; so what is found is told when the space is closed.
 */
#include <linux/module.h>

#include "activation.h"
#include "processor.h"

static bool check;
module_param(check, bool, 0600);
MODULE_PARM_DESC(check, "for tests: look at the invariants at each change");

static const char *actv_broken_processor(struct actv_processor *v)
{
	struct actv_activation *a = v->owner;

	if (v->state == ACTIVATIONS_PROCESSOR_OFFLINE)
		return a ? "an offline processor has an owner" : NULL;
	if (!a)
		return "a processor without an owner is not offline";
	if (v->orphan)
		return "an orphan has an owner";
	if (a->processor != v)
		return "an owner has another processor";
	if (!!test_bit(v->index, v->space->idle) !=
	    (v->state == ACTIVATIONS_PROCESSOR_IDLE))
		return "an idle bit is wrong";
	if (v->state == ACTIVATIONS_PROCESSOR_IDLE)
		return a->state == ACTV_KEEPER || a->state == ACTV_IDLER ?
			       NULL : "who owns an idle processor is not idle";
	return a->state == ACTV_OWNER || a->state == ACTV_HELD ?
		       NULL : "who owns a running processor does not run";
}

static const char *actv_broken_activation(struct actv_activation *a)
{
	bool owns = a->state == ACTV_OWNER || a->state == ACTV_KEEPER ||
		    a->state == ACTV_HELD || a->state == ACTV_IDLER;
	bool listed = a->state == ACTV_SPARE || a->state == ACTV_STOPPED;

	if (owns != !!a->processor)
		return "an activation's state and processor differ";
	if (owns && a->processor->owner != a)
		return "two activations have one processor";
	if (listed == list_empty(&a->link))
		return "an activation's state and list differ";
	if (listed && a->token)
		return "who waits to be dispatched has been";
	return NULL;
}

static const char *actv_broken(struct actv_space *s)
{
	u32 i, spares = 0, stopped = 0, held = 0, orphans = 0;
	struct actv_activation *a;
	const char *broken;

	for (i = 0; i < s->processor_count; i++) {
		broken = actv_broken_processor(&s->processors[i]);
		if (broken)
			return broken;
		orphans += s->processors[i].orphan;
	}
	for (i = 0; i < s->activation_count; i++) {
		a = s->activations[i];
		if (!a)
			continue;
		broken = actv_broken_activation(a);
		if (broken)
			return broken;
		spares += a->state == ACTV_SPARE;
		stopped += a->state == ACTV_STOPPED;
		held += a->state == ACTV_HELD;
	}
	if (spares != s->spare_count || stopped != s->stopped_count ||
	    held != s->held_count || orphans != s->orphan_count ||
	    bitmap_weight(s->idle, s->processor_count) != s->idle_count)
		return "a count is wrong";
	/* Work conservation: P1 in docs/design.md. */
	if (stopped && (s->idle_count || held || orphans))
		return "a processor has nothing to run while one is stopped";
	if (orphans && spares)
		return "a processor is nobody's while there are spares";
	return NULL;
}

void actv_check(struct actv_space *s)
{
	lockdep_assert_held(&s->lock);
	if (READ_ONCE(check) && !s->broken)
		s->broken = actv_broken(s);
}

void actv_check_report(struct actv_space *s)
{
	WARN(s->broken, "activations: %s\n", s->broken);
}
