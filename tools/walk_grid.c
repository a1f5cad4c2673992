#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "tools/walk_view.h"

/* The manuals' names of bits (ept/decode.h), for those who do not know them by heart. */
static const struct {
    const char *word, *meaning;
} legend[] = {
    { "P", "present" },
    { "R", "read" },
    { "W", "write" },
    { "X", "execute" },
    { "U", "user" },
    { "A", "accessed" },
    { "D", "dirty" },
    { "G", "global" },
    { "PS", "large page" },
    { "NX", "no execute" },
    { "PWT", "write-through" },
    { "PCD", "uncached" },
    { "WB", "write-back" },
    { "RSVD", "reserved bit set" },
};

const char *walk_string(const json_t *object, const char *key)
{
    const char *s = json_string_value(json_object_get(object, key));

    return s ? s : "";
}

uint64_t walk_u64(const json_t *object, const char *key)
{
    return strtoull(walk_string(object, key), NULL, 16);
}

static uint64_t number(const json_t *object, const char *key)
{
    json_int_t n = json_integer_value(json_object_get(object, key));

    return n < 0 ? 0 : (uint64_t)n;
}

char *walk_size(const json_t *object, const char *key, char *buf, size_t size)
{
    static const char units[] = "\0KMGT";
    uint64_t bytes = number(object, key);
    unsigned unit = 0;

    while (bytes && bytes % 1024 == 0 && units[unit + 1]) {
        bytes /= 1024;
        unit++;
    }
    if (bytes)
        (void)snprintf(buf, size, "%" PRIu64 "%c", bytes, units[unit]);
    else
        (void)snprintf(buf, size, "?");
    return buf;
}

static void append(char *to, size_t size, const char *separator, const char *text)
{
    size_t n = strlen(to);

    if (n + strlen(separator) + strlen(text) < size)
        (void)snprintf(to + n, size - n, "%s%s", n ? separator : "", text);
}

char *walk_words(const json_t *list, const char *separator, char *buf, size_t size)
{
    const json_t *word;
    size_t i;

    buf[0] = '\0';
    json_array_foreach(list, i, word)
    {
        append(buf, size, separator, json_string_value(word) ? json_string_value(word) : "?");
    }
    return buf;
}

/* Single letters close up; what takes several comes after them. */
static void add_flag(struct walk_grid *grid, struct walk_cell *cell, const char *word)
{
    char entry[64];

    if (word[0] && !word[1])
        append(cell->letters, sizeof(cell->letters), "", word);
    else
        append(cell->words, sizeof(cell->words), " ", word);
    for (size_t i = 0; i < sizeof(legend) / sizeof(legend[0]); i++) {
        if (strcmp(legend[i].word, word) != 0)
            continue;
        (void)snprintf(entry, sizeof(entry), "%s %s", word, legend[i].meaning);
        if (!strstr(grid->legend, entry))
            append(grid->legend, sizeof(grid->legend), ", ", entry);
    }
}

static void add_ref(struct walk_grid *grid, const json_t *ref, unsigned guest_column)
{
    bool guest = !strcmp(walk_string(ref, "dimension"), "guest");
    unsigned row = (unsigned)number(ref, "row");
    unsigned column = guest ? guest_column : (unsigned)number(ref, "column");
    struct walk_cell *cell;
    const json_t *word;
    size_t i;

    if (row >= WALK_ROWS || column >= WALK_COLUMNS)
        return;
    cell = &grid->row[row].cell[column];
    cell->number = (unsigned)number(ref, "number");
    cell->address = walk_u64(ref, "address");
    cell->value = walk_u64(ref, "value");
    json_array_foreach(json_object_get(ref, "flags"), i, word)
    {
        add_flag(grid, cell, json_string_value(word) ? json_string_value(word) : "?");
    }
    if (!guest) {
        const char *name = walk_string(ref, "name"), *blank = strrchr(name, ' ');

        /* "PDE" of "EPT PDE": the head says whose it is. */
        (void)snprintf(grid->column[column], sizeof(grid->column[0]), "%s",
                       blank ? blank + 1 : name);
        grid->host_count[row]++;
    }
}

static void add_rows(struct walk_grid *grid, const json_t *walk)
{
    const json_t *row;
    size_t i;

    json_array_foreach(json_object_get(walk, "rows"), i, row)
    {
        struct walk_row *to;

        if (i >= WALK_ROWS)
            break;
        to = &grid->row[grid->rows++];
        (void)snprintf(to->of, sizeof(to->of), "%s", walk_string(row, "of"));
        (void)snprintf(to->state, sizeof(to->state), "%s", walk_string(row, "state"));
        to->index = json_object_get(row, "index") ? (int)number(row, "index") : -1;
        to->mapped = json_object_get(row, "gpa") != NULL;
        to->gpa = walk_u64(row, "gpa");
    }
}

/* The reference at which the walk ended: the last one of all. */
static void mark_fault(struct walk_grid *grid, const json_t *walk)
{
    uint64_t last = json_array_size(json_object_get(walk, "references"));

    if (!json_is_object(json_object_get(walk, "fault")) || last == 0)
        return;
    for (unsigned r = 0; r < grid->rows; r++)
        for (unsigned c = 0; c < grid->columns; c++)
            if (grid->row[r].cell[c].number == last)
                grid->row[r].cell[c].fault = true;
}

void walk_grid(struct walk_grid *out, const json_t *walk)
{
    const json_t *refs = json_object_get(walk, "references"), *ref;
    unsigned host = 0;
    bool guest = false;
    size_t i;

    memset(out, 0, sizeof(*out));
    json_array_foreach(refs, i, ref)
    {
        unsigned column = (unsigned)number(ref, "column") + 1;

        if (!strcmp(walk_string(ref, "dimension"), "guest"))
            guest = true;
        else if (column > host && column < WALK_COLUMNS)
            host = column;
    }
    json_array_foreach(refs, i, ref)
    {
        add_ref(out, ref, host);
    }
    if (json_array_size(refs) == 0)
        return;
    out->columns = host + 1;
    (void)snprintf(out->column[host], sizeof(out->column[0]), guest || host ? "guest" : "");
    add_rows(out, walk);
    mark_fault(out, walk);
}

char *walk_title(const json_t *walk, char *buf, size_t size)
{
    const char *access = walk_string(walk, "access"), *tables = walk_string(walk, "tables");
    const char *what = *access == 'w' ? "written" : *access == 'x' ? "executed" : "read";
    char whose[96];

    if (!strcmp(tables, "process"))
        (void)snprintf(whose, sizeof(whose), "tables of process %" PRIu64 " (%.32s)",
                       number(walk, "pid"), walk_string(walk, "process"));
    else if (!strcmp(tables, "cr3"))
        (void)snprintf(whose, sizeof(whose), "tables as asked for");
    else
        (void)snprintf(whose, sizeof(whose), "tables of vCPU %" PRIu64, number(walk, "vcpu"));
    (void)snprintf(buf, size, "%s by the %s, %s (root %s), %s", what,
                   json_is_true(json_object_get(walk, "user")) ? "user" : "supervisor", whose,
                   walk_string(walk, "root"), walk_string(walk, "guest_format"));
    return buf;
}

char *walk_count(const json_t *walk, const struct walk_grid *grid, char *buf, size_t size)
{
    uint64_t count = number(walk, "count"), guest = number(walk, "guest_levels");
    size_t n;

    if (json_is_object(json_object_get(walk, "fault"))) {
        (void)snprintf(buf, size, "%" PRIu64 " reference%s until the fault", count,
                       count == 1 ? "" : "s");
        return buf;
    }
    if (json_is_integer(json_object_get(walk, "expected"))) {
        (void)snprintf(buf, size,
                       "%" PRIu64 " references = (%" PRIu64 " + 1) x (%" PRIu64 " + 1) - 1", count,
                       guest, number(walk, "host_levels"));
        return buf;
    }
    n = (size_t)snprintf(buf, size, "%" PRIu64 " references = %" PRIu64 " of the guest", count,
                         guest);
    for (unsigned i = 0; i < grid->rows && n < size; i++)
        n += (size_t)snprintf(buf + n, size - n, " + %u", grid->host_count[i]);
    if (n < size)
        (void)snprintf(buf + n, size - n, " of the host, whose pages differ in size");
    return buf;
}
