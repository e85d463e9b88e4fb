#!/usr/bin/env python3
# SPDX-License-Identifier: BSL-1.0
"""Turns a JUnit file of CTest into lines of ./do check's result file.

usage: ctest_results.py STAGE JUNIT RESULTS

Appends "pass|fail|skip TAB name [TAB reason]" to RESULTS and prints what
failed with its output.  A JUnit file that is absent or empty is a failure:
no stage is meant to have no tests.
"""

import pathlib
import re
import sys
import xml.etree.ElementTree as ElementTree

# Of a stage in which everything fails, a few tell enough; CTest's log has all.
OUTPUT_LINES = 40
SHOWN_FAILURES = 8


def skip_reason(output):
    """What the test printed about its skip, in one line."""
    # GoogleTest: "file:line: Skipped", the reason, "[  SKIPPED ] name".
    match = re.search(r": Skipped\n(.*?)\n*\[  SKIPPED \]", output, re.S)
    text = match.group(1) if match else output
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return (" ".join(lines) if match else lines[-1] if lines else "no reason given")


def classify(case):
    """(status, detail) of one testcase element."""
    output = case.findtext("system-out") or ""
    skipped = case.find("skipped")
    if skipped is not None:
        # CTest also says "skipped" of a program that was never built.
        message = skipped.get("message", "")
        if message.startswith("SKIP_"):
            return "skip", skip_reason(output)
        return "fail", f"{message}\n{output}"
    if case.get("status") == "disabled":
        return "skip", "disabled"
    failure = case.find("failure")
    if failure is not None:
        return "fail", f"{failure.get('message', '')}\n{output}"
    if case.get("status") != "run":
        return "fail", f"status {case.get('status')}\n{output}"
    return "pass", ""


def main():
    stage, junit, results = sys.argv[1:]
    try:
        cases = list(ElementTree.parse(junit).getroot().iter("testcase"))
    except (OSError, ElementTree.ParseError):
        cases = []
    lines = []
    counts = {"pass": 0, "fail": 0, "skip": 0}
    for case in cases:
        name = f"{stage}: {case.get('name')}"
        status, detail = classify(case)
        counts[status] += 1
        if status == "fail":
            print(f"-- FAILED {name}")
            shown = detail.splitlines()[-OUTPUT_LINES:]
            for line in shown if counts["fail"] <= SHOWN_FAILURES else []:
                print(f"   {line}")
        lines.append(f"{status}\t{name}" + (f"\t{detail}" if status == "skip" else ""))
    if not cases:
        counts["fail"] += 1
        print(f"-- FAILED {stage}: CTest ran no test")
        lines.append(f"fail\t{stage}: tests")
    with pathlib.Path(results).open("a", encoding="utf-8") as file:
        file.writelines(line + "\n" for line in lines)
    print(f"   {counts['pass']} passed, {counts['fail']} failed, "
          f"{counts['skip']} skipped of {len(cases)} tests")


main()
