/*
 * What a guest says of a device's attempts: lines as agreed, lines that are not, and programs that
 * end in other ways. Scripts stand for VMs.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tools/isolate_guest.h"

#define ATTEMPT                                                                                  \
    "isolate: attempt what=write to an unmapped iova|iova=0x300000|len=2048|write=1|contrast=0|" \
    "allowed=0|went=0|before=0123456789abcdef|after=0123456789abcdef|said=not mapped: 00:01.0"

static void region(void **state)
{
    struct isolate_report r = { .regions = 0 };
    struct error err;

    (void)state;
    assert_int_equal(isolate_take_line("isolate: region iova=0x100000000 len=16384 read=1 write=0 "
                                       "contrast=0 label=a buffer = its own",
                                       &r, &err),
                     ISOLATE_REGION);
    assert_int_equal(r.regions, 1);
    assert_int_equal(r.region[0].iova, 0x100000000);
    assert_int_equal(r.region[0].len, 16384);
    assert_true(r.region[0].read);
    assert_false(r.region[0].write);
    assert_false(r.region[0].contrast);
    assert_string_equal(r.region[0].label, "a buffer = its own");
}

static void attempt(void **state)
{
    struct isolate_report r = { .regions = 0 };
    const struct isolate_attempt *a = r.attempt;
    struct error err;

    (void)state;
    assert_int_equal(isolate_take_line(ATTEMPT, &r, &err), ISOLATE_ATTEMPT);
    assert_string_equal(a->what, "write to an unmapped iova");
    assert_int_equal(a->iova, 0x300000);
    assert_int_equal(a->len, 2048);
    assert_true(a->write);
    assert_false(a->contrast || a->allowed || a->went);
    assert_true(a->sums);
    assert_int_equal(a->before, 0x0123456789abcdef);
    assert_int_equal(a->after, 0x0123456789abcdef);
    assert_string_equal(a->said, "not mapped: 00:01.0");

    assert_int_equal(isolate_take_line("isolate: attempt what=|iova=0x0|len=0|write=0|contrast=1|"
                                       "allowed=1|went=1|before=|after=|said=",
                                       &r, &err),
                     ISOLATE_ATTEMPT);
    assert_false(a[1].sums);
    assert_true(a[1].contrast && a[1].allowed && a[1].went);
    assert_int_equal(isolate_take_line("isolate: done attempts=2", &r, &err), ISOLATE_DONE);
    assert_int_equal(isolate_take_line("isolate: done attempts=3", &r, &err), -EPROTO);
}

/* Each of these begins as one of ours does, and is none. */
static void refused(void **state)
{
    static const char *const bad[] = {
        "isolate: region ",
        "isolate: region iova= len=1 read=1 write=1 contrast=0 label=",
        "isolate: region iova=0x10000000000000000 len=1 read=1 write=1 contrast=0 label=",
        "isolate: region iova=-1 len=1 read=1 write=1 contrast=0 label=",
        "isolate: region iova=0x1 len=1 read=2 write=1 contrast=0 label=",
        "isolate: region iova=0x1 len=1 write=1 read=1 contrast=0 label=",
        "isolate: region iova=0x1 len=1x read=1 write=1 contrast=0 label=",
        "isolate: region iova=0x1 len=1 read=1 write=1 contrast=0",
        "isolate: region iova=0x1  len=1 read=1 write=1 contrast=0 label=",
        "isolate: attempt ",
        "isolate: attempt what=x",
        "isolate: attempt what=x|iova=0x1|len=4294967296|write=0|contrast=0|allowed=0|went=0|"
        "before=|after=|said=",
        "isolate: attempt what=x|iova=0x1|len=1|write=|contrast=0|allowed=0|went=0|before=|after=|"
        "said=",
        "isolate: attempt what=x|iova=0x1|len=1|write=0|contrast=0|allowed=0|went=0|before=xyz|"
        "after=|said=",
        "isolate: attempt what=x|iova=0x1|len=1|write=0|contrast=0|allowed=0|went=0|before=|after=",
        "isolate: done ",
        "isolate: done attempts=",
        "isolate: done attempts= 0",
        "isolate: done attempts=0 more",
        "isolate: done attempts=1",
    };
    struct isolate_report r = { .regions = 0 };
    struct error err;

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_int_equal(isolate_take_line(bad[i], &r, &err), -EPROTO);
        assert_int_equal(r.regions + r.attempts, 0);
        assert_true(strlen(err.text) > 0 && !strchr(err.text, '\x1b'));
    }
    assert_int_equal(isolate_take_line("", &r, &err), ISOLATE_OTHER);
    assert_int_equal(isolate_take_line("isolate:", &r, &err), ISOLATE_OTHER);
    assert_int_equal(isolate_take_line("isolate: no device", &r, &err), ISOLATE_OTHER);
    assert_int_equal(isolate_take_line(" isolate: done attempts=0", &r, &err), ISOLATE_OTHER);
}

static void bounds(void **state)
{
    struct isolate_report r = { .regions = 0 };
    char line[900];
    struct error err;

    (void)state;
    (void)snprintf(line, sizeof(line),
                   "isolate: attempt what=%0200d|iova=0x1|len=1|write=0|contrast=0|allowed=0|"
                   "went=0|before=|after=|said=\x1b[2J%0400d",
                   0, 0);
    for (unsigned i = 0; i < ISOLATE_ATTEMPTS_MAX; i++)
        assert_int_equal(isolate_take_line(line, &r, &err), ISOLATE_ATTEMPT);
    assert_int_equal(strlen(r.attempt[0].what), sizeof(r.attempt[0].what) - 1);
    assert_int_equal(strlen(r.attempt[0].said), sizeof(r.attempt[0].said) - 1);
    assert_int_equal(r.attempt[0].said[0], '?');
    assert_int_equal(isolate_take_line(line, &r, &err), -E2BIG);
    for (unsigned i = 0; i < ISOLATE_REGIONS_MAX; i++)
        assert_int_equal(
            isolate_take_line("isolate: region iova=0x1 len=0x10 read=1 write=1 contrast=0 label=x",
                              &r, &err),
            ISOLATE_REGION);
    assert_int_equal(
        isolate_take_line("isolate: region iova=0x1 len=0x10 read=1 write=1 contrast=0 label=x", &r,
                          &err),
        -E2BIG);
}

/* --- programs ----------------------------------------------------------------------------------
 */

/* Only of attempts that were blocked, and of which nothing was said. */
static void listen(void *ctx, struct isolate_attempt *a)
{
    assert_null(ctx);
    assert_false(a->went);
    assert_int_equal(a->said[0], 0);
    (void)snprintf(a->said, sizeof(a->said), "heard");
}

static int collect(const char *script, struct isolate_report *r, char **printed, char **logged,
                   struct error *err)
{
    const char *const argv[] = { "/bin/sh", "-c", script, "sh", ATTEMPT, NULL };
    size_t size, log_size;
    FILE *to = open_memstream(printed, &size), *log = open_memstream(logged, &log_size);
    struct isolate_program program = { .argv = argv, .to = to, .log = log, .listen = listen };
    int rc;

    assert_true(to && log);
    memset(r, 0, sizeof(*r));
    rc = isolate_collect(&program, r, err);
    assert_int_equal(fclose(to) | fclose(log), 0);
    assert_true(log_size <= 8192);
    return rc;
}

static void programs(void **state)
{
    static const struct {
        const char *script;
        int rc;
        size_t attempts;
        const char *says; /* the error */
        const char *log;  /* is in what is left of the console */
    } row[] = {
        { "echo booting; echo \"$1\"; printf '%s\\r\\n' \"$1\"; echo isolate: done attempts=2", 0,
          2, "", NULL },
        { "echo \"$1\"; echo isolate: done attempts=1; exit 1", 0, 1, "", NULL },
        { "printf '%s\\nisolate: done attempts=1' \"$1\"", 0, 1, "",
          NULL }, /* without a last newline */
        { "echo \"$1\"", -EIO, 1, "status 0 after 1 attempts", NULL },
        { "echo \"$1\"; echo isolate: done attempts=1; exit 127", -EIO, 1, "crashed", NULL },
        { "seq 100000; echo panic; exit 126", -EIO, 0, "crashed", "\n100000\npanic\n" },
        { "exit 124", -ETIMEDOUT, 0, "not through", NULL },
        { "kill -9 $$", -EIO, 0, "status 137", NULL },
        { "echo isolate: attempt nonsense; exec sleep 1000", -EPROTO, 0, "nonsense", NULL },
        { "exec yes", -EPROTO, 0, "more than 1 MiB", NULL },
        { "exec tr '\\0' x </dev/zero", -EPROTO, 0, "more than 1 MiB", NULL }, /* one line */
        /* Too long to be one of ours; what comes after it is. */
        { "printf 'isolate: region %02000d\\n' 0; echo \"$1\"; echo isolate: done attempts=1", 0, 1,
          "", NULL },
        { "read x; echo isolate: done attempts=0", 0, 0, "", NULL }, /* nobody types */
    };

    (void)state;
    for (size_t i = 0; i < sizeof(row) / sizeof(row[0]); i++) {
        struct isolate_report r;
        struct error err = { "" };
        char *printed = NULL, *logged = NULL;
        unsigned lines = 0;

        assert_int_equal(collect(row[i].script, &r, &printed, &logged, &err), row[i].rc);
        assert_int_equal(r.attempts, row[i].attempts);
        assert_non_null(strstr(err.text, row[i].says));
        for (const char *p = printed; (p = strchr(p, '\n')) != NULL; p++)
            lines++;
        assert_int_equal(lines, row[i].attempts);
        assert_true(row[i].rc || !*logged);
        assert_true(!row[i].log || strstr(logged, row[i].log));
        free(printed);
        free(logged);
    }
}

static void heard(void **state)
{
    static const char script[] =
        "for w in 0 1; do for s in '' x; do "
        "echo \"isolate: attempt what=|iova=0x0|len=0|write=1|contrast=0|allowed=$w|went=$w|"
        "before=|after=|said=$s\"; done; done; echo isolate: done attempts=4";
    struct isolate_report r;
    struct error err = { "" };
    char *printed = NULL, *logged = NULL;

    (void)state;
    assert_int_equal(collect(script, &r, &printed, &logged, &err), 0);
    assert_string_equal(r.attempt[0].said, "heard");
    assert_string_equal(r.attempt[1].said, "x");
    assert_string_equal(r.attempt[2].said, "");
    assert_string_equal(r.attempt[3].said, "x");
    assert_non_null(strstr(printed, "heard\n"));
    free(printed);
    free(logged);
}

static void no_program(void **state)
{
    const char *const argv[] = { "/nowhere/twofold", NULL };
    struct isolate_program program = { .argv = argv, .to = stderr, .log = stderr };
    struct isolate_report r = { .regions = 0 };
    struct error err;

    (void)state;
    assert_int_equal(isolate_collect(&program, &r, &err), -EIO);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(region),     cmocka_unit_test(attempt),  cmocka_unit_test(refused),
        cmocka_unit_test(bounds),     cmocka_unit_test(programs), cmocka_unit_test(heard),
        cmocka_unit_test(no_program),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
