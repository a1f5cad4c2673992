/* Devices that libvirt's daemon takes and gives back, where one runs. */
#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/unit/fake_libvirt.h"
#include "tests/unit/host_fixture.h"
#include "tools/bind.h"

static struct fake_libvirt *libvirt;
static char sockets[100];

static void move(void *ctx, int on)
{
    struct fake_host *f = ctx;

    fake_set_driver(f, NIC, on ? "vfio-pci" : "e1000e");
}

/* The library of the tests is loaded first: dlopen() then finds it by its name. */
static int load(void **state)
{
    char path[PATH_MAX];
    struct fake_libvirt *(*get)(void);
    ssize_t n = readlink("/proc/self/exe", path, sizeof(path) - 32);
    void *library, *symbol;

    (void)state;
    if (n <= 0)
        return -1;
    path[n] = '\0';
    strcpy(strrchr(path, '/') + 1, "fake_libvirt.so");
    library = dlopen(path, RTLD_NOW);
    symbol = library ? dlsym(library, "fake_libvirt") : NULL;
    if (!symbol)
        return -1;
    memcpy(&get, &symbol, sizeof(get));
    libvirt = get();
    return 0;
}

static int start(void **state)
{
    struct fake_host *f = fake_host_create();

    if (!f)
        return -1;
    *state = f;
    fake_device(f, "", NIC, 0x020000, "e1000e", 1);
    fake_file(f, "libvirt/virtqemud-sock", "", 0);
    (void)snprintf(sockets, sizeof(sockets), "%s/libvirt", f->dir);
    f->host.libvirt = sockets;
    *libvirt = (struct fake_libvirt){ .name = "pci_0000_00_03_0", .move = move, .ctx = f };
    return 0;
}

static int stop(void **state)
{
    fake_host_destroy(*state);
    return 0;
}

static void it_takes_and_gives_back(void **state)
{
    struct fake_host *f = *state;
    struct binding b;
    struct error err;

    assert_int_equal(bind_take(&b, &f->host, NIC, &err), 0);
    assert_string_equal(fake_driver(f, NIC), "vfio-pci");
    assert_int_equal(bind_give_back(&b, &f->host, &err), 0);
    assert_string_equal(fake_driver(f, NIC), "e1000e");
    assert_int_equal(libvirt->detached, 1);
    assert_int_equal(libvirt->attached, 1);
    assert_int_equal(libvirt->open, 0);
    assert_int_equal(f->writes, 0); /* none of ours */
}

/* A device that a domain has is not taken by another way. */
static void its_no_is_a_no(void **state)
{
    struct fake_host *f = *state;
    struct binding b;
    struct error err;

    libvirt->refuse = true;
    assert_int_equal(bind_take(&b, &f->host, NIC, &err), -EBUSY);
    assert_non_null(strstr(err.text, "in use by domain demo"));
    assert_string_equal(fake_driver(f, NIC), "e1000e");
    assert_int_equal(rmdir(f->records), 0);
    assert_int_equal(libvirt->open, 0);
}

/* Nobody answers, or it knows no such device, or there is no socket: by sysfs. */
static void without_it_by_sysfs(void **state)
{
    struct fake_host *f = *state;
    struct binding b;
    struct error err;

    for (int i = 0; i < 3; i++) {
        libvirt->no_daemon = i == 0;
        if (i == 1)
            libvirt->name[0] = '\0';
        if (i == 2)
            f->host.libvirt = NULL;
        assert_int_equal(bind_take(&b, &f->host, NIC, &err), 0);
        assert_string_equal(fake_driver(f, NIC), "vfio-pci");
        assert_int_equal(bind_give_back(&b, &f->host, &err), 0);
        assert_string_equal(fake_driver(f, NIC), "e1000e");
    }
    assert_int_equal(libvirt->detached, 0);
    assert_int_equal(libvirt->open, 0);
}

/* The daemon ended meanwhile, or refuses: the device goes back all the same. */
static void back_without_it(void **state)
{
    struct fake_host *f = *state;
    struct binding b;
    struct error err;

    assert_int_equal(bind_take(&b, &f->host, NIC, &err), 0);
    libvirt->refuse = true;
    assert_int_equal(bind_give_back(&b, &f->host, &err), 0);
    assert_string_equal(fake_driver(f, NIC), "e1000e");
    assert_int_equal(rmdir(f->records), 0);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, start, stop)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(it_takes_and_gives_back),
        TEST(its_no_is_a_no),
        TEST(without_it_by_sysfs),
        TEST(back_without_it),
    };

    return cmocka_run_group_tests(tests, load, NULL);
}
