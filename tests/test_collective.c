/* SPDX-License-Identifier: MIT
 * The collectives: every operation, algorithm, size and number of workers against sums in the named order, bit for bit;
 * and what becomes of an operation when a worker is lost, a number is not finite, or a callback fails. */
#define GRAWA_IMPLEMENTATION
#include "../grawa.h"
#include "cluster.h"

#include <check.h>

#define MOST 33

typedef struct team team;

typedef struct member {
    team *t;
    uint32_t rank;
    weft_transport net;
    weft_collective *c;
    unsigned char *memory;
    size_t bytes;
    weft_tensors x, before;
    weft_status status;
    int out; /* does not take part any more */
} member;

struct team {
    weft_sim sim;
    uint32_t size;
    member m[MOST];
    weft_tensors expect; /* of the last operation */
    weft_collective_desc desc;
    size_t chunk; /* of the next objects; 0: the library's */
    uint32_t epoch;
    uint64_t done; /* members whose last operation has come to an end */
};

typedef struct shape {
    size_t tensors;
    size_t count[5];
    weft_dtype dtype[5];
} shape;

static const shape shapes[] = {
    {1, {0}, {WEFT_F32}},
    {1, {1}, {WEFT_F32}},
    {1, {3}, {WEFT_F64}},
    {3, {1, 0, 3}, {WEFT_BF16, WEFT_F32, WEFT_F16}},
    {1, {1000}, {WEFT_F32}},
    {5, {1000, 1, 0, 333, 77}, {WEFT_F16, WEFT_F64, WEFT_BF16, WEFT_F32, WEFT_BF16}},
    {2, {3000, 17}, {WEFT_F64, WEFT_F32}},
    {2, {70001, 5}, {WEFT_F32, WEFT_F16}},
};
enum { SHAPES = (int)(sizeof shapes / sizeof shapes[0]), LARGE = SHAPES - 1 };

/* ---- the reference ---- */

/* An element in the type in which it is summed: f64 tensors in f64, all others in f32. */
static double term(const weft_tensor *t, size_t i, double w) {
    double v = cluster_get(t, i);
    if (t->dtype == WEFT_F64) {
        volatile double p = w * v;
        return p;
    } else {
        volatile float p = (float)w * (float)v;
        return (double)p;
    }
}

static double plus(weft_dtype dtype, double a, double b) {
    if (dtype == WEFT_F64) {
        volatile double s = a + b;
        return s;
    } else {
        volatile float s = (float)a + (float)b;
        return (double)s;
    }
}

/* As it stands in memory: the 16-bit types are rounded. */
static double stored(weft_dtype dtype, double v) {
    if (dtype == WEFT_BF16) return (double)cluster_of_bits((uint32_t)cluster_to_bf16((float)v) << 16);
    if (dtype == WEFT_F16) return cluster_of_half(cluster_to_half(v));
    return v;
}

static double weight_of(const double *weight, uint32_t rank) {
    return weight ? weight[rank] : 1.0;
}

/* Every element stands at a position; shards are equal ranges of positions, in multiples of 64 bytes. */
static uint32_t shard_of(const weft_tensors *x, uint32_t n, size_t tensor, size_t i) {
    size_t k, at = 0, total = 0, unit;
    for (k = 0; k < x->count; k++) {
        size_t bytes = (x->tensor[k].count * weft_dtype_bytes(x->tensor[k].dtype) + 63) / 64 * 64;
        if (k < tensor) at += bytes;
        total += bytes;
    }
    unit = ((total + n - 1) / n + 63) / 64 * 64;
    return (uint32_t)((at + i * weft_dtype_bytes(x->tensor[tensor].dtype)) / unit);
}

/* The sum of one element over the members `who` in the order of the algorithm. */
static double sum_of(const team *t, weft_algorithm a, const uint32_t *who, uint32_t n, const double *weight, size_t k,
                     size_t i) {
    const weft_tensor *any = &t->m[who[0]].before.tensor[k];
    weft_dtype dtype = any->dtype;
    double s = 0, part[MOST];
    uint32_t j, p, step;
    int started = 0;
    if (a == WEFT_ALGORITHM_RING && n > 1) {
        uint32_t shard = shard_of(&t->m[who[0]].before, n, k, i);
        for (j = 1; j <= n; j++) {
            uint32_t r = who[(shard + j) % n];
            double w = weight_of(weight, r), v = (float)w == 0 && dtype != WEFT_F64 ? 0
                                                 : w == 0                           ? 0
                                                          : term(&t->m[r].before.tensor[k], i, w);
            if (w == 0)
                s = started ? s : 0;
            else
                s = started ? plus(dtype, s, v) : v;
            s = stored(dtype, s);
            started = 1;
        }
        return s;
    }
    if (a == WEFT_ALGORITHM_DOUBLING && n > 1) {
        for (j = 0; j < n; j++) {
            double w = weight_of(weight, who[j]);
            part[j] = w == 0 ? 0 : stored(dtype, term(&t->m[who[j]].before.tensor[k], i, w));
        }
        for (p = 1; p * 2 <= n; p *= 2) continue;
        for (j = p; j < n; j++) part[j - p] = stored(dtype, plus(dtype, part[j - p], part[j]));
        for (step = 1; step < p; step *= 2)
            for (j = 0; j < p; j += 2 * step) part[j] = stored(dtype, plus(dtype, part[j], part[j + step]));
        return part[0]; /* a + b is b + a: every partner has the same bits */
    }
    for (j = 0; j < n; j++) {
        double w = weight_of(weight, who[j]), v;
        if (w == 0) continue;
        v = term(&t->m[who[j]].before.tensor[k], i, w);
        s = started ? plus(dtype, s, v) : v;
        started = 1;
    }
    return stored(dtype, s);
}

/* ---- the team ---- */

static uint32_t members_of(const team *t, uint32_t *who) {
    uint32_t r, n = 0;
    for (r = 0; r < t->size; r++)
        if (!t->m[r].out) who[n++] = r;
    return n;
}

static void member_init(member *m) {
    team *t = m->t;
    weft_collective_desc d = t->desc;
    weft_detail why = weft_detail_none();
    d.struct_size = sizeof d;
    d.tensors = m->x;
    d.transport = &m->net;
    m->bytes = weft_collective_memory(&d, NULL);
    m->memory = (unsigned char *)malloc(m->bytes + 1);
    ck_assert_ptr_nonnull(m->memory);
    m->status = weft_collective_init(&m->c, &d, m->memory + 1, m->bytes, &why);
    ck_assert_msg(m->status == WEFT_OK, "init: %s (%s)", weft_strerror(m->status), why.field ? why.field : "-");
    if (t->chunk) m->c->reduce.chunk = t->chunk;
}

static void team_open_by(team *t, const weft_sim_desc *sim, const weft_collective_desc *d, const shape *s,
                         size_t chunk) {
    uint32_t r;
    memset(t, 0, sizeof *t);
    t->size = sim->size;
    t->chunk = chunk;
    t->desc = *d;
    ck_assert_int_eq(weft_sim_init(&t->sim, sim), WEFT_OK);
    t->expect = cluster_tensors(s->tensors, s->count, s->dtype);
    for (r = 0; r < t->size; r++) {
        member *m = &t->m[r];
        m->t = t;
        m->rank = r;
        m->x = cluster_tensors(s->tensors, s->count, s->dtype);
        m->before = cluster_tensors(s->tensors, s->count, s->dtype);
        cluster_fill(&m->x, sim->seed * 977 + r, r % 2 ? 1e-3 : 1.0);
        weft_sim_transport(&t->sim, r, &m->net);
        member_init(m);
    }
}

static void team_open(team *t, const weft_sim_desc *sim, const weft_collective_desc *d, const shape *s) {
    team_open_by(t, sim, d, s, 0);
}

static void team_close(team *t) {
    uint32_t r;
    for (r = 0; r < t->size; r++) {
        member *m = &t->m[r];
        if (m->c) weft_collective_close(m->c);
        free(m->memory);
        ck_assert_msg(cluster_tensors_whole(&m->x), "worker %u: somebody wrote behind a tensor", r);
        cluster_tensors_free(&m->x);
        cluster_tensors_free(&m->before);
    }
    cluster_tensors_free(&t->expect);
    ck_assert_msg(!weft_sim_violation(&t->sim), "%s", weft_sim_violation(&t->sim));
    ck_assert_uint_eq(weft_sim_outstanding(&t->sim), 0);
    weft_sim_free(&t->sim);
}

static void keep(team *t) {
    uint32_t r;
    for (r = 0; r < t->size; r++) cluster_copy(&t->m[r].x, &t->m[r].before);
}

static int untouched(const member *m) {
    return cluster_same_bits(&m->x, &m->before);
}

static int member_turn(void *user, uint32_t rank) {
    member *m = (member *)user;
    (void)rank;
    if (m->status == WEFT_AGAIN) m->status = weft_collective_poll(m->c);
    return m->status != WEFT_AGAIN;
}

/* Everybody who is not out polls until the operation is over. 0: somebody waits for ever. */
static int settle(team *t) {
    uint32_t r;
    for (r = 0; r < t->size; r++)
        if (!t->m[r].out && weft_sim_alive(&t->sim, r)) weft_sim_worker(&t->sim, r, member_turn, &t->m[r]);
    return weft_sim_run(&t->sim, 4000000) == WEFT_SIM_DONE;
}

static void begin(team *t, weft_operation op, const double *weight, uint32_t root) {
    uint32_t r;
    keep(t);
    for (r = 0; r < t->size; r++)
        if (!t->m[r].out) t->m[r].status = weft_collective_begin(t->m[r].c, op, weight, root);
}

static void must_settle(team *t) {
    uint32_t r;
    ck_assert_msg(settle(t), "%s", weft_sim_text(&t->sim));
    for (r = 0; r < t->size; r++) {
        const weft_detail *d = weft_collective_detail(t->m[r].c);
        if (!t->m[r].out)
            ck_assert_msg(t->m[r].status == WEFT_OK, "worker %u: %s (peer %d, %s, %s, %llu, %llu)", r,
                          weft_strerror(t->m[r].status), (int)d->peer, d->phase, d->field,
                          (unsigned long long)d->expected, (unsigned long long)d->got);
    }
}

static weft_algorithm resolved(const team *t) {
    return weft_algorithm_resolve(t->desc.algorithm, weft_map_bytes(&t->m[0].c->reduce.map));
}

/* What a committed operation has left at worker `r`, from what stood there before. */
static void expected(team *t, uint32_t r, weft_operation op, const uint32_t *who, uint32_t n, const double *weight,
                     uint32_t root) {
    weft_algorithm a = resolved(t);
    size_t k, i;
    uint32_t me = 0;
    while (who[me] != r) me++;
    cluster_copy(&t->m[r].before, &t->expect);
    if (op == WEFT_OP_BROADCAST) cluster_copy(&t->m[root].before, &t->expect);
    if (op == WEFT_OP_BROADCAST || op == WEFT_OP_BARRIER) return;
    for (k = 0; k < t->expect.count; k++)
        for (i = 0; i < t->expect.tensor[k].count; i++) {
            uint32_t shard = shard_of(&t->expect, n, k, i);
            if (op == WEFT_OP_ALL_GATHER)
                cluster_set(&t->expect.tensor[k], i, cluster_get(&t->m[who[shard]].before.tensor[k], i));
            else if (op == WEFT_OP_ALL_REDUCE || shard == me)
                cluster_set(&t->expect.tensor[k], i,
                            sum_of(t, op == WEFT_OP_REDUCE_SCATTER ? WEFT_ALGORITHM_DIRECT : a, who, n, weight, k, i));
        }
}

static void check_result(team *t, weft_operation op, const double *weight, uint32_t root, const char *what) {
    uint32_t who[MOST], n = members_of(t, who), j;
    for (j = 0; j < n; j++) {
        if (j == 0 || op == WEFT_OP_REDUCE_SCATTER || op == WEFT_OP_BARRIER)
            expected(t, who[j], op, who, n, weight, root);
        ck_assert_msg(cluster_same_bits(&t->m[who[j]].x, &t->expect),
                      "%s: %u workers, algorithm %d, operation %d: worker %u has other bits", what, n,
                      t->desc.algorithm, op, who[j]);
    }
}

static weft_sim_desc quiet(uint64_t seed, uint32_t n) {
    weft_sim_desc d;
    memset(&d, 0, sizeof d);
    d.seed = seed;
    d.size = n;
    d.latency_ns = 1000;
    d.jitter_ns = 500;
    d.scribble = d.watch = d.cancel_delivers = 1;
    d.mode = (weft_sim_mode)(seed % 4);
    d.eager_bytes = 200;
    return d;
}

static void make_weights(double *weight, uint32_t n, uint64_t seed) {
    uint32_t r;
    for (r = 0; r < n; r++) weight[r] = 0.1 + 0.37 * (double)((r * 7 + seed) % 5);
    if (n > 1) weight[seed % n] = 0; /* that one is not read */
}

static team here; /* large: not on the stack */

/* ---- right results ---- */

/* _i: number of workers; every algorithm, operation and shape. */
START_TEST(named_order) {
    static const uint32_t workers[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 16, 33};
    uint32_t n = workers[_i];
    int a, s;
    for (a = WEFT_ALGORITHM_AUTO; a <= WEFT_ALGORITHM_DOUBLING; a++)
        for (s = 0; s < SHAPES; s++) {
            weft_sim_desc sim = quiet((uint64_t)(a + s), n);
            weft_collective_desc d;
            double weight[MOST];
            if (n > 9 && s > 5) continue;
            if (s == LARGE && n != 2 && n != 5) continue;
            memset(&d, 0, sizeof d);
            d.algorithm = (weft_algorithm)a;
            team_open(&here, &sim, &d, &shapes[s]);
            make_weights(weight, n, (uint64_t)s);
            begin(&here, WEFT_OP_ALL_REDUCE, NULL, 0);
            must_settle(&here);
            check_result(&here, WEFT_OP_ALL_REDUCE, NULL, 0, "sum");
            begin(&here, WEFT_OP_ALL_REDUCE, weight, 0);
            must_settle(&here);
            check_result(&here, WEFT_OP_ALL_REDUCE, weight, 0, "weighted sum");
            if (a == WEFT_ALGORITHM_AUTO) {
                uint32_t r;
                for (r = 0; r < n; r++) cluster_fill(&here.m[r].x, r + 5, 1.0);
                begin(&here, WEFT_OP_REDUCE_SCATTER, weight, 0);
                must_settle(&here);
                check_result(&here, WEFT_OP_REDUCE_SCATTER, weight, 0, "reduce-scatter");
                begin(&here, WEFT_OP_ALL_GATHER, NULL, 0);
                must_settle(&here);
                check_result(&here, WEFT_OP_ALL_GATHER, NULL, 0, "all-gather");
                for (r = 0; r < n; r += 1 + n / 4) {
                    cluster_fill(&here.m[r].x, r + 50, 1.0);
                    begin(&here, WEFT_OP_BROADCAST, NULL, r);
                    must_settle(&here);
                    check_result(&here, WEFT_OP_BROADCAST, NULL, r, "broadcast");
                }
                begin(&here, WEFT_OP_BARRIER, NULL, 0);
                must_settle(&here);
                check_result(&here, WEFT_OP_BARRIER, NULL, 0, "barrier");
            }
            team_close(&here);
        }
}
END_TEST

/* Reduce-scatter, then all-gather: the same as an all-reduce in rank order. */
START_TEST(two_halves_make_a_whole) {
    uint32_t n, r;
    for (n = 1; n <= 6; n++) {
        weft_sim_desc sim = quiet(n, n);
        weft_collective_desc d;
        static weft_tensors start[6];
        memset(&d, 0, sizeof d);
        d.algorithm = WEFT_ALGORITHM_DIRECT;
        team_open(&here, &sim, &d, &shapes[5]);
        for (r = 0; r < n; r++) {
            start[r] = cluster_tensors(shapes[5].tensors, shapes[5].count, shapes[5].dtype);
            cluster_copy(&here.m[r].x, &start[r]);
        }
        begin(&here, WEFT_OP_REDUCE_SCATTER, NULL, 0);
        must_settle(&here);
        begin(&here, WEFT_OP_ALL_GATHER, NULL, 0);
        must_settle(&here);
        for (r = 0; r < n; r++) cluster_copy(&start[r], &here.m[r].before);
        check_result(&here, WEFT_OP_ALL_REDUCE, NULL, 0, "two halves");
        for (r = 0; r < n; r++) cluster_tensors_free(&start[r]);
        team_close(&here);
    }
}
END_TEST

/* A shard in one chunk or in many, of any size: the same bits. And what a single chunk sends is what it takes. */
START_TEST(chunks_do_not_matter) {
    static const size_t chunks[] = {64, 192, 320, 1024, 4096, 1 << 19};
    static const weft_operation ops[3] = {WEFT_OP_ALL_REDUCE, WEFT_OP_REDUCE_SCATTER, WEFT_OP_ALL_GATHER};
    uint32_t n, r;
    size_t c, s, o;
    uint64_t several = 0;
    for (n = 2; n <= 5; n++)
        for (s = 0; s < SHAPES; s++)
            for (c = 0; c < sizeof chunks / sizeof chunks[0]; c++) {
                weft_sim_desc sim = quiet(n + s + c, n);
                weft_collective_desc d;
                double weight[MOST];
                memset(&d, 0, sizeof d);
                d.algorithm = WEFT_ALGORITHM_DIRECT;
                if (s == LARGE && (c == 1 || c == 2 || n > 3)) continue;
                team_open_by(&here, &sim, &d, &shapes[s], chunks[c]);
                make_weights(weight, n, c);
                for (o = 0; o < 3; o++) {
                    const weft_reduce *x = &here.m[0].c->reduce;
                    const double *w = ops[o] == WEFT_OP_ALL_GATHER ? NULL : weight;
                    uint64_t before = weft_collective_traffic(here.m[0].c)->messages_sent, bulk;
                    for (r = 0; r < n; r++) cluster_fill(&here.m[r].x, r + o, 1.0);
                    begin(&here, ops[o], w, 0);
                    must_settle(&here);
                    check_result(&here, ops[o], w, 0, "chunks");
                    ck_assert_uint_ge(x->chunks, 1);
                    ck_assert_uint_le(x->chunks + 2, weft_reduce_steps(n));
                    ck_assert_uint_ge(x->chunks * x->span, x->unit);
                    several += x->chunks > 1;
                    if (o == 2) ck_assert_uint_eq(x->chunks, 1);
                    /* headers: a step of the sum each, and HAVE (and the agreement of the view); and what is bulk */
                    bulk = weft_collective_traffic(here.m[0].c)->messages_sent - before;
                    if (x->chunks == 1 && x->unit <= WEFT_INLINE_BYTES)
                        ck_assert_uint_eq(bulk, (uint64_t)(n - 1) * (1 + (o == 0 ? 2 : 1) + (o == 0)));
                }
                team_close(&here);
            }
    ck_assert_uint_gt(several, 50);
}
END_TEST

static void backwards(void *ctx, size_t n, weft_pool_body body, void *arg) {
    ++*(uint64_t *)ctx;
    while (n--) body(arg, n);
}

/* The same bits whatever the network does, however long messages may be, with and without threads. */
START_TEST(latencies_do_not_matter) {
    static const uint64_t longest[3] = {256, 1000, 0};
    uint64_t seed, uses = 0;
    const shape *s = &shapes[5];
    for (seed = 0; seed < 40; seed++) {
        uint32_t n = 2 + (uint32_t)(seed % 4);
        weft_sim_desc sim = weft_sim_torture(seed * 11 + (uint64_t)_i, n);
        weft_collective_desc d;
        weft_pool pool;
        double weight[MOST];
        uint32_t r;
        memset(&d, 0, sizeof d);
        memset(&pool, 0, sizeof pool);
        pool.ctx = &uses;
        pool.parallel_for = backwards;
        if (seed & 1) d.pool = &pool;
        d.algorithm = (weft_algorithm)_i;
        sim.max_message_bytes = longest[seed % 3];
        team_open_by(&here, &sim, &d, seed < 36 ? s : &shapes[LARGE], seed % 3 ? (size_t)64 << seed % 5 : 0);
        make_weights(weight, n, 3);
        for (r = 0; r < n; r++) cluster_fill(&here.m[r].x, r + 1000, 1.0); /* the same for all seeds */
        begin(&here, WEFT_OP_ALL_REDUCE, weight, 0);
        must_settle(&here);
        check_result(&here, WEFT_OP_ALL_REDUCE, weight, 0, "torture");
        ck_assert_uint_le(weft_sim_most_outstanding(&here.sim), WEFT_REQUESTS_PER_PEER);
        begin(&here, WEFT_OP_BARRIER, NULL, 0);
        must_settle(&here);
        team_close(&here);
    }
    ck_assert_uint_gt(uses, 0);
}
END_TEST

/* A barrier is over for nobody before everybody has come. */
START_TEST(barrier_is_one) {
    uint32_t n, r, last;
    for (n = 2; n <= 5; n++)
        for (last = 0; last < n; last++) {
            weft_sim_desc sim = quiet(n + last, n);
            weft_collective_desc d;
            memset(&d, 0, sizeof d);
            team_open(&here, &sim, &d, &shapes[4]);
            for (r = 0; r < n; r++)
                if (r != last) here.m[r].status = weft_collective_begin(here.m[r].c, WEFT_OP_BARRIER, NULL, 0);
            for (r = 0; r < n; r++)
                if (r != last) weft_sim_worker(&here.sim, r, member_turn, &here.m[r]);
            ck_assert_int_eq(weft_sim_run(&here.sim, 100000), WEFT_SIM_DEADLOCK);
            for (r = 0; r < n; r++)
                if (r != last) ck_assert_int_eq(here.m[r].status, WEFT_AGAIN);
            here.m[last].status = weft_collective_begin(here.m[last].c, WEFT_OP_BARRIER, NULL, 0);
            must_settle(&here);
            team_close(&here);
        }
}
END_TEST

/* What goes over the wire: 2 (n - 1) / n times the bytes for DIRECT and RING, n - 1 times for GATHER. */
START_TEST(traffic_is_counted) {
    static const weft_algorithm of[3] = {WEFT_ALGORITHM_DIRECT, WEFT_ALGORITHM_RING, WEFT_ALGORITHM_GATHER};
    int a;
    for (a = 0; a < 3; a++) {
        uint32_t n = 4, r;
        shape s = {1, {1024}, {WEFT_F32}};
        weft_sim_desc sim = quiet(1, n);
        weft_collective_desc d;
        memset(&d, 0, sizeof d);
        d.algorithm = of[a];
        team_open(&here, &sim, &d, &s);
        begin(&here, WEFT_OP_ALL_REDUCE, NULL, 0);
        must_settle(&here);
        for (r = 0; r < n; r++) {
            const weft_traffic *w = weft_collective_traffic(here.m[r].c);
            const weft_sim_counts *c = weft_sim_counts_of(&here.sim, r);
            ck_assert_uint_eq(w->payload_sent, a == 2 ? 3 * 4096 : 2 * 3 * 1024);
            ck_assert_uint_eq(w->payload_received, w->payload_sent);
            ck_assert_uint_eq(w->messages_sent, c->sent[0] + c->sent[1]);
            ck_assert_uint_eq(w->messages_received, c->received[0] + c->received[1]);
            ck_assert_uint_eq(w->payload_sent + w->control_sent, c->sent_bytes[0] + c->sent_bytes[1]);
            ck_assert_uint_eq(w->payload_received + w->control_received, c->received_bytes[0] + c->received_bytes[1]);
            ck_assert_uint_eq(w->dropped, 0);
        }
        team_close(&here);
    }
}
END_TEST

/* ---- numbers that are not finite ---- */

static void spoil(member *m, size_t tensor, size_t i, double v) {
    cluster_set(&m->x.tensor[tensor], i, v);
}

START_TEST(not_finite_is_refused) {
    static const weft_operation ops[4] = {WEFT_OP_ALL_REDUCE, WEFT_OP_REDUCE_SCATTER, WEFT_OP_ALL_GATHER,
                                          WEFT_OP_BROADCAST};
    int a = _i / 4, o = _i % 4;
    uint32_t n, r, culprit;
    size_t place;
    for (n = 1; n <= 5; n++)
        for (culprit = 0; culprit < n; culprit++)
            for (place = 0; place < 3; place++) {
                weft_sim_desc sim = quiet(n + place, n);
                weft_collective_desc d;
                uint32_t second = (culprit + 1 + (uint32_t)place) % n, lowest, root = culprit;
                memset(&d, 0, sizeof d);
                d.algorithm = (weft_algorithm)a;
                team_open_by(&here, &sim, &d, &shapes[5], place == 1 ? 320 : 0);
                if (ops[o] == WEFT_OP_ALL_GATHER) { /* only a worker's own shard counts */
                    size_t k, i;
                    for (k = 0; k < here.m[0].x.count; k++)
                        for (i = 0; i < here.m[0].x.tensor[k].count; i++)
                            if (shard_of(&here.m[0].x, n, k, i) == culprit)
                                spoil(&here.m[culprit], k, i, place == 1 ? (double)INFINITY : (double)NAN);
                    lowest = culprit;
                } else {
                    spoil(&here.m[culprit], 0, place * 499, place == 1 ? -(double)INFINITY : (double)NAN);
                    spoil(&here.m[culprit], 3, 7, (double)NAN);
                    spoil(&here.m[second], 1, 0, (double)INFINITY);
                    lowest = ops[o] == WEFT_OP_BROADCAST || culprit < second ? culprit : second;
                }
                begin(&here, ops[o], NULL, root);
                ck_assert_msg(settle(&here), "%u workers, algorithm %d, operation %d: %s", n, a, ops[o],
                              weft_sim_text(&here.sim));
                for (r = 0; r < n; r++) {
                    const weft_detail *e = weft_collective_detail(here.m[r].c);
                    ck_assert_msg(here.m[r].status == WEFT_ERR_NONFINITE,
                                  "%u workers, algorithm %d, operation %d, worker %u: %s", n, a, ops[o], r,
                                  weft_strerror(here.m[r].status));
                    ck_assert_int_eq(e->status, WEFT_ERR_NONFINITE);
                    ck_assert_uint_eq(e->peer, lowest);
                    ck_assert_msg(untouched(&here.m[r]), "a refused operation has changed the tensors of worker %u", r);
                }
                /* and then on */
                for (r = 0; r < n; r++) cluster_fill(&here.m[r].x, r, 1.0);
                begin(&here, ops[o], NULL, root);
                must_settle(&here);
                check_result(&here, ops[o], NULL, root, "after a refusal");
                team_close(&here);
            }
}
END_TEST

/* The n-th bulk message that worker 0 receives is damaged on its way. */
static weft_test_fn sound_test;
static uint64_t damage_at, damaged;

static weft_status damaging_test(void *ctx, weft_request *q) {
    weft_status s = sound_test(ctx, q);
    uint32_t r;
    for (r = 1; s == WEFT_OK && r < here.size; r++) {
        weft_flow *in = &here.m[0].c->group.peer[r].in;
        const uint32_t not_a_number[1] = {0x7FC07FC0u}; /* of any type that is summed in f32 */
        if (q != &in->request || --damage_at) continue;
        memcpy(in->piece, not_a_number, in->piece_bytes < 4 ? in->piece_bytes : 4);
        damaged++;
    }
    return s;
}

START_TEST(damage_is_not_committed) {
    uint64_t k, fired = 1, total = 0;
    for (k = 1; fired; k++) {
        weft_sim_desc sim = quiet(k, 3);
        weft_collective_desc d;
        uint32_t r;
        memset(&d, 0, sizeof d);
        d.algorithm = (weft_algorithm)(_i / 2 + WEFT_ALGORITHM_DIRECT);
        d.timeout_ns = 50000;
        team_open_by(&here, &sim, &d, &shapes[LARGE], _i % 2 ? 16384 : 0);
        sound_test = here.m[0].net.test;
        here.m[0].net.test = damaging_test;
        damage_at = k;
        damaged = 0;
        begin(&here, WEFT_OP_ALL_REDUCE, NULL, 0);
        for (r = 0; r < 3; r++) weft_sim_worker(&here.sim, r, member_turn, &here.m[r]);
        weft_sim_run(&here.sim, 1000000);
        fired = damaged;
        total += fired;
        for (r = 0; fired && r < 3; r++) {
            ck_assert_msg(here.m[r].status != WEFT_OK && untouched(&here.m[r]),
                          "algorithm %d: message %llu is damaged, and worker %u commits", d.algorithm,
                          (unsigned long long)k, r);
        }
        team_close(&here);
    }
    ck_assert_uint_ge(total, 4);
}
END_TEST

START_TEST(weightless_is_not_read) {
    uint32_t n;
    for (n = 2; n <= 4; n++) {
        weft_sim_desc sim = quiet(n, n);
        weft_collective_desc d;
        double weight[MOST];
        memset(&d, 0, sizeof d);
        d.algorithm = (weft_algorithm)_i;
        team_open(&here, &sim, &d, &shapes[5]);
        make_weights(weight, n, 1);
        weight[1] = 0;
        weight[0] = 0.5;
        spoil(&here.m[1], 0, 3, (double)NAN);
        spoil(&here.m[1], 3, 330, (double)INFINITY);
        begin(&here, WEFT_OP_ALL_REDUCE, weight, 0);
        must_settle(&here);
        check_result(&here, WEFT_OP_ALL_REDUCE, weight, 0, "weight 0");
        team_close(&here);
    }
}
END_TEST

/* All contributions are finite, their sum is not: nobody is to blame. */
START_TEST(overflow_blames_nobody) {
    uint32_t n, r;
    for (n = 2; n <= 5; n++) {
        weft_sim_desc sim = quiet(n, n);
        weft_collective_desc d;
        memset(&d, 0, sizeof d);
        d.algorithm = (weft_algorithm)_i;
        team_open(&here, &sim, &d, &shapes[4]);
        for (r = 0; r < n; r++) spoil(&here.m[r], 0, 640, 3e38);
        begin(&here, WEFT_OP_ALL_REDUCE, NULL, 0);
        ck_assert(settle(&here));
        for (r = 0; r < n; r++) {
            ck_assert_int_eq(here.m[r].status, WEFT_ERR_NONFINITE);
            ck_assert_uint_eq(weft_collective_detail(here.m[r].c)->peer, WEFT_NO_RANK);
            ck_assert(untouched(&here.m[r]));
        }
        team_close(&here);
    }
}
END_TEST

/* ---- the host's own all_reduce ---- */

typedef struct host_reduce {
    weft_sim *sim;
    uint32_t size, calls, arrived, failing; /* failing: this call of rank 0 fails, from 1 */
    weft_status how;                        /* WEFT_OK: WEFT_ERR_TRANSPORT */
    int counts;                             /* tells how many elements are not finite */
    uint64_t bad[8];
    double weight[8];
    const void *from[8];
    void *at[8];
    weft_request *request[8];
    int over[8];
    weft_sim_endpoint *end[8];
    uint64_t used, cancelled;
} host_reduce;

static host_reduce host;

static weft_status host_all_reduce(void *ctx, double weight, const void *in, void *out, size_t count, weft_dtype dtype,
                                   weft_request *r) {
    weft_sim_endpoint *w = (weft_sim_endpoint *)ctx;
    uint64_t bad = 0;
    uint32_t i;
    host.used++;
    if (w->rank == 0 && host.failing && --host.failing == 0) return host.how ? host.how : WEFT_ERR_TRANSPORT;
    ck_assert_ptr_null(host.at[w->rank]);
    ck_assert_ptr_ne(in, out);
    ck_assert_uint_eq(r->bytes, UINT64_MAX);
    host.weight[w->rank] = weight;
    host.from[w->rank] = in;
    host.at[w->rank] = out;
    host.request[w->rank] = r;
    r->word[3] = 0xA11;
    if (++host.arrived < host.size) return WEFT_OK;
    /* in descending rank: an order of its own */
    for (i = 0; i < count; i++) {
        double s = 0;
        uint32_t k;
        weft_tensor t = {NULL, 0, WEFT_F32};
        t.count = count;
        t.dtype = dtype;
        for (k = host.size; k-- > 0;) {
            t.data = (void *)(uintptr_t)host.from[k];
            if (host.weight[k] != 0) s += host.weight[k] * cluster_get(&t, i);
        }
        for (k = 0; k < host.size; k++) {
            t.data = host.at[k];
            cluster_set(&t, i, s);
        }
        bad += !isfinite(cluster_get(&t, i));
    }
    for (i = 0; i < host.size; i++) {
        host.over[i] = 1;
        host.bad[i] = bad;
        host.at[i] = NULL;
        weft_sim_wake(host.sim, i, host.sim->now + 10);
    }
    host.arrived = 0;
    return WEFT_OK;
}

static weft_status host_test(void *ctx, weft_request *r) {
    weft_sim_endpoint *w = (weft_sim_endpoint *)ctx;
    if (r->word[3] != 0xA11) return weft_sim_test(ctx, r);
    ck_assert_ptr_eq(r, host.request[w->rank]);
    if (!host.over[w->rank]) return WEFT_AGAIN;
    host.over[w->rank] = 0;
    if (host.counts) r->bytes = host.bad[w->rank];
    return WEFT_OK;
}

static void host_cancel(void *ctx, weft_request *r) {
    weft_sim_endpoint *w = (weft_sim_endpoint *)ctx;
    if (r->word[3] != 0xA11) {
        weft_sim_cancel(ctx, r);
        return;
    }
    ck_assert_ptr_eq(r, host.request[w->rank]);
    host.cancelled++;
    host.at[w->rank] = NULL;
    host.over[w->rank] = 0;
    host.arrived -= host.arrived > 0;
}

static void host_open(team *t, const weft_sim_desc *sim, const weft_collective_desc *d, const shape *s) {
    uint32_t r;
    team_open(t, sim, d, s);
    memset(&host, 0, sizeof host);
    host.sim = &t->sim;
    host.size = t->size;
    for (r = 0; r < t->size; r++) {
        t->m[r].net.all_reduce = host_all_reduce;
        t->m[r].net.test = host_test;
        t->m[r].net.cancel = host_cancel;
    }
}

START_TEST(host_sums_when_asked) {
    uint32_t n, r, who[MOST], k, weighted;
    for (n = 1; n <= 4; n++)
        for (k = 0; k < 3; k++) { /* not at all; without counting what is not finite; with */
            weft_sim_desc sim = quiet(n, n);
            weft_collective_desc d;
            shape s = {4, {100, 0, 31, 17}, {WEFT_F32, WEFT_F32, WEFT_F64, WEFT_BF16}};
            double weight[MOST];
            size_t t, i;
            memset(&d, 0, sizeof d);
            d.host_collectives = k > 0;
            host_open(&here, &sim, &d, &s);
            host.counts = k == 2;
            for (r = 0; r < n; r++) who[r] = r;
            make_weights(weight, n, k);
            for (weighted = 0; weighted < 2; weighted++) {
                const double *w = weighted ? weight : NULL;
                if (weighted) /* a weight of 0: whatever stands there */
                    for (r = 0; r < n; r++)
                        if (weight[r] == 0) spoil(&here.m[r], 0, 5, (double)NAN);
                host.used = 0;
                begin(&here, WEFT_OP_ALL_REDUCE, w, 0);
                must_settle(&here);
                ck_assert_uint_eq(host.used, k && n > 1 ? 3 * n : 0); /* one a tensor that is not empty */
                if (!k || n == 1) check_result(&here, WEFT_OP_ALL_REDUCE, w, 0, "not asked for");
                for (r = 0; k && r < n; r++)
                    for (t = 0; t < 4; t++)
                        for (i = 0; i < s.count[t]; i++) {
                            double v = sum_of(&here, WEFT_ALGORITHM_DIRECT, who, n, w, t, i);
                            ck_assert_double_eq_tol(cluster_get(&here.m[r].x.tensor[t], i), v,
                                                    t == 3 ? 1e-5 + fabs(v) / 128 : 1e-5);
                        }
            }
            /* the other operations are always the library's own */
            host.used = 0;
            begin(&here, WEFT_OP_REDUCE_SCATTER, NULL, 0);
            must_settle(&here);
            check_result(&here, WEFT_OP_REDUCE_SCATTER, NULL, 0, "not by the host");
            begin(&here, WEFT_OP_BROADCAST, NULL, n - 1);
            must_settle(&here);
            ck_assert_uint_eq(host.used, 0);
            /* not finite: refused by all alike, and nobody can say whose fault it is */
            if (k && n > 1) {
                spoil(&here.m[n - 1], 0, 5, (double)NAN);
                begin(&here, WEFT_OP_ALL_REDUCE, NULL, 0);
                ck_assert_msg(settle(&here), "%s", weft_sim_text(&here.sim));
                for (r = 0; r < n; r++) {
                    ck_assert_int_eq(here.m[r].status, WEFT_ERR_NONFINITE);
                    ck_assert_uint_eq(weft_collective_detail(here.m[r].c)->peer,
                                      weft_collective_detail(here.m[0].c)->peer);
                    ck_assert(untouched(&here.m[r]));
                }
                spoil(&here.m[n - 1], 0, 5, 1.0);
                begin(&here, WEFT_OP_ALL_REDUCE, NULL, 0);
                must_settle(&here);
            }
            team_close(&here);
        }
}
END_TEST

/* Smaller views are the library's own again; a failure of the host's call is an error that a new view mends. */
START_TEST(host_sums_and_views) {
    weft_sim_desc sim = quiet(3, 3);
    weft_collective_desc d;
    weft_view v;
    uint32_t r, all[3] = {0, 1, 2};
    memset(&d, 0, sizeof d);
    d.host_collectives = 1;
    host_open(&here, &sim, &d, &shapes[4]);
    memset(&v, 0, sizeof v);
    v.struct_size = sizeof v;
    v.count = 3;
    v.members = all;
    for (v.epoch = 1; v.epoch <= 3; v.epoch++) {
        /* for a reason of its own; for a loss that no link shows; for one that a link does */
        host.failing = 1;
        host.how = v.epoch == 1 ? WEFT_ERR_TRANSPORT : WEFT_ERR_PEER_LOST;
        host.cancelled = 0;
        if (v.epoch == 3) weft_sim_fail_call(&here.sim, WEFT_SIM_TEST, 0, 1, WEFT_ERR_PEER_LOST);
        begin(&here, WEFT_OP_ALL_REDUCE, NULL, 0);
        for (r = 0; r < 3; r++) weft_sim_worker(&here.sim, r, member_turn, &here.m[r]);
        ck_assert_int_eq(weft_sim_run(&here.sim, 100000), WEFT_SIM_DEADLOCK);
        ck_assert_int_eq(here.m[0].status, host.how);
        ck_assert_int_eq(weft_collective_poll(here.m[0].c), host.how);
        ck_assert_int_eq(weft_collective_detail(here.m[0].c)->peer == WEFT_NO_RANK, v.epoch != 3);
        ck_assert_int_eq(here.m[1].status, WEFT_AGAIN);
        for (r = 1; r < 3; r++) weft_collective_peer_up(here.m[0].c, r);
        for (r = 0; r < 3; r++) here.m[r].status = weft_collective_regroup(here.m[r].c, &v);
        ck_assert_uint_eq(host.cancelled, 2);
        must_settle(&here);
        for (r = 0; r < 3; r++) ck_assert(untouched(&here.m[r]));
    }
    host.used = 0;
    begin(&here, WEFT_OP_ALL_REDUCE, NULL, 0);
    must_settle(&here);
    ck_assert_uint_eq(host.used, 3);
    /* without worker 1 */
    weft_sim_lose(&here.sim, 1);
    here.m[1].out = 1;
    all[1] = 2;
    v.count = 2;
    v.epoch = 9;
    host.used = 0;
    for (r = 0; r < 3; r += 2) here.m[r].status = weft_collective_regroup(here.m[r].c, &v);
    must_settle(&here);
    begin(&here, WEFT_OP_ALL_REDUCE, NULL, 0);
    must_settle(&here);
    check_result(&here, WEFT_OP_ALL_REDUCE, NULL, 0, "smaller view");
    ck_assert_uint_eq(host.used, 0);
    team_close(&here);
}
END_TEST

/* ---- losses ---- */

/* The view without those who are out, one epoch on; then until all have agreed. A further loss while they do: again. */
static void regroup(team *t) {
    uint32_t who[MOST], n, j, r;
    int again;
    do {
        weft_view v;
        again = 0;
        for (r = 0; r < t->size; r++) t->m[r].out |= !weft_sim_alive(&t->sim, r);
        n = members_of(t, who);
        memset(&v, 0, sizeof v);
        v.struct_size = sizeof v;
        v.epoch = ++t->epoch;
        v.count = n;
        v.members = who;
        for (j = 0; j < n; j++) {
            member *m = &t->m[who[j]];
            for (r = 0; r < n; r++)
                if (r != j) ck_assert_int_eq(weft_collective_peer_up(m->c, who[r]), WEFT_OK);
            m->status = weft_collective_regroup(m->c, &v);
        }
        settle(t);
        for (j = 0; j < n; j++) again |= !weft_sim_alive(&t->sim, who[j]);
        for (j = 0; j < n && !again; j++)
            ck_assert_msg(t->m[who[j]].status == WEFT_OK, "regroup, worker %u: %s (%s)", who[j],
                          weft_strerror(t->m[who[j]].status), weft_sim_text(&t->sim));
    } while (again);
}

/* After a loss: all survivors have committed the operation over all `n_before` workers, or all have left it alone.
 * Returns which. */
static int all_or_nothing(team *t, weft_operation op, const double *weight, uint32_t root, uint32_t n_before,
                          const char *what) {
    uint32_t who[MOST], n = members_of(t, who), all[MOST], j;
    int committed = -1;
    for (j = 0; j < n_before; j++) all[j] = j;
    for (j = 0; j < n; j++) {
        int c;
        expected(t, who[j], op, all, n_before, weight, root);
        c = cluster_same_bits(&t->m[who[j]].x, &t->expect);
        if (!c)
            ck_assert_msg(untouched(&t->m[who[j]]), "%s: worker %u has neither the old nor the new tensors", what,
                          who[j]);
        if (c && untouched(&t->m[who[j]])) continue; /* both: the operation leaves this worker's tensors as they are */
        ck_assert_msg(committed < 0 || committed == c, "%s: committed by some and not by others", what);
        committed = c;
    }
    return committed;
}

typedef struct loss_case {
    weft_operation op;
    weft_algorithm algorithm;
    int shape;
    size_t chunk;
} loss_case;

static const loss_case loss_cases[] = {
    {WEFT_OP_ALL_REDUCE, WEFT_ALGORITHM_DIRECT, 5, 0},   {WEFT_OP_ALL_REDUCE, WEFT_ALGORITHM_GATHER, 3, 0},
    {WEFT_OP_ALL_REDUCE, WEFT_ALGORITHM_RING, 5, 0},     {WEFT_OP_ALL_REDUCE, WEFT_ALGORITHM_DOUBLING, 5, 0},
    {WEFT_OP_REDUCE_SCATTER, WEFT_ALGORITHM_AUTO, 5, 0}, {WEFT_OP_ALL_GATHER, WEFT_ALGORITHM_AUTO, 5, 0},
    {WEFT_OP_BROADCAST, WEFT_ALGORITHM_AUTO, 4, 0},      {WEFT_OP_BARRIER, WEFT_ALGORITHM_AUTO, 1, 0},
    {WEFT_OP_ALL_REDUCE, WEFT_ALGORITHM_DIRECT, 5, 320}, {WEFT_OP_REDUCE_SCATTER, WEFT_ALGORITHM_AUTO, 5, 448},
};
enum { LOSS_CASES = (int)(sizeof loss_cases / sizeof loss_cases[0]) };

START_TEST(lost_at_every_message) {
    const loss_case *lc = &loss_cases[_i];
    uint32_t n, after;
    uint64_t committed = 0, abandoned = 0;
    for (n = 2; n <= 4; n++)
        for (after = 0; after < 2; after++) {
            uint64_t k, fired = 1;
            for (k = 1; fired; k++) {
                weft_sim_desc sim = quiet(k, n);
                weft_collective_desc d;
                uint32_t lost = (uint32_t)(k + after) % n, r, left, said = 0, waiting = 0;
                uint32_t root = (lost + (uint32_t)(k / 2) % n) % n;
                int fault;
                char what[80];
                memset(&d, 0, sizeof d);
                d.algorithm = lc->algorithm;
                snprintf(what, sizeof what, "%u workers, operation %d, worker %u lost %s message %llu", n, lc->op, lost,
                         after ? "after" : "before", (unsigned long long)k);
                team_open_by(&here, &sim, &d, &shapes[lc->shape], lc->chunk);
                fault = weft_sim_lose_at_message(&here.sim, lost, k, (int)after);
                begin(&here, lc->op, NULL, root);
                r = (uint32_t)settle(&here);
                fired = weft_sim_fired(&here.sim, fault);
                if (!fired) {
                    ck_assert_msg(r, "%s: %s", what, weft_sim_text(&here.sim));
                    check_result(&here, lc->op, NULL, root, "no loss");
                    team_close(&here);
                    continue;
                }
                for (r = 0; r < n; r++) {
                    weft_status s = here.m[r].status;
                    if (r == lost) continue;
                    /* who waits for one of the others only, and not for the lost one, hears of it from the host */
                    ck_assert_msg(s == WEFT_OK || s == WEFT_AGAIN || s == WEFT_ERR_PEER_LOST, "%s: worker %u says %s",
                                  what, r, weft_strerror(s));
                    said += s == WEFT_ERR_PEER_LOST;
                    waiting += s == WEFT_AGAIN;
                    if (s == WEFT_ERR_PEER_LOST) {
                        ck_assert_uint_eq(weft_collective_detail(here.m[r].c)->peer, lost);
                        ck_assert_msg(untouched(&here.m[r]), "%s: worker %u has touched its tensors too early", what,
                                      r);
                        ck_assert_int_eq(weft_collective_poll(here.m[r].c), WEFT_ERR_PEER_LOST);
                        ck_assert_int_eq(weft_collective_begin(here.m[r].c, lc->op, NULL, r), WEFT_ERR_PEER_LOST);
                    }
                }
                ck_assert_msg(said || !waiting, "%s: nobody says so", what);
                regroup(&here);
                if (all_or_nothing(&here, lc->op, NULL, root, n, what) == 1)
                    committed++;
                else
                    abandoned++;
                for (left = 0; here.m[left].out; left++) continue;
                begin(&here, lc->op, NULL, left);
                must_settle(&here);
                check_result(&here, lc->op, NULL, left, what);
                team_close(&here);
            }
            ck_assert_uint_gt(k, 2);
        }
    ck_assert_uint_gt(abandoned, 4);
    if (lc->op != WEFT_OP_BARRIER) ck_assert_uint_gt(committed, 0);
}
END_TEST

/* A second loss at every moment of settling the first. */
START_TEST(lost_twice) {
    const loss_case *lc = &loss_cases[_i];
    uint64_t k, j, both = 0;
    for (k = 2; k < 60; k += 7)
        for (j = 1; j < 20; j += 2) {
            weft_sim_desc sim = quiet(k + j, 4);
            weft_collective_desc d;
            uint32_t a = (uint32_t)(k % 4), b = (uint32_t)((k + 1 + j % 3) % 4), left;
            int one, two;
            char what[80];
            memset(&d, 0, sizeof d);
            d.algorithm = lc->algorithm;
            snprintf(what, sizeof what, "operation %d, workers %u, %u lost at messages %llu, %llu", lc->op, a, b,
                     (unsigned long long)k, (unsigned long long)(k + j));
            team_open_by(&here, &sim, &d, &shapes[lc->shape], lc->chunk);
            one = weft_sim_lose_at_message(&here.sim, a, k, (int)(j & 1));
            two = weft_sim_lose_at_message(&here.sim, b, k + j, (int)(j >> 1 & 1));
            begin(&here, lc->op, NULL, 3);
            settle(&here);
            regroup(&here);
            all_or_nothing(&here, lc->op, NULL, 3, 4, what);
            both += weft_sim_fired(&here.sim, one) && weft_sim_fired(&here.sim, two);
            for (left = 0; here.m[left].out; left++) continue;
            here.sim.fault[one].nth = here.sim.fault[two].nth = 0;
            begin(&here, lc->op, NULL, left);
            must_settle(&here);
            check_result(&here, lc->op, NULL, left, what);
            team_close(&here);
        }
    ck_assert_uint_gt(both, 10);
}
END_TEST

/* A worker says HAVE, commits, and goes on to the next operation, in which somebody is lost: who is still waiting for a
 * HAVE of the first one commits that. */
START_TEST(lost_in_the_next_operation) {
    uint64_t k, fired = 1;
    for (k = 1; fired; k++) {
        weft_sim_desc sim = quiet(k, 3);
        weft_collective_desc d;
        uint32_t r, lost = (uint32_t)(k % 3), left, who[MOST];
        int fault, j;
        memset(&d, 0, sizeof d);
        team_open(&here, &sim, &d, &shapes[3]);
        fault = weft_sim_lose_at_message(&here.sim, lost, k, (int)(k / 3 & 1));
        keep(&here);
        for (r = 0; r < 3; r++) here.m[r].status = weft_collective_begin(here.m[r].c, WEFT_OP_ALL_REDUCE, NULL, 0);
        for (j = 0; j < 400; j++) { /* each begins a barrier as soon as its sum is there */
            for (r = 0; r < 3; r++) {
                member *m = &here.m[r];
                if (!weft_sim_alive(&here.sim, r) || m->status < 0) continue;
                if (m->status == WEFT_AGAIN) m->status = weft_collective_poll(m->c);
                if (m->status == WEFT_OK && m->c->committed == 1)
                    m->status = weft_collective_begin(m->c, WEFT_OP_BARRIER, NULL, 0);
            }
            weft_sim_advance(&here.sim, 150);
        }
        fired = weft_sim_fired(&here.sim, fault);
        if (fired) {
            regroup(&here);
            ck_assert_uint_eq(members_of(&here, who), 2);
            all_or_nothing(&here, WEFT_OP_ALL_REDUCE, NULL, 0, 3, "next operation");
            for (left = 0; here.m[left].out; left++) continue;
            begin(&here, WEFT_OP_ALL_REDUCE, NULL, left);
            must_settle(&here);
            check_result(&here, WEFT_OP_ALL_REDUCE, NULL, left, "next operation");
        }
        team_close(&here);
    }
    ck_assert_uint_gt(k, 20);
}
END_TEST

/* It comes back with a new object, and a larger view makes it a member again. */
START_TEST(comes_back) {
    uint32_t n, lost, r, who[MOST];
    for (n = 2; n <= 4; n++)
        for (lost = 0; lost < n; lost++) {
            weft_sim_desc sim = quiet(n, n);
            weft_collective_desc d;
            memset(&d, 0, sizeof d);
            team_open(&here, &sim, &d, &shapes[5]);
            begin(&here, WEFT_OP_ALL_REDUCE, NULL, 0);
            must_settle(&here);
            weft_sim_lose(&here.sim, lost);
            regroup(&here);
            begin(&here, WEFT_OP_BARRIER, NULL, 0);
            must_settle(&here);
            weft_sim_revive(&here.sim, lost);
            free(here.m[lost].memory);
            here.m[lost].out = 0;
            member_init(&here.m[lost]);
            regroup(&here);
            ck_assert_uint_eq(members_of(&here, who), n);
            for (r = 0; r < n; r++) cluster_fill(&here.m[r].x, r, 1.0);
            begin(&here, WEFT_OP_ALL_REDUCE, NULL, 0);
            must_settle(&here);
            check_result(&here, WEFT_OP_ALL_REDUCE, NULL, 0, "back");
            begin(&here, WEFT_OP_BROADCAST, NULL, lost);
            must_settle(&here);
            check_result(&here, WEFT_OP_BROADCAST, NULL, lost, "back");
            team_close(&here);
        }
}
END_TEST

/* ---- callbacks that fail ---- */

START_TEST(every_call_fails) {
    const loss_case *lc = &loss_cases[_i];
    static const weft_status of[2] = {WEFT_ERR_TRANSPORT, WEFT_ERR_PEER_LOST};
    int call, s;
    uint64_t total = 0;
    for (call = WEFT_SIM_SEND; call <= WEFT_SIM_TEST; call++)
        for (s = 0; s < 2; s++) {
            uint64_t k, fired = 1;
            for (k = 1; fired; k += call == WEFT_SIM_TEST ? 2 : 1) {
                weft_sim_desc sim = quiet(k, 3);
                weft_collective_desc d;
                uint32_t rank = (uint32_t)(k % 3), r;
                const weft_detail *e;
                int fault;
                memset(&d, 0, sizeof d);
                d.algorithm = lc->algorithm;
                d.timeout_ns = 50000;
                team_open_by(&here, &sim, &d, &shapes[lc->shape], lc->chunk);
                fault = weft_sim_fail_call(&here.sim, (weft_sim_call)call, rank, k, of[s]);
                begin(&here, lc->op, NULL, 1);
                for (r = 0; r < 3; r++) weft_sim_worker(&here.sim, r, member_turn, &here.m[r]);
                weft_sim_run(&here.sim, 1000000);
                fired = weft_sim_fired(&here.sim, fault);
                if (fired) {
                    e = weft_collective_detail(here.m[rank].c);
                    if (here.m[rank].status == WEFT_OK) here.m[rank].status = weft_collective_poll(here.m[rank].c);
                    ck_assert_msg(here.m[rank].status == of[s], "call kind %d, number %llu of worker %u: %s", call,
                                  (unsigned long long)k, rank, weft_strerror(here.m[rank].status));
                    ck_assert_int_eq(e->status, of[s]);
                    ck_assert_uint_lt(e->peer, 3);
                    ck_assert_uint_ne(e->peer, rank);
                    regroup(&here);
                    all_or_nothing(&here, lc->op, NULL, 1, 3, "failed call");
                    begin(&here, lc->op, NULL, 2);
                    must_settle(&here);
                    check_result(&here, lc->op, NULL, 2, "after a failed call");
                    total++;
                } else {
                    check_result(&here, lc->op, NULL, 1, "no failure");
                }
                team_close(&here);
            }
        }
    ck_assert_uint_gt(total, 15);
}
END_TEST

/* ---- time ---- */

START_TEST(times_out_and_goes_on) {
    weft_sim_desc sim = quiet(1, 3);
    weft_collective_desc d;
    uint32_t r;
    uint64_t t0;
    memset(&d, 0, sizeof d);
    d.timeout_ns = 1000000;
    team_open(&here, &sim, &d, &shapes[4]);
    keep(&here);
    t0 = weft_sim_now(&here.sim);
    for (r = 0; r < 2; r++) here.m[r].status = weft_collective_begin(here.m[r].c, WEFT_OP_ALL_REDUCE, NULL, 0);
    while (here.m[0].status == WEFT_AGAIN) {
        weft_sim_advance(&here.sim, 50000);
        for (r = 0; r < 2; r++)
            if (here.m[r].status == WEFT_AGAIN) here.m[r].status = weft_collective_poll(here.m[r].c);
        ck_assert_uint_lt(weft_sim_now(&here.sim) - t0, 3000000);
    }
    ck_assert_uint_ge(weft_sim_now(&here.sim) - t0, 1000000);
    for (r = 0; r < 2; r++) {
        const weft_detail *e = weft_collective_detail(here.m[r].c);
        ck_assert_int_eq(here.m[r].status, WEFT_ERR_TIMEOUT);
        ck_assert_uint_eq(e->peer, 2);
        ck_assert_uint_eq(e->expected, 1000000);
        ck_assert(untouched(&here.m[r]));
        here.m[r].status = WEFT_AGAIN;
    }
    here.m[2].status = weft_collective_begin(here.m[2].c, WEFT_OP_ALL_REDUCE, NULL, 0);
    must_settle(&here);
    check_result(&here, WEFT_OP_ALL_REDUCE, NULL, 0, "late");
    team_close(&here);
}
END_TEST

/* ---- several objects on one transport ---- */

START_TEST(three_objects_one_transport) {
    uint64_t seed;
    for (seed = 0; seed < 12; seed++) {
        static team second;
        uint32_t n = 3, r, k;
        weft_sim_desc sim = weft_sim_torture(seed, n);
        weft_collective_desc d;
        grawa_desc gd;
        grawa *g[3];
        void *memory[3];
        weft_tensors params[3], grads[3];
        weft_status gs[3];
        size_t count[2] = {40, 9};
        int rounds = 0, a = 0, b = 0, i;
        memset(&d, 0, sizeof d);
        d.channel = 1;
        team_open(&here, &sim, &d, &shapes[5]);
        /* another collective, on another channel of the same transports */
        memset(&second, 0, sizeof second);
        second.size = n;
        second.desc.channel = WEFT_CHANNELS - 1;
        second.desc.algorithm = WEFT_ALGORITHM_RING;
        second.expect = cluster_tensors(shapes[5].tensors, shapes[5].count, shapes[5].dtype);
        memset(&gd, 0, sizeof gd);
        gd.struct_size = sizeof gd;
        gd.period_steps = 2;
        gd.check_replicas = 1;
        gd.channel = 0;
        for (r = 0; r < n; r++) {
            member *m = &second.m[r];
            m->t = &second;
            m->rank = r;
            m->net = here.m[r].net;
            m->x = cluster_tensors(shapes[5].tensors, shapes[5].count, shapes[5].dtype);
            m->before = cluster_tensors(shapes[5].tensors, shapes[5].count, shapes[5].dtype);
            cluster_fill(&m->x, seed + r, 1.0);
            member_init(m);
            params[r] = cluster_tensors(2, count, NULL);
            grads[r] = cluster_tensors(2, count, NULL);
            cluster_fill(&params[r], 5, 1.0);
            gd.params = params[r];
            gd.transport = &here.m[r].net;
            memory[r] = malloc(grawa_memory(&gd, NULL));
            ck_assert_int_eq(grawa_init(&g[r], &gd, memory[r], grawa_memory(&gd, NULL)), WEFT_OK);
            gs[r] = WEFT_OK;
        }
        keep(&here);
        keep(&second);
        for (r = 0; r < n; r++) {
            here.m[r].status = weft_collective_begin(here.m[r].c, WEFT_OP_ALL_REDUCE, NULL, 0);
            second.m[r].status = weft_collective_begin(second.m[r].c, WEFT_OP_ALL_REDUCE, NULL, 0);
            cluster_fill(&grads[r], seed + 90 + r, 1.0);
        }
        for (i = 0; i < 20000 && (rounds < 3 || a < 4 || b < 4); i++) {
            int ga = 1, aa = 1, bb = 1;
            for (k = 0; k < n; k++) {
                r = (k + (uint32_t)i) % n;
                if (gs[r] == WEFT_AGAIN) gs[r] = grawa_poll(g[r]);
                if (here.m[r].status == WEFT_AGAIN) here.m[r].status = weft_collective_poll(here.m[r].c);
                if (second.m[r].status == WEFT_AGAIN) second.m[r].status = weft_collective_poll(second.m[r].c);
                ck_assert_int_ge(gs[r], 0);
                ck_assert_int_ge(here.m[r].status, 0);
                ck_assert_int_ge(second.m[r].status, 0);
                ga &= gs[r] == WEFT_OK;
                aa &= here.m[r].status == WEFT_OK;
                bb &= second.m[r].status == WEFT_OK;
            }
            if (ga)
                for (rounds++, r = 0; r < n; r++) gs[r] = grawa_step(g[r], &grads[r]);
            if (aa) {
                check_result(&here, WEFT_OP_ALL_REDUCE, NULL, 0, "first of two");
                a++;
                for (r = 0; r < n; r++) cluster_fill(&here.m[r].x, (uint64_t)i + r, 1.0);
                begin(&here, WEFT_OP_ALL_REDUCE, NULL, 0);
            }
            if (bb) {
                check_result(&second, WEFT_OP_ALL_REDUCE, NULL, 0, "second of two");
                b++;
                for (r = 0; r < n; r++) cluster_fill(&second.m[r].x, (uint64_t)i + r, 1.0);
                begin(&second, WEFT_OP_ALL_REDUCE, NULL, 0);
            }
            weft_sim_advance(&here.sim, 20000);
        }
        ck_assert_msg(rounds >= 3 && a >= 4 && b >= 4, "seed %llu: %d rounds, %d and %d sums", (unsigned long long)seed,
                      rounds, a, b);
        for (r = 0; r < n; r++) {
            grawa_close(g[r]);
            free(memory[r]);
            cluster_tensors_free(&params[r]);
            cluster_tensors_free(&grads[r]);
            weft_collective_close(second.m[r].c);
            free(second.m[r].memory);
            cluster_tensors_free(&second.m[r].x);
            cluster_tensors_free(&second.m[r].before);
        }
        cluster_tensors_free(&second.expect);
        team_close(&here);
    }
}
END_TEST

/* ---- misuse ---- */

START_TEST(descriptor_is_checked) {
    weft_sim_desc sim = quiet(1, 2);
    weft_collective_desc d, bad;
    weft_memory_report report;
    weft_collective *c = (weft_collective *)1;
    weft_detail why;
    weft_transport net;
    size_t bytes, sum = 0, i;
    unsigned char *memory;
    memset(&d, 0, sizeof d);
    team_open(&here, &sim, &d, &shapes[5]);
    d = here.desc;
    d.struct_size = sizeof d;
    d.tensors = here.m[0].x;
    net = here.m[0].net;
    d.transport = &net;
    bytes = weft_collective_memory(&d, &report);
    ck_assert_uint_gt(bytes, 0);
    ck_assert_uint_eq(report.total_bytes, bytes);
    ck_assert_uint_gt(report.count, 3);
    ck_assert_uint_eq(report.requests_per_peer, WEFT_REQUESTS_PER_PEER);
    for (i = 0; i < report.count; i++) {
        ck_assert_uint_eq(report.entry[i].offset % WEFT_ALIGNMENT, 0);
        ck_assert_uint_ge(report.entry[i].offset, sum);
        sum = report.entry[i].offset + report.entry[i].bytes;
    }
    ck_assert_uint_le(sum + WEFT_ALIGNMENT - 1, bytes);
    memory = (unsigned char *)malloc(bytes);
    ck_assert_int_eq(weft_collective_init(&c, &d, memory, bytes - 1, &why), WEFT_ERR_MEMORY);
    ck_assert_uint_eq(why.expected, bytes);
    ck_assert_uint_eq(why.got, bytes - 1);
    ck_assert_ptr_null(c);
    ck_assert_int_eq(weft_collective_init(&c, &d, NULL, bytes, &why), WEFT_ERR_MEMORY);
    ck_assert_int_eq(weft_collective_init(&c, NULL, memory, bytes, &why), WEFT_ERR_ARGUMENT);
    ck_assert_int_eq(weft_collective_init(NULL, &d, memory, bytes, &why), WEFT_ERR_ARGUMENT);
#define REFUSED(change, code, name)                                                                                    \
    do {                                                                                                               \
        bad = d;                                                                                                       \
        change;                                                                                                        \
        c = (weft_collective *)1;                                                                                      \
        ck_assert_uint_eq(weft_collective_memory(&bad, &report), 0);                                                   \
        ck_assert_int_eq(report.detail.status, code);                                                                  \
        ck_assert_msg(strstr(report.detail.field, name) != NULL, "%s: %s", #change, report.detail.field);              \
        ck_assert_int_eq(weft_collective_init(&c, &bad, memory, bytes, &why), code);                                   \
        ck_assert_ptr_null(c);                                                                                         \
    } while (0)
    REFUSED(bad.struct_size--, WEFT_ERR_ABI, "struct_size");
    REFUSED(bad.transport = NULL, WEFT_ERR_ARGUMENT, "transport");
    REFUSED(bad.channel = WEFT_CHANNELS, WEFT_ERR_ARGUMENT, "channel");
    REFUSED(bad.algorithm = (weft_algorithm)5, WEFT_ERR_ARGUMENT, "algorithm");
    REFUSED(bad.isa = (weft_isa)99, WEFT_ERR_UNSUPPORTED, "isa");
    REFUSED(bad.tensors.tensor = NULL, WEFT_ERR_ARGUMENT, "tensor");
    net.now = NULL;
    REFUSED(bad.timeout_ns = 1, WEFT_ERR_ARGUMENT, "now");
    net = here.m[0].net;
    {
        uint32_t down[2] = {1, 0}, other[1] = {1}, far[2] = {0, 2};
        weft_view v = {sizeof v, 0, 2, down};
        bad = d;
        REFUSED(bad.view = &v, WEFT_ERR_ARGUMENT, "members");
        v.count = 0;
        REFUSED(bad.view = &v, WEFT_ERR_ARGUMENT, "count");
        v.count = 1;
        v.members = other;
        REFUSED(bad.view = &v, WEFT_ERR_ARGUMENT, "without this rank");
        v.count = 2;
        v.members = far;
        REFUSED(bad.view = &v, WEFT_ERR_ARGUMENT, "members");
        v.struct_size = 1;
        REFUSED(bad.view = &v, WEFT_ERR_ABI, "struct_size");
    }
    free(memory);
    team_close(&here);
}
END_TEST

START_TEST(verbs_out_of_place) {
    weft_sim_desc sim = quiet(1, 2);
    weft_collective_desc d;
    uint32_t one[2] = {0, 1};
    weft_view v = {sizeof v, 0, 2, one};
    const double weight = 1;
    weft_collective *c;
    memset(&d, 0, sizeof d);
    team_open(&here, &sim, &d, &shapes[4]);
    c = here.m[0].c;
    ck_assert_int_eq(weft_collective_poll(c), WEFT_OK); /* nothing is in progress */
    ck_assert_int_eq(weft_collective_begin(c, (weft_operation)5, NULL, 0), WEFT_ERR_ARGUMENT);
    ck_assert_int_eq(weft_collective_begin(c, WEFT_OP_BROADCAST, NULL, 2), WEFT_ERR_ARGUMENT);
    ck_assert_int_eq(weft_collective_begin(c, WEFT_OP_BROADCAST, NULL, UINT32_MAX), WEFT_ERR_ARGUMENT);
    ck_assert_int_eq(weft_collective_begin(c, WEFT_OP_BARRIER, &weight, 0), WEFT_ERR_ARGUMENT);
    ck_assert_str_eq(weft_collective_detail(c)->field, "weight (only for sums)");
    ck_assert_int_eq(weft_collective_regroup(c, &v), WEFT_ERR_ARGUMENT); /* epoch 0 is the first view's */
    ck_assert_str_eq(weft_collective_detail(c)->field, "view.epoch");
    ck_assert_int_eq(weft_collective_regroup(c, NULL), WEFT_ERR_ARGUMENT);
    ck_assert_int_eq(weft_collective_peer_lost(c, 2), WEFT_ERR_ARGUMENT);
    ck_assert_int_eq(weft_collective_peer_lost(c, 0), WEFT_ERR_ARGUMENT);
    ck_assert_int_eq(weft_collective_peer_up(c, 2), WEFT_ERR_ARGUMENT);
    begin(&here, WEFT_OP_ALL_REDUCE, NULL, 0);
    ck_assert_int_eq(weft_collective_begin(c, WEFT_OP_BARRIER, NULL, 0), WEFT_ERR_ORDER);
    must_settle(&here);
    check_result(&here, WEFT_OP_ALL_REDUCE, NULL, 0, "after misuse");
    ck_assert_int_eq(weft_collective_peer_lost(c, 1), WEFT_OK);
    ck_assert_int_eq(weft_collective_begin(c, WEFT_OP_BARRIER, NULL, 0), WEFT_ERR_PEER_LOST);
    ck_assert_uint_eq(weft_collective_detail(c)->peer, 1);
    /* a message of a kind that only objects with messages of their own know */
    c->group.peer[1].head.epoch = c->group.epoch;
    c->group.peer[1].head.kind = WEFT_KIND_LAST;
    ck_assert_int_eq(weft_group_take(&c->group, 1), WEFT_ERR_PROTOCOL);
    ck_assert_str_eq(weft_collective_detail(c)->field, "header.kind");
    ck_assert_uint_eq(weft_collective_detail(c)->got, WEFT_KIND_LAST);
    team_close(&here);
}
END_TEST

START_TEST(mirrors_that_no_size_holds) {
    int ok = 1;
    ck_assert_uint_eq(weft_mirror_bytes(WEFT_ALGORITHM_GATHER, 1000, 3, &ok), 3000);
    ck_assert_uint_eq(weft_mirror_bytes(WEFT_ALGORITHM_DIRECT, 1000, 3, &ok), 1000 + 3 * WEFT_ALIGNMENT);
    ck_assert_int_eq(ok, 1);
    weft_mirror_bytes(WEFT_ALGORITHM_GATHER, SIZE_MAX / 2, 3, &ok);
    ck_assert_int_eq(ok, 0);
    ok = 1;
    weft_mirror_bytes(WEFT_ALGORITHM_DIRECT, SIZE_MAX - 2 * WEFT_ALIGNMENT, 3, &ok);
    ck_assert_int_eq(ok, 0);
}
END_TEST

/* Workers that do not mean the same are told so, with both values, before any number is mixed. */
START_TEST(different_settings) {
    int what;
    for (what = 0; what < 4; what++) {
        weft_sim_desc sim = quiet((uint64_t)what, 2);
        weft_collective_desc d;
        shape s = shapes[5];
        uint32_t r;
        memset(&d, 0, sizeof d);
        team_open(&here, &sim, &d, &s);
        weft_collective_close(here.m[1].c);
        free(here.m[1].memory);
        cluster_tensors_free(&here.m[1].x);
        if (what == 0) s.tensors = 4;
        if (what == 1) s.count[3]++;
        if (what == 2) s.dtype[4] = WEFT_F16;
        here.m[1].x = cluster_tensors(s.tensors, s.count, s.dtype);
        if (what == 3) here.desc.algorithm = WEFT_ALGORITHM_RING;
        member_init(&here.m[1]);
        for (r = 0; r < 2; r++) here.m[r].status = weft_collective_begin(here.m[r].c, WEFT_OP_ALL_REDUCE, NULL, 0);
        ck_assert(settle(&here));
        for (r = 0; r < 2; r++) {
            const weft_detail *e = weft_collective_detail(here.m[r].c), *o = weft_collective_detail(here.m[1 - r].c);
            ck_assert_int_eq(here.m[r].status, WEFT_ERR_MISMATCH);
            ck_assert_uint_eq(e->peer, 1 - r);
            ck_assert_uint_ne(e->expected, e->got);
            ck_assert_uint_eq(e->expected, o->got);
            ck_assert_str_eq(e->field, o->field);
            if (what == 0) ck_assert_str_eq(e->field, "tensors.count");
            if (what == 3) ck_assert_str_eq(e->field, "algorithm of the sum");
        }
        team_close(&here);
    }
}
END_TEST

/* Every verb called from every callback is refused, and the operation is none the worse. */
static member *reentering;
static uint64_t reentered;

static void reenter(void) {
    uint32_t one[2] = {0, 1};
    weft_view v = {sizeof v, 9, 2, one};
    member *m = reentering;
    if (!m) return;
    reentering = NULL;
    reentered++;
    ck_assert_int_eq(weft_collective_poll(m->c), WEFT_ERR_REENTRY);
    ck_assert_int_eq(weft_collective_begin(m->c, WEFT_OP_BARRIER, NULL, 0), WEFT_ERR_REENTRY);
    ck_assert_int_eq(weft_collective_regroup(m->c, &v), WEFT_ERR_REENTRY);
    ck_assert_int_eq(weft_collective_peer_lost(m->c, 1), WEFT_ERR_REENTRY);
    ck_assert_int_eq(weft_collective_peer_up(m->c, 1), WEFT_ERR_REENTRY);
    weft_collective_close(m->c);
    reentering = m;
}

static weft_status re_send(void *ctx, uint32_t peer, uint32_t tag, const void *data, size_t bytes, weft_request *r) {
    reenter();
    return weft_sim_send(ctx, peer, tag, data, bytes, r);
}
static weft_status re_recv(void *ctx, uint32_t peer, uint32_t tag, void *data, size_t bytes, weft_request *r) {
    reenter();
    return weft_sim_recv(ctx, peer, tag, data, bytes, r);
}
static weft_status re_test(void *ctx, weft_request *r) {
    reenter();
    return weft_sim_test(ctx, r);
}
static void re_trace(void *ctx, const weft_event *e) {
    (void)ctx;
    (void)e;
    reenter();
}

START_TEST(callbacks_may_not_call_back) {
    weft_sim_desc sim = quiet(1, 2);
    weft_collective_desc d;
    memset(&d, 0, sizeof d);
    d.trace = re_trace;
    reentered = 0;
    reentering = NULL;
    team_open(&here, &sim, &d, &shapes[5]);
    here.m[0].net.send = re_send;
    here.m[0].net.recv = re_recv;
    here.m[0].net.test = re_test;
    keep(&here);
    here.m[1].status = weft_collective_begin(here.m[1].c, WEFT_OP_ALL_REDUCE, NULL, 0);
    reentering = &here.m[0];
    here.m[0].status = weft_collective_begin(here.m[0].c, WEFT_OP_ALL_REDUCE, NULL, 0);
    while (here.m[0].status == WEFT_AGAIN || here.m[1].status == WEFT_AGAIN) {
        if (here.m[0].status == WEFT_AGAIN) here.m[0].status = weft_collective_poll(here.m[0].c);
        reentering = NULL;
        if (here.m[1].status == WEFT_AGAIN) here.m[1].status = weft_collective_poll(here.m[1].c);
        reentering = &here.m[0];
        weft_sim_advance(&here.sim, 1000);
        ck_assert_uint_lt(weft_sim_now(&here.sim), 10000000);
    }
    reentering = NULL;
    ck_assert_int_eq(here.m[0].status, WEFT_OK);
    ck_assert_int_eq(here.m[1].status, WEFT_OK);
    ck_assert_uint_gt(reentered, 10);
    check_result(&here, WEFT_OP_ALL_REDUCE, NULL, 0, "re-entry");
    team_close(&here);
}
END_TEST

/* A suite of its own, so that it can be run alone. */
static TCase *part(SRunner *runner, const char *name) {
    Suite *s = suite_create(name);
    TCase *t = tcase_create(name);
    tcase_set_timeout(t, 60);
    suite_add_tcase(s, t);
    srunner_add_suite(runner, s);
    return t;
}

int main(void) {
    SRunner *runner = srunner_create(NULL);
    TCase *t;
    int failed;
    t = part(runner, "sums");
    tcase_add_loop_test(t, named_order, 0, 11);
    tcase_add_test(t, two_halves_make_a_whole);
    tcase_add_test(t, chunks_do_not_matter);
    tcase_add_loop_test(t, latencies_do_not_matter, 0, 5);
    tcase_add_test(t, barrier_is_one);
    tcase_add_test(t, traffic_is_counted);
    tcase_add_loop_test(t, not_finite_is_refused, 0, 20);
    tcase_add_loop_test(t, damage_is_not_committed, 0, 8);
    tcase_add_loop_test(t, weightless_is_not_read, 0, 5);
    tcase_add_loop_test(t, overflow_blames_nobody, 0, 5);
    tcase_add_test(t, host_sums_when_asked);
    tcase_add_test(t, host_sums_and_views);
    t = part(runner, "losses");
    tcase_add_loop_test(t, lost_at_every_message, 0, LOSS_CASES);
    tcase_add_loop_test(t, lost_twice, 0, LOSS_CASES);
    tcase_add_test(t, lost_in_the_next_operation);
    tcase_add_test(t, comes_back);
    tcase_add_loop_test(t, every_call_fails, 0, LOSS_CASES);
    tcase_add_test(t, times_out_and_goes_on);
    tcase_add_test(t, three_objects_one_transport);
    t = part(runner, "contracts");
    tcase_add_test(t, descriptor_is_checked);
    tcase_add_test(t, verbs_out_of_place);
    tcase_add_test(t, mirrors_that_no_size_holds);
    tcase_add_test(t, different_settings);
    tcase_add_test(t, callbacks_may_not_call_back);
    srunner_run_all(runner, CK_NORMAL);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
