/* SPDX-License-Identifier: MIT
 * models.h: two tasks with networks: images (a perceptron with one hidden layer, shares by Dirichlet(0.1): most workers
 * hold few classes) and text (the next character from those before it; every worker holds one stretch of the text).
 * The value is the share of wrong answers, and the cross entropy in nats, on data held out. */
#ifndef STRAGGLERS_MODELS_H
#define STRAGGLERS_MODELS_H

#include "problem.h"
#include "train/glyphs.h"
#include "train/model.h"
#include "train/nn.h"

#include <stdio.h>

enum { IMAGES_HIDDEN = 64, IMAGES_BATCH = 32, IMAGES_TEST = 2000 };
#define IMAGES_ALPHA 0.1

typedef struct images {
    dataset data;
    partition share;
    model net;
    tensor_list params, grads;
    workspace *space;
    float *x;
    uint8_t *y;
    uint64_t seed;
    size_t tests;
} images;

static inline void images_to_floats(const images *p, const double *x) {
    for (size_t k = 0; k < p->net.tensors; k++)
        for (size_t i = 0; i < p->net.tensor[k].count; i++) p->params.tensor[k][i] = (float)*x++;
}

static inline void images_to_doubles(const images *p, const tensor_list *from, double *x) {
    for (size_t k = 0; k < p->net.tensors; k++)
        for (size_t i = 0; i < p->net.tensor[k].count; i++) *x++ = (double)from->tensor[k][i];
}

static inline void images_start(const task *t, double *x) {
    images *p = (images *)t->self;
    model_init(&p->net, &p->params, p->seed);
    images_to_doubles(p, &p->params, x);
}

static inline void images_gradient(const task *t, uint32_t worker, uint64_t seed, uint64_t step, const double *x,
                                   double *g) {
    images *p = (images *)t->self;
    rng r = rng_make(seed ^ rng_mix(step + 1), DRAW_BATCH, worker);
    uint32_t index[IMAGES_BATCH];
    size_t right = 0;
    for (size_t i = 0; i < IMAGES_BATCH; i++)
        index[i] = p->share.index[worker][rng_below(&r, (uint32_t)p->share.count[worker])];
    dataset_gather(&p->data, &p->data.train, index, IMAGES_BATCH, p->x, p->y);
    images_to_floats(p, x);
    model_batch(&p->net, p->space, &p->params, p->x, p->y, IMAGES_BATCH, &p->grads, &right);
    images_to_doubles(p, &p->grads, g);
}

static inline double images_value(const task *t, const double *x) {
    images *p = (images *)t->self;
    size_t right = 0;
    images_to_floats(p, x);
    for (size_t at = 0; at < p->tests; at += IMAGES_BATCH) {
        uint32_t index[IMAGES_BATCH];
        const size_t n = p->tests - at < IMAGES_BATCH ? p->tests - at : IMAGES_BATCH;
        for (size_t i = 0; i < n; i++) index[i] = (uint32_t)(at + i);
        dataset_gather(&p->data, &p->data.test, index, n, p->x, p->y);
        model_batch(&p->net, p->space, &p->params, p->x, p->y, n, NULL, &right);
    }
    return 1.0 - (double)right / (double)p->tests;
}

/* folder NULL: the program's own glyphs. */
static inline void images_open(task *t, const char *folder, uint32_t workers, uint64_t seed) {
    images *p = (images *)new_array(1, sizeof *p);
    double *x;
    if (folder)
        dataset_load(&p->data, folder);
    else
        glyphs_make(&p->data, GLYPH_TRAIN, GLYPH_TEST, seed);
    dataset_normalise(&p->data);
    partition_make(&p->share, &p->data, workers, IMAGES_ALPHA, seed);
    model_make(&p->net, MODEL_MLP, IMAGES_HIDDEN, &p->data);
    p->params = tensors_new(&p->net);
    p->grads = tensors_new(&p->net);
    p->space = workspace_new(&p->net, IMAGES_BATCH);
    p->x = new_floats(IMAGES_BATCH * p->data.features);
    p->y = (uint8_t *)new_array(IMAGES_BATCH, 1);
    p->seed = seed;
    p->tests = p->data.test.count < IMAGES_TEST ? p->data.test.count : IMAGES_TEST;
    memset(t, 0, sizeof *t);
    t->dim = p->net.parameters;
    t->workers = workers;
    t->self = p;
    t->start = images_start;
    t->gradient = images_gradient;
    t->value = images_value;
    x = (double *)new_array(t->dim, sizeof *x);
    t->start(t, x);
    t->first = t->value(t, x);
    free(x);
}

static inline void images_close(task *t) {
    images *p = (images *)t->self;
    partition_free(&p->share);
    dataset_free(&p->data);
    tensors_free(&p->net, &p->params);
    tensors_free(&p->net, &p->grads);
    workspace_free(p->space);
    free(p->x);
    free(p->y);
    free(p);
}

/* ---- text ---- */

/* A table of vectors for characters, those of the last few side by side, one hidden layer, softmax. */
enum { TEXT_BEFORE = 8, TEXT_VECTOR = 8, TEXT_HIDDEN = 64, TEXT_BATCH = 32, TEXT_TEST = 2048, TEXT_MOST = 256 };
enum { TEXT_IN = TEXT_BEFORE * TEXT_VECTOR };

typedef struct text_task {
    uint8_t *at;                    /* characters by number, 0 .. classes - 1 */
    size_t count, trained, classes; /* the first `trained` are for training */
    uint32_t workers;
    uint64_t seed;
    float *params, *grads; /* table (classes x vector), w1, b1, w2, b2 */
    float *in, *hidden, *logits, *d_in, *d_hidden, *d_logits;
} text_task;

typedef struct text_parts {
    float *table, *w1, *b1, *w2, *b2;
} text_parts;

static inline size_t text_dim(const text_task *p) {
    return p->classes * TEXT_VECTOR + TEXT_IN * TEXT_HIDDEN + TEXT_HIDDEN + TEXT_HIDDEN * p->classes + p->classes;
}

static inline text_parts text_split(const text_task *p, float *all) {
    text_parts q;
    q.table = all;
    q.w1 = q.table + p->classes * TEXT_VECTOR;
    q.b1 = q.w1 + TEXT_IN * TEXT_HIDDEN;
    q.w2 = q.b1 + TEXT_HIDDEN;
    q.b2 = q.w2 + TEXT_HIDDEN * p->classes;
    return q;
}

/* Loss summed over the characters at `where`; with `grads`, the gradient of their mean. */
static inline double text_batch(text_task *p, const size_t *where, size_t n, int grads) {
    const text_parts q = text_split(p, p->params), d = text_split(p, p->grads);
    uint8_t label[TEXT_BATCH];
    size_t right = 0;
    double loss;
    for (size_t i = 0; i < n; i++) {
        label[i] = p->at[where[i]];
        for (size_t c = 0; c < TEXT_BEFORE; c++)
            memcpy(p->in + i * TEXT_IN + c * TEXT_VECTOR, q.table + p->at[where[i] - 1 - c] * TEXT_VECTOR,
                   TEXT_VECTOR * sizeof(float));
    }
    dense_forward(n, TEXT_IN, TEXT_HIDDEN, p->in, q.w1, q.b1, p->hidden);
    relu_forward(n * TEXT_HIDDEN, p->hidden);
    dense_forward(n, TEXT_HIDDEN, p->classes, p->hidden, q.w2, q.b2, p->logits);
    loss = softmax_loss(n, p->classes, p->logits, label, grads ? p->d_logits : NULL, &right);
    if (!grads) return loss;
    dense_backward(n, TEXT_HIDDEN, p->classes, p->hidden, q.w2, p->d_logits, d.w2, d.b2, p->d_hidden);
    relu_backward(n * TEXT_HIDDEN, p->hidden, p->d_hidden);
    dense_backward(n, TEXT_IN, TEXT_HIDDEN, p->in, q.w1, p->d_hidden, d.w1, d.b1, p->d_in);
    memset(d.table, 0, p->classes * TEXT_VECTOR * sizeof(float));
    for (size_t i = 0; i < n; i++)
        for (size_t c = 0; c < TEXT_BEFORE; c++)
            for (size_t k = 0; k < TEXT_VECTOR; k++)
                d.table[p->at[where[i] - 1 - c] * TEXT_VECTOR + k] += p->d_in[i * TEXT_IN + c * TEXT_VECTOR + k];
    return loss;
}

static inline void text_start(const task *t, double *x) {
    const text_task *p = (const text_task *)t->self;
    rng r = rng_make(p->seed, RNG_INIT, 0);
    for (size_t k = 0; k < t->dim; k++) {
        const double u = 2.0 * rng_uniform(&r) - 1.0;
        const size_t w1 = p->classes * TEXT_VECTOR, b1 = w1 + TEXT_IN * TEXT_HIDDEN, w2 = b1 + TEXT_HIDDEN;
        const size_t b2 = w2 + TEXT_HIDDEN * p->classes;
        x[k] = k < w1 ? u : k < b1 ? u * sqrt(6.0 / TEXT_IN) : k < w2 || k >= b2 ? 0.0 : u * sqrt(1.0 / TEXT_HIDDEN);
    }
}

static inline void text_gradient(const task *t, uint32_t worker, uint64_t seed, uint64_t step, const double *x,
                                 double *g) {
    text_task *p = (text_task *)t->self;
    rng r = rng_make(seed ^ rng_mix(step + 1), DRAW_BATCH, worker);
    const size_t each = p->trained / p->workers;
    size_t where[TEXT_BATCH];
    for (size_t i = 0; i < TEXT_BATCH; i++)
        where[i] = worker * each + TEXT_BEFORE + rng_below(&r, (uint32_t)(each - TEXT_BEFORE));
    for (size_t k = 0; k < t->dim; k++) p->params[k] = (float)x[k];
    text_batch(p, where, TEXT_BATCH, 1);
    for (size_t k = 0; k < t->dim; k++) g[k] = (double)p->grads[k];
}

/* At places spread evenly over what is held out. */
static inline double text_value(const task *t, const double *x) {
    text_task *p = (text_task *)t->self;
    const size_t rest = p->count - p->trained - TEXT_BEFORE;
    double loss = 0.0;
    for (size_t k = 0; k < t->dim; k++) p->params[k] = (float)x[k];
    for (size_t i = 0; i < TEXT_TEST; i += TEXT_BATCH) {
        size_t where[TEXT_BATCH];
        for (size_t k = 0; k < TEXT_BATCH; k++) where[k] = p->trained + TEXT_BEFORE + (i + k) * rest / TEXT_TEST;
        loss += text_batch(p, where, TEXT_BATCH, 0);
    }
    return loss / TEXT_TEST;
}

static inline void text_open(task *t, const char *file, uint32_t workers, uint64_t seed) {
    text_task *p = (text_task *)new_array(1, sizeof *p);
    FILE *f = fopen(file, "rb");
    uint8_t number[TEXT_MOST] = {0};
    double *x;
    long size;
    int used[TEXT_MOST] = {0};
    if (!f || fseek(f, 0, SEEK_END) || (size = ftell(f)) < 0 || fseek(f, 0, SEEK_SET))
        bad_input("%s: it cannot be read", file);
    p->count = (size_t)size;
    if (p->count < (workers + 1) * 1000) bad_input("%s: %zu bytes are too few for %u workers", file, p->count, workers);
    p->at = (uint8_t *)new_array(p->count, 1);
    if (fread(p->at, 1, p->count, f) != p->count) bad_input("%s: it cannot be read", file);
    fclose(f);
    for (size_t i = 0; i < p->count; i++) used[p->at[i]] = 1;
    for (size_t i = 0; i < TEXT_MOST; i++) {
        number[i] = (uint8_t)p->classes;
        p->classes += (size_t)used[i];
    }
    for (size_t i = 0; i < p->count; i++) p->at[i] = number[p->at[i]];
    p->trained = p->count / 10 * 9;
    p->workers = workers;
    p->seed = seed;
    p->params = new_floats(text_dim(p));
    p->grads = new_floats(text_dim(p));
    p->in = new_floats(TEXT_BATCH * TEXT_IN);
    p->d_in = new_floats(TEXT_BATCH * TEXT_IN);
    p->hidden = new_floats(TEXT_BATCH * TEXT_HIDDEN);
    p->d_hidden = new_floats(TEXT_BATCH * TEXT_HIDDEN);
    p->logits = new_floats(TEXT_BATCH * p->classes);
    p->d_logits = new_floats(TEXT_BATCH * p->classes);
    memset(t, 0, sizeof *t);
    t->dim = text_dim(p);
    t->workers = workers;
    t->self = p;
    t->start = text_start;
    t->gradient = text_gradient;
    t->value = text_value;
    x = (double *)new_array(t->dim, sizeof *x);
    t->start(t, x);
    t->first = t->value(t, x);
    free(x);
}

static inline void text_close(task *t) {
    text_task *p = (text_task *)t->self;
    float *const all[] = {p->params, p->grads, p->in, p->d_in, p->hidden, p->d_hidden, p->logits, p->d_logits};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) free(all[i]);
    free(p->at);
    free(p);
}

#endif
