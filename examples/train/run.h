/* SPDX-License-Identifier: MIT
 * run.h: one training run: a thread per worker, the same number of samples whatever the algorithm, and what came of
 * it. */
#ifndef TRAIN_RUN_H
#define TRAIN_RUN_H

#include "crew.h"
#include "data.h"
#include "model.h"
#include "options.h"
#include "plot.h"

/* The state of a run at one moment, measured on the mean of the workers' models. */
typedef struct run_point {
    double seconds;
    uint64_t steps;   /* local steps of all workers together */
    double loss;      /* on the test set, mean */
    double accuracy;  /* on the test set, 0 to 1 */
    double distance;  /* root mean square distance of the workers' models from their mean */
    double sharpness; /* measure.h */
    uint64_t payload; /* bytes sent so far, by all workers together */
} run_point;

/* What one worker did, and when. */
typedef struct run_worker {
    size_t spans;
    plot_span *span;
    double died; /* seconds; negative: it lived */
} run_worker;

typedef struct run_result {
    algorithm algorithm;
    size_t points;
    run_point *point; /* the first before the first step, the last after the last */
    size_t workers;
    run_worker *worker;
    uint64_t samples;
    double seconds;
    uint64_t rounds;  /* of the worker that saw most of them */
    uint64_t payload; /* bytes, sent by all workers together */
    crew_events events;
} run_result;

/* Trains with one algorithm; `o` says everything else, `run` counts from 0. Shows its progress on stderr. Where workers
 * are processes, all call it alike, and the one of the lowest rank that is left has the result; the others have none
 * (points is 0). */
void run_train(run_result *r, algorithm a, unsigned run, const options *o, const dataset *d, const model *m);
void run_free(run_result *r);

#endif
