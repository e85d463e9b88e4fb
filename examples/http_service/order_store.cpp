// SPDX-License-Identifier: BSL-1.0
#include "order_store.hpp"

#include <sqlite3.h>

#include <mutex>
#include <stdexcept>

namespace http_service {

void detail::sqlite_closer::operator()(sqlite3* d) const noexcept {
  sqlite3_close_v2(d);
}

void detail::sqlite_closer::operator()(sqlite3_stmt* s) const noexcept {
  sqlite3_finalize(s);
}

order_store::order_store(std::string const& path) {
  // NOMUTEX: SQLite need not lock the connection, since writer_ does.  User
  // threads may come to it on different kernel threads; SQLite allows that.
  sqlite3* opened = nullptr;
  auto const result = sqlite3_open_v2(
      path.c_str(), &opened,
      SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX,
      nullptr);
  database_.reset(opened);
  if (result != SQLITE_OK) fail("cannot open " + path);
  sqlite3_busy_timeout(opened, 5'000);  // ms, if another process looks in
  auto const* const set_up =
      "PRAGMA journal_mode=WAL;"
      "PRAGMA synchronous=FULL;"
      "CREATE TABLE IF NOT EXISTS orders("
      "  id INTEGER PRIMARY KEY, content TEXT NOT NULL)";
  if (sqlite3_exec(opened, set_up, nullptr, nullptr, nullptr) != SQLITE_OK) {
    fail("cannot set up " + path);
  }
  insert_ = prepare("INSERT INTO orders(id, content) VALUES(?1, ?2)");
  select_ = prepare("SELECT content FROM orders WHERE id = ?1");
}

void order_store::commit(unsigned id, std::string_view content) {
  std::lock_guard const guard(writer_);
  auto* const insert = insert_.get();
  sqlite3_bind_int64(insert, 1, id);
  sqlite3_bind_text(insert, 2, content.data(), static_cast<int>(content.size()),
                    SQLITE_STATIC);
  auto const result = sqlite3_step(insert);  // fsync happens in here
  if (result != SQLITE_DONE) {
    auto const why = std::string(sqlite3_errmsg(database_.get()));
    sqlite3_reset(insert);
    throw std::runtime_error("order " + std::to_string(id) +
                             " could not be committed: " + why);
  }
  sqlite3_reset(insert);
}

std::string order_store::find(unsigned id) {
  auto* const select = select_.get();
  sqlite3_bind_int64(select, 1, id);
  std::string content;
  if (sqlite3_step(select) == SQLITE_ROW) {
    content.assign(
        reinterpret_cast<char const*>(sqlite3_column_text(select, 0)),
        static_cast<std::size_t>(sqlite3_column_bytes(select, 0)));
  }
  sqlite3_reset(select);
  return content;
}

unsigned order_store::count() {
  auto const statement = prepare("SELECT count(*) FROM orders");
  if (sqlite3_step(statement.get()) != SQLITE_ROW) fail("cannot count orders");
  return static_cast<unsigned>(sqlite3_column_int64(statement.get(), 0));
}

void order_store::check_integrity() {
  auto const statement = prepare("PRAGMA integrity_check(1)");
  if (sqlite3_step(statement.get()) != SQLITE_ROW) fail("cannot check orders");
  std::string const verdict =
      reinterpret_cast<char const*>(sqlite3_column_text(statement.get(), 0));
  if (verdict != "ok") {
    throw std::runtime_error("the order database is damaged: " + verdict);
  }
}

statement_handle order_store::prepare(char const* sql) {
  sqlite3_stmt* statement = nullptr;
  if (sqlite3_prepare_v2(database_.get(), sql, -1, &statement, nullptr) !=
      SQLITE_OK) {
    fail("cannot prepare a statement");
  }
  return statement_handle(statement);
}

void order_store::fail(std::string const& what) {
  throw std::runtime_error(what + ": " + sqlite3_errmsg(database_.get()));
}

}  // namespace http_service
