/* The report of a kernel that can't go on. */
#include "guest/kernel/panic.h"

#include "guest/abi.h"
#include "guest/kernel/cpu.h"
#include "guest/kernel/mm.h"
#include "guest/kernel/pagewalk.h"
#include "guest/kernel/printk.h"
#include "guest/kernel/smp.h"
#include "guest/kernel/trap.h"

#define MAX_FRAMES 24

_Static_assert(TF_PORT_EXIT == 0xf4 && TF_EXIT_PANIC == 126, "head.S has them as numbers");

void machine_exit(unsigned value)
{
    outb(TF_PORT_EXIT, (uint8_t)value);
    for (;;)
        __asm__ volatile("cli; hlt");
}

/* One CPU reports, once: a second panic, from wherever, gets no further than this. */
static void begin(void)
{
    static uint32_t reporter; /* CPU + 1 */
    uint32_t expected = 0;

    if (!__atomic_compare_exchange_n(&reporter, &expected, this_cpu()->id + 1, false,
                                     __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)) {
        if (expected == this_cpu()->id + 1)
            machine_exit(TF_EXIT_PANIC);
        for (;;)
            __asm__ volatile("cli; hlt");
    }
    smp_stop_others();
    printk_panic_mode();
}

static void print_place(const char *what, uint64_t rip)
{
    uint64_t offset;
    const char *name = symbol_lookup(rip, &offset);

    if (name)
        printk("%s 0x%lx %s+0x%lx\n", what, rip, name, offset);
    else
        printk("%s 0x%lx\n", what, rip);
}

/* May 16 bytes at this frame pointer be read? They must lie on a mapped kernel stack. */
static bool frame_is_sane(uint64_t rbp)
{
    struct pagewalk w;

    if (rbp % 8 || rbp - KSTACK_BASE >= HUGE_SIZE || (rbp + 15) % KSTACK_SLOT < 15)
        return false;
    pagewalk(read_cr3() & PTE_ADDR, rbp, &w);
    return w.mapped;
}

/* One line a frame; a recursion becomes one line with a count. */
static void print_backtrace(uint64_t rip, uint64_t rbp)
{
    uint64_t last = rip;
    unsigned repeats = 0, lines = 0;

    printk("backtrace:\n");
    if (rip)
        print_place(" ", rip);
    while (lines < MAX_FRAMES && frame_is_sane(rbp)) {
        const uint64_t *frame = (const uint64_t *)rbp;

        if (!frame[1])
            break;
        if (frame[1] == last) {
            repeats++;
        } else {
            if (repeats)
                printk("  (%u more of it)\n", repeats);
            print_place(" ", frame[1]);
            last = frame[1];
            repeats = 0;
            lines++;
        }
        if (frame[0] <= rbp)
            break;
        rbp = frame[0];
    }
    if (repeats)
        printk("  (%u more of it)\n", repeats);
}

static void print_registers(const struct trap_frame *f)
{
    print_place("rip", f->rip);
    printk("rax %016lx rbx %016lx rcx %016lx rdx %016lx\n", f->rax, f->rbx, f->rcx, f->rdx);
    printk("rsi %016lx rdi %016lx rbp %016lx rsp %016lx\n", f->rsi, f->rdi, f->rbp, f->rsp);
    printk("r8  %016lx r9  %016lx r10 %016lx r11 %016lx\n", f->r8, f->r9, f->r10, f->r11);
    printk("r12 %016lx r13 %016lx r14 %016lx r15 %016lx\n", f->r12, f->r13, f->r14, f->r15);
    printk("cs %02lx ss %02lx rflags %lx cr2 %016lx cr3 %lx cr4 %lx\n", f->cs, f->ss, f->rflags,
           read_cr2(), read_cr3(), read_cr4());
}

static void describe_fault(const struct trap_frame *f, char *buf, size_t size)
{
    uint64_t e = f->error;

    kformat(buf, size, ", %s of 0x%lx by %s: %s",
            e & PF_FETCH   ? "fetch"
            : e & PF_WRITE ? "write"
                           : "read",
            f->cr2, e & PF_USER ? "ring 3" : "ring 0",
            e & PF_RESERVED  ? "a reserved bit is set"
            : e & PF_PRESENT ? "not allowed"
                             : "not mapped");
}

/* Ends the report and the VM. */
static void end(void) __attribute__((noreturn));
static void end(void)
{
    printk("--- end of panic\n");
    machine_exit(TF_EXIT_PANIC);
}

void panic(const char *format, ...)
{
    char text[160];
    va_list ap;

    begin();
    va_start(ap, format);
    kvformat(text, sizeof(text), format, ap);
    va_end(ap);
    printk("\nPANIC on CPU %u: %s\n", this_cpu()->id, text);
    print_backtrace(0, (uint64_t)__builtin_frame_address(0));
    end();
}

void panic_trap(struct trap_frame *f)
{
    char text[120] = "";
    bool with_address = f->vector == TRAP_PF;
    struct pagewalk w;

    begin();
    if (f->vector == TRAP_DF)
        f->cr2 = read_cr2();
    if ((f->vector == TRAP_PF || f->vector == TRAP_DF) && kstack_is_guard(f->cr2)) {
        kformat(text, sizeof(text), " (kernel stack overflow)");
        with_address = true;
    } else if (f->vector == TRAP_PF) {
        describe_fault(f, text, sizeof(text));
    } else if (f->error) {
        kformat(text, sizeof(text), ", error code 0x%lx", f->error);
    }
    printk("\nPANIC on CPU %u: %s%s\n", this_cpu()->id, trap_name(f->vector), text);
    print_registers(f);
    print_backtrace(f->rip, f->rbp);
    if (with_address) {
        pagewalk(read_cr3() & PTE_ADDR, f->cr2, &w);
        pagewalk_print(&w, f->cr2);
    }
    end();
}
