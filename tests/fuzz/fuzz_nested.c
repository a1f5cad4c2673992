/*
 * Noise as the tables of two dimensions. The two-dimensional walk must end within its number of
 * references, read each once, and agree with a walk that is put together from one-dimensional ones;
 * the scanner must end, stay inside of its range and agree with the walker at every address tried.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ept/format_ept.h"
#include "ept/format_npt.h"
#include "ept/format_x86.h"
#include "ept/nested.h"
#include "ept/scan.h"

#define TABLES_MAX 40 /* of one scan */

struct head {
    uint64_t input, mode, guest_root, host_root, first, length;
};

/* The input's bytes again and again: 2^20 bytes, of both dimensions' tables. */
struct ram {
    const uint8_t *bytes;
    size_t size;
    unsigned reads;
};

#define RAM_BYTES (UINT64_C(1) << 20)

static void require(int condition, const char *what)
{
    if (condition)
        return;
    fprintf(stderr, "fuzz_nested: %s\n", what);
    abort();
}

static int ram_read(void *ctx, uint64_t at, unsigned size, uint64_t *raw)
{
    struct ram *ram = ctx;

    ram->reads++;
    *raw = 0;
    if (at >= RAM_BYTES || size > RAM_BYTES - at)
        return -1;
    for (unsigned i = 0; i < size; i++)
        *raw |= (uint64_t)ram->bytes[(at + i) % ram->size] << 8 * i;
    return 0;
}

static void guest_space(struct pt_space *out, const struct head *h)
{
    struct x86_paging regs = {
        .cr0 = h->mode & 1 ? 1 : X86_CR0_PG | 1,
        .cr3 = h->guest_root % RAM_BYTES,
        .cr4 = (h->mode & 2 ? 0 : X86_CR4_PAE) | (h->mode & 4 ? X86_CR4_LA57 : 0) |
               (h->mode & 8 ? X86_CR4_PSE : 0),
        .efer = (h->mode & 16 ? 0 : X86_EFER_LMA) | (h->mode & 32 ? 0 : X86_EFER_NXE),
        .phys_bits = 32 + (unsigned)(h->mode >> 8) % 21,
        .gib_pages = h->mode & 64,
    };

    x86_pt_space(out, &regs);
}

static void host_space(struct pt_space *out, const struct head *h)
{
    unsigned phys_bits = 32 + (unsigned)(h->mode >> 16) % 21;

    if (h->mode & 128) {
        struct npt_paging regs = { .ncr3 = h->host_root % RAM_BYTES,
                                   .cr4 = h->mode >> 24 & 1 ? X86_CR4_LA57 : 0,
                                   .efer = h->mode >> 25 & 1 ? X86_EFER_NXE : 0,
                                   .phys_bits = phys_bits,
                                   .gib_pages = true };

        npt_pt_space(out, &regs);
    } else {
        struct ept_paging regs = { .eptp = (h->host_root % RAM_BYTES & ~UINT64_C(0xfff)) |
                                           EPTP_WRITE_BACK | (h->mode >> 24 & 1 ? 4 : 3) << 3 |
                                           (h->mode >> 25 & 1 ? EPTP_AD : 0),
                                   .phys_bits = phys_bits,
                                   .large_2m = true,
                                   .large_1g = true,
                                   .exec_only = h->mode >> 26 & 1,
                                   .mode_based = h->mode >> 27 & 1 };

        require(ept_pt_space(out, &regs) == 0, "an EPT pointer that is sound was refused");
    }
}

/* --- two dimensions -------------------------------------------------------------- */

/* Each column has to be the one-dimensional walk of its gpa, and the guest's entries what lies
 * there. A column that was refused an update only is complete. */
static void check_columns(const struct nested_space *space, const struct nested_walk *w)
{
    unsigned count = 0, guest = 0;

    for (unsigned c = 0; c < w->columns; c++) {
        struct pt_walk want;

        (void)pt_walk(&space->host, w->column_gpa[c], ram_read, space->host_ctx, &want);
        require(want.count == w->host[c].count, "a column of another length");
        for (unsigned i = 0; i < want.count; i++, count++) {
            require(count < w->count && w->ref[count].dim == PT_DIM_HOST &&
                        w->ref[count].column == c && w->ref[count].ref.at == want.ref[i].at &&
                        w->ref[count].ref.raw == want.ref[i].raw,
                    "another reference of the host than a walk of its own makes");
        }
        if (count < w->count && w->ref[count].dim == PT_DIM_GUEST) {
            const struct nested_ref *ref = &w->ref[count++];
            uint64_t raw;

            require(ref->column == c && ref->ref.at == w->column_gpa[c],
                    "a guest's entry elsewhere");
            require(want.fault == PT_OK && ref->host_at == want.output, "another host address");
            (void)ram_read(space->guest_ctx, ref->host_at, space->guest.format->entry_bytes, &raw);
            require(raw == ref->ref.raw, "another value of the guest's entry");
            guest++;
        }
    }
    require(count == w->count, "references that belong to no column");
    require(guest <= space->guest.format->levels, "too many of the guest's entries");
}

static void fuzz_nested(const struct head *h, struct ram *ram)
{
    struct nested_space space = {
        .read_guest = ram_read, .read_host = ram_read, .guest_ctx = ram, .host_ctx = ram
    };
    struct pt_access access = { .op = (enum pt_op)(h->mode >> 32) % 3,
                                .user = h->mode >> 34 & 1,
                                .implicit = h->mode >> 35 & 1 };
    struct nested_walk w;
    unsigned most;

    guest_space(&space.guest, h);
    host_space(&space.host, h);
    most = nested_refs(space.guest.format->levels, space.host.format->levels);
    ram->reads = 0;
    (void)nested_walk(&space, gva(h->input), &access, &w);
    require(w.count <= most && w.count <= NESTED_REFS_MAX, "more references than there can be");
    require(w.columns <= space.guest.format->levels + 1u, "more columns than there can be");
    require(ram->reads == w.count, "an entry was read twice, or is not told");
    require((w.fault == PT_OK) == (w.guest.fault == PT_OK && w.columns > 0 && !w.fault_update &&
                                   w.host[w.columns - 1].fault == PT_OK),
            "a fault that none of the dimensions has");
    check_columns(&space, &w);
}

/* --- the scanner ----------------------------------------------------------------- */

struct check {
    struct ram *ram;
    const struct pt_space *space;
    uint64_t first, last, next; /* nothing between `next` and the run that comes is mapped */
    uint64_t leaves;
    bool any;
};

static const void *ram_table(void *ctx, uint64_t at, unsigned bytes, void *buf)
{
    const struct check *check = ctx;
    const struct ram *ram = check->ram;

    if (at >= RAM_BYTES || bytes > RAM_BYTES - at)
        return NULL;
    for (size_t done = 0, n; done < bytes; done += n) {
        size_t from = (at + done) % ram->size;

        n = ram->size - from < bytes - done ? ram->size - from : bytes - done;
        memcpy((uint8_t *)buf + done, ram->bytes + from, n);
    }
    return buf;
}

static void require_unmapped(const struct check *c, uint64_t input)
{
    struct pt_walk w;

    require(pt_walk(c->space, input, ram_read, c->ram, &w) != PT_OK, "a page that no run has");
}

static void require_mapped(const struct check *c, const struct pt_run *run, uint64_t offset)
{
    const struct pt_access access = { .op = PT_READ };
    struct pt_walk w, a;

    require(pt_walk(c->space, run->input + offset, ram_read, c->ram, &w) == PT_OK,
            "a run of what is not mapped");
    (void)pt_access(c->space, run->input + offset, &access, ram_read, c->ram, &a);
    require(w.output == run->output + offset, "a run with another output");
    require(w.shift == run->shift && a.rights == run->rights, "a run with other attributes");
    require(offset + 1 < run->bytes || w.count == 0 ||
                run->flags == (w.ref[w.count - 1].raw & run->flags),
            "flags that the leaf does not have");
}

static int check_run(void *ctx, const struct pt_run *run)
{
    struct check *c = ctx;
    uint64_t last = run->input + (run->bytes - 1);

    require(run->bytes > 0 && run->input >= c->first && last <= c->last && last >= run->input,
            "a run outside of the range");
    require(!c->any || run->input >= c->next, "runs that overlap, or out of order");
    if (run->input > c->next) {
        require_unmapped(c, c->next);
        require_unmapped(c, run->input - 1);
        require_unmapped(c, c->next + (run->input - c->next) / 2);
    }
    require_mapped(c, run, 0);
    require_mapped(c, run, run->bytes / 2);
    require_mapped(c, run, run->bytes - 1);
    c->any = true;
    c->next = last + 1;
    c->leaves += run->leaves;
    return c->leaves > 2000 ? -1 : 0;
}

static void fuzz_scan(const struct pt_space *space, const struct head *h, struct ram *ram)
{
    uint64_t first = h->first, last = first + h->length;
    struct check c = { .ram = ram, .space = space, .first = first, .last = last, .next = first };
    struct pt_scan_stats stats;
    int rc = pt_scan(space, first, last, 0, TABLES_MAX, ram_table, check_run, &c, &stats);

    require(stats.tables <= TABLES_MAX, "more tables than allowed");
    require(stats.leaves >= c.leaves &&
                (space->format->levels == 0 || stats.entries >= stats.leaves),
            "counters that contradict each other");
    if (rc != 0)
        return;
    require(stats.leaves == c.leaves, "leaves that no run has");
    if (c.next <= last && (!c.any || c.next != 0)) {
        require_unmapped(&c, c.next);
        require_unmapped(&c, last);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct pt_space space;
    struct head h;
    struct ram ram;

    if (size <= sizeof(h))
        return 0;
    memcpy(&h, data, sizeof(h));
    ram = (struct ram){ .bytes = data + sizeof(h), .size = size - sizeof(h) };
    fuzz_nested(&h, &ram);
    guest_space(&space, &h);
    fuzz_scan(&space, &h, &ram);
    host_space(&space, &h);
    fuzz_scan(&space, &h, &ram);
    return 0;
}
