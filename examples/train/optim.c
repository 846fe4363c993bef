/* SPDX-License-Identifier: MIT */
#include "optim.h"

#include <math.h>

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

void adam_init(adam *o, const model *m, float beta1, float beta2, float weight_decay) {
    o->beta1 = beta1;
    o->beta2 = beta2;
    o->weight_decay = weight_decay;
    o->steps = 0;
    o->first = tensors_new(m);
    o->second = tensors_new(m);
}

void adam_free(adam *o, const model *m) {
    tensors_free(m, &o->first);
    tensors_free(m, &o->second);
}

static void step_adam(size_t n, float *restrict x, const float *restrict g, float *restrict first,
                      float *restrict second, float rate, float decay, float beta1, float beta2, float unbias1,
                      float unbias2) {
    for (size_t i = 0; i < n; i++) {
        first[i] = beta1 * first[i] + (1.0f - beta1) * g[i];
        second[i] = beta2 * second[i] + (1.0f - beta2) * g[i] * g[i];
        x[i] -= rate * (unbias1 * first[i] / (sqrtf(unbias2 * second[i]) + 1e-8f) + decay * x[i]);
    }
}

void adam_unbias(adam *o, float *unbias1, float *unbias2) {
    const double t = (double)++o->steps;
    *unbias1 = (float)(1.0 / (1.0 - pow((double)o->beta1, t)));
    *unbias2 = (float)(1.0 / (1.0 - pow((double)o->beta2, t)));
}

void adam_step(adam *o, const model *m, tensor_list *params, const tensor_list *grads, float rate) {
    float unbias1, unbias2;
    adam_unbias(o, &unbias1, &unbias2);
    for (size_t i = 0; i < m->tensors; i++)
        step_adam(m->tensor[i].count, params->tensor[i], grads->tensor[i], o->first.tensor[i], o->second.tensor[i],
                  rate, o->weight_decay, o->beta1, o->beta2, unbias1, unbias2);
}
