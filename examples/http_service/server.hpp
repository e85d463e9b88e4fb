// SPDX-License-Identifier: BSL-1.0
// The server process: cpp-httplib in front of the handlers.
#pragma once

#include "handlers.hpp"
#include "mode.hpp"

namespace http_service {

struct server_options {
  mode how = mode::many_to_many;
  int port = 0;  // on 127.0.0.1; 0: any that is free
  unsigned requests_per_connection = 1;
  data_paths data;
};

// Serves until its standard input ends.  Talks to the process that started it
// in lines of JSON:
//   out   {"port": N, "backend": "..."}  once it listens
//   in    any line                       "how much did you use so far?"
//   out   {"switches": N, "cpu_seconds": X}
// Throws std::runtime_error if it cannot start.
void serve(server_options const&);

}  // namespace http_service
