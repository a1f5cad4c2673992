/*
 * shootdown [--runner] [N]: makes a page read-only or writable again, N times, while each other
 * CPU reads it in the same address space: every change has to reach the TLBs of all of them. Says
 * what one costs. After it, a CPU that writes to the page must fault as soon as it is read-only.
 */
#include "guest/user/lib/lib.h"

#define MAX_CPUS    64u
#define PATIENCE_NS 30000000000ul

/* What one of the other CPUs runs; in memory that is there, as none is supplied to it. */
struct reader {
    volatile uint64_t *page;
    volatile uint64_t turns; /* so often it used the page */
    volatile bool write;
    int cpu;
    long pid;
} __attribute__((aligned(64)));

static struct reader *readers; /* of CPU 1 and up */
static unsigned count;
static char *stacks; /* a page each */
static volatile uint64_t *page;
static char what[64];

static void use_page(void *arg)
{
    struct reader *r = arg;

    if (sys_pin(r->cpu) != 0)
        sys_call(SYS_EXIT, 1, 0, 0, 0);
    for (;;) {
        if (r->write)
            *r->page = r->turns;
        else
            (void)*r->page;
        r->turns = r->turns + 1;
    }
}

static void prepare(void)
{
    uint32_t cpus = info_general().cpus;

    count = (cpus < MAX_CPUS ? cpus : MAX_CPUS) - 1;
    if (count == 0)
        die(1, "there is no other CPU to tell: it takes two (--cpus 2)");
    if (sys_pin(0) != 0)
        die(1, "can't be pinned to CPU 0");
    snprintf(what, sizeof what, "changes of a page that %u other CPU%s use%s", count,
             count > 1 ? "s" : "", count > 1 ? "" : "s");
    readers = map_pages((count * sizeof *readers + PAGE_SIZE - 1) & -PAGE_SIZE, PAGE_SIZE);
    stacks = map_pages(count * PAGE_SIZE, PAGE_SIZE);
    page = map_pages(PAGE_SIZE, PAGE_SIZE);
}

static void start_readers(void)
{
    for (unsigned i = 0; i < count; i++) {
        struct reader *r = &readers[i];

        *r = (struct reader){ .page = page, .cpu = (int)i + 1 };
        r->pid = sys_share(use_page, stacks + (i + 1) * PAGE_SIZE, r, SYS_QUIET);
        if (r->pid < 0)
            die(1, "fork for CPU %d: error %ld", r->cpu, -r->pid);
    }
}

/* Until each has used the page `turns` times more. */
static void await_readers(uint64_t turns)
{
    uint64_t end = sys_clock() + PATIENCE_NS;

    for (unsigned i = 0; i < count; i++) {
        uint64_t until = readers[i].turns + turns;

        while (readers[i].turns < until) {
            if (sys_clock() > end)
                die(1, "CPU %d does not use the page", readers[i].cpu);
            sys_yield();
        }
    }
}

static void protect(unsigned prot)
{
    long rc = sys_mprotect((uint64_t)page, PAGE_SIZE, prot);

    if (rc != 0)
        die(1, "mprotect to %u: error %ld", prot, -rc);
}

/* Each CPU has the page as writable in its TLB; a write after the change has to end its process. */
static void end_readers(void)
{
    for (unsigned i = 0; i < count; i++)
        readers[i].write = true;
    await_readers(2);
    protect(SYS_PROT_READ);
    for (unsigned i = 0; i < count; i++) {
        struct sys_status end = wait_for(readers[i].pid);
        char text[96];

        if (end.vector != 14 || end.addr != (uint64_t)page || (end.error & 3) != 3)
            die(1, "CPU %d wrote to a read-only page, and that ended so: %s", readers[i].cpu,
                describe_end(&end, text, sizeof text));
    }
    protect(SYS_PROT_READ | SYS_PROT_WRITE);
}

/* The readers live for one round: between rounds all CPUs have to be idle. */
static uint64_t work(uint64_t n)
{
    uint64_t start, cycles;

    start_readers();
    await_readers(1);
    start = rdtsc();
    for (uint64_t i = 0; i < n / 2; i++) {
        protect(SYS_PROT_READ);
        protect(SYS_PROT_READ | SYS_PROT_WRITE);
    }
    cycles = rdtsc() - start;
    end_readers();
    return cycles;
}

int main(int argc, char **argv)
{
    return load_main(
        argc, argv,
        &(struct load){ .what = what, .n = 200, .multiple = 2, .prepare = prepare, .round = work });
}
