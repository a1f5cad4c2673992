/*
 * A DMA test device (1234:11e8) of this machine by VFIO, as a program of the host has it: the
 * baseline of what its interrupts cost a VM.
 */
#include "bench.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/vfio.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "guest/abi.h"
#include "vmm/vfio_group.h"

#define DEVICES    "/sys/bus/pci/devices"
#define BAR_SIZE   0x1000u
#define COMMAND    4 /* PCI Local Bus 3.0, 6.2.2: memory, bus master */
#define COMMAND_ON 6
#define LIMIT_MS   2000

static struct vfio_bdf device;
static bool taken; /* from no driver: to be given back */

/* --- taking it ------------------------------------------------------------------------------- */

static bool file_has(const char *bdf, const char *file, const char *text)
{
    char path[512], got[64] = "";
    FILE *f;

    (void)snprintf(path, sizeof(path), DEVICES "/%s/%s", bdf, file);
    f = fopen(path, "re");
    if (!f)
        return false;
    if (!fgets(got, sizeof(got), f))
        got[0] = '\0';
    (void)fclose(f);
    return strncmp(got, text, strlen(text)) == 0;
}

static bool write_file(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    bool ok = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);

    if (fd >= 0)
        (void)close(fd);
    return ok;
}

static bool has_link(const char *bdf, const char *link)
{
    char path[512], target[256];

    (void)snprintf(path, sizeof(path), DEVICES "/%s/%s", bdf, link);
    return readlink(path, target, sizeof(target)) > 0;
}

static bool set_override(const char *driver)
{
    char path[256];

    (void)snprintf(path, sizeof(path), DEVICES "/%s/driver_override", device.name);
    return write_file(path, driver);
}

/* One behind an IOMMU, on no driver or on vfio-pci. */
static bool find(void)
{
    DIR *dir = opendir(DEVICES);
    struct dirent *e;
    bool found = false;

    while (dir && !found && (e = readdir(dir)) != NULL)
        found = e->d_name[0] != '.' && file_has(e->d_name, "vendor", "0x1234") &&
                file_has(e->d_name, "device", "0x11e8") && has_link(e->d_name, "iommu_group") &&
                vfio_bdf_parse(e->d_name, &device, NULL) == 0;
    if (dir)
        (void)closedir(dir);
    return found;
}

const char *host_edu_take(const char **why)
{
    struct error err;
    unsigned group;

    *why = "no DMA test device (1234:11e8) behind an IOMMU here";
    if (!find())
        return NULL;
    *why = "the device can't be bound to vfio-pci";
    if (!has_link(device.name, "driver")) {
        taken = true;
        if (!set_override("vfio-pci") || !write_file("/sys/bus/pci/drivers_probe", device.name)) {
            host_edu_give_back();
            return NULL;
        }
    }
    if (vfio_group_check("bench", &device, &group, &err) < 0) {
        host_edu_give_back();
        return NULL;
    }
    return device.name;
}

void host_edu_give_back(void)
{
    if (!taken)
        return;
    (void)write_file("/sys/bus/pci/drivers/vfio-pci/unbind", device.name);
    (void)set_override("\n");
    taken = false;
}

/* --- its interrupt -----------------------------------------------------------------------------
 */

struct opened {
    struct vfio_group group;
    struct vfio_container container;
    int fd, event;
    volatile uint8_t *regs; /* MAP_FAILED: not mapped */
};

static bool region(const struct opened *o, unsigned index, struct vfio_region_info *out)
{
    *out = (struct vfio_region_info){ .argsz = sizeof(*out), .index = index };
    return ioctl(o->fd, VFIO_DEVICE_GET_REGION_INFO, out) == 0 && out->size >= BAR_SIZE / 16;
}

static bool arm(const struct opened *o)
{
    struct {
        struct vfio_irq_set set;
        int32_t fd;
    } irq = { { .argsz = sizeof(irq),
                .flags = VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER,
                .index = VFIO_PCI_MSI_IRQ_INDEX,
                .count = 1 },
              o->event };

    return ioctl(o->fd, VFIO_DEVICE_SET_IRQS, &irq) == 0;
}

static bool open_it(struct opened *o)
{
    const uint16_t on = COMMAND_ON;
    struct vfio_region_info config, bar;
    struct error err;
    unsigned number;

    *o = (struct opened){
        .group.fd = -1, .container.fd = -1, .fd = -1, .event = -1, .regs = MAP_FAILED
    };
    if (vfio_group_check("bench", &device, &number, &err) < 0 ||
        vfio_group_open(&o->group, number, &err) < 0 ||
        vfio_container_open(&o->container, &err) < 0 ||
        vfio_container_join(&o->container, &o->group, true, &err) < 0)
        return false;
    o->fd = ioctl(o->group.fd, VFIO_GROUP_GET_DEVICE_FD, device.name);
    o->event = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (o->fd < 0 || o->event < 0 || !region(o, VFIO_PCI_CONFIG_REGION_INDEX, &config) ||
        !region(o, VFIO_PCI_BAR0_REGION_INDEX, &bar))
        return false;
    o->regs = mmap(NULL, BAR_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, o->fd, (off_t)bar.offset);
    return o->regs != MAP_FAILED &&
           pwrite(o->fd, &on, sizeof(on), (off_t)config.offset + COMMAND) == sizeof(on) && arm(o);
}

static void close_it(struct opened *o)
{
    const int fds[] = { o->event, o->fd, o->group.fd, o->container.fd };

    if (o->regs != MAP_FAILED)
        (void)munmap((void *)o->regs, BAR_SIZE);
    for (size_t i = 0; i < sizeof(fds) / sizeof(fds[0]); i++)
        if (fds[i] >= 0)
            (void)close(fds[i]);
}

static volatile uint32_t *reg(const struct opened *o, unsigned at)
{
    return (volatile uint32_t *)(volatile void *)(o->regs + at);
}

/* Nanoseconds, or -1: none came. */
static double one(const struct opened *o)
{
    struct pollfd wait = { .fd = o->event, .events = POLLIN };
    uint64_t start = now_ns(), end, count;

    *reg(o, TF_EDU_IRQ_RAISE) = 1;
    if (poll(&wait, 1, LIMIT_MS) != 1)
        return -1;
    end = now_ns();
    *reg(o, TF_EDU_IRQ_ACK) = *reg(o, TF_EDU_IRQ_STATUS);
    return read(o->event, &count, sizeof(count)) == sizeof(count) ? (double)(end - start) : -1;
}

double host_edu_latency(unsigned n)
{
    static struct samples all;
    struct opened o;
    bool ok = open_it(&o);

    all.n = 0;
    if (ok) /* whoever raised them has gone */
        *reg(&o, TF_EDU_IRQ_ACK) = *reg(&o, TF_EDU_IRQ_STATUS);
    ok = ok && one(&o) >= 0; /* the first one doesn't count */
    for (unsigned i = 0; i < n && ok; i++) {
        double ns = one(&o);

        ok = ns >= 0;
        sample_add(&all, ns);
    }
    close_it(&o);
    return ok ? summarize(&all).median / 1000 : -1;
}
