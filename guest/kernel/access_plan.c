/*
 * The numbers of the combinations: an index is cut into digits, one for each thing that
 * varies in its block.
 */
#include "guest/kernel/access_oracle.h"

#define RIGHTS      (ENTRY_RW | ENTRY_US | ENTRY_NX)
#define MODES_BASIC (MODE_WP | MODE_NXE | MODE_SMEP | MODE_SMAP | MODE_AC)
#define MODES_KEYS                                                                       \
    (MODE_WP | MODE_SMAP | MODE_AC | MODE_PKE | MODE_PKRU_AD | MODE_PKRU_WD | MODE_PKS | \
     MODE_PKRS_AD | MODE_PKRS_WD)
#define RESERVED (ENTRY_P | ENTRY_A | ENTRY_D | ENTRY_PS | ENTRY_NX | ENTRY_HIGH | ENTRY_LOW)

static const struct {
    uint8_t op;
    bool user, implicit;
} accesses[] = {
    { ACCESS_READ, false, false }, { ACCESS_WRITE, false, false }, { ACCESS_FETCH, false, false },
    { ACCESS_READ, true, false },  { ACCESS_WRITE, true, false },  { ACCESS_FETCH, true, false },
    { ACCESS_READ, false, true },  { ACCESS_WRITE, false, true },
};

#define EXPLICIT_ACCESSES 6
#define ALL_ACCESSES      8

/* No POPCNT, and no library function for it, in the kernel. */
static unsigned bits_in(unsigned mask)
{
    unsigned n = 0;

    for (; mask; mask &= mask - 1)
        n++;
    return n;
}

/* Takes as many bits off the index as the mask has, and lays them into the mask's. */
static unsigned take_bits(uint64_t *index, unsigned mask)
{
    unsigned out = 0;

    for (; mask; mask &= mask - 1, *index >>= 1)
        if (*index & 1)
            out |= mask & -mask;
    return out;
}

/* PAE's PDPTEs are checked when CR3 is loaded, not by an access: they do not vary. */
static unsigned top_level(const struct access_machine *m)
{
    return m->paging == ACCESS_PAE ? 2 : access_levels(m->paging);
}

static unsigned largest_leaf(const struct access_machine *m)
{
    return m->paging >= ACCESS_4_LEVEL && m->gib_pages ? 3 : 2;
}

/* The bits that can vary at a level. */
static unsigned bits_at(const struct access_machine *m, unsigned level)
{
    unsigned bits = ENTRY_PERMITTED | ENTRY_A | ENTRY_D | ENTRY_PS | ENTRY_IGNORED;

    if (m->paging != ACCESS_32BIT)
        bits |= ENTRY_NX | (m->high ? ENTRY_HIGH : 0);
    if (m->paging >= ACCESS_4_LEVEL)
        bits |= ENTRY_KEY;
    if (level == 2 || level == 3)
        bits |= ENTRY_LOW;
    return bits;
}

static void add(struct access_plan *plan, struct access_block b)
{
    unsigned bits = bits_in(b.bits) + bits_in(b.bits2) + bits_in(b.modes);

    if (b.kind == ACCESS_RIGHTS)
        bits = bits_in(b.bits) * (top_level(&plan->machine) - b.leaf + 1) + bits_in(b.modes);
    b.first = plan->total;
    b.count = (uint64_t)b.accesses << bits;
    plan->total += b.count;
    plan->block[plan->n_blocks++] = b;
}

static void add_for_leaf(struct access_plan *plan, unsigned leaf)
{
    const struct access_machine *m = &plan->machine;
    unsigned top = top_level(m);
    struct access_block b = { .leaf = (uint8_t)leaf };

    b.accesses = m->implicit ? ALL_ACCESSES : EXPLICIT_ACCESSES;
    b.modes = MODES_BASIC & m->modes;
    b.kind = ACCESS_RIGHTS;
    b.bits = RIGHTS & (uint16_t)bits_at(m, 1);
    add(plan, b);
    b.kind = ACCESS_ENTRY;
    for (unsigned level = leaf; level <= top; level++) {
        b.one = (uint8_t)level;
        b.bits = (uint16_t)bits_at(m, level);
        add(plan, b);
    }
    if (m->paging >= ACCESS_4_LEVEL && m->modes & (MODE_PKE | MODE_PKS)) {
        b.kind = ACCESS_KEYS;
        b.modes = MODES_KEYS & m->modes;
        b.one = (uint8_t)leaf;
        b.other = (uint8_t)(leaf + 1);
        b.bits = ENTRY_RW | ENTRY_US | ENTRY_KEY;
        b.bits2 = ENTRY_US | ENTRY_KEY;
        add(plan, b);
    }
    b.kind = ACCESS_PAIRS;
    b.accesses = EXPLICIT_ACCESSES;
    b.modes = MODE_NXE & m->modes;
    for (unsigned one = leaf; one < top; one++) {
        for (unsigned other = one + 1; other <= top; other++) {
            b.one = (uint8_t)one;
            b.other = (uint8_t)other;
            b.bits = RESERVED & (uint16_t)bits_at(m, one);
            b.bits2 = RESERVED & (uint16_t)bits_at(m, other);
            add(plan, b);
        }
    }
}

void access_plan_make(struct access_plan *plan, const struct access_machine *machine)
{
    *plan = (struct access_plan){ .machine = *machine };
    for (unsigned leaf = 1; leaf <= largest_leaf(machine); leaf++)
        add_for_leaf(plan, leaf);
}

static void permit_all(const struct access_plan *plan, unsigned leaf, struct access_case *c)
{
    *c = (struct access_case){ .paging = (uint8_t)plan->machine.paging,
                               .gib_pages = plan->machine.gib_pages };
    for (unsigned level = 1; level <= access_levels(plan->machine.paging); level++)
        c->entry[level] = ENTRY_PERMITTED;
    if (plan->machine.paging == ACCESS_PAE)
        c->entry[3] = ENTRY_P;
    if (leaf == 2 || leaf == 3)
        c->entry[leaf] |= ENTRY_PS;
}

static void vary(uint16_t *entry, unsigned mask, uint64_t *rest)
{
    *entry = (uint16_t)((*entry & ~mask) | take_bits(rest, mask));
}

void access_plan_case(const struct access_plan *plan, uint64_t index, struct access_case *c)
{
    const struct access_block *b = plan->block;
    uint64_t rest;
    unsigned access;

    while (index - b->first >= b->count)
        b++;
    permit_all(plan, b->leaf, c);
    rest = (index - b->first) / b->accesses;
    access = (unsigned)((index - b->first) % b->accesses);
    c->op = accesses[access].op;
    c->user = accesses[access].user;
    c->implicit = accesses[access].implicit;
    c->mode = (uint16_t)take_bits(&rest, b->modes);
    if (b->kind == ACCESS_RIGHTS) {
        for (unsigned level = b->leaf; level <= top_level(&plan->machine); level++)
            vary(&c->entry[level], b->bits, &rest);
        return;
    }
    vary(&c->entry[b->one], b->bits, &rest);
    if (b->bits2)
        vary(&c->entry[b->other], b->bits2, &rest);
}
