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

/* Which CR4 bits a guest may set with the features that its CPUs show. */
uint64_t cpuid_cr4_bits(const struct cpuid *cpuid);

/* Takes features away, before any cpuid_apply(): the bits of a register of a leaf. */
enum cpuid_register {
    CPUID_EAX,
    CPUID_EBX,
    CPUID_ECX,
    CPUID_EDX,
};
void cpuid_clear(struct cpuid *cpuid, uint32_t function, uint32_t index, enum cpuid_register which,
                 uint32_t bits);

/* What the instruction answers on the vCPU with that APIC id: EAX, EBX, ECX, EDX; zeros for a leaf
 * that isn't there. */
void cpuid_answer(const struct cpuid *cpuid, unsigned apic_id, uint32_t function, uint32_t index,
                  uint32_t out[4]);

#endif
