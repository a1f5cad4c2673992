/*
 * A program's beginning and end.
 */
#include "guest/user/lib/lib.h"

#define ARGV_MAX 128

int main(int argc, char **argv);
void lib_start(char *args, size_t len);

static const char *name = "?";
static bool runner;

void set_runner(void)
{
    runner = true;
}

const char *program_name(void)
{
    return name;
}

void exit(int code)
{
    flush();
    for (;;)
        sys_call(SYS_EXIT, code, 0, 0, 0);
}

void abort(void)
{
    exit(SYS_CODE_ABORT);
}

void die(int code, const char *fmt, ...)
{
    char line[256];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(line, sizeof line, fmt, ap);
    va_end(ap);
    if (runner)
        printf("error %s\n", line);
    else
        printf("%s: %s\n", name, line);
    exit(runner ? 1 : code);
}

struct sys_info info_general(void)
{
    struct sys_info info = { 0 };

    sys_info(SYS_INFO_GENERAL, 0, &info, sizeof info);
    return info;
}

/* Called by _start: splits the block of arguments and runs main(). */
void lib_start(char *args, size_t len)
{
    char *argv[ARGV_MAX + 1];
    int argc = 0;
    size_t at = 0;

    while (at < len && argc < ARGV_MAX) {
        argv[argc++] = args + at;
        at += strlen(args + at) + 1;
    }
    argv[argc] = NULL;
    if (argc > 0)
        name = argv[0];
    exit(main(argc, argv));
}
