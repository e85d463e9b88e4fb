// SPDX-License-Identifier: BSL-1.0
#include "client.hpp"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <cstdint>
#include <system_error>
#include <utility>

namespace http_service {
namespace {

bool would_wait(int error) {
  // A send before the connection stands ends in ENOTCONN or EAGAIN.
  return error == EAGAIN || error == EWOULDBLOCK || error == ENOTCONN ||
         error == EINTR;
}

bool parse_number(std::string_view digits, std::size_t& number) {
  auto const end = digits.data() + digits.size();
  auto const result = std::from_chars(digits.data(), end, number);
  return result.ec == std::errc() && result.ptr == end;
}

// The value of a header that cpp-httplib writes in exactly this spelling.
std::string_view header(std::string_view head, std::string_view name) {
  auto const at = head.find(name);
  if (at == std::string_view::npos) return {};
  auto const value = head.substr(at + name.size());
  return value.substr(0, value.find("\r\n"));
}

}  // namespace

void client_connection::open(int port) {
  close();
  socket_ = ::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (socket_ < 0) {
    throw std::system_error(errno, std::generic_category(), "socket");
  }
  int const yes = 1;
  ::setsockopt(socket_, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<std::uint16_t>(port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (::connect(socket_, reinterpret_cast<sockaddr*>(&address),
                sizeof address) != 0 &&
      errno != EINPROGRESS) {
    throw std::system_error(errno, std::generic_category(),
                            "cannot connect to the server");
  }
}

void client_connection::close() noexcept {
  if (socket_ >= 0) ::close(std::exchange(socket_, -1));
}

void client_connection::begin(std::string request) {
  out_ = std::move(request);
  in_.clear();
  sent_ = body_at_ = body_bytes_ = 0;
  status_ = 0;
  server_closes_ = false;
}

client_connection::progress client_connection::advance() {
  if (!send_rest()) return progress::broken;
  for (;;) {
    if (body_at_ == 0 && !parse_head()) return progress::broken;
    if (body_at_ != 0 && in_.size() >= body_at_ + body_bytes_) {
      return progress::answered;
    }
    char buffer[4096];
    auto const got = ::recv(socket_, buffer, sizeof buffer, 0);
    if (got < 0 && would_wait(errno)) return progress::waiting;
    if (got <= 0) return progress::broken;
    in_.append(buffer, static_cast<std::size_t>(got));
  }
}

std::string_view client_connection::body() const {
  return std::string_view(in_).substr(body_at_, body_bytes_);
}

bool client_connection::send_rest() {
  while (sent_ < out_.size()) {
    auto const sent =
        ::send(socket_, out_.data() + sent_, out_.size() - sent_, MSG_NOSIGNAL);
    if (sent < 0) return would_wait(errno);
    sent_ += static_cast<std::size_t>(sent);
  }
  return true;
}

// Returns false if what arrived cannot be the head of an answer.
bool client_connection::parse_head() {
  auto const end = in_.find("\r\n\r\n");
  if (end == std::string::npos) return in_.size() < 16'384;
  auto const head = std::string_view(in_).substr(0, end + 2);
  constexpr std::string_view version = "HTTP/1.1 ";
  std::size_t status = 0;
  if (!head.starts_with(version) ||
      !parse_number(head.substr(version.size(), 3), status) ||
      !parse_number(header(head, "\r\nContent-Length: "), body_bytes_)) {
    return false;
  }
  status_ = static_cast<int>(status);
  server_closes_ = header(head, "\r\nConnection: ") == "close";
  body_at_ = end + 4;
  return true;
}

}  // namespace http_service
