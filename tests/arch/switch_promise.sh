#!/bin/sh
# SPDX-License-Identifier: BSL-1.0
# Promises about the x86-64 stack switch, read from its disassembly:
#   no locked instruction, no call, no ret, no push or pop inside the switch,
#   exactly one indirect jump, which predicts well where a ret would not,
#   at most 16 instructions from saving the first word to the jump.
# Usage: switch_promise.sh OBJDUMP OBJECT
set -eu
objdump=$1
object=$2
failed=0

fail() {
  echo "FAIL $1: $2"
  failed=1
}

# Instructions of one function, addresses and bytes removed.
body() {
  "$objdump" -d --no-show-raw-insn "$object" |
    awk -v name="<$1>:" '
      $2 == name { on = 1; next }
      on && NF == 0 { exit }
      on { sub(/^[^:]*:[ \t]*/, ""); print }'
}

for function in promised_call promised_loop; do
  code=$(body "$function")
  [ -n "$code" ] || fail "$function" "not found in $object"
  # From the address of the resume point to the jump away.
  switch=$(echo "$code" |
    awk '/lea .*\(%rip\),%rax/ { on = 1 } on { print } /jmp +\*/ { exit }')
  count=$(echo "$switch" | wc -l)
  [ "$count" -le 16 ] || fail "$function" "$count instructions, promised 16"
  if echo "$code" | grep -E '(^| )lock |xchg|mfence|cmpxchg'; then
    fail "$function" "locked instruction"
  fi
  if echo "$switch" | grep -E '^(call|ret|push|pop)'; then
    fail "$function" "call, ret, push or pop inside the switch"
  fi
  jumps=$(echo "$code" | grep -c -E 'jmp +\*') || true
  [ "$jumps" -eq 1 ] || fail "$function" "$jumps indirect jumps, promised 1"
  echo "$function: $count instructions in the switch"
done

[ "$failed" -eq 0 ] || { body promised_call; exit 1; }
