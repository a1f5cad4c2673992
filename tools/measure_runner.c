/*
 * One runner: a VM with a program of the tiny guest, or a child of this process. It talks as
 * guest/chase.h has it.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tools/measure_impl.h"
#include "vmm/clock.h"

#define LOOK_MS   100 /* between two looks for a signal */
#define END_MS    3000
#define ARGUMENTS 32
#define NOT_THERE (-1)

/* --- starting ------------------------------------------------------------------------ */

static const char *page_letter(uint64_t page)
{
    return page == PAGE_SIZE_1G ? "1G" : page == PAGE_SIZE_2M ? "2M" : "4K";
}

/* Huge pages of the pool where it has them; else the transparent ones, which are verified. */
static const char *backing_of(const struct measure_unit *u)
{
    if (u->host_page == PAGE_SIZE_1G)
        return "hugetlb-1g";
    if (u->host_page == PAGE_SIZE_2M)
        return measure_pool_ask(PAGE_SIZE_2M, measure_ram(u)) ? "hugetlb-2m" : "thp";
    return "anon";
}

static void exec_vm(const struct measure_unit *u, const struct runner_place *place,
                    const char *name, const char *backing)
{
    char ram[32], size[32], cpus[16];
    const char *argv[ARGUMENTS] = {
        "twofold",     "run",
        "--name",      name,
        "--mem",       ram,
        "--cpus",      cpus,
        "--backing",   backing,
        "--populate",  "eager",
        "--paging",    measure_paging_name(u->paging),
        place->kernel, "--",
    };
    size_t n = 16;

    (void)snprintf(ram, sizeof(ram), "%" PRIu64 "M", measure_ram(u) >> 20);
    (void)snprintf(cpus, sizeof(cpus), "%d", u->load ? u->load->cpus : 1);
    if (u->load) {
        (void)snprintf(size, sizeof(size), "%u", u->load->ops);
        argv[n++] = u->load->name;
        argv[n++] = "--runner";
        argv[n++] = size;
    } else {
        (void)snprintf(size, sizeof(size), "%" PRIu64 "K", u->footprint >> 10);
        argv[n++] = "chase";
        argv[n++] = "--runner";
        argv[n++] = size;
        argv[n++] = page_letter(u->guest_page);
    }
    argv[n] = NULL;
    (void)execv("/proc/self/exe", (char *const *)argv);
    (void)dprintf(STDOUT_FILENO, "error /proc/self/exe can't be started: %s\n", strerror(errno));
}

/* To the CPU; a load of two CPUs gets the second one, too. */
static void pin(const struct runner_place *place, bool both)
{
    cpu_set_t set;

    CPU_ZERO(&set);
    CPU_SET(place->cpu, &set);
    if (both && place->second >= 0)
        CPU_SET(place->second, &set);
    (void)sched_setaffinity(0, sizeof(set), &set);
}

/* What the child does; never returns. */
static void child(const struct measure_unit *u, const struct runner_place *place, const char *name,
                  const char *backing, int in, int out)
{
    static const struct sched_param normal = { .sched_priority = 0 };
    sigset_t none;
    int status = 1;

    /* Out of the terminal's group: Ctrl-C is for us, who then end it; it ends with us. */
    (void)setpgid(0, 0);
    (void)prctl(PR_SET_PDEATHSIG, u->paging == MEASURE_NATIVE ? SIGKILL : SIGTERM);
    (void)sched_setscheduler(0, SCHED_OTHER, &normal);
    pin(place, u->load && u->load->cpus > 1);
    (void)sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
    (void)signal(SIGINT, SIG_DFL);
    (void)signal(SIGTERM, SIG_DFL);
    (void)signal(SIGHUP, SIG_DFL);
    (void)signal(SIGQUIT, SIG_DFL);
    if (dup2(in, STDIN_FILENO) < 0 || dup2(out, STDOUT_FILENO) < 0 || dup2(out, STDERR_FILENO) < 0)
        _exit(status);
    (void)close_range(STDERR_FILENO + 1, ~0u, 0);
    if (u->paging == MEASURE_NATIVE)
        status = measure_native(u->footprint, u->host_page);
    else
        exec_vm(u, place, name, backing);
    _exit(status);
}

static int spawn(struct runner *r, const struct measure_unit *u, const struct runner_place *place,
                 struct error *err)
{
    const char *backing = u->paging == MEASURE_NATIVE ? "" : backing_of(u);
    int in[2], out[2], rc = 0;

    if (pipe2(in, O_CLOEXEC) < 0)
        return error_set(err, -errno, "no pipe for a runner: %s", strerror(errno));
    if (pipe2(out, O_CLOEXEC) < 0) {
        close(in[0]);
        close(in[1]);
        return error_set(err, -errno, "no pipe for a runner: %s", strerror(errno));
    }
    (void)snprintf(r->name, sizeof(r->name), "measure-%d-%u", (int)getpid(), place->number);
    r->pid = fork();
    if (r->pid == 0)
        child(u, place, r->name, backing, in[0], out[1]);
    if (r->pid < 0) {
        rc = error_set(err, -errno, "no process for a runner: %s", strerror(errno));
        r->pid = 0;
    }
    close(in[0]);
    close(out[1]);
    r->in = in[1];
    r->out = out[0];
    return rc;
}

/* --- talking ------------------------------------------------------------------------- */

/* Waits for the runner's output, and looks for signals meanwhile. */
static int wait_output(const struct runner *r, uint64_t until_ns, struct error *err)
{
    for (;;) {
        struct pollfd fd = { .fd = r->out, .events = POLLIN };

        if (measure_ended())
            return error_set(err, -EINTR, "ended by a signal");
        /* Before there is output: a runner that prints on and on is late, too. */
        if (now_ns() > until_ns)
            return error_set(err, -ETIMEDOUT, "it did not answer in time; its last line: %s",
                             r->line[0] ? r->line : "(none)");
        if (poll(&fd, 1, LOOK_MS) > 0)
            return 0;
    }
}

/* The next line; "\r" is dropped. */
static int read_line(struct runner *r, uint64_t until_ns, struct error *err)
{
    char line[sizeof(r->line)];
    size_t n = 0;

    for (;;) {
        int rc = wait_output(r, until_ns, err);
        char c;

        if (rc < 0)
            return rc;
        if (read(r->out, &c, 1) != 1)
            return error_set(err, -EREMOTEIO, "it ended; its last line: %s",
                             r->line[0] ? r->line : "(none)");
        if (c == '\n')
            break;
        if (c != '\r' && n + 1 < sizeof(line))
            line[n++] = c >= ' ' && c <= '~' ? c : '?';
    }
    line[n] = '\0';
    if (n)
        memcpy(r->line, line, n + 1);
    return 0;
}

/* A line that begins with `word`; what else a guest's console shows is passed over. */
static int await(struct runner *r, const char *word, uint64_t until_ns, struct error *err)
{
    for (;;) {
        int rc = read_line(r, until_ns, err);

        if (rc < 0)
            return rc;
        if (!strncmp(r->line, "error ", 6))
            return error_set(err, -EREMOTEIO, "%s", r->line + 6);
        if (!strncmp(r->line, word, strlen(word)))
            return 0;
    }
}

/* A number in "ready pages=256 page=4096"; 0 when it is not there. */
static uint64_t field(const char *line, const char *name)
{
    size_t n = strlen(name);

    for (const char *at = line; (at = strchr(at, ' ')) != NULL;) {
        at++;
        if (!strncmp(at, name, n) && at[n] == '=')
            return strtoull(at + n + 1, NULL, 0);
    }
    return 0;
}

/* --- its thread ---------------------------------------------------------------------- */

static void name_of(pid_t pid, const char *thread, char name[32])
{
    char path[96];
    FILE *f;

    (void)snprintf(path, sizeof(path), "/proc/%d/task/%.16s/comm", (int)pid, thread);
    f = fopen(path, "re");
    if (!f || !fgets(name, 32, f))
        name[0] = '\0';
    if (f)
        (void)fclose(f);
}

static void pin_thread(pid_t thread, int cpu)
{
    cpu_set_t set;

    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    (void)sched_setaffinity(thread, sizeof(set), &set);
}

/*
 * Finds the thread that does the work: the first vCPU. It keeps the CPU for itself: a second vCPU
 * and the VM's other threads, which carry its console, go to the second one.
 */
static pid_t find_thread(pid_t pid, const struct runner_place *place)
{
    char path[64], name[32];
    const struct dirent *entry;
    pid_t thread = pid;
    DIR *dir;

    (void)snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
    dir = opendir(path);
    while (dir && (entry = readdir(dir))) {
        pid_t id = (pid_t)strtol(entry->d_name, NULL, 10);

        name_of(pid, entry->d_name, name);
        if (!strcmp(name, "vcpu0\n")) {
            thread = id;
            pin_thread(id, place->cpu);
        } else if (id > 0 && place->second >= 0) {
            pin_thread(id, place->second);
        }
    }
    if (dir)
        closedir(dir);
    return thread;
}

struct runner_lost runner_lost(const struct runner *r)
{
    struct runner_lost lost = { .switches = 0 };
    char path[64], line[128];
    FILE *f;

    (void)snprintf(path, sizeof(path), "/proc/%d/task/%d/status", (int)r->pid, (int)r->thread);
    f = fopen(path, "re");
    while (f && fgets(line, sizeof(line), f))
        if (sscanf(line, "nonvoluntary_ctxt_switches: %" SCNu64, &lost.switches) == 1)
            break;
    if (f)
        (void)fclose(f);
    (void)snprintf(path, sizeof(path), "/proc/%d/task/%d/schedstat", (int)r->pid, (int)r->thread);
    f = fopen(path, "re");
    lost.timed = f && fscanf(f, "%*u %" SCNu64, &lost.waited_ns) == 1;
    if (f)
        (void)fclose(f);
    return lost;
}

/* --- what others call ---------------------------------------------------------------- */

int runner_start(struct runner *r, struct measure_unit *u, const struct runner_place *place,
                 uint64_t until_ns, struct error *err)
{
    int rc;

    *r = (struct runner){ .in = NOT_THERE, .out = NOT_THERE };
    for (size_t i = 0; i < MEASURE_COUNTERS; i++)
        r->counter[i] = NOT_THERE;
    rc = spawn(r, u, place, err);
    if (rc == 0)
        rc = await(r, "ready ", until_ns, err);
    if (rc < 0)
        return rc;
    r->pages = field(r->line, "pages");
    r->gva = field(r->line, "gva");
    u->accesses = field(r->line, u->load ? "ops" : "accesses");
    u->tsc_hz = (double)field(r->line, "tsc_hz");
    if (u->accesses == 0 || (!u->load && r->pages != u->footprint / PAGE_SIZE_4K))
        return error_set(err, -EREMOTEIO, "its chain is not the one asked for: %s", r->line);
    r->thread = u->paging == MEASURE_NATIVE ? r->pid : find_thread(r->pid, place);
    measure_counters_open(r->thread, r->counter);
    return 0;
}

int runner_round(struct runner *r, uint64_t until_ns, uint64_t *cycles, uint64_t *count,
                 struct error *err)
{
    int rc;

    if (write(r->in, "go\n", 3) != 3)
        return error_set(err, -EREMOTEIO, "it ended; its last line: %s", r->line);
    rc = await(r, "round ", until_ns, err);
    if (rc < 0)
        return rc;
    *cycles = field(r->line, "cycles");
    *count = field(r->line, "accesses") + field(r->line, "ops");
    return *cycles && *count ? 0 : error_set(err, -EREMOTEIO, "it says '%s'", r->line);
}

/* True once it is gone, at the latest after END_MS. What it still says is thrown away. */
static bool gone(const struct runner *r)
{
    static const struct timespec moment = { .tv_nsec = 2000000 };
    uint64_t until = now_ns() + END_MS * UINT64_C(1000000);
    char rest[256];

    while (now_ns() < until) {
        struct pollfd fd = { .fd = r->out, .events = POLLIN };

        if (waitpid(r->pid, NULL, WNOHANG) != 0)
            return true;
        if (poll(&fd, 1, 0) <= 0 || read(r->out, rest, sizeof(rest)) <= 0)
            (void)nanosleep(&moment, NULL);
    }
    return false;
}

void runner_leave(struct runner *r)
{
    if (r->pid && !r->left)
        r->left = measure_ended() ? kill(r->pid, SIGTERM) == 0 : write(r->in, "quit\n", 5) == 5;
}

void runner_end(struct runner *r)
{
    bool done;

    measure_counters_close(r->counter);
    if (r->pid) {
        runner_leave(r);
        done = r->left && gone(r);
        if (!done) {
            (void)kill(r->pid, SIGTERM);
            done = gone(r);
        }
        if (!done) {
            (void)kill(r->pid, SIGKILL);
            (void)waitpid(r->pid, NULL, 0);
        }
    }
    if (r->in >= 0)
        close(r->in);
    if (r->out >= 0)
        close(r->out);
    *r = (struct runner){ .in = NOT_THERE, .out = NOT_THERE };
}
