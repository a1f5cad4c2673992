/*
 * Guest memory as the interpreter reaches it: by the guest's own tables, as its CPU would.
 */
#include "vmm/depriv_impl.h"

#include <stdio.h>
#include <string.h>

#define LAPIC_PAGE  UINT64_C(0xfee00000)
#define IOAPIC_PAGE UINT64_C(0xfec00000)
#define ATTEMPTS    16 /* the guest's other CPUs may change an entry while it is marked */

void depriv_paging(const struct depriv_cpu *c, struct x86_paging *out)
{
    const struct cpuid *cpuid = c->d->vm->cpuid;

    out->cr0 = c->s.cr0;
    out->cr3 = c->s.cr3;
    out->cr4 = c->s.cr4;
    out->efer = c->s.efer;
    out->phys_bits = c->d->phys_bits;
    out->gib_pages = cpuid_gib_pages(cpuid);
    out->amd = cpuid_amd(cpuid);
    out->rflags = c->s.rflags;
}

void depriv_tlb_forget(struct depriv_cpu *c)
{
    memset(c->tlb, 0, sizeof(c->tlb));
}

/* An entry lies at its own size, so in one page. */
static int read_entry(void *ctx, uint64_t at, unsigned size, uint64_t *raw)
{
    const struct depriv_cpu *c = ctx;
    const void *host = memory_at(c->d->vm->mem, gpa(at), size);

    if (!host)
        return -1;
    *raw = size == 8 ? __atomic_load_n((const uint64_t *)host, __ATOMIC_RELAXED)
                     : __atomic_load_n((const uint32_t *)host, __ATOMIC_RELAXED);
    return 0;
}

static void *entry_place(void *ctx, uint64_t at, unsigned bytes)
{
    const struct depriv_cpu *c = ctx;

    return memory_at(c->d->vm->mem, gpa(at), bytes);
}

static void entry_wrote(void *ctx, uint64_t at, unsigned bytes)
{
    const struct depriv_cpu *c = ctx;

    memory_wrote(c->d->vm->mem, gpa(at), bytes);
}

/*
 * Nothing answers where there is no RAM: such an entry reads as all ones, whose reserved bits are
 * set. But when it is RAM that is guarded, the VM ends.
 */
void depriv_unreadable(struct depriv_cpu *c, uint64_t address, const struct pt_access *access,
                       const struct pt_walk *walk, struct cpu_fault *fault)
{
    uint64_t at = walk->count ? walk->ref[walk->count - 1].at : 0;
    char what[96];

    depriv_count(&c->stat.refused_tables, 1);
    *fault = (struct cpu_fault){
        .vector = CPU_PAGE,
        .has_error = true,
        .error = (uint32_t)(X86_PF_P | X86_PF_RSVD | (access->op == PT_WRITE ? X86_PF_W : 0) |
                            (access->op == PT_EXEC ? X86_PF_I : 0) | (access->user ? X86_PF_U : 0)),
        .address = address,
    };
    if (!memory_guarded(c->d->vm->mem, gpa(at), 1) || c->failed)
        return;
    c->failed = true;
    (void)snprintf(what, sizeof(what), "guarded memory: read of a page table at gpa 0x%llx",
                   (unsigned long long)at);
    dump_crash(c->cpu, what, 0);
}

static int walk(struct depriv_cpu *c, uint64_t linear, const struct pt_access *access,
                struct pt_walk *w, struct cpu_fault *fault)
{
    const struct pt_marker marker = { .place = entry_place, .wrote = entry_wrote, .ctx = c };
    struct x86_paging paging = { 0 };
    struct pt_space space;

    depriv_paging(c, &paging);
    x86_pt_space(&space, &paging);
    for (unsigned i = 0; i < ATTEMPTS; i++) {
        if (pt_access(&space, linear, access, read_entry, c, w) == PT_OK) {
            if (pt_mark(w, space.format->entry_bytes, &marker))
                return 0;
            continue;
        }
        if (w->fault == PT_READ_FAILED) {
            depriv_unreadable(c, linear, access, w, fault);
            return -1;
        }
        if (w->fault == PT_NON_CANONICAL)
            return cpu_raise_gp(fault, 0);
        if (w->fault == PT_RESERVED)
            depriv_count(&c->stat.refused_tables, 1);
        (void)cpu_raise(fault, CPU_PAGE, true, (uint32_t)w->error_code);
        fault->address = linear;
        return -1;
    }
    /* Never seen: a CPU would go on trying, and so does the guest's instruction. */
    (void)cpu_raise(fault, CPU_PAGE, true, 0);
    fault->address = linear;
    return -1;
}

/* What decides about an access besides the address and the tables; never 0. */
static uint32_t kind_of(const struct depriv_cpu *c, const struct interp_access *a)
{
    return 1u | (uint32_t)a->op << 1 | (a->user ? 8u : 0) | (a->implicit ? 16u : 0) |
           (c->s.rflags & CPU_AC ? 32u : 0);
}

void depriv_tell_writes(struct depriv_cpu *c)
{
    for (unsigned i = 0; i < c->writes; i++)
        shadow_wrote(c->d->shadow, c->written[i], PAGE_SIZE_4K);
    c->writes = 0;
}

/* The write follows, and the shadow has to be told after it. */
static void will_write(struct depriv_cpu *c, gpa_t at, unsigned len)
{
    gpa_t page = gpa(at.v & ~(PAGE_SIZE_4K - 1));

    memory_wrote(c->d->vm->mem, at, len);
    for (unsigned i = 0; i < c->writes; i++)
        if (c->written[i].v == page.v)
            return;
    if (c->writes == WRITTEN_PAGES) /* those of earlier instructions, nearly always */
        depriv_tell_writes(c);
    c->written[c->writes++] = page;
}

static void *ram_of(struct depriv_cpu *c, gpa_t at, unsigned len, bool write)
{
    void *host = memory_at(c->d->vm->mem, at, len);

    if (host && write)
        will_write(c, at, len);
    return host;
}

static enum interp_place translate(void *ctx, uint64_t linear, unsigned len,
                                   const struct interp_access *access, void **host, gpa_t *at,
                                   struct cpu_fault *fault)
{
    struct depriv_cpu *c = ctx;
    uint64_t page = linear >> PAGE_SHIFT_4K;
    uint32_t kind = kind_of(c, access);
    struct soft_tlb *entry = &c->tlb[(page ^ kind * 7) % SOFT_TLB];
    struct pt_access wanted = { .op = access->op,
                                .user = access->user,
                                .implicit = access->implicit };
    struct pt_walk w;

    if (entry->page != page || entry->kind != kind) {
        if (walk(c, linear, &wanted, &w, fault) < 0)
            return INTERP_REFUSED;
        *entry = (struct soft_tlb){ .page = page,
                                    .kind = kind,
                                    .at = gpa(w.output & ~(PAGE_SIZE_4K - 1)) };
    }
    *at = gpa(entry->at.v + linear % PAGE_SIZE_4K);
    *host = ram_of(c, *at, len, access->op == PT_WRITE);
    return *host ? INTERP_RAM : INTERP_DEVICE;
}

/* --- devices ------------------------------------------------------------------------ */

/* Interrupt controllers that KVM has: only the CPU itself reaches them. */
static bool kvm_device(gpa_t at, uint64_t *gva)
{
    uint64_t page = at.v & ~(PAGE_SIZE_4K - 1), number;

    if (page == LAPIC_PAGE)
        number = DEVICE_LAPIC;
    else if (page == IOAPIC_PAGE)
        number = DEVICE_IOAPIC;
    else
        return false;
    *gva = WINDOW_GVA + WINDOW_DEVICES_AT + (number << PAGE_SHIFT_4K) + at.v % PAGE_SIZE_4K;
    return true;
}

static void guarded_access(struct depriv_cpu *c, gpa_t at, bool write)
{
    char what[96];

    if (c->failed)
        return;
    c->failed = true;
    (void)snprintf(what, sizeof(what), "guarded memory: %s at gpa 0x%llx, rip 0x%llx",
                   write ? "write" : "read", (unsigned long long)at.v,
                   (unsigned long long)c->s.rip);
    dump_crash(c->cpu, what, 0);
}

static void mmio(void *ctx, gpa_t at, void *buf, unsigned len, bool write)
{
    struct depriv_cpu *c = ctx;
    uint64_t value = 0, gva;

    if (write)
        memcpy(&value, buf, len);
    if (memory_run(c->d->vm->mem, at, 1)) {
        guarded_access(c, at, write);
        value = UINT64_MAX;
    } else if (kvm_device(at, &gva)) {
        (void)depriv_proxy(c, (write ? PROXY_WRITE : PROXY_READ) + (unsigned)__builtin_ctz(len),
                           &value, gva, 0);
    } else if (write) {
        (void)bus_write(c->d->vm->bus, BUS_MMIO, at.v, len, value);
    } else {
        (void)bus_read(c->d->vm->bus, BUS_MMIO, at.v, len, &value);
    }
    if (!write)
        memcpy(buf, &value, len);
}

const struct interp_ops depriv_memory_ops = { .translate = translate, .mmio = mmio };
