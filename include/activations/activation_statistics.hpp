// SPDX-License-Identifier: BSL-1.0
//
// What every backend counts of the kernel threads that carry user code.
#pragma once

#include <cstdint>

namespace activations {

// Each since the backend started unless it says "now".
struct activation_statistics {
  std::uint64_t preemptions = 0;     // threads stopped in user code
  std::uint64_t no_spare = 0;        // a hand-over found no spare
  std::uint64_t direct_resumes = 0;  // a stopped thread went on for lack of one
  std::uint64_t creation_failures = 0;  // pthread_create said no
  std::uint64_t created = 0;      // kernel threads made to carry user code
  std::uint64_t ended = 0;        // surplus ones ended
  std::uint32_t activations = 0;  // alive now
  std::uint32_t spares = 0;       // of these, parked now
};

}  // namespace activations
