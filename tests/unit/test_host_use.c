/* What the devices of a machine are to it: named, needed, isolated. A machine made up in a folder.
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

#include "tests/unit/host_fixture.h"
#include "tools/bind.h"

static int check(struct fake_host *f, const char *bdf, struct error *err)
{
    return bind_check(&f->host, &bdf, 1, err);
}

static void names(void **state)
{
    static const char *const bad[] = { "",
                                       "0",
                                       "00:04",
                                       "0:4",
                                       "00:04.8",
                                       "00:20.0",
                                       "00:04.0 ",
                                       " 00:04.0",
                                       "00:04.00",
                                       "00000:00:04.0",
                                       "123456789:00:04.0",
                                       "0000:00:04.0.0",
                                       "0000:0g:04.0",
                                       "../../etc",
                                       "0000:00:04.0/..",
                                       "0x00:04.0",
                                       "-0:04.0" };
    char out[BDF_SIZE];

    (void)state;
    assert_int_equal(bdf_parse("x", "00:04.0", out, NULL), 0);
    assert_string_equal(out, "0000:00:04.0");
    assert_int_equal(bdf_parse("x", "0000:FF:1f.7", out, NULL), 0);
    assert_string_equal(out, "0000:ff:1f.7");
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_int_equal(bdf_parse("x", bad[i], out, NULL), -EINVAL);
}

static void what_the_machine_needs_stays(void **state)
{
    static const char flags_up[] = "0x1003\n", flags_down[] = "0x1002\n";
    static const char mounts[] = "21 1 253:0 / / rw,relatime shared:1 - ext4 /dev/mapper/x rw\n";
    struct fake_host *f = *state;
    char target[300];
    struct error err;

    (void)snprintf(target, sizeof(target), "%s/devices/pci0000:00/" NIC "/net/eth7", f->sys);
    fake_file(f, "sys/devices/pci0000:00/" NIC "/net/eth7/flags", flags_up, strlen(flags_up));
    fake_link(f, "sys/class/net/eth7", target);
    assert_int_equal(check(f, NIC, &err), -EBUSY);
    assert_non_null(strstr(err.text, "eth7"));
    fake_file(f, "sys/devices/pci0000:00/" NIC "/net/eth7/flags", flags_down, strlen(flags_down));
    assert_int_equal(check(f, NIC, &err), 0);

    /* The root file system on a volume of a partition of a disk. */
    fake_file(f, "sys/devices/pci0000:00/" PORT "/" DISK "/ata1/block/sda/sda1/x", "", 0);
    (void)snprintf(target, sizeof(target),
                   "%s/devices/pci0000:00/" PORT "/" DISK "/ata1/block/sda/sda1", f->sys);
    fake_link(f, "sys/devices/virtual/block/dm-0/slaves/sda1", target);
    (void)snprintf(target, sizeof(target), "%s/devices/virtual/block/dm-0", f->sys);
    fake_link(f, "sys/dev/block/253:0", target);
    fake_file(f, "proc/self/mountinfo", mounts, strlen(mounts));
    assert_int_equal(check(f, DISK, &err), -EBUSY);
    assert_non_null(strstr(err.text, "file system of /:"));
    fake_file(f, "proc/self/mountinfo", "", 0);
    assert_int_equal(check(f, DISK, &err), 0);
    assert_int_equal(f->writes, 0);
}

static void link_to(struct fake_host *f, const char *path, const char *in_sys)
{
    char target[300];

    (void)snprintf(target, sizeof(target), "%s/%s", f->sys, in_sys);
    fake_link(f, path, target);
}

/* A disk with two ways to it has no PCI folder above it. */
static void a_disk_of_nvme_multipath_stays(void **state)
{
    static const char mounts[] = "21 1 259:2 / / rw - ext4 /dev/nvme0n1p2 rw\n";
    static const char subsystem[] = "sys/devices/virtual/nvme-subsystem/nvme-subsys0";
    struct fake_host *f = *state;
    char path[200];
    struct error err;

    (void)snprintf(path, sizeof(path), "%s/nvme0n1/nvme0n1p2/partition", subsystem);
    fake_file(f, path, "2\n", 2);
    fake_file(f, "sys/devices/pci0000:00/" PORT "/" DISK "/nvme/nvme0/state", "live\n", 5);
    (void)snprintf(path, sizeof(path), "%s/nvme0", subsystem);
    link_to(f, path, "devices/pci0000:00/" PORT "/" DISK "/nvme/nvme0");
    link_to(f, "sys/dev/block/259:2",
            "devices/virtual/nvme-subsystem/nvme-subsys0/nvme0n1/nvme0n1p2");
    assert_int_equal(check(f, DISK, &err), 0);
    fake_file(f, "proc/self/mountinfo", mounts, strlen(mounts));
    assert_int_equal(check(f, DISK, &err), -EBUSY);
    assert_non_null(strstr(err.text, "file system of /:"));
    assert_int_equal(check(f, NIC, &err), 0);
}

/* A partition of a RAID: the RAID's folder names the disks. */
static void a_disk_of_a_raid_stays(void **state)
{
    static const char mounts[] = "21 1 259:0 / /srv rw - ext4 /dev/md0p1 rw\n";
    struct fake_host *f = *state;
    struct error err;

    fake_file(f, "sys/devices/pci0000:00/" PORT "/" DISK "/ata1/block/sda/size", "8\n", 2);
    fake_file(f, "sys/devices/virtual/block/md0/md0p1/partition", "1\n", 2);
    link_to(f, "sys/devices/virtual/block/md0/slaves/sda",
            "devices/pci0000:00/" PORT "/" DISK "/ata1/block/sda");
    link_to(f, "sys/dev/block/259:0", "devices/virtual/block/md0/md0p1");
    fake_file(f, "proc/self/mountinfo", mounts, strlen(mounts));
    assert_int_equal(check(f, DISK, &err), -EBUSY);
    assert_non_null(strstr(err.text, "file system of /srv:"));
}

static void a_disk_of_a_pool_stays(void **state)
{
    static const char *const pools[] = { "21 1 0:25 / / rw - zfs tank/root rw\n",
                                         "21 1 0:25 / / rw - bcachefs /dev/x1:/dev/x2 rw\n" };
    static const char other[] = "21 1 0:25 / /tmp rw - tmpfs tank rw\n";
    static const char sda[] = "devices/pci0000:00/" PORT "/" DISK "/ata1/block/sda";
    struct fake_host *f = *state;
    struct error err;

    fake_file(f, "sys/devices/pci0000:00/" PORT "/" DISK "/ata1/block/sda/size", "8\n", 2);
    for (size_t i = 0; i < sizeof(pools) / sizeof(pools[0]); i++) {
        fake_file(f, "proc/self/mountinfo", pools[i], strlen(pools[i]));
        assert_int_equal(check(f, DISK, &err), 0); /* it has no disk */
    }
    link_to(f, "sys/class/block/sda", sda);
    for (size_t i = 0; i < sizeof(pools) / sizeof(pools[0]); i++) {
        fake_file(f, "proc/self/mountinfo", pools[i], strlen(pools[i]));
        assert_int_equal(check(f, DISK, &err), -EBUSY);
        assert_non_null(strstr(err.text, "may hold a part of / "));
        assert_int_equal(check(f, NIC, &err), 0);
    }
    fake_file(f, "proc/self/mountinfo", other, strlen(other));
    assert_int_equal(check(f, DISK, &err), 0);

    /* A btrfs says where it is. */
    link_to(f, "sys/fs/btrfs/0123-4567/devices/sda", sda);
    assert_int_equal(check(f, DISK, &err), -EBUSY);
    assert_non_null(strstr(err.text, "btrfs"));
    assert_int_equal(check(f, NIC, &err), 0);
}

static void judge(struct fake_host *f, const char *bdf, struct host_verdict *v)
{
    struct host_device *list;
    struct error err;
    size_t n;

    assert_int_equal(host_devices(&f->host, &list, &n, &err), 0);
    memset(v, 0, sizeof(*v));
    for (size_t i = 0; i < n; i++)
        if (!strcmp(list[i].bdf, bdf))
            host_device_judge(&f->host, list, n, &list[i], v);
    free(list);
}

static void verdicts(void **state)
{
    struct fake_host *f = *state;
    struct host_verdict v;
    uint8_t config[512] = { 0 };

    judge(f, NIC, &v);
    assert_true(v.isolated && v.usable);
    judge(f, OUTSIDE, &v);
    assert_false(v.isolated || v.usable);
    assert_non_null(strstr(v.why, "no IOMMU"));
    judge(f, SISTER, &v);
    assert_false(v.isolated || v.usable);
    assert_non_null(strstr(v.why, DISK " (driver ahci)"));
    judge(f, DISK, &v); /* its sister has no driver */
    assert_true(!v.isolated && v.usable);
    judge(f, PORT, &v);
    assert_non_null(strstr(v.why, "bridge"));

    /* Two slots behind a port without ACS: an Express capability at 0x40, and an extended one of
     * another kind. */
    config[0x34] = 0x40;
    config[0x40] = 0x10;
    config[0x100] = 0x01;
    config[0x102] = 0x01;
    fake_file(f, "sys/devices/pci0000:00/" PORT "/config", (char *)config, sizeof(config));
    fake_device(f, PORT, "0000:02:01.0", 0x020000, "", 3);
    fake_device(f, "", "0000:00:08.0", 0x020000, "e1000e", 8);
    judge(f, "0000:02:01.0", &v);
    assert_non_null(strstr(v.why, PORT " has no access control"));
    /* With it. */
    config[0x100] = 0x0d;
    fake_file(f, "sys/devices/pci0000:00/" PORT "/config", (char *)config, sizeof(config));
    judge(f, "0000:02:01.0", &v);
    assert_null(strstr(v.why, "access control"));
    /* A list of capabilities that runs in a circle, or out of the file. */
    config[0x40] = 0x05;
    config[0x41] = 0x40;
    fake_file(f, "sys/devices/pci0000:00/" PORT "/config", (char *)config, sizeof(config));
    judge(f, "0000:02:01.0", &v);
    config[0x40] = 0x10;
    config[0x100] = 0x01;
    config[0x102] = 0x01;
    config[0x103] = 0x10;
    fake_file(f, "sys/devices/pci0000:00/" PORT "/config", (char *)config, sizeof(config));
    judge(f, "0000:02:01.0", &v);
    config[0x103] = 0xff;
    config[0x102] = 0xf1;
    fake_file(f, "sys/devices/pci0000:00/" PORT "/config", (char *)config, sizeof(config));
    judge(f, "0000:02:01.0", &v);
}

static void no_pci_at_all(void **state)
{
    struct fake_host *f = *state;
    struct host none = f->host;
    struct host_device *list;
    struct error err;
    size_t n = 7;

    none.sys = "/nonexistent";
    assert_int_equal(host_devices(&none, &list, &n, &err), 0);
    assert_int_equal(n, 0);
    free(list);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, fake_machine_start, fake_machine_stop)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names),
        TEST(what_the_machine_needs_stays),
        TEST(a_disk_of_nvme_multipath_stays),
        TEST(a_disk_of_a_raid_stays),
        TEST(a_disk_of_a_pool_stays),
        TEST(verdicts),
        TEST(no_pci_at_all),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
