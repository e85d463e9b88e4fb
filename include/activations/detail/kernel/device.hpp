// SPDX-License-Identifier: BSL-1.0
//
// An open /dev/activations: the space of one scheduler, with its two areas
// mapped and its calls (abi.h, abi_linux.h).
//
// A forked child gets neither the areas nor the right to call.  It is given
// private zeroed pages in their place, so that a word that it still touches
// does not fault, and its copy of the file is closed.
#pragma once

#include <fcntl.h>
#include <pthread.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <mutex>
#include <string>

#include <activations/abi_linux.h>
#include <activations/detail/area_view.hpp>
#include <activations/detail/context.hpp>

namespace activations::detail {

class kernel_device : public area_view {
 public:
  // Why there is none: what to say, and the errno value.
  struct refusal {
    std::string reason;
    int error = 0;
  };

  // A space of that many processors and at most that many activations.
  // Null: `why` says why not.
  static std::unique_ptr<kernel_device> open(std::uint32_t processors,
                                             std::uint32_t activations,
                                             refusal& why) {
    std::unique_ptr<kernel_device> made(new kernel_device);
    why = made->set_up(processors, activations);
    if (why.error != 0) return nullptr;
    made->enlist();
    return made;
  }

  ~kernel_device() {
    delist();
    if (info_ != nullptr) munmap(info_, info_bytes_);
    if (control_ != nullptr) munmap(control_, control_bytes_);
    if (file_ >= 0) ::close(file_);
  }

  kernel_device(kernel_device const&) = delete;
  kernel_device& operator=(kernel_device const&) = delete;

  // A call: 0 or an errno value.  errno is left as it was: the caller may be
  // in the middle of anything.
  [[nodiscard]] int call(unsigned long request,
                         std::uint64_t argument = 0) const noexcept {
    auto const result = value_of(request, argument);
    return result < 0 ? static_cast<int>(-result) : 0;
  }
  template <class T>
  [[nodiscard]] int call(unsigned long request, T* argument) const noexcept {
    return call(request, reinterpret_cast<std::uintptr_t>(argument));
  }
  // One that returns a value, or a negative errno.
  [[nodiscard]] long value_of(unsigned long request,
                              std::uint64_t argument) const noexcept {
    int const saved = errno;
    long const result = ::ioctl(file_, request, argument);
    long const value = result < 0 ? -static_cast<long>(errno) : result;
    errno = saved;
    return value;
  }

  [[nodiscard]] int attach(std::uint32_t activation,
                           std::uint32_t processor) const noexcept {
    auto const* const registers = static_cast<std::byte const*>(info_) +
                                  register_offset_ +
                                  activation * sizeof(activations_registers);
    activations_attach argument{activation, processor,
                                reinterpret_cast<std::uintptr_t>(registers)};
    return call(ACTIVATIONS_IOCTL_ATTACH, &argument);
  }

  [[nodiscard]] std::uint32_t processors() const noexcept {
    return processors_;
  }
  [[nodiscard]] std::uint32_t activations() const noexcept {
    return activations_;
  }
  // Bit arrays, in words: idle processors, and activations that were stopped.
  [[nodiscard]] activations_word64 const* idle_bits() noexcept {
    return &at<activations_word64>(info_, info().idle_offset, 0);
  }
  [[nodiscard]] activations_word64* stopped_bits() noexcept {
    return &at<activations_word64>(control_, stopped_offset_, 0);
  }

 private:
  kernel_device() = default;

  refusal set_up(std::uint32_t processors, std::uint32_t activations) {
    if constexpr (!arch::has_park_stub)
      return {"the kernel module does not know this architecture", ENOSYS};
    file_ = ::open(ACTIVATIONS_DEVICE_PATH, O_RDWR | O_CLOEXEC);
    if (file_ < 0) {
      int const error = errno;
      if (error == ENOENT) return {"no " ACTIVATIONS_DEVICE_PATH, error};
      return refused("open", error);
    }
    auto const stub = arch::find_park_stub();
    activations_open request{};
    request.version = ACTIVATIONS_ABI_VERSION;
    request.processors = processors;
    request.activations = activations;
    request.park_stub = stub.address;
    request.park_stub_bytes = stub.bytes;
    request.features = ACTIVATIONS_FEATURE_STOP | ACTIVATIONS_FEATURE_PREEMPT;
    if (int const error = call(ACTIVATIONS_IOCTL_OPEN, &request))
      return refused("set up", error);
    if (request.version >> 16 != ACTIVATIONS_ABI_MAJOR)
      return refused("speak version 1 to", EPROTO);
    if (request.processors < processors) return refused("get all of", ENOSPC);
    info_bytes_ = request.info_bytes;
    control_bytes_ = request.control_bytes;
    info_ = map(info_bytes_, PROT_READ, ACTIVATIONS_MMAP_INFO);
    control_ =
        map(control_bytes_, PROT_READ | PROT_WRITE, ACTIVATIONS_MMAP_CONTROL);
    if (info_ == nullptr || control_ == nullptr) return refused("map", errno);
    if (info().magic != ACTIVATIONS_ABI_MAGIC ||
        info().version >> 16 != ACTIVATIONS_ABI_MAJOR ||
        info().idle_offset == 0 || info().register_offset == 0 ||
        control().stopped_offset == 0)
      return refused("understand", EPROTO);
    processors_ = processors;
    activations_ = info().activation_count;
    register_offset_ = info().register_offset;
    stopped_offset_ = control().stopped_offset;
    return {};
  }

  static refusal refused(char const* what, int error) {
    return {std::string("cannot ") + what + " " ACTIVATIONS_DEVICE_PATH ": " +
                std::strerror(error),
            error};
  }

  void* map(std::size_t bytes, int protection, std::uint64_t offset) const {
    void* const memory = mmap(nullptr, bytes, protection, MAP_SHARED, file_,
                              static_cast<off_t>(offset));
    return memory == MAP_FAILED ? nullptr : memory;
  }

  // ---- fork --------------------------------------------------------------

  struct registry {
    std::mutex lock;
    kernel_device* first = nullptr;
  };
  static registry& living() noexcept {
    static registry one;
    return one;
  }

  void enlist() {
    static int const once = pthread_atfork(
        [] { living().lock.lock(); }, [] { living().lock.unlock(); },
        [] {
          for (auto* d = living().first; d != nullptr; d = d->next_)
            d->detach_in_child();
          living().lock.unlock();
        });
    (void)once;
    std::lock_guard const guard(living().lock);
    next_ = living().first;
    living().first = this;
    is_listed_ = true;
  }

  void delist() noexcept {
    if (!is_listed_) return;
    std::lock_guard const guard(living().lock);
    for (auto** at = &living().first; *at != nullptr; at = &(*at)->next_)
      if (*at == this) {
        *at = next_;
        return;
      }
  }

  void detach_in_child() noexcept {
    auto const replace = [](void* area, std::size_t bytes) {
      mmap(area, bytes, PROT_READ | PROT_WRITE,
           MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    };
    replace(info_, info_bytes_);
    replace(control_, control_bytes_);
    ::close(file_);
    file_ = -1;
  }

  int file_ = -1;
  std::size_t info_bytes_ = 0;
  std::size_t control_bytes_ = 0;
  std::uint32_t processors_ = 0;
  std::uint32_t activations_ = 0;
  std::uint32_t register_offset_ = 0;
  std::uint32_t stopped_offset_ = 0;
  kernel_device* next_ = nullptr;
  bool is_listed_ = false;
};

}  // namespace activations::detail
