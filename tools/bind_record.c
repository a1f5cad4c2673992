/* Records of devices that are away from their drivers. */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tools/bind.h"
#include "vmm/control.h"
#include "vmm/lock_file.h"

#define MACHINE_DIR "/run/twofold"

/*
 * Devices are the machine's, so that all sessions of root share a folder, whatever XDG_RUNTIME_DIR
 * says: what one of them left another one finds. Other users can't bind anything; theirs has locks
 * only.
 */
static int runtime_dir(char *buf, size_t size, struct error *err)
{
    struct stat st;

    if (geteuid() != 0)
        return control_dir(buf, size, err);
    (void)snprintf(buf, size, MACHINE_DIR);
    if ((mkdir(MACHINE_DIR, 0700) && errno != EEXIST) || lstat(MACHINE_DIR, &st))
        return error_set(err, -errno, "the folder of records '%s' can't be made: %s", MACHINE_DIR,
                         strerror(errno));
    if (!S_ISDIR(st.st_mode) || st.st_uid != 0 || st.st_mode & 022)
        return error_set(err, -EPERM,
                         "'%s' is no folder that only root can write: it would hold the records "
                         "of devices; remove it",
                         MACHINE_DIR);
    return 0;
}

int bind_records(const struct host *h, char *buf, size_t size, struct error *err)
{
    char dir[256];
    int rc;

    if (h->records) {
        (void)snprintf(buf, size, "%s", h->records);
    } else {
        rc = runtime_dir(dir, sizeof(dir), err);
        if (rc)
            return rc;
        (void)snprintf(buf, size, "%s/devices", dir);
    }
    if (mkdir(buf, 0700) && errno != EEXIST)
        return error_set(err, -errno, "the folder of records '%s' can't be made: %s", buf,
                         strerror(errno));
    return 0;
}

static int record_path(const struct host *h, const char *bdf, char *buf, size_t size,
                       struct error *err)
{
    char dir[300];
    int rc = bind_records(h, dir, sizeof(dir), err);

    if (rc == 0)
        (void)snprintf(buf, size, "%s/%s", dir, bdf);
    return rc;
}

/* "KEY VALUE" lines. False when it says nothing: its writer was killed before it changed anything.
 */
static bool read_record(const char *path, struct binding *b, long *pid)
{
    FILE *f = fopen(path, "re");
    char line[128], value[48];
    bool any = false;

    *pid = 0;
    while (f && fgets(line, sizeof(line), f)) {
        value[0] = '\0';
        if (sscanf(line, "driver %47s", value) == 1)
            (void)snprintf(b->driver, sizeof(b->driver), "%s", value);
        else if (sscanf(line, "override %47s", value) == 1)
            (void)snprintf(b->driver_override, sizeof(b->driver_override), "%s", value);
        else if (sscanf(line, "by %47s", value) == 1)
            b->libvirt = !strcmp(value, "libvirt");
        else if (sscanf(line, "pid %47s", value) == 1)
            *pid = strtol(value, NULL, 10);
        any = any || !strcmp(line, "end\n"); /* the last line: all of it is there */
    }
    if (f)
        (void)fclose(f);
    return any;
}

int bind_record_open(struct binding *b, const struct host *h, bool *found, struct error *err)
{
    char path[PATH_MAX];
    struct binding old = { .record = -1 };
    long pid;
    int rc = record_path(h, b->bdf, path, sizeof(path), err);

    if (rc)
        return rc;
    b->record = -1;
    rc = lock_file(path);
    if (rc == -EWOULDBLOCK) {
        (void)read_record(path, &old, &pid);
        if (pid <= 0) /* it hasn't written it yet */
            return error_set(err, -EBUSY, "device %s is in use by another process", b->bdf);
        return error_set(err, -EBUSY, "device %s is in use by process %ld", b->bdf, pid);
    }
    if (rc < 0)
        return error_set(err, rc, "the record '%s' can't be made: %s", path, strerror(-rc));
    *found = read_record(path, &old, &pid);
    if (*found) {
        (void)snprintf(old.bdf, sizeof(old.bdf), "%s", b->bdf);
        *b = old;
    }
    b->record = rc;
    return 0;
}

int bind_record_write(const struct binding *b, struct error *err)
{
    char text[256];
    int n = snprintf(text, sizeof(text), "pid %ld\n", (long)getpid());

    if (!b->kept) /* else there is nothing to give back, and no end of a record */
        n += snprintf(text + n, sizeof(text) - (size_t)n, "%s%s%s%s%s%sby %s\nend\n",
                      b->driver[0] ? "driver " : "", b->driver, b->driver[0] ? "\n" : "",
                      b->driver_override[0] ? "override " : "", b->driver_override,
                      b->driver_override[0] ? "\n" : "", b->libvirt ? "libvirt" : "sysfs");
    if (pwrite(b->record, text, (size_t)n, 0) == n && ftruncate(b->record, n) == 0)
        return 0;
    return error_set(err, -EIO, "the record of device %s can't be written: %s", b->bdf,
                     strerror(errno));
}

void bind_record_close(struct binding *b)
{
    if (b->record >= 0)
        close(b->record);
    b->record = -1;
}

void bind_record_remove(struct binding *b, const struct host *h)
{
    char path[PATH_MAX];

    if (b->record >= 0 && !record_path(h, b->bdf, path, sizeof(path), NULL))
        (void)unlink(path); /* while it is locked; see lock_file() */
    bind_record_close(b);
}
