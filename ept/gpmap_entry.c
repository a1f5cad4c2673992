#include "ept/gpmap_entry.h"

static const struct {
    unsigned flag;
    uint64_t bit;
} flag_bits[] = {
    { GP_NODUMP, GP_ENTRY_NODUMP },   { GP_ACCESSED, GP_ENTRY_ACCESSED },
    { GP_DIRTY, GP_ENTRY_DIRTY },     { GP_LOCKED, GP_ENTRY_LOCKED },
    { GP_WATCHED, GP_ENTRY_WATCHED }, { GP_LEARNED, GP_ENTRY_LEARNED },
};

#define FLAG_BITS (sizeof(flag_bits) / sizeof(flag_bits[0]))

static uint64_t flags_encode(unsigned flags)
{
    uint64_t raw = 0;

    for (unsigned i = 0; i < FLAG_BITS; i++)
        if (flags & flag_bits[i].flag)
            raw |= flag_bits[i].bit;
    return raw;
}

static unsigned flags_decode(uint64_t raw)
{
    unsigned flags = 0;

    for (unsigned i = 0; i < FLAG_BITS; i++)
        if (raw & flag_bits[i].bit)
            flags |= flag_bits[i].flag;
    return flags;
}

void gp_normalize(struct gp_page *page)
{
    bool leaf = gp_is_leaf(page->state);

    page->flags &= GP_FLAGS;
    page->payload &= GP_PAYLOAD_MAX;
    if (leaf || page->state == GP_UNTOUCHED)
        page->payload = 0;
    if (page->state != GP_GUARDED)
        page->was = GP_UNTOUCHED;
    if (!leaf && page->state != GP_GUARDED)
        page->shift = PAGE_SHIFT_4K;
    page->shift = page->shift >= PAGE_SHIFT_1G   ? PAGE_SHIFT_1G
                  : page->shift >= PAGE_SHIFT_2M ? PAGE_SHIFT_2M
                                                 : PAGE_SHIFT_4K;
}

uint64_t gp_leaf_bits(const struct gp_page *page)
{
    uint64_t rights = page->state == GP_PRESENT ? GP_ENTRY_RWX : EPT_READ | EPT_EXEC;

    return rights | GP_ENTRY_WB | flags_encode(page->flags) |
           (uint64_t)page->backing << GP_ENTRY_BACKING;
}

uint64_t gp_reason(const struct gp_page *page)
{
    uint64_t raw = (uint64_t)page->state << GP_ENTRY_STATE | flags_encode(page->flags) |
                   (uint64_t)((page->shift - PAGE_SHIFT_4K) / 9) << GP_ENTRY_SIZE |
                   page->payload << PAGE_SHIFT_4K | (uint64_t)page->was << GP_ENTRY_WAS;

    /* Of an untouched page the entry stays 0, so that large parts need no entries at all. */
    return raw == 0 ? 0 : raw | (uint64_t)page->backing << GP_ENTRY_BACKING;
}

void gpmap_decode(uint64_t raw, unsigned level, struct gp_page *out)
{
    unsigned size = PAGE_SHIFT_4K + 9 * (level - 1), was;

    *out = (struct gp_page){ .flags = flags_decode(raw), .backing = raw >> GP_ENTRY_BACKING & 7 };
    if ((raw & GP_ENTRY_RWX) != 0) {
        out->state = raw & EPT_WRITE ? GP_PRESENT : GP_ZERO;
        out->shift = size;
        out->hva.v = raw & GP_ADDR;
        return;
    }
    out->state = (enum gp_state)(raw >> GP_ENTRY_STATE & 7);
    out->payload = (raw & GP_ADDR) >> PAGE_SHIFT_4K;
    out->was = (enum gp_state)(raw >> GP_ENTRY_WAS & 7);
    /* Cut since it was guarded, it isn't as large any more. */
    was = PAGE_SHIFT_4K + 9 * (unsigned)(raw >> GP_ENTRY_SIZE & 3);
    out->shift = was < size ? was : size;
}

const char *gp_state_name(enum gp_state state)
{
    switch (state) {
    case GP_UNTOUCHED:
        return "untouched";
    case GP_PRESENT:
        return "present";
    case GP_ZERO:
        return "zero";
    case GP_GUARDED:
        return "guarded";
    case GP_BALLOONED:
        return "ballooned";
    case GP_COMPRESSED:
        return "compressed";
    case GP_SWAPPED:
        return "swapped";
    case GP_STATES:
        break;
    }
    return "unknown";
}
