#!/usr/bin/env bash
# SPDX-License-Identifier: BSL-1.0
# The front door.  Each verb installs what it needs, builds under build/ and
# runs; a second run finds everything in place.
set -euo pipefail
cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")"
# shellcheck source=tools/common.sh
. tools/common.sh

usage() {
  cat <<'END'
usage: ./do VERB [ARGUMENT...]

  demo    serve blocking code three ways and print the comparison (20 s)
  check   build everything, run every test; check STAGE... runs some stages
  build   build tests, examples and benchmarks; build PRESET for another preset
  vm      run a command or the module's suite in a virtual machine; vm --help
  vm-debug the same on a kernel full of checks (builds it once: 30 min, 4 GB)
  vm-soak N boots of 6.12, 4 CPUs, preempt=full, until one fails; resumable
  image   build the bare-metal image and run it in QEMU; image --help
  image-stress all tests of the image, also the long ones: an hour a target
  bench   build and run the benchmarks; arguments go to Google Benchmark
  fmt     format the sources in place
  lint    check format, licences and the rules of the style
  asan    run the unit tests under AddressSanitizer
  tsan    run the unit tests under ThreadSanitizer
  ubsan   run the unit tests under UndefinedBehaviorSanitizer
  clean   remove build/
END
}

demo() {
  need "${packages_build[@]}"
  build_quietly release http_service_demo
  exec build/release/examples/http_service/http_service_demo "$@"
}

build() {
  need "${packages_build[@]}" "${packages_clang[@]}"
  build_preset "${1:-release}"
}

bench() {
  need "${packages_build[@]}"
  build_preset release
  local program found=
  for program in build/release/bench/*_benchmark; do
    [[ -x $program ]] || continue
    found=yes
    say "${program##*/}"
    "$program" "$@"
  done
  [[ $found ]] || die "bench/ has no *_benchmark.cpp yet."
}

sanitizer() {
  need "${packages_build[@]}" "${packages_clang[@]}"
  build_preset "$1" unit_tests
  ctest --preset "$1" -j "$jobs" "${@:2}"
}

fmt() {
  need "${packages_format[@]}"
  list_formatted_files | xargs -r -d '\n' clang-format-14 -i
}

verb=${1:-}
[[ $# -eq 0 ]] || shift
case $verb in
  '' | help | -h | --help) usage ;;
  demo | build | bench | fmt) "$verb" "$@" ;;
  asan | tsan | ubsan) sanitizer "$verb" "$@" ;;
  image) exec tools/image.sh "$@" ;;
  image-stress) exec tools/image_boots.sh full "$@" ;;
  vm) exec tools/vm/run.sh "$@" ;;
  vm-debug) exec tools/vm/run.sh --kernel debug "$@" ;;
  vm-soak) exec tools/vm/soak.sh "$@" ;;
  check)
    need "${packages_build[@]}" "${packages_clang[@]}" \
      "${packages_format[@]}" "${packages_check[@]}" "${packages_vm[@]}" \
      "${packages_image[@]}"
    exec tools/check.sh "$@"
    ;;
  lint)
    need "${packages_format[@]}"
    exec tools/lint.sh
    ;;
  clean) rm -rf build ;;
  *)
    echo "./do has no verb '$verb'; ./do alone lists its verbs." >&2
    exit 2
    ;;
esac
