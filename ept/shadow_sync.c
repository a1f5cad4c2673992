/*
 * The guest's tables that have shadows: which of them it may write to, and what it wrote.
 *
 *              .---- quiet for some rounds ----.
 *              |                               v
 *   new --> UNSYNC                        PROTECTING -- every vCPU has flushed, and it was
 *              ^                               |        compared once more --> PROTECTED
 *              '------- the guest writes ------'--------------------------------'
 *
 * A new one starts as UNSYNC: a table that was used a first time is about to be filled further, and
 * one that a process takes with it when it ends should cost no exit at all.
 */
#include "ept/shadow_impl.h"

#define PATIENCE     8
#define PATIENCE_MAX 64
#define UNSYNC_MAX   256
#define UNSYNC_LOW   192 /* what trimming leaves: many at a time share one flush of the CPUs */

/* --- finding them -------------------------------------------------------------------------- */

static uint32_t *bucket(struct shadow *s, uint64_t gfn)
{
    return &s->hash[(gfn * UINT64_C(0x9e3779b97f4a7c15) >> 32) & s->hash_mask];
}

uint32_t table_find(struct shadow *s, uint64_t gfn)
{
    uint32_t t = *bucket(s, gfn);

    while (t && s->table[t].gfn != gfn)
        t = s->table[t].next;
    return t;
}

static void watch(struct shadow *s, uint32_t table)
{
    if (s->table[table].listed)
        return;
    s->watched[s->watched_count++] = table;
    s->table[table].listed = s->watched_count;
}

static void unwatch(struct shadow *s, uint32_t table)
{
    struct shadow_table *t = &s->table[table];
    uint32_t last;

    if (!t->listed)
        return;
    last = s->watched[--s->watched_count];
    s->watched[t->listed - 1] = last;
    s->table[last].listed = t->listed;
    t->listed = 0;
}

uint32_t table_get(struct shadow *s, uint64_t gfn)
{
    uint32_t table = table_find(s, gfn), *head = bucket(s, gfn);

    if (table)
        return table;
    table = s->table_free;
    if (table)
        s->table_free = s->table[table].next;
    else
        table = s->table_fresh++;
    s->table[table] = (struct shadow_table){
        .gfn = gfn, .next = *head, .state = TABLE_UNSYNC, .patience = PATIENCE
    };
    *head = table;
    s->unsync_count++;
    watch(s, table);
    return table;
}

void table_drop(struct shadow *s, uint32_t table)
{
    struct shadow_table *t = &s->table[table];
    uint32_t *link = bucket(s, t->gfn);

    if (t->state == TABLE_UNSYNC)
        s->unsync_count--;
    else
        rmap_unguard(s, t->gfn);
    unwatch(s, table);
    while (*link != table)
        link = &s->table[*link].next;
    *link = t->next;
    t->next = s->table_free;
    s->table_free = table;
}

/* --- protecting ---------------------------------------------------------------------------- */

static void protect(struct shadow *s, uint32_t table)
{
    struct shadow_table *t = &s->table[table];

    rmap_guard(s, t->gfn);
    t->state = TABLE_PROTECTING;
    /* Also where nothing had to change now: an entry that went before may still be cached. */
    t->since = atomic_load(&s->generation);
    s->unsync_count--;
    s->stats.protects++;
}

void table_unsync(struct shadow *s, uint32_t table)
{
    struct shadow_table *t = &s->table[table];

    if (t->state == TABLE_UNSYNC)
        return;
    rmap_unguard(s, t->gfn);
    t->state = TABLE_UNSYNC;
    t->quiet = 0;
    t->patience = t->patience * 2 < PATIENCE_MAX ? t->patience * 2 : PATIENCE_MAX;
    s->unsync_count++;
    watch(s, table);
}

void tables_trim(struct shadow *s)
{
    unsigned quiet = PATIENCE_MAX;

    if (s->unsync_count <= UNSYNC_MAX)
        return;
    for (;; quiet--) {
        for (uint32_t i = 0; i < s->watched_count; i++) {
            struct shadow_table *t = &s->table[s->watched[i]];

            if (s->unsync_count <= UNSYNC_LOW)
                return;
            if (t->state == TABLE_UNSYNC && t->quiet >= quiet)
                protect(s, s->watched[i]);
        }
        if (quiet == 0)
            return;
    }
}

void shadow_wrote(struct shadow *s, gpa_t at, uint64_t len)
{
    uint64_t last;

    if (len == 0 || at.v >= s->cfg.ram_end)
        return;
    last = (at.v + len - 1 < at.v ? ~UINT64_C(0) : at.v + len - 1) >> PAGE_SHIFT_4K;
    for (uint64_t frame = at.v >> PAGE_SHIFT_4K; frame <= last && frame < s->frames; frame++) {
        uint32_t table;

        if (!frame_guarded(s, frame))
            continue;
        pthread_mutex_lock(&s->lock);
        table = table_find(s, frame);
        if (table)
            table_unsync(s, table);
        pthread_mutex_unlock(&s->lock);
    }
}

/* --- comparing ----------------------------------------------------------------------------- */

/* 64 entries of ours, all present: a full table is what costs most, and is seldom changed. */
static bool block_differs(const uint64_t *made_of, _Atomic uint64_t *guest)
{
    uint64_t differ = 0;

    for (unsigned n = 0; n < 64; n++) {
        uint64_t now = atomic_load_explicit(&guest[n], memory_order_relaxed);

        differ |= (made_of[n] & ~now) | (now & ~made_of[n] & ~LEVEL_X86_D);
    }
    return differ != 0;
}

static bool compare_page(struct shadow *s, uint32_t page, _Atomic uint64_t *guest)
{
    struct shadow_page *p = &s->page[page];
    bool changed = false;

    for (unsigned word = 0; word < ENTRIES / 64; word++) {
        uint64_t bits = p->present[word];
        uint32_t first = page * ENTRIES + word * 64;

        if (guest && bits == ~UINT64_C(0) && !block_differs(&s->made_of[first], &guest[word * 64]))
            continue;
        for (; bits; bits &= bits - 1) {
            unsigned n = (unsigned)__builtin_ctzll(bits);

            if (guest && !entry_differs(s->made_of[first + n], atomic_load(&guest[word * 64 + n])))
                continue;
            entry_drop(s, first + n);
            s->stats.zaps++;
            changed = true;
        }
    }
    return changed;
}

/* The pages of a table, so that none of them goes while we are looking at another: a table that
 * maps itself has its own pages below it. */
static void hold(struct shadow *s, uint32_t table)
{
    for (uint32_t page = s->table[table].pages; page; page = s->page[page].sibling)
        s->page[page].refs++;
}

static void let_go(struct shadow *s, uint32_t table)
{
    uint32_t next;

    for (uint32_t page = s->table[table].pages; page; page = next) {
        next = s->page[page].sibling;
        page_unref(s, page);
    }
}

static bool page_is_empty(const struct shadow_page *p)
{
    uint64_t any = 0;

    for (unsigned word = 0; word < ENTRIES / 64; word++)
        any |= p->present[word];
    return any == 0;
}

/* May free the table. */
static bool compare(struct shadow *s, uint32_t table)
{
    struct shadow_table *t = &s->table[table];
    _Atomic uint64_t *guest = guest_words(s, t->gfn << PAGE_SHIFT_4K, PAGE_SIZE_4K);
    bool changed = false;

    s->stats.compared++;
    hold(s, table);
    for (uint32_t page = t->pages; page; page = s->page[page].sibling) {
        struct shadow_page *p = &s->page[page];

        if (!compare_page(s, page, guest))
            continue;
        changed = true;
        /* The guest is likely to use the frame for something else by now. The two: cache, and us.
         */
        if (p->root && p->refs == 2 && page_is_empty(p))
            root_evict(s, page);
    }
    let_go(s, table);
    return changed;
}

/* One round of a table that isn't protected. */
static void round_of(struct shadow *s, uint32_t table, unsigned cpu)
{
    struct shadow_table *t = &s->table[table];
    uint64_t gfn = t->gfn;
    /* Asked before comparing: what was written through a stale entry is then seen. */
    bool last = t->state == TABLE_PROTECTING && all_flushed(s, t->since, cpu);

    if (compare(s, table)) {
        if (table_find(s, gfn) != table)
            return;
        t->quiet = 0;
    } else if (t->quiet < PATIENCE_MAX) {
        t->quiet++;
    }
    if (last) {
        t->state = TABLE_PROTECTED;
        unwatch(s, table);
    } else if (t->state == TABLE_UNSYNC && t->quiet >= t->patience) {
        protect(s, table);
    }
}

/* From the end: what takes the place of one that goes was seen already. */
void tables_compare(struct shadow *s)
{
    for (uint32_t i = s->watched_count; i-- > 0;)
        if (i < s->watched_count)
            (void)compare(s, s->watched[i]);
    s->invalidated = false;
}

void shadow_sync(struct shadow *s, unsigned cpu)
{
    pthread_mutex_lock(&s->lock);
    s->stats.syncs++;
    for (uint32_t i = s->watched_count; i-- > 0;)
        if (i < s->watched_count)
            round_of(s, s->watched[i], cpu);
    s->invalidated = false;
    tables_trim(s);
    pthread_mutex_unlock(&s->lock);
}

/* Drops the first entry on the way that isn't what the guest's table says now. */
static void compare_path(struct shadow *s, uint32_t page, uint64_t address)
{
    for (unsigned level = 4; level > 0; level--) {
        uint32_t entry = entry_of(page, level, address);
        const struct shadow_page *p = &s->page[page];

        if (!entry_present(s, entry))
            return;
        if (p->table) {
            uint64_t at = (s->table[p->table].gfn << PAGE_SHIFT_4K) + entry % ENTRIES * 8;
            _Atomic uint64_t *guest = guest_words(s, at, 8);

            if (!guest || entry_differs(s->made_of[entry], atomic_load(guest))) {
                entry_drop(s, entry);
                s->stats.zaps++;
                return;
            }
        }
        if (entry_is_leaf(s, entry))
            return;
        page = entry_child(s, entry);
    }
}

void shadow_invlpg(struct shadow *s, unsigned cpu, const struct shadow_mode *mode, gva_t address)
{
    uint32_t table;

    (void)cpu;
    pthread_mutex_lock(&s->lock);
    s->invalidated = true;
    table = table_find(s, (mode->paging.cr3 & ADDR_4K) >> PAGE_SHIFT_4K);
    if (table) {
        hold(s, table);
        for (uint32_t page = s->table[table].pages; page; page = s->page[page].sibling)
            if (s->page[page].root)
                compare_path(s, page, address.v);
        let_go(s, table);
    }
    pthread_mutex_unlock(&s->lock);
}
