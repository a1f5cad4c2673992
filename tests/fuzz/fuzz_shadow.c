/*
 * Noise as a guest's tables and as what it does with them, under shadow tables: entries that loop,
 * have reserved bits, or lead out of RAM and into the hidden slot, with a pool that is always too
 * small. The shadow may lead to no other table than its own, to nothing that is hidden, and allow
 * nothing that the guest's tables don't once everything was flushed.
 *
 *	8 bytes a step: what, which CPU or view, where (2), what value (4)
 */
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ept/entry.h"
#include "ept/levels_x86.h"
#include "ept/shadow.h"

#define CPUS       3
#define POOL_PAGES 64
#define RAM_PAGES  32
#define RAM_BYTES  (RAM_PAGES * PAGE_SIZE_4K)
#define POOL_GPA   (UINT64_C(1) << 40)
#define HIDDEN     (UINT64_C(1) << 21)
#define NOWHERE    (UINT64_C(1) << 41)
#define WINDOW     384u
#define STEPS      600
#define CHECKS     3 /* of everything, as they take long */

static struct guest {
    _Alignas(PAGE_SIZE_4K) uint64_t pool[POOL_PAGES * 512];
    _Alignas(PAGE_SIZE_4K) uint64_t ram[RAM_BYTES / 8];
    struct shadow *s;
    struct shadow_mode mode[CPUS];
    gpa_t root[CPUS];
    bool rooted[CPUS], window;
    unsigned checks;
} g;

static void require(int condition, const char *what)
{
    if (condition)
        return;
    fprintf(stderr, "fuzz_shadow: %s\n", what);
    abort();
}

static void *ram(void *ctx, gpa_t at, uint64_t len)
{
    (void)ctx;
    if (len == 0 || at.v >= RAM_BYTES || len > RAM_BYTES - at.v)
        return NULL;
    return (uint8_t *)g.ram + at.v;
}

static int read_ram(void *ctx, uint64_t at, unsigned size, uint64_t *raw)
{
    const uint64_t *word = ram(ctx, gpa(at), size);

    if (!word || size != 8)
        return -1;
    *raw = *word;
    return 0;
}

static void create(void)
{
    const struct shadow_config cfg = {
        .pool = g.pool,
        .pool_gpa = gpa(POOL_GPA),
        .pool_pages = POOL_PAGES,
        .cpus = CPUS,
        .gib_pages = true,
        .nested = true,
        .ram = ram,
        .ram_end = RAM_BYTES,
        .hidden = gpa(POOL_GPA),
        .hidden_size = HIDDEN,
        .nowhere = gpa(NOWHERE),
    };

    memset(&g, 0, sizeof(g));
    if (shadow_create(&g.s, &cfg) < 0)
        abort();
    for (unsigned i = 0; i < CPUS; i++)
        g.mode[i] = (struct shadow_mode){ .paging = { .cr0 = X86_CR0_PG | X86_CR0_WP,
                                                      .cr4 = X86_CR4_PAE,
                                                      .efer = X86_EFER_LMA | X86_EFER_NXE,
                                                      .phys_bits = 46,
                                                      .gib_pages = true },
                                          .user = i == 2 };
}

/* Everybody leaves, flushes and comes to stand outside. */
static void flush_all(void)
{
    struct shadow_flush flush;

    for (unsigned i = 0; i < CPUS; i++) {
        for (unsigned n = 0; shadow_enter(g.s, i, &flush); n++) {
            require(n < 64, "no end of flushes");
            shadow_left(g.s, i, &flush);
        }
        shadow_left(g.s, i, NULL);
    }
}

static bool find_root(unsigned cpu)
{
    for (unsigned i = 0; i < 4; i++) {
        int rc = shadow_root(g.s, cpu, &g.mode[cpu], &g.root[cpu]);

        g.rooted[cpu] = rc == 0;
        if (rc == 0) {
            require(g.root[cpu].v > POOL_GPA && (g.root[cpu].v & (PAGE_SIZE_4K - 1)) == 0 &&
                        g.root[cpu].v < POOL_GPA + POOL_PAGES * PAGE_SIZE_4K,
                    "a root that is not in the pool");
            return true;
        }
        require(rc == -EAGAIN || rc == -EINVAL, "a result that is none of shadow_root()'s");
        flush_all();
    }
    return false;
}

/* --- as the CPU walks the pool -----------------------------------------------------------------
 */

/* PT_RIGHT_* of ring 3 and the address that it leads to; false: not present. */
static bool walk_pool(unsigned cpu, uint64_t address, uint64_t *to, bool *write, bool *exec)
{
    uint64_t table = g.root[cpu].v;

    *write = *exec = true;
    for (unsigned level = 4;; level--) {
        unsigned shift = 12 + 9 * (level - 1);
        uint64_t raw;

        require(table > POOL_GPA && table < POOL_GPA + POOL_PAGES * PAGE_SIZE_4K,
                "a table that is not in the pool");
        raw = g.pool[(table - POOL_GPA) / 8 + (address >> shift & 511)];
        if (!(raw & LEVEL_X86_P) || !(raw & LEVEL_X86_US))
            return false;
        *write = *write && raw & LEVEL_X86_RW;
        *exec = *exec && !(raw & LEVEL_X86_XD);
        if (level > 1 && !(raw & LEVEL_X86_PS)) {
            table = raw & ADDR_4K;
            continue;
        }
        require(level < 4, "a leaf in the root");
        require((raw & ADDR_4K & (BIT(shift) - 1)) == 0, "a large page that is not aligned");
        *to = (raw & ADDR_4K) | (address & (BIT(shift) - 1));
        return true;
    }
}

/* After everything was compared and flushed: what the shadow allows, the guest's tables allow. */
static void check_address(unsigned cpu, uint64_t address, bool in_step)
{
    struct pt_access access = { .op = PT_READ, .user = g.mode[cpu].user };
    struct pt_space space;
    struct pt_walk w;
    bool write, exec;
    uint64_t to;

    if (!g.rooted[cpu] || (g.window && (address >> 39 & 511) == WINDOW) ||
        !walk_pool(cpu, address, &to, &write, &exec))
        return;
    require(to < POOL_GPA || to >= POOL_GPA + HIDDEN, "the hidden slot is mapped");
    if (!in_step)
        return;
    access.op = write ? PT_WRITE : (exec ? PT_EXEC : PT_READ);
    x86_pt_space(&space, &g.mode[cpu].paging);
    if (!write && exec && !g.mode[cpu].user) /* the kernel's view of what SMEP would keep it from */
        access.op = PT_READ;
    require(pt_access(&space, address, &access, read_ram, NULL, &w) == PT_OK,
            "the shadow allows what the guest's tables don't");
    require(w.output == to || w.output - POOL_GPA == to - NOWHERE,
            "the shadow leads elsewhere than the guest's tables");
}

/* --- steps -------------------------------------------------------------------------------------
 */

struct action {
    uint8_t what, who;
    uint16_t where;
    uint32_t value;
};

/* Few indices at each level, so that addresses meet. */
static uint64_t address_of(const struct action *a)
{
    static const uint16_t top[] = { 0, 1, 2, 255, 256, WINDOW, 510, 511 };
    uint64_t at = (uint64_t)top[a->where & 7] << 39 | (uint64_t)(a->where >> 3 & 7) << 30 |
                  (uint64_t)(a->where >> 6 & 7) << 21 | (uint64_t)(a->where >> 9 & 7) << 12 |
                  (a->value & 0xff8);

    return (uint64_t)((int64_t)(at << 16) >> 16);
}

/* Any bits, and an address among the tables, or out of RAM, or hidden. */
static uint64_t entry_value(uint32_t value)
{
    static const uint64_t far[] = { RAM_BYTES, POOL_GPA, POOL_GPA + 0x3000, NOWHERE,
                                    BIT(51),   BIT(45),  BIT(63),           BIT(63) | 0x5000 };
    uint64_t raw = (value & 0xfff) | ((uint64_t)(value >> 12) % RAM_PAGES) << 12;

    return value >> 31 ? raw | far[value >> 28 & 7] : raw;
}

static void guest_writes(const struct action *a)
{
    static const uint16_t index[] = { 0, 1, 2, 255, 256, WINDOW, 510, 511, 3, 4, 5, 6, 7, 0, 1, 2 };
    uint64_t at = a->where % RAM_PAGES * PAGE_SIZE_4K + index[a->where >> 8 & 15] * 8u;

    g.ram[at / 8] = entry_value(a->value);
    shadow_wrote(g.s, gpa(at), 8);
}

static void guest_accesses(unsigned cpu, const struct action *a)
{
    struct pt_access access = { .op = (enum pt_op)(a->what >> 4) % 3, .user = g.mode[cpu].user };
    enum shadow_result result = SHADOW_CROWDED;
    struct pt_walk walk;

    if (!g.rooted[cpu] && !find_root(cpu))
        return;
    for (unsigned i = 0; i < 4 && result == SHADOW_CROWDED; i++) {
        result = shadow_fault(g.s, cpu, &g.mode[cpu], gva(address_of(a)), &access, &walk);
        if (result == SHADOW_CROWDED)
            flush_all();
    }
    require(result != SHADOW_CROWDED, "no table is free, though nobody is inside");
    require((result == SHADOW_FILLED || result == SHADOW_AGREES || result == SHADOW_WINDOW) ==
                (walk.fault == PT_OK),
            "a result that is not the walk's");
    require(walk.count <= 4, "more entries than levels");
    check_address(cpu, address_of(a), false);
}

static void change_mode(unsigned cpu, const struct action *a)
{
    struct x86_paging *p = &g.mode[cpu].paging;

    p->cr3 = a->where % (RAM_PAGES + 2) * PAGE_SIZE_4K;
    p->cr0 = X86_CR0_PG | (a->value & 1 ? 0 : X86_CR0_WP);
    p->cr4 = X86_CR4_PAE | (a->value & 2 ? X86_CR4_SMEP : 0) | (a->value & 4 ? X86_CR4_SMAP : 0);
    p->efer = X86_EFER_LMA | (a->value & 8 ? 0 : X86_EFER_NXE);
    p->rflags = a->value & 16 ? X86_RFLAGS_AC : 0;
    g.mode[cpu].user = a->value & 32;
    shadow_sync(g.s, cpu);
    (void)find_root(cpu);
}

/* Everything, compared and flushed: no address may disagree. */
static void check_all(const struct action *a)
{
    shadow_sync(g.s, 0);
    flush_all();
    for (unsigned cpu = 0; cpu < CPUS; cpu++)
        for (unsigned where = 0; where < 4096; where += 1 + (a->value & 7)) {
            struct action at = { .where = (uint16_t)where };

            check_address(cpu, address_of(&at), true);
        }
}

static void act(const struct action *a)
{
    unsigned cpu = a->who % CPUS;
    struct shadow_flush flush;

    switch (a->what % 16) {
    case 0:
        change_mode(cpu, a);
        break;
    case 1:
        shadow_sync(g.s, cpu);
        break;
    case 2:
        if (g.rooted[cpu])
            shadow_invlpg(g.s, cpu, &g.mode[cpu], gva(address_of(a)));
        break;
    case 3:
        if (!shadow_enter(g.s, cpu, &flush) && a->value & 1)
            shadow_left(g.s, cpu, NULL);
        break;
    case 4:
        if (++g.checks <= CHECKS)
            check_all(a);
        break;
    case 5:
        shadow_wrote(g.s, gpa((uint64_t)a->value << 4), a->where);
        break;
    case 6:
        g.window = a->value & 1;
        shadow_window(g.s, WINDOW, g.window ? (POOL_GPA + HIDDEN - PAGE_SIZE_4K) | 0x23 : 0);
        break;
    case 7:
    case 8:
    case 9:
    case 10:
        guest_writes(a);
        break;
    default:
        guest_accesses(cpu, a);
        break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct action a;

    create();
    for (unsigned n = 0; n < STEPS && size >= sizeof(a); n++) {
        memcpy(&a, data, sizeof(a));
        data += sizeof(a);
        size -= sizeof(a);
        act(&a);
    }
    check_all(&(struct action){ 0 });
    shadow_destroy(g.s);
    return 0;
}
