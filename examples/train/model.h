/* SPDX-License-Identifier: MIT
 * model.h: three image classifiers. A model is a description only; its parameters are a list of tensors, each in
 * memory of its own as in most trainers, and gradients are a second such list. */
#ifndef TRAIN_MODEL_H
#define TRAIN_MODEL_H

#include "data.h"

#include <stddef.h>
#include <stdint.h>

typedef enum model_kind {
    MODEL_SOFTMAX, /* softmax regression */
    MODEL_MLP,     /* one hidden layer of ReLU */
    MODEL_CNN      /* conv 3x3, pool, conv 3x3, pool, dense */
} model_kind;

enum { MAX_TENSORS = 6 };

typedef struct model {
    model_kind kind;
    size_t width, height, channels, features, classes;
    size_t hidden; /* of the MLP */
    size_t tensors;
    struct {
        const char *name;
        size_t count;
        size_t fan_in; /* inputs that are summed up; 0 for biases */
    } tensor[MAX_TENSORS];
    size_t parameters; /* of all tensors together */
} model;

/* The values (or gradients) of a model's tensors. */
typedef struct tensor_list {
    float *tensor[MAX_TENSORS];
} tensor_list;

void model_make(model *m, model_kind kind, size_t hidden, const dataset *d);

tensor_list tensors_new(const model *m);
void tensors_copy(const model *m, tensor_list *to, const tensor_list *from);
void tensors_free(const model *m, tensor_list *t);

/* Weights uniform in +-sqrt(6 / fan_in) (He's rule), biases 0. */
void model_init(const model *m, tensor_list *params, uint64_t seed);

/* Scratch memory for batches up to a size; one per thread. */
typedef struct workspace workspace;
workspace *workspace_new(const model *m, size_t largest_batch);
void workspace_free(workspace *s);

/* Loss summed over a batch of n samples x (n x features) with labels y; adds the right answers to *correct. With
 * grads not NULL: the gradient of the mean loss. */
double model_batch(const model *m, workspace *s, const tensor_list *params, const float *x, const uint8_t *y, size_t n,
                   tensor_list *grads, size_t *correct);

#endif
