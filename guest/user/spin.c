/*
 * spin [MS]: computes for so many milliseconds, or for ever.
 */
#include "guest/user/lib/lib.h"

int main(int argc, char **argv)
{
    uint64_t ms = 0, end;

    if (argc > 2 || (argc == 2 && !parse_size(argv[1], &ms)))
        die(2, "usage: spin [MS]");
    end = sys_clock() + ms * 1000000;
    while (argc == 1 || sys_clock() < end)
        for (volatile unsigned i = 0; i < 1000000; i++)
            ;
    return 0;
}
