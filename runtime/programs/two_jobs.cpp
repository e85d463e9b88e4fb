// SPDX-License-Identifier: BSL-1.0
//
// Two spaces that want all cores: run=two_jobs,two_jobs cpus=2 (or more).  The
// one whose first core is 0 works all the time; the other sleeps, works, and
// sleeps again, so that cores go to and fro.  Each prints what it was told and
// how much of the core time that was granted it did not use, though it had
// work all the while.
//
// Status 0: each lost and gained cores, the books agree (what was gained less
// what was lost is what it has), and the first has all cores at the end.
#include <activations/activations.hpp>
#include <activations/fork_join.hpp>

#include <atomic>
#include <bit>
#include <cstdio>

#include <system.hpp>

namespace {

using user::u64;

std::atomic<u64> busy_ns{0};
std::atomic<u64> warned{0}, revoked{0}, granted{0};
std::atomic<u64> sink{0};

activations_image_grants& grants() {
  return *reinterpret_cast<activations_image_grants*>(ACTIVATIONS_IMAGE_GRANTS);
}
u64 cores_now() {
  return static_cast<u64>(std::popcount(grants().cores.load()));
}

// Core time granted up to now: read again if it changed meanwhile.
u64 granted_now() {
  for (;;) {
    u64 const changes = grants().gained.load() + grants().lost.load();
    u64 const sum = grants().granted_ns.load() +
                    cores_now() * (user::now_ns() - grants().since_ns.load());
    if (changes == grants().gained.load() + grants().lost.load()) return sum;
  }
}

// Counts what comes while user code is enabled; the rest comes as the result
// of a sleep, or is read in the processor's word.
activations_save_slot* note(activations_dispatcher& page, u64 events,
                            activations_save_slot* slot, void*) {
  if ((events & (ACTIVATIONS_EVENT_FAULT | ACTIVATIONS_EVENT_TRAP)) != 0) {
    std::printf("a fault or trap at %lx\n", page.fault_address);
    user::exit(139);
  }
  if ((events & ACTIVATIONS_EVENT_REVOKE_SOON) != 0) ++warned;
  if ((events & ACTIVATIONS_EVENT_PREEMPTED) != 0) ++revoked;
  if ((events & ACTIVATIONS_EVENT_GRANTED) != 0) ++granted;
  return slot;
}

void leaf() {
  u64 const begin = user::now_ns();
  u64 x = begin | 1;
  for (int i = 0; i < 20'000; ++i) {
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
  }
  sink.fetch_xor(x, std::memory_order::relaxed);
  busy_ns.fetch_add(user::now_ns() - begin, std::memory_order::relaxed);
}

void tree(int depth) {
  if (depth == 0) return leaf();
  activations::fork_join([=] { tree(depth - 1); }, [=] { tree(depth - 1); });
}

struct share {
  u64 busy, granted;
};

// Works until `enough` says so, which it must within a minute.
template <class Enough>
bool work(activations::scheduler& here, share& total, Enough enough) {
  return here.run([&] {
    u64 const until = user::now_ns() + 60'000'000'000u;
    u64 const busy = busy_ns.load();
    u64 const granted = granted_now();
    bool is_enough = false;  // the next look might see another change
    while (!(is_enough = enough()) && user::now_ns() < until) tree(6);
    total.busy += busy_ns.load() - busy;
    total.granted += granted_now() - granted;
    return is_enough;
  });
}

// The worker: until the other has come and gone.
bool run_first(activations::scheduler& here, share& total) {
  u64 const all = user::page_at(0).cores;
  return work(here, total,
              [&] { return grants().lost.load() >= 2 && cores_now() == all; });
}

// The sleeper: three times, each after its core was lent.
bool run_second(activations::scheduler& here, share& total) {
  for (u64 round = 0; round < 3; ++round) {
    u64 const lost = grants().lost.load();
    for (int i = 0; grants().lost.load() == lost; ++i) {
      if (i == 100) return round > 0;  // the other has ended
      here.run([] {
        activations::this_thread::sleep_for(std::chrono::milliseconds(30));
      });
    }
    u64 const gained = grants().gained.load();
    u64 rounds = 0;
    if (!work(here, total, [&] {
          return ++rounds > 20 && grants().gained.load() >= gained &&
                 cores_now() != 0;
        }))
      return false;
  }
  return true;
}

}  // namespace

int main() {
  bool const is_first = user::this_page().core == 0;
  user::on_upcall = &note;
  share total{};
  bool fine;
  {
    activations::scheduler here;
    fine = is_first ? run_first(here, total) : run_second(here, total);
    u64 const gained = grants().gained.load();
    u64 const lost = grants().lost.load();
    fine = fine && gained > 0 && lost > 0;
    u64 const unused =
        total.granted > total.busy ? total.granted - total.busy : 0;
    std::printf(
        "%s: gained %lu and lost %lu cores, has %lu; upcalls: %lu warnings, "
        "%lu revocations, %lu grants; %lu of %lu ms granted not used (%lu "
        "per mille)\n",
        is_first ? "worker" : "sleeper", gained, lost, cores_now(),
        warned.load(), revoked.load(), granted.load(), unused / 1'000'000,
        total.granted / 1'000'000,
        total.granted == 0 ? 0 : 1000 * unused / total.granted);
    // One change at a time: read again if one came between.
    u64 has = cores_now();
    for (int i = 0; i < 100 && grants().gained.load() - grants().lost.load() !=
                                   (has = cores_now());
         ++i)
      user::call(ACTIVATIONS_CALL_PARK, user::now_ns() + 1'000'000);
    if (grants().gained.load() - grants().lost.load() != has) {
      std::printf("the books do not agree\n");
      fine = false;
    }
  }
  return fine ? 0 : 1;
}
