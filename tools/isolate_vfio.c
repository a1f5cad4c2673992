/* The demonstration with a device of this machine, from the host's side. */
#include "tools/isolate_vfio.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "guest/abi.h"

/* What IOMMU stands before it: its name in /sys/class/iommu begins with dmar (VT-d) or ivhd
 * (AMD-Vi). */
static void name_iommu(const struct isolate_device *d, char *out, size_t size)
{
    char path[PATH_MAX], target[PATH_MAX];
    const char *name = "?", *kind = "an IOMMU";
    ssize_t n;

    (void)snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/iommu", d->bdf);
    n = readlink(path, target, sizeof(target) - 1);
    if (n > 0) {
        target[n] = '\0';
        name = strrchr(target, '/') ? strrchr(target, '/') + 1 : target;
    }
    if (!strncmp(name, "dmar", 4))
        kind = "VT-d";
    else if (!strncmp(name, "ivhd", 4))
        kind = "AMD-Vi";
    (void)snprintf(out, size, "%s (%.16s), through VFIO type 1, group %u", kind, name,
                   d->group.number);
}

int isolate_vfio(const char *bdf, struct isolate_report *out, struct error *err)
{
    struct isolate_device d;
    int rc = isolate_device_open(&d, bdf, err);
    bool edu;

    if (rc == 0) {
        edu = d.vendor == TF_EDU_VENDOR && d.device == TF_EDU_DEVICE;
        (void)snprintf(out->device, sizeof(out->device), "%s %04x:%04x%s", bdf, d.vendor, d.device,
                       edu ? " (edu)" : "");
        name_iommu(&d, out->iommu, sizeof(out->iommu));
        if (edu)
            rc = isolate_edu(&d, out, err);
        else
            isolate_device_print(&d);
    }
    isolate_device_close(&d);
    return rc;
}
