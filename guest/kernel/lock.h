/*
 * Spinlocks: test and set, with PAUSE while waiting. The kernel's C code has interrupts off
 * always (cpu_idle() in cpu.h), so a lock's holder is never interrupted.
 */
#ifndef GUEST_KERNEL_LOCK_H
#define GUEST_KERNEL_LOCK_H

#include <stdbool.h>
#include <stdint.h>

struct lock {
    uint32_t held; /* zero: free, so a zeroed struct is an unlocked lock */
};

static inline bool lock_try(struct lock *l)
{
    return __atomic_exchange_n(&l->held, 1, __ATOMIC_ACQUIRE) == 0;
}

/* The slow part of lock_acquire(): spins, and serves TLB shootdowns meanwhile. */
void lock_wait(struct lock *l);

static inline void lock_acquire(struct lock *l)
{
    if (!lock_try(l))
        lock_wait(l);
}

static inline void lock_release(struct lock *l)
{
    __atomic_store_n(&l->held, 0, __ATOMIC_RELEASE);
}

#endif
