/*
 * The drivers of PCI devices, all found at the first use of any: a start that needs none of them
 * spends no time on the bus.
 */
#ifndef GUEST_KERNEL_DRIVERS_H
#define GUEST_KERNEL_DRIVERS_H

/*
 * Scans the bus, takes the IOMMU and then the devices. Returns when all that is done, also when
 * another thread does it. For system calls: it sleeps, and holds no lock meanwhile.
 */
void drivers_init(void);

#endif
