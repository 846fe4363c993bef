/* SPDX-License-Identifier: MIT
 * works.h: what bench-cuda measures: a row a work. A new work takes a row, and a function if none of those here runs
 * it: the same function runs it on the GPU and, with the serial kernels, on the host. */
#ifndef BENCH_CUDA_WORKS_H
#define BENCH_CUDA_WORKS_H

#include "hpsgd.h"
#include "subspace.h"

enum { WORK_SOURCES = 40, WORK_ARRAYS = WORK_SOURCES + 1 };

/* Where a work is run, and on what. */
struct side {
    weft_device *device; /* NULL: the host */
    weft_dtype dtype;
    size_t n;
    void *array[WORK_ARRAYS];
    weft_slot *total; /* WEFT_SLOTS for each source, zero before */
};

struct work {
    const char *name, *title;
    weft_status (*run)(const work &, const side &);
    weft_op op;
    unsigned sources, arrays;  /* summed; needed, with those */
    unsigned reads, writes;    /* bit i: array i, of the first few that are no sources */
    unsigned stored, computed; /* arrays that are read, and that are written, at the least: of the type, and of the one
                                  that it is computed with */
    unsigned wide;             /* bit i: array i is of the latter */
    unsigned slots;            /* results */
};

/* Of `reads`, `writes` or `wide`. */
static bool has(unsigned mask, unsigned i) {
    return i < 32 && (mask >> i & 1u);
}

static const weft_kernels *serial(void) {
    static const weft_kernels *const k = weft_kernels_select(WEFT_ISA_SERIAL, 0);
    return k;
}

/* What drivers.h has. */
static weft_status run_work(const work &w, const side &s) {
    static const weft_gradient_kernels *const gradient = weft_gradient_kernels_select(WEFT_ISA_SERIAL, 0);
    static const weft_sgd plain = {0.001, 0.0, 1e-4, 0, 0}, momentum = {0.001, 0.9, 1e-4, 0, 0};
    double weight[WORK_SOURCES];
    weft_work j = weft_work_make(serial(), w.op, s.dtype, s.n, s.array[0], s.array[1], w.reads, w.writes);
    j.gradient = gradient;
    j.array[2] = s.array[2];
    j.counts = w.op == WEFT_OP_SGD || w.op == WEFT_OP_WEIGHTED_SUM || w.op == WEFT_OP_COUNT || w.op == WEFT_OP_HASH;
    j.sums = w.slots - j.counts;
    j.a = w.op == WEFT_OP_PULL ? 0.3 : w.op == WEFT_OP_WEIGHTED_SUM ? 0.0 : 1e-3;
    j.sgd = has(w.reads, 1) ? &momentum : &plain;
    j.first = 12345;
    j.w = weight;
    j.source = (const void *const *)&s.array[1];
    j.sources = w.sources;
    for (unsigned i = 0; i < w.sources; i++) weight[i] = (i + 1) * 2.0 / (w.sources * (w.sources + 1.0));
    if (s.device) return weft_device_run(s.device, &j, w.slots ? s.total : NULL);
    weft_work_run(&j, NULL, s.total);
    return WEFT_OK;
}

/* The passes of replica.h: w, x, and of the payload's type sum, own, out. bf16: payloads beside f32. */
static weft_status run_replica(const work &w, const side &s) {
    weft_replica r;
    memset(&r, 0, sizeof r);
    r.kernels = weft_replica_kernels_select(WEFT_ISA_SERIAL, 0);
    r.dtype = s.dtype == WEFT_F64 ? WEFT_F64 : WEFT_F32;
    r.payload = s.dtype;
    r.launch = has(w.writes, 4);
    r.phase.count = 4.0;
    r.phase.carry = 0.5;
    r.phase.carried = 0.25;
    r.phase.again = 1;
    r.w = s.array[0];
    r.x = s.array[1];
    r.sum = has(w.reads, 2) ? s.array[2] : NULL;
    r.own = has(w.reads, 3) ? s.array[3] : NULL;
    r.out = s.array[4];
    if (s.device) return weft_device_replica(s.device, &r, s.n, s.total);
    s.total[0].count = weft_run_replica(&r, NULL, s.n);
    return WEFT_OK;
}

/* What subspace.h does to the gradients of its participants: array 0 takes their sum, or they leave their numbers. */
static weft_status run_subspace(const work &w, const side &s) {
    double factor[WORK_SOURCES], room[2 * WORK_SOURCES], numbers[2 * WORK_SOURCES] = {0};
    const void *x[WORK_SOURCES];
    subspace a;
    for (unsigned i = 0; i < w.sources; i++) factor[i] = (i + 1) / 820.0, x[i] = s.array[1 + i];
    if (s.device && w.writes)
        return weft_device_sum_wide(s.device, s.dtype, s.n, w.sources, factor, x, s.array[0], s.total);
    if (s.device) return weft_device_numbers(s.device, s.dtype, s.n, w.sources, factor, x, s.total);
    memset(&a, 0, sizeof a);
    a.kernels = a.mixing = serial();
    a.wide = weft_wide_kernels_select(WEFT_ISA_SERIAL, 0);
    a.count = w.sources;
    a.factor = factor;
    a.x = x;
    a.room = room;
    subspace_run(&a, s.dtype, s.n, w.writes ? (unsigned char *)s.array[0] : NULL, numbers);
    if (w.writes) s.total[0].count = weft_run_count_nonfinite(serial(), NULL, s.dtype, s.n, s.array[0]);
    for (unsigned i = 0; i < w.sources && !w.writes; i++) {
        s.total[i * WEFT_SLOTS].sum = numbers[i];
        s.total[i * WEFT_SLOTS + 1].sum = numbers[w.sources + i];
    }
    return WEFT_OK;
}

static const work works[] = {
    /* by the fields of `work`: op, sources, arrays, reads, writes, stored, computed, wide, slots */
    {"copy", "copy", run_work, WEFT_OP_COPY, 0, 2, 1, 2, 2, 0, 0, 0},
    {"scale", "scale", run_work, WEFT_OP_SCALE, 0, 2, 1, 2, 2, 0, 0, 0},
    {"axpy", "axpy", run_work, WEFT_OP_AXPY, 0, 2, 3, 2, 3, 0, 0, 0},
    {"pull", "pull (lerp)", run_work, WEFT_OP_PULL, 0, 2, 3, 2, 3, 0, 0, 0},
    {"sam-perturb", "SAM perturb with backup", run_work, WEFT_OP_PERTURB, 0, 3, 3, 6, 4, 0, 0, 0},
    {"weighted-sum-2", "weighted sum of 2", run_work, WEFT_OP_WEIGHTED_SUM, 2, 3, 0, 1, 3, 0, 0, 1},
    {"weighted-sum-8", "weighted sum of 8", run_work, WEFT_OP_WEIGHTED_SUM, 8, 9, 0, 1, 9, 0, 0, 1},
    {"weighted-sum-40", "weighted sum of 40", run_work, WEFT_OP_WEIGHTED_SUM, 40, 41, 0, 1, 41, 0, 0, 1},
    {"wide-sum-2", "sum of 2 in f64", run_subspace, WEFT_OP_WEIGHTED_SUM, 2, 3, 0, 1, 3, 0, 0, 1},
    {"wide-sum-8", "sum of 8 in f64", run_subspace, WEFT_OP_WEIGHTED_SUM, 8, 9, 0, 1, 9, 0, 0, 1},
    {"wide-sum-40", "sum of 40 in f64", run_subspace, WEFT_OP_WEIGHTED_SUM, 40, 41, 0, 1, 41, 0, 0, 1},
    {"dot", "dot", run_work, WEFT_OP_DOT, 0, 2, 3, 0, 2, 0, 0, 1},
    {"sqnorm", "squared norm", run_work, WEFT_OP_SQNORM, 0, 1, 1, 0, 1, 0, 0, 1},
    {"dots", "dot and both norms", run_work, WEFT_OP_DOTS, 0, 2, 3, 0, 2, 0, 0, 3},
    {"sgd", "SGD, decay, norm", run_work, WEFT_OP_SGD, 0, 3, 5, 4, 3, 0, 0, 2},
    {"sgd-momentum", "SGD, momentum, decay, norm", run_work, WEFT_OP_SGD, 0, 3, 7, 6, 5, 0, 0, 2},
    {"count", "count of what is not finite", run_work, WEFT_OP_COUNT, 0, 1, 1, 0, 1, 0, 0, 1},
    {"hash", "hash", run_work, WEFT_OP_HASH, 0, 1, 1, 0, 1, 0, 0, 1},
    {"replica-begin", "HPSGD: first launch", run_replica, WEFT_OP_COPY, 0, 5, 3, 18, 1, 3, 3, 1},
    {"replica-launch", "HPSGD: merge and launch, carry", run_replica, WEFT_OP_COPY, 0, 5, 15, 19, 3, 4, 3, 1},
    {"replica-merge", "HPSGD: merge", run_replica, WEFT_OP_COPY, 0, 4, 15, 3, 2, 4, 3, 1},
    {"numbers-4", "numbers of 4 participants", run_subspace, WEFT_OP_DOTS, 4, 5, 0, 0, 4, 0, 0, 12},
    {"numbers-8", "numbers of 8 participants", run_subspace, WEFT_OP_DOTS, 8, 9, 0, 0, 8, 0, 0, 24},
    {"numbers-40", "numbers of 40 participants", run_subspace, WEFT_OP_DOTS, 40, 41, 0, 0, 40, 0, 0, 120},
};
enum { WORKS = sizeof works / sizeof *works };

#endif
