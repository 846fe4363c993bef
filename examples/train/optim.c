/* SPDX-License-Identifier: MIT */
#include "optim.h"

void sgd_init(sgd *o, const model *m, float momentum, float weight_decay, bool nesterov) {
    o->momentum = momentum;
    o->weight_decay = weight_decay;
    o->nesterov = nesterov;
    o->velocity = tensors_new(m);
}

void sgd_free(sgd *o, const model *m) {
    tensors_free(m, &o->velocity);
}

static void step_plain(size_t n, float *restrict x, const float *restrict g, float *restrict v, float rate,
                       float momentum, float decay) {
    for (size_t i = 0; i < n; i++) {
        v[i] = momentum * v[i] + (g[i] + decay * x[i]);
        x[i] -= rate * v[i];
    }
}

static void step_nesterov(size_t n, float *restrict x, const float *restrict g, float *restrict v, float rate,
                          float momentum, float decay) {
    for (size_t i = 0; i < n; i++) {
        float d = g[i] + decay * x[i];
        v[i] = momentum * v[i] + d;
        x[i] -= rate * (d + momentum * v[i]);
    }
}

void sgd_step(sgd *o, const model *m, tensor_list *params, const tensor_list *grads, float rate) {
    for (size_t i = 0; i < m->tensors; i++)
        (o->nesterov ? step_nesterov : step_plain)(m->tensor[i].count, params->tensor[i], grads->tensor[i],
                                                   o->velocity.tensor[i], rate, o->momentum, o->weight_decay);
}
