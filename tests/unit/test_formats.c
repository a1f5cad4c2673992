/*
 * The table formats: facts that the manuals state as numbers, and entries of real kernels taken
 * apart by hand.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "ept/entry.h"
#include "ept/format_ept.h"
#include "ept/format_npt.h"
#include "ept/format_vtd.h"
#include "ept/format_x86.h"

static const struct fact {
    const struct pt_format *format;
    unsigned levels, entry_bytes, input_bits, top_entries;
    unsigned leaf_shifts[3]; /* of all sizes of leaves, 0 after the last */
    uint64_t accessed, dirty;
} facts[] = {
    { &pt_x86_32, 2, 4, 32, 1024, { 12 }, 0x20, 0x40 },
    { &pt_x86_32_pse, 2, 4, 32, 1024, { 12, 22 }, 0x20, 0x40 },
    { &pt_x86_pae, 3, 8, 32, 4, { 12, 21 }, 0x20, 0x40 },
    { &pt_x86_64, 4, 8, 48, 512, { 12, 21, 30 }, 0x20, 0x40 },
    { &pt_x86_64_5l, 5, 8, 57, 512, { 12, 21, 30 }, 0x20, 0x40 },
    { &pt_ept_4, 4, 8, 48, 512, { 12, 21, 30 }, 0x100, 0x200 },
    { &pt_ept_5, 5, 8, 57, 512, { 12, 21, 30 }, 0x100, 0x200 },
    { &pt_npt_4, 4, 8, 48, 512, { 12, 21, 30 }, 0x20, 0x40 },
    { &pt_npt_5, 5, 8, 57, 512, { 12, 21, 30 }, 0x20, 0x40 },
    { &pt_vtd_3, 3, 8, 39, 512, { 12, 21, 30 }, 0x100, 0x200 },
    { &pt_vtd_4, 4, 8, 48, 512, { 12, 21, 30 }, 0x100, 0x200 },
    { &pt_vtd_5, 5, 8, 57, 512, { 12, 21, 30 }, 0x100, 0x200 },
};

#define FACTS (sizeof(facts) / sizeof(facts[0]))

static void facts_of_the_manuals(void **state)
{
    (void)state;
    for (size_t i = 0; i < FACTS; i++) {
        const struct fact *fact = &facts[i];
        const struct pt_format *f = fact->format;
        unsigned sizes = 0;

        assert_int_equal(f->levels, fact->levels);
        assert_int_equal(f->entry_bytes, fact->entry_bytes);
        assert_int_equal(f->input_bits, fact->input_bits);
        assert_int_equal(1u << f->level[f->levels].bits, fact->top_entries);
        assert_int_equal(f->accessed, fact->accessed);
        assert_int_equal(f->dirty, fact->dirty);
        for (unsigned n = 1; n <= f->levels; n++) {
            if (f->level[n].leaf != PT_LEAF_NEVER)
                assert_int_equal(f->level[n].shift, fact->leaf_shifts[sizes++]);
            assert_non_null(f->level[n].name);
        }
        assert_true(sizes == 3 || fact->leaf_shifts[sizes] == 0);
    }
}

/* Every input bit is used once: the offset, then each level's index. */
static void indices_fill_the_input(void **state)
{
    (void)state;
    for (size_t i = 0; i < FACTS; i++) {
        const struct pt_format *f = facts[i].format;
        unsigned next = 12;

        for (unsigned n = 1; n <= f->levels; n++) {
            assert_int_equal(f->level[n].shift, next);
            next += f->level[n].bits;
            assert_true(pt_table_bytes(f, n) == 4096 || (f == &pt_x86_pae && n == 3));
        }
        assert_int_equal(next, f->input_bits);
    }
}

/* A leaf's address begins where its offset ends, and meets no bit that must be zero. */
static void addresses_and_reserved_bits_are_apart(void **state)
{
    (void)state;
    for (size_t i = 0; i < FACTS; i++) {
        const struct pt_format *f = facts[i].format;

        for (unsigned n = 1; n <= f->levels; n++) {
            const struct pt_level *level = &f->level[n];

            assert_int_equal(level->table_reserved & (f->table_addr | f->present), 0);
            assert_int_equal(level->leaf_reserved & (level->leaf_addr | level->leaf_high), 0);
            if (level->leaf != PT_LEAF_NEVER)
                assert_int_equal(level->leaf_addr & -level->leaf_addr, UINT64_C(1) << level->shift);
        }
    }
}

/* 0x00007ffd12345678, computed on paper: the same indices wherever a level selects by 9 bits. */
static void the_worked_example(void **state)
{
    static const uint64_t index[] = { 0, 0x145, 0x091, 0x1f4, 0x0ff, 0 };
    const uint64_t va = UINT64_C(0x00007ffd12345678);

    (void)state;
    for (size_t i = 0; i < FACTS; i++) {
        const struct pt_format *f = facts[i].format;

        if (f->input_bits < 48)
            continue;
        assert_true(pt_input_fits(f, va));
        for (unsigned n = 1; n <= f->levels; n++)
            assert_int_equal(pt_index(&f->level[n], va), index[n]);
        assert_int_equal(pt_leaf_output(&f->level[1], UINT64_C(0xdeadb007), va), 0xdeadb678);
    }
}

static struct pt_space ept(uint64_t eptp, bool exec_only, bool mode_based)
{
    struct ept_paging regs = { .eptp = eptp,
                               .phys_bits = 46,
                               .large_2m = true,
                               .large_1g = true,
                               .exec_only = exec_only,
                               .mode_based = mode_based };
    struct pt_space space;

    assert_int_equal(ept_pt_space(&space, &regs), 0);
    return space;
}

static void ept_pointers(void **state)
{
    static const uint64_t bad[] = {
        0x0000,                      /* one level */
        0x1016,                      /* three */
        0x102e,                      /* six */
        0x1019,                      /* memory type 1 */
        0x101f,                      /* 7 */
        0x111e,                      /* bit 8 */
        0x181e,                      /* bit 11 */
        UINT64_C(0x40000000001e),    /* bit 46, beyond MAXPHYADDR */
        UINT64_C(0x800000000000101e) /* bit 63 */
    };
    struct ept_paging regs = { .phys_bits = 46 };
    struct pt_space space;

    (void)state;
    /* What KVM uses on a machine with accessed and dirty bits, four levels and write-back. */
    space = ept(UINT64_C(0x12345605e), false, false);
    assert_ptr_equal(space.format, &pt_ept_4);
    assert_int_equal(space.root & space.format->root_addr, UINT64_C(0x123456000));
    assert_true(space.policy.ad);
    space = ept(0x1020, false, false); /* five, uncacheable, no accessed and dirty bits */
    assert_ptr_equal(space.format, &pt_ept_5);
    assert_false(space.policy.ad);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        regs.eptp = bad[i];
        assert_int_equal(ept_pt_space(&space, &regs), -EINVAL);
    }
    regs = (struct ept_paging){ .eptp = 0x101e, .phys_bits = 53 };
    assert_int_equal(ept_pt_space(&space, &regs), -EINVAL);
}

static void ept_entries(void **state)
{
    struct pt_space plain = ept(0x101e, false, false), all = ept(0x101e, true, true);

    (void)state;
    /* A 2 MiB leaf as KVM makes it: rwx, write-back, IPAT, large, accessed, dirty. */
    assert_int_equal(pt_entry_kind(&plain, 2, UINT64_C(0x2ee00bf7)), PT_ENTRY_LEAF);
    assert_int_equal(pt_leaf_base(&pt_ept_4.level[2], UINT64_C(0x2ee00bf7)), 0x2ee00000);
    assert_int_equal(pt_entry_rights(&plain, 2, 0xbf7), PT_RIGHT_ALL);
    assert_int_equal(pt_entry_kind(&plain, 3, UINT64_C(0x2ee00107)), PT_ENTRY_TABLE);
    /* KVM's entry for MMIO, writable and executable only, is misconfigured on purpose. */
    assert_int_equal(pt_entry_kind(&plain, 1, UINT64_C(0xfee00006)), PT_ENTRY_RESERVED);
    assert_int_equal(pt_entry_kind(&plain, 1, 0x1034), PT_ENTRY_RESERVED);
    assert_int_equal(pt_entry_kind(&all, 1, 0x1034), PT_ENTRY_LEAF);
    /* Bit 10 alone: nothing, or a page that ring 3 may execute. */
    assert_int_equal(pt_entry_kind(&plain, 1, 0x1430), PT_ENTRY_NONE);
    assert_int_equal(pt_entry_kind(&all, 1, 0x1430), PT_ENTRY_LEAF);
    assert_int_equal(pt_entry_rights(&all, 1, 0x1430), PT_RIGHT_USER | PT_RIGHT_USER_EXEC);
    assert_int_equal(pt_entry_rights(&all, 1, 0x1035),
                     PT_RIGHT_USER | PT_RIGHT_READ | PT_RIGHT_EXEC);
    assert_int_equal(pt_entry_rights(&plain, 1, 0x1035), PT_RIGHT_ALL & ~PT_RIGHT_WRITE);
}

static void npt_entries(void **state)
{
    struct npt_paging regs = { .efer = X86_EFER_NXE, .phys_bits = 48, .gib_pages = true };
    struct pt_space space;

    (void)state;
    npt_pt_space(&space, &regs);
    /* A large leaf as KVM makes it: P RW US A D PS, and NX. */
    assert_int_equal(pt_entry_kind(&space, 2, UINT64_C(0x8000000012e000e7)), PT_ENTRY_LEAF);
    assert_int_equal(pt_entry_rights(&space, 2, UINT64_C(0x8000000012e000e7)),
                     PT_RIGHT_READ | PT_RIGHT_WRITE | PT_RIGHT_USER);
    /* Bit 8: global in a leaf, ignored in a PDPTE, reserved in a PML4E, whose input isn't signed.
     */
    assert_int_equal(pt_entry_kind(&space, 1, 0x1107), PT_ENTRY_LEAF);
    assert_int_equal(pt_entry_kind(&space, 3, 0x1107), PT_ENTRY_TABLE);
    assert_int_equal(pt_entry_kind(&space, 4, 0x1107), PT_ENTRY_RESERVED);
    assert_true(pt_input_fits(space.format, UINT64_C(0xffffffffffff)));
    assert_false(pt_input_fits(space.format, UINT64_C(0xffff800000000000)));
    regs.efer = 0;
    npt_pt_space(&space, &regs);
    assert_int_equal(pt_entry_kind(&space, 2, UINT64_C(0x8000000012e000e7)), PT_ENTRY_RESERVED);
}

static void vtd_widths(void **state)
{
    static const struct pt_format *const formats[] = { &pt_vtd_3, &pt_vtd_4, &pt_vtd_5 };
    struct vtd_paging regs = { .root = 0x5000, .phys_bits = 39, .large_2m = true };
    struct pt_space space;

    (void)state;
    for (unsigned levels = 0; levels < 8; levels++) {
        regs.levels = levels;
        assert_int_equal(vtd_pt_space(&space, &regs), levels < 3 || levels > 5 ? -EINVAL : 0);
        if (levels >= 3 && levels <= 5)
            assert_ptr_equal(space.format, formats[levels - 3]);
    }
    regs.levels = 3;
    assert_int_equal(vtd_pt_space(&space, &regs), 0);
    /* As Linux' driver makes them; a unit without 1 GiB pages reserves bit 7 there. */
    assert_int_equal(pt_entry_kind(&space, 1, UINT64_C(0x7ef12003)), PT_ENTRY_LEAF);
    assert_int_equal(pt_entry_kind(&space, 2, UINT64_C(0x7ee00083)), PT_ENTRY_LEAF);
    assert_int_equal(pt_entry_kind(&space, 3, UINT64_C(0x40000083)), PT_ENTRY_RESERVED);
    assert_int_equal(pt_entry_kind(&space, 1, UINT64_C(0x7ef12803)), PT_ENTRY_RESERVED);
    assert_int_equal(pt_entry_kind(&space, 1, UINT64_C(0x8000000003)), PT_ENTRY_RESERVED);
    assert_int_equal(pt_entry_kind(&space, 1, UINT64_C(0x7ef1200c)), PT_ENTRY_NONE);
    regs.phys_bits = 31;
    assert_int_equal(vtd_pt_space(&space, &regs), -EINVAL);
}

/* AMD reserves bit 8 at the top; Intel doesn't. */
static void x86_of_two_makers(void **state)
{
    struct x86_paging regs = { .cr0 = X86_CR0_PG | 1,
                               .cr4 = X86_CR4_PAE | X86_CR4_LA57,
                               .efer = X86_EFER_LMA,
                               .phys_bits = 48 };
    struct pt_space space;

    (void)state;
    for (unsigned amd = 0; amd < 2; amd++) {
        regs.amd = amd;
        x86_pt_space(&space, &regs);
        for (unsigned n = 2; n <= 5; n++)
            assert_int_equal(pt_entry_kind(&space, n, 0x1107),
                             amd && n >= 4 ? PT_ENTRY_RESERVED : PT_ENTRY_TABLE);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(facts_of_the_manuals),
        cmocka_unit_test(indices_fill_the_input),
        cmocka_unit_test(addresses_and_reserved_bits_are_apart),
        cmocka_unit_test(the_worked_example),
        cmocka_unit_test(ept_pointers),
        cmocka_unit_test(ept_entries),
        cmocka_unit_test(npt_entries),
        cmocka_unit_test(vtd_widths),
        cmocka_unit_test(x86_of_two_makers),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
