/* SPDX-License-Identifier: MIT
 * place.h: a rank on a processor of its own if there are enough, as mpirun does it. */
#ifndef BENCH_PLACE_H
#define BENCH_PLACE_H

#ifndef _GNU_SOURCE
#error "define _GNU_SOURCE before the first include: threads are pinned here"
#endif

#include <pthread.h>
#include <sched.h>

/* The calling thread. */
static inline void place(int rank, int ranks) {
    cpu_set_t mine, one;
    int cpu, at = 0;
    if (sched_getaffinity(0, sizeof mine, &mine) || CPU_COUNT(&mine) < ranks) return;
    for (cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        if (!CPU_ISSET(cpu, &mine) || at++ != rank) continue;
        CPU_ZERO(&one);
        CPU_SET(cpu, &one);
        pthread_setaffinity_np(pthread_self(), sizeof one, &one);
        return;
    }
}

#endif
