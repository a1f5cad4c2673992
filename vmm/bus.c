#include "vmm/bus.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define BUS_SPACES     2
#define BUS_RANGES_MAX 64 /* of each space; the fixed devices take about a dozen */
#define BUS_EXACT_MAX  2  /* of each space */

struct bus_range {
    uint64_t base, last; /* both inclusive, so that a range may end at 2^64 - 1 */
    const struct bus_ops *ops;
    void *dev;
    const char *name;
    uint64_t reads, writes; /* counted by several vCPU threads */
};

struct bus_table {
    size_t count, exact_count;
    struct bus_range range[BUS_RANGES_MAX]; /* ascending by base, without overlap */
    struct bus_range exact[BUS_EXACT_MAX];  /* whole accesses only, before ranges */
};

struct bus {
    struct bus_table table[BUS_SPACES];
    uint64_t unclaimed;
};

static const char *space_name(enum bus_space space)
{
    return space == BUS_PIO ? "port" : "MMIO";
}

int bus_create(struct bus **out, struct error *err)
{
    *out = calloc(1, sizeof(**out));
    return *out ? 0 : error_set(err, -ENOMEM, "no memory for the buses");
}

void bus_destroy(struct bus *bus)
{
    free(bus);
}

static int range_check(enum bus_space space, uint64_t base, uint64_t length, const char *name,
                       struct error *err)
{
    uint64_t last = base + length - 1;

    if (length == 0 || last < base || (space == BUS_PIO && last > UINT16_MAX))
        return error_set(err, -EINVAL,
                         "device %s: %s range 0x%" PRIx64 " + 0x%" PRIx64 " is empty or too large",
                         name, space_name(space), base, length);
    return 0;
}

int bus_add(struct bus *bus, enum bus_space space, uint64_t base, uint64_t length,
            const struct bus_ops *ops, void *dev, const char *name, struct error *err)
{
    struct bus_table *table = &bus->table[space];
    int rc = range_check(space, base, length, name, err);
    uint64_t last = base + length - 1;
    size_t at = 0;

    if (rc < 0)
        return rc;
    if (table->count == BUS_RANGES_MAX)
        return error_set(err, -ENOSPC, "device %s: all %d %s ranges are taken", name,
                         BUS_RANGES_MAX, space_name(space));
    while (at < table->count && table->range[at].last < base)
        at++;
    if (at < table->count && table->range[at].base <= last)
        return error_set(err, -EEXIST,
                         "device %s: %s range 0x%" PRIx64 "-0x%" PRIx64 " overlaps device %s at "
                         "0x%" PRIx64 "-0x%" PRIx64,
                         name, space_name(space), base, last, table->range[at].name,
                         table->range[at].base, table->range[at].last);
    memmove(&table->range[at + 1], &table->range[at],
            (table->count - at) * sizeof(table->range[0]));
    table->range[at] =
        (struct bus_range){ .base = base, .last = last, .ops = ops, .dev = dev, .name = name };
    table->count++;
    return 0;
}

int bus_add_exact(struct bus *bus, enum bus_space space, uint64_t addr, unsigned size,
                  const struct bus_ops *ops, void *dev, const char *name, struct error *err)
{
    struct bus_table *table = &bus->table[space];
    int rc = range_check(space, addr, size, name, err);

    if (rc < 0)
        return rc;
    for (size_t i = 0; i < table->exact_count; i++)
        if (table->exact[i].base == addr && table->exact[i].last == addr + size - 1)
            return error_set(err, -EEXIST,
                             "device %s: %s 0x%" PRIx64 " of %u bytes is taken by device %s", name,
                             space_name(space), addr, size, table->exact[i].name);
    if (table->exact_count == BUS_EXACT_MAX)
        return error_set(err, -ENOSPC, "device %s: all %d single %s registers are taken", name,
                         BUS_EXACT_MAX, space_name(space));
    table->exact[table->exact_count++] = (struct bus_range){
        .base = addr, .last = addr + size - 1, .ops = ops, .dev = dev, .name = name
    };
    return 0;
}

/* The range that holds all of [addr, addr + size), or NULL. */
static struct bus_range *range_find(struct bus *bus, enum bus_space space, uint64_t addr,
                                    unsigned size)
{
    struct bus_table *table = &bus->table[space];
    size_t low = 0, high = table->count;

    for (size_t i = 0; i < table->exact_count; i++)
        if (table->exact[i].base == addr && table->exact[i].last - addr == size - 1)
            return &table->exact[i];
    while (low < high) {
        size_t mid = (low + high) / 2;

        if (table->range[mid].last < addr)
            low = mid + 1;
        else
            high = mid;
    }
    if (low == table->count || table->range[low].base > addr ||
        table->range[low].last - addr < size - 1)
        return NULL;
    return &table->range[low];
}

static void count(uint64_t *counter)
{
    (void)__atomic_fetch_add(counter, 1, __ATOMIC_RELAXED);
}

static uint64_t size_mask(unsigned size)
{
    return size >= 8 ? UINT64_MAX : (UINT64_C(1) << (size * 8)) - 1;
}

bool bus_read(struct bus *bus, enum bus_space space, uint64_t addr, unsigned size, uint64_t *value)
{
    struct bus_range *range = range_find(bus, space, addr, size);

    *value = size_mask(size);
    if (!range) {
        count(&bus->unclaimed);
        return false;
    }
    count(&range->reads);
    if (range->ops->read)
        *value &= range->ops->read(range->dev, addr - range->base, size);
    return true;
}

bool bus_write(struct bus *bus, enum bus_space space, uint64_t addr, unsigned size, uint64_t value)
{
    struct bus_range *range = range_find(bus, space, addr, size);

    if (!range) {
        count(&bus->unclaimed);
        return false;
    }
    count(&range->writes);
    if (range->ops->write)
        range->ops->write(range->dev, addr - range->base, size, value & size_mask(size));
    return true;
}

size_t bus_stats(const struct bus *bus, struct bus_range_stat *out, size_t max)
{
    size_t total = 0;

    for (int space = 0; space < BUS_SPACES; space++) {
        const struct bus_table *table = &bus->table[space];

        for (size_t i = 0; i < table->count + table->exact_count; i++, total++) {
            const struct bus_range *range =
                i < table->count ? &table->range[i] : &table->exact[i - table->count];

            if (total >= max)
                continue;
            out[total] = (struct bus_range_stat){
                .name = range->name,
                .space = (enum bus_space)space,
                .base = range->base,
                .length = range->last - range->base + 1,
                .reads = __atomic_load_n(&range->reads, __ATOMIC_RELAXED),
                .writes = __atomic_load_n(&range->writes, __ATOMIC_RELAXED),
            };
        }
    }
    return total;
}

uint64_t bus_unclaimed(const struct bus *bus)
{
    return __atomic_load_n(&bus->unclaimed, __ATOMIC_RELAXED);
}
