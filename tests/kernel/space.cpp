// SPDX-License-Identifier: BSL-1.0
#include "space.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>

#define DECLARE_STUB(name) extern "C" char name[], name##_end[]
DECLARE_STUB(park_stub_plain);
DECLARE_STUB(park_stub_wide);
DECLARE_STUB(park_stub_spoils_vector);
DECLARE_STUB(park_stub_spoils_x87);
DECLARE_STUB(park_stub_spoils_red_zone);
DECLARE_STUB(park_stub_spoils_general);

namespace kernel_tests {
namespace {

park_stub stub_between(char* begin, char* end) noexcept {
  return {reinterpret_cast<std::uint64_t>(begin),
          static_cast<std::uint32_t>(end - begin)};
}

template <class T>
T* at(void* area, std::size_t offset) noexcept {
  return reinterpret_cast<T*>(static_cast<char*>(area) + offset);
}

[[noreturn]] void give_up(char const* what, long error) {
  std::printf("space: %s: %s\n", what, std::strerror(static_cast<int>(-error)));
  std::fflush(stdout);
  _exit(1);
}

}  // namespace

park_stub park_stub::plain() noexcept {
  return stub_between(park_stub_plain, park_stub_plain_end);
}
park_stub park_stub::wide() noexcept {
  return stub_between(park_stub_wide, park_stub_wide_end);
}
park_stub park_stub::spoils_vector() noexcept {
  return stub_between(park_stub_spoils_vector, park_stub_spoils_vector_end);
}
park_stub park_stub::spoils_x87() noexcept {
  return stub_between(park_stub_spoils_x87, park_stub_spoils_x87_end);
}
park_stub park_stub::spoils_red_zone() noexcept {
  return stub_between(park_stub_spoils_red_zone, park_stub_spoils_red_zone_end);
}
park_stub park_stub::spoils_general() noexcept {
  return stub_between(park_stub_spoils_general, park_stub_spoils_general_end);
}

int open_device() noexcept {
  return static_cast<int>(raw_call(
      SYS_openat, AT_FDCWD, ACTIVATIONS_DEVICE_PATH, O_RDWR | O_CLOEXEC));
}

activations_open open_argument(unsigned processors, unsigned activations,
                               park_stub stub) noexcept {
  activations_open argument{};
  argument.version = ACTIVATIONS_ABI_VERSION;
  argument.processors = processors;
  argument.activations = activations;
  argument.park_stub = stub.address;
  argument.park_stub_bytes = stub.bytes;
  argument.features = ACTIVATIONS_FEATURE_STOP | ACTIVATIONS_FEATURE_PREEMPT;
  return argument;
}

long raw_ioctl(int fd, unsigned long request, void const* argument) noexcept {
  return raw_call(SYS_ioctl, fd, request, argument);
}

space::space(unsigned processors, unsigned activations, park_stub stub) {
  fd_ = open_device();
  if (fd_ < 0) give_up("open " ACTIVATIONS_DEVICE_PATH, fd_);
  open_ = open_argument(processors, activations, stub);
  if (long const r = raw_ioctl(fd_, ACTIVATIONS_IOCTL_OPEN, &open_); r < 0) {
    give_up("OPEN", r);
  }
  void* info = mmap(nullptr, open_.info_bytes, PROT_READ, MAP_SHARED, fd_,
                    static_cast<off_t>(ACTIVATIONS_MMAP_INFO));
  if (info == MAP_FAILED) give_up("mmap info", -errno);
  void* control =
      mmap(nullptr, open_.control_bytes, PROT_READ | PROT_WRITE, MAP_SHARED,
           fd_, static_cast<off_t>(ACTIVATIONS_MMAP_CONTROL));
  if (control == MAP_FAILED) give_up("mmap control", -errno);
  info_ = static_cast<activations_info_header*>(info);
  control_ = static_cast<activations_control_header*>(control);
  control_processor_offset_ = control_->processor_offset;
  control_activation_offset_ = control_->activation_offset;
  stopped_offset_ = control_->stopped_offset;
}

space::~space() {
  unmap_info();
  munmap(control_, open_.control_bytes);
  close_file();
}

void space::close_file() noexcept {
  if (fd_ >= 0) close(fd_);
  fd_ = -1;
}

void space::close_threads_file() noexcept {
  int const other = fcntl(fd_, F_DUPFD_CLOEXEC, 3);
  close(fd_);
  fd_ = other;
}

void space::unmap_info() noexcept {
  if (info_) munmap(info_, open_.info_bytes);
  info_ = nullptr;
}

activations_processor_info& space::processor(unsigned v) const noexcept {
  return at<activations_processor_info>(info_, info_->processor_offset)[v];
}
activations_activation_info& space::activation(unsigned i) const noexcept {
  return at<activations_activation_info>(info_, info_->activation_offset)[i];
}
activations_processor_control& space::processor_control(
    unsigned v) const noexcept {
  return at<activations_processor_control>(control_,
                                           control_processor_offset_)[v];
}
activations_activation_control& space::own(unsigned i) const noexcept {
  return at<activations_activation_control>(control_,
                                            control_activation_offset_)[i];
}
activations_registers& space::registers(unsigned i) const noexcept {
  return at<activations_registers>(info_, info_->register_offset)[i];
}
activations_word64* space::stopped_words() const noexcept {
  return at<activations_word64>(control_, stopped_offset_);
}
unsigned space::stopped_word_count() const noexcept {
  return (activations() + 63) / 64;
}
bool space::is_idle(unsigned v) const noexcept {
  auto* words = at<activations_word64>(info_, info_->idle_offset);
  return (words[v / 64].load(std::memory_order::seq_cst) >> (v % 64)) & 1;
}

unsigned space::owner(unsigned v) const noexcept {
  auto const word = processor(v).word.load(std::memory_order::acquire);
  return (word >> ACTIVATIONS_WORD_OWNER_SHIFT) & none;
}
unsigned space::processor_state(unsigned v) const noexcept {
  return processor(v).word.load(std::memory_order::acquire) &
         ACTIVATIONS_WORD_STATE_MASK;
}

long space::call(unsigned long request, std::uint64_t argument) noexcept {
  return raw_call(SYS_ioctl, fd_, request, argument);
}

long space::attach(unsigned i, unsigned v) noexcept {
  activations_attach argument{};
  argument.index = i;
  argument.processor = v;
  argument.registers = reinterpret_cast<std::uint64_t>(info_) +
                       info_->register_offset +
                       std::uint64_t{i} * sizeof(activations_registers);
  return raw_ioctl(fd_, ACTIVATIONS_IOCTL_ATTACH, &argument);
}

long space::slice(unsigned v, std::uint64_t ns) noexcept {
  activations_slice argument{};
  argument.processor = v;
  argument.ns = ns;
  return raw_ioctl(fd_, ACTIVATIONS_IOCTL_SLICE, &argument);
}

activations_stats space::stats() noexcept {
  activations_stats result{};
  raw_ioctl(fd_, ACTIVATIONS_IOCTL_STATS, &result);
  return result;
}

void space::disable(unsigned i) noexcept {
  auto& word = own(i).disabled;
  word.store(word.load(std::memory_order::relaxed) + 1,
             std::memory_order::relaxed);
  std::atomic_signal_fence(std::memory_order::seq_cst);
}

void space::enable(unsigned i) noexcept {
  auto& mine = own(i);
  std::atomic_signal_fence(std::memory_order::seq_cst);
  // A full barrier between this store and the load below; the kernel sets
  // pending, then reads disabled.
  if (mine.disabled.fetch_sub(1, std::memory_order::seq_cst) == 1 &&
      mine.pending.load(std::memory_order::seq_cst) != 0) {
    mine.pending.store(0, std::memory_order::seq_cst);
    stop();
  }
}

}  // namespace kernel_tests
