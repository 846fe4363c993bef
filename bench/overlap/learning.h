/* SPDX-License-Identifier: MIT
 * learning.h: what the workers of this study learn: images, by a perceptron with one hidden layer, in shares that are
 * alike or one-sided (Dirichlet 0.1). */
#ifndef OVERLAP_LEARNING_H
#define OVERLAP_LEARNING_H

#include "train/data.h"
#include "train/glyphs.h"
#include "train/model.h"

#include <stdint.h>
#include <stdlib.h>

enum { LEARN_HIDDEN = 32, LEARN_BATCH = 32, LEARN_TEST = 2000, LEARN_PIECE = 100 };

typedef struct learning {
    dataset data;
    model net;
    workspace *space;
    float x[LEARN_PIECE * 4096];
    uint8_t y[LEARN_PIECE];
    uint32_t index[LEARN_PIECE];
    size_t tests;
} learning;

/* images: a folder with a data set, or NULL: drawn digits. */
static inline void learning_open(learning *l, const char *images) {
    if (images)
        dataset_load(&l->data, images);
    else
        glyphs_make(&l->data, GLYPH_TRAIN, GLYPH_TEST, 1);
    if (l->data.features > 4096) {
        fprintf(stderr, "bench-overlap: images of at most 4096 numbers are expected, got %zu\n", l->data.features);
        exit(2);
    }
    model_make(&l->net, MODEL_MLP, LEARN_HIDDEN, &l->data);
    l->space = workspace_new(&l->net, LEARN_PIECE);
    l->tests = l->data.test.count < LEARN_TEST ? l->data.test.count : LEARN_TEST;
}

static inline void learning_close(learning *l) {
    workspace_free(l->space);
    dataset_free(&l->data);
}

/* The mini-batch of a step; gradients at different parameters can be taken of the same one. */
static inline void learning_draw(learning *l, sampler *s) {
    sampler_next(s, LEARN_BATCH, l->index);
    dataset_gather(&l->data, &l->data.train, l->index, LEARN_BATCH, l->x, l->y);
}

static inline void learning_gradient(learning *l, const tensor_list *at, tensor_list *grads) {
    size_t right = 0;
    model_batch(&l->net, l->space, at, l->x, l->y, LEARN_BATCH, grads, &right);
}

/* Mean cross entropy, and the share of right answers, on images that nobody trains on. */
static inline void learning_measure(learning *l, const tensor_list *at, double *loss, double *accuracy) {
    size_t right = 0;
    *loss = 0.0;
    for (size_t i = 0; i < l->tests; i += LEARN_PIECE) {
        const size_t n = l->tests - i < LEARN_PIECE ? l->tests - i : LEARN_PIECE;
        for (size_t j = 0; j < n; j++) l->index[j] = (uint32_t)(i + j);
        dataset_gather(&l->data, &l->data.test, l->index, n, l->x, l->y);
        *loss += model_batch(&l->net, l->space, at, l->x, l->y, n, NULL, &right);
    }
    *loss /= (double)l->tests;
    *accuracy = (double)right / (double)l->tests;
}

#endif
