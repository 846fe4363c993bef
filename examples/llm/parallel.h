/* SPDX-License-Identifier: MIT
 * parallel.h: what makes of a trainer one of many: where the workers talk. */
#ifndef LLM_PARALLEL_H
#define LLM_PARALLEL_H

#include "model.h"
#include "options.h"

typedef struct parallel parallel;

/* Connects with all workers. `job`: of what must be alike: whoever has another number is not let in. */
parallel *parallel_open(const options *o, uint64_t job);
void parallel_close(parallel *p);

/* One rule's training, from its beginning; params are the same on all workers. */
void parallel_begin(parallel *p, rule r, const model *m, float *params, float *grads);

/* The two calls in each step: before the optimiser, and after it. */
void parallel_gradients(parallel *p);
void parallel_step(parallel *p);

/* What the workers have in common, into `out`; and how many bytes this one has sent. */
void parallel_model(parallel *p, const model *m, float *out);
uint64_t parallel_bytes(const parallel *p);

/* After the last step: params become the same on all workers. Then the workers part. */
void parallel_finish(parallel *p);
void parallel_end(parallel *p);

#endif
