/* struct error: what travels, and that an error never looks like success. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "vmm/error.h"

static void code_is_returned(void **state)
{
    struct error err;

    (void)state;
    assert_int_equal(error_set(&err, -ENOENT, "kernel '%s': no such file", "x"), -ENOENT);
    assert_string_equal(err.text, "kernel 'x': no such file");
}

static void success_becomes_an_error(void **state)
{
    struct error err;

    (void)state;
    assert_int_equal(error_set(&err, 0, "zero"), -EIO);
    assert_int_equal(error_set(&err, EINVAL, "positive"), -EIO);
}

static void long_text_is_cut(void **state)
{
    struct error err;
    char text[2 * sizeof(err.text)];

    (void)state;
    memset(text, 'a', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    assert_int_equal(error_set(&err, -EINVAL, "%s", text), -EINVAL);
    assert_int_equal(strlen(err.text), sizeof(err.text) - 1);
}

static void nobody_wants_the_text(void **state)
{
    (void)state;
    assert_int_equal(error_set(NULL, -EPERM, "dropped"), -EPERM);
}

static void the_kernel_blames_no_user(void **state)
{
    (void)state;
    assert_int_equal(error_of_kernel(-EINVAL), -EIO);
    assert_int_equal(error_of_kernel(-E2BIG), -EIO);
    assert_int_equal(error_of_kernel(-EPERM), -EPERM);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(code_is_returned),          cmocka_unit_test(success_becomes_an_error),
        cmocka_unit_test(long_text_is_cut),          cmocka_unit_test(nobody_wants_the_text),
        cmocka_unit_test(the_kernel_blames_no_user),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
