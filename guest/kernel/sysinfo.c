#include "guest/kernel/sysinfo.h"

#include "guest/kernel/boot_info.h"
#include "guest/kernel/clock.h"
#include "guest/kernel/cpu.h"
#include "guest/kernel/errno.h"
#include "guest/kernel/heap.h"
#include "guest/kernel/initrd.h"
#include "guest/kernel/pci_info.h"
#include "guest/kernel/mm.h"
#include "guest/kernel/printk.h"
#include "guest/kernel/proc.h"
#include "guest/kernel/sched.h"
#include "guest/kernel/string.h"
#include "guest/kernel/usercopy.h"
#include "guest/sys.h"

union record {
    struct sys_info general;
    struct sys_memory memory;
    struct sys_cpu cpu;
    struct sys_time time;
    struct sys_file file;
    struct sys_pci pci;
};

static void copy_registers(char *to, uint32_t a, uint32_t b, uint32_t c)
{
    uint32_t regs[3] = { a, b, c };

    memcpy(to, regs, sizeof regs);
}

static void fill_cpu_names(struct sys_info *info)
{
    struct cpuid_result r = cpuid(0, 0);

    copy_registers(info->cpu_vendor, r.ebx, r.edx, r.ecx);
    if (cpuid(1, 0).ecx >> 31) {
        r = cpuid(0x40000000, 0);
        copy_registers(info->hypervisor, r.ebx, r.ecx, r.edx);
    }
    if (cpuid(0x80000000, 0).eax < 0x80000004)
        return;
    for (uint32_t leaf = 0; leaf < 3; leaf++) {
        r = cpuid(0x80000002 + leaf, 0);
        memcpy(info->cpu_name + leaf * sizeof r, &r, sizeof r);
    }
}

static uint32_t feature_bits(void)
{
    const struct cpu_features *f = &cpu_features;

    return (f->smep ? SYS_FEATURE_SMEP : 0) | (f->smap ? SYS_FEATURE_SMAP : 0) |
           (f->umip ? SYS_FEATURE_UMIP : 0) | (f->pcid ? SYS_FEATURE_PCID : 0) |
           (f->invpcid ? SYS_FEATURE_INVPCID : 0) | (f->fsgsbase ? SYS_FEATURE_FSGSBASE : 0) |
           (f->gbpages ? SYS_FEATURE_1G : 0) | (f->x2apic ? SYS_FEATURE_X2APIC : 0) |
           (f->tf_console ? SYS_FEATURE_CONSOLE : 0) | (f->tf_zeroed_ram ? SYS_FEATURE_ZEROED : 0);
}

static int64_t fill_general(struct sys_info *info)
{
    struct pmm_stats stats;

    proc_free_ended();
    pmm_stats(&stats);
    info->ram_bytes = boot_info.ram_bytes;
    info->mem_total = stats.total << PAGE_SHIFT;
    info->mem_free = stats.free << PAGE_SHIFT;
    info->heap_objects = heap_objects();
    info->tsc_hz = clock_tsc_khz * 1000;
    info->initrd_gpa = boot_info.initrd_start;
    info->initrd_bytes = boot_info.initrd_end - boot_info.initrd_start;
    info->initrd_builtin = boot_info.initrd_builtin;
    info->cpus = cpus_online();
    info->processes = proc_count();
    info->started = proc_started();
    info->features = feature_bits();
    fill_cpu_names(info);
    return sizeof *info;
}

static int64_t fill_memory(struct sys_memory *m, uint64_t index)
{
    if (index >= boot_info.n_memory)
        return -ENOENT;
    m->start = boot_info.memory[index].start;
    m->end = boot_info.memory[index].end;
    m->type = boot_info.memory[index].type;
    return sizeof *m;
}

static int64_t fill_cpu(struct sys_cpu *c, uint64_t index)
{
    struct sched_stats stats;

    if (index >= cpus_online())
        return -ENOENT;
    sched_stats((unsigned)index, &stats);
    c->number = (uint32_t)index;
    c->apic_id = cpus[index]->apic_id;
    c->switches = stats.switches;
    c->idle_ns = stats.idle_ns;
    return sizeof *c;
}

static int64_t fill_time(struct sys_time *t, uint64_t index)
{
    const char *stage = index <= UINT32_MAX ? clock_stage_get((unsigned)index, &t->ns) : NULL;

    if (stage == NULL)
        return -ENOENT;
    kformat(t->stage, sizeof t->stage, "%s", stage);
    return sizeof *t;
}

static int64_t fill_file(struct sys_file *file, uint64_t index)
{
    struct initrd_file f;

    if (index > UINT32_MAX || !initrd_entry((unsigned)index, &f))
        return -ENOENT;
    kformat(file->name, sizeof file->name, "%s", f.name);
    file->size = f.size;
    file->program = f.size >= 4 && memcmp(f.data, "\177ELF", 4) == 0;
    return sizeof *file;
}

int64_t sysinfo_copy(uint64_t what, uint64_t index, uint64_t to, uint64_t len)
{
    union record record;
    int64_t size;

    memset(&record, 0, sizeof record);
    switch (what) {
    case SYS_INFO_GENERAL:
        size = index == 0 ? fill_general(&record.general) : -ENOENT;
        break;
    case SYS_INFO_MEMORY:
        size = fill_memory(&record.memory, index);
        break;
    case SYS_INFO_CPU:
        size = fill_cpu(&record.cpu, index);
        break;
    case SYS_INFO_TIME:
        size = fill_time(&record.time, index);
        break;
    case SYS_INFO_FILE:
        size = fill_file(&record.file, index);
        break;
    case SYS_INFO_PCI:
        size = pci_info(&record.pci, index);
        break;
    default:
        return -EINVAL;
    }
    if (size < 0)
        return size;
    return copy_to_user(to, &record, len < (uint64_t)size ? len : (uint64_t)size) == 0 ? size
                                                                                       : -EFAULT;
}
