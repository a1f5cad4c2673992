#include "guest/kernel/dma_held.h"

#include <stdbool.h>
#include <stddef.h>

#include "guest/kernel/boot_info.h"
#include "guest/kernel/dma.h"
#include "guest/kernel/edu.h"
#include "guest/kernel/errno.h"
#include "guest/kernel/heap.h"
#include "guest/kernel/lock.h"
#include "guest/kernel/mm.h"
#include "guest/kernel/printk.h"
#include "guest/kernel/proc.h"
#include "guest/kernel/vma.h"

#define MAP_MAX_PAGES 256u

/* One mapping of a program's. `block` and `gpa` have an entry a page: what is held, and what is
 * mapped, which differ where the program's pages are large. */
struct held {
    int pid;
    bool identity; /* RAM as it is: nothing is held */
    unsigned pages;
    uint64_t iova, len;
    struct held *next;
    uint64_t block[];
};

static struct lock held_lock;
static struct held *list;

static void add(struct held *h)
{
    lock_acquire(&held_lock);
    h->next = list;
    list = h;
    lock_release(&held_lock);
}

/* Takes one of the calling process's out of the list: an identity mapping, or that at *iova (NULL:
 * any). */
static struct held *take_out(bool identity, const uint64_t *iova)
{
    struct held **at, *h;
    int pid = proc_pid(proc_current());

    lock_acquire(&held_lock);
    for (at = &list; (h = *at) != NULL; at = &h->next)
        if (h->pid == pid && h->identity == identity && (!iova || h->iova == *iova))
            break;
    if (h)
        *at = h->next;
    lock_release(&held_lock);
    return h;
}

static void put_pages(struct held *h)
{
    for (unsigned i = 0; i < h->pages; i++)
        page_put(h->block[i]);
    kfree(h);
}

/* Unmaps, and lets go. Pages that the device may still reach stay held for ever. */
static int give_up(struct pci_device *d, struct held *h)
{
    int rc = dma_unmap(d, h->iova, h->len);

    if (rc != 0) {
        printk("edu: 0x%lx can't be unmapped, error %d: its pages are kept\n", h->iova, rc);
        return rc;
    }
    put_pages(h);
    return 0;
}

/* Holds the pages of [addr, addr + len) and notes where they are. */
static int hold_pages(struct held *h, uint64_t *gpa, uint64_t addr, uint64_t end, bool write)
{
    struct vm *vm = proc_vm(proc_current());

    for (addr &= -PAGE_SIZE; addr < end; addr += PAGE_SIZE) {
        uint64_t block, size;

        if (!vm_access(vm, addr, write) || !aspace_hold(vm->as, addr, &block, &size))
            return -EFAULT;
        h->block[h->pages] = block;
        gpa[h->pages++] = block + (addr & (size - 1) & -PAGE_SIZE);
    }
    return 0;
}

static int check_map(const struct sys_dma *a, uint64_t *end)
{
    if (a->flags & ~(SYS_DMA_READ | SYS_DMA_WRITE | SYS_DMA_AT) ||
        !(a->flags & (SYS_DMA_READ | SYS_DMA_WRITE)) || a->len == 0 ||
        (a->flags & SYS_DMA_AT && (a->iova == 0 || (a->iova ^ a->addr) % PAGE_SIZE)))
        return -EINVAL;
    if (__builtin_add_overflow(a->addr, a->len, end) || *end > VM_HIGHEST)
        return -EFAULT;
    if ((*end - (a->addr & -PAGE_SIZE) + PAGE_SIZE - 1) / PAGE_SIZE > MAP_MAX_PAGES)
        return -E2BIG;
    return vm_has_kind(proc_vm(proc_current()), a->addr, *end, VMA_SHARED) ? -EBUSY : 0;
}

int64_t held_map(struct pci_device *d, struct sys_dma *a)
{
    uint64_t end, at = a->flags & SYS_DMA_AT ? a->iova & -PAGE_SIZE : 0, *gpa;
    struct held *h;
    int rc = check_map(a, &end);

    if (rc != 0)
        return rc;
    h = kzalloc(sizeof *h + MAP_MAX_PAGES * sizeof h->block[0]);
    gpa = kmalloc(MAP_MAX_PAGES * sizeof gpa[0]);
    rc = h && gpa ? hold_pages(h, gpa, a->addr, end, a->flags & SYS_DMA_WRITE) : -ENOMEM;
    if (rc == 0) {
        h->pid = proc_pid(proc_current());
        h->len = h->pages * PAGE_SIZE;
        h->iova = dma_map_pages(d, at, gpa, h->pages,
                                (a->flags & SYS_DMA_READ ? DMA_READ : 0) |
                                    (a->flags & SYS_DMA_WRITE ? DMA_WRITE : 0),
                                &rc);
    }
    kfree(gpa);
    if (rc != 0) {
        if (h)
            put_pages(h);
        return rc;
    }
    a->iova = h->iova + a->addr % PAGE_SIZE;
    add(h);
    return 0;
}

int64_t held_unmap(struct pci_device *d, struct sys_dma *a)
{
    uint64_t iova = a->iova & -PAGE_SIZE;
    struct held *h = take_out(false, &iova);

    return h ? give_up(d, h) : -EINVAL;
}

static int identity_off(struct pci_device *d)
{
    struct held *h;
    int rc = 0;

    while (rc == 0 && (h = take_out(true, NULL)) != NULL)
        rc = give_up(d, h);
    return rc;
}

static int identity_range(struct pci_device *d, const struct mem_range *r)
{
    uint64_t start = (r->start + PAGE_SIZE - 1) & -PAGE_SIZE, end = r->end & -PAGE_SIZE;
    struct held *h;
    int rc;

    if (start == 0)
        start = PAGE_SIZE; /* iova 0 is none */
    if (r->type != MEM_RAM || start >= end)
        return 0;
    h = kzalloc(sizeof *h);
    if (!h)
        return -ENOMEM;
    *h = (struct held){
        .pid = proc_pid(proc_current()), .identity = true, .iova = start, .len = end - start
    };
    rc = dma_map_at(d, start, start, end - start, DMA_READ | DMA_WRITE);
    if (rc == 0)
        add(h);
    else
        kfree(h);
    return rc;
}

int64_t held_identity(struct pci_device *d, struct sys_dma *a)
{
    int rc = a->flags & ~SYS_DMA_OFF ? -EINVAL : 0;

    if (rc == 0 && a->flags & SYS_DMA_OFF)
        return identity_off(d);
    for (unsigned i = 0; i < boot_info.n_memory && rc == 0; i++)
        rc = identity_range(d, &boot_info.memory[i]);
    if (rc != 0 && rc != -EINVAL)
        (void)identity_off(d);
    return rc;
}

void held_end(void)
{
    struct held *h;

    if (!__atomic_load_n(&list, __ATOMIC_ACQUIRE))
        return;
    (void)identity_off(edu_device());
    while ((h = take_out(false, NULL)) != NULL)
        (void)give_up(edu_device(), h);
}
