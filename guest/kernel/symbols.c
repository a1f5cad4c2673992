/* The kernel's own symbol table, which the second link adds (ksyms.awk). */
#include <stddef.h>

#include "guest/kernel/layout.h"
#include "guest/kernel/panic.h"

extern const uint32_t ksym_count;
extern const uint32_t ksym_addresses[]; /* offsets from KERNEL_BASE, ascending */
extern const uint32_t ksym_names[];     /* offsets in ksym_strings */
extern const char ksym_strings[];
extern const char kernel_start[], text_end[];

const char *symbol_lookup(uint64_t gva, uint64_t *offset)
{
    uint32_t at = (uint32_t)(gva - KERNEL_BASE);
    uint32_t low = 0, high = ksym_count;

    if (gva < (uint64_t)kernel_start || gva >= (uint64_t)text_end)
        return NULL;
    while (low < high) {
        uint32_t middle = (low + high) / 2;

        if (ksym_addresses[middle] <= at)
            low = middle + 1;
        else
            high = middle;
    }
    if (!low)
        return NULL;
    *offset = at - ksym_addresses[low - 1];
    return ksym_strings + ksym_names[low - 1];
}
