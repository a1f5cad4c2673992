/* Taking devices from their drivers, and giving them back, on a machine made up in a folder. */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/unit/host_fixture.h"
#include "tools/bind.h"

static int check(struct fake_host *f, const char *bdf, struct error *err)
{
    return bind_check(&f->host, &bdf, 1, err);
}

static bool no_records(struct fake_host *f)
{
    return rmdir(f->records) == 0 || errno == ENOENT;
}

static void what_can_not_be_taken(void **state)
{
    struct fake_host *f = *state;
    const char *const both[] = { DISK, SISTER }, *const twice[] = { NIC, NIC };
    struct error err;

    assert_int_equal(check(f, NIC, &err), 0);
    assert_int_equal(check(f, ALONE, &err), 0);
    assert_int_equal(check(f, "0000:07:00.0", &err), -EINVAL);
    assert_non_null(strstr(err.text, "no PCI device 0000:07:00.0"));
    assert_int_equal(check(f, PORT, &err), -EINVAL);
    assert_non_null(strstr(err.text, "bridge"));
    assert_int_equal(check(f, OUTSIDE, &err), -ENODEV);
    assert_non_null(strstr(err.text, "no IOMMU"));

    /* The driver of another member of the group is in the way; a bridge, or none, is not. */
    assert_int_equal(check(f, SISTER, &err), -EBUSY);
    assert_non_null(strstr(err.text, DISK));
    assert_non_null(strstr(err.text, "ahci"));
    assert_int_equal(check(f, DISK, &err), 0);
    assert_int_equal(bind_check(&f->host, both, 2, &err), 0);
    assert_int_equal(bind_check(&f->host, twice, 2, &err), -EINVAL);
    assert_int_equal(f->writes, 0);
    assert_true(no_records(f));
}

static void taken_and_given_back(void **state)
{
    struct fake_host *f = *state;
    struct host_device d;
    struct binding b, other;
    struct error err;

    assert_int_equal(bind_take(&b, &f->host, NIC, &err), 0);
    assert_string_equal(fake_driver(f, NIC), "vfio-pci");
    /* It is ours alone. */
    assert_int_equal(bind_take(&other, &f->host, NIC, &err), -EBUSY);
    assert_string_equal(fake_driver(f, NIC), "vfio-pci");
    assert_int_equal(bind_give_back(&b, &f->host, &err), 0);
    assert_string_equal(fake_driver(f, NIC), "e1000e");
    assert_int_equal(host_device_read(&f->host, NIC, &d, NULL), 0);
    assert_string_equal(d.driver_override, "");
    assert_true(no_records(f));
    assert_int_equal(bind_give_back(&b, &f->host, &err), 0); /* nothing more */

    assert_int_equal(bind_take(&b, &f->host, ALONE, &err), 0);
    assert_string_equal(fake_driver(f, ALONE), "vfio-pci");
    assert_int_equal(bind_give_back(&b, &f->host, &err), 0);
    assert_string_equal(fake_driver(f, ALONE), "");
}

/* Somebody meant it for vfio-pci at the next boot, or for another driver. */
static void the_override_of_before_comes_back(void **state)
{
    static const char *const before[] = { "vfio-pci", "ahci", "e1000e" };
    struct fake_host *f = *state;
    struct host_device d;
    struct binding b;
    struct error err;

    for (size_t i = 0; i < sizeof(before) / sizeof(before[0]); i++) {
        fake_file(f, "sys/devices/pci0000:00/" NIC "/driver_override", before[i],
                  strlen(before[i]));
        assert_int_equal(bind_take(&b, &f->host, NIC, &err), 0);
        assert_string_equal(fake_driver(f, NIC), "vfio-pci");
        assert_int_equal(bind_give_back(&b, &f->host, &err), 0);
        assert_string_equal(fake_driver(f, NIC), "e1000e");
        assert_int_equal(host_device_read(&f->host, NIC, &d, NULL), 0);
        assert_string_equal(d.driver_override, before[i]);
        assert_true(no_records(f));
    }
}

static void on_vfio_before_stays_there(void **state)
{
    struct fake_host *f = *state;
    char holder[48], path[300];
    struct binding b, other;
    struct error err;

    assert_int_equal(f->host.load(f, "vfio-pci"), 0);
    fake_device(f, "", "0000:00:06.0", 0x020000, "vfio-pci", 6);
    assert_int_equal(bind_take(&b, &f->host, "0000:00:06.0", &err), 0);
    assert_int_equal(bind_take(&other, &f->host, "0000:00:06.0", &err), -EBUSY);
    (void)snprintf(holder, sizeof(holder), "by process %ld", (long)getpid());
    assert_non_null(strstr(err.text, holder));
    (void)snprintf(path, sizeof(path), "%s/0000:00:06.0", f->records);
    assert_int_equal(truncate(path, 0), 0);
    assert_int_equal(bind_take(&other, &f->host, "0000:00:06.0", &err), -EBUSY);
    assert_non_null(strstr(err.text, "by another process"));
    assert_int_equal(bind_give_back(&b, &f->host, &err), 0);
    assert_string_equal(fake_driver(f, "0000:00:06.0"), "vfio-pci");
    assert_int_equal(f->writes, 0);
    assert_true(no_records(f));
}

static void a_failure_leaves_it_where_it_was(void **state)
{
    static const char *const denied[] = { "/driver_override", "/driver/unbind", "/drivers_probe" };
    const char *const both[] = { NIC, DISK };
    struct fake_host *f = *state;
    struct binding b[2];
    struct error err;

    f->no_module = true;
    assert_int_equal(bind_take(b, &f->host, NIC, &err), -ENOENT);
    assert_non_null(strstr(err.text, "modprobe vfio-pci"));
    assert_string_equal(fake_driver(f, NIC), "e1000e");
    f->no_module = false;
    for (size_t i = 0; i < sizeof(denied) / sizeof(denied[0]); i++) {
        f->deny = denied[i];
        assert_int_equal(bind_take(b, &f->host, NIC, &err), -EACCES);
        assert_non_null(strstr(err.text, "root"));
        assert_string_equal(fake_driver(f, NIC), "e1000e");
        f->deny = NULL;
        assert_int_equal(bind_take(b, &f->host, NIC, &err), 0);
        assert_int_equal(bind_give_back(b, &f->host, &err), 0);
    }
    f->deny = "/driver_override"; /* the kernel's EINVAL is no wrong usage */
    f->deny_code = -EINVAL;
    assert_int_equal(bind_take(b, &f->host, NIC, &err), -EIO);
    f->deny = NULL;
    f->refuse_bind = true;
    assert_int_equal(bind_take_all(b, &f->host, both, 2, &err), -EIO);
    assert_string_equal(fake_driver(f, NIC), "e1000e");
    assert_string_equal(fake_driver(f, DISK), "ahci");
    assert_true(no_records(f));
}

/* Neither forth nor back, for e1000e was unloaded in between: both are told. */
static void a_failed_way_back_is_told(void **state)
{
    struct fake_host *f = *state;
    struct binding b;
    struct error err;
    char path[300];

    f->refuse_bind = true;
    (void)snprintf(path, sizeof(path), "%s/bus/pci/drivers/e1000e/bind", f->sys);
    assert_int_equal(unlink(path), 0);
    *strrchr(path, '/') = '\0';
    assert_int_equal(rmdir(path), 0);
    assert_int_equal(bind_take(&b, &f->host, NIC, &err), -EIO);
    assert_non_null(strstr(err.text, "can't be bound to vfio-pci"));
    assert_non_null(strstr(err.text, "; and device " NIC " can't be given back to driver e1000e"));
    assert_false(no_records(f));
}

/* The second one can't be taken: the first one is back. */
static void all_or_none(void **state)
{
    const char *const both[] = { NIC, DISK };
    struct fake_host *f = *state;
    struct binding b[2], other;
    struct error err;

    assert_int_equal(bind_take(&other, &f->host, DISK, &err), 0);
    assert_int_equal(bind_take_all(b, &f->host, both, 2, &err), -EBUSY);
    assert_string_equal(fake_driver(f, NIC), "e1000e");
    assert_string_equal(fake_driver(f, DISK), "vfio-pci");
    assert_int_equal(bind_give_back(&other, &f->host, &err), 0);
    assert_int_equal(bind_take_all(b, &f->host, both, 2, &err), 0);
    assert_int_equal(bind_give_back_all(b, 2, &f->host, &err), 0);
    assert_string_equal(fake_driver(f, NIC), "e1000e");
    assert_string_equal(fake_driver(f, DISK), "ahci");
    assert_true(no_records(f));
}

struct seen {
    int count[BIND_FAILED + 1];
    char driver[48];
};

static void on_record(void *ctx, enum bind_restored what, const struct binding *b,
                      const struct error *why)
{
    struct seen *s = ctx;

    (void)why;
    s->count[what]++;
    (void)snprintf(s->driver, sizeof(s->driver), "%s", b->driver);
}

/* Killed after each of the writes that taking it consists of. */
static void restored_after_a_kill(void **state)
{
    struct fake_host *f = *state;
    struct error err;

    for (int after = 1; after <= 3; after++) {
        struct seen seen = { .count = { 0 } };
        int status;
        pid_t pid = fork();

        if (pid == 0) {
            struct binding b;

            f->die_after_writes = after;
            _exit(bind_take(&b, &f->host, NIC, NULL) ? 1 : 2);
        }
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFSIGNALED(status));
        assert_int_equal(bind_restore(&f->host, NULL, on_record, &seen, &err), 0);
        assert_int_equal(seen.count[BIND_RESTORED], 1);
        assert_string_equal(seen.driver, "e1000e");
        assert_string_equal(fake_driver(f, NIC), "e1000e");
        assert_true(no_records(f));
    }
}

static void the_next_holder_knows_the_driver(void **state)
{
    struct fake_host *f = *state;
    struct binding b;
    struct error err;
    int status;
    pid_t pid = fork();

    if (pid == 0)
        _exit(bind_take(&b, &f->host, NIC, NULL) ? 1 : 0); /* and never gives it back */
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    assert_string_equal(fake_driver(f, NIC), "vfio-pci");
    assert_int_equal(bind_take(&b, &f->host, NIC, &err), 0);
    assert_string_equal(b.driver, "e1000e");
    assert_int_equal(bind_give_back(&b, &f->host, &err), 0);
    assert_string_equal(fake_driver(f, NIC), "e1000e");
    assert_true(no_records(f));
}

/* Somebody bound it by hand after the kill: that stays, and is what the next holder knows. */
static void what_is_now_wins(void **state)
{
    static const char old[] = "pid 1\ndriver ahci\noverride foo\nby libvirt\nend\n";
    struct fake_host *f = *state;
    struct seen seen = { .count = { 0 } };
    struct host_device d;
    struct binding b;
    struct error err;

    fake_file(f, "records/" NIC, old, strlen(old));
    assert_int_equal(bind_restore(&f->host, NULL, on_record, &seen, &err), 0);
    assert_int_equal(seen.count[BIND_MOVED], 1);
    assert_string_equal(seen.driver, "e1000e");
    assert_int_equal(f->writes, 0);
    assert_true(no_records(f));

    fake_file(f, "records/" NIC, old, strlen(old));
    assert_int_equal(bind_take(&b, &f->host, NIC, &err), 0);
    assert_string_equal(b.driver, "e1000e");
    assert_false(b.libvirt);
    assert_int_equal(bind_give_back(&b, &f->host, &err), 0);
    assert_string_equal(fake_driver(f, NIC), "e1000e");
    assert_int_equal(host_device_read(&f->host, NIC, &d, NULL), 0);
    assert_string_equal(d.driver_override, "");
    assert_true(no_records(f));
}

static void who_lives_keeps_it(void **state)
{
    struct fake_host *f = *state;
    struct seen seen = { .count = { 0 } };
    struct binding b;
    struct error err;

    assert_int_equal(bind_take(&b, &f->host, NIC, &err), 0);
    assert_int_equal(bind_restore(&f->host, NULL, on_record, &seen, &err), 0);
    assert_int_equal(seen.count[BIND_HELD], 1);
    assert_string_equal(fake_driver(f, NIC), "vfio-pci");
    assert_int_equal(bind_restore(&f->host, ALONE, on_record, &seen, &err), -ENOENT);
    assert_int_equal(bind_give_back(&b, &f->host, &err), 0);
}

/* Whatever stands in the folder. */
static void strange_records(void **state)
{
    static const char gone[] = "pid 1\ndriver e1000e\nby sysfs\nend\n";
    static const char cut[] = "pid 1\ndriver ah";
    static const char driver[] = "pid 1\ndriver nosuch\nby sysfs\nend\n";
    struct fake_host *f = *state;
    struct seen seen = { .count = { 0 } };
    char path[300];
    struct error err;

    fake_file(f, "records/0000:07:00.0", gone, strlen(gone));
    fake_file(f, "records/" NIC, cut, strlen(cut));
    fake_file(f, "records/" ALONE, driver, strlen(driver));
    fake_file(f, "records/notes", "x", 1);
    fake_link(f, "records/ffff:ff:1f.7", "/etc/passwd");
    assert_int_equal(bind_restore(&f->host, "ffff:ff:1f.7", on_record, &seen, &err), 0);
    assert_int_equal(seen.count[BIND_FAILED], 1);
    seen.count[BIND_FAILED] = 0;
    (void)snprintf(path, sizeof(path), "%s/ffff:ff:1f.7", f->records);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(bind_restore(&f->host, NULL, on_record, &seen, &err), 0);
    assert_int_equal(seen.count[BIND_GONE], 1);
    assert_int_equal(seen.count[BIND_RESTORED], 1); /* the one that was cut: nothing had happened */
    assert_int_equal(seen.count[BIND_FAILED], 1);
    assert_string_equal(fake_driver(f, NIC), "e1000e");
    /* What failed can be tried again. */
    fake_file(f, "sys/bus/pci/drivers/nosuch/bind", "", 0);
    assert_int_equal(bind_restore(&f->host, NULL, on_record, &seen, &err), 0);
    assert_int_equal(seen.count[BIND_RESTORED], 2);
    assert_string_equal(fake_driver(f, ALONE), "nosuch");
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, fake_machine_start, fake_machine_stop)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(what_can_not_be_taken),
        TEST(taken_and_given_back),
        TEST(the_override_of_before_comes_back),
        TEST(on_vfio_before_stays_there),
        TEST(a_failure_leaves_it_where_it_was),
        TEST(a_failed_way_back_is_told),
        TEST(all_or_none),
        TEST(restored_after_a_kill),
        TEST(the_next_holder_knows_the_driver),
        TEST(what_is_now_wins),
        TEST(who_lives_keeps_it),
        TEST(strange_records),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
