/* SPDX-License-Identifier: MIT
 * people.c: a small perceptron on UCI Adult (who earns more than 50,000 dollars, by census data), or on people drawn by
 * a law of the program's own, as many and of the same shape: six numbers, eight properties. */
#include "consensus/flat.h"

#include "census.h"

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { HIDDEN = 16, SHARES = 8, PIECE = 250, VALIDATION = 4000 };

typedef struct people {
    census of;
    model net;
    workspace *space;
    size_t train;     /* of the training part; the rest is for validation */
    uint32_t *by_age; /* the training part, the youngest first; NULL: everybody draws from all of it */
    float *x;
    uint8_t *y;
} people;

/* By merging; of the same age, in the order of the file. */
static void sort_by_age(people *own) {
    uint32_t *from = (uint32_t *)new_array(own->train, sizeof *from), *to;
    own->by_age = (uint32_t *)new_array(own->train, sizeof *own->by_age);
    to = own->by_age;
    for (size_t i = 0; i < own->train; i++) from[i] = (uint32_t)i;
    for (size_t width = 1; width < own->train; width *= 2) {
        for (size_t lo = 0; lo < own->train; lo += 2 * width) {
            const size_t mid = lo + width < own->train ? lo + width : own->train,
                         hi = mid + width < own->train ? mid + width : own->train;
            for (size_t a = lo, b = mid, k = lo; k < hi; k++) {
                const int left = b == hi || (a < mid && own->of.row[0][from[a] * own->of.features] <=
                                                            own->of.row[0][from[b] * own->of.features]);
                to[k] = left ? from[a++] : from[b++];
            }
        }
        uint32_t *const swap = from;
        from = to;
        to = swap;
    }
    own->by_age = from;
    free(to);
}

/* ---- The task ---- */

static void init(task *t, float *params, uint64_t seed) {
    const people *own = (const people *)t->own;
    tensor_list p = flat_tensors(&own->net, params);
    model_init(&own->net, &p, seed);
}

static double gradient(task *t, const float *params, uint64_t seed, size_t step, size_t worker, size_t batch,
                       float *grads) {
    people *own = (people *)t->own;
    uint32_t index[TASK_MOST_BATCH];
    const tensor_list p = flat_tensors(&own->net, params);
    tensor_list g = flat_tensors(&own->net, grads);
    size_t right = 0;
    task_draw(seed, step, worker, own->by_age ? own->train / SHARES : own->train, batch, index);
    for (size_t i = 0; own->by_age && i < batch; i++)
        index[i] = own->by_age[worker % SHARES * (own->train / SHARES) + index[i]];
    for (size_t i = 0; i < batch; i++) {
        memcpy(own->x + i * own->of.features, own->of.row[0] + index[i] * own->of.features,
               own->of.features * sizeof(float));
        own->y[i] = own->of.label[0][index[i]];
    }
    return model_batch(&own->net, own->space, &p, own->x, own->y, batch, &g, &right) / (double)batch;
}

static double measure(task *t, const float *params, task_part which, double *accuracy) {
    people *own = (people *)t->own;
    const int s = which == PART_TEST;
    const size_t from = s ? 0 : own->train, count = own->of.count[s] - from;
    const tensor_list p = flat_tensors(&own->net, params);
    double loss = 0.0;
    size_t right = 0;
    for (size_t i = 0; i < count; i += PIECE) {
        const size_t n = count - i < PIECE ? count - i : PIECE;
        loss += model_batch(&own->net, own->space, &p, own->of.row[s] + (from + i) * own->of.features,
                            own->of.label[s] + from + i, n, NULL, &right);
    }
    *accuracy = 100.0 * (double)right / (double)count;
    return loss / (double)count;
}

static void close_people(task *t) {
    people *own = (people *)t->own;
    workspace_free(own->space);
    census_close(&own->of);
    free(own->by_age);
    free(own->x);
    free(own->y);
    free(own);
}

void task_people(task *t, const char *folder, int by_age) {
    const size_t piece = (int)PIECE > (int)TASK_MOST_BATCH ? PIECE : TASK_MOST_BATCH;
    people *own = (people *)new_array(1, sizeof *own);
    dataset shape;
    census_open(&own->of, folder);
    own->train = own->of.count[0] - VALIDATION;
    if (by_age) sort_by_age(own);
    memset(&shape, 0, sizeof shape);
    shape.width = shape.features = own->of.features;
    shape.height = shape.channels = 1;
    shape.classes = 2;
    model_make(&own->net, MODEL_MLP, HIDDEN, &shape);
    own->space = workspace_new(&own->net, piece);
    own->x = new_floats(piece * own->of.features);
    own->y = (uint8_t *)new_array(piece, 1);
    t->key = by_age ? "ages" : "people";
    snprintf(t->data, sizeof t->data, "%s%s", folder ? "UCI Adult" : "drawn people", by_age ? " by age" : "");
    snprintf(t->title, sizeof t->title, "%s%s", folder ? "UCI Adult" : "Drawn people",
             by_age ? ", each worker with people of its own age" : "");
    flat_shape(t, &own->net);
    t->rate = 0.8;
    t->accuracy = 1;
    t->guessing = log(2.0);
    snprintf(t->model, sizeof t->model, "a perceptron of %zu parameters; plain SGD", t->parameters);
    t->init = init;
    t->gradient = gradient;
    t->measure = measure;
    t->close = close_people;
    t->own = own;
}
