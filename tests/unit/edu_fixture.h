/*
 * The DMA test device on a made bus. The I/O loop runs on a thread of its own, as in a VM; waiting
 * is by asking the device.
 */
#ifndef TWOFOLD_TESTS_EDU_FIXTURE_H
#define TWOFOLD_TESTS_EDU_FIXTURE_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "iommu/iommu.h"
#include "vmm/edu.h"

#define RAM   (UINT64_C(4) << 20)
#define PAGE  4096u
#define DEVFN PCI_DEVFN(1, 0)
#define MSI   UINT64_C(0xfee00000)

struct rig {
    struct bus *bus;
    struct pci *pci;
    struct io_loop *loop;
    pthread_t thread;
    struct memory *mem;
    struct iommu *iommu;
    struct edu *edu;
    uint64_t regs, own; /* addresses of the BARs */
    unsigned messages;  /* atomic */
    struct msi_message message;
    int level; /* of the INTx line, atomic */
};

/* Config space, by ECAM; registers (BAR 0), by the bus. */
uint32_t rig_config_read(struct rig *r, unsigned offset);
void rig_config_write(struct rig *r, unsigned offset, unsigned size, uint32_t value);
uint64_t rig_get(struct rig *r, uint64_t reg, unsigned size);
void rig_set(struct rig *r, uint64_t reg, unsigned size, uint64_t value);

/* MSIs so far; and turns them on, with data 0x31. */
unsigned rig_messages(struct rig *r);
void rig_msi_on(struct rig *r);

/* Bus, device, memory, and the I/O thread; with `iommu` behind one, in its domain 1, which is
 * empty. */
void rig_make(struct rig *r, bool iommu);
void rig_free(struct rig *r);

/* Until the transfer is over: its result. */
uint64_t rig_await(struct rig *r);

/* Starts one, or does one. */
void rig_start(struct rig *r, uint64_t from, uint64_t to, uint64_t len, uint64_t command);
uint64_t rig_from_memory(struct rig *r, uint64_t at, uint64_t device, uint64_t len);
uint64_t rig_to_memory(struct rig *r, uint64_t device, uint64_t at, uint64_t len);

/* Fills guest memory with bytes that differ; a pointer to what is at `at`. */
void rig_fill(struct rig *r, uint64_t at, uint64_t len, unsigned seed);
uint8_t *rig_ram(struct rig *r, uint64_t at);

#endif
