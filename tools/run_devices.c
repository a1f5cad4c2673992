#include "tools/run_devices.h"

#include <errno.h>
#include <string.h>

#include "tools/parse.h"
#include "vmm/vm.h"

/* The next device, or NULL with a sentence. */
static struct device_config *add(struct devices_config *cfg, enum device_kind kind,
                                 const char *what, struct error *err)
{
    struct device_config *d;

    if (cfg->count == DEVICES_MAX) {
        (void)error_set(err, -EINVAL, "%s: more than %d devices", what, DEVICES_MAX);
        return NULL;
    }
    d = &cfg->device[cfg->count++];
    *d = (struct device_config){ .kind = kind };
    return d;
}

/* FILE[,ro][,direct] */
static int parse_disk(struct devices_config *cfg, char *value, struct error *err)
{
    struct device_config *d = add(cfg, DEVICE_DISK, "--disk", err);
    char *rest = value;

    if (!d)
        return -EINVAL;
    d->path = strsep(&rest, ",");
    if (!*d->path)
        return error_set(err, -EINVAL, "--disk: no file named; give FILE[,ro][,direct]");
    for (char *word; (word = strsep(&rest, ",")) != NULL;) {
        if (!strcmp(word, "ro"))
            d->read_only = true;
        else if (!strcmp(word, "direct"))
            d->direct = true;
        else
            return error_set(err, -EINVAL, "--disk: '%s' is none; use ro, direct", word);
    }
    return 0;
}

/* BDF[,iova=RANGE]... */
static int parse_vfio(struct devices_config *cfg, char *value, struct error *err)
{
    static const char iova[] = "iova=";
    static char name[DEVICES_MAX][BDF_SIZE]; /* a process has one VM */
    struct device_config *d = add(cfg, DEVICE_VFIO, "--vfio", err);
    char *rest = value;
    int rc;

    if (!d)
        return -EINVAL;
    rc = bdf_parse("--vfio", strsep(&rest, ","), name[cfg->count - 1], err);
    d->path = name[cfg->count - 1];
    for (char *word; rc == 0 && (word = strsep(&rest, ",")) != NULL;) {
        if (strncmp(word, iova, sizeof(iova) - 1) != 0)
            return error_set(err, -EINVAL, "--vfio: '%s' is none; use iova=RANGE", word);
        if (d->ranges == DEVICE_RANGES_MAX)
            return error_set(err, -EINVAL, "--vfio: more than %d ranges", DEVICE_RANGES_MAX);
        rc = parse_range("--vfio iova", word + sizeof(iova) - 1, &d->range[d->ranges].gpa,
                         &d->range[d->ranges].size, err);
        d->ranges++;
    }
    return rc;
}

int run_devices_option(struct devices_config *cfg, int opt, char *value, struct error *err)
{
    switch (opt) {
    case OPT_DISK:
        return parse_disk(cfg, value, err);
    case OPT_VFIO:
        return parse_vfio(cfg, value, err);
    case OPT_RNG:
        return add(cfg, DEVICE_RNG, "--rng", err) ? 0 : -EINVAL;
    case OPT_EDU:
        return add(cfg, DEVICE_EDU, "--edu", err) ? 0 : -EINVAL;
    case OPT_IOMMU:
        cfg->iommu = true;
        return 0;
    default:
        return -ENOENT;
    }
}

int run_devices_take(struct run_taken *taken, const struct devices_config *cfg, struct error *err)
{
    const char *bdf[DEVICES_MAX];
    sigset_t set;
    size_t n = 0;
    int rc;

    for (size_t i = 0; i < cfg->count; i++)
        if (cfg->device[i].kind == DEVICE_VFIO)
            bdf[n++] = cfg->device[i].path;
    if (n == 0)
        return 0;
    vm_end_signals(&set);
    (void)pthread_sigmask(SIG_BLOCK, &set, &taken->mask);
    taken->blocked = true;
    rc = bind_take_all(taken->binding, &host_machine, bdf, n, err);
    if (rc == 0)
        taken->count = n;
    return rc;
}

int run_devices_give_back(struct run_taken *taken, struct error *err)
{
    int rc = bind_give_back_all(taken->binding, taken->count, &host_machine, err);

    taken->count = 0;
    if (taken->blocked)
        (void)pthread_sigmask(SIG_SETMASK, &taken->mask, NULL);
    taken->blocked = false;
    return rc;
}
