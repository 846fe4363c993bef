/* SPDX-License-Identifier: MIT
 * test_dsgd_aau_faults.c: DSGD-AAU when things fail: workers lost at any message and back again, links cut and healed,
 * workers that come late or leave, bytes that no neighbour sends, callbacks that fail, settings that differ. Killing
 * any worker at any moment never stops the others. */
#define GRAWA_IMPLEMENTATION
#include "../grawa.h"
#define DSGD_AAU_IMPLEMENTATION
#include "../dsgd_aau.h"
#include "aau_team.h"

#include <check.h>

static const size_t small[] = {5, 0, 3};
static const size_t medium[] = {5, 0, 40};

static void fine(aau *t, int ok) {
    int closed = aau_close(t);
    if (!ok || !closed) ck_abort_msg("%s", t->why[0] ? t->why : "a check failed");
}

static aau_desc drawn(uint64_t seed, const weft_graph *g) {
    aau_desc d = aau_default(seed, g);
    d.sim = weft_sim_torture(seed, g->workers);
    d.sim.detect_ns = seed % 2 ? 0 : 50000;
    d.d.fan = 1 + (uint32_t)(seed % 4);
    d.deaf = seed % 3 == 0;
    d.d.grace_ns = seed % 5 == 0 ? 20000 : seed % 5 == 1 ? 0 : DSGD_AAU_NO_GRACE;
    d.d.coalesce_ns = seed % 7 == 0 ? 30000 : 0;
    d.tensors = 3;
    d.count = medium; /* too much for a letter: the data comes in bulk */
    d.steps = 3;
    return d;
}

/* ---- lost at every message ---- */

static void lost_at_every_message(uint64_t seed, int back) {
    weft_graph g;
    void *m = aau_graph(&g, (int)(seed % AAU_KINDS), 3 + (uint32_t)(seed % 2), seed);
    uint64_t at, messages = 0, fired = 0, runs = 0, met = 0;
    uint32_t r;
    for (at = 0; at <= messages; at++)
        for (r = 0; r < (at ? g.workers : 1); r++) {
            aau_desc d = drawn(seed, &g);
            aau t;
            int f = -1, ok;
            uint32_t i;
            d.recover = back;
            if (seed % 4 == 3) d.count = small;
            ok = aau_open(&t, &d);
            if (at) f = weft_sim_lose_at_message(&t.sim, r, at, (int)(at % 2));
            if (at && back) weft_sim_revive_at(&t.sim, r, 2500000);
            ok = ok && aau_run(&t);
            for (i = 0; ok && i < t.size; i++)
                if (i != r && t.worker[i].steps != d.steps) ok = aau_fail(&t, "worker %u has been stopped", i);
            if (ok && back && at && weft_sim_fired(&t.sim, f) && t.worker[r].life) {
                met += t.worker[r].steps == d.steps;
                /* it has taken over a neighbour's parameters, if it has found one; never its own, which were noise */
                if (t.worker[r].steps && fabs(cluster_get(&t.worker[r].params.tensor[0], 0)) > 30 &&
                    t.worker[r].phase != AAU_GONE)
                    ok = aau_fail(&t, "worker %u has come back with nonsense", r);
            }
            if (at) fired += weft_sim_fired(&t.sim, f);
            if (!at) messages = weft_sim_sent(&t.sim);
            runs++;
            ck_assert_uint_eq(t.errors, 0);
            fine(&t, ok);
        }
    ck_assert_uint_gt(messages, 20);
    ck_assert_uint_gt(fired, messages);
    if (back) ck_assert_uint_gt(met, 5);
    free(m);
}

START_TEST(a_worker_is_lost_at_every_message) {
    lost_at_every_message(1 + (uint64_t)_i, 0);
}
END_TEST

START_TEST(and_comes_back) {
    lost_at_every_message(1 + (uint64_t)_i, 1);
}
END_TEST

/* Several at a time, again and again, each back after a while. */
START_TEST(many_are_lost_and_back) {
    uint64_t seed, crashed = 0, back = 0;
    uint32_t r;
    for (seed = 1; seed <= 25; seed++) {
        weft_graph g;
        void *m = aau_graph(&g, (int)(seed % AAU_KINDS), 4 + (uint32_t)(seed % 9), seed);
        aau_desc d = drawn(seed, &g);
        aau t;
        uint64_t rng = seed, i;
        int ok;
        d.recover = 1;
        d.steps = 15;
        ok = aau_open(&t, &d);
        for (i = 0; i < 12; i++) {
            uint64_t when = cluster_draw(&rng) % 14000000;
            r = cluster_below(&rng, t.size);
            weft_sim_lose_at(&t.sim, r, when);
            weft_sim_revive_at(&t.sim, r, when + cluster_draw(&rng) % 1000000);
        }
        ok = ok && aau_run(&t);
        for (r = 0; r < t.size; r++) back += t.worker[r].life;
        for (r = 0; ok && r < t.size; r++)
            if (weft_sim_alive(&t.sim, r) && t.worker[r].steps != d.steps && !t.worker[r].life)
                ok = aau_fail(&t, "worker %u has been stopped", r);
        crashed += t.crashed;
        ck_assert_uint_eq(t.errors, 0);
        fine(&t, ok);
        free(m);
    }
    ck_assert_uint_gt(crashed, 150);
    ck_assert_uint_gt(back, 150);
}
END_TEST

static uint64_t middle_last(aau_worker *w) {
    return w->rank == w->t->size - 1 ? 1100000 : 1000000;
}

/* A leaf is lost while its parameters are summed: the averaging is called off, and nothing has happened to those that
 * are left. */
START_TEST(a_leaf_is_lost_in_the_middle) {
    static const weft_edge edge[] = {{0, 3}, {1, 3}, {2, 3}};
    static const size_t count[] = {700, 300};
    unsigned char memory[256];
    weft_graph g;
    uint64_t at, called_off = 0, messages = 0;
    ck_assert_int_eq(weft_graph_from_edges(&g, 4, edge, 3, memory, sizeof memory), WEFT_OK);
    for (at = 0; at <= messages; at++) {
        aau_desc d = aau_default(3, &g);
        aau t;
        int ok;
        dsgd_aau_stats_t s;
        d.tensors = 2;
        d.count = count;
        d.steps = 1;
        d.pace = middle_last;
        d.d.piece_bytes = 1024;
        d.sim.mode = (weft_sim_mode)(_i % 2);
        d.sim.bytes_per_second = 100000000;
        ok = aau_open(&t, &d);
        weft_sim_set_link(&t.sim, (uint32_t)_i / 2, 3, 1000, 0, 20000000); /* its data come last */
        if (at) weft_sim_lose_at_message(&t.sim, (uint32_t)_i / 2, at, 1);
        ok = ok && aau_run(&t);
        if (!at) messages = weft_sim_sent(&t.sim);
        memset(&s, 0, sizeof s);
        dsgd_aau_stats(t.worker[3].x, &s);
        called_off += s.called_off;
        if (s.called_off) ok = ok && aau_conserved_without(&t, (uint32_t)_i / 2, 1e-12);
        fine(&t, ok);
    }
    ck_assert_uint_ge(messages, 50);
    /* of the first leaf nothing stays in the sum */
    if (_i / 2)
        ck_assert_uint_ge(called_off, 4);
    else
        ck_assert_uint_eq(called_off, 0);
}
END_TEST

/* ---- links ---- */

static void cut(aau *t, uint32_t a, uint32_t b) {
    ck_assert_int_eq(dsgd_aau_peer_lost(t->worker[a].x, b), WEFT_OK);
    ck_assert_int_eq(dsgd_aau_peer_lost(t->worker[b].x, a), WEFT_OK);
    weft_sim_wake(&t->sim, a, weft_sim_now(&t->sim));
    weft_sim_wake(&t->sim, b, weft_sim_now(&t->sim));
}

static void heal(aau *t, uint32_t a, uint32_t b) {
    ck_assert_int_eq(dsgd_aau_peer_up(t->worker[a].x, b), WEFT_OK);
    ck_assert_int_eq(dsgd_aau_peer_up(t->worker[b].x, a), WEFT_OK);
    weft_sim_wake(&t->sim, a, weft_sim_now(&t->sim));
    weft_sim_wake(&t->sim, b, weft_sim_now(&t->sim));
}

static dsgd_aau_stats_t stats_of(aau *t, uint32_t r) {
    dsgd_aau_stats_t s;
    dsgd_aau_stats(t->worker[r].x, &s);
    return s;
}

/* A ring of 8 falls apart into two chains, each of which goes on with epochs of its own; then it heals. */
START_TEST(a_graph_falls_apart_and_heals) {
    weft_graph g;
    void *m = aau_graph(&g, AAU_RING, 8, 0);
    aau_desc d = aau_default(21 + (uint64_t)_i, &g);
    aau t;
    uint64_t epochs[8], views;
    uint32_t r;
    d.tensors = 3;
    d.count = small;
    d.steps = 100000;
    d.stay = 1;
    d.deaf = _i % 2;
    ck_assert(aau_open(&t, &d));
    aau_begin_all(&t);
    weft_sim_advance(&t.sim, 20000000);
    for (r = 0; r < 8; r++) {
        ck_assert_uint_eq(stats_of(&t, r).part, 8);
        ck_assert_uint_gt(stats_of(&t, r).epochs, 1);
        ck_assert_uint_eq(stats_of(&t, r).views, 0);
    }
    cut(&t, 0, 7);
    weft_sim_advance(&t.sim, 5000000);
    for (r = 0; r < 8; r++) ck_assert_uint_eq(stats_of(&t, r).part, 8);
    cut(&t, 3, 4);
    weft_sim_advance(&t.sim, 5000000);
    for (r = 0; r < 8; r++) {
        ck_assert_uint_eq(stats_of(&t, r).part, 4);
        epochs[r] = stats_of(&t, r).epochs;
    }
    ck_assert_int_eq(dsgd_aau_link(t.worker[0].x, 7), WEFT_LINK_DOWN);
    weft_sim_advance(&t.sim, 20000000);
    for (r = 0; r < 8; r++) {
        ck_assert_uint_gt(stats_of(&t, r).epochs, epochs[r] + 1);
        epochs[r] = stats_of(&t, r).epochs;
    }
    heal(&t, 3, 4);
    weft_sim_advance(&t.sim, 20000000);
    views = stats_of(&t, 0).views;
    for (r = 0; r < 8; r++) {
        uint32_t labels[8];
        ck_assert_uint_eq(dsgd_aau_labels(t.worker[r].x, labels, 8), 8);
        ck_assert_uint_eq(stats_of(&t, r).part, 8);
        ck_assert_uint_gt(stats_of(&t, r).epochs, epochs[r] + 1);
    }
    ck_assert_uint_le(views, 8);
    ck_assert_int_eq(dsgd_aau_link(t.worker[3].x, 4), WEFT_LINK_UP);
    fine(&t, 1);
    free(m);
}
END_TEST

/* Only one end is told: the other learns it from the hello. */
START_TEST(one_end_begins_anew) {
    weft_graph g;
    void *m = aau_graph(&g, AAU_COMPLETE, 4, 0);
    aau_desc d = aau_default(5 + (uint64_t)_i, &g);
    aau t;
    uint64_t i, before;
    d.tensors = 3;
    d.count = medium;
    d.steps = 100000;
    d.stay = 1;
    ck_assert(aau_open(&t, &d));
    aau_begin_all(&t);
    for (i = 0; i < 40; i++) {
        weft_sim_advance(&t.sim, 100000 + 13001 * i * (uint64_t)(_i + 1));
        ck_assert_int_eq(dsgd_aau_peer_up(t.worker[i % 4].x, (uint32_t)(i + 1) % 4), WEFT_OK);
        weft_sim_wake(&t.sim, (uint32_t)(i % 4), weft_sim_now(&t.sim));
    }
    weft_sim_advance(&t.sim, 5000000);
    before = t.worker[2].steps;
    for (i = 0; i < 4; i++) {
        ck_assert_uint_eq(stats_of(&t, (uint32_t)i).neighbours, 3);
        ck_assert_uint_eq(stats_of(&t, (uint32_t)i).part, 4);
        ck_assert_uint_ge(stats_of(&t, (uint32_t)i).lost, 10);
    }
    weft_sim_advance(&t.sim, 5000000);
    ck_assert_uint_gt(t.worker[2].steps, before + 2);
    fine(&t, 1);
    free(m);
}
END_TEST

/* Only one end is told that the other is gone, and nobody says hello: the other is told, and goes on with the rest. */
START_TEST(one_end_is_told) {
    weft_graph g;
    void *m = aau_graph(&g, AAU_CHAIN, 3, 0);
    aau_desc d = aau_default(5 + (uint64_t)_i, &g);
    aau t;
    uint64_t before[3];
    uint32_t r;
    d.tensors = 3;
    d.count = medium;
    d.steps = 100000;
    d.stay = 1;
    d.sim.mode = _i % 2 ? WEFT_SIM_RENDEZVOUS : WEFT_SIM_EAGER;
    ck_assert(aau_open(&t, &d));
    aau_begin_all(&t);
    weft_sim_advance(&t.sim, 10000000 + 13001 * (uint64_t)_i);
    ck_assert_int_eq(dsgd_aau_link(t.worker[1].x, 0), WEFT_LINK_UP);
    ck_assert_int_eq(dsgd_aau_peer_lost(t.worker[0].x, 1), WEFT_OK);
    ck_assert_int_eq(dsgd_aau_peer_lost(t.worker[0].x, 1), WEFT_OK); /* no news */
    weft_sim_wake(&t.sim, 0, weft_sim_now(&t.sim));
    ck_assert_uint_eq(stats_of(&t, 0).lost, 1);
    weft_sim_advance(&t.sim, 5000000);
    for (r = 0; r < 3; r++) before[r] = t.worker[r].steps;
    weft_sim_advance(&t.sim, 20000000);
    for (r = 0; r < 3; r++) {
        ck_assert_uint_gt(t.worker[r].steps, before[r] + 5);
        ck_assert_uint_eq(stats_of(&t, r).part, r ? 2 : 1);
        ck_assert_uint_eq(stats_of(&t, r).lost, r < 2);
        ck_assert_uint_eq(stats_of(&t, r).faults, 0);
    }
    ck_assert_int_eq(dsgd_aau_link(t.worker[0].x, 1), WEFT_LINK_DOWN);
    ck_assert_int_eq(dsgd_aau_link(t.worker[1].x, 0), WEFT_LINK_DOWN);
    ck_assert_int_eq(dsgd_aau_link(t.worker[1].x, 2), WEFT_LINK_UP);
    ck_assert_uint_eq(t.errors, 0);
    fine(&t, 1);
    free(m);
}
END_TEST

/* Both ends begin anew twice, and read what the other said before that only then. */
START_TEST(both_ends_begin_anew) {
    uint64_t seed, unread = 0;
    for (seed = 1; seed <= 60; seed++) {
        weft_graph g;
        void *m = aau_graph(&g, AAU_RING, 4, 0);
        aau_desc d = aau_default(seed, &g);
        aau t;
        int k;
        d.tensors = 3;
        d.count = small;
        d.steps = 100000;
        d.stay = 1;
        d.sim.latency_ns = 20000;
        d.sim.jitter_ns = seed % 3 * 10000;
        ck_assert(aau_open(&t, &d));
        aau_begin_all(&t);
        weft_sim_advance(&t.sim, 3000000 + seed * 1000);
        for (k = 0; k < 4; k++) { /* so soon after each other that no answer is here yet */
            const uint32_t end = (k + (int)(seed % 2)) % 2 ? 2 : 3;
            ck_assert_int_eq(dsgd_aau_peer_up(t.worker[end].x, 5 - end), WEFT_OK);
            if (k >= 2 && dsgd_aau_link(t.worker[end].x, 5 - end) == WEFT_LINK_OPENING) unread++;
            /* the second time only what the other has said before makes it look */
            if (k < 2 || seed % 4) weft_sim_wake(&t.sim, end, weft_sim_now(&t.sim));
            weft_sim_advance(&t.sim, seed % 4 ? 1000 + seed % 7 * 5000 : 100);
        }
        weft_sim_advance(&t.sim, 5000000);
        ck_assert_int_eq(dsgd_aau_link(t.worker[2].x, 3), WEFT_LINK_UP);
        ck_assert_int_eq(dsgd_aau_link(t.worker[3].x, 2), WEFT_LINK_UP);
        ck_assert_uint_eq(stats_of(&t, 2).part, 4);
        fine(&t, 1);
        free(m);
    }
    ck_assert_uint_gt(unread, 60);
}
END_TEST

/* ---- late, and gone ---- */

static int late_prepare(aau_worker *w) {
    if (w->rank != 2) return 1;
    w->desc.join = w->t->desc.user ? DSGD_AAU_REJOIN : DSGD_AAU_JOIN;
    cluster_fill(&w->params, 4242, 500.0);
    return 1;
}

START_TEST(a_worker_joins_late) {
    static const weft_dtype narrow[3] = {WEFT_F32, WEFT_F32, WEFT_F32};
    static int rejoin;
    weft_graph g;
    void *m = aau_graph(&g, AAU_RING, 5, 0);
    aau_desc d = aau_default(31, &g);
    aau t;
    double own;
    d.tensors = 3;
    d.count = medium;
    d.steps = 100000;
    d.stay = 1;
    d.prepare = late_prepare;
    d.user = _i == 1 ? &rejoin : NULL;
    if (_i == 2) { /* what it takes over comes in 16 bits */
        d.dtype = narrow;
        d.d.wire = DSGD_AAU_WIRE_BF16;
    }
    ck_assert(aau_open(&t, &d));
    ck_assert_int_eq(dsgd_aau_step(t.worker[2].x), WEFT_ERR_ORDER); /* first it has to join */
    ck_assert_uint_eq(dsgd_aau_state(t.worker[2].x) & DSGD_AAU_MAY_STEP, 0);
    ck_assert_int_eq(dsgd_aau_peer_lost(t.worker[1].x, 2), WEFT_OK); /* it is known not to be there */
    ck_assert_int_eq(dsgd_aau_peer_lost(t.worker[3].x, 2), WEFT_OK);
    aau_begin_all(&t);
    weft_sim_advance(&t.sim, 10000000);
    ck_assert_uint_eq(stats_of(&t, 0).part, 4);
    ck_assert_uint_gt(stats_of(&t, 0).epochs, 1);
    own = cluster_get(&t.worker[2].params.tensor[0], 1);
    aau_begin(&t.worker[2]);
    heal(&t, 2, 1);
    heal(&t, 2, 3);
    weft_sim_advance(&t.sim, 1000);
    ck_assert_uint_eq(t.worker[2].steps, 0);
    weft_sim_advance(&t.sim, 10000000);
    ck_assert_uint_gt(t.worker[2].steps, 4);
    ck_assert_uint_eq(stats_of(&t, 2).part, 5);
    ck_assert_uint_eq(stats_of(&t, 4).part, 5);
    ck_assert_uint_gt(stats_of(&t, 2).epochs, 1);
    if (_i != 1) /* everything of it is a neighbour's */
        ck_assert_double_lt(fabs(cluster_get(&t.worker[2].params.tensor[0], 1)), 10.0);
    else
        ck_assert_double_gt(fabs(own), 10.0);
    fine(&t, 1);
    free(m);
}
END_TEST

/* Nobody is there: it says so, and joins when somebody is. */
START_TEST(nobody_to_join) {
    weft_graph g;
    void *m = aau_graph(&g, AAU_CHAIN, 3, 0);
    aau_desc d = aau_default(31, &g);
    aau t;
    d.tensors = 3;
    d.count = medium;
    d.prepare = late_prepare;
    ck_assert(aau_open(&t, &d));
    ck_assert_int_eq(dsgd_aau_peer_lost(t.worker[2].x, 1), WEFT_OK);
    ck_assert_int_eq(dsgd_aau_peer_lost(t.worker[2].x, 0), WEFT_OK); /* not a neighbour: no news */
    ck_assert_int_eq(dsgd_aau_start(t.worker[2].x), WEFT_ERR_PEER_LOST);
    ck_assert_int_eq(dsgd_aau_poll(t.worker[2].x), WEFT_ERR_PEER_LOST);
    ck_assert_int_eq(dsgd_aau_peer_up(t.worker[2].x, 1), WEFT_OK);
    ck_assert_int_eq(dsgd_aau_poll(t.worker[2].x), WEFT_AGAIN);
    fine(&t, 1);
    free(m);
}
END_TEST

static int some_join(aau_worker *w) {
    if (w->rank >= *(uint32_t *)w->t->desc.user) return 1;
    w->desc.join = DSGD_AAU_JOIN;
    cluster_fill(&w->params, 4242 + w->rank, 5.0);
    return 1;
}

/* Several workers join at once, and some of those that they ask are joining themselves: nobody takes another for
 * malformed, and nobody waits for ever. */
START_TEST(several_join_at_once) {
    uint64_t seed;
    for (seed = 1; seed <= 150; seed++) {
        weft_graph g;
        uint32_t joiners = 2 + (uint32_t)(seed % 3), r;
        void *m = aau_graph(&g, AAU_COMPLETE, 5, 0);
        aau_desc d = aau_default(seed, &g);
        aau t;
        int ok;
        d.sim = weft_sim_torture(seed, 5);
        d.sim.bytes_per_second = seed % 2 ? 50000000 : 0;
        d.tensors = 3;
        d.count = seed % 4 ? medium : small;
        d.steps = 12;
        d.compute_ns = 100000;
        d.deaf = seed / 4 % 2;
        d.prepare = some_join;
        d.user = &joiners;
        ok = aau_open(&t, &d);
        aau_begin_all(&t);
        for (r = 0; r < joiners; r++) aau_begin(&t.worker[r]);
        ok = ok && aau_finish(&t);
        if (ok && AAU_TOTAL(&t, faults)) ok = aau_fail(&t, "honest workers take each other for malformed");
        fine(&t, ok);
        free(m);
    }
}
END_TEST

/* All others are lost, or have left: alone, nobody waits. */
START_TEST(the_last_one_goes_on) {
    weft_graph g;
    void *m = aau_graph(&g, AAU_STAR, 5, 0);
    aau_desc d = aau_default(8, &g);
    aau t;
    uint32_t r;
    d.tensors = 3;
    d.count = small;
    d.steps = 50;
    ck_assert(aau_open(&t, &d));
    for (r = 0; r < 4; r++) weft_sim_lose_at(&t.sim, r, 3000000 + r * 1000000);
    ck_assert(aau_run(&t));
    ck_assert_uint_eq(t.worker[4].steps, 50);
    ck_assert_uint_gt(stats_of(&t, 4).alone, 40);
    ck_assert_uint_eq(t.crashed, 4);
    fine(&t, 1);
    free(m);
}
END_TEST

/* ---- bytes that no neighbour sends ---- */

/* A message is damaged in one byte, in each in turn: the link begins anew, and everybody gets to the end. */
START_TEST(a_byte_is_wrong) {
    static const uint64_t nth[] = {1, 3, 9, 14, 20, 31, 55};
    uint64_t k, fired = 0;
    size_t at;
    for (k = 0; k < sizeof nth / sizeof *nth; k++)
        for (at = 0; at < 64; at += at < 24 ? 1 : 5) {
            weft_graph g;
            void *m = aau_graph(&g, AAU_COMPLETE, 3, 0);
            aau_desc d = drawn(100 + k, &g);
            aau t;
            int f, ok;
            ok = aau_open(&t, &d);
            f = weft_sim_corrupt(&t.sim, WEFT_SIM_ANY, WEFT_SIM_ANY, 0, nth[k], at, 1u << (at + k) % 8);
            ok = ok && aau_run(&t);
            fired += weft_sim_fired(&t.sim, f);
            if (ok && weft_sim_fired(&t.sim, f) && AAU_TOTAL(&t, faults) == 0) ok = aau_fail(&t, "nobody has noticed");
            fine(&t, ok);
            free(m);
        }
    ck_assert_uint_gt(fired, 100);
}
END_TEST

/* And in bulk data, its length. */
START_TEST(a_length_is_wrong) {
    uint64_t nth, fired = 0, noticed = 0;
    for (nth = 1; nth < 32; nth++) {
        weft_graph g;
        void *m = aau_graph(&g, AAU_COMPLETE, 3, 0);
        aau_desc d = drawn(200 + nth, &g);
        aau t;
        int f, ok;
        ok = aau_open(&t, &d);
        f = weft_sim_resize(&t.sim, WEFT_SIM_ANY, WEFT_SIM_ANY, WEFT_SIM_ANY, nth * 3, nth % 3 ? 3 : 2000);
        ok = ok && aau_run(&t);
        fired += weft_sim_fired(&t.sim, f);
        noticed += AAU_TOTAL(&t, faults) != 0; /* but for one that nobody reads any more */
        fine(&t, ok);
        free(m);
    }
    ck_assert_uint_gt(fired, 10);
    ck_assert_uint_ge(noticed + 3, fired);
}
END_TEST

/* A letter as the library itself would seal it, with anything in it. */
static size_t forge(unsigned char *p, uint64_t *rng, uint32_t from, int kind, size_t most) {
    size_t bytes = cluster_draw(rng) % 3 ? cluster_draw(rng) % (most - WEFT_LETTER_BYTES + 1) : 0, i;
    p[0] = 'w';
    p[1] = 'l';
    p[2] = (unsigned char)(WEFT_WIRE_VERSION | (cluster_draw(rng) % 2) << 7);
    p[3] = (unsigned char)kind;
    weft_put32(p + 4, 1);
    weft_put32(p + 8, cluster_draw(rng) % 2 ? (uint32_t)(cluster_draw(rng) % 6) : (uint32_t)cluster_draw(rng));
    weft_put32(p + 12, cluster_draw(rng) % 2 ? (uint32_t)(cluster_draw(rng) % 3) : (uint32_t)cluster_draw(rng));
    for (i = 0; i < bytes; i++) p[WEFT_LETTER_BYTES + i] = (unsigned char)cluster_draw(rng);
    if (bytes > 12 && cluster_draw(rng) % 2) p[WEFT_LETTER_BYTES] %= 4; /* nearly a state */
    for (i = 10; i < bytes && cluster_draw(rng) % 4; i++) p[WEFT_LETTER_BYTES + i] %= 8;
    weft_put32(p + 16, weft_letter_crc(p, WEFT_LETTER_BYTES + bytes, from));
    return WEFT_LETTER_BYTES + bytes;
}

/* A letter of worker 0 to one of its neighbours, sealed as by the library, of the attempt that is `ago` before this. */
static void say_of(aau *t, uint32_t ago, uint32_t to, int kind, uint32_t id, const unsigned char *payload,
                   size_t bytes) {
    unsigned char p[WEFT_CONTROL_BYTES];
    const dsgd_aau *from = t->worker[0].x;
    p[0] = 'w';
    p[1] = 'l';
    p[2] = (unsigned char)(WEFT_WIRE_VERSION | (weft_big_endian() ? 128 : 0));
    p[3] = (unsigned char)kind;
    weft_put32(p + 4, from->net.link[weft_graph_slot(t->desc.graph, 0, to)].mine - ago);
    weft_put32(p + 8, id);
    weft_put32(p + 12, 0);
    memcpy(p + WEFT_LETTER_BYTES, payload, bytes);
    weft_put32(p + 16, weft_letter_crc(p, WEFT_LETTER_BYTES + bytes, 0));
    weft_sim_inject_at(&t->sim, weft_sim_now(&t->sim) + 1, 0, to, 0, p, WEFT_LETTER_BYTES + bytes);
}

static void say(aau *t, uint32_t to, int kind, uint32_t id, const unsigned char *payload, size_t bytes) {
    say_of(t, 0, to, kind, id, payload, bytes);
}

/* What was sent before the link began anew comes only now: it is dropped, whatever it says. */
START_TEST(letters_of_an_attempt_that_is_over) {
    weft_graph g;
    void *m = aau_graph(&g, AAU_COMPLETE, 3, 0);
    aau_desc d = aau_default(8, &g);
    dsgd_aau_stats_t before;
    aau t;
    d.tensors = 3;
    d.count = small;
    d.steps = 100000;
    d.stay = 1;
    ck_assert(aau_open(&t, &d));
    aau_begin_all(&t);
    weft_sim_advance(&t.sim, 5000000);
    ck_assert_int_eq(dsgd_aau_peer_up(t.worker[0].x, 1), WEFT_OK);
    weft_sim_wake(&t.sim, 0, weft_sim_now(&t.sim));
    weft_sim_advance(&t.sim, 5000000);
    ck_assert_int_eq(dsgd_aau_link(t.worker[1].x, 0), WEFT_LINK_UP);
    before = stats_of(&t, 1);
    say_of(&t, 1, 1, DSGD_AAU_ACCEPT, 77777, (const unsigned char *)"", 0);
    weft_sim_advance(&t.sim, 5000000);
    ck_assert_uint_eq(stats_of(&t, 1).traffic.dropped, before.traffic.dropped + 1);
    ck_assert_uint_eq(stats_of(&t, 1).faults, before.faults);
    fine(&t, 1);
    free(m);
}
END_TEST

static uint64_t overtaken, in_parts;

static void look_at_letter(void *user, const weft_sim_message *message) {
    aau *t = (aau *)user;
    const unsigned char *p = (const unsigned char *)message->data;
    dsgd_aau *x = t->worker[message->src].x;
    int untold;
    if (message->tag % WEFT_TAGS_PER_CHANNEL || message->bytes < WEFT_LETTER_BYTES || p[0] != 'w' || p[1] != 'l')
        return;
    untold = dsgd_aau_untold(&x->core, weft_graph_slot(t->desc.graph, message->src, message->dst));
    if (p[3] == DSGD_AAU_STATE)
        in_parts += untold != 0;
    else
        overtaken += untold != 0;
}

/* More news than a letter has room for, and something else to say: all the news go first. */
START_TEST(news_are_not_overtaken) {
    weft_graph g;
    void *m = aau_graph(&g, AAU_COMPLETE, 24, 0);
    aau_desc d = aau_default(8, &g);
    aau t;
    uint32_t r;
    overtaken = in_parts = 0;
    d.tensors = 3;
    d.count = small;
    d.steps = 20;
    d.deaf = 1; /* news of many links come at once */
    d.d.coalesce_ns = 1000000000;
    d.sim.on_message = look_at_letter;
    ck_assert(aau_open(&t, &d));
    for (r = 0; r < 17; r++) weft_sim_lose_at(&t.sim, r, 5000000);
    ck_assert(aau_run(&t));
    ck_assert_uint_eq(t.crashed, 17);
    ck_assert_uint_gt(in_parts, 10);
    ck_assert_uint_eq(overtaken, 0);
    fine(&t, 1);
    free(m);
}
END_TEST

/* A neighbour says good-bye and is gone. Its last word is there, but a test of the receive may not say so yet when a
 * send finds nobody any more: it has left, and is not lost. */
START_TEST(last_words) {
    uint64_t seed, heard = 0;
    for (seed = 1; seed <= 200; seed++) {
        weft_graph g;
        void *m = aau_graph(&g, AAU_RING, 2, 0);
        aau_desc d = aau_default(seed, &g);
        aau t;
        int k;
        d.tensors = 3;
        d.count = small;
        d.steps = 100000;
        d.deaf = 1;
        d.sim.coy = 2;
        ck_assert(aau_open(&t, &d));
        aau_begin_all(&t);
        for (k = 0; k < 100000 && !(t.worker[0].steps > 5 && t.worker[0].phase == AAU_COMPUTING &&
                                    t.worker[1].phase == AAU_COMPUTING);
             k++)
            weft_sim_advance(&t.sim, 1000);
        ck_assert_int_lt(k, 100000);
        for (k = 0; k < 20; k++) dsgd_aau_poll(t.worker[1].x); /* all that was said before is read */
        t.worker[0].status = dsgd_aau_leave(t.worker[0].x);
        for (k = 0; k < 100 && t.worker[0].status == WEFT_AGAIN; k++) t.worker[0].status = dsgd_aau_poll(t.worker[0].x);
        ck_assert_int_eq(t.worker[0].status, WEFT_OK);
        weft_sim_advance(&t.sim, 10000);
        ck_assert_int_eq(t.worker[1].phase, AAU_COMPUTING);
        weft_sim_lose(&t.sim, 0);
        weft_sim_advance(&t.sim, 5000000);
        heard += dsgd_aau_link(t.worker[1].x, 0) == WEFT_LINK_LEFT;
        ck_assert_uint_eq(stats_of(&t, 1).lost, dsgd_aau_link(t.worker[1].x, 0) == WEFT_LINK_DOWN);
        ck_assert_uint_gt(stats_of(&t, 1).alone, 0);
        fine(&t, 1);
        free(m);
    }
    if (getenv("AAU_VERBOSE")) printf("last words heard: %llu of 200\n", (unsigned long long)heard);
    ck_assert_uint_gt(heard, 150); /* one look fewer: 109 */
}
END_TEST

/* Data is announced to those who have not asked, and never comes: they do not wait for it. */
START_TEST(an_answer_that_nobody_waits_for) {
    weft_graph g;
    void *m = aau_graph(&g, AAU_COMPLETE, 4, 0);
    aau_desc d = aau_default(8, &g);
    aau t;
    uint32_t r;
    uint64_t before[4];
    d.tensors = 3;
    d.count = medium;
    d.steps = 100000;
    d.stay = 1;
    ck_assert(aau_open(&t, &d));
    aau_begin_all(&t);
    weft_sim_advance(&t.sim, 5000000);
    for (r = 1; r < 4; r++) {
        say(&t, r, DSGD_AAU_ACCEPT, 77777, (const unsigned char *)"", 0);
        before[r] = t.worker[r].steps;
    }
    weft_sim_advance(&t.sim, 100000000);
    for (r = 1; r < 4; r++) {
        ck_assert_uint_gt(t.worker[r].steps, before[r] + 50);
        ck_assert_uint_eq(stats_of(&t, r).faults, 1);
    }
    fine(&t, 1);
    free(m);
}
END_TEST

/* The last epoch that a letter can tell of, twenty times: whoever believes it passes on nothing that the next worker
 * takes for malformed. */
START_TEST(the_last_epoch) {
    weft_graph g;
    void *m = aau_graph(&g, AAU_RING, 5, 0);
    aau_desc d = aau_default(8, &g);
    aau t;
    int i;
    uint64_t views = 0;
    d.tensors = 3;
    d.count = small;
    d.steps = 100000;
    d.stay = 1;
    ck_assert(aau_open(&t, &d));
    aau_begin_all(&t);
    weft_sim_advance(&t.sim, 5000000);
    for (i = 0; i < 20; i++) {
        unsigned char state[32];
        size_t bytes = 9;
        state[0] = 1;
        weft_put64(state + 1, t.worker[1].x->core.view_hash);
        bytes += dsgd_aau_put(state + bytes, DSGD_AAU_MOST_EPOCH);
        bytes += dsgd_aau_put(state + bytes, 0);
        say(&t, 1, DSGD_AAU_STATE, 0, state, bytes);
        weft_sim_advance(&t.sim, 10000000);
    }
    views = stats_of(&t, 3).views;
    weft_sim_advance(&t.sim, 50000000);
    ck_assert_uint_gt(views, 5); /* it was believed */
    ck_assert_uint_eq(AAU_TOTAL(&t, faults), 0);
    fine(&t, 1);
    free(m);
}
END_TEST

/* Lies may hold things up: no memory is touched that must not be, no value that is not finite gets in, and everybody
 * can be closed. */
START_TEST(letters_are_forged) {
    uint64_t seed, faults = 0, fired = 0, ended = 0;
    for (seed = 1; seed <= 250; seed++) {
        weft_graph g;
        void *m = aau_graph(&g, AAU_COMPLETE, 4, 0);
        aau_desc d = drawn(seed, &g);
        aau t;
        uint64_t rng = seed;
        int f[6], i;
        uint32_t r;
        size_t k, j;
        d.steps = 6;
        d.sim.mode = WEFT_SIM_EAGER;
        if (seed % 2) d.count = small;
        ck_assert(aau_open(&t, &d));
        for (i = 0; i < 6; i++) {
            unsigned char p[WEFT_CONTROL_BYTES];
            uint32_t from = cluster_below(&rng, 4), to = (from + 1 + cluster_below(&rng, 3)) % 4;
            size_t bytes = forge(p, &rng, from, (int)(seed % 14), sizeof p);
            f[i] = weft_sim_inject(&t.sim, 10 + cluster_draw(&rng) % 60, from, to, 0, p, bytes);
        }
        aau_begin_all(&t);
        ended += weft_sim_run(&t.sim, 200000) == WEFT_SIM_DONE;
        t.why[0] = 0;
        for (i = 0; i < 6; i++) fired += weft_sim_fired(&t.sim, f[i]);
        faults += AAU_TOTAL(&t, faults);
        for (r = 0; r < 4; r++)
            for (k = 0; k < 3; k++)
                for (j = 0; j < t.worker[r].params.tensor[k].count; j++)
                    ck_assert(isfinite(cluster_get(&t.worker[r].params.tensor[k], j)));
        fine(&t, 1);
        free(m);
    }
    ck_assert_uint_gt(fired, 1000);
    ck_assert_uint_gt(faults, 500);
    ck_assert_uint_gt(ended, 100);
}
END_TEST

/* ---- values that are not finite ---- */

static int poison_prepare(aau_worker *w) {
    if (w->rank == 1) ((double *)w->params.tensor[2].data)[7] = (double)NAN;
    return 1;
}

/* A worker with such a parameter is refused by its own library, and slow to the others; nobody takes it over. */
START_TEST(not_finite_is_never_averaged) {
    weft_graph g;
    void *m = aau_graph(&g, AAU_COMPLETE, 3, 0);
    aau_desc d = aau_default(8, &g);
    aau t;
    uint32_t r, i;
    d.tensors = 3;
    d.count = medium;
    d.d.initial = DSGD_AAU_INITIAL_KEEP;
    d.prepare = poison_prepare;
    ck_assert(aau_open(&t, &d));
    for (i = 0; i < 3; i++) ck_assert_int_eq(dsgd_aau_start(t.worker[i].x), WEFT_OK);
    ck_assert_int_eq(dsgd_aau_step(t.worker[1].x), WEFT_ERR_NONFINITE);
    ck_assert_uint_eq(dsgd_aau_detail(t.worker[1].x)->expected, 2);
    ck_assert_uint_eq(dsgd_aau_detail(t.worker[1].x)->got, 1);
    ck_assert_uint_eq(stats_of(&t, 1).nonfinite, 1);
    ck_assert_uint_eq(stats_of(&t, 1).steps, 0);
    ck_assert(dsgd_aau_state(t.worker[1].x) & DSGD_AAU_MAY_STEP);
    ((double *)t.worker[1].params.tensor[2].data)[7] = 0.5; /* mended */
    ck_assert(aau_run(&t));
    for (r = 0; r < 3; r++)
        for (i = 0; i < 40; i++) ck_assert(isfinite(cluster_get(&t.worker[r].params.tensor[2], i)));
    fine(&t, 1);
    free(m);
}
END_TEST

/* What comes from a neighbour is looked at, too: a bulk message is replaced by infinities. */
START_TEST(infinity_from_the_wire_is_refused) {
    double bad[40];
    uint64_t nth, hit = 0, refused = 0;
    uint32_t i, r;
    for (i = 0; i < 40; i++) bad[i] = (double)INFINITY;
    for (nth = 1; nth <= 12; nth++) {
        weft_graph g;
        void *m = aau_graph(&g, AAU_COMPLETE, 3, 0);
        aau_desc d = aau_default(8 + nth, &g);
        aau t;
        int f, ok;
        d.tensors = 3;
        d.count = medium;
        ok = aau_open(&t, &d);
        f = weft_sim_replace(&t.sim, WEFT_SIM_ANY, WEFT_SIM_ANY, 2, 2 * nth, bad, sizeof bad);
        if (f < 0) ok = 0;
        ok = ok && aau_run(&t);
        /* the tag of the first attempt is 1 + 1 + 1 */
        if (!weft_sim_fired(&t.sim, f)) {
            fine(&t, ok);
            ok = aau_open(&t, &d);
            f = weft_sim_replace(&t.sim, WEFT_SIM_ANY, WEFT_SIM_ANY, 3, 2 * nth, bad, sizeof bad);
            ok = ok && aau_run(&t);
        }
        hit += weft_sim_fired(&t.sim, f);
        refused += AAU_TOTAL(&t, nonfinite);
        for (r = 0; r < 3; r++)
            for (i = 0; i < 40; i++) ck_assert(isfinite(cluster_get(&t.worker[r].params.tensor[2], i)));
        fine(&t, ok);
        free(m);
    }
    ck_assert_uint_ge(hit, 10);
    ck_assert_uint_eq(refused, hit);
}
END_TEST

/* ---- callbacks that fail ---- */

START_TEST(a_callback_fails) {
    uint64_t nth, fired = 0;
    for (nth = 1; nth <= 120; nth += 2) {
        weft_graph g;
        void *m = aau_graph(&g, AAU_COMPLETE, 3, 0);
        aau_desc d = drawn(300 + nth, &g);
        aau t;
        int f, ok;
        ok = aau_open(&t, &d);
        f = weft_sim_fail_call(&t.sim, (weft_sim_call)_i, (uint32_t)(nth % 3), nth, WEFT_ERR_TRANSPORT);
        ok = ok && aau_run(&t);
        fired += weft_sim_fired(&t.sim, f);
        if (ok && weft_sim_fired(&t.sim, f) && AAU_TOTAL(&t, faults) == 0) ok = aau_fail(&t, "nobody has noticed");
        fine(&t, ok);
        free(m);
    }
    ck_assert_uint_gt(fired, 10);
}
END_TEST

/* A link that fails for ever is given up, and the rest goes on. */
START_TEST(a_link_is_given_up) {
    weft_graph g;
    void *m = aau_graph(&g, AAU_RING, 4, 0);
    aau_desc d = aau_default(17, &g);
    aau t;
    int f;
    d.tensors = 3;
    d.count = small;
    d.steps = 100000;
    d.stay = 1;
    ck_assert(aau_open(&t, &d));
    f = weft_sim_corrupt(&t.sim, 0, 1, 0, 6, 17, 1);
    weft_sim_times(&t.sim, f, WEFT_SIM_FOREVER);
    aau_begin_all(&t);
    weft_sim_advance(&t.sim, 30000000);
    ck_assert_uint_gt(weft_sim_fired(&t.sim, f), WEFT_LINK_PATIENCE);
    ck_assert_int_eq(dsgd_aau_link(t.worker[1].x, 0), WEFT_LINK_DOWN);
    ck_assert_int_eq(dsgd_aau_fault(t.worker[1].x)->status, WEFT_ERR_CHECKSUM);
    ck_assert_uint_eq(dsgd_aau_fault(t.worker[1].x)->peer, 0);
    ck_assert_uint_gt(t.worker[0].steps, 10);
    ck_assert_uint_gt(t.worker[1].steps, 10);
    ck_assert_uint_eq(stats_of(&t, 3).part, 4);
    fine(&t, 1);
    free(m);
}
END_TEST

/* But one that is damaged now and then is kept: good letters make up for bad ones. */
START_TEST(amends_are_made) {
    enum { DAMAGED = WEFT_LINK_PATIENCE + 4 };
    weft_graph g;
    void *m = aau_graph(&g, AAU_RING, 4, 0);
    aau_desc d = aau_default(17, &g);
    aau t;
    int f[DAMAGED], k;
    d.tensors = 3;
    d.count = small;
    d.steps = 100000;
    d.stay = 1;
    ck_assert(aau_open(&t, &d));
    for (k = 0; k < DAMAGED; k++) f[k] = weft_sim_corrupt(&t.sim, 0, 1, 0, 40 + 400 * (uint64_t)k, 17, 1);
    aau_begin_all(&t);
    for (k = 0; k < 100000 && !weft_sim_fired(&t.sim, f[DAMAGED - 1]); k++) weft_sim_advance(&t.sim, 1000000);
    weft_sim_advance(&t.sim, 1000000);
    for (k = 0; k < DAMAGED; k++) ck_assert_uint_eq(weft_sim_fired(&t.sim, f[k]), 1);
    ck_assert_uint_ge(stats_of(&t, 1).faults, DAMAGED);
    ck_assert_int_eq(dsgd_aau_link(t.worker[1].x, 0), WEFT_LINK_UP);
    fine(&t, 1);
    free(m);
}
END_TEST

/* Each of them takes as many good letters as the first. */
START_TEST(amends_begin_anew) {
    weft_graph g;
    void *m = aau_graph(&g, AAU_RING, 4, 0);
    aau_desc d = aau_default(17, &g);
    aau t;
    weft_link *l;
    uint32_t k;
    d.tensors = 3;
    d.count = small;
    d.steps = 100000;
    d.stay = 1;
    ck_assert(aau_open(&t, &d));
    aau_begin_all(&t);
    weft_sim_advance(&t.sim, 1000000);
    l = &t.worker[1].x->net.link[0];
    ck_assert_uint_eq(l->rank, 0);
    l->faults = 2;
    l->good = WEFT_LINK_AMENDS - 1;
    for (k = 0; k < 1000000 && l->faults == 2; k++) weft_sim_advance(&t.sim, 10);
    ck_assert_uint_eq(l->faults, 1);
    ck_assert_uint_eq(l->good, 0);
    fine(&t, 1);
    free(m);
}
END_TEST

/* ---- settings that differ ---- */

static int other_prepare(aau_worker *w) {
    if (w->rank != 1) return 1;
    switch (*(const int *)w->t->desc.user) {
    case 0: w->desc.piece_bytes = 2048; break;
    case 1: w->desc.wire = DSGD_AAU_WIRE_BF16; break;
    case 2: cluster_fill(&w->params, 5, 1.0); break;
    default: { /* one number only: the first of all, or the last */
        const weft_tensor *x = &w->params.tensor[*(const int *)w->t->desc.user == 3 ? 0 : w->params.count - 1];
        const size_t at = x == w->params.tensor ? 0 : x->count - 1;
        cluster_set(x, at, cluster_get(x, at) + 1.0);
    }
    }
    return 1;
}

START_TEST(settings_differ) { /* over networks of both kinds: in one a send waits for its receive */
    static const char *const start = "hash of the initial parameters";
    const char *const field[5] = {"piece_bytes", "wire", start, start, start};
    weft_graph g;
    void *m = aau_graph(&g, AAU_COMPLETE, 3, 0);
    aau_desc d = aau_default(8, &g);
    aau t;
    int which = _i % 5;
    d.tensors = 3;
    d.count = medium;
    d.prepare = other_prepare;
    d.user = &which;
    d.sim.mode = _i < 5 ? WEFT_SIM_EAGER : WEFT_SIM_RENDEZVOUS;
    ck_assert(aau_open(&t, &d));
    ck_assert(aau_run(&t));
    /* said once by the verb that finds it: the odd one refuses two, the others one each */
    ck_assert_uint_ge(t.errors, 3);
    ck_assert_int_eq(dsgd_aau_fault(t.worker[0].x)->status, WEFT_ERR_MISMATCH);
    ck_assert_str_eq(dsgd_aau_fault(t.worker[0].x)->field, field[which]);
    ck_assert_uint_eq(dsgd_aau_fault(t.worker[0].x)->peer, 1);
    ck_assert_uint_eq(stats_of(&t, 1).alone, d.steps);
    ck_assert_uint_gt(stats_of(&t, 0).partners, 3);
    fine(&t, 1);
    free(m);
}
END_TEST

/* Whichever starts first and however late the other is, both see what differs, once, and take their steps alone. */
START_TEST(settings_differ_and_one_is_late) {
    const uint32_t first = (uint32_t)_i / 4;
    weft_graph g;
    void *m = aau_graph(&g, AAU_CHAIN, 2, 0);
    aau_desc d = aau_default(8, &g);
    aau t;
    uint64_t bytes[2];
    uint32_t r;
    int which = 0;
    d.tensors = 3;
    d.count = medium;
    d.prepare = other_prepare;
    d.user = &which;
    d.stay = 1;
    ck_assert(aau_open(&t, &d));
    for (r = 0; r < 2; r++) {
        dsgd_aau_desc in_use;
        dsgd_aau_effective(t.worker[r].x, &in_use);
        bytes[r] = in_use.piece_bytes;
    }
    ck_assert_uint_eq(bytes[1], 2048);
    ck_assert_uint_ne(bytes[0], bytes[1]);
    aau_begin(&t.worker[first]);
    weft_sim_advance(&t.sim, (uint64_t)(_i % 4) * 1700);
    aau_begin(&t.worker[1 - first]);
    weft_sim_advance(&t.sim, 50000000);
    for (r = 0; r < 2; r++) {
        const weft_detail *why = dsgd_aau_fault(t.worker[r].x);
        ck_assert_int_eq(why->status, WEFT_ERR_MISMATCH);
        ck_assert_str_eq(why->field, "piece_bytes");
        ck_assert_uint_eq(why->peer, 1 - r);
        ck_assert_uint_eq(why->expected, bytes[r]);
        ck_assert_uint_eq(why->got, bytes[1 - r]);
        ck_assert_uint_eq(t.worker[r].steps, d.steps);
        ck_assert_uint_eq(stats_of(&t, r).alone, d.steps);
        ck_assert_uint_eq(stats_of(&t, r).lost, 1);
        ck_assert_int_eq(dsgd_aau_link(t.worker[r].x, 1 - r), WEFT_LINK_DOWN);
    }
    ck_assert_uint_eq(t.errors, 2);
    fine(&t, 1);
    free(m);
}
END_TEST

int main(void) {
    Suite *s = suite_create("dsgd_aau faults");
    TCase *t = tcase_create("faults");
    SRunner *r;
    int failed;
    tcase_set_timeout(t, 60);
    tcase_add_loop_test(t, a_leaf_is_lost_in_the_middle, 0, 6);
    tcase_add_loop_test(t, a_graph_falls_apart_and_heals, 0, 4);
    tcase_add_loop_test(t, one_end_begins_anew, 0, 3);
    tcase_add_loop_test(t, one_end_is_told, 0, 4);
    tcase_add_test(t, both_ends_begin_anew);
    tcase_add_loop_test(t, a_worker_joins_late, 0, 3);
    tcase_add_test(t, several_join_at_once);
    tcase_add_test(t, nobody_to_join);
    tcase_add_test(t, the_last_one_goes_on);
    tcase_add_test(t, a_byte_is_wrong);
    tcase_add_test(t, a_length_is_wrong);
    tcase_add_test(t, letters_of_an_attempt_that_is_over);
    tcase_add_test(t, news_are_not_overtaken);
    tcase_add_test(t, last_words);
    tcase_add_test(t, an_answer_that_nobody_waits_for);
    tcase_add_test(t, the_last_epoch);
    tcase_add_test(t, not_finite_is_never_averaged);
    tcase_add_test(t, infinity_from_the_wire_is_refused);
    tcase_add_loop_test(t, a_callback_fails, 0, 3);
    tcase_add_test(t, a_link_is_given_up);
    tcase_add_test(t, amends_are_made);
    tcase_add_test(t, amends_begin_anew);
    tcase_add_loop_test(t, settings_differ, 0, 10);
    tcase_add_loop_test(t, settings_differ_and_one_is_late, 0, 8);
    tcase_add_loop_test(t, a_worker_is_lost_at_every_message, 0, 9);
    tcase_add_loop_test(t, and_comes_back, 0, 9);
    tcase_add_test(t, many_are_lost_and_back);
    tcase_add_test(t, letters_are_forged);
    suite_add_tcase(s, t);
    r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
