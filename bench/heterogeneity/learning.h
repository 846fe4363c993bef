/* SPDX-License-Identifier: MIT
 * learning.h: what the agents of this study learn, and what is measured of a model: accuracy, and how sharp the loss is
 * around it. One `learner` a thread; the data are shared. */
#ifndef HETEROGENEITY_LEARNING_H
#define HETEROGENEITY_LEARNING_H

#include "shares.h"

#include "train/glyphs.h"
#include "train/model.h"

#include <math.h>

enum { LEARN_HIDDEN = 64, LEARN_BATCH = 32, LEARN_PIECE = 250 };
enum { POWER_ALL = 20, POWER_LAST = 6 }; /* iterations; so many at the end count */

typedef struct learner {
    const dataset *data;
    model net;
    workspace *space;
    tensor_list grads, moved;
    float *x;
    uint8_t *y;
    uint32_t *index;
    double *direction, *product, *sum;
} learner;

/* folder NULL: drawn digits. */
static inline void data_open(dataset *d, const char *folder) {
    if (folder)
        dataset_load(d, folder);
    else
        glyphs_make(d, GLYPH_TRAIN, GLYPH_TEST, 1);
}

static inline void learner_open(learner *l, const dataset *d) {
    memset(l, 0, sizeof *l);
    l->data = d;
    model_make(&l->net, MODEL_MLP, LEARN_HIDDEN, d);
    l->space = workspace_new(&l->net, LEARN_PIECE);
    l->grads = tensors_new(&l->net);
    l->moved = tensors_new(&l->net);
    l->x = new_floats(LEARN_PIECE * d->features);
    l->y = (uint8_t *)new_array(LEARN_PIECE, 1);
    l->index = (uint32_t *)new_array(LEARN_PIECE, sizeof *l->index);
    l->direction = (double *)new_array(l->net.parameters, sizeof(double));
    l->product = (double *)new_array(l->net.parameters, sizeof(double));
    l->sum = (double *)new_array(l->net.parameters, sizeof(double));
}

static inline void learner_close(learner *l) {
    workspace_free(l->space);
    tensors_free(&l->net, &l->grads);
    tensors_free(&l->net, &l->moved);
    free(l->x);
    free(l->y);
    free(l->index);
    free(l->direction);
    free(l->product);
    free(l->sum);
}

/* Mean loss over n images; `index` NULL: the first n. *accuracy, unless NULL: the share of right answers. `sum`, unless
 * NULL: gets the gradient of the mean loss. */
static inline double learner_loss(learner *l, const tensor_list *at, const image_set *set, const uint32_t *index,
                                  size_t n, double *accuracy, double *sum) {
    double loss = 0;
    size_t right = 0;
    if (sum) memset(sum, 0, l->net.parameters * sizeof *sum);
    for (size_t i = 0; i < n; i += LEARN_PIECE) {
        const size_t m = n - i < LEARN_PIECE ? n - i : LEARN_PIECE;
        for (size_t j = 0; j < m; j++) l->index[j] = index ? index[i + j] : (uint32_t)(i + j);
        dataset_gather(l->data, set, l->index, m, l->x, l->y);
        loss += model_batch(&l->net, l->space, at, l->x, l->y, m, sum ? &l->grads : NULL, &right);
        for (size_t t = 0, k = 0; sum && t < l->net.tensors; t++)
            for (size_t j = 0; j < l->net.tensor[t].count; j++, k++)
                sum[k] += (double)l->grads.tensor[t][j] * (double)m / (double)n;
    }
    if (accuracy) *accuracy = (double)right / (double)n;
    return loss / (double)n;
}

/* at + h * direction; the largest error of the sum is half a step of floats. */
static inline const tensor_list *learner_move(learner *l, const tensor_list *at, double h, const double *direction) {
    for (size_t t = 0, k = 0; t < l->net.tensors; t++)
        for (size_t j = 0; j < l->net.tensor[t].count; j++, k++)
            l->moved.tensor[t][j] = (float)((double)at->tensor[t][j] + h * direction[k]);
    return &l->moved;
}

static inline double vector_dot(size_t n, const double *a, const double *b) {
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += a[i] * b[i];
    return sum;
}

/* f(x + rho g / |g|) - f(x) of the training loss of all agents together; *loss: f(x). */
static inline double learner_gap(learner *l, const tensor_list *at, const uint32_t *index, size_t n, double rho,
                                 double *loss) {
    *loss = learner_loss(l, at, &l->data->train, index, n, NULL, l->direction);
    const double norm = sqrt(vector_dot(l->net.parameters, l->direction, l->direction));
    return learner_loss(l, learner_move(l, at, rho / (norm + 1e-12), l->direction), &l->data->train, index, n, NULL,
                        NULL) -
           *loss;
}

/* The largest eigenvalue of that loss's Hessian, by power iteration; products with the Hessian are central differences
 * of gradients along a direction of length 1. The loss has kinks where a ReLU turns, which some images are near enough
 * to: so the iteration does not settle on a number but goes round one (by 0.4 % where that is 15, by 5 % where it is 5;
 * the same in doubles). Hence a mean of the last ones. */
static inline double learner_eigenvalue(learner *l, const tensor_list *at, const uint32_t *index, size_t n, double h,
                                        uint64_t seed) {
    const size_t d = l->net.parameters;
    rng r = rng_make(seed, STREAM_POWER, 0);
    double value = 0;
    for (size_t i = 0; i < d; i++) l->direction[i] = rng_uniform(&r) - 0.5;
    for (int k = 0; k < POWER_ALL; k++) {
        const double norm = sqrt(vector_dot(d, l->direction, l->direction));
        for (size_t i = 0; i < d; i++) l->direction[i] /= norm;
        learner_loss(l, learner_move(l, at, h, l->direction), &l->data->train, index, n, NULL, l->product);
        learner_loss(l, learner_move(l, at, -h, l->direction), &l->data->train, index, n, NULL, l->sum);
        for (size_t i = 0; i < d; i++) l->product[i] = (l->product[i] - l->sum[i]) / (2 * h);
        if (k + POWER_LAST >= POWER_ALL) value += vector_dot(d, l->direction, l->product) / POWER_LAST;
        memcpy(l->direction, l->product, d * sizeof *l->direction);
    }
    return value;
}

#endif
