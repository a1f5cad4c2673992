/*
 * Spinlocks: test and set, with PAUSE while waiting. A lock that an interrupt
 * handler may take is taken with lock_irqsave() everywhere.
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

/* Disables interrupts and gives the RFLAGS from before. */
static inline uint64_t irq_save(void)
{
    uint64_t flags;

    __asm__ volatile("pushfq; popq %0; cli" : "=r"(flags)::"memory");
    return flags;
}

/* Enables interrupts again if they were on when `flags` was saved. */
static inline void irq_restore(uint64_t flags)
{
    if (flags & 0x200)
        __asm__ volatile("sti" ::: "memory");
}

/* Takes the lock with interrupts off; returns what lock_irqrestore() wants. */
static inline uint64_t lock_irqsave(struct lock *l)
{
    uint64_t flags = irq_save();

    lock_acquire(l);
    return flags;
}

static inline void lock_irqrestore(struct lock *l, uint64_t flags)
{
    lock_release(l);
    irq_restore(flags);
}

#endif
