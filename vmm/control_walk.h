/*
 * What the commands `walk` and `map` share.
 */
#ifndef TWOFOLD_VMM_CONTROL_WALK_H
#define TWOFOLD_VMM_CONTROL_WALK_H

#include "vmm/control_impl.h"
#include "vmm/look.h"

/* The arguments cpu, pid and cr3. 0, or -EINVAL with a sentence. */
int control_look_request(const json_t *arguments, struct look_request *out, struct error *err);

/* PT_RIGHT_*s as "rwxu", with '-' for those that are not granted. Returns text. */
char *control_rights(unsigned rights, char text[5]);

/* What an entry's bits say, as a list of words. */
json_t *control_entry_flags(const struct pt_space *space, const struct pt_ref *ref);

/* The commands, as control_perform. */
int control_walk(struct vm *vm, const json_t *arguments, struct control_outcome *out);
int control_map(struct vm *vm, const json_t *arguments, struct control_outcome *out);

#endif
