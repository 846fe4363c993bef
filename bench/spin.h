/* SPDX-License-Identifier: MIT
 * spin.h: threads that take up work without delay: each on a processor of its own, they spin for a while before they
 * sleep. For what shall show the machine, and not what it costs to wake threads or where they happen to be put. */
#ifndef BENCH_SPIN_H
#define BENCH_SPIN_H

#ifndef _GNU_SOURCE
#error "define _GNU_SOURCE before the first include: threads are pinned here"
#endif

#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

enum { SPIN_THREADS = 64, SPIN_TURNS = 200000 };

typedef struct spin_team {
    pthread_mutex_t lock;
    pthread_cond_t more;
    uint32_t round;    /* of work handed out */
    uint32_t finished; /* helpers that are through with it */
    int ending, helpers;
    cpu_set_t processors;
    void (*body)(void *arg, int thread, int threads);
    void *arg;
    pthread_t thread[SPIN_THREADS];
    struct spin_helper {
        struct spin_team *team;
        int index;
    } helper[SPIN_THREADS];
} spin_team;

static inline void spin_pause(void) {
#if defined __x86_64__ || defined __i386__
    __builtin_ia32_pause();
#endif
}

/* Thread `index` of a team onto the processor of this index among those that the process may use. */
static inline void spin_place(const spin_team *t, int index) {
    cpu_set_t one;
    int cpu, at = 0;
    for (cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        if (!CPU_ISSET(cpu, &t->processors) || at++ != index % CPU_COUNT(&t->processors)) continue;
        CPU_ZERO(&one);
        CPU_SET(cpu, &one);
        pthread_setaffinity_np(pthread_self(), sizeof one, &one);
        return;
    }
}

static inline void *spin_helper_main(void *arg) {
    const struct spin_helper *me = (const struct spin_helper *)arg;
    spin_team *t = me->team;
    uint32_t seen = 0;
    spin_place(t, me->index);
    for (;;) {
        int turn;
        for (turn = 0; turn < SPIN_TURNS && __atomic_load_n(&t->round, __ATOMIC_ACQUIRE) == seen; turn++) spin_pause();
        pthread_mutex_lock(&t->lock);
        while (t->round == seen) pthread_cond_wait(&t->more, &t->lock);
        seen = t->round;
        pthread_mutex_unlock(&t->lock);
        if (t->ending) return NULL;
        t->body(t->arg, me->index, t->helpers + 1);
        __atomic_add_fetch(&t->finished, 1, __ATOMIC_RELEASE);
    }
}

static inline void spin_hand_out(spin_team *t) {
    pthread_mutex_lock(&t->lock);
    __atomic_store_n(&t->finished, 0, __ATOMIC_RELAXED);
    __atomic_add_fetch(&t->round, 1, __ATOMIC_RELEASE);
    pthread_cond_broadcast(&t->more);
    pthread_mutex_unlock(&t->lock);
}

/* The calling thread joins the team, on its own processor, and leaves it again. */
static inline void spin_join(const spin_team *t) {
    if (t->helpers) spin_place(t, 0);
}

static inline void spin_leave(const spin_team *t) {
    if (t->helpers) pthread_setaffinity_np(pthread_self(), sizeof t->processors, &t->processors);
}

/* body(arg, i, threads) for each i in [0, threads), at once; by a thread that has joined. */
static inline void spin_run(spin_team *t, void (*body)(void *arg, int thread, int threads), void *arg) {
    uint32_t turn = 0;
    t->body = body;
    t->arg = arg;
    if (t->helpers) spin_hand_out(t);
    body(arg, 0, t->helpers + 1);
    while ((int)__atomic_load_n(&t->finished, __ATOMIC_ACQUIRE) < t->helpers) {
        spin_pause();
        if (++turn % 10000 == 0) sched_yield();
    }
}

/* `threads`, the caller included. A team that has threads already is ended first; it starts out as zeros. */
static inline void spin_start(spin_team *t, int threads) {
    int i;
    if (t->helpers) {
        t->ending = 1;
        spin_hand_out(t);
        for (i = 0; i < t->helpers; i++) pthread_join(t->thread[i], NULL);
        pthread_cond_destroy(&t->more);
        pthread_mutex_destroy(&t->lock);
    }
    t->helpers = t->ending = 0;
    t->round = t->finished = 0;
    if (threads < 2 || threads > SPIN_THREADS || sched_getaffinity(0, sizeof t->processors, &t->processors)) return;
    pthread_mutex_init(&t->lock, NULL);
    pthread_cond_init(&t->more, NULL);
    for (i = 0; i < threads - 1; i++) {
        t->helper[i].team = t;
        t->helper[i].index = i + 1;
        if (pthread_create(&t->thread[i], NULL, spin_helper_main, &t->helper[i])) {
            fprintf(stderr, "bench: threads cannot be had\n");
            exit(1);
        }
    }
    t->helpers = threads - 1;
}

#endif
