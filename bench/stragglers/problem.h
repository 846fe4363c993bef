/* SPDX-License-Identifier: MIT
 * problem.h: what the workers of a study train together. A task is a vector of parameters, a noisy gradient that each
 * worker has of its own data, and one value to be brought down. Here: logistic regression whose exact minimum is
 * known, with data that differ from worker to worker or do not. */
#ifndef STRAGGLERS_PROBLEM_H
#define STRAGGLERS_PROBLEM_H

#include "train/rng.h"
#include "train/util.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct task task;
struct task {
    size_t dim;
    uint32_t workers;
    void *self;
    void (*start)(const task *t, double *x); /* the same for all workers */
    /* A pure function of (worker, seed, step, x), so that every rule that is compared draws the same samples. */
    void (*gradient)(const task *t, uint32_t worker, uint64_t seed, uint64_t step, const double *x, double *g);
    double (*value)(const task *t, const double *x);
    double first, least; /* the value at the start, and the least there is */
};

/* The value at which so much of the initial gap is left. */
static inline double task_goal(const task *t, double share) {
    return t->least + share * (t->first - t->least);
}

/* ---- logistic regression ---- */

enum { LOGISTIC_FEATURES = 20, LOGISTIC_DIM = LOGISTIC_FEATURES + 1, LOGISTIC_SAMPLES = 64 };
enum { LOGISTIC_BATCH = 16, LOGISTIC_LANES = 8 };
enum { DRAW_TRUTH = 100, DRAW_SAMPLE, DRAW_SHIFT, DRAW_BATCH };

typedef struct logistic_desc {
    uint32_t workers;
    uint64_t seed;
    size_t samples;       /* of each worker; a multiple of LOGISTIC_LANES */
    int shared;           /* one pool that all draw from: iid; else each worker draws from its own */
    size_t pool;          /* samples in it */
    double feature_shift; /* standard deviation of each worker's own offset of the features, */
    double prior_shift;   /* and of the logarithm of its labels' odds */
    size_t batch;         /* at most LOGISTIC_BATCH */
} logistic_desc;

/* The reference page gives the kinds of shift, not their sizes; these make synchronous DSGD need about as many
 * gradients a worker as there. */
#define LOGISTIC_SCALE 0.7 /* of the features */
#define LOGISTIC_TRUTH 0.8 /* of the coefficients that labels are drawn with */
#define LOGISTIC_L2 0.01

typedef struct logistic {
    logistic_desc desc;
    size_t samples;         /* all of them */
    double *signed_feature; /* y x: lanes of 8 samples, [samples / 8][dim][8] */
    double best[LOGISTIC_DIM];
} logistic;

static inline double draw_normal(rng *r) {
    const double u = 1.0 - rng_uniform(r), v = rng_uniform(r);
    return sqrt(-2.0 * log(u)) * cos(6.283185307179586 * v);
}

static inline double *logistic_at(const logistic *p, size_t sample, size_t feature) {
    return &p->signed_feature[(sample / LOGISTIC_LANES * LOGISTIC_DIM + feature) * LOGISTIC_LANES +
                              sample % LOGISTIC_LANES];
}

static inline void logistic_start(const task *t, double *x) {
    memset(x, 0, t->dim * sizeof *x);
}

/* The mean over samples of log(1 + exp(-margin)), and the regulariser. */
static inline double logistic_value(const task *t, const double *x) {
    const logistic *p = (const logistic *)t->self;
    const double *at = p->signed_feature;
    double sum = 0.0, square = 0.0;
    for (size_t b = 0; b < p->samples / LOGISTIC_LANES; b++) {
        double margin[LOGISTIC_LANES] = {0}, product = 1.0;
        for (size_t k = 0; k < LOGISTIC_DIM; k++, at += LOGISTIC_LANES)
            for (size_t l = 0; l < LOGISTIC_LANES; l++) margin[l] += x[k] * at[l];
        for (size_t l = 0; l < LOGISTIC_LANES; l++) { /* factors are at most 2: one logarithm for all lanes */
            sum += margin[l] < 0.0 ? -margin[l] : 0.0;
            product *= 1.0 + exp(-fabs(margin[l]));
        }
        sum += log(product);
    }
    for (size_t k = 0; k < LOGISTIC_DIM; k++) square += x[k] * x[k];
    return sum / (double)p->samples + 0.5 * LOGISTIC_L2 * square;
}

static inline double logistic_margin(const logistic *p, size_t sample, const double *x) {
    double m = 0.0;
    for (size_t k = 0; k < LOGISTIC_DIM; k++) m += x[k] * *logistic_at(p, sample, k);
    return m;
}

/* Which samples a mini-batch has, each at most once. */
static inline void logistic_draw(const logistic *p, uint32_t worker, rng *r, size_t *sample) {
    const size_t from = p->desc.shared ? 0 : worker * p->desc.samples;
    const uint32_t of = (uint32_t)(p->desc.shared ? p->samples : p->desc.samples);
    for (size_t i = 0, k = 0; i < p->desc.batch; i = k == i ? i + 1 : i) {
        sample[i] = from + rng_below(r, of);
        for (k = 0; k < i && sample[k] != sample[i]; k++) continue;
    }
}

static inline void logistic_gradient(const task *t, uint32_t worker, uint64_t seed, uint64_t step, const double *x,
                                     double *g) {
    const logistic *p = (const logistic *)t->self;
    rng r = rng_make(seed ^ rng_mix(step + 1), DRAW_BATCH, worker);
    size_t sample[LOGISTIC_BATCH];
    for (size_t k = 0; k < LOGISTIC_DIM; k++) g[k] = LOGISTIC_L2 * x[k];
    logistic_draw(p, worker, &r, sample);
    for (size_t i = 0; i < p->desc.batch; i++) {
        const double slope = -1.0 / (1.0 + exp(logistic_margin(p, sample[i], x))) / (double)p->desc.batch;
        for (size_t k = 0; k < LOGISTIC_DIM; k++) g[k] += slope * *logistic_at(p, sample[i], k);
    }
}

/* Gradient and Hessian over all samples. */
static inline void logistic_derivatives(const logistic *p, const double *x, double *g,
                                        double h[LOGISTIC_DIM][LOGISTIC_DIM]) {
    for (size_t k = 0; k < LOGISTIC_DIM; k++) {
        g[k] = LOGISTIC_L2 * x[k];
        for (size_t l = 0; l < LOGISTIC_DIM; l++) h[k][l] = k == l ? LOGISTIC_L2 : 0.0;
    }
    for (size_t s = 0; s < p->samples; s++) {
        const double q = 1.0 / (1.0 + exp(logistic_margin(p, s, x)));
        const double slope = -q / (double)p->samples, bend = q * (1.0 - q) / (double)p->samples;
        for (size_t k = 0; k < LOGISTIC_DIM; k++) {
            const double a = *logistic_at(p, s, k);
            g[k] += slope * a;
            for (size_t l = 0; l <= k; l++) h[k][l] += bend * a * *logistic_at(p, s, l);
        }
    }
}

/* h d = g for a positive definite h, of which the lower half is given and is overwritten (Cholesky). */
static inline void logistic_solve(double h[LOGISTIC_DIM][LOGISTIC_DIM], const double *g, double *d) {
    for (size_t k = 0; k < LOGISTIC_DIM; k++)
        for (size_t l = 0; l <= k; l++) {
            double v = h[k][l];
            for (size_t m = 0; m < l; m++) v -= h[k][m] * h[l][m];
            h[k][l] = k == l ? sqrt(v) : v / h[l][l];
        }
    for (size_t k = 0; k < LOGISTIC_DIM; k++) {
        d[k] = g[k];
        for (size_t l = 0; l < k; l++) d[k] -= h[k][l] * d[l];
        d[k] /= h[k][k];
    }
    for (size_t k = LOGISTIC_DIM; k-- > 0;) {
        for (size_t l = k + 1; l < LOGISTIC_DIM; l++) d[k] -= h[l][k] * d[l];
        d[k] /= h[k][k];
    }
}

/* The minimum, by Newton's method with halved steps; strictly convex, so there is one. */
static inline void logistic_minimise(task *t) {
    logistic *p = (logistic *)t->self;
    double g[LOGISTIC_DIM], d[LOGISTIC_DIM], next[LOGISTIC_DIM], h[LOGISTIC_DIM][LOGISTIC_DIM];
    memset(p->best, 0, sizeof p->best);
    t->first = t->least = t->value(t, p->best);
    for (int i = 0; i < 100; i++) {
        double length = 0.0, part = 1.0, v;
        logistic_derivatives(p, p->best, g, h);
        for (size_t k = 0; k < LOGISTIC_DIM; k++) length += g[k] * g[k];
        if (length < 1e-28) break;
        logistic_solve(h, g, d);
        do {
            for (size_t k = 0; k < LOGISTIC_DIM; k++) next[k] = p->best[k] - part * d[k];
            v = t->value(t, next);
            part *= 0.5;
        } while (v > t->least + 1e-15 && part > 1e-6);
        memcpy(p->best, next, sizeof next);
        t->least = v;
    }
}

/* The reference page's kind of problem. */
static inline logistic_desc logistic_noniid(uint32_t workers, uint64_t seed) {
    logistic_desc d = {workers, seed, LOGISTIC_SAMPLES, 0, 0, 0.5, 1.0, LOGISTIC_BATCH};
    return d;
}

/* Where noise decides: everybody draws single samples from one pool, the same for any number of workers. */
static inline logistic_desc logistic_noisy(uint32_t workers, uint64_t seed) {
    logistic_desc d = {workers, seed, 0, 1, 4096, 0.0, 0.0, 1};
    return d;
}

static inline void logistic_open(task *t, const logistic_desc *d) {
    logistic *p = (logistic *)new_array(1, sizeof *p);
    double truth[LOGISTIC_DIM];
    rng r = rng_make(d->seed, DRAW_TRUTH, 0);
    p->desc = *d;
    p->samples = d->shared ? d->pool : d->workers * d->samples;
    p->signed_feature = (double *)new_array(p->samples * LOGISTIC_DIM, sizeof(double));
    for (size_t k = 0; k < LOGISTIC_DIM; k++) truth[k] = LOGISTIC_TRUTH * draw_normal(&r);
    for (uint32_t j = 0; j < (d->shared ? 1 : d->workers); j++) {
        const size_t count = d->shared ? d->pool : d->samples, from = j * count;
        rng draw = rng_make(d->seed, DRAW_SAMPLE, j), own = rng_make(d->seed, DRAW_SHIFT, j);
        double shift[LOGISTIC_FEATURES], odds;
        for (size_t k = 0; k < LOGISTIC_FEATURES; k++) shift[k] = d->feature_shift * draw_normal(&own);
        odds = d->prior_shift * draw_normal(&own);
        for (size_t s = from; s < from + count; s++) {
            double x[LOGISTIC_DIM], score = odds, y;
            for (size_t k = 0; k < LOGISTIC_FEATURES; k++) x[k] = LOGISTIC_SCALE * (shift[k] + draw_normal(&draw));
            x[LOGISTIC_FEATURES] = 1.0;
            for (size_t k = 0; k < LOGISTIC_DIM; k++) score += truth[k] * x[k];
            y = rng_uniform(&draw) * (1.0 + exp(-score)) < 1.0 ? 1.0 : -1.0;
            for (size_t k = 0; k < LOGISTIC_DIM; k++) *logistic_at(p, s, k) = y * x[k];
        }
    }
    memset(t, 0, sizeof *t);
    t->dim = LOGISTIC_DIM;
    t->workers = d->workers;
    t->self = p;
    t->start = logistic_start;
    t->gradient = logistic_gradient;
    t->value = logistic_value;
    logistic_minimise(t);
}

static inline void logistic_close(task *t) {
    free(((logistic *)t->self)->signed_feature);
    free(t->self);
}

#endif
