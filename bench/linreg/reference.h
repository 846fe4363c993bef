/* SPDX-License-Identifier: MIT
 * reference.h: reads what it needs of bench/data/linreg_reference.json: the trajectories that the published code took,
 * and how far a replay in double precision has followed them. No general JSON: this one file, as it is. */
#ifndef BENCH_LINREG_REFERENCE_H
#define BENCH_LINREG_REFERENCE_H

#include "linreg/demo.h"

typedef struct reference {
    int points;
    double population[POINTS]; /* as in trajectory */
    double rank0[POINTS];      /* NAN where there are none */
    double horizon;            /* the last iteration up to which they are to agree; NAN: none is stated */
} reference;

static inline char *reference_read(const char *path) {
    FILE *f = fopen(path, "rb");
    enum { MOST = 1 << 20 };
    char *text = (char *)room(MOST, 1);
    if (!f) fprintf(stderr, "bench-linreg: no %s (run from the top, or see --reference)\n", path);
    if (!f) exit(2);
    must(fread(text, 1, MOST - 1, f) < MOST - 1 && !ferror(f), "the file of the reference cannot be read");
    fclose(f);
    return text;
}

/* The list of numbers behind "key", between `from` and `end`; returns how many. */
static inline int reference_list(const char *from, const char *end, const char *key, double *list, int most) {
    const char *at = strstr(from, key);
    int n = 0;
    if (!at || at >= end || !(at = strchr(at + strlen(key), '['))) return 0;
    for (at++; n < most && *at != ']'; n++) {
        char *next;
        list[n] = strtod(at, &next);
        must(next != at, "the file of the reference has changed");
        at = next + strspn(next, ", ");
    }
    return n;
}

static inline double reference_number(const char *from, const char *end, const char *key) {
    const char *at = strstr(from, key);
    return at && at < end ? strtod(at + strlen(key), NULL) : (double)NAN;
}

/* The object that has this text, from there to the next one. */
static inline const char *reference_find(const char *from, const char *what, const char *each, const char **end) {
    const char *at = from ? strstr(from, what) : NULL;
    if (!at) return NULL;
    *end = strstr(at + 1, each);
    if (!*end) *end = at + strlen(at);
    return at;
}

/* `mode`: "baseline", "adacons" or "adacons, inverse permutation (no reference run)", of which there is a replay only.
 * Returns 0 if it is not there. */
static inline int reference_of(const char *text, const char *mode, size_t workers, size_t batch, reference *r) {
    char run[160], replay[160];
    double iteration[POINTS + 1], value[POINTS + 1], rank0[POINTS + 1];
    const char *end, *at;
    const char *second = strstr(text, "\"float64_replay\"");
    int n, i, kept = 0;
    must(second != NULL, "the file of the reference has changed");
    snprintf(run, sizeof run, "\"mode\": \"%s\", \"workers\": %zu, \"batch\": %zu,", mode, workers, batch);
    snprintf(replay, sizeof replay, "\"workers\": %zu, \"batch\": %zu, \"mode\": \"%s\"", workers, batch, mode);
    r->horizon = (double)NAN;
    at = reference_find(second, replay, "\"workers\"", &end);
    if (at) r->horizon = reference_number(at, end, "\"0.001\": ");
    if (!at || !isfinite(r->horizon)) { /* the replay itself has the trajectory */
        if (!at) return 0;
    } else {
        at = reference_find(text, run, "\"mode\"", &end);
        must(at && at < second, "the file of the reference has changed");
    }
    n = reference_list(at, end, "\"iters\": ", iteration, POINTS + 1);
    must(n > 0 && reference_list(at, end, "\"loss_population_after\": ", value, POINTS + 1) == n,
         "the file of the reference has changed");
    if (reference_list(at, end, "\"loss_rank0\": ", rank0, POINTS + 1) != n)
        for (i = 0; i < n; i++) rank0[i] = (double)NAN;
    for (i = 0; i < n; i++) {
        if (iteration[i] < EVERY) continue; /* the first iteration takes no step */
        must(iteration[i] == (double)((kept + 1) * EVERY), "the file of the reference has changed");
        r->population[kept] = value[i];
        r->rank0[kept++] = rank0[i];
    }
    r->points = kept;
    return 1;
}

#endif
