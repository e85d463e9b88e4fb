// SPDX-License-Identifier: BSL-1.0
//
// A user thread that runs out of stack ends the program with one line that
// names the thread, its stack and its size. The signal handler here looks at
// each SIGSEGV and SIGBUS, asks the scheduler whose guard the address is in,
// prints, and leaves the fault to whoever handled it before: a handler of the
// program or of a sanitizer, or the default action, with registers and core
// file as they were at the fault.
//
// The handler cannot run on the stack that has overflowed: each kernel thread
// that runs user threads needs an `alternate_stack`.
#pragma once

#include <pthread.h>
#include <signal.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <activations/detail/futex.hpp>
#include <activations/detail/stack_guard.hpp>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <mutex>
#include <string_view>

namespace activations::detail {

// Who runs on a stack. `name` may be null; both are read at once.
struct stack_owner {
  std::uint64_t id = 0;
  char const* name = nullptr;
  stack where;
};

// Fills `owner` with the user thread that the calling kernel thread runs and
// returns true, or returns false if it runs none.
// Context: signal handler; must be async-signal-safe.
using stack_owner_lookup = bool (*)(stack_owner& owner) noexcept;

// One line of text without allocation, for write(2).
class signal_safe_line {
 public:
  signal_safe_line& operator<<(std::string_view text) noexcept {
    for (char const c : text)
      if (length_ < sizeof text_ - 1) text_[length_++] = c < ' ' ? '?' : c;
    return *this;
  }
  signal_safe_line& decimal(std::uint64_t value) noexcept {
    return number(value, 10);
  }
  signal_safe_line& address(void const* value) noexcept {
    *this << "0x";
    return number(reinterpret_cast<std::uintptr_t>(value), 16);
  }
  // Writes the line to standard error.
  void print() noexcept {
    text_[length_++] = '\n';
    for (std::size_t done = 0; done < length_;) {
      auto const n = ::write(STDERR_FILENO, text_ + done, length_ - done);
      if (n < 0 && errno != EINTR) break;
      if (n > 0) done += static_cast<std::size_t>(n);
    }
    length_ = 0;
  }

 private:
  signal_safe_line& number(std::uint64_t value, unsigned base) noexcept {
    char digits[20];
    std::size_t at = sizeof digits;
    do {
      digits[--at] = "0123456789abcdef"[value % base];
      value /= base;
    } while (value != 0);
    return *this << std::string_view(digits + at, sizeof digits - at);
  }

  char text_[320];
  std::size_t length_ = 0;
};

// Prints "activations: stack overflow in user thread 17 (name): ...".
// `fault` is the address that the guard stopped, or null for a canary.
// Context: any, signal handlers too. Keeps errno.
inline void print_stack_overflow(stack_owner const& owner,
                                 void const* fault) noexcept {
  int const saved = errno;
  signal_safe_line line;
  line << "activations: stack overflow in user thread ";
  line.decimal(owner.id);
  if (owner.name != nullptr && *owner.name != '\0') {
    std::size_t length = 0;  // a name may be torn or unterminated by now
    while (length < 64 && owner.name[length] != '\0') ++length;
    line << " (" << std::string_view(owner.name, length) << ")";
  }
  line << ": its stack of ";
  line.decimal(owner.where.size) << " bytes at ";
  line.address(owner.where.base);
  if (fault != nullptr) {
    line << " was left at ";
    line.address(fault);
  } else {
    line << " was overrun (found at a switch, memory below it may be damaged)";
  }
  line << "; give it a larger stack_bytes";
  line.print();
  errno = saved;
}

// For a stack without guard, when stack_is_intact said no: prints and aborts.
[[noreturn, gnu::cold, gnu::noinline]] inline void stack_overrun(
    stack_owner const& owner) noexcept {
  print_stack_overflow(owner, nullptr);
  std::abort();
}

// The calling kernel thread's alternate signal stack, unless it has one.
// Construct and destroy on that thread, while no handler runs on it.
class alternate_stack {
 public:
  // `bytes` is what handlers need beyond the signal frame.
  explicit alternate_stack(std::size_t bytes = 32 * 1024) noexcept {
    stack_t current;
    if (::sigaltstack(nullptr, &current) != 0 ||
        (current.ss_flags & SS_DISABLE) == 0)
      return;
    // The kernel says how large a frame gets here: AMX state takes 8 KiB.
    std::size_t const frame =
        std::max(::getauxval(AT_MINSIGSTKSZ), std::size_t{4096});
    std::size_t const page = page_bytes();
    std::size_t const wanted = (frame + bytes + page - 1) & ~(page - 1);
    // The lowest page stays inaccessible.
    void* const memory = ::mmap(nullptr, wanted + page, PROT_NONE,
                                MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
    if (memory == MAP_FAILED) return;
    auto* const base = static_cast<std::byte*>(memory) + page;
    stack_t mine{};
    mine.ss_sp = base;
    mine.ss_size = wanted;
    if (::mprotect(base, wanted, PROT_READ | PROT_WRITE) != 0 ||
        ::sigaltstack(&mine, nullptr) != 0) {
      ::munmap(memory, wanted + page);
      return;
    }
    memory_ = memory;
    bytes_ = wanted + page;
  }

  alternate_stack(alternate_stack const&) = delete;
  alternate_stack& operator=(alternate_stack const&) = delete;

  ~alternate_stack() {
    if (memory_ == nullptr) return;
    stack_t current;
    // Leave it alone if somebody has put another in its place.
    if (::sigaltstack(nullptr, &current) == 0 &&
        current.ss_sp == static_cast<std::byte*>(memory_) + page_bytes()) {
      stack_t none{};
      none.ss_flags = SS_DISABLE;
      ::sigaltstack(&none, nullptr);
    }
    ::munmap(memory_, bytes_);
  }

  // False if the thread had one already, or the kernel refused.
  [[nodiscard]] bool is_owner() const noexcept { return memory_ != nullptr; }

 private:
  void* memory_ = nullptr;
  std::size_t bytes_ = 0;
};

// The process-wide handler of SIGSEGV and SIGBUS. Installed by the first
// scheduler, removed by the last; a handler that the program installs in
// between stays, and ours becomes a link in its chain that does nothing.
class stack_overflow_reporter {
 public:
  // Counts; each call needs one `uninstall`. Context: any kernel thread.
  static void install(stack_owner_lookup lookup) noexcept {
    auto& self = shared();
    std::lock_guard const guard(self.lock_);
    if (self.users_++ == 0 && !self.stays_) self.install_handlers();
    self.lookup_.store(lookup, std::memory_order::release);  // E1
  }

  static void uninstall() noexcept {
    auto& self = shared();
    std::lock_guard const guard(self.lock_);
    if (--self.users_ != 0) return;
    self.lookup_.store(nullptr, std::memory_order::release);  // E1
    bool ours = true;
    for (int const which : {0, 1}) {
      struct sigaction now;
      ::sigaction(signals[which], nullptr, &now);
      ours = ours && (now.sa_flags & SA_SIGINFO) != 0 &&
             now.sa_sigaction == &handle;
    }
    // Somebody may have kept our handler's address to call it.
    self.stays_ = !ours;
    if (!ours) return;
    for (int const which : {0, 1})
      ::sigaction(signals[which], &self.previous_[which], nullptr);
  }

 private:
  static constexpr int signals[2] = {SIGSEGV, SIGBUS};

  static stack_overflow_reporter& shared() noexcept { return instance_; }

  static void handle(int number, siginfo_t* info, void* machine) {
    int const saved = errno;
    auto& self = shared();
    auto const lookup = self.lookup_.load(std::memory_order::acquire);  // E1
    stack_owner owner;
    // si_code > 0: a fault, not a signal that somebody sent.
    if (lookup != nullptr && info->si_code > 0 && lookup(owner) &&
        stack_contains_guard(owner.where, info->si_addr))
      print_stack_overflow(owner, info->si_addr);
    errno = saved;
    self.pass_on(number, info, machine);
  }

  void install_handlers() noexcept {
    for (int const which : {0, 1}) {
      struct sigaction action {};
      ::sigaction(signals[which], nullptr, &previous_[which]);
      action.sa_sigaction = &handle;
      // What the previous handler relies on, and the alternate stack.
      action.sa_mask = previous_[which].sa_mask;
      action.sa_flags =
          SA_SIGINFO | SA_ONSTACK | (previous_[which].sa_flags & SA_RESTART);
      ::sigaction(signals[which], &action, nullptr);
    }
  }

  // As if this handler had never been there.
  void pass_on(int number, siginfo_t* info, void* machine) noexcept {
    struct sigaction const& previous = previous_[number == SIGSEGV ? 0 : 1];
    if ((previous.sa_flags & SA_SIGINFO) != 0) {
      previous.sa_sigaction(number, info, machine);
      return;
    }
    if (previous.sa_handler == SIG_IGN && info->si_code <= 0) return;
    if (previous.sa_handler != SIG_DFL && previous.sa_handler != SIG_IGN) {
      previous.sa_handler(number);
      return;
    }
    // Return to the instruction that faults: it faults again, and the default
    // action leaves a core file with the registers of the fault. A signal that
    // was sent does not come again by itself.
    struct sigaction action {};
    action.sa_handler = SIG_DFL;
    ::sigaction(number, &action, nullptr);
    if (info->si_code <= 0)
      ::syscall(SYS_tgkill, ::getpid(), ::syscall(SYS_gettid), number);
  }

  static stack_overflow_reporter instance_;

  // Edges
  //   E1  install: lookup_ store(release) -> handler: lookup_ load(acquire)
  //       publishes what the lookup function reads.
  std::atomic<stack_owner_lookup> lookup_{nullptr};
  futex_lock lock_;
  // Guarded by lock_; the handler reads previous_, written before it exists:
  unsigned users_ = 0;
  bool stays_ = false;
  struct sigaction previous_[2] = {};
};

inline constinit stack_overflow_reporter stack_overflow_reporter::instance_{};

}  // namespace activations::detail
