/*
 * One access to memory at a time, in ring 0 or ring 3, that comes back whether it faults or not.
 */
#ifndef GUEST_KERNEL_PROBE_H
#define GUEST_KERNEL_PROBE_H

#include <stdbool.h>
#include <stdint.h>

#include "guest/kernel/trap.h"

#define PROBE_NO_FAULT 0x200

struct probe_result {
    uint64_t vector; /* of the exception; PROBE_NO_FAULT when there was none */
    uint64_t error;  /* its error code */
    uint64_t cr2;    /* of a #PF */
    uint64_t value;  /* RAX after it, when there was none */
};

/* trap_hook has to be this one, and the kernel stack of entries from ring 3 not the caller's. */
bool probe_hook(struct trap_frame *f);

/*
 * Goes to `rip` with RDI = gva, RSI = rip and these flags. In ring 0 that code ends with RET; in
 * ring 3 with HLT, which is a #GP there (where ring 0 is interpreted, INT does not work).
 */
void probe(uint64_t gva, uint64_t rip, uint64_t rflags, bool user, struct probe_result *out);

/* For ring 0: eight bytes at RDI to RAX, or from RSI. Ring 3 needs a copy of its two, user_code. */
extern const char probe_kernel_read[], probe_kernel_write[];
extern const char probe_user_code[], probe_user_code_end[];

#define PROBE_USER_READ  0 /* offsets in user_code */
#define PROBE_USER_WRITE 16

#endif
