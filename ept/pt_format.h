/*
 * A table format as data: what pt_walk() needs to know about the entries of a
 * radix tree, whoever defined it. One file a format (format_x86.c).
 *
 *   input   .---------.---------.-----.---------.--------.
 *           | index N | index.. |     | index 1 | offset |
 *           '---------'---------'-----'---------'--------'
 *                |         |               |        |
 *   root -> table N -> table N-1 .. -> table 1 -> leaf + offset = output
 *
 * Levels are numbered as the manuals do: the root table is the highest, level 1
 * maps the smallest pages. A leaf may come above level 1, and maps more.
 */
#ifndef TWOFOLD_EPT_PT_FORMAT_H
#define TWOFOLD_EPT_PT_FORMAT_H

#include <stdbool.h>
#include <stdint.h>

#define PT_LEVELS_MAX 5

enum pt_leaf {
    PT_LEAF_NEVER,  /* the entry refers to a table */
    PT_LEAF_ALWAYS, /* the entry maps memory */
    PT_LEAF_BIT,    /* it maps memory when `leaf_bit` is set */
};

struct pt_level {
    const char *name; /* the manual's name for an entry here, "PDE" */
    uint8_t shift;    /* of the lowest input bit that selects an entry */
    uint8_t bits;     /* how many input bits select it */
    enum pt_leaf leaf;
    uint64_t leaf_bit;       /* for PT_LEAF_BIT */
    uint64_t leaf_addr;      /* bits of a leaf that are output address bits */
    uint64_t leaf_high;      /* more of them, which stand elsewhere, ... */
    uint8_t leaf_high_shift; /* ... and belong this many bits further up (PSE-36) */
    uint64_t leaf_reserved;  /* must be zero in a leaf */
    uint64_t table_reserved; /* must be zero in an entry that refers to a table */
    bool plain; /* has no rights, accessed or dirty bits: grants all (PDPTE of PAE paging) */
};

/* Rights of a walk: PT_RIGHT_READ and so on, or-ed. */
#define PT_RIGHT_READ  (1u << 0)
#define PT_RIGHT_WRITE (1u << 1)
#define PT_RIGHT_EXEC  (1u << 2)
#define PT_RIGHT_USER  (1u << 3) /* for ring 3; formats without that notion always grant it */
/* Of addresses that the guest's own tables give to ring 3: EPT with mode-based execute control;
 * anywhere else the same as PT_RIGHT_EXEC. */
#define PT_RIGHT_USER_EXEC (1u << 4)
#define PT_RIGHT_ALL       ((1u << 5) - 1)

/*
 * Which bits of an entry grant a right (0: granted by every present entry) and which
 * take one away. A walk has the rights that all of its entries grant.
 */
struct pt_rights {
    uint64_t read, write, exec, user;
    uint64_t no_exec;
    uint64_t user_exec; /* with pt_policy.mode_based */
};

/* Whose rules the checks after the walk follow, and who defines the error code. */
enum pt_rules {
    PT_RULES_X86, /* error code of #PF */
    PT_RULES_EPT, /* exit qualification of an EPT violation */
    PT_RULES_NPT, /* EXITINFO1 of a nested page fault */
    PT_RULES_VTD, /* fault reason of a DMA remapping fault */
};

struct pt_format {
    const char *name;
    uint8_t levels;      /* 0: no translation, output is input */
    uint8_t entry_bytes; /* 4 or 8 */
    uint8_t input_bits;  /* width of an input address */
    bool sign_extended;  /* bits above `input_bits` repeat the highest one; else they are zero */
    uint64_t present;    /* an entry is present when any of these bits is set */
    uint64_t table_addr; /* bits of an entry that are the next table's address */
    uint64_t root_addr;  /* bits of the root register that are the root table's address */
    enum pt_rules rules;
    struct pt_rights rights;
    uint64_t accessed; /* set by hardware in each entry used; 0: the format has none */
    uint64_t dirty;    /* set in the leaf by a write */
    struct pt_level level[PT_LEVELS_MAX + 1]; /* [0] is unused */
};

/*
 * What a CPU's mode adds to the rights of the entries. All false and zero: the format's own
 * rights alone, no accessed or dirty bits. Set by x86_pt_space() and its likes.
 */
struct pt_policy {
    bool ad;            /* accessed and dirty bits are kept */
    bool write_protect; /* CR0.WP */
    bool no_exec;       /* EFER.NXE: pt_rights.no_exec means something */
    bool smep, smap;    /* CR4 */
    bool ac;            /* RFLAGS.AC: SMAP is off for explicit accesses */
    bool pku, pks;      /* CR4.PKE, CR4.PKS */
    uint32_t pkru, pkrs;
    bool exec_only;  /* EPT: entries may grant execution without reading */
    bool mode_based; /* EPT: execution is granted to user and supervisor addresses separately */
    bool scalable;   /* VT-d: scalable mode, which has fault reasons of its own */
};

/* Bits that a present entry may not have: `value` under `mask`. */
struct pt_forbidden {
    uint64_t mask, value;
    bool leaf; /* only in leaves */
};

#define PT_FORBIDDEN_MAX 8

/*
 * One address space: a format, where its root table lies, and what this CPU in
 * its present mode reserves beyond what the format does.
 */
struct pt_space {
    const struct pt_format *format;
    uint64_t root;                             /* as in the root register; masked by the walker */
    uint64_t reserved[PT_LEVELS_MAX + 1];      /* by level, in every present entry */
    uint64_t leaf_reserved[PT_LEVELS_MAX + 1]; /* by level, in leaves */
    uint64_t present; /* any of these, too, makes an entry present (EPT, mode-based execution) */
    struct pt_policy policy;
    unsigned forbidden_count;
    struct pt_forbidden forbidden[PT_FORBIDDEN_MAX];
};

#endif
