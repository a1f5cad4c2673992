/*
 * KVM's interrupt routes: which GSI goes to which pin, or is which message. KVM takes the table as
 * a whole, so that one place keeps it: what KVM_CREATE_IRQCHIP made, and the messages of devices
 * whose interrupts come by irqfd.
 */
#ifndef TWOFOLD_VMM_IRQ_ROUTES_H
#define TWOFOLD_VMM_IRQ_ROUTES_H

#include <linux/kvm.h>

#include "vmm/error.h"
#include "vmm/pci.h"

#define IRQ_ROUTES_PINS 24 /* of the I/O APIC; GSIs of messages come after them */

struct irq_routes;

/*
 * Nothing is told to KVM until a message is set. `max` is what KVM_CAP_IRQ_ROUTING says; `apply`
 * hands a table to KVM (irq_routes_kvm(), with a pointer to the VM's descriptor as ctx) and returns
 * 0 or -errno. -ENOMEM.
 */
int irq_routes_create(struct irq_routes **out, unsigned max,
                      int (*apply)(void *ctx, const struct kvm_irq_routing *table), void *ctx,
                      struct error *err);
void irq_routes_destroy(struct irq_routes *r);
int irq_routes_kvm(void *vm_fd, const struct kvm_irq_routing *table);

/* A GSI of the caller's own, without a route yet; -ENOSPC when all are taken. */
int irq_routes_take(struct irq_routes *r, unsigned *gsi, struct error *err);

/* Makes the GSI the message. KVM isn't asked when it is that already. 0 or -errno; then the old
 * route stays. Any thread. */
int irq_routes_set(struct irq_routes *r, unsigned gsi, const struct msi_message *message);

#endif
