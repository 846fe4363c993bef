/* SPDX-License-Identifier: MIT
 * tell.h: tables, verdicts and the picture, all of them from the rows. */
#ifndef HETEROGENEITY_TELL_H
#define HETEROGENEITY_TELL_H

#include "tuned.h"

#include "spread.h"
#include "train/plot.h"

enum { TELL_ALPHAS = 8, TELL_SEEDS = 20 };

/* What is asked for. */
typedef struct study {
    grid g;
    run_desc base; /* data, topology, agents, images, epochs, rho */
    double alpha[TELL_ALPHAS];
    int alphas;
    int codings[CODINGS]; /* is it asked for? */
    int all_alphas;       /* CODING_TOP30 at all of them, not only at 0.01 */
    uint64_t seeds;
    double gamma; /* 0: tuned_gamma */
    report out;
    int misses;
} study;

static inline int study_wants(const study *s, double alpha, coding c) {
    return s->codings[c] && (c != CODING_TOP30 || s->all_alphas || fabs(alpha - 0.01) < 1e-12);
}

static inline run_desc study_run(const study *s, double alpha, rule m, coding c, uint64_t seed) {
    run_desc d = s->base;
    d.alpha = alpha;
    d.rule = m;
    d.coding = c;
    d.rate = tuned_rate[m];
    d.gamma = s->gamma > 0 ? s->gamma : tuned_gamma[c];
    d.seed = seed;
    return d;
}

/* A field of a run of this study; NaN: it is not there. */
static inline double study_value(const study *s, double alpha, rule m, coding c, uint64_t seed, size_t field) {
    const run_desc d = study_run(s, alpha, m, c, seed);
    const run_result *r = rows_find(&s->g.rows, &d);
    return r && !result_diverged(r) ? *(const double *)(const void *)((const char *)r + field) : (double)NAN;
}

static inline int study_diverged(const study *s, double alpha, rule m, coding c) {
    int n = 0;
    for (uint64_t i = 1; i <= s->seeds; i++) {
        const run_desc d = study_run(s, alpha, m, c, i);
        const run_result *r = rows_find(&s->g.rows, &d);
        n += r && result_diverged(r);
    }
    return n;
}

static inline spread study_spread(const study *s, double alpha, rule m, coding c, size_t field) {
    double v[TELL_SEEDS];
    for (uint64_t i = 0; i < s->seeds; i++) v[i] = study_value(s, alpha, m, c, i + 1, field);
    spread all = spread_of(v, s->seeds);
    all.diverged = study_diverged(s, alpha, m, c);
    return all;
}
#define SPREAD(s, alpha, m, c, name) study_spread(s, alpha, m, c, offsetof(run_result, name))
#define VALUE(s, alpha, m, c, seed, name) study_value(s, alpha, m, c, seed, offsetof(run_result, name))

/* What coding c costs rule m, in points: accuracy without it less that with it, seed by seed. */
static inline double study_drop(const study *s, double alpha, rule m, coding c, uint64_t seed) {
    return VALUE(s, alpha, m, CODING_NONE, seed, accuracy) - VALUE(s, alpha, m, c, seed, accuracy);
}

/* ---- Tables ---- */

static inline void cell_three(table *t, double v) {
    table_number(t, v, "");
}

static inline int study_has(const study *s, double alpha, coding c, int *most, int *least) {
    *most = 0;
    *least = TELL_SEEDS;
    for (int m = 0; m < RULES; m++) {
        const spread v = SPREAD(s, alpha, (rule)m, c, accuracy);
        if (v.n + v.diverged > *most) *most = v.n + v.diverged;
        if (v.n + v.diverged < *least) *least = v.n + v.diverged;
    }
    return *most > 0;
}

static inline void tell_accuracies(study *s) {
    table *t = table_new("codec|>alpha|>D-PSGD|>DSGDm-N|>QGM|>Q-SADDLe|>NGC|>N-SADDLe|>seeds");
    for (int c = 0; c < CODINGS; c++)
        for (int a = 0; a < s->alphas; a++) {
            int most, least;
            if (!study_wants(s, s->alpha[a], (coding)c)) continue;
            if (!study_has(s, s->alpha[a], (coding)c, &most, &least)) continue;
            table_row(t);
            table_cell(t, "%s", coding_name[c]);
            table_cell(t, "%g", s->alpha[a]);
            for (int m = 0; m < RULES; m++) cell_spread(t, SPREAD(s, s->alpha[a], (rule)m, (coding)c, accuracy), 2);
            if (least == most)
                table_cell(t, "%d", most);
            else
                table_cell(t, "%d to %d", least, most);
        }
    report_say(&s->out, "## Accuracy of the mean model\n\n%% of the test images; mean and standard deviation over "
                        "seeds. An agent has more than one image in a hundred of so many classes:");
    for (int a = 0; a < s->alphas; a++)
        report_say(&s->out, "%s alpha %g: %.1f", a ? "," : "", s->alpha[a],
                   SPREAD(s, s->alpha[a], DPSGD, CODING_NONE, classes).mean);
    report_say(&s->out, ".\n\n");
    table_print(t, &s->out);
}

static inline void tell_cell(study *s, double alpha, coding c) {
    int most, least;
    if (!study_has(s, alpha, c, &most, &least)) return;
    report_say(&s->out, "### alpha %g, codec: %s\n\n", alpha, coding_name[c]);
    table *t = table_new("rule|>accuracy|>local accuracy|>training loss|>largest eigenvalue|>SAM gap|>consensus|"
                         ">bytes a step|>as the codec says|>gradients|>seconds|>seeds");
    for (int m = 0; m < RULES; m++) {
        const rule k = (rule)m;
        table_row(t);
        table_cell(t, "%s", rule_name[m]);
        const spread v = SPREAD(s, alpha, k, c, accuracy);
        cell_spread(t, v, 2);
        cell_spread(t, SPREAD(s, alpha, k, c, local), 2);
        cell_spread(t, SPREAD(s, alpha, k, c, loss), 3);
        cell_spread(t, SPREAD(s, alpha, k, c, eigenvalue), 1);
        cell_spread(t, SPREAD(s, alpha, k, c, gap), 3);
        cell_three(t, SPREAD(s, alpha, k, c, consensus).mean);
        table_cell(t, "%.0f", SPREAD(s, alpha, k, c, bytes).mean);
        table_cell(t, "%.0f", SPREAD(s, alpha, k, c, codec_bytes).mean);
        table_cell(t, "%.0f", SPREAD(s, alpha, k, c, gradients).mean);
        table_cell(t, "%.1f", SPREAD(s, alpha, k, c, seconds).mean);
        table_cell(t, "%d", v.n + v.diverged);
    }
    table_print(t, &s->out);
}

/* ---- Verdicts ---- */

static inline spread spread_less(const study *s, double alpha, rule a, rule b, coding c) {
    double v[TELL_SEEDS];
    for (uint64_t i = 0; i < s->seeds; i++)
        v[i] = VALUE(s, alpha, a, c, i + 1, accuracy) - VALUE(s, alpha, b, c, i + 1, accuracy);
    return spread_of(v, s->seeds);
}

/* Seed by seed, the mean over alphas from .. upto - 1. */
static inline spread spread_drop(const study *s, int from, int upto, rule m, coding c) {
    double v[TELL_SEEDS];
    for (uint64_t i = 0; i < s->seeds; i++) {
        v[i] = 0;
        for (int a = from; a < upto; a++) v[i] += study_drop(s, s->alpha[a], m, c, i + 1) / (upto - from);
    }
    return spread_of(v, s->seeds);
}

/* How much less a coding costs `climbing` than it costs its base. */
static inline spread spread_robust(const study *s, int from, int upto, rule climbing, rule base, coding c) {
    double v[TELL_SEEDS];
    for (uint64_t i = 0; i < s->seeds; i++) {
        v[i] = 0;
        for (int a = from; a < upto; a++)
            v[i] += (study_drop(s, s->alpha[a], base, c, i + 1) - study_drop(s, s->alpha[a], climbing, c, i + 1)) /
                    (upto - from);
    }
    return spread_of(v, s->seeds);
}

static inline void gate(study *s, table *t, const char *what, const char *wanted, spread v, int met) {
    table_row(t);
    table_cell(t, "%s", what);
    table_cell(t, "%s", wanted);
    cell_error(t, v, 2);
    if (!v.n) {
        table_cell(t, "-");
        return;
    }
    table_cell(t, "%s", met ? "yes" : "NO");
    s->misses += !met;
}

static inline void tell_gates(study *s) {
    const double alpha = 0.01;
    double ratio[TELL_SEEDS];
    table *t;
    spread v;
    int sent = 1, at = 0;
    while (at < s->alphas && fabs(s->alpha[at] - alpha) > 1e-12) at++;
    if (at == s->alphas) return; /* it is not asked for */
    t = table_new("what|wanted|>here|met");
    report_say(&s->out,
               "## What was to be seen\n\nAlpha %g. Points of accuracy, paired over seeds: mean and its "
               "standard error.\n\n",
               alpha);
    v = spread_less(s, alpha, QSADDLE, QGM, CODING_NONE);
    gate(s, t, "Q-SADDLe less QGM", "at least 0.4", v, v.mean >= 0.4);
    v = spread_less(s, alpha, QGM, DSGDM, CODING_NONE);
    gate(s, t, "QGM less DSGDm-N", "at least 1", v, v.mean >= 1);
    for (uint64_t i = 0; i < s->seeds; i++)
        ratio[i] = VALUE(s, alpha, QGM, CODING_NONE, i + 1, eigenvalue) /
                   VALUE(s, alpha, QSADDLE, CODING_NONE, i + 1, eigenvalue);
    v = spread_of(ratio, s->seeds);
    gate(s, t, "largest eigenvalue, QGM over Q-SADDLe", "at least 1.5", v, v.mean >= 1.5);
    for (int m = 0; m < RULES; m++) {
        char what[80];
        snprintf(what, sizeof what, "what 8 bits cost %s", rule_name[m]);
        v = spread_drop(s, at, at + 1, (rule)m, CODING_Q8);
        gate(s, t, what, "at most 1", v, v.mean <= 1);
    }
    for (size_t i = 0; i < s->g.count; i++) {
        const run_result *r = rows_find(&s->g.rows, &s->g.run[i]);
        if (r && !r->diverged) sent = sent && fabs(r->bytes - r->codec_bytes) <= 1e-5 * r->codec_bytes;
    }
    table_row(t);
    table_cell(t, "bytes of models and gradients sent");
    table_cell(t, "what the codec says");
    table_cell(t, "in all runs");
    table_cell(t, "%s", sent ? "yes" : "NO");
    s->misses += !sent;
    table_print(t, &s->out);
}

static inline void tell_claims(study *s) {
    static const rule climbing[2] = {QSADDLE, NSADDLE}, base[2] = {QGM, NGC};
    table *t;
    report_say(&s->out,
               "## The claims\n\n\"yes\" and \"no, the reverse\": with 95 %% confidence (Student's t, two-sided, "
               "paired over seeds); errors are standard errors of means.\n\n"
               "Is the climb worth it? Accuracy with it less without, uncompressed; and how many times flatter the "
               "mean model is.\n\n");
    t = table_new("rules|>alpha|>points|better|>eigenvalue, times smaller|>SAM gap, times smaller");
    for (int k = 0; k < 2; k++)
        for (int a = 0; a < s->alphas; a++) {
            double value[TELL_SEEDS], gap[TELL_SEEDS];
            const double alpha = s->alpha[a];
            const spread v = spread_less(s, alpha, climbing[k], base[k], CODING_NONE);
            for (uint64_t i = 0; i < s->seeds; i++) {
                value[i] = VALUE(s, alpha, base[k], CODING_NONE, i + 1, eigenvalue) /
                           VALUE(s, alpha, climbing[k], CODING_NONE, i + 1, eigenvalue);
                gap[i] = VALUE(s, alpha, base[k], CODING_NONE, i + 1, gap) /
                         VALUE(s, alpha, climbing[k], CODING_NONE, i + 1, gap);
            }
            if (!v.n) continue;
            table_row(t);
            table_cell(t, "%s less %s", rule_name[climbing[k]], rule_name[base[k]]);
            table_cell(t, "%g", alpha);
            cell_error(t, v, 2);
            table_cell(t, "%s", sure(v));
            const spread e = spread_of(value, s->seeds), f = spread_of(gap, s->seeds);
            table_cell(t, "%.1f +- %.1f", e.mean, e.error);
            table_cell(t, "%.1f +- %.1f", f.mean, f.error);
        }
    table_print(t, &s->out);
    report_say(&s->out, "Does SADDLe lose less under compression than its base? Points that a codec costs each rule; "
                        "and how much less it costs with the climb. *mean*: over the alphas, seed by seed.\n\n");
    t = table_new("rules|codec|>alpha|>costs the base|>costs SADDLe|>less|loses less");
    for (int k = 0; k < 2; k++)
        for (int c = 1; c < CODINGS; c++)
            for (int a = 0; a < s->alphas + (s->alphas > 1); a++) {
                const int from = a < s->alphas ? a : 0, upto = a < s->alphas ? a + 1 : s->alphas;
                const spread v = spread_robust(s, from, upto, climbing[k], base[k], (coding)c);
                if (!v.n || !study_wants(s, s->alpha[from], (coding)c)) continue;
                table_row(t);
                table_cell(t, "%s, %s", rule_name[base[k]], rule_name[climbing[k]]);
                table_cell(t, "%s", coding_name[c]);
                if (a < s->alphas)
                    table_cell(t, "%g", s->alpha[a]);
                else
                    table_cell(t, "mean");
                cell_error(t, spread_drop(s, from, upto, base[k], (coding)c), 2);
                cell_error(t, spread_drop(s, from, upto, climbing[k], (coding)c), 2);
                cell_error(t, v, 2);
                table_cell(t, "%s", sure(v));
            }
    table_print(t, &s->out);
}

/* ---- The picture ---- */

enum { PICTURE_SERIES = RULES + RULES * TELL_ALPHAS };
typedef struct picture {
    double x[RULES][TELL_ALPHAS], y[RULES][TELL_ALPHAS], bar_x[RULES][TELL_ALPHAS][2], bar_y[RULES][TELL_ALPHAS][2];
    plot_series series[PICTURE_SERIES];
} picture;

/* Curves of the rules over -log10 alpha, beside each other where they would lie on each other; bars: a standard
 * deviation up and down. */
static inline plot_panel picture_panel(const study *s, picture *p, coding c) {
    size_t count = RULES;
    for (int m = 0; m < RULES; m++) {
        size_t n = 0;
        for (int a = 0; a < s->alphas; a++) {
            const spread v = SPREAD(s, s->alpha[a], (rule)m, c, accuracy);
            const double at = -log10(s->alpha[a]) + 0.02 * (m - RULES + 1),
                         bar = isfinite(v.deviation) ? v.deviation : 0;
            if (!v.n || v.diverged) continue;
            p->x[m][n] = p->bar_x[m][n][0] = p->bar_x[m][n][1] = at;
            p->y[m][n] = v.mean;
            p->bar_y[m][n][0] = v.mean - bar;
            p->bar_y[m][n][1] = v.mean + bar;
            p->series[count++] = (plot_series){NULL, m + 1, 2, p->bar_x[m][n], p->bar_y[m][n]};
            n++;
        }
        p->series[m] = (plot_series){rule_name[m], m + 1, n, p->x[m], p->y[m]};
    }
    return (plot_panel){coding_name[c], "one-sidedness: -log10 of Dirichlet's alpha", "% right", 0, 0, count,
                        p->series};
}

static inline void tell_picture(const study *s, const char *rows_at) {
    static picture p[CODINGS];
    plot_panel panel[CODINGS];
    char file[REPORT_PATH + 8];
    double low = HUGE_VAL, high = -HUGE_VAL;
    size_t stem, panels = 0;
    if (!rows_at) return;
    stem = strlen(rows_at);
    if (stem >= 6 && !strcmp(rows_at + stem - 6, ".jsonl")) stem -= 6;
    snprintf(file, sizeof file, "%.*s.svg", (int)stem, rows_at);
    for (int c = 0; c < CODINGS; c++) {
        int most, least, there = 0;
        for (int a = 0; a < s->alphas; a++)
            there += study_wants(s, s->alpha[a], (coding)c) && study_has(s, s->alpha[a], (coding)c, &most, &least);
        if (there < (s->alphas > 1 ? 2 : 1)) continue; /* a point is no curve */
        panel[panels++] = picture_panel(s, &p[c], (coding)c);
    }
    for (size_t i = 0; i < panels; i++)
        for (size_t j = 0; j < panel[i].count; j++)
            for (size_t n = 0; n < panel[i].series[j].count; n++) {
                low = fmin(low, panel[i].series[j].y[n]);
                high = fmax(high, panel[i].series[j].y[n]);
            }
    if (!panels || !(low < high)) return;
    for (size_t i = 0; i < panels; i++) panel[i].y_from = floor(low), panel[i].y_upto = ceil(high);
    plot_panels(file, "Accuracy of the mean model, by rule, codec and how one-sided the agents' data are", panels,
                panel);
}

/* ---- All of it ---- */

static inline void tell_head(study *s) {
    const run_desc *b = &s->base;
    size_t there = 0;
    machine here;
    for (size_t i = 0; i < s->g.count; i++) there += rows_find(&s->g.rows, &s->g.run[i]) != NULL;
    machine_describe(&here);
    report_say(&s->out, "# Heterogeneity\n\n- Written by `build/bench-heterogeneity`.\n");
    machine_report(&here, &s->out);
    report_say(&s->out,
               "- What it was run on makes no difference to the numbers, but for the seconds.\n- %zu of %zu runs.\n\n",
               there, s->g.count);
    report_say(
        &s->out,
        "%s, %s of %u agents, %u training images each; a perceptron with %d hidden units of ReLU, batches of %d, "
        "%u epochs,\nweight decay 1e-4, beta = mu = 0.9, Nesterov; step size: a tenth of it from half of the "
        "steps on, a hundredth for the last quarter.\nShares of the agents by Dirichlet(alpha), none without half "
        "of a fair one, then cut to equal sizes. Every rule is a setting of saddle.h:\nagents of one process, over "
        "a simulated network.\n\n",
        b->data, b->topology, b->agents, b->images, LEARN_HIDDEN, LEARN_BATCH, b->epochs);
    report_say(&s->out,
               "Step sizes were tuned rule by rule, averaging rates (gamma) codec by codec, on other seeds and images "
               "(Fashion-MNIST, alpha 0.01; `--tune`):\nD-PSGD %g, DSGDm-N %g, ",
               tuned_rate[DPSGD], tuned_rate[DSGDM]);
    report_say(&s->out, "QGM %g, Q-SADDLe %g, NGC %g, N-SADDLe %g. rho = %g, not tuned.\n\n", tuned_rate[QGM],
               tuned_rate[QSADDLE], tuned_rate[NGC], tuned_rate[NSADDLE], b->rho);
    report_say(
        &s->out,
        "Codecs: *8 bits*: q8, one scale for 256 numbers (3.94 times less), gamma %g. *top 1/8*: the largest "
        "eighth of each tensor; a value of 4 bytes and\nan index of 4: a quarter of the bytes (4.00 times less), "
        "gamma %g. *top 30 %%*: 1.67 times less, gamma %g. Models as differences (CHOCO), cross-gradients with "
        "error feedback.\n\n",
        s->gamma > 0 ? s->gamma : tuned_gamma[CODING_Q8], s->gamma > 0 ? s->gamma : tuned_gamma[CODING_TOP8],
        s->gamma > 0 ? s->gamma : tuned_gamma[CODING_TOP30]);
    report_say(&s->out,
               "*local accuracy*: mean of the agents' own models. *largest eigenvalue*: of the Hessian of the training "
               "loss over all agents' images, at the mean model\n(power iteration with central differences: %d "
               "iterations, mean of the last %d). *SAM gap*: f(x + rho g / |g|) - f(x) "
               "of that loss. *consensus*: mean squared distance of models from their mean. *bytes a step*: of models\n"
               "and gradients, that an agent sends, all neighbours together. *gradients*: that it computes a step. "
               "*seconds*: of processor time, a run of all agents, with measuring.\n*diverged*: not finite, or models "
               "farther apart than %g.\n\n",
               POWER_ALL, POWER_LAST, APART);
}

static inline int tell_order(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x < y) - (x > y);
}

/* From alike to one-sided. */
static inline void tell(study *s, const char *rows_at) {
    qsort(s->alpha, (size_t)s->alphas, sizeof *s->alpha, tell_order);
    tell_head(s);
    tell_accuracies(s);
    tell_gates(s);
    tell_claims(s);
    report_say(&s->out, "## Everything measured\n\n");
    for (int a = 0; a < s->alphas; a++)
        for (int c = 0; c < CODINGS; c++)
            if (study_wants(s, s->alpha[a], (coding)c)) tell_cell(s, s->alpha[a], (coding)c);
    tell_picture(s, rows_at);
}

#endif
