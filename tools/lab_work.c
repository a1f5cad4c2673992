#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tools/lab.h"
#include "tools/lab_cpio.h"
#include "tools/lab_link.h"

#define HOME "/root" /* the command's working directory in the appliance */

/* --- the folder ------------------------------------------------------------------- */

/* The appliance is built beside the program, and installed to ../share/twofold. */
static int find_appliance(struct lab_work *work, const struct lab_options *opt, struct error *err)
{
    static const char *const places[] = { "appliance", "../share/twofold" };
    char exe[PATH_MAX - 64];
    char file[PATH_MAX + 16];
    ssize_t n;

    if (opt->appliance) {
        if (snprintf(file, sizeof(file), "%s/initramfs.cpio", opt->appliance) < PATH_MAX &&
            access(file, R_OK) == 0) {
            (void)snprintf(work->appliance, sizeof(work->appliance), "%s", opt->appliance);
            return 0;
        }
        return error_set(err, -EINVAL, "--appliance: there is no initramfs.cpio in '%s'",
                         opt->appliance);
    }
    n = readlink("/proc/self/exe", exe, sizeof(exe) - 1);
    if (n > 0) {
        exe[n] = 0;
        *strrchr(exe, '/') = 0;
    }
    for (size_t i = 0; n > 0 && i < sizeof(places) / sizeof(places[0]); i++) {
        (void)snprintf(work->appliance, sizeof(work->appliance), "%s/%s", exe, places[i]);
        (void)snprintf(file, sizeof(file), "%s/initramfs.cpio", work->appliance);
        if (access(file, R_OK) == 0)
            return 0;
    }
    return error_set(err, -ENOENT,
                     "there is no appliance beside this program: build it with `make appliance`, "
                     "or name its folder with --appliance");
}

int lab_work_create(struct lab_work *work, const struct lab_options *opt, struct error *err)
{
    const char *tmp = getenv("TMPDIR");
    int rc = find_appliance(work, opt, err);

    if (rc < 0)
        return rc;
    if (!tmp || !*tmp)
        tmp = "/tmp";
    /* The longest socket path that libvirt makes in it has to fit into 108 bytes. */
    if (strlen(tmp) > 40)
        return error_set(err, -ENAMETOOLONG,
                         "TMPDIR '%s' is too long for sockets: set it to a shorter folder", tmp);
    (void)snprintf(work->dir, sizeof(work->dir), "%s/twofold-lab-XXXXXX", tmp);
    if (!mkdtemp(work->dir))
        return error_set(err, -errno, "no work folder in '%s': %s", tmp, strerror(errno));
    return 0;
}

/* --- what goes in -------------------------------------------------------------------- */

/* A list of strings with a NUL behind each. */
static int add_strings(struct cpio *cpio, const char *path, const char *const *strings, size_t n,
                       struct error *err)
{
    size_t len = 0;
    char *buf;
    int rc;

    for (size_t i = 0; i < n; i++)
        len += strlen(strings[i]) + 1;
    buf = malloc(len + 1);
    if (!buf)
        return error_set(err, -ENOMEM, "no memory for the lab's command");
    len = 0;
    for (size_t i = 0; i < n; i++) {
        size_t size = strlen(strings[i]) + 1;

        memcpy(buf + len, strings[i], size);
        len += size;
    }
    rc = cpio_add_bytes(cpio, path, 0600, buf, len, err);
    free(buf);
    return rc;
}

static int add_files(struct cpio *cpio, const struct lab_options *opt, struct error *err)
{
    const char *outs[LAB_FILES_MAX];
    char path[PATH_MAX];
    int rc = 0;

    for (unsigned int i = 0; i < opt->ins && rc == 0; i++) {
        const char *target = opt->in[i].target;

        if (snprintf(path, sizeof(path), "%s%s", *target == '/' ? "" : HOME "/", target) >=
            PATH_MAX)
            return error_set(err, -ENAMETOOLONG, "the path '%.60s...' is too long", target);
        rc = cpio_add_host(cpio, path, opt->in[i].source, err);
    }
    for (unsigned int i = 0; i < opt->outs; i++)
        outs[i] = opt->out[i].source;
    if (rc == 0)
        rc = add_strings(cpio, LAB_OUT_FILE, outs, opt->outs, err);
    if (rc == 0 && opt->command)
        rc = add_strings(cpio, LAB_COMMAND_FILE, opt->command, (size_t)opt->command_len, err);
    return rc;
}

int lab_work_initrd(struct lab_work *work, const struct lab_options *opt, struct error *err)
{
    char base[PATH_MAX + 16];
    char path[sizeof(work->dir) + 16];
    struct cpio *cpio;
    struct error late;
    int rc;
    int finish;

    (void)snprintf(base, sizeof(base), "%s/initramfs.cpio", work->appliance);
    (void)snprintf(path, sizeof(path), "%s/initrd", work->dir);
    rc = cpio_create(&cpio, path, base, err);
    if (rc < 0)
        return rc;
    rc = add_files(cpio, opt, err);
    finish = cpio_finish(cpio, &late);
    if (rc == 0 && finish < 0)
        return error_set(err, finish, "%s", late.text);
    return rc;
}

int lab_find_program(const char *program, const char *package, char path[PATH_MAX],
                     struct error *err)
{
    const char *env = getenv("PATH");

    for (const char *p = env ? env : "/usr/bin:/bin"; *p;) {
        size_t len = strcspn(p, ":");

        if (snprintf(path, PATH_MAX, "%.*s/%s", (int)len, p, program) < PATH_MAX &&
            access(path, X_OK) == 0)
            return 0;
        p += len + (p[len] == ':');
    }
    return error_set(err, -ENOENT, "the lab needs %s: install the Debian package %s", program,
                     package);
}
