/*
 * MIGRATE_BY_MOVE. A block's pages go out of the guest as they are (UFFDIO_MOVE), are copied to
 * pages made meanwhile, and these go in. Whoever touches a page that is away gets a fault that
 * userfaultfd keeps waiting until the page is in: by the move in, which wakes; in ranges of
 * the fault thread it gets the message too, waits for the map's lock, finds the page there and
 * wakes once more.
 */
#include "vmm/migrate_impl.h"
#include "vmm/clock.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

int migrate_move_start(struct migration *m)
{
    void *area;
    int rc;

    m->own.fd = -1;
    m->area = NULL;
    if (m->part.registered) {
        m->use = &m->p->uffd;
    } else {
        struct error ignored;

        m->use = &m->own;
        rc = uffd_open(&m->own, UFFD_FEATURE_MOVE, &ignored);
        if (rc < 0)
            return -ENOTSUP;
    }
    if (!(m->use->features & UFFD_FEATURE_MOVE))
        return -ENOTSUP;
    area = mmap(NULL, 3 * MIGRATE_BLOCK, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1,
                0);
    if (area == MAP_FAILED)
        return -errno;
    m->area = area;
    m->outside = m->area + (-(uintptr_t)area & (MIGRATE_BLOCK - 1));
    m->fresh = m->outside + MIGRATE_BLOCK;
    return 0;
}

void migrate_move_stop(struct migration *m)
{
    if (m->area)
        (void)munmap(m->area, 3 * MIGRATE_BLOCK);
    m->area = NULL;
    uffd_close(&m->own);
}

/* Both areas without pages and without page tables, so that a huge page can go in as one. */
static int areas_make(struct migration *m, bool huge)
{
    int advice = huge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE;

    if (mmap(m->outside, 2 * MIGRATE_BLOCK, PROT_READ | PROT_WRITE,
             MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0) == MAP_FAILED)
        return -errno;
    (void)madvise(m->outside, 2 * MIGRATE_BLOCK, advice); /* a kernel without them has only small */
    return uffd_register(m->use, m->outside, MIGRATE_BLOCK, UFFDIO_REGISTER_MODE_MISSING);
}

/*
 * The new pages go in, whatever it takes: the content is nowhere else. As a last resort the old
 * ones come back.
 */
static int put_in(struct migration *m, uint8_t *host, uint64_t offset, uint64_t len)
{
    uint64_t done = 0, more = 0;
    int rc = uffd_move(m->use, host, m->fresh + offset, len, &done);

    if (rc < 0)
        rc = uffd_copy(m->use, host + done, m->outside + offset + done, len - done, &more);
    if (rc < 0) {
        done += more;
        rc = uffd_move(m->use, host + done, m->outside + offset + done, len - done, &more);
    }
    return rc < 0 ? migrate_lost(m, rc, "pages of the guest can't be put back") : 0;
}

/* Moves what can be moved from the start of the block; *done receives how much that is. */
static int move_some(struct migration *m, uint8_t *host, uint64_t len, uint64_t *done)
{
    uint64_t offset = (uintptr_t)host & (MIGRATE_BLOCK - 1), start = now_ns();
    int rc = uffd_move(m->use, m->outside + offset, host, len, done), in;

    if (*done == 0)
        return rc;
    memcpy(m->fresh + offset, m->outside + offset, *done);
    in = put_in(m, host, offset, *done);
    start = now_ns() - start;
    if (start > m->out->away_ns)
        m->out->away_ns = start;
    return in < 0 ? in : rc;
}

/* A page that is busy: pinned by somebody, shared with a child, or gone since it was looked up. */
static bool left_alone(int code)
{
    return code == -EBUSY || code == -ENOENT || code == -EAGAIN || code == -EEXIST;
}

static int block_parts(struct migration *m, uint8_t *host, uint64_t len)
{
    uint64_t gone = 0, moved = 0;
    int rc = 0;

    while (rc == 0 && gone < len) {
        uint64_t done = 0;

        rc = move_some(m, host + gone, len - gone, &done);
        gone += done;
        moved += done;
        if (rc < 0 && left_alone(rc)) {
            gone += PAGE_SIZE_4K;
            rc = 0;
        }
    }
    m->out->moved += moved;
    return rc;
}

int migrate_block_by_move(struct migration *m, uint8_t *host, uint64_t len, unsigned *shift)
{
    uint64_t offset = (uintptr_t)host & (MIGRATE_BLOCK - 1);
    bool was_huge = *shift > PAGE_SHIFT_4K, huge = was_huge && len == MIGRATE_BLOCK;
    uint64_t *before, moved = m->out->moved;
    int rc = areas_make(m, huge), again = 0;

    if (rc == 0 && madvise(m->fresh + offset, len, MADV_POPULATE_WRITE) < 0)
        rc = -errno;
    if (rc < 0)
        return error_set(m->err, rc, "no memory for new pages: %s", strerror(-rc));
    before = migrate_frames(m, host, len);
    if (!m->part.registered)
        rc = uffd_register(m->use, host, len, UFFDIO_REGISTER_MODE_MISSING);
    if (rc == 0) {
        rc = block_parts(m, host, len);
        if (!m->part.registered)
            again = uffd_unregister(m->use, host, len);
    }
    migrate_compare(m, host, len, before);
    if (again < 0)
        return migrate_lost(m, again, "guest memory stays registered");
    if (rc < 0)
        return rc == -EINVAL || rc == -EPERM ? -ENOTSUP : rc;
    if (huge && migrate_huge_at(m, host, len))
        m->out->huge += len;
    else if (was_huge)
        m->out->split += m->out->moved - moved, *shift = PAGE_SHIFT_4K;
    return 0;
}
