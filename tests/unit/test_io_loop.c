/* The I/O loop: pipes, files that epoll refuses, removing while events are pending. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

#include <cmocka.h>

#include "vmm/io_loop.h"

static struct {
    struct io_loop *loop;
    int a[2], b[2];
    int calls;
} t;

static int start(void **state)
{
    (void)state;
    t.calls = 0;
    return io_loop_create(&t.loop, NULL) || pipe2(t.a, O_CLOEXEC) || pipe2(t.b, O_CLOEXEC);
}

static int stop(void **state)
{
    (void)state;
    io_loop_destroy(t.loop);
    close(t.a[0]);
    close(t.a[1]);
    close(t.b[0]);
    close(t.b[1]);
    return 0;
}

static void read_and_stop(void *ctx, int fd, uint32_t events)
{
    char c;

    assert_ptr_equal(ctx, &t);
    assert_true(events & EPOLLIN);
    assert_int_equal(read(fd, &c, 1), 1);
    assert_int_equal(c, 'x');
    t.calls++;
    io_loop_stop(t.loop);
}

static void a_pipe_calls_back(void **state)
{
    (void)state;
    assert_int_equal(io_loop_add(t.loop, t.a[0], EPOLLIN, read_and_stop, &t), 0);
    assert_true(io_loop_add(t.loop, t.a[0], EPOLLIN, read_and_stop, &t) < 0);
    assert_int_equal(write(t.a[1], "x", 1), 1);
    io_loop_run(t.loop);
    assert_int_equal(t.calls, 1);
}

/* Whichever comes first removes both: the other must not be called, nor read freed memory. */
static void remove_both(void *ctx, int fd, uint32_t events)
{
    (void)ctx;
    (void)fd;
    (void)events;
    t.calls++;
    io_loop_remove(t.loop, t.a[0]);
    io_loop_remove(t.loop, t.b[0]);
    io_loop_stop(t.loop);
}

static void no_callback_after_remove(void **state)
{
    (void)state;
    assert_int_equal(io_loop_add(t.loop, t.a[0], EPOLLIN, remove_both, NULL), 0);
    assert_int_equal(io_loop_add(t.loop, t.b[0], EPOLLIN, remove_both, NULL), 0);
    assert_int_equal(write(t.a[1], "x", 1) + write(t.b[1], "x", 1), 2);
    io_loop_run(t.loop);
    assert_int_equal(t.calls, 1);
    assert_int_equal(io_loop_change(t.loop, t.a[0], EPOLLIN), -ENOENT);
}

static void read_to_end(void *ctx, int fd, uint32_t events)
{
    char buf[16];

    (void)ctx;
    (void)events;
    t.calls++;
    if (read(fd, buf, sizeof(buf)) == 0) {
        io_loop_remove(t.loop, fd);
        io_loop_stop(t.loop);
    }
}

static void files_are_always_ready(void **state)
{
    char path[] = "/tmp/twofold-test-XXXXXX";
    int fd = mkstemp(path);

    (void)state;
    assert_true(fd >= 0);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(write(fd, "twenty characters...", 20), 20);
    assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
    assert_int_equal(io_loop_add(t.loop, fd, EPOLLIN, read_to_end, NULL), 0);
    assert_true(io_loop_add(t.loop, fd, EPOLLIN, read_to_end, NULL) < 0);
    io_loop_run(t.loop);
    assert_int_equal(t.calls, 3);
    close(fd);
}

static void a_closed_fd_is_refused(void **state)
{
    (void)state;
    assert_int_equal(io_loop_add(t.loop, 9999, EPOLLIN, read_to_end, NULL), -EBADF);
}

static void *loop_main(void *loop)
{
    io_loop_run(loop);
    return NULL;
}

/* Both kinds of fd may come while the loop sleeps: it has to notice. */
static void added_from_another_thread(void **state)
{
    int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
    pthread_t thread;

    (void)state;
    assert_int_equal(pthread_create(&thread, NULL, loop_main, t.loop), 0);
    (void)usleep(20000);
    assert_int_equal(io_loop_add(t.loop, null, EPOLLIN, read_to_end, NULL), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(t.calls, 1);
    close(null);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, start, stop)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_pipe_calls_back),      TEST(no_callback_after_remove),  TEST(files_are_always_ready),
        TEST(a_closed_fd_is_refused), TEST(added_from_another_thread),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
