// SPDX-License-Identifier: BSL-1.0
#include "workload.hpp"

#include <random>

namespace http_service {

std::vector<arrival> make_schedule(workload const& load) {
  std::mt19937_64 random(20'240'229);
  std::exponential_distribution<double> gap(load.rate);
  std::discrete_distribution<unsigned> kind(kind_percent.begin(),
                                            kind_percent.end());
  std::uniform_int_distribution<std::size_t> limit(0, hot_limits.size() - 1);
  std::uniform_int_distribution<unsigned> product(0, load.products - 1);
  std::uniform_int_distribution<unsigned> shelf(0, load.shelves - 1);

  std::vector<arrival> schedule;
  schedule.reserve(static_cast<std::size_t>(load.rate * load.seconds * 1.1));
  unsigned orders = 0;
  for (double at = gap(random); at < load.seconds; at += gap(random)) {
    arrival next{std::chrono::nanoseconds(static_cast<std::int64_t>(at * 1e9)),
                 static_cast<request_kind>(kind(random)), 0};
    switch (next.kind) {
      case request_kind::hot:
        next.item = hot_limits[limit(random)];
        break;
      case request_kind::look_up:
        next.item = product(random);
        break;
      case request_kind::cold_files:
        next.item = shelf(random);
        break;
      case request_kind::order:
        next.item = ++orders;
        break;
    }
    schedule.push_back(next);
  }
  return schedule;
}

std::string product_text(unsigned product) {
  auto const number = std::to_string(product);
  auto const price = std::to_string(100 + product * 7919ULL % 99'900);
  std::string text = "product " + number + "\nprice " + price + " cents\n";
  // A description of about 200 bytes: some 16 products share a page.
  for (unsigned i = 0; i < 4; ++i) {
    text += "Part " + std::to_string(i) + " of " + number +
            ", made to last, packed in a box.\n";
  }
  return text;
}

std::string order_text(unsigned order) {
  return std::to_string(1 + order * 31ULL % 9) + " x product " +
         std::to_string(order * 104'729ULL % 100'000) + " for customer " +
         std::to_string(order * 611'953ULL % 10'000);
}

std::string order_answer(unsigned order) {
  return "order " + std::to_string(order) + " committed\n";
}

}  // namespace http_service
