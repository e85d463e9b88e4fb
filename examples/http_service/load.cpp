// SPDX-License-Identifier: BSL-1.0
#include "load.hpp"

#include "client.hpp"
#include "questions.hpp"

#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <nlohmann/json.hpp>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <iostream>
#include <memory>
#include <system_error>
#include <utility>

namespace http_service {
namespace {

using std::chrono::microseconds;
using std::chrono::nanoseconds;
using clock = std::chrono::steady_clock;

// Requests that find this many others under way wait for their turn, which
// their latency includes.
constexpr std::size_t connection_limit = 128;

// Connections kept open for later requests; beyond that they are closed, as the
// pools of HTTP clients do.
constexpr std::size_t idle_limit = 16;

// After the last request, what is still unanswered may take this long.
constexpr auto patience = std::chrono::seconds(1);

[[noreturn]] void fail(char const* what) {
  throw std::system_error(errno, std::generic_category(), what);
}

nanoseconds from_seconds(double seconds) {
  return nanoseconds(static_cast<std::int64_t>(seconds * 1e9));
}

class generator {
 public:
  explicit generator(load_options const&);
  ~generator() {
    ::close(timer_);
    ::close(poll_);
  }

  generator(generator const&) = delete;

  load_result run();

 private:
  struct connection {
    client_connection socket;
    std::size_t request = 0;  // index into schedule_
    unsigned used = 0;        // requests it carried
    bool is_idle = false;     // open, and waits for its next request
  };

  void start_due(nanoseconds now);
  void start(std::size_t request, nanoseconds now);
  void send_on(connection&, std::size_t request);
  void advance(connection&);
  void finish(connection&, nanoseconds now);
  void give_up(nanoseconds now);
  void wait(nanoseconds now);
  void set_timer(nanoseconds at);
  bool is_counted(arrival const& a) const {
    return a.at >= from_seconds(options_.warm_up_seconds);
  }
  nanoseconds now() const { return clock::now() - begin_; }

  load_options const& options_;
  questions questions_;
  std::vector<arrival> schedule_;
  int poll_, timer_;
  clock::time_point begin_;
  std::vector<std::unique_ptr<connection>> all_;
  std::vector<connection*> closed_, idle_;
  std::size_t next_ = 0;  // first request that has not started
  std::size_t under_way_ = 0;
  bool announced_ = false;
  bool is_held_up_ = false;  // by the connection limit
  std::vector<std::uint32_t> start_delays_us_;
  load_result result_;
};

std::uint32_t in_microseconds(nanoseconds d) {
  return static_cast<std::uint32_t>(
      std::chrono::duration_cast<microseconds>(d).count());
}

generator::generator(load_options const& options)
    : options_(options),
      questions_(load_shelves(options.file_list),
                 options.requests_per_connection > 1),
      schedule_(make_schedule({options.rate,
                               options.warm_up_seconds + options.seconds,
                               options.products, questions_.shelves()})),
      poll_(::epoll_create1(EPOLL_CLOEXEC)),
      timer_(::timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK)) {
  if (poll_ < 0) fail("epoll_create1");
  if (timer_ < 0) fail("timerfd_create");
  epoll_event event{};
  event.events = EPOLLIN;
  if (::epoll_ctl(poll_, EPOLL_CTL_ADD, timer_, &event) != 0) {
    fail("epoll_ctl");
  }
}

load_result generator::run() {
  ::prctl(PR_SET_TIMERSLACK, 1);  // ns: arrivals happen when they should
  for (auto& kind : result_.kinds) kind.latencies_us.reserve(schedule_.size());
  start_delays_us_.reserve(schedule_.size());
  begin_ = clock::now();
  auto const end =
      from_seconds(options_.warm_up_seconds + options_.seconds) + patience;
  for (auto t = now(); t < end; t = now()) {
    if (!announced_ && t >= from_seconds(options_.warm_up_seconds)) {
      announced_ = true;
      std::cout << "counting" << std::endl;
    }
    start_due(t);
    if (next_ == schedule_.size() && under_way_ == 0) break;
    wait(t);
    if (!result_.wrong.empty()) return std::move(result_);
  }
  give_up(now());
  if (!start_delays_us_.empty()) {
    auto const p99 =
        start_delays_us_.begin() +
        static_cast<std::ptrdiff_t>((start_delays_us_.size() - 1) * 99 / 100);
    std::nth_element(start_delays_us_.begin(), p99, start_delays_us_.end());
    result_.start_delay_p99_us = *p99;
  }
  return std::move(result_);
}

void generator::start_due(nanoseconds now) {
  while (next_ < schedule_.size() && schedule_[next_].at <= now) {
    if (under_way_ == connection_limit) {
      is_held_up_ = true;
      return;
    }
    start(next_++, now);
  }
  is_held_up_ = false;
}

void generator::start(std::size_t request, nanoseconds now) {
  if (is_counted(schedule_[request]) && !is_held_up_) {
    start_delays_us_.push_back(in_microseconds(now - schedule_[request].at));
  }
  ++under_way_;
  if (!idle_.empty()) {
    auto& reused = *idle_.back();
    idle_.pop_back();
    send_on(reused, request);
    return;
  }
  if (closed_.empty()) {
    all_.push_back(std::make_unique<connection>());
    closed_.push_back(all_.back().get());
  }
  auto& opened = *closed_.back();
  closed_.pop_back();
  opened.socket.open(options_.port);
  opened.used = 0;
  epoll_event event{};
  event.events = EPOLLIN | EPOLLOUT | EPOLLET;
  event.data.ptr = &opened;
  if (::epoll_ctl(poll_, EPOLL_CTL_ADD, opened.socket.descriptor(), &event) !=
      0) {
    fail("epoll_ctl");
  }
  send_on(opened, request);
}

void generator::send_on(connection& c, std::size_t request) {
  c.request = request;
  c.is_idle = false;
  ++c.used;
  c.socket.begin(questions_.request(schedule_[request]));
  advance(c);
}

void generator::advance(connection& c) {
  switch (c.socket.advance()) {
    case client_connection::progress::waiting:
      return;
    case client_connection::progress::broken:
      result_.wrong = "the server closed the connection of request " +
                      std::to_string(c.request) + " without an answer";
      return;
    case client_connection::progress::answered:
      break;
  }
  finish(c, now());
  if (c.used == options_.requests_per_connection || c.socket.server_closes() ||
      idle_.size() == idle_limit) {
    c.socket.close();
    closed_.push_back(&c);
  } else {
    c.is_idle = true;
    idle_.push_back(&c);
  }
}

void generator::finish(connection& c, nanoseconds now) {
  --under_way_;
  auto const& asked = schedule_[c.request];
  auto const kind = index_of(asked.kind);
  ++result_.answers_checked;
  if (c.socket.status() != 200 || c.socket.body() != questions_.answer(asked)) {
    auto text = std::string(c.socket.body().substr(0, 200));
    while (!text.empty() && text.back() == '\n') text.pop_back();
    result_.wrong = c.socket.status() == 200
                        ? "wrong answer to " + std::string(kind_names[kind]) +
                              " request " + std::to_string(asked.item) + ": " +
                              text
                        : text;
    return;
  }
  if (asked.kind == request_kind::order) {
    result_.committed_orders.push_back(asked.item);
  }
  auto const begin = from_seconds(options_.warm_up_seconds);
  if (now >= begin && now < begin + from_seconds(options_.seconds)) {
    ++result_.kinds[kind].answered_in_time;
  }
  if (is_counted(asked)) {
    result_.kinds[kind].latencies_us.push_back(in_microseconds(now - asked.at));
  }
}

void generator::give_up(nanoseconds now) {
  auto const unanswered = [&](std::size_t request) {
    auto const& asked = schedule_[request];
    if (!is_counted(asked)) return;
    auto& kind = result_.kinds[index_of(asked.kind)];
    kind.latencies_us.push_back(in_microseconds(now - asked.at));
    ++kind.unanswered;
  };
  for (auto const& each : all_) {
    if (each->socket.is_open() && !each->is_idle) unanswered(each->request);
  }
  for (; next_ < schedule_.size(); ++next_) unanswered(next_);
}

void generator::wait(nanoseconds now) {
  // The timer wakes us for the next request, the time-out for everything else.
  if (next_ < schedule_.size() && schedule_[next_].at > now) {
    set_timer(schedule_[next_].at);
  }
  std::array<epoll_event, 64> events;
  auto const count =
      ::epoll_wait(poll_, events.data(), static_cast<int>(events.size()), 20);
  if (count < 0 && errno != EINTR) fail("epoll_wait");
  for (int i = 0; i < count && result_.wrong.empty(); ++i) {
    auto* const c = static_cast<connection*>(events[i].data.ptr);
    if (c == nullptr) {
      std::uint64_t expirations = 0;
      [[maybe_unused]] auto const got =
          ::read(timer_, &expirations, sizeof expirations);
    } else if (c->socket.is_open() && !c->is_idle) {
      advance(*c);
    }
  }
}

void generator::set_timer(nanoseconds at) {
  auto const since_boot = (begin_ + at).time_since_epoch();
  auto const seconds =
      std::chrono::duration_cast<std::chrono::seconds>(since_boot);
  itimerspec when{};
  when.it_value.tv_sec = seconds.count();
  when.it_value.tv_nsec = nanoseconds(since_boot - seconds).count();
  if (::timerfd_settime(timer_, TFD_TIMER_ABSTIME, &when, nullptr) != 0) {
    fail("timerfd_settime");
  }
}

}  // namespace

void generate_load(load_options const& options) {
  auto const result = generator(options).run();
  nlohmann::json kinds = nlohmann::json::array();
  for (auto const& kind : result.kinds) {
    kinds.push_back({{"latencies_us", kind.latencies_us},
                     {"unanswered", kind.unanswered},
                     {"answered_in_time", kind.answered_in_time}});
  }
  std::cout << nlohmann::json{{"kinds", std::move(kinds)},
                              {"committed_orders", result.committed_orders},
                              {"answers_checked", result.answers_checked},
                              {"start_delay_p99_us", result.start_delay_p99_us},
                              {"wrong", result.wrong}}
            << std::endl;
}

load_result parse_load_result(std::string const& line) {
  auto const json = nlohmann::json::parse(line);
  load_result result;
  for (std::size_t k = 0; k < kind_count; ++k) {
    auto const& from = json.at("kinds").at(k);
    auto& to = result.kinds[k];
    from.at("latencies_us").get_to(to.latencies_us);
    from.at("unanswered").get_to(to.unanswered);
    from.at("answered_in_time").get_to(to.answered_in_time);
  }
  json.at("committed_orders").get_to(result.committed_orders);
  json.at("answers_checked").get_to(result.answers_checked);
  json.at("start_delay_p99_us").get_to(result.start_delay_p99_us);
  json.at("wrong").get_to(result.wrong);
  return result;
}

}  // namespace http_service
