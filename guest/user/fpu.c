/*
 * fpu: several processes keep different SSE and x87 state while the kernel switches
 * between them on one CPU. Each finds its own again; so do the two of them that set their FS and
 * GS base, and the others find zero there.
 */
#include "guest/user/lib/lib.h"

#define PROCESSES 4
#define SWITCHES  25 /* a process */

struct state {
    uint64_t xmm[16][2];
    uint32_t mxcsr;
    uint16_t x87_control;
    double x87_top;
};

static void fill(struct state *s, uint64_t seed)
{
    static const uint16_t rounding[] = { 0, 0x400, 0x800, 0xc00 };

    for (int i = 0; i < 16; i++) {
        s->xmm[i][0] = next_random(&seed);
        s->xmm[i][1] = next_random(&seed);
    }
    s->mxcsr = 0x1f80u | (uint32_t)rounding[seed % 4] << 3;
    s->x87_control = (uint16_t)(0x37f | rounding[seed / 4 % 4]);
    s->x87_top = (double)(seed % 1000000);
}

/*
 * Loads all of `in`, makes the system call, and stores what is there afterwards: in one
 * piece, as the compiler uses the registers itself.
 */
static void keep_over_call(const struct state *in, struct state *out, long number, long arg)
{
    __asm__ volatile("fninit\n\t"
                     "ldmxcsr 256(%[in])\n\t"
                     "fldcw 260(%[in])\n\t"
                     "fldl 264(%[in])\n\t"
                     ".irp n,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15\n\t"
                     "movdqu 16*\\n(%[in]), %%xmm\\n\n\t"
                     ".endr\n\t"
                     "syscall\n\t"
                     ".irp n,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15\n\t"
                     "movdqu %%xmm\\n, 16*\\n(%[out])\n\t"
                     ".endr\n\t"
                     "stmxcsr 256(%[out])\n\t"
                     "fnstcw 260(%[out])\n\t"
                     "fstpl 264(%[out])\n\t"
                     "fninit\n\t"
                     "ldmxcsr %[mxcsr]\n\t"
                     : "+a"(number)
                     : [in] "r"(in), [out] "r"(out), "D"(arg), [mxcsr] "m"((uint32_t){ 0x1f80 })
                     : "rcx", "r11", "memory", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5",
                       "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14",
                       "xmm15");
}

_Static_assert(offsetof(struct state, mxcsr) == 256, "the assembly above");
_Static_assert(offsetof(struct state, x87_control) == 260, "the assembly above");
_Static_assert(offsetof(struct state, x87_top) == 264, "the assembly above");

static bool have_bases; /* the CPU has RDFSBASE and its likes */

static void set_bases(uint64_t fs, uint64_t gs)
{
    __asm__ volatile("wrfsbase %0; wrgsbase %1" : : "r"(fs), "r"(gs));
}

static void check_bases(uint64_t seed, uint64_t fs, uint64_t gs)
{
    uint64_t fs_now, gs_now;

    __asm__ volatile("rdfsbase %0; rdgsbase %1" : "=r"(fs_now), "=r"(gs_now));
    check(fs_now == fs && gs_now == gs, "process %lu: FS base was %lx, is %lx; GS base %lx, %lx",
          seed, fs, fs_now, gs, gs_now);
}

/* On a CPU where nobody used them so far, and in a child. */
static void test_bases_move(uint64_t seed, uint64_t fs, uint64_t gs)
{
    unsigned n_cpus = info_general().cpus;
    long pid;

    for (unsigned i = n_cpus; i-- > 0;) {
        check(sys_pin((int)i) == 0, "pin to CPU %u", i);
        check_bases(seed, fs, gs);
    }
    pid = fork_flushed(0);
    if (pid == 0) {
        check_bases(seed, fs, gs);
        exit(check_end());
    }
    check(pid > 0 && wait_for(pid).code == 0, "process %lu: its child lost the bases", seed);
}

static int child(uint64_t seed)
{
    uint64_t fs = seed > 2 ? seed << 32 : 0, gs = fs | 1;
    bool uses_bases = have_bases && fs != 0;
    struct state in, out;

    if (uses_bases)
        set_bases(fs, gs);
    for (int i = 0; i < SWITCHES; i++) {
        memset(&in, 0, sizeof in);
        memset(&out, 0, sizeof out);
        fill(&in, seed * 1000 + (uint64_t)i + 1);
        keep_over_call(&in, &out, i % 5 == 4 ? SYS_SLEEP : SYS_YIELD, 100000);
        for (int r = 0; r < 16; r++)
            check(in.xmm[r][0] == out.xmm[r][0] && in.xmm[r][1] == out.xmm[r][1],
                  "process %lu, switch %d: xmm%d was %lx:%lx, is %lx:%lx", seed, i, r, in.xmm[r][1],
                  in.xmm[r][0], out.xmm[r][1], out.xmm[r][0]);
        check(in.mxcsr == out.mxcsr, "process %lu: MXCSR was %x, is %x", seed, in.mxcsr, out.mxcsr);
        check(in.x87_control == out.x87_control, "process %lu: x87 control was %x, is %x", seed,
              in.x87_control, out.x87_control);
        check(in.x87_top == out.x87_top, "process %lu: x87 st(0) differs", seed);
        if (uses_bases)
            check_bases(seed, fs, gs);
    }
    if (uses_bases)
        test_bases_move(seed, fs, gs);
    else if (have_bases)
        check_bases(seed, 0, 0);
    return check_end();
}

int main(void)
{
    long pids[PROCESSES];

    have_bases = info_general().features & SYS_FEATURE_FSGSBASE;
    check(sys_pin(0) == 0, "pin to CPU 0");
    for (int i = 0; i < PROCESSES; i++) {
        pids[i] = fork_flushed(0);
        if (pids[i] == 0)
            exit(child((uint64_t)i + 1));
        check(pids[i] > 0, "fork: error %ld", -pids[i]);
    }
    for (int i = 0; i < PROCESSES; i++)
        if (pids[i] > 0)
            check(wait_for(pids[i]).code == 0, "process %d lost its state", i + 1);
    return check_end();
}
