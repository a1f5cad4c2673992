#include <cpuid.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "tools/appliance.h"

/* QEMU's software emulation, by the CPU's name (AMD APM vol. 3, CPUID Fn8000_000[4:2]). */
static bool cpu_is_tcg(void)
{
    unsigned int r[4] = { 0 };

    return __get_cpuid(0x80000002, &r[0], &r[1], &r[2], &r[3]) && !memcmp(r, "QEMU TCG", 8);
}

/*
 * KVM counts VMs (preempt_notifier_key) and local APICs that are still off (apic_sw_disabled) in
 * static keys: the first and the last one change instructions of the running kernel, by way of an
 * INT3. With a thread a CPU, QEMU 7.2 may keep executing the INT3 after it is gone, for ever; one
 * VM in about 70 did so. A VM with a vCPU that never runs keeps the keys as they are. Running all
 * CPUs in one thread (thread=single) would avoid it too, but lets Linux guests hang.
 */
void appliance_hold_keys(void)
{
    int kvm;
    int vm;

    if (!cpu_is_tcg())
        return;
    kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
    vm = kvm < 0 ? -1 : ioctl(kvm, KVM_CREATE_VM, 0UL);
    if (vm >= 0 && (fcntl(vm, F_SETFD, FD_CLOEXEC) || ioctl(vm, KVM_CREATE_IRQCHIP, 0UL) ||
                    fcntl(ioctl(vm, KVM_CREATE_VCPU, 0UL), F_SETFD, FD_CLOEXEC)))
        close(vm);
    /* The vCPU and its VM stay open as long as we run. */
    if (kvm >= 0)
        close(kvm);
}
