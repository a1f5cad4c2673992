/*
 * Demand paging: faults that the fault thread serves a second, beside the least that userfaultfd
 * allows (one thread: read a message, copy a page); and populating beforehand, beside memset.
 */
#include "bench.h"

#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "vmm/memory.h"
#include "vmm/pages.h"

#define BYTES (UINT64_C(128) << 20)
#define PAGES (BYTES / PAGE_SIZE_4K)

/* Writes a byte into each page; returns pages a second. */
static double touch_all(volatile uint8_t *at)
{
    uint64_t start = now_ns();

    for (uint64_t i = 0; i < PAGES; i++)
        at[i * PAGE_SIZE_4K] = 1;
    return (double)PAGES / ((double)(now_ns() - start) / 1e9);
}

/* --- the baseline -------------------------------------------------------------------- */

static void *bare_server(void *arg)
{
    static uint8_t zeros[PAGE_SIZE_4K] __attribute__((aligned(4096)));
    int fd = *(int *)arg;
    struct uffd_msg msg;

    while (read(fd, &msg, sizeof(msg)) == (ssize_t)sizeof(msg)) {
        struct uffdio_copy copy = {
            .dst = msg.arg.pagefault.address & ~(PAGE_SIZE_4K - 1),
            .src = (uintptr_t)zeros,
            .len = PAGE_SIZE_4K,
        };

        if (ioctl(fd, UFFDIO_COPY, &copy) < 0)
            break;
    }
    return NULL;
}

static double bare_faults(void)
{
    struct uffdio_api api = { .api = UFFD_API };
    struct uffdio_register range = { .mode = UFFDIO_REGISTER_MODE_MISSING };
    int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC);
    uint8_t *at = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    double rate = -1;
    pthread_t server;

    if (fd < 0 || at == MAP_FAILED || madvise(at, BYTES, MADV_NOHUGEPAGE) < 0)
        goto out;
    range.range.start = (uintptr_t)at;
    range.range.len = BYTES;
    if (ioctl(fd, UFFDIO_API, &api) < 0 || ioctl(fd, UFFDIO_REGISTER, &range) < 0 ||
        pthread_create(&server, NULL, bare_server, &fd) != 0)
        goto out;
    rate = touch_all(at);
    (void)pthread_cancel(server); /* it waits in read() */
    (void)pthread_join(server, NULL);
out:
    if (at != MAP_FAILED)
        (void)munmap(at, BYTES);
    if (fd >= 0)
        (void)close(fd);
    return rate;
}

/* --- ours --------------------------------------------------------------------------------- */

static void failed(void *ctx, const char *why)
{
    (void)ctx;
    fprintf(stderr, "bench: %s\n", why);
}

/*
 * RAM of that backing and policy, with all its pages touched by `touch`. Returns what touch
 * returned; *create_s receives the time that pages_create() took.
 */
static double with_pages(enum mem_backing backing, const struct pages_config *cfg,
                         double (*touch)(volatile uint8_t *), double *create_s)
{
    struct memory *mem = NULL;
    struct pages *pages = NULL;
    struct error err;
    uint64_t start;
    double result = -1;

    if (memory_create(&mem, BYTES, backing, &err) < 0)
        return -1;
    start = now_ns();
    if (pages_create(&pages, mem, cfg, failed, NULL, &err) == 0) {
        *create_s = (double)(now_ns() - start) / 1e9;
        result = touch ? touch(memory_at(mem, gpa(0), BYTES)) : 0;
    }
    pages_destroy(pages);
    memory_destroy(mem);
    return result;
}

static double lazy_faults(enum mem_backing backing, uint64_t around)
{
    struct pages_config cfg = { .populate = POPULATE_LAZY, .fault_around = around };
    double ignored;

    return with_pages(backing, &cfg, touch_all, &ignored);
}

void bench_faults(const struct bench_options *o)
{
    struct samples bare = { .n = 0 }, single = { .n = 0 }, around = { .n = 0 }, huge = { .n = 0 },
                   kernel = { .n = 0 };
    const struct pages_config unmanaged = { .populate = POPULATE_KERNEL,
                                            .fault_around = FAULT_AROUND_DEFAULT };
    double ignored;

    for (unsigned i = 0; i < (o->runs + 1) / 2; i++) {
        sample_add(&bare, bare_faults() / 1e3);
        sample_add(&single, lazy_faults(MEM_ANON, PAGE_SIZE_4K) / 1e3);
        sample_add(&around, lazy_faults(MEM_ANON, FAULT_AROUND_DEFAULT) / 1e3);
        sample_add(&huge, lazy_faults(MEM_THP, FAULT_AROUND_DEFAULT) / 1e3);
        sample_add(&kernel, with_pages(MEM_ANON, &unmanaged, touch_all, &ignored) / 1e3);
    }
    printf("demand paging: thousands of 4K pages a second, first written in order by one thread "
           "(%d MiB)\n",
           (int)(BYTES >> 20));
    print_row("bare userfaultfd loop, 4K at a time", &bare, "k/s");
    print_row("--populate lazy, --fault-around 4K", &single, "k/s");
    print_ratio("twofold / bare", &single, &bare, "at least 0.9", 0.9, 1e9);
    print_row("--populate lazy, --fault-around 64K", &around, "k/s");
    print_ratio("fault-around / bare", &around, &bare, "above 1", 1, 1e9);
    print_row("--populate lazy, --backing thp", &huge, "k/s");
    print_row("--populate kernel (no userfaultfd)", &kernel, "k/s");
}

static double memset_rate(enum mem_backing backing)
{
    struct memory *mem = NULL;
    struct error err;
    double rate = -1;
    uint64_t start;

    if (memory_create(&mem, BYTES, backing, &err) < 0)
        return -1;
    start = now_ns();
    memset(memory_at(mem, gpa(0), BYTES), 0, BYTES);
    rate = (double)BYTES / (double)(now_ns() - start);
    memory_destroy(mem);
    return rate;
}

static double eager_rate(enum mem_backing backing)
{
    struct pages_config cfg = { .populate = POPULATE_EAGER, .fault_around = FAULT_AROUND_DEFAULT };
    double seconds = 0;

    return with_pages(backing, &cfg, NULL, &seconds) < 0 ? -1 : (double)BYTES / seconds / 1e9;
}

#define POOL "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages"

/* Adds `pages` to the host's pool of 2 MiB pages, or takes them away; it may refuse. */
static void pool_change(long pages)
{
    FILE *f = fopen(POOL, "r+e");
    long now;

    if (!f)
        return;
    if (fscanf(f, "%ld", &now) == 1) {
        rewind(f);
        (void)fprintf(f, "%ld", now + pages);
    }
    (void)fclose(f);
}

void bench_populate(const struct bench_options *o)
{
    const long huge = BYTES / PAGE_SIZE_2M;
    static const enum mem_backing backings[] = { MEM_ANON, MEM_THP, MEM_MEMFD, MEM_HUGETLB_2M };

    printf("populating before the first instruction (%d MiB), beside memset on the same backing\n",
           (int)(BYTES >> 20));
    pool_change(huge);
    for (size_t b = 0; b < sizeof(backings) / sizeof(backings[0]); b++) {
        struct samples eager = { .n = 0 }, set = { .n = 0 };
        char name[64];

        for (unsigned i = 0; i < (o->runs + 1) / 2; i++) {
            sample_add(&eager, eager_rate(backings[b]));
            sample_add(&set, memset_rate(backings[b]));
        }
        snprintf(name, sizeof(name), "%s, --populate eager", mem_backing_name(backings[b]));
        print_row(name, &eager, "GB/s");
        snprintf(name, sizeof(name), "%s, memset", mem_backing_name(backings[b]));
        print_row(name, &set, "GB/s");
        print_ratio("eager / memset", &eager, &set, NULL, 0, 0);
    }
    pool_change(-huge);
}
