/* SPDX-License-Identifier: MIT
 * flat.h: the trainer's models on rows of floats, whose tensors lie in one array: what images and people share. */
#ifndef CONSENSUS_FLAT_H
#define CONSENSUS_FLAT_H

#include "consensus/task.h"

#include "train/model.h"

/* Where each tensor of a flat array is. */
static inline tensor_list flat_tensors(const model *m, const float *flat) {
    tensor_list t = {{NULL}};
    for (size_t i = 0, at = 0; i < m->tensors; at += m->tensor[i++].count)
        t.tensor[i] = (float *)(uintptr_t)(flat + at);
    return t;
}

static inline void flat_shape(task *t, const model *m) {
    t->parameters = m->parameters;
    t->tensors = m->tensors;
    for (size_t i = 0; i < m->tensors; i++) t->tensor[i] = m->tensor[i].count;
}

#endif
