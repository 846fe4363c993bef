/* SPDX-License-Identifier: MIT
 * bias.h: is the aggregate what it estimates? Workers draw gradients mu_i + noise many times over; mu is the mean of
 * the mu_i. The expectation of the aggregate is taken apart into its component along mu and the rest. Noise is
 * isotropic, so by symmetry the expectation lies in the span of the mu_i, and is fully told by its coordinates
 * there. */
#ifndef BENCH_LINREG_BIAS_H
#define BENCH_LINREG_BIAS_H

#include "linreg/demo.h"

enum { BIAS_WORKERS = 8, BIAS_PARTS = 25 /* of a run: standard errors are formed of their means */ };

typedef struct bias_case {
    const char *name;
    double spread;              /* |mu_i - mu| / |mu|, on average */
    double noise[BIAS_WORKERS]; /* |noise of worker i| / |mu| */
} bias_case;

typedef struct bias_result {
    double length, length_error; /* <E psi, mu> / |mu|^2; 1: as long as the mean */
    double sideways,
        sideways_error; /* |the rest of E psi| / <E psi, mu / |mu|>; the error: what pure noise would show */
    double worst_sum;   /* of |sum of weights - 1|, over all trials; NAN: no weights */
} bias_result;

/* Two normal numbers. */
static inline void bias_normals(twister *s, double *a, double *b) {
    const double u = (twister_next(s) * 0x1p-24 + twister_next(s)) + 0x1p-50, v = 2.0 * acos(-1.0) * twister_next(s);
    const double r = sqrt(-2.0 * log(u < 1.0 ? u : 1.0));
    *a = r * cos(v);
    *b = r * sin(v);
}

static inline void bias_vector(twister *s, double *x, double size) {
    for (int i = 0; i < DIM; i += 2) bias_normals(s, &x[i], &x[i + 1]);
    for (int i = 0; i < DIM; i++) x[i] *= size / sqrt((double)DIM);
}

/* mu[i], and directions: along their mean (which is as long as 1), then the rest of their span (or, if there is none,
 * any others). All orthonormal. */
static inline void bias_means(const bias_case *c, twister *s, double mu[][DIM], double direction[][DIM]) {
    static double middle[DIM];
    memset(middle, 0, sizeof middle);
    bias_vector(s, direction[0], 1.0);
    add(1.0 / sqrt(dot(direction[0], direction[0])) - 1.0, direction[0], direction[0]);
    for (int i = 0; i < BIAS_WORKERS; i++) {
        bias_vector(s, mu[i], 1.0);
        add(-dot(mu[i], direction[0]), direction[0], mu[i]);
        add(1.0 / BIAS_WORKERS, mu[i], middle);
    }
    for (int i = 0; i < BIAS_WORKERS; i++) {
        add(-1.0, middle, mu[i]);
        if (i + 1 < BIAS_WORKERS) { /* the last one is what the others sum up to */
            memcpy(direction[i + 1], mu[i], sizeof mu[i]);
            for (int twice = 0; twice < 2; twice++)
                for (int k = 0; k <= i; k++) add(-dot(direction[i + 1], direction[k]), direction[k], direction[i + 1]);
            add(1.0 / sqrt(dot(direction[i + 1], direction[i + 1])) - 1.0, direction[i + 1], direction[i + 1]);
        }
    }
    for (int i = 0; i < BIAS_WORKERS; i++)
        for (int k = 0; k < DIM; k++) mu[i][k] = direction[0][k] + c->spread * mu[i][k];
}

/* All rules see the same trials. */
static inline void bias_run(const bias_case *c, size_t trials, size_t rules, const rule *r, bias_result *out) {
    static double mu[BIAS_WORKERS][DIM] __attribute__((aligned(64))),
        direction[BIAS_WORKERS][DIM] __attribute__((aligned(64)));
    static double part[MOST_RULES][BIAS_WORKERS][BIAS_PARTS];
    static twister s;
    const double zero[DIM] = {0};
    const size_t each = trials / BIAS_PARTS;
    learner *l = (learner *)calloc(rules, sizeof *l);
    must(l && each > 0, "more trials are needed");
    twister_seed(&s, 12345);
    bias_means(c, &s, mu, direction);
    memset(part, 0, sizeof part);
    for (size_t k = 0; k < rules; k++) {
        learner_open(&l[k], &r[k], BIAS_WORKERS, zero);
        out[k].worst_sum = r[k].kind == RULE_SUBSPACE ? 0.0 : (double)NAN;
    }
    for (size_t t = 0; t < each * (BIAS_PARTS + 1); t++) { /* what is averaged over steps settles in the first part */
        for (int i = 0; i < BIAS_WORKERS; i++) {
            bias_vector(&s, l[0].g[i], c->noise[i]);
            add(1.0, mu[i], l[0].g[i]);
            for (size_t k = 1; k < rules; k++) memcpy(l[k].g[i], l[0].g[i], DIM * sizeof(double));
        }
        for (size_t k = 0; k < rules; k++) {
            const double *psi = learner_aggregate(&l[k], BIAS_WORKERS);
            double sum = 0.0;
            for (uint32_t i = 0; r[k].kind == RULE_SUBSPACE && i < BIAS_WORKERS; i++) {
                subspace_worker_t w;
                must(subspace_worker(l[k].a, i, 0, &w) == WEFT_OK, "subspace_worker");
                sum += w.weight;
            }
            out[k].worst_sum = fmax(out[k].worst_sum, fabs(sum - 1.0));
            for (int i = 0; t >= each && i < BIAS_WORKERS; i++)
                part[k][i][t / each - 1] += dot(psi, direction[i]) / (double)each;
        }
    }
    for (size_t k = 0; k < rules; k++) {
        double rest = 0.0, noise = 0.0;
        for (int i = 0; i < BIAS_WORKERS; i++) {
            double mean = 0.0, square = 0.0;
            for (int p = 0; p < BIAS_PARTS; p++) mean += part[k][i][p] / BIAS_PARTS;
            for (int p = 0; p < BIAS_PARTS; p++) square += (part[k][i][p] - mean) * (part[k][i][p] - mean);
            square /= BIAS_PARTS * (BIAS_PARTS - 1.0); /* of the standard error */
            if (i == 0) out[k].length = mean;
            if (i == 0) out[k].length_error = sqrt(square);
            if (i == 0) continue;
            rest += mean * mean - square;
            noise += square;
        }
        out[k].sideways = sqrt(fmax(rest, 0.0)) / out[k].length;
        out[k].sideways_error = sqrt(noise) / out[k].length;
        learner_close(&l[k], BIAS_WORKERS);
        if (r[k].kind != RULE_SUBSPACE) out[k].worst_sum = (double)NAN;
    }
    free(l);
}

#endif
