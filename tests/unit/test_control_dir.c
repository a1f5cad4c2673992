/* Names, the socket folder, and the claim on a name. */
#include <errno.h>
#include <fcntl.h>
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

#include "vmm/control.h"

static char base[64], dir[80];

static int start(void **state)
{
    (void)state;
    (void)snprintf(base, sizeof(base), "/tmp/twofold-test-XXXXXX");
    if (!mkdtemp(base))
        return -1;
    (void)snprintf(dir, sizeof(dir), "%s/twofold", base);
    return setenv("XDG_RUNTIME_DIR", base, 1);
}

static int stop(void **state)
{
    (void)state;
    (void)rmdir(dir);
    return rmdir(base);
}

static void names(void **state)
{
    static const char *const good[] = { "a", "9", "vm-1", "A.b_c-D" };
    static const char *const bad[] = { "", ".", "..", "-a", ".a", "a/b", "a b", "a\n", "\xc3\xa4" };
    char longest[66] = "";

    (void)state;
    memset(longest, 'n', 64);
    assert_int_equal(control_name_check(longest, NULL), 0);
    longest[64] = 'n';
    assert_int_equal(control_name_check(longest, NULL), -EINVAL);
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
        assert_int_equal(control_name_check(good[i], NULL), 0);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_int_equal(control_name_check(bad[i], NULL), -EINVAL);
}

static void the_folder_is_made_and_checked(void **state)
{
    char buf[128], small[8];
    struct stat st;

    (void)state;
    assert_int_equal(control_dir(buf, sizeof(buf), NULL), 0);
    assert_string_equal(buf, dir);
    assert_int_equal(stat(dir, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0700);
    assert_int_equal(control_dir(small, sizeof(small), NULL), -ENAMETOOLONG);
    assert_int_equal(chmod(dir, 0770), 0);
    assert_int_equal(control_dir(buf, sizeof(buf), NULL), -EPERM);
    assert_int_equal(rmdir(dir), 0);
    assert_int_equal(symlink("/tmp", dir), 0);
    assert_int_equal(control_dir(buf, sizeof(buf), NULL), -ENOTDIR);
    assert_int_equal(unlink(dir), 0);
}

static void a_name_is_claimed_once(void **state)
{
    char path[128];
    int first, second, fd;

    (void)state;
    assert_int_equal(control_claim("vm", &first, NULL), 0);
    assert_int_equal(control_claim("vm", &second, NULL), -EEXIST);
    assert_int_equal(control_claim("other", &second, NULL), 0);
    control_release("other", second);
    control_release("vm", first);

    /* What a dead monitor left: both files, but no lock. */
    assert_int_equal(control_path("vm", path, sizeof(path), NULL), 0);
    fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    close(fd);
    assert_int_equal(control_claim("vm", &first, NULL), 0);
    assert_int_equal(access(path, F_OK), -1);
    control_release("vm", first);
    assert_int_equal(rmdir(dir), 0); /* nothing is left in it */
}

/* The kernel drops the claim of a process that dies without a chance to clean up. */
static void a_claim_ends_with_its_process(void **state)
{
    int ready[2], status, fd;
    pid_t pid;
    char c;

    (void)state;
    assert_int_equal(pipe2(ready, O_CLOEXEC), 0);
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        (void)!write(ready[1], control_claim("vm", &fd, NULL) ? "-" : "+", 1);
        for (;;)
            (void)pause();
    }
    assert_int_equal(read(ready[0], &c, 1), 1);
    assert_int_equal(c, '+');
    assert_int_equal(control_claim("vm", &fd, NULL), -EEXIST);
    assert_int_equal(kill(pid, SIGKILL), 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(control_claim("vm", &fd, NULL), 0);
    control_release("vm", fd);
    close(ready[0]);
    close(ready[1]);
}

static void nobody_to_connect_to(void **state)
{
    struct error err;
    int fd;

    (void)state;
    assert_int_equal(control_connect("vm", 100, &fd, &err), -ENOENT);
    assert_non_null(strstr(err.text, "'vm'"));
    assert_int_equal(control_connect("v/m", 100, &fd, &err), -EINVAL);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, start, stop)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names),      TEST(the_folder_is_made_and_checked),
        TEST(a_name_is_claimed_once), TEST(a_claim_ends_with_its_process),
        TEST(nobody_to_connect_to),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
