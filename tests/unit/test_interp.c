/*
 * The interpreter against this CPU: random instructions run natively in this process and are
 * interpreted, on the same registers and memory; results, memory and defined flags must agree.
 */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ucontext.h>

#include <cmocka.h>

#include "vmm/interp.h"

#define CASES 400000u
#define PAGE  4096u

/* One mapping below 4 GiB, so that 32-bit addresses reach it: a page of code, two of data. What
   instructions touch is the window around the border of these two. */
#define WINDOW 512u
static uint8_t *code, *window;

static struct cpu_state cpu;
static struct interp *interp;

/* --- running natively ------------------------------------------------------------------------- */

struct native {
    uint64_t gpr[16];
    uint64_t rflags;
};

extern struct native native_state;
extern uint64_t native_host_rsp;
extern const void *native_code;
struct native native_state;
uint64_t native_host_rsp;
const void *native_code;
static volatile sig_atomic_t divided;

void native_run(void);
void native_exit(void);

/* clang-format off */
#define EACH_BUT_RSP(X)                                                                            \
    X("rax", "0")                                                                                  \
    X("rcx", "8")                                                                                  \
    X("rdx", "16") X("rbx", "24") X("rbp", "40") X("rsi", "48") X("rdi", "56") X("r8", "64")       \
        X("r9", "72") X("r10", "80") X("r11", "88") X("r12", "96") X("r13", "104") X("r14", "112") \
            X("r15", "120")
#define LOAD_REGISTER(name, at) "mov native_state+" at "(%rip), %" name "\n"
#define SAVE_REGISTER(name, at) "mov %" name ", native_state+" at "(%rip)\n"

__asm__(".text\n"
        ".globl native_run, native_exit\n"
        "native_run:\n"
        "push %rbx\npush %rbp\npush %r12\npush %r13\npush %r14\npush %r15\npushfq\n"
        "mov %rsp, native_host_rsp(%rip)\n"
        "pushq native_state+128(%rip)\npopfq\n" EACH_BUT_RSP(
            LOAD_REGISTER) "mov native_state+32(%rip), %rsp\n"
                           "jmp *native_code(%rip)\n"
                           "native_exit:\n" EACH_BUT_RSP(
                               SAVE_REGISTER) "mov %rsp, native_state+32(%rip)\n"
                                              "mov native_host_rsp(%rip), %rsp\n"
                                              "pushfq\npopq native_state+128(%rip)\n"
                                              "popfq\npop %r15\npop %r14\npop %r13\npop %r12\npop "
                                              "%rbp\npop %rbx\n"
                                              "ret\n");
/* clang-format on */

static void on_divide(int signal, siginfo_t *info, void *context)
{
    ucontext_t *u = context;

    (void)signal;
    (void)info;
    divided = 1;
    u->uc_mcontext.gregs[REG_RIP] = (greg_t)(uintptr_t)native_exit;
}

static void catch_divide(void)
{
    static uint8_t stack[65536];
    const stack_t alternate = { .ss_sp = stack, .ss_size = sizeof(stack) };
    struct sigaction action = { .sa_sigaction = on_divide, .sa_flags = SA_SIGINFO | SA_ONSTACK };

    assert_int_equal(sigaltstack(&alternate, NULL), 0);
    assert_int_equal(sigaction(SIGFPE, &action, NULL), 0);
    assert_int_equal(sigaction(SIGSEGV, &action, NULL), 0); /* told as one more difference */
}

/* --- interpreting ----------------------------------------------------------------------------- */

static enum interp_place translate(void *ctx, uint64_t linear, unsigned len,
                                   const struct interp_access *access, void **host, gpa_t *at,
                                   struct cpu_fault *fault)
{
    const uint8_t *p = (const uint8_t *)(uintptr_t)linear; /* addresses are this process's */

    (void)ctx;
    (void)at;
    if (p < code || p + len > code + 3 * PAGE || (access->op == PT_WRITE && p < code + PAGE) ||
        (linear & (PAGE - 1)) + len > PAGE) {
        *fault = (struct cpu_fault){ .vector = CPU_PAGE, .address = linear };
        return INTERP_REFUSED;
    }
    *host = (void *)(uintptr_t)linear;
    return INTERP_RAM;
}

static void mmio(void *ctx, gpa_t at, void *buf, unsigned len, bool write)
{
    (void)ctx;
    (void)at;
    (void)buf;
    (void)len;
    (void)write;
    fail();
}

static const struct interp_ops ops = { translate, mmio };

static void start(void)
{
    code = mmap(NULL, 3 * PAGE, PROT_READ | PROT_WRITE | PROT_EXEC,
                MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
    assert_ptr_not_equal(code, MAP_FAILED);
    window = code + 2 * PAGE - WINDOW / 2;
    cpu = (struct cpu_state){ .efer = X86_EFER_LMA, .cr0 = CPU_CR0_PE, .cpl = 3 };
    cpu.seg[CPU_CS].l = 1;
    assert_int_equal(interp_create(&interp, &cpu, &ops, NULL), 0);
}

/* --- random instructions ---------------------------------------------------------------------- */

static uint64_t seed = 20;

static uint64_t random64(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return seed * 0x2545f4914f6cdd1du;
}

static unsigned below(unsigned n)
{
    return (unsigned)((random64() >> 32) % n);
}

#define ALL   (CPU_CF | CPU_PF | CPU_AF | CPU_ZF | CPU_SF | CPU_OF)
#define LOGIC (ALL & ~CPU_AF)
#define BMI   (CPU_CF | CPU_ZF | CPU_SF | CPU_OF)

enum form {
    BYTE_TOO = 1,   /* opcode - 1 is of bytes */
    BYTE_ONLY = 2,  /* has no other width */
    IMM8 = 4,       /* an immediate byte behind it */
    IMM = 8,        /* an immediate as wide as the operand, at most 32 bits */
    DIGIT = 16,     /* the register field is an opcode: `digit` */
    COUNT = 32,     /* shifts: flags depend on CL or the immediate */
    ROTATE = 64,    /* ... only CF and OF change */
    NO_MODRM = 128, /* nothing behind the opcode */
    MEMORY = 256,   /* no register form */
    LOCK_TOO = 512, /* allows the prefix, with memory */
    STRING = 1024,
    WIDE_ONLY = 2048, /* not with 16 bits */
    OPCODE16 = 4096,  /* any of 16 opcodes: a condition */
    LONG_ONLY = 8192, /* 64 bits only, REX.W */
    BITS = 16384,     /* a bit number, small enough for the window */
    REGISTER = 32768, /* no memory form */
    PLUS = 65536,     /* the register is in the opcode */
};

struct template
{
    uint8_t map;    /* 0: one byte; 1: 0F; 2: 0F 38 */
    uint8_t prefix; /* F3 or 0 */
    uint8_t opcode;
    uint8_t digit;
    unsigned form;
    uint64_t flags; /* that are defined afterwards */
};

/* clang-format off */
#define ALU(base, flags)                                                                           \
    { 0, 0, (base) + 1, 0, BYTE_TOO | LOCK_TOO, flags }, { 0, 0, (base) + 3, 0, BYTE_TOO, flags }, \
        { 0, 0, 0x81, (base) / 8, IMM | DIGIT, flags },                                            \
        { 0, 0, 0x83, (base) / 8, IMM8 | DIGIT | LOCK_TOO, flags },                                \
        { 0, 0, 0x80, (base) / 8, IMM8 | DIGIT | BYTE_ONLY, flags },                               \
    {                                                                                              \
        0, 0, (base) + 5, 0, IMM | NO_MODRM, flags                                                 \
    }
#define SHIFTS(digit, form)                                           \
    { 0, 0, 0xd3, digit, BYTE_TOO | DIGIT | (form), ALL },            \
        { 0, 0, 0xc1, digit, BYTE_TOO | DIGIT | IMM8 | (form), ALL }, \
    {                                                                 \
        0, 0, 0xd1, digit, BYTE_TOO | DIGIT | (form), ALL             \
    }

static const struct template templates[] = {
    ALU(0x00, ALL),
    ALU(0x08, LOGIC),
    ALU(0x10, ALL),
    ALU(0x18, ALL),
    ALU(0x20, LOGIC),
    ALU(0x28, ALL),
    ALU(0x30, LOGIC),
    { 0, 0, 0x39, 0, BYTE_TOO, ALL }, /* cmp */
    { 0, 0, 0x3b, 0, BYTE_TOO, ALL },
    { 0, 0, 0x81, 7, IMM | DIGIT, ALL },
    { 0, 0, 0x85, 0, BYTE_TOO, LOGIC }, /* test */
    { 0, 0, 0xf7, 0, DIGIT | IMM, LOGIC },
    { 0, 0, 0xf7, 2, BYTE_TOO | DIGIT | LOCK_TOO, ALL },  /* not */
    { 0, 0, 0xf7, 3, BYTE_TOO | DIGIT | LOCK_TOO, ALL },  /* neg */
    { 0, 0, 0xf7, 4, BYTE_TOO | DIGIT, CPU_CF | CPU_OF }, /* mul */
    { 0, 0, 0xf7, 5, BYTE_TOO | DIGIT, CPU_CF | CPU_OF }, /* imul */
    { 0, 0, 0xf7, 6, BYTE_TOO | DIGIT, 0 },               /* div */
    { 0, 0, 0xf7, 7, BYTE_TOO | DIGIT, 0 },               /* idiv */
    { 1, 0, 0xaf, 0, 0, CPU_CF | CPU_OF },                /* imul r, rm */
    { 0, 0, 0x69, 0, IMM, CPU_CF | CPU_OF },
    { 0, 0, 0x6b, 0, IMM8, CPU_CF | CPU_OF },
    { 0, 0, 0xff, 0, BYTE_TOO | DIGIT | LOCK_TOO, ALL }, /* inc */
    { 0, 0, 0xff, 1, BYTE_TOO | DIGIT | LOCK_TOO, ALL }, /* dec */
    SHIFTS(0, COUNT | ROTATE),
    SHIFTS(1, COUNT | ROTATE),
    SHIFTS(2, COUNT | ROTATE),
    SHIFTS(3, COUNT | ROTATE),
    SHIFTS(4, COUNT),
    SHIFTS(5, COUNT),
    SHIFTS(7, COUNT),
    { 1, 0, 0xa4, 0, IMM8 | COUNT | WIDE_ONLY, ALL }, /* shld */
    { 1, 0, 0xa5, 0, COUNT | WIDE_ONLY, ALL },
    { 1, 0, 0xac, 0, IMM8 | COUNT | WIDE_ONLY, ALL }, /* shrd */
    { 1, 0, 0xad, 0, COUNT | WIDE_ONLY, ALL },
    { 1, 0, 0xa3, 0, BITS, CPU_CF | CPU_ZF }, /* bt */
    { 1, 0, 0xab, 0, BITS | LOCK_TOO, CPU_CF | CPU_ZF },
    { 1, 0, 0xb3, 0, BITS | LOCK_TOO, CPU_CF | CPU_ZF },
    { 1, 0, 0xbb, 0, BITS | LOCK_TOO, CPU_CF | CPU_ZF },
    { 1, 0, 0xba, 4, DIGIT | IMM8, CPU_CF | CPU_ZF },
    { 1, 0, 0xba, 5, DIGIT | IMM8 | LOCK_TOO, CPU_CF | CPU_ZF },
    { 1, 0, 0xba, 6, DIGIT | IMM8 | LOCK_TOO, CPU_CF | CPU_ZF },
    { 1, 0, 0xba, 7, DIGIT | IMM8 | LOCK_TOO, CPU_CF | CPU_ZF },
    { 1, 0, 0xbc, 0, 0, CPU_ZF },             /* bsf */
    { 1, 0, 0xbd, 0, 0, CPU_ZF },             /* bsr */
    { 1, 0xf3, 0xb8, 0, 0, ALL },             /* popcnt */
    { 1, 0xf3, 0xbc, 0, 0, CPU_CF | CPU_ZF }, /* tzcnt */
    { 1, 0xf3, 0xbd, 0, 0, CPU_CF | CPU_ZF }, /* lzcnt */
    { 0, 0, 0x89, 0, BYTE_TOO, ALL },         /* mov */
    { 0, 0, 0x8b, 0, BYTE_TOO, ALL },
    { 0, 0, 0xc7, 0, DIGIT | IMM, ALL },
    { 0, 0, 0xb8, 0, IMM | PLUS | NO_MODRM | WIDE_ONLY, ALL },
    { 0, 0, 0x63, 0, WIDE_ONLY, ALL }, /* movsxd */
    { 1, 0, 0xb6, 0, 0, ALL },
    { 1, 0, 0xb7, 0, 0, ALL }, /* movzx */
    { 1, 0, 0xbe, 0, 0, ALL },
    { 1, 0, 0xbf, 0, 0, ALL }, /* movsx */
    { 2, 0, 0xf0, 0, MEMORY, ALL },
    { 2, 0, 0xf1, 0, MEMORY, ALL },                      /* movbe */
    { 1, 0, 0xc8, 0, PLUS | NO_MODRM | WIDE_ONLY, ALL }, /* bswap */
    { 0, 0, 0x8d, 0, MEMORY, ALL },                      /* lea */
    { 0, 0, 0x87, 0, BYTE_TOO | LOCK_TOO, ALL },         /* xchg */
    { 0, 0, 0x90, 0, PLUS | NO_MODRM, ALL },
    { 1, 0, 0xc1, 0, BYTE_TOO | LOCK_TOO, ALL },                   /* xadd */
    { 1, 0, 0xb1, 0, BYTE_TOO | LOCK_TOO, ALL },                   /* cmpxchg */
    { 1, 0, 0xc7, 1, DIGIT | MEMORY | WIDE_ONLY | LOCK_TOO, ALL }, /* cmpxchg8b, 16b */
    { 1, 0, 0x40, 0, OPCODE16, ALL },                              /* cmovcc */
    { 1, 0, 0x90, 0, OPCODE16 | BYTE_ONLY, ALL },                  /* setcc */
    { 0, 0, 0x98, 0, NO_MODRM, ALL },
    { 0, 0, 0x99, 0, NO_MODRM, ALL },
    { 0, 0, 0x9e, 0, NO_MODRM, ALL },
    { 0, 0, 0x9f, 0, NO_MODRM, ALL },
    { 0, 0, 0xf5, 0, NO_MODRM, ALL },
    { 0, 0, 0xf8, 0, NO_MODRM, ALL },
    { 0, 0, 0xf9, 0, NO_MODRM, ALL },
    { 0, 0, 0xd7, 0, NO_MODRM, ALL },
    { 0, 0, 0x50, 0, PLUS | NO_MODRM, ALL },
    { 0, 0, 0x58, 0, PLUS | NO_MODRM, ALL },
    { 0, 0, 0xff, 6, DIGIT, ALL },
    { 0, 0, 0x8f, 0, DIGIT, ALL }, /* push, pop */
    { 0, 0, 0x6a, 0, IMM8 | NO_MODRM, ALL },
    { 0, 0, 0x68, 0, IMM | NO_MODRM, ALL },
    { 0, 0, 0xc9, 0, NO_MODRM, ALL }, /* leave */
    { 0, 0, 0xa5, 0, BYTE_TOO | NO_MODRM | STRING, ALL },
    { 0, 0, 0xa7, 0, BYTE_TOO | NO_MODRM | STRING, ALL },
    { 0, 0, 0xab, 0, BYTE_TOO | NO_MODRM | STRING, ALL },
    { 0, 0, 0xad, 0, BYTE_TOO | NO_MODRM | STRING, ALL },
    { 0, 0, 0xaf, 0, BYTE_TOO | NO_MODRM | STRING, ALL },
};
/* clang-format on */

#define TEMPLATES (sizeof(templates) / sizeof(templates[0]))

struct made {
    unsigned length;
    unsigned width; /* bytes of the operand */
    bool memory;
    uint64_t flags; /* to be compared */
};

/* Behind the opcode: a register, or one of the ways to reach the window. */
static unsigned put_modrm(uint8_t *p, const struct template *t, uint8_t *rex, bool *memory,
                          uint8_t **displacement)
{
    uint8_t reg = (uint8_t)((t->form & DIGIT ? t->digit : below(8)) << 3);

    *memory = t->form & MEMORY || (!(t->form & REGISTER) && below(2));
    if (t->form & DIGIT)
        *rex &= (uint8_t)~4;
    if (t->form & BITS && (reg == 3 << 3 || reg == 4 << 3))
        reg = 0; /* RBX, R11 and RSP hold addresses: no bit number within the window */
    if (!*memory) {
        p[0] = (uint8_t)(0xc0 | reg | below(8));
        return 1;
    }
    switch (below(3)) {
    case 0: /* [rbx + disp8], or r11 */
        p[0] = (uint8_t)(0x40 | reg | 3);
        p[1] = (uint8_t)(below(64) - 32);
        return 2;
    case 1: /* [rbx + r9 * scale + disp8] */
        *rex |= 0x42;
        p[0] = (uint8_t)(0x40 | reg | 4);
        p[1] = (uint8_t)(below(4) << 6 | 1 << 3 | 3);
        p[2] = (uint8_t)(below(64) - 32);
        return 3;
    default: /* [rip + disp32], which is filled in when the length is known */
        p[0] = reg | 5;
        *displacement = p + 1;
        return 5;
    }
}

static unsigned random_width(const struct template *t)
{
    static const uint8_t all[] = { 1, 2, 4, 8 };

    if (t->form & BYTE_ONLY)
        return 1;
    if (t->form & WIDE_ONLY)
        return all[2 + below(2)];
    return t->form & BYTE_TOO ? all[below(4)] : all[1 + below(3)];
}

static struct made make(const struct template *t)
{
    struct made made = { .width = random_width(t), .flags = t->flags };
    uint8_t rex = 0, *p = code, *displacement = NULL, body[8];
    unsigned n = 0, immediate = 0, width = made.width;
    bool has_modrm = !(t->form & NO_MODRM);

    if (below(2))
        rex = (uint8_t)(0x40 | below(8));
    rex &= (uint8_t)~2; /* X only where the index is r9 */
    if (has_modrm)
        n = put_modrm(body, t, &rex, &made.memory, &displacement);
    rex &= (uint8_t)~8;
    if (width == 8)
        rex |= 0x48;
    if (made.memory && t->form & LOCK_TOO && below(3) == 0)
        *p++ = 0xf0;
    if (t->form & STRING && below(3))
        *p++ = (uint8_t)(0xf2 + below(2));
    if ((t->form & STRING || made.memory) && below(4) == 0)
        *p++ = 0x67;
    if (width == 2)
        *p++ = 0x66;
    if (t->prefix)
        *p++ = t->prefix;
    if (rex)
        *p++ = rex;
    if (t->map)
        *p++ = 0x0f;
    if (t->map == 2)
        *p++ = 0x38;
    *p = (uint8_t)(t->opcode - (width == 1 && t->form & BYTE_TOO));
    if (t->form & OPCODE16)
        *p = (uint8_t)(*p + below(16));
    if (t->form & PLUS)
        *p = (uint8_t)(*p + below(8));
    p++;
    memcpy(p, body, n);
    if (displacement)
        displacement = p + (displacement - body);
    p += n;
    if (t->form & IMM8)
        immediate = 1;
    if (t->form & IMM)
        immediate = t->form & PLUS ? width : width == 8 ? 4 : width;
    for (unsigned i = 0; i < immediate; i++)
        *p++ = (uint8_t)random64();
    made.length = (unsigned)(p - code);
    if (displacement) {
        int32_t to = (int32_t)(window + WINDOW / 2 + below(64) - 32 - p);

        memcpy(displacement, &to, sizeof(to));
    }
    return made;
}

static uint64_t random_value(void)
{
    static const uint64_t corners[] = { 0,        1,          2,         0x7f,       0x80,
                                        0xff,     0x7fff,     0x8000,    0xffff,     0x7fffffff,
                                        1u << 31, UINT32_MAX, INT64_MAX, 1ull << 63, UINT64_MAX };

    switch (below(4)) {
    case 0:
        return corners[below(sizeof(corners) / sizeof(corners[0]))];
    case 1:
        return below(256);
    default:
        return random64();
    }
}

static void random_registers(const struct template *t)
{
    uint64_t middle = (uintptr_t)window + WINDOW / 2, *gpr = native_state.gpr;

    for (unsigned i = 0; i < 16; i++) {
        gpr[i] = random_value();
        if (t->form & BITS)
            gpr[i] = (uint64_t)(int64_t)((int)below(1200) - 600);
    }
    gpr[CPU_RBX] = middle + below(16) - 8;
    gpr[11] = middle + below(16) - 8;
    gpr[9] = below(5);
    gpr[CPU_RSP] = middle + below(64) - 32;
    if (t->opcode == 0xd7)
        gpr[CPU_RBX] = (uintptr_t)window;
    if (t->opcode == 0xc9)
        gpr[CPU_RBP] = middle + below(64) - 32;
    if (t->form & STRING) {
        gpr[CPU_RSI] = middle + below(80) - 40;
        gpr[CPU_RDI] = middle + below(80) - 40;
        gpr[CPU_RCX] = below(12);
    }
    if (t->opcode == 0xf7 && t->digit >= 6 && below(4)) /* most divisions succeed */
        gpr[CPU_RDX] = below(2) ? 0 : UINT64_MAX;
    native_state.rflags = 2 | CPU_IF | (random64() & ALL);
    if (t->form & STRING && below(2))
        native_state.rflags |= CPU_DF;
}

/* Intel SDM volume 2: which flags a shift by this count defines. */
static uint64_t shift_flags(const struct template *t, const struct made *made)
{
    bool by_one = (t->opcode & 0xfe) == 0xd0;
    unsigned count = by_one ? 1 : t->form & IMM8 ? code[made->length - 1] : native_state.gpr[1];
    uint64_t flags = ALL;

    count &= made->width == 8 ? 63 : 31;
    if (count == 0)
        return ALL;
    if (count != 1)
        flags &= ~CPU_OF;
    if (t->form & ROTATE)
        return flags;
    if (count >= made->width * 8)
        flags &= ~CPU_CF;
    return flags & ~CPU_AF;
}

static void complain(const struct made *made, const struct native *before, const char *what,
                     uint64_t native, uint64_t interpreted)
{
    char text[64] = "";

    for (unsigned i = 0; i < made->length; i++)
        snprintf(text + strlen(text), sizeof(text) - strlen(text), "%02x ", code[i]);
    fail_msg("%s: %s is %lx natively, %lx interpreted; rax %lx rcx %lx rdx %lx rflags %lx", text,
             what, native, interpreted, before->gpr[0], before->gpr[1], before->gpr[2],
             before->rflags);
}

static void compare(const struct made *made, const struct native *before)
{
    static const char *const name[] = { "rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
                                        "r8",  "r9",  "r10", "r11", "r12", "r13", "r14", "r15" };
    uint64_t flags = made->flags | CPU_DF | CPU_IF;

    for (unsigned i = 0; i < 16; i++)
        if (native_state.gpr[i] != cpu.gpr[i])
            complain(made, before, name[i], native_state.gpr[i], cpu.gpr[i]);
    if ((native_state.rflags ^ cpu.rflags) & flags)
        complain(made, before, "rflags", native_state.rflags, cpu.rflags);
}

static void run_native(const struct made *made)
{
    static const uint8_t jump[] = { 0xff, 0x25, 0, 0, 0, 0 };
    const void *exit = (const void *)(uintptr_t)native_exit;

    memcpy(code + made->length, jump, sizeof(jump));
    memcpy(code + made->length + sizeof(jump), &exit, sizeof(exit));
    native_code = code;
    divided = 0;
    native_run();
}

static void random_case(const struct template *t)
{
    uint8_t before[WINDOW], after[WINDOW];
    struct made made = make(t);
    struct interp_insn insn;
    struct cpu_fault fault;
    enum interp_result result;
    struct native registers;

    random_registers(t);
    if (t->form & COUNT)
        made.flags &= shift_flags(t, &made);
    for (unsigned i = 0; i < WINDOW; i += 8)
        memcpy(window + i, &(uint64_t){ random_value() }, 8);
    if (t->opcode == 0xc7 && t->map == 1 && made.width == 8) /* aligned; RBX is a source too */
        native_state.gpr[CPU_RBX] = native_state.gpr[11] = (uintptr_t)window + 256;
    memcpy(before, window, WINDOW);
    registers = native_state;
    memcpy(cpu.gpr, native_state.gpr, sizeof(cpu.gpr));
    cpu.rflags = native_state.rflags;
    cpu.rip = (uintptr_t)code;
    result = interp_step(interp, 1000, &insn, &fault);
    if (result == INTERP_FAULT && fault.vector == CPU_GP && made.width == 8 && t->opcode == 0xc7)
        return; /* CMPXCHG16B, not aligned */
    memcpy(after, window, WINDOW);
    memcpy(window, before, WINDOW);
    run_native(&made);
    if (divided) {
        if (result != INTERP_FAULT || fault.vector != CPU_DE)
            complain(&made, &registers, "result", INTERP_FAULT, result);
    } else if (result != INTERP_OK || cpu.rip != (uintptr_t)code + made.length) {
        complain(&made, &registers, "result", INTERP_OK, result);
    }
    compare(&made, &registers);
    for (unsigned i = 0; i < WINDOW; i++)
        if (window[i] != after[i])
            complain(&made, &registers, "memory", window[i], after[i]);
}

static void as_this_cpu(void **state)
{
    (void)state;
    catch_divide(); /* here: cmocka sets handlers of its own before each test */
    for (unsigned i = 0; i < CASES; i++)
        random_case(&templates[i % TEMPLATES]);
}

/* VEX encodings, by hand: ANDN, BLSI, BLSR, BLSMSK, BEXTR, BZHI, SHLX, SARX, SHRX, RORX, MULX;
   of registers, 32 and 64 bits. */
static void bmi(void **state)
{
    static const struct {
        uint8_t code[6];
        uint64_t flags;
    } all[] = {
        { { 0xc4, 0xe2, 0x70, 0xf2, 0xc2 }, BMI },
        { { 0xc4, 0xe2, 0x78, 0xf3, 0xd9 }, BMI },
        { { 0xc4, 0xe2, 0x78, 0xf3, 0xc9 }, BMI },
        { { 0xc4, 0xe2, 0x78, 0xf3, 0xd1 }, BMI },
        { { 0xc4, 0xe2, 0x70, 0xf7, 0xc2 }, CPU_CF | CPU_ZF | CPU_OF },
        { { 0xc4, 0xe2, 0x70, 0xf5, 0xc2 }, BMI },
        { { 0xc4, 0xe2, 0x71, 0xf7, 0xc2 }, ALL },
        { { 0xc4, 0xe2, 0x72, 0xf7, 0xc2 }, ALL },
        { { 0xc4, 0xe2, 0x73, 0xf7, 0xc2 }, ALL },
        { { 0xc4, 0xe3, 0x7b, 0xf0, 0xc1, 13 }, ALL },
        { { 0xc4, 0xe2, 0x73, 0xf6, 0xc6 }, ALL },
    };
    static const struct template plain = { 0 };

    (void)state;
    if (!__builtin_cpu_supports("bmi") || !__builtin_cpu_supports("bmi2"))
        return;
    for (unsigned i = 0; i < 20000; i++) {
        unsigned which = i % (sizeof(all) / sizeof(all[0]));
        struct made made = { .length = all[which].code[1] == 0xe3 ? 6 : 5,
                             .flags = all[which].flags };
        struct native registers;
        struct interp_insn insn;
        struct cpu_fault fault;

        memcpy(code, all[which].code, made.length);
        code[2] |= below(2) ? 0x80 : 0;
        random_registers(&plain);
        registers = native_state;
        memcpy(cpu.gpr, native_state.gpr, sizeof(cpu.gpr));
        cpu.rflags = native_state.rflags;
        cpu.rip = (uintptr_t)code;
        if (interp_step(interp, 1, &insn, &fault) != INTERP_OK)
            complain(&made, &registers, "result", INTERP_OK, INTERP_UNKNOWN);
        run_native(&made);
        compare(&made, &registers);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(as_this_cpu),
        cmocka_unit_test(bmi),
    };

    start();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
