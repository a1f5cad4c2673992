/*
 * What the parts of the shadow share. All but what is said to be atomic is under `lock`.
 *
 *   guest's table (struct shadow_table, one a frame)
 *     |-> page of ours   each stands for that table as seen in one way (level and role)
 *     '-> page of ours
 *   piece of a large page   a page of ours that stands for no table ("direct", table 0)
 *
 *   entry id = page * 512 + index; page 0 of the pool is not used, so that 0 means none.
 *
 * Arrays as long as the pool or as guest RAM are anonymous memory that nobody has touched yet: what
 * is zero costs nothing.
 */
#ifndef TWOFOLD_EPT_SHADOW_IMPL_H
#define TWOFOLD_EPT_SHADOW_IMPL_H

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#include "ept/entry.h"
#include "ept/levels_x86.h"
#include "ept/shadow.h"

#define ENTRIES 512u

/* How a table is seen. The low bits are the view of a root; above them the rights of the guest's
 * path down to this table. */
#define ROLE_USER   (1u << 0) /* what ring 3 may; the four others but NXE are then 0 */
#define ROLE_WP     (1u << 1)
#define ROLE_NXE    (1u << 2)
#define ROLE_SMEP   (1u << 3)
#define ROLE_SMAP   (1u << 4) /* and AC is clear */
#define ROLE_RIGHTS 5         /* shift of PT_RIGHT_*, without those that x86 doesn't have */
#define RIGHTS      (PT_RIGHT_WRITE | PT_RIGHT_EXEC | PT_RIGHT_USER)

/* What every entry of ours has: rights are withheld by leaves alone, so that none changes further
 * up. Accessed and dirty stand already, so that the CPU never writes to our tables. */
#define OURS       (LEVEL_X86_P | LEVEL_X86_US | LEVEL_X86_A)
#define OURS_TABLE (OURS | LEVEL_X86_RW)
#define OURS_LEAF  (OURS | LEVEL_X86_D)

enum table_state {
    TABLE_UNSYNC,     /* the guest may write to it: compared in each round */
    TABLE_PROTECTING, /* no entry lets it write, but a vCPU may still have such a one cached */
    TABLE_PROTECTED,
};

/* A frame of the guest that is used as a table. */
struct shadow_table {
    uint64_t gfn;
    uint64_t since;   /* PROTECTING: the generation that each vCPU has to reach */
    uint32_t pages;   /* the first of ours */
    uint32_t next;    /* in the chain of its hash, or of the free ones */
    uint32_t listed;  /* 1 + its place in `watched`; 0: none, as it is protected */
    uint8_t state;    /* enum table_state */
    uint8_t quiet;    /* rounds without a change */
    uint8_t patience; /* so many of them until it is protected; grows with each time it was wrong */
};

/* A page of the pool. */
struct shadow_page {
    uint64_t present[ENTRIES / 64]; /* entries of ours, but for the window's */
    uint64_t changed; /* the generation of the last change that a CPU has to hear of */
    uint64_t stamp;   /* of a root: when it was asked for last */
    uint32_t table;   /* 0: direct */
    uint32_t sibling; /* the next of the same table */
    uint32_t refs;    /* entries that lead here, vCPUs, the cache of roots */
    uint32_t next;    /* in limbo */
    uint32_t touch;   /* 1 + its place in `touch`; 0: it needs none */
    uint32_t root;    /* 1 + its place in `roots`; 0: is none */
    uint16_t role;
    uint8_t level;
};

struct shadow_cpu {
    atomic_bool inside;
    _Atomic uint64_t flushed; /* the generation that its caches are of */
    uint32_t root;            /* its latest, 0: none yet */
};

#define SHADOW_CPUS_MAX 64
#define RMAP_LEVELS     3

struct shadow {
    pthread_mutex_t lock;
    struct shadow_config cfg;
    _Atomic uint64_t generation;
    struct shadow_cpu cpu[SHADOW_CPUS_MAX];

    /* By page of the pool. */
    _Atomic uint64_t *pool; /* by entry id */
    uint64_t *made_of;      /* by entry id: the guest's entry */
    uint32_t *next, *prev;  /* by entry id: leaves that map the same */
    struct shadow_page *page;
    uint32_t fresh;                   /* never used from here on */
    uint32_t limbo_first, limbo_last; /* freed, in the order of `changed` */
    uint32_t limbo_count;
    uint32_t *touch, touch_count;
    uint32_t *roots, root_count;
    uint64_t clock;

    /* Tables of the guest. */
    struct shadow_table *table;
    uint32_t table_fresh, table_free;
    uint32_t *hash;
    uint32_t hash_mask;
    uint32_t *watched, watched_count; /* those not protected */
    uint32_t unsync_count;            /* TABLE_UNSYNC among them */
    bool invalidated;                 /* INVLPG since all of them were compared */

    /* By frame of guest RAM: leaves of level 1 to 3 that map it; is a table (being) protected? How
     * many such are in each 2 MiB and 1 GiB? */
    uint64_t frames;
    uint32_t *mapped[RMAP_LEVELS + 1];
    _Atomic uint64_t *guarded;
    uint32_t *guarded_in[RMAP_LEVELS + 1];

    unsigned slot; /* of the window */
    uint64_t window;
    struct shadow_stats stats;

    void *memory; /* all of the arrays */
    size_t memory_bytes;
};

static inline unsigned level_shift(unsigned level)
{
    return PAGE_SHIFT_4K + 9 * (level - 1);
}

static inline uint32_t entry_of(uint32_t page, unsigned level, uint64_t address)
{
    return page * ENTRIES + (uint32_t)(address >> level_shift(level) & (ENTRIES - 1));
}

static inline struct shadow_page *page_of(struct shadow *s, uint32_t entry)
{
    return &s->page[entry / ENTRIES];
}

static inline bool entry_present(struct shadow *s, uint32_t entry)
{
    return page_of(s, entry)->present[entry % ENTRIES / 64] >> (entry % 64) & 1;
}

static inline uint64_t entry_raw(struct shadow *s, uint32_t entry)
{
    return atomic_load_explicit(&s->pool[entry], memory_order_relaxed);
}

/* Of a present entry. */
static inline bool entry_is_leaf(struct shadow *s, uint32_t entry)
{
    return page_of(s, entry)->level == 1 || (entry_raw(s, entry) & LEVEL_X86_PS) != 0;
}

/* Of the tables' own memory nothing is believed that could lead out of our arrays: a vCPU that KVM
 * itself resets runs the guest for a moment as KVM has it, and may write there. */
static inline uint32_t entry_child(struct shadow *s, uint32_t entry)
{
    uint64_t page = ((entry_raw(s, entry) & ADDR_4K) - s->cfg.pool_gpa.v) >> PAGE_SHIFT_4K;

    return page < s->cfg.pool_pages ? (uint32_t)page : 0;
}

/* A dirty bit that came gives the shadow's entry nothing to take back. All other differences do,
 * accessed and dirty bits that went among them: the guest wants to hear of the next use. */
static inline bool entry_differs(uint64_t made_of, uint64_t now)
{
    return (made_of & ~now) != 0 || (now & ~made_of & ~LEVEL_X86_D) != 0;
}

/* The guest's memory, as its other vCPUs may be writing to it. NULL: none is there. */
static inline _Atomic uint64_t *guest_words(struct shadow *s, uint64_t at, uint64_t len)
{
    return s->cfg.ram(s->cfg.ctx, gpa(at), len);
}

static inline bool frame_guarded(struct shadow *s, uint64_t frame)
{
    return frame < s->frames && (atomic_load(&s->guarded[frame / 64]) >> (frame % 64) & 1) != 0;
}

/* --- shadow.c --- */

/* `view` in *role; false: not four levels. */
bool shadow_view(const struct shadow_mode *mode, uint16_t *view);
/* vCPU's latest root from now on; 0: no page is free. */
uint32_t root_get(struct shadow *s, unsigned cpu, const struct shadow_mode *mode, uint16_t view);
uint32_t root_find(struct shadow *s, uint64_t cr3, uint16_t view);

/* --- shadow_pool.c --- */

/* A page of zeros without references, of level and role; 0: none is free for `cpu` now. `table` 0:
 * direct. */
uint32_t page_new(struct shadow *s, unsigned cpu, uint32_t table, unsigned level, uint16_t role);
void page_unref(struct shadow *s, uint32_t page);
void page_changed(struct shadow *s, uint32_t page);

/* Makes page_new() succeed at least once; false: not before other vCPUs have flushed. May free
 * everything but roots that vCPUs have. */
bool pool_make_room(struct shadow *s, unsigned cpu);
/* Frees ahead of need, so that limbo is over when it comes. */
void pool_keep_ahead(struct shadow *s);
/* Has everybody but `cpu`, who is outside, dropped what was changed up to then? */
bool all_flushed(struct shadow *s, uint64_t generation, unsigned cpu);
void root_evict(struct shadow *s, uint32_t page);

void entry_set_leaf(struct shadow *s, uint32_t entry, uint64_t raw, uint64_t made_of);
void entry_set_table(struct shadow *s, uint32_t entry, uint32_t child, uint64_t made_of);
void entry_drop(struct shadow *s, uint32_t entry);

/* --- shadow_rmap.c --- */

void rmap_add(struct shadow *s, uint32_t entry);
void rmap_remove(struct shadow *s, uint32_t entry);
/* Takes from all leaves the right to write to this frame, and notes that none may have it. */
void rmap_guard(struct shadow *s, uint64_t frame);
void rmap_unguard(struct shadow *s, uint64_t frame);
/* Does a piece of RAM of this level's size lie here, with no guarded frame in it? */
bool rmap_whole(struct shadow *s, uint64_t at, unsigned level);

/* --- shadow_sync.c --- */

uint32_t table_find(struct shadow *s, uint64_t gfn);
/* Finds or makes it; one without pages has to get one, or table_drop(). */
uint32_t table_get(struct shadow *s, uint64_t gfn);
void table_drop(struct shadow *s, uint32_t table);
void table_unsync(struct shadow *s, uint32_t table);
/* All that are not protected. May drop what it likes, but no root that a vCPU has. */
void tables_compare(struct shadow *s);
/* While too many are unsync: protects those that were quiet longest. */
void tables_trim(struct shadow *s);

#endif
