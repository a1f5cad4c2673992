#include "tools/stat_shadow.h"

#include <stdio.h>

#include "tools/client.h"
#include "tools/table.h"

static json_int_t number(const json_t *object, const char *key)
{
    return json_integer_value(json_object_get(object, key));
}

static void print_counts(const char *what, const json_t *from, const char *const keys[][2])
{
    (void)printf("  %-10s", what);
    for (size_t i = 0; keys[i][0]; i++)
        (void)printf("%s%" JSON_INTEGER_FORMAT " %s", i ? ", " : "", number(from, keys[i][0]),
                     keys[i][1]);
    (void)putchar('\n');
}

/* Those that there were, the most frequent first. */
static void print_emulated(const json_t *emulated)
{
    const char *key;
    json_t *value;
    json_int_t below = INT64_MAX;
    bool any = false;

    (void)printf("  emulated  ");
    for (;;) {
        json_int_t most = 0;

        json_object_foreach((json_t *)emulated, key, value)
        {
            json_int_t n = json_integer_value(value);

            most = n < below && n > most ? n : most;
        }
        if (most == 0)
            break;
        json_object_foreach((json_t *)emulated, key, value)
        {
            if (json_integer_value(value) != most)
                continue;
            (void)printf("%s%" JSON_INTEGER_FORMAT " %s", any ? ", " : "", most, key);
            any = true;
        }
        below = most;
    }
    (void)puts(any ? "" : "nothing");
}

void stat_print_shadow(const json_t *shadow)
{
    static const char *const traps[][2] = { { "traps", "in all" },
                                            { "page_faults", "page faults" },
                                            { "reflected_page_faults", "of them the guest's own" },
                                            { "reflected_exceptions", "other exceptions" },
                                            { "interrupts", "interrupts" },
                                            { NULL, NULL } };
    static const char *const tables[][2] = { { "tables", "in use" },
                                             { "tables_max", "at most" },
                                             { "unsync_tables", "of the guest's unsync" },
                                             { "evictions", "evictions" },
                                             { NULL, NULL } };
    static const char *const fills[][2] = { { "fills", "leaves made" },
                                            { "fills_large", "of them large" },
                                            { "zaps", "dropped" },
                                            { NULL, NULL } };
    static const char *const syncs[][2] = { { "syncs", "rounds" },
                                            { "compared_tables", "tables compared" },
                                            { "write_protect_faults", "write-protect exits" },
                                            { "protects", "tables protected" },
                                            { NULL, NULL } };
    static const char *const roots[][2] = { { "roots_made", "made" },
                                            { "roots_hit", "found" },
                                            { NULL, NULL } };
    static const char *const real[][2] = { { "flushes", "flushes" },
                                           { "touches", "tables touched" },
                                           { NULL, NULL } };
    static const char *const odd[][2] = { { "refused_tables", "walks of broken tables" },
                                          { "window_accesses", "accesses to the window" },
                                          { NULL, NULL } };

    if (!shadow)
        return;
    (void)printf("\nshadow paging\n");
    print_counts("traps", shadow, traps);
    print_emulated(json_object_get(shadow, "emulated"));
    (void)printf("  %-10s%" JSON_INTEGER_FORMAT " other instructions\n", "monitor",
                 number(shadow, "interpreted"));
    print_counts("fills", shadow, fills);
    print_counts("syncs", shadow, syncs);
    print_counts("roots", shadow, roots);
    print_counts("tables", shadow, tables);
    print_counts("real CPU", shadow, real);
    print_counts("odd", shadow, odd);
}
