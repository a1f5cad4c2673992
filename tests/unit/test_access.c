/*
 * Rights, error codes, accessed and dirty bits. EPT, NPT and VT-d: every combination of the low
 * twelve bits of an entry at each level, each high bit alone, and all combinations of rights over
 * all levels, against oracles that transcribe the manuals' tables. x86: cases worked out by hand;
 * its oracle is test_access_oracle.c.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "ept/access.h"
#include "ept/format_ept.h"
#include "ept/format_npt.h"
#include "ept/format_vtd.h"
#include "ept/format_x86.h"

#define PHYS_BITS 46
#define PAGE      UINT64_C(0x40000000) /* aligned for leaves of any size */
#define INPUT     UINT64_C(0x678)      /* index 0 in all tables */
#define BIT_AT(n) (UINT64_C(1) << (n))

/* One table a level, at table_at(); only its first entry is ever asked for. */
struct bed {
    uint64_t entry[PT_LEVELS_MAX + 1];
    unsigned levels;
};

/* What a manual says of an access. */
struct answer {
    enum pt_fault fault;
    unsigned level;
    uint64_t code, output;
    uint64_t set[PT_LEVELS_MAX + 1];
};

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

/* One wrong bit in such an address never gives that of another table. */
static uint64_t table_at(unsigned level)
{
    return (uint64_t)(0x40 | (~level & 7) << 3 | level) << 12;
}

static int bed_read(void *ctx, uint64_t at, unsigned size, uint64_t *raw)
{
    const struct bed *bed = ctx;

    assert_int_equal(size, 8);
    for (unsigned level = 1; level <= bed->levels; level++) {
        if (at == table_at(level)) {
            *raw = bed->entry[level];
            return 0;
        }
    }
    return -EFAULT;
}

static void compare(const char *what, const struct pt_space *space, struct bed *bed,
                    const struct pt_access *access, const struct answer *want)
{
    struct pt_walk got;
    bool same;

    (void)pt_access(space, INPUT, access, bed_read, bed, &got);
    same = got.fault == want->fault && got.level == want->level && got.error_code == want->code &&
           (got.fault != PT_OK || got.output == want->output);
    for (unsigned i = 0; i < got.count; i++)
        same = same && got.ref[i].set == want->set[got.ref[i].level];
    if (same)
        return;
    for (unsigned level = bed->levels; level > 0; level--)
        print_message("level %u: %#018lx\n", level, (unsigned long)bed->entry[level]);
    print_message("%s: %s%s%s: got %s at level %u, code %#lx; want %s at %u, code %#lx\n", what,
                  pt_op_name(access->op), access->user ? ", user" : "",
                  access->for_table ? ", for a table" : "", pt_fault_name(got.fault), got.level,
                  (unsigned long)got.error_code, pt_fault_name(want->fault), want->level,
                  (unsigned long)want->code);
    fail();
}

typedef struct answer (*oracle)(const void *cpu, const struct bed *bed,
                                const struct pt_access *access);

/* All kinds of access to the bed as it is. */
static void ask_all(const struct pt_space *space, struct bed *bed, oracle says, const void *cpu)
{
    for (unsigned i = 0; i < 12; i++) {
        struct pt_access access = { .op = (enum pt_op)(i % 3),
                                    .user = i / 3 % 2,
                                    .for_table = i / 6 };
        struct answer want = says(cpu, bed, &access);

        compare(space->format->name, space, bed, &access, &want);
    }
}

/* Entries with `bits` at each level; those above level 1 refer to the next table. */
static void fill(struct bed *bed, unsigned levels, uint64_t bits)
{
    memset(bed, 0, sizeof(*bed));
    bed->levels = levels;
    for (unsigned level = 1; level <= levels; level++)
        bed->entry[level] = bits | (level > 1 ? table_at(level - 1) : PAGE);
}

/* Each level in turn: all low bits, and each high bit without and with bit 7. `full` grants all. */
static void sweep_entries(const struct pt_space *space, uint64_t full, oracle says, const void *cpu)
{
    unsigned levels = space->format->levels;
    struct bed bed;

    for (unsigned level = 1; level <= levels; level++) {
        for (uint64_t low = 0; low < 4096; low++) {
            fill(&bed, levels, full);
            bed.entry[level] = low | (level == 1 || bit(low, 7) ? PAGE : table_at(level - 1));
            ask_all(space, &bed, says, cpu);
        }
        for (unsigned i = 12; i < 64; i++) {
            fill(&bed, levels, full);
            bed.entry[level] ^= BIT_AT(i);
            ask_all(space, &bed, says, cpu);
            bed.entry[level] = full | 0x80 | PAGE | BIT_AT(i);
            ask_all(space, &bed, says, cpu);
        }
    }
}

/* All subsets of the `count` bits in `rights` at every level. */
static void sweep_rights(const struct pt_space *space, uint64_t other, const uint8_t *rights,
                         unsigned count, oracle says, const void *cpu)
{
    unsigned levels = space->format->levels;
    uint64_t end = BIT_AT(count * levels);
    struct bed bed;

    for (uint64_t n = 0; n < end; n++) {
        fill(&bed, levels, other);
        for (unsigned i = 0; i < count * levels; i++)
            if (bit(n, i))
                bed.entry[1 + i / count] |= BIT_AT(rights[i % count]);
        ask_all(space, &bed, says, cpu);
    }
}

/* --- EPT ---------------------------------------------------------------------------- */

/* Intel SDM vol. 3C, tables 29-2 to 29-7: the bits that are reserved in each kind of entry. */
static bool ept_reserved(const struct ept_paging *c, unsigned level, bool leaf, uint64_t e)
{
    if (any(e, 51, c->phys_bits))
        return true;
    if (level >= 4)
        return any(e, 7, 3);
    if (level == 3 && leaf)
        return !c->large_1g || any(e, 29, 12);
    if (level == 2 && leaf)
        return !c->large_2m || any(e, 20, 12);
    return !leaf && any(e, 6, 3);
}

/* 29.3.3.1 "EPT Misconfigurations". */
static bool ept_misconfigured(const struct ept_paging *c, unsigned level, bool leaf, uint64_t e)
{
    unsigned type = (unsigned)(e >> 3) & 7;

    if (!bit(e, 0) && bit(e, 1))
        return true;
    if (!c->exec_only && !bit(e, 0) && (bit(e, 2) || (c->mode_based && bit(e, 10))))
        return true;
    if (leaf && (type == 2 || type == 3 || type == 7))
        return true;
    return ept_reserved(c, level, leaf, e);
}

/* Table 28-7 "Exit Qualification for EPT Violations"; and[] are bits 0, 1, 2, 10 of all entries. */
static uint64_t ept_qualification(const struct ept_paging *c, const struct pt_access *a,
                                  const bool and[4])
{
    bool ad = bit(c->eptp, 6);
    uint64_t q = 1u << 7;

    if (a->for_table) {
        q |= 1;
        if (ad || a->op == PT_WRITE)
            q |= 2;
    } else {
        q |= a->op == PT_READ ? 1 : a->op == PT_WRITE ? 2 : 4;
        q |= 1u << 8;
    }
    for (unsigned i = 0; i < 4; i++)
        if (and[i] && (i < 3 || c->mode_based))
            q |= 8u << i;
    return q;
}

static struct answer ept_says(const void *cpu, const struct bed *bed, const struct pt_access *a)
{
    static const bool nothing[4];
    const struct ept_paging *c = cpu;
    bool and[4] = { true, true, true, true }, allowed, written, leaf = false;
    struct answer out = { .fault = PT_OK };
    uint64_t e = 0, q;

    for (out.level = bed->levels;; out.level--) {
        e = bed->entry[out.level];
        if (!bit(e, 0) && !bit(e, 1) && !bit(e, 2) && !(c->mode_based && bit(e, 10))) {
            out.fault = PT_NOT_PRESENT;
            out.code = ept_qualification(c, a, nothing);
            return out;
        }
        leaf = out.level == 1 || (out.level <= 3 && bit(e, 7));
        if (ept_misconfigured(c, out.level, leaf, e)) {
            out.fault = PT_MISCONFIG;
            return out;
        }
        and[0] &= bit(e, 0);
        and[1] &= bit(e, 1);
        and[2] &= bit(e, 2);
        and[3] &= bit(e, 10);
        if (leaf)
            break;
        if ((e & 0xffffffffff000) != table_at(out.level - 1)) {
            out.level--;
            out.fault = PT_READ_FAILED;
            return out;
        }
    }
    q = ept_qualification(c, a, and);
    written = q & 2;
    if (q & 4)
        allowed = c->mode_based && a->user ? and[3] : and[2];
    else
        allowed = (!(q & 1) || and[0]) && (!written || and[1]);
    if (!allowed) {
        out.fault = PT_PROTECTION;
        out.code = q;
        return out;
    }
    out.output = (e & 0xffffffffff000) >> (3 + 9 * out.level) << (3 + 9 * out.level) | INPUT;
    for (unsigned level = bed->levels; bit(c->eptp, 6) && level >= out.level; level--) {
        out.set[level] = bit(bed->entry[level], 8) ? 0 : 0x100;
        if (level == out.level && written && !bit(bed->entry[level], 9))
            out.set[level] |= 0x200;
    }
    return out;
}

static void ept_against_the_manual(void **state)
{
    static const uint8_t rights[] = { 0, 1, 2, 10 };

    (void)state;
    for (unsigned mode = 0; mode < 32; mode++) {
        bool five = mode == 0 || mode == 31;
        struct ept_paging c = { .eptp = table_at(five ? 5 : 4) | (five ? 4u : 3u) << 3 | 6 |
                                        (mode & 1 ? 0x40 : 0),
                                .phys_bits = PHYS_BITS,
                                .exec_only = mode & 2,
                                .mode_based = mode & 4,
                                .large_2m = mode & 8,
                                .large_1g = mode & 16 };
        struct pt_space space;

        assert_int_equal(ept_pt_space(&space, &c), 0);
        assert_int_equal(space.format->levels, five ? 5 : 4);
        sweep_entries(&space, 0x407, ept_says, &c);
        /* The page sizes don't matter to these; three of the four bits without mode_based. */
        if (mode < 8 && !five)
            sweep_rights(&space, 0, rights, mode & 4 ? 4 : 3, ept_says, &c);
    }
}

/* --- NPT ---------------------------------------------------------------------------- */

/* AMD APM vol. 2, figures 5-19 ff.: which bits must be zero. */
static bool npt_reserved(const struct npt_paging *c, unsigned level, bool leaf, uint64_t e)
{
    if (any(e, 51, c->phys_bits) || (bit(e, 63) && !bit(c->efer, 11)))
        return true;
    if (level >= 4)
        return any(e, 8, 7);
    if (level == 3 && leaf)
        return !c->gib_pages || any(e, 29, 13);
    return level == 2 && leaf && any(e, 20, 13);
}

/* 15.25.6: user accesses all of them; the guest's tables are written to. */
static struct answer npt_says(const void *cpu, const struct bed *bed, const struct pt_access *a)
{
    const struct npt_paging *c = cpu;
    bool nxe = bit(c->efer, 11), writable = true, user = true, executable = true, leaf = false;
    bool write = a->for_table || a->op == PT_WRITE, fetch = !a->for_table && a->op == PT_EXEC;
    struct answer out = { .fault = PT_OK };
    uint64_t e = 0, code = 4 | (a->for_table ? UINT64_C(1) << 33 : UINT64_C(1) << 32);

    if (write)
        code |= 2;
    if (fetch && nxe)
        code |= 16;
    for (out.level = bed->levels;; out.level--) {
        e = bed->entry[out.level];
        if (!bit(e, 0)) {
            out.fault = PT_NOT_PRESENT;
            out.code = code;
            return out;
        }
        leaf = out.level == 1 || (out.level <= 3 && bit(e, 7));
        if (npt_reserved(c, out.level, leaf, e)) {
            out.fault = PT_RESERVED;
            out.code = code | 1 | 8;
            return out;
        }
        writable &= bit(e, 1);
        user &= bit(e, 2);
        executable &= !bit(e, 63);
        if (leaf)
            break;
        if ((e & 0xffffffffff000) != table_at(out.level - 1)) {
            out.level--;
            out.fault = PT_READ_FAILED;
            return out;
        }
    }
    if (!user || (write && !writable) || (fetch && !executable)) {
        out.fault = PT_PROTECTION;
        out.code = code | 1;
        return out;
    }
    out.output = (e & 0xffffffffff000) >> (3 + 9 * out.level) << (3 + 9 * out.level) | INPUT;
    if (out.level > 1) /* bit 12 is PAT */
        assert_int_equal(out.output & 0x1000, 0);
    for (unsigned level = bed->levels; level >= out.level; level--) {
        out.set[level] = bit(bed->entry[level], 5) ? 0 : 0x20;
        if (level == out.level && write && !bit(bed->entry[level], 6))
            out.set[level] |= 0x40;
    }
    return out;
}

static void npt_against_the_manual(void **state)
{
    static const uint8_t rights[] = { 1, 2, 63 };

    (void)state;
    for (unsigned mode = 0; mode < 8; mode++) {
        bool five = mode & 1;
        struct npt_paging c = { .ncr3 = table_at(five ? 5 : 4) | 0x18,
                                .cr4 = X86_CR4_SMEP | X86_CR4_SMAP | (five ? X86_CR4_LA57 : 0),
                                .efer = mode & 2 ? X86_EFER_NXE : 0,
                                .phys_bits = PHYS_BITS,
                                .gib_pages = mode & 4 };
        struct pt_space space;

        npt_pt_space(&space, &c);
        assert_int_equal(space.format->levels, five ? 5 : 4);
        sweep_entries(&space, 7, npt_says, &c);
        sweep_rights(&space, 1, rights, 3, npt_says, &c);
    }
}

/* --- VT-d --------------------------------------------------------------------------- */

/* Intel VT-d specification, 9.8: which bits are reserved. */
static bool vtd_reserved(const struct vtd_paging *c, unsigned level, bool leaf, uint64_t e)
{
    if (any(e, 51, c->phys_bits))
        return true;
    if (!leaf)
        return bit(e, 11) || bit(e, 62) || (level >= 4 && bit(e, 7));
    if ((bit(e, 11) && !c->snoop) || (bit(e, 62) && !c->device_tlb))
        return true;
    if (level == 3)
        return !c->large_1g || any(e, 29, 12);
    return level == 2 && (!c->large_2m || any(e, 20, 12));
}

static struct answer vtd_says(const void *cpu, const struct bed *bed, const struct pt_access *a)
{
    const struct vtd_paging *c = cpu;
    bool readable = true, writable = true, write = a->op == PT_WRITE, leaf = false;
    unsigned missing = c->scalable ? (write ? 0x85 : 0x86) : (write ? 5 : 6);
    struct answer out = { .fault = PT_OK };
    uint64_t e = 0;

    for (out.level = bed->levels;; out.level--) {
        e = bed->entry[out.level];
        if (!bit(e, 0) && !bit(e, 1)) {
            out.fault = PT_NOT_PRESENT;
            out.code = missing;
            return out;
        }
        leaf = out.level == 1 || (out.level <= 3 && bit(e, 7));
        if (vtd_reserved(c, out.level, leaf, e)) {
            out.fault = PT_RESERVED;
            out.code = c->scalable ? 0x7a : 0xc;
            return out;
        }
        readable &= bit(e, 0);
        writable &= bit(e, 1);
        if (leaf)
            break;
        if ((e & 0xffffffffff000) != table_at(out.level - 1)) {
            out.level--;
            out.fault = PT_READ_FAILED;
            out.code = c->scalable ? 0x78 : 7;
            return out;
        }
    }
    if (write ? !writable : !readable) {
        out.fault = PT_PROTECTION;
        out.code = missing;
        return out;
    }
    out.output = (e & 0xffffffffff000) >> (3 + 9 * out.level) << (3 + 9 * out.level) | INPUT;
    for (unsigned level = bed->levels; c->scalable && c->ad && level >= out.level; level--) {
        out.set[level] = bit(bed->entry[level], 8) ? 0 : 0x100;
        if (level == out.level && write && !bit(bed->entry[level], 9))
            out.set[level] |= 0x200;
    }
    return out;
}

static void vtd_against_the_manual(void **state)
{
    static const uint8_t rights[] = { 0, 1 };

    (void)state;
    for (unsigned mode = 0; mode < 64; mode++) {
        unsigned levels = 3 + mode % 3;
        struct vtd_paging c = { .root = table_at(levels),
                                .levels = levels,
                                .phys_bits = PHYS_BITS,
                                .large_2m = mode & 1,
                                .large_1g = mode & 2,
                                .snoop = mode & 4,
                                .device_tlb = mode & 8,
                                .scalable = mode & 16,
                                .ad = mode & 32 };
        struct pt_space space;

        assert_int_equal(vtd_pt_space(&space, &c), 0);
        sweep_entries(&space, 3, vtd_says, &c);
        sweep_rights(&space, 0, rights, 2, vtd_says, &c);
    }
}

static void vtd_where_nothing_can_be_read(void **state)
{
    struct vtd_paging c = { .root = 0x99000, .levels = 3, .phys_bits = PHYS_BITS };
    struct pt_access access = { .op = PT_READ };
    struct bed bed = { .levels = 3 };
    struct pt_space space;
    struct pt_walk w;

    (void)state;
    for (unsigned scalable = 0; scalable < 2; scalable++) {
        c.scalable = scalable;
        assert_int_equal(vtd_pt_space(&space, &c), 0);
        assert_int_equal(pt_access(&space, INPUT, &access, bed_read, &bed, &w), PT_READ_FAILED);
        assert_int_equal(w.error_code, scalable ? 0x7b : 3);
        assert_int_equal(pt_access(&space, UINT64_C(1) << 39, &access, bed_read, &bed, &w),
                         PT_NON_CANONICAL);
        assert_int_equal(w.error_code, scalable ? 0x84 : 4);
        assert_int_equal(w.count, 0);
    }
}

/* A guest-physical address beyond the tables: an EPT violation; for NPT, a page not present. */
static void nested_inputs_that_are_too_wide(void **state)
{
    struct ept_paging e = { .eptp = table_at(4) | 3 << 3 | 6, .phys_bits = PHYS_BITS };
    struct npt_paging n = { .ncr3 = table_at(4), .phys_bits = PHYS_BITS };
    struct pt_access access = { .op = PT_WRITE };
    struct bed bed = { .levels = 4 };
    struct pt_space space;
    struct pt_walk w;

    (void)state;
    assert_int_equal(ept_pt_space(&space, &e), 0);
    assert_int_equal(pt_access(&space, UINT64_C(1) << 48, &access, bed_read, &bed, &w),
                     PT_NON_CANONICAL);
    assert_int_equal(w.error_code, 0x182);
    npt_pt_space(&space, &n);
    assert_int_equal(pt_access(&space, UINT64_C(1) << 48, &access, bed_read, &bed, &w),
                     PT_NON_CANONICAL);
    assert_int_equal(w.error_code, UINT64_C(0x100000006));
}

/* --- x86, by hand ------------------------------------------------------------------- */

enum { S, U, I }; /* supervisor, user, implicit */

static const struct by_hand {
    const char *what;
    uint64_t cr0, cr4, efer, rflags;
    uint32_t pkru, pkrs;
    uint64_t pde, pte; /* low and high bits; the entries above have 0x27 */
    int who;
    enum pt_op op;
    enum pt_fault fault;
    unsigned code;
} by_hand[] = {
#define NX BIT_AT(63)
#define K1 BIT_AT(59)
    { "user reads", 0, 0, 0, 0, 0, 0, 7, 7, U, PT_READ, PT_OK, 0 },
    { "user reads kernel's", 0, 0, 0, 0, 0, 0, 7, 3, U, PT_READ, PT_PROTECTION, 0x5 },
    { "kernel's by the PDE", 0, 0, 0, 0, 0, 0, 3, 7, U, PT_WRITE, PT_PROTECTION, 0x7 },
    { "user writes read-only", 0, 0, 0, 0, 0, 0, 7, 5, U, PT_WRITE, PT_PROTECTION, 0x7 },
    { "kernel does, WP off", 0, 0, 0, 0, 0, 0, 7, 5, S, PT_WRITE, PT_OK, 0 },
    { "kernel does, WP on", X86_CR0_WP, 0, 0, 0, 0, 0, 7, 5, S, PT_WRITE, PT_PROTECTION, 0x3 },
    { "not there", 0, 0, 0, 0, 0, 0, 7, 6, U, PT_WRITE, PT_NOT_PRESENT, 0x6 },
    { "a fetch, no I/D bit", 0, 0, 0, 0, 0, 0, 7, 6, U, PT_EXEC, PT_NOT_PRESENT, 0x4 },
    { "with NXE", 0, 0, X86_EFER_NXE, 0, 0, 0, 7, 6, U, PT_EXEC, PT_NOT_PRESENT, 0x14 },
    { "with SMEP", 0, X86_CR4_SMEP, 0, 0, 0, 0, 7, 6, U, PT_EXEC, PT_NOT_PRESENT, 0x14 },
    { "XD without NXE", 0, 0, 0, 0, 0, 0, 7, NX | 7, U, PT_READ, PT_RESERVED, 0xd },
    { "XD", 0, 0, X86_EFER_NXE, 0, 0, 0, NX | 7, 7, S, PT_EXEC, PT_PROTECTION, 0x11 },
    { "SMEP", 0, X86_CR4_SMEP, 0, 0, 0, 0, 7, 7, S, PT_EXEC, PT_PROTECTION, 0x11 },
    { "SMEP, kernel's page", 0, X86_CR4_SMEP, 0, 0, 0, 0, 7, 3, S, PT_EXEC, PT_OK, 0 },
    { "SMAP", 0, X86_CR4_SMAP, 0, 0, 0, 0, 7, 7, S, PT_READ, PT_PROTECTION, 0x1 },
    { "SMAP, user", 0, X86_CR4_SMAP, 0, 0, 0, 0, 7, 7, U, PT_READ, PT_OK, 0 },
    { "SMAP, AC", 0, X86_CR4_SMAP, 0, X86_RFLAGS_AC, 0, 0, 7, 7, S, PT_READ, PT_OK, 0 },
    { "SMAP, AC, implicit", 0, X86_CR4_SMAP, 0, X86_RFLAGS_AC, 0, 0, 7, 7, I, PT_WRITE,
      PT_PROTECTION, 0x3 },
    { "SMAP is no SMEP", 0, X86_CR4_SMAP, 0, 0, 0, 0, 7, 7, S, PT_EXEC, PT_OK, 0 },
    { "implicit from ring 3", 0, 0, 0, 0, 0, 0, 7, 3, I, PT_READ, PT_OK, 0 },
    { "key 1: AD", 0, X86_CR4_PKE, 0, 0, 4, 0, 7, K1 | 7, U, PT_READ, PT_KEY, 0x25 },
    { "key 1: AD, kernel", 0, X86_CR4_PKE, 0, 0, 4, 0, 7, K1 | 7, S, PT_READ, PT_KEY, 0x21 },
    { "key 1: AD, fetch", 0, X86_CR4_PKE, 0, 0, 4, 0, 7, K1 | 7, U, PT_EXEC, PT_OK, 0 },
    { "key 1: WD", 0, X86_CR4_PKE, 0, 0, 8, 0, 7, K1 | 7, U, PT_READ, PT_OK, 0 },
    { "key 1: WD, write", 0, X86_CR4_PKE, 0, 0, 8, 0, 7, K1 | 7, U, PT_WRITE, PT_KEY, 0x27 },
    { "key 1: WD, no WP", 0, X86_CR4_PKE, 0, 0, 8, 0, 7, K1 | 7, S, PT_WRITE, PT_OK, 0 },
    { "key 1: WD, WP", X86_CR0_WP, X86_CR4_PKE, 0, 0, 8, 0, 7, K1 | 7, S, PT_WRITE, PT_KEY, 0x23 },
    { "key 1, no PKE", 0, 0, 0, 0, 12, 12, 7, K1 | 7, U, PT_WRITE, PT_OK, 0 },
    { "key 1, kernel's page", 0, X86_CR4_PKE, 0, 0, 12, 12, 7, K1 | 3, S, PT_WRITE, PT_OK, 0 },
    { "key 1 of PKS", 0, X86_CR4_PKS, 0, 0, 0, 4, 7, K1 | 3, S, PT_READ, PT_KEY, 0x21 },
    { "key in a PDE", 0, X86_CR4_PKE, 0, 0, 12, 0, K1 | 7, 7, U, PT_READ, PT_OK, 0 },
    { "key and R/W", 0, X86_CR4_PKE, 0, 0, 4, 0, 7, K1 | 5, U, PT_WRITE, PT_PROTECTION, 0x27 },
    { "reserved before rights", 0, 0, 0, 0, 0, 0, 3, BIT_AT(50) | 1, U, PT_WRITE, PT_RESERVED,
      0xf },
};

static void x86_by_hand(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(by_hand) / sizeof(by_hand[0]); i++) {
        const struct by_hand *t = &by_hand[i];
        struct x86_paging regs = { .cr0 = X86_CR0_PG | 1 | t->cr0,
                                   .cr3 = table_at(4),
                                   .cr4 = X86_CR4_PAE | t->cr4,
                                   .efer = X86_EFER_LMA | t->efer,
                                   .phys_bits = PHYS_BITS,
                                   .rflags = t->rflags,
                                   .pkru = t->pkru,
                                   .pkrs = t->pkrs };
        struct pt_access access = { .op = t->op, .user = t->who != S, .implicit = t->who == I };
        struct answer want = { .fault = t->fault, .level = 1, .code = t->code };
        struct pt_space space;
        struct bed bed;

        fill(&bed, 4, 0x27);
        bed.entry[2] = t->pde | table_at(1);
        bed.entry[1] = t->pte | PAGE;
        want.output = PAGE + INPUT;
        if (t->fault == PT_OK) {
            want.set[2] = 0x20;
            want.set[1] = t->op == PT_WRITE ? 0x60 : 0x20;
        }
        x86_pt_space(&space, &regs);
        compare(t->what, &space, &bed, &access, &want);
    }
}

/* PDPTEs of PAE paging have neither rights nor an accessed bit; an address of 33 bits is no #PF. */
static void x86_pae(void **state)
{
    struct x86_paging regs = { .cr0 = X86_CR0_PG | X86_CR0_WP | 1,
                               .cr3 = table_at(3),
                               .cr4 = X86_CR4_PAE | X86_CR4_PKE,
                               .phys_bits = PHYS_BITS,
                               .pkru = ~0u };
    struct pt_access access = { .op = PT_WRITE, .user = true };
    struct answer want = { .fault = PT_OK, .level = 1, .output = PAGE + INPUT };
    struct pt_space space;
    struct pt_walk w;
    struct bed bed;

    (void)state;
    fill(&bed, 3, 7);
    bed.entry[3] = table_at(2) | 1;
    want.set[2] = 0x20;
    want.set[1] = 0x60;
    x86_pt_space(&space, &regs);
    compare("PAE", &space, &bed, &access, &want);
    assert_int_equal(pt_access(&space, UINT64_C(1) << 32, &access, bed_read, &bed, &w),
                     PT_NON_CANONICAL);
    assert_int_equal(w.error_code, 0);
}

static void x86_without_paging(void **state)
{
    struct x86_paging regs = { .cr0 = X86_CR0_WP | 1,
                               .cr4 = X86_CR4_SMEP | X86_CR4_SMAP,
                               .phys_bits = PHYS_BITS };
    struct pt_access access = { .op = PT_WRITE, .user = true };
    struct pt_space space;
    struct pt_walk w;

    (void)state;
    x86_pt_space(&space, &regs);
    assert_int_equal(pt_access(&space, 0xfffff000, &access, bed_read, NULL, &w), PT_OK);
    assert_int_equal(w.output, 0xfffff000);
    assert_int_equal(w.rights, PT_RIGHT_ALL);
    assert_int_equal(w.count, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ept_against_the_manual),
        cmocka_unit_test(npt_against_the_manual),
        cmocka_unit_test(vtd_against_the_manual),
        cmocka_unit_test(vtd_where_nothing_can_be_read),
        cmocka_unit_test(nested_inputs_that_are_too_wide),
        cmocka_unit_test(x86_by_hand),
        cmocka_unit_test(x86_pae),
        cmocka_unit_test(x86_without_paging),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
