/* SPDX-License-Identifier: MIT
 * test_saddle.c: SADDLe over a simulated network: what equals what, bytes on the wire, where the mean goes, saved
 * state, neighbours that go and come, and what is refused. */
#define GRAWA_IMPLEMENTATION
#include "../grawa.h"
#define SADDLE_IMPLEMENTATION
#include "../saddle.h"
#include "saddle_lock.h"

#include <check.h>

static const weft_dtype f64s[4] = {WEFT_F64, WEFT_F64, WEFT_F64, WEFT_F64};
static const weft_dtype mixed[4] = {WEFT_F32, WEFT_F64, WEFT_F64, WEFT_F32};
static const size_t large[4] = {3000, 0, 1, 700};

static void fine(lock *k, int ok) {
    int closed = lock_close(k);
    if (!ok || !closed) ck_abort_msg("%s", k->why[0] ? k->why : "a check failed");
}

static weft_codec codec_no(int i) {
    switch (i) {
    case 1: return weft_codec_bf16();
    case 2: return weft_codec_f16();
    case 3: return weft_codec_q8();
    case 4: return weft_codec_q4();
    case 5: return weft_codec_qsgd(8, 0);
    case 6: return weft_codec_topk(0.7);
    case 7: return weft_codec_sign();
    default: return weft_codec_identity();
    }
}

/* A hash of all parameters after so many steps. */
static uint64_t outcome(const lock_desc *d, uint64_t steps) {
    uint64_t h = 0;
    uint32_t r;
    lock k;
    int ok = lock_open(&k, d) && lock_steps(&k, steps);
    for (r = 0; ok && r < k.size; r++) h = h * 31 + cluster_hash(&k.worker[r].params);
    fine(&k, ok);
    return h;
}

/* ---- degenerate equalities ---- */

START_TEST(without_radius_it_is_its_base) {
    static const saddle_variant sharp[2] = {SADDLE_Q, SADDLE_N}, base[2] = {SADDLE_QGM, SADDLE_NGC};
    lock_desc a = lock_default(5), b;
    a.s.codec = codec_no(_i / 2);
    a.s.variant = sharp[_i % 2];
    a.s.rho = WEFT_ZERO;
    b = a;
    b.s.variant = base[_i % 2];
    b.s.rho = 0;
    /* the fingerprint tells them apart, the numbers do not */
    ck_assert_uint_eq(outcome(&a, 5), outcome(&b, 5));
    a.s.rho = 0;
    ck_assert_uint_ne(outcome(&a, 5), outcome(&b, 5));
}
END_TEST

START_TEST(without_momentum_it_is_dpsgd) {
    static const saddle_variant v[2] = {SADDLE_QGM, SADDLE_DSGDM};
    lock_desc a = lock_default(5), b = lock_default(5);
    a.s.variant = v[_i % 2];
    a.s.beta = WEFT_ZERO;
    a.s.mu = 0.5;
    a.s.nesterov = _i / 2 ? 0 : WEFT_ZERO;
    a.s.weight_decay = b.s.weight_decay = 0.01;
    b.s.variant = SADDLE_DPSGD;
    ck_assert_uint_eq(outcome(&a, 6), outcome(&b, 6));
}
END_TEST

/* One worker: SAM with momentum, by three lines of arithmetic in f32. */
START_TEST(alone_it_is_sam_with_momentum) {
    lock_desc d = lock_default(1);
    float x[300], v[300], g[300], y[300];
    uint64_t t;
    size_t i;
    lock k;
    weft_tensor flat[1];
    d.s.variant = SADDLE_N;
    d.s.rho = 0.1;
    d.s.nesterov = WEFT_ZERO;
    d.tensors = 1;
    d.count = lock_count + 2;
    ck_assert(lock_open(&k, &d));
    flat[0] = k.worker[0].params.tensor[0];
    for (i = 0; i < 300; i++) {
        x[i] = ((float *)flat[0].data)[i];
        v[i] = 0;
    }
    for (t = 0; t < 4; t++) {
        double lanes[16] = {0}, norm;
        float a;
        for (i = 0; i < 300; i++) {
            g[i] = (float)((1 + (double)(i % 3)) * ((double)x[i] - lock_target(0, t, i)));
            lanes[i % 16] += (double)g[i] * (double)g[i];
        }
        norm = sqrt(weft_lanes_sum(lanes));
        a = (float)(0.1 / (norm + 1e-12));
        for (i = 0; i < 300; i++) {
            const float climb = a * g[i];
            y[i] = x[i] + climb;
        }
        for (i = 0; i < 300; i++) {
            const float s = (float)((1 + (double)(i % 3)) * ((double)y[i] - lock_target(0, t, i))), m = 0.9f * v[i];
            v[i] = m + s;
            {
                const float step = -0.0625f * v[i];
                x[i] = x[i] + step;
            }
        }
        ck_assert_msg(lock_step(&k), "%s", k.why);
        ck_assert_mem_eq(x, flat[0].data, sizeof x);
    }
    ck_assert_uint_eq(k.worker[0].asked, 8);
    fine(&k, 1);
}
END_TEST

/* Adapting first or combining first: the same mixed models, if all start equal. */
START_TEST(orders_agree_where_they_must) {
    lock_desc a = lock_default(5), b;
    lock ka, kb;
    uint32_t r;
    size_t i;
    a.dtype = f64s;
    a.s.variant = _i ? SADDLE_Q : SADDLE_DPSGD;
    b = a;
    b.s.order = SADDLE_CTA;
    ck_assert(lock_open(&ka, &a) && lock_open(&kb, &b));
    ck_assert_msg(lock_steps(&ka, 5) && lock_steps(&kb, 5), "%s%s", ka.why, kb.why);
    for (i = 0; i < 300; i++) {
        double x[5];
        for (r = 0; r < 5; r++) x[r] = cluster_get(&kb.worker[r].params.tensor[2], i);
        for (r = 0; r < 5; r++) /* what CTA would make of it at the beginning of its next step */
            ck_assert_double_eq_tol(cluster_get(&ka.worker[r].params.tensor[2], i),
                                    (x[r] + x[(r + 1) % 5] + x[(r + 4) % 5]) / 3, 1e-13);
    }
    fine(&ka, 1);
    fine(&kb, 1);
}
END_TEST

START_TEST(in_place_or_beside) {
    static const saddle_variant v[3] = {SADDLE_Q, SADDLE_N, SADDLE_NGC};
    lock_desc a = lock_default(4);
    uint64_t h;
    a.s.variant = v[_i % 3];
    a.s.order = _i / 3 ? SADDLE_CTA : SADDLE_ORDER_DEFAULT;
    a.s.codec = codec_no(_i % 2 ? 3 : 0);
    h = outcome(&a, 4);
    a.s.in_place = 1;
    ck_assert_uint_eq(h, outcome(&a, 4));
}
END_TEST

/* Pieces, networks and instruction sets do not show. */
START_TEST(the_same_bits_everywhere) {
    lock_desc a = lock_default(5);
    uint64_t h;
    int isa;
    a.count = large;
    a.dtype = mixed;
    a.s.variant = _i % 2 ? SADDLE_N : SADDLE_Q;
    a.s.codec = codec_no(_i / 2);
    if (a.s.codec.kind == WEFT_CODEC_QSGD || a.s.codec.kind == WEFT_CODEC_SIGN) a.s.gamma = 0.25;
    h = outcome(&a, 3);
    a.s.piece_bytes = 4096;
    ck_assert_uint_eq(h, outcome(&a, 3));
    a.s.piece_bytes = 0;
    a.sim = weft_sim_torture((uint64_t)_i + 1, 5);
    a.sim.max_message_bytes = 5000;
    ck_assert_uint_eq(h, outcome(&a, 3));
    a = lock_default(5);
    a.count = large;
    a.dtype = mixed;
    a.s.variant = _i % 2 ? SADDLE_N : SADDLE_Q;
    a.s.codec = codec_no(_i / 2);
    if (a.s.codec.kind == WEFT_CODEC_QSGD || a.s.codec.kind == WEFT_CODEC_SIGN) a.s.gamma = 0.25;
    for (isa = WEFT_ISA_SERIAL; isa < WEFT_ISA_COUNT; isa++) {
        if (!weft_isa_available((weft_isa)isa)) continue;
        a.s.isa = (weft_isa)isa;
        ck_assert_uint_eq(h, outcome(&a, 3));
    }
}
END_TEST

/* A transport that tells late that a control message is gone: there is no room for the next one. */
enum { HELD = 64 };
static struct late {
    weft_transport real;
    const weft_request *request[HELD];
    int times[HELD];
} late[LOCK_MOST];

static int *late_slot(struct late *l, const weft_request *q) {
    int i;
    for (i = 0; i < HELD; i++)
        if (l->request[i] == q) return &l->times[i];
    return NULL;
}

static weft_status late_send(void *ctx, uint32_t peer, uint32_t tag, const void *data, size_t bytes, weft_request *q) {
    struct late *l = (struct late *)ctx;
    weft_status s = l->real.send(l->real.ctx, peer, tag, data, bytes, q);
    int *times = tag % WEFT_TAGS_PER_CHANNEL ? NULL : late_slot(l, NULL);
    if (s < 0 || !times) return s;
    *times = 100;
    l->request[times - l->times] = q;
    return s;
}

static weft_status late_recv(void *ctx, uint32_t peer, uint32_t tag, void *data, size_t capacity, weft_request *q) {
    struct late *l = (struct late *)ctx;
    return l->real.recv(l->real.ctx, peer, tag, data, capacity, q);
}

static weft_status late_test(void *ctx, weft_request *q) {
    struct late *l = (struct late *)ctx;
    int *times = late_slot(l, q);
    if (times && (*times)-- > 0) return WEFT_AGAIN;
    if (times) l->request[times - l->times] = NULL;
    return l->real.test(l->real.ctx, q);
}

static void late_cancel(void *ctx, weft_request *q) {
    struct late *l = (struct late *)ctx;
    int *times = late_slot(l, q);
    if (times) l->request[times - l->times] = NULL;
    l->real.cancel(l->real.ctx, q);
}

static int make_late(lock_worker *w) {
    struct late *l = &late[w->rank];
    if (w->rank % 2) return 1; /* the others are done with a step before it has said that it takes part */
    memset(l, 0, sizeof *l);
    l->real = w->net;
    w->net.ctx = l;
    w->net.send = late_send;
    w->net.recv = late_recv;
    w->net.test = late_test;
    w->net.cancel = late_cancel;
    w->net.now = NULL;
    return 1;
}

/* Each at its own pace, over networks in which sends stay pending until somebody listens: nobody is taken for a liar,
 * and the bits are the same. */
START_TEST(at_any_pace) {
    static const saddle_variant v[4] = {SADDLE_Q, SADDLE_N, SADDLE_DPSGD, SADDLE_NGC};
    lock_desc d = lock_default(5);
    uint64_t want, h = 0;
    uint32_t r;
    lock k;
    d.s.variant = v[_i % 4];
    d.s.codec = codec_no(_i / 4 % 2 ? 3 : 0);
    d.tensors = 1; /* in one piece: nothing else slows a neighbour down */
    d.count = lock_count + 2;
    want = outcome(&d, 12);
    if (_i / 8 == 0)
        d.prepare = make_late;
    else if (_i / 8 == 1)
        d.sim.mode = WEFT_SIM_RENDEZVOUS;
    else
        d.sim = weft_sim_torture((uint64_t)_i, 5);
    d.sim.jitter_ns = 20000;
    ck_assert(lock_open(&k, &d));
    ck_assert_msg(lock_run(&k, 12), "%s", k.why);
    for (r = 0; r < 5; r++) {
        saddle_stats_t s;
        saddle_stats(k.worker[r].x, &s);
        ck_assert_uint_eq(s.faults + s.skipped + s.lost, 0);
        h = h * 31 + cluster_hash(&k.worker[r].params);
    }
    ck_assert_uint_eq(h, want);
    fine(&k, 1);
}
END_TEST

/* ---- the wire ---- */

START_TEST(bytes_are_what_the_codec_says) {
    const weft_codec c = codec_no(_i / 3);
    static const saddle_variant v[3] = {SADDLE_Q, SADDLE_N, SADDLE_N};
    lock_desc d = lock_default(5);
    uint64_t bulk = 0, letters;
    uint32_t r;
    size_t i;
    lock k;
    d.count = large;
    d.dtype = mixed;
    d.s.variant = v[_i % 3];
    d.s.share = _i % 3 == 2 ? WEFT_ZERO : 0;
    d.s.codec = c;
    d.s.gamma = 0.25;
    for (i = 0; i < 4; i++) bulk += weft_codec_bytes(&c, mixed[i], large[i], large[i]);
    /* signs of tensors without zeros take half of what they may */
    if (c.kind == WEFT_CODEC_SIGN) bulk = 3000 / 8 + 4 + 4 + 1 + 4 + 8 + 88 + 4 + 4;
    ck_assert(lock_open(&k, &d));
    ck_assert_msg(lock_steps(&k, 3), "%s", k.why);
    for (r = 0; r < 5; r++) {
        const weft_sim_counts *n = weft_sim_counts_of(&k.sim, r);
        saddle_stats_t s;
        saddle_stats(k.worker[r].x, &s);
        ck_assert_uint_eq(n->sent_bytes[1], 3 * 2 * bulk * (_i % 3 == 1 ? 2 : 1));
        ck_assert_uint_eq(s.traffic.payload_sent, n->sent_bytes[1]);
        /* hello twice a link at most, a proposal or its answer, and 36 bytes a step */
        letters = 3 * 2 * (WEFT_LETTER_BYTES + SADDLE_ROUND_BYTES);
        ck_assert_uint_ge(n->sent_bytes[0], letters);
        ck_assert_uint_le(n->sent_bytes[0], letters + 2 * (2 * WEFT_CONTROL_BYTES + WEFT_LETTER_BYTES + 8));
        ck_assert_uint_eq(s.exchanges, 6);
        ck_assert_uint_eq(s.faults + s.skipped + s.lost, 0);
    }
    fine(&k, 1);
}
END_TEST

static void nothing(lock_worker *w, const saddle_want *want) {
    size_t i;
    (void)w;
    for (i = 0; i < want->into.count; i++)
        memset(want->into.tensor[i].data, 0,
               want->into.tensor[i].count * weft_dtype_bytes(want->into.tensor[i].dtype));
}

/* Whatever the codec takes away, the mean of all workers stays; and with a good one they come together. */
START_TEST(the_mean_stays) {
    static const saddle_feedback form[2] = {SADDLE_DIFFERENCE, SADDLE_FEEDBACK};
    lock_desc d = lock_default(6);
    double before[300], apart = 0;
    size_t i;
    lock k;
    d.dtype = f64s;
    d.unequal = 1;
    d.s.variant = SADDLE_DPSGD;
    d.s.codec = codec_no(_i / 2);
    d.s.feedback = form[_i % 2];
    d.s.gamma = 0.2;
    d.gradient = nothing;
    ck_assert(lock_open(&k, &d));
    for (i = 0; i < 300; i++) before[i] = lock_mean(&k, 2, i);
    ck_assert_msg(lock_steps(&k, 40), "%s", k.why);
    for (i = 0; i < 300; i++) {
        ck_assert_double_eq_tol(before[i], lock_mean(&k, 2, i), 1e-13);
        apart = fmax(apart, fabs(cluster_get(&k.worker[0].params.tensor[2], i) - before[i]));
    }
    if (_i / 2 <= 3 && _i % 2 == 0) ck_assert_double_lt(apart, 0.1);
    fine(&k, 1);
}
END_TEST

/* ---- saved state ---- */

static lock_desc saved_rule(int i) {
    static const saddle_variant v[6] = {SADDLE_Q, SADDLE_N, SADDLE_QGM, SADDLE_NGC, SADDLE_Q, SADDLE_DSGDM};
    static const int codec[6] = {0, 6, 3, 7, 6, 4};
    lock_desc d = lock_default(4);
    d.s.variant = v[i];
    d.s.codec = codec_no(codec[i]);
    d.s.seed = 5;
    if (i == 4) {
        d.s.order = SADDLE_CTA;
        d.s.feedback = SADDLE_FEEDBACK;
    }
    if (i == 3) d.s.compress_self = 1;
    return d;
}

START_TEST(resumed_it_never_stopped) {
    lock_desc d = saved_rule(_i);
    uint64_t whole = outcome(&d, 6), stop, h;
    for (stop = 0; stop <= 5; stop++) {
        unsigned char *blob[4];
        size_t bytes = 0;
        uint32_t r;
        lock a, b;
        ck_assert(lock_open(&a, &d) && lock_open(&b, &d));
        ck_assert_msg(lock_steps(&a, stop), "%s", a.why);
        for (r = 0, h = 0; r < 4; r++) {
            lock_worker *from = &a.worker[r], *to = &b.worker[r];
            ck_assert_int_eq(saddle_save(from->x, NULL, 0, &bytes), WEFT_OK);
            blob[r] = (unsigned char *)malloc(bytes);
            ck_assert_int_eq(saddle_save(from->x, blob[r], bytes - 1, &bytes), WEFT_ERR_CAPACITY);
            ck_assert_int_eq(saddle_save(from->x, blob[r], bytes, &bytes), WEFT_OK);
            cluster_copy(&from->params, &to->params);
            to->step = stop;
            ck_assert_int_eq(saddle_load(to->x, blob[r], bytes - 1), WEFT_ERR_ARGUMENT);
            blob[r][bytes / 2] ^= 1;
            ck_assert_int_eq(saddle_load(to->x, blob[r], bytes), WEFT_ERR_CHECKSUM);
            blob[r][bytes / 2] ^= 1;
            ck_assert_int_eq(saddle_load(to->x, blob[r], bytes), WEFT_OK);
            ck_assert_int_eq(saddle_load(to->x, blob[r], bytes), WEFT_ERR_ORDER);
            free(blob[r]);
        }
        ck_assert_msg(lock_steps(&b, 6 - stop), "%s", b.why);
        for (r = 0; r < 4; r++) h = h * 31 + cluster_hash(&b.worker[r].params);
        ck_assert_uint_eq(h, whole);
        fine(&a, 1);
        fine(&b, 1);
    }
}
END_TEST

/* ---- neighbours that go and come ---- */

/* A worker is lost in the middle of everything: the others finish the step and go on, and come together. */
START_TEST(a_worker_is_lost) {
    static const saddle_variant v[2] = {SADDLE_Q, SADDLE_N};
    lock_desc d = lock_default(5);
    uint32_t r;
    size_t i;
    int fault;
    lock k;
    d.graph = weft_graph_complete;
    d.s.variant = v[_i % 2];
    d.s.codec = codec_no(_i % 4 < 2 ? 0 : 3);
    ck_assert(lock_open(&k, &d));
    fault = weft_sim_lose_at_message(&k.sim, 2, (uint64_t)_i * 3 + 20, _i & 1);
    k.worker[2].gone = 0;
    for (i = 0; i < 12; i++) {
        int times;
        uint32_t left = 1;
        int done[5] = {0};
        for (times = 0; left && times < 20000; times++) {
            for (r = left = 0; r < 5; r++) {
                if (r == 2 && !weft_sim_alive(&k.sim, 2)) continue;
                if (!done[r]) done[r] = lock_go(&k.worker[r]);
                ck_assert_msg(k.worker[r].status >= 0 || !weft_sim_alive(&k.sim, r), "worker %u: %s", r,
                              weft_strerror(k.worker[r].status));
                left += !done[r];
            }
            weft_sim_advance(&k.sim, 1000);
        }
        ck_assert_uint_eq(left, 0);
    }
    ck_assert_uint_eq(weft_sim_fired(&k.sim, fault), 1);
    for (r = 0; r < 5; r++) {
        saddle_stats_t s;
        if (r == 2) continue;
        saddle_stats(k.worker[r].x, &s);
        ck_assert_uint_eq(s.steps, 12);
        ck_assert_uint_eq(s.neighbours, 3);
        ck_assert_uint_eq(s.lost, 1);
        /* among four that know each other one averaging makes all alike: so the last weights were 1/4 */
        if (_i % 4 == 0)
            for (i = 0; i < 300; i++)
                ck_assert_double_eq_tol(cluster_get(&k.worker[0].params.tensor[2], i),
                                        cluster_get(&k.worker[r].params.tensor[2], i), 1e-5);
    }
    fine(&k, 1);
}
END_TEST

/* It comes back with what it had (or, in half of the cases, had saved), and takes over the number of the step. */
START_TEST(it_comes_again) {
    lock_desc d = lock_default(4);
    const int saves = _i >= 60;
    unsigned char *blob = NULL;
    float momentum[300];
    size_t bytes = 0;
    saddle_stats_t s;
    uint32_t r;
    lock k;
    d.s.variant = _i % 2 ? SADDLE_N : SADDLE_Q;
    d.s.codec = codec_no(_i / 2 % 2 ? 3 : 0);
    d.sim.seed = (uint64_t)_i + 1;
    d.sim.jitter_ns = (uint64_t)(_i / 4) * 1500; /* so that it comes at any moment of its neighbours' steps */
    ck_assert(lock_open(&k, &d));
    ck_assert_msg(lock_steps(&k, 3), "%s", k.why);
    if (saves) {
        ck_assert_int_eq(saddle_save(k.worker[2].x, NULL, 0, &bytes), WEFT_OK);
        blob = (unsigned char *)malloc(bytes);
        ck_assert_int_eq(saddle_save(k.worker[2].x, blob, bytes, &bytes), WEFT_OK);
        memcpy(momentum, saddle_buffer(k.worker[2].x, SADDLE_OF_MOMENTUM, 0, 2), sizeof momentum);
    }
    k.worker[2].gone = 1;
    weft_sim_lose(&k.sim, 2);
    ck_assert_msg(lock_steps(&k, 4), "%s", k.why);
    lock_free(&k.worker[2]);
    weft_sim_revive(&k.sim, 2);
    weft_sim_transport(&k.sim, 2, &k.worker[2].net);
    k.worker[2].desc.join = 1;
    ck_assert(lock_init(&k.worker[2]));
    k.worker[2].gone = 0;
    if (saves) {
        ck_assert_int_eq(saddle_load(k.worker[2].x, blob, bytes), WEFT_OK);
        ck_assert_mem_eq(saddle_buffer(k.worker[2].x, SADDLE_OF_MOMENTUM, 0, 2), momentum, sizeof momentum);
        free(blob);
    }
    for (r = 0; r < 4; r++)
        if (r != 2) ck_assert_int_eq(saddle_peer_up(k.worker[r].x, 2), WEFT_OK);
    ck_assert_msg(lock_run(&k, 14), "%s", k.why);
    for (r = 0; r < 4; r++) {
        saddle_stats(k.worker[r].x, &s);
        ck_assert_uint_eq(s.neighbours, 2);
        ck_assert_uint_eq(s.faults, 0);
        if (saves && r == 2) { /* what it had counted before */
            s.steps -= 3;
            s.exchanges -= 6;
        }
        ck_assert_uint_ge(s.steps, r == 2 ? 4 : 14);
        if (r == 2) ck_assert_uint_le(s.steps, 7); /* not one for each that it has missed */
        ck_assert_uint_ge(s.exchanges, r == 2 ? 2 * s.steps - 1 : 20);
    }
    /* its copies are those of the others */
    if (_i / 2 % 2)
        for (r = 0; r < 4; r++)
            ck_assert_mem_eq(saddle_buffer(k.worker[r].x, SADDLE_OF_MODEL, 0, 2),
                             saddle_buffer(k.worker[(r + 1) % 4].x, SADDLE_OF_COPY, r, 2), 300 * sizeof(float));
    fine(&k, 1);
}
END_TEST

START_TEST(good_bye) {
    lock_desc d = lock_default(4);
    saddle_stats_t s;
    lock k;
    d.s.variant = _i ? SADDLE_N : SADDLE_Q;
    ck_assert(lock_open(&k, &d));
    ck_assert_msg(lock_steps(&k, 3), "%s", k.why);
    k.worker[1].status = saddle_leave(k.worker[1].x);
    lock_pump(&k, 20);
    ck_assert_int_eq(k.worker[1].status, WEFT_OK);
    ck_assert_uint_eq(saddle_state(k.worker[1].x), 0);
    k.worker[1].gone = 1;
    ck_assert_msg(lock_steps(&k, 3), "%s", k.why);
    ck_assert_int_eq(saddle_link(k.worker[0].x, 1), WEFT_LINK_LEFT);
    saddle_stats(k.worker[0].x, &s);
    ck_assert_uint_eq(s.lost, 0);
    ck_assert_uint_eq(s.exchanges, 9);
    fine(&k, 1);
}
END_TEST

/* Nonsense in a message ends the link, which opens anew; nobody takes it in. */
START_TEST(nonsense_is_not_averaged) {
    lock_desc d = lock_default(4);
    saddle_stats_t s;
    uint32_t r, faults = 0;
    int fault;
    lock k;
    d.s.variant = SADDLE_N;
    d.s.codec = _i ? weft_codec_q8() : weft_codec_identity();
    ck_assert(lock_open(&k, &d));
    ck_assert_msg(lock_steps(&k, 2), "%s", k.why);
    /* the exponent of a number, or of a scale */
    fault = weft_sim_corrupt(&k.sim, 1, 2, WEFT_SIM_ANY, 2, 3, 0x7F);
    ck_assert_msg(lock_steps(&k, 6), "%s", k.why);
    ck_assert_uint_eq(weft_sim_fired(&k.sim, fault), 1);
    for (r = 0; r < 4; r++) {
        saddle_stats(k.worker[r].x, &s);
        faults += (uint32_t)s.faults;
        ck_assert_uint_eq(s.neighbours, 2);
        ck_assert_uint_eq(s.steps, 8);
        ck_assert_uint_eq(weft_run_count_nonfinite(weft_kernels_select(WEFT_ISA_AUTO, 0), NULL, WEFT_F32, 300,
                                                   k.worker[r].params.tensor[2].data),
                          0);
    }
    ck_assert_uint_ge(faults, 1);
    fine(&k, 1);
}
END_TEST

static int one_peer(void *ctx, uint64_t step, uint32_t i, uint32_t j) {
    return weft_graph_one_peer(*(const uint32_t *)ctx, step, i) == j;
}

/* A graph that changes: three rounds of pairs make the mean of eight. */
START_TEST(graph_of_the_step) {
    uint32_t eight = 8, r;
    lock_desc d = lock_default(8);
    double mean[300];
    size_t i;
    lock k;
    d.dtype = f64s;
    d.unequal = 1;
    d.graph = weft_graph_exponential;
    d.gradient = nothing;
    d.s.active = one_peer;
    d.s.active_ctx = &eight;
    d.s.variant = SADDLE_DPSGD;
    ck_assert(lock_open(&k, &d));
    for (i = 0; i < 300; i++) mean[i] = lock_mean(&k, 2, i);
    ck_assert_msg(lock_steps(&k, 3), "%s", k.why);
    for (r = 0; r < 8; r++)
        for (i = 0; i < 300; i++)
            ck_assert_double_eq_tol(cluster_get(&k.worker[r].params.tensor[2], i), mean[i], 1e-14);
    fine(&k, 1);
}
END_TEST

/* Decay pulls the model at which the gradient is taken. */
START_TEST(decay) {
    lock_desc d = lock_default(3);
    double x[3], mean;
    uint32_t r;
    lock k;
    d.dtype = f64s;
    d.unequal = 1;
    d.gradient = nothing;
    d.s.variant = SADDLE_DPSGD;
    d.s.order = _i ? SADDLE_CTA : SADDLE_CWA;
    d.s.weight_decay = 0.5;
    ck_assert(lock_open(&k, &d));
    for (r = 0; r < 3; r++) x[r] = cluster_get(&k.worker[r].params.tensor[2], 7);
    mean = (x[0] + x[1] + x[2]) / 3;
    ck_assert_msg(lock_step(&k), "%s", k.why);
    for (r = 0; r < 3; r++)
        ck_assert_double_eq_tol(cluster_get(&k.worker[r].params.tensor[2], 7),
                                mean - 0.0625 * 0.5 * (_i ? mean : x[r]), 1e-15);
    fine(&k, 1);
}
END_TEST

static void ones(lock_worker *w, const saddle_want *want) {
    size_t t, i;
    (void)w;
    for (t = 0; t < want->into.count; t++)
        for (i = 0; i < want->into.tensor[t].count; i++) cluster_set(&want->into.tensor[t], i, 1);
}

/* Whoever is lost, and whenever: the mean of gradients that are all the same is that gradient. */
START_TEST(a_mean_of_whoever_is_left) {
    lock_desc d = lock_default(4);
    double x[2];
    uint32_t r;
    int pass;
    d.dtype = f64s;
    d.graph = weft_graph_complete;
    d.gradient = ones;
    d.s.variant = SADDLE_NGC;
    d.s.share = _i % 3 == 0 ? 0 : _i % 3 == 1 ? 0.25 : WEFT_ZERO;
    for (pass = 0; pass < 2; pass++) {
        lock k;
        int fault = -1;
        ck_assert(lock_open(&k, &d));
        if (pass) fault = weft_sim_lose_at_message(&k.sim, 2, (uint64_t)_i + 12, _i & 1);
        ck_assert_msg(lock_run_living(&k, 6), "%s", k.why);
        if (pass) ck_assert_uint_eq(weft_sim_fired(&k.sim, fault), 1);
        for (r = 0; r < 4; r++) {
            if (pass && r == 2) continue;
            x[pass] = cluster_get(&k.worker[r].params.tensor[2], 9);
            ck_assert_double_eq_tol(x[pass], x[0], 1e-14);
        }
        fine(&k, 1);
    }
}
END_TEST

/* The climb with one norm for each of two groups: eps = rho g / |g| in each. */
START_TEST(norms_by_group) {
    static const uint32_t group[4] = {1, 0, 0, 1};
    lock_desc d = lock_default(1);
    double norm[2] = {0, 0}, before[4][300];
    saddle_want want;
    size_t t, i;
    lock k;
    d.dtype = f64s;
    d.s.rho = 0.25;
    d.s.group_of_tensor = group;
    d.s.groups = 2;
    ck_assert(lock_open(&k, &d));
    ck_assert_int_eq(saddle_next(k.worker[0].x, &want), WEFT_WANT_GRADIENT);
    for (t = 0; t < 4; t++)
        for (i = 0; i < lock_count[t]; i++) before[t][i] = cluster_get(&want.at.tensor[t], i);
    lock_pull(&k.worker[0], &want);
    ck_assert_int_eq(saddle_next(k.worker[0].x, &want), WEFT_WANT_GRADIENT);
    ck_assert_int_eq(want.climbed, 1);
    ck_assert_uint_eq(want.evaluation, 1);
    for (t = 0; t < 4; t++)
        for (i = 0; i < lock_count[t]; i++) {
            const double e = cluster_get(&want.at.tensor[t], i) - before[t][i];
            norm[group[t]] += e * e;
        }
    ck_assert_double_eq_tol(sqrt(norm[0]), 0.25, 1e-12);
    ck_assert_double_eq_tol(sqrt(norm[1]), 0.25, 1e-12);
    fine(&k, 1);
}
END_TEST

/* ---- guards ---- */

static void now_and_then(lock_worker *w, const saddle_want *want) {
    lock_pull(w, want);
    if (w->rank == 1 && w->asked == 7) cluster_set(&want->into.tensor[2], 17, (double)NAN);
}

START_TEST(not_finite) {
    lock_desc d = lock_default(4);
    saddle_stats_t s;
    uint32_t r;
    lock k;
    uint64_t h = outcome(&d, 6);
    d.gradient = now_and_then;
    d.s.guard = _i ? SADDLE_GUARD_ZERO : SADDLE_GUARD_REFUSE;
    ck_assert(lock_open(&k, &d));
    if (_i) {
        ck_assert_msg(lock_steps(&k, 6), "%s", k.why);
    } else {
        saddle_want want;
        ck_assert_msg(lock_steps(&k, 3), "%s", k.why);
        ck_assert(!lock_step(&k));
        ck_assert_int_eq(k.worker[1].status, WEFT_ERR_NONFINITE);
        ck_assert_str_eq(saddle_detail(k.worker[1].x)->field, "gradient");
        /* mended: the same run as if it had been right */
        memset(k.why, 0, sizeof k.why);
        ck_assert_uint_eq(saddle_state(k.worker[1].x) & SADDLE_MAY_GIVE, SADDLE_MAY_GIVE);
        want.at.tensor = k.worker[1].x->at_list;
        want.into.tensor = k.worker[1].x->into_list;
        want.at.count = want.into.count = 4;
        lock_pull(&k.worker[1], &want);
        ck_assert_msg(lock_steps(&k, 3), "%s", k.why);
        for (h ^= 0, r = 0; r < 4; r++) ck_assert_uint_ge(k.worker[r].step, 5);
    }
    saddle_stats(k.worker[1].x, &s);
    ck_assert_uint_eq(s.nonfinite, 1);
    fine(&k, 1);
}
END_TEST

/* ---- misuse ---- */

START_TEST(misuse) {
    lock_desc d = lock_default(2);
    saddle_want want;
    size_t bytes = 0;
    unsigned char byte[1];
    int i;
    lock k;
    saddle *x;
    d.s.timeout_ns = 1000000;
    ck_assert(lock_open(&k, &d));
    x = k.worker[0].x;
    ck_assert_int_eq(saddle_next(NULL, &want), WEFT_ERR_ARGUMENT);
    ck_assert_int_eq(saddle_next(x, NULL), WEFT_ERR_ARGUMENT);
    ck_assert_int_eq(saddle_step(x, NULL, NULL), WEFT_ERR_ARGUMENT);
    ck_assert_int_eq(saddle_set_learning_rate(x, 0), WEFT_ERR_ARGUMENT);
    ck_assert_int_eq(saddle_set_learning_rate(x, (double)NAN), WEFT_ERR_ARGUMENT);
    ck_assert_int_eq(saddle_save(x, NULL, 0, NULL), WEFT_ERR_ARGUMENT);
    ck_assert_int_eq(saddle_load(x, byte, 1), WEFT_ERR_ARGUMENT);
    ck_assert_int_eq(saddle_peer_lost(x, 0), WEFT_ERR_ARGUMENT);
    ck_assert_int_eq(saddle_peer_lost(x, 2), WEFT_ERR_ARGUMENT);
    ck_assert_int_eq(saddle_next(x, &want), WEFT_AGAIN);
    ck_assert_int_eq(saddle_save(x, NULL, 0, &bytes), WEFT_ERR_ORDER);
    ck_assert_int_eq(saddle_load(x, byte, 1), WEFT_ERR_ORDER);
    ck_assert_int_eq(saddle_leave(x), WEFT_ERR_ORDER);
    ck_assert_int_eq(saddle_set_learning_rate(x, 1), WEFT_ERR_ORDER);
    ck_assert_uint_eq(saddle_state(x), SADDLE_MAY_NEXT | SADDLE_MAY_POLL | SADDLE_MAY_LINK);
    for (i = 0; i < 5; i++) { /* what it has sent is progress at first */
        weft_sim_advance(&k.sim, 1000000);
        if (saddle_next(x, &want) != WEFT_AGAIN) break;
    }
    ck_assert_int_eq(saddle_detail(x)->status, WEFT_ERR_TIMEOUT);
    ck_assert_msg(lock_steps(&k, 2), "%s", k.why);
    ck_assert_ptr_null(saddle_buffer(x, SADDLE_OF_MODEL, 0, 0));
    ck_assert_ptr_null(saddle_buffer(x, SADDLE_OF_MOMENTUM, 0, 4));
    ck_assert_ptr_nonnull(saddle_buffer(x, SADDLE_OF_MOMENTUM, 0, 3));
    cluster_set(&k.worker[0].params.tensor[0], 1, (double)INFINITY);
    ck_assert_int_eq(saddle_next(x, &want), WEFT_ERR_NONFINITE);
    cluster_set(&k.worker[0].params.tensor[0], 1, 1);
    ck_assert_msg(lock_steps(&k, 1), "%s", k.why);
    saddle_close(x);
    ck_assert_int_eq(saddle_next(x, &want), WEFT_ERR_ARGUMENT);
    fine(&k, 1);
}
END_TEST

START_TEST(settings_differ) {
    lock_desc d = lock_default(2);
    saddle_want want;
    int i;
    lock k;
    ck_assert(lock_open(&k, &d));
    lock_free(&k.worker[1]);
    k.worker[1].desc.codec = weft_codec_q8();
    ck_assert(lock_init(&k.worker[1]));
    for (i = 0; i < 50; i++) {
        k.worker[0].status = saddle_next(k.worker[0].x, &want);
        if (k.worker[0].status < 0) break;
        (void)saddle_next(k.worker[1].x, &want);
        weft_sim_advance(&k.sim, 1000);
    }
    ck_assert_int_eq(k.worker[0].status, WEFT_ERR_MISMATCH);
    ck_assert_str_eq(saddle_detail(k.worker[0].x)->field, "codec, feedback");
    fine(&k, 1);
}
END_TEST

static const char *refused(const saddle_desc *d, weft_status *s) {
    weft_memory_report r;
    ck_assert_uint_eq(saddle_memory(d, &r), 0);
    *s = r.detail.status;
    return r.detail.field ? r.detail.field : "";
}

START_TEST(descriptors_refused) {
    weft_graph graph;
    unsigned char memory[WEFT_GRAPH_BYTES(1, 0)];
    float x[4] = {0};
    uint16_t h[4] = {0};
    weft_tensor t, t16;
    weft_transport net = weft_transport_make(NULL, 0, 1, NULL, NULL, NULL, NULL, NULL);
    uint32_t group[1] = {1};
    weft_codec bad = weft_codec_make(WEFT_CODEC_Q8, 3, 0, 0);
    saddle_desc good, d;
    weft_status s;
    t.data = x;
    t.count = 4;
    t.dtype = WEFT_F32;
    t16 = t;
    t16.data = h;
    t16.dtype = WEFT_BF16;
    weft_graph_ring(&graph, 1, memory, sizeof memory);
    memset(&good, 0, sizeof good);
    good.struct_size = sizeof good;
    good.params.tensor = &t;
    good.params.count = 1;
    good.transport = &net;
    good.graph = &graph;
    good.learning_rate = 0.1;
    ck_assert_uint_gt(saddle_memory(&good, NULL), 0);
#define REFUSED(change, status, name)                                                                                  \
    do {                                                                                                               \
        d = good;                                                                                                      \
        change;                                                                                                        \
        ck_assert_str_eq(refused(&d, &s), name);                                                                       \
        ck_assert_int_eq(s, status);                                                                                   \
    } while (0)
    REFUSED(d.struct_size--, WEFT_ERR_ABI, "desc.struct_size");
    REFUSED(d.graph = NULL, WEFT_ERR_ARGUMENT, "graph");
    REFUSED(d.transport = NULL, WEFT_ERR_ARGUMENT, "transport");
    REFUSED(d.channel = WEFT_CHANNELS, WEFT_ERR_ARGUMENT, "desc.channel");
    REFUSED(d.isa = (weft_isa)77, WEFT_ERR_UNSUPPORTED, "desc.isa");
    REFUSED(d.variant = (saddle_variant)6, WEFT_ERR_ARGUMENT, "desc.variant");
    REFUSED(d.order = (saddle_order)4, WEFT_ERR_ARGUMENT, "desc.order");
    REFUSED((d.variant = SADDLE_N, d.order = SADDLE_ATC), WEFT_ERR_ARGUMENT, "desc.order");
    REFUSED(d.momentum = (saddle_momentum)4, WEFT_ERR_ARGUMENT, "desc.momentum");
    REFUSED(d.learning_rate = 0, WEFT_ERR_ARGUMENT, "desc.learning_rate");
    REFUSED(d.learning_rate = (double)INFINITY, WEFT_ERR_ARGUMENT, "desc.learning_rate");
    REFUSED(d.rho = -2, WEFT_ERR_ARGUMENT, "desc.rho");
    REFUSED((d.variant = SADDLE_QGM, d.rho = 0.1), WEFT_ERR_ARGUMENT, "desc.rho");
    REFUSED(d.beta = 1, WEFT_ERR_ARGUMENT, "desc.beta");
    REFUSED(d.mu = (double)NAN, WEFT_ERR_ARGUMENT, "desc.mu");
    REFUSED(d.nesterov = 2, WEFT_ERR_ARGUMENT, "desc.nesterov");
    REFUSED(d.weight_decay = -1, WEFT_ERR_ARGUMENT, "desc.weight_decay");
    REFUSED(d.gamma = 1.5, WEFT_ERR_ARGUMENT, "desc.gamma");
    REFUSED(d.share = 2, WEFT_ERR_ARGUMENT, "desc.share");
    REFUSED(d.mixing = WEFT_OWN_WEIGHTS, WEFT_ERR_ARGUMENT, "desc.mixing");
    REFUSED(d.codec = bad, WEFT_ERR_ARGUMENT, "codec.bits");
    REFUSED((d.variant = SADDLE_N, d.gradient_codec = &bad), WEFT_ERR_ARGUMENT, "codec.bits");
    REFUSED(d.feedback = (saddle_feedback)4, WEFT_ERR_ARGUMENT, "desc.feedback");
    REFUSED((d.codec = weft_codec_q8(), d.active = one_peer), WEFT_ERR_UNSUPPORTED,
            "desc.active (with SADDLE_DIFFERENCE)");
    REFUSED(d.gradient_feedback = 2, WEFT_ERR_ARGUMENT, "desc.gradient_feedback");
    REFUSED(d.compress_self = 1, WEFT_ERR_ARGUMENT, "desc.compress_self");
    REFUSED(d.groups = 1, WEFT_ERR_ARGUMENT, "desc.groups (without group_of_tensor)");
    REFUSED((d.group_of_tensor = group, d.groups = 1), WEFT_ERR_ARGUMENT, "desc.group_of_tensor");
    REFUSED(d.params.tensor = &t16, WEFT_ERR_UNSUPPORTED, "params.dtype");
    REFUSED(d.guard = (saddle_guard)2, WEFT_ERR_ARGUMENT, "desc.guard");
    REFUSED(d.initial = (saddle_initial)2, WEFT_ERR_ARGUMENT, "desc.initial");
    REFUSED(d.piece_bytes = 4095, WEFT_ERR_ARGUMENT, "desc.piece_bytes, transport.max_message_bytes");
    REFUSED(d.timeout_ns = 1, WEFT_ERR_ARGUMENT, "transport.now (for a deadline)");
}
END_TEST

int main(void) {
    Suite *s = suite_create("saddle");
    TCase *c = tcase_create("saddle");
    SRunner *r;
    int failed;
    tcase_set_timeout(c, 120);
    tcase_add_loop_test(c, without_radius_it_is_its_base, 0, 16);
    tcase_add_loop_test(c, without_momentum_it_is_dpsgd, 0, 4);
    tcase_add_test(c, alone_it_is_sam_with_momentum);
    tcase_add_loop_test(c, orders_agree_where_they_must, 0, 2);
    tcase_add_loop_test(c, in_place_or_beside, 0, 6);
    tcase_add_loop_test(c, the_same_bits_everywhere, 0, 16);
    tcase_add_loop_test(c, at_any_pace, 0, 48);
    tcase_add_loop_test(c, bytes_are_what_the_codec_says, 0, 24);
    tcase_add_loop_test(c, the_mean_stays, 0, 16);
    tcase_add_loop_test(c, resumed_it_never_stopped, 0, 6);
    tcase_add_loop_test(c, a_worker_is_lost, 0, 40);
    tcase_add_loop_test(c, it_comes_again, 0, 120);
    tcase_add_test(c, norms_by_group);
    tcase_add_loop_test(c, decay, 0, 2);
    tcase_add_loop_test(c, a_mean_of_whoever_is_left, 0, 60);
    tcase_add_loop_test(c, good_bye, 0, 2);
    tcase_add_loop_test(c, nonsense_is_not_averaged, 0, 2);
    tcase_add_test(c, graph_of_the_step);
    tcase_add_loop_test(c, not_finite, 0, 2);
    tcase_add_test(c, misuse);
    tcase_add_test(c, settings_differ);
    tcase_add_test(c, descriptors_refused);
    suite_add_tcase(s, c);
    r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
