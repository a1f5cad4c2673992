/*
 * Device memory: the one place that maps it, and the one way to access it.
 *
 * Each function is one plain MOV of its size. Devices tell sizes apart, some take a register in one
 * size only, and whoever interprets the access (KVM, or a monitor of de-privileged guests) knows
 * plain moves best; so the compiler has no say in it.
 */
#ifndef GUEST_KERNEL_MMIO_H
#define GUEST_KERNEL_MMIO_H

#include <stdint.h>

/*
 * Maps [gpa, gpa + len) uncached, writable and not executable, for ever: the kernel address of its
 * first byte. Windows are of 2 MiB; who asks for what is mapped already gets the same one. NULL
 * when the 1 GiB for them is used up, or the range is none. Not before pmm_init(); takes a lock.
 */
volatile void *mmio_map(uint64_t gpa, uint64_t len);

static inline uint8_t mmio_read8(const volatile void *p)
{
    uint8_t v;

    __asm__ volatile("movb %1, %0" : "=q"(v) : "m"(*(const volatile uint8_t *)p) : "memory");
    return v;
}

static inline uint16_t mmio_read16(const volatile void *p)
{
    uint16_t v;

    __asm__ volatile("movw %1, %0" : "=r"(v) : "m"(*(const volatile uint16_t *)p) : "memory");
    return v;
}

static inline uint32_t mmio_read32(const volatile void *p)
{
    uint32_t v;

    __asm__ volatile("movl %1, %0" : "=r"(v) : "m"(*(const volatile uint32_t *)p) : "memory");
    return v;
}

static inline uint64_t mmio_read64(const volatile void *p)
{
    uint64_t v;

    __asm__ volatile("movq %1, %0" : "=r"(v) : "m"(*(const volatile uint64_t *)p) : "memory");
    return v;
}

static inline void mmio_write8(volatile void *p, uint8_t v)
{
    __asm__ volatile("movb %1, %0" : "=m"(*(volatile uint8_t *)p) : "q"(v) : "memory");
}

static inline void mmio_write16(volatile void *p, uint16_t v)
{
    __asm__ volatile("movw %1, %0" : "=m"(*(volatile uint16_t *)p) : "r"(v) : "memory");
}

static inline void mmio_write32(volatile void *p, uint32_t v)
{
    __asm__ volatile("movl %1, %0" : "=m"(*(volatile uint32_t *)p) : "r"(v) : "memory");
}

static inline void mmio_write64(volatile void *p, uint64_t v)
{
    __asm__ volatile("movq %1, %0" : "=m"(*(volatile uint64_t *)p) : "r"(v) : "memory");
}

#endif
