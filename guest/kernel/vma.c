#include "guest/kernel/vma.h"

#include "guest/kernel/errno.h"
#include "guest/kernel/heap.h"
#include "guest/kernel/proc.h"
#include "guest/kernel/string.h"
#include "guest/kernel/trap.h"
#include "guest/kernel/unified.h"
#include "guest/sys.h"

/* Pages that are supplied at once. */
#define MAX_RUN 512u

uint64_t vm_pte_flags(uint32_t prot)
{
    return (prot & SYS_PROT_WRITE ? PTE_WRITE : 0) | (prot & SYS_PROT_EXEC ? 0 : PTE_NX);
}

static uint64_t page_size_of(enum vma_kind kind)
{
    switch (kind) {
    case VMA_LARGE:
        return LARGE_SIZE;
    case VMA_HUGE:
        return HUGE_SIZE;
    default:
        return PAGE_SIZE;
    }
}

static uint64_t vma_page_size(const struct vma *a)
{
    return page_size_of(a->kind);
}

static bool prot_valid(uint32_t prot)
{
    if (prot & ~(SYS_PROT_READ | SYS_PROT_WRITE | SYS_PROT_EXEC))
        return false;
    return !(prot & SYS_PROT_WRITE && prot & SYS_PROT_EXEC);
}

static bool range_valid(uint64_t start, uint64_t end)
{
    return start < end && start >= VM_LOWEST && end <= VM_HIGHEST &&
           ((start | end) & (PAGE_SIZE - 1)) == 0;
}

static struct vma *vma_find(const struct vm *vm, uint64_t addr)
{
    for (struct vma *a = vm->list; a != NULL && a->start <= addr; a = a->next)
        if (addr < a->end)
            return a;
    return NULL;
}

void vm_set_kind(struct vm *vm, uint64_t start, enum vma_kind kind)
{
    struct vma *a = vma_find(vm, start);

    if (a != NULL && a->start == start)
        a->kind = kind;
}

bool vm_has_kind(const struct vm *vm, uint64_t start, uint64_t end, enum vma_kind kind)
{
    for (const struct vma *a = vm->list; a != NULL && a->start < end; a = a->next)
        if (a->end > start && a->kind == kind)
            return true;
    return false;
}

int vm_create(struct vm *vm)
{
    vm->list = NULL;
    vm->shared = false;
    vm->as = aspace_create();
    return vm->as != NULL ? 0 : -ENOMEM;
}

void vm_destroy(struct vm *vm)
{
    while (vm->list != NULL) {
        struct vma *a = vm->list;

        vm->list = a->next;
        kfree(a);
    }
    if (vm->as != NULL)
        aspace_destroy(vm->as);
    vm->as = NULL;
}

void vm_share(struct vm *vm, const struct vm *of)
{
    aspace_destroy(vm->as);
    vm->as = aspace_get(of->as);
    vm->shared = true;
}

int vm_add(struct vm *vm, uint64_t start, uint64_t end, uint32_t prot, enum vma_kind kind)
{
    struct vma **at = &vm->list, *a;

    if (vm->shared)
        return -EPERM;
    if (!range_valid(start, end))
        return -EINVAL;
    if ((start | end) & (page_size_of(kind) - 1))
        return -EINVAL;
    if (!prot_valid(prot))
        return -EACCES;
    while (*at != NULL && (*at)->end <= start)
        at = &(*at)->next;
    if (*at != NULL && (*at)->start < end)
        return -EEXIST;
    a = kmalloc(sizeof *a);
    if (a == NULL)
        return -ENOMEM;
    *a = (struct vma){ .start = start, .end = end, .prot = prot, .kind = kind, .next = *at };
    *at = a;
    return 0;
}

/* When memory is out, what ended processes have left is taken first. */
static uint64_t alloc_page(const struct vma *a, unsigned flags)
{
    unsigned order = (unsigned)__builtin_ctzl(vma_page_size(a)) - PAGE_SHIFT;
    uint64_t gpa = pmm_alloc(order, flags);

    if (gpa == 0) {
        proc_free_ended();
        gpa = pmm_alloc(order, flags);
    }
    return gpa;
}

static int supply_page(struct vm *vm, const struct vma *a, uint64_t gva)
{
    uint64_t size = vma_page_size(a);
    uint64_t gpa = alloc_page(a, PMM_ZERO);
    int rc;

    /* A page that was being moved (move.c) is there again once its tables can be looked at. */
    if (gpa == 0)
        return aspace_lookup(vm->as, gva, NULL, NULL) ? 0 : -ENOMEM;
    rc = aspace_map(vm->as, gva & -size, gpa, size, vm_pte_flags(a->prot));
    if (rc != 0)
        page_put(gpa);
    return rc == -EEXIST ? 0 : rc;
}

/*
 * Supplies up to MAX_RUN small pages at once, at most as many as `end` and the page table
 * allow. Returns the number of bytes, or 0 when it has to go page by page.
 */
static uint64_t supply_run(struct vm *vm, const struct vma *a, uint64_t gva, uint64_t end)
{
    uint64_t border = (gva & -LARGE_SIZE) + LARGE_SIZE;
    uint64_t n = ((end < border ? end : border) - gva) / PAGE_SIZE, gpa;
    unsigned order;

    if (vma_page_size(a) != PAGE_SIZE || n < 2)
        return 0;
    order = 63 - (unsigned)__builtin_clzl(n < MAX_RUN ? n : MAX_RUN);
    gpa = pmm_alloc_pages(order, PMM_ZERO);
    if (gpa == 0)
        return 0;
    if (aspace_map_pages(vm->as, gva, gpa, 1u << order, vm_pte_flags(a->prot)) == 0)
        return PAGE_SIZE << order;
    for (uint64_t i = 0; i < 1ul << order; i++)
        page_put(gpa + i * PAGE_SIZE);
    return 0;
}

int vm_populate(struct vm *vm, uint64_t start, uint64_t end)
{
    struct vma *a = vma_find(vm, start);
    int rc = 0;

    if (a == NULL || end > a->end)
        return -EINVAL;
    for (uint64_t gva = start; gva < end && rc == 0;) {
        uint64_t done = supply_run(vm, a, gva, end);

        if (done == 0) {
            rc = supply_page(vm, a, gva);
            done = vma_page_size(a);
        }
        gva += done;
    }
    return rc;
}

uint64_t vm_find_gap(const struct vm *vm, uint64_t len, uint64_t align)
{
    uint64_t at = VM_MMAP_BASE;

    for (const struct vma *a = vm->list; a != NULL; a = a->next) {
        if (a->end <= at)
            continue;
        if (a->start > at && a->start - at >= len)
            break;
        at = (a->end + align - 1) & -align;
    }
    return at < VM_HIGHEST && VM_HIGHEST - at >= len ? at : 0;
}

/* Makes `at` a border between two ranges if it lies inside one. */
static int split(struct vm *vm, uint64_t at)
{
    struct vma *a = vma_find(vm, at), *upper;

    if (a == NULL || a->start == at)
        return 0;
    if (at & (vma_page_size(a) - 1))
        return -EINVAL;
    upper = kmalloc(sizeof *upper);
    if (upper == NULL)
        return -ENOMEM;
    *upper = *a;
    upper->start = at;
    a->end = at;
    a->next = upper;
    return 0;
}

static int split_both(struct vm *vm, uint64_t start, uint64_t end)
{
    int rc = split(vm, start);

    return rc != 0 ? rc : split(vm, end);
}

int vm_unmap(struct vm *vm, uint64_t start, uint64_t end)
{
    struct vma **at = &vm->list;
    int rc;

    if (vm->shared)
        return -EPERM;
    if (!range_valid(start, end))
        return -EINVAL;
    if (vm_has_kind(vm, start, end, VMA_SHARED))
        return -EBUSY;
    rc = split_both(vm, start, end);
    if (rc != 0)
        return rc;
    while (*at != NULL && (*at)->start < end) {
        struct vma *a = *at;

        if (a->start < start) {
            at = &a->next;
            continue;
        }
        aspace_unmap(vm->as, a->start, a->end - a->start);
        *at = a->next;
        kfree(a);
    }
    return 0;
}

/* May the whole range be given this protection? */
static int check_protect(const struct vm *vm, uint64_t start, uint64_t end, uint32_t prot)
{
    for (uint64_t at = start; at < end;) {
        const struct vma *a = vma_find(vm, at);

        if (a == NULL)
            return -ENOMEM;
        if ((a->kind == VMA_IMAGE && prot & SYS_PROT_WRITE) || a->kind == VMA_SHARED)
            return -EACCES;
        /* Pages that are there can't be hidden; ranges without access never got any. */
        if (prot == SYS_PROT_NONE && a->prot != SYS_PROT_NONE)
            return -EINVAL;
        at = a->end;
    }
    return 0;
}

int vm_protect(struct vm *vm, uint64_t start, uint64_t end, uint32_t prot)
{
    int rc;

    if (vm->shared)
        return -EPERM;
    if (!range_valid(start, end))
        return -EINVAL;
    if (!prot_valid(prot))
        return -EACCES;
    rc = check_protect(vm, start, end, prot);
    if (rc == 0)
        rc = split_both(vm, start, end);
    for (struct vma *a = vm->list; rc == 0 && a != NULL && a->start < end; a = a->next) {
        if (a->start < start)
            continue;
        a->prot = prot;
        rc = aspace_protect(vm->as, a->start, a->end - a->start, vm_pte_flags(prot));
    }
    return rc;
}

bool vm_fault(struct vm *vm, uint64_t addr, uint64_t error)
{
    const struct vma *a = vma_find(vm, addr);

    /* A page that was being moved (move.c) is there again. */
    if (vm->shared)
        return !(error & PF_PRESENT) && aspace_lookup(vm->as, addr, NULL, NULL);
    if (a == NULL || a->prot == SYS_PROT_NONE || error & (PF_PRESENT | PF_RESERVED))
        return false;
    if (error & PF_WRITE && !(a->prot & SYS_PROT_WRITE))
        return false;
    if (error & PF_FETCH && !(a->prot & SYS_PROT_EXEC))
        return false;
    if (a->kind == VMA_SHARED)
        return unified_fault(vm, addr & -PAGE_SIZE);
    return supply_page(vm, a, addr) == 0;
}

bool vm_access(struct vm *vm, uint64_t addr, bool write)
{
    uint64_t entry;

    if (addr >= VM_HIGHEST)
        return false;
    if (aspace_lookup(vm->as, addr, &entry, NULL))
        return !write || entry & PTE_WRITE;
    return vm_fault(vm, addr, write ? PF_WRITE : 0);
}

/*
 * Gives `dst` its own copy of the page at gva, or a reference if nobody can ever write to it. Takes
 * over the caller's reference to `gpa`.
 */
static int clone_page(struct vm *dst, const struct vma *a, uint64_t gva, uint64_t gpa)
{
    uint64_t size = vma_page_size(a);
    int rc;

    if (a->kind != VMA_IMAGE) {
        uint64_t copy = alloc_page(a, 0);

        if (copy != 0)
            memcpy(phys_to_virt(copy), phys_to_virt(gpa), size);
        page_put(gpa);
        if (copy == 0)
            return -ENOMEM;
        gpa = copy;
    }
    rc = aspace_map(dst->as, gva, gpa, size, vm_pte_flags(a->prot));
    if (rc != 0)
        page_put(gpa);
    return rc;
}

int vm_clone(struct vm *dst, const struct vm *src)
{
    struct vma **at = &dst->list;
    uint64_t gpa, size;

    if (src->shared)
        return -EPERM;
    for (const struct vma *a = src->list; a != NULL; a = a->next) {
        struct vma *b;

        if (a->kind == VMA_SHARED)
            continue;
        b = kmalloc(sizeof *b);
        if (b == NULL)
            return -ENOMEM;
        *b = *a;
        b->next = NULL;
        *at = b;
        at = &b->next;
        if (a->prot == SYS_PROT_NONE)
            continue;
        for (uint64_t gva = a->start; gva < a->end; gva = (gva & -size) + size) {
            int rc = 0;

            if (aspace_hold(src->as, gva, &gpa, &size))
                rc = clone_page(dst, a, gva, gpa);
            if (rc != 0)
                return rc;
        }
    }
    return 0;
}
