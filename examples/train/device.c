/* SPDX-License-Identifier: MIT */
#include "device.h"

#include "util.h"

#include <stdlib.h>

typedef struct cpu {
    device base; /* first */
    workspace *scratch;
} cpu;

static tensor_list cpu_tensors_new(device *d) {
    return tensors_new(d->model);
}

static void cpu_tensors_free(device *d, tensor_list *t) {
    tensors_free(d->model, t);
}

static void cpu_copy(device *d, tensor_list *to, const tensor_list *from) {
    tensors_copy(d->model, to, from);
}

static double cpu_batch(device *d, const tensor_list *params, const float *x, const uint8_t *y, size_t n,
                        tensor_list *grads, size_t *correct) {
    return model_batch(d->model, ((cpu *)d)->scratch, params, x, y, n, grads, correct);
}

static void cpu_sgd_step(device *d, sgd *o, tensor_list *params, const tensor_list *grads, float rate) {
    sgd_step(o, d->model, params, grads, rate);
}

static void cpu_adam_step(device *d, adam *o, tensor_list *params, const tensor_list *grads, float rate) {
    adam_step(o, d->model, params, grads, rate);
}

static void cpu_close(device *d) {
    workspace_free(((cpu *)d)->scratch);
    free(d);
}

device *device_cpu(const model *m, size_t largest_batch) {
    static const device_verbs verbs = {cpu_tensors_new, cpu_tensors_free, cpu_copy,      cpu_copy,
                                       cpu_batch,       cpu_sgd_step,     cpu_adam_step, cpu_close};
    cpu *c = new_array(1, sizeof *c);
    c->base = (device){&verbs, m};
    c->scratch = workspace_new(m, largest_batch);
    return &c->base;
}
