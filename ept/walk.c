#include "ept/walk.h"

#include <string.h>

static bool input_fits(const struct pt_format *format, uint64_t input)
{
    unsigned above = 64 - format->input_bits;
    uint64_t repeated = (uint64_t)((int64_t)(input << above) >> above);

    if (above == 0)
        return true;
    return format->sign_extended ? repeated == input : input >> format->input_bits == 0;
}

static bool is_leaf(const struct pt_level *level, uint64_t raw)
{
    return level->leaf == PT_LEAF_ALWAYS ||
           (level->leaf == PT_LEAF_BIT && (raw & level->leaf_bit) != 0);
}

static uint64_t leaf_output(const struct pt_level *level, uint64_t raw, uint64_t input)
{
    uint64_t offset = input & ((UINT64_C(1) << level->shift) - 1);

    return (raw & level->leaf_addr) | (raw & level->leaf_high) << level->leaf_high_shift | offset;
}

enum pt_fault pt_walk(const struct pt_space *space, uint64_t input, pt_read read, void *ctx,
                      struct pt_walk *out)
{
    const struct pt_format *format = space->format;
    uint64_t table = space->root & format->root_addr;

    memset(out, 0, sizeof(*out));
    if (!input_fits(format, input))
        return out->fault = PT_NON_CANONICAL;
    if (format->levels == 0) {
        out->output = input;
        out->shift = format->input_bits;
        return PT_OK;
    }
    for (unsigned n = format->levels; n > 0; n--) {
        const struct pt_level *level = &format->level[n];
        uint64_t index = input >> level->shift & ((UINT64_C(1) << level->bits) - 1);
        struct pt_ref *ref = &out->ref[out->count++];
        bool leaf;

        out->level = ref->level = n;
        ref->at = table + index * format->entry_bytes;
        if (read(ctx, ref->at, format->entry_bytes, &ref->raw) < 0) {
            ref->raw = 0;
            return out->fault = PT_READ_FAILED;
        }
        if ((ref->raw & format->present) == 0)
            return out->fault = PT_NOT_PRESENT;
        leaf = is_leaf(level, ref->raw);
        if (ref->raw & (space->reserved[n] | (leaf ? level->leaf_reserved | space->leaf_reserved[n]
                                                   : level->table_reserved)))
            return out->fault = PT_RESERVED;
        if (leaf) {
            out->output = leaf_output(level, ref->raw, input);
            out->shift = level->shift;
            return PT_OK;
        }
        table = ref->raw & format->table_addr;
    }
    /* A format whose level 1 is no leaf: none that we have, and no way to go on. */
    return out->fault = PT_RESERVED;
}

const char *pt_fault_name(enum pt_fault fault)
{
    switch (fault) {
    case PT_OK:
        return "mapped";
    case PT_NOT_PRESENT:
        return "not present";
    case PT_RESERVED:
        return "reserved bit set";
    case PT_NON_CANONICAL:
        return "not canonical";
    case PT_READ_FAILED:
        return "table outside of RAM";
    case PT_PROTECTION:
        return "protection violation";
    case PT_KEY:
        return "protection key";
    case PT_MISCONFIG:
        return "misconfigured";
    }
    return "unknown";
}
