/*
 * The monitor's end of TF_PORT_CONSOLE (guest/abi.h).
 */
#include "vmm/devices.h"

#include <errno.h>
#include <stdlib.h>

#include "guest/abi.h"

struct pv_port {
    struct memory *mem;
    struct console *con;
};

/*
 * The descriptor is copied before it is looked at: another vCPU may change it at any
 * time. What is behind `bytes` may change too, but only the guest's own text does.
 */
static void pv_port_write(void *dev, uint64_t offset, unsigned size, uint64_t value)
{
    struct pv_port *p = dev;
    struct tf_console desc;
    const void *bytes;

    (void)offset;
    if (size != 4 || value % 8)
        return;
    if (memory_read(p->mem, gpa(value), &desc, sizeof(desc)) < 0)
        return;
    if (desc.len == 0 || desc.len > TF_CONSOLE_MAX)
        return;
    bytes = memory_at(p->mem, gpa(desc.gpa), desc.len);
    if (bytes)
        console_write(p->con, bytes, desc.len);
}

static const struct bus_ops pv_port_ops = {
    .write = pv_port_write,
};

int pv_port_create(struct pv_port **out, struct bus *bus, struct memory *mem, struct console *con,
                   struct error *err)
{
    struct pv_port *p = calloc(1, sizeof(*p));
    int rc;

    if (!p)
        return error_set(err, -ENOMEM, "paravirtual console: out of memory");
    p->mem = mem;
    p->con = con;
    rc = bus_add(bus, BUS_PIO, TF_PORT_CONSOLE, 4, &pv_port_ops, p, "pv-console", err);
    if (rc < 0) {
        free(p);
        return rc;
    }
    *out = p;
    return 0;
}

void pv_port_destroy(struct pv_port *p)
{
    free(p);
}
