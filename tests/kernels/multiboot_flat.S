/*
 * A multiboot kernel whose header has its own addresses: as multiboot_flat.bin there is
 * no ELF header at all.
 */
#include "tests/kernels/common.inc"

#define FLAGS 0x00010000

	.section .multiboot, "a"
	.balign 4
header:
	.long 0x1badb002, FLAGS, -(0x1badb002 + FLAGS)
	.long header			/* header_addr */
	.long header			/* load_addr */
	.long image_end			/* load_end_addr */
	.long bss_end			/* bss_end_addr */
	.long _start			/* entry_addr */

	.text
	.globl _start
_start:
	mov $stack_end, %esp
	cmp $0x2badb002, %eax
	check e, "magic"
	cmpl $0x74736574, last_word
	check e, "the image is not loaded to its end"
	mov $bss_start, %edi
	mov $16, %ecx
	xor %eax, %eax
	repe scasl
	check e, "bss is not zero"
	jmp pass

	.data
	.skip 5000
last_word:
	.ascii "test"

	.bss
bss_start:
	.skip 64
	.balign 16
	.skip 4096
stack_end:
