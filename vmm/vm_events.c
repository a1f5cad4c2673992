#include "vmm/vm_impl.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

void vm_end_signals(sigset_t *mask)
{
    static const int signals[] = { SIGTERM, SIGINT, SIGHUP, SIGQUIT };
    struct sigaction now;

    sigemptyset(mask);
    /* Those that our parent made ignored stay so: a blocked signal is kept nevertheless. */
    for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++)
        if (sigaction(signals[i], NULL, &now) < 0 || now.sa_handler != SIG_IGN)
            sigaddset(mask, signals[i]);
}

static void kick_handler(int sig)
{
    (void)sig; /* only there to interrupt KVM_RUN */
}

int vm_signals_take(struct vm *vm, struct error *err)
{
    struct sigaction kick = { .sa_handler = kick_handler };
    struct sigaction ignore = { .sa_handler = SIG_IGN };
    sigset_t mask;

    vm_end_signals(&mask);
    sigemptyset(&kick.sa_mask);
    sigemptyset(&ignore.sa_mask);
    if (sigaction(VCPU_KICK_SIGNAL, &kick, &vm->old_kick) < 0)
        return error_set(err, -errno, "can't set a signal handler: %s", strerror(errno));
    /* A console whose reader is gone is an error of write(), not the end of the monitor. */
    (void)sigaction(SIGPIPE, &ignore, &vm->old_pipe);
    (void)pthread_sigmask(SIG_BLOCK, &mask, &vm->old_mask);
    vm->signals_taken = true;
    return 0;
}

void vm_signals_give_back(struct vm *vm)
{
    const struct timespec now = { 0 };
    sigset_t mask;

    if (!vm->signals_taken)
        return;
    /* What came after the VM's end has done what it asked for. */
    vm_end_signals(&mask);
    if (vm->result.end != VM_END_NONE)
        while (sigtimedwait(&mask, NULL, &now) > 0)
            ;
    (void)pthread_sigmask(SIG_SETMASK, &vm->old_mask, NULL);
    (void)sigaction(SIGPIPE, &vm->old_pipe, NULL);
    (void)sigaction(VCPU_KICK_SIGNAL, &vm->old_kick, NULL);
    vm->signals_taken = false;
}

static void on_signal(void *ctx, int fd, uint32_t events)
{
    struct signalfd_siginfo info;
    char why[64];

    (void)events;
    if (read(fd, &info, sizeof(info)) != (ssize_t)sizeof(info))
        return;
    (void)snprintf(why, sizeof(why), "signal %s", sigabbrev_np((int)info.ssi_signo));
    vm_end(ctx, VM_END_STOPPED, 0, why);
}

static void on_timeout(void *ctx, int fd, uint32_t events)
{
    struct vm *vm = ctx;
    uint64_t times;
    char why[64];

    (void)events;
    if (read(fd, &times, sizeof(times)) != (ssize_t)sizeof(times))
        return;
    (void)snprintf(why, sizeof(why), "time-out after %g s", vm->cfg->timeout_s);
    vm_end(vm, VM_END_TIMEOUT, 0, why);
}

static int watch(struct vm *vm, int fd, io_callback cb, const char *what, struct error *err)
{
    int rc = fd < 0 ? -errno : io_loop_add(vm->loop, fd, EPOLLIN, cb, vm);

    return rc < 0 ? error_set(err, rc, "can't watch for %s: %s", what, strerror(-rc)) : 0;
}

int vm_events_start(struct vm *vm, struct error *err)
{
    double seconds = vm->cfg->timeout_s, whole;
    struct itimerspec when = { 0 };
    sigset_t mask;
    int rc;

    vm_end_signals(&mask);
    vm->signal_fd = signalfd(-1, &mask, SFD_CLOEXEC | SFD_NONBLOCK);
    rc = watch(vm, vm->signal_fd, on_signal, "signals", err);
    if (rc < 0 || !(seconds > 0))
        return rc;

    vm->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    rc = watch(vm, vm->timer_fd, on_timeout, "the time-out", err);
    if (rc < 0)
        return rc;
    seconds = modf(seconds, &whole);
    when.it_value.tv_sec = (time_t)whole;
    when.it_value.tv_nsec = (long)(seconds * 1e9);
    if (when.it_value.tv_sec == 0 && when.it_value.tv_nsec == 0)
        when.it_value.tv_nsec = 1;
    if (timerfd_settime(vm->timer_fd, 0, &when, NULL) < 0)
        return error_set(err, -errno, "can't set a time-out of %g s: %s", vm->cfg->timeout_s,
                         strerror(errno));
    return 0;
}

void vm_events_stop(struct vm *vm)
{
    int *fds[] = { &vm->signal_fd, &vm->timer_fd };

    for (size_t i = 0; i < sizeof(fds) / sizeof(fds[0]); i++) {
        if (*fds[i] < 0)
            continue;
        io_loop_remove(vm->loop, *fds[i]);
        (void)close(*fds[i]);
        *fds[i] = -1;
    }
}
