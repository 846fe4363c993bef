/* SPDX-License-Identifier: MIT
 * latency.h: how long a cache line takes from one processor to another. Virtual processors may or may not share a
 * cache, and that can change during a run: figures of several threads mean little without this one beside them. */
#ifndef BENCH_LATENCY_H
#define BENCH_LATENCY_H

#ifndef _GNU_SOURCE
#error "define _GNU_SOURCE before the first include: threads are pinned here"
#endif

#include "clock.h"

#include <math.h>
#include <pthread.h>
#include <sched.h>
#include <stdint.h>

enum { LATENCY_TRIPS = 2000, LATENCY_TRIES = 5 };

typedef struct latency_pair {
    _Alignas(128) volatile uint32_t turn;
    _Alignas(128) int cpu[2];
    double seconds; /* best try */
} latency_pair;

static inline void latency_pin(int cpu) {
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    pthread_setaffinity_np(pthread_self(), sizeof one, &one);
}

/* Waits for the line to hold `turn`; gives the processor up now and then, should the other thread need it. */
static inline void latency_await(latency_pair *p, uint32_t turn) {
    uint32_t spins = 0;
    while (__atomic_load_n(&p->turn, __ATOMIC_ACQUIRE) != turn)
        if (++spins % 100000 == 0) sched_yield();
}

static inline void *latency_pong(void *arg) {
    latency_pair *p = (latency_pair *)arg;
    uint32_t i;
    latency_pin(p->cpu[1]);
    for (i = 0; i < LATENCY_TRIPS * LATENCY_TRIES; i++) {
        latency_await(p, 2 * i + 1);
        __atomic_store_n(&p->turn, 2 * i + 2, __ATOMIC_RELEASE);
    }
    return NULL;
}

static inline void *latency_ping(void *arg) {
    latency_pair *p = (latency_pair *)arg;
    uint32_t i, try, at = 0;
    latency_pin(p->cpu[0]);
    for (try = 0; try < LATENCY_TRIES; try++) {
        const double start = clock_now();
        double took;
        for (i = 0; i < LATENCY_TRIPS; i++, at++) {
            __atomic_store_n(&p->turn, 2 * at + 1, __ATOMIC_RELEASE);
            latency_await(p, 2 * at + 2);
        }
        took = clock_now() - start;
        if (try == 0 || took < p->seconds) p->seconds = took;
    }
    return NULL;
}

/* Nanoseconds one way between the first two processors that this process may use, the best of some tries; NAN if there
 * is only one. */
static inline double latency_ns(void) {
    static latency_pair p;
    cpu_set_t mine;
    pthread_t ping, pong;
    int cpu, found = 0;
    if (sched_getaffinity(0, sizeof mine, &mine)) return (double)NAN;
    for (cpu = 0; cpu < CPU_SETSIZE && found < 2; cpu++)
        if (CPU_ISSET(cpu, &mine)) p.cpu[found++] = cpu;
    if (found < 2) return (double)NAN;
    p.turn = 0;
    if (pthread_create(&pong, NULL, latency_pong, &p)) return (double)NAN;
    if (pthread_create(&ping, NULL, latency_ping, &p)) {
        latency_ping(&p); /* pinned or not, the other one must come to its end */
        pthread_join(pong, NULL);
        return (double)NAN;
    }
    pthread_join(ping, NULL);
    pthread_join(pong, NULL);
    return p.seconds * 1e9 / (2.0 * LATENCY_TRIPS);
}

#endif
