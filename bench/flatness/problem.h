/* SPDX-License-Identifier: MIT
 * problem.h: what the workers of this study minimise, as the cluster sees it: tensors, a gradient of one mini-batch, and
 * a look at a model. Which samples a worker has at a step is a pure function of seed, worker and step; all of them may
 * have any sample (as in the published code: workers are alike). */
#ifndef FLATNESS_PROBLEM_H
#define FLATNESS_PROBLEM_H

#include "train/model.h"
#include "train/rng.h"
#include "train/util.h"

#include <stdlib.h>
#include <string.h>

enum { STREAM_BATCH = 301, STREAM_TRACE };

typedef struct problem problem;
struct problem {
    size_t tensors, count[MAX_TENSORS], parameters;
    size_t batch;
    double momentum; /* Nesterov, as published; 0: plain SGD */
    void (*first)(problem *, tensor_list *at, uint64_t seed);
    /* The gradient of the mean loss over the batch; returns that loss. */
    double (*gradient)(problem *, const tensor_list *at, uint64_t seed, uint32_t rank, uint64_t step,
                       tensor_list *into);
    double (*look)(problem *, const tensor_list *at); /* what a curve shows: test error in %, or the gap */
};

static inline tensor_list problem_new(const problem *p) {
    tensor_list t;
    memset(&t, 0, sizeof t);
    for (size_t i = 0; i < p->tensors; i++) {
        t.tensor[i] = new_floats(p->count[i]);
        memset(t.tensor[i], 0, p->count[i] * sizeof(float));
    }
    return t;
}

static inline void problem_copy(const problem *p, tensor_list *to, const tensor_list *from) {
    for (size_t i = 0; i < p->tensors; i++) memcpy(to->tensor[i], from->tensor[i], p->count[i] * sizeof(float));
}

static inline void problem_free(const problem *p, tensor_list *t) {
    for (size_t i = 0; i < p->tensors; i++) free(t->tensor[i]);
}

/* The samples of a batch, out of n. */
static inline void problem_draw(const problem *p, uint64_t seed, uint32_t rank, uint64_t step, size_t n,
                                uint32_t *index) {
    rng r = rng_make(seed, STREAM_BATCH, step << 8 | rank);
    for (size_t i = 0; i < p->batch; i++) index[i] = rng_below(&r, (uint32_t)n);
}

#endif
