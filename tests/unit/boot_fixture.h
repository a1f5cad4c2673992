/*
 * What the tests of the loader share: a VM's memory, a folder for files, and one call
 * to boot_load().
 */
#ifndef TWOFOLD_TESTS_UNIT_BOOT_FIXTURE_H
#define TWOFOLD_TESTS_UNIT_BOOT_FIXTURE_H

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/boot.h"

#include "tests/unit/image.h"

#define RSDP 0xe0000u

struct fixture {
    struct memory *mem;
    char dir[32];
    char kernel[64], initrd[64];
    struct image img;
    struct boot_entry entry;
    struct error err;
};

/* Memory of `mib` MiB and an empty folder; for cmocka's set-up. 0 or -1. */
int fixture_start(struct fixture *f, unsigned mib);
void fixture_stop(struct fixture *f);

/* Writes `size` bytes to `path`, and leaves it `length` bytes long. */
void fixture_file(const char *path, const void *bytes, size_t size, uint64_t length);

/* Writes f->img to f->kernel and loads it. `initrd` may be NULL. */
int fixture_load(struct fixture *f, const char *initrd, const char *cmdline);

/* Values from the guest's memory, which must be RAM. */
uint8_t fixture_u8(const struct fixture *f, uint64_t at);
uint32_t fixture_u32(const struct fixture *f, uint64_t at);
uint64_t fixture_u64(const struct fixture *f, uint64_t at);
const char *fixture_text(const struct fixture *f, uint64_t at);

#endif
