/* SPDX-License-Identifier: MIT
 * options.h: the command line. What is not understood ends the program with one clear line and status 2. */
#ifndef TRAIN_OPTIONS_H
#define TRAIN_OPTIONS_H

#include "model.h"

#include "saddle.h"
#include "weft_pace.h"

#include <stdbool.h>
#include <stdint.h>

enum { MAX_WORKERS = 64 };

/* How the workers learn together. */
typedef enum algorithm {
    ALGORITHM_SINGLE,   /* one worker alone */
    ALGORITHM_MEAN,     /* every step all workers average their gradients */
    ALGORITHM_SUBSPACE, /* subspace.h: every step, AdaCons in place of the mean */
    ALGORITHM_ADASUM,   /* every step, Adasum in place of the mean, for comparison */
    ALGORITHM_MGRAWA,   /* grawa.h, one weight a worker */
    ALGORITHM_LGRAWA,   /* grawa.h, one weight a worker and tensor */
    ALGORITHM_UNIFORM,  /* grawa.h with equal weights: what the pull does without the weighting */
    ALGORITHM_EASGD,    /* elastic averaging, for comparison */
    ALGORITHM_LSGD,     /* pull towards the worker with the lowest loss, for comparison */
    ALGORITHM_HPSGD,    /* hpsgd.h: replicas train on while their changes are summed up */
    ALGORITHM_DSGD_AAU, /* dsgd_aau.h: after every step, with whichever neighbours are ready */
    ALGORITHM_QSADDLE,  /* saddle.h: Q-SADDLe; its optimiser is its own, as with the following */
    ALGORITHM_NSADDLE,  /* saddle.h: N-SADDLe */
    ALGORITHM_QGM,      /* saddle.h: Q-SADDLe without the climb */
    ALGORITHM_NGC,      /* saddle.h: N-SADDLe without it */
    ALGORITHM_DPSGD,    /* saddle.h: without momentum, too */
    ALGORITHM_DSGDM,    /* saddle.h: with local momentum */
    ALGORITHMS
} algorithm;

typedef enum trigger {
    TRIGGER_FIXED, /* a round after every `period` steps of each worker */
    TRIGGER_TOTAL  /* a round when all workers together have done workers x period steps: the fast do not wait */
} trigger;

/* What is between the workers. */
typedef enum transport { TRANSPORT_THREADS, TRANSPORT_TCP, TRANSPORT_MPI } transport;

/* Where models are, and are computed. */
typedef enum device_kind { DEVICE_CPU, DEVICE_CUDA } device_kind;

typedef enum optimiser { OPTIMISER_SGD, OPTIMISER_ADAM } optimiser;

typedef struct options {
    const char *data; /* folder; NULL: the program's own glyphs */
    bool run[ALGORITHMS];
    bool all; /* all of them, whichever can */
    model_kind model;
    size_t hidden, workers, epochs, batch, period;
    optimiser optimiser;
    double rate, momentum, weight_decay, alpha, pull, seconds, subspace_momentum;
    uint64_t seed;
    trigger trigger;
    transport transport;
    device_kind device;
    size_t launch, rank; /* tcp: workers to be started here; of this process */
    const char *peers_file;
    char *peers;     /* the list itself */
    bool plaintext;  /* tcp: other networks than this machine's own, too */
    const char *tls; /* tcp: folder of certificates; NULL: plaintext */
    const char *csv, *svg;
    bool demo;
    double beta;                      /* hpsgd: how much of its own change under way a replica keeps */
    size_t most_steps;                /* hpsgd: steps without a result, at most */
    const char *topology;             /* who talks to whom in dsgd_aau and saddle.h's algorithms */
    weft_codec codec;                 /* saddle.h: of messages */
    double rho;                       /* saddle.h: radius of the climb */
    double gamma;                     /* saddle.h: how far to go towards the average */
    double patience;                  /* seconds after which it waits for nobody; 0: no such bound */
    weft_pace pace;                   /* stragglers: how many times as long the steps take, at random */
    double slow[MAX_WORKERS];         /* and always; 1: as fast as it can */
    double kill[MAX_WORKERS];         /* dies at this fraction of the run; 2: never */
    double stop[MAX_WORKERS];         /* stops (SIGSTOP) at this fraction of the run, */
    double stop_seconds[MAX_WORKERS]; /* for so long */
    double restart[MAX_WORKERS];      /* comes again so many seconds after it died; below 0: never */
    double deadline;                  /* tcp: who has not been heard of for so many seconds is lost */
    const char *save;                 /* folder for what each worker saves; NULL: nothing is saved */
    const char *trace;                /* folder for what the flight recorders have at the end; NULL: none is written */
    uint64_t life;                    /* of this process; 0: it is here from the beginning */
} options;

extern const char *const ALGORITHM_NAME[ALGORITHMS];
extern const char *const MODEL_NAME[];
extern const char *const OPTIMISER_NAME[];

/* Fills in defaults, then what the command line says. --help prints and exits. */
void options_parse(options *o, int argc, char **argv);

#endif
