/*
 * A VM's life from its first instruction to its end: threads, pause, and vm_end(),
 * through which every way out goes.
 */
#include "vmm/vm_impl.h"
#include "vmm/clock.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

/* How long vm_pause() waits for a vCPU that is busy in a device. */
#define PAUSE_PATIENCE_S 2

static void *io_main(void *arg)
{
    io_loop_run(arg);
    return NULL;
}

static int io_start(struct vm *vm, struct error *err)
{
    int rc = pthread_create(&vm->io_thread, NULL, io_main, vm->loop);

    if (rc != 0)
        return error_set(err, -rc, "can't start the I/O thread: %s", strerror(rc));
    vm->io_started = true;
    (void)pthread_setname_np(vm->io_thread, "io");
    return 0;
}

/*
 * With --lock the monitor's own memory is, too: what vCPU threads touch between two exits. It is a
 * small part beside the guest's, and no promise: where the limit doesn't allow it, the guest runs.
 */
static void lock_monitor(const struct vm *vm)
{
    if (vm->cfg->pages.lock)
        (void)mlockall(MCL_CURRENT | MCL_FUTURE);
}

int vm_start(struct vm *vm, struct error *err)
{
    int rc = vm_events_start(vm, err);

    if (rc == 0)
        console_start(vm->con);
    if (rc == 0)
        rc = io_start(vm, err);
    lock_monitor(vm);
    (void)pthread_mutex_lock(&vm->lock);
    if (rc == 0 && vm->state == VM_CREATED)
        vm->state = VM_RUNNING;
    /* Held until all run: a vCPU that is not started yet can't be kicked. */
    for (unsigned i = 0; rc == 0 && i < vm->vcpus; i++)
        rc = vcpu_start(&vm->vcpu[i], err);
    (void)pthread_mutex_unlock(&vm->lock);
    if (rc < 0) {
        struct vm_result ignored;

        vm_end(vm, VM_END_ERROR, 0, "a thread could not be started");
        vm_wait(vm, &ignored);
    }
    return rc;
}

void vm_end(struct vm *vm, enum vm_end end, uint32_t exit_value, const char *why)
{
    (void)pthread_mutex_lock(&vm->lock);
    if (vm->state != VM_ENDED) {
        vm->state = VM_ENDED;
        vm->end_ns = now_ns();
        vm->result.end = end;
        vm->result.exit_value = exit_value;
        (void)snprintf(vm->result.why, sizeof(vm->result.why), "%s", why ? why : "");
        for (unsigned i = 0; i < vm->vcpus; i++)
            vcpu_kick(&vm->vcpu[i]);
        if (vm->con) /* the fault thread may fail before there is one */
            console_release(vm->con);
        (void)pthread_cond_broadcast(&vm->changed);
    }
    (void)pthread_mutex_unlock(&vm->lock);
}

void vm_wait(struct vm *vm, struct vm_result *result)
{
    (void)pthread_mutex_lock(&vm->lock);
    while (vm->state != VM_ENDED)
        (void)pthread_cond_wait(&vm->changed, &vm->lock);
    (void)pthread_mutex_unlock(&vm->lock);

    for (unsigned i = 0; i < vm->vcpus; i++) {
        if (vm->vcpu[i].started)
            (void)pthread_join(vm->vcpu[i].thread, NULL);
        vm->vcpu[i].started = false;
    }
    /* The loop goes last: until here it served the output of the vCPUs. */
    if (vm->io_started) {
        io_loop_stop(vm->loop);
        (void)pthread_join(vm->io_thread, NULL);
        vm->io_started = false;
    }
    *result = vm->result;
}

static bool all_parked(const struct vm *vm)
{
    for (unsigned i = 0; i < vm->vcpus; i++)
        if (!vm->vcpu[i].parked)
            return false;
    return true;
}

int vm_pause(struct vm *vm)
{
    struct timespec until;
    int rc = 0;

    (void)clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += PAUSE_PATIENCE_S;
    (void)pthread_mutex_lock(&vm->lock);
    if (vm->state == VM_RUNNING) {
        vm->state = VM_PAUSED;
        for (unsigned i = 0; i < vm->vcpus; i++)
            vcpu_kick(&vm->vcpu[i]);
    }
    while (vm->state == VM_PAUSED && !all_parked(vm) && rc == 0)
        rc = pthread_cond_timedwait(&vm->changed, &vm->lock, &until);
    if (vm->state == VM_PAUSED && !all_parked(vm)) {
        vm->state = VM_RUNNING;
        (void)pthread_cond_broadcast(&vm->changed);
        rc = -EBUSY;
    } else {
        rc = vm->state == VM_PAUSED ? 0 : -ESRCH;
    }
    (void)pthread_mutex_unlock(&vm->lock);
    if (rc == 0) /* devices write to memory, too; no vCPU can give them anything now */
        vm_devices_hold(vm->devices, true);
    return rc;
}

int vm_resume(struct vm *vm)
{
    int rc = 0;

    (void)pthread_mutex_lock(&vm->lock);
    if (vm->state == VM_PAUSED) {
        vm_devices_hold(vm->devices, false);
        vm->state = VM_RUNNING;
        (void)pthread_cond_broadcast(&vm->changed);
    } else if (vm->state != VM_RUNNING) {
        rc = -ESRCH;
    }
    (void)pthread_mutex_unlock(&vm->lock);
    return rc;
}

int vm_hold(struct vm *vm, bool *held)
{
    *held = vm_state(vm) == VM_RUNNING;
    return vm_pause(vm);
}

void vm_let_go(struct vm *vm, bool held)
{
    if (held)
        (void)vm_resume(vm); /* fails only when the VM has ended */
}
