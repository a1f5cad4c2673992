/*
 * What CPUID answers in the guest: what KVM supports, with one package of
 * `cpus` cores, and twofold's own leaves (guest/abi.h).
 */
#ifndef TWOFOLD_VMM_CPUID_H
#define TWOFOLD_VMM_CPUID_H

#include <stdbool.h>
#include <stdint.h>

#include "vmm/error.h"
#include "vmm/kvm.h"

struct cpuid;

/*
 * Asks KVM once (KVM_GET_SUPPORTED_CPUID) and prepares what all vCPUs share.
 * Free with cpuid_destroy(). Returns 0 or -errno.
 */
int cpuid_create(struct cpuid **out, const struct kvm *kvm, unsigned cpus, struct error *err);
void cpuid_destroy(struct cpuid *cpuid);

/*
 * Gives the table to a vCPU (KVM_SET_CPUID2), with its APIC id filled in. The
 * table is changed in place: one thread at a time.
 */
int cpuid_apply(struct cpuid *cpuid, int vcpu_fd, unsigned apic_id, struct error *err);

/* Width of a guest-physical address in bits, MAXPHYADDR. */
unsigned cpuid_phys_bits(const struct cpuid *cpuid);

/* Whether the guest's CPUs have 1 GiB pages. */
bool cpuid_gib_pages(const struct cpuid *cpuid);

/* Whether they are AMD's or Hygon's, which reserve a bit of page tables that Intel ignores. */
bool cpuid_amd(const struct cpuid *cpuid);

#endif
