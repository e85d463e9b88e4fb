/* SPDX-License-Identifier: BSL-1.0 */
/*
 * Where a stopped context's registers lie in memory on aarch64: the kernel of
 * the image writes them, resume.S reads them.  For the assembler the offsets,
 * for C++ the struct as well.
 */
#ifndef ACTIVATIONS_DETAIL_ARCH_AARCH64_SAVED_REGISTERS_H
#define ACTIVATIONS_DETAIL_ARCH_AARCH64_SAVED_REGISTERS_H

#define ACTIVATIONS_SAVED_SP 248
#define ACTIVATIONS_SAVED_PC 256
#define ACTIVATIONS_SAVED_PSTATE 264
#define ACTIVATIONS_SAVED_TRAMPOLINE 272
#define ACTIVATIONS_SAVED_GENERAL_BYTES 288

#define ACTIVATIONS_SAVED_FPCR 512
#define ACTIVATIONS_SAVED_FPSR 520
#define ACTIVATIONS_SAVED_VECTOR_BYTES 528

#ifndef __ASSEMBLER__

#include <cstddef>
#include <cstdint>

namespace activations::detail::arch {

/* What a kernel saves: all that an interrupt finds and general code uses. */
struct saved_general {
  std::uint64_t x[31];
  std::uint64_t sp;
  std::uint64_t pc;
  std::uint64_t pstate; /* as SPSR_EL1; only NZCV is restored in user mode */
  /* Not a register: where resume.S jumps to.  Written by trampolines.hpp
   * before each resume, ignored by kernels. */
  std::uint64_t trampoline;
  std::uint64_t reserved;
};

/* Saved by user code only. */
struct saved_vector {
  alignas(16) unsigned char v[32][16];
  std::uint64_t fpcr;
  std::uint64_t fpsr;
};

static_assert(offsetof(saved_general, sp) == ACTIVATIONS_SAVED_SP);
static_assert(offsetof(saved_general, pc) == ACTIVATIONS_SAVED_PC);
static_assert(offsetof(saved_general, pstate) == ACTIVATIONS_SAVED_PSTATE);
static_assert(offsetof(saved_general, trampoline) ==
              ACTIVATIONS_SAVED_TRAMPOLINE);
static_assert(sizeof(saved_general) == ACTIVATIONS_SAVED_GENERAL_BYTES);
static_assert(offsetof(saved_vector, fpcr) == ACTIVATIONS_SAVED_FPCR);
static_assert(offsetof(saved_vector, fpsr) == ACTIVATIONS_SAVED_FPSR);
static_assert(sizeof(saved_vector) == ACTIVATIONS_SAVED_VECTOR_BYTES);

}  // namespace activations::detail::arch

#endif /* __ASSEMBLER__ */

#endif /* ACTIVATIONS_DETAIL_ARCH_AARCH64_SAVED_REGISTERS_H */
