#include "vmm/vm_impl.h"
#include "vmm/clock.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#define CR0_PE (1u << 0)
#define CR0_ET (1u << 4)

#define MSR_MISC_ENABLE   0x1a0
#define MISC_FAST_STRINGS (1u << 0)
#define MSR_MTRR_DEF_TYPE 0x2ff
#define MTRR_ENABLED      (1u << 11)
#define MTRR_WRITE_BACK   6u

/* Most of it is never touched; ASan's frames are larger. */
#ifdef __SANITIZE_ADDRESS__
#define STACK_BYTES (1024 * 1024)
#else
#define STACK_BYTES (128 * 1024)
#endif

static int ask(struct vcpu *cpu, unsigned long request, void *arg, const char *what,
               struct error *err)
{
    if (ioctl(cpu->fd, request, arg) < 0)
        return error_set(err, -errno, "KVM: %s of vCPU %u: %s", what, cpu->id, strerror(errno));
    return 0;
}

/* What firmware leaves behind: strings are fast, memory is write-back without any MTRR. */
static int set_msrs(struct vcpu *cpu, struct error *err)
{
    const struct kvm_msr_entry values[] = {
        { .index = MSR_MTRR_DEF_TYPE, .data = MTRR_ENABLED | MTRR_WRITE_BACK },
        { .index = MSR_MISC_ENABLE, .data = MISC_FAST_STRINGS },
    };
    struct kvm_msrs *msrs = calloc(1, sizeof(*msrs) + sizeof(values));
    int rc;

    if (!msrs)
        return error_set(err, -ENOMEM, "no memory for the MSRs of vCPU %u", cpu->id);
    msrs->nmsrs = sizeof(values) / sizeof(values[0]);
    memcpy(msrs->entries, values, sizeof(values));
    /* Fewer than asked for is fine: a CPU model may lack the last one. */
    rc = ask(cpu, KVM_SET_MSRS, msrs, "setting MSRs", err);
    free(msrs);
    return rc;
}

static struct kvm_segment flat_segment(uint16_t selector, uint8_t type)
{
    return (struct kvm_segment){
        .limit = 0xffffffff,
        .selector = selector,
        .type = type,
        .present = 1,
        .db = 1,
        .s = 1,
        .g = 1,
    };
}

/*
 * 32-bit protected mode with flat segments and paging off: "x86/HVM direct boot
 * ABI", "Initial state" for PVH, and Multiboot 0.6.96, "Machine state".
 */
static int set_boot_state(struct vcpu *cpu, const struct boot_entry *entry, struct error *err)
{
    struct kvm_regs regs = {
        .rip = entry->eip,
        .rax = entry->eax,
        .rbx = entry->ebx,
        .rflags = 2, /* bit 1 reads as one always */
    };
    struct kvm_sregs sregs;
    int rc = ask(cpu, KVM_GET_SREGS, &sregs, "reading registers", err);

    if (rc < 0)
        return rc;
    sregs.cs = flat_segment(0x10, 0xb);
    sregs.ds = sregs.es = sregs.fs = sregs.gs = sregs.ss = flat_segment(0x18, 0x3);
    sregs.tr = (struct kvm_segment){ .limit = 0x67, .type = 0xb, .present = 1 };
    sregs.ldt = (struct kvm_segment){ .unusable = 1 };
    sregs.gdt = (struct kvm_dtable){ 0 };
    sregs.idt = (struct kvm_dtable){ 0 };
    sregs.cr0 = CR0_PE | CR0_ET;
    sregs.cr4 = 0;
    sregs.efer = 0;
    rc = ask(cpu, KVM_SET_SREGS, &sregs, "setting the first registers", err);
    return rc < 0 ? rc : ask(cpu, KVM_SET_REGS, &regs, "setting the first registers", err);
}

int vcpu_create(struct vm *vm, unsigned id, struct error *err)
{
    struct vcpu *cpu = &vm->vcpu[id];
    void *run;
    int rc;

    cpu->vm = vm;
    cpu->id = id;
    cpu->fd = ioctl(vm->fd, KVM_CREATE_VCPU, (unsigned long)id);
    if (cpu->fd < 0)
        return error_set(err, -errno, "KVM can't create vCPU %u: %s", id, strerror(errno));
    run = mmap(NULL, vm->kvm.run_size, PROT_READ | PROT_WRITE, MAP_SHARED, cpu->fd, 0);
    if (run == MAP_FAILED) {
        rc =
            error_set(err, -errno, "can't map the shared area of vCPU %u: %s", id, strerror(errno));
        goto fail;
    }
    cpu->run = run;
    /* RIP for the trace without a further ioctl; not when nobody asks, it costs a copy an exit. */
    if (vm->cfg->trace && kvm_cap(&vm->kvm, KVM_CAP_SYNC_REGS) & KVM_SYNC_X86_REGS)
        cpu->run->kvm_valid_regs = KVM_SYNC_X86_REGS;
    rc = cpuid_apply(vm->cpuid, cpu->fd, id, err);
    if (rc == 0)
        rc = set_msrs(cpu, err);
    /* The others stay where reset left them and wait for INIT and SIPI, inside of KVM_RUN. */
    if (rc == 0 && id == 0)
        rc = set_boot_state(cpu, &vm->entry, err);
    if (rc == 0 && vm->depriv)
        rc = depriv_cpu_create(&cpu->depriv, vm->depriv, cpu, err);
    if (rc == 0)
        return 0;
fail:
    vcpu_destroy(cpu);
    return rc;
}

void vcpu_destroy(struct vcpu *cpu)
{
    depriv_cpu_destroy(cpu->depriv);
    cpu->depriv = NULL;
    if (cpu->run)
        (void)munmap(cpu->run, cpu->vm->kvm.run_size);
    cpu->run = NULL;
    if (cpu->fd >= 0)
        (void)close(cpu->fd);
    cpu->fd = -1;
}

void vcpu_kick(struct vcpu *cpu)
{
    /*
     * The flag stops the next entry; the signal ends the current one. The flag is
     * written first: a thread between the two sees at least one of them.
     */
    __atomic_store_n(&cpu->run->immediate_exit, 1, __ATOMIC_RELEASE);
    if (cpu->started)
        (void)pthread_kill(cpu->thread, VCPU_KICK_SIGNAL);
}

/* After a kick: parks while the VM is paused. Returns false when the VM has ended. */
static bool wait_to_run(struct vcpu *cpu)
{
    struct vm *vm = cpu->vm;
    bool on;

    (void)pthread_mutex_lock(&vm->lock);
    while (vm->state == VM_PAUSED) {
        cpu->parked = true;
        (void)pthread_cond_broadcast(&vm->changed);
        (void)pthread_cond_wait(&vm->changed, &vm->lock);
    }
    cpu->parked = false;
    on = vm->state == VM_RUNNING;
    if (on)
        __atomic_store_n(&cpu->run->immediate_exit, 0, __ATOMIC_RELAXED);
    (void)pthread_mutex_unlock(&vm->lock);
    return on;
}

static void add(uint64_t *counter, uint64_t n)
{
    __atomic_store_n(counter, *counter + n, __ATOMIC_RELAXED);
}

/* KVM_RUN failed with `code`. Returns false when the vCPU is done. */
static bool run_failed(struct vcpu *cpu, int code, uint64_t tsc)
{
    char what[128];

    switch (code) {
    case EINTR:
        cpu->run->exit_reason = KVM_EXIT_INTR; /* not all KVMs say so themselves */
        vcpu_handle_exit(cpu, tsc);
        return wait_to_run(cpu);
    case EAGAIN: /* an AP got its INIT or SIPI; the next entry runs it */
        return true;
    case EFAULT:
        if (!guard_explain(cpu, code, what, sizeof(what)))
            (void)snprintf(what, sizeof(what),
                           "the host can't give the memory that the guest touched");
        break;
    default:
        (void)snprintf(what, sizeof(what), "KVM_RUN failed: %s", strerror(code));
        break;
    }
    dump_crash(cpu, what, code);
    return false;
}

int vcpu_kvm_run(struct vcpu *cpu, uint64_t *tsc)
{
    uint64_t enter = vm_tsc();
    int rc;

    __atomic_store_n(&cpu->tsc_enter, enter, __ATOMIC_RELAXED);
    rc = ioctl(cpu->fd, KVM_RUN, 0) < 0 ? -errno : 0;
    *tsc = vm_tsc();
    __atomic_store_n(&cpu->tsc_enter, 0, __ATOMIC_RELAXED);
    if (*tsc > enter)
        add(&cpu->stat.run_ns, *tsc - enter);
    return rc;
}

int vcpu_registers(const struct vcpu *cpu, struct kvm_regs *regs, struct kvm_sregs *sregs)
{
    if (cpu->depriv) {
        depriv_registers(cpu->depriv, regs, sregs);
        return 0;
    }
    return ioctl(cpu->fd, KVM_GET_REGS, regs) < 0 || ioctl(cpu->fd, KVM_GET_SREGS, sregs) < 0
               ? -errno
               : 0;
}

static void *vcpu_main(void *arg)
{
    struct vcpu *cpu = arg;
    bool on = wait_to_run(cpu);

    thread_faults_start(&cpu->faults);
    if (cpu->id == 0)
        __atomic_store_n(&cpu->vm->first_run_ns, now_ns(), __ATOMIC_RELAXED);
    while (on) {
        uint64_t leave = 0;
        int rc = cpu->depriv ? depriv_round(cpu->depriv, &leave) : vcpu_kvm_run(cpu, &leave);

        if (rc == 0)
            vcpu_handle_exit(cpu, leave);
        else if (rc < 0)
            on = run_failed(cpu, -rc, leave ? leave : vm_tsc());
    }
    thread_faults_stop(&cpu->faults);
    return NULL;
}

int vcpu_start(struct vcpu *cpu, struct error *err)
{
    pthread_attr_t attr;
    char name[16];
    int rc = pthread_attr_init(&attr);

    if (rc == 0) {
        (void)pthread_attr_setstacksize(&attr, STACK_BYTES);
        rc = pthread_create(&cpu->thread, &attr, vcpu_main, cpu);
        (void)pthread_attr_destroy(&attr);
    }
    if (rc != 0)
        return error_set(err, -rc, "can't start the thread of vCPU %u: %s", cpu->id, strerror(rc));
    cpu->started = true;
    (void)snprintf(name, sizeof(name), "vcpu%u", cpu->id);
    (void)pthread_setname_np(cpu->thread, name);
    return 0;
}
