/*
 * De-privileged VMs: what they need of KVM, creation, and the round of a vCPU.
 */
#include "vmm/depriv_impl.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#define LEAF_FEATURES  1
#define LEAF_STRUCTURE 7
#define LEAF_PV        0x40000001u
#define LEAF_EXTENDED  0x80000001u

const char *depriv_kind_name(enum depriv_kind kind)
{
    static const char *const names[DEPRIV_KINDS] = {
        [DEPRIV_CR] = "cr",           [DEPRIV_CR3] = "cr3",         [DEPRIV_INVLPG] = "invlpg",
        [DEPRIV_MSR] = "msr",         [DEPRIV_IF] = "if",           [DEPRIV_IO] = "io",
        [DEPRIV_IRET] = "iret",       [DEPRIV_SYSCALL] = "syscall", [DEPRIV_SWAPGS] = "swapgs",
        [DEPRIV_SEGMENT] = "segment", [DEPRIV_HLT] = "hlt",         [DEPRIV_OTHER] = "other",
    };

    return (unsigned)kind < DEPRIV_KINDS ? names[kind] : "unknown";
}

/* --- the VM ------------------------------------------------------------------------- */

static void *ram(void *ctx, gpa_t at, uint64_t len)
{
    struct depriv *d = ctx;

    return memory_at(d->vm->mem, at, len);
}

static void wrote(void *ctx, gpa_t at, uint64_t len)
{
    struct depriv *d = ctx;

    memory_wrote(d->vm->mem, at, len);
}

static int tables_create(struct depriv *d, struct error *err)
{
    size_t count;
    const struct mem_slot *slot = memory_slots(d->vm->mem, &count);
    struct shadow_config cfg = {
        .pool = window_page(d, WINDOW_POOL),
        .pool_gpa = gpa(d->base.v + WINDOW_POOL * PAGE_SIZE_4K),
        .pool_pages = d->pool_pages,
        .cpus = d->vm->cfg->cpus,
        .gib_pages = cpuid_gib_pages(d->vm->cpuid),
        .nested = !d->touch,
        .ram = ram,
        .wrote = wrote,
        .ctx = d,
        .ram_end = slot[count - 1].base.v + slot[count - 1].size,
        .hidden = d->base,
        .hidden_size = d->hidden_size,
        .nowhere = gpa(d->base.v + d->hidden_size),
    };
    int rc = shadow_create(&d->shadow, &cfg);

    if (rc < 0)
        return error_set(err, rc, "no memory for the shadow tables' book-keeping");
    shadow_window(d->shadow, WINDOW_SLOT,
                  (d->base.v + WINDOW_PDPT * PAGE_SIZE_4K) | X86_PTE_P | X86_PTE_RW | X86_PTE_A);
    return 0;
}

int depriv_able(const struct kvm *kvm, struct error *err)
{
    const int sync = KVM_SYNC_X86_REGS | KVM_SYNC_X86_SREGS;

    if ((kvm_cap(kvm, KVM_CAP_SYNC_REGS) & sync) == sync)
        return 0;
    return error_set(err, -ENOTSUP,
                     "--paging shadow needs registers in the shared page "
                     "(KVM_CAP_SYNC_REGS), which this KVM lacks: use --paging nested");
}

int depriv_create(struct depriv **out, struct vm *vm, struct error *err)
{
    struct kvm_backend backend;
    struct depriv *d;
    int rc;

    *out = NULL;
    rc = depriv_able(&vm->kvm, err);
    if (rc < 0)
        return rc;
    d = calloc(1, sizeof(*d));
    if (!d)
        return error_set(err, -ENOMEM, "no memory for a de-privileged VM");
    d->vm = vm;
    d->phys_bits = cpuid_phys_bits(vm->cpuid);
    kvm_backend_read(&backend);
    d->touch = backend.nested_paging != KVM_FLAG_YES;
    d->cr4_known = cpuid_cr4_bits(vm->cpuid);
    d->umip = d->cr4_known & CPU_CR4_UMIP;
    rc = window_create(d, err);
    if (rc == 0)
        rc = tables_create(d, err);
    if (rc < 0) {
        depriv_destroy(d);
        return rc;
    }
    *out = d;
    return 0;
}

void depriv_destroy(struct depriv *d)
{
    if (!d)
        return;
    shadow_destroy(d->shadow);
    window_destroy(d);
    free(d);
}

struct shadow *depriv_shadow(struct depriv *d)
{
    return d->shadow;
}

/* --- a vCPU ------------------------------------------------------------------------- */

/* The way up: 32-bit protected mode, as every vCPU 0 starts (vcpu.c). */
static int take_boot_state(struct depriv_cpu *c, struct error *err)
{
    struct kvm_sregs sregs;
    struct kvm_regs regs;
    struct cpu_state *s = &c->s;

    if (ioctl(c->cpu->fd, KVM_GET_SREGS, &sregs) < 0 || ioctl(c->cpu->fd, KVM_GET_REGS, &regs) < 0)
        return error_set(err, -errno, "KVM does not give the registers of vCPU %u: %s", c->cpu->id,
                         strerror(errno));
    s->rip = regs.rip;
    s->rflags = regs.rflags;
    s->gpr[CPU_RAX] = regs.rax;
    s->gpr[CPU_RBX] = regs.rbx;
    s->gpr[CPU_RDX] = 0;
    s->cr0 = sregs.cr0;
    s->seg[CPU_CS] = sregs.cs;
    s->seg[CPU_SS] = sregs.ss;
    s->seg[CPU_DS] = sregs.ds;
    s->seg[CPU_ES] = sregs.es;
    s->seg[CPU_FS] = sregs.fs;
    s->seg[CPU_GS] = sregs.gs;
    s->tr = sregs.tr;
    s->ldt = sregs.ldt;
    s->gdt = sregs.gdt;
    s->idt = sregs.idt;
    return 0;
}

int depriv_cpu_create(struct depriv_cpu **out, struct depriv *d, struct vcpu *cpu,
                      struct error *err)
{
    struct depriv_cpu *c = calloc(1, sizeof(*c));
    int rc;

    *out = NULL;
    if (!c || interp_create(&c->in, &c->s, &depriv_memory_ops, c) < 0) {
        free(c);
        return error_set(err, -ENOMEM, "no memory for vCPU %u", cpu->id);
    }
    c->d = d;
    c->cpu = cpu;
    cpu_reset(&c->s);
    c->waits_for_startup = cpu->id != 0;
    window_cpu_init(d, cpu->id);
    cpu->run->kvm_valid_regs = KVM_SYNC_X86_REGS | KVM_SYNC_X86_SREGS;
    rc = cpu->id == 0 ? take_boot_state(c, err) : 0;
    if (rc == 0)
        rc = depriv_set_lstar(c) < 0
                 ? error_set(err, -EIO, "KVM: setting LSTAR of vCPU %u failed", cpu->id)
                 : 0;
    if (rc == 0 && (ioctl(cpu->fd, KVM_GET_REGS, real_regs(c)) < 0 ||
                    ioctl(cpu->fd, KVM_GET_SREGS, real_sregs(c)) < 0))
        rc = error_set(err, -errno, "KVM does not give the registers of vCPU %u: %s", cpu->id,
                       strerror(errno));
    if (rc < 0) {
        depriv_cpu_destroy(c);
        return rc;
    }
    *out = c;
    return 0;
}

void depriv_cpu_destroy(struct depriv_cpu *c)
{
    if (!c)
        return;
    interp_destroy(c->in);
    free(c);
}

int depriv_round(struct depriv_cpu *c, uint64_t *tsc)
{
    int rc;

    if (c->waits_for_startup)
        return depriv_wait_for_startup(c, tsc);
    if (c->astray)
        return depriv_come_back(c, tsc);
    if (c->resume) {
        rc = vcpu_kvm_run(c->cpu, tsc);
        return depriv_after_run(c, rc);
    }
    if (kicked(c)) {
        c->kick_later = false;
        return -EINTR;
    }
    depriv_deliver_accepted(c);
    if (c->s.halted)
        return depriv_wait(c, tsc);
    if (!runs_natively(&c->s)) {
        depriv_interpret(c);
        return 1;
    }
    rc = depriv_enter_guest(c, tsc);
    return rc > 0 ? 1 : depriv_after_run(c, rc);
}

void depriv_registers(const struct depriv_cpu *c, struct kvm_regs *regs, struct kvm_sregs *sregs)
{
    const struct cpu_state *s = &c->s;

    depriv_general(s, regs);
    if (c->resume) /* it stands in the middle of a KVM_RUN */
        *regs = c->cpu->run->s.regs.regs;
    *sregs = c->cpu->run->s.regs.sregs; /* APIC base, CR8 */
    sregs->cs = s->seg[CPU_CS];
    sregs->ss = s->seg[CPU_SS];
    sregs->ds = s->seg[CPU_DS];
    sregs->es = s->seg[CPU_ES];
    sregs->fs = s->seg[CPU_FS];
    sregs->gs = s->seg[CPU_GS];
    sregs->ss.dpl = (uint8_t)s->cpl;
    sregs->tr = s->tr;
    sregs->ldt = s->ldt;
    sregs->gdt = s->gdt;
    sregs->idt = s->idt;
    sregs->cr0 = s->cr0;
    sregs->cr2 = s->cr2;
    sregs->cr3 = s->cr3;
    sregs->cr4 = s->cr4;
    sregs->efer = s->efer;
}

void depriv_cpu_stat(const struct depriv_cpu *c, struct depriv_stat *out)
{
    const uint64_t *from = (const uint64_t *)&c->stat;
    uint64_t *to = (uint64_t *)out;

    for (size_t i = 0; i < sizeof(*out) / sizeof(*to); i++)
        to[i] = __atomic_load_n(&from[i], __ATOMIC_RELAXED);
}

/*
 * Not offered: protection keys and control-flow enforcement (our tables have no room for them),
 * five levels, VMX and SVM, and KVM's paravirtual features but the clock: they act behind the
 * guest's back, on a ring 0 that isn't there.
 */
void depriv_cpuid(struct cpuid *cpuid)
{
    cpuid_clear(cpuid, LEAF_STRUCTURE, 0, CPUID_ECX,
                1u << 3 /* PKU */ | 1u << 7 /* CET_SS */ | 1u << 16 /* LA57 */ |
                    1u << 31 /* PKS */);
    cpuid_clear(cpuid, LEAF_STRUCTURE, 0, CPUID_EDX, 1u << 20 /* CET_IBT */);
    cpuid_clear(cpuid, LEAF_FEATURES, 0, CPUID_ECX,
                1u << 3 /* MONITOR */ | 1u << 5 /* VMX */ | 1u << 6 /* SMX */);
    cpuid_clear(cpuid, LEAF_EXTENDED, 0, CPUID_ECX, 1u << 2 /* SVM */);
    cpuid_clear(cpuid, LEAF_PV, 0, CPUID_EAX, ~(1u << 0 | 1u << 3 | 1u << 24));
}
