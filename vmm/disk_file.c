#include "vmm/disk_file.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

/* No device asks for more. */
#define BLOCK_MAX 4096u

static int kind_check(const char *path, mode_t mode, struct error *err)
{
    if (S_ISDIR(mode))
        return error_set(err, -EINVAL, "--disk: '%s' is a folder; name an image file", path);
    if (!S_ISREG(mode) && !S_ISBLK(mode))
        return error_set(err, -EINVAL, "--disk: '%s' is neither a file nor a block device", path);
    return 0;
}

static int open_failed(const char *path, int code, bool read_only, bool direct, struct error *err)
{
    const char *hint = "";
    bool wrong = code == -ENOENT || code == -ENOTDIR || code == -EACCES || code == -EPERM ||
                 code == -EROFS || code == -ELOOP || code == -ENAMETOOLONG;

    if (code == -EBUSY)
        hint = ": it is mounted or in use by this machine";
    else if (!read_only && (code == -EACCES || code == -EPERM || code == -EROFS))
        hint = "; to read only, add ',ro'";
    else if (direct && code == -EINVAL)
        hint = ": its file system has no direct I/O; leave ',direct' out";
    /* The wrong file was named: that is an error of the command line. */
    return error_set(err, wrong ? -EINVAL : code, "--disk: '%s' can't be opened: %s%s", path,
                     strerror(-code), hint);
}

/* A lock of the open file, not of the process: two disks of one VM are told apart, too. */
static int lock(const struct disk_file *f, const char *path, struct error *err)
{
    struct flock all = { .l_type = f->read_only ? F_RDLCK : F_WRLCK, .l_whence = SEEK_SET };

    if (fcntl(f->fd, F_OFD_SETLK, &all) == 0)
        return 0;
    if (errno == EAGAIN || errno == EACCES)
        return error_set(err, -EBUSY,
                         "--disk: '%s' is in use by another VM or disk; stop that one, or give "
                         "',ro' to all of them",
                         path);
    return error_set(err, -errno, "--disk: '%s' can't be locked: %s", path, strerror(errno));
}

static int measure(struct disk_file *f, const char *path, const struct stat *st, struct error *err)
{
    f->bytes = (uint64_t)st->st_size;
    if (S_ISBLK(st->st_mode) && ioctl(f->fd, BLKGETSIZE64, &f->bytes) < 0)
        return error_set(err, -errno, "--disk: the size of '%s': %s", path, strerror(errno));
    if (f->bytes == 0)
        return error_set(err, -EINVAL, "--disk: '%s' is empty; make it larger (truncate -s 64M)",
                         path);
    if (f->bytes % DISK_SECTOR)
        return error_set(err, -EINVAL,
                         "--disk: '%s' has %" PRIu64 " bytes, which is no multiple of %u: is it a "
                         "raw image? (truncate -s %%%u makes it one)",
                         path, f->bytes, DISK_SECTOR, DISK_SECTOR);
    return 0;
}

/* With direct I/O transfers have a smallest size, which only trying tells of every file. */
static int find_block(struct disk_file *f, const char *path, struct error *err)
{
    void *buf = NULL;
    ssize_t n = -1;

    if (posix_memalign(&buf, BLOCK_MAX, BLOCK_MAX) != 0)
        return error_set(err, -ENOMEM, "--disk: no memory");
    for (f->block = DISK_SECTOR; f->block <= BLOCK_MAX; f->block *= 2) {
        n = pread(f->fd, buf, f->block, 0);
        if (n >= 0 || errno != EINVAL)
            break;
    }
    free(buf);
    if (n < 0)
        return error_set(err, -errno, "--disk: '%s' can't be read: %s", path, strerror(errno));
    f->align = f->block;
    if (f->bytes % f->block)
        return error_set(err, -EINVAL,
                         "--disk: '%s' with direct I/O has blocks of %u bytes, of which its size "
                         "is no multiple; leave ',direct' out",
                         path, f->block);
    return 0;
}

int disk_file_open(struct disk_file *out, const char *path, bool read_only, bool direct,
                   struct error *err)
{
    const char *slash = strrchr(path, '/');
    int flags = (read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC, rc;
    struct stat st;

    *out = (struct disk_file){ .fd = -1,
                               .block = DISK_SECTOR,
                               .align = 1,
                               .read_only = read_only,
                               .label = slash ? slash + 1 : path };
    /* Before it is opened: opening a pipe or a device may do something. */
    if (stat(path, &st) < 0)
        return open_failed(path, -errno, read_only, direct, err);
    rc = kind_check(path, st.st_mode, err);
    if (rc < 0)
        return rc;
    if (S_ISBLK(st.st_mode) && !read_only)
        flags |= O_EXCL;
    out->fd = open(path, flags | (direct ? O_DIRECT : 0));
    if (out->fd < 0)
        return open_failed(path, -errno, read_only, direct, err);
    if (fstat(out->fd, &st) < 0)
        rc = open_failed(path, -errno, read_only, direct, err);
    if (rc == 0)
        rc = kind_check(path, st.st_mode, err);
    if (rc == 0)
        rc = lock(out, path, err);
    if (rc == 0)
        rc = measure(out, path, &st, err);
    if (rc == 0 && direct)
        rc = find_block(out, path, err);
    if (rc < 0)
        disk_file_close(out);
    return rc;
}

void disk_file_close(struct disk_file *f)
{
    if (f->fd >= 0)
        (void)close(f->fd);
    f->fd = -1;
}
