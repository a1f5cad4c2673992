#include "tools/lab_cpio.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct cpio {
    FILE *f;
    unsigned int inode;
    int failed; /* the first -errno of writing */
    char name[PATH_MAX];
};

static int fail(struct cpio *cpio, struct error *err)
{
    if (!cpio->failed)
        cpio->failed = errno ? -errno : -EIO;
    return error_set(err, cpio->failed, "'%s' can't be written: %s", cpio->name,
                     strerror(-cpio->failed));
}

static void pad(struct cpio *cpio, size_t len)
{
    static const char zeros[4];

    (void)fwrite(zeros, 1, -len & 3, cpio->f);
}

/* The kernel finds a second archive at a multiple of four bytes. */
static int copy_base(struct cpio *cpio, const char *base)
{
    FILE *f = fopen(base, "re");
    char buf[65536];
    size_t total = 0;
    size_t n;
    int rc = 0;

    if (!f)
        return -errno;
    while ((n = fread(buf, 1, sizeof(buf), f)) > 0) {
        (void)fwrite(buf, 1, n, cpio->f);
        total += n;
    }
    pad(cpio, total);
    if (ferror(f) || ferror(cpio->f))
        rc = -EIO;
    (void)fclose(f);
    return rc;
}

int cpio_create(struct cpio **out, const char *path, const char *base, struct error *err)
{
    struct cpio *cpio = calloc(1, sizeof(*cpio));
    int rc;

    if (!cpio)
        return error_set(err, -ENOMEM, "no memory for the archive '%s'", path);
    cpio->f = fopen(path, "we");
    if (!cpio->f) {
        rc = -errno;
        free(cpio);
        return error_set(err, rc, "'%s' can't be created: %s", path, strerror(-rc));
    }
    (void)snprintf(cpio->name, sizeof(cpio->name), "%s", path);
    rc = base ? copy_base(cpio, base) : 0;
    if (rc < 0) {
        (void)fclose(cpio->f);
        free(cpio);
        return error_set(err, rc, "'%s' can't be copied to '%s': %s", base, path, strerror(-rc));
    }
    *out = cpio;
    return 0;
}

/* Linux, Documentation/driver-api/early-userspace/buffer-format.rst. */
static int put_header(struct cpio *cpio, const char *path, mode_t mode, size_t size,
                      struct error *err)
{
    size_t namesize = strlen(path) + 1;
    int n = fprintf(cpio->f, "070701%08X%08X%08X%08X%08X%08X%08zX%08X%08X%08X%08X%08zX%08X%s%c",
                    cpio->inode++, (unsigned int)mode, 0u, 0u, S_ISDIR(mode) ? 2u : 1u, 0u, size,
                    0u, 0u, 0u, 0u, namesize, 0u, path, 0);

    if (n < 0)
        return fail(cpio, err);
    pad(cpio, (size_t)n);
    return 0;
}

static int put_bytes(struct cpio *cpio, const char *path, mode_t mode, const void *bytes,
                     size_t len, struct error *err)
{
    int rc = put_header(cpio, path, mode, len, err);

    if (rc < 0)
        return rc;
    if (len && fwrite(bytes, 1, len, cpio->f) != len)
        return fail(cpio, err);
    pad(cpio, len);
    return 0;
}

/* Strips slashes at both ends and refuses parts that lead elsewhere. */
static int clean_path(const char *path, char out[PATH_MAX], struct error *err)
{
    size_t len = strlen(path);
    char copy[PATH_MAX];
    char *state = NULL;
    size_t n = 0;

    if (len >= PATH_MAX)
        return error_set(err, -ENAMETOOLONG, "the path '%.60s...' is too long", path);
    memcpy(copy, path, len + 1);
    out[0] = 0;
    for (char *part = strtok_r(copy, "/", &state); part; part = strtok_r(NULL, "/", &state)) {
        if (!strcmp(part, ".") || !strcmp(part, ".."))
            return error_set(err, -EINVAL, "the path '%s' in the lab has a part '%s': write it out",
                             path, part);
        n += (size_t)snprintf(out + n, PATH_MAX - n, "%s%s", n ? "/" : "", part);
    }
    if (!n)
        return error_set(err, -EINVAL, "the path '%s' in the lab names no file", path);
    return 0;
}

static int put_parents(struct cpio *cpio, const char *path, struct error *err)
{
    char dir[PATH_MAX];

    for (const char *slash = strchr(path, '/'); slash; slash = strchr(slash + 1, '/')) {
        int rc;

        memcpy(dir, path, (size_t)(slash - path));
        dir[slash - path] = 0;
        rc = put_header(cpio, dir, S_IFDIR | (strcmp(dir, "tmp") ? 0755 : 01777), 0, err);
        if (rc < 0)
            return rc;
    }
    return 0;
}

int cpio_add_bytes(struct cpio *cpio, const char *path, mode_t mode, const void *bytes, size_t len,
                   struct error *err)
{
    char clean[PATH_MAX];
    int rc = clean_path(path, clean, err);

    if (rc < 0)
        return rc;
    rc = put_parents(cpio, clean, err);
    return rc < 0 ? rc : put_bytes(cpio, clean, S_IFREG | mode, bytes, len, err);
}

static int put_file(struct cpio *cpio, const char *path, const char *source, int fd,
                    const struct stat *st, struct error *err)
{
    uint64_t left = (uint64_t)st->st_size;
    char buf[65536];
    int rc;

    if (left > UINT32_MAX)
        return error_set(err, -EFBIG, "'%s' is too large for the lab: 4 GiB are the limit", source);
    rc = put_header(cpio, path, S_IFREG | (st->st_mode & 07777), (size_t)left, err);
    if (rc < 0)
        return rc;
    while (left) {
        ssize_t n = read(fd, buf, left < sizeof(buf) ? (size_t)left : sizeof(buf));

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return error_set(err, n ? -errno : -EIO, "'%s' can't be read: %s", source,
                             n ? strerror(errno) : "it shrank meanwhile");
        if (fwrite(buf, 1, (size_t)n, cpio->f) != (size_t)n)
            return fail(cpio, err);
        left -= (uint64_t)n;
    }
    pad(cpio, (size_t)st->st_size);
    return 0;
}

static int add(struct cpio *cpio, const char *path, int dirfd, const char *entry,
               const char *source, int follow, struct error *err);

/* Takes over `fd`. */
static int put_dir(struct cpio *cpio, const char *path, const char *source, int fd,
                   const struct stat *st, struct error *err)
{
    int rc = put_header(cpio, path, S_IFDIR | (st->st_mode & 07777), 0, err);
    DIR *dir = fdopendir(fd);
    char child[PATH_MAX];
    char child_source[PATH_MAX];

    if (!dir) {
        close(fd);
        return error_set(err, -errno, "'%s' can't be listed: %s", source, strerror(errno));
    }
    for (struct dirent *e = rc < 0 ? NULL : readdir(dir); e && rc == 0; e = readdir(dir)) {
        if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, ".."))
            continue;
        if (snprintf(child, sizeof(child), "%s/%s", path, e->d_name) >= PATH_MAX ||
            snprintf(child_source, sizeof(child_source), "%s/%s", source, e->d_name) >= PATH_MAX)
            rc = error_set(err, -ENAMETOOLONG, "a path in '%s' is too long", source);
        else
            rc = add(cpio, child, fd, e->d_name, child_source, 0, err);
    }
    closedir(dir);
    return rc;
}

static int put_link(struct cpio *cpio, const char *path, int dirfd, const char *entry,
                    struct error *err)
{
    char target[PATH_MAX];
    ssize_t n = readlinkat(dirfd, entry, target, sizeof(target));

    if (n < 0 || n == (ssize_t)sizeof(target))
        return error_set(err, n < 0 ? -errno : -ENAMETOOLONG, "the link '%s' can't be read", path);
    return put_bytes(cpio, path, S_IFLNK | 0777, target, (size_t)n, err);
}

static int add(struct cpio *cpio, const char *path, int dirfd, const char *entry,
               const char *source, int follow, struct error *err)
{
    struct stat st;
    int rc = fstatat(dirfd, entry, &st, follow ? 0 : AT_SYMLINK_NOFOLLOW);
    int fd;

    if (rc)
        return error_set(err, -errno, "'%s' can't be read: %s", source, strerror(errno));
    if (S_ISLNK(st.st_mode))
        return put_link(cpio, path, dirfd, entry, err);
    if (!S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode)) {
        if (!follow)
            return 0;
        return error_set(err, -EINVAL, "'%s' is neither a file nor a folder", source);
    }
    fd = openat(dirfd, entry, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st)) {
        rc = error_set(err, -errno, "'%s' can't be read: %s", source, strerror(errno));
        if (fd >= 0)
            close(fd);
        return rc;
    }
    if (S_ISDIR(st.st_mode))
        return put_dir(cpio, path, source, fd, &st, err);
    rc = put_file(cpio, path, source, fd, &st, err);
    close(fd);
    return rc;
}

int cpio_add_host(struct cpio *cpio, const char *path, const char *source, struct error *err)
{
    char clean[PATH_MAX];
    int rc = clean_path(path, clean, err);

    if (rc < 0)
        return rc;
    rc = put_parents(cpio, clean, err);
    return rc < 0 ? rc : add(cpio, clean, AT_FDCWD, source, source, 1, err);
}

int cpio_finish(struct cpio *cpio, struct error *err)
{
    int rc;

    if (!cpio)
        return 0;
    rc = cpio->failed ? cpio->failed : put_header(cpio, "TRAILER!!!", 0, 0, err);
    if (fclose(cpio->f) && rc == 0)
        rc = error_set(err, -errno, "'%s' can't be written: %s", cpio->name, strerror(errno));
    free(cpio);
    return rc;
}
