/* SPDX-License-Identifier: MIT
 * report.h: where results go. Rows as JSON lines into a file, and a readable report, which is Markdown, to standard
 * output and into a file beside the first. Both files take the place of old ones only when the run is complete. */
#ifndef BENCH_REPORT_H
#define BENCH_REPORT_H

#include "json.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

enum { REPORT_PATH = 4096 };

typedef struct report {
    json rows;
    FILE *text;                                /* beside standard output; NULL: none */
    char rows_at[REPORT_PATH], text_at[REPORT_PATH];
} report;

static inline FILE *report_part(const char *at) {
    char part[REPORT_PATH + 8];
    FILE *f;
    snprintf(part, sizeof part, "%s.part", at);
    f = fopen(part, "w");
    if (!f) {
        fprintf(stderr, "bench: cannot write %s\n", part);
        exit(1);
    }
    return f;
}

/* rows_at NULL: only standard output. */
static inline void report_open(report *r, const char *rows_at) {
    size_t stem;
    memset(r, 0, sizeof *r);
    if (!rows_at) return;
    stem = strlen(rows_at);
    if (stem >= 6 && !strcmp(rows_at + stem - 6, ".jsonl")) stem -= 6;
    if (stem >= 5 && !strcmp(rows_at + stem - 5, ".json")) stem -= 5;
    if (snprintf(r->rows_at, sizeof r->rows_at, "%s", rows_at) >= REPORT_PATH ||
        snprintf(r->text_at, sizeof r->text_at, "%.*s.md", (int)stem, rows_at) >= REPORT_PATH) {
        fprintf(stderr, "bench: the path is too long\n");
        exit(1);
    }
    r->rows.file = report_part(r->rows_at);
    r->text = report_part(r->text_at);
}

__attribute__((format(printf, 2, 3))) static inline void report_say(report *r, const char *format, ...) {
    va_list a;
    va_start(a, format);
    vprintf(format, a);
    va_end(a);
    fflush(stdout);
    if (!r->text) return;
    va_start(a, format);
    vfprintf(r->text, format, a);
    va_end(a);
    fflush(r->text);
}

static inline void report_move(const char *at) {
    char part[REPORT_PATH + 8];
    snprintf(part, sizeof part, "%s.part", at);
    if (rename(part, at)) fprintf(stderr, "bench: cannot rename %s\n", part);
}

static inline void report_close(report *r) {
    if (!r->rows.file) return;
    fclose(r->rows.file);
    fclose(r->text);
    report_move(r->rows_at);
    report_move(r->text_at);
    fprintf(stderr, "written: %s %s\n", r->rows_at, r->text_at);
}

/* ---- A report beside rows that are not its: they are added to as they come, and only the text is made anew ---- */

/* PATH of "PATH.jsonl", and what else lies beside the rows. */
static inline void report_path(char at[REPORT_PATH], const char *rows_at, const char *suffix) {
    size_t stem = strlen(rows_at);
    if (stem >= 6 && !strcmp(rows_at + stem - 6, ".jsonl")) stem -= 6;
    if (snprintf(at, REPORT_PATH, "%.*s%s", (int)stem, rows_at, suffix) >= REPORT_PATH) {
        fprintf(stderr, "bench: the path is too long\n");
        exit(2);
    }
}

/* rows_at NULL: only standard output. */
static inline void report_beside(report *r, const char *rows_at) {
    memset(r, 0, sizeof *r);
    if (!rows_at) return;
    report_path(r->text_at, rows_at, ".md");
    r->text = report_part(r->text_at);
}

static inline void report_close_text(report *r) {
    if (!r->text) return;
    fclose(r->text);
    report_move(r->text_at);
    fprintf(stderr, "written: %s\n", r->text_at);
}

#endif
