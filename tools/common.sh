# shellcheck shell=bash
# SPDX-License-Identifier: BSL-1.0
# Sourced by ./do and the scripts beside this one, from the top folder.

# Every Debian package that anything here needs, by what needs it.
# shellcheck disable=SC2034  # used by the scripts that source this file
packages_build=(
  cmake g++-12 libbenchmark-dev libcli11-dev libcpp-httplib-dev libgtest-dev
  liblmdb-dev libsqlite3-dev ninja-build nlohmann-json3-dev pkg-config python3
)
# shellcheck disable=SC2034
packages_clang=(clang-19 libclang-rt-19-dev lld-19)
# shellcheck disable=SC2034
packages_format=(clang-format-14 git python3 shellcheck)
# shellcheck disable=SC2034
packages_check=(
  clang-14 g++-12-aarch64-linux-gnu g++-12-riscv64-linux-gnu qemu-user
  valgrind
)
# Kernels and their headers are unpacked below build/, not installed; the
# libraries are what the headers' tools need.
# shellcheck disable=SC2034
packages_vm=(
  busybox-static cpio kmod libelf1 libssl3 make qemu-system-x86 sparse xz-utils
)
# What runtime/arch/*/target.sh asks for when it is needed, at once.
# shellcheck disable=SC2034
packages_image=(
  grub-common grub-efi-amd64-bin grub-pc-bin mtools ovmf
  qemu-system-arm qemu-system-misc qemu-system-x86 xorriso
)
# shellcheck disable=SC2034
packages_vm_debug=(bc bison flex libelf-dev rsync)

jobs=${ACTIVATIONS_JOBS:-$(nproc)}

say() { printf '== %s\n' "$*"; }

die() {
  printf './do: %s\n' "$*" >&2
  exit 1
}

# need PACKAGE...: installs those that are missing.
need() {
  local package status sudo=() missing=()
  if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
    die "this system has no apt; install what Debian calls $*, then use cmake --preset release."
  fi
  for package in "$@"; do
    status=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null) ||
      status=absent
    [[ $status == installed ]] || missing+=("$package")
  done
  [[ ${#missing[@]} -gt 0 ]] || return 0

  if [[ $(id -u) -ne 0 ]]; then
    command -v sudo >/dev/null ||
      die "neither root nor sudo: ask an administrator for apt-get install ${missing[*]}"
    sudo=(sudo)
  fi
  say "install ${missing[*]}"
  local log
  log=$(mktemp)
  if ! "${sudo[@]}" apt-get -qq update >"$log" 2>&1 ||
    ! "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq install -y \
      --no-install-recommends "${missing[@]}" >>"$log" 2>&1; then
    tail -n 20 "$log" >&2
    rm -f "$log"
    die "could not install ${missing[*]}${sudo:+ with sudo}; an administrator can: apt-get install ${missing[*]}"
  fi
  rm -f "$log"
  mkdir -p build
  touch build/.packages
}

# configure PRESET: only where the last configuration is no longer valid;
# Ninja itself sees to changed CMakeLists.txt files.
configure() {
  local made=build/$1/build.ninja
  if [[ ! -e $made || CMakePresets.json -nt $made ||
    build/.packages -nt $made ]]; then
    cmake --preset "$1"
  fi
}

# build_preset PRESET [TARGET]
build_preset() {
  configure "$1"
  cmake --build "build/$1" -j "$jobs" ${2:+--target "$2"}
}

# build_quietly PRESET [TARGET]: shows the compiler's words only if it fails.
build_quietly() {
  local log
  mkdir -p build
  log=build/$1.log
  say "build $* (log: $log)"
  if ! build_preset "$@" >"$log" 2>&1; then
    tail -n 40 "$log" >&2
    die "the build failed; all of it is in $log"
  fi
}

# list_files PATTERN...: the project's own files, also those not yet added;
# a * of a pattern crosses folders.
list_files() {
  local file pattern
  { git ls-files -co --exclude-standard 2>/dev/null ||
    find . -path ./build -prune -o -path ./.git -prune -o -type f -printf '%P\n'
  } | while IFS= read -r file; do
    for pattern in "$@"; do
      # shellcheck disable=SC2053  # a pattern, so not quoted
      if [[ $file == $pattern && -f $file ]]; then
        printf '%s\n' "$file"
        break
      fi
    done
  done
}

# kmod/ is written in the kernel's style.
list_formatted_files() {
  list_files '*.hpp' '*.cpp' '*.h' '*.c' | grep -v '^kmod/' | sort -u
}
