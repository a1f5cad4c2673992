#include "tools/lab_libvirt.h"

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tools/libvirt_load.h"

#define DRIVER "lib/x86_64-linux-gnu/libvirt/connection-driver/libvirt_driver_qemu.so"

/* The calls that we make, as libvirt-host.h, libvirt-domain.h, libvirt-event.h and
 * virterror.h declare them; the structs behind the pointers are libvirt's. */
struct libvirt {
    int (*virInitialize)(void);
    int (*virEventRegisterDefaultImpl)(void);
    int (*virEventRunDefaultImpl)(void);
    int (*virEventAddTimeout)(int ms, void (*cb)(int timer, void *opaque), void *opaque,
                              void (*ff)(void *opaque));
    void (*virSetErrorFunc)(void *ctx, void (*fn)(void *ctx, void *error));
    const char *(*virGetLastErrorMessage)(void);
    void *(*virConnectOpen)(const char *name);
    int (*virConnectClose)(void *conn);
    void *(*virDomainCreateXML)(void *conn, const char *xml, unsigned int flags);
    int (*virDomainDestroy)(void *domain);
    int (*virDomainFree)(void *domain);

    char dir[PATH_MAX];
    void *conn;
    void *domain;
    pthread_t thread;
    atomic_bool ending;
    bool running;
};

static void quiet(void *ctx, void *error)
{
    (void)ctx;
    (void)error;
}

static void tick(int timer, void *ctx)
{
    (void)timer;
    (void)ctx;
}

static void *event_thread(void *ctx)
{
    struct libvirt *lv = ctx;

    while (!atomic_load(&lv->ending))
        (void)lv->virEventRunDefaultImpl();
    return NULL;
}

static int load(struct libvirt *lv, struct error *err)
{
    const struct libvirt_symbol symbols[] = {
        { "virInitialize", &lv->virInitialize },
        { "virEventRegisterDefaultImpl", &lv->virEventRegisterDefaultImpl },
        { "virEventRunDefaultImpl", &lv->virEventRunDefaultImpl },
        { "virEventAddTimeout", &lv->virEventAddTimeout },
        { "virSetErrorFunc", &lv->virSetErrorFunc },
        { "virGetLastErrorMessage", &lv->virGetLastErrorMessage },
        { "virConnectOpen", &lv->virConnectOpen },
        { "virConnectClose", &lv->virConnectClose },
        { "virDomainCreateXML", &lv->virDomainCreateXML },
        { "virDomainDestroy", &lv->virDomainDestroy },
        { "virDomainFree", &lv->virDomainFree },
    };
    int rc = libvirt_load(symbols, sizeof(symbols) / sizeof(symbols[0]), err);

    if (rc == -ENOENT)
        return error_set(err, rc,
                         "the lab needs libvirt.so.0: install the Debian packages libvirt0, "
                         "libvirt-daemon-driver-qemu and libvirt-daemon-system");
    return rc;
}

/*
 * What the driver has to know: root runs QEMU as root (its files are in a
 * folder of ours), and nothing of the machine's security labels, cgroups,
 * namespaces or log daemon is used.
 */
static int write_config(struct libvirt *lv, struct error *err)
{
    char path[PATH_MAX + 32];
    FILE *f;

    (void)snprintf(path, sizeof(path), "%s/etc", lv->dir);
    (void)mkdir(path, 0700);
    (void)snprintf(path, sizeof(path), "%s/etc/qemu.conf", lv->dir);
    f = fopen(path, "we");
    if (!f)
        return error_set(err, -errno, "'%s' can't be written: %s", path, strerror(errno));
    if (geteuid() == 0)
        (void)fputs("user = \"root\"\ngroup = \"root\"\ndynamic_ownership = 0\n", f);
    (void)fputs("security_driver = \"none\"\n"
                "stdio_handler = \"file\"\n"
                "cgroup_controllers = []\n"
                "namespaces = []\n",
                f);
    if (fclose(f))
        return error_set(err, -errno, "'%s' can't be written: %s", path, strerror(errno));
    /* An ordinary user's libvirt looks for more folders, and makes them. */
    (void)snprintf(path, sizeof(path), "%s/home", lv->dir);
    (void)setenv("XDG_CACHE_HOME", path, 1);
    (void)setenv("XDG_CONFIG_HOME", path, 1);
    (void)setenv("XDG_RUNTIME_DIR", path, 1);
    /* What the library has to say beyond its errors is for a log, not for a terminal. */
    (void)snprintf(path, sizeof(path), "3:file:%s/libvirt.log", lv->dir);
    (void)setenv("LIBVIRT_LOG_OUTPUTS", path, 1);
    return 0;
}

static const char *why(struct libvirt *lv)
{
    const char *text = lv->virGetLastErrorMessage();

    return text ? text : "no reason given";
}

static int connect_driver(struct libvirt *lv, struct error *err)
{
    char uri[PATH_MAX + 32];

    if (lv->virInitialize() < 0 || lv->virEventRegisterDefaultImpl() < 0 ||
        lv->virEventAddTimeout(100, tick, NULL, NULL) < 0)
        return error_set(err, -EIO, "libvirt can't be initialised: %s", why(lv));
    lv->virSetErrorFunc(NULL, quiet);
    if (pthread_create(&lv->thread, NULL, event_thread, lv))
        return error_set(err, -EAGAIN, "no thread for libvirt");
    lv->running = true;
    (void)snprintf(uri, sizeof(uri), "qemu:///embed?root=%s", lv->dir);
    lv->conn = lv->virConnectOpen(uri);
    if (lv->conn)
        return 0;
    if (access("/usr/" DRIVER, F_OK))
        return error_set(err, -ENOENT,
                         "libvirt has no QEMU driver here: install the Debian packages "
                         "libvirt-daemon-driver-qemu and libvirt-daemon-system");
    return error_set(err, -EIO, "libvirt's embedded QEMU driver can't be opened: %s", why(lv));
}

int libvirt_open(struct libvirt **out, const char *dir, struct error *err)
{
    struct libvirt *lv = calloc(1, sizeof(*lv));
    int rc;

    if (!lv)
        return error_set(err, -ENOMEM, "no memory for libvirt");
    (void)snprintf(lv->dir, sizeof(lv->dir), "%s", dir);
    rc = load(lv, err);
    if (rc == 0)
        rc = write_config(lv, err);
    if (rc == 0)
        rc = connect_driver(lv, err);
    if (rc < 0) {
        libvirt_close(lv);
        return rc;
    }
    *out = lv;
    return 0;
}

int libvirt_start(struct libvirt *lv, const char *xml, struct error *err)
{
    lv->domain = lv->virDomainCreateXML(lv->conn, xml, 0);
    if (!lv->domain)
        return error_set(err, -EIO, "libvirt can't start the lab's machine: %s", why(lv));
    return 0;
}

void libvirt_stop(struct libvirt *lv)
{
    if (!lv->domain)
        return;
    (void)lv->virDomainDestroy(lv->domain);
    (void)lv->virDomainFree(lv->domain);
    lv->domain = NULL;
}

void libvirt_close(struct libvirt *lv)
{
    if (!lv)
        return;
    libvirt_stop(lv);
    if (lv->conn)
        (void)lv->virConnectClose(lv->conn);
    if (lv->running) {
        atomic_store(&lv->ending, true);
        (void)pthread_join(lv->thread, NULL);
    }
    /* Not dlclose(): threads of the library may still be on their way out. */
    free(lv);
}
