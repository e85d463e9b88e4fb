// SPDX-License-Identifier: BSL-1.0
//
// The resume sequences of aarch64 and riscv64 under an emulator: random
// contexts are resumed at random places, which compare every register.
#include <gtest/gtest.h>
#include <sys/mman.h>

#include <cstdint>
#include <cstdio>
#include <cstring>
#include <random>

#if defined(__aarch64__)
#include <activations/detail/arch/aarch64/resume.hpp>
#else
#include <activations/detail/arch/riscv64/resume.hpp>
#endif

namespace arch = activations::detail::arch;

using resume_function = void (*)(arch::saved_general*,
                                 arch::saved_vector const*, void*);

extern "C" {
int start_resume(arch::saved_general*, arch::saved_vector const*, void* control,
                 void (*)());
extern unsigned char const landing_places[];
extern arch::saved_general landed;
extern arch::saved_vector landed_vector;
void resume_by_register();
}

namespace {

constexpr int rounds = 20'000;
constexpr std::size_t landing_bytes = 12;
constexpr std::uint64_t landing_count = 1024;

struct control_words {
  std::uint32_t disabled;
  std::uint32_t pending;
};

alignas(16) unsigned char stack_area[1 << 16];
std::mt19937_64 random_bits(20'220'601);

struct context {
  arch::saved_general general;
  arch::saved_vector vector;
};

std::uint64_t random_landing() {
  return reinterpret_cast<std::uint64_t>(landing_places) +
         random_bits() % landing_count * landing_bytes;
}

// Room on both sides; as aligned as the processor demands.
std::uint64_t random_stack() {
  return reinterpret_cast<std::uint64_t>(stack_area) + 1024 +
         random_bits() % 2048 * 16;
}

#if defined(__aarch64__)
constexpr std::uint64_t flag_bits = 0xf0000000;

context random_context() {
  context made{};
  for (auto& x : made.general.x) x = random_bits();
  made.general.sp = random_stack();
  made.general.pc = random_landing();
  made.general.pstate = random_bits() & flag_bits;
  for (auto& v : made.vector.v) {
    for (auto& byte : v) byte = static_cast<unsigned char>(random_bits());
  }
  made.vector.fpcr = random_bits() & 0x03c00000;  // rounding, FZ, DN
  made.vector.fpsr = random_bits() & 0x0800009f;
  return made;
}

// Registers that differ, x17 counted apart.
struct difference {
  int x17 = 0;
  int others = 0;
};

difference compare(context const& wanted) {
  difference found;
  for (int i = 0; i < 31; ++i) {
    (i == 17 ? found.x17 : found.others) += landed.x[i] != wanted.general.x[i];
  }
  found.others += landed.sp != wanted.general.sp;
  found.others += landed.pc != wanted.general.pc;
  found.others += landed.pstate != wanted.general.pstate;
  found.others +=
      std::memcmp(&landed_vector, &wanted.vector, sizeof wanted.vector) != 0;
  return found;
}

// One mapping, writable and executable: qemu-user 7.2 ignores `ic ivau` for
// code that was written through another address.
arch::trampolines& code() {
  alignas(65536) static unsigned char area[65536];
  static arch::trampolines made = [] {
    if (mprotect(area, sizeof area, PROT_READ | PROT_WRITE | PROT_EXEC) != 0) {
      std::perror("mprotect");
      std::exit(1);
    }
    return arch::trampolines(area, area, sizeof area, 4);
  }();
  return made;
}

template <class Function>
int start(context& from, control_words& control, Function function) {
  return start_resume(&from.general, &from.vector, &control,
                      reinterpret_cast<void (*)()>(function));
}

TEST(AArch64Resume, TheOwnTrampolineRestoresEveryRegister) {
  for (int i = 0; i < rounds; ++i) {
    auto from = random_context();
    control_words control{1, 0};
    ASSERT_TRUE(code().prepare_own(i % 4, from.general));
    ASSERT_TRUE(start(from, control, &activations_resume_own) == 1);
    auto const found = compare(from);
    ASSERT_TRUE(found.x17 == 0);
    ASSERT_TRUE(found.others == 0);
    ASSERT_TRUE(control.disabled == 0);
  }
}

TEST(AArch64Resume, TheSharedTrampolineRestoresEveryRegister) {
  for (int i = 0; i < rounds; ++i) {
    auto from = random_context();
    control_words control{1, 0};
    ASSERT_TRUE(code().prepare_shared(from.general));
    ASSERT_TRUE(start(from, control, &activations_resume_shared) == 1);
    auto const found = compare(from);
    ASSERT_TRUE(found.x17 == 0);
    ASSERT_TRUE(found.others == 0);
  }
}

// The control: the comparison sees the one register that a plain branch costs.
TEST(AArch64Resume, ABranchThroughARegisterLosesThatRegister) {
  for (int i = 0; i < 1000; ++i) {
    auto from = random_context();
    control_words control{1, 0};
    ASSERT_TRUE(start(from, control, &resume_by_register) == 1);
    ASSERT_TRUE(compare(from).x17 == 1);
    ASSERT_TRUE(landed.x[17] == from.general.pc);
  }
}

TEST(AArch64Resume, AnUnchangedPlaceNeedsNoNewCode) {
  auto from = random_context();
  ASSERT_TRUE(code().prepare_own(0, from.general));
  ASSERT_TRUE(code().prepare_shared(from.general));
  auto const rewrites = code().rewrites();
  from.general.x[17] = random_bits();
  ASSERT_TRUE(code().prepare_own(0, from.general));
  ASSERT_TRUE(code().prepare_shared(from.general));
  ASSERT_TRUE(code().rewrites() == rewrites);
  control_words control{1, 0};
  ASSERT_TRUE(start(from, control, &activations_resume_shared) == 1);
  ASSERT_TRUE(compare(from).x17 == 0);
}

TEST(AArch64Resume, APlaceOutOfReachIsRefused) {
  auto from = random_context();
  constexpr std::uint64_t reach = std::uint64_t{1} << 27;
  for (auto const pc : {code().end() + reach, code().begin() - reach - 16,
                        code().begin() + 2}) {
    from.general.pc = pc;
    ASSERT_TRUE(!code().prepare_own(0, from.general));
    ASSERT_TRUE(!code().prepare_shared(from.general));
  }
}
#else
context random_context() {
  context made{};
  for (auto& x : made.general.x) x = random_bits();
  made.general.pc = random_landing();
  made.general.x[1] = random_stack();
  std::uint64_t gp, tp;
  asm("mv %0, gp" : "=r"(gp));
  asm("mv %0, tp" : "=r"(tp));
  made.general.x[2] = gp;
  made.general.x[3] = tp;
  for (auto& f : made.vector.f) f = random_bits();
  made.vector.fcsr = random_bits() % 5 << 5 | (random_bits() & 31);
  return made;
}

int compare(context const& wanted) {
  int different = landed.pc != wanted.general.pc;
  for (int i = 0; i < 31; ++i) different += landed.x[i] != wanted.general.x[i];
  different +=
      std::memcmp(&landed_vector, &wanted.vector, sizeof wanted.vector) != 0;
  return different;
}

template <class Function>
int start(context& from, control_words& control, Function function) {
  return start_resume(&from.general, &from.vector, &control,
                      reinterpret_cast<void (*)()>(function));
}

TEST(Riscv64Resume, RestoresEveryRegister) {
  for (int i = 0; i < rounds; ++i) {
    auto from = random_context();
    control_words control{1, 0};
    ASSERT_TRUE(start(from, control, &activations_resume) == 1);
    ASSERT_TRUE(compare(from) == 0);
    ASSERT_TRUE(control.disabled == 0);
  }
}

// The control: with another value in gp, the comparison sees it.
TEST(Riscv64Resume, LeavesItsOwnAddressInGp) {
  auto from = random_context();
  from.general.x[2] += 4;
  control_words control{1, 0};
  ASSERT_TRUE(start(from, control, &activations_resume) == 1);
  ASSERT_TRUE(compare(from) == 1);
}
#endif

// What came while upcalls were disabled is not lost by enabling them.
TEST(Resume, ReturnsDisabledWhenAnEventIsPending) {
  auto from = random_context();
  auto const before = from;
  control_words control{1, 4};
#if defined(__aarch64__)
  ASSERT_TRUE(code().prepare_own(0, from.general));
  from.general.trampoline = 0;
  ASSERT_TRUE(start(from, control, &activations_resume_own) == 0);
  ASSERT_TRUE(start(from, control, &activations_resume_shared) == 0);
#else
  ASSERT_TRUE(start(from, control, &activations_resume) == 0);
#endif
  ASSERT_TRUE(control.disabled == 1);
  ASSERT_TRUE(control.pending == 4);
  ASSERT_TRUE(std::memcmp(&from, &before, sizeof from) == 0);
}

}  // namespace
