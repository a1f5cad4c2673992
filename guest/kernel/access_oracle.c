/* The rules, in the manual's order. The numbers of the combinations are in access_plan.c. */
#include "guest/kernel/access_oracle.h"

unsigned access_levels(enum access_paging paging)
{
    static const uint8_t levels[] = {
        [ACCESS_32BIT] = 2, [ACCESS_PAE] = 3, [ACCESS_4_LEVEL] = 4, [ACCESS_5_LEVEL] = 5
    };

    return levels[paging];
}

static bool long_mode(const struct access_case *c)
{
    return c->paging == ACCESS_4_LEVEL || c->paging == ACCESS_5_LEVEL;
}

/* Execute-disable: only where entries have 64 bits (4.1.3). */
static bool has_nx(const struct access_case *c)
{
    return c->paging != ACCESS_32BIT && c->mode & MODE_NXE;
}

/* 4.3, 4.4 and 4.5: the tables "Use of CR3", "Format of an Entry that Maps a Page". */
bool access_is_leaf(const struct access_case *c, unsigned level)
{
    if (level == 1)
        return true;
    if (!(c->entry[level] & ENTRY_PS))
        return false;
    return level == 2 || (level == 3 && long_mode(c) && c->gib_pages);
}

/* Does a present entry have a bit that is reserved at its place? */
static bool reserved_bit(const struct access_case *c, unsigned level)
{
    uint16_t e = c->entry[level];

    if (e & ENTRY_LOW && level > 1 && access_is_leaf(c, level))
        return true;
    if (c->paging == ACCESS_32BIT)
        return false;
    if (e & ENTRY_HIGH)
        return true;
    if (e & ENTRY_NX && !(c->mode & MODE_NXE))
        return true;
    /* Bit 7 above the levels where it makes a page. */
    return e & ENTRY_PS && level > 2 && !access_is_leaf(c, level);
}

/* PAE's PDPTEs have neither rights nor an accessed bit: they are registers (4.4.1). */
static unsigned levels_with_rights(const struct access_case *c)
{
    return c->paging == ACCESS_PAE ? 2 : access_levels(c->paging);
}

struct translation {
    bool user_address; /* U/S is 1 in every entry */
    bool writable;     /* R/W is 1 in every entry */
    bool no_execute;   /* XD is 1 in some entry */
    bool keyed;        /* the leaf has the key whose rights the mode limits */
};

static struct translation attributes(const struct access_case *c, unsigned leaf)
{
    struct translation t = { .user_address = true, .writable = true };

    for (unsigned level = leaf; level <= levels_with_rights(c); level++) {
        if (!(c->entry[level] & ENTRY_US))
            t.user_address = false;
        if (!(c->entry[level] & ENTRY_RW))
            t.writable = false;
        if (c->entry[level] & ENTRY_NX)
            t.no_execute = true;
    }
    t.keyed = c->entry[leaf] & ENTRY_KEY;
    return t;
}

/*
 * 4.6.2 "Protection Keys": a key limits data accesses only. AD forbids all, WD writes; of
 * a supervisor's writes WD forbids only those that CR0.WP covers.
 */
static bool key_forbids(const struct access_case *c, const struct translation *t)
{
    bool ad, wd;

    if (!long_mode(c) || !t->keyed || c->op == ACCESS_FETCH)
        return false;
    if (t->user_address) {
        if (!(c->mode & MODE_PKE))
            return false;
        ad = c->mode & MODE_PKRU_AD;
        wd = c->mode & MODE_PKRU_WD;
    } else {
        if (!(c->mode & MODE_PKS))
            return false;
        ad = c->mode & MODE_PKRS_AD;
        wd = c->mode & MODE_PKRS_WD;
    }
    if (ad)
        return true;
    return wd && c->op == ACCESS_WRITE && (c->user || c->mode & MODE_WP);
}

/* 4.6.1 "Determination of Access Rights", the keys aside. */
static bool supervisor_may(const struct access_case *c, const struct translation *t)
{
    if (c->op == ACCESS_FETCH) {
        if (t->user_address && c->mode & MODE_SMEP)
            return false;
        return !has_nx(c) || !t->no_execute;
    }
    if (t->user_address && c->mode & MODE_SMAP && (c->implicit || !(c->mode & MODE_AC)))
        return false;
    if (c->op == ACCESS_READ)
        return true;
    return t->writable || !(c->mode & MODE_WP);
}

static bool user_may(const struct access_case *c, const struct translation *t)
{
    if (!t->user_address)
        return false;
    switch (c->op) {
    case ACCESS_WRITE:
        return t->writable;
    case ACCESS_FETCH:
        return !has_nx(c) || !t->no_execute;
    default:
        return true;
    }
}

/* 4.7: the flags that tell of the access, not of the entries. */
static unsigned error_of_access(const struct access_case *c)
{
    unsigned error = 0;

    if (c->op == ACCESS_WRITE)
        error |= ACCESS_ERROR_W;
    if (c->user)
        error |= ACCESS_ERROR_U;
    if (c->op == ACCESS_FETCH && (c->mode & MODE_SMEP || has_nx(c)))
        error |= ACCESS_ERROR_I;
    return error;
}

/* All entries from `lowest` up, as bits. */
static unsigned from_level(const struct access_case *c, unsigned lowest)
{
    unsigned bits = 0;

    for (unsigned level = lowest; level <= levels_with_rights(c); level++)
        bits |= 1u << level;
    return bits;
}

static void fault(const struct access_case *c, unsigned level, unsigned why,
                  struct access_outcome *out)
{
    out->fault = true;
    out->level = (uint8_t)level;
    out->error = (uint8_t)(error_of_access(c) | why);
    /* The entries above were used, so that their A may be set; this one gives no translation. */
    out->accessed_any = (uint8_t)from_level(c, level + 1);
}

static void fault_of_rights(const struct access_case *c, unsigned leaf, const struct translation *t,
                            bool key, struct access_outcome *out)
{
    /* 4.7 defines PK by the key alone, whatever else forbids the access as well. */
    fault(c, leaf, ACCESS_ERROR_P | (key ? ACCESS_ERROR_PK : 0), out);
    /* "Interrupt 14 - Page-Fault Exception (#PF)": A of the leaf is then up to the model. */
    out->accessed_any |= (uint8_t)(1u << leaf);
    /* A supervisor's key says nothing of user-mode accesses, which U/S forbids anyway. */
    if (key && c->user && !t->user_address)
        out->error_any = ACCESS_ERROR_PK;
}

void access_predict(const struct access_case *c, struct access_outcome *out)
{
    unsigned level = access_levels(c->paging);
    struct translation t;
    bool forbidden;

    *out = (struct access_outcome){ 0 };
    for (unsigned n = 1; n <= levels_with_rights(c); n++) {
        out->accessed |= (uint8_t)(c->entry[n] & ENTRY_A ? 1u << n : 0);
        out->dirty |= (uint8_t)(c->entry[n] & ENTRY_D ? 1u << n : 0);
    }
    for (;; level--) {
        if (!(c->entry[level] & ENTRY_P)) {
            fault(c, level, 0, out);
            return;
        }
        if (reserved_bit(c, level)) {
            fault(c, level, ACCESS_ERROR_P | ACCESS_ERROR_RSVD, out);
            return;
        }
        if (access_is_leaf(c, level))
            break;
    }
    t = attributes(c, level);
    forbidden = key_forbids(c, &t);
    if (forbidden || !(c->user ? user_may(c, &t) : supervisor_may(c, &t))) {
        fault_of_rights(c, level, &t, forbidden, out);
        return;
    }
    out->level = (uint8_t)level;
    out->accessed |= (uint8_t)from_level(c, level);
    if (c->op == ACCESS_WRITE)
        out->dirty |= (uint8_t)(1u << level);
}
