#include "tools/stat_pci.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "tools/stat_virtio.h"
#include "tools/table.h"

static const char *string(const json_t *object, const char *key)
{
    const char *s = json_string_value(json_object_get(object, key));

    return s ? s : "";
}

/* "0xc0000000+4 KiB", one after the other; those that aren't decoded in brackets. */
static void print_bars(struct table *t, const json_t *bars)
{
    char text[512] = "", size[32];
    size_t i, used = 0;
    const json_t *bar;

    json_array_foreach(bars, i, bar)
    {
        bool decoded = json_is_true(json_object_get(bar, "decoded"));
        json_int_t bytes = json_integer_value(json_object_get(bar, "size"));
        int n = snprintf(text + used, sizeof(text) - used, "%s%s%s+%s%s", used ? " " : "",
                         decoded ? "" : "(", string(bar, "address"),
                         format_bytes((uint64_t)bytes, size, sizeof(size)), decoded ? "" : ")");

        if (n < 0 || (size_t)n >= sizeof(text) - used)
            break;
        used += (size_t)n;
    }
    table_cell(t, "%s", used ? text : "-");
}

static json_int_t number(const json_t *object, const char *key)
{
    return json_integer_value(json_object_get(object, key));
}

/* How many interrupts it sent; KVM takes those of a passed-through device without us. */
static void print_sent(struct table *t, const json_t *f)
{
    json_int_t sent = number(f, "sent");

    if (!json_is_true(json_object_get(f, "by_irqfd")) || !strcmp(string(f, "interrupts"), "none"))
        table_cell(t, "%" JSON_INTEGER_FORMAT, sent);
    else if (sent)
        table_cell(t, "%" JSON_INTEGER_FORMAT ", others by irqfd", sent);
    else
        table_cell(t, "by irqfd, not counted");
}

/* What emulated devices did to memory. */
static void print_dma(const json_t *pci)
{
    struct table *t = NULL;
    char read[32], written[32];
    const json_t *f;
    size_t i;

    json_array_foreach(pci, i, f)
    {
        const json_t *dma = json_object_get(f, "dma");

        if (!dma)
            continue;
        if (!t)
            t = table_create("DEVICE >READS >READ >WRITES >WRITTEN >FAULTS >REFUSED");
        table_cell(t, "%s", string(f, "bdf"));
        table_cell(t, "%" JSON_INTEGER_FORMAT, number(dma, "reads"));
        table_cell(t, "%s", format_bytes((uint64_t)number(dma, "bytes_read"), read, sizeof(read)));
        table_cell(t, "%" JSON_INTEGER_FORMAT, number(dma, "writes"));
        table_cell(t, "%s",
                   format_bytes((uint64_t)number(dma, "bytes_written"), written, sizeof(written)));
        table_cell(t, "%" JSON_INTEGER_FORMAT, number(dma, "faults"));
        table_cell(t, "%" JSON_INTEGER_FORMAT, number(dma, "refused"));
    }
    if (!t)
        return;
    (void)printf("\nDMA: by emulated devices\n");
    table_print(t, "  ", stdout);
}

static void print_edu(const json_t *pci)
{
    const json_t *f;
    size_t i;

    json_array_foreach(pci, i, f)
    {
        const json_t *edu = json_object_get(f, "edu");

        if (edu)
            (void)printf("  %s: %" JSON_INTEGER_FORMAT " transfers (%" JSON_INTEGER_FORMAT
                         " failed), %" JSON_INTEGER_FORMAT " page requests%s\n",
                         string(f, "bdf"), number(edu, "transfers"), number(edu, "failed"),
                         number(edu, "page_requests"),
                         json_is_true(json_object_get(edu, "waiting")) ? ", one unanswered" : "");
    }
}

void stat_print_pci(const json_t *pci)
{
    struct table *t;
    const json_t *f;
    size_t i;

    if (json_array_size(pci) < 2)
        return;
    t = table_create("PCI ID NAME INTERRUPTS >SENT BARS");
    json_array_foreach(pci, i, f)
    {
        table_cell(t, "%s", string(f, "bdf"));
        table_cell(t, "%s", string(f, "id"));
        table_cell(t, "%s", string(f, "name"));
        table_cell(t, "%s", string(f, "interrupts"));
        print_sent(t, f);
        print_bars(t, json_object_get(f, "bars"));
    }
    (void)printf("\nPCI: BARs that are not decoded in brackets\n");
    table_print(t, "  ", stdout);
    print_dma(pci);
    print_edu(pci);
    stat_print_virtio(pci);
}
