/*
 * The monitor's own tables in a walk: what `walk` says of a VM with --paging shadow besides
 * (docs/shadow.md).
 */
#ifndef TWOFOLD_VMM_CONTROL_WALK_SHADOW_H
#define TWOFOLD_VMM_CONTROL_WALK_SHADOW_H

#include "ept/shadow.h"
#include "vmm/control_walk.h"
#include "vmm/kvm.h"

struct walk_shadow {
    bool there; /* the VM has shadow tables */
    bool root;  /* there are some for the tables that were asked for; else what follows is void */
    struct shadow_mode mode;
    struct pt_walk walk; /* addresses of references are gpa in the pool */
    unsigned stale;      /* by level, as shadow_look() */
};

/* Looks for what the CPU would walk: the tables of `l`, seen by the ring of the access. */
void walk_shadow_look(struct walk_shadow *out, const struct look *l, gva_t address,
                      const struct pt_access *access);

/* The `shadow` object (docs/control.md). */
json_t *walk_shadow_json(const struct walk_shadow *w, gva_t address,
                         const struct pt_access *access);

/*
 * What the processor walks in place of the guest's tables: a sentence, and how many references that
 * are where the host's dimension has `host` levels; 0: it can't be said.
 */
unsigned walk_shadow_hardware(const struct walk_shadow *w, const struct kvm_backend *backend,
                              unsigned host, char *text, size_t size);

#endif
