/*
 * What the control socket says of accessed and dirty pages, and of NUMA nodes.
 */
#ifndef TWOFOLD_VMM_CONTROL_TRACK_H
#define TWOFOLD_VMM_CONTROL_TRACK_H

#include "vmm/control_impl.h"

/* Arguments "what", "base", "size", "clear", "cells": all may be missing. */
int control_track(struct vm *vm, const json_t *arguments, struct control_outcome *out);

/*
 * An array of `node`, `bytes` for each node with memory; null when the kernel knows no NUMA. NULL
 * when memory is out. `resident` is what is resident in all, when the caller knows: on a host with
 * one node nothing has to be counted then.
 */
json_t *control_nodes_json(struct vm *vm, const uint64_t *resident);

#endif
