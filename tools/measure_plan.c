/*
 * Which cells and loads there are. What can't be measured here is in the plan, too, and says why.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "tools/measure_impl.h"
#include "tools/table.h"

#define MIB(n) ((uint64_t)(n) << 20)
#define KIB(n) ((uint64_t)(n) << 10)

/* What the guest's kernel, its programs and the tables of the monitor take beside a footprint. */
#define GUEST_SPARE   MIB(32)
#define PROCESS_SPARE MIB(16)
#define PAGES_MAX     3
#define FOOTPRINTS    10

static const uint64_t page_sizes[PAGES_MAX] = { PAGE_SIZE_4K, PAGE_SIZE_2M, PAGE_SIZE_1G };

/* In full runs all of them; the others take so many of the first. */
static const struct measure_program loads[] = {
    { "syscalls", "a system call (getpid)", 1000, 1 },
    { "switches", "a switch between two processes", 500, 1 },
    { "faults", "the first touch of a page", 200, 1 },
    { "maps", "16 pages mapped, written to and unmapped", 20, 1 },
    { "protects", "64 pages made read-only and writable again, and written to", 10, 1 },
    { "forks", "a fork of 100 pages, its end and wait", 10, 1 },
    { "shootdown", "a change of a page that another CPU uses", 100, 2 },
};

static const struct mode {
    size_t pages; /* sizes of pages, from the smallest */
    size_t loads;
    uint64_t footprint[FOOTPRINTS]; /* 0: no more */
} modes[] = {
    [MEASURE_QUICK] = { 2, 3, { MIB(1), MIB(256) } },
    [MEASURE_DEFAULT] = { 2, 7, { MIB(1), MIB(16), MIB(64), MIB(256) } },
    /* From what a first TLB reaches (64 pages) to tables beyond any second one's reach; the cache
     * says how far it goes on. */
    [MEASURE_FULL] = { 3,
                       7,
                       { KIB(256), MIB(1), MIB(4), MIB(16), MIB(64), MIB(256), MIB(1024),
                         MIB(4096) } },
};

const char *measure_state_name(enum measure_state state)
{
    static const char *const names[] = {
        [MEASURE_NOT_RUN] = "not run", [MEASURE_MEASURED] = "measured",
        [MEASURE_NOISY] = "noisy",     [MEASURE_NO_PAGES] = "no pages",
        [MEASURE_FAILED] = "failed",   [MEASURE_NOT_AVAILABLE] = "not available",
    };

    return names[state];
}

const char *measure_paging_name(enum measure_paging paging)
{
    return paging == MEASURE_NATIVE ? "native" : paging == MEASURE_NESTED ? "nested" : "shadow";
}

void measure_set(struct measure_unit *u, enum measure_state state, const char *fmt, ...)
{
    va_list ap;

    u->state = state;
    va_start(ap, fmt);
    (void)vsnprintf(u->why, sizeof(u->why), fmt, ap);
    va_end(ap);
}

void measure_sample(struct measure_samples *s, double value)
{
    if (s->n == s->room) {
        size_t room = s->room ? 2 * s->room : 32;
        double *grown = realloc(s->value, room * sizeof(*grown));

        if (!grown)
            return;
        s->value = grown;
        s->room = room;
    }
    s->value[s->n++] = value;
}

bool measure_alike(const struct measure_unit *a, const struct measure_unit *b)
{
    return a->load == b->load && a->footprint == b->footprint;
}

int measure_page_levels(uint64_t page)
{
    return page == PAGE_SIZE_1G ? 2 : page == PAGE_SIZE_2M ? 3 : 4;
}

static uint64_t round_up(uint64_t n, uint64_t unit)
{
    return (n + unit - 1) / unit * unit;
}

uint64_t measure_ram(const struct measure_unit *u)
{
    /* The chain, its order (4 bytes a page), the guest's tables (8 bytes a page). */
    uint64_t needed = u->footprint + u->footprint / 256 + GUEST_SPARE;

    if (u->guest_page == PAGE_SIZE_1G) /* whole GiB; the first one holds the guest's kernel */
        return round_up(u->footprint, PAGE_SIZE_1G) + PAGE_SIZE_1G;
    return round_up(needed, u->host_page > PAGE_SIZE_2M ? u->host_page : PAGE_SIZE_2M);
}

uint64_t measure_pool_bytes(const struct measure_unit *u)
{
    return u->paging == MEASURE_NATIVE ? round_up(u->footprint, u->host_page) : measure_ram(u);
}

static uint64_t memory_of(const struct measure_unit *u)
{
    /* Its tables, 8 bytes a page, KVM's, and a native one's order of the chain. */
    return measure_pool_bytes(u) + u->footprint / 128 + PROCESS_SPARE;
}

/* Says what is missing for a unit, if anything is. */
static void judge(struct measure_unit *u, const struct measure_host *host)
{
    bool vm = u->paging != MEASURE_NATIVE;
    char needed[32], there[32];

    if (vm && !host->kvm)
        measure_set(u, MEASURE_NOT_AVAILABLE, "no VM can run here: %s", host->kvm_why);
    else if (u->paging == MEASURE_SHADOW && !host->shadow)
        measure_set(u, MEASURE_NOT_AVAILABLE, "--paging shadow can't be had here: %s",
                    host->shadow_why);
    else if (u->guest_page == PAGE_SIZE_1G && !host->guest_1g)
        measure_set(u, MEASURE_NOT_AVAILABLE, "this KVM gives guests no pages of 1 GiB (CPUID)");
    else if (u->load && u->load->cpus > host->cpus)
        measure_set(u, MEASURE_NOT_AVAILABLE, "it takes %d CPUs, of which %d may be used",
                    u->load->cpus, host->cpus);
    else if (u->host_page == PAGE_SIZE_1G && !host->pool_1g)
        measure_set(u, MEASURE_NOT_AVAILABLE, "this host has no huge pages of 1 GiB");
    else if (u->host_page == PAGE_SIZE_2M && !host->pool_2m && !host->thp)
        measure_set(u, MEASURE_NOT_AVAILABLE,
                    "this host has neither huge pages of 2 MiB nor transparent ones");
    else if (u->memory > host->available)
        measure_set(u, MEASURE_NOT_AVAILABLE, "too little memory: it takes %s, %s are available",
                    format_bytes(u->memory, needed, sizeof(needed)),
                    format_bytes(host->available, there, sizeof(there)));
}

static int add(struct measure_plan *plan, const struct measure_host *host, struct measure_unit u)
{
    struct measure_unit *grown = realloc(plan->unit, (plan->n + 1) * sizeof(*grown));

    if (!grown)
        return -ENOMEM;
    plan->unit = grown;
    u.memory = memory_of(&u);
    u.guest_share = u.host_share = -1;
    for (size_t i = 0; i < MEASURE_COUNTERS; i++)
        u.counted[i] = -1;
    judge(&u, host);
    plan->unit[plan->n++] = u;
    return 0;
}

/* One more runner of the group's first cell that can be measured. */
static int add_repeat(struct measure_plan *plan, const struct measure_host *host, size_t first)
{
    for (size_t i = first; i < plan->n; i++)
        if (plan->unit[i].state == MEASURE_NOT_RUN) {
            struct measure_unit u = plan->unit[i];

            u.repeat = true;
            return add(plan, host, u);
        }
    return 0;
}

static int add_cells(struct measure_plan *plan, const struct measure_host *host, size_t pages,
                     uint64_t footprint)
{
    size_t first = plan->n;
    int rc = 0;

    for (size_t h = 0; h < pages && rc == 0; h++)
        rc =
            add(plan, host,
                (struct measure_unit){
                    .paging = MEASURE_NATIVE, .host_page = page_sizes[h], .footprint = footprint });
    /* Pairs are neighbours: with a time limit, what was started can be compared. */
    for (size_t i = 0; i < pages * pages && rc == 0; i++)
        for (int paging = MEASURE_NESTED; paging <= MEASURE_SHADOW && rc == 0; paging++)
            rc = add(plan, host,
                     (struct measure_unit){ .paging = (enum measure_paging)paging,
                                            .guest_page = page_sizes[i / pages],
                                            .host_page = page_sizes[i % pages],
                                            .footprint = footprint });
    return rc ? rc : add_repeat(plan, host, first);
}

static int add_load(struct measure_plan *plan, const struct measure_host *host,
                    const struct measure_program *load)
{
    int rc = 0;

    for (int paging = MEASURE_NESTED; paging <= MEASURE_SHADOW && rc == 0; paging++)
        rc = add(plan, host,
                 (struct measure_unit){ .paging = (enum measure_paging)paging,
                                        .guest_page = PAGE_SIZE_4K,
                                        .host_page = PAGE_SIZE_4K,
                                        .load = load });
    return rc;
}

/* In a quick run all runners of a footprint should fit at once: half as much until they do. */
static uint64_t fit(uint64_t footprint, const struct measure_host *host)
{
    while (footprint > MIB(16) && 14 * footprint > host->available)
        footprint /= 2;
    return footprint;
}

int measure_plan_make(struct measure_plan *plan, enum measure_mode mode,
                      const struct measure_host *host)
{
    const struct mode *m = &modes[mode];
    uint64_t footprint = 0;
    int rc = 0;

    *plan = (struct measure_plan){ .n = 0 };
    for (size_t i = 0; i < FOOTPRINTS && m->footprint[i] && rc == 0; i++) {
        footprint = mode == MEASURE_QUICK ? fit(m->footprint[i], host) : m->footprint[i];
        rc = add_cells(plan, host, m->pages, footprint);
    }
    /* On: until the leaf tables of 4 KiB pages, 8 bytes each, are twice as large as the cache. */
    while (mode == MEASURE_FULL && footprint / 512 < 2 * host->cache && rc == 0) {
        footprint *= 4;
        rc = add_cells(plan, host, m->pages, footprint);
    }
    for (size_t i = 0; i < m->loads && rc == 0; i++)
        rc = add_load(plan, host, &loads[i]);
    return rc;
}

void measure_plan_free(struct measure_plan *plan)
{
    for (size_t i = 0; i < plan->n; i++) {
        free(plan->unit[i].cycles.value);
        free(plan->unit[i].disturbed.value);
    }
    free(plan->unit);
    *plan = (struct measure_plan){ .n = 0 };
}

const struct measure_unit *measure_baseline(const struct measure_plan *plan,
                                            const struct measure_unit *u)
{
    uint64_t guest = 0, host = 0;

    for (size_t i = 0; i < plan->n; i++) {
        const struct measure_unit *b = &plan->unit[i];

        if (!measure_alike(b, u) || b->paging != u->paging || b->state == MEASURE_NOT_AVAILABLE)
            continue;
        guest = b->guest_page > guest ? b->guest_page : guest;
        host = b->host_page > host ? b->host_page : host;
    }
    for (size_t i = 0; i < plan->n; i++) {
        const struct measure_unit *b = &plan->unit[i];

        if (measure_alike(b, u) && b->paging == u->paging && !b->repeat && b->guest_page == guest &&
            b->host_page == host)
            return b->state == MEASURE_MEASURED ? b : NULL;
    }
    return NULL;
}
