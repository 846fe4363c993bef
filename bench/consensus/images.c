/* SPDX-License-Identifier: MIT
 * images.c: the trainer's small CNN on images. */
#include "consensus/flat.h"

#include "train/glyphs.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { PIECE = 250, VALIDATION = 2000, TEST = 4000 };

typedef struct images {
    dataset data;
    model net;
    workspace *space;
    float *x;
    uint8_t *y;
    size_t train; /* images behind these are for validation */
} images;

static void init(task *t, float *params, uint64_t seed) {
    const images *own = (const images *)t->own;
    tensor_list p = flat_tensors(&own->net, params);
    model_init(&own->net, &p, seed);
}

static double gradient(task *t, const float *params, uint64_t seed, size_t step, size_t worker, size_t batch,
                       float *grads) {
    images *own = (images *)t->own;
    uint32_t index[TASK_MOST_BATCH];
    const tensor_list p = flat_tensors(&own->net, params);
    tensor_list g = flat_tensors(&own->net, grads);
    size_t right = 0;
    task_draw(seed, step, worker, own->train, batch, index);
    dataset_gather(&own->data, &own->data.train, index, batch, own->x, own->y);
    return model_batch(&own->net, own->space, &p, own->x, own->y, batch, &g, &right) / (double)batch;
}

static double measure(task *t, const float *params, task_part which, double *accuracy) {
    images *own = (images *)t->own;
    const image_set *set = which == PART_TEST ? &own->data.test : &own->data.train;
    const size_t from = which == PART_TEST ? 0 : own->train,
                 count = which == PART_TEST ? (set->count < TEST ? set->count : TEST) : VALIDATION;
    const tensor_list p = flat_tensors(&own->net, params);
    double loss = 0.0;
    size_t right = 0;
    for (size_t i = 0; i < count; i += PIECE) {
        const size_t n = count - i < PIECE ? count - i : PIECE;
        uint32_t index[PIECE];
        for (size_t k = 0; k < n; k++) index[k] = (uint32_t)(from + i + k);
        dataset_gather(&own->data, set, index, n, own->x, own->y);
        loss += model_batch(&own->net, own->space, &p, own->x, own->y, n, NULL, &right);
    }
    *accuracy = 100.0 * (double)right / (double)count;
    return loss / (double)count;
}

static void close_images(task *t) {
    images *own = (images *)t->own;
    workspace_free(own->space);
    dataset_free(&own->data);
    free(own->x);
    free(own->y);
    free(own);
}

void task_images(task *t, const char *folder) {
    const size_t piece = (int)PIECE > (int)TASK_MOST_BATCH ? PIECE : TASK_MOST_BATCH;
    images *own = (images *)new_array(1, sizeof *own);
    if (folder)
        dataset_load(&own->data, folder);
    else
        glyphs_make(&own->data, GLYPH_TRAIN, GLYPH_TEST, 1);
    if (own->data.train.count < 2 * VALIDATION)
        bad_input("%s: at least %d training images are expected, not %zu", folder, 2 * VALIDATION,
                  own->data.train.count);
    own->train = own->data.train.count - VALIDATION;
    model_make(&own->net, MODEL_CNN, 0, &own->data);
    own->space = workspace_new(&own->net, piece);
    own->x = new_floats(piece * own->data.features);
    own->y = (uint8_t *)new_array(piece, 1);
    t->key = "images";
    snprintf(t->data, sizeof t->data, "%s", own->data.name);
    snprintf(t->title, sizeof t->title, "%s", t->data);
    flat_shape(t, &own->net);
    t->momentum = 0.9;
    t->rate = 0.05;
    t->guessing = log((double)own->data.classes);
    t->accuracy = 1;
    snprintf(t->model, sizeof t->model, "a CNN of %zu parameters; SGD with momentum %g", t->parameters, t->momentum);
    t->init = init;
    t->gradient = gradient;
    t->measure = measure;
    t->close = close_images;
    t->own = own;
}
