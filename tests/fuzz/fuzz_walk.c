/*
 * Any registers, any tables: the walker against a second one that is written straight
 * from the manual, a mode at a time, without any table of formats. What must hold: the same
 * fault at the same level, the same output, one read a level, nothing outside of the input.
 *
 * The same tables then are x86's, EPT's, NPT's and VT-d's for accesses of all kinds: pt_access()
 * agrees with pt_walk(), proposes to set nothing but accessed and dirty bits, and once they are set
 * has nothing more to propose; whoever may do more is refused less.
 */
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ept/access.h"
#include "ept/format_ept.h"
#include "ept/format_npt.h"
#include "ept/format_vtd.h"
#include "ept/format_x86.h"

struct ram {
    const uint8_t *bytes;
    size_t size;
    unsigned reads;
    const struct pt_walk *marked; /* read with its `set` applied, or NULL */
};

struct answer {
    enum pt_fault fault;
    unsigned level;
    uint64_t output;
};

static void require(int condition, const char *what)
{
    if (condition)
        return;
    fprintf(stderr, "fuzz_walk: %s\n", what);
    abort();
}

static int ram_read(void *ctx, uint64_t at, unsigned size, uint64_t *raw)
{
    struct ram *ram = ctx;

    ram->reads++;
    *raw = 0;
    if (at > ram->size || size > ram->size - at)
        return -1;
    memcpy(raw, ram->bytes + at, size);
    for (unsigned i = 0; ram->marked && i < ram->marked->count; i++)
        if (ram->marked->ref[i].at == at)
            *raw |= ram->marked->ref[i].set;
    return 0;
}

static bool bit(uint64_t value, unsigned n)
{
    return (value >> n) & 1;
}

static bool any(uint64_t value, unsigned high, unsigned low)
{
    for (unsigned n = low; n <= high; n++)
        if (bit(value, n))
            return true;
    return false;
}

static uint64_t cut(uint64_t value, unsigned high, unsigned low)
{
    uint64_t out = 0;

    for (unsigned n = low; n <= high; n++)
        out |= (uint64_t)bit(value, n) << n;
    return out;
}

/* 32-bit paging: SDM vol. 3A, 4.3. */
static struct answer walk32(struct ram *ram, const struct x86_paging *r, uint64_t va)
{
    uint64_t pde, pte;

    if (ram_read(ram, (r->cr3 & 0xfffff000) + (va / 0x400000) * 4, 4, &pde) < 0)
        return (struct answer){ PT_READ_FAILED, 2, 0 };
    if (!bit(pde, 0))
        return (struct answer){ PT_NOT_PRESENT, 2, 0 };
    if (bit(r->cr4, 4) && bit(pde, 7)) {
        uint64_t high = (pde >> 13) & 0xff;

        if (bit(pde, 21) || (r->phys_bits < 40 && high >> (r->phys_bits - 32)))
            return (struct answer){ PT_RESERVED, 2, 0 };
        return (struct answer){ PT_OK, 2, high << 32 | cut(pde, 31, 22) | (va & 0x3fffff) };
    }
    if (ram_read(ram, (pde & 0xfffff000) + ((va / 4096) % 1024) * 4, 4, &pte) < 0)
        return (struct answer){ PT_READ_FAILED, 1, 0 };
    if (!bit(pte, 0))
        return (struct answer){ PT_NOT_PRESENT, 1, 0 };
    return (struct answer){ PT_OK, 1, cut(pte, 31, 12) | (va & 0xfff) };
}

/* What is reserved in any entry of 8 bytes, whatever its level. */
static bool reserved8(uint64_t entry, const struct x86_paging *r, bool pae)
{
    if (r->phys_bits < 52 && any(entry, 51, r->phys_bits))
        return true;
    if (pae && any(entry, 62, 52))
        return true;
    return bit(entry, 63) && !bit(r->efer, 11);
}

/* PAE and 4- and 5-level paging: SDM vol. 3A, 4.4 and 4.5. */
static struct answer walk64(struct ram *ram, const struct x86_paging *r, uint64_t va)
{
    bool pae = !bit(r->efer, 10);
    unsigned levels = pae ? 3 : (bit(r->cr4, 12) ? 5 : 4);
    uint64_t table = pae ? cut(r->cr3, 31, 5) : cut(r->cr3, 51, 12);

    for (unsigned n = levels; n >= 1; n--) {
        unsigned shift = 12 + 9 * (n - 1);
        uint64_t index = (va >> shift) % (pae && n == 3 ? 4 : 512), entry;
        bool leaf;

        if (ram_read(ram, table + index * 8, 8, &entry) < 0)
            return (struct answer){ PT_READ_FAILED, n, 0 };
        if (!bit(entry, 0))
            return (struct answer){ PT_NOT_PRESENT, n, 0 };
        leaf = n == 1 || (bit(entry, 7) && (n == 2 || (n == 3 && !pae)));
        if (reserved8(entry, r, pae) || (n >= 4 && bit(entry, 7)) ||
            (n == 3 && pae && (any(entry, 2, 1) || any(entry, 8, 5) || bit(entry, 63))) ||
            (leaf && n == 3 && !r->gib_pages) || (leaf && n > 1 && any(entry, shift - 1, 13)))
            return (struct answer){ PT_RESERVED, n, 0 };
        if (leaf)
            return (struct answer){ PT_OK, n,
                                    cut(entry, 51, shift) | (va % (UINT64_C(1) << shift)) };
        table = cut(entry, 51, 12);
    }
    abort();
}

static struct answer walk_by_the_book(struct ram *ram, const struct x86_paging *r, uint64_t va)
{
    bool on = bit(r->cr0, 31), pae = bit(r->cr4, 5), wide = on && pae && bit(r->efer, 10);
    unsigned width = !wide ? 32 : (bit(r->cr4, 12) ? 57 : 48);
    uint64_t above = wide && bit(va, width - 1) ? UINT64_MAX << width : 0;

    if ((va & UINT64_MAX << width) != above)
        return (struct answer){ PT_NON_CANONICAL, 0, 0 };
    if (!on)
        return (struct answer){ PT_OK, 0, va };
    return pae ? walk64(ram, r, va) : walk32(ram, r, va);
}

/* One of the formats, with every mode of its own. False: these registers select no tables. */
static bool any_space(struct pt_space *space, const struct x86_paging *regs, uint64_t choice,
                      uint64_t root)
{
    struct ept_paging ept = { .eptp = (root & ~UINT64_C(0xfff)) | (bit(choice, 2) ? 0x26 : 0x1e) |
                                      (bit(choice, 3) ? 0x40 : 0),
                              .phys_bits = regs->phys_bits,
                              .large_2m = bit(choice, 4),
                              .large_1g = bit(choice, 5),
                              .exec_only = bit(choice, 6),
                              .mode_based = bit(choice, 7) };
    struct npt_paging npt = { .ncr3 = root,
                              .cr4 = regs->cr4,
                              .efer = regs->efer,
                              .phys_bits = regs->phys_bits,
                              .gib_pages = regs->gib_pages };
    struct vtd_paging vtd = { .root = root,
                              .levels = 2 + (unsigned)(choice >> 2) % 4,
                              .phys_bits = regs->phys_bits,
                              .large_2m = bit(choice, 4),
                              .large_1g = bit(choice, 5),
                              .snoop = bit(choice, 6),
                              .device_tlb = bit(choice, 7),
                              .scalable = bit(choice, 8),
                              .ad = bit(choice, 9) };

    switch (choice % 4) {
    case 0:
        x86_pt_space(space, regs);
        return true;
    case 1:
        return ept_pt_space(space, &ept) == 0;
    case 2:
        npt_pt_space(space, &npt);
        return true;
    default:
        return vtd_pt_space(space, &vtd) == 0;
    }
}

/* Bits that an access may set: in each entry, and in the leaf besides. */
static void check_set(const struct pt_space *space, const struct pt_walk *w, bool may_write)
{
    for (unsigned i = 0; i < w->count; i++) {
        uint64_t may = space->format->accessed;

        if (may_write && i + 1 == w->count)
            may |= space->format->dirty;
        require((w->ref[i].set & ~may) == 0, "sets other bits than accessed and dirty");
        require((w->ref[i].set & w->ref[i].raw) == 0, "sets what is set");
        require(w->fault == PT_OK || w->ref[i].set == 0, "sets bits although it faults");
        require(space->policy.ad || w->ref[i].set == 0, "sets bits that nobody enabled");
    }
}

/* With the proposed bits set, the same access has the same result and nothing to propose. */
static void check_again(const struct pt_space *space, uint64_t input,
                        const struct pt_access *access, struct ram *ram, const struct pt_walk *was)
{
    struct pt_walk again;

    for (unsigned i = 0; i < was->count; i++)
        for (unsigned j = 0; j < i; j++)
            if (was->ref[i].at == was->ref[j].at)
                return; /* tables that refer to themselves: one entry has two parts */
    ram->marked = was;
    (void)pt_access(space, input, access, ram_read, ram, &again);
    ram->marked = NULL;
    require(again.fault == was->fault && again.output == was->output, "marking changed the walk");
    for (unsigned i = 0; i < again.count; i++)
        require(again.ref[i].set == 0, "the same bits twice");
}

static void check_access(const struct pt_space *space, uint64_t input,
                         const struct pt_access *access, struct ram *ram)
{
    struct pt_walk plain, got;

    (void)pt_walk(space, input, ram_read, ram, &plain);
    ram->reads = 0;
    require(pt_access(space, input, access, ram_read, ram, &got) == got.fault, "two faults");
    require(ram->reads == got.count && got.count <= space->format->levels, "reads of an access");
    require(got.level == plain.level && got.count == plain.count && got.output == plain.output &&
                got.shift == plain.shift,
            "pt_access() walks otherwise than pt_walk()");
    if (plain.fault != PT_OK)
        require(got.fault == plain.fault && got.rights == 0, "another fault than pt_walk()");
    else
        require(got.fault == PT_OK || got.fault == PT_PROTECTION || got.fault == PT_KEY,
                "a fault that is none of rights");
    require(got.fault != PT_OK || got.error_code == 0, "an error code without a fault");
    if (plain.fault == PT_OK && got.rights == PT_RIGHT_ALL && !space->policy.smep &&
        !space->policy.smap && !space->policy.pku)
        require(got.fault == PT_OK, "refused in spite of all rights");
    check_set(space, &got, access->op == PT_WRITE || access->for_table);
    if (got.fault == PT_OK)
        check_again(space, input, access, ram, &got);
}

static void check_all(struct x86_paging *regs, const uint64_t in[4], struct ram *ram)
{
    struct pt_space space;

    regs->cr0 |= bit(in[0], 2) ? X86_CR0_WP : 0;
    regs->rflags = in[0] >> 24 & X86_RFLAGS_AC;
    regs->pkru = (uint32_t)(in[2] >> 32);
    regs->pkrs = ~regs->pkru;
    if (!any_space(&space, regs, in[0] >> 48, in[1]))
        return;
    for (unsigned i = 0; i < 24; i++) {
        struct pt_access access = {
            .op = (enum pt_op)(i % 3), .user = i / 3 % 2, .implicit = i / 6 % 2, .for_table = i / 12
        };

        check_access(&space, in[3], &access, ram);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint64_t in[4];
    struct x86_paging regs;
    struct pt_space space;
    struct answer want;
    struct ram ram;
    struct pt_walk got;

    if (size < sizeof(in))
        return 0;
    memcpy(in, data, sizeof(in));
    ram = (struct ram){ .bytes = data + sizeof(in), .size = size - sizeof(in) };
    regs = (struct x86_paging){
        .cr0 = bit(in[0], 0) ? 1 : X86_CR0_PG | 1,
        .cr3 = in[1],
        .cr4 = in[2],
        .efer = in[0] & (X86_EFER_LMA | X86_EFER_NXE),
        .phys_bits = 32 + (unsigned)(in[0] >> 16) % 21,
        .gib_pages = bit(in[0], 1),
    };
    x86_pt_space(&space, &regs);
    (void)pt_walk(&space, in[3], ram_read, &ram, &got);
    require(ram.reads == got.count && got.count <= space.format->levels, "number of reads");
    ram.reads = 0;
    want = walk_by_the_book(&ram, &regs, in[3]);
    require(got.fault == want.fault, "another fault than the manual says");
    require(got.level == want.level, "another level than the manual says");
    require(got.fault != PT_OK || got.output == want.output, "another output");
    require(ram.reads == got.count, "more or fewer reads than the manual says");
    check_all(&regs, in, &ram);
    return 0;
}
