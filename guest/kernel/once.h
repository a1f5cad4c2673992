/*
 * Set-up that the first user does, and that may sleep meanwhile; the others wait for it.
 */
#ifndef GUEST_KERNEL_ONCE_H
#define GUEST_KERNEL_ONCE_H

#include <stdbool.h>

#include "guest/kernel/lock.h"
#include "guest/kernel/sched.h"

#define ONCE_LOOK_NS 1000000u

struct once {
    struct lock lock;
    enum { ONCE_NEW, ONCE_RUNNING, ONCE_DONE } state;
};

/* True for the one that has to do it, and to call once_done() then; false once it was done. */
static inline bool once_begin(struct once *o)
{
    bool mine;

    if (__atomic_load_n(&o->state, __ATOMIC_ACQUIRE) == ONCE_DONE)
        return false;
    lock_acquire(&o->lock);
    while (o->state == ONCE_RUNNING) {
        sched_wait(&o->lock, ONCE_LOOK_NS);
        lock_acquire(&o->lock);
    }
    mine = o->state == ONCE_NEW;
    if (mine)
        o->state = ONCE_RUNNING;
    lock_release(&o->lock);
    return mine;
}

static inline void once_done(struct once *o)
{
    lock_acquire(&o->lock);
    __atomic_store_n(&o->state, ONCE_DONE, __ATOMIC_RELEASE);
    lock_release(&o->lock);
}

#endif
