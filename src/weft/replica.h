/* SPDX-License-Identifier: MIT
 * replica.h: kernels for replicas of a global model that are trained while their changes are summed up, and what runs
 * them over tensors and threads. */
#include "base.h"
#include "tensor.h"
#include "pool.h"
#include "kernels.h"
#include "device.h"
/*==== API ====*/
/*==== IMPLEMENTATION ====*/

/* Of a replica's phase. Scalars are rounded to the element type before use. */
typedef struct weft_phase {
    double count;   /* divisor of the sum */
    double carry;   /* of the phase that begins: x = w + carry * d */
    double carried; /* of the phase that ends: it began at a = w + carried * own; without own at w */
    int again;      /* merge: put own, whose round is void, back */
} weft_phase;

/* Replicas x of a global model w that are trained while their changes are summed up over the workers. `sum` NULL: w
 * stays as it is. `own` NULL: carried does not matter. out may be sum or own. Elements: left to right, as written. */
typedef struct weft_replica_set {
    /* d = x - a; w = w + sum / count; x = w + carry * d (carry 0: w); out = d. Returns how many d are not finite. */
    uint64_t (*launch)(size_t n, const weft_phase *o, const void *sum, const void *own, void *w, void *x, void *out,
                       int stream);
    /* d = x - a; again: d = d + own; w = w + sum / count; x = w + d */
    void (*merge)(size_t n, const weft_phase *o, const void *sum, const void *own, void *w, void *x);
    /* x = (w + carry * q) + (d - q): q is what was sent of d */
    void (*residual)(size_t n, const weft_phase *o, const void *w, const void *d, const void *q, void *x);
} weft_replica_set;

typedef struct weft_replica_kernels {
    const weft_kernels *core; /* of the same instruction set */
    weft_replica_set f32, f64;
} weft_replica_kernels;

#define WEFT_REPLICA_SET(e)                                                                                            \
    { WEFT_SET_NAME(e, replica_launch), WEFT_SET_NAME(e, replica_merge), WEFT_SET_NAME(e, replica_residual) }
#define WEFT_REPLICA_TABLES(set, isa, fence)                                                                           \
    static WEFT_UNUSED const weft_replica_kernels weft_replica_kernels_##set[2] = {                                    \
        {&weft_kernels_##set[0], WEFT_REPLICA_SET(f32), WEFT_REPLICA_SET(f64)},                                        \
        {&weft_kernels_##set[1], WEFT_REPLICA_SET(f32), WEFT_REPLICA_SET(f64)}};

#define WEFT_FAMILY WEFT_REPLICA_FAMILY
#define WEFT_FAMILY_TABLES WEFT_REPLICA_TABLES
#include "kernels/sets.h"

/* As weft_kernels_select. */
WEFT_FN const weft_replica_kernels *weft_replica_kernels_select(weft_isa isa, size_t bytes) {
    const weft_kernels *core = weft_kernels_select(isa, bytes);
    if (!core) return NULL;
    WEFT_SELECT(weft_replica_kernels, core->isa, core->stream)
}

/* ---- a pass over a replica ---- */
typedef struct weft_replica {
    const weft_replica_kernels *kernels;
    weft_phase phase;
    weft_dtype dtype, payload; /* of x and w: f32 or f64; of sum, own and out: the same, or bf16 beside f32 */
    int launch;                /* 0: merge */
    const void *sum, *own;
    void *w, *x, *out;
} weft_replica;

/* bf16 payloads go through f32 on the stack; what rounding takes from d stays in x. */
WEFT_FN uint64_t weft_replica_bf16(const weft_replica *r, size_t at, size_t n) {
    const weft_replica_set *k = &r->kernels->f32;
    const weft_kernels *c = r->kernels->core;
    const uint16_t *sum16 = (const uint16_t *)r->sum, *own16 = (const uint16_t *)r->own;
    uint16_t *out = (uint16_t *)r->out;
    float sum[WEFT_GROUP], own[WEFT_GROUP], d[WEFT_GROUP], *w = (float *)r->w, *x = (float *)r->x;
    uint64_t bad = 0;
    size_t m;
    for (; n; n -= m, at += m) {
        m = n < WEFT_GROUP ? n : WEFT_GROUP;
        if (sum16) c->bf16_to_f32(m, sum16 + at, sum);
        if (own16) c->bf16_to_f32(m, own16 + at, own);
        if (!r->launch) {
            k->merge(m, &r->phase, sum16 ? sum : NULL, own16 ? own : NULL, w + at, x + at);
            continue;
        }
        k->launch(m, &r->phase, sum16 ? sum : NULL, own16 ? own : NULL, w + at, x + at, d, 0);
        c->f32_to_bf16(m, d, out + at);
        c->bf16_to_f32(m, out + at, own);
        bad += c->f32.count_nonfinite(m, own);
        k->residual(m, &r->phase, w + at, d, own, x + at);
    }
    return bad;
}

WEFT_FN uint64_t weft_replica_part(const weft_replica *r, size_t at, size_t n) {
    const weft_replica_set *k = r->dtype == WEFT_F64 ? &r->kernels->f64 : &r->kernels->f32;
    const size_t past = at * weft_dtype_bytes(r->dtype);
    const void *sum = r->sum ? (const unsigned char *)r->sum + past : NULL;
    const void *own = r->own ? (const unsigned char *)r->own + past : NULL;
    unsigned char *w = (unsigned char *)r->w + past, *x = (unsigned char *)r->x + past;
    if (r->payload == WEFT_BF16) return weft_replica_bf16(r, at, n);
    if (r->launch)
        return k->launch(n, &r->phase, sum, own, w, x, (unsigned char *)r->out + past,
                         r->kernels->core->stream && r->out != r->sum && r->out != r->own);
    k->merge(n, &r->phase, sum, own, w, x);
    return 0;
}

#define WEFT_REPLICA_PIECE (WEFT_PIECE_BLOCKS * WEFT_BLOCK)
enum { WEFT_REPLICA_WAVE = 64 }; /* pieces */

typedef struct weft_replica_wave {
    const weft_replica *replica;
    size_t at, n;
    uint64_t bad[WEFT_REPLICA_WAVE];
} weft_replica_wave;

WEFT_FN void weft_replica_piece(void *arg, size_t index) {
    weft_replica_wave *v = (weft_replica_wave *)arg;
    const weft_kernels *k = v->replica->kernels->core;
    const size_t at = v->at + index * WEFT_REPLICA_PIECE, left = v->n - at;
    v->bad[index] = weft_replica_part(v->replica, at, left < WEFT_REPLICA_PIECE ? left : WEFT_REPLICA_PIECE);
    if (k->stream && k->fence) k->fence();
}

#ifdef WEFT_CUDA
#define WEFT_DEVICE_REPLICA
#include "kernels/cuda_replica.h"
#undef WEFT_DEVICE_REPLICA
#endif

/* Over n elements; returns how many changes, as they are sent, are not finite (launch), or 0. */
WEFT_FN uint64_t weft_run_replica(const weft_replica *r, const weft_pool *pool, size_t n) {
    weft_replica_wave v;
    uint64_t bad = 0;
    size_t pieces, i;
#ifdef WEFT_CUDA
    weft_gpu *gpu = r->kernels->core->gpu;
    if (gpu) {
        weft_slot total;
        weft_gpu_fetch(gpu, weft_device_replica(&gpu->device, r, n, gpu->total), &total, 1);
        return total.count;
    }
#endif
    v.replica = r;
    v.n = n;
    for (v.at = 0; v.at < n; v.at += pieces * WEFT_REPLICA_PIECE) {
        pieces = (n - v.at - 1) / WEFT_REPLICA_PIECE + 1;
        if (pieces > WEFT_REPLICA_WAVE) pieces = WEFT_REPLICA_WAVE;
        weft_parallel_for(pool, pieces, weft_replica_piece, &v);
        for (i = 0; i < pieces; i++) bad += v.bad[i];
    }
    return bad;
}
