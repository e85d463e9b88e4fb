/* SPDX-License-Identifier: BSL-1.0 */
/*
 * Where a stopped context's registers lie in memory on riscv64: the kernel of
 * the image writes them, resume.S reads them.  For the assembler the offsets,
 * for C++ the struct as well.
 */
#ifndef ACTIVATIONS_DETAIL_ARCH_RISCV64_SAVED_REGISTERS_H
#define ACTIVATIONS_DETAIL_ARCH_RISCV64_SAVED_REGISTERS_H

#define ACTIVATIONS_SAVED_PC 0
#define ACTIVATIONS_SAVED_X(n) (8 * (n)) /* n from 1 */
#define ACTIVATIONS_SAVED_GENERAL_BYTES 256

#define ACTIVATIONS_SAVED_F(n) (8 * (n))
#define ACTIVATIONS_SAVED_FCSR 256
#define ACTIVATIONS_SAVED_VECTOR_BYTES 264

#ifndef __ASSEMBLER__

#include <cstddef>
#include <cstdint>

namespace activations::detail::arch {

/* What a kernel saves: all that an interrupt finds and general code uses. */
struct saved_general {
  std::uint64_t pc;    /* in the place of x0, which is always zero */
  std::uint64_t x[31]; /* x1 to x31 */
};

/* Saved by user code only. */
struct saved_vector {
  std::uint64_t f[32];
  std::uint64_t fcsr;
};

static_assert(offsetof(saved_general, pc) == ACTIVATIONS_SAVED_PC);
static_assert(offsetof(saved_general, x) == ACTIVATIONS_SAVED_X(1));
static_assert(sizeof(saved_general) == ACTIVATIONS_SAVED_GENERAL_BYTES);
static_assert(offsetof(saved_vector, f) == ACTIVATIONS_SAVED_F(0));
static_assert(offsetof(saved_vector, fcsr) == ACTIVATIONS_SAVED_FCSR);
static_assert(sizeof(saved_vector) == ACTIVATIONS_SAVED_VECTOR_BYTES);

}  // namespace activations::detail::arch

#endif /* __ASSEMBLER__ */

#endif /* ACTIVATIONS_DETAIL_ARCH_RISCV64_SAVED_REGISTERS_H */
