# shellcheck shell=bash disable=SC2034
# SPDX-License-Identifier: BSL-1.0
# Sourced by tools/image.sh: how this target is compiled and run.
target_packages=(g++-12-aarch64-linux-gnu qemu-system-arm)
target_cxx=aarch64-linux-gnu-g++-12
target_objcopy=aarch64-linux-gnu-objcopy
target_flags=(-mno-outline-atomics)
target_kernel_flags=(-mgeneral-regs-only)
target_user_flags=()
target_kernel_file=kernel.elf

# target_qemu KERNEL CPUS COMMAND_LINE: sets the array `qemu`.
target_qemu() {
  # One thread for all cores: with several, QEMU on x86 lets a load (ldar) pass
  # an earlier store (stlr), which no aarch64 does, and wake-ups are lost.
  qemu=(qemu-system-aarch64 -accel "tcg,thread=single"
    -machine "virt,gic-version=${ACTIVATIONS_IMAGE_GIC:-3}" -cpu max -m 256M
    -smp "$2" -kernel "$1" -append "$3" -display none -serial stdio -no-reboot
    -monitor none -nic none -semihosting)
}

# The program's own status comes through semihosting.
target_status() { echo "$1"; }
