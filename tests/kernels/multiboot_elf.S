/*
 * Checks all that a multiboot kernel is given: run it as multiboot_elf.elf with the
 * arguments "one two", with or without module.txt as initrd.
 */
#include "tests/kernels/common.inc"

#define FLAGS 0x00000003 /* modules on page boundaries, memory information */

	.section .multiboot, "a"
	.balign 4
	.long 0x1badb002, FLAGS, -(0x1badb002 + FLAGS)

	.text
	.globl _start
_start:
	mov $stack_end, %esp
	cld
	cmp $0x2badb002, %eax
	check e, "magic"
	mov (%ebx), %eax
	and $0x24d, %eax
	cmp $0x24d, %eax		/* memory, command line, modules, map, loader name */
	check e, "information: flags"
	cmpl $639, 4(%ebx)
	check e, "lower memory"
	cmpl $1024, 8(%ebx)
	check a, "upper memory"
	mov 16(%ebx), %esi
	mov $command_line, %edi
	call streq
	check e, "command line"
	mov 64(%ebx), %esi
	cmpl $0x666f7774, (%esi)	/* "twof" */
	check e, "name of the loader"
	call check_memory_map
	call check_module
	jmp pass

/* Entries in order, and the one that holds this code ends where upper memory does. */
check_memory_map:
	mov 48(%ebx), %edi
	mov 44(%ebx), %ecx
	xor %ebp, %ebp
	movl $0, found
1:	cmpl $20, (%edi)
	check e, "memory map: size of an entry"
	cmpl $0, 8(%edi)
	jne 3f
	cmp %ebp, 4(%edi)
	check ae, "memory map: overlap"
	mov 4(%edi), %ebp
	add 12(%edi), %ebp
	cmpl $1, 20(%edi)
	jne 3f
	cmpl $_start, 4(%edi)
	ja 3f
	cmpl $bss_end, %ebp
	jb 3f
	mov 8(%ebx), %eax
	shl $10, %eax
	add $0x100000, %eax
	cmp %ebp, %eax
	check e, "memory map: differs from upper memory"
	movl $1, found
	print "ram end "
	mov %ebp, %eax
	call puthex
	print "\n"
3:	add $24, %edi
	sub $24, %ecx
	ja 1b
	cmpl $1, found
	check e, "memory map: this code is in no RAM"
	ret

check_module:
	cmpl $0, 20(%ebx)
	je 1f
	cmpl $1, 20(%ebx)
	check e, "modules: more than one"
	mov 24(%ebx), %ebp
	mov (%ebp), %esi
	test $0xfff, %esi
	check z, "module: not page-aligned"
	cmpl $bss_end, (%ebp)
	check ae, "module: over the kernel"
	mov 4(%ebp), %ecx
	sub (%ebp), %ecx
	cmp $module_end - module, %ecx
	check e, "module: length"
	mov (%ebp), %esi
	mov $module, %edi
	repe cmpsb
	check e, "module: content"
	mov 8(%ebp), %esi
	mov $module_name, %edi
	call streq
	check e, "module: name"
	print "module\n"
1:	ret

	.data
command_line:
	.asciz "multiboot_elf.elf one two"
module_name:
	.asciz "module.txt"
module:
	.ascii "twofold test module\n"
module_end:

	.bss
found:
	.skip 4
	.balign 16
	.skip 4096
stack_end:
