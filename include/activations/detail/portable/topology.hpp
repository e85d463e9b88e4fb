// SPDX-License-Identifier: BSL-1.0
//
// How many processors a program should ask for, and which CPUs they sit on:
// the affinity mask, cut to the CPU quota of its cgroups (v1 and v2, every
// level of the path).
#pragma once

#include <sched.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <string>
#include <vector>

#include <activations/detail/portable/inherited_affinity.hpp>

namespace activations::detail {

// CPUs in the calling thread's affinity mask, on an activation those of the
// process, in order.  Empty: unknown.
inline std::vector<int> allowed_cpus() {
  std::vector<int> cpus;
  cpu_set_t const mask = inherited_affinity::mask_of_caller();
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu)
    if (CPU_ISSET(cpu, &mask)) cpus.push_back(cpu);
  return cpus;
}

// CPUs' worth of time that "cpu.max" of one cgroup v2 level grants, or 0 when
// it sets no limit.  The text is "QUOTA PERIOD" or "max PERIOD".
inline double parse_cpu_max(std::string const& text) {
  double quota = 0;
  double period = 0;
  if (std::sscanf(text.c_str(), "%lf %lf", &quota, &period) != 2) return 0;
  return quota > 0 && period > 0 ? quota / period : 0;
}

// The smallest quota on the way from `path` up to the root of a hierarchy
// mounted at `mount`, in CPUs; 0: none.
inline double quota_along(std::string const& mount, std::string path,
                          bool is_v2) {
  double least = 0;
  for (;;) {
    std::string const at = mount + (path == "/" ? "" : path);
    double here = 0;
    std::string text;
    if (is_v2) {
      std::ifstream file(at + "/cpu.max");
      if (std::getline(file, text)) here = parse_cpu_max(text);
    } else {
      double quota = 0;
      double period = 0;
      std::ifstream(at + "/cpu.cfs_quota_us") >> quota;
      std::ifstream(at + "/cpu.cfs_period_us") >> period;
      if (quota > 0 && period > 0) here = quota / period;
    }
    if (here > 0) least = least == 0 ? here : std::min(least, here);
    if (path.empty() || path == "/") return least;
    path.erase(path.rfind('/'));
  }
}

// CPUs' worth of time that this process's cgroups grant; 0: no limit found.
inline double cgroup_cpu_quota() {
  // Where the hierarchies are mounted: field 5 and the type and options after
  // the dash, proc(5).
  std::string v2_mount;
  std::string v1_mount;
  std::ifstream mounts("/proc/self/mountinfo");
  for (std::string line; std::getline(mounts, line);) {
    auto const dash = line.find(" - ");
    if (dash == std::string::npos) continue;
    char point[512] = "";
    if (std::sscanf(line.c_str(), "%*s %*s %*s %*s %511s", point) != 1)
      continue;
    std::string const rest = line.substr(dash + 3);
    if (rest.rfind("cgroup2 ", 0) == 0) v2_mount = point;
    if (rest.rfind("cgroup ", 0) == 0) {
      auto const options = "," + rest.substr(rest.rfind(' ') + 1) + ",";
      if (options.find(",cpu,") != std::string::npos) v1_mount = point;
    }
  }
  double least = 0;
  auto const take = [&](double quota) {
    if (quota > 0) least = least == 0 ? quota : std::min(least, quota);
  };
  std::ifstream groups("/proc/self/cgroup");
  for (std::string line; std::getline(groups, line);) {
    auto const first = line.find(':');
    auto const second = line.find(':', first + 1);
    if (second == std::string::npos) continue;
    auto const names = "," + line.substr(first + 1, second - first - 1) + ",";
    auto const path = line.substr(second + 1);
    if (names == ",," && !v2_mount.empty())
      take(quota_along(v2_mount, path, true));
    else if (names.find(",cpu,") != std::string::npos && !v1_mount.empty())
      take(quota_along(v1_mount, path, false));
  }
  return least;
}

// The CPUs to put `wanted` processors on, one each, repeated if there are more
// processors than CPUs.  wanted == 0: as many as mask and quota allow.
inline std::vector<int> choose_cpus(unsigned wanted) {
  std::vector<int> allowed = allowed_cpus();
  if (wanted == 0) {
    wanted = allowed.empty() ? 1 : static_cast<unsigned>(allowed.size());
    double const quota = cgroup_cpu_quota();
    if (quota > 0)
      wanted = std::clamp(static_cast<unsigned>(quota + 0.999), 1u, wanted);
  }
  std::vector<int> chosen;
  for (unsigned i = 0; i < wanted; ++i)
    chosen.push_back(allowed.empty() ? -1 : allowed[i % allowed.size()]);
  return chosen;
}

}  // namespace activations::detail
