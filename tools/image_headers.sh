#!/usr/bin/env bash
# SPDX-License-Identifier: BSL-1.0
# Each public header, alone, compiles freestanding, without exceptions and
# without RTTI: what the bare-metal image needs.  Two lend processors on Linux
# and are part of hosted programs only.
set -uo pipefail
cd "$(dirname "$(readlink -f "$0")")/.." || exit

hosted_only=' kernel_backend.hpp portable_backend.hpp '
bad=0
for header in include/activations/*.h*; do
  name=${header##*/}
  [[ $hosted_only != *" $name "* ]] || continue
  if g++-12 -std=c++20 -ffreestanding -fno-exceptions -fno-rtti -Wall -Wextra \
    -Werror -I include -fsyntax-only -x c++ - <<<"#include <activations/$name>"
  then
    echo "ok $name"
  else
    echo "FAILED $name"
    bad=1
  fi
done
exit "$bad"
