#include "vmm/vfio_config.h"

#include <errno.h>
#include <linux/pci_regs.h>
#include <string.h>

#define CAPS_MAX 48 /* there is no room for more */
#define MSI_ROOM 24 /* of pci_add_msi() */
#define PAGE     UINT64_C(4096)

/* PCI Express Base Specification, 7.5.3.2: a function that is on no link. */
#define EXPRESS_INTEGRATED 9u
#define EXPRESS_V1_BYTES   0x14u
#define EXPRESS_V2_BYTES   0x3cu

struct cap {
    uint8_t id;
    unsigned at, size; /* on the device */
    unsigned placed;   /* in the function; 0: hidden */
};

struct build {
    struct vfio_config *c;
    struct pci_function *f;
    const uint8_t *real;
    const struct vfio_facts *facts;
    struct cap cap[CAPS_MAX]; /* in the order of the list */
    size_t caps;
    bool taken[VFIO_CONFIG_BYTES]; /* by a capability that the guest sees */
};

static uint32_t get(const uint8_t *at, unsigned bytes)
{
    uint32_t value = 0;

    for (unsigned i = 0; i < bytes; i++)
        value |= (uint32_t)at[i] << (8 * i);
    return value;
}

static void put(uint8_t *at, unsigned bytes, uint32_t value)
{
    for (unsigned i = 0; i < bytes; i++)
        at[i] = (uint8_t)(value >> (8 * i));
}

/* --- the device's list of capabilities -------------------------------------------------------- */

/* Where the next capability behind `at` begins, or the end. */
static unsigned next_start(const struct build *b, unsigned at)
{
    unsigned end = VFIO_CONFIG_BYTES;

    for (size_t i = 0; i < b->caps; i++)
        if (b->cap[i].at > at && b->cap[i].at < end)
            end = b->cap[i].at;
    return end;
}

/* Of a capability whose size its content tells; 0: it doesn't. */
static unsigned told_size(const uint8_t *real, uint8_t id, unsigned at)
{
    uint32_t control = get(real + at + 2, 2);

    switch (id) {
    case PCI_CAP_ID_PM:
        return PCI_PM_SIZEOF;
    case PCI_CAP_ID_MSIX:
        return PCI_CAP_MSIX_SIZEOF;
    case PCI_CAP_ID_MSI:
        if (control & PCI_MSI_FLAGS_MASKBIT)
            return control & PCI_MSI_FLAGS_64BIT ? 24 : 20;
        return control & PCI_MSI_FLAGS_64BIT ? 14 : 10;
    case PCI_CAP_ID_EXP:
        return (control & PCI_EXP_FLAGS_VERS) < 2 ? EXPRESS_V1_BYTES : EXPRESS_V2_BYTES;
    case PCI_CAP_ID_VNDR:
        return real[at + 2] >= 3 ? real[at + 2] : 0;
    default:
        return 0;
    }
}

static void read_list(struct build *b)
{
    bool seen[VFIO_CONFIG_BYTES] = { false };
    unsigned at = b->real[PCI_CAPABILITY_LIST] & ~3u;

    if (!(get(b->real + PCI_STATUS, 2) & PCI_STATUS_CAP_LIST))
        return;
    while (at >= PCI_STD_HEADER_SIZEOF && !seen[at] && b->caps < CAPS_MAX) {
        seen[at] = true;
        b->cap[b->caps++] = (struct cap){ .id = b->real[at], .at = at };
        at = b->real[at + 1] & ~3u;
    }
    for (size_t i = 0; i < b->caps; i++) {
        unsigned most = next_start(b, b->cap[i].at) - b->cap[i].at;
        unsigned told = told_size(b->real, b->cap[i].id, b->cap[i].at);

        b->cap[i].size = told && told < most ? told : most;
    }
}

/* --- what the guest sees ---------------------------------------------------------------------- */

static void header(struct build *b)
{
    const uint8_t *real = b->real;

    pci_header(b->f, (uint16_t)get(real + PCI_VENDOR_ID, 2), (uint16_t)get(real + PCI_DEVICE_ID, 2),
               get(real + PCI_CLASS_PROG, 3), real[PCI_REVISION_ID],
               (uint16_t)get(real + PCI_SUBSYSTEM_VENDOR_ID, 2),
               (uint16_t)get(real + PCI_SUBSYSTEM_ID, 2));
    for (unsigned i = 0; i < PCI_BARS; i++) {
        uint32_t bar = get(real + PCI_BASE_ADDRESS_0 + 4 * i, 4);
        bool io = bar & PCI_BASE_ADDRESS_SPACE_IO;
        bool wide = !io && (bar & PCI_BASE_ADDRESS_MEM_TYPE_MASK) == PCI_BASE_ADDRESS_MEM_TYPE_64;

        if (!b->facts->bar[i])
            continue;
        pci_add_bar(b->f, i, b->facts->bar[i], io, wide,
                    !io && bar & PCI_BASE_ADDRESS_MEM_PREFETCH);
        i += wide;
    }
    if (b->facts->intx && real[PCI_INTERRUPT_PIN])
        pci_use_intx(b->f);
}

static void let_through(struct build *b, unsigned at, unsigned bytes)
{
    for (unsigned i = at; i < at + bytes && i < VFIO_CONFIG_BYTES; i++) {
        b->c->through[i] = true;
        b->f->config[i] = b->real[i];
        b->f->writable[i] = 0xff;
    }
}

/* Ours, and zero until somebody fills it. */
static void hold_back(struct build *b, unsigned at, unsigned bytes)
{
    for (unsigned i = at; i < at + bytes && i < VFIO_CONFIG_BYTES; i++) {
        b->c->through[i] = false;
        b->f->config[i] = b->f->writable[i] = 0;
    }
}

static void take(struct build *b, struct cap *cap, unsigned at, unsigned bytes)
{
    hold_back(b, at, bytes);
    memset(b->taken + at, true, bytes);
    cap->placed = at;
}

/* The device stays in D0 whatever the guest writes: below that its BARs would be gone while the
 * guest's memory slots still lead there. */
static void add_power(struct build *b, struct cap *cap)
{
    uint8_t *at = b->f->config + cap->at;

    if (cap->size < PCI_PM_SIZEOF)
        return;
    take(b, cap, cap->at, cap->size);
    put(at, 1, PCI_CAP_ID_PM);
    put(at + PCI_PM_PMC, 2, get(b->real + cap->at + PCI_PM_PMC, 2) & PCI_PM_CAP_VER_MASK);
    put(at + PCI_PM_CTRL, 2, PCI_PM_CTRL_NO_SOFT_RESET);
    b->f->writable[cap->at + PCI_PM_CTRL] = PCI_PM_CTRL_STATE_MASK;
}

/* On our bus there is no link: an endpoint becomes an integrated one. Device control is the
 * device's own; VFIO sees to what a user may change there. */
static void add_express(struct build *b, struct cap *cap)
{
    uint8_t *at = b->f->config + cap->at;
    uint32_t flags = get(b->real + cap->at + PCI_EXP_FLAGS, 2);
    uint32_t type = (flags & PCI_EXP_FLAGS_TYPE) >> 4;

    if (cap->size < EXPRESS_V1_BYTES)
        return;
    if (type == PCI_EXP_TYPE_ENDPOINT)
        type = EXPRESS_INTEGRATED;
    take(b, cap, cap->at, cap->size);
    put(at, 1, PCI_CAP_ID_EXP);
    put(at + PCI_EXP_FLAGS, 2, (flags & (PCI_EXP_FLAGS_VERS | PCI_EXP_FLAGS_IRQ)) | type << 4);
    put(at + PCI_EXP_DEVCAP, 4, get(b->real + cap->at + PCI_EXP_DEVCAP, 4));
    let_through(b, cap->at + PCI_EXP_DEVCTL, 4);
    if (cap->size < EXPRESS_V2_BYTES)
        return;
    put(at + PCI_EXP_DEVCAP2, 4, get(b->real + cap->at + PCI_EXP_DEVCAP2, 4));
    let_through(b, cap->at + PCI_EXP_DEVCTL2, 4);
}

static void add_vendor(struct build *b, struct cap *cap)
{
    if (cap->size < 3)
        return;
    take(b, cap, cap->at, cap->size);
    let_through(b, cap->at, cap->size);
    hold_back(b, cap->at + 1, 1); /* the link to the next one */
    put(b->f->config + cap->at, 1, PCI_CAP_ID_VNDR);
    b->c->through[cap->at] = false;
    b->f->writable[cap->at] = 0;
}

/* True when no capability that the guest sees lies in [at, at + bytes). */
static bool is_free(const struct build *b, unsigned at, unsigned bytes)
{
    if (at + bytes > VFIO_CONFIG_BYTES)
        return false;
    for (unsigned i = at; i < at + bytes; i++)
        if (b->taken[i])
            return false;
    return true;
}

static int add_msix(struct build *b, struct cap *cap)
{
    const uint8_t *at = b->real + cap->at;
    uint64_t start, pending;
    uint32_t table, bits;
    unsigned bar, vectors;

    if (cap->size < PCI_CAP_MSIX_SIZEOF)
        return 0;
    table = get(at + PCI_MSIX_TABLE, 4);
    bits = get(at + PCI_MSIX_PBA, 4);
    vectors = (get(at + PCI_MSIX_FLAGS, 2) & PCI_MSIX_FLAGS_QSIZE) + 1;
    bar = table & PCI_MSIX_TABLE_BIR;
    start = table & PCI_MSIX_TABLE_OFFSET;
    pending = bits & PCI_MSIX_PBA_OFFSET;
    if (bar >= PCI_BARS || !b->f->bar[bar].size)
        return 0;
    if ((bits & PCI_MSIX_PBA_BIR) != bar) {
        /* pci.c has both in one BAR; what is behind the table in its last page is nobody's. */
        pending = start + (uint64_t)vectors * PCI_MSIX_ENTRY_SIZE;
        if (pending % PAGE == 0 || pending % PAGE + (vectors + 63) / 64 * 8 > PAGE)
            return 0;
    }
    take(b, cap, cap->at, cap->size);
    b->f->next_cap = cap->at;
    return pci_add_msix(b->f, vectors, bar, start, pending);
}

static int add_msi(struct build *b, struct cap *cap)
{
    unsigned at = cap->at;

    for (unsigned i = PCI_STD_HEADER_SIZEOF; !is_free(b, at, MSI_ROOM); i += 4) {
        if (i == VFIO_CONFIG_BYTES)
            return 0; /* it goes without */
        at = i;
    }
    take(b, cap, at, MSI_ROOM);
    b->f->next_cap = at;
    return pci_add_msi(b->f);
}

/* MSI last: it may have to look for a place. */
static int capabilities(struct build *b)
{
    int rc = 0;

    let_through(b, PCI_STD_HEADER_SIZEOF, VFIO_CONFIG_BYTES - PCI_STD_HEADER_SIZEOF);
    for (size_t i = 0; i < b->caps; i++)
        hold_back(b, b->cap[i].at, b->cap[i].size);
    for (size_t i = 0; i < b->caps && rc == 0; i++) {
        struct cap *cap = &b->cap[i];

        if (cap->id == PCI_CAP_ID_PM)
            add_power(b, cap);
        else if (cap->id == PCI_CAP_ID_EXP)
            add_express(b, cap);
        else if (cap->id == PCI_CAP_ID_VNDR)
            add_vendor(b, cap);
        else if (cap->id == PCI_CAP_ID_MSIX && b->facts->msix && !b->f->msix)
            rc = add_msix(b, cap);
    }
    for (size_t i = 0; i < b->caps && rc == 0; i++)
        if (b->cap[i].id == PCI_CAP_ID_MSI && b->facts->msi && !b->f->msi_cap)
            rc = add_msi(b, &b->cap[i]);
    return rc;
}

/* The guest's list: as the device's, without what is hidden. */
static void link_list(struct build *b)
{
    uint8_t *link = &b->f->config[PCI_CAPABILITY_LIST];

    for (size_t i = 0; i < b->caps; i++) {
        if (!b->cap[i].placed)
            continue;
        *link = (uint8_t)b->cap[i].placed;
        link = &b->f->config[b->cap[i].placed + 1];
    }
    *link = 0;
    if (b->f->config[PCI_CAPABILITY_LIST])
        b->f->config[PCI_STATUS] |= PCI_STATUS_CAP_LIST;
}

int vfio_config_build(struct vfio_config *c, struct pci_function *f, const uint8_t *real,
                      const struct vfio_facts *facts, struct error *err)
{
    struct build b = { .c = c, .f = f, .real = real, .facts = facts };
    int rc;

    *c = (struct vfio_config){ 0 };
    if (get(real + PCI_VENDOR_ID, 2) == 0xffff)
        return error_set(err, -EIO, "--vfio: the device doesn't answer");
    if ((real[PCI_HEADER_TYPE] & 0x7f) != PCI_HEADER_TYPE_NORMAL)
        return error_set(err, -EINVAL, "--vfio: the device is a bridge, which can't be given away");
    read_list(&b);
    header(&b);
    rc = capabilities(&b);
    link_list(&b);
    return rc < 0 ? error_set(err, rc, "--vfio: the device's capabilities: %s", strerror(-rc)) : 0;
}

/* --- windows ------------------------------------------------------------------------------------
 */

/* The pages of the table and of the pending bits, as pci.c reads the capability's registers. */
static size_t msix_pages(const struct pci_function *f, unsigned bar, struct vfio_span out[2])
{
    const uint8_t *cap = f->config + f->msix_cap;
    uint64_t vectors, start[2], bytes[2];

    if (!f->msix_cap || (get(cap + PCI_MSIX_TABLE, 4) & PCI_MSIX_TABLE_BIR) != bar)
        return 0;
    vectors = (get(cap + PCI_MSIX_FLAGS, 2) & PCI_MSIX_FLAGS_QSIZE) + 1;
    start[0] = get(cap + PCI_MSIX_TABLE, 4) & PCI_MSIX_TABLE_OFFSET;
    bytes[0] = vectors * PCI_MSIX_ENTRY_SIZE;
    start[1] = get(cap + PCI_MSIX_PBA, 4) & PCI_MSIX_PBA_OFFSET;
    bytes[1] = (vectors + 63) / 64 * 8;
    for (int i = 0; i < 2; i++)
        out[i] = (struct vfio_span){ .first = start[i] & ~(PAGE - 1),
                                     .last = (start[i] + bytes[i] - 1) | (PAGE - 1) };
    return 2;
}

/* Appends [first, last] without what `ours` holds from number `i` on. */
static size_t cut(struct vfio_span s, const struct vfio_span *ours, size_t count,
                  struct vfio_span *out, size_t n, size_t max)
{
    for (size_t i = 0; i < count; i++) {
        if (ours[i].first > s.last || ours[i].last < s.first)
            continue;
        if (ours[i].first > s.first)
            n = cut((struct vfio_span){ s.first, ours[i].first - 1 }, ours + i + 1, count - i - 1,
                    out, n, max);
        if (ours[i].last >= s.last)
            return n;
        s.first = ours[i].last + 1;
    }
    if (n < max)
        out[n++] = s;
    return n;
}

size_t vfio_config_windows(const struct pci_function *f, unsigned bar,
                           const struct vfio_span *mappable, size_t count, struct vfio_span *out,
                           size_t max)
{
    struct vfio_span ours[2];
    size_t pages = msix_pages(f, bar, ours), n = 0;

    for (size_t i = 0; i < count; i++) {
        struct vfio_span s = { (mappable[i].first + PAGE - 1) & ~(PAGE - 1),
                               ((mappable[i].last + 1) & ~(PAGE - 1)) - 1 };

        if (mappable[i].last - mappable[i].first >= PAGE - 1 && s.first < s.last)
            n = cut(s, ours, pages, out, n, max);
    }
    return n;
}
