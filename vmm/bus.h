/*
 * Two buses, port I/O and memory-mapped I/O: a sorted table of ranges, each
 * with a device behind it. Ranges are added before the first vCPU runs; after
 * that the tables don't change, so that vCPU threads look them up without a lock.
 */
#ifndef TWOFOLD_VMM_BUS_H
#define TWOFOLD_VMM_BUS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/error.h"

enum bus_space {
    BUS_PIO,
    BUS_MMIO,
};

/*
 * What a device does on an access. `offset` is from the start of its range,
 * `size` is 1, 2, 4 or 8. Called from any vCPU thread, several at a time: a
 * device with state has a lock. Either may be NULL: reads are then all ones,
 * writes are dropped, as on an empty bus.
 */
struct bus_ops {
    uint64_t (*read)(void *dev, uint64_t offset, unsigned size);
    void (*write)(void *dev, uint64_t offset, unsigned size, uint64_t value);
};

struct bus_range_stat {
    const char *name;
    enum bus_space space;
    uint64_t base, length;
    uint64_t reads, writes;
};

struct bus;

int bus_create(struct bus **out, struct error *err);
void bus_destroy(struct bus *bus);

/*
 * Claims [base, base + length) of `space`. `name` and `ops` must outlive the
 * bus. -EEXIST when the range overlaps another one.
 */
int bus_add(struct bus *bus, enum bus_space space, uint64_t base, uint64_t length,
            const struct bus_ops *ops, void *dev, const char *name, struct error *err);

/*
 * Claims accesses of exactly `size` bytes at `addr`, before any range: for a register that shares
 * its addresses with others by the width of the access. A few of each space.
 */
int bus_add_exact(struct bus *bus, enum bus_space space, uint64_t addr, unsigned size,
                  const struct bus_ops *ops, void *dev, const char *name, struct error *err);

/*
 * One access by the guest. Returns true when a device claimed it. Unclaimed
 * reads give all ones. An access that runs over the end of a range is unclaimed.
 */
bool bus_read(struct bus *bus, enum bus_space space, uint64_t addr, unsigned size, uint64_t *value);
bool bus_write(struct bus *bus, enum bus_space space, uint64_t addr, unsigned size, uint64_t value);

/* Copies up to `max` ranges with their counters; returns how many there are. */
size_t bus_stats(const struct bus *bus, struct bus_range_stat *out, size_t max);

/* Accesses that no device claimed. */
uint64_t bus_unclaimed(const struct bus *bus);

#endif
