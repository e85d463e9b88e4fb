/* SPDX-License-Identifier: GPL-2.0-only */
/* Trace events, `activations:*` for perf and trace-cmd.  space is the process
 * id of who opened it. */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM activations

#if !defined(ACTV_TRACE_H) || defined(TRACE_HEADER_MULTI_READ)
#define ACTV_TRACE_H

#include <linux/tracepoint.h>

TRACE_EVENT(activations_attach,
	TP_PROTO(pid_t space, u32 activation, pid_t tid, int processor),
	TP_ARGS(space, activation, tid, processor),
	TP_STRUCT__entry(
		__field(pid_t, space)
		__field(u32, activation)
		__field(pid_t, tid)
		__field(int, processor)
	),
	TP_fast_assign(
		__entry->space = space;
		__entry->activation = activation;
		__entry->tid = tid;
		__entry->processor = processor;
	),
	TP_printk("space=%d activation=%u tid=%d processor=%d",
		  __entry->space, __entry->activation, __entry->tid,
		  __entry->processor)
);

TRACE_EVENT(activations_detach,
	TP_PROTO(pid_t space, u32 activation, pid_t tid),
	TP_ARGS(space, activation, tid),
	TP_STRUCT__entry(
		__field(pid_t, space)
		__field(u32, activation)
		__field(pid_t, tid)
	),
	TP_fast_assign(
		__entry->space = space;
		__entry->activation = activation;
		__entry->tid = tid;
	),
	TP_printk("space=%d activation=%u tid=%d", __entry->space,
		  __entry->activation, __entry->tid)
);

/* A processor was lent.  events is 0 if the activation just goes on. */
TRACE_EVENT(activations_grant,
	TP_PROTO(pid_t space, u32 processor, u32 activation, u32 events,
		 int predecessor),
	TP_ARGS(space, processor, activation, events, predecessor),
	TP_STRUCT__entry(
		__field(pid_t, space)
		__field(u32, processor)
		__field(u32, activation)
		__field(u32, events)
		__field(int, predecessor)
	),
	TP_fast_assign(
		__entry->space = space;
		__entry->processor = processor;
		__entry->activation = activation;
		__entry->events = events;
		__entry->predecessor = predecessor;
	),
	TP_printk("space=%d processor=%u activation=%u events=%#x predecessor=%d",
		  __entry->space, __entry->processor, __entry->activation,
		  __entry->events, __entry->predecessor)
);

/* An activation blocked and its processor went to another. */
TRACE_EVENT(activations_block,
	TP_PROTO(pid_t space, u32 processor, u32 activation, u32 successor,
		 u32 cause, u32 number),
	TP_ARGS(space, processor, activation, successor, cause, number),
	TP_STRUCT__entry(
		__field(pid_t, space)
		__field(u32, processor)
		__field(u32, activation)
		__field(u32, successor)
		__field(u32, cause)
		__field(u32, number)
	),
	TP_fast_assign(
		__entry->space = space;
		__entry->processor = processor;
		__entry->activation = activation;
		__entry->successor = successor;
		__entry->cause = cause;
		__entry->number = number;
	),
	TP_printk("space=%d processor=%u activation=%u successor=%u cause=%u number=%u",
		  __entry->space, __entry->processor, __entry->activation,
		  __entry->successor, __entry->cause, __entry->number)
);

DECLARE_EVENT_CLASS(activations_idleness,
	TP_PROTO(pid_t space, u32 processor, u32 activation),
	TP_ARGS(space, processor, activation),
	TP_STRUCT__entry(
		__field(pid_t, space)
		__field(u32, processor)
		__field(u32, activation)
	),
	TP_fast_assign(
		__entry->space = space;
		__entry->processor = processor;
		__entry->activation = activation;
	),
	TP_printk("space=%d processor=%u activation=%u", __entry->space,
		  __entry->processor, __entry->activation)
);

/* An activation blocked and keeps its processor. */
DEFINE_EVENT(activations_idleness, activations_keep,
	TP_PROTO(pid_t space, u32 processor, u32 activation),
	TP_ARGS(space, processor, activation));

/* An activation released its processor. */
DEFINE_EVENT(activations_idleness, activations_idle,
	TP_PROTO(pid_t space, u32 processor, u32 activation),
	TP_ARGS(space, processor, activation));

/* A thread is sent to the park stub. */
TRACE_EVENT(activations_stop,
	TP_PROTO(pid_t space, u32 activation, bool preempted, u32 want),
	TP_ARGS(space, activation, preempted, want),
	TP_STRUCT__entry(
		__field(pid_t, space)
		__field(u32, activation)
		__field(bool, preempted)
		__field(u32, want)
	),
	TP_fast_assign(
		__entry->space = space;
		__entry->activation = activation;
		__entry->preempted = preempted;
		__entry->want = want;
	),
	TP_printk("space=%d activation=%u preempted=%d want=%#x",
		  __entry->space, __entry->activation, __entry->preempted,
		  __entry->want)
);

/* A stopped thread goes on, perhaps only to see to a signal. */
TRACE_EVENT(activations_resume,
	TP_PROTO(pid_t space, u32 activation, bool interrupted),
	TP_ARGS(space, activation, interrupted),
	TP_STRUCT__entry(
		__field(pid_t, space)
		__field(u32, activation)
		__field(bool, interrupted)
	),
	TP_fast_assign(
		__entry->space = space;
		__entry->activation = activation;
		__entry->interrupted = interrupted;
	),
	TP_printk("space=%d activation=%u interrupted=%d", __entry->space,
		  __entry->activation, __entry->interrupted)
);

/* The park stub's call did not reach the module. */
TRACE_EVENT(activations_stub_returned,
	TP_PROTO(pid_t space, u32 activation),
	TP_ARGS(space, activation),
	TP_STRUCT__entry(
		__field(pid_t, space)
		__field(u32, activation)
	),
	TP_fast_assign(
		__entry->space = space;
		__entry->activation = activation;
	),
	TP_printk("space=%d activation=%u", __entry->space,
		  __entry->activation)
);

#endif /* ACTV_TRACE_H */

#undef TRACE_INCLUDE_PATH
#define TRACE_INCLUDE_PATH .
#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_FILE trace
#include <trace/define_trace.h>
