/*
 * The guest's end of the mailbox (guest/abi.h): tells the monitor of the processes, and serves what
 * it asks for. Where no monitor listens, all of it does nothing.
 */
#ifndef GUEST_KERNEL_MAILBOX_H
#define GUEST_KERNEL_MAILBOX_H

#include <stdint.h>

/* Offers the mailbox; after pmm_init() and apic_init(), on CPU 0, before the first process. */
void mailbox_init(void);

/* Its interrupt. */
void mailbox_irq(void);

/*
 * Enters a process into the table that the monitor sees; its place there, for the other two, or -1
 * when there is no table, or no room in it. Which the others take, too.
 */
int mailbox_add(int pid, uint64_t root, const char *name);
void mailbox_change(int place, uint64_t root, const char *name); /* after an exec */
void mailbox_remove(int place);

#endif
