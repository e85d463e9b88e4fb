// SPDX-License-Identifier: BSL-1.0
// A thousand threads, each in a blocking call that knows nothing of us.
#include <activations/activations.hpp>
#include <chrono>
#include <cstdio>
#include <thread>
#include <vector>

int main() {
  activations::scheduler scheduler;
  auto const start = std::chrono::steady_clock::now();
  scheduler.run([] {
    std::vector<activations::user_thread> threads;
    for (int i = 0; i < 1'000; ++i)
      threads.emplace_back(
          [] { std::this_thread::sleep_for(std::chrono::milliseconds(100)); });
  });  // like std::jthread, each is joined where it is destroyed
  std::chrono::duration<double> const took =
      std::chrono::steady_clock::now() - start;
  std::printf("1000 sleeps of 0.1 s took %.2f s: %s\n", took.count(),
              scheduler.describe().c_str());
  return 0;
}
