/*
 * Noise as a guest for the interpreter: code, descriptors, stacks and registers. Instructions are
 * carried out, their faults and interrupts delivered. Nothing outside of the guest's pages may be
 * touched (each is an allocation of its own), no step may go on for ever, and whoever says that
 * nothing has changed must be right.
 *
 *	head | address (2 bytes), length (1), bytes | ... memory is 0 elsewhere
 */
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/cpu_event.h"

#define PAGES  8u
#define STEPS  48
#define ROUNDS 16

enum kind {
    NORMAL,
    READ_ONLY,
    SUPERVISOR,
    ABSENT,
    DEVICE,
};

struct head {
    uint8_t mode, ring3, kind[PAGES], interrupts, spare[5];
    uint64_t gpr[CPU_GPRS];
    uint64_t rip, rflags, gdt_base, idt_base, tr_base, fs_base, lstar;
    uint32_t gdt_limit, idt_limit, tr_limit, cs_limit, data_limit, cr0, cr4, cs_base;
};

struct guest {
    struct cpu_state s;
    struct interp *in;
    uint8_t *page[PAGES];
    uint8_t kind[PAGES];
};

static void require(int condition, const char *what)
{
    if (condition)
        return;
    fprintf(stderr, "fuzz_interp: %s\n", what);
    abort();
}

/* The pages appear again and again in all of the address space, so that most addresses are one. */
static enum interp_place translate(void *ctx, uint64_t linear, unsigned len,
                                   const struct interp_access *access, void **host, gpa_t *at,
                                   struct cpu_fault *fault)
{
    struct guest *g = ctx;
    unsigned n = (unsigned)(linear >> 12) % PAGES, kind = g->kind[n] % 8;
    bool user = access->user && !access->implicit;

    require(len > 0 && (linear & 4095) + len <= 4096, "an access that is not of one page");
    if (kind == DEVICE) {
        *at = gpa(linear);
        return INTERP_DEVICE;
    }
    if (kind == ABSENT || (kind == READ_ONLY && access->op == PT_WRITE) ||
        (kind == SUPERVISOR && user)) {
        (void)cpu_raise(fault, CPU_PAGE, true,
                        (kind != ABSENT) | (access->op == PT_WRITE ? 2u : 0) | (user ? 4u : 0));
        fault->address = linear;
        return INTERP_REFUSED;
    }
    *host = g->page[n] + (linear & 4095);
    return INTERP_RAM;
}

static void mmio(void *ctx, gpa_t at, void *buf, unsigned len, bool write)
{
    (void)ctx, (void)at;
    require(len == 1 || len == 2 || len == 4 || len == 8, "an access to a device of another size");
    if (!write)
        memset(buf, 0xa5, len);
}

static const struct interp_ops ops = { translate, mmio };

/* --- the guest ------------------------------------------------------------------------------- */

static struct kvm_segment segment(uint16_t selector, uint8_t type, uint32_t limit, uint64_t base)
{
    return (struct kvm_segment){ .selector = selector,
                                 .type = type,
                                 .limit = limit,
                                 .base = base,
                                 .present = 1,
                                 .s = 1,
                                 .dpl = selector & 3 };
}

/* 0 real mode, 1 and 2 protected with 16 and 32 bits, 3 and 4 the same in long mode, else 64. */
static void set_mode(struct cpu_state *s, const struct head *h)
{
    unsigned mode = h->mode % 8, ring = mode != 0 && h->ring3 % 2 ? 3 : 0;
    bool wide = mode == 2 || mode == 4;

    s->cpl = ring;
    s->seg[CPU_CS] = segment((uint16_t)(8 | ring), 11, h->cs_limit, mode > 4 ? 0 : h->cs_base);
    s->seg[CPU_CS].db = wide;
    s->seg[CPU_CS].l = mode > 4;
    for (unsigned i = 0; i < CPU_SEGS; i++) {
        if (i == CPU_CS)
            continue;
        s->seg[i] = segment((uint16_t)(16 | ring), h->spare[0] % 2 ? 7 : 3, h->data_limit, 0);
        s->seg[i].db = wide || mode > 4;
    }
    s->seg[CPU_FS].base = h->fs_base;
    s->cr0 = mode == 0 ? 0 : CPU_CR0_PE | h->cr0;
    s->cr4 = h->cr4 & ~(uint32_t)X86_CR4_LA57;
    if (mode > 2) {
        s->efer = X86_EFER_LMA | CPU_EFER_LME | (h->spare[1] & CPU_EFER_SCE);
        s->cr0 |= X86_CR0_PG;
    }
}

static void make_state(struct cpu_state *s, const struct head *h)
{
    cpu_reset(s);
    memcpy(s->gpr, h->gpr, sizeof(s->gpr));
    set_mode(s, h);
    s->rip = h->mode % 8 > 4 ? h->rip : (uint32_t)h->rip;
    s->rflags = (h->rflags & UINT64_C(0x3f7fd7)) | 2;
    s->gdt = (struct kvm_dtable){ .base = h->gdt_base, .limit = (uint16_t)h->gdt_limit };
    s->idt = (struct kvm_dtable){ .base = h->idt_base, .limit = (uint16_t)h->idt_limit };
    s->tr = segment(0x30, 11, h->tr_limit, h->tr_base);
    s->tr.s = 0;
    s->ldt = segment(0x38, 2, h->tr_limit, h->gdt_base);
    s->ldt.s = 0;
    s->lstar = s->cstar = s->sysenter_eip = h->lstar;
    s->star = UINT64_C(0x0018000800000000);
    s->sysenter_cs = h->spare[2];
    s->sysenter_esp = h->gpr[CPU_RSP];
    s->sfmask = h->gdt_limit;
    s->kernel_gs_base = h->fs_base;
}

static void fill(struct guest *g, const uint8_t *data, size_t size)
{
    while (size > 3) {
        unsigned at = data[0] | (unsigned)data[1] << 8, n = data[2];

        data += 3;
        size -= 3;
        for (; n && size; n--, at++, data++, size--)
            g->page[at / 4096 % PAGES][at % 4096] = *data;
    }
}

/* --- steps ----------------------------------------------------------------------------------- */

static bool same(const struct cpu_state *a, const struct cpu_state *b)
{
    return memcmp(a, b, sizeof(*a)) == 0;
}

static bool deliver(struct guest *g, const struct cpu_fault *fault)
{
    struct cpu_state before = g->s;
    int rc = cpu_deliver(g->in, fault);

    before.cr2 = g->s.cr2; /* of a page fault, which a triple fault leaves */
    require(rc == 0 || rc == -1 || rc == -ENOTSUP, "a result that is none of cpu_deliver()'s");
    require(rc == 0 || same(&before, &g->s), "an event that was not delivered changed the state");
    return rc == 0;
}

static bool is_repeat(const struct interp_insn *insn)
{
    return insn->z && insn->z->attributes & (ZYDIS_ATTRIB_HAS_REP | ZYDIS_ATTRIB_HAS_REPE |
                                             ZYDIS_ATTRIB_HAS_REPNE | ZYDIS_ATTRIB_HAS_REPZ);
}

static void check_state(const struct cpu_state *s)
{
    require(s->cpl <= 3, "a ring that is none");
    require(cpu_code_bits(s) == 64 || s->rip >> 32 == 0, "RIP beyond 32 bits");
    require(s->rflags & 2, "RFLAGS without its fixed bit");
}

/* False: the guest is at its end. */
static bool step(struct guest *g)
{
    const struct cpu_state before = g->s;
    struct interp_insn insn;
    struct cpu_fault fault = { 0 };
    enum interp_result result = interp_step(g->in, ROUNDS, &insn, &fault);

    if (result != INTERP_OK && !is_repeat(&insn))
        require(same(&before, &g->s), "an instruction that was not carried out changed the state");
    if (result == INTERP_SYSTEM) {
        result = cpu_transfer(g->in, &insn, &fault);
        require(result == INTERP_OK || same(&before, &g->s),
                "a transfer that was not made changed the state");
        if (result == INTERP_SYSTEM || result == INTERP_UNKNOWN)
            interp_skip(g->in, &insn);
    } else if (result == INTERP_UNKNOWN) {
        if (!insn.z)
            return false;
        interp_skip(g->in, &insn);
    }
    g->s.inhibited = false;
    check_state(&g->s);
    return result != INTERP_FAULT || deliver(g, &fault);
}

static void run(struct guest *g, const struct head *h)
{
    for (unsigned n = 0; n < STEPS; n++) {
        if (!step(g))
            return;
        if (h->interrupts && n % 8 == h->interrupts % 8u &&
            cpu_deliver_interrupt(g->in, h->interrupts) < 0)
            return;
        check_state(&g->s);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct guest g; /* one, as an interpreter's cache is large, and must not be stale */
    struct head h;

    if (size < sizeof(h))
        return 0;
    memcpy(&h, data, sizeof(h));
    if (!g.in && interp_create(&g.in, &g.s, &ops, &g) < 0)
        return 0;
    memcpy(g.kind, h.kind, sizeof(g.kind));
    for (unsigned i = 0; i < PAGES; i++)
        g.page[i] = calloc(1, 4096);
    fill(&g, data + sizeof(h), size - sizeof(h));
    make_state(&g.s, &h);
    run(&g, &h);
    for (unsigned i = 0; i < PAGES; i++)
        free(g.page[i]);
    return 0;
}
