/*
 * A look at a live VM's translation: the paging state of one vCPU, and its two
 * dimensions as spaces for the walkers (docs/walk.md). The VM stands still meanwhile. Nothing is
 * disturbed: no page is populated and no accessed bit set by looking.
 */
#ifndef TWOFOLD_VMM_LOOK_H
#define TWOFOLD_VMM_LOOK_H

#include "ept/format_x86.h"
#include "ept/gpmap.h"
#include "ept/nested.h"
#include "vmm/error.h"
#include "vmm/vm.h"

/* Whose tables are followed. */
enum look_tables {
    LOOK_VCPU,    /* CR3 of the vCPU */
    LOOK_PROCESS, /* the root of process `pid`, as the guest tells it in its mailbox */
    LOOK_ROOT,    /* `cr3` */
};

struct look_request {
    unsigned cpu; /* its control registers decide how tables are read, in any case */
    enum look_tables tables;
    int32_t pid;
    uint64_t cr3;
};

#define LOOK_REGIONS 256 /* of 2 MiB that were learned lately */

struct look {
    struct vm *vm;
    struct gpmap *map;
    struct look_request request;
    char process[32];         /* name of the process; LOOK_PROCESS */
    bool user;                /* the vCPU is in ring 3 at this moment */
    gva_t rip, rsp;           /* where it is, segment bases included */
    gva_t cr2;                /* of its last page fault */
    struct x86_paging paging; /* as the registers say; .cr3 is the root that was asked for */
    struct pt_space guest;    /* the same as a space */
    bool held;                /* vm_let_go() has to resume it */
    uint64_t since_ns;
    uint64_t learned[LOOK_REGIONS]; /* region number + 1 */
    int failed;                     /* -errno: the host did not tell what is behind a page */
};

/*
 * Stops the VM and reads the vCPU. On the I/O thread only. Errors, with a sentence: -EINVAL (no
 * such vCPU), -ESRCH (the VM has ended, no such process), -ENOTSUP (the guest tells no
 * processes), -EBUSY (as vm_pause()). look_close() has to follow a success.
 */
int look_open(struct look *l, struct vm *vm, const struct look_request *request, struct error *err);
void look_close(struct look *l);

/* Nanoseconds that the VM has stood still for this look, 0 when it was paused before. */
uint64_t look_stood_ns(const struct look *l);

/*
 * What is behind the page at `at`, after asking the host; 0, -ENOENT: no RAM, or -errno: the host
 * does not tell.
 */
int look_page(struct look *l, gpa_t at, struct gp_page *out);

/* The hva of `at` by the slots, whatever the page's state is; 0: no RAM. */
hva_t look_hva(const struct look *l, gpa_t at);

/* pt_read and pt_read_table for the guest's tables by gpa; ctx is the struct look. A page that
 * nobody touched reads as zeros without being touched; a guarded one and what is no RAM fail. */
int look_read(void *ctx, uint64_t at, unsigned size, uint64_t *raw);
const void *look_read_table(void *ctx, uint64_t at, unsigned bytes, void *buf);

/*
 * The walk in both dimensions; *guest receives the guest's dimension alone, which goes on where
 * the host's would fault first. 0, or -errno when the host does not tell what is behind a page.
 */
int look_walk(struct look *l, gva_t address, const struct pt_access *access,
              struct nested_walk *out, struct pt_walk *guest);

#endif
