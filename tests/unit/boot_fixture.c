#include "tests/unit/boot_fixture.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

#include <cmocka.h>

int fixture_start(struct fixture *f, unsigned mib)
{
    memset(f, 0, sizeof(*f));
    strcpy(f->dir, "/tmp/twofold-boot-XXXXXX");
    if (!mkdtemp(f->dir))
        return -1;
    snprintf(f->kernel, sizeof(f->kernel), "%s/kernel", f->dir);
    snprintf(f->initrd, sizeof(f->initrd), "%s/initrd", f->dir);
    return memory_create(&f->mem, (uint64_t)mib << 20, MEM_ANON, NULL);
}

void fixture_stop(struct fixture *f)
{
    memory_destroy(f->mem);
    (void)unlink(f->kernel);
    (void)unlink(f->initrd);
    (void)rmdir(f->dir);
}

void fixture_file(const char *path, const void *bytes, size_t size, uint64_t length)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);

    assert_true(fd >= 0);
    assert_int_equal(write(fd, bytes, size), size);
    assert_int_equal(ftruncate(fd, (off_t)length), 0);
    close(fd);
}

int fixture_load(struct fixture *f, const char *initrd, const char *cmdline)
{
    struct boot_request req = {
        .kernel = f->kernel,
        .initrd = initrd,
        .cmdline = cmdline,
        .rsdp = gpa(RSDP),
    };

    fixture_file(f->kernel, f->img.bytes, f->img.size, f->img.size);
    return boot_load(f->mem, &req, &f->entry, &f->err);
}

static const void *at(const struct fixture *f, uint64_t where, uint64_t len)
{
    const void *p = memory_at(f->mem, gpa(where), len);

    assert_non_null(p);
    return p;
}

uint8_t fixture_u8(const struct fixture *f, uint64_t where)
{
    return *(const uint8_t *)at(f, where, 1);
}

uint32_t fixture_u32(const struct fixture *f, uint64_t where)
{
    uint32_t value;

    memcpy(&value, at(f, where, sizeof(value)), sizeof(value));
    return value;
}

uint64_t fixture_u64(const struct fixture *f, uint64_t where)
{
    uint64_t value;

    memcpy(&value, at(f, where, sizeof(value)), sizeof(value));
    return value;
}

const char *fixture_text(const struct fixture *f, uint64_t where)
{
    return at(f, where, 1);
}
