#include "guest/kernel/proc.h"

#include "guest/abi.h"
#include "guest/kernel/dma_user.h"
#include "guest/kernel/errno.h"
#include "guest/kernel/exec.h"
#include "guest/kernel/heap.h"
#include "guest/kernel/initrd.h"
#include "guest/kernel/mailbox.h"
#include "guest/kernel/panic.h"
#include "guest/kernel/printk.h"
#include "guest/kernel/sched.h"
#include "guest/kernel/string.h"
#include "guest/kernel/vma.h"

#define MAX_PROCS 4096u

struct proc {
    int pid;
    bool quiet;
    bool killed;  /* ends before it returns to ring 3 next */
    bool zombie;  /* ended; the parent has not asked yet */
    bool waiting; /* blocked in proc_wait() */
    struct vm vm;
    struct thread *thread;
    struct proc *parent;   /* NULL: nobody will ask how it ended */
    struct proc *children; /* linked by `sibling` */
    struct proc *sibling;
    struct proc *next, **previous; /* in the list of all */
    struct sys_status status;
    int place; /* in the mailbox's table */
    char name[32];
};

/* What a process had before it became another program. */
struct old_vm {
    struct vm vm;
    struct old_vm *next;
};

static struct lock proc_lock; /* the tree, the lists, killed, zombie, waiting */
static struct proc *all;
static struct proc *unwanted; /* ended, and nobody asks any more; linked by `sibling` */
static struct old_vm *old_vms;
static uint32_t count;
static int last_pid;

struct proc *proc_current(void)
{
    return this_cpu()->current->proc;
}

int proc_pid(const struct proc *p)
{
    return p->pid;
}

struct vm *proc_vm(struct proc *p)
{
    return &p->vm;
}

struct aspace *proc_aspace(struct proc *p)
{
    return p->vm.as;
}

const char *proc_name(const struct proc *p)
{
    return p->name;
}

bool proc_quiet(const struct proc *p)
{
    return p->quiet;
}

uint32_t proc_started(void)
{
    return (uint32_t)__atomic_load_n(&last_pid, __ATOMIC_RELAXED);
}

/* --- memory of a process that is gone --------------------------------------------- */

/* Frees a process whose thread has called sched_exit() or never ran. */
static void proc_free(struct proc *p)
{
    vm_destroy(&p->vm);
    if (p->thread != NULL)
        thread_free(p->thread);
    kfree(p);
    __atomic_fetch_sub(&count, 1, __ATOMIC_RELAXED);
}

static void free_list(struct proc *p)
{
    if (p != NULL)
        sched_barrier();
    while (p != NULL) {
        struct proc *next = p->sibling;

        proc_free(p);
        p = next;
    }
}

void proc_free_ended(void)
{
    struct old_vm *old;
    struct proc *list;

    if (__atomic_load_n(&unwanted, __ATOMIC_RELAXED) == NULL &&
        __atomic_load_n(&old_vms, __ATOMIC_RELAXED) == NULL)
        return;
    lock_acquire(&proc_lock);
    list = unwanted;
    unwanted = NULL;
    old = old_vms;
    old_vms = NULL;
    lock_release(&proc_lock);
    free_list(list);
    while (old != NULL) {
        struct old_vm *next = old->next;

        vm_destroy(&old->vm);
        kfree(old);
        old = next;
    }
}

uint32_t proc_count(void)
{
    proc_free_ended();
    return __atomic_load_n(&count, __ATOMIC_RELAXED);
}

/* --- beginning ------------------------------------------------------------------------ */

/* A process without memory, unknown to anybody yet. */
static int proc_create(struct proc **out)
{
    struct proc *p;

    *out = NULL;
    if (proc_count() >= MAX_PROCS)
        return -EAGAIN;
    p = kzalloc(sizeof *p);
    if (p == NULL)
        return -ENOMEM;
    __atomic_fetch_add(&count, 1, __ATOMIC_RELAXED);
    p->thread = thread_create(p);
    if (p->thread == NULL || vm_create(&p->vm) != 0) {
        proc_free(p);
        return -ENOMEM;
    }
    *out = p;
    return 0;
}

/* Makes it known and runnable; its pid. */
static int64_t proc_start(struct proc *p, struct proc *parent)
{
    int pid;

    lock_acquire(&proc_lock);
    pid = ++last_pid;
    p->pid = pid;
    p->parent = parent;
    if (parent != NULL) {
        p->sibling = parent->children;
        parent->children = p;
    }
    p->next = all;
    p->previous = &all;
    if (all != NULL)
        all->previous = &p->next;
    all = p;
    p->place = mailbox_add(pid, aspace_root(p->vm.as), p->name);
    lock_release(&proc_lock);
    sched_wake(p->thread); /* from here on, p may be gone */
    return pid;
}

/* Into an empty `vm`; `f`, which is zeroed, becomes its first registers. */
static int load_program(struct vm *vm, struct trap_frame *f, const char *args, uint64_t len,
                        const char **why)
{
    struct initrd_file file;
    uint64_t args_at;
    int rc;

    *why = "there is no such program in the initrd";
    if (!initrd_find(args, &file))
        return -ENOENT;
    rc = exec_load(vm, &file, &f->rip, why);
    if (rc == 0)
        rc = exec_stack(vm, args, len, &args_at);
    if (rc != 0) {
        if (rc == -ENOMEM)
            *why = "memory is out";
        return rc;
    }
    f->rdi = args_at;
    f->rsi = len;
    f->rsp = args_at;
    f->cs = SEL_USER_CODE;
    f->ss = SEL_USER_DATA;
    f->rflags = 0x202; /* interrupts on, and the bit that is always one */
    return 0;
}

static void set_name(struct proc *p, const char *name)
{
    kformat(p->name, sizeof p->name, "%s", name);
}

int64_t proc_spawn(struct proc *parent, const char *args, uint64_t len, uint32_t flags)
{
    const char *why = "there are too many processes, or memory is out";
    struct proc *p;
    int rc = proc_create(&p);
    bool quiet = flags & SYS_QUIET || (parent != NULL && parent->quiet);

    if (rc == 0)
        rc = load_program(&p->vm, thread_frame(p->thread), args, len, &why);
    if (rc == 0) {
        set_name(p, args);
        p->quiet = quiet;
        return proc_start(p, parent);
    }
    if (p != NULL)
        proc_free(p);
    if (!quiet)
        printk("can't start '%s': %s\n", args, why);
    return rc;
}

/*
 * Replaces the calling process' memory. The old one is freed when somebody asks for memory: the
 * CPU that did the exec has better things to do, and if the machine ends first, it never is.
 */
static void replace_vm(struct proc *p, const struct vm *vm)
{
    struct vm former = p->vm;
    struct old_vm *old = kmalloc(sizeof *old);

    p->vm = *vm;
    aspace_switch(p->vm.as);
    if (old == NULL) {
        vm_destroy(&former);
        return;
    }
    old->vm = former;
    lock_acquire(&proc_lock);
    old->next = old_vms;
    old_vms = old;
    lock_release(&proc_lock);
}

int64_t proc_exec(const char *args, uint64_t len)
{
    struct proc *p = proc_current();
    const char *why = "memory is out";
    struct trap_frame f = { 0 };
    struct vm vm;
    int rc;

    proc_free_ended(); /* so that at most one exec's memory is left over */
    rc = vm_create(&vm);
    if (rc == 0)
        rc = load_program(&vm, &f, args, len, &why);
    if (rc != 0) {
        vm_destroy(&vm);
        if (!p->quiet)
            printk("can't start '%s': %s\n", args, why);
        return rc;
    }
    dma_user_end();
    replace_vm(p, &vm);
    thread_clear_state();
    set_name(p, args);
    mailbox_change(p->place, aspace_root(p->vm.as), p->name);
    *thread_frame(p->thread) = f;
    return 0;
}

int64_t proc_fork(uint32_t flags)
{
    struct proc *parent = proc_current(), *p;
    struct trap_frame *f;
    int rc = proc_create(&p);

    if (rc != 0)
        return rc;
    f = thread_frame(p->thread);
    if (flags & SYS_SHARE)
        vm_share(&p->vm, &parent->vm);
    else
        rc = vm_clone(&p->vm, &parent->vm);
    if (rc != 0) {
        proc_free(p);
        return rc;
    }
    thread_copy_state(p->thread);
    *f = *thread_frame(parent->thread);
    f->rax = 0;
    if (flags & SYS_SHARE) {
        f->rip = f->rsi;
        f->rsp = f->rdx;
        f->rdi = f->r10;
    }
    p->quiet = parent->quiet || flags & SYS_QUIET;
    memcpy(p->name, parent->name, sizeof p->name);
    return proc_start(p, parent);
}

/* --- end --------------------------------------------------------------------------------- */

static void exit_machine(const struct proc *p, int code)
{
    if (code > TF_EXIT_PROGRAM_MAX) {
        printk("%s ended with %d, which is no exit value of a VM; it becomes %d\n", p->name, code,
               TF_EXIT_PROGRAM_MAX);
        code = TF_EXIT_PROGRAM_MAX;
    }
    machine_exit((unsigned)code);
}

/* Takes the children's parent away; gives those that have ended, linked by `sibling`. */
static struct proc *leave_children(struct proc *p)
{
    struct proc *ended = NULL;

    while (p->children != NULL) {
        struct proc *child = p->children;

        p->children = child->sibling;
        child->parent = NULL;
        child->sibling = NULL;
        if (child->zombie) {
            child->sibling = ended;
            ended = child;
        }
    }
    return ended;
}

void proc_exit(int code, const struct sys_status *fault)
{
    struct proc *p = proc_current(), *ended;
    bool waited_for;

    if (p->pid == 1)
        exit_machine(p, code);
    dma_user_end();
    if (fault != NULL)
        p->status = *fault;
    else
        p->status.vector = -1;
    p->status.pid = p->pid;
    p->status.code = code;
    p->status.cpu_ns = thread_cpu_ns(p->thread);
    lock_acquire(&proc_lock);
    waited_for = p->parent != NULL && p->parent->waiting;
    ended = leave_children(p);
    *p->previous = p->next;
    if (p->next != NULL)
        p->next->previous = p->previous;
    mailbox_remove(p->place);
    lock_release(&proc_lock);
    free_list(ended);
    /* A parent that waits hears of the end first; proc_free() frees the memory then. */
    if (!waited_for) {
        aspace_switch(NULL);
        vm_destroy(&p->vm);
    }

    lock_acquire(&proc_lock);
    p->zombie = true;
    if (p->parent == NULL) {
        p->sibling = unwanted;
        unwanted = p;
    } else if (p->parent->waiting) {
        p->parent->waiting = false;
        sched_wake(p->parent->thread);
    }
    sched_exit(&proc_lock);
}

/* The link to a child that has ended, or NULL; *any: there is one, ended or not. */
static struct proc **find_ended(struct proc *p, int64_t pid, bool *any)
{
    *any = false;
    for (struct proc **at = &p->children; *at != NULL; at = &(*at)->sibling) {
        if (pid != -1 && (*at)->pid != pid)
            continue;
        *any = true;
        if ((*at)->zombie)
            return at;
    }
    return NULL;
}

int64_t proc_wait(int64_t pid, struct sys_status *status)
{
    struct proc *p = proc_current(), **at, *child;
    bool any;

    lock_acquire(&proc_lock);
    while ((at = find_ended(p, pid, &any)) == NULL) {
        if (!any || p->killed) {
            lock_release(&proc_lock);
            return any ? -EINTR : -ECHILD;
        }
        p->waiting = true;
        sched_block(&proc_lock);
        lock_acquire(&proc_lock);
        p->waiting = false;
    }
    child = *at;
    *at = child->sibling;
    child->sibling = unwanted;
    unwanted = child;
    *status = child->status;
    lock_release(&proc_lock);
    return status->pid;
}

int64_t proc_kill(int64_t pid)
{
    struct proc *p;

    if (pid == 1)
        return -EINVAL;
    lock_acquire(&proc_lock);
    for (p = all; p != NULL && p->pid != pid; p = p->next)
        ;
    if (p != NULL) {
        p->killed = true;
        sched_wake(p->thread);
        sched_kick(p->thread);
    }
    lock_release(&proc_lock);
    return p != NULL ? 0 : -ESRCH;
}

bool proc_killed(void)
{
    return __atomic_load_n(&proc_current()->killed, __ATOMIC_RELAXED);
}

void proc_check_killed(void)
{
    if (proc_killed())
        proc_exit(SYS_CODE_KILLED, NULL);
}
