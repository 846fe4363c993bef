/* SPDX-License-Identifier: MIT
 * task.h: what the workers of a simulated cluster learn. */
#ifndef CLUSTER_TASK_H
#define CLUSTER_TASK_H

#include "options.h"
#include "train/data.h"
#include "train/model.h"

/* Images and a classifier of them; or a quadratic, F_j(x) = |x - goal_j|^2 / 2, whose gradient comes with noise. */
typedef struct task {
    char name[128]; /* for headings */
    task_kind kind;
    model model; /* of the quadratic: one tensor, and nothing else */
    dataset data;
    partition share;
    workspace *scratch;
    float *x;
    uint8_t *y;
    uint32_t *index;
    size_t batch, workers;
    uint64_t seed;
    double center[16]; /* quadratic: the mean of all goals */
} task;

void task_make(task *t, const options *o);
void task_free(task *t);

/* The same initial parameters for every worker. */
void task_init(const task *t, tensor_list *params);

/* The next batch of a worker (`index`: room for one), and a gradient of it at these parameters. For images `s` is the
 * worker's stream of them; the quadratic's noise is that of the step. */
void task_draw(task *t, sampler *s, uint32_t *index);
void task_gradient(task *t, uint32_t worker, uint64_t step, const uint32_t *index, const tensor_list *params,
                   tensor_list *grads);

/* On the test set; or how far the quadratic's mean loss is above its least value. accuracy: 0 to 1; -1: there is
 * none. */
void task_measure(task *t, const tensor_list *params, double *loss, double *accuracy);

/* How far the loss rises within 0.05, along its gradient (train/measure.h). */
double task_sharpness(const task *t, const tensor_list *params);

#endif
