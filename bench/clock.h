/* SPDX-License-Identifier: MIT
 * clock.h: time, sleep, and waiting until nothing of this process runs any more. */
#ifndef BENCH_CLOCK_H
#define BENCH_CLOCK_H

#include <time.h>

static inline double clock_of(clockid_t which) {
    struct timespec t;
    clock_gettime(which, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* Seconds on a clock that never goes back. */
static inline double clock_now(void) { return clock_of(CLOCK_MONOTONIC); }

static inline void clock_sleep(double seconds) {
    struct timespec t;
    t.tv_sec = (time_t)seconds;
    t.tv_nsec = (long)((seconds - (double)t.tv_sec) * 1e9);
    nanosleep(&t, NULL);
}

/* The threads of OpenMP and OpenBLAS spin for some milliseconds after they have worked, on the core that somebody else
 * is about to be measured on. Sleeps until this process has used next to no processor time for a millisecond, or for
 * 200 ms at most. */
static inline void clock_quiet(void) {
    int i;
    for (i = 0; i < 200; i++) {
        const double wall = clock_now(), used = clock_of(CLOCK_PROCESS_CPUTIME_ID);
        clock_sleep(1e-3);
        if (clock_of(CLOCK_PROCESS_CPUTIME_ID) - used < 0.1 * (clock_now() - wall)) return;
    }
}

#endif
