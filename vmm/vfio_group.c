#include "vmm/vfio_group.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/limits.h>
#include <linux/vfio.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define DEVICES "/sys/bus/pci/devices"
#define GROUPS  "/sys/kernel/iommu_groups"

/* --- names -------------------------------------------------------------------------------- */

/* Hexadecimal digits, `least` to `most` of them, then `end`. Moves *text behind it. */
static bool parse_part(const char **text, unsigned least, unsigned most, char end, unsigned *out)
{
    unsigned digits = 0;

    *out = 0;
    for (; digits <= most; digits++, (*text)++) {
        char c = **text;

        if (c >= '0' && c <= '9')
            *out = *out << 4 | (unsigned)(c - '0');
        else if ((c | 0x20) >= 'a' && (c | 0x20) <= 'f')
            *out = *out << 4 | (unsigned)((c | 0x20) - 'a' + 10);
        else
            break;
    }
    if (digits < least || digits > most || **text != end)
        return false;
    *text += end != '\0';
    return true;
}

int vfio_bdf_parse(const char *text, struct vfio_bdf *out, struct error *err)
{
    const char *at = text, *colon = strchr(text, ':');
    bool good = true;

    *out = (struct vfio_bdf){ 0 };
    if (colon && strchr(colon + 1, ':'))
        good = parse_part(&at, 1, 4, ':', &out->domain);
    good = good && parse_part(&at, 1, 2, ':', &out->bus) &&
           parse_part(&at, 1, 2, '.', &out->device) && parse_part(&at, 1, 1, '\0', &out->function);
    if (!good || out->device > 31 || out->function > 7)
        return error_set(err, -EINVAL,
                         "--vfio: '%s' is no PCI device; give BUS:DEVICE.FUNCTION in hexadecimal, "
                         "like 0000:00:04.0 or 00:04.0",
                         text);
    (void)snprintf(out->name, sizeof(out->name), "%04x:%02x:%02x.%x", out->domain & 0xffff,
                   out->bus & 0xff, out->device, out->function);
    return 0;
}

/* --- what sysfs says ------------------------------------------------------------------------ */

/* The last part of what a link of a device points at: its driver, its group. 0 or -errno. */
static int link_of(const char *device, const char *what, char name[NAME_MAX + 1])
{
    char path[PATH_MAX], target[PATH_MAX];
    const char *last;
    ssize_t n;

    (void)snprintf(path, sizeof(path), DEVICES "/%s/%s", device, what);
    n = readlink(path, target, sizeof(target) - 1);
    if (n < 0)
        return -errno;
    target[n] = '\0';
    last = strrchr(target, '/');
    (void)snprintf(name, NAME_MAX + 1, "%.*s", NAME_MAX, last ? last + 1 : target);
    return 0;
}

/* True for a bridge: it may keep its driver, as far as VFIO goes (pcieport does no DMA of a
 * user's). */
static bool is_bridge(const char *device)
{
    char path[PATH_MAX], text[16] = "";
    FILE *f;

    (void)snprintf(path, sizeof(path), DEVICES "/%s/class", device);
    f = fopen(path, "re");
    if (!f)
        return false;
    if (!fgets(text, sizeof(text), f))
        text[0] = '\0';
    (void)fclose(f);
    return strncmp(text, "0x0604", 6) == 0;
}

/* The driver that keeps this device from being given away, or false. */
static bool in_use(const char *device, char driver[NAME_MAX + 1])
{
    if (link_of(device, "driver", driver) < 0)
        return false;
    if (!strcmp(driver, "vfio-pci") || !strcmp(driver, "pci-stub"))
        return false;
    return !is_bridge(device);
}

/* Every other device of the group that is in use, with its driver: in `list`. Their number. */
static unsigned others_in_use(const struct vfio_bdf *bdf, unsigned group, char *list, size_t size)
{
    char path[PATH_MAX], driver[NAME_MAX + 1];
    size_t used = 0;
    unsigned count = 0;
    struct dirent *e;
    DIR *dir;

    list[0] = '\0';
    (void)snprintf(path, sizeof(path), GROUPS "/%u/devices", group);
    dir = opendir(path);
    while (dir && (e = readdir(dir)) != NULL) {
        if (e->d_name[0] == '.' || !strcmp(e->d_name, bdf->name) || !in_use(e->d_name, driver))
            continue;
        if (used < size)
            used += (size_t)snprintf(list + used, size - used, "%s%s (driver %s)",
                                     count ? ", " : "", e->d_name, driver);
        count++;
    }
    if (dir)
        (void)closedir(dir);
    return count;
}

int vfio_group_check(const char *what, const struct vfio_bdf *bdf, unsigned *number,
                     struct error *err)
{
    char path[PATH_MAX], name[NAME_MAX + 1], list[320];
    int rc;

    (void)snprintf(path, sizeof(path), DEVICES "/%s", bdf->name);
    if (access(path, F_OK) < 0)
        return error_set(err, -EINVAL, "%s: there is no device %s; 'twofold devices' lists them",
                         what, bdf->name);
    rc = link_of(bdf->name, "iommu_group", name);
    if (rc < 0)
        return error_set(err, -ENODEV,
                         "%s %s: no IOMMU stands before it: this machine has none, or it is "
                         "off (firmware: VT-d or AMD-Vi; kernel: intel_iommu=on)",
                         what, bdf->name);
    *number = (unsigned)strtoul(name, NULL, 10);
    rc = link_of(bdf->name, "driver", name);
    if (rc < 0 || strcmp(name, "vfio-pci") != 0)
        return error_set(err, -ENODEV,
                         "%s %s: it is on %s%s, and has to be on vfio-pci: load that module, "
                         "write vfio-pci to " DEVICES
                         "/%s/driver_override, unbind it and write it to drivers_probe",
                         what, bdf->name, rc < 0 ? "no driver" : "driver ", rc < 0 ? "" : name,
                         bdf->name);
    if (others_in_use(bdf, *number, list, sizeof(list)) > 0)
        return error_set(err, -EBUSY,
                         "%s %s: the IOMMU can't tell it from others of group %u that are in "
                         "use: %s; bind each to vfio-pci, or unbind it",
                         what, bdf->name, *number, list);
    return 0;
}

/* --- groups and containers -------------------------------------------------------------------- */

static int group_open_failed(unsigned number, int code, struct error *err)
{
    const char *why = strerror(-code);

    if (code == -EBUSY)
        why = "another program uses it";
    if (code == -EACCES || code == -EPERM)
        why = "permission denied: be root, or give this user the file";
    if (code == -ENOENT)
        why = "it is not there: load the module vfio-pci";
    return error_set(err, error_of_kernel(code), "/dev/vfio/%u: %s", number, why);
}

int vfio_group_open(struct vfio_group *g, unsigned number, struct error *err)
{
    struct vfio_group_status status = { .argsz = sizeof(status) };
    char path[64];

    (void)snprintf(path, sizeof(path), "/dev/vfio/%u", number);
    *g = (struct vfio_group){ .number = number };
    g->fd = open(path, O_RDWR | O_CLOEXEC);
    if (g->fd < 0)
        return group_open_failed(number, -errno, err);
    if (ioctl(g->fd, VFIO_GROUP_GET_STATUS, &status) == 0 && status.flags & VFIO_GROUP_FLAGS_VIABLE)
        return 0;
    (void)close(g->fd);
    g->fd = -1;
    return error_set(err, -EBUSY,
                     "VFIO group %u is not viable: a device of it is in use by a driver of "
                     "this machine; see " GROUPS "/%u/devices",
                     number, number);
}

int vfio_container_open(struct vfio_container *c, struct error *err)
{
    c->fd = open("/dev/vfio/vfio", O_RDWR | O_CLOEXEC);
    if (c->fd < 0)
        return error_set(err, error_of_kernel(-errno),
                         "/dev/vfio/vfio: %s: load the module vfio-pci", strerror(errno));
    if (ioctl(c->fd, VFIO_GET_API_VERSION) == VFIO_API_VERSION &&
        ioctl(c->fd, VFIO_CHECK_EXTENSION, VFIO_TYPE1v2_IOMMU) > 0)
        return 0;
    (void)close(c->fd);
    c->fd = -1;
    return error_set(err, -ENOTSUP,
                     "this kernel's VFIO has no IOMMU of type 1, version 2: load the "
                     "module vfio_iommu_type1");
}

static void take_spans(struct vfio_container *c,
                       const struct vfio_iommu_type1_info_cap_iova_range *cap)
{
    for (uint32_t i = 0; i < cap->nr_iovas && c->iovas < VFIO_SPANS_MAX; i++)
        c->iova[c->iovas++] = (struct vfio_span){ .first = cap->iova_ranges[i].start,
                                                  .last = cap->iova_ranges[i].end };
}

/* What the IOMMU offers: valid ranges, and how many mappings are left. */
static int info_read(struct vfio_container *c, struct error *err)
{
    union {
        struct vfio_iommu_type1_info info;
        uint8_t bytes[4096];
    } u = { .info = { .argsz = sizeof(u) } };

    if (ioctl(c->fd, VFIO_IOMMU_GET_INFO, &u.info) < 0)
        return error_set(err, error_of_kernel(-errno), "VFIO_IOMMU_GET_INFO: %s", strerror(errno));
    if (u.info.flags & VFIO_IOMMU_INFO_PGSIZES && !(u.info.iova_pgsizes & 4096))
        return error_set(err, -ENOTSUP, "this IOMMU has no pages of 4 KiB");
    if (!(u.info.flags & VFIO_IOMMU_INFO_CAPS))
        return 0;
    for (uint32_t at = u.info.cap_offset; at && at + sizeof(struct vfio_info_cap_header) <= 4096;) {
        const struct vfio_info_cap_header *head = (void *)(u.bytes + at);

        if (head->id == VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE)
            take_spans(c, (const void *)head);
        if (head->id == VFIO_IOMMU_TYPE1_INFO_DMA_AVAIL) {
            c->maps_left =
                ((const struct vfio_iommu_type1_info_dma_avail *)(const void *)head)->avail;
            c->maps_left_known = true;
        }
        at = head->next;
    }
    return 0;
}

int vfio_container_join(struct vfio_container *c, struct vfio_group *g, bool first,
                        struct error *err)
{
    if (ioctl(g->fd, VFIO_GROUP_SET_CONTAINER, &c->fd) < 0)
        return error_set(err, error_of_kernel(-errno), "VFIO group %u can't join the others: %s",
                         g->number, strerror(errno));
    g->container = c;
    if (!first)
        return 0;
    if (ioctl(c->fd, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU) < 0)
        return error_set(err, error_of_kernel(-errno), "VFIO group %u: the IOMMU refuses: %s%s",
                         g->number, strerror(errno),
                         errno == EPERM ? ": it can't remap interrupts (the kernel log says so); "
                                          "vfio_iommu_type1 has allow_unsafe_interrupts=1 for that"
                                        : "");
    return info_read(c, err);
}
