/* SPDX-License-Identifier: MIT
 * golden.h: what runners of golden vectors have in common: files that may hold anything are read, the first thing that
 * is wrong is remembered, numbers are counted as they are compared, and main prints a line for each file.
 *
 *     #define GOLDEN_NAME "grawa"                 // of the runner
 *     #define GOLDEN_USAGE "Replays ...\n"        // what --help says beside the rest
 *     #define GOLDEN_FIELDS uint32_t workers; ... // what it remembers of a file; all zero at first
 *     #include "golden.h"
 *     static void replay_file(golden *g) {...}    // g->doc is there; bad() for whatever is wrong
 *     static void forget_file(golden *g) {...}    // frees what is in GOLDEN_FIELDS
 *     static void tell_file(const golden *g) {...} // the end of the file's line
 *     int main(int argc, char **argv) { return golden_main(argc, argv, replay_file, forget_file, tell_file); } */
#ifndef GOLDEN_H
#define GOLDEN_H

#include <cJSON.h>
#include <math.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define GOLDEN_MOST_BYTES (256u << 20) /* of a file */

typedef struct golden {
    const char *path;
    cJSON *doc;
    uint64_t checks, misses;
    double worst; /* in tolerances */
    int skipped;  /* no vectors: neither right nor wrong */
    char why[600];
    GOLDEN_FIELDS
} golden;

/* Remembers the first thing that is wrong; always 0. */
static inline int bad(golden *g, const char *format, ...) {
    va_list ap;
    g->misses++;
    if (g->why[0]) return 0;
    va_start(ap, format);
    vsnprintf(g->why, sizeof g->why, format, ap);
    va_end(ap);
    return 0;
}

/* Zeroed memory for n and one more, or the end of the program. */
static inline void *room(size_t n, size_t each) {
    void *p = n < SIZE_MAX ? calloc(n + 1, each) : NULL;
    if (!p) {
        fputs("golden-" GOLDEN_NAME ": no memory\n", stderr);
        exit(2);
    }
    return p;
}

/* ---- reading what may be anything ---- */

static inline const cJSON *item(const cJSON *o, const char *key) {
    return o ? cJSON_GetObjectItemCaseSensitive(o, key) : NULL;
}

/* Every key of an object is one of `keys` (separated by blanks). */
static inline int known(golden *g, const cJSON *o, const char *where, const char *keys) {
    const cJSON *k;
    if (!cJSON_IsObject(o)) return bad(g, "%s is not an object", where);
    cJSON_ArrayForEach(k, o) {
        const char *at = keys;
        size_t n = k->string && !strchr(k->string, ' ') ? strlen(k->string) : 0;
        for (;;) {
            at = n ? strstr(at, k->string) : NULL;
            if (!at) return bad(g, "unknown key \"%.60s\" in %s", k->string ? k->string : "", where);
            if ((at == keys || at[-1] == ' ') && (at[n] == ' ' || !at[n])) break;
            at++;
        }
    }
    return 1;
}

/* An array of exactly n, or NULL. */
static inline const cJSON *array(golden *g, const cJSON *j, size_t n, const char *what) {
    if (!cJSON_IsArray(j)) {
        bad(g, "%s: an array is expected", what);
        return NULL;
    }
    if ((size_t)cJSON_GetArraySize(j) != n) {
        bad(g, "%s: %zu entries are expected, there are %d", what, n, cJSON_GetArraySize(j));
        return NULL;
    }
    return j;
}

/* A number, or one of the words for those that JSON lacks. */
static inline int number(golden *g, const cJSON *j, const char *what, double *out) {
    *out = 0;
    if (cJSON_IsNumber(j))
        *out = j->valuedouble;
    else if (cJSON_IsString(j) && !strcmp(j->valuestring, "nan"))
        *out = (double)NAN;
    else if (cJSON_IsString(j) && !strcmp(j->valuestring, "inf"))
        *out = (double)INFINITY;
    else if (cJSON_IsString(j) && !strcmp(j->valuestring, "-inf"))
        *out = -(double)INFINITY;
    else
        return bad(g, "%s: a number is expected", what);
    return 1;
}

static inline int numbers(golden *g, const cJSON *j, size_t n, const char *what, double *out) {
    const cJSON *e;
    if (!array(g, j, n, what)) return 0;
    cJSON_ArrayForEach(e, j) {
        if (!number(g, e, what, out++)) return 0;
    }
    return 1;
}

/* `count` rows of `each` */
static inline int rows(golden *g, const cJSON *j, size_t count, size_t each, const char *what, double *out) {
    const cJSON *e;
    if (!array(g, j, count, what)) return 0;
    cJSON_ArrayForEach(e, j) {
        if (!numbers(g, e, each, what, out)) return 0;
        out += each;
    }
    return 1;
}

/* A finite number of an object, from lo to hi. */
static inline int field(golden *g, const cJSON *o, const char *key, double lo, double hi, double *out) {
    const cJSON *j = item(o, key);
    *out = 0;
    if (!cJSON_IsNumber(j) || !(j->valuedouble >= lo && j->valuedouble <= hi))
        return bad(g, "%s: a number from %g to %g is expected", key, lo, hi);
    *out = j->valuedouble;
    return 1;
}

/* A whole number from lo to hi. */
static inline int whole(golden *g, const cJSON *j, const char *what, double lo, double hi, size_t *out) {
    *out = 0;
    if (!cJSON_IsNumber(j) || !(j->valuedouble >= lo && j->valuedouble <= hi) ||
        j->valuedouble != floor(j->valuedouble))
        return bad(g, "%s: a whole number from %g to %g is expected", what, lo, hi);
    *out = (size_t)j->valuedouble;
    return 1;
}

static inline cJSON *parse(golden *g, const char *path) {
    FILE *f = fopen(path, "rb");
    char *text = NULL;
    size_t bytes = 0, n;
    cJSON *doc = NULL;
    if (!f) {
        bad(g, "%s cannot be opened", path);
        return NULL;
    }
    do {
        char *p = bytes < GOLDEN_MOST_BYTES ? (char *)realloc(text, bytes + 65536 + 1) : NULL;
        if (!p) {
            bad(g, "%s is too large", path);
            goto end;
        }
        text = p;
        n = fread(text + bytes, 1, 65536, f);
        bytes += n;
    } while (n == 65536);
    if (ferror(f))
        bad(g, "%s cannot be read", path);
    else if (!(doc = cJSON_ParseWithLength(text, bytes)))
        bad(g, "%s is not JSON", path);
end:
    free(text);
    fclose(f);
    return doc;
}

/* ---- all files ---- */

static inline int golden_usage(FILE *to, int status) {
    fputs("usage: golden-" GOLDEN_NAME " FILE...\n" GOLDEN_USAGE
          "Prints a line for each file: how many numbers were compared, and the worst error in units of its tolerance\n"
          "(1 is the limit).\n"
          "Exit status: 0 all agree, 1 a miss, an unknown key or a file that compares nothing, 2 bad usage.\n",
          to);
    return status;
}

static inline int golden_main(int argc, char **argv, void (*replay)(golden *g), void (*forget)(golden *g),
                              void (*tell)(const golden *g)) {
    int i, failed = 0, skipped = 0;
    if (argc < 2) return golden_usage(stderr, 2);
    for (i = 1; i < argc; i++) {
        if (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h")) return golden_usage(stdout, 0);
        if (argv[i][0] == '-' && argv[i][1]) {
            fprintf(stderr, "golden-" GOLDEN_NAME ": unknown option %s\n", argv[i]);
            return golden_usage(stderr, 2);
        }
    }
    printf("%-45s %9s  %s\n", "file", "compared", "worst error / tolerance");
    for (i = 1; i < argc; i++) {
        golden g;
        const char *slash = strrchr(argv[i], '/');
        memset(&g, 0, sizeof g);
        g.path = argv[i];
        g.doc = parse(&g, g.path);
        if (g.doc) replay(&g);
        if (!g.misses && !g.checks && !g.skipped) bad(&g, "compares nothing");
        if (g.skipped && !g.misses) {
            printf("%-45s %9s  not vectors\n", slash ? slash + 1 : argv[i], "skipped");
            skipped++;
        } else {
            printf("%-45s %9llu  %.3g  %s%s", slash ? slash + 1 : argv[i], (unsigned long long)g.checks, g.worst,
                   g.misses ? "FAILED: " : "ok", g.why);
            if (tell) tell(&g);
            putchar('\n');
        }
        failed += g.misses != 0;
        forget(&g);
        cJSON_Delete(g.doc);
    }
    printf("%d of %d files agree\n", argc - 1 - failed - skipped, argc - 1 - skipped);
    return failed != 0;
}

#endif /* GOLDEN_H */
