/* What the benchmarks share: samples with their statistics, and the way to start a program. */
#ifndef TWOFOLD_TESTS_BENCH_H
#define TWOFOLD_TESTS_BENCH_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define SAMPLES_MAX 512

struct samples {
    double value[SAMPLES_MAX];
    size_t n;
};

struct summary {
    double median, low, high; /* low, high: first and third quartile */
    size_t n;
};

struct bench_options {
    const char *build; /* build folder */
    unsigned runs;
    const char *self; /* this program, for the bare loops */
};

void sample_add(struct samples *s, double value);
struct summary summarize(const struct samples *s);

/* One line: name, median, quartiles, n; "not available" when there is no sample. */
void print_row(const char *name, const struct samples *s, const char *unit);

/* One line: the ratio of two medians, and whether it meets the goal (NULL: there is none). */
void print_ratio(const char *name, const struct samples *a, const struct samples *b,
                 const char *goal, double at_least, double at_most);

uint64_t now_ns(void);

/*
 * Starts argv with stdin from /dev/null and stdout into a pipe whose reading
 * end goes to *out; stderr is dropped. Returns the pid, or -1.
 */
pid_t spawn(const char *const argv[], int *out);

/* Waits for `pid`; returns its exit status, or -1 when it did not exit by itself. */
int reap(pid_t pid);

/*
 * Runs argv to its end. Returns nanoseconds, or -1 when its status is not
 * `expected` or its output lacks `text`: a run that failed fast is no sample.
 */
double timed_run(const char *const argv[], int expected, const char *text);

void bench_environment(const struct bench_options *o);
void bench_start(const struct bench_options *o);
void bench_exits(const struct bench_options *o);
void bench_memory(const struct bench_options *o);
void bench_scan(const struct bench_options *o);
void bench_faults(const struct bench_options *o);
void bench_populate(const struct bench_options *o);
void bench_shadow(const struct bench_options *o);
void bench_measure(const struct bench_options *o);
void bench_iommu(const struct bench_options *o);
void bench_interrupts(const struct bench_options *o);

/*
 * The host's own use of a DMA test device (1234:11e8), through VFIO (host_edu.c).
 * host_edu_take() finds one behind an IOMMU and puts it on vfio-pci; NULL: there is none, or it
 * can't be had, and *why says so. host_edu_latency() opens it, has it raise `n` interrupts by MSI,
 * and gives the median of what each took from the write of its register until poll() told of its
 * eventfd, in us; -1: one did not come, or it can't be opened.
 */
const char *host_edu_take(const char **why);
double host_edu_latency(unsigned n);
void host_edu_give_back(void);

/* The bare KVM_RUN loop on a PVH kernel: the baseline. Returns an exit status. */
int bare_run(const char *kernel);

#endif
