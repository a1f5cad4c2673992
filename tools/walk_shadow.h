/*
 * The shadow beside a walk: the `shadow` object of a VM with --paging shadow (docs/control.md).
 */
#ifndef TWOFOLD_TOOLS_WALK_SHADOW_H
#define TWOFOLD_TOOLS_WALK_SHADOW_H

#include "tools/walk_view.h"

#define WALK_SHADOW_LEVELS 4

struct walk_shadow_entry {
    char name[8];   /* "PML4E"... */
    unsigned index; /* in our table */
    uint64_t address, value;
    char flags[48];  /* "PWUAD NX" */
    char leads[40];  /* "table 0x1...", "4K page 0x..."; empty: nowhere */
    bool leaf, lies; /* `lies`: out of sync with the guest's */
};

struct walk_shadow_view {
    bool there;       /* the walk has such an object */
    char state[64];   /* "ring 3's view of these tables, root 0x..: mapped" */
    const char *text; /* of the JSON */
    bool good;        /* it maps the address, in step with the guest's tables */
    unsigned count;
    struct walk_shadow_entry entry[WALK_SHADOW_LEVELS];
};

/* Never fails: what is missing in the JSON, or too large, is left out. */
void walk_shadow_view(struct walk_shadow_view *out, const json_t *walk);

/* "mapped 4K", "not filled", "mapped 4K out of sync"; empty without a shadow. Returns buf. */
char *walk_shadow_brief(const json_t *walk, char *buf, size_t size);

/* A section of walk_print_text(); nothing without a shadow. */
void walk_print_shadow(const json_t *walk, const struct walk_style *style, FILE *f);

#endif
