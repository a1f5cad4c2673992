/* Runs the combinations, compares, and tells. */
#include "guest/kernel/access_test.h"

#include "guest/kernel/boot_info.h"
#include "guest/kernel/clock.h"
#include "guest/kernel/printk.h"
#include "guest/kernel/probe.h"
#include "guest/kernel/string.h"
#include "guest/kernel/trap.h"

#define MAX_SHOWN 10
#define MAX_KNOWN 8

/* A prime above any number of combinations: its multiples visit each index once. */
#define STRIDE 2654435761u

struct difference {
    uint64_t index;
    struct access_case c;
    struct access_outcome want;
    struct access_result got;
};

static struct access_plan plan;
static struct difference shown[MAX_SHOWN];
static struct {
    const char *name;
    uint64_t count;
} known[MAX_KNOWN];

static bool as_expected(const struct access_case *c, const struct access_outcome *want,
                        const struct access_result *got)
{
    if (got->other || (got->accessed ^ want->accessed) & ~(unsigned)want->accessed_any ||
        got->dirty != want->dirty)
        return false;
    if (!want->fault)
        return got->vector == PROBE_NO_FAULT;
    return got->vector == TRAP_PF && got->cr2 == access_mmu_gva(c) &&
           ((got->error ^ want->error) & ~(uint64_t)want->error_any) == 0;
}

static bool note_known(const char *name)
{
    if (!name)
        return false;
    for (unsigned i = 0; i < MAX_KNOWN; i++) {
        if (known[i].name && known[i].name != name)
            continue;
        known[i].name = name;
        known[i].count++;
        return true;
    }
    return false;
}

/* --- in words ----------------------------------------------------------------------------- */

struct flag {
    uint16_t bit;
    const char *name;
};

static char *put(char *at, const char *word)
{
    while (*word)
        *at++ = *word++;
    return at;
}

static void flags_in_words(char *buf, unsigned flags, const struct flag *names, unsigned n)
{
    char *at = buf;

    for (unsigned i = 0; i < n; i++)
        if (flags & names[i].bit)
            at = put(put(at, " "), names[i].name);
    if (at == buf)
        at = put(at, " -");
    *at = '\0';
}

static void entry_in_words(char *buf, unsigned entry)
{
    static const struct flag names[] = {
        { ENTRY_P, "P" },
        { ENTRY_RW, "RW" },
        { ENTRY_US, "US" },
        { ENTRY_A, "A" },
        { ENTRY_D, "D" },
        { ENTRY_PS, "PS" },
        { ENTRY_NX, "NX" },
        { ENTRY_HIGH, "high" },
        { ENTRY_LOW, "low" },
        { ENTRY_KEY, "key" },
        { ENTRY_IGNORED, "ignored" },
    };

    flags_in_words(buf, entry, names, sizeof(names) / sizeof(*names));
}

static void mode_in_words(char *buf, unsigned mode)
{
    static const struct flag names[] = {
        { MODE_WP, "WP" },           { MODE_NXE, "NXE" },         { MODE_SMEP, "SMEP" },
        { MODE_SMAP, "SMAP" },       { MODE_AC, "AC" },           { MODE_PKE, "PKE" },
        { MODE_PKRU_AD, "PKRU.AD" }, { MODE_PKRU_WD, "PKRU.WD" }, { MODE_PKS, "PKS" },
        { MODE_PKRS_AD, "PKRS.AD" }, { MODE_PKRS_WD, "PKRS.WD" },
    };

    flags_in_words(buf, mode, names, sizeof(names) / sizeof(*names));
}

static void print_difference(const struct difference *d)
{
    static const char *const ops[] = { "read", "write", "fetch" };
    static const char *const levels[] = { "", "PTE", "PDE", "PDPTE", "PML4E" };
    char words[128];

    mode_in_words(words, d->c.mode);
    printk("access: combination %lu: %s %s, mode%s\n", d->index, d->c.user ? "user" : "supervisor",
           ops[d->c.op], words);
    for (unsigned level = 4; level; level--) {
        entry_in_words(words, d->c.entry[level]);
        printk("  %-5s%s\n", levels[level], words);
    }
    if (d->want.fault)
        printk("  expected #PF 0x%x", d->want.error);
    else
        printk("  expected no fault");
    printk(", A 0x%x (open 0x%x) D 0x%x\n", d->want.accessed, d->want.accessed_any, d->want.dirty);
    if (d->got.vector == PROBE_NO_FAULT)
        printk("  got no fault");
    else
        printk("  got %s 0x%lx at 0x%lx", trap_name(d->got.vector), d->got.error, d->got.cr2);
    printk(", A 0x%x D 0x%x%s\n", d->got.accessed, d->got.dirty,
           d->got.other ? ", other bits changed" : "");
}

static void print_left_out(const struct access_machine *m)
{
    char words[128];
    unsigned missing = MODE_ALL & ~m->modes & (MODE_SMEP | MODE_SMAP | MODE_PKE | MODE_PKS);

    mode_in_words(words, missing);
    if (missing || !m->gib_pages || !m->high)
        printk("access: left out, as this CPU has none:%s%s%s\n", missing ? words : "",
               m->gib_pages ? "" : " pages of 1 GiB", m->high ? "" : " reserved address bits");
}

/* --- the run --------------------------------------------------------------------------------- */

static uint64_t how_many(void)
{
    char value[16];
    uint64_t n = 0;

    if (!cmdline_option("access", value, sizeof(value)))
        return ACCESS_DEFAULT < plan.total ? ACCESS_DEFAULT : plan.total;
    if (strcmp(value, "all") == 0)
        return plan.total;
    if (!parse_number(value, &n)) {
        printk("access: access=%s is neither 'all' nor a number above 0\n", value);
        return 0;
    }
    return n < plan.total ? n : plan.total;
}

bool access_test(void)
{
    struct access_machine machine;
    uint64_t n, differences = 0, n_known = 0;

    access_mmu_machine(&machine);
    access_known_detect();
    access_plan_make(&plan, &machine);
    n = how_many();
    if (!n)
        return false;
    print_left_out(&machine);
    access_mmu_enter();
    for (uint64_t i = 0; i < n; i++) {
        struct difference d = { .index = n == plan.total ? i : i * STRIDE % plan.total };

        access_plan_case(&plan, d.index, &d.c);
        access_predict(&d.c, &d.want);
        access_mmu_try(&d.c, &d.got);
        if (as_expected(&d.c, &d.want, &d.got))
            continue;
        if (note_known(access_known(&d.c, &d.want, &d.got)))
            n_known++;
        else if (differences++ < MAX_SHOWN)
            shown[differences - 1] = d;
    }
    access_mmu_leave();
    for (unsigned i = 0; i < MAX_SHOWN && i < differences; i++)
        print_difference(&shown[i]);
    for (unsigned i = 0; i < MAX_KNOWN && known[i].name; i++)
        printk("access: %lu times a known difference of %s\n", known[i].count, known[i].name);
    if (n_known)
        printk("access: %lu known differences of this machine\n", n_known);
    printk("access: %lu of %lu combinations, %lu differences\n", n, plan.total, differences);
    return differences == 0;
}
