/*
 * The window: what ring 0 of a de-privileged vCPU consists of (docs/shadow.md, "The window").
 *
 *   stubs | IDT | PDPT | PD | PT of devices | a page a vCPU | pool of shadow tables
 *
 * The guest's tables can't name its gpa, and its gva has no user bit.
 */
#include "vmm/depriv_impl.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#define POOL_BYTES_MIN (UINT64_C(8) << 20)
#define POOL_RAM_SHARE 128 /* one byte of tables for so many of RAM, besides */
#define POOL_BYTES_MAX (UINT64_C(512) << 20)

#define PTE_TABLE      0x23 /* present, writable, accessed; ring 0 only */
#define PTE_LEAF_2M    0xe3
#define PTE_DEVICE     0x7b /* uncached */
#define PTE_NX         (UINT64_C(1) << 63)
#define LAPIC_GPA      UINT64_C(0xfee00000)
#define IOAPIC_GPA     UINT64_C(0xfec00000)
#define GATE_INT64     0x8e00
#define TSS_IO_NOWHERE 104

/* Intel SDM vol. 3A, "Task Management in 64-bit Mode". */
struct tss64 {
    uint32_t reserved0;
    uint64_t rsp[3];
    uint64_t reserved1;
    uint64_t ist[7];
    uint64_t reserved2;
    uint16_t reserved3, io_map;
} __attribute__((packed));

_Static_assert(sizeof(struct tss64) == 104, "the manual's layout");

/* Vectors with a stack of their own: they may come while another frame is not yet read. */
static unsigned ist_of(unsigned vector)
{
    switch (vector) {
    case CPU_NMI:
        return 1;
    case CPU_DOUBLE:
        return 2;
    case 18: /* machine check */
        return 3;
    default:
        return 0;
    }
}

static void fill_idt(struct depriv *d)
{
    uint64_t *idt = (uint64_t *)window_page(d, WINDOW_IDT);
    uint64_t stub = window_at(WINDOW_STUBS);

    for (unsigned v = 0; v < 256; v++, stub += STUB_BYTES) {
        idt[2 * v] = (stub & 0xffff) | STUB_CODE << 16 | (uint64_t)(GATE_INT64 | ist_of(v)) << 32 |
                     (stub >> 16 & 0xffff) << 48;
        idt[2 * v + 1] = stub >> 32;
    }
}

static void fill_cpu(struct depriv *d, unsigned cpu)
{
    uint8_t *page = window_page(d, WINDOW_CPUS + cpu);
    uint64_t at = window_at(WINDOW_CPUS + cpu);
    struct tss64 tss = { .io_map = TSS_IO_NOWHERE };
    uint64_t gdt[4] = { 0, 0x00af9b000000ffff, 0, 0 };

    tss.rsp[0] = at + CPU_PAGE_STACK;
    tss.ist[0] = at + CPU_PAGE_NMI;
    tss.ist[1] = at + CPU_PAGE_DOUBLE;
    tss.ist[2] = at + CPU_PAGE_MC;
    gdt[2] =
        (sizeof(tss) - 1) | (at & 0xffffff) << 16 | UINT64_C(0x8b) << 40 | (at >> 24 & 0xff) << 56;
    gdt[3] = at >> 32;
    memcpy(page + CPU_PAGE_TSS, &tss, sizeof(tss));
    memcpy(page + CPU_PAGE_GDT, gdt, sizeof(gdt));
}

/* Accesses by the real CPU, in ring 0: those to interrupt controllers and registers that KVM has.
 */
void window_cpu_init(struct depriv *d, unsigned cpu)
{
    /* A byte each: opcode of read and write by size; RDI is the address, DX the port. */
    static const uint8_t code[PROXIES][STUB_BYTES] = {
        { 0x8a, 0x07, 0xe6, STUB_PORT },
        { 0x66, 0x8b, 0x07, 0xe6, STUB_PORT },
        { 0x8b, 0x07, 0xe6, STUB_PORT },
        { 0x48, 0x8b, 0x07, 0xe6, STUB_PORT },
        { 0x88, 0x07, 0xe6, STUB_PORT },
        { 0x66, 0x89, 0x07, 0xe6, STUB_PORT },
        { 0x89, 0x07, 0xe6, STUB_PORT },
        { 0x48, 0x89, 0x07, 0xe6, STUB_PORT },
        { 0xec, 0xe6, STUB_PORT },
        { 0x66, 0xed, 0xe6, STUB_PORT },
        { 0xed, 0xe6, STUB_PORT },
        { 0xe6, STUB_PORT },
        { 0xee, 0xe6, STUB_PORT },
        { 0x66, 0xef, 0xe6, STUB_PORT },
        { 0xef, 0xe6, STUB_PORT },
        { 0xe6, STUB_PORT },
        /* mov ecx, edi; rdmsr; shl rdx, 32; or rax, rdx */
        { 0x89, 0xf9, 0x0f, 0x32, 0x48, 0xc1, 0xe2, 32, 0x48, 0x09, 0xd0, 0xe6, STUB_PORT },
        /* mov rdx, rax; shr rdx, 32; mov ecx, edi; wrmsr */
        { 0x48, 0x89, 0xc2, 0x48, 0xc1, 0xea, 32, 0x89, 0xf9, 0x0f, 0x30, 0xe6, STUB_PORT },
    };
    uint8_t *page = window_page(d, WINDOW_CPUS + cpu);

    _Static_assert(CPU_PAGE_PROXY + sizeof(code) <= CPU_PAGE_MC - 64, "room for a frame");
    fill_cpu(d, cpu);
    for (size_t i = 0; i < sizeof(code) / sizeof(code[0]); i++)
        memcpy(page + CPU_PAGE_PROXY + i * STUB_BYTES, code[i], sizeof(code[i]));
}

static void fill_tables(struct depriv *d)
{
    uint64_t *pdpt = (uint64_t *)window_page(d, WINDOW_PDPT);
    uint64_t *pd = (uint64_t *)window_page(d, WINDOW_PD);
    uint64_t *pt = (uint64_t *)window_page(d, WINDOW_DEVICES);
    uint64_t *root = (uint64_t *)window_page(d, WINDOW_ROOT);
    uint8_t *stubs = window_page(d, WINDOW_STUBS);

    root[WINDOW_SLOT] = (d->base.v + WINDOW_PDPT * PAGE_SIZE_4K) | PTE_TABLE;
    pdpt[0] = (d->base.v + WINDOW_PD * PAGE_SIZE_4K) | PTE_TABLE;
    for (uint64_t i = 0; i < d->hidden_size >> PAGE_SHIFT_2M; i++)
        pd[i] = (d->base.v + (i << PAGE_SHIFT_2M)) | PTE_LEAF_2M;
    pd[511] = (d->base.v + WINDOW_DEVICES * PAGE_SIZE_4K) | PTE_TABLE;
    pt[DEVICE_LAPIC] = LAPIC_GPA | PTE_DEVICE | PTE_NX;
    pt[DEVICE_IOAPIC] = IOAPIC_GPA | PTE_DEVICE | PTE_NX;
    for (unsigned v = 0; v < 256; v++) {
        stubs[v * STUB_BYTES] = 0xe6; /* OUT imm8, AL */
        stubs[v * STUB_BYTES + 1] = STUB_PORT;
    }
}

static uint64_t pool_bytes(const struct depriv *d)
{
    uint64_t bytes = POOL_BYTES_MIN + memory_size(d->vm->mem) / POOL_RAM_SHARE;

    return bytes < POOL_BYTES_MAX ? bytes : POOL_BYTES_MAX;
}

int window_create(struct depriv *d, struct error *err)
{
    uint64_t size = WINDOW_POOL * PAGE_SIZE_4K + pool_bytes(d);
    struct kvm_userspace_memory_region region = { .slot = WINDOW_MEM_SLOT };
    size_t count;
    const struct mem_slot *slot = memory_slots(d->vm->mem, &count);
    uint64_t end = slot[count - 1].base.v + slot[count - 1].size;

    d->hidden_size = (size + PAGE_SIZE_2M - 1) & ~(PAGE_SIZE_2M - 1);
    d->base = gpa(UINT64_C(1) << (d->phys_bits - 1));
    if (end > d->base.v)
        return error_set(err, -EINVAL,
                         "--paging shadow needs the upper half of this CPU's %u bits of physical "
                         "address for itself: ask for less memory",
                         d->phys_bits);
    /* Shared: the CPU's view and ours stay the same whatever fork or KSM do. */
    d->hidden = mmap(NULL, d->hidden_size, PROT_READ | PROT_WRITE,
                     MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (d->hidden == MAP_FAILED) {
        d->hidden = NULL;
        return error_set(err, -errno, "can't map %" PRIu64 " MiB for shadow tables: %s",
                         d->hidden_size >> 20, strerror(errno));
    }
    /* What each trap needs stays where it is; a limit that forbids it costs speed at most. */
    (void)mlock(d->hidden, (WINDOW_CPUS + d->vm->cfg->cpus) * PAGE_SIZE_4K);
    d->pool_pages = (d->hidden_size >> PAGE_SHIFT_4K) - WINDOW_POOL;
    fill_tables(d);
    fill_idt(d);
    region.guest_phys_addr = d->base.v;
    region.memory_size = d->hidden_size;
    region.userspace_addr = (uintptr_t)d->hidden;
    if (ioctl(d->vm->fd, KVM_SET_USER_MEMORY_REGION, &region) < 0)
        return error_set(err, -errno, "KVM refuses the memory of the shadow tables: %s",
                         strerror(errno));
    return 0;
}

void window_destroy(struct depriv *d)
{
    struct kvm_userspace_memory_region region = { .slot = WINDOW_MEM_SLOT };

    if (!d->hidden)
        return;
    (void)ioctl(d->vm->fd, KVM_SET_USER_MEMORY_REGION, &region);
    (void)munmap(d->hidden, d->hidden_size);
}
