/* Whether a device is isolated from others, and why not. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tools/host_device.h"

/* PCI Express Base 5.0, 7.5.3.2 (PCI Express capability), 7.6.3 (extended capabilities), 7.7.8
 * (access control services). */
#define CAP_POINTER   0x34u
#define CAP_EXPRESS   0x10u
#define EXT_FIRST     0x100u
#define EXT_ACS       0x000du
#define CONFIG_LEGACY 256

static size_t read_config(const struct host *h, const char *bdf, uint8_t *out, size_t size)
{
    char path[PATH_MAX];
    ssize_t n;
    int fd;

    (void)snprintf(path, sizeof(path), "%s/bus/pci/devices/%s/config", h->sys, bdf);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return 0;
    n = read(fd, out, size);
    close(fd);
    return n > 0 ? (size_t)n : 0;
}

static uint32_t word(const uint8_t *config, size_t at)
{
    return config[at] | (uint32_t)config[at + 1] << 8 | (uint32_t)config[at + 2] << 16 |
           (uint32_t)config[at + 3] << 24;
}

/* Only for who may read all of the configuration space. */
static bool lacks_acs(const uint8_t *config, size_t len)
{
    unsigned at;

    if (len < CONFIG_LEGACY)
        return false;
    at = config[CAP_POINTER] & 0xfcu;
    for (int i = 0; at >= 0x40 && config[at] != CAP_EXPRESS && i < 48; i++)
        at = config[at + 1] & 0xfcu;
    if (at < 0x40 || config[at] != CAP_EXPRESS)
        return true; /* a bus of old: all its devices look alike */
    at = EXT_FIRST;
    for (int i = 0; at >= EXT_FIRST && at + 4 <= len && i < 960; i++) {
        uint32_t head = word(config, at);

        if ((head & 0xffff) == EXT_ACS)
            return false;
        at = head >> 20 & 0xffcu;
    }
    return len > EXT_FIRST;
}

bool host_device_no_acs(const struct host *h, const char *bdf, char bridge[BDF_SIZE])
{
    char path[PATH_MAX], real[PATH_MAX];
    uint8_t config[4096];
    char *slash;

    (void)snprintf(path, sizeof(path), "%s/bus/pci/devices/%s", h->sys, bdf);
    if (!realpath(path, real))
        return false;
    while ((slash = strrchr(real, '/')) != NULL) {
        const char *name;

        *slash = '\0';
        name = strrchr(real, '/');
        if (!name || bdf_parse("", name + 1, bridge, NULL))
            return false;
        if (lacks_acs(config, read_config(h, bridge, config, sizeof(config))))
            return true;
    }
    return false;
}

bool host_device_yields(const struct host_device *d)
{
    return d->port || !d->driver[0] || !strcmp(d->driver, "vfio-pci") ||
           !strcmp(d->driver, "pci-stub");
}

static bool same_slot(const char *a, const char *b)
{
    const char *dot = strrchr(a, '.');

    return dot && strncmp(a, b, (size_t)(dot - a) + 1) == 0;
}

static void say(char *out, size_t size, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
static void say(char *out, size_t size, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    (void)vsnprintf(out, size, fmt, ap);
    va_end(ap);
}

/* The group has others in it than bridges: `other` is one, the one in the way if there is any. */
static void judge_group(const struct host *h, const struct host_device *d,
                        const struct host_device *other, struct host_verdict *out)
{
    char bridge[BDF_SIZE], reason[96] = "";
    bool yields = host_device_yields(other);

    if (same_slot(d->bdf, other->bdf))
        say(reason, sizeof(reason), ": functions of one device that doesn't tell them apart");
    else if (host_device_no_acs(h, d->bdf, bridge))
        say(reason, sizeof(reason), ": bridge %s has no access control (ACS)", bridge);
    say(out->why, sizeof(out->why), "shares group %d with %s (%s%s)%s", d->group, other->bdf,
        other->driver[0] ? "driver " : "no driver", other->driver, reason);
    out->usable = yields;
    if (yields)
        say(out->advice, sizeof(out->advice),
            "twofold run --vfio %s; %s can reach it, so leave that alone or give it to the same VM",
            d->bdf, other->bdf);
    else
        say(out->advice, sizeof(out->advice),
            "give %s to the same VM (--vfio), take it from its driver, or use another slot",
            other->bdf);
}

void host_device_judge(const struct host *h, const struct host_device *list, size_t n,
                       const struct host_device *d, struct host_verdict *out)
{
    const struct host_device *other = NULL;

    *out = (struct host_verdict){ .isolated = false };
    for (size_t i = 0; d->group >= 0 && i < n; i++) {
        const struct host_device *o = &list[i];

        if (o->group != d->group || o->port || !strcmp(o->bdf, d->bdf))
            continue;
        if (!other || (host_device_yields(other) && !host_device_yields(o)))
            other = o;
    }
    if (d->bridge) {
        say(out->why, sizeof(out->why), "a bridge: it stays with this machine");
        return;
    }
    if (d->group < 0) {
        say(out->why, sizeof(out->why), "no IOMMU before it: it reaches all of memory");
        say(out->advice, sizeof(out->advice),
            "switch the IOMMU (VT-d, AMD-Vi) on in the firmware; on Intel add intel_iommu=on to "
            "the "
            "kernel's command line");
        return;
    }
    if (other) {
        judge_group(h, d, other, out);
    } else {
        out->isolated = out->usable = true;
        say(out->why, sizeof(out->why), "alone in group %d%s", d->group,
            d->reset[0] ? "" : "; it has no reset, so a VM may find what the last one left in it");
        say(out->advice, sizeof(out->advice), "twofold run --vfio %s", d->bdf);
    }
    if (d->use[0]) {
        out->usable = false;
        say(out->advice, sizeof(out->advice),
            "leave it: it %s; unmount it, or set it down, before a VM may have it", d->use);
    }
}
