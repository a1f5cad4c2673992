/*
 * The fault thread: reads userfaultfd's messages and has the pages installed. When it can't go on,
 * it lets go of guest memory, so that nobody waits for ever, and has the VM ended.
 */
#include "vmm/pages_impl.h"
#include "vmm/clock.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

/* Messages taken by one read(). */
#define BATCH 32

/* Written by this thread alone. */
static void add(_Atomic uint64_t *counter, uint64_t n)
{
    atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + n,
                          memory_order_release);
}

static void let_go(struct pages *p)
{
    (void)pthread_mutex_lock(&p->lock);
    for (size_t i = 0; i < p->parts; i++)
        if (p->part[i].registered)
            (void)uffd_unregister(&p->uffd, p->part[i].host, p->part[i].size);
    (void)pthread_mutex_unlock(&p->lock);
    (void)uffd_unregister(&p->uffd, p->sentinel, PAGE_SIZE_4K);
}

static void fail(struct pages *p, int code, hva_t hva)
{
    char why[200];
    struct pages_part part;

    if (code == -ENOMEM)
        (void)snprintf(why, sizeof(why), "the host has no memory for a page of the guest");
    else
        (void)snprintf(why, sizeof(why), "a page of guest memory can't be installed: %s",
                       strerror(-code));
    if (pages_part_copy(p, hva, &part)) {
        size_t n = strlen(why);

        (void)snprintf(why + n, sizeof(why) - n, " (gpa 0x%" PRIx64 ", backing %s)",
                       part.base.v + (hva.v - (uintptr_t)part.host),
                       mem_backing_name(part.backing));
    }
    p->failed = true;
    /* First the sentence: who is let go may meet what is wrong, and would end the VM with less. */
    p->on_fail(p->ctx, why);
    let_go(p);
}

/* False when the thread is to end. */
static bool serve(struct pages *p, const struct uffd_msg *msg)
{
    hva_t at = hva(msg->arg.pagefault.address);
    uint64_t done;
    unsigned flags = (unsigned)msg->arg.pagefault.flags;
    int rc;

    if (msg->event != UFFD_EVENT_PAGEFAULT)
        return true; /* no other event was asked for */
    if (at.v - (uintptr_t)p->sentinel < PAGE_SIZE_4K) {
        (void)uffd_zeropage(&p->uffd, p->sentinel, PAGE_SIZE_4K, &done);
        return false;
    }
    if (flags & UFFD_PAGEFAULT_FLAG_WP)
        add(&p->count.wp, 1);
    else if (flags & UFFD_PAGEFAULT_FLAG_MINOR)
        add(&p->count.minor, 1);
    else
        add(&p->count.missing, 1);
    rc = pages_install(p, at, flags);
    if (rc < 0)
        fail(p, rc, at);
    add(&p->count.served, 1);
    return rc == 0;
}

static void *fault_main(void *arg)
{
    struct pages *p = arg;
    struct uffd_msg msg[BATCH];
    bool on = true;

    while (on) {
        int got = uffd_read(&p->uffd, msg, BATCH);
        uint64_t start = now_ns();

        if (got < 0) {
            fail(p, got, hva(0));
            break;
        }
        for (int i = 0; i < got && on; i++)
            on = serve(p, &msg[i]);
        add(&p->count.ns, now_ns() - start);
    }
    return NULL;
}

/* --- start and stop ------------------------------------------------------------------------ */

static uint8_t *map_private(size_t size, int prot)
{
    void *at = mmap(NULL, size, prot, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    return at == MAP_FAILED ? NULL : at;
}

/* The aligned area where huge pages are made; stays NULL where UFFDIO_MOVE is not to be had. */
static int staging_create(struct pages *p)
{
    uint8_t *at;
    uint64_t skip;

    if (p->part[0].backing != MEM_THP || !(p->uffd.features & UFFD_FEATURE_MOVE))
        return 0;
    at = map_private(2 * PAGE_SIZE_2M, PROT_READ | PROT_WRITE);
    if (!at)
        return -ENOMEM;
    skip = -(uintptr_t)at & (PAGE_SIZE_2M - 1);
    if (skip)
        (void)munmap(at, skip);
    p->staging = at + skip;
    (void)munmap(p->staging + PAGE_SIZE_2M, PAGE_SIZE_2M - skip);
    (void)madvise(p->staging, PAGE_SIZE_2M, MADV_HUGEPAGE);
    return 0;
}

static int areas_create(struct pages *p)
{
    int rc;

    p->sentinel = map_private(PAGE_SIZE_4K, PROT_READ | PROT_WRITE);
    p->zeros = map_private(p->cfg.fault_around, PROT_READ);
    if (!p->sentinel || !p->zeros)
        return -ENOMEM;
    (void)madvise(p->zeros, p->cfg.fault_around, MADV_POPULATE_READ);
    rc = uffd_register(&p->uffd, p->sentinel, PAGE_SIZE_4K, UFFDIO_REGISTER_MODE_MISSING);
    return rc < 0 ? rc : staging_create(p);
}

static int thread_start(struct pages *p)
{
    sigset_t all, old;
    int rc;

    /* Signals are for the others. */
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &old);
    rc = pthread_create(&p->thread, NULL, fault_main, p);
    (void)pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (rc != 0)
        return -rc;
    p->thread_started = true;
    (void)pthread_setname_np(p->thread, "faults");
    return 0;
}

int pages_fault_start(struct pages *p, struct error *err)
{
    const uint64_t features = UFFD_FEATURE_PAGEFAULT_FLAG_WP | UFFD_FEATURE_MISSING_HUGETLBFS |
                              UFFD_FEATURE_MISSING_SHMEM | UFFD_FEATURE_MINOR_HUGETLBFS |
                              UFFD_FEATURE_MINOR_SHMEM | UFFD_FEATURE_WP_HUGETLBFS_SHMEM |
                              UFFD_FEATURE_WP_UNPOPULATED | UFFD_FEATURE_MOVE;
    int rc;

    if (p->thread_started)
        return 0;
    rc = uffd_open(&p->uffd, features, err);
    if (rc < 0)
        return rc;
    rc = areas_create(p);
    /* Without it huge pages are taken for small ones: a view only. */
    if (rc == 0 && p->part[0].backing == MEM_THP)
        (void)pagemap_open(&p->look, PAGE_SHIFT_4K, NULL);
    if (rc == 0)
        rc = thread_start(p);
    if (rc < 0)
        pages_fault_stop(p);
    return rc < 0 ? error_set(err, rc, "the fault thread can't be started: %s", strerror(-rc)) : 0;
}

void pages_fault_stop(struct pages *p)
{
    if (p->thread_started) {
        /* The touch is a fault, whose message ends the thread; when it has failed, it is none. */
        *(volatile uint8_t *)p->sentinel = 1;
        (void)pthread_join(p->thread, NULL);
        p->thread_started = false;
    }
    uffd_close(&p->uffd);
    if (p->staging)
        (void)munmap(p->staging, PAGE_SIZE_2M);
    if (p->zeros)
        (void)munmap(p->zeros, p->cfg.fault_around);
    if (p->sentinel)
        (void)munmap(p->sentinel, PAGE_SIZE_4K);
    p->staging = p->zeros = p->sentinel = NULL;
    pagemap_close(p->look);
    p->look = NULL;
}
