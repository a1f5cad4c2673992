/*
 * Drawing walks: made results, none of which a VM gave, as text and as SVG; and what is typed for
 * an address.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tools/walk_command.h"
#include "tools/walk_shadow.h"
#include "tools/walk_view.h"

/* As of g guest and h host levels, with the numbers in the hardware's order. */
static json_t *made(unsigned g, unsigned h)
{
    static const char *const names[] = { "PTE", "PDE", "PDPTE", "PML4E", "PML5E" };
    json_t *rows = json_array(), *refs = json_array();
    int number = 0;

    for (unsigned r = 0; r <= g; r++) {
        unsigned top = g == 5 ? 5 : 4;
        const char *of = r < g ? names[top - 1 - r] : "page";

        json_array_append_new(rows, json_pack("{s:i, s:s, s:s, s:s}", "row", (int)r, "of", of,
                                              "gpa", "0x1230", "state", "present"));
        for (unsigned c = 0; c < h; c++)
            json_array_append_new(refs,
                                  json_pack("{s:i, s:s, s:i, s:i, s:i, s:s, s:s, s:s, s:[s, s]}",
                                            "number", ++number, "dimension", "host", "row", (int)r,
                                            "column", (int)c, "level", (int)(4 - c), "name",
                                            names[3 - c], "address", "0x7fffffffffff", "value",
                                            "0xffffffffffffffff", "flags", "R", "WB"));
        if (r < g)
            json_array_append_new(
                refs,
                json_pack("{s:i, s:s, s:i, s:i, s:i, s:s, s:s, s:s, s:[s, s]}", "number", ++number,
                          "dimension", "guest", "row", (int)r, "column", 4, "level", (int)(top - r),
                          "name", of, "address", "0x1230", "value", "0x27", "flags", "P", "A"));
    }
    return json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:i, s:i, s:i, s:i, s:n, s:o, s:o, s:s, s:s, "
                     "s:i, s:s, s:b}",
                     "name", "vm", "gva", "0x7ffd12345678", "gpa", "0x1230", "hva",
                     "0x7f0000001230", "hpa", "0x4560001230", "guest_format", "4-level",
                     "guest_levels", (int)g, "host_levels", (int)h, "count", number, "expected",
                     number, "fault", "rows", rows, "references", refs, "tables", "vcpu", "root",
                     "0x1000", "vcpu", 0, "access", "r", "user", 0);
}

static char *text_of(const json_t *walk, unsigned width, bool colour, bool utf8)
{
    struct walk_style style = { .width = width, .colour = colour, .utf8 = utf8 };
    char *text = NULL;
    size_t len = 0;
    FILE *f = open_memstream(&text, &len);

    assert_non_null(f);
    walk_print_text(walk, &style, f);
    assert_int_equal(fclose(f), 0);
    return text;
}

static char *svg_of(const json_t *walk)
{
    char *text = NULL;
    size_t len = 0;
    FILE *f = open_memstream(&text, &len);

    assert_non_null(f);
    walk_print_svg(walk, f);
    assert_int_equal(fclose(f), 0);
    return text;
}

static unsigned occurs(const char *text, const char *what)
{
    unsigned n = 0;

    while ((text = strstr(text, what))) {
        text += strlen(what);
        n++;
    }
    return n;
}

static size_t widest(const char *text)
{
    size_t most = 0;

    while (*text) {
        size_t n = strcspn(text, "\n");

        most = n > most ? n : most;
        text += n + (text[n] == '\n');
    }
    return most;
}

static void every_shape_has_all_its_references(void **state)
{
    (void)state;
    for (unsigned g = 0; g <= 5; g++) {
        for (unsigned h = 2; h <= 4; h++) {
            json_t *walk = made(g, h);
            char *wide = text_of(walk, 160, false, false),
                 *narrow = text_of(walk, 80, false, false);
            char *svg = svg_of(walk), last[32];

            assert_int_equal(occurs(wide, "ffffffffffffffff"), (g + 1) * h);
            assert_int_equal(occurs(narrow, "ffffffffffffffff"), (g + 1) * h);
            assert_int_equal(occurs(svg, "class=\"number\""), (g + 1) * (h + 1) - 1);
            /* An arrow into each box, and one to the page. */
            assert_int_equal(occurs(svg, "marker-end"), (g + 1) * (h + 1) - 1);
            (void)snprintf(last, sizeof(last), "%u references = ", (g + 1) * (h + 1) - 1);
            assert_non_null(strstr(wide, last));
            assert_non_null(strstr(svg, last));
            free(wide);
            free(narrow);
            free(svg);
            json_decref(walk);
        }
    }
}

static void no_line_is_wider_than_the_terminal(void **state)
{
    json_t *walk = made(4, 4);

    (void)state;
    for (unsigned width = 72; width < 200; width++) {
        char *text = text_of(walk, width, false, false);

        assert_in_range(widest(text), 40, width);
        free(text);
    }
    json_decref(walk);
}

static void colour_and_letters_beyond_ascii_only_where_wanted(void **state)
{
    json_t *walk = made(4, 4);
    char *plain = text_of(walk, 120, false, false), *colour = text_of(walk, 120, true, false);
    char *lines = text_of(walk, 120, false, true);

    (void)state;
    assert_null(strchr(plain, '\033'));
    for (const char *c = plain; *c; c++)
        assert_in_range(*c, '\n', '~');
    assert_non_null(strstr(colour, "\033["));
    /* Each colour is taken back. */
    assert_int_equal(occurs(colour, "\033[") % 2, 0);
    assert_int_equal(occurs(colour, "\033[0m") * 2, occurs(colour, "\033["));
    assert_non_null(strstr(lines, "│"));
    free(plain);
    free(colour);
    free(lines);
    json_decref(walk);
}

static void a_fault_marks_the_last_reference(void **state)
{
    json_t *walk = made(4, 4), *refs = json_object_get(walk, "references");
    struct walk_grid grid;
    unsigned marked = 0;
    char *text, *svg;

    (void)state;
    while (json_array_size(refs) > 17) /* the second one of the fourth row */
        json_array_remove(refs, 17);
    json_object_set_new(walk, "fault", json_pack("{s:s, s:s}", "dimension", "host", "text", "why"));
    json_object_set_new(walk, "count", json_integer(17));
    walk_grid(&grid, walk);
    for (unsigned r = 0; r < grid.rows; r++)
        for (unsigned c = 0; c < grid.columns; c++)
            marked += grid.row[r].cell[c].fault;
    assert_int_equal(marked, 1);
    assert_true(grid.row[3].cell[1].fault);
    text = text_of(walk, 120, false, false);
    svg = svg_of(walk);
    assert_non_null(strstr(text, "17 FAULT"));
    assert_non_null(strstr(text, "17 references until the fault"));
    assert_null(strstr(text, "hpa 456")); /* the page is not reached */
    assert_int_equal(occurs(svg, "#fde8e8"), 1);
    free(text);
    free(svg);
    json_decref(walk);
}

/* --- the shadow beside it ------------------------------------------------------------------ */

/* The first `count` of the four levels; level `lies` is out of sync (0: none). With four: a page of
 * 4K. */
static void add_shadow(json_t *walk, unsigned count, unsigned lies)
{
    static const char *const names[] = { "PML4E", "PDPTE", "PDE", "PTE" };
    json_t *entries = json_array();
    bool leaf = count == 4;

    for (unsigned i = 0; i < count; i++) {
        json_t *e = json_pack("{s:i, s:s, s:i, s:s, s:s, s:b, s:n, s:n, s:n, s:[]}", "level",
                              (int)(4 - i), "name", names[i], "index", 0x1f0 + (int)i, "address",
                              "0x80000005d000", "value", "0x0", "out_of_sync", lies == 4 - i,
                              "table", "page", "gpa", "flags");

        if (leaf && i == 3) {
            json_object_set_new(e, "page", json_integer(4096));
            json_object_set_new(e, "gpa", json_string("0x657000"));
        } else if (i + 1 < count) {
            json_object_set_new(e, "table", json_string("0x80000005e000"));
        }
        if (leaf || i + 1 < count) {
            json_object_set_new(e, "value", json_string("0x8000000000657067"));
            json_object_set_new(e, "flags", json_pack("[s, s, s, s]", "P", "W", "U", "NX"));
        }
        json_array_append_new(entries, e);
    }
    json_object_set_new(walk, "shadow",
                        json_pack("{s:i, s:s, s:s, s:s, s:b, s:o, s:o}", "ring", 3, "root",
                                  "0x80000005d000", "state", leaf ? "mapped" : "not filled", "text",
                                  "one sentence", "out_of_sync", lies != 0, "page",
                                  leaf ? json_integer(4096) : json_null(), "entries", entries));
}

static void a_shadow_has_a_line_and_a_box_a_level(void **state)
{
    (void)state;
    for (unsigned count = 1; count <= 4; count++) {
        json_t *walk = made(4, 4);
        char *before = svg_of(walk), *text, *svg;
        unsigned boxes = occurs(before, "<rect"), arrows = occurs(before, "marker-end");
        bool leaf = count == 4;

        add_shadow(walk, count, 0);
        text = text_of(walk, 120, false, false);
        svg = svg_of(walk);
        assert_int_equal(occurs(text, "@80000005d000"), count);
        assert_int_equal(occurs(text, " -> table 80000005e000"), count - 1);
        assert_int_equal(occurs(text, " -> 4K page 657000"), leaf);
        assert_int_equal(occurs(text, "not filled yet"), !leaf);
        assert_int_equal(occurs(text, "PTE   [1f3]"), leaf);
        assert_int_equal(occurs(text, "PWU NX"), leaf ? 4 : count - 1);
        assert_non_null(strstr(text, "as ring 3 sees these tables, root 0x80000005d000"));
        assert_null(strstr(text, "out of sync"));
        /* A box a level, and one for the page; an arrow into each but the first. */
        assert_int_equal(occurs(svg, "<rect"), boxes + count + leaf);
        assert_int_equal(occurs(svg, "marker-end"), arrows + count - 1 + leaf);
        assert_int_equal(occurs(svg, "not filled yet"), !leaf);
        /* Nothing of it where there is none. */
        assert_null(strstr(before, "shadow"));
        free(before);
        free(text);
        free(svg);
        json_decref(walk);
    }
}

static void entries_out_of_sync_are_marked(void **state)
{
    (void)state;
    for (unsigned level = 1; level <= 4; level++) {
        json_t *walk = made(4, 4);
        char brief[64], *wide, *narrow, *svg, *mark;

        add_shadow(walk, 4, level);
        wide = text_of(walk, 120, false, false);
        narrow = text_of(walk, 80, false, false);
        svg = svg_of(walk);
        assert_int_equal(occurs(wide, "out of sync"), 1);
        assert_int_equal(occurs(narrow, "out of sync"), 1);
        assert_int_equal(occurs(svg, "out of sync"), 1);
        assert_int_equal(occurs(svg, "#fde8e8"), 1);
        /* At its own level: as many lines below it as there are levels. */
        mark = strstr(wide, "out of sync");
        assert_int_equal(occurs(mark, "@80000005d000"), level - 1);
        mark = strstr(narrow, "out of sync");
        assert_int_equal(occurs(mark, "@80000005d000"), level - 1);
        assert_string_equal(walk_shadow_brief(walk, brief, sizeof(brief)), "mapped 4K out of sync");
        free(wide);
        free(narrow);
        free(svg);
        json_decref(walk);
    }
}

static void a_shadow_fits_the_terminal(void **state)
{
    json_t *walk = made(4, 4);

    (void)state;
    add_shadow(walk, 4, 1);
    for (unsigned width = 72; width < 200; width++) {
        char *text = text_of(walk, width, false, false);

        assert_in_range(widest(text), 40, width);
        free(text);
    }
    json_decref(walk);
}

static void what_the_shadow_is_in_a_few_words(void **state)
{
    json_t *walk = made(4, 4);
    char brief[64];

    (void)state;
    assert_string_equal(walk_shadow_brief(walk, brief, sizeof(brief)), "");
    add_shadow(walk, 4, 0);
    assert_string_equal(walk_shadow_brief(walk, brief, sizeof(brief)), "mapped 4K");
    add_shadow(walk, 2, 0);
    assert_string_equal(walk_shadow_brief(walk, brief, sizeof(brief)), "not filled");
    json_decref(walk);
}

/* A monitor of another version, or none at all: nothing may be believed. */
static void json_that_is_not_ours(void **state)
{
    static const char *const bad[] = {
        "{}",
        "[]",
        "{\"references\":[{\"row\":99,\"column\":-1,\"dimension\":\"host\"}],\"rows\":7}",
        "{\"references\":[1,null,{\"row\":-5,\"column\":4294967296,\"number\":-1}],\"rows\":[null]"
        "}",
        "{\"references\":[{\"dimension\":\"host\",\"row\":0,\"column\":0,\"number\":1,\"name\":"
        "\"a name that is far too long for it\",\"flags\":[null,\"\",{}]}],\"rows\":[{\"of\":"
        "\"another one that is far too long\",\"index\":-1,\"gpa\":7,\"state\":\"and a third "
        "one\"},"
        "{},{},{},{},{},{},{},{},{}],\"fault\":{}}",
        "{\"shadow\":7}",
        "{\"shadow\":{\"ring\":\"x\",\"root\":7,\"state\":\"a state that is far too long for its "
        "place\",\"text\":null,\"page\":-1,\"entries\":[7,{},{\"index\":-1,\"name\":\"a long "
        "name\","
        "\"flags\":[1,\"\",\"a flag that is much too long for the place that it has "
        "got\"],\"page\":"
        "-4096},{},{},{},{}]}}",
        "{\"gva\":7,\"hva\":null,\"hpa\":\"\",\"fault\":{\"error_bits\":[1,2,3]},\"hardware\":[]}",
    };

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        json_t *walk = json_loads(bad[i], 0, NULL);

        assert_non_null(walk);
        free(text_of(walk, 120, true, true));
        free(text_of(walk, 20, false, false));
        free(svg_of(walk));
        json_decref(walk);
    }
}

static void what_a_guest_names_is_no_markup(void **state)
{
    json_t *walk = made(4, 4);
    char *svg;

    (void)state;
    json_object_set_new(walk, "tables", json_string("process"));
    json_object_set_new(walk, "process", json_string("</text><script>\"&'"));
    svg = svg_of(walk);
    assert_null(strstr(svg, "<script"));
    assert_non_null(strstr(svg, "&lt;/text&gt;&lt;script&gt;&quot;&amp;'"));
    free(svg);
    json_decref(walk);
}

static void addresses_as_they_are_typed(void **state)
{
    static const struct {
        const char *text;
        uint64_t value;
    } good[] = {
        { "0", 0 },
        { "0x0", 0 },
        { "4096", 4096 },
        { "0x4096", 0x4096 },
        { "4096f", 0x4096f },
        { "DEAD_beef", 0xdeadbeef },
        { "0xFFFF_8000_0000_0000", UINT64_C(0xffff800000000000) },
        { "18446744073709551615", UINT64_MAX },
        { "0x000000000000000000000000001", 1 },
    };
    static const char *const bad[] = { "",
                                       "x",
                                       "0x",
                                       "_1",
                                       "1_",
                                       "1__2",
                                       "0x_1",
                                       "007",
                                       "1 ",
                                       " 1",
                                       "+1",
                                       "-1",
                                       "12g",
                                       "0xg",
                                       "1.5",
                                       "1K",
                                       "0x10000000000000000",
                                       "18446744073709551616",
                                       "0x0000000000000000000000000000000001" };
    uint64_t value;

    (void)state;
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        assert_int_equal(walk_parse_address("GVA", good[i].text, &value, NULL), 0);
        assert_int_equal(value, good[i].value);
    }
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_int_equal(walk_parse_address("GVA", bad[i], &value, NULL), -EINVAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_shape_has_all_its_references),
        cmocka_unit_test(no_line_is_wider_than_the_terminal),
        cmocka_unit_test(colour_and_letters_beyond_ascii_only_where_wanted),
        cmocka_unit_test(a_fault_marks_the_last_reference),
        cmocka_unit_test(a_shadow_has_a_line_and_a_box_a_level),
        cmocka_unit_test(entries_out_of_sync_are_marked),
        cmocka_unit_test(a_shadow_fits_the_terminal),
        cmocka_unit_test(what_the_shadow_is_in_a_few_words),
        cmocka_unit_test(json_that_is_not_ours),
        cmocka_unit_test(what_a_guest_names_is_no_markup),
        cmocka_unit_test(addresses_as_they_are_typed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
