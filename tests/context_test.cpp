// SPDX-License-Identifier: BSL-1.0
//
// Built for x86-64 with GoogleTest, and by tests/arch for aarch64 and riscv64
// with the stand-in there.
#include <activations/detail/context.hpp>
#include <activations/detail/exception_state.hpp>

#include "arch/marked_registers.hpp"

#include <alloca.h>
#include <gtest/gtest.h>
#include <unwind.h>

#include <cfenv>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <exception>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

namespace {

using namespace activations::detail;

constexpr std::size_t stack_bytes = 256 * 1024;

// A context that runs a callable, and the context that drives it.
class coroutine {
 public:
  explicit coroutine(std::function<void(coroutine&)> body)
      : stack_(new std::byte[stack_bytes]), body_(std::move(body)) {
    context_make(inside_, stack_.get(), stack_bytes, &run, this);
  }
  ~coroutine() { context_finish(inside_); }

  // Runs the body until it suspends or ends; false once it has ended.
  bool resume() {
    context outside;
    context_init_native(outside);
    return resume_from(outside);
  }
  bool resume_from(context& outside) {
    outside_ = &outside;
    context_switch(outside, inside_);
    return !ended_;
  }
  void suspend() { context_switch(inside_, *outside_); }

  [[nodiscard]] bool owns(void const* address) const {
    auto const* const at = static_cast<std::byte const*>(address);
    return at >= stack_.get() && at < stack_.get() + stack_bytes;
  }
  [[nodiscard]] void* handle() const { return inside_.sp; }

 private:
  [[noreturn]] static void run(void* argument) {
    auto& self = *static_cast<coroutine*>(argument);
    context_enter(self.inside_);
    self.body_(self);
    self.ended_ = true;
    context_switch_final(self.inside_, *self.outside_);
  }

  std::unique_ptr<std::byte[]> stack_;
  std::function<void(coroutine&)> body_;
  context inside_;
  context* outside_ = nullptr;
  bool ended_ = false;
};

TEST(Context, EntryRunsOnTheGivenStack) {
  void* frame = nullptr;
  coroutine c([&](coroutine&) { frame = __builtin_frame_address(0); });
  EXPECT_FALSE(c.resume());
  EXPECT_TRUE(c.owns(frame));
}

TEST(Context, HandleOfASuspendedContextLiesOnItsStack) {
  coroutine c([](coroutine& self) { self.suspend(); });
  EXPECT_TRUE(c.resume());
  EXPECT_TRUE(c.owns(c.handle()));
  EXPECT_TRUE(c.owns(arch::context_stack_pointer(c.handle())));
  EXPECT_FALSE(c.resume());
}

// 16 bytes at a call on all three architectures; the top may be any address.
TEST(Context, EntryHasAnAlignedStackWhateverTheTop) {
  for (std::size_t cut = 0; cut < 64; ++cut) {
    alignas(64) static std::byte memory[64 * 1024];
    static context outside;
    static context inside;
    static std::uintptr_t address;
    context_init_native(outside);
    context_make(
        inside, memory, sizeof memory - cut,
        [](void*) {
          context_enter(inside);
          alignas(16) volatile char aligned[16] = {};
          address = reinterpret_cast<std::uintptr_t>(&aligned[0]);
          context_switch_final(inside, outside);
        },
        nullptr);
    context_switch(outside, inside);
    context_finish(inside);
    EXPECT_EQ(address % 16, 0u);
  }
}

void suspend_with_other_values(void* argument) {
  overwrite_registers();
  static_cast<coroutine*>(argument)->resume();
}

TEST(Context, KeepsAllCallSavedRegisters) {
  coroutine c([](coroutine& self) {
    for (;;) {
      overwrite_registers();
      self.suspend();
    }
  });
  for (int i = 0; i < 3; ++i)
    EXPECT_EQ(call_with_marked_registers(&suspend_with_other_values, &c), 0u);
}

// Inlined switches, so the compiler must spill what it holds in any register.
TEST(Context, LiveValuesOfEveryKindSurvive) {
  coroutine other([](coroutine& self) {
    for (;;) {
      overwrite_registers();
      self.suspend();
    }
  });
  context outside;
  context_init_native(outside);
  std::uint64_t a = 1, b = 2, c = 3, d = 5, e = 7, f = 11, g = 13, h = 17;
  double x = 1, y = 2, z = 4;
  long double w = 1;
  typedef float vector_type __attribute__((vector_size(16)));
  vector_type v = {1, 2, 3, 4};
  for (int i = 0; i < 1000; ++i) {
    other.resume_from(outside);
    a += b, b ^= c, c += d, d ^= e, e += f, f ^= g, g += h, h += a;
    x += y, y = z - x, z += 0.5, w += 0.25L;
    v += vector_type{1, 1, 1, 1};
    other.resume_from(outside);
  }
  std::uint64_t a2 = 1, b2 = 2, c2 = 3, d2 = 5, e2 = 7, f2 = 11, g2 = 13,
                h2 = 17;
  double x2 = 1, y2 = 2, z2 = 4;
  for (int i = 0; i < 1000; ++i) {
    a2 += b2, b2 ^= c2, c2 += d2, d2 ^= e2, e2 += f2, f2 ^= g2, g2 += h2,
        h2 += a2;
    x2 += y2, y2 = z2 - x2, z2 += 0.5;
  }
  EXPECT_EQ(a ^ b ^ c ^ d ^ e ^ f ^ g ^ h,
            a2 ^ b2 ^ c2 ^ d2 ^ e2 ^ f2 ^ g2 ^ h2);
  EXPECT_EQ(x + y + z, x2 + y2 + z2);
  EXPECT_EQ(w, 251.0L);
  EXPECT_EQ(v[0] + v[3], 2005.0f);
}

// Clang addresses the locals of such a function through a base register.
[[gnu::noinline]] std::size_t variable_and_aligned(coroutine& other,
                                                   context& outside,
                                                   std::size_t count) {
  alignas(128) volatile unsigned char fixed[128];
  auto* const variable = static_cast<unsigned char*>(alloca(count));
  std::memset(variable, 3, count);
  for (auto& each : fixed) each = 4;
  other.resume_from(outside);
  std::size_t sum = 0;
  for (std::size_t i = 0; i < count; ++i) sum += variable[i];
  for (auto const& each : fixed) sum += each;
  return sum + reinterpret_cast<std::uintptr_t>(&fixed[0]) % 128;
}

TEST(Context, WorksBesideAllocaAndOverAlignedLocals) {
  coroutine other([](coroutine& self) {
    for (;;) {
      overwrite_registers();
      self.suspend();
    }
  });
  context outside;
  context_init_native(outside);
  for (std::size_t count : {1u, 100u, 1000u})
    EXPECT_EQ(variable_and_aligned(other, outside, count), 3 * count + 512);
}

// Small leaf functions keep locals below the stack pointer on x86-64.
[[gnu::noinline]] std::uint64_t leaf(context& from, context& to,
                                     std::uint64_t seed) {
  volatile std::uint64_t red[12];
  for (std::uint64_t i = 0; i < 12; ++i) red[i] = seed * i;
  context_switch(from, to);
  std::uint64_t sum = 0;
  for (auto const& each : red) sum += each;
  return sum;
}

TEST(Context, LeavesTheRedZoneAlone) {
  static context outside;
  static context inside;
  auto const memory = std::make_unique<std::byte[]>(stack_bytes);
  context_init_native(outside);
  context_make(
      inside, memory.get(), stack_bytes,
      [](void*) {
        context_enter(inside);
        for (std::uint64_t i = 1;; ++i)
          if (leaf(inside, outside, i) != 66 * i) __builtin_trap();
      },
      nullptr);
  for (std::uint64_t i = 1; i < 1000; ++i)
    EXPECT_EQ(leaf(outside, inside, i), 66 * i);
  context_finish(inside);
}

double divide(double a, double b) {
  volatile double x = a;
  volatile double y = b;
  return x / y;
}

TEST(Context, EachKeepsItsFloatingPointControl) {
  double const nearest = divide(1, 3);
  std::fesetround(FE_TONEAREST);
  coroutine inheritor(
      [&](coroutine&) { EXPECT_EQ(std::fegetround(), FE_TONEAREST); });
  std::fesetround(FE_UPWARD);
  coroutine upward([&](coroutine& self) {
    EXPECT_EQ(std::fegetround(), FE_UPWARD);  // its maker's
    std::fesetround(FE_DOWNWARD);
    for (int i = 0; i < 3; ++i) {
      self.suspend();
      EXPECT_EQ(std::fegetround(), FE_DOWNWARD);
      EXPECT_EQ(divide(1, 3), nearest);
    }
  });
  for (int i = 0; i < 4; ++i) {
    upward.resume();
    EXPECT_EQ(std::fegetround(), FE_UPWARD);
    EXPECT_GT(divide(1, 3), nearest);
  }
  inheritor.resume();
  EXPECT_EQ(std::fegetround(), FE_UPWARD);
  std::fesetround(FE_TONEAREST);
}

#if defined(__x86_64__)
TEST(Context, EachKeepsItsX87PrecisionAndFlushToZero) {
  auto const x87_control = [] {
    std::uint16_t value;
    asm volatile("fnstcw %0" : "=m"(value));
    return value;
  };
  auto const original = x87_control();
  auto const original_mxcsr = _mm_getcsr();
  coroutine c([&](coroutine& self) {
    std::uint16_t const single = original & ~0x300;
    asm volatile("fldcw %0" : : "m"(single));
    _mm_setcsr(original_mxcsr | 0x8000);
    self.suspend();
    EXPECT_EQ(x87_control(), single);
    EXPECT_EQ(_mm_getcsr() & 0x8000, 0x8000u);
  });
  c.resume();
  EXPECT_EQ(x87_control(), original);
  EXPECT_EQ(_mm_getcsr() & 0x8000, original_mxcsr & 0x8000);
  EXPECT_FALSE(c.resume());
}
#endif

TEST(Context, ThousandContextsTakeTurnsManyTimes) {
  constexpr int count = 1000;
  constexpr int rounds = 100;
  std::vector<std::unique_ptr<coroutine>> all;
  std::vector<int> sums(count);
  for (int i = 0; i < count; ++i)
    all.push_back(std::make_unique<coroutine>([&sums, i](coroutine& self) {
      for (int round = 0; round < rounds; ++round) {
        sums[static_cast<std::size_t>(i)] += i;
        self.suspend();
      }
    }));
  context outside;
  context_init_native(outside);
  for (int round = 0; round < rounds; ++round)
    for (auto& each : all) EXPECT_TRUE(each->resume_from(outside));
  for (auto& each : all) EXPECT_FALSE(each->resume_from(outside));
  for (int i = 0; i < count; ++i)
    EXPECT_EQ(sums[static_cast<std::size_t>(i)], i * rounds);
}

TEST(Context, ContinuesOnAnotherKernelThread) {
  std::vector<std::thread::id> seen;
  coroutine c([&](coroutine& self) {
    for (int i = 0; i < 3; ++i) {
      // Not inlined: the compiler must not keep a thread's address across.
      [&]() __attribute__((noinline)) {
        seen.push_back(std::this_thread::get_id());
      }
      ();
      self.suspend();
    }
  });
  c.resume();
  std::thread([&] { c.resume(); }).join();
  c.resume();
  EXPECT_FALSE(c.resume());
  ASSERT_EQ(seen.size(), 3u);
  EXPECT_EQ(seen[0], std::this_thread::get_id());
  EXPECT_NE(seen[1], std::this_thread::get_id());
  EXPECT_EQ(seen[2], std::this_thread::get_id());
}

TEST(Context, ExceptionIsCaughtInsideIt) {
  std::string caught;
  coroutine c([&](coroutine& self) {
    try {
      self.suspend();
      throw std::runtime_error("inside");
    } catch (std::exception const& error) {
      caught = error.what();
    }
  });
  c.resume();
  EXPECT_FALSE(c.resume());
  EXPECT_EQ(caught, "inside");
}

TEST(Context, BackTraceEndsAtItsEntry) {
  struct walk {
    coroutine* c;
    int frames;
    int elsewhere;
  } seen{};
  auto const look = [](_Unwind_Context* frame, void* argument) {
    auto& w = *static_cast<walk*>(argument);
    ++w.frames;
    // The outermost frame's address is the end of the stack at most.
    auto const address = static_cast<std::uintptr_t>(_Unwind_GetCFA(frame));
    w.elsewhere += !w.c->owns(reinterpret_cast<void*>(address - 1));
    return w.frames < 100 ? _URC_NO_REASON : _URC_NORMAL_STOP;
  };
  coroutine c([&](coroutine& self) {
    self.suspend();
    _Unwind_Backtrace(look, &seen);
  });
  seen.c = &c;
  c.resume();
  c.resume();
  EXPECT_GE(seen.frames, 1);
  EXPECT_LT(seen.frames, 30);
  EXPECT_EQ(seen.elsewhere, 0);
}

TEST(ContextDeathTest, ExceptionThatLeavesTheEntryTerminates) {
  EXPECT_DEATH(
      {
        coroutine c([](coroutine&) { throw std::runtime_error("lost"); });
        c.resume();
      },
      "terminate called");
}

// Two contexts inside `catch` at once, taking turns on one kernel thread.
TEST(ExceptionState, WaitingInsideCatchKeepsTheException) {
  std::vector<std::string> caught;
  auto const body = [&](char const* name) {
    return [&caught, name](coroutine& self) {
      exception_state mine;
      auto const suspend = [&] {
        mine.save(*current_exception_globals());
        self.suspend();
        mine.restore(*current_exception_globals());
      };
      try {
        throw std::runtime_error(name);
      } catch (...) {
        suspend();
        try {
          throw;
        } catch (std::exception const& again) {
          suspend();
          caught.push_back(again.what());
        }
      }
      struct waits {
        decltype(suspend)& wait;
        ~waits() {
          EXPECT_EQ(std::uncaught_exceptions(), 1);
          wait();
          EXPECT_EQ(std::uncaught_exceptions(), 1);
        }
      };
      try {
        waits const unwinding{suspend};
        throw 1;
      } catch (int) {
        EXPECT_EQ(std::uncaught_exceptions(), 0);
      }
    };
  };
  coroutine one(body("one"));
  coroutine two(body("two"));
  exception_state mine;
  for (int turn = 0; turn < 4; ++turn)
    for (auto* each : {&one, &two}) {
      mine.save(*current_exception_globals());
      each->resume();
      mine.restore(*current_exception_globals());
      EXPECT_EQ(std::current_exception(), nullptr);
      EXPECT_EQ(std::uncaught_exceptions(), 0);
    }
  ASSERT_EQ(caught.size(), 2u);
  EXPECT_EQ(caught[0], "one");
  EXPECT_EQ(caught[1], "two");
}

#if ACTIVATIONS_ASAN
// The sanitizer must know where it is after a switch.
TEST(ContextDeathTest, AddressSanitizerSeesAnOverflowInsideAContext) {
  EXPECT_DEATH(
      {
        coroutine c([](coroutine& self) {
          char array[8];
          char* volatile end = array + 8;  // hides the bound from UBSan
          self.suspend();
          *end = 1;
          asm volatile("" : : "r"(array) : "memory");
        });
        c.resume();
        c.resume();
      },
      "stack-buffer-overflow");
}
#endif

}  // namespace
