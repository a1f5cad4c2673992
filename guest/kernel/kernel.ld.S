/*
 * The kernel's image: text, rodata and data in 2 MiB pages of their own, so that each
 * page has exactly the rights that its contents need, also in the direct map.
 */
#include "guest/kernel/layout.h"

OUTPUT_FORMAT(elf64-x86-64)
ENTRY(pvh_entry_gpa)

PHDRS
{
    text PT_LOAD FLAGS(5);
    rodata PT_LOAD FLAGS(4);
    data PT_LOAD FLAGS(6);
    note PT_NOTE FLAGS(4);
    stack PT_GNU_STACK FLAGS(6);
}

SECTIONS
{
    . = KERNEL_BASE + KERNEL_PHYS;
    kernel_start = .;
    .text : AT(ADDR(.text) - KERNEL_BASE) {
        *(.text.stubs)
        *(.text.boot)
        *(.text .text.*)
    } :text
    text_end = .;

    . = ALIGN(LARGE_SIZE);
    rodata_start = .;
    .note : AT(ADDR(.note) - KERNEL_BASE) { *(.note.Xen) } :rodata :note
    .rodata : AT(ADDR(.rodata) - KERNEL_BASE) {
        *(.rodata.idt)
        *(.rodata .rodata.*)
        . = ALIGN(8);
        extable_start = .;
        KEEP(*(.extable))
        extable_end = .;
        smap_sites = .;
        KEEP(*(.smap_sites))
        smap_sites_end = .;
        . = ALIGN(4096);
        KEEP(*(.initrd))
        . = ALIGN(8);
        KEEP(*(.ksyms))
    } :rodata
    rodata_end = .;

    . = ALIGN(LARGE_SIZE);
    data_start = .;
    .data : AT(ADDR(.data) - KERNEL_BASE) {
        *(.data.tables)
        *(.data .data.*)
    } :data
    .bss : AT(ADDR(.bss) - KERNEL_BASE) {
        *(.bss .bss.*)
        *(COMMON)
    } :data
    kernel_end = .;

    /DISCARD/ : { *(.comment) *(.eh_frame) *(.note.GNU-stack) *(.note.gnu.property) }
}

pvh_entry_gpa = pvh_entry - KERNEL_BASE;

ASSERT(trap_stubs == TRAP_STUBS, "the trap stubs are not where the IDT expects them")
ASSERT(rodata_start == KERNEL_BASE + 0x400000, "text is larger than its 2 MiB page")
ASSERT(data_start == KERNEL_BASE + 0x600000, "rodata is larger than its 2 MiB page")
ASSERT(kernel_end <= KERNEL_BASE + 0x800000, "data is larger than its 2 MiB page")
