// SPDX-License-Identifier: BSL-1.0
//
// The general registers of user mode, as entry.S stores them and as a save
// slot holds them.  The last five are what the processor itself pushes and
// iretq takes.
#pragma once

#define FRAME_R15 0
#define FRAME_R14 8
#define FRAME_R13 16
#define FRAME_R12 24
#define FRAME_RBP 32
#define FRAME_RBX 40
#define FRAME_R11 48
#define FRAME_R10 56
#define FRAME_R9 64
#define FRAME_R8 72
#define FRAME_RAX 80
#define FRAME_RCX 88
#define FRAME_RDX 96
#define FRAME_RSI 104
#define FRAME_RDI 112
#define FRAME_VECTOR 120
#define FRAME_ERROR 128
#define FRAME_RIP 136
#define FRAME_CS 144
#define FRAME_RFLAGS 152
#define FRAME_RSP 160
#define FRAME_SS 168
#define FRAME_BYTES 176

#define USER_DATA_SELECTOR 0x1b
#define USER_CODE_SELECTOR 0x23

#ifndef __ASSEMBLER__
#include <cstddef>
#include <cstdint>

namespace machine {

struct frame {
  using u64 = std::uint64_t;

  u64 r15, r14, r13, r12, rbp, rbx, r11, r10, r9, r8, rax, rcx, rdx, rsi, rdi;
  u64 vector, error;
  u64 rip, cs, rflags, rsp, ss;

  [[nodiscard]] u64 pc() const { return rip; }
  [[nodiscard]] u64 sp() const { return rsp; }
  [[nodiscard]] u64 call_number() const { return rax; }
  [[nodiscard]] u64 call_argument(unsigned i) const {
    return i == 0 ? rdi : i == 1 ? rsi : i == 2 ? rdx : r10;
  }
  void set_result(u64 value) { rax = value; }

  // The call is made again, with other arguments 0 and 1.
  void reissue_call(u64 first, u64 second) {
    rip -= 2;
    rdi = first;
    rsi = second;
  }

  static frame upcall(u64 entry, u64 stack, u64 page, u64 events, u64 slot,
                      u64 /*thread_pointer*/) {
    frame f{};
    f.rip = entry;
    f.rsp = stack;
    f.rdi = page;
    f.rsi = events;
    f.rdx = slot;
    f.rflags = 0x202;
    f.sanitize();
    return f;
  }

  // A frame from user memory: user mode, interrupts on, and of the flags those
  // that user code may change anyhow.  A pc that iretq would refuse in the
  // kernel becomes 0, which faults in user mode.
  void sanitize() {
    constexpr u64 arithmetic = 0xcd5;  // CF PF AF ZF SF DF OF
    constexpr u64 checks = 0x240100;   // AC ID TF
    rflags = (rflags & (arithmetic | checks)) | 0x202;
    cs = USER_CODE_SELECTOR;
    ss = USER_DATA_SELECTOR;
    if (rip >> 46 != 0) rip = 0;
  }
};
static_assert(sizeof(frame) == FRAME_BYTES);
static_assert(offsetof(frame, rdi) == FRAME_RDI);
static_assert(offsetof(frame, rip) == FRAME_RIP);
static_assert(offsetof(frame, ss) == FRAME_SS);

}  // namespace machine
#endif
