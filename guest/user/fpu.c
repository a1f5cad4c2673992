/*
 * fpu: several processes keep different SSE and x87 state while the kernel switches
 * between them on one CPU. Each finds its own again.
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

static int child(uint64_t seed)
{
    struct state in, out;

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
    }
    return check_end();
}

int main(void)
{
    long pids[PROCESSES];

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
