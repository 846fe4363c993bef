/* SPDX-License-Identifier: MIT
 * study_models.h: time to accuracy of networks in virtual time. */
#ifndef STRAGGLERS_STUDY_MODELS_H
#define STRAGGLERS_STUDY_MODELS_H

#include "models.h"
#include "study.h"

enum { MODEL_WORKERS = 16, MODEL_RATES = 3, MODEL_SEEDS = 1 };

typedef struct model_task {
    const char *key;
    double rate[MODEL_RATES], goal, horizon;
} model_task;

static const model_task model_images = {"images", {0.05, 0.1, 0.2}, 0.25, 1500.0};
static const model_task model_glyphs = {"glyphs", {0.05, 0.1, 0.2}, 0.25, 1500.0};
static const model_task model_text = {"text", {1.0, 2.0, 4.0}, 2.5, 2500.0};

typedef struct model_result {
    double t[MODEL_RATES][METHODS][MODEL_SEEDS];
    outcome curve[MODEL_RATES][METHODS];
    double first;
} model_result;

static inline int model_best(const model_result *r, size_t seeds, int m) {
    int best = 0;
    double least = HUGE_VAL;
    for (int e = 0; e < MODEL_RATES; e++) {
        const spread v = spread_of(r->t[e][m], seeds);
        if (v.reached < v.of || !(v.mean < least)) continue;
        least = v.mean;
        best = e;
    }
    return best;
}

static inline void models_run(study *s, const model_task *what, model_result *r, size_t seeds) {
    const weft_pace pace = pace_of(0.1, 10.0);
    for (size_t i = 0; i < seeds; i++) {
        const uint64_t seed = s->seed + i;
        weft_graph graph;
        void *memory = graph_open(&graph, MODEL_WORKERS, seed);
        task k;
        if (what == &model_text)
            text_open(&k, s->text, MODEL_WORKERS, seed);
        else
            images_open(&k, what == &model_images ? s->images : NULL, MODEL_WORKERS, seed);
        r->first = k.first;
        for (int e = 0; e < MODEL_RATES; e++)
            for (int m = 0; m < METHODS; m++) {
                static outcome o;
                trial t = trial_of(&k, &graph, &pace, seed, what->rate[e]);
                fprintf(stderr, "models: %s, seed %zu of %zu, step size %g, %s\n", what->key, i + 1, seeds,
                        what->rate[e], method_name[m]);
                t.goal = what->goal;
                t.interval = 2.0;
                t.horizon = s->quick ? what->horizon / 5.0 : what->horizon;
                t.only_mean = 1;
                method_run((method)m, &t, &o);
                study_row(s, what->key, method_key[m], &t, &o);
                r->t[e][m][i] = o.t_mean;
                if (i == 0) r->curve[e][m] = o;
            }
        if (what == &model_text)
            text_close(&k);
        else
            images_close(&k);
        free(memory);
    }
}

static inline void models_table(study *s, const model_task *what, const model_result *r, size_t seeds) {
    table *t = table_new("rule|>step size|>seconds to the target|>speed-up over DSGD");
    for (int m = 0; m < METHODS; m++) {
        const int e = model_best(r, seeds, m), base = model_best(r, seeds, DSGD);
        double v[MODEL_SEEDS];
        for (size_t i = 0; i < seeds; i++) v[i] = r->t[base][DSGD][i] / r->t[e][m][i];
        table_row(t);
        table_cell(t, "%s", method_name[m]);
        table_cell(t, "%g", what->rate[e]);
        cell_spread(t, spread_of(r->t[e][m], seeds), 0);
        if (spread_of(r->t[base][DSGD], seeds).reached == seeds)
            cell_spread(t, spread_of(v, seeds), 2);
        else
            table_cell(t, "-");
    }
    table_print(t, &s->out);
}

static inline void models_panel(const model_result *r, size_t seeds, plot_series *series,
                                double values[METHODS][CURVE_POINTS], double scale) {
    for (int m = 0; m < METHODS; m++) {
        const outcome *o = &r->curve[model_best(r, seeds, m)][m];
        for (size_t i = 0; i < o->points; i++) values[m][i] = scale * o->share[i] * r->first;
        series[m] = (plot_series){method_short[m], m + 1, o->points, o->time, values[m]};
    }
}

static inline void study_models(study *s) {
    static model_result image, letter;
    static double values[2][METHODS][CURVE_POINTS];
    const size_t seeds = s->seeds < MODEL_SEEDS ? (size_t)s->seeds : MODEL_SEEDS;
    const model_task *what = s->images ? &model_images : &model_glyphs;
    plot_series series[2][METHODS];
    plot_panel panel[2] = {{s->images ? "images" : "glyphs", "virtual time, s", "% wrong", 10, 60, METHODS, series[0]},
                           {"text", "virtual time, s", "nats a character", 2, 3.5, METHODS, series[1]}};
    models_run(s, what, &image, seeds);
    report_say(&s->out,
               "## Networks\n\n%u workers, transient stragglers as above; for each rule the best of three step sizes; "
               "seconds of virtual time until the\nmean model has reached the target; seeds: %zu.\n\n"
               "### %s: a perceptron with %d hidden units, shares by Dirichlet(%.1f), batches of %d; target %.0f %% of "
               "%d test images right\n\n",
               MODEL_WORKERS, seeds, s->images ? "Images from --images" : "Generated glyphs", IMAGES_HIDDEN,
               IMAGES_ALPHA, IMAGES_BATCH, 100.0 * (1.0 - what->goal), IMAGES_TEST);
    models_table(s, what, &image, seeds);
    models_panel(&image, seeds, series[0], values[0], 100.0);
    if (s->text) {
        models_run(s, &model_text, &letter, seeds);
        report_say(&s->out,
                   "### Text from --text: the next character from the last %d, %d hidden units, every worker one "
                   "stretch of it; target %.1f nats a character\n\n",
                   TEXT_BEFORE, TEXT_HIDDEN, model_text.goal);
        models_table(s, &model_text, &letter, seeds);
        models_panel(&letter, seeds, series[1], values[1], 1.0);
    }
    study_picture(s, "_models", "Networks with transient stragglers: value of the mean model, first seed",
                  s->text ? 2 : 1, panel);
}

#endif
