/*
 * The command `walk`: the two-dimensional walk of one address as JSON. What a
 * cell of the picture shows is all in here; tools/walk_*.c only draw.
 */
#include <cpuid.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "ept/decode.h"
#include "vmm/control_walk_shadow.h"
#include "vmm/pagemap.h"

struct walk {
    struct look look;
    struct pt_access access;
    gva_t gva;
    struct nested_walk both;
    struct pt_walk guest; /* the guest's dimension alone */
    struct pt_space host;
    struct walk_shadow shadow;
};

char *control_rights(unsigned rights, char text[5])
{
    text[0] = rights & PT_RIGHT_READ ? 'r' : '-';
    text[1] = rights & PT_RIGHT_WRITE ? 'w' : '-';
    text[2] = rights & PT_RIGHT_EXEC ? 'x' : '-';
    text[3] = rights & PT_RIGHT_USER ? 'u' : '-';
    text[4] = '\0';
    return text;
}

static void set(json_t *object, const char *key, json_t *value)
{
    (void)json_object_set_new(object, key, value);
}

static json_t *hex_or_null(bool there, uint64_t value)
{
    return there ? control_hex(value) : json_null();
}

/* --- rows: one for each entry of the guest, and one for the page ------------------- */

/* The gpa that row `row` of the grid translates; false when the guest's tables
 * end before. */
static bool row_gpa(const struct walk *w, unsigned row, uint64_t *at)
{
    if (row < w->guest.count) {
        *at = w->guest.ref[row].at;
        return true;
    }
    *at = w->guest.output;
    return w->look.guest.format->levels == 0 || w->guest.shift != 0;
}

static json_t *row_json(struct walk *w, unsigned row)
{
    const struct pt_format *format = w->look.guest.format;
    const struct pt_walk *host = &w->both.host[row];
    json_t *object = json_object();
    struct gp_page page;
    uint64_t at = 0;
    hva_t host_at;

    set(object, "row", json_integer(row));
    set(object, "of",
        json_string(row < w->guest.count ? format->level[w->guest.ref[row].level].name : "page"));
    if (!row_gpa(w, row, &at))
        return object;
    if (row < w->guest.count) {
        const struct pt_level *level = &format->level[w->guest.ref[row].level];

        set(object, "index",
            json_integer((json_int_t)(w->gva.v >> level->shift & ((1u << level->bits) - 1))));
    }
    host_at = look_hva(&w->look, gpa(at));
    set(object, "gpa", control_hex(at));
    set(object, "hva", hex_or_null(host_at.v != 0, host_at.v));
    set(object, "state",
        json_string(look_page(&w->look, gpa(at), &page) == 0 ? gp_state_name(page.state)
                                                             : "no RAM"));
    set(object, "host_levels", json_integer(host->count));
    set(object, "host_page",
        host->shift ? control_number(UINT64_C(1) << host->shift) : json_null());
    return object;
}

/* --- references -------------------------------------------------------------------- */

json_t *control_entry_flags(const struct pt_space *space, const struct pt_ref *ref)
{
    char text[PT_DESCRIBE_MAX], *rest = NULL;
    json_t *list = json_array();

    (void)pt_describe(space, ref->level, ref->raw, text, sizeof(text));
    for (char *word = strtok_r(text, " ", &rest); word; word = strtok_r(NULL, " ", &rest))
        if (strcmp(word, "-") != 0)
            (void)json_array_append_new(list, json_string(word));
    return list;
}

static json_t *ref_json(const struct walk *w, unsigned number)
{
    const struct nested_ref *ref = &w->both.ref[number - 1];
    const struct pt_space *space = ref->dim == PT_DIM_GUEST ? &w->look.guest : &w->host;
    const struct pt_format *format = space->format;
    json_t *object = json_object();

    set(object, "number", json_integer(number));
    set(object, "dimension", json_string(ref->dim == PT_DIM_GUEST ? "guest" : "host"));
    set(object, "row", json_integer(ref->column));
    set(object, "column",
        json_integer(ref->dim == PT_DIM_GUEST ? w->host.format->levels
                                              : format->levels - ref->ref.level));
    set(object, "level", json_integer(ref->ref.level));
    set(object, "name", json_string(format->level[ref->ref.level].name));
    set(object, "address", control_hex(ref->ref.at));
    if (ref->dim == PT_DIM_GUEST)
        set(object, "hva", control_hex(ref->host_at));
    set(object, "value", control_hex(ref->ref.raw));
    set(object, "sets", control_hex(ref->ref.set));
    set(object, "flags", control_entry_flags(space, &ref->ref));
    return object;
}

/* --- where it would fault ---------------------------------------------------------- */

static const char *host_reason(struct walk *w, uint64_t at)
{
    struct gp_page page;

    if (look_page(&w->look, gpa(at), &page) < 0)
        return "no RAM is there: the access would go to a device, or to nobody";
    switch (page.state) {
    case GP_UNTOUCHED:
        return "nobody has touched this page yet: the host would give it one and "
               "go on";
    case GP_ZERO:
        return "it is the shared page of zeros: the host would give it a page of "
               "its own and go on";
    case GP_GUARDED:
        return "the page is guarded: the VM would end";
    case GP_PRESENT:
        return "the map does not allow it";
    default:
        return "the monitor has the page elsewhere: it would bring it back and go "
               "on";
    }
}

static void guest_text(const struct walk *w, const char *entry, uint64_t at, char *buf, size_t size)
{
    const struct nested_walk *both = &w->both;
    char reason[64], rights[5];

    if (both->fault == PT_NON_CANONICAL) {
        (void)snprintf(buf, size,
                       "the address is not canonical in %s paging: the guest would get #GP"
                       " (#SS for its stack), error code 0",
                       w->look.guest.format->name);
        return;
    }
    (void)snprintf(reason, sizeof(reason), "%s", pt_fault_name(both->fault));
    if (both->fault == PT_PROTECTION)
        (void)snprintf(reason, sizeof(reason), "no right to %s as %s: the tables grant %s",
                       pt_op_name(w->access.op), w->access.user ? "user" : "supervisor",
                       control_rights(both->guest.rights, rights));
    (void)snprintf(buf, size,
                   "the guest's %s at gpa 0x%" PRIx64 ": %s; it would get #PF, error code "
                   "0x%" PRIx64,
                   entry, at, reason, both->error_code);
}

/* Intel SDM vol. 3A, 4.7 "Page-Fault Exceptions"; vol. 3C, 28.2.1 "Basic VM-Exit Information",
 * exit qualification for EPT violations. */
static json_t *error_bits_json(const struct pt_format *format, uint64_t code)
{
    static const char *const x86[] = { "P", "W/R", "U/S", "RSVD", "I/D", "PK" };
    static const char *const ept[] = { "read",       "write",  "fetch",      "readable", "writable",
                                       "executable", "user x", "linear gva", "the page" };
    bool pf = format->rules == PT_RULES_X86;
    size_t count = pf ? sizeof(x86) / sizeof(x86[0]) : sizeof(ept) / sizeof(ept[0]);
    json_t *list = json_array();

    for (size_t i = 0; i < count; i++)
        if (code >> i & 1)
            (void)json_array_append_new(list, json_string(pf ? x86[i] : ept[i]));
    return list;
}

static json_t *fault_json(struct walk *w)
{
    const struct nested_walk *both = &w->both;
    bool guest = both->fault_dim == PT_DIM_GUEST;
    const struct pt_space *space = guest ? &w->look.guest : &w->host;
    const struct pt_walk *walk = guest ? &both->guest : &both->host[both->fault_column];
    const char *entry;
    json_t *object;
    uint64_t at = 0;
    char text[256];

    if (both->fault == PT_OK)
        return json_null();
    object = json_object();
    entry = walk->level && walk->level <= space->format->levels
                ? space->format->level[walk->level].name
                : "root";
    if (guest) {
        guest_text(w, entry, both->guest.count ? both->guest.ref[both->guest.count - 1].at : 0,
                   text, sizeof(text));
    } else {
        (void)row_gpa(w, both->fault_column, &at);
        (void)snprintf(text, sizeof(text), "gpa 0x%" PRIx64 ": %s", at, host_reason(w, at));
    }
    set(object, "dimension", json_string(guest ? "guest" : "host"));
    set(object, "row", json_integer(both->fault_column));
    set(object, "level", json_integer(walk->level));
    set(object, "name", json_string(entry));
    set(object, "reason", json_string(pt_fault_name(both->fault)));
    set(object, "event",
        json_string(!guest                            ? "EPT violation"
                    : both->fault == PT_NON_CANONICAL ? "#GP"
                                                      : "#PF"));
    set(object, "error_code", control_hex(both->error_code));
    set(object, "error_bits", error_bits_json(space->format, both->error_code));
    set(object, "text", json_string(text));
    return object;
}

/* --- the whole --------------------------------------------------------------------- */

static const char *const op_names[] = { [PT_READ] = "r", [PT_WRITE] = "w", [PT_EXEC] = "x" };

/* Why the host shows no frame of a page of RAM. */
static const char *no_frame(const struct walk *w, uint64_t at, int rc)
{
    struct gp_page page;

    if (rc == -EPERM)
        return "the host shows frames to CAP_SYS_ADMIN only";
    if (gpmap_get(w->look.map, gpa(at), &page) == 0 && page.flags & GP_WATCHED)
        return "watched for accesses: out of the way until the next one";
    return "the host has no page there now";
}

/* Where the byte is in the end: gpa, hva, hpa, or null, and why there is no hpa. */
static void add_addresses(json_t *object, struct walk *w)
{
    uint64_t at = 0;
    hva_t host = { 0 };
    const char *why = "the guest's tables lead nowhere";
    bool mapped = row_gpa(w, w->guest.count, &at) && w->guest.fault != PT_NON_CANONICAL;
    hpa_t frame = { 0 };
    int rc = -ENODATA;

    set(object, "gva", control_hex(w->gva.v));
    set(object, "gpa", hex_or_null(mapped, at));
    if (mapped)
        host = look_hva(&w->look, gpa(at));
    set(object, "hva", hex_or_null(host.v != 0, host.v));
    if (host.v)
        rc = pagemap_frame(host, &frame);
    set(object, "hpa", hex_or_null(rc == 0, frame.v));
    if (mapped && !host.v)
        why = "no RAM is at this gpa";
    else if (host.v)
        why = no_frame(w, at, rc);
    if (rc < 0)
        set(object, "hpa_why", json_string(why));
}

static void add_sizes(json_t *object, const struct walk *w)
{
    char rights[5];
    const struct nested_walk *both = &w->both;
    unsigned last = both->columns ? both->host[both->columns - 1].count : 0;
    bool alike = both->fault == PT_OK;

    for (unsigned i = 0; i < both->columns; i++)
        alike = alike && both->host[i].count == last;
    set(object, "guest_format", json_string(w->look.guest.format->name));
    set(object, "host_format", json_string(w->host.format->name));
    set(object, "guest_levels", json_integer(both->guest.count));
    set(object, "host_levels", json_integer(last));
    set(object, "guest_page",
        both->guest.shift && both->guest.count ? control_number(UINT64_C(1) << both->guest.shift)
                                               : json_null());
    set(object, "host_page",
        both->fault == PT_OK && last
            ? control_number(UINT64_C(1) << both->host[both->columns - 1].shift)
            : json_null());
    set(object, "count", json_integer(both->count));
    /* The formula speaks of walks whose host dimension is as deep in every row.
     */
    set(object, "expected",
        alike ? json_integer(nested_refs(both->guest.count, last)) : json_null());
    set(object, "rights", json_string(control_rights(w->both.guest.rights, rights)));
}

static void add_vcpu(json_t *object, struct walk *w)
{
    static const char *const tables[] = {
        [LOOK_VCPU] = "vcpu", [LOOK_PROCESS] = "process", [LOOK_ROOT] = "cr3"
    };
    const struct look *l = &w->look;
    const struct pt_policy *p = &l->guest.policy;

    set(object, "vcpu", json_integer(l->request.cpu));
    set(object, "tables", json_string(tables[l->request.tables]));
    if (l->request.tables == LOOK_PROCESS) {
        set(object, "pid", json_integer(l->request.pid));
        set(object, "process", control_text(l->process));
    }
    set(object, "root", control_hex(l->guest.root & l->guest.format->root_addr));
    set(object, "access", json_string(op_names[w->access.op]));
    set(object, "user", json_boolean(w->access.user));
    set(object, "mode",
        json_pack("{s:b, s:b, s:b, s:b, s:b, s:b, s:b}", "write_protect", p->write_protect,
                  "no_exec", p->no_exec, "smep", p->smep, "smap", p->smap, "ac", p->ac, "pku",
                  p->pku, "accessed_dirty", p->ad));
    set(object, "was_running", json_boolean(l->held));
    set(object, "stood_still_us", control_number(look_stood_ns(l) / 1000));
}

static bool host_is_guest(void)
{
    unsigned a, b, c = 0, d;

    /* The hypervisor's bit, which no real processor sets. AMD APM vol. 3,
     * "Fn0000_0001_ECX". */
    return __get_cpuid(1, &a, &b, &c, &d) && c >> 31;
}

static const char *backend_name(const struct kvm_backend *b)
{
    return b->kind == KVM_KIND_PVM            ? "pvm"
           : b->nested_paging == KVM_FLAG_YES ? "nested"
           : b->nested_paging == KVM_FLAG_NO  ? "shadow"
                                              : "unknown";
}

/* Of the guest's tables themselves: a sentence, and the references; 0: unknown. */
static unsigned describe_hardware(const struct walk *w, const struct kvm_backend *b, unsigned host,
                                  char *text, size_t size)
{
    const struct nested_walk *both = &w->both;

    if (b->kind == KVM_KIND_PVM)
        (void)snprintf(text, size,
                       "this host has no hardware virtualization: KVM (PVM) composes "
                       "both dimensions into a shadow table, and the processor walks that "
                       "alone");
    else if (b->nested_paging == KVM_FLAG_YES)
        (void)snprintf(text, size,
                       "the processor makes this walk: nested paging (%s), whose "
                       "tables KVM fills from this map",
                       b->kind == KVM_KIND_INTEL ? "EPT" : "NPT");
    else if (b->nested_paging == KVM_FLAG_NO)
        (void)snprintf(text, size,
                       "nested paging is off: KVM composes both dimensions into a "
                       "shadow table, and the processor walks that alone");
    else
        (void)snprintf(text, size, "KVM does not say whether the processor walks both dimensions");
    if (b->kind != KVM_KIND_PVM && b->nested_paging == KVM_FLAG_YES)
        return both->count;
    if (b->kind != KVM_KIND_PVM && b->nested_paging != KVM_FLAG_NO)
        return 0;
    return both->guest.count > host ? both->guest.count : host;
}

/* Which walk the hardware of this host makes of it. */
static json_t *hardware_json(const struct walk *w)
{
    const struct nested_walk *both = &w->both;
    unsigned host = both->columns ? both->host[both->columns - 1].count : 0;
    struct kvm_backend b;
    unsigned references;
    char text[256];

    kvm_backend_read(&b);
    if (w->shadow.there)
        references = walk_shadow_hardware(&w->shadow, &b, host, text, sizeof(text));
    else
        references = describe_hardware(w, &b, host, text, sizeof(text));
    return json_pack("{s:s, s:s, s:o, s:b}", "kind", backend_name(&b), "text", text, "references",
                     both->fault == PT_OK && references ? json_integer(references) : json_null(),
                     "host_is_guest", host_is_guest());
}

static json_t *walk_json(struct walk *w)
{
    json_t *object = json_object(), *rows = json_array(), *refs = json_array();
    unsigned columns = w->both.columns;

    set(object, "name", json_string(vm_config(w->look.vm)->name));
    add_addresses(object, w);
    add_sizes(object, w);
    set(object, "fault", fault_json(w));
    for (unsigned i = 0; i < columns; i++)
        (void)json_array_append_new(rows, row_json(w, i));
    for (unsigned i = 1; i <= w->both.count; i++)
        (void)json_array_append_new(refs, ref_json(w, i));
    set(object, "rows", rows);
    set(object, "references", refs);
    set(object, "hardware", hardware_json(w));
    if (w->shadow.there)
        set(object, "shadow", walk_shadow_json(&w->shadow, w->gva, &w->access));
    add_vcpu(object, w);
    return object;
}

static int get_access(const json_t *arguments, struct pt_access *access, struct error *err)
{
    const char *op = "r";
    int rc = control_get_string(arguments, "access", &op, err);

    if (rc < 0)
        return rc;
    for (enum pt_op i = PT_READ; i <= PT_EXEC; i++) {
        if (!strcmp(op, op_names[i])) {
            access->op = i;
            return 0;
        }
    }
    return error_set(err, -EINVAL, "\"access\" is one of r, w and x, not '%.20s'", op);
}

int control_look_request(const json_t *arguments, struct look_request *out, struct error *err)
{
    uint64_t cpu = 0, pid = 0, cr3 = 0;
    bool has_pid = json_object_get(arguments, "pid"), has_cr3 = json_object_get(arguments, "cr3");
    int rc = control_get_u64(arguments, "cpu", false, &cpu, err);

    if (rc == 0)
        rc = control_get_u64(arguments, "pid", false, &pid, err);
    if (rc == 0)
        rc = control_get_u64(arguments, "cr3", false, &cr3, err);
    if (rc < 0)
        return rc;
    if (has_pid && has_cr3)
        return error_set(err, -EINVAL, "\"pid\" and \"cr3\" both name tables: give one of them");
    if (cpu >= VM_CPUS_MAX)
        return error_set(err, -EINVAL, "there is no vCPU %" PRIu64, cpu);
    if (has_pid && (pid == 0 || pid > INT32_MAX))
        return error_set(err, -EINVAL, "there is no process %" PRIu64, pid);
    *out = (struct look_request){ .cpu = (unsigned)cpu, .pid = (int32_t)pid, .cr3 = cr3 };
    out->tables = has_pid ? LOOK_PROCESS : has_cr3 ? LOOK_ROOT : LOOK_VCPU;
    return 0;
}

/* "gva" may name a register of the vCPU: then *reg is where struct look has it, else NULL. */
static int get_gva(const json_t *arguments, struct walk *w, const gva_t **reg, struct error *err)
{
    const struct {
        const char *name;
        const gva_t *at;
    } registers[] = { { "rip", &w->look.rip }, { "rsp", &w->look.rsp }, { "cr2", &w->look.cr2 } };
    const char *name = json_string_value(json_object_get(arguments, "gva"));

    *reg = NULL;
    for (size_t i = 0; name && i < sizeof(registers) / sizeof(registers[0]); i++)
        if (!strcmp(name, registers[i].name))
            *reg = registers[i].at;
    return *reg ? 0 : control_get_u64(arguments, "gva", true, &w->gva.v, err);
}

int control_walk(struct vm *vm, const json_t *arguments, struct control_outcome *out)
{
    struct look_request request;
    const gva_t *reg;
    struct walk w;
    bool user = false;
    int rc;

    memset(&w, 0, sizeof(w));
    rc = get_gva(arguments, &w, &reg, &out->err);
    if (rc == 0)
        rc = get_access(arguments, &w.access, &out->err);
    if (rc == 0)
        rc = control_get_bool(arguments, "user", &user, &out->err);
    if (rc == 0)
        rc = control_look_request(arguments, &request, &out->err);
    if (rc == 0)
        rc = look_open(&w.look, vm, &request, &out->err);
    if (rc != 0)
        return rc;
    if (reg)
        w.gva = *reg;
    w.access.user = json_object_get(arguments, "user") ? user : w.look.user;
    gpmap_space(w.look.map, &w.host);
    rc = look_walk(&w.look, w.gva, &w.access, &w.both, &w.guest);
    walk_shadow_look(&w.shadow, &w.look, w.gva, &w.access);
    if (rc < 0)
        rc = error_set(&out->err, rc, "the host does not tell what is behind guest memory: %s",
                       strerror(-rc));
    else
        out->result = walk_json(&w);
    look_close(&w.look);
    return rc;
}
