/*
 * Whether an interrupt arrived that nobody was to raise, by the counts of /proc/interrupts.
 */
#ifndef TWOFOLD_TOOLS_ISOLATE_INTERRUPT_H
#define TWOFOLD_TOOLS_ISOLATE_INTERRUPT_H

#include <stdbool.h>
#include <stdint.h>

/*
 * A message for entry 0xff00 of the remapping table, in the remappable format (Intel VT-d, 5.1.2.2
 * "Interrupt Requests in Remappable Format": bits 19 to 5 and 2 are the entry's number, bit 4 the
 * format). Linux fills the table from its start, so that entry is not present. A real one would
 * show more, but only on hardware, which compares the source id: QEMU 7.2 doesn't for `edu`.
 */
#define ISOLATE_MESSAGE UINT64_C(0xfeefe014)

struct isolate_interrupts;

/* Watches for as long as an attempt takes which lines are quiet. NULL with errno. */
struct isolate_interrupts *isolate_interrupts_begin(void);
/* Whether one of the quiet lines counted since, or a spurious or unknown interrupt came. */
bool isolate_interrupts_came(struct isolate_interrupts *i);
void isolate_interrupts_end(struct isolate_interrupts *i);

#endif
