/* SPDX-License-Identifier: MIT
 * rows.h: what is measured: a row a kernel. */
#ifndef BENCH_ROWS_H
#define BENCH_ROWS_H

#include "kernels.h"

enum { ROW_PASSES = 2 };

typedef struct row {
    const char *name, *title;
    unsigned bytes;             /* that a parameter costs at least, in memory */
    unsigned changes;           /* bit i: x[i] is written */
    int makes_out;              /* out is written */
    int results;                /* how many sums it yields */
    double goal, goal_threads;  /* times as fast as the best peer: on one thread, on several; 0: none set */
    streams pass[ROW_PASSES];   /* that cannot be made one */
    size_t passes;
} row;

/* By kernel_id. Goals hold for vectors beyond the cache. */
static const row rows[KERNELS] = {
    {"axpy", "axpy", 12, 1, 0, 0, 1.0, 1.0, {{1, 1, 0}}, 1},
    {"pull", "pull (lerp)", 12, 1, 0, 0, 1.3, 1.3, {{1, 1, 0}}, 1},
    {"sqnorm", "squared norm", 4, 0, 0, 1, 1.5, 3.0, {{1, 0, 0}}, 1},
    {"dot", "dot", 8, 0, 0, 1, 1.0, 2.0, {{2, 0, 0}}, 1},
    {"dots", "dot and both norms", 8, 0, 0, 3, 1.4, 2.9, {{2, 0, 0}}, 1},
    {"weighted-sum", "weighted sum of 8", 36, 0, 1, 0, 2.5, 2.5, {{8, 0, 1}}, 1},
    {"center-pull", "center and pull, 8 models", 40, 1, 1, 0, 1.7, 1.7, {{7, 1, 1}}, 1},
    {"sgd", "SGD, momentum, decay, squared norm", 20, 1 | 4, 0, 1, 2.4, 2.4, {{1, 2, 0}}, 1},
    {"sam", "SAM perturb with backup, norm", 20, 1, 1, 1, 2.7, 2.7, {{1, 0, 0}, {1, 1, 1}}, 2},
    {"launch", "HPSGD: merge and launch", 24, 1 | 2, 1, 0, 0, 0, {{1, 2, 1}}, 1},
    {"launch-carry", "HPSGD: merge and launch, carry", 28, 1 | 2 | 8, 0, 0, 0, 0, {{1, 3, 0}}, 1},
};

#endif
