/*
 * Files of the host that go into the guest: opened, checked, read straight into guest
 * memory.
 */
#include "vmm/boot_file.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int boot_file_open(struct boot_file *file, const char *what, const char *path, struct error *err)
{
    struct stat st;
    int rc;

    *file = (struct boot_file){ .what = what, .path = path };
    /* Non-blocking, so that a FIFO is refused below instead of waited for here. */
    file->fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (file->fd < 0)
        return error_set(err, -errno, "can't open %s '%s': %s", what, path, strerror(errno));
    if (fstat(file->fd, &st) < 0) {
        rc = error_set(err, -errno, "can't read %s '%s': %s", what, path, strerror(errno));
    } else if (S_ISDIR(st.st_mode)) {
        rc = error_set(err, -EISDIR, "%s '%s' is a directory: name a file", what, path);
    } else if (!S_ISREG(st.st_mode)) {
        rc = error_set(err, -EINVAL, "%s '%s' is not a regular file: copy it to one first", what,
                       path);
    } else if (st.st_size == 0) {
        rc = error_set(err, -EINVAL, "%s '%s' is empty", what, path);
    } else {
        file->size = (uint64_t)st.st_size;
        return 0;
    }
    boot_file_close(file);
    return rc;
}

void boot_file_close(struct boot_file *file)
{
    if (file->fd >= 0)
        (void)close(file->fd);
    file->fd = -1;
}

int boot_file_read(const struct boot_file *file, void *buf, uint64_t size, uint64_t offset,
                   struct error *err)
{
    uint8_t *to = buf;

    while (size) {
        ssize_t n = pread(file->fd, to, size, (off_t)offset);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return error_set(err, -errno, "can't read %s '%s': %s", file->what, file->path,
                             strerror(errno));
        if (n == 0)
            return error_set(err, -EINVAL, "%s '%s' became shorter while it was read", file->what,
                             file->path);
        to += n;
        size -= (uint64_t)n;
        offset += (uint64_t)n;
    }
    return 0;
}
