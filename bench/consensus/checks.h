/* SPDX-License-Identifier: MIT
 * checks.h: what must hold whatever is learnt. The rules are held against other lines than those of subspace.h: the
 * plain mean in the order of ranks, and the published algorithm written down once more, in double. */
#ifndef CONSENSUS_CHECKS_H
#define CONSENSUS_CHECKS_H

#include "consensus/study.h"

#include "table.h"

enum { CHECK_SEED = 9001, CHECK_STEPS = 12 };

static inline void check_row(study *s, table *t, const char *what, double worst, double allowed) {
    const int met = worst <= allowed; /* NaN is not */
    table_row(t);
    table_cell(t, "%s", what);
    table_cell(t, "%.1e", worst);
    table_cell(t, "%.1e", allowed);
    table_cell(t, "%s", met ? "yes" : "NO");
    s->misses += !met;
}

/* Largest difference, by the largest value. */
static inline double check_apart(size_t n, const float *a, const double *b) {
    double most = 0.0, largest = 0.0;
    for (size_t k = 0; k < n; k++) {
        const double apart = fabs((double)a[k] - b[k]);
        if (!(apart <= most)) most = apart; /* NaN stays */
        largest = fmax(largest, fabs(b[k]));
    }
    return most / largest;
}

static inline const rule *check_gradients(aggregator *a, task *t, size_t m, uint32_t workers, float *at) {
    aggregator_open(a, &rules[m], workers, t->tensors, t->tensor);
    t->init(t, at, CHECK_SEED);
    return a->of;
}

static inline int rule_unscaled(size_t m) {
    return m == UNIT || m == PUBLISHED;
}

/* All workers have the same gradient: it comes out, or its direction. */
static inline double check_equal(task *t, size_t m, float *at) {
    aggregator a;
    const uint32_t workers = 8;
    check_gradients(&a, t, m, workers, at);
    double *want = (double *)new_array(a.n, sizeof *want);
    for (uint32_t i = 0; i < workers; i++) t->gradient(t, at, CHECK_SEED, 0, 0, 8, a.g[i]);
    for (size_t k = 0; k < a.n; k++) want[k] = (double)a.g[0][k];
    const double norm = sqrt(dot_of(a.n, want, want));
    for (size_t k = 0; rule_unscaled(m) && k < a.n; k++) want[k] /= norm;
    double apart = (double)NAN;
    if (aggregator_apply(&a)) apart = check_apart(a.n, a.psi, want);
    free(want);
    aggregator_close(&a);
    return apart;
}

/* subspace.h's mean against a sum in the order of ranks, in float: elements whose bits differ. */
static inline double check_mean(task *t, uint32_t workers, float *at) {
    aggregator a;
    double wrong = 0.0;
    check_gradients(&a, t, MEAN, workers, at);
    const float each = 1.0f / (float)workers;
    for (uint32_t i = 0; i < workers; i++) t->gradient(t, at, CHECK_SEED, 1, i, 4, a.g[i]);
    if (!aggregator_apply(&a)) wrong = (double)NAN;
    for (size_t k = 0; k < a.n; k++) {
        float sum = each * a.g[0][k];
        for (uint32_t i = 1; i < workers; i++) sum += each * a.g[i][k];
        wrong += memcmp(&sum, &a.psi[k], sizeof sum) != 0;
    }
    aggregator_close(&a);
    return wrong;
}

/* The published algorithm, line by line, without scaling, and with what subspace.h says of weights whose sum is nothing
 * to divide by; *slots: its state. Returns whether the sum was such. */
static inline int plain_adacons(const aggregator *a, double momentum, int forward, int fresh, double *slots,
                                double *psi) {
    double sum[RULE_WORKERS] = {0}, norm[RULE_WORKERS], alpha[RULE_WORKERS], weight[RULE_WORKERS], total = 0.0,
           size = 0.0;
    uint32_t order[RULE_WORKERS];
    const uint32_t n = a->workers;
    for (uint32_t i = 0; i < n; i++) {
        norm[i] = 0.0;
        for (size_t k = 0; k < a->n; k++) {
            sum[i] += (double)a->g[i][k] * a->mean[k];
            norm[i] += (double)a->g[i][k] * (double)a->g[i][k];
        }
        norm[i] = sqrt(norm[i]) + 1e-8;
        alpha[i] = sum[i] / norm[i];
        uint32_t at = i; /* sorted by insertion; equal ones stay in the order of ranks */
        for (; at > 0 && alpha[order[at - 1]] > alpha[i]; at--) order[at] = order[at - 1];
        order[at] = i;
    }
    for (uint32_t k = 0; k < n; k++)
        slots[k] = fresh ? alpha[order[k]] : momentum * slots[k] + (1.0 - momentum) * alpha[order[k]];
    for (uint32_t k = 0; k < n; k++)
        if (forward)
            weight[k] = slots[order[k]];
        else
            weight[order[k]] = slots[k];
    for (uint32_t i = 0; i < n; i++) total += weight[i], size += fabs(weight[i]);
    const int none = forward ? total == 0.0 : !(total > 1e-6 * size);
    for (uint32_t i = 0; none && i < n; i++) weight[i] = 1.0;
    if (none) total = n;
    memset(psi, 0, a->n * sizeof *psi);
    for (uint32_t i = 0; i < n; i++)
        for (size_t k = 0; k < a->n; k++) psi[k] += weight[i] / total / norm[i] * (double)a->g[i][k];
    return none;
}

/* Over some steps of changing gradients, from batches of unequal sizes, every third time with a long one against the
 * others: then also the fallbacks are met, `fallbacks` times. */
static inline double check_plain(task *t, size_t m, uint32_t workers, float *at, int *fallbacks) {
    aggregator a;
    double slots[RULE_WORKERS] = {0}, worst = 0.0;
    check_gradients(&a, t, m, workers, at);
    double *want = (double *)new_array(a.n, sizeof *want);
    for (uint32_t step = 0; step < CHECK_STEPS; step++) {
        for (uint32_t i = 0; i < workers; i++) {
            t->gradient(t, at, CHECK_SEED, step, i, 2 + 3 * (size_t)i, a.g[i]);
            for (size_t k = 0; step % 3 == 2 && i + 1 == workers && k < a.n; k++) a.g[i][k] *= -100.0f;
        }
        if (!aggregator_apply(&a)) worst = (double)NAN;
        *fallbacks +=
            plain_adacons(&a, a.of->how.momentum, a.of->how.assignment == SUBSPACE_FORWARD, !step, slots, want);
        if (rule_projects(a.of)) {
            const double along = dot_of(a.n, want, a.mean);
            double length = dot_of(a.n, a.mean, a.mean) / along;
            if (along <= 0.0) { /* as long as the gradients are */
                length = 0.0;
                for (uint32_t i = 0; i < workers; i++) length += sqrt(dot_of(a.n, a.wide[i], a.wide[i])) / workers;
                ++*fallbacks;
            }
            for (size_t k = 0; k < a.n; k++) want[k] *= length;
        }
        const double apart = check_apart(a.n, a.psi, want);
        if (!(apart <= worst)) worst = apart;
    }
    free(want);
    aggregator_close(&a);
    return worst;
}

/* One worker is SGD, with its gradient or, for rules that do not scale, with the direction of it. Not Adam: a gradient
 * that is nothing but rounding, as of keys' biases, becomes a step of full length there. */
static inline double check_alone(const task *of, size_t m, float *at) {
    task copy = *of, *t = &copy;
    cell c;
    run_result r;
    optimiser o;
    float *g = new_floats(t->parameters), *x = new_floats(t->parameters);
    double *want = (double *)new_array(t->parameters, sizeof *want);
    copy.adam = 0;
    copy.rate = 0.05;
    memset(&c, 0, sizeof c);
    c.of = t;
    c.workers = 1;
    c.batch = 16;
    c.steps = CHECK_STEPS;
    const run_desc d = cell_run(&c, m, t->rate, CHECK_SEED);
    training_run(&r, &d, at);
    optimiser_open(&o, t);
    t->init(t, x, CHECK_SEED);
    for (size_t step = 0; step < CHECK_STEPS; step++) {
        t->gradient(t, x, CHECK_SEED, step, 0, 16, g);
        for (size_t k = 0; k < t->parameters; k++) want[k] = (double)g[k];
        const double norm = sqrt(dot_of(t->parameters, want, want));
        for (size_t k = 0; rule_unscaled(m) && k < t->parameters; k++) g[k] = (float)((double)g[k] / norm);
        optimiser_step(&o, x, g, rate_at(&d, step));
    }
    optimiser_close(&o);
    for (size_t k = 0; k < t->parameters; k++) want[k] = (double)x[k];
    const double apart = check_apart(t->parameters, at, want);
    free(g);
    free(x);
    free(want);
    return apart;
}

/* Elements whose bits differ between two runs. */
static inline double check_runs(const run_desc *d, const run_desc *e, float *at) {
    const size_t n = d->of->parameters;
    float *x = new_floats(n);
    double wrong = 0.0;
    run_result r;
    training_run(&r, d, at);
    training_run(&r, e, x);
    for (size_t k = 0; k < n; k++) wrong += memcmp(&x[k], &at[k], sizeof *x) != 0;
    free(x);
    return wrong;
}

/* Of the task's gradients at its initial parameters, and of short runs. */
static inline void check_task(study *s, task *t) {
    static const size_t plain[] = {A0, A9, A99, PUBLISHED, F0, F9, F99};
    float *at = new_floats(t->parameters);
    double worst = 0.0, alone = 0.0, wrong = 0.0;
    int fallbacks = 0;
    char what[160];
    table *k = table_new("what|>worst|>allowed|met");
    for (size_t m = 0; m < RULES; m++) {
        const double v = check_equal(t, m, at);
        if (!(v <= worst)) worst = v;
    }
    check_row(s, k, "8 workers with the same gradient: it comes out, by every rule (its direction, unscaled)", worst,
              1e-6);
    for (uint32_t n = 1; n <= 32; n *= 2) wrong += check_mean(t, n, at);
    check_row(s, k, "elements of SUBSPACE_MEAN that are not the mean in the order of ranks, 1 to 32 workers", wrong, 0);
    worst = 0.0;
    for (size_t i = 0; i < sizeof plain / sizeof *plain; i++)
        for (uint32_t n = 2; n <= 9; n += 1) {
            const double v = check_plain(t, plain[i], n, at, &fallbacks);
            if (!(v <= worst)) worst = v;
        }
    snprintf(what, sizeof what,
             "AdaCons against the published steps in double, both assignments, 2 to 9 workers, 12 rounds, %d fallbacks",
             fallbacks);
    check_row(s, k, what, fallbacks ? worst : (double)NAN, 5e-6);
    for (size_t m = 0; m < RULES; m++) {
        const double v = check_alone(t, m, at);
        if (!(v <= alone)) alone = v;
        if (m == MEAN) check_row(s, k, "one worker, the mean: the optimiser alone", v, 0);
    }
    check_row(s, k, "one worker, every rule: likewise, or with the gradient's direction, to rounding", alone, 1e-4);
    cell c;
    memset(&c, 0, sizeof c);
    c.of = t;
    c.workers = 2;
    c.batch = 4;
    c.steps = CHECK_STEPS;
    const run_desc d = cell_run(&c, A9, t->rate, CHECK_SEED), e = cell_run(&c, F9, t->rate, CHECK_SEED);
    check_row(s, k, "two workers: parameters that the assignments differ in", check_runs(&d, &e, at), 0);
    check_row(s, k, "the same seed again: parameters that differ", check_runs(&d, &d, at), 0);
    report_say(&s->out, "Checks, %s (differences by the largest value):\n\n", t->title);
    table_print(k, &s->out);
    free(at);
}

/* Of all runs that there are. */
static inline void check_rows(study *s) {
    double sum = 0.0, projection = 0.0;
    table *t = table_new("what, over all runs|>worst|>allowed|met");
    for (size_t i = 0; i < s->rows.count; i++) {
        const run_result *r = &s->rows.row[i].result;
        if (!(r->worst_sum <= sum)) sum = r->worst_sum;
        if (!(r->worst_projection <= projection) && !r->diverged) projection = r->worst_projection;
    }
    check_row(s, t, "sum of AdaCons's weights, less 1", sum, 1e-9);
    /* psi is rounded to floats: where it is nearly orthogonal to the mean, by as much more of what is left of it */
    check_row(s, t, "component along the mean, by the mean's length, less 1 (where scaled to it)", projection, 1e-3);
    table_print(t, &s->out);
}

#endif
