/*
 * The registers of the DMA test device. What they mean is QEMU's docs/specs/edu, "MMIO area spec",
 * and guest/abi.h.
 */
#include "vmm/edu.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "vmm/edu_impl.h"

#define ID             0x010000edu
#define REGISTERS      (UINT64_C(1) << 20) /* BAR 0 */
#define WIDE_REGISTERS 0x80u               /* from here on 8 bytes at once are fine, too */
#define CLASS          0x00ff00u           /* no class: "PCI Code and ID Assignment", 1.1 */
#define REVISION       0x10u
#define SUBVENDOR      0x1af4u
#define SUBSYSTEM      0x1100u

void edu_kick(struct edu *e)
{
    uint64_t one = 1;

    /* Fails only when the counter is full, and then the thread is told already. */
    (void)!write(e->kick, &one, sizeof(one));
}

/* --- interrupts: needs e->lock, which keeps line and status together ---------------------------
 */

void edu_raise(struct edu *e, uint32_t bits)
{
    e->irq_status |= bits;
    if (e->irq_status)
        (void)pci_notify(&e->function, 0);
}

static void acknowledge(struct edu *e, uint32_t bits)
{
    e->irq_status &= ~bits;
    if (!e->irq_status)
        pci_intx_set(&e->function, false);
}

/* --- registers: need e->lock -------------------------------------------------------------------
 */

static uint64_t get(const struct edu *e, uint64_t offset)
{
    switch (offset) {
    case TF_EDU_ID:
        return ID;
    case TF_EDU_LIVE:
        return e->live;
    case TF_EDU_FACTORIAL:
        return e->factorial;
    case TF_EDU_STATUS:
        return e->status;
    case TF_EDU_IRQ_STATUS:
        return e->irq_status;
    case TF_EDU_SOURCE:
        return e->source;
    case TF_EDU_DESTINATION:
        return e->destination;
    case TF_EDU_COUNT:
        return e->count;
    case TF_EDU_COMMAND:
        return e->command;
    case TF_EDU_FEATURES:
        return (uint64_t)TF_EDU_MAGIC << 32 | TF_EDU_HAS_MEMORY | TF_EDU_HAS_REQUESTS;
    case TF_EDU_RESULT:
        return e->result;
    case TF_EDU_DEVICE_BYTES:
        return EDU_MEMORY;
    case TF_EDU_REQUEST_CONTROL:
        return e->request_control;
    case TF_EDU_REQUEST_ADDR:
        return e->request_addr;
    case TF_EDU_REQUESTS:
        return e->stat.page_requests;
    case TF_EDU_DEVICE_OFFSET:
        return e->device_offset;
    default:
        return UINT64_MAX;
    }
}

static void compute(struct edu *e, uint32_t value)
{
    if (e->status & EDU_COMPUTING)
        return;
    e->factorial = value;
    e->status |= EDU_COMPUTING;
    edu_kick(e);
}

/* The registers of a transfer, which it keeps until it is over. */
static void set_transfer(struct edu *e, uint64_t *reg, uint64_t value)
{
    if (!(e->command & TF_EDU_START))
        *reg = value;
}

static void start(struct edu *e, uint64_t command)
{
    if (!(command & TF_EDU_START) || e->command & TF_EDU_START)
        return;
    e->command = command;
    e->phase = EDU_STARTED;
    e->begun = e->refused = false;
    edu_kick(e);
}

static void answer(struct edu *e, uint64_t value)
{
    if (e->phase != EDU_WAITING || (value != 1 && value != 2))
        return;
    e->refused = value == 2;
    e->phase = EDU_STARTED;
    edu_kick(e);
}

/* Turned off while one waits, nobody is going to answer it: it is refused, so that the transfer
 * ends. */
static void request_control(struct edu *e, uint64_t value)
{
    e->request_control = value & TF_EDU_REQUESTS_ON;
    if (!e->request_control)
        answer(e, 2);
}

static void set(struct edu *e, uint64_t offset, uint64_t value)
{
    switch (offset) {
    case TF_EDU_LIVE:
        e->live = ~(uint32_t)value;
        break;
    case TF_EDU_FACTORIAL:
        compute(e, (uint32_t)value);
        break;
    case TF_EDU_STATUS:
        e->status = (e->status & EDU_COMPUTING) | (value & EDU_FACTORIAL_IRQ);
        break;
    case TF_EDU_IRQ_RAISE:
        edu_raise(e, (uint32_t)value);
        break;
    case TF_EDU_IRQ_ACK:
        acknowledge(e, (uint32_t)value);
        break;
    case TF_EDU_SOURCE:
        set_transfer(e, &e->source, value);
        break;
    case TF_EDU_DESTINATION:
        set_transfer(e, &e->destination, value);
        break;
    case TF_EDU_COUNT:
        set_transfer(e, &e->count, value);
        break;
    case TF_EDU_DEVICE_OFFSET:
        set_transfer(e, &e->device_offset, value);
        break;
    case TF_EDU_COMMAND:
        start(e, value);
        break;
    case TF_EDU_REQUEST_CONTROL:
        request_control(e, value);
        break;
    case TF_EDU_REQUEST_ANSWER:
        answer(e, value);
        break;
    default:
        break;
    }
}

/* --- BARs --------------------------------------------------------------------------------------
 */

/* "Only size == 4 accesses are allowed for addresses < 0x80. size == 4 or size == 8 for the rest."
 */
static bool size_fits(uint64_t offset, unsigned size)
{
    return size == 4 || (size == 8 && offset >= WIDE_REGISTERS);
}

static bool in_memory(uint64_t offset, unsigned size)
{
    return size <= sizeof(uint64_t) && offset <= EDU_MEMORY - size;
}

static uint64_t bar_read(void *dev, unsigned bar, uint64_t offset, unsigned size)
{
    struct edu *e = dev;
    uint64_t value = UINT64_MAX;

    if (bar == 2 && in_memory(offset, size)) {
        value = 0;
        memcpy(&value, e->memory + offset, size);
    } else if (bar == 0 && size_fits(offset, size)) {
        (void)pthread_mutex_lock(&e->lock);
        value = get(e, offset);
        (void)pthread_mutex_unlock(&e->lock);
    }
    return size >= sizeof(value) ? value : value & ((UINT64_C(1) << 8 * size) - 1);
}

static void bar_write(void *dev, unsigned bar, uint64_t offset, unsigned size, uint64_t value)
{
    struct edu *e = dev;

    if (bar == 2 && in_memory(offset, size)) {
        memcpy(e->memory + offset, &value, size);
    } else if (bar == 0 && size_fits(offset, size)) {
        if (size == 4)
            value = (uint32_t)value;
        (void)pthread_mutex_lock(&e->lock);
        set(e, offset, value);
        (void)pthread_mutex_unlock(&e->lock);
    }
}

/* The device's own transfers may lead there, too. */
static void bar_placed(void *dev, unsigned bar)
{
    struct edu *e = dev;
    const struct pci_bar *b = &e->function.bar[2];

    if (bar == 2)
        __atomic_store_n(&e->dma.own_base, b->decoded ? b->address : 0, __ATOMIC_RELEASE);
}

static const struct pci_ops edu_ops = {
    .bar_read = bar_read,
    .bar_write = bar_write,
    .bar_placed = bar_placed,
};

/* --- life --------------------------------------------------------------------------------------
 */

static int place(struct edu *e, struct pci *pci, int devfn, struct error *err)
{
    struct pci_function *f = &e->function;
    int rc;

    f->ops = &edu_ops;
    f->dev = e;
    f->name = "edu";
    pci_header(f, TF_EDU_VENDOR, TF_EDU_DEVICE, CLASS, REVISION, SUBVENDOR, SUBSYSTEM);
    pci_add_bar(f, 0, REGISTERS, false, false, false);
    pci_add_bar(f, 2, EDU_MEMORY, false, true, true);
    pci_use_intx(f);
    rc = pci_add_msi(f);
    if (rc < 0)
        return error_set(err, rc, "edu: no room for its MSI capability");
    return pci_add(pci, f, devfn, err);
}

int edu_create(struct edu **out, struct pci *pci, int devfn, struct io_loop *loop,
               struct memory *mem, struct error *err)
{
    struct edu *e = calloc(1, sizeof(*e));
    int rc;

    *out = NULL;
    if (!e)
        return error_set(err, -ENOMEM, "edu: out of memory");
    (void)pthread_mutex_init(&e->lock, NULL);
    e->loop = loop;
    e->dma = (struct dma){ .mem = mem, .function = &e->function, .dev = e };
    e->memory = mmap(NULL, EDU_MEMORY, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    e->kick = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (e->memory == MAP_FAILED || e->kick < 0)
        rc = error_set(err, -errno, "edu: no memory or no eventfd: %s", strerror(errno));
    else
        rc = io_loop_add(loop, e->kick, EPOLLIN, edu_work, e);
    e->dma.own = e->memory;
    e->dma.own_size = EDU_MEMORY;
    if (rc == 0)
        rc = place(e, pci, devfn, err);
    if (rc < 0) {
        edu_destroy(e);
        return rc;
    }
    *out = e;
    return 0;
}

void edu_destroy(struct edu *e)
{
    if (!e)
        return;
    pci_remove(&e->function);
    if (e->kick >= 0) {
        io_loop_remove(e->loop, e->kick);
        (void)close(e->kick);
    }
    if (e->memory != MAP_FAILED)
        (void)munmap(e->memory, EDU_MEMORY);
    (void)pthread_mutex_destroy(&e->lock);
    free(e);
}

void edu_hold(struct edu *e, bool held)
{
    /* The eventfd keeps what comes meanwhile. */
    e->held = held;
    (void)io_loop_change(e->loop, e->kick, held ? 0 : EPOLLIN);
    if (!held)
        edu_kick(e);
}

const struct pci_function *edu_function(const struct edu *e)
{
    return &e->function;
}

struct dma *edu_dma(struct edu *e)
{
    return &e->dma;
}

void *edu_memory(const struct edu *e, uint64_t *size)
{
    *size = EDU_MEMORY;
    return e->memory;
}

void edu_stat(struct edu *e, struct edu_stat *out)
{
    (void)pthread_mutex_lock(&e->lock);
    *out = e->stat;
    out->waiting = e->phase == EDU_WAITING;
    (void)pthread_mutex_unlock(&e->lock);
    out->dma = e->dma.stat;
}
