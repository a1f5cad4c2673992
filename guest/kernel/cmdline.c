/* The command line: key=value words for the kernel, then a program and its arguments. */
#include "guest/kernel/boot_info.h"

#include "guest/kernel/printk.h"
#include "guest/kernel/string.h"

/* Options that some part asks for. */
static const char *const known_options[] = { "access", "edits", "panic", "seed", "selftest" };

struct word {
    const char *start;
    size_t len;
    size_t key_len; /* up to the '='; 0 when there is none: the program */
};

/* The next word from *at on; false at the end of the line. */
static bool next_word(const char **at, struct word *w)
{
    const char *p = *at;

    while (*p == ' ')
        p++;
    if (!*p)
        return false;
    w->start = p;
    w->key_len = 0;
    for (; *p && *p != ' '; p++)
        if (*p == '=' && !w->key_len)
            w->key_len = (size_t)(p - w->start);
    w->len = (size_t)(p - w->start);
    *at = p;
    return true;
}

bool cmdline_option(const char *key, char *value, size_t size)
{
    const char *at = boot_info.cmdline;
    size_t key_len = strlen(key);
    struct word w;

    while (next_word(&at, &w) && w.key_len) {
        size_t n = w.len - w.key_len - 1;

        if (w.key_len != key_len || memcmp(w.start, key, key_len) != 0)
            continue;
        if (n >= size)
            n = size - 1;
        memcpy(value, w.start + w.key_len + 1, n);
        value[n] = '\0';
        return true;
    }
    return false;
}

bool parse_number(const char *s, uint64_t *value)
{
    uint64_t n = 0;

    for (; *s; s++) {
        if (*s < '0' || *s > '9')
            return false;
        n = n * 10 + (uint64_t)(*s - '0');
    }
    *value = n;
    return n != 0;
}

bool cmdline_number(const char *key, uint64_t *value)
{
    char text[16];
    uint64_t n;

    if (!cmdline_option(key, text, sizeof(text)))
        return true;
    if (!parse_number(text, &n)) {
        printk("kernel: %s=%s is no number above 0\n", key, text);
        return false;
    }
    *value = n;
    return true;
}

const char *cmdline_program(void)
{
    const char *at = boot_info.cmdline;
    struct word w;

    while (next_word(&at, &w))
        if (!w.key_len)
            return w.start;
    return "";
}

void cmdline_warn_unknown(void)
{
    const char *at = boot_info.cmdline;
    struct word w;

    while (next_word(&at, &w) && w.key_len) {
        bool known = false;

        for (size_t i = 0; i < sizeof(known_options) / sizeof(*known_options); i++)
            known |= strlen(known_options[i]) == w.key_len &&
                     memcmp(known_options[i], w.start, w.key_len) == 0;
        if (!known) {
            char word[64];
            size_t n = w.len < sizeof(word) - 1 ? w.len : sizeof(word) - 1;

            memcpy(word, w.start, n);
            word[n] = '\0';
            printk("kernel: unknown option '%s' ignored\n", word);
        }
    }
}
