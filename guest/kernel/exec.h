/*
 * Programs: static ELF64 files for x86-64.
 */
#ifndef GUEST_KERNEL_EXEC_H
#define GUEST_KERNEL_EXEC_H

#include <stdint.h>

#include "guest/kernel/initrd.h"
#include "guest/kernel/vma.h"

/*
 * Checks the whole file, then maps its segments into the empty `vm`. Returns 0 and the
 * entry point; -ENOEXEC with what is wrong in *why; or -ENOMEM.
 */
int exec_load(struct vm *vm, const struct initrd_file *file, uint64_t *entry, const char **why);

/*
 * Adds a stack with a guard page below it, and copies the block of arguments to its top.
 * Returns 0 and the block's user address, which is aligned to 16 and the stack's start too.
 */
int exec_stack(struct vm *vm, const char *args, uint64_t len, uint64_t *args_at);

#endif
