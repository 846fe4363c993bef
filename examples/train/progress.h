/* SPDX-License-Identifier: MIT
 * progress.h: one line on stderr that tells how a run is getting on: rewritten in place on a terminal, silent
 * elsewhere. */
#ifndef TRAIN_PROGRESS_H
#define TRAIN_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

typedef struct progress_line {
    const char *name;
    uint64_t budget; /* samples; 0: by time */
    double seconds;
    uint64_t started, shown; /* clock_ns */
    bool terminal;
    /* As of the last line: loss and accuracy are those of the batches since. */
    uint64_t samples, right;
    double loss;
} progress_line;

void progress_begin(progress_line *p, const char *name, uint64_t budget, double seconds);

/* All counts since the beginning: samples trained on, how many of them were classified rightly, and their losses'
 * sum. */
void progress_show(progress_line *p, uint64_t samples, uint64_t right, double loss);

/* Wipes the line. */
void progress_end(progress_line *p);

#endif
