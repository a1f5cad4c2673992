#include "vmm/virtio_iommu.h"

#include <endian.h>
#include <errno.h>
#include <linux/virtio_iommu.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/device_config.h"

enum { REQUESTS, EVENTS, QUEUES };

#define QUEUE_MAX 128

/* Pages that the requests of one turn map or unmap, by which it lasts some ms. A request is done as
 * a whole. */
#define TURN_PAGES 16384u

#define FEATURE(bit) (UINT64_C(1) << VIRTIO_IOMMU_F_##bit)

/* Base class 8: system peripheral; 6: IOMMU. */
#define CLASS 0x080600u

struct virtio_iommu {
    struct iommu *iommu;
    struct virtio_device *virtio;
    struct dma *behind[DEVICES_MAX];
    size_t count;
    struct virtio_iommu_stat stat;
};

/* --- transfers in flight ------------------------------------------------------------------ */

static void drain(struct dma *dma)
{
    if (dma->drain)
        dma->drain(dma->dev);
}

/* What passes the IOMMU untranslated is in no domain. */
static void drain_all(struct virtio_iommu *v)
{
    for (size_t i = 0; i < v->count; i++)
        drain(v->behind[i]);
}

static bool is_in(const struct virtio_iommu *v, const struct dma *dma, uint32_t domain)
{
    uint32_t endpoint, in;
    bool attached;

    for (size_t n = 0; iommu_endpoint(v->iommu, n, &endpoint, &attached, &in); n++)
        if (endpoint == dma->function->devfn)
            return attached && in == domain;
    return false;
}

static void before_unmap(void *ctx, uint32_t domain)
{
    struct virtio_iommu *v = ctx;

    for (size_t i = 0; i < v->count; i++)
        if (is_in(v, v->behind[i], domain))
            drain(v->behind[i]);
}

/* --- requests ----------------------------------------------------------------------------- */

/* Pages of the range that a request speaks of, at most TURN_PAGES, and 1 for itself. */
static unsigned cost(const uint8_t *in, size_t len)
{
    struct virtio_iommu_req_map r; /* UNMAP has its range at the same place */
    uint64_t first, last, pages = 0;

    if (len >= offsetof(struct virtio_iommu_req_map, phys_start) &&
        (in[0] == VIRTIO_IOMMU_T_MAP || in[0] == VIRTIO_IOMMU_T_UNMAP)) {
        memcpy(&r, in, offsetof(struct virtio_iommu_req_map, phys_start));
        first = le64toh(r.virt_start);
        last = le64toh(r.virt_end);
        if (last > first)
            pages = (last - first) >> 12;
    }
    return pages < TURN_PAGES ? (unsigned)pages + 1 : TURN_PAGES;
}

_Static_assert(offsetof(struct virtio_iommu_req_map, virt_end) ==
                   offsetof(struct virtio_iommu_req_unmap, virt_end),
               "cost() reads both");

/* One request, whose cost is taken from *pages; false: the queue broke. */
static bool serve(struct virtio_iommu *v, struct virtqueue *q, const struct virtq_chain *c,
                  unsigned *pages)
{
    uint8_t in[VIRTIO_IOMMU_READ_MAX], out[VIRTIO_IOMMU_WRITE_MAX];
    size_t room = c->write_bytes < sizeof(out) ? (size_t)c->write_bytes : sizeof(out);
    int64_t len = virtqueue_read(q, c, 0, in, sizeof(in));
    size_t written;
    unsigned now;

    if (len < 0) {
        (void)virtqueue_break(q, "a request lies where no memory is");
        return false;
    }
    now = cost(in, (size_t)len);
    *pages -= now < *pages ? now : *pages;
    /* An attachment ends the bypass of an endpoint that had none. */
    if (len > 0 && in[0] == VIRTIO_IOMMU_T_ATTACH && iommu_bypass(v->iommu))
        drain_all(v);
    written =
        virtio_iommu_request(v->iommu, virtio_features(v->virtio), in, (size_t)len, out, room);
    v->stat.requests++;
    v->stat.refused += written == 0 || out[written - sizeof(struct virtio_iommu_req_tail)] != 0;
    if (written > 0 && virtqueue_write(q, c, 0, out, written) != (int64_t)written) {
        (void)virtqueue_break(q, "a request's status would lie where no memory is");
        return false;
    }
    return virtqueue_push(q, c->head, (uint32_t)written) == 0;
}

static void kicked(void *dev, unsigned queue)
{
    struct virtio_iommu *v = dev;
    struct virtqueue *q = virtio_queue(v->virtio, queue);
    struct virtq_chain chain;
    unsigned budget = q->size, pages = TURN_PAGES;
    int rc = 0;

    /* Buffers for events wait there. */
    if (queue != REQUESTS)
        return;
    do {
        (void)virtqueue_want_kicks(q, false);
        while (budget > 0 && pages > 0 && (rc = virtqueue_pop(q, &chain)) > 0) {
            budget--;
            if (!serve(v, q, &chain, &pages))
                break;
        }
    } while (rc >= 0 && budget > 0 && pages > 0 &&
             virtqueue_want_kicks(q, true)); /* false once it broke */
    virtio_signal(v->virtio, queue);
    if (q->broken)
        virtio_broken(v->virtio, queue);
    else if (budget == 0 || pages == 0) /* the others have their turn first */
        virtio_kick(v->virtio, queue);
}

/* --- events ------------------------------------------------------------------------------- */

static void describe(const struct iommu_fault *f, struct virtio_iommu_fault *out)
{
    uint8_t reason = VIRTIO_IOMMU_FAULT_R_MAPPING;

    if (f->reason == IOMMU_NO_DOMAIN)
        reason = VIRTIO_IOMMU_FAULT_R_DOMAIN;
    else if (f->reason == IOMMU_OUTPUT)
        reason = VIRTIO_IOMMU_FAULT_R_UNKNOWN;
    *out = (struct virtio_iommu_fault){
        .reason = reason,
        .flags = htole32(VIRTIO_IOMMU_FAULT_F_ADDRESS |
                         (f->write ? VIRTIO_IOMMU_FAULT_F_WRITE : VIRTIO_IOMMU_FAULT_F_READ)),
        .endpoint = htole32(f->endpoint),
        .address = htole64(f->iova.v),
    };
}

/* 5.13.6.9 Fault reporting: dropped when there is no buffer; one that is too small is given back
 * empty. */
static void faulted(void *ctx, const struct iommu_fault *f)
{
    struct virtio_iommu *v = ctx;
    struct virtqueue *q = virtio_queue(v->virtio, EVENTS);
    struct virtio_iommu_fault event;
    struct virtq_chain chain;
    uint32_t written = 0;
    int rc = virtqueue_pop(q, &chain);

    if (rc > 0) {
        describe(f, &event);
        if (chain.write_bytes >= sizeof(event) &&
            virtqueue_write(q, &chain, 0, &event, sizeof(event)) == (int64_t)sizeof(event))
            written = sizeof(event);
        (void)virtqueue_push(q, chain.head, written);
        virtio_signal(v->virtio, EVENTS);
    }
    if (q->broken) /* also by the signal's look into the ring */
        virtio_broken(v->virtio, EVENTS);
    if (written)
        v->stat.events++;
    else
        v->stat.events_dropped++;
}

/* --- config ------------------------------------------------------------------------------- */

static void config_read(void *dev, void *config)
{
    struct virtio_iommu *v = dev;
    struct virtio_iommu_config c = {
        .page_size_mask = htole64(PAGE_SIZE_4K | PAGE_SIZE_2M | PAGE_SIZE_1G),
        .input_range.end = htole64(iommu_last_iova(v->iommu)),
        .domain_range.end = htole32(VIRTIO_IOMMU_LAST_DOMAIN),
        .probe_size = htole32(VIRTIO_IOMMU_PROBE_BYTES),
        .bypass = iommu_bypass(v->iommu),
    };

    memcpy(config, &c, sizeof(c));
}

/* Only `bypass` can be written, 0 and 1 alone, and only with its feature negotiated. */
static void config_written(void *dev, unsigned offset, const void *bytes, unsigned len)
{
    struct virtio_iommu *v = dev;
    const unsigned at = offsetof(struct virtio_iommu_config, bypass);
    uint8_t value;

    if (!(virtio_features(v->virtio) & FEATURE(BYPASS_CONFIG)) || offset > at || offset + len <= at)
        return;
    value = ((const uint8_t *)bytes)[at - offset];
    if (value > 1 || value == iommu_bypass(v->iommu))
        return;
    drain_all(v);
    iommu_set_bypass(v->iommu, value);
}

/* 5.13.5: no endpoint is attached any more; bypass stays as it is. */
static void reset(void *dev)
{
    struct virtio_iommu *v = dev;
    uint32_t endpoint, domain;
    bool attached;

    for (size_t n = 0; iommu_endpoint(v->iommu, n, &endpoint, &attached, &domain); n++)
        if (attached)
            (void)iommu_detach(v->iommu, endpoint, domain);
}

/* --- life --------------------------------------------------------------------------------- */

static const struct virtio_ops ops = {
    .type = VIRTIO_IOMMU,
    .name = "virtio-iommu",
    .class = CLASS,
    .queues = QUEUES,
    .queue_max = QUEUE_MAX,
    .features = FEATURE(INPUT_RANGE) | FEATURE(DOMAIN_RANGE) | FEATURE(MAP_UNMAP) | FEATURE(PROBE) |
                FEATURE(BYPASS_CONFIG),
    .config_bytes = sizeof(struct virtio_iommu_config),
    .config_read = config_read,
    .config_written = config_written,
    .kicked = kicked,
    .reset = reset,
};

int virtio_iommu_create(struct virtio_iommu **out, struct iommu *iommu,
                        const struct virtio_place *place, struct error *err)
{
    struct virtio_place own = *place;
    struct virtio_iommu *v = calloc(1, sizeof(*v));
    int rc;

    *out = NULL;
    if (!v)
        return error_set(err, -ENOMEM, "no memory for the virtio-iommu device");
    v->iommu = iommu;
    own.iommu = NULL;
    rc = virtio_create(&v->virtio, &ops, v, &own, err);
    if (rc < 0) {
        free(v);
        return rc;
    }
    iommu_on_unmap(iommu, before_unmap, v);
    iommu_on_fault(iommu, faulted, v);
    *out = v;
    return 0;
}

void virtio_iommu_destroy(void *dev)
{
    struct virtio_iommu *v = dev;

    iommu_on_unmap(v->iommu, NULL, NULL);
    iommu_on_fault(v->iommu, NULL, NULL);
    virtio_destroy(v->virtio);
    free(v);
}

int virtio_iommu_cover(struct virtio_iommu *v, struct dma *dma, struct error *err)
{
    uint32_t endpoint = dma->function->devfn;
    int rc = v->count < DEVICES_MAX ? iommu_add_endpoint(v->iommu, endpoint) : -ENOSPC;

    if (rc == 0)
        rc = iommu_reserve(v->iommu, endpoint, (iova_t){ DMA_MSI_BASE }, DMA_MSI_SIZE, true);
    if (rc < 0)
        return error_set(err, rc, "device %02x.%x can't stand behind the IOMMU: %s",
                         dma->function->devfn >> 3, dma->function->devfn & 7, strerror(-rc));
    v->behind[v->count++] = dma;
    return 0;
}

void virtio_iommu_stat(const struct virtio_iommu *v, struct virtio_iommu_stat *out)
{
    *out = v->stat;
}

struct virtio_device *virtio_iommu_device(struct virtio_iommu *v)
{
    return v->virtio;
}
