/* SPDX-License-Identifier: MIT
 * tuned.h: step sizes and averaging rates: what was found, and how to find it again. */
#ifndef HETEROGENEITY_TUNED_H
#define HETEROGENEITY_TUNED_H

#include "grid.h"
#include "table.h"

/* Found by
 * build/bench-heterogeneity --images build/data/fashion-mnist --tune --json bench/results/heterogeneity_tuning.jsonl at
 * alpha 0.01, on seeds 101 to 103, whose partitions, images and initial parameters are others than those of the study,
 * by the accuracy on training images that no agent has. */
static const double tuned_rate[RULES] = {0.1, 0.05, 0.05, 0.05, 0.05, 0.05};
static const double tuned_gamma[CODINGS] = {1, 1, 0.25, 0.7};

enum { TUNING_SEED = 101, TUNING_SEEDS = 3, TUNING_RATES = 5, TUNING_GAMMAS = 4 };
static const double tuning_rate[RULES][TUNING_RATES] = {
    {0.05, 0.1, 0.2, 0.4, 0.8},      {0.0125, 0.025, 0.05, 0.1, 0.2}, {0.0125, 0.025, 0.05, 0.1, 0.2},
    {0.0125, 0.025, 0.05, 0.1, 0.2}, {0.0125, 0.025, 0.05, 0.1, 0.2}, {0.0125, 0.025, 0.05, 0.1, 0.2}};
static const double tuning_gamma[TUNING_GAMMAS] = {0.1, 0.2, 0.25, 0.35};

/* Models that are this far apart are no longer of any use to each other, whatever their mean. */
#define APART 1000.0

static inline int result_diverged(const run_result *r) {
    return r->diverged || !(r->consensus < APART);
}

/* Of the tuning seeds; -1: one has diverged. */
static inline double tuning_score(const grid *g, run_desc d) {
    double sum = 0;
    for (d.seed = TUNING_SEED; d.seed < TUNING_SEED + TUNING_SEEDS; d.seed++) {
        const run_result *r = rows_find(&g->rows, &d);
        if (!r || result_diverged(r)) return -1;
        sum += isfinite(r->held_out) ? r->held_out : r->accuracy;
    }
    return sum / TUNING_SEEDS;
}

static inline void tuning_add(grid *g, run_desc d) {
    for (d.seed = TUNING_SEED; d.seed < TUNING_SEED + TUNING_SEEDS; d.seed++) grid_add(g, &d);
}

static inline void tuning_cell(table *t, double score) {
    if (score < 0)
        table_cell(t, "diverged");
    else
        table_cell(t, "%.2f", score);
}

/* `d` has data, topology, agents, images, epochs, rho. First the step sizes, uncompressed; then, with these, the
 * averaging rate of the coding that needs one and has none yet. */
static inline void tuning_run(grid *g, run_desc d, unsigned threads, report *out) {
    double best_rate[RULES] = {0};
    d.alpha = 0.01;
    d.tuning = 1;
    d.gamma = 1;
    for (int m = 0; m < RULES; m++)
        for (int i = 0; i < TUNING_RATES; i++) {
            d.rule = (rule)m;
            d.rate = tuning_rate[m][i];
            tuning_add(g, d);
        }
    grid_run(g, threads);
    report_say(out, "Step sizes: accuracy on held-out images, mean over %d seeds, alpha %g.\n\n", TUNING_SEEDS,
               d.alpha);
    table *t = table_new("rule|>0.0125|>0.025|>0.05|>0.1|>0.2|>0.4|>0.8|>best");
    for (int m = 0; m < RULES; m++) {
        double most = -1;
        table_row(t);
        table_cell(t, "%s", rule_name[m]);
        for (int i = 0; m == DPSGD && i < 2; i++) table_cell(t, "-");
        for (int i = 0; i < TUNING_RATES; i++) {
            d.rule = (rule)m;
            d.rate = tuning_rate[m][i];
            const double score = tuning_score(g, d);
            tuning_cell(t, score);
            if (score > most) most = score, best_rate[m] = d.rate;
        }
        for (int i = 0; m != DPSGD && i < 2; i++) table_cell(t, "-");
        table_cell(t, "%g", best_rate[m]);
    }
    table_print(t, out);

    d.coding = CODING_TOP8;
    for (int i = 0; i < TUNING_GAMMAS; i++)
        for (int m = 0; m < RULES; m++) {
            d.rule = (rule)m;
            d.rate = best_rate[m];
            d.gamma = tuning_gamma[i];
            tuning_add(g, d);
        }
    grid_run(g, threads);
    report_say(out,
               "Averaging rates of `%s`, at these step sizes; the best is that with the highest mean over all rules, "
               "so that what it costs\ntwo rules can be compared. `%s` has that of earlier experiments.\n\n",
               coding_name[CODING_TOP8], coding_name[CODING_TOP30]);
    t = table_new(">gamma|>D-PSGD|>DSGDm-N|>QGM|>Q-SADDLe|>NGC|>N-SADDLe|>mean");
    for (int i = 0; i < TUNING_GAMMAS; i++) {
        double sum = 0;
        table_row(t);
        table_cell(t, "%g", tuning_gamma[i]);
        for (int m = 0; m < RULES; m++) {
            d.rule = (rule)m;
            d.rate = best_rate[m];
            d.gamma = tuning_gamma[i];
            const double score = tuning_score(g, d);
            tuning_cell(t, score);
            sum = score < 0 || sum < 0 ? -1 : sum + score / RULES;
        }
        tuning_cell(t, sum);
    }
    table_print(t, out);
}

#endif
