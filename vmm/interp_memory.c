/* The interpreter's way to memory: translation, pieces of pages, atomicity, devices. */
#include "vmm/interp_impl.h"

static int map_piece(struct interp *in, uint64_t linear, unsigned len,
                     const struct interp_access *access, struct interp_span *span, unsigned n)
{
    span->host[n] = NULL;
    switch (
        in->ops->translate(in->ctx, linear, len, access, &span->host[n], &span->at[n], in->fault)) {
    case INTERP_RAM:
        return 0;
    case INTERP_DEVICE:
        span->host[n] = NULL;
        return 0;
    default:
        return -1;
    }
}

int interp_map(struct interp *in, uint64_t linear, unsigned len, const struct interp_access *access,
               struct interp_span *span)
{
    unsigned left = PAGE_SIZE_4K - (linear & (PAGE_SIZE_4K - 1));
    uint64_t second = linear + left;

    span->len = len;
    span->first = len <= left ? len : left;
    if (map_piece(in, linear, span->first, access, span, 0))
        return -1;
    if (len <= left)
        return 0;
    if (!cpu_long_mode(in->state))
        second = (uint32_t)second;
    return map_piece(in, second, len - left, access, span, 1);
}

/* A device is accessed in the largest pieces that the bus knows. */
static void device(struct interp *in, gpa_t at, uint8_t *buf, unsigned len, bool write)
{
    while (len) {
        unsigned n = len >= 8 ? 8 : len >= 4 ? 4 : len >= 2 ? 2 : 1;

        in->ops->mmio(in->ctx, at, buf, n, write);
        at.v += n;
        buf += n;
        len -= n;
    }
}

void interp_span_read(struct interp *in, const struct interp_span *span, void *buf)
{
    uint8_t *to = buf;
    unsigned len = span->first;

    for (unsigned n = 0; n < 2 && len; n++) {
        if (span->host[n])
            memcpy(to, span->host[n], len);
        else
            device(in, span->at[n], to, len, false);
        to += len;
        len = span->len - span->first;
    }
}

void interp_span_write(struct interp *in, const struct interp_span *span, const void *buf)
{
    uint8_t *from = (uint8_t *)buf; /* device() only reads it */
    unsigned len = span->first;

    for (unsigned n = 0; n < 2 && len; n++) {
        if (span->host[n])
            memcpy(span->host[n], from, len);
        else
            device(in, span->at[n], from, len, true);
        from += len;
        len = span->len - span->first;
    }
}

/* memcpy() of a constant size is one access of the host's too, but nothing promises it: it is for
   the unaligned ones, of which the guest can't expect more either. */
#define LOAD(type)                                                     \
    do {                                                               \
        type value;                                                    \
        if (((uintptr_t)p & (sizeof(type) - 1)) == 0)                  \
            return __atomic_load_n((const type *)p, __ATOMIC_RELAXED); \
        memcpy(&value, p, sizeof(value));                              \
        return value;                                                  \
    } while (0)

uint64_t interp_host_load(const void *p, unsigned size)
{
    switch (size) {
    case 1:
        LOAD(uint8_t);
    case 2:
        LOAD(uint16_t);
    case 4:
        LOAD(uint32_t);
    default:
        LOAD(uint64_t);
    }
}

#define STORE(type)                                                \
    do {                                                           \
        type narrow = (type)value;                                 \
        if (((uintptr_t)p & (sizeof(type) - 1)) == 0)              \
            __atomic_store_n((type *)p, narrow, __ATOMIC_RELAXED); \
        else                                                       \
            memcpy(p, &narrow, sizeof(narrow));                    \
    } while (0)

void interp_host_store(void *p, unsigned size, uint64_t value)
{
    switch (size) {
    case 1:
        STORE(uint8_t);
        break;
    case 2:
        STORE(uint16_t);
        break;
    case 4:
        STORE(uint32_t);
        break;
    default:
        STORE(uint64_t);
        break;
    }
}

static bool plain(const struct interp_span *span)
{
    return span->host[0] && span->first == span->len &&
           (span->len == 1 || span->len == 2 || span->len == 4 || span->len == 8);
}

uint64_t interp_span_get(struct interp *in, const struct interp_span *span)
{
    uint64_t value = 0;

    if (plain(span))
        return interp_host_load(span->host[0], span->len);
    interp_span_read(in, span, &value);
    return value;
}

void interp_span_put(struct interp *in, const struct interp_span *span, uint64_t value)
{
    if (plain(span))
        interp_host_store(span->host[0], span->len, value);
    else
        interp_span_write(in, span, &value);
}

/* By hand: the compiler's builtins want an aligned object, which the guest need not give. */
#define SWAP(suffix, modifier)                                             \
    __asm__ volatile("lock cmpxchg" suffix " %" modifier "[value], (%[p])" \
                     : "+a"(old), "=@ccz"(done)                            \
                     : [value] "r"(value), [p] "r"(span->host[0])          \
                     : "memory")

bool interp_span_swap(struct interp *in, const struct interp_span *span, uint64_t old,
                      uint64_t value)
{
    bool done;

    if (!plain(span)) {
        interp_span_put(in, span, value);
        return true;
    }
    switch (span->len) {
    case 1:
        SWAP("b", "b");
        break;
    case 2:
        SWAP("w", "w");
        break;
    case 4:
        SWAP("l", "k");
        break;
    default:
        SWAP("q", "q");
        break;
    }
    return done;
}

static int map_linear(struct interp *in, uint64_t linear, unsigned len, enum pt_op op, bool user,
                      bool implicit, struct cpu_fault *fault, struct interp_span *span)
{
    const struct interp_access access = { .op = op, .user = user, .implicit = implicit };

    in->fault = fault;
    return interp_map(in, linear, len, &access, span);
}

int interp_load(struct interp *in, uint64_t linear, void *buf, unsigned len, bool user,
                bool implicit, struct cpu_fault *fault)
{
    struct interp_span span;
    uint64_t value;

    if (map_linear(in, linear, len, PT_READ, user, implicit, fault, &span))
        return -1;
    if (plain(&span)) {
        value = interp_span_get(in, &span);
        memcpy(buf, &value, len);
    } else {
        interp_span_read(in, &span, buf);
    }
    return 0;
}

int interp_store(struct interp *in, uint64_t linear, const void *buf, unsigned len, bool user,
                 bool implicit, struct cpu_fault *fault)
{
    struct interp_span span;
    uint64_t value = 0;

    if (map_linear(in, linear, len, PT_WRITE, user, implicit, fault, &span))
        return -1;
    if (plain(&span)) {
        memcpy(&value, buf, len);
        interp_span_put(in, &span, value);
    } else {
        interp_span_write(in, &span, buf);
    }
    return 0;
}
