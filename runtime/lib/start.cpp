// SPDX-License-Identifier: BSL-1.0
//
// From the program's first instruction to main.
#include <activations/detail/bare/image.hpp>

#include <atomic>
#include <cstring>

#include "system.hpp"

extern "C" {
unsigned char initial_stack[256 * 1024] __attribute__((aligned(4096)));
extern unsigned char initial_stack_top[];
extern unsigned char tls_begin[], tls_data_end[], tls_end[];
extern void (*init_array_begin[])();
extern void (*init_array_end[])();
int program_main() asm("main");
}
asm(".globl initial_stack_top\n"
    ".set initial_stack_top, initial_stack + 256 * 1024");

namespace user {
namespace {

// Keeps the alignment of thread-local storage the same in all programs.
[[gnu::used]] alignas(64) thread_local constinit u64 tls_anchor = 1;

std::atomic<u64> next_address{ACTIVATIONS_IMAGE_MEMORY};

}  // namespace

void* map(u64 bytes, unsigned access) {
  bytes = (bytes + page_bytes - 1) & ~(page_bytes - 1);
  // A page between two, so that running over an end is a fault.
  u64 const at =
      next_address.fetch_add(bytes + page_bytes, std::memory_order::relaxed);
  return call(ACTIVATIONS_IMAGE_MAP, at, bytes, access) == 0
             ? reinterpret_cast<void*>(at)
             : nullptr;
}

u64 make_tls(unsigned i) {
  u64 const room_bytes = activations_image_tls_bytes();
  static unsigned char first[64 * 1024] __attribute__((aligned(64)));
  auto* const room = i == 0 && room_bytes <= sizeof first
                         ? first
                         : static_cast<unsigned char*>(map(room_bytes));
  return room == nullptr ? 0 : activations_image_make_tls(room);
}

}  // namespace user

// With room for what place_tls puts around it.
extern "C" std::size_t activations_image_tls_bytes() noexcept {
  return static_cast<std::size_t>(tls_end - tls_begin) + 4096;
}
extern "C" std::uint64_t activations_image_make_tls(void* room) noexcept {
  auto const bytes = activations_image_tls_bytes();
  std::memset(room, 0, bytes);
  return user::place_tls(static_cast<unsigned char*>(room), bytes, tls_begin,
                         static_cast<user::u64>(tls_data_end - tls_begin),
                         static_cast<user::u64>(tls_end - tls_begin));
}

extern "C" [[noreturn]] void user_start(activations_dispatcher* page) {
  user::set_thread_pointer(user::make_tls(page->index));
  user::own_page = page;
  for (auto* f = init_array_begin; f != init_array_end; ++f) (*f)();
  user::exit(program_main());
}
