/*
 * The guest-physical map: random changes against a plain array with one element a page, which knows
 * nothing of trees.
 */
#include <errno.h>
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

static uint64_t expected_hva(const struct model *m, uint64_t p)
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
    uint64_t apart = gpa_of(m, at) ^ expected_hva(m, at);
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
    uint64_t apart = at < end ? gpa_of(m, at) ^ expected_hva(m, at) : 0;

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
    to->hva.v = 1; /* not ours to say */
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
                assert_int_equal(note->from.hva.v, expected_hva(m, p));
                assert_int_equal(note->to.hva.v, expected_hva(m, p));
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
    assert_int_equal(got.hva.v, expected_hva(m, p) & ~((UINT64_C(1) << want->shift) - 1));
    pt_walk(space, at | 0x777, gpmap_read, m->map, &walk);
    if (want->state == GP_PRESENT || want->state == GP_ZERO) {
        assert_int_equal(walk.fault, PT_OK);
        assert_int_equal(walk.output, expected_hva(m, p) | 0x777);
        assert_int_equal(walk.shift, want->shift);
        assert_int_equal(walk.ref[walk.count - 1].raw & 7, want->state == GP_PRESENT ? 7 : 5);
        gpmap_decode(walk.ref[walk.count - 1].raw, walk.level, &got);
        assert_true(same(&got, want) && got.hva.v == (walk.output & ~((1ull << walk.shift) - 1)));
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
    assert_int_equal(page->hva.v, expected_hva(m, p));
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
        assert_int_equal(gpmap_add(m->map, gpa(parts[i].base), parts[i].size, hva(parts[i].hva),
                                   parts[i].backing),
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
