# The first sector of a disk that a BIOS boots: it reads the second one and prints the text in it on the serial line.
.code16
.globl start
start:
    xor %ax, %ax
    mov %ax, %ds
    mov %ax, %es
    mov %ax, %ss
    mov $0x7c00, %sp
    mov $packet, %si
    mov $0x42, %ah          # extended read; the drive is in %dl
    int $0x13
    mov $failed, %si
    jc print
    mov $0x8000, %si
print:
    mov $0x3f8, %dx
next:
    lodsb
    test %al, %al
    jz done
    out %al, %dx
    jmp next
done:
    mov $0xf4, %dx          # isa-debug-exit: QEMU ends with 2 * 16 + 1
    mov $0x10, %al
    out %al, %dx
halt:
    hlt
    jmp halt
failed:
    .asciz "cannot read the disk"
packet:
    .byte 16, 0
    .word 1                 # sectors
    .word 0x8000, 0         # to
    .quad 1                 # from
.org 510
    .word 0xaa55
.asciz "booted from the disk"
.org 1024
