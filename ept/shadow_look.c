/* What the shadow tells of itself. */
#include "ept/shadow_impl.h"

#include <errno.h>

void shadow_stats(struct shadow *s, struct shadow_stats *out)
{
    pthread_mutex_lock(&s->lock);
    *out = s->stats;
    out->unsync_tables = s->unsync_count;
    pthread_mutex_unlock(&s->lock);
}

static int read_pool(void *ctx, uint64_t at, unsigned size, uint64_t *raw)
{
    struct shadow *s = ctx;
    uint64_t offset = at - s->cfg.pool_gpa.v;

    /* The window leads out of the pool. */
    if (at < s->cfg.pool_gpa.v || offset >= s->cfg.pool_pages * PAGE_SIZE_4K || size != 8)
        return -EFAULT;
    *raw = entry_raw(s, (uint32_t)(offset / 8));
    return 0;
}

/* Has the guest another entry now than this one was made of? Pieces of a large page were made of
 * the large page's, further up. */
static bool is_stale(struct shadow *s, uint32_t entry)
{
    const struct shadow_page *p = page_of(s, entry);
    _Atomic uint64_t *guest;
    uint64_t apart;

    if (!p->table || !entry_present(s, entry))
        return false;
    guest = guest_words(s, (s->table[p->table].gfn << PAGE_SHIFT_4K) + entry % ENTRIES * 8, 8);
    if (!guest)
        return true;
    apart = s->made_of[entry] ^ atomic_load(guest);
    return (apart & ~(LEVEL_X86_A | LEVEL_X86_D)) != 0;
}

int shadow_look(struct shadow *s, const struct shadow_mode *mode, gva_t address,
                struct pt_walk *walk, unsigned *stale)
{
    /* Our own tables need no more of a CPU than this. All accesses are made in ring 3. */
    static const struct x86_paging real = { .cr0 = X86_CR0_PG | X86_CR0_WP,
                                            .cr4 = X86_CR4_PAE,
                                            .efer = X86_EFER_LMA | X86_EFER_NXE,
                                            .phys_bits = 52,
                                            .gib_pages = true };
    static const struct pt_access access = { .op = PT_READ, .user = true };
    struct pt_space space;
    uint16_t view;
    uint32_t root;

    *stale = 0;
    if (!shadow_view(mode, &view))
        return -ENOENT;
    x86_pt_space(&space, &real);
    pthread_mutex_lock(&s->lock);
    root = root_find(s, mode->paging.cr3, view);
    if (root) {
        space.root = s->cfg.pool_gpa.v + root * PAGE_SIZE_4K;
        (void)pt_access(&space, address.v, &access, read_pool, s, walk);
        for (unsigned i = 0; i < walk->count; i++) {
            uint64_t entry = (walk->ref[i].at - s->cfg.pool_gpa.v) / 8;

            if (entry < s->cfg.pool_pages * ENTRIES && is_stale(s, (uint32_t)entry))
                *stale |= 1u << walk->ref[i].level;
        }
    }
    pthread_mutex_unlock(&s->lock);
    return root ? 0 : -ENOENT;
}
