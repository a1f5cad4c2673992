/*
 * Address types. Every address space has its own C type, so that a guest
 * physical address can't be passed where a host virtual one is meant.
 *
 *   gva  guest virtual      what the guest's instructions use
 *   gpa  guest physical     what the guest's page tables produce
 *   hva  host virtual       where the monitor sees the same byte: a pointer where it is used, an
 *                           hva_t where it is kept, compared or shown
 *   hpa  host physical      what the machine's memory bus sees
 *   iova I/O virtual        what a device puts on the bus
 */
#ifndef TWOFOLD_EPT_ADDR_H
#define TWOFOLD_EPT_ADDR_H

#include <stdint.h>

typedef struct {
    uint64_t v;
} gva_t;

typedef struct {
    uint64_t v;
} gpa_t;

typedef struct {
    uint64_t v;
} hva_t;

typedef struct {
    uint64_t v;
} hpa_t;

typedef struct {
    uint64_t v;
} iova_t;

#define PAGE_SHIFT_4K 12
#define PAGE_SHIFT_2M 21
#define PAGE_SHIFT_1G 30
#define PAGE_SIZE_4K  (UINT64_C(1) << PAGE_SHIFT_4K)
#define PAGE_SIZE_2M  (UINT64_C(1) << PAGE_SHIFT_2M)
#define PAGE_SIZE_1G  (UINT64_C(1) << PAGE_SHIFT_1G)

static inline gva_t gva(uint64_t v)
{
    return (gva_t){ v };
}

static inline gpa_t gpa(uint64_t v)
{
    return (gpa_t){ v };
}

static inline hva_t hva(uint64_t v)
{
    return (hva_t){ v };
}

static inline hva_t hva_of(const volatile void *p)
{
    return hva((uintptr_t)p);
}

static inline hpa_t hpa(uint64_t v)
{
    return (hpa_t){ v };
}

#endif
