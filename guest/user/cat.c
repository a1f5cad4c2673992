/*
 * cat: copies what is typed to the output, until Ctrl-D.
 */
#include "guest/user/lib/lib.h"

#define CTRL_D 4

int main(void)
{
    char buf[256] = { 0 };

    for (;;) {
        long n = sys_read(SYS_STDIN, buf, sizeof buf);

        if (n < 0)
            die(1, "read: error %ld", -n);
        for (long i = 0; i < n; i++) {
            if (buf[i] == CTRL_D)
                return 0;
            if (buf[i] == '\r') /* what a terminal's Enter key sends */
                buf[i] = '\n';
            write_out(buf + i, 1);
        }
        flush();
    }
}
