#!/usr/bin/env bash
# SPDX-License-Identifier: BSL-1.0
# ./do image: builds the bare-metal image and runs programs in QEMU.
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/.."
# shellcheck source=tools/common.sh
. tools/common.sh

usage() {
  cat <<'END'
usage: ./do image ARCH [OPTION...]

  ARCH          x86_64, aarch64 or riscv64
  --run NAMES   programs, separated by commas, each in a space of its own;
                without it the image lists what it has
  --cpus N      cores (1)
  --arguments T more words for the command line
  --build       build only
  --timeout S   seconds until QEMU is ended, which counts as failure (120)
  --qemu T      more words for QEMU
  --log FILE    a copy of the console there
  --input T     typed, with \n for a new line, when a program says that it is
                "ready for input"
  --sizes       bytes of kernel text, data and stacks, instead of a run

x86_64 only, instead of QEMU's own loader:
  --iso         an ISO image, started by GRUB from a CD drive under SeaBIOS;
                with --build and no --run it has a menu of all programs
  --usb         the same image as a USB stick
  --uefi        under UEFI firmware (OVMF) instead of SeaBIOS
  --bochs       in Bochs instead of QEMU: with x2APIC and TSC deadline
END
}

[[ $# -gt 0 && $1 != --help ]] || { usage; exit 2; }
arch=$1
shift
[[ -e runtime/arch/$arch/target.sh ]] || die "image: no target '$arch'"
run='' cpus=1 more='' only_build='' seconds=120 qemu_more='' log=/dev/null input=''
only_sizes='' boot=kernel firmware=bios
while [[ $# -gt 0 ]]; do
  case $1 in
    --run) run=$2; shift ;;
    --cpus) cpus=$2; shift ;;
    --arguments) more=$2; shift ;;
    --timeout) seconds=$2; shift ;;
    --qemu) qemu_more=$2; shift ;;
    --log) log=$2; shift ;;
    --input) input=$2; shift ;;
    --build) only_build=yes ;;
    --sizes) only_sizes=yes ;;
    --iso) [[ $boot == usb ]] || boot=iso ;;
    --usb) boot=usb ;;
    --uefi) firmware=uefi ;;
    --bochs) boot=iso firmware=bochs ;;
    *) usage >&2; exit 2 ;;
  esac
  shift
done

# What each target.sh sets.
target_kernel_file=kernel.elf target_cxx='' target_objcopy='' target_packages=()
# shellcheck source=/dev/null
. "runtime/arch/$arch/target.sh"
need ninja-build "${target_packages[@]}"

out=build/image/$arch
mkdir -p "$out"

all_flags=(-std=c++20 -O2 -g -ffreestanding -fno-exceptions -fno-rtti
  -fno-stack-protector -fno-asynchronous-unwind-tables -fno-unwind-tables
  -fno-threadsafe-statics -Wall -Wextra -I "runtime/arch/$arch" -I include
  "${target_flags[@]}")
kernel_flags=(-fno-pie -fno-omit-frame-pointer
  -fno-tree-loop-distribute-patterns "${target_kernel_flags[@]}")
user_flags=(-ftls-model=local-exec -I runtime/lib
  -D_GLIBCXX_EXTERN_TEMPLATE=0 "${target_user_flags[@]}")

# Programs: NAME SOURCE a line.
list_programs() {
  local source
  for source in runtime/programs/*.cpp examples/[0-9][0-9]_*.cpp \
    bench/*_benchmark.cpp; do
    printf '%s %s\n' "$(basename "$source" .cpp)" "$source"
  done
  for source in tests/conformance/*.cpp; do
    printf 'conformance_%s %s\n' "$(basename "$source" .cpp)" "$source"
  done
}

# What each program becomes part of the kernel by.
write_modules() {
  local name count=0
  echo '  .section .modules, "a"'
  while read -r name _; do
    printf '  .balign 4096\nbegin_%d: .incbin "%s/%s.elf"\nend_%d:\n' \
      "$count" "$out" "$name" "$count"
    count=$((count + 1))
  done
  printf '  .section .rodata\n  .balign 8\n  .globl modules, module_count\n'
  printf 'module_count: .quad %d\nmodules:\n' "$count"
  local i=0
  while read -r name _; do
    printf '  .quad name_%d, begin_%d, end_%d\n' "$i" "$i" "$i"
    i=$((i + 1))
  done < <(list_programs)
  i=0
  while read -r name _; do
    printf 'name_%d: .asciz "%s"\n' "$i" "$name"
    i=$((i + 1))
  done < <(list_programs)
  echo '  .section .note.GNU-stack, "", %progbits'
}

# object RULE SOURCE: prints its build statement; its name goes to `made`.
object() {
  made=$out/${2//\//_}.o
  printf 'build %s: %s %s\n' "$made" "$1" "$2"
}

write_ninja() {
  local source name objects='' library='' programs=''
  cat <<END
builddir = $out
rule kernel
  command = $target_cxx ${all_flags[*]} ${kernel_flags[*]} -MMD -MF \$out.d -c \$in -o \$out
  depfile = \$out.d
rule user
  command = $target_cxx ${all_flags[*]} ${user_flags[*]} -MMD -MF \$out.d -c \$in -o \$out
  depfile = \$out.d
rule link_kernel
  command = $target_cxx ${target_flags[*]} ${target_kernel_flags[*]} -nostdlib -static -no-pie -Wl,--build-id=none,--gc-sections,-z,max-page-size=4096,--no-warn-rwx-segments,-T,runtime/arch/$arch/kernel.ld \$in -lgcc -o \$out
rule link_user
  command = $target_cxx ${target_flags[*]} -nostdlib -static -no-pie -Wl,--build-id=none,--gc-sections,-z,max-page-size=4096,--no-warn-rwx-segments,-T,runtime/arch/$arch/user.ld \$in -latomic -lgcc -o \$out.full && ${target_objcopy} --strip-debug \$out.full \$out
rule modules
  command = $target_cxx ${target_flags[*]} ${target_kernel_flags[*]} -c \$in -o \$out
rule flat
  command = $target_objcopy -O binary \$in \$out
END
  for source in runtime/kernel/*.cpp "runtime/arch/$arch"/*.{cpp,S}; do
    [[ -e $source && ${source##*/} != user* ]] || continue
    object kernel "$source"
    objects+=" $made"
  done
  for source in runtime/lib/*.cpp "runtime/arch/$arch"/user*.{cpp,S}; do
    [[ -e $source ]] || continue
    object user "$source"
    library+=" $made"
  done
  while read -r name source; do
    object user "$source"
    printf 'build %s/%s.elf: link_user %s%s | runtime/arch/%s/user.ld\n' \
      "$out" "$name" "$made" "$library" "$arch"
    programs+=" $out/$name.elf"
  done < <(list_programs)
  printf 'build %s/modules.o: modules %s/modules.S |%s\n' "$out" "$out" \
    "$programs"
  printf 'build %s/kernel.elf: link_kernel%s %s/modules.o | runtime/arch/%s/kernel.ld\n' \
    "$out" "$objects" "$out" "$arch"
  printf 'build %s/kernel.bin: flat %s/kernel.elf\n' "$out" "$out"
  printf 'default %s/%s\n' "$out" "$target_kernel_file"
}

list_programs | write_modules >"$out/modules.new"
cmp -s "$out/modules.new" "$out/modules.S" ||
  cp "$out/modules.new" "$out/modules.S"
write_ninja >"$out/build.ninja"
if ! ninja -f "$out/build.ninja" -k 0 -j "$jobs" >"$out/build.log" 2>&1; then
  grep -E "error|undefined|FAILED" "$out/build.log" | head -n 30 >&2
  die "the image does not build; all of it is in $out/build.log"
fi
kernel=$out/$target_kernel_file

# Text counts the read-only data, without the programs inside; the stacks, one
# a core, are a part of the rest.
if [[ -n $only_sizes ]]; then
  "${target_objcopy%objcopy}size" -A "$kernel" | awk -v arch="$arch" \
    -v stacks="$("${target_objcopy%objcopy}nm" -S "$kernel" |
      awk '$4 == "kernel_stacks" { print $2 }')" '
    $1 ~ /^\.(text|boot|rodata|multiboot|note)/ { text += $2 }
    $1 ~ /^\.(data|bss)/ { data += $2 }
    $1 == ".modules" { programs = $2 }
    END {
      n = 0
      for (i = 1; i <= length(stacks); ++i)
        n = 16 * n + index("123456789abcdef", substr(stacks, i, 1))
      printf "%s: text %d, data %d, stacks %d (%d cores), programs %d bytes\n",
        arch, text, data - n, n, n / 16384, programs
    }'
  exit 0
fi

command_line="cpus=$cpus${run:+ run=$run}${more:+ $more}"
if [[ $boot != kernel ]]; then
  declare -F target_iso >/dev/null || die "image: $arch starts from no ISO image"
  target_iso "$kernel" "$out/image.iso" "$command_line"
  say "image: $out/image.iso, for a CD or, as it is, a USB stick"
fi
[[ -z $only_build ]] || exit 0

if [[ $firmware == bochs ]]; then
  status=0
  target_run_bochs "$out/image.iso" "$cpus" "$seconds" | tee "$log" || status=$?
  exit "$status"
elif [[ $boot != kernel ]]; then
  target_qemu_iso "$out/image.iso" "$cpus" "$boot" "$firmware"
elif [[ $firmware == uefi ]]; then
  die "image: --uefi needs --iso or --usb"
else
  target_qemu "$kernel" "$cpus" "$command_line"
fi
# shellcheck disable=SC2206
qemu+=($qemu_more)

# Microseconds; the decimal sign is the locale's.
now() { echo "${EPOCHREALTIME//[!0-9]/}"; }

# Copies the console; by lines until the kernel says that the next instruction
# is a program's, and says when that was; with --input until that is wanted.
watch_console() {
  local line
  while IFS= read -r line; do
    printf '%s\n' "$line"
    case $line in
      'kernel: user mode begins'*)
        printf '== image: first user instruction after %d ms\n' \
          $((($(now) - $1) / 1000))
        [[ -n $input ]] || exec cat
        ;;
      'ready for input'*)
        [[ -z $input ]] || printf '%b' "$input" >&"$keyboard"
        exec cat
        ;;
    esac
  done
  printf '%s' "$line"
}

# Open for writing, too: it has no end before QEMU's.
mkfifo "$out/keyboard.$$"
exec {keyboard}<>"$out/keyboard.$$"
rm "$out/keyboard.$$"
begin=$(now)
set +e
timeout --foreground "$seconds" "${qemu[@]}" <&"$keyboard" |
  watch_console "$begin" | tee "$log"
status=${PIPESTATUS[0]}
set -e
if [[ $status -eq 124 ]]; then
  say "image: no end within $seconds s"
  exit 124
fi
say "image: $((($(now) - begin) / 1000)) ms in QEMU"
exit "$(target_status "$status")"
