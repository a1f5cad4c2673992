#include "guest/kernel/mailbox.h"

#include "guest/abi.h"
#include "guest/kernel/apic.h"
#include "guest/kernel/cpu.h"
#include "guest/kernel/errno.h"
#include "guest/kernel/mm.h"
#include "guest/kernel/move.h"
#include "guest/kernel/printk.h"

/* 2^6 pages hold more processes than there ever are (proc.c). */
#define TABLE_ORDER 6
#define TABLE_MAX   ((PAGE_SIZE << TABLE_ORDER) / sizeof(struct tf_process))

/* In the kernel's image: below 4 GiB, and never moved. */
static struct tf_mailbox box __attribute__((aligned(64)));

static struct lock table_lock;
static struct tf_process *table;
static uint32_t in_use;  /* places that are taken */
static uint32_t free_at; /* no place below it is free */

void mailbox_init(void)
{
    uint64_t gpa;

    if (!cpu_features.tf_mailbox)
        return;
    gpa = pmm_alloc(TABLE_ORDER, PMM_ZERO);
    if (gpa) {
        table = phys_to_virt(gpa);
        box.processes_gpa = gpa;
    }
    box.magic = TF_MAILBOX_MAGIC;
    ioapic_route(TF_MAILBOX_IRQ);
    outl(TF_PORT_MAILBOX, (uint32_t)virt_to_phys(&box));
}

/* --- processes --------------------------------------------------------------------- */

/* The monitor reads whenever it likes: an entry counts while it has its pid. */
static void fill(struct tf_process *p, int pid, uint64_t root, const char *name)
{
    __atomic_store_n(&p->pid, 0, __ATOMIC_RELEASE);
    __atomic_thread_fence(__ATOMIC_RELEASE);
    p->root = root;
    kformat(p->name, sizeof p->name, "%s", name);
    __atomic_store_n(&p->pid, pid, __ATOMIC_RELEASE);
}

int mailbox_add(int pid, uint64_t root, const char *name)
{
    uint32_t i;

    if (!table)
        return -1;
    lock_acquire(&table_lock);
    for (i = free_at; i < TABLE_MAX && table[i].pid; i++)
        ;
    free_at = i;
    if (i < TABLE_MAX) {
        fill(&table[i], pid, root, name);
        in_use++;
        free_at = i + 1;
        /* The monitor looks at no more than were ever used. */
        if (box.process_max < i + 1)
            __atomic_store_n(&box.process_max, i + 1, __ATOMIC_RELEASE);
    }
    lock_release(&table_lock);
    return i < TABLE_MAX ? (int)i : -1;
}

void mailbox_change(int place, uint64_t root, const char *name)
{

    if (place < 0)
        return;
    lock_acquire(&table_lock);
    fill(&table[place], table[place].pid, root, name);
    lock_release(&table_lock);
}

void mailbox_remove(int place)
{

    if (place < 0)
        return;
    lock_acquire(&table_lock);
    __atomic_store_n(&table[place].pid, 0, __ATOMIC_RELEASE);
    in_use--;
    if ((uint32_t)place < free_at)
        free_at = (uint32_t)place;
    if (in_use == 0)
        free_at = 0;
    lock_release(&table_lock);
}

/* --- requests ------------------------------------------------------------------------ */

static int32_t serve(uint32_t op, const uint64_t arg[2], uint64_t value[2])
{
    if (op == TF_REQUEST_MOVE_PAGE)
        return (int32_t)move_page(arg[0], &value[0], &value[1]);
    return -ENOSYS;
}

/*
 * Interrupts come in ring 3 or in the idle loop only (sched.h), so this CPU holds no lock here, and
 * may take any.
 */
void mailbox_irq(void)
{
    uint32_t asked = __atomic_load_n(&box.asked, __ATOMIC_ACQUIRE);
    uint64_t arg[2] = { box.arg[0], box.arg[1] };
    uint64_t value[2] = { 0, 0 };

    if (asked == box.done)
        return;
    box.result = serve(box.op, arg, value);
    box.value[0] = value[0];
    box.value[1] = value[1];
    __atomic_store_n(&box.done, asked, __ATOMIC_RELEASE);
    outl(TF_PORT_MAILBOX, (uint32_t)virt_to_phys(&box));
}
