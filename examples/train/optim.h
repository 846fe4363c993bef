/* SPDX-License-Identifier: MIT
 * optim.h: stochastic gradient descent with momentum (plain or Nesterov's) and weight decay. Local to a worker: no
 * rule that averages models touches its state. */
#ifndef TRAIN_OPTIM_H
#define TRAIN_OPTIM_H

#include "model.h"

#include <stdbool.h>

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

#endif
