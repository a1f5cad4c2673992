/*
 * random [N]: N bytes (32) of the random number generator, in hex; 1 when they are all equal or the
 * next ones are the same.
 */
#include "guest/user/lib/lib.h"

#define BYTES_MAX  0x100000u
#define LINE       32u
#define JUDGED_MIN 8u /* of fewer bytes it would be no wonder if they were equal */

static void fill(uint8_t *buf, size_t n)
{
    long rc = sys_random(buf, n);

    if (rc == -ENODEV)
        die(1, "there is no random number generator: --rng");
    if (rc != (long)n)
        die(1, "the device failed, error %ld", -rc);
}

static bool all_equal(const uint8_t *buf, size_t n)
{
    size_t i;

    for (i = 1; i < n && buf[i] == buf[0]; i++)
        ;
    return i == n;
}

int main(int argc, char **argv)
{
    uint64_t n = LINE;
    uint8_t *buf, *next;

    if (argc > 2 || (argc == 2 && !parse_size(argv[1], &n)) || n == 0 || n > BYTES_MAX)
        die(2, "usage: random [N]    N: 1 to 1M bytes");
    buf = calloc(n, 1);
    next = calloc(n, 1);
    if (!buf || !next)
        die(1, "no memory");
    fill(buf, n);
    fill(next, n);
    for (size_t i = 0; i < n; i++)
        printf("%02x%s", buf[i], (i + 1) % LINE == 0 || i + 1 == n ? "\n" : "");
    if (n >= JUDGED_MIN && all_equal(buf, n))
        die(1, "all %lu bytes are equal: they are not random", n);
    if (n >= JUDGED_MIN && memcmp(buf, next, n) == 0)
        die(1, "the next %lu bytes are the same: they are not random", n);
    free(buf);
    free(next);
    return 0;
}
