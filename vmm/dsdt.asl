/*
 * What a kernel can't find by probing: the serial line, the clock, the ports that
 * are taken, and how to power off. CPUs are in the MADT.
 */
DefinitionBlock ("", "DSDT", 2, "TWOFLD", "TWOFOLD ", 0x00000001)
{
    /* S5: SLP_TYPa, SLP_TYPb, reserved. The same number as ACPI_S5_TYPE. */
    Name (\_S5, Package (4) { 0, 0, 0, 0 })

    Scope (\_SB)
    {
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

        /* Ports that no device may be moved onto. */
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
                IO (Decode16, 0x0CF9, 0x0CF9, 0x00, 0x01)
            })
        }
    }
}
