/* SPDX-License-Identifier: MIT
 * stats.h: median and quartiles, also as a field of a row. */
#ifndef BENCH_STATS_H
#define BENCH_STATS_H

#include "json.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* no value */
#define STATS_NONE ((double)NAN)

typedef struct stats {
    double q1, median, q3; /* STATS_NONE if there are no values */
} stats;

static inline int stats_order(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* The value at share `at` of the sorted values, between two of them linearly. */
static inline double stats_at(const double *sorted, size_t n, double at) {
    const double place = at * (double)(n - 1);
    const size_t low = (size_t)place;
    return low + 1 < n ? sorted[low] + (place - (double)low) * (sorted[low + 1] - sorted[low]) : sorted[n - 1];
}

static inline stats stats_of(const double *values, size_t n) {
    stats s = {STATS_NONE, STATS_NONE, STATS_NONE};
    double *sorted = n ? (double *)malloc(n * sizeof *sorted) : NULL;
    if (!sorted) return s;
    memcpy(sorted, values, n * sizeof *sorted);
    qsort(sorted, n, sizeof *sorted, stats_order);
    s.q1 = stats_at(sorted, n, 0.25);
    s.median = stats_at(sorted, n, 0.5);
    s.q3 = stats_at(sorted, n, 0.75);
    free(sorted);
    return s;
}

/* Of a[i] / b[i]: what was measured side by side is compared side by side. */
static inline stats stats_of_ratios(const double *a, const double *b, size_t n) {
    double *ratio = n ? (double *)malloc(n * sizeof *ratio) : NULL;
    stats s = {STATS_NONE, STATS_NONE, STATS_NONE};
    size_t i;
    if (!ratio) return s;
    for (i = 0; i < n; i++) ratio[i] = a[i] / b[i];
    s = stats_of(ratio, n);
    free(ratio);
    return s;
}

static inline void json_stats(json *j, const char *key, stats s, double scale) {
    json_begin(j, key, '{');
    json_number(j, "q1", s.q1 * scale);
    json_number(j, "median", s.median * scale);
    json_number(j, "q3", s.q3 * scale);
    json_end(j, '}');
}

#endif
