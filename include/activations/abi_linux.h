/* SPDX-License-Identifier: (GPL-2.0 WITH Linux-syscall-note) OR BSL-1.0 */
/*
 * How the calls of abi.h are made on Linux: ioctls on /dev/activations.  One
 * open file is one space, and belongs to the process that made the OPEN call;
 * others get EPERM.  The areas are mapped from the file at the offsets below,
 * info without write permission; a forked child does not inherit them.
 *
 * Park stub.  A thread that the module stops in user mode is made to execute
 * the code at activations_open.park_stub, which must begin with a bare
 * `syscall` instruction: it then asks llseek of the device (result 64 bits
 * wide) with rsi = the address that ATTACH gave.  llseek sleeps until the
 * thread is switched to and returns to where it was stopped, every register as
 * it was.  It is refused anywhere but in the stub (ESPIPE).
 *
 * If it returns to the stub after all, because the file was closed or a filter
 * refused the call, what follows the `syscall` restores the thread from
 * its struct activations_registers at rsi, and the thread goes on as an ordinary
 * one.  The kernel counts that and does not stop it again.
 */
#ifndef ACTIVATIONS_ABI_LINUX_H
#define ACTIVATIONS_ABI_LINUX_H

#ifdef __KERNEL__
#include <linux/ioctl.h>
#else
#include <sys/ioctl.h>
#endif

#include <activations/abi.h>

#define ACTIVATIONS_DEVICE_PATH "/dev/activations"

/* Offsets for mmap, in bytes. */
#define ACTIVATIONS_MMAP_INFO 0ull
#define ACTIVATIONS_MMAP_CONTROL (1ull << 32)

struct activations_attach {
  activations_u32 index;     /* of the activation to become */
  activations_u32 processor; /* offline one to own; INDEX_NONE: none */
  activations_u64 registers; /* where this process maps its registers */
};

struct activations_slice {
  activations_u32 processor;
  activations_u32 reserved;
  activations_u64 ns; /* 0 = off; else at least 100,000 */
};

#define ACTIVATIONS_IOCTL_TYPE 0xAC

#define ACTIVATIONS_IOCTL_OPEN \
  _IOWR(ACTIVATIONS_IOCTL_TYPE, ACTIVATIONS_CALL_OPEN, struct activations_open)
#define ACTIVATIONS_IOCTL_ATTACH                        \
  _IOW(ACTIVATIONS_IOCTL_TYPE, ACTIVATIONS_CALL_ATTACH, \
       struct activations_attach)
#define ACTIVATIONS_IOCTL_PARK \
  _IO(ACTIVATIONS_IOCTL_TYPE, ACTIVATIONS_CALL_PARK)
/* Argument: the value itself. */
#define ACTIVATIONS_IOCTL_SWITCH_TO \
  _IO(ACTIVATIONS_IOCTL_TYPE, ACTIVATIONS_CALL_SWITCH_TO)
#define ACTIVATIONS_IOCTL_REQUEST \
  _IO(ACTIVATIONS_IOCTL_TYPE, ACTIVATIONS_CALL_REQUEST)
#define ACTIVATIONS_IOCTL_RELEASE \
  _IO(ACTIVATIONS_IOCTL_TYPE, ACTIVATIONS_CALL_RELEASE)
#define ACTIVATIONS_IOCTL_KICK \
  _IO(ACTIVATIONS_IOCTL_TYPE, ACTIVATIONS_CALL_KICK)
#define ACTIVATIONS_IOCTL_SLICE \
  _IOW(ACTIVATIONS_IOCTL_TYPE, ACTIVATIONS_CALL_SLICE, struct activations_slice)
#define ACTIVATIONS_IOCTL_STATS \
  _IOR(ACTIVATIONS_IOCTL_TYPE, ACTIVATIONS_CALL_STATS, struct activations_stats)
#define ACTIVATIONS_IOCTL_WAKE \
  _IO(ACTIVATIONS_IOCTL_TYPE, ACTIVATIONS_CALL_WAKE)
#define ACTIVATIONS_IOCTL_STOP \
  _IO(ACTIVATIONS_IOCTL_TYPE, ACTIVATIONS_CALL_STOP)
#define ACTIVATIONS_IOCTL_TIMER \
  _IO(ACTIVATIONS_IOCTL_TYPE, ACTIVATIONS_CALL_TIMER)
#define ACTIVATIONS_IOCTL_END _IO(ACTIVATIONS_IOCTL_TYPE, ACTIVATIONS_CALL_END)
#define ACTIVATIONS_IOCTL_DETACH \
  _IO(ACTIVATIONS_IOCTL_TYPE, ACTIVATIONS_CALL_DETACH)

ACTIVATIONS_STATIC_ASSERT(sizeof(struct activations_attach) == 16,
                          "the attach argument has no padding");
ACTIVATIONS_STATIC_ASSERT(sizeof(struct activations_slice) == 16,
                          "the slice argument has no padding");

#endif /* ACTIVATIONS_ABI_LINUX_H */
