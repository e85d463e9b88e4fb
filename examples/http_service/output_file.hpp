// SPDX-License-Identifier: BSL-1.0
// Files that appear whole or not at all.
#pragma once

#include <string>
#include <string_view>

namespace http_service {

// Writes a temporary file beside `path` when constructed, and gives it its name
// when published: until then, and when anything fails, whatever was at `path`
// stays as it was and no temporary file remains.
// All members throw std::runtime_error with a sentence.
class output_file {
 public:
  // Refuses a path that is there and is not a regular file.
  explicit output_file(std::string path);
  output_file(output_file const&) = delete;
  output_file& operator=(output_file const&) = delete;
  ~output_file();

  void write(std::string_view);  // and waits until the disk has it
  void publish();

  std::string const& path() const { return path_; }

 private:
  [[noreturn]] void fail(int error) const;

  std::string path_;
  std::string temporary_;
  int file_ = -1;
  bool is_published_ = false;
};

}  // namespace http_service
