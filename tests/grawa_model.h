/* SPDX-License-Identifier: MIT
 * grawa_model.h: GRAWA once more, in plain double arithmetic and without any network: what the tests compare with.
 * Written from the specification, not from the library.
 *
 * Zero and unusable norms follow the limit rule: zeros share a group's whole weight, a worker whose norm is not
 * finite has none; if nobody has one, all are equal. */
#ifndef GRAWA_MODEL_H
#define GRAWA_MODEL_H

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define GRAWA_MODEL_MU 0.43046721 /* 0.9^8 */
#define MODEL_NAN ((double)NAN)
#define MODEL_INFINITY ((double)INFINITY)

typedef enum model_norm { MODEL_SUM, MODEL_EUCLIDEAN, MODEL_SQUARED } model_norm;

typedef struct model {
    uint32_t workers;
    size_t tensors, elements, groups;
    size_t *count, *start; /* of a tensor, in elements */
    size_t *group;         /* of a tensor */
    model_norm norm;
    int by_model; /* one group, and MODEL_SUM is the sum of the tensors' norms */
    double mu, pull;
    double *x;                    /* [worker][element] */
    double *center;               /* [element] */
    double *n, *ema, *hat, *beta; /* [worker][group] */
    double *decay;                /* [worker][group]: mu to the power of how many norms the average has seen */
    uint64_t limit;               /* groups in which a zero decided */
} model;

/* groups 0: every tensor its own; groups 1 and group_of NULL: the whole model. */
static inline void model_open(model *m, uint32_t workers, size_t tensors, const size_t *count, size_t groups,
                              const uint32_t *group_of) {
    size_t t, k;
    memset(m, 0, sizeof *m);
    m->workers = workers;
    m->tensors = tensors;
    m->groups = groups ? groups : tensors;
    m->by_model = groups == 1 && !group_of;
    m->mu = GRAWA_MODEL_MU;
    m->pull = 0.5;
    m->count = (size_t *)calloc(tensors + 1, sizeof *m->count);
    m->start = (size_t *)calloc(tensors + 1, sizeof *m->start);
    m->group = (size_t *)calloc(tensors + 1, sizeof *m->group);
    for (t = 0; t < tensors; t++) {
        m->count[t] = count[t];
        m->start[t] = m->elements;
        m->elements += count[t];
        m->group[t] = group_of ? group_of[t] : groups ? 0 : t;
    }
    m->x = (double *)calloc(workers * m->elements + 1, sizeof *m->x);
    m->center = (double *)calloc(m->elements + 1, sizeof *m->center);
    k = workers * m->groups + 1;
    m->n = (double *)calloc(k, sizeof *m->n);
    m->ema = (double *)calloc(k, sizeof *m->ema);
    m->hat = (double *)calloc(k, sizeof *m->hat);
    m->beta = (double *)calloc(k, sizeof *m->beta);
    m->decay = (double *)calloc(k, sizeof *m->decay);
    for (t = 0; t < k; t++) m->decay[t] = 1;
}

static inline void model_close(model *m) {
    free(m->count);
    free(m->start);
    free(m->group);
    free(m->x);
    free(m->center);
    free(m->n);
    free(m->ema);
    free(m->hat);
    free(m->beta);
    free(m->decay);
    memset(m, 0, sizeof *m);
}

/* Norms of the groups of one gradient; grad[t] may be NULL. NaN: a group without any gradient. */
static inline void model_norms(const model *m, const double *const *grad, double *n) {
    size_t t, g, i;
    for (g = 0; g < m->groups; g++) {
        double sum = 0, squares = 0;
        int some = 0;
        for (t = 0; t < m->tensors; t++) {
            double s = 0;
            if (m->group[t] != g || !grad[t]) continue;
            some = 1;
            for (i = 0; i < m->count[t]; i++) s += grad[t][i] * grad[t][i];
            sum += sqrt(s);
            squares += s;
        }
        n[g] = !some ? MODEL_NAN : m->by_model && m->norm == MODEL_SUM ? sum : sqrt(squares);
    }
}

/* A norm enters a worker's moving average over rounds; an unusable one leaves it alone and takes the worker's say. */
static inline void model_smooth(model *m, uint32_t w, const double *n) {
    size_t g;
    for (g = 0; g < m->groups; g++) {
        size_t k = w * m->groups + g;
        m->n[k] = isfinite(n[g]) ? n[g] : MODEL_NAN;
        m->hat[k] = MODEL_NAN;
        if (!isfinite(n[g])) continue;
        m->ema[k] = m->mu * m->ema[k] + (1 - m->mu) * n[g];
        m->decay[k] *= m->mu;
        m->hat[k] = m->ema[k] / (1 - m->decay[k]);
    }
}

/* beta of one group for `workers` values h, `stride` apart. Returns 1 if zeros decided. */
static inline int model_share(uint32_t workers, size_t stride, const double *h, int exponent, double *beta) {
    uint32_t w, zeros = 0, good = 0;
    double sum = 0, least = MODEL_INFINITY;
    for (w = 0; w < workers; w++) {
        double v = h[w * stride];
        zeros += v == 0;
        good += isfinite(v) != 0;
        if (isfinite(v) && v < least) least = v;
    }
    for (w = 0; w < workers; w++) {
        double v = h[w * stride], ratio = isfinite(v) && v != 0 ? least / v : 0;
        double b = !good ? 1 : zeros ? v == 0 : exponent == 2 ? ratio * ratio : ratio;
        beta[w * stride] = b;
        sum += b;
    }
    for (w = 0; w < workers; w++) beta[w * stride] /= sum;
    return zeros != 0;
}

/* Has a group any elements? Otherwise nobody has a say in it, and nobody misses it. */
static inline int model_group_counts(const model *m, size_t g) {
    size_t t, n = 0;
    for (t = 0; t < m->tensors; t++) n += m->group[t] == g ? m->count[t] : 0;
    return n != 0;
}

/* The weights from m->hat, the center from m->x. */
static inline void model_weigh(model *m) {
    size_t g, t, i;
    uint32_t w;
    for (g = 0; g < m->groups; g++) {
        int zeros = model_share(m->workers, m->groups, m->hat + g, m->norm == MODEL_SQUARED ? 2 : 1, m->beta + g);
        if (model_group_counts(m, g))
            m->limit += (uint64_t)zeros;
        else
            for (w = 0; w < m->workers; w++) m->beta[w * m->groups + g] = 1.0 / m->workers;
    }
    for (t = 0; t < m->tensors; t++)
        for (i = m->start[t]; i < m->start[t] + m->count[t]; i++) {
            m->center[i] = 0;
            for (w = 0; w < m->workers; w++)
                if (m->beta[w * m->groups + m->group[t]] != 0)
                    m->center[i] += m->beta[w * m->groups + m->group[t]] * m->x[w * m->elements + i];
        }
}

/* All workers' models move towards the center. */
static inline void model_move(model *m) {
    size_t i;
    uint32_t w;
    for (w = 0; w < m->workers; w++)
        for (i = 0; i < m->elements; i++)
            m->x[w * m->elements + i] = (1 - m->pull) * m->x[w * m->elements + i] + m->pull * m->center[i];
}

#endif /* GRAWA_MODEL_H */
