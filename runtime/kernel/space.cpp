// SPDX-License-Identifier: BSL-1.0
//
// The life of a space: loaded, attached to cores, notified, ended.
#include "space.hpp"

#include <cerrno>

#include "elf.hpp"

namespace kernel {

space spaces[most_spaces];

namespace {

std::atomic<u32> living_spaces{0};
space* to_clear;  // core 0's: ended, and its memory is not given back yet
// From one piece of it to the next, while somebody runs.
constexpr u64 clear_ns = 100'000;
std::atomic<int> final_status{0};

template <class T, class U>
T* at(U* base, u64 bytes) {
  return reinterpret_cast<T*>(reinterpret_cast<u64>(base) + bytes);
}

// latency=N: fails if a timer came more than N ns late (runtime/README.md).
[[noreturn]] void end_machine(core& here, int status) {
  u64 const most = command_number("latency=", never);
  if (most != never) {
    print("kernel: the timer came up to ");
    print_decimal(here.latest_ns);
    print(" ns late\n");
    if (here.latest_ns > most && status == 0) status = 1;
  }
  machine::exit(status);
}

void copy_text(char* to, u64 room, char const* from) {
  u64 i = 0;
  for (; i + 1 < room && from[i] != 0; ++i) to[i] = from[i];
  to[i] = 0;
}

// One page at a fixed place; returns where the kernel sees it.
void* map_page(space& home, frame_pool& frames, u64 address, unsigned access) {
  if (!map_memory(home, frames, address, page_bytes, access)) return nullptr;
  return reinterpret_cast<void*>(
      machine::address_of(*home.tables.find(address)));
}

constexpr unsigned read_only = ACTIVATIONS_ACCESS_READ;
constexpr unsigned read_write =
    ACTIVATIONS_ACCESS_READ | ACTIVATIONS_ACCESS_WRITE;

constexpr u32 processors_at = 64;
constexpr u32 activations_at =
    processors_at + 64 * ACTIVATIONS_IMAGE_DISPATCHERS;
static_assert(activations_at + 128 * ACTIVATIONS_IMAGE_DISPATCHERS ==
              ACTIVATIONS_IMAGE_GRANTS - ACTIVATIONS_IMAGE_INFO);

bool make_areas(space& home, frame_pool& frames) {
  void* const info = map_page(home, frames, ACTIVATIONS_IMAGE_INFO, read_only);
  void* const control =
      map_page(home, frames, ACTIVATIONS_IMAGE_CONTROL, read_write);
  if (info == nullptr || control == nullptr) return false;
  home.info = static_cast<activations_info_header*>(info);
  home.control = static_cast<activations_control_header*>(control);
  home.grants = at<activations_image_grants>(
      info, ACTIVATIONS_IMAGE_GRANTS - ACTIVATIONS_IMAGE_INFO);
  home.info->magic = home.control->magic = ACTIVATIONS_ABI_MAGIC;
  home.info->version = home.control->version = ACTIVATIONS_ABI_VERSION;
  home.info->bytes = home.control->bytes = page_bytes;
  home.info->features = ACTIVATIONS_FEATURE_REDIRECT |
                        ACTIVATIONS_FEATURE_PREEMPT |
                        ACTIVATIONS_FEATURE_GRANTS;
  home.info->processor_count = home.control->processor_count =
      home.info->activation_count = home.control->activation_count =
          most_dispatchers;
  home.info->processor_offset = home.control->processor_offset = processors_at;
  home.info->activation_offset = activations_at;
  home.control->activation_offset = activations_at;
  for (unsigned i = 0; i < most_dispatchers; ++i) {
    void* const page =
        map_page(home, frames, ACTIVATIONS_IMAGE_DISPATCHER + i * page_bytes,
                 read_write);
    if (page == nullptr) return false;
    dispatcher& d = home.dispatchers[i];
    d.home = &home;
    d.index = i;
    d.become(dispatcher_state::unused);
    d.notice.store(0, std::memory_order::relaxed);
    d.page = static_cast<activations_dispatcher*>(page);
    d.processor = at<activations_processor_info>(info, processors_at + 64 * i);
    d.info = at<activations_activation_info>(info, activations_at + 128 * i);
    d.control =
        at<activations_activation_control>(control, activations_at + 64 * i);
    d.page->index = i;
    d.page->cores = core_count;
    d.page->clock_multiplier = machine::clock_multiplier();
    d.page->clock_base_ns = machine::clock_base_ns();
  }
  return true;
}

bool load_segment(space& home, frame_pool& frames, char const* module,
                  elf_segment const& s) {
  u64 const begin = s.address & ~(page_bytes - 1);
  u64 const end =
      (s.address + s.memory_bytes + page_bytes - 1) & ~(page_bytes - 1);
  if (s.address < ACTIVATIONS_IMAGE_USER_BEGIN ||
      end > ACTIVATIONS_IMAGE_INFO || end < begin)
    return false;
  if (!map_memory(home, frames, begin, end - begin, s.access())) return false;
  for (u64 done = 0; done < s.file_bytes;) {
    u64 const to = s.address + done;
    u64 const in_page = page_bytes - to % page_bytes;
    u64 const left = s.file_bytes - done;
    u64 const n = in_page < left ? in_page : left;
    u64 const frame = machine::address_of(*home.tables.find(to));
    __builtin_memcpy(reinterpret_cast<char*>(frame) + to % page_bytes,
                     module + s.offset + done, n);
    machine::synchronize_code(frame, page_bytes);
    done += n;
  }
  return true;
}

void set_word(dispatcher& d, activations_processor_state state) {
  auto& word = d.processor->word;
  auto seen = word.load(std::memory_order::relaxed);
  while (!word.compare_exchange_weak(seen, next_word(seen, state, d.index),
                                     std::memory_order::acq_rel))
    ;
}

}  // namespace

bool map_memory(space& home, frame_pool& frames, u64 address, u64 bytes,
                unsigned access) {
  for (u64 done = 0; done < bytes; done += page_bytes) {
    u64* const entry = home.tables.make_entry(frames, address + done);
    if (entry == nullptr || machine::is_present(*entry) || is_guard(*entry))
      return false;
    if (is_retired(*entry)) {
      u64 const frame = retired_frame(*entry);
      __builtin_memset(reinterpret_cast<void*>(frame), 0, page_bytes);
      *entry = machine::leaf(frame, access);
      continue;
    }
    u64 const frame = home.tables.take(frames);
    if (frame == 0) return false;
    *entry = machine::leaf(frame, access);
  }
  return true;
}

bool is_accessible(space& home, u64 address, u64 bytes, unsigned access) {
  if (address < ACTIVATIONS_IMAGE_USER_BEGIN ||
      address > ACTIVATIONS_IMAGE_USER_END ||
      bytes > ACTIVATIONS_IMAGE_USER_END - address)
    return false;
  for (u64 page = address & ~(page_bytes - 1); page < address + bytes;
       page += page_bytes) {
    u64 const* const entry = home.tables.find(page);
    if (entry == nullptr || !machine::is_present(*entry) ||
        (machine::access_of(*entry) & access) != access)
      return false;
  }
  return true;
}

bool copy_from(space& home, void* to, u64 address, u64 bytes) {
  home.lock.lock();
  bool const is_fine =
      is_accessible(home, address, bytes, ACTIVATIONS_ACCESS_READ);
  for (u64 done = 0; is_fine && done < bytes;) {
    u64 const from = address + done;
    u64 const in_page = page_bytes - from % page_bytes;
    u64 const n = in_page < bytes - done ? in_page : bytes - done;
    __builtin_memcpy(
        static_cast<char*>(to) + done,
        reinterpret_cast<char const*>(
            machine::address_of(*home.tables.find(from)) + from % page_bytes),
        n);
    done += n;
  }
  home.lock.unlock();
  return is_fine;
}

space* load(core& here, char const* name, char const* arguments,
            void const* elf, u64 bytes) {
  space* made = nullptr;
  for (unsigned i = 0; i < most_spaces && made == nullptr; ++i)
    if (!spaces[i].is_used) made = &spaces[i];
  if (made == nullptr) return nullptr;
  space& home = *made;
  home.is_used = true;
  home.index = static_cast<unsigned>(made - spaces);
  home.tables.limit(never);
  home.wanted = 0;
  home.limit = most_cores;
  home.status = 0;
  home.is_ending.store(0, std::memory_order::relaxed);
  home.has_failed.store(0, std::memory_order::relaxed);
  copy_text(home.name, sizeof home.name, name);
  if (!home.tables.make(here.frames) || !make_areas(home, here.frames))
    return nullptr;
  elf_module const module(elf, bytes);
  if (!module.is_for_this_machine()) return nullptr;
  for (unsigned i = 0; i < module.segment_count(); ++i) {
    elf_segment const& s = module.segment(i);
    if (s.is_loaded() &&
        !load_segment(home, here.frames, static_cast<char const*>(elf), s))
      return nullptr;
  }
  for (auto& d : home.dispatchers)
    copy_text(d.page->arguments, sizeof d.page->arguments, arguments);
  // The first one begins at the module's entry, disabled, with no stack.
  dispatcher& first = home.dispatchers[0];
  first.saved =
      machine::frame::upcall(module.entry(), 0, ACTIVATIONS_IMAGE_DISPATCHER,
                             ACTIVATIONS_EVENT_GRANTED, 0, 0);
  living_spaces.fetch_add(1, std::memory_order::relaxed);
  return made;
}

long attach(core& here, space& home, unsigned index, unsigned core_index) {
  if (index >= most_dispatchers || core_index >= core_count) return -EINVAL;
  dispatcher& d = home.dispatchers[index];
  home.lock.lock();
  bool const is_taken = !d.is(dispatcher_state::unused) ||
                        home.is_ending.load(std::memory_order::relaxed) != 0;
  if (!is_taken) d.become(dispatcher_state::ready);
  home.lock.unlock();
  if (is_taken) return -EBUSY;
  d.own_core = core_index;
  d.is_adopted = false;
  d.core_index.store(core_index, std::memory_order::relaxed);
  d.page->core = core_index;
  d.deadline_ns = never;
  d.slice_ns = 0;
  d.slot = 0;
  d.enters = index != 0;
  d.events = d.enters ? ACTIVATIONS_EVENT_GRANTED : 0;
  d.control->disabled.store(1, std::memory_order::relaxed);
  machine::init_state(d.switched, d.page->thread_pointer);
  d.processor->cpu.store(core_index, std::memory_order::relaxed);
  d.processor->grants.store(1, std::memory_order::relaxed);
  d.info->processor.store(index, std::memory_order::relaxed);
  d.info->state.store(ACTIVATIONS_ACTIVATION_RUNNING,
                      std::memory_order::release);
  set_word(d, ACTIVATIONS_PROCESSOR_RUNNING);
  send(here, core_index, {message_kind::adopt, 0, &d});
  return 0;
}

// ---- events -------------------------------------------------------------------

void notify(core& here, dispatcher& to, u32 events) {
  if (to.notice.fetch_or(events, std::memory_order::acq_rel) == 0)
    send(here, to.core_index.load(std::memory_order::acquire),
         {message_kind::wake, 0, &to});
}

void take_notice(core& here, dispatcher& owned) {
  // Moved meanwhile: whoever moved it has done so before it said where.
  unsigned const at = owned.core_index.load(std::memory_order::acquire);
  if (at != here.index) return send(here, at, {message_kind::wake, 0, &owned});
  u32 const events = owned.notice.exchange(0, std::memory_order::acq_rel);
  if (events == 0 || owned.is(dispatcher_state::unused)) return;
  if (owned.is(dispatcher_state::sleeping))
    wake(here, owned, events);
  else
    owned.events |= events;
}

void wake(core& here, dispatcher& sleeping, u32 events) {
  become_running(sleeping);
  sleeping.become(dispatcher_state::ready);
  // On a core that is nobody's it may run, but would like to have it.
  if (here.owner != sleeping.home &&
      (here.owner != nullptr ||
       sleeping.home->grants->wanted.load(std::memory_order::relaxed) != 0))
    send(here, 0, {message_kind::stranded, 0, &sleeping});
  sleeping.saved.set_result(events | sleeping.control->pending.exchange(
                                         0, std::memory_order::relaxed));
}

// The word of an idle processor, whoever is first; true: the caller.
bool become_running(dispatcher& d) {
  if (!change_word(d, 1u << ACTIVATIONS_PROCESSOR_IDLE,
                   ACTIVATIONS_PROCESSOR_RUNNING))
    return false;
  d.home->info->idle_count.fetch_sub(1, std::memory_order::seq_cst);
  return true;
}

bool change_word(dispatcher& d, u32 from, activations_processor_state to) {
  auto& word = d.processor->word;
  auto seen = word.load(std::memory_order::acquire);
  while ((from >> (seen & ACTIVATIONS_WORD_STATE_MASK) & 1) != 0)
    if (word.compare_exchange_weak(seen, next_word(seen, to, d.index),
                                   std::memory_order::acq_rel)) {
      d.processor->since_ns.store(machine::now_ns(),
                                  std::memory_order::relaxed);
      return true;
    }
  return false;
}

void become_idle(dispatcher& d) {
  set_word(d, ACTIVATIONS_PROCESSOR_IDLE);
  d.home->info->idle_count.fetch_add(1, std::memory_order::seq_cst);
}

void adopt(core& here, dispatcher& comes) {
  if (comes.home->is_ending.load(std::memory_order::acquire) != 0)
    return comes.become(dispatcher_state::unused);
  if (here.dispatcher_count == most_dispatchers_on_core)
    panic("too many dispatchers on one core");
  here.dispatchers[here.dispatcher_count++] = &comes;
  comes.is_adopted = true;
  comes.page->core = here.index;
  bool const is_guest = comes.own_core != here.index;
  if (is_guest)
    change_word(comes, 1u << ACTIVATIONS_PROCESSOR_RUNNING,
                ACTIVATIONS_PROCESSOR_PREEMPTED);
  else if (here.owner == nullptr || here.owner == comes.home)
    grant(here, comes);
  // The core that it was to go to may not be the right one any more.
  if (is_guest) send(here, 0, {message_kind::arrived, here.index, &comes});
  if (comes.is(dispatcher_state::ready) && !may_run(here, comes))
    send(here, 0, {message_kind::stranded, 0, &comes});
}

void leave_core(core& here, dispatcher& goes) {
  unsigned kept = 0;
  for (unsigned i = 0; i < here.dispatcher_count; ++i)
    if (here.dispatchers[i] != &goes)
      here.dispatchers[kept++] = here.dispatchers[i];
  here.dispatcher_count = kept;
  here.turn = 0;
  goes.is_adopted = false;
  if (here.loaded != &goes) return;
  machine::save_state(goes.switched);
  // Its tables may go on in use.
  machine::use_tables(machine::kernel_root());
  here.loaded = nullptr;
}

long detach(core& here, dispatcher& caller) {
  leave_core(here, caller);
  set_word(caller, ACTIVATIONS_PROCESSOR_OFFLINE);
  caller.info->state.store(ACTIVATIONS_ACTIVATION_UNUSED,
                           std::memory_order::release);
  caller.become(dispatcher_state::unused);
  return 0;
}

// ---- the end --------------------------------------------------------------------

void end_space(core& here, space& home, int status) {
  if (home.is_ending.exchange(1, std::memory_order::acq_rel) != 0) return;
  home.status = status;
  home.drops_left.store(core_count, std::memory_order::release);
  drop_space(here, home);
  for (unsigned i = 0; i < core_count; ++i)
    if (i != here.index) send(here, i, {message_kind::drop, 0, &home});
}

void drop_space(core& here, space& home) {
  unsigned kept = 0;
  for (unsigned i = 0; i < here.dispatcher_count; ++i) {
    dispatcher* const d = here.dispatchers[i];
    if (d->home != &home)
      here.dispatchers[kept++] = d;
    else
      d->become(dispatcher_state::unused);
  }
  here.dispatcher_count = kept;
  here.turn = 0;
  if (here.next_owner == &home) here.next_owner = nullptr;
  if (here.owner == &home) change_owner(here);
  if (here.loaded != nullptr && here.loaded->home == &home) {
    machine::use_tables(machine::kernel_root());
    here.loaded = nullptr;
  }
  send(here, 0, {message_kind::dropped, 0, &home});
}

void space_dropped(core& here, space& home) {
  if (home.drops_left.fetch_sub(1, std::memory_order::acq_rel) != 1) return;
  device_forget(home);
  channel_forget(here, home);
  divide_ended(here, home);
  home.next_cleared = to_clear;
  to_clear = &home;
  here.clear_at_ns = machine::now_ns();
}

void clear_some(core& here) {
  space& home = *to_clear;
  here.clear_at_ns = machine::now_ns() + clear_ns;
  if (!home.tables.clear_some(here.frames)) return;
  to_clear = home.next_cleared;
  if (to_clear == nullptr) here.clear_at_ns = 0;
  home.is_used = false;
  print("space ");
  print(home.name);
  print(" ended with status ");
  print_decimal(static_cast<u64>(home.status));
  print("\n");
  if (home.status != 0) final_status.store(home.status);
  if (living_spaces.fetch_sub(1, std::memory_order::acq_rel) == 1)
    end_machine(here, final_status.load());
}

void flush_others(core& here, space& home) {
  bool told[most_cores] = {};
  for (auto const& d : home.dispatchers)
    if (unsigned const at = d.core_index.load(std::memory_order::acquire);
        !d.is(dispatcher_state::unused) && at != here.index && !told[at]) {
      told[at] = true;
      send(here, at, {message_kind::flush, 0, &home});
    }
}

}  // namespace kernel
