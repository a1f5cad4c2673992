#include "ept/nested.h"

#include <string.h>

#include "ept/entry.h"

/*
 * The guest's walk is pt_access() with a reader that sends each address through the host's
 * tables first. So it is the reader that goes down a column:
 *
 *   pt_access(guest) -> read_guest_entry(gpa) -> pt_access(host, gpa) -> read_host_entry() ...
 *                                             -> space->read_guest(host address)
 */
struct walker {
    const struct nested_space *space;
    const struct pt_access *access;
    struct nested_walk *out;
};

static void add_ref(struct nested_walk *out, enum pt_dim dim, unsigned column,
                    const struct pt_ref *ref, uint64_t host_at)
{
    out->ref[out->count++] =
        (struct nested_ref){ .dim = dim, .column = column, .ref = *ref, .host_at = host_at };
}

static void refuse(struct nested_walk *out, enum pt_fault fault, enum pt_dim dim, unsigned column,
                   uint64_t error_code)
{
    out->fault = fault;
    out->fault_dim = dim;
    out->fault_column = column;
    out->error_code = error_code;
}

/* `user` is what EPT's mode-based execution asks: does the guest give the page to ring 3? NPT takes
 * all accesses for those of a user by itself. */
static struct pt_access table_access(enum pt_op op)
{
    return (struct pt_access){ .op = op, .for_table = true };
}

static struct pt_access page_access(const struct walker *w)
{
    return (struct pt_access){ .op = w->access->op,
                               .user = (w->out->guest.rights & PT_RIGHT_USER) != 0 };
}

/* Goes down one more column. False when the host refuses, which *out then tells. */
static bool translate(struct walker *w, uint64_t gpa, struct pt_access access)
{
    const struct nested_space *space = w->space;
    struct nested_walk *out = w->out;
    unsigned column = out->columns++;
    struct pt_walk *host = &out->host[column];

    out->column_gpa[column] = gpa;
    if (space->host.format->levels == 0) {
        *host = (struct pt_walk){ .output = gpa, .shift = 63, .rights = PT_RIGHT_ALL };
        return true;
    }
    (void)pt_access(&space->host, gpa, &access, space->read_host, space->host_ctx, host);
    for (unsigned i = 0; i < host->count; i++)
        add_ref(out, PT_DIM_HOST, column, &host->ref[i], host->ref[i].at);
    if (host->fault == PT_OK)
        return true;
    refuse(out, host->fault, PT_DIM_HOST, column, host->error_code);
    return false;
}

/* A walk that is made again, of what it has read before. */
struct again {
    struct pt_walk before;
    unsigned next; /* reference; not found by address, since one entry may stand for two levels */
};

static int read_again(void *ctx, uint64_t at, unsigned size, uint64_t *raw)
{
    struct again *again = ctx;

    (void)at, (void)size;
    if (again->next == again->before.count)
        return -1;
    *raw = again->before.ref[again->next++].raw;
    return 0;
}

/* The CPU sets a bit in the guest's entry of `column`: does the host let it write there? */
static bool update(struct walker *w, unsigned column)
{
    const struct nested_space *space = w->space;
    struct nested_walk *out = w->out;
    struct pt_walk *host = &out->host[column];
    struct again again = { .before = *host };
    struct pt_access access = table_access(PT_WRITE);
    unsigned first = 0;

    if (space->host.format->levels == 0)
        return true;
    (void)pt_access(&space->host, out->column_gpa[column], &access, read_again, &again, host);
    /* A write may set more bits in the host's entries than the read did. */
    while (out->ref[first].column != column)
        first++;
    for (unsigned i = 0; i < host->count; i++)
        out->ref[first + i].ref.set = host->ref[i].set;
    if (host->fault == PT_OK)
        return true;
    out->fault_update = true;
    refuse(out, host->fault, PT_DIM_HOST, column, host->error_code);
    return false;
}

/* The accessed bit of an entry that refers to a table is set before the walk goes on; that of a
 * leaf waits until the guest's rights are known. */
static bool sets_accessed(const struct pt_space *guest, unsigned level, uint64_t raw)
{
    return guest->policy.ad && guest->format->accessed != 0 &&
           (raw & guest->format->accessed) == 0 && !guest->format->level[level].plain &&
           pt_entry_kind(guest, level, raw) == PT_ENTRY_TABLE;
}

static int read_guest_entry(void *ctx, uint64_t at, unsigned size, uint64_t *raw)
{
    struct walker *w = ctx;
    const struct nested_space *space = w->space;
    struct nested_walk *out = w->out;
    unsigned column = out->columns;
    struct pt_ref ref = { .level = space->guest.format->levels - column, .at = at };
    uint64_t host_at;

    if (!translate(w, at, table_access(PT_READ)))
        return -1;
    host_at = out->host[column].output;
    if (space->read_guest(space->guest_ctx, host_at, size, &ref.raw) < 0) {
        ref.raw = 0;
        add_ref(out, PT_DIM_GUEST, column, &ref, host_at);
        return -1; /* the guest's walk tells: PT_READ_FAILED of its dimension */
    }
    add_ref(out, PT_DIM_GUEST, column, &ref, host_at);
    *raw = ref.raw;
    if (sets_accessed(&space->guest, ref.level, ref.raw) && !update(w, column))
        return -1;
    return 0;
}

/* The guest's walk knows at its end which bits it sets where, and, after a refused update, has lost
 * the last value. */
static void settle_guest_refs(struct nested_walk *out)
{
    for (unsigned i = 0; i < out->count; i++) {
        struct nested_ref *ref = &out->ref[i];
        struct pt_ref *entry;

        if (ref->dim != PT_DIM_GUEST || ref->column >= out->guest.count)
            continue;
        entry = &out->guest.ref[ref->column];
        entry->raw = ref->ref.raw;
        ref->ref.set = entry->set;
    }
}

static bool walk_guest(struct walker *w, uint64_t input)
{
    struct nested_walk *out = w->out;
    struct pt_walk *guest = &out->guest;

    (void)pt_access(&w->space->guest, input, w->access, read_guest_entry, w, guest);
    settle_guest_refs(out);
    if (out->fault != PT_OK)
        return false;
    if (guest->fault != PT_OK) {
        refuse(out, guest->fault, PT_DIM_GUEST, guest->count > 0 ? guest->count - 1 : 0,
               guest->error_code);
        return false;
    }
    out->gpa = gpa(guest->output);
    /* Accessed and, for a write, dirty in the leaf. */
    if (guest->count > 0 && guest->ref[guest->count - 1].set != 0)
        return update(w, guest->count - 1);
    return true;
}

enum pt_fault nested_walk(const struct nested_space *space, gva_t input,
                          const struct pt_access *access, struct nested_walk *out)
{
    struct walker w = { .space = space, .access = access, .out = out };
    const struct pt_walk *page;

    memset(out, 0, sizeof(*out));
    out->input = input;
    if (!walk_guest(&w, input.v) || !translate(&w, out->gpa.v, page_access(&w)))
        return out->fault;
    page = &out->host[out->columns - 1];
    out->output = page->output;
    out->shift = page->shift < out->guest.shift ? page->shift : out->guest.shift;
    return PT_OK;
}

unsigned nested_refs(unsigned guest_levels, unsigned host_levels)
{
    return (guest_levels + 1) * (host_levels + 1) - 1;
}
