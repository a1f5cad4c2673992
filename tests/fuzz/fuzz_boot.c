/*
 * Any bytes as a kernel file. The last byte of the input chooses whether there is an
 * initrd. What must hold: no crash, and a kernel that is accepted has its entry in RAM
 * and a refused one has left the guest's memory alone.
 * The seeds are the smallest kernel of each kind that starts.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "vmm/boot.h"

#define RAM     (UINT64_C(16) << 20)
#define TOUCHED 0x8000u /* the start structures */

static void require(int condition, const char *what)
{
    if (condition)
        return;
    fprintf(stderr, "fuzz_boot: %s\n", what);
    abort();
}

static int file_of(const uint8_t *data, size_t size, char path[32])
{
    int fd = memfd_create("kernel", MFD_CLOEXEC);

    require(fd >= 0 && write(fd, data, size) == (ssize_t)size, "can't make a file");
    snprintf(path, 32, "/proc/self/fd/%d", fd);
    return fd;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char kernel[32], initrd[32];
    struct boot_request req = { .kernel = kernel, .cmdline = "a=b", .rsdp = gpa(0xe0000) };
    struct boot_entry entry = { 0 };
    struct error err = { .text = "" };
    struct memory *mem;
    static const uint8_t zero[TOUCHED];
    int kernel_fd = file_of(data, size, kernel), initrd_fd = file_of(data, size, initrd), rc;

    if (size && data[size - 1] & 1)
        req.initrd = initrd;
    require(memory_create(&mem, RAM, MEM_ANON, NULL) == 0, "no memory");
    rc = boot_load(mem, &req, &entry, &err);
    if (rc == 0) {
        require(memory_at(mem, gpa(entry.eip), 1) != NULL, "entry outside RAM");
        require(entry.eip >= TOUCHED, "entry in the start structures");
        require(entry.image_end.v <= RAM, "image outside RAM");
    } else {
        require(rc < 0 && err.text[0] && !strchr(err.text, '\n'), "no sentence");
        require(memcmp(memory_at(mem, gpa(0), TOUCHED), zero, TOUCHED) == 0, "memory written");
    }
    memory_destroy(mem);
    close(initrd_fd);
    close(kernel_fd);
    return 0;
}
