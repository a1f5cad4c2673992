/*
 * 16550A UART, as in "PC16550D Universal Asynchronous Receiver/Transmitter with
 * FIFOs" (National Semiconductor), section 8.0 Registers.
 *
 * The transmitter is infinitely fast: a byte is on the console before the OUT ends,
 * so that nothing is held back when the guest halts, and THRE is always set. The
 * exit costs more than the write it leads to; guests that print much use
 * TF_PORT_CONSOLE.
 *
 * The receiver has two stages: the wire, a queue of what the host sent and the guest
 * can't see yet, and the FIFO. Bytes move over when the guest looks, so that a reset
 * of the FIFOs by a driver that starts loses nothing that was typed ahead.
 */
#include "vmm/devices.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define COM1_BASE  0x3f8
#define COM1_PORTS 8
#define FIFO_DEPTH 16

/* So many reads of LSR in a row, and nobody is just looking whether THRE is set. */
#define POLLING 16

/* What the host may send ahead of the guest; more is dropped, as on a real line. */
#define WIRE_MAX (16u << 20)

/* From here on the host is asked to wait until the guest has read half of it. */
#define WIRE_ENOUGH (64u << 10)

enum {
    REG_DATA = 0, /* RBR, THR; DLL with DLAB */
    REG_IER = 1,  /* DLM with DLAB */
    REG_IIR = 2,  /* FCR when written */
    REG_LCR = 3,
    REG_MCR = 4,
    REG_LSR = 5,
    REG_MSR = 6,
    REG_SCR = 7,
};

#define IER_RX   0x01
#define IER_THRE 0x02
#define IER_LINE 0x04
#define IER_MSR  0x08
#define IER_MASK 0x0f

#define IIR_NONE    0x01
#define IIR_MSR     0x00
#define IIR_THRE    0x02
#define IIR_RX      0x04
#define IIR_LINE    0x06
#define IIR_TIMEOUT 0x0c
#define IIR_FIFO    0xc0

#define FCR_ENABLE   0x01
#define FCR_CLEAR_RX 0x02

#define LCR_DLAB 0x80

#define MCR_DTR  0x01
#define MCR_RTS  0x02
#define MCR_OUT1 0x04
#define MCR_OUT2 0x08
#define MCR_LOOP 0x10
#define MCR_MASK 0x1f

#define LSR_DATA    0x01
#define LSR_OVERRUN 0x02
#define LSR_THRE    0x20
#define LSR_TEMT    0x40

#define MSR_DELTA_CTS 0x01
#define MSR_DELTA_DSR 0x02
#define MSR_TRAIL_RI  0x04
#define MSR_DELTA_DCD 0x08
#define MSR_CTS       0x10
#define MSR_DSR       0x20
#define MSR_RI        0x40
#define MSR_DCD       0x80

struct serial {
    pthread_mutex_t lock;
    struct irq_line irq;
    struct console *con;
    uint8_t ier, fcr, lcr, mcr, lsr, msr, scr, dll, dlm;
    bool mcr_written;   /* since the start: the guest handles modem lines itself */
    unsigned lsr_reads; /* in a row; stays at POLLING until MCR is written */
    bool thre_pending;
    int level; /* of the interrupt line */
    uint8_t fifo[FIFO_DEPTH];
    unsigned fifo_head, fifo_count;
    uint8_t *wire; /* a ring; its size is a power of two */
    size_t wire_head, wire_count, wire_size;
    bool wire_held; /* the host waits for console_take_more() */
};

/* --- receiver ----------------------------------------------------------------- */

static unsigned fifo_depth(const struct serial *s)
{
    return s->fcr & FCR_ENABLE ? FIFO_DEPTH : 1;
}

static unsigned fifo_trigger(const struct serial *s)
{
    static const uint8_t level[4] = { 1, 4, 8, 14 };

    return s->fcr & FCR_ENABLE ? level[s->fcr >> 6] : 1;
}

static void fifo_push(struct serial *s, uint8_t byte)
{
    s->fifo[(s->fifo_head + s->fifo_count++) % FIFO_DEPTH] = byte;
}

static uint8_t fifo_pop(struct serial *s)
{
    uint8_t byte = s->fifo[s->fifo_head];

    if (!s->fifo_count)
        return 0;
    s->fifo_head = (s->fifo_head + 1) % FIFO_DEPTH;
    s->fifo_count--;
    return byte;
}

/*
 * A driver reads the data register unasked while it starts, and would swallow what
 * was typed ahead. So the line works like a terminal with hardware flow control,
 * leniently: bytes come once the guest raises RTS, or enables the receive interrupt,
 * or polls (a row of LSR reads can only wait for input, since THRE is always set), or
 * if it never touched the modem lines at all.
 */
static bool listens(const struct serial *s)
{
    if (s->mcr & MCR_LOOP)
        return false;
    return !s->mcr_written || s->mcr & MCR_RTS || s->ier & IER_RX || s->lsr_reads >= POLLING;
}

/* Bytes that the guest finds when it looks: what receive() will move included. */
static unsigned available(const struct serial *s)
{
    unsigned room = fifo_depth(s) > s->fifo_count ? fifo_depth(s) - s->fifo_count : 0;

    if (!listens(s))
        room = 0;
    return s->fifo_count + (s->wire_count < room ? (unsigned)s->wire_count : room);
}

/* Called when the guest looks, not before: see the top of the file. */
static void receive(struct serial *s)
{
    if (!listens(s))
        return;
    while (s->wire_count && s->fifo_count < fifo_depth(s)) {
        fifo_push(s, s->wire[s->wire_head]);
        s->wire_head = (s->wire_head + 1) & (s->wire_size - 1);
        s->wire_count--;
    }
    if (s->wire_held && s->wire_count < WIRE_ENOUGH / 2) {
        s->wire_held = false;
        console_take_more(s->con);
    }
}

/* Makes room for `len` bytes more; false when there can't be. */
static bool wire_grow(struct serial *s, size_t len)
{
    size_t size = s->wire_size ? s->wire_size : 256;
    uint8_t *wire;

    if (len > WIRE_MAX - s->wire_count)
        return false;
    while (size < s->wire_count + len)
        size *= 2;
    if (size == s->wire_size)
        return true;
    wire = malloc(size);
    if (!wire)
        return false;
    for (size_t i = 0; i < s->wire_count; i++)
        wire[i] = s->wire[(s->wire_head + i) & (s->wire_size - 1)];
    free(s->wire);
    s->wire = wire;
    s->wire_size = size;
    s->wire_head = 0;
    return true;
}

/* --- interrupt ------------------------------------------------------------------ */

/* The source of highest priority, as IIR names it. */
static uint8_t interrupt_id(const struct serial *s)
{
    if (s->ier & IER_LINE && s->lsr & LSR_OVERRUN)
        return IIR_LINE;
    if (s->ier & IER_RX && available(s) >= fifo_trigger(s))
        return IIR_RX;
    /* Below the trigger level a UART waits four characters' time; nothing is gained by it. */
    if (s->ier & IER_RX && available(s))
        return IIR_TIMEOUT;
    if (s->ier & IER_THRE && s->thre_pending)
        return IIR_THRE;
    if (s->ier & IER_MSR && s->msr & 0x0f)
        return IIR_MSR;
    return IIR_NONE;
}

/*
 * OUT2 gates the line on a PC's board. Kernels that were only ever run in emulators forget it,
 * and no driver depends on the gate, so it is left open.
 */
static void update_irq(struct serial *s)
{
    int level = interrupt_id(s) != IIR_NONE;

    if (level != s->level) {
        s->level = level;
        s->irq.set(s->irq.ctx, s->irq.gsi, level);
    }
}

/* --- registers -------------------------------------------------------------------- */

/* Modem status: the lines of a terminal that is there, or MCR's own outputs in loopback. */
static void update_msr(struct serial *s)
{
    uint8_t lines = MSR_DCD | MSR_DSR | MSR_CTS;
    uint8_t changed;

    if (s->mcr & MCR_LOOP)
        lines = (s->mcr & MCR_DTR ? MSR_DSR : 0) | (s->mcr & MCR_RTS ? MSR_CTS : 0) |
                (s->mcr & MCR_OUT1 ? MSR_RI : 0) | (s->mcr & MCR_OUT2 ? MSR_DCD : 0);
    changed = (s->msr ^ lines) & 0xf0;
    s->msr = lines | (s->msr & 0x0f);
    if (changed & MSR_CTS)
        s->msr |= MSR_DELTA_CTS;
    if (changed & MSR_DSR)
        s->msr |= MSR_DELTA_DSR;
    if (changed & MSR_RI && !(lines & MSR_RI))
        s->msr |= MSR_TRAIL_RI;
    if (changed & MSR_DCD)
        s->msr |= MSR_DELTA_DCD;
}

static uint8_t read_iir(struct serial *s)
{
    uint8_t id;

    receive(s);
    id = interrupt_id(s);
    if (id == IIR_THRE)
        s->thre_pending = false;
    return id | (s->fcr & FCR_ENABLE ? IIR_FIFO : 0);
}

/* Told of each access: is it one more read of LSR in a row? */
static void count_polling(struct serial *s, bool lsr_read)
{
    if (s->lsr_reads < POLLING)
        s->lsr_reads = lsr_read ? s->lsr_reads + 1 : 0;
}

static uint8_t read_lsr(struct serial *s)
{
    uint8_t value;

    receive(s);
    value = s->lsr | LSR_THRE | LSR_TEMT | (s->fifo_count ? LSR_DATA : 0);
    s->lsr = 0;
    return value;
}

static uint8_t read_register(struct serial *s, unsigned reg)
{
    uint8_t value;

    switch (reg) {
    case REG_DATA:
        if (s->lcr & LCR_DLAB)
            return s->dll;
        receive(s);
        return fifo_pop(s);
    case REG_IER:
        return s->lcr & LCR_DLAB ? s->dlm : s->ier;
    case REG_IIR:
        return read_iir(s);
    case REG_LCR:
        return s->lcr;
    case REG_MCR:
        return s->mcr;
    case REG_LSR:
        return read_lsr(s);
    case REG_MSR:
        value = s->msr;
        s->msr &= 0xf0;
        return value;
    default:
        return s->scr;
    }
}

/*
 * The data sheet also empties the FIFOs when their enable bit changes. Not here: Linux
 * enables the FIFOs after the receive interrupt, and would lose a byte typed ahead.
 */
static void write_fcr(struct serial *s, uint8_t value)
{
    if (value & FCR_CLEAR_RX)
        s->fifo_count = 0;
    /* The other bits count only when the FIFOs are enabled by the same write. */
    s->fcr = value & FCR_ENABLE ? value & 0xc9 : 0;
}

static void write_ier(struct serial *s, uint8_t value)
{
    /* Enabling it while the holding register is empty, as it always is, interrupts at once. */
    if (value & ~s->ier & IER_THRE)
        s->thre_pending = true;
    s->ier = value & IER_MASK;
}

static void write_mcr(struct serial *s, uint8_t value)
{
    s->mcr = value & MCR_MASK;
    s->mcr_written = true;
    s->lsr_reads = 0;
    update_msr(s);
}

static void loop_back(struct serial *s, uint8_t byte)
{
    if (s->fifo_count < fifo_depth(s))
        fifo_push(s, byte);
    else
        s->lsr |= LSR_OVERRUN;
}

/* True when `value` is to go to the console. */
static bool write_register(struct serial *s, unsigned reg, uint8_t value)
{
    switch (reg) {
    case REG_DATA:
        if (s->lcr & LCR_DLAB) {
            s->dll = value;
            return false;
        }
        /* The write serves an interrupt that waits, and the byte's departure is a new one. */
        s->thre_pending = false;
        update_irq(s);
        s->thre_pending = true;
        if (!(s->mcr & MCR_LOOP))
            return true;
        loop_back(s, value);
        return false;
    case REG_IER:
        if (s->lcr & LCR_DLAB)
            s->dlm = value;
        else
            write_ier(s, value);
        return false;
    case REG_IIR:
        write_fcr(s, value);
        return false;
    case REG_LCR:
        s->lcr = value;
        return false;
    case REG_MCR:
        write_mcr(s, value);
        return false;
    case REG_SCR:
        s->scr = value;
        return false;
    default: /* LSR and MSR: writes are for factory tests */
        return false;
    }
}

/* --- bus ---------------------------------------------------------------------------- */

/* A wider access is one to each of the registers, in ascending order, as the ISA bus splits it. */
static uint64_t serial_read(void *dev, uint64_t offset, unsigned size)
{
    struct serial *s = dev;
    uint64_t value = 0;

    pthread_mutex_lock(&s->lock);
    for (unsigned i = 0; i < size; i++) {
        unsigned reg = (offset + i) % COM1_PORTS;

        count_polling(s, reg == REG_LSR);
        value |= (uint64_t)read_register(s, reg) << (8 * i);
    }
    update_irq(s);
    pthread_mutex_unlock(&s->lock);
    return value;
}

/*
 * The console is written without the lock: it may wait for its reader, and the I/O
 * thread must get into serial_input() meanwhile.
 */
static void serial_write(void *dev, uint64_t offset, unsigned size, uint64_t value)
{
    struct serial *s = dev;

    for (unsigned i = 0; i < size; i++) {
        unsigned char byte = (unsigned char)(value >> (8 * i));
        bool out;

        pthread_mutex_lock(&s->lock);
        count_polling(s, false);
        out = write_register(s, (offset + i) % COM1_PORTS, byte);
        update_irq(s);
        pthread_mutex_unlock(&s->lock);
        if (out)
            console_write(s->con, &byte, 1);
    }
}

static const struct bus_ops serial_ops = {
    .read = serial_read,
    .write = serial_write,
};

/* --- life ------------------------------------------------------------------------------ */

int serial_create(struct serial **out, struct bus *bus, struct irq_line irq, struct console *con,
                  struct error *err)
{
    struct serial *s = calloc(1, sizeof(*s));
    int rc;

    if (!s)
        return error_set(err, -ENOMEM, "serial line: out of memory");
    s->irq = irq;
    s->con = con;
    s->dll = 1; /* 115200 baud */
    s->lcr = 3; /* 8 data bits, as firmware leaves it */
    s->msr = MSR_DCD | MSR_DSR | MSR_CTS;
    pthread_mutex_init(&s->lock, NULL);
    rc = bus_add(bus, BUS_PIO, COM1_BASE, COM1_PORTS, &serial_ops, s, "serial", err);
    if (rc < 0) {
        serial_destroy(s);
        return rc;
    }
    *out = s;
    return 0;
}

bool serial_input(struct serial *s, const unsigned char *buf, size_t len)
{
    bool room;

    pthread_mutex_lock(&s->lock);
    if (wire_grow(s, len)) {
        for (size_t i = 0; i < len; i++)
            s->wire[(s->wire_head + s->wire_count++) & (s->wire_size - 1)] = buf[i];
        update_irq(s);
    }
    room = s->wire_count < WIRE_ENOUGH;
    /* Stays until the guest has read: who asks now is not always who was held before. */
    if (!room)
        s->wire_held = true;
    pthread_mutex_unlock(&s->lock);
    return room;
}

void serial_destroy(struct serial *s)
{
    if (!s)
        return;
    pthread_mutex_destroy(&s->lock);
    free(s->wire);
    free(s);
}
