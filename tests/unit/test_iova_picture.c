/*
 * What `twofold isolate` shows, from made reports: lines of text, and the page, which has to be
 * well-formed XML whatever a guest or a device wrote into it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "tools/iova_layout.h"
#include "tools/iova_picture.h"
#include "tools/isolate.h"

static struct isolate_attempt *try(struct isolate_report *r, const char *what, uint64_t iova,
                                   uint32_t len, bool write, bool allowed)
{
    struct isolate_attempt *a = &r->attempt[r->attempts++];

    *a = (struct isolate_attempt){ .iova = iova, .len = len, .write = write, .allowed = allowed };
    a->went = allowed;
    a->sums = write;
    a->before = isolate_sum(&iova, sizeof(iova));
    a->after = write && allowed ? isolate_sum(what, strlen(what)) : a->before;
    (void)snprintf(a->what, sizeof(a->what), "%s", what);
    if (!allowed)
        (void)snprintf(a->said, sizeof(a->said),
                       "DMAR: [DMA %s] Request device [00:04.0] fault addr 0x%llx",
                       write ? "Write" : "Read", (unsigned long long)iova);
    return a;
}

static void give(struct isolate_report *r, const char *label, uint64_t iova, uint64_t len,
                 bool read, bool write, bool contrast)
{
    struct isolate_region *g = &r->region[r->regions++];

    *g = (struct isolate_region){
        .iova = iova, .len = len, .read = read, .write = write, .contrast = contrast
    };
    (void)snprintf(g->label, sizeof(g->label), "%s", label);
}

/* Six regions, fifteen attempts and three of the contrast. */
static void fill(struct isolate_report *r)
{
    *r = (struct isolate_report){ .device = "0000:00:04.0 1234:11e8 (edu)",
                                  .iommu = "VT-d, through VFIO type 1" };
    give(r, "its own buffer", 0x100000, 0x4000, true, true, false);
    give(r, "a buffer to read from", 0x104000, 0x1000, true, false, false);
    give(r, "a buffer with a rather long label, for wrap", 0x200000, 0x200000, true, true, false);
    give(r, "results, never read", 0x800000, 0x1000, false, true, false);
    give(r, "a page above 4 GiB", 0x140000000, 0x1000, true, true, false);
    give(r, "the last page of 39 bits", 0x7ffffff000, 0x1000, true, false, false);
    give(r, "all of memory, by identity", 0, 0x4000000, true, true, true);
    try(r, "write to its own buffer", 0x100000, 2048, true, true);
    try(r, "read it back", 0x100000, 2048, false, true);
    try(r, "read from the buffer that is read only", 0x104000, 4096, false, true);
    try(r, "write to the buffer that is read only", 0x104000, 4096, true, false);
    try(r, "write over the end of its own buffer, half of it in the next one", 0x103c00, 2048, true,
        false);
    try(r, "write to an iova that nothing is mapped at", 0x300000 + 0x200000, 2048, true, false);
    try(r, "read from there", 0x300000 + 0x200000, 2048, false, false);
    try(r, "write to a page of another domain", 0x600000, 4096, true, false);
    try(r, "write to a page after it was unmapped", 0x700000, 4096, true, false);
    try(r, "read what may be written only", 0x800000, 512, false, false);
    try(r, "write above 4 GiB", 0x140000000, 4096, true, true);
    try(r, "write to the window of message-signalled interrupts, as if it were memory", 0xfee00000,
        4, true, false);
    try(r, "write to the page before the buffer", 0xff000, 4096, true, false);
    try(r, "read from beyond the address width", UINT64_C(0xffffffffff000), 4096, false, false);
    try(r, "read from the last page", 0x7ffffff000, 4096, false, true);
    try(r, "write to an iova that nothing is mapped at", 0x500000, 2048, true, true)->contrast =
        true;
    try(r, "write to a page of another domain", 0x600000, 4096, true, true)->contrast = true;
    try(r, "write to the page before the buffer", 0xff000, 4096, true, true)->contrast = true;
}

static char *page_of(const struct isolate_report *r, char *path)
{
    char *text = calloc(1, 1u << 20);
    struct error err;
    FILE *f;
    int fd;

    (void)strcpy(path, "/tmp/test_iova_picture.XXXXXX");
    fd = mkstemp(path);
    assert_true(fd >= 0 && text);
    (void)close(fd);
    assert_int_equal(isolate_picture(r, path, &err), 0);
    f = fopen(path, "re");
    assert_non_null(f);
    assert_true(fread(text, 1, (1u << 20) - 1, f) > 0);
    (void)fclose(f);
    return text;
}

static unsigned occurs(const char *text, const char *what)
{
    unsigned n = 0;

    for (; (text = strstr(text, what)) != NULL; text += strlen(what))
        n++;
    return n;
}

static void check_xml(const char *path)
{
    char command[256];

    (void)snprintf(command, sizeof(command),
                   "python3 -c 'import sys, xml.dom.minidom as m; m.parse(sys.argv[1])' %s", path);
    assert_int_equal(system(command), 0);
}

static void page_has_all(void **state)
{
    struct isolate_report r;
    char path[64], text[64];
    char *page;

    (void)state;
    fill(&r);
    page = page_of(&r, path);
    check_xml(path);
    assert_int_equal(occurs(page, "<g class=\"attempt\">"), r.attempts);
    assert_int_equal(occurs(page, "<tr><td>") + occurs(page, "<tr class=\"contrast\"><td>"),
                     r.attempts);
    for (size_t i = 0; i < r.attempts; i++) {
        (void)snprintf(text, sizeof(text), "<code>0x%08llx</code>",
                       (unsigned long long)r.attempt[i].iova);
        assert_non_null(strstr(page, text));
        assert_non_null(strstr(page, r.attempt[i].what));
        assert_non_null(strstr(page, r.attempt[i].said));
        (void)snprintf(text, sizeof(text), "%016llx", (unsigned long long)r.attempt[i].after);
        assert_true(!r.attempt[i].sums || strstr(page, text));
    }
    for (size_t i = 0; i < r.regions; i++) {
        (void)snprintf(text, sizeof(text), ">0x%08llx<", (unsigned long long)r.region[i].iova);
        assert_non_null(strstr(page, text));
    }
    /* Blocked attempts have crosses, one more is in the legend. */
    assert_int_equal(occurs(page, "<path class=\"cross\""), 10 + 1);
    assert_non_null(strstr(page, "class=\"verdict passed\""));
    assert_non_null(strstr(page, "prefers-color-scheme:dark"));
    assert_null(strstr(page, "<script"));
    free(page);
    (void)unlink(path);
}

static void page_escapes(void **state)
{
    struct isolate_report r = { .device = "<script>alert(1)</script>",
                                .iommu = "\"&\x1b[31m\xff\xc3\xa9\xed\xa0\x80" };
    char path[64];
    char *page;

    (void)state;
    try(&r, "</title><b>'&'\n\x01 ]]>", 0x1000, 4, true, false);
    (void)snprintf(r.attempt[0].said, sizeof(r.attempt[0].said), "<!-- \xe2\x82");
    give(&r, "</svg><i>&\xf0\x9f\x98\x80", 0x2000, 0x1000, true, true, false);
    page = page_of(&r, path);
    check_xml(path);
    assert_null(strstr(page, "<script>"));
    assert_null(strstr(page, "<b>"));
    assert_null(strstr(page, "<i>"));
    assert_non_null(strstr(page, "&lt;script&gt;alert(1)"));
    assert_non_null(strstr(page, "&quot;&amp;?[31m?\xc3\xa9???"));
    free(page);
    (void)unlink(path);
}

/* Any addresses: the page stays well-formed, and the axis goes down. */
static void page_takes_any_addresses(void **state)
{
    struct isolate_report r = { .device = "d", .iommu = "i" };
    struct layout l;
    char path[64];
    char *page;

    (void)state;
    page = page_of(&r, path); /* nothing at all */
    check_xml(path);
    free(page);
    (void)unlink(path);
    srandom(7);
    for (unsigned i = 0; i < ISOLATE_REGIONS_MAX; i++)
        give(&r, i % 3 ? "label" : "",
             i % 5 ? (uint64_t)random() << (random() % 34) : UINT64_MAX - i,
             (uint64_t)random() << (random() % 34), i & 1, i & 2, i & 4);
    for (unsigned i = 0; i < ISOLATE_ATTEMPTS_MAX; i++)
        try(&r, i % 3 ? "what" : "", i % 7 ? (uint64_t)random() << (random() % 34) : UINT64_MAX,
            i % 4 ? (uint32_t)random() : 0, i & 1, i & 2)
            ->contrast = i & 4;
    layout_make(&l, &r, 10);
    for (size_t i = 1; i < l.count; i++) {
        assert_true(l.interval[i].from > l.interval[i - 1].from);
        assert_true(l.interval[i].y >= l.interval[i - 1].y + 26);
    }
    for (size_t i = 0; i < r.attempts; i++)
        for (size_t k = 0; k < i; k++)
            if (r.attempt[i].contrast == r.attempt[k].contrast)
                assert_true(labs((long)l.attempt_y[i] - (long)l.attempt_y[k]) >= 30);
    page = page_of(&r, path);
    check_xml(path);
    free(page);
    (void)unlink(path);
}

static void picture_says_why(void **state)
{
    struct isolate_report r = { .attempts = 0 };
    struct error err;

    (void)state;
    assert_true(isolate_picture(&r, "/nowhere/at/all.html", &err) < 0);
    assert_non_null(strstr(err.text, "/nowhere/at/all.html"));
    assert_true(isolate_picture(&r, "/dev/full", &err) < 0);
}

/* --- text --------------------------------------------------------------------------------------
 */

static char *line_of(const struct isolate_attempt *a)
{
    char *text = NULL;
    size_t len = 0;
    FILE *f = open_memstream(&text, &len);

    assert_non_null(f);
    isolate_print_attempt(f, a);
    assert_int_equal(fclose(f), 0);
    return text;
}

static char *end_of(const struct isolate_report *r)
{
    char *text = NULL;
    size_t len = 0;
    FILE *f = open_memstream(&text, &len);

    assert_non_null(f);
    isolate_print_end(f, r);
    assert_int_equal(fclose(f), 0);
    return text;
}

static void lines_line_up(void **state)
{
    struct isolate_report r;
    char *line, *end;
    long column = -1;

    (void)state;
    fill(&r);
    for (size_t i = 0; i < r.attempts; i++) {
        const struct isolate_attempt *a = &r.attempt[i];
        long at;

        line = line_of(a);
        assert_memory_equal(line, a->went ? "through" : "blocked", 7);
        assert_memory_equal(line + 9, a->write ? "write" : "read ", 5);
        assert_int_equal(strlen(line) - 1, strcspn(line, "\n"));
        end = strstr(line, a->write ? " memory " : " device ");
        assert_non_null(end);
        at = end - line;
        if (strlen(a->what) <= 44 && a->iova < UINT64_C(1) << 32) {
            assert_true(column < 0 || column == at);
            column = at;
        }
        if (a->said[0])
            assert_non_null(strstr(line, a->said));
        free(line);
    }
    assert_true(column > 0);
}

static void text_has_no_control_characters(void **state)
{
    struct isolate_attempt a = { .what = "a\x1b[2Jb\n", .said = "\r\x7f" };
    char *line = line_of(&a);

    (void)state;
    assert_non_null(strstr(line, "a?[2Jb?"));
    assert_int_equal(strcspn(line, "\x1b\r\x7f"), strlen(line));
    free(line);
}

static void verdict(void **state)
{
    struct isolate_report r = { .attempts = 0 };
    char *text;

    (void)state;
    assert_false(isolate_passed(&r));
    fill(&r);
    assert_true(isolate_passed(&r));
    text = end_of(&r);
    assert_non_null(strstr(text,
                           "\nisolated: 5 attempts at what the device was given went through, "
                           "10 at other memory were blocked; with an identity mapping 3 "
                           "went through\n"));
    free(text);

    r.attempt[3].went = true; /* what should have been blocked */
    assert_false(isolate_passed(&r));
    text = end_of(&r);
    assert_non_null(strstr(text, "\nNOT isolated: 1 of 18"));
    free(text);
    text = line_of(&r.attempt[3]);
    assert_non_null(strstr(text, "<- should have been blocked"));
    free(text);

    fill(&r);
    r.attempt[0].went = false; /* what should have worked */
    r.attempt[0].after = r.attempt[0].before;
    assert_false(isolate_passed(&r));
    fill(&r);
    r.attempt[3].after++; /* blocked, they say, but memory is another */
    assert_false(isolate_passed(&r));
}

/* The reference value of XXH64 of nothing, seed 0 (xxHash's specification, test vectors). */
static void sums_are_xxh64(void **state)
{
    (void)state;
    assert_int_equal(isolate_sum("", 0), UINT64_C(0xef46db3751d8e999));
    assert_true(isolate_sum("a", 1) != isolate_sum("b", 1));
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(page_has_all),
        cmocka_unit_test(page_escapes),
        cmocka_unit_test(page_takes_any_addresses),
        cmocka_unit_test(picture_says_why),
        cmocka_unit_test(lines_line_up),
        cmocka_unit_test(text_has_no_control_characters),
        cmocka_unit_test(verdict),
        cmocka_unit_test(sums_are_xxh64),
    };

    if (argc == 2) { /* for eyes: the made page, as that file */
        struct isolate_report r;
        struct error err;

        fill(&r);
        for (size_t i = 0; i < r.attempts; i++)
            isolate_print_attempt(stdout, &r.attempt[i]);
        isolate_print_end(stdout, &r);
        return isolate_picture(&r, argv[1], &err) < 0;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
