#include "vmm/virtio_rng.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/random.h>

/* Of one request; a driver that wants more asks again (5.4.6). */
#define BYTES_MAX 4096u
#define QUEUE_MAX 64u
#define CLASS     0x00ff00u /* none of PCI's */

struct virtio_rng {
    struct virtio_device *v;
    struct virtq_chain chain;
    uint8_t bytes[BYTES_MAX];
};

/* Up to `len`; fewer when a signal came. */
static uint64_t draw(uint8_t *to, uint64_t len)
{
    ssize_t n;

    do {
        n = getrandom(to, len, 0);
    } while (n < 0 && errno == EINTR);
    return n < 0 ? 0 : (uint64_t)n;
}

static int answer(struct virtio_rng *r, struct virtqueue *q)
{
    uint64_t want = r->chain.write_bytes < BYTES_MAX ? r->chain.write_bytes : BYTES_MAX;
    int64_t n = virtqueue_write(q, &r->chain, 0, r->bytes, want ? draw(r->bytes, want) : 0);

    if (n < 0)
        return virtqueue_break(q, "a buffer lies in no memory");
    return virtqueue_push(q, r->chain.head, (uint32_t)n);
}

static void kicked(void *dev, unsigned queue)
{
    struct virtio_rng *r = dev;
    struct virtqueue *q = virtio_queue(r->v, queue);
    unsigned budget = q->size;
    int rc = 0;

    do {
        (void)virtqueue_want_kicks(q, false);
        while (budget > 0 && (rc = virtqueue_pop(q, &r->chain)) > 0) {
            budget--;
            rc = answer(r, q);
            if (rc < 0)
                break;
        }
    } while (rc >= 0 && budget > 0 && virtqueue_want_kicks(q, true));
    virtio_signal(r->v, queue);
    if (q->broken)
        virtio_broken(r->v, queue);
    else if (budget == 0) /* others on this thread have their turn */
        virtio_kick(r->v, queue);
}

static const struct virtio_ops ops = {
    .type = VIRTIO_RNG,
    .name = "virtio-rng",
    .class = CLASS,
    .queues = 1,
    .queue_max = QUEUE_MAX,
    .kicked = kicked,
};

int virtio_rng_create(struct virtio_rng **out, const struct virtio_place *place, struct error *err)
{
    struct virtio_rng *r = calloc(1, sizeof(*r));
    int rc;

    *out = NULL;
    if (!r)
        return error_set(err, -ENOMEM, "virtio-rng: no memory");
    rc = virtio_create(&r->v, &ops, r, place, err);
    if (rc < 0) {
        free(r);
        return rc;
    }
    *out = r;
    return 0;
}

void virtio_rng_destroy(void *rng)
{
    struct virtio_rng *r = rng;

    if (!r)
        return;
    virtio_destroy(r->v);
    free(r);
}

struct virtio_device *virtio_rng_device(struct virtio_rng *r)
{
    return r->v;
}
