/*
 * The registers of a virtio device on PCI: "Virtual I/O Device (VIRTIO) Version 1.2", 4.1.4 Virtio
 * Structure PCI Capabilities. Several vCPU threads at a time.
 */
#include <errno.h>
#include <string.h>

#include "vmm/virtio_impl.h"

#define CAP_VENDOR 0x09u

enum { CAP_COMMON = 1, CAP_NOTIFY, CAP_ISR, CAP_DEVICE, CAP_ACCESS };

/* struct virtio_pci_cap: where its fields are. */
#define CAP_LEN    2u
#define CAP_TYPE   3u
#define CAP_BAR    4u
#define CAP_OFFSET 8u
#define CAP_LENGTH 12u
#define CAP_BYTES  16u
#define CAP_DATA   16u /* of the access capability; the notify one has its multiplier there */

void virtio_regs_reset(struct virtio_device *v)
{
    memset(&v->regs, 0, sizeof(v->regs));
    v->regs.config_vector = VIRTIO_NO_VECTOR;
    for (unsigned i = 0; i < v->ops->queues; i++) {
        v->regs.queue[i].size = v->ops->queue_max;
        v->regs.queue[i].vector = VIRTIO_NO_VECTOR;
    }
    memset(v->written, 0, sizeof(v->written));
    v->resetting = false;
}

/* --- reading ------------------------------------------------------------------------- */

static struct virtio_queue_regs *selected(struct virtio_device *v)
{
    return v->regs.queue_select < v->ops->queues ? &v->regs.queue[v->regs.queue_select] : NULL;
}

static uint32_t half(uint64_t features, uint32_t select)
{
    return select < 2 ? (uint32_t)(features >> (32 * select)) : 0;
}

static void common_image(struct virtio_device *v, struct virtio_common *out)
{
    const struct virtio_regs *r = &v->regs;
    const struct virtio_queue_regs *q = selected(v);

    *out = (struct virtio_common){
        .device_feature_select = r->device_feature_select,
        .device_feature = half(v->features, r->device_feature_select),
        .driver_feature_select = r->driver_feature_select,
        .driver_feature = half(r->driver_features, r->driver_feature_select),
        .config_msix_vector = r->config_vector,
        .num_queues = (uint16_t)v->ops->queues,
        .device_status = r->status,
        .config_generation = r->generation,
        .queue_select = r->queue_select,
    };
    if (!q) /* a size of 0: there is no such queue */
        return;
    out->queue_size = q->size;
    out->queue_msix_vector = q->vector;
    out->queue_enable = q->enabled;
    out->queue_notify_off = r->queue_select;
    out->queue_desc = q->desc;
    out->queue_driver = q->driver;
    out->queue_device = q->device;
}

/* Reading acknowledges, and the line goes down. */
static uint64_t isr_read(struct virtio_device *v, bool window)
{
    uint8_t isr;

    if (window) { /* PCI's lock is held, which the line may need */
        isr = __atomic_exchange_n(&v->isr, 0, __ATOMIC_ACQ_REL);
        (void)pthread_mutex_lock(&v->lock);
        virtio_post(v, VIRTIO_POST_INTX);
        (void)pthread_mutex_unlock(&v->lock);
        return isr;
    }
    (void)pthread_mutex_lock(&v->isr_lock);
    isr = __atomic_exchange_n(&v->isr, 0, __ATOMIC_ACQ_REL);
    if (isr)
        pci_intx_set(&v->function, false);
    (void)pthread_mutex_unlock(&v->isr_lock);
    return isr;
}

uint64_t virtio_regs_read(struct virtio_device *v, uint64_t offset, unsigned size, bool window)
{
    struct virtio_common image;
    uint64_t value = 0;

    if (offset == VIRTIO_ISR_AT)
        return isr_read(v, window);
    (void)pthread_mutex_lock(&v->lock);
    if (offset + size <= sizeof(image)) {
        common_image(v, &image);
        memcpy(&value, (const uint8_t *)&image + offset, size);
    } else if (offset >= VIRTIO_CONFIG_AT &&
               offset + size <= VIRTIO_CONFIG_AT + v->ops->config_bytes) {
        memcpy(&value, v->config + (offset - VIRTIO_CONFIG_AT), size);
    }
    (void)pthread_mutex_unlock(&v->lock);
    return value;
}

/* --- writing --------------------------------------------------------------------------- */

/* 3.1.1: what the driver may take. */
static bool features_fit(const struct virtio_device *v)
{
    uint64_t needed = VIRTIO_F_VERSION_1 | (v->features & VIRTIO_F_ACCESS_PLATFORM);

    return (v->regs.driver_features & ~v->features) == 0 &&
           (v->regs.driver_features & needed) == needed;
}

static void status_write(struct virtio_device *v, uint8_t value)
{
    uint8_t *status = &v->regs.status;
    uint8_t fresh = value & (uint8_t) ~*status;

    if (value == 0 && *status == 0) { /* no queue was started: done, and it reads as 0 already */
        virtio_regs_reset(v);
        return;
    }
    if (value == 0) {
        v->resetting = true;
        virtio_post(v, VIRTIO_POST_RESET);
        return;
    }
    /* Bits go away by a reset alone. */
    *status |= fresh & (VIRTIO_STATUS_ACKNOWLEDGE | VIRTIO_STATUS_DRIVER | VIRTIO_STATUS_FAILED);
    if ((fresh & VIRTIO_STATUS_FEATURES_OK) && (*status & VIRTIO_STATUS_DRIVER) && features_fit(v))
        *status |= VIRTIO_STATUS_FEATURES_OK;
    if ((fresh & VIRTIO_STATUS_DRIVER_OK) && (*status & VIRTIO_STATUS_FEATURES_OK)) {
        *status |= VIRTIO_STATUS_DRIVER_OK;
        virtio_post(v, VIRTIO_POST_START);
    }
}

static void features_write(struct virtio_device *v, uint32_t value)
{
    unsigned shift = 32 * v->regs.driver_feature_select;

    if (v->regs.driver_feature_select > 1 || (v->regs.status & VIRTIO_STATUS_FEATURES_OK))
        return;
    v->regs.driver_features &= ~((uint64_t)UINT32_MAX << shift);
    v->regs.driver_features |= (uint64_t)value << shift;
}

/* One that does not exist reads back as "none" (4.1.5.1.2.1). */
static uint16_t vector_of(const struct virtio_device *v, uint64_t value)
{
    return value <= v->ops->queues ? (uint16_t)value : VIRTIO_NO_VECTOR;
}

static void set_half(uint64_t *field, bool high, uint64_t value)
{
    unsigned shift = high ? 32 : 0;

    *field &= ~((uint64_t)UINT32_MAX << shift);
    *field |= (value & UINT32_MAX) << shift;
}

#define FIELD(name) \
    (offsetof(struct virtio_common, name) << 4 | sizeof(((struct virtio_common *)0)->name))
#define HALF(name, high) ((offsetof(struct virtio_common, name) + (high)*4) << 4 | 4)

/* Fields of the queue that is selected; fixed once it is enabled, but for the vector. */
static void queue_write(struct virtio_device *v, uint64_t field, uint64_t value)
{
    struct virtio_queue_regs *q = selected(v);

    if (!q)
        return;
    if (field == FIELD(queue_msix_vector))
        q->vector = vector_of(v, value);
    if (q->enabled)
        return;
    switch (field) {
    case FIELD(queue_size):
        if (value && value <= v->ops->queue_max && !(value & (value - 1)))
            q->size = (uint16_t)value;
        break;
    case FIELD(queue_enable):
        if (value == 1) {
            q->enabled = true;
            virtio_post(v, VIRTIO_POST_START);
        }
        break;
    case HALF(queue_desc, 0):
    case HALF(queue_desc, 1):
        set_half(&q->desc, field == HALF(queue_desc, 1), value);
        break;
    case HALF(queue_driver, 0):
    case HALF(queue_driver, 1):
        set_half(&q->driver, field == HALF(queue_driver, 1), value);
        break;
    case HALF(queue_device, 0):
    case HALF(queue_device, 1):
        set_half(&q->device, field == HALF(queue_device, 1), value);
        break;
    default:
        break;
    }
}

/* A field is written as a whole, a wide one also by halves (4.1.3.1). */
static void common_write(struct virtio_device *v, uint64_t offset, unsigned size, uint64_t value)
{
    struct virtio_regs *r = &v->regs;
    uint64_t field = offset << 4 | size;

    switch (field) {
    case FIELD(device_feature_select):
        r->device_feature_select = (uint32_t)value;
        break;
    case FIELD(driver_feature_select):
        r->driver_feature_select = (uint32_t)value;
        break;
    case FIELD(driver_feature):
        features_write(v, (uint32_t)value);
        break;
    case FIELD(config_msix_vector):
        r->config_vector = vector_of(v, value);
        break;
    case FIELD(device_status):
        status_write(v, (uint8_t)value);
        break;
    case FIELD(queue_select):
        r->queue_select = (uint16_t)value;
        break;
    default:
        if (size == 8) {
            queue_write(v, offset << 4 | 4, value);
            queue_write(v, (offset + 4) << 4 | 4, value >> 32);
        } else {
            queue_write(v, field, value);
        }
    }
}

/* It reads back once the device took it. */
static void config_write(struct virtio_device *v, unsigned at, unsigned size, uint64_t value)
{
    if (!v->ops->config_written)
        return;
    memcpy(v->pending + at, &value, size);
    memset(v->written + at, true, size);
    virtio_post(v, VIRTIO_POST_CONFIG);
}

static void notify_write(struct virtio_device *v, uint64_t offset)
{
    uint64_t n = (offset - VIRTIO_NOTIFY_AT) / VIRTIO_NOTIFY_MUL;

    /* Where KVM watches the address, it does so itself, and the access never gets here. */
    if (n < v->ops->queues)
        virtio_kick(v, (unsigned)n);
}

void virtio_regs_write(struct virtio_device *v, uint64_t offset, unsigned size, uint64_t value)
{
    if (offset >= VIRTIO_NOTIFY_AT) {
        notify_write(v, offset);
        return;
    }
    (void)pthread_mutex_lock(&v->lock);
    if (v->resetting)
        ; /* its registers are about to go */
    else if (offset + size <= sizeof(struct virtio_common))
        common_write(v, offset, size, value);
    else if (offset >= VIRTIO_CONFIG_AT && offset + size <= VIRTIO_CONFIG_AT + v->ops->config_bytes)
        config_write(v, (unsigned)(offset - VIRTIO_CONFIG_AT), size, value);
    (void)pthread_mutex_unlock(&v->lock);
}

/* --- capabilities ------------------------------------------------------------------------ */

static void set32(uint8_t *at, uint32_t value)
{
    memcpy(at, &value, sizeof(value));
}

static uint32_t get32(const uint8_t *at)
{
    uint32_t value;

    memcpy(&value, at, sizeof(value));
    return value;
}

/* Its offset, or 0. */
static unsigned add_cap(struct virtio_device *v, uint8_t type, unsigned bytes, uint32_t offset,
                        uint32_t length)
{
    unsigned cap = pci_add_cap(&v->function, CAP_VENDOR, bytes);
    uint8_t *at = v->function.config + cap;

    if (!cap)
        return 0;
    at[CAP_LEN] = (uint8_t)bytes;
    at[CAP_TYPE] = type;
    at[CAP_BAR] = VIRTIO_BAR;
    set32(at + CAP_OFFSET, offset);
    set32(at + CAP_LENGTH, length);
    return cap;
}

int virtio_regs_caps(struct virtio_device *v)
{
    unsigned notify =
        add_cap(v, CAP_NOTIFY, CAP_BYTES + 4, VIRTIO_NOTIFY_AT, VIRTIO_NOTIFY_MUL * v->ops->queues);
    uint8_t *writable;

    if (!add_cap(v, CAP_COMMON, CAP_BYTES, VIRTIO_COMMON_AT, sizeof(struct virtio_common)) ||
        !notify || !add_cap(v, CAP_ISR, CAP_BYTES, VIRTIO_ISR_AT, 1) ||
        (v->ops->config_bytes &&
         !add_cap(v, CAP_DEVICE, CAP_BYTES, VIRTIO_CONFIG_AT, v->ops->config_bytes)))
        return -ENOSPC;
    set32(v->function.config + notify + CAP_BYTES, VIRTIO_NOTIFY_MUL);
    v->window = add_cap(v, CAP_ACCESS, CAP_BYTES + 4, 0, 0);
    if (!v->window)
        return -ENOSPC;
    writable = v->function.writable + v->window;
    writable[CAP_BAR] = 0xff;
    memset(writable + CAP_OFFSET, 0xff, CAP_BYTES + 4 - CAP_OFFSET);
    return 0;
}

/* Where and how wide the access is that the driver has set up; false when it is none. */
static bool window_access(const struct virtio_device *v, unsigned offset, uint32_t *at,
                          uint32_t *length)
{
    const uint8_t *cap = v->function.config + v->window;

    *at = get32(cap + CAP_OFFSET);
    *length = get32(cap + CAP_LENGTH);
    return v->window && offset / 4 == (v->window + CAP_DATA) / 4 && cap[CAP_BAR] == VIRTIO_BAR &&
           (*length == 1 || *length == 2 || *length == 4) && *at % *length == 0 &&
           *at < VIRTIO_BAR_BYTES;
}

void virtio_window_read(void *dev, unsigned offset, unsigned size)
{
    struct virtio_device *v = dev;
    uint32_t at, length;

    (void)size;
    if (window_access(v, offset, &at, &length))
        set32(v->function.config + v->window + CAP_DATA,
              (uint32_t)virtio_regs_read(v, at, length, true));
}

void virtio_window_written(void *dev, unsigned offset, unsigned size)
{
    struct virtio_device *v = dev;
    uint32_t at, length, value;

    (void)size;
    if (!window_access(v, offset, &at, &length))
        return;
    value = get32(v->function.config + v->window + CAP_DATA);
    if (length < 4)
        value &= (1u << (8 * length)) - 1;
    virtio_regs_write(v, at, length, value);
}
