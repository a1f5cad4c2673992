/*
 * What a process may have in its address space: a sorted list of ranges (VMAs)
 * with their protection. The page tables below hold what is there already; a page
 * of a range that is missing is supplied, zeroed, when it is touched.
 *
 * The list belongs to one process of one thread, so nothing here takes a lock. Who shares the
 * address space of another (SYS_SHARE) has no list: it finds what is there, and changes nothing.
 */
#ifndef GUEST_KERNEL_VMA_H
#define GUEST_KERNEL_VMA_H

#include <stdbool.h>
#include <stdint.h>

#include "guest/kernel/mm.h"

/* Text starts at 4 MiB (guest/user/lib/user.ld); below 64 KiB nothing is ever mapped. */
#define VM_LOWEST    UL(0x10000)
#define VM_STACK_TOP UL(0x40000000)
#define VM_STACK_MAX UL(0x40000) /* the guard page is below it */
#define VM_MMAP_BASE UL(0x1000000000)
/* Ends before the last page of the lower half (layout.h). */
#define VM_HIGHEST USER_TOP

enum vma_kind {
    VMA_ANON,  /* pages of its own */
    VMA_LARGE, /* 2 MiB pages of its own */
    VMA_HUGE,  /* 1 GiB pages of its own */
    VMA_IMAGE, /* read-only parts of a program: never writable, so forks share the pages */
    /* Shared with a device (unified.h), which takes pages away. Nobody else unmaps it or changes
     * its protection, and a fork has nothing there. */
    VMA_SHARED,
};

struct vma {
    uint64_t start, end;
    uint32_t prot; /* SYS_PROT_* */
    enum vma_kind kind;
    struct vma *next;
};

struct vm {
    struct aspace *as;
    struct vma *list; /* by address, without overlap */
    bool shared;      /* the address space is that of another process, which has the list */
};

/* Returns 0 or -ENOMEM. vm_destroy() also takes one whose vm_create() failed. */
int vm_create(struct vm *vm);
void vm_destroy(struct vm *vm); /* the address space must not be current for this process */

/* Gives `vm`, which is empty, the address space of `of`. From then on, all that would change
 * something returns -EPERM. */
void vm_share(struct vm *vm, const struct vm *of);

/* Adds a range. Returns 0, -EEXIST if something is there, -EINVAL, -ENOMEM. */
int vm_add(struct vm *vm, uint64_t start, uint64_t end, uint32_t prot, enum vma_kind kind);

/* Supplies the missing pages of [start, end), which lies in one range. 0 or -ENOMEM. */
int vm_populate(struct vm *vm, uint64_t start, uint64_t end);

/* Lowest free address for `len` bytes in the mmap area, or 0. */
uint64_t vm_find_gap(const struct vm *vm, uint64_t len, uint64_t align);

/* Removes all in the range, whatever is there. 0, -EINVAL, -ENOMEM; -EBUSY: some of it is
 * VMA_SHARED. */
int vm_unmap(struct vm *vm, uint64_t start, uint64_t end);

/*
 * Changes the protection of the range, which must be mapped as a whole. Returns 0, -ENOMEM if
 * it isn't or memory is out, -EACCES for pages that can't be made so, -EINVAL.
 */
int vm_protect(struct vm *vm, uint64_t start, uint64_t end, uint32_t prot);

/*
 * A page fault of the process (PF_* bits in `error`). True: the page is there now;
 * false: the access is not allowed.
 */
bool vm_fault(struct vm *vm, uint64_t addr, uint64_t error);

/* Makes sure that the process itself could read (write) the byte at `addr`. */
bool vm_access(struct vm *vm, uint64_t addr, bool write);

/* Makes the range that starts at `start` one of another kind. */
void vm_set_kind(struct vm *vm, uint64_t start, enum vma_kind kind);
/* Is there anything of this kind in [start, end)? */
bool vm_has_kind(const struct vm *vm, uint64_t start, uint64_t end, enum vma_kind kind);

/* Copies all of `src` into the empty `dst`. 0, -ENOMEM, or -EPERM. */
int vm_clone(struct vm *dst, const struct vm *src);

/* Page-table flags for a protection. */
uint64_t vm_pte_flags(uint32_t prot);

#endif
