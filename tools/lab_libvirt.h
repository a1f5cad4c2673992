/*
 * libvirt's QEMU driver inside this process (qemu:///embed), loaded when the
 * lab is started: the program itself doesn't need libvirt.
 */
#ifndef TWOFOLD_TOOLS_LAB_LIBVIRT_H
#define TWOFOLD_TOOLS_LAB_LIBVIRT_H

#include "vmm/error.h"

struct libvirt;

/*
 * Opens the driver with everything that it writes below `dir`, and starts the
 * thread that it needs. One at a time. 0 or -errno.
 */
int libvirt_open(struct libvirt **out, const char *dir, struct error *err);

/* Starts the domain. 0 or -errno. */
int libvirt_start(struct libvirt *lv, const char *xml, struct error *err);

/* Ends the domain, if one runs. */
void libvirt_stop(struct libvirt *lv);

/* Ends the domain and closes the driver. NULL is fine. */
void libvirt_close(struct libvirt *lv);

#endif
