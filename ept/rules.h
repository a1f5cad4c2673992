/*
 * What the four defining manuals say differently about an access: one set of functions each, in the
 * format's file. For access.c only.
 */
#ifndef TWOFOLD_EPT_RULES_H
#define TWOFOLD_EPT_RULES_H

#include "ept/access.h"

struct pt_rule_set {
    /* Of a complete walk with its rights: PT_OK, PT_PROTECTION or PT_KEY. */
    enum pt_fault (*check)(const struct pt_space *space, const struct pt_access *access,
                           const struct pt_walk *walk);
    /* Is it a write to this dimension: does it make the leaf dirty? */
    bool (*writes)(const struct pt_space *space, const struct pt_access *access);
    /* The error code after walk->fault, which is not PT_OK. */
    uint64_t (*error)(const struct pt_space *space, const struct pt_access *access,
                      const struct pt_walk *walk);
};

extern const struct pt_rule_set pt_rule_set_x86;
extern const struct pt_rule_set pt_rule_set_ept;
extern const struct pt_rule_set pt_rule_set_npt;
extern const struct pt_rule_set pt_rule_set_vtd;

#endif
