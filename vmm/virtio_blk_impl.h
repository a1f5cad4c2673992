/*
 * The inside of virtio-blk: virtio_blk.c has the queue and the device's life, virtio_blk_request.c
 * carries out one request.
 */
#ifndef TWOFOLD_VMM_VIRTIO_BLK_IMPL_H
#define TWOFOLD_VMM_VIRTIO_BLK_IMPL_H

#include "vmm/disk_io.h"
#include "vmm/virtio_blk.h"

#define BLK_PIECES_MAX 512u        /* of one request; more go through a buffer */
#define BLK_BOUNCE     (64u << 10) /* its size */
#define BLK_QUEUE_MAX  128u
#define BLK_SEG_MAX    (BLK_QUEUE_MAX - 2)          /* beside header and status */
#define BLK_SIZE_MAX   (128u << 10)                 /* bytes of a segment */
#define BLK_BYTES_MAX  (BLK_SEG_MAX * BLK_SIZE_MAX) /* of one request: nobody waits for more */
#define BLK_CLEAR_MAX  (32u << 10)                  /* sectors of one DISCARD or WRITE_ZEROES */

#define BLK_F_FLUSH (UINT64_C(1) << 9)

/* 5.2.6 Device Operation. */
struct blk_header {
    uint32_t type, reserved;
    uint64_t sector;
};

_Static_assert(sizeof(struct blk_header) == 16, "as in memory");

struct blk_request {
    struct disk_request io;   /* first */
    struct blk_request *next; /* free */
    uint64_t sector;
    bool reading; /* guest memory is written */
    unsigned pieces;
    struct virtq_chain chain;
    struct iovec iov[BLK_PIECES_MAX], mapped[BLK_PIECES_MAX]; /* the former changes on its way */
};

struct virtio_blk {
    struct virtio_ops ops;
    struct virtio_device *v;
    struct disk_file file;
    struct disk_io *io;
    struct blk_request *requests, *free;
    uint8_t *bounce;
    bool waited;  /* a transfer was carried out at once, with the I/O thread waiting for it */
    bool stalled; /* all requests are in flight, and the queue may have more */
    struct virtio_blk_stat stat;
};

/* Carries out r, of which chain and sector are filled; it may be over at once. */
void blk_request_start(struct virtio_blk *b, struct blk_request *r, uint32_t type);

/* disk_io's: the transfers of a request are over. */
void blk_request_done(void *ctx, struct disk_request *io);

#endif
