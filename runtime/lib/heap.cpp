// SPDX-License-Identifier: BSL-1.0
//
// new, delete, malloc, free: powers of two from lists, larger ones mapped.
// Freed memory stays in its list.
#include <activations/detail/core.hpp>

#include <cstdlib>
#include <cstring>
#include <new>

#include "system.hpp"

namespace user {
namespace {

constexpr unsigned smallest = 5;  // 32 bytes, with the header
constexpr unsigned largest = 17;  // 128 KiB
constexpr u64 chunk_bytes = 1024 * 1024;

// Before each piece; keeps what follows aligned to 16.
struct alignas(16) header {
  u64 order;  // of its list; above `largest`: bytes mapped
  header* next;
};

struct heap {
  activations::detail::futex_lock lock;
  header* lists[largest + 1];
  char* next;
  u64 left;
};
heap the_heap;

header* carve(u64 bytes) {
  if (the_heap.left < bytes) {
    the_heap.next = static_cast<char*>(map(chunk_bytes));
    the_heap.left = the_heap.next == nullptr ? 0 : chunk_bytes;
    if (the_heap.next == nullptr) return nullptr;
  }
  auto* const made = reinterpret_cast<header*>(the_heap.next);
  the_heap.next += bytes;
  the_heap.left -= bytes;
  return made;
}

void* allocate(u64 bytes) {
  u64 const whole = bytes + sizeof(header);
  if (whole > u64{1} << largest) {
    auto* const made = static_cast<header*>(map(whole));
    if (made == nullptr) return nullptr;
    made->order = whole;
    return made + 1;
  }
  unsigned order = smallest;
  while (u64{1} << order < whole) ++order;
  activations::detail::disabled_region const region;
  the_heap.lock.lock();
  header* made = the_heap.lists[order];
  if (made != nullptr)
    the_heap.lists[order] = made->next;
  else
    made = carve(u64{1} << order);
  the_heap.lock.unlock();
  if (made == nullptr) return nullptr;
  made->order = order;
  return made + 1;
}

void release(void* memory) {
  if (memory == nullptr) return;
  header* const h = static_cast<header*>(memory) - 1;
  if (h->order > largest) {
    call(ACTIVATIONS_IMAGE_UNMAP, reinterpret_cast<u64>(h),
         (h->order + page_bytes - 1) & ~(page_bytes - 1));
    return;
  }
  activations::detail::disabled_region const region;
  the_heap.lock.lock();
  h->next = the_heap.lists[h->order];
  the_heap.lists[h->order] = h;
  the_heap.lock.unlock();
}

// The address that allocate returned lies just below an aligned piece.
void* allocate_aligned(u64 bytes, u64 alignment) {
  if (alignment <= 16) return allocate(bytes);
  auto* const raw = static_cast<char*>(allocate(bytes + alignment + 16));
  if (raw == nullptr) return nullptr;
  auto const at =
      (reinterpret_cast<u64>(raw) + 16 + alignment - 1) & ~(alignment - 1);
  reinterpret_cast<void**>(at)[-1] = raw;
  return reinterpret_cast<void*>(at);
}

void release_aligned(void* memory, u64 alignment) {
  if (memory == nullptr || alignment <= 16) return release(memory);
  release(static_cast<void**>(memory)[-1]);
}

void* or_abort(void* memory) {
  if (memory != nullptr) return memory;
  print("out of memory\n");
  std::abort();
}

}  // namespace
}  // namespace user

extern "C" {
void* malloc(std::size_t n) {
  return user::allocate(n);
}
void free(void* p) {
  user::release(p);
}
void* calloc(std::size_t n, std::size_t each) {
  void* const p = user::allocate(n * each);
  if (p != nullptr) std::memset(p, 0, n * each);
  return p;
}
}

namespace std {
nothrow_t const nothrow{};
}

void* operator new(std::size_t n) {
  return user::or_abort(user::allocate(n));
}
void* operator new[](std::size_t n) {
  return operator new(n);
}
void* operator new(std::size_t n, std::nothrow_t const&) noexcept {
  return user::allocate(n);
}
void* operator new[](std::size_t n, std::nothrow_t const&) noexcept {
  return user::allocate(n);
}
void* operator new(std::size_t n, std::align_val_t a) {
  return user::or_abort(user::allocate_aligned(n, static_cast<user::u64>(a)));
}
void* operator new(std::size_t n, std::align_val_t a,
                   std::nothrow_t const&) noexcept {
  return user::allocate_aligned(n, static_cast<user::u64>(a));
}
void* operator new[](std::size_t n, std::align_val_t a) {
  return operator new(n, a);
}
void operator delete(void* p) noexcept {
  user::release(p);
}
void operator delete[](void* p) noexcept {
  user::release(p);
}
void operator delete(void* p, std::size_t) noexcept {
  user::release(p);
}
void operator delete[](void* p, std::size_t) noexcept {
  user::release(p);
}
void operator delete(void* p, std::align_val_t a) noexcept {
  user::release_aligned(p, static_cast<user::u64>(a));
}
void operator delete[](void* p, std::align_val_t a) noexcept {
  user::release_aligned(p, static_cast<user::u64>(a));
}
void operator delete(void* p, std::size_t, std::align_val_t a) noexcept {
  user::release_aligned(p, static_cast<user::u64>(a));
}
void operator delete[](void* p, std::size_t, std::align_val_t a) noexcept {
  user::release_aligned(p, static_cast<user::u64>(a));
}
