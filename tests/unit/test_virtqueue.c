/*
 * Split queues against a model driver: random good rings give exactly what was put in; each rule,
 * broken alone, stops the queue and nothing else.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "vmm/virtqueue.h"

#define RAM      (UINT64_C(1) << 20)
#define DESC     UINT64_C(0x1000)
#define AVAIL    UINT64_C(0x3000)
#define USED     UINT64_C(0x4000)
#define INDIRECT UINT64_C(0x8000)
#define DATA     UINT64_C(0x10000)

enum { NEXT = 1, WRITE = 2, INDIR = 4 };

struct desc {
    uint64_t addr;
    uint32_t len;
    uint16_t flags, next;
};

static struct {
    struct memory *mem;
    uint8_t *ram;
    struct dma dma;
    struct virtqueue q;
    struct virtq_chain chain;
    uint16_t avail; /* the driver's index */
    uint32_t seed;
} t;

static uint32_t rnd(uint32_t below)
{
    t.seed = t.seed * 1664525u + 1013904223u;
    return (t.seed >> 8) % below;
}

static uint16_t get16(uint64_t at)
{
    uint16_t v;

    memcpy(&v, t.ram + at, 2);
    return v;
}

static uint32_t get32(uint64_t at)
{
    uint32_t v;

    memcpy(&v, t.ram + at, 4);
    return v;
}

static void put16(uint64_t at, uint16_t v)
{
    memcpy(t.ram + at, &v, 2);
}

static void put_desc(uint64_t table, unsigned n, uint64_t addr, uint32_t len, unsigned flags,
                     unsigned next)
{
    struct desc d = { addr, len, (uint16_t)flags, (uint16_t)next };

    memcpy(t.ram + table + 16 * n, &d, sizeof(d));
}

static void offer(uint16_t head)
{
    put16(AVAIL + 4 + 2 * (t.avail % t.q.size), head);
    put16(AVAIL + 2, ++t.avail);
}

static void begin(uint16_t size, bool indirect, bool event_idx)
{
    memset(t.ram, 0, RAM);
    virtqueue_init(&t.q, &t.dma, VIRTQUEUE_MAX);
    t.q.size = size;
    t.q.desc = DESC;
    t.q.avail = AVAIL;
    t.q.used = USED;
    t.q.indirect = indirect;
    t.q.event_idx = event_idx;
    t.avail = 0;
    assert_int_equal(virtqueue_start(&t.q), 0);
}

static int setup(void **state)
{
    (void)state;
    if (memory_create(&t.mem, RAM, MEM_ANON, NULL) < 0)
        return -1;
    t.ram = memory_at(t.mem, gpa(0), RAM);
    t.dma = (struct dma){ .mem = t.mem };
    t.seed = 1;
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    memory_destroy(t.mem);
    return 0;
}

/* --- good rings ------------------------------------------------------------------------- */

struct buffer {
    uint64_t addr;
    uint32_t len;
};

struct request {
    struct buffer in[VIRTQUEUE_MAX], out[VIRTQUEUE_MAX];
    unsigned ins, outs;
    uint8_t bytes[1 << 16]; /* what the device is to read */
    uint64_t in_bytes, out_bytes;
};

/* Buffers one behind the other, at random distances; those of length 0 among them. */
static void fill(struct request *r, unsigned descs)
{
    uint64_t at = DATA + rnd(64);
    unsigned readable = rnd(descs + 1);

    memset(r, 0, offsetof(struct request, bytes));
    r->in_bytes = r->out_bytes = 0;
    for (unsigned i = 0; i < descs; i++) {
        struct buffer b = { at, rnd(8) ? rnd(200) : 0 };

        if (i < readable) {
            for (uint32_t k = 0; k < b.len; k++)
                t.ram[at + k] = r->bytes[r->in_bytes++] = (uint8_t)rnd(256);
            r->in[r->ins++] = b;
        } else {
            r->out_bytes += b.len;
            r->out[r->outs++] = b;
        }
        at += b.len + 1 + rnd(50);
    }
}

/* Puts the request's descriptors at shuffled places, the last ones in an indirect table. */
static uint16_t lay_out(const struct request *r, bool indirect)
{
    unsigned n = r->ins + r->outs, size = t.q.size;
    unsigned direct = indirect ? rnd(n < size ? n + 1 : size) : n;
    uint16_t place[VIRTQUEUE_MAX + 1], slots = (uint16_t)size;

    for (unsigned i = 0; i < size; i++)
        place[i] = (uint16_t)i;
    for (unsigned i = size; i > 1; i--) {
        unsigned k = rnd(i);
        uint16_t other = place[k];

        place[k] = place[i - 1];
        place[i - 1] = other;
    }
    assert_true(direct + (direct < n) <= slots);
    for (unsigned i = 0; i < n; i++) {
        const struct buffer *b = i < r->ins ? &r->in[i] : &r->out[i - r->ins];
        unsigned flags = i < r->ins ? 0 : WRITE;

        if (i < direct) {
            bool more = i + 1 < n;

            put_desc(DESC, place[i], b->addr, b->len, flags | (more ? NEXT : 0),
                     more ? place[i + 1] : 0xffff);
        } else {
            /* The write flag of the one that refers to a table is ignored. */
            put_desc(DESC, place[direct], INDIRECT, 16 * (n - direct), INDIR | (rnd(2) ? WRITE : 0),
                     0);
            put_desc(INDIRECT, i - direct, b->addr, b->len, flags | (i + 1 < n ? NEXT : 0),
                     i + 1 - direct);
        }
    }
    return place[0];
}

static void check_request(struct request *r)
{
    static uint8_t buf[1 << 16], answer[1 << 16];
    uint64_t offset = r->in_bytes ? rnd((uint32_t)r->in_bytes) : 0, k = 0;

    assert_int_equal(t.chain.read_bytes, r->in_bytes);
    assert_int_equal(t.chain.write_bytes, r->out_bytes);
    assert_int_equal(virtqueue_read(&t.q, &t.chain, 0, buf, sizeof(buf)), r->in_bytes);
    assert_memory_equal(buf, r->bytes, r->in_bytes);
    assert_int_equal(virtqueue_read(&t.q, &t.chain, offset, buf, 7),
                     r->in_bytes - offset < 7 ? r->in_bytes - offset : 7);
    assert_memory_equal(buf, r->bytes + offset,
                        r->in_bytes - offset < 7 ? r->in_bytes - offset : 7);

    for (uint64_t i = 0; i < r->out_bytes; i++)
        answer[i] = (uint8_t)rnd(256);
    offset = r->out_bytes ? rnd((uint32_t)r->out_bytes) : 0;
    assert_int_equal(virtqueue_write(&t.q, &t.chain, 0, answer, offset), offset);
    assert_int_equal(
        virtqueue_write(&t.q, &t.chain, offset, answer + offset, sizeof(answer) - offset),
        r->out_bytes - offset);
    for (unsigned i = 0; i < r->outs; i++) {
        assert_memory_equal(t.ram + r->out[i].addr, answer + k, r->out[i].len);
        k += r->out[i].len;
        assert_int_equal(t.ram[r->out[i].addr + r->out[i].len], 0); /* nothing beyond it */
    }
}

static void good_rings(void **state)
{
    static struct request r;

    (void)state;
    for (unsigned round = 0; round < 3000; round++) {
        uint16_t size = (uint16_t)(1u << rnd(9)), head, used;
        bool indirect = rnd(2);
        uint32_t written;

        if (round % 50 == 0)
            begin(size, true, rnd(2));
        size = t.q.size;
        memset(t.ram + DATA, 0, RAM - DATA);
        fill(&r, 1 + rnd(size));
        head = lay_out(&r, indirect);
        used = t.q.used_next;
        offer(head);
        assert_int_equal(virtqueue_pop(&t.q, &t.chain), 1);
        assert_int_equal(t.chain.head, head);
        check_request(&r);
        assert_int_equal(virtqueue_pop(&t.q, &t.chain), 0);
        written = rnd(1000);
        put16(AVAIL + 4 + 2 * size, used); /* waits for this one, by the event index */
        assert_int_equal(virtqueue_push(&t.q, head, written), 0);
        assert_int_equal(get16(USED + 2), (uint16_t)(used + 1));
        assert_int_equal(get32(USED + 4 + 8 * (used % size)), head);
        assert_int_equal(get32(USED + 8 + 8 * (used % size)), written);
        assert_true(virtqueue_should_signal(&t.q));
        assert_false(virtqueue_should_signal(&t.q));
    }
}

/* Requests come in any number at once, and in the order of the ring; indices wrap. */
static void order_and_wrap(void **state)
{
    (void)state;
    begin(16, false, false);
    for (unsigned i = 0; i < 16; i++)
        put_desc(DESC, i, DATA, 1, WRITE, 0);
    for (unsigned round = 0; round < 20000; round++) {
        unsigned n = 1 + rnd(16), first = rnd(16);

        for (unsigned i = 0; i < n; i++)
            offer((uint16_t)((first + i * 5) % 16));
        for (unsigned i = 0; i < n; i++) {
            assert_int_equal(virtqueue_pop(&t.q, &t.chain), 1);
            assert_int_equal(t.chain.head, (first + i * 5) % 16);
            assert_int_equal(virtqueue_push(&t.q, t.chain.head, 1), 0);
        }
        assert_int_equal(virtqueue_pop(&t.q, &t.chain), 0);
    }
    assert_int_equal(t.q.avail_next, t.avail);
    assert_int_equal(t.q.used_next, t.avail);
}

/* An interrupt comes exactly if one of the entries pushed is the one that the driver waits for. */
static void event_index(void **state)
{
    (void)state;
    begin(8, false, true);
    put_desc(DESC, 0, DATA, 1, WRITE, 0);
    for (unsigned round = 0; round < 20000; round++) {
        uint16_t before = t.q.used_next, event = (uint16_t)(before + rnd(20) - 6);
        unsigned n = rnd(9);
        bool expected = false;

        put16(AVAIL + 4 + 2 * 8, event);
        for (unsigned i = 0; i < n; i++) {
            expected |= (uint16_t)(before + i) == event;
            offer(0);
            assert_int_equal(virtqueue_pop(&t.q, &t.chain), 1);
            assert_int_equal(virtqueue_push(&t.q, 0, 0), 0);
        }
        assert_int_equal(virtqueue_should_signal(&t.q), expected);
    }
}

static void flags(void **state)
{
    (void)state;
    begin(8, false, false);
    put_desc(DESC, 0, DATA, 1, WRITE, 0);
    for (uint16_t quiet = 0; quiet < 2; quiet++) {
        put16(AVAIL, quiet);
        offer(0);
        assert_int_equal(virtqueue_pop(&t.q, &t.chain), 1);
        assert_int_equal(virtqueue_push(&t.q, 0, 0), 0);
        assert_int_equal(virtqueue_should_signal(&t.q), !quiet);
    }
    assert_false(virtqueue_want_kicks(&t.q, false));
    assert_int_equal(get16(USED), 1);
    offer(0);
    assert_true(virtqueue_want_kicks(&t.q, true));
    assert_int_equal(get16(USED), 0);
    assert_int_equal(virtqueue_pop(&t.q, &t.chain), 1);
    assert_false(virtqueue_want_kicks(&t.q, true));

    begin(8, false, true);
    put_desc(DESC, 0, DATA, 1, WRITE, 0);
    offer(0);
    assert_int_equal(virtqueue_pop(&t.q, &t.chain), 1);
    assert_false(virtqueue_want_kicks(&t.q, true));
    assert_int_equal(get16(USED + 4 + 8 * 8), 1); /* the next one */
}

/* --- bad rings ---------------------------------------------------------------------------- */

static void head_too_high(void)
{
    offer(8);
}

static void next_too_high(void)
{
    put_desc(DESC, 0, DATA, 1, NEXT, 8);
    offer(0);
}

static void loops(void)
{
    put_desc(DESC, 0, DATA, 1, NEXT, 1);
    put_desc(DESC, 1, DATA, 1, NEXT, 0);
    offer(0);
}

static void readable_last(void)
{
    put_desc(DESC, 0, DATA, 1, NEXT | WRITE, 1);
    put_desc(DESC, 1, DATA, 1, 0, 0);
    offer(0);
}

static void readable_last_in_table(void)
{
    put_desc(DESC, 0, DATA, 1, NEXT | WRITE, 1);
    put_desc(DESC, 1, INDIRECT, 16, INDIR, 0);
    put_desc(INDIRECT, 0, DATA, 1, 0, 0);
    offer(0);
}

static void wraps(void)
{
    put_desc(DESC, 0, UINT64_MAX - 9, 11, 0, 0);
    offer(0);
}

static void too_many_bytes(void)
{
    put_desc(DESC, 0, 0, UINT32_MAX, NEXT, 1);
    put_desc(DESC, 1, 0, 2, 0, 0);
    offer(0);
}

static void jump(void)
{
    put_desc(DESC, 0, DATA, 1, 0, 0);
    put16(AVAIL + 2, 9);
}

static void backwards(void)
{
    put16(AVAIL + 2, 0xffff);
}

static void nested(void)
{
    put_desc(DESC, 0, INDIRECT, 16, INDIR, 0);
    put_desc(INDIRECT, 0, INDIRECT + 0x100, 16, INDIR, 0);
    put_desc(INDIRECT + 0x100, 0, DATA, 1, 0, 0);
    offer(0);
}

static void indirect_next(void)
{
    put_desc(DESC, 0, INDIRECT, 16, INDIR | NEXT, 1);
    put_desc(DESC, 1, DATA, 1, 0, 0);
    put_desc(INDIRECT, 0, DATA, 1, 0, 0);
    offer(0);
}

static void table_empty(void)
{
    put_desc(DESC, 0, INDIRECT, 0, INDIR, 0);
    offer(0);
}

static void table_odd(void)
{
    put_desc(DESC, 0, INDIRECT, 24, INDIR, 0);
    put_desc(INDIRECT, 0, DATA, 1, 0, 0);
    offer(0);
}

static void table_wraps(void)
{
    put_desc(DESC, 0, UINT64_MAX - 15, 32, INDIR, 0);
    offer(0);
}

static void table_nowhere(void)
{
    put_desc(DESC, 0, RAM, 16, INDIR, 0);
    offer(0);
}

static void table_next_too_high(void)
{
    put_desc(DESC, 0, INDIRECT, 32, INDIR, 0);
    put_desc(INDIRECT, 0, DATA, 1, NEXT, 2);
    offer(0);
}

static void table_too_long(void)
{
    put_desc(DESC, 0, DATA, 1, NEXT, 1);
    put_desc(DESC, 1, INDIRECT, 16 * 8, INDIR, 0);
    for (unsigned i = 0; i < 8; i++)
        put_desc(INDIRECT, i, DATA, 1, i < 7 ? NEXT : 0, i + 1);
    offer(0);
}

static void breaks_rules(void **state)
{
    static const struct {
        void (*put)(void);
        const char *why;
        bool later; /* legal as such: with indirect descriptors not negotiated */
    } row[] = {
        { head_too_high, "beyond its table", false },
        { next_too_high, "beyond its table", false },
        { loops, "more descriptors than the queue", false },
        { readable_last, "readable descriptor behind", false },
        { readable_last_in_table, "readable descriptor behind", false },
        { wraps, "last address", false },
        { too_many_bytes, "4 GiB", false },
        { jump, "more than the queue's size", false },
        { backwards, "more than the queue's size", false },
        { nested, "in an indirect table", false },
        { indirect_next, "both INDIRECT and NEXT", false },
        { table_empty, "multiple of 16", false },
        { table_odd, "multiple of 16", false },
        { table_wraps, "last address", false },
        { table_nowhere, "no memory", false },
        { table_next_too_high, "beyond its table", false },
        { table_too_long, "more descriptors than the queue", false },
        { table_next_too_high, "not negotiated", true },
    };

    (void)state;
    for (size_t i = 0; i < sizeof(row) / sizeof(row[0]); i++) {
        begin(8, !row[i].later, i % 2);
        row[i].put();
        assert_int_equal(virtqueue_pop(&t.q, &t.chain), -EPROTO);
        assert_true(t.q.broken);
        if (!strstr(t.q.why, row[i].why))
            fail_msg("row %zu: '%s', not '%s'", i, t.q.why, row[i].why);
        /* It stays so, and writes nothing. */
        assert_int_equal(virtqueue_pop(&t.q, &t.chain), -EPROTO);
        assert_int_equal(virtqueue_push(&t.q, 0, 0), -EPROTO);
        assert_false(virtqueue_should_signal(&t.q));
        assert_false(virtqueue_want_kicks(&t.q, true));
        assert_int_equal(t.q.errors, 1);
        assert_int_equal(get16(USED + 2), 0);
        virtqueue_reset(&t.q);
        assert_false(t.q.broken || t.q.ready);
        assert_int_equal(t.q.errors, 1);
        assert_int_equal(virtqueue_pop(&t.q, &t.chain), 0);
    }
}

static void rings_nowhere(void **state)
{
    (void)state;
    begin(8, false, false);
    t.q.avail = RAM - 2;
    assert_int_equal(virtqueue_pop(&t.q, &t.chain), -EPROTO);
    begin(8, false, false);
    t.q.desc = RAM;
    offer(0);
    assert_int_equal(virtqueue_pop(&t.q, &t.chain), -EPROTO);
    begin(8, false, false);
    t.q.used = RAM - 4;
    assert_int_equal(virtqueue_push(&t.q, 0, 0), -EPROTO);
    begin(8, false, false);
    t.q.used = RAM;
    assert_true(virtqueue_want_kicks(&t.q, true)); /* so that the caller looks */
    assert_true(t.q.broken);
}

/* Data that lies nowhere is the device's affair: the queue goes on. */
static void data_nowhere(void **state)
{
    uint8_t buf[16];

    (void)state;
    begin(8, false, false);
    put_desc(DESC, 0, RAM - 8, 16, NEXT, 1);
    put_desc(DESC, 1, RAM, 16, WRITE, 0);
    offer(0);
    assert_int_equal(virtqueue_pop(&t.q, &t.chain), 1);
    assert_int_equal(virtqueue_read(&t.q, &t.chain, 0, buf, 16), -EFAULT);
    assert_int_equal(virtqueue_read(&t.q, &t.chain, 0, buf, 8), 8);
    assert_int_equal(virtqueue_write(&t.q, &t.chain, 0, buf, 1), -EFAULT);
    assert_int_equal(virtqueue_push(&t.q, 0, 0), 0);
}

static void bad_setup(void **state)
{
    static const struct {
        uint16_t size;
        uint64_t desc, avail, used;
    } row[] = {
        { 0, DESC, AVAIL, USED },
        { 12, DESC, AVAIL, USED },
        { 512, DESC, AVAIL, USED },
        { 8, DESC + 8, AVAIL, USED },
        { 8, DESC, AVAIL + 1, USED },
        { 8, DESC, AVAIL, USED + 2 },
        { 8, UINT64_MAX - 15, AVAIL, USED },
        { 8, DESC, UINT64_MAX - 1, USED },
        { 8, DESC, AVAIL, UINT64_MAX - 3 },
    };

    (void)state;
    for (size_t i = 0; i < sizeof(row) / sizeof(row[0]); i++) {
        virtqueue_init(&t.q, &t.dma, VIRTQUEUE_MAX);
        t.q.size = row[i].size;
        t.q.desc = row[i].desc;
        t.q.avail = row[i].avail;
        t.q.used = row[i].used;
        assert_int_equal(virtqueue_start(&t.q), -EPROTO);
        assert_int_equal(virtqueue_pop(&t.q, &t.chain), -EPROTO);
    }
}

/* A descriptor is read once: what the driver makes of it afterwards changes nothing. */
static void read_once(void **state)
{
    uint8_t byte = 7;

    (void)state;
    begin(8, false, false);
    put_desc(DESC, 0, DATA, 1, WRITE, 0);
    offer(0);
    assert_int_equal(virtqueue_pop(&t.q, &t.chain), 1);
    put_desc(DESC, 0, DATA + 100, 1, 0, 0);
    assert_int_equal(virtqueue_write(&t.q, &t.chain, 0, &byte, 1), 1);
    assert_int_equal(t.ram[DATA], 7);
    assert_int_equal(t.ram[DATA + 100], 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(good_rings),   cmocka_unit_test(order_and_wrap),
        cmocka_unit_test(event_index),  cmocka_unit_test(flags),
        cmocka_unit_test(breaks_rules), cmocka_unit_test(rings_nowhere),
        cmocka_unit_test(data_nowhere), cmocka_unit_test(bad_setup),
        cmocka_unit_test(read_once),
    };

    return cmocka_run_group_tests_name("virtqueue", tests, setup, teardown);
}
