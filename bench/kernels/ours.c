/* SPDX-License-Identifier: MIT
 * ours.c: the kernels of the header, through its drivers. Compiled with plain -O2 and no -march: no compiler flags are
 * needed to reach what is measured here. */
#define GRAWA_IMPLEMENTATION
#define HPSGD_IMPLEMENTATION
#include "grawa.h"
#include "hpsgd.h" /* has the kernels of replicas */
#include "pool/weft_pthread_pool.h"

#include "kernels.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static weft_pthread_pool threads_pool;
static int have_pool;

/* the choice of ours_begin */
static const weft_kernels *K;
static const weft_gradient_kernels *G;
static const weft_replica_kernels *R;
static const weft_pool *P;

const char *ours_isa_name(int isa) { return weft_isa_name((weft_isa)isa); }

int ours_isa_of(const char *name) {
    int i;
    for (i = 0; weft_isa_name((weft_isa)i); i++)
        if (!strcmp(weft_isa_name((weft_isa)i), name)) return i;
    return -1;
}

int ours_isa_available(int isa) { return weft_kernels_select((weft_isa)isa, 0) != NULL; }

int ours_isa_best(void) { return (int)weft_kernels_select(WEFT_ISA_AUTO, 0)->isa; }

void ours_threads(int threads) {
    if (have_pool) weft_pthread_pool_destroy(&threads_pool);
    have_pool = threads > 1;
    if (have_pool && weft_pthread_pool_create(&threads_pool, (size_t)threads) != WEFT_OK) {
        fprintf(stderr, "bench-kernels: the pool has failed\n");
        exit(1);
    }
}

/* The center is formed and used piece by piece, so that it is still in the cache when the model is pulled to it. */
enum { CENTER_PIECE = 65536 };

void ours_begin(kernel_id kernel, int isa, int threads, const arrays *a) {
    size_t writes = a->d * sizeof(float); /* of one pass */
    if (kernel == KERNEL_SQNORM || kernel == KERNEL_DOT || kernel == KERNEL_DOTS) writes = 0;
    if (kernel == KERNEL_SGD || kernel == KERNEL_SAM) writes *= 2;
    if (kernel == KERNEL_CENTER_PULL) writes = CENTER_PIECE * sizeof(float);
    K = weft_kernels_select((weft_isa)isa, writes);
    G = weft_gradient_kernels_select((weft_isa)isa, writes);
    R = weft_replica_kernels_select((weft_isa)isa, writes);
    P = threads > 1 ? &threads_pool.pool : NULL;
}

int ours_streams(void) { return K->stream && K->fence; }

static void center_piece(void *arg, size_t index) {
    arrays *a = (arrays *)arg;
    const size_t at = index * CENTER_PIECE, n = a->d - at < CENTER_PIECE ? a->d - at : CENTER_PIECE;
    const void *x[MODELS];
    size_t i;
    for (i = 0; i < MODELS; i++) x[i] = a->x[i] + at;
    weft_run_weighted_sum(K, NULL, WEFT_F32, n, MODELS, a->w, x, a->out + at);
    weft_run_pull(K, NULL, WEFT_F32, n, a->pull, a->out + at, a->x[0] + at);
}

/* x0: the replica, x1: the global model, x2: the sum. `own`: the last payload, where there is carry. */
static void launch(const arrays *a, void *own, void *out) {
    weft_replica r;
    memset(&r, 0, sizeof r);
    r.kernels = R;
    r.phase.count = a->count;
    r.phase.carry = r.phase.carried = own ? a->carry : 0;
    r.dtype = r.payload = WEFT_F32;
    r.launch = 1;
    r.sum = a->x[2];
    r.own = own;
    r.w = a->x[1];
    r.x = a->x[0];
    r.out = out;
    weft_run_replica(&r, P, a->d);
}

void ours_run(kernel_id kernel, arrays *a) {
    const size_t d = a->d;
    weft_sgd o;
    weft_dots dots;
    const void *x[MODELS];
    size_t i;
    switch (kernel) {
    case KERNEL_AXPY: weft_run_axpy(K, P, WEFT_F32, d, a->a, a->x[1], a->x[0]); break;
    case KERNEL_PULL: weft_run_pull(K, P, WEFT_F32, d, a->pull, a->x[1], a->x[0]); break;
    case KERNEL_SQNORM: a->result[0] = weft_run_sqnorm(K, P, WEFT_F32, d, a->x[0]); break;
    case KERNEL_DOT: a->result[0] = weft_run_dot(G, P, WEFT_F32, d, a->x[0], a->x[1]); break;
    case KERNEL_DOTS:
        dots = weft_run_dots(G, P, WEFT_F32, d, a->x[0], a->x[1]);
        a->result[0] = dots.xy;
        a->result[1] = dots.xx;
        a->result[2] = dots.yy;
        break;
    case KERNEL_WEIGHTED_SUM:
        for (i = 0; i < MODELS; i++) x[i] = a->x[i];
        weft_run_weighted_sum(K, P, WEFT_F32, d, MODELS, a->w, x, a->out);
        break;
    case KERNEL_CENTER_PULL: weft_parallel_for(P, (d + CENTER_PIECE - 1) / CENTER_PIECE, center_piece, a); break;
    case KERNEL_SGD:
        memset(&o, 0, sizeof o);
        o.learning_rate = a->rate;
        o.momentum = a->momentum;
        o.weight_decay = a->decay;
        a->result[0] = weft_run_sgd(G, P, WEFT_F32, d, &o, a->x[1], a->x[2], a->x[0]).squared_norm;
        break;
    case KERNEL_SAM:
        a->result[0] = weft_run_sqnorm(K, P, WEFT_F32, d, a->x[1]);
        weft_run_sam_perturb(G, P, WEFT_F32, d, a->rho / (sqrt(a->result[0]) + a->eps), a->x[1], a->x[0], a->out);
        break;
    case KERNEL_LAUNCH: launch(a, NULL, a->out); break;
    case KERNEL_LAUNCH_CARRY: launch(a, a->x[3], a->x[3]); break;
    case KERNELS: break;
    }
}
