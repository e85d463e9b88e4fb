// SPDX-License-Identifier: BSL-1.0
#include "interrupt_controller.hpp"

#include "../../kernel/core.hpp"
#include "firmware.hpp"

namespace machine {
namespace {

constexpr u32 supervisor_external = 9;

// Registers: a priority for each source, then for each context a bit array of
// enables, then threshold and claim.
constexpr u64 enables(u32 context, u32 source) {
  return 0x2000 + 0x80 * u64{context} + source / 32 * 4;
}
constexpr u64 threshold(u32 context) {
  return 0x200000 + 0x1000 * u64{context};
}
constexpr u64 claim(u32 context) {
  return threshold(context) + 4;
}

}  // namespace

u32 volatile& interrupt_controller::at(u64 offset) const {
  return *reinterpret_cast<u32 volatile*>(base_ + offset);
}

u32 interrupt_controller::context() const {
  return contexts_[kernel::this_core().index];
}

void interrupt_controller::find(kernel::device_tree const& tree,
                                unsigned cores) {
  auto const plic = tree.find_compatible("sifive,plic-1.0.0");
  base_ = plic.range().base;
  // Pairs of a hart's controller and one of its interrupts: a context each.
  auto const contexts = plic.find("interrupts-extended");
  for (u32 i = 0; i < contexts.cells() / 2; ++i)
    for (unsigned c = 0; c < cores; ++c)
      if (contexts.cell(2 * i) == firmware_local_controller(c) &&
          contexts.cell(2 * i + 1) == supervisor_external)
        contexts_[c] = i;
}

void interrupt_controller::start_core() {
  if (base_ != 0) at(threshold(context())) = 0;
}

void interrupt_controller::enable(u32 source) {
  if (base_ == 0) return;
  at(4 * u64{source}) = 1;  // priority
  auto& word = at(enables(context(), source));
  word = word | u32{1} << source % 32;
}

u32 interrupt_controller::acknowledge() {
  return base_ != 0 ? at(claim(context())) : 0;
}

void interrupt_controller::complete(u32 source) {
  at(claim(context())) = source;
}

}  // namespace machine
