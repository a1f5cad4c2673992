#include "guest/kernel/virtio_iommu.h"

#include "guest/kernel/dma.h"
#include "guest/kernel/dma_fault.h"
#include "guest/kernel/errno.h"
#include "guest/kernel/heap.h"
#include "guest/kernel/mm.h"
#include "guest/kernel/mmio.h"
#include "guest/kernel/pci.h"
#include "guest/kernel/printk.h"
#include "guest/kernel/string.h"
#include "guest/kernel/virtio.h"

#define VIRTIO_ID_IOMMU 23

#define F_INPUT_RANGE   (1ull << 0)
#define F_DOMAIN_RANGE  (1ull << 1)
#define F_MAP_UNMAP     (1ull << 2)
#define F_PROBE         (1ull << 4)
#define F_BYPASS_CONFIG (1ull << 6)

enum { QUEUE_REQUEST, QUEUE_EVENT, QUEUES };

/* The device's configuration; the numbers of 64 bits are read as two of 32 each. */
enum {
    CONFIG_PAGE_SIZES = 0,
    CONFIG_INPUT_FIRST = 8,
    CONFIG_INPUT_LAST = 16,
    CONFIG_DOMAIN_FIRST = 24,
    CONFIG_DOMAIN_LAST = 28,
    CONFIG_PROBE_SIZE = 32,
    CONFIG_BYPASS = 36,
};

enum { T_ATTACH = 1, T_DETACH, T_MAP, T_UNMAP, T_PROBE };
enum { S_OK, S_IOERR, S_UNSUPP, S_DEVERR, S_INVAL, S_RANGE, S_NOENT, S_FAULT, S_NOMEM };

struct attach {
    uint32_t type, domain, endpoint, flags, reserved;
};
struct map {
    uint32_t type, domain;
    uint64_t start, end, phys;
    uint32_t flags;
} __attribute__((packed));
struct unmap {
    uint32_t type, domain;
    uint64_t start, end;
    uint32_t reserved;
} __attribute__((packed));
struct probe {
    uint32_t type, endpoint;
    uint8_t reserved[64];
};
struct property {
    uint16_t type, len;
    uint8_t subtype, reserved[3];
    uint64_t start, end;
};
#define PROPERTY_TYPE     0xfffu
#define PROPERTY_RESERVED 1u
#define RESERVED_MSI      1u
#define PROBE_SIZE_MAX    16384u

struct event {
    uint8_t reason, reserved[3];
    uint32_t flags, endpoint, reserved2;
    uint64_t address;
};
#define EVENT_DOMAIN  1u
#define EVENT_MAPPING 2u
#define EVENT_WRITE   2u
#define EVENT_ADDRESS 0x100u
#define EVENTS        16

static struct virtio *device;
static struct event *events;
static uint32_t probe_size;

const struct pci_device *viommu_device(void)
{
    return device ? virtio_pci(device) : NULL;
}

static int status_error(uint8_t status)
{
    switch (status) {
    case S_OK:
        return 0;
    case S_INVAL:
    case S_RANGE:
        return -EINVAL;
    case S_NOENT:
        return -ENOENT;
    case S_NOMEM:
        return -ENOMEM;
    default:
        return -EIO;
    }
}

/*
 * Sends `len` bytes and waits; the answer is `extra` bytes, copied to *answer, and a tail of four
 * whose first is the status. What the device sees is memory of this request alone, which leaks on
 * purpose when no answer came: the device may still write to it.
 */
static int request(const void *what, uint32_t len, void *answer, uint32_t extra)
{
    uint32_t at = (len + 15) & -16u;
    uint8_t *buf = kzalloc(at + extra + 4);
    struct virtio_piece piece[2];
    int64_t rc;

    if (!buf)
        return -ENOMEM;
    memcpy(buf, what, len);
    buf[at + extra] = S_DEVERR;
    piece[0] = (struct virtio_piece){ .addr = virt_to_phys(buf), .len = len };
    piece[1] = (struct virtio_piece){ virt_to_phys(buf + at), extra + 4, true };
    rc = virtio_request(device, QUEUE_REQUEST, piece, 2);
    if (rc < 0)
        return (int)rc;
    if (extra)
        memcpy(answer, buf + at, extra);
    rc = status_error(buf[at + extra]);
    kfree(buf);
    return (int)rc;
}

int viommu_attach(uint32_t domain, uint16_t endpoint)
{
    struct attach r = { .type = T_ATTACH, .domain = domain, .endpoint = endpoint };

    return request(&r, sizeof r, NULL, 0);
}

int viommu_map(uint32_t domain, uint64_t iova, uint64_t gpa, uint64_t len, unsigned access)
{
    struct map r = { .type = T_MAP,
                     .domain = domain,
                     .start = iova,
                     .end = iova + len - 1,
                     .phys = gpa,
                     .flags = access & (DMA_READ | DMA_WRITE) };

    return request(&r, sizeof r, NULL, 0);
}

int viommu_unmap(uint32_t domain, uint64_t iova, uint64_t len)
{
    struct unmap r = { .type = T_UNMAP, .domain = domain, .start = iova, .end = iova + len - 1 };

    return request(&r, sizeof r, NULL, 0);
}

/* Takes the properties apart; what is no reserved region is skipped by its length. */
static void read_properties(const uint8_t *p, uint32_t size, struct viommu_reserved *out,
                            unsigned max, unsigned *count)
{
    struct property prop;

    for (uint32_t at = 0; at + 4 <= size; at += 4u + prop.len) {
        uint32_t have = size - at < sizeof prop ? size - at : sizeof prop;

        memset(&prop, 0, sizeof prop);
        memcpy(&prop, p + at, have);
        if ((prop.type & PROPERTY_TYPE) == 0)
            return;
        if ((prop.type & PROPERTY_TYPE) != PROPERTY_RESERVED || prop.len < sizeof prop - 4 ||
            have < sizeof prop || *count == max)
            continue;
        out[(*count)++] =
            (struct viommu_reserved){ prop.start, prop.end, prop.subtype == RESERVED_MSI };
    }
}

int viommu_probe(uint16_t endpoint, struct viommu_reserved *out, unsigned max, unsigned *count)
{
    struct probe r = { .type = T_PROBE, .endpoint = endpoint };
    uint8_t *answer;
    int rc;

    *count = 0;
    if (!probe_size)
        return 0;
    answer = kzalloc(probe_size);
    if (!answer)
        return -ENOMEM;
    rc = request(&r, sizeof r, answer, probe_size);
    if (rc == 0)
        read_properties(answer, probe_size, out, max, count);
    kfree(answer);
    return rc;
}

/* --- events --------------------------------------------------------------------------- */

static void event_done(void *arg, uint32_t written);

static int post_event(struct event *e)
{
    struct virtio_piece piece = { .addr = virt_to_phys(e), .len = sizeof *e, .write = true };

    return virtio_post(device, QUEUE_EVENT, &piece, 1, event_done, e);
}

/* In interrupt context. */
static void event_done(void *arg, uint32_t written)
{
    struct event *e = arg, copy = *e;

    if (written >= sizeof copy)
        dma_fault_add((uint16_t)copy.endpoint, copy.flags & EVENT_ADDRESS ? copy.address : 0,
                      copy.flags & EVENT_WRITE,
                      copy.reason == EVENT_MAPPING  ? DMA_FAULT_MAPPING
                      : copy.reason == EVENT_DOMAIN ? DMA_FAULT_DOMAIN
                                                    : DMA_FAULT_UNKNOWN);
    if (post_event(e) != 0)
        printk("iommu: an event buffer is lost\n");
}

static int post_events(void)
{
    int rc = 0;

    events = kzalloc(EVENTS * sizeof *events);
    if (!events)
        return -ENOMEM;
    for (unsigned i = 0; i < EVENTS && rc == 0; i++)
        rc = post_event(&events[i]);
    return rc;
}

/* --- start ------------------------------------------------------------------------------ */

static uint64_t config64(volatile uint8_t *c, unsigned at)
{
    return mmio_read32(c + at) | (uint64_t)mmio_read32(c + at + 4) << 32;
}

static void read_limits(volatile uint8_t *c, uint64_t features, struct viommu_limits *out)
{
    uint64_t sizes = config64(c, CONFIG_PAGE_SIZES);

    *out = (struct viommu_limits){ 0, UINT64_MAX, sizes & -sizes, 0, UINT32_MAX };
    if (features & F_INPUT_RANGE) {
        out->first = config64(c, CONFIG_INPUT_FIRST);
        out->last = config64(c, CONFIG_INPUT_LAST);
    }
    if (features & F_DOMAIN_RANGE) {
        out->first_domain = mmio_read32(c + CONFIG_DOMAIN_FIRST);
        out->last_domain = mmio_read32(c + CONFIG_DOMAIN_LAST);
    }
    probe_size = features & F_PROBE ? mmio_read32(c + CONFIG_PROBE_SIZE) : 0;
    if (probe_size > PROBE_SIZE_MAX)
        probe_size = PROBE_SIZE_MAX;
    if (features & F_BYPASS_CONFIG)
        mmio_write8(c + CONFIG_BYPASS, 0);
}

int viommu_init(struct viommu_limits *out)
{
    struct pci_device *d = pci_find(VIRTIO_PCI_VENDOR, VIRTIO_PCI_ID(VIRTIO_ID_IOMMU), 0);
    uint64_t wanted = F_INPUT_RANGE | F_DOMAIN_RANGE | F_MAP_UNMAP | F_PROBE | F_BYPASS_CONFIG;
    int rc;

    if (!d)
        return -ENOENT;
    device = virtio_open(d, wanted, QUEUES, &rc);
    if (!device)
        return rc;
    read_limits(virtio_config(device), virtio_features(device), out);
    if (!(virtio_features(device) & F_MAP_UNMAP) || out->page == 0 || out->page > PAGE_SIZE)
        return -EIO; /* identity domains only, or pages larger than ours */
    d->driver = "iommu";
    rc = post_events();
    if (rc != 0) /* QEMU's has no MSI-X, and so no events for us */
        printk("iommu: faults are not reported, error %d\n", rc);
    return 0;
}
