// SPDX-License-Identifier: BSL-1.0
#include "file_set.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <string_view>
#include <system_error>

namespace http_service {
namespace {

namespace fs = std::filesystem;

constexpr std::uintmax_t smallest_bytes = 8 * 1024;
constexpr std::uintmax_t largest_bytes = 64 * 1024;

class input_file {
 public:
  explicit input_file(std::string const& path)
      : path_(path), number_(::open(path.c_str(), O_RDONLY | O_CLOEXEC)) {
    if (number_ < 0) fail();
  }
  input_file(input_file const&) = delete;
  ~input_file() { ::close(number_); }

  void forget() const { ::posix_fadvise(number_, 0, 0, POSIX_FADV_DONTNEED); }

  std::string read() const {
    struct stat status {};
    if (::fstat(number_, &status) != 0) fail();
    std::string content(static_cast<std::size_t>(status.st_size), '\0');
    std::size_t filled = 0;
    while (filled < content.size()) {
      auto const got =
          ::read(number_, content.data() + filled, content.size() - filled);
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) fail();
      if (got == 0) break;
      filled += static_cast<std::size_t>(got);
    }
    content.resize(filled);
    return content;
  }

 private:
  [[noreturn]] void fail() const {
    throw std::system_error(errno, std::generic_category(),
                            "cannot read " + path_);
  }

  std::string const& path_;
  int number_;
};

// FNV-1a over 8 bytes at a time.
class checksum {
 public:
  void add(std::string_view text) {
    while (!text.empty()) {
      auto const taken = std::min(text.size(), sizeof(std::uint64_t));
      std::uint64_t word = 0;
      std::memcpy(&word, text.data(), taken);
      value_ = (value_ ^ word) * 0x100000001b3;
      text.remove_prefix(taken);
    }
  }
  std::uint64_t value() const { return value_; }

 private:
  std::uint64_t value_ = 0xcbf29ce484222325;
};

bool is_wanted(fs::directory_entry const& entry) {
  std::error_code error;
  if (entry.is_symlink(error) || !entry.is_regular_file(error)) return false;
  auto const bytes = entry.file_size(error);
  auto const& path = entry.path().native();
  return !error && bytes >= smallest_bytes && bytes <= largest_bytes &&
         path.find('\n') == std::string::npos &&
         ::access(path.c_str(), R_OK) == 0;
}

}  // namespace

std::vector<shelf> find_shelves(std::string const& directory,
                                std::size_t limit) {
  std::error_code error;
  fs::recursive_directory_iterator entry(
      directory, fs::directory_options::skip_permission_denied, error);
  if (error) {
    throw std::runtime_error("cannot read the directory " + directory + ": " +
                             error.message());
  }
  std::vector<std::string> found;
  for (; entry != fs::recursive_directory_iterator(); entry.increment(error)) {
    if (error) break;
    if (is_wanted(*entry)) found.push_back(entry->path().native());
  }
  auto const count = std::min(limit, found.size() / files_per_shelf);
  if (count == 0) {
    throw std::runtime_error(
        directory + " holds " + std::to_string(found.size()) +
        " readable files of 8 to 64 KiB, but the cold reads need " +
        std::to_string(files_per_shelf) +
        ": name another directory with --files");
  }
  std::sort(found.begin(), found.end());
  std::vector<shelf> shelves(count);
  auto const files = count * files_per_shelf;
  for (std::size_t i = 0; i < files; ++i) {
    shelves[i % count].push_back(found[i * found.size() / files]);
  }
  return shelves;
}

void save_shelves(std::string const& list, std::vector<shelf> const& shelves) {
  std::ofstream out(list);
  for (auto const& each : shelves) {
    for (auto const& path : each) out << path << '\n';
  }
  if (!out.flush()) throw std::runtime_error("cannot write " + list);
}

std::vector<shelf> load_shelves(std::string const& list) {
  std::ifstream in(list);
  if (!in) throw std::runtime_error("cannot read " + list);
  std::vector<shelf> shelves;
  for (std::string path; std::getline(in, path);) {
    if (shelves.empty() || shelves.back().size() == files_per_shelf) {
      shelves.emplace_back();
    }
    shelves.back().push_back(path);
  }
  return shelves;
}

std::string read_shelf(shelf const& paths, read_from source) {
  std::size_t bytes = 0;
  std::ptrdiff_t lines = 0;
  checksum sum;
  for (auto const& path : paths) {
    input_file const file(path);
    if (source == read_from::disk) file.forget();
    auto const content = file.read();
    bytes += content.size();
    lines += std::count(content.begin(), content.end(), '\n');
    sum.add(content);
  }
  return std::to_string(paths.size()) + " files, " + std::to_string(bytes) +
         " bytes, " + std::to_string(lines) + " lines, checksum " +
         std::to_string(sum.value()) + "\n";
}

}  // namespace http_service
