/*
 * The walker: each format against tables built by hand, against an oracle that
 * computes what the builder meant, and against tables that are pure noise.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "ept/format_x86.h"
#include "ept/walk.h"

#define PAGES 64
#define BYTES (PAGES * 4096u)

/* A little physical memory; `reads` counts what the walker asked for. */
struct ram {
    uint8_t byte[BYTES];
    unsigned used, reads;
};

static int ram_read(void *ctx, uint64_t at, unsigned size, uint64_t *raw)
{
    struct ram *ram = ctx;

    ram->reads++;
    *raw = 0;
    if (at >= BYTES || size > BYTES - at)
        return -EFAULT;
    memcpy(raw, ram->byte + at, size);
    return 0;
}

static struct ram *ram_new(void)
{
    struct ram *ram = calloc(1, sizeof(*ram));

    assert_non_null(ram);
    ram->used = 1; /* page 0 stays empty: an address of 0 is a mistake */
    return ram;
}

static uint64_t page_new(struct ram *ram)
{
    assert_true(ram->used < PAGES);
    return (uint64_t)ram->used++ * 4096;
}

static void put(struct ram *ram, uint64_t at, unsigned size, uint64_t raw)
{
    memcpy(ram->byte + at, &raw, size);
}

static uint64_t get(struct ram *ram, uint64_t at, unsigned size)
{
    uint64_t raw = 0;

    memcpy(&raw, ram->byte + at, size);
    return raw;
}

static struct x86_paging long_mode(uint64_t cr3)
{
    return (struct x86_paging){ .cr0 = X86_CR0_PG | 1,
                                .cr3 = cr3,
                                .cr4 = X86_CR4_PAE,
                                .efer = X86_EFER_LMA | X86_EFER_NXE,
                                .phys_bits = 46,
                                .gib_pages = true };
}

/*
 * Maps `va` to `to` with a leaf at `level` by the classic arithmetic (9 bits a
 * level, 12 of offset), which is not how the walker computes it.
 */
static void map64(struct ram *ram, uint64_t root, unsigned levels, uint64_t va, uint64_t to,
                  unsigned level, uint64_t flags)
{
    uint64_t table = root;

    for (unsigned n = levels; n > level; n--) {
        uint64_t at = table + ((va >> (12 + 9 * (n - 1))) % 512) * 8;

        if (!get(ram, at, 8))
            put(ram, at, 8, page_new(ram) | 7);
        table = get(ram, at, 8) & UINT64_C(0xffffffffff000);
    }
    put(ram, table + ((va >> (12 + 9 * (level - 1))) % 512) * 8, 8,
        to | flags | (level > 1 ? X86_PTE_PS : 0));
}

static void the_worked_example(void **state)
{
    /* Indices 0x0ff, 0x1f4, 0x091, 0x145, offset 0x678, computed on paper. */
    const uint64_t va = UINT64_C(0x00007ffd12345678);
    struct ram *ram = ram_new();
    struct x86_paging regs = long_mode(page_new(ram));
    struct pt_space space;
    struct pt_walk w;

    (void)state;
    x86_pt_space(&space, &regs);
    put(ram, 0x1000 + 0x0ff * 8, 8, 0x2007);
    put(ram, 0x2000 + 0x1f4 * 8, 8, 0x3007);
    put(ram, 0x3000 + 0x091 * 8, 8, 0x4007);
    put(ram, 0x4000 + 0x145 * 8, 8, UINT64_C(0x80000000deadb067));
    assert_int_equal(pt_walk(&space, va, ram_read, ram, &w), PT_OK);
    assert_int_equal(w.output, 0xdeadb678);
    assert_int_equal(w.level, 1);
    assert_int_equal(w.shift, 12);
    assert_int_equal(w.count, 4);
    assert_int_equal(ram->reads, 4);
    assert_int_equal(w.ref[0].level, 4);
    assert_int_equal(w.ref[0].at, 0x1000 + 0x0ff * 8);
    assert_int_equal(w.ref[0].raw, 0x2007);
    assert_int_equal(w.ref[3].level, 1);
    assert_int_equal(w.ref[3].at, 0x4000 + 0x145 * 8);
    assert_int_equal(w.ref[3].raw, UINT64_C(0x80000000deadb067));
    free(ram);
}

/* Every leaf size, both depths, canonical halves: output and number of references. */
static void leaves_of_every_size(void **state)
{
    const uint64_t vas[] = { 0, UINT64_C(0x7fffffffffff), UINT64_C(0xffff800000000000),
                             UINT64_C(0xffffffffffffffff), UINT64_C(0x123456789abc) };

    (void)state;
    for (unsigned levels = 4; levels <= 5; levels++) {
        for (unsigned leaf = 1; leaf <= 3; leaf++) {
            for (size_t i = 0; i < sizeof(vas) / sizeof(vas[0]); i++) {
                struct ram *ram = ram_new();
                struct x86_paging regs = long_mode(page_new(ram));
                unsigned shift = 12 + 9 * (leaf - 1);
                uint64_t size = UINT64_C(1) << shift, to = 5 * size;
                struct pt_space space;
                struct pt_walk w;

                if (levels == 5)
                    regs.cr4 |= X86_CR4_LA57;
                x86_pt_space(&space, &regs);
                map64(ram, regs.cr3, levels, vas[i], to, leaf, 0x63);
                assert_int_equal(pt_walk(&space, vas[i], ram_read, ram, &w), PT_OK);
                assert_int_equal(w.output, to + vas[i] % size);
                assert_int_equal(w.level, leaf);
                assert_int_equal(w.shift, shift);
                assert_int_equal(w.count, levels - leaf + 1);
                assert_int_equal(ram->reads, w.count);
                free(ram);
            }
        }
    }
}

static void non_canonical_reads_nothing(void **state)
{
    struct ram *ram = ram_new();
    struct x86_paging regs = long_mode(page_new(ram));
    struct pt_space space;
    struct pt_walk w;

    (void)state;
    x86_pt_space(&space, &regs);
    assert_int_equal(pt_walk(&space, UINT64_C(0x0000800000000000), ram_read, ram, &w),
                     PT_NON_CANONICAL);
    assert_int_equal(pt_walk(&space, UINT64_C(0xffff7fffffffffff), ram_read, ram, &w),
                     PT_NON_CANONICAL);
    assert_int_equal(w.count, 0);
    assert_int_equal(ram->reads, 0);
    /* Five levels reach further. */
    regs.cr4 |= X86_CR4_LA57;
    x86_pt_space(&space, &regs);
    assert_int_equal(pt_walk(&space, UINT64_C(0x0000800000000000), ram_read, ram, &w),
                     PT_NOT_PRESENT);
    assert_int_equal(pt_walk(&space, UINT64_C(0x0100000000000000), ram_read, ram, &w),
                     PT_NON_CANONICAL);
    free(ram);
}

static void a_fault_names_its_level(void **state)
{
    (void)state;
    for (unsigned level = 1; level <= 4; level++) {
        struct ram *ram = ram_new();
        struct x86_paging regs = long_mode(page_new(ram));
        const uint64_t va = UINT64_C(0x123456789000);
        struct pt_space space;
        struct pt_walk w;

        x86_pt_space(&space, &regs);
        map64(ram, regs.cr3, 4, va, 0x5000, 1, 3);
        assert_int_equal(pt_walk(&space, va, ram_read, ram, &w), PT_OK);
        /* All bits but the present one: nothing of such an entry counts. */
        put(ram, w.ref[4 - level].at, 8, ~UINT64_C(1));
        assert_int_equal(pt_walk(&space, va, ram_read, ram, &w), PT_NOT_PRESENT);
        assert_int_equal(w.level, level);
        assert_int_equal(w.count, 5 - level);
        /* A table beyond RAM; at level 1 it is a leaf, and no read follows. */
        put(ram, w.ref[4 - level].at, 8, (uint64_t)BYTES | 7);
        assert_int_equal(pt_walk(&space, va, ram_read, ram, &w),
                         level == 1 ? PT_OK : PT_READ_FAILED);
        if (level > 1)
            assert_int_equal(w.level, level - 1);
        free(ram);
    }
}

/* One bit at a time in each entry of a walk; the oracle is the manual's table 4-14 ff. */
static bool reserved64(unsigned level, unsigned leaf, unsigned bit, const struct x86_paging *regs)
{
    if (bit >= regs->phys_bits && bit <= 51)
        return true;
    if (bit == 63)
        return !(regs->efer & X86_EFER_NXE);
    if (bit == 7 && level == 4)
        return true;
    if (level == leaf && level == 2)
        return bit >= 13 && bit <= 20;
    if (level == leaf && level == 3)
        return (bit >= 13 && bit <= 29) || !regs->gib_pages;
    return false;
}

static void reserved_bits_of_long_mode(void **state)
{
    (void)state;
    for (unsigned mode = 0; mode < 4; mode++) {
        for (unsigned leaf = 1; leaf <= 3; leaf++) {
            for (unsigned bit = 1; bit < 64; bit++) {
                struct ram *ram = ram_new();
                struct x86_paging regs = long_mode(page_new(ram));
                struct pt_space space;
                struct pt_walk w;

                regs.phys_bits = mode & 1 ? 52 : 39;
                if (mode & 2)
                    regs.efer &= ~X86_EFER_NXE;
                x86_pt_space(&space, &regs);
                map64(ram, regs.cr3, 4, 0x1000, 0, leaf, 1);
                (void)pt_walk(&space, 0x1000, ram_read, ram, &w);
                assert_int_equal(w.fault, PT_OK);
                for (unsigned i = 0; i < w.count; i++) {
                    struct pt_walk v;
                    unsigned level = 4 - i;
                    uint64_t was = w.ref[i].raw;
                    bool reserved = reserved64(level, leaf, bit, &regs);

                    /* A table entry that becomes a large leaf is another test. */
                    if (bit == 7 && level != leaf && level < 4)
                        continue;
                    put(ram, w.ref[i].at, 8, was | UINT64_C(1) << bit);
                    (void)pt_walk(&space, 0x1000, ram_read, ram, &v);
                    assert_int_equal(v.fault == PT_RESERVED && v.level == level, reserved);
                    put(ram, w.ref[i].at, 8, was);
                }
                free(ram);
            }
        }
    }
}

static void no_gib_pages_on_this_cpu(void **state)
{
    struct ram *ram = ram_new();
    struct x86_paging regs = long_mode(page_new(ram));
    struct pt_space space;
    struct pt_walk w;

    (void)state;
    map64(ram, regs.cr3, 4, 0, UINT64_C(1) << 30, 3, 3);
    x86_pt_space(&space, &regs);
    assert_int_equal(pt_walk(&space, 5, ram_read, ram, &w), PT_OK);
    regs.gib_pages = false;
    x86_pt_space(&space, &regs);
    assert_int_equal(pt_walk(&space, 5, ram_read, ram, &w), PT_RESERVED);
    assert_int_equal(w.level, 3);
    free(ram);
}

static void two_levels(void **state)
{
    struct ram *ram = ram_new();
    uint64_t pd = page_new(ram), pt = page_new(ram);
    struct x86_paging regs = { .cr0 = X86_CR0_PG | 1, .cr3 = pd | 0x18, .phys_bits = 40 };
    struct pt_space space;
    struct pt_walk w;

    (void)state;
    x86_pt_space(&space, &regs);
    put(ram, pd + 4 * 0x300, 4, pt | 7); /* 0xc0000000 */
    put(ram, pt + 4 * 0x001, 4, 0xabcde007);
    assert_int_equal(pt_walk(&space, 0xc0001234, ram_read, ram, &w), PT_OK);
    assert_int_equal(w.output, 0xabcde234);
    assert_int_equal(w.count, 2);
    assert_int_equal(w.ref[0].at, pd + 4 * 0x300);
    assert_int_equal(pt_walk(&space, UINT64_C(0x1c0001234), ram_read, ram, &w), PT_NON_CANONICAL);

    /* Bit 7 means nothing without CR4.PSE, ... */
    put(ram, pd, 4, pt | 0x87);
    assert_int_equal(pt_walk(&space, 0x1008, ram_read, ram, &w), PT_OK);
    assert_int_equal(w.output, 0xabcde008);
    /* ... and with it the entry maps 4 MiB; bits 20 to 13 are address bits 39 to 32. */
    regs.cr4 = X86_CR4_PSE;
    x86_pt_space(&space, &regs);
    put(ram, pd, 4, 0x00c00087 | 0xffu << 13);
    assert_int_equal(pt_walk(&space, 0x3abcde, ram_read, ram, &w), PT_OK);
    assert_int_equal(w.output, UINT64_C(0xff00c00000) + 0x3abcde);
    assert_int_equal(w.shift, 22);
    put(ram, pd, 4, 0x00e00087); /* bit 21 */
    assert_int_equal(pt_walk(&space, 0, ram_read, ram, &w), PT_RESERVED);
    /* With 36 address bits, only bits 16 to 13 may be set. */
    regs.phys_bits = 36;
    x86_pt_space(&space, &regs);
    put(ram, pd, 4, 0x00c00087 | 0x0fu << 13);
    assert_int_equal(pt_walk(&space, 0, ram_read, ram, &w), PT_OK);
    put(ram, pd, 4, 0x00c00087 | 0x10u << 13);
    assert_int_equal(pt_walk(&space, 0, ram_read, ram, &w), PT_RESERVED);
    free(ram);
}

static void three_levels(void **state)
{
    struct ram *ram = ram_new();
    uint64_t page = page_new(ram), pdpt = page + 0x7e0; /* 32-byte aligned only */
    uint64_t pd = page_new(ram), pt = page_new(ram);
    struct x86_paging regs = {
        .cr0 = X86_CR0_PG | 1, .cr3 = pdpt, .cr4 = X86_CR4_PAE, .phys_bits = 36
    };
    struct pt_space space;
    struct pt_walk w;

    (void)state;
    x86_pt_space(&space, &regs);
    put(ram, pdpt + 8 * 3, 8, pd | 1);
    put(ram, pd + 8 * 1, 8, pt | 7);
    put(ram, pt + 8 * 2, 8, UINT64_C(0xf23456007));
    assert_int_equal(pt_walk(&space, 0xc0202fff, ram_read, ram, &w), PT_OK);
    assert_int_equal(w.output, UINT64_C(0xf23456fff));
    assert_int_equal(w.count, 3);
    assert_int_equal(w.ref[0].at, pdpt + 24);
    put(ram, pd + 8 * 4, 8, 0x40000087); /* 2 MiB */
    assert_int_equal(pt_walk(&space, 0xc0812345, ram_read, ram, &w), PT_OK);
    assert_int_equal(w.output, 0x40012345);
    assert_int_equal(w.shift, 21);

    put(ram, pdpt + 8 * 3, 8, pd | 3); /* R/W is reserved in a PDPTE of PAE */
    assert_int_equal(pt_walk(&space, 0xc0202fff, ram_read, ram, &w), PT_RESERVED);
    put(ram, pdpt + 8 * 3, 8, pd | 1);
    put(ram, pt + 8 * 2, 8, UINT64_C(1) << 62 | 0x3007);
    assert_int_equal(pt_walk(&space, 0xc0202fff, ram_read, ram, &w), PT_RESERVED);
    put(ram, pt + 8 * 2, 8, UINT64_C(1) << 63 | 0x3007); /* NX without EFER.NXE */
    assert_int_equal(pt_walk(&space, 0xc0202fff, ram_read, ram, &w), PT_RESERVED);
    regs.efer = X86_EFER_NXE;
    x86_pt_space(&space, &regs);
    assert_int_equal(pt_walk(&space, 0xc0202fff, ram_read, ram, &w), PT_OK);
    free(ram);
}

static void paging_off(void **state)
{
    struct x86_paging regs = { .cr0 = 1, .cr3 = 0xdeadb000, .phys_bits = 40 };
    struct pt_space space;
    struct pt_walk w;

    (void)state;
    x86_pt_space(&space, &regs);
    assert_int_equal(pt_walk(&space, 0xfffffff0, ram_read, NULL, &w), PT_OK);
    assert_int_equal(w.output, 0xfffffff0);
    assert_int_equal(w.count, 0);
    assert_int_equal(pt_walk(&space, UINT64_C(0x100000000), ram_read, NULL, &w), PT_NON_CANONICAL);
}

static void a_table_that_refers_to_itself(void **state)
{
    struct ram *ram = ram_new();
    struct x86_paging regs = long_mode(page_new(ram));
    struct pt_space space;
    struct pt_walk w;

    (void)state;
    x86_pt_space(&space, &regs);
    put(ram, regs.cr3, 8, regs.cr3 | 3);
    assert_int_equal(pt_walk(&space, 0x678, ram_read, ram, &w), PT_OK);
    assert_int_equal(w.output, regs.cr3 + 0x678);
    assert_int_equal(w.count, 4);
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(w.ref[i].at, regs.cr3);
    free(ram);
}

/* Tables of noise: the walk ends, stays within its bounds, and is consistent. */
static void noise_does_no_harm(void **state)
{
    struct ram *ram = ram_new();

    (void)state;
    srand(7);
    for (size_t i = 0; i < BYTES; i += 4) {
        uint32_t word = (uint32_t)rand();

        /* Keep most addresses in RAM, or every walk would end at once. */
        if (i % 8 == 0 && rand() % 4)
            word = (word % PAGES) << 12 | (word & 0xf7f);
        else if (i % 8 == 4 && rand() % 4)
            word = 0;
        memcpy(ram->byte + i, &word, 4);
    }
    for (int i = 0; i < 200000; i++) {
        struct x86_paging regs = {
            .cr0 = rand() % 8 ? X86_CR0_PG | 1 : 1,
            .cr3 = (uint64_t)(rand() % PAGES) << 12,
            .cr4 = (uint64_t)rand() & (X86_CR4_PAE | X86_CR4_PSE | X86_CR4_LA57),
            .efer = (uint64_t)rand() & (X86_EFER_LMA | X86_EFER_NXE),
            .phys_bits = 32 + (unsigned)rand() % 21,
            .gib_pages = rand() & 1,
        };
        enum pt_fault fault;
        uint64_t va = (uint64_t)rand() << 33 ^ (uint64_t)rand() << 11 ^ (uint64_t)rand();
        struct pt_space space;
        struct pt_walk w;

        va = (uint64_t)((int64_t)(va << (rand() % 40)) >> (rand() % 40));
        x86_pt_space(&space, &regs);
        ram->reads = 0;
        fault = pt_walk(&space, va, ram_read, ram, &w);
        assert_int_equal(fault, w.fault);
        assert_true(w.count <= space.format->levels);
        assert_int_equal(ram->reads, w.count);
        if (w.fault == PT_OK && w.count)
            assert_int_equal(w.level, w.ref[w.count - 1].level);
        if (w.fault == PT_OK)
            assert_int_equal((w.output ^ va) & ((UINT64_C(1) << w.shift) - 1), 0);
    }
    free(ram);
}

static void every_fault_has_a_name(void **state)
{
    (void)state;
    for (int i = PT_OK; i <= PT_MISCONFIG; i++) {
        assert_non_null(pt_fault_name((enum pt_fault)i));
        for (int j = PT_OK; j < i; j++)
            assert_string_not_equal(pt_fault_name((enum pt_fault)i),
                                    pt_fault_name((enum pt_fault)j));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_worked_example),
        cmocka_unit_test(leaves_of_every_size),
        cmocka_unit_test(non_canonical_reads_nothing),
        cmocka_unit_test(a_fault_names_its_level),
        cmocka_unit_test(reserved_bits_of_long_mode),
        cmocka_unit_test(no_gib_pages_on_this_cpu),
        cmocka_unit_test(two_levels),
        cmocka_unit_test(three_levels),
        cmocka_unit_test(paging_off),
        cmocka_unit_test(a_table_that_refers_to_itself),
        cmocka_unit_test(noise_does_no_harm),
        cmocka_unit_test(every_fault_has_a_name),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
