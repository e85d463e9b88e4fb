#!/usr/bin/env bash
# SPDX-License-Identifier: BSL-1.0
# tools/image_conformance.sh ARCH [NAME...]: runs the conformance suite and the
# numbered examples on the bare-metal image with two cores, the suite with one,
# too, and holds what they print against what the same sources print on Linux.
# Prints one line for each boot; a difference makes the status 1.
set -uo pipefail
cd "$(dirname "$(readlink -f "$0")")/.." || exit
# shellcheck source=tools/common.sh
. tools/common.sh

[[ $# -gt 0 ]] || die "usage: tools/image_conformance.sh ARCH [NAME...]"
arch=$1
shift
names=("$@")
if [[ ${#names[@]} -eq 0 ]]; then
  for source in tests/conformance/*.cpp; do
    names+=("conformance_$(basename "$source" .cpp)")
  done
  for source in examples/[0-9][0-9]_*.cpp; do
    names+=("$(basename "$source" .cpp)")
  done
fi
out=build/image/$arch/conformance
mkdir -p "$out"

# Where Linux's build of a program is, and what builds it.
linux_program() {
  case $1 in
    conformance_*) echo "build/release/tests/conformance/$1" ;;
    *) echo "build/release/examples/$1" ;;
  esac
}
linux_target() {
  case $1 in
    conformance_*) echo "$1" ;;
    *) echo "example_$1" ;;
  esac
}

# What the machine says is no part of the program's output; times and backends
# differ, and so do the cases that need a hosted system.
only_the_program() {
  tr -d '\r' | awk '/^kernel: / { text = ""; next }
    /^space .* ended with status / { exit }
    /^== image: / { next }
    { text = text $0 "\n" }
    END { printf "%s", text }'
}
comparable() {
  sed -E -e '/^ok hosted: /d' -e '/^[0-9]+ cases, 0 failed$/d' \
    -e 's/took [0-9.]+ s: .*/took T s/'
}

targets=()
for name in "${names[@]}"; do targets+=("$(linux_target "$name")"); done
{ configure release &&
  cmake --build build/release -j "$jobs" --target "${targets[@]}"; } \
  >"$out/linux-build.log" 2>&1 ||
  die "the programs do not build; see $out/linux-build.log"

bad=0
# compare NAME CPUS
compare() {
  local name=$1 cpus=$2 log status=0 printed
  log=$out/$name-$cpus.log
  printed=${log%.log}.image
  tools/image.sh "$arch" --run "$name" --cpus "$cpus" --timeout 120 \
    >"$log" 2>&1 || status=$?
  only_the_program <"$log" | comparable >"$printed"
  if [[ $status -eq 0 && -s $printed ]] &&
    diff "$out/$name.linux" "$printed" >"${log%.log}.diff"; then
    printf 'ok %s %s, cores: %d: as on Linux, lines: %d\n' "$arch" "$name" \
      "$cpus" "$(wc -l <"$printed")"
  else
    printf 'FAILED %s %s, cores: %d: status %d, differences in %s\n' "$arch" \
      "$name" "$cpus" "$status" "${log%.log}.diff"
    head -n 10 "${log%.log}.diff"
    tail -n 5 "$log"
    bad=1
  fi
}

for name in "${names[@]}"; do
  "$(linux_program "$name")" 2>&1 | comparable >"$out/$name.linux"
  compare "$name" 2
  [[ $name != conformance_* ]] || compare "$name" 1
done
exit "$bad"
