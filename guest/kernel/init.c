/*
 * The first process, from the command line: `init` with the program and its arguments,
 * or, in an initrd that has no init, that program itself.
 */
#include "guest/kernel/init.h"

#include <stdbool.h>

#include "guest/kernel/boot_info.h"
#include "guest/kernel/clock.h"
#include "guest/kernel/initrd.h"
#include "guest/kernel/panic.h"
#include "guest/kernel/printk.h"
#include "guest/kernel/proc.h"
#include "guest/kernel/sched.h"
#include "guest/kernel/string.h"

/*
 * Splits the line into words, each closed by a NUL byte. Double quotes hold a word with
 * spaces together. Returns the number of bytes, at most `size`.
 */
static uint64_t split_words(const char *line, char *out, uint64_t size)
{
    uint64_t used = 0;

    for (;;) {
        bool quoted = false;

        while (*line == ' ')
            line++;
        if (*line == '\0' || used == size)
            return used;
        for (; *line != '\0' && (quoted || *line != ' ') && used + 1 < size; line++) {
            if (*line == '"')
                quoted = !quoted;
            else
                out[used++] = *line;
        }
        out[used++] = '\0';
    }
}

void init_start(void)
{
    static char args[SYS_ARGS_MAX]; /* only used here, and too large for a stack */
    uint64_t used = 0;
    struct initrd_file file;

    sched_init_cpu();
    if (initrd_find("init", &file)) {
        memcpy(args, "init", 5);
        used = 5;
    }
    used += split_words(cmdline_program(), args + used, sizeof args - used);
    if (used == 0)
        printk("the initrd has no 'init', and the command line names no program\n");
    clock_stage("first process");
    if (used == 0 || proc_spawn(NULL, args, used, 0) < 0)
        machine_exit(SYS_CODE_NO_PROGRAM);
    sched_idle();
}
