#include "vmm/devices.h"

#include "guest/abi.h"

#define DEBUG_EXIT_PORTS 4

static void debug_exit_write(void *dev, uint64_t offset, unsigned size, uint64_t value)
{
    struct end_hook *hook = dev;

    (void)offset;
    (void)size;
    hook->end(hook->ctx, VM_END_EXIT, (uint32_t)value, NULL);
}

static const struct bus_ops debug_exit_ops = {
    .write = debug_exit_write,
};

int debug_exit_create(struct bus *bus, struct end_hook *hook, struct error *err)
{
    return bus_add(bus, BUS_PIO, TF_PORT_EXIT, DEBUG_EXIT_PORTS, &debug_exit_ops, hook,
                   "debug-exit", err);
}
