/* The walk as the CPU does it (Intel SDM vol. 3A, "4-Level Paging and 5-Level Paging"). */
#include "guest/kernel/pagewalk.h"

#include "guest/kernel/mm.h"
#include "guest/kernel/printk.h"

extern uint64_t direct_pdpt[512];

static bool in_direct_map(uint64_t gpa)
{
    return gpa < 512 * HUGE_SIZE && direct_pdpt[gpa / HUGE_SIZE] & PTE_PRESENT;
}

void pagewalk(uint64_t root, uint64_t gva, struct pagewalk *w)
{
    uint64_t table = root;

    *w = (struct pagewalk){ .root = root, .writable = true, .user = true };
    for (unsigned level = 4; level; level--) {
        unsigned shift = PAGE_SHIFT + 9 * (level - 1);
        unsigned i = gva >> shift & 511;
        uint64_t e;

        w->size = UL(1) << shift;
        if (!in_direct_map(table))
            return;
        e = ((uint64_t *)phys_to_virt(table))[i];
        w->index[w->n] = (uint16_t)i;
        w->entry[w->n++] = e;
        if (!(e & PTE_PRESENT))
            return;
        w->writable &= (e & PTE_WRITE) != 0;
        w->user &= (e & PTE_USER) != 0;
        w->nx |= (e & PTE_NX) != 0;
        table = e & PTE_ADDR;
        if (level == 1 || (level < 4 && e & PTE_LARGE)) {
            w->mapped = true;
            w->gpa = (table & ~(w->size - 1)) | (gva & (w->size - 1));
            return;
        }
    }
}

static const char *flags_of(uint64_t e, bool leaf, char *buf)
{
    static const struct {
        uint64_t bit;
        const char *name;
        bool leaf_only;
    } names[] = {
        { PTE_WRITE, " writable", false }, { PTE_USER, " user", false },
        { PTE_PWT, " PWT", false },        { PTE_PCD, " PCD", false },
        { PTE_ACCESSED, " A", false },     { PTE_DIRTY, " D", true },
        { PTE_LARGE, " large", false },    { PTE_GLOBAL, " global", true },
        { PTE_NX, " NX", false },
    };
    char *at = buf;

    for (unsigned i = 0; i < sizeof(names) / sizeof(*names); i++)
        if (e & names[i].bit && (leaf || !names[i].leaf_only))
            for (const char *s = names[i].name; *s; s++)
                *at++ = *s;
    *at = '\0';
    return buf;
}

void pagewalk_print(const struct pagewalk *w, uint64_t gva)
{
    static const char *const level_names[] = { "PML4", "PDPT", "PD  ", "PT  " };
    char buf[80];

    printk("walk of 0x%lx, PML4 at gpa 0x%lx:\n", gva, w->root);
    for (unsigned i = 0; i < w->n; i++) {
        uint64_t e = w->entry[i];
        bool leaf = i + 1 == w->n;

        if (e & PTE_PRESENT)
            printk("  %s[%3u] 0x%016lx  present%s\n", level_names[i], w->index[i], e,
                   flags_of(e, leaf, buf));
        else
            printk("  %s[%3u] 0x%016lx  not present\n", level_names[i], w->index[i], e);
    }
    if (w->mapped)
        printk("  -> gpa 0x%lx, page of %lu KiB\n", w->gpa, w->size >> 10);
    else
        printk("  -> not mapped\n");
}
