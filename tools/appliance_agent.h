/*
 * The guest's end of the lab's link (tools/lab_link.h): runs the lab's command
 * with its output on the link, then hands files and the status over.
 */
#ifndef TWOFOLD_TOOLS_APPLIANCE_AGENT_H
#define TWOFOLD_TOOLS_APPLIANCE_AGENT_H

#include <stdbool.h>

#include "vmm/error.h"

struct agent;

/*
 * Opens the link and says hello; *out is NULL when this is no lab. `serial` is
 * the name of a serial port ("ttyS1") or NULL for the virtio port.
 * 0 or -errno.
 */
int agent_open(struct agent **out, const char *serial, struct error *err);

/* Does the lab want a command run? */
bool agent_has_command(const struct agent *agent);

/*
 * Runs it until its end and returns its status. `signals` is a signalfd for
 * SIGCHLD and for the signals that ask init to power off (which end the command
 * with status 0).
 */
int agent_run(struct agent *agent, int signals);

/* Sends the files that were asked for and the status. */
void agent_finish(struct agent *agent, int status);

#endif
