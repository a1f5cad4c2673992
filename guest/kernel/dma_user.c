#include "guest/kernel/dma_user.h"

#include <stddef.h>

#include "guest/abi.h"
#include "guest/kernel/apic.h"
#include "guest/kernel/boot_info.h"
#include "guest/kernel/cpu.h"
#include "guest/kernel/dma.h"
#include "guest/kernel/dma_fault.h"
#include "guest/kernel/dma_held.h"
#include "guest/kernel/edu.h"
#include "guest/kernel/errno.h"
#include "guest/kernel/mm.h"
#include "guest/kernel/printk.h"
#include "guest/kernel/proc.h"
#include "guest/kernel/string.h"
#include "guest/kernel/unified.h"
#include "guest/kernel/usercopy.h"
#include "guest/kernel/vma.h"

#define DEVICES_BELOW_4G 0xc0000000ull /* RAM ends there at the latest (docs/memory-map.md) */
#define MSI_WINDOW       0xfee00000ull
#define VICTIM_WORD      0x7469666f6c64ull /* times the number of the word, odd: each differs */
#define PLACE_ORDER_MAX  8

static uint64_t watched;
static uint64_t victim; /* gpa of the kernel's page that nobody uses */

void dma_user_watched(void)
{
    __atomic_fetch_add(&watched, 1, __ATOMIC_RELAXED);
}

/* --- where things are ------------------------------------------------------------------------- */

static uint64_t ram_end_below(uint64_t limit)
{
    uint64_t end = 0;

    for (unsigned i = 0; i < boot_info.n_memory; i++) {
        const struct mem_range *r = &boot_info.memory[i];

        if (r->type == MEM_RAM && r->end <= limit && r->end > end)
            end = r->end;
    }
    return end;
}

static bool in_ram(uint64_t gpa, uint64_t len)
{
    for (unsigned i = 0; i < boot_info.n_memory; i++) {
        const struct mem_range *r = &boot_info.memory[i];

        if (r->type == MEM_RAM && gpa >= r->start && gpa < r->end && len <= r->end - gpa)
            return true;
    }
    return false;
}

/* Some way behind the end of RAM, as tables of the firmware may come first. */
static uint64_t nowhere(void)
{
    uint64_t end = ram_end_below(DEVICES_BELOW_4G);

    if (end > DEVICES_BELOW_4G - 4 * LARGE_SIZE)
        end = ram_end_below(UINT64_MAX);
    return (end & -LARGE_SIZE) + 2 * LARGE_SIZE;
}

static int64_t op_info(struct pci_device *d, struct sys_dma *a)
{
    struct sys_dma_info out = { 0 };
    struct edu_info edu;

    if (a->len < sizeof out)
        return -EINVAL;
    edu_info(&edu);
    out.translated = dma_translated(d);
    out.features = edu.features;
    out.results = edu.results;
    out.transfer_max = edu.transfer_max;
    out.device_bytes = edu.device_bytes;
    out.interrupts = edu.interrupts;
    out.vectors = edu.vectors;
    out.faults = dma_faults();
    out.watched = __atomic_load_n(&watched, __ATOMIC_RELAXED);
    out.ram_end = ram_end_below(UINT64_MAX);
    out.nowhere = nowhere();
    out.msi_addr = MSI_WINDOW | (uint64_t)cpus[0]->apic_id << 12;
    out.msi_data = VECTOR_WATCHED;
    kformat(out.device, sizeof out.device, "%02x:%02x.%u %04x:%04x", d->bdf >> 8, d->bdf >> 3 & 31,
            d->bdf & 7, d->vendor, d->id);
    return copy_to_user(a->addr, &out, sizeof out);
}

static int64_t op_faults(struct pci_device *d, struct sys_dma *a)
{
    struct sys_dma_fault f = { .number = a->value };
    int64_t n = 0;

    (void)d;
    for (uint64_t left = a->len; left >= sizeof f && dma_fault_after(f.number, &f);) {
        if (copy_to_user(a->addr + (uint64_t)n * sizeof f, &f, sizeof f) != 0)
            return -EFAULT;
        left -= sizeof f;
        n++;
    }
    return n;
}

static int64_t op_peek(struct pci_device *d, struct sys_dma *a)
{
    (void)d;
    if (a->len > PAGE_SIZE || !in_ram(a->iova, a->len) || !direct_map_need(a->iova, a->len))
        return -EINVAL;
    return copy_to_user(a->addr, phys_to_virt(a->iova), a->len);
}

static int64_t op_victim(struct pci_device *d, struct sys_dma *a)
{
    uint64_t *word, none = 0, page = __atomic_load_n(&victim, __ATOMIC_ACQUIRE);

    (void)d;
    if (!page) {
        page = pmm_alloc(0, 0);
        if (!page)
            return -ENOMEM;
        if (!__atomic_compare_exchange_n(&victim, &none, page, false, __ATOMIC_ACQ_REL,
                                         __ATOMIC_ACQUIRE)) {
            pmm_free(page);
            page = none;
        }
    }
    word = phys_to_virt(page);
    for (uint64_t i = 0; i < PAGE_SIZE / 8; i++)
        word[i] = VICTIM_WORD * (2 * i + 1);
    a->iova = page;
    return 0;
}

/* --- a page at a place of the caller's choice ----------------------------------------------------
 */

/*
 * Allocates blocks of an order until one lies in the range; the others are chained through their
 * first words meanwhile. 0: none is free there.
 */
static uint64_t block_within(uint64_t start, uint64_t end, unsigned order)
{
    uint64_t others = 0, block;

    while ((block = pmm_alloc(order, 0)) != 0) {
        if (block >= start && block + (PAGE_SIZE << order) <= end)
            break;
        *(uint64_t *)phys_to_virt(block) = others;
        others = block;
    }
    while (others) {
        uint64_t next = *(uint64_t *)phys_to_virt(others);

        pmm_free(others);
        others = next;
    }
    return block;
}

/*
 * A page in the range, as the first of a block: larger blocks are fewer to go through. The rest of
 * the block goes unused with it, a sixteenth of the range at most.
 */
static uint64_t page_within(uint64_t start, uint64_t end)
{
    unsigned order = PLACE_ORDER_MAX;
    uint64_t block = 0;

    while (order > 0 && (PAGE_SIZE << order) * 16 > end - start)
        order--;
    do
        block = block_within(start, end, order);
    while (!block && order-- > 0);
    return block;
}

static int64_t op_place(struct pci_device *d, struct sys_dma *a)
{
    struct vm *vm = proc_vm(proc_current());
    uint64_t end, entry, size, gpa;
    int rc;

    (void)d;
    if (a->addr % PAGE_SIZE || __builtin_add_overflow(a->iova, a->len, &end) ||
        !in_ram(a->iova, a->len))
        return -EINVAL;
    if (!vm_access(vm, a->addr, true) || !aspace_lookup(vm->as, a->addr, &entry, &size))
        return -EFAULT;
    if (size != PAGE_SIZE || vm_has_kind(vm, a->addr, a->addr + PAGE_SIZE, VMA_SHARED))
        return -EINVAL;
    gpa = page_within(a->iova, end);
    if (!gpa)
        return -ENOMEM;
    memset(phys_to_virt(gpa), 0, PAGE_SIZE);
    rc = aspace_unmap(vm->as, a->addr, PAGE_SIZE);
    if (rc == 0)
        rc = aspace_map(vm->as, a->addr, gpa, PAGE_SIZE, PTE_WRITE | PTE_NX);
    if (rc != 0)
        page_put(gpa);
    a->value = gpa;
    return rc;
}

static int64_t op_gpa(struct pci_device *d, struct sys_dma *a)
{
    struct vm *vm = proc_vm(proc_current());
    uint64_t gpa, size;

    (void)d;
    if (!vm_access(vm, a->addr, false) || !aspace_hold(vm->as, a->addr, &gpa, &size))
        return -EFAULT;
    page_put(gpa);
    a->value = gpa + (a->addr & (size - 1));
    return 0;
}

/* --- the device
 * ------------------------------------------------------------------------------------ */

static int64_t op_transfer(struct pci_device *d, struct sys_dma *a)
{
    struct edu_transfer t = { .iova = a->iova,
                              .len = a->len,
                              .offset = a->offset,
                              .to_memory = a->flags & SYS_DMA_TO_MEMORY,
                              .own_memory = a->flags & SYS_DMA_OWN_MEMORY };
    uint32_t result = 0;
    int rc;

    (void)d;
    if (a->flags & ~(SYS_DMA_TO_MEMORY | SYS_DMA_OWN_MEMORY | SYS_DMA_PAGE_REQUESTS))
        return -EINVAL;
    if (a->flags & SYS_DMA_PAGE_REQUESTS)
        t.page_request = unified_request;
    rc = edu_transfer(&t, &result);
    a->value = result;
    return rc;
}

static int64_t op_raise(struct pci_device *d, struct sys_dma *a)
{
    int64_t bits;

    (void)d;
    if (a->value == 0 || a->value > UINT32_MAX)
        return -EINVAL;
    bits = edu_raise((uint32_t)a->value, &a->len);
    a->value = bits < 0 ? 0 : (uint64_t)bits;
    return bits < 0 ? bits : 0;
}

static int64_t op_compute(struct pci_device *d, struct sys_dma *a)
{
    int64_t value;

    (void)d;
    if (a->value > UINT32_MAX)
        return -EINVAL;
    value = edu_factorial((uint32_t)a->value);
    a->value = value < 0 ? 0 : (uint64_t)value;
    return value < 0 ? value : 0;
}

static int64_t op_live(struct pci_device *d, struct sys_dma *a)
{
    (void)d;
    if (a->value > UINT32_MAX)
        return -EINVAL;
    a->value = edu_live((uint32_t)a->value);
    return 0;
}

/* The vector that is watched, for once from here: so one sees that it would be noticed. */
static int64_t op_watch(struct pci_device *d, struct sys_dma *a)
{
    (void)d;
    (void)a;
    apic_ipi(0, VECTOR_WATCHED);
    return 0;
}

static int64_t op_unshare(struct pci_device *d, struct sys_dma *a)
{
    (void)d;
    (void)a;
    return unified_unshare();
}

static int64_t op_shared(struct pci_device *d, struct sys_dma *a)
{
    (void)d;
    return unified_shared(a);
}

static int64_t (*const ops[])(struct pci_device *d, struct sys_dma *a) = {
    [SYS_DMA_INFO] = op_info,         [SYS_DMA_MAP] = held_map,
    [SYS_DMA_UNMAP] = held_unmap,     [SYS_DMA_IDENTITY] = held_identity,
    [SYS_DMA_TRANSFER] = op_transfer, [SYS_DMA_FAULTS] = op_faults,
    [SYS_DMA_RAISE] = op_raise,       [SYS_DMA_COMPUTE] = op_compute,
    [SYS_DMA_LIVE] = op_live,         [SYS_DMA_WATCH] = op_watch,
    [SYS_DMA_PEEK] = op_peek,         [SYS_DMA_VICTIM] = op_victim,
    [SYS_DMA_PLACE] = op_place,       [SYS_DMA_GPA] = op_gpa,
    [SYS_DMA_SHARE] = unified_share,  [SYS_DMA_UNSHARE] = op_unshare,
    [SYS_DMA_SHARED] = op_shared,
};

int64_t dma_user(struct sys_dma *a)
{
    struct pci_device *d;

    if (a->op >= sizeof ops / sizeof ops[0])
        return -EINVAL;
    d = edu_device();
    return d ? ops[a->op](d, a) : -ENOENT;
}

void dma_user_end(void)
{
    unified_end();
    held_end();
}
