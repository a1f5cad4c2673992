/*
 * Formatted, buffered output to the console.
 */
#include "guest/user/lib/lib.h"

/* Small, so that data and buffer of a simple program fit one page. */
static char out_buf[1024];
static size_t out_used;

void flush(void)
{
    size_t done = 0;

    while (done < out_used) {
        long n = sys_write(SYS_STDOUT, out_buf + done, out_used - done);

        if (n <= 0)
            break;
        done += (size_t)n;
    }
    out_used = 0;
}

void discard_output(void)
{
    out_used = 0;
}

void write_out(const char *s, size_t n)
{
    while (n > 0) {
        size_t room = sizeof out_buf - out_used;
        size_t part = n < room ? n : room;

        memcpy(out_buf + out_used, s, part);
        out_used += part;
        s += part;
        n -= part;
        if (out_used == sizeof out_buf)
            flush();
    }
}

/* Where formatted bytes go: a caller's buffer, or the output buffer if `buf` is NULL. */
struct sink {
    char *buf;
    size_t size, count;
};

struct spec {
    bool left, zero, plus;
    int width, precision;
    int longs; /* number of l's; z counts as one */
};

static void emit(struct sink *sink, char c)
{
    if (sink->buf == NULL)
        write_out(&c, 1);
    else if (sink->count + 1 < sink->size)
        sink->buf[sink->count] = c;
    sink->count++;
}

static void emit_padded(struct sink *sink, const struct spec *spec, const char *sign,
                        const char *body, int len)
{
    int pad = spec->width - len - (int)strlen(sign);

    if (!spec->left && !spec->zero)
        for (; pad > 0; pad--)
            emit(sink, ' ');
    while (*sign != '\0')
        emit(sink, *sign++);
    if (!spec->left)
        for (; pad > 0; pad--)
            emit(sink, '0');
    for (int i = 0; i < len; i++)
        emit(sink, body[i]);
    for (; pad > 0; pad--)
        emit(sink, ' ');
}

static void emit_number(struct sink *sink, const struct spec *spec, const char *sign,
                        uint64_t value, unsigned base)
{
    char digits[24];
    int at = (int)sizeof digits;

    do {
        digits[--at] = "0123456789abcdef"[value % base];
        value /= base;
    } while (value != 0);
    emit_padded(sink, spec, sign, digits + at, (int)sizeof digits - at);
}

static const char *parse_spec(const char *fmt, struct spec *spec, va_list *ap)
{
    *spec = (struct spec){ .precision = -1 };
    for (;; fmt++) {
        if (*fmt == '-')
            spec->left = true;
        else if (*fmt == '0')
            spec->zero = true;
        else if (*fmt == '+')
            spec->plus = true;
        else
            break;
    }
    if (*fmt == '*') {
        spec->width = va_arg(*ap, int);
        fmt++;
    }
    for (; *fmt >= '0' && *fmt <= '9'; fmt++)
        spec->width = spec->width * 10 + (*fmt - '0');
    if (*fmt == '.') {
        spec->precision = 0;
        fmt++;
        if (*fmt == '*') {
            spec->precision = va_arg(*ap, int);
            fmt++;
        }
        for (; *fmt >= '0' && *fmt <= '9'; fmt++)
            spec->precision = spec->precision * 10 + (*fmt - '0');
    }
    for (; *fmt == 'l' || *fmt == 'z'; fmt++)
        spec->longs++;
    return fmt;
}

static void emit_string(struct sink *sink, struct spec *spec, const char *s)
{
    int len = 0;

    if (s == NULL)
        s = "(null)";
    while ((spec->precision < 0 || len < spec->precision) && s[len] != '\0')
        len++;
    spec->zero = false;
    emit_padded(sink, spec, "", s, len);
}

/* One conversion; `c` is its last letter. */
static void emit_one(struct sink *sink, struct spec *spec, char c, va_list *ap)
{
    int64_t d;
    char one;

    switch (c) {
    case 'd':
    case 'i':
        d = spec->longs ? va_arg(*ap, long) : va_arg(*ap, int);
        emit_number(sink, spec,
                    d < 0        ? "-"
                    : spec->plus ? "+"
                                 : "",
                    d < 0 ? 0 - (uint64_t)d : (uint64_t)d, 10);
        break;
    case 'u':
    case 'x':
        emit_number(sink, spec, "",
                    spec->longs ? va_arg(*ap, unsigned long) : va_arg(*ap, unsigned int),
                    c == 'u' ? 10 : 16);
        break;
    case 'p':
        emit_number(sink, spec, "0x", (uintptr_t)va_arg(*ap, void *), 16);
        break;
    case 's':
        emit_string(sink, spec, va_arg(*ap, const char *));
        break;
    case 'c':
        one = (char)va_arg(*ap, int);
        emit_padded(sink, spec, "", &one, 1);
        break;
    default:
        emit(sink, c);
        break;
    }
}

static void format(struct sink *sink, const char *fmt, va_list *ap)
{
    for (; *fmt != '\0'; fmt++) {
        struct spec spec;

        if (*fmt != '%') {
            emit(sink, *fmt);
            continue;
        }
        fmt = parse_spec(fmt + 1, &spec, ap);
        if (*fmt == '\0')
            break;
        emit_one(sink, &spec, *fmt, ap);
    }
}

int vsnprintf(char *buf, size_t size, const char *fmt, va_list ap)
{
    char none = '\0';
    struct sink sink = { .buf = size > 0 ? buf : &none, .size = size };
    va_list copy;

    va_copy(copy, ap);
    format(&sink, fmt, &copy);
    va_end(copy);
    if (size > 0)
        buf[sink.count < size ? sink.count : size - 1] = '\0';
    return (int)sink.count;
}

int snprintf(char *buf, size_t size, const char *fmt, ...)
{
    va_list ap;
    int n;

    va_start(ap, fmt);
    n = vsnprintf(buf, size, fmt, ap);
    va_end(ap);
    return n;
}

int printf(const char *fmt, ...)
{
    struct sink sink = { .buf = NULL };
    va_list ap;

    va_start(ap, fmt);
    format(&sink, fmt, &ap);
    va_end(ap);
    return (int)sink.count;
}
