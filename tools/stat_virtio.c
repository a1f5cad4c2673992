#include "tools/stat_virtio.h"

#include <stdbool.h>
#include <stdio.h>

#include "tools/table.h"

#define N JSON_INTEGER_FORMAT

static const char *string(const json_t *object, const char *key)
{
    const char *s = json_string_value(json_object_get(object, key));

    return s ? s : "";
}

static json_int_t number(const json_t *object, const char *key)
{
    return json_integer_value(json_object_get(object, key));
}

static void print_queue(struct table *t, const json_t *function, const json_t *queue)
{
    const json_t *virtio = json_object_get(function, "virtio");
    const char *why = string(queue, "broken");

    table_cell(t, "%s", string(function, "bdf"));
    table_cell(t, "%" N, number(queue, "queue"));
    table_cell(t, "%" N, number(queue, "size"));
    table_cell(t, "%" N, number(queue, "requests"));
    table_cell(t, "%" N, number(queue, "interrupts"));
    table_cell(t, "%" N, number(queue, "errors"));
    table_cell(t, "%s%s%s", string(virtio, "state"), *why ? ": " : "", why);
}

static void print_disk(const json_t *function, const json_t *disk)
{
    char size[32], read[32], written[32];

    (void)printf("  %s: %s, %s%s, by %s; %" N " reads (%s), %" N " writes (%s), %" N " flushes, %" N
                 " others, %" N " failed\n",
                 string(function, "bdf"), string(disk, "path"),
                 format_bytes((uint64_t)number(disk, "bytes"), size, sizeof(size)),
                 json_is_true(json_object_get(disk, "read_only")) ? ", read only" : "",
                 string(disk, "engine"), number(disk, "reads"),
                 format_bytes((uint64_t)number(disk, "bytes_read"), read, sizeof(read)),
                 number(disk, "writes"),
                 format_bytes((uint64_t)number(disk, "bytes_written"), written, sizeof(written)),
                 number(disk, "flushes"), number(disk, "others"), number(disk, "failed"));
}

void stat_print_virtio(const json_t *pci)
{
    struct table *t = NULL;
    const json_t *f, *queue;
    size_t i, k;

    json_array_foreach(pci, i, f)
    {
        json_array_foreach(json_object_get(json_object_get(f, "virtio"), "queues"), k, queue)
        {
            if (!t)
                t = table_create("VIRTIO >QUEUE >SIZE >REQUESTS >INTERRUPTS >ERRORS STATE");
            print_queue(t, f, queue);
        }
    }
    if (!t)
        return;
    (void)printf("\nvirtio\n");
    table_print(t, "  ", stdout);
    json_array_foreach(pci, i, f)
    {
        const json_t *disk = json_object_get(json_object_get(f, "virtio"), "disk");

        if (disk)
            print_disk(f, disk);
    }
}
