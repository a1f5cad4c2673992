/*
 * A driver that puts anything into its rings: guest memory is the input, and changes between
 * requests. What must hold: chains are bounded by the queue, their sums are right, the used index
 * follows what was pushed, and a queue that is broken stays so.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/virtqueue.h"

#define RAM (UINT64_C(1) << 16)

struct head {
    uint8_t size_log, flags, steps, unused;
    uint16_t desc, avail, used; /* in units of 16, 2, 4 bytes */
    uint16_t ram_at;            /* where the rest of the input goes */
};

static struct {
    struct memory *mem;
    uint8_t *ram;
    struct dma dma;
    struct virtqueue q;
    struct virtq_chain chain;
    uint8_t buf[4096];
} t;

static void require(int condition, const char *what)
{
    if (condition)
        return;
    fprintf(stderr, "fuzz_virtqueue: %s\n", what);
    abort();
}

static void check_chain(void)
{
    uint64_t sum[2] = { 0, 0 };

    require(t.chain.head < t.q.size, "head");
    require(t.chain.readable + t.chain.writable <= t.q.size, "more segments than the queue has");
    for (unsigned i = 0; i < t.chain.readable + t.chain.writable; i++) {
        const struct virtq_segment *s = &t.chain.segment[i];

        require(s->len > 0 && s->addr + (s->len - 1) >= s->addr, "a segment that wraps");
        sum[i >= t.chain.readable] += s->len;
    }
    require(sum[0] == t.chain.read_bytes && sum[1] == t.chain.write_bytes, "sums");
    require(sum[0] + sum[1] <= UINT64_C(1) << 32, "more than 4 GiB");
}

/* True while there may be more. */
static int step(unsigned n)
{
    uint16_t used = t.q.used_next;
    int rc = virtqueue_pop(&t.q, &t.chain);
    int64_t got;

    require(rc == 1 || rc == 0 || rc == -EPROTO, "result of pop");
    require((rc < 0) == t.q.broken, "broken");
    if (rc <= 0)
        return 0;
    check_chain();
    got = virtqueue_read(&t.q, &t.chain, n * 7, t.buf, sizeof(t.buf));
    require(got == -EFAULT || (got >= 0 && (uint64_t)got <= t.chain.read_bytes), "read");
    got = virtqueue_write(&t.q, &t.chain, n * 5, t.buf, sizeof(t.buf)); /* over the rings, too */
    require(got == -EFAULT || (got >= 0 && (uint64_t)got <= t.chain.write_bytes), "write");
    rc = virtqueue_push(&t.q, t.chain.head, n);
    require(rc == 0 || (rc == -EPROTO && t.q.broken), "result of push");
    require(t.q.used_next == (uint16_t)(used + (rc == 0)), "used index");
    (void)virtqueue_should_signal(&t.q);
    (void)virtqueue_want_kicks(&t.q, n % 2);
    return rc == 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct head h;

    if (size < sizeof(h))
        return 0;
    memcpy(&h, data, sizeof(h));
    data += sizeof(h);
    size -= sizeof(h);
    if (!t.mem) {
        require(memory_create(&t.mem, RAM, MEM_ANON, NULL) == 0, "no memory");
        t.ram = memory_at(t.mem, gpa(0), RAM);
        t.dma.mem = t.mem;
    }
    memset(t.ram, 0, RAM);
    if (size > RAM - h.ram_at)
        size = RAM - h.ram_at;
    memcpy(t.ram + h.ram_at, data, size);
    virtqueue_init(&t.q, &t.dma, VIRTQUEUE_MAX);
    t.q.size = (uint16_t)(1u << h.size_log % 10);
    t.q.desc = 16u * h.desc;
    t.q.avail = 2u * h.avail;
    t.q.used = 4u * h.used;
    t.q.indirect = h.flags & 1;
    t.q.event_idx = h.flags & 2;
    if (virtqueue_start(&t.q) == 0)
        for (unsigned i = 0; step(i) && i < h.steps; i++)
            ;
    virtqueue_reset(&t.q);
    require(virtqueue_pop(&t.q, &t.chain) == 0, "a queue that is not ready gave something");
    return 0;
}
