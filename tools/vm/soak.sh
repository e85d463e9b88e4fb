#!/usr/bin/env bash
# SPDX-License-Identifier: BSL-1.0
# ./do vm-soak N [--minutes M] [OPTION of ./do vm...]: boots 6.12 with
# preempt=full and 4 CPUs until N boots of this very module and these tests have
# passed, counting those of earlier calls; stops at the first that fails, and
# begins no boot after M minutes.  Without options each boot runs the tests that
# load, unload, stop and kill most, for a short time.
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/../.." || exit
# shellcheck source=tools/common.sh
. tools/common.sh

wanted=${1:-}
[[ $wanted =~ ^[1-9][0-9]*$ ]] || die "vm-soak wants the number of boots"
shift
minutes=0
if [[ ${1:-} == --minutes ]]; then
  minutes=${2:?}
  shift 2
fi
hard='^(Conservation|Hostility|Preemption\.Kicks|Windows\.AD|Module\.Un|In/Lifecycle\.Sigk)'
[[ $# -gt 0 ]] ||
  set -- --suite module --match "$hard" --env ACTIVATIONS_SECONDS=0.3
options=(--kernel 6.12 --cpus 4 --preempt full "$@")

# One boot that builds, then the same files again and again.
tools/vm/run.sh "${options[@]}" --build-only
sum=$({
  echo "${options[@]}"
  cat build/kmod/6.12/activations.ko build/release/tests/kernel/kernel_tests
} 2>/dev/null | sha256sum | cut -c 1-12)
series=build/vm/soak-$sum.tsv
touch "$series"
while passed=$(grep -c '^pass' "$series"); [[ $passed -lt $wanted ]]; do
  if [[ $minutes -gt 0 && $SECONDS -ge $((minutes * 60)) ]]; then
    say "$passed of $wanted boots passed; the rest at the next call"
    exit 0
  fi
  start=$SECONDS
  log=build/vm/soak-$sum.log
  if tools/vm/run.sh "${options[@]}" --no-build >"$log" 2>&1; then
    word=pass
  else
    word=fail
  fi
  printf '%s\t%d s\t%s\n' "$word" $((SECONDS - start)) \
    "$(readlink build/vm/latest)" >>"$series"
  printf '%s boot %d of %d, %d s\n' "$word" $((passed + 1)) "$wanted" \
    $((SECONDS - start))
  if [[ $word == fail ]]; then
    tail -n 60 "$log"
    die "a boot failed after $passed good ones; its console is build/vm/$(readlink build/vm/latest)/console.log"
  fi
done
say "$passed boots passed, none failed: $series"
