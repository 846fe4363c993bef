/* SPDX-License-Identifier: MIT
 * run.h: the training loop, one rule from beginning to end. */
#ifndef LLM_RUN_H
#define LLM_RUN_H

#include "model.h"
#include "options.h"
#include "parallel.h"
#include "text.h"

/* One look at the model. */
typedef struct run_point {
    uint64_t samples; /* that all workers together have trained on */
    double loss;      /* on the validation part, in nats a character */
    double seconds;   /* of training, looks not counted */
    uint64_t bytes;   /* that this worker has sent */
} run_point;

typedef struct run_result {
    rule rule;
    size_t workers, points;
    run_point *point;
} run_result;

/* params: room for the parameters; afterwards the trained model. Only rank 0 looks: the others' points are not filled
 * in. */
void run_train(run_result *out, rule r, const options *o, const text *t, const model *m, parallel *p, float *params);
void run_free(run_result *r);

/* `count` characters that the model likes, each drawn from what it predicts, onto stdout. */
void run_generate(const options *o, const text *t, const model *m, const float *params, size_t count);

#endif
