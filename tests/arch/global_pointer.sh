#!/bin/sh
# SPDX-License-Identifier: BSL-1.0
# global_pointer.sh LD SCRIPT: writes the script by which the riscv64 linker LD
# links static programs, but with __global_pointer$ where resume.S wants it.
# (--defsym would be overridden by the assignment in the default script.)
set -eu
"$1" -m elf64lriscv --verbose -static |
  sed '1,/^=====/d; /^=====/,$d' |
  sed -z 's/__global_pointer\$ = [^;]*;/__global_pointer$ = activations_gp_anchor;/' \
    >"$2.new"
grep -q 'activations_gp_anchor' "$2.new"
mv "$2.new" "$2"
