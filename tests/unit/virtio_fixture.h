/*
 * A machine without a VM: memory, buses, an I/O thread and a PCI bus whose interrupts are recorded;
 * and a model driver of virtio devices, which knows no more than a guest does.
 */
#ifndef TWOFOLD_TESTS_UNIT_VIRTIO_FIXTURE_H
#define TWOFOLD_TESTS_UNIT_VIRTIO_FIXTURE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "vmm/virtio.h"

#define MACHINE_RAM (UINT64_C(16) << 20)

struct machine {
    struct memory *mem;
    uint8_t *ram;
    struct bus *bus;
    struct io_loop *loop;
    struct pci *pci;
    struct virtio_place place;
    pthread_t thread;
    bool running;
    atomic_uint line[4];     /* INTx levels */
    atomic_uint vector[256]; /* messages, by their data's low byte */
};

/* Devices are made between these two; then the I/O thread runs. */
void machine_make(struct machine *m);
void machine_run(struct machine *m);
/* Stops the I/O thread; devices are destroyed between these two. */
void machine_stop(struct machine *m);
void machine_drop(struct machine *m);

/* Runs `fn` on the I/O thread, and waits. */
void machine_do(struct machine *m, void (*fn)(void *arg), void *arg);

uint32_t config_get(struct machine *m, unsigned device, unsigned offset, unsigned size);
void config_put(struct machine *m, unsigned device, unsigned offset, unsigned size, uint32_t value);

/* Common configuration: offsets. */
enum {
    DEVICE_FEATURE_SELECT = 0x00,
    DEVICE_FEATURE = 0x04,
    DRIVER_FEATURE_SELECT = 0x08,
    DRIVER_FEATURE = 0x0c,
    CONFIG_VECTOR = 0x10,
    NUM_QUEUES = 0x12,
    STATUS = 0x14,
    GENERATION = 0x15,
    QUEUE_SELECT = 0x16,
    QUEUE_SIZE = 0x18,
    QUEUE_VECTOR = 0x1a,
    QUEUE_ENABLE = 0x1c,
    QUEUE_NOTIFY_OFF = 0x1e,
    QUEUE_DESC = 0x20,
    QUEUE_DRIVER = 0x28,
    QUEUE_DEVICE = 0x30,
};

enum { ST_ACK = 1, ST_DRIVER = 2, ST_DRIVER_OK = 4, ST_FEATURES_OK = 8, ST_NEEDS_RESET = 0x40 };

#define VERSION_1       (UINT64_C(1) << 32)
#define ACCESS_PLATFORM (UINT64_C(1) << 33)
#define INDIRECT_DESC   (UINT64_C(1) << 28)
#define EVENT_IDX       (UINT64_C(1) << 29)

/* What the driver found in the capabilities; addresses of the MMIO space. */
struct driver {
    struct machine *m;
    unsigned device;
    uint64_t common, notify, isr, config, table; /* table: MSI-X */
    uint32_t multiplier, config_bytes;
    unsigned window, msix; /* capabilities */
    struct {
        unsigned size;
        uint64_t desc, avail, used;
        uint16_t next, seen;
    } queue[2];
};

struct piece {
    uint64_t addr;
    uint32_t len;
    bool write;
};

uint64_t reg_get(struct machine *m, uint64_t addr, unsigned size);
void reg_put(struct machine *m, uint64_t addr, unsigned size, uint64_t value);

/* Finds device `device` of bus 0, with decoding and bus master on. */
void driver_probe(struct driver *d, struct machine *m, unsigned device);
void driver_reset(struct driver *d); /* waits for 0 */
uint64_t driver_offered(struct driver *d);
/* The status afterwards. */
uint8_t driver_negotiate(struct driver *d, uint64_t features);
/* Queue n in `size` entries at gpa `at` (64 KiB), with a vector, and enabled. */
void driver_queue(struct driver *d, unsigned n, unsigned size, uint64_t at, uint16_t vector);
/* Reset, negotiation, queue 0 at 1 MiB (128 entries), DRIVER_OK. */
void driver_start(struct driver *d, uint64_t features);
/* MSI-X on: vector n sends data n. */
void driver_msix(struct driver *d, unsigned vectors);

/* Puts a request into queue n, its descriptors from `head` on; without a notification. */
void driver_offer(struct driver *d, unsigned n, unsigned head, const struct piece *p,
                  unsigned count);
void driver_notify(struct driver *d, unsigned n);
/* Waits for the next used entry: its head, and the length. */
unsigned driver_used(struct driver *d, unsigned n, uint32_t *written);

#endif
