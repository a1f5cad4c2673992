/* Vectors of a passed-through device, on a VFIO that has few of them. */
#include <errno.h>
#include <linux/kvm.h>
#include <linux/vfio.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>

#include <cmocka.h>

#include "tests/unit/pci_fixture.h"
#include "vmm/io_loop.h"
#include "vmm/vfio_impl.h"

#define COMMAND   0x04
#define MEMORY    2u
#define MASTER    4u
#define VECTORS   16
#define TABLE     0x800
#define PENDING   0x400
#define DEVICE_FD 1000 /* none that is open */
#define VM_FD     1001

/* VFIO and KVM, as far as eventfds go. */
static struct {
    unsigned have, given, calls, irqfds;
} kernel;

static struct vfio vfio;
static struct vfio_device dev;
static uint64_t bar;

static int set_irqs(const struct vfio_irq_set *set)
{
    kernel.calls++;
    if (set->flags & VFIO_IRQ_SET_DATA_NONE) {
        kernel.given = 0;
        return 0;
    }
    assert_int_equal(kernel.given, 0); /* none can be added */
    if (set->count > kernel.have) {    /* the number that there would be, if there are any */
        errno = ENOSPC;
        return kernel.have ? (int)kernel.have : -1;
    }
    kernel.given = set->count;
    return 0;
}

/* In the place of the C library's. */
int ioctl(int fd, unsigned long request, ...)
{
    va_list ap;
    void *arg;

    va_start(ap, request);
    arg = va_arg(ap, void *);
    va_end(ap);
    if (fd == DEVICE_FD && request == VFIO_DEVICE_SET_IRQS)
        return set_irqs(arg);
    if (fd == VM_FD && request == KVM_IRQFD) {
        bool gone = ((struct kvm_irqfd *)arg)->flags & KVM_IRQFD_FLAG_DEASSIGN;

        kernel.irqfds += gone ? -1u : 1u;
        return 0;
    }
    errno = ENOTTY;
    return -1;
}

static int apply(void *ctx, const struct kvm_irq_routing *table)
{
    (void)ctx;
    (void)table;
    return 0;
}

static const struct pci_ops ops = { .vectors_changed = vfio_irq_follow };

static int start(void **state)
{
    world_start(state);
    memset(&kernel, 0, sizeof(kernel));
    vfio = (struct vfio){ .host = { .pci = world.pci, .vm_fd = VM_FD } };
    dev = (struct vfio_device){ .vfio = &vfio, .fd = DEVICE_FD, .intx_fd = -1, .unmask_fd = -1 };
    if (io_loop_create(&vfio.host.loop, NULL) ||
        irq_routes_create(&vfio.routes, 256, apply, NULL, NULL))
        return -1;
    dev.f.ops = &ops;
    dev.f.dev = &dev;
    dev.f.name = "test";
    pci_header(&dev.f, 0x1234, 1, 0xff0000, 3, 0x1234, 1);
    pci_add_bar(&dev.f, 1, 0x2000, false, false, false);
    assert_int_equal(pci_add_msix(&dev.f, VECTORS, 1, TABLE, PENDING), 0);
    assert_int_equal(vfio_irq_create(&dev, NULL), 0);
    assert_int_equal(pci_add(world.pci, &dev.f, PCI_DEVFN(5, 0), NULL), 0);
    return 0;
}

static int stop(void **state)
{
    vfio_irq_destroy(&dev);
    assert_int_equal(kernel.irqfds, 0);
    pci_remove(&dev.f);
    irq_routes_destroy(vfio.routes);
    io_loop_destroy(vfio.host.loop);
    return world_stop(state);
}

static void config_write(unsigned offset, unsigned size, uint64_t value)
{
    struct toy t = { .f = dev.f }; /* where it is, for the fixture */

    ecam_write(&t, offset, size, value);
}

static void enable(unsigned have)
{
    struct toy t;

    kernel.have = have;
    config_write(COMMAND, 2, MEMORY | MASTER);
    t.f = dev.f;
    bar = ecam_read(&t, 0x14, 4);
    config_write(dev.f.msix_cap + 2, 2, 0x8000);
}

static void set_vector(unsigned vector, bool masked)
{
    mmio_write(bar + TABLE + 16 * vector, 8, 0xfee00000);
    mmio_write(bar + TABLE + 16 * vector + 8, 4, 0x4041);
    mmio_write(bar + TABLE + 16 * vector + 12, 4, masked);
}

static void as_many_as_there_are(void **state)
{
    unsigned calls;

    (void)state;
    enable(5);
    for (unsigned i = 0; i < 5; i++) {
        set_vector(i, false);
        assert_in_range(kernel.given, i + 1, 5);
        assert_int_equal(kernel.irqfds, i + 1);
    }
    /* The sixth isn't to be had: the five stay, and it is not tried again and again. */
    set_vector(5, false);
    assert_int_equal(kernel.given, 5);
    assert_int_equal(kernel.irqfds, 5);
    assert_true(dev.complained[PCI_MSIX] && !dev.complained[PCI_INTX]);
    calls = kernel.calls;
    set_vector(5, true);
    set_vector(5, false);
    assert_int_equal(kernel.calls, calls);
    assert_int_equal(kernel.given, 5);
    /* Off and on: all is tried anew. */
    config_write(dev.f.msix_cap + 2, 2, 0);
    assert_int_equal(kernel.given, 0);
    assert_int_equal(kernel.irqfds, 0);
    kernel.have = VECTORS;
    config_write(dev.f.msix_cap + 2, 2, 0x8000);
    assert_in_range(kernel.given, 6, VECTORS);
    assert_int_equal(kernel.irqfds, 6);
}

/* Those before the one that was unmasked are masked: what comes there becomes pending. */
static void all_are_followed(void **state)
{
    (void)state;
    enable(VECTORS);
    set_vector(9, false);
    assert_int_equal(kernel.given, 10);
    for (unsigned i = 0; i < 10; i++) {
        assert_int_equal(dev.vector[i].wired, i == 9);
        assert_int_equal(dev.vector[i].watched, i != 9);
    }
    set_vector(10, false); /* and some that were not asked for */
    for (unsigned i = 0; i < kernel.given; i++)
        assert_true(dev.vector[i].wired != dev.vector[i].watched);
}

static void none_at_all(void **state)
{
    (void)state;
    enable(0);
    set_vector(0, false);
    assert_int_equal(kernel.given, 0);
    assert_int_equal(kernel.irqfds, 0);
    assert_true(dev.complained[PCI_MSIX]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(as_many_as_there_are, start, stop),
        cmocka_unit_test_setup_teardown(all_are_followed, start, stop),
        cmocka_unit_test_setup_teardown(none_at_all, start, stop),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
