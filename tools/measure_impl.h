/*
 * What the files of `twofold measure` that measure share; tools/measure.h is what others see.
 *
 * A unit is one cell or one load: what to run, and what came of it. Units of one group are
 * compared: they are neighbours in the plan, live at once and are asked in turn.
 */
#ifndef TWOFOLD_TOOLS_MEASURE_IMPL_H
#define TWOFOLD_TOOLS_MEASURE_IMPL_H

#include <sys/types.h>

#include "ept/addr.h"
#include "tools/measure.h"

#define MEASURE_COUNTERS 2 /* that are asked for (measure_counters.c) */

enum measure_paging {
    MEASURE_NATIVE,
    MEASURE_NESTED,
    MEASURE_SHADOW,
};

enum measure_state {
    MEASURE_NOT_RUN, /* what a plan starts with */
    MEASURE_MEASURED,
    MEASURE_NOISY,
    MEASURE_NO_PAGES,
    MEASURE_FAILED,
    MEASURE_NOT_AVAILABLE,
};

/* What "measured" and "nested" are in a result. */
const char *measure_state_name(enum measure_state state);
const char *measure_paging_name(enum measure_paging paging);

/* A program of the guest that does one thing over and over. */
struct measure_program {
    const char *name; /* of the program */
    const char *what; /* one operation, in words */
    unsigned ops;     /* a round */
    int cpus;         /* that it takes */
};

struct measure_samples {
    double *value;
    size_t n, room;
};

/* Without memory for it a sample is lost. */
void measure_sample(struct measure_samples *s, double value);

struct measure_unit {
    enum measure_paging paging;
    uint64_t guest_page; /* 0: native */
    uint64_t host_page;
    uint64_t footprint;
    bool repeat;                        /* of the first unit of its group */
    const struct measure_program *load; /* NULL: a chase */
    uint64_t memory;                    /* bytes that its runner takes */

    enum measure_state state;
    char why[256];
    struct measure_samples cycles;    /* an access or operation, of each round */
    struct measure_samples disturbed; /* of rounds that something else ran in */
    double tsc_hz;                    /* as its runner says; 0: it does not */
    uint64_t accesses;                /* a round */
    double guest_share, host_share;   /* of the footprint on the pages asked for; -1: not known */
    int references, formula;          /* 0: not known */
    bool walks_differ;                /* at places of one cell: then not all are the formula's */
    double counted[MEASURE_COUNTERS]; /* events of all rounds; -1: no such counter */
    double counted_accesses;
};

/* Sets a unit's state, and the sentence that says why. */
void measure_set(struct measure_unit *u, enum measure_state state, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* True for units that are to be compared: of one group. */
bool measure_alike(const struct measure_unit *a, const struct measure_unit *b);

/* --- the host (measure_host.c) --- */

struct measure_host {
    bool kvm, shadow;  /* a VM can be run, with --paging shadow, too */
    char kvm_why[256]; /* why not */
    char shadow_why[256];
    bool guest_1g;              /* a guest's CPUs have pages of 1 GiB */
    bool thp, pool_2m, pool_1g; /* the kernel knows pages of that kind */
    int cpus;                   /* that this process may use */
    uint64_t available;         /* bytes of memory that can be used without swapping */
    uint64_t cache;             /* bytes of the last-level cache; 0: not known */
};

/* Of what info_kvm() and info_memory() say, and of the host's files. */
void measure_host_read(struct measure_host *host, const json_t *kvm, const json_t *memory);
uint64_t measure_memory_available(void);

/* CPUs that this process may use; the quietest one of them over a moment. */
int measure_cpus_allowed(void);
bool measure_cpu_allowed(int cpu);
/* One that is not `cpu`; -1: there is none. */
int measure_cpu_other(int cpu);
int measure_cpu_quietest(void);
/* Ticks that the CPU was taken away by a hypervisor; 0 where that is not told. */
uint64_t measure_cpu_stolen(int cpu);
/* Hertz; 0: not known. */
double measure_cpu_frequency(int cpu);
/* The TSC's frequency, by the monotonic clock over `seconds`. */
double measure_tsc_hz(double seconds);

/* --- the plan (measure_plan.c) --- */

struct measure_plan {
    struct measure_unit *unit;
    size_t n;
};

/* All units of a mode, those that can't be measured on this host among them. 0 or -ENOMEM. */
int measure_plan_make(struct measure_plan *plan, enum measure_mode mode,
                      const struct measure_host *host);
void measure_plan_free(struct measure_plan *plan);

/*
 * What translation is counted from: the cell of the same paging and footprint with the largest
 * pages on both sides that this host has. NULL when that one is not `measured`: smaller pages in
 * its place would change what all costs mean.
 */
const struct measure_unit *measure_baseline(const struct measure_plan *plan,
                                            const struct measure_unit *u);

/* Levels of a table whose leaves are pages of that size, in 4-level paging. */
int measure_page_levels(uint64_t page);

/* Bytes of RAM of the VM of a unit: a whole number of host pages. */
uint64_t measure_ram(const struct measure_unit *u);

/* --- runners (measure_runner.c, measure_native.c) --- */

struct runner {
    pid_t pid;    /* 0: none */
    pid_t thread; /* that does the work */
    int in, out;  /* its stdin and stdout */
    char name[32];
    char line[256]; /* that is being read, then the last one */
    size_t length;
    uint64_t pages, gva;
    int counter[MEASURE_COUNTERS]; /* -1: none */
    bool left;                     /* it was told to end */
};

struct runner_place {
    int cpu, second; /* second: for what takes two; -1: none */
    const char *kernel;
    unsigned number; /* of the runner, for its name */
};

/*
 * Starts one and waits until it is ready, or until `until_ns`. runner_end() has to follow in any
 * case. -EINTR: measure_ended(); -ETIMEDOUT; -EREMOTEIO: it died or said what is wrong.
 */
int runner_start(struct runner *r, struct measure_unit *u, const struct runner_place *place,
                 uint64_t until_ns, struct error *err);
/* One round. Errors as above. */
int runner_round(struct runner *r, uint64_t until_ns, uint64_t *cycles, uint64_t *count,
                 struct error *err);
/* Tells it to end; runner_end() waits for that, and ends it otherwise if need be. */
void runner_leave(struct runner *r);
void runner_end(struct runner *r);
/* What other programs on the CPU did to the runner's thread so far. */
struct runner_lost {
    uint64_t switches; /* so often it had to go */
    uint64_t waited_ns;
    bool timed; /* waited_ns is known (the kernel has CONFIG_SCHED_INFO) */
};
struct runner_lost runner_lost(const struct runner *r);

/* The native runner: talks on stdin and stdout. Returns its exit status. */
int measure_native(uint64_t size, uint64_t page);

/* --- checks (measure_verify.c) --- */

/* Whether the pages are those asked for: fills shares, references and formula, and sets the state
 * when they are not. 0 or -errno: it can't be told; -EINTR and -ETIMEDOUT as of runner_start(). */
int measure_verify(struct measure_unit *u, const struct runner *r, uint64_t until_ns,
                   struct error *err);

/* --- counters (measure_counters.c) --- */

extern const char *const measure_counter_name[MEASURE_COUNTERS];
/* Opens those that there are for a thread; -1 for others. */
void measure_counters_open(pid_t thread, int fd[MEASURE_COUNTERS]);
void measure_counters_close(int fd[MEASURE_COUNTERS]);
/* -1: it can't be read. */
double measure_counter_read(int fd);

/* --- huge pages (measure_pool.c) --- */

/*
 * Asks the host for so many bytes more of free huge pages than there are, if it is permitted.
 * True when they are free now. measure_pool_return() gives back what was asked for, or
 * tries again when it is called the next time; measure_pool_tell() says on stderr what is still not
 * given back, and how to.
 */
bool measure_pool_ask(uint64_t page, uint64_t bytes);
/* Bytes of huge pages that a unit's runner takes. */
uint64_t measure_pool_bytes(const struct measure_unit *u);
void measure_pool_return(void);
void measure_pool_tell(void);

/* --- running (measure_run.c, measure_group.c) --- */

struct measure_run {
    const struct measure_options *options;
    struct measure_host host;
    struct measure_plan plan;
    json_t *info; /* host, kvm, memory, devices */
    int cpu, second;
    double tsc_hz;
    uint64_t start_ns;
    uint64_t end_ns;    /* by when all has to be over; 0: whenever */
    uint64_t budget_ns; /* for the rounds of what is left of the plan */
    bool late;          /* end_ns came before the end */
    bool left_out;      /* units, for lack of time */
    unsigned started;   /* runners */
    size_t rounds, disturbed;
    uint64_t stolen;       /* ticks */
    size_t batches;        /* the largest number of a group, for which memory is too short */
    double load;           /* average at the start */
    double frequency[2];   /* lowest and highest seen; 0: not known */
    double repeat_differs; /* the largest difference of two runners of one cell; -1: none */
};

/* Measures units [first, first + n) of one group that live at once. */
void measure_batch(struct measure_run *m, size_t first, size_t n, uint64_t budget_ns);
/* True when no further runner is to be started. */
bool measure_over(struct measure_run *m);

/* --- the result (measure_result.c, measure_verdict.c) --- */

json_t *measure_result(struct measure_run *m);
json_t *measure_verdict(const struct measure_run *m);
bool measure_emulated(const struct measure_run *m);

/* --- progress (measure_progress.c): on a terminal's stderr --- */

/* `done`: units of the plan, in parts of one. */
void measure_progress(const struct measure_run *m, const struct measure_unit *u, double done);
void measure_progress_end(void);

#endif
