/* A small printf: every instruction of it may be interpreted. */
#include "guest/kernel/printk.h"

#include <stdbool.h>
#include <stdint.h>

#include "guest/kernel/lock.h"
#include "guest/kernel/string.h"

struct out {
    char *at, *end; /* end: where the closing NUL would still fit */
};

struct spec {
    bool left, zero;
    unsigned width;
};

static void put(struct out *o, const char *s, size_t n, const struct spec *sp)
{
    size_t pad = sp->width > n ? sp->width - n : 0;
    size_t room;

    for (; pad && !sp->left && o->at < o->end; pad--)
        *o->at++ = sp->zero ? '0' : ' ';
    room = (size_t)(o->end - o->at);
    if (n > room)
        n = room;
    memcpy(o->at, s, n);
    o->at += n;
    for (; pad && sp->left && o->at < o->end; pad--)
        *o->at++ = ' ';
}

static void put_number(struct out *o, uint64_t v, unsigned base, bool negative,
                       const struct spec *sp)
{
    char digits[24];
    char *d = digits + sizeof(digits);

    if (base == 16) {
        do {
            *--d = "0123456789abcdef"[v & 15];
            v >>= 4;
        } while (v);
    } else {
        do {
            *--d = (char)('0' + v % 10);
            v /= 10;
        } while (v);
    }
    if (negative)
        *--d = '-';
    put(o, d, (size_t)(digits + sizeof(digits) - d), sp);
}

static const char *parse_spec(const char *f, struct spec *sp, bool *is_long)
{
    *sp = (struct spec){ 0 };
    *is_long = false;
    for (;; f++) {
        if (*f == '-')
            sp->left = true;
        else if (*f == '0')
            sp->zero = true;
        else
            break;
    }
    for (; *f >= '0' && *f <= '9'; f++)
        sp->width = sp->width * 10 + (unsigned)(*f - '0');
    for (; *f == 'l' || *f == 'z'; f++)
        *is_long = true;
    return f;
}

size_t kvformat(char *buf, size_t size, const char *f, va_list ap)
{
    struct out o = { buf, buf + (size ? size - 1 : 0) };
    struct spec sp;
    bool is_long;

    while (*f && o.at < o.end) {
        if (*f != '%') {
            *o.at++ = *f++;
            continue;
        }
        f = parse_spec(f + 1, &sp, &is_long);
        switch (*f) {
        case 's': {
            const char *s = va_arg(ap, const char *);

            put(&o, s, strlen(s), &sp);
            break;
        }
        case 'c': {
            char c = (char)va_arg(ap, int);

            put(&o, &c, 1, &sp);
            break;
        }
        case 'd': {
            int64_t v = is_long ? va_arg(ap, int64_t) : va_arg(ap, int);

            put_number(&o, v < 0 ? -(uint64_t)v : (uint64_t)v, 10, v < 0, &sp);
            break;
        }
        case 'u':
            put_number(&o, is_long ? va_arg(ap, uint64_t) : va_arg(ap, unsigned), 10, false, &sp);
            break;
        case 'x':
            put_number(&o, is_long ? va_arg(ap, uint64_t) : va_arg(ap, unsigned), 16, false, &sp);
            break;
        case 'p':
            put_number(&o, (uint64_t)va_arg(ap, void *), 16, false, &sp);
            break;
        case '\0':
            continue;
        default:
            *o.at++ = *f;
        }
        f++;
    }
    if (size)
        *o.at = '\0';
    return (size_t)(o.at - buf);
}

size_t kformat(char *buf, size_t size, const char *format, ...)
{
    va_list ap;
    size_t n;

    va_start(ap, format);
    n = kvformat(buf, size, format, ap);
    va_end(ap);
    return n;
}

/* Not on the stack: the console wants bytes that lie together in guest-physical memory. */
static char line[256];
static struct lock line_lock;
static bool panicking;

void printk(const char *format, ...)
{
    va_list ap;

    if (!panicking)
        lock_acquire(&line_lock);
    va_start(ap, format);
    console_write(line, kvformat(line, sizeof(line), format, ap));
    va_end(ap);
    if (!panicking)
        lock_release(&line_lock);
}

void printk_panic_mode(void)
{
    panicking = true;
    console_panic_mode();
}
