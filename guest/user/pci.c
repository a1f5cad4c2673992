/*
 * pci: the PCI functions of this machine, with class, BARs, interrupts and driver.
 */
#include "guest/user/lib/lib.h"

#define BUS_MASTER 4u

/* PCI Code and ID Assignment Specification 1.15, section 1; only what virtual machines have. */
static const struct {
    uint32_t class, mask;
    const char *name;
} classes[] = {
    { 0x010000, 0xffff00, "SCSI controller" },
    { 0x010100, 0xffff00, "IDE controller" },
    { 0x010600, 0xffff00, "SATA controller" },
    { 0x010800, 0xffff00, "NVM controller" },
    { 0x010000, 0xff0000, "storage controller" },
    { 0x020000, 0xffff00, "Ethernet controller" },
    { 0x020000, 0xff0000, "network controller" },
    { 0x030000, 0xff0000, "display controller" },
    { 0x040000, 0xff0000, "multimedia controller" },
    { 0x060000, 0xffff00, "host bridge" },
    { 0x060100, 0xffff00, "ISA bridge" },
    { 0x060400, 0xffff00, "PCI bridge" },
    { 0x060000, 0xff0000, "bridge" },
    { 0x070000, 0xff0000, "communication controller" },
    { 0x080600, 0xffff00, "IOMMU" },
    { 0x080000, 0xff0000, "system peripheral" },
    { 0x0c0300, 0xffff00, "USB controller" },
    { 0x0c0500, 0xffff00, "SMBus" },
    { 0x100000, 0xff0000, "encryption controller" },
    { 0x00ff00, 0xffff00, "other device" },
};

static const char *class_name(uint32_t class)
{
    for (size_t i = 0; i < sizeof(classes) / sizeof(classes[0]); i++)
        if ((class & classes[i].mask) == classes[i].class)
            return classes[i].name;
    return "device of an unknown class";
}

static void print_bar(unsigned n, const struct sys_pci_bar *b)
{
    uint64_t size = b->size;
    const char *unit = "bytes";

    if (size == 0)
        return;
    if (size % 1024 == 0) {
        size /= 1024;
        unit = "KiB";
    }
    if (size % 1024 == 0 && *unit == 'K') {
        size /= 1024;
        unit = "MiB";
    }
    printf("    BAR %u: %s 0x%lx, %lu %s%s\n", n, b->io ? "ports from" : "memory at", b->addr, size,
           unit, b->wide ? ", 64 bits" : "");
}

static const char *const kinds[] = { "none", "INTx", "MSI", "MSI-X" };

static void print_interrupts(const struct sys_pci *p)
{
    printf("    interrupts: ");
    if (p->offers <= SYS_PCI_INTX)
        printf("%s", kinds[p->offers]);
    else
        printf("%s of %u", kinds[p->offers], p->vectors_max);
    if (p->uses != SYS_PCI_NONE)
        printf(", %u in use, from vector 0x%x on", p->vectors, p->first_vector);
    else if (p->driver[0])
        printf(", none in use: the driver polls");
    printf("\n");
}

static void print_function(const struct sys_pci *p)
{
    printf("%02x:%02x.%u %04x:%04x %s (class %06x, revision %u)\n", SYS_PCI_BUS(p->bdf),
           SYS_PCI_DEVICE(p->bdf), SYS_PCI_FUNCTION(p->bdf), p->vendor, p->id, class_name(p->class),
           p->class, p->revision);
    for (unsigned i = 0; i < 6; i++)
        print_bar(i, &p->bar[i]);
    print_interrupts(p);
    printf("    driver: %s, DMA %s%s\n", p->driver[0] ? p->driver : "none",
           p->command & BUS_MASTER ? "on" : "off", p->iommu ? ", behind the IOMMU" : "");
}

int main(int argc, char **argv)
{
    struct sys_pci p = { 0 };
    unsigned n;

    (void)argv;
    if (argc > 1)
        die(2, "usage: pci");
    for (n = 0; sys_info(SYS_INFO_PCI, n, &p, sizeof p) > 0; n++)
        print_function(&p);
    printf("pci: %u function%s\n", n, n == 1 ? "" : "s");
    return 0;
}
