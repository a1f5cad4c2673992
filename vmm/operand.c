#include "vmm/operand.h"

#include <Zydis/Zydis.h>

#define CR0_PE    (1u << 0)
#define EFER_LMA  (1u << 10)
#define RFLAGS_VM (1u << 17)

struct decoded {
    const struct kvm_regs *regs;
    const struct kvm_sregs *sregs;
    bool mode64;
    ZydisDecodedInstruction is;
    ZydisDecodedOperand operand[ZYDIS_MAX_OPERAND_COUNT];
};

static ZydisMachineMode machine_mode(const struct decoded *d)
{
    bool compatibility = d->sregs->efer & EFER_LMA;

    if (d->mode64)
        return ZYDIS_MACHINE_MODE_LONG_64;
    if (d->sregs->cs.db)
        return compatibility ? ZYDIS_MACHINE_MODE_LONG_COMPAT_32 : ZYDIS_MACHINE_MODE_LEGACY_32;
    if (compatibility)
        return ZYDIS_MACHINE_MODE_LONG_COMPAT_16;
    return d->sregs->cr0 & CR0_PE && !(d->regs->rflags & RFLAGS_VM) ? ZYDIS_MACHINE_MODE_LEGACY_16
                                                                    : ZYDIS_MACHINE_MODE_REAL_16;
}

static bool decode(struct decoded *d, const uint8_t *code, size_t len, const struct kvm_regs *regs,
                   const struct kvm_sregs *sregs)
{
    ZydisDecoder decoder;
    ZydisStackWidth stack;

    d->regs = regs;
    d->sregs = sregs;
    d->mode64 = sregs->efer & EFER_LMA && sregs->cs.l;
    stack = d->mode64 ? ZYDIS_STACK_WIDTH_64
                      : (sregs->ss.db ? ZYDIS_STACK_WIDTH_32 : ZYDIS_STACK_WIDTH_16);
    return ZYAN_SUCCESS(ZydisDecoderInit(&decoder, machine_mode(d), stack)) &&
           ZYAN_SUCCESS(ZydisDecoderDecodeFull(&decoder, code, len, &d->is, d->operand));
}

static uint64_t low_bits(uint64_t value, unsigned bits)
{
    return bits < 64 ? value & ((UINT64_C(1) << bits) - 1) : value;
}

/* A general register of 16 bits or more; RIP as it is behind the instruction. */
static uint64_t register_value(const struct decoded *d, ZydisRegister name)
{
    const struct kvm_regs *r = d->regs;
    const uint64_t all[] = { r->rax, r->rcx, r->rdx, r->rbx, r->rsp, r->rbp, r->rsi, r->rdi,
                             r->r8,  r->r9,  r->r10, r->r11, r->r12, r->r13, r->r14, r->r15 };
    uint64_t value;

    if (name == ZYDIS_REGISTER_NONE)
        return 0;
    if (name == ZYDIS_REGISTER_RIP || name == ZYDIS_REGISTER_EIP)
        value = r->rip + d->is.length;
    else
        value = all[(unsigned)ZydisRegisterGetId(name) & 15];
    return low_bits(value, ZydisRegisterGetWidth(ZYDIS_MACHINE_MODE_LONG_64, name));
}

static uint64_t segment_base(const struct decoded *d, ZydisRegister name)
{
    switch (name) {
    case ZYDIS_REGISTER_FS:
        return d->sregs->fs.base;
    case ZYDIS_REGISTER_GS:
        return d->sregs->gs.base;
    default:
        break;
    }
    if (d->mode64) /* the others have none */
        return 0;
    switch (name) {
    case ZYDIS_REGISTER_ES:
        return d->sregs->es.base;
    case ZYDIS_REGISTER_CS:
        return d->sregs->cs.base;
    case ZYDIS_REGISTER_SS:
        return d->sregs->ss.base;
    default:
        return d->sregs->ds.base;
    }
}

static bool is_written(const ZydisDecodedOperand *o)
{
    return o->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE;
}

static bool is_stack_pointer(ZydisRegister name)
{
    return name == ZYDIS_REGISTER_SP || name == ZYDIS_REGISTER_ESP || name == ZYDIS_REGISTER_RSP;
}

/* What the manual's pages of single instructions add to base, index and displacement. */
static uint64_t adjustment(const struct decoded *d, const ZydisDecodedOperand *o)
{
    bool hidden = o->visibility == ZYDIS_OPERAND_VISIBILITY_HIDDEN;
    const ZydisDecodedOperand *bit = &d->operand[1];
    uint64_t value;

    if (hidden && is_written(o) && is_stack_pointer(o->mem.base)) /* a push: below the pointer */
        return -(uint64_t)(o->size / 8);
    switch (d->is.mnemonic) {
    case ZYDIS_MNEMONIC_POP: /* [RSP] as a destination is computed after the pop */
        return !hidden && is_stack_pointer(o->mem.base) ? o->size / 8 : 0;
    case ZYDIS_MNEMONIC_XLAT:
        return d->regs->rax & 0xff;
    case ZYDIS_MNEMONIC_BT: /* a bit number in a register reaches beyond the operand */
    case ZYDIS_MNEMONIC_BTC:
    case ZYDIS_MNEMONIC_BTR:
    case ZYDIS_MNEMONIC_BTS:
        if (bit->type != ZYDIS_OPERAND_TYPE_REGISTER)
            return 0;
        value = register_value(d, bit->reg.value);
        if (o->size < 64) /* signed */
            value = (value ^ UINT64_C(1) << (o->size - 1)) - (UINT64_C(1) << (o->size - 1));
        return (uint64_t)((int64_t)value >> 3) & -(uint64_t)(o->size / 8);
    default:
        return 0;
    }
}

static struct operand resolve(const struct decoded *d, const ZydisDecodedOperand *o)
{
    bool stack =
        o->visibility == ZYDIS_OPERAND_VISIBILITY_HIDDEN && o->mem.segment == ZYDIS_REGISTER_SS;
    uint64_t offset = register_value(d, o->mem.base) +
                      register_value(d, o->mem.index) * o->mem.scale + (uint64_t)o->mem.disp.value +
                      adjustment(d, o);

    /* A prefix 67 does not touch how the stack is addressed. */
    offset = low_bits(offset, stack ? d->is.stack_width : d->is.address_width);
    offset += segment_base(d, o->mem.segment);
    return (struct operand){
        .linear = d->mode64 ? offset : (uint32_t)offset,
        .size = o->size >= 8 ? o->size / 8 : 1,
        .write = is_written(o),
    };
}

/* Nothing is loaded or stored: what is named there can't fault, or isn't looked at. */
static bool touches_nothing(const struct decoded *d)
{
    const uint64_t repeats = ZYDIS_ATTRIB_HAS_REP | ZYDIS_ATTRIB_HAS_REPE | ZYDIS_ATTRIB_HAS_REPNE;

    if (d->is.attributes & repeats && low_bits(d->regs->rcx, d->is.address_width) == 0)
        return true;
    return d->is.meta.category == ZYDIS_CATEGORY_WIDENOP ||
           d->is.meta.category == ZYDIS_CATEGORY_PREFETCH ||
           d->is.mnemonic == ZYDIS_MNEMONIC_INVLPG || d->is.mnemonic == ZYDIS_MNEMONIC_CLDEMOTE;
}

size_t operand_list(const uint8_t *code, size_t len, const struct kvm_regs *regs,
                    const struct kvm_sregs *sregs, struct operand out[OPERANDS_MAX],
                    unsigned *length)
{
    struct decoded d;
    size_t n = 0;

    *length = 0;
    if (!decode(&d, code, len, regs, sregs))
        return 0;
    *length = d.is.length;
    if (touches_nothing(&d))
        return 0;
    for (int write = 0; write < 2; write++)
        for (size_t i = 0; i < d.is.operand_count && n < OPERANDS_MAX; i++) {
            const ZydisDecodedOperand *o = &d.operand[i];

            if (o->type == ZYDIS_OPERAND_TYPE_MEMORY && o->mem.type == ZYDIS_MEMOP_TYPE_MEM &&
                is_written(o) == write)
                out[n++] = resolve(&d, o);
        }
    return n;
}

unsigned instruction_text(const uint8_t *code, size_t len, const struct kvm_regs *regs,
                          const struct kvm_sregs *sregs, char *text, size_t size)
{
    struct decoded d;
    ZydisFormatter formatter;

    if (size)
        text[0] = '\0';
    if (decode(&d, code, len, regs, sregs) &&
        ZYAN_SUCCESS(ZydisFormatterInit(&formatter, ZYDIS_FORMATTER_STYLE_INTEL)) &&
        ZYAN_SUCCESS(ZydisFormatterSetProperty(&formatter, ZYDIS_FORMATTER_PROP_HEX_UPPERCASE,
                                               ZYAN_FALSE)) &&
        ZYAN_SUCCESS(ZydisFormatterFormatInstruction(
            &formatter, &d.is, d.operand, d.is.operand_count_visible, text, size, regs->rip, NULL)))
        return d.is.length;
    return 0;
}
