/*
 * /dev/kvm: opening it with messages a person can act on, and asking what it is.
 */
#ifndef TWOFOLD_VMM_KVM_H
#define TWOFOLD_VMM_KVM_H

#include <stdbool.h>
#include <stddef.h>

#include "vmm/error.h"

/* Exit reasons and capabilities younger than the oldest headers we build with (Linux 6.1). */
#define KVM_EXIT_MEMORY_FAULT_NR 39

/* An open /dev/kvm. Hot neither in size nor in time, so a plain struct. */
struct kvm {
    int fd;
    size_t run_size;      /* bytes of a vCPU's shared kvm_run area */
    unsigned max_vcpus;   /* KVM_CAP_MAX_VCPUS */
    unsigned max_vcpu_id; /* KVM_CAP_MAX_VCPU_ID: ids are below this */
};

/* Which module does the work behind /dev/kvm. */
enum kvm_kind {
    KVM_KIND_UNKNOWN, /* none of those below is loaded, or it is built in */
    KVM_KIND_INTEL,   /* VMX */
    KVM_KIND_AMD,     /* SVM */
    KVM_KIND_PVM,     /* no hardware virtualization: ring 0 is interpreted */
};

/* A module parameter that is Y or N, or that the module does not have. */
enum kvm_flag {
    KVM_FLAG_ABSENT,
    KVM_FLAG_NO,
    KVM_FLAG_YES,
};

struct kvm_backend {
    enum kvm_kind kind;
    const char *module;          /* "kvm_intel", "kvm_amd", "kvm_pvm", or "kvm" */
    enum kvm_flag nested_paging; /* its parameter `ept` or `npt`; NO for PVM */
    enum kvm_flag tag;           /* `vpid` on Intel: tagged TLB; ABSENT elsewhere */
    enum kvm_flag ad_bits;       /* `eptad` on Intel; ABSENT elsewhere */
    enum kvm_flag unrestricted;  /* `unrestricted_guest` on Intel; ABSENT elsewhere */
    enum kvm_flag nested_virt;   /* `nested`: a guest may run a monitor of its own */
    enum kvm_flag tdp_mmu;       /* kvm's own `tdp_mmu` */
};

/*
 * Opens /dev/kvm and checks its API version. Returns 0, or -errno with a
 * sentence that says whether it is missing, forbidden or too odd, and what to do.
 * On failure kvm->fd is -1. Close with kvm_close().
 */
int kvm_open(struct kvm *kvm, struct error *err);
void kvm_close(struct kvm *kvm);

/* KVM_CHECK_EXTENSION: 0 when the capability is not there, else its value. */
int kvm_cap(const struct kvm *kvm, int cap);

/* What /sys/module says about KVM; never fails, says UNKNOWN and ABSENT instead. */
void kvm_backend_read(struct kvm_backend *out);

/* "Intel VMX", "AMD SVM", "PVM (no hardware virtualization)" or "unknown". */
const char *kvm_kind_name(enum kvm_kind kind);

#endif
