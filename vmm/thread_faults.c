#include "vmm/thread_faults.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

static void now(uint64_t *minor, uint64_t *major)
{
    struct rusage r;

    memset(&r, 0, sizeof(r));
    (void)getrusage(RUSAGE_THREAD, &r);
    *minor = (uint64_t)r.ru_minflt;
    *major = (uint64_t)r.ru_majflt;
}

void thread_faults_start(struct thread_faults *f)
{
    now(&f->minor, &f->major);
    __atomic_store_n(&f->tid, gettid(), __ATOMIC_RELEASE);
}

void thread_faults_stop(struct thread_faults *f)
{
    uint64_t minor, major;

    now(&minor, &major);
    __atomic_store_n(&f->tid, 0, __ATOMIC_RELEASE);
    __atomic_store_n(&f->minor, minor - f->minor, __ATOMIC_RELAXED);
    __atomic_store_n(&f->major, major - f->major, __ATOMIC_RELAXED);
}

/* The 10th and 12th field of /proc/PID/task/TID/stat; the 2nd is a name that may hold anything. */
static bool read_proc(pid_t tid, uint64_t *minor, uint64_t *major)
{
    char path[64], line[512];
    const char *after;
    FILE *f;
    bool ok;

    (void)snprintf(path, sizeof(path), "/proc/self/task/%d/stat", (int)tid);
    f = fopen(path, "re");
    if (!f)
        return false;
    after = fgets(line, sizeof(line), f) ? strrchr(line, ')') : NULL;
    ok = after &&
         sscanf(after, ") %*c %*d %*d %*d %*d %*d %*u %" SCNu64 " %*u %" SCNu64, minor, major) == 2;
    (void)fclose(f);
    return ok;
}

void thread_faults_read(const struct thread_faults *f, uint64_t *minor, uint64_t *major)
{
    pid_t tid = __atomic_load_n(&f->tid, __ATOMIC_ACQUIRE);
    uint64_t base_minor = __atomic_load_n(&f->minor, __ATOMIC_RELAXED);
    uint64_t base_major = __atomic_load_n(&f->major, __ATOMIC_RELAXED);

    *minor = base_minor;
    *major = base_major;
    if (tid == 0)
        return;
    if (!read_proc(tid, minor, major) || *minor < base_minor) {
        *minor = *major = 0;
        return;
    }
    *minor -= base_minor;
    *major -= base_major;
}
