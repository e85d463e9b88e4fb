// SPDX-License-Identifier: BSL-1.0
//
// One space of the module, by its raw calls: opens the device, maps both areas
// and gives each call a name. All calls return what the kernel did, a negative
// errno on failure, and leave errno alone.
#pragma once

#include <activations/abi_linux.h>

#include <cstddef>
#include <cstdint>

#include "raw_call.hpp"

namespace kernel_tests {

inline constexpr std::uint32_t none = ACTIVATIONS_INDEX_NONE;
inline constexpr std::uint64_t never = ~std::uint64_t{0};

// Where a stopped thread waits: park_stub.S.
struct park_stub {
  std::uint64_t address;
  std::uint32_t bytes;

  static park_stub plain() noexcept;
  // A branch between all of its instructions, forty before the system call.
  static park_stub wide() noexcept;
  // Negative controls: stubs that change something before the call.
  static park_stub spoils_vector() noexcept;
  static park_stub spoils_x87() noexcept;
  static park_stub spoils_red_zone() noexcept;
  // No control: the module restores what this one changes.
  static park_stub spoils_general() noexcept;
};

class space {
 public:
  // Opens the device and a space; ends the program with a sentence if that is
  // refused.
  space(unsigned processors, unsigned activations,
        park_stub stub = park_stub::plain());
  ~space();
  space(space const&) = delete;
  space& operator=(space const&) = delete;

  int fd() const noexcept { return fd_; }
  // Closes the descriptor; the areas stay mapped.
  void close_file() noexcept;
  // Closes the descriptor that threads attached by; calls go on by another.
  void close_threads_file() noexcept;
  void unmap_info() noexcept;
  unsigned processors() const noexcept { return open_.processors; }
  unsigned activations() const noexcept { return open_.activations; }
  activations_open const& opened() const noexcept { return open_; }

  activations_info_header& info() const noexcept { return *info_; }
  activations_control_header& control() const noexcept { return *control_; }
  activations_processor_info& processor(unsigned v) const noexcept;
  activations_activation_info& activation(unsigned i) const noexcept;
  activations_processor_control& processor_control(unsigned v) const noexcept;
  activations_activation_control& own(unsigned i) const noexcept;
  activations_registers& registers(unsigned i) const noexcept;
  // The 64-bit words of the stopped bits, as many as words().
  activations_word64* stopped_words() const noexcept;
  unsigned stopped_word_count() const noexcept;
  bool is_idle(unsigned v) const noexcept;

  unsigned owner(unsigned v) const noexcept;
  unsigned processor_state(unsigned v) const noexcept;

  long attach(unsigned i, unsigned v) noexcept;
  long park() noexcept { return call(ACTIVATIONS_IOCTL_PARK); }
  long switch_to(unsigned i) noexcept {
    return call(ACTIVATIONS_IOCTL_SWITCH_TO, i);
  }
  long request(unsigned count) noexcept {
    return call(ACTIVATIONS_IOCTL_REQUEST, count);
  }
  long release(std::uint64_t deadline = never) noexcept {
    return call(ACTIVATIONS_IOCTL_RELEASE, deadline);
  }
  long kick(unsigned v) noexcept { return call(ACTIVATIONS_IOCTL_KICK, v); }
  long slice(unsigned v, std::uint64_t ns) noexcept;
  activations_stats stats() noexcept;
  long wake(unsigned v) noexcept { return call(ACTIVATIONS_IOCTL_WAKE, v); }
  long stop() noexcept { return call(ACTIVATIONS_IOCTL_STOP); }
  long timer(std::uint64_t ns) noexcept {
    return call(ACTIVATIONS_IOCTL_TIMER, ns);
  }
  long end(std::uint64_t i) noexcept { return call(ACTIVATIONS_IOCTL_END, i); }
  long detach() noexcept { return call(ACTIVATIONS_IOCTL_DETACH); }

  long call(unsigned long request, std::uint64_t argument = 0) noexcept;

  // The step after disabled = 0: takes a stop that came while it was not 0.
  void enable(unsigned i) noexcept;
  void disable(unsigned i) noexcept;

 private:
  int fd_ = -1;
  activations_open open_{};
  activations_info_header* info_ = nullptr;
  activations_control_header* control_ = nullptr;
  // As they were at first: a test may overwrite those in the area.
  std::uint32_t control_processor_offset_ = 0;
  std::uint32_t control_activation_offset_ = 0;
  std::uint32_t stopped_offset_ = 0;
};

// A device that was opened, without a space; < 0: the errno.
int open_device() noexcept;
// The argument of an OPEN that is right.
activations_open open_argument(unsigned processors, unsigned activations,
                               park_stub stub = park_stub::plain()) noexcept;
long raw_ioctl(int fd, unsigned long request, void const* argument) noexcept;

}  // namespace kernel_tests
