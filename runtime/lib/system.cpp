// SPDX-License-Identifier: BSL-1.0
//
// What of POSIX the runtime's headers and the standard library's call.  What
// blocks parks the user thread; files, signals and processes do not exist.
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <linux/futex.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdarg>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <exception>

#include <activations/detail/bare/image.hpp>
#include <activations/detail/core.hpp>
#include <activations/this_thread.hpp>

#include "system.hpp"

namespace user {
namespace {

using activations::detail::activation;
using activations::detail::current_activation;

// ---- futexes: who of the dispatchers sleeps on which word ---------------------

std::atomic<void const*> sleeps_on[ACTIVATIONS_IMAGE_DISPATCHERS];

// As Linux's: 0, or a negative errno.  May return early.
long futex_wait(std::uint32_t const* word, std::uint32_t expected,
                u64 deadline) {
  // Whoever ran here meanwhile could wait for another word.
  activations::detail::disabled_region const region;
  // A user thread lets others run first: whom it waits for may be stopped here.
  activation* const self = current_activation();
  if (self != nullptr && self->current != &self->base &&
      self->control->disabled.load(std::memory_order::relaxed) == 1 &&
      __atomic_load_n(word, __ATOMIC_SEQ_CST) == expected &&
      self->home->lender().stop(*self, nullptr, nullptr))
    return 0;
  auto& own = sleeps_on[this_page().index];
  // seq_cst: the waker stores to the word and reads this.  An exchange, since
  // QEMU lets the load below pass a store on aarch64 (stlr, ldar), which the
  // architecture does not.
  own.exchange(word, std::memory_order::seq_cst);
  long result = 0;
  if (__atomic_load_n(word, __ATOMIC_SEQ_CST) != expected) {
    result = -EAGAIN;
  } else {
    auto const events =
        static_cast<std::uint32_t>(call(ACTIVATIONS_CALL_PARK, deadline));
    if (own.load(std::memory_order::seq_cst) != nullptr &&
        (events & ACTIVATIONS_EVENT_TIMER) != 0 && now_ns() >= deadline)
      result = -ETIMEDOUT;
  }
  own.store(nullptr, std::memory_order::seq_cst);
  return result;
}

long futex_wake(std::uint32_t const* word, int most) {
  long count = 0;
  for (unsigned i = 0; i < ACTIVATIONS_IMAGE_DISPATCHERS && count < most; ++i) {
    void const* seen = word;
    if (!sleeps_on[i].compare_exchange_strong(seen, nullptr,
                                              std::memory_order::seq_cst))
      continue;
    call(ACTIVATIONS_CALL_KICK, i);
    ++count;
  }
  return count;
}

u64 in_ns(timespec const& t) {
  return static_cast<u64>(t.tv_sec) * 1'000'000'000u +
         static_cast<u64>(t.tv_nsec);
}

thread_local constinit int own_errno = 0;

long fail(int error) {
  errno = error;
  return -1;
}

}  // namespace
}  // namespace user

extern "C" {

// Not inlined: see activation.hpp on the addresses of thread_locals.
[[gnu::noinline]] int* __errno_location() noexcept {
  int* found = &user::own_errno;
  asm volatile("" : "+r"(found));
  return found;
}

long syscall(long number, ...) noexcept {
  va_list list;
  va_start(list, number);
  long result = -ENOSYS;
  if (number == SYS_futex) {
    auto* const word = va_arg(list, std::uint32_t*);
    int const operation = va_arg(list, int) & FUTEX_CMD_MASK;
    auto const value = va_arg(list, unsigned);
    auto const* const timeout = va_arg(list, timespec const*);
    if (operation == FUTEX_WAIT_BITSET || operation == FUTEX_WAIT)
      result = user::futex_wait(word, value,
                                timeout == nullptr ? user::never
                                : operation == FUTEX_WAIT
                                    ? user::now_ns() + user::in_ns(*timeout)
                                    : user::in_ns(*timeout));
    else
      result = user::futex_wake(word, static_cast<int>(value));
  }
  va_end(list);
  return result < 0 ? user::fail(static_cast<int>(-result)) : result;
}

// ---- time ------------------------------------------------------------------------

int clock_gettime(clockid_t, timespec* now) noexcept {
  auto const ns = user::now_ns();
  now->tv_sec = static_cast<time_t>(ns / 1'000'000'000u);
  now->tv_nsec = static_cast<long>(ns % 1'000'000'000u);
  return 0;
}

int nanosleep(timespec const* time, timespec*) {
  auto const deadline = user::now_ns() + user::in_ns(*time);
  if (activations::detail::current_activation() != nullptr)
    activations::this_thread::sleep_until(std::chrono::steady_clock::time_point(
        std::chrono::nanoseconds(deadline)));
  else
    while (user::now_ns() < deadline)
      user::call(ACTIVATIONS_CALL_PARK, deadline);
  return 0;
}

int sched_yield() noexcept {
  if (activations::detail::current_activation() != nullptr)
    activations::this_thread::yield();
  return 0;
}

// ---- memory ----------------------------------------------------------------------

void* mmap(void*, std::size_t bytes, int, int, int, off_t) noexcept {
  // Only reserved; see abi_image.h.
  static std::atomic<user::u64> next{ACTIVATIONS_IMAGE_LAZY};
  bytes = (bytes + user::page_bytes - 1) & ~(user::page_bytes - 1);
  return reinterpret_cast<void*>(
      next.fetch_add(bytes + user::page_bytes, std::memory_order::relaxed));
}
int munmap(void* at, std::size_t bytes) noexcept {
  bytes = (bytes + user::page_bytes - 1) & ~(user::page_bytes - 1);
  return static_cast<int>(user::call(ACTIVATIONS_IMAGE_UNMAP,
                                     reinterpret_cast<user::u64>(at), bytes));
}
// Only guards can be had, in memory that nobody has touched.
int mprotect(void* at, std::size_t bytes, int access) noexcept {
  if (access != PROT_NONE) return static_cast<int>(user::fail(EINVAL));
  long const result = user::call(ACTIVATIONS_IMAGE_PROTECT,
                                 reinterpret_cast<user::u64>(at), bytes, 0);
  return result < 0 ? static_cast<int>(user::fail(static_cast<int>(-result)))
                    : 0;
}
int madvise(void*, std::size_t, int) noexcept {
  return static_cast<int>(user::fail(EINVAL));
}

// ---- files and processes -----------------------------------------------------------

int open(char const*, int, ...) {
  return static_cast<int>(user::fail(ENOENT));
}
ssize_t read(int, void*, std::size_t) {
  return user::fail(EBADF);
}
int close(int) {
  return static_cast<int>(user::fail(EBADF));
}
ssize_t write(int, void const* text, std::size_t bytes) {
  user::print(static_cast<char const*>(text), bytes);
  return static_cast<ssize_t>(bytes);
}
pid_t getpid() noexcept {
  return 1;
}
pid_t gettid() noexcept {
  return static_cast<pid_t>(user::this_page().index);
}
unsigned long getauxval(unsigned long what) noexcept {
  return what == AT_PAGESZ ? user::page_bytes : 0;
}
long sysconf(int what) noexcept {
  return what == _SC_NPROCESSORS_ONLN
             ? static_cast<long>(user::page_at(0).cores)
             : user::fail(EINVAL);
}
// Affinity is the dispatchers' own matter.
int sched_setaffinity(pid_t, std::size_t, cpu_set_t const*) noexcept {
  return 0;
}
int sched_getaffinity(pid_t, std::size_t bytes, cpu_set_t* mask) noexcept {
  std::memset(mask, 0, bytes);
  mask->__bits[0] = (1ul << user::page_at(0).cores) - 1;
  return 0;
}
char* getenv(char const*) noexcept {
  return nullptr;
}

// ---- threads: the dispatchers are all there is ---------------------------------------

int pthread_atfork(void (*)(), void (*)(), void (*)()) noexcept {
  return 0;
}
pthread_t pthread_self() noexcept {
  return reinterpret_cast<pthread_t>(&user::this_page());
}
int pthread_create(pthread_t*, pthread_attr_t const*, void* (*)(void*),
                   void*) noexcept {
  return ENOSYS;
}
int pthread_attr_init(pthread_attr_t*) noexcept {
  return 0;
}
int pthread_attr_destroy(pthread_attr_t*) noexcept {
  return 0;
}
int pthread_attr_setdetachstate(pthread_attr_t*, int) noexcept {
  return 0;
}
int pthread_attr_setstacksize(pthread_attr_t*, std::size_t) noexcept {
  return 0;
}
int pthread_getattr_default_np(pthread_attr_t*) noexcept {
  return 0;
}
int pthread_mutex_lock(pthread_mutex_t* m) noexcept {
  auto* const word = reinterpret_cast<std::uint32_t*>(m);
  while (__atomic_exchange_n(word, 1, __ATOMIC_ACQUIRE) != 0) sched_yield();
  return 0;
}
int pthread_mutex_unlock(pthread_mutex_t* m) noexcept {
  __atomic_store_n(reinterpret_cast<std::uint32_t*>(m), 0, __ATOMIC_RELEASE);
  return 0;
}

int sigaction(int, struct sigaction const*, struct sigaction*) noexcept {
  return static_cast<int>(user::fail(ENOSYS));
}
int sigemptyset(sigset_t*) noexcept {
  return 0;
}

// ---- the end -------------------------------------------------------------------------

[[noreturn]] void abort() noexcept {
  user::print("aborted\n");
  user::exit(134);
}
[[noreturn]] void __assert_fail(char const* expression, char const* file,
                                unsigned line, char const*) noexcept {
  user::print(expression);
  user::print(" is false: ");
  user::print(file);
  (void)line;
  user::print("\n");
  abort();
}
[[noreturn]] void exit(int status) noexcept {
  user::exit(status);
}
[[noreturn]] void _exit(int status) {
  user::exit(status);
}

int __cxa_atexit(void (*)(void*), void*, void*) noexcept {
  return 0;
}
int __cxa_thread_atexit(void (*)(void*), void*, void*) noexcept {
  return 0;
}
[[noreturn]] void __cxa_pure_virtual() {
  abort();
}
void* __dso_handle = nullptr;
char __libc_single_threaded = 0;
}

// ---- the C++ runtime --------------------------------------------------------------------

namespace __cxxabiv1 {
struct __cxa_eh_globals {
  void* caught;
  unsigned uncaught;
};
extern "C" [[gnu::noinline]] __cxa_eh_globals* __cxa_get_globals() noexcept {
  static thread_local constinit __cxa_eh_globals own{};
  return &own;
}
}  // namespace __cxxabiv1

namespace std {

[[noreturn]] void terminate() noexcept {
  ::abort();
}

namespace chrono {
inline namespace _V2 {
steady_clock::time_point steady_clock::now() noexcept {
  return time_point(nanoseconds(::user::now_ns()));
}
system_clock::time_point system_clock::now() noexcept {
  return time_point(nanoseconds(::user::now_ns()));
}
}  // namespace _V2
}  // namespace chrono

// Nothing is thrown, so a pointer to an exception is always null.
namespace __exception_ptr {
void exception_ptr::_M_addref() noexcept {}
void exception_ptr::_M_release() noexcept {}
}  // namespace __exception_ptr
exception_ptr current_exception() noexcept {
  return {};
}
void rethrow_exception(exception_ptr) {
  ::abort();
}

namespace {
[[noreturn]] void fail(char const* what) {
  ::user::print(what);
  ::user::print("\n");
  ::abort();
}
}  // namespace
void __throw_length_error(char const* what) {
  fail(what);
}
void __throw_logic_error(char const* what) {
  fail(what);
}
void __throw_out_of_range_fmt(char const* what, ...) {
  fail(what);
}
void __throw_bad_function_call() {
  fail("bad function call");
}
void __throw_bad_alloc() {
  fail("bad alloc");
}
void __throw_bad_array_new_length() {
  fail("bad array length");
}
void __throw_system_error(int) {
  fail("system error");
}

}  // namespace std
