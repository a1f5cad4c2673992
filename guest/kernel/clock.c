/* Frequencies of the TSC and the local APIC timer, and the clock made of them. */
#include "guest/kernel/clock.h"

#include <stdbool.h>
#include <stddef.h>

#include "guest/kernel/apic.h"
#include "guest/kernel/cpu.h"
#include "guest/kernel/mm.h"

#define MSR_KVM_SYSTEM_TIME 0x4b564d01
#define KVM_APIC_KHZ        1000000u /* KVM's timer counts nanoseconds */

#define PIT_HZ       1193182u
#define PIT_MS       1
#define PIT_ROUNDS   3
#define PIT_CHANNEL2 0x42
#define PIT_COMMAND  0x43
#define PORT_B       0x61 /* bit 0: gate of channel 2, bit 5: its output */
#define MAX_STAGES   16

#define KHZ_NS ((uint64_t)1000000) /* one cycle of 1 kHz in nanoseconds */

/* KVM's "pvclock" (Linux, Documentation/virt/kvm/x86/msr.rst, MSR_KVM_SYSTEM_TIME_NEW). */
struct pvclock {
    uint32_t version, pad;
    uint64_t tsc_timestamp, system_time;
    uint32_t tsc_to_system_mul;
    int8_t tsc_shift;
    uint8_t flags, pad2[2];
} __attribute__((aligned(32)));

uint64_t clock_tsc_khz, clock_apic_khz;

static uint64_t mult; /* 32.32 fixed point: ns = tsc * mult >> 32 */
static uint64_t tsc_start;

static struct {
    const char *name;
    uint64_t tsc;
} stages[MAX_STAGES];
static unsigned n_stages;

/* VMware's timing leaf, which KVM monitors may offer too. */
static bool from_timing_leaf(void)
{
    struct cpuid_result r;

    if (cpuid(0x40000000, 0).eax < 0x40000010)
        return false;
    r = cpuid(0x40000010, 0);
    clock_tsc_khz = r.eax;
    clock_apic_khz = r.ebx;
    return r.eax && r.ebx;
}

static bool from_kvm_clock(void)
{
    static volatile struct pvclock page;
    uint64_t hz_shifted;

    if (!cpu_features.kvm_clock)
        return false;
    wrmsr(MSR_KVM_SYSTEM_TIME, virt_to_phys((const void *)&page) | 1);
    (void)cpuid(0, 0); /* an exit, after which the structure is filled */
    if (page.tsc_to_system_mul) {
        hz_shifted = (KHZ_NS << 32) / page.tsc_to_system_mul;
        clock_tsc_khz =
            page.tsc_shift < 0 ? hz_shifted << -page.tsc_shift : hz_shifted >> page.tsc_shift;
        clock_apic_khz = KVM_APIC_KHZ;
    }
    wrmsr(MSR_KVM_SYSTEM_TIME, 0);
    return clock_tsc_khz != 0;
}

static void pit_round(uint64_t *tsc_khz, uint64_t *apic_khz)
{
    uint16_t count = PIT_HZ * PIT_MS / 1000;
    uint64_t start;

    outb(PORT_B, (inb(PORT_B) & ~3u) | 1);
    outb(PIT_COMMAND, 0xb0); /* channel 2, both bytes, mode 0: output rises at the end */
    outb(PIT_CHANNEL2, count & 0xff);
    outb(PIT_CHANNEL2, count >> 8);
    apic_timer_count_down();
    start = rdtsc();
    while (!(inb(PORT_B) & 0x20))
        ;
    *tsc_khz = (rdtsc() - start) / PIT_MS;
    *apic_khz = apic_timer_elapsed() / PIT_MS;
}

/*
 * Counts both against channel 2 of the PIT, which nobody else uses. Whatever disturbs a
 * round makes it longer: the shortest counts.
 */
static void from_pit(void)
{
    clock_tsc_khz = ~UL(0);
    for (unsigned i = 0; i < PIT_ROUNDS; i++) {
        uint64_t tsc_khz, apic_khz;

        pit_round(&tsc_khz, &apic_khz);
        if (tsc_khz < clock_tsc_khz) {
            clock_tsc_khz = tsc_khz;
            clock_apic_khz = apic_khz;
        }
    }
}

void clock_init(void)
{
    if (!from_timing_leaf() && !from_kvm_clock())
        from_pit();
    mult = (KHZ_NS << 32) / (clock_tsc_khz ? clock_tsc_khz : 1);
    tsc_start = rdtsc();
}

static uint64_t to_ns(uint64_t tsc)
{
    return (uint64_t)((unsigned __int128)tsc * mult >> 32);
}

uint64_t clock_ns(void)
{
    return to_ns(rdtsc() - tsc_start);
}

void clock_stage(const char *name)
{
    if (n_stages == MAX_STAGES)
        return;
    stages[n_stages].tsc = rdtsc();
    stages[n_stages++].name = name;
}

const char *clock_stage_get(unsigned index, uint64_t *ns)
{
    if (index >= n_stages)
        return NULL;
    *ns = to_ns(stages[index].tsc - stages[0].tsc);
    return stages[index].name;
}
