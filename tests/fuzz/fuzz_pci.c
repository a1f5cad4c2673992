/*
 * A guest that does anything to a PCI bus with two made-up devices, while these raise interrupts.
 * A plain model of the bus runs beside it: config space is bytes with masks, and from these alone
 * follow which BAR answers an access, which messages go out and how the shared line stands.
 */
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/pci.h"

#define DEVICES   2
#define VECTORS   4
#define BAR_SIZE  UINT64_C(0x1000)
#define TABLE     UINT64_C(0x200)
#define PENDING   UINT64_C(0x800)
#define WIDE_BASE UINT64_C(0x4000000000)
#define WIDE_SIZE UINT64_C(0x4000000000)
#define SENT_MAX  16

/* What the model knows of a device, besides the masks that it was made with. */
struct model {
    uint8_t config[PCI_CONFIG], writable[PCI_CONFIG], clear[PCI_CONFIG];
    uint8_t table[VECTORS * 16];
    bool pending[VECTORS], msi_pending, intx;
    unsigned msi, msix; /* offsets of capabilities; 0: none */
};

static struct {
    struct bus *bus;
    struct pci *pci;
    struct pci_function f[DEVICES];
    struct model m[DEVICES];
    struct {
        unsigned calls, bar, size;
        uint64_t offset, value;
    } last[DEVICES];
    struct msi_message sent[SENT_MAX], wanted[SENT_MAX];
    unsigned sent_count, wanted_count;
    int level;
} w;

static void require(bool condition, const char *what)
{
    if (condition)
        return;
    fprintf(stderr, "fuzz_pci: %s\n", what);
    abort();
}

/* --- the devices ------------------------------------------------------------------------- */

static uint64_t answer(unsigned device, unsigned bar, uint64_t offset)
{
    return (device * 8 + bar + 1) * UINT64_C(0x0101010101010101) ^ offset;
}

static void called(void *dev, unsigned bar, uint64_t offset, unsigned size, uint64_t value)
{
    unsigned i = (unsigned)((struct pci_function *)dev - w.f);

    w.last[i].calls++;
    w.last[i].bar = bar;
    w.last[i].offset = offset;
    w.last[i].size = size;
    w.last[i].value = value;
}

static uint64_t bar_read(void *dev, unsigned bar, uint64_t offset, unsigned size)
{
    called(dev, bar, offset, size, 0);
    return answer((unsigned)((struct pci_function *)dev - w.f), bar, offset);
}

static void config_access(void *dev, unsigned offset, unsigned size)
{
    (void)dev;
    require((size == 1 || size == 2 || size == 4) && offset % size == 0 &&
                offset + size <= PCI_CONFIG,
            "a config access that is not aligned");
}

static const struct pci_ops ops = { .bar_read = bar_read,
                                    .bar_write = called,
                                    .config_written = config_access,
                                    .config_read = config_access };

static void set_line(void *ctx, unsigned gsi, int level)
{
    (void)ctx;
    require(gsi == 16 && level != w.level, "interrupt line");
    w.level = level;
}

static void send(void *ctx, const struct msi_message *message)
{
    (void)ctx;
    require(w.sent_count < SENT_MAX, "a storm of messages");
    w.sent[w.sent_count++] = *message;
}

/* Device 4 has a pin, MSI, MSI-X and BARs of all kinds; device 8, on the same line, a pin and MSI.
 */
static void make(void)
{
    struct irq_line intx = { .set = set_line, .gsi = 16 };
    struct msi_sink msi = { .send = send };

    memset(&w, 0, sizeof(w));
    require(bus_create(&w.bus, NULL) == 0 &&
                pci_create(&w.pci, w.bus, intx, msi, WIDE_BASE, WIDE_SIZE, NULL) == 0,
            "no bus");
    for (unsigned i = 0; i < DEVICES; i++) {
        struct pci_function *f = &w.f[i];
        struct model *m = &w.m[i];

        f->ops = &ops;
        f->dev = f;
        f->name = "fuzzed";
        pci_header(f, 0x1234, (uint16_t)i, 0xff0000, 0, 0, 0);
        pci_use_intx(f);
        pci_add_bar(f, 0, BAR_SIZE, false, i == 0, false);
        pci_add_bar(f, 2, 0x20, true, false, false);
        pci_add_bar(f, 4, BAR_SIZE << i, false, true, true);
        require(pci_add_msi(f) == 0 && (i || pci_add_msix(f, VECTORS, 0, TABLE, PENDING) == 0),
                "no capability");
        f->config[7] = 0xf9;
        require(pci_add(w.pci, f, (int)PCI_DEVFN(4 + 4 * i, 0), NULL) == 0, "no device");
        memcpy(m->config, f->config, sizeof(m->config));
        memcpy(m->writable, f->writable, sizeof(m->writable));
        memcpy(m->clear, f->clear, sizeof(m->clear));
        m->msi = f->msi_cap;
        m->msix = f->msix_cap;
        for (unsigned v = 0; v < VECTORS; v++)
            m->table[16 * v + 12] = 1;
    }
}

static void unmake(void)
{
    for (unsigned i = 0; i < DEVICES; i++)
        pci_remove(&w.f[i]);
    require(w.level == 0, "a line is left up");
    pci_destroy(w.pci);
    bus_destroy(w.bus);
}

/* --- the model ------------------------------------------------------------------------------ */

static uint64_t little(const uint8_t *p, unsigned bytes)
{
    uint64_t value = 0;

    memcpy(&value, p, bytes);
    return value;
}

static bool uses_msix(const struct model *m)
{
    return m->msix && m->config[m->msix + 3] & 0x80;
}

static bool uses_msi(const struct model *m)
{
    return !uses_msix(m) && m->config[m->msi + 2] & 1;
}

static void want(unsigned device, uint64_t address, uint64_t data)
{
    require(w.wanted_count < SENT_MAX, "the model's list is too short");
    w.wanted[w.wanted_count++] = (struct msi_message){ .address = address,
                                                       .data = (uint32_t)data,
                                                       .requester = w.f[device].devfn };
}

/* What follows from the state: messages that may go now, pending bits, status. */
static void settle(unsigned device)
{
    struct model *m = &w.m[device];
    bool master = m->config[4] & 4;

    for (unsigned v = 0; v < VECTORS; v++) {
        m->pending[v] = m->pending[v] && uses_msix(m);
        if (m->pending[v] && master && !(m->config[m->msix + 3] & 0x40) &&
            !(m->table[16 * v + 12] & 1)) {
            want(device, little(m->table + 16 * v, 8), little(m->table + 16 * v + 8, 4));
            m->pending[v] = false;
        }
    }
    m->msi_pending = m->msi_pending && uses_msi(m);
    if (m->msi_pending && master && !(m->config[m->msi + 16] & 1)) {
        want(device, little(m->config + m->msi + 4, 8), little(m->config + m->msi + 12, 2));
        m->msi_pending = false;
    }
    m->config[m->msi + 20] = m->msi_pending;
    m->config[6] = (uint8_t)((m->config[6] & ~8) | (m->intx ? 8 : 0));
}

static void model_config_write(unsigned device, unsigned offset, unsigned size, uint64_t value)
{
    struct model *m = &w.m[device];

    for (unsigned i = 0; i < size && offset + i < PCI_CONFIG;) {
        unsigned bytes = 4;

        for (; bytes > size - i || (offset + i) % bytes; bytes /= 2)
            ;
        for (unsigned end = i + bytes; i < end; i++) {
            unsigned at = offset + i;
            uint8_t byte = (uint8_t)(value >> (8 * i)), mask = m->writable[at];

            m->config[at] = (uint8_t)((m->config[at] & ~mask) | (byte & mask));
            m->config[at] = (uint8_t)(m->config[at] & ~(m->clear[at] & byte));
        }
        settle(device);
    }
}

static void model_notify(unsigned device, unsigned vector)
{
    struct model *m = &w.m[device];

    if (uses_msix(m) && vector < VECTORS)
        m->pending[vector] = true;
    else if (uses_msi(m))
        m->msi_pending = true;
    else if (!uses_msix(m))
        m->intx = true;
    settle(device);
}

static bool in_windows(bool io, uint64_t base, uint64_t size)
{
    uint64_t last = base + size - 1;

    if (io)
        return base >= PCI_PIO_BASE && last <= 0xffff;
    return (base >= PCI_MMIO_BASE && last < PCI_ECAM_BASE) ||
           (base >= WIDE_BASE && last < WIDE_BASE + WIDE_SIZE);
}

static uint64_t bar_base(unsigned device, unsigned bar)
{
    const struct pci_bar *b = &w.f[device].bar[bar];

    return little(w.m[device].config + 0x10 + 4 * bar, b->wide ? 8 : 4) & ~(b->size - 1);
}

/* Who answers an access; false: nobody. */
static bool model_find(bool io, uint64_t addr, unsigned size, unsigned *device, unsigned *bar)
{
    for (*device = 0; *device < DEVICES; ++*device) {
        for (*bar = 0; *bar < PCI_BARS; ++*bar) {
            const struct pci_bar *b = &w.f[*device].bar[*bar];
            uint64_t base = b->size ? bar_base(*device, *bar) : 0;

            if (b->size && b->io == io && w.m[*device].config[4] & (io ? 1 : 2) &&
                in_windows(io, base, b->size) && addr >= base && addr - base < b->size &&
                b->size - (addr - base) >= size)
                return true;
        }
    }
    return false;
}

static bool overlaps(uint64_t offset, unsigned size, uint64_t start, uint64_t bytes)
{
    return offset < start + bytes && offset + size > start;
}

static bool is_msix(unsigned device, unsigned bar, uint64_t offset, unsigned size)
{
    return device == 0 && bar == 0 &&
           (overlaps(offset, size, TABLE, sizeof(w.m[0].table)) ||
            overlaps(offset, size, PENDING, 8));
}

static uint64_t model_msix_read(uint64_t offset, unsigned size)
{
    const struct model *m = &w.m[0];
    uint64_t value = 0, bits = 0;

    for (unsigned v = 0; v < VECTORS; v++)
        bits |= (uint64_t)m->pending[v] << v;
    for (unsigned i = 0; i < size; i++) {
        uint64_t at = offset + i;

        if (at >= TABLE && at < TABLE + sizeof(m->table))
            value |= (uint64_t)m->table[at - TABLE] << (8 * i);
        else if (at >= PENDING && at < PENDING + 8)
            value |= (bits >> (8 * (at - PENDING)) & 0xff) << (8 * i);
    }
    return value;
}

static void model_msix_write(uint64_t offset, unsigned size, uint64_t value)
{
    static const uint8_t mask[16] = { 0xfc, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
                                      0xff, 0xff, 0xff, 0xff, 0xff, 0x01 };
    struct model *m = &w.m[0];

    for (unsigned i = 0; i < size; i++) {
        uint64_t at = offset + i - TABLE;

        if (at < sizeof(m->table))
            m->table[at] = (uint8_t)((m->table[at] & ~mask[at % 16]) |
                                     ((uint8_t)(value >> (8 * i)) & mask[at % 16]));
    }
    settle(0);
}

/* --- steps ---------------------------------------------------------------------------------- */

static uint64_t ones(unsigned size)
{
    return UINT64_MAX >> (64 - 8 * size);
}

/* An access outside of config space. */
static void bar_access(bool io, bool write, uint64_t addr, unsigned size, uint64_t value)
{
    enum bus_space space = io ? BUS_PIO : BUS_MMIO;
    unsigned device, bar, calls[DEVICES] = { w.last[0].calls, w.last[1].calls };
    bool found = model_find(io, addr, size, &device, &bar), msix;
    uint64_t offset = found ? addr - bar_base(device, bar) : 0, got = 0, expected = ones(size);

    if (io ? overlaps(addr, size, 0xcf8, 8) : overlaps(addr, size, PCI_ECAM_BASE, PCI_ECAM_SIZE))
        return;
    msix = found && is_msix(device, bar, offset, size);
    if (write) {
        (void)bus_write(w.bus, space, addr, size, value);
        if (msix)
            model_msix_write(offset, size, value);
    } else {
        if (found)
            expected &= msix ? model_msix_read(offset, size) : answer(device, bar, offset);
        (void)bus_read(w.bus, space, addr, size, &got);
        require(got == expected, "a BAR read");
    }
    for (unsigned i = 0; i < DEVICES; i++)
        require(w.last[i].calls == calls[i] + (found && !msix && i == device),
                "the wrong device was called");
    if (found && !msix)
        require(w.last[device].bar == bar && w.last[device].offset == offset &&
                    w.last[device].size == size &&
                    w.last[device].value == (write ? value & ones(size) : 0),
                "a device was called with something else");
}

static void config_access_step(unsigned device, bool ports, bool write, unsigned offset,
                               unsigned size, uint64_t value)
{
    uint64_t addr = PCI_ECAM_BASE + w.f[device].devfn * PCI_CONFIG + offset, got;
    enum bus_space space = BUS_MMIO;

    if (ports) {
        offset &= 0xff;
        size = offset % 4 + size > 4 ? 1 : size;
        addr = 0xcfc + offset % 4;
        space = BUS_PIO;
        (void)bus_write(w.bus, BUS_PIO, 0xcf8, 4,
                        0x80000000u | (uint32_t)w.f[device].devfn << 8 | (offset & 0xfc));
    } else if (offset + size > PCI_CONFIG) {
        return;
    }
    if (write) {
        (void)bus_write(w.bus, space, addr, size, value);
        model_config_write(device, offset, size, value);
    } else {
        (void)bus_read(w.bus, space, addr, size, &got);
        require(got == little(w.m[device].config + offset, size), "a config read");
    }
}

/* The places where something happens, for most accesses to hit one. */
static unsigned config_offset(const struct model *m, uint8_t pick, uint8_t fine)
{
    switch (pick % 6) {
    case 0:
        return 4;
    case 1:
        return m->msi + fine % 24;
    case 2:
        return m->msix ? m->msix + fine % 12 : 4;
    case 3:
        return 0x10 + fine % 24;
    case 4:
        return fine;
    default:
        return fine * 16u + pick;
    }
}

/* Sixteen bytes: what, which device, where, how wide, a value. */
static void step(const uint8_t *s)
{
    unsigned device = s[1] & 1, size = 1u << (s[1] >> 1 & 3), bar = (s[2] & 3) * 2;
    uint64_t value = little(s + 8, 8), addr;
    bool io = bar == 2;

    switch (s[0] % 8) {
    case 0:
    case 1:
    case 2:
        config_access_step(device, s[1] & 8, s[0] % 8, config_offset(&w.m[device], s[2], s[3]),
                           size, value);
        break;
    case 3: /* the table */
        bar_access(false, s[1] & 8, bar_base(0, 0) + TABLE - 8 + s[3] % 96, size, value);
        break;
    case 4:
        addr = bar < PCI_BARS ? bar_base(device, bar) - 4 + s[3] * (io ? 1u : 16u) : value;
        bar_access(io, s[1] & 8, io ? addr & 0xffff : addr, io && size == 8 ? 4 : size, value);
        break;
    case 5:
        (void)pci_notify(&w.f[device], s[3] % (VECTORS + 1));
        model_notify(device, s[3] % (VECTORS + 1));
        break;
    case 6:
        pci_intx_set(&w.f[device], s[3] & 1);
        w.m[device].intx = s[3] & 1;
        settle(device);
        break;
    default: /* a BAR goes into a window, so that others have something to hit */
        config_access_step(device, false, true, 0x10 + 4 * bar % 24, 4,
                           io ? PCI_PIO_BASE + s[3] * 16u : PCI_MMIO_BASE + s[3] * 2048u);
        break;
    }
}

static void check(void)
{
    bool level = false;

    require(w.sent_count == w.wanted_count, "the number of messages");
    for (unsigned i = 0; i < w.sent_count; i++)
        require(w.sent[i].address == w.wanted[i].address && w.sent[i].data == w.wanted[i].data &&
                    w.sent[i].requester == w.wanted[i].requester,
                "a message");
    w.sent_count = w.wanted_count = 0;
    for (unsigned i = 0; i < DEVICES; i++) {
        const struct model *m = &w.m[i];
        struct msi_message message;

        require(memcmp(w.f[i].config, m->config, PCI_CONFIG) == 0, "config space");
        level = level || (m->intx && !uses_msi(m) && !uses_msix(m) && !(m->config[5] & 4));
        if (uses_msix(m))
            for (unsigned v = 0; v < VECTORS; v++)
                require(pci_message(&w.f[i], v, &message) ==
                            (m->config[4] & 4 && !(m->config[m->msix + 3] & 0x40) &&
                             !(m->table[16 * v + 12] & 1)),
                        "whether a vector has a message");
    }
    require(w.level == level, "the line's level");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    make();
    for (; size >= 16; data += 16, size -= 16) {
        step(data);
        check();
    }
    unmake();
    return 0;
}
