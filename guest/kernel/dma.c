/*
 * Domains and iovas: each device behind the IOMMU has a domain of its own, with the mappings in a
 * list by address. Iovas are handed out upwards, and begin where no RAM is, so that a device which
 * is given a gpa by mistake reaches nothing.
 */
#include "guest/kernel/dma.h"

#include "guest/kernel/boot_info.h"
#include "guest/kernel/errno.h"
#include "guest/kernel/heap.h"
#include "guest/kernel/lock.h"
#include "guest/kernel/mm.h"
#include "guest/kernel/once.h"
#include "guest/kernel/printk.h"
#include "guest/kernel/virtio_iommu.h"

#define RESERVED_MAX 8
#define GUARD        PAGE_SIZE /* nothing is ever mapped between two that were asked for */

struct mapping {
    uint64_t iova, len; /* whole pages */
    unsigned access;
    bool settled; /* false: the IOMMU has not answered yet, or it is going */
    struct mapping *next;
};

struct domain {
    const struct pci_device *device; /* NULL ends the list */
    struct mapping *list;
    uint64_t next;           /* where the search for a free iova begins */
    uint64_t kept, kept_len; /* by dma_keep() */
    struct viommu_reserved reserved[RESERVED_MAX];
    unsigned n_reserved;
    uint32_t id;
};

static struct lock dma_lock; /* lists of mappings; never held while a request waits */
static struct domain domains[PCI_DEVICES_MAX + 1];
static struct viommu_limits limits;
static uint64_t first_iova;

static struct domain *domain_of(const struct pci_device *d)
{
    for (struct domain *m = domains; m->device; m++)
        if (m->device == d)
            return m;
    return NULL;
}

bool dma_translated(const struct pci_device *d)
{
    return domain_of(d) != NULL;
}

/* 4 GiB, or the next multiple of it that has all RAM below. */
static uint64_t choose_first_iova(void)
{
    uint64_t ram = 0;

    for (unsigned i = 0; i < boot_info.n_memory; i++)
        if (boot_info.memory[i].type == MEM_RAM && boot_info.memory[i].end > ram)
            ram = boot_info.memory[i].end;
    return (ram + 4 * HUGE_SIZE) & -(4 * HUGE_SIZE);
}

static int add_domain(struct domain *m, const struct pci_device *d, uint32_t id)
{
    int rc = viommu_probe(d->bdf, m->reserved, RESERVED_MAX, &m->n_reserved);

    if (rc == 0)
        rc = viommu_attach(id, d->bdf);
    if (rc != 0)
        return rc;
    m->id = id;
    m->next = first_iova;
    m->device = d;
    return 0;
}

static void attach_all(void)
{
    struct domain *m = domains;
    int rc = viommu_init(&limits);

    if (rc == -ENOENT)
        return;
    if (rc != 0) {
        printk("iommu: can't be used, error %d\n", rc);
        return;
    }
    first_iova = choose_first_iova();
    for (unsigned i = 0; i < pci_count(); i++) {
        const struct pci_device *d = pci_get(i);

        if (d == viommu_device())
            continue;
        rc = add_domain(m, d, limits.first_domain + 1 + i);
        if (rc == 0)
            m++;
        else if (rc != -ENOENT) /* that one does not stand behind it */
            printk("iommu: %02x:%02x.%u can't be attached, error %d\n", d->bdf >> 8,
                   d->bdf >> 3 & 31, d->bdf & 7, rc);
    }
}

void dma_init(void)
{
    static struct once once;

    if (!once_begin(&once))
        return;
    attach_all();
    once_done(&once);
}

/* --- mappings -------------------------------------------------------------------------- */

/* Where the range that something reserved takes ends; 0: it meets none. */
static uint64_t meets_reserved(const struct domain *m, uint64_t iova, uint64_t last)
{
    for (unsigned i = 0; i < m->n_reserved; i++)
        if (iova <= m->reserved[i].end && m->reserved[i].start <= last)
            return m->reserved[i].end;
    return 0;
}

/* The first mapping that ends above `iova`. */
static struct mapping *mapping_above(const struct domain *m, uint64_t iova)
{
    struct mapping *a = m->list;

    while (a && a->iova + (a->len - 1) < iova)
        a = a->next;
    return a;
}

/* Puts *a in its place; -EEXIST, -EINVAL when the IOMMU could not have it. */
static int insert(struct domain *m, struct mapping *a)
{
    uint64_t last = a->iova + (a->len - 1);
    const struct mapping *other = mapping_above(m, a->iova);
    struct mapping **at = &m->list;

    if (last < a->iova || a->iova < limits.first || last > limits.last ||
        meets_reserved(m, a->iova, last))
        return -EINVAL;
    if (other && other->iova <= last)
        return -EEXIST;
    while (*at && (*at)->iova < a->iova)
        at = &(*at)->next;
    a->next = *at;
    *at = a;
    return 0;
}

/* A free place from `from` on for len bytes and a guard, or 0. */
static uint64_t find_gap(const struct domain *m, uint64_t from, uint64_t len)
{
    uint64_t last;

    for (;;) {
        const struct mapping *a = mapping_above(m, from);
        uint64_t reserved;

        if (from < first_iova || __builtin_add_overflow(from, len + GUARD - 1, &last) ||
            last > limits.last)
            return 0;
        reserved = meets_reserved(m, from, last);
        if (reserved)
            from = (reserved & -PAGE_SIZE) + PAGE_SIZE;
        else if (from < m->kept + m->kept_len && m->kept <= last)
            from = m->kept + m->kept_len + GUARD;
        else if (a && a->iova <= last)
            from = a->iova + a->len + GUARD;
        else
            return from;
    }
}

/*
 * Chooses the iova, if a->iova is 0. Upwards from the last one, and from the beginning once the end
 * was reached: one that was unmapped is not used again soon, so that a device which still uses it
 * is caught.
 */
static int place(struct domain *m, struct mapping *a)
{
    int rc;

    lock_acquire(&dma_lock);
    if (a->iova == 0) {
        a->iova = find_gap(m, m->next, a->len);
        if (a->iova == 0)
            a->iova = find_gap(m, first_iova, a->len);
        if (a->iova)
            m->next = a->iova + a->len + GUARD;
    }
    rc = a->iova ? insert(m, a) : -ENOMEM;
    lock_release(&dma_lock);
    return rc;
}

static void take_out(struct domain *m, struct mapping *a)
{
    struct mapping **at = &m->list;

    lock_acquire(&dma_lock);
    while (*at && *at != a)
        at = &(*at)->next;
    if (*at)
        *at = a->next;
    lock_release(&dma_lock);
    kfree(a);
}

/* Tells the IOMMU: `n` pieces of `each` bytes, at consecutive iovas. */
static int tell(const struct domain *m, const struct mapping *a, const uint64_t *gpa, unsigned n,
                uint64_t each)
{
    int rc = 0;

    for (unsigned i = 0, run; i < n && rc == 0; i += run) {
        run = 1;
        while (i + run < n && gpa[i + run] == gpa[i] + run * each)
            run++;
        rc = viommu_map(m->id, a->iova + i * each, gpa[i], run * each, a->access);
    }
    if (rc != 0)
        (void)viommu_unmap(m->id, a->iova, a->len); /* what was mapped of it before */
    return rc;
}

/* All aligned; iova 0: chosen here. Gives it, or 0 with *error. */
static uint64_t map_pieces(struct domain *m, uint64_t iova, const uint64_t *gpa, unsigned n,
                           uint64_t each, unsigned access, int *error)
{
    struct mapping *a = kzalloc(sizeof *a);
    int rc = -ENOMEM;

    if (a) {
        *a = (struct mapping){ .iova = iova, .len = n * each, .access = access };
        rc = place(m, a);
        if (rc != 0)
            kfree(a);
    }
    if (rc != 0) {
        *error = rc;
        return 0;
    }
    iova = a->iova;
    rc = tell(m, a, gpa, n, each);
    if (rc != 0)
        take_out(m, a);
    else
        __atomic_store_n(&a->settled, true, __ATOMIC_RELEASE);
    *error = rc;
    return rc == 0 ? iova : 0;
}

static bool valid(uint64_t gpa, uint64_t len, unsigned access)
{
    uint64_t end;

    return len != 0 && access && !(access & ~(DMA_READ | DMA_WRITE)) &&
           !__builtin_add_overflow(gpa, len, &end) && end <= UINT64_MAX - PAGE_SIZE;
}

uint64_t dma_map(struct pci_device *d, uint64_t gpa, uint64_t len, unsigned access, int *error)
{
    struct domain *m = domain_of(d);
    uint64_t offset = gpa % PAGE_SIZE, iova;

    *error = valid(gpa, len, access) ? 0 : -EINVAL;
    if (*error != 0)
        return 0;
    if (!m)
        return gpa;
    len = (offset + len + PAGE_SIZE - 1) & -PAGE_SIZE;
    gpa -= offset;
    iova = map_pieces(m, 0, &gpa, 1, len, access, error);
    return iova ? iova + offset : 0;
}

int dma_map_at(struct pci_device *d, uint64_t iova, uint64_t gpa, uint64_t len, unsigned access)
{
    struct domain *m = domain_of(d);
    int rc;

    if (!valid(gpa, len, access) || (iova | gpa | len) % PAGE_SIZE || iova == 0)
        return -EINVAL;
    if (!m)
        return iova == gpa ? 0 : -ENODEV; /* there is nothing that could translate */
    (void)map_pieces(m, iova, &gpa, 1, len, access, &rc);
    return rc;
}

uint64_t dma_map_pages(struct pci_device *d, uint64_t iova, const uint64_t *gpa, unsigned n,
                       unsigned access, int *error)
{
    struct domain *m = domain_of(d);

    *error = n != 0 && iova % PAGE_SIZE == 0 ? 0 : -EINVAL;
    for (unsigned i = 0; i < n && *error == 0; i++) {
        if (gpa[i] % PAGE_SIZE || !valid(gpa[i], PAGE_SIZE, access))
            *error = -EINVAL;
        else if (!m && (gpa[i] != gpa[0] + i * PAGE_SIZE || (iova && iova != gpa[0])))
            *error = -ENODEV;
    }
    if (*error != 0)
        return 0;
    return m ? map_pieces(m, iova, gpa, n, PAGE_SIZE, access, error) : gpa[0];
}

uint64_t dma_keep(struct pci_device *d, uint64_t len)
{
    struct domain *m = domain_of(d);
    uint64_t iova = 0;

    if (!m)
        return 0;
    lock_acquire(&dma_lock);
    if (m->kept_len == 0)
        iova = find_gap(m, m->next, len);
    if (iova) {
        m->kept = iova;
        m->kept_len = len;
        m->next = iova + len + GUARD;
    }
    lock_release(&dma_lock);
    return iova;
}

void dma_keep_no_more(struct pci_device *d)
{
    lock_acquire(&dma_lock);
    domain_of(d)->kept_len = 0;
    lock_release(&dma_lock);
}

int dma_unmap(struct pci_device *d, uint64_t iova, uint64_t len)
{
    struct domain *m = domain_of(d);
    struct mapping *a;
    int rc;

    if (!m)
        return 0;
    len = (iova % PAGE_SIZE + len + PAGE_SIZE - 1) & -PAGE_SIZE;
    iova &= -PAGE_SIZE;
    lock_acquire(&dma_lock);
    a = mapping_above(m, iova);
    rc = a && a->settled && a->iova == iova && a->len == len ? 0 : -ENOENT;
    if (rc == 0)
        a->settled = false; /* ours from here on */
    lock_release(&dma_lock);
    if (rc != 0)
        return rc;
    rc = viommu_unmap(m->id, iova, len);
    if (rc == 0)
        take_out(m, a);
    return rc;
}

const char *dma_why_blocked(uint16_t bdf, uint64_t iova)
{
    const struct domain *m = domains;
    const char *why = "not mapped";
    const struct mapping *a;

    while (m->device && m->device->bdf != bdf)
        m++;
    if (!m->device)
        return "no domain";
    if (meets_reserved(m, iova, iova))
        return "reserved";
    lock_acquire(&dma_lock);
    a = mapping_above(m, iova);
    if (a && a->iova <= iova)
        why = a->access & DMA_READ ? "mapped read-only" : "mapped write-only";
    lock_release(&dma_lock);
    return why;
}
