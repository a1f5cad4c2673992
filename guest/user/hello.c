/*
 * hello: one line, to see that a program runs.
 */
#include "guest/user/lib/lib.h"

int main(int argc, char **argv)
{
    printf("Hello from ring 3%s%s\n", argc > 1 ? ", " : "", argc > 1 ? argv[1] : "");
    return 0;
}
