/*
 * libvirt, loaded when it is needed: a hundred libraries are behind it.
 */
#ifndef TWOFOLD_TOOLS_LIBVIRT_LOAD_H
#define TWOFOLD_TOOLS_LIBVIRT_LOAD_H

#include <stddef.h>

#include "vmm/error.h"

/* A function of libvirt, and the pointer that receives it. */
struct libvirt_symbol {
    const char *name;
    void *where;
};

/*
 * Loads libvirt.so.0 and looks all of them up. It stays loaded: threads of it may still be on
 * their way out when its last connection is closed. 0; -ENOENT: it isn't there; -ENOSYS: it lacks
 * one of them.
 */
int libvirt_load(const struct libvirt_symbol *symbols, size_t n, struct error *err);

#endif
