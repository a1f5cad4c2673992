/* The list of the kernel's checks of itself, and how they are run. */
#include "guest/kernel/selftest.h"

#include "guest/kernel/printk.h"
#include "guest/kernel/selftest_list.h"

static const struct {
    const char *name;
    void (*run)(struct selftest *t);
} tests[] = {
    { "buddy: split, merge, alignment", selftest_buddy },
    { "buddy: zero blocks are zero, dirty ones get cleared", selftest_zero },
    { "pages: reference counts", selftest_references },
    { "heap: size classes do not overlap", selftest_heap },
    { "heap: slabs and large blocks go back", selftest_heap_returns },
    { "aspace: map, look up, protect, unmap", selftest_aspace },
    { "aspace: bad requests are refused", selftest_aspace_refuses },
    { "aspace: large pages", selftest_aspace_large },
    { "aspace: pages of 1 GiB", selftest_aspace_huge },
    { "aspace: destroying one gives all of it back", selftest_aspace_returns },
    { "tlb: every CPU answers a shootdown", selftest_shootdown },
    { "tables: no page is writable and executable", selftest_wx },
    { "tables: text RX, rodata R, data RW, direct map NX", selftest_rights },
    { "tables: nothing is mapped below the upper half", selftest_low_half },
    { "stacks: guards are unmapped, stacks are not", selftest_stacks },
    { "faults: a write to rodata, a read of a guard fault", selftest_faults },
    { "mmio: a window for each range, once", selftest_mmio },
    { "clock: runs forwards", selftest_clock },
    { "printk: formats", selftest_format },
};

#define COUNT (sizeof(tests) / sizeof(*tests))

bool kernel_selftest_one(unsigned index, const char **name, bool *passed, char *detail, size_t size)
{
    struct selftest t = { .detail = detail, .size = size };

    if (index >= COUNT)
        return false;
    if (size)
        detail[0] = '\0';
    *name = tests[index].name;
    tests[index].run(&t);
    *passed = !t.failed;
    return true;
}

struct selftest_result kernel_selftest(void)
{
    struct selftest_result r = { 0 };
    char detail[128];
    const char *name;
    bool passed;

    for (unsigned i = 0; kernel_selftest_one(i, &name, &passed, detail, sizeof(detail)); i++) {
        if (passed) {
            r.passed++;
            continue;
        }
        r.failed++;
        printk("kernel: check failed: %s: %s\n", name, detail);
    }
    return r;
}
