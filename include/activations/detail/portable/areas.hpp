// SPDX-License-Identifier: BSL-1.0
//
// The info and control areas of abi.h in ordinary memory, for the backend that
// plays the kernel in user space.  Set up once, zeroed, freed with the backend.
#pragma once

#include <sys/mman.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <new>
#include <system_error>

#include <activations/abi.h>
#include <activations/detail/area_view.hpp>
#include <activations/error.hpp>

namespace activations::detail {

class areas : public area_view {
 public:
  // Throws std::system_error when memory is short.
  areas(std::uint32_t processors, std::uint32_t activations)
      : info_bytes_(sizeof(activations_info_header) +
                    processors * sizeof(activations_processor_info) +
                    activations * sizeof(activations_activation_info)),
        control_bytes_(sizeof(activations_control_header) +
                       processors * sizeof(activations_processor_control) +
                       activations * sizeof(activations_activation_control)) {
    info_ = map(info_bytes_);
    try {
      control_ = map(control_bytes_);
    } catch (...) {
      munmap(info_, info_bytes_);
      throw;
    }
    auto* const info = new (info_) activations_info_header{};
    info->magic = ACTIVATIONS_ABI_MAGIC;
    info->version = ACTIVATIONS_ABI_VERSION;
    info->bytes = info_bytes_;
    info->features = ACTIVATIONS_FEATURE_STOP | ACTIVATIONS_FEATURE_PREEMPT;
    info->processor_count = processors;
    info->processor_offset = sizeof *info;
    info->activation_count = activations;
    info->activation_offset = static_cast<std::uint32_t>(
        sizeof *info + processors * sizeof(activations_processor_info));
    auto* const control = new (control_) activations_control_header{};
    control->magic = ACTIVATIONS_ABI_MAGIC;
    control->version = ACTIVATIONS_ABI_VERSION;
    control->bytes = control_bytes_;
    control->processor_count = processors;
    control->processor_offset = sizeof *control;
    control->activation_count = activations;
    control->activation_offset = static_cast<std::uint32_t>(
        sizeof *control + processors * sizeof(activations_processor_control));
  }

  ~areas() {
    munmap(info_, info_bytes_);
    munmap(control_, control_bytes_);
  }

  areas(areas const&) = delete;
  areas& operator=(areas const&) = delete;

 private:
  static void* map(std::size_t bytes) {
    void* const memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                              MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) throw_system_error(errno, "map the shared areas");
    return memory;
  }

  std::size_t info_bytes_;
  std::size_t control_bytes_;
};

}  // namespace activations::detail
