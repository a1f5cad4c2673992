/*
 * The commands of binding at execution time, for control_command.c.
 */
#ifndef TWOFOLD_VMM_CONTROL_MIGRATE_H
#define TWOFOLD_VMM_CONTROL_MIGRATE_H

#include "vmm/control_impl.h"

int control_migrate_pages(struct vm *vm, const json_t *arguments, struct control_outcome *out);
int control_move_page(struct vm *vm, const json_t *arguments, struct control_outcome *out);

/* The guest's processes as it tells them, for `stat`: [{pid, root, name}], empty without a mailbox.
 */
json_t *control_processes_json(struct vm *vm);

#endif
