/*
 * Instructions carried out in the monitor: those behind a privileged one as long as that pays, code
 * that can't run natively, and single ones that the real CPU can't do. And an access that will be
 * made again, filled before it faults.
 */
#include "vmm/depriv_impl.h"

#include <stdio.h>
#include <string.h>

#include "vmm/operand.h"

#define AHEAD_TICKS 128  /* of the TSC: what a step costs, roughly */
#define AHEAD_LEAST 48   /* steps without an exit saved */
#define AHEAD_MOST  256  /* ... also where an exit costs more: decoding comes first */
#define AHEAD_LIMIT 1024 /* in one exit altogether */
#define AHEAD_BAD   (-3) /* a place that did not pay so often is left alone ... */
#define AHEAD_GOOD  3
#define AHEAD_RETRY 64   /* ... but tried again every now and then */
#define BATCH       2048 /* instructions of code that can't run natively, before others get a turn */
#define POLL        256  /* instructions between two looks for interrupts */
#define REP_ROUNDS  65536
#define CLOSED_MAX  8 /* times that interrupts were open and closed again without KVM */

static void cant_interpret(struct depriv_cpu *c)
{
    struct kvm_sregs sregs;
    struct kvm_regs regs;
    struct interp_insn insn;
    struct cpu_fault fault;
    uint8_t code[INSTRUCTION_MAX];
    char what[200], text[100] = "", named[104];
    unsigned n = 0;
    uint64_t at = c->s.rip + (cpu_code_bits(&c->s) == 64 ? 0 : c->s.seg[CPU_CS].base);

    while (n < sizeof(code) &&
           interp_load(c->in, at + n, &code[n], 1, c->s.cpl == 3, false, &fault) == 0)
        n++;
    depriv_registers(c, &regs, &sregs);
    (void)instruction_text(code, n, &regs, &sregs, text, sizeof(text));
    (void)interp_decode(c->in, &insn, &fault);
    c->failed = true;
    (void)snprintf(named, sizeof(named), "'%s'", text);
    (void)snprintf(what, sizeof(what),
                   "shadow paging can't carry out %s in %u-bit code: use --paging nested",
                   text[0] ? named : "what is no instruction that it knows", cpu_code_bits(&c->s));
    dump_crash(c->cpu, what, 0);
}

/* A guest that gets its interrupts back by POPF loses them where it runs natively. */
static void warn_popf(struct depriv_cpu *c, uint64_t rip)
{
    static const char text[] =
        "twofold: warning: the guest changes RFLAGS.IF by POPF (rip 0x%llx), which ring 3 ignores "
        "without a trap: with --paging shadow it may hang; use --paging nested\n";

    if (!__atomic_exchange_n(&c->d->warned_popf, true, __ATOMIC_RELAXED))
        fprintf(stderr, text, (unsigned long long)rip);
}

static bool is_iret(const ZydisDecodedInstruction *z)
{
    return z && (z->mnemonic == ZYDIS_MNEMONIC_IRET || z->mnemonic == ZYDIS_MNEMONIC_IRETD ||
                 z->mnemonic == ZYDIS_MNEMONIC_IRETQ);
}

/* One step, system instructions included, and its faults. */
static enum interp_result step(struct depriv_cpu *c)
{
    struct cpu_state *s = &c->s;
    uint64_t rip = s->rip, flags = s->rflags;
    bool inhibited = s->inhibited;
    struct interp_insn insn;
    struct cpu_fault fault;
    enum interp_result result = interp_step(c->in, REP_ROUNDS, &insn, &fault);

    if (result == INTERP_OK) {
        depriv_count(&c->stat.interpreted, 1);
        if ((flags ^ s->rflags) & CPU_IF && runs_natively(s))
            warn_popf(c, rip);
    } else if (result == INTERP_SYSTEM) {
        result = depriv_system(c, &insn, &fault);
    }
    if (result == INTERP_SYSTEM) /* nobody knows it: on hardware it would be something newer */
        result = INTERP_UNKNOWN;
    if (result == INTERP_UNKNOWN)
        return result;
    if (!is_iret(insn.z)) /* which leaves RF as it took it from the stack */
        s->rflags &= ~CPU_RF;
    if (inhibited)
        s->inhibited = false;
    if (result == INTERP_FAULT)
        depriv_raise(c, &fault);
    else if (flags & CPU_TF)
        depriv_stepped(c, &insn);
    return result;
}

void depriv_one(struct depriv_cpu *c)
{
    if (step(c) == INTERP_UNKNOWN)
        cant_interpret(c);
}

#define DR7_ENABLES 0xffu

/* Breakpoints are the real CPU's to find. */
static bool may_go_on(const struct depriv_cpu *c)
{
    return !(c->s.dr[7] & DR7_ENABLES) && !c->s.halted && !c->failed && !(c->s.rflags & CPU_TF) &&
           runs_natively(&c->s) && c->s.cpl != 3;
}

static int8_t *place_of(struct depriv_cpu *c)
{
    return &c->ahead[(c->s.rip ^ c->s.rip >> 8) % AHEAD_PLACES];
}

/* Where ring 3's CPUID doesn't trap, one behind a privileged instruction still gets our answer. */
static bool cpuid_follows(struct depriv_cpu *c)
{
    struct cpu_fault fault;
    uint8_t code[2];

    return c->s.rip % PAGE_SIZE_4K < PAGE_SIZE_4K - 1 &&
           interp_load(c->in, c->s.rip, code, sizeof(code), false, false, &fault) == 0 &&
           code[0] == 0x0f && code[1] == 0xa2;
}

/* The one instruction that must follow here: behind STI no interrupt may come before it. */
static void finish(struct depriv_cpu *c)
{
    if (!may_go_on(c) || (!c->s.inhibited && !cpuid_follows(c)))
        return;
    if (step(c) == INTERP_UNKNOWN)
        c->s.inhibited = false;
}

/*
 * Whoever opens interrupts for a moment only, again and again, waits for one: it comes when KVM is
 * entered with IF set. Not each time, as a system call can be over before that.
 */
static bool owes_interrupts(struct depriv_cpu *c, uint64_t flags_before)
{
    if (flags_before & ~c->s.rflags & CPU_IF)
        c->closed++;
    return c->closed >= CLOSED_MAX && c->s.rflags & CPU_IF && !c->s.inhibited;
}

/* As many steps as an exit costs: where KVM has hardware for it, that is little. */
static unsigned steps_of_exit(const struct depriv_cpu *c)
{
    uint64_t steps = c->exit_ticks / AHEAD_TICKS;

    if (steps < AHEAD_LEAST)
        return AHEAD_LEAST;
    return steps < AHEAD_MOST ? (unsigned)steps : AHEAD_MOST;
}

/* Has it paid to go on from here so far? Places that did not are tried again now and then. */
static bool worth_it(struct depriv_cpu *c, const int8_t *place)
{
    return *place > AHEAD_BAD || ++c->ahead_skipped % AHEAD_RETRY == 0;
}

void depriv_run_ahead(struct depriv_cpu *c)
{
    int8_t *place = place_of(c);
    bool go_on = worth_it(c, place);
    unsigned since = 0, most = steps_of_exit(c);

    finish(c);
    for (unsigned n = 0; go_on && n < AHEAD_LIMIT && since < most && may_go_on(c); n++) {
        uint64_t before = c->stat.interpreted, flags = c->s.rflags;

        if (kicked(c) || step(c) == INTERP_UNKNOWN || owes_interrupts(c, flags))
            break;
        if (c->stat.interpreted != before) {
            since++;
            continue;
        }
        /* A system instruction, or a fault: an exit saved. */
        since = 0;
        if (*place < AHEAD_GOOD)
            ++*place;
        place = place_of(c);
        go_on = worth_it(c, place);
    }
    finish(c);
    if (since >= most && *place > AHEAD_BAD)
        --*place;
}

void depriv_remember(struct depriv_cpu *c, uint64_t address, const struct pt_access *access)
{
    c->retry = (struct retry){ .pending = true,
                               .rip = c->s.rip,
                               .cr3 = c->s.cr3,
                               .cpl = c->s.cpl,
                               .fs_base = c->s.seg[CPU_FS].base,
                               .gs_base = c->s.seg[CPU_GS].base,
                               .address = address,
                               .access = *access };
    memcpy(c->retry.gpr, c->s.gpr, sizeof(c->retry.gpr));
}

/*
 * The same instruction with the same registers: it makes the same access, so the accessed and dirty
 * bits that this sets are those that it would set. What is still refused comes as a fault again.
 */
void depriv_retry(struct depriv_cpu *c)
{
    struct retry *r = &c->retry;
    struct pt_walk walk;

    if (!r->pending || r->rip != c->s.rip || r->cr3 != c->s.cr3 || r->cpl != c->s.cpl ||
        r->fs_base != c->s.seg[CPU_FS].base || r->gs_base != c->s.seg[CPU_GS].base ||
        memcmp(r->gpr, c->s.gpr, sizeof(r->gpr)) != 0)
        return;
    r->pending = false;
    (void)shadow_fault(c->d->shadow, c->cpu->id, &c->mode, gva(r->address), &r->access, &walk);
}

/* Lets a pending interrupt in, as nobody else does while KVM is not entered. */
static void poll_interrupts(struct depriv_cpu *c)
{
    uint64_t rax = 0;
    int vector;

    if (!(c->s.rflags & CPU_IF) || c->s.inhibited)
        return;
    /*
     * The proxy that does nothing: an interrupt comes before its OUT. An exception of its code is
     * not the guest's: when a device of the machine interrupts, QEMU's SVM gives a page fault at
     * address 0 now and then.
     */
    vector = depriv_run_proxy(c, PROXY_NOTHING, &rax, 0, 0, true);
    if (vector >= 0)
        depriv_accept(c, (unsigned)vector);
    depriv_deliver_accepted(c);
}

void depriv_interpret(struct depriv_cpu *c)
{
    bool on = c->s.rflags & CPU_IF;

    poll_interrupts(c);
    for (unsigned n = 0; n < BATCH && !kicked(c) && !c->failed && !c->s.halted; n++) {
        if (step(c) == INTERP_UNKNOWN) {
            cant_interpret(c);
            return;
        }
        if (runs_natively(&c->s))
            return;
        if (n % POLL == POLL - 1 || (!on && c->s.rflags & CPU_IF))
            poll_interrupts(c);
        on = c->s.rflags & CPU_IF;
    }
}
