/* SPDX-License-Identifier: MIT */
#include "run.h"

#include "adam.h"
#include "train/rng.h"
#include "train/util.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { RNG_GENERATE = 103, WINDOWS = 128 /* of the validation part, at each look */ };

/* ---- A worker's training ---- */

typedef struct worker {
    const options *o;
    const text *text;
    const model *model;
    workspace *scratch;
    size_t share; /* samples of a batch for each worker */
    float *params, *grads, *part, *common;
    adam adam;
    uint8_t *x, *y;
} worker;

static void worker_init(worker *w, const options *o, const text *t, const model *m, float *params) {
    w->o = o;
    w->text = t;
    w->model = m;
    w->share = o->batch / o->workers;
    w->scratch = workspace_new(m, w->share);
    w->params = params;
    w->grads = new_floats(m->parameters);
    w->part = new_floats(m->parameters);
    w->common = new_floats(m->parameters);
    adam_init(&w->adam, m->parameters, o->decay);
    w->x = new_array(w->share * o->context, 1);
    w->y = new_array(w->share * o->context, 1);
}

static void worker_free(worker *w) {
    workspace_free(w->scratch);
    free(w->grads);
    free(w->part);
    free(w->common);
    adam_free(&w->adam);
    free(w->x);
    free(w->y);
}

/* The gradient on share `rank` of a step's batch. Returns the mean loss. */
static double gradient(worker *w, size_t step, size_t rank, float *grads) {
    const size_t length = w->o->context;
    text_batch(w->text, w->o->seed, step, rank * w->share, w->share, length, w->x, w->y);
    return model_batch(w->model, w->scratch, w->params, w->x, w->y, w->share, length, grads) /
           (double)(w->share * length);
}

/* One worker with everybody's samples takes them share by share, and adds up as subspace.h does for the plain mean: in
 * the order of the workers' ranks, each share times 1 / N in float. So the two have the very same bits. */
static double gradient_of_all(worker *w, size_t step) {
    const size_t n = w->o->workers;
    const float each = 1.0f / (float)n;
    double loss = 0.0;
    for (size_t i = 0; i < n; i++) {
        loss += gradient(w, step, i, w->part) / (double)n;
        for (size_t k = 0; k < w->model->parameters; k++)
            w->grads[k] = i ? w->grads[k] + each * w->part[k] : each * w->part[k];
    }
    return loss;
}

/* Up over the first twentieth, then down to 0. */
static double rate_at(const options *o, size_t step) {
    const double rising = 1.0 + (double)o->steps / 20.0, at = (double)step + 1.0;
    return o->rate *
           (at < rising ? at / rising : ((double)o->steps - (double)step) / ((double)o->steps + 1.0 - rising));
}

static double validate(worker *w, const float *params) {
    const size_t length = w->o->context, windows = text_windows(w->text, length, WINDOWS);
    double loss = 0.0;
    for (size_t i = 0; i < windows; i += w->share) {
        const size_t n = windows - i < w->share ? windows - i : w->share;
        text_window(w->text, windows, i, n, length, w->x, w->y);
        loss += model_batch(w->model, w->scratch, params, w->x, w->y, n, length, NULL);
    }
    return loss / (double)(windows * length);
}

static void look(run_result *r, worker *w, parallel *p, size_t step, double train_loss, double seconds) {
    const options *o = w->o;
    run_point *at = &r->point[r->points++];
    parallel_model(p, w->model, w->common);
    at->samples = (uint64_t)step * o->batch;
    at->loss = validate(w, w->common);
    at->seconds = seconds;
    at->bytes = parallel_bytes(p);
    if (step)
        fprintf(stderr, "%-8s  %*zu of %zu steps  loss %.4f  validation %.4f  %.0f s left\n", RULE_NAME[r->rule], 4,
                step, o->steps, train_loss, at->loss, seconds * ((double)o->steps / (double)step - 1.0));
    if (!isfinite(at->loss)) broken("%s: the training has diverged; try a smaller --lr", RULE_NAME[r->rule]);
}

void run_train(run_result *out, rule r, const options *o, const text *t, const model *m, parallel *p, float *params) {
    worker w;
    double seconds = 0.0, loss = 0.0;
    size_t since = 0;
    memset(out, 0, sizeof *out);
    out->rule = r;
    out->workers = r == RULE_SINGLE ? 1 : o->workers;
    out->point = new_array(o->steps / o->every + 3, sizeof *out->point);
    worker_init(&w, o, t, m, params);
    model_init(m, params, o->seed);
    parallel_begin(p, r, m, params, w.grads);
    if (o->rank == 0) look(out, &w, p, 0, 0.0, 0.0);
    for (size_t step = 0; step < o->steps; step++) {
        const uint64_t begun = clock_ns();
        loss += r == RULE_SINGLE ? gradient_of_all(&w, step) : gradient(&w, step, o->rank, w.grads);
        parallel_gradients(p);
        clip(m->parameters, w.grads, 1.0);
        adam_step(&w.adam, params, w.grads, rate_at(o, step));
        parallel_step(p);
        seconds += (double)(clock_ns() - begun) * 1e-9;
        since++;
        if ((step + 1) % o->every || step + 1 == o->steps) continue;
        if (o->rank == 0) look(out, &w, p, step + 1, loss / (double)since, seconds);
        loss = 0.0;
        since = 0;
    }
    parallel_finish(p);
    if (o->rank == 0) look(out, &w, p, o->steps, loss / (double)since, seconds);
    parallel_end(p);
    worker_free(&w);
}

void run_free(run_result *r) {
    free(r->point);
}

/* ---- Text ---- */

/* A little colder than what it has learnt. */
static size_t draw(rng *r, const float *logits, size_t n) {
    const double warmth = 0.8;
    double most = (double)logits[0], sum = 0.0, at;
    for (size_t i = 1; i < n; i++) most = (double)logits[i] > most ? (double)logits[i] : most;
    for (size_t i = 0; i < n; i++) sum += exp(((double)logits[i] - most) / warmth);
    at = rng_uniform(r) * sum;
    for (size_t i = 0; i + 1 < n; i++)
        if ((at -= exp(((double)logits[i] - most) / warmth)) < 0.0) return i;
    return n - 1;
}

void run_generate(const options *o, const text *t, const model *m, const float *params, size_t count) {
    workspace *s = workspace_new(m, 1);
    uint8_t *window = new_array(m->context + 1, 1);
    rng r = rng_make(o->seed, RNG_GENERATE, 0);
    size_t length = 1;
    window[0] = t->validation[0];
    while (count-- > 0) {
        const float *logits = model_predict(m, s, params, window, length) + (length - 1) * m->vocabulary;
        const uint8_t next = (uint8_t)draw(&r, logits, m->vocabulary);
        putchar(t->symbol[next]);
        window[length] = next;
        if (length < m->context)
            length++;
        else
            memmove(window, window + 1, length);
    }
    putchar('\n');
    workspace_free(s);
    free(window);
}
