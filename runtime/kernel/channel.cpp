// SPDX-License-Identifier: BSL-1.0
//
// Channels of cache lines for user code (abi_image.h).  The kernel makes the
// page and knows who its two ends are; what is in it, it never reads.
#include <cerrno>

#include <machine.hpp>

#include "core.hpp"
#include "space.hpp"

namespace kernel {
namespace {

struct channel {
  u64 frame;
  dispatcher* ends[2];
};

channel channels[ACTIVATIONS_IMAGE_CHANNELS];
spin_lock ends_lock;  // for a few steps, or to zero a page

bool is_there(dispatcher const* end) {
  return end != nullptr && !end->is(dispatcher_state::unused);
}

// The caller's own view.  Context: without ends_lock.
long map_channel(core& here, space& home, u64 n, u64 frame) {
  home.lock.lock();
  u64* const entry = home.tables.make_entry(
      here.frames, ACTIVATIONS_IMAGE_CHANNEL + n * page_bytes);
  if (entry != nullptr && *entry == 0)
    *entry = machine::leaf(frame,
                           ACTIVATIONS_ACCESS_READ | ACTIVATIONS_ACCESS_WRITE) |
             machine::pte_borrowed;
  home.lock.unlock();
  return entry == nullptr ? -ENOMEM : 0;
}

}  // namespace

long channel_open(core& here, dispatcher& caller, u64 n, u64 end) {
  if (n >= ACTIVATIONS_IMAGE_CHANNELS || end > 1) return -EINVAL;
  channel& c = channels[n];
  ends_lock.lock();
  if (c.frame == 0) c.frame = here.frames.take();
  long result = 0;
  if (c.frame == 0)
    result = -ENOMEM;
  else if (is_there(c.ends[end]) && c.ends[end] != &caller)
    result = -EBUSY;
  else
    c.ends[end] = &caller;
  ends_lock.unlock();
  return result != 0 ? result : map_channel(here, *caller.home, n, c.frame);
}

long channel_notify(core& here, dispatcher& caller, u64 n, u64 end) {
  if (n >= ACTIVATIONS_IMAGE_CHANNELS || end > 1) return -EINVAL;
  channel const& c = channels[n];
  ends_lock.lock();
  dispatcher* const other = c.ends[1 - end];
  bool const is_ours = c.ends[end] == &caller;
  ends_lock.unlock();
  if (!is_ours) return -EPERM;
  if (!is_there(other)) return -ENOTCONN;
  notify(here, *other, ACTIVATIONS_EVENT_MESSAGE);
  return 0;
}

// A space is gone.  The other end hears of it; the last leaves a clean page.
void channel_forget(core& here, space& home) {
  for (auto& c : channels) {
    dispatcher* left = nullptr;
    ends_lock.lock();
    bool const was_end = (c.ends[0] != nullptr && c.ends[0]->home == &home) ||
                         (c.ends[1] != nullptr && c.ends[1]->home == &home);
    if (was_end) {
      for (auto& end : c.ends) {
        if (end != nullptr && end->home == &home) end = nullptr;
        if (end != nullptr) left = end;
      }
      if (left == nullptr)
        __builtin_memset(reinterpret_cast<void*>(c.frame), 0, page_bytes);
    }
    ends_lock.unlock();
    if (left != nullptr) notify(here, *left, ACTIVATIONS_EVENT_MESSAGE);
  }
}

}  // namespace kernel
