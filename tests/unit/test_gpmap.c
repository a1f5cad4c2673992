/*
 * The guest-physical map: random changes against a plain array with one element a page, which knows
 * nothing of trees, and from several threads at once.
 */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "ept/gpmap.h"

#define OPERATIONS 1000000u
#define HVA        UINT64_C(0x7f0000000000)

#define MIB(n) ((uint64_t)(n) << 20)
#define GIB(n) ((uint64_t)(n) << 30)

/* RAM as VMs have it, and worse: the second range is congruent to its hva modulo 4 KiB only, the
 * third begins in the middle of the second's last 2 MiB. */
static const struct part {
    uint64_t base, size, hva;
    unsigned backing;
} parts[] = {
    { 0, GIB(1) + MIB(6), HVA, 1 },
    { GIB(4), MIB(65), HVA + GIB(2) + 0x3000, 2 },
    { GIB(4) + MIB(65), MIB(63), HVA + GIB(4) + MIB(65), 3 },
};

#define PARTS (sizeof(parts) / sizeof(parts[0]))

/* --- the model -------------------------------------------------------------------- */

/* Pages are numbered through all parts. */
struct model {
    struct gpmap *map;
    struct gp_page *page;
    uint64_t pages, first[PARTS + 1];
    uint64_t transitions[GP_STATES][GP_STATES];
    uint64_t seed;
};

static uint64_t rnd(uint64_t *seed)
{
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    return *seed * UINT64_C(0x2545f4914f6cdd1d) >> 11;
}

static const struct part *part_of(const struct model *m, uint64_t p, uint64_t *first)
{
    unsigned i = 0;

    while (p >= m->first[i + 1])
        i++;
    if (first)
        *first = m->first[i];
    return &parts[i];
}

static uint64_t gpa_of(const struct model *m, uint64_t p)
{
    uint64_t first;
    const struct part *part = part_of(m, p, &first);

    return part->base + ((p - first) << 12);
}

static uint64_t hva_of(const struct model *m, uint64_t p)
{
    uint64_t first;
    const struct part *part = part_of(m, p, &first);

    return part->hva + ((p - first) << 12);
}

static bool same(const struct gp_page *a, const struct gp_page *b)
{
    return a->state == b->state && a->shift == b->shift && a->flags == b->flags &&
           a->payload == b->payload && a->was == b->was;
}

/* The number of the first page of the aligned block around `p`; may be before the part. */
static int64_t block(const struct model *m, uint64_t p, unsigned shift)
{
    uint64_t at = gpa_of(m, p);

    return (int64_t)p - (int64_t)((at & ((UINT64_C(1) << shift) - 1)) >> 12);
}

/* Is the block inside [at, end) (1), outside (-1), or neither (0)? */
static int block_in(const struct model *m, uint64_t p, unsigned shift, uint64_t at, uint64_t end)
{
    int64_t first = block(m, p, shift), last = first + (INT64_C(1) << (shift - 12));

    if (first >= (int64_t)at && last <= (int64_t)end)
        return 1;
    return last <= (int64_t)at || first >= (int64_t)end ? -1 : 0;
}

/* What is large and stands across an edge becomes smaller. */
static void model_cut(struct model *m, uint64_t at, uint64_t end, uint64_t edge)
{
    unsigned shift;
    uint64_t first;

    if (edge >= m->pages || m->page[edge].shift == 12)
        return;
    shift = m->page[edge].shift;
    first = (uint64_t)block(m, edge, shift);
    for (uint64_t q = first; q < first + (UINT64_C(1) << (shift - 12)); q++)
        while (m->page[q].shift > 12 && !block_in(m, q, m->page[q].shift, at, end))
            m->page[q].shift -= 9;
}

/* The run [at, end) becomes `to`. */
static void model_set(struct model *m, uint64_t at, uint64_t end, const struct gp_page *to)
{
    struct gp_page page = *to;
    bool leaf = to->state == GP_PRESENT || to->state == GP_ZERO;
    uint64_t apart = gpa_of(m, at) ^ hva_of(m, at);
    unsigned shift;

    if (leaf || to->state == GP_UNTOUCHED)
        page.payload = 0;
    if (!leaf && to->state != GP_GUARDED)
        page.shift = 12;
    if (same(&page, &m->page[at]))
        return;
    shift = page.shift;
    m->transitions[m->page[at].state][page.state] += m->page[at].state != page.state ? end - at : 0;
    model_cut(m, at, end, at);
    model_cut(m, at, end, end);
    for (uint64_t p = at; p < end; p++) {
        page.shift = shift;
        while (page.shift > 12 && (block_in(m, p, page.shift, at, end) != 1 ||
                                   (leaf && (apart & ((1u << page.shift) - 1)) != 0)))
            page.shift -= 9;
        m->page[p] = page;
    }
}

/* [at, end) became the same run by run: what may be one leaf now, is. */
static void model_join(struct model *m, uint64_t at, uint64_t end, const struct gp_page *to)
{
    unsigned loose = GP_ACCESSED | GP_DIRTY;
    uint64_t apart = at < end ? gpa_of(m, at) ^ hva_of(m, at) : 0;

    if (to->state != GP_PRESENT && to->state != GP_ZERO)
        return;
    for (unsigned shift = 21; shift <= to->shift && !(apart & ((1u << shift) - 1)); shift += 9) {
        uint64_t pages = UINT64_C(1) << (shift - 12), first = at;

        for (; first + pages <= end; first++) {
            unsigned all = 0;
            bool equal = block(m, first, shift) == (int64_t)first;

            for (uint64_t p = first; equal && p < first + pages; p++) {
                equal = m->page[p].shift == shift - 9 &&
                        ((m->page[p].flags ^ m->page[first].flags) & ~loose) == 0;
                all |= m->page[p].flags;
            }
            for (uint64_t p = first; equal && p < first + pages; p++) {
                m->page[p].flags = all;
                m->page[p].shift = shift;
            }
        }
    }
}

static struct gp_page model_target(const struct gp_change *c, const struct gp_page *from)
{
    struct gp_page to = *from;

    to.flags = (from->flags | c->set_flags) & ~c->clear_flags;
    if (c->restore) {
        to.state = from->was;
        to.was = GP_UNTOUCHED;
    } else if (!c->keep_state && c->to.state == GP_GUARDED) {
        to.state = GP_GUARDED;
        to.was = from->state == GP_GUARDED ? from->was : from->state;
    } else if (!c->keep_state) {
        to.state = c->to.state;
        to.shift = c->to.shift;
        to.payload = c->to.payload;
        to.was = GP_UNTOUCHED;
    }
    return to;
}

static bool model_fits(const struct gp_change *c, const struct gp_page *page)
{
    return (c->from >> page->state & 1) && (page->flags & c->need_flags) == c->need_flags &&
           !(page->flags & c->avoid_flags) && (!c->restore || page->state == GP_GUARDED);
}

/* --- an effect that takes notes --------------------------------------------------- */

struct note {
    uint64_t at, len;
    struct gp_page from, to, amended;
};

struct notes {
    struct note *note;
    unsigned count, room;
    unsigned fail_at; /* the call of this number fails */
    uint64_t seed;
};

static int take_note(void *ctx, gpa_t at, uint64_t len, const struct gp_page *from,
                     struct gp_page *to)
{
    struct notes *n = ctx;
    struct note *note;

    if (n->count == n->room) {
        n->room = n->room ? 2 * n->room : 64;
        n->note = reallocarray(n->note, n->room, sizeof(*n->note));
        assert_non_null(n->note);
    }
    note = &n->note[n->count++];
    *note = (struct note){ .at = at.v, .len = len, .from = *from, .to = *to };
    if (rnd(&n->seed) % 4 == 0 && from->state != GP_GUARDED && to->state != GP_GUARDED) {
        to->shift = 12 + 9 * (unsigned)(rnd(&n->seed) % 3);
        to->flags ^= GP_WATCHED;
        to->payload ^= 5;
    }
    note->amended = *to;
    to->hva = 1; /* not ours to say */
    to->backing = 7;
    return n->count - 1 == n->fail_at ? -EIO : 0;
}

/* What the change should have done, run by run; compares the notes. Returns what it should have
 * returned. */
static int model_change(struct model *m, uint64_t at, uint64_t end, const struct gp_change *c,
                        const struct notes *notes, uint64_t *changed)
{
    unsigned calls = 0;
    uint64_t p = at, joined = at;
    struct gp_page last = { .state = GP_UNTOUCHED };
    const struct part *last_part = NULL;

    *changed = 0;
    while (p < end) {
        const struct gp_page from = m->page[p];
        const struct part *part = part_of(m, p, NULL);
        uint64_t q = p + 1;

        while (q < end && part_of(m, q, NULL) == part && same(&m->page[q], &from))
            q++;
        if (model_fits(c, &from)) {
            struct gp_page to = model_target(c, &from);

            if (c->effect) {
                const struct note *note = &notes->note[calls];

                assert_true(calls < notes->count);
                assert_int_equal(note->at, gpa_of(m, p));
                assert_int_equal(note->len, (q - p) << 12);
                assert_true(same(&note->from, &from) && same(&note->to, &to));
                assert_int_equal(note->from.hva, hva_of(m, p));
                assert_int_equal(note->to.hva, hva_of(m, p));
                assert_int_equal(note->from.backing, part->backing);
                to = note->amended;
                if (calls++ == notes->fail_at)
                    break;
            }
            model_set(m, p, q, &to);
            *changed += (q - p) << 12;
            if (last_part != part || last.state != to.state || last.shift != to.shift) {
                model_join(m, joined, p, &last);
                joined = p;
            }
            last_part = part;
            last = to;
        } else {
            model_join(m, joined, p, &last);
            joined = q;
            last_part = NULL;
        }
        p = q;
    }
    model_join(m, joined, p, &last);
    if (p < end)
        return -EIO;
    assert_int_equal(calls, notes->count);
    return 0;
}

/* --- both compared ---------------------------------------------------------------- */

static void check_page(const struct model *m, const struct pt_space *space, uint64_t p)
{
    const struct gp_page *want = &m->page[p];
    struct pt_walk walk;
    struct gp_page got;
    uint64_t at = gpa_of(m, p);

    assert_int_equal(gpmap_get(m->map, gpa(at | 0x777), &got), 0);
    assert_true(same(&got, want));
    assert_int_equal(got.backing, part_of(m, p, NULL)->backing);
    assert_int_equal(got.hva, hva_of(m, p) & ~((UINT64_C(1) << want->shift) - 1));
    pt_walk(space, at | 0x777, gpmap_read, m->map, &walk);
    if (want->state == GP_PRESENT || want->state == GP_ZERO) {
        assert_int_equal(walk.fault, PT_OK);
        assert_int_equal(walk.output, hva_of(m, p) | 0x777);
        assert_int_equal(walk.shift, want->shift);
        assert_int_equal(walk.ref[walk.count - 1].raw & 7, want->state == GP_PRESENT ? 7 : 5);
        gpmap_decode(walk.ref[walk.count - 1].raw, walk.level, &got);
        assert_true(same(&got, want) && got.hva == (walk.output & ~((1ull << walk.shift) - 1)));
        assert_int_equal(got.backing, part_of(m, p, NULL)->backing);
    } else {
        assert_int_equal(walk.fault, PT_NOT_PRESENT);
    }
}

static void check_stats(const struct model *m)
{
    struct gpmap_stats got, want = { 0 };

    for (uint64_t p = 0; p < m->pages; p++) {
        const struct gp_page *page = &m->page[p];

        want.bytes[page->state] += 4096;
        if (page->state == GP_PRESENT)
            *(page->shift == 12   ? &want.present_4k
              : page->shift == 21 ? &want.present_2m
                                  : &want.present_1g) += 4096;
    }
    gpmap_stats(m->map, &got);
    assert_memory_equal(got.bytes, want.bytes, sizeof(got.bytes));
    assert_memory_equal(got.transitions, m->transitions, sizeof(got.transitions));
    assert_int_equal(got.present_4k, want.present_4k);
    assert_int_equal(got.present_2m, want.present_2m);
    assert_int_equal(got.present_1g, want.present_1g);
    /* One for each 2 MiB at most, and what is above. */
    assert_in_range(got.tables, 1, m->pages / 512 + 16);
}

struct runs {
    const struct model *m;
    uint64_t next; /* page */
};

static int check_run(void *ctx, gpa_t at, uint64_t len, const struct gp_page *page)
{
    struct runs *runs = ctx;
    const struct model *m = runs->m;
    uint64_t p = runs->next, end = p + (len >> 12);

    assert_int_equal(at.v, gpa_of(m, p));
    assert_int_equal(page->hva, hva_of(m, p));
    for (; p < end; p++)
        assert_true(same(page, &m->page[p]));
    /* And no further one would have belonged to it. */
    if (end < m->pages && part_of(m, end, NULL) == part_of(m, end - 1, NULL))
        assert_false(same(page, &m->page[end]));
    runs->next = end;
    return 0;
}

static void check_all(const struct model *m)
{
    struct runs runs = { .m = m };
    struct pt_space space;

    gpmap_space(m->map, &space);
    for (uint64_t p = 0; p < m->pages; p++)
        check_page(m, &space, p);
    for (unsigned i = 0; i < PARTS; i++) {
        assert_int_equal(gpmap_runs(m->map, gpa(parts[i].base), parts[i].size, check_run, &runs),
                         0);
        assert_int_equal(runs.next, m->first[i + 1]);
    }
    check_stats(m);
}

/* --- random operations ------------------------------------------------------------ */

static void random_range(struct model *m, uint64_t *at, uint64_t *end)
{
    uint64_t len, kind = rnd(&m->seed) % 5000;
    unsigned align;

    if (kind == 0)
        len = 1 + rnd(&m->seed) % m->pages, align = 18;
    else if (kind < 100)
        len = 1 + rnd(&m->seed) % 4096, align = 9;
    else
        len = 1 + rnd(&m->seed) % 16, align = rnd(&m->seed) % 4;
    *at = rnd(&m->seed) % m->pages;
    if (rnd(&m->seed) % 3) {
        *at &= ~((UINT64_C(1) << align) - 1);
        len = (len + ((UINT64_C(1) << align) - 1)) & ~((UINT64_C(1) << align) - 1);
    }
    *end = *at + len < m->pages ? *at + len : m->pages;
    /* The first two parts are not next to each other. */
    if (*at < m->first[1] && *end > m->first[1])
        *end = m->first[1];
}

static const unsigned flags[] = { 0,         GP_NODUMP,  GP_ACCESSED, GP_DIRTY,
                                  GP_LOCKED, GP_WATCHED, GP_LEARNED,  0 };

static void random_change(struct model *m, struct gp_change *c)
{
    uint64_t r = rnd(&m->seed);

    *c = (struct gp_change){ .from = r % 4 ? GP_ANY : (unsigned)(r >> 2) & GP_ANY };
    r = rnd(&m->seed);
    c->set_flags = flags[r % 8];
    c->clear_flags = flags[(r >> 3) % 8];
    c->need_flags = r >> 6 & 3 ? 0 : flags[(r >> 8) % 8];
    c->avoid_flags = r >> 11 & 3 ? 0 : flags[(r >> 13) % 8];
    r = rnd(&m->seed);
    c->to.state = r % 3 ? (enum gp_state)(r >> 4 & 3) : (enum gp_state)((r >> 4) % GP_STATES);
    c->to.shift = 12 + 9 * ((unsigned)(r >> 8) % 3);
    c->to.payload = r >> 12 & 1 ? (r >> 13) & 0xffffffffff : 0;
    c->keep_state = (r >> 3) % 5 == 0;
    c->restore = !c->keep_state && (r >> 5) % 5 == 0;
}

static void step(struct model *m, struct notes *notes, uint64_t *failed)
{
    struct pt_space space;
    uint64_t at, end, want, got;
    struct gp_change c;
    int rc;

    random_range(m, &at, &end);
    random_change(m, &c);
    notes->count = 0;
    notes->fail_at = rnd(&m->seed) % 16 ? ~0u : (unsigned)(rnd(&m->seed) % 4);
    if (rnd(&m->seed) % 4) {
        c.effect = take_note;
        c.ctx = notes;
    }
    rc = gpmap_change(m->map, gpa(gpa_of(m, at)), (end - at) << 12, &c, &got);
    assert_int_equal(rc, model_change(m, at, end, &c, notes, &want));
    assert_int_equal(got, want);
    *failed += rc == -EIO;
    gpmap_space(m->map, &space);
    for (unsigned i = 0; i < 6; i++) {
        uint64_t p = (at > 600 ? at - 600 : 0) + rnd(&m->seed) % (end - at + 1200);

        check_page(m, &space, p < m->pages ? p : at);
    }
    check_page(m, &space, at);
    check_page(m, &space, end - 1);
}

static void model_new(struct model *m, uint64_t seed)
{
    *m = (struct model){ .seed = seed };
    assert_int_equal(gpmap_create(&m->map), 0);
    for (unsigned i = 0; i < PARTS; i++) {
        assert_int_equal(
            gpmap_add(m->map, gpa(parts[i].base), parts[i].size, parts[i].hva, parts[i].backing),
            0);
        m->first[i + 1] = m->first[i] + (parts[i].size >> 12);
    }
    m->pages = m->first[PARTS];
    m->page = calloc(m->pages, sizeof(*m->page));
    assert_non_null(m->page);
    for (uint64_t p = 0; p < m->pages; p++)
        m->page[p].shift = 12;
}

static void model_end(struct model *m)
{
    gpmap_destroy(m->map);
    free(m->page);
}

static void test_random(void **state)
{
    struct notes notes = { .seed = 0x853c49e6748fea9b };
    uint64_t failed = 0;
    struct model m;

    (void)state;
    model_new(&m, 0xda3e39cb94b95bdb);
    check_all(&m);
    for (unsigned i = 0; i < OPERATIONS; i++) {
        step(&m, &notes, &failed);
        if (i % 50000 == 0)
            check_all(&m);
        else if (i % 5000 == 0)
            check_stats(&m);
    }
    check_all(&m);
    assert_true(failed > 1000);
    model_end(&m);
    free(notes.note);
}

/* --- several threads -------------------------------------------------------------- */

#define THREADS      4
#define THREAD_RANGE MIB(64)
#define THREAD_STEPS 40000

struct shared {
    struct gpmap *map;
    struct gp_page page[THREAD_RANGE >> 12]; /* changed by effects: under the map's lock */
    bool stop;
};

struct worker {
    pthread_t thread;
    struct shared *shared;
    uint64_t seed, looks;
};

static int model_effect(void *ctx, gpa_t at, uint64_t len, const struct gp_page *from,
                        struct gp_page *to)
{
    struct shared *s = ctx;
    struct gp_page now;

    assert_int_equal(gpmap_get(s->map, at, &now), 0);
    assert_true(same(&now, from));
    for (uint64_t p = at.v >> 12; p < (at.v + len) >> 12; p++) {
        assert_true(s->page[p].state == from->state && s->page[p].flags == from->flags &&
                    s->page[p].payload == from->payload);
        s->page[p].state = to->state;
        s->page[p].flags = to->flags;
        s->page[p].payload = to->payload;
    }
    return 0;
}

static void *change_thread(void *arg)
{
    struct worker *w = arg;

    for (unsigned i = 0; i < THREAD_STEPS; i++) {
        uint64_t r = rnd(&w->seed), at = r % (THREAD_RANGE >> 12), len = 1 + (r >> 20) % 64;
        struct gp_change c = { .from = GP_ANY, .effect = model_effect, .ctx = w->shared };

        if (r >> 30 & 1) {
            at &= ~UINT64_C(511);
            len = 512;
        }
        if (at + len > THREAD_RANGE >> 12)
            len = (THREAD_RANGE >> 12) - at;
        r = rnd(&w->seed);
        c.to.state = (enum gp_state)(r & 1 ? GP_PRESENT : (r >> 1) % 3);
        c.to.shift = r >> 4 & 1 ? 21 : 12;
        if (r >> 5 & 1) {
            c.to.state = GP_SWAPPED; /* with a payload by which readers know its place */
            c.to.payload = 0x5000 + (at >> 9);
            at &= ~UINT64_C(511);
            len = 1 + (len - 1) % 512;
        }
        /* Not those two, which a merge may set besides. */
        c.set_flags = flags[(r >> 8) % 8] & ~(GP_ACCESSED | GP_DIRTY);
        c.clear_flags = flags[(r >> 12) % 8];
        assert_int_equal(gpmap_change(w->shared->map, gpa(at << 12), len << 12, &c, NULL), 0);
    }
    return NULL;
}

/* Whatever it sees, it is this page's. */
static void *look_thread(void *arg)
{
    struct worker *w = arg;
    struct pt_space space;
    struct gpmap_stats stats;

    gpmap_space(w->shared->map, &space);
    while (!__atomic_load_n(&w->shared->stop, __ATOMIC_RELAXED)) {
        uint64_t at = rnd(&w->seed) % THREAD_RANGE;
        struct pt_walk walk;
        struct gp_page page;

        assert_int_equal(gpmap_get(w->shared->map, gpa(at), &page), 0);
        if (page.state == GP_SWAPPED)
            assert_int_equal(page.payload, 0x5000 + (at >> 21));
        if (pt_walk(&space, at, gpmap_read, w->shared->map, &walk) == PT_OK)
            assert_int_equal(walk.output, HVA + at);
        else
            assert_int_equal(walk.fault, PT_NOT_PRESENT);
        if (w->looks++ % 1024 == 0)
            gpmap_stats(w->shared->map, &stats);
    }
    return NULL;
}

static void test_threads(void **state)
{
    struct shared *s = calloc(1, sizeof(*s));
    struct worker worker[THREADS + 2] = { 0 };
    uint64_t bytes[GP_STATES] = { 0 };
    struct gpmap_stats stats;

    (void)state;
    assert_non_null(s);
    assert_int_equal(gpmap_create(&s->map), 0);
    assert_int_equal(gpmap_add(s->map, gpa(0), THREAD_RANGE, HVA, 0), 0);
    for (unsigned i = 0; i < THREADS + 2; i++) {
        worker[i].shared = s;
        worker[i].seed = 0x1234567 + i;
        assert_int_equal(pthread_create(&worker[i].thread, NULL,
                                        i < THREADS ? change_thread : look_thread, &worker[i]),
                         0);
    }
    for (unsigned i = 0; i < THREADS; i++)
        pthread_join(worker[i].thread, NULL);
    __atomic_store_n(&s->stop, true, __ATOMIC_RELAXED);
    for (unsigned i = THREADS; i < THREADS + 2; i++) {
        pthread_join(worker[i].thread, NULL);
        assert_true(worker[i].looks > 0);
    }
    for (uint64_t p = 0; p < THREAD_RANGE >> 12; p++) {
        struct gp_page page;

        assert_int_equal(gpmap_get(s->map, gpa(p << 12), &page), 0);
        assert_int_equal(page.state, s->page[p].state);
        assert_int_equal(page.flags, s->page[p].flags);
        if (page.state == GP_SWAPPED)
            assert_int_equal(page.payload, s->page[p].payload);
        bytes[page.state] += 4096;
    }
    gpmap_stats(s->map, &stats);
    assert_memory_equal(stats.bytes, bytes, sizeof(bytes));
    gpmap_destroy(s->map);
    free(s);
}

/* --- single cases ----------------------------------------------------------------- */

static void change(struct gpmap *map, uint64_t at, uint64_t len, enum gp_state to, unsigned shift)
{
    struct gp_change c = { .from = GP_ANY, .to = { .state = to, .shift = shift } };

    assert_int_equal(gpmap_change(map, gpa(at), len, &c, NULL), 0);
}

static struct gp_page look(struct gpmap *map, uint64_t at)
{
    struct gp_page page;

    assert_int_equal(gpmap_get(map, gpa(at), &page), 0);
    return page;
}

static void test_refused(void **state)
{
    struct gp_change c = { .from = GP_ANY, .to = { .state = GP_PRESENT, .shift = 12 } };
    struct gp_page page;
    struct gpmap *map;
    uint64_t changed = 1;

    (void)state;
    assert_int_equal(gpmap_create(&map), 0);
    assert_int_equal(gpmap_get(map, gpa(0), &page), -ENOENT);
    assert_int_equal(gpmap_add(map, gpa(0), 0, HVA, 0), -EINVAL);
    assert_int_equal(gpmap_add(map, gpa(1), 4096, HVA, 0), -EINVAL);
    assert_int_equal(gpmap_add(map, gpa(0), 4097, HVA, 0), -EINVAL);
    assert_int_equal(gpmap_add(map, gpa(0), 4096, HVA + 1, 0), -EINVAL);
    assert_int_equal(gpmap_add(map, gpa(0), 4096, HVA, 8), -EINVAL);
    assert_int_equal(gpmap_add(map, gpa(UINT64_C(1) << 48), 4096, HVA, 0), -EINVAL);
    assert_int_equal(gpmap_add(map, gpa(4096), UINT64_C(1) << 48, HVA, 0), -EINVAL);
    assert_int_equal(gpmap_add(map, gpa(4096), ~UINT64_C(0xfff), HVA, 0), -EINVAL);
    assert_int_equal(gpmap_add(map, gpa(MIB(1)), MIB(1), HVA, 0), 0);
    assert_int_equal(gpmap_add(map, gpa(0), MIB(1) + 4096, HVA, 0), -EEXIST);
    assert_int_equal(gpmap_add(map, gpa(MIB(2) - 4096), MIB(1), HVA, 0), -EEXIST);
    assert_int_equal(gpmap_add(map, gpa(0), MIB(4), HVA, 0), -EEXIST);

    assert_int_equal(gpmap_get(map, gpa(MIB(1) - 1), &page), -ENOENT);
    assert_int_equal(gpmap_get(map, gpa(MIB(2)), &page), -ENOENT);
    assert_int_equal(gpmap_change(map, gpa(MIB(1) + 1), 4096, &c, &changed), -EINVAL);
    assert_int_equal(changed, 0);
    assert_int_equal(gpmap_change(map, gpa(MIB(1)), 4095, &c, NULL), -EINVAL);
    assert_int_equal(gpmap_change(map, gpa(MIB(1)), ~UINT64_C(0xfff), &c, NULL), -EINVAL);
    assert_int_equal(gpmap_change(map, gpa(MIB(1)), MIB(1) + 4096, &c, &changed), -ENOENT);
    assert_int_equal(changed, 0);
    assert_int_equal(look(map, MIB(1)).state, GP_UNTOUCHED);
    c.to.state = GP_STATES;
    assert_int_equal(gpmap_change(map, gpa(MIB(1)), 4096, &c, NULL), -EINVAL);
    c.to.state = GP_SWAPPED;
    c.to.payload = UINT64_C(1) << 40;
    assert_int_equal(gpmap_change(map, gpa(MIB(1)), 4096, &c, NULL), -EINVAL);
    c.to.payload--;
    assert_int_equal(gpmap_change(map, gpa(MIB(1)), 4096, &c, NULL), 0);
    assert_int_equal(look(map, MIB(1)).payload, (UINT64_C(1) << 40) - 1);
    c.set_flags = 1u << 6;
    assert_int_equal(gpmap_change(map, gpa(MIB(1)), 4096, &c, NULL), -EINVAL);
    assert_int_equal(gpmap_runs(map, gpa(MIB(2)), 4096, check_run, NULL), -ENOENT);
    assert_int_equal(gpmap_runs(map, gpa(1), 4096, check_run, NULL), -EINVAL);
    gpmap_destroy(map);
    gpmap_destroy(NULL);
}

/* A guard keeps what was there, also when it is taken away page by page. */
static void test_guard(void **state)
{
    struct gp_change back = { .from = GP_MASK(GP_GUARDED), .restore = true };
    struct gpmap *map;
    struct gpmap_stats stats;
    uint64_t changed;

    (void)state;
    assert_int_equal(gpmap_create(&map), 0);
    assert_int_equal(gpmap_add(map, gpa(0), MIB(8), HVA, 1), 0);
    change(map, MIB(2), MIB(2), GP_PRESENT, 21);
    change(map, MIB(4), 4096, GP_ZERO, 12);
    change(map, 0, MIB(8), GP_GUARDED, 12);
    change(map, MIB(2), MIB(1), GP_GUARDED, 12); /* twice is once */
    assert_int_equal(look(map, 0).was, GP_UNTOUCHED);
    assert_int_equal(look(map, MIB(2)).was, GP_PRESENT);
    assert_int_equal(look(map, MIB(3)).shift, 21);
    assert_int_equal(look(map, MIB(4)).was, GP_ZERO);
    gpmap_stats(map, &stats);
    assert_int_equal(stats.bytes[GP_GUARDED], MIB(8));
    assert_int_equal(stats.present_2m, 0);

    assert_int_equal(gpmap_change(map, gpa(0), MIB(3), &back, &changed), 0);
    assert_int_equal(changed, MIB(3));
    assert_int_equal(gpmap_change(map, gpa(0), MIB(3), &back, &changed), 0);
    assert_int_equal(changed, 0);
    assert_int_equal(look(map, 0).state, GP_UNTOUCHED);
    assert_int_equal(look(map, MIB(2)).state, GP_PRESENT);
    assert_int_equal(look(map, MIB(2)).shift, 12); /* cut: it came back in part */
    assert_int_equal(look(map, MIB(3)).state, GP_GUARDED);
    assert_int_equal(gpmap_change(map, gpa(MIB(3)), MIB(5), &back, NULL), 0);
    assert_int_equal(look(map, MIB(3)).state, GP_PRESENT);
    assert_int_equal(look(map, MIB(4)).state, GP_ZERO);
    assert_int_equal(look(map, MIB(4) + 4096).state, GP_UNTOUCHED);

    change(map, MIB(2), MIB(2), GP_PRESENT, 21);
    change(map, MIB(2), MIB(2), GP_GUARDED, 12);
    assert_int_equal(gpmap_change(map, gpa(0), MIB(8), &back, NULL), 0);
    assert_int_equal(look(map, MIB(2)).shift, 21);
    gpmap_stats(map, &stats);
    assert_int_equal(stats.present_2m, MIB(2));
    gpmap_destroy(map);
}

/* What has large entries takes no tables below them, and comes back to none. */
static void test_large(void **state)
{
    struct gpmap *map;
    struct gpmap_stats stats;

    (void)state;
    assert_int_equal(gpmap_create(&map), 0);
    assert_int_equal(gpmap_add(map, gpa(0), GIB(64), HVA, 1), 0);
    change(map, 0, GIB(64), GP_GUARDED, 12);
    change(map, 0, GIB(64), GP_PRESENT, 30);
    gpmap_stats(map, &stats);
    assert_int_equal(stats.present_1g, GIB(64));
    assert_int_equal(stats.tables, 2);
    assert_int_equal(stats.transitions[GP_UNTOUCHED][GP_GUARDED], GIB(64) >> 12);
    change(map, GIB(1) + MIB(2), 4096, GP_UNTOUCHED, 12);
    gpmap_stats(map, &stats);
    assert_int_equal(stats.tables, 4);
    assert_int_equal(stats.present_1g, GIB(63));
    assert_int_equal(stats.present_2m, GIB(1) - MIB(2));
    assert_int_equal(stats.present_4k, MIB(2) - 4096);
    assert_int_equal(look(map, GIB(1)).shift, 21);
    assert_int_equal(look(map, GIB(1) + MIB(2)).state, GP_UNTOUCHED);
    assert_int_equal(look(map, GIB(1) + MIB(3)).shift, 12);
    change(map, GIB(1), GIB(1), GP_PRESENT, 30);
    gpmap_stats(map, &stats);
    assert_int_equal(stats.present_1g, GIB(64)); /* of three runs, again one leaf */
    assert_int_equal(look(map, GIB(1) + MIB(2)).state, GP_PRESENT);
    change(map, GIB(1), GIB(1), GP_UNTOUCHED, 12);
    change(map, GIB(1), GIB(1), GP_PRESENT, 30);
    gpmap_stats(map, &stats);
    assert_int_equal(stats.present_1g, GIB(64));
    gpmap_destroy(map);
}

/* Two ranges whose RAM is contiguous, in both address spaces: no leaf goes across. */
static void test_border(void **state)
{
    struct gpmap *map;

    (void)state;
    assert_int_equal(gpmap_create(&map), 0);
    assert_int_equal(gpmap_add(map, gpa(0), MIB(1), HVA, 1), 0);
    assert_int_equal(gpmap_add(map, gpa(MIB(1)), MIB(3), HVA + MIB(1), 1), 0);
    change(map, 0, MIB(4), GP_PRESENT, 21);
    assert_int_equal(look(map, MIB(1)).shift, 12);
    assert_int_equal(look(map, MIB(2)).shift, 21);
    change(map, 0, MIB(4), GP_ZERO, 12);
    assert_int_equal(look(map, MIB(2)).shift, 12);
    assert_int_equal(look(map, MIB(2) + 4096).hva, HVA + MIB(2) + 4096);
    gpmap_destroy(map);
}

/* Only our tables can be read. */
static void test_reader(void **state)
{
    static uint64_t foreign[512] __attribute__((aligned(4096)));
    uint64_t raw, copy[512];
    struct pt_space space;
    struct gpmap *map;

    (void)state;
    assert_int_equal(gpmap_create(&map), 0);
    assert_int_equal(gpmap_add(map, gpa(0), MIB(8), HVA, 1), 0);
    change(map, 0, 4096, GP_PRESENT, 12);
    gpmap_space(map, &space);
    assert_int_equal(gpmap_read(map, space.root, 8, &raw), 0);
    assert_true((raw & 7) == 7);
    assert_int_equal(gpmap_read(map, space.root + 4, 8, &raw), -EFAULT);
    assert_int_equal(gpmap_read(map, space.root, 4, &raw), -EFAULT);
    assert_int_equal(gpmap_read(map, (uintptr_t)foreign, 8, &raw), -EFAULT);
    assert_int_equal(gpmap_read(map, 0, 8, &raw), -EFAULT);
    assert_int_equal(gpmap_read(map, HVA, 8, &raw), -EFAULT);
    assert_int_equal(gpmap_read(map, ~UINT64_C(7), 8, &raw), -EFAULT);
    assert_null(gpmap_read_table(map, (uintptr_t)foreign, 4096, copy));
    assert_null(gpmap_read_table(map, space.root + 8, 4096, copy));
    assert_null(gpmap_read_table(map, space.root, 8192, copy));
    assert_ptr_equal(gpmap_read_table(map, space.root, 4096, copy), copy);
    gpmap_read(map, space.root, 8, &raw);
    assert_int_equal(copy[0], raw);
    gpmap_destroy(map);
}

static void test_names(void **state)
{
    (void)state;
    for (unsigned i = 0; i < GP_STATES; i++) {
        assert_true(strlen(gp_state_name((enum gp_state)i)) > 3);
        for (unsigned j = 0; j < i; j++)
            assert_string_not_equal(gp_state_name((enum gp_state)i),
                                    gp_state_name((enum gp_state)j));
    }
    assert_string_equal(gp_state_name(GP_STATES), "unknown");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_refused), cmocka_unit_test(test_guard),  cmocka_unit_test(test_large),
        cmocka_unit_test(test_reader),  cmocka_unit_test(test_border), cmocka_unit_test(test_names),
        cmocka_unit_test(test_threads), cmocka_unit_test(test_random),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
