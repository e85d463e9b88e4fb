/* SPDX-License-Identifier: (GPL-2.0 WITH Linux-syscall-note) OR BSL-1.0 */
/*
 * The contract between a kernel that lends processors and a user-level
 * scheduler that decides what runs on them.
 *
 * Three kernels speak it: the Linux module (kmod/), the bare-metal image
 * (runtime/), and the portable backend, which plays the kernel's part in user
 * space.  A "space" is one process that takes part.  It shares two areas with
 * the kernel:
 *
 *   info     written by the kernel, read-only for the process
 *   control  written by the process, except for the words that say otherwise;
 *            the kernel trusts nothing in it and reads each word once
 *
 * Both begin with a header that carries magic, version, size and feature bits,
 * and hold one array indexed by processor and one indexed by activation.
 * docs/abi.md tells the same in prose; this file is the authority.
 *
 * For each word: W = who writes it, R = who reads it, "at" = how it is
 * accessed, "0 =" = its initial value, "reset" = who returns it there.  All
 * words are naturally aligned and accessed whole.  Times are CLOCK_MONOTONIC in
 * nanoseconds, 0 meaning "never".
 */
#ifndef ACTIVATIONS_ABI_H
#define ACTIVATIONS_ABI_H

#ifdef __KERNEL__
#include <linux/build_bug.h>
#include <linux/types.h>
typedef __u32 activations_u32;
typedef __u64 activations_u64;
typedef __u32 activations_word32; /* accessed with READ_ONCE and friends */
typedef __u64 activations_word64;
#define ACTIVATIONS_STATIC_ASSERT(cond, text) static_assert(cond, text)
#elif defined(__cplusplus)
#include <atomic>
#include <cstddef>
#include <cstdint>
using activations_u32 = std::uint32_t;
using activations_u64 = std::uint64_t;
using activations_word32 = std::atomic<std::uint32_t>;
using activations_word64 = std::atomic<std::uint64_t>;
#define ACTIVATIONS_STATIC_ASSERT(cond, text) static_assert(cond, text)
#else
#include <stddef.h>
#include <stdint.h>
typedef uint32_t activations_u32;
typedef uint64_t activations_u64;
typedef _Atomic uint32_t activations_word32;
typedef _Atomic uint64_t activations_word64;
#define ACTIVATIONS_STATIC_ASSERT(cond, text) _Static_assert(cond, text)
#endif

/* A reader refuses a different major; minor additions come with feature bits. */
#define ACTIVATIONS_ABI_MAGIC 0x61637476u /* "actv" */
#define ACTIVATIONS_ABI_MAJOR 1u
#define ACTIVATIONS_ABI_MINOR 0u
#define ACTIVATIONS_ABI_VERSION \
  ((ACTIVATIONS_ABI_MAJOR << 16) | ACTIVATIONS_ABI_MINOR)

/* Feature bits of activations_info_header.features. */
#define ACTIVATIONS_FEATURE_STOP (1ull << 0)     /* upcalls by stopping */
#define ACTIVATIONS_FEATURE_REDIRECT (1ull << 1) /* upcalls in place, image */
#define ACTIVATIONS_FEATURE_EXACT (1ull << 2)    /* every block is reported */
#define ACTIVATIONS_FEATURE_PREEMPT (1ull << 3)  /* slices and kicks work */
#define ACTIVATIONS_FEATURE_GRANTS (1ull << 4)   /* shared between spaces */

/* Indices are 20 bits wide: at most a million activations in a space. */
#define ACTIVATIONS_INDEX_BITS 20
#define ACTIVATIONS_INDEX_NONE ((1u << ACTIVATIONS_INDEX_BITS) - 1u)

/*
 * Events: a bit mask handed to an activation entry.  They are level-triggered
 * state: one may be seen twice or merged with another, none is ever missed,
 * and UNBLOCKED(a) is never seen before BLOCKED(a).
 */
#define ACTIVATIONS_EVENT_GRANTED (1u << 0)     /* a processor is yours */
#define ACTIVATIONS_EVENT_REVOKE_SOON (1u << 1) /* reserved: see deadline */
#define ACTIVATIONS_EVENT_PREEMPTED (1u << 2)   /* an activation was stopped */
#define ACTIVATIONS_EVENT_BLOCKED (1u << 3)     /* an activation blocked */
#define ACTIVATIONS_EVENT_UNBLOCKED (1u << 4)   /* one may go on again */
#define ACTIVATIONS_EVENT_TIMER (1u << 5)       /* slice over, or timer due */
#define ACTIVATIONS_EVENT_EXIT (1u << 6)        /* leave this kernel thread */

/* Processor states, bits 0..2 of activations_processor_info.word. */
enum activations_processor_state {
  ACTIVATIONS_PROCESSOR_OFFLINE = 0,   /* not lent to this space */
  ACTIVATIONS_PROCESSOR_RUNNING = 1,   /* its activation runs, or keeps it */
  ACTIVATIONS_PROCESSOR_IDLE = 2,      /* its activation waits for work */
  ACTIVATIONS_PROCESSOR_PREEMPTED = 3, /* descheduled for another process */
  ACTIVATIONS_PROCESSOR_REVOKING = 4   /* to be given back by the deadline */
};

/* Activation states, activations_activation_info.state. */
enum activations_activation_state {
  ACTIVATIONS_ACTIVATION_UNUSED = 0,    /* no kernel thread in this slot */
  ACTIVATIONS_ACTIVATION_SPARE = 1,     /* parked, ready to be dispatched */
  ACTIVATIONS_ACTIVATION_RUNNING = 2,   /* owns a processor */
  ACTIVATIONS_ACTIVATION_BLOCKED = 3,   /* in the kernel, processor gone */
  ACTIVATIONS_ACTIVATION_UNBLOCKED = 4, /* back, without a processor */
  ACTIVATIONS_ACTIVATION_PREEMPTED = 5, /* stopped in user mode */
  ACTIVATIONS_ACTIVATION_PARKED = 6     /* waits in a run queue to go on */
};

/* Why an activation blocked, activations_cause.kind. */
enum activations_cause_kind {
  ACTIVATIONS_CAUSE_UNKNOWN = 0, /* not sampled, or not visible here */
  ACTIVATIONS_CAUSE_SYSCALL = 1, /* number and arguments valid */
  ACTIVATIONS_CAUSE_FAULT = 2,   /* address (module) or pc (portable) valid */
  ACTIVATIONS_CAUSE_FUTEX = 3,   /* a futex call; arguments[0] is the word */
  ACTIVATIONS_CAUSE_OTHER = 4
};

struct activations_cause {
  activations_u32 kind;    /* enum activations_cause_kind */
  activations_u32 number;  /* system call number */
  activations_u64 address; /* fault address or pc */
  activations_u64 arguments[6];
};

/*
 * activations_processor_info.word: the grant itself.
 *
 *   bits  0..2   state, enum activations_processor_state
 *   bits  3..22  owner: index of the activation that the processor is lent to
 *   bits 23..63  tag: one more at each change of state or owner (no ABA)
 *
 * Changed by compare-and-swap only.  With the module and on the image the
 * kernel alone changes it; the portable backend's activations, sentinel and
 * monitor play the kernel.
 */
#define ACTIVATIONS_WORD_STATE_MASK 0x7ull
#define ACTIVATIONS_WORD_OWNER_SHIFT 3
#define ACTIVATIONS_WORD_TAG_SHIFT 23

#define ACTIVATIONS_CACHE_LINE 64

/* One virtual processor, the kernel's side. */
struct activations_processor_info {
  /* W: kernel.  R: any thread.  at: acquire load, acq_rel CAS.
   * 0 = offline, owner none.  Never reset while the space lives. */
  activations_word64 word;
  /* W: kernel.  R: schedulers, debuggers.  at: relaxed.  The CPU and NUMA node
   * last used; ~0 until first granted. */
  activations_word32 cpu;
  activations_word32 node;
  /* W: kernel.  R: spinning waiters.  at: relaxed.  When the state changed. */
  activations_word64 since_ns;
  /* W: kernel.  R: scheduler.  at: relaxed.  Valid in REVOKING. */
  activations_word64 revoke_deadline_ns;
  /* W: kernel.  R: any.  at: relaxed.  Totals since the space was opened. */
  activations_word64 grants;
  activations_word64 blocks;
  activations_word64 unblocks;
  activations_word64 preemptions;
};

/* One virtual processor, the process's side. */
struct activations_processor_control {
  /* W: kernel sets bits (fetch_or), the owner takes them (exchange 0).
   * R: owner.  at: acq_rel.  0 = none.  ACTIVATIONS_EVENT_*. */
  activations_word32 pending;
  activations_u32 reserved0;
  /* W: process, before the first grant.  R: kernel, bounds-checked at each
   * upcall.  at: plain.  The address where activations of this processor
   * enter.  Unused by the portable backend. */
  activations_word64 entry;
  /* W: process.  R: kernel.  at: relaxed.  Slice in ns; 0 = no preemption. */
  activations_word64 slice_ns;
  /* W: owner, one more at each dispatch of a user thread (its own line: this
   * is the hot word).  R: kernel and takers, to see that a run segment ended.
   * at: relaxed.  0 = none yet.  Never reset. */
  activations_word64 dispatches;
  /* W: owner, when somebody may want to know (a count of lost activations is
   * not zero).  R: returners.  at: relaxed.  Start of the run segment. */
  activations_word64 segment_start_ns;
  activations_u64 reserved[3];
};

/* Saved user registers of a stopped activation, for debuggers and for the park
 * stub's fallback: reading only, the kernel restores from its own copy.
 * Layout: the architecture's user_regs_struct; bytes is 0 while the activation
 * is not stopped. */
struct activations_registers {
  activations_u32 bytes;
  activations_u32 reserved;
  activations_u64 signal_mask; /* as sigprocmask knows it, before the stop */
  activations_u64 values[46];
};

/* One activation, the kernel's side. */
struct activations_activation_info {
  /* W: kernel.  R: schedulers, spinning waiters, debuggers.  at: release
   * store, acquire load.  0 = unused.  enum activations_activation_state. */
  activations_word32 state;
  /* W: kernel, one more each time the slot gets another kernel thread.
   * Index plus generation is an activation's identity. */
  activations_word32 generation;
  /* W: kernel.  R: any.  Kernel thread id; 0 = none. */
  activations_word32 tid;
  /* W: kernel.  R: any.  Processor last granted; INDEX_NONE = none. */
  activations_word32 processor;
  /* W: kernel.  R: any.  at: relaxed.  When the state changed. */
  activations_word64 since_ns;
  /* W: kernel.  R: the activation itself, as it is dispatched.  at: release /
   * acquire.  Events that come with the dispatch; 0 = none. */
  activations_word32 events;
  /* W: kernel.  R: the activation itself, as it is dispatched.  Index of who
   * had its processor before; INDEX_NONE = nobody. */
  activations_word32 predecessor;
  /* W: kernel, before BLOCKED is published.  R: scheduler, debuggers. */
  struct activations_cause cause;
  activations_u64 reserved1[4];
};

/*
 * One activation, the process's side.  `disabled` lives here and nowhere else:
 * a flag per processor would be unsound, since a thread can be switched
 * between loading the processor's address and storing to it.
 */
struct activations_activation_control {
  /* W: the activation itself (a nesting depth).  R: kernel, and the preempt
   * handler on the same thread.  at: relaxed with compiler barriers; takers on
   * other threads use it as a hint only.  0 = enabled.  While it is not zero
   * no upcall is delivered: slice and kick stay in `pending`, and an expired
   * revocation stops the thread and resumes it exactly there. */
  activations_word32 disabled;
  /* W: kernel sets, the activation clears before it re-enables, then tests
   * once more (store, full barrier, load, on both sides).  0 = nothing. */
  activations_word32 pending;
  /* W: the activation.  R: kernel.  Resume flags, reserved for `redirect`:
   * bit 0 = a save slot is being resumed.  0 = none. */
  activations_word32 resume;
  /* W: the activation.  R: kernel, bounds-checked.  Save slot to use next. */
  activations_word32 save_slot;
  /* W: process.  R: process, debuggers.  The runtime's own object. */
  activations_word64 cookie;
  activations_u64 reserved[5];
};

struct activations_info_header {
  activations_u32 magic;
  activations_u32 version;
  activations_u64 bytes;    /* of the whole area */
  activations_u64 features; /* ACTIVATIONS_FEATURE_* */
  activations_u32 processor_count;
  activations_u32 processor_offset; /* bytes from the header */
  activations_u32 activation_count; /* slots */
  activations_u32 activation_offset;
  activations_u32 register_offset; /* array of activations_registers; 0=none */
  activations_u32 idle_offset;     /* bit array over processors; 0 = none */
  /* W: kernel, after the processor's word.  R: who pushes work.  at: seq_cst:
   * the kernel announces, then reads work_waiting; a pusher queues, then reads
   * these.  Idle processors, or kept ones whose activation blocked with nothing
   * waiting: how many, and (at idle_offset) a bit for each. */
  activations_word32 idle_count;
  /* W: kernel.  R: who makes spares.  at: relaxed.  Parked and dispatchable. */
  activations_word32 spare_count;
  activations_u32 reserved[2];
};

struct activations_control_header {
  activations_u32 magic;
  activations_u32 version;
  activations_u64 bytes;
  activations_u32 processor_count;
  activations_u32 processor_offset;
  activations_u32 activation_count;
  activations_u32 activation_offset;
  /* W: process.  R: kernel.  How many processors the space can use now. */
  activations_word32 wanted;
  /* W: who queues work (to 1) and who looked everywhere in vain (to 0, then
   * looks again); kernel, to 1, when a timer is due.  R: kernel, before it
   * hands a blocked activation's processor to a spare: with nothing waiting
   * the activation keeps it.  at: seq_cst. */
  activations_word32 work_waiting;
  /* Bit array over activations, bytes from the header.  W: kernel sets a bit
   * for one that is stopped in user mode, before it raises `stopped`;
   * schedulers take words by exchange.  Seen twice or late, never missed: a
   * bit whose activation runs again already is stale, and SWITCH_TO says so. */
  activations_u32 stopped_offset;
  /* W: kernel, to 1; schedulers, to 0 before they take the bits.  R: every
   * scheduling point.  at: relaxed test, acq_rel exchange. */
  activations_word32 stopped;
  activations_u32 reserved[4];
};

/*
 * Calls.  The module takes them as ioctls on /dev/activations (abi_linux.h),
 * the image as system calls, the portable backend as functions.  All complete
 * at once or can be re-issued; everything they need is in the areas.  Each
 * returns 0 or a negative errno.
 */
struct activations_open {
  activations_u32 version;         /* in: ACTIVATIONS_ABI_VERSION */
  activations_u32 processors;      /* in: wanted; out: slots */
  activations_u32 activations;     /* in: cap; out: slots */
  activations_u32 park_stub_bytes; /* in: 0 without FEATURE_STOP */
  activations_u64 park_stub;       /* in: where a stopped activation waits */
  activations_u64 features;        /* in: required; out: present */
  activations_u64 info_bytes;      /* out */
  activations_u64 control_bytes;   /* out */
};

struct activations_stats {
  activations_u64 blocks;      /* hand-overs because an activation blocked */
  activations_u64 unblocks;    /* returns without a processor */
  activations_u64 preemptions; /* slices that ended and kicks delivered */
  activations_u64 keeps;       /* blocks with nothing waiting */
  activations_u64 disabled_blocks; /* blocks while disabled */
  activations_u64 no_spare; /* hand-overs that found no spare activation */
  activations_u64 direct_resumes; /* stopped activations resumed for lack */
  activations_u64 fallbacks;      /* every other degraded path */
};

/* "Owner" is an activation that was lent a processor.  EAGAIN: the state is
 * no longer what the caller saw; it looks again. */
enum activations_call {
  ACTIVATIONS_CALL_OPEN = 1,   /* struct activations_open, once a space */
  ACTIVATIONS_CALL_ATTACH = 2, /* this thread becomes activation i */
  /* Sleeps as a spare until dispatched: events and predecessor are in info.
   * EBUSY: the caller owns a processor. */
  ACTIVATIONS_CALL_PARK = 3,
  /* The caller's processor to stopped activation i; the caller sleeps as a
   * spare, as in PARK.  EAGAIN: i is not stopped.  EPERM: no owner. */
  ACTIVATIONS_CALL_SWITCH_TO = 4,
  ACTIVATIONS_CALL_REQUEST = 5, /* processors wanted; returns those granted */
  /* Nothing to run: the owner sleeps, its processor idle, until WAKE, TIMER at
   * deadline ns (~0 = never), or, if a returner claimed the processor, until
   * dispatched as a spare.  EAGAIN: an activation is stopped; take it. */
  ACTIVATIONS_CALL_RELEASE = 6,
  /* Stops what runs on processor v, as at the end of a slice. */
  ACTIVATIONS_CALL_KICK = 7,
  ACTIVATIONS_CALL_SLICE = 8, /* slice of processor v, ns; 0 = off */
  ACTIVATIONS_CALL_STATS = 9, /* struct activations_stats */
  /* Work for idle or kept processor v: dispatches its sleeping owner, or a
   * spare.  Returns 1; 0 when it was not idle. */
  ACTIVATIONS_CALL_WAKE = 10,
  /* Stops the caller in favour of a spare or of the one stopped longest;
   * returns when switched to.  EAGAIN: nobody to take over. */
  ACTIVATIONS_CALL_STOP = 11,
  /* The earliest timer: wakes an idle processor at this time, ns. */
  ACTIVATIONS_CALL_TIMER = 12,
  /* Parked or idle activation i returns with EVENT_EXIT, now or when it next
   * parks; ~0 = any spare, and its index is returned. EAGAIN: no spare. */
  ACTIVATIONS_CALL_END = 13,
  ACTIVATIONS_CALL_DETACH = 14 /* the caller is an activation no more */
};

ACTIVATIONS_STATIC_ASSERT(sizeof(struct activations_processor_info) == 64,
                          "processor info is one cache line");
ACTIVATIONS_STATIC_ASSERT(sizeof(struct activations_processor_control) == 64,
                          "processor control is one cache line");
ACTIVATIONS_STATIC_ASSERT(sizeof(struct activations_activation_info) == 128,
                          "activation info is two cache lines");
ACTIVATIONS_STATIC_ASSERT(sizeof(struct activations_activation_control) == 64,
                          "activation control is one cache line");
ACTIVATIONS_STATIC_ASSERT(sizeof(struct activations_info_header) == 64,
                          "info header is one cache line");
ACTIVATIONS_STATIC_ASSERT(sizeof(struct activations_control_header) == 64,
                          "control header is one cache line");
ACTIVATIONS_STATIC_ASSERT(sizeof(struct activations_registers) == 384,
                          "register slots are six cache lines");
ACTIVATIONS_STATIC_ASSERT(sizeof(struct activations_cause) == 64,
                          "a cause is one cache line");
ACTIVATIONS_STATIC_ASSERT(sizeof(struct activations_stats) == 64,
                          "stats are eight words");
ACTIVATIONS_STATIC_ASSERT(sizeof(struct activations_open) == 48,
                          "the open argument has no padding");

#endif /* ACTIVATIONS_ABI_H */
