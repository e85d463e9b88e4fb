// SPDX-License-Identifier: BSL-1.0
#include "questions.hpp"

#include "handlers.hpp"

namespace http_service {

questions::questions(std::vector<shelf> const& shelves, bool keep_alive)
    : connection_(keep_alive ? "keep-alive" : "close") {
  for (auto const limit : hot_limits) {
    hot_answers_[limit] = std::to_string(count_primes(limit)) + "\n";
  }
  for (auto const& each : shelves) {
    shelf_answers_.push_back(read_shelf(each, read_from::anywhere));
  }
}

std::string questions::request(arrival const& a) const {
  switch (a.kind) {
    case request_kind::hot:
      return get("/primes/", a.item);
    case request_kind::look_up:
      return get("/product/", a.item);
    case request_kind::cold_files:
      return get("/shelf/", a.item);
    case request_kind::order:
      break;
  }
  auto const content = order_text(a.item);
  return "POST /order/" + std::to_string(a.item) +
         head("Content-Type: text/plain\r\nContent-Length: " +
              std::to_string(content.size()) + "\r\n") +
         content;
}

std::string questions::answer(arrival const& a) const {
  switch (a.kind) {
    case request_kind::hot:
      return hot_answers_.at(a.item);
    case request_kind::look_up:
      return product_text(a.item);
    case request_kind::cold_files:
      return shelf_answers_.at(a.item);
    case request_kind::order:
      break;
  }
  return order_answer(a.item);
}

std::string questions::head(std::string const& headers) const {
  return " HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: " + connection_ + "\r\n" +
         headers + "\r\n";
}

std::string questions::get(char const* path, unsigned item) const {
  return "GET " + (path + std::to_string(item)) + head("");
}

}  // namespace http_service
