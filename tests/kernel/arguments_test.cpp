// SPDX-License-Identifier: BSL-1.0
//
// Every call with every kind of wrong argument is refused with the errno that
// abi.h names, changes nothing, and the space works afterwards.
#include <fcntl.h>
#include <grp.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <thread>

#include "child.hpp"
#include "mini_scheduler.hpp"

namespace kernel_tests {
namespace {

// With four levels of page tables and with five.
constexpr std::uint64_t non_canonical = 0x0100'0000'0000'0000;
constexpr std::uint64_t in_kernel = 0xffff'8880'0000'0000;

unsigned long const all_calls[] = {
    ACTIVATIONS_IOCTL_ATTACH,    ACTIVATIONS_IOCTL_PARK,
    ACTIVATIONS_IOCTL_SWITCH_TO, ACTIVATIONS_IOCTL_REQUEST,
    ACTIVATIONS_IOCTL_RELEASE,   ACTIVATIONS_IOCTL_KICK,
    ACTIVATIONS_IOCTL_SLICE,     ACTIVATIONS_IOCTL_STATS,
    ACTIVATIONS_IOCTL_WAKE,      ACTIVATIONS_IOCTL_STOP,
    ACTIVATIONS_IOCTL_TIMER,     ACTIVATIONS_IOCTL_END,
    ACTIVATIONS_IOCTL_DETACH};

// A space that works: two jobs, one of which blocks.
void expect_works() {
  mini_options options;
  mini_scheduler scheduler(options);
  std::atomic<int> done = 0;
  for (int k = 0; k < 3; ++k) {
    scheduler.add([&] {
      usleep(1000);
      done.fetch_add(1);
    });
  }
  scheduler.run();
  EXPECT_EQ(done.load(), 3);
}

long open_with(activations_open argument) {
  int const fd = open_device();
  if (fd < 0) return fd;
  long const result = raw_ioctl(fd, ACTIVATIONS_IOCTL_OPEN, &argument);
  close(fd);
  return result;
}

KERNEL_TEST(Arguments, OpenRefusesWhatIsWrong) {
  auto const right = open_argument(1, 4);
  EXPECT_EQ(open_with(right), 0);
  unsigned refused = 0;
  auto const wrong = [&](char const* what, activations_open argument) {
    long const result = open_with(argument);
    EXPECT_LT(result, 0) << what;
    if (result < 0) ++refused;
  };
  auto argument = right;
  argument.version = (ACTIVATIONS_ABI_MAJOR + 1) << 16;
  wrong("next major version", argument);
  argument.version = 0;
  wrong("version 0", argument);
  argument = right;
  argument.park_stub = non_canonical;
  wrong("non-canonical stub", argument);
  argument.park_stub = in_kernel;
  wrong("stub in the kernel", argument);
  argument.park_stub = 0x00ff'ffff'ffff'f000;
  wrong("stub at the end of user space", argument);
  argument.park_stub = ~std::uint64_t{0} - 8;
  wrong("stub that wraps around", argument);
  argument = right;
  argument.park_stub_bytes = 0;
  wrong("stub of no bytes", argument);
  argument.park_stub_bytes = ~0u;
  wrong("stub of 4 GiB", argument);
  argument = right;
  argument.features = std::uint64_t{1} << 63;
  wrong("a feature nobody has", argument);
  argument = right;
  argument.processors = 0;
  wrong("no processor", argument);
  argument = right;
  argument.activations = 0;
  wrong("no activation", argument);

  int const fd = open_device();
  ASSERT_GE(fd, 0);
  EXPECT_EQ(raw_ioctl(fd, ACTIVATIONS_IOCTL_OPEN, nullptr), -EFAULT);
  EXPECT_EQ(raw_ioctl(fd, ACTIVATIONS_IOCTL_OPEN,
                      reinterpret_cast<void const*>(in_kernel)),
            -EFAULT);
  // Read-only memory cannot take the answer.
  void* read_only =
      mmap(nullptr, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  EXPECT_LT(raw_ioctl(fd, ACTIVATIONS_IOCTL_OPEN, read_only), 0);
  close(fd);
  found("%u wrong arguments refused", refused);
  expect_works();
}

KERNEL_TEST(Arguments, OpenCutsWhatIsTooMuch) {
  auto argument = open_argument(1u << 20, 1u << 19);
  int const fd = open_device();
  ASSERT_GE(fd, 0);
  long const result = raw_ioctl(fd, ACTIVATIONS_IOCTL_OPEN, &argument);
  // Refused, or cut to what the limits allow: never a million of anything.
  if (result == 0) {
    EXPECT_LE(argument.processors, 4096u);
    EXPECT_LE(argument.activations, 4096u);
  }
  found("a million processors and half a million activations: %ld, %u and %u",
        result, argument.processors, argument.activations);
  close(fd);
  expect_works();
}

KERNEL_TEST(Arguments, CallsBeforeOpenAreRefused) {
  int const fd = open_device();
  ASSERT_GE(fd, 0);
  for (auto request : all_calls) {
    EXPECT_LT(raw_ioctl(fd, request, nullptr), 0) << std::hex << request;
    EXPECT_LT(raw_ioctl(fd, request, &request), 0) << std::hex << request;
  }
  EXPECT_EQ(mmap(nullptr, 4096, PROT_READ, MAP_SHARED, fd, 0), MAP_FAILED);
  EXPECT_EQ(mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd,
                 static_cast<off_t>(ACTIVATIONS_MMAP_CONTROL)),
            MAP_FAILED);
  close(fd);
  found("13 calls and 2 mappings refused");
  expect_works();
}

KERNEL_TEST(Arguments, ASecondOpenIsRefused) {
  space one(1, 4);
  auto again = open_argument(1, 4);
  EXPECT_LT(raw_ioctl(one.fd(), ACTIVATIONS_IOCTL_OPEN, &again), 0);
  EXPECT_EQ(one.attach(0, 0), 0);
  EXPECT_EQ(one.detach(), 0);
  found("the first goes on");
}

KERNEL_TEST(Arguments, AnUnknownCallIsRefused) {
  space one(1, 4);
  unsigned refused = 0;
  for (unsigned number = 0; number < 256; ++number) {
    if (number >= 1 && number <= 14) continue;
    EXPECT_EQ(raw_ioctl(one.fd(), _IO(ACTIVATIONS_IOCTL_TYPE, number), nullptr),
              -ENOTTY);
    ++refused;
  }
  // The right number with another size or type.
  EXPECT_LT(one.call(ACTIVATIONS_IOCTL_STATS + (8u << 16)), 0);
  EXPECT_LT(one.call(ACTIVATIONS_IOCTL_PARK ^ 0x100), 0);
  found("%u refused", refused + 2);
}

KERNEL_TEST(Arguments, IndicesOutOfRangeAreRefused) {
  space one(2, 4);
  unsigned const wrong[] = {
      one.activations(), one.activations() + 1, none - 1, none + 1,
      0x7fff'ffff,       0x8000'0000,           ~0u};
  EXPECT_LT(one.attach(none, none), 0);
  for (unsigned i : wrong) EXPECT_LT(one.attach(i, none), 0) << i;
  unsigned const wrong_v[] = {one.processors(), one.processors() + 1,
                              none - 1,         none + 1,
                              0x7fff'ffff,      0x8000'0000};
  for (unsigned v : wrong_v) EXPECT_LT(one.attach(0, v), 0) << v;
  ASSERT_EQ(one.attach(0, 0), 0);
  for (unsigned i : wrong) EXPECT_LT(one.switch_to(i), 0) << i;
  for (unsigned i : wrong) {
    if (i == ~0u) continue;
    EXPECT_LT(one.end(i), 0) << i;
  }
  for (unsigned v : wrong_v) {
    EXPECT_LT(one.kick(v), 0) << v;
    EXPECT_LT(one.wake(v), 0) << v;
    EXPECT_LT(one.slice(v, 1'000'000), 0) << v;
  }
  std::uint64_t const large[] = {std::uint64_t{1} << 32, ~std::uint64_t{0} - 1,
                                 std::uint64_t{1} << 63};
  for (auto i : large) {
    EXPECT_LT(one.call(ACTIVATIONS_IOCTL_SWITCH_TO, i), 0);
    EXPECT_LT(one.call(ACTIVATIONS_IOCTL_KICK, i), 0);
    EXPECT_LT(one.call(ACTIVATIONS_IOCTL_WAKE, i), 0);
    EXPECT_LT(one.call(ACTIVATIONS_IOCTL_END, i), 0);
  }
  EXPECT_EQ(one.owner(0), 0u);
  EXPECT_EQ(one.detach(), 0);
  found("none accepted");
  expect_works();
}

KERNEL_TEST(Arguments, PointersOutOfRangeAreRefused) {
  space one(1, 4);
  for (auto request : {ACTIVATIONS_IOCTL_ATTACH, ACTIVATIONS_IOCTL_SLICE,
                       ACTIVATIONS_IOCTL_STATS}) {
    for (std::uint64_t address :
         {std::uint64_t{0}, in_kernel, non_canonical, ~std::uint64_t{7}}) {
      EXPECT_EQ(one.call(request, address), -EFAULT) << std::hex << address;
    }
  }
  activations_attach argument = {0, 0, in_kernel};
  EXPECT_LT(raw_ioctl(one.fd(), ACTIVATIONS_IOCTL_ATTACH, &argument), 0);
  argument.registers = non_canonical;
  EXPECT_LT(raw_ioctl(one.fd(), ACTIVATIONS_IOCTL_ATTACH, &argument), 0);
  found("none accepted");
  expect_works();
}

KERNEL_TEST(Arguments, SlicesAreNoShorterThanATenthOfAMillisecond) {
  space one(1, 4);
  EXPECT_LT(one.slice(0, 1), 0);
  EXPECT_LT(one.slice(0, 99'999), 0);
  EXPECT_EQ(one.slice(0, 100'000), 0);
  EXPECT_EQ(one.slice(0, 0), 0);
  // Longer than the age of the universe: refused or harmless.
  one.slice(0, ~std::uint64_t{0});
  one.slice(0, std::uint64_t{1} << 63);
  ASSERT_EQ(one.attach(0, 0), 0);
  for (int i = 0; i < 1000; ++i) raw_call(SYS_getppid);
  EXPECT_EQ(one.detach(), 0);
  found("1 and 99,999 ns refused");
}

KERNEL_TEST(Arguments, CallsOfTheWrongStateAreRefused) {
  space one(1, 4);
  // Not attached.
  EXPECT_LT(one.park(), 0);
  EXPECT_LT(one.release(), 0);
  EXPECT_LT(one.stop(), 0);
  EXPECT_LT(one.switch_to(0), 0);
  EXPECT_LT(one.detach(), 0);
  EXPECT_EQ(one.end(~std::uint64_t{0}), -EAGAIN);
  EXPECT_EQ(one.wake(0), 0);
  // An owner.
  ASSERT_EQ(one.attach(0, 0), 0);
  EXPECT_LT(one.attach(1, none), 0) << "attached already";
  EXPECT_EQ(one.park(), -EBUSY);
  EXPECT_EQ(one.stop(), -EAGAIN);
  EXPECT_EQ(one.switch_to(0), -EAGAIN) << "itself, which is not stopped";
  EXPECT_EQ(one.switch_to(1), -EAGAIN) << "unused";
  EXPECT_EQ(one.wake(0), 0) << "not idle";
  std::thread other([&] {
    EXPECT_LT(one.attach(0, none), 0) << "index in use";
    EXPECT_LT(one.attach(1, 0), 0) << "processor in use";
    // Without a processor.
    EXPECT_EQ(one.attach(1, none), 0);
    EXPECT_EQ(one.switch_to(0), -EPERM);
    EXPECT_LT(one.release(), 0);
    EXPECT_EQ(one.detach(), 0);
  });
  other.join();
  EXPECT_EQ(raw_call(SYS_lseek, one.fd(), 0, 1), -ESPIPE) << "not in the stub";
  EXPECT_EQ(raw_call(SYS_lseek, one.fd(), &one.registers(0), 1), -ESPIPE);
  EXPECT_EQ(one.owner(0), 0u);
  EXPECT_EQ(one.detach(), 0);
  EXPECT_EQ(one.processor_state(0), unsigned{ACTIVATIONS_PROCESSOR_OFFLINE});
  found("all refused");
  expect_works();
}

KERNEL_TEST(Arguments, MappingsAreOnlyThoseOfTheContract) {
  space one(1, 4);
  auto const try_map = [&](std::size_t bytes, int protection, off_t offset) {
    void* at = mmap(nullptr, bytes, protection, MAP_SHARED, one.fd(), offset);
    if (at != MAP_FAILED) munmap(at, bytes);
    return at != MAP_FAILED;
  };
  auto const control = static_cast<off_t>(ACTIVATIONS_MMAP_CONTROL);
  EXPECT_FALSE(try_map(4096, PROT_READ | PROT_WRITE, 0)) << "info, writable";
  EXPECT_FALSE(try_map(one.opened().info_bytes + (64 << 20), PROT_READ, 0));
  EXPECT_FALSE(try_map(one.opened().control_bytes + (64 << 20),
                       PROT_READ | PROT_WRITE, control));
  EXPECT_FALSE(try_map(4096, PROT_READ, off_t{1} << 31));
  EXPECT_FALSE(try_map(4096, PROT_READ, off_t{1} << 40));
  EXPECT_FALSE(try_map(4096, PROT_READ | PROT_WRITE, control * 2));
  void* info = mmap(nullptr, one.opened().info_bytes, PROT_READ, MAP_SHARED,
                    one.fd(), 0);
  ASSERT_NE(info, MAP_FAILED);
  EXPECT_NE(mprotect(info, 4096, PROT_READ | PROT_WRITE), 0)
      << "info becomes writable";
  EXPECT_EQ(mremap(info, one.opened().info_bytes,
                   one.opened().info_bytes + 4096, MREMAP_MAYMOVE),
            MAP_FAILED)
      << "info grows";
  void* of_private = mmap(nullptr, one.opened().info_bytes,
                          PROT_READ | PROT_WRITE, MAP_PRIVATE, one.fd(), 0);
  EXPECT_EQ(of_private, MAP_FAILED) << "a private copy of info";
  found("6 wrong mappings refused");
}

KERNEL_TEST(Arguments, AnotherProcessIsRefused) {
  space one(1, 4);
  pid_t const pid = fork();
  if (pid == 0) {
    int bad = 0;
    for (auto request : all_calls) {
      std::uint64_t words[8] = {};
      if (raw_ioctl(one.fd(), request, words) != -EPERM) {
        std::printf("call %#lx: %ld\n", request,
                    raw_ioctl(one.fd(), request, words));
        ++bad;
      }
    }
    if (mmap(nullptr, 4096, PROT_READ, MAP_SHARED, one.fd(), 0) != MAP_FAILED) {
      std::printf("maps the info of another process\n");
      ++bad;
    }
    std::fflush(stdout);
    _exit(bad ? 1 : 0);
  }
  int status = -1;
  ASSERT_EQ(waitpid(pid, &status, 0), pid);
  EXPECT_EQ(status, 0);
  ASSERT_EQ(one.attach(0, 0), 0);
  EXPECT_EQ(one.detach(), 0);
  found("13 calls and a mapping refused with EPERM to a child");
}

// The device's group, made one that is not root's, with access for it.
gid_t device_group() {
  struct stat device;
  EXPECT_EQ(stat(ACTIVATIONS_DEVICE_PATH, &device), 0);
  gid_t const group = device.st_gid ? device.st_gid : 900;
  EXPECT_EQ(chown(ACTIVATIONS_DEVICE_PATH, 0, group), 0);
  EXPECT_EQ(chmod(ACTIVATIONS_DEVICE_PATH, 0660), 0);
  return group;
}

// Drops to a user and group that own nothing.
void become(unsigned uid, unsigned gid) {
  ASSERT_EQ(setgroups(0, nullptr), 0);
  ASSERT_EQ(setresgid(gid, gid, gid), 0);
  ASSERT_EQ(setresuid(uid, uid, uid), 0);
}

KERNEL_TEST(Arguments, AUserOfTheDevicesGroupNeedsNoPrivilege) {
  become(1000, device_group());
  expect_works();
  found("a space of user 1000 works");
}

KERNEL_TEST(Arguments, AnotherUserCannotOpenTheDevice) {
  device_group();
  become(1001, 1001);
  EXPECT_EQ(open_device(), -EACCES);
  found("EACCES");
}

KERNEL_TEST(Arguments, AUserHasALimitOfSpaces) {
  rlimit const files = {4096, 4096};
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &files), 0);
  become(1000, device_group());
  std::vector<int> open;
  long refused = 0;
  while (open.size() < 4000) {
    int const fd = open_device();
    if (fd < 0) {
      refused = fd;
      break;
    }
    open.push_back(fd);
    auto argument = open_argument(1, 4);
    refused = raw_ioctl(fd, ACTIVATIONS_IOCTL_OPEN, &argument);
    if (refused < 0) break;
  }
  EXPECT_LT(refused, 0) << "4000 spaces of one user";
  found("%zu spaces, then errno %ld", open.size(), -refused);
  for (int fd : open) close(fd);
  expect_works();
}

}  // namespace
}  // namespace kernel_tests
