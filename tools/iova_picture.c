/*
 * What a device tried, as a page of its own: no scripts, no fonts, no files besides. The page is
 * XML, too, so that other programs may read it.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <time.h>

#include "tools/iova_picture.h"

/* Bytes of the UTF-8 character at `s` (at most `len`), or 0 when that is none. */
static size_t utf8_length(const char *s, size_t len)
{
    const unsigned char *u = (const unsigned char *)s;
    size_t n = u[0] < 0x80                   ? 1
               : u[0] >= 0xc2 && u[0] < 0xe0 ? 2
               : u[0] >= 0xe1 && u[0] < 0xed ? 3
                                             : 0;

    if (n == 0 || n > len)
        return 0;
    for (size_t i = 1; i < n; i++)
        if ((u[i] & 0xc0) != 0x80)
            return 0;
    return n;
}

void picture_escape(FILE *f, const char *text, size_t len)
{
    while (len > 0) {
        size_t n = utf8_length(text, len);
        char c = n ? *text : '?';

        if (c == '<')
            (void)fputs("&lt;", f);
        else if (c == '>')
            (void)fputs("&gt;", f);
        else if (c == '&')
            (void)fputs("&amp;", f);
        else if (c == '"')
            (void)fputs("&quot;", f);
        else if (n == 1 && ((unsigned char)c < 0x20 || c == 0x7f))
            (void)fputc('?', f);
        else
            (void)fwrite(n ? text : "?", 1, n ? n : 1, f);
        text += n ? n : 1;
        len -= n ? n : 1;
    }
}

static void put(FILE *f, const char *text)
{
    picture_escape(f, text, strlen(text));
}

/* Light, and dark for those who have set that. */
static const char style[] =
    ":root{color-scheme:light dark;--bg:#fff;--ink:#1c2430;--dim:#5d6877;--line:#ccd3dc;"
    "--soft:#f4f6f9;--rw:#b9d8f3;--rw-edge:#2f78b7;--ro:#fbe9bd;--ro-line:#e3bb55;"
    "--ro-edge:#9a6f09;--go:#1f7a3d;--no:#b3261e;--plate:#ffffffd9}\n"
    "@media(prefers-color-scheme:dark){:root{--bg:#14181e;--ink:#e4e9f0;--dim:#9aa6b5;"
    "--line:#39424e;--soft:#1d232b;--rw:#1f4a70;--rw-edge:#6fb2ea;--ro:#4a3c14;"
    "--ro-line:#7d6521;--ro-edge:#e0b84a;--go:#5fd08a;--no:#ff8a80;--plate:#14181ed0}}\n"
    "body{margin:0 auto;max-width:1152px;padding:24px;background:var(--bg);color:var(--ink);"
    "font:14px/1.45 system-ui,-apple-system,'Segoe UI','Liberation Sans',Arial,sans-serif}\n"
    "h1{font-size:22px;margin:0 0 12px}\n"
    "dl{display:grid;grid-template-columns:max-content 1fr;gap:3px 16px;margin:0 0 16px}\n"
    "dt{color:var(--dim)}dd{margin:0;overflow-wrap:anywhere}\n"
    ".verdict{border:1px solid;border-left-width:6px;border-radius:4px;padding:9px 14px;"
    "margin:0 0 16px;background:var(--soft)}\n"
    ".passed{border-color:var(--go)}.failed{border-color:var(--no)}\n"
    "svg{width:100%;height:auto;display:block;margin:0 0 20px}\n"
    "svg text{font-size:12px;fill:var(--ink)}svg .head{font-size:15px;font-weight:600}\n"
    "svg .dim,svg .small{font-size:11.5px}svg .dim{fill:var(--dim)}svg "
    ".middle{text-anchor:middle}\n"
    "svg .address{font:11px ui-monospace,'Liberation Mono',monospace;text-anchor:end;"
    "fill:var(--dim)}\n"
    "svg text.through{fill:var(--go)}svg text.blocked,svg text.wrong{fill:var(--no)}\n"
    "svg text.wrong{font-weight:700}\n"
    ".tick{stroke:var(--line);stroke-dasharray:1 3;fill:none}\n"
    ".gap{stroke:var(--line);stroke-width:1.5;fill:none}\n"
    ".block{stroke-width:1.5}.rw{fill:var(--rw);stroke:var(--rw-edge)}\n"
    ".ro{fill:url(#hatch);stroke:var(--ro-edge)}.wo{fill:url(#dots);stroke:var(--ro-edge)}\n"
    ".no{fill:none;stroke:var(--line)}.plate{fill:var(--plate)}\n"
    ".hatch-ground{fill:var(--ro)}.hatch-line{fill:var(--ro-line)}\n"
    ".arrow{stroke-width:2;fill:none}.arrow.through{stroke:var(--go)}\n"
    ".arrow.blocked{stroke:var(--no);stroke-dasharray:6 4}\n"
    ".tip.through{fill:var(--go)}.tip.blocked{fill:var(--no)}\n"
    ".cross{stroke:var(--no);stroke-width:3;fill:none}\n"
    ".extent{stroke:var(--ink);stroke-width:3;fill:none}\n"
    "circle.badge{fill:var(--bg);stroke:var(--ink);stroke-width:1.2}\n"
    "circle.badge.wrong{stroke:var(--no);stroke-width:3}\n"
    "svg text.badge{text-anchor:middle;font-size:11px;font-weight:600}\n"
    ".scroll{overflow-x:auto}table{border-collapse:collapse;width:100%;font-size:13px}\n"
    "th,td{text-align:left;vertical-align:top;padding:5px 9px;border-bottom:1px solid "
    "var(--line)}\n"
    "th{color:var(--dim);font-weight:600}tr.contrast{background:var(--soft)}\n"
    "code{font:12px ui-monospace,'Liberation Mono',monospace}td .sums{color:var(--dim)}\n"
    "td:nth-child(6),td:nth-child(7),td:nth-child(8){white-space:nowrap}\n"
    "td.through{color:var(--go)}td.blocked,td.wrong{color:var(--no)}td.wrong{font-weight:700}\n";

static void put_head(FILE *f, const struct isolate_report *r)
{
    (void)fputs("<!DOCTYPE html>\n"
                "<html xmlns=\"http://www.w3.org/1999/xhtml\" lang=\"en\">\n<head>\n"
                "<meta charset=\"utf-8\"/>\n"
                "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n"
                "<title>What the device could reach: ",
                f);
    put(f, r->device);
    (void)fprintf(f, "</title>\n<style>\n%s</style>\n</head>\n<body>\n", style);
}

static void put_entry(FILE *f, const char *name, const char *value)
{
    (void)fprintf(f, "<dt>%s</dt><dd>", name);
    put(f, value);
    (void)fputs("</dd>\n", f);
}

static void put_top(FILE *f, const struct isolate_report *r)
{
    struct utsname host;
    char text[4 * sizeof(host.release) + 16] = "", when[64] = "";
    time_t now = time(NULL);
    struct tm tm;
    char *verdict = NULL;
    size_t size = 0;
    FILE *v;

    if (uname(&host) == 0)
        (void)snprintf(text, sizeof(text), "%s, %s %s, %s", host.nodename, host.sysname,
                       host.release, host.machine);
    if (localtime_r(&now, &tm))
        (void)strftime(when, sizeof(when), "%Y-%m-%d %H:%M:%S %z", &tm);
    (void)fputs("<h1>What the device could reach</h1>\n<dl>\n", f);
    put_entry(f, "Device", r->device);
    put_entry(f, "IOMMU", r->iommu);
    put_entry(f, "Host", text);
    put_entry(f, "Time", when);
    (void)fprintf(f, "</dl>\n<p class=\"verdict %s\">", isolate_passed(r) ? "passed" : "failed");
    v = open_memstream(&verdict, &size);
    if (v) {
        isolate_print_verdict(v, r);
        if (fclose(v) == 0)
            picture_escape(f, verdict, size ? size - 1 : 0);
        free(verdict);
    }
    (void)fputs("</p>\n", f);
}

static void put_memory(FILE *f, const struct isolate_attempt *a)
{
    (void)fprintf(f, "<td>%s", isolate_effect(a));
    if (a->sums && a->before == a->after)
        (void)fprintf(f, "<br/><code class=\"sums\">%016" PRIx64 "</code>", a->before);
    else if (a->sums)
        (void)fprintf(f, "<br/><code class=\"sums\">%016" PRIx64 "<br/>%016" PRIx64 "</code>",
                      a->before, a->after);
    (void)fputs("</td>", f);
}

static void put_row(FILE *f, const struct isolate_attempt *a, size_t number)
{
    bool fine = isolate_as_expected(a);
    char address[24];

    (void)fprintf(f, "<tr%s><td>%zu</td><td>", a->contrast ? " class=\"contrast\"" : "", number);
    put(f, a->what);
    (void)fprintf(f,
                  "%s</td><td>%s</td><td><code>%s</code></td><td>%" PRIu32 "</td><td>%s</td>"
                  "<td class=\"%s\">%s%s</td>",
                  a->contrast ? " (identity mapping)" : "", a->write ? "write" : "read",
                  isolate_address(a->iova, address, sizeof(address)), a->len,
                  a->allowed ? "goes through" : "blocked",
                  !fine     ? "wrong"
                  : a->went ? "through"
                            : "blocked",
                  isolate_outcome(a), fine ? "" : ", not as expected");
    put_memory(f, a);
    (void)fputs("<td>", f);
    put(f, a->said);
    (void)fputs("</td></tr>\n", f);
}

static void put_table(FILE *f, const struct isolate_report *r)
{
    (void)fputs("<div class=\"scroll\">\n<table>\n<thead><tr><th>#</th><th>What was tried</th>"
                "<th>Access</th><th>iova</th><th>Bytes</th><th>Expected</th><th>Happened</th>"
                "<th>Memory (xxh64)</th><th>The IOMMU said</th></tr></thead>\n<tbody>\n",
                f);
    for (size_t i = 0; i < r->attempts; i++)
        put_row(f, &r->attempt[i], i + 1);
    (void)fputs("</tbody>\n</table>\n</div>\n</body>\n</html>\n", f);
}

int isolate_picture(const struct isolate_report *r, const char *path, struct error *err)
{
    FILE *f = fopen(path, "we");
    bool lost;

    if (!f)
        return error_set(err, -errno, "the picture can't be written to '%s': %s", path,
                         strerror(errno));
    put_head(f, r);
    put_top(f, r);
    picture_svg(f, r);
    put_table(f, r);
    lost = ferror(f);
    if (fclose(f) || lost)
        return error_set(err, -EIO, "the picture '%s' is incomplete: a write failed", path);
    return 0;
}
