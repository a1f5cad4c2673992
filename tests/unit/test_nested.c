/*
 * The walk in two dimensions, against real tables of every combination of leaf sizes and depths,
 * built by plain arithmetic in a small memory. Addresses and counts are computed, not
 * copied.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "ept/format_x86.h"
#include "ept/nested.h"

#define PAGES 96
#define BYTES (PAGES * 4096u)

/* The guest's tables lie here in gpa, each in a 1 GiB of its own, so that each can have a host page
 * of any size; and the page of the access in one more. */
#define TABLE_GPA(level) ((uint64_t)(level) << 30 | 0x5000)
#define PAGE_GPA         (UINT64_C(9) << 30)

#define VA UINT64_C(0x00007ffd12345678) /* below 2^47: good for four levels and five */

#define HOST_R UINT64_C(1)
#define HOST_W UINT64_C(2)
#define HOST_X UINT64_C(4)
#define X86_A  UINT64_C(0x20)
#define X86_D  UINT64_C(0x40)

/* One memory for all: host addresses are offsets. Host tables below, guest tables above. */
struct machine {
    uint8_t byte[BYTES];
    unsigned used;
    unsigned guest_levels, host_levels;
    uint64_t guest_table[PT_LEVELS_MAX + 1]; /* offset of the guest's table of that level */
    unsigned host_reads, guest_reads;
    uint64_t changing_at, changed; /* the host's entry there is this when it is read again */
    bool was_read;
    struct pt_format guest_format, host_format;
    struct nested_space space;
};

static uint64_t page_new(struct machine *m)
{
    assert_true(m->used < PAGES);
    return (uint64_t)m->used++ * 4096;
}

static uint64_t get(const struct machine *m, uint64_t at)
{
    uint64_t raw;

    assert_true(at <= BYTES - 8);
    memcpy(&raw, m->byte + at, 8);
    return raw;
}

static void put(struct machine *m, uint64_t at, uint64_t raw)
{
    assert_true(at <= BYTES - 8);
    memcpy(m->byte + at, &raw, 8);
}

/* Host addresses of guest memory stand far above the tables; what is mapped large would not fit. */
#define GUEST_BASE (UINT64_C(1) << 40)

static int read_host(void *ctx, uint64_t at, unsigned size, uint64_t *raw)
{
    struct machine *m = ctx;

    m->host_reads++;
    if (size != 8 || at >= BYTES)
        return -1;
    *raw = m->changed && at == m->changing_at && m->was_read ? m->changed : get(m, at);
    if (m->changed && at == m->changing_at) {
        if (m->was_read)
            m->changed = 0;
        m->was_read = true;
    }
    return 0;
}

/* gpa G lies at host address GUEST_BASE + G, whatever the page size. */
static int read_guest(void *ctx, uint64_t at, unsigned size, uint64_t *raw)
{
    struct machine *m = ctx;

    m->guest_reads++;
    for (unsigned n = 1; n <= m->guest_levels; n++)
        if (size == 8 && at - GUEST_BASE - TABLE_GPA(n) < 4096) {
            *raw = get(m, m->guest_table[n] + (at - GUEST_BASE - TABLE_GPA(n)));
            return 0;
        }
    return -1;
}

static unsigned slot(uint64_t address, unsigned level)
{
    return (unsigned)(address >> (12 + 9 * (level - 1))) & 511;
}

/* Where the host's entry of `level` for `gpa` lies; tables on the way are made. */
static uint64_t host_entry(struct machine *m, uint64_t gpa, unsigned level)
{
    uint64_t table = m->space.host.root;

    for (unsigned n = m->host_levels; n > level; n--) {
        uint64_t at = table + slot(gpa, n) * 8;

        if (get(m, at) == 0)
            put(m, at, page_new(m) | HOST_R | HOST_W | HOST_X);
        table = get(m, at) & ~UINT64_C(0xfff);
    }
    return table + slot(gpa, level) * 8;
}

static void host_map(struct machine *m, uint64_t gpa, unsigned leaf, uint64_t rights)
{
    uint64_t size = UINT64_C(4096) << (9 * (leaf - 1));

    put(m, host_entry(m, gpa, leaf),
        ((GUEST_BASE + gpa) & ~(size - 1)) | rights | (leaf > 1 ? 0x80 : 0));
}

static uint64_t guest_entry(const struct machine *m, unsigned level)
{
    return m->guest_table[level] + slot(VA, level) * 8;
}

/* Host leaves may come at levels 1 to 3, rights as in EPT, but with its own rules switched off. */
static struct pt_format host_format(unsigned levels, enum pt_rules rules)
{
    struct pt_format f = {
        .name = "host",
        .levels = (uint8_t)levels,
        .entry_bytes = 8,
        .input_bits = (uint8_t)(12 + 9 * levels),
        .present = HOST_R | HOST_W | HOST_X,
        .table_addr = UINT64_C(0xffffffffff000),
        .root_addr = UINT64_C(0xffffffffff000),
        .rules = rules,
        .rights = { .read = HOST_R, .write = HOST_W, .exec = HOST_X },
        .accessed = 0x100,
        .dirty = 0x200,
    };

    for (unsigned n = 1; n <= levels; n++) {
        f.level[n].shift = (uint8_t)(12 + 9 * (n - 1));
        f.level[n].bits = 9;
        f.level[n].leaf = n == 1 ? PT_LEAF_ALWAYS : (n <= 3 ? PT_LEAF_BIT : PT_LEAF_NEVER);
        f.level[n].leaf_bit = 0x80;
        f.level[n].leaf_addr = f.table_addr & ~((UINT64_C(1) << f.level[n].shift) - 1);
    }
    return f;
}

/*
 * A guest that maps VA to PAGE_GPA + offset with a leaf of level `guest_leaf`; the host has its
 * tables in leaves of level `table_leaf`, the page in one of level `page_leaf`.
 */
static struct machine *machine_new(unsigned guest_levels, unsigned guest_leaf, unsigned host_levels,
                                   unsigned table_leaf, unsigned page_leaf)
{
    struct machine *m = calloc(1, sizeof(*m));

    assert_non_null(m);
    m->used = 1;
    m->guest_levels = guest_levels;
    m->host_levels = host_levels;
    m->guest_format = guest_levels == 5 ? pt_x86_64_5l : pt_x86_64;
    m->guest_format.rights = (struct pt_rights){ .write = 2, .user = 4, .no_exec = X86_PTE_NX };
    m->guest_format.accessed = X86_A;
    m->guest_format.dirty = X86_D;
    m->host_format = host_format(host_levels, PT_RULES_EPT);
    m->space.guest = (struct pt_space){
        .format = &m->guest_format,
        .root = TABLE_GPA(guest_levels),
        .policy = { .ad = true, .write_protect = true, .no_exec = true },
    };
    m->space.host = (struct pt_space){ .format = &m->host_format, .root = page_new(m) };
    m->space.read_guest = read_guest;
    m->space.read_host = read_host;
    m->space.guest_ctx = m->space.host_ctx = m;
    for (unsigned n = guest_levels; n >= guest_leaf; n--) {
        m->guest_table[n] = page_new(m);
        host_map(m, TABLE_GPA(n), table_leaf, HOST_R | HOST_W | HOST_X);
        put(m, guest_entry(m, n), TABLE_GPA(n - 1) | X86_A | X86_D | 7);
    }
    put(m, guest_entry(m, guest_leaf),
        PAGE_GPA | X86_A | X86_D | 7 | (guest_leaf > 1 ? X86_PTE_PS : 0));
    host_map(m, PAGE_GPA + VA % (UINT64_C(4096) << (9 * (guest_leaf - 1))), page_leaf,
             HOST_R | HOST_W | HOST_X);
    return m;
}

static enum pt_fault walk(struct machine *m, enum pt_op op, struct nested_walk *w)
{
    const struct pt_access access = { .op = op, .user = true };

    m->host_reads = m->guest_reads = 0;
    return nested_walk(&m->space, gva(VA), &access, w);
}

/* The references have to come down each column, and then the guest's entry. */
static void check_order(const struct machine *m, const struct nested_walk *w, unsigned g,
                        unsigned table_refs, unsigned page_refs)
{
    unsigned i = 0;

    for (unsigned column = 0; column <= g; column++) {
        unsigned refs = column < g ? table_refs : page_refs;

        for (unsigned k = 0; k < refs; k++, i++) {
            assert_int_equal(w->ref[i].dim, PT_DIM_HOST);
            assert_int_equal(w->ref[i].column, column);
            assert_int_equal(w->ref[i].ref.level, m->host_levels - k);
            assert_int_equal(w->ref[i].ref.raw, get(m, w->ref[i].ref.at));
        }
        if (column < g) {
            unsigned level = m->guest_levels - column;
            uint64_t at = TABLE_GPA(level) + slot(VA, level) * 8;

            assert_int_equal(w->ref[i].dim, PT_DIM_GUEST);
            assert_int_equal(w->ref[i].column, column);
            assert_int_equal(w->ref[i].ref.level, level);
            assert_int_equal(w->ref[i].ref.at, at);
            assert_int_equal(w->ref[i].host_at, GUEST_BASE + at);
            assert_int_equal(w->ref[i].ref.raw, get(m, guest_entry(m, level)));
            i++;
        }
    }
    assert_int_equal(w->count, i);
}

static void check_all(unsigned gl, unsigned g_leaf, unsigned hl, unsigned table_leaf,
                      unsigned page_leaf)
{
    struct machine *m = machine_new(gl, g_leaf, hl, table_leaf, page_leaf);
    unsigned g = gl - g_leaf + 1, t = hl - table_leaf + 1, p = hl - page_leaf + 1;
    unsigned smaller = g_leaf < page_leaf ? g_leaf : page_leaf;
    uint64_t gpa = PAGE_GPA + VA % (UINT64_C(4096) << (9 * (g_leaf - 1)));
    struct nested_walk w;

    assert_int_equal(walk(m, PT_WRITE, &w), PT_OK);
    assert_int_equal(w.count, g * (t + 1) + p); /* the sum over columns */
    if (t == p)
        assert_int_equal(w.count, nested_refs(g, t));
    assert_int_equal(m->host_reads + m->guest_reads, w.count);
    assert_int_equal(w.columns, g + 1);
    assert_int_equal(w.gpa.v, gpa);
    assert_int_equal(w.output, GUEST_BASE + gpa);
    assert_int_equal(w.shift, 12 + 9 * (smaller - 1));
    check_order(m, &w, g, t, p);
    free(m);
}

static void every_combination_of_sizes(void **state)
{
    (void)state;
    for (unsigned gl = 4; gl <= 5; gl++)
        for (unsigned hl = 4; hl <= 5; hl++)
            for (unsigned g_leaf = 1; g_leaf <= 3; g_leaf++)
                for (unsigned t = 1; t <= 3; t++)
                    for (unsigned p = 1; p <= 3; p++)
                        check_all(gl, g_leaf, hl, t, p);
}

/* The published table, from which the formula could have been misread. */
static void counts_of_the_literature(void **state)
{
    static const unsigned want[4][4] = {
        { 35, 29, 23, 17 }, { 29, 24, 19, 14 }, { 23, 19, 15, 11 }, { 17, 14, 11, 8 }
    };

    (void)state;
    for (unsigned g = 5; g >= 2; g--)
        for (unsigned h = 5; h >= 2; h--) {
            unsigned gl = g == 5 ? 5 : 4, hl = h == 5 ? 5 : 4;
            struct machine *m = machine_new(gl, gl - g + 1, hl, hl - h + 1, hl - h + 1);
            struct nested_walk w;

            assert_int_equal(walk(m, PT_READ, &w), PT_OK);
            assert_int_equal(w.count, want[5 - g][5 - h]);
            assert_int_equal(nested_refs(g, h), want[5 - g][5 - h]);
            free(m);
        }
}

static void one_dimension_alone(void **state)
{
    struct machine *m = machine_new(4, 1, 4, 1, 1);
    const struct pt_format *host = m->space.host.format;
    struct pt_format none = { .name = "none", .input_bits = 32 };
    struct nested_walk w;

    (void)state;
    /* Paging off: one column, the gva is the gpa. */
    m->space.guest.format = &none;
    host_map(m, 0x12345000, 1, HOST_R);
    assert_int_equal(
        nested_walk(&m->space, gva(0x12345678), &(struct pt_access){ .op = PT_READ }, &w), PT_OK);
    assert_int_equal(w.count, 4);
    assert_int_equal(w.output, GUEST_BASE + 0x12345678);
    assert_int_equal(w.shift, 12);
    /* No second dimension: host addresses are gpas, also those above 4 GiB. */
    m->space.guest.format = &m->guest_format;
    m->space.host.format = &none;
    for (unsigned n = 4; n > 1; n--)
        put(m, guest_entry(m, n), (GUEST_BASE + TABLE_GPA(n - 1)) | X86_A | 7);
    m->space.guest.root = GUEST_BASE + TABLE_GPA(4);
    assert_int_equal(walk(m, PT_WRITE, &w), PT_OK);
    assert_int_equal(w.count, 4);
    assert_int_equal(w.output, PAGE_GPA + VA % 4096);
    assert_int_equal(w.shift, 12);
    assert_ptr_not_equal(host, m->space.host.format);
    free(m);
}

/* The host lacks one column's page after the other: the walk ends there. */
static void host_faults_in_each_column(void **state)
{
    (void)state;
    for (unsigned c = 0; c <= 4; c++) {
        struct machine *m = machine_new(4, 1, 4, 1, 1);
        uint64_t gpa = c < 4 ? TABLE_GPA(4 - c) : PAGE_GPA + VA % 4096;
        struct nested_walk w;

        put(m, host_entry(m, gpa, 2), 0); /* two levels up from the page: three are read */
        assert_int_equal(walk(m, PT_READ, &w), PT_NOT_PRESENT);
        assert_int_equal(w.fault_dim, PT_DIM_HOST);
        assert_int_equal(w.fault_column, c);
        assert_int_equal(w.count, c * 5 + 3);
        assert_int_equal(w.columns, c + 1);
        assert_int_equal(w.error_code, w.host[c].error_code);
        assert_false(w.fault_update);
        assert_int_equal(m->guest_reads, c);
        assert_int_equal(w.guest.fault, c < 4 ? PT_READ_FAILED : PT_OK);
        free(m);
    }
}

static void guest_faults_in_each_column(void **state)
{
    (void)state;
    for (unsigned c = 0; c < 4; c++) {
        struct machine *m = machine_new(4, 1, 4, 1, 1);
        struct nested_walk w;

        put(m, guest_entry(m, 4 - c), 0);
        assert_int_equal(walk(m, PT_READ, &w), PT_NOT_PRESENT);
        assert_int_equal(w.fault_dim, PT_DIM_GUEST);
        assert_int_equal(w.fault_column, c);
        assert_int_equal(w.count, (c + 1) * 5);
        assert_int_equal(w.error_code, 4); /* a read in ring 3, not present */
        free(m);
    }
}

/* Both dimensions refuse: what comes first on the way is what is reported. */
static void the_earlier_fault_wins(void **state)
{
    struct machine *m = machine_new(4, 1, 4, 1, 1);
    struct nested_walk w;

    (void)state;
    /* The guest refuses the write, the host has no page: the guest's walk ends first. */
    put(m, guest_entry(m, 1), PAGE_GPA | 5);
    put(m, host_entry(m, PAGE_GPA + VA % 4096, 1), 0);
    assert_int_equal(walk(m, PT_WRITE, &w), PT_PROTECTION);
    assert_int_equal(w.fault_dim, PT_DIM_GUEST);
    assert_int_equal(w.fault_column, 3);
    assert_int_equal(w.error_code, 7);
    assert_int_equal(w.count, 20);
    /* The host lacks the table in which the guest would find that. */
    put(m, host_entry(m, TABLE_GPA(1), 1), 0);
    assert_int_equal(walk(m, PT_WRITE, &w), PT_NOT_PRESENT);
    assert_int_equal(w.fault_dim, PT_DIM_HOST);
    assert_int_equal(w.fault_column, 3);
    assert_int_equal(w.count, 19);
    free(m);
}

/* A table that the host lets nobody write: it matters only where a bit has to be set. */
static void updates_need_the_hosts_write(void **state)
{
    (void)state;
    for (unsigned c = 0; c < 4; c++) {
        struct machine *m = machine_new(4, 1, 4, 1, 1);
        uint64_t raw = get(m, guest_entry(m, 4 - c));
        struct nested_walk w;

        host_map(m, TABLE_GPA(4 - c), 1, HOST_R | HOST_X);
        assert_int_equal(walk(m, PT_WRITE, &w), PT_OK);
        put(m, guest_entry(m, 4 - c), raw & ~X86_A);
        assert_int_equal(walk(m, PT_READ, &w), PT_PROTECTION);
        assert_int_equal(w.fault_dim, PT_DIM_HOST);
        assert_int_equal(w.fault_column, c);
        assert_true(w.fault_update);
        /* The entry was read, once, and nothing below it. */
        assert_int_equal(w.count, (c + 1) * 5);
        assert_int_equal(m->host_reads + m->guest_reads, w.count);
        assert_int_equal(w.guest.ref[c].raw, raw & ~X86_A);
        /* The dirty bit: only in the leaf, only for a write. */
        put(m, guest_entry(m, 4 - c), raw & ~X86_D);
        assert_int_equal(walk(m, PT_READ, &w), PT_OK);
        assert_int_equal(walk(m, PT_WRITE, &w), c == 3 ? PT_PROTECTION : PT_OK);
        free(m);
    }
}

/* One entry of the host's stands for two levels, and changes between them: a table, then a leaf.
 * The look at the rights of an update sees both as the walk did. */
static void updates_of_a_loop_that_changes(void **state)
{
    struct machine *m = machine_new(4, 1, 4, 1, 1);
    uint64_t root = m->space.host.root, raw = get(m, guest_entry(m, 4));
    struct nested_walk w;

    (void)state;
    assert_int_equal(slot(TABLE_GPA(4), 4), slot(TABLE_GPA(4), 2));
    put(m, host_entry(m, TABLE_GPA(4), 3), root | HOST_R | HOST_W | HOST_X);
    m->changing_at = root + slot(TABLE_GPA(4), 4) * 8;
    m->changed = ((GUEST_BASE + TABLE_GPA(4)) & ~UINT64_C(0x1fffff)) | HOST_R | HOST_W | 0x80;
    put(m, guest_entry(m, 4), raw & ~X86_A);
    assert_int_equal(walk(m, PT_READ, &w), PT_OK);
    assert_int_equal(w.host[0].count, 3);
    assert_int_equal(w.host[0].shift, 21);
    assert_int_equal(w.guest.ref[0].set, X86_A);
    assert_int_equal(m->host_reads + m->guest_reads, w.count);
    free(m);
}

/* EPT that keeps accessed and dirty bits takes every access to the guest's tables for a write. */
static void ept_with_dirty_bits_writes_tables(void **state)
{
    struct machine *m = machine_new(4, 1, 4, 1, 1);
    struct nested_walk w;

    (void)state;
    m->space.host.policy.ad = true;
    assert_int_equal(walk(m, PT_READ, &w), PT_OK);
    assert_int_equal(w.host[0].ref[3].set, 0x300);
    assert_int_equal(w.host[4].ref[3].set, 0x100); /* the page itself is only read */
    assert_int_equal(w.ref[3].ref.set, 0x300);
    host_map(m, TABLE_GPA(3), 1, HOST_R | HOST_X);
    assert_int_equal(walk(m, PT_READ, &w), PT_PROTECTION);
    assert_int_equal(w.fault_column, 1);
    assert_int_equal(w.count, 9); /* refused before the entry was read */
    free(m);
}

/* NPT: the guest's tables count as written to whatever the access is, the page only when it is. */
static void npt_always_writes_tables(void **state)
{
    struct machine *m = machine_new(4, 1, 4, 1, 1);
    struct nested_walk w;

    (void)state;
    m->host_format.rules = PT_RULES_NPT;
    host_map(m, PAGE_GPA + VA % 4096, 1, HOST_R);
    assert_int_equal(walk(m, PT_READ, &w), PT_OK);
    assert_int_equal(walk(m, PT_WRITE, &w), PT_PROTECTION);
    assert_int_equal(w.fault_column, 4);
    assert_int_equal(w.error_code, UINT64_C(1) << 32 | 7); /* final, user, write, present */
    assert_int_equal(w.count, 24);
    host_map(m, TABLE_GPA(2), 1, HOST_R | HOST_X);
    assert_int_equal(walk(m, PT_READ, &w), PT_PROTECTION);
    assert_int_equal(w.fault_column, 2);
    assert_int_equal(w.error_code, UINT64_C(1) << 33 | 7); /* the guest's table */
    assert_int_equal(w.count, 14);
    free(m);
}

/* EPT with mode-based execution: whose page it is the guest's tables say, not the ring. */
static void mode_based_execution(void **state)
{
    struct machine *m = machine_new(4, 1, 4, 1, 1);
    const uint64_t leaf = get(m, guest_entry(m, 1)), user_exec = UINT64_C(1) << 10;
    struct nested_walk w;

    (void)state;
    m->host_format.rights.user_exec = user_exec;
    m->space.host.policy.mode_based = true;
    for (unsigned n = 4; n > 1; n--) {
        uint64_t at = host_entry(m, PAGE_GPA + VA % 4096, n);

        put(m, at, get(m, at) | user_exec);
    }
    host_map(m, PAGE_GPA + VA % 4096, 1, HOST_R | HOST_X); /* for the supervisor's pages only */
    assert_int_equal(walk(m, PT_EXEC, &w), PT_PROTECTION);
    assert_int_equal(w.fault_dim, PT_DIM_HOST);
    assert_int_equal(w.fault_column, 4);
    put(m, guest_entry(m, 1), leaf & ~UINT64_C(4));
    assert_int_equal(nested_walk(&m->space, gva(VA), &(struct pt_access){ .op = PT_EXEC }, &w),
                     PT_OK);
    free(m);
}

static void bad_input(void **state)
{
    struct machine *m = machine_new(4, 1, 4, 1, 1);
    struct nested_walk w;

    (void)state;
    assert_int_equal(
        nested_walk(&m->space, gva(UINT64_C(1) << 47), &(struct pt_access){ .op = PT_READ }, &w),
        PT_NON_CANONICAL);
    assert_int_equal(w.fault_dim, PT_DIM_GUEST);
    assert_int_equal(w.count, 0);
    /* The guest's entry points beyond what the host can translate. */
    put(m, guest_entry(m, 2), UINT64_C(0xff00000000000) | X86_A | 7);
    assert_int_equal(walk(m, PT_READ, &w), PT_NON_CANONICAL);
    assert_int_equal(w.fault_dim, PT_DIM_HOST);
    assert_int_equal(w.fault_column, 3);
    assert_int_equal(w.count, 15);
    free(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_combination_of_sizes),
        cmocka_unit_test(counts_of_the_literature),
        cmocka_unit_test(one_dimension_alone),
        cmocka_unit_test(host_faults_in_each_column),
        cmocka_unit_test(guest_faults_in_each_column),
        cmocka_unit_test(the_earlier_fault_wins),
        cmocka_unit_test(updates_need_the_hosts_write),
        cmocka_unit_test(updates_of_a_loop_that_changes),
        cmocka_unit_test(ept_with_dirty_bits_writes_tables),
        cmocka_unit_test(npt_always_writes_tables),
        cmocka_unit_test(mode_based_execution),
        cmocka_unit_test(bad_input),
    };

    return cmocka_run_group_tests_name("nested", tests, NULL, NULL);
}
