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
  local name=$1 image headers parts release package
  set -e
  say "fetch kernel $name"
  refresh_package_lists
  image=$(depends_of "$2" | grep '^linux-image-' | head -n 1)
  headers=$(depends_of "$3" | grep '^linux-headers-' | head -n 1)
  release=${headers#linux-headers-}
  mapfile -t parts < <(
    depends_of "$headers" | grep -E '^linux-(headers|kbuild|compiler)-'
  )
  rm -rf "$kernel_root" "$kernel_root.packages"
  mkdir -p "$kernel_root" "$kernel_root.packages"
  (cd "$kernel_root.packages" &&
    apt-get download "$image" "$headers" "${parts[@]}")
  for package in "$kernel_root.packages"/*.deb; do
    dpkg-deb -x "$package" "$kernel_root"
  done
  rm -rf "$kernel_root.packages"
  # The headers name each other by absolute path.
  sed -i "s#\([ =]\)/usr/\(src\|lib\)/#\1$kernel_root/usr/\2/#" \
    "$kernel_root/usr/src/linux-headers-$release/Makefile"
  depmod -b "$kernel_root" "$release"
  echo "$release" >"$kernel_root/complete"
}

# A list that is older than a day names packages that the archive may no longer
# have.
refresh_package_lists() {
  local sudo=()
  if [[ -z $(find /var/lib/apt/lists -name '*Packages*' -mtime -1 -print -quit) ]]
  then
    [[ $(id -u) -eq 0 ]] || sudo=(sudo)
    "${sudo[@]}" apt-get -qq update
  fi
}

# build_module KERNEL [MAKE_ARGUMENT...]: after use_kernel; sets module.  The
# sources are copied, since a kernel's make writes beside them.
build_module() {
  local name=$1 folder=$PWD/build/kmod/$1
  shift
  module=$folder/activations.ko
  mkdir -p "$folder"
  ln -sfn ../../include build/kmod/include
  (
    flock 9
    # Times are kept, so that make builds only what changed.
    cp -pRu kmod/. "$folder/" &&
      make -C "$kernel_build" M="$folder" -j "$jobs" "$@" modules
  ) 9>"$folder.lock"
}
