// SPDX-License-Identifier: BSL-1.0
// One HTTP/1.1 connection of the load generator: non-blocking, and no more of
// the protocol than the service uses.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace http_service {

class client_connection {
 public:
  client_connection() = default;
  client_connection(client_connection const&) = delete;
  client_connection& operator=(client_connection const&) = delete;
  ~client_connection() { close(); }

  // Begins to connect to 127.0.0.1.  Throws std::system_error.
  void open(int port);
  void close() noexcept;
  bool is_open() const { return socket_ >= 0; }
  int descriptor() const { return socket_; }

  // Begins a request.  Its answer must have arrived before the next.
  void begin(std::string request);

  enum class progress { waiting, answered, broken };

  // Sends and receives as much as goes without waiting; call it when the
  // socket is ready.  broken: the server closed the connection, or sent
  // something that is not HTTP.
  progress advance();

  // Of the answer.
  int status() const { return status_; }
  std::string_view body() const;
  bool server_closes() const { return server_closes_; }

 private:
  bool send_rest();
  bool parse_head();

  int socket_ = -1;
  std::string out_, in_;
  std::size_t sent_ = 0;
  std::size_t body_at_ = 0;  // 0: the head has not arrived
  std::size_t body_bytes_ = 0;
  int status_ = 0;
  bool server_closes_ = false;
};

}  // namespace http_service
