// SPDX-License-Identifier: BSL-1.0
//
// Memory for coroutine frames: a few free lists for each activation, by size.
// Only the kernel thread that is the activation touches its cache; a frame
// may be freed on another activation than the one that allocated it.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <new>

#include <activations/config.hpp>

namespace activations::detail {

class frame_cache {
 public:
  static constexpr std::size_t step_bytes = 64;
  static constexpr std::size_t largest_bytes = 1024;
  static constexpr std::uint32_t most_cached = 1024;  // of each size
  // AddressSanitizer sees a use after the end only if the memory is freed.
  static constexpr std::size_t largest_cached =
      ACTIVATIONS_ASAN ? 0 : largest_bytes;

  frame_cache() = default;
  frame_cache(frame_cache const&) = delete;
  frame_cache& operator=(frame_cache const&) = delete;

  ~frame_cache() {
    for (auto& list : lists_)
      while (list.first != nullptr) {
        node* const next = list.first->next;
        ::operator delete(list.first);
        list.first = next;
      }
  }

  // Bytes rounded up to what the cache hands out.
  static constexpr std::size_t rounded(std::size_t bytes) noexcept {
    return (bytes + step_bytes - 1) & ~(step_bytes - 1);
  }

  // Throws std::bad_alloc.  Context: user code of this activation.
  [[nodiscard]] void* allocate(std::size_t bytes) {
    if (bytes > largest_cached) [[unlikely]]
      return ::operator new(bytes);
    list& cached = lists_[(bytes - 1) / step_bytes];
    if (cached.first == nullptr) [[unlikely]]
      return ::operator new(rounded(bytes));
    node* const taken = cached.first;
    cached.first = taken->next;
    --cached.count;
    return taken;
  }

  void release(void* memory, std::size_t bytes) noexcept {
    if (bytes > largest_bytes) [[unlikely]]
      return ::operator delete(memory);
    list& cached = lists_[(bytes - 1) / step_bytes];
    if (cached.count >= most_cached) [[unlikely]]
      return ::operator delete(memory);
    cached.first = new (memory) node{cached.first};
    ++cached.count;
  }

 private:
  struct node {
    node* next;
  };
  struct list {
    node* first = nullptr;
    std::uint32_t count = 0;
  };
  std::array<list, largest_bytes / step_bytes> lists_;
};

}  // namespace activations::detail
