#include "tools/bind.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define VFIO_PCI "vfio-pci"

/* --- checks -------------------------------------------------------------------------- */

static bool among(const char *bdf, const char *const list[], size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!strcmp(list[i], bdf))
            return true;
    return false;
}

static int check_one(const struct host *h, const char *bdf, struct host_device *d,
                     struct error *err)
{
    int rc = host_device_read(h, bdf, d, err);

    if (rc)
        return rc;
    if (d->bridge)
        return error_set(err, -EINVAL, "device %s is a bridge; a VM can have what is behind it",
                         bdf);
    if (d->group < 0)
        return error_set(err, -ENODEV,
                         "device %s has no IOMMU before it: it would reach all of this machine's "
                         "memory; switch VT-d or AMD-Vi on in the firmware, and on Intel add "
                         "intel_iommu=on to the kernel's command line",
                         bdf);
    host_device_use(h, d);
    if (d->use[0])
        return error_set(err, -EBUSY, "device %s %s: this machine needs it", bdf, d->use);
    return 0;
}

int bind_check(const struct host *h, const char *const bdf[], size_t n, struct error *err)
{
    struct host_device *all = NULL, d;
    size_t count;
    int rc = host_devices(h, &all, &count, err);

    for (size_t i = 0; rc == 0 && i < n; i++) {
        rc = check_one(h, bdf[i], &d, err);
        if (rc == 0 && among(bdf[i], bdf, i))
            rc = error_set(err, -EINVAL, "device %s is named twice", bdf[i]);
        for (size_t k = 0; rc == 0 && k < count; k++)
            if (all[k].group == d.group && !host_device_yields(&all[k]) &&
                !among(all[k].bdf, bdf, n))
                rc = error_set(err, -EBUSY,
                               "device %s shares IOMMU group %d with %s, which driver %s has; name "
                               "that device, too, or take it from its driver",
                               bdf[i], d.group, all[k].bdf, all[k].driver);
    }
    free(all);
    return rc;
}

/* --- sysfs ----------------------------------------------------------------------------- */

static int write_device(const struct host *h, const char *bdf, const char *file, const char *text)
{
    char path[PATH_MAX];

    (void)snprintf(path, sizeof(path), "%s/bus/pci/devices/%s/%s", h->sys, bdf, file);
    return h->write(h->ctx, path, text);
}

static int write_bus(const struct host *h, const char *file, const char *text)
{
    char path[PATH_MAX];

    (void)snprintf(path, sizeof(path), "%s/bus/pci/%s", h->sys, file);
    return h->write(h->ctx, path, text);
}

static bool has_driver(const struct host *h, const char *driver)
{
    char path[PATH_MAX];

    (void)snprintf(path, sizeof(path), "%s/bus/pci/drivers/%s", h->sys, driver);
    return access(path, F_OK) == 0;
}

static bool is_on(const struct host *h, const char *bdf, const char *driver)
{
    struct host_device d;

    return !host_device_read(h, bdf, &d, NULL) && !strcmp(d.driver, driver);
}

static int take_by_sysfs(const struct host *h, const char *bdf, struct error *err)
{
    struct host_device d;
    int rc = host_device_read(h, bdf, &d, err);

    if (rc)
        return rc;
    rc = write_device(h, bdf, "driver_override", VFIO_PCI "\n");
    if (rc == 0 && d.driver[0])
        rc = write_device(h, bdf, "driver/unbind", bdf);
    if (rc == 0)
        rc = write_bus(h, "drivers_probe", bdf);
    if (rc == 0 && !is_on(h, bdf, VFIO_PCI))
        rc = -EIO;
    if (rc)
        return error_set(err, error_of_kernel(rc), "device %s can't be bound to " VFIO_PCI ": %s%s",
                         bdf, strerror(-rc),
                         rc == -EACCES || rc == -EPERM ? "; that takes root" : "; see dmesg");
    return 0;
}

static int write_override(const struct host *h, const char *bdf, const char *driver)
{
    char text[sizeof(((struct binding *)NULL)->driver_override) + 1];

    (void)snprintf(text, sizeof(text), "%s\n", driver);
    return write_device(h, bdf, "driver_override", text);
}

static int bind_again(const struct host *h, const struct binding *b)
{
    char bind[80];
    int rc;

    (void)snprintf(bind, sizeof(bind), "drivers/%s/bind", b->driver);
    rc = write_bus(h, bind, b->bdf);
    if (rc) /* a driver that was loaded anew, or that wants an id first */
        rc = write_bus(h, "drivers_probe", b->bdf);
    if (rc == 0 && !is_on(h, b->bdf, b->driver))
        rc = -ENODEV;
    return rc;
}

static int give_by_sysfs(const struct host *h, const struct binding *b, struct error *err)
{
    struct host_device d;
    int rc = host_device_read(h, b->bdf, &d, err), last;

    if (rc)
        return rc;
    if (!strcmp(d.driver, b->driver) && !strcmp(d.driver_override, b->driver_override))
        return 0;
    /*
     * The override that was there comes last: it may name another driver, like vfio-pci for the
     * next boot. Until then it names the driver that is to have it.
     */
    if (strcmp(d.driver, b->driver) != 0)
        rc = write_override(h, b->bdf, b->driver);
    if (rc == 0 && !strcmp(d.driver, VFIO_PCI) && strcmp(b->driver, VFIO_PCI) != 0)
        rc = write_device(h, b->bdf, "driver/unbind", b->bdf);
    if (rc == 0 && b->driver[0] && strcmp(d.driver, b->driver) != 0)
        rc = bind_again(h, b);
    last = write_override(h, b->bdf, b->driver_override);
    rc = rc ? rc : last;
    if (rc)
        return error_set(err, error_of_kernel(rc),
                         "device %s can't be given back to driver %s: %s; see dmesg, then 'twofold "
                         "devices --restore'",
                         b->bdf, b->driver[0] ? b->driver : "(none)", strerror(-rc));
    return 0;
}

/* --- taking and giving back ------------------------------------------------------------- */

/*
 * A driver took the device since the record was written: somebody moved it, and what is now counts.
 * On the record's own driver only an override of ours is left of a holder that was killed.
 */
static bool moved_on(const struct binding *b, const struct host_device *d)
{
    if (!d->driver[0] || !strcmp(d->driver, VFIO_PCI))
        return false;
    return strcmp(d->driver, b->driver) != 0 || (strcmp(d->driver_override, VFIO_PCI) != 0 &&
                                                 strcmp(d->driver_override, b->driver) != 0);
}

/* What the device is on now goes into the record, unless that knows better. It is looked at with
 * the lock held: who had it until a moment ago may have moved it. */
static int open_record(struct binding *b, const struct host *h, struct host_device *d,
                       struct error *err)
{
    bool found;
    int rc = bind_record_open(b, h, &found, err);

    if (rc == 0)
        rc = host_device_read(h, b->bdf, d, err);
    if (rc)
        return rc;
    if (!found || moved_on(b, d)) {
        b->libvirt = false;
        (void)snprintf(b->driver, sizeof(b->driver), "%s", d->driver);
        (void)snprintf(b->driver_override, sizeof(b->driver_override), "%s", d->driver_override);
        b->kept = !strcmp(d->driver, VFIO_PCI);
    }
    return bind_record_write(b, err);
}

static int move(struct binding *b, const struct host *h, struct error *err)
{
    int rc = bind_by_libvirt(h, b->bdf, true, err);

    if (rc > 0) {
        b->libvirt = true;
        return bind_record_write(b, err);
    }
    if (rc == 0 && !has_driver(h, VFIO_PCI) && h->load(h->ctx, VFIO_PCI))
        rc = error_set(err, -ENOENT,
                       "device %s: this kernel has no " VFIO_PCI
                       " that could be loaded (modprobe " VFIO_PCI ")",
                       b->bdf);
    return rc ? rc : take_by_sysfs(h, b->bdf, err);
}

/* What went wrong after something else went wrong, in one sentence. */
static void tell_both(struct error *err, const struct error *then)
{
    struct error first;

    if (!err)
        return;
    first = *err;
    (void)error_set(err, -EIO, "%.250s; and %.250s", first.text, then->text);
}

int bind_take(struct binding *b, const struct host *h, const char *bdf, struct error *err)
{
    struct host_device d;
    struct error lost;
    int rc = host_device_read(h, bdf, &d, err);

    *b = (struct binding){ .record = -1 };
    (void)snprintf(b->bdf, sizeof(b->bdf), "%s", bdf);
    if (rc == 0)
        rc = open_record(b, h, &d, err);
    if (rc) {
        bind_record_close(b);
        return rc;
    }
    if (strcmp(d.driver, VFIO_PCI) != 0)
        rc = move(b, h, err);
    if (rc && bind_give_back(b, h, &lost))
        tell_both(err, &lost);
    return rc;
}

int bind_give_back(struct binding *b, const struct host *h, struct error *err)
{
    int rc = 0;

    if (!b->bdf[0] || b->record < 0)
        return 0;
    if (!b->kept) {
        if (b->libvirt) /* what it doesn't do, or where it is gone by now, we do */
            (void)bind_by_libvirt(h, b->bdf, false, NULL);
        rc = give_by_sysfs(h, b, err);
    }
    if (rc)
        bind_record_close(b);
    else
        bind_record_remove(b, h);
    return rc;
}

int bind_take_all(struct binding *b, const struct host *h, const char *const bdf[], size_t n,
                  struct error *err)
{
    int rc = bind_check(h, bdf, n, err);
    struct error lost;
    size_t i;

    for (i = 0; rc == 0 && i < n; i++)
        rc = bind_take(&b[i], h, bdf[i], err);
    if (rc && i > 0 && bind_give_back_all(b, i, h, &lost))
        tell_both(err, &lost);
    return rc;
}

int bind_give_back_all(struct binding *b, size_t n, const struct host *h, struct error *err)
{
    int first = 0;

    for (size_t i = n; i-- > 0;) {
        int rc = bind_give_back(&b[i], h, first ? NULL : err);

        if (first == 0)
            first = rc;
    }
    return first;
}

/* --- after a kill ------------------------------------------------------------------------ */

static enum bind_restored restore_one(const struct host *h, struct binding *b, struct error *err)
{
    struct host_device d;
    bool found;
    int rc = bind_record_open(b, h, &found, err);

    if (rc == -EBUSY)
        return BIND_HELD;
    if (rc)
        return BIND_FAILED;
    if (host_device_read(h, b->bdf, &d, err)) {
        bind_record_remove(b, h);
        return BIND_GONE;
    }
    if (found && moved_on(b, &d)) {
        (void)snprintf(b->driver, sizeof(b->driver), "%s", d.driver);
        bind_record_remove(b, h);
        return BIND_MOVED;
    }
    /* A record that says nothing: its writer hadn't begun, or had nothing to change. */
    b->kept = !found;
    return bind_give_back(b, h, err) ? BIND_FAILED : BIND_RESTORED;
}

int bind_restore(const struct host *h, const char *bdf,
                 void (*fn)(void *ctx, enum bind_restored what, const struct binding *b,
                            const struct error *why),
                 void *ctx, struct error *err)
{
    char dir[300], name[BDF_SIZE];
    struct dirent *e;
    bool any = false;
    DIR *records;
    int rc = bind_records(h, dir, sizeof(dir), err);

    if (rc)
        return rc;
    records = opendir(dir);
    if (!records)
        return error_set(err, -errno, "'%s' can't be read: %s", dir, strerror(errno));
    while ((e = readdir(records)) != NULL) {
        struct binding b = { .record = -1 };
        struct error why = { "" };

        if (bdf_parse("", e->d_name, name, NULL) || strcmp(name, e->d_name) != 0 ||
            (bdf && strcmp(bdf, name) != 0))
            continue;
        (void)snprintf(b.bdf, sizeof(b.bdf), "%s", name);
        any = true;
        fn(ctx, restore_one(h, &b, &why), &b, &why);
    }
    closedir(records);
    if (bdf && !any)
        return error_set(err, -ENOENT, "there is no record of device %s: nothing took it", bdf);
    return 0;
}
