#include "tools/info.h"

#include <linux/kvm.h>
#include <stdbool.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "vmm/depriv.h"
#include "vmm/kvm.h"
#include "vmm/uapi.h"

static const struct {
    int cap;
    const char *name, *use;
} capabilities[] = {
    { KVM_CAP_IRQCHIP, "irqchip", "interrupt controllers in the kernel" },
    { KVM_CAP_PIT2, "pit", "timer in the kernel" },
    { KVM_CAP_SPLIT_IRQCHIP, "split_irqchip", "only the local APICs in the kernel" },
    { KVM_CAP_IRQFD, "irqfd", "interrupts by eventfd" },
    { KVM_CAP_IOEVENTFD, "ioeventfd", "doorbells by eventfd" },
    { KVM_CAP_IMMEDIATE_EXIT, "immediate_exit", "stopping a vCPU without a race" },
    { KVM_CAP_SYNC_REGS, "sync_regs", "registers in a shared page" },
    { KVM_CAP_READONLY_MEM, "readonly_mem", "read-only memory slots" },
    { KVM_CAP_SYNC_MMU, "sync_mmu", "host mappings may change under a VM" },
    { KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, "manual_dirty_log", "dirty log cleared piece by piece" },
    { KVM_CAP_DIRTY_LOG_RING, "dirty_ring", "dirty pages in a ring" },
    { KVM_CAP_BINARY_STATS_FD, "stats_fd", "KVM's own counters" },
    { KVM_CAP_MEMORY_FAULT_INFO, "memory_fault_exit", "failed accesses reported as exits" },
    { KVM_CAP_GUEST_MEMFD, "guest_memfd", "guest memory without a host mapping" },
    { KVM_CAP_PRE_FAULT_MEMORY, "pre_fault_memory", "the second dimension filled ahead" },
    { KVM_CAP_NESTED_STATE, "nested_state", "a guest's own VMs saved and restored" },
};

static const char *flag_name(enum kvm_flag flag)
{
    return flag == KVM_FLAG_YES ? "yes" : flag == KVM_FLAG_NO ? "no" : "unknown";
}

static json_t *backend_json(void)
{
    struct kvm_backend b;

    kvm_backend_read(&b);
    return json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:s}", "name", kvm_kind_name(b.kind), "module",
                     b.module, "nested_paging", flag_name(b.nested_paging), "tagged_tlb",
                     flag_name(b.tag), "accessed_dirty_bits", flag_name(b.ad_bits), "nested_virt",
                     flag_name(b.nested_virt), "tdp_mmu", flag_name(b.tdp_mmu));
}

static json_t *capabilities_json(const struct kvm *kvm)
{
    /* Some answers depend on the kind of VM: ask a VM where one can be made. */
    struct kvm vm = { .fd = ioctl(kvm->fd, KVM_CREATE_VM, 0) };
    json_t *list = json_array();

    for (size_t i = 0; i < sizeof(capabilities) / sizeof(capabilities[0]); i++) {
        int value = kvm_cap(vm.fd >= 0 ? &vm : kvm, capabilities[i].cap);

        (void)json_array_append_new(list, json_pack("{s:s, s:b, s:i, s:s}", "name",
                                                    capabilities[i].name, "available", value > 0,
                                                    "value", value, "use", capabilities[i].use));
    }
    if (vm.fd >= 0)
        close(vm.fd);
    return list;
}

/* Who may translate for a guest here, and why not: what `run --paging` takes. */
static json_t *paging_json(const struct kvm *kvm)
{
    struct error err = { "" };
    bool shadow = depriv_able(kvm, &err) == 0;
    struct kvm_backend b;

    kvm_backend_read(&b);
    return json_pack("{s:{s:b, s:s}, s:{s:b, s:s, s:s}}", "nested", "available", true, "by",
                     b.nested_paging == KVM_FLAG_YES  ? "the processor"
                     : b.nested_paging == KVM_FLAG_NO ? "KVM's own shadow tables"
                                                      : "KVM",
                     "shadow", "available", shadow, "needs", "KVM_CAP_SYNC_REGS", "why", err.text);
}

json_t *info_kvm(void)
{
    struct error err = { "" };
    struct kvm kvm;
    json_t *info;

    if (kvm_open(&kvm, &err))
        return json_pack("{s:b, s:s, s:o}", "available", 0, "why", err.text, "backend",
                         backend_json());
    info =
        json_pack("{s:b, s:i, s:o, s:o, s:{s:i, s:i, s:i, s:i}, s:o}", "available", 1, "api",
                  ioctl(kvm.fd, KVM_GET_API_VERSION, 0), "backend", backend_json(), "paging",
                  paging_json(&kvm), "limits", "vcpus_recommended", kvm_cap(&kvm, KVM_CAP_NR_VCPUS),
                  "vcpus_max", (int)kvm.max_vcpus, "vcpu_ids", (int)kvm.max_vcpu_id, "memory_slots",
                  kvm_cap(&kvm, KVM_CAP_NR_MEMSLOTS), "capabilities", capabilities_json(&kvm));
    kvm_close(&kvm);
    return info;
}
