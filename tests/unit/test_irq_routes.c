/* Interrupt routes: what KVM made stays as it was, and messages come and change beside it. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "vmm/irq_routes.h"

/* KVM, as far as routes go: it takes whole tables. */
struct kvm {
    unsigned calls, nr;
    int answer;
    struct kvm_irq_routing_entry entry[256];
};

static int apply(void *ctx, const struct kvm_irq_routing *table)
{
    struct kvm *kvm = ctx;

    kvm->calls++;
    if (kvm->answer < 0)
        return kvm->answer;
    assert_true(table->nr <= 256);
    kvm->nr = table->nr;
    memcpy(kvm->entry, table->entries, table->nr * sizeof(kvm->entry[0]));
    return 0;
}

static struct irq_routes *make(struct kvm *kvm, unsigned max)
{
    struct irq_routes *r = NULL;

    *kvm = (struct kvm){ 0 };
    assert_int_equal(irq_routes_create(&r, max, apply, kvm, NULL), 0);
    return r;
}

static unsigned take(struct irq_routes *r)
{
    unsigned gsi = 0;

    assert_int_equal(irq_routes_take(r, &gsi, NULL), 0);
    return gsi;
}

/* The pins that a GSI goes to on a chip: a mask. */
static uint32_t pins(const struct kvm *kvm, unsigned gsi, unsigned chip)
{
    uint32_t mask = 0;

    for (unsigned i = 0; i < kvm->nr; i++)
        if (kvm->entry[i].gsi == gsi && kvm->entry[i].type == KVM_IRQ_ROUTING_IRQCHIP &&
            kvm->entry[i].u.irqchip.irqchip == chip)
            mask |= 1u << kvm->entry[i].u.irqchip.pin;
    return mask;
}

static const struct kvm_irq_routing_entry *message_of(const struct kvm *kvm, unsigned gsi)
{
    const struct kvm_irq_routing_entry *found = NULL;

    for (unsigned i = 0; i < kvm->nr; i++) {
        if (kvm->entry[i].gsi == gsi && kvm->entry[i].type == KVM_IRQ_ROUTING_MSI) {
            assert_null(found);
            found = &kvm->entry[i];
        }
    }
    return found;
}

/* A PC: interrupts 0-7 and 8-15 on the two 8259s, all 24 on the I/O APIC, and 0 on its pin 0. */
static void test_pins_stay(void **state)
{
    const struct msi_message m = { .address = 0xfee00000, .data = 0x30 };
    struct kvm kvm;
    struct irq_routes *r = make(&kvm, 4096);

    (void)state;
    assert_int_equal(kvm.calls, 0);
    assert_int_equal(irq_routes_set(r, take(r), &m), 0);
    assert_int_equal(kvm.nr, 24 + 16 + 1);
    for (unsigned gsi = 0; gsi < 24; gsi++) {
        assert_int_equal(pins(&kvm, gsi, KVM_IRQCHIP_IOAPIC), 1u << gsi);
        assert_int_equal(pins(&kvm, gsi, KVM_IRQCHIP_PIC_MASTER), gsi < 8 ? 1u << gsi : 0);
        assert_int_equal(pins(&kvm, gsi, KVM_IRQCHIP_PIC_SLAVE),
                         gsi >= 8 && gsi < 16 ? 1u << (gsi - 8) : 0);
    }
    irq_routes_destroy(r);
}

static void test_messages(void **state)
{
    struct kvm kvm;
    struct irq_routes *r = make(&kvm, 4096);
    unsigned gsi[100];

    (void)state;
    for (unsigned i = 0; i < 100; i++) {
        gsi[i] = take(r);
        assert_int_equal(gsi[i], 24 + i);
    }
    /* Backwards, and each one twice: the second time is no news. */
    for (unsigned i = 100; i-- > 0;) {
        const struct msi_message m = { .address = 0x1fee00000 + i * 4096, .data = i };

        assert_int_equal(irq_routes_set(r, gsi[i], &m), 0);
        assert_int_equal(irq_routes_set(r, gsi[i], &m), 0);
    }
    assert_int_equal(kvm.calls, 100);
    assert_int_equal(kvm.nr, 40 + 100);
    for (unsigned i = 0; i < 100; i++) {
        const struct kvm_irq_routing_entry *e = message_of(&kvm, gsi[i]);

        assert_non_null(e);
        assert_int_equal(e->u.msi.address_lo, 0xfee00000 + i * 4096);
        assert_int_equal(e->u.msi.address_hi, 1);
        assert_int_equal(e->u.msi.data, i);
    }
    irq_routes_destroy(r);
}

/* What KVM refused is not believed to be there. */
static void test_refused(void **state)
{
    const struct msi_message first = { .address = 0xfee00000, .data = 1 };
    const struct msi_message second = { .address = 0xfee00000, .data = 2 };
    struct kvm kvm;
    struct irq_routes *r = make(&kvm, 4096);
    unsigned gsi = take(r);

    (void)state;
    kvm.answer = -EINVAL;
    assert_int_equal(irq_routes_set(r, gsi, &first), -EINVAL);
    kvm.answer = 0;
    assert_int_equal(irq_routes_set(r, gsi, &first), 0);
    assert_int_equal(message_of(&kvm, gsi)->u.msi.data, 1);
    kvm.answer = -ENOMEM;
    assert_int_equal(irq_routes_set(r, gsi, &second), -ENOMEM);
    kvm.answer = 0;
    assert_int_equal(irq_routes_set(r, gsi, &second), 0);
    assert_int_equal(message_of(&kvm, gsi)->u.msi.data, 2);
    assert_int_equal(kvm.nr, 41);
    irq_routes_destroy(r);
}

static void test_full(void **state)
{
    struct error err = { .text = "" };
    struct kvm kvm;
    struct irq_routes *r = make(&kvm, 42);
    unsigned gsi;

    (void)state;
    (void)take(r);
    (void)take(r);
    assert_int_equal(irq_routes_take(r, &gsi, &err), -ENOSPC);
    assert_non_null(strstr(err.text, "42"));
    irq_routes_destroy(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pins_stay),
        cmocka_unit_test(test_messages),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_full),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
