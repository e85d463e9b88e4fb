#!/usr/bin/env python3
# SPDX-License-Identifier: BSL-1.0
"""Runs the drivers interleaved; prints medians, ratios and the targets.

  bench/run.py --bin BUILD/bench                 every suite
  bench/run.py --bin BUILD/bench micro block     some suites
  bench/run.py --bin BUILD/bench --peer go=PATH  with one more driver
  bench/run.py --report RAW...                   prints earlier runs again

BIN holds activations_driver and pthread_driver. A peer is any executable with
the same command line and result lines; it exits with status 2 for a bench it
has not. Runtimes that stall while a thread blocks need minutes for what takes
a second otherwise, so peers run fewer rounds.

One pass runs every (bench, peer) once, and passes repeat: a slow minute of a
shared machine hits all peers alike. A ratio is the median of the passes' own
ratios. "foreign" is the share of the machine that other processes used: their
load, not the peer's.

BL_FILE   a file of 512 MiB or more on a real disk (dread, fault)
BL_UFFD   for peers whose fault server is a program of its own (ufault)
"""
import argparse
import collections
import json
import os
import statistics
import subprocess
import sys
import time

BASE = "pthread-1:1"
OURS = "activations"
HIGHER = ("M elem/s", "M elem/CPU s", "rounds/s")
ROUNDS = {64: 500, 256: 200, 2000: 25}  # a second or so for 1:1 threads
PEER_ROUNDS = 50


def block(kind, tasks, variants=("",), rounds=None, peers=True):
    return [(["block" + v, "2", kind, str(tasks),
              str(rounds or ROUNDS.get(tasks, 100))], peers)
            for v in variants]


def micro(bench, workers, *n):
    return [([bench, str(workers), *map(str, n)], True)]


# Suite: the command lines of a pass, and whether peers have such a bench.
SUITES = {
    "micro": micro("switch", 1) + micro("spawnjoin", 2) + micro("fib", 1) +
    micro("fib", 2) + micro("mutex", 2) + micro("handoff", 2) +
    micro("channel", 2) + micro("parked", 2),
    "block": block("sleep", 64, ("", "-plain", "-task")) +
    block("sleep", 256, ("", "-plain", "-task")) + block("sleep", 2000) +
    block("ufault", 64) + block("ufault", 256) + block("fdread", 64) +
    block("dread", 64) + block("fault", 64) + block("none", 64),
    "short": block("pipe20", 64, peers=False) +
    block("pmutex", 64, peers=False) + block("pcread", 64, peers=False),
    "coop": block("sleep", 256, ("", "-coop", "-task-coop")),
    "runnable": block("sleep", 64, ("-runnable", "-strict-runnable"),
                      rounds=1500, peers=False) +
    block("sleep", 256, ("-runnable", "-strict-runnable"), rounds=400,
          peers=False),
    "pingpong": [([b, "2", "sleep", "64", "1000"], True) for b in
                 ("pingpong", "pingpong-paced")],
    "hogs": block("sleep", 64, ("-hogs",), peers=False) +
    block("sleep", 256, ("-hogs",), peers=False),
    "memory": [(["memory", "2", "2000", p], False) for p in ("0", "90")],
}


def target(figure, bench, tasks, limit, sign, field="value", peer=OURS,
           versus=BASE, workers="2", scale=1.0, minus=0.0):
    return dict(figure=figure, bench=bench, tasks=tasks, limit=limit,
                sign=sign, field=field, peer=peer, versus=versus,
                workers=workers, scale=scale, minus=minus)


def micro_target(figure, bench, limit, peer=OURS, workers="2", field="cpu_value",
                 sign="<="):
    return target(figure, bench, 0, limit, sign, field, peer, None, workers)


# Every figure that the project promises. Those of one thread are compared as
# value * cpu: without the time lost to other processes.
TARGETS = [
    micro_target("fib as coroutines, ns a fork", "fib", 45,
                 "activations-task", "1"),
    micro_target("fib as plain callables, ns a fork", "fib", 20,
                 "activations-call", "1"),
    micro_target("bare stack switch, ns", "bare-switch", 5,
                 "activations-context", "1"),
    micro_target("yield through the scheduler, ns", "switch", 35, workers="1"),
    micro_target("spawn and join of a task, ns", "spawnjoin", 65,
                 "activations-task", field="value"),
    micro_target("spawn and join of a user thread, ns", "spawnjoin", 250,
                 field="value"),
    micro_target("hand-off, ns", "handoff", 300, field="value"),
    micro_target("uncontended mutex, ns", "mutex-uncontended", 20),
    micro_target("parked task, bytes", "parked-rss", 220, "activations-task",
                 field="value"),
    micro_target("parked user thread, bytes", "parked-rss", 9 * 1024,
                 field="value"),
    micro_target("channel, M elements a CPU second", "channel-2p2c-cpu", 8,
                 field="value", sign=">="),
    target("sleep T=64, rounds/s over 1:1", "block-sleep", 64, 0.97, ">="),
    target("sleep T=64, p99 over 1:1", "block-sleep", 64, 1.4, "<=", "p99_us"),
    target("sleep T=256, rounds/s over 1:1", "block-sleep", 256, 1.05, ">="),
    target("sleep T=256, p99 over 1:1", "block-sleep", 256, 1.0, "<=",
           "p99_us"),
    target("sleep T=2000, rounds/s over 1:1", "block-sleep", 2000, 1.0, ">="),
    target("ufault T=64, rounds/s over 1:1", "block-ufault", 64, 0.97, ">="),
    target("ufault T=256, rounds/s over 1:1", "block-ufault", 256, 1.05, ">="),
    target("fdread T=64, rounds/s over 1:1", "block-fdread", 64, 0.97, ">="),
    target("dread T=64, rounds/s over 1:1", "block-dread", 64, 0.97, ">="),
    target("sleep T=64, CPU a round over 1:1", "block-sleep", 64, 1.1, "<=",
           "cpu_us_per_round"),
    target("sleep T=256, CPU a round over 1:1", "block-sleep", 256, 1.1, "<=",
           "cpu_us_per_round"),
    target("sleep T=64, kernel switches a round", "block-sleep", 64, 1.5, "<=",
           "switches_per_round", versus=None),
    target("sleep T=256, kernel switches a round", "block-sleep", 256, 1.5,
           "<=", "switches_per_round", versus=None),
    target("strict T=256, runnable beyond processors",
           "block-sleep-runnable", 256, 4, "<=", "runnable",
           "activations-strict", None, minus=2),
    target("default T=256, runnable beyond processors",
           "block-sleep-runnable", 256, None, "", "runnable", OURS, None,
           minus=2),
    target("1:1 T=256, runnable beyond processors", "block-sleep-runnable",
           256, None, "", "runnable", BASE, None, minus=2),
    target("pipe20 T=64, rounds/s over 1:1", "block-pipe20", 64, 0.9, ">="),
    target("pmutex T=64, rounds/s over 1:1", "block-pmutex", 64, 0.9, ">="),
    target("pcread T=64, rounds/s over 1:1", "block-pcread", 64, 0.9, ">="),
    target("ping-pong beside 64 blockers, p99 us", "pingpong-sleep", 64, 1000,
           "<=", "p99_us", versus=None),
    target("the same, one exchange a ms, p99 us", "pingpong-paced-sleep", 64,
           1000, "<=", "p99_us", versus=None),
    target("1:1 ping-pong, p99 us", "pingpong-sleep", 64, None, "", "p99_us",
           BASE, None),
    target("1:1 ping-pong, one a ms, p99 us", "pingpong-paced-sleep", 64, None,
           "", "p99_us", BASE, None),
    target("own sleep T=256, rounds/s over 1:1", "block-sleep", 256, 1.28,
           ">=", peer="activations-coop"),
    target("beside hogs T=64, rounds/s over 1:1", "block-sleep-hogs", 64, 0.85,
           ">="),
    target("memory of 2000 blockers over 1:1", "memory-2000-parked0-total",
           0, 2.1, "<="),
    target("memory of 2000, 90 % parked, over 1:1",
           "memory-2000-parked90-total", 0, 1.0, "<="),
]


def machine_busy():
    with open("/proc/stat") as f:
        v = [int(x) for x in f.readline().split()[1:]]
    return (sum(v) - v[3] - v[4]) / os.sysconf("SC_CLK_TCK")


def wait_for_quiet(share, patience):
    """Waits until other processes use less than `share` of the machine."""
    end = time.time() + patience
    while share < 1 and time.time() < end:
        before = machine_busy()
        time.sleep(0.5)
        if (machine_busy() - before) / 0.5 / os.cpu_count() < share:
            return


def run_once(command, timeout, env):
    """The result lines, what other processes used meanwhile, and the error."""
    before, start, own_before = machine_busy(), time.time(), os.times()
    try:
        p = subprocess.run(command, capture_output=True, text=True,
                           timeout=timeout, env=env)
        output, error = p.stdout, p.returncode and f"exit {p.returncode}"
        if error and p.stderr:
            error += ": " + p.stderr.strip().splitlines()[-1]
    except subprocess.TimeoutExpired:
        output, error = "", "timeout"
    after = os.times()
    own = (after.children_user - own_before.children_user +
           after.children_system - own_before.children_system)
    foreign = max(0.0, machine_busy() - before - own)
    foreign /= max(time.time() - start, 1e-3) * os.cpu_count()
    lines = []
    for line in output.splitlines():
        at = line.find('{"peer"')  # a peer may log on the same line
        if at >= 0:
            try:
                lines.append(json.loads(line[at:]))
            except ValueError:
                pass
    return lines, foreign, error


def measure(options):
    drivers = {"activations": os.path.join(options.bin, "activations_driver"),
               "pthread": os.path.join(options.bin, "pthread_driver")}
    for peer in options.peer:
        name, path = peer.split("=", 1)
        drivers[name] = path
    if options.only:
        drivers = {k: v for k, v in drivers.items()
                   if k in options.only.split(",")}
    env = dict(os.environ)
    if "pthread" in drivers:  # both of our drivers then do the same work
        wait_for_quiet(options.quiet, options.patience)
        lines, _, _ = run_once([drivers["pthread"], "calibrate", "2"], 60, env)
        if lines:
            env.setdefault("BENCH_STEPS_PER_US", str(lines[0]["value"]))
    jobs = [job for suite in options.suites for job in SUITES[suite]]
    if options.bench:
        jobs = [job for job in jobs if any(b in " ".join(job[0])
                                           for b in options.bench.split(","))]
    records, errors = [], {}
    for i in range(options.passes):
        for argv, for_peers in jobs:
            order = list(drivers.items())
            for name, path in order if i % 2 == 0 else reversed(order):
                ours = name in ("activations", "pthread")
                if (name, *argv) in errors or not (ours or for_peers):
                    continue
                mine = list(argv)
                if not ours and len(mine) == 5:
                    mine[4] = str(min(int(mine[4]), PEER_ROUNDS))
                wait_for_quiet(options.quiet, options.patience)
                lines, foreign, error = run_once(
                    [path] + mine, options.timeout, env)
                if error:
                    errors[(name, *argv)] = error
                for record in lines:
                    record.update(foreign=foreign, workers=argv[1], turn=i)
                    records.append(record)
                    if options.raw:
                        with open(options.raw, "a") as f:
                            f.write(json.dumps(record) + "\n")
        print(f"pass {i + 1} of {options.passes} done", file=sys.stderr)
    for key, error in errors.items():
        if not error.startswith("exit 2"):
            print(f"- {' '.join(key)}: {error}")
    return records


class results:
    """Records by bench, workers, tasks; by peer; in the order of passes."""

    def __init__(self, records):
        self.groups = collections.defaultdict(
            lambda: collections.defaultdict(list))
        for r in records:
            if "cpu" in r:
                r["cpu_value"] = r["value"] * min(r["cpu"], 1.0)
            key = (r["bench"], str(r["workers"]), r.get("tasks", 0))
            self.groups[key][r["peer"]].append(r)

    def field(self, key, peer, field):
        return [r[field] for r in self.groups.get(key, {}).get(peer, [])
                if field in r]

    def ratios(self, key, peer, field="value", base=BASE):
        """Of each pass in which both ran."""
        of_base = {}
        for r in self.groups.get(key, {}).get(base, []):
            if field in r:
                of_base.setdefault(r["turn"], []).append(r[field])
        out = []
        for r in self.groups.get(key, {}).get(peer, []):
            bases = of_base.get(r["turn"])
            if field in r and bases and statistics.median(bases):
                out.append(r[field] / statistics.median(bases))
        return out


def number(x):
    return "" if x is None else f"{x:.4g}"


def median(values):
    return statistics.median(values) if values else None


def print_tables(res):
    for key, peers in res.groups.items():
        bench, workers, tasks = key
        unit = next(iter(peers.values()))[0]["unit"]
        has = lambda f: any(f in r for v in peers.values() for r in v)
        print(f"\n### {bench}, {workers} worker(s)" +
              (f", {tasks} tasks" if tasks else "") + f" [{unit}]\n")
        head = ["peer", "median", "min..max", "over 1:1", "foreign"]
        fields = [f for f in ("cpu", "p50_us", "p99_us", "max_us",
                              "cpu_us_per_round", "switches_per_round",
                              "runnable", "runnable_idle_class",
                              "threads_max", "hog_cpu", "rounds_per_s")
                  if has(f)]
        head += [f.replace("_", " ") for f in fields]
        print("| " + " | ".join(head) + " |")
        print("|---" * len(head) + "|")
        order = sorted(peers, key=lambda p: median(
            [r["value"] for r in peers[p]]), reverse=unit in HIGHER)
        for peer in order:
            values = res.field(key, peer, "value")
            row = [peer, number(median(values)),
                   f"{number(min(values))}..{number(max(values))}",
                   number(median(res.ratios(key, peer))),
                   number(median(res.field(key, peer, "foreign")))]
            row += [number(median(res.field(key, peer, f))) for f in fields]
            print("| " + " | ".join(row) + " |")


def print_targets(res):
    print("\n### Targets\n")
    print("| figure | to reach | measured | min..max | met |")
    print("|---|---|---|---|---|")
    for t in TARGETS:
        key = (t["bench"], t["workers"], t["tasks"])
        if t["versus"]:
            values = res.ratios(key, t["peer"], t["field"], t["versus"])
        else:
            values = [v - t["minus"] for v in
                      res.field(key, t["peer"], t["field"])]
        if not values:
            continue
        x = statistics.median(values)
        if t["limit"] is None:
            limit, met = "reported", ""
        else:
            limit = ("at least " if t["sign"] == ">=" else "at most ") + \
                number(t["limit"])
            met = "yes" if (x >= t["limit"] if t["sign"] == ">="
                            else x <= t["limit"]) else "**no**"
        print(f"| {t['figure']} | {limit} | {number(x)} | "
              f"{number(min(values))}..{number(max(values))} | {met} |")


def main():
    p = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("suites", nargs="*", choices=[[], *SUITES],
                   help="default: all of them")
    p.add_argument("--bin", help="folder of the two drivers")
    p.add_argument("--peer", action="append", default=[], metavar="NAME=PATH")
    p.add_argument("--only", default="", help="drivers, comma-separated")
    p.add_argument("--bench", default="",
                   help="only command lines that contain one of these")
    p.add_argument("--passes", type=int, default=5)
    p.add_argument("--timeout", type=float, default=90, help="seconds a run")
    p.add_argument("--quiet", type=float, default=1, metavar="SHARE",
                   help="before each run, wait until other processes use less"
                   " than this share of the machine")
    p.add_argument("--patience", type=float, default=30,
                   help="seconds to wait for that at most")
    p.add_argument("--raw", default="", help="append result lines to a file")
    p.add_argument("--report", nargs="+", default=[], metavar="RAW")
    p.add_argument("--no-tables", action="store_true",
                   help="print the targets only")
    options = p.parse_args()
    if options.report:
        records = []
        for path in options.report:
            with open(path) as f:
                records += [json.loads(line) for line in f]
    elif options.bin:
        options.suites = options.suites or list(SUITES)
        records = measure(options)
    else:
        p.error("--bin or --report is needed")
    res = results(records)
    if not options.no_tables:
        print_tables(res)
    print_targets(res)


if __name__ == "__main__":
    main()
