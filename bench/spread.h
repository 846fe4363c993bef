/* SPDX-License-Identifier: MIT
 * spread.h: values over seeds: their mean, how far they are apart, and whether that decides something. */
#ifndef BENCH_SPREAD_H
#define BENCH_SPREAD_H

#include "table.h"

#include <math.h>
#include <stdint.h>

/* Mean and standard deviation of some values; n: how many there are of them, NaNs left out. */
typedef struct spread {
    double mean, deviation, error; /* error: of the mean */
    int n, diverged;
} spread;

static inline spread spread_of(const double *v, uint64_t n) {
    spread s = {0, 0, 0, 0, 0};
    for (uint64_t i = 0; i < n; i++)
        if (isfinite(v[i])) s.mean += v[i], s.n++;
    if (!s.n) {
        s.mean = s.deviation = s.error = (double)NAN;
        return s;
    }
    s.mean /= s.n;
    for (uint64_t i = 0; i < n; i++)
        if (isfinite(v[i])) s.deviation += (v[i] - s.mean) * (v[i] - s.mean);
    s.deviation = s.n > 1 ? sqrt(s.deviation / (s.n - 1)) : (double)NAN;
    s.error = s.deviation / sqrt((double)s.n);
    return s;
}

/* 97.5 % of Student's t are below this. */
static inline double student(int freedom) {
    static const double t[] = {0,     12.71, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262,
                               2.228, 2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093};
    return freedom < 1 ? (double)INFINITY : t[freedom < 19 ? freedom : 19];
}

/* Where 95 % of t agree on which side of 0 the mean is: 1 above, -1 below; 0: not decided. */
static inline int spread_side(spread v) {
    const double margin = student(v.n - 1) * v.error;
    return v.n < 2 ? 0 : v.mean > margin ? 1 : v.mean < -margin ? -1 : 0;
}

/* The same in words: those for below, for not decided, for above. */
static inline const char *spread_word(spread v, const char *below, const char *open, const char *above) {
    const int side = spread_side(v);
    return v.n < 2 ? "-" : side > 0 ? above : side < 0 ? below : open;
}

static inline const char *sure(spread v) {
    return spread_word(v, "no, the reverse", "not decided", "yes");
}

/* ---- Cells of a table ---- */

/* The mean, and `around` it: the deviation, or the mean's error. */
static inline void cell_around(table *t, spread v, double around, int decimals) {
    if (v.diverged)
        table_cell(t, "diverged (%d of %d)", v.diverged, v.diverged + v.n);
    else if (!v.n)
        table_cell(t, "-");
    else if (v.n < 2)
        table_cell(t, "%.*f", decimals, v.mean);
    else
        table_cell(t, "%.*f +- %.*f", decimals, v.mean, decimals, around);
}

static inline void cell_spread(table *t, spread v, int decimals) {
    cell_around(t, v, v.deviation, decimals);
}

static inline void cell_mean_error(table *t, spread v, int decimals) {
    cell_around(t, v, v.error, decimals);
}

static inline void cell_error(table *t, spread v, int decimals) {
    if (!v.n)
        table_cell(t, "-");
    else if (v.n < 2)
        table_cell(t, "%+.*f", decimals, v.mean);
    else
        table_cell(t, "%+.*f +- %.*f", decimals, v.mean, decimals, v.error);
}

#endif
