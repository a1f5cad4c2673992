/*
 * What the commands of the control socket share: control_command.c has the table, and
 * control_stat.c, control_pages.c, control_walk.c... perform.
 */
#ifndef TWOFOLD_VMM_CONTROL_IMPL_H
#define TWOFOLD_VMM_CONTROL_IMPL_H

#include <stdbool.h>
#include <stdint.h>

#include "vmm/control_command.h"
#include "vmm/error.h"

/* What a command gives back: a result, or an error and its sentence. */
struct control_outcome {
    json_t *result;
    struct error err;
    enum control_next next;
};

/*
 * Performs a command. The names in `arguments` (NULL when the request had none) have been checked;
 * performing checks their types and values before it changes anything. Runs on the I/O thread. 0 or
 * -errno with out->err.
 */
typedef int (*control_perform)(struct vm *vm, const json_t *arguments, struct control_outcome *out);

/*
 * An address or a 64-bit value, as the protocol has them: a string "0xffff800000001000", or a
 * number that is not negative. Leaves *value alone when `key` is missing and `needed` is false.
 * -EINVAL with a sentence.
 */
int control_get_u64(const json_t *arguments, const char *key, bool needed, uint64_t *value,
                    struct error *err);

/* The same for a boolean and for a string (valid as long as `arguments`); never needed. */
int control_get_bool(const json_t *arguments, const char *key, bool *value, struct error *err);
int control_get_string(const json_t *arguments, const char *key, const char **value,
                       struct error *err);

/* "0x1f", for addresses and raw entries: JSON's numbers end at 2^63. */
json_t *control_hex(uint64_t value);

/* A count or a size. */
json_t *control_number(uint64_t value);

#endif
