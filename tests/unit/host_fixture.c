#include "tests/unit/host_fixture.h"

#include <errno.h>
#include <ftw.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void make_folders(const char *path)
{
    char part[PATH_MAX];

    (void)snprintf(part, sizeof(part), "%s", path);
    for (char *at = strchr(part + 1, '/'); at; at = strchr(at + 1, '/')) {
        *at = '\0';
        (void)mkdir(part, 0700);
        *at = '/';
    }
}

void fake_file(struct fake_host *f, const char *path, const char *text, size_t size)
{
    char full[PATH_MAX];
    FILE *out;

    (void)snprintf(full, sizeof(full), "%s/%s", f->dir, path);
    make_folders(full);
    out = fopen(full, "we");
    if (!out || fwrite(text, 1, size, out) != size)
        abort();
    (void)fclose(out);
}

void fake_link(struct fake_host *f, const char *path, const char *target)
{
    char full[PATH_MAX];

    (void)snprintf(full, sizeof(full), "%s/%s", f->dir, path);
    make_folders(full);
    (void)unlink(full);
    if (symlink(target, full))
        abort();
}

static void put(struct fake_host *f, const char *folder, const char *file, const char *text)
{
    char path[300];

    (void)snprintf(path, sizeof(path), "%s/%s", folder, file);
    fake_file(f, path, text, strlen(text));
}

void fake_set_driver(struct fake_host *f, const char *bdf, const char *driver)
{
    char path[300], target[100];

    (void)snprintf(path, sizeof(path), "%s/bus/pci/devices/%s/driver", f->sys, bdf);
    (void)unlink(path);
    if (!driver[0])
        return;
    (void)snprintf(target, sizeof(target), "../../../bus/pci/drivers/%s", driver);
    if (symlink(target, path))
        abort();
}

void fake_device(struct fake_host *f, const char *parent, const char *bdf, unsigned class_code,
                 const char *driver, int group)
{
    char folder[200], path[300], target[300];

    (void)snprintf(folder, sizeof(folder), "sys/devices/pci0000:00/%s%s%s", parent,
                   parent[0] ? "/" : "", bdf);
    put(f, folder, "vendor", "0x8086\n");
    put(f, folder, "device", "0x1234\n");
    (void)snprintf(target, sizeof(target), "0x%06x\n", class_code);
    put(f, folder, "class", target);
    put(f, folder, "driver_override", "(null)\n");
    (void)snprintf(path, sizeof(path), "sys/bus/pci/devices/%s", bdf);
    (void)snprintf(target, sizeof(target), "%s/%s", f->dir, folder);
    fake_link(f, path, target);
    fake_set_driver(f, bdf, driver);
    if (group >= 0) {
        (void)snprintf(path, sizeof(path), "%s/iommu_group", folder);
        (void)snprintf(target, sizeof(target), "../../../kernel/iommu_groups/%d", group);
        fake_link(f, path, target);
    }
}

const char *fake_driver(struct fake_host *f, const char *bdf)
{
    static struct host_device d;

    return host_device_read(&f->host, bdf, &d, NULL) ? "no device" : d.driver;
}

static void override_of(struct fake_host *f, const char *bdf, char *out, size_t size)
{
    struct host_device d;

    (void)host_device_read(&f->host, bdf, &d, NULL);
    (void)snprintf(out, size, "%s", d.driver_override);
}

/* drivers_probe: the override decides; without one no driver here claims a device by its id. */
static int probe(struct fake_host *f, const char *bdf)
{
    char name[48], path[200];

    override_of(f, bdf, name, sizeof(name));
    (void)snprintf(path, sizeof(path), "%s/bus/pci/drivers/%s", f->sys, name);
    if (name[0] && access(path, F_OK) == 0 && !fake_driver(f, bdf)[0] &&
        !(f->refuse_bind && !strcmp(name, "vfio-pci")))
        fake_set_driver(f, bdf, name);
    return 0;
}

/* driver/NAME/bind: refused while an override names another driver. */
static int bind_to(struct fake_host *f, const char *driver, const char *bdf)
{
    char name[48];

    override_of(f, bdf, name, sizeof(name));
    if (fake_driver(f, bdf)[0])
        return -EBUSY;
    if (name[0] && strcmp(name, driver) != 0)
        return -ENODEV;
    fake_set_driver(f, bdf, driver);
    return 0;
}

static bool ends(const char *text, const char *with)
{
    size_t n = strlen(text), m = strlen(with);

    return n >= m && !strcmp(text + n - m, with);
}

static int kernel_write(void *ctx, const char *path, const char *text)
{
    struct fake_host *f = ctx;
    char bdf[BDF_SIZE] = "", driver[48] = "";
    const char *at = strstr(path, "/devices/");
    int rc = -ENOENT;

    if (f->deny && ends(path, f->deny))
        return f->deny_code ? f->deny_code : -EACCES;
    if (at)
        (void)sscanf(at, "/devices/%19[^/]", bdf);
    if (ends(path, "/driver_override")) {
        FILE *out = fopen(path, "we");

        if (!out)
            abort();
        (void)fputs(text[0] == '\n' ? "(null)\n" : text, out);
        (void)fclose(out);
        rc = 0;
    } else if (ends(path, "/driver/unbind")) {
        rc = !strcmp(bdf, text) && fake_driver(f, bdf)[0] ? 0 : -ENODEV;
        if (rc == 0)
            fake_set_driver(f, bdf, "");
    } else if (ends(path, "/drivers_probe")) {
        rc = probe(f, text);
    } else if (ends(path, "/bind") && access(path, F_OK) == 0) {
        (void)sscanf(strstr(path, "/drivers/"), "/drivers/%47[^/]", driver);
        rc = bind_to(f, driver, text);
    }
    if (++f->writes == f->die_after_writes)
        (void)kill(getpid(), SIGKILL);
    return rc;
}

static int kernel_load(void *ctx, const char *module)
{
    struct fake_host *f = ctx;

    if (f->no_module || strcmp(module, "vfio-pci") != 0)
        return -ENOENT;
    fake_file(f, "sys/bus/pci/drivers/vfio-pci/bind", "", 0);
    return 0;
}

struct fake_host *fake_host_create(void)
{
    struct fake_host *f = calloc(1, sizeof(*f));

    if (!f)
        return NULL;
    (void)snprintf(f->dir, sizeof(f->dir), "/tmp/twofold-test-XXXXXX");
    if (!mkdtemp(f->dir)) {
        free(f);
        return NULL;
    }
    (void)snprintf(f->sys, sizeof(f->sys), "%s/sys", f->dir);
    (void)snprintf(f->proc, sizeof(f->proc), "%s/proc", f->dir);
    (void)snprintf(f->records, sizeof(f->records), "%s/records", f->dir);
    f->host = (struct host){ .sys = f->sys,
                             .proc = f->proc,
                             .records = f->records,
                             .write = kernel_write,
                             .load = kernel_load,
                             .ctx = f };
    fake_file(f, "sys/bus/pci/drivers/e1000e/bind", "", 0);
    fake_file(f, "sys/bus/pci/drivers/ahci/bind", "", 0);
    return f;
}

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    return remove(path);
}

void fake_host_destroy(struct fake_host *f)
{
    (void)nftw(f->dir, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
    free(f);
}

int fake_machine_start(void **state)
{
    struct fake_host *f = fake_host_create();

    if (!f)
        return -1;
    *state = f;
    fake_device(f, "", NIC, 0x020000, "e1000e", 1);
    fake_device(f, "", ALONE, 0x00ff00, "", 2);
    fake_device(f, "", PORT, 0x060400, "pcieport", 3);
    fake_device(f, PORT, DISK, 0x010601, "ahci", 3);
    fake_device(f, PORT, SISTER, 0x0c0500, "", 3);
    fake_device(f, "", OUTSIDE, 0x020000, "e1000e", -1);
    return 0;
}

int fake_machine_stop(void **state)
{
    fake_host_destroy(*state);
    return 0;
}
