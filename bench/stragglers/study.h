/* SPDX-License-Identifier: MIT
 * study.h: what the parts of the study have in common: settings, rows, tables of means with their spread, checks. */
#ifndef STRAGGLERS_STUDY_H
#define STRAGGLERS_STUDY_H

#include "methods.h"

#include "machine.h"
#include "report.h"
#include "table.h"
#include "train/plot.h"

enum { MOST_SEEDS = 20, MOST_RATES = 3 };

typedef struct study {
    uint64_t seed, seeds;
    int quick;
    const char *images, *text; /* folder; file; NULL: not given */
    FILE *csv;
    char stem[REPORT_PATH]; /* of the pictures' names; empty: none */
    report out;
    machine machine;
    int misses;
    double worst_leak; /* of all runs of an ideal rule */
} study;

/* Mean and standard deviation of those that are finite. */
typedef struct spread {
    double mean, sd;
    size_t reached, of;
} spread;

static inline spread spread_of(const double *v, size_t n) {
    spread s = {0.0, 0.0, 0, n};
    for (size_t i = 0; i < n; i++)
        if (isfinite(v[i])) {
            s.mean += v[i];
            s.reached++;
        }
    s.mean /= (double)s.reached;
    for (size_t i = 0; i < n; i++)
        if (isfinite(v[i])) s.sd += (v[i] - s.mean) * (v[i] - s.mean);
    s.sd = s.reached > 1 ? sqrt(s.sd / (double)(s.reached - 1)) : (double)NAN;
    return s;
}

/* "281.5 +- 3.2"; "never"; "281.5 (1 of 3)" */
static inline void cell_spread(table *t, spread s, int decimals) {
    if (!s.reached)
        table_cell(t, s.of ? "never" : "-");
    else if (s.reached < s.of)
        table_cell(t, "%.*f (%zu of %zu)", decimals, s.mean, s.reached, s.of);
    else if (s.reached > 1)
        table_cell(t, "%.*f +- %.*f", decimals, s.mean, decimals, s.sd);
    else
        table_cell(t, "%.*f", decimals, s.mean);
}

static inline void cell_number(table *t, double v, int decimals) {
    if (isfinite(v))
        table_cell(t, "%.*f", decimals, v);
    else
        table_cell(t, "-");
}

/* Whether a goal is met is counted and said. */
static inline const char *judge(study *s, int met) {
    s->misses += !met;
    return met ? "yes" : "NO";
}

static const char csv_head[] =
    "study,rule,workers,straggling,eta,seed,t_mean,t_all,gradients,rate,idle,models_sent,averagings,neighbours,epochs,"
    "plateau,age_seconds,age_writes,control_bytes\n";

/* One run, as a row. */
static inline void study_row(study *s, const char *what, const char *rule, const trial *t, const outcome *o) {
    json *j = &s->out.rows;
    const double per_step = o->steps ? (double)o->control_bytes / (double)o->steps : 0.0;
    if (s->csv)
        fprintf(s->csv, "%s,%s,%u,%g,%g,%llu,%g,%g,%g,%g,%g,%g,%g,%g,%g,%g,%g,%g,%g\n", what, rule, t->task->workers,
                t->pace->probability, t->eta, (unsigned long long)t->seed, o->t_mean, o->t_all, o->gradients, o->rate,
                o->idle, o->sent, o->averagings, o->averaged, o->epochs, o->plateau, o->age_seconds, o->age_writes,
                per_step);
    json_line_begin(j);
    json_text(j, "bench", "stragglers");
    json_text(j, "date", s->machine.date);
    json_text(j, "study", what);
    json_text(j, "rule", rule);
    json_integer(j, "workers", t->task->workers);
    json_number(j, "straggling", t->pace->probability);
    json_number(j, "eta", t->eta);
    json_integer(j, "seed", (long long)t->seed);
    json_number(j, "t_mean", o->t_mean);
    json_number(j, "t_all", o->t_all);
    json_number(j, "gradients", o->gradients);
    json_number(j, "rate", o->rate);
    json_number(j, "idle", o->idle);
    json_number(j, "models_sent", o->sent);
    json_number(j, "averagings", o->averagings);
    json_number(j, "neighbours", o->averaged);
    json_number(j, "epochs", o->epochs);
    if (isfinite(o->plateau)) json_number(j, "plateau", o->plateau);
    json_number(j, "age_seconds", o->age_seconds);
    json_number(j, "age_writes", o->age_writes);
    json_number(j, "control_bytes", per_step);
    json_line_end(j);
    s->worst_leak = fmax(s->worst_leak, o->leak);
}

/* A trial on the reference page's terms; task, graph and pace are the caller's. */
static inline trial trial_of(const task *k, const weft_graph *g, const weft_pace *p, uint64_t seed, double eta) {
    trial t;
    memset(&t, 0, sizeof t);
    t.task = k;
    t.graph = g;
    t.pace = p;
    t.seed = seed;
    t.eta = eta;
    t.cost = 0.05;
    t.goal = task_goal(k, 0.02);
    t.interval = 0.25;
    t.horizon = 4000.0;
    return t;
}

/* The pictures' names: STEM, what, ".svg". */
static inline void study_picture(study *s, const char *what, const char *title, size_t count, const plot_panel *panel) {
    char at[REPORT_PATH + 64];
    if (!s->stem[0]) return;
    snprintf(at, sizeof at, "%s%s.svg", s->stem, what);
    plot_panels(at, title, count, panel);
    fprintf(stderr, "written: %s\n", at);
}

#endif
