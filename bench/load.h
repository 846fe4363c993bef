/* SPDX-License-Identifier: MIT
 * load.h: how much of the processors others have used meanwhile (and, of a virtual machine, its host). Figures that
 * were measured beside others are not worth much, so each row says it. */
#ifndef BENCH_LOAD_H
#define BENCH_LOAD_H

#include "clock.h"

#include <stdio.h>
#include <unistd.h>

typedef struct load {
    double others, all; /* seconds, summed up over what was measured */
    double busy, own, wall;
} load;

/* Seconds that all processors together have been busy or taken away; 0 where the system does not tell. */
static inline double load_busy(void) {
    FILE *f = fopen("/proc/stat", "r");
    double user, nice, system, idle, waiting, irq, soft, stolen;
    int n;
    if (!f) return 0;
    n = fscanf(f, "cpu %lf %lf %lf %lf %lf %lf %lf %lf", &user, &nice, &system, &idle, &waiting, &irq, &soft, &stolen);
    fclose(f);
    return n == 8 ? (user + nice + system + irq + soft + stolen) / (double)sysconf(_SC_CLK_TCK) : 0;
}

static inline void load_begin(load *l) {
    l->busy = load_busy();
    l->own = clock_of(CLOCK_PROCESS_CPUTIME_ID);
    l->wall = clock_now();
}

static inline void load_end(load *l) {
    l->others += load_busy() - l->busy - (clock_of(CLOCK_PROCESS_CPUTIME_ID) - l->own);
    l->all += (clock_now() - l->wall) * (double)sysconf(_SC_NPROCESSORS_ONLN);
}

/* The others' share of all processors. */
static inline double load_share(const load *l) {
    const double share = l->all > 0 ? l->others / l->all : 0;
    return share < 0 ? 0 : share;
}

#endif
