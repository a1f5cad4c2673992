/*
 * Shadow tables, case by case: what each view may do, accessed and dirty bits, large pages, and
 * write protection. All through a CPU that has nothing but the shadow (shadow_fixture.h), which
 * holds each answer against the guest's tables.
 */
#include "tests/unit/shadow_cases.h"

/* --- rights -------------------------------------------------------------------------------- */

/* What 4.6.1 "Determination of Access Rights" says, as the manual's text has it. */
static bool may(uint64_t entry, const struct shadow_mode *m, enum pt_op op)
{
    bool user_page = entry & U, wp = m->paging.cr0 & X86_CR0_WP;
    bool smap = (m->paging.cr4 & X86_CR4_SMAP) && !(m->paging.rflags & X86_RFLAGS_AC);

    if (m->user) {
        if (!user_page)
            return false;
        return op == PT_READ || (op == PT_WRITE ? (entry & W) != 0 : !(entry & NX));
    }
    if (op == PT_EXEC)
        return !(entry & NX) && !(user_page && (m->paging.cr4 & X86_CR4_SMEP));
    if (user_page && smap)
        return false;
    return op == PT_READ || (entry & W) || !wp;
}

static void all_ops(uint64_t entry, const struct shadow_mode *mode)
{
    for (unsigned op = 0; op < 3; op++) {
        enum shadow_result got = tried(0, VA, (enum pt_op)op);
        bool smap_alone = !mode->user && op == PT_EXEC && (entry & U) &&
                          !may(entry, mode, PT_READ) && may(entry, mode, PT_EXEC);

        if (smap_alone)
            assert_int_equal(got, SHADOW_AGREES);
        else
            assert_int_equal(got,
                             may(entry, mode, (enum pt_op)op) ? SHADOW_FILLED : SHADOW_REFUSED);
    }
}

/* Rights withheld by the leaf, or by a table further up: the same. */
static void test_rights(void **state)
{
    static const uint64_t rights[] = { 0, W, U, U | W, NX, W | NX, U | NX, U | W | NX };

    (void)state;
    begin(256, 1);
    for (unsigned level = 1; level <= 4; level++) {
        put(CR3, VA, 1, PAGE | ALL);
        for (unsigned i = 0; i < 8 * 32; i++) {
            uint64_t *entry = sim_entry(&sim, CR3, VA, level);
            struct shadow_mode mode = sim_mode(CR3, i & 8);

            put(CR3, VA, level, (*entry & ADR) | P | rights[i % 8]);
            mode.paging.cr0 ^= i & 16 ? X86_CR0_WP : 0;
            mode.paging.cr4 |= (i & 32 ? X86_CR4_SMEP : 0) | (i & 64 ? X86_CR4_SMAP : 0);
            mode.paging.rflags = i & 128 ? X86_RFLAGS_AC : 0;
            sim_sync(&sim, 0);
            sim_set(&sim, 0, &mode);
            all_ops(*entry, &mode);
        }
        put(CR3, VA, level, (*sim_entry(&sim, CR3, VA, level) & ADR) | ALL);
    }
}

/* Without EFER.NXE bit 63 is reserved. */
static void test_reserved(void **state)
{
    struct shadow_mode mode = sim_mode(CR3, true);

    (void)state;
    begin(256, 1);
    put(CR3, VA, 1, PAGE | ALL | NX);
    goes(0, VA, PT_READ, PAGE, 1);
    mode.paging.efer &= ~X86_EFER_NXE;
    sim_set(&sim, 0, &mode);
    assert_int_equal(tried(0, VA, PT_READ), SHADOW_REFUSED);
    be(0, CR3, true);
    put(CR3, VA, 1, PAGE | ALL | UINT64_C(1) << 51);
    sim_invlpg(&sim, 0, VA);
    assert_int_equal(tried(0, VA, PT_READ), SHADOW_REFUSED);
    assert_int_equal(tried(0, UINT64_C(1) << 47, PT_READ), SHADOW_REFUSED);
}

static void test_stale_until_invalidated(void **state)
{
    (void)state;
    begin(256, 1);
    put(CR3, VA, 1, PAGE | ALL | D);
    put(CR3, VA + 4096, 1, (PAGE + 4096) | ALL | D);
    goes(0, VA, PT_WRITE, PAGE, 1);
    goes(0, VA + 4096, PT_WRITE, PAGE + 4096, 1);
    put(CR3, VA, 1, 0);
    put(CR3, VA + 4096, 1, 0);
    goes(0, VA, PT_READ, PAGE, 0);
    sim_invlpg(&sim, 0, VA);
    assert_int_equal(tried(0, VA, PT_READ), SHADOW_REFUSED);
    put(CR3, VA, 1, PAGE | P | U);
    goes(0, VA, PT_READ, PAGE, 1); /* what appears needs no invalidation */
    sim_sync(&sim, 0);
    assert_int_equal(tried(0, VA + 4096, PT_READ), SHADOW_REFUSED);
    goes(0, VA, PT_READ, PAGE, 0);
    assert_int_equal(tried(0, VA, PT_WRITE), SHADOW_REFUSED);
}

/* Each entry of a full table is compared. */
static void test_full_table(void **state)
{
    uint64_t first = VA & ~(2 * MIB - 1);

    (void)state;
    begin(256, 1);
    for (uint64_t i = 0; i < 512; i++) {
        put(CR3, first + i * 4096, 1, (4 * MIB + i * 4096) | ALL);
        goes(0, first + i * 4096, PT_READ, 4 * MIB + i * 4096, 1);
    }
    for (uint64_t i = 0; i < 512; i++) {
        put(CR3, first + i * 4096, 1, PAGE | ALL);
        rounds(1);
        assert_int_equal(stats().zaps, i + 1);
        goes(0, first + i * 4096, PT_READ, PAGE, 1);
        goes(0, first + (i + 1) % 512 * 4096, PT_READ, i == 511 ? PAGE : 4 * MIB + (i + 1) * 4096,
             0);
    }
}

/* --- accessed and dirty -------------------------------------------------------------------- */

static void test_accessed_and_dirty(void **state)
{
    (void)state;
    begin(256, 1);
    put(CR3, VA, 1, PAGE | ALL);
    goes(0, VA, PT_READ, PAGE, 1);
    for (unsigned level = 1; level <= 4; level++)
        assert_int_equal(*sim_entry(&sim, CR3, VA, level) & (A | D), A);
    goes(0, VA, PT_WRITE, PAGE, 1); /* the second fault is for the dirty bit */
    assert_int_equal(*sim_entry(&sim, CR3, VA, 1) & (A | D), A | D);
    assert_int_equal(*sim_entry(&sim, CR3, VA, 2) & (A | D), A);
    goes(0, VA, PT_WRITE, PAGE, 0);
    /* The guest asks for the next write, and then for the next use. */
    *sim_entry(&sim, CR3, VA, 1) &= ~D;
    sim_invlpg(&sim, 0, VA);
    goes(0, VA, PT_READ, PAGE, 1);
    assert_false(*sim_entry(&sim, CR3, VA, 1) & D);
    goes(0, VA, PT_WRITE, PAGE, 1);
    assert_true(*sim_entry(&sim, CR3, VA, 1) & D);
    *sim_entry(&sim, CR3, VA, 2) &= ~A;
    sim_sync(&sim, 0);
    goes(0, VA, PT_READ, PAGE, 1);
    assert_true(*sim_entry(&sim, CR3, VA, 2) & A);
}

/* A fault brings in the neighbours that are as it is, and none for which a CPU would have had to
 * set a bit, that means something else, or whose entry means nothing. */
static void test_around(void **state)
{
    static const uint64_t flags[] = {
        ALL | A | D,   ALL | A | D,      ALL | A, ALL,
        P | U | A | D, ALL | A | D | NX, 0,       ALL | A | D | UINT64_C(1) << 51
    };

    (void)state;
    begin(256, 1);
    for (uint64_t i = 0; i < 8; i++)
        put(CR3, VA + i * 4096, 1, flags[i] ? (PAGE + i * 4096) | flags[i] : 0);
    put(CR3, VA - 8 * 4096, 1, (PAGE + 8 * 4096) | ALL | A | D); /* of another group */
    goes(0, VA, PT_WRITE, PAGE, 1);
    goes(0, VA + 4096, PT_WRITE, PAGE + 4096, 0);
    for (uint64_t i = 2; i < 6; i++)
        goes(0, VA + i * 4096, PT_READ, PAGE + i * 4096, 1);
    assert_false(*sim_entry(&sim, CR3, VA + 2 * 4096, 1) & D);
    assert_int_equal(tried(0, VA + 5 * 4096, PT_EXEC), SHADOW_REFUSED);
    assert_int_equal(tried(0, VA + 6 * 4096, PT_READ), SHADOW_REFUSED);
    assert_int_equal(tried(0, VA + 7 * 4096, PT_READ), SHADOW_REFUSED);
    goes(0, VA - 8 * 4096, PT_READ, PAGE + 8 * 4096, 1);
    /* They go with what they were made of. */
    put(CR3, VA + 4096, 1, 0);
    sim_invlpg(&sim, 0, VA + 4096);
    assert_int_equal(tried(0, VA + 4096, PT_READ), SHADOW_REFUSED);
}

/* A table among the neighbours stays read-only. */
static void test_around_table(void **state)
{
    uint64_t table;

    (void)state;
    begin(256, 1);
    put(CR3, VA, 1, PAGE | ALL | A | D);
    goes(0, VA, PT_READ, PAGE, 1);
    rounds(ROUNDS);
    table = *sim_entry(&sim, CR3, VA, 2) & ADR;
    put(CR3, HALF + 4096, 1, table | P | W | A | D);
    put(CR3, HALF, 1, PAGE | P | W | A | D);
    be(0, CR3, false);
    rounds(ROUNDS);
    goes(0, HALF, PT_WRITE, PAGE, 1);
    goes(0, HALF + 4096, PT_READ, table, 0);
    assert_int_equal(stats().unsyncs, 0);
    goes(0, HALF + 4096, PT_WRITE, table, 1);
    assert_int_equal(stats().unsyncs, 1);
}

static void test_agrees(void **state)
{
    struct pt_access access = { .op = PT_READ, .user = true };
    struct shadow_mode mode = sim_mode(CR3, true);
    struct pt_walk walk;

    (void)state;
    begin(256, 1);
    put(CR3, VA, 1, PAGE | ALL);
    sim_leave(&sim, 0);
    assert_int_equal(shadow_fault(sim.s, 0, &mode, gva(VA), &access, &walk), SHADOW_FILLED);
    assert_int_equal(shadow_fault(sim.s, 0, &mode, gva(VA), &access, &walk), SHADOW_AGREES);
    access.op = PT_WRITE;
    assert_int_equal(shadow_fault(sim.s, 0, &mode, gva(VA), &access, &walk), SHADOW_FILLED);
    access.op = PT_READ;
    assert_int_equal(shadow_fault(sim.s, 0, &mode, gva(VA), &access, &walk), SHADOW_AGREES);
    assert_int_equal(walk.output, PAGE);
    access.user = false; /* and so a ring 3 root can't be given a page of ring 0 */
    put(CR3, VA, 1, PAGE | P | W);
    assert_int_equal(shadow_fault(sim.s, 0, &mode, gva(VA), &access, &walk), SHADOW_FILLED);
    assert_int_equal(shadow_fault(sim.s, 0, &mode, gva(VA), &access, &walk), SHADOW_AGREES);
    assert_int_equal(tried(0, VA, PT_READ), SHADOW_REFUSED);
}

/* --- large pages --------------------------------------------------------------------------- */

static void test_large(void **state)
{
    (void)state;
    begin(256, 1);
    put(CR3, VA, 2, 8 * MIB | ALL | PS | D);
    goes(0, VA, PT_WRITE, 8 * MIB + (VA & (2 * MIB - 1)), 1);
    goes(0, VA - 0x100000, PT_WRITE, 8 * MIB + (VA & (2 * MIB - 1)) - 0x100000, 0);
    assert_int_equal(stats().fills_large, 1);
    /* Only its lower half is RAM. */
    sim.guarded = 10 * MIB + 0x1000;
    put(CR3, VA + 2 * MIB, 2, 10 * MIB | ALL | PS);
    goes(0, (VA & ~(2 * MIB - 1)) + 2 * MIB, PT_READ, 10 * MIB, 1);
    goes(0, (VA & ~(2 * MIB - 1)) + 2 * MIB + 0x2000, PT_WRITE, 10 * MIB + 0x2000, 1);
    assert_int_equal(stats().fills_large, 1);
    assert_true(*sim_entry(&sim, CR3, VA + 2 * MIB, 2) & D);
    sim.guarded = 0;
}

/* 1 GiB pages: as one, by 2 MiB where a table is in it, by 4 KiB around the table. */
static void test_gib(void **state)
{
    (void)state;
    sim_make(&sim, 4 * GIB, 256, 1, true);
    put(CR3, HALF, 3, P | W | PS | D);
    put(CR3, HALF + GIB, 3, GIB | P | W | PS);
    be(0, CR3, false);
    goes(0, HALF + GIB + 0x12345678, PT_WRITE, GIB + 0x12345678, 1);
    goes(0, HALF + GIB, PT_WRITE, GIB, 0);
    assert_int_equal(stats().fills_large, 1);
    goes(0, HALF + 0x12345678, PT_WRITE, 0x12345678, 1);
    assert_int_equal(stats().fills_large, 2);
    rounds(ROUNDS); /* the tables become protected */
    goes(0, HALF + 0x12345678, PT_WRITE, 0x12345678, 1);
    goes(0, HALF + 0x12345678 + 4096, PT_WRITE, 0x12345678 + 4096, 0);
    assert_int_equal(stats().fills_large, 3);
    goes(0, HALF + PAGE, PT_WRITE, PAGE, 1);
    goes(0, HALF + PAGE + 4096, PT_WRITE, PAGE + 4096, 0);
    goes(0, HALF + 0x8000, PT_WRITE, 0x8000, 1);
    goes(0, HALF + 0x9000, PT_WRITE, 0x9000, 0); /* 4 KiB, beside CR3: filled with it */
    goes(0, HALF + 0x20000, PT_WRITE, 0x20000, 1);
    goes(0, HALF + CR3, PT_READ, CR3, 0);
    assert_int_equal(stats().unsyncs, 0);
    goes(0, HALF + CR3, PT_WRITE, CR3, 1);
    assert_int_equal(stats().unsyncs, 1);
}

/* --- write protection ---------------------------------------------------------------------- */

static void test_unsync_and_protect(void **state)
{
    uint64_t table;

    (void)state;
    begin(256, 1);
    put(CR3, VA, 1, PAGE | ALL);
    for (uint64_t at = 0; at < RAM; at += 2 * MIB)
        put(CR3, HALF + at, 2, at | P | W | D | PS);
    goes(0, VA, PT_WRITE, PAGE, 1);
    table = *sim_entry(&sim, CR3, VA, 2) & ADR;
    be(0, CR3, false);
    goes(0, HALF + table, PT_WRITE, table, 1); /* new ones are unsync */
    assert_int_equal(stats().unsyncs, 0);
    rounds(ROUNDS);
    assert_int_equal(stats().unsync_tables, 0);
    goes(0, HALF + table, PT_READ, table, 1);
    goes(0, HALF + table, PT_WRITE, table, 1);
    goes(0, HALF + table, PT_WRITE, table, 0);
    assert_int_equal(stats().unsyncs, 1);
    assert_int_equal(stats().unsync_tables, 1);
    *sim_entry(&sim, CR3, VA, 1) = 0;
    sim_sync(&sim, 0);
    be(0, CR3, true);
    assert_int_equal(tried(0, VA, PT_READ), SHADOW_REFUSED);
    /* Written by ourselves: the same. */
    put(CR3, VA, 1, PAGE | ALL);
    goes(0, VA, PT_READ, PAGE, 1);
    rounds(ROUNDS);
    assert_int_equal(stats().unsync_tables, 0);
    put(CR3, VA, 1, 0);
    assert_int_equal(stats().unsync_tables, 1);
    sim_sync(&sim, 0);
    assert_int_equal(tried(0, VA, PT_READ), SHADOW_REFUSED);
}

/* A vCPU that stays in the guest may write through what it has: compared until it left. */
static void test_protecting_waits(void **state)
{
    uint64_t at;

    (void)state;
    begin(256, 2);
    put(CR3, VA, 1, PAGE | ALL);
    at = where(sim_entry(&sim, CR3, VA, 1));
    put(CR3, HALF + at, 1, (at & ADR) | P | W | D);
    be(1, CR3, false);
    goes(0, VA, PT_READ, PAGE, 1);
    goes(1, HALF + at, PT_WRITE, at, 1);
    rounds(ROUNDS);
    goes(1, HALF + at, PT_WRITE, at, 0); /* from its TLB */
    *sim_entry(&sim, CR3, VA, 1) = 0;
    rounds(1);
    assert_int_equal(tried(0, VA, PT_READ), SHADOW_REFUSED);
    sim_leave(&sim, 1);
    rounds(2);
    goes(1, HALF + at, PT_WRITE, at, 1);
    assert_int_equal(stats().unsyncs, 1);
}

/* An entry of the PML4 that leads to the PML4: its tables are pages of memory as well. */
static void test_self_map(void **state)
{
    uint64_t slot = 100, leaf = UINT64_C(100) << 39 | (VA >> 9 & UINT64_C(0x7ffffffff8));
    uint64_t at;

    (void)state;
    begin(256, 1);
    put(CR3, VA, 1, PAGE | ALL);
    put(CR3, slot << 39, 4, CR3 | ALL);
    at = where(sim_entry(&sim, CR3, VA, 1));
    goes(0, VA, PT_READ, PAGE, 1);
    goes(0, leaf, PT_WRITE, at, 1);
    rounds(ROUNDS);
    goes(0, leaf, PT_WRITE, at, 1);
    put(CR3, VA, 1, (PAGE + 4096) | ALL);
    sim_invlpg(&sim, 0, VA);
    goes(0, VA, PT_READ, PAGE + 4096, 1);
    /* Itself gone, with all that was below it. */
    put(CR3, slot << 39, 4, 0);
    sim_sync(&sim, 0);
    goes(0, VA, PT_READ, PAGE + 4096, 0);
    assert_int_equal(tried(0, leaf, PT_READ), SHADOW_REFUSED);
}

/* Two address spaces with one table: one shadow of it, and INVLPG in either. */
static void test_shared_tables(void **state)
{
    uint64_t before;

    (void)state;
    begin(256, 1);
    put(CR3, VA, 1, PAGE | ALL);
    put(CR3B, VA, 4, *sim_entry(&sim, CR3, VA, 4));
    goes(0, VA, PT_READ, PAGE, 1);
    before = stats().tables;
    be(0, CR3B, true);
    goes(0, VA, PT_READ, PAGE, 1);
    assert_int_equal(stats().tables, before + 1);
    put(CR3, VA, 1, (PAGE + 4096) | ALL);
    sim_invlpg(&sim, 0, VA);
    be(0, CR3, true);
    goes(0, VA, PT_READ, PAGE + 4096, 1);
}

/* INVLPG, while the way to the page is cut: it must not lead to what was there once it is whole
 * again, although another address space had kept it. */
static void test_invlpg_of_a_cut_way(void **state)
{
    uint64_t top;

    (void)state;
    begin(256, 1);
    put(CR3, VA, 1, PAGE | ALL);
    put(CR3, VA + 4096, 1, PAGE | ALL);
    top = *sim_entry(&sim, CR3, VA, 4);
    put(CR3B, VA, 4, top);
    be(0, CR3B, true);
    goes(0, VA, PT_READ, PAGE, 1);
    be(0, CR3, true);
    put(CR3, VA, 1, (PAGE + 4096) | ALL);
    put(CR3, VA, 4, 0);
    sim_invlpg(&sim, 0, VA);
    put(CR3, VA, 4, top);
    goes(0, VA + 4096, PT_READ, PAGE, 1);
    goes(0, VA, PT_READ, PAGE + 4096, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(test_rights),
        CASE(test_reserved),
        CASE(test_stale_until_invalidated),
        CASE(test_full_table),
        CASE(test_accessed_and_dirty),
        CASE(test_around),
        CASE(test_around_table),
        CASE(test_agrees),
        CASE(test_large),
        CASE(test_gib),
        CASE(test_unsync_and_protect),
        CASE(test_protecting_waits),
        CASE(test_self_map),
        CASE(test_shared_tables),
        CASE(test_invlpg_of_a_cut_way),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
