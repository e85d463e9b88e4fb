// SPDX-License-Identifier: BSL-1.0
//
// Problem: coroutines are light and cannot block; threads may block and are
// heavy.  A program wants ten thousand of the first and a few of the second,
// talking to each other.
//
// Both run on one scheduler.  Ten thousand tasks wait for a turn with the
// frame alone; user threads do the blocking reads; one semaphore serves both.
#include <activations/activations.hpp>

#include <fcntl.h>
#include <unistd.h>
#include <atomic>
#include <cstdio>
#include <cstring>
#include <vector>

namespace {

// Blocks in the kernel, as any code may.
long bytes_of(char const* path) {
  int const file = open(path, O_RDONLY);
  if (file < 0) return 0;
  char buffer[4'096];
  long total = 0;
  for (ssize_t n; (n = read(file, buffer, sizeof buffer)) > 0;) total += n;
  close(file);
  return total;
}

activations::task<> worker(activations::counting_semaphore<>& turns,
                           std::atomic<int>& served) {
  co_await turns.async_acquire();  // suspends: no stack, no thread
  served.fetch_add(1);
}

}  // namespace

int main() {
  constexpr int tasks = 10'000;
  activations::counting_semaphore<> turns(0);
  std::atomic<int> served{0};
  std::atomic<long> bytes{0};

  activations::scheduler scheduler;
  scheduler.run([&] {
    std::vector<activations::join_handle<>> handles;
    for (int i = 0; i < tasks; ++i)
      handles.push_back(scheduler.spawn(worker(turns, served)));
    std::vector<activations::user_thread> readers;
    for (char const* path :
         {"/etc/services", "/etc/protocols", "/etc/passwd", "/proc/self/maps"})
      readers.emplace_back([&, path] {
        bytes += bytes_of(path);
        turns.release(tasks / 4);  // let a quarter of the tasks go
      });
    for (auto& handle : handles) handle.join();
  });
  std::printf("%d tasks served\n", served.load());
  return served == tasks ? 0 : 1;
}
