/*
 * Starting other programs and telling how they ended.
 */
#include "guest/user/lib/lib.h"

long spawn(const char *const *argv, unsigned flags)
{
    char args[SYS_ARGS_MAX];
    size_t used = 0;

    for (; *argv != NULL; argv++) {
        size_t n = strlen(*argv) + 1;

        if (n > sizeof args - used)
            return -EINVAL;
        memcpy(args + used, *argv, n);
        used += n;
    }
    flush();
    return sys_spawn(args, used, flags);
}

long fork_flushed(unsigned flags)
{
    flush();
    return sys_fork(flags);
}

long run(const char *const *argv, unsigned flags, struct sys_status *status)
{
    long pid = spawn(argv, flags);

    if (pid < 0)
        return pid;
    pid = sys_wait(pid, status);
    return pid < 0 ? pid : 0;
}

struct sys_status wait_for(long pid)
{
    struct sys_status status = { 0 };
    long rc;

    flush();
    rc = sys_wait(pid, &status);
    if (rc < 0)
        die(1, "wait for %ld: error %ld", pid, -rc);
    return status;
}

static const char *const vector_names[] = {
    [0] = "divide error",
    [1] = "debug exception",
    [2] = "NMI",
    [3] = "breakpoint",
    [4] = "overflow",
    [5] = "bound range exceeded",
    [6] = "invalid opcode",
    [7] = "no FPU",
    [8] = "double fault",
    [10] = "invalid TSS",
    [11] = "segment not present",
    [12] = "stack fault",
    [13] = "general protection fault",
    [14] = "page fault",
    [16] = "x87 error",
    [17] = "alignment check",
    [18] = "machine check",
    [19] = "SIMD error",
};

const char *describe_end(const struct sys_status *status, char *buf, size_t size)
{
    const char *vector = NULL;

    if (status->vector < 0) {
        snprintf(buf, size, "exit %d", status->code);
        return buf;
    }
    if ((size_t)status->vector < sizeof vector_names / sizeof vector_names[0])
        vector = vector_names[status->vector];
    if (status->vector == 14)
        snprintf(buf, size, "page fault at 0x%lx (%s, %s)", status->addr,
                 status->error & 16  ? "fetch"
                 : status->error & 2 ? "write"
                                     : "read",
                 status->error & 1 ? "protection" : "not present");
    else
        snprintf(buf, size, "%s, error code 0x%x", vector != NULL ? vector : "exception",
                 status->error);
    return buf;
}
