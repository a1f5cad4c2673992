#include "vmm/control.h"
#include "vmm/lock_file.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#define NAME_LEN_MAX 64

int control_name_check(const char *name, struct error *err)
{
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                  "0123456789._-";
    size_t len = strlen(name);

    if (len == 0 || strspn(name, allowed) != len || name[0] == '.' || name[0] == '-')
        return error_set(err, -EINVAL,
                         "'%.80s' can't be a VM's name; use letters, digits and . _ - "
                         "with a letter or digit first",
                         name);
    if (len > NAME_LEN_MAX)
        return error_set(err, -EINVAL, "the name '%.20s...' is too long; use at most %d characters",
                         name, NAME_LEN_MAX);
    return 0;
}

static int check_dir(const char *dir, struct error *err)
{
    struct stat st;

    if (lstat(dir, &st))
        return error_set(err, -errno, "the folder of control sockets '%s': %s", dir,
                         strerror(errno));
    if (!S_ISDIR(st.st_mode))
        return error_set(err, -ENOTDIR,
                         "the folder of control sockets '%s' is no folder; remove it or set "
                         "XDG_RUNTIME_DIR",
                         dir);
    if (st.st_uid != geteuid() || (st.st_mode & 022))
        return error_set(err, -EPERM,
                         "the folder of control sockets '%s' can be written by others; make it "
                         "yours with mode 0700, or set XDG_RUNTIME_DIR",
                         dir);
    return 0;
}

int control_dir(char *buf, size_t size, struct error *err)
{
    const char *base = getenv("XDG_RUNTIME_DIR");
    int n;

    if (base && base[0] == '/')
        n = snprintf(buf, size, "%s/twofold", base);
    else if (geteuid() == 0)
        n = snprintf(buf, size, "/run/twofold");
    else
        n = snprintf(buf, size, "/tmp/twofold-%u", (unsigned)geteuid());
    if (n < 0 || (size_t)n >= size)
        return error_set(err, -ENAMETOOLONG,
                         "XDG_RUNTIME_DIR is too long for a socket's path; set a shorter one");
    if (mkdir(buf, 0700) && errno != EEXIST)
        return error_set(err, -errno,
                         "the folder of control sockets '%s' can't be made: %s; set "
                         "XDG_RUNTIME_DIR to a folder that you can write",
                         buf, strerror(errno));
    return check_dir(buf, err);
}

static int path_with(const char *name, const char *suffix, char *buf, size_t size,
                     struct error *err)
{
    char dir[256];
    int code = control_name_check(name, err);
    int n;

    if (!code)
        code = control_dir(dir, sizeof(dir), err);
    if (code)
        return code;
    n = snprintf(buf, size, "%s/%s%s", dir, name, suffix);
    if (n < 0 || (size_t)n >= size || (size_t)n >= sizeof(((struct sockaddr_un *)0)->sun_path))
        return error_set(err, -ENAMETOOLONG,
                         "'%s/%s%s' is too long for a socket's path; use a shorter name or "
                         "XDG_RUNTIME_DIR",
                         dir, name, suffix);
    return 0;
}

int control_path(const char *name, char *buf, size_t size, struct error *err)
{
    return path_with(name, ".sock", buf, size, err);
}

static void set_timeout(int fd, int timeout_ms)
{
    struct timeval tv = { .tv_sec = timeout_ms / 1000, .tv_usec = timeout_ms % 1000 * 1000 };

    (void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof(tv));
    (void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv));
}

int control_connect(const char *name, int timeout_ms, int *out, struct error *err)
{
    struct sockaddr_un addr = { .sun_family = AF_UNIX };
    int code = control_path(name, addr.sun_path, sizeof(addr.sun_path), err);
    int fd;

    if (code)
        return code;
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return error_set(err, -errno, "control socket: %s", strerror(errno));
    set_timeout(fd, timeout_ms);
    if (connect(fd, (struct sockaddr *)&addr, sizeof(addr)) == 0) {
        *out = fd;
        return 0;
    }
    code = -errno;
    close(fd);
    switch (code) {
    case -ENOENT:
        return error_set(err, code, "no VM is named '%s'; see 'twofold ps'", name);
    case -ECONNREFUSED:
        return error_set(err, code, "VM '%s' is gone: its monitor was killed", name);
    case -EAGAIN:
        return error_set(err, code, "VM '%s' does not answer", name);
    default:
        return error_set(err, code, "VM '%s' can't be reached: %s", name, strerror(-code));
    }
}

static int take_lock(const char *name, const char *path, struct error *err)
{
    int fd = lock_file(path);

    if (fd >= 0)
        return fd;
    if (fd == -EWOULDBLOCK)
        return error_set(err, -EEXIST,
                         "a VM named '%s' runs already; choose another --name, or end it with "
                         "'twofold stop %s'",
                         name, name);
    return error_set(err, fd,
                     "'%s' can't be made or locked: %s; set XDG_RUNTIME_DIR to a folder that you "
                     "can write",
                     path, strerror(-fd));
}

int control_claim(const char *name, int *lock_fd, struct error *err)
{
    char sock[128], lock[128];
    int code = path_with(name, ".sock", sock, sizeof(sock), err);

    if (!code)
        code = path_with(name, ".lock", lock, sizeof(lock), err);
    if (code)
        return code;
    code = take_lock(name, lock, err);
    if (code < 0)
        return code;
    *lock_fd = code;
    if (unlink(sock) && errno != ENOENT) {
        code = error_set(err, -errno, "the old socket '%s' can't be removed: %s", sock,
                         strerror(errno));
        close(*lock_fd);
        return code;
    }
    return 0;
}

void control_release(const char *name, int lock_fd)
{
    char path[128];

    if (!path_with(name, ".sock", path, sizeof(path), NULL))
        (void)unlink(path);
    if (!path_with(name, ".lock", path, sizeof(path), NULL))
        (void)unlink(path);
    close(lock_fd);
}
