/*
 * The IOMMU against a model that has a cell for each page: after each random change, random
 * accesses, and now and then every page, are what the model says.
 */
#include "iommu/iommu.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define RW (IOMMU_READ | IOMMU_WRITE)

static iova_t iova(uint64_t v)
{
    return (iova_t){ v };
}

static struct iommu *fresh(unsigned endpoints)
{
    struct iommu *m;

    assert_int_equal(iommu_create(&m, 4, false), 0);
    for (unsigned i = 0; i < endpoints; i++)
        assert_int_equal(iommu_add_endpoint(m, 8 * (i + 1)), 0);
    return m;
}

static void last_fault(const struct iommu *m, struct iommu_fault *f)
{
    size_t n = 0;

    while (iommu_fault(m, n, f))
        n++;
    assert_true(n > 0);
}

/* The access fails, and is recorded as such. */
static void expect_fault(struct iommu *m, uint32_t endpoint, uint64_t at, unsigned prot,
                         enum iommu_reason reason)
{
    struct iommu_translation t;
    struct iommu_stat before, after;
    struct iommu_fault f;

    iommu_stat(m, &before);
    assert_int_equal(iommu_translate(m, endpoint, iova(at), 1, prot, &t), -EFAULT);
    iommu_stat(m, &after);
    assert_int_equal(after.faults, before.faults + 1);
    last_fault(m, &f);
    assert_int_equal(f.number, after.faults);
    assert_int_equal(f.endpoint, endpoint);
    assert_int_equal(f.iova.v, at);
    assert_int_equal(f.write, (prot & IOMMU_WRITE) != 0);
    assert_string_equal(iommu_reason_name(f.reason), iommu_reason_name(reason));
}

static uint64_t expect_ok(struct iommu *m, uint32_t endpoint, uint64_t at, uint64_t len,
                          unsigned prot, struct iommu_translation *t)
{
    assert_int_equal(iommu_translate(m, endpoint, iova(at), len, prot, t), 0);
    assert_true(t->len >= 1 && t->len <= len);
    return t->output;
}

/* --- the model ------------------------------------------------------------------------ */

#define DOMAINS   3
#define ENDPOINTS 4
#define PAGES     ((UINT64_C(2) << 18) + 4096) /* 2 GiB and 16 MiB */
#define SLOTS     512                          /* mappings at a time that the test makes */

struct slot {
    uint64_t first, pages, output;
    unsigned prot;
};

struct model {
    struct slot slot[DOMAINS][SLOTS];
    uint16_t *cell[DOMAINS]; /* a page's slot + 1; 0: nothing */
    int attached[ENDPOINTS]; /* domain, or -1 */
    uint64_t seed;
};

static uint64_t pick(struct model *o, uint64_t below)
{
    o->seed = o->seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (o->seed >> 33) % below;
}

static bool model_exists(const struct model *o, unsigned domain)
{
    for (unsigned i = 0; i < ENDPOINTS; i++)
        if (o->attached[i] == (int)domain)
            return true;
    return false;
}

static void model_drop(struct model *o, unsigned domain, unsigned slot)
{
    struct slot *s = &o->slot[domain][slot];

    for (uint64_t i = 0; i < s->pages; i++)
        o->cell[domain][s->first + i] = 0;
    *s = (struct slot){ 0 };
}

static void model_leave(struct model *o, unsigned e)
{
    int domain = o->attached[e];

    o->attached[e] = -1;
    if (domain < 0 || model_exists(o, (unsigned)domain))
        return;
    for (unsigned i = 0; i < SLOTS; i++)
        model_drop(o, (unsigned)domain, i);
}

static int model_map(struct model *o, unsigned domain, const struct slot *new)
{
    unsigned free_slot = 0;

    if (!model_exists(o, domain))
        return -ENOENT;
    for (uint64_t i = 0; i < new->pages; i++)
        if (o->cell[domain][new->first + i])
            return -EEXIST;
    while (free_slot < SLOTS && o->slot[domain][free_slot].pages)
        free_slot++;
    if (free_slot == SLOTS)
        return 1; /* the test's own limit */
    o->slot[domain][free_slot] = *new;
    for (uint64_t i = 0; i < new->pages; i++)
        o->cell[domain][new->first + i] = (uint16_t)(free_slot + 1);
    return 0;
}

static int model_unmap(struct model *o, unsigned domain, uint64_t first, uint64_t pages,
                       uint64_t *covered)
{
    *covered = 0;
    if (!model_exists(o, domain))
        return -ENOENT;
    for (unsigned i = 0; i < SLOTS; i++) {
        const struct slot *s = &o->slot[domain][i];
        bool meets = s->pages && s->first < first + pages && first < s->first + s->pages;

        if (meets && (s->first < first || s->first + s->pages > first + pages))
            return -ERANGE;
    }
    for (unsigned i = 0; i < SLOTS; i++) {
        const struct slot *s = &o->slot[domain][i];

        if (s->pages && s->first >= first && s->first < first + pages) {
            *covered += s->pages * PAGE_SIZE_4K;
            model_drop(o, domain, i);
        }
    }
    return 0;
}

/* --- compared ------------------------------------------------------------------------- */

/* An access of any endpoint, at any address of the window or behind it. */
static void check_access(struct model *o, struct iommu *m)
{
    unsigned e = (unsigned)pick(o, ENDPOINTS);
    uint64_t at = pick(o, PAGES) * PAGE_SIZE_4K + pick(o, PAGE_SIZE_4K);
    unsigned want = pick(o, 2) ? IOMMU_READ : IOMMU_WRITE;
    uint32_t id = 8 * (e + 1);
    const struct slot *s;
    struct iommu_translation t;
    struct iommu_mapping map;
    unsigned cell;

    if (o->attached[e] < 0) {
        expect_fault(m, id, at, want, IOMMU_NO_DOMAIN);
        return;
    }
    cell = o->cell[o->attached[e]][at / PAGE_SIZE_4K];
    assert_int_equal(iommu_find_mapping(m, (uint32_t)o->attached[e] + 100, iova(at), &map),
                     cell != 0);
    if (!cell) {
        expect_fault(m, id, at, want, IOMMU_NOT_MAPPED);
        return;
    }
    s = &o->slot[o->attached[e]][cell - 1];
    assert_int_equal(map.iova.v, s->first * PAGE_SIZE_4K);
    if (!(s->prot & want)) {
        expect_fault(m, id, at, want, want == IOMMU_WRITE ? IOMMU_READ_ONLY : IOMMU_WRITE_ONLY);
        return;
    }
    assert_int_equal(expect_ok(m, id, at, PAGE_SIZE_1G, want, &t),
                     s->output + (at - s->first * PAGE_SIZE_4K));
    assert_int_equal(t.prot, s->prot);
    assert_true(at + t.len <= (s->first + s->pages) * PAGE_SIZE_4K);
}

/* The list is sorted, complete, and says what the model says. Returns the leaves that the mappings
 * need, by size, in leaves[]. */
static void check_list(const struct model *o, const struct iommu *m, unsigned domain,
                       uint64_t leaves[3])
{
    struct iommu_mapping map;
    uint64_t next = 0;
    size_t n = 0, expected = 0;

    for (unsigned i = 0; i < SLOTS; i++)
        expected += o->slot[domain][i].pages != 0;
    for (; iommu_mapping(m, domain + 100, n, &map); n++) {
        unsigned cell = o->cell[domain][map.iova.v / PAGE_SIZE_4K];
        const struct slot *s;

        assert_true(cell > 0 && map.iova.v >= next);
        s = &o->slot[domain][cell - 1];
        next = map.iova.v + map.len;
        assert_int_equal(map.iova.v, s->first * PAGE_SIZE_4K);
        assert_int_equal(map.len, s->pages * PAGE_SIZE_4K);
        assert_int_equal(map.output, s->output);
        assert_int_equal(map.prot, s->prot);
        for (uint64_t at = map.iova.v; at < next;) {
            static const unsigned shifts[3] = { PAGE_SHIFT_1G, PAGE_SHIFT_2M, PAGE_SHIFT_4K };
            uint64_t out = map.output + (at - map.iova.v);
            unsigned i = 0;

            while (((at | out) & ((UINT64_C(1) << shifts[i]) - 1)) != 0 ||
                   next - at < UINT64_C(1) << shifts[i])
                i++;
            leaves[i]++;
            at += UINT64_C(1) << shifts[i];
        }
    }
    assert_int_equal(n, expected);
    assert_int_equal(iommu_mappings(m, domain + 100), expected);
}

/* Each page of the window, by the endpoint `e`, in pieces as the IOMMU gives them. */
static void check_every_page(const struct model *o, struct iommu *m, unsigned e)
{
    const uint16_t *cells = o->cell[o->attached[e]];
    uint64_t page = 0;

    while (page < PAGES) {
        const struct slot *s;
        struct iommu_translation t;

        if (cells[page] == 0) {
            /* Faults are slow to record: the ends of each gap, and some within. */
            expect_fault(m, 8 * (e + 1), page * PAGE_SIZE_4K, IOMMU_READ, IOMMU_NOT_MAPPED);
            for (unsigned i = 0; i < 64 && page + 1 < PAGES && cells[page + 1] == 0; i++)
                page++;
            expect_fault(m, 8 * (e + 1), page * PAGE_SIZE_4K, IOMMU_READ, IOMMU_NOT_MAPPED);
            page++;
            continue;
        }
        s = &o->slot[o->attached[e]][cells[page] - 1];
        assert_int_equal(expect_ok(m, 8 * (e + 1), page * PAGE_SIZE_4K, PAGE_SIZE_1G, s->prot, &t),
                         s->output + (page - s->first) * PAGE_SIZE_4K);
        assert_int_equal(t.len % PAGE_SIZE_4K, 0);
        for (uint64_t i = 0; i < t.len / PAGE_SIZE_4K; i++)
            assert_int_equal(cells[page + i], cells[page]);
        page += t.len / PAGE_SIZE_4K;
    }
}

static void check_all(const struct model *o, struct iommu *m)
{
    uint64_t leaves[3] = { 0 };
    bool done[DOMAINS] = { false };
    struct iommu_stat stat;

    for (unsigned e = 0; e < ENDPOINTS; e++) {
        if (o->attached[e] >= 0 && !done[o->attached[e]]) {
            done[o->attached[e]] = true;
            check_list(o, m, (unsigned)o->attached[e], leaves);
            check_every_page(o, m, e);
        }
    }
    iommu_stat(m, &stat);
    assert_int_equal(stat.leaves_1g, leaves[0]);
    assert_int_equal(stat.leaves_2m, leaves[1]);
    assert_int_equal(stat.leaves_4k, leaves[2]);
}

/* --- random changes ------------------------------------------------------------------- */

static void random_slot(struct model *o, struct slot *s)
{
    static const uint64_t unit[] = { 1, 1, 512, 512, 512 * 512 };
    uint64_t u = unit[pick(o, 5)];

    s->pages = u * (1 + pick(o, u == 512 * 512 ? 2 : 12)) + (pick(o, 3) ? 0 : pick(o, 700));
    if (s->pages > PAGES)
        s->pages = PAGES;
    s->first = pick(o, PAGES - s->pages + 1);
    if (pick(o, 4)) /* aligned, so that large leaves are possible */
        s->first &= ~(u - 1);
    s->output = (pick(o, 1 << 20) * u + (pick(o, 4) ? s->first % u : 0)) * PAGE_SIZE_4K;
    s->prot = 1 + (unsigned)pick(o, 3);
}

static void random_map(struct model *o, struct iommu *m)
{
    unsigned domain = (unsigned)pick(o, DOMAINS);
    struct slot s;
    int rc;

    random_slot(o, &s);
    rc = model_map(o, domain, &s);
    if (rc <= 0)
        assert_int_equal(iommu_map(m, domain + 100, iova(s.first * PAGE_SIZE_4K),
                                   s.pages * PAGE_SIZE_4K, s.output, s.prot),
                         rc);
}

static void random_unmap(struct model *o, struct iommu *m)
{
    unsigned domain = (unsigned)pick(o, DOMAINS);
    const struct slot *old = &o->slot[domain][pick(o, 40)];
    uint64_t expected, covered;
    struct slot s;
    int rc;

    if (pick(o, 3) && old->pages)
        s = *old;
    else
        random_slot(o, &s);
    rc = model_unmap(o, domain, s.first, s.pages, &expected);
    assert_int_equal(iommu_unmap(m, domain + 100, iova(s.first * PAGE_SIZE_4K),
                                 s.pages * PAGE_SIZE_4K, &covered),
                     rc);
    assert_int_equal(covered, expected);
}

static void random_attach(struct model *o, struct iommu *m)
{
    unsigned e = (unsigned)pick(o, ENDPOINTS), domain = (unsigned)pick(o, DOMAINS);

    if (pick(o, 3)) {
        assert_int_equal(iommu_attach(m, 8 * (e + 1), domain + 100, false), 0);
        if (o->attached[e] != (int)domain)
            model_leave(o, e);
        o->attached[e] = (int)domain;
        return;
    }
    assert_int_equal(iommu_detach(m, 8 * (e + 1), domain + 100),
                     o->attached[e] == (int)domain ? 0 : -EINVAL);
    if (o->attached[e] == (int)domain)
        model_leave(o, e);
}

static void against_a_model(void **state)
{
    struct model *o = calloc(1, sizeof(*o));
    struct iommu *m = fresh(ENDPOINTS);
    struct iommu_stat stat;

    (void)state;
    o->seed = 42;
    for (unsigned i = 0; i < DOMAINS; i++)
        o->cell[i] = calloc(PAGES, sizeof(uint16_t));
    for (unsigned i = 0; i < ENDPOINTS; i++)
        o->attached[i] = -1;
    for (unsigned step = 0; step < 4000; step++) {
        unsigned what = (unsigned)pick(o, 100);

        if (what < 60)
            random_map(o, m);
        else if (what < 96)
            random_unmap(o, m);
        else
            random_attach(o, m);
        for (unsigned i = 0; i < 20; i++)
            check_access(o, m);
        if (step % 200 == 199)
            check_all(o, m);
    }
    iommu_stat(m, &stat);
    assert_true(stat.hits > 0 && stat.misses > 0 && stat.invalidations > 0);
    for (unsigned e = 0; e < ENDPOINTS; e++)
        if (o->attached[e] >= 0)
            assert_int_equal(iommu_detach(m, 8 * (e + 1), (uint32_t)o->attached[e] + 100), 0);
    iommu_stat(m, &stat);
    assert_int_equal(stat.tables + stat.leaves_4k + stat.leaves_2m + stat.leaves_1g, 0);
    iommu_destroy(m);
    for (unsigned i = 0; i < DOMAINS; i++)
        free(o->cell[i]);
    free(o);
}

/* --- single rules --------------------------------------------------------------------- */

static void refuses_bad_mappings(void **state)
{
    struct iommu *m = fresh(2);
    uint64_t covered;

    (void)state;
    assert_int_equal(iommu_map(m, 1, iova(0), 4096, 0, RW), -ENOENT);
    assert_int_equal(iommu_unmap(m, 1, iova(0), 4096, &covered), -ENOENT);
    assert_int_equal(iommu_attach(m, 99, 1, false), -ENOENT);
    assert_int_equal(iommu_reserve(m, 8, iova(0xfee00000), 0x100000, true), 0);
    assert_int_equal(iommu_reserve(m, 8, iova(0xfeeff000), 0x100000, false), -EEXIST);
    assert_int_equal(iommu_attach(m, 8, 1, false), 0);
    assert_int_equal(iommu_reserve(m, 8, iova(0), 4096, false), -EBUSY);
    assert_int_equal(iommu_map(m, 1, iova(1), 4096, 0, RW), -EINVAL);
    assert_int_equal(iommu_map(m, 1, iova(0), 4095, 0, RW), -EINVAL);
    assert_int_equal(iommu_map(m, 1, iova(0), 4096, 512, RW), -EINVAL);
    assert_int_equal(iommu_map(m, 1, iova(0), 0, 0, RW), -EINVAL);
    assert_int_equal(iommu_map(m, 1, iova(0), 4096, 0, 0), -EINVAL);
    assert_int_equal(iommu_map(m, 1, iova(0), 4096, 0, 4), -EINVAL);
    assert_int_equal(iommu_last_iova(m), (UINT64_C(1) << 48) - 1);
    assert_int_equal(iommu_map(m, 1, iova((UINT64_C(1) << 48) - 4096), 4096, 0, RW), 0);
    assert_int_equal(iommu_map(m, 1, iova((UINT64_C(1) << 48) - 8192), 8192, 0, RW), -EEXIST);
    assert_int_equal(iommu_map(m, 1, iova(UINT64_C(1) << 48), 4096, 0, RW), -ERANGE);
    assert_int_equal(iommu_map(m, 1, iova(-UINT64_C(4096)), 8192, 0, RW), -ERANGE);
    assert_int_equal(iommu_map(m, 1, iova(0), 4096, UINT64_C(1) << 52, RW), -ERANGE);
    assert_int_equal(iommu_map(m, 1, iova(0), 8192, (UINT64_C(1) << 52) - 4096, RW), -ERANGE);
    assert_int_equal(iommu_map(m, 1, iova(0xfeeff000), 4096, 0, RW), -ERANGE);
    assert_int_equal(iommu_map(m, 1, iova(0xfedff000), 4096, 0, RW), 0);
    assert_int_equal(iommu_unmap(m, 1, iova(0), 0, &covered), -EINVAL);
    assert_int_equal(iommu_unmap(m, 1, iova(0), UINT64_MAX, &covered), 0);
    assert_int_equal(covered, 8192);
    iommu_destroy(m);
}

static void a_bypass_domain_passes(void **state)
{
    struct iommu *m = fresh(2);
    struct iommu_translation t;
    uint64_t covered;

    (void)state;
    assert_int_equal(iommu_reserve(m, 8, iova(0xfee00000), 0x100000, true), 0);
    assert_int_equal(iommu_attach(m, 8, 1, true), 0);
    assert_int_equal(iommu_attach(m, 16, 1, false), -EINVAL);
    assert_int_equal(iommu_attach(m, 16, 2, false), 0);
    assert_int_equal(iommu_attach(m, 16, 1, true), 0);
    assert_int_equal(iommu_map(m, 1, iova(0), 4096, 0, RW), -EINVAL);
    assert_int_equal(iommu_unmap(m, 1, iova(0), 4096, &covered), -EINVAL);
    assert_int_equal(expect_ok(m, 8, 0x123456, 10, IOMMU_WRITE, &t), 0x123456);
    /* Interrupts are no memory for anybody. */
    expect_fault(m, 8, 0xfee00000, IOMMU_WRITE, IOMMU_RESERVED);
    assert_int_equal(expect_ok(m, 8, 0xfedfff00, 0x1000, IOMMU_READ, &t), 0xfedfff00);
    assert_int_equal(t.len, 0x100);
    assert_int_equal(iommu_detach(m, 8, 1), 0);
    expect_fault(m, 8, 0x1000, IOMMU_READ, IOMMU_NO_DOMAIN);
    iommu_set_bypass(m, true);
    assert_int_equal(expect_ok(m, 8, 0x1000, 1, IOMMU_READ, &t), 0x1000);
    expect_fault(m, 99, 0x1000, IOMMU_READ, IOMMU_NO_DOMAIN);
    iommu_destroy(m);
}

static void reserved_regions_follow_the_endpoint(void **state)
{
    struct iommu *m = fresh(2);
    struct iommu_mapping r;
    bool msi;

    (void)state;
    assert_int_equal(iommu_reserve(m, 16, iova(0x5000), 0x2000, false), 0);
    assert_true(iommu_reserved(m, 16, 0, &r, &msi));
    assert_true(r.iova.v == 0x5000 && r.len == 0x2000 && !msi);
    assert_false(iommu_reserved(m, 16, 1, &r, &msi));
    assert_false(iommu_reserved(m, 99, 0, &r, &msi));
    assert_int_equal(iommu_attach(m, 8, 1, false), 0);
    assert_int_equal(iommu_map(m, 1, iova(0x6000), 0x1000, 0, RW), 0);
    assert_int_equal(iommu_attach(m, 16, 1, false), -ENOTSUP);
    iommu_destroy(m);
}

struct told {
    struct iommu *m;
    unsigned unmaps, faults;
    bool still; /* the mapping was there when we were told */
};

static void unmapping(void *ctx, uint32_t domain)
{
    struct told *told = ctx;
    struct iommu_translation t;

    assert_int_equal(domain, 1);
    told->unmaps++;
    told->still = iommu_translate(told->m, 8, iova(0x1000), 1, IOMMU_READ, &t) == 0;
}

static void faulted(void *ctx, const struct iommu_fault *f)
{
    struct told *told = ctx;

    told->faults++;
    assert_int_equal(f->reason, IOMMU_OUTPUT);
    assert_true(f->attached && f->domain == 1);
}

static void tells_before_an_unmapping(void **state)
{
    struct told told = { .m = fresh(1) };
    uint64_t covered;

    (void)state;
    iommu_on_unmap(told.m, unmapping, &told);
    assert_int_equal(iommu_attach(told.m, 8, 1, false), 0);
    assert_int_equal(iommu_map(told.m, 1, iova(0x1000), 4096, 0x7000, RW), 0);
    assert_int_equal(iommu_unmap(told.m, 1, iova(0x9000), 4096, &covered), 0);
    assert_int_equal(told.unmaps, 0);
    assert_int_equal(iommu_unmap(told.m, 1, iova(0x1000), 4096, &covered), 0);
    assert_true(told.unmaps == 1 && told.still);
    assert_int_equal(iommu_map(told.m, 1, iova(0x1000), 4096, 0x7000, RW), 0);
    iommu_on_fault(told.m, faulted, &told);
    iommu_report(told.m, 8, iova(0x1000), true, IOMMU_OUTPUT);
    assert_int_equal(told.faults, 1);
    assert_int_equal(iommu_detach(told.m, 8, 1), 0);
    assert_true(told.unmaps == 2 && told.still);
    iommu_destroy(told.m);
}

static void the_record_keeps_the_last(void **state)
{
    struct iommu *m = fresh(1);
    struct iommu_fault f;
    struct iommu_stat stat;

    (void)state;
    assert_false(iommu_fault(m, 0, &f));
    for (unsigned i = 1; i <= 600; i++)
        iommu_report(m, 8, iova(i), false, IOMMU_NOT_MAPPED);
    for (unsigned i = 0; i < 256; i++) {
        assert_true(iommu_fault(m, i, &f));
        assert_int_equal(f.number, 345 + i);
        assert_int_equal(f.iova.v, 345 + i);
    }
    assert_false(iommu_fault(m, 256, &f));
    iommu_stat(m, &stat);
    assert_true(stat.faults == 600 && stat.faults_lost == 344);
    iommu_destroy(m);
}

/* A guest that never unmaps comes to an end, and so does one whose mappings need many tables. */
static void memory_is_bounded(void **state)
{
    struct iommu *m = fresh(1);
    struct iommu_stat stat;
    uint64_t covered, i;

    (void)state;
    assert_int_equal(iommu_attach(m, 8, 1, false), 0);
    for (i = 0; i <= IOMMU_MAPPINGS_MAX; i++)
        if (iommu_map(m, 1, iova(i * 8192), 4096, 0, RW) != 0)
            break;
    assert_int_equal(i, IOMMU_MAPPINGS_MAX);
    assert_int_equal(iommu_map(m, 1, iova(UINT64_C(1) << 40), 4096, 0, RW), -ENOMEM);
    assert_int_equal(iommu_unmap(m, 1, iova(0), UINT64_MAX, &covered), 0);
    assert_int_equal(covered, IOMMU_MAPPINGS_MAX * UINT64_C(4096));
    for (i = 0; iommu_map(m, 1, iova(i << 30), 4096, 0, RW) == 0; i++)
        continue;
    iommu_stat(m, &stat);
    assert_true(stat.tables <= IOMMU_TABLES_MAX && i > 5000);
    /* A refused mapping leaves nothing behind. */
    assert_int_equal(iommu_map(m, 1, iova(UINT64_C(1) << 46), PAGE_SIZE_1G * 64, 4096, RW),
                     -ENOMEM);
    iommu_stat(m, &stat);
    assert_true(stat.tables <= IOMMU_TABLES_MAX);
    expect_fault(m, 8, UINT64_C(1) << 46, IOMMU_READ, IOMMU_NOT_MAPPED);
    expect_fault(m, 8, UINT64_C(1) << 48, IOMMU_READ, IOMMU_TOO_WIDE);
    iommu_destroy(m);
}

static void chooses_levels(void **state)
{
    struct iommu *m;

    (void)state;
    assert_int_equal(iommu_create(&m, 2, false), -EINVAL);
    assert_int_equal(iommu_create(&m, 6, false), -EINVAL);
    for (unsigned levels = 3; levels <= 5; levels++) {
        struct iommu_translation t;
        uint64_t top = (UINT64_C(1) << (12 + 9 * levels)) - PAGE_SIZE_4K;

        assert_int_equal(iommu_create(&m, levels, true), 0);
        assert_true(iommu_bypass(m));
        assert_int_equal(iommu_add_endpoint(m, 8), 0);
        assert_int_equal(iommu_add_endpoint(m, 8), -EEXIST);
        assert_int_equal(iommu_attach(m, 8, 7, false), 0);
        assert_int_equal(iommu_map(m, 7, iova(top), 4096, 0x3000, IOMMU_WRITE), 0);
        assert_int_equal(expect_ok(m, 8, top + 5, 1, IOMMU_WRITE, &t), 0x3005);
        assert_false(t.hit);
        assert_int_equal(expect_ok(m, 8, top + 6, 1, IOMMU_WRITE, &t), 0x3006);
        assert_true(t.hit && t.shift == 12);
        expect_fault(m, 8, top, IOMMU_READ, IOMMU_WRITE_ONLY);
        iommu_destroy(m);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(against_a_model),
        cmocka_unit_test(refuses_bad_mappings),
        cmocka_unit_test(a_bypass_domain_passes),
        cmocka_unit_test(reserved_regions_follow_the_endpoint),
        cmocka_unit_test(tells_before_an_unmapping),
        cmocka_unit_test(the_record_keeps_the_last),
        cmocka_unit_test(memory_is_bounded),
        cmocka_unit_test(chooses_levels),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
