/* Runs the edits on all CPUs, and tells. */
#include "guest/kernel/tables_test.h"

#include "guest/kernel/access_test.h"
#include "guest/kernel/boot_info.h"
#include "guest/kernel/clock.h"
#include "guest/kernel/cpu.h"
#include "guest/kernel/panic.h"
#include "guest/kernel/printk.h"
#include "guest/kernel/probe.h"
#include "guest/kernel/smp.h"

#define SHARED_EVERY 2 /* one of so many edits is in the shared window */

static uint64_t edits = TABLES_EDITS, seed = 1;
static uint64_t differences, spurious;
static unsigned ready, done;     /* CPUs */
static struct place last_shared; /* of the last edit in the shared window, by any CPU */

void tables_spurious(void)
{
    __atomic_fetch_add(&spurious, 1, __ATOMIC_RELAXED);
}

/* An edit, an access to what it changed, and one to any other page of the window. */
static void edit_and_look(struct editor *e, struct window *w)
{
    struct place p;

    tables_edit(e, w);
    p = e->at;
    tables_access(e, &p);
    place_pick(e, &p);
    tables_access(e, &p);
}

static void run(struct editor *e)
{
    struct window *shared = tables_shared();

    for (e->n = 0; e->n < e->todo; e->n++) {
        tlb_poll();
        if (editor_pick(e, SHARED_EVERY)) {
            edit_and_look(e, tables_window(e->cpu));
            continue;
        }
        lock_acquire(&shared->lock);
        tables_access(e, &last_shared); /* which this CPU may have from before */
        edit_and_look(e, shared);
        last_shared = e->at;
        lock_release(&shared->lock);
    }
    __atomic_fetch_add(&differences, e->shown, __ATOMIC_RELAXED);
}

/* Waits until all CPUs are here, and serves their shootdowns meanwhile. */
static void wait_for_all(unsigned *counter)
{
    __atomic_fetch_add(counter, 1, __ATOMIC_ACQ_REL);
    while (__atomic_load_n(counter, __ATOMIC_ACQUIRE) < cpus_online()) {
        cpu_relax();
        tlb_poll();
    }
}

/* Entries from ring 3 get a stack of their own: this code runs on the CPU's usual one. */
static void work(void)
{
    unsigned cpu = this_cpu()->id, n = cpus_online();
    uint64_t stack = kstack_alloc();
    struct editor e = { .cpu = cpu,
                        .random = (seed * MAX_CPUS + cpu + 1) * UL(0x9e3779b97f4a7c15),
                        .todo = edits / n + (cpu < edits % n) };

    if (!stack)
        panic("no memory for a stack of selftest=tables");
    cpu_set_kernel_stack(stack);
    aspace_switch(tables_aspace);
    wait_for_all(&ready);
    run(&e);
    wait_for_all(&done);
}

/* --- on all CPUs ----------------------------------------------------------------------------- */

static void work_and_rest(void)
{
    work();
    for (;;)
        cpu_idle();
}

bool tables_test(void)
{
    if (!cmdline_number("edits", &edits) || !cmdline_number("seed", &seed))
        return false;
    if (!tables_space_make(cpus_online())) {
        printk("tables: there is no memory for the tables\n");
        return false;
    }
    last_shared = (struct place){ .w = tables_shared() };
    access_known_detect();
    trap_hook = probe_hook;
    smp_release_to(work_and_rest);
    work();
    if (spurious)
        printk("tables: %lu faults for rights that were just given\n", spurious);
    printk("tables: %lu edits on %u CPUs, %lu differences\n", edits, cpus_online(), differences);
    return differences == 0;
}
