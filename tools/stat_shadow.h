/*
 * The part of `twofold stat` that is about a VM with --paging shadow.
 */
#ifndef TWOFOLD_TOOLS_STAT_SHADOW_H
#define TWOFOLD_TOOLS_STAT_SHADOW_H

#include <jansson.h>

/* Prints "shadow" of the answer to `stat`; nothing for NULL. */
void stat_print_shadow(const json_t *shadow);

#endif
