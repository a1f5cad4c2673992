/*
 * The appliance: a Linux kernel whose init is this program. Everything here runs
 * as process 1 and returns to nobody: it ends by powering the machine off.
 */
#ifndef TWOFOLD_TOOLS_APPLIANCE_H
#define TWOFOLD_TOOLS_APPLIANCE_H

#include <stdbool.h>
#include <stddef.h>

/* Are we a machine's init? Process 1 may also be a container's; the name decides. */
bool appliance_is_init(const char *argv0);

/*
 * Mounts what a system needs, loads modules, then runs what it was started for:
 * the lab's command, `twofold.run="..."` of the kernel command line, or a shell
 * on each console. Then reports the status and powers off.
 */
_Noreturn void appliance_init(void);

/*
 * Finds NAME=VALUE or NAME="VALUE WITH BLANKS" in a kernel command line; the
 * last one counts, as in the kernel. Copies VALUE; false when there is none or
 * it doesn't fit.
 */
bool appliance_option(const char *cmdline, const char *name, char *value, size_t size);

/* Mounts, modules, host name, environment. Complains on stderr and goes on. */
void appliance_setup(void);

/* Works around a bug of QEMU's emulation that hangs a kernel which starts many VMs. */
void appliance_hold_keys(void);

/* One line: what this machine offers. */
void appliance_welcome(int fd);

/*
 * In a child made by fork(): a session of its own, with the terminal `tty` (its
 * path, NULL for none) as stdin, stdout and stderr. 0, or the status for _exit().
 */
int appliance_session(const char *tty);

/*
 * In a child made by fork(): default signals, then argv. Returns only the
 * status for _exit() when argv can't be run (127 not found, else 126).
 */
int appliance_exec(const char *const argv[]);

/* The status of a wait(): 128 + N for a death by signal N, as shells count. */
int appliance_status(int wstatus);

#endif
