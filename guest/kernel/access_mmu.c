/*
 * Tables for one address that is accessed with all combinations, in an address space that
 * has nothing else but the kernel's image and stacks:
 *
 *   root  TARGET_SLOT -> pdpt -> pd -> pt -> `target`, at the same offset for each page size
 *         STUB_SLOT   -> stub_pdpt -> stub_pd -> stub_pt -> `stub`, what ring 3 runs
 *         511         -> copies of the kernel's tables without NX and G: EFER.NXE is off in
 *                        half of the combinations, and NX is a reserved bit then
 *
 * All of it is in the image, below 1 GiB, so that the target's gpa is its offset in the page of
 * 1 GiB at gpa 0 as well.
 */
#include "guest/kernel/access_test.h"

#include "guest/kernel/cpu.h"
#include "guest/kernel/mm.h"
#include "guest/kernel/probe.h"
#include "guest/kernel/string.h"
#include "guest/kernel/trap.h"

#define TARGET_SLOT UL(100)
#define STUB_SLOT   UL(101)
#define SLOT_SHIFT  39

#define CODE_RET 0  /* offsets in the target: what ring 0 fetches, */
#define CODE_HLT 16 /* what ring 3 fetches, */
#define DATA     32 /* and what is read and written */

#define CR0_WP   (UL(1) << 16)
#define CR4_SMEP (UL(1) << 20)
#define CR4_SMAP (UL(1) << 21)
#define CR4_PKE  (UL(1) << 22)
#define CR4_PKS  (UL(1) << 24)
#define MSR_EFER 0xc0000080
#define EFER_NXE UL(0x800)
#define MSR_PKRS 0x6e1

#define RFLAGS_FIXED UL(0x2)
#define RFLAGS_AC    UL(0x40000)

#define PERMITTED (PTE_PRESENT | PTE_WRITE | PTE_USER | PTE_ACCESSED | PTE_DIRTY)

typedef uint64_t table[512] __attribute__((aligned(4096)));

static table root, target_table[4]; /* [level]: the table that the entry of a level lies in */
static table stub_pdpt, stub_pd, stub_pt;
static table kernel_pdpt_copy, kernel_tables_copy[4];
static uint8_t target[4096] __attribute__((aligned(4096)));
static uint8_t stub[4096] __attribute__((aligned(4096)));
static uint8_t trap_stack[8192] __attribute__((aligned(4096)));

static unsigned phys_bits;
static struct {
    uint64_t cr0, cr3, cr4, efer, stack_top;
} before;
static uint16_t mode_now;

static uint64_t read_cr0(void)
{
    uint64_t v;

    __asm__ volatile("movq %%cr0, %0" : "=r"(v));
    return v;
}

static void write_cr0(uint64_t v)
{
    __asm__ volatile("movq %0, %%cr0" ::"r"(v) : "memory");
}

/* Needs CR4.PKE. */
static void write_pkru(uint32_t v)
{
    __asm__ volatile(".byte 0x0f, 0x01, 0xef" ::"a"(v), "c"(0), "d"(0) : "memory");
}

void access_mmu_machine(struct access_machine *m)
{
    struct cpuid_result r = { 0 };

    if (cpuid(0, 0).eax >= 7)
        r = cpuid(7, 0);
    phys_bits = cpuid(0x80000000, 0).eax >= 0x80000008 ? cpuid(0x80000008, 0).eax & 0xff : 36;
    *m = (struct access_machine){ .paging = ACCESS_4_LEVEL,
                                  .gib_pages = cpu_features.gbpages,
                                  .high = phys_bits < 52 };
    m->modes = MODE_WP | MODE_NXE | MODE_AC;
    if (cpu_features.smep)
        m->modes |= MODE_SMEP;
    if (cpu_features.smap)
        m->modes |= MODE_SMAP;
    if (r.ecx >> 3 & 1)
        m->modes |= MODE_PKE | MODE_PKRU_AD | MODE_PKRU_WD;
    if (r.ecx >> 31 & 1)
        m->modes |= MODE_PKS | MODE_PKRS_AD | MODE_PKRS_WD;
}

/* --- the address space ----------------------------------------------------------------- */

static void copy_tables_of_kernel(void)
{
    const uint64_t *pdpt = phys_to_virt(kernel_pml4[511] & PTE_ADDR);
    unsigned used = 0;

    root[511] = virt_to_phys(kernel_pdpt_copy) | PTE_PRESENT | PTE_WRITE | PTE_ACCESSED;
    for (unsigned i = 509; i < 512; i++) {
        uint64_t *pd = kernel_tables_copy[used++];

        memcpy(pd, phys_to_virt(pdpt[i] & PTE_ADDR), PAGE_SIZE);
        kernel_pdpt_copy[i] = virt_to_phys(pd) | (pdpt[i] & ~PTE_ADDR & ~PTE_NX);
        for (unsigned k = 0; k < 8; k++)
            pd[k] &= ~(PTE_NX | PTE_GLOBAL);
        if (i == 509) { /* the boot CPU's stacks */
            uint64_t *pt = kernel_tables_copy[used++];

            memcpy(pt, phys_to_virt(pd[0] & PTE_ADDR), PAGE_SIZE);
            pd[0] = virt_to_phys(pt) | (pd[0] & ~PTE_ADDR);
            for (unsigned k = 0; k < 4 * KSTACK_SLOT / PAGE_SIZE; k++)
                pt[k] &= ~(PTE_NX | PTE_GLOBAL);
        }
    }
}

static void map_stub(void)
{
    root[STUB_SLOT] = virt_to_phys(stub_pdpt) | PERMITTED;
    stub_pdpt[0] = virt_to_phys(stub_pd) | PERMITTED;
    stub_pd[0] = virt_to_phys(stub_pt) | PERMITTED;
    stub_pt[0] = virt_to_phys(stub) | PERMITTED;
    memcpy(stub, probe_user_code, (size_t)(probe_user_code_end - probe_user_code));
    target[CODE_RET] = 0xc3;
    target[CODE_HLT] = 0xf4;
}

static void set_mode(uint16_t mode)
{
    uint64_t cr4 = before.cr4 & ~(CR4_SMEP | CR4_SMAP | CR4_PKE | CR4_PKS);
    unsigned changed = mode ^ mode_now;
    uint32_t rights;

    if (changed & MODE_WP)
        write_cr0(mode & MODE_WP ? before.cr0 | CR0_WP : before.cr0 & ~CR0_WP);
    if (changed & MODE_NXE)
        wrmsr(MSR_EFER, mode & MODE_NXE ? before.efer | EFER_NXE : before.efer & ~EFER_NXE);
    if (changed & (MODE_SMEP | MODE_SMAP | MODE_PKE | MODE_PKS)) {
        cr4 |= (mode & MODE_SMEP ? CR4_SMEP : 0) | (mode & MODE_SMAP ? CR4_SMAP : 0);
        cr4 |= (mode & MODE_PKE ? CR4_PKE : 0) | (mode & MODE_PKS ? CR4_PKS : 0);
        write_cr4(cr4);
    }
    rights = (mode & MODE_PKRU_AD ? 1u : 0) | (mode & MODE_PKRU_WD ? 2u : 0);
    if (mode & MODE_PKE)
        write_pkru(rights << (2 * ACCESS_KEY));
    rights = (mode & MODE_PKRS_AD ? 1u : 0) | (mode & MODE_PKRS_WD ? 2u : 0);
    if (mode & MODE_PKS)
        wrmsr(MSR_PKRS, rights << (2 * ACCESS_KEY));
    mode_now = mode;
}

void access_mmu_enter(void)
{
    before.cr0 = read_cr0();
    before.cr3 = read_cr3();
    before.cr4 = read_cr4();
    before.efer = rdmsr(MSR_EFER);
    before.stack_top = this_cpu()->kernel_stack_top;
    copy_tables_of_kernel();
    map_stub();
    mode_now = MODE_WP | MODE_NXE | (before.cr4 & CR4_SMEP ? MODE_SMEP : 0) |
               (before.cr4 & CR4_SMAP ? MODE_SMAP : 0);
    /* This code runs on the boot stack, whose top exceptions of ring 3 would overwrite. */
    cpu_set_kernel_stack((uint64_t)trap_stack + sizeof(trap_stack));
    trap_hook = probe_hook;
    write_cr3(virt_to_phys(root));
}

void access_mmu_leave(void)
{
    uint16_t none = MODE_WP | MODE_NXE;

    if (mode_now & (MODE_PKE | MODE_PKS))
        set_mode((uint16_t)(none | (mode_now & (MODE_PKE | MODE_PKS)))); /* the keys' rights */
    set_mode(none);
    write_cr4(before.cr4);
    write_cr3(before.cr3);
    trap_hook = NULL;
    cpu_set_kernel_stack(before.stack_top);
}

/* --- one combination -------------------------------------------------------------------- */

static uint64_t raw_entry(const struct access_case *c, unsigned level)
{
    uint16_t e = c->entry[level];
    uint64_t gpa, raw = 0;

    if (e & ENTRY_P)
        raw |= PTE_PRESENT;
    if (e & ENTRY_RW)
        raw |= PTE_WRITE;
    if (e & ENTRY_US)
        raw |= PTE_USER;
    if (e & ENTRY_A)
        raw |= PTE_ACCESSED;
    if (e & ENTRY_D)
        raw |= PTE_DIRTY;
    if (e & ENTRY_PS)
        raw |= PTE_LARGE;
    if (e & ENTRY_NX)
        raw |= PTE_NX;
    if (e & ENTRY_HIGH)
        raw |= UL(1) << (level % 2 ? 51 : phys_bits);
    if (e & ENTRY_IGNORED)
        raw |= PTE_SW_MASK | UL(0x7f) << 52;
    if (e & ENTRY_KEY)
        raw |= (uint64_t)ACCESS_KEY << 59;
    if (!access_is_leaf(c, level))
        return raw | virt_to_phys(target_table[level - 2]);
    gpa = virt_to_phys(target) & -(PAGE_SIZE << (9 * (level - 1)));
    if (level > 1 && e & ENTRY_LOW)
        raw |= UL(1) << 13;
    if (level > 1 && e & ENTRY_IGNORED)
        raw |= UL(1) << 12;
    return raw | gpa;
}

static uint64_t *entry_at(unsigned level)
{
    uint64_t gpa = virt_to_phys(target);

    return level == 4 ? &root[TARGET_SLOT]
                      : &target_table[level - 1][gpa >> (12 + 9 * (level - 1)) & 511];
}

uint64_t access_mmu_gva(const struct access_case *c)
{
    uint64_t page = TARGET_SLOT << SLOT_SHIFT | virt_to_phys(target);

    if (c->op != ACCESS_FETCH)
        return page + DATA;
    return page + (c->user ? CODE_HLT : CODE_RET);
}

/* What to run for it: the target itself for a fetch. */
static uint64_t rip_of(const struct access_case *c)
{
    uint64_t user = STUB_SLOT << SLOT_SHIFT;

    if (c->op == ACCESS_FETCH)
        return access_mmu_gva(c);
    if (c->user)
        return user + (c->op == ACCESS_READ ? PROBE_USER_READ : PROBE_USER_WRITE);
    return (uint64_t)(c->op == ACCESS_READ ? probe_kernel_read : probe_kernel_write);
}

void access_mmu_try(const struct access_case *c, struct access_result *out)
{
    uint64_t gva = access_mmu_gva(c), raw[5];
    struct probe_result came;
    struct access_result result;

    for (unsigned level = 1; level <= 4; level++) {
        raw[level] = raw_entry(c, level);
        *(volatile uint64_t *)entry_at(level) = raw[level];
    }
    set_mode(c->mode);
    invlpg(gva);
    probe(gva, rip_of(c), RFLAGS_FIXED | (c->mode & MODE_AC ? RFLAGS_AC : 0), c->user, &came);
    result = (struct access_result){ came.vector, came.error, came.cr2, .other = false };
    for (unsigned level = 1; level <= 4; level++) {
        uint64_t after = *(volatile uint64_t *)entry_at(level);

        result.accessed |= (uint8_t)(after & PTE_ACCESSED ? 1u << level : 0);
        result.dirty |= (uint8_t)(after & PTE_DIRTY ? 1u << level : 0);
        result.other |= ((after ^ raw[level]) & ~(PTE_ACCESSED | PTE_DIRTY)) != 0;
    }
    *out = result;
}
