/*
 * What the control socket says of a VM's pages, and the command `guard`.
 */
#include "vmm/control_impl.h"

#include <errno.h>
#include <string.h>

#include "vmm/pages.h"
