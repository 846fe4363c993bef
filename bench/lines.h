/* SPDX-License-Identifier: MIT
 * lines.h: files of JSON lines, one a run, that are read again and added to, so that no run is repeated. */
#ifndef BENCH_LINES_H
#define BENCH_LINES_H

#include <stdio.h>
#include <string.h>

/* What stands behind "name": in a line; NULL: it is not there. */
static inline const char *line_find(const char *line, const char *name) {
    char quoted[64];
    const char *at;
    const int n = snprintf(quoted, sizeof quoted, "\"%s\":", name);
    at = strstr(line, quoted);
    return at ? at + n : NULL;
}

/* A line that was cut short, as by a run that was stopped, is not. */
static inline int line_whole(const char *line) {
    const size_t n = strlen(line);
    return n >= 2 && line[n - 1] == '\n' && line[n - 2] == '}';
}

/* To add lines behind those that are there; NULL: it cannot be written. */
static inline FILE *lines_append(const char *path) {
    int last = '\n', c;
    FILE *f = fopen(path, "r");
    while (f && (c = fgetc(f)) != EOF) last = c;
    if (f) fclose(f);
    f = fopen(path, "a");
    if (f && last != '\n') fputc('\n', f); /* after a line that was cut short */
    return f;
}

#endif
