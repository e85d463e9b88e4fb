// SPDX-License-Identifier: BSL-1.0
//
// How many processors a program should ask for, and which CPUs they sit on:
// the affinity mask, cut to the CPU quota of its cgroups (v1 and v2, every
// level of the path).
#pragma once

#include <sched.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <string>
#include <string_view>
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
    auto const slash = path.rfind('/');
    path.erase(slash == std::string::npos ? 0 : slash);
  }
}

// Whether "cpu" is one of the comma-separated names.
inline bool lists_cpu(std::string_view names) {
  while (!names.empty()) {
    auto const name = names.substr(0, names.find(','));
    if (name == "cpu") return true;
    names.remove_prefix(std::min(names.size(), name.size() + 1));
  }
  return false;
}

// CPUs' worth of time that this process's cgroups grant; 0: no limit found.
// `root`: where /proc and the mount points are looked for; for tests.
inline double cgroup_cpu_quota(std::string const& root = "") {
  // Where the hierarchies are mounted: field 5 and the type and options after
  // the dash, proc(5).
  std::string v2_mount;
  std::string v1_mount;
  std::ifstream mounts(root + "/proc/self/mountinfo");
  for (std::string line; std::getline(mounts, line);) {
    auto const dash = line.find(" - ");
    if (dash == std::string::npos) continue;
    char point[512] = "";
    if (std::sscanf(line.c_str(), "%*s %*s %*s %*s %511s", point) != 1)
      continue;
    std::string const rest = line.substr(dash + 3);
    if (rest.rfind("cgroup2 ", 0) == 0) v2_mount = root + point;
    if (rest.rfind("cgroup ", 0) == 0) {
      if (lists_cpu(rest.substr(rest.rfind(' ') + 1))) v1_mount = root + point;
    }
  }
  double least = 0;
  auto const take = [&](double quota) {
    if (quota > 0) least = least == 0 ? quota : std::min(least, quota);
  };
  std::ifstream groups(root + "/proc/self/cgroup");
  for (std::string line; std::getline(groups, line);) {
    auto const first = line.find(':');
    auto const second = line.find(':', first + 1);
    if (second == std::string::npos) continue;
    auto const names = line.substr(first + 1, second - first - 1);
    auto const path = line.substr(second + 1);
    if (names.empty() && !v2_mount.empty())
      take(quota_along(v2_mount, path, true));
    else if (lists_cpu(names) && !v1_mount.empty())
      take(quota_along(v1_mount, path, false));
  }
  return least;
}

// How many processors make use of `cpus` CPUs and a quota in CPUs (0: none): a
// part of a CPU counts as one.
inline unsigned processors_for(std::size_t cpus, double quota) {
  auto const most = std::max<double>(1, static_cast<double>(cpus));
  return static_cast<unsigned>(quota > 0 ? std::clamp(quota + 0.999, 1.0, most)
                                         : most);
}

// The CPUs to put `wanted` processors on, one each, repeated if there are more
// processors than CPUs; -1: unknown.  wanted == 0: as many as mask and quota
// allow.
inline std::vector<int> choose_cpus(unsigned wanted) {
  std::vector<int> const allowed = allowed_cpus();
  if (wanted == 0) wanted = processors_for(allowed.size(), cgroup_cpu_quota());
  std::vector<int> chosen;
  for (unsigned i = 0; i < wanted; ++i)
    chosen.push_back(allowed.empty() ? -1 : allowed[i % allowed.size()]);
  return chosen;
}

}  // namespace activations::detail
