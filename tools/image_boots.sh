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
# `./do image $target OPTION...` ends with that status (0; bad: any other,
# but no panic of the kernel) and each TEXT is on its console.
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
  tools/image.sh "$target" --timeout 180 "${options[@]}" >"$log" 2>&1 ||
    status=$?
  echo "== status $status, wanted $wanted" >>"$log"
  for text in "${texts[@]}"; do
    grep -qF -- "$text" "$log" && continue
    echo "== it does not say: $text" >>"$log"
    wanted=no
  done
  if [[ $wanted == bad && $status -ne 0 && $status -ne 124 ]] &&
    ! grep -q 'kernel panic' "$log"; then
    wanted=$status
  fi
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

# The same OPTION... twice: passes if both print the same lines of results,
# which hold the digest of all places where a thread was stopped.
repeats() {
  local name=$1 i log results=()
  shift
  for i in 1 2; do
    log=$(log_of "$name $i")
    mkdir -p "${log%/*}"
    tools/image.sh "$target" --timeout 180 "$@" >"$log" 2>&1 || true
    results+=("$(grep '^core .*digest' "$log")")
  done
  echo "== the first run: ${results[0]}" >>"$log"
  [[ -n ${results[0]} && ${results[0]} == "${results[1]}" ]]
  test_line $? "$target: $name" "$log"
}

# Time is the number of instructions, also while a core sleeps. With two cores
# OpenSBI sleeps for ever so.
exactly='-icount shift=3,sleep=off -rtc base=2000-01-01,clock=vm'
# Makes each run the same, and lets an interrupt come at each instruction.
each_instruction='-singlestep -icount shift=3'

short_boots() {
  local cpus
  boot "two programs on 2 cores" --run hello,01_hello --cpus 2 \
    --says 'hello from user mode' --says '01_hello ended with status 0'
  boot "hostile code harms no other space" --run hello,contained --cpus 2 \
    --says '7 attempts, 0 failures' --says 'hello ended with status 0'
  boot "a stack that is left names its thread" --status bad \
    --run overflow,hello --says 'stack overflow in user thread' \
    --says '(deep): its stack of' --says 'hello ended with status 0'
  boot "a wild store names its thread" --status bad --run overflow \
    --arguments wild --says '(deep), dispatcher 1: a fault nobody handles: address 18'
  boot "a fault while disabled names its thread, too" --status bad \
    --run overflow,hello --arguments disabled \
    --says 'a fault while disabled at 0x18' \
    --says '(deep), dispatcher 1: a fault nobody handles: address 18' \
    --says 'hello ended with status 0'
  boot "a space that cannot say so ends, too" --status bad \
    --run overflow,hello --arguments speechless \
    --says 'a fault while disabled at 0x18' \
    --says 'overflow ended with status 128' --says 'hello ended with status 0'
  boot "a program that is not there is refused" --status 2 \
    --run hello,nonsense --says "no program 'nonsense'"
  boot "a fault in the kernel ends in a panic" --status 255 \
    --run hello --cpus 2 --arguments panic=fault \
    --says 'kernel panic on core 1' --says 'back-trace: 0x'
  boot "channels of two spaces lose nothing" --run channel,channel --cpus 2
  boot "wild calls harm no other space" --run fuzz,fuzz --cpus 2 \
    --arguments 'memory=24 calls=2000'
  boot "two spaces share the cores" --run two_jobs,two_jobs --cpus 2 \
    --says 'worker: gained' --says 'sleeper: gained'
  boot "a driver in user space, a thread for each line" --run echo --cpus 2 \
    --arguments sum=1204 --input 'one\ntwo\nthree\nend\n'
  # In instructions; 6,408 to 7,400 were seen.
  boot "long calls put no timer off for long" --run long_calls \
    --arguments latency=20000 --qemu '-icount shift=0'
  boot "the end of a space puts no timer off for long" \
    --run long_calls,long_calls --arguments 'end latency=20000' \
    --qemu '-icount shift=0,sleep=off'
  boot "a bound below what they take fails" --status 1 --run long_calls \
    --arguments latency=1000 --qemu '-icount shift=0'
  command_of "the suite and the examples print what they do on Linux" \
    tools/image_conformance.sh "$target"
  command_of "benchmarks end in Google Benchmark's JSON" \
    tools/image_benchmarks.sh "$target" switch
  for cpus in 1 2; do
    boot "registers survive interruptions, $cpus cores" --cpus "$cpus" \
      --run interrupt_stress --arguments 'upcalls=5000 rate=5000'
  done
  [[ $target == riscv64 ]] ||
    boot "registers survive, resumed by the kernel or iretq" \
      --run interrupt_stress --arguments 'upcalls=2000 rate=5000 way=3'
  boot "registers survive interruptions at each instruction" \
    --run interrupt_stress --arguments 'upcalls=1000 rate=5000' \
    --qemu "$each_instruction"
  boot "without the resume range they do not" --status bad \
    --run interrupt_stress --arguments 'upcalls=100000 rate=5000 control=1' \
    --qemu "$each_instruction"
  cpus=2
  [[ $target != riscv64 ]] || cpus=1
  repeats "interruptions come at the same instructions twice" --cpus "$cpus" \
    --run interrupt_stress --arguments 'upcalls=5000 rate=10000' \
    --qemu "$exactly"
  boot "counted instructions find a missing range, too" --status bad \
    --run interrupt_stress --arguments 'upcalls=100000 rate=10000 control=1' \
    --qemu "$exactly"
  [[ $target == x86_64 ]] || return 0
  command_of "each public header compiles freestanding" tools/image_headers.sh
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
  for cpus in 1 2; do
    boot "100000 upcalls at each instruction, $cpus cores" --timeout 3600 \
      --cpus "$cpus" --run interrupt_stress \
      --arguments 'upcalls=100000 rate=10000' --qemu -singlestep
  done
  boot "without the range upcalls at each instruction fail" --status bad \
    --timeout 3600 --run interrupt_stress \
    --arguments 'upcalls=100000 rate=10000 control=1' --qemu -singlestep
  cpus=2
  [[ $target != riscv64 ]] || cpus=1
  repeats "100000 upcalls come at the same instructions twice" --cpus "$cpus" \
    --run interrupt_stress --arguments 'upcalls=100000 rate=10000' \
    --qemu "$exactly"
  command_of "all benchmarks end in JSON" tools/image_benchmarks.sh "$target"
  [[ $target == x86_64 ]] || return 0
  # QEMU without KVM has neither.
  boot "x2APIC and TSC deadline, in Bochs" --bochs --cpus 2 \
    --run interrupt_stress --arguments 'upcalls=5000 rate=1000' \
    --says 'machine: x2APIC, TSC deadline'
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
