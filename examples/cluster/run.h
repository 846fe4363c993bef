/* SPDX-License-Identifier: MIT
 * run.h: one simulated run. */
#ifndef CLUSTER_RUN_H
#define CLUSTER_RUN_H

#include "options.h"
#include "task.h"
#include "train/plot.h"

enum { POINTS = 41, STRIPS = 16 };

/* The state of a run at one moment of virtual time, measured on the mean of the models of those who live. */
typedef struct run_point {
    double seconds;
    double loss, accuracy; /* accuracy -1: there is none */
    double distance;       /* root mean square distance of the models from their mean */
    double sharpness;      /* task.h */
    uint64_t steps;        /* of all workers together */
    uint64_t payload;      /* bytes sent so far, by all */
} run_point;

/* What one worker did, and when. */
typedef struct run_strip {
    uint32_t rank;
    size_t spans, room;
    plot_span *span;
} run_strip;

typedef struct run_result {
    method method;
    run_point point[POINTS];
    uint32_t workers;
    size_t strips; /* the first few workers */
    run_strip strip[STRIPS];
    uint64_t steps, least_steps, most_steps;       /* least, most: of a worker that was there all the time */
    uint64_t rounds;                               /* of the worker that saw most */
    double waiting;                                /* share of the workers' time; the rest is computing */
    double longest_wait;                           /* seconds */
    double partners;                               /* other workers in an averaging, mean; on graphs */
    double alone;                                  /* share of steps without one; on graphs */
    uint64_t payload, control, messages;           /* sent by all: bytes, bytes, messages */
    uint64_t losses, returns;                      /* workers lost, workers that came back */
    uint64_t packets, packets_lost, packets_again; /* of lossy links; again: retransmitted */
    uint64_t errors;                               /* that verbs returned (loss of a member is none) */
    uint64_t events;                               /* of the simulation */
    uint64_t hash;                                 /* of all of them: equal for equal runs */
    size_t bytes;                                  /* that the library's object of one worker takes */
    double wall;                                   /* seconds of real time that it took */
} run_result;

/* Ends the program if the simulation itself goes wrong, or the library breaks the transport's contract. */
void run_simulate(run_result *r, method m, const options *o, task *t, const weft_graph *graph);
void run_free(run_result *r);

#endif
