/*
 * pt_access() against the oracle of guest/kernel/access_oracle.h: each numbered combination of
 * entries, modes and accesses is built and asked. The same combinations run on the MMU in
 * the guest (selftest=access).
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "ept/access.h"
#include "ept/format_x86.h"
#include "guest/kernel/access_oracle.h"

/* A sanitizer's build is ten times slower: every 17th, which shares no factor with the digits. */
#ifdef __SANITIZE_ADDRESS__
#define STEP 17
#else
#define STEP 1
#endif

#define PHYS_BITS       46
#define MAX_DIFFERENCES 10

/* Table n lies at page n; the pages' own addresses are aligned for each size. */
#define TABLE_AT(level) ((uint64_t)(level)*4096)
#define PAGE_4K         UINT64_C(0x00000000abcde000)
#define PAGE_LARGE      UINT64_C(0x00000000c0000000)

struct tables {
    unsigned levels, size;
    uint64_t at[ACCESS_LEVELS + 1]; /* where the entry of each level lies */
    uint64_t raw[ACCESS_LEVELS + 1];
};

static int read_entry(void *ctx, uint64_t at, unsigned size, uint64_t *raw)
{
    const struct tables *t = ctx;

    for (unsigned level = 1; level <= t->levels; level++) {
        if (t->at[level] == at && size == t->size) {
            *raw = t->raw[level];
            return 0;
        }
    }
    return -EFAULT;
}

static uint64_t address_of(enum access_paging paging)
{
    return paging <= ACCESS_PAE ? 0x9a6b5cde : UINT64_C(0x00005a7b3c9d1cde);
}

/* The index by the classic arithmetic: 9 bits a level, or 10 in 32-bit tables. */
static uint64_t index_of(enum access_paging paging, unsigned level)
{
    unsigned bits = paging == ACCESS_32BIT ? 10 : 9;

    return address_of(paging) >> (12 + bits * (level - 1)) & ((1u << bits) - 1);
}

/* Gives page size in *size when the entry maps a page. */
static uint64_t entry_of(const struct access_case *c, unsigned level, uint64_t *size)
{
    uint64_t raw = 0;
    uint16_t e = c->entry[level];
    bool leaf = access_is_leaf(c, level), narrow = c->paging == ACCESS_32BIT;

    raw |= e & ENTRY_P ? 0x1 : 0;
    raw |= e & ENTRY_RW ? 0x2 : 0;
    raw |= e & ENTRY_US ? 0x4 : 0;
    raw |= e & ENTRY_A ? 0x20 : 0;
    raw |= e & ENTRY_D ? 0x40 : 0;
    raw |= e & ENTRY_PS ? 0x80 : 0;
    raw |= e & ENTRY_IGNORED ? 0xe00 : 0;
    if (e & ENTRY_IGNORED && c->paging >= ACCESS_4_LEVEL)
        raw |= UINT64_C(0x7f) << 52;
    if (e & ENTRY_NX && !narrow)
        raw |= UINT64_C(1) << 63;
    if (e & ENTRY_HIGH && !narrow)
        raw |= UINT64_C(1) << (level % 2 ? 51 : PHYS_BITS);
    if (e & ENTRY_KEY && c->paging >= ACCESS_4_LEVEL)
        raw |= (uint64_t)ACCESS_KEY << 59;
    if (!leaf)
        return raw | TABLE_AT(level - 1);
    *size = narrow ? UINT64_C(1) << (12 + 10 * (level - 1)) : UINT64_C(1) << (12 + 9 * (level - 1));
    if (level == 1)
        return raw | PAGE_4K;
    if (e & ENTRY_LOW)
        raw |= UINT64_C(1) << (narrow ? 21 : 13);
    if (e & ENTRY_IGNORED)
        raw |= 0x1000;
    return raw | PAGE_LARGE;
}

static void build(const struct access_case *c, struct tables *t, uint64_t *size)
{
    t->levels = access_levels(c->paging);
    t->size = c->paging == ACCESS_32BIT ? 4 : 8;
    *size = 0;
    for (unsigned level = t->levels; level; level--) {
        uint64_t bytes = 0;

        t->at[level] = TABLE_AT(level) + index_of(c->paging, level) * t->size;
        t->raw[level] = entry_of(c, level, &bytes);
        if (bytes && !*size)
            *size = bytes;
    }
}

static uint32_t rights_of_key(bool access_disabled, bool write_disabled)
{
    return (access_disabled ? 1u : 0) << (2 * ACCESS_KEY) | (write_disabled ? 2u : 0)
                                                                << (2 * ACCESS_KEY);
}

/* The control registers and keys that the combination wants. */
static void space_of(const struct access_case *c, struct pt_space *space)
{
    struct x86_paging regs = {
        .cr0 = X86_CR0_PG | 1,
        .cr3 = TABLE_AT(access_levels(c->paging)),
        .cr4 = c->paging == ACCESS_32BIT ? X86_CR4_PSE : X86_CR4_PAE,
        .efer = c->mode & MODE_NXE ? X86_EFER_NXE : 0,
        .phys_bits = PHYS_BITS,
        .gib_pages = c->gib_pages,
    };
    bool wide = c->paging >= ACCESS_4_LEVEL;

    regs.efer |= wide ? X86_EFER_LMA : 0;
    regs.cr4 |= c->paging == ACCESS_5_LEVEL ? X86_CR4_LA57 : 0;
    regs.cr0 |= c->mode & MODE_WP ? 1u << 16 : 0;
    regs.cr4 |= c->mode & MODE_SMEP ? 1u << 20 : 0;
    regs.cr4 |= c->mode & MODE_SMAP ? 1u << 21 : 0;
    regs.cr4 |= c->mode & MODE_PKE ? 1u << 22 : 0;
    regs.cr4 |= c->mode & MODE_PKS ? 1u << 24 : 0;
    regs.rflags = c->mode & MODE_AC ? 1u << 18 : 0;
    regs.pkru = rights_of_key(c->mode & MODE_PKRU_AD, c->mode & MODE_PKRU_WD);
    regs.pkrs = rights_of_key(c->mode & MODE_PKRS_AD, c->mode & MODE_PKRS_WD);
    x86_pt_space(space, &regs);
}

/* What pt_access() may call it: a key's refusal has a name of its own, if PK tells of one. */
static bool right_name(const struct access_outcome *want, enum pt_fault fault)
{
    if (!want->fault)
        return fault == PT_OK;
    if (!(want->error & ACCESS_ERROR_P))
        return fault == PT_NOT_PRESENT;
    if (want->error & ACCESS_ERROR_RSVD)
        return fault == PT_RESERVED;
    return fault == PT_PROTECTION || (fault == PT_KEY && want->error & ACCESS_ERROR_PK);
}

static const char *wrong_fault(const struct access_outcome *want, const struct pt_walk *got,
                               enum pt_fault returned)
{
    if (returned != got->fault)
        return "the fault returned is not the fault told";
    if (!right_name(want, got->fault))
        return "fault";
    if ((got->error_code ^ want->error) & ~(uint64_t)want->error_any)
        return "error code";
    return got->level != want->level ? "level" : NULL;
}

/* A and D of each entry, as the walk would leave them. */
static const char *wrong_bits(const struct access_case *c, const struct access_outcome *want,
                              const struct pt_walk *got)
{
    unsigned top = access_levels(c->paging);
    unsigned accessed = 0, dirty = 0, seen = 0;

    for (unsigned level = 1; level <= top; level++) {
        accessed |= c->entry[level] & ENTRY_A ? 1u << level : 0;
        dirty |= c->entry[level] & ENTRY_D ? 1u << level : 0;
    }
    for (unsigned i = 0; i < got->count; i++) {
        const struct pt_ref *ref = &got->ref[i];

        if (ref->set & ~UINT64_C(0x60) || ref->set & ref->raw)
            return "sets other bits, or bits that are set";
        accessed |= ref->set & 0x20 ? 1u << ref->level : 0;
        dirty |= ref->set & 0x40 ? 1u << ref->level : 0;
        seen |= 1u << ref->level;
    }
    if (seen != ((2u << top) - 1) - ((1u << got->level) - 1))
        return "entries read";
    if ((accessed ^ want->accessed) & ~(unsigned)want->accessed_any)
        return "accessed bits";
    return dirty != want->dirty ? "dirty bits" : NULL;
}

static const char *wrong(const struct access_case *c, const struct access_outcome *want,
                         char *detail, size_t len)
{
    struct pt_access access = {
        .op = c->op == ACCESS_READ    ? PT_READ
              : c->op == ACCESS_WRITE ? PT_WRITE
                                      : PT_EXEC,
        .user = c->user,
        .implicit = c->implicit,
    };
    uint64_t size, va = address_of(c->paging);
    struct pt_space space;
    struct tables tables;
    struct pt_walk walk;
    enum pt_fault returned;
    const char *what;

    build(c, &tables, &size);
    space_of(c, &space);
    returned = pt_access(&space, va, &access, read_entry, &tables, &walk);
    what = wrong_fault(want, &walk, returned);
    if (!what)
        what = wrong_bits(c, want, &walk);
    if (!what && !want->fault &&
        walk.output != ((size == 4096 ? PAGE_4K : PAGE_LARGE) | (va & (size - 1))))
        what = "output";
    if (what)
        snprintf(detail, len, "%s: %s, code 0x%llx, level %u", what, pt_fault_name(walk.fault),
                 (unsigned long long)walk.error_code, walk.level);
    return what;
}

static void print_case(uint64_t index, const struct access_case *c,
                       const struct access_outcome *want, const char *detail)
{
    print_error("combination %llu: paging %u, %s%s%s, mode 0x%x, entries from the top:",
                (unsigned long long)index, c->paging, c->user ? "user " : "supervisor ",
                c->implicit ? "implicit " : "",
                c->op == ACCESS_READ    ? "read"
                : c->op == ACCESS_WRITE ? "write"
                                        : "fetch",
                c->mode);
    for (unsigned level = access_levels(c->paging); level; level--)
        print_error(" 0x%x", c->entry[level]);
    print_error("\n  the oracle: %s, code 0x%x, level %u, A 0x%x (open 0x%x) D 0x%x\n",
                want->fault ? "fault" : "no fault", want->error, want->level, want->accessed,
                want->accessed_any, want->dirty);
    print_error("  pt_access(): %s\n", detail);
}

static void compare_all(const struct access_machine *machine)
{
    struct access_plan plan;
    unsigned long different = 0, asked = 0;

    access_plan_make(&plan, machine);
    for (uint64_t i = 0; i < plan.total; i += STEP, asked++) {
        struct access_outcome want;
        struct access_case c;
        char detail[128];

        access_plan_case(&plan, i, &c);
        access_predict(&c, &want);
        if (!wrong(&c, &want, detail, sizeof(detail)))
            continue;
        if (different++ < MAX_DIFFERENCES)
            print_case(i, &c, &want, detail);
    }
    print_message("%lu of %llu combinations, %lu differences\n", asked,
                  (unsigned long long)plan.total, different);
    assert_int_equal(different, 0);
}

static void four_levels(void **state)
{
    (void)state;
    compare_all(&(struct access_machine){ ACCESS_4_LEVEL, true, true, true, MODE_ALL });
}

static void four_levels_without_gib_pages(void **state)
{
    (void)state;
    compare_all(&(struct access_machine){ ACCESS_4_LEVEL, false, true, true, MODE_NXE | MODE_WP });
}

static void five_levels(void **state)
{
    (void)state;
    compare_all(&(struct access_machine){ ACCESS_5_LEVEL, true, true, true, MODE_ALL });
}

static void pae(void **state)
{
    (void)state;
    compare_all(&(struct access_machine){ ACCESS_PAE, false, true, true, MODE_ALL });
}

static void narrow(void **state)
{
    (void)state;
    compare_all(&(struct access_machine){ ACCESS_32BIT, false, true, true, MODE_ALL });
}

/* The oracle itself, against cases worked out by hand from chapter 4. */
static void the_oracle_by_hand(void **state)
{
    enum { READ = ACCESS_READ, WRITE = ACCESS_WRITE, FETCH = ACCESS_FETCH };
    enum { RW = ENTRY_RW, US = ENTRY_US, NX = ENTRY_NX, P = ENTRY_P };
    static const struct {
        uint8_t op;
        bool user, implicit;
        uint16_t pte, pde, mode;
        int error; /* -1: none */
    } rows[] = {
        { READ, true, false, P | US, ENTRY_PERMITTED, 0, -1 },
        { READ, true, false, P | RW, ENTRY_PERMITTED, 0, 0x5 },
        { WRITE, true, false, P | US, ENTRY_PERMITTED, 0, 0x7 },
        { WRITE, true, false, ENTRY_PERMITTED, P | US, 0, 0x7 },
        { WRITE, false, false, P | US, ENTRY_PERMITTED, 0, -1 },
        { WRITE, false, false, P | US, ENTRY_PERMITTED, MODE_WP, 0x3 },
        { READ, false, false, ENTRY_PERMITTED, ENTRY_PERMITTED, MODE_SMAP, 0x1 },
        { READ, false, false, ENTRY_PERMITTED, ENTRY_PERMITTED, MODE_SMAP | MODE_AC, -1 },
        { READ, false, true, ENTRY_PERMITTED, ENTRY_PERMITTED, MODE_SMAP | MODE_AC, 0x1 },
        { READ, false, false, P | RW, ENTRY_PERMITTED, MODE_SMAP, -1 },
        { FETCH, false, false, ENTRY_PERMITTED, ENTRY_PERMITTED, MODE_SMEP, 0x11 },
        { FETCH, false, false, P, ENTRY_PERMITTED, MODE_SMEP, -1 },
        { FETCH, true, false, ENTRY_PERMITTED | NX, ENTRY_PERMITTED, MODE_NXE, 0x15 },
        { FETCH, true, false, ENTRY_PERMITTED | NX, ENTRY_PERMITTED, 0, 0xd },
        { READ, true, false, ENTRY_PERMITTED, ENTRY_PERMITTED | NX, 0, 0xd },
        { FETCH, true, false, RW | US, ENTRY_PERMITTED, MODE_NXE, 0x14 },
        { FETCH, true, false, RW | US, ENTRY_PERMITTED, 0, 0x4 },
        { READ, true, false, ENTRY_PERMITTED | ENTRY_KEY, ENTRY_PERMITTED, MODE_PKE | MODE_PKRU_AD,
          0x25 },
        { WRITE, false, false, ENTRY_PERMITTED | ENTRY_KEY, ENTRY_PERMITTED,
          MODE_PKE | MODE_PKRU_WD, -1 },
        { WRITE, false, false, ENTRY_PERMITTED | ENTRY_KEY, ENTRY_PERMITTED,
          MODE_PKE | MODE_PKRU_WD | MODE_WP, 0x23 },
        { FETCH, true, false, ENTRY_PERMITTED | ENTRY_KEY, ENTRY_PERMITTED, MODE_PKE | MODE_PKRU_AD,
          -1 },
        { READ, true, false, ENTRY_PERMITTED, ENTRY_PERMITTED | ENTRY_KEY, MODE_PKE | MODE_PKRU_AD,
          -1 },
        { READ, false, false, P | ENTRY_KEY, ENTRY_PERMITTED, MODE_PKE | MODE_PKRU_AD, -1 },
        { READ, false, false, P | ENTRY_KEY, ENTRY_PERMITTED, MODE_PKS | MODE_PKRS_AD, 0x21 },
        { READ, true, false, 0, ENTRY_PERMITTED | ENTRY_HIGH, 0, 0xd },
        { READ, true, false, ENTRY_PERMITTED | ENTRY_HIGH, RW | US, 0, 0x4 },
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct access_case c = { .paging = ACCESS_4_LEVEL, .gib_pages = true };
        struct access_outcome out;

        c.op = rows[i].op;
        c.user = rows[i].user;
        c.implicit = rows[i].implicit;
        c.mode = rows[i].mode;
        c.entry[4] = c.entry[3] = ENTRY_PERMITTED;
        c.entry[2] = rows[i].pde;
        c.entry[1] = rows[i].pte;
        access_predict(&c, &out);
        if (out.fault != (rows[i].error >= 0) || (out.fault && out.error != rows[i].error))
            fail_msg("row %zu: fault %d, code 0x%x", i, out.fault, out.error);
        assert_int_equal(out.dirty, !out.fault && c.op == ACCESS_WRITE ? 1u << 1 : 0);
        if (!out.fault)
            assert_int_equal(out.accessed, 0x1e);
    }
}

/* Every index gives one combination, and every bit and mode comes up. */
static void the_numbers_cover(void **state)
{
    struct access_plan plan;
    unsigned bits[ACCESS_LEVELS + 1] = { 0 }, modes = 0;

    (void)state;
    access_plan_make(&plan, &(struct access_machine){ ACCESS_4_LEVEL, true, true, true, MODE_ALL });
    assert_true(plan.total > 1000000);
    for (uint64_t i = 0; i < plan.total; i++) {
        struct access_case c;

        access_plan_case(&plan, i, &c);
        modes |= c.mode;
        for (unsigned level = 1; level <= 4; level++)
            bits[level] |= c.entry[level];
    }
    assert_int_equal(modes, MODE_ALL);
    for (unsigned level = 1; level <= 4; level++)
        assert_int_equal(bits[level] | (level == 2 || level == 3 ? 0 : ENTRY_LOW),
                         ((ENTRY_KEY << 1) - 1));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_oracle_by_hand),
        cmocka_unit_test(the_numbers_cover),
        cmocka_unit_test(four_levels),
        cmocka_unit_test(four_levels_without_gib_pages),
        cmocka_unit_test(five_levels),
        cmocka_unit_test(pae),
        cmocka_unit_test(narrow),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
