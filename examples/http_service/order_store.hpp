// SPDX-License-Identifier: BSL-1.0
// Orders in an SQLite database, each committed with synchronous=FULL: when
// commit() returns, the disk has it.
#pragma once

#include <activations/mutex.hpp>

#include <memory>
#include <string>
#include <string_view>

struct sqlite3;
struct sqlite3_stmt;

namespace http_service {

namespace detail {
struct sqlite_closer {
  void operator()(sqlite3*) const noexcept;
  void operator()(sqlite3_stmt*) const noexcept;
};
}  // namespace detail

using database_handle = std::unique_ptr<sqlite3, detail::sqlite_closer>;
using statement_handle = std::unique_ptr<sqlite3_stmt, detail::sqlite_closer>;

class order_store {
 public:
  // Creates the file if there is none.  Throws std::runtime_error.
  explicit order_store(std::string const& path);

  // Blocks the caller, and nobody else, for as long as the disk takes.
  // Any number of callers; throws std::runtime_error when the order could not
  // be made durable (disk full), in which case it is not in the database.
  void commit(unsigned id, std::string_view content);

  // The content of an order, or nothing.  Not meant for use beside commit().
  std::string find(unsigned id);

  // How many orders there are.
  unsigned count();

  // SQLite's own check of the whole file; throws with its first complaint.
  void check_integrity();

 private:
  statement_handle prepare(char const* sql);
  [[noreturn]] void fail(std::string const& what);

  database_handle database_;
  statement_handle insert_, select_;
  // SQLite has one writer at a time, so one connection serves, and those who
  // wait for it wait here: user threads park without holding a kernel thread,
  // kernel threads sleep.
  activations::mutex writer_;
};

}  // namespace http_service
