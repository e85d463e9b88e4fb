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

qemu_machine() {
  qemu=(qemu-system-x86_64 -machine q35 -cpu max -m 256M -smp "$1"
    -display none -serial stdio -no-reboot -monitor none -nic none
    -device "isa-debug-exit,iobase=0xf4,iosize=4")
}

# target_qemu KERNEL CPUS COMMAND_LINE: sets the array `qemu`.
target_qemu() {
  qemu_machine "$2"
  qemu+=(-vga none -kernel "$1" -append "$3")
}

# grub_entry TITLE COMMAND_LINE
grub_entry() {
  printf 'menuentry "%s" {\n  multiboot2 /boot/kernel.elf %s\n}\n' "$1" "$2"
}

# target_iso KERNEL FILE COMMAND_LINE: an image that BIOS and UEFI start, from a
# CD drive or a disk.  A command line without run= becomes a menu.
target_iso() {
  local folder=$2.folder name
  need grub-common grub-efi-amd64-bin grub-pc-bin mtools xorriso
  rm -rf "$folder"
  mkdir -p "$folder/boot/grub"
  cp "$1" "$folder/boot/kernel.elf"
  {
    if [[ " $3" == *' run='* ]]; then
      printf 'set timeout=0\n'
      grub_entry start "$3"
    else
      printf 'serial --unit=0 --speed=115200\n'
      printf 'terminal_input console serial\nterminal_output console serial\n'
      while read -r name _; do
        grub_entry "$name" "$3 run=$name"
      done < <(list_programs)
    fi
  } >"$folder/boot/grub/grub.cfg"
  grub-mkrescue -o "$2" "$folder" --locales= --fonts= >"$2.log" 2>&1 ||
    die "image: no ISO image; $2.log says why"
}

# target_qemu_iso ISO CPUS iso|usb bios|uefi
target_qemu_iso() {
  qemu_machine "$2"
  if [[ $4 == uefi ]]; then
    need ovmf
    qemu+=(-bios /usr/share/ovmf/OVMF.fd)
  fi
  if [[ $3 == usb ]]; then
    qemu+=(-device qemu-xhci -device "usb-storage,drive=stick"
      -drive "if=none,id=stick,format=raw,readonly=on,file=$1")
  else
    qemu+=(-cdrom "$1")
  fi
}

# target_run_bochs ISO CPUS SECONDS: prints the console; the status is the worst
# that a program ended with.  Bochs has no exit status to give.
target_run_bochs() {
  local folder=$1.bochs status=0
  need bochs bochs-term bochsbios vgabios
  rm -rf "$folder"
  mkdir -p "$folder"
  cat >"$folder/options" <<END
cpu: model=corei7_skylake_x, count=$2, ips=100000000
memory: guest=256, host=256
romimage: file=/usr/share/bochs/BIOS-bochs-latest
vgaromimage: file=/usr/share/bochs/VGABIOS-lgpl-latest
ata0-master: type=cdrom, path=$1, status=inserted
boot: cdrom
com1: enabled=1, mode=file, dev=$folder/console
display_library: term
log: $folder/log
panic: action=fatal
END
  printf 'c\nq\n' >"$folder/commands"
  TERM=vt100 timeout -s KILL "$3" bochs-bin -q -f "$folder/options" \
    -rc "$folder/commands" </dev/null >"$folder/screen" 2>&1 || status=$?
  [[ $status -ne 137 ]] || return 124
  cat "$folder/console" || return 255
  awk '/^space .* ended with status / { n = 1; if ($6 + 0 > worst) worst = $6 + 0 }
    END { exit n == 0 ? 255 : worst }' "$folder/console"
}

# isa-debug-exit turns status s into 2 s + 1; 127 stands for what is higher.
target_status() {
  if (($1 % 2 == 0 || $1 == 255)); then echo 255; else echo $((($1 - 1) / 2)); fi
}
