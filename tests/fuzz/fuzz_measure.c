/*
 * Any file as a result of `twofold measure`. What the reader takes, all that shows results has to
 * bear; and a result never differs from itself.
 */
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tools/measure_compare.h"
#include "tools/measure_html.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static json_t *read_bytes(const uint8_t *data, size_t size)
{
    int fd = memfd_create("result", 0);
    struct error err;
    char path[32];
    json_t *result;

    if (fd < 0 || write(fd, data, size) != (ssize_t)size)
        abort();
    (void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    result = measure_read(path, &err);
    close(fd);
    return result;
}

static void show(FILE *f, const json_t *result)
{
    struct error err;

    measure_print(f, result);
    for (unsigned p = 0; p < MEASURE_PAGINGS; p++)
        html_matrix(f, result, measure_pagings[p]);
    html_costs(f, result);
    html_loads(f, result);
    html_grids(f, result);
    html_figures(f, result);
    (void)html_unmeasured(f, result);
    if (measure_write_csv(result, "/dev/null", &err))
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    json_t *result = read_bytes(data, size);
    struct compare c;
    struct error err;
    FILE *f;

    if (!result)
        return 0;
    f = fopen("/dev/null", "we");
    if (!f || compare_results(&c, result, result, &err))
        abort();
    show(f, result);
    if (c.differ)
        abort();
    compare_free(&c);
    (void)fclose(f);
    json_decref(result);
    return 0;
}
