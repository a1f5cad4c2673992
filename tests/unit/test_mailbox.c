/* The mailbox: what an honest guest gets, and what a hostile one may do to itself only. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>
#include <pthread.h>
#include <time.h>

#include "guest/abi.h"
#include "vmm/devices.h"
#include "vmm/mailbox.h"

#define RAM   (UINT64_C(4) << 20)
#define BOX   0x1000u
#define TABLE 0x8000u

static struct {
    struct bus *bus;
    struct memory *mem;
    struct mailbox *mb;
    struct tf_mailbox *box; /* as the guest sees it */
    unsigned rings;
    bool (*guest)(void); /* what the guest does when it rings; false: nothing to say */
    pthread_t thread;
    bool thread_on;
} t;

static void out(uint64_t value, unsigned size)
{
    assert_true(bus_write(t.bus, BUS_PIO, TF_PORT_MAILBOX, size, value));
}

/* A vCPU of its own, as the port is written from one. */
static void *guest_main(void *arg)
{
    (void)arg;
    if (t.guest())
        (void)bus_write(t.bus, BUS_PIO, TF_PORT_MAILBOX, 4, BOX);
    return NULL;
}

static void ring(void *ctx, unsigned gsi, int level)
{
    (void)ctx;
    assert_int_equal(gsi, TF_MAILBOX_IRQ);
    if (!level)
        return;
    t.rings++;
    if (t.guest) {
        t.thread_on = true;
        assert_int_equal(pthread_create(&t.thread, NULL, guest_main, NULL), 0);
    }
}

static int start(void **state)
{
    struct irq_line irq = { .set = ring, .gsi = TF_MAILBOX_IRQ };

    (void)state;
    memset(&t, 0, sizeof(t));
    if (bus_create(&t.bus, NULL) < 0 || memory_create(&t.mem, RAM, MEM_ANON, NULL) < 0 ||
        mailbox_create(&t.mb, t.bus, t.mem, irq, NULL) < 0)
        return -1;
    t.box = memory_at(t.mem, gpa(BOX), sizeof(*t.box));
    *t.box = (struct tf_mailbox){ .magic = TF_MAILBOX_MAGIC };
    return 0;
}

static int stop(void **state)
{
    (void)state;
    if (t.thread_on)
        (void)pthread_join(t.thread, NULL);
    mailbox_destroy(t.mb);
    memory_destroy(t.mem);
    bus_destroy(t.bus);
    return 0;
}

static void put(unsigned i, int pid, uint64_t root, const char *name)
{
    struct tf_process *p = memory_at(t.mem, gpa(TABLE + i * sizeof(*p)), sizeof(*p));

    *p = (struct tf_process){ .pid = pid, .root = root };
    memcpy(p->name, name, strlen(name) < sizeof(p->name) ? strlen(name) : sizeof(p->name));
}

/* --- processes ---------------------------------------------------------------------- */

static void tells_processes(void **state)
{
    struct mailbox_process *list;
    struct error err;
    size_t count;
    gpa_t root;

    (void)state;
    put(0, 1, 0x5000, "init");
    put(2, 7, 0x6000, "a\n\x80z"); /* entry 1 is free */
    put(3, -4, 0x7000, "negative");
    put(4, 9, 0x9000, "0123456789abcdef0123456789abcdef"); /* not closed */
    t.box->processes_gpa = TABLE;
    t.box->process_max = 5;
    out(BOX, 4);
    assert_true(mailbox_there(t.mb));
    assert_int_equal(mailbox_processes(t.mb, &list, &count, &err), 0);
    assert_int_equal(count, 3);
    assert_int_equal(list[0].pid, 1);
    assert_string_equal(list[0].name, "init");
    assert_string_equal(list[1].name, "a??z");
    assert_int_equal(list[1].root.v, 0x6000);
    assert_int_equal(strlen(list[2].name), 31);
    free(list);
    assert_int_equal(mailbox_root(t.mb, 7, &root, &err), 0);
    assert_int_equal(root.v, 0x6000);
    assert_int_equal(mailbox_root(t.mb, 8, &root, &err), -ESRCH);
    assert_int_equal(mailbox_root(t.mb, 0, &root, &err), -ESRCH);
}

static void refuses_bad_places(void **state)
{
    static const uint64_t bad[] = { BOX + 4, BOX + 8, RAM, RAM - 32, 0xffffffc0, 0x2000 };
    struct error err;
    gpa_t root;

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        out(bad[i], 4);
        assert_false(mailbox_there(t.mb));
    }
    out(BOX, 2);
    assert_false(mailbox_there(t.mb));
    t.box->magic++;
    out(BOX, 4);
    assert_false(mailbox_there(t.mb));
    assert_int_equal(mailbox_root(t.mb, 1, &root, &err), -ENOENT);
    t.box->magic--;
    out(BOX, 4);
    assert_true(mailbox_there(t.mb));
    out(0, 4);
    assert_false(mailbox_there(t.mb));
}

static void bounds_the_table(void **state)
{
    static const struct {
        uint64_t at;
        uint32_t max;
        int rc;
    } row[] = {
        { 0, 5, -ENOENT },
        { TABLE, 0, -ENOENT },
        { TABLE, UINT32_MAX, 0 },
        { RAM - 48, 2, -EFAULT },
        { RAM - 48, 1, 0 },
        { UINT64_MAX - 7, 4, -EFAULT },
        { RAM, UINT32_MAX, -EFAULT },
        { UINT64_MAX, UINT32_MAX, -EFAULT },
    };
    struct mailbox_process *list;
    struct error err;
    size_t count;

    (void)state;
    out(BOX, 4);
    for (size_t i = 0; i < sizeof(row) / sizeof(row[0]); i++) {
        t.box->processes_gpa = row[i].at;
        t.box->process_max = row[i].max;
        assert_int_equal(mailbox_processes(t.mb, &list, &count, &err), row[i].rc);
        assert_true(row[i].rc < 0 ? list == NULL : count <= MAILBOX_PROCESSES_MAX);
        free(list);
    }
    /* All that is looked at is full, and not an entry more. */
    t.box->processes_gpa = TABLE;
    t.box->process_max = UINT32_MAX;
    for (unsigned i = 0; i < MAILBOX_PROCESSES_MAX + 10; i++)
        put(i, (int)i + 1, 0x1000, "p");
    assert_int_equal(mailbox_processes(t.mb, &list, &count, &err), 0);
    assert_int_equal(count, MAILBOX_PROCESSES_MAX);
    free(list);
}

static void mailbox_may_vanish(void **state)
{
    struct mailbox_process *list;
    struct error err;
    size_t count;

    (void)state;
    t.box->processes_gpa = TABLE;
    t.box->process_max = 1;
    out(BOX, 4);
    t.box->magic = 0;
    assert_int_equal(mailbox_processes(t.mb, &list, &count, &err), -EFAULT);
}

/* --- requests --------------------------------------------------------------------------- */

static const uint64_t page[2] = { 0x3000, 0x55 };

static int ask(unsigned ms, struct mailbox_answer *a)
{
    struct error err;

    return mailbox_ask(t.mb, TF_REQUEST_MOVE_PAGE, page, ms, NULL, NULL, a, &err);
}

static bool answers(void)
{
    if (t.box->op != TF_REQUEST_MOVE_PAGE || t.box->arg[0] != page[0] || t.box->arg[1] != page[1])
        return false;
    t.box->result = -EBUSY;
    t.box->value[0] = 0x123;
    t.box->value[1] = 0x456;
    t.box->done = t.box->asked;
    return true;
}

static void asks(void **state)
{
    struct mailbox_answer a;

    (void)state;
    assert_int_equal(ask(10, &a), -ENOENT);
    out(BOX, 4);
    t.guest = answers;
    for (unsigned i = 1; i < 4; i++) {
        assert_int_equal(ask(5000, &a), 0);
        (void)pthread_join(t.thread, NULL);
        t.thread_on = false;
        assert_int_equal(t.rings, i);
        assert_int_equal(t.box->asked, i);
        assert_int_equal(a.result, -EBUSY);
        assert_int_equal(a.value[0], 0x123);
        assert_int_equal(a.value[1], 0x456);
    }
}

static bool answers_another(void)
{
    t.box->done = t.box->asked + 7;
    return true;
}

/* Not at all, something that was not asked, and then, late. */
static void waits_a_bounded_time(void **state)
{
    struct mailbox_answer a;
    struct timespec before, after;

    (void)state;
    out(BOX, 4);
    t.guest = answers_another;
    (void)clock_gettime(CLOCK_MONOTONIC, &before);
    assert_int_equal(ask(200, &a), -ETIMEDOUT);
    (void)clock_gettime(CLOCK_MONOTONIC, &after);
    assert_true(after.tv_sec - before.tv_sec <= 2);
    assert_int_equal(ask(200, &a), -EBUSY);
    assert_int_equal(t.rings, 1);
    (void)pthread_join(t.thread, NULL);
    t.thread_on = false;
    /* It changes our count, too: that is its copy. */
    t.box->asked = 99;
    t.box->done = 1;
    t.guest = NULL;
    assert_int_equal(ask(20, &a), -ETIMEDOUT); /* the first one was answered, so this is asked */
    assert_int_equal(t.box->asked, 2);
}

static bool moves_on(void)
{
    struct tf_mailbox *other = memory_at(t.mem, gpa(2 * BOX), sizeof(*other));

    *other = (struct tf_mailbox){ .magic = TF_MAILBOX_MAGIC };
    (void)bus_write(t.bus, BUS_PIO, TF_PORT_MAILBOX, 4, 2 * BOX);
    return false;
}

static bool takes_it_back(void)
{
    (void)bus_write(t.bus, BUS_PIO, TF_PORT_MAILBOX, 4, 0);
    return false;
}

/* No answer of an earlier request is taken for this one's, and nobody waits for none. */
static void leaves_before_it_answers(void **state)
{
    struct mailbox_answer a;

    (void)state;
    for (unsigned i = 0; i < 2; i++) {
        out(BOX, 4);
        t.guest = answers;
        assert_int_equal(ask(5000, &a), 0);
        (void)pthread_join(t.thread, NULL);
        t.guest = i ? takes_it_back : moves_on;
        assert_int_equal(ask(60000, &a), -ECONNRESET);
        (void)pthread_join(t.thread, NULL);
        t.thread_on = false;
    }
    out(BOX, 4);
    t.guest = answers;
    assert_int_equal(ask(5000, &a), 0);
}

static bool never(void *ctx)
{
    (void)ctx;
    return false;
}

static void gives_up_with_the_vm(void **state)
{
    struct mailbox_answer a;
    struct error err;

    (void)state;
    out(BOX, 4);
    assert_int_equal(mailbox_ask(t.mb, TF_REQUEST_MOVE_PAGE, page, 60000, never, NULL, &a, &err),
                     -ECANCELED);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, start, stop)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(tells_processes),
        TEST(refuses_bad_places),
        TEST(bounds_the_table),
        TEST(mailbox_may_vanish),
        TEST(asks),
        TEST(waits_a_bounded_time),
        TEST(leaves_before_it_answers),
        TEST(gives_up_with_the_vm),
    };

    return cmocka_run_group_tests_name("mailbox", tests, NULL, NULL);
}
