/* SPDX-License-Identifier: MIT
 * images.h: the problem that is not convex: a perceptron on a few thousand images, and how flat the loss is where a run
 * has come to: the largest eigenvalue and the trace of the training loss's Hessian. */
#ifndef FLATNESS_IMAGES_H
#define FLATNESS_IMAGES_H

#include "problem.h"

#include "heterogeneity/learning.h"

enum { IMAGES_BATCH = 32, IMAGES_TEST = 4000, TRACE_DRAWS = 8 };

typedef struct images {
    problem p; /* first: a problem is one of these */
    dataset data;
    learner l;
    size_t train, tests, held_out;
    uint32_t *pool; /* the images that are trained on, then those held out, which step sizes are tuned by */
    int tuning;
    float *x;
    uint8_t *y;
} images;

static inline void images_first(problem *p, tensor_list *at, uint64_t seed) {
    model_init(&((images *)p)->l.net, at, seed);
}

static inline double images_gradient(problem *p, const tensor_list *at, uint64_t seed, uint32_t rank, uint64_t step,
                                     tensor_list *into) {
    images *m = (images *)p;
    uint32_t index[IMAGES_BATCH];
    size_t right = 0;
    problem_draw(p, seed, rank, step, m->train, index);
    for (size_t i = 0; i < IMAGES_BATCH; i++) index[i] = m->pool[index[i]];
    dataset_gather(&m->data, &m->data.train, index, IMAGES_BATCH, m->x, m->y);
    return model_batch(&m->l.net, m->l.space, at, m->x, m->y, IMAGES_BATCH, into, &right) / IMAGES_BATCH;
}

/* Error on images that nobody trains on, %. */
static inline double images_look(problem *p, const tensor_list *at) {
    images *m = (images *)p;
    double accuracy;
    const double loss = m->tuning
                            ? learner_loss(&m->l, at, &m->data.train, m->pool + m->train, m->held_out, &accuracy, NULL)
                            : learner_loss(&m->l, at, &m->data.test, NULL, m->tests, &accuracy, NULL);
    return isfinite(loss) ? 100 * (1 - accuracy) : (double)NAN;
}

/* folder NULL: drawn digits. */
static inline void images_open(images *m, const char *folder, size_t train) {
    rng r = rng_make(1, STREAM_POOL, 0);
    memset(m, 0, sizeof *m);
    data_open(&m->data, folder);
    if (m->data.train.count < 2 * train)
        bad_input("--train: at most half of the %zu images that there are, got %zu", m->data.train.count, train);
    learner_open(&m->l, &m->data);
    m->train = train;
    m->held_out = train;
    m->tests = m->data.test.count < IMAGES_TEST ? m->data.test.count : IMAGES_TEST;
    m->pool = (uint32_t *)new_array(m->data.train.count, sizeof *m->pool);
    for (size_t i = 0; i < m->data.train.count; i++) m->pool[i] = (uint32_t)i;
    rng_shuffle(&r, m->pool, m->data.train.count);
    m->x = new_floats(IMAGES_BATCH * m->data.features);
    m->y = (uint8_t *)new_array(IMAGES_BATCH, 1);
    m->p.tensors = m->l.net.tensors;
    for (size_t t = 0; t < m->p.tensors; t++) m->p.count[t] = m->l.net.tensor[t].count;
    m->p.parameters = m->l.net.parameters;
    m->p.batch = IMAGES_BATCH;
    m->p.momentum = 0.9;
    m->p.first = images_first;
    m->p.gradient = images_gradient;
    m->p.look = images_look;
}

static inline void images_close(images *m) {
    learner_close(&m->l);
    dataset_free(&m->data);
    free(m->pool);
    free(m->x);
    free(m->y);
}

/* Where a run has come to. */
typedef struct place {
    double loss, gradient, eigenvalue, trace; /* of the training loss */
} place;

/* The trace of the Hessian's part that belongs to the parameters from `from` on. Hutchinson: the mean of z H z over
 * directions z of +1 and -1; products are differences of gradients. */
static inline double images_trace(images *m, const tensor_list *at, double h, size_t from, int draws, uint64_t seed) {
    learner *l = &m->l;
    const size_t d = l->net.parameters;
    const double length = sqrt((double)(d - from));
    rng r = rng_make(seed, STREAM_TRACE, 0);
    double trace = 0;
    memset(l->direction, 0, d * sizeof *l->direction);
    for (int k = 0; k < draws; k++) {
        for (size_t i = from; i < d; i++) l->direction[i] = rng_uniform(&r) < 0.5 ? -1 / length : 1 / length;
        learner_loss(l, learner_move(l, at, h, l->direction), &m->data.train, m->pool, m->train, NULL, l->product);
        learner_loss(l, learner_move(l, at, -h, l->direction), &m->data.train, m->pool, m->train, NULL, l->sum);
        for (size_t i = from; i < d; i++) trace += l->direction[i] * (l->product[i] - l->sum[i]) / (2 * h);
    }
    return trace / draws * (double)(d - from);
}

static inline place images_place(images *m, const tensor_list *at, uint64_t seed) {
    place w;
    learner *l = &m->l;
    w.loss = learner_loss(l, at, &m->data.train, m->pool, m->train, NULL, l->sum);
    w.gradient = sqrt(vector_dot(l->net.parameters, l->sum, l->sum));
    w.eigenvalue = learner_eigenvalue(l, at, m->pool, m->train, 1e-3, seed);
    w.trace = images_trace(m, at, 1e-2, 0, TRACE_DRAWS, seed);
    return w;
}

#endif
