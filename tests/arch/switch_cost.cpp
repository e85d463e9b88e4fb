// SPDX-License-Identifier: BSL-1.0
//
// What a stack switch and a cached stack cost, in ns: median of 301 passes,
// the candidates taking turns. With Boost.Context beside them where it is
// installed. Not a test: cmake --build BUILD --target switch_cost, then run.
#include <activations/detail/context.hpp>
#include <activations/detail/stack.hpp>

#if __has_include(<boost/context/detail/fcontext.hpp>) && defined(WITH_BOOST)
#include <boost/context/detail/fcontext.hpp>
#define HAVE_BOOST 1
#else
#define HAVE_BOOST 0
#endif

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <vector>

namespace {

using namespace activations::detail;

constexpr int repetitions = 20'000;
constexpr int pass_count = 301;  // short ones, so that most are undisturbed

stack_pool pool;
stack_cache cache;
context outside;
context inside;

// ns of one of `per_repetition` operations, `body` doing all of them.
template <class Body>
double time_of(int per_repetition, Body body) {
  auto const start = std::chrono::steady_clock::now();
  body();
  std::chrono::duration<double, std::nano> const spent =
      std::chrono::steady_clock::now() - start;
  return spent.count() / repetitions / per_repetition;
}

double one_switch() {
  auto const s = pool.allocate();
  context_init_native(outside);
  context_make(
      inside, s.base, s.size,
      [](void*) {
        context_enter(inside);
        for (;;) context_switch(inside, outside);
      },
      nullptr);
  double const result = time_of(2, [] {
    for (int i = 0; i < repetitions; ++i) context_switch(outside, inside);
  });
  context_finish(inside);
  pool.release(s);
  return result;
}

#if HAVE_BOOST
namespace fc = boost::context::detail;

double one_jump() {
  auto const s = pool.allocate();
  auto other = fc::make_fcontext(s.top(), s.size, [](fc::transfer_t from) {
    for (;;) from = fc::jump_fcontext(from.fctx, nullptr);
  });
  double const result = time_of(2, [&] {
    for (int i = 0; i < repetitions; ++i)
      other = fc::jump_fcontext(other, nullptr).fctx;
  });
  pool.release(s);
  return result;
}
#endif

// Make a context on a cached stack, run it to its end, give the stack back.
double one_life() {
  context_init_native(outside);
  return time_of(1, [] {
    for (int i = 0; i < repetitions; ++i) {
      auto const s = cache.allocate(pool);
      context_make(
          inside, s.base, s.size,
          [](void*) {
            context_enter(inside);
            context_switch_final(inside, outside);
          },
          nullptr);
      context_switch(outside, inside);
      context_finish(inside);
      cache.release(pool, s);
    }
  });
}

double one_cached_stack() {
  return time_of(1, [] {
    for (int i = 0; i < repetitions; ++i) {
      auto const s = cache.allocate(pool);
      asm volatile("" : : "r"(s.base) : "memory");
      cache.release(pool, s);
    }
  });
}

double one_pooled_stack() {
  return time_of(1, [] {
    for (int i = 0; i < repetitions; ++i) {
      auto const s = pool.allocate();
      asm volatile("" : : "r"(s.base) : "memory");
      pool.release(s);
    }
  });
}

}  // namespace

int main() {
  struct candidate {
    char const* name;
    double (*run)();
    std::vector<double> passes;
  };
  std::vector<candidate> all = {
    {"context_switch", &one_switch, {}},
#if HAVE_BOOST
    {"Boost jump_fcontext", &one_jump, {}},
#endif
    {"make, run, end on a cached stack", &one_life, {}},
    {"stack_cache allocate and release", &one_cached_stack, {}},
    {"stack_pool allocate and release", &one_pooled_stack, {}},
  };
  for (int pass = 0; pass < pass_count; ++pass)
    for (auto& each : all) each.passes.push_back(each.run());
  for (auto& each : all) {
    std::sort(each.passes.begin(), each.passes.end());
    std::printf("%-34s %6.1f ns  (%.1f to %.1f)\n", each.name,
                each.passes[each.passes.size() / 2], each.passes.front(),
                each.passes.back());
  }
  cache.clear(pool);
}
