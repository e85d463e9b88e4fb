// SPDX-License-Identifier: BSL-1.0
#include "catalogue.hpp"

#include "workload.hpp"

#include <fcntl.h>
#include <lmdb.h>
#include <unistd.h>

#include <cerrno>
#include <stdexcept>
#include <utility>

namespace http_service {
namespace {

void check(int result, char const* what) {
  if (result != MDB_SUCCESS) {
    throw std::runtime_error(std::string("catalogue: cannot ") + what + ": " +
                             mdb_strerror(result));
  }
}

// One transaction: aborted unless committed.
class transaction {
 public:
  transaction(MDB_env* environment, unsigned flags) {
    check(mdb_txn_begin(environment, nullptr, flags, &handle_),
          "begin a transaction");
  }
  transaction(transaction const&) = delete;
  ~transaction() {
    if (handle_ != nullptr) mdb_txn_abort(handle_);
  }
  void commit() {
    check(mdb_txn_commit(std::exchange(handle_, nullptr)), "commit");
  }
  MDB_txn* get() const { return handle_; }

 private:
  MDB_txn* handle_ = nullptr;
};

constexpr std::size_t bytes_per_product = 300;  // with all that LMDB adds
constexpr unsigned reader_limit = 1'024;

MDB_env* open_environment(std::string const& path, std::size_t map_bytes,
                          unsigned flags) {
  MDB_env* environment = nullptr;
  check(mdb_env_create(&environment), "create an environment");
  std::unique_ptr<MDB_env, decltype(&mdb_env_close)> guard(environment,
                                                           &mdb_env_close);
  if (map_bytes != 0) {
    check(mdb_env_set_mapsize(environment, map_bytes), "set the map size");
  }
  check(mdb_env_set_maxreaders(environment, reader_limit),
        "set the number of readers");
  check(mdb_env_open(environment, path.c_str(), flags | MDB_NOSUBDIR, 0600),
        "open the file");
  return guard.release();
}

// A full disk is found here: LMDB itself would only speak of an "input/output
// error".
void reserve(MDB_env* environment, std::size_t bytes) {
  mdb_filehandle_t file{};
  check(mdb_env_get_fd(environment, &file), "find its file");
  int error = EINTR;
  while (error == EINTR) {
    error = ::posix_fallocate(file, 0, static_cast<off_t>(bytes));
  }
  check(error, "reserve its space on the disk");
}

void drop_from_memory(std::string const& path) {
  auto const file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (file < 0) return;  // opening the map reports it
  ::posix_fadvise(file, 0, 0, POSIX_FADV_DONTNEED);
  ::close(file);
}

}  // namespace

void catalogue::closer::operator()(MDB_env* e) const noexcept {
  mdb_env_close(e);
}

void catalogue::create(std::string const& path, unsigned products) {
  auto const bytes = (products + 1'000) * bytes_per_product;
  std::unique_ptr<MDB_env, closer> const environment(
      open_environment(path, bytes, 0));
  reserve(environment.get(), bytes);
  transaction write(environment.get(), 0);
  MDB_dbi table = 0;
  check(mdb_dbi_open(write.get(), nullptr, MDB_INTEGERKEY, &table),
        "open its table");
  for (unsigned product = 0; product < products; ++product) {
    auto text = product_text(product);
    MDB_val key{sizeof product, &product};
    MDB_val value{text.size(), text.data()};
    check(mdb_put(write.get(), table, &key, &value, MDB_APPEND),
          "write a product");
  }
  write.commit();
}

catalogue::catalogue(std::string const& path) {
  drop_from_memory(path);
  // NOTLS: a read transaction belongs to its handle.  By default it belongs to
  // a kernel thread, and user threads share those.
  // NORDAHEAD: a fault reads its own page and no more, which is what suits a
  // catalogue larger than memory.
  environment_.reset(
      open_environment(path, 0, MDB_RDONLY | MDB_NOTLS | MDB_NORDAHEAD));
  transaction read(environment_.get(), MDB_RDONLY);
  check(mdb_dbi_open(read.get(), nullptr, MDB_INTEGERKEY, &table_),
        "open its table");
  read.commit();  // keeps the handle of the table
}

std::string catalogue::look_up(unsigned product) const {
  transaction const read(environment_.get(), MDB_RDONLY);
  MDB_val key{sizeof product, &product};
  MDB_val value{};
  auto const result = mdb_get(read.get(), table_, &key, &value);
  if (result == MDB_NOTFOUND) return {};
  check(result, "look a product up");
  return {static_cast<char const*>(value.mv_data), value.mv_size};
}

}  // namespace http_service
