#include "vmm/irq_routes.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/ioctl.h>

#define PIC_PINS  16 /* of both 8259s */
#define FIXED_MAX (IRQ_ROUTES_PINS + PIC_PINS)

struct irq_routes {
    pthread_mutex_t lock;
    int (*apply)(void *ctx, const struct kvm_irq_routing *table);
    void *ctx;
    unsigned max;   /* GSIs and routes that KVM takes */
    unsigned taken; /* GSIs of messages; the n-th is IRQ_ROUTES_PINS + n */
    unsigned room;  /* entries that `table` has room for */
    struct kvm_irq_routing *table;
};

/* As KVM makes them for its interrupt controllers: an ISA interrupt is a pin of an 8259, and each
 * GSI is the I/O APIC's pin of that number. */
static void fixed_fill(struct kvm_irq_routing *table)
{
    for (unsigned gsi = 0; gsi < IRQ_ROUTES_PINS; gsi++) {
        struct kvm_irq_routing_entry *e = &table->entries[table->nr++];

        *e = (struct kvm_irq_routing_entry){ .gsi = gsi, .type = KVM_IRQ_ROUTING_IRQCHIP };
        e->u.irqchip.irqchip = KVM_IRQCHIP_IOAPIC;
        e->u.irqchip.pin = gsi;
        if (gsi >= PIC_PINS)
            continue;
        e = &table->entries[table->nr++];
        *e = (struct kvm_irq_routing_entry){ .gsi = gsi, .type = KVM_IRQ_ROUTING_IRQCHIP };
        e->u.irqchip.irqchip = gsi < 8 ? KVM_IRQCHIP_PIC_MASTER : KVM_IRQCHIP_PIC_SLAVE;
        e->u.irqchip.pin = gsi % 8;
    }
}

int irq_routes_create(struct irq_routes **out, unsigned max,
                      int (*apply)(void *ctx, const struct kvm_irq_routing *table), void *ctx,
                      struct error *err)
{
    struct irq_routes *r = calloc(1, sizeof(*r));

    *out = NULL;
    if (r)
        r->table = calloc(1, sizeof(*r->table) + FIXED_MAX * sizeof(r->table->entries[0]));
    if (!r || !r->table) {
        free(r);
        return error_set(err, -ENOMEM, "no memory for interrupt routes");
    }
    (void)pthread_mutex_init(&r->lock, NULL);
    r->apply = apply;
    r->ctx = ctx;
    r->max = max;
    r->room = FIXED_MAX;
    fixed_fill(r->table);
    *out = r;
    return 0;
}

void irq_routes_destroy(struct irq_routes *r)
{
    if (!r)
        return;
    (void)pthread_mutex_destroy(&r->lock);
    free(r->table);
    free(r);
}

int irq_routes_kvm(void *vm_fd, const struct kvm_irq_routing *table)
{
    return ioctl(*(int *)vm_fd, KVM_SET_GSI_ROUTING, table) < 0 ? -errno : 0;
}

int irq_routes_take(struct irq_routes *r, unsigned *gsi, struct error *err)
{
    struct kvm_irq_routing *grown = NULL;
    int rc = 0;

    (void)pthread_mutex_lock(&r->lock);
    if (FIXED_MAX + r->taken >= r->max)
        rc = error_set(err, -ENOSPC, "all %u interrupt routes of KVM are taken", r->max);
    if (rc == 0 && FIXED_MAX + r->taken == r->room) {
        grown = realloc(r->table, sizeof(*grown) + 2 * r->room * sizeof(grown->entries[0]));
        if (grown) {
            r->table = grown;
            r->room *= 2;
        } else {
            rc = error_set(err, -ENOMEM, "no memory for interrupt routes");
        }
    }
    if (rc == 0)
        *gsi = IRQ_ROUTES_PINS + r->taken++;
    (void)pthread_mutex_unlock(&r->lock);
    return rc;
}

/* The route of a message's GSI, or where a new one goes: the end. */
static struct kvm_irq_routing_entry *entry_of(struct irq_routes *r, unsigned gsi)
{
    unsigned i = FIXED_MAX;

    while (i < r->table->nr && r->table->entries[i].gsi != gsi)
        i++;
    return &r->table->entries[i];
}

static bool same_message(const struct kvm_irq_routing_entry *a,
                         const struct kvm_irq_routing_entry *b)
{
    return a->u.msi.address_lo == b->u.msi.address_lo &&
           a->u.msi.address_hi == b->u.msi.address_hi && a->u.msi.data == b->u.msi.data;
}

int irq_routes_set(struct irq_routes *r, unsigned gsi, const struct msi_message *message)
{
    struct kvm_irq_routing_entry *e, old = { 0 }, new = { .gsi = gsi, .type = KVM_IRQ_ROUTING_MSI };
    bool added;
    int rc = 0;

    new.u.msi.address_lo = (uint32_t)message->address;
    new.u.msi.address_hi = (uint32_t)(message->address >> 32);
    new.u.msi.data = message->data;
    (void)pthread_mutex_lock(&r->lock);
    e = entry_of(r, gsi);
    added = e == &r->table->entries[r->table->nr];
    if (!added)
        old = *e;
    if (added || !same_message(&old, &new)) {
        *e = new;
        r->table->nr += added;
        rc = r->apply(r->ctx, r->table);
        if (rc < 0) {
            *e = old;
            r->table->nr -= added;
        }
    }
    (void)pthread_mutex_unlock(&r->lock);
    return rc;
}
