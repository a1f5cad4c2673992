/* What this CPU can do, and the tables and registers it needs. */
#include "guest/kernel/cpu.h"

#include "guest/abi.h"
#include "guest/kernel/mm.h"

#define MSR_STAR           0xc0000081
#define MSR_LSTAR          0xc0000082
#define MSR_SFMASK         0xc0000084
#define MSR_FS_BASE        0xc0000100
#define MSR_GS_BASE        0xc0000101
#define MSR_KERNEL_GS_BASE 0xc0000102

#define IDT_SIZE (256 * 16)

#define CR4_UMIP     (1u << 11)
#define CR4_FSGSBASE (1u << 16)
#define CR4_PCIDE    (1u << 17)
#define CR4_SMEP     (1u << 20)
#define CR4_SMAP     (1u << 21)

/* TF, IF, DF, NT, AC: what SYSCALL clears. */
#define SFMASK_VALUE 0x44700u

struct cpu_features cpu_features;
struct cpu *cpus[MAX_CPUS];

extern const char idt[]; /* tables.S */
extern const char syscall_entry[], context_begin[];

_Static_assert(offsetof(struct cpu, kernel_stack_top) == 8, "entry.S and head.S");
_Static_assert(offsetof(struct cpu, user_rsp) == 16, "entry.S");
_Static_assert(sizeof(struct tss) == 104, "Intel's layout");
_Static_assert(SEL_USER_DATA == SEL_USER_CODE_32 + 8 && SEL_USER_CODE == SEL_USER_CODE_32 + 16,
               "SYSRET's layout");
_Static_assert(SEL_USER_CODE / 8 < sizeof(((struct cpu *)0)->gdt) / 8, "the GDT's size");

static void detect_hypervisor(void)
{
    struct cpuid_result r = cpuid(0x40000000, 0);

    if (r.ebx == 0x4b4d564b && r.ecx == 0x564b4d56 && r.edx == 0x4d) {
        cpu_features.kvm = true;
        cpu_features.kvm_clock = cpuid(0x40000001, 0).eax >> 3 & 1;
    }
    r = cpuid(TF_CPUID_BASE, 0);
    if (r.ebx == TF_CPUID_EBX && r.ecx == TF_CPUID_ECX && r.edx == TF_CPUID_EDX) {
        uint32_t offered = cpuid(TF_CPUID_FEATURES, 0).eax;

        cpu_features.tf_console = offered & TF_FEATURE_CONSOLE;
        cpu_features.tf_zeroed_ram = offered & TF_FEATURE_ZEROED_RAM;
        cpu_features.tf_mailbox = offered & TF_FEATURE_MAILBOX;
    }
}

void cpu_detect(void)
{
    struct cpu_features *f = &cpu_features;
    uint32_t max_leaf = cpuid(0, 0).eax;
    struct cpuid_result r = cpuid(1, 0);

    f->pcid = r.ecx >> 17 & 1;
    f->x2apic = r.ecx >> 21 & 1;
    if (r.ecx >> 31)
        detect_hypervisor();
    if (max_leaf >= 7) {
        r = cpuid(7, 0);
        f->fsgsbase = r.ebx & 1;
        f->smep = r.ebx >> 7 & 1;
        f->invpcid = r.ebx >> 10 & 1;
        f->smap = r.ebx >> 20 & 1;
        f->umip = r.ecx >> 2 & 1;
    }
    f->gbpages = cpuid(0x80000001, 0).edx >> 26 & 1;
}

static void set_protection(void)
{
    const struct cpu_features *f = &cpu_features;
    uint64_t add = (f->umip ? CR4_UMIP : 0) | (f->fsgsbase ? CR4_FSGSBASE : 0) |
                   (f->pcid ? CR4_PCIDE : 0) | (f->smep ? CR4_SMEP : 0) | (f->smap ? CR4_SMAP : 0);

    if (add)
        write_cr4(read_cr4() | add);
}

static void load_gdt_and_idt(struct cpu *c)
{
    struct {
        uint16_t limit;
        uint64_t base;
    } __attribute__((packed)) gdt = { sizeof(c->gdt) - 1, (uint64_t)c->gdt },
                              table = { IDT_SIZE - 1, (uint64_t)idt };
    uint64_t tss = (uint64_t)&c->tss;

    c->gdt[SEL_KERNEL_CODE / 8] = 0x00af9b000000ffff;
    c->gdt[SEL_KERNEL_DATA / 8] = 0x00cf93000000ffff;
    c->gdt[SEL_USER_DATA / 8] = 0x00cff3000000ffff;
    c->gdt[SEL_USER_CODE / 8] = 0x00affb000000ffff;
    c->gdt[SEL_TSS / 8] = (sizeof(c->tss) - 1) | (tss & 0xffffff) << 16 | (uint64_t)0x89 << 40 |
                          (tss >> 24 & 0xff) << 56;
    c->gdt[SEL_TSS / 8 + 1] = tss >> 32;
    c->tss.iomap_base = sizeof(c->tss);
    __asm__ volatile("lgdt %0" ::"m"(gdt));
    __asm__ volatile("lidt %0" ::"m"(table));
    __asm__ volatile("ltr %w0" ::"r"(SEL_TSS));
}

void cpu_setup(struct cpu *c)
{
    /* Data selectors mean nothing in 64-bit mode; GS is loaded before its base is set. */
    __asm__ volatile("movl %0, %%ds; movl %0, %%es; movl %0, %%fs; movl %0, %%gs" ::"r"(0));
    c->self = c;
    wrmsr(MSR_GS_BASE, (uint64_t)c);
    wrmsr(MSR_KERNEL_GS_BASE, 0);
    wrmsr(MSR_FS_BASE, 0); /* that 0 was loaded into FS need not mean that */
    load_gdt_and_idt(c);
    c->tss.rsp[0] = c->kernel_stack_top;

    /* SYSRET's half of STAR is unused but right: user data, then user code. */
    wrmsr(MSR_STAR, (uint64_t)SEL_KERNEL_CODE << 32 | (uint64_t)SEL_USER_CODE_32 << 48);
    wrmsr(MSR_LSTAR, (uint64_t)syscall_entry);
    wrmsr(MSR_SFMASK, SFMASK_VALUE);
    set_protection();
}

/* The top of such a stack holds the CPU, for entry.S. */
void cpu_set_ist(struct cpu *c, unsigned ist, uint64_t stack_top)
{
    *(struct cpu **)(stack_top - 16) = c;
    c->tss.ist[ist - 1] = stack_top - 16;
}

uint64_t context_prepare(uint64_t stack_top, void (*entry)(void *arg), void *arg)
{
    uint64_t *sp = (uint64_t *)stack_top;

    *--sp = 0; /* where backtraces end */
    *--sp = (uint64_t)context_begin;
    *--sp = (uint64_t)entry; /* rbx */
    *--sp = 0;               /* rbp */
    *--sp = (uint64_t)arg;   /* r12 */
    sp -= 3;                 /* r13 to r15: any value */
    return (uint64_t)sp;
}
