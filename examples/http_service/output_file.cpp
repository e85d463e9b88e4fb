// SPDX-License-Identifier: BSL-1.0
#include "output_file.hpp"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <stdexcept>
#include <system_error>
#include <utility>

namespace http_service {

output_file::output_file(std::string path)
    : path_(std::move(path)), temporary_(path_ + ".XXXXXX") {
  struct stat status {};
  if (::stat(path_.c_str(), &status) == 0 && !S_ISREG(status.st_mode)) {
    throw std::runtime_error("cannot write " + path_ +
                             ": it is not a regular file");
  }
  file_ = ::mkostemp(temporary_.data(), O_CLOEXEC);
  if (file_ < 0) fail(errno);
  ::fchmod(file_, 0644);
}

output_file::~output_file() {
  ::close(file_);
  if (!is_published_) ::unlink(temporary_.c_str());
}

void output_file::write(std::string_view text) {
  while (!text.empty()) {
    auto const written = ::write(file_, text.data(), text.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) fail(errno);
    text.remove_prefix(static_cast<std::size_t>(written));
  }
  if (::fsync(file_) != 0) fail(errno);
}

void output_file::publish() {
  if (::rename(temporary_.c_str(), path_.c_str()) != 0) fail(errno);
  is_published_ = true;
}

void output_file::fail(int error) const {
  throw std::runtime_error("cannot write " + path_ + ": " +
                           std::generic_category().message(error));
}

}  // namespace http_service
