#!/bin/sh
# SPDX-License-Identifier: BSL-1.0
# The blocking benchmark three ways in one boot of the virtual machine: on the
# kernel backend, on the portable one, and with 1:1 threads; then the same beside
# one busy process per CPU; then a mutex whose owner is preempted.
#
#   bench/vm_figures.sh [OPTION...]    builds, boots and prints the table; the
#                                      options are those of ./do vm
#
# In the machine (busybox) it takes passes until FIGURES_SECONDS (default 240)
# are over, one at least, and prints the median of each figure. A ratio is the
# median of the passes' own ratios to 1:1.
set -eu
drivers=build/release/bench

if [ -z "${ACTIVATIONS_VM:-}" ]; then
  cd "$(dirname "$0")/.."
  cmake --preset release >/dev/null
  cmake --build build/release --target activations_driver pthread_driver \
    >/dev/null
  exec ./do vm --file $drivers/activations_driver --file $drivers/pthread_driver \
    --env FIGURES_SECONDS="${FIGURES_SECONDS:-240}" "$@" -- sh bench/vm_figures.sh
fi

lines=/tmp/figures
: >$lines
cpus=$(nproc)

# field NAME: of a driver's result line.
field() { sed -n "s/.*\"$1\":\"\{0,1\}\([0-9.a-z]*\).*/\1/p"; }

# take PEER PASS BENCH KIND TASKS ROUNDS
take() {
  peer=$1 pass=$2
  shift 2
  case $peer in
    1:1) driver=pthread_driver ;;
    *) driver=activations_driver ;;
  esac
  result=$(ACTIVATIONS_BACKEND=$peer $drivers/$driver "$1" "$cpus" "$2" "$3" "$4")
  beyond=$(echo "$result" | field runnable)
  echo "$1 $2 $3 $peer $pass $(echo "$result" | field value)" \
    "$(echo "$result" | field p99_us)" \
    "$(echo "$result" | field switches_per_round) ${beyond:--}" >>$lines
}

BENCH_STEPS_PER_US=$($drivers/pthread_driver calibrate "$cpus" | field value)
export BENCH_STEPS_PER_US
ACTIVATIONS_BACKEND=kernel $drivers/activations_driver describe "$cpus"

end=$(($(date +%s) + ${FIGURES_SECONDS:-240}))
pass=0
while [ "$pass" -eq 0 ] || [ "$(date +%s)" -lt $end ]; do
  pass=$((pass + 1))
  for kind in sleep fdread ufault; do
    for peer in kernel portable 1:1; do
      take "$peer" "$pass" block-runnable "$kind" 64 100
      take "$peer" "$pass" block-runnable "$kind" 256 25
      take "$peer" "$pass" block-runnable-hogs "$kind" 64 50
    done
  done
  for peer in kernel portable; do
    ACTIVATIONS_BACKEND=$peer $drivers/activations_driver owner "$cpus" |
      while read -r result; do
        echo "owner - - $peer-$(echo "$result" | field peer) $pass" \
          "$(echo "$result" | field value) - -" \
          "$(echo "$result" | field sections_per_s)" >>$lines
      done
  done
  echo "pass $pass done"
done

# shellcheck disable=SC2016  # awk's
awk -v cpus="$cpus" '
  function median(list, n, a, i, j, t) {
    n = split(list, a, " ")
    for (i = 2; i <= n; i++)
      for (j = i; j > 1 && a[j - 1] + 0 > a[j] + 0; j--) {
        t = a[j]; a[j] = a[j - 1]; a[j - 1] = t
      }
    return n % 2 ? a[(n + 1) / 2] : (a[n / 2] + a[n / 2 + 1]) / 2
  }
  $1 == "owner" { owner[$4] = owner[$4] " " $6; section[$4] = section[$4] " " $9
                  rate["owner", $4, $5] = $6; passes = $5; next }
  {
    job = $1 " " $2 " T=" $3
    if (!(job in seen)) { seen[job] = 1; order[++jobs] = job }
    rate[job, $4, $5] = $6; passes = $5
    value[job, $4] = value[job, $4] " " $6
    slow[job, $4] = slow[job, $4] " " $7
    switches[job, $4] = switches[job, $4] " " $8
    beyond[job, $4] = beyond[job, $4] " " $9 - cpus
  }
  function over(job, peer, base, list, p) {
    list = ""
    for (p = 1; p <= passes; p++)
      list = list " " rate[job, peer, p] / rate[job, base, p]
    return median(list)
  }
  END {
    printf "| medians of %d passes | rounds/s | over 1:1 |", passes
    print " p99, ms | kernel switches a round | runnable beyond processors |"
    print "|---|---|---|---|---|---|"
    for (i = 1; i <= jobs; i++)
      for (k = split("kernel portable 1:1", peer, " "); k > 0; k--) {
        p = peer[4 - k]; j = order[i]; name = j
        sub("block-runnable-hogs", "beside hogs,", name)
        sub("block-runnable ", "", name)
        printf "| %s, %s | %.0f | %.2f | %.1f | %.2f | %.1f |\n", name, p,
          median(value[j, p]), over(j, p, "1:1"), median(slow[j, p]) / 1000,
          median(switches[j, p]), median(beyond[j, p])
      }
    print ""
    print "| preempted owners | rounds/s | of these sections/s | informed over blind |"
    print "|---|---|---|---|"
    for (k = 1; k <= split("kernel portable", peer, " "); k++)
      for (m = 1; m <= split("informed blind", how, " "); m++) {
        p = peer[k] "-" how[m]
        printf "| %s, %s | %.0f | %.0f | %s |\n", peer[k], how[m],
          median(owner[p]), median(section[p]),
          m == 1 ? sprintf("%.2f", over("owner", p, peer[k] "-blind")) : ""
      }
  }' $lines
