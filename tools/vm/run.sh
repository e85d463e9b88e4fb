#!/usr/bin/env bash
# SPDX-License-Identifier: BSL-1.0
# ./do vm: boots a kernel with the module in QEMU (no KVM) and runs a command
# or the test suites in it.  See usage.  docs/testing.md describes the machine.
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/../.." || exit
# shellcheck source=tools/common.sh
. tools/common.sh
# shellcheck source=tools/vm/kernel.sh
. tools/vm/kernel.sh
# shellcheck source=tools/vm/debug_kernel.sh
. tools/vm/debug_kernel.sh

usage() {
  cat <<'END_OF_USAGE'
usage: ./do vm [OPTION...] [-- COMMAND...]

Builds the module and the tests, boots Debian's kernel in QEMU and runs COMMAND
(without one: the module's suite) as root in the project's folder.  The exit
status is the command's, or 125 if the kernel complained, the module could not
be loaded or unloaded, or the machine ended early.  Each file of this machine that
COMMAND names is there under the same name, with its shared libraries.

  --kernel 6.1|6.12   default 6.12
  --cpus N            default 2
  --preempt MODE      full, voluntary or none; default the kernel's own
  --suite SUITE       instead of a command, may be repeated:
                        module    tests/kernel, against the raw device
                        kernel    the runtime's unit tests on the module
                        backend   those of them that are about the backend
                        demo      the demo's handlers on the module
                        portable  the unit tests on the portable backend
                      default module and kernel
  --match REGEX       only these tests of the suites
  --file PATH         one more file to take along; may be repeated
  --env NAME=VALUE    in the environment of command or suites; may be repeated
  --seconds N         limit of the whole run, default 1800
  --append WORDS      at the end of the kernel's command line
  --icount            instructions instead of time: each is a nanosecond of the
                      guest's clocks (Debian's 6.1 boots so with --cpus 1 only)
  --no-build          take the module and the tests as they are
  --build-only        build them, boot nothing
END_OF_USAGE
}

kernel=6.12 cpus=2 preempt='' match='' seconds=1800 append='' do_build=yes do_boot=yes
memory=3072
suites=() files=() environment=() command=()
clock=(-accel 'tcg,thread=multi')
while [[ $# -gt 0 ]]; do
  case $1 in
    --kernel) kernel=$2 ;;
    --cpus) cpus=$2 ;;
    --preempt) preempt=$2 ;;
    --suite) suites+=("$2") ;;
    --match) match=$2 ;;
    --file) files+=("$2") ;;
    --env) environment+=("$2") ;;
    --seconds) seconds=$2 ;;
    --append) append=$2 ;;
    --icount)
      clock=(-accel 'tcg,thread=single' -icount 'shift=0,sleep=off')
      shift
      continue
      ;;
    --no-build)
      do_build=no
      shift
      continue
      ;;
    --build-only)
      do_boot=no
      shift
      continue
      ;;
    --)
      shift
      command=("$@")
      [[ $# -gt 0 ]] || die "there is no command after --"
      break
      ;;
    -h | --help)
      usage
      exit
      ;;
    *)
      usage >&2
      exit 2
      ;;
  esac
  [[ $# -ge 2 ]] || die "$1 wants a value"
  shift 2
done
[[ ${#command[@]} -gt 0 || ${#suites[@]} -gt 0 ]] || suites=(module kernel)
[[ $cpus =~ ^[1-9][0-9]*$ ]] || die "--cpus wants a number"

# Time limits of the tests: QEMU translates, and a debug kernel is slower yet.
factor=4
if [[ $kernel == debug ]]; then
  factor=20
  memory=4096
fi

# Programs that need no backend, or few of whose cases differ on another one.
beside_the_backend='^(abi|context|run_queue|stack|thread_stack|timer_queue|topology|work_deque)_test'

# For a second look on another kernel: all but these are left out.
about_the_backend='(blocking|kernel_backend|preemption|statistics|windows)_test'

# Those that serve requests; the rest are about options and one-to-one threads.
serving_on_the_module='(ComparesAllModesByDefault|many-to-many)'

kernel_test_program=build/release/tests/kernel/kernel_tests

build_all_parts() {
  local suite
  use_kernel "$kernel"
  module=$PWD/build/kmod/$kernel/activations.ko
  if [[ $do_build == yes ]]; then
    mkdir -p build/check
    build_module "$kernel" W=1 ACTIVATIONS_TEST=1 >"build/kmod-$kernel.log" 2>&1 || {
      tail -n 40 "build/kmod-$kernel.log" >&2
      die "the module does not build; all of it is in build/kmod-$kernel.log"
    }
    for suite in "${suites[@]}"; do
      case $suite in
        module) build_quietly release kernel_tests ;;
        kernel | backend | portable) build_quietly release unit_tests ;;
        demo) build_quietly release demo_tests ;;
        *) die "there is no suite '$suite'" ;;
      esac
    done
  fi
  [[ -e $module ]] || die "there is no $module"
}

# The tree of the initramfs is made of symbolic links, which cpio follows.
take() {
  local target
  target=$root${2:-$1}
  mkdir -p "${target%/*}"
  ln -sfn "$(readlink -f "$1")" "$target"
}

# take_program FILE: with its shared libraries, if it is a program that has any.
take_program() {
  local path library
  path=$(realpath -s "$1")
  take "$path"
  while read -r library; do
    take "$library"
  done < <(ldd "$path" 2>/dev/null | grep -oE '/[^ ]+' | sort -u)
}

# What the slow disk needs, in the order of loading; 6.12 packs its modules.
take_disk_modules() {
  local file target name
  : >"$root/vm/modules"
  for name in virtio_pci virtio_blk; do
    while read -r file; do
      [[ -e $file ]] || continue
      target=/lib/modules/$(basename "${file%.xz}")
      ! grep -qxF "$target" "$root/vm/modules" || continue
      mkdir -p "$root/lib/modules"
      case $file in
        *.xz) xz -dc "$file" >"$root$target" ;;
        *) cp "$file" "$root$target" ;;
      esac
      echo "$target" >>"$root/vm/modules"
    done < <(/sbin/modprobe -d "$kernel_root" -S "$kernel_release" \
      --show-depends "$name" 2>/dev/null | sed -n 's/^insmod //p')
  done
}

suite_source() {
  case $1 in
    module) echo "$kernel_test_program" ;;
    kernel | backend | portable) echo unit ;;
    demo) echo demo ;;
  esac
}

# Writes the job that init runs: the command, or the suites one after another.
write_job() {
  local suite list backend except count=0
  {
    echo "export ACTIVATIONS_VM=1 ACTIVATIONS_MODULE=/lib/activations.ko"
    echo "export ACTIVATIONS_SLOW_DISK=/dev/vda"
    for suite in "${environment[@]}"; do
      printf 'export %q\n' "$suite"
    done
  } >"$root/vm/environment"
  if [[ ${#command[@]} -gt 0 ]]; then
    printf '%q ' "${command[@]}" >"$root/vm/job"
    return
  fi
  if [[ " ${suites[*]} " == *" demo "* ]]; then
    take_program build/release/examples/http_service/http_service_demo
  fi
  echo 'status=0' >"$root/vm/job"
  # What the demo reads from the disk.
  # shellcheck disable=SC2016  # the guest's
  [[ " ${suites[*]} " != *" demo "* ]] ||
    printf '%s\n' 'mkdir -p /usr/share/demo' \
      'for n in $(seq 64); do' \
      'dd if=/dev/urandom of=/usr/share/demo/$n bs=16k count=1 2>/dev/null' \
      'done' >>"$root/vm/job"
  for suite in "${suites[@]}"; do
    list=$root/vm/$suite.list
    # As a pattern, ^$ leaves out nothing.
    except='^$'
    case $suite in
      kernel) except=$beside_the_backend ;;
      backend) except="^(?!$about_the_backend)" ;;
      demo) except="^(?!.*$serving_on_the_module)" ;;
    esac
    python3 tools/vm/list.py --match "$match" --except "$except" "$suite" \
      "$(suite_source "$suite")" >"$list" || die "cannot list suite $suite"
    count=$((count + $(wc -l <"$list")))
    while read -r file; do
      take_program "$file"
    done < <(cut -f 4 "$list" | sort -u)
    backend=kernel
    [[ $suite != portable ]] || backend=portable
    # Two at once, since each has threads on all processors.
    printf 'ACTIVATIONS_BACKEND=%s suite /vm/%s.list /dev/ttyS1 2 %s || status=1\n' \
      "$backend" "$suite" "$factor" >>"$root/vm/job"
  done
  # shellcheck disable=SC2016  # the guest's
  echo 'exit $status' >>"$root/vm/job"
  [[ $count -gt 0 ]] || die "no test matches"
}

make_initramfs() {
  local file
  root=$run/root
  mkdir -p "$root"/{vm,etc,lib} "$root$PWD"
  take /bin/busybox
  take tools/vm/init.sh /init
  take "$module" /lib/activations.ko
  gcc-12 -O1 -static -o "$run/suite" tools/vm/suite.c
  take "$run/suite" /bin/suite
  printf '%s\n' 'root:x:0:0::/root:/bin/sh' 'user:x:1000:1000::/tmp:/bin/sh' \
    'other:x:1001:1001::/tmp:/bin/sh' >"$root/etc/passwd"
  printf '%s\n' 'root:x:0:' 'activations:x:900:user' 'user:x:1000:' \
    'other:x:1001:' >"$root/etc/group"
  echo "$PWD" >"$root/vm/folder"
  take_disk_modules
  for file in "${files[@]}" "${command[@]}"; do
    [[ $file == */* && -f $file ]] || continue
    take_program "$file"
  done
  write_job
  (cd "$root" && find . | cpio --quiet -o -L -H newc -R 0:0) >"$run/initramfs"
  rm -rf "$root" "$run/suite"
}

# Passes on what the guest's programs print, without the kernel's messages.
show_output() {
  awk '/^vm: begin/ { shown = 1 } /^vm: / { print; fflush(); next }
    shown && !/^\[ *[0-9]+\.[0-9]+\]/ { print; fflush() }'
}

# tsc_khz: what the guest's time stamp counter really counts.
tsc_khz() {
  # Under -icount it counts instructions of a nanosecond.
  [[ ${clock[*]} != *-icount* ]] || { echo 1000000; return; }
  gcc-12 -O1 -o "$run/tsc_khz" tools/vm/tsc_khz.c && "$run/tsc_khz"
  rm -f "$run/tsc_khz"
}

boot() {
  local words="console=ttyS0 loglevel=7 panic=-1 oops=panic random.trust_cpu=on"
  # A busy host stalls a virtual CPU for longer than the kernel's checks of its
  # clocks allow; it would panic over the timer.
  words+=" no_timer_check tsc=reliable tsc_early_khz=$(tsc_khz)"
  # The others follow when nothing is patched any more; see init.sh.
  words+=" maxcpus=1 noreplace-smp"
  [[ -z $preempt ]] || words+=" preempt=$preempt"
  truncate -s 64M "$run/disk"
  : >"$run/lines"
  printf '%s\n' "$words $append" >"$run/kernel-arguments"
  # With SMAP, QEMU 7.2 checks a return from user mode to user mode wrongly.
  timeout -k 10 "$seconds" qemu-system-x86_64 \
    -machine q35 "${clock[@]}" -cpu max,-smap,-la57 -smp "$cpus" \
    -m "$memory" -nodefaults -no-user-config -no-reboot -display none \
    -kernel "$kernel_image" -initrd "$run/initramfs" -append "$words $append" \
    -serial stdio -serial "file:$run/lines" \
    -drive "file=$run/disk,format=raw,if=none,id=slow,cache=unsafe,throttling.iops-total=200" \
    -device virtio-blk-pci,drive=slow \
    -device isa-debug-exit,iobase=0xf4,iosize=4 \
    </dev/null 2>"$run/qemu.log" |
    sed -u 's/\r//g' | tee "$run/console.log" | show_output
  qemu_status=${PIPESTATUS[0]}
}

# Lines of the kernel's log that fail a run, whatever the command returned.
complaints() {
  grep -aE '\[ *[0-9]+\.[0-9]{6}\].*(WARNING:|BUG:|BUG at|Oops|Kernel panic|general protection fault[,:] |Call Trace|stack-protector|possible (recursive|circular|irq|deadlock)|INFO: (possible|suspicious|rcu|task|trying|inconsistent|NMI)|inconsistent lock state|suspicious RCU|rcu: .*(stall|detected)|[Ll]ockup|hung_task|KASAN|UBSAN|ODEBUG|refcount_t|list_(add|del) corruption|scheduling while atomic|sleeping function|bad page|Bad page|unchecked MSR|kmemleak: [0-9]+ new|corrupt|unable to handle|stack overflow|double fault|nobody cared)' \
    "$run/console.log" |
    grep -avE 'Lock dependency|KASAN.*[Ii]nitialized|KernelAddressSanitizer'
}

# Sets status from what the machine left behind.
judge() {
  local planned found
  grep -aE '^(pass|fail|skip)' "$run/lines" >"$run/results.tsv" || true
  status=$(sed -n 's/^exit //p' "$run/lines" | tail -n 1)
  while IFS=$'\t' read -r _ planned; do
    total=$((total + planned))
  done < <(grep -a '^plan' "$run/lines")
  found=$(wc -l <"$run/results.tsv")
  if complaints >"$run/complaints"; then
    say "the kernel complained:"
    head -n 40 "$run/complaints"
    printf 'fail\tthe kernel does not complain\n' >>"$run/results.tsv"
    [[ ${status:-0} -ne 0 ]] || status=125
  else
    [[ ${#command[@]} -gt 0 ]] ||
      printf 'pass\tthe kernel does not complain\n' >>"$run/results.tsv"
  fi
  if [[ -z $status || $qemu_status -ne 1 ]]; then
    say "the machine ended early (QEMU's status $qemu_status, 124 is its time limit):"
    tail -n 30 "$run/console.log"
    cat "$run/qemu.log"
    printf 'fail\tthe machine ends in order\n' >>"$run/results.tsv"
    status=125
  fi
  if [[ $found -lt $total ]]; then
    printf 'fail\t%d of %d planned tests ran\n' "$found" "$total" \
      >>"$run/results.tsv"
    [[ $status -ne 0 ]] || status=125
  fi
  if [[ $status -ne 0 ]] && ! grep -q '^fail' "$run/results.tsv" &&
    [[ ${#command[@]} -eq 0 ]]; then
    printf 'fail\t%s\n' "$(sed -n 's/^note //p' "$run/lines" | tail -n 1)" \
      >>"$run/results.tsv"
  fi
  sed -n 's/^note /== /p' "$run/lines"
}

main() {
  need "${packages_build[@]:?}" "${packages_vm[@]:?}"
  build_all_parts
  [[ $do_boot == yes ]] || exit 0
  run=$PWD/build/vm/$(date +%m%d-%H%M%S)-$kernel-${cpus}cpu${preempt:+-$preempt}-$$
  total=0 status='' qemu_status=0 attempt=0
  mkdir -p "$run"
  trap 'rm -rf "$run/root" "$run/initramfs" "$run/disk"' EXIT
  make_initramfs
  say "boot $kernel_release, $cpus CPUs${preempt:+, preempt=$preempt} (log: ${run#"$PWD/"}/console.log)"
  set +e
  boot
  # A breakpoint that was not there any more: see init.sh.
  while [[ $((++attempt)) -lt 3 ]] &&
    grep -aq 'Oops: int3' "$run/console.log"; do
    say "QEMU ran a stale breakpoint of the kernel's own patching; again"
    mv "$run/console.log" "$run/console-$attempt.log"
    boot
  done
  judge
  ln -sfn "${run##*/}" build/vm/latest
  if [[ ${#command[@]} -eq 0 ]]; then
    say "$(grep -c ^pass "$run/results.tsv") passed, $(grep -c ^fail "$run/results.tsv") failed, $(grep -c ^skip "$run/results.tsv") skipped in ${SECONDS}s"
  fi
  [[ -z ${ACTIVATIONS_VM_RESULTS:-} ]] ||
    cp "$run/results.tsv" "$ACTIVATIONS_VM_RESULTS"
}

# In one line: bash reads a script while it runs, and somebody may edit it.
main; exit "$status"
