#include "vmm/cpuid.h"

#include <cpuid.h>
#include <errno.h>
#include <linux/kvm.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "guest/abi.h"

#define ENTRIES_FIRST 128  /* enough for today's CPUs: about 60 to 100 */
#define ENTRIES_MAX   4096 /* a KVM that wants more is broken */
#define ENTRIES_OURS  6    /* room for leaves that we add */

/* Intel SDM vol. 2A, "CPUID - CPU Identification"; AMD APM vol. 3, appendix E. */
#define LEAF_VENDOR         0x0
#define LEAF_FEATURES       0x1
#define LEAF_CACHES         0x4
#define LEAF_STRUCTURE      0x7
#define LEAF_TOPOLOGY       0xb
#define LEAF_TOPOLOGY_V2    0x1f
#define LEAF_EXT_FEATURES   0x80000001
#define LEAF_BRAND          0x80000002 /* and the two after it: the CPU's name */
#define LEAF_ADDRESS_SIZES  0x80000008
#define LEAF_AMD_CACHES     0x8000001d
#define LEAF_AMD_TOPOLOGY   0x8000001e
#define LEAF_AMD_TOPOLOGY_2 0x80000026

#define VENDOR_EBX_AMD   0x68747541u /* "Auth" */
#define VENDOR_EBX_HYGON 0x6f677948u /* "Hygo" */

#define F1_ECX_TSC_DEADLINE (1u << 24)
#define F1_ECX_HYPERVISOR   (1u << 31)
#define F1_EDX_HTT          (1u << 28)
#define EXT_ECX_CMP_LEGACY  (1u << 1)
#define EXT_EDX_GIB_PAGES   (1u << 26)

#define TOPOLOGY_SMT  (1u << 8) /* ECX[15:8] of leaf 0xb: the level's type */
#define TOPOLOGY_CORE (2u << 8)

struct cpuid {
    unsigned cpus;
    unsigned id_bits; /* bits of an APIC id that number the CPUs of the package */
    unsigned phys_bits;
    bool gib_pages, amd;
    unsigned room;
    struct kvm_cpuid2 *table;
};

static struct kvm_cpuid2 *table_alloc(unsigned room)
{
    struct kvm_cpuid2 *table = calloc(1, sizeof(*table) + room * sizeof(table->entries[0]));

    if (table)
        table->nent = room;
    return table;
}

/* Asks with a growing table until KVM's answer fits. */
static int supported_get(struct cpuid *c, const struct kvm *kvm, struct error *err)
{
    for (unsigned room = ENTRIES_FIRST; room <= ENTRIES_MAX; room *= 2) {
        int code;

        c->table = table_alloc(room + ENTRIES_OURS);
        if (!c->table)
            return error_set(err, -ENOMEM, "no memory for the CPUID table");
        c->table->nent = room;
        c->room = room + ENTRIES_OURS;
        if (ioctl(kvm->fd, KVM_GET_SUPPORTED_CPUID, c->table) == 0)
            return 0;
        code = errno;
        free(c->table);
        c->table = NULL;
        if (code != E2BIG)
            return error_set(err, -code, "KVM does not say what CPUID it supports: %s",
                             strerror(code));
    }
    return error_set(err, -E2BIG, "KVM's CPUID table has more than %d entries", ENTRIES_MAX);
}

static struct kvm_cpuid_entry2 *leaf_find(struct cpuid *c, uint32_t function)
{
    for (unsigned i = 0; i < c->table->nent; i++)
        if (c->table->entries[i].function == function)
            return &c->table->entries[i];
    return NULL;
}

static void leaf_remove(struct cpuid *c, uint32_t function)
{
    unsigned kept = 0;

    for (unsigned i = 0; i < c->table->nent; i++)
        if (c->table->entries[i].function != function)
            c->table->entries[kept++] = c->table->entries[i];
    c->table->nent = kept;
}

/* Adds a leaf; the table has room for all that we add (ENTRIES_OURS). */
static void leaf_add(struct cpuid *c, struct kvm_cpuid_entry2 leaf)
{
    if (c->table->nent < c->room)
        c->table->entries[c->table->nent++] = leaf;
}

static unsigned bits_for(unsigned count)
{
    unsigned bits = 0;

    while ((1u << bits) < count)
        bits++;
    return bits;
}

/* Leaf 1: counts of the package; the APIC id follows for each vCPU. */
static void features_fill(struct cpuid *c, bool tsc_deadline)
{
    struct kvm_cpuid_entry2 *f = leaf_find(c, LEAF_FEATURES);

    if (!f)
        return;
    f->ecx |= F1_ECX_HYPERVISOR;
    if (tsc_deadline)
        f->ecx |= F1_ECX_TSC_DEADLINE;
    f->ebx = (f->ebx & 0xff00ffff) | (1u << c->id_bits) << 16;
    f->edx = c->cpus > 1 ? f->edx | F1_EDX_HTT : f->edx & ~F1_EDX_HTT;
}

/* Caches: those of level 1 and 2 belong to one core, level 3 to all. */
static uint32_t cache_eax(uint32_t eax, unsigned ids)
{
    unsigned level = (eax >> 5) & 7;
    unsigned sharing = level >= 3 ? ids - 1 : 0;

    return (eax & 0x00003fff) | sharing << 14;
}

static void caches_fill(struct cpuid *c)
{
    unsigned ids = 1u << c->id_bits;

    for (unsigned i = 0; i < c->table->nent; i++) {
        struct kvm_cpuid_entry2 *e = &c->table->entries[i];

        if ((e->eax & 0x1f) == 0) /* no more caches */
            continue;
        if (e->function == LEAF_CACHES) /* EAX[31:26]: cores of the package, at most 64 */
            e->eax = cache_eax(e->eax, ids) | (ids - 1) << 26;
        else if (e->function == LEAF_AMD_CACHES)
            e->eax = cache_eax(e->eax, ids);
    }
}

/* Leaf 0xb: one thread a core, `cpus` cores in the package. EDX follows for each vCPU. */
static void topology_fill(struct cpuid *c)
{
    bool had = leaf_find(c, LEAF_TOPOLOGY) != NULL;

    leaf_remove(c, LEAF_TOPOLOGY);
    leaf_remove(c, LEAF_TOPOLOGY_V2);
    leaf_remove(c, LEAF_AMD_TOPOLOGY_2);
    if (!had)
        return;
    leaf_add(c, (struct kvm_cpuid_entry2){ .function = LEAF_TOPOLOGY,
                                           .index = 0,
                                           .flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX,
                                           .eax = 0,
                                           .ebx = 1,
                                           .ecx = TOPOLOGY_SMT | 0 });
    leaf_add(c, (struct kvm_cpuid_entry2){ .function = LEAF_TOPOLOGY,
                                           .index = 1,
                                           .flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX,
                                           .eax = c->id_bits,
                                           .ebx = c->cpus,
                                           .ecx = TOPOLOGY_CORE | 1 });
    leaf_add(c, (struct kvm_cpuid_entry2){ .function = LEAF_TOPOLOGY,
                                           .index = 2,
                                           .flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX,
                                           .ecx = 2 });
}

/* AMD's own description of the same, in bits that Intel reserves. */
static void amd_fill(struct cpuid *c)
{
    struct kvm_cpuid_entry2 *sizes = leaf_find(c, LEAF_ADDRESS_SIZES);
    struct kvm_cpuid_entry2 *ext = leaf_find(c, LEAF_EXT_FEATURES);

    if (!c->amd)
        return;
    if (sizes)
        sizes->ecx = (sizes->ecx & 0xffff0f00) | c->id_bits << 12 | (c->cpus - 1);
    if (ext)
        ext->ecx =
            c->cpus > 1 ? ext->ecx | EXT_ECX_CMP_LEGACY : ext->ecx & ~(uint32_t)EXT_ECX_CMP_LEGACY;
}

/* KVM leaves the CPU's name empty; the host's is the truth, and tests look for emulated CPUs. */
static void brand_fill(struct cpuid *c)
{
    for (uint32_t leaf = LEAF_BRAND; leaf < LEAF_BRAND + 3; leaf++) {
        struct kvm_cpuid_entry2 *e = leaf_find(c, leaf);

        if (e && !(e->eax | e->ebx | e->ecx | e->edx))
            (void)__get_cpuid(leaf, &e->eax, &e->ebx, &e->ecx, &e->edx);
    }
}

/* What the monitor itself wants to know. */
static void limits_read(struct cpuid *c)
{
    const struct kvm_cpuid_entry2 *sizes = leaf_find(c, LEAF_ADDRESS_SIZES);
    const struct kvm_cpuid_entry2 *ext = leaf_find(c, LEAF_EXT_FEATURES);
    const struct kvm_cpuid_entry2 *vendor = leaf_find(c, LEAF_VENDOR);

    c->phys_bits = sizes ? sizes->eax & 0xff : 36; /* the manual's value without this leaf */
    c->gib_pages = ext && (ext->edx & EXT_EDX_GIB_PAGES);
    c->amd = vendor && (vendor->ebx == VENDOR_EBX_AMD || vendor->ebx == VENDOR_EBX_HYGON);
}

static void twofold_fill(struct cpuid *c)
{
    leaf_add(c, (struct kvm_cpuid_entry2){ .function = TF_CPUID_BASE,
                                           .eax = TF_CPUID_FEATURES,
                                           .ebx = TF_CPUID_EBX,
                                           .ecx = TF_CPUID_ECX,
                                           .edx = TF_CPUID_EDX });
    leaf_add(c, (struct kvm_cpuid_entry2){ .function = TF_CPUID_FEATURES,
                                           .eax = TF_FEATURE_CONSOLE | TF_FEATURE_ZEROED_RAM |
                                                  TF_FEATURE_MAILBOX });
}

int cpuid_create(struct cpuid **out, const struct kvm *kvm, unsigned cpus, struct error *err)
{
    struct cpuid *c = calloc(1, sizeof(*c));
    int rc;

    *out = NULL;
    if (!c)
        return error_set(err, -ENOMEM, "no memory for the CPUID table");
    c->cpus = cpus;
    c->id_bits = bits_for(cpus);
    rc = supported_get(c, kvm, err);
    if (rc < 0 || !c->table) {
        cpuid_destroy(c);
        return rc;
    }
    features_fill(c, kvm_cap(kvm, KVM_CAP_TSC_DEADLINE_TIMER) > 0);
    caches_fill(c);
    topology_fill(c);
    limits_read(c);
    amd_fill(c);
    brand_fill(c);
    twofold_fill(c);
    *out = c;
    return 0;
}

void cpuid_destroy(struct cpuid *cpuid)
{
    if (!cpuid)
        return;
    free(cpuid->table);
    free(cpuid);
}

/* What differs from vCPU to vCPU. */
static void personalize(struct kvm_cpuid_entry2 *e, unsigned apic_id)
{
    switch (e->function) {
    case LEAF_FEATURES:
        e->ebx = (e->ebx & 0x00ffffff) | (apic_id & 0xff) << 24;
        break;
    case LEAF_TOPOLOGY:
        e->edx = apic_id;
        break;
    case LEAF_AMD_TOPOLOGY:
        e->eax = apic_id;
        e->ebx = apic_id & 0xff; /* core id; one thread a core */
        e->ecx = 0;              /* one node */
        break;
    default:
        break;
    }
}

int cpuid_apply(struct cpuid *cpuid, int vcpu_fd, unsigned apic_id, struct error *err)
{
    for (unsigned i = 0; i < cpuid->table->nent; i++)
        personalize(&cpuid->table->entries[i], apic_id);
    if (ioctl(vcpu_fd, KVM_SET_CPUID2, cpuid->table) < 0)
        return error_set(err, -errno, "KVM refuses the CPUID table of vCPU %u: %s", apic_id,
                         strerror(errno));
    return 0;
}

unsigned cpuid_phys_bits(const struct cpuid *cpuid)
{
    return cpuid->phys_bits;
}

bool cpuid_gib_pages(const struct cpuid *cpuid)
{
    return cpuid->gib_pages;
}

bool cpuid_amd(const struct cpuid *cpuid)
{
    return cpuid->amd;
}

static uint32_t *register_of(struct kvm_cpuid_entry2 *e, enum cpuid_register which)
{
    switch (which) {
    case CPUID_EAX:
        return &e->eax;
    case CPUID_EBX:
        return &e->ebx;
    case CPUID_ECX:
        return &e->ecx;
    case CPUID_EDX:
        break;
    }
    return &e->edx;
}

static bool has_index(const struct kvm_cpuid_entry2 *e, uint32_t function, uint32_t index)
{
    return e->function == function &&
           (!(e->flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX) || e->index == index);
}

void cpuid_clear(struct cpuid *cpuid, uint32_t function, uint32_t index, enum cpuid_register which,
                 uint32_t bits)
{
    for (unsigned i = 0; i < cpuid->table->nent; i++)
        if (has_index(&cpuid->table->entries[i], function, index))
            *register_of(&cpuid->table->entries[i], which) &= ~bits;
}

void cpuid_answer(const struct cpuid *cpuid, unsigned apic_id, uint32_t function, uint32_t index,
                  uint32_t out[4])
{
    struct kvm_cpuid_entry2 e = { 0 };

    for (unsigned i = 0; i < cpuid->table->nent; i++)
        if (has_index(&cpuid->table->entries[i], function, index))
            e = cpuid->table->entries[i];
    personalize(&e, apic_id);
    out[0] = e.eax;
    out[1] = e.ebx;
    out[2] = e.ecx;
    out[3] = e.edx;
}

/* Intel SDM vol. 3A, 2.5 "Control Registers": what each bit needs. */
uint64_t cpuid_cr4_bits(const struct cpuid *cpuid)
{
    uint64_t bits = 0x7ff; /* VME to OSXMMEXCPT: older than long mode */
    uint32_t f1[4], f7[4];

    cpuid_answer(cpuid, 0, LEAF_FEATURES, 0, f1);
    cpuid_answer(cpuid, 0, LEAF_STRUCTURE, 0, f7);
    bits |= f7[2] & 1u << 2 ? UINT64_C(1) << 11 : 0;  /* UMIP */
    bits |= f7[1] & 1u << 0 ? UINT64_C(1) << 16 : 0;  /* FSGSBASE */
    bits |= f1[2] & 1u << 17 ? UINT64_C(1) << 17 : 0; /* PCIDE */
    bits |= f1[2] & 1u << 26 ? UINT64_C(1) << 18 : 0; /* OSXSAVE */
    bits |= f7[1] & 1u << 7 ? UINT64_C(1) << 20 : 0;  /* SMEP */
    bits |= f7[1] & 1u << 20 ? UINT64_C(1) << 21 : 0; /* SMAP */
    return bits;
}
