/* SPDX-License-Identifier: MIT
 * ours.c: sums over threads of one process through weft_threads.h. Compiled with plain -O2 and no -march. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#define GRAWA_IMPLEMENTATION
#include "grawa.h"
#include "transports/weft_threads.h"

#include "clock.h"
#include "collectives.h"
#include "place.h"

#include <stdio.h>
#include <stdlib.h>

enum { MOST_RANKS = 64 };

typedef struct worker {
    ours *all;
    int rank;
    weft_transport net;
    weft_tensor tensor;
    weft_collective *object; /* NULL for OURS_SUM */
    void *memory;
    double seconds;
    int right;
} worker;

struct ours {
    enum ours_mode mode;
    int ranks, operations; /* 0 operations: check */
    size_t bytes;
    weft_threads_team team;
    pthread_barrier_t together;
    worker w[MOST_RANKS];
};

static void must(weft_status s, const char *what) {
    if (s >= WEFT_OK) return;
    fprintf(stderr, "bench-collectives: %s: %s\n", what, weft_strerror(s));
    exit(1);
}

static void all_reduce(worker *w) {
    weft_status s;
    if (w->object) {
        s = weft_collective_begin(w->object, WEFT_OP_ALL_REDUCE, NULL, 0);
        while (s == WEFT_AGAIN) {
            w->net.wait(w->net.ctx, UINT64_MAX);
            s = weft_collective_poll(w->object);
        }
    } else {
        weft_request q;
        memset(&q, 0, sizeof q);
        q.bytes = UINT64_MAX;
        s = w->net.all_reduce(w->net.ctx, 1.0, w->tensor.data, w->tensor.data, w->tensor.count, WEFT_F32, &q);
        if (s == WEFT_OK)
            while ((s = w->net.test(w->net.ctx, &q)) == WEFT_AGAIN) w->net.wait(w->net.ctx, UINT64_MAX);
    }
    must(s, "all-reduce");
}

static void *work(void *arg) {
    worker *w = (worker *)arg;
    ours *o = w->all;
    double start;
    int i;
    place(w->rank, o->ranks);
    if (o->operations == 0) {
        vector_fill_check((float *)w->tensor.data, o->bytes, w->rank);
        all_reduce(w);
        w->right = vector_check((float *)w->tensor.data, o->bytes, o->ranks);
        return NULL;
    }
    vector_fill((float *)w->tensor.data, o->bytes);
    for (i = warm_up(o->operations); i; i--) all_reduce(w);
    pthread_barrier_wait(&o->together);
    start = clock_now();
    for (i = 0; i < o->operations; i++) all_reduce(w);
    w->seconds = (clock_now() - start) / o->operations;
    return NULL;
}

/* A thread a rank, for one block. */
static void run(ours *o, int operations) {
    pthread_t thread[MOST_RANKS];
    int i;
    o->operations = operations;
    for (i = 0; i < o->ranks; i++) {
        if (!pthread_create(&thread[i], NULL, work, &o->w[i])) continue;
        fprintf(stderr, "bench-collectives: threads cannot be had\n");
        exit(1);
    }
    for (i = 0; i < o->ranks; i++) pthread_join(thread[i], NULL);
}

ours *ours_open(enum ours_mode mode, int ranks, size_t bytes, float *const *vector) {
    ours *o = (ours *)calloc(1, sizeof *o);
    int i;
    if (!o || ranks > MOST_RANKS) must(WEFT_ERR_MEMORY, "ranks");
    o->mode = mode;
    o->ranks = ranks;
    o->bytes = bytes;
    must(weft_threads_init(&o->team, (uint32_t)ranks), "team");
    pthread_barrier_init(&o->together, NULL, (unsigned)ranks);
    for (i = 0; i < ranks; i++) {
        worker *w = &o->w[i];
        weft_collective_desc d;
        size_t need;
        w->all = o;
        w->rank = i;
        weft_threads_transport(&o->team, (uint32_t)i, &w->net);
        w->tensor.data = vector[i];
        w->tensor.count = bytes / sizeof(float);
        w->tensor.dtype = WEFT_F32;
        if (mode == OURS_SUM) continue;
        memset(&d, 0, sizeof d);
        d.struct_size = sizeof d;
        d.tensors.tensor = &w->tensor;
        d.tensors.count = 1;
        d.transport = &w->net;
        d.host_collectives = mode == OURS_HOST;
        need = weft_collective_memory(&d, NULL);
        w->memory = malloc(need);
        must(weft_collective_init(&w->object, &d, w->memory, need, NULL), "collective");
    }
    if (mode != OURS_MESSAGES && !o->w[0].net.all_reduce) {
        ours_close(o);
        return NULL;
    }
    return o;
}

int ours_check(ours *o) {
    int i, right = 1;
    run(o, 0);
    for (i = 0; i < o->ranks; i++) right &= o->w[i].right;
    return right;
}

double ours_block(ours *o, int operations) {
    run(o, operations);
    return o->w[0].seconds;
}

void ours_close(ours *o) {
    int i;
    for (i = 0; i < o->ranks; i++) {
        if (o->w[i].object) weft_collective_close(o->w[i].object);
        free(o->w[i].memory);
    }
    pthread_barrier_destroy(&o->together);
    weft_threads_free(&o->team);
    free(o);
}
