/* Start-up, one call a subsystem, in the order in which they need each other. */
#include <stdint.h>

#include "guest/kernel/access_test.h"
#include "guest/kernel/apic.h"
#include "guest/kernel/boot_info.h"
#include "guest/kernel/clock.h"
#include "guest/kernel/cpu.h"
#include "guest/kernel/init.h"
#include "guest/kernel/mailbox.h"
#include "guest/kernel/mm.h"
#include "guest/kernel/panic.h"
#include "guest/kernel/printk.h"
#include "guest/kernel/selftest.h"
#include "guest/kernel/smp.h"
#include "guest/kernel/string.h"
#include "guest/kernel/tables_test.h"

void start(uint64_t start_info_gpa) __attribute__((noreturn));

static struct cpu boot_cpu;

/* The boot CPU's stacks are mapped by tables.S: slot 0 is the one in use. */
static void prepare_boot_cpu(void)
{
    boot_cpu.kernel_stack_top = KSTACK_BASE + KSTACK_SLOT;
    for (unsigned ist = 1; ist <= 3; ist++)
        cpu_set_ist(&boot_cpu, ist, KSTACK_BASE + (ist + 1) * KSTACK_SLOT);
    cpus[0] = &boot_cpu;
}

/* The options that replace the first process by something else. */
static void run_tests_if_told(void)
{
    struct selftest_result r;
    char mode[16];

    if (cmdline_option("panic", mode, sizeof(mode)))
        panic_on_purpose(mode);
    if (!cmdline_option("selftest", mode, sizeof(mode)))
        return;
    if (strcmp(mode, "access") == 0)
        machine_exit(access_test() ? 0 : 1);
    if (strcmp(mode, "tables") == 0)
        machine_exit(tables_test() ? 0 : 1);
    if (strcmp(mode, "kernel") != 0) {
        printk("kernel: selftest=%s is not known: use selftest=kernel, access or tables\n", mode);
        return;
    }
    r = kernel_selftest();
    printk("kernel: %u checks passed, %u failed\n", r.passed, r.failed);
    machine_exit(r.failed ? 1 : 0);
}

/* Called by head.S in long mode, on kernel_pml4, with interrupts off. */
void start(uint64_t start_info_gpa)
{
    cpu_detect();         /* what CPUID and the monitor offer */
    prepare_boot_cpu();   /* its struct cpu and stacks */
    cpu_setup(&boot_cpu); /* GDT, TSS, IDT, SYSCALL, CR4: exceptions get reported */
    console_init();       /* and have somewhere to go */
    clock_stage("entry");

    boot_info_read(start_info_gpa); /* memory map, command line, initrd */
    pmm_init();                     /* direct map of all RAM, page allocator */
    clock_stage("memory");

    acpi_read();  /* which CPUs there are */
    apic_init();  /* local APIC of this CPU; the old PIC is masked */
    smp_start();  /* the others begin to run */
    clock_init(); /* TSC and timer frequency */
    smp_wait();   /* all CPUs are up */
    clock_stage("cpus");

    cmdline_warn_unknown(); /* options that nobody knows */
    run_tests_if_told();    /* panic=..., selftest=... */
    mailbox_init();         /* the monitor may ask */
    smp_release();          /* the others enter their idle loops */
    init_start();           /* the first process; never returns */
}
