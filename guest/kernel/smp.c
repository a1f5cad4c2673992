/* Starts the other CPUs, all at once: each finds its struct cpu by its APIC id. */
#include "guest/kernel/smp.h"

#include "guest/kernel/apic.h"
#include "guest/kernel/boot_info.h"
#include "guest/kernel/clock.h"
#include "guest/kernel/cpu.h"
#include "guest/kernel/init.h"
#include "guest/kernel/mm.h"
#include "guest/kernel/heap.h"
#include "guest/kernel/panic.h"
#include "guest/kernel/printk.h"
#include "guest/kernel/string.h"

#define STARTUP_RETRY_NS 10000000u
#define STARTUP_LIMIT_NS 15000000000u /* sixty of them in an emulated machine take five seconds */

extern const char trampoline[], trampoline_end[];

/* head.S reads it: an APIC id's entry in cpus[]. */
uint8_t ap_numbers[256];

void ap_start(struct cpu *c) __attribute__((noreturn));

static bool up[MAX_CPUS]; /* by number in boot_info.cpu_apic_ids */
static bool released, stopping;
static void (*first_work)(void);
static unsigned online = 1;

unsigned cpus_online(void)
{
    return online;
}

static bool prepare(unsigned n, uint32_t id)
{
    struct cpu *c = kzalloc(sizeof(*c));

    if (!c)
        return false;
    c->id = n;
    c->apic_id = id;
    c->kernel_stack_top = kstack_alloc();
    if (!c->kernel_stack_top)
        return false;
    for (unsigned ist = 1; ist <= 3; ist++) {
        uint64_t top = kstack_alloc();

        if (!top)
            return false;
        cpu_set_ist(c, ist, top);
    }
    ap_numbers[id] = (uint8_t)n;
    cpus[n] = c;
    return true;
}

void smp_start(void)
{
    unsigned n = boot_info.n_cpus;

    if (n < 2)
        return;
    for (unsigned i = 1; i < n; i++) {
        if (!prepare(i, boot_info.cpu_apic_ids[i])) {
            printk("kernel: no memory for CPUs %u to %u\n", i, n - 1);
            boot_info.n_cpus = n = i;
        }
    }
    memcpy(phys_to_virt(TRAMPOLINE), trampoline, (size_t)(trampoline_end - trampoline));
    for (unsigned i = 1; i < n; i++)
        apic_send_init(boot_info.cpu_apic_ids[i]);
    for (unsigned i = 1; i < n; i++)
        apic_send_startup(boot_info.cpu_apic_ids[i], TRAMPOLINE >> PAGE_SHIFT);
}

/*
 * Sleeps until CPU i is up; each AP sends an interrupt when it is. Spinning would take the
 * time from the APs, if the host has fewer CPUs than the guest.
 */
static bool wait_for(unsigned i, uint64_t until)
{
    while (!__atomic_load_n(&up[i], __ATOMIC_ACQUIRE)) {
        uint64_t now = clock_ns();

        if (now >= until)
            return false;
        apic_timer_wake(until - now);
        cpu_idle(); /* an interrupt since the look is pending still, and ends it */
    }
    return true;
}

/* CPUs that stay away leave no gap: the numbers of those that came up are 0 .. online - 1. */
void smp_wait(void)
{
    uint64_t start;

    if (boot_info.n_cpus < 2)
        return;
    start = clock_ns();
    for (unsigned i = 1; i < boot_info.n_cpus; i++) {
        struct cpu *c = cpus[i];

        if (!wait_for(i, start + STARTUP_RETRY_NS)) {
            apic_send_startup(boot_info.cpu_apic_ids[i], TRAMPOLINE >> PAGE_SHIFT);
            if (!wait_for(i, start + STARTUP_LIMIT_NS)) {
                apic_send_init(boot_info.cpu_apic_ids[i]); /* so it won't come late */
                printk("kernel: CPU with APIC id %u did not start\n", boot_info.cpu_apic_ids[i]);
                continue;
            }
        }
        c->id = online;
        cpus[online++] = c;
    }
    apic_timer_start(0);
}

void smp_release(void)
{
    __atomic_store_n(&released, true, __ATOMIC_RELEASE);
    if (online > 1)
        apic_ipi_others(VECTOR_WAKE);
}

void smp_release_to(void (*work)(void))
{
    first_work = work;
    smp_release();
}

/* An AP's first C function, on its own stack. */
void ap_start(struct cpu *c)
{
    cpu_setup(c);
    apic_init_cpu();
    __atomic_store_n(&up[c->id], true, __ATOMIC_RELEASE);
    apic_ipi(0, VECTOR_WAKE);
    while (!__atomic_load_n(&released, __ATOMIC_ACQUIRE))
        cpu_idle();
    if (first_work)
        first_work();
    sched_ap_start();
}

void smp_stop_others(void)
{
    __atomic_store_n(&stopping, true, __ATOMIC_SEQ_CST);
    if (online > 1)
        apic_nmi_others();
}

void smp_stop_if_asked(void)
{
    if (!__atomic_load_n(&stopping, __ATOMIC_SEQ_CST))
        return;
    for (;;)
        __asm__ volatile("cli; hlt");
}
