#include "vmm/vm_impl.h"
#include "vmm/clock.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "guest/abi.h"
#include "vmm/acpi.h"
#include "vmm/mailbox.h"
#include "vmm/pit.h"

/* Outside of RAM, below the BIOS; docs/memory-map.md. */
#define IDENTITY_MAP_ADDR UINT64_C(0xfffbc000)
#define TSS_ADDR          UINT64_C(0xfffbd000) /* three pages */

uint64_t vm_ticks_to_ns(const struct vm *vm, uint64_t ticks)
{
    uint64_t ns, tsc;

    if (vm->tsc_khz)
        return (uint64_t)((double)ticks * 1e6 / (double)vm->tsc_khz);
    ns = now_ns() - vm->create_ns;
    tsc = vm_tsc() - vm->create_tsc;
    return tsc ? (uint64_t)((double)ticks * ((double)ns / (double)tsc)) : 0;
}

/* --- what the devices are given ------------------------------------------------ */

static void irq_set(void *ctx, unsigned gsi, int level)
{
    struct vm *vm = ctx;
    struct kvm_irq_level irq = { .irq = gsi, .level = (uint32_t)level };

    /* Fails only for a line that the interrupt controllers don't have. */
    (void)ioctl(vm->fd, KVM_IRQ_LINE, &irq);
}

static void device_end(void *ctx, enum vm_end end, uint32_t value, const char *why)
{
    vm_end(ctx, end, value, why);
}

static bool console_typed(void *ctx, const unsigned char *buf, size_t len)
{
    struct vm *vm = ctx;

    return serial_input(vm->serial, buf, len);
}

static void console_left(void *ctx, const char *why)
{
    vm_end(ctx, VM_END_STOPPED, 0, why);
}

/* Guest memory can't be served any more; from the fault thread. */
static void pages_failed(void *ctx, const char *why)
{
    vm_end(ctx, VM_END_ERROR, 0, why);
}

/* --- creation, in the order of vm_create() ----------------------------------------- */

static int cpus_check(struct vm *vm, struct error *err)
{
    unsigned cpus = vm->cfg->cpus, max = VM_CPUS_MAX;

    if (vm->kvm.max_vcpus < max)
        max = vm->kvm.max_vcpus;
    if (vm->kvm.max_vcpu_id < max)
        max = vm->kvm.max_vcpu_id;
    if (cpus == 0 || cpus > max)
        return error_set(err, -EINVAL, "%u vCPUs are not possible: use 1 to %u%s", cpus, max,
                         max < VM_CPUS_MAX ? ", this KVM's limit" : "");
    return 0;
}

/* The VM and its memory. */
static int kvm_vm_create(struct vm *vm, struct error *err)
{
    uint64_t identity = IDENTITY_MAP_ADDR;

    do {
        vm->fd = ioctl(vm->kvm.fd, KVM_CREATE_VM, 0);
    } while (vm->fd < 0 && errno == EINTR);
    if (vm->fd < 0)
        return error_set(err, -errno, "KVM can't create a VM: %s", strerror(errno));
    /* Scratch pages of Intel's real mode; before any vCPU. */
    if (kvm_cap(&vm->kvm, KVM_CAP_SET_IDENTITY_MAP_ADDR) &&
        ioctl(vm->fd, KVM_SET_IDENTITY_MAP_ADDR, &identity) < 0)
        return error_set(err, -errno, "KVM: identity map page: %s", strerror(errno));
    if (kvm_cap(&vm->kvm, KVM_CAP_SET_TSS_ADDR) &&
        ioctl(vm->fd, KVM_SET_TSS_ADDR, (unsigned long)TSS_ADDR) < 0)
        return error_set(err, -errno, "KVM: TSS pages: %s", strerror(errno));
    return memory_register(vm->mem, vm->fd, err);
}

/*
 * The interrupt controllers, in the kernel. After the memory slots: each port
 * range of KVM's leaves an RCU grace period pending, and a change of the slots
 * waits for it, 7 ms.
 */
static int kvm_irqchip_create(struct vm *vm, struct error *err)
{
    if (ioctl(vm->fd, KVM_CREATE_IRQCHIP, 0) < 0)
        return error_set(err, -errno,
                         "KVM has no interrupt controllers in the kernel (KVM_CREATE_IRQCHIP): %s",
                         strerror(errno));
    if (!kvm_cap(&vm->kvm, KVM_CAP_PIT2))
        return error_set(err, -ENOTSUP, "KVM has no timer in the kernel (KVM_CREATE_PIT2)");
    return 0;
}

static int memory_fits(struct vm *vm, struct error *err)
{
    unsigned bits = cpuid_phys_bits(vm->cpuid);
    size_t count;
    const struct mem_slot *slots = memory_slots(vm->mem, &count);
    uint64_t last = slots[count - 1].base.v + slots[count - 1].size - 1;

    if (bits < 64 && last >> bits)
        return error_set(err, -EINVAL,
                         "%" PRIu64 " MiB of guest memory end beyond the %u bits of physical "
                         "address that this CPU has",
                         vm->cfg->mem_bytes >> 20, bits);
    return 0;
}

static int devices_create(struct vm *vm, struct error *err)
{
    struct irq_line com1 = { .set = irq_set, .ctx = vm, .gsi = 4 };
    struct irq_line mail = { .set = irq_set, .ctx = vm, .gsi = TF_MAILBOX_IRQ };
    int rc = serial_create(&vm->serial, vm->bus, com1, vm->con, err);

    vm->end_hook = (struct end_hook){ .end = device_end, .ctx = vm };
    if (rc == 0)
        rc = debug_exit_create(vm->bus, &vm->end_hook, err);
    if (rc == 0)
        rc = platform_create(&vm->platform, vm->bus, &vm->end_hook, err);
    if (rc == 0)
        rc = pit_create(&vm->pit, vm->bus, vm->fd, &vm->end_hook, err);
    if (rc == 0)
        rc = pv_port_create(&vm->pv, vm->bus, vm->mem, vm->con, err);
    if (rc == 0)
        rc = mailbox_create(&vm->mailbox, vm->bus, vm->mem, mail, err);
    if (rc == 0)
        rc = vm_devices_create(&vm->devices, vm, err);
    if (rc == 0)
        console_on_input(vm->con, console_typed, console_left, vm);
    return rc;
}

static int image_load(struct vm *vm, struct error *err)
{
    struct boot_request request = {
        .kernel = vm->cfg->kernel,
        .initrd = vm->cfg->initrd,
        .cmdline = vm->cfg->cmdline,
    };
    struct acpi_config acpi = { .cpus = vm->cfg->cpus };
    int rc;

    vm_devices_window(vm, &acpi.wide_base, &acpi.wide_size);
    vm_devices_viot(vm->devices, &acpi.viot);
    rc = acpi_build(vm->mem, &acpi, &request.rsdp, err);
    return rc < 0 ? rc : boot_load(vm->mem, &request, &vm->entry, err);
}

static int vcpus_create(struct vm *vm, struct error *err)
{
    int rc = 0;

    vm->vcpu = aligned_alloc(_Alignof(struct vcpu), vm->cfg->cpus * sizeof(*vm->vcpu));
    if (!vm->vcpu)
        return error_set(err, -ENOMEM, "no memory for %u vCPUs", vm->cfg->cpus);
    memset(vm->vcpu, 0, vm->cfg->cpus * sizeof(*vm->vcpu));
    while (rc == 0 && vm->vcpus < vm->cfg->cpus) {
        rc = vcpu_create(vm, vm->vcpus, err);
        if (rc == 0)
            vm->vcpus++;
    }
    if (rc == 0) {
        int khz = ioctl(vm->vcpu[0].fd, KVM_GET_TSC_KHZ, 0);

        vm->tsc_khz = khz > 0 ? (uint64_t)khz : 0;
    }
    return rc;
}

static int vm_build(struct vm *vm, struct error *err)
{
    const struct vm_config *cfg = vm->cfg;
    int rc = kvm_open(&vm->kvm, err);

    if (rc == 0)
        rc = cpus_check(vm, err);
    if (rc == 0)
        rc = vm_signals_take(vm, err);
    if (rc == 0)
        rc = cpuid_create(&vm->cpuid, &vm->kvm, cfg->cpus, err);
    if (rc == 0 && cfg->paging == PAGING_SHADOW)
        depriv_cpuid(vm->cpuid);
    if (rc == 0)
        rc = memory_create(&vm->mem, cfg->mem_bytes, cfg->backing, err);
    if (rc == 0)
        rc = memory_fits(vm, err);
    if (rc == 0)
        rc = numa_place(vm->mem, &cfg->numa, err);
    if (rc == 0)
        rc = pages_create(&vm->pages, vm->mem, &cfg->pages, pages_failed, vm, err);
    if (rc == 0)
        rc = kvm_vm_create(vm, err);
    if (rc == 0 && cfg->paging == PAGING_SHADOW)
        rc = depriv_create(&vm->depriv, vm, err);
    if (rc == 0)
        rc = track_create(&vm->track, vm->pages, vm->fd, err);
    if (rc == 0)
        rc = kvm_irqchip_create(vm, err);
    if (rc == 0)
        rc = bus_create(&vm->bus, err);
    if (rc == 0)
        rc = io_loop_create(&vm->loop, err);
    if (rc == 0)
        rc = console_create(&vm->con, cfg->console, cfg->console_path, vm->loop, err);
    if (rc == 0)
        rc = devices_create(vm, err);
    if (rc == 0)
        rc = image_load(vm, err);
    return rc == 0 ? vcpus_create(vm, err) : rc;
}

int vm_create(struct vm **out, const struct vm_config *cfg, struct error *err)
{
    struct vm *vm = calloc(1, sizeof(*vm));
    pthread_condattr_t attr;
    int rc;

    *out = NULL;
    if (!vm)
        return error_set(err, -ENOMEM, "no memory for a VM");
    vm->create_ns = now_ns();
    vm->create_tsc = vm_tsc();
    vm->cfg = cfg;
    vm->fd = vm->kvm.fd = vm->signal_fd = vm->timer_fd = -1;
    vm->state = VM_CREATED;
    (void)pthread_mutex_init(&vm->lock, NULL);
    /* vm_pause() waits for seconds, not for a time of day that someone may set. */
    (void)pthread_condattr_init(&attr);
    (void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    (void)pthread_cond_init(&vm->changed, &attr);
    (void)pthread_condattr_destroy(&attr);

    rc = vm_build(vm, err);
    if (rc < 0) {
        vm_destroy(vm);
        return rc;
    }
    *out = vm;
    return 0;
}

void vm_destroy(struct vm *vm)
{
    if (!vm)
        return;
    for (unsigned i = 0; i < vm->vcpus; i++)
        vcpu_destroy(&vm->vcpu[i]);
    free(vm->vcpu);
    depriv_destroy(vm->depriv);
    vm_events_stop(vm);
    vm_devices_destroy(vm->devices);
    mailbox_destroy(vm->mailbox);
    pv_port_destroy(vm->pv);
    pit_destroy(vm->pit);
    platform_destroy(vm->platform);
    serial_destroy(vm->serial);
    console_destroy(vm->con);
    io_loop_destroy(vm->loop);
    bus_destroy(vm->bus);
    if (vm->fd >= 0) {
        /*
         * Closing waits for RCU grace periods that KVM's interrupt controllers left
         * pending; taking the slots away hurries them up: 8 ms instead of 16.
         */
        if (vm->mem)
            memory_unregister(vm->mem, vm->fd);
        (void)close(vm->fd);
    }
    pages_destroy(vm->pages);
    track_destroy(vm->track);
    memory_destroy(vm->mem);
    cpuid_destroy(vm->cpuid);
    kvm_close(&vm->kvm);
    vm_signals_give_back(vm);
    (void)pthread_cond_destroy(&vm->changed);
    (void)pthread_mutex_destroy(&vm->lock);
    free(vm);
}

const char *paging_name(enum paging paging)
{
    return paging == PAGING_SHADOW ? "shadow" : "nested";
}

int paging_parse(const char *name, enum paging *out, struct error *err)
{
    for (enum paging p = PAGING_NESTED; p <= PAGING_SHADOW; p++) {
        if (strcmp(name, paging_name(p)) == 0) {
            *out = p;
            return 0;
        }
    }
    return error_set(err, -EINVAL, "--paging: '%s' is none; use nested or shadow", name);
}

/* --- what others ask for ------------------------------------------------------------------ */

enum vm_state vm_state(struct vm *vm)
{
    enum vm_state state;

    (void)pthread_mutex_lock(&vm->lock);
    state = vm->state;
    (void)pthread_mutex_unlock(&vm->lock);
    return state;
}

const struct vm_config *vm_config(const struct vm *vm)
{
    return vm->cfg;
}

struct memory *vm_memory(struct vm *vm)
{
    return vm->mem;
}

struct pages *vm_pages(struct vm *vm)
{
    return vm->pages;
}

struct track *vm_track(struct vm *vm)
{
    return vm->track;
}

struct mailbox *vm_mailbox(struct vm *vm)
{
    return vm->mailbox;
}

struct vm_devices *vm_pci_devices(struct vm *vm)
{
    return vm->devices;
}

struct bus *vm_bus(struct vm *vm)
{
    return vm->bus;
}

struct console *vm_console(struct vm *vm)
{
    return vm->con;
}

struct io_loop *vm_loop(struct vm *vm)
{
    return vm->loop;
}

static uint64_t peek(const uint64_t *counter)
{
    return __atomic_load_n(counter, __ATOMIC_RELAXED);
}

int vm_vcpu_stat(struct vm *vm, unsigned cpu, struct vcpu_stat *out)
{
    const struct vcpu *v;
    uint64_t ticks, enter;

    if (cpu >= vm->vcpus)
        return -EINVAL;
    v = &vm->vcpu[cpu];
    *out = (struct vcpu_stat){
        .exits_total = peek(&v->stat.exits_total),
        .pio = peek(&v->stat.pio),
        .mmio = peek(&v->stat.mmio),
        .hlt = peek(&v->stat.hlt),
        .intr = peek(&v->stat.intr),
        .other = peek(&v->stat.other),
        .traps = peek(&v->stat.traps),
    };
    ticks = peek(&v->stat.run_ns);
    enter = peek(&v->tsc_enter);
    if (enter && vm_tsc() > enter) /* it is inside: a guest that never exits counts too */
        ticks += vm_tsc() - enter;
    out->run_ns = vm_ticks_to_ns(vm, ticks);
    thread_faults_read(&v->faults, &out->host_minor, &out->host_major);
    return 0;
}

int vm_depriv_stat(struct vm *vm, unsigned cpu, struct depriv_stat *out)
{
    if (cpu >= vm->vcpus)
        return -EINVAL;
    if (!vm->vcpu[cpu].depriv)
        return -ENOTSUP;
    depriv_cpu_stat(vm->vcpu[cpu].depriv, out);
    return 0;
}

struct shadow *vm_shadow(struct vm *vm)
{
    return vm->depriv ? depriv_shadow(vm->depriv) : NULL;
}

void vm_times(struct vm *vm, uint64_t *create_ns, uint64_t *run_ns)
{
    uint64_t first = peek(&vm->first_run_ns), end;

    (void)pthread_mutex_lock(&vm->lock);
    end = vm->state == VM_ENDED ? vm->end_ns : now_ns();
    (void)pthread_mutex_unlock(&vm->lock);
    if (!first) /* not yet there */
        first = end;
    *create_ns = first - vm->create_ns;
    *run_ns = end > first ? end - first : 0;
}
