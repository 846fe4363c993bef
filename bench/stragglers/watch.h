/* SPDX-License-Identifier: MIT
 * watch.h: one run of one rule: what is asked of it, what came out, and the observer in between that looks at the
 * models from outside, at regular times, and costs the run nothing. */
#ifndef STRAGGLERS_WATCH_H
#define STRAGGLERS_WATCH_H

#include "problem.h"

/* Times are seconds of virtual time: a gradient takes about one, unless its worker straggles. */
typedef struct trial {
    const task *task;
    const weft_graph *graph;
    const weft_pace *pace;
    uint64_t seed; /* of compute times, samples and partners */
    double eta;
    double cost;         /* of an averaging */
    double goal;         /* the value to be reached */
    double interval;     /* the observer looks so often, */
    double growth;       /* or at times this far apart as a share of the time; 0: no */
    double horizon;      /* the run ends there at the latest */
    double plateau_from; /* above 0: runs to the horizon; the value is averaged from here on */
    int only_mean;       /* do not ask for t_all */
    double *last;        /* NULL, or where the last parameters go (workers x dim) */
} trial;

enum { MOST_NEIGHBOURS = 16, CURVE_POINTS = 256 };

/* What a run came to. Averages are over the whole run. */
typedef struct outcome {
    double t_mean;    /* until the mean of all models has reached the goal; INFINITY: not before the horizon */
    double t_all;     /* until the mean over workers of the value of their own models has; never before t_mean */
    double gradients; /* a worker, until t_mean */
    double rate;      /* gradients a worker a second */
    double idle;      /* share of the time in which a worker does not compute */
    double sent;      /* models sent a gradient */
    double averagings,
        averaged;  /* until t_mean, or of the whole run; and of all participations, the mean number of neighbours */
    double epochs; /* in the whole run */
    double end;
    double plateau;                 /* mean share of the initial gap that is left, from plateau_from on */
    double leak;                    /* how far the mean has moved by anything but gradients, in its largest element */
    double age_seconds, age_writes; /* of the parameters at which gradients were taken, when these were applied: since
                                     * then the parameters have been written so often by somebody else */
    uint64_t neighbours[MOST_NEIGHBOURS + 1]; /* participations by neighbours; the last: so many or more */
    uint64_t control_messages, control_bytes; /* of the protocol, */
    uint64_t steps;                           /* and gradients of all workers */
    size_t points;                            /* the share of the initial gap that is left, against time */
    double time[CURVE_POINTS], share[CURVE_POINTS];
} outcome;

/* Everybody's parameters. With push-sum a model is x / weight, and some of the sum is under way. */
typedef struct fleet {
    size_t dim;
    uint32_t workers;
    double *x;
    double *weight;    /* or NULL */
    double *elsewhere; /* or NULL: the sum of what is under way or has not been taken in */
} fleet;

static inline void fleet_mean(const fleet *m, double *out) {
    if (m->elsewhere)
        memcpy(out, m->elsewhere, m->dim * sizeof *out);
    else
        memset(out, 0, m->dim * sizeof *out);
    for (uint32_t j = 0; j < m->workers; j++)
        for (size_t k = 0; k < m->dim; k++) out[k] += m->x[j * m->dim + k];
    for (size_t k = 0; k < m->dim; k++) out[k] /= m->workers;
}

static inline void fleet_own(const fleet *m, uint32_t j, double *out) {
    for (size_t k = 0; k < m->dim; k++) out[k] = m->x[j * m->dim + k] / (m->weight ? m->weight[j] : 1.0);
}

typedef struct watch {
    const trial *t;
    const fleet *m;
    outcome *out;
    double next, next_all, curve_gap, value, plateau_sum;
    uint64_t looks, averagings;
    double *scratch;
} watch;

static inline void watch_open(watch *w, const trial *t, const fleet *m, outcome *out) {
    memset(w, 0, sizeof *w);
    memset(out, 0, sizeof *out);
    w->t = t;
    w->m = m;
    w->out = out;
    w->scratch = (double *)new_array(m->dim, sizeof(double));
    w->curve_gap = t->interval;
    out->t_mean = out->t_all = (double)INFINITY;
}

/* Points of the curve: when there is no more room, every second one goes. */
static inline void watch_curve(watch *w, double at, double share) {
    outcome *o = w->out;
    if (o->points && at < o->time[o->points - 1] + w->curve_gap) return;
    if (o->points == CURVE_POINTS) {
        for (size_t i = 0; i < CURVE_POINTS / 2; i++) {
            o->time[i] = o->time[2 * i];
            o->share[i] = o->share[2 * i];
        }
        o->points = CURVE_POINTS / 2;
        w->curve_gap *= 2.0;
    }
    o->time[o->points] = at;
    o->share[o->points++] = share;
}

static inline double watch_all(watch *w) {
    double sum = 0.0;
    for (uint32_t j = 0; j < w->m->workers; j++) {
        fleet_own(w->m, j, w->scratch);
        sum += w->t->task->value(w->t->task, w->scratch);
    }
    return sum / w->m->workers;
}

/* One look; 0: the run is over. `fresh`: parameters may have changed since the last one. */
static inline int watch_look(watch *w, double at, int fresh, uint64_t gradients) {
    const task *k = w->t->task;
    outcome *o = w->out;
    if (fresh) {
        fleet_mean(w->m, w->scratch);
        w->value = k->value(k, w->scratch);
        watch_curve(w, at, (w->value - k->least) / (k->first - k->least));
    }
    if (!(w->value < k->least + 1e3 * (k->first - k->least))) return 0; /* it has diverged */
    if (w->t->plateau_from > 0.0 && at >= w->t->plateau_from) {
        w->plateau_sum += (w->value - k->least) / (k->first - k->least);
        w->looks++;
    }
    if (isinf(o->t_mean) && w->value <= w->t->goal) {
        o->t_mean = at;
        o->gradients = (double)gradients / w->m->workers;
        o->averagings = (double)w->averagings;
    }
    if (isinf(o->t_mean) || w->t->plateau_from > 0.0) return 1;
    if (w->t->only_mean || at > 100.0 + 2.5 * o->t_mean) return 0;
    /* convex: the mean of values is never below the value of the mean, so nothing is missed before */
    if (!fresh || at < w->next_all) return 1;
    w->next_all = 1.015 * at;
    if (watch_all(w) > w->t->goal) return 1;
    o->t_all = at;
    return 0;
}

/* The parameters have been what they are until `upto`. 0: the run is over. */
static inline int watch_pass(watch *w, double upto, uint64_t gradients) {
    for (int fresh = 1; w->next <= upto; fresh = 0) {
        const double at = w->next;
        w->next += fmax(w->t->interval, w->t->growth * at);
        w->out->end = at;
        if (at > w->t->horizon || !watch_look(w, at, fresh, gradients)) return 0;
    }
    return 1;
}

static inline void watch_close(watch *w) {
    w->out->plateau = w->looks ? w->plateau_sum / (double)w->looks : (double)NAN;
    free(w->scratch);
}

static inline void outcome_neighbours(outcome *o, uint32_t n) {
    o->neighbours[n < MOST_NEIGHBOURS ? n : MOST_NEIGHBOURS]++;
    o->averaged += n; /* divided by participations at the end */
}

static inline uint64_t outcome_participations(const outcome *o) {
    uint64_t n = 0;
    for (int i = 0; i <= MOST_NEIGHBOURS; i++) n += o->neighbours[i];
    return n;
}

#endif
