/* Checks of the kernel's own tables, and of what the CPU makes of them. */
#include "guest/kernel/boot_info.h"
#include "guest/kernel/clock.h"
#include "guest/kernel/cpu.h"
#include "guest/kernel/mm.h"
#include "guest/kernel/mmio.h"
#include "guest/kernel/pagewalk.h"
#include "guest/kernel/panic.h"
#include "guest/kernel/selftest_list.h"
#include "guest/kernel/string.h"
#include "guest/kernel/trap.h"

extern uint64_t direct_pdpt[512], boot_pml4[512];
extern const char kernel_start[], rodata_start[], data_start[], trampoline[];

struct rights {
    bool writable, nx;
};

/*
 * Visits all leaves below a table. The direct map's large tables look alike, so only
 * every `step`th entry of them is read: all would take long where ring 0 is interpreted.
 */
static void find_wx(struct selftest *t, uint64_t table, unsigned level, struct rights above,
                    unsigned first)
{
    const uint64_t *entries = phys_to_virt(table);

    for (unsigned i = first; i < 512; i++) {
        uint64_t e = entries[i];
        struct rights r = { above.writable && (e & PTE_WRITE), above.nx || (e & PTE_NX) };

        if (!(e & PTE_PRESENT) || r.nx)
            continue;
        if (level == 1 || (level < 4 && e & PTE_LARGE))
            CHECK(t, !r.writable, "level %u entry %u is 0x%lx", level, i, e);
        else
            find_wx(t, e & PTE_ADDR, level - 1, r, 0);
    }
}

/* Entry 511 of the PML4 holds text, data, stacks and devices; 272 is the direct map. */
void selftest_wx(struct selftest *t)
{
    const struct rights all = { true, false };
    const uint64_t *pdpt = phys_to_virt(kernel_pml4[511] & PTE_ADDR);
    struct pagewalk w;

    find_wx(t, kernel_pml4[511] & PTE_ADDR, 3, all, 509);
    CHECK(t, pdpt[510] & PTE_PRESENT, "the kernel image is not mapped");
    for (unsigned gib = 0; gib < 512 && direct_pdpt[gib]; gib++) {
        for (unsigned i = 0; i < 8; i++) {
            uint64_t gpa = gib * HUGE_SIZE + i * LARGE_SIZE;

            pagewalk(virt_to_phys(kernel_pml4), DIRECT_MAP + gpa, &w);
            CHECK(t, w.mapped && w.nx && !w.user, "direct map of gpa 0x%lx: 0x%lx", gpa,
                  w.entry[w.n - 1]);
        }
    }
    pagewalk(virt_to_phys(boot_pml4), TRAMPOLINE, &w);
    CHECK(t, w.mapped && !w.writable && !w.nx, "trampoline: 0x%lx", w.entry[w.n - 1]);
}

static void check_rights(struct selftest *t, const char *what, const void *p, bool writable,
                         bool nx)
{
    struct pagewalk w;

    pagewalk(virt_to_phys(kernel_pml4), (uint64_t)p, &w);
    CHECK(t, w.mapped && w.writable == writable && w.nx == nx && !w.user,
          "%s: mapped %d writable %d nx %d user %d", what, w.mapped, w.writable, w.nx, w.user);
}

void selftest_rights(struct selftest *t)
{
    check_rights(t, "text", kernel_start, false, false);
    check_rights(t, "rodata", rodata_start, false, true);
    check_rights(t, "data", data_start, true, true);
    check_rights(t, "stack", (void *)(this_cpu()->kernel_stack_top - 8), true, true);
    check_rights(t, "direct map of text", phys_to_virt(virt_to_phys(kernel_start)), false, true);
    check_rights(t, "direct map of rodata", phys_to_virt(virt_to_phys(rodata_start)), false, true);
    check_rights(t, "direct map of data", phys_to_virt(virt_to_phys(data_start)), true, true);
    CHECK(t, rdmsr(0xc0000080) & 0x800, "EFER.NXE is off");
}

void selftest_low_half(struct selftest *t)
{
    for (unsigned i = 0; i < 256; i++)
        CHECK(t, kernel_pml4[i] == 0, "entry %u of the kernel's PML4 is 0x%lx", i, kernel_pml4[i]);
}

void selftest_stacks(struct selftest *t)
{
    uint64_t top = kstack_alloc(), here = (uint64_t)__builtin_frame_address(0);
    struct pagewalk w;

    CHECK(t, top, "no memory");
    if (!top)
        return;
    pagewalk(virt_to_phys(kernel_pml4), top - 8, &w);
    CHECK(t, w.mapped && w.writable && w.nx, "the stack's top is not mapped");
    pagewalk(virt_to_phys(kernel_pml4), top - KSTACK_SIZE, &w);
    CHECK(t, w.mapped && !kstack_is_guard(top - KSTACK_SIZE), "the stack's end is not mapped");
    pagewalk(virt_to_phys(kernel_pml4), top - KSTACK_SIZE - 1, &w);
    CHECK(t, !w.mapped && kstack_is_guard(top - KSTACK_SIZE - 1), "the guard is mapped");
    CHECK(t, here - KSTACK_BASE < HUGE_SIZE && !kstack_is_guard(here),
          "this code's stack is at 0x%lx", here);
    kstack_free(top);
}

/* Both functions give true when the access faulted. */
static bool write_faults(void *p, uint8_t value)
{
    uint64_t faulted = 1;

    __asm__ volatile("1: movb %b2, (%1)\n\t"
                     "xorl %k0, %k0\n\t"
                     "2:\n\t" EXTABLE("1b", "2b")
                     : "+r"(faulted)
                     : "r"(p), "q"(value)
                     : "memory", "cc");
    return faulted;
}

static bool read_faults(const void *p)
{
    uint64_t faulted = 1, value;

    __asm__ volatile("1: movb (%2), %b1\n\t"
                     "xorl %k0, %k0\n\t"
                     "2:\n\t" EXTABLE("1b", "2b")
                     : "+r"(faulted), "=&q"(value)
                     : "r"(p)
                     : "memory", "cc");
    return faulted;
}

void selftest_faults(struct selftest *t)
{
    static uint8_t data;
    uint8_t *text_alias = phys_to_virt(virt_to_phys(kernel_start));

    CHECK(t, !write_faults(&data, 1) && data == 1, "a write to data faults");
    CHECK(t, !read_faults(rodata_start), "a read of rodata faults");
    CHECK(t, write_faults((void *)(uint64_t)rodata_start, 0), "rodata can be written");
    CHECK(t, write_faults((void *)(uint64_t)kernel_start, 0), "text can be written");
    CHECK(t, write_faults(text_alias, 0), "text can be written through the direct map");
    CHECK(t, read_faults((void *)KSTACK_BASE), "a guard can be read");
}

/* Of the local APIC, which is mapped from the start: so nothing is used up. */
void selftest_mmio(struct selftest *t)
{
    volatile uint8_t *apic = mmio_map(boot_info.lapic_base, PAGE_SIZE);

    CHECK(t, apic != NULL, "the local APIC is not mapped");
    CHECK(t, mmio_map(boot_info.lapic_base + 0x20, 4) == apic + 0x20, "mapped twice");
    CHECK(t, mmio_map(boot_info.lapic_base, 0) == NULL, "a range of nothing");
    CHECK(t, mmio_map(UINT64_MAX - 3, 8) == NULL, "a range that wraps");
    CHECK(t, mmio_map(PTE_ADDR, 2 * PAGE_SIZE) == NULL, "beyond what an entry holds");
    CHECK(t, mmio_map(0xc0000000, HUGE_SIZE) == NULL, "more than there is place for");
}

void selftest_clock(struct selftest *t)
{
    uint64_t before = clock_ns(), after;

    for (unsigned i = 0; i < 20; i++)
        cpu_relax();
    after = clock_ns();
    CHECK(t, after > before, "%lu ns, then %lu ns", before, after);
    CHECK(t, clock_tsc_khz > 10000 && clock_apic_khz > 100, "TSC %lu kHz, timer %lu kHz",
          clock_tsc_khz, clock_apic_khz);
}

void selftest_format(struct selftest *t)
{
    char buf[40];
    uint64_t offset = 1;
    const char *name = symbol_lookup((uint64_t)selftest_format, &offset);

    kformat(buf, sizeof(buf), "%5d|%-4s|%02x|%lu|%c%%", -12, "ab", 7, ~UL(0), 'z');
    CHECK(t, strcmp(buf, "  -12|ab  |07|18446744073709551615|z%") == 0, "'%s'", buf);
    CHECK(t, kformat(buf, 4, "%s", "abcdef") == 3 && strcmp(buf, "abc") == 0, "cut: '%s'", buf);
    CHECK(t, name && strcmp(name, "selftest_format") == 0 && offset == 0, "symbol '%s'+%lu",
          name ? name : "?", offset);
}
