// SPDX-License-Identifier: BSL-1.0
//
// Problem: an answer that comes too late is no answer; the work for it should
// end as well, and leave nothing behind.
//
// Waits take deadlines, as std's do; work listens to a stop token, as with
// std::jthread.  The scope's end joins, so nothing outlives what it uses.
#include <activations/activations.hpp>

#include <chrono>
#include <cstdio>
#include <stop_token>

using namespace std::chrono_literals;

namespace {

// Works in small steps until it is done or told to stop.
bool search(std::stop_token stop, std::chrono::milliseconds needed) {
  auto const end = std::chrono::steady_clock::now() + needed;
  while (std::chrono::steady_clock::now() < end) {
    if (stop.stop_requested()) return false;
    activations::this_thread::sleep_for(1ms);
  }
  return true;
}

// True if the search ended in time.
bool search_within(std::chrono::milliseconds needed,
                   std::chrono::milliseconds limit) {
  bool found = false;
  activations::event done;
  activations::user_thread worker([&](std::stop_token stop) {
    found = search(stop, needed);
    done.set();
  });
  if (!done.wait_for(limit)) worker.request_stop();
  worker.join();
  return found;
}

}  // namespace

int main() {
  activations::scheduler scheduler;
  return scheduler.run([] {
    bool const quick = search_within(5ms, 10s);
    bool const slow = search_within(10s, 20ms);
    std::printf("quick search: %s\nslow search: %s\n",
                quick ? "found" : "stopped", slow ? "found" : "stopped");
    return quick && !slow ? 0 : 1;
  });
}
