/*
 * die HOW: one way to end. `die` alone lists them.
 */
#include "guest/user/lib/lib.h"

#define NON_CANONICAL 0x8000000000000000ul
#define KERNEL_HALF   0xffff880000000000ul
#define KERNEL_IMAGE  0xffffffff80000000ul

static const char constant[64] = "read only";
static char data_ret[64] = { (char)0xc3 }; /* RET */

/* An address that the compiler can't see through. */
static volatile char *at(uint64_t addr)
{
    __asm__ volatile("" : "+r"(addr));
    return (volatile char *)addr;
}

static void jump(uint64_t addr)
{
    __asm__ volatile("call *%0" : : "r"(addr) : "memory");
}

static void die_null(void)
{
    (void)*at(0);
}

static void die_write_ro(void)
{
    *at((uint64_t)constant) = 1;
}

static void die_write_text(void)
{
    *at((uint64_t)die_write_ro) = 1;
}

static void die_exec_nx(void)
{
    jump((uint64_t)data_ret);
}

static void die_ud(void)
{
    __asm__ volatile("ud2");
}

static void die_div(void)
{
    __asm__ volatile("xorl %%ecx, %%ecx; movl $1, %%eax; cdq; idivl %%ecx"
                     :
                     :
                     : "eax", "ecx", "edx");
}

static void die_hlt(void)
{
    __asm__ volatile("hlt");
}

static void die_cli(void)
{
    __asm__ volatile("cli");
}

static void die_cr3(void)
{
    __asm__ volatile("movq %%cr3, %%rax" : : : "rax");
}

static void die_wrmsr(void)
{
    __asm__ volatile("wrmsr" : : "a"(0), "d"(0), "c"(0xc0000080));
}

static void die_io(void)
{
    __asm__ volatile("outb %%al, %%dx" : : "a"(0), "d"(TF_PORT_EXIT));
}

static void die_noncanonical(void)
{
    (void)*at(NON_CANONICAL);
}

static void die_ss(void)
{
    __asm__ volatile("movq %0, %%rsp; pushq %%rax" : : "r"(NON_CANONICAL));
}

static void die_stack(void)
{
    /* One page at a time downwards, as a deep recursion does, until the guard page. */
    __asm__ volatile("1: subq $4096, %%rsp; pushq %%rax; popq %%rax; jmp 1b" : : : "memory");
}

static void die_kernel(void)
{
    (void)*at(KERNEL_HALF);
}

static void die_kernel_image(void)
{
    (void)*at(KERNEL_IMAGE + 0x100000);
}

static void die_kernel_write(void)
{
    *at(KERNEL_HALF + 0x1000) = 1;
}

static void die_kernel_exec(void)
{
    jump(KERNEL_IMAGE + 0x100000);
}

static void die_unmapped(void)
{
    *at(0x123456789000) = 1;
}

static void die_simd(void)
{
    uint32_t mxcsr = 0x1f80 & ~(1u << 9); /* divide by zero unmasked */
    float one = 1.0f, zero = 0.0f;

    __asm__ volatile("ldmxcsr %0; movss %1, %%xmm0; divss %2, %%xmm0"
                     :
                     : "m"(mxcsr), "m"(one), "m"(zero)
                     : "xmm0");
}

static void die_x87(void)
{
    uint16_t control = 0x037f & ~(1u << 2); /* divide by zero unmasked */

    __asm__ volatile("fninit; fldcw %0; fld1; fldz; fdivrp; fwait" : : "m"(control));
}

static void die_step(void)
{
    __asm__ volatile("pushfq; orq $0x100, (%%rsp); popfq; nop; nop" : : : "memory", "cc");
}

static void die_int3(void)
{
    __asm__ volatile("int3");
}

static void die_int(void)
{
    __asm__ volatile("int $0x80");
}

static void die_abort(void)
{
    abort();
}

static void die_double_free(void)
{
    void *p = malloc(100);

    free(p);
    free((void *)(uintptr_t)at((uint64_t)p));
}

static const struct way {
    const char *name;
    void (*act)(void);
    const char *what;
} ways[] = {
    { "null", die_null, "reads address 0" },
    { "write-ro", die_write_ro, "writes to a constant" },
    { "write-text", die_write_text, "writes to its own code" },
    { "exec-nx", die_exec_nx, "jumps into its data" },
    { "unmapped", die_unmapped, "writes where nothing is mapped" },
    { "stack", die_stack, "runs out of stack, onto the guard page" },
    { "kernel", die_kernel, "reads the kernel's direct map" },
    { "kernel-image", die_kernel_image, "reads the kernel's code" },
    { "kernel-write", die_kernel_write, "writes to the kernel" },
    { "kernel-exec", die_kernel_exec, "jumps into the kernel" },
    { "noncanonical", die_noncanonical, "reads a non-canonical address" },
    { "ss", die_ss, "pushes onto a non-canonical stack" },
    { "ud", die_ud, "undefined instruction" },
    { "div", die_div, "divides by zero" },
    { "gp", die_hlt, "HLT" },
    { "cli", die_cli, "CLI" },
    { "cr3", die_cr3, "reads CR3" },
    { "wrmsr", die_wrmsr, "writes an MSR" },
    { "io", die_io, "writes to an I/O port" },
    { "fpu", die_simd, "SSE division by zero, unmasked" },
    { "x87", die_x87, "x87 division by zero, unmasked" },
    { "step", die_step, "sets the trap flag" },
    { "int3", die_int3, "INT3 (not on PVM)" },
    { "int", die_int, "INT 0x80 (not on PVM)" },
    { "abort", die_abort, "abort()" },
    { "double-free", die_double_free, "frees a block twice" },
};

int main(int argc, char **argv)
{
    uint64_t code;

    if (argc == 3 && strcmp(argv[1], "exit") == 0 && parse_size(argv[2], &code) && code <= 255)
        return (int)code;
    for (size_t i = 0; argc == 2 && i < sizeof ways / sizeof ways[0]; i++) {
        if (strcmp(argv[1], ways[i].name) != 0)
            continue;
        ways[i].act();
        die(1, "%s: still alive", argv[1]);
    }
    printf("usage: die HOW, where HOW is one of\n");
    for (size_t i = 0; i < sizeof ways / sizeof ways[0]; i++)
        printf("  %-14s %s\n", ways[i].name, ways[i].what);
    printf("  %-14s %s\n", "exit N", "exits with code N");
    return 2;
}
