// SPDX-License-Identifier: BSL-1.0
//
// Problem: stages that run at different speeds, where each may block, and a
// fast one must not run away from a slow one.
//
// A bounded queue of a mutex and two condition variables, as one would write
// it with std::; a stage that waits costs its stack and no kernel thread.
#include <activations/activations.hpp>

#include <chrono>
#include <cstdio>
#include <mutex>
#include <optional>
#include <queue>
#include <string>
#include <thread>
#include <utility>

using namespace std::chrono_literals;

namespace {

template <class T>
class bounded_queue {
 public:
  explicit bounded_queue(std::size_t capacity) : capacity_(capacity) {}

  void push(T value) {
    std::unique_lock lock(mutex_);
    not_full_.wait(lock, [&] { return items_.size() < capacity_; });
    items_.push(std::move(value));
    not_empty_.notify_one();
  }

  // Nothing: closed, and empty.
  std::optional<T> pop() {
    std::unique_lock lock(mutex_);
    not_empty_.wait(lock, [&] { return !items_.empty() || closed_; });
    if (items_.empty()) return std::nullopt;
    T value = std::move(items_.front());
    items_.pop();
    not_full_.notify_one();
    return value;
  }

  void close() {
    std::scoped_lock const lock(mutex_);
    closed_ = true;
    not_empty_.notify_all();
  }

 private:
  std::size_t capacity_;
  activations::mutex mutex_;
  activations::condition_variable not_full_;
  activations::condition_variable not_empty_;
  std::queue<T> items_;
  bool closed_ = false;
};

}  // namespace

int main() {
  bounded_queue<std::string> lines(16);
  bounded_queue<std::size_t> lengths(16);
  std::size_t count = 0;
  std::size_t total = 0;

  activations::scheduler scheduler;
  scheduler.run([&] {
    activations::user_thread reader([&] {
      for (int i = 1; i <= 1'000; ++i) {
        // A slow source, such as a disk: it blocks now and then.
        if (i % 100 == 0) std::this_thread::sleep_for(1ms);
        lines.push("line " + std::to_string(i));
      }
      lines.close();
    });
    activations::user_thread measurer([&] {
      while (auto line = lines.pop()) lengths.push(line->size());
      lengths.close();
    });
    activations::user_thread adder([&] {
      while (auto const length = lengths.pop()) {
        total += *length;
        ++count;
      }
    });
  });
  std::printf("%zu lines, %zu characters\n", count, total);
  return 0;
}
