/*
 * The commands `migrate-pages` and `move-page`: other host frames below a guest, and another gpa by
 * the guest's own kernel. docs/binding.md.
 */
#include "vmm/control_migrate.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "guest/abi.h"
#include "vmm/mailbox.h"
#include "vmm/migrate.h"

/* The I/O thread serves nobody else while it moves pages: who wants more asks again. */
#define PIECE_MAX (UINT64_C(64) << 20)

/* How long a guest's kernel may take for a page. */
#define PATIENCE_MS 2000

static int hold(void *ctx, bool *held)
{
    return vm_hold(ctx, held);
}

static void let_go(void *ctx, bool held)
{
    vm_let_go(ctx, held);
}

static json_t *report_json(const struct migrate_report *r)
{
    return json_pack("{s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "method",
                     r->method == MIGRATE_BY_MOVE ? "move" : "hold", "moved_bytes",
                     (json_int_t)r->moved, "huge_bytes", (json_int_t)r->huge, "split_bytes",
                     (json_int_t)r->split, "busy_bytes", (json_int_t)r->busy, "empty_bytes",
                     (json_int_t)r->empty, "seen_bytes", (json_int_t)r->seen, "same_bytes",
                     (json_int_t)r->same, "ns", (json_int_t)r->ns, "held_ns",
                     (json_int_t)r->held_ns, "away_ns", (json_int_t)r->away_ns);
}

/* RAM without a gap: a long range is refused before the first of its pieces moves. */
static int check_ram(struct vm *vm, uint64_t at, uint64_t len, struct error *err)
{
    uint64_t run = memory_run(vm_memory(vm), gpa(at), len);

    if (run == len)
        return 0;
    return error_set(err, -EINVAL, "0x%" PRIx64 "+0x%" PRIx64 ": gpa 0x%" PRIx64 " is no RAM", at,
                     len, at + run);
}

int control_migrate_pages(struct vm *vm, const json_t *arguments, struct control_outcome *out)
{
    struct migrate_hold how = { .hold = hold, .let_go = let_go, .ctx = vm };
    uint64_t page = mem_backing_page(vm_config(vm)->backing), at = 0, len = 0;
    struct migrate_report report;
    uint64_t whole = 0;
    int rc = control_get_u64(arguments, "base", true, &at, &out->err);

    if (rc == 0)
        rc = control_get_u64(arguments, "size", true, &len, &out->err);
    if (rc == 0)
        rc = control_get_bool(arguments, "hold", &how.always, &out->err);
    if (rc == 0)
        rc = control_get_u64(arguments, "whole", false, &whole, &out->err);
    if (rc == 0)
        rc = check_ram(vm, at, whole, &out->err);
    if (rc == 0 && len > (page > PIECE_MAX ? page : PIECE_MAX))
        rc = error_set(&out->err, -EINVAL,
                       "\"size\" is more than one request may take: ask in pieces of %" PRIu64
                       " MiB",
                       (page > PIECE_MAX ? page : PIECE_MAX) >> 20);
    if (rc == 0 && vm_state(vm) == VM_ENDED)
        rc = error_set(&out->err, -ESRCH, "the VM has ended");
    if (rc == 0)
        rc = migrate_range(vm_pages(vm), gpa(at), len, &how, &report, &out->err);
    if (rc == 0)
        out->result = report_json(&report);
    return rc;
}

/* --- by the guest --------------------------------------------------------------------- */

static bool runs(void *ctx)
{
    return vm_state(ctx) == VM_RUNNING;
}

/* What the guest's kernel said; of its numbers none is relied on, they are only shown. */
static json_t *moved_json(uint64_t at, const struct mailbox_answer *answer)
{
    json_t *result = json_pack("{s:o}", "gpa", control_hex(at));
    const char *what = "failed";

    switch (answer->result) {
    case 0:
        what = "moved";
        (void)json_object_set_new(result, "to", control_hex(answer->value[0]));
        (void)json_object_set_new(result, "size", control_number(answer->value[1] & INT64_MAX));
        break;
    case -ENOENT:
        what = "absent";
        break;
    case -EBUSY:
        what = "busy";
        break;
    case -ENOMEM:
        what = "no-memory";
        break;
    case -ENOSYS:
        what = "unknown";
        break;
    default:
        break;
    }
    (void)json_object_set_new(result, "result", json_string(what));
    return result;
}

int control_move_page(struct vm *vm, const json_t *arguments, struct control_outcome *out)
{
    struct mailbox_answer answer;
    uint64_t arg[2] = { 0, 0 };
    uint64_t size = PAGE_SIZE_4K;
    int rc = control_get_u64(arguments, "gpa", true, &arg[0], &out->err);

    if (rc == 0)
        rc = control_get_u64(arguments, "size", false, &size, &out->err);
    if (rc < 0)
        return rc;
    if ((arg[0] | size) % PAGE_SIZE_4K || !memory_at(vm_memory(vm), gpa(arg[0]), size))
        return error_set(&out->err, -EINVAL,
                         "0x%" PRIx64 "+0x%" PRIx64 " is not RAM in pages of 4 KiB as a whole",
                         arg[0], size);
    if (vm_state(vm) == VM_PAUSED)
        return error_set(&out->err, -EBUSY,
                         "the VM is paused, and its guest has to do this: resume it first");
    rc = mailbox_ask(vm_mailbox(vm), TF_REQUEST_MOVE_PAGE, arg, PATIENCE_MS, runs, vm, &answer,
                     &out->err);
    if (rc == 0)
        out->result = moved_json(arg[0], &answer);
    return rc;
}

json_t *control_processes_json(struct vm *vm)
{
    struct mailbox_process *process = NULL;
    json_t *list = json_array();
    size_t count = 0;

    if (mailbox_processes(vm_mailbox(vm), &process, &count, NULL) < 0)
        return list;
    for (size_t i = 0; i < count; i++)
        (void)json_array_append_new(list, json_pack("{s:i, s:o, s:s}", "pid", (int)process[i].pid,
                                                    "root", control_hex(process[i].root.v), "name",
                                                    process[i].name));
    free(process);
    return list;
}
