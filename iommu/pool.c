/*
 * Where the tables of all domains come from. A table's address in an entry is the monitor's own
 * pointer: no hardware reads these tables.
 */
#include <stdlib.h>
#include <string.h>

#include "iommu/iommu_impl.h"

#define CHUNK_TABLES 64u

static void *next_of(const void *table)
{
    void *next;

    memcpy(&next, table, sizeof(next));
    return next;
}

static void give_back(struct table_pool *p, void *table)
{
    memcpy(table, &p->free, sizeof(p->free));
    p->free = table;
}

static bool grow(struct table_pool *p)
{
    void **more = reallocarray(p->chunk, p->chunks + 1, sizeof(*more));
    char *chunk;

    if (!more)
        return false;
    p->chunk = more;
    chunk = aligned_alloc(PT_TABLE_BYTES, (size_t)CHUNK_TABLES * PT_TABLE_BYTES);
    if (!chunk)
        return false;
    p->chunk[p->chunks++] = chunk;
    for (size_t i = CHUNK_TABLES; i-- > 0;)
        give_back(p, chunk + i * PT_TABLE_BYTES);
    return true;
}

static bool pool_alloc(void *ctx, unsigned level, uint64_t input, uint64_t *at)
{
    struct table_pool *p = ctx;

    (void)level;
    (void)input;
    if (p->used >= IOMMU_TABLES_MAX || (!p->free && !grow(p)))
        return false;
    *at = (uintptr_t)p->free;
    p->free = next_of(p->free);
    p->used++;
    return true;
}

static void *pool_ptr(void *ctx, uint64_t at)
{
    (void)ctx;
    return (void *)(uintptr_t)at;
}

static void pool_free(void *ctx, uint64_t at)
{
    struct table_pool *p = ctx;

    give_back(p, (void *)(uintptr_t)at);
    p->used--;
}

void table_pool_init(struct table_pool *p, struct pt_pool *out)
{
    *p = (struct table_pool){ 0 };
    *out = (struct pt_pool){ .alloc = pool_alloc, .free = pool_free, .ptr = pool_ptr, .ctx = p };
}

void table_pool_free(struct table_pool *p)
{
    for (size_t i = 0; i < p->chunks; i++)
        free(p->chunk[i]);
    free(p->chunk);
}
