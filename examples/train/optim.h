/* SPDX-License-Identifier: MIT
 * optim.h: stochastic gradient descent with momentum (plain or Nesterov's) and weight decay, and Adam. Local to a
 * worker: no rule that averages models touches their state. */
#ifndef TRAIN_OPTIM_H
#define TRAIN_OPTIM_H

#include "model.h"

#include <stdbool.h>
#include <stdint.h>

typedef struct sgd {
    float momentum;
    float weight_decay;
    bool nesterov;
    tensor_list velocity;
} sgd;

void sgd_init(sgd *o, const model *m, float momentum, float weight_decay, bool nesterov);
void sgd_free(sgd *o, const model *m);

/* v <- momentum v + (g + weight_decay x);   x <- x - rate (nesterov ? g + weight_decay x + momentum v : v) */
void sgd_step(sgd *o, const model *m, tensor_list *params, const tensor_list *grads, float rate);

typedef struct adam {
    float beta1, beta2;
    float weight_decay;
    uint64_t steps;
    tensor_list first, second; /* running means of the gradient and of its squares */
} adam;

void adam_init(adam *o, const model *m, float beta1, float beta2, float weight_decay);
void adam_free(adam *o, const model *m);

/* With weight decay apart from the gradient (AdamW):
 *     first <- beta1 first + (1 - beta1) g;   second <- beta2 second + (1 - beta2) g^2
 *     x <- x - rate (first / (1 - beta1^t) / (sqrt(second / (1 - beta2^t)) + 1e-8) + weight_decay x) */
void adam_step(adam *o, const model *m, tensor_list *params, const tensor_list *grads, float rate);

/* Counts a step, and says what it multiplies by: 1 / (1 - beta1^t) and 1 / (1 - beta2^t). */
void adam_unbias(adam *o, float *unbias1, float *unbias2);

#endif
