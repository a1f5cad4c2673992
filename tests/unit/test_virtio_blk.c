/*
 * A disk against a model driver: what is in the file is what the guest reads, and the reverse; what
 * is out of bounds, or not allowed, changes nothing. All once more without io_uring.
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include <cmocka.h>

#include "tests/unit/virtio_fixture.h"
#include "vmm/virtio_blk.h"

#define BYTES    (UINT64_C(1) << 20)
#define SECTORS  (BYTES / 512)
#define HEADERS  UINT64_C(0x200000)
#define STATUSES UINT64_C(0x210000)
#define DATA     UINT64_C(0x300000)

enum { IN = 0, OUT = 1, FLUSH = 4, GET_ID = 8, DISCARD = 11, WRITE_ZEROES = 13 };
enum { OK, IOERR, UNSUPP };

#define F_SIZE_MAX (UINT64_C(1) << 1)
#define F_RO       (UINT64_C(1) << 5)
#define F_FLUSH    (UINT64_C(1) << 9)

static uint64_t file_bytes = BYTES; /* larger, behind the image it is a hole */

static struct {
    struct machine m;
    struct virtio_blk *b;
    struct driver d;
    char path[64];
    int fd;
    uint8_t *image; /* what the file is to hold */
    struct device_config cfg;
} t;

static void make_file(void)
{
    (void)snprintf(t.path, sizeof(t.path), "/var/tmp/test_virtio_blk.XXXXXX");
    t.fd = mkstemp(t.path);
    assert_true(t.fd >= 0);
    t.image = malloc(BYTES);
    for (uint64_t i = 0; i < BYTES; i++)
        t.image[i] = (uint8_t)(i / 512 * 7 + i);
    assert_int_equal(pwrite(t.fd, t.image, BYTES, 0), BYTES);
}

static void drop_file(void)
{
    (void)close(t.fd);
    (void)unlink(t.path);
    free(t.image);
}

static int begin(bool read_only, bool direct)
{
    struct error err;
    int rc;

    memset(&t, 0, sizeof(t));
    make_file();
    assert_int_equal(ftruncate(t.fd, (off_t)file_bytes), 0);
    machine_make(&t.m);
    t.cfg = (struct device_config){ .path = t.path, .read_only = read_only, .direct = direct };
    rc = virtio_blk_create(&t.b, &t.cfg, &t.m.place, &err);
    if (rc < 0) {
        print_message("%s\n", err.text);
        machine_drop(&t.m);
        drop_file();
        return rc;
    }
    machine_run(&t.m);
    driver_probe(&t.d, &t.m, 1);
    driver_start(&t.d, VERSION_1 | F_FLUSH | (read_only ? F_RO : 0));
    return 0;
}

/* The file holds what it should. */
static void check_file(void)
{
    uint8_t *now = malloc(BYTES);

    assert_int_equal(pread(t.fd, now, BYTES, 0), BYTES);
    assert_memory_equal(now, t.image, BYTES);
    free(now);
}

static int end(void **state)
{
    (void)state;
    machine_stop(&t.m);
    virtio_blk_destroy(t.b);
    check_file();
    machine_drop(&t.m);
    drop_file();
    return 0;
}

static int start(void **state)
{
    (void)state;
    return begin(false, false);
}

static int start_large(void **state)
{
    int rc;

    (void)state;
    file_bytes = 32 * BYTES;
    rc = begin(false, false);
    file_bytes = BYTES;
    return rc;
}

static int start_ro(void **state)
{
    (void)state;
    return begin(true, false);
}

/* --- requests ----------------------------------------------------------------------------- */

/* Request number n, its descriptors from 3 * n on, `pieces` of them data. */
static void offer(unsigned n, unsigned head, uint32_t type, uint64_t sector,
                  const struct piece *data, unsigned pieces)
{
    struct {
        uint32_t type, reserved;
        uint64_t sector;
    } h = { type, 0, sector };
    struct piece p[128];

    memcpy(t.m.ram + HEADERS + 16 * n, &h, sizeof(h));
    t.m.ram[STATUSES + n] = 0xee;
    p[0] = (struct piece){ HEADERS + 16 * n, 16, false };
    if (pieces)
        memcpy(p + 1, data, pieces * sizeof(*data));
    p[1 + pieces] = (struct piece){ STATUSES + n, 1, true };
    driver_offer(&t.d, 0, head, p, pieces + 2);
}

static unsigned request(uint32_t type, uint64_t sector, const struct piece *data, unsigned pieces,
                        uint32_t *written)
{
    offer(0, 0, type, sector, data, pieces);
    driver_notify(&t.d, 0);
    assert_int_equal(driver_used(&t.d, 0, written), 0);
    return t.m.ram[STATUSES];
}

static unsigned simple(uint32_t type, uint64_t sector, uint32_t len)
{
    struct piece p = { DATA, len, type == IN || type == GET_ID };

    return request(type, sector, &p, 1, NULL);
}

static void fill(uint64_t at, uint64_t len, unsigned seed)
{
    for (uint64_t i = 0; i < len; i++)
        t.m.ram[at + i] = (uint8_t)(i * 31 + i / 512 + seed);
}

/* --- tests -------------------------------------------------------------------------------- */

static void config(void **state)
{
    (void)state;
    assert_int_equal(reg_get(&t.m, t.d.config, 8), SECTORS);
    assert_int_equal(reg_get(&t.m, t.d.config + 8, 4), 128 << 10); /* size_max */
    assert_int_equal(reg_get(&t.m, t.d.config + 12, 4), 126);      /* seg_max */
    assert_true(driver_offered(&t.d) & F_SIZE_MAX);
    assert_int_equal(reg_get(&t.m, t.d.config + 20, 4), 512); /* blk_size */
    assert_false(driver_offered(&t.d) & F_RO);
}

static void reads(void **state)
{
    /* Odd pieces, whose sum is whole sectors. */
    struct piece p[] = { { DATA + 1, 100, true },
                         { DATA + 0x1000, 412, true },
                         { DATA + 0x2003, 1024, true } };
    uint32_t written;

    (void)state;
    assert_int_equal(request(IN, 5, p, 3, &written), OK);
    assert_int_equal(written, 1536 + 1);
    assert_memory_equal(t.m.ram + DATA + 1, t.image + 5 * 512, 100);
    assert_memory_equal(t.m.ram + DATA + 0x1000, t.image + 5 * 512 + 100, 412);
    assert_memory_equal(t.m.ram + DATA + 0x2003, t.image + 6 * 512, 1024);
    assert_int_equal(t.m.ram[DATA], 0);
    assert_int_equal(t.m.ram[DATA + 101], 0);
    assert_int_equal(simple(IN, 0, (uint32_t)BYTES), OK); /* all of it */
    assert_memory_equal(t.m.ram + DATA, t.image, BYTES);
}

static void writes(void **state)
{
    struct piece p[] = { { DATA + 1, 100, false }, { DATA + 0x1000, 412, false } };
    uint32_t written;

    (void)state;
    fill(DATA, 0x2000, 1);
    assert_int_equal(request(OUT, SECTORS - 1, p, 2, &written), OK);
    assert_int_equal(written, 1);
    memcpy(t.image + BYTES - 512, t.m.ram + DATA + 1, 100);
    memcpy(t.image + BYTES - 412, t.m.ram + DATA + 0x1000, 412);
    check_file();
    assert_int_equal(request(FLUSH, 0, NULL, 0, &written), OK);
    assert_int_equal(written, 1);
}

/* A driver that knows no FLUSH. */
static void writes_through(void **state)
{
    (void)state;
    driver_start(&t.d, VERSION_1);
    fill(DATA, 512, 2);
    assert_int_equal(simple(OUT, 3, 512), OK);
    memcpy(t.image + 3 * 512, t.m.ram + DATA, 512);
    check_file();
}

static void bounds(void **state)
{
    static const struct {
        uint64_t sector;
        uint32_t len;
        unsigned status;
    } row[] = {
        { SECTORS - 1, 512, OK },
        { SECTORS, 512, IOERR },
        { SECTORS - 1, 1024, IOERR },
        { UINT64_MAX, 512, IOERR },
        { UINT64_MAX / 512, 512, IOERR },
        { UINT64_MAX - 1, 1024, IOERR },
        { UINT64_C(1) << 55, 512, IOERR },
        { 0, 513, IOERR },
        { 0, 511, IOERR },
        { 0, 1, IOERR },
        { 0, 0, OK },
        { SECTORS, 0, OK },
    };

    (void)state;
    for (size_t i = 0; i < sizeof(row) / sizeof(row[0]); i++) {
        assert_int_equal(simple(IN, row[i].sector, row[i].len), row[i].status);
        if (row[i].status == IOERR) /* check_file() at the end sees that nothing was written */
            assert_int_equal(simple(OUT, row[i].sector, row[i].len), IOERR);
    }
}

/* What size_max and seg_max make of a request is done, and not a sector more. */
static void largest(void **state)
{
    struct piece p[126];

    (void)state;
    for (unsigned i = 0; i < 126; i++)
        p[i] = (struct piece){ DATA, 128 << 10, true };
    assert_int_equal(request(IN, 1, p, 126, NULL), OK);
    p[0].len += 512;
    assert_int_equal(request(IN, 1, p, 126, NULL), IOERR);
    for (unsigned i = 0; i < 126; i++)
        p[i].write = false;
    assert_int_equal(request(OUT, 1, p, 126, NULL), IOERR);
    p[0].len -= 512;
    assert_int_equal(request(OUT, 2 * SECTORS, p, 126, NULL), OK);
}

static void get_state(void *arg)
{
    virtio_state(virtio_blk_device(t.b), arg);
}

/* Between transfers that the I/O thread waits for it does something else. */
static void one_at_a_time(void **state)
{
    struct piece p = { DATA, 4096, true };
    struct virtio_state before, after;
    struct virtio_blk_stat s;

    (void)state;
    assert_int_equal(simple(IN, 0, 512), OK);
    machine_do(&t.m, get_state, &before);
    offer(0, 0, IN, 8, &p, 1);
    for (unsigned n = 1; n < 100; n++)
        driver_offer(&t.d, 0, 0, NULL, 0);
    driver_notify(&t.d, 0);
    for (unsigned n = 0; n < 100; n++)
        (void)driver_used(&t.d, 0, NULL);
    machine_do(&t.m, get_state, &after);
    virtio_blk_stat(t.b, &s);
    if (!s.async)
        assert_true(after.kicks - before.kicks >= 100);
}

static void other_requests(void **state)
{
    uint32_t written;
    struct piece p = { DATA, 20, true };

    (void)state;
    assert_int_equal(request(GET_ID, 0, &p, 1, &written), OK);
    assert_int_equal(written, 21);
    assert_memory_equal(t.m.ram + DATA, "test_virtio_blk.", 16);
    assert_int_equal(simple(99, 0, 512), UNSUPP);
    assert_int_equal(simple(0x80000000, 0, 512), UNSUPP);
}

static unsigned clear(uint32_t type, uint64_t sector, uint32_t sectors, uint32_t flags)
{
    struct {
        uint64_t sector;
        uint32_t sectors, flags;
    } range = { sector, sectors, flags };
    struct piece p = { DATA, 16, false };

    memcpy(t.m.ram + DATA, &range, sizeof(range));
    return request(type, 0, &p, 1, NULL);
}

static void clears(void **state)
{
    unsigned status;

    (void)state;
    assert_int_equal(clear(WRITE_ZEROES, 10, 20, 0), OK);
    memset(t.image + 10 * 512, 0, 20 * 512);
    check_file();
    assert_int_equal(clear(WRITE_ZEROES, 50, 300, 1), OK);
    memset(t.image + 50 * 512, 0, 300 * 512);
    check_file();
    status = clear(DISCARD, 1000, 16, 0);
    assert_true(status == OK || status == UNSUPP); /* by the file system */
    if (status == OK)
        memset(t.image + 1000 * 512, 0, 16 * 512);
    check_file();
    assert_int_equal(clear(WRITE_ZEROES, SECTORS - 1, 2, 0), IOERR);
    assert_int_equal(clear(WRITE_ZEROES, UINT64_MAX, 1, 0), IOERR);
    assert_int_equal(clear(DISCARD, 0, 0xffffffff, 0), IOERR);
    assert_int_equal(clear(DISCARD, 0, 1, 1), UNSUPP);
    assert_int_equal(clear(WRITE_ZEROES, 0, 1, 2), UNSUPP);
    assert_int_equal(clear(DISCARD, 0, 0, 0), OK);
    assert_int_equal(simple(DISCARD, 0, 15), IOERR);
    assert_int_equal(simple(WRITE_ZEROES, 0, 32), IOERR);
}

static void read_only(void **state)
{
    (void)state;
    assert_true(driver_offered(&t.d) & F_RO);
    assert_int_equal(simple(IN, 1, 512), OK);
    assert_memory_equal(t.m.ram + DATA, t.image + 512, 512);
    assert_int_equal(simple(OUT, 1, 512), IOERR);
    assert_int_equal(clear(WRITE_ZEROES, 0, 1, 0), IOERR);
    assert_int_equal(request(FLUSH, 0, NULL, 0, NULL), OK);
}

/* Data in no memory is an error of the request. */
static void bad_data(void **state)
{
    struct piece p = { MACHINE_RAM - 256, 512, true };

    (void)state;
    assert_int_equal(request(IN, 0, &p, 1, NULL), IOERR);
    p.write = false;
    assert_int_equal(request(OUT, 0, &p, 1, NULL), IOERR);
    assert_int_equal(simple(IN, 0, 512), OK);
}

static void await_broken(const char *why)
{
    while (!(reg_get(&t.m, t.d.common + STATUS, 1) & ST_NEEDS_RESET))
        (void)sched_yield();
    assert_non_null(strstr(virtio_queue(virtio_blk_device(t.b), 0)->why, why));
    driver_start(&t.d, VERSION_1 | F_FLUSH);
    assert_int_equal(simple(IN, 0, 512), OK);
}

/* What can't even be answered stops the queue. */
static void no_answer(void **state)
{
    struct piece no_status[] = { { HEADERS, 16, false } };
    struct piece no_header[] = { { HEADERS, 15, false }, { STATUSES, 1, true } };
    struct piece status_nowhere[] = { { HEADERS, 16, false }, { MACHINE_RAM, 1, true } };

    (void)state;
    memset(t.m.ram + HEADERS, 0, 16);
    driver_offer(&t.d, 0, 0, no_status, 1);
    driver_notify(&t.d, 0);
    await_broken("without a status");
    driver_offer(&t.d, 0, 0, no_header, 2);
    driver_notify(&t.d, 0);
    await_broken("without a header");
    driver_offer(&t.d, 0, 0, status_nowhere, 2);
    driver_notify(&t.d, 0);
    await_broken("status byte lies");
}

/* More at once than the device takes: all are served, each with its own data. */
static void many(void **state)
{
    (void)state;
    for (unsigned round = 0; round < 30; round++) {
        bool seen[42] = { false };

        memset(t.m.ram + DATA, 0, 42 * 4096);
        for (unsigned n = 0; n < 42; n++) {
            struct piece p = { DATA + 4096 * n, 4096, n % 3 != 0 };

            if (n % 3 == 0)
                fill(p.addr, 4096, n + round);
            offer(n, 3 * n, n % 3 == 0 ? OUT : IN, n * 8 + (n % 3 == 0 ? 0 : 512), &p, 1);
        }
        driver_notify(&t.d, 0);
        for (unsigned n = 0; n < 42; n++)
            seen[driver_used(&t.d, 0, NULL) / 3] = true;
        for (unsigned n = 0; n < 42; n++) {
            assert_true(seen[n]);
            assert_int_equal(t.m.ram[STATUSES + n], OK);
            if (n % 3 == 0)
                memcpy(t.image + n * 4096, t.m.ram + DATA + 4096 * n, 4096);
            else
                assert_memory_equal(t.m.ram + DATA + 4096 * n, t.image + (n * 8 + 512) * 512, 4096);
        }
    }
    check_file();
}

/* The same chain over and over: more than can be in flight, without new descriptors. */
static void more_than_in_flight(void **state)
{
    struct piece p = { DATA, 4096, true };

    (void)state;
    for (unsigned round = 0; round < 20; round++) {
        offer(0, 0, IN, 8, &p, 1);
        for (unsigned n = 1; n < 128; n++)
            driver_offer(&t.d, 0, 0, NULL, 0);
        driver_notify(&t.d, 0);
        for (unsigned n = 0; n < 128; n++)
            (void)driver_used(&t.d, 0, NULL);
        assert_memory_equal(t.m.ram + DATA, t.image + 4096, 4096);
    }
}

static void hold(void *arg)
{
    virtio_hold(virtio_blk_device(t.b), *(bool *)arg);
}

/* Held: nothing is in flight, and nothing starts; a reset in the middle of many is clean. */
static void stands_still(void **state)
{
    struct piece p = { DATA, 65536, true };
    struct virtio_blk_stat s;
    bool yes = true, no = false;

    (void)state;
    for (unsigned round = 0; round < 50; round++) {
        offer(0, 0, IN, 0, &p, 1);
        for (unsigned n = 1; n < 128; n++)
            driver_offer(&t.d, 0, 0, NULL, 0);
        driver_notify(&t.d, 0);
        machine_do(&t.m, hold, &yes);
        virtio_blk_stat(t.b, &s);
        assert_int_equal(s.in_flight, 0);
        memset(t.m.ram + DATA, 0x55, 65536);
        (void)sched_yield();
        for (unsigned i = 0; i < 65536; i++)
            assert_int_equal(t.m.ram[DATA + i], 0x55);
        machine_do(&t.m, hold, &no);
        for (unsigned n = 0; round % 2 == 0 && n < 128; n++)
            (void)driver_used(&t.d, 0, NULL);
        driver_start(&t.d, VERSION_1 | F_FLUSH);
        assert_int_equal(simple(IN, 0, 512), OK);
    }
}

static void direct(void **state)
{
    struct piece odd = { DATA + 3, 8192, true };
    unsigned block;

    (void)state;
    if (begin(false, true) < 0)
        skip();
    block = (unsigned)reg_get(&t.m, t.d.config + 20, 4);
    assert_int_equal(simple(IN, 16, 8192), OK);
    assert_memory_equal(t.m.ram + DATA, t.image + 8192, 8192);
    assert_int_equal(request(IN, 24, &odd, 1, NULL), OK); /* as a device must: by a buffer */
    assert_memory_equal(t.m.ram + DATA + 3, t.image + 24 * 512, 8192);
    fill(DATA, 0x30000, 9);
    odd.write = false;
    odd.len = 0x21000;
    assert_int_equal(request(OUT, 32, &odd, 1, NULL), OK);
    memcpy(t.image + 32 * 512, t.m.ram + DATA + 3, 0x21000);
    assert_int_equal(simple(OUT, 512, block), OK);
    memcpy(t.image + 512 * 512, t.m.ram + DATA, block);
    (void)end(NULL);
}

/* --- the file -------------------------------------------------------------------------------- */

static void refuse(const char *path, bool ro, int code, const char *text)
{
    struct device_config cfg = { .path = path, .read_only = ro };
    struct virtio_blk *b;
    struct error err = { "" };

    assert_int_equal(virtio_blk_create(&b, &cfg, &t.m.place, &err), code);
    assert_null(b);
    if (!strstr(err.text, text) || !strstr(err.text, path))
        fail_msg("'%s' does not say '%s'", err.text, text);
}

static void refused_files(void **state)
{
    (void)state;
    memset(&t, 0, sizeof(t));
    make_file();
    machine_make(&t.m);
    refuse("/no/such", false, -EINVAL, "No such file");
    refuse("/tmp", true, -EINVAL, "folder");
    refuse("/tmp", false, -EINVAL, "folder");
    refuse("/dev/null", false, -EINVAL, "neither");
    assert_int_equal(ftruncate(t.fd, 1000), 0);
    refuse(t.path, false, -EINVAL, "1000 bytes");
    assert_int_equal(ftruncate(t.fd, 0), 0);
    refuse(t.path, true, -EINVAL, "empty");
    assert_int_equal(fchmod(t.fd, 0), 0);
    if (geteuid() != 0)
        refuse(t.path, false, -EINVAL, ",ro");
    (void)unlink(t.path);
    assert_int_equal(mkfifo(t.path, 0600), 0);
    refuse(t.path, false, -EINVAL, "neither"); /* and does not wait for a writer */
    machine_drop(&t.m);
    drop_file();
}

static void locked_file(void **state)
{
    struct device_config rw = { .path = t.path }, ro = { .path = t.path, .read_only = true };
    struct virtio_blk *a, *b;

    (void)state;
    memset(&t, 0, sizeof(t));
    make_file();
    machine_make(&t.m);
    assert_int_equal(virtio_blk_create(&a, &rw, &t.m.place, NULL), 0);
    refuse(t.path, false, -EBUSY, "in use");
    refuse(t.path, true, -EBUSY, "in use");
    virtio_blk_destroy(a);
    assert_int_equal(virtio_blk_create(&a, &ro, &t.m.place, NULL), 0);
    refuse(t.path, false, -EBUSY, "in use");
    assert_int_equal(virtio_blk_create(&b, &ro, &t.m.place, NULL), 0);
    virtio_blk_destroy(b);
    virtio_blk_destroy(a);
    machine_drop(&t.m);
    drop_file();
}

static void is_async(void **state)
{
    struct virtio_blk_stat s;

    (void)state;
    virtio_blk_stat(t.b, &s);
    if (!s.async)
        print_message("no io_uring here: all runs one after the other\n");
    assert_int_equal(s.bytes, BYTES);
}

static void is_not_async(void **state)
{
    struct virtio_blk_stat s;

    (void)state;
    virtio_blk_stat(t.b, &s);
    assert_false(s.async);
}

/* From here on io_uring_setup() fails, as in many containers. */
static void refuse_io_uring(void)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_io_uring_setup, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = { .len = sizeof(code) / sizeof(code[0]), .filter = code };

    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
        prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0)
        exit(1);
}

#define WITH(test) cmocka_unit_test_setup_teardown(test, start, end)
#define TESTS                                                                       \
    WITH(config), WITH(reads), WITH(writes), WITH(writes_through), WITH(bounds),    \
        WITH(other_requests), WITH(clears), WITH(one_at_a_time),                    \
        cmocka_unit_test_setup_teardown(largest, start_large, end),                 \
        cmocka_unit_test_setup_teardown(read_only, start_ro, end), WITH(bad_data),  \
        WITH(no_answer), WITH(many), WITH(more_than_in_flight), WITH(stands_still), \
        cmocka_unit_test(direct)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH(is_async),
        TESTS,
        cmocka_unit_test(refused_files),
        cmocka_unit_test(locked_file),
    };
    const struct CMUnitTest again[] = {
        WITH(is_not_async),
        TESTS,
    };
    int failed = cmocka_run_group_tests_name("virtio_blk", tests, NULL, NULL);

    refuse_io_uring();
    return failed + cmocka_run_group_tests_name("virtio_blk, one at a time", again, NULL, NULL);
}
