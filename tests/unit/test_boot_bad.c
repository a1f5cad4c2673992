/*
 * Files that must be refused: one line that names the file and says what is wrong, and
 * nothing written to the guest.
 */
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "vmm/boot_file.h"

#include "tests/unit/boot_fixture.h"

#define MIB     (UINT64_C(1) << 20)
#define LOAD_AT 0x200000u
#define BEYOND  (512 * MIB) /* more than the VM has */

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

/* Nothing between the start of RAM and 4 MiB may have been written. */
static void check_untouched(void)
{
    static const uint8_t zero[4096];

    for (uint64_t at = 0; at < 4 * MIB; at += sizeof(zero))
        assert_memory_equal(memory_at(f.mem, gpa(at), sizeof(zero)), zero, sizeof(zero));
}

static void check_error(int rc, const char *path, const char *text)
{
    assert_true(rc < 0);
    if (!strstr(f.err.text, text))
        fail_msg("'%s' does not say '%s'", f.err.text, text);
    if (path && !strstr(f.err.text, path))
        fail_msg("'%s' does not name %s", f.err.text, path);
    assert_null(strchr(f.err.text, '\n'));
    check_untouched();
}

static void refuse(const char *initrd, const char *text)
{
    f.err.text[0] = '\0';
    check_error(fixture_load(&f, initrd, ""), f.kernel, text);
}

static struct image_spec good(void)
{
    return (struct image_spec){
        .is_64bit = true,
        .segment = { { .paddr = LOAD_AT, .filesz = 5000, .memsz = 5000, .fill = 'a' },
                     { .paddr = 0x210000, .filesz = 100, .memsz = 9000, .fill = 'b' } },
        .segments = 2,
        .note_bytes = 4,
        .note_entry = LOAD_AT,
    };
}

/* Makes the file of `spec` and checks that it is refused for `text`. */
static void refuse_elf(struct image_spec spec, const char *text)
{
    image_elf(&f.img, &spec);
    refuse(NULL, text);
}

/* --- the file itself ------------------------------------------------------------------ */

static int load_path(const char *kernel)
{
    struct boot_request req = { .kernel = kernel, .cmdline = "" };

    return boot_load(f.mem, &req, &f.entry, &f.err);
}

static void no_such_file(void **state)
{
    (void)state;
    assert_int_equal(load_path("/nonexistent/kernel"), -ENOENT);
    check_error(-1, "/nonexistent/kernel", "No such file");
}

static void directory(void **state)
{
    (void)state;
    assert_int_equal(load_path(f.dir), -EISDIR);
    check_error(-1, f.dir, "is a directory");
}

/* Root reads every file, so it is nobody for a moment. */
static void unreadable(void **state)
{
    bool root = geteuid() == 0;
    int rc;

    (void)state;
    fixture_file(f.kernel, "x", 1, 1);
    assert_int_equal(chmod(f.kernel, 0), 0);
    assert_int_equal(chmod(f.dir, 0755), 0);
    if (root)
        assert_int_equal(seteuid(65534), 0);
    rc = load_path(f.kernel);
    if (root)
        assert_int_equal(seteuid(0), 0);
    check_error(rc, f.kernel, "Permission denied");
}

/* Must not wait for a writer. */
static void fifo(void **state)
{
    (void)state;
    assert_int_equal(mkfifo(f.kernel, 0600), 0);
    check_error(load_path(f.kernel), f.kernel, "not a regular file");
}

static void device(void **state)
{
    (void)state;
    check_error(load_path("/dev/zero"), "/dev/zero", "not a regular file");
}

static void shrinks_while_it_is_read(void **state)
{
    struct boot_file file;
    char bytes[100];

    (void)state;
    fixture_file(f.kernel, "x", 1, sizeof(bytes));
    assert_int_equal(boot_file_open(&file, "kernel", f.kernel, &f.err), 0);
    assert_int_equal(file.size, sizeof(bytes));
    assert_int_equal(boot_file_read(&file, bytes, sizeof(bytes), 0, &f.err), 0);
    assert_int_equal(truncate(f.kernel, 99), 0);
    check_error(boot_file_read(&file, bytes, sizeof(bytes), 0, &f.err), f.kernel,
                "became shorter while it was read");
    boot_file_close(&file);
}

static void empty(void **state)
{
    (void)state;
    f.img.size = 0;
    refuse(NULL, "is empty");
}

static void text_files(void **state)
{
    (void)state;
    for (size_t size = 1; size < 10000; size += 1111) {
        memset(f.img.bytes, '#', size);
        f.img.size = size;
        refuse(NULL, "not an ELF file");
    }
}

static void bzimage(void **state)
{
    (void)state;
    f.img.size = 20000;
    memcpy(f.img.bytes + 0x202, "HdrS", 4);
    refuse(NULL, "uncompressed vmlinux");
}

/* --- ELF -------------------------------------------------------------------------------- */

static void only_a_magic(void **state)
{
    struct image_spec spec = good();

    (void)state;
    image_elf(&f.img, &spec);
    for (f.img.size = 4; f.img.size < sizeof(Elf64_Ehdr); f.img.size += 4)
        refuse(NULL, "damaged or cut off");
}

static void cut_at_every_place(void **state)
{
    struct image_spec spec = good();

    (void)state;
    image_elf(&f.img, &spec);
    for (size_t size = f.img.size; size-- > 1;) {
        if (size > 300 && size % 97)
            continue;
        f.img.size = size;
        refuse(NULL, "");
    }
}

static void cut_in_a_segment(void **state)
{
    struct image_spec spec = good();

    (void)state;
    image_elf(&f.img, &spec);
    f.img.size--;
    refuse(NULL, "is cut off: segment 1");
}

static void wrong_machine(void **state)
{
    struct image_spec spec = good();

    (void)state;
    spec.machine = EM_AARCH64;
    refuse_elf(spec, "another machine (183)");
    spec.machine = EM_386; /* in a 64-bit file */
    refuse_elf(spec, "another machine (3)");
    spec = good();
    spec.big_endian = true;
    refuse_elf(spec, "");
}

static void object_file(void **state)
{
    struct image_spec spec = good();

    (void)state;
    spec.type = ET_REL;
    refuse_elf(spec, "not an executable");
}

static void no_segments(void **state)
{
    struct image_spec spec = good();

    (void)state;
    spec.segments = 0;
    refuse_elf(spec, "nothing to load");
    spec.note_bytes = 0;
    refuse_elf(spec, "no program headers");
}

static void no_note(void **state)
{
    struct image_spec spec = good();

    (void)state;
    spec.note_bytes = 0;
    refuse_elf(spec, "neither a PVH note nor a multiboot header");
    spec = good();
    spec.note_name = "Zen";
    refuse_elf(spec, "neither a PVH note nor a multiboot header");
}

/* What libelf would copy is bounded: a file of some megabytes must not cost gigabytes. */
static void absurd_headers_and_notes(void **state)
{
    struct image_spec spec = good();
    Elf64_Ehdr *ehdr = (Elf64_Ehdr *)(void *)f.img.bytes;
    Elf64_Phdr *ph;

    (void)state;
    image_elf(&f.img, &spec);
    memset(f.img.bytes + f.img.size, 0, sizeof(f.img.bytes) - f.img.size);
    f.img.size = sizeof(f.img.bytes);
    ehdr->e_phnum = 257;
    refuse(NULL, "257 program headers");

    image_elf(&f.img, &spec);
    ph = (Elf64_Phdr *)(void *)(f.img.bytes + ehdr->e_phoff);
    while (ph->p_type != PT_NOTE)
        ph++;
    ph->p_filesz = (64u << 10) + 1;
    refuse(NULL, "0x10001 bytes of notes");
}

static void note_of_wrong_size(void **state)
{
    struct image_spec spec = good();

    (void)state;
    spec.note_bytes = 2;
    refuse_elf(spec, "PVH note is 2 bytes long");
    spec.note_bytes = 12;
    refuse_elf(spec, "PVH note is 12 bytes long");
}

static void file_larger_than_memory(void **state)
{
    struct image_spec spec = good();

    (void)state;
    spec.segment[0].memsz = 4999;
    refuse_elf(spec, "more bytes in the file");
}

static void offset_beyond_the_file(void **state)
{
    struct image_spec spec = good();

    (void)state;
    spec.segment[0].offset = UINT64_MAX - 100;
    refuse_elf(spec, "cut off");
    spec.segment[0].offset = 1 << 20;
    refuse_elf(spec, "cut off");
    spec = good();
    spec.segment[0].filesz = spec.segment[0].memsz = UINT64_MAX;
    refuse_elf(spec, "cut off");
}

/* --- where it loads ----------------------------------------------------------------------- */

static void overlapping_segments(void **state)
{
    struct image_spec spec = good();

    (void)state;
    spec.segment[1].paddr = LOAD_AT + 4999;
    refuse_elf(spec, "overlap");
    spec.segment[1].paddr = LOAD_AT - 8999;
    refuse_elf(spec, "overlap");
    spec.segment[1].paddr = LOAD_AT;
    refuse_elf(spec, "overlap");
}

static void outside_ram(void **state)
{
    struct image_spec spec = good();

    (void)state;
    spec.segment[1].paddr = 64 * MIB - 8999;
    refuse_elf(spec, "--mem 65M or more");
    spec.segment[1].paddr = BEYOND;
    refuse_elf(spec, "--mem 513M or more");
    spec.segment[1].paddr = MEMORY_HOLE_END + MIB;
    refuse_elf(spec, "--mem 3074M or more");
    spec.segment[1].memsz = BEYOND;
    spec.segment[1].paddr = LOAD_AT + MIB;
    refuse_elf(spec, "--mem 515M or more");
}

static void in_the_hole(void **state)
{
    struct image_spec spec = good();

    (void)state;
    spec.segment[1].paddr = MEMORY_HOLE_START;
    refuse_elf(spec, "not RAM whatever");
    spec.segment[1].paddr = MEMORY_HOLE_END - 1;
    refuse_elf(spec, "not RAM whatever");
    spec.segment[1].paddr = MEMORY_HOLE_START - 1;
    refuse_elf(spec, "not RAM whatever");
}

static void over_the_end_of_addresses(void **state)
{
    struct image_spec spec = good();

    (void)state;
    spec.segment[1].paddr = UINT64_MAX - 10;
    refuse_elf(spec, "runs over the end of the address space");
    spec.segment[1].paddr = LOAD_AT + MIB;
    spec.segment[1].memsz = UINT64_MAX - 4096;
    refuse_elf(spec, "runs over the end of the address space");
}

static void over_what_the_monitor_puts_there(void **state)
{
    struct image_spec spec = good();

    (void)state;
    spec.segment[1].paddr = 0x1000;
    refuse_elf(spec, "start structures");
    spec.segment[1].paddr = 0x7fff;
    refuse_elf(spec, "start structures");
    spec.segment[1].paddr = 0xe0000;
    refuse_elf(spec, "BIOS area");
    spec.segment[1].paddr = 0x9fc00 - 8999;
    refuse_elf(spec, "BIOS area");
    spec.segment[1].memsz = 3 * MIB;
    spec.segment[1].paddr = 0x8000;
    refuse_elf(spec, "BIOS area");
}

static void entry_outside(void **state)
{
    struct image_spec spec = good();

    (void)state;
    spec.note_entry = LOAD_AT + 5000;
    refuse_elf(spec, "where none of it is loaded");
    spec.note_entry = 0;
    refuse_elf(spec, "where none of it is loaded");
    spec.note_bytes = 8;
    spec.note_entry = LOAD_AT + (UINT64_C(1) << 32);
    refuse_elf(spec, "32-bit code");
}

/* --- multiboot ----------------------------------------------------------------------------- */

static struct image_spec good_multiboot(void)
{
    struct image_spec spec = good();

    spec.is_64bit = false;
    spec.note_bytes = 0;
    spec.multiboot = true;
    spec.entry = LOAD_AT;
    return spec;
}

static void multiboot_in_elf64(void **state)
{
    struct image_spec spec = good_multiboot();

    (void)state;
    spec.is_64bit = true;
    refuse_elf(spec, "objcopy -O elf32-i386");
}

static void multiboot_checksum(void **state)
{
    struct image_spec spec = good_multiboot();

    (void)state;
    spec.multiboot_checksum_error = 1;
    refuse_elf(spec, "neither a PVH note nor a multiboot header");
}

static void multiboot_unknown_requirement(void **state)
{
    struct image_spec spec = good_multiboot();

    (void)state;
    spec.multiboot_flags = 0x8000;
    refuse_elf(spec, "flags 0x8000");
    spec.multiboot_flags = 0x8;
    refuse_elf(spec, "flags 0x8");
}

static void multiboot_flat_without_addresses(void **state)
{
    struct image_spec spec = { 0 };

    (void)state;
    image_flat(&f.img, &spec, 0, 1000);
    refuse(NULL, "not an ELF file");
}

/* The header has to lie in the first 8 KiB, all of it, at a multiple of 4. */
static void multiboot_header_too_far(void **state)
{
    struct image_spec spec = { .multiboot_flags = 0x10000, .address = { LOAD_AT, LOAD_AT } };

    (void)state;
    image_flat(&f.img, &spec, 8192, 1000);
    refuse(NULL, "not an ELF file");
    image_flat(&f.img, &spec, 8192 - 28, 1000);
    refuse(NULL, "runs over the first 8 KiB");
    image_flat(&f.img, &spec, 2, 1000);
    refuse(NULL, "not an ELF file");
    image_flat(&f.img, &spec, 0, 1000);
    f.img.size = 20;
    refuse(NULL, "cut off");
}

static void multiboot_bad_addresses(void **state)
{
    static const struct {
        uint32_t address[5];
        const char *text;
    } row[] = {
        { { LOAD_AT, LOAD_AT + 1, 0, 0, LOAD_AT }, "can't load" },
        { { LOAD_AT + 65, LOAD_AT, 0, 0, LOAD_AT }, "can't load" },
        { { LOAD_AT, LOAD_AT, LOAD_AT, 0, LOAD_AT }, "ends loading" },
        { { LOAD_AT, LOAD_AT, LOAD_AT - 1, 0, LOAD_AT }, "ends loading" },
        { { LOAD_AT, LOAD_AT, LOAD_AT + 5000, 0, LOAD_AT }, "is cut off" },
        { { LOAD_AT, LOAD_AT, LOAD_AT + 500, LOAD_AT + 499, LOAD_AT }, "ends the zeroed part" },
        { { LOAD_AT, LOAD_AT, 0, 0, LOAD_AT - 1 }, "where none of it is loaded" },
        { { LOAD_AT, LOAD_AT, 0, 0xf0000000, LOAD_AT }, "not RAM whatever" },
        { { LOAD_AT, LOAD_AT, 0, 0x20000000, LOAD_AT }, "--mem 512M or more" },
        { { 0xfffffff0, 0xfffffff0, 0, 0, 0xfffffff0 }, "not RAM whatever" },
        { { 0x1000, 0x1000, 0, 0, 0x1000 }, "start structures" },
    };

    (void)state;
    for (size_t i = 0; i < sizeof(row) / sizeof(row[0]); i++) {
        struct image_spec spec = { .multiboot_flags = 0x10000 };

        memcpy(spec.address, row[i].address, sizeof(spec.address));
        image_flat(&f.img, &spec, 64, 1000);
        refuse(NULL, row[i].text);
    }
}

/* --- what comes with it --------------------------------------------------------------------- */

static void refuse_initrd(const char *text)
{
    struct image_spec spec = good();

    image_elf(&f.img, &spec);
    check_error(fixture_load(&f, f.initrd, ""), f.initrd, text);
}

static void initrd_missing_or_empty(void **state)
{
    (void)state;
    refuse_initrd("No such file");
    fixture_file(f.initrd, "", 0, 0);
    refuse_initrd("is empty");
}

static void initrd_larger_than_ram(void **state)
{
    (void)state;
    fixture_file(f.initrd, "x", 1, 64 * MIB);
    refuse_initrd("64 MiB does not fit");
    fixture_file(f.initrd, "x", 1, 62 * MIB);
    refuse_initrd("62 MiB does not fit");
    fixture_file(f.initrd, "x", 1, MIB << 20);
    refuse_initrd("does not fit");
}

static void command_line_too_long(void **state)
{
    struct image_spec spec = good();
    static char line[0x4001];

    (void)state;
    memset(line, 'x', sizeof(line) - 1);
    image_elf(&f.img, &spec);
    check_error(fixture_load(&f, NULL, line), NULL, "16384 bytes long; at most 16383");
    spec = good_multiboot();
    image_elf(&f.img, &spec);
    line[0x4000 - 7] = '\0';
    check_error(fixture_load(&f, NULL, line), NULL, "16384 bytes long; at most 16383");
}

static void too_little_memory(void **state)
{
    struct image_spec spec = good();

    (void)state;
    memory_destroy(f.mem);
    f.mem = NULL;
    assert_int_equal(memory_create(&f.mem, 512 << 10, MEM_ANON, NULL), 0);
    image_elf(&f.img, &spec);
    assert_true(fixture_load(&f, NULL, "") < 0);
    assert_non_null(strstr(f.err.text, "at least 1 MiB"));
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, start, stop)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(no_such_file),
        TEST(directory),
        TEST(unreadable),
        TEST(fifo),
        TEST(device),
        TEST(shrinks_while_it_is_read),
        TEST(empty),
        TEST(text_files),
        TEST(bzimage),
        TEST(only_a_magic),
        TEST(cut_at_every_place),
        TEST(cut_in_a_segment),
        TEST(wrong_machine),
        TEST(object_file),
        TEST(no_segments),
        TEST(no_note),
        TEST(note_of_wrong_size),
        TEST(absurd_headers_and_notes),
        TEST(file_larger_than_memory),
        TEST(offset_beyond_the_file),
        TEST(overlapping_segments),
        TEST(outside_ram),
        TEST(in_the_hole),
        TEST(over_the_end_of_addresses),
        TEST(over_what_the_monitor_puts_there),
        TEST(entry_outside),
        TEST(multiboot_in_elf64),
        TEST(multiboot_checksum),
        TEST(multiboot_unknown_requirement),
        TEST(multiboot_flat_without_addresses),
        TEST(multiboot_header_too_far),
        TEST(multiboot_bad_addresses),
        TEST(initrd_missing_or_empty),
        TEST(initrd_larger_than_ram),
        TEST(command_line_too_long),
        TEST(too_little_memory),
    };

    return cmocka_run_group_tests_name("boot: bad input", tests, NULL, NULL);
}
