/*
 * The direct map above its first GiB, which tables.S holds. With 1 GiB pages it is
 * complete from the start. Without, a GiB is mapped when the first of its pages is needed:
 * 512 entries are much work where ring 0 is interpreted, and most RAM is never touched.
 */
#include "guest/kernel/boot_info.h"
#include "guest/kernel/cpu.h"
#include "guest/kernel/mm.h"
#include "guest/kernel/printk.h"

#define DIRECT_GIBS 512 /* what one PDPT covers */
#define LEAF        (PTE_PRESENT | PTE_WRITE | PTE_ACCESSED | PTE_DIRTY | PTE_LARGE | PTE_GLOBAL | PTE_NX)

extern uint64_t direct_pdpt[512];

static uint64_t directories; /* gpa of the page directories of GiB 1 and up, not filled */
static uint64_t n_gibs;      /* that have RAM or tables; all below are allowed */

static void map_gib(uint64_t gib)
{
    uint64_t gpa = gib * HUGE_SIZE;
    uint64_t table = directories + (gib - 1) * PAGE_SIZE;
    uint64_t *pd = phys_to_virt(table);

    for (unsigned i = 0; i < 512; i++, gpa += LARGE_SIZE)
        pd[i] = gpa | LEAF;
    __atomic_store_n(&direct_pdpt[gib], table | PTE_PRESENT | PTE_WRITE | PTE_ACCESSED,
                     __ATOMIC_RELEASE);
}

bool direct_map_need(uint64_t gpa, uint64_t len)
{
    uint64_t last = (gpa + len - 1) / HUGE_SIZE;

    if (gpa + len < gpa || last >= n_gibs)
        return false;
    for (uint64_t gib = gpa / HUGE_SIZE; gib <= last; gib++)
        if (!direct_pdpt[gib])
            map_gib(gib);
    return true;
}

/* Counts the GiBs up to the last one in use, and cuts off RAM that is out of reach. */
static void count_gibs(void)
{
    n_gibs = 1;
    for (unsigned i = 0; i < boot_info.n_memory; i++) {
        struct mem_range *r = &boot_info.memory[i];

        if (r->type != MEM_RAM && r->type != MEM_ACPI && r->type != MEM_NVS)
            continue;
        if (r->type == MEM_RAM && r->end > DIRECT_GIBS * HUGE_SIZE) {
            printk("kernel: RAM above 512 GiB is not used\n");
            r->end = DIRECT_GIBS * HUGE_SIZE;
        }
        if (r->end > n_gibs * HUGE_SIZE && r->end <= DIRECT_GIBS * HUGE_SIZE)
            n_gibs = (r->end - 1) / HUGE_SIZE + 1;
    }
}

void direct_map_init(uint64_t (*early_pages)(uint64_t n))
{
    count_gibs();
    if (n_gibs == 1)
        return;
    if (!cpu_features.gbpages) {
        directories = early_pages(n_gibs - 1);
        return;
    }
    for (uint64_t gib = 1; gib < n_gibs; gib++)
        direct_pdpt[gib] = gib * HUGE_SIZE | LEAF;
}
