/* SPDX-License-Identifier: MIT
 * rules.h: the rules of this study: what is made of the workers' gradients. All but the three that it has not are
 * settings of subspace.h; all workers live in one thread (subspace_combine: the same bits as by messages). */
#ifndef CONSENSUS_RULES_H
#define CONSENSUS_RULES_H

#include "aggregators.h"
#include "subspace.h"

#include "train/util.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { RULE_WORKERS = 64, RULE_TENSORS = 64 };

typedef enum rule_kind { KIND_SUBSPACE, KIND_UNIT_MEAN, KIND_UNIT_MEAN_SCALED, KIND_ADASUM } rule_kind;

typedef struct rule {
    const char *name, *key;
    rule_kind kind;
    int layers;        /* weights for each tensor of their own */
    subspace_desc how; /* KIND_SUBSPACE */
} rule;

#define ADACONS(title, short, each, ...)                                                                               \
    {                                                                                                                  \
        .name = title, .key = short, .layers = each, .how = { __VA_ARGS__ }                                            \
    }
#define FORWARD .assignment = SUBSPACE_FORWARD, .scale = SUBSPACE_SCALE_PROJECTION

enum { MEAN, UNIT, UNIT_SCALED, ADASUM, BASIC, A0, A9, A99, F0, F9, F99, PUBLISHED, LAYERS_99, RULES };

/* Both assignments at the same length, so that nothing else differs; "as published" is forward and not scaled. */
static const rule rules[RULES] = {
    [MEAN] = ADACONS("mean", "mean", 0, .rule = SUBSPACE_MEAN),
    [UNIT] = {.name = "unit mean", .key = "unit", .kind = KIND_UNIT_MEAN},
    [UNIT_SCALED] = {.name = "unit mean, scaled", .key = "unit-scaled", .kind = KIND_UNIT_MEAN_SCALED},
    [ADASUM] = {.name = "Adasum", .key = "adasum", .kind = KIND_ADASUM, .layers = 1},
    [BASIC] = ADACONS("basic", "basic", 0, .rule = SUBSPACE_BASIC),
    [A0] = ADACONS("AdaCons 0", "0", 0, .momentum = 0.0),
    [A9] = ADACONS("AdaCons .9", ".9", 0, .momentum = 0.9),
    [A99] = ADACONS("AdaCons .99", ".99", 0, .momentum = 0.99),
    [F0] = ADACONS("AdaCons 0, forward", "0-forward", 0, FORWARD, .momentum = 0.0),
    [F9] = ADACONS("AdaCons .9, forward", ".9-forward", 0, FORWARD, .momentum = 0.9),
    [F99] = ADACONS("AdaCons .99, forward", ".99-forward", 0, FORWARD, .momentum = 0.99),
    [PUBLISHED] =
        ADACONS("AdaCons .99, as published", "published", 0, .assignment = SUBSPACE_FORWARD, .momentum = 0.99),
    [LAYERS_99] = ADACONS("AdaCons .99, by layers", "layers", 1, .momentum = 0.99),
};

/* Does the rule promise <psi, mean> = |mean|^2, as far as this is possible? */
static inline int rule_projects(const rule *r) {
    return r->kind == KIND_UNIT_MEAN_SCALED ||
           (r->kind == KIND_SUBSPACE && r->how.rule != SUBSPACE_MEAN &&
            (r->how.scale == SUBSPACE_SCALE_PROJECTION ||
             (r->how.scale == SUBSPACE_SCALE_DEFAULT && r->how.assignment == SUBSPACE_INVERSE)));
}

/* Do weights sum to one? */
static inline int rule_weighs(const rule *r) {
    return r->kind == KIND_SUBSPACE && r->how.rule == SUBSPACE_NORMALISED;
}

/* What is kept of all aggregations of a run. */
typedef struct watched {
    size_t rounds;
    double worst_sum, worst_projection; /* |sum of weights - 1|; | <psi, mean> / |mean|^2 - 1 | */
    double apart;         /* sum over rounds of the weights' standard deviation times N: 0 is the mean's */
    double negative;      /* ... of the share of workers with weights below zero */
    double along, cosine; /* ... of <psi, mean> / |mean|^2, and of psi's cosine with the mean */
    uint64_t zero_sums, fallbacks;
} watched;

typedef struct aggregator {
    const rule *of;
    uint32_t workers;
    size_t n, tensors, size[RULE_TENSORS];
    float *g[RULE_WORKERS], *psi; /* filled by the trainer; what comes out */
    double *wide[RULE_WORKERS], *out, *mean;
    subspace *a;
    void *memory;
    weft_tensor tensor[RULE_WORKERS + 1][RULE_TENSORS];
    weft_tensors all[RULE_WORKERS], psi_all;
    uint32_t group[RULE_TENSORS];
    watched seen;
} aggregator;

static inline void aggregator_open(aggregator *a, const rule *of, uint32_t workers, size_t tensors,
                                   const size_t *size) {
    memset(a, 0, sizeof *a);
    if (workers > RULE_WORKERS || tensors > RULE_TENSORS) broken("%u workers and %zu tensors", workers, tensors);
    a->of = of;
    a->workers = workers;
    a->tensors = tensors;
    for (size_t t = 0; t < tensors; t++) a->n += a->size[t] = size[t];
    for (uint32_t i = 0; i <= workers; i++) {
        float *at = new_floats(a->n);
        if (i < workers) {
            a->g[i] = at;
            a->wide[i] = (double *)new_array(a->n, sizeof(double));
            a->all[i] = (weft_tensors){a->tensor[i], tensors};
        } else {
            a->psi = at;
            a->psi_all = (weft_tensors){a->tensor[i], tensors};
        }
        for (size_t t = 0; t < tensors; at += size[t++]) a->tensor[i][t] = (weft_tensor){at, size[t], WEFT_F32};
    }
    a->out = (double *)new_array(a->n, sizeof(double));
    a->mean = (double *)new_array(a->n, sizeof(double));
    if (of->kind != KIND_SUBSPACE) return;
    subspace_desc d = of->how;
    d.struct_size = sizeof d;
    d.gradients = a->psi_all;
    d.here = workers;
    if (of->layers) {
        for (size_t t = 0; t < tensors; t++) a->group[t] = (uint32_t)t;
        d.groups = (uint32_t)tensors;
        d.group_of_tensor = a->group;
    }
    const size_t bytes = subspace_memory(&d, NULL);
    a->memory = new_array(bytes, 1);
    const weft_status s = subspace_init(&a->a, &d, a->memory, bytes);
    if (s != WEFT_OK) broken("%s: %s", of->name, weft_strerror(s));
}

static inline void aggregator_close(aggregator *a) {
    if (a->a) subspace_close(a->a);
    free(a->memory);
    for (uint32_t i = 0; i < a->workers; i++) {
        free(a->g[i]);
        free(a->wide[i]);
    }
    free(a->psi);
    free(a->out);
    free(a->mean);
}

static inline double dot_of(size_t n, const double *a, const double *b) {
    double part[4] = {0};
    size_t i = 0;
    for (; i + 4 <= n; i += 4)
        for (size_t k = 0; k < 4; k++) part[k] += a[i + k] * b[i + k];
    for (; i < n; i++) part[0] += a[i] * b[i];
    return (part[0] + part[1]) + (part[2] + part[3]);
}

/* The rules that subspace.h has not, in double, rounded once. */
static inline void aggregate_others(aggregator *a) {
    const double *out = a->out;
    if (a->of->kind == KIND_ADASUM) {
        aggregate_adasum(a->workers, a->wide, a->tensors, a->size);
        out = a->wide[0];
    } else {
        aggregate_unit_mean(a->workers, (const double *const *)a->wide, a->n, 1e-8, a->out);
        if (a->of->kind == KIND_UNIT_MEAN_SCALED) {
            const double along = dot_of(a->n, a->out, a->mean), square = dot_of(a->n, a->mean, a->mean);
            double length = 0.0;
            if (along <= 0.0) { /* as subspace.h: as long as the gradients are */
                a->seen.fallbacks++;
                for (uint32_t i = 0; i < a->workers; i++)
                    length += sqrt(dot_of(a->n, a->wide[i], a->wide[i])) / a->workers;
            } else
                length = square / along;
            for (size_t k = 0; k < a->n; k++) a->out[k] *= length;
        }
    }
    for (size_t k = 0; k < a->n; k++) a->psi[k] = (float)out[k];
}

static inline void aggregator_watch(aggregator *a) {
    watched *w = &a->seen;
    w->rounds++;
    for (size_t k = 0; k < a->n; k++) a->out[k] = (double)a->psi[k];
    const double square = dot_of(a->n, a->mean, a->mean), along = dot_of(a->n, a->out, a->mean),
                 length = dot_of(a->n, a->out, a->out);
    if (square > 0.0) w->along += along / square;
    if (square > 0.0 && length > 0.0) w->cosine += along / sqrt(square * length);
    if (!a->a) return;
    subspace_stats_t stats;
    subspace_stats(a->a, &stats);
    if (rule_projects(a->of) && square > 0.0 && stats.scale_fallbacks == w->fallbacks)
        w->worst_projection = fmax(w->worst_projection, fabs(along / square - 1.0));
    w->zero_sums = stats.zero_sums;
    w->fallbacks = stats.scale_fallbacks;
    if (!rule_weighs(a->of)) return;
    const uint32_t groups = subspace_groups(a->a);
    for (uint32_t q = 0; q < groups; q++) {
        double sum = 0.0, squares = 0.0;
        for (uint32_t i = 0; i < a->workers; i++) {
            subspace_worker_t one;
            if (subspace_worker(a->a, i, q, &one) != WEFT_OK) broken("%s: subspace_worker", a->of->name);
            sum += one.weight;
            squares += (one.weight * a->workers - 1.0) * (one.weight * a->workers - 1.0);
            w->negative += one.weight < 0.0 ? 1.0 / a->workers / groups : 0.0;
        }
        w->worst_sum = fmax(w->worst_sum, fabs(sum - 1.0));
        w->apart += sqrt(squares / a->workers) / groups;
    }
}

/* psi of the gradients, which stay. Not finite ones are the trainer's to notice: 0 is then returned. */
static inline int aggregator_apply(aggregator *a) {
    const double each = 1.0 / a->workers;
    for (uint32_t i = 0; i < a->workers; i++)
        for (size_t k = 0; k < a->n; k++) {
            a->wide[i][k] = (double)a->g[i][k];
            a->mean[k] = i ? a->mean[k] + each * a->wide[i][k] : each * a->wide[i][k];
        }
    if (!isfinite(dot_of(a->n, a->mean, a->mean))) return 0;
    if (a->of->kind != KIND_SUBSPACE)
        aggregate_others(a);
    else if (subspace_combine(a->a, a->all, a->workers, NULL, &a->psi_all) != WEFT_OK)
        return 0;
    aggregator_watch(a);
    return 1;
}

#endif
