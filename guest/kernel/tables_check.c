/* Accesses, and whether they do what the model says. */
#include "guest/kernel/access_oracle.h"
#include "guest/kernel/cpu.h"
#include "guest/kernel/printk.h"
#include "guest/kernel/probe.h"
#include "guest/kernel/tables_test.h"

#define MAX_SHOWN 5 /* a CPU */

#define RFLAGS_FIXED UL(0x2)
#define RFLAGS_IF    UL(0x200)
#define RFLAGS_AC    UL(0x40000)

struct access {
    struct access_case c;
    uint64_t gva;
    uint64_t page;  /* gpa of the page that it leads to, if it leads anywhere */
    uint64_t value; /* that a write stores */
    struct access_outcome want;
    struct probe_result got;
};

static const char *const op_names[] = { "read", "write", "fetch" };

static uint16_t entry_bits(uint64_t e)
{
    return (uint16_t)((e & PTE_PRESENT ? ENTRY_P : 0) | (e & PTE_WRITE ? ENTRY_RW : 0) |
                      (e & PTE_USER ? ENTRY_US : 0) | (e & PTE_ACCESSED ? ENTRY_A : 0) |
                      (e & PTE_DIRTY ? ENTRY_D : 0) | (e & PTE_LARGE ? ENTRY_PS : 0) |
                      (e & PTE_NX ? ENTRY_NX : 0));
}

bool tables_differ(struct editor *e)
{
    struct place *p = &e->at;

    if (e->shown++ >= MAX_SHOWN)
        return false;
    printk("tables: CPU %u, edit %lu: %s at level %u of 0x%lx, %s: now 0x%lx\n", e->cpu, e->n,
           e->what, p->level, place_gva(p), e->how, *place_model(p));
    return true;
}

static void print_access(const struct access *a)
{
    const struct probe_result *got = &a->got;

    printk("  %s %s of 0x%lx%s: expected ", a->c.user ? "user" : "supervisor", op_names[a->c.op],
           a->gva, a->c.mode & MODE_AC ? ", AC" : "");
    if (a->want.fault)
        printk("#PF 0x%x", a->want.error);
    else
        printk("page 0x%lx", a->page);
    if (got->vector == PROBE_NO_FAULT)
        printk(", got page 0x%lx\n", got->value << PAGE_SHIFT);
    else
        printk(", got %s 0x%lx at 0x%lx\n", trap_name(got->vector), got->error, got->cr2);
}

void tables_compare(struct editor *e, const struct place *p)
{
    uint64_t is = __atomic_load_n(place_entry(p), __ATOMIC_ACQUIRE), *want = place_model(p);

    if (is == *want)
        return;
    if (tables_differ(e))
        printk("  entry of level %u for 0x%lx: expected 0x%lx, is 0x%lx\n", p->level, place_gva(p),
               *want, is);
    *want = is;
}

/* --- one access ------------------------------------------------------------------------- */

static void choose(struct editor *e, const struct place *p, struct access *a)
{
    unsigned r = editor_pick(e, 24);
    struct place at = *p;

    a->c = (struct access_case){ .paging = ACCESS_4_LEVEL,
                                 .op = (uint8_t)(r % 3),
                                 .user = r / 3 % 2,
                                 .gib_pages = cpu_features.gbpages };
    a->c.mode = (uint16_t)(MODE_WP | MODE_NXE | (cpu_features.smep ? MODE_SMEP : 0) |
                           (cpu_features.smap ? MODE_SMAP : 0) | (r / 6 == 0 ? MODE_AC : 0));
    for (at.level = 4; at.level; at.level--)
        a->c.entry[at.level] = entry_bits(*place_model(&at));
    access_predict(&a->c, &a->want);
    a->gva = place_gva(p);
    at.level = place_is_large(p) ? 2 : 1;
    a->page = *place_model(&at) & PTE_ADDR;
    if (at.level == 2)
        a->page += a->gva & (LARGE_SIZE - 1);
    if (a->c.op == ACCESS_FETCH)
        a->gva += a->c.user ? PAGE_CODE_HLT : PAGE_CODE_RET;
    else
        a->gva += a->c.op == ACCESS_WRITE ? PAGE_WORD(e->cpu) : PAGE_NUMBER;
}

/* In ring 3 interrupts are on: other CPUs' shootdowns come there. */
static void make(struct access *a)
{
    uint64_t flags = RFLAGS_FIXED | (a->c.mode & MODE_AC ? RFLAGS_AC : 0);
    uint64_t stub = (uint64_t)STUB_SLOT << 39;
    bool write = a->c.op == ACCESS_WRITE;

    if (a->c.op == ACCESS_FETCH)
        a->value = a->gva;
    else if (a->c.user)
        a->value = stub + (write ? PROBE_USER_WRITE : PROBE_USER_READ);
    else
        a->value = (uint64_t)(write ? probe_kernel_write : probe_kernel_read);
    probe(a->gva, a->value, flags | (a->c.user ? RFLAGS_IF : 0), a->c.user, &a->got);
}

/* Was the page that was read, written or run the right one? The write is taken back. */
static bool right_page(const struct editor *e, const struct access *a)
{
    volatile uint64_t *word = (volatile uint64_t *)phys_to_virt(a->page + PAGE_WORD(e->cpu));
    bool right;

    if (a->c.op != ACCESS_WRITE)
        return a->got.value == a->page >> PAGE_SHIFT;
    right = *word == a->value;
    *word = 0;
    return right;
}

static bool as_expected(const struct editor *e, const struct access *a)
{
    if (!a->want.fault)
        return a->got.vector == PROBE_NO_FAULT && right_page(e, a);
    return a->got.vector == TRAP_PF && a->got.cr2 == a->gva &&
           ((a->got.error ^ a->want.error) & ~(uint64_t)a->want.error_any) == 0;
}

/* A right that was added without a flush may be missed, once each address and CPU. */
static bool is_spurious(const struct place *p, const struct access *a)
{
    uint64_t error = ACCESS_ERROR_P | (a->c.user ? ACCESS_ERROR_U : 0) |
                     (a->c.op == ACCESS_WRITE ? ACCESS_ERROR_W : 0) |
                     (a->c.op == ACCESS_FETCH ? ACCESS_ERROR_I : 0);

    return !a->want.fault && a->got.vector == TRAP_PF && a->got.cr2 == a->gva &&
           a->got.error == error && p->w->stale >> (p->region * PAGES + p->page) & 1;
}

/* A and D, of the entries that the access used. What is open follows the entry. */
static void check_entries(struct editor *e, const struct place *p, const struct access *a)
{
    struct place at = *p;

    for (at.level = 4; at.level >= a->want.level; at.level--) {
        uint64_t *model = place_model(&at);

        if (a->want.accessed >> at.level & 1)
            *model |= PTE_ACCESSED;
        if (a->want.dirty >> at.level & 1)
            *model |= PTE_DIRTY;
        if (a->want.accessed_any >> at.level & 1)
            *model |= *place_entry(&at) & PTE_ACCESSED;
        tables_compare(e, &at);
    }
    /* Below, an entry may have been used before anybody asked for it. */
    for (; at.level && a->want.fault; at.level--)
        *place_model(&at) |= *place_entry(&at) & PTE_ACCESSED;
}

void tables_access(struct editor *e, const struct place *p)
{
    struct access a;

    choose(e, p, &a);
    make(&a);
    if (is_spurious(p, &a)) {
        tables_spurious();
        if (!p->w->shared) /* there, each other CPU may have one to come */
            p->w->stale &= ~(1u << (p->region * PAGES + p->page));
        make(&a);
    }
    if (!as_expected(e, &a) && tables_differ(e))
        print_access(&a);
    check_entries(e, p, &a);
}
