#include <errno.h>
#include <string.h>

#include "vmm/virtio_blk_impl.h"

#define ID_BYTES 20u

/* 5.2.6 Device Operation. */
enum { T_IN = 0, T_OUT = 1, T_FLUSH = 4, T_GET_ID = 8, T_DISCARD = 11, T_WRITE_ZEROES = 13 };
enum status { S_OK, S_IOERR, S_UNSUPP };

#define CLEAR_UNMAP 1u

struct clear_range {
    uint64_t sector;
    uint32_t sectors, flags;
};

_Static_assert(sizeof(struct clear_range) == 16, "as in memory");

/* --- the end of a request -------------------------------------------------------------- */

/* The status is the last writable byte; `written` counts what is before it. */
static void answer(struct virtio_blk *b, struct blk_request *r, enum status status)
{
    struct virtqueue *q = virtio_queue(b->v, 0);
    uint64_t at = r->chain.write_bytes - 1;
    uint8_t byte = (uint8_t)status;

    b->stat.failed += status != S_OK;
    if (virtqueue_write(q, &r->chain, at, &byte, 1) != 1)
        (void)virtqueue_break(q, "a status byte lies in no memory");
    /* After an error nobody knows how much of the data was written, so that the length counts none
     * of it (2.7.8.2 allows for that); without data there is just the status. */
    (void)virtqueue_push(q, r->chain.head,
                         status == S_OK || at == 0 ? (uint32_t)r->chain.write_bytes : 0);
    r->next = b->free;
    b->free = r;
}

void blk_request_done(void *ctx, struct disk_request *io)
{
    struct virtio_blk *b = ctx;
    struct blk_request *r = (struct blk_request *)io;
    enum status status = S_OK;

    if (r->reading) /* also after an error: some may have come */
        dma_wrote(virtio_dma(b->v), r->mapped, r->pieces);
    if (io->result == -EOPNOTSUPP && io->op == DISK_DISCARD)
        status = S_UNSUPP;
    else if (io->result < 0)
        status = S_IOERR;
    answer(b, r, status);
}

/* --- data ---------------------------------------------------------------------------------- */

static bool in_bounds(const struct virtio_blk *b, uint64_t sector, uint64_t bytes)
{
    uint64_t sectors = b->file.bytes / DISK_SECTOR;

    return bytes % DISK_SECTOR == 0 && sector <= sectors && bytes / DISK_SECTOR <= sectors - sector;
}

/* Direct I/O wants aligned memory. */
static bool aligned(const struct virtio_blk *b, const struct blk_request *r)
{
    for (unsigned i = 0; i < r->pieces; i++)
        if (((uintptr_t)r->iov[i].iov_base | r->iov[i].iov_len) & (b->file.align - 1))
            return false;
    return true;
}

/* Host pointers for the data: the readable part behind the header, or the writable one before the
 * status. -E2BIG: too many pieces. */
static int map_data(struct virtio_blk *b, struct blk_request *r, uint64_t bytes)
{
    const struct virtq_chain *c = &r->chain;
    unsigned first = r->reading ? c->readable : 0,
             end = first + (r->reading ? c->writable : c->readable);
    uint64_t skip = r->reading ? 0 : sizeof(struct blk_header);
    int rc = 0;

    r->pieces = 0;
    for (unsigned i = first; i < end && bytes > 0 && rc == 0; i++) {
        uint64_t len = c->segment[i].len, from = skip < len ? skip : len;
        unsigned got = 0;

        skip -= from;
        len -= from;
        if (len > bytes)
            len = bytes;
        if (len == 0)
            continue;
        rc = dma_map(virtio_dma(b->v), c->segment[i].addr + from, len,
                     r->reading ? DMA_WRITE : DMA_READ, r->iov + r->pieces,
                     BLK_PIECES_MAX - r->pieces, &got);
        r->pieces += got;
        bytes -= len;
    }
    memcpy(r->mapped, r->iov, r->pieces * sizeof(*r->iov));
    return rc;
}

/* In pieces through a buffer, now: for what can't go out as it lies in memory. */
static enum status by_bounce(struct virtio_blk *b, struct blk_request *r, uint64_t bytes)
{
    struct virtqueue *q = virtio_queue(b->v, 0);
    uint64_t done_bytes = 0;

    b->waited = true;
    while (done_bytes < bytes) {
        uint64_t n = bytes - done_bytes < BLK_BOUNCE ? bytes - done_bytes : BLK_BOUNCE;
        uint64_t offset = r->sector * DISK_SECTOR + done_bytes;
        int64_t got = (int64_t)n;

        if (!r->reading)
            got =
                virtqueue_read(q, &r->chain, sizeof(struct blk_header) + done_bytes, b->bounce, n);
        if (got != (int64_t)n ||
            disk_io_now(b->io, r->reading ? DISK_READ : DISK_WRITE, offset, b->bounce, n) < 0)
            return S_IOERR;
        if (r->reading && virtqueue_write(q, &r->chain, done_bytes, b->bounce, n) != (int64_t)n)
            return S_IOERR;
        done_bytes += n;
    }
    if (r->io.through && disk_io_now(b->io, DISK_FLUSH, 0, NULL, 0) < 0)
        return S_IOERR;
    return S_OK;
}

static void transfer(struct virtio_blk *b, struct blk_request *r)
{
    uint64_t bytes =
        r->reading ? r->chain.write_bytes - 1 : r->chain.read_bytes - sizeof(struct blk_header);
    int rc;

    if ((!r->reading && b->file.read_only) || bytes > BLK_BYTES_MAX ||
        !in_bounds(b, r->sector, bytes)) {
        answer(b, r, S_IOERR);
        return;
    }
    *(r->reading ? &b->stat.bytes_read : &b->stat.bytes_written) += bytes;
    /* 5.2.5.2: without FLUSH the driver takes each write for lasting. */
    r->io.through = !r->reading && !(virtio_features(b->v) & BLK_F_FLUSH);
    rc = bytes ? map_data(b, r, bytes) : 0;
    if (bytes == 0 || (rc < 0 && rc != -E2BIG)) {
        answer(b, r, rc < 0 ? S_IOERR : S_OK);
    } else if (rc == -E2BIG || !aligned(b, r)) {
        answer(b, r, by_bounce(b, r, bytes));
    } else {
        r->io.op = r->reading ? DISK_READ : DISK_WRITE;
        r->io.offset = r->sector * DISK_SECTOR;
        r->io.len = bytes;
        r->io.iov = r->iov;
        r->io.count = r->pieces;
        b->waited = b->waited || !disk_io_async(b->io);
        disk_io_start(b->io, &r->io);
    }
}

/* --- other requests --------------------------------------------------------------------------- */

static void flush(struct virtio_blk *b, struct blk_request *r)
{
    r->io.op = DISK_FLUSH;
    disk_io_start(b->io, &r->io);
}

static void get_id(struct virtio_blk *b, struct blk_request *r)
{
    uint64_t room = r->chain.write_bytes - 1;
    char id[ID_BYTES];
    int64_t n;

    memset(id, 0, sizeof(id));
    memcpy(id, b->file.label, strnlen(b->file.label, sizeof(id)));
    if (room > sizeof(id))
        room = sizeof(id);
    n = virtqueue_write(virtio_queue(b->v, 0), &r->chain, 0, id, room);
    answer(b, r, n < 0 ? S_IOERR : S_OK);
}

/* DISCARD and WRITE_ZEROES, one range (config: max_*_seg). */
static void clear(struct virtio_blk *b, struct blk_request *r, uint32_t type)
{
    struct clear_range range;
    uint64_t bytes = r->chain.read_bytes - sizeof(struct blk_header);
    int64_t n = virtqueue_read(virtio_queue(b->v, 0), &r->chain, sizeof(struct blk_header), &range,
                               sizeof(range));

    if (bytes != sizeof(range) || n != (int64_t)sizeof(range) || b->file.read_only ||
        range.sectors > BLK_CLEAR_MAX ||
        !in_bounds(b, range.sector, (uint64_t)range.sectors * DISK_SECTOR)) {
        answer(b, r, S_IOERR);
        return;
    }
    if (range.flags & ~(type == T_WRITE_ZEROES ? CLEAR_UNMAP : 0)) {
        answer(b, r, S_UNSUPP);
        return;
    }
    if (range.sectors == 0) { /* nothing; fallocate(2) would refuse it */
        answer(b, r, S_OK);
        return;
    }
    r->io.op = type == T_DISCARD ? DISK_DISCARD : DISK_ZERO;
    r->io.offset = range.sector * DISK_SECTOR;
    r->io.len = (uint64_t)range.sectors * DISK_SECTOR;
    disk_io_start(b->io, &r->io);
}

void blk_request_start(struct virtio_blk *b, struct blk_request *r, uint32_t type)
{
    switch (type) {
    case T_IN:
    case T_OUT:
        (*(type == T_IN ? &b->stat.reads : &b->stat.writes))++;
        r->reading = type == T_IN;
        transfer(b, r);
        return;
    case T_FLUSH:
        b->stat.flushes++;
        flush(b, r);
        return;
    case T_GET_ID:
        b->stat.others++;
        get_id(b, r);
        return;
    case T_DISCARD:
    case T_WRITE_ZEROES:
        b->stat.others++;
        clear(b, r, type);
        return;
    default:
        b->stat.others++;
        answer(b, r, S_UNSUPP);
    }
}
