#!/usr/bin/env bash
# SPDX-License-Identifier: BSL-1.0
# tools/image_benchmarks.sh ARCH [NAME...]: runs bench/NAME_benchmark.cpp on the
# bare-metal image and leaves what stands between the marker lines in
# build/image/ARCH/NAME_benchmark.json: Google Benchmark's JSON, for its
# compare.py.  The status is 1 if a file lacks anything that is read there.
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/.."
# shellcheck source=tools/common.sh
. tools/common.sh

[[ $# -gt 0 ]] || die "usage: tools/image_benchmarks.sh ARCH [NAME...]"
arch=$1
shift
if [[ $# -eq 0 ]]; then
  for source in bench/*_benchmark.cpp; do
    set -- "$@" "$(basename "$source" _benchmark.cpp)"
  done
fi
out=build/image/$arch
for name in "$@"; do
  json=$out/${name}_benchmark.json
  tools/image.sh "$arch" --run "${name}_benchmark" --cpus 2 --timeout 600 \
    >"$out/${name}_benchmark.log" 2>&1 ||
    die "${name}_benchmark failed; see $out/${name}_benchmark.log"
  tr -d '\r' <"$out/${name}_benchmark.log" |
    sed -n '/^=== benchmark results/,/^=== end of benchmark results/p' |
    sed '1d;$d' >"$json"
  python3 - "$json" <<'END'
import json, sys

results = json.load(open(sys.argv[1]))
assert results["context"]["num_cpus"] > 0
assert results["benchmarks"]
for each in results["benchmarks"]:
    assert each["run_type"] == "iteration" and each["time_unit"] == "ns", each
    for key in ("iterations", "real_time", "cpu_time"):
        assert each[key] > 0, each
    print(f'{each["name"]}: {each["real_time"]:.0f} ns')
END
  echo "ok $arch ${name}_benchmark: $json"
done
