/*
 * Population before the first instruction: --populate eager and --lock. Several threads, since one
 * clears pages slower than memory takes them; a bar when a person waits at a terminal.
 */
#include "vmm/pages_impl.h"
#include "vmm/clock.h"

#include <errno.h>
#include <inttypes.h>
#include <linux/capability.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "vmm/terminal.h"
#include "vmm/uapi.h"

#define WORKERS_MAX 8
#define CHUNK       (UINT64_C(32) << 20)
#define BAR_WIDTH   30
#define TICK_NS     100000000 /* between two looks at the progress */

/* What is left to do, shared by the workers. */
struct job {
    struct pages *p;
    pthread_mutex_t lock; /* for what follows */
    pthread_cond_t moved;
    size_t part;     /* the next chunk: in which part ... */
    uint64_t offset; /* ... and where */
    uint64_t bytes;  /* done */
    uint64_t total;
    unsigned working;
    int rc;
    bool stop;
};

static bool wanted(const struct pages *p, const struct pages_part *part)
{
    return p->cfg.lock || part->policy == POPULATE_EAGER;
}

/* Under job->lock. */
static bool take_chunk(struct job *job, uint8_t **at, uint64_t *len)
{
    struct pages *p = job->p;

    while (job->part < p->parts) {
        const struct pages_part *part = &p->part[job->part];
        uint64_t page = mem_backing_page(part->backing), chunk = page > CHUNK ? page : CHUNK;

        if (wanted(p, part) && job->offset < part->size) {
            *at = part->host + job->offset;
            *len = part->size - job->offset < chunk ? part->size - job->offset : chunk;
            job->offset += *len;
            return true;
        }
        job->part++;
        job->offset = 0;
    }
    return false;
}

static void *work(void *arg)
{
    struct job *job = arg;
    uint8_t *at;
    uint64_t len;

    (void)pthread_mutex_lock(&job->lock);
    while (!job->stop && job->rc == 0 && take_chunk(job, &at, &len)) {
        int rc;

        (void)pthread_mutex_unlock(&job->lock);
        do
            rc = madvise(at, len, MADV_POPULATE_WRITE) < 0 ? -errno : 0;
        while (rc == -EINTR || rc == -EAGAIN);
        (void)pthread_mutex_lock(&job->lock);
        if (rc < 0 && job->rc == 0)
            job->rc = rc;
        else
            job->bytes += len;
        (void)pthread_cond_signal(&job->moved);
    }
    job->working--;
    (void)pthread_cond_signal(&job->moved);
    (void)pthread_mutex_unlock(&job->lock);
    return NULL;
}

/* --- a person waits -------------------------------------------------------------------------- */

static void bar(const struct job *job, uint64_t start)
{
    double seconds = (double)(now_ns() - start) * 1e-9, mib = (double)(job->bytes >> 20);
    int full = (int)(job->bytes * BAR_WIDTH / job->total);
    char line[BAR_WIDTH + 1];

    memset(line, '.', BAR_WIDTH);
    memset(line, '#', (size_t)full);
    line[BAR_WIDTH] = '\0';
    (void)fprintf(stderr, "\rpopulating [%s] %.0f of %" PRIu64 " MiB, %.0f MiB/s ", line, mib,
                  job->total >> 20, seconds > 0 ? mib / seconds : 0);
}

static void report(struct pages *p, const struct job *job, uint64_t ns)
{
    struct gpmap_stats s;

    (void)fprintf(stderr, "\r\033[K");
    for (size_t i = 0; i < p->parts; i++)
        if (wanted(p, &p->part[i]))
            (void)pages_learn(p, p->part[i].base, p->part[i].size);
    gpmap_stats(p->map, &s);
    terminal_message("populated %" PRIu64 " MiB in %.1f s: 4K pages %" PRIu64
                     " MiB, 2M pages %" PRIu64 " MiB, 1G pages %" PRIu64 " MiB",
                     job->bytes >> 20, (double)ns * 1e-9, s.present_4k >> 20, s.present_2m >> 20,
                     s.present_1g >> 20);
}

/*
 * The signals that end a VM are blocked by now: one waits until somebody looks, and is taken here.
 */
static bool interrupted(void)
{
    static const int signals[] = { SIGINT, SIGTERM, SIGHUP, SIGQUIT };
    const struct timespec now = { 0 };
    sigset_t pending, ours;
    bool any = false;

    if (sigpending(&pending) < 0)
        return false;
    (void)sigemptyset(&ours);
    for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++) {
        if (sigismember(&pending, signals[i]) == 1) {
            (void)sigaddset(&ours, signals[i]);
            any = true;
        }
    }
    return any && sigtimedwait(&ours, NULL, &now) > 0;
}

/* Until all workers are through; under job->lock. */
static void watch(struct job *job, bool progress, uint64_t start)
{
    while (job->working) {
        struct timespec until;

        (void)clock_gettime(CLOCK_REALTIME, &until);
        until.tv_nsec += TICK_NS;
        if (until.tv_nsec >= 1000000000) {
            until.tv_nsec -= 1000000000;
            until.tv_sec++;
        }
        (void)pthread_cond_timedwait(&job->moved, &job->lock, &until);
        job->stop = job->stop || interrupted();
        if (progress)
            bar(job, start);
    }
}

/* --- populating ------------------------------------------------------------------------------ */

static int populate_failed(struct pages *p, const struct job *job, struct error *err)
{
    const char *backing = mem_backing_name(p->part[0].backing);

    switch (job->rc) {
    case -EINVAL:
        return error_set(err, -ENOTSUP,
                         "--populate eager and --lock need MADV_POPULATE_WRITE (Linux 5.14)");
    case -ENOMEM:
    case -EFAULT:
        return error_set(err, -ENOMEM,
                         "the host has no memory for all of the guest's (%s): %" PRIu64
                         " of %" PRIu64 " MiB could be populated",
                         backing, job->bytes >> 20, job->total >> 20);
    default:
        return error_set(err, job->rc, "populating guest memory (%s): %s", backing,
                         strerror(-job->rc));
    }
}

static unsigned workers_for(const struct job *job)
{
    long cpus = sysconf(_SC_NPROCESSORS_ONLN);
    uint64_t chunks = (job->total + CHUNK - 1) / CHUNK;
    unsigned n = cpus < 1 ? 1 : cpus > WORKERS_MAX ? WORKERS_MAX : (unsigned)cpus;

    return chunks < n ? (unsigned)chunks : n;
}

static int populate(struct pages *p, struct job *job, struct error *err)
{
    bool progress = p->cfg.progress && isatty(STDERR_FILENO);
    pthread_t thread[WORKERS_MAX];
    unsigned started = 0, n = workers_for(job);
    uint64_t start = now_ns(), ns;
    int rc = 0;

    (void)pthread_mutex_lock(&job->lock);
    for (; rc == 0 && started < n; started += rc == 0) {
        rc = pthread_create(&thread[started], NULL, work, job);
        job->working += rc == 0;
    }
    if (started == 0)
        job->rc = -rc;
    watch(job, progress, start);
    (void)pthread_mutex_unlock(&job->lock);
    for (unsigned i = 0; i < started; i++)
        (void)pthread_join(thread[i], NULL);
    ns = now_ns() - start;
    p->count.populate_bytes = job->bytes;
    p->count.populate_ns = ns;
    if (job->rc < 0 || job->stop) {
        if (progress)
            (void)fprintf(stderr, "\r\033[K");
        return job->rc < 0 ? populate_failed(p, job, err)
                           : error_set(err, -EINTR, "ended while its memory was populated");
    }
    if (progress)
        report(p, job, ns);
    return 0;
}

/* --- locking --------------------------------------------------------------------------------- */

static bool may_lock_all(void)
{
    struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
    struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3] = { { 0 } };

    return syscall(SYS_capget, &head, data) == 0 && data[0].effective & 1u << CAP_IPC_LOCK;
}

static int lock_limit_check(struct pages *p, struct error *err)
{
    uint64_t need = memory_size(p->mem);
    struct rlimit limit;

    if (may_lock_all() || getrlimit(RLIMIT_MEMLOCK, &limit) < 0 ||
        limit.rlim_cur == RLIM_INFINITY || limit.rlim_cur >= need)
        return 0;
    return error_set(err, -EPERM,
                     "--lock needs a limit on locked memory of %" PRIu64 " KiB, and it is %" PRIu64
                     " KiB: raise it with 'ulimit -l %" PRIu64 "', or be root",
                     need >> 10, (uint64_t)limit.rlim_cur >> 10, need >> 10);
}

static int lock_part(struct pages *p, const struct pages_part *part, struct error *err)
{
    const struct gp_change flag = { .from = GP_ANY, .set_flags = GP_LOCKED, .keep_state = true };
    int rc;

    if (mlock2(part->host, part->size, 0) < 0)
        return error_set(err, -errno, "--lock: %" PRIu64 " MiB of guest memory: %s",
                         part->size >> 20, strerror(errno));
    p->count.locked_bytes += part->size;
    rc = gpmap_change(p->map, part->base, part->size, &flag, NULL);
    return rc < 0 ? error_set(err, rc, "the guest-physical map: %s", strerror(-rc)) : 0;
}

int pages_populate(struct pages *p, struct error *err)
{
    struct job job = { .p = p };
    int rc = p->cfg.lock ? lock_limit_check(p, err) : 0;

    for (size_t i = 0; i < p->parts; i++)
        if (wanted(p, &p->part[i]))
            job.total += p->part[i].size;
    if (rc < 0 || job.total == 0)
        return rc;
    (void)pthread_mutex_init(&job.lock, NULL);
    (void)pthread_cond_init(&job.moved, NULL);
    rc = populate(p, &job, err);
    (void)pthread_cond_destroy(&job.moved);
    (void)pthread_mutex_destroy(&job.lock);
    for (size_t i = 0; rc == 0 && p->cfg.lock && i < p->parts; i++)
        rc = lock_part(p, &p->part[i], err);
    return rc;
}
