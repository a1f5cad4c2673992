#include "tools/isolate_guest.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static const char mark[] = "isolate: ";

/* The value of "KEY=" at *at, which ends at `end` or with the line; *at moves behind it. NULL: it
 * is another key. */
static const char *take(const char **at, const char *key, char end, size_t *len)
{
    size_t n = strlen(key);
    const char *value = *at + n;

    if (strncmp(*at, key, n) != 0)
        return NULL;
    *len = end ? strcspn(value, (char[]){ end, '\0' }) : strlen(value);
    *at = value + *len + (value[*len] != '\0');
    return value;
}

static bool take_text(const char **at, const char *key, char end, char *to, size_t size)
{
    size_t len, n = 0;
    const char *value = take(at, key, end, &len);

    if (!value)
        return false;
    for (; n < len && n + 1 < size; n++)
        to[n] = (unsigned char)value[n] < 0x20 || value[n] == 0x7f ? '?' : value[n];
    to[n] = '\0';
    return true;
}

/* Digits only: no sign, no blank, nothing behind. *known may be NULL: then there has to be one. */
static bool take_number(const char **at, const char *key, char end, int base, uint64_t max,
                        uint64_t *to, bool *known)
{
    size_t len;
    const char *value = take(at, key, end, &len);
    char *stop;

    if (!value || (len == 0 && !known))
        return false;
    *to = 0;
    if (known)
        *known = len > 0;
    if (len == 0)
        return true;
    if (!strchr("0123456789abcdefABCDEF", *value))
        return false;
    errno = 0;
    *to = strtoull(value, &stop, base);
    return errno == 0 && stop == value + len && *to <= max;
}

static bool take_flag(const char **at, const char *key, char end, bool *to)
{
    uint64_t value = 0;
    bool ok = take_number(at, key, end, 10, 1, &value, NULL);

    *to = value != 0;
    return ok;
}

static bool parse_region(const char *at, struct isolate_region *g)
{
    return take_number(&at, "iova=", ' ', 16, UINT64_MAX, &g->iova, NULL) &&
           take_number(&at, "len=", ' ', 0, UINT64_MAX, &g->len, NULL) &&
           take_flag(&at, "read=", ' ', &g->read) && take_flag(&at, "write=", ' ', &g->write) &&
           take_flag(&at, "contrast=", ' ', &g->contrast) &&
           take_text(&at, "label=", '\0', g->label, sizeof(g->label));
}

static bool parse_attempt(const char *at, struct isolate_attempt *a)
{
    bool before = false, after = false, ok;
    uint64_t len = 0;

    ok = take_text(&at, "what=", '|', a->what, sizeof(a->what)) &&
         take_number(&at, "iova=", '|', 16, UINT64_MAX, &a->iova, NULL) &&
         take_number(&at, "len=", '|', 0, UINT32_MAX, &len, NULL) &&
         take_flag(&at, "write=", '|', &a->write) &&
         take_flag(&at, "contrast=", '|', &a->contrast) &&
         take_flag(&at, "allowed=", '|', &a->allowed) && take_flag(&at, "went=", '|', &a->went) &&
         take_number(&at, "before=", '|', 16, UINT64_MAX, &a->before, &before) &&
         take_number(&at, "after=", '|', 16, UINT64_MAX, &a->after, &after) &&
         take_text(&at, "said=", '\0', a->said, sizeof(a->said));
    a->len = (uint32_t)len;
    a->sums = before && after;
    return ok;
}

static int bad(const char *line, struct error *err)
{
    char shown[120];
    size_t n = 0;

    for (; line[n] && n + 1 < sizeof(shown); n++)
        shown[n] = (unsigned char)line[n] < 0x20 || (unsigned char)line[n] >= 0x7f ? '?' : line[n];
    shown[n] = '\0';
    return error_set(err, -EPROTO,
                     "the guest's line '%s' is not understood: is its 'isolate' of "
                     "another version?",
                     shown);
}

static int too_many(const char *what, int max, struct error *err)
{
    return error_set(err, -E2BIG, "the guest reports more than %d %s", max, what);
}

static int take_region(const char *line, const char *at, struct isolate_report *r,
                       struct error *err)
{
    struct isolate_region region = { .iova = 0 };

    if (!parse_region(at, &region))
        return bad(line, err);
    if (r->regions == ISOLATE_REGIONS_MAX)
        return too_many("regions", ISOLATE_REGIONS_MAX, err);
    r->region[r->regions++] = region;
    return ISOLATE_REGION;
}

static int take_attempt(const char *line, const char *at, struct isolate_report *r,
                        struct error *err)
{
    struct isolate_attempt attempt = { .iova = 0 };

    if (!parse_attempt(at, &attempt))
        return bad(line, err);
    if (r->attempts == ISOLATE_ATTEMPTS_MAX)
        return too_many("attempts", ISOLATE_ATTEMPTS_MAX, err);
    r->attempt[r->attempts++] = attempt;
    return ISOLATE_ATTEMPT;
}

/* True when `at` begins with the word, which is then left behind. */
static bool word(const char **at, const char *w)
{
    size_t n = strlen(w);

    if (strncmp(*at, w, n) != 0)
        return false;
    *at += n;
    return true;
}

int isolate_take_line(const char *line, struct isolate_report *r, struct error *err)
{
    const char *at = line;
    uint64_t attempts;

    if (!word(&at, mark))
        return ISOLATE_OTHER;
    if (word(&at, "region "))
        return take_region(line, at, r, err);
    if (word(&at, "attempt "))
        return take_attempt(line, at, r, err);
    if (!word(&at, "done "))
        return ISOLATE_OTHER; /* a sentence of it, for people */
    if (!take_number(&at, "attempts=", ' ', 10, UINT64_MAX, &attempts, NULL) || *at)
        return bad(line, err);
    if (attempts != r->attempts)
        return error_set(err, -EPROTO, "the guest made %llu attempts, but %zu of them were seen",
                         (unsigned long long)attempts, r->attempts);
    return ISOLATE_DONE;
}
