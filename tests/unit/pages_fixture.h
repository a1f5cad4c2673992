/*
 * What the tests of guest memory's pages share: RAM with its map and fault thread, without KVM. The
 * threads of a test touch it as vCPUs would.
 */
#ifndef TWOFOLD_TESTS_UNIT_PAGES_FIXTURE_H
#define TWOFOLD_TESTS_UNIT_PAGES_FIXTURE_H

#include <pthread.h>
#include <stdint.h>

#include "vmm/pages.h"

#define KIB  UINT64_C(1024)
#define MIB  (UINT64_C(1) << 20)
#define PAGE PAGE_SIZE_4K

struct world {
    struct memory *mem;
    struct pages *pages;
    char failure[256]; /* what on_fail() said */
    pthread_mutex_t lock;
    pthread_cond_t said;
};

/* Skips the test where this host can't give such RAM. */
void world_make(struct world *w, uint64_t bytes, enum mem_backing backing,
                const struct pages_config *cfg);
void world_drop(struct world *w);

struct pages_config lazy_config(uint64_t around);

/* pages_create()'s: notes what it is told. */
void world_on_fail(void *ctx, const char *why);

volatile uint8_t *world_at(struct world *w, uint64_t address);

/*
 * Until the fault thread is through with all that it has heard: the toucher is woken by the ioctl
 * that installs the page, a moment before map and counters say so.
 */
void world_settle(struct world *w);

/* After that. */
struct pages_stat world_stat(struct world *w);
struct gp_page world_page(struct world *w, uint64_t address);

#endif
