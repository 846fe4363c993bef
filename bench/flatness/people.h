/* SPDX-License-Identifier: MIT
 * people.h: the convex problem: logistic regression with a penalty on the weights' squares, on rows of features; its
 * optimum by Newton's method in doubles, so that a curve can show how far from it a run is. */
#ifndef FLATNESS_PEOPLE_H
#define FLATNESS_PEOPLE_H

#include "problem.h"

#include <math.h>

enum { PEOPLE_BATCH = 32, PEOPLE_NEWTON = 60 };
#define PEOPLE_PENALTY 1e-3

typedef struct people {
    problem p; /* first: a problem is one of these */
    const float *row;
    const uint8_t *label;
    size_t count, features;
    double *weight; /* features, and what is added */
    double optimum; /* the least loss */
} people;

/* log(1 + e^-m), m: how clearly right the answer is. */
static inline double people_logistic(double m) {
    return m > 0 ? log1p(exp(-m)) : log1p(exp(m)) - m;
}

/* Of all, at `w`; `gradient` and the lower half of `hessian` (n x n, n = features + 1), unless NULL, are made. */
static inline double people_loss(const people *q, const double *w, double *gradient, double *hessian) {
    const size_t n = q->features + 1;
    double loss = 0;
    if (gradient) memset(gradient, 0, n * sizeof *gradient);
    if (hessian) memset(hessian, 0, n * n * sizeof *hessian);
    for (size_t i = 0; i < q->count; i++) {
        const float *x = q->row + i * q->features;
        const double side = q->label[i] ? 1 : -1;
        double z = w[n - 1];
        for (size_t j = 0; j + 1 < n; j++) z += w[j] * (double)x[j];
        loss += people_logistic(side * z) / (double)q->count;
        if (!gradient) continue;
        const double p = 1 / (1 + exp(side * z)), g = -side * p / (double)q->count;
        for (size_t j = 0; j + 1 < n; j++) gradient[j] += g * (double)x[j];
        gradient[n - 1] += g;
        if (!hessian) continue;
        const double h = p * (1 - p) / (double)q->count;
        for (size_t j = 0; j < n; j++) {
            const double xj = j + 1 < n ? (double)x[j] : 1;
            if (xj == 0) continue;
            for (size_t k = 0; k <= j; k++) hessian[j * n + k] += h * xj * (k + 1 < n ? (double)x[k] : 1);
        }
    }
    for (size_t j = 0; j < n; j++) {
        loss += PEOPLE_PENALTY / 2 * w[j] * w[j];
        if (gradient) gradient[j] += PEOPLE_PENALTY * w[j];
        if (hessian) hessian[j * n + j] += PEOPLE_PENALTY;
    }
    return loss;
}

/* Cholesky: solves the lower half of h x = b in place; h is positive definite by its penalty. */
static inline void people_solve(size_t n, double *h, double *b) {
    for (size_t j = 0; j < n; j++)
        for (size_t i = j; i < n; i++) {
            double sum = h[i * n + j];
            for (size_t k = 0; k < j; k++) sum -= h[i * n + k] * h[j * n + k];
            h[i * n + j] = i == j ? sqrt(sum) : sum / h[j * n + j];
        }
    for (size_t i = 0; i < n; i++) {
        for (size_t k = 0; k < i; k++) b[i] -= h[i * n + k] * b[k];
        b[i] /= h[i * n + i];
    }
    for (size_t i = n; i-- > 0;) {
        for (size_t k = i + 1; k < n; k++) b[i] -= h[k * n + i] * b[k];
        b[i] /= h[i * n + i];
    }
}

/* Newton's method with halved steps; returns the gradient's length at the end. */
static inline double people_optimum(people *q) {
    const size_t n = q->features + 1;
    double *w = (double *)new_array(n, sizeof *w), *g = (double *)new_array(n, sizeof *g);
    double *h = (double *)new_array(n * n, sizeof *h), *to = (double *)new_array(n, sizeof *to);
    double length = 0, loss;
    memset(w, 0, n * sizeof *w);
    for (int k = 0; k < PEOPLE_NEWTON; k++) {
        double t = 1;
        loss = people_loss(q, w, g, h);
        length = 0;
        for (size_t j = 0; j < n; j++) length += g[j] * g[j];
        length = sqrt(length);
        if (length < 1e-12) break;
        people_solve(n, h, g);
        do {
            for (size_t j = 0; j < n; j++) to[j] = w[j] - t * g[j];
            t /= 2;
        } while (t > 1e-9 && people_loss(q, to, NULL, NULL) > loss);
        memcpy(w, to, n * sizeof *w);
    }
    q->optimum = people_loss(q, w, NULL, NULL);
    free(w);
    free(g);
    free(h);
    free(to);
    return length;
}

static inline void people_first(problem *p, tensor_list *at, uint64_t seed) {
    (void)p;
    (void)at; /* zeros */
    (void)seed;
}

static inline double people_gradient(problem *p, const tensor_list *at, uint64_t seed, uint32_t rank, uint64_t step,
                                     tensor_list *into) {
    people *q = (people *)p;
    uint32_t index[PEOPLE_BATCH];
    double loss = 0;
    problem_draw(p, seed, rank, step, q->count, index);
    for (size_t j = 0; j < q->features; j++) into->tensor[0][j] = (float)PEOPLE_PENALTY * at->tensor[0][j];
    into->tensor[1][0] = (float)PEOPLE_PENALTY * at->tensor[1][0];
    for (size_t i = 0; i < PEOPLE_BATCH; i++) {
        const float *x = q->row + index[i] * q->features;
        const float side = q->label[index[i]] ? 1.0f : -1.0f;
        float z = at->tensor[1][0], g;
        for (size_t j = 0; j < q->features; j++) z += at->tensor[0][j] * x[j];
        loss += people_logistic((double)(side * z)) / PEOPLE_BATCH;
        g = -side / (1.0f + expf(side * z)) / PEOPLE_BATCH;
        for (size_t j = 0; j < q->features; j++) into->tensor[0][j] += g * x[j];
        into->tensor[1][0] += g;
    }
    return loss;
}

/* How far the loss of all is from the least one. */
static inline double people_look(problem *p, const tensor_list *at) {
    people *q = (people *)p;
    for (size_t j = 0; j < q->features; j++) q->weight[j] = (double)at->tensor[0][j];
    q->weight[q->features] = (double)at->tensor[1][0];
    return people_loss(q, q->weight, NULL, NULL) - q->optimum;
}

/* The rows stay the caller's. Returns the gradient's length at the optimum. */
static inline double people_open(people *q, const float *row, const uint8_t *label, size_t count, size_t features) {
    memset(q, 0, sizeof *q);
    q->row = row;
    q->label = label;
    q->count = count;
    q->features = features;
    q->weight = (double *)new_array(features + 1, sizeof *q->weight);
    q->p.tensors = 2;
    q->p.count[0] = features;
    q->p.count[1] = 1;
    q->p.parameters = features + 1;
    q->p.batch = PEOPLE_BATCH;
    q->p.first = people_first;
    q->p.gradient = people_gradient;
    q->p.look = people_look;
    return people_optimum(q);
}

#endif
