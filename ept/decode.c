/*
 * Intel SDM vol. 3A, 4.3 to 4.5, tables "Format of ..."; vol. 3C, 29.3.2, tables "Format of an EPT
 * ..."; AMD APM vol. 2, 5.3 and 15.25.4; Intel VT-d specification, 9.8 "Second-Stage Paging
 * Entries".
 */
#include "ept/decode.h"

#include <stdarg.h>
#include <stdio.h>

#include "ept/entry.h"

#define BIT(n) (UINT64_C(1) << (n))

struct text {
    char *buf;
    size_t size, len;
};

__attribute__((format(printf, 2, 3))) static void add(struct text *t, const char *format, ...)
{
    size_t left = t->len < t->size ? t->size - t->len : 0;
    va_list args;
    int n;

    va_start(args, format);
    n = vsnprintf(left ? t->buf + t->len : NULL, left, format, args);
    va_end(args);
    if (n > 0)
        t->len += (size_t)n;
}

static void word(struct text *t, const char *name, bool wanted)
{
    if (wanted)
        add(t, "%s%s", t->len ? " " : "", name);
}

static void size_word(struct text *t, const struct pt_level *level, bool leaf)
{
    word(t, "2M", leaf && level->shift == 21);
    word(t, "1G", leaf && level->shift == 30);
}

/* A PDPTE of PAE paging (a "plain" level) has no rights and no accessed bit. */
static void x86_words(struct text *t, const struct pt_space *space, unsigned n, uint64_t raw,
                      bool leaf)
{
    const struct pt_level *level = &space->format->level[n];
    bool rights = !level->plain;
    uint64_t pat = n == 1 ? BIT(7) : BIT(12);
    unsigned key = (unsigned)(raw >> 59) & 15;

    word(t, "P", (raw & BIT(0)) != 0);
    word(t, "W", rights && (raw & BIT(1)) != 0);
    word(t, "U", rights && (raw & BIT(2)) != 0);
    word(t, "PWT", (raw & BIT(3)) != 0);
    word(t, "PCD", (raw & BIT(4)) != 0);
    word(t, "A", rights && (raw & BIT(5)) != 0);
    word(t, "D", leaf && (raw & BIT(6)) != 0);
    word(t, "PS", leaf && n > 1);
    word(t, "PAT", leaf && (raw & pat) != 0);
    word(t, "G", leaf && space->format->rules == PT_RULES_X86 && (raw & BIT(8)) != 0);
    if (leaf && key != 0 && (space->policy.pku || space->policy.pks))
        add(t, " PK=%u", key);
    word(t, "NX", rights && space->policy.no_exec && (raw & space->format->rights.no_exec) != 0);
}

static void ept_words(struct text *t, const struct pt_space *space, unsigned n, uint64_t raw,
                      bool leaf)
{
    static const char *const type[8] = {
        "UC", "WC", "type=2", "type=3", "WT", "WP", "WB", "type=7"
    };

    word(t, "R", (raw & BIT(0)) != 0);
    word(t, "W", (raw & BIT(1)) != 0);
    word(t, "X", (raw & BIT(2)) != 0);
    word(t, "XU", space->policy.mode_based && (raw & BIT(10)) != 0);
    word(t, "A", space->policy.ad && (raw & BIT(8)) != 0);
    word(t, "D", leaf && space->policy.ad && (raw & BIT(9)) != 0);
    word(t, type[(raw >> 3) & 7], leaf);
    word(t, "IPAT", leaf && (raw & BIT(6)) != 0);
    size_word(t, &space->format->level[n], leaf);
}

static void vtd_words(struct text *t, const struct pt_space *space, unsigned n, uint64_t raw,
                      bool leaf)
{
    word(t, "R", (raw & BIT(0)) != 0);
    word(t, "W", (raw & BIT(1)) != 0);
    word(t, "A", space->policy.ad && (raw & BIT(8)) != 0);
    word(t, "D", leaf && space->policy.ad && (raw & BIT(9)) != 0);
    word(t, "SNP", leaf && (raw & BIT(11)) != 0);
    size_word(t, &space->format->level[n], leaf);
}

size_t pt_describe(const struct pt_space *space, unsigned level, uint64_t raw, char *buf,
                   size_t size)
{
    struct text t = { .buf = buf, .size = size };
    enum pt_entry_kind kind = pt_entry_kind(space, level, raw);
    bool leaf = pt_is_leaf(&space->format->level[level], raw);

    if (size > 0)
        buf[0] = '\0';
    if (kind == PT_ENTRY_NONE) {
        add(&t, "-");
        return t.len;
    }
    switch (space->format->rules) {
    case PT_RULES_X86:
    case PT_RULES_NPT:
        x86_words(&t, space, level, raw, leaf);
        break;
    case PT_RULES_EPT:
        ept_words(&t, space, level, raw, leaf);
        break;
    case PT_RULES_VTD:
        vtd_words(&t, space, level, raw, leaf);
        break;
    }
    word(&t, "RSVD", kind == PT_ENTRY_RESERVED);
    return t.len;
}
