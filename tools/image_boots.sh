#!/usr/bin/env bash
# SPDX-License-Identifier: BSL-1.0
# The boots of the bare-metal image that count as tests.  `short` is the image
# stage of ./do check, `full` is ./do image-stress.  Prints "ok NAME" or, after
# the end of its console, "FAILED NAME"; the status is 1 if any failed.  The
# consoles stay in build/image/TARGET/boots/.
#
# To add one: a line in short_boots or full_boots.  They run once for each
# target, named by $target.  No boot may depend on how fast the machine is.
# shellcheck disable=SC2317  # the lists are called by name
set -uo pipefail
cd "$(dirname "$(readlink -f "$0")")/.." || exit
# shellcheck source=tools/common.sh
. tools/common.sh

targets=(x86_64 aarch64 riscv64)
failed=0

# test_line STATUS NAME LOG
test_line() {
  if [[ $1 -eq 0 ]]; then
    echo "ok $2"
  else
    failed=1
    tail -n 15 "$3" | tr -cd '[:print:]\n' | sed 's/^/  /'
    echo "FAILED $2 (all of it in $3)"
  fi
}

log_of() { echo "build/image/$target/boots/${1//[^a-zA-Z0-9]/-}.log"; }

# boot NAME [--status N] [--says TEXT]... OPTION...: passes if
# `./do image $target OPTION...` ends with that status (0) and each TEXT is on
# its console.
boot() {
  local name="$target: $1" log status=0 wanted=0 text texts=() options=()
  log=$(log_of "$1")
  shift
  while [[ $# -gt 0 ]]; do
    case $1 in
      --status) wanted=$2; shift ;;
      --says) texts+=("$2"); shift ;;
      *) options+=("$1") ;;
    esac
    shift
  done
  mkdir -p "${log%/*}"
  tools/image.sh "$target" --timeout 600 "${options[@]}" >"$log" 2>&1 ||
    status=$?
  echo "== status $status, wanted $wanted" >>"$log"
  for text in "${texts[@]}"; do
    grep -qF -- "$text" "$log" && continue
    echo "== it does not say: $text" >>"$log"
    wanted=no
  done
  [[ $status == "$wanted" ]]
  test_line $? "$name" "$log"
}

# command_of NAME COMMAND...: passes if the command does.
command_of() {
  local name="$target: $1" log status=0
  log=$(log_of "$1")
  shift
  mkdir -p "${log%/*}"
  "$@" >"$log" 2>&1 || status=$?
  test_line "$status" "$name" "$log"
}

# Makes each run the same, and lets an interrupt come at each instruction.
each_instruction='-singlestep -icount shift=3'

short_boots() {
  boot "two programs on 2 cores" --run hello,01_hello --cpus 2 \
    --says 'hello from user mode' --says '01_hello ended with status 0'
  boot "hostile code harms no other space" --run contained,hello --cpus 2 \
    --says 'hello ended with status 0'
  boot "a program that is not there is refused" --status 2 \
    --run hello,nonsense --says "no program 'nonsense'"
  boot "a fault in the kernel ends in a panic" --status 255 \
    --run hello --cpus 2 --arguments panic=fault \
    --says 'kernel panic on core 1' --says 'back-trace: 0x'
  boot "registers survive interruptions, 2 cores" --cpus 2 \
    --run interrupt_stress --arguments 'upcalls=2000 rate=1000'
  boot "registers survive interruptions at each instruction" \
    --run interrupt_stress --arguments 'upcalls=1000 rate=5000' \
    --qemu "$each_instruction"
  boot "without the resume range they do not" --status 1 \
    --run interrupt_stress --arguments 'upcalls=1000 rate=5000 control=1' \
    --qemu "$each_instruction"
  [[ $target == x86_64 ]] || return 0
  boot "ISO image under SeaBIOS" --iso --run hello --cpus 2 \
    --says 'hello from user mode'
  boot "ISO image as a USB stick under UEFI" --usb --uefi --run hello \
    --cpus 2 --says 'hello from user mode'
}

full_boots() {
  short_boots
  local rate cpus
  for rate in 1000 5000 10000; do
    for cpus in 1 2; do
      boot "100000 upcalls at $rate Hz, $cpus cores" --timeout 3600 \
        --cpus "$cpus" --run interrupt_stress \
        --arguments "upcalls=100000 rate=$rate"
    done
  done
  [[ $target == x86_64 ]] || return 0
  boot "ISO image under UEFI" --iso --uefi --run hello --cpus 2 \
    --says 'hello from user mode'
  boot "ISO image as a USB stick under SeaBIOS" --usb --run hello --cpus 2 \
    --says 'hello from user mode'
}

list=${1:-}
[[ $list == short || $list == full ]] || die "image_boots: short or full?"
shift
[[ $# -gt 0 ]] || set -- "${targets[@]}"
for target in "$@"; do
  [[ -e runtime/arch/$target/target.sh ]] || die "no target '$target'"
done
for target in "$@"; do
  command_of "the image builds" tools/image.sh "$target" --build
  "${list}_boots"
done
exit $failed
