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

#define NIC     "0000:00:03.0"
#define ALONE   "0000:00:04.0"
#define DISK    "0000:02:00.0"
#define SISTER  "0000:02:00.1"
#define PORT    "0000:00:1c.0"
#define OUTSIDE "0000:00:05.0"

/* A NIC alone in its group, a device without a driver, two functions behind a port in one group,
 * one device that no IOMMU stands before. */
static int start(void **state)
{
    struct fake_host *f = fake_host_create();

    if (!f)
        return -1;
    *state = f;
    fake_device(f, "", NIC, 0x020000, "e1000e", 1);
    fake_device(f, "", ALONE, 0x00ff00, "", 2);
    fake_device(f, "", PORT, 0x060400, "pcieport", 3);
    fake_device(f, PORT, DISK, 0x010601, "ahci", 3);
    fake_device(f, PORT, SISTER, 0x0c0500, "", 3);
    fake_device(f, "", OUTSIDE, 0x020000, "e1000e", -1);
    return 0;
}

static int stop(void **state)
{
    fake_host_destroy(*state);
    return 0;
}

static int check(struct fake_host *f, const char *bdf, struct error *err)
{
    return bind_check(&f->host, &bdf, 1, err);
}

static bool no_records(struct fake_host *f)
{
    return rmdir(f->records) == 0 || errno == ENOENT;
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

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, start, stop)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names),
        TEST(what_can_not_be_taken),
        TEST(what_the_machine_needs_stays),
        TEST(a_disk_of_nvme_multipath_stays),
        TEST(a_disk_of_a_raid_stays),
        TEST(a_disk_of_a_pool_stays),
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
        TEST(verdicts),
        TEST(no_pci_at_all),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
