// SPDX-License-Identifier: BSL-1.0
//
// Dispatchers of this program: how one begins, and what its upcalls do.
//
// An upcall comes disabled, on the dispatcher's own upcall stack.  What was
// stopped lies in a save slot and, the vector registers, on that stack.  After
// the handler it is resumed from there in user mode; an event that came
// meanwhile is handled first.
#include <activations/detail/bare/image.hpp>
#include <activations/detail/core.hpp>

#include <cerrno>
#include <cstdio>
#include <cstring>

#include <user_resume.hpp>

#include "system.hpp"

extern "C" char upcall_entry[];

namespace user {
namespace {

constexpr u64 base_stack_bytes = 128 * 1024;
constexpr u64 upcall_stack_bytes = 32 * 1024;

struct start_record {
  void (*function)(void*);
  void* argument;
};
start_record starts[ACTIVATIONS_IMAGE_DISPATCHERS];
// Kept for the next dispatcher of this index.
char* base_stacks[ACTIVATIONS_IMAGE_DISPATCHERS];
u64 thread_pointers[ACTIVATIONS_IMAGE_DISPATCHERS];  // the present ones
char* upcall_stacks[ACTIVATIONS_IMAGE_DISPATCHERS];

u64 top_of(char* stack, u64 bytes) {
  return reinterpret_cast<u64>(stack) + bytes;
}

activations_save_slot* ignore(activations_dispatcher&, u64,
                              activations_save_slot* slot, void*) {
  return slot;
}

// Self-paging: what was reserved is mapped when it is touched.
bool map_touched(activations_dispatcher& page) {
  u64 const at = page.fault_address & ~(page_bytes - 1);
  if (at < ACTIVATIONS_IMAGE_LAZY) return false;
  call(ACTIVATIONS_IMAGE_MAP, at, page_bytes,
       ACTIVATIONS_ACCESS_READ | ACTIVATIONS_ACCESS_WRITE);
  // Another core may have been faster; a third time is no fault of that kind.
  static thread_local constinit u64 last = 0;
  static thread_local constinit unsigned times = 0;
  times = at == last ? times + 1 : 0;
  last = at;
  return times < 3;
}

// As activations_image_keep lays it out.
struct alignas(64) kept_context {
  saved_vector vector;
  saved_general general;
};

// Goes on with a context; what comes meanwhile is handled first.
[[noreturn]] void go_on(activations_dispatcher& page,
                        activations_save_slot* slot, saved_vector& vector) {
  auto& control = activation_control(page.index);
  for (;;) {
    page.resuming = reinterpret_cast<u64>(slot);
    resume(*reinterpret_cast<saved_general*>(slot), vector, &control.disabled);
    u64 const events = control.pending.exchange(0, std::memory_order::acq_rel);
    slot = on_upcall(page, events, slot, &vector);
  }
}

// Not inlined: the thread pointer changes before it.
[[gnu::noinline]] void fill_block(activations_dispatcher& page) {
  own_page = &page;
}

// Names what was stopped, and ends the space.
[[noreturn]] void give_up(activations_dispatcher& page, u64 events,
                          activations_save_slot const& slot) {
  using namespace activations::detail;
  auto const& stopped = reinterpret_cast<machine::frame const&>(slot);
  bool const is_fault = (events & ACTIVATIONS_EVENT_FAULT) != 0;
  auto const* const fault = reinterpret_cast<void*>(page.fault_address);
  activation const* const self = current_activation();
  if (self != nullptr && self->current->id != 0) {
    strand const& on = *self->current;
    if (is_fault && stack_contains_guard(on.memory, fault)) {
      print_stack_overflow({on.id, on.name, on.memory}, fault);
      exit(139);
    }
    std::printf("user thread %lu (%s), ", on.id, on.name);
  }
  std::printf(
      "dispatcher %u: a %s nobody handles: address %lx, code %u, "
      "pc %lx\n",
      page.index, is_fault ? "fault" : "trap", page.fault_address,
      page.trap_code, stopped.pc());
  exit(139);
}

}  // namespace

upcall_handler on_upcall = &ignore;

}  // namespace user

extern "C" [[noreturn]] void user_upcall(activations_dispatcher* page,
                                         user::u64 events,
                                         activations_save_slot* slot,
                                         user::saved_vector* vector) {
  auto const index = page->index;
  if (slot == nullptr) {
    user::own_page = page;
    page->stack =
        user::top_of(user::upcall_stacks[index], user::upcall_stack_bytes);
    page->last_entry = page->entry;
    user::prepare_resume(*page);
    auto const start = user::starts[index];
    start.function(start.argument);
    for (;;) user::call(ACTIVATIONS_CALL_DETACH);
  }
  if (slot == &page->stopped) user::give_up(*page, events, *slot);
  if ((events & ACTIVATIONS_EVENT_FAULT) != 0 && user::map_touched(*page))
    events &= ~user::u64{ACTIVATIONS_EVENT_FAULT};
  if (user::on_upcall == &user::ignore &&
      (events & (ACTIVATIONS_EVENT_FAULT | ACTIVATIONS_EVENT_TRAP)) != 0)
    user::give_up(*page, events, *slot);
  slot = user::on_upcall(*page, events, slot, vector);
  if ((events & ACTIVATIONS_EVENT_TIMER) != 0 &&
      activations_image_on_slice != nullptr)
    activations_image_on_slice(
        {.stack_pointer = reinterpret_cast<machine::frame const&>(*slot).sp(),
         .bytes = sizeof(user::kept_context),
         .general = slot,
         .vector = vector});
  user::go_on(*page, slot, *vector);
}

extern "C" {

long activations_image_call(std::uint64_t number, std::uint64_t a,
                            std::uint64_t b, std::uint64_t c) noexcept {
  return user::call(number, a, b, c);
}

void (*activations_image_on_slice)(activations_image_stopped const&) noexcept =
    nullptr;

void activations_image_keep(activations_image_stopped const& stopped,
                            void* room) noexcept {
  auto& kept = *static_cast<user::kept_context*>(room);
  // One that was stopped again before its first instruction lies there.
  std::memmove(&kept.general, stopped.general, sizeof kept.general);
  std::memcpy(&kept.vector, stopped.vector, sizeof kept.vector);
}

[[noreturn]] void activations_image_go_on(void* room) noexcept {
  auto& kept = *static_cast<user::kept_context*>(room);
  user::go_on(user::this_page(),
              reinterpret_cast<activations_save_slot*>(&kept.general),
              kept.vector);
}

std::uint64_t activations_image_use_tls(std::uint64_t block) noexcept {
  auto& page = user::this_page();
  auto const before = user::thread_pointers[page.index];
  page.thread_pointer = user::thread_pointers[page.index] = block;
  user::set_thread_pointer(block);
  user::fill_block(page);
  return before;
}

unsigned activations_image_cores() noexcept {
  return user::page_at(0).cores;
}

int activations_image_start(unsigned index, unsigned core,
                            void (*function)(void*), void* argument) noexcept {
  using namespace user;
  if (index == 0 || index >= ACTIVATIONS_IMAGE_DISPATCHERS) return EINVAL;
  if (base_stacks[index] == nullptr) {
    base_stacks[index] = static_cast<char*>(map(base_stack_bytes));
    upcall_stacks[index] = static_cast<char*>(map(upcall_stack_bytes));
    thread_pointers[index] = make_tls(index);
  }
  if (base_stacks[index] == nullptr || upcall_stacks[index] == nullptr ||
      thread_pointers[index] == 0)
    return ENOMEM;
  starts[index] = {function, argument};
  activations_dispatcher& page = page_at(index);
  page.entry = reinterpret_cast<u64>(upcall_entry);
  page.stack = top_of(base_stacks[index], base_stack_bytes);
  page.thread_pointer = thread_pointers[index];
  for (;;) {
    long const result = call(ACTIVATIONS_CALL_ATTACH, index, core);
    // Its last life may not be over yet: it detaches after its last word.
    if (result != -EBUSY) return static_cast<int>(-result);
    call(ACTIVATIONS_CALL_PARK, now_ns() + 100'000);
  }
}
}
