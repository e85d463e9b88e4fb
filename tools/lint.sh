#!/usr/bin/env bash
# SPDX-License-Identifier: BSL-1.0
# ./do lint: the rules of the project that a search can decide.  Prints
# "ok RULE" or "FAILED RULE" after the lines that break it; exit status 1 if
# any rule is broken.  To add one: a function that prints offenders, and a
# line at the end of this file.
# shellcheck disable=SC2317  # rule calls the functions by name
set -uo pipefail
cd "$(dirname "$(readlink -f "$0")")/.." || exit
# shellcheck source=tools/common.sh
. tools/common.sh

broken=0

# rule FUNCTION SENTENCE: holds if the function prints nothing.
rule() {
  local offenders
  offenders=$("$1" 2>&1)
  if [[ -z $offenders ]]; then
    echo "ok $2"
  else
    head -n 25 <<<"$offenders" | sed 's/^/  /'
    echo "FAILED $2"
    broken=1
  fi
}

# Lines of the files on standard input that match, comments left out.
search_code() {
  xargs -r -d '\n' grep -nHE -- "$1" | grep -vE '^[^:]+:[0-9]+: *(//|\*|/\*|#  *)'
}

headers() { list_files 'include/*.hpp' 'include/*.h'; }
portable_headers() { headers | grep -v '/detail/arch/'; }

format() {
  list_formatted_files |
    xargs -r -d '\n' clang-format-14 --dry-run -Werror 2>&1 | grep 'error:'
}

# VERSION holds a number and nothing else; a licence needs none of its own.
licence_line() {
  list_files '*' | grep -vxE 'VERSION|LICENSES/.*' |
    xargs -r -d '\n' grep -L 'SPDX-License-Identifier: '
}

licence_text() {
  local id
  list_files '*' | grep -v '^LICENSES/' |
    xargs -r -d '\n' grep -hoE -m 1 'SPDX-License-Identifier: [A-Za-z0-9.() -]+' |
    sed 's/.*: //' | tr -d '()' | sed -E 's/ (OR|AND|WITH) /\n/g' |
    sed -E 's/^ +//; s/[ -]*$//; s/^GPL-2.0$/GPL-2.0-only/' | sort -u |
    while read -r id; do
      [[ -f LICENSES/$id.txt ]] || echo "no LICENSES/$id.txt"
    done
}

kernel_licence() {
  list_files 'kmod/*.c' 'kmod/*.h' |
    xargs -r -d '\n' grep -L 'SPDX-License-Identifier: GPL-2.0'
}

# detail/context.hpp chooses the folder; an empty asm is a compiler barrier.
architecture() {
  portable_headers | grep -v '/detail/context.hpp$' |
    search_code '__(x86_64|aarch64|riscv|amd64|i386)|<(immintrin|x86intrin|arm_acle)\.h>|__builtin_(ia32|aarch64|riscv)|\basm\b' |
    grep -vE 'asm volatile\(""'
}

# What one target alone has, and why.
target_exceptions=(
  runtime/arch/x86_64/port.hpp        # the others have no I/O ports
  runtime/arch/riscv64/user_atomic.cpp # no exchange of one byte
  runtime/arch/riscv64/headers/gnu/stubs-lp64.h # the compiler lacks it
  include/activations/detail/arch/aarch64/trampolines.hpp # its resume alone
)

# Adding a target is adding a folder: the same file names in each.
target_files() {
  local parent target other file
  for parent in runtime/arch include/activations/detail/arch; do
    for target in $(cd "$parent" && echo *); do
      list_files "$parent/$target/*" | while read -r file; do
        [[ " ${target_exceptions[*]} " != *" $file "* ]] || continue
        for other in "$parent"/*/; do
          [[ -e $other${file#"$parent/$target/"} ]] ||
            echo "$file: nothing of this name in $other"
        done
      done
    done
  done
}

# Its destructor would run on whichever kernel thread ends, and the guard of
# its initialisation on each switch path: constinit rules both out.
thread_local_data() {
  headers | search_code '\bthread_local\b' | grep -v constinit
}

global_state() {
  headers | search_code '\b(dynamic_cast|typeid)\b'
}

spelled_order() {
  headers | search_code \
    '(\.|->)(load\(\)|(store|exchange|fetch_(add|sub|or|and|xor))\([^(),]*\);)'
}

include_once() {
  headers | grep '\.hpp$' | xargs -r -d '\n' grep -L '^#pragma once$'
}

macro_names() {
  headers | search_code '^ *# *define ' |
    grep -vE 'define +(ACTIVATIONS_|activations_)'
}

marks() {
  list_files '*' | grep -vE '^(LICENSES/|tools/lint\.sh$)' |
    xargs -r -d '\n' grep -nHwE 'TODO|FIXME|XXX|HACK'
}

# Words of the machine that runs this, found rather than written down.
machine_words() {
  local hosts word
  hosts=$(sed -nE 's#.*https?://([^/ ]+).*#\1#p' /etc/apt/sources.list \
    /etc/apt/sources.list.d/* 2>/dev/null | sort -u)
  for word in "$PWD/" "${HOME:-}/" $hosts; do
    [[ ${#word} -gt 5 ]] || continue
    list_files '*' | xargs -r -d '\n' grep -nHF -- "$word"
  done
}

readme_program() {
  diff examples/01_hello.cpp \
    <(awk '/^```/ { if (inside) exit; inside = ($0 == "```cpp"); next } inside' \
      README.md)
}

readme_opening() {
  head -n 1 README.md | grep -qi 'scheduler activations for C++' ||
    echo "README.md does not open with the name of the project"
  local verb
  for verb in demo check; do
    grep -q "\./do $verb" README.md || echo "README.md does not name ./do $verb"
  done
}

version() {
  local part number numbers
  IFS=. read -r -a numbers <VERSION
  for part in MAJOR MINOR PATCH; do
    number=${numbers[0]-}
    numbers=("${numbers[@]:1}")
    grep -qxE "#define ACTIVATIONS_VERSION_$part $number" \
      include/activations/config.hpp ||
      echo "ACTIVATIONS_VERSION_$part in config.hpp is not $number"
  done
  grep -qE "^## $(cat VERSION)\b" CHANGES.md ||
    echo "CHANGES.md has no section for $(cat VERSION)"
}

shell_scripts() {
  list_files 'do' .ci/run '*.sh' | xargs -r -d '\n' shellcheck -x -f gcc
}

python_scripts() {
  local file
  list_files '*.py' | while read -r file; do
    python3 -c 'import ast, sys; ast.parse(open(sys.argv[1]).read(), sys.argv[1])' \
      "$file"
  done
}

# Directly or through another header.
umbrella() {
  local seen=' ' queue=(activations.hpp) name
  while [[ ${#queue[@]} -gt 0 ]]; do
    name=${queue[0]}
    queue=("${queue[@]:1}")
    [[ $seen != *" $name "* ]] || continue
    seen+="$name "
    mapfile -t -O "${#queue[@]}" queue < <(
      sed -nE 's#^ *\# *include <activations/(.*)>#\1#p' \
        "include/activations/$name"
    )
  done
  for name in include/activations/*.hpp; do
    name=${name##*/}
    [[ $seen == *" $name "* ]] || echo "activations.hpp does not reach $name"
  done
}

front_door() {
  local output verb
  output=$(./do) || echo "./do alone fails"
  for verb in demo check build vm vm-debug vm-soak image image-stress bench fmt \
    lint asan tsan ubsan clean; do
    grep -q "^  $verb " <<<"$output" || echo "./do alone does not list $verb"
  done
  output=$(./do no-such-verb 2>&1)
  [[ $? -eq 2 && $(wc -l <<<"$output") -eq 1 ]] ||
    echo "a verb that does not exist is not refused in one line with status 2"
}

ci_entry() {
  [[ -x .ci/run && -x 'do' ]] || echo ".ci/run or do cannot be executed"
  grep -q 'exec \./do check$' .ci/run || echo ".ci/run does not call ./do check"
}

links() {
  local file target
  list_files '*.md' | while read -r file; do
    grep -oE '\]\([^)#: ]+' "$file" | sed 's/^](//' | while read -r target; do
      [[ -e $(dirname "$file")/$target ]] || echo "$file: no $target"
    done
  done
}

rule format "sources are formatted by clang-format 14 (./do fmt)"
rule licence_line "each file has its SPDX line"
rule licence_text "each licence named is in LICENSES/"
rule kernel_licence "kmod/ is GPL-2.0"
rule architecture "architecture code lives under arch/ only"
rule target_files "each target has the same files"
rule thread_local_data "each thread_local is constinit: no guard, no destructor"
rule global_state "headers use no RTTI"
rule spelled_order "each atomic call spells its memory order"
rule include_once "each header has #pragma once"
rule macro_names "each macro begins with ACTIVATIONS_"
rule marks "no unfinished marks"
rule machine_words "no path of this machine, no package host"
rule readme_opening "README opens with the name and the two commands"
rule readme_program "README shows examples/01_hello.cpp byte for byte"
rule version "VERSION, config.hpp and CHANGES.md agree"
rule umbrella "activations.hpp brings every public header"
rule links "links between documents lead somewhere"
rule shell_scripts "shellcheck finds nothing"
rule python_scripts "Python scripts parse"
rule front_door "./do lists its verbs and refuses others"
rule ci_entry "CI calls ./do check"
exit $broken
