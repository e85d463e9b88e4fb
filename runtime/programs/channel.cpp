// SPDX-License-Identifier: BSL-1.0
//
// Two spaces that talk over a channel: run=channel,channel.  First they take
// turns and sleep in between, so that each message needs its NOTIFY; then one
// streams to the other as fast as the ring allows.  Status 0 on both sides:
// each message came once, in order, with the content that was sent.
#include <activations/detail/bare/image.hpp>

#include <cstdio>

#include <system.hpp>

namespace {

using user::u64;

constexpr u64 lines = ACTIVATIONS_IMAGE_CHANNEL_LINES;
constexpr u64 number = 3;
constexpr u64 turns = 3'000;
constexpr u64 streamed = 30'000;

unsigned own_end;
u64 notifies = 0;
u64 mismatches = 0;

auto& page = *reinterpret_cast<activations_channel*>(
    ACTIVATIONS_IMAGE_CHANNEL + number * ACTIVATIONS_IMAGE_PAGE_BYTES);

u64 content(u64 n, u64 word) {
  u64 x = (n + 1) * 0x9e3779b97f4a7c15u + word;
  x ^= x >> 29;
  return x * 0xbf58476d1ce4e5b9u;
}

class writer {
 public:
  explicit writer(activations_channel_ring& ring) : ring_(ring) {}
  void send() {
    // Full: the reader is awake then, or about to be.
    while (next_ - ring_.read.load(std::memory_order::acquire) >= lines)
      user::call(ACTIVATIONS_CALL_PARK, user::now_ns() + 100'000);
    auto& line = ring_.lines[next_ % lines];
    for (u64 w = 0; w < 7; ++w) line.words[w] = content(next_, w);
    // seq_cst: before the look at `sleeps`, as the reader's opposite.
    line.epoch.store(next_ / lines + 1, std::memory_order::seq_cst);
    ++next_;
    if (ring_.sleeps.exchange(0, std::memory_order::seq_cst) != 0) {
      ++notifies;
      user::call(ACTIVATIONS_IMAGE_NOTIFY, number, own_end);
    }
  }

 private:
  activations_channel_ring& ring_;
  u64 next_ = 0;
};

class reader {
 public:
  explicit reader(activations_channel_ring& ring) : ring_(ring) {}
  void receive() {
    auto& line = ring_.lines[next_ % lines];
    u64 const epoch = next_ / lines + 1;
    while (line.epoch.load(std::memory_order::acquire) != epoch) {
      ring_.sleeps.store(1, std::memory_order::seq_cst);
      if (line.epoch.load(std::memory_order::seq_cst) != epoch)
        user::call(ACTIVATIONS_CALL_PARK, user::never);
    }
    for (u64 w = 0; w < 7; ++w)
      if (line.words[w] != content(next_, w)) ++mismatches;
    ring_.read.store(++next_, std::memory_order::release);
  }

 private:
  activations_channel_ring& ring_;
  u64 next_ = 0;
};

}  // namespace

int main() {
  // The ends are taken by who comes first.
  long opened = user::call(ACTIVATIONS_IMAGE_CHANNEL_CALL, number, 0);
  if (opened != 0) {
    own_end = 1;
    opened = user::call(ACTIVATIONS_IMAGE_CHANNEL_CALL, number, 1);
  }
  if (opened != 0) return 97;
  writer out(page.rings[own_end]);
  reader in(page.rings[1 - own_end]);
  for (u64 i = 0; i < turns; ++i) {
    if (own_end == 0) out.send();
    in.receive();
    if (own_end == 1) out.send();
  }
  if (own_end == 0) {
    for (u64 i = 0; i < streamed; ++i) out.send();
    in.receive();
  } else {
    for (u64 i = 0; i < streamed; ++i) in.receive();
    out.send();
  }
  std::printf("end %u: %lu turns, %lu streamed, %lu mismatches, %s\n", own_end,
              turns, streamed, mismatches,
              notifies != 0 ? "sleepers were notified" : "nobody slept");
  return mismatches == 0 && notifies != 0 ? 0 : 1;
}
