#include "tools/host_device.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "vmm/vfio_group.h"

static int write_attribute(void *ctx, const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    ssize_t n;
    int rc;

    (void)ctx;
    if (fd < 0)
        return -errno;
    n = write(fd, text, strlen(text));
    rc = n < 0 ? -errno : 0;
    close(fd);
    return rc;
}

static int load_module(void *ctx, const char *module)
{
    pid_t pid = fork();
    int status;

    (void)ctx;
    if (pid < 0)
        return -errno;
    if (pid == 0) {
        int null = open("/dev/null", O_RDWR | O_CLOEXEC);

        if (null >= 0) {
            (void)dup2(null, STDOUT_FILENO);
            (void)dup2(null, STDERR_FILENO);
        }
        execlp("modprobe", "modprobe", module, (char *)NULL);
        execlp("busybox", "busybox", "modprobe", module, (char *)NULL);
        _exit(127);
    }
    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR)
            return -errno;
    return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : -ENOENT;
}

const struct host host_machine = {
    .sys = "/sys",
    .proc = "/proc",
    .libvirt = "/run/libvirt",
    .write = write_attribute,
    .load = load_module,
};

/* --- names ------------------------------------------------------------------------ */

int bdf_parse(const char *what, const char *text, char out[BDF_SIZE], struct error *err)
{
    struct vfio_bdf bdf;

    if (vfio_bdf_parse(text, &bdf, NULL))
        return error_set(err, -EINVAL,
                         "%s: '%.40s' is no PCI device; give BUS:DEVICE.FUNCTION in hexadecimal, "
                         "like 0000:00:04.0 or 00:04.0 (see 'twofold devices')",
                         what, text);
    (void)snprintf(out, BDF_SIZE, "%s", bdf.name);
    return 0;
}

/* --- attributes ---------------------------------------------------------------------- */

static void device_path(const struct host *h, const char *bdf, const char *file, char *out,
                        size_t size)
{
    (void)snprintf(out, size, "%s/bus/pci/devices/%s/%s", h->sys, bdf, file);
}

/* The first line of an attribute; "" when it isn't there. */
static void read_text(const struct host *h, const char *bdf, const char *file, char *out,
                      size_t size)
{
    char path[PATH_MAX];
    FILE *f;

    out[0] = '\0';
    device_path(h, bdf, file, path, sizeof(path));
    f = fopen(path, "re");
    if (!f)
        return;
    if (fgets(out, (int)size, f))
        out[strcspn(out, "\n")] = '\0';
    (void)fclose(f);
}

static unsigned read_hex(const struct host *h, const char *bdf, const char *file)
{
    char text[32];

    read_text(h, bdf, file, text, sizeof(text));
    return (unsigned)strtoul(text, NULL, 16);
}

/* The last part of what a link points to; "" when it isn't there. */
static void read_link(const struct host *h, const char *bdf, const char *file, char *out,
                      size_t size)
{
    char path[PATH_MAX], target[PATH_MAX];
    const char *slash;
    ssize_t n;

    out[0] = '\0';
    device_path(h, bdf, file, path, sizeof(path));
    n = readlink(path, target, sizeof(target) - 1);
    if (n < 0)
        return;
    target[n] = '\0';
    slash = strrchr(target, '/');
    (void)snprintf(out, size, "%.*s", (int)size - 1, slash ? slash + 1 : target);
}

int host_device_read(const struct host *h, const char *bdf, struct host_device *out,
                     struct error *err)
{
    char path[PATH_MAX], group[16];

    *out = (struct host_device){ .group = -1 };
    (void)snprintf(out->bdf, sizeof(out->bdf), "%s", bdf);
    device_path(h, bdf, "vendor", path, sizeof(path));
    if (access(path, F_OK))
        return error_set(err, -EINVAL, "there is no PCI device %s; 'twofold devices' lists them",
                         bdf);
    out->vendor = read_hex(h, bdf, "vendor");
    out->device = read_hex(h, bdf, "device");
    out->class_code = read_hex(h, bdf, "class");
    /* PCI Code and ID Assignment, 1.7: sub-classes 0 (host) and 4 (PCI-to-PCI) of the bridges. */
    out->bridge = out->class_code >> 16 == 0x06;
    out->port = out->class_code >> 8 == 0x0600 || out->class_code >> 8 == 0x0604;
    read_link(h, bdf, "driver", out->driver, sizeof(out->driver));
    read_text(h, bdf, "driver_override", out->driver_override, sizeof(out->driver_override));
    if (!strcmp(out->driver_override, "(null)"))
        out->driver_override[0] = '\0';
    read_text(h, bdf, "reset_method", out->reset, sizeof(out->reset));
    read_link(h, bdf, "iommu_group", group, sizeof(group));
    if (group[0])
        out->group = (int)strtol(group, NULL, 10);
    return 0;
}

static int is_device(const struct dirent *e)
{
    return strchr(e->d_name, ':') != NULL;
}

int host_devices(const struct host *h, struct host_device **out, size_t *n, struct error *err)
{
    struct dirent **entries = NULL;
    char path[PATH_MAX];
    int found;

    *out = NULL;
    *n = 0;
    (void)snprintf(path, sizeof(path), "%s/bus/pci/devices", h->sys);
    found = scandir(path, &entries, is_device, alphasort);
    if (found < 0)
        return errno == ENOENT
                   ? 0
                   : error_set(err, -errno, "'%s' can't be read: %s", path, strerror(errno));
    *out = calloc((size_t)found + 1, sizeof(**out));
    for (int i = 0; i < found; i++) {
        /* One that went away meanwhile is none. */
        if (*out && !host_device_read(h, entries[i]->d_name, &(*out)[*n], NULL)) {
            host_device_use(h, &(*out)[*n]);
            ++*n;
        }
        free(entries[i]);
    }
    free((void *)entries);
    return *out ? 0 : error_set(err, -ENOMEM, "no memory for the list of devices");
}
