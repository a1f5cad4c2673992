/* A process whose memory a device has no business in. */
#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tools/isolate_vfio.h"
#include "vmm/pagemap.h"

#define PAGE 4096u

struct answer {
    int rc;
    uint64_t hpa, sum;
};

/* Answers how many bytes are to be summed with where they are and their sum. */
static _Noreturn void live(int fd, int memory)
{
    uint8_t *page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, memory, 0);
    uint32_t len;

    if (page == MAP_FAILED || mlock(page, PAGE))
        _exit(1);
    for (unsigned i = 0; i < PAGE; i++)
        page[i] = (uint8_t)(i * 31 + (i >> 8) + 7);
    while (recv(fd, &len, sizeof(len), 0) == sizeof(len) && len <= PAGE) {
        struct answer a = { .rc = 0 };
        hpa_t at;

        a.rc = pagemap_frame((hva_t){ (uintptr_t)page }, &at);
        a.hpa = a.rc ? 0 : at.v;
        a.sum = isolate_sum(page, len);
        if (send(fd, &a, sizeof(a), MSG_NOSIGNAL) != sizeof(a))
            break;
    }
    _exit(0);
}

int isolate_victim_start(struct isolate_victim *v, struct error *err)
{
    int pair[2], parent = getpid();

    *v = (struct isolate_victim){ .pid = -1, .socket = -1 };
    v->memory = memfd_create("twofold victim", MFD_CLOEXEC);
    if (v->memory < 0 || ftruncate(v->memory, PAGE) ||
        socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair))
        return error_set(err, -errno, "no second process with memory of its own: %s",
                         strerror(errno));
    (void)fflush(NULL);
    v->pid = fork();
    if (v->pid == 0) {
        close(pair[0]);
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
        if (getppid() == parent)
            live(pair[1], v->memory);
        _exit(1);
    }
    close(pair[1]);
    v->socket = pair[0];
    if (v->pid < 0)
        return error_set(err, -errno, "no second process: %s", strerror(errno));
    return 0;
}

void isolate_victim_end(struct isolate_victim *v)
{
    if (v->socket >= 0)
        close(v->socket);
    if (v->memory >= 0)
        close(v->memory);
    if (v->pid > 0)
        (void)waitpid(v->pid, NULL, 0);
    *v = (struct isolate_victim){ .pid = -1, .socket = -1, .memory = -1 };
}

int isolate_victim_ask(const struct isolate_victim *v, size_t len, uint64_t *hpa, uint64_t *sum,
                       struct error *err)
{
    uint32_t n = (uint32_t)len;
    struct answer a;

    if (send(v->socket, &n, sizeof(n), MSG_NOSIGNAL) != sizeof(n) ||
        recv(v->socket, &a, sizeof(a), 0) != sizeof(a))
        return error_set(err, -EIO, "the process whose memory is aimed at has died");
    if (a.rc)
        return error_set(err, a.rc, "physical addresses are shown only to root: %s",
                         strerror(-a.rc));
    *hpa = a.hpa;
    *sum = a.sum;
    return 0;
}
