/*
 * The heap. A slab is one page of equal objects; its struct page holds the list of free
 * ones and how many were ever handed out, so a new slab needs no preparation.
 */
#include "guest/kernel/heap.h"

#include "guest/kernel/lock.h"
#include "guest/kernel/mm.h"
#include "guest/kernel/panic.h"
#include "guest/kernel/string.h"

#define MIN_SHIFT 5  /* 32 bytes */
#define MAX_SHIFT 11 /* 2048 */
#define CLASSES   (MAX_SHIFT - MIN_SHIFT + 1)
#define NO_OBJECT 0xffff

static struct lock lock;
static uint32_t partial[CLASSES]; /* slabs with a free object: page frame numbers */
static uint64_t objects;

static unsigned class_of(size_t size)
{
    if (size <= 1u << MIN_SHIFT)
        return 0;
    return 64 - (unsigned)__builtin_clzl(size - 1) - MIN_SHIFT;
}

static void link_slab(uint32_t pfn, unsigned class)
{
    struct page *p = page_of((uint64_t)pfn << PAGE_SHIFT);

    p->prev = 0;
    p->next = partial[class];
    if (p->next)
        page_of((uint64_t)p->next << PAGE_SHIFT)->prev = pfn;
    partial[class] = pfn;
}

static void unlink_slab(struct page *p, unsigned class)
{
    if (p->next)
        page_of((uint64_t)p->next << PAGE_SHIFT)->prev = p->prev;
    if (p->prev)
        page_of((uint64_t)p->prev << PAGE_SHIFT)->next = p->next;
    else
        partial[class] = p->next;
}

static unsigned objects_per_slab(unsigned class)
{
    return PAGE_SIZE >> (class + MIN_SHIFT);
}

static uint32_t new_slab(unsigned class)
{
    uint64_t gpa = pmm_alloc(0, 0);
    struct page *p;

    if (!gpa)
        return 0;
    p = page_of(gpa);
    p->state = PAGE_SLAB;
    p->class = (uint8_t) class;
    p->slab.free_offset = NO_OBJECT;
    p->slab.in_use = 0;
    p->slab.carved = 0;
    link_slab((uint32_t)(gpa >> PAGE_SHIFT), class);
    return (uint32_t)(gpa >> PAGE_SHIFT);
}

static void *alloc_object(unsigned class)
{
    uint32_t pfn = partial[class] ? partial[class] : new_slab(class);
    struct page *p;
    char *base;
    size_t offset;

    if (!pfn)
        return NULL;
    p = page_of((uint64_t)pfn << PAGE_SHIFT);
    base = phys_to_virt((uint64_t)pfn << PAGE_SHIFT);
    offset = p->slab.free_offset;
    if (offset != NO_OBJECT)
        p->slab.free_offset = *(uint16_t *)(void *)(base + offset);
    else
        offset = (size_t)p->slab.carved++ << (class + MIN_SHIFT);
    if (++p->slab.in_use == objects_per_slab(class))
        unlink_slab(p, class);
    __atomic_fetch_add(&objects, 1, __ATOMIC_RELAXED);
    return base + offset;
}

void *kmalloc(size_t size)
{
    uint64_t gpa;
    unsigned order;
    void *p;

    if (size > PAGE_SIZE << PMM_MAX_ORDER)
        return NULL;
    if (size <= 1u << MAX_SHIFT) {
        lock_acquire(&lock);
        p = alloc_object(class_of(size));
        lock_release(&lock);
        return p;
    }
    order = size <= PAGE_SIZE ? 0 : 64 - (unsigned)__builtin_clzl((size - 1) >> PAGE_SHIFT);
    gpa = pmm_alloc(order, 0);
    if (!gpa)
        return NULL;
    __atomic_fetch_add(&objects, 1, __ATOMIC_RELAXED);
    return phys_to_virt(gpa);
}

void *kzalloc(size_t size)
{
    void *p = kmalloc(size);

    return p ? memset(p, 0, size) : NULL;
}

static void free_object(struct page *p, char *object)
{
    unsigned class = p->class;
    char *base = (char *)((uint64_t)object & ~(PAGE_SIZE - 1));

    if (p->slab.in_use-- == objects_per_slab(class))
        link_slab((uint32_t)(virt_to_phys(base) >> PAGE_SHIFT), class);
    *(uint16_t *)(void *)object = p->slab.free_offset;
    p->slab.free_offset = (uint16_t)(object - base);
    __atomic_fetch_sub(&objects, 1, __ATOMIC_RELAXED);
    if (p->slab.in_use == 0 && (p->next || p->prev)) { /* keep one empty slab a class */
        unlink_slab(p, class);
        p->state = PAGE_ALLOCATED;
        pmm_free(virt_to_phys(base));
    }
}

void kfree(void *object)
{
    struct page *p;

    if (!object)
        return;
    p = page_of(virt_to_phys(object) & ~(PAGE_SIZE - 1));
    if (p->state == PAGE_SLAB) {
        lock_acquire(&lock);
        free_object(p, object);
        lock_release(&lock);
        return;
    }
    if ((uint64_t)object % PAGE_SIZE)
        panic("kfree of 0x%lx, which is no object", (uint64_t)object);
    __atomic_fetch_sub(&objects, 1, __ATOMIC_RELAXED);
    pmm_free(virt_to_phys(object));
}

uint64_t heap_objects(void)
{
    return __atomic_load_n(&objects, __ATOMIC_RELAXED);
}
