// SPDX-License-Identifier: BSL-1.0
#include "device_tree.hpp"

#include <algorithm>
#include <iterator>

extern "C" {
extern char kernel_begin[];
extern char kernel_end[];
}

namespace kernel {
namespace {

constexpr std::uint32_t magic = 0xd00dfeed;
constexpr std::uint32_t begin_node = 1;
constexpr std::uint32_t end_node = 2;
constexpr std::uint32_t property_token = 3;
constexpr std::uint32_t nop = 4;
constexpr std::uint32_t end = 9;

constexpr std::size_t header_bytes = 40;

// The targets' kernels map no more.
constexpr u64 mapped_end = u64{64} << 30;

std::uint32_t big_endian(unsigned char const* at) noexcept {
  return std::uint32_t{at[0]} << 24 | std::uint32_t{at[1]} << 16 |
         std::uint32_t{at[2]} << 8 | std::uint32_t{at[3]};
}

constexpr std::size_t align(std::size_t offset) noexcept {
  return (offset + 3) & ~std::size_t{3};
}

}  // namespace

std::uint32_t property::cell(std::size_t index) const noexcept {
  return index < cells() ? big_endian(bytes_.data() + index * 4) : 0;
}

std::uint64_t property::number(std::size_t index,
                               std::size_t count) const noexcept {
  std::uint64_t value = 0;
  for (std::size_t i = 0; i < count; ++i) {
    value = value << 32 | cell(index + i);
  }
  return value;
}

std::string_view property::text() const noexcept {
  std::string_view const all(reinterpret_cast<char const*>(bytes_.data()),
                             bytes_.size());
  return all.substr(0, all.find('\0'));
}

bool property::contains(std::string_view wanted) const noexcept {
  std::string_view rest(reinterpret_cast<char const*>(bytes_.data()),
                        bytes_.size());
  while (!rest.empty()) {
    auto const length = rest.find('\0');
    if (rest.substr(0, length) == wanted) return true;
    if (length == std::string_view::npos) break;
    rest.remove_prefix(length + 1);
  }
  return false;
}

bool device_node::is_named(std::string_view base) const noexcept {
  return name_.substr(0, name_.find('@')) == base;
}

property device_node::find(std::string_view wanted) const noexcept {
  auto offset = body_;
  while (tree_ != nullptr) {
    auto const kind = tree_->token(offset);
    if (kind == nop) {
      offset += 4;
      continue;
    }
    // A node's properties come before its children.
    if (kind != property_token) break;
    std::string_view name;
    property value;
    offset = tree_->read_property(offset, name, value);
    if (name == wanted) return value;
  }
  return {};
}

bool device_node::is_enabled() const noexcept {
  auto const status = find("status");
  return !status || status.text() == "okay" || status.text() == "ok";
}

address_range device_node::range(std::size_t index) const noexcept {
  auto const reg = find("reg");
  auto const first = index * (address_cells_ + size_cells_);
  if (first + address_cells_ + size_cells_ > reg.cells()) return {};
  return {reg.number(first, address_cells_),
          reg.number(first + address_cells_, size_cells_)};
}

device_tree::device_tree(void const* blob) noexcept {
  auto const* const bytes = static_cast<unsigned char const*>(blob);
  if (bytes == nullptr || big_endian(bytes) != magic) return;
  auto const total = big_endian(bytes + 4);
  auto const structure = big_endian(bytes + 8);
  auto const strings = big_endian(bytes + 12);
  auto const strings_bytes = big_endian(bytes + 32);
  auto const structure_bytes = big_endian(bytes + 36);
  auto const lies_inside = [&](std::uint64_t offset, std::uint64_t size) {
    return offset >= header_bytes && offset + size <= total;
  };
  if (!lies_inside(structure, structure_bytes) ||
      !lies_inside(strings, strings_bytes)) {
    return;
  }
  structure_ = bytes + structure;
  structure_bytes_ = structure_bytes;
  strings_ = bytes + strings;
  strings_bytes_ = strings_bytes;
  bytes_ = total;
}

device_node device_tree::find_compatible(std::string_view with) const noexcept {
  device_node found;
  for_each_node([&](device_node const& node) {
    if (!node.is_compatible(with) || !node.is_enabled()) return true;
    found = node;
    return false;
  });
  return found;
}

device_node device_tree::find_named(std::string_view base) const noexcept {
  device_node found;
  for_each_node([&](device_node const& node) {
    if (!node.is_named(base) || !node.is_enabled()) return true;
    found = node;
    return false;
  });
  return found;
}

bool device_tree::next(cursor& at, device_node& node) const noexcept {
  for (;;) {
    std::string_view name;
    property value;
    switch (token(at.offset)) {
      case nop:
        at.offset += 4;
        break;
      case end_node:
        if (at.depth == 0) return false;
        --at.depth;
        at.offset += 4;
        break;
      case property_token:
        at.offset = read_property(at.offset, name, value);
        if (name == "#address-cells")
          at.address_cells[at.depth] = value.cell(0);
        if (name == "#size-cells") at.size_cells[at.depth] = value.cell(0);
        break;
      case begin_node: {
        if (at.depth == max_depth) return false;
        node.tree_ = this;
        node.name_ = text_at(structure_, structure_bytes_, at.offset + 4);
        node.depth_ = at.depth;
        node.address_cells_ = at.address_cells[at.depth];
        node.size_cells_ = at.size_cells[at.depth];
        at.offset = align(at.offset + 4 + node.name_.size() + 1);
        node.body_ = at.offset;
        ++at.depth;
        at.address_cells[at.depth] = 2;  // the specification's defaults
        at.size_cells[at.depth] = 1;
        return true;
      }
      default:
        return false;
    }
  }
}

std::uint32_t device_tree::token(std::size_t offset) const noexcept {
  return offset + 4 <= structure_bytes_ ? big_endian(structure_ + offset) : end;
}

std::string_view device_tree::text_at(unsigned char const* area,
                                      std::size_t area_bytes,
                                      std::size_t offset) const noexcept {
  if (offset >= area_bytes) return {};
  std::string_view const rest(reinterpret_cast<char const*>(area + offset),
                              area_bytes - offset);
  return rest.substr(0, rest.find('\0'));
}

std::size_t device_tree::read_property(std::size_t offset,
                                       std::string_view& name,
                                       property& value) const noexcept {
  auto const size = token(offset + 4);
  auto const data = offset + 12;
  if (data > structure_bytes_ || size > structure_bytes_ - data) {
    return structure_bytes_;
  }
  name = text_at(strings_, strings_bytes_, token(offset + 8));
  value = property(std::span(structure_ + data, size));
  return align(data + size);
}

void describe(device_tree const& tree, machine_description& machine) {
  auto const first = reinterpret_cast<u64>(kernel_begin);
  auto const behind = reinterpret_cast<u64>(kernel_end);
  tree.for_each_node([&](device_node const& node) {
    if (node.find("device_type").text() != "memory" || !node.is_enabled()) {
      return true;
    }
    for (std::size_t i = 0; node.range(i).bytes != 0; ++i) {
      if (machine.memory_count == std::size(machine.memory)) return false;
      auto const all = node.range(i);
      auto range = machine_description::range{
          all.base, std::min(all.base + all.bytes, mapped_end)};
      if (range.begin >= range.end) continue;
      if (range.begin <= first && behind < range.end) range.begin = behind;
      machine.memory[machine.memory_count++] = range;
    }
    return true;
  });
  if (machine.memory_count == 0) panic("no device tree, no memory");
  auto const words = tree.find_named("chosen").find("bootargs").text();
  words.copy(machine.command_line, sizeof machine.command_line - 1);
}

}  // namespace kernel
