# shellcheck shell=bash disable=SC2034
# SPDX-License-Identifier: BSL-1.0
# Sourced by tools/image.sh: how this target is compiled and run.
target_packages=(g++-12 qemu-system-x86)
target_cxx=g++-12
target_objcopy=objcopy
target_flags=(-fcf-protection=none)
target_kernel_flags=(-mgeneral-regs-only -mno-red-zone -mcmodel=small)
target_user_flags=(-fPIE)
target_kernel_file=kernel.elf

# target_qemu KERNEL CPUS COMMAND_LINE: sets the array `qemu`.
target_qemu() {
  qemu=(qemu-system-x86_64 -machine q35 -cpu max -m 256M -smp "$2"
    -kernel "$1" -append "$3" -display none -serial stdio -no-reboot
    -monitor none -device "isa-debug-exit,iobase=0xf4,iosize=4")
}

# isa-debug-exit turns status s into 2 s + 1.
target_status() {
  if (($1 % 2 == 1)); then echo $((($1 - 1) / 2)); else echo 255; fi
}
