#include "guest/chase.h"
#include "guest/user/lib/lib.h"

#define CTRL_D   4
#define LINE_MAX 64u

/* --- runners ------------------------------------------------------------------------------------
 */

bool take_runner(int *argc, char ***argv)
{
    if (*argc < 2 || strcmp((*argv)[1], "--runner") != 0)
        return false;
    set_runner();
    ++*argv;
    --*argc;
    return true;
}

/* The next character of the input; the wait for it leaves the CPU idle. */
static char read_char(void)
{
    static char buf[64];
    static long have, at;

    if (at == have) {
        at = 0;
        have = sys_read(SYS_STDIN, buf, sizeof buf);
        if (have <= 0)
            die(1, "the input can't be read: error %ld", -have);
    }
    return buf[at++];
}

/* One line without its end; false at the end of the input. */
static bool read_line(char line[LINE_MAX])
{
    unsigned n = 0;

    for (;;) {
        char c = read_char();

        if (c == CTRL_D)
            return false;
        if (c == '\n' || c == '\r')
            break;
        if (n == LINE_MAX - 1)
            die(1, "a line of more than %u characters", LINE_MAX - 1);
        line[n++] = c;
    }
    line[n] = '\0';
    return true;
}

bool runner_next(void)
{
    char line[LINE_MAX];

    flush();
    do {
        if (!read_line(line) || strcmp(line, "quit") == 0)
            return false;
    } while (line[0] == '\0'); /* what is left of a line that ends with both characters */
    if (strcmp(line, "go") != 0)
        die(1, "'%s' is neither go nor quit", line);
    return true;
}

/* --- loads --------------------------------------------------------------------------------------
 */

static uint64_t count_argument(int argc, char **argv, const struct load *load)
{
    uint64_t n = load->n;

    if (argc > 2 || (argc == 2 && !parse_size(argv[1], &n)) || n == 0 || n > 100000000)
        die(2, "usage: %s [--runner] [N], N from 1 to 100000000, or %lu", program_name(), load->n);
    return load->multiple > 0 ? (n + load->multiple - 1) / load->multiple * load->multiple : n;
}

static void print_cost(uint64_t n, const char *what, uint64_t cycles)
{
    uint64_t ns100 = step_ns100(cycles, n, info_general().tsc_hz);

    printf("%s: %lu %s: %lu.%02lu ns each\n", program_name(), n, what, ns100 / 100, ns100 % 100);
}

/* A short round, which nobody counts, makes what the kernel keeps for the next ones. */
static void serve(const struct load *load, uint64_t n)
{
    load->round(load->multiple > 0 ? load->multiple : 1);
    printf(LOAD_READY, n, info_general().tsc_hz);
    while (runner_next())
        printf(LOAD_ROUND, load->round(n), n);
}

int load_main(int argc, char **argv, const struct load *load)
{
    bool runner = take_runner(&argc, &argv);
    uint64_t n = count_argument(argc, argv, load), cycles = 0;

    if (load->prepare != NULL)
        load->prepare();
    if (runner)
        serve(load, n);
    else
        cycles = load->round(n);
    if (load->finish != NULL)
        load->finish();
    if (!runner)
        print_cost(n, load->what, cycles);
    return 0;
}

void sort_values(uint64_t *v, uint64_t n)
{
    for (uint64_t i = 1; i < n; i++)
        for (uint64_t j = i; j > 0 && v[j - 1] > v[j]; j--) {
            uint64_t swap = v[j];

            v[j] = v[j - 1];
            v[j - 1] = swap;
        }
}

bool write_faults(uint64_t addr)
{
    struct sys_status end;
    long pid = fork_flushed(SYS_QUIET);

    if (pid == 0) {
        *(volatile char *)addr = 1;
        exit(0);
    }
    if (pid < 0)
        die(1, "fork: error %ld", -pid);
    end = wait_for(pid);
    return end.vector == 14 && end.addr == addr;
}
