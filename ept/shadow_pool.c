/*
 * The pages of the pool: who has them, when they may be used again, and what the CPUs have to be
 * told of changes.
 *
 *   fresh --page_new()--> in use --last reference--> limbo
 *                           ^                          |
 *                           '-- zeroed -- everybody has flushed
 *
 * In limbo a page keeps what it had: a vCPU inside the guest may come through it until it flushes,
 * and sees then what it could have had in its TLB as well.
 */
#include "ept/shadow_impl.h"

/* --- generations --------------------------------------------------------------------------- */

/* Something was taken away from this page, or it was freed. */
void page_changed(struct shadow *s, uint32_t page)
{
    struct shadow_page *p = &s->page[page];

    p->changed = atomic_fetch_add(&s->generation, 1) + 1;
    if (p->touch || s->cfg.nested)
        return;
    s->touch[s->touch_count++] = page;
    p->touch = s->touch_count;
}

static void touched(struct shadow *s, uint32_t page)
{
    struct shadow_page *p = &s->page[page];
    uint32_t last = s->touch[--s->touch_count];

    s->touch[p->touch - 1] = last;
    s->page[last].touch = p->touch;
    p->touch = 0;
}

/*
 * Who is outside will compare the generation before it comes in. Of the two orders that matter one
 * is seen: either we read `inside`, or shadow_enter() reads the generation that we have set before.
 */
bool all_flushed(struct shadow *s, uint64_t generation, unsigned cpu)
{
    for (unsigned i = 0; i < s->cfg.cpus; i++)
        if (i != cpu && atomic_load(&s->cpu[i].inside) &&
            atomic_load(&s->cpu[i].flushed) < generation)
            return false;
    return true;
}

bool shadow_enter(struct shadow *s, unsigned cpu, struct shadow_flush *flush)
{
    struct shadow_cpu *c = &s->cpu[cpu];

    atomic_store(&c->inside, true);
    if (atomic_load(&s->generation) == atomic_load(&c->flushed))
        return false;
    pthread_mutex_lock(&s->lock);
    flush->generation = atomic_load(&s->generation);
    flush->more = s->touch_count > SHADOW_TOUCH_MAX;
    flush->count = flush->more ? SHADOW_TOUCH_MAX : s->touch_count;
    memcpy(flush->touch, s->touch, flush->count * sizeof(flush->touch[0]));
    pthread_mutex_unlock(&s->lock);
    return true;
}

void shadow_left(struct shadow *s, unsigned cpu, const struct shadow_flush *flushed)
{
    struct shadow_cpu *c = &s->cpu[cpu];

    if (flushed) {
        pthread_mutex_lock(&s->lock);
        for (unsigned i = 0; i < flushed->count && i < SHADOW_TOUCH_MAX; i++) {
            uint32_t page = flushed->touch[i];

            if (page < s->cfg.pool_pages && s->page[page].touch &&
                s->page[page].changed <= flushed->generation)
                touched(s, page);
        }
        if (!flushed->more && flushed->generation > atomic_load(&c->flushed))
            atomic_store(&c->flushed, flushed->generation);
        pthread_mutex_unlock(&s->lock);
    }
    atomic_store(&c->inside, false);
}

/* --- pages --------------------------------------------------------------------------------- */

static bool ripe(struct shadow *s, unsigned cpu)
{
    return s->fresh < s->cfg.pool_pages ||
           (s->limbo_first && all_flushed(s, s->page[s->limbo_first].changed, cpu));
}

static uint32_t take(struct shadow *s, unsigned cpu)
{
    uint32_t page;

    if (s->fresh < s->cfg.pool_pages)
        return s->fresh++;
    if (!ripe(s, cpu))
        return 0;
    page = s->limbo_first;
    s->limbo_first = s->page[page].next;
    if (!s->limbo_first)
        s->limbo_last = 0;
    s->limbo_count--;
    return page;
}

uint32_t page_new(struct shadow *s, unsigned cpu, uint32_t table, unsigned level, uint16_t role)
{
    uint32_t page = take(s, cpu);
    struct shadow_page *p = &s->page[page];

    if (!page)
        return 0;
    memset((void *)&s->pool[page * ENTRIES], 0, PAGE_SIZE_4K);
    memset(p->present, 0, sizeof(p->present));
    p->level = (uint8_t)level;
    p->role = role;
    p->refs = 0;
    p->table = table;
    if (table) {
        p->sibling = s->table[table].pages;
        s->table[table].pages = page;
    }
    s->stats.tables++;
    return page;
}

/* Entries of a page that is about to go stay as they are for those who are still in it. */
static void release_entries(struct shadow *s, uint32_t page)
{
    struct shadow_page *p = &s->page[page];

    for (unsigned word = 0; word < ENTRIES / 64; word++) {
        for (uint64_t bits = p->present[word]; bits; bits &= bits - 1) {
            uint32_t entry = page * ENTRIES + word * 64 + (unsigned)__builtin_ctzll(bits);

            if (entry_is_leaf(s, entry))
                rmap_remove(s, entry);
            else
                page_unref(s, entry_child(s, entry));
        }
        p->present[word] = 0;
    }
}

static void leave_table(struct shadow *s, uint32_t page)
{
    uint32_t table = s->page[page].table;
    uint32_t *link = &s->table[table].pages;

    while (*link != page)
        link = &s->page[*link].sibling;
    *link = s->page[page].sibling;
    if (!s->table[table].pages)
        table_drop(s, table);
}

/* Calls itself as deep as tables are. */
void page_unref(struct shadow *s, uint32_t page)
{
    struct shadow_page *p = &s->page[page];

    if (--p->refs)
        return;
    release_entries(s, page);
    if (p->table)
        leave_table(s, page);
    page_changed(s, page);
    p->next = 0;
    if (s->limbo_last)
        s->page[s->limbo_last].next = page;
    else
        s->limbo_first = page;
    s->limbo_last = page;
    s->limbo_count++;
    s->stats.tables--;
}

/* --- entries ------------------------------------------------------------------------------- */

static void entry_set(struct shadow *s, uint32_t entry, uint64_t raw, uint64_t made_of)
{
    struct shadow_page *p = page_of(s, entry);

    if (p->table)
        s->made_of[entry] = made_of;
    p->present[entry % ENTRIES / 64] |= BIT(entry % 64);
    atomic_store_explicit(&s->pool[entry], raw, memory_order_release);
}

void entry_set_leaf(struct shadow *s, uint32_t entry, uint64_t raw, uint64_t made_of)
{
    entry_set(s, entry, raw, made_of);
    rmap_add(s, entry);
}

void entry_set_table(struct shadow *s, uint32_t entry, uint32_t child, uint64_t made_of)
{
    s->page[child].refs++;
    entry_set(s, entry, (s->cfg.pool_gpa.v + child * PAGE_SIZE_4K) | OURS_TABLE, made_of);
}

void entry_drop(struct shadow *s, uint32_t entry)
{
    bool leaf = entry_is_leaf(s, entry);
    uint32_t child = leaf ? 0 : entry_child(s, entry);

    if (leaf)
        rmap_remove(s, entry);
    page_of(s, entry)->present[entry % ENTRIES / 64] &= ~BIT(entry % 64);
    atomic_store(&s->pool[entry], 0);
    page_changed(s, entry / ENTRIES);
    if (!leaf)
        page_unref(s, child);
}

/* --- room ---------------------------------------------------------------------------------- */

/* No vCPU has it: only the cache. */
void root_evict(struct shadow *s, uint32_t page)
{
    uint32_t place = s->page[page].root, last = s->roots[--s->root_count];

    s->roots[place - 1] = last;
    s->page[last].root = place;
    s->page[page].root = 0;
    s->stats.evictions++;
    page_unref(s, page);
}

static bool evict_oldest(struct shadow *s)
{
    uint32_t oldest = 0;

    for (uint32_t i = 0; i < s->root_count; i++) {
        uint32_t root = s->roots[i];

        if (s->page[root].refs == 1 && (!oldest || s->page[root].stamp < s->page[oldest].stamp))
            oldest = root;
    }
    if (oldest)
        root_evict(s, oldest);
    return oldest != 0;
}

/* The roots that vCPUs have are all that stays. */
static void strip(struct shadow *s)
{
    for (uint32_t i = 0; i < s->root_count; i++)
        for (uint32_t n = 0; n < ENTRIES; n++)
            if (entry_present(s, s->roots[i] * ENTRIES + n))
                entry_drop(s, s->roots[i] * ENTRIES + n);
}

bool pool_make_room(struct shadow *s, unsigned cpu)
{
    /* What is in limbo waits for a vCPU inside; whatever we freed now would wait for the same. */
    if (!ripe(s, cpu) && !s->limbo_first && !evict_oldest(s))
        strip(s);
    return ripe(s, cpu);
}

void pool_keep_ahead(struct shadow *s)
{
    size_t all = s->cfg.pool_pages, margin = all / 16;

    while (s->stats.tables > all - margin && s->limbo_count < margin && evict_oldest(s))
        ;
}
