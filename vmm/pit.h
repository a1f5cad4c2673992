/*
 * The programmable interval timer (8254) and the speaker port that gates it.
 * KVM has both in the kernel; here is only what creates them when a guest
 * first touches them.
 */
#ifndef TWOFOLD_VMM_PIT_H
#define TWOFOLD_VMM_PIT_H

#include "vmm/bus.h"
#include "vmm/devices.h"
#include "vmm/error.h"

struct pit;

/*
 * Claims ports 0x40-0x43 and 0x61. The first access creates KVM's PIT, is
 * carried over into it, and is the last one seen here: from then on KVM answers.
 *
 * Why not at the start: a VM with a PIT takes 10 to 15 ms longer to tear down
 * (each of its two port ranges costs KVM an RCU grace period), more than the
 * whole life of a small guest, which times itself by its local APIC.
 *
 * `vm_fd` needs its interrupt controllers by then. `hook` ends the VM when KVM
 * can't make the timer. Free with pit_destroy().
 */
int pit_create(struct pit **out, struct bus *bus, int vm_fd, struct end_hook *hook,
               struct error *err);
void pit_destroy(struct pit *pit);

#endif
