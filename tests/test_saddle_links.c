/* SPDX-License-Identifier: MIT
 * test_saddle_links.c: SADDLe's links end well: settings that differ, whoever starts first; a link given up at one end
 * only, or after bulk data that is torn; good-byes to those who have gone; a worker that diverges; weights without one
 * for oneself; one of four that did not load; steps near the limit. In each, nobody waits for ever, and every worker
 * sees what has happened, once. */
#define GRAWA_IMPLEMENTATION
#include "../grawa.h"
#define SADDLE_IMPLEMENTATION
#include "../saddle.h"
#include "saddle_lock.h"

#include <check.h>

static const size_t large[1] = {5000};

/* What a worker has seen. */
typedef struct seen {
    uint64_t steps;
    unsigned errors;
    weft_status status; /* of the last error */
    weft_detail detail;
} seen;

static void fine(lock *k) {
    ck_assert_msg(lock_close(k), "%s", k->why);
}

static saddle_stats_t stats_of(const lock *k, uint32_t r) {
    saddle_stats_t s;
    saddle_stats(k->worker[r].x, &s);
    return s;
}

static weft_link_state link_of(const lock *k, uint32_t r, uint32_t peer) {
    return saddle_link(k->worker[r].x, peer);
}

/* One look of each worker at the network: at a step, or, after `most` of them, at its links. */
static void look(lock *k, seen *s, uint32_t r, uint64_t most) {
    lock_worker *w = &k->worker[r];
    const int stepping = s[r].steps < most;
    saddle_want want;
    w->status = stepping ? saddle_next(w->x, &want) : saddle_poll(w->x);
    if (stepping && w->status == WEFT_WANT_GRADIENT) lock_pull(w, &want);
    if (stepping && w->status == WEFT_OK) {
        s[r].steps++;
        w->step++;
    }
    if (w->status >= 0) return;
    s[r].errors++;
    s[r].status = w->status;
    s[r].detail = *saddle_detail(w->x);
}

/* All who are not gone take steps of their own, worker r from start[r] on (NULL: at once), for long. */
static void drive(lock *k, seen *s, const int *start, uint64_t most) {
    uint32_t r;
    int t;
    for (t = 0; t < 2000; t++) {
        for (r = 0; r < k->size; r++)
            if (!k->worker[r].gone && (!start || t >= start[r])) look(k, s, r, most);
        weft_sim_advance(&k->sim, 1000);
    }
}

static void ck_refused(const seen *s, uint32_t peer, const char *field, uint64_t expected, uint64_t got) {
    ck_assert_int_eq(s->status, WEFT_ERR_MISMATCH);
    ck_assert_int_eq(s->detail.status, WEFT_ERR_MISMATCH);
    ck_assert_uint_eq(s->detail.peer, peer);
    ck_assert_str_eq(s->detail.field, field);
    ck_assert_uint_eq(s->detail.expected, expected);
    ck_assert_uint_eq(s->detail.got, got);
}

/* The worker is gone: nobody calls it any more, and nobody is told. */
static void vanish(lock *k, uint32_t r) {
    saddle_close(k->worker[r].x);
    k->worker[r].x = NULL;
    k->worker[r].gone = 1;
}

/* How often all have to be polled until the worker has left. */
static int leave(lock *k, uint32_t r) {
    uint32_t j;
    int t;
    weft_status s = saddle_leave(k->worker[r].x);
    for (t = 0; t < 200 && s == WEFT_AGAIN; t++) {
        s = saddle_poll(k->worker[r].x);
        for (j = 0; j < k->size; j++)
            if (j != r && !k->worker[j].gone) ck_assert_int_ge(saddle_poll(k->worker[j].x), 0);
        weft_sim_advance(&k->sim, 1000);
    }
    ck_assert_int_eq(s, WEFT_OK);
    return t;
}

static int is_finite(const weft_tensors *p) {
    size_t t, i;
    for (t = 0; t < p->count; t++)
        for (i = 0; i < p->tensor[t].count; i++)
            if (!isfinite(cluster_get(&p->tensor[t], i))) return 0;
    return 1;
}

/* ---- settings that differ ---- */

static int other_beta(lock_worker *w) {
    if (w->rank == 0) w->desc.beta = 0.5;
    return 1;
}

/* Both ends see it, whichever starts first and however late the other is. */
START_TEST(settings_differ) {
    const uint64_t bits[2] = {weft_double_bits(0.5), weft_double_bits(0.9)};
    lock_desc d = lock_default(2);
    int start[2] = {0, 0};
    seen s[2];
    uint32_t r;
    lock k;
    memset(s, 0, sizeof s);
    start[_i / 4] = _i % 4;
    d.prepare = other_beta;
    ck_assert(lock_open(&k, &d));
    drive(&k, s, start, 3);
    for (r = 0; r < 2; r++) {
        ck_assert_uint_eq(s[r].errors, 1);
        ck_refused(&s[r], 1 - r, "beta", bits[r], bits[1 - r]);
        ck_assert_uint_eq(s[r].steps, 3);
        ck_assert_int_eq(link_of(&k, r, 1 - r), WEFT_LINK_DOWN);
        ck_assert_uint_eq(stats_of(&k, r).exchanges, 0);
        ck_assert_uint_eq(stats_of(&k, r).lost, 1);
    }
    fine(&k);
}
END_TEST

/* One end of a chain differs, and starts first: its neighbour goes on with the others. */
START_TEST(the_first_one_differs) {
    static const int start[4] = {0, 3, 3, 3};
    const uint64_t bits[2] = {weft_double_bits(0.5), weft_double_bits(0.9)};
    lock_desc d = lock_default(4);
    seen s[4];
    uint32_t r;
    lock k;
    memset(s, 0, sizeof s);
    d.prepare = other_beta;
    d.graph = weft_graph_chain;
    ck_assert(lock_open(&k, &d));
    drive(&k, s, start, 3);
    ck_refused(&s[0], 1, "beta", bits[0], bits[1]);
    ck_refused(&s[1], 0, "beta", bits[1], bits[0]);
    for (r = 0; r < 4; r++) {
        ck_assert_uint_eq(s[r].errors, r < 2);
        ck_assert_uint_eq(s[r].steps, 3);
        ck_assert_uint_eq(stats_of(&k, r).exchanges, r == 0 ? 0 : r == 2 ? 6 : 3);
        if (r) ck_assert_int_eq(link_of(&k, r - 1, r), r == 1 ? WEFT_LINK_DOWN : WEFT_LINK_UP);
        if (r) ck_assert_int_eq(link_of(&k, r, r - 1), r == 1 ? WEFT_LINK_DOWN : WEFT_LINK_UP);
    }
    fine(&k);
}
END_TEST

/* A hello that no version of this library says is no other setting: the link begins anew, once. */
START_TEST(a_hello_of_another_length) {
    lock_desc d = lock_default(2);
    unsigned char bytes[WEFT_CONTROL_BYTES];
    weft_header h;
    seen s[2];
    uint32_t r;
    int f;
    lock k;
    memset(s, 0, sizeof s);
    memset(bytes, 0, sizeof bytes);
    memset(&h, 0, sizeof h);
    h.big_endian = weft_big_endian();
    h.kind = WEFT_LINK_HELLO;
    h.sender = 1;
    h.epoch = 1;
    h.bytes = 1; /* answers the first one */
    h.payload = 8;
    ck_assert(lock_open(&k, &d));
    f = weft_sim_replace(&k.sim, 1, 0, 0, 2, bytes, weft_header_write(bytes, &h));
    drive(&k, s, NULL, 3);
    ck_assert_uint_eq(weft_sim_fired(&k.sim, f), 1);
    ck_assert_int_eq(saddle_fault(k.worker[0].x)->status, WEFT_ERR_PROTOCOL);
    ck_assert_str_eq(saddle_fault(k.worker[0].x)->field, "hello");
    ck_assert_uint_eq(saddle_fault(k.worker[0].x)->expected, 8 * SADDLE_FIELDS);
    ck_assert_uint_eq(saddle_fault(k.worker[0].x)->got, 8);
    for (r = 0; r < 2; r++) {
        ck_assert_uint_eq(s[r].errors, 0);
        ck_assert_uint_eq(s[r].steps, 3);
        ck_assert_uint_eq(stats_of(&k, r).faults, 1 - r);
        ck_assert_uint_eq(stats_of(&k, r).exchanges, 3);
        ck_assert_int_eq(link_of(&k, r, 1 - r), WEFT_LINK_UP);
    }
    fine(&k);
}
END_TEST

/* ---- links that are given up ---- */

/* Only worker 0 is told that 1 is gone; then it goes on (or leaves, and is gone). Worker 1 takes it as lost. */
START_TEST(one_end_is_told) {
    const int leaves = _i / 2;
    lock_desc d = lock_default(3);
    seen s[3];
    uint32_t r;
    lock k;
    memset(s, 0, sizeof s);
    d.sim.mode = _i % 2 ? WEFT_SIM_RENDEZVOUS : WEFT_SIM_EAGER;
    ck_assert_msg(lock_open(&k, &d) && lock_steps(&k, 2), "%s", k.why);
    lock_pump(&k, 10);
    ck_assert_int_eq(link_of(&k, 0, 1), WEFT_LINK_UP);
    ck_assert_int_eq(saddle_peer_lost(k.worker[0].x, 1), WEFT_OK);
    ck_assert_int_eq(link_of(&k, 0, 1), WEFT_LINK_DOWN);
    ck_assert_int_eq(link_of(&k, 1, 0), WEFT_LINK_UP);
    ck_assert_uint_eq(stats_of(&k, 0).lost, 1);
    if (leaves) {
        leave(&k, 0);
        vanish(&k, 0);
    }
    drive(&k, s, NULL, 10);
    for (r = (uint32_t)leaves; r < 3; r++) {
        ck_assert_uint_eq(s[r].errors, 0);
        ck_assert_uint_eq(s[r].steps, 10);
        ck_assert_uint_eq(stats_of(&k, r).faults, 0);
        ck_assert_uint_eq(stats_of(&k, r).lost, r < 2);
    }
    ck_assert_int_eq(link_of(&k, 1, 0), WEFT_LINK_DOWN); /* given up, and not left */
    ck_assert_int_eq(link_of(&k, 1, 2), WEFT_LINK_UP);
    ck_assert_int_eq(link_of(&k, 2, 0), leaves ? WEFT_LINK_LEFT : WEFT_LINK_UP);
    if (!leaves) ck_assert_int_eq(link_of(&k, 0, 1), WEFT_LINK_DOWN);
    fine(&k);
}
END_TEST

/* Worker 0 says hello, at first or once more, and thinks better of it before it is answered. Worker 1 goes on alone,
 * and can leave. */
START_TEST(a_hello_is_taken_back) {
    lock_desc d = lock_default(2);
    saddle_want want;
    weft_status s = WEFT_AGAIN;
    int t, steps = 0;
    lock k;
    ck_assert_msg(lock_open(&k, &d), "%s", k.why);
    if (_i) {
        ck_assert_msg(lock_steps(&k, 3), "%s", k.why);
        lock_pump(&k, 10);
        ck_assert_int_eq(saddle_peer_up(k.worker[0].x, 1), WEFT_OK);
        ck_assert_int_ge(saddle_poll(k.worker[0].x), 0);
    } else {
        ck_assert_int_eq(saddle_next(k.worker[0].x, &want), WEFT_AGAIN);
    }
    ck_assert_int_eq(link_of(&k, 0, 1), WEFT_LINK_OPENING);
    ck_assert_int_eq(saddle_peer_lost(k.worker[0].x, 1), WEFT_OK);
    saddle_poll(k.worker[0].x);
    for (t = 0; t < 5000 && steps < 3; t++) {
        s = saddle_next(k.worker[1].x, &want);
        ck_assert_int_ge(s, 0);
        if (s == WEFT_WANT_GRADIENT) lock_pull(&k.worker[1], &want);
        steps += s == WEFT_OK;
        saddle_poll(k.worker[0].x);
        weft_sim_advance(&k.sim, 1000);
    }
    ck_assert_int_eq(steps, 3);
    ck_assert_int_eq(link_of(&k, 1, 0), WEFT_LINK_DOWN);
    s = saddle_leave(k.worker[1].x);
    for (t = 0; t < 5000 && s == WEFT_AGAIN; t++) {
        s = saddle_poll(k.worker[1].x);
        weft_sim_advance(&k.sim, 1000);
    }
    ck_assert_int_eq(s, WEFT_OK);
    lock_close(&k);
}
END_TEST

/* The good-bye of a link that is given up fails: that does not open it again. */
START_TEST(the_last_word_fails) {
    static const weft_sim_call call[2] = {WEFT_SIM_SEND, WEFT_SIM_TEST};
    lock_desc d = lock_default(2);
    int f;
    lock k;
    ck_assert_msg(lock_open(&k, &d) && lock_steps(&k, 2), "%s", k.why);
    lock_pump(&k, 10);
    ck_assert_int_eq(saddle_peer_lost(k.worker[0].x, 1), WEFT_OK);
    f = weft_sim_fail_call(&k.sim, call[_i], 0, 1, WEFT_ERR_TRANSPORT);
    lock_pump(&k, 10);
    ck_assert_uint_eq(weft_sim_fired(&k.sim, f), 1);
    ck_assert_int_eq(k.worker[0].status, WEFT_OK);
    ck_assert_int_eq(link_of(&k, 0, 1), WEFT_LINK_DOWN);
    ck_assert_uint_eq(stats_of(&k, 0).faults, 0);
    ck_assert_uint_eq(stats_of(&k, 0).lost, 1);
    fine(&k);
}
END_TEST

/* Bulk data is torn once more than is put up with: worker 0 takes back what it has announced, and says good-bye, for
 * which worker 1 does not wait behind data that will not come. */
START_TEST(patience_ends) {
    lock_desc d = lock_default(2);
    const weft_link *l;
    seen s[2];
    uint32_t r;
    int f;
    lock k;
    memset(s, 0, sizeof s);
    d.sim.mode = _i ? WEFT_SIM_RENDEZVOUS : WEFT_SIM_EAGER;
    d.tensors = 1;
    d.count = large;
    d.s.piece_bytes = 4096;
    ck_assert_msg(lock_open(&k, &d) && lock_steps(&k, 2), "%s", k.why);
    k.worker[0].x->net.link[0].faults = WEFT_LINK_PATIENCE; /* so often it has happened */
    l = &k.worker[0].x->net.link[0];
    f = weft_sim_resize(&k.sim, 1, 0, weft_link_tag(&k.worker[0].x->net, l), 2, 5);
    drive(&k, s, NULL, 5);
    ck_assert_uint_eq(weft_sim_fired(&k.sim, f), 1);
    ck_assert_int_eq(saddle_fault(k.worker[0].x)->status, WEFT_ERR_PROTOCOL);
    ck_assert_uint_eq(saddle_fault(k.worker[0].x)->peer, 1);
    ck_assert_str_eq(saddle_fault(k.worker[0].x)->field, "message length");
    ck_assert_uint_eq(saddle_fault(k.worker[0].x)->expected, 4096);
    ck_assert_uint_eq(saddle_fault(k.worker[0].x)->got, 5);
    for (r = 0; r < 2; r++) {
        ck_assert_uint_eq(s[r].errors, 0);
        ck_assert_uint_eq(s[r].steps, 5);
        ck_assert_int_eq(link_of(&k, r, 1 - r), WEFT_LINK_DOWN);
        ck_assert_uint_eq(stats_of(&k, r).faults, 1 - r);
        ck_assert_uint_eq(stats_of(&k, r).lost, 1);
        ck_assert_uint_eq(stats_of(&k, r).skipped, 1);
    }
    fine(&k);
}
END_TEST

/* ---- good-byes ---- */

/* A link opens towards a worker that has gone: leaving does not wait for it. */
START_TEST(leaving_those_who_have_gone) {
    lock_desc d = lock_default(3);
    seen s[3];
    int f = -1;
    lock k;
    memset(s, 0, sizeof s);
    d.graph = weft_graph_chain;
    ck_assert_msg(lock_open(&k, &d) && lock_steps(&k, 3), "%s", k.why);
    lock_pump(&k, 10);
    if (_i) { /* the host of 0 is wrong */
        leave(&k, 1);
        lock_pump(&k, 10);
        ck_assert_int_eq(link_of(&k, 0, 1), WEFT_LINK_LEFT);
        ck_assert_int_eq(saddle_peer_up(k.worker[0].x, 1), WEFT_OK);
    } else { /* a callback of 0 fails */
        f = weft_sim_fail_call(&k.sim, WEFT_SIM_TEST, 0, 1, WEFT_ERR_TRANSPORT);
        ck_assert_int_eq(saddle_poll(k.worker[0].x), WEFT_OK);
        ck_assert_uint_eq(weft_sim_fired(&k.sim, f), 1);
        ck_assert_str_eq(saddle_fault(k.worker[0].x)->field, "status of a callback");
        ck_assert_uint_eq(saddle_fault(k.worker[0].x)->got, weft_status_value(WEFT_ERR_TRANSPORT));
    }
    vanish(&k, 1);
    drive(&k, s, NULL, 3);
    ck_assert_uint_eq(s[0].errors, 0);
    ck_assert_uint_eq(s[0].steps, 3);
    ck_assert_int_eq(link_of(&k, 0, 1), WEFT_LINK_OPENING);
    ck_assert_uint_eq(stats_of(&k, 0).faults, _i ? 0 : 1);
    ck_assert_int_le(leave(&k, 0), 2);
    ck_assert_uint_eq(saddle_state(k.worker[0].x), 0);
    fine(&k);
}
END_TEST

/* But whoever has said hello is alive, and waits: it is told. */
START_TEST(leaving_one_who_has_said_hello) {
    lock_desc d = lock_default(2);
    seen s[2];
    lock k;
    memset(s, 0, sizeof s);
    ck_assert_msg(lock_open(&k, &d) && lock_steps(&k, 3), "%s", k.why);
    lock_pump(&k, 10);
    ck_assert_int_eq(saddle_peer_up(k.worker[1].x, 0), WEFT_OK);
    ck_assert_int_eq(saddle_poll(k.worker[1].x), WEFT_OK); /* says hello */
    weft_sim_advance(&k.sim, 5000);
    ck_assert_int_eq(saddle_leave(k.worker[0].x), WEFT_AGAIN);
    ck_assert_int_eq(link_of(&k, 0, 1), WEFT_LINK_OPENING);
    lock_pump(&k, 20);
    ck_assert_int_eq(k.worker[0].status, WEFT_OK);
    vanish(&k, 0);
    drive(&k, s, NULL, 3);
    ck_assert_uint_eq(s[1].errors, 0);
    ck_assert_uint_eq(s[1].steps, 3);
    ck_assert_int_eq(link_of(&k, 1, 0), WEFT_LINK_LEFT);
    fine(&k);
}
END_TEST

/* ---- numbers ---- */

static void one_explodes(lock_worker *w, const saddle_want *want) {
    size_t i;
    lock_pull(w, want);
    for (i = 0; w->rank == 1 && w->step == 2 && i < want->into.tensor[2].count; i++)
        cluster_set(&want->into.tensor[2], i, 3e38);
}

/* A worker's result is not finite: it says so, and is out; the others go on without it, also if it is closed at once
 * and looks at the network no more. */
START_TEST(a_worker_diverges) {
    lock_desc d = lock_default(4);
    unsigned diverged = 0;
    uint32_t r;
    int t;
    lock k;
    d.s.variant = SADDLE_Q;
    d.gradient = one_explodes;
    ck_assert(lock_open(&k, &d));
    for (t = 0; t < 2000; t++) {
        for (r = 0; r < 4; r++) {
            lock_worker *w = &k.worker[r];
            if (w->gone) continue;
            if (w->step == 8)
                ck_assert_int_eq(saddle_poll(w->x), WEFT_OK);
            else if (lock_go(w) && w->status < 0) {
                ck_assert_uint_eq(r, 1);
                ck_assert_int_eq(w->status, WEFT_ERR_NONFINITE);
                ck_assert_str_eq(saddle_detail(w->x)->field, "diverged");
                ck_assert_uint_eq(saddle_detail(w->x)->peer, 1);
                ck_assert_uint_eq(saddle_detail(w->x)->expected, 0);
                ck_assert_uint_eq(saddle_detail(w->x)->got, 1);
                diverged++;
                if (_i) vanish(&k, 1);
            }
        }
        weft_sim_advance(&k.sim, 1000);
    }
    if (_i)
        ck_assert_uint_eq(diverged, 1);
    else
        ck_assert_uint_gt(diverged, 100); /* each look says so */
    for (r = 0; r < 4; r++) {
        ck_assert_uint_eq(k.worker[r].step, r == 1 ? 2 : 8);
        ck_assert(is_finite(&k.worker[r].params));
        if (r == 1) continue;
        ck_assert_int_eq(link_of(&k, r, 1), WEFT_LINK_DOWN);
        ck_assert_uint_eq(stats_of(&k, r).lost, r % 2 ? 0 : 1);
        ck_assert_uint_eq(stats_of(&k, r).faults, 0);
    }
    if (!_i) {
        ck_assert_uint_eq(saddle_state(k.worker[1].x), SADDLE_MAY_LINK);
        ck_assert_int_eq(saddle_leave(k.worker[1].x), WEFT_ERR_ORDER);
        ck_assert_int_eq(link_of(&k, 1, 0), WEFT_LINK_DOWN);
        ck_assert_int_eq(link_of(&k, 1, 2), WEFT_LINK_DOWN);
    }
    fine(&k);
}
END_TEST

static double whole(void *ctx, uint32_t i, uint32_t j) {
    (void)ctx;
    (void)i;
    (void)j;
    return 1.0;
}

/* Own weights leave none for oneself, and the only neighbour is lost when they are known: that step has no gradient. */
START_TEST(no_weight_for_oneself) {
    lock_desc d = lock_default(2);
    const float *m;
    float *before;
    saddle_want want;
    size_t i;
    int t;
    lock k;
    d.tensors = 1;
    d.count = large;
    d.s.variant = SADDLE_N;
    d.s.share = _i ? WEFT_ZERO : 1.0;
    d.s.mixing = WEFT_OWN_WEIGHTS;
    d.s.weight = whole;
    d.s.piece_bytes = 4096;
    ck_assert_msg(lock_open(&k, &d) && lock_steps(&k, 2), "%s", k.why);
    for (t = 0; t < 4000 && !(k.worker[0].x->published && k.worker[0].x->weighed); t++) {
        lock_go(&k.worker[1]);
        if (saddle_next(k.worker[0].x, &want) == WEFT_WANT_GRADIENT) lock_pull(&k.worker[0], &want);
        weft_sim_advance(&k.sim, 300);
    }
    ck_assert_str_eq(k.worker[0].x->net.phase, "exchanging models");
    ck_assert_double_eq(k.worker[0].x->own_weight, 0);
    m = (const float *)saddle_buffer(k.worker[0].x, SADDLE_OF_MOMENTUM, 0, 0);
    before = (float *)malloc(large[0] * sizeof *before);
    memcpy(before, m, large[0] * sizeof *before);
    ck_assert_int_eq(saddle_peer_lost(k.worker[0].x, 1), WEFT_OK);
    ck_assert_uint_eq(stats_of(&k, 0).skipped, 1);
    ck_assert(lock_go(&k.worker[0]));
    ck_assert_int_eq(k.worker[0].status, WEFT_OK);
    ck_assert_uint_eq(stats_of(&k, 0).steps, 3);
    ck_assert_int_eq(link_of(&k, 0, 1), WEFT_LINK_DOWN);
    ck_assert(is_finite(&k.worker[0].params));
    for (i = 0; i < large[0]; i++) ck_assert(m[i] >= 0.9f * before[i] && m[i] <= 0.9f * before[i]);
    free(before);
    fine(&k);
}
END_TEST

/* ---- saved state, and steps ---- */

/* One of four did not load: those who did refuse it, and it them. */
START_TEST(one_did_not_load) {
    static const char field[] = "goes on from a saved state";
    lock_desc d = lock_default(4);
    seen s[4];
    uint32_t r;
    lock a, b;
    memset(s, 0, sizeof s);
    ck_assert_msg(lock_open(&a, &d) && lock_steps(&a, 5), "%s", a.why);
    ck_assert(lock_open(&b, &d));
    for (r = 0; r < 4; r++) {
        size_t bytes = 0;
        void *blob;
        ck_assert_int_eq(saddle_save(a.worker[r].x, NULL, 0, &bytes), WEFT_OK);
        blob = malloc(bytes);
        ck_assert_int_eq(saddle_save(a.worker[r].x, blob, bytes, &bytes), WEFT_OK);
        if (r != 2) {
            cluster_copy(&a.worker[r].params, &b.worker[r].params);
            ck_assert_int_eq(saddle_load(b.worker[r].x, blob, bytes), WEFT_OK);
        }
        free(blob);
    }
    drive(&b, s, NULL, 3);
    ck_assert_uint_eq(s[0].errors, 0);
    ck_assert_uint_eq(s[1].errors, 1);
    ck_assert_uint_ge(s[2].errors, 1); /* two refusals found by the same call are said once */
    ck_assert_uint_le(s[2].errors, 2);
    ck_assert_uint_eq(s[3].errors, 1);
    ck_refused(&s[1], 2, field, 1, 0);
    ck_refused(&s[3], 2, field, 1, 0);
    ck_refused(&s[2], s[2].detail.peer == 1 ? 1 : 3, field, 0, 1);
    for (r = 0; r < 4; r++) {
        ck_assert_uint_eq(s[r].steps, 3);
        ck_assert_uint_eq(b.worker[r].x->step, r == 2 ? 3 : 8);
        ck_assert_uint_eq(stats_of(&b, r).faults, 0);
        ck_assert_int_eq(link_of(&b, r, (r + 1) % 4), r == 1 || r == 2 ? WEFT_LINK_DOWN : WEFT_LINK_UP);
        ck_assert_int_eq(link_of(&b, (r + 1) % 4, r), r == 1 || r == 2 ? WEFT_LINK_DOWN : WEFT_LINK_UP);
    }
    ck_assert_uint_eq(stats_of(&b, 2).exchanges, 0);
    fine(&a);
    fine(&b);
}
END_TEST

static void both_ends(lock *k, uint32_t a, uint32_t b, int up) {
    ck_assert_int_eq((up ? saddle_peer_up : saddle_peer_lost)(k->worker[a].x, b), WEFT_OK);
    ck_assert_int_eq((up ? saddle_peer_up : saddle_peer_lost)(k->worker[b].x, a), WEFT_OK);
}

/* A neighbour that says it is at a step near the limit is refused, so that whoever would take that over can go on with
 * an honest one, which comes again. */
START_TEST(steps_near_the_limit) {
    const uint64_t limit = UINT64_MAX / 8 - 2;
    lock_desc d = lock_default(3);
    seen s[3];
    lock k;
    memset(s, 0, sizeof s);
    d.graph = weft_graph_chain;
    ck_assert_msg(lock_open(&k, &d) && lock_steps(&k, 3), "%s", k.why);
    both_ends(&k, 0, 1, 0);
    both_ends(&k, 1, 2, 0);
    k.worker[2].gone = 1;
    k.worker[0].x->step = limit;
    both_ends(&k, 0, 1, 1);
    drive(&k, s, NULL, 4);
    ck_assert_uint_eq(s[1].errors, 0);
    ck_assert_uint_eq(s[1].steps, 4);
    ck_assert_uint_eq(k.worker[1].x->step, 7);
    ck_assert_uint_eq(stats_of(&k, 1).faults, WEFT_LINK_PATIENCE + 1);
    ck_assert_str_eq(saddle_fault(k.worker[1].x)->field, "letter: step");
    ck_assert_uint_eq(saddle_fault(k.worker[1].x)->expected, UINT64_MAX / 16);
    ck_assert_uint_gt(saddle_fault(k.worker[1].x)->got, limit);
    ck_assert_int_eq(link_of(&k, 1, 0), WEFT_LINK_DOWN);
    k.worker[0].gone = 1;
    k.worker[2].gone = 0;
    both_ends(&k, 1, 2, 1);
    drive(&k, s, NULL, 8);
    ck_assert_uint_eq(s[1].errors + s[2].errors, 0);
    ck_assert_uint_eq(s[1].steps, 8);
    ck_assert_int_eq(link_of(&k, 1, 2), WEFT_LINK_UP);
    ck_assert_int_eq(link_of(&k, 2, 1), WEFT_LINK_UP);
    ck_assert_uint_eq(stats_of(&k, 2).faults, 0);
    ck_assert_uint_gt(stats_of(&k, 2).exchanges, 3);
    fine(&k);
}
END_TEST

int main(void) {
    Suite *s = suite_create("settings"), *l = suite_create("links"), *n = suite_create("numbers");
    TCase *t = tcase_create("settings");
    SRunner *r;
    int failed;
    tcase_set_timeout(t, 60);
    tcase_add_loop_test(t, settings_differ, 0, 8);
    tcase_add_test(t, the_first_one_differs);
    tcase_add_test(t, a_hello_of_another_length);
    tcase_add_test(t, one_did_not_load);
    suite_add_tcase(s, t);
    t = tcase_create("links");
    tcase_set_timeout(t, 60);
    tcase_add_loop_test(t, one_end_is_told, 0, 4);
    tcase_add_loop_test(t, a_hello_is_taken_back, 0, 2);
    tcase_add_loop_test(t, the_last_word_fails, 0, 2);
    tcase_add_loop_test(t, patience_ends, 0, 2);
    tcase_add_loop_test(t, leaving_those_who_have_gone, 0, 2);
    tcase_add_test(t, leaving_one_who_has_said_hello);
    suite_add_tcase(l, t);
    t = tcase_create("numbers");
    tcase_set_timeout(t, 60);
    tcase_add_loop_test(t, a_worker_diverges, 0, 2);
    tcase_add_loop_test(t, no_weight_for_oneself, 0, 2);
    tcase_add_test(t, steps_near_the_limit);
    suite_add_tcase(n, t);
    r = srunner_create(s);
    srunner_add_suite(r, l);
    srunner_add_suite(r, n);
    srunner_run_all(r, CK_NORMAL);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
