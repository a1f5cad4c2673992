/*
 * MIGRATE_BY_HOLD, with no vCPU in the guest: the content is copied aside, the pages are dropped,
 * and new ones get it. A frame that is free comes back at once, so the old ones are held meanwhile:
 * by a pipe, which keeps a reference to what it was given (vmsplice), or, of the huge page pool, by
 * taking them for ourselves.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#include "vmm/hugepages.h"
#include "vmm/clock.h"
#include "vmm/migrate_impl.h"

#define MAP_HUGE_OF(page) ((int)((unsigned)__builtin_ctzll(page) << MAP_HUGE_SHIFT))

static uint64_t page_of(const struct migration *m)
{
    return mem_backing_page(m->part.backing);
}

static uint64_t copy_size(const struct migration *m)
{
    return m->hugetlb ? page_of(m) : MIGRATE_BLOCK;
}

static uint8_t *map_own(uint64_t len, int flags)
{
    void *at = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0);

    return at == MAP_FAILED ? NULL : at;
}

int migrate_hold_start(struct migration *m)
{
    m->pipe[0] = m->pipe[1] = m->sink = -1;
    m->copy = map_own(copy_size(m), 0);
    if (!m->copy)
        return -errno;
    if (m->hugetlb)
        return 0;
    /* Pages: one slot each. A smaller pipe than that holds on to the first ones. */
    if (pipe2(m->pipe, O_CLOEXEC | O_NONBLOCK) < 0)
        return -errno;
    (void)fcntl(m->pipe[1], F_SETPIPE_SZ, (int)MIGRATE_BLOCK);
    m->sink = open("/dev/null", O_WRONLY | O_CLOEXEC);
    return m->sink < 0 ? -errno : 0;
}

void migrate_hold_stop(struct migration *m)
{
    if (m->copy)
        (void)munmap(m->copy, copy_size(m));
    for (int i = 0; i < 2; i++)
        if (m->pipe[i] >= 0)
            (void)close(m->pipe[i]);
    if (m->sink >= 0)
        (void)close(m->sink);
    m->copy = NULL;
    m->pipe[0] = m->pipe[1] = m->sink = -1;
}

/* --- the old frames ------------------------------------------------------------------ */

/* One page of a huge one holds all of it. */
static void frames_hold(struct migration *m, uint8_t *host, uint64_t len, bool huge)
{
    struct iovec all = { .iov_base = host, .iov_len = huge ? PAGE_SIZE_4K : len };

    while (all.iov_len) {
        ssize_t n = vmsplice(m->pipe[1], &all, 1, SPLICE_F_NONBLOCK);

        if (n <= 0)
            return; /* the pipe is full: of the rest some may come back, which is counted */
        all.iov_base = (uint8_t *)all.iov_base + n;
        all.iov_len -= (size_t)n;
    }
}

static void frames_let_go(struct migration *m)
{
    while (splice(m->pipe[0], NULL, m->sink, NULL, MIGRATE_BLOCK, SPLICE_F_NONBLOCK) > 0)
        ;
}

static int drop(struct migration *m, uint8_t *host, uint64_t len)
{
    off_t offset = (off_t)(m->part.fd_offset + (uint64_t)(host - m->part.host));
    int rc;

    if (m->part.fd >= 0)
        rc = fallocate(m->part.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, (off_t)len);
    else
        rc = madvise(host, len, m->p->cfg.lock ? MADV_DONTNEED_LOCKED : MADV_DONTNEED);
    return rc < 0 ? -errno : 0;
}

/* The content is in `copy` alone: a page that can't be had means that the guest is lost. */
static int refill(struct migration *m, uint8_t *host, uint64_t len)
{
    int rc = 0;

    for (unsigned tries = 0; tries < 10; tries++) {
        rc = madvise(host, len, MADV_POPULATE_WRITE) < 0 ? -errno : 0;
        if (rc == 0 || rc == -EINVAL) /* before Linux 5.14: touching does it */
            break;
        (void)usleep(1000);
    }
    if (rc < 0 && rc != -EINVAL)
        return migrate_lost(m, rc, "there is no memory for a page that was taken away");
    memcpy(host, m->copy, len);
    return 0;
}

/* --- blocks ---------------------------------------------------------------------------- */

/*
 * The pool gives the page that was freed last. So: take a spare one, free the guest's, take that
 * one, free the spare one, which the guest then gets.
 */
static int exchange_pool(struct migration *m, uint8_t *host, uint64_t len)
{
    uint64_t page = page_of(m);
    uint8_t *spare = map_own(page, MAP_HUGETLB | MAP_HUGE_OF(page)), *old;
    int rc;

    if (!spare || madvise(spare, page, MADV_POPULATE_WRITE) < 0) {
        if (spare)
            (void)munmap(spare, page);
        return hugepages_missing(-ENOMEM, page, page, m->err);
    }
    rc = drop(m, host, len);
    if (rc < 0) {
        (void)munmap(spare, page);
        return rc;
    }
    old = map_own(page, MAP_HUGETLB | MAP_HUGE_OF(page));
    if (old && madvise(old, page, MADV_POPULATE_WRITE) < 0) {
        (void)munmap(old, page);
        old = NULL;
    }
    (void)munmap(spare, page);
    rc = refill(m, host, len);
    if (old)
        (void)munmap(old, page);
    return rc;
}

static int exchange_small(struct migration *m, uint8_t *host, uint64_t len, bool huge)
{
    int rc;

    frames_hold(m, host, len, huge);
    rc = drop(m, host, len);
    if (rc == 0)
        rc = refill(m, host, len);
    frames_let_go(m);
    return rc;
}

/*
 * While the range is not registered the host kernel serves it, and so do our own touches; there is
 * nobody else who could make any.
 */
static int exchange(struct migration *m, uint8_t *host, uint64_t len, bool huge)
{
    int rc = m->part.registered ? uffd_unregister(&m->p->uffd, host, len) : 0, again = 0;

    if (rc < 0)
        return rc;
    memcpy(m->copy, host, len);
    rc = m->hugetlb ? exchange_pool(m, host, len) : exchange_small(m, host, len, huge);
    if (m->part.registered)
        again = uffd_register(&m->p->uffd, host, len, pages_uffd_modes(m->p, m->part.backing));
    return again < 0 ? migrate_lost(m, again, "userfaultfd does not take the range back") : rc;
}

int migrate_block_by_hold(struct migration *m, uint8_t *host, uint64_t len, unsigned *shift)
{
    bool was_huge = *shift > PAGE_SHIFT_4K;
    uint64_t start = now_ns();
    uint64_t *before = migrate_frames(m, host, len);
    int rc = exchange(m, host, len, was_huge && !m->hugetlb && len == MIGRATE_BLOCK);

    migrate_compare(m, host, len, before);
    if (rc < 0)
        return rc;
    start = now_ns() - start;
    if (start > m->out->away_ns)
        m->out->away_ns = start;
    m->out->moved += len;
    if (was_huge && (m->hugetlb || migrate_huge_at(m, host, len)))
        m->out->huge += len;
    else if (was_huge)
        m->out->split += len, *shift = PAGE_SHIFT_4K;
    return 0;
}
