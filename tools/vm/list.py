#!/usr/bin/env python3
# SPDX-License-Identifier: BSL-1.0
"""Prints the list of tests that tools/vm/suite.c runs.

usage: list.py [--match REGEX] [--except REGEX] [--seconds N] PREFIX LABEL|PROGRAM

A label takes CTest's tests with that label in build/release, each with its
time limit; a program is a GoogleTest program, whose cases run one at a time
with N seconds (default 180) each.  One line a test, separated by tabs:

  PREFIX: NAME, seconds, 1 if nothing may run beside it, program, arguments
"""

import argparse
import json
import os
import pathlib
import re
import subprocess


def from_ctest(label):
    shown = subprocess.run(
        ["ctest", "--test-dir", "build/release", "--show-only=json-v1",
         "-L", f"^{label}$"], check=True, stdout=subprocess.PIPE)
    for test in json.loads(shown.stdout)["tests"]:
        properties = {p["name"]: p["value"] for p in test.get("properties", [])}
        yield (test["name"], properties.get("TIMEOUT", 60),
               properties.get("RUN_SERIAL", False), test["command"])


def from_gtest(program, seconds):
    listed = subprocess.run([program, "--gtest_list_tests"], check=True,
                            stdout=subprocess.PIPE, text=True)
    suite = ""
    for line in listed.stdout.splitlines():
        name = line.split("  #")[0].rstrip()
        if not name.startswith(" "):
            suite = name
        elif "DISABLED_" not in suite + name:
            case = suite + name.strip()
            yield case, seconds, True, [program, f"--gtest_filter={case}"]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--match", default="")
    parser.add_argument("--except", dest="left_out", default="^$")
    parser.add_argument("--seconds", type=int, default=180)
    parser.add_argument("prefix")
    parser.add_argument("source")
    options = parser.parse_args()
    if os.path.exists(options.source):
        program = str(pathlib.Path(options.source).resolve())
        tests = from_gtest(program, options.seconds)
    else:
        tests = from_ctest(options.source)
    for name, seconds, serial, command in tests:
        if (re.search(options.match, name)
                and not re.search(options.left_out, name)):
            print(f"{options.prefix}: {name}", round(seconds), int(serial),
                  *command, sep="\t")


main()
