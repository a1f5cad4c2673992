/*
 * The baseline: as little as KVM needs to run a PVH kernel, and a KVM_RUN loop
 * that does nothing but count. COM1's bytes go to stdout, port 0xf4 ends it.
 */
#include "bench.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "vmm/boot.h"
#include "vmm/memory.h"

#define GUEST_BYTES (256ul << 20)

static void flat_segments(struct kvm_sregs *s, uint32_t base_cr0)
{
    struct kvm_segment code = {
        .limit = 0xffffffff, .selector = 0x8, .type = 11, .present = 1, .db = 1, .s = 1, .g = 1
    };
    struct kvm_segment data = code;

    data.type = 3;
    data.selector = 0x10;
    s->cs = code;
    s->ds = s->es = s->fs = s->gs = s->ss = data;
    s->cr0 = base_cr0;
}

static struct kvm_run *create_vcpu(int kvm, int vm, const struct boot_entry *entry, int *vcpu)
{
    struct kvm_regs regs = { .rip = entry->eip, .rbx = entry->ebx, .rflags = 2 };
    struct kvm_sregs sregs;
    int size = ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
    struct kvm_run *run;

    *vcpu = ioctl(vm, KVM_CREATE_VCPU, 0);
    if (*vcpu < 0 || size <= 0)
        return NULL;
    run = mmap(NULL, (size_t)size, PROT_READ | PROT_WRITE, MAP_SHARED, *vcpu, 0);
    if (run == MAP_FAILED || ioctl(*vcpu, KVM_GET_SREGS, &sregs))
        return NULL;
    flat_segments(&sregs, 1);
    if (ioctl(*vcpu, KVM_SET_SREGS, &sregs) || ioctl(*vcpu, KVM_SET_REGS, &regs))
        return NULL;
    return run;
}

/* Returns the guest's exit value, or -1. */
static int bare_loop(int vcpu, struct kvm_run *run)
{
    for (;;) {
        if (ioctl(vcpu, KVM_RUN, 0))
            return -1;
        if (run->exit_reason == KVM_EXIT_MMIO)
            continue;
        if (run->exit_reason != KVM_EXIT_IO)
            return -1;
        if (run->io.port == 0xf4)
            return *((unsigned char *)run + run->io.data_offset);
        if (run->io.port == 0x3f8 && run->io.direction == KVM_EXIT_IO_OUT &&
            write(1, (char *)run + run->io.data_offset, 1) != 1)
            return -1;
    }
}

int bare_run(const char *kernel)
{
    struct boot_request req = { .kernel = kernel, .cmdline = "" };
    struct boot_entry entry;
    struct memory *mem = NULL;
    struct kvm_run *run;
    struct error err;
    int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC), vm, vcpu;

    vm = kvm < 0 ? -1 : ioctl(kvm, KVM_CREATE_VM, 0);
    if (vm < 0) {
        fprintf(stderr, "bare: /dev/kvm: %s\n", strerror(errno));
        return 1;
    }
    /* The same interrupt controllers as a real VM: they change what an exit costs. */
    if (ioctl(vm, KVM_SET_TSS_ADDR, 0xfffbd000) || ioctl(vm, KVM_CREATE_IRQCHIP, 0) ||
        memory_create(&mem, GUEST_BYTES, MEM_ANON, &err) || memory_register(mem, vm, &err) ||
        boot_load(mem, &req, &entry, &err)) {
        fprintf(stderr, "bare: cannot set up the VM for %s\n", kernel);
        return 1;
    }
    run = create_vcpu(kvm, vm, &entry, &vcpu);
    return run ? bare_loop(vcpu, run) : 1;
}
