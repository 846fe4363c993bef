/* SPDX-License-Identifier: MIT
 * json.h: writes JSON, one value after the other; commas come by themselves. A file that is NULL takes nothing. A key
 * that is NULL is for elements of a list. */
#ifndef BENCH_JSON_H
#define BENCH_JSON_H

#include <math.h>
#include <stdio.h>

typedef struct json {
    FILE *file;
    int comma; /* one is due before the next value */
} json;

static inline void json_quote(json *j, const char *text) {
    fputc('"', j->file);
    for (; *text; text++) {
        const unsigned char c = (unsigned char)*text;
        if (c == '"' || c == '\\') fputc('\\', j->file);
        if (c < 32) fprintf(j->file, "\\u%04x", c);
        else fputc(c, j->file);
    }
    fputc('"', j->file);
}

static inline void json_key(json *j, const char *key) {
    if (j->comma) fputc(',', j->file);
    j->comma = 1;
    if (!key) return;
    json_quote(j, key);
    fputc(':', j->file);
}

/* bracket: '{' or '[' */
static inline void json_begin(json *j, const char *key, char bracket) {
    if (!j->file) return;
    json_key(j, key);
    fputc(bracket, j->file);
    j->comma = 0;
}

static inline void json_end(json *j, char bracket) {
    if (!j->file) return;
    fputc(bracket, j->file);
    j->comma = 1;
}

static inline void json_text(json *j, const char *key, const char *text) {
    if (!j->file) return;
    json_key(j, key);
    if (text) json_quote(j, text);
    else fputs("null", j->file);
}

static inline void json_number(json *j, const char *key, double v) {
    if (!j->file) return;
    json_key(j, key);
    if (isfinite(v)) fprintf(j->file, "%.6g", v);
    else fputs("null", j->file);
}

static inline void json_integer(json *j, const char *key, long long v) {
    if (!j->file) return;
    json_key(j, key);
    fprintf(j->file, "%lld", v);
}

static inline void json_line_begin(json *j) {
    j->comma = 0;
    json_begin(j, NULL, '{');
}

static inline void json_line_end(json *j) {
    if (!j->file) return;
    fputs("}\n", j->file);
    fflush(j->file);
}

#endif
