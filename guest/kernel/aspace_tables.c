/* Tables of an address space that go away. */
#include "guest/kernel/aspace_internal.h"
#include "guest/kernel/mm.h"

void table_free(uint64_t table, unsigned level)
{
    uint64_t *t = phys_to_virt(table);

    for (uint64_t groups = *table_used_map(table); groups; groups &= groups - 1) {
        unsigned first = (unsigned)__builtin_ctzl(groups) * 8;

        for (unsigned i = first; i < first + 8; i++) {
            uint64_t e = t[i];

            if (!e)
                continue;
            t[i] = 0;
            if (level > LEVEL_PT && !(e & PTE_LARGE))
                table_free(e & PTE_ADDR, level - 1);
            else if (e & PTE_PRESENT)
                page_put(e & PTE_ADDR);
        }
    }
    pmm_free_zeroed(table);
}

bool table_maps_nothing(uint64_t table, unsigned level)
{
    const uint64_t *t = phys_to_virt(table);

    for (uint64_t groups = *table_used_map(table); groups; groups &= groups - 1) {
        unsigned first = (unsigned)__builtin_ctzl(groups) * 8;

        for (unsigned i = first; i < first + 8; i++) {
            if (!t[i])
                continue;
            if (level == LEVEL_PT || t[i] & PTE_LARGE ||
                !table_maps_nothing(t[i] & PTE_ADDR, level - 1))
                return false;
        }
    }
    return true;
}
