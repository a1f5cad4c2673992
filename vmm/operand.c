#include "vmm/operand.h"

#define EFER_LMA (1u << 10)

struct decoder {
    const uint8_t *code;
    size_t len, pos;
    const struct kvm_regs *regs;
    const struct kvm_sregs *sregs;
    const struct kvm_segment *segment; /* of a prefix; NULL: the default */
    bool mode64;
    bool operand16,
        address32; /* prefixes 66, 67 (67 is 16-bit addressing outside of 64-bit mode) */
    bool repeat;   /* F3 */
    unsigned map;  /* 1: one byte; 2: 0F; 3: 0F 38; 4: 0F 3A */
    uint8_t rex, opcode, modrm;
    uint64_t end; /* of the displacement: where RIP-relative counts from, without the immediate */
};

static unsigned take(struct decoder *d)
{
    return d->pos < d->len ? d->code[d->pos++] : 0;
}

static int64_t take_signed(struct decoder *d, unsigned bytes)
{
    uint64_t value = 0;

    for (unsigned i = 0; i < bytes; i++)
        value |= (uint64_t)take(d) << 8 * i;
    if (bytes == 1)
        return (int8_t)value;
    return bytes == 4 ? (int32_t)value : (int64_t)value;
}

static uint64_t reg(const struct decoder *d, unsigned number)
{
    const struct kvm_regs *r = d->regs;
    const uint64_t all[] = { r->rax, r->rcx, r->rdx, r->rbx, r->rsp, r->rbp, r->rsi, r->rdi,
                             r->r8,  r->r9,  r->r10, r->r11, r->r12, r->r13, r->r14, r->r15 };

    return all[number & 15];
}

static const struct kvm_segment *segment_of(const struct decoder *d, unsigned prefix)
{
    switch (prefix) {
    case 0x26:
        return &d->sregs->es;
    case 0x2e:
        return &d->sregs->cs;
    case 0x36:
        return &d->sregs->ss;
    case 0x3e:
        return &d->sregs->ds;
    case 0x64:
        return &d->sregs->fs;
    default:
        return &d->sregs->gs;
    }
}

/* Legacy prefixes and REX. */
static unsigned prefixes(struct decoder *d)
{
    for (;;) {
        unsigned byte = take(d);

        switch (byte) {
        case 0x26:
        case 0x2e:
        case 0x36:
        case 0x3e:
        case 0x64:
        case 0x65:
            d->segment = segment_of(d, byte);
            break;
        case 0x66:
            d->operand16 = true;
            break;
        case 0x67:
            d->address32 = true;
            break;
        case 0xf3:
            d->repeat = true;
            break;
        case 0xf0:
        case 0xf2:
            break;
        default:
            if (!d->mode64 || (byte & 0xf0) != 0x40)
                return byte;
            d->rex = (uint8_t)byte;
            return take(d);
        }
        if (d->pos >= d->len)
            return 0;
    }
}

static void opcode(struct decoder *d)
{
    unsigned byte = prefixes(d);

    d->map = 1;
    if (byte == 0x0f) {
        byte = take(d);
        d->map = byte == 0x38 ? 3 : byte == 0x3a ? 4 : 2;
        if (d->map > 2)
            byte = take(d);
    } else if (d->mode64 && (byte == 0xc5 || byte == 0xc4)) { /* VEX: its bits are inverted */
        unsigned first = take(d), map = 1, pp = first & 3;

        d->rex = (uint8_t)(~first >> 5 & 4);
        if (byte == 0xc4) {
            map = first & 31;
            d->rex = (uint8_t)(~first >> 5 & 7);
            pp = take(d) & 3;
        }
        d->map = map + 1;
        d->repeat = pp == 2;
        byte = take(d);
    }
    d->opcode = (uint8_t)byte;
}

static uint64_t linear(const struct decoder *d, const struct kvm_segment *by_default,
                       uint64_t offset)
{
    const struct kvm_segment *s = d->segment ? d->segment : by_default;

    if (d->address32 || !d->mode64)
        offset = (uint32_t)offset;
    if (!d->mode64)
        return (uint32_t)(s->base + offset);
    return s == &d->sregs->fs || s == &d->sregs->gs ? s->base + offset : offset;
}

/* The address of a ModRM operand, "ModR/M and SIB Bytes"; false: it is a register. */
static bool modrm_address(struct decoder *d, uint64_t *at)
{
    const struct kvm_segment *segment = &d->sregs->ds;
    unsigned mod = d->modrm >> 6, base = d->modrm & 7, sib = 0;
    bool none = mod == 0 && base == 5, relative = none && d->mode64;
    uint64_t offset = 0;

    if (mod == 3)
        return false;
    if (base == 4) {
        unsigned index;

        sib = take(d);
        base = sib & 7;
        none = mod == 0 && base == 5;
        index = (sib >> 3 & 7) | (d->rex & 2 ? 8 : 0);
        if (index != 4)
            offset = reg(d, index) << (sib >> 6);
    }
    if (!none) {
        if (base == 4 || base == 5)
            segment = d->rex & 1 ? segment : &d->sregs->ss;
        offset += reg(d, base | (d->rex & 1 ? 8 : 0));
    }
    if (mod == 1)
        offset += (uint64_t)take_signed(d, 1);
    else if (mod == 2 || none)
        offset += (uint64_t)take_signed(d, 4);
    if (relative)
        offset += d->regs->rip + d->pos + d->end;
    *at = linear(d, segment, offset);
    return true;
}

/* Bytes of immediate behind a ModRM operand: RIP-relative addresses count from behind them. */
static unsigned immediate(const struct decoder *d)
{
    uint8_t op = d->opcode;
    unsigned full = d->operand16 ? 2 : 4, group = d->modrm >> 3 & 7;

    if (d->map == 4)
        return 1;
    if (d->map == 2)
        return (op >= 0x70 && op <= 0x73) || op == 0xa4 || op == 0xac || op == 0xba || op == 0xc2 ||
               (op >= 0xc4 && op <= 0xc6);
    if (d->map != 1)
        return 0;
    if (op == 0x81 || op == 0x69 || op == 0xc7 || (op == 0xf7 && group < 2))
        return full;
    return op == 0x80 || op == 0x83 || op == 0x6b || op == 0xc0 || op == 0xc1 || op == 0xc6 ||
           (op == 0xf6 && group < 2);
}

static bool writes_one_byte(uint8_t op, unsigned group)
{
    if (op < 0x40) /* ADD, OR ... XOR to memory; CMP (0x38) only reads */
        return (op & 7) < 2 && op < 0x38;
    if (op >= 0x80 && op <= 0x83)
        return group != 7;
    if (op == 0xf6 || op == 0xf7)
        return group == 2 || group == 3;
    if (op == 0xfe || op == 0xff)
        return group < 2;
    return (op >= 0x86 && op <= 0x89) || op == 0x8c || op == 0x8f || op == 0xc0 || op == 0xc1 ||
           op == 0xc6 || op == 0xc7 || (op >= 0xd0 && op <= 0xd3);
}

static bool writes_two_bytes(uint8_t op, bool repeat)
{
    static const uint8_t all[] = { 0x11, 0x13, 0x17, 0x29, 0x2b, 0x7f, 0xa4, 0xa5, 0xab, 0xac, 0xad,
                                   0xb0, 0xb1, 0xb3, 0xbb, 0xc0, 0xc1, 0xc3, 0xc7, 0xd6, 0xe7 };

    if (op >= 0x90 && op <= 0x9f) /* SETcc */
        return true;
    if (op == 0x7e)
        return !repeat; /* with F3 it loads */
    for (size_t i = 0; i < sizeof(all); i++)
        if (all[i] == op)
            return true;
    return false;
}

static bool writes(const struct decoder *d)
{
    if (d->map == 1)
        return writes_one_byte(d->opcode, d->modrm >> 3 & 7);
    return d->map == 2 && writes_two_bytes(d->opcode, d->repeat);
}

/* Instructions of one byte without ModRM that touch memory. Returns their number of operands, -1:
 * not such a one. */
static int implied(struct decoder *d, struct operand *out)
{
    uint64_t si = linear(d, &d->sregs->ds, d->regs->rsi);
    uint64_t sp = d->mode64 ? d->regs->rsp : (uint32_t)(d->sregs->ss.base + d->regs->rsp);
    uint64_t below = sp - (d->mode64 ? 8 : 4);
    uint64_t di;

    d->segment = NULL; /* RDI's segment can't be chosen */
    di = linear(d, &d->sregs->es, d->regs->rdi);
    if (d->map != 1)
        return -1;
    switch (d->opcode) {
    case 0xa4: /* MOVS */
    case 0xa5:
    case 0xa6: /* CMPS */
    case 0xa7:
        out[0] = (struct operand){ si, false };
        out[1] = (struct operand){ di, d->opcode < 0xa6 };
        return 2;
    case 0x6c: /* INS */
    case 0x6d:
    case 0xaa: /* STOS */
    case 0xab:
        out[0] = (struct operand){ di, true };
        return 1;
    case 0xae: /* SCAS */
    case 0xaf:
        out[0] = (struct operand){ di, false };
        return 1;
    case 0x6e: /* OUTS */
    case 0x6f:
    case 0xac: /* LODS */
    case 0xad:
        out[0] = (struct operand){ si, false };
        return 1;
    case 0xc2: /* RET */
    case 0xc3:
    case 0x9d: /* POPF */
    case 0xcf: /* IRET */
        out[0] = (struct operand){ sp, false };
        return 1;
    case 0xc9: /* LEAVE */
        out[0] = (struct operand){ d->regs->rbp, false };
        return 1;
    case 0x68: /* PUSH of an immediate */
    case 0x6a:
    case 0x9c: /* PUSHF */
    case 0xe8: /* CALL */
        out[0] = (struct operand){ below, true };
        return 1;
    default:
        break;
    }
    if (d->opcode >= 0x50 && d->opcode <= 0x5f) { /* PUSH and POP of a register */
        bool push = d->opcode < 0x58;

        out[0] = (struct operand){ push ? below : sp, push };
        return 1;
    }
    return -1;
}

size_t operand_list(const uint8_t *code, size_t len, const struct kvm_regs *regs,
                    const struct kvm_sregs *sregs, struct operand out[OPERANDS_MAX])
{
    struct decoder d = { .code = code, .len = len, .regs = regs, .sregs = sregs };
    const struct kvm_segment *chosen;
    uint64_t at;
    int n;

    d.mode64 = sregs->efer & EFER_LMA && sregs->cs.l;
    opcode(&d);
    if (!d.mode64 && (!sregs->cs.db || d.address32))
        return 0; /* 16-bit addressing */
    chosen = d.segment;
    n = implied(&d, out);
    if (n >= 0)
        return (size_t)n;
    d.segment = chosen;
    if (d.map == 1 && d.opcode >= 0xa0 && d.opcode <= 0xa3) { /* MOV with an absolute address */
        at = (uint64_t)take_signed(&d, d.mode64 && !d.address32 ? 8 : 4);
        out[0] = (struct operand){ linear(&d, &sregs->ds, at), d.opcode >= 0xa2 };
        return 1;
    }
    d.modrm = (uint8_t)take(&d);
    d.end = immediate(&d);
    if (!modrm_address(&d, &at))
        return 0;
    out[0] = (struct operand){ at, writes(&d) };
    n = 1;
    if (d.map == 1 && d.opcode == 0xff && ((d.modrm >> 3 & 7) == 6 || (d.modrm >> 3 & 7) == 2))
        out[n++] = (struct operand){ regs->rsp - (d.mode64 ? 8 : 4), true };
    return (size_t)n;
}
