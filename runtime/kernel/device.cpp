// SPDX-License-Identifier: BSL-1.0
//
// Interrupts that user code handles: device 0 is the serial line.  The kernel
// turns one into an event and knows nothing else of it.
#include <cerrno>

#include <machine.hpp>

#include "space.hpp"

namespace kernel {
namespace {

dispatcher* listener;  // of device 0; on core 0

}  // namespace

void device_came(core& here, u32 device) {
  if (listener == nullptr || device != 0) return;
  listener->page->devices.fetch_or(1, std::memory_order::release);
  notify(here, *listener, ACTIVATIONS_EVENT_DEVICE);
}

long device_listen(core& here, dispatcher& caller, u64 device) {
  if (device != 0) return -ENODEV;
  if (listener != nullptr && listener != &caller) return -EBUSY;
  if (here.index != 0) return -EXDEV;  // its interrupts come to core 0
  listener = &caller;
  machine::console_listen();
  return 0;
}

void device_forget(space& home) {
  if (listener != nullptr && listener->home == &home) listener = nullptr;
}

}  // namespace kernel
