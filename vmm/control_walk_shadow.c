/*
 * The walk that the real CPU makes where the monitor keeps shadow tables, as JSON.
 */
#include "vmm/control_walk_shadow.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "ept/decode.h"
#include "ept/nested.h"

static void set(json_t *object, const char *key, json_t *value)
{
    (void)json_object_set_new(object, key, value);
}

/* Our entries have the x86 format of four levels whatever mode the guest is in. */
static void our_space(struct pt_space *out)
{
    const struct x86_paging paging = { .cr0 = X86_CR0_PG | X86_CR0_WP,
                                       .cr4 = X86_CR4_PAE,
                                       .efer = X86_EFER_LMA | X86_EFER_NXE,
                                       .phys_bits = 52,
                                       .gib_pages = true };

    x86_pt_space(out, &paging);
}

void walk_shadow_look(struct walk_shadow *out, const struct look *l, gva_t address,
                      const struct pt_access *access)
{
    struct shadow *shadow = vm_shadow(l->vm);

    memset(out, 0, sizeof(*out));
    out->there = shadow != NULL;
    if (!shadow)
        return;
    out->mode = (struct shadow_mode){ .paging = l->paging, .user = access->user };
    /* AC belongs to ring 3 while that runs, and to a copy of the kernel's to its memory: what the
     * kernel has otherwise is its other view. */
    if (!access->user && l->user)
        out->mode.paging.rflags &= ~X86_RFLAGS_AC;
    out->root = shadow_look(shadow, &out->mode, address, &out->walk, &out->stale) == 0;
    if (out->root || access->user)
        return;
    out->mode.paging.rflags ^= X86_RFLAGS_AC;
    out->root = shadow_look(shadow, &out->mode, address, &out->walk, &out->stale) == 0;
}

/* --- what it comes to ---------------------------------------------------------------- */

/* Entries of ours withhold nothing further up, so that the leaf alone decides. Protection comes
 * only after the walk reached it. */
static bool mapped(const struct walk_shadow *w)
{
    return w->root && (w->walk.fault == PT_OK || w->walk.fault == PT_PROTECTION);
}

/* The window is at an entry of each root that leads out of the tables' pool. */
static bool in_window(const struct walk_shadow *w)
{
    return w->root && w->walk.fault == PT_READ_FAILED;
}

static bool allows(const struct walk_shadow *w, enum pt_op op)
{
    unsigned rights = w->walk.rights;

    if (!mapped(w) || !(rights & PT_RIGHT_USER))
        return false;
    return op == PT_WRITE  ? (rights & PT_RIGHT_WRITE) != 0
           : op == PT_EXEC ? (rights & PT_RIGHT_EXEC) != 0
                           : true;
}

static const char *state_name(const struct walk_shadow *w)
{
    if (!w->root)
        return "no root";
    if (w->walk.fault == PT_NON_CANONICAL)
        return "not canonical";
    return mapped(w) ? "mapped" : in_window(w) ? "window" : "not filled";
}

static void say_state(const struct walk_shadow *w, const struct pt_access *access, char *buf,
                      size_t size)
{
    struct pt_space space;

    x86_pt_space(&space, &w->mode.paging);
    if (!w->root && space.format != &pt_x86_64)
        (void)snprintf(buf, size,
                       "no shadow root: such code is interpreted, as only 64-bit code runs on "
                       "shadow tables");
    else if (!w->root)
        (void)snprintf(buf, size,
                       "no shadow root for these tables yet: it is made when the guest runs on "
                       "them in ring %u",
                       access->user ? 3u : 0u);
    else if (w->walk.fault == PT_NON_CANONICAL)
        (void)snprintf(buf, size, "the address is not canonical: no table is read");
    else if (in_window(w))
        (void)snprintf(buf, size,
                       "the monitor's window lies here: the guest's accesses are interpreted");
    else if (!mapped(w))
        (void)snprintf(buf, size,
                       "not filled yet: the next access traps, and the monitor fills it or gives "
                       "the guest its fault");
    else if (w->stale)
        (void)snprintf(buf, size,
                       "out of sync: the guest changed its entry and has not flushed since, as "
                       "a TLB may still hold the old one");
    else if (!allows(w, access->op))
        (void)snprintf(buf, size,
                       "mapped, but not to %s: the next such access traps, and the monitor allows "
                       "it or gives the guest its fault",
                       pt_op_name(access->op));
    else
        (void)snprintf(buf, size, "mapped: the access needs no help");
}

/* --- JSON ------------------------------------------------------------------------------ */

static json_t *entry_json(const struct walk_shadow *w, const struct pt_space *space, unsigned i,
                          gva_t address)
{
    const struct pt_ref *ref = &w->walk.ref[i];
    const struct pt_level *level = &space->format->level[ref->level];
    uint64_t next = i + 1 < w->walk.count ? w->walk.ref[i + 1].at & ~(PAGE_SIZE_4K - 1) : 0;
    bool leaf = i + 1 == w->walk.count && mapped(w);
    uint64_t page = UINT64_C(1) << w->walk.shift;
    json_t *object = json_object();

    set(object, "level", json_integer(ref->level));
    set(object, "name", json_string(level->name));
    set(object, "index",
        json_integer((json_int_t)(address.v >> level->shift & ((1u << level->bits) - 1))));
    set(object, "address", control_hex(ref->at));
    set(object, "value", control_hex(ref->raw));
    set(object, "flags", control_entry_flags(space, ref));
    set(object, "table", next ? control_hex(next) : json_null());
    set(object, "page", leaf ? control_number(page) : json_null());
    set(object, "gpa", leaf ? control_hex(w->walk.output & ~(page - 1)) : json_null());
    set(object, "out_of_sync", json_boolean(w->stale >> ref->level & 1));
    return object;
}

json_t *walk_shadow_json(const struct walk_shadow *w, gva_t address, const struct pt_access *access)
{
    json_t *object = json_object(), *entries = json_array();
    unsigned count = w->root ? w->walk.count : 0;
    struct pt_space space;
    char text[256], rights[5];

    our_space(&space);
    /* The window's own tables lie outside of the pool; nothing of them was read. */
    if (in_window(w))
        count--;
    for (unsigned i = 0; i < count; i++)
        (void)json_array_append_new(entries, entry_json(w, &space, i, address));
    say_state(w, access, text, sizeof(text));
    set(object, "ring", json_integer(access->user ? 3 : 0));
    set(object, "root", count ? control_hex(w->walk.ref[0].at & ~(PAGE_SIZE_4K - 1)) : json_null());
    set(object, "state", json_string(state_name(w)));
    set(object, "text", json_string(text));
    set(object, "allows", json_boolean(allows(w, access->op)));
    set(object, "gpa", mapped(w) ? control_hex(w->walk.output) : json_null());
    set(object, "page", mapped(w) ? control_number(UINT64_C(1) << w->walk.shift) : json_null());
    set(object, "rights",
        mapped(w) ? json_string(control_rights(w->walk.rights, rights)) : json_null());
    set(object, "out_of_sync", json_boolean(w->stale != 0));
    set(object, "entries", entries);
    return object;
}

/* --- the hardware below ---------------------------------------------------------------- */

unsigned walk_shadow_hardware(const struct walk_shadow *w, const struct kvm_backend *backend,
                              unsigned host, char *text, size_t size)
{
    unsigned levels = mapped(w) ? w->walk.count : 0;

    if (backend->nested_paging == KVM_FLAG_YES) {
        (void)snprintf(
            text, size,
            "the processor walks the monitor's shadow in place of the guest's tables, "
            "and that in two dimensions, as this KVM has nested paging%s",
            levels ? ": where its tables for the shadow are as deep as those for the page" : "");
        return levels ? nested_refs(levels, host) : 0;
    }
    if (backend->nested_paging != KVM_FLAG_NO) {
        (void)snprintf(text, size,
                       "the processor walks the monitor's shadow in place of the guest's tables; "
                       "KVM does not say whether that is in two dimensions");
        return 0;
    }
    (void)snprintf(text, size,
                   "without nested paging%s KVM composes the monitor's shadow and this map "
                   "into a table of its own, and the processor walks that alone, instead of both "
                   "dimensions",
                   backend->kind == KVM_KIND_PVM ? " (PVM)" : "");
    return levels > host ? levels : levels ? host : 0;
}
