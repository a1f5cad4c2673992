/* The local APIC in either mode, and the little that is needed of the IOAPIC. */
#include "guest/kernel/apic.h"

#include "guest/kernel/boot_info.h"
#include "guest/kernel/clock.h"
#include "guest/kernel/cpu.h"
#include "guest/kernel/mm.h"
#include "guest/kernel/mmio.h"

#define MSR_APIC_BASE  0x1b
#define APIC_BASE_X2   (1u << 10)
#define APIC_BASE_ON   (1u << 11)
#define MSR_X2APIC     0x800
#define MSR_X2APIC_ICR 0x830

/* Register numbers as x2APIC counts them; the MMIO offset is 16 times that. */
enum {
    APIC_ID = 0x02,
    APIC_TPR = 0x08,
    APIC_EOI = 0x0b,
    APIC_SVR = 0x0f,
    APIC_ICR = 0x30,
    APIC_ICR_HIGH = 0x31,
    APIC_LVT_TIMER = 0x32,
    APIC_TIMER_INITIAL = 0x38,
    APIC_TIMER_CURRENT = 0x39,
    APIC_TIMER_DIVIDE = 0x3e,
};

#define SVR_ON         0x100
#define LVT_MASKED     (1u << 16)
#define LVT_PERIODIC   (1u << 17)
#define DIVIDE_BY_1    0xb
#define ICR_NMI        (4u << 8)
#define ICR_INIT       (5u << 8)
#define ICR_STARTUP    (6u << 8)
#define ICR_BUSY       (1u << 12)
#define ICR_ASSERT     (1u << 14)
#define ICR_ALL_OTHERS (3u << 18)

#define NS_MAX_ONCE 1000000000u

#define IOAPIC_REDIRECTION(n) (0x10 + 2 * (n))

/* The windows of tables.S, until apic_init() knows better. */
static volatile uint32_t *lapic = (volatile uint32_t *)(MMIO_BASE + LARGE_SIZE);
static volatile uint32_t *ioapic = (volatile uint32_t *)MMIO_BASE;

static uint32_t apic_read(unsigned reg)
{
    return cpu_features.x2apic ? (uint32_t)rdmsr(MSR_X2APIC + reg) : lapic[reg * 4];
}

static void apic_write(unsigned reg, uint32_t value)
{
    if (cpu_features.x2apic)
        wrmsr(MSR_X2APIC + reg, value);
    else
        lapic[reg * 4] = value;
}

void apic_init_cpu(void)
{
    if (cpu_features.x2apic)
        wrmsr(MSR_APIC_BASE, rdmsr(MSR_APIC_BASE) | APIC_BASE_ON | APIC_BASE_X2);
    apic_write(APIC_TPR, 0);
    apic_write(APIC_SVR, SVR_ON | VECTOR_SPURIOUS);
}

void apic_init(void)
{
    outb(0x21, 0xff); /* the PIC: all inputs masked */
    outb(0xa1, 0xff);
    lapic = mmio_map(boot_info.lapic_base, PAGE_SIZE);
    if (boot_info.ioapic_base)
        ioapic = mmio_map(boot_info.ioapic_base, PAGE_SIZE);
    apic_init_cpu();
    this_cpu()->apic_id = apic_id();
}

void apic_eoi(void)
{
    apic_write(APIC_EOI, 0);
}

uint32_t apic_id(void)
{
    return cpu_features.x2apic ? apic_read(APIC_ID) : apic_read(APIC_ID) >> 24;
}

void apic_timer_start(unsigned hz)
{
    this_cpu()->timer_vector = 0;
    if (!hz) {
        apic_write(APIC_LVT_TIMER, LVT_MASKED);
        apic_write(APIC_TIMER_INITIAL, 0);
        return;
    }
    apic_write(APIC_TIMER_DIVIDE, DIVIDE_BY_1);
    apic_write(APIC_LVT_TIMER, LVT_PERIODIC | VECTOR_TIMER);
    apic_write(APIC_TIMER_INITIAL, (uint32_t)(clock_apic_khz * 1000 / hz));
}

static void start_once(uint64_t ns, uint8_t vector)
{
    uint64_t count = clock_apic_khz * (ns < NS_MAX_ONCE ? ns : NS_MAX_ONCE) / 1000000;

    if (count > 0xffffffff)
        count = 0xffffffff;
    if (this_cpu()->timer_vector != vector) {
        this_cpu()->timer_vector = vector;
        apic_write(APIC_TIMER_DIVIDE, DIVIDE_BY_1);
        apic_write(APIC_LVT_TIMER, vector);
    }
    apic_write(APIC_TIMER_INITIAL, count ? (uint32_t)count : 1);
}

void apic_timer_once(uint64_t ns)
{
    start_once(ns, VECTOR_TIMER);
}

void apic_timer_wake(uint64_t ns)
{
    start_once(ns, VECTOR_WAKE);
}

void apic_timer_count_down(void)
{
    this_cpu()->timer_vector = 0;
    apic_write(APIC_TIMER_DIVIDE, DIVIDE_BY_1);
    apic_write(APIC_LVT_TIMER, LVT_MASKED);
    apic_write(APIC_TIMER_INITIAL, 0xffffffff);
}

uint32_t apic_timer_elapsed(void)
{
    return 0xffffffff - apic_read(APIC_TIMER_CURRENT);
}

static void send(uint32_t id, uint32_t command)
{
    if (cpu_features.x2apic) {
        /*
         * A write to an x2APIC MSR does not wait until earlier stores are visible (Intel SDM
         * vol. 3A, "MSR Access in x2APIC Mode"): the interrupt could come before what it
         * tells of. MFENCE and LFENCE are unknown to KVMs that interpret ring 0; INVLPG
         * serializes too.
         */
        invlpg(0);
        wrmsr(MSR_X2APIC_ICR, (uint64_t)id << 32 | command);
        return;
    }
    apic_write(APIC_ICR_HIGH, id << 24);
    apic_write(APIC_ICR, command);
    while (apic_read(APIC_ICR) & ICR_BUSY)
        cpu_relax();
}

void apic_ipi(unsigned cpu, uint8_t vector)
{
    send(cpus[cpu]->apic_id, ICR_ASSERT | vector);
}

void apic_ipi_others(uint8_t vector)
{
    send(0, ICR_ALL_OTHERS | ICR_ASSERT | vector);
}

void apic_nmi_others(void)
{
    send(0, ICR_ALL_OTHERS | ICR_ASSERT | ICR_NMI);
}

void apic_send_init(uint32_t id)
{
    send(id, ICR_ASSERT | ICR_INIT);
}

void apic_send_startup(uint32_t id, uint8_t vector)
{
    send(id, ICR_ASSERT | ICR_STARTUP | vector);
}

static void ioapic_write(unsigned reg, uint32_t value)
{
    ioapic[0] = reg;
    ioapic[4] = value;
}

void ioapic_route(unsigned irq)
{
    unsigned input = boot_info.irq_gsi[irq];

    if (!boot_info.ioapic_base)
        return;
    ioapic_write(IOAPIC_REDIRECTION(input) + 1, cpus[0]->apic_id << 24);
    ioapic_write(IOAPIC_REDIRECTION(input), VECTOR_IRQ_BASE + irq);
}
