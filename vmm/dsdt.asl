/*
 * What a kernel can't find by probing: the PCI bus with its windows and interrupt lines, the
 * serial line, the clock, what is taken, and how to power off. CPUs are in the MADT.
 */
DefinitionBlock ("", "DSDT", 2, "TWOFLD", "TWOFOLD ", 0x00000001)
{
    /* S5: SLP_TYPa, SLP_TYPb, reserved. The same number as ACPI_S5_TYPE. */
    Name (\_S5, Package (4) { 0, 0, 0, 0 })

    Scope (\_SB)
    {
        /* vmm/pci.h: PCI_PIO_BASE, PCI_MMIO_BASE, PCI_ECAM_BASE. */
        Device (PCI0)
        {
            Name (_HID, EisaId ("PNP0A08"))
            Name (_CID, EisaId ("PNP0A03"))
            Name (_UID, 0)
            Name (_SEG, 0)
            Name (_BBN, 0)
            Name (_CRS, ResourceTemplate ()
            {
                WordBusNumber (ResourceProducer, MinFixed, MaxFixed, PosDecode,
                    0, 0, 0, 0, 1)
                IO (Decode16, 0x0CF8, 0x0CF8, 0x01, 0x08)
                WordIO (ResourceProducer, MinFixed, MaxFixed, PosDecode, EntireRange,
                    0, 0xC000, 0xFFFF, 0, 0x4000)
                DWordMemory (ResourceProducer, PosDecode, MinFixed, MaxFixed, NonCacheable,
                    ReadWrite, 0, 0xC0000000, 0xDFFFFFFF, 0, 0x20000000)
                /* Where it is depends on the machine: acpi.c looks for this minimum. */
                QWordMemory (ResourceProducer, PosDecode, MinFixed, MaxFixed, Cacheable,
                    ReadWrite, 0, 0x57494E444F570000, 0x57494E444F57FFFF, 0, 0x10000)
            })

            /* Pin p (0 to 3) of device d is line (d + p) % 4, GSI 16 and up: active low and
             * level-triggered, as it is for PCI where nothing else is said. */
            Method (_PRT, 0, Serialized)
            {
                Name (PINS, Package (128) {})
                Local0 = 0
                While (Local0 < 128)
                {
                    Local1 = Package (4) { 0, 0, 0, 0 }
                    Local1[0] = ((Local0 >> 2) << 16) | 0xFFFF
                    Local1[1] = Local0 & 3
                    Local1[3] = 16 + (((Local0 >> 2) + Local0) & 3)
                    PINS[Local0] = Local1
                    Local0++
                }
                Return (PINS)
            }

            /* Hot-plug, power events and error reporting: the bus has none to hand over. */
            Method (_OSC, 4, NotSerialized)
            {
                CreateDWordField (Arg3, 0, CDW1)
                If (Arg0 == ToUUID ("33DB4D5B-1FF7-401C-9657-7441C03DD766"))
                {
                    CreateDWordField (Arg3, 8, CDW3)
                    If (CDW3 != 0) { CDW1 |= 0x10 }
                    CDW3 = 0
                }
                Else { CDW1 |= 0x04 }
                Return (Arg3)
            }
        }

        Device (COM1)
        {
            Name (_HID, EisaId ("PNP0501"))
            Name (_UID, 1)
            Method (_STA, 0, NotSerialized) { Return (0x0F) }
            Name (_CRS, ResourceTemplate ()
            {
                IO (Decode16, 0x03F8, 0x03F8, 0x00, 0x08)
                IRQNoFlags () { 4 }
            })
        }

        Device (RTC0)
        {
            Name (_HID, EisaId ("PNP0B00"))
            Name (_CRS, ResourceTemplate ()
            {
                IO (Decode16, 0x0070, 0x0070, 0x00, 0x02)
            })
        }

        /* Ports and config space that no device may be moved onto. */
        Device (SYSR)
        {
            Name (_HID, EisaId ("PNP0C02"))
            Name (_UID, 1)
            Name (_CRS, ResourceTemplate ()
            {
                IO (Decode16, 0x0080, 0x0080, 0x00, 0x01)
                IO (Decode16, 0x00F4, 0x00F4, 0x00, 0x04)
                IO (Decode16, 0x05F0, 0x05F0, 0x00, 0x04)
                IO (Decode16, 0x0600, 0x0600, 0x00, 0x0C)
                Memory32Fixed (ReadWrite, 0xE0000000, 0x00100000)
            })
        }
    }
}
