/* What this machine itself needs a device for. */
#include <dirent.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "tools/host_device.h"

#define STACK_MAX 8 /* of block devices: LUKS on LVM on RAID on a partition... */

/* Whether the sysfs path has the device as one of its folders. */
static bool below(const char *path, const char *bdf)
{
    size_t len = strlen(bdf);

    for (const char *at = path; (at = strstr(at, bdf)) != NULL; at += len)
        if (at > path && at[-1] == '/' && (at[len] == '/' || at[len] == '\0'))
            return true;
    return false;
}

/*
 * NVMe with several paths to a disk: it stands below its subsystem, which is a virtual device with
 * links to its controllers.
 */
static bool subsystem_is_on(const char *real, const char *bdf)
{
    static const char marker[] = "/nvme-subsystem/";
    const char *at = strstr(real, marker);
    char dir[PATH_MAX], sub[PATH_MAX + 300], controller[PATH_MAX];
    bool found = false;
    DIR *links;

    if (!at)
        return false;
    at += sizeof(marker) - 1;
    (void)snprintf(dir, sizeof(dir), "%.*s", (int)(at - real + (ssize_t)strcspn(at, "/")), real);
    links = opendir(dir);
    for (struct dirent *e; links && !found && (e = readdir(links)) != NULL;) {
        (void)snprintf(sub, sizeof(sub), "%s/%s", dir, e->d_name);
        found =
            !strncmp(e->d_name, "nvme", 4) && realpath(sub, controller) && below(controller, bdf);
    }
    if (links)
        closedir(links);
    return found;
}

/* Whether the block device of that sysfs folder lies on the PCI device, itself or by those it is
 * made of (device mapper, RAID). */
static bool block_is_on(const char *dir, const char *bdf, int depth)
{
    char real[PATH_MAX], sub[PATH_MAX + 300];
    bool found = false;
    DIR *slaves;

    if (depth == STACK_MAX || !realpath(dir, real))
        return false;
    if (below(real, bdf) || subsystem_is_on(real, bdf))
        return true;
    (void)snprintf(sub, sizeof(sub), "%s/partition", real);
    if (access(sub, F_OK) == 0) /* what a RAID is made of stands at the whole of it */
        *strrchr(real, '/') = '\0';
    (void)snprintf(sub, sizeof(sub), "%s/slaves", real);
    slaves = opendir(sub);
    for (struct dirent *e; slaves && !found && (e = readdir(slaves)) != NULL;) {
        if (e->d_name[0] == '.')
            continue;
        (void)snprintf(sub, sizeof(sub), "%s/slaves/%s", real, e->d_name);
        found = block_is_on(sub, bdf, depth + 1);
    }
    if (slaves)
        closedir(slaves);
    return found;
}

static bool number_is_on(const struct host *h, unsigned major_, unsigned minor_, const char *bdf)
{
    char path[PATH_MAX];

    (void)snprintf(path, sizeof(path), "%s/dev/block/%u:%u", h->sys, major_, minor_);
    return block_is_on(path, bdf, 0);
}

static bool node_is_on(const struct host *h, const char *node, const char *bdf)
{
    struct stat st;

    return node[0] == '/' && stat(node, &st) == 0 && S_ISBLK(st.st_mode) &&
           number_is_on(h, major(st.st_rdev), minor(st.st_rdev), bdf);
}

/* Whether one of the block devices that are in a folder of sysfs lies on the PCI device. */
static bool any_is_on(const char *dir, const char *bdf)
{
    char path[PATH_MAX + 300];
    bool found = false;
    DIR *blocks = opendir(dir);

    for (struct dirent *e; blocks && !found && (e = readdir(blocks)) != NULL;) {
        (void)snprintf(path, sizeof(path), "%s/%s", dir, e->d_name);
        found = e->d_name[0] != '.' && block_is_on(path, bdf, 0);
    }
    if (blocks)
        closedir(blocks);
    return found;
}

/* A btrfs that is mounted anywhere lists all its disks; mountinfo names one of them. */
static bool holds_btrfs(const struct host *h, struct host_device *d)
{
    char dir[PATH_MAX], devices[PATH_MAX + 300];
    bool found = false;
    DIR *all;

    (void)snprintf(dir, sizeof(dir), "%s/fs/btrfs", h->sys);
    all = opendir(dir);
    for (struct dirent *e; all && !found && (e = readdir(all)) != NULL;) {
        (void)snprintf(devices, sizeof(devices), "%s/%s/devices", dir, e->d_name);
        found = e->d_name[0] != '.' && any_is_on(devices, d->bdf);
    }
    if (all)
        closedir(all);
    if (found)
        (void)snprintf(d->use, sizeof(d->use), "holds a part of a mounted btrfs");
    return found;
}

/* File systems over disks that sysfs doesn't name. */
static bool is_pool(const char *type)
{
    return !strcmp(type, "zfs") || !strcmp(type, "bcachefs");
}

/* Any disk may be of the pool: mass storage (class 01) that has one. */
static bool has_disks(const struct host *h, const struct host_device *d)
{
    char path[PATH_MAX];

    (void)snprintf(path, sizeof(path), "%s/class/block", h->sys);
    return d->class_code >> 16 == 0x01 && any_is_on(path, d->bdf);
}

/* Lines of mountinfo (proc(5)): ID PARENT MAJOR:MINOR ROOT MOUNTPOINT OPTIONS... - TYPE SOURCE. */
static bool holds_mount(const struct host *h, struct host_device *d)
{
    char path[PATH_MAX], line[4096], point[256], type[64], source[256];
    bool found = false, pool = false;
    unsigned major_, minor_;
    FILE *f;

    (void)snprintf(path, sizeof(path), "%s/self/mountinfo", h->proc);
    f = fopen(path, "re");
    while (f && !found && fgets(line, sizeof(line), f)) {
        const char *dash = strstr(line, " - ");

        if (sscanf(line, "%*d %*d %u:%u %*s %255s", &major_, &minor_, point) != 3)
            continue;
        if (!dash || sscanf(dash, " - %63s %255s", type, source) != 2)
            type[0] = source[0] = '\0';
        /* A file system over several disks has no number of a disk: its source names one. */
        found = major_ ? number_is_on(h, major_, minor_, d->bdf) : node_is_on(h, source, d->bdf);
        pool = !found && major_ == 0 && is_pool(type) && has_disks(h, d);
        found = found || pool;
    }
    if (f)
        (void)fclose(f);
    if (pool)
        (void)snprintf(d->use, sizeof(d->use),
                       "may hold a part of %.30s (which disks a %.8s is on isn't known)", point,
                       type);
    else if (found)
        (void)snprintf(d->use, sizeof(d->use), "holds the file system of %.60s", point);
    return found;
}

static bool holds_swap(const struct host *h, struct host_device *d)
{
    char path[PATH_MAX], line[512], node[256];
    bool found = false;
    FILE *f;

    (void)snprintf(path, sizeof(path), "%s/swaps", h->proc);
    f = fopen(path, "re");
    while (f && !found && fgets(line, sizeof(line), f))
        found = sscanf(line, "%255s", node) == 1 && node_is_on(h, node, d->bdf);
    if (f)
        (void)fclose(f);
    if (found)
        (void)snprintf(d->use, sizeof(d->use), "holds swap on %.60s", node);
    return found;
}

/* An interface that is up: bit 0 (IFF_UP, netdevice(7)) of its flags. */
static bool is_up(const struct host *h, const char *name)
{
    char path[PATH_MAX];
    unsigned flags = 0;
    FILE *f;

    (void)snprintf(path, sizeof(path), "%s/class/net/%s/flags", h->sys, name);
    f = fopen(path, "re");
    if (!f)
        return false;
    if (fscanf(f, "%x", &flags) != 1)
        flags = 0;
    (void)fclose(f);
    return flags & 1;
}

static bool holds_network(const struct host *h, struct host_device *d)
{
    char path[PATH_MAX], real[PATH_MAX];
    bool found = false;
    DIR *dir;

    (void)snprintf(path, sizeof(path), "%s/class/net", h->sys);
    dir = opendir(path);
    for (struct dirent *e; dir && !found && (e = readdir(dir)) != NULL;) {
        (void)snprintf(path, sizeof(path), "%s/class/net/%s", h->sys, e->d_name);
        found = e->d_name[0] != '.' && realpath(path, real) && below(real, d->bdf) &&
                is_up(h, e->d_name);
        if (found)
            (void)snprintf(d->use, sizeof(d->use), "is the network interface %.40s, which is up",
                           e->d_name);
    }
    if (dir)
        closedir(dir);
    return found;
}

void host_device_use(const struct host *h, struct host_device *d)
{
    d->use[0] = '\0';
    if (!holds_mount(h, d) && !holds_btrfs(h, d) && !holds_swap(h, d))
        (void)holds_network(h, d);
}
