/*
 * An oracle of x86 access rights: says from the manual's rules alone whether an access faults,
 * with which error code, and which accessed and dirty bits are set after it; and numbers the
 * combinations of entries, modes and accesses that are worth asking about. It knows no
 * address and no table: whoever tests builds those. It shares nothing with the walkers that it
 * judges, and needs no library, as it is compiled into the kernel and into a unit test.
 *
 * Intel SDM vol. 3A, chapter 4 "Paging": 4.1.3 "Paging-Mode Modifiers", 4.6 "Access Rights",
 * 4.7 "Page-Fault Exceptions", 4.8 "Accessed and Dirty Flags".
 */
#ifndef GUEST_KERNEL_ACCESS_ORACLE_H
#define GUEST_KERNEL_ACCESS_ORACLE_H

#include <stdbool.h>
#include <stdint.h>

#define ACCESS_LEVELS 5

enum access_paging {
    ACCESS_32BIT, /* with CR4.PSE */
    ACCESS_PAE,
    ACCESS_4_LEVEL,
    ACCESS_5_LEVEL,
};

/* What is in an entry. The address is not: a table's, or the page's that belongs to the level. */
#define ENTRY_P         (1u << 0)
#define ENTRY_RW        (1u << 1)
#define ENTRY_US        (1u << 2)
#define ENTRY_A         (1u << 3)
#define ENTRY_D         (1u << 4) /* ignored in an entry that refers to a table */
#define ENTRY_PS        (1u << 5) /* bit 7: in a PTE it is PAT and means nothing here */
#define ENTRY_NX        (1u << 6) /* bit 63 */
#define ENTRY_HIGH      (1u << 7) /* an address bit beyond MAXPHYADDR: reserved */
#define ENTRY_LOW       (1u << 8) /* in a large leaf: its lowest reserved bit; else nothing */
#define ENTRY_IGNORED   (1u << 9) /* all bits that such an entry ignores, and PAT of a large leaf */
#define ENTRY_KEY       (1u << 10) /* bits 62 to 59 hold ACCESS_KEY; else they are 0 */
#define ENTRY_PERMITTED (ENTRY_P | ENTRY_RW | ENTRY_US)

#define ACCESS_KEY 10u

/* The CPU's mode. The rights of protection key 0 are always all. */
#define MODE_WP      (1u << 0)
#define MODE_NXE     (1u << 1)
#define MODE_SMEP    (1u << 2)
#define MODE_SMAP    (1u << 3)
#define MODE_AC      (1u << 4)
#define MODE_PKE     (1u << 5)
#define MODE_PKRU_AD (1u << 6) /* PKRU denies accesses with ACCESS_KEY, ... */
#define MODE_PKRU_WD (1u << 7) /* ... or writes */
#define MODE_PKS     (1u << 8)
#define MODE_PKRS_AD (1u << 9)
#define MODE_PKRS_WD (1u << 10)
#define MODE_ALL     ((1u << 11) - 1)

enum access_op { ACCESS_READ, ACCESS_WRITE, ACCESS_FETCH };

struct access_case {
    uint8_t paging; /* enum access_paging */
    uint8_t op;     /* enum access_op */
    bool user;      /* a user-mode access */
    bool implicit;  /* a supervisor-mode access of the CPU's own, to a GDT or TSS */
    bool gib_pages; /* the CPU has pages of 1 GiB */
    uint16_t mode;  /* MODE_* */
    uint16_t entry[ACCESS_LEVELS + 1]; /* ENTRY_*, by level; [0] is unused */
};

/* The error code of #PF. */
#define ACCESS_ERROR_P    (1u << 0)
#define ACCESS_ERROR_W    (1u << 1)
#define ACCESS_ERROR_U    (1u << 2)
#define ACCESS_ERROR_RSVD (1u << 3)
#define ACCESS_ERROR_I    (1u << 4)
#define ACCESS_ERROR_PK   (1u << 5)

struct access_outcome {
    bool fault;
    uint8_t level;        /* of the leaf, or of the entry that ended the translation */
    uint8_t error;        /* ACCESS_ERROR_* */
    uint8_t error_any;    /* those of its bits that the manual leaves open */
    uint8_t accessed;     /* bit n: A of the entry of level n, after the access */
    uint8_t accessed_any; /* those of which the manual leaves open whether a fault sets them */
    uint8_t dirty;        /* the same for D: never open */
};

/* Number of levels, 2 to 5. */
unsigned access_levels(enum access_paging paging);

/* Does an entry of this level with these bits map a page? (P aside; PS of a PML4E is reserved.) */
bool access_is_leaf(const struct access_case *c, unsigned level);

/* What the manual says of this access. */
void access_predict(const struct access_case *c, struct access_outcome *out);

/* --- which combinations there are ------------------------------------------------------ */

/* What a CPU offers: combinations that need more are not numbered. */
struct access_machine {
    enum access_paging paging;
    bool gib_pages; /* without them, PS in a PDPTE is a reserved bit */
    bool implicit;  /* implicit accesses can be made */
    bool high;      /* MAXPHYADDR is below 52: an entry has reserved address bits */
    uint16_t modes; /* MODE_* that can be set */
};

/*
 * The plan: blocks of combinations, each a full product.
 *   rights  RW, US, NX of all entries x WP, NXE, SMEP, SMAP, AC x access
 *   entry   all bits of one entry x the same modes x access, the others permissive
 *   keys    RW, US, key of the leaf, US and key above x all modes of keys, WP, SMAP, AC x access
 *   pairs   P, A, D, PS, NX and the reserved bits of two entries x NXE x access
 * Each for every size of page.
 */
enum access_block_kind { ACCESS_RIGHTS, ACCESS_ENTRY, ACCESS_KEYS, ACCESS_PAIRS };

struct access_block {
    uint64_t first, count; /* indices */
    uint8_t kind;          /* enum access_block_kind */
    uint8_t leaf;          /* level whose PS is set (1: none is) */
    uint8_t one, other;    /* levels whose bits vary (entry, pairs) */
    uint8_t accesses;      /* how many kinds of access */
    uint16_t modes;        /* MODE_* that vary */
    uint16_t bits, bits2;  /* ENTRY_* that vary, of `one` and `other` */
};

#define ACCESS_BLOCKS_MAX 48

struct access_plan {
    struct access_machine machine;
    uint64_t total; /* combinations */
    unsigned n_blocks;
    struct access_block block[ACCESS_BLOCKS_MAX];
};

/* Fills *plan for a machine. */
void access_plan_make(struct access_plan *plan, const struct access_machine *machine);

/* Combination `index` < total. The same plan gives the same for an index, always. */
void access_plan_case(const struct access_plan *plan, uint64_t index, struct access_case *c);

#endif
