/*
 * The registers of descriptor tables, LDT and TSS (LGDT and its likes), and the instructions that
 * only ask about a selector (LAR and its likes).
 */
#include <string.h>

#include "vmm/cpu_event_impl.h"

static int ring_0_only(const struct cpu_state *s, struct cpu_fault *f)
{
    return s->cpl == 0 ? 0 : cpu_raise_gp(f, 0);
}

/* Intel SDM vol. 3A, 2.5 "Control Registers", CR4.UMIP. */
static int check_umip(const struct cpu_state *s, struct cpu_fault *f)
{
    return s->cpl > 0 && (s->cr4 & CPU_CR4_UMIP) ? cpu_raise_gp(f, 0) : 0;
}

static int load_table(struct interp *in, const struct interp_insn *insn, struct kvm_dtable *table,
                      struct cpu_fault *f)
{
    const struct cpu_state *s = interp_state(in);
    unsigned base_size = cpu_code_bits(s) == 64 ? 8 : 4;
    uint64_t linear, base = 0;
    uint8_t buf[10];

    if (ring_0_only(s, f) || interp_operand_linear(in, insn, 0, &linear, f) ||
        interp_load(in, linear, buf, 2 + base_size, false, false, f))
        return -1;
    memcpy(&base, buf + 2, base_size);
    if (base_size == 4 && insn->z->operand_width == 16)
        base &= 0xffffff;
    if (!is_canonical(base))
        return cpu_raise_gp(f, 0);
    table->base = base;
    memcpy(&table->limit, buf, sizeof(table->limit));
    return 0;
}

static int store_table(struct interp *in, const struct interp_insn *insn,
                       const struct kvm_dtable *table, struct cpu_fault *f)
{
    const struct cpu_state *s = interp_state(in);
    unsigned base_size = cpu_code_bits(s) == 64 ? 8 : 4;
    uint64_t linear, base = table->base;
    uint8_t buf[10];

    memcpy(buf, &table->limit, sizeof(table->limit));
    memcpy(buf + 2, &base, sizeof(base));
    if (check_umip(s, f) || interp_operand_linear(in, insn, 0, &linear, f))
        return -1;
    return interp_store(in, linear, buf, 2 + base_size, s->cpl == 3, false, f);
}

static int store_selector(struct interp *in, const struct interp_insn *insn, uint16_t selector,
                          struct cpu_fault *f)
{
    const struct cpu_state *s = interp_state(in);

    if (cpu_real_mode(s))
        return cpu_raise_ud(f);
    return check_umip(s, f) ? -1 : interp_operand_write(in, insn, 0, selector, f);
}

static bool is_free_tss(const struct cpu_state *s, const struct cpu_descriptor *d)
{
    return desc_type(d) == SYS_TSS32 || (desc_type(d) == SYS_TSS16 && !cpu_long_mode(s));
}

/*
 * A system segment out of the GDT. 16 bytes in long mode; their upper half has a type field too,
 * which has to be 0 (Intel SDM vol. 3A, 7.2.3 "TSS Descriptor in 64-bit mode").
 */
static int system_segment(struct interp *in, uint16_t selector, bool tss, struct kvm_segment *seg,
                          struct cpu_fault *f)
{
    const struct cpu_state *s = interp_state(in);
    uint32_t error = selector & SELECTOR_INDEX;
    struct cpu_descriptor d;

    if (selector & SELECTOR_TI)
        return cpu_raise_gp(f, error);
    if (cpu_descriptor(in, selector, CPU_GP, &d, f) || cpu_descriptor_high(in, selector, &d, f))
        return -1;
    if (desc_is_segment(&d) || !(tss ? is_free_tss(s, &d) : desc_type(&d) == SYS_LDT) ||
        (d.high >> 40 & 31))
        return cpu_raise_gp(f, error);
    if (!desc_present(&d))
        return cpu_raise(f, CPU_NP, true, error);
    if (!is_canonical(cpu_segment_of(&d, selector).base))
        return cpu_raise_gp(f, error);
    if (tss && cpu_descriptor_set_type(in, &d, desc_type(&d) | SYS_BUSY, f))
        return -1;
    *seg = cpu_segment_of(&d, selector);
    return 0;
}

static int load_system_segment(struct interp *in, const struct interp_insn *insn, bool tss,
                               struct cpu_fault *f)
{
    struct cpu_state *s = interp_state(in);
    uint64_t value;
    uint16_t selector;

    if (cpu_real_mode(s))
        return cpu_raise_ud(f);
    if (ring_0_only(s, f) || interp_operand_read(in, insn, 0, &value, f))
        return -1;
    selector = (uint16_t)value;
    if (!selector_is_null(selector))
        return system_segment(in, selector, tss, tss ? &s->tr : &s->ldt, f);
    if (tss)
        return cpu_raise_gp(f, 0);
    s->ldt = cpu_segment_null(selector);
    return 0;
}

enum interp_result cpu_system_table(struct interp *in, const struct interp_insn *insn,
                                    struct cpu_fault *f)
{
    struct cpu_state *s = interp_state(in);
    int result;

    switch (insn->z->mnemonic) {
    case ZYDIS_MNEMONIC_LGDT:
        result = load_table(in, insn, &s->gdt, f);
        break;
    case ZYDIS_MNEMONIC_LIDT:
        result = load_table(in, insn, &s->idt, f);
        break;
    case ZYDIS_MNEMONIC_SGDT:
        result = store_table(in, insn, &s->gdt, f);
        break;
    case ZYDIS_MNEMONIC_SIDT:
        result = store_table(in, insn, &s->idt, f);
        break;
    case ZYDIS_MNEMONIC_LLDT:
        result = load_system_segment(in, insn, false, f);
        break;
    case ZYDIS_MNEMONIC_LTR:
        result = load_system_segment(in, insn, true, f);
        break;
    case ZYDIS_MNEMONIC_SLDT:
        result = store_selector(in, insn, s->ldt.selector, f);
        break;
    case ZYDIS_MNEMONIC_STR:
        result = store_selector(in, insn, s->tr.selector, f);
        break;
    default:
        return INTERP_SYSTEM;
    }
    if (result)
        return INTERP_FAULT;
    interp_skip(in, insn);
    return INTERP_OK;
}

/* System descriptors that LAR and LSL answer for: a bit a type (Intel SDM vol. 2, "LAR", "LSL"). */
static bool has_answer(const struct cpu_state *s, unsigned type, bool lar)
{
    unsigned known = cpu_long_mode(s) ? 0x0a04 : 0x0a0e;

    if (lar)
        known |= cpu_long_mode(s) ? 0x1000 : 0x1030;
    return known >> type & 1;
}

/* The descriptor that LAR and its likes ask about. 0: *visible says whether it is theirs to see. */
static int probe(struct interp *in, uint16_t selector, struct cpu_descriptor *d, bool *visible,
                 struct cpu_fault *f)
{
    unsigned rpl = selector & SELECTOR_RPL, cpl = interp_state(in)->cpl;

    *visible = false;
    if (selector_is_null(selector))
        return 0;
    if (cpu_descriptor(in, selector, CPU_GP, d, f))
        return f->vector == CPU_GP ? 0 : -1; /* beyond the table is an answer, a #PF is none */
    *visible = desc_is_conforming(d) || (desc_dpl(d) >= rpl && desc_dpl(d) >= cpl);
    return 0;
}

static bool may_access(const struct cpu_descriptor *d, bool write)
{
    unsigned type = desc_type(d);

    if (!desc_is_segment(d))
        return false;
    if (write)
        return desc_is_writable_data(d);
    return !(type & TYPE_CODE) || (type & TYPE_WRITABLE);
}

enum interp_result cpu_selector_probe(struct interp *in, const struct interp_insn *insn,
                                      struct cpu_fault *f)
{
    struct cpu_state *s = interp_state(in);
    ZydisMnemonic m = insn->z->mnemonic;
    bool verify = m == ZYDIS_MNEMONIC_VERR || m == ZYDIS_MNEMONIC_VERW;
    struct cpu_descriptor d = { 0 };
    uint64_t selector, answer;
    bool visible;

    if (cpu_real_mode(s)) {
        cpu_raise_ud(f);
        return INTERP_FAULT;
    }
    if (interp_operand_read(in, insn, verify ? 0 : 1, &selector, f) ||
        probe(in, (uint16_t)selector, &d, &visible, f))
        return INTERP_FAULT;
    if (verify)
        visible = visible && may_access(&d, m == ZYDIS_MNEMONIC_VERW);
    else if (!desc_is_segment(&d))
        visible = visible && has_answer(s, desc_type(&d), m == ZYDIS_MNEMONIC_LAR);
    if (visible && !verify) {
        answer = m == ZYDIS_MNEMONIC_LAR ? (d.low >> 32 & 0xf0ff00) : cpu_segment_of(&d, 0).limit;
        if (interp_operand_write(in, insn, 0, answer, f))
            return INTERP_FAULT;
    }
    s->rflags = (s->rflags & ~CPU_ZF) | (visible ? CPU_ZF : 0);
    interp_skip(in, insn);
    return INTERP_OK;
}
