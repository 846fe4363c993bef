/* SPDX-License-Identifier: MIT
 * tell.h: what came out: tables, rows as JSON lines and as CSV, and the picture. */
#ifndef FLATNESS_TELL_H
#define FLATNESS_TELL_H

#include "cluster.h"
#include "images.h"
#include "people.h"

#include "report.h"
#include "spread.h"
#include "train/plot.h"

enum { MOST_SEEDS = 20, BUDGETS = 3, LAST = 3 };

/* After a quarter, a half and all of the time. */
static const int budget_at[BUDGETS] = {(CLUSTER_POINTS - 1) / 4, (CLUSTER_POINTS - 1) / 2, CLUSTER_POINTS - 1};

typedef struct outcome {
    double rate; /* as tuned */
    uint64_t seeds;
    run_result run[MOST_SEEDS];
    double budget[BUDGETS][MOST_SEEDS], steps[MOST_SEEDS], rounds[MOST_SEEDS], bytes[MOST_SEEDS], waited[MOST_SEEDS];
    double eigenvalue[MOST_SEEDS], trace[MOST_SEEDS], gradient[MOST_SEEDS], loss[MOST_SEEDS], reached[MOST_SEEDS];
    double rounds_to[MOST_SEEDS], bytes_to[MOST_SEEDS], steps_to[MOST_SEEDS], spread[MOST_SEEDS];
} outcome;

/* Mean of the last looks up to a point: one alone is mostly noise. */
static inline double curve_at(const run_result *r, int point) {
    double sum = 0;
    for (int k = 0; k < LAST; k++) sum += r->curve[point - k] / LAST;
    return sum;
}

/* `target`: below that it is reached; what it took until then goes by time. */
static inline void outcome_add(outcome *o, const run_result *r, const place *at, double target) {
    const uint64_t i = o->seeds++;
    int k = 0;
    o->run[i] = *r;
    for (int b = 0; b < BUDGETS; b++) o->budget[b][i] = r->diverged ? (double)NAN : curve_at(r, budget_at[b]);
    while (k < CLUSTER_POINTS && !(r->curve[k] <= target)) k++;
    const double share = k < CLUSTER_POINTS ? (double)k / (CLUSTER_POINTS - 1) : (double)NAN;
    o->reached[i] = share * r->seconds;
    o->rounds_to[i] = share * r->rounds;
    o->bytes_to[i] = share * r->bytes;
    o->steps_to[i] = share * r->steps;
    o->steps[i] = r->steps;
    o->rounds[i] = r->rounds;
    o->bytes[i] = r->bytes;
    o->waited[i] = 100 * r->waited;
    o->spread[i] = r->spread;
    o->eigenvalue[i] = at ? at->eigenvalue : (double)NAN;
    o->trace[i] = at ? at->trace : (double)NAN;
    o->gradient[i] = at ? at->gradient : (double)NAN;
    o->loss[i] = at ? at->loss : (double)NAN;
}

static inline void tell_row(report *r, FILE *csv, const char *study, const setting *s, const outcome *o) {
    const uint64_t i = o->seeds - 1;
    json *j = &r->rows;
    if (r->text) {
        json_line_begin(j);
        json_text(j, "bench", "flatness");
        json_text(j, "study", study);
        json_text(j, "rule", s->rule->name);
        json_integer(j, "workers", s->workers);
        json_number(j, "slow", s->slow);
        json_number(j, "rate", s->rate);
        json_integer(j, "seed", (long long)s->seed);
        json_begin(j, "budgets", '[');
        for (int b = 0; b < BUDGETS; b++) json_number(j, NULL, o->budget[b][i]);
        json_end(j, ']');
        json_number(j, "steps", o->steps[i]);
        json_number(j, "rounds", o->rounds[i]);
        json_number(j, "bytes", o->bytes[i]);
        json_number(j, "waited", o->waited[i]);
        json_number(j, "weights_spread", o->spread[i]);
        json_number(j, "train_loss", o->loss[i]);
        json_number(j, "gradient", o->gradient[i]);
        json_number(j, "eigenvalue", o->eigenvalue[i]);
        json_number(j, "trace", o->trace[i]);
        json_number(j, "seconds_to_target", o->reached[i]);
        json_begin(j, "curve", '[');
        for (int k = 0; k < CLUSTER_POINTS; k++) json_number(j, NULL, o->run[i].curve[k]);
        json_end(j, ']');
        json_line_end(j);
    }
    if (!csv) return;
    fprintf(csv, "%s,\"%s\",%u,%g,%g,%llu", study, s->rule->name, (unsigned)s->workers, s->slow, s->rate,
            (unsigned long long)s->seed);
    for (int b = 0; b < BUDGETS; b++) fprintf(csv, ",%g", o->budget[b][i]);
    fprintf(csv, ",%g,%g,%g,%g,%g,%g,%g,%g,%g\n", o->steps[i], o->rounds[i], o->bytes[i], o->waited[i], o->loss[i],
            o->gradient[i], o->eigenvalue[i], o->trace[i], o->reached[i]);
}

static inline FILE *tell_csv(const char *rows_at) {
    char at[REPORT_PATH];
    FILE *f;
    if (!rows_at) return NULL;
    report_path(at, rows_at, ".csv");
    f = fopen(at, "w");
    if (!f) bad_input("%s cannot be written", at);
    fputs("study,rule,workers,slow,rate,seed,budget1,budget2,budget4,steps,rounds,bytes,waited_percent,train_loss,"
          "gradient,eigenvalue,trace,seconds_to_target\n",
          f);
    return f;
}

static inline void cell_mean(table *t, const double *v, uint64_t n, int decimals) {
    const spread s = spread_of(v, n);
    if (s.n && (uint64_t)s.n < n)
        table_cell(t, "%.*f (%d of %d)", decimals, s.mean, s.n, (int)n);
    else
        cell_mean_error(t, s, decimals);
}

/* a less b, seed by seed. */
static inline spread paired(const double *a, const double *b, uint64_t n) {
    double d[MOST_SEEDS];
    for (uint64_t i = 0; i < n; i++) d[i] = a[i] - b[i];
    return spread_of(d, n);
}

/* Is a difference of which less than 0 is better decided? */
static inline const char *verdict(spread d) {
    return spread_word(d, "better", "not decided", "worse");
}

static inline void tell_curve(plot_series *l, const char *name, int colour, const outcome *o, double seconds,
                              double (*as)(double), double *x, double *y) {
    l->name = name;
    l->colour = colour;
    l->x = x;
    l->y = y;
    for (int k = 1; k < CLUSTER_POINTS; k++) {
        double sum = 0;
        for (uint64_t i = 0; i < o->seeds; i++) sum += o->run[i].curve[k];
        sum = as(sum / (double)o->seeds);
        if (!isfinite(sum)) continue;
        x[l->count] = seconds * k / (CLUSTER_POINTS - 1);
        y[l->count++] = sum;
    }
}

#endif
