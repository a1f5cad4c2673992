/*
 * What the control socket says of a VM's pages, and the command `guard`.
 */
#ifndef TWOFOLD_VMM_CONTROL_PAGES_H
#define TWOFOLD_VMM_CONTROL_PAGES_H

#include "vmm/control_impl.h"

/* memory.pages of `stat`; NULL when memory is out. */
json_t *control_pages_json(struct vm *vm);

/* Arguments "base", "size", "mode". */
int control_guard(struct vm *vm, const json_t *arguments, struct control_outcome *out);

#endif
