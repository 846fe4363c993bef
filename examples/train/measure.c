/* SPDX-License-Identifier: MIT */
#define _POSIX_C_SOURCE 200809L
#include "measure.h"

#include "util.h"

#include <math.h>
#include <pthread.h>
#include <stdlib.h>

enum { PIECE = 100, SHARP_PIECES = 5, MAX_THREADS = 64 };

/* What threads do beside each other, each its share: the first-th and every stride-th piece after it. */
typedef struct measurement {
    const model *m;
    const dataset *d;
    const tensor_list *params;
    size_t first, stride;
    /* on the test set */
    double loss;
    size_t right;
    /* on training images: of each piece the loss, and, if there is room for it, the gradient of the mean loss */
    double *loss_of;
    tensor_list *gradient_of;
} measurement;

static void share_out(void *(*work)(void *), measurement *part, size_t n) {
    pthread_t thread[MAX_THREADS];
    for (size_t i = 0; i < n; i++) {
        part[i] = part[0];
        part[i].first = i;
        part[i].stride = n;
    }
    for (size_t i = 0; i < n; i++)
        if (pthread_create(&thread[i], NULL, work, &part[i])) broken("cannot start a thread");
    for (size_t i = 0; i < n; i++) pthread_join(thread[i], NULL);
}

static size_t threads(void) {
    return processors() < MAX_THREADS ? processors() : MAX_THREADS;
}

/* ---- The test set ---- */

static void *measure_share(void *arg) {
    measurement *q = arg;
    const dataset *d = q->d;
    workspace *s = workspace_new(q->m, PIECE);
    float *x = new_floats(PIECE * d->features);
    uint8_t y[PIECE];
    uint32_t index[PIECE];
    for (size_t i = q->first * PIECE; i < d->test.count; i += q->stride * PIECE) {
        size_t n = d->test.count - i < PIECE ? d->test.count - i : PIECE;
        for (size_t j = 0; j < n; j++) index[j] = (uint32_t)(i + j);
        dataset_gather(d, &d->test, index, n, x, y);
        q->loss += model_batch(q->m, s, q->params, x, y, n, NULL, &q->right);
    }
    workspace_free(s);
    free(x);
    return NULL;
}

void measure_test(const model *m, const dataset *d, const tensor_list *params, double *loss, double *accuracy) {
    measurement part[MAX_THREADS] = {{.m = m, .d = d, .params = params}};
    const size_t n = threads();
    size_t right = 0;
    double sum = 0.0;
    share_out(measure_share, part, n);
    for (size_t i = 0; i < n; i++) {
        sum += part[i].loss;
        right += part[i].right;
    }
    *loss = sum / (double)d->test.count;
    *accuracy = (double)right / (double)d->test.count;
}

/* ---- Sharpness ---- */

static size_t sharp_images(const dataset *d) {
    return d->train.count < SHARP_PIECES * PIECE ? d->train.count : SHARP_PIECES * PIECE;
}

/* How many of them are in a piece. */
static size_t sharp_piece(const dataset *d, size_t piece) {
    const size_t images = sharp_images(d);
    if (piece * PIECE >= images) return 0;
    return images - piece * PIECE < PIECE ? images - piece * PIECE : PIECE;
}

static void *sharpness_share(void *arg) {
    measurement *q = arg;
    const dataset *d = q->d;
    workspace *s = workspace_new(q->m, PIECE);
    float *x = new_floats(PIECE * d->features);
    uint8_t y[PIECE];
    uint32_t index[PIECE];
    for (size_t i = q->first; i < SHARP_PIECES; i += q->stride) {
        const size_t n = sharp_piece(d, i), images = sharp_images(d);
        size_t right = 0;
        if (n == 0) break;
        for (size_t j = 0; j < n; j++) index[j] = (uint32_t)((uint64_t)(i * PIECE + j) * d->train.count / images);
        dataset_gather(d, &d->train, index, n, x, y);
        q->loss_of[i] = model_batch(q->m, s, q->params, x, y, n, q->gradient_of ? &q->gradient_of[i] : NULL, &right);
    }
    workspace_free(s);
    free(x);
    return NULL;
}

/* The mean loss, summed piece by piece. */
static double training_loss(const model *m, const dataset *d, const tensor_list *params, tensor_list *gradient_of) {
    double loss_of[SHARP_PIECES] = {0.0}, loss = 0.0;
    measurement part[MAX_THREADS] = {
        {.m = m, .d = d, .params = params, .loss_of = loss_of, .gradient_of = gradient_of}};
    share_out(sharpness_share, part, threads());
    for (size_t i = 0; i < SHARP_PIECES; i++) loss += loss_of[i];
    return loss / (double)sharp_images(d);
}

double measure_sharpness(const model *m, const dataset *d, const tensor_list *params) {
    tensor_list gradient_of[SHARP_PIECES], up = tensors_new(m);
    double square = 0.0;
    for (size_t i = 0; i < SHARP_PIECES; i++) gradient_of[i] = tensors_new(m);
    const double here = training_loss(m, d, params, gradient_of);
    for (size_t t = 0; t < m->tensors; t++)
        for (size_t j = 0; j < m->tensor[t].count; j++) {
            double g = 0.0;
            for (size_t i = 0; i < SHARP_PIECES; i++)
                g += (double)gradient_of[i].tensor[t][j] * (double)sharp_piece(d, i);
            g /= (double)sharp_images(d);
            up.tensor[t][j] = (float)g;
            square += g * g;
        }
    for (size_t t = 0; t < m->tensors; t++)
        for (size_t j = 0; j < m->tensor[t].count; j++)
            up.tensor[t][j] = (float)((double)params->tensor[t][j] +
                                      SHARPNESS_RADIUS * (double)up.tensor[t][j] / (sqrt(square) + 1e-12));
    const double there = training_loss(m, d, &up, NULL);
    for (size_t i = 0; i < SHARP_PIECES; i++) tensors_free(m, &gradient_of[i]);
    tensors_free(m, &up);
    return there - here;
}
