#include "guest/kernel/sched.h"

#include "guest/kernel/apic.h"
#include "guest/kernel/clock.h"
#include "guest/kernel/heap.h"
#include "guest/kernel/init.h"
#include "guest/kernel/mm.h"
#include "guest/kernel/panic.h"
#include "guest/kernel/proc.h"
#include "guest/kernel/string.h"

#define QUANTUM_NS  10000000ul
#define SHORTEST_NS 50000ul /* where ring 0 is interpreted, an interrupt takes 0.3 ms */
#define LONGEST_NS  900000000ul
#define LEAST_NS    1000000ul /* what a thread gets before another may take the CPU */

#define MSR_FS_BASE        0xc0000100
#define MSR_KERNEL_GS_BASE 0xc0000102

struct run_queue {
    struct thread *head, *tail;
    struct thread *sleepers; /* by wake_ns */
    struct thread idle;
    uint64_t timer_ns; /* when this CPU's timer interrupts; 0: it does not */
    uint64_t switches;
};

static struct lock sched_lock; /* all of the following, and every thread's state */
static struct run_queue queues[MAX_CPUS];
static uint64_t idle_cpus;   /* bit n: CPU n waits in its idle loop */
static uint64_t queued_cpus; /* bit n: queue n is not empty */

/* --- queues ---------------------------------------------------------------- */

static void queue_add(struct thread *t, unsigned cpu)
{
    struct run_queue *q = &queues[cpu];

    t->state = THREAD_READY;
    t->cpu = cpu;
    t->next = NULL;
    if (q->head == NULL)
        q->head = t;
    else
        q->tail->next = t;
    q->tail = t;
    queued_cpus |= 1ul << cpu;
}

static void queue_remove(struct run_queue *q, struct thread *t, struct thread *before)
{
    if (before == NULL)
        q->head = t->next;
    else
        before->next = t->next;
    if (q->tail == t)
        q->tail = before;
    if (q->head == NULL)
        queued_cpus &= ~(1ul << (q - queues));
}

/* A thread that waits on another CPU and may run on this one. */
static struct thread *steal(unsigned cpu)
{
    for (uint64_t left = queued_cpus & ~(1ul << cpu); left != 0; left &= left - 1) {
        struct run_queue *q = &queues[__builtin_ctzl(left)];
        struct thread *before = NULL;

        for (struct thread *t = q->head; t != NULL; before = t, t = t->next) {
            if (t->pinned != SCHED_ANY_CPU)
                continue;
            queue_remove(q, t, before);
            return t;
        }
    }
    return NULL;
}

static struct thread *pick(unsigned cpu)
{
    struct run_queue *q = &queues[cpu];
    struct thread *t = q->head;

    if (t != NULL)
        queue_remove(q, t, NULL);
    else if (queued_cpus != 0)
        t = steal(cpu);
    return t != NULL ? t : &q->idle;
}

/* --- timer ------------------------------------------------------------------- */

/*
 * Has this CPU interrupted when the running thread's time is up, if somebody waits for it, or
 * when the first sleeper wakes. An earlier interrupt that is set already stays: it
 * comes, and sets the next.
 */
static void set_timer(struct run_queue *q)
{
    uint64_t now, at = UINT64_MAX;

    if (q->head == NULL && q->sleepers == NULL)
        return;
    now = clock_ns();
    if (q->head != NULL)
        at = now + QUANTUM_NS;
    if (q->sleepers != NULL && q->sleepers->wake_ns < at)
        at = q->sleepers->wake_ns;
    if (at < now + SHORTEST_NS)
        at = now + SHORTEST_NS;
    if (at > now + LONGEST_NS)
        at = now + LONGEST_NS;
    if (q->timer_ns != 0 && q->timer_ns <= at)
        return;
    q->timer_ns = at;
    apic_timer_once(at - now);
}

/* --- switching ----------------------------------------------------------------- */

/*
 * With FSGSBASE a program sets both bases itself; GS's is in the MSR that SWAPGS exchanges while
 * the kernel runs. Hardly any does, and where MSRs trap each access is dear, so what is
 * right already is not written. Reading can't be spared: CR4.FSGSBASE would tell by #UD who
 * wants them, but some KVMs that interpret ring 0 let programs set them while it is off.
 */
static void read_bases(struct thread *t)
{
    struct cpu *c = this_cpu();

    t->fs_base = c->fs_base = rdmsr(MSR_FS_BASE);
    t->gs_base = c->gs_base = rdmsr(MSR_KERNEL_GS_BASE);
}

static void load_bases(uint64_t fs_base, uint64_t gs_base)
{
    struct cpu *c = this_cpu();

    if (c->fs_base != fs_base)
        wrmsr(MSR_FS_BASE, fs_base);
    if (c->gs_base != gs_base)
        wrmsr(MSR_KERNEL_GS_BASE, gs_base);
    c->fs_base = fs_base;
    c->gs_base = gs_base;
}

static void switch_bases(struct thread *prev, const struct thread *next)
{
    if (!cpu_features.fsgsbase)
        return;
    if (prev->proc != NULL)
        read_bases(prev);
    if (next->proc != NULL)
        load_bases(next->fs_base, next->gs_base);
}

static void set_context(struct cpu *c, struct thread *prev, struct thread *next)
{
    uint64_t now = clock_ns();

    prev->cpu_ns += now - prev->run_since;
    next->run_since = now;
    next->cpu = c->id;
    next->state = THREAD_RUNNING;
    if (prev->proc == NULL)
        prev->state = THREAD_READY;
    else if (prev->state != THREAD_DEAD)
        fpu_save(&prev->fpu);
    switch_bases(prev, next);
    if (next->proc == NULL) {
        aspace_switch(NULL);
        return;
    }
    fpu_restore(&next->fpu);
    aspace_switch(proc_aspace(next->proc));
    cpu_set_kernel_stack(next->stack_top);
}

/*
 * Gives the CPU to the next thread. sched_lock is held by the caller, handed over the
 * switch, and free when this returns: until then no other CPU can pick `prev`,
 * whose stack is still in use.
 */
static void switch_away(void)
{
    struct cpu *c = this_cpu();
    struct run_queue *q = &queues[c->id];
    struct thread *prev = c->current, *next = pick(c->id);

    idle_cpus = next == &q->idle ? idle_cpus | 1ul << c->id : idle_cpus & ~(1ul << c->id);
    set_timer(q);
    if (next != prev) {
        q->switches++;
        set_context(c, prev, next);
        c->current = next;
        context_switch(&prev->rsp, next->rsp);
    } else {
        next->state = THREAD_RUNNING;
    }
    lock_release(&sched_lock);
}

static void thread_entry(void *arg)
{
    struct thread *t = arg;

    lock_release(&sched_lock);
    proc_check_killed();
    trap_return(thread_frame(t));
}

/* Where a thread that became ready shall wait: an idle CPU if there is one. */
static unsigned place(const struct thread *t)
{
    if (t->pinned != SCHED_ANY_CPU)
        return (unsigned)t->pinned;
    if (idle_cpus == 0 || idle_cpus & 1ul << t->cpu)
        return t->cpu;
    return (unsigned)__builtin_ctzl(idle_cpus);
}

static void make_ready(struct thread *t)
{
    unsigned here = this_cpu()->id, cpu = place(t);

    queue_add(t, cpu);
    idle_cpus &= ~(1ul << cpu);
    if (cpu == here)
        set_timer(&queues[here]);
    else
        apic_ipi(cpu, VECTOR_RESCHEDULE);
}

static void leave_sleepers(struct thread *t)
{
    struct thread **at = &queues[t->cpu].sleepers;

    while (*at != t)
        at = &(*at)->next;
    *at = t->next;
    t->sleeping = false;
}

static void wake_sleepers(struct run_queue *q)
{
    while (q->sleepers != NULL && q->sleepers->wake_ns <= clock_ns()) {
        struct thread *t = q->sleepers;

        q->sleepers = t->next;
        t->sleeping = false;
        make_ready(t);
    }
}

void sched_wake(struct thread *t)
{
    lock_acquire(&sched_lock);
    if (t->state == THREAD_BLOCKED) {
        if (t->sleeping)
            leave_sleepers(t);
        make_ready(t);
    }
    lock_release(&sched_lock);
}

/*
 * Who kills a process sets its flag, then wakes it. A thread that is about to block looks
 * at the flag under the lock that the wake-up takes: one of the two is seen.
 */
void sched_block(struct lock *held)
{
    lock_acquire(&sched_lock);
    lock_release(held);
    if (proc_killed()) {
        lock_release(&sched_lock);
        return;
    }
    this_cpu()->current->state = THREAD_BLOCKED;
    switch_away();
}

/* Under sched_lock: the running thread counts as blocked, and as woken in `ns`. */
static void fall_asleep(uint64_t ns)
{
    struct cpu *c = this_cpu();
    struct thread *t = c->current, **at;

    if (__builtin_add_overflow(clock_ns(), ns, &t->wake_ns))
        t->wake_ns = UINT64_MAX;
    for (at = &queues[c->id].sleepers; *at != NULL; at = &(*at)->next)
        if ((*at)->wake_ns > t->wake_ns)
            break;
    t->next = *at;
    *at = t;
    t->sleeping = true;
    t->state = THREAD_BLOCKED;
}

void sched_sleep(uint64_t ns)
{
    lock_acquire(&sched_lock);
    if (proc_killed()) {
        lock_release(&sched_lock);
        return;
    }
    fall_asleep(ns);
    switch_away();
}

void sched_wait(struct lock *held, uint64_t ns)
{
    lock_acquire(&sched_lock);
    lock_release(held);
    fall_asleep(ns);
    switch_away();
}

void sched_yield(void)
{
    struct cpu *c = this_cpu();

    lock_acquire(&sched_lock);
    if (queues[c->id].head == NULL) {
        lock_release(&sched_lock);
        return;
    }
    queue_add(c->current, c->id);
    switch_away();
}

void sched_exit(struct lock *held)
{
    lock_acquire(&sched_lock);
    this_cpu()->current->state = THREAD_DEAD;
    lock_release(held);
    switch_away();
    panic("a dead thread runs");
}

void sched_barrier(void)
{
    lock_acquire(&sched_lock);
    lock_release(&sched_lock);
}

void sched_pin(int cpu)
{
    struct cpu *c = this_cpu();
    struct thread *t = c->current;

    lock_acquire(&sched_lock);
    t->pinned = cpu;
    if (cpu == SCHED_ANY_CPU || (unsigned)cpu == c->id) {
        lock_release(&sched_lock);
        return;
    }
    make_ready(t);
    switch_away();
}

void sched_kick(struct thread *t)
{
    lock_acquire(&sched_lock);
    if (t->state == THREAD_RUNNING && t->cpu != this_cpu()->id)
        apic_ipi(t->cpu, VECTOR_RESCHEDULE);
    lock_release(&sched_lock);
}

uint64_t thread_cpu_ns(const struct thread *t)
{
    return t->cpu_ns + (t->state == THREAD_RUNNING ? clock_ns() - t->run_since : 0);
}

void sched_stats(unsigned cpu, struct sched_stats *out)
{
    lock_acquire(&sched_lock);
    out->switches = queues[cpu].switches;
    out->idle_ns = thread_cpu_ns(&queues[cpu].idle);
    lock_release(&sched_lock);
}

/* --- threads ------------------------------------------------------------------- */

struct thread *thread_create(struct proc *proc)
{
    struct thread *t = kzalloc(sizeof *t);

    if (t == NULL)
        return NULL;
    t->stack_top = kstack_alloc();
    if (t->stack_top == 0) {
        kfree(t);
        return NULL;
    }
    t->proc = proc;
    t->state = THREAD_BLOCKED;
    t->pinned = SCHED_ANY_CPU;
    t->cpu = this_cpu()->id;
    fpu_init_state(&t->fpu);
    memset(thread_frame(t), 0, sizeof(struct trap_frame));
    t->rsp = context_prepare((uint64_t)thread_frame(t), thread_entry, t);
    return t;
}

void thread_copy_state(struct thread *t)
{
    fpu_save(&t->fpu);
    if (cpu_features.fsgsbase)
        read_bases(t);
    t->pinned = this_cpu()->current->pinned;
}

void thread_clear_state(void)
{
    static struct fpu_state initial; /* whoever writes it writes the same */

    fpu_init_state(&initial);
    fpu_restore(&initial);
    if (cpu_features.fsgsbase) {
        read_bases(this_cpu()->current);
        load_bases(0, 0);
    }
}

void thread_free(struct thread *t)
{
    kstack_free(t->stack_top);
    kfree(t);
}

/* --- idle and interrupts ----------------------------------------------------------- */

void sched_init_cpu(void)
{
    struct cpu *c = this_cpu();
    struct thread *idle = &queues[c->id].idle;

    idle->state = THREAD_RUNNING;
    idle->pinned = (int)c->id;
    idle->cpu = c->id;
    idle->run_since = clock_ns();
    c->current = idle;
}

void sched_idle(void)
{
    struct cpu *c = this_cpu();
    struct run_queue *q = &queues[c->id];

    for (;;) {
        lock_acquire(&sched_lock);
        wake_sleepers(q);
        switch_away(); /* back when there is nobody to run */
        cpu_idle();    /* whoever adds to this CPU's queue sends an interrupt */
    }
}

void sched_ap_start(void)
{
    sched_init_cpu();
    sched_idle();
}

static void preempt(void)
{
    struct cpu *c = this_cpu();
    struct run_queue *q = &queues[c->id];
    uint64_t ran;

    lock_acquire(&sched_lock);
    wake_sleepers(q);
    ran = clock_ns() - c->current->run_since;
    if (q->head != NULL && ran < LEAST_NS) {
        /*
         * Where ring 0 is slow, a sleeper's interrupt may wait already when the switch to this
         * thread is done: it would lose the CPU each time before its first instruction.
         */
        q->timer_ns = c->current->run_since + LEAST_NS + SHORTEST_NS;
        apic_timer_once(LEAST_NS + SHORTEST_NS - ran);
        lock_release(&sched_lock);
        return;
    }
    set_timer(q);
    if (q->head == NULL) {
        lock_release(&sched_lock);
        return;
    }
    queue_add(c->current, c->id);
    switch_away();
}

/* In ring 0 only the idle loop is interrupted; it looks for itself what there is to do. */
void sched_tick(struct trap_frame *f)
{
    struct run_queue *q = &queues[this_cpu()->id];

    q->timer_ns = 0;
    if (trap_from_user(f)) {
        preempt();
        proc_check_killed();
        return;
    }
    lock_acquire(&sched_lock);
    wake_sleepers(q);
    set_timer(q);
    lock_release(&sched_lock);
}

void sched_ipi(struct trap_frame *f)
{
    this_cpu()->need_resched = false;
    if (trap_from_user(f)) {
        preempt();
        proc_check_killed();
    }
}
