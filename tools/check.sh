#!/usr/bin/env bash
# SPDX-License-Identifier: BSL-1.0
# ./do check: runs the stages, prints the time of each, and ends with
# "N passed, N failed, N skipped" over all of them.  A build or a rule counts
# as one test.  Logs and results stay in build/check.
set -uo pipefail
cd "$(dirname "$(readlink -f "$0")")/.." || exit
# shellcheck source=tools/common.sh
. tools/common.sh
# shellcheck source=tools/vm/kernel.sh
. tools/vm/kernel.sh

all_stages=(lint release clang19 clang14 asan-ubsan tsan image kernel)
out=build/check
# One line a test: pass, fail or skip; name; for a skip its reason.
results=$out/results.tsv

describe_stage() {
  case $1 in
    lint) echo "format, licences, rules of the style" ;;
    release) echo "g++ 12: all tests, examples, consumers, other machines" ;;
    clang19) echo "clang 19: unit tests with assertions" ;;
    clang14) echo "clang 14: headers and examples" ;;
    asan-ubsan) echo "AddressSanitizer and UndefinedBehaviorSanitizer" ;;
    image) echo "the bare-metal image boots and runs on three targets" ;;
    kernel) echo "the module on Debian's 6.1 and 6.12, in virtual machines" ;;
    tsan) echo "ThreadSanitizer" ;;
  esac
}

# step NAME COMMAND...: one test that passes when the command does.
step() {
  local name=$1 log
  shift
  log=$out/${name//[^a-z0-9]/-}.log
  if "$@" >"$log" 2>&1; then
    printf 'pass\t%s\n' "$name" >>"$results"
  else
    printf 'fail\t%s\n' "$name" >>"$results"
    printf -- '-- FAILED %s (all of it in %s)\n' "$name" "$log"
    grep -E 'error:|FAILED:|CMake Error' "$log" | head -n 20
    tail -n 20 "$log"
  fi
}

# run_tests PRESET CTEST_ARGUMENT...
run_tests() {
  local preset=$1 junit
  shift
  junit=$PWD/$out/$preset.xml
  rm -f "$junit"
  ctest --preset "$preset" -j "$jobs" --output-junit "$junit" "$@" \
    >"$out/$preset-tests.log" 2>&1
  python3 tools/ctest_results.py "$preset" "$junit" "$results"
}

# build_on PRESET TARGET: goes on after an error, so that the rest is tested.
build_on() {
  configure "$1" &&
    cmake --build "build/$1" -j "$jobs" --target "$2" -- -k 0
}

verify_headers() {
  build_preset "$1" all_verify_interface_header_sets
}

# The scripts' lines "ok NAME", "FAILED NAME" are results, the rest is shown.
take_lines() {
  local stage=$1 line
  while IFS= read -r line; do
    case $line in
      'ok '*) printf 'pass\t%s: %s\n' "$stage" "${line#ok }" >>"$results" ;;
      'FAILED '*)
        printf 'fail\t%s: %s\n' "$stage" "${line#FAILED }" >>"$results"
        printf -- '-- %s\n' "$line"
        ;;
      *) printf ' %s\n' "$line" ;;
    esac
  done
}

stage_lint() { take_lines lint < <(tools/lint.sh); }

# Each boot a test; tools/image_boots.sh lists them.
stage_image() {
  take_lines image < <(tools/image_boots.sh short 2>&1)
  wait $! || grep -q $'^fail\timage: ' "$results" ||
    printf 'fail\timage: the boots run\n' >>"$results"
}

stage_release() {
  step "release: build" build_on release all
  step "release: each header alone" verify_headers release
  run_tests release
}

stage_clang14() {
  step "clang14: build" build_on clang14 all
  step "clang14: each header alone" verify_headers clang14
  run_tests clang14 -R 'example\.01_hello'
}

unit_tests_of() {
  step "$1: build" build_on "$1" unit_tests
  run_tests "$1"
}

stage_clang19() { unit_tests_of clang19; }
stage_asan-ubsan() { unit_tests_of asan-ubsan; }
stage_tsan() { unit_tests_of tsan; }

# Options that this kernel must have; without one the module must not build.
needed_options=(CONFIG_PREEMPT_NOTIFIERS CONFIG_USER_RETURN_NOTIFIER)

# vm NAME OPTION...: the suites of one boot; their results go to the rest.
vm() {
  local name=$1 start=$SECONDS lines=$out/vm.tsv
  local log="$out/${1//[^a-z0-9]/-}.log"
  shift
  rm -f "$lines"
  ACTIVATIONS_VM_RESULTS=$lines tools/vm/run.sh "$@" >"$log" 2>&1
  local status=$?
  if [[ ! -s $lines ]] ||
    { [[ $status -ne 0 ]] && ! grep -q '^fail' "$lines"; }; then
    printf 'fail\tthe machine runs (status %d)\n' "$status" >>"$lines"
  fi
  # Name without the milliseconds, reason.
  awk -F '\t' -v OFS='\t' -v name="$name" \
    '{ print $1, name ": " $2 ($4 == "" ? "" : OFS $4) }' "$lines" >>"$results"
  if grep -q '^fail' "$lines"; then
    printf -- '-- FAILED %s (all of it in %s)\n' "$name" "$log"
    grep '^fail' "$lines" | head -n 8
    tail -n 40 "$log"
  fi
  printf '   %s took %ds\n' "$name" $((SECONDS - start))
}

stage_kernel() {
  local kernel option
  for kernel in "${kernels[@]}"; do
    step "kernel $kernel: the module builds, W=1 and sparse, without a warning" \
      build_module_strictly "$kernel"
  done
  for option in "${needed_options[@]}"; do
    step "kernel 6.12: a build without $option ends in one sentence" \
      refuses_kernel_without 6.12 "$option"
  done
  # On 6.1 most of the runtime's tests are for the portable backend: Debian's
  # own kernel, not this machine's.
  local short=(--env ACTIVATIONS_SECONDS=0.5)
  vm "kernel 6.1, 2 CPUs" --kernel 6.1 "${short[@]}" \
    --suite module --suite backend --suite portable
  vm "kernel 6.12, 2 CPUs" "${short[@]}" \
    --suite module --suite kernel --suite demo
  vm "kernel 6.12, 4 CPUs, preempt=full" --cpus 4 --preempt full \
    "${short[@]}" --suite module --suite kernel
}

count() { grep -c "^$1" "$results"; }

mkdir -p "$out"
: >"$results"
[[ $# -gt 0 ]] || set -- "${all_stages[@]}"
for stage in "$@"; do
  [[ " ${all_stages[*]} " == *" $stage "* ]] ||
    die "check has no stage '$stage'; its stages: ${all_stages[*]}"
done
for stage in "$@"; do
  say "$stage: $(describe_stage "$stage")"
  start=$SECONDS
  "stage_$stage"
  took=$((SECONDS - start))
  printf '   %s took %dm%02ds\n' "$stage" $((took / 60)) $((took % 60))
done

say "all stages took $((SECONDS / 60))m$((SECONDS % 60))s"
grep '^skip' "$results" | while IFS=$'\t' read -r _ name reason; do
  printf 'skipped: %s: %s\n' "$name" "$reason"
done
grep '^fail' "$results" | cut -f 2 | sed 's/^/failed: /'
printf '%d passed, %d failed, %d skipped\n' \
  "$(count pass)" "$(count fail)" "$(count skip)"
[[ $(count pass) -gt 0 && $(count fail) -eq 0 ]]
