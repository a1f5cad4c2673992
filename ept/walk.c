#include "ept/walk.h"

#include <string.h>

#include "ept/entry.h"

enum pt_fault pt_walk(const struct pt_space *space, uint64_t input, pt_read read, void *ctx,
                      struct pt_walk *out)
{
    const struct pt_format *format = space->format;
    uint64_t table = space->root & format->root_addr;

    memset(out, 0, sizeof(*out));
    if (!pt_input_fits(format, input))
        return out->fault = PT_NON_CANONICAL;
    if (format->levels == 0) {
        out->output = input;
        out->shift = format->input_bits;
        return PT_OK;
    }
    for (unsigned n = format->levels; n > 0; n--) {
        const struct pt_level *level = &format->level[n];
        struct pt_ref *ref = &out->ref[out->count++];

        out->level = ref->level = n;
        ref->at = table + pt_index(level, input) * format->entry_bytes;
        if (read(ctx, ref->at, format->entry_bytes, &ref->raw) < 0) {
            ref->raw = 0;
            return out->fault = PT_READ_FAILED;
        }
        switch (pt_entry_kind(space, n, ref->raw)) {
        case PT_ENTRY_NONE:
            return out->fault = PT_NOT_PRESENT;
        case PT_ENTRY_RESERVED:
            return out->fault = format->rules == PT_RULES_EPT ? PT_MISCONFIG : PT_RESERVED;
        case PT_ENTRY_LEAF:
            out->output = pt_leaf_output(level, ref->raw, input);
            out->shift = level->shift;
            return PT_OK;
        case PT_ENTRY_TABLE:
            table = ref->raw & format->table_addr;
        }
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
