/* SPDX-License-Identifier: MIT
 * study_speedup.h: linear speed-up, which is another claim than being faster than synchronous DSGD: N workers need an
 * N-th of the gradients each. It holds where the noise of gradients decides how small steps must be, and the mean of N
 * workers' is smaller; where the slowest direction of the problem decides, more workers do not help. */
#ifndef STRAGGLERS_STUDY_SPEEDUP_H
#define STRAGGLERS_STUDY_SPEEDUP_H

#include "study.h"

enum { SPEEDUP_COUNTS = 7, SPEEDUP_SEEDS = 8, TUNING_APART = 1000 };

#define SPEEDUP_MOST 3.0 /* step size */

typedef struct speedup_case {
    const char *name, *legend, *key;
    int noisy;
    double share; /* of the initial gap: the target */
    double first; /* step size at which tuning begins with the fewest workers */
    int fixed;    /* it is not tuned */
    int from;     /* log2 of the fewest workers */
    method rule;
    const char *theirs;
} speedup_case;

static const speedup_case speedup_cases[] = {
    {"noise decides: iid, single samples; ideal", "noisy, ideal", "noisy-aau", 1, 0.01, 0.011, 0, 0, AAU_IDEAL, "-"},
    {"noise decides; protocol", "noisy, protocol", "noisy-protocol", 1, 0.01, 0.011, 0, 0, AAU_PROTOCOL, "-"},
    {"noise decides; synchronous DSGD", "noisy, DSGD", "noisy-dsgd", 1, 0.01, 0.011, 0, 0, DSGD, "-"},
    {"the time study's problem, step size 0.2; ideal", "own, fixed", "own-aau", 0, 0.02, 0.2, 1, 2, AAU_IDEAL,
     "about -0.07"},
    {"the time study's problem, tuned; ideal", "own, tuned", "own-tuned", 0, 0.02, 0.4, 0, 2, AAU_IDEAL, "-"},
};
enum { SPEEDUP_CASES = sizeof speedup_cases / sizeof *speedup_cases };

typedef struct speedup_result {
    double eta[SPEEDUP_COUNTS];
    spread gradients[SPEEDUP_COUNTS];
    double slope, slope_error;
} speedup_result;

/* Gradients a worker to the target. */
static inline double speedup_once(study *s, const speedup_case *c, method rule, uint32_t workers, uint64_t seed,
                                  double eta, int keep) {
    const weft_pace pace = pace_of(0.1, 10.0);
    const logistic_desc d = c->noisy ? logistic_noisy(workers, seed) : logistic_noniid(workers, seed);
    static outcome o;
    weft_graph graph;
    void *memory = graph_open(&graph, workers, seed);
    trial t;
    task k;
    logistic_open(&k, &d);
    t = trial_of(&k, &graph, &pace, seed, eta);
    t.goal = task_goal(&k, c->share);
    t.growth = 0.004;
    t.horizon = 60000.0;
    t.only_mean = 1;
    method_run(rule, &t, &o);
    if (keep) study_row(s, "speedup", c->key, &t, &o);
    logistic_close(&k);
    free(memory);
    return isfinite(o.t_mean) ? o.gradients : (double)INFINITY;
}

static inline double speedup_tuning(study *s, const speedup_case *c, uint32_t workers, double eta) {
    double sum = 0.0;
    for (uint64_t i = 0; i < SPEEDUP_SEEDS; i++)
        sum += speedup_once(s, c, c->rule == DSGD ? DSGD : AAU_IDEAL, workers, s->seed + TUNING_APART + i, eta, 0);
    return sum / SPEEDUP_SEEDS;
}

/* Uphill and downhill in factors of sqrt(2) from where it begins, on seeds of its own. The protocol takes what the
 * ideal rule is best with. */
static inline double speedup_tune(study *s, const speedup_case *c, uint32_t workers, double from) {
    const double factor = sqrt(2.0);
    double best = from, least = speedup_tuning(s, c, workers, best);
    for (int up = 0; up < 2; up++)
        for (;;) {
            const double eta = up ? best * factor : best / factor;
            const double v = eta <= SPEEDUP_MOST ? speedup_tuning(s, c, workers, eta) : HUGE_VAL;
            if (!(v < least)) break;
            least = v;
            best = eta;
        }
    return best;
}

/* Least squares through all seeds' points. */
static inline void speedup_slope(const double *x, const double *y, size_t n, double *slope, double *error) {
    double mx = 0, my = 0, xx = 0, xy = 0, rest = 0;
    for (size_t i = 0; i < n; i++) {
        mx += x[i] / (double)n;
        my += y[i] / (double)n;
    }
    for (size_t i = 0; i < n; i++) {
        xx += (x[i] - mx) * (x[i] - mx);
        xy += (x[i] - mx) * (y[i] - my);
    }
    *slope = xy / xx;
    for (size_t i = 0; i < n; i++) rest += pow(y[i] - my - *slope * (x[i] - mx), 2.0);
    *error = n > 2 ? sqrt(rest / (double)(n - 2) / xx) : (double)NAN;
}

static inline void speedup_case_run(study *s, const speedup_case *c, size_t counts, size_t seeds, speedup_result *r) {
    double x[SPEEDUP_COUNTS * MOST_SEEDS], y[SPEEDUP_COUNTS * MOST_SEEDS], eta = c->first;
    size_t points = 0;
    for (size_t n = (size_t)c->from; n < counts; n++) {
        const uint32_t workers = 1u << n;
        double v[MOST_SEEDS];
        fprintf(stderr, "speed-up: %s, %u workers\n", c->name, workers);
        if (c->noisy && n > (size_t)c->from) eta *= 2.0; /* what is expected to be best */
        if (!c->fixed) eta = speedup_tune(s, c, workers, eta);
        r->eta[n] = eta;
        for (uint64_t i = 0; i < seeds; i++) {
            v[i] = speedup_once(s, c, c->rule, workers, s->seed + i, eta, 1);
            if (!isfinite(v[i])) continue;
            x[points] = log(workers);
            y[points++] = log(v[i]);
        }
        r->gradients[n] = spread_of(v, seeds);
    }
    speedup_slope(x, y, points, &r->slope, &r->slope_error);
}

static inline void study_speedup(study *s) {
    static speedup_result r[SPEEDUP_CASES];
    static double x[SPEEDUP_COUNTS], y[SPEEDUP_CASES + 1][SPEEDUP_COUNTS];
    const size_t counts = s->quick ? 4 : SPEEDUP_COUNTS;
    const size_t seeds = s->quick || s->seeds > SPEEDUP_SEEDS ? (size_t)s->seeds : SPEEDUP_SEEDS;
    table *t = table_new("setting|>workers|>step size|>gradients a worker|>times fewer");
    table *slopes = table_new("setting|>slope|>standard error|>goal|>theirs|met");
    plot_series series[SPEEDUP_CASES + 1];
    const plot_panel panel = {NULL,  "log2 of the workers", "log2 of the gradients a worker", 0, 14, SPEEDUP_CASES + 1,
                              series};
    for (size_t n = 0; n < counts; n++) x[n] = (double)n;
    for (size_t c = 0; c < SPEEDUP_CASES; c++) {
        const speedup_case *k = &speedup_cases[c];
        const size_t from = (size_t)k->from;
        speedup_case_run(s, k, counts, seeds, &r[c]);
        for (size_t n = from; n < counts; n++) {
            table_row(t);
            table_cell(t, "%s", k->name);
            table_cell(t, "%u", 1u << n);
            table_cell(t, "%.3f", r[c].eta[n]);
            cell_spread(t, r[c].gradients[n], 1);
            table_cell(t, "%.2f", r[c].gradients[from].mean / r[c].gradients[n].mean);
            y[c][n] = log2(r[c].gradients[n].mean);
        }
        table_row(slopes);
        table_cell(slopes, "%s", k->name);
        table_cell(slopes, "%.3f", r[c].slope);
        table_cell(slopes, "%.3f", r[c].slope_error);
        table_cell(slopes, k->noisy && k->rule != DSGD ? "<= -0.8" : "-");
        table_cell(slopes, "%s", k->theirs);
        if (k->noisy && k->rule != DSGD)
            table_cell(slopes, "%s", judge(s, r[c].slope <= -0.8));
        else
            table_cell(slopes, "-");
        series[c] = (plot_series){k->legend, (int)c + 1, counts - from, x + from, y[c] + from};
    }
    for (size_t n = 0; n < counts; n++) y[SPEEDUP_CASES][n] = y[0][0] - (double)n;
    series[SPEEDUP_CASES] = (plot_series){"linear", 0, counts, x, y[SPEEDUP_CASES]};
    report_say(
        &s->out,
        "## Linear speed-up\n\nGradients a worker until the mean model has reached the target, stragglers as "
        "above. Where noise decides: everybody\ndraws single samples of one pool of 4096, the same for any "
        "number of workers, target 1 %% of the initial gap: the noise\nof the mean of N gradients allows N times "
        "the step, hence an N-th of the gradients. The time study's problem (target 2 %%)\nwith one step size for any "
        "number of "
        "workers: how far a step leads depends on the step, not on the noise, so that the\nslope is near 0; "
        "tuned, steps grow until the steepest direction forbids it. Being faster than synchronous DSGD is\n"
        "another claim. Step sizes are tuned for each number of workers in factors of sqrt(2) on %d other "
        "seeds (for the protocol:\nwith the ideal rule). Slope of log gradients against log workers, through all "
        "%zu seeds; *theirs* as above. Times fewer: than\nthe fewest workers of the setting.\n\n",
        SPEEDUP_SEEDS, seeds);
    table_print(slopes, &s->out);
    table_print(t, &s->out);
    study_picture(s, "_speedup", "Gradients a worker to a fixed loss", 1, &panel);
}

#endif
