# shellcheck shell=bash
# SPDX-License-Identifier: BSL-1.0
# Sourced, after tools/common.sh, by what needs a kernel: Debian's images and
# headers unpacked below build/kernels/ (installing an image would run its
# hooks), and the module built for them below build/kmod/.

# shellcheck disable=SC2034
kernels=(6.1 6.12)

kernel_log=build/kernels/fetch.log

# use_kernel NAME: makes it present and sets kernel_root (a tree with /boot and
# /lib/modules), kernel_release, kernel_image and kernel_build (for make -C).
use_kernel() {
  case $1 in
    6.1) use_debian_kernel 6.1 linux-image-amd64 linux-headers-amd64 ;;
    6.12)
      use_debian_kernel 6.12 linux-image-6.12-amd64 linux-headers-6.12-amd64
      ;;
    debug) use_debug_kernel ;;
    *) die "there is no kernel '$1'; there are ${kernels[*]} (and debug)" ;;
  esac
}

# use_debian_kernel NAME IMAGE_METAPACKAGE HEADERS_METAPACKAGE
use_debian_kernel() {
  local name=$1
  kernel_root=$PWD/build/kernels/$name
  if [[ ! -e $kernel_root/complete ]]; then
    mkdir -p build/kernels
    (
      flock 9
      [[ -e $kernel_root/complete ]] ||
        fetch_debian_kernel "$@" >"$kernel_log" 2>&1
    ) 9>"build/kernels/$name.lock" || {
      tail -n 20 "$kernel_log" >&2
      die "could not fetch kernel $name; all of it is in $kernel_log"
    }
  fi
  kernel_release=$(<"$kernel_root/complete")
  kernel_image=$kernel_root/boot/vmlinuz-$kernel_release
  kernel_build=$kernel_root/usr/src/linux-headers-$kernel_release
}

depends_of() {
  apt-cache depends --important "$1" | sed -nE 's/^ *Depends: ([^<]+)$/\1/p'
}

# fetch_debian_kernel NAME IMAGE_METAPACKAGE HEADERS_METAPACKAGE: what the
# metapackages name is the newest of that series.
fetch_debian_kernel() {
  local image headers parts release
  say "fetch kernel $1"
  refresh_package_lists || return
  image=$(depends_of "$2" | grep -m 1 '^linux-image-') &&
    headers=$(depends_of "$3" | grep -m 1 '^linux-headers-') || return
  release=${headers#linux-headers-}
  mapfile -t parts < <(
    depends_of "$headers" | grep -E '^linux-(headers|kbuild|compiler)-'
  )
  rm -rf "$kernel_root" "$kernel_root.packages"
  mkdir -p "$kernel_root" &&
    unpack_packages "$kernel_root" "$image" "$headers" "${parts[@]}" || return
  # The headers name each other by absolute path.  The kernel for type
  # information would make pahole necessary.
  sed -i "s#\([ =]\)/usr/\(src\|lib\)/#\1$kernel_root/usr/\2/#" \
    "$kernel_root/usr/src/linux-headers-$release/Makefile" &&
    rm -f "$kernel_root/usr/src/linux-headers-$release/vmlinux" &&
    /sbin/depmod -b "$kernel_root" "$release" &&
    echo "$release" >"$kernel_root/complete"
}

# unpack_packages FOLDER PACKAGE...
unpack_packages() {
  local folder=$1 packages=$1.packages package
  shift
  mkdir -p "$packages" && (cd "$packages" && apt-get download "$@") || return
  for package in "$packages"/*.deb; do
    dpkg-deb -x "$package" "$folder" || return
  done
  rm -rf "$packages"
}

# Lists that are older than a day name packages that the archive may no longer
# have.
refresh_package_lists() {
  local sudo=() lists=/var/lib/apt/lists
  if [[ -z $(find "$lists" -name '*Packages*' -print -quit) ||
    -z $(find "$lists" -maxdepth 0 -mtime -1) ]]; then
    [[ $(id -u) -eq 0 ]] || sudo=(sudo)
    "${sudo[@]}" apt-get -qq update
  fi
}

# build_module FOLDER [MAKE_ARGUMENT...]: after use_kernel; makes
# build/kmod/FOLDER/activations.ko.  The sources are copied, since a kernel's
# make writes beside them.
build_module() {
  local folder=$PWD/build/kmod/$1
  shift
  mkdir -p "$folder"
  ln -sfn ../../include build/kmod/include
  (
    flock 9
    # Times are kept, so that make builds only what changed.
    cp -pRu kmod/. "$folder/" &&
      make -C "$kernel_build" M="$folder" -j "${jobs:?}" "$@" modules
  ) 9>"$folder.lock"
}

# build_module_strictly KERNEL: from nothing, with sparse; fails on a warning.
build_module_strictly() {
  use_kernel "$1"
  rm -rf "build/kmod/$1-strict"
  build_module "$1-strict" W=1 C=2 2>&1 | tee "build/kmod/$1-strict.log"
  [[ ${PIPESTATUS[0]} -eq 0 ]] || return 1
  ! grep -E 'warning:|error:' "build/kmod/$1-strict.log"
}

# refuses_kernel_without KERNEL OPTION: the module's build ends with an error
# that names the option.
refuses_kernel_without() {
  local folder=$1-without output
  use_kernel "$1"
  rm -rf "build/kmod/$folder"
  mkdir -p "build/kmod"
  echo "#undef $2" >"build/kmod/without-$2.h"
  ! output=$(build_module "$folder" \
    "KCFLAGS=-include $PWD/build/kmod/without-$2.h" 2>&1) || return 1
  grep -E "error:.*$2" <<<"$output"
}
