/*
 * What the control socket says of a VM's pages, and the command `guard`.
 */
#include "vmm/control_pages.h"

#include <errno.h>
#include <string.h>

#include "vmm/pages.h"

static json_t *states_json(const struct gpmap_stats *map)
{
    json_t *states = json_object();

    for (unsigned i = 0; i < GP_STATES; i++)
        (void)json_object_set_new(states, gp_state_name((enum gp_state)i),
                                  control_number(map->bytes[i]));
    return states;
}

static json_t *ranges_json(struct pages *pages)
{
    json_t *list = json_array();
    struct pages_range r;

    for (size_t i = 0; pages_range(pages, i, &r); i++)
        (void)json_array_append_new(list,
                                    json_pack("{s:o, s:o, s:s, s:b}", "base", control_hex(r.base.v),
                                              "size", control_number(r.size), "populate",
                                              populate_name(r.policy), "managed", r.managed));
    return list;
}

static json_t *guards_json(const struct memory *mem)
{
    json_t *list = json_array();
    uint64_t len;
    gpa_t at;

    for (size_t i = 0; memory_guard_range(mem, i, &at, &len); i++)
        (void)json_array_append_new(
            list, json_pack("{s:o, s:o}", "base", control_hex(at.v), "size", control_number(len)));
    return list;
}

/* All of RAM is brought up to date, as far as the host lets us look. */
static bool learn(struct vm *vm)
{
    size_t count;
    const struct mem_slot *slot = memory_slots(vm_memory(vm), &count);
    bool learned = true;

    for (size_t i = 0; i < count; i++)
        learned = pages_learn(vm_pages(vm), slot[i].base, slot[i].size) == 0 && learned;
    return learned;
}

json_t *control_pages_json(struct vm *vm)
{
    struct pages_stat s;
    bool learned = learn(vm);

    pages_stat(vm_pages(vm), &s);
    return json_pack(
        "{s:b, s:o, s:{s:I, s:I, s:I}, s:I, s:o, s:o, s:{s:I, s:I, s:I, s:I, s:I, s:I, s:I}, "
        "s:{s:I, s:I}, s:I}",
        "learned", learned, "states", states_json(&s.map), "present", "4K",
        (json_int_t)s.map.present_4k, "2M", (json_int_t)s.map.present_2m, "1G",
        (json_int_t)s.map.present_1g, "map_bytes",
        (json_int_t)s.map.tables * (json_int_t)PAGE_SIZE_4K, "ranges", ranges_json(vm_pages(vm)),
        "guards", guards_json(vm_memory(vm)), "faults", "missing", (json_int_t)s.faults_missing,
        "minor", (json_int_t)s.faults_minor, "write_protect", (json_int_t)s.faults_wp, "spurious",
        (json_int_t)s.faults_spurious, "around_bytes", (json_int_t)s.around_bytes, "huge",
        (json_int_t)s.huge_installed, "ns", (json_int_t)s.fault_ns, "populated", "bytes",
        (json_int_t)s.populate_bytes, "ns", (json_int_t)s.populate_ns, "locked_bytes",
        (json_int_t)s.locked_bytes);
}

int control_guard(struct vm *vm, const json_t *arguments, struct control_outcome *out)
{
    const char *mode = NULL;
    enum page_guard guard = PAGE_GUARD_OFF;
    uint64_t at = 0, len = 0;
    bool held = false;
    int rc = control_get_u64(arguments, "base", true, &at, &out->err);

    if (rc == 0)
        rc = control_get_u64(arguments, "size", true, &len, &out->err);
    if (rc == 0)
        rc = control_get_string(arguments, "mode", &mode, &out->err);
    if (rc == 0)
        rc = mode ? page_guard_parse(mode, &guard, &out->err)
                  : error_set(&out->err, -EINVAL, "\"mode\" is missing");
    if (rc < 0)
        return rc;
    /* A vCPU in the middle of an exit may hold a pointer that the gate gave. */
    rc = vm_hold(vm, &held);
    if (rc < 0)
        return error_set(&out->err, rc, "the VM can't be paused for it: %s",
                         rc == -EBUSY ? "a vCPU waits in a device" : "it has ended");
    rc = pages_guard(vm_pages(vm), gpa(at), len, guard, &out->err);
    vm_let_go(vm, held);
    if (rc == 0)
        out->result = json_pack("{s:o}", "guards", guards_json(vm_memory(vm)));
    return rc;
}
