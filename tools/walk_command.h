/*
 * What `walk` and `map` share: addresses from the command line, and questions to a VM that stays
 * connected.
 */
#ifndef TWOFOLD_TOOLS_WALK_COMMAND_H
#define TWOFOLD_TOOLS_WALK_COMMAND_H

#include <stdint.h>

#include <jansson.h>

#include "tools/client.h"

/*
 * An address of the guest: hexadecimal with 0x or when it has a letter a to f, else decimal;
 * underscores may stand between digits. A decimal number with a leading zero could be meant
 * either way and is refused. 0, or -EINVAL.
 */
int walk_parse_address(const char *what, const char *text, uint64_t *out, struct error *err);

/* As walk_parse_address(), into the arguments of a request as a hex string. */
int walk_add_address(json_t *arguments, const char *key, const char *what, const char *text,
                     struct error *err);

/* A number of a vCPU or process, up to `max`. 0, or -EINVAL. */
int walk_add_number(json_t *arguments, const char *key, const char *what, const char *text,
                    uint64_t max, struct error *err);

/* The exit status for what client_ask() returned: STATUS_USAGE when the request was wrong. */
int walk_status(int code);

/*
 * Asks for the walk again every `period_s` and prints a line at the start and whenever gpa, hva,
 * hpa or a page size changed; as JSON: the whole result in one line. Returns the exit status when
 * the VM has ended: STATUS_OK, unless it could not be asked even once.
 */
int walk_watch(struct client *c, json_t *arguments, double period_s, bool json);

#endif
