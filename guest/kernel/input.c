#include "guest/kernel/input.h"

#include "guest/kernel/errno.h"
#include "guest/kernel/printk.h"
#include "guest/kernel/proc.h"
#include "guest/kernel/sched.h"

/* A thread that waits for input; lives on its kernel stack. */
struct reader {
    struct thread *thread;
    struct reader *next;
};

static struct lock input_lock;
static struct reader *readers;

static void forget(const struct reader *r)
{
    struct reader **at = &readers;

    while (*at != r)
        at = &(*at)->next;
    *at = r->next;
}

int64_t input_read(char *buf, size_t len)
{
    struct reader me = { .thread = this_cpu()->current };
    size_t n;

    lock_acquire(&input_lock);
    me.next = readers;
    readers = &me;
    while ((n = console_read(buf, len)) == 0 && !proc_killed()) {
        sched_block(&input_lock);
        lock_acquire(&input_lock);
    }
    forget(&me);
    lock_release(&input_lock);
    return n > 0 ? (int64_t)n : -EINTR;
}

void console_input_ready(void)
{
    lock_acquire(&input_lock);
    for (struct reader *r = readers; r != NULL; r = r->next)
        sched_wake(r->thread);
    lock_release(&input_lock);
}
