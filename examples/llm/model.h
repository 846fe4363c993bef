/* SPDX-License-Identifier: MIT
 * model.h: a small transformer that predicts the next character: embedding and learned positions; blocks of causal
 * attention with several heads and a perceptron with GELU, each behind a norm and beside a residual; norm, linear head.
 * All parameters lie in one array, tensor behind tensor, and the gradient in another one of the same shape. It knows
 * nothing of other workers. */
#ifndef LLM_MODEL_H
#define LLM_MODEL_H

#include <stddef.h>
#include <stdint.h>

enum { MODEL_LAYERS = 16, MODEL_TENSORS = 2 + 12 * MODEL_LAYERS + 4 };

typedef struct model {
    size_t layers, width, heads, context, vocabulary;
    size_t tensors, parameters;
    struct {
        char name[32];
        size_t offset, count;
        double spread; /* initial values: uniform with this standard deviation; 0: all are `initial` */
        float initial;
    } tensor[MODEL_TENSORS];
} model;

/* width is a multiple of heads; vocabulary: 2 to 256. */
void model_make(model *m, size_t layers, size_t width, size_t heads, size_t context, size_t vocabulary);

void model_init(const model *m, float *params, uint64_t seed);

/* Scratch memory for so many sequences at a time. */
typedef struct workspace workspace;
workspace *workspace_new(const model *m, size_t sequences);
void workspace_free(workspace *s);

/* `sequences` of `length` characters each (at most `context`), one behind the other; y: the character that follows each
 * of them. Returns the loss summed over all characters, in nats. With grads not NULL: the gradient of the mean loss. */
double model_batch(const model *m, workspace *s, const float *params, const uint8_t *x, const uint8_t *y,
                   size_t sequences, size_t length, float *grads);

/* What may follow each character of one sequence: `length` rows of logits, until the next call. */
const float *model_predict(const model *m, workspace *s, const float *params, const uint8_t *x, size_t length);

#endif
