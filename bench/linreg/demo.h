/* SPDX-License-Identifier: MIT
 * demo.h: the published demonstration, as a computation: 1000 inputs uniform in [0, 1), the target is 0, loss
 * 1/2 (w x)^2; every second iteration the workers' gradients of two batches are put together to psi, and w takes the
 * step <psi, w> / |psi|^2 psi, the best along psi. All rules see the same data. Weights are in single precision, as
 * published, all else in double. */
#ifndef BENCH_LINREG_DEMO_H
#define BENCH_LINREG_DEMO_H

#include "aggregators.h"
#include "linreg/random.h"
#include "subspace.h"

#include <stdio.h>
#include <stdlib.h>

enum {
    DIM = 1000,
    ITERATIONS = 1000,
    ACCUMULATE = 2,
    EVERY = 20, /* iterations between two points of a trajectory */
    POINTS = ITERATIONS / EVERY,
    MOST_WORKERS = 64,
    MOST_RULES = 16
};

typedef enum rule_kind { RULE_MEAN, RULE_UNIT_MEAN, RULE_ADASUM, RULE_SUBSPACE } rule_kind;

typedef struct rule {
    const char *name;
    rule_kind kind;
    subspace_desc how; /* RULE_SUBSPACE */
} rule;

/* What came of one rule: the loss over all inputs, and that of rank 0's batch, which the published program prints. */
typedef struct trajectory {
    double population[POINTS]; /* after iteration (i + 1) EVERY */
    double rank0[POINTS];      /* of iteration (i + 1) EVERY: before its step */
} trajectory;

static inline void must(int right, const char *what) {
    if (right) return;
    fprintf(stderr, "bench-linreg: %s\n", what);
    exit(1);
}

static inline void *room(size_t n, size_t each) {
    void *p = aligned_alloc(64, (n * each + 63) / 64 * 64);
    must(p != NULL, "out of memory");
    memset(p, 0, n * each);
    return p;
}

/* ---- sums, with as many lanes as let the processor breathe ---- */

typedef double lanes __attribute__((vector_size(32)));

static inline double dot(const double *a, const double *b) {
    const lanes *x = (const lanes *)a, *y = (const lanes *)b;
    lanes s0 = {0}, s1 = {0};
    for (int i = 0; i < DIM / 4; i += 2) {
        s0 += x[i] * y[i];
        s1 += x[i + 1] * y[i + 1];
    }
    s0 += s1;
    return (s0[0] + s0[1]) + (s0[2] + s0[3]);
}

/* y += c x */
static inline void add(double c, const double *a, double *b) {
    const lanes *x = (const lanes *)a;
    lanes *y = (lanes *)b;
    for (int i = 0; i < DIM / 4; i++) y[i] += c * x[i];
}

/* E 1/2 (w x)^2 = 1/2 ((sum w / 2)^2 + sum w^2 / 12) */
static inline double population_loss(const double *w) {
    double sum = 0.0;
    for (int i = 0; i < DIM; i++) sum += w[i];
    return 0.5 * (0.25 * sum * sum + dot(w, w) / 12.0);
}

/* ---- a rule at work ---- */

typedef struct learner {
    const rule *of;
    double *w, *psi, *g[MOST_WORKERS];
    subspace *a;
    void *memory;
    weft_tensor tensor[MOST_WORKERS], out_tensor;
    weft_tensors all[MOST_WORKERS], out;
    double rank0;
} learner;

static inline void learner_open(learner *l, const rule *of, size_t workers, const double *w) {
    memset(l, 0, sizeof *l);
    l->of = of;
    l->w = (double *)room(DIM, sizeof(double));
    l->psi = (double *)room(DIM, sizeof(double));
    memcpy(l->w, w, DIM * sizeof(double));
    for (size_t i = 0; i < workers; i++) {
        l->g[i] = (double *)room(DIM, sizeof(double));
        l->tensor[i] = (weft_tensor){l->g[i], DIM, WEFT_F64};
        l->all[i] = (weft_tensors){&l->tensor[i], 1};
    }
    l->out_tensor = (weft_tensor){l->psi, DIM, WEFT_F64};
    l->out = (weft_tensors){&l->out_tensor, 1};
    if (of->kind != RULE_SUBSPACE) return;
    subspace_desc d = of->how;
    d.struct_size = sizeof d;
    d.gradients = l->out;
    d.here = (uint32_t)workers;
    const size_t bytes = subspace_memory(&d, NULL);
    l->memory = room(bytes, 1);
    must(subspace_init(&l->a, &d, l->memory, bytes) == WEFT_OK, "subspace_init");
}

static inline void learner_close(learner *l, size_t workers) {
    subspace_close(l->a);
    free(l->memory);
    free(l->w);
    free(l->psi);
    for (size_t i = 0; i < workers; i++) free(l->g[i]);
}

/* Forward and backward of one worker: adds the gradient of its batch's mean loss; returns the loss. */
static inline double learner_batch(learner *l, size_t worker, const double *x, size_t batch) {
    double loss = 0.0;
    for (size_t j = 0; j < batch; j++) {
        const double y = dot(x + j * DIM, l->w);
        loss += 0.5 * y * y;
        add(y / (double)batch, x + j * DIM, l->g[worker]);
    }
    return loss / (double)batch;
}

/* psi of the gradients as they are; they may be overwritten. */
static inline const double *learner_aggregate(learner *l, size_t workers) {
    const double *g[MOST_WORKERS];
    const size_t layer = DIM;
    memcpy(g, l->g, workers * sizeof *g);
    switch (l->of->kind) {
    case RULE_MEAN: aggregate_mean(workers, g, DIM, l->psi); break;
    case RULE_UNIT_MEAN: aggregate_unit_mean(workers, g, DIM, 1e-8, l->psi); break;
    case RULE_ADASUM: aggregate_adasum(workers, l->g, 1, &layer); return l->g[0];
    case RULE_SUBSPACE:
        must(subspace_combine(l->a, l->all, (uint32_t)workers, NULL, &l->out) == WEFT_OK, "subspace_combine");
    }
    return l->psi;
}

static inline void learner_step(learner *l, size_t workers) {
    const double *psi = learner_aggregate(l, workers), square = dot(psi, psi);
    if (square > 0.0) add(-dot(psi, l->w) / square, psi, l->w); /* 0: it has arrived */
    for (int i = 0; i < DIM; i++) l->w[i] = (double)(float)l->w[i];
    for (size_t i = 0; i < workers; i++) memset(l->g[i], 0, DIM * sizeof(double));
}

/* ---- the whole ---- */

/* All rules side by side. `batch` is that of all workers together; seed 0 is the published one. */
static inline void demo_run(size_t workers, size_t batch, uint32_t seed, size_t rules, const rule *r, trajectory *out) {
    static twister data[MOST_WORKERS], weights;
    learner *l = (learner *)calloc(rules, sizeof *l);
    const size_t each = batch / workers;
    double w[DIM], *x = (double *)room(each * DIM, sizeof(double));
    must(l != NULL, "out of memory");
    /* one seed draws both the layer that torch makes and the one that the program puts in its place */
    twister_seed(&weights, 1000 * seed + 42);
    for (int i = 0; i < DIM; i++) twister_next(&weights);
    for (int i = 0; i < DIM; i++) w[i] = (double)(-5.0f + 10.0f * (float)twister_next(&weights));
    for (size_t i = 0; i < workers; i++) twister_seed(&data[i], 1000 * seed + (uint32_t)i);
    for (size_t k = 0; k < rules; k++) learner_open(&l[k], &r[k], workers, w);

    for (int iteration = 1; iteration <= ITERATIONS; iteration++) {
        for (size_t i = 0; i < workers; i++) {
            for (size_t j = 0; j < each * DIM; j++) x[j] = twister_next(&data[i]);
            for (size_t k = 0; k < rules; k++) {
                const double loss = learner_batch(&l[k], i, x, each);
                if (i == 0) l[k].rank0 = loss;
            }
        }
        for (size_t k = 0; k < rules; k++) {
            if (iteration % ACCUMULATE == 0) learner_step(&l[k], workers);
            if (iteration % EVERY) continue;
            out[k].population[iteration / EVERY - 1] = population_loss(l[k].w);
            out[k].rank0[iteration / EVERY - 1] = l[k].rank0;
        }
    }
    for (size_t k = 0; k < rules; k++) learner_close(&l[k], workers);
    free(l);
    free(x);
}

#endif
