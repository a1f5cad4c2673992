/*
 * userfaultfd: faults of ranges of our own memory come as messages to a thread of ours, which
 * installs the pages. A thin wrapper; who decides what to install is vmm/pages*.c.
 */
#ifndef TWOFOLD_VMM_UFFD_H
#define TWOFOLD_VMM_UFFD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/error.h"
#include "vmm/uapi.h"

struct uffd {
    int fd;            /* -1: not open */
    uint64_t features; /* UFFD_FEATURE_... that the kernel has and we asked for */
};

/* Opens one that serves faults of the kernel too (KVM's and of system calls), blocking reads, all
 * of `wanted` that this kernel has. The error says what is missing. */
int uffd_open(struct uffd *u, uint64_t wanted, struct error *err);
void uffd_close(struct uffd *u);

/* Registers [at, at + len) with UFFDIO_REGISTER_MODE_...; 0 or -errno. */
int uffd_register(const struct uffd *u, void *at, uint64_t len, uint64_t modes);

/* Unregisters, and wakes who waits there: they get what the kernel gives. */
int uffd_unregister(const struct uffd *u, void *at, uint64_t len);

/*
 * The ioctls that install pages, and wake who waits for them. They give the bytes installed from
 * the start in *done also when they fail; -EAGAIN with *done = 0 (the kernel is changing the
 * mapping) is tried again inside. -EEXIST: the page at `to + *done` is there already, and nobody
 * was woken for it.
 */
int uffd_copy(const struct uffd *u, void *to, const void *from, uint64_t len, uint64_t *done);
int uffd_zeropage(const struct uffd *u, void *at, uint64_t len, uint64_t *done);
int uffd_continue(const struct uffd *u, void *at, uint64_t len, uint64_t *done);
int uffd_move(const struct uffd *u, void *to, void *from, uint64_t len, uint64_t *done);

/* Sets or removes write protection; removing wakes. */
int uffd_write_protect(const struct uffd *u, void *at, uint64_t len, bool protect);

int uffd_wake(const struct uffd *u, void *at, uint64_t len);

/* Waits for messages, at least one: their number, or -errno. */
int uffd_read(const struct uffd *u, struct uffd_msg *out, size_t max);

#endif
