// SPDX-License-Identifier: BSL-1.0
#include "server.hpp"

#include <activations/scheduler.hpp>
#include <activations/user_thread.hpp>

#include <httplib.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include <nlohmann/json.hpp>

#include <cerrno>
#include <charconv>
#include <condition_variable>
#include <functional>
#include <iostream>
#include <memory>
#include <mutex>
#include <optional>
#include <stdexcept>
#include <string>
#include <system_error>
#include <thread>

namespace http_service {
namespace {

using job = std::function<void()>;

// cpp-httplib, and the regular expressions in it, on a user thread's stack.
constexpr std::size_t stack_bytes = 256 * 1024;

// Starts a thread of control that runs a job.  This is all that differs
// between the modes.
class thread_starter {
 public:
  explicit thread_starter(mode how) {
    if (how == mode::one_to_one) return;
    activations::scheduler_options options;
    options.stack_bytes = stack_bytes;
    options.model = how == mode::many_to_one
                        ? activations::threading::many_to_one
                        : activations::threading::many_to_many;
    scheduler_.emplace(options);
  }

  void start(job work) {
    if (scheduler_) {
      scheduler_->spawn(std::move(work)).detach();
      return;
    }
    try {
      std::thread(work).detach();
    } catch (std::system_error const&) {
      work();  // the machine gives no more threads: others wait for this one
    }
  }

  std::string describe() const {
    return scheduler_ ? scheduler_->describe()
                      : "a kernel thread for each connection";
  }

 private:
  std::optional<activations::scheduler> scheduler_;
};

// How cpp-httplib hands over a connection: `serve` reads its requests, calls
// the handlers, writes the answers, and returns when it is closed.
class connection_queue final : public httplib::TaskQueue {
 public:
  explicit connection_queue(thread_starter& starter) : starter_(starter) {}

  void enqueue(job serve) override {
    {
      std::lock_guard const guard(mutex_);
      ++open_;
    }
    starter_.start([this, serve = std::move(serve)] {
      serve();
      std::lock_guard const guard(mutex_);
      if (--open_ == 0) all_closed_.notify_all();
    });
  }

  void shutdown() override {
    std::unique_lock guard(mutex_);
    all_closed_.wait(guard, [this] { return open_ == 0; });
  }

 private:
  thread_starter& starter_;
  std::mutex mutex_;
  std::condition_variable all_closed_;
  unsigned open_ = 0;
};

unsigned number_in(httplib::Request const& request) {
  auto const digits = request.matches[1].str();
  unsigned number = 0;
  auto const end = digits.data() + digits.size();
  auto const result = std::from_chars(digits.data(), end, number);
  if (result.ec != std::errc() || result.ptr != end) {
    throw std::runtime_error("not a number: " + digits);
  }
  return number;
}

void reply(httplib::Response& response, answer from) {
  response.status = from.status;
  response.set_content(std::move(from.body), "text/plain");
}

void add_routes(httplib::Server& server, handlers& service) {
  using request = httplib::Request;
  using response = httplib::Response;
  server.Get(R"(/primes/(\d+))", [&](request const& in, response& out) {
    reply(out, service.hot(number_in(in)));
  });
  server.Get(R"(/product/(\d+))", [&](request const& in, response& out) {
    reply(out, service.look_up(number_in(in)));
  });
  server.Get(R"(/shelf/(\d+))", [&](request const& in, response& out) {
    reply(out, service.cold_files(number_in(in)));
  });
  server.Post(R"(/order/(\d+))", [&](request const& in, response& out) {
    reply(out, service.order(number_in(in), in.body));
  });
  server.set_exception_handler(
      [](request const&, response& out, std::exception_ptr error) {
        try {
          std::rethrow_exception(error);
        } catch (std::exception const& e) {
          reply(out, {500, e.what()});
        }
      });
}

// Returns the port.
int bind(httplib::Server& server, int wanted) {
  int listener = -1;
  // In place of cpp-httplib's SO_REUSEPORT, with which two servers would share
  // a port without noticing.
  server.set_socket_options([&listener](int socket) {
    listener = socket;
    int const yes = 1;
    ::setsockopt(socket, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
  });
  server.set_tcp_nodelay(true);
  constexpr auto host = "127.0.0.1";
  errno = 0;
  auto const port = wanted == 0 ? server.bind_to_any_port(host)
                    : server.bind_to_port(host, wanted) ? wanted
                                                        : -1;
  if (port <= 0) {
    auto const why = errno != 0 ? std::generic_category().message(errno)
                                : std::string("it is in use");
    throw std::runtime_error(
        "cannot listen on port " + std::to_string(wanted) + " of " + host +
        ": " + why + "; choose another --port, or leave the choice out");
  }
  // cpp-httplib asks for a backlog of 5; what does not fit costs its client a
  // second.
  ::listen(listener, 1024);
  return port;
}

void allow_many_descriptors() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &limit);
}

nlohmann::json resources_used() {
  rusage used{};
  ::getrusage(RUSAGE_SELF, &used);
  auto const seconds = [](timeval const& t) {
    return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_usec) / 1e6;
  };
  return {{"switches", used.ru_nvcsw + used.ru_nivcsw},
          {"cpu_seconds", seconds(used.ru_utime) + seconds(used.ru_stime)}};
}

}  // namespace

void serve(server_options const& options) {
  allow_many_descriptors();
  handlers service(options.data);
  thread_starter starter(options.how);
  httplib::Server server;
  server.new_task_queue = [&] { return new connection_queue(starter); };
  server.set_keep_alive_max_count(options.requests_per_connection);
  server.set_keep_alive_timeout(3600);  // seconds: clients close, not we
  add_routes(server, service);
  auto const port = bind(server, options.port);

  // In every mode a kernel thread of its own accepts connections, and this one
  // reads commands.
  std::thread acceptor([&] { server.listen_after_bind(); });
  while (!server.is_running()) std::this_thread::yield();
  std::cout << nlohmann::json{{"port", port}, {"backend", starter.describe()}}
            << std::endl;
  for (std::string line; std::getline(std::cin, line);) {
    std::cout << resources_used() << std::endl;
  }
  server.stop();
  acceptor.join();
}

}  // namespace http_service
