/* Names of devices, and the sentences about a device that can't be had. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "vmm/vfio_group.h"

static void names(void **state)
{
    static const char *const bad[] = { "",         "4",         "00:04",    "00:04.8",
                                       "00:20.0",  "0:0:0:0.0", "00:04.0 ", "00000:00:04.0",
                                       "00:04.0.0" };
    struct vfio_bdf bdf;
    struct error err;

    (void)state;
    assert_int_equal(vfio_bdf_parse("4:1f.7", &bdf, &err), 0);
    assert_string_equal(bdf.name, "0000:04:1f.7");
    assert_int_equal(vfio_bdf_parse("00ab:00:04.0", &bdf, &err), 0);
    assert_string_equal(bdf.name, "00ab:00:04.0");
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_int_equal(vfio_bdf_parse(bad[i], &bdf, &err), -EINVAL);
}

/* As the user wrote it, and nothing else. */
static void who_asked(void **state)
{
    static const char *const what[] = { "--vfio", "isolate --device" };
    struct vfio_bdf bdf;
    struct error err;
    unsigned group;

    (void)state;
    assert_int_equal(vfio_bdf_parse("ffff:ff:1f.7", &bdf, &err), 0);
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(vfio_group_check(what[i], &bdf, &group, &err), -EINVAL);
        assert_memory_equal(err.text, what[i], strlen(what[i]));
        assert_non_null(strstr(err.text, ": there is no device ffff:ff:1f.7"));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(names), cmocka_unit_test(who_asked) };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
