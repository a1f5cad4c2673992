#include "vmm/migrate.h"
#include "vmm/clock.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "vmm/migrate_impl.h"

int migrate_lost(struct migration *m, int code, const char *what)
{
    char why[160];

    (void)snprintf(why, sizeof(why), "migrate-pages: %s: %s", what, strerror(-code));
    m->p->on_fail(m->p->ctx, why);
    return error_set(m->err, code, "%s", why);
}

/* --- frames ------------------------------------------------------------------------ */

/* A huge page is known by its first frame. */
static uint64_t steps_of(const struct migration *m, uint64_t len)
{
    return m->hugetlb ? 1 : len / PAGE_SIZE_4K;
}

uint64_t *migrate_frames(struct migration *m, const uint8_t *host, uint64_t len)
{
    uint64_t n = steps_of(m, len);
    uint64_t *frames = calloc(n, sizeof(*frames));
    struct host_page page[64];

    for (uint64_t i = 0; frames && m->look && i < n; i += 64) {
        size_t some = n - i < 64 ? n - i : 64;

        if (pagemap_pages(m->look, hva_of(host + i * PAGE_SIZE_4K), some, page) < 0)
            break;
        for (size_t k = 0; k < some; k++)
            frames[i + k] = page[k].present ? page[k].pfn : 0;
    }
    return frames;
}

void migrate_compare(struct migration *m, const uint8_t *host, uint64_t len, uint64_t *before)
{
    uint64_t n = steps_of(m, len);
    uint64_t *after = before ? migrate_frames(m, host, len) : NULL;

    for (uint64_t i = 0; after && i < n; i++) {
        if (!before[i] || !after[i])
            continue;
        m->out->seen += len / n;
        m->out->same += before[i] == after[i] ? len / n : 0;
    }
    free(after);
    free(before);
}

static int note_huge(void *ctx, hva_t hva, uint64_t len, const struct host_page *page)
{
    (void)hva;
    *(uint64_t *)ctx += page->shift > PAGE_SHIFT_4K ? len : 0;
    return 0;
}

bool migrate_huge_at(struct migration *m, const uint8_t *host, uint64_t len)
{
    uint64_t huge = 0;

    return m->look && pagemap_runs(m->look, hva_of(host), len, note_huge, &huge) == 0 &&
           huge == len;
}

/* --- the pages of a range ------------------------------------------------------------ */

/* Cuts a run into blocks. Called with the map's lock held, as an effect. */
static int move_run(void *ctx, gpa_t at, uint64_t len, const struct gp_page *from,
                    struct gp_page *to)
{
    struct migration *m = ctx;
    uint8_t *host = m->part.host + (at.v - m->part.base.v);
    uint64_t block = UINT64_C(1) << from->shift;
    unsigned after = from->shift;

    if (block < MIGRATE_BLOCK)
        block = MIGRATE_BLOCK;
    for (uint64_t gone = 0; gone < len;) {
        uint64_t upto = block - ((uintptr_t)(host + gone) & (block - 1));
        uint64_t some = len - gone < upto ? len - gone : upto;
        unsigned shift = from->shift;
        int rc = m->out->method == MIGRATE_BY_MOVE
                     ? migrate_block_by_move(m, host + gone, some, &shift)
                     : migrate_block_by_hold(m, host + gone, some, &shift);

        if (rc < 0)
            return rc;
        if (shift < after)
            after = shift;
        gone += some;
    }
    to->shift = after;
    return 0;
}

static int move_part(struct migration *m, gpa_t at, uint64_t len)
{
    const struct gp_change change = {
        .from = GP_MASK(GP_PRESENT),
        .avoid_flags = GP_WATCHED,
        .keep_state = true,
        .effect = move_run,
        .ctx = m,
    };
    uint64_t left = len;
    int rc = 0;

    /* In steps, so that the fault thread is never kept waiting for long. */
    while (rc == 0 && left) {
        uint64_t step = (m->hugetlb ? mem_backing_page(m->part.backing) : MIGRATE_BLOCK);
        uint64_t upto = step - (at.v & (step - 1));
        uint64_t some = left < upto ? left : upto;

        rc = gpmap_change(m->p->map, at, some, &change, NULL);
        at.v += some;
        left -= some;
    }
    if (rc < 0 && !m->err->text[0])
        return error_set(m->err, rc, "the pages can't be moved: %s", strerror(-rc));
    return rc;
}

static int move_part_by(struct migration *m, gpa_t at, uint64_t len, enum migrate_method method)
{
    int rc;

    m->out->method = method;
    rc = method == MIGRATE_BY_MOVE ? migrate_move_start(m) : migrate_hold_start(m);
    if (rc == 0)
        rc = move_part(m, at, len);
    else if (method == MIGRATE_BY_HOLD && !m->err->text[0])
        rc = error_set(m->err, rc, "no means to move pages: %s", strerror(-rc));
    if (method == MIGRATE_BY_MOVE)
        migrate_move_stop(m);
    else
        migrate_hold_stop(m);
    return rc;
}

static int hold_and_move(struct migration *m, gpa_t at, uint64_t len,
                         const struct migrate_hold *hold)
{
    bool held = false;
    uint64_t start = now_ns();
    int rc = hold->hold(hold->ctx, &held);

    if (rc < 0)
        return error_set(m->err, rc, "the VM can't be paused for it: %s",
                         rc == -EBUSY ? "a vCPU waits in a device" : "it has ended");
    rc = move_part_by(m, at, len, MIGRATE_BY_HOLD);
    hold->let_go(hold->ctx, held);
    m->out->held_ns += now_ns() - start;
    return rc;
}

/* Only private memory can be moved; locked memory only to where it is locked as well. */
static bool may_move(const struct migration *m, const struct migrate_hold *hold)
{
    return (m->part.backing == MEM_ANON || m->part.backing == MEM_THP) && !m->p->cfg.lock &&
           !hold->always;
}

/* --- a range ------------------------------------------------------------------------- */

static int check(struct pages *p, gpa_t at, uint64_t len, struct error *err)
{
    uint64_t page = mem_backing_page(p->part[0].backing);
    uint64_t run = memory_run(p->mem, at, len);

    if (len == 0 || at.v % page || len % page || at.v + len < at.v)
        return error_set(err, -EINVAL,
                         "0x%" PRIx64 "+0x%" PRIx64 " does not begin and end with a page of "
                         "%" PRIu64 " KiB",
                         at.v, len, page >> 10);
    if (run < len)
        return error_set(err, -EINVAL, "0x%" PRIx64 "+0x%" PRIx64 ": gpa 0x%" PRIx64 " is no RAM",
                         at.v, len, at.v + run);
    if (memory_pinned(p->mem, at, len))
        return error_set(err, -EBUSY,
                         "0x%" PRIx64 "+0x%" PRIx64 " is pinned: a device has its frames", at.v,
                         len);
    if (memory_guarded(p->mem, at, len))
        return error_set(err, -EBUSY,
                         "0x%" PRIx64 "+0x%" PRIx64 " is guarded; 'twofold guard ... off' opens it",
                         at.v, len);
    return 0;
}

/* Bytes of the range that the map has as present; with the rest of them nothing is done. */
static int count_present(void *ctx, gpa_t at, uint64_t len, const struct gp_page *page)
{
    (void)at;
    *(uint64_t *)ctx += page->state == GP_PRESENT ? len : 0;
    return 0;
}

static int move_in_part(struct migration *m, gpa_t at, uint64_t len,
                        const struct migrate_hold *hold)
{
    const struct migrate_report before = *m->out;
    uint64_t present = 0, moved;
    int rc;

    if (!m->part.managed)
        (void)pages_learn(m->p, at, len); /* what it does not know of stays where it is */
    (void)gpmap_runs(m->p->map, at, len, count_present, &present);
    rc = may_move(m, hold) ? move_part_by(m, at, len, MIGRATE_BY_MOVE) : -ENOTSUP;
    if (rc == -ENOTSUP) {
        *m->out = before; /* what was moved until then is moved once more */
        rc = hold_and_move(m, at, len, hold);
    }
    moved = m->out->moved - before.moved;
    if (present < moved)
        present = moved; /* more of them came meanwhile */
    m->out->empty += len - present;
    m->out->busy += present - moved;
    return rc;
}

int migrate_range(struct pages *p, gpa_t at, uint64_t len, const struct migrate_hold *hold,
                  struct migrate_report *out, struct error *err)
{
    struct error own = { .text = "" };
    struct migration m = { .p = p, .out = out, .err = err ? err : &own };
    uint64_t start = now_ns();
    int rc;

    *out = (struct migrate_report){ .method = MIGRATE_BY_MOVE };
    m.err->text[0] = '\0';
    (void)pthread_mutex_lock(&p->lock);
    rc = check(p, at, len, m.err);
    (void)pthread_mutex_unlock(&p->lock);
    if (rc < 0)
        return rc;
    m.hugetlb = mem_backing_page(p->part[0].backing) > PAGE_SIZE_4K;
    /* Without it nothing is lost but the proof. */
    if (pagemap_open(&m.look, (unsigned)__builtin_ctzll(mem_backing_page(p->part[0].backing)),
                     NULL) < 0)
        m.look = NULL;
    while (rc == 0 && len) {
        uint64_t left, some;

        (void)pthread_mutex_lock(&p->lock);
        m.part = *pages_part_at(p, at);
        (void)pthread_mutex_unlock(&p->lock);
        left = m.part.base.v + m.part.size - at.v;
        some = left < len ? left : len;
        rc = move_in_part(&m, at, some, hold);
        at.v += some;
        len -= some;
    }
    pagemap_close(m.look);
    out->ns = now_ns() - start;
    return rc;
}
