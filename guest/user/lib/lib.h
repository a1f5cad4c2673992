/*
 * The library of the guest's programs: the part of C's that they need, and
 * helpers for what test programs do all the time.
 *
 * Output is buffered and written when the buffer is full, at exit, and before
 * anything that could let another process print or that waits; a program that is about
 * to be killed calls flush() itself.
 */
#ifndef TWOFOLD_GUEST_USER_LIB_H
#define TWOFOLD_GUEST_USER_LIB_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "guest/abi.h"
#include "guest/sys.h"
#include "guest/user/lib/syscall.h"

#define PAGE_SIZE  4096ul
#define LARGE_SIZE 0x200000ul
#define HUGE_SIZE  0x40000000ul

/* --- start and end (start.c) --- */
__attribute__((noreturn)) void exit(int code);
__attribute__((noreturn)) void abort(void);
/* Prints "PROGRAM: ..." and a newline, then exits with `code`. */
__attribute__((noreturn, format(printf, 2, 3))) void die(int code, const char *fmt, ...);
const char *program_name(void);
/* From here on, die() talks as a runner does: "error ...", and exits with 1. */
void set_runner(void);

/* --- strings (string.c) --- */
void *memcpy(void *restrict dst, const void *restrict src, size_t n);
void *memmove(void *dst, const void *src, size_t n);
void *memset(void *dst, int c, size_t n);
int memcmp(const void *a, const void *b, size_t n);
size_t strlen(const char *s);
int strcmp(const char *a, const char *b);
int strncmp(const char *a, const char *b, size_t n);
char *strchr(const char *s, int c);

/*
 * Reads a whole decimal or 0x number with an optional K, M or G (times 1024,
 * ...). False when `s` is anything else or does not fit.
 */
bool parse_size(const char *s, uint64_t *value);

/* --- output (print.c) --- */
__attribute__((format(printf, 1, 2))) int printf(const char *fmt, ...);
__attribute__((format(printf, 3, 4))) int snprintf(char *buf, size_t size, const char *fmt, ...);
int vsnprintf(char *buf, size_t size, const char *fmt, va_list ap);
void write_out(const char *s, size_t n);
void flush(void);
/* Drops what is buffered: a forked child must not print its parent's lines again. */
void discard_output(void);

/* --- memory (malloc.c) --- */
void *malloc(size_t size);
void *calloc(size_t n, size_t size);
void free(void *p);
/*
 * Fresh zeroed memory to read and write, in pages of `page` bytes (4 KiB, 2 MiB, 1 GiB), or the end
 * of the program with a message. `len` is a multiple of `page`.
 */
void *map_pages(size_t len, size_t page);
/* The flag of SYS_MMAP for such pages. */
unsigned page_flag(size_t page);
/* Reads "4k", "2m" or "1g"; false for anything else, with *page undefined. */
bool parse_page_size(const char *s, uint64_t *page);

/* --- processes (process.c) --- */
/* Starts `argv` (closed by NULL); its pid or a negative error number. */
long spawn(const char *const *argv, unsigned flags);
/* fork() with the output flushed before, so that nothing is printed twice. */
long fork_flushed(unsigned flags);
/* Starts `argv`, waits for it; 0 or a negative error number. */
long run(const char *const *argv, unsigned flags, struct sys_status *status);
/* Waits for `pid`, or ends the program with a message. */
struct sys_status wait_for(long pid);
/* "page fault at 0x0 (read, page not present, user)", for exception ends; else "exit 3". */
const char *describe_end(const struct sys_status *status, char *buf, size_t size);

/* --- tests (check.c) --- */
/*
 * check() counts, and prints what was wrong when `ok` is false; check_end()
 * prints nothing if all is well, and is the program's exit code: 0 or 1.
 */
__attribute__((format(printf, 2, 3))) bool check(bool ok, const char *fmt, ...);
int check_end(void);

/* --- programs that measure an operation (measure.c) --- */
/*
 * A program that does one thing over and over. `PROGRAM [N]` does it N times and says what one
 * costs; `PROGRAM --runner [N]` talks as guest/chase.h has it, N a round.
 */
struct load {
    const char *what;              /* N of it, for the line that says what it costs */
    uint64_t n;                    /* how often, unless the command line says so */
    uint64_t multiple;             /* N is rounded up to one of that; 0: no need */
    void (*prepare)(void);         /* once, before the first round; may be NULL */
    uint64_t (*round)(uint64_t n); /* does it n times; the TSC cycles that took */
    void (*finish)(void);          /* checks after the last round; may be NULL */
};
int load_main(int argc, char **argv, const struct load *load);
/* Takes a leading "--runner" off the arguments, and has die() talk so; true if there was one. */
bool take_runner(int *argc, char ***argv);
/* Waits for the next line, idle, with the output flushed: true for another round. */
bool runner_next(void);
/* The smallest first. */
void sort_values(uint64_t *v, uint64_t n);
/* Does a write there end a process with a page fault? A forked child tries. */
bool write_faults(uint64_t addr);

/* --- the machine (machine.c) --- */
/* Prints its CPUs, features, memory map and start-up times. */
void print_machine(void);

/* --- small things --- */
static inline uint64_t rdtsc(void)
{
    uint32_t lo, hi;

    __asm__ volatile("rdtsc" : "=a"(lo), "=d"(hi));
    return (uint64_t)hi << 32 | lo;
}

/* What one of `n` steps took, in hundredths of a nanosecond, when all took so many TSC cycles. */
static inline uint64_t step_ns100(uint64_t cycles, uint64_t n, uint64_t tsc_hz)
{
    return tsc_hz > 0 ? (uint64_t)((double)cycles * 1e11 / (double)tsc_hz / (double)n) : 0;
}

/* xorshift64*: a reproducible sequence; `state` must not be 0. */
static inline uint64_t next_random(uint64_t *state)
{
    uint64_t x = *state;

    x ^= x >> 12;
    x ^= x << 25;
    x ^= x >> 27;
    *state = x;
    return x * 0x2545f4914f6cdd1dull;
}

struct sys_info info_general(void);

#endif
