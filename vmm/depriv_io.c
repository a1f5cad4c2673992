/*
 * IN, OUT, INS and OUTS: to our devices directly, to those that KVM has by the real CPU.
 */
#include "vmm/depriv_impl.h"

#define TSS_IO_MAP 0x66
#define IO_ROUNDS  1024 /* of a REP, before others get a turn */

/*
 * The real CPU makes the access, in ring 0. No interrupt can come but one that KVM had begun to
 * deliver, or an NMI: they wait for the end of the guest's instruction, and the access is made once
 * more, which it was not yet.
 */
int depriv_proxy(struct depriv_cpu *c, unsigned code, uint64_t *value, uint64_t rdi, uint16_t port)
{
    int rc = depriv_run_proxy(c, code, value, rdi, port, false);

    while (rc == CPU_NMI || rc >= 32) {
        depriv_accept(c, (unsigned)rc);
        rc = depriv_run_proxy(c, code, value, rdi, port, false);
    }
    return rc;
}

/* What KVM itself has when there is an interrupt controller in the kernel. */
static bool kvm_port(uint16_t port)
{
    return (port & ~1) == 0x20 || (port & ~1) == 0xa0 || (port & ~1) == 0x4d0 ||
           (port & ~3) == 0x40 || port == 0x61;
}

static void port_access(struct depriv_cpu *c, uint16_t port, unsigned size, uint64_t *value,
                        bool write)
{
    struct bus *bus = c->d->vm->bus;
    struct exit_record rec = { .tsc = vm_tsc(),
                               .reason = KVM_EXIT_IO,
                               .addr = port,
                               .value = *value,
                               .size = (uint8_t)size,
                               .count = 1,
                               .write = write };

    if (kvm_port(port)) {
        (void)depriv_proxy(c, (write ? PROXY_OUT : PROXY_IN) + (unsigned)__builtin_ctz(size), value,
                           0, port);
        return;
    }
    if (write)
        rec.claimed = bus_write(bus, BUS_PIO, port, size, *value);
    else
        rec.claimed = bus_read(bus, BUS_PIO, port, size, value);
    rec.value = *value;
    vcpu_note_exit(c->cpu, &rec);
}

/* Intel SDM vol. 1, 19.5 "I/O Protection": IOPL, else the map behind the TSS. */
static int may_access(struct depriv_cpu *c, uint16_t port, unsigned size, struct cpu_fault *fault)
{
    struct cpu_state *s = &c->s;
    uint16_t map = 0, bits = 0;
    struct cpu_fault ignored;

    if (cpu_real_mode(s) || s->cpl <= (s->rflags & CPU_IOPL) >> 12)
        return 0;
    if (s->tr.limit < TSS_IO_MAP + 1 ||
        interp_load(c->in, s->tr.base + TSS_IO_MAP, &map, 2, false, true, &ignored) < 0)
        return cpu_raise_gp(fault, 0);
    if ((uint64_t)map + port / 8 + 1 > s->tr.limit)
        return cpu_raise_gp(fault, 0);
    if (interp_load(c->in, s->tr.base + map + port / 8, &bits, 2, false, true, fault) < 0)
        return -1;
    return bits >> port % 8 & ((1u << size) - 1) ? cpu_raise_gp(fault, 0) : 0;
}

static uint64_t address_mask(const struct interp_insn *insn)
{
    return insn->z->address_width == 64 ? UINT64_MAX : (UINT64_C(1) << insn->z->address_width) - 1;
}

static void advance(uint64_t *reg, uint64_t by, uint64_t mask)
{
    uint64_t value = (*reg + by) & mask;

    *reg = mask == 0xffff ? (*reg & ~mask) | value : value;
}

/* One element of INS or OUTS; the memory operand is the first or the second one. */
static int string_round(struct depriv_cpu *c, const struct interp_insn *insn, bool in,
                        unsigned size, struct cpu_fault *fault)
{
    struct cpu_state *s = &c->s;
    uint16_t port = (uint16_t)s->gpr[CPU_RDX];
    uint64_t linear, value = 0, mask = address_mask(insn);
    uint64_t by = s->rflags & CPU_DF ? -(uint64_t)size : size;
    bool user = s->cpl == 3;

    if (interp_operand_linear(c->in, insn, in ? 0 : 1, &linear, fault) < 0)
        return -1;
    if (in) {
        /* The page first: what a port gave can't be given back. */
        if (interp_load(c->in, linear, &value, size, user, false, fault) < 0 ||
            interp_store(c->in, linear, &value, size, user, false, fault) < 0)
            return -1;
        port_access(c, port, size, &value, false);
        (void)interp_store(c->in, linear, &value, size, user, false, fault);
    } else {
        if (interp_load(c->in, linear, &value, size, user, false, fault) < 0)
            return -1;
        port_access(c, port, size, &value, true);
    }
    advance(&s->gpr[in ? CPU_RDI : CPU_RSI], by, mask);
    return 0;
}

static enum interp_result string_io(struct depriv_cpu *c, const struct interp_insn *insn, bool in,
                                    unsigned size, struct cpu_fault *fault)
{
    struct cpu_state *s = &c->s;
    uint64_t mask = address_mask(insn);
    bool rep = insn->z->attributes &
               (ZYDIS_ATTRIB_HAS_REP | ZYDIS_ATTRIB_HAS_REPNE | ZYDIS_ATTRIB_HAS_REPE);

    if (may_access(c, (uint16_t)s->gpr[CPU_RDX], size, fault) < 0)
        return INTERP_FAULT;
    for (unsigned n = 0; !rep || (s->gpr[CPU_RCX] & mask) != 0; n++) {
        if (n == IO_ROUNDS)
            return INTERP_OK; /* RIP stays: the rest follows */
        if (string_round(c, insn, in, size, fault) < 0)
            return INTERP_FAULT;
        if (!rep)
            break;
        advance(&s->gpr[CPU_RCX], UINT64_MAX, mask);
    }
    interp_skip(c->in, insn);
    return INTERP_OK;
}

enum interp_result depriv_io(struct depriv_cpu *c, const struct interp_insn *insn,
                             struct cpu_fault *fault)
{
    uint64_t port, value = 0;
    unsigned size;
    bool in = false;

    switch (insn->z->mnemonic) {
    case ZYDIS_MNEMONIC_INSB:
    case ZYDIS_MNEMONIC_INSW:
    case ZYDIS_MNEMONIC_INSD:
        return string_io(c, insn, true, insn->operand[0].size / 8, fault);
    case ZYDIS_MNEMONIC_OUTSB:
    case ZYDIS_MNEMONIC_OUTSW:
    case ZYDIS_MNEMONIC_OUTSD:
        return string_io(c, insn, false, insn->operand[1].size / 8, fault);
    case ZYDIS_MNEMONIC_IN:
        in = true;
        break;
    case ZYDIS_MNEMONIC_OUT:
        break;
    default:
        return INTERP_SYSTEM;
    }
    if (insn->operand[in ? 1 : 0].type == ZYDIS_OPERAND_TYPE_IMMEDIATE)
        port = insn->operand[in ? 1 : 0].imm.value.u & 0xff;
    else
        port = c->s.gpr[CPU_RDX] & 0xffff;
    size = insn->operand[in ? 0 : 1].size / 8;
    if (may_access(c, (uint16_t)port, size, fault) < 0)
        return INTERP_FAULT;
    if (!in && interp_operand_read(c->in, insn, 1, &value, fault) < 0)
        return INTERP_FAULT;
    interp_skip(c->in, insn); /* first: the exit port ends the VM here */
    port_access(c, (uint16_t)port, size, &value, !in);
    if (in)
        (void)interp_operand_write(c->in, insn, 0, value, fault);
    return INTERP_OK;
}
