/* Entries in words: each format's names in their order, and only where they mean something. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "ept/decode.h"
#include "ept/format_ept.h"
#include "ept/format_npt.h"
#include "ept/format_vtd.h"
#include "ept/format_x86.h"

#define NX X86_PTE_NX

static struct pt_space x86(uint64_t cr4, uint64_t efer)
{
    struct x86_paging regs = {
        .cr0 = X86_CR0_PG, .cr4 = cr4, .efer = efer, .phys_bits = 46, .gib_pages = true
    };
    struct pt_space space;

    x86_pt_space(&space, &regs);
    return space;
}

static void assert_words(const struct pt_space *space, unsigned level, uint64_t raw,
                         const char *want)
{
    char buf[PT_DESCRIBE_MAX];

    assert_int_equal(pt_describe(space, level, raw, buf, sizeof(buf)), strlen(want));
    assert_string_equal(buf, want);
}

static void long_mode_words(void **state)
{
    struct pt_space s = x86(X86_CR4_PAE, X86_EFER_LMA | X86_EFER_NXE);

    (void)state;
    assert_words(&s, 1, 0, "-");
    assert_words(&s, 1, 0xfff0, "-"); /* what is not present means nothing else */
    assert_words(&s, 1, 0x1000 | 0x1ff | NX, "P W U PWT PCD A D PAT G NX");
    assert_words(&s, 2, 0x200000 | 0xe7 | NX, "P W U A D PS NX");
    assert_words(&s, 2, 0x200000 | 0x11e7, "P W U A D PS PAT G");
    assert_words(&s, 2, 0x1000 | 0x167, "P W U A"); /* bits 6 and 8 of a table are ignored */
    assert_words(&s, 3, 0x40000000 | 0x81, "P PS");
    assert_words(&s, 4, 0x1000 | 0x81, "P RSVD");
    assert_words(&s, 2, 0x202000 | 0x81, "P PS RSVD");
    assert_words(&s, 1, UINT64_C(1) << 46 | 1, "P RSVD");
    assert_words(&s, 1, UINT64_C(5) << 59 | 1, "P"); /* keys are off: ignored bits */
    s.policy.pku = true;
    assert_words(&s, 1, UINT64_C(5) << 59 | 1, "P PK=5");
    assert_words(&s, 1, UINT64_C(0xffff) << 48 >> 1 << 1 | 1 | NX, "P PK=15 NX RSVD");
    assert_words(&s, 2, UINT64_C(5) << 59 | 1, "P"); /* a table has none */
    s = x86(X86_CR4_PAE, X86_EFER_LMA);
    assert_words(&s, 1, 1 | NX, "P RSVD"); /* without EFER.NXE the bit has to be zero */
}

static void older_modes(void **state)
{
    struct pt_space s = x86(X86_CR4_PAE, X86_EFER_NXE);

    (void)state;
    assert_words(&s, 3, 0x1000 | 0x19, "P PWT PCD"); /* PAE's PDPTE has no rights */
    assert_words(&s, 3, 0x1000 | 0x3, "P RSVD");
    s = x86(0, 0);
    assert_words(&s, 2, 0x1000 | 0xe7, "P W U A"); /* no PSE: bit 7 is ignored */
    s = x86(X86_CR4_PSE, 0);
    assert_words(&s, 2, 0x400000 | 0xe7, "P W U A D PS");
}

static void nested_formats(void **state)
{
    struct ept_paging regs = { .eptp = EPTP_WRITE_BACK | 3 << 3 | EPTP_AD,
                               .phys_bits = 46,
                               .large_2m = true };
    struct npt_paging npt = { .efer = X86_EFER_NXE, .phys_bits = 46 };
    struct pt_space s;

    (void)state;
    assert_int_equal(ept_pt_space(&s, &regs), 0);
    assert_words(&s, 1, 0, "-");
    assert_words(&s, 1, UINT64_C(0xdeadb000) | 0x337, "R W X A D WB");
    assert_words(&s, 1, 0x1000 | 0x45, "R X UC IPAT");
    assert_words(&s, 2, 0x200000 | 0x3b7, "R W X A D WB 2M");
    assert_words(&s, 2, 0x1000 | 0x307, "R W X A");
    assert_words(&s, 2, 0x1000 | 0x37, "R W X RSVD");           /* a table has no memory type */
    assert_words(&s, 3, 0x40000000 | 0xb7, "R W X WB 1G RSVD"); /* the CPU has none */
    assert_words(&s, 1, 0x1000 | 0x32, "W WB RSVD");
    assert_words(&s, 1, 0x1000 | 0x3f, "R W X type=7 RSVD");
    assert_words(&s, 1, 0x1000 | 0x400, "-");
    regs.mode_based = true;
    regs.exec_only = true;
    regs.eptp &= ~EPTP_AD;
    assert_int_equal(ept_pt_space(&s, &regs), 0);
    assert_words(&s, 1, 0x1000 | 0x730, "XU WB");
    npt_pt_space(&s, &npt);
    assert_words(&s, 1, 0x1000 | 0x167 | NX, "P W U A D NX"); /* no global pages */
}

static void device_format(void **state)
{
    struct vtd_paging regs = {
        .levels = 4, .phys_bits = 46, .large_2m = true, .large_1g = true, .snoop = true
    };
    struct pt_space s;

    (void)state;
    assert_int_equal(vtd_pt_space(&s, &regs), 0);
    assert_words(&s, 1, 0x1000, "-");
    assert_words(&s, 1, 0x1000 | 0xb03, "R W SNP"); /* no accessed and dirty bits here */
    assert_words(&s, 2, 0x200000 | 0x82, "W 2M");
    assert_words(&s, 3, 0x40000000 | 0x81, "R 1G");
    regs.snoop = false;
    regs.scalable = regs.ad = true;
    assert_int_equal(vtd_pt_space(&s, &regs), 0);
    assert_words(&s, 1, 0x1000 | 0x303, "R W A D");
    assert_words(&s, 1, 0x1000 | 0x803, "R W SNP RSVD");
}

static void short_buffers(void **state)
{
    struct pt_space s = x86(X86_CR4_PAE, X86_EFER_LMA | X86_EFER_NXE);
    const char *want = "P W U A D PS NX";
    char buf[PT_DESCRIBE_MAX];

    (void)state;
    for (size_t size = 0; size <= strlen(want) + 1; size++) {
        memset(buf, 'x', sizeof(buf));
        assert_int_equal(pt_describe(&s, 2, 0xe7 | NX, buf, size), strlen(want));
        assert_int_equal(buf[size], 'x');
        if (size == 0)
            continue;
        assert_int_equal(strlen(buf), size - 1);
        assert_memory_equal(buf, want, size - 1);
    }
    assert_int_equal(pt_describe(&s, 2, 0xe7 | NX, NULL, 0), strlen(want));
}

/* All that can be named at once has to fit. */
static void the_longest_fits(void **state)
{
    struct pt_space s[3] = { x86(X86_CR4_PAE, X86_EFER_LMA | X86_EFER_NXE) };
    struct ept_paging ept = { .eptp = EPTP_WRITE_BACK | 3 << 3 | EPTP_AD,
                              .phys_bits = 32,
                              .mode_based = true };

    (void)state;
    s[0].policy.pku = true;
    assert_int_equal(ept_pt_space(&s[1], &ept), 0);
    assert_int_equal(vtd_pt_space(&s[2],
                                  &(struct vtd_paging){
                                      .levels = 4, .phys_bits = 32, .scalable = true, .ad = true }),
                     0);
    for (unsigned i = 0; i < 3; i++)
        for (unsigned n = 1; n <= 4; n++)
            assert_true(pt_describe(&s[i], n, ~UINT64_C(0), NULL, 0) < PT_DESCRIBE_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(long_mode_words), cmocka_unit_test(older_modes),
        cmocka_unit_test(nested_formats),  cmocka_unit_test(device_format),
        cmocka_unit_test(short_buffers),   cmocka_unit_test(the_longest_fits),
    };

    return cmocka_run_group_tests_name("decode", tests, NULL, NULL);
}
