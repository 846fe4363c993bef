/* SPDX-License-Identifier: MIT
 * training.h: one run: so many workers with the same parameters, a gradient of each, what the rule makes of them, a
 * step of the optimiser. The step size rises over the first twentieth of the steps and falls to zero from there. */
#ifndef CONSENSUS_TRAINING_H
#define CONSENSUS_TRAINING_H

#include "consensus/rows.h"

#include "clock.h"
#include "llm/adam.h"

typedef struct optimiser {
    size_t n;
    int adam;
    double momentum;
    struct adam state;
    float *velocity;
} optimiser;

static inline void optimiser_open(optimiser *o, const task *t) {
    memset(o, 0, sizeof *o);
    o->n = t->parameters;
    o->adam = t->adam;
    o->momentum = t->momentum;
    if (o->adam)
        adam_init(&o->state, o->n, 0.0);
    else
        o->velocity = new_floats(o->n);
}

static inline void optimiser_close(optimiser *o) {
    if (o->adam) adam_free(&o->state);
    free(o->velocity);
}

static inline void optimiser_step(optimiser *o, float *params, const float *g, double rate) {
    if (o->adam) {
        adam_step(&o->state, params, g, rate);
        return;
    }
    for (size_t k = 0; k < o->n; k++) {
        o->velocity[k] = (float)o->momentum * o->velocity[k] + g[k];
        params[k] -= (float)rate * o->velocity[k];
    }
}

static inline double rate_at(const run_desc *d, size_t step) {
    const double rising = 1.0 + d->steps / 20.0, at = (double)step + 1.0;
    return d->rate * (at < rising ? at / rising : (d->steps - (double)step) / (d->steps + 1.0 - rising));
}

/* `params`, unless NULL, gets the last model. */
static inline void training_run(run_result *out, const run_desc *d, float *params) {
    task *t = d->of;
    aggregator a;
    optimiser o;
    const double begun = clock_of(CLOCK_THREAD_CPUTIME_ID);
    float *x = params ? params : new_floats(t->parameters);
    double first = 0.0, part[CURVE] = {0}, count[CURVE] = {0}, last = 0.0;
    uint32_t step = 0;
    memset(out, 0, sizeof *out);
    aggregator_open(&a, d->rule, d->workers, t->tensors, t->tensor);
    optimiser_open(&o, t);
    t->init(t, x, d->seed);
    for (; step < d->steps; step++) {
        const uint32_t bin = (uint32_t)((uint64_t)step * CURVE / d->steps);
        double loss = 0.0;
        for (uint32_t i = 0; i < d->workers; i++)
            loss += t->gradient(t, x, d->seed, step, i, d->batch, a.g[i]) / d->workers;
        if (!step) first = loss;
        if (!isfinite(loss) || loss > 1e3 * first || !aggregator_apply(&a)) break;
        part[bin] += loss;
        count[bin] += 1.0;
        out->whole += loss / d->steps;
        if (step >= d->steps - (d->steps + 9) / 10) {
            out->train += loss;
            last += 1.0;
        }
        optimiser_step(&o, x, a.psi, rate_at(d, step));
    }
    out->loss = t->measure(t, x, PART_TEST, &out->accuracy);
    out->validation = t->measure(t, x, PART_VALIDATION, &first);
    out->train /= last;
    for (int i = 0; i < CURVE; i++) out->curve[i] = part[i] / count[i];
    out->diverged = step < d->steps || !isfinite(out->loss) || !(out->validation < 1e3);
    const double rounds = (double)a.seen.rounds;
    out->apart = rule_weighs(d->rule) ? a.seen.apart / rounds : (double)NAN;
    out->negative = rule_weighs(d->rule) ? a.seen.negative / rounds : (double)NAN;
    out->along = a.seen.along / rounds;
    out->cosine = a.seen.cosine / rounds;
    out->zero_sums = (double)a.seen.zero_sums;
    out->fallbacks = (double)a.seen.fallbacks;
    out->worst_sum = a.seen.worst_sum;
    out->worst_projection = a.seen.worst_projection;
    optimiser_close(&o);
    aggregator_close(&a);
    if (!params) free(x);
    out->seconds = clock_of(CLOCK_THREAD_CPUTIME_ID) - begun;
    row_round(out);
}

#endif
