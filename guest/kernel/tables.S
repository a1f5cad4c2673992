/*
 * The page tables that the kernel starts with, laid out by the assembler: not one
 * instruction is spent on them at boot. Runtime adds to them the RAM above the first
 * GiB (direct_map.c) and kernel stacks (kstack.c); the rest never changes.
 *
 *   kernel_pml4  272 -> direct_pdpt   0 -> direct_pd0    gpa 0 - 1 GiB, RW NX; text, rodata R NX
 *                511 -> kernel_pdpt 509 -> stack_pd      0 -> stack_pt0: the boot CPU's stacks
 *                                   510 -> kernel_pd     1 text RX, 2 rodata R NX, 3 data RW NX
 *                                   511 -> mmio_pd       0 IOAPIC, 1 local APIC; RW NX, uncached
 *   boot_pml4    the same, and 0 -> low_pdpt -> low_pd   gpa 0 - 4 MiB where it is, RX;
 *                                                        rodata (the first GDT), R NX
 *
 * A and D are set from the start, so the CPU has nothing to write.
 */
#include "guest/kernel/layout.h"

#define PHYS(symbol) (symbol - KERNEL_BASE)
#define DIRECT_SLOT  272                /* of DIRECT_MAP */
#define TABLE        0x23               /* present, writable, accessed */
#define RX           0x1a1              /* present, accessed, 2 MiB, global */
#define R            0x80000000000001a1 /* and NX */
#define RW           0x80000000000001e3 /* and writable, dirty */
#define RW_DEVICE    0x80000000000001fb /* and uncached */
#define RX_LOW       0xa1               /* not global: it goes away */
#define R_LOW        0x80000000000000a1
#define RW_4K        0x8000000000000163

    .section .data.tables, "aw"
    .balign 4096

    .globl kernel_pml4
kernel_pml4:
    .fill DIRECT_SLOT, 8, 0
    .quad PHYS(direct_pdpt) + TABLE
    .fill 510 - DIRECT_SLOT, 8, 0
    .quad PHYS(kernel_pdpt) + TABLE

    .globl boot_pml4
boot_pml4:
    .quad PHYS(low_pdpt) + TABLE
    .fill DIRECT_SLOT - 1, 8, 0
    .quad PHYS(direct_pdpt) + TABLE
    .fill 510 - DIRECT_SLOT, 8, 0
    .quad PHYS(kernel_pdpt) + TABLE

low_pdpt:
    .quad PHYS(low_pd) + TABLE
    .fill 511, 8, 0
low_pd:
    .quad 0x000000 + RX_LOW
    .quad 0x200000 + RX_LOW
    .quad 0x400000 + R_LOW
    .fill 509, 8, 0

    .globl direct_pdpt
direct_pdpt:
    .quad PHYS(direct_pd0) + TABLE
    .fill 511, 8, 0
direct_pd0:
    .quad 0x000000 + RW
    .quad 0x200000 + R
    .quad 0x400000 + R
    .set gpa, 0x600000
    .rept 509
    .quad gpa + RW
    .set gpa, gpa + 0x200000
    .endr

kernel_pdpt:
    .fill 509, 8, 0
    .quad PHYS(stack_pd) + TABLE
    .quad PHYS(kernel_pd) + TABLE
    .quad PHYS(mmio_pd) + TABLE
kernel_pd:
    .quad 0
    .quad 0x200000 + RX
    .quad 0x400000 + R
    .quad 0x600000 + RW
    .fill 508, 8, 0

    .globl mmio_pd
mmio_pd:
    .quad 0xfec00000 + RW_DEVICE
    .quad 0xfee00000 + RW_DEVICE
    .fill 510, 8, 0

    .globl stack_pd
stack_pd:
    .quad PHYS(stack_pt0) + TABLE
    .fill 511, 8, 0

/* Slots 0 to 3: the boot CPU's own stack and those of #DF, NMI and #MC. */
stack_pt0:
    .set page, 0
    .rept 4
    .fill 4, 8, 0
    .rept 4
    .quad PHYS(boot_stacks) + page * 4096 + RW_4K
    .set page, page + 1
    .endr
    .endr
    .fill 480, 8, 0

    .section .bss
    .balign 4096
boot_stacks:
    .skip 4 * KSTACK_SIZE

/*
 * The IDT. The stubs lie at a fixed address, so it is data too. Vector 2, 8 and 18
 * have stacks of their own; a program may raise 3 (INT3) and 4 (INTO).
 */
    .section .rodata.idt, "a"
    .balign 16
    .globl idt
idt:
    .set vector, 0
    .rept 256
    .set ist, 0
    .set type, 0x8e
    .if vector == 8
    .set ist, 1
    .elseif vector == 2
    .set ist, 2
    .elseif vector == 18
    .set ist, 3
    .elseif vector == 3 || vector == 4
    .set type, 0xee
    .endif
    .set stub, 0x80200000 + vector * TRAP_STUB_SIZE
    .short stub & 0xffff
    .short SEL_KERNEL_CODE
    .byte ist, type
    .short stub >> 16
    .long 0xffffffff, 0
    .set vector, vector + 1
    .endr
    .section .note.GNU-stack, "", @progbits
