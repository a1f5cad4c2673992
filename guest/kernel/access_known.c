/*
 * Known differences of machines: each is one rule of one machine, and is recognised by just what
 * it does. They are counted and named, not ignored.
 */
#include "guest/kernel/access_test.h"

#include "guest/kernel/cpu.h"
#include "guest/kernel/string.h"
#include "guest/kernel/trap.h"

static bool on_tcg;

/* The brand of QEMU's emulated CPU is what a KVM inside of it shows its guests, too. */
void access_known_detect(void)
{
    static const char brand[] = "QEMU TCG CPU";
    struct cpuid_result r = { 0 };

    if (cpuid(0x80000000, 0).eax >= 0x80000002)
        r = cpuid(0x80000002, 0);
    on_tcg = memcmp(&r, brand, sizeof(brand) - 1) == 0;
}

bool access_known_tcg(void)
{
    return on_tcg;
}

static bool only_error_differs(const struct access_outcome *want, const struct access_result *got,
                               uint64_t error)
{
    return want->fault && got->vector == TRAP_PF && got->error == error && !got->other &&
           got->dirty == want->dirty;
}

const char *access_known(const struct access_case *c, const struct access_outcome *want,
                         const struct access_result *got)
{
    (void)c;
    if (on_tcg && want->error & ACCESS_ERROR_RSVD &&
        only_error_differs(want, got, want->error & ~(uint64_t)ACCESS_ERROR_P))
        return "QEMU's emulation: no P in the error code of a reserved bit's fault";
    return NULL;
}
