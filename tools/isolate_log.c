/* What the kernel says of an IOMMU's faults: there is no other way to it on x86. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "tools/isolate_vfio.h"

#define WAIT_MS 500

void isolate_log_open(struct isolate_log *l, const char *bdf)
{
    const char *colon = strchr(bdf, ':');

    (void)snprintf(l->device, sizeof(l->device), "%.15s", colon ? colon + 1 : bdf);
    l->fd = open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    isolate_log_skip(l);
}

void isolate_log_close(struct isolate_log *l)
{
    if (l->fd >= 0)
        close(l->fd);
    l->fd = -1;
}

void isolate_log_skip(struct isolate_log *l)
{
    if (l->fd >= 0)
        (void)lseek(l->fd, 0, SEEK_END);
}

/* A record is "PRIORITY,NUMBER,TIME,FLAGS;TEXT\n" and lines of properties (dev-kmsg). */
static bool is_fault(const struct isolate_log *l, char *record, char *out, size_t size)
{
    char *text = strchr(record, ';');

    if (!text)
        return false;
    text++;
    text[strcspn(text, "\n")] = '\0';
    /* VT-d: "DMAR: [DMA Write NO_PASID] Request device [00:04.0] fault addr 0x400000 ...";
     * AMD-Vi: "AMD-Vi: Event logged [IO_PAGE_FAULT device=00:04.0 ...". */
    if (!strstr(text, l->device) || (!strstr(text, "fault") && !strstr(text, "FAULT")))
        return false;
    (void)snprintf(out, size, "%s", text);
    return true;
}

bool isolate_log_fault(struct isolate_log *l, char *out, size_t size)
{
    struct pollfd p = { .fd = l->fd, .events = POLLIN };
    char record[2048];

    out[0] = '\0';
    while (l->fd >= 0) {
        ssize_t n = read(l->fd, record, sizeof(record) - 1);

        if (n > 0) {
            record[n] = '\0';
            if (is_fault(l, record, out, size))
                return true;
        } else if (n < 0 && errno == EAGAIN) {
            if (poll(&p, 1, WAIT_MS) <= 0)
                return false;
        } else if (n == 0 ||
                   (errno != EPIPE && errno != EINTR)) { /* EPIPE: some were overwritten */
            return false;
        }
    }
    return false;
}
