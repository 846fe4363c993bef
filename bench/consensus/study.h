/* SPDX-License-Identifier: MIT
 * study.h: what is run: cells (a task, so many workers, so large batches), in each of them every rule, at the mean's
 * step size and at its own best one, over seeds. */
#ifndef CONSENSUS_STUDY_H
#define CONSENSUS_STUDY_H

#include "consensus/training.h"

#include "report.h"

enum { TASKS = 4, CELLS = 16, SEEDS = 20, TUNING_SEED = 101, CLIMB = 12, PATIENCE = 2 };

/* At the step size that is the best for the mean, or for the rule itself. */
typedef enum pace { PACE_MEAN, PACE_OWN, PACES } pace;

typedef struct cell {
    task *of;
    uint32_t workers, batch, steps;
    int main;           /* the one of its task that is told in full */
    double rate[RULES]; /* the best ones */
} cell;

typedef struct study {
    task task[TASKS];
    size_t tasks, cells;
    cell cell[CELLS];
    uint64_t seeds, tuning_seeds;
    run_rows rows;
    FILE *rows_file; /* lines are added; NULL: to nothing */
    size_t done, found;
    double seconds;
    report out;
    int misses;
} study;

static inline run_desc cell_run(const cell *c, size_t m, double rate, uint64_t seed) {
    const run_desc d = {c->of, c->workers, c->batch, c->steps, &rules[m], rate, seed};
    return d;
}

/* What came of a run; it is run now if it never was. */
static inline run_result study_result(study *s, const run_desc *d) {
    const run_result *there = rows_find(&s->rows, d);
    char key[ROW_KEY];
    run_result r;
    if (there) {
        s->found++;
        return *there;
    }
    training_run(&r, d, NULL);
    row_key(key, d);
    rows_add(&s->rows, key)->result = r;
    if (s->rows_file) row_write(s->rows_file, d, &r);
    s->done++;
    s->seconds += r.seconds;
    fprintf(stderr, "%s: test loss %.4f%s; %.2f s, %.0f s in all\n", key, r.loss, r.diverged ? " (diverged)" : "",
            r.seconds, s->seconds);
    return r;
}

/* Also one that is far worse than guessing: the mean over seeds of such losses says nothing. */
static inline int result_diverged(const task *t, const run_result *r) {
    return r->diverged || !(r->loss <= 10.0 * t->guessing);
}

/* Mean validation loss over the seeds of tuning; one that is worse than guessing is as bad as any. */
static inline double tuning_score(study *s, const cell *c, size_t m, double rate) {
    double sum = 0.0;
    for (uint64_t i = 0; i < s->tuning_seeds; i++) {
        const run_desc d = cell_run(c, m, rate, TUNING_SEED + i);
        const run_result r = study_result(s, &d);
        if (result_diverged(c->of, &r)) return HUGE_VAL;
        sum += r.validation / (double)s->tuning_seeds;
    }
    return sum <= c->of->guessing ? sum : HUGE_VAL;
}

/* By factors of two, up and down from where it begins, until it has got no better twice; down in any case as far as
 * where something is learnt. */
static inline double tuning_climb(study *s, const cell *c, size_t m, double from) {
    double best = from, score = tuning_score(s, c, m, from);
    for (int down = 0; down < 2; down++) {
        int misses = !down && score == HUGE_VAL ? PATIENCE : 0;
        double at = from;
        for (int i = 0; i < CLIMB && misses < PATIENCE; i++) {
            at = down ? at / 2.0 : at * 2.0;
            const double there = tuning_score(s, c, m, at);
            if (there < score) {
                best = at;
                score = there;
                misses = 0;
            } else if (score < HUGE_VAL)
                misses++;
        }
    }
    return best;
}

static inline double cell_rate(const cell *c, size_t m, pace p) {
    return c->rate[p == PACE_OWN ? m : MEAN];
}

static inline void study_cell(study *s, cell *c) {
    c->rate[MEAN] = tuning_climb(s, c, MEAN, c->of->rate);
    for (size_t m = 0; m < RULES; m++) {
        if (m != MEAN) c->rate[m] = tuning_climb(s, c, m, c->rate[MEAN]);
        for (int p = 0; p < PACES; p++)
            for (uint64_t seed = 1; seed <= s->seeds; seed++) {
                const run_desc d = cell_run(c, m, cell_rate(c, m, (pace)p), seed);
                study_result(s, &d);
            }
    }
}

/* A field of a run; NaN: it diverged. */
static inline double study_value(const study *s, const cell *c, size_t m, pace p, uint64_t seed, size_t field) {
    const run_desc d = cell_run(c, m, cell_rate(c, m, p), seed);
    const run_result *r = rows_find(&s->rows, &d);
    return r && !result_diverged(c->of, r) ? *(const double *)(const void *)((const char *)r + field) : (double)NAN;
}
#define VALUE(s, c, m, p, seed, name) study_value(s, c, m, p, seed, offsetof(run_result, name))

#endif
