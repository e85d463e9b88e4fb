// SPDX-License-Identifier: BSL-1.0
// Some real files of the machine in groups ("shelves"), and how to read them
// from the disk even though they were read a moment ago.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

namespace http_service {

using shelf = std::vector<std::string>;  // paths

inline constexpr std::size_t files_per_shelf = 8;

// At most `limit` shelves of regular, readable files of 8 to 64 KiB below a
// directory, spread evenly over what is there.  Throws std::runtime_error if
// the directory cannot be read or holds too few.
std::vector<shelf> find_shelves(std::string const& directory,
                                std::size_t limit);

// A file that lists the paths of all shelves, one a line.  Both throw
// std::runtime_error.
void save_shelves(std::string const& list, std::vector<shelf> const&);
std::vector<shelf> load_shelves(std::string const& list);

enum class read_from {
  anywhere,  // memory, if it is there
  disk,      // the kernel is told to forget the file before it is read
};

// Reads each file of the shelf with plain blocking reads, one after the other,
// and tells what was in them: number of files, bytes, lines, and a checksum.
// Throws std::system_error naming the file that cannot be read.
std::string read_shelf(shelf const&, read_from);

}  // namespace http_service
