// SPDX-License-Identifier: BSL-1.0
//
// Where things are in the info and control areas of abi.h, whoever made them.
#pragma once

#include <cstddef>
#include <cstdint>

#include <activations/abi.h>

namespace activations::detail {

class area_view {
 public:
  [[nodiscard]] activations_processor_info& processor_info(
      std::uint32_t i) noexcept {
    return at<activations_processor_info>(info_, info().processor_offset, i);
  }
  [[nodiscard]] activations_activation_info& activation_info(
      std::uint32_t i) noexcept {
    return at<activations_activation_info>(info_, info().activation_offset, i);
  }
  [[nodiscard]] activations_processor_control& processor_control(
      std::uint32_t i) noexcept {
    return at<activations_processor_control>(control_,
                                             control().processor_offset, i);
  }
  [[nodiscard]] activations_activation_control& activation_control(
      std::uint32_t i) noexcept {
    return at<activations_activation_control>(control_,
                                              control().activation_offset, i);
  }
  [[nodiscard]] activations_info_header& info() noexcept {
    return *static_cast<activations_info_header*>(info_);
  }
  [[nodiscard]] activations_control_header& control() noexcept {
    return *static_cast<activations_control_header*>(control_);
  }

 protected:
  // The zeroed memory is every word's initial value.
  template <class T>
  static T& at(void* area, std::size_t offset, std::uint32_t i) noexcept {
    return reinterpret_cast<T*>(static_cast<std::byte*>(area) + offset)[i];
  }

  void* info_ = nullptr;
  void* control_ = nullptr;
};

}  // namespace activations::detail
