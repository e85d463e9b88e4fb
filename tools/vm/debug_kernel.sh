# shellcheck shell=bash
# SPDX-License-Identifier: BSL-1.0
# Sourced, after kernel.sh, for ./do vm-debug: a kernel with every check that
# fits, built once from Debian's source into a cache outside the tree.  Takes
# about half an hour on two cores and 4 GB; goes on where it was interrupted.

debug_cache=${XDG_CACHE_HOME:-$HOME/.cache}/activations

# use_debug_kernel: as use_kernel.
# shellcheck disable=SC2034
use_debug_kernel() {
  local config=tools/vm/debug.config log=$debug_cache/build.log sum
  sum=$(sha256sum "$config" | cut -c 1-12)
  kernel_build=$debug_cache/linux-6.12-debug
  kernel_root=$kernel_build/no-modules
  kernel_image=$kernel_build/arch/x86/boot/bzImage
  mkdir -p "$debug_cache"
  if [[ $(cat "$kernel_build/complete" 2>/dev/null) != "$sum" ]]; then
    need "${packages_vm_debug[@]:?}"
    say "build the debug kernel, once (log: $log)"
    (
      flock 9
      make_debug_kernel "$config" "$sum"
    ) 9>"$debug_cache/lock" >"$log" 2>&1 || {
      tail -n 30 "$log" >&2
      die "the debug kernel does not build; all of it is in $log"
    }
  fi
  kernel_release=$(<"$kernel_build/include/config/kernel.release")
}

# make_debug_kernel CONFIG SUM
make_debug_kernel() {
  local source=$debug_cache/source make=(make -C "$kernel_build" -j "${jobs:?}")
  if [[ ! -e $kernel_build/unpacked ]]; then
    refresh_package_lists || return
    rm -rf "$kernel_build" "$source"
    mkdir -p "$kernel_build" "$source" &&
      unpack_packages "$source" linux-source-6.12 &&
      tar -xJf "$source/usr/src/linux-source-6.12.tar.xz" \
        -C "$kernel_build" --strip-components=1 || return
    rm -rf "$source"
    touch "$kernel_build/unpacked"
  fi
  if [[ $(cat "$kernel_build/configured" 2>/dev/null) != "$2" ]]; then
    "${make[@]}" tinyconfig &&
      "$kernel_build/scripts/kconfig/merge_config.sh" -m -O "$kernel_build" \
        "$kernel_build/.config" "$1" &&
      "${make[@]}" olddefconfig || return
    echo "turned down: $(missing_options "$1")"
    echo "$2" >"$kernel_build/configured"
  fi
  # KVM's modules are configured only for what they select.
  "${make[@]}" bzImage modules_prepare &&
    cp "$kernel_build/vmlinux.symvers" "$kernel_build/Module.symvers" &&
    echo "$2" >"$kernel_build/complete"
}

# Options of the file that the kernel's configuration turned down.
missing_options() {
  grep -E '^CONFIG_' "$1" | grep -vxFf "$kernel_build/.config" | tr '\n' ' '
}
