/* Kernels that must start: what is loaded where, and what the kernel is told. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/boot_fixture.h"

#define MIB     (UINT64_C(1) << 20)
#define LOAD_AT 0x200000u

static struct fixture f;

static int start(void **state)
{
    (void)state;
    return fixture_start(&f, 64);
}

static int stop(void **state)
{
    (void)state;
    fixture_stop(&f);
    return 0;
}

/* Two segments; the second one has more memory than file. */
static struct image_spec pvh_spec(bool is_64bit, unsigned note_bytes)
{
    return (struct image_spec){
        .is_64bit = is_64bit,
        .entry = 0xdead,
        .segment = { { .paddr = LOAD_AT, .filesz = 5000, .memsz = 5000, .fill = 'a' },
                     { .paddr = 0x210000, .filesz = 100, .memsz = 9000, .fill = 'b' } },
        .segments = 2,
        .note_bytes = note_bytes,
        .note_entry = LOAD_AT + 16,
    };
}

static struct image_spec multiboot_spec(uint32_t flags)
{
    return (struct image_spec){
        .entry = LOAD_AT + 12,
        .segment = { { .paddr = LOAD_AT, .filesz = 3000, .memsz = 4096, .fill = 'm' } },
        .segments = 1,
        .multiboot = true,
        .multiboot_flags = flags,
    };
}

static void load_ok(const char *initrd, const char *cmdline)
{
    int rc = fixture_load(&f, initrd, cmdline);

    if (rc < 0)
        print_error("%s\n", f.err.text);
    assert_int_equal(rc, 0);
}

static void check_bytes(uint64_t at, uint64_t len, uint8_t value)
{
    for (uint64_t i = 0; i < len; i++)
        assert_int_equal(fixture_u8(&f, at + i), value);
}

/* --- PVH -------------------------------------------------------------------------- */

static void check_pvh(bool is_64bit, unsigned note_bytes, unsigned note_align)
{
    struct image_spec spec = pvh_spec(is_64bit, note_bytes);

    spec.note_align = note_align;
    image_elf(&f.img, &spec);
    load_ok(NULL, "one two");
    assert_int_equal(f.entry.protocol, BOOT_PVH);
    assert_int_equal(f.entry.eip, LOAD_AT + 16);
    assert_int_equal(f.entry.image_end.v, 0x210000 + 9000);
    check_bytes(LOAD_AT, 5000, 'a');
    check_bytes(0x210000, 100, 'b');
    check_bytes(0x210000 + 100, 8900, 0);
}

static void pvh_elf32(void **state)
{
    (void)state;
    check_pvh(false, 4, 4);
}

static void pvh_elf64_with_both_note_sizes(void **state)
{
    (void)state;
    check_pvh(true, 8, 4);
    check_pvh(true, 4, 4);
    check_pvh(true, 8, 1);
}

/* start_info.h, version 1, by offset. */
static void pvh_start_information(void **state)
{
    struct image_spec spec = pvh_spec(true, 4);
    uint64_t info, map;

    (void)state;
    image_elf(&f.img, &spec);
    load_ok(NULL, "console=ttyS0");
    info = f.entry.ebx;
    assert_int_equal(fixture_u32(&f, info), 0x336ec578);
    assert_int_equal(fixture_u32(&f, info + 4), 1);
    assert_int_equal(fixture_u32(&f, info + 8), 0);
    assert_int_equal(fixture_u32(&f, info + 12), 0);
    assert_int_equal(fixture_u64(&f, info + 16), 0);
    assert_string_equal(fixture_text(&f, fixture_u64(&f, info + 24)), "console=ttyS0");
    assert_int_equal(fixture_u64(&f, info + 32), RSDP);
    map = fixture_u64(&f, info + 40);
    assert_int_equal(fixture_u32(&f, info + 48), 3);
    assert_int_equal(fixture_u64(&f, map), 0);
    assert_int_equal(fixture_u64(&f, map + 8), 0x9fc00);
    assert_int_equal(fixture_u32(&f, map + 16), 1);
    assert_int_equal(fixture_u64(&f, map + 24), 0x9fc00);
    assert_int_equal(fixture_u64(&f, map + 32), 0x60400);
    assert_int_equal(fixture_u32(&f, map + 40), 2);
    assert_int_equal(fixture_u64(&f, map + 48), MIB);
    assert_int_equal(fixture_u64(&f, map + 56), 63 * MIB);
    assert_int_equal(fixture_u32(&f, map + 64), 1);
}

static void memory_map_goes_around_the_hole(void **state)
{
    struct image_spec spec = pvh_spec(true, 4);
    uint64_t map;

    (void)state;
    memory_destroy(f.mem);
    f.mem = NULL;
    assert_int_equal(memory_create(&f.mem, 5 * 1024 * MIB, MEM_ANON, NULL), 0);
    image_elf(&f.img, &spec);
    load_ok(NULL, "");
    map = fixture_u64(&f, f.entry.ebx + 40);
    assert_int_equal(fixture_u32(&f, f.entry.ebx + 48), 4);
    assert_int_equal(fixture_u64(&f, map + 48) + fixture_u64(&f, map + 56), 3 * 1024 * MIB);
    assert_int_equal(fixture_u64(&f, map + 72), 4 * 1024 * MIB);
    assert_int_equal(fixture_u64(&f, map + 80), 2 * 1024 * MIB);
    assert_int_equal(fixture_u32(&f, map + 88), 1);
}

/* Part of a 64-bit kernel may lie above the hole. */
static void segment_above_4_gib(void **state)
{
    struct image_spec spec = pvh_spec(true, 4);

    (void)state;
    memory_destroy(f.mem);
    f.mem = NULL;
    assert_int_equal(memory_create(&f.mem, 5 * 1024 * MIB, MEM_ANON, NULL), 0);
    spec.segment[1].paddr = 5 * 1024 * MIB;
    image_elf(&f.img, &spec);
    load_ok(NULL, "");
    check_bytes(5 * 1024 * MIB, 100, 'b');
}

static void pvh_initrd_is_at_the_top(void **state)
{
    struct image_spec spec = pvh_spec(true, 4);
    uint64_t list, at;

    (void)state;
    image_elf(&f.img, &spec);
    fixture_file(f.initrd, "I", 1, 5001);
    load_ok(f.initrd, "");
    assert_int_equal(fixture_u32(&f, f.entry.ebx + 12), 1);
    list = fixture_u64(&f, f.entry.ebx + 16);
    at = fixture_u64(&f, list);
    assert_int_equal(at, 64 * MIB - 8192);
    assert_int_equal(fixture_u64(&f, list + 8), 5001);
    assert_string_equal(fixture_text(&f, fixture_u64(&f, list + 16)), "initrd");
    assert_int_equal(fixture_u8(&f, at), 'I');
    check_bytes(at + 1, 5000, 0);
}

static void initrd_is_below_the_hole(void **state)
{
    struct image_spec spec = pvh_spec(true, 4);
    uint64_t list;

    (void)state;
    memory_destroy(f.mem);
    f.mem = NULL;
    assert_int_equal(memory_create(&f.mem, 5 * 1024 * MIB, MEM_ANON, NULL), 0);
    image_elf(&f.img, &spec);
    fixture_file(f.initrd, "I", 1, 4096);
    load_ok(f.initrd, "");
    list = fixture_u64(&f, f.entry.ebx + 16);
    assert_int_equal(fixture_u64(&f, list), MEMORY_HOLE_START - 4096);
}

/* A kernel at the top of RAM: the initrd goes below it, or between its segments. */
static void initrd_goes_around_the_kernel(void **state)
{
    struct image_spec spec = pvh_spec(true, 4);
    uint64_t list;

    (void)state;
    spec.segment[1].paddr = 64 * MIB - 9000;
    image_elf(&f.img, &spec);
    fixture_file(f.initrd, "I", 1, 4096);
    load_ok(f.initrd, "");
    list = fixture_u64(&f, f.entry.ebx + 16);
    assert_int_equal(fixture_u64(&f, list), 64 * MIB - 3 * 4096 - 4096);
    fixture_file(f.initrd, "I", 1, 61 * MIB);
    load_ok(f.initrd, "");
    list = fixture_u64(&f, f.entry.ebx + 16);
    assert_true(fixture_u64(&f, list) >= LOAD_AT + 5000);
    assert_true(fixture_u64(&f, list) + 61 * MIB <= 64 * MIB - 9000);
    check_bytes(LOAD_AT, 5000, 'a');
}

static void pvh_wins_over_multiboot(void **state)
{
    struct image_spec spec = pvh_spec(false, 4);

    (void)state;
    spec.multiboot = true;
    image_elf(&f.img, &spec);
    load_ok(NULL, "");
    assert_int_equal(f.entry.protocol, BOOT_PVH);
}

static void low_memory_is_allowed(void **state)
{
    struct image_spec spec = pvh_spec(false, 4);

    (void)state;
    spec.segment[1].paddr = 0x10000;
    image_elf(&f.img, &spec);
    load_ok(NULL, "");
    check_bytes(0x10000, 100, 'b');
}

/* --- multiboot ----------------------------------------------------------------------- */

static void multiboot_information(void **state)
{
    struct image_spec spec = multiboot_spec(3);
    uint64_t info, map;

    (void)state;
    image_elf(&f.img, &spec);
    load_ok(NULL, "one two");
    assert_int_equal(f.entry.protocol, BOOT_MULTIBOOT);
    assert_int_equal(f.entry.eax, 0x2badb002);
    assert_int_equal(f.entry.eip, LOAD_AT + 12);
    info = f.entry.ebx;
    assert_int_equal(fixture_u32(&f, info), 0x24d);
    assert_int_equal(fixture_u32(&f, info + 4), 639);
    assert_int_equal(fixture_u32(&f, info + 8), 63 * 1024);
    assert_string_equal(fixture_text(&f, fixture_u32(&f, info + 16)), "kernel one two");
    assert_int_equal(fixture_u32(&f, info + 20), 0);
    assert_int_equal(fixture_u32(&f, info + 44), 3 * 24);
    map = fixture_u32(&f, info + 48);
    assert_int_equal(fixture_u32(&f, map + 48), 20);
    assert_int_equal(fixture_u64(&f, map + 52), MIB);
    assert_int_equal(fixture_u64(&f, map + 60), 63 * MIB);
    assert_int_equal(fixture_u32(&f, map + 68), 1);
    assert_memory_equal(fixture_text(&f, fixture_u32(&f, info + 64)), "twofold", 7);
}

static void multiboot_without_arguments(void **state)
{
    struct image_spec spec = multiboot_spec(0);

    (void)state;
    image_elf(&f.img, &spec);
    load_ok(NULL, "");
    assert_string_equal(fixture_text(&f, fixture_u32(&f, f.entry.ebx + 16)), "kernel");
}

static void multiboot_module_is_behind_the_kernel(void **state)
{
    struct image_spec spec = multiboot_spec(1);
    uint64_t module;

    (void)state;
    image_elf(&f.img, &spec);
    fixture_file(f.initrd, "module", 6, 6);
    load_ok(f.initrd, "");
    assert_int_equal(fixture_u32(&f, f.entry.ebx + 20), 1);
    module = fixture_u32(&f, f.entry.ebx + 24);
    assert_int_equal(fixture_u32(&f, module), LOAD_AT + 4096);
    assert_int_equal(fixture_u32(&f, module + 4), LOAD_AT + 4096 + 6);
    assert_string_equal(fixture_text(&f, fixture_u32(&f, module + 8)), "initrd");
    assert_memory_equal(fixture_text(&f, LOAD_AT + 4096), "module", 6);
}

/* A higher-half kernel: e_entry is virtual in one kind of linker script, physical in another. */
static void multiboot_entry_is_translated(void **state)
{
    struct image_spec spec = multiboot_spec(0);

    (void)state;
    spec.segment[0].vaddr = 0xc0200000;
    spec.entry = 0xc020000c;
    image_elf(&f.img, &spec);
    load_ok(NULL, "");
    assert_int_equal(f.entry.eip, LOAD_AT + 12);
    spec.entry = LOAD_AT + 12;
    image_elf(&f.img, &spec);
    load_ok(NULL, "");
    assert_int_equal(f.entry.eip, LOAD_AT + 12);
}

static void multiboot_addresses(void **state)
{
    struct image_spec spec = {
        .multiboot_flags = 0x10000,
        .address = { LOAD_AT + 64, LOAD_AT, LOAD_AT + 300, LOAD_AT + 8192, LOAD_AT + 96 },
    };

    (void)state;
    image_flat(&f.img, &spec, 64 + 512, 1000);
    load_ok(NULL, "x");
    assert_int_equal(f.entry.protocol, BOOT_MULTIBOOT);
    assert_int_equal(f.entry.eip, LOAD_AT + 96);
    assert_int_equal(f.entry.image_end.v, LOAD_AT + 8192);
    assert_int_equal(fixture_u32(&f, LOAD_AT + 64), 0x1badb002);
    check_bytes(LOAD_AT, 64, 0);
    check_bytes(LOAD_AT + 96, 300 - 96, 'T');
    check_bytes(LOAD_AT + 300, 8192 - 300, 0);
}

/* Zero ends: all of the file is loaded, and there is nothing behind it. */
static void multiboot_addresses_without_ends(void **state)
{
    struct image_spec spec = {
        .multiboot_flags = 0x10000,
        .address = { LOAD_AT, LOAD_AT, 0, 0, LOAD_AT + 32 },
    };

    (void)state;
    image_flat(&f.img, &spec, 0, 1000);
    load_ok(NULL, "");
    assert_int_equal(f.entry.image_end.v, LOAD_AT + 32 + 1000);
    check_bytes(LOAD_AT + 32, 1000, 'T');
}

/* The header's own addresses are used instead of the ELF's, even in a 64-bit file. */
static void multiboot_addresses_in_an_elf(void **state)
{
    struct image_spec spec = multiboot_spec(0x10000);

    (void)state;
    spec.is_64bit = true;
    spec.address[0] = spec.address[1] = 0x300000;
    spec.address[4] = 0x300020;
    image_elf(&f.img, &spec);
    load_ok(NULL, "");
    assert_int_equal(f.entry.eip, 0x300020);
    assert_int_equal(fixture_u32(&f, 0x300000), 0x1badb002);
    assert_int_equal(fixture_u32(&f, LOAD_AT), 0);
}

static void multiboot_header_at_the_last_place(void **state)
{
    struct image_spec spec = {
        .multiboot_flags = 0x10000,
        .address = { LOAD_AT + 8160, LOAD_AT, 0, 0, LOAD_AT + 8192 },
    };

    (void)state;
    image_flat(&f.img, &spec, 8192 - 32, 16);
    load_ok(NULL, "");
    assert_int_equal(f.entry.eip, LOAD_AT + 8192);
}

static void longest_command_line(void **state)
{
    struct image_spec spec = pvh_spec(true, 4);
    char line[0x4000];

    (void)state;
    image_elf(&f.img, &spec);
    memset(line, 'x', sizeof(line));
    line[sizeof(line) - 1] = '\0';
    load_ok(NULL, line);
    assert_string_equal(fixture_text(&f, fixture_u64(&f, f.entry.ebx + 24)), line);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, start, stop)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(pvh_elf32),
        TEST(pvh_elf64_with_both_note_sizes),
        TEST(pvh_start_information),
        TEST(memory_map_goes_around_the_hole),
        TEST(segment_above_4_gib),
        TEST(pvh_initrd_is_at_the_top),
        TEST(initrd_is_below_the_hole),
        TEST(initrd_goes_around_the_kernel),
        TEST(pvh_wins_over_multiboot),
        TEST(low_memory_is_allowed),
        TEST(multiboot_information),
        TEST(multiboot_without_arguments),
        TEST(multiboot_module_is_behind_the_kernel),
        TEST(multiboot_entry_is_translated),
        TEST(multiboot_addresses),
        TEST(multiboot_addresses_without_ends),
        TEST(multiboot_addresses_in_an_elf),
        TEST(multiboot_header_at_the_last_place),
        TEST(longest_command_line),
    };

    return cmocka_run_group_tests_name("boot", tests, NULL, NULL);
}
