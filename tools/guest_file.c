#include "tools/guest_file.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

bool guest_file_find(char *out, size_t size)
{
    static const char *const places[] = { "%s/guest.elf", "%s/../lib/twofold/guest.elf",
                                          "/usr/lib/twofold/guest.elf",
                                          "/usr/local/lib/twofold/guest.elf" };
    char program[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", program, sizeof(program) - 1);

    if (n <= 0)
        return false;
    program[n] = '\0';
    *strrchr(program, '/') = '\0';
    for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
        if (i < 2)
            (void)snprintf(out, size, "%.*s%s", PATH_MAX - 64, program, places[i] + 2);
        else
            (void)snprintf(out, size, "%s", places[i]);
        if (access(out, R_OK) == 0)
            return true;
    }
    return false;
}
