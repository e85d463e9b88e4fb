// SPDX-License-Identifier: BSL-1.0
// Products in an LMDB file, which is mapped: a look-up reads memory, and
// blocks in a page fault where the page is not there yet.  No call says so.
#pragma once

#include <memory>
#include <string>

struct MDB_env;

namespace http_service {

class catalogue {
 public:
  // Writes a catalogue of `products` products.  Throws std::runtime_error.
  static void create(std::string const& path, unsigned products);

  // Opens a catalogue and drops its pages from memory, so that the first look
  // at each page waits for the disk.  Throws std::runtime_error.
  explicit catalogue(std::string const& path);

  // The text of a product, or an empty one.  Any number of callers.
  std::string look_up(unsigned product) const;

 private:
  struct closer {
    void operator()(MDB_env*) const noexcept;
  };
  std::unique_ptr<MDB_env, closer> environment_;
  unsigned table_ = 0;
};

}  // namespace http_service
