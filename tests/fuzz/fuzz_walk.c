/*
 * Any registers, any tables: the walker against a second one that is written straight
 * from the manual, a mode at a time, without any table of formats. What must hold: the same
 * fault at the same level, the same output, one read a level, nothing outside of the input.
 */
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ept/format_x86.h"
#include "ept/walk.h"

struct ram {
    const uint8_t *bytes;
    size_t size;
    unsigned reads;
};

struct answer {
    enum pt_fault fault;
    unsigned level;
    uint64_t output;
};

static void require(int condition, const char *what)
{
    if (condition)
        return;
    fprintf(stderr, "fuzz_walk: %s\n", what);
    abort();
}

static int ram_read(void *ctx, uint64_t at, unsigned size, uint64_t *raw)
{
    struct ram *ram = ctx;

    ram->reads++;
    *raw = 0;
    if (at > ram->size || size > ram->size - at)
        return -1;
    memcpy(raw, ram->bytes + at, size);
    return 0;
}

static bool bit(uint64_t value, unsigned n)
{
    return (value >> n) & 1;
}

static bool any(uint64_t value, unsigned high, unsigned low)
{
    for (unsigned n = low; n <= high; n++)
        if (bit(value, n))
            return true;
    return false;
}

static uint64_t cut(uint64_t value, unsigned high, unsigned low)
{
    uint64_t out = 0;

    for (unsigned n = low; n <= high; n++)
        out |= (uint64_t)bit(value, n) << n;
    return out;
}

/* 32-bit paging: SDM vol. 3A, 4.3. */
static struct answer walk32(struct ram *ram, const struct x86_paging *r, uint64_t va)
{
    uint64_t pde, pte;

    if (ram_read(ram, (r->cr3 & 0xfffff000) + (va / 0x400000) * 4, 4, &pde) < 0)
        return (struct answer){ PT_READ_FAILED, 2, 0 };
    if (!bit(pde, 0))
        return (struct answer){ PT_NOT_PRESENT, 2, 0 };
    if (bit(r->cr4, 4) && bit(pde, 7)) {
        uint64_t high = (pde >> 13) & 0xff;

        if (bit(pde, 21) || (r->phys_bits < 40 && high >> (r->phys_bits - 32)))
            return (struct answer){ PT_RESERVED, 2, 0 };
        return (struct answer){ PT_OK, 2, high << 32 | cut(pde, 31, 22) | (va & 0x3fffff) };
    }
    if (ram_read(ram, (pde & 0xfffff000) + ((va / 4096) % 1024) * 4, 4, &pte) < 0)
        return (struct answer){ PT_READ_FAILED, 1, 0 };
    if (!bit(pte, 0))
        return (struct answer){ PT_NOT_PRESENT, 1, 0 };
    return (struct answer){ PT_OK, 1, cut(pte, 31, 12) | (va & 0xfff) };
}

/* What is reserved in any entry of 8 bytes, whatever its level. */
static bool reserved8(uint64_t entry, const struct x86_paging *r, bool pae)
{
    if (r->phys_bits < 52 && any(entry, 51, r->phys_bits))
        return true;
    if (pae && any(entry, 62, 52))
        return true;
    return bit(entry, 63) && !bit(r->efer, 11);
}

/* PAE and 4- and 5-level paging: SDM vol. 3A, 4.4 and 4.5. */
static struct answer walk64(struct ram *ram, const struct x86_paging *r, uint64_t va)
{
    bool pae = !bit(r->efer, 10);
    unsigned levels = pae ? 3 : (bit(r->cr4, 12) ? 5 : 4);
    uint64_t table = pae ? cut(r->cr3, 31, 5) : cut(r->cr3, 51, 12);

    for (unsigned n = levels; n >= 1; n--) {
        unsigned shift = 12 + 9 * (n - 1);
        uint64_t index = (va >> shift) % (pae && n == 3 ? 4 : 512), entry;
        bool leaf;

        if (ram_read(ram, table + index * 8, 8, &entry) < 0)
            return (struct answer){ PT_READ_FAILED, n, 0 };
        if (!bit(entry, 0))
            return (struct answer){ PT_NOT_PRESENT, n, 0 };
        leaf = n == 1 || (bit(entry, 7) && (n == 2 || (n == 3 && !pae)));
        if (reserved8(entry, r, pae) || (n >= 4 && bit(entry, 7)) ||
            (n == 3 && pae && (any(entry, 2, 1) || any(entry, 8, 5) || bit(entry, 63))) ||
            (leaf && n == 3 && !r->gib_pages) || (leaf && n > 1 && any(entry, shift - 1, 13)))
            return (struct answer){ PT_RESERVED, n, 0 };
        if (leaf)
            return (struct answer){ PT_OK, n,
                                    cut(entry, 51, shift) | (va % (UINT64_C(1) << shift)) };
        table = cut(entry, 51, 12);
    }
    abort();
}

static struct answer walk_by_the_book(struct ram *ram, const struct x86_paging *r, uint64_t va)
{
    bool on = bit(r->cr0, 31), pae = bit(r->cr4, 5), wide = on && pae && bit(r->efer, 10);
    unsigned width = !wide ? 32 : (bit(r->cr4, 12) ? 57 : 48);
    uint64_t above = wide && bit(va, width - 1) ? UINT64_MAX << width : 0;

    if ((va & UINT64_MAX << width) != above)
        return (struct answer){ PT_NON_CANONICAL, 0, 0 };
    if (!on)
        return (struct answer){ PT_OK, 0, va };
    return pae ? walk64(ram, r, va) : walk32(ram, r, va);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint64_t in[4];
    struct x86_paging regs;
    struct pt_space space;
    struct answer want;
    struct ram ram;
    struct pt_walk got;

    if (size < sizeof(in))
        return 0;
    memcpy(in, data, sizeof(in));
    ram = (struct ram){ .bytes = data + sizeof(in), .size = size - sizeof(in) };
    regs = (struct x86_paging){
        .cr0 = bit(in[0], 0) ? 1 : X86_CR0_PG | 1,
        .cr3 = in[1],
        .cr4 = in[2],
        .efer = in[0] & (X86_EFER_LMA | X86_EFER_NXE),
        .phys_bits = 32 + (unsigned)(in[0] >> 16) % 21,
        .gib_pages = bit(in[0], 1),
    };
    x86_pt_space(&space, &regs);
    (void)pt_walk(&space, in[3], ram_read, &ram, &got);
    require(ram.reads == got.count && got.count <= space.format->levels, "number of reads");
    ram.reads = 0;
    want = walk_by_the_book(&ram, &regs, in[3]);
    require(got.fault == want.fault, "another fault than the manual says");
    require(got.level == want.level, "another level than the manual says");
    require(got.fault != PT_OK || got.output == want.output, "another output");
    require(ram.reads == got.count, "more or fewer reads than the manual says");
    return 0;
}
