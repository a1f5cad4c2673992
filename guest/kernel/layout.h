/*
 * Where things are: kernel addresses, selectors, vectors, stack sizes. Plain
 * numbers, for C, assembly and the linker script alike. The table with the
 * reasons is in docs/guest.md, "Memory layout".
 */
#ifndef GUEST_KERNEL_LAYOUT_H
#define GUEST_KERNEL_LAYOUT_H

#ifdef __ASSEMBLER__
#define UL(n) n
#else
#define UL(n) n##UL
#endif

#define USER_TOP UL(0x00007ffffffff000) /* above user space; the last page stays out, */
                                        /* as a SYSCALL at its end would return to no address */
#define DIRECT_MAP     UL(0xffff880000000000) /* gpa 0; all RAM, read-write, NX */
#define KSTACK_BASE    UL(0xffffffff40000000) /* kernel stacks, each above a guard */
#define KERNEL_BASE    UL(0xffffffff80000000) /* gpa 0 as the image sees it */
#define KERNEL_PHYS    UL(0x200000)
#define MMIO_BASE      UL(0xffffffffc0000000) /* 2 MiB windows: IOAPIC, local APIC, others (mmio.h) */
#define TRAP_STUBS     UL(0xffffffff80200000) /* 256 stubs of TRAP_STUB_SIZE bytes */
#define TRAP_STUB_SIZE 16
#define TRAMPOLINE     0x8000 /* gpa of the APs' first instruction */

#define PAGE_SHIFT 12
#define PAGE_SIZE  UL(4096)
#define LARGE_SIZE UL(0x200000)
#define HUGE_SIZE  UL(0x40000000)

/* A kernel stack's slot: an unmapped half (the guard) and the stack above it. */
#define KSTACK_SIZE UL(0x4000)
#define KSTACK_SLOT UL(0x8000)

/*
 * A null entry first, and 32-bit code for the way up (KERNEL_CODE_32) and for SYSRET's layout.
 *
 * 0x23, 0x2b and 0x33 are Linux's own selectors of ring 3, so ours are others. Under shadow
 * paging this kernel runs in ring 3, and its IRETQ to a program must trap, as must each load of
 * such a selector: the monitor's GDT has nothing for the guest. But there is a KVM which itself
 * runs its guests in ring 3 of the host, and whose GDT has those three. There an IRETQ
 * to them would simply work, with the monitor none the wiser. (The TSS's entry takes the place.)
 */
#define SEL_KERNEL_CODE_32 0x08
#define SEL_KERNEL_CODE    0x10
#define SEL_KERNEL_DATA    0x18
#define SEL_TSS            0x20 /* two entries */
#define SEL_USER_CODE_32   0x3b /* SYSRET adds 8 for data, 16 for 64-bit code */
#define SEL_USER_DATA      0x43
#define SEL_USER_CODE      0x4b

#define VECTOR_IRQ_BASE   0x20 /* IOAPIC input n comes in at base + n */
#define VECTOR_MSI_BASE   0x40 /* of PCI devices, as pci_msi.c gives them out */
#define VECTOR_MSI_COUNT  0x80
#define VECTOR_WATCHED    0xe0 /* nobody's: dma_user.c counts what comes in */
#define VECTOR_TIMER      0xf0
#define VECTOR_RESCHEDULE 0xf1
#define VECTOR_TLB        0xf2
#define VECTOR_WAKE       0xf3 /* ends a HLT, nothing else */
#define VECTOR_SPURIOUS   0xff

#define MAX_CPUS 64

#endif
