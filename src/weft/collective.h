/* SPDX-License-Identifier: MIT
 * collective.h: all-reduce, reduce-scatter, all-gather, broadcast and barrier over send and recv, as resumable state
 * machines; and the agreement of a view on its settings and on what becomes of a round that a loss has cut short. */
#include "base.h"
#include "tensor.h"
#include "kernels.h"
#include "pool.h"
#include "transport.h"
#include "wire.h"
#include "group.h"
/*==== API ====*/

/* How a vector is summed over the workers. DIRECT and GATHER add in ascending rank for every element: the same bits
 * on every transport, for every chunk size and arrival order. RING and DOUBLING have an order of their own, equal on
 * all workers. */
typedef enum weft_algorithm {
    WEFT_ALGORITHM_AUTO = 0, /* GATHER up to WEFT_GATHER_BYTES, DIRECT above */
    WEFT_ALGORITHM_DIRECT =
        1, /* each worker owns a shard, adds its pieces in rank order, and hands it to all: 2 steps; a large shard in
              chunks, so that one is added up while others are under way */
    WEFT_ALGORITHM_GATHER = 2, /* everyone sends everything to all and adds it up: 1 step, for small vectors */
    WEFT_ALGORITHM_RING = 3,   /* 2 (n - 1) steps between neighbours; shard j is added in the order j+1, j+2, ..., j */
    WEFT_ALGORITHM_DOUBLING =
        4 /* log2 n steps with partners at distance 1, 2, 4, ...; ranks beyond a power of two fold in first */
} weft_algorithm;

#define WEFT_GATHER_BYTES ((size_t)8192)
#define WEFT_CHUNK_BYTES ((size_t)1 << 20) /* of a shard; more if there would be more than WEFT_CHUNKS of them */
#define WEFT_CHUNKS 1024u

/* A collective for the host's own use: plain sums of gradients, say. Its functions have internal linkage: they are
 * there in the unit that defines an X_IMPLEMENTATION. In place over `tensors`, committed wholly or not at all. */
typedef struct weft_collective_desc {
    size_t struct_size;
    weft_tensors tensors; /* the host's; read and, on commit, written */
    const weft_transport *transport;
    const weft_pool *pool;
    const weft_view *view; /* NULL: all ranks, epoch 0 */
    uint32_t channel;
    weft_isa isa;
    weft_algorithm algorithm;
    int host_collectives; /* 1: the transport's own all_reduce, while all its ranks take part */
    uint64_t timeout_ns;
    weft_trace_fn trace;
    void *trace_ctx;
#ifdef WEFT_CUDA
    const weft_cuda *cuda; /* NULL: tensors are host memory */
#endif
} weft_collective_desc;

typedef struct weft_collective weft_collective;
/*==== IMPLEMENTATION ====*/

/* ---- Agreement of a view: settings, and the fate of a round ---- */

enum { WEFT_SYNC_FIELDS = 24, WEFT_SYNC_STATE = 4 };
/* The last WEFT_SYNC_STATE fields are state; the ones before are settings that must agree. */
enum { WEFT_SYNC_COMMITTED = 20, WEFT_SYNC_HAVE = 21, WEFT_SYNC_FRESH = 22, WEFT_SYNC_HASH = 23 };

typedef struct weft_sync {
    const char *const *name; /* of the settings; NULL ends them */
    uint64_t mine[WEFT_SYNC_FIELDS];
    unsigned char wire[WEFT_SYNC_FIELDS * 8]; /* mine, little-endian */
    unsigned char *all;                       /* a row of the same a rank */
    uint64_t committed;                       /* after the sync: the last round that is over for any member */
    uint64_t committed_id;                    /* and which one it was */
} weft_sync;

/* A round that is formed again after a regroup keeps its number but is another round: its identity is the number and
 * the epoch in which it was formed. */
enum { WEFT_ROUND_BITS = 48 };
#define WEFT_ROUND_MASK (((uint64_t)1 << WEFT_ROUND_BITS) - 1)

WEFT_FN uint64_t weft_round_id(uint64_t round, uint32_t epoch) {
    return round | (uint64_t)(epoch & 0xFFFFu) << WEFT_ROUND_BITS;
}

WEFT_FN void weft_sync_layout(weft_layout *l, uint32_t size, unsigned char **all) {
    *all = (unsigned char *)weft_layout_take(l, WEFT_TEXT("fingerprints, one a worker"), size, WEFT_SYNC_FIELDS * 8);
}

WEFT_FN uint64_t weft_sync_field(const weft_sync *s, uint32_t rank, int field) {
    return weft_get64(s->all + ((size_t)rank * WEFT_SYNC_FIELDS + (size_t)field) * 8);
}

WEFT_FN void weft_sync_begin(weft_sync *s, weft_group *g) {
    uint32_t i;
    int f;
    for (f = 0; f < WEFT_SYNC_FIELDS; f++) weft_put64(s->wire + 8 * f, s->mine[f]);
    memcpy(s->all + (size_t)g->net->rank * sizeof s->wire, s->wire, sizeof s->wire);
    g->phase = WEFT_TEXT("agreeing on a view");
    weft_group_begin(g, WEFT_KIND_SYNC, 0, 0);
    for (i = 0; i < g->members; i++) {
        uint32_t rank = g->member[i];
        weft_range out = weft_range_raw(s->wire, sizeof s->wire, 1);
        weft_range in = weft_range_raw(s->all + (size_t)rank * sizeof s->wire, sizeof s->wire, 1);
        if (rank != g->net->rank) weft_group_flow(g, rank, &out, &in, 0);
    }
}

/* WEFT_OK when all members have agreed; a difference is named with both values. */
WEFT_FN weft_status weft_sync_poll(weft_sync *s, weft_group *g) {
    weft_status status = weft_group_poll(g);
    uint32_t i;
    int f;
    if (status) return status;
    s->committed = s->committed_id = 0;
    for (i = 0; i < g->members; i++) {
        uint32_t rank = g->member[i];
        for (f = 0; s->name[f]; f++)
            if (weft_sync_field(s, rank, f) != s->mine[f])
                return weft_group_break(g, WEFT_ERR_MISMATCH, rank, s->name[f], s->mine[f],
                                        weft_sync_field(s, rank, f));
        if ((weft_sync_field(s, rank, WEFT_SYNC_COMMITTED) & WEFT_ROUND_MASK) > s->committed) {
            s->committed_id = weft_sync_field(s, rank, WEFT_SYNC_COMMITTED);
            s->committed = s->committed_id & WEFT_ROUND_MASK;
        }
    }
    weft_group_trace(g, WEFT_EVENT_VIEW, WEFT_NO_RANK, s->committed, g->epoch);
    return WEFT_OK;
}

/* May this worker commit the round that it was in? Only if somebody has: then everybody had said HAVE, so all hold the
 * data. A later round of the same epoch is proof too: it does not begin before this one is over. */
WEFT_FN int weft_sync_commits(const weft_sync *s, uint64_t have) {
    return have != 0 && have >> WEFT_ROUND_BITS == s->committed_id >> WEFT_ROUND_BITS &&
           (have & WEFT_ROUND_MASK) <= s->committed;
}

/* Shapes and types of tensors in one number, for the fingerprint. */
WEFT_FN uint64_t weft_shape_hash(const weft_tensors *t) {
    uint64_t h = 0x9E3779B97F4A7C15u;
    size_t i;
    for (i = 0; i < t->count; i++) {
        h = (h ^ (uint64_t)t->tensor[i].count) * 0x100000001B3u;
        h = (h ^ h >> 29 ^ (uint64_t)t->tensor[i].dtype) * 0xBF58476D1CE4E5B9u;
    }
    return h ^ h >> 32;
}

/* Hash of all elements of all tensors, in the host's memory or (mirror not NULL) at their positions in a mirror: the
 * same however they are stored or split. */
WEFT_FN uint64_t weft_tensors_hash(const weft_kernels *k, const weft_pool *pool, const weft_tensors *t,
                                   const unsigned char *mirror, const size_t *position) {
    uint64_t h = 0, first = 0;
    size_t i;
    for (i = 0; i < t->count; i++) {
        const void *x = mirror ? mirror + position[i] : (const unsigned char *)t->tensor[i].data;
        h += weft_run_hash(k, pool, t->tensor[i].dtype, t->tensor[i].count, first, x);
        first += t->tensor[i].count;
    }
    return h;
}

/* ---- Small things, from everybody to everybody ---- */

/* `each_bytes` from every participant into its row of `all` (one row a rank); a barrier if that is 0. */
WEFT_FN void weft_gather_begin(weft_group *g, const uint32_t *who, uint32_t count, uint64_t round, uint32_t step,
                               void *all, size_t each_bytes, size_t element, uint64_t arg) {
    unsigned char *rows = (unsigned char *)all;
    uint32_t i;
    weft_group_begin(g, WEFT_KIND_EXCHANGE, round, step);
    for (i = 0; i < count; i++) {
        weft_range out = weft_range_raw(rows ? rows + g->net->rank * each_bytes : NULL, each_bytes, element);
        weft_range in = weft_range_raw(rows ? rows + who[i] * each_bytes : NULL, each_bytes, element);
        if (who[i] != g->net->rank) weft_group_flow(g, who[i], &out, &in, arg);
    }
}

/* ---- Sums of large things ---- */

typedef enum weft_operation {
    WEFT_OP_ALL_REDUCE = 0,
    WEFT_OP_REDUCE_SCATTER = 1, /* the result is this participant's shard only */
    WEFT_OP_ALL_GATHER = 2,     /* everyone's own shard to all */
    WEFT_OP_BROADCAST = 3,
    WEFT_OP_BARRIER = 4
} weft_operation;

typedef struct weft_reduce {
    weft_group *g;
    const weft_kernels *kernels;
    const weft_pool *pool;
    weft_map map;
    weft_algorithm algorithm; /* resolved */
    int host;                 /* use the transport's all_reduce */
    unsigned char *mirror, *spare;
    /* of the operation under way */
    weft_operation operation;
    const weft_tensor *source;
    const double *weight;     /* [rank * groups + group]; NULL: all 1 */
    const uint32_t *group_of; /* of a tensor; NULL: 0 */
    size_t groups;
    uint32_t *who, count, here, root; /* participants, ascending ranks */
    uint64_t round;
    uint32_t first_step, stage;
    size_t unit;             /* bytes of a shard */
    size_t chunk;            /* the least of a chunk; a multiple of WEFT_ALIGNMENT, the same on all workers */
    size_t span;             /* bytes of a chunk */
    uint32_t chunks, summed; /* of a shard; of the own one, so far. Not by chunks at all: 0 */
    uint32_t bad;            /* lowest rank with a non-finite contribution, plus 1; 0: none */
    uint64_t nonfinite;      /* non-finite elements seen in results here */
    uint64_t unsound;        /* of them, in chunks of sums that came from others */
    unsigned char *result;   /* a mirror, when done */
    const void **x;          /* scratch: one a participant */
    double *w;
    weft_request host_request;
    int host_active;
} weft_reduce;

WEFT_FN weft_algorithm weft_algorithm_resolve(weft_algorithm a, size_t bytes) {
    if (a != WEFT_ALGORITHM_AUTO) return a;
    return bytes <= WEFT_GATHER_BYTES ? WEFT_ALGORITHM_GATHER : WEFT_ALGORITHM_DIRECT;
}

/* Bytes of one mirror with room for the working copies of the algorithm. */
WEFT_FN size_t weft_mirror_bytes(weft_algorithm a, size_t bytes, uint32_t size, int *ok) {
    size_t total = 0;
    if (a == WEFT_ALGORITHM_GATHER) {
        if (!weft_mul_size(bytes, size, &total)) *ok = 0;
    } else if (!weft_add_size(bytes, (size_t)size * WEFT_ALIGNMENT, &total)) {
        *ok = 0;
    }
    return total;
}

WEFT_FN void weft_reduce_layout(weft_layout *l, weft_reduce *r, const weft_tensors *t, uint32_t size,
                                weft_algorithm a) {
    int ok = 1;
    size_t bytes = weft_map_measure(t, &ok);
    r->algorithm = weft_algorithm_resolve(a, bytes);
    r->chunk = WEFT_CHUNK_BYTES;
    r->map.position =
        (size_t *)weft_layout_take(l, WEFT_TEXT("positions of the tensors"), t->count + 1, sizeof(size_t));
    r->mirror = (unsigned char *)weft_layout_data(l, WEFT_TEXT("reduction"),
                                                  weft_mirror_bytes(r->algorithm, bytes, size, &ok), 1);
    r->spare = (unsigned char *)weft_layout_data(l, WEFT_TEXT("reduction, a partner's copy (doubling)"),
                                                 r->algorithm == WEFT_ALGORITHM_DOUBLING ? bytes : 0, 1);
    r->who = (uint32_t *)weft_layout_take(l, WEFT_TEXT("participants"), size, sizeof(uint32_t));
    r->x = (const void **)weft_layout_take(l, WEFT_TEXT("sources of a sum"), size, sizeof(void *));
    r->w = (double *)weft_layout_take(l, WEFT_TEXT("weights of a sum"), size, sizeof(double));
    if (!ok) l->overflow = 1;
}

WEFT_FN double weft_reduce_weight(const weft_reduce *r, uint32_t rank, size_t tensor) {
    if (!r->weight) return 1.0;
    return r->weight[(size_t)rank * r->groups + (r->group_of ? r->group_of[tensor] : 0)];
}

/* The blame for a sum that is not finite although all contributions are: it has overflowed. Higher than that of any
 * rank. */
WEFT_FN uint32_t weft_nobody(const weft_reduce *r) {
    return r->g->net->size + 1;
}

WEFT_FN void weft_reduce_blame(weft_reduce *r, uint32_t rank_plus_1) {
    if (rank_plus_1 && (!r->bad || rank_plus_1 < r->bad)) r->bad = rank_plus_1;
}

/* What stands in the exchange's argument of the neighbours: the lowest non-finite rank that they know of. */
WEFT_FN weft_status weft_reduce_hear(weft_reduce *r) {
    uint32_t i;
    for (i = 0; i < r->count; i++) {
        uint64_t heard = r->who[i] == r->g->net->rank ? 0 : r->g->peer[r->who[i]].in_arg;
        if (heard > weft_nobody(r))
            return weft_group_break(r->g, WEFT_ERR_PROTOCOL, r->who[i], WEFT_TEXT("header.argument"), weft_nobody(r),
                                    heard);
        weft_reduce_blame(r, (uint32_t)heard);
    }
    return WEFT_OK;
}

/* Adds the participants' pieces of [lo, hi) in rank order into the mirror at `out`. Participant i's piece is in the
 * host's tensors (i == here) or stands at slots + i * stride. */
WEFT_FN void weft_reduce_pieces(weft_reduce *r, size_t lo, size_t hi, unsigned char *slots, size_t stride,
                                unsigned char *out) {
    weft_range at = weft_range_map(&r->map, r->source, NULL, 0, lo, hi);
    /* a chunk goes out to the others next: it stays in the cache */
    const weft_kernels *k = r->chunks > 1 ? r->kernels - r->kernels->stream : r->kernels;
    unsigned char *own;
    size_t each, which, bytes;
    uint32_t i;
    while ((bytes = weft_range_next(&at, SIZE_MAX, &own, &each, &which)) != 0) {
        size_t past = at.at - bytes - lo, n = bytes / each;
        weft_dtype t = r->map.tensor[which].dtype;
        uint64_t nonfinite;
        for (i = 0; i < r->count; i++) {
            r->x[i] = i == r->here ? own : slots + i * stride + past;
            r->w[i] = weft_reduce_weight(r, r->who[i], which);
        }
        nonfinite = weft_run_weighted_sum(k, r->pool, t, n, r->count, r->w, r->x, out + past);
        r->nonfinite += nonfinite;
        if (nonfinite) weft_reduce_blame(r, weft_nobody(r));
        for (i = 0; nonfinite && i < r->count; i++)
            if (r->w[i] != 0.0 && weft_run_count_nonfinite(r->kernels, r->pool, t, n, r->x[i]))
                weft_reduce_blame(r, r->who[i] + 1);
    }
}

/* mirror[lo, hi) = (with_partial: mirror +) weight * own, for the ring and the first step of doubling. */
WEFT_FN void weft_reduce_own(weft_reduce *r, size_t lo, size_t hi, int with_partial) {
    weft_range at = weft_range_map(&r->map, r->source, NULL, 0, lo, hi);
    unsigned char *own;
    size_t each, which, bytes;
    while ((bytes = weft_range_next(&at, SIZE_MAX, &own, &each, &which)) != 0) {
        unsigned char *out = r->mirror + (at.at - bytes);
        weft_dtype t = r->map.tensor[which].dtype;
        const void *x[2];
        double w[2];
        uint64_t nonfinite;
        x[0] = out;
        w[0] = 1.0;
        x[with_partial] = own;
        w[with_partial] = weft_reduce_weight(r, r->g->net->rank, which);
        nonfinite = weft_run_weighted_sum(r->kernels, r->pool, t, bytes / each, with_partial ? 2 : 1, w, x, out);
        r->nonfinite += nonfinite;
        if (nonfinite) weft_reduce_blame(r, weft_nobody(r));
        if (nonfinite && w[with_partial] != 0.0 && weft_run_count_nonfinite(r->kernels, r->pool, t, bytes / each, own))
            weft_reduce_blame(r, r->g->net->rank + 1);
    }
}

/* mirror = mirror + spare over everything. */
WEFT_FN void weft_reduce_add_spare(weft_reduce *r) {
    weft_range at = weft_range_map(&r->map, NULL, r->mirror, 0, 0, weft_map_bytes(&r->map));
    unsigned char *p;
    size_t each, which, bytes;
    while ((bytes = weft_range_next(&at, SIZE_MAX, &p, &each, &which)) != 0) {
        const void *x[2];
        double w[2];
        uint64_t nonfinite;
        x[0] = p;
        x[1] = r->spare + (at.at - bytes);
        w[0] = w[1] = 1.0;
        nonfinite = weft_run_weighted_sum(r->kernels, r->pool, r->map.tensor[which].dtype, bytes / each, 2, w, x, p);
        r->nonfinite += nonfinite;
        if (nonfinite) weft_reduce_blame(r, weft_nobody(r));
    }
}

WEFT_FN WEFT_NOINLINE size_t weft_shard_lo(const weft_reduce *r, uint32_t shard) {
    size_t lo = shard * r->unit, bytes = weft_map_bytes(&r->map);
    return lo < bytes ? lo : bytes;
}

/* A flow between the mirrors, or from the host's tensors, of one shard range. */
WEFT_FN WEFT_NOINLINE weft_range weft_reduce_mirror(weft_reduce *r, unsigned char *base, size_t lo, size_t hi) {
    return weft_range_map(&r->map, NULL, base, 0, lo, hi);
}

WEFT_FN uint32_t weft_power_below(uint32_t n) {
    uint32_t p = 1;
    while (p <= n / 2) p *= 2;
    return p;
}

WEFT_FN uint32_t weft_log2(uint32_t power) {
    uint32_t n = 0;
    while (power > 1) {
        power /= 2;
        n++;
    }
    return n;
}

/* Each algorithm is a pair: `send` sets up the exchange of a stage (0: there is none left), `done` computes on what
 * it brought. */

/* Where chunk c of a shard begins, or would: at its end. */
WEFT_FN WEFT_NOINLINE size_t weft_chunk_lo(const weft_reduce *r, uint32_t shard, uint32_t c) {
    size_t lo = weft_shard_lo(r, shard) + c * r->span, end = weft_shard_lo(r, shard + 1);
    return lo < end ? lo : end;
}

/* Adds up the next chunk of the own shard, if it has come. */
WEFT_FN WEFT_NOINLINE int weft_direct_sum(weft_reduce *r) {
    size_t lo = weft_chunk_lo(r, r->here, r->summed);
    unsigned char *slots = r->mirror + (lo - weft_shard_lo(r, r->here));
    if (r->summed == r->chunks || r->summed >= r->stage) return 0;
    weft_reduce_pieces(r, lo, weft_chunk_lo(r, r->here, ++r->summed), slots, r->unit, slots + r->here * r->unit);
    return 1;
}

/* Stage t moves chunk t of everybody's numbers and chunk t - 2 of the sums, while chunk t - 1 is added up. They stand
 * in different parts of the mirror. */
WEFT_FN int weft_direct_send(weft_reduce *r) {
    size_t my_lo = weft_shard_lo(r, r->here);
    uint32_t i, scatter, gather;                               /* the chunks; none: r->chunks */
    if (r->stage == 0 && r->operation == WEFT_OP_ALL_GATHER) { /* the own shard stands in the host's tensors */
        weft_reduce_own(r, my_lo, weft_shard_lo(r, r->here + 1), 0);
        r->summed = r->chunks;
    }
    for (;; r->stage++) {
        scatter = r->operation != WEFT_OP_ALL_GATHER ? r->stage : r->chunks;
        gather = r->operation != WEFT_OP_REDUCE_SCATTER && r->stage >= 2 ? r->stage - 2 : r->chunks;
        if (scatter < r->chunks || gather < r->chunks) break;
        if (r->stage > r->chunks) return 0;
        weft_direct_sum(r); /* with nothing to do beside it */
    }
    weft_group_begin(r->g, WEFT_KIND_EXCHANGE, r->round, r->first_step + (r->chunks > 1 ? r->stage : r->stage / 2));
    for (i = 0; i < r->count; i++) {
        weft_range out =
            weft_range_map(&r->map, r->source, NULL, 0, weft_chunk_lo(r, i, scatter), weft_chunk_lo(r, i, scatter + 1));
        weft_range in = weft_range_map(&r->map, NULL, r->mirror + i * r->unit, my_lo,
                                       weft_chunk_lo(r, r->here, scatter), weft_chunk_lo(r, r->here, scatter + 1));
        out.then = in.then = r->mirror;
        out.then_lo = weft_chunk_lo(r, r->here, gather);
        out.then_hi = weft_chunk_lo(r, r->here, gather + 1);
        in.then_lo = weft_chunk_lo(r, i, gather);
        in.then_hi = weft_chunk_lo(r, i, gather + 1);
        if (i != r->here) weft_group_flow(r->g, r->who[i], &out, &in, r->bad);
    }
    return 1;
}

/* Non-finite elements of a mirror's [lo, hi). */
WEFT_FN WEFT_NOINLINE uint64_t weft_mirror_count_nonfinite(const weft_reduce *r, unsigned char *mirror, size_t lo,
                                                           size_t hi) {
    weft_range at = weft_range_map(&r->map, NULL, mirror, 0, lo, hi);
    unsigned char *p;
    size_t each, which, bytes;
    uint64_t n = 0;
    while ((bytes = weft_range_next(&at, SIZE_MAX, &p, &each, &which)) != 0)
        n += weft_run_count_nonfinite(r->kernels, r->pool, r->map.tensor[which].dtype, bytes / each, p);
    return n;
}

/* Sums that have come are looked at while they are in the cache. */
WEFT_FN void weft_direct_done(weft_reduce *r) {
    uint32_t i, gather = r->stage < 2 ? r->chunks : r->stage - 2;
    weft_direct_sum(r);
    if (r->operation != WEFT_OP_ALL_REDUCE || gather >= r->chunks) return;
    for (i = 0; i < r->count; i++)
        if (i != r->here)
            r->unsound +=
                weft_mirror_count_nonfinite(r, r->mirror, weft_chunk_lo(r, i, gather), weft_chunk_lo(r, i, gather + 1));
}

WEFT_FN int weft_gather_send(weft_reduce *r) {
    size_t all = weft_map_bytes(&r->map);
    uint32_t i;
    if (r->stage > 0) return 0;
    weft_group_begin(r->g, WEFT_KIND_EXCHANGE, r->round, r->first_step);
    for (i = 0; i < r->count; i++) {
        weft_range out = weft_range_map(&r->map, r->source, NULL, 0, 0, all);
        weft_range in = weft_reduce_mirror(r, r->mirror + i * all, 0, all);
        if (i != r->here) weft_group_flow(r->g, r->who[i], &out, &in, 0);
    }
    return 1;
}

WEFT_FN void weft_gather_done(weft_reduce *r) {
    size_t all = weft_map_bytes(&r->map);
    r->result = r->mirror + r->here * all;
    weft_reduce_pieces(r, 0, all, r->mirror, all, r->result);
}

WEFT_FN int weft_ring_send(weft_reduce *r) {
    uint32_t n = r->count, t = r->stage, from, to;
    weft_range out, in;
    if (t >= 2 * (n - 1)) return 0;
    /* reducing: stage t hands on the shard here - 1 - t; gathering: stage n - 1 + t the shard here - t */
    from = (r->here + 2 * n - (t < n - 1 ? 1 + t : t - (n - 1))) % n;
    to = (from + n - 1) % n;
    if (t == 0) weft_reduce_own(r, weft_shard_lo(r, from), weft_shard_lo(r, from + 1), 0);
    weft_group_begin(r->g, WEFT_KIND_EXCHANGE, r->round, r->first_step + t);
    out = weft_reduce_mirror(r, r->mirror, weft_shard_lo(r, from), weft_shard_lo(r, from + 1));
    in = weft_reduce_mirror(r, r->mirror, weft_shard_lo(r, to), weft_shard_lo(r, to + 1));
    weft_group_flow(r->g, r->who[(r->here + 1) % n], &out, NULL, r->bad);
    weft_group_flow(r->g, r->who[(r->here + n - 1) % n], NULL, &in, 0);
    return 1;
}

WEFT_FN void weft_ring_done(weft_reduce *r) {
    uint32_t n = r->count, shard = (r->here + 2 * n - 2 - r->stage) % n;
    if (r->stage < n - 1) weft_reduce_own(r, weft_shard_lo(r, shard), weft_shard_lo(r, shard + 1), 1);
}

/* Stages: 0 folds in the ranks beyond the power of two, 1 .. log2 the partners, then back to those beyond. */
WEFT_FN int weft_doubling_send(weft_reduce *r) {
    uint32_t p = weft_power_below(r->count), rounds = weft_log2(p), extra = r->count - p, to = r->count,
             from = r->count;
    size_t all = weft_map_bytes(&r->map);
    weft_range out = weft_reduce_mirror(r, r->mirror, 0, all), in;
    if (r->stage > rounds + 1) return 0;
    if (r->stage == 0) {
        weft_reduce_own(r, 0, all, 0);
        if (r->here >= p) to = r->here - p;
        if (r->here < extra) from = r->here + p;
    } else if (r->stage <= rounds) {
        if (r->here < p) to = from = r->here ^ (1u << (r->stage - 1));
    } else {
        if (r->here < extra) to = r->here + p;
        if (r->here >= p) from = r->here - p;
    }
    in = weft_reduce_mirror(r, r->stage > rounds ? r->mirror : r->spare, 0, all);
    weft_group_begin(r->g, WEFT_KIND_EXCHANGE, r->round, r->first_step + r->stage);
    if (to < r->count) weft_group_flow(r->g, r->who[to], &out, NULL, r->bad);
    if (from < r->count) weft_group_flow(r->g, r->who[from], NULL, &in, 0);
    return 1;
}

WEFT_FN void weft_doubling_done(weft_reduce *r) {
    uint32_t p = weft_power_below(r->count), rounds = weft_log2(p);
    int folds = r->stage == 0 && r->here < r->count - p;
    if (folds || (r->stage >= 1 && r->stage <= rounds && r->here < p)) weft_reduce_add_spare(r);
}

WEFT_FN int weft_broadcast_send(weft_reduce *r) {
    size_t all = weft_map_bytes(&r->map);
    weft_range out = weft_range_map(&r->map, r->source, NULL, 0, 0, all);
    weft_range in = weft_reduce_mirror(r, r->mirror, 0, all);
    uint32_t i;
    if (r->stage > 0) return 0;
    weft_group_begin(r->g, WEFT_KIND_EXCHANGE, r->round, r->first_step);
    for (i = 0; i < r->count; i++) {
        if (i == r->here) continue;
        if (r->here == r->root)
            weft_group_flow(r->g, r->who[i], &out, NULL, 0);
        else if (i == r->root)
            weft_group_flow(r->g, r->who[i], NULL, &in, 0);
    }
    return 1;
}

/* Of the whole result. */
WEFT_FN uint64_t weft_reduce_count_nonfinite(const weft_reduce *r) {
    return r->chunks ? r->unsound : weft_mirror_count_nonfinite(r, r->result, 0, weft_map_bytes(&r->map));
}

WEFT_FN void weft_broadcast_done(weft_reduce *r) {
    if (r->here == r->root)
        weft_reduce_own(r, 0, weft_map_bytes(&r->map), 0);
    else if (weft_reduce_count_nonfinite(r))
        weft_reduce_blame(r, r->who[r->root] + 1);
}

WEFT_FN int weft_reduce_send(weft_reduce *r) {
    if (r->operation == WEFT_OP_BARRIER) return 0;
    if (r->operation == WEFT_OP_BROADCAST) return weft_broadcast_send(r);
    if (r->count == 1) { /* nothing to move: the sum of one */
        weft_reduce_own(r, 0, weft_map_bytes(&r->map), 0);
        return 0;
    }
    if (r->chunks) return weft_direct_send(r);
    if (r->algorithm == WEFT_ALGORITHM_GATHER) return weft_gather_send(r);
    return r->algorithm == WEFT_ALGORITHM_RING ? weft_ring_send(r) : weft_doubling_send(r);
}

WEFT_FN void weft_reduce_done(weft_reduce *r) {
    if (r->operation == WEFT_OP_BROADCAST)
        weft_broadcast_done(r);
    else if (r->chunks)
        weft_direct_done(r);
    else if (r->algorithm == WEFT_ALGORITHM_GATHER)
        weft_gather_done(r);
    else if (r->algorithm == WEFT_ALGORITHM_RING)
        weft_ring_done(r);
    else
        weft_doubling_done(r);
}

/* Does the host's own all_reduce do this one? Only while all ranks of the transport take part: it knows no smaller
 * views. */
WEFT_FN int weft_reduce_by_host(const weft_reduce *r) {
    return r->host && r->g->net->all_reduce && r->operation == WEFT_OP_ALL_REDUCE && r->count == r->g->net->size &&
           r->count > 1;
}

/* One call of the host's all_reduce a tensor, from the host's tensors into the mirror. A non-finite result cannot be
 * traced to its rank. */
WEFT_FN weft_status weft_reduce_host_poll(weft_reduce *r) {
    weft_group *g = r->g;
    weft_request *q = &r->host_request;
    weft_status s = WEFT_OK;
    uint64_t bad;
    for (; r->stage < r->map.count; r->stage++) {
        const weft_tensor *t = &r->map.tensor[r->stage];
        unsigned char *out = r->mirror + r->map.position[r->stage];
        if (t->count == 0) continue;
        if (!r->host_active) {
            memset(q, 0, sizeof *q);
            q->bytes = UINT64_MAX;
            s = g->net->all_reduce(g->net->ctx, weft_reduce_weight(r, g->net->rank, r->stage), r->source[r->stage].data,
                                   out, t->count, t->dtype, q);
            if (s == WEFT_OK) g->traffic.payload_sent += t->count * weft_dtype_bytes(t->dtype);
        }
        if (s == WEFT_OK) s = g->net->test(g->net->ctx, q);
        r->host_active = s == WEFT_AGAIN;
        if (r->host_active) return (s = weft_group_pump(g)) < 0 ? s : weft_group_deadline(g, WEFT_NO_RANK);
        if (s < 0) {
            /* whose loss it was is for its link to say */
            weft_status why = s == WEFT_ERR_PEER_LOST ? weft_group_pump(g) : WEFT_OK;
            if (why < 0) return why;
            return weft_group_break(g, s == WEFT_ERR_PEER_LOST ? s : WEFT_ERR_TRANSPORT, WEFT_NO_RANK,
                                    WEFT_TEXT("all_reduce"), 0, weft_status_value(s));
        }
        g->progress = 1;
        bad =
            q->bytes != UINT64_MAX ? q->bytes : weft_run_count_nonfinite(r->kernels, r->pool, t->dtype, t->count, out);
        r->nonfinite += bad;
        if (bad) weft_reduce_blame(r, weft_nobody(r));
    }
    return WEFT_OK;
}

/* Steps that an operation may take. */
WEFT_FN uint32_t weft_reduce_steps(uint32_t size) {
    return 2 * size + WEFT_CHUNKS + 4;
}

/* Begins an operation over `count` participants (ascending ranks, this worker among them). Steps from first_step on
 * are its own. */
WEFT_FN void weft_reduce_begin(weft_reduce *r, weft_operation op, const weft_tensor *source, const uint32_t *who,
                               uint32_t count, uint64_t round, uint32_t first_step) {
    uint32_t i;
    size_t each;
    r->operation = op;
    r->source = source;
    r->count = count;
    for (i = 0; i < count; i++) {
        r->who[i] = who[i];
        if (who[i] == r->g->net->rank) r->here = i;
    }
    each = (weft_map_bytes(&r->map) + count - 1) / count;
    r->unit = (each + WEFT_ALIGNMENT - 1) / WEFT_ALIGNMENT * WEFT_ALIGNMENT;
    for (r->span = op == WEFT_OP_ALL_GATHER ? r->unit : r->chunk; r->span < r->unit / WEFT_CHUNKS; r->span *= 2)
        continue;
    r->chunks = op == WEFT_OP_ALL_REDUCE ? r->algorithm == WEFT_ALGORITHM_DIRECT : op <= WEFT_OP_ALL_GATHER;
    while (r->chunks && r->chunks * r->span < r->unit) r->chunks++;
    r->summed = 0;
    r->round = round;
    r->first_step = first_step;
    r->stage = 0;
    r->bad = 0;
    r->nonfinite = r->unsound = 0;
    r->result = r->mirror; /* but where all is gathered */
    r->g->exchanging = 0;
    WEFT_GPU_SETTLE(r->map); /* what is sent has been written, and what was in the mirror, used */
}

WEFT_FN weft_status weft_reduce_refused(weft_reduce *r) {
    return weft_group_fail(r->g, WEFT_ERR_NONFINITE, r->bad == weft_nobody(r) ? WEFT_NO_RANK : r->bad - 1,
                           r->bad == weft_nobody(r) ? WEFT_TEXT("sum") : WEFT_TEXT("contribution"), 0, r->nonfinite);
}

/* WEFT_OK: r->result holds it. WEFT_ERR_NONFINITE: a sum is not finite; r->bad - 1 is the lowest rank at fault, or
 * r->bad is weft_nobody; the same on all participants, nothing is written but the mirror, and the operation may
 * begin again without that rank. */
WEFT_FN weft_status weft_reduce_poll(weft_reduce *r) {
    weft_status s;
    int by_host = weft_reduce_by_host(r);
    if (by_host) {
        if ((s = weft_reduce_host_poll(r)) != WEFT_OK) return s;
    } else {
        for (;;) {
            if (!r->g->exchanging && !weft_reduce_send(r)) break;
            s = weft_group_poll(r->g);
            if (s == WEFT_AGAIN && weft_direct_sum(r)) s = weft_group_poll(r->g);
            if (s != WEFT_OK || (s = weft_reduce_hear(r)) != WEFT_OK) return s;
            weft_reduce_done(r);
            r->stage++;
        }
    }
    if ((s = WEFT_GPU_BREAKS_GROUP(r->g)) < 0) return s;
    if (!r->bad) {
        /* nobody owned up to it, so it came over the wire; the others may well have sound copies */
        if (!by_host && r->operation == WEFT_OP_ALL_REDUCE && r->algorithm != WEFT_ALGORITHM_GATHER && r->count > 1 &&
            weft_reduce_count_nonfinite(r))
            return weft_group_break(r->g, WEFT_ERR_PROTOCOL, WEFT_NO_RANK, WEFT_TEXT("a result that is not finite"), 0,
                                    1);
        return WEFT_OK;
    }
    return weft_reduce_refused(r);
}

/* Takes back what the transport still holds of the host's all_reduce. */
WEFT_FN void weft_reduce_cancel(weft_reduce *r) {
    if (r->host_active) r->g->net->cancel(r->g->net->ctx, &r->host_request);
    r->host_active = 0;
}

/* tensors[lo, hi) = mirror[lo, hi). */
WEFT_FN void weft_mirror_copy_out(const weft_reduce *r, const unsigned char *mirror, const weft_tensor *to, size_t lo,
                                  size_t hi) {
    weft_range at = weft_range_map(&r->map, to, NULL, 0, lo, hi);
    unsigned char *p;
    size_t each, which, bytes;
    while ((bytes = weft_range_next(&at, SIZE_MAX, &p, &each, &which)) != 0)
        if (each < 4) /* kernels would go through f32 */
            weft_data_copy(WEFT_GPU_IN(r->map), p, mirror + (at.at - bytes), bytes);
        else
            weft_run_copy(r->kernels, r->pool, WEFT_F32, bytes / 4, mirror + (at.at - bytes), p);
}

/* ---- The collective as an object of its own ---- */

enum { WEFT_STEP_HAVE = 1 << 30 }; /* the step of a round in which everyone says that it holds the result */
enum { WEFT_COLLECTIVE_IDLE = 0, WEFT_COLLECTIVE_SYNC = 1, WEFT_COLLECTIVE_RUN = 2, WEFT_COLLECTIVE_HAVE = 3 };

struct weft_collective {
    weft_collective_desc desc;
    weft_group group;
    weft_reduce reduce;
#ifdef WEFT_CUDA
    weft_gpu gpu;
#endif
    weft_sync sync;
    int state, pending;          /* pending: an operation waits for the sync */
    uint64_t committed;          /* operations that are over */
    uint64_t committed_id, have; /* the last of them; the one whose result is here, not yet committed, or 0 */
    weft_operation operation;
    uint32_t root;
};

WEFT_FN const char *const *weft_collective_field_names(void) {
    static const char *const names[] = {"algorithm (collective)", "tensors.count", "tensors (shapes and types)",
                                        "algorithm of the sum", NULL};
    return names;
}

WEFT_FN weft_status weft_collective_check(const weft_collective_desc *d, weft_detail *detail) {
    weft_status s;
    if (!d) return weft_refuse(detail, WEFT_ERR_ARGUMENT, WEFT_TEXT("desc"), 1, 0);
    if (d->struct_size != sizeof *d)
        return weft_refuse(detail, WEFT_ERR_ABI, WEFT_TEXT("desc.struct_size"), sizeof *d, d->struct_size);
    if ((s = weft_transport_check(d->transport, detail)) != WEFT_OK) return s;
    if ((s = weft_tensors_check(&d->tensors, 0, detail)) != WEFT_OK) return s;
    if ((s = WEFT_GPU_CHECK(d, detail)) != WEFT_OK) return s;
    if (d->view && (s = weft_view_check(d->view, d->transport, detail)) != WEFT_OK) return s;
    if (d->channel >= WEFT_CHANNELS)
        return weft_refuse(detail, WEFT_ERR_ARGUMENT, WEFT_TEXT("desc.channel"), WEFT_CHANNELS - 1, d->channel);
    if ((uint32_t)d->algorithm > WEFT_ALGORITHM_DOUBLING)
        return weft_refuse(detail, WEFT_ERR_ARGUMENT, WEFT_TEXT("desc.algorithm"), WEFT_ALGORITHM_DOUBLING,
                           (uint64_t)d->algorithm);
    if (d->timeout_ns && !d->transport->now)
        return weft_refuse(detail, WEFT_ERR_ARGUMENT, WEFT_TEXT("transport.now (for timeout_ns)"), 1, 0);
    if (!weft_kernels_select(d->isa, 0))
        return weft_refuse(detail, WEFT_ERR_UNSUPPORTED, WEFT_TEXT("desc.isa"), 0, (uint64_t)d->isa);
    return WEFT_OK;
}

WEFT_FN weft_collective *weft_collective_lay_out(weft_layout *l, const weft_collective_desc *d, weft_collective *tmp) {
    weft_collective *c = (weft_collective *)weft_layout_take(l, WEFT_TEXT("collective"), 1, sizeof *c);
    weft_collective *at = c ? c : tmp;
    if (c) memset(c, 0, sizeof *c);
    weft_group_layout(l, d->transport->size, &at->group.peer, &at->group.member);
    weft_sync_layout(l, d->transport->size, &at->sync.all);
    weft_reduce_layout(l, &at->reduce, &d->tensors, d->transport->size, d->algorithm);
    WEFT_GPU_LAYOUT(l, &at->gpu, &d->tensors, &d->tensors, d->transport->size);
    return c;
}

/* Bytes for weft_collective_init; 0 if the descriptor is refused (report->detail says why). */
WEFT_FN size_t weft_collective_memory(const weft_collective_desc *d, weft_memory_report *report) {
    weft_layout l;
    weft_detail detail = weft_detail_none();
    weft_collective tmp;
    size_t total = 0;
    memset(&l, 0, sizeof l);
    memset(&tmp, 0, sizeof tmp);
    if (report) memset(report, 0, sizeof *report);
    l.report = report;
    if (weft_collective_check(d, &detail) == WEFT_OK) {
        WEFT_GPU_LEND(&l, d);
        weft_collective_lay_out(&l, d, &tmp);
        total = weft_layout_total(&l);
        if (!total) weft_refuse(&detail, WEFT_ERR_OVERFLOW, WEFT_TEXT("memory"), SIZE_MAX, 0);
    }
    if (report) {
        report->detail = detail;
        report->total_bytes = total;
        report->requests_per_peer = WEFT_REQUESTS_PER_PEER;
        WEFT_GPU_REPORT(report, &l);
    }
    return total;
}

/* What every object's group starts from. */
WEFT_FN void weft_group_start(weft_group *g, const weft_transport *net, uint32_t channel, const weft_view *view,
                              uint64_t timeout_ns, weft_trace_fn trace, void *trace_ctx) {
    uint32_t i;
    memset(g->peer, 0, net->size * sizeof *g->peer);
    g->net = net;
    g->channel = channel;
    g->timeout_ns = timeout_ns;
    g->trace = trace;
    g->trace_ctx = trace_ctx;
    g->detail = weft_detail_none();
    g->phase = WEFT_TEXT("before first contact");
    if (view) {
        weft_group_set_view(g, view);
        return;
    }
    for (i = 0; i < net->size; i++) {
        g->member[i] = i;
        g->peer[i].member = 1;
    }
    g->members = net->size;
    g->here = net->rank;
}

WEFT_FN weft_status weft_collective_init(weft_collective **out, const weft_collective_desc *d, void *memory,
                                         size_t bytes, weft_detail *detail) {
    weft_layout l;
    weft_collective *c;
    weft_detail why = weft_detail_none();
    weft_detail *say = detail ? detail : &why;
    weft_status s;
    size_t need;
    *say = why;
    if (!out) return weft_refuse(say, WEFT_ERR_ARGUMENT, WEFT_TEXT("out"), 1, 0);
    *out = NULL;
    if ((s = weft_collective_check(d, say)) != WEFT_OK) return s;
    need = weft_collective_memory(d, NULL);
    if (!need) return weft_refuse(say, WEFT_ERR_OVERFLOW, WEFT_TEXT("memory"), SIZE_MAX, 0);
    if (!memory || bytes < need) return weft_refuse(say, WEFT_ERR_MEMORY, WEFT_TEXT("bytes"), need, memory ? bytes : 0);
    if ((s = weft_float_probe(say)) != WEFT_OK) return s;
    memset(&l, 0, sizeof l);
    l.base = weft_align_memory(memory);
    WEFT_GPU_LEND(&l, d);
    c = weft_collective_lay_out(&l, d, NULL);
    c->desc = *d;
    weft_group_start(&c->group, d->transport, d->channel, d->view, d->timeout_ns, d->trace, d->trace_ctx);
    c->reduce.g = &c->group;
    c->reduce.pool = d->pool;
    c->reduce.host = d->host_collectives;
    c->reduce.groups = 1;
    weft_map_init(&c->reduce.map, &d->tensors, c->reduce.map.position);
    c->reduce.kernels = weft_kernels_select(d->isa, weft_map_bytes(&c->reduce.map));
    s = WEFT_GPU_INIT(&c->gpu, d, &l, &c->reduce.kernels, say);
    if (s != WEFT_OK) return s;
    WEFT_GPU_USE(c->group, d, &c->gpu);
    WEFT_GPU_USE(c->reduce.map, d, &c->gpu);
    c->sync.name = weft_collective_field_names();
    c->sync.mine[0] = 0x434F4C4Cu; /* 'COLL' */
    c->sync.mine[1] = d->tensors.count;
    c->sync.mine[2] = weft_shape_hash(&d->tensors);
    c->sync.mine[3] = (uint64_t)c->reduce.algorithm | (uint64_t)(d->host_collectives != 0) << 8;
    *out = c;
    return WEFT_OK;
}

WEFT_FN void weft_collective_sync(weft_collective *c) {
    c->sync.mine[WEFT_SYNC_COMMITTED] = c->committed_id;
    c->sync.mine[WEFT_SYNC_HAVE] =
        c->have; /* stands until a sync is complete: there may be a loss during the next, too */
    c->state = WEFT_COLLECTIVE_SYNC;
    weft_sync_begin(&c->sync, &c->group);
}

WEFT_FN void weft_collective_commit(weft_collective *c) {
    size_t lo = 0, hi = weft_map_bytes(&c->reduce.map);
    if (c->operation == WEFT_OP_REDUCE_SCATTER && c->reduce.count > 1) {
        lo = weft_shard_lo(&c->reduce, c->reduce.here);
        hi = weft_shard_lo(&c->reduce, c->reduce.here + 1);
    }
    if (c->operation != WEFT_OP_BARRIER)
        weft_mirror_copy_out(&c->reduce, c->reduce.result, c->desc.tensors.tensor, lo, hi);
    c->committed++;
    c->committed_id = c->have;
    c->have = 0;
    c->state = WEFT_COLLECTIVE_IDLE;
    c->pending = 0;
    weft_group_trace(&c->group, WEFT_EVENT_COMMITTED, WEFT_NO_RANK, c->committed, c->reduce.count);
}

WEFT_FN void weft_collective_run(weft_collective *c) {
    weft_group *g = &c->group;
    uint32_t i;
    c->state = WEFT_COLLECTIVE_RUN;
    g->phase_round = c->committed + 1;
    g->phase = WEFT_TEXT("collective");
    weft_reduce_begin(&c->reduce, c->operation, c->desc.tensors.tensor, g->member, g->members, c->committed + 1, 1);
    for (i = 0; i < g->members; i++)
        if (g->member[i] == c->root) c->reduce.root = i;
}

/* Goes on; WEFT_OK: nothing is in progress, the tensors are the host's again. After a loss: WEFT_ERR_PEER_LOST until
 * regroup. */
WEFT_FN weft_status weft_collective_poll(weft_collective *c) {
    weft_group *g = &c->group;
    weft_status s;
    if (g->busy) return WEFT_ERR_REENTRY;
    g->busy = 1;
    for (s = WEFT_OK; s == WEFT_OK;) {
        if (c->state == WEFT_COLLECTIVE_IDLE) {
            s = weft_group_pump(g);
            break;
        }
        if (c->state == WEFT_COLLECTIVE_SYNC) {
            if ((s = weft_sync_poll(&c->sync, g)) != WEFT_OK) break;
            if (weft_sync_commits(&c->sync, c->have)) weft_collective_commit(c);
            c->state = WEFT_COLLECTIVE_IDLE;
            c->committed = c->sync.committed;
            c->committed_id = c->sync.committed_id;
            c->have = 0;
            if (!c->pending) break;
            weft_collective_run(c);
        } else if (c->state == WEFT_COLLECTIVE_RUN) {
            s = weft_reduce_poll(&c->reduce);
            if (s != WEFT_OK && s != WEFT_ERR_NONFINITE) break;
            c->state = WEFT_COLLECTIVE_HAVE;
            c->have = s == WEFT_OK ? weft_round_id(c->committed + 1, g->epoch) : 0;
            /* not all operations show everybody what is not finite: HAVE tells */
            weft_gather_begin(g, g->member, g->members, c->committed + 1, WEFT_STEP_HAVE, NULL, 0, 1, c->reduce.bad);
            s = WEFT_OK;
        } else {
            if ((s = weft_group_poll(g)) != WEFT_OK || (s = weft_reduce_hear(&c->reduce)) != WEFT_OK) break;
            if (!c->reduce.bad) {
                weft_collective_commit(c);
                break;
            }
            c->committed++; /* rejected by all, tensors untouched */
            c->committed_id = weft_round_id(c->committed, g->epoch);
            c->have = 0;
            c->state = WEFT_COLLECTIVE_IDLE;
            c->pending = 0;
            s = weft_reduce_refused(&c->reduce);
        }
    }
    if (WEFT_GPU_BREAKS_GROUP(g) < 0) s = g->failed; /* whatever else came of it */
    g->busy = 0;
    return s;
}

/* Begins an operation over the tensors, in place on commit; every member begins the same. `weight`: one a rank of
 * the transport, the same everywhere, read until done, for sums only; NULL: 1. `root`: a rank, for WEFT_OP_BROADCAST.
 * Then poll. */
WEFT_FN weft_status weft_collective_begin(weft_collective *c, weft_operation op, const double *weight, uint32_t root) {
    weft_group *g = &c->group;
    if (g->busy) return WEFT_ERR_REENTRY;
    if (g->failed) return weft_group_pump(g);
    if (c->state != WEFT_COLLECTIVE_IDLE)
        return weft_group_fail(g, WEFT_ERR_ORDER, WEFT_NO_RANK, WEFT_TEXT("state"), WEFT_COLLECTIVE_IDLE,
                               (uint64_t)c->state);
    if ((uint32_t)op > WEFT_OP_BARRIER)
        return weft_group_fail(g, WEFT_ERR_ARGUMENT, WEFT_NO_RANK, WEFT_TEXT("operation"), WEFT_OP_BARRIER,
                               (uint64_t)op);
    if (op == WEFT_OP_BROADCAST && (root >= g->net->size || !g->peer[root].member))
        return weft_group_fail(g, WEFT_ERR_ARGUMENT, root, WEFT_TEXT("root (not a member)"), g->net->size - 1, root);
    if (weight && op != WEFT_OP_ALL_REDUCE && op != WEFT_OP_REDUCE_SCATTER)
        return weft_group_fail(g, WEFT_ERR_ARGUMENT, WEFT_NO_RANK, WEFT_TEXT("weight (only for sums)"), 0, 1);
    c->operation = op;
    c->root = root;
    c->reduce.weight = weight;
    c->pending = 1;
    if (g->synced)
        weft_collective_run(c);
    else
        weft_collective_sync(c);
    return weft_collective_poll(c);
}

/* The new view after a loss (or a return): settles the operation in progress; then poll. */
WEFT_FN weft_status weft_collective_regroup(weft_collective *c, const weft_view *view) {
    weft_group *g = &c->group;
    weft_status s;
    if (g->busy) return WEFT_ERR_REENTRY;
    g->detail = weft_detail_none();
    if ((s = weft_group_check_view(g, view)) != WEFT_OK) return s;
    weft_reduce_cancel(&c->reduce);
    weft_group_set_view(g, view);
    c->pending = 0; /* an operation cut short is abandoned unless somebody has committed it */
    weft_collective_sync(c);
    return weft_collective_poll(c);
}

/* The host has learnt that `rank` is gone, or that its link is usable again (a regroup may then name it). */
WEFT_FN weft_status weft_collective_peer_lost(weft_collective *c, uint32_t rank) {
    if (c->group.busy) return WEFT_ERR_REENTRY;
    if (rank >= c->group.net->size || rank == c->group.net->rank) return WEFT_ERR_ARGUMENT;
    weft_group_lose(&c->group, rank);
    return WEFT_OK;
}

WEFT_FN weft_status weft_collective_peer_up(weft_collective *c, uint32_t rank) {
    if (c->group.busy) return WEFT_ERR_REENTRY;
    if (rank >= c->group.net->size || rank == c->group.net->rank) return WEFT_ERR_ARGUMENT;
    c->group.peer[rank].lost = c->group.peer[rank].left = 0;
    return WEFT_OK;
}

WEFT_FN const weft_detail *weft_collective_detail(const weft_collective *c) {
    return &c->group.detail;
}
WEFT_FN const weft_traffic *weft_collective_traffic(const weft_collective *c) {
    return &c->group.traffic;
}

/* The channel may be used again after a barrier of the host's own behind every worker's close. */
WEFT_FN void weft_collective_close(weft_collective *c) {
    if (c->group.busy) return;
    weft_reduce_cancel(&c->reduce);
    weft_group_close(&c->group);
}
