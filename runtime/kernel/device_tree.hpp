// SPDX-License-Identifier: BSL-1.0
//
// Reads a flattened device tree (Devicetree Specification 0.4, chapter 5), as
// firmware leaves it in memory: where memory, processors and devices are.
// Used at boot by the targets whose machines are described by one.
//
// Nothing is copied or allocated: all that is returned points into the blob,
// which must stay mapped. The blob is the firmware's and is believed as far as
// its header's sizes; a damaged one ends the walk early, never outside them.
// `ranges` is not applied: on the machines served here, buses keep the
// addresses of their parents.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "types.hpp"

namespace kernel {

// The value of one property: big-endian cells of 32 bits, or text.
class property {
 public:
  constexpr property() noexcept = default;
  constexpr explicit property(std::span<unsigned char const> bytes) noexcept
      : bytes_(bytes), present_(true) {}

  // False if the node has no such property; its value may also be empty.
  explicit operator bool() const noexcept { return present_; }

  std::size_t cells() const noexcept { return bytes_.size() / 4; }
  // Cell `index`, or 0 past the end.
  std::uint32_t cell(std::size_t index) const noexcept;
  // `count` cells (at most two matter) from `index` as one number.
  std::uint64_t number(std::size_t index, std::size_t count) const noexcept;
  // All of the value as one number of one or two cells.
  std::uint64_t number() const noexcept { return number(0, cells()); }
  // The first string of the value.
  std::string_view text() const noexcept;
  // True if `wanted` is one of the value's strings.
  bool contains(std::string_view wanted) const noexcept;

 private:
  std::span<unsigned char const> bytes_;
  bool present_ = false;
};

struct address_range {
  std::uint64_t base = 0;
  std::uint64_t bytes = 0;
};

class device_tree;

// One node of the tree. Valid as long as the blob.
class device_node {
 public:
  constexpr device_node() noexcept = default;

  // False: there is no such node.
  explicit operator bool() const noexcept { return tree_ != nullptr; }

  // As in the blob, with the unit address: "memory@40000000".
  std::string_view name() const noexcept { return name_; }
  bool is_named(std::string_view base) const noexcept;
  unsigned depth() const noexcept { return depth_; }

  property find(std::string_view name) const noexcept;
  bool is_compatible(std::string_view with) const noexcept {
    return find("compatible").contains(with);
  }
  bool is_enabled() const noexcept;
  // Entry `index` of "reg"; zero bytes past the end.
  address_range range(std::size_t index = 0) const noexcept;

 private:
  friend class device_tree;

  device_tree const* tree_ = nullptr;
  std::string_view name_;
  std::size_t body_ = 0;  // offset of the first token behind the name
  unsigned depth_ = 0;    // 0: the root
  std::uint32_t address_cells_ = 2;  // of "reg", as the parent says
  std::uint32_t size_cells_ = 1;
};

class device_tree {
 public:
  explicit device_tree(void const* blob) noexcept;

  bool is_valid() const noexcept { return structure_ != nullptr; }
  std::uint32_t bytes() const noexcept { return bytes_; }

  // Calls visit(node) for each node, parents first, until it returns false.
  template <class Visitor>
  void for_each_node(Visitor&& visit) const {
    cursor at;
    for (device_node node; next(at, node);) {
      if (!visit(static_cast<device_node const&>(node))) return;
    }
  }

  // The first enabled node that fits, or an empty one.
  device_node find_compatible(std::string_view with) const noexcept;
  // The first enabled node whose name without unit address is `base`.
  device_node find_named(std::string_view base) const noexcept;

 private:
  friend class device_node;

  static constexpr unsigned max_depth = 16;
  // Where a walk stands, and the cell counts of the nodes it is inside of.
  struct cursor {
    std::size_t offset = 0;
    unsigned depth = 0;
    std::uint32_t address_cells[max_depth + 1] = {2};
    std::uint32_t size_cells[max_depth + 1] = {1};
  };

  bool next(cursor& at, device_node& node) const noexcept;
  std::uint32_t token(std::size_t offset) const noexcept;
  std::string_view text_at(unsigned char const* area, std::size_t area_bytes,
                           std::size_t offset) const noexcept;
  // Reads the property token at `offset`; returns the offset behind it.
  std::size_t read_property(std::size_t offset, std::string_view& name,
                            property& value) const noexcept;

  unsigned char const* structure_ = nullptr;
  unsigned char const* strings_ = nullptr;
  std::uint32_t structure_bytes_ = 0;
  std::uint32_t strings_bytes_ = 0;
  std::uint32_t bytes_ = 0;
};

// What the tree says of memory below 64 GiB, but for the kernel and what lies
// before it in its range, and the command line.  Panics if there is no memory.
void describe(device_tree const& tree, machine_description& machine);

}  // namespace kernel
