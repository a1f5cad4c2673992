/* Waiting for a lock that somebody else has. */
#include "guest/kernel/lock.h"

#include "guest/kernel/cpu.h"
#include "guest/kernel/mm.h"

/*
 * The holder may be waiting for this CPU to flush its TLB, as interrupts are off
 * here: so whoever waits serves shootdowns.
 */
void lock_wait(struct lock *l)
{
    do {
        while (__atomic_load_n(&l->held, __ATOMIC_RELAXED)) {
            cpu_relax();
            tlb_poll();
        }
    } while (!lock_try(l));
}
