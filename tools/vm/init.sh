#!/bin/busybox sh
# shellcheck shell=dash
# SPDX-License-Identifier: BSL-1.0
# The first process of the virtual machine that tools/vm/run.sh boots.  Loads
# the module, runs /vm/job, and leaves by the port of isa-debug-exit.  Output
# goes to the console (ttyS0); ttyS1 carries nothing but lines for the host:
# results of tests, "note TEXT", and at the end "exit STATUS".
bb=/bin/busybox
$bb mkdir -p /proc /sys /dev /run /tmp /root /bin /sbin
$bb mount -t devtmpfs dev /dev
exec </dev/null >/dev/ttyS0 2>&1
$bb --install -s /bin
PATH=/bin:/sbin:/usr/bin
HOME=/root
export PATH HOME

mkdir -p /dev/shm /dev/pts
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t tmpfs -o mode=1777 tmp /tmp
mount -t tmpfs -o mode=1777 shm /dev/shm
mount -t devpts pts /dev/pts 2>/dev/null
mount -t tracefs trace /sys/kernel/tracing 2>/dev/null
mount -t debugfs debug /sys/kernel/debug 2>/dev/null
mount -t cgroup2 cgroup /sys/fs/cgroup 2>/dev/null
ln -sfn /proc/self/fd /dev/fd
ifconfig lo 127.0.0.1 up 2>/dev/null
hostname vm

stty -F /dev/ttyS0 -onlcr
stty -F /dev/ttyS1 raw
exec 3>/dev/ttyS1

status=0
# fail TEXT: what goes wrong outside the job fails the run as well.
fail() {
  echo "vm: $*"
  echo "note $*" >&3
  [ $status -ne 0 ] || status=125
}

# alone COMMAND...: with the other processors switched off.  To load or unload
# the module makes the kernel patch its scheduler, and QEMU 7.2 may keep a
# translation of the breakpoint that stood there for a moment: another processor
# then dies of "Oops: int3".  The kernel patches itself while it boots, too, so
# there is one processor until then (maxcpus=1).
alone() {
  set_others 0
  "$@"
  alone_status=$?
  set_others 1
  return $alone_status
}

set_others() {
  for cpu in /sys/devices/system/cpu/cpu[1-9]*; do
    [ ! -e "$cpu/online" ] || echo "$1" >"$cpu/online"
  done
}

while read -r file; do
  insmod "$file" || fail "insmod $file failed"
done </vm/modules

if [ -e /lib/activations.ko ]; then
  if insmod /lib/activations.ko; then
    # What a udev rule does elsewhere.
    chgrp activations /dev/activations
    chmod 660 /dev/activations
  else
    fail "insmod activations.ko failed"
  fi
fi

set_others 1
echo "vm: $(uname -r), $(nproc) CPUs, $(cat /proc/cmdline)"

# shellcheck disable=SC1091
. /vm/environment
cd "$(cat /vm/folder)" || fail "no $(cat /vm/folder)"
echo "vm: begin"
sh /vm/job
job=$?
echo "vm: end, status $job"
[ $job -eq 0 ] || status=$job

if [ -d /sys/module/activations ]; then
  # A process that was just killed may still be leaving.
  for _ in 1 2 3 4 5 6 7 8 9 10; do
    alone rmmod activations 2>/tmp/rmmod && break
    sleep 0.5
  done
  if [ -d /sys/module/activations ]; then
    cat /tmp/rmmod
    cat /sys/kernel/debug/activations/* 2>/dev/null
    ps -o pid,stat,comm
    fail "rmmod activations failed"
  fi
fi
if [ -w /sys/kernel/debug/kmemleak ]; then
  for _ in 1 2; do
    echo scan >/sys/kernel/debug/kmemleak
    sleep 6
  done
  head -n 60 /sys/kernel/debug/kmemleak
fi
# Bits 5, 7, 9 and 14: a bad page, an oops, a warning, a soft lockup.
if [ $(($(cat /proc/sys/kernel/tainted) & 17056)) -ne 0 ]; then
  fail "the kernel is tainted: $(cat /proc/sys/kernel/tainted)"
fi

echo "exit $status" >&3
# Setting a terminal waits until what was written is out.
stty -F /dev/ttyS1 raw
stty -F /dev/ttyS0 -onlcr
printf '\0' | dd of=/dev/port bs=1 seek=244 2>/dev/null
echo "vm: isa-debug-exit does not work"
poweroff -f
