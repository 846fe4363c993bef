/* SPDX-License-Identifier: MIT
 * aggregators.h: rules that AdaCons is compared with, over gradients g[0 .. workers - 1] of n elements each. */
#ifndef BENCH_AGGREGATORS_H
#define BENCH_AGGREGATORS_H

#include "train/adasum.h"

#include <math.h>
#include <stddef.h>
#include <string.h>

static inline void aggregate_mean(size_t workers, const double *const *g, size_t n, double *out) {
    for (size_t k = 0; k < n; k++) {
        double sum = 0.0;
        for (size_t i = 0; i < workers; i++) sum += g[i][k];
        out[k] = sum / (double)workers;
    }
}

/* Each gradient is first divided by its norm (plus epsilon). */
static inline void aggregate_unit_mean(size_t workers, const double *const *g, size_t n, double epsilon, double *out) {
    memset(out, 0, n * sizeof *out);
    for (size_t i = 0; i < workers; i++) {
        double square = 0.0;
        for (size_t k = 0; k < n; k++) square += g[i][k] * g[i][k];
        const double c = 1.0 / ((double)workers * (sqrt(square) + epsilon));
        for (size_t k = 0; k < n; k++) out[k] += c * g[i][k];
    }
}

/* Layer by layer (one layer: whole vectors). The gradients are overwritten; the result is in g[0]. */
static inline void aggregate_adasum(size_t workers, double *const *g, size_t layers, const size_t *size) {
    enum { MOST = 64 };
    double *layer[MOST];
    size_t at = 0;
    if (workers > MOST) return;
    for (size_t l = 0; l < layers; at += size[l++]) {
        for (size_t i = 0; i < workers; i++) layer[i] = g[i] + at;
        adasum(workers, layer, size[l]);
    }
}

#endif
