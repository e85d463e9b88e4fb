// SPDX-License-Identifier: BSL-1.0
//
// Where the stacks of user threads come from, and when their memory goes back.
// Used by the scheduler, in a disabled region, on any kernel thread; nothing
// here throws or changes errno.
//
// Stacks are carved from slabs, large mappings without reserved memory:
//
//   slab:  | header, slot table |  slot 0  |  slot 1  | ...
//   slot:  | guard, 16 KiB | spare page | stack, grows down <- | colour |
//
// Each gets the best guard that can be had:
//
//   region   MADV_GUARD_INSTALL (Linux 6.13): marks page-table entries, so
//            it costs no mapping and has no limit. 0.7 us once for each slot.
//   pages    mprotect: splits the slab into two mappings more for each stack,
//            and a process has only vm.max_map_count of them (65,530). Guard
//            pages may take half of that, counted over the whole process.
//   canary   beyond that: see stack_is_intact. The guard's place stays as
//            slack below the stack.
#pragma once

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <activations/config.hpp>
#include <activations/detail/futex.hpp>
#include <activations/detail/stack_guard.hpp>

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <new>
#include <span>

namespace activations::detail {

// Which guards a pool may use. The last two are for tests: they make the
// kernel look older, or its limit spent.
enum class guard_policy : unsigned char {
  best,      // regions, else pages within the limit, else canaries
  pages,     // as on a kernel before 6.13: pages within the limit
  canaries,  // as if the limit were zero
};

// Tops of neighbouring stacks differ by this much times 0 to 15: were they all
// at one page offset, the hot lines of more than a dozen threads would compete
// for the same sets of the first-level cache. Going round 1,000 threads, one
// switch with its frames costs 12.5 ns coloured and 17.3 ns not.
inline constexpr std::size_t colour_bytes = 64;
inline constexpr std::size_t colour_count = 16;
static_assert(colour_bytes * colour_count <= 4096);

struct stack_pool_options {
  std::size_t default_bytes = default_stack_bytes;
  guard_policy policy = guard_policy::best;
  // Most guards of kind `pages` in this process; 0: a quarter of
  // vm.max_map_count, since each takes two mappings.
  std::size_t guard_pages_limit = 0;
  // A released stack stays as it is while fewer than `warm_stacks` of its size
  // are cached; then keeps its top page while fewer than `trimmed_stacks` are;
  // then keeps nothing.
  std::size_t warm_stacks = 256;
  std::size_t trimmed_stacks = 1024;
};

struct stack_pool_statistics {
  std::uint64_t live = 0;           // out of the pool, stack caches included
  std::uint64_t region_guards = 0;  // slots by kind of guard, ever carved
  std::uint64_t page_guards = 0;
  std::uint64_t canaries = 0;
  std::uint64_t trims = 0;         // releases that gave memory back
  std::uint64_t failures = 0;      // allocate calls that returned nothing
  int last_error = 0;              // errno of the last failure
  std::uint64_t mapped_bytes = 0;  // address space in slabs
};

// What the pool knows of one place for a stack. Lives in the slab's header,
// type-stable until the pool dies.
struct stack_slot {
  stack_slot* next = nullptr;  // in a free list of the pool
  std::byte* base = nullptr;
  std::size_t size = 0;
  unsigned valgrind_id = 0;
  guard_kind guard = guard_kind::canary;
  unsigned char size_class = 0;
};

// Guards of kind `pages` in the process: all pools share the kernel's limit.
inline std::atomic<std::size_t> guard_pages_in_use{0};

// vm.max_map_count, or the kernel's default if it cannot be read.
inline std::size_t read_max_map_count() noexcept {
  std::size_t value = 0;
  int const file = ::open("/proc/sys/vm/max_map_count", O_RDONLY | O_CLOEXEC);
  if (file >= 0) {
    char text[24];
    auto const length = ::read(file, text, sizeof text);
    for (ssize_t i = 0; i < length && text[i] >= '0' && text[i] <= '9'; ++i)
      value = value * 10 + static_cast<std::size_t>(text[i] - '0');
    ::close(file);
  }
  return value != 0 ? value : 65530;
}

// Allocates and caches stacks of any size. Any thread; one lock, held for a
// list operation or, once in many allocations, for one mmap.
class stack_pool {
 public:
  // Context: any kernel thread. Maps nothing yet.
  explicit stack_pool(stack_pool_options const& options = {}) noexcept
      : options_(options), page_(page_bytes()), guard_(guard_bytes()) {
    options_.default_bytes = round_up(options.default_bytes);
    if (options_.guard_pages_limit == 0)
      options_.guard_pages_limit = read_max_map_count() / 4;
    if (options_.policy != guard_policy::best)
      regions_work_.store(false, std::memory_order::relaxed);  // a hint
  }

  stack_pool(stack_pool const&) = delete;
  stack_pool& operator=(stack_pool const&) = delete;

  // Unmaps everything. Requires: no stack of this pool is in use.
  ~stack_pool() {
    int const saved = errno;
    for (slab* each = slabs_; each != nullptr;) {
      slab* const next = each->next;
      std::size_t page_guards = 0;
      for (std::size_t i = 0; i < each->carved; ++i) {
        ACTIVATIONS_STACK_DEREGISTER(each->slots()[i].valgrind_id);
        page_guards += each->slots()[i].guard == guard_kind::pages;
#if ACTIVATIONS_ASAN
        // The marks would outlive the mapping. Until now context_make cleared
        // them.
        asan_forget_frames(each->slots()[i].base, each->slots()[i].size);
#endif
      }
      guard_pages_in_use.fetch_sub(page_guards, std::memory_order::relaxed);
      ::munmap(each, each->bytes);
      each = next;
    }
    errno = saved;
  }

  // Returns a stack of at least `bytes` usable bytes, the most recently
  // released one if there is one; empty if the kernel gave no memory or bytes
  // is beyond 1 GiB (statistics().last_error says which).
  // Cost: a lock and a list operation; up to three system calls for a new one.
  [[nodiscard]] stack allocate(std::size_t bytes) noexcept {
    stack result;
    allocate_some(bytes, {&result, 1});
    return result;
  }

  [[nodiscard]] stack allocate() noexcept {
    return allocate(options_.default_bytes);
  }

  // Fills `out` from the front: with cached stacks, or with one new one.
  // Returns how many it filled; 0 means what an empty stack means above.
  std::size_t allocate_some(std::size_t bytes, std::span<stack> out) noexcept {
    std::size_t const wanted = class_of(bytes);
    std::size_t filled = 0;
    if (wanted == no_class) {
      note_failure(EINVAL);
      return 0;
    }
    auto& from = classes_[wanted];
    {
      std::lock_guard const guard(lock_);
      for (; filled < out.size(); ++filled) {
        stack_slot* const slot = from.warm.pop_or(from.cold);
        if (slot == nullptr) break;
        out[filled] = stack_of(*slot);
      }
      live_ += filled;
    }
    // New ones: only one, so that asking in bulk does not run ahead of need.
    if (filled == 0 && !out.empty()) {
      stack_slot* const slot = carve(wanted);
      if (slot == nullptr) return 0;
      out[0] = stack_of(*slot);
      filled = 1;
    }
    for (stack const& each : out.first(filled))
      if (each.guard == guard_kind::canary) stack_write_canary(each);
    return filled;
  }

  // Takes a stack of this pool back; any other is ignored.
  // Cost: a lock and a list operation; one system call beyond warm_stacks.
  void release(stack const& s) noexcept {
    release_some({&s, 1});
  }

  void release_some(std::span<stack const> stacks) noexcept {
    stack_slot* beyond = nullptr;
    {
      std::lock_guard const guard(lock_);
      for (stack const& each : stacks) {
        if (each.slot == nullptr) continue;
        --live_;
        auto& warm = classes_[each.slot->size_class].warm;
        if (warm.count < options_.warm_stacks) {
          warm.push(*each.slot);
        } else {
          each.slot->next = beyond;
          beyond = each.slot;
        }
      }
    }
    if (beyond != nullptr) [[unlikely]]
      give_back(beyond);
  }

  // Cost: takes the lock.  Context: as all that does so, a disabled region: who
  // waits for the lock may be the scheduler (P9).
  [[nodiscard]] stack_pool_statistics statistics() noexcept {
    std::lock_guard const guard(lock_);
    ACTIVATIONS_TEST_POINT(counting_stacks);
    auto result = counters_;
    result.live = live_;
    return result;
  }

  [[nodiscard]] std::size_t default_bytes() const noexcept {
    return options_.default_bytes;
  }

  // True if `s` is what allocate() without a size gives.
  [[nodiscard]] static bool is_default(stack const& s) noexcept {
    return s.slot != nullptr && s.slot->size_class == 0;
  }

 private:
  // Class 0 has the default size; class i > 0 has 16 KiB << (i - 1).
  static constexpr std::size_t class_count = 18;
  static constexpr std::size_t no_class = class_count;
  static constexpr std::size_t largest_bytes = minimum_stack_bytes
                                               << (class_count - 2);
  // Slabs grow from 16 slots to this much address space.
  static constexpr std::size_t slab_bytes_wanted = std::size_t{256} << 20;

  struct slot_list {
    stack_slot* head = nullptr;
    std::size_t count = 0;

    void push(stack_slot& slot) noexcept {
      slot.next = head;
      head = &slot;
      ++count;
    }
    stack_slot* pop_or(slot_list& other) noexcept {
      slot_list& from = head != nullptr ? *this : other;
      stack_slot* const slot = from.head;
      if (slot == nullptr) return nullptr;
      from.head = slot->next;
      --from.count;
      return slot;
    }
  };

  // The start of a slab's mapping; the slot table follows it.
  struct slab {
    slab* next;
    std::size_t bytes;  // of the mapping
    std::size_t slot_count;
    std::size_t carved;  // slots handed out so far, from the front
    std::byte* first;    // of the first slot

    stack_slot* slots() noexcept {
      return reinterpret_cast<stack_slot*>(this + 1);
    }
  };
  static_assert(sizeof(slab) % alignof(stack_slot) == 0);

  struct stack_class {
    slot_list warm;  // as their last thread left them
    slot_list cold;  // memory given back
    slab* current = nullptr;
    std::size_t next_slot_count = 16;
  };

  [[nodiscard]] std::size_t whole_pages(std::size_t bytes) const noexcept {
    return (bytes + page_ - 1) & ~(page_ - 1);
  }

  [[nodiscard]] std::size_t round_up(std::size_t bytes) const noexcept {
    return whole_pages(std::max(bytes, minimum_stack_bytes));
  }

  [[nodiscard]] std::size_t class_of(std::size_t bytes) const noexcept {
    if (bytes > largest_bytes) return no_class;
    bytes = round_up(bytes);
    if (bytes == options_.default_bytes) return 0;
    return 1 + static_cast<std::size_t>(
                   std::bit_width((bytes - 1) / minimum_stack_bytes));
  }

  [[nodiscard]] std::size_t class_bytes(std::size_t which) const noexcept {
    return which == 0 ? options_.default_bytes
                      : round_up(minimum_stack_bytes << (which - 1));
  }

  // Guard, a page that makes up for the colour, and the stack.
  [[nodiscard]] std::size_t slot_bytes(std::size_t which) const noexcept {
    return guard_ + page_ + class_bytes(which);
  }

  static stack stack_of(stack_slot& slot) noexcept {
    stack made;
    made.base = slot.base;
    made.size = slot.size;
    made.guard = slot.guard;
    made.slot = &slot;
    return made;
  }

  void note_failure(int error) noexcept {
    std::lock_guard const guard(lock_);
    ++counters_.failures;
    counters_.last_error = error;
  }

  // Takes the next slot of the class's slab, or of a new slab, and guards it.
  [[gnu::noinline]] stack_slot* carve(std::size_t which) noexcept {
    int const saved = errno;
    stack_slot* slot = nullptr;
    {
      std::lock_guard const guard(lock_);
      auto& into = classes_[which];
      if (into.current == nullptr ||
          into.current->carved == into.current->slot_count)
        into.current = map_slab(which);
      slab* const from = into.current;
      if (from != nullptr) {
        std::size_t const index = from->carved++;
        std::byte* const low = from->first + index * slot_bytes(which);
        slot = new (from->slots() + index) stack_slot;
        slot->base = low + guard_;
        slot->size =
            page_ + class_bytes(which) - index % colour_count * colour_bytes;
        slot->size_class = static_cast<unsigned char>(which);
        ++live_;
      }
    }
    if (slot != nullptr) {
      guard_slot(*slot);
      slot->valgrind_id =
          ACTIVATIONS_STACK_REGISTER(slot->base, slot->base + slot->size);
    }
    errno = saved;
    return slot;
  }

  // Maps a slab, a smaller one if the kernel refuses. Called with lock_ held.
  slab* map_slab(std::size_t which) noexcept {
    auto& into = classes_[which];
    std::size_t const each = slot_bytes(which);
    std::size_t const most = std::max<std::size_t>(1, slab_bytes_wanted / each);
    std::size_t count = std::min(into.next_slot_count, most);
    into.next_slot_count = std::min(2 * count, most);
    for (; count != 0; count /= 2) {
      std::size_t const header =
          whole_pages(sizeof(slab) + count * sizeof(stack_slot));
      std::size_t const bytes = header + count * each;
      void* const memory = ::mmap(
          nullptr, bytes, PROT_READ | PROT_WRITE,
          MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
      if (memory == MAP_FAILED) {
        counters_.last_error = errno;
        continue;
      }
      // A huge page would turn two touched pages into two megabytes.
      ::madvise(memory, bytes, MADV_NOHUGEPAGE);
      auto* const made = new (memory) slab;
      made->next = slabs_;
      made->bytes = bytes;
      made->slot_count = count;
      made->carved = 0;
      made->first = static_cast<std::byte*>(memory) + header;
      slabs_ = made;
      counters_.mapped_bytes += bytes;
      return made;
    }
    ++counters_.failures;
    return nullptr;
  }

  void guard_slot(stack_slot& slot) noexcept {
    constexpr int madv_guard_install = 102;  // newer than glibc 2.36's headers
    std::byte* const low = slot.base - guard_;
    slot.guard = guard_kind::canary;
    if (regions_work_.load(std::memory_order::relaxed)) {  // a hint
      bool const installed = ::madvise(low, guard_, madv_guard_install) == 0;
      // Emulators ignore advice they do not know and report success.
      if (installed && (regions_proved_.load(std::memory_order::relaxed) ||
                        !is_readable(low)))
        slot.guard = guard_kind::region;
      if (slot.guard == guard_kind::region)
        regions_proved_.store(true, std::memory_order::relaxed);  // a hint
      else if (installed || errno == EINVAL)  // older kernel, locked memory
        regions_work_.store(false, std::memory_order::relaxed);  // a hint
    }
    if (slot.guard == guard_kind::canary &&
        options_.policy != guard_policy::canaries && take_guard_pages()) {
      if (::mprotect(low, guard_, PROT_NONE) == 0)
        slot.guard = guard_kind::pages;
      else
        guard_pages_in_use.fetch_sub(1, std::memory_order::relaxed);
    }
    std::lock_guard const guard(lock_);
    switch (slot.guard) {
      case guard_kind::region:
        ++counters_.region_guards;
        break;
      case guard_kind::pages:
        ++counters_.page_guards;
        break;
      case guard_kind::canary:
        ++counters_.canaries;
        break;
    }
  }

  // Asks the kernel, which copies the set before it refuses the operation.
  [[nodiscard]] static bool is_readable(void const* address) noexcept {
    return ::syscall(SYS_rt_sigprocmask, ~0, address, nullptr, 8) == 0 ||
           errno != EFAULT;
  }

  // A count and nothing else, hence relaxed.
  [[nodiscard]] bool take_guard_pages() noexcept {
    if (guard_pages_in_use.fetch_add(1, std::memory_order::relaxed) <
        options_.guard_pages_limit)
      return true;
    guard_pages_in_use.fetch_sub(1, std::memory_order::relaxed);
    return false;
  }

  // Drops the memory of the slots linked from `first`, then caches them.
  [[gnu::noinline]] void give_back(stack_slot* first) noexcept {
    int const saved = errno;
    for (stack_slot* slot = first; slot != nullptr;) {
      stack_slot* const next = slot->next;
      auto& into = classes_[slot->size_class];
      std::size_t keep_bytes = 0;
      {
        std::lock_guard const guard(lock_);
        ++counters_.trims;
        if (into.warm.count + into.cold.count < options_.trimmed_stacks)
          keep_bytes = page_;
      }
      ::madvise(slot->base, whole_pages(slot->size) - keep_bytes,
                MADV_DONTNEED);
      std::lock_guard const guard(lock_);
      into.cold.push(*slot);
      slot = next;
    }
    errno = saved;
  }

  stack_pool_options options_;
  std::size_t const page_;
  std::size_t const guard_;
  std::atomic<bool> regions_work_{true};     // any thread; only ever cleared
  std::atomic<bool> regions_proved_{false};  // any thread; only ever set

  futex_lock lock_;
  // Guarded by lock_:
  std::array<stack_class, class_count> classes_;
  slab* slabs_ = nullptr;
  std::uint64_t live_ = 0;
  stack_pool_statistics counters_;
};

// Stacks of the default size that one activation keeps at hand. Owner only,
// no atomics. Its stacks count as live in the pool.
// Cost: 7 ns for allocate and release together on a Zen 5 at 2.6 GHz, where the
// pool takes 22 (build target switch_cost); the pool's cost once in eight.
class stack_cache {
 public:
  stack_cache() = default;
  stack_cache(stack_cache const&) = delete;
  stack_cache& operator=(stack_cache const&) = delete;

  // As stack_pool::allocate() without a size.
  [[nodiscard]] stack allocate(stack_pool& pool) noexcept {
    if (count_ == 0) [[unlikely]] {
      count_ = pool.allocate_some(pool.default_bytes(),
                                  std::span(stacks_).first(batch));
      if (count_ == 0) return {};
    }
    stack const taken = stacks_[--count_];
    if (taken.guard == guard_kind::canary) stack_write_canary(taken);
    return taken;
  }

  // As stack_pool::release; takes any stack of the pool.
  void release(stack_pool& pool, stack const& s) noexcept {
    if (!stack_pool::is_default(s)) [[unlikely]] {
      pool.release(s);
      return;
    }
    if (count_ == stacks_.size()) [[unlikely]] {
      // The oldest go: the newest are warm.
      pool.release_some(std::span(stacks_).first(batch));
      for (std::size_t i = batch; i < count_; ++i)
        stacks_[i - batch] = stacks_[i];
      count_ -= batch;
    }
    stacks_[count_++] = s;
  }

  // Gives all back. Required before the owner goes.
  void clear(stack_pool& pool) noexcept {
    pool.release_some(std::span(stacks_).first(count_));
    count_ = 0;
  }

 private:
  static constexpr std::size_t batch = 8;

  std::size_t count_ = 0;
  std::array<stack, 2 * batch> stacks_;
};

}  // namespace activations::detail
