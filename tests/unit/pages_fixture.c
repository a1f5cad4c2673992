#include "tests/unit/pages_fixture.h"

#include <errno.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "vmm/pages_impl.h"

void world_on_fail(void *ctx, const char *why)
{
    struct world *w = ctx;

    (void)pthread_mutex_lock(&w->lock);
    (void)snprintf(w->failure, sizeof(w->failure), "%s", why);
    (void)pthread_cond_signal(&w->said);
    (void)pthread_mutex_unlock(&w->lock);
}

void world_make(struct world *w, uint64_t bytes, enum mem_backing backing,
                const struct pages_config *cfg)
{
    struct error err = { "" };
    int rc;

    memset(w, 0, sizeof(*w));
    (void)pthread_mutex_init(&w->lock, NULL);
    (void)pthread_cond_init(&w->said, NULL);
    rc = memory_create(&w->mem, bytes, backing, &err);
    if (rc == 0)
        rc = pages_create(&w->pages, w->mem, cfg, world_on_fail, w, &err);
    if (rc == -EPERM || rc == -ENOSYS || (rc == -ENOMEM && backing >= MEM_HUGETLB_2M) ||
        (rc < 0 && backing == MEM_THP)) {
        memory_destroy(w->mem);
        print_message("skipped: %s\n", err.text);
        skip();
    }
    if (rc < 0)
        fail_msg("%s", err.text);
}

void world_drop(struct world *w)
{
    pages_destroy(w->pages);
    memory_destroy(w->mem);
    (void)pthread_cond_destroy(&w->said);
    (void)pthread_mutex_destroy(&w->lock);
}

struct pages_config lazy_config(uint64_t around)
{
    return (struct pages_config){ .populate = POPULATE_LAZY, .fault_around = around };
}

volatile uint8_t *world_at(struct world *w, uint64_t address)
{
    return memory_at(w->mem, gpa(address), 1);
}

void world_settle(struct world *w)
{
    const struct pages_counters *c = &w->pages->count;

    while (c->served != c->missing + c->minor + c->wp)
        (void)sched_yield();
}

struct pages_stat world_stat(struct world *w)
{
    struct pages_stat s;

    world_settle(w);
    pages_stat(w->pages, &s);
    return s;
}

struct gp_page world_page(struct world *w, uint64_t address)
{
    struct gp_page page;

    world_settle(w);
    assert_int_equal(gpmap_get(pages_map(w->pages), gpa(address), &page), 0);
    return page;
}
