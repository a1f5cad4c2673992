/*
 * The IOTLB: set-associative, an entry a leaf, the least recently used of a set makes room.
 */
#include "iommu/iommu_impl.h"

static const uint8_t shifts[IOTLB_SIZES] = { PAGE_SHIFT_4K, PAGE_SHIFT_2M, PAGE_SHIFT_1G };

static size_t size_of(unsigned shift)
{
    return shift == PAGE_SHIFT_4K ? 0 : shift == PAGE_SHIFT_2M ? 1 : 2;
}

static struct iotlb_entry *set_of(struct iotlb *t, uint32_t domain, uint64_t page)
{
    return t->entry[(page ^ page >> 6 ^ (uint64_t)domain * 7) % IOTLB_SETS];
}

const struct iotlb_entry *iotlb_find(struct iotlb *t, uint32_t domain, uint64_t iova)
{
    for (size_t s = 0; s < IOTLB_SIZES; s++) {
        uint64_t page = iova >> shifts[s];
        struct iotlb_entry *set;

        if (t->held[s] == 0)
            continue;
        set = set_of(t, domain, page);
        for (size_t way = 0; way < IOTLB_WAYS; way++) {
            struct iotlb_entry *e = &set[way];

            if (e->shift == shifts[s] && e->page == page && e->domain == domain) {
                e->used = ++t->clock;
                return e;
            }
        }
    }
    return NULL;
}

static void drop(struct iotlb *t, struct iotlb_entry *e)
{
    t->held[size_of(e->shift)]--;
    *e = (struct iotlb_entry){ 0 };
}

const struct iotlb_entry *iotlb_fill(struct iotlb *t, uint32_t domain, uint64_t iova,
                                     uint64_t output, unsigned shift, unsigned prot)
{
    struct iotlb_entry *set = set_of(t, domain, iova >> shift), *oldest = set;

    for (size_t way = 1; way < IOTLB_WAYS; way++)
        if (set[way].used < oldest->used)
            oldest = &set[way];
    if (oldest->shift)
        drop(t, oldest);
    *oldest = (struct iotlb_entry){ .page = iova >> shift,
                                    .output = output,
                                    .used = ++t->clock,
                                    .domain = domain,
                                    .shift = (uint8_t)shift,
                                    .prot = (uint8_t)prot };
    t->held[size_of(shift)]++;
    return oldest;
}

uint64_t iotlb_drop(struct iotlb *t, uint32_t domain, uint64_t first, uint64_t last)
{
    uint64_t dropped = 0;

    for (size_t i = 0; i < (size_t)IOTLB_SETS * IOTLB_WAYS; i++) {
        struct iotlb_entry *e = &t->entry[i / IOTLB_WAYS][i % IOTLB_WAYS];

        if (e->shift && e->domain == domain && e->page >= first >> e->shift &&
            e->page <= last >> e->shift) {
            drop(t, e);
            dropped++;
        }
    }
    return dropped;
}
