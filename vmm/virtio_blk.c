#include "vmm/virtio_blk.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/disk_io.h"

#define CLASS      0x018000u /* mass storage, other */
#define QUEUE_MAX  128u
#define IN_FLIGHT  64u
#define PIECES_MAX 512u        /* of one request; more go through a buffer */
#define BOUNCE     (64u << 10) /* its size */
#define ID_BYTES   20u
#define CLEAR_MAX  (32u << 10) /* sectors of one DISCARD or WRITE_ZEROES */

/* 5.2.3 Feature bits, 5.2.6 Device Operation. */
#define F_SEG_MAX      (UINT64_C(1) << 2)
#define F_RO           (UINT64_C(1) << 5)
#define F_BLK_SIZE     (UINT64_C(1) << 6)
#define F_FLUSH        (UINT64_C(1) << 9)
#define F_DISCARD      (UINT64_C(1) << 13)
#define F_WRITE_ZEROES (UINT64_C(1) << 14)

enum { T_IN = 0, T_OUT = 1, T_FLUSH = 4, T_GET_ID = 8, T_DISCARD = 11, T_WRITE_ZEROES = 13 };
enum status { S_OK, S_IOERR, S_UNSUPP };

#define CLEAR_UNMAP 1u

struct header {
    uint32_t type, reserved;
    uint64_t sector;
};

struct clear_range {
    uint64_t sector;
    uint32_t sectors, flags;
};

/* 5.2.4 Device configuration layout; only what features below speak of. */
struct config {
    uint64_t capacity;
    uint32_t size_max, seg_max;
    uint8_t geometry[4];
    uint32_t blk_size;
    uint8_t topology[8], writeback, unused0;
    uint16_t num_queues;
    uint32_t max_discard_sectors, max_discard_seg, discard_sector_alignment;
    uint32_t max_write_zeroes_sectors, max_write_zeroes_seg;
    uint8_t write_zeroes_may_unmap, unused1[3];
};

_Static_assert(sizeof(struct header) == 16 && sizeof(struct clear_range) == 16, "as in memory");
_Static_assert(offsetof(struct config, max_discard_sectors) == 36, "as in the specification");

struct request {
    struct disk_request io; /* first */
    struct request *next;   /* free */
    uint64_t sector;
    bool reading; /* guest memory is written */
    unsigned pieces;
    struct virtq_chain chain;
    struct iovec iov[PIECES_MAX], mapped[PIECES_MAX]; /* the former changes on its way */
};

struct virtio_blk {
    struct virtio_ops ops;
    struct virtio_device *v;
    struct disk_file file;
    struct disk_io *io;
    struct request *requests, *free;
    uint8_t *bounce;
    bool stalled; /* all requests are in flight, and the queue may have more */
    struct virtio_blk_stat stat;
};

/* --- the end of a request -------------------------------------------------------------- */

/* The status is the last writable byte; `written` counts what is before it. */
static void answer(struct virtio_blk *b, struct request *r, enum status status)
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

static void done(void *ctx, struct disk_request *io)
{
    struct virtio_blk *b = ctx;
    struct request *r = (struct request *)io;
    enum status status = S_OK;

    if (r->reading) /* also after an error: some may have come */
        dma_wrote(virtio_dma(b->v), r->mapped, r->pieces);
    if (io->result == -EOPNOTSUPP && io->op == DISK_DISCARD)
        status = S_UNSUPP;
    else if (io->result < 0)
        status = S_IOERR;
    answer(b, r, status);
}

static void reaped(void *ctx)
{
    struct virtio_blk *b = ctx;

    virtio_signal(b->v, 0);
    if (virtio_queue(b->v, 0)->broken)
        virtio_broken(b->v, 0);
    if (b->stalled)
        virtio_kick(b->v, 0);
    b->stalled = false;
}

static const struct disk_io_ops io_ops = { .done = done, .reaped = reaped };

/* --- data ---------------------------------------------------------------------------------- */

static bool in_bounds(const struct virtio_blk *b, uint64_t sector, uint64_t bytes)
{
    uint64_t sectors = b->file.bytes / DISK_SECTOR;

    return bytes % DISK_SECTOR == 0 && sector <= sectors && bytes / DISK_SECTOR <= sectors - sector;
}

/* Direct I/O wants aligned memory. */
static bool aligned(const struct virtio_blk *b, const struct request *r)
{
    for (unsigned i = 0; i < r->pieces; i++)
        if (((uintptr_t)r->iov[i].iov_base | r->iov[i].iov_len) & (b->file.align - 1))
            return false;
    return true;
}

/* Host pointers for the data: the readable part behind the header, or the writable one before the
 * status. -E2BIG: too many pieces. */
static int map_data(struct virtio_blk *b, struct request *r, uint64_t bytes)
{
    const struct virtq_chain *c = &r->chain;
    unsigned first = r->reading ? c->readable : 0,
             end = first + (r->reading ? c->writable : c->readable);
    uint64_t skip = r->reading ? 0 : sizeof(struct header);
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
                     r->reading ? DMA_WRITE : DMA_READ, r->iov + r->pieces, PIECES_MAX - r->pieces,
                     &got);
        r->pieces += got;
        bytes -= len;
    }
    memcpy(r->mapped, r->iov, r->pieces * sizeof(*r->iov));
    return rc;
}

/* In pieces through a buffer, now: for what can't go out as it lies in memory. */
static enum status by_bounce(struct virtio_blk *b, struct request *r, uint64_t bytes)
{
    struct virtqueue *q = virtio_queue(b->v, 0);
    uint64_t done_bytes = 0;

    while (done_bytes < bytes) {
        uint64_t n = bytes - done_bytes < BOUNCE ? bytes - done_bytes : BOUNCE;
        uint64_t offset = r->sector * DISK_SECTOR + done_bytes;
        int64_t got = (int64_t)n;

        if (!r->reading)
            got = virtqueue_read(q, &r->chain, sizeof(struct header) + done_bytes, b->bounce, n);
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

static void transfer(struct virtio_blk *b, struct request *r)
{
    uint64_t bytes =
        r->reading ? r->chain.write_bytes - 1 : r->chain.read_bytes - sizeof(struct header);
    int rc;

    if ((!r->reading && b->file.read_only) || !in_bounds(b, r->sector, bytes)) {
        answer(b, r, S_IOERR);
        return;
    }
    *(r->reading ? &b->stat.bytes_read : &b->stat.bytes_written) += bytes;
    /* 5.2.5.2: without FLUSH the driver takes each write for lasting. */
    r->io.through = !r->reading && !(virtio_features(b->v) & F_FLUSH);
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
        disk_io_start(b->io, &r->io);
    }
}

/* --- other requests --------------------------------------------------------------------------- */

static void flush(struct virtio_blk *b, struct request *r)
{
    r->io.op = DISK_FLUSH;
    disk_io_start(b->io, &r->io);
}

static void get_id(struct virtio_blk *b, struct request *r)
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
static void clear(struct virtio_blk *b, struct request *r, uint32_t type)
{
    struct clear_range range;
    uint64_t bytes = r->chain.read_bytes - sizeof(struct header);
    int64_t n = virtqueue_read(virtio_queue(b->v, 0), &r->chain, sizeof(struct header), &range,
                               sizeof(range));

    if (bytes != sizeof(range) || n != (int64_t)sizeof(range) || b->file.read_only ||
        range.sectors > CLEAR_MAX ||
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

/* --- the queue ---------------------------------------------------------------------------------
 */

static void dispatch(struct virtio_blk *b, struct request *r, uint32_t type)
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

/* The next request, if there is one. As virtqueue_pop(). */
static int take(struct virtio_blk *b, struct virtqueue *q)
{
    struct request *r = b->free;
    struct header h;
    int rc = virtqueue_pop(q, &r->chain);

    if (rc <= 0)
        return rc;
    if (r->chain.write_bytes == 0)
        return virtqueue_break(q, "a request without a status byte");
    if (virtqueue_read(q, &r->chain, 0, &h, sizeof(h)) != (int64_t)sizeof(h))
        return virtqueue_break(q, "a request without a header");
    b->free = r->next;
    r->io = (struct disk_request){ 0 };
    r->sector = h.sector;
    r->reading = false;
    r->pieces = 0;
    dispatch(b, r, h.type);
    return 1;
}

static void kicked(void *dev, unsigned queue)
{
    struct virtio_blk *b = dev;
    struct virtqueue *q = virtio_queue(b->v, queue);
    unsigned budget = q->size;
    int rc = 0;

    do {
        (void)virtqueue_want_kicks(q, false);
        while (b->free && budget > 0 && (rc = take(b, q)) > 0)
            budget--;
    } while (rc >= 0 && b->free && budget > 0 && virtqueue_want_kicks(q, true));
    disk_io_submit(b->io);
    virtio_signal(b->v, queue);
    if (q->broken)
        virtio_broken(b->v, queue);
    else if (!b->free)
        b->stalled = true;
    else if (budget == 0) /* others on this thread have their turn */
        virtio_kick(b->v, queue);
}

static void drain(void *dev)
{
    struct virtio_blk *b = dev;

    disk_io_drain(b->io);
}

static void reset(void *dev)
{
    struct virtio_blk *b = dev;

    drain(b);
    b->stalled = false;
}

static void config_read(void *dev, void *out)
{
    const struct virtio_blk *b = dev;
    unsigned clears = b->file.read_only ? 0 : CLEAR_MAX;
    struct config c = {
        .capacity = b->file.bytes / DISK_SECTOR,
        .seg_max = QUEUE_MAX - 2, /* beside header and status */
        .blk_size = b->file.block,
        .num_queues = 1,
        .max_discard_sectors = clears,
        .max_discard_seg = clears ? 1 : 0,
        .discard_sector_alignment = b->file.block / DISK_SECTOR,
        .max_write_zeroes_sectors = clears,
        .max_write_zeroes_seg = clears ? 1 : 0,
        .write_zeroes_may_unmap = 0,
    };

    memcpy(out, &c, sizeof(c));
}

/* --- life ----------------------------------------------------------------------------------------
 */

static int allocate(struct virtio_blk *b, struct error *err)
{
    void *bounce = NULL;

    b->requests = calloc(IN_FLIGHT, sizeof(*b->requests));
    if (!b->requests || posix_memalign(&bounce, 4096, BOUNCE) != 0)
        return error_set(err, -ENOMEM, "--disk: no memory");
    b->bounce = bounce;
    for (unsigned i = 0; i < IN_FLIGHT; i++) {
        b->requests[i].next = b->free;
        b->free = &b->requests[i];
    }
    return 0;
}

int virtio_blk_create(struct virtio_blk **out, const struct device_config *cfg,
                      const struct virtio_place *place, struct error *err)
{
    struct virtio_blk *b = calloc(1, sizeof(*b));
    int rc;

    *out = NULL;
    if (!b)
        return error_set(err, -ENOMEM, "--disk: no memory");
    rc = disk_file_open(&b->file, cfg->path, cfg->read_only, cfg->direct, err);
    if (rc == 0)
        rc = allocate(b, err);
    if (rc == 0)
        rc = disk_io_create(&b->io, &b->file, place->loop, IN_FLIGHT, &io_ops, b, err);
    b->ops = (struct virtio_ops){
        .type = VIRTIO_BLOCK,
        .name = "virtio-blk",
        .class = CLASS,
        .queues = 1,
        .queue_max = QUEUE_MAX,
        .features =
            F_SEG_MAX | F_BLK_SIZE | F_FLUSH | (cfg->read_only ? F_RO : F_DISCARD | F_WRITE_ZEROES),
        .config_bytes = sizeof(struct config),
        .config_read = config_read,
        .kicked = kicked,
        .reset = reset,
    };
    if (rc == 0)
        rc = virtio_create(&b->v, &b->ops, b, place, err);
    if (rc < 0) {
        virtio_blk_destroy(b);
        return rc;
    }
    virtio_dma(b->v)->drain = drain;
    virtio_dma(b->v)->dev = b;
    *out = b;
    return 0;
}

void virtio_blk_destroy(void *blk)
{
    struct virtio_blk *b = blk;

    if (!b)
        return;
    disk_io_destroy(b->io);
    virtio_destroy(b->v);
    disk_file_close(&b->file);
    free(b->bounce);
    free(b->requests);
    free(b);
}

struct virtio_device *virtio_blk_device(struct virtio_blk *b)
{
    return b->v;
}

void virtio_blk_stat(const struct virtio_blk *b, struct virtio_blk_stat *out)
{
    *out = b->stat;
    out->in_flight = disk_io_in_flight(b->io);
    out->async = disk_io_async(b->io);
    out->bytes = b->file.bytes;
    out->read_only = b->file.read_only;
}
