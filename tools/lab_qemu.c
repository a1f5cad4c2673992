#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "tools/lab.h"
#include "tools/lab_libvirt.h"

#define CONNECT_WAIT 5000 /* ms; QEMU connects before libvirt says that it runs */

static int listen_at(const char *path, struct error *err)
{
    struct sockaddr_un addr = { .sun_family = AF_UNIX };
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    (void)snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", path);
    (void)unlink(path);
    if (fd < 0 || bind(fd, (struct sockaddr *)&addr, sizeof(addr)) || listen(fd, 1)) {
        int code = -errno;

        if (fd >= 0)
            close(fd);
        return error_set(err, code, "no socket at '%s': %s", path, strerror(-code));
    }
    return fd;
}

static int accept_within(int listener, const char *what, struct error *err)
{
    struct pollfd fd = { .fd = listener, .events = POLLIN };
    int conn;

    if (poll(&fd, 1, CONNECT_WAIT) <= 0)
        return error_set(err, -ETIMEDOUT,
                         "the lab's machine doesn't connect its %s: does the domain's file use "
                         "{CONSOLE} and {LINK}?",
                         what);
    conn = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    return conn >= 0 ? conn : error_set(err, -errno, "the lab's %s: %s", what, strerror(errno));
}

struct paths {
    char console[128], link[128], initrd[128], kernel[PATH_MAX + 16], domain[PATH_MAX + 32];
    char emulator[PATH_MAX];
};

static char *make_xml(const struct lab_options *opt, const struct paths *paths, const char *name,
                      struct error *err)
{
    char cmdline[2048];
    char memory[32], half[32], rest[32], last[16];
    char cpus[16];
    const char *const words[][2] = {
        { "NAME", name },
        { "MEMORY", memory },
        { "MEMORY0", half },
        { "MEMORY1", rest },
        { "CPUS", cpus },
        { "LASTCPU", last },
        { "KERNEL", paths->kernel },
        { "INITRD", paths->initrd },
        { "CMDLINE", cmdline },
        { "EMULATOR", paths->emulator },
        { "CONSOLE", paths->console },
        { "LINK", paths->link },
        { NULL, NULL },
    };

    (void)snprintf(memory, sizeof(memory), "%llu", (unsigned long long)(opt->mem >> 20));
    (void)snprintf(half, sizeof(half), "%llu", (unsigned long long)(opt->mem >> 21));
    (void)snprintf(rest, sizeof(rest), "%llu",
                   (unsigned long long)((opt->mem >> 20) - (opt->mem >> 21)));
    (void)snprintf(cpus, sizeof(cpus), "%u", opt->cpus);
    (void)snprintf(last, sizeof(last), "%u", opt->cpus - 1);
    /* numa_balancing: with two nodes Linux would take pages away to see who uses them.
     * tsc=reliable: the TSC is steady in emulation, but Linux would check it and then use the
     * HPET, which is slow. no_timer_check: on a busy machine the timer fails Linux's test. */
    if (snprintf(cmdline, sizeof(cmdline),
                 "console=ttyS0 panic=-1 quiet tsc=reliable no_timer_check intel_iommu=on "
                 "numa_balancing=disable%s%s%s",
                 opt->npt_off ? " kvm_amd.npt=0" : "", opt->append ? " " : "",
                 opt->append ? opt->append : "") >= (int)sizeof(cmdline)) {
        (void)error_set(err, -E2BIG, "--append: the kernel takes at most 2047 characters");
        return NULL;
    }
    return lab_fill(paths->domain, words, true, err);
}

static int prepare(struct paths *paths, const struct lab_work *work, const struct lab_options *opt,
                   struct error *err)
{
    (void)snprintf(paths->console, sizeof(paths->console), "%s/console.sock", work->dir);
    (void)snprintf(paths->link, sizeof(paths->link), "%s/link.sock", work->dir);
    (void)snprintf(paths->initrd, sizeof(paths->initrd), "%s/initrd", work->dir);
    (void)snprintf(paths->kernel, sizeof(paths->kernel), "%s/vmlinux", work->appliance);
    if (opt->domain)
        (void)snprintf(paths->domain, sizeof(paths->domain), "%s", opt->domain);
    else
        (void)snprintf(paths->domain, sizeof(paths->domain), "%s/lab-domain.xml", work->appliance);
    return lab_find_program("qemu-system-x86_64", "qemu-system-x86", paths->emulator, err);
}

int lab_qemu_start(struct lab_machine *m, struct lab_work *work, const struct lab_options *opt,
                   struct error *err)
{
    struct libvirt *lv = m->impl;
    struct paths paths = { 0 };
    int console = -1;
    int link = -1;
    char *xml = NULL;
    int rc = prepare(&paths, work, opt, err);

    m->link = m->console = m->display = m->screen = -1;
    m->files = false;
    m->pid = 0;
    if (rc < 0)
        return rc;
    xml = make_xml(opt, &paths, "lab", err);
    if (!xml)
        return -EINVAL;
    rc = console = listen_at(paths.console, err);
    if (rc >= 0)
        rc = link = listen_at(paths.link, err);
    if (rc >= 0 && !lv) {
        rc = libvirt_open(&lv, work->dir, err);
        m->impl = lv;
    }
    if (rc >= 0)
        rc = libvirt_start(lv, xml, err);
    if (rc >= 0)
        rc = m->console = accept_within(console, "console", err);
    if (rc >= 0)
        rc = m->link = accept_within(link, "link", err);
    free(xml);
    if (console >= 0)
        close(console);
    if (link >= 0)
        close(link);
    return rc < 0 ? rc : 0;
}

void lab_qemu_stop(struct lab_machine *m)
{
    if (m->impl)
        libvirt_stop(m->impl);
    if (m->link >= 0)
        close(m->link);
    if (m->console >= 0)
        close(m->console);
    m->link = m->console = -1;
}

void lab_qemu_close(struct lab_machine *m)
{
    libvirt_close(m->impl);
    m->impl = NULL;
}
