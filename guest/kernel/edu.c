#include "guest/kernel/edu.h"

#include "guest/abi.h"
#include "guest/kernel/clock.h"
#include "guest/kernel/dma.h"
#include "guest/kernel/errno.h"
#include "guest/kernel/lock.h"
#include "guest/kernel/mmio.h"
#include "guest/kernel/once.h"
#include "guest/kernel/printk.h"
#include "guest/kernel/sched.h"

#define BAR_REGISTERS 0
#define BAR_MEMORY    2

#define EDU_ID_VALUE       0x010000edu
#define STATUS_COMPUTING   0x01u
#define LIMIT_NS           2000000000u
#define LOOK_NS            1000000u /* how often a waiter looks by itself */
#define ANSWER_AGAIN       1u
#define ANSWER_FAIL        2u
#define MEMORY_BYTES_MAX   (64u << 20)
#define BYTES_MAX_OF_QEMUS (TF_EDU_BYTES - 1) /* with all of its buffer it ends itself */

static struct pci_device *device;
static volatile uint8_t *regs;
static volatile void *memory; /* its own */
static struct edu_info info;

/* One user at a time. `seen` collects the bits of IRQ_STATUS that were acknowledged. */
static struct lock lock; /* the four below */
static bool taken;
static uint32_t seen;
static uint64_t handled; /* TSC at the first interrupt of the user's; 0: none came yet */
static struct thread *user;

static uint32_t read_reg(unsigned reg)
{
    return mmio_read32(regs + reg);
}

static void write_reg(unsigned reg, uint32_t value)
{
    mmio_write32(regs + reg, value);
}

/* Under the lock. */
static void collect(void)
{
    uint32_t status = read_reg(TF_EDU_IRQ_STATUS);

    if (status)
        write_reg(TF_EDU_IRQ_ACK, status);
    seen |= status;
}

static void interrupt(void *arg)
{
    uint64_t now = rdtsc();

    (void)arg;
    lock_acquire(&lock);
    info.interrupts++;
    if (!handled)
        handled = now;
    collect();
    if (user)
        sched_wake(user);
    lock_release(&lock);
}

/* --- set-up ------------------------------------------------------------------------------ */

static void find_features(void)
{
    uint64_t f = mmio_read64(regs + TF_EDU_FEATURES);

    info.transfer_max = BYTES_MAX_OF_QEMUS;
    if (f >> 32 != TF_EDU_MAGIC)
        return;
    info.results = true;
    info.features = (uint32_t)f;
    info.transfer_max = TF_EDU_BYTES;
    if (!(info.features & TF_EDU_HAS_MEMORY))
        return;
    info.device_bytes = mmio_read64(regs + TF_EDU_DEVICE_BYTES);
    if (info.device_bytes <= MEMORY_BYTES_MAX && info.device_bytes <= device->bar[BAR_MEMORY].size)
        memory = pci_map(device, BAR_MEMORY);
    if (!memory)
        info.device_bytes = 0;
}

static bool set_up(struct pci_device *d)
{
    void (*handler[])(void *) = { interrupt };
    void *arg[] = { NULL };
    int rc;

    regs = pci_map(d, BAR_REGISTERS);
    if (!regs || read_reg(TF_EDU_ID) != EDU_ID_VALUE) {
        printk("edu: %02x:%02x.%u has no registers, or others\n", d->bdf >> 8, d->bdf >> 3 & 31,
               d->bdf & 7);
        return false;
    }
    device = d;
    find_features();
    pci_bus_master(d, true);
    write_reg(TF_EDU_IRQ_ACK, read_reg(TF_EDU_IRQ_STATUS)); /* whoever raised them has gone */
    rc = pci_interrupts(d, 1, handler, arg);
    if (rc != 0)
        printk("edu: no MSI, error %d: the device is asked instead\n", rc);
    info.vectors = d->vectors;
    d->driver = "edu";
    return true;
}

struct pci_device *edu_device(void)
{
    static struct once once;
    struct pci_device *d;

    if (!once_begin(&once))
        return device;
    dma_init();
    d = pci_find(TF_EDU_VENDOR, TF_EDU_DEVICE, 0);
    if (d && !set_up(d))
        device = NULL;
    once_done(&once);
    return device;
}

void edu_info(struct edu_info *out)
{
    *out = info;
}

volatile void *edu_memory(uint64_t *gpa)
{
    *gpa = memory ? device->bar[BAR_MEMORY].addr : 0;
    return memory;
}

/* --- one user at a time --------------------------------------------------------------------- */

static void take(void)
{
    lock_acquire(&lock);
    while (taken) {
        sched_wait(&lock, LOOK_NS);
        lock_acquire(&lock);
    }
    taken = true;
    seen = 0;
    handled = 0;
    user = this_cpu()->current;
    lock_release(&lock);
}

static void give_back(void)
{
    lock_acquire(&lock);
    user = NULL;
    taken = false;
    lock_release(&lock);
}

/* Until one of `bits` was seen; which of them, or 0 when the time is over. */
static uint32_t await(uint32_t bits)
{
    uint64_t end = clock_ns() + LIMIT_NS;
    uint32_t which;

    lock_acquire(&lock);
    for (;;) {
        if (!info.vectors)
            collect();
        which = seen & bits;
        seen &= ~which;
        if (which || clock_ns() > end)
            break;
        sched_wait(&lock, info.vectors ? LIMIT_NS : LOOK_NS);
        lock_acquire(&lock);
    }
    lock_release(&lock);
    return which;
}

/* --- transfers ---------------------------------------------------------------------------------
 */

static int check(const struct edu_transfer *t)
{
    uint64_t bytes = t->own_memory ? info.device_bytes : info.transfer_max;
    uint32_t needs =
        (t->own_memory ? TF_EDU_HAS_MEMORY : 0) | (t->page_request ? TF_EDU_HAS_REQUESTS : 0);

    if ((info.features & needs) != needs)
        return -ENOENT;
    if (t->len == 0 || t->len > info.transfer_max || t->offset > bytes ||
        t->len > bytes - t->offset)
        return -EINVAL;
    return 0;
}

static void start_transfer(const struct edu_transfer *t)
{
    uint64_t own = TF_EDU_BUFFER + (t->own_memory ? 0 : t->offset);

    if (info.features & TF_EDU_HAS_REQUESTS)
        write_reg(TF_EDU_REQUEST_CONTROL, t->page_request ? TF_EDU_REQUESTS_ON : 0);
    if (t->own_memory)
        mmio_write64(regs + TF_EDU_DEVICE_OFFSET, t->offset);
    mmio_write64(regs + TF_EDU_SOURCE, t->to_memory ? own : t->iova);
    mmio_write64(regs + TF_EDU_DESTINATION, t->to_memory ? t->iova : own);
    mmio_write64(regs + TF_EDU_COUNT, t->len);
    mmio_write64(regs + TF_EDU_COMMAND, TF_EDU_START | TF_EDU_INTERRUPT |
                                            (t->to_memory ? TF_EDU_FROM_DEVICE : 0) |
                                            (t->own_memory ? TF_EDU_OWN_MEMORY : 0));
}

static bool await_end(const struct edu_transfer *t)
{
    uint32_t which, wanted = TF_EDU_DONE | (t->page_request ? TF_EDU_REQUEST : 0);

    while ((which = await(wanted)) != 0) {
        if (which & TF_EDU_REQUEST) {
            uint64_t addr = mmio_read64(regs + TF_EDU_REQUEST_ADDR);
            bool ready = t->page_request(addr & ~1ull, addr & 1);

            write_reg(TF_EDU_REQUEST_ANSWER, ready ? ANSWER_AGAIN : ANSWER_FAIL);
        }
        if (which & TF_EDU_DONE)
            return true;
    }
    return false;
}

int edu_transfer(const struct edu_transfer *t, uint32_t *result)
{
    int rc = check(t);

    if (rc != 0)
        return rc;
    take();
    if (read_reg(TF_EDU_COMMAND) & TF_EDU_START) {
        rc = -EIO; /* the one before never ended, and its memory is somebody else's now */
    } else {
        pci_bus_master(device, true);
        start_transfer(t);
        rc = await_end(t) ? 0 : -EIO;
    }
    if (rc != 0)
        pci_bus_master(device, false);
    else
        *result = info.results ? read_reg(TF_EDU_RESULT) : TF_EDU_OK;
    give_back();
    return rc;
}

/* --- the small things ----------------------------------------------------------------------------
 */

int64_t edu_raise(uint32_t bits, uint64_t *cycles)
{
    uint64_t start;
    uint32_t which;
    int64_t rc;

    take();
    start = rdtsc();
    write_reg(TF_EDU_IRQ_RAISE, bits);
    which = await(bits);
    *cycles = handled ? handled - start : 0;
    rc = which ? (int64_t)which : -EIO;
    give_back();
    return rc;
}

int64_t edu_factorial(uint32_t n)
{
    uint64_t end = clock_ns() + LIMIT_NS;
    int64_t rc = -EIO;

    take();
    write_reg(TF_EDU_FACTORIAL, n);
    while (read_reg(TF_EDU_STATUS) & STATUS_COMPUTING && clock_ns() < end)
        sched_sleep(LOOK_NS);
    if (!(read_reg(TF_EDU_STATUS) & STATUS_COMPUTING))
        rc = read_reg(TF_EDU_FACTORIAL);
    give_back();
    return rc;
}

uint32_t edu_live(uint32_t value)
{
    uint32_t got;

    take();
    write_reg(TF_EDU_LIVE, value);
    got = read_reg(TF_EDU_LIVE);
    give_back();
    return got;
}
