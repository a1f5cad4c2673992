/*
 * The monitor's end of the mailbox (guest/abi.h): what a guest kernel tells of its processes, and
 * what the monitor may ask it to do. A guest that offers none is as good as any other.
 *
 * Nothing the guest says is believed: addresses go through the gate to guest memory, counts have
 * limits, and a guest that never answers costs the asker a bounded wait.
 */
#ifndef TWOFOLD_VMM_MAILBOX_H
#define TWOFOLD_VMM_MAILBOX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ept/addr.h"
#include "vmm/bus.h"
#include "vmm/devices.h"
#include "vmm/error.h"
#include "vmm/memory.h"

/* Entries of the guest's table that are looked at, whatever it says of its size. */
#define MAILBOX_PROCESSES_MAX 4096

struct mailbox;

/* Claims TF_PORT_MAILBOX. `irq` is the line that rings in the guest. */
int mailbox_create(struct mailbox **out, struct bus *bus, struct memory *mem, struct irq_line irq,
                   struct error *err);
void mailbox_destroy(struct mailbox *mb);

/* True when the guest offers a mailbox at this moment. */
bool mailbox_there(struct mailbox *mb);

/* A process of the guest, as its kernel tells. */
struct mailbox_process {
    int32_t pid;
    gpa_t root;    /* its top-level page table */
    char name[32]; /* printable ASCII, closed by NUL */
};

/*
 * The guest's processes in the order of its table: *out is a new array of *count, for free().
 * -ENOENT: the guest offers no mailbox, or one without a table; -EFAULT: its table is not in RAM;
 * -ENOMEM. May be called by any thread, while the guest runs; each entry is one snapshot, the list
 * is none.
 */
int mailbox_processes(struct mailbox *mb, struct mailbox_process **out, size_t *count,
                      struct error *err);

/* The root of process `pid`. Errors as above; -ESRCH: there is no such process. */
int mailbox_root(struct mailbox *mb, int32_t pid, gpa_t *root, struct error *err);

/* What the guest answered. */
struct mailbox_answer {
    int32_t result; /* 0 or a negative errno */
    uint64_t value[2];
};

/*
 * Asks the guest for `op` (enum tf_request) and waits at most `patience_ms`; `wait_on` (NULL:
 * always) says whether waiting still makes sense and is asked every now and then. 0 when the guest
 * answered, whatever it answered. -ENOENT: no mailbox; -EFAULT: it is not in RAM any more;
 * -EBUSY: an earlier request is not answered yet; -ETIMEDOUT: this one was not;
 * -ECONNRESET: nor will it be, its mailbox is gone; -ECANCELED: `wait_on` said no. The vCPUs have
 * to run.
 */
int mailbox_ask(struct mailbox *mb, uint32_t op, const uint64_t arg[2], unsigned patience_ms,
                bool (*wait_on)(void *ctx), void *ctx, struct mailbox_answer *answer,
                struct error *err);

#endif
