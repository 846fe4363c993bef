/* SPDX-License-Identifier: MIT
 * options.h: the command line of the simulator. */
#ifndef CLUSTER_OPTIONS_H
#define CLUSTER_OPTIONS_H

#include "saddle.h"
#include "weft_pace.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { MOST_WORKERS = 10000, MOST_MEMBERS = 256, MOST_FAULTS = 64 };

/* MOST_MEMBERS: where everybody exchanges with everybody, a simulation grows with the square of the workers. */

typedef enum method {
    METHOD_DSGD_AAU, /* dsgd_aau.h */
    METHOD_MEAN,     /* the plain mean of gradients at every step (subspace.h with that rule) */
    METHOD_SUBSPACE, /* subspace.h: AdaCons */
    METHOD_MGRAWA,   /* grawa.h, one weight a worker */
    METHOD_LGRAWA,   /* grawa.h, one weight a worker and tensor */
    METHOD_HPSGD,    /* hpsgd.h */
    METHOD_QSADDLE,  /* saddle.h: Q-SADDLe */
    METHOD_NSADDLE,  /* saddle.h: N-SADDLe; and what they are built on: */
    METHOD_QGM,
    METHOD_NGC,
    METHOD_DPSGD,
    METHOD_DSGDM,
    METHODS
} method;

typedef enum task_kind { TASK_SOFTMAX, TASK_MLP, TASK_CNN, TASK_QUADRATIC, TASK_KINDS } task_kind;

typedef enum fault_kind { FAULT_KILL, FAULT_RESTART, FAULT_PARTITION } fault_kind;

typedef struct planned_fault {
    fault_kind kind;
    uint32_t rank;     /* KILL, RESTART */
    uint32_t count;    /* PARTITION: the first so many workers, against the others */
    double from, upto; /* seconds; KILL and RESTART: `from` */
} planned_fault;

/* All times in seconds of virtual time. */
typedef struct options {
    bool run[METHODS];
    task_kind task;
    const char *data;
    size_t workers, batch, hidden, period;
    double seconds, latency, jitter, bandwidth, detect;
    double loss, duplicate, reorder; /* of packets, 0 .. 1 */
    double rate, momentum, alpha;
    double beta;       /* hpsgd */
    size_t most_steps; /* hpsgd: local steps without a result, at most */
    const char *topology;
    weft_codec codec;  /* saddle.h */
    double rho, gamma; /* saddle.h: radius of the climb; how far to go towards the average */
    weft_pace pace;
    double grace, coalesce, patience; /* grace < 0: not said */
    uint32_t fan;
    bool deaf;
    uint64_t seed;
    size_t faults;
    planned_fault fault[MOST_FAULTS];
    const char *csv, *svg, *trace;
} options;

extern const char *const METHOD_NAME[METHODS];
extern const char *const TASK_NAME[TASK_KINDS];

/* Is it an exchange of everybody with everybody, in which all members take part? */
bool method_has_members(method m);

/* Is it one of saddle.h's? */
bool method_is_saddle(method m);

/* Fills in defaults, then what the command line says. --help prints and exits; nonsense ends the program. */
void options_parse(options *o, int argc, char **argv);

#endif
