#include <errno.h>

#include "tools/lab.h"

int lab_bochs_start(struct lab_machine *m, struct lab_work *work, const struct lab_options *opt,
                    struct error *err)
{
    (void)m;
    (void)work;
    (void)opt;
    return error_set(err, -ENOSYS, "not yet");
}

void lab_bochs_stop(struct lab_machine *m)
{
    (void)m;
}
