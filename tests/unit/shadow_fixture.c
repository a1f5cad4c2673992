#include "tests/unit/shadow_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>
#include <sys/mman.h>

#define TRIES_MAX 64

static void *reserve(uint64_t bytes)
{
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                   -1, 0);

    assert_true(p != MAP_FAILED);
    return p;
}

static void *ram(void *ctx, gpa_t at, uint64_t len)
{
    struct sim *sim = ctx;

    if (at.v >= sim->ram_bytes || len > sim->ram_bytes - at.v)
        return NULL;
    if (sim->guarded && at.v < sim->guarded + PAGE_SIZE_4K && sim->guarded < at.v + len)
        return NULL;
    return sim->ram + at.v;
}

static void wrote(void *ctx, gpa_t at, uint64_t len)
{
    struct sim *sim = ctx;

    assert_int_equal(len, 8);
    if (sim->wrote)
        sim->wrote(at.v);
}

void sim_make(struct sim *sim, uint64_t ram_bytes, size_t pool_pages, unsigned cpus, bool nested)
{
    memset(sim, 0, sizeof(*sim));
    sim->ram_bytes = ram_bytes;
    sim->ram = reserve(ram_bytes);
    sim->pool = reserve(pool_pages * PAGE_SIZE_4K);
    sim->kvm = nested ? NULL : reserve(pool_pages * PAGE_SIZE_4K);
    sim->next_table = 0x10000;
    sim->cfg = (struct shadow_config){
        .pool = sim->pool,
        .pool_gpa = gpa(SIM_POOL),
        .pool_pages = pool_pages,
        .cpus = cpus,
        .gib_pages = true,
        .nested = nested,
        .ram = ram,
        .wrote = wrote,
        .ctx = sim,
        .ram_end = ram_bytes,
        .hidden = gpa(SIM_POOL),
        .hidden_size = SIM_HIDDEN,
        .nowhere = gpa(SIM_NOWHERE),
    };
    assert_int_equal(shadow_create(&sim->s, &sim->cfg), 0);
}

void sim_drop(struct sim *sim)
{
    shadow_destroy(sim->s);
    munmap(sim->ram, sim->ram_bytes);
    munmap(sim->pool, sim->cfg.pool_pages * PAGE_SIZE_4K);
    if (sim->kvm)
        munmap(sim->kvm, sim->cfg.pool_pages * PAGE_SIZE_4K);
}

/* --- the guest's tables -------------------------------------------------------------------- */

uint64_t *sim_word(struct sim *sim, uint64_t at)
{
    assert_true(at < sim->ram_bytes);
    return (uint64_t *)(void *)(sim->ram + at);
}

uint64_t sim_table(struct sim *sim)
{
    sim->next_table += PAGE_SIZE_4K;
    return sim->next_table;
}

uint64_t *sim_entry(struct sim *sim, uint64_t cr3, uint64_t address, unsigned level)
{
    uint64_t table = cr3;

    for (unsigned n = 4;; n--) {
        uint64_t *entry = sim_word(sim, table + (address >> (12 + 9 * (n - 1)) & 511) * 8);

        if (n == level)
            return entry;
        if (!(*entry & P))
            *entry = sim_table(sim) | P | W | U;
        table = *entry & ADR;
    }
}

static int read_ram(void *ctx, uint64_t at, unsigned size, uint64_t *raw)
{
    const uint64_t *word = ram(ctx, gpa(at), size);

    if (!word)
        return -EFAULT;
    *raw = *word;
    return 0;
}

enum pt_fault sim_ask(struct sim *sim, unsigned cpu, uint64_t address, enum pt_op op,
                      struct pt_walk *walk)
{
    const struct shadow_mode *mode = &sim->cpu[cpu].mode;
    struct pt_access access = { .op = op, .user = mode->user };
    struct pt_space space;

    x86_pt_space(&space, &mode->paging);
    return pt_access(&space, address, &access, read_ram, sim, walk);
}

/* --- in and out ---------------------------------------------------------------------------- */

struct shadow_mode sim_mode(uint64_t cr3, bool user)
{
    return (struct shadow_mode){
        .paging = { .cr0 = X86_CR0_PG | X86_CR0_WP,
                    .cr3 = cr3,
                    .cr4 = X86_CR4_PAE,
                    .efer = X86_EFER_LMA | X86_EFER_NXE,
                    .phys_bits = 46,
                    .gib_pages = true },
        .user = user,
    };
}

/* As the monitor has the vCPU do in the stub page, before the guest runs. */
static void obey(struct sim *sim, struct sim_cpu *c)
{
    for (unsigned i = 0; sim->kvm && i < c->flush.count; i++)
        memset(&sim->kvm[c->flush.touch[i] * 512], 0, PAGE_SIZE_4K);
    if (c->flush.more)
        return;
    memset(c->tlb, 0, sizeof(c->tlb));
    memset(c->last_table, 0, sizeof(c->last_table));
}

void sim_enter(struct sim *sim, unsigned cpu)
{
    struct sim_cpu *c = &sim->cpu[cpu];

    while (!c->inside) {
        c->inside = true;
        c->told = shadow_enter(sim->s, cpu, &c->flush);
        if (!c->told)
            return;
        obey(sim, c);
        if (c->flush.more)
            sim_leave(sim, cpu);
    }
}

void sim_leave(struct sim *sim, unsigned cpu)
{
    struct sim_cpu *c = &sim->cpu[cpu];

    if (!c->inside)
        return;
    shadow_left(sim->s, cpu, c->told ? &c->flush : NULL);
    c->inside = c->told = false;
}

static void all_leave(struct sim *sim)
{
    for (unsigned i = 0; i < sim->cfg.cpus; i++)
        sim_leave(sim, i);
    sim->crowded++;
}

static void find_root(struct sim *sim, unsigned cpu)
{
    struct sim_cpu *c = &sim->cpu[cpu];
    gpa_t root;
    int rc = shadow_root(sim->s, cpu, &c->mode, &root);

    if (rc == -EAGAIN) {
        all_leave(sim);
        rc = shadow_root(sim->s, cpu, &c->mode, &root);
    }
    assert_int_equal(rc, 0);
    assert_true(root.v > SIM_POOL && root.v < SIM_POOL + sim->cfg.pool_pages * PAGE_SIZE_4K);
    c->root = (root.v - SIM_POOL) >> 12;
}

void sim_set(struct sim *sim, unsigned cpu, const struct shadow_mode *mode)
{
    sim_leave(sim, cpu);
    sim->cpu[cpu].mode = *mode;
    find_root(sim, cpu);
}

void sim_sync(struct sim *sim, unsigned cpu)
{
    sim_leave(sim, cpu);
    shadow_sync(sim->s, cpu);
}

void sim_invlpg(struct sim *sim, unsigned cpu, uint64_t address)
{
    sim_leave(sim, cpu);
    shadow_invlpg(sim->s, cpu, &sim->cpu[cpu].mode, gva(address));
}

/* --- the hardware -------------------------------------------------------------------------- */

static uint64_t read_entry(struct sim *sim, uint64_t entry, bool fresh)
{
    if (!sim->kvm)
        return sim->pool[entry];
    if (fresh || !(sim->kvm[entry] & P))
        sim->kvm[entry] = sim->pool[entry];
    return sim->kvm[entry];
}

static bool suits(const struct sim_tlb *t, enum pt_op op)
{
    return t->valid && (op != PT_WRITE || t->write) && (op != PT_EXEC || t->exec);
}

/* The walk of a CPU in ring 3, CR0.WP and EFER.NXE set. */
static bool walk_pool(struct sim *sim, struct sim_cpu *c, uint64_t address, bool fresh,
                      struct sim_tlb *out)
{
    struct sim_tlb *cached = &c->last_table[(address >> 21) % SIM_TLB];
    uint64_t table = c->root;
    unsigned level = 4;

    *out = (struct sim_tlb){
        .valid = true, .write = true, .exec = true, .root = c->root, .page = address >> 12
    };
    if (!sim->kvm && !fresh && cached->valid && cached->root == c->root &&
        cached->page == address >> 21) {
        table = cached->frame;
        level = 1;
    }
    for (;; level--) {
        unsigned shift = 12 + 9 * (level - 1);
        uint64_t raw = read_entry(sim, table * 512 + (address >> shift & 511), fresh);

        if (!(raw & P) || !(raw & U))
            return false;
        assert_true(raw & A);
        out->write = out->write && (raw & W);
        out->exec = out->exec && !(raw & NX);
        if (level == 1 || (raw & PS)) {
            uint64_t inside = ((UINT64_C(1) << shift) - 1) & address;

            assert_true(raw & D);
            assert_int_equal(raw & ADR & ((UINT64_C(1) << shift) - 1), 0);
            out->frame = ((raw & ADR) | inside) >> 12;
            return true;
        }
        table = ((raw & ADR) - SIM_POOL) >> 12;
        assert_in_range(table, 1, sim->cfg.pool_pages - 1);
        if (level == 2)
            *cached = (struct sim_tlb){
                .valid = true, .root = c->root, .page = address >> 21, .frame = table
            };
    }
}

static bool translate(struct sim *sim, struct sim_cpu *c, uint64_t address, enum pt_op op,
                      uint64_t *at)
{
    struct sim_tlb *t = &c->tlb[(address >> 12 ^ address >> 21) % SIM_TLB];

    if (!suits(t, op) || t->root != c->root || t->page != address >> 12) {
        struct sim_tlb found;

        /* A CPU that is about to fault looks at the tables themselves, once more. */
        if ((!walk_pool(sim, c, address, false, &found) || !suits(&found, op)) &&
            (!walk_pool(sim, c, address, true, &found) || !suits(&found, op)))
            return false;
        *t = found;
    }
    *at = t->frame << 12 | (address & 4095);
    return true;
}

bool sim_peek(struct sim *sim, unsigned cpu, uint64_t address, enum pt_op op, uint64_t *at)
{
    struct sim_cpu *c = &sim->cpu[cpu];

    return c->inside && translate(sim, c, address, op, at);
}

/* --- a fault ------------------------------------------------------------------------------- */

static enum shadow_result expected(enum pt_fault fault)
{
    if (fault == PT_OK)
        return SHADOW_FILLED;
    return fault == PT_READ_FAILED ? SHADOW_UNREADABLE : SHADOW_REFUSED;
}

static enum shadow_result fault(struct sim *sim, unsigned cpu, uint64_t address, enum pt_op op)
{
    struct sim_cpu *c = &sim->cpu[cpu];
    struct pt_access access = { .op = op, .user = c->mode.user };
    struct pt_walk want, got;
    enum shadow_result result;

    (void)sim_ask(sim, cpu, address, op, &want);
    sim->faults++;
    for (unsigned tries = 0;; tries++) {
        result = shadow_fault(sim->s, cpu, &c->mode, gva(address), &access, &got);
        if (result != SHADOW_CROWDED)
            break;
        assert_true(tries < 4);
        all_leave(sim);
    }
    assert_int_equal(got.fault, want.fault);
    assert_int_equal(got.error_code, want.error_code);
    if (want.fault != PT_OK) {
        assert_int_equal(result, expected(want.fault));
        return result;
    }
    assert_int_equal(got.output, want.output);
    if (result == SHADOW_WINDOW)
        return result;
    assert_true(result == SHADOW_FILLED || result == SHADOW_AGREES);
    for (unsigned i = 0; i < want.count; i++)
        assert_true((~*sim_word(sim, want.ref[i].at) & want.ref[i].set) == 0);
    return result;
}

enum shadow_result sim_access_counted(struct sim *sim, unsigned cpu, uint64_t address,
                                      enum pt_op op, uint64_t *at, unsigned *faults)
{
    struct sim_cpu *c = &sim->cpu[cpu];
    enum shadow_result result = SHADOW_FILLED;

    *faults = 0;
    for (unsigned tries = 0; tries < TRIES_MAX; tries++) {
        bool hit;

        sim_enter(sim, cpu);
        hit = translate(sim, c, address, op, at);
        if (hit)
            return SHADOW_FILLED;
        if (result == SHADOW_AGREES)
            return result;
        sim_leave(sim, cpu);
        result = fault(sim, cpu, address, op);
        (*faults)++;
        if (result != SHADOW_FILLED && result != SHADOW_AGREES)
            return result;
    }
    fail_msg("%s at %#lx: no end of faults", pt_op_name(op), (unsigned long)address);
    return result;
}

enum shadow_result sim_access(struct sim *sim, unsigned cpu, uint64_t address, enum pt_op op,
                              uint64_t *at)
{
    unsigned faults;

    return sim_access_counted(sim, cpu, address, op, at, &faults);
}
