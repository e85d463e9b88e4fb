/* SPDX-License-Identifier: (GPL-2.0 WITH Linux-syscall-note) OR BSL-1.0 */
/*
 * How the bare-metal image (runtime/) speaks the contract of abi.h.
 *
 * A space is an ELF module.  It runs on dispatchers: one is bound to one core,
 * and is what abi.h calls an activation and the processor it is lent, which
 * coincide here.  Dispatcher 0 starts at the module's entry; ATTACH makes the
 * others.  What a space sees, at fixed addresses:
 *
 *   info        read-only   activations_info_header, processors, activations
 *   control     read-write  activations_control_header, processors, activations
 *   grants      read-only   struct activations_image_grants, in the info page
 *   dispatchers read-write  one page each: struct activations_dispatcher
 *   channels    read-write  one page each: struct activations_channel
 *
 * Both arrays of an area have ACTIVATIONS_IMAGE_DISPATCHERS entries, and entry
 * i belongs to dispatcher i.
 *
 * The dispatch rule.  When an interrupt, fault or trap stops dispatcher i,
 *   enabled   (activation_control[i].disabled == 0, pc in no resume range):
 *             registers to save slot control.save_slot, disabled = 1, upcall.
 *   resuming  (disabled == 0, pc in a resume range): as enabled, but nothing
 *             is saved: the slot that was being resumed is still whole.
 *   disabled  an interrupt sets bits in control.pending, and the dispatcher
 *             goes on exactly there, now or when the core is its own again.  A
 *             fault is resolved by the kernel or is fatal; a trap is fatal.
 *
 * What is fatal ends the space, with a line on the console that names the
 * dispatcher, the address and the pc.  The registers are in `stopped`.  If the
 * page has a `last_entry`, the space is not ended yet: that is entered as
 * `entry` is, with the address of `stopped` as the slot, once, for the program
 * to say what it was about and EXIT.  A second fatal fault or trap ends it.
 *
 * An upcall enters at `entry` on `stack` with the page's address in the first
 * argument register, the events in the second, the address of the slot that
 * holds the stopped context (0: none) in the third, and zero in all others.
 * Vector registers and the thread pointer are as the stopped context had them.
 *
 * Division of cores.  Until a space asks (REQUEST), dispatchers of all spaces
 * have their turns on the core that ATTACH named.  From then on cores are
 * divided equally between all spaces: none gets more than it wants, and what
 * is left is divided again.  A space that has not asked wants as many as it has
 * dispatchers on.  With more spaces than cores they have turns again.
 *   A core that another space is to have is *revoked*: its dispatchers get
 * REVOKE_SOON and the word REVOKING with a deadline.  A space gives the core
 * back by letting all its dispatchers there sleep; at the deadline it is taken.
 * Then the words are PREEMPTED, a stopped dispatcher gets PREEMPTED, and so does
 * one on a core that is left to the space: it finds in `grants` what is gone.
 * A dispatcher that was stopped goes on on such a core, in turns with those
 * there, until it sleeps or its own core comes back.  A core that comes, or
 * comes back, is told by GRANTED to the dispatchers that have it as their own,
 * or to any if there is none.  Where all dispatchers of a core sleep for a
 * while, it is lent to who wants it, and revoked when one of them wakes.
 */
#ifndef ACTIVATIONS_ABI_IMAGE_H
#define ACTIVATIONS_ABI_IMAGE_H

#include <activations/abi.h>

/* Where things are in a space.  Below USER_BEGIN is the kernel's. */
#define ACTIVATIONS_IMAGE_USER_BEGIN 0x1000000000ull /* modules begin here */
#define ACTIVATIONS_IMAGE_INFO 0x1100000000ull
#define ACTIVATIONS_IMAGE_CONTROL 0x1100010000ull
#define ACTIVATIONS_IMAGE_DISPATCHER 0x1100100000ull /* + i * PAGE_BYTES */
#define ACTIVATIONS_IMAGE_CHANNEL 0x1100200000ull    /* + i * PAGE_BYTES */
#define ACTIVATIONS_IMAGE_MEMORY 0x1200000000ull     /* for MAP */
/* From here on memory is zero until it is touched: the space maps it when it
 * faults there, and the kernel does so for a dispatcher that is disabled. */
#define ACTIVATIONS_IMAGE_LAZY 0x2000000000ull
#define ACTIVATIONS_IMAGE_USER_END 0x4000000000ull

#define ACTIVATIONS_IMAGE_PAGE_BYTES 4096ull
#define ACTIVATIONS_IMAGE_DISPATCHERS 16u
#define ACTIVATIONS_IMAGE_SAVE_SLOTS 4u
#define ACTIVATIONS_IMAGE_RESUME_RANGES 2u

/* Events of the image beside those of abi.h. */
#define ACTIVATIONS_EVENT_FAULT (1u << 8)    /* fault_address, fault_access */
#define ACTIVATIONS_EVENT_TRAP (1u << 9)     /* trap_code */
#define ACTIVATIONS_EVENT_MESSAGE (1u << 10) /* kicked, or a channel has news */
#define ACTIVATIONS_EVENT_DEVICE \
  (1u << 11) /* `devices`: interrupts that came */

/* Which cores are the space's.  W: kernel, all of it. */
#define ACTIVATIONS_IMAGE_GRANTS (ACTIVATIONS_IMAGE_INFO + 3136)

struct activations_image_grants {
  activations_word64 cores;  /* bit i: core i; 0 while there is no division */
  activations_word64 gained; /* cores granted since the start */
  activations_word64 lost;   /* cores revoked, given back, or lent */
  activations_word64 granted_ns; /* core time granted up to since_ns */
  activations_word64 since_ns;   /* when `cores` changed */
  activations_word64 wanted;     /* as asked for; 0: never asked */
};

/*
 * A channel: a page that two dispatchers, of any spaces, have in common, with
 * a ring of lines for each direction.  One writes the lines of a ring, the
 * other reads them.  Line n of a ring is written by storing the words, then
 * `epoch` = n / LINES + 1 (release); who reads line n waits for that epoch
 * (acquire).  Before line n + LINES is written, the writer waits until `read`
 * of the ring is n + 1 or more.  Who is going to sleep sets `sleeps` of the ring
 * it reads, then looks at the line once more; the writer takes it after the
 * epoch (both seq_cst), and calls NOTIFY if it was set.
 */
#define ACTIVATIONS_IMAGE_CHANNELS 16u
#define ACTIVATIONS_IMAGE_CHANNEL_LINES 31u

struct activations_channel_line {
  activations_u64 words[7];
  activations_word64 epoch;
};

struct activations_channel_ring {
  struct activations_channel_line lines[ACTIVATIONS_IMAGE_CHANNEL_LINES];
  activations_word64 read;   /* W: the reader; lines it is done with */
  activations_word64 sleeps; /* W: 1, the reader; 0, the writer */
  activations_u64 reserved[6];
};

/* Ring e is written by end e. */
struct activations_channel {
  struct activations_channel_ring rings[2];
};

/* What a fault wanted, and what MAP and PROTECT allow; a bit mask. */
#define ACTIVATIONS_ACCESS_READ 1u
#define ACTIVATIONS_ACCESS_WRITE 2u
#define ACTIVATIONS_ACCESS_EXECUTE 4u

/* A save slot: the general registers, as the target's frame.hpp lays them
 * out.  Vector registers are left in place: user code saves them. */
#define ACTIVATIONS_IMAGE_REGISTERS 36u

struct activations_save_slot {
  activations_u64 registers[ACTIVATIONS_IMAGE_REGISTERS];
};

struct activations_resume_range {
  activations_u64 begin;
  activations_u64 end; /* first address behind it */
};

/* Page i.  W: the space, unless the word says kernel.  The kernel reads each
 * word once, when it needs it, and checks it then. */
struct activations_dispatcher {
  activations_u64 entry; /* of upcalls */
  activations_u64 stack; /* of upcalls: its top, 16-byte aligned */
  struct activations_resume_range resume[ACTIVATIONS_IMAGE_RESUME_RANGES];
  activations_u64 thread_pointer; /* of the first upcall: TLS base */
  activations_u64 cookie;         /* the runtime's own object */
  /* The slot that a resume range is resuming: comes back as the third
   * argument of an upcall that finds the pc there. */
  activations_u64 resuming;
  /* W: kernel, before the upcall that tells of it. */
  activations_u32 index;
  activations_u32 core;
  activations_u64 fault_address;
  activations_u32 fault_access;
  activations_u32 trap_code;  /* the target's own number */
  activations_word64 devices; /* bits; taken by exchange 0 */
  /* W: kernel, once.  ns = (counter * multiplier >> 32) + base; counter is
   * what user code of the target reads: rdtsc, cntvct_el0, rdtime. */
  activations_u64 clock_multiplier;
  activations_u64 clock_base_ns;
  /* W: kernel, once: cores of the machine, and the command line's words for
   * this program. */
  activations_u32 cores;
  activations_u32 reserved;
  char arguments[128];
  activations_u64 last_entry; /* after a fatal fault or trap; 0: none */
  activations_u64 reserved1[7];
  struct activations_save_slot slots[ACTIVATIONS_IMAGE_SAVE_SLOTS];
  struct activations_save_slot stopped; /* W: kernel; by what was fatal */
};

/*
 * System calls: number and up to four arguments in registers, one result: a
 * value or a negative errno.  The registers of the first two arguments are
 * lost: a long call stores there how far it came.  Those of enum
 * activations_call keep their numbers
 *
 *   ATTACH(i, core)    makes dispatcher i on core; its page says where it
 *                      enters, with GRANTED and disabled
 *   PARK(deadline)     RELEASE(deadline): sleeps until WAKE, KICK, MESSAGE, or
 *                      TIMER at deadline ns (~0: never).  Returns the pending
 *                      events and clears them; at once if there are any.
 *                      RELEASE makes the processor's word IDLE meanwhile.
 *   REQUEST(n)         cores wanted, 0: no longer asks; returns those granted
 *                      now: see `grants`, and GRANTED for what is to come
 *   KICK(i)            upcall MESSAGE on dispatcher i; ends its sleep
 *   SLICE(i, ns)       upcall TIMER each ns while i runs; 0: off
 *   WAKE(i)            as KICK if i sleeps: 1; else 0
 *   DETACH()           this dispatcher is no more
 *
 * and the image has some of its own.
 */
enum activations_image_call {
  ACTIVATIONS_IMAGE_PRINT = 32, /* (text, bytes) to the console */
  ACTIVATIONS_IMAGE_EXIT = 33,  /* (status) ends the space */
  ACTIVATIONS_IMAGE_MAP = 34,   /* (address, bytes, access) zeroed memory */
  ACTIVATIONS_IMAGE_UNMAP = 35, /* (address, bytes) */
  ACTIVATIONS_IMAGE_ALIAS = 36, /* (address, of, bytes, access) a second view */
  /* (address, bytes, access); access 0: a guard, which nothing is mapped at
   * until UNMAP. */
  ACTIVATIONS_IMAGE_PROTECT = 37,
  ACTIVATIONS_IMAGE_RESUME = 38, /* (slot's address) where user mode cannot */
  ACTIVATIONS_IMAGE_LISTEN = 39, /* (device) its interrupts come here */
  ACTIVATIONS_IMAGE_DEVICE = 40, /* (device, operation, value) */
  /* (n, end) maps channel n at IMAGE_CHANNEL + n * PAGE_BYTES; the caller is
   * its end, 0 or 1.  EBUSY: another dispatcher is. */
  ACTIVATIONS_IMAGE_CHANNEL_CALL = 41,
  ACTIVATIONS_IMAGE_NULL = 42, /* nothing: its cost is a crossing's */
  /* (n, end) upcall MESSAGE on the other end, or the end of its sleep.
   * ENOTCONN: there is none, or none any more. */
  ACTIVATIONS_IMAGE_NOTIFY = 43
};

ACTIVATIONS_STATIC_ASSERT(sizeof(struct activations_dispatcher) <=
                              ACTIVATIONS_IMAGE_PAGE_BYTES,
                          "a dispatcher fits its page");
ACTIVATIONS_STATIC_ASSERT(sizeof(struct activations_channel) ==
                              ACTIVATIONS_IMAGE_PAGE_BYTES,
                          "a channel is a page");
ACTIVATIONS_STATIC_ASSERT(offsetof(struct activations_dispatcher, slots) % 64 ==
                              0,
                          "save slots begin on a cache line");

#endif /* ACTIVATIONS_ABI_IMAGE_H */
