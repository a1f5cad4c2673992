/*
 * CR3, PCIDs and TLB shootdown. Who changes entries first takes the other CPUs' "warm"
 * bits and then looks who is active; who loads CR3 sets its "active" bit and then takes
 * its own "warm" bit. Whatever the order, a CPU either gets the request or flushes by
 * itself when it loads CR3.
 */
#include "guest/kernel/apic.h"
#include "guest/kernel/aspace_internal.h"
#include "guest/kernel/cpu.h"
#include "guest/kernel/mm.h"

#define CR3_NO_FLUSH   UL(0x8000000000000000)
#define MAX_SINGLE     32 /* pages; beyond that the whole address space is flushed */
#define PCIDS_PER_WORD 64
#define PCID_WORDS     (4096 / PCIDS_PER_WORD)

/* The one shootdown that may be under way; written by the holder of the lock. */
static struct {
    struct lock lock;
    struct aspace *as;
    uint64_t start, end;
} request;

static struct lock pcid_lock;
static uint64_t pcids_used[PCID_WORDS] = { 1 }; /* 0 is the kernel's own */

uint32_t pcid_alloc(void)
{
    uint32_t pcid = 0;

    if (!cpu_features.pcid)
        return 0;
    lock_acquire(&pcid_lock);
    for (unsigned i = 0; i < PCID_WORDS && !pcid; i++) {
        uint64_t unused = ~pcids_used[i];

        if (unused) {
            pcids_used[i] |= unused & -unused;
            pcid = i * PCIDS_PER_WORD + (uint32_t)__builtin_ctzl(unused);
        }
    }
    lock_release(&pcid_lock);
    return pcid;
}

void pcid_free(uint32_t pcid)
{

    if (!pcid)
        return;
    lock_acquire(&pcid_lock);
    pcids_used[pcid / PCIDS_PER_WORD] &= ~(UL(1) << pcid % PCIDS_PER_WORD);
    lock_release(&pcid_lock);
}

void aspace_switch(struct aspace *as)
{
    struct cpu *c = this_cpu();
    struct aspace *old = c->aspace;
    uint64_t bit = UL(1) << c->id;
    uint64_t cr3;

    if (as == old)
        return;
    if (as) {
        cr3 = as->root | as->pcid;
        __atomic_fetch_or(&as->active, bit, __ATOMIC_SEQ_CST);
        if (as->pcid && __atomic_fetch_or(&as->warm, bit, __ATOMIC_SEQ_CST) & bit)
            cr3 |= CR3_NO_FLUSH;
    } else {
        cr3 = virt_to_phys(kernel_pml4);
    }
    c->aspace = as;
    write_cr3(cr3);
    if (old)
        __atomic_fetch_and(&old->active, ~bit, __ATOMIC_SEQ_CST);
}

static void flush_here(struct aspace *as, uint64_t start, uint64_t end)
{
    if (this_cpu()->aspace != as)
        return;
    if (end - start > MAX_SINGLE * PAGE_SIZE) {
        write_cr3(as->root | as->pcid);
        return;
    }
    for (uint64_t gva = start; gva < end; gva += PAGE_SIZE)
        invlpg(gva);
}

void tlb_poll(void)
{
    struct cpu *c = this_cpu();

    /* Pairs with the release in flush_others(): the request is complete. */
    if (__atomic_load_n(&c->tlb_pending, __ATOMIC_ACQUIRE)) {
        flush_here(request.as, request.start, request.end);
        __atomic_store_n(&c->tlb_pending, 0, __ATOMIC_RELEASE);
    }
}

static void flush_others(struct aspace *as, uint64_t start, uint64_t end, uint64_t targets)
{
    lock_acquire(&request.lock);
    request.as = as;
    request.start = start;
    request.end = end;
    for (uint64_t left = targets; left; left &= left - 1) {
        unsigned n = (unsigned)__builtin_ctzl(left);

        __atomic_store_n(&cpus[n]->tlb_pending, 1, __ATOMIC_RELEASE);
        apic_ipi(n, VECTOR_TLB);
    }
    for (uint64_t left = targets; left; left &= left - 1) {
        unsigned n = (unsigned)__builtin_ctzl(left);

        while (__atomic_load_n(&cpus[n]->tlb_pending, __ATOMIC_ACQUIRE))
            cpu_relax();
    }
    lock_release(&request.lock);
}

void tlb_flush(struct aspace *as, uint64_t start, uint64_t end)
{
    struct cpu *c = this_cpu();
    uint64_t bit = UL(1) << c->id;
    uint64_t keep = c->aspace == as ? bit : 0;
    uint64_t targets;

    __atomic_fetch_and(&as->warm, keep, __ATOMIC_SEQ_CST);
    targets = __atomic_load_n(&as->active, __ATOMIC_SEQ_CST) & ~bit;
    flush_here(as, start, end);
    if (targets)
        flush_others(as, start, end, targets);
}
