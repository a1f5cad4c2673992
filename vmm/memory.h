/*
 * Guest memory. The slots are the single truth of what a guest can reach, and
 * memory_at() is the one gate through which the monitor reaches it.
 */
#ifndef TWOFOLD_VMM_MEMORY_H
#define TWOFOLD_VMM_MEMORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ept/addr.h"
#include "vmm/error.h"

/* RAM that does not fit below the hole continues at 4 GiB. */
#define MEMORY_HOLE_START UINT64_C(0xc0000000)
#define MEMORY_HOLE_END   UINT64_C(0x100000000)

enum mem_backing {
    MEM_ANON,       /* anonymous, 4 KiB pages only */
    MEM_THP,        /* anonymous, transparent huge pages asked for */
    MEM_MEMFD,      /* memfd, shared */
    MEM_HUGETLB_2M, /* reserved 2 MiB pages */
    MEM_HUGETLB_1G, /* reserved 1 GiB pages */
};

/* A contiguous run of guest RAM. Host pages behind it belong to `struct memory`. */
struct mem_slot {
    gpa_t base;
    uint64_t size; /* bytes, a multiple of the backing's page size */
    uint8_t *host; /* hva of `base` */
    enum mem_backing backing;
    int fd;             /* the file behind it (memfd, hugetlb); -1: anonymous */
    uint64_t fd_offset; /* of `base` in it */
};

struct memory;

/* The command line's name of a backing; NULL when `b` is none. */
const char *mem_backing_name(enum mem_backing b);

/* Parses such a name. Returns 0, or -EINVAL with the names listed in `err`. */
int mem_backing_parse(const char *name, enum mem_backing *out, struct error *err);

/* Bytes of one page of this backing: the size that RAM must be a multiple of. */
uint64_t mem_backing_page(enum mem_backing b);

/*
 * Reserves `bytes` of guest RAM, split around the hole. Nothing is touched, so
 * a fresh guest reads zeros. hugetlb backings are reserved at once and fail
 * here, with the number of missing pages, rather than by SIGBUS later.
 * On success *out is owned by the caller; free it with memory_destroy().
 */
int memory_create(struct memory **out, uint64_t bytes, enum mem_backing backing, struct error *err);
void memory_destroy(struct memory *mem);

/* Tells KVM of every slot (KVM_SET_USER_MEMORY_REGION). Returns 0 or -errno. */
int memory_register(struct memory *mem, int vm_fd, struct error *err);

/* Takes every slot away from KVM again; no vCPU may run. Never fails. */
void memory_unregister(struct memory *mem, int vm_fd);

/*
 * Has KVM log which pages the guest writes (KVM_MEM_LOG_DIRTY_PAGES on every slot), or no longer;
 * also while vCPUs run. As long as it is on, KVM maps nothing larger than 4 KiB for writing. 0 or
 * -errno; then nothing is logged.
 */
int memory_log_dirty(struct memory *mem, int vm_fd, bool on, struct error *err);

/*
 * Where the monitor's own writes are noted: a bit for each 4 KiB, atomically, in the order of
 * hva, from the first slot's first byte (RAM is one range there); NULL: nowhere. The bitmap has to
 * stay until memory_destroy() or until no thread writes guest memory any more.
 */
void memory_note_writes(struct memory *mem, uint64_t *bitmap);

/* Notes a write that was made through a pointer of memory_at(); memory_write() does so itself. */
void memory_wrote(const struct memory *mem, gpa_t at, uint64_t len);

/* The slots in ascending order of gpa; *count receives how many. */
const struct mem_slot *memory_slots(const struct memory *mem, size_t *count);

/* Bytes of RAM from `at` on without a gap, at most `len`, guarded or not: 0 when there is none. */
uint64_t memory_run(const struct memory *mem, gpa_t at, uint64_t len);

/* The file behind all slots (memfd, hugetlb); -1: anonymous memory. */
int memory_file(const struct memory *mem);

/* Bytes of RAM in all slots together. */
uint64_t memory_size(const struct memory *mem);

/*
 * The gate: the hva of [at, at + len) when all of it lies in one slot and none of it is guarded,
 * else NULL. len 0 is NULL. The pointer is valid until memory_destroy(), and for access until the
 * vCPUs stand still for a guard. What lies behind it is written by the guest at any time: read each
 * value once.
 */
void *memory_at(const struct memory *mem, gpa_t at, uint64_t len);

/* Copies through the gate; may cross slots that touch. 0, or -EFAULT with nothing copied. */
int memory_read(const struct memory *mem, gpa_t at, void *buf, uint64_t len);
int memory_write(const struct memory *mem, gpa_t at, const void *buf, uint64_t len);

/*
 * Closes (or opens again) the gate for [at, at + len), which is RAM and aligned to 4 KiB. Ranges
 * that touch become one. Only while nobody holds a pointer into it: the vCPUs stand still and the
 * caller is the I/O thread. 0, or -ENOSPC: no room for more separate ranges.
 */
int memory_guard(struct memory *mem, gpa_t at, uint64_t len, bool guarded);

/* True when some byte of [at, at + len) is guarded. Costs one load while nothing is. */
bool memory_guarded(const struct memory *mem, gpa_t at, uint64_t len);

/* The guarded ranges in ascending order: the n-th, or false when there is none. */
bool memory_guard_range(const struct memory *mem, size_t n, gpa_t *at, uint64_t *len);

/*
 * Pins a slot: a device reaches its pages by their frames (VFIO), so that none of them may be
 * moved, discarded or protected until it is unpinned as often. -EINVAL: `at` is no RAM.
 */
int memory_pin(struct memory *mem, gpa_t at);
int memory_unpin(struct memory *mem, gpa_t at);

/* True when some slot that [at, at + len) meets is pinned. */
bool memory_pinned(const struct memory *mem, gpa_t at, uint64_t len);

#endif
