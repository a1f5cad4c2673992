#include "vmm/mailbox.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "guest/abi.h"

#define ALIGNMENT 64u
/* How often a waiting asker looks whether the VM is still there. */
#define LOOK_MS 20

_Static_assert(sizeof(struct tf_mailbox) == 64, "one cache line, whole or not at all");
_Static_assert(sizeof(struct tf_process) == 48, "as the guest lays them out");

struct mailbox {
    struct memory *mem;
    struct irq_line irq;
    pthread_mutex_t lock;
    pthread_cond_t answered;
    gpa_t at;
    bool there;
    /* Our own count: what the guest makes of its copy is its own affair. */
    uint32_t asked;
    bool waiting; /* for done == asked; stays so when the guest never answers */
    bool left;    /* ... and who was asked is gone: there will be none */
    struct mailbox_answer answer;
};

/* --- the port --------------------------------------------------------------------- */

/* One copy, checked: the guest may change the mailbox while it is looked at. */
static int mailbox_copy(const struct mailbox *mb, gpa_t at, struct tf_mailbox *out)
{
    int rc = memory_read(mb->mem, at, out, sizeof(*out));

    return rc < 0 ? rc : out->magic == TF_MAILBOX_MAGIC ? 0 : -EFAULT;
}

/* The guest has written its answer, or says so. */
static void take_answer(struct mailbox *mb, const struct tf_mailbox *box)
{
    if (!mb->waiting || box->done != mb->asked)
        return;
    mb->waiting = false;
    mb->answer.result = box->result;
    memcpy(mb->answer.value, box->value, sizeof(mb->answer.value));
    (void)pthread_cond_broadcast(&mb->answered);
}

/* It was taken back, or another kernel has come, that was never asked. */
static void leave(struct mailbox *mb)
{
    mb->left = mb->left || mb->waiting;
    mb->waiting = false;
    (void)pthread_cond_broadcast(&mb->answered);
}

static void mailbox_write(void *dev, uint64_t offset, unsigned size, uint64_t value)
{
    struct mailbox *mb = dev;
    struct tf_mailbox box;

    (void)offset;
    if (size != 4 || value % ALIGNMENT)
        return;
    (void)pthread_mutex_lock(&mb->lock);
    if (value == 0 || mailbox_copy(mb, gpa(value), &box) < 0) {
        mb->there = mb->there && value != 0 && mb->at.v != value;
        if (!mb->there)
            leave(mb);
    } else if (mb->there && mb->at.v == value) {
        take_answer(mb, &box);
    } else {
        mb->at = gpa(value);
        mb->there = true;
        leave(mb);
        mb->asked = box.done;
    }
    (void)pthread_mutex_unlock(&mb->lock);
}

static const struct bus_ops mailbox_ops = { .write = mailbox_write };

int mailbox_create(struct mailbox **out, struct bus *bus, struct memory *mem, struct irq_line irq,
                   struct error *err)
{
    struct mailbox *mb = calloc(1, sizeof(*mb));
    pthread_condattr_t attr;
    int rc;

    if (!mb)
        return error_set(err, -ENOMEM, "mailbox: out of memory");
    mb->mem = mem;
    mb->irq = irq;
    (void)pthread_mutex_init(&mb->lock, NULL);
    (void)pthread_condattr_init(&attr);
    (void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    (void)pthread_cond_init(&mb->answered, &attr);
    (void)pthread_condattr_destroy(&attr);
    rc = bus_add(bus, BUS_PIO, TF_PORT_MAILBOX, 4, &mailbox_ops, mb, "mailbox", err);
    if (rc < 0) {
        mailbox_destroy(mb);
        return rc;
    }
    *out = mb;
    return 0;
}

void mailbox_destroy(struct mailbox *mb)
{
    if (!mb)
        return;
    (void)pthread_cond_destroy(&mb->answered);
    (void)pthread_mutex_destroy(&mb->lock);
    free(mb);
}

static bool place_get(struct mailbox *mb, gpa_t *at)
{
    bool there;

    (void)pthread_mutex_lock(&mb->lock);
    there = mb->there;
    *at = mb->at;
    (void)pthread_mutex_unlock(&mb->lock);
    return there;
}

bool mailbox_there(struct mailbox *mb)
{
    gpa_t at;

    return place_get(mb, &at);
}

/* --- processes -------------------------------------------------------------------- */

static void process_take(struct mailbox_process *to, const struct tf_process *from)
{
    *to = (struct mailbox_process){ .pid = from->pid, .root = gpa(from->root) };
    for (size_t i = 0; i + 1 < sizeof(to->name) && from->name[i]; i++)
        to->name[i] = from->name[i] >= ' ' && from->name[i] < 0x7f ? from->name[i] : '?';
}

static int no_mailbox(struct error *err)
{
    return error_set(err, -ENOENT,
                     "the guest offers no mailbox: its kernel does not know twofold's "
                     "(docs/binding.md), or has not started yet");
}

/* The guest's table as it is now; *out is for free(). */
static int table_read(struct mailbox *mb, struct tf_process **out, size_t *count, struct error *err)
{
    struct tf_mailbox box;
    gpa_t at;
    int rc;

    if (!place_get(mb, &at))
        return no_mailbox(err);
    rc = mailbox_copy(mb, at, &box);
    if (rc < 0)
        return error_set(err, -EFAULT, "the guest's mailbox at 0x%" PRIx64 " is gone", at.v);
    if (box.processes_gpa == 0 || box.process_max == 0)
        return error_set(err, -ENOENT, "the guest's mailbox has no table of processes");
    if (box.process_max > MAILBOX_PROCESSES_MAX)
        box.process_max = MAILBOX_PROCESSES_MAX;
    *out = calloc(box.process_max, sizeof(**out));
    if (!*out)
        return error_set(err, -ENOMEM, "no memory for a list of processes");
    rc = memory_read(mb->mem, gpa(box.processes_gpa), *out, box.process_max * sizeof(**out));
    if (rc < 0) {
        free(*out);
        *out = NULL;
        return error_set(err, -EFAULT,
                         "the guest's table of processes at 0x%" PRIx64 " is not in its RAM",
                         box.processes_gpa);
    }
    *count = box.process_max;
    return 0;
}

int mailbox_processes(struct mailbox *mb, struct mailbox_process **out, size_t *count,
                      struct error *err)
{
    struct tf_process *table = NULL;
    size_t n = 0, used = 0;
    int rc = table_read(mb, &table, &n, err);

    *out = NULL;
    *count = 0;
    if (rc < 0 || !table)
        return rc;
    *out = calloc(n ? n : 1, sizeof(**out));
    for (size_t i = 0; *out && i < n; i++)
        if (table[i].pid > 0)
            process_take(&(*out)[used++], &table[i]);
    free(table);
    *count = used;
    return *out ? 0 : error_set(err, -ENOMEM, "no memory for a list of processes");
}

int mailbox_root(struct mailbox *mb, int32_t pid, gpa_t *root, struct error *err)
{
    struct mailbox_process *list;
    size_t count;
    int rc = mailbox_processes(mb, &list, &count, err);

    if (rc < 0)
        return rc;
    rc = -ESRCH;
    for (size_t i = 0; i < count && rc < 0; i++) {
        if (list[i].pid == pid) {
            *root = list[i].root;
            rc = 0;
        }
    }
    free(list);
    return rc < 0 ? error_set(err, rc, "the guest has no process %d", (int)pid) : 0;
}

/* --- requests ----------------------------------------------------------------------- */

static void add_ms(struct timespec *t, unsigned ms)
{
    t->tv_sec += ms / 1000;
    t->tv_nsec += (long)(ms % 1000) * 1000000;
    if (t->tv_nsec >= 1000000000) {
        t->tv_sec++;
        t->tv_nsec -= 1000000000;
    }
}

/* Looks by itself, too: a guest may have answered without saying so. Under the lock. */
static bool look(struct mailbox *mb)
{
    struct tf_mailbox box;

    if (mb->waiting && mb->there && mailbox_copy(mb, mb->at, &box) == 0)
        take_answer(mb, &box);
    return !mb->waiting;
}

/* Under the lock. */
static int wait_answer(struct mailbox *mb, unsigned patience_ms, bool (*wait_on)(void *ctx),
                       void *ctx, struct error *err)
{
    for (unsigned waited = 0; mb->waiting && waited < patience_ms; waited += LOOK_MS) {
        struct timespec until;

        (void)clock_gettime(CLOCK_MONOTONIC, &until);
        add_ms(&until, LOOK_MS);
        while (mb->waiting && pthread_cond_timedwait(&mb->answered, &mb->lock, &until) != ETIMEDOUT)
            ;
        if (mb->waiting && wait_on && !wait_on(ctx))
            return error_set(err, -ECANCELED, "the VM ended before its guest answered");
    }
    if (mb->left)
        return error_set(err, -ECONNRESET,
                         "the guest's kernel took its mailbox away before it answered");
    return look(mb) ? 0
                    : error_set(err, -ETIMEDOUT,
                                "the guest's kernel has not answered within %u ms: its interrupts "
                                "are off, or it has died",
                                patience_ms);
}

/* Writes the request, `asked` last. Under the lock. */
static int post(struct mailbox *mb, uint32_t op, const uint64_t arg[2])
{
    uint8_t *box = memory_at(mb->mem, mb->at, sizeof(struct tf_mailbox));
    uint32_t asked = mb->asked + 1;

    if (!box)
        return -EFAULT;
    memcpy(box + offsetof(struct tf_mailbox, op), &op, sizeof(op));
    memcpy(box + offsetof(struct tf_mailbox, arg), arg, 2 * sizeof(*arg));
    /* The guest that sees the new count sees the rest as well. */
    __atomic_store_n((uint32_t *)(void *)(box + offsetof(struct tf_mailbox, asked)), asked,
                     __ATOMIC_RELEASE);
    memory_wrote(mb->mem, mb->at, sizeof(struct tf_mailbox));
    mb->asked = asked;
    mb->waiting = true;
    mb->left = false;
    return 0;
}

int mailbox_ask(struct mailbox *mb, uint32_t op, const uint64_t arg[2], unsigned patience_ms,
                bool (*wait_on)(void *ctx), void *ctx, struct mailbox_answer *answer,
                struct error *err)
{
    int rc = 0;

    (void)pthread_mutex_lock(&mb->lock);
    if (!mb->there)
        rc = no_mailbox(err);
    else if (!look(mb))
        rc =
            error_set(err, -EBUSY, "the guest's kernel still owes an answer to an earlier request");
    else if (post(mb, op, arg) < 0)
        rc = error_set(err, -EFAULT, "the guest's mailbox at 0x%" PRIx64 " is gone", mb->at.v);
    if (rc == 0) {
        /* The interrupt may be served before this returns; the answer waits for the lock. */
        mb->irq.set(mb->irq.ctx, mb->irq.gsi, 1);
        mb->irq.set(mb->irq.ctx, mb->irq.gsi, 0);
        rc = wait_answer(mb, patience_ms, wait_on, ctx, err);
    }
    if (rc == 0)
        *answer = mb->answer;
    (void)pthread_mutex_unlock(&mb->lock);
    return rc;
}
