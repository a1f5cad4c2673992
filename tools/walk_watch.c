/*
 * The tracer: one gva, and a line whenever what is behind it moves.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "tools/walk_command.h"
#include "tools/walk_shadow.h"

/* What is compared between two looks. */
struct place {
    char gpa[24], hva[24], hpa[24];
    char guest_page[16], host_page[16];
    char fault[40];
    char shadow[64]; /* empty: the VM has none */
};

static void place_of(const json_t *walk, struct place *out)
{
    const json_t *fault = json_object_get(walk, "fault");

    memset(out, 0, sizeof(*out));
    (void)snprintf(out->gpa, sizeof(out->gpa), "%s", walk_string(walk, "gpa"));
    (void)snprintf(out->hva, sizeof(out->hva), "%s", walk_string(walk, "hva"));
    (void)snprintf(out->hpa, sizeof(out->hpa), "%s", walk_string(walk, "hpa"));
    (void)walk_size(walk, "guest_page", out->guest_page, sizeof(out->guest_page));
    (void)walk_size(walk, "host_page", out->host_page, sizeof(out->host_page));
    (void)walk_shadow_brief(walk, out->shadow, sizeof(out->shadow));
    if (json_is_object(fault))
        (void)snprintf(out->fault, sizeof(out->fault), "%s %s", walk_string(fault, "dimension"),
                       walk_string(fault, "reason"));
}

static void add(char *to, size_t size, const char *word, const char *before, const char *now)
{
    size_t n = strlen(to);

    if (strcmp(before, now) != 0 && n < size)
        (void)snprintf(to + n, size - n, "%s%s", n ? ", " : "", word);
}

static void print_place(const char *gva, const struct place *p, const char *what)
{
    struct timespec now;
    struct tm local;
    char when[16];

    (void)clock_gettime(CLOCK_REALTIME, &now);
    (void)localtime_r(&now.tv_sec, &local);
    (void)strftime(when, sizeof(when), "%T", &local);
    (void)printf("%s.%03ld  gva %s  gpa %s  hva %s  hpa %s  pages %s/%s  %s%s%s%s%s%s\n", when,
                 now.tv_nsec / 1000000, gva, *p->gpa ? p->gpa : "-", *p->hva ? p->hva : "-",
                 *p->hpa ? p->hpa : "-", p->guest_page, p->host_page, *p->shadow ? "shadow " : "",
                 p->shadow, *p->shadow ? "  " : "", what, *p->fault ? "; fault: " : "", p->fault);
    (void)fflush(stdout);
}

/* Prints when this look is the first one, or differs from the one before. */
static void compare(const json_t *walk, struct place *last, bool first, bool json)
{
    struct place now;
    char what[96] = "";

    place_of(walk, &now);
    add(what, sizeof(what), "gpa", last->gpa, now.gpa);
    add(what, sizeof(what), "hva", last->hva, now.hva);
    add(what, sizeof(what), "hpa", last->hpa, now.hpa);
    add(what, sizeof(what), "guest page", last->guest_page, now.guest_page);
    add(what, sizeof(what), "host page", last->host_page, now.host_page);
    add(what, sizeof(what), "shadow", last->shadow, now.shadow);
    add(what, sizeof(what), "fault", last->fault, now.fault);
    *last = now;
    if (!first && !*what)
        return;
    if (json) {
        (void)json_dumpf(walk, stdout, JSON_COMPACT | JSON_REAL_PRECISION(9));
        (void)putchar('\n');
        (void)fflush(stdout);
        return;
    }
    if (!first)
        (void)snprintf(what + strlen(what), sizeof(what) - strlen(what), " changed");
    print_place(walk_string(walk, "gva"), &now, first ? "start" : what);
}

static void wait_for(double seconds)
{
    struct timespec t = { .tv_sec = (time_t)seconds };

    t.tv_nsec = (long)((seconds - (double)t.tv_sec) * 1e9);
    while (nanosleep(&t, &t) < 0 && errno == EINTR)
        ;
}

/* A VM that ends refuses for a moment, before its socket goes. */
static bool ended(struct client *c)
{
    json_t *status = NULL;
    bool over = client_ask(c, "status", NULL, &status, NULL) != 0 ||
                !strcmp(walk_string(status, "state"), "ended");

    json_decref(status);
    return over;
}

/* What hinders the look at this moment, such as a process that is not there; once. */
static void tell(const char *text, struct error *told, bool json)
{
    json_t *line;

    if (!strcmp(text, told->text))
        return;
    (void)snprintf(told->text, sizeof(told->text), "%s", text);
    if (json) {
        line = json_pack("{s:s}", "error", text);
        (void)json_dumpf(line, stdout, JSON_COMPACT);
        json_decref(line);
    } else {
        (void)fputs(text, stdout);
    }
    (void)putchar('\n');
    (void)fflush(stdout);
}

int walk_watch(struct client *c, json_t *arguments, double period_s, bool json)
{
    struct place last = { 0 };
    struct error err, told = { "" };
    bool first = true;
    int code;

    for (;;) {
        json_t *walk = NULL;

        code = client_ask(c, "walk", json_incref(arguments), &walk, &err);
        if (code && (first || code != -EREMOTEIO || ended(c)))
            break;
        if (code) {
            tell(err.text, &told, json);
        } else {
            told.text[0] = '\0';
            compare(walk, &last, first, json);
            /* Ring 3 at one look and ring 0 at the next is no change of the address. */
            if (first && !json_object_get(arguments, "user"))
                (void)json_object_set(arguments, "user", json_object_get(walk, "user"));
            first = false;
            json_decref(walk);
        }
        if (ferror(stdout))
            return STATUS_FAILED; /* nobody reads any more */
        wait_for(period_s);
    }
    if (first || code == -EINVAL || code == -EAGAIN)
        return command_fail(walk_status(code), "%s", err.text);
    if (!json)
        (void)printf("VM '%s' ended\n", c->name);
    return STATUS_OK;
}
