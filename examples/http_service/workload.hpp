// SPDX-License-Identifier: BSL-1.0
// What is asked of the service: four kinds of request, in which mix, at which
// instants, and the texts from which a right answer can be told.  Server, load
// generator and the final check all derive their data from here, so none of
// them has to trust another.
#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace http_service {

enum class request_kind : std::uint8_t { hot, look_up, cold_files, order };

inline constexpr std::size_t kind_count = 4;
inline constexpr std::array<std::string_view, kind_count> kind_names{
    "hot", "look-up", "cold files", "order"};

// Share of each kind among the requests, in percent.
inline constexpr std::array<unsigned, kind_count> kind_percent{70, 20, 5, 5};

constexpr std::size_t index_of(request_kind k) {
  return static_cast<std::size_t>(k);
}

struct arrival {
  std::chrono::nanoseconds at;  // since the start of the load
  request_kind kind;
  unsigned item;  // hot: limit; look-up: product; cold: shelf; order: id
};

struct workload {
  double rate;     // requests per second
  double seconds;  // how long they keep coming
  unsigned products;
  unsigned shelves;  // groups of files that are read together
};

// Exponential gaps of mean 1 / rate: independent clients, who do not wait for
// each other.  The seed is fixed, so every mode gets the same requests at the
// same instants.
std::vector<arrival> make_schedule(workload const&);

// The limits that hot requests use, few enough to know all answers beforehand.
inline constexpr std::array<unsigned, 4> hot_limits{50'000, 75'000, 100'000,
                                                    125'000};

// What the catalogue holds for a product, and what the text of an order is.
std::string product_text(unsigned product);
std::string order_text(unsigned order);

// The answer to a committed order.
std::string order_answer(unsigned order);

}  // namespace http_service
