// SPDX-License-Identifier: BSL-1.0
// The service itself: plain blocking C++ that knows nothing about threads.
// Each function may be called from any number of connections at once, be they
// user threads or kernel threads; this file and its neighbours are the same in
// all three modes.
#pragma once

#include "catalogue.hpp"
#include "file_set.hpp"
#include "order_store.hpp"

#include <string>
#include <string_view>
#include <vector>

namespace http_service {

// The files of one run, all in one directory.
struct data_paths {
  std::string catalogue;  // LMDB
  std::string orders;     // SQLite
  std::string file_list;  // of the files to read cold
};

struct answer {
  int status;  // of HTTP
  std::string body;
};

class handlers {
 public:
  explicit handlers(data_paths const&);  // throws std::runtime_error

  // Computes for 50 to 150 us (at 2.5 GHz): how many primes are below `limit`.
  answer hot(unsigned limit) const;

  // Reads mapped memory; may fault.
  answer look_up(unsigned product) const;

  // Waits for the disk to read, once or more for each file of a shelf.
  answer cold_files(unsigned index) const;

  // Waits for the disk to write.
  answer order(unsigned id, std::string_view content);

 private:
  catalogue catalogue_;
  order_store orders_;
  std::vector<shelf> shelves_;
};

// The computation of hot(): the load generator knows its answers by it.
unsigned count_primes(unsigned limit);

}  // namespace http_service
