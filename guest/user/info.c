/*
 * info: what machine this is: CPUs, features, memory map, times of the start-up.
 */
#include "guest/user/lib/lib.h"

int main(void)
{
    print_machine();
    return 0;
}
