#include "ept/shadow_impl.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

#define POOL_MIN    64
#define POOL_SPARE  16 /* beyond a root for each vCPU: a path, and a root to be */
#define POOL_MAX    (UINT64_C(1) << 22)
#define RAM_END_MAX (UINT64_C(1) << 44)

/* --- made and unmade ----------------------------------------------------------------------- */

/* Arrays are laid out twice: first to know their size, then with memory behind them. */
static void *lay(struct shadow *s, uint64_t count, size_t size)
{
    size_t at = s->memory_bytes;

    s->memory_bytes = (at + count * size + PAGE_SIZE_4K - 1) & ~(PAGE_SIZE_4K - 1);
    return s->memory ? (char *)s->memory + at : NULL;
}

static void lay_out(struct shadow *s)
{
    size_t pages = s->cfg.pool_pages, hashes = 1;

    while (hashes < pages)
        hashes *= 2;
    s->memory_bytes = 0;
    s->hash_mask = (uint32_t)hashes - 1;
    s->hash = lay(s, hashes, sizeof(*s->hash));
    s->made_of = lay(s, pages * ENTRIES, sizeof(*s->made_of));
    s->next = lay(s, pages * ENTRIES, sizeof(*s->next));
    s->prev = lay(s, pages * ENTRIES, sizeof(*s->prev));
    s->page = lay(s, pages, sizeof(*s->page));
    s->touch = lay(s, pages, sizeof(*s->touch));
    s->roots = lay(s, pages, sizeof(*s->roots));
    s->table = lay(s, pages, sizeof(*s->table));
    s->watched = lay(s, pages, sizeof(*s->watched));
    s->guarded = lay(s, s->frames / 64 + 1, sizeof(*s->guarded));
    for (unsigned level = 1; level <= RMAP_LEVELS; level++) {
        uint64_t regions = (s->frames >> 9 * (level - 1)) + 1;

        s->mapped[level] = lay(s, regions, sizeof(*s->mapped[level]));
        s->guarded_in[level] = lay(s, level > 1 ? regions : 0, sizeof(*s->guarded_in[level]));
    }
}

static bool config_ok(const struct shadow_config *cfg)
{
    uint64_t pages = PAGE_SIZE_4K - 1;

    if (!cfg->pool || !cfg->ram || ((uintptr_t)cfg->pool & pages) != 0)
        return false;
    if (cfg->cpus == 0 || cfg->cpus > SHADOW_CPUS_MAX || cfg->ram_end > RAM_END_MAX)
        return false;
    if (cfg->pool_pages < POOL_MIN || cfg->pool_pages < cfg->cpus + POOL_SPARE ||
        cfg->pool_pages > POOL_MAX)
        return false;
    return ((cfg->pool_gpa.v | cfg->hidden.v | cfg->nowhere.v | cfg->hidden_size) & pages) == 0;
}

int shadow_create(struct shadow **out, const struct shadow_config *cfg)
{
    struct shadow *s;

    if (!config_ok(cfg))
        return -EINVAL;
    s = calloc(1, sizeof(*s));
    if (!s)
        return -ENOMEM;
    s->cfg = *cfg;
    s->pool = cfg->pool;
    s->frames = (cfg->ram_end + PAGE_SIZE_4K - 1) >> PAGE_SHIFT_4K;
    s->fresh = s->table_fresh = 1;
    s->stats.tables_max = cfg->pool_pages - 1;
    atomic_store(&s->generation, 1);
    lay_out(s);
    s->memory = mmap(NULL, s->memory_bytes, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (s->memory == MAP_FAILED) {
        free(s);
        return -ENOMEM;
    }
    lay_out(s);
    pthread_mutex_init(&s->lock, NULL);
    *out = s;
    return 0;
}

void shadow_destroy(struct shadow *s)
{
    if (!s)
        return;
    munmap(s->memory, s->memory_bytes);
    pthread_mutex_destroy(&s->lock);
    free(s);
}

/* --- roots --------------------------------------------------------------------------------- */

bool shadow_view(const struct shadow_mode *mode, uint16_t *view)
{
    const struct x86_paging *regs = &mode->paging;
    struct pt_space space;
    unsigned role;

    x86_pt_space(&space, regs);
    if (space.format != &pt_x86_64)
        return false;
    role = space.policy.no_exec ? ROLE_NXE : 0;
    if (mode->user) {
        role |= ROLE_USER;
    } else {
        role |= (space.policy.write_protect ? ROLE_WP : 0) | (space.policy.smep ? ROLE_SMEP : 0);
        role |= space.policy.smap && !space.policy.ac ? ROLE_SMAP : 0;
    }
    *view = (uint16_t)(role | RIGHTS << ROLE_RIGHTS);
    return true;
}

uint32_t root_find(struct shadow *s, uint64_t cr3, uint16_t view)
{
    uint32_t table = table_find(s, (cr3 & ADDR_4K) >> PAGE_SHIFT_4K);

    for (uint32_t page = table ? s->table[table].pages : 0; page; page = s->page[page].sibling)
        if (s->page[page].root && s->page[page].role == view)
            return page;
    return 0;
}

static uint32_t root_make(struct shadow *s, unsigned cpu, uint64_t cr3, uint16_t view)
{
    uint32_t table, page;

    do {
        /* Anew each time: making room may free the table. */
        table = table_get(s, (cr3 & ADDR_4K) >> PAGE_SHIFT_4K);
        page = page_new(s, cpu, table, 4, view);
        if (!page && !s->table[table].pages)
            table_drop(s, table);
    } while (!page && pool_make_room(s, cpu));
    if (!page)
        return 0;
    s->page[page].refs = 1;
    s->roots[s->root_count++] = page;
    s->page[page].root = s->root_count;
    atomic_store(&s->pool[page * ENTRIES + s->slot], s->window);
    s->stats.roots_made++;
    return page;
}

uint32_t root_get(struct shadow *s, unsigned cpu, const struct shadow_mode *mode, uint16_t view)
{
    uint32_t page = root_find(s, mode->paging.cr3, view), before = s->cpu[cpu].root;

    if (page)
        s->stats.roots_hit++;
    else
        page = root_make(s, cpu, mode->paging.cr3, view);
    if (!page)
        return 0;
    s->page[page].stamp = ++s->clock;
    s->page[page].refs++;
    s->cpu[cpu].root = page;
    if (before)
        page_unref(s, before);
    return page;
}

int shadow_root(struct shadow *s, unsigned cpu, const struct shadow_mode *mode, gpa_t *root)
{
    uint16_t view;
    uint32_t page;

    if (!shadow_view(mode, &view))
        return -EINVAL;
    pthread_mutex_lock(&s->lock);
    page = root_get(s, cpu, mode, view);
    if (page)
        pool_keep_ahead(s);
    pthread_mutex_unlock(&s->lock);
    if (!page)
        return -EAGAIN;
    *root = gpa(s->cfg.pool_gpa.v + page * PAGE_SIZE_4K);
    return 0;
}

/* --- the window ---------------------------------------------------------------------------- */

static void window_put(struct shadow *s, uint32_t root, unsigned slot, uint64_t raw)
{
    uint32_t entry = root * ENTRIES + slot;
    uint64_t old;

    if (entry_present(s, entry))
        entry_drop(s, entry);
    old = atomic_exchange(&s->pool[entry], raw);
    if (old != 0 && old != raw)
        page_changed(s, root);
}

void shadow_window(struct shadow *s, unsigned slot, uint64_t entry)
{
    pthread_mutex_lock(&s->lock);
    for (uint32_t i = 0; i < s->root_count; i++) {
        if (s->window && slot != s->slot)
            window_put(s, s->roots[i], s->slot, 0);
        window_put(s, s->roots[i], slot, entry);
    }
    s->slot = slot;
    s->window = entry;
    pthread_mutex_unlock(&s->lock);
}
