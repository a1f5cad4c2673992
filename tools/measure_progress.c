/*
 * A line on a terminal that says how far it is: of the plan, and in time.
 */
#include <inttypes.h>
#include <unistd.h>

#include "tools/measure_impl.h"
#include "tools/table.h"
#include "vmm/clock.h"

#define BAR     30
#define LOOK_NS UINT64_C(200000000)

static uint64_t shown_ns;

static void describe(const struct measure_unit *u, char *text, size_t size)
{
    char footprint[32];

    if (u->load)
        (void)snprintf(text, size, "%s, %s", u->load->name, measure_paging_name(u->paging));
    else if (u->paging == MEASURE_NATIVE)
        (void)snprintf(text, size, "%s, native %" PRIu64 "K",
                       format_bytes(u->footprint, footprint, sizeof(footprint)),
                       u->host_page >> 10);
    else
        (void)snprintf(text, size, "%s, %s %" PRIu64 "K on %" PRIu64 "K",
                       format_bytes(u->footprint, footprint, sizeof(footprint)),
                       measure_paging_name(u->paging), u->guest_page >> 10, u->host_page >> 10);
}

/* What is left takes as long as what was, in proportion. */
void measure_progress(const struct measure_run *m, const struct measure_unit *u, double done)
{
    uint64_t now = now_ns(), spent = now - m->start_ns, left, limit;
    char bar[BAR + 1], what[80], time[32];

    if (m->options->quiet || !isatty(STDERR_FILENO) || now - shown_ns < LOOK_NS)
        return;
    shown_ns = now;
    done = m->plan.n ? done / (double)m->plan.n : 0;
    done = done < 0.02 ? 0.02 : done;
    left = (uint64_t)((double)spent / done * (1 - done));
    limit = m->end_ns > now ? m->end_ns - now : 0;
    if (m->end_ns && left > limit)
        left = limit;
    for (size_t i = 0; i < BAR; i++)
        bar[i] = (double)i < done * BAR ? '#' : '.';
    bar[BAR] = '\0';
    describe(u, what, sizeof(what));
    (void)fprintf(stderr, "\r[%s] %-36.36s about %s left\033[K", bar, what,
                  format_seconds((double)left / 1e9, time, sizeof(time)));
}

void measure_progress_end(void)
{
    if (shown_ns)
        (void)fputs("\r\033[K", stderr);
    shown_ns = 0;
}
