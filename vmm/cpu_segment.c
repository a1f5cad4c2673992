/* Descriptors, and what a segment register becomes by them. */
#include "vmm/cpu_event_impl.h"

static uint64_t table_address(const struct cpu_state *s, uint64_t base, uint64_t offset)
{
    return cpu_long_mode(s) ? base + offset : (uint32_t)(base + offset);
}

/* The linear address of `len` bytes of a selector's descriptor. false: beyond the table. */
static bool find(const struct cpu_state *s, uint16_t selector, unsigned len, uint64_t *at)
{
    uint64_t index = selector & ~7u;
    bool local = selector & SELECTOR_TI;
    uint64_t base = local ? s->ldt.base : s->gdt.base;
    uint64_t limit = local ? s->ldt.limit : s->gdt.limit;

    if ((local && (s->ldt.unusable || !s->ldt.present)) || index + len - 1 > limit)
        return false;
    *at = table_address(s, base, index);
    return true;
}

int cpu_descriptor(struct interp *in, uint16_t selector, uint8_t vector, struct cpu_descriptor *d,
                   struct cpu_fault *f)
{
    *d = (struct cpu_descriptor){ 0 };
    if (!find(interp_state(in), selector, 8, &d->at))
        return cpu_raise(f, vector, true, selector & SELECTOR_INDEX);
    return interp_load(in, d->at, &d->low, 8, false, true, f);
}

int cpu_descriptor_high(struct interp *in, uint16_t selector, struct cpu_descriptor *d,
                        struct cpu_fault *f)
{
    uint64_t at;

    if (!cpu_long_mode(interp_state(in)))
        return 0;
    if (!find(interp_state(in), selector, 16, &at))
        return cpu_raise_gp(f, selector & SELECTOR_INDEX);
    return interp_load(in, at + 8, &d->high, 8, false, true, f);
}

int cpu_descriptor_set_type(struct interp *in, struct cpu_descriptor *d, unsigned type,
                            struct cpu_fault *f)
{
    uint8_t byte;

    if (desc_type(d) == type)
        return 0;
    d->low = (d->low & ~(UINT64_C(15) << 40)) | (uint64_t)type << 40;
    byte = (uint8_t)(d->low >> 40);
    return interp_store(in, d->at + 5, &byte, 1, false, true, f);
}

struct kvm_segment cpu_segment_of(const struct cpu_descriptor *d, uint16_t selector)
{
    uint32_t limit = desc_bits(d, 0, 16) | desc_bits(d, 48, 4) << 16;
    bool granular = desc_bits(d, 55, 1);

    return (struct kvm_segment){
        .base = desc_bits(d, 16, 24) | (uint64_t)desc_bits(d, 56, 8) << 24 | d->high << 32,
        .limit = granular ? limit << 12 | 0xfff : limit,
        .selector = selector,
        .type = (uint8_t)desc_type(d),
        .present = desc_present(d),
        .dpl = (uint8_t)desc_dpl(d),
        .db = (uint8_t)desc_bits(d, 54, 1),
        .s = desc_is_segment(d),
        .l = (uint8_t)desc_bits(d, 53, 1),
        .g = granular,
        .avl = (uint8_t)desc_bits(d, 52, 1),
    };
}

struct kvm_segment cpu_segment_null(uint16_t selector)
{
    /* The DPL matters in SS only, where RPL, DPL and CPL are one. */
    return (struct kvm_segment){
        .selector = selector,
        .dpl = selector & SELECTOR_RPL,
        .unusable = 1,
    };
}

void cpu_segment_real(struct kvm_segment *seg, uint16_t selector)
{
    if (seg->unusable)
        *seg = (struct kvm_segment){ .limit = 0xffff, .type = TYPE_WRITABLE | TYPE_ACCESSED };
    seg->selector = selector;
    seg->base = (uint64_t)selector << 4;
    seg->present = 1;
    seg->s = 1;
    seg->dpl = 0;
}

struct kvm_segment cpu_segment_flat(uint16_t selector, bool code, bool l)
{
    return (struct kvm_segment){
        .limit = UINT32_MAX,
        .selector = selector,
        .type = TYPE_WRITABLE | TYPE_ACCESSED | (code ? TYPE_CODE : 0),
        .present = 1,
        .dpl = selector & SELECTOR_RPL,
        .db = !l,
        .s = 1,
        .l = l,
        .g = 1,
    };
}

int cpu_check_code(const struct cpu_state *s, const struct cpu_descriptor *d, uint16_t selector,
                   struct cpu_fault *f)
{
    bool both = desc_bits(d, 53, 2) == 3;

    if (!desc_is_code(d) || (cpu_long_mode(s) && both))
        return cpu_raise_gp(f, selector & SELECTOR_INDEX);
    return 0;
}

int cpu_code_segment(struct interp *in, struct cpu_descriptor *d, uint16_t selector, unsigned cpl,
                     struct kvm_segment *cs, struct cpu_fault *f)
{
    if (cpu_descriptor_set_type(in, d, desc_type(d) | TYPE_ACCESSED, f))
        return -1;
    *cs = cpu_segment_of(d, (uint16_t)((selector & SELECTOR_INDEX) | cpl));
    return 0;
}

int cpu_check_rip(const struct cpu_state *s, const struct kvm_segment *cs, uint64_t rip,
                  struct cpu_fault *f)
{
    bool good = cpu_long_mode(s) && cs->l ? is_canonical(rip) : rip <= cs->limit;

    return good ? 0 : cpu_raise_gp(f, 0);
}

int cpu_stack_segment(struct interp *in, uint16_t selector, unsigned cpl, uint8_t vector,
                      struct kvm_segment *ss, struct cpu_fault *f)
{
    uint32_t error = selector & SELECTOR_INDEX;
    struct cpu_descriptor d;

    if (cpu_descriptor(in, selector, vector, &d, f))
        return -1;
    if ((selector & SELECTOR_RPL) != cpl || !desc_is_writable_data(&d) || desc_dpl(&d) != cpl)
        return cpu_raise(f, vector, true, error);
    if (!desc_present(&d))
        return cpu_raise(f, CPU_SS_FAULT, true, error);
    if (cpu_descriptor_set_type(in, &d, desc_type(&d) | TYPE_ACCESSED, f))
        return -1;
    *ss = cpu_segment_of(&d, selector);
    return 0;
}

static int load_ss(struct interp *in, uint16_t selector, struct cpu_fault *f)
{
    struct cpu_state *s = interp_state(in);
    bool null_allowed = cpu_code_bits(s) == 64 && s->cpl < 3 && (selector & SELECTOR_RPL) == s->cpl;

    if (!selector_is_null(selector))
        return cpu_stack_segment(in, selector, s->cpl, CPU_GP, &s->seg[CPU_SS], f);
    if (!null_allowed)
        return cpu_raise_gp(f, 0);
    s->seg[CPU_SS] = cpu_segment_null(selector);
    return 0;
}

/* Intel SDM vol. 2, "MOV-Move". */
static int load_data(struct interp *in, enum cpu_seg which, uint16_t selector, struct cpu_fault *f)
{
    struct cpu_state *s = interp_state(in);
    uint32_t error = selector & SELECTOR_INDEX;
    struct cpu_descriptor d;
    unsigned type;

    if (selector_is_null(selector)) {
        s->seg[which] = cpu_segment_null(selector);
        return 0;
    }
    if (cpu_descriptor(in, selector, CPU_GP, &d, f))
        return -1;
    type = desc_type(&d);
    if (!desc_is_segment(&d) || (type & (TYPE_CODE | TYPE_WRITABLE)) == TYPE_CODE)
        return cpu_raise_gp(f, error);
    if (!desc_is_conforming(&d) &&
        (desc_dpl(&d) < (selector & SELECTOR_RPL) || desc_dpl(&d) < s->cpl))
        return cpu_raise_gp(f, error);
    if (!desc_present(&d))
        return cpu_raise(f, CPU_NP, true, error);
    if (cpu_descriptor_set_type(in, &d, type | TYPE_ACCESSED, f))
        return -1;
    s->seg[which] = cpu_segment_of(&d, selector);
    return 0;
}

int cpu_load_segment(struct interp *in, enum cpu_seg which, uint16_t selector, struct cpu_fault *f)
{
    struct cpu_state *s = interp_state(in);

    if (cpu_real_mode(s)) {
        cpu_segment_real(&s->seg[which], selector);
        return 0;
    }
    return which == CPU_SS ? load_ss(in, selector, f) : load_data(in, which, selector, f);
}
