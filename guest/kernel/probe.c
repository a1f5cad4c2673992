#include "guest/kernel/probe.h"

#include "guest/kernel/cpu.h"

#define RFLAGS_FIXED 0x2u

extern const char probe_resume[];
uint64_t probe_go(uint64_t gva, uint64_t rip, uint64_t rflags, bool user);

_Static_assert(offsetof(struct cpu, probe_rsp) == 32, "access_probe.S");

/* What the exception of each CPU's probe was. */
static struct probe_result caught[MAX_CPUS];

/* Notes an exception while a CPU probes, and goes on behind the access. */
bool probe_hook(struct trap_frame *f)
{
    struct cpu *c = this_cpu();
    struct probe_result *r = &caught[c->id];
    bool user = trap_from_user(f);

    if (!c->probe_rsp)
        return false;
    r->vector = f->vector;
    r->error = f->error;
    r->cr2 = f->vector == TRAP_PF ? f->cr2 : 0;
    if (user && f->vector == TRAP_GP && f->error == 0)
        r->vector = PROBE_NO_FAULT; /* the HLT after the access */
    f->rip = (uint64_t)probe_resume;
    f->cs = SEL_KERNEL_CODE;
    f->rflags = RFLAGS_FIXED;
    f->rsp = c->probe_rsp;
    f->ss = user ? 0 : f->ss;
    return true;
}

void probe(uint64_t gva, uint64_t rip, uint64_t rflags, bool user, struct probe_result *out)
{
    struct probe_result *r = &caught[this_cpu()->id];
    uint64_t value;

    *r = (struct probe_result){ .vector = PROBE_NO_FAULT };
    value = probe_go(gva, rip, rflags, user);
    *out = *r;
    out->value = value;
}
