// SPDX-License-Identifier: BSL-1.0
#include "handlers.hpp"

#include "workload.hpp"

#include <utility>

namespace http_service {

unsigned count_primes(unsigned limit) {
  std::vector<char> composite(limit);
  unsigned count = 0;
  for (std::size_t n = 2; n < limit; ++n) {
    if (composite[n] != 0) continue;
    ++count;
    for (auto multiple = n * n; multiple < limit; multiple += n) {
      composite[multiple] = 1;
    }
  }
  return count;
}

handlers::handlers(data_paths const& paths)
    : catalogue_(paths.catalogue),
      orders_(paths.orders),
      shelves_(load_shelves(paths.file_list)) {}

answer handlers::hot(unsigned limit) const {
  if (limit > 1'000'000) return {400, "the limit is 1000000\n"};
  return {200, std::to_string(count_primes(limit)) + "\n"};
}

answer handlers::look_up(unsigned product) const {
  auto text = catalogue_.look_up(product);
  if (text.empty()) return {404, "no such product\n"};
  return {200, std::move(text)};
}

answer handlers::cold_files(unsigned index) const {
  if (index >= shelves_.size()) return {404, "no such shelf\n"};
  return {200, read_shelf(shelves_[index], read_from::disk)};
}

answer handlers::order(unsigned id, std::string_view content) {
  orders_.commit(id, content);
  return {200, order_answer(id)};
}

}  // namespace http_service
