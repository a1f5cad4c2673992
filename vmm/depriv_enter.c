/*
 * Into the guest: the real registers from the virtual ones. Out of it again is depriv_trap.c.
 */
#include "vmm/depriv_impl.h"

#include <errno.h>
#include <sched.h>
#include <string.h>
#include <sys/ioctl.h>

#define REAL_CR0 (X86_CR0_PG | X86_CR0_WP | CPU_CR0_NE | CPU_CR0_ET | CPU_CR0_MP | CPU_CR0_PE)
#define REAL_CR4 (X86_CR4_PAE | UINT64_C(0x600)) /* OSFXSR, OSXMMEXCPT */
#define GUESTS_CR4 \
    (CPU_CR4_TSD | CPU_CR4_FSGSBASE | CPU_CR4_OSXSAVE | UINT64_C(0x108)) /* PCE, DE */
#define REAL_EFER     (CPU_EFER_LME | X86_EFER_LMA | X86_EFER_NXE)
#define RFLAGS_NATIVE (~(CPU_IOPL | CPU_VM | UINT64_C(0x180000)) & UINT64_C(0x3fffff))
#define PATIENCE      64 /* turns for other vCPUs before it is tried again from the start */

/* --- registers ---------------------------------------------------------------------- */

static void load_general(struct depriv_cpu *c)
{
    struct kvm_regs *to = real_regs(c);

    depriv_general(&c->s, to);
    to->rflags = (to->rflags & RFLAGS_NATIVE) | 2;
}

/* A segment as ring 3 has it: flat, with the base that counts in 64-bit mode. */
static struct kvm_segment flat(const struct kvm_segment *own, bool code)
{
    struct kvm_segment seg = {
        .base = own->base,
        .limit = 0xffffffff,
        .selector = (uint16_t)(own->selector | 3),
        .type = code ? 11 : 3,
        .present = 1,
        .dpl = 3,
        .db = !code,
        .s = 1,
        .l = code,
        .g = 1,
    };

    if (!code && (own->unusable || !own->present)) {
        seg.unusable = 1;
        seg.present = 0;
        seg.selector = 0;
    }
    return seg;
}

static void load_segments(struct depriv_cpu *c)
{
    struct kvm_sregs *to = real_sregs(c);
    const struct cpu_state *s = &c->s;

    to->cs = flat(&s->seg[CPU_CS], true);
    to->cs.base = 0;
    to->ss = flat(&s->seg[CPU_SS], false);
    if (to->ss.unusable) { /* as ring 0 has it in 64-bit mode, which ring 3 may not */
        to->ss.unusable = 0;
        to->ss.present = 1;
        to->ss.selector = 0x1b;
    }
    to->ss.base = 0;
    to->ds = flat(&s->seg[CPU_DS], false);
    to->es = flat(&s->seg[CPU_ES], false);
    to->fs = flat(&s->seg[CPU_FS], false);
    to->gs = flat(&s->seg[CPU_GS], false);
    c->null_data = (to->ds.selector ? 0 : 1) | (to->es.selector ? 0 : 2) |
                   (to->fs.selector ? 0 : 4) | (to->gs.selector ? 0 : 8);
}

/* What is the same for the guest and for the window's own code. */
static void load_system(struct depriv_cpu *c, gpa_t root)
{
    struct kvm_sregs *to = real_sregs(c);
    const struct cpu_state *s = &c->s;
    uint64_t page = window_at(WINDOW_CPUS + c->cpu->id);

    to->gdt = (struct kvm_dtable){ .base = page + CPU_PAGE_GDT, .limit = 31 };
    to->idt = (struct kvm_dtable){ .base = window_at(WINDOW_IDT), .limit = 4095 };
    to->tr = (struct kvm_segment){
        .base = page, .limit = 103, .selector = STUB_TSS, .type = 11, .present = 1
    };
    to->ldt = (struct kvm_segment){ .unusable = 1 };
    to->cr0 =
        REAL_CR0 | (s->cr0 & (CPU_CR0_TS | CPU_CR0_EM)) | (s->cpl == 3 ? s->cr0 & CPU_CR0_AM : 0);
    to->cr3 = root.v;
    to->cr4 = REAL_CR4 | (s->cr4 & GUESTS_CR4) | (c->d->umip ? CPU_CR4_UMIP : 0);
    to->efer = REAL_EFER;
}

static void mark_dirty(struct depriv_cpu *c)
{
    c->cpu->run->kvm_dirty_regs = KVM_SYNC_X86_REGS | KVM_SYNC_X86_SREGS;
}

/* Has KVM wait for an interrupt when it is entered next, or no longer. */
static int set_halted(struct depriv_cpu *c, bool halted)
{
    struct kvm_mp_state mp = {
        .mp_state = halted ? KVM_MP_STATE_HALTED : KVM_MP_STATE_RUNNABLE,
    };

    if (c->halted_real == halted)
        return 0;
    c->halted_real = halted;
    return ioctl(c->cpu->fd, KVM_SET_MP_STATE, &mp) < 0 ? -errno : 0;
}

/* --- code of the window ------------------------------------------------------------- */

static bool in_window(const struct depriv_cpu *c)
{
    const struct kvm_regs *regs = &c->cpu->run->s.regs.regs;

    return regs->rip - WINDOW_GVA < (UINT64_C(1) << 30);
}

/* The vector of the stub that the vCPU stands in, or -1. */
int depriv_stub(const struct depriv_cpu *c)
{
    uint64_t at = c->cpu->run->s.regs.regs.rip - window_at(WINDOW_STUBS);

    return at < PAGE_SIZE_4K ? (int)(at / STUB_BYTES) : -1;
}

static bool ended_in_out(const struct vcpu *cpu)
{
    return cpu->run->exit_reason == KVM_EXIT_IO && cpu->run->io.port == STUB_PORT;
}

struct window_code {
    gpa_t root;
    uint64_t rip, rax, rdi, rdx;
    bool interrupts; /* may end it */
};

static void load_window_code(struct depriv_cpu *c, const struct window_code *code)
{
    struct kvm_sregs *to = real_sregs(c);

    load_system(c, code->root);
    *real_regs(c) = (struct kvm_regs){
        .rip = code->rip,
        .rax = code->rax,
        .rdi = code->rdi,
        .rdx = code->rdx,
        .rsp = window_at(WINDOW_CPUS + c->cpu->id) + CPU_PAGE_STACK,
        .rflags = 2 | (code->interrupts ? CPU_IF : 0),
    };
    to->cs = (struct kvm_segment){
        .limit = 0xffffffff, .selector = STUB_CODE, .type = 11, .present = 1, .s = 1, .l = 1, .g = 1
    };
    to->ss = (struct kvm_segment){
        .limit = 0xffffffff, .type = 3, .present = 1, .s = 1, .db = 1, .g = 1
    };
    mark_dirty(c);
}

/* Until its OUT; *rax as it ends. Returns as depriv_run_proxy(). */
static int run_window(struct depriv_cpu *c, struct window_code *code)
{
    uint64_t tsc;
    int rc, vector;

    if (c->astray)
        return -EINTR - 1;
    rc = set_halted(c, false);
    if (rc < 0)
        return rc - 1;
    load_window_code(c, code);
    for (;;) {
        rc = vcpu_kvm_run(c->cpu, &tsc);
        if (depriv_astray(c, rc)) {
            if (rc == 0)
                vcpu_handle_exit(c->cpu, tsc);
            return -EINTR - 1;
        }
        vector = depriv_stub(c);
        if (vector >= 0)
            return vector;
        if (rc == 0 && ended_in_out(c->cpu)) {
            code->rax = real_regs(c)->rax;
            return -1;
        }
        if (rc == 0 && in_window(c) &&
            (c->cpu->run->exit_reason == KVM_EXIT_IO ||
             c->cpu->run->exit_reason == KVM_EXIT_MMIO)) {
            vcpu_handle_exit(c->cpu, tsc);
            continue;
        }
        if (rc != -EINTR)
            return rc < 0 ? rc - 1 : -EIO - 1;
        /* What a signal cut short is done as a whole, as no half of it can be kept. */
        __atomic_store_n(&c->cpu->run->immediate_exit, 0, __ATOMIC_RELAXED);
        c->kick_later = true;
    }
}

static uint64_t proxy_at(const struct depriv_cpu *c, unsigned code)
{
    return window_at(WINDOW_CPUS + c->cpu->id) + CPU_PAGE_PROXY + code * STUB_BYTES;
}

static gpa_t window_root(const struct depriv_cpu *c)
{
    return gpa(c->d->base.v + WINDOW_ROOT * PAGE_SIZE_4K);
}

int depriv_run_proxy(struct depriv_cpu *c, unsigned code, uint64_t *value, uint64_t rdi,
                     uint16_t port, bool interrupts)
{
    struct window_code run = { .root = window_root(c),
                               .rip = proxy_at(c, code),
                               .rax = *value,
                               .rdi = rdi,
                               .rdx = port,
                               .interrupts = interrupts };
    int rc = run_window(c, &run);

    *value = run.rax;
    return rc;
}

int depriv_wait(struct depriv_cpu *c, uint64_t *tsc)
{
    struct window_code run = { .root = window_root(c),
                               .rip = proxy_at(c, PROXY_NOTHING),
                               .interrupts = c->s.rflags & CPU_IF };
    int rc = set_halted(c, true), vector;

    depriv_tell_writes(c);
    if (rc < 0)
        return rc;
    load_window_code(c, &run);
    rc = vcpu_kvm_run(c->cpu, tsc);
    if (depriv_astray(c, rc))
        return rc == -EAGAIN ? 1 : rc;
    vector = depriv_stub(c);
    if (vector >= 0 || rc == 0)
        c->halted_real = false;
    if (vector >= 0) {
        depriv_interrupt(c, (unsigned)vector);
        depriv_run_ahead(c);
    }
    return rc == 0 && (vector >= 0 || ended_in_out(c->cpu)) ? 1 : rc;
}

/* --- flushing ----------------------------------------------------------------------- */

/* For each page `add word [rip + d], 0`, then `mov cr3, rax; out`. */
static void make_flush_code(struct depriv_cpu *c, const struct shadow_flush *flush)
{
    unsigned page = WINDOW_CPUS + c->cpu->id;
    uint8_t *code = window_page(c->d, page) + CPU_PAGE_FLUSH;
    uint64_t rip = window_at(page) + CPU_PAGE_FLUSH;

    for (unsigned i = 0; c->d->touch && i < flush->count; i++, code += 8) {
        uint64_t to = window_at(WINDOW_POOL + flush->touch[i]);
        int32_t distance;

        rip += 8;
        distance = (int32_t)(int64_t)(to - rip);
        memcpy(code, (const uint8_t[]){ 0x66, 0x83, 0x05 }, 3);
        memcpy(code + 3, &distance, sizeof(distance));
        code[7] = 0;
    }
    memcpy(code, (const uint8_t[]){ 0x0f, 0x22, 0xd8, 0xe6, STUB_PORT }, 5);
}

_Static_assert(CPU_PAGE_FLUSH + SHADOW_TOUCH_MAX * 8 + 5 <= CPU_PAGE_PROXY, "room for the code");

static int flush_real(struct depriv_cpu *c, const struct shadow_flush *flush)
{
    struct window_code run = { .root = c->root,
                               .rip = window_at(WINDOW_CPUS + c->cpu->id) + CPU_PAGE_FLUSH,
                               .rax = c->root.v };
    int rc;

    make_flush_code(c, flush);
    rc = run_window(c, &run);
    depriv_count(&c->stat.flushes, 1);
    depriv_count(&c->stat.touches, c->d->touch ? flush->count : 0);
    if (rc >= 0) {
        depriv_accept(c, (unsigned)rc); /* and once more from the start */
        return -EAGAIN;
    }
    return rc == -1 ? 0 : rc + 1;
}

/* --- in ----------------------------------------------------------------------------- */

void depriv_kick_others(struct depriv_cpu *c)
{
    struct vm *vm = c->d->vm;

    (void)pthread_mutex_lock(&vm->lock);
    for (unsigned i = 0; i < vm->vcpus; i++)
        if (i != c->cpu->id)
            vcpu_kick(&vm->vcpu[i]);
    (void)pthread_mutex_unlock(&vm->lock);
    (void)sched_yield();
}

/* The rest is the same for all of the VM. */
static bool same_mode(const struct shadow_mode *a, const struct shadow_mode *b)
{
    return a->paging.cr3 == b->paging.cr3 && a->paging.cr0 == b->paging.cr0 &&
           a->paging.cr4 == b->paging.cr4 && a->paging.efer == b->paging.efer &&
           a->paging.rflags == b->paging.rflags && a->user == b->user;
}

static int ready_root(struct depriv_cpu *c)
{
    struct shadow_mode mode = { 0 };
    int rc;

    depriv_paging(c, &mode.paging);
    mode.paging.rflags &= X86_RFLAGS_AC;
    mode.user = c->s.cpl == 3;
    if (c->root_known && same_mode(&mode, &c->mode))
        return 0;
    rc = shadow_root(c->d->shadow, c->cpu->id, &mode, &c->root);
    if (rc < 0)
        return rc;
    c->mode = mode;
    c->root_known = true;
    return 0;
}

/* The root's own, so that shadow_fault() finds what the vCPU runs on. */
int depriv_ready(struct depriv_cpu *c)
{
    int rc = -EAGAIN;

    for (unsigned i = 0; i < PATIENCE && rc == -EAGAIN; i++) {
        rc = ready_root(c);
        if (rc == -EAGAIN)
            depriv_kick_others(c);
    }
    return rc;
}

static int run_guest(struct depriv_cpu *c, uint64_t *tsc)
{
    uint64_t enter = vm_tsc(), ticks;
    int rc = vcpu_kvm_run(c->cpu, tsc);

    ticks = *tsc - enter;
    if (rc == 0 && (c->exit_ticks == 0 || ticks < c->exit_ticks))
        c->exit_ticks = ticks;
    return rc;
}

int depriv_enter_guest(struct depriv_cpu *c, uint64_t *tsc)
{
    struct shadow_flush flush;
    int rc = depriv_ready(c);

    depriv_tell_writes(c);
    if (rc == -EAGAIN)
        return 1;
    if (rc == 0)
        depriv_retry(c);
    while (rc == 0 && shadow_enter(c->d->shadow, c->cpu->id, &flush)) {
        rc = flush_real(c, &flush);
        shadow_left(c->d->shadow, c->cpu->id, rc == 0 ? &flush : NULL);
        if (rc == -EAGAIN)
            return 1;
    }
    if (rc < 0)
        return rc;
    load_general(c);
    load_segments(c);
    load_system(c, c->root);
    mark_dirty(c);
    rc = set_halted(c, false);
    if (c->s.rflags & CPU_IF)
        c->closed = 0;
    if (c->kick_later) {
        c->kick_later = false;
        __atomic_store_n(&c->cpu->run->immediate_exit, 1, __ATOMIC_RELEASE);
    }
    return rc < 0 ? rc : run_guest(c, tsc);
}
