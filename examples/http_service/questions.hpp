// SPDX-License-Identifier: BSL-1.0
// What the load generator asks, and the answers that alone are right.
#pragma once

#include "file_set.hpp"
#include "workload.hpp"

#include <map>
#include <string>
#include <vector>

namespace http_service {

class questions {
 public:
  // Works out beforehand all answers that take long.  Throws
  // std::system_error if a file cannot be read.
  questions(std::vector<shelf> const&, bool keep_alive);

  unsigned shelves() const {
    return static_cast<unsigned>(shelf_answers_.size());
  }

  std::string request(arrival const&) const;  // in HTTP
  std::string answer(arrival const&) const;   // its body

 private:
  std::string head(std::string const& headers) const;
  std::string get(char const* path, unsigned item) const;

  std::string connection_;
  std::map<unsigned, std::string> hot_answers_;
  std::vector<std::string> shelf_answers_;
};

}  // namespace http_service
