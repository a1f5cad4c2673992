/*
 * What stands in front of an unpacked kernel in a bzImage that has nothing to
 * unpack: enters long mode and jumps to the kernel's 64-bit entry.
 *
 * A boot loader enters here in 32-bit protected mode without paging, with the
 * flat segments 0x10 and 0x18 and %esi at the boot_params (Linux,
 * Documentation/x86/boot.rst, "32-bit Boot Protocol"). The 64-bit entry wants
 * paging with the first gigabytes mapped one to one, and boot_params in %rsi.
 *
 * FLAT_SIZE is the room before the kernel (tools/appliance/flat-kernel), KERNEL
 * the address that the kernel is linked to and has to be at.
 */
#define PML4 0x1000
#define PDPT 0x2000
#define PD   0x3000 /* four pages: 4 GiB in pages of 2 MiB */

        .code32
        .globl  _start
_start:
        cli
        cld
        /* Where are we? There is no stack yet: the last page of our room is one. */
        movl    $KERNEL, %esp
        call    1f
1:      popl    %ebp
        subl    $(1b - _start), %ebp
        cmpl    $(KERNEL - FLAT_SIZE), %ebp
        jne     wrong_address

        leal    PDPT + 3(%ebp), %eax
        movl    %eax, PML4(%ebp)
        leal    PD + 3(%ebp), %eax
        movl    $0, %ecx
2:      movl    %eax, PDPT(%ebp,%ecx,8)
        addl    $0x1000, %eax
        incl    %ecx
        cmpl    $4, %ecx
        jne     2b
        movl    $0x83, %eax             /* present, writable, 2 MiB */
        movl    $0, %ecx
3:      movl    %eax, PD(%ebp,%ecx,8)
        addl    $0x200000, %eax
        incl    %ecx
        cmpl    $2048, %ecx
        jne     3b

        /* Intel SDM vol. 3A, "Initializing IA-32e Mode": PAE, CR3, EFER.LME, paging. */
        movl    %cr4, %eax
        orl     $0x20, %eax
        movl    %eax, %cr4
        leal    PML4(%ebp), %eax
        movl    %eax, %cr3
        movl    $0xc0000080, %ecx
        rdmsr
        orl     $0x100, %eax
        wrmsr
        movl    %cr0, %eax
        orl     $0x80000001, %eax
        movl    %eax, %cr0

        leal    (gdt - _start)(%ebp), %eax
        movl    %eax, (gdt_pointer + 2 - _start)(%ebp)
        lgdt    (gdt_pointer - _start)(%ebp)
        leal    (long_mode - _start)(%ebp), %eax
        pushl   $0x10
        pushl   %eax
        lret

        .code64
long_mode:
        movl    $0x18, %eax
        movl    %eax, %ds
        movl    %eax, %es
        movl    %eax, %ss
        movl    %esi, %esi              /* clears the upper half */
        movl    $KERNEL, %eax
        jmp     *%rax

        .code32
wrong_address:
        leal    (message - _start)(%ebp), %esi
        movw    $0x3f8, %dx
4:      lodsb
        testb   %al, %al
        jz      5f
        outb    %al, %dx
        jmp     4b
5:      hlt
        jmp     5b

message:
        .asciz  "flat kernel: the boot loader put it at the wrong address\r\n"

        .balign 8
gdt:
        .quad   0, 0
        .quad   0x00af9a000000ffff      /* 0x10: 64-bit code */
        .quad   0x00cf92000000ffff      /* 0x18: data */
gdt_end:
gdt_pointer:
        .word   gdt_end - gdt - 1
        .long   0

        .org    FLAT_SIZE
