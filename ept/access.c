#include "ept/access.h"

#include "ept/entry.h"
#include "ept/rules.h"

static const struct pt_rule_set *rules_of(const struct pt_format *format)
{
    switch (format->rules) {
    case PT_RULES_X86:
        break;
    case PT_RULES_EPT:
        return &pt_rule_set_ept;
    case PT_RULES_NPT:
        return &pt_rule_set_npt;
    case PT_RULES_VTD:
        return &pt_rule_set_vtd;
    }
    return &pt_rule_set_x86;
}

static unsigned rights_of(const struct pt_space *space, const struct pt_walk *walk)
{
    unsigned rights = PT_RIGHT_ALL;

    for (unsigned i = 0; i < walk->count; i++)
        rights &= pt_entry_rights(space, walk->ref[i].level, walk->ref[i].raw);
    return rights;
}

/* Accessed in each entry that was used, dirty in the leaf; only what is not set yet. */
static void mark(const struct pt_space *space, bool write, struct pt_walk *walk)
{
    const struct pt_format *format = space->format;

    if (!space->policy.ad)
        return;
    for (unsigned i = 0; i < walk->count; i++) {
        struct pt_ref *ref = &walk->ref[i];

        if (format->level[ref->level].plain)
            continue;
        ref->set = format->accessed;
        if (write && i + 1 == walk->count)
            ref->set |= format->dirty;
        ref->set &= ~ref->raw;
    }
}

enum pt_fault pt_access(const struct pt_space *space, uint64_t input,
                        const struct pt_access *access, pt_read read, void *ctx,
                        struct pt_walk *out)
{
    const struct pt_rule_set *rules = rules_of(space->format);

    if (pt_walk(space, input, read, ctx, out) == PT_OK) {
        out->rights = rights_of(space, out);
        if (out->count > 0)
            out->fault = rules->check(space, access, out);
    }
    if (out->fault == PT_OK)
        mark(space, rules->writes(space, access), out);
    else
        out->error_code = rules->error(space, access, out);
    return out->fault;
}

static bool swap(void *place, unsigned bytes, uint64_t from, uint64_t to)
{
    uint32_t low = (uint32_t)from;

    if (bytes == 4)
        return __atomic_compare_exchange_n((uint32_t *)place, &low, (uint32_t)to, false,
                                           __ATOMIC_SEQ_CST, __ATOMIC_RELAXED);
    return __atomic_compare_exchange_n((uint64_t *)place, &from, to, false, __ATOMIC_SEQ_CST,
                                       __ATOMIC_RELAXED);
}

bool pt_mark(const struct pt_walk *walk, unsigned entry_bytes, const struct pt_marker *marker)
{
    for (unsigned i = 0; i < walk->count; i++) {
        const struct pt_ref *ref = &walk->ref[i];
        void *place;

        if (ref->set == 0)
            continue;
        place = marker->place(marker->ctx, ref->at, entry_bytes);
        if (!place || !swap(place, entry_bytes, ref->raw, ref->raw | ref->set))
            return false;
        if (marker->wrote)
            marker->wrote(marker->ctx, ref->at, entry_bytes);
    }
    return true;
}

const char *pt_op_name(enum pt_op op)
{
    switch (op) {
    case PT_READ:
        return "read";
    case PT_WRITE:
        return "write";
    case PT_EXEC:
        return "execute";
    }
    return "unknown";
}
