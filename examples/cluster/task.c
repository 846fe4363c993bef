/* SPDX-License-Identifier: MIT */
#include "task.h"

#include "train/glyphs.h"
#include "train/measure.h"
#include "train/rng.h"
#include "train/util.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NUMBERS = 16, PIECE = 100 };

static double goal(const task *t, uint32_t worker, size_t i) {
    rng r = rng_make(t->seed, RNG_GOAL, (uint64_t)worker * NUMBERS + i);
    return 4.0 * rng_uniform(&r) - 2.0;
}

static void make_quadratic(task *t) {
    t->model.tensors = 1;
    t->model.tensor[0].name = "x";
    t->model.tensor[0].count = t->model.parameters = NUMBERS;
    for (uint32_t w = 0; w < t->workers; w++)
        for (size_t i = 0; i < NUMBERS; i++) t->center[i] += goal(t, w, i) / (double)t->workers;
    snprintf(t->name, sizeof t->name, "a quadratic of %d numbers", NUMBERS);
}

static void make_images(task *t, const options *o) {
    static const model_kind kind[] = {MODEL_SOFTMAX, MODEL_MLP, MODEL_CNN};
    if (o->data)
        dataset_load(&t->data, o->data);
    else
        glyphs_make(&t->data, GLYPH_TRAIN, GLYPH_TEST, 1);
    model_make(&t->model, kind[o->task], o->hidden, &t->data);
    partition_make(&t->share, &t->data, o->workers, o->alpha, o->seed);
    size_t most = o->batch > PIECE ? o->batch : PIECE;
    t->scratch = workspace_new(&t->model, most);
    t->x = new_floats(most * t->data.features);
    t->y = new_array(most, 1);
    t->index = new_array(most, sizeof *t->index);
    snprintf(t->name, sizeof t->name, "%s, %s with %zu parameters", t->data.name, TASK_NAME[o->task],
             t->model.parameters);
}

void task_make(task *t, const options *o) {
    memset(t, 0, sizeof *t);
    t->kind = o->task;
    t->batch = o->batch;
    t->workers = o->workers;
    t->seed = o->seed;
    if (t->kind == TASK_QUADRATIC)
        make_quadratic(t);
    else
        make_images(t, o);
}

void task_free(task *t) {
    if (t->kind == TASK_QUADRATIC) return;
    partition_free(&t->share);
    workspace_free(t->scratch);
    free(t->x);
    free(t->y);
    free(t->index);
    dataset_free(&t->data);
}

void task_init(const task *t, tensor_list *params) {
    if (t->kind == TASK_QUADRATIC)
        memset(params->tensor[0], 0, NUMBERS * sizeof(float));
    else
        model_init(&t->model, params, t->seed);
}

void task_draw(task *t, sampler *s, uint32_t *index) {
    if (t->kind != TASK_QUADRATIC) sampler_next(s, t->batch, index);
}

void task_gradient(task *t, uint32_t worker, uint64_t step, const uint32_t *index, const tensor_list *params,
                   tensor_list *grads) {
    if (t->kind == TASK_QUADRATIC) {
        rng r = rng_make(t->seed, RNG_NOISE, (uint64_t)worker << 32 | (step & UINT32_MAX));
        for (size_t i = 0; i < NUMBERS; i++)
            grads->tensor[0][i] =
                (float)((double)params->tensor[0][i] - goal(t, worker, i) + 2.0 * rng_uniform(&r) - 1.0);
        return;
    }
    size_t right = 0;
    dataset_gather(&t->data, &t->data.train, index, t->batch, t->x, t->y);
    model_batch(&t->model, t->scratch, params, t->x, t->y, t->batch, grads, &right);
}

void task_measure(task *t, const tensor_list *params, double *loss, double *accuracy) {
    *loss = 0.0;
    if (t->kind == TASK_QUADRATIC) {
        for (size_t i = 0; i < NUMBERS; i++) {
            const double d = (double)params->tensor[0][i] - t->center[i];
            *loss += 0.5 * d * d;
        }
        *accuracy = -1.0;
        return;
    }
    size_t right = 0;
    const size_t count = t->data.test.count;
    for (size_t i = 0; i < count; i += PIECE) {
        const size_t n = count - i < PIECE ? count - i : PIECE;
        for (size_t j = 0; j < n; j++) t->index[j] = (uint32_t)(i + j);
        dataset_gather(&t->data, &t->data.test, t->index, n, t->x, t->y);
        *loss += model_batch(&t->model, t->scratch, params, t->x, t->y, n, NULL, &right);
    }
    *loss /= (double)count;
    *accuracy = (double)right / (double)count;
}

double task_sharpness(const task *t, const tensor_list *params) {
    double square = 0.0;
    if (t->kind != TASK_QUADRATIC) return measure_sharpness(&t->model, &t->data, params);
    for (size_t i = 0; i < NUMBERS; i++) {
        const double d = (double)params->tensor[0][i] - t->center[i];
        square += d * d;
    }
    return SHARPNESS_RADIUS * (sqrt(square) + 0.5 * SHARPNESS_RADIUS);
}
