// SPDX-License-Identifier: BSL-1.0
// How many processors a scheduler takes: affinity mask and cgroup quota, the
// latter over made-up trees.
#include <activations/activations.hpp>
#include <activations/detail/portable/topology.hpp>

#include <gtest/gtest.h>

#include <sched.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

namespace {

using namespace activations::detail;

TEST(CpuMax, IsQuotaOverPeriod) {
  EXPECT_DOUBLE_EQ(parse_cpu_max("150000 100000\n"), 1.5);
  EXPECT_DOUBLE_EQ(parse_cpu_max("5000 10000"), 0.5);
}

TEST(CpuMax, NoLimitIsZero) {
  EXPECT_EQ(parse_cpu_max("max 100000"), 0);
  EXPECT_EQ(parse_cpu_max(""), 0);
  EXPECT_EQ(parse_cpu_max("100000"), 0);
  EXPECT_EQ(parse_cpu_max("-1 100000"), 0);
  EXPECT_EQ(parse_cpu_max("100000 0"), 0);
}

TEST(ProcessorsFor, APartOfACpuCountsAsOne) {
  EXPECT_EQ(processors_for(8, 0), 8u);
  EXPECT_EQ(processors_for(8, 0.1), 1u);
  EXPECT_EQ(processors_for(8, 1), 1u);
  EXPECT_EQ(processors_for(8, 1.5), 2u);
  EXPECT_EQ(processors_for(8, 4), 4u);
}

TEST(ProcessorsFor, AQuotaGivesNoMoreThanTheMask) {
  EXPECT_EQ(processors_for(2, 4), 2u);
  EXPECT_EQ(processors_for(2, 1e30), 2u);
  EXPECT_EQ(processors_for(0, 0), 1u);
  EXPECT_EQ(processors_for(0, 3), 1u);
}

// A file tree that looks like a system's.
class FakeSystem : public testing::Test {
 protected:
  FakeSystem() {
    char place[] = "/tmp/activations_topology_XXXXXX";
    root_ = ::mkdtemp(place);
  }
  ~FakeSystem() override { std::filesystem::remove_all(root_); }

  void write(std::string const& path, std::string const& text) {
    auto const whole = root_ + path;
    std::filesystem::create_directories(
        std::filesystem::path(whole).parent_path());
    std::ofstream(whole) << text;
  }
  void mount_v2(std::string const& at) {
    mounts_ += "30 23 0:26 / " + at +
               " rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";
    write("/proc/self/mountinfo", mounts_);
  }
  void mount_v1(std::string const& at, std::string const& controllers) {
    mounts_ += "31 23 0:27 / " + at +
               " rw,nosuid,nodev shared:5 - cgroup cgroup rw," + controllers +
               "\n";
    write("/proc/self/mountinfo", mounts_);
  }
  void groups(std::string const& text) { write("/proc/self/cgroup", text); }
  void limit_v1(std::string const& at, std::string const& quota,
                std::string const& period) {
    write(at + "/cpu.cfs_quota_us", quota);
    write(at + "/cpu.cfs_period_us", period);
  }
  [[nodiscard]] double quota() const { return cgroup_cpu_quota(root_); }

 private:
  std::string root_;
  std::string mounts_ =
      "23 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw\n"
      "24 23 0:5 / /proc rw - proc proc rw\n";
};

TEST_F(FakeSystem, WithoutCgroupsThereIsNoQuota) {
  EXPECT_EQ(quota(), 0);
  write("/proc/self/mountinfo", "nonsense\n\n - \n");
  groups("nonsense\n:\n::\n");
  EXPECT_EQ(quota(), 0);
}

TEST_F(FakeSystem, ReadsCpuMaxOfItsCgroup) {
  mount_v2("/sys/fs/cgroup");
  groups("0::/user.slice/app.scope\n");
  write("/sys/fs/cgroup/user.slice/app.scope/cpu.max", "250000 100000\n");
  EXPECT_DOUBLE_EQ(quota(), 2.5);
}

TEST_F(FakeSystem, TheSmallestOnTheWholePathCounts) {
  mount_v2("/sys/fs/cgroup");
  groups("0::/a/b/c\n");
  write("/sys/fs/cgroup/a/b/c/cpu.max", "max 100000\n");
  write("/sys/fs/cgroup/a/b/cpu.max", "400000 100000\n");
  write("/sys/fs/cgroup/a/cpu.max", "300000 100000\n");
  EXPECT_DOUBLE_EQ(quota(), 3);
  write("/sys/fs/cgroup/a/b/cpu.max", "100000 100000\n");
  EXPECT_DOUBLE_EQ(quota(), 1);
}

TEST_F(FakeSystem, AContainersQuotaIsAtItsRoot) {
  // The cgroup namespace hides the path; the mount is the container's.
  mount_v2("/sys/fs/cgroup");
  groups("0::/\n");
  write("/sys/fs/cgroup/cpu.max", "50000 100000\n");
  EXPECT_DOUBLE_EQ(quota(), 0.5);
}

TEST_F(FakeSystem, APathThatIsNotMountedEndsAtTheMount) {
  // Without a namespace: the path is the host's, the mount is the container's.
  mount_v1("/sys/fs/cgroup/cpu,cpuacct", "cpu,cpuacct");
  groups("4:cpu,cpuacct:/docker/0123456789abcdef\n");
  limit_v1("/sys/fs/cgroup/cpu,cpuacct", "150000\n", "100000\n");
  EXPECT_DOUBLE_EQ(quota(), 1.5);
}

TEST_F(FakeSystem, ReadsTheCpuControllerOfV1) {
  mount_v1("/sys/fs/cgroup/memory", "memory");
  mount_v1("/sys/fs/cgroup/cpuset", "cpuset");
  mount_v1("/sys/fs/cgroup/cpu", "cpu,cpuacct");
  groups(
      "9:memory:/m\n8:cpuset:/s\n3:cpu,cpuacct:/service/one\n"
      "1:name=systemd:/service\n");
  limit_v1("/sys/fs/cgroup/cpu/service/one", "-1\n", "100000\n");
  limit_v1("/sys/fs/cgroup/cpu/service", "75000\n", "50000\n");
  limit_v1("/sys/fs/cgroup/cpuset/s", "1000\n", "100000\n");
  EXPECT_DOUBLE_EQ(quota(), 1.5);
}

TEST_F(FakeSystem, OfBothVersionsTheSmallerCounts) {
  mount_v2("/sys/fs/cgroup/unified");
  mount_v1("/sys/fs/cgroup/cpu", "cpu");
  groups("2:cpu:/x\n0::/x\n");
  limit_v1("/sys/fs/cgroup/cpu/x", "200000\n", "100000\n");
  EXPECT_DOUBLE_EQ(quota(), 2);
  write("/sys/fs/cgroup/unified/x/cpu.max", "100000 100000\n");
  EXPECT_DOUBLE_EQ(quota(), 1);
}

TEST_F(FakeSystem, APathWithoutASlashEnds) {
  mount_v2("/sys/fs/cgroup");
  groups("0::relative\n");
  write("/sys/fs/cgroup/cpu.max", "100000 100000\n");
  EXPECT_DOUBLE_EQ(quota(), 1);
}

TEST(Topology, TheRealSystemsFilesAreReadWithoutHarm) {
  EXPECT_GE(cgroup_cpu_quota(), 0);
}

// Runs f on a kernel thread that may use one CPU only.
template <class F>
void on_one_cpu(int cpu, F f) {
  std::thread([&] {
    cpu_set_t mask;
    CPU_ZERO(&mask);
    CPU_SET(cpu, &mask);
    ASSERT_EQ(sched_setaffinity(0, sizeof mask, &mask), 0);
    f();
  }).join();
}

TEST(Topology, TheAffinityMaskCounts) {
  auto const all = allowed_cpus();
  ASSERT_FALSE(all.empty());
  int const last = all.back();
  on_one_cpu(last, [&] {
    EXPECT_EQ(allowed_cpus(), std::vector{last});
    EXPECT_EQ(choose_cpus(0), std::vector{last});
    activations::scheduler here;
    EXPECT_EQ(here.processors(), 1u);
    EXPECT_EQ(here.run([] { return ::sched_getcpu(); }), last);
  });
}

TEST(Topology, MoreProcessorsThanCpusShareThem) {
  auto const all = allowed_cpus();
  auto const chosen = choose_cpus(static_cast<unsigned>(2 * all.size() + 1));
  ASSERT_EQ(chosen.size(), 2 * all.size() + 1);
  for (std::size_t i = 0; i < chosen.size(); ++i)
    EXPECT_EQ(chosen[i], all[i % all.size()]);
  on_one_cpu(all.front(), [&] {
    activations::scheduler here({.processors = 3});
    EXPECT_EQ(here.processors(), 3u);
    EXPECT_EQ(here.run([] { return 5; }), 5);
  });
}

}  // namespace
