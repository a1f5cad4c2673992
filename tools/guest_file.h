/*
 * Where the tiny guest is.
 */
#ifndef TWOFOLD_TOOLS_GUEST_FILE_H
#define TWOFOLD_TOOLS_GUEST_FILE_H

#include <stdbool.h>
#include <stddef.h>

/*
 * The path of guest.elf: beside this program, as it is built, or where `make install` puts it.
 * False when it is in none of these places.
 */
bool guest_file_find(char *out, size_t size);

#endif
