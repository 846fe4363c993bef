/* SPDX-License-Identifier: MIT
 * tell.h: tables, verdicts, the file of values and the picture, all of them from the rows. */
#ifndef CONSENSUS_TELL_H
#define CONSENSUS_TELL_H

#include "consensus/checks.h"

#include "machine.h"
#include "spread.h"
#include "train/plot.h"

/* Which way a field is better. */
typedef enum sense { LESS = -1, MORE = 1 } sense;

static inline spread cell_spread_of(const study *s, const cell *c, size_t m, pace p, size_t field) {
    double v[SEEDS];
    for (uint64_t i = 0; i < s->seeds; i++) v[i] = study_value(s, c, m, p, i + 1, field);
    spread all = spread_of(v, s->seeds);
    all.diverged = (int)s->seeds - all.n;
    return all;
}
#define SPREAD(s, c, m, p, name) cell_spread_of(s, c, m, p, offsetof(run_result, name))

/* How much better rule a is than rule b, seed by seed. */
static inline spread cell_gain(const study *s, const cell *c, size_t a, size_t b, pace p, size_t field, sense way) {
    double v[SEEDS];
    int lost = 0;
    for (uint64_t i = 0; i < s->seeds; i++) {
        const double x = study_value(s, c, a, p, i + 1, field), y = study_value(s, c, b, p, i + 1, field);
        v[i] = way * (x - y);
        lost += !isfinite(x) && isfinite(y);
    }
    spread all = spread_of(v, s->seeds);
    all.diverged = lost;
    return all;
}
#define GAIN(s, c, a, b, p, name, way) cell_gain(s, c, a, b, p, offsetof(run_result, name), way)

/* 1: better, decided; -1: worse, decided; 0: neither. That a diverged where b did not decides, too. */
static inline int decided(spread v) {
    return v.diverged ? -1 : spread_side(v);
}

static inline const char *decided_word(spread v) {
    static const char *const word[] = {"worse", "-", "better"};
    return word[1 + decided(v)];
}

/* A star where it is decided. */
static inline void cell_gain_star(table *t, spread v, int decimals) {
    if (v.diverged)
        table_cell(t, "diverged");
    else
        table_cell(t, "%+.*f +- %.*f%s", decimals, v.mean, decimals, v.error, decided(v) ? " *" : "");
}

static inline void tell_main(study *s, const cell *c) {
    report_say(&s->out,
               "## %s: %s\n\n%u workers of %u samples a step, %u steps. Test loss (smaller is better), and how much "
               "smaller it is than the mean's, paired over seeds; errors are\nstandard errors. The mean's best step "
               "size: %g.\n\n",
               c->of->title, c->of->model, c->workers, c->batch, c->steps, c->rate[MEAN]);
    table *t = table_new("rule|>at the mean's step size|>less than the mean's by|decided|>own step size|>at its own|"
                         ">less than the mean's by|decided|>% right|>more than the mean by|decided");
    for (size_t m = 0; m < RULES; m++) {
        table_row(t);
        table_cell(t, "%s", rules[m].name);
        for (int p = 0; p < PACES; p++) {
            if (p == PACE_OWN) table_cell(t, "%g", c->rate[m]);
            cell_mean_error(t, SPREAD(s, c, m, (pace)p, loss), 4);
            const spread v = GAIN(s, c, m, MEAN, (pace)p, loss, LESS);
            if (m == MEAN) {
                table_cell(t, "-");
                table_cell(t, "-");
                continue;
            }
            if (v.diverged)
                table_cell(t, "-");
            else
                cell_error(t, v, 4);
            table_cell(t, "%s", decided_word(v));
        }
        if (!c->of->accuracy) {
            for (int i = 0; i < 3; i++) table_cell(t, "-");
            continue;
        }
        const spread v = GAIN(s, c, m, MEAN, PACE_OWN, accuracy, MORE);
        cell_mean_error(t, SPREAD(s, c, m, PACE_OWN, accuracy), 2);
        if (m == MEAN) {
            table_cell(t, "-");
            table_cell(t, "-");
            continue;
        }
        cell_error(t, v, 2);
        table_cell(t, "%s", decided_word(v));
    }
    table_print(t, &s->out);

    report_say(&s->out,
               "How fast: mean training loss over all steps, and of the last tenth, likewise. What the rule did, "
               "at its own step size: its\ncosine with the mean gradient; its component along that, by its "
               "length; the weights' standard deviation times N (0: those of\nthe mean of directions) and "
               "share below zero; rounds with fallbacks (weights or scale).\n\n");
    t = table_new("rule|>all steps, mean's step size|decided|>all steps, own|decided|>last tenth, own|decided|>cosine|"
                  ">along|>weights apart|>% negative|>fallbacks");
    for (size_t m = 0; m < RULES; m++) {
        table_row(t);
        table_cell(t, "%s", rules[m].name);
        for (int p = 0; p < PACES; p++) {
            const spread v = GAIN(s, c, m, MEAN, (pace)p, whole, LESS);
            if (m == MEAN)
                cell_mean_error(t, SPREAD(s, c, m, (pace)p, whole), 4);
            else
                cell_gain_star(t, v, 4);
            table_cell(t, "%s", m == MEAN ? "-" : decided_word(v));
        }
        const spread v = GAIN(s, c, m, MEAN, PACE_OWN, train, LESS);
        if (m == MEAN)
            cell_mean_error(t, SPREAD(s, c, m, PACE_OWN, train), 4);
        else
            cell_gain_star(t, v, 4);
        table_cell(t, "%s", m == MEAN ? "-" : decided_word(v));
        table_cell(t, "%.4f", SPREAD(s, c, m, PACE_OWN, cosine).mean);
        table_cell(t, "%.3f", SPREAD(s, c, m, PACE_OWN, along).mean);
        const spread apart = SPREAD(s, c, m, PACE_OWN, apart), negative = SPREAD(s, c, m, PACE_OWN, negative);
        if (rule_weighs(&rules[m])) {
            table_cell(t, "%.3f", apart.mean);
            table_cell(t, "%.1f", 100.0 * negative.mean);
        } else {
            table_cell(t, "-");
            table_cell(t, "-");
        }
        table_cell(t, "%.1f", SPREAD(s, c, m, PACE_OWN, zero_sums).mean + SPREAD(s, c, m, PACE_OWN, fallbacks).mean);
    }
    table_print(t, &s->out);
}

/* Titles of the cells of the grid. */
static inline table *grid_table(const study *s, const char *first) {
    char titles[1024];
    size_t used = (size_t)snprintf(titles, sizeof titles, "%s", first);
    for (size_t i = 0; i < s->cells; i++)
        used += (size_t)snprintf(titles + used, sizeof titles - used, "|>%s, %ux%u", s->cell[i].of->key,
                                 s->cell[i].workers, s->cell[i].batch);
    return table_new(titles);
}

static inline void tell_counts(table *t, int better, int open, int worse) {
    table_cell(t, "%d", better);
    table_cell(t, "%d", open);
    table_cell(t, "%d", worse);
}

/* Every cell, every rule, test loss less than the mean's by. */
static inline void tell_grid(study *s, pace p) {
    report_say(&s->out,
               "### %s\n\nTest loss, less than the mean's by (first row: the mean's own). *: decided with 95 %% "
               "confidence (Student's t, two-sided,\npaired over %llu seeds).\n\n",
               p == PACE_OWN ? "Every rule at its own best step size" : "Every rule at the mean's best step size",
               (unsigned long long)s->seeds);
    table *t = grid_table(s, "rule");
    for (size_t m = 0; m < RULES; m++) {
        table_row(t);
        table_cell(t, "%s", rules[m].name);
        for (size_t i = 0; i < s->cells; i++)
            if (m == MEAN)
                cell_mean_error(t, SPREAD(s, &s->cell[i], m, p, loss), 4);
            else
                cell_gain_star(t, GAIN(s, &s->cell[i], m, MEAN, p, loss, LESS), 4);
    }
    table_print(t, &s->out);
}

static inline void tell_pairs(study *s) {
    static const struct {
        size_t a, b;
        const char *what;
    } pair[] = {
        {UNIT_SCALED, MEAN, "normalising alone: unit mean, scaled, less mean"},
        {A0, UNIT_SCALED, "weights: AdaCons 0 less unit mean, scaled"},
        {A9, UNIT_SCALED, "weights: AdaCons .9 less unit mean, scaled"},
        {A99, UNIT_SCALED, "weights: AdaCons .99 less unit mean, scaled"},
        {A0, BASIC, "normalising: AdaCons 0 less basic"},
        {A9, A0, "momentum: AdaCons .9 less 0"},
        {A99, A0, "momentum: AdaCons .99 less 0"},
        {A99, A9, "momentum: AdaCons .99 less .9"},
        {A0, F0, "assignment: AdaCons 0, inverse less forward"},
        {A9, F9, "assignment: AdaCons .9, inverse less forward"},
        {A99, F99, "assignment: AdaCons .99, inverse less forward"},
        {F99, PUBLISHED, "length: AdaCons .99, forward, scaled less as published"},
        {LAYERS_99, A99, "by layers less whole, AdaCons .99"},
        {A99, ADASUM, "AdaCons .99 less Adasum"},
    };
    for (int p = PACES; p-- > 0;) {
        report_say(&s->out,
                   "### What each part is worth, %s\n\nHow much smaller the first rule's test loss is than the "
                   "second's; *: decided.\n\n",
                   p == PACE_OWN ? "each rule at its own step size" : "all rules at the mean's step size");
        table *t = grid_table(s, "first less second");
        for (size_t i = 0; i < sizeof pair / sizeof *pair; i++) {
            table_row(t);
            table_cell(t, "%s", pair[i].what);
            for (size_t k = 0; k < s->cells; k++)
                cell_gain_star(t, GAIN(s, &s->cell[k], pair[i].a, pair[i].b, (pace)p, loss, LESS), 4);
        }
        table_print(t, &s->out);
    }
}

/* How often a rule was better than the mean. */
static inline void tell_tally(study *s) {
    report_say(&s->out,
               "## Better than the mean, in how many of %zu cells\n\nDecided with 95 %% confidence each: of as many "
               "comparisons without any difference, one in forty would be called better, one in\nforty worse.\n\n",
               s->cells);
    table *t = table_new("rule|>test loss, mean's step size: better|>open|>worse|>test loss, own: better|>open|>worse|"
                         ">training loss, own: better|>open|>worse");
    for (size_t m = 0; m < RULES; m++) {
        int count[3][3] = {{0}};
        if (m == MEAN) continue;
        for (size_t i = 0; i < s->cells; i++) {
            const cell *c = &s->cell[i];
            count[0][1 + decided(GAIN(s, c, m, MEAN, PACE_MEAN, loss, LESS))]++;
            count[1][1 + decided(GAIN(s, c, m, MEAN, PACE_OWN, loss, LESS))]++;
            count[2][1 + decided(GAIN(s, c, m, MEAN, PACE_OWN, whole, LESS))]++;
        }
        table_row(t);
        table_cell(t, "%s", rules[m].name);
        for (int i = 0; i < 3; i++) tell_counts(t, count[i][2], count[i][1], count[i][0]);
    }
    table_print(t, &s->out);
}

static inline void tell_rates(study *s) {
    report_say(&s->out,
               "## Step sizes\n\nBy factors of two, up and down from the mean's best until it has got no better twice, "
               "on %llu other seed%s, by the loss on the "
               "validation part.\n\n",
               (unsigned long long)s->tuning_seeds, s->tuning_seeds > 1 ? "s" : "");
    table *t = grid_table(s, "rule");
    for (size_t m = 0; m < RULES; m++) {
        table_row(t);
        table_cell(t, "%s", rules[m].name);
        for (size_t i = 0; i < s->cells; i++) table_cell(t, "%g", s->cell[i].rate[m]);
    }
    table_print(t, &s->out);
}

/* ---- Files beside the rows ---- */

static inline void tell_values(const study *s, const char *at) {
    FILE *f = fopen(at, "w");
    if (!f) broken("%s: cannot be written", at);
    fprintf(f, "task,data,workers,batch,steps,rule,at,rate,seed,diverged");
    for (size_t i = 0; i < ROW_FIELDS; i++) fprintf(f, ",%s", row_field[i].name);
    fputc('\n', f);
    for (size_t i = 0; i < s->cells; i++)
        for (size_t m = 0; m < RULES; m++)
            for (int p = 0; p < PACES; p++)
                for (uint64_t seed = 1; seed <= s->seeds; seed++) {
                    const cell *c = &s->cell[i];
                    const run_desc d = cell_run(c, m, cell_rate(c, m, (pace)p), seed);
                    const run_result *r = rows_find(&s->rows, &d);
                    if (!r) continue;
                    run_result copy = *r;
                    fprintf(f, "%s,%s,%u,%u,%u,\"%s\",%s,%g,%llu,%d", c->of->key, c->of->data, c->workers, c->batch,
                            c->steps, rules[m].name, p == PACE_OWN ? "own" : "mean's", d.rate, (unsigned long long)seed,
                            r->diverged);
                    for (size_t k = 0; k < ROW_FIELDS; k++) {
                        const double v = *row_value(&copy, k);
                        if (isfinite(v))
                            fprintf(f, ",%.6g", v);
                        else
                            fputc(',', f);
                    }
                    fputc('\n', f);
                }
    if (fclose(f)) broken("%s: cannot be written", at);
}

/* Training loss of some rules at their own step sizes, mean over seeds, a panel a task. */
static inline void tell_picture(const study *s, const char *rows_at) {
    static const size_t shown[] = {MEAN, UNIT_SCALED, ADASUM, BASIC, A0, A99};
    enum { SHOWN = sizeof shown / sizeof *shown };
    static double x[TASKS][SHOWN][CURVE], y[TASKS][SHOWN][CURVE];
    static plot_series series[TASKS][SHOWN];
    plot_panel panel[TASKS];
    char at[REPORT_PATH];
    size_t panels = 0;
    report_path(at, rows_at, ".svg");
    for (size_t i = 0; i < s->cells && panels < TASKS; i++) {
        const cell *c = &s->cell[i];
        double low = HUGE_VAL, high = 0.0;
        if (!c->main) continue;
        for (size_t k = 0; k < SHOWN; k++) {
            for (int b = 0; b < CURVE; b++) {
                x[panels][k][b] = (b + 0.5) * c->steps / CURVE;
                y[panels][k][b] = SPREAD(s, c, shown[k], PACE_OWN, curve[b]).mean;
                low = fmin(low, y[panels][k][b]);
                if (b) high = fmax(high, shown[k] == MEAN ? y[panels][k][b] : 0.0);
            }
            series[panels][k] = (plot_series){rules[shown[k]].name, (int)k, CURVE, x[panels][k], y[panels][k]};
        }
        panel[panels] =
            (plot_panel){c->of->data, "step", "training loss", low - 0.1 * (high - low), high, SHOWN, series[panels]};
        panels++;
    }
    if (panels)
        plot_panels(at, "Training loss by rule, each at its own best step size, mean over seeds", panels, panel);
}

static inline void tell_head(study *s) {
    machine here;
    size_t diverged = 0;
    double seconds = 0.0;
    for (size_t i = 0; i < s->rows.count; i++) {
        seconds += s->rows.row[i].result.seconds;
        diverged += s->rows.row[i].result.diverged != 0;
    }
    machine_describe(&here);
    report_say(&s->out, "# What AdaCons is worth\n\n- Written by `build/bench-consensus`.\n");
    machine_report(&here, &s->out);
    report_say(&s->out,
               "- What it was run on makes no difference to the numbers.\n- %zu runs (tuning and all), %.0f s of "
               "processor time; %zu of them diverged (of too long steps).\n- %llu seeds; tuned on %llu "
               "others.\n\n",
               s->rows.count, seconds, diverged, (unsigned long long)s->seeds, (unsigned long long)s->tuning_seeds);
    report_say(
        &s->out,
        "Every worker has other samples at every step, drawn from the whole training part, the same for all rules. "
        "Step sizes rise over the first\ntwentieth of the steps and fall to zero from there. AdaCons b: momentum b, "
        "the inverse assignment, scaled so that its component along the mean\ngradient is that (subspace.h's "
        "default); *forward*: the published assignment, at the same length; *as published*: that, not scaled.\n*unit "
        "mean*: mean of the directions g / |g|; *scaled*: to the mean's component, too, so that only AdaCons's "
        "weights are missing from it.\n*Adasum*: by layers, as in Horovod. *diverged*: a test loss that is not finite, "
        "or ten times that of guessing.\n\n");
}

static inline void tell(study *s, const char *rows_at, const char *values_at) {
    char at[REPORT_PATH];
    tell_head(s);
    tell_tally(s);
    report_say(&s->out, "## All cells\n\n*task, workers x samples of each.*\n\n");
    tell_grid(s, PACE_MEAN);
    tell_grid(s, PACE_OWN);
    tell_pairs(s);
    for (size_t i = 0; i < s->cells; i++)
        if (s->cell[i].main) tell_main(s, &s->cell[i]);
    tell_rates(s);
    report_say(&s->out, "## Checks\n\n");
    for (size_t i = 0; i < s->tasks; i++) check_task(s, &s->task[i]);
    check_rows(s);
    if (rows_at && !values_at) {
        report_path(at, rows_at, ".csv");
        values_at = at;
    }
    if (values_at) tell_values(s, values_at);
    if (rows_at) tell_picture(s, rows_at);
}

#endif
