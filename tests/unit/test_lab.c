/*
 * The pure pieces of the lab: the link's frames, the archive that goes in, the
 * machine's file, the kernel command line.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "tools/appliance.h"
#include "tools/lab.h"
#include "tools/lab_cpio.h"
#include "tools/lab_link.h"

/* --- frames --------------------------------------------------------------------- */

struct heard {
    int frames;
    enum lab_frame type[8];
    size_t len[8];
    unsigned char last[8]; /* first bytes of each */
};

static int hear(void *ctx, enum lab_frame type, const unsigned char *payload, size_t len)
{
    struct heard *h = ctx;

    assert_true(h->frames < 8);
    h->type[h->frames] = type;
    h->len[h->frames] = len;
    h->last[h->frames] = len ? payload[len - 1] : 0;
    h->frames++;
    return 0;
}

/* Three frames, one of them empty, one as long as can be. */
static size_t make_stream(unsigned char *out)
{
    size_t n = 0;

    lab_frame_header(out, LAB_STDOUT, 3);
    memcpy(out + 8, "abc", 3);
    n = 11;
    lab_frame_header(out + n, LAB_STDIN, 0);
    n += 8;
    lab_frame_header(out + n, LAB_FILE_DATA, LAB_FRAME_MAX);
    memset(out + n + 8, 'x', LAB_FRAME_MAX);
    out[n + 8 + LAB_FRAME_MAX - 1] = 'z';
    return n + 8 + LAB_FRAME_MAX;
}

static void frames_in_any_pieces(void **state)
{
    static unsigned char stream[64 + LAB_FRAME_MAX];
    static struct lab_parser parser;
    size_t len = make_stream(stream);
    static const size_t pieces[] = { 1, 2, 7, 8, 9, 11, 4096, sizeof(stream) };

    (void)state;
    for (size_t i = 0; i < sizeof(pieces) / sizeof(pieces[0]); i++) {
        struct heard h = { 0 };

        lab_parser_init(&parser);
        for (size_t at = 0; at < len; at += pieces[i]) {
            size_t n = len - at < pieces[i] ? len - at : pieces[i];

            assert_int_equal(lab_parser_feed(&parser, stream + at, n, hear, &h), 0);
        }
        assert_int_equal(h.frames, 3);
        assert_int_equal(h.type[0], LAB_STDOUT);
        assert_int_equal(h.len[0], 3);
        assert_int_equal(h.last[0], 'c');
        assert_int_equal(h.type[1], LAB_STDIN);
        assert_int_equal(h.len[1], 0);
        assert_int_equal(h.type[2], LAB_FILE_DATA);
        assert_int_equal(h.len[2], LAB_FRAME_MAX);
        assert_int_equal(h.last[2], 'z');
    }
}

static void noise_is_no_frame(void **state)
{
    static const struct {
        size_t at;
        unsigned char value;
    } damage[] = {
        { 0, 'X' }, { 1, 'X' }, { 2, 0 }, { 2, LAB_FRAME_TYPES }, { 2, 255 }, { 3, 1 }, { 7, 1 },
    };
    static struct lab_parser parser;

    (void)state;
    for (size_t i = 0; i < sizeof(damage) / sizeof(damage[0]); i++) {
        unsigned char frame[8];
        struct heard h = { 0 };

        lab_frame_header(frame, LAB_STATUS, 0);
        frame[damage[i].at] = damage[i].value;
        lab_parser_init(&parser);
        assert_int_equal(lab_parser_feed(&parser, frame, 8, hear, &h), -EPROTO);
        assert_int_equal(h.frames, 0);
    }
}

static int refuse(void *ctx, enum lab_frame type, const unsigned char *payload, size_t len)
{
    (void)ctx;
    (void)type;
    (void)payload;
    (void)len;
    return -EIO;
}

static void a_refusal_is_handed_on(void **state)
{
    static struct lab_parser parser;
    unsigned char frame[8];

    (void)state;
    lab_frame_header(frame, LAB_STATUS, 0);
    lab_parser_init(&parser);
    assert_int_equal(lab_parser_feed(&parser, frame, 8, refuse, NULL), -EIO);
}

static void numbers_are_little_endian(void **state)
{
    unsigned char bytes[4];

    (void)state;
    lab_put32(bytes, 0x81020304);
    assert_int_equal(bytes[0], 4);
    assert_int_equal(bytes[3], 0x81);
    assert_int_equal(lab_get32(bytes), 0x81020304);
}

/* --- the archive --------------------------------------------------------------------- */

static char work[] = "/tmp/twofold-test-XXXXXX";

static char *read_all(const char *path, size_t *len)
{
    FILE *f = fopen(path, "r");
    char *bytes = malloc(1 << 16);

    assert_non_null(f);
    assert_non_null(bytes);
    *len = fread(bytes, 1, 1 << 16, f);
    (void)fclose(f);
    return bytes;
}

static unsigned long hex_field(const char *header, int n)
{
    char text[9] = "";

    memcpy(text, header + 6 + 8 * n, 8);
    return strtoul(text, NULL, 16);
}

/* Walks the archive as the kernel's buffer format says; appends "name:mode:size " to `list`. */
static void walk(const char *bytes, size_t len, char *list)
{
    size_t at = 0;

    for (;;) {
        const char *h = bytes + at;
        size_t namesize;
        size_t size;

        assert_true(at + 110 <= len);
        assert_memory_equal(h, "070701", 6);
        size = hex_field(h, 6);
        namesize = hex_field(h, 11);
        assert_int_equal(strlen(h + 110) + 1, namesize);
        if (!strcmp(h + 110, "TRAILER!!!"))
            return;
        assert_int_equal(hex_field(h, 2), 0); /* root */
        list += sprintf(list, "%s:%lo:%zu ", h + 110, hex_field(h, 1), size);
        at += (110 + namesize + 3) / 4 * 4;
        at += (size + 3) / 4 * 4;
    }
}

static void archive_holds_what_was_added(void **state)
{
    char path[128];
    char dir[128];
    char file[160];
    char list[1024] = "";
    struct error err;
    struct cpio *cpio;
    size_t len;
    char *bytes;
    FILE *f;

    (void)state;
    assert_non_null(mkdtemp(work));
    (void)snprintf(path, sizeof(path), "%s/a.cpio", work);
    (void)snprintf(dir, sizeof(dir), "%s/dir", work);
    (void)snprintf(file, sizeof(file), "%s/dir/file", work);
    assert_int_equal(mkdir(dir, 0755), 0);
    f = fopen(file, "w");
    assert_non_null(f);
    (void)fputs("12345", f);
    (void)fclose(f);
    assert_int_equal(chmod(file, 0751), 0);

    assert_int_equal(cpio_create(&cpio, path, NULL, &err), 0);
    assert_int_equal(cpio_add_bytes(cpio, "/x/y", 0600, "abc", 3, &err), 0);
    assert_int_equal(cpio_add_host(cpio, "tmp/in", dir, &err), 0);
    assert_int_equal(cpio_add_bytes(cpio, "x/../y", 0600, "", 0, &err), -EINVAL);
    assert_int_equal(cpio_add_bytes(cpio, "/", 0600, "", 0, &err), -EINVAL);
    assert_int_equal(cpio_add_host(cpio, "z", "/no/such", &err), -ENOENT);
    assert_int_equal(cpio_add_host(cpio, "z", "/dev/null", &err), -EINVAL);
    assert_int_equal(cpio_finish(cpio, &err), 0);
    bytes = read_all(path, &len);
    walk(bytes, len, list);
    assert_string_equal(list, "x:40755:0 x/y:100600:3 tmp:41777:0 tmp/in:40755:0 "
                              "tmp/in/file:100751:5 ");
    free(bytes);

    /* Behind another archive whose length is no multiple of four. */
    f = fopen(file, "w");
    assert_non_null(f);
    (void)fputs("base", f);
    (void)fputs("!", f);
    (void)fclose(f);
    assert_int_equal(cpio_create(&cpio, path, file, &err), 0);
    assert_int_equal(cpio_add_bytes(cpio, "q", 0644, "", 0, &err), 0);
    assert_int_equal(cpio_finish(cpio, &err), 0);
    bytes = read_all(path, &len);
    assert_memory_equal(bytes,
                        "base!\0\0\0"
                        "070701",
                        14);
    free(bytes);
    assert_int_equal(cpio_create(&cpio, path, "/no/such", &err), -ENOENT);
    (void)unlink(file);
    (void)rmdir(dir);
}

/* --- the machine's file ----------------------------------------------------------------- */

static void words_are_filled_in(void **state)
{
    const char *const words[][2] = { { "A", "x<&>'\"" }, { "LONG", "" }, { NULL, NULL } };
    char path[128];
    struct error err;
    char *text;
    FILE *f;

    (void)state;
    (void)snprintf(path, sizeof(path), "%s/a.cpio", work);
    f = fopen(path, "w");
    assert_non_null(f);
    (void)fputs("<!-- {A} -->{A}|{B}|{LONG}|{A", f);
    (void)fclose(f);
    text = lab_fill(path, words, true, &err);
    assert_string_equal(text, "x&lt;&amp;&gt;&apos;&quot;|{B}||{A");
    free(text);
    text = lab_fill(path, words, false, &err);
    assert_string_equal(text, "<!-- x<&>'\" -->x<&>'\"|{B}||{A");
    free(text);
    assert_null(lab_fill("/no/such", words, true, &err));
    (void)unlink(path);
    (void)rmdir(work);
}

/* --- the kernel command line -------------------------------------------------------------- */

static void kernel_options(void **state)
{
    char value[16] = "";

    (void)state;
    assert_true(appliance_option("a=1 b=\"two words\" \"c=in quotes\"\n", "b", value, 16));
    assert_string_equal(value, "two words");
    assert_true(appliance_option("a=1 b=\"two words\" \"c=in quotes\"\n", "c", value, 16));
    assert_string_equal(value, "in quotes");
    assert_true(appliance_option("a=1 a=2", "a", value, 16));
    assert_string_equal(value, "2");
    assert_true(appliance_option("a=", "a", value, 16));
    assert_string_equal(value, "");
    assert_false(appliance_option("", "a", value, 16));
    assert_false(appliance_option("ab=1 a a.b=2", "a", value, 16));
    assert_false(appliance_option("b=\"a=1\"", "a", value, 16));
    assert_false(appliance_option("a=0123456789abcdef", "a", value, 16));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(frames_in_any_pieces),
        cmocka_unit_test(noise_is_no_frame),
        cmocka_unit_test(a_refusal_is_handed_on),
        cmocka_unit_test(numbers_are_little_endian),
        cmocka_unit_test(archive_holds_what_was_added),
        cmocka_unit_test(words_are_filled_in),
        cmocka_unit_test(kernel_options),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
