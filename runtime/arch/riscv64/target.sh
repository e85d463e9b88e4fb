# shellcheck shell=bash disable=SC2034
# SPDX-License-Identifier: BSL-1.0
# Sourced by tools/image.sh: how this target is compiled and run.
target_packages=(g++-12-riscv64-linux-gnu qemu-system-misc)
target_cxx=riscv64-linux-gnu-g++-12
target_objcopy=riscv64-linux-gnu-objcopy
# No relaxation: gp is not where it would have to be for it.
target_flags=(-mcmodel=medany -mno-relax "-Wl,--no-relax")
target_kernel_flags=(-march=rv64imac_zicsr_zifencei -mabi=lp64
  -isystem runtime/arch/riscv64/headers)
target_user_flags=(-march=rv64gc -mabi=lp64d)
target_kernel_file=kernel.elf

# target_qemu KERNEL CPUS COMMAND_LINE: sets the array `qemu`.
target_qemu() {
  qemu=(qemu-system-riscv64 -machine virt -cpu rv64 -m 256M -smp "$2"
    -kernel "$1" -append "$3" -display none -serial stdio -no-reboot
    -monitor none -nic none)
}

# The test device passes the program's status on.
target_status() { echo "$1"; }
