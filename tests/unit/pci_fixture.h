/* A PCI bus without a VM: lines and messages are recorded, and so is what devices are told. */
#ifndef TESTS_UNIT_PCI_FIXTURE_H
#define TESTS_UNIT_PCI_FIXTURE_H

#include "vmm/devices.h"
#include "vmm/pci.h"

#define WIDE_BASE UINT64_C(0x4000000000)
#define WIDE_SIZE UINT64_C(0x4000000000)
#define MESSAGES  16

/* A made-up function: answers reads with `answer`, remembers its last access and callbacks. */
struct toy {
    struct pci_function f;
    uint64_t answer, offset, value;
    unsigned bar, size, reads, writes;
    unsigned placed, placed_bar;
    unsigned config_writes, config_reads, config_offset, config_size;
    unsigned vectors_changed, vector;
};

extern struct pci_world {
    struct bus *bus;
    struct platform *platform;
    struct end_hook hook;
    unsigned ends;
    struct pci *pci;
    int level[24];
    unsigned line_changes;
    struct msi_message message[MESSAGES];
    unsigned messages;
} world;

extern const struct pci_ops toy_ops;

/* cmocka's setup and teardown. */
int world_start(void **state);
int world_stop(void **state);

/* The header of a toy with this device number in its id; BARs and the rest are the test's. */
void toy_init(struct toy *t, uint16_t device);
void toy_add(struct toy *t, int devfn);

/* Accesses as a guest makes them. */
uint64_t mmio_read(uint64_t addr, unsigned size);
void mmio_write(uint64_t addr, unsigned size, uint64_t value);
uint64_t port_read(uint64_t port, unsigned size);
void port_write(uint64_t port, unsigned size, uint64_t value);
uint64_t ecam_read(const struct toy *t, unsigned offset, unsigned size);
void ecam_write(const struct toy *t, unsigned offset, unsigned size, uint64_t value);

#endif
