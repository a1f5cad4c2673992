#include "guest/kernel/unified.h"

#include <stddef.h>

#include "guest/abi.h"
#include "guest/kernel/dma.h"
#include "guest/kernel/edu.h"
#include "guest/kernel/errno.h"
#include "guest/kernel/mm.h"
#include "guest/kernel/mmio.h"
#include "guest/kernel/printk.h"
#include "guest/kernel/proc.h"
#include "guest/kernel/string.h"
#include "guest/kernel/usercopy.h"
#include "guest/kernel/vma.h"

#define PAGES_MAX 256u

static uint32_t taken; /* somebody has the range below */
static struct {
    int pid; /* 0 until all is filled */
    struct pci_device *device;
    uint64_t start, iova;     /* of the range, for the program and for the device */
    volatile uint8_t *memory; /* the device's */
    uint64_t memory_gpa;
    bool on_device[PAGES_MAX];
    struct sys_dma_shared stat;
} shared;

static bool is_mine(void)
{
    return shared.pid != 0 && shared.pid == proc_pid(proc_current());
}

/* --- moving a page ------------------------------------------------------------------------ */

/* By this CPU, through the BAR: the device is in the middle of a transfer, and waits. */
static void copy_to_device(uint64_t page, const uint64_t *from)
{
    volatile uint8_t *to = shared.memory + page * PAGE_SIZE;

    for (unsigned i = 0; i < PAGE_SIZE; i += 8)
        mmio_write64(to + i, from[i / 8]);
    shared.stat.to_device += PAGE_SIZE;
}

/* By the device itself, as it is idle: one transfer instead of a read for each word. */
static int copy_from_device(uint64_t gpa, uint64_t page)
{
    struct edu_transfer t = {
        .len = PAGE_SIZE, .offset = page * PAGE_SIZE, .to_memory = true, .own_memory = true
    };
    uint32_t result = TF_EDU_OK;
    int rc;

    t.iova = dma_map(shared.device, gpa, PAGE_SIZE, DMA_WRITE, &rc);
    if (!t.iova)
        return rc;
    rc = edu_transfer(&t, &result);
    if (dma_unmap(shared.device, t.iova, PAGE_SIZE) != 0 || rc != 0 || result != TF_EDU_OK)
        return -EIO;
    shared.stat.from_device += PAGE_SIZE;
    return 0;
}

static int map_for_device(uint64_t page)
{
    return dma_map_at(shared.device, shared.iova + page * PAGE_SIZE,
                      shared.memory_gpa + page * PAGE_SIZE, PAGE_SIZE, DMA_READ | DMA_WRITE);
}

/*
 * First the program loses the page, then its content is copied, then the device gets it: at no time
 * can both reach it. The program is waiting in its system call, but what it waits for may be
 * killed.
 */
static bool to_device(struct vm *vm, uint64_t page)
{
    uint64_t gva = shared.start + page * PAGE_SIZE, gpa, size;

    if (!aspace_hold(vm->as, gva, &gpa, &size))
        return false;
    (void)aspace_unmap(vm->as, gva, PAGE_SIZE);
    copy_to_device(page, phys_to_virt(gpa));
    if (map_for_device(page) != 0) {
        if (aspace_map(vm->as, gva, gpa, PAGE_SIZE, PTE_WRITE | PTE_NX) != 0)
            page_put(gpa); /* the program dies of it when it goes there */
        return false;
    }
    page_put(gpa);
    shared.on_device[page] = true;
    shared.stat.on_device++;
    return true;
}

/* The same the other way; what the device has begun is finished when dma_unmap() returns. */
static bool from_device(struct vm *vm, uint64_t page)
{
    uint64_t gva = shared.start + page * PAGE_SIZE, gpa = pmm_alloc(0, 0);

    if (!gpa)
        return false;
    if (dma_unmap(shared.device, shared.iova + page * PAGE_SIZE, PAGE_SIZE) != 0) {
        page_put(gpa);
        return false;
    }
    if (copy_from_device(gpa, page) != 0 ||
        aspace_map(vm->as, gva, gpa, PAGE_SIZE, PTE_WRITE | PTE_NX) != 0) {
        /* The page stays where it is. That in RAM is lost: the device may have it still. */
        (void)map_for_device(page);
        return false;
    }
    shared.on_device[page] = false;
    shared.stat.on_device--;
    return true;
}

bool unified_fault(struct vm *vm, uint64_t gva)
{
    uint64_t page = (gva - shared.start) / PAGE_SIZE;

    if (!is_mine() || gva < shared.start || page >= shared.stat.pages)
        return false;
    if (!shared.on_device[page])
        return aspace_lookup(vm->as, gva, NULL, NULL); /* it was being moved within RAM */
    shared.stat.faults++;
    return from_device(vm, page);
}

bool unified_request(uint64_t iova, bool write)
{
    uint64_t page = (iova - shared.iova) / PAGE_SIZE;

    (void)write; /* a page that the device has it may read and write */
    if (!is_mine() || iova < shared.iova || page >= shared.stat.pages || shared.on_device[page])
        return false;
    shared.stat.requests++;
    return to_device(proc_vm(proc_current()), page);
}

/* --- the range ----------------------------------------------------------------------------- */

/* Memory of the program's, all of it there. */
static int add_memory(uint64_t len, uint64_t *start)
{
    struct vm *vm = proc_vm(proc_current());
    int rc;

    *start = vm_find_gap(vm, len, PAGE_SIZE);
    if (*start == 0)
        return -ENOMEM;
    rc = vm_add(vm, *start, *start + len, SYS_PROT_READ | SYS_PROT_WRITE, VMA_ANON);
    if (rc != 0)
        return rc;
    rc = vm_populate(vm, *start, *start + len);
    if (rc != 0)
        (void)vm_unmap(vm, *start, *start + len);
    else
        vm_set_kind(vm, *start, VMA_SHARED);
    return rc;
}

static int fill(struct pci_device *d, uint64_t len)
{
    int rc;

    memset(&shared, 0, sizeof shared);
    shared.device = d;
    shared.memory = edu_memory(&shared.memory_gpa);
    shared.iova = dma_keep(d, len);
    if (!shared.iova)
        return -ENOENT; /* without an IOMMU no page is ever missing */
    rc = add_memory(len, &shared.start);
    if (rc != 0) {
        dma_keep_no_more(d);
        return rc;
    }
    shared.stat.pages = len / PAGE_SIZE;
    shared.pid = proc_pid(proc_current());
    return 0;
}

int64_t unified_share(struct pci_device *d, struct sys_dma *a)
{
    struct edu_info info;
    int rc;

    edu_info(&info);
    if (!(info.features & TF_EDU_HAS_REQUESTS) || info.device_bytes == 0)
        return -ENOENT;
    if (a->len == 0 || a->len % PAGE_SIZE || a->len > PAGES_MAX * PAGE_SIZE ||
        a->len > info.device_bytes)
        return -EINVAL;
    if (__atomic_exchange_n(&taken, 1, __ATOMIC_ACQUIRE))
        return -EBUSY;
    rc = fill(d, a->len);
    if (rc != 0) {
        __atomic_store_n(&taken, 0, __ATOMIC_RELEASE);
        return rc;
    }
    a->addr = shared.start;
    a->iova = shared.iova;
    return 0;
}

int64_t unified_unshare(void)
{
    struct vm *vm = proc_vm(proc_current());
    uint64_t len = shared.stat.pages * PAGE_SIZE;
    int rc = 0;

    if (!is_mine())
        return -EINVAL;
    for (uint64_t page = 0; page < shared.stat.pages; page++)
        if (shared.on_device[page] &&
            dma_unmap(shared.device, shared.iova + page * PAGE_SIZE, PAGE_SIZE) != 0)
            rc = -EIO;
    if (rc != 0) {
        /* The device has some of them still: nobody gets this range again. */
        printk("edu: shared memory at 0x%lx can't be taken back\n", shared.iova);
        shared.pid = 0;
        return rc;
    }
    vm_set_kind(vm, shared.start, VMA_ANON);
    (void)vm_unmap(vm, shared.start, shared.start + len);
    dma_keep_no_more(shared.device);
    shared.pid = 0;
    __atomic_store_n(&taken, 0, __ATOMIC_RELEASE);
    return 0;
}

int64_t unified_shared(const struct sys_dma *a)
{
    if (!is_mine())
        return -EINVAL;
    if (a->len < sizeof shared.stat)
        return -EINVAL;
    return copy_to_user(a->addr, &shared.stat, sizeof shared.stat);
}

void unified_end(void)
{
    if (is_mine())
        (void)unified_unshare();
}
