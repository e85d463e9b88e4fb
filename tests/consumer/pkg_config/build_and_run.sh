#!/bin/sh
# SPDX-License-Identifier: BSL-1.0
# A build without CMake: what pkg-config says is all that the compiler needs.
# usage: build_and_run.sh COMPILER OUTPUT_FOLDER EXPECTED_VERSION
set -eu
program=$(dirname "$0")/../program
mkdir -p "$2"
pkg-config --exact-version="$3" activations
# shellcheck disable=SC2046  # flags are words
"$1" -std=c++20 -O1 $(pkg-config --cflags activations) \
  "$program/main.cpp" "$program/second_unit.cpp" \
  $(pkg-config --libs activations) -o "$2/consumer"
"$2/consumer"
