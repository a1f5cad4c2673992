/*
 * Kernel stacks, in a window of slots: an unmapped guard below each. A stack that is
 * given back stays mapped and waits for the next thread, so no TLB ever needs a flush.
 */
#include "guest/kernel/mm.h"

#define SLOTS_PER_TABLE (LARGE_SIZE / KSTACK_SLOT)
#define SLOTS           (HUGE_SIZE / KSTACK_SLOT)
#define STACK_PAGES     (KSTACK_SIZE / PAGE_SIZE)
#define STACK_ORDER     2

_Static_assert(STACK_PAGES == 1 << STACK_ORDER, "KSTACK_SIZE");

extern uint64_t stack_pd[512];

static struct lock lock;
static uint64_t next_slot = 4; /* tables.S maps the boot CPU's */
static uint64_t free_top;      /* a list: the last word of a free stack is the next one's top */

static uint64_t map_new(void)
{
    uint64_t slot = next_slot, gpa;
    uint64_t *pt;

    if (slot == SLOTS)
        return 0;
    gpa = pmm_alloc(STACK_ORDER, 0);
    if (!gpa)
        return 0;
    if (!stack_pd[slot / SLOTS_PER_TABLE]) {
        uint64_t table = pmm_alloc(0, PMM_ZERO);

        if (!table) {
            pmm_free(gpa);
            return 0;
        }
        stack_pd[slot / SLOTS_PER_TABLE] = table | PTE_PRESENT | PTE_WRITE | PTE_ACCESSED;
    }
    pt = phys_to_virt(stack_pd[slot / SLOTS_PER_TABLE] & PTE_ADDR);
    pt += slot % SLOTS_PER_TABLE * (KSTACK_SLOT / PAGE_SIZE) + STACK_PAGES;
    for (unsigned i = 0; i < STACK_PAGES; i++, gpa += PAGE_SIZE)
        pt[i] = gpa | PTE_PRESENT | PTE_WRITE | PTE_ACCESSED | PTE_DIRTY | PTE_GLOBAL | PTE_NX;
    next_slot++;
    return KSTACK_BASE + (slot + 1) * KSTACK_SLOT;
}

uint64_t kstack_alloc(void)
{
    uint64_t top;

    lock_acquire(&lock);
    top = free_top;
    if (top)
        free_top = ((uint64_t *)top)[-1];
    else
        top = map_new();
    lock_release(&lock);
    return top;
}

void kstack_free(uint64_t top)
{
    lock_acquire(&lock);
    ((uint64_t *)top)[-1] = free_top;
    free_top = top;
    lock_release(&lock);
}

bool kstack_is_guard(uint64_t gva)
{
    return gva - KSTACK_BASE < HUGE_SIZE && gva % KSTACK_SLOT < KSTACK_SLOT - KSTACK_SIZE;
}
