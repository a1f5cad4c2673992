/* The direct map above its first GiB, which tables.S holds. */
#include "guest/kernel/boot_info.h"
#include "guest/kernel/cpu.h"
#include "guest/kernel/mm.h"
#include "guest/kernel/printk.h"

#define DIRECT_GIBS 512 /* what one PDPT covers */
#define LEAF        (PTE_PRESENT | PTE_WRITE | PTE_ACCESSED | PTE_DIRTY | PTE_LARGE | PTE_GLOBAL | PTE_NX)

extern uint64_t direct_pdpt[512];

static void map_gib(uint64_t gib, uint64_t (*early_page)(void))
{
    uint64_t gpa = gib * HUGE_SIZE;
    uint64_t *pd;

    if (cpu_features.gbpages) {
        direct_pdpt[gib] = gpa | LEAF;
        return;
    }
    pd = phys_to_virt(early_page());
    for (unsigned i = 0; i < 512; i++, gpa += LARGE_SIZE)
        pd[i] = gpa | LEAF;
    direct_pdpt[gib] = virt_to_phys(pd) | PTE_PRESENT | PTE_WRITE | PTE_ACCESSED;
}

/* Each GiB that holds RAM or ACPI tables is mapped as a whole. */
void direct_map_init(uint64_t (*early_page)(void))
{
    for (unsigned i = 0; i < boot_info.n_memory; i++) {
        struct mem_range *r = &boot_info.memory[i];
        uint64_t last = (r->end - 1) / HUGE_SIZE;

        if ((r->type != MEM_RAM && r->type != MEM_ACPI && r->type != MEM_NVS) || r->start >= r->end)
            continue;
        if (last >= DIRECT_GIBS) {
            printk("kernel: RAM above 512 GiB is not used\n");
            last = DIRECT_GIBS - 1;
            r->end = DIRECT_GIBS * HUGE_SIZE;
        }
        for (uint64_t gib = r->start / HUGE_SIZE; gib <= last; gib++)
            if (!direct_pdpt[gib])
                map_gib(gib, early_page);
    }
}
