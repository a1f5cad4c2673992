/* Copies what the loader left before anything may overwrite it. */
#include "guest/kernel/boot_info.h"

#include "guest/kernel/mm.h"
#include "guest/kernel/panic.h"
#include "guest/kernel/pvh.h"
#include "guest/kernel/string.h"

struct boot_info boot_info;

/* initrd.S: the programs that are linked into the kernel. */
extern const char initrd_builtin[], initrd_builtin_end[];

/*
 * Before the page allocator only the first GiB is mapped; a loader that puts its
 * structures higher is not for us.
 */
static void *early_virt(uint64_t gpa, uint64_t size)
{
    if (gpa >= HUGE_SIZE || size > HUGE_SIZE - gpa)
        panic("the loader's structures lie above 1 GiB (0x%lx)", gpa);
    return phys_to_virt(gpa);
}

static void read_memory_map(const struct pvh_start_info *si)
{
    const struct pvh_memmap *map;
    unsigned n = si->n_memmap;

    if (si->version < 1 || n == 0)
        panic("the loader gave no memory map (PVH start info version %u)", si->version);
    if (n > BOOT_MAX_RANGES)
        n = BOOT_MAX_RANGES;
    map = early_virt(si->memmap, n * sizeof(*map));
    for (unsigned i = 0; i < n; i++) {
        struct mem_range *r = &boot_info.memory[i];

        r->start = map[i].gpa;
        r->end = map[i].gpa + map[i].size;
        r->type = map[i].type;
        if (r->type == MEM_RAM)
            boot_info.ram_bytes += map[i].size;
    }
    boot_info.n_memory = n;
}

static void read_initrd(const struct pvh_start_info *si)
{
    if (si->n_modules) {
        const struct pvh_module *m = early_virt(si->modules, sizeof(*m));

        boot_info.initrd_start = m->gpa;
        boot_info.initrd_end = m->gpa + m->size;
        return;
    }
    boot_info.initrd_start = virt_to_phys(initrd_builtin);
    boot_info.initrd_end = virt_to_phys(initrd_builtin_end);
    boot_info.initrd_builtin = true;
}

void boot_info_read(uint64_t start_info_gpa)
{
    const struct pvh_start_info *si = early_virt(start_info_gpa, sizeof(*si));

    if (si->magic != PVH_MAGIC)
        panic("no PVH start info at 0x%lx (magic 0x%x)", start_info_gpa, si->magic);
    if (si->cmdline) {
        const char *line = early_virt(si->cmdline, sizeof(boot_info.cmdline));
        size_t n = strlen(line);

        if (n >= sizeof(boot_info.cmdline))
            n = sizeof(boot_info.cmdline) - 1;
        memcpy(boot_info.cmdline, line, n);
    }
    boot_info.rsdp = si->rsdp;
    read_memory_map(si);
    read_initrd(si);
}
