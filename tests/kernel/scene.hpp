// SPDX-License-Identifier: BSL-1.0
//
// A space with activations in the states that a test is about, for processes
// that are then killed, stopped, traced or replaced.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "mini_scheduler.hpp"
#include "registers.hpp"

namespace kernel_tests {

enum class scene_kind {
  busy,    // running, stopped, blocked without its processor, spare
  idle,    // one waits in RELEASE, the others are spares
  keeper,  // blocked with its processor kept, spares
  storm    // as busy, stopped ten thousand times a second, in the stub or not
};

char const* name_of(scene_kind kind);

class scene {
 public:
  explicit scene(scene_kind kind);
  // Starts it, waits until it stands, and calls reached(1). `in_job` then runs
  // on an activation that owns a processor, if the scene has such a job.
  void begin(std::function<void()> in_job = {});
  // Lets the jobs end.
  void finish();
  bool has_job() const noexcept {
    return kind_ == scene_kind::busy || kind_ == scene_kind::storm;
  }
  mini_scheduler& scheduler() noexcept { return *scheduler_; }

  register_findings findings;

 private:
  scene_kind kind_;
  int pipe_[2];
  std::atomic<bool> stands_ = false;
  std::atomic<bool> over_ = false;
  std::unique_ptr<mini_scheduler> scheduler_;
};

// Holds soon after the last process of the module has ended: no reference to
// the module is left.
bool module_becomes_idle();

// ACTIVATIONS_MODULE, else where ./do vm puts it.
char const* module_file();

// While it exists one CPU runs, for what makes the kernel patch code that all
// execute: loading and unloading (a static key of the scheduler), switching its
// trace events.  QEMU 7.2 may go on executing the breakpoint of that on another
// CPU.
class one_cpu {
 public:
  one_cpu() { set("0"); }
  ~one_cpu() { set("1"); }

 private:
  static void set(char const* online);
};

long load_module();
long unload_module();

// A parameter of the module, put back to 0 at the end; those for tests are there
// in test builds only.
class module_parameter {
 public:
  module_parameter(char const* name, char const* value);
  ~module_parameter();
  bool exists() const noexcept { return exists_; }

 private:
  std::string path_;
  bool exists_;
};

// The text of a file, without its last newline.
std::string text_of(std::string const& path);

}  // namespace kernel_tests
