// SPDX-License-Identifier: BSL-1.0
#include "scene.hpp"

#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <sstream>

namespace kernel_tests {
namespace {

using namespace std::chrono_literals;

mini_options options_of(scene_kind kind) {
  mini_options options;
  options.activations = 6;
  options.always_work = kind == scene_kind::busy || kind == scene_kind::storm;
  if (kind == scene_kind::storm) {
    options.slice_ns = 100'000;
    options.stub = park_stub::wide();
  }
  return options;
}

}  // namespace

char const* name_of(scene_kind kind) {
  switch (kind) {
    case scene_kind::busy:
      return "busy";
    case scene_kind::idle:
      return "idle";
    case scene_kind::keeper:
      return "keeper";
    case scene_kind::storm:
      return "storm";
  }
  return "";
}

scene::scene(scene_kind kind)
    : kind_(kind),
      scheduler_(std::make_unique<mini_scheduler>(options_of(kind))) {
  if (pipe(pipe_) != 0) std::abort();
}

void scene::begin(std::function<void()> in_job) {
  auto& scheduler = *scheduler_;
  std::atomic<unsigned> running = 0;
  auto const read_for_ever = [this] {
    char byte;
    raw_call(SYS_read, pipe_[0], &byte, 1);
  };
  if (kind_ != scene_kind::idle) scheduler.add(read_for_ever);
  if (has_job()) {
    for (int k = 0; k < 3; ++k) {
      scheduler.add([this, k, in_job, &running] {
        register_checker checker(findings, seed() + static_cast<unsigned>(k));
        running.fetch_add(1);
        while (!stands_.load()) {
          checker.loop(200);
          scheduler_->yield();
        }
        if (k == 0 && in_job) in_job();
        while (!over_.load()) {
          checker.loop(1000);
          if (kind_ == scene_kind::busy) scheduler_->yield();
        }
      });
    }
  }
  scheduler.start();
  if (has_job()) {
    while (running.load() < 3) std::this_thread::sleep_for(1ms);
  }
  std::this_thread::sleep_for(20ms);
  stands_ = true;
  reached(1);
}

void scene::finish() {
  over_ = true;
  if (write(pipe_[1], "x", 1) != 1) std::abort();
  scheduler_->finish();
}

void one_cpu::set(char const* online) {
  for (int n = 1; n < 64; ++n) {
    std::string const path =
        "/sys/devices/system/cpu/cpu" + std::to_string(n) + "/online";
    if (access(path.c_str(), W_OK) != 0) break;
    std::ofstream(path) << online << std::flush;
  }
}

char const* module_file() {
  char const* file = std::getenv("ACTIVATIONS_MODULE");
  return file ? file : "/lib/activations.ko";
}

long load_module() {
  int const fd = open(module_file(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return -errno;
  one_cpu const quiet;
  long const result = raw_call(SYS_finit_module, fd, "", 0);
  close(fd);
  return result;
}

long unload_module() {
  one_cpu const quiet;
  return raw_call(SYS_delete_module, "activations", O_NONBLOCK);
}

module_parameter::module_parameter(char const* name, char const* value)
    : path_(std::string("/sys/module/activations/parameters/") + name),
      exists_(access(path_.c_str(), W_OK) == 0) {
  if (exists_) std::ofstream(path_) << value << std::flush;
}

module_parameter::~module_parameter() {
  if (exists_) std::ofstream(path_) << "0" << std::flush;
}

std::string text_of(std::string const& path) {
  std::ifstream file(path);
  std::ostringstream text;
  text << file.rdbuf();
  std::string result = text.str();
  while (!result.empty() && result.back() == '\n') result.pop_back();
  return result;
}

bool module_becomes_idle() {
  std::string references;
  for (int i = 0; i < 1000; ++i) {
    references = text_of("/sys/module/activations/refcnt");
    if (references == "0") return true;
    std::this_thread::sleep_for(10ms);
  }
  std::printf("the module still has %s references\n", references.c_str());
  return false;
}

}  // namespace kernel_tests
