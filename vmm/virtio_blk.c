#include "vmm/virtio_blk.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/virtio_blk_impl.h"

#define CLASS     0x018000u /* mass storage, other */
#define IN_FLIGHT 64u

/* 5.2.3 Feature bits. */
#define F_SIZE_MAX     (UINT64_C(1) << 1)
#define F_SEG_MAX      (UINT64_C(1) << 2)
#define F_RO           (UINT64_C(1) << 5)
#define F_BLK_SIZE     (UINT64_C(1) << 6)
#define F_DISCARD      (UINT64_C(1) << 13)
#define F_WRITE_ZEROES (UINT64_C(1) << 14)

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

_Static_assert(offsetof(struct config, max_discard_sectors) == 36, "as in the specification");

/* --- the queue --------------------------------------------------------------------------- */

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

static const struct disk_io_ops io_ops = { .done = blk_request_done, .reaped = reaped };

/* The next request, if there is one. As virtqueue_pop(). */
static int take(struct virtio_blk *b, struct virtqueue *q)
{
    struct blk_request *r = b->free;
    struct blk_header h;
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
    blk_request_start(b, r, h.type);
    return 1;
}

static void kicked(void *dev, unsigned queue)
{
    struct virtio_blk *b = dev;
    struct virtqueue *q = virtio_queue(b->v, queue);
    unsigned budget = q->size;
    int rc = 0;

    b->waited = false;
    do {
        (void)virtqueue_want_kicks(q, false);
        while (b->free && budget > 0 && !b->waited && (rc = take(b, q)) > 0)
            budget--;
    } while (rc >= 0 && b->free && budget > 0 && !b->waited && virtqueue_want_kicks(q, true));
    disk_io_submit(b->io);
    virtio_signal(b->v, queue);
    if (q->broken)
        virtio_broken(b->v, queue);
    else if (!b->free)
        b->stalled = true;
    else if (budget == 0 || b->waited) /* others on this thread have their turn */
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
    unsigned clears = b->file.read_only ? 0 : BLK_CLEAR_MAX;
    struct config c = {
        .capacity = b->file.bytes / DISK_SECTOR,
        .size_max = BLK_SIZE_MAX,
        .seg_max = BLK_SEG_MAX,
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
    if (!b->requests || posix_memalign(&bounce, 4096, BLK_BOUNCE) != 0)
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
        .queue_max = BLK_QUEUE_MAX,
        .features = F_SIZE_MAX | F_SEG_MAX | F_BLK_SIZE | BLK_F_FLUSH |
                    (cfg->read_only ? F_RO : F_DISCARD | F_WRITE_ZEROES),
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
