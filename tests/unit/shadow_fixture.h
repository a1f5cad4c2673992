/*
 * A CPU for the tests of shadow paging: it translates through the shadow's tables alone, in ring 3
 * as the real one does, has a TLB of its own that it empties only when it is told to, and asks
 * shadow_fault() where it misses. Each answer is held against pt_access() over the guest's tables.
 *
 *   sim_access() -> TLB -> tables in the pool -> miss: leave, shadow_fault(), enter, again
 *
 * Two kinds of hardware: with nested paging it also keeps where the last table of a path lies
 * (a paging-structure cache); without, a KVM in between keeps copies of entries until the page
 * that they are in is touched.
 */
#ifndef TWOFOLD_TESTS_UNIT_SHADOW_FIXTURE_H
#define TWOFOLD_TESTS_UNIT_SHADOW_FIXTURE_H

#include <stdint.h>

#include "ept/shadow.h"

#define SIM_CPUS    4
#define SIM_TLB     64
#define SIM_POOL    (UINT64_C(1) << 40) /* gpa; hidden as well */
#define SIM_HIDDEN  (UINT64_C(1) << 30)
#define SIM_NOWHERE (UINT64_C(1) << 41)

/* Bits of entries, short, as the tests are full of them. */
#define P   UINT64_C(0x1)
#define W   UINT64_C(0x2)
#define U   UINT64_C(0x4)
#define A   UINT64_C(0x20)
#define D   UINT64_C(0x40)
#define PS  UINT64_C(0x80)
#define NX  (UINT64_C(1) << 63)
#define ADR UINT64_C(0x000ffffffffff000)

struct sim_tlb {
    bool valid, write, exec;
    uint64_t root, page, frame;
};

struct sim_cpu {
    struct shadow_mode mode;
    uint64_t root; /* the page's number; 0: none yet */
    bool inside, told;
    struct shadow_flush flush;
    struct sim_tlb tlb[SIM_TLB];
    struct sim_tlb last_table[SIM_TLB]; /* .page: address >> 21; .frame: page of the pool */
};

struct sim {
    struct shadow *s;
    struct shadow_config cfg;
    uint8_t *ram;
    uint64_t ram_bytes, guarded; /* `guarded`: a gpa that can't be read; 0: none */
    uint64_t *pool, *kvm;        /* `kvm`: its copies, by entry; NULL: nested paging */
    struct sim_cpu cpu[SIM_CPUS];
    void (*wrote)(uint64_t at);
    uint64_t next_table; /* for sim_map() */
    uint64_t faults, crowded;
};

/* `ram_bytes` of memory that nobody touched costs nothing. */
void sim_make(struct sim *sim, uint64_t ram_bytes, size_t pool_pages, unsigned cpus, bool nested);
void sim_drop(struct sim *sim);

uint64_t *sim_word(struct sim *sim, uint64_t at);
/* A table of zeros in the guest's RAM. */
uint64_t sim_table(struct sim *sim);
/* The entry of `level` for `address`; tables above it are made, with all rights. */
uint64_t *sim_entry(struct sim *sim, uint64_t cr3, uint64_t address, unsigned level);

/* Control registers of a usual 64-bit kernel: WP, NXE. */
struct shadow_mode sim_mode(uint64_t cr3, bool user);
/* The CPU is in this mode from now on. Nothing is flushed. */
void sim_set(struct sim *sim, unsigned cpu, const struct shadow_mode *mode);
void sim_enter(struct sim *sim, unsigned cpu);
void sim_leave(struct sim *sim, unsigned cpu);
void sim_sync(struct sim *sim, unsigned cpu);
void sim_invlpg(struct sim *sim, unsigned cpu, uint64_t address);

/*
 * An access: SHADOW_FILLED when it was made, its address in *at then; else why not. SHADOW_AGREES:
 * it may be made, but not by this CPU. Ends the test when the shadow's answer isn't the guest's
 * tables'.
 */
enum shadow_result sim_access(struct sim *sim, unsigned cpu, uint64_t address, enum pt_op op,
                              uint64_t *at);
/* The same, made of one shadow_fault() at a time; *faults counts them. */
enum shadow_result sim_access_counted(struct sim *sim, unsigned cpu, uint64_t address,
                                      enum pt_op op, uint64_t *at, unsigned *faults);

/* A CPU inside the guest may look ahead at any time, without a fault: would it find something? */
bool sim_peek(struct sim *sim, unsigned cpu, uint64_t address, enum pt_op op, uint64_t *at);

/* pt_access() over the guest's tables as they are. */
enum pt_fault sim_ask(struct sim *sim, unsigned cpu, uint64_t address, enum pt_op op,
                      struct pt_walk *walk);

#endif
