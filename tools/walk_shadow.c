#include "tools/walk_shadow.h"

#include <inttypes.h>
#include <string.h>

#include "tools/walk_ink.h"

/* Where all of an entry is in one line. */
#define WIDE 96

static bool is_set(const json_t *object, const char *key)
{
    return json_is_true(json_object_get(object, key));
}

/* Single letters close up; what takes several comes after them. */
static void add_flag(char *to, size_t size, const char *word)
{
    size_t n = strlen(to);

    if (n + strlen(word) + 2 < size)
        (void)snprintf(to + n, size - n, "%s%s", n && word[0] && word[1] ? " " : "", word);
}

static void read_entry(struct walk_shadow_entry *to, const json_t *from)
{
    json_int_t index = json_integer_value(json_object_get(from, "index"));
    const json_t *word;
    char page[16];
    size_t i;

    (void)snprintf(to->name, sizeof(to->name), "%s", walk_string(from, "name"));
    to->index = (unsigned)index & 0x1ff;
    to->address = walk_u64(from, "address");
    to->value = walk_u64(from, "value");
    to->lies = is_set(from, "out_of_sync");
    to->leaf = json_is_integer(json_object_get(from, "page"));
    json_array_foreach(json_object_get(from, "flags"), i, word)
    {
        add_flag(to->flags, sizeof(to->flags),
                 json_string_value(word) ? json_string_value(word) : "?");
    }
    if (to->leaf)
        (void)snprintf(to->leads, sizeof(to->leads), "%s page %" PRIx64,
                       walk_size(from, "page", page, sizeof(page)), walk_u64(from, "gpa"));
    else if (*walk_string(from, "table"))
        (void)snprintf(to->leads, sizeof(to->leads), "table %" PRIx64, walk_u64(from, "table"));
}

void walk_shadow_view(struct walk_shadow_view *out, const json_t *walk)
{
    const json_t *shadow = json_object_get(walk, "shadow"), *entry;
    const char *root = walk_string(shadow, "root");
    size_t i;

    memset(out, 0, sizeof(*out));
    out->text = walk_string(shadow, "text");
    out->there = json_is_object(shadow);
    if (!out->there)
        return;
    out->good = !strcmp(walk_string(shadow, "state"), "mapped") && !is_set(shadow, "out_of_sync");
    (void)snprintf(out->state, sizeof(out->state), "as ring %u sees these tables%s%.20s",
                   json_integer_value(json_object_get(shadow, "ring")) ? 3u : 0u,
                   *root ? ", root " : "", root);
    json_array_foreach(json_object_get(shadow, "entries"), i, entry)
    {
        if (i < WALK_SHADOW_LEVELS)
            read_entry(&out->entry[out->count++], entry);
    }
}

char *walk_shadow_brief(const json_t *walk, char *buf, size_t size)
{
    const json_t *shadow = json_object_get(walk, "shadow");
    bool mapped = json_is_integer(json_object_get(shadow, "page"));
    char page[16];

    (void)snprintf(buf, size, "%.20s%s%s%s", walk_string(shadow, "state"), mapped ? " " : "",
                   mapped ? walk_size(shadow, "page", page, sizeof(page)) : "",
                   is_set(shadow, "out_of_sync") ? " out of sync" : "");
    return buf;
}

/* "PTE   [003]  @1000a0018  8000000000657067  PWUAD NX    -> 4K page 657000", in two lines where
 * one is too short. */
static void put_entry(const struct walk_shadow_entry *e, const struct walk_style *style, FILE *f)
{
    bool wide = style->width >= WIDE;
    char text[80];

    (void)snprintf(text, sizeof(text), "  %-5s [%03x]  ", e->name, e->index);
    walk_put(f, style, INK_HEAD, 0, text);
    (void)snprintf(text, sizeof(text), "@%-14" PRIx64, e->address);
    if (wide)
        walk_put(f, style, INK_DIM, 0, text);
    (void)snprintf(text, sizeof(text), "%016" PRIx64 "  %-*s", e->value, *e->leads ? 13 : 0,
                   e->flags);
    walk_put(f, style, e->lies ? INK_FAULT : INK_SHADOW, 0, text);
    if (*e->leads)
        (void)fprintf(f, " -> %s", e->leads);
    else
        walk_put(f, style, INK_DIM, 0, *e->flags ? "" : "not filled yet");
    if (e->lies && wide)
        walk_put(f, style, INK_FAULT, 0, "  out of sync");
    (void)fputc('\n', f);
    if (wide)
        return;
    (void)snprintf(text, sizeof(text), "%15s@%" PRIx64, "", e->address);
    walk_put(f, style, INK_DIM, 0, text);
    if (e->lies)
        walk_put(f, style, INK_FAULT, 0, "  out of sync");
    (void)fputc('\n', f);
}

void walk_print_shadow(const json_t *walk, const struct walk_style *style, FILE *f)
{
    struct walk_shadow_view v;

    walk_shadow_view(&v, walk);
    if (!v.there)
        return;
    (void)fputc('\n', f);
    walk_put_folded(f, style, INK_HEAD, "shadow", v.state);
    walk_put_folded(f, style, v.good ? INK_PLAIN : INK_FAULT, "", v.text);
    for (unsigned i = 0; i < v.count; i++)
        put_entry(&v.entry[i], style, f);
}
