// SPDX-License-Identifier: BSL-1.0
// A directory that lives as long as a test.
#pragma once

#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <string>
#include <system_error>

class scratch_directory {
 public:
  scratch_directory() : path_("scratch.XXXXXX") {
    if (::mkdtemp(path_.data()) == nullptr) {
      throw std::runtime_error("cannot make a directory for the test");
    }
    path_ = std::filesystem::absolute(path_);
  }
  scratch_directory(scratch_directory const&) = delete;
  ~scratch_directory() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }

  std::string const& path() const { return path_; }
  std::string path(std::string const& name) const { return path_ + "/" + name; }
  bool has(std::string const& name) const {
    return std::filesystem::exists(path(name));
  }
  std::string read(std::string const& name) const {
    std::ifstream in(path(name));
    return {std::istreambuf_iterator<char>(in), {}};
  }
  void write(std::string const& name, std::string const& content) const {
    std::ofstream(path(name)) << content;
  }
  // How many entries it has.
  std::ptrdiff_t count() const {
    using iterator = std::filesystem::directory_iterator;
    return std::distance(iterator(path_), iterator());
  }

 private:
  std::string path_;
};
