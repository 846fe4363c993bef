/* SPDX-License-Identifier: MIT
 * test_dsgd_aau.c: DSGD-AAU over a simulated network: what it computes, on every topology, at any pace, in every type;
 * the rule itself; memory; what control costs. */
#define GRAWA_IMPLEMENTATION
#include "../grawa.h"
#define DSGD_AAU_IMPLEMENTATION
#include "../dsgd_aau.h"
#include "aau_team.h"

#include <check.h>

static const size_t small[] = {5, 0, 3};
static const size_t medium[] = {40, 0, 300, 1};

static void fine(aau *t, int ok) {
    int closed = aau_close(t);
    if (!ok || !closed) ck_abort_msg("%s", t->why[0] ? t->why : "a check failed");
}

/* ---- the rule itself ---- */

START_TEST(pathsearch_merges) {
    weft_graph g;
    unsigned char available[6] = {1, 1, 0, 1, 1, 1};
    uint32_t labels[6] = {0, 1, 2, 3, 4, 5}, edge[6], one;
    void *m = aau_graph(&g, AAU_RING, 6, 0); /* edges 01 05 12 23 34 45 */
    ck_assert_uint_eq(dsgd_aau_pathsearch(&g, available, labels, edge, 6), 4);
    ck_assert_uint_eq(edge[0], 0);
    ck_assert_uint_eq(edge[1], 1);
    ck_assert_uint_eq(edge[2], 4);
    ck_assert_uint_eq(edge[3], 5);
    ck_assert_uint_eq(labels[4], 0);
    ck_assert_uint_eq(labels[2], 2);
    /* all that are there are joined: nothing is new */
    ck_assert_uint_eq(dsgd_aau_pathsearch(&g, available, labels, edge, 6), 0);
    available[2] = 1; /* the first of its two edges joins it, the second closes a cycle */
    ck_assert_uint_eq(dsgd_aau_pathsearch(&g, available, labels, &one, 1), 1);
    ck_assert_uint_eq(one, 2);
    free(m);
}
END_TEST

START_TEST(weights_are_those_of_the_induced_graph) {
    weft_graph g;
    uint32_t who[4] = {0, 1, 2, 4}, i, k;
    double w[16];
    void *m = aau_graph(&g, AAU_COMPLETE, 6, 0);
    ck_assert_int_eq(dsgd_aau_weights(&g, who, 4, w), WEFT_OK);
    for (i = 0; i < 4; i++)
        for (k = 0; k < 4; k++) ck_assert_double_eq_tol(w[4 * i + k], 0.25, 1e-16);
    ck_assert_int_eq(dsgd_aau_weights(&g, who, 0, w), WEFT_OK);
    who[3] = 6;
    ck_assert_int_eq(dsgd_aau_weights(&g, who, 4, w), WEFT_ERR_ARGUMENT);
    who[3] = 2;
    ck_assert_int_eq(dsgd_aau_weights(&g, who, 4, w), WEFT_ERR_ARGUMENT);
    free(m);
    m = aau_graph(&g, AAU_RING, 6, 0);
    who[3] = 4; /* 0 - 1 - 2, and 4 alone */
    ck_assert_int_eq(dsgd_aau_weights(&g, who, 4, w), WEFT_OK);
    ck_assert_double_eq(w[15], 1.0);
    ck_assert_double_eq(w[1], 1.0 / 3);
    ck_assert_double_eq(w[2], 0.0);
    ck_assert_double_eq_tol(w[0], 2.0 / 3, 1e-15);
    free(m);
}
END_TEST

/* ---- alone ---- */

START_TEST(one_worker_is_untouched) {
    weft_graph g;
    void *m = aau_graph(&g, AAU_CHAIN, 1, 0);
    aau_desc d = aau_default(1, &g);
    aau t;
    weft_memory_report report;
    int i;
    d.tensors = 3;
    d.count = small;
    ck_assert(aau_open(&t, &d));
    dsgd_aau_memory(&t.worker[0].desc, &report);
    for (i = 0; i < (int)report.count; i++)
        if (!strcmp(report.entry[i].name, "accumulator")) ck_assert_uint_eq(report.entry[i].bytes, 0);
    for (i = 0; i < 5; i++) {
        weft_tensors before = cluster_tensors(3, small, (const weft_dtype[]){WEFT_F64, WEFT_F64, WEFT_F64});
        aau_gradient_step(&t.worker[0]);
        cluster_copy(&t.worker[0].params, &before);
        ck_assert_int_eq(dsgd_aau_step(t.worker[0].x), WEFT_OK);
        ck_assert(cluster_same_bits(&t.worker[0].params, &before));
        cluster_tensors_free(&before);
    }
    ck_assert_int_eq(dsgd_aau_leave(t.worker[0].x), WEFT_OK);
    ck_assert_uint_eq(AAU_TOTAL(&t, alone), 5);
    ck_assert_uint_eq(weft_sim_sent(&t.sim), 0);
    fine(&t, 1);
    free(m);
}
END_TEST

/* ---- equal speeds: synchronous DSGD, bit for bit ---- */

static uint64_t center_last(aau_worker *w) {
    return w->rank == w->t->size - 1 ? 1100000 : 1000000 + w->rank * 1000;
}

/* A star led from its middle, which is done last: every step averages all, with Metropolis weights on the star. The
 * oracle computes what the manual says: leaves add a (c - x), the center a (sum - d x), sums in ascending order. */
static void synchronous(weft_dtype dtype, uint32_t n, uint64_t steps) {
    weft_edge edge[16];
    unsigned char memory[1024];
    weft_dtype types[4] = {dtype, dtype, dtype, dtype};
    weft_graph g;
    aau t;
    aau_desc d;
    uint32_t r;
    uint64_t s;
    size_t i, k;
    int ok;
    weft_tensors x[17];
    for (r = 0; r + 1 < n; r++) {
        edge[r].a = r;
        edge[r].b = n - 1;
    }
    ck_assert_int_eq(weft_graph_from_edges(&g, n, edge, n - 1, memory, sizeof memory), WEFT_OK);
    d = aau_default(7, &g);
    d.tensors = 4;
    d.count = medium;
    d.dtype = types;
    d.steps = steps;
    d.pace = center_last;
    d.stay = 1;
    d.d.fan = n;
    ok = aau_open(&t, &d);
    for (r = 0; r < n; r++) {
        x[r] = cluster_tensors(4, medium, types);
        cluster_copy(&t.worker[r].params, &x[r]);
    }
    for (r = 0; r + 1 < n; r++) weft_sim_set_link(&t.sim, r, n - 1, 2000 * (n - r), 0, 0); /* the last answers first */
    aau_begin_all(&t);
    weft_sim_advance(&t.sim, 1200000 * (steps + 1));
    for (s = 0; s < steps; s++) {
        const double a = 1.0 / (double)n, leaves = (double)(n - 1);
        for (k = 0; k < 4; k++)
            for (i = 0; i < medium[k]; i++) {
                double v[17], sum = 0;
                for (r = 0; r < n; r++) {
                    v[r] = cluster_get(&x[r].tensor[k], i);
                    v[r] -= d.eta * (v[r] - cluster_get(&t.worker[r].goal.tensor[k], i));
                    cluster_set(&x[r].tensor[k], i, v[r]);
                    v[r] = cluster_get(&x[r].tensor[k], i);
                }
                for (r = 0; r + 1 < n; r++) {
                    if (dtype == WEFT_F64) {
                        sum = r ? sum + v[r] : v[r];
                        cluster_set(&x[r].tensor[k], i, v[r] + a * (v[n - 1] + -1.0 * v[r]));
                    } else {
                        float fa = (float)a, diff = (float)v[n - 1] + (float)-1 * (float)v[r];
                        float move = fa * diff;
                        sum = r ? (double)(float)((float)sum + (float)v[r]) : v[r];
                        cluster_set(&x[r].tensor[k], i, (double)((float)v[r] + move));
                    }
                }
                if (dtype == WEFT_F64) {
                    cluster_set(&x[n - 1].tensor[k], i, v[n - 1] + a * (sum + -leaves * v[n - 1]));
                } else {
                    float own = (float)-leaves * (float)v[n - 1], diff, move;
                    diff = (float)sum + own;
                    move = (float)a * diff;
                    cluster_set(&x[n - 1].tensor[k], i, (double)((float)v[n - 1] + move));
                }
            }
    }
    for (r = 0; r < n; r++) {
        ck_assert_uint_eq(t.worker[r].steps, steps);
        if (!cluster_same_bits(&t.worker[r].params, &x[r])) ok = aau_fail(&t, "worker %u differs from the oracle", r);
        cluster_tensors_free(&x[r]);
    }
    ck_assert_uint_eq(AAU_TOTAL(&t, led), steps);
    ck_assert_uint_eq(t.sizes[n], steps);
    ck_assert_uint_eq(AAU_TOTAL(&t, epochs), steps * n); /* every step is an epoch */
    fine(&t, ok);
}

START_TEST(equal_speed_is_synchronous) {
    static const weft_dtype types[4] = {WEFT_F64, WEFT_F32, WEFT_BF16, WEFT_F16};
    synchronous(types[_i % 4], _i < 4 ? 2 : _i < 8 ? 5 : 11, 12);
}
END_TEST

/* ---- every topology, at any pace ---- */

static aau_desc drawn(uint64_t seed, const weft_graph *g) {
    aau_desc d = aau_default(seed, g);
    d.sim = weft_sim_torture(seed, g->workers);
    d.d.fan = 1 + (uint32_t)(seed % 4);
    d.deaf = seed % 3 == 0;
    d.d.grace_ns = seed % 5 == 0 ? 20000 : seed % 5 == 1 ? 0 : DSGD_AAU_NO_GRACE;
    d.d.coalesce_ns = seed % 7 == 0 ? 30000 : 0;
    d.sim.max_message_bytes = seed % 4 == 1 ? 256 : 0;
    d.straggle = 0.1;
    d.slow = 10;
    d.tensors = 3;
    d.count = small;
    return d;
}

START_TEST(every_topology) {
    uint64_t seed;
    uint32_t epochs = 0;
    for (seed = 1; seed <= 12; seed++) {
        weft_graph g;
        void *m = aau_graph(&g, _i, 3 + (uint32_t)(seed % 10), seed);
        aau_desc d = drawn(seed * 16 + (uint64_t)_i, &g);
        aau t;
        int ok;
        if (seed % 2) {
            d.tensors = 4;
            d.count = medium;
        }
        ok = aau_open(&t, &d) && aau_run(&t) && aau_conserved(&t) && aau_whole_stars(&t);
        ck_assert_uint_eq(t.errors, 0);
        if (ok && AAU_TOTAL(&t, steps) != d.steps * t.size) ok = aau_fail(&t, "steps are missing");
        if (ok && AAU_TOTAL(&t, partners) == 0) ok = aau_fail(&t, "nobody has averaged");
        if (ok && AAU_TOTAL(&t, alone) + AAU_TOTAL(&t, led) + AAU_TOTAL(&t, followed) != d.steps * t.size)
            ok = aau_fail(&t, "not every step was either alone or averaged");
        epochs += (uint32_t)AAU_TOTAL(&t, epochs);
        fine(&t, ok);
        free(m);
    }
    ck_assert_uint_gt(epochs, 12);
}
END_TEST

/* The same seed gives the same run; another one another. */
START_TEST(a_seed_is_a_run) {
    uint64_t hash[3], seed;
    for (seed = 0; seed < 3; seed++) {
        weft_graph g;
        void *m = aau_graph(&g, AAU_TORUS, 9, 0);
        aau_desc d = drawn(40 + seed / 2, &g);
        aau t;
        int ok = aau_open(&t, &d) && aau_run(&t);
        hash[seed] = weft_sim_hash(&t.sim);
        fine(&t, ok);
        free(m);
    }
    ck_assert(hash[0] == hash[1]);
    ck_assert(hash[0] != hash[2]);
}
END_TEST

/* All workers come near each other, and to the mean of their goals. */
START_TEST(it_learns) {
    weft_graph g;
    void *m = aau_graph(&g, AAU_TORUS, 16, 0);
    aau_desc d = aau_default(3, &g);
    aau t;
    size_t k, i;
    uint32_t r;
    d.tensors = 3;
    d.count = small;
    d.steps = 400;
    d.eta = 0.02;
    d.straggle = 0.1;
    d.slow = 10;
    d.d.grace_ns = 20000;
    d.apart = 1;
    ck_assert(aau_open(&t, &d));
    ck_assert(aau_spread(&t) > 0.5);
    aau_begin_all(&t);
    for (;;) {
        weft_sim_advance(&t.sim, 1000000);
        for (r = 0; r < 16 && t.worker[r].steps < 300; r++) continue;
        if (r < 16) break;
    }
    ck_assert_double_lt(aau_spread(&t), 0.5);
    for (k = 0; k < 3; k++)
        for (i = 0; i < small[k]; i++) {
            double goal = 0, mean = 0;
            for (r = 0; r < 16; r++) {
                goal += cluster_get(&t.worker[r].goal.tensor[k], i) / 16;
                mean += cluster_get(&t.worker[r].params.tensor[k], i) / 16;
            }
            ck_assert_double_lt(fabs(goal - mean), 0.1);
        }
    fine(&t, 1);
    free(m);
}
END_TEST

/* Whoever is released lingers a little for a leader, a 32nd of its gradient's time if nothing else is asked for: that
 * costs next to nothing, and a good part of the steps that else were alone are averaged. */
START_TEST(released_workers_linger) {
    static const uint64_t grace[3] = {0, 1000000 / 32, DSGD_AAU_NO_GRACE};
    double alone[3], seconds[3];
    int i;
    for (i = 0; i < 3; i++) {
        weft_graph g;
        void *m = aau_graph(&g, AAU_TORUS, 64, 0);
        aau_desc d = aau_default(5, &g);
        aau t;
        int ok;
        d.tensors = 1;
        d.count = small;
        d.steps = 60;
        d.straggle = 0.1;
        d.slow = 10;
        d.d.grace_ns = grace[i];
        ok = aau_open(&t, &d) && aau_run(&t);
        alone[i] = (double)AAU_TOTAL(&t, alone) / (double)AAU_TOTAL(&t, steps);
        seconds[i] = (double)weft_sim_now(&t.sim) / 1e9;
        if (getenv("AAU_VERBOSE"))
            printf("grace %llu: %.3f alone, %.4f s\n", (unsigned long long)grace[i], alone[i], seconds[i]);
        fine(&t, ok);
        free(m);
    }
    ck_assert_double_lt(alone[0], 0.75 * alone[2]);
    ck_assert_double_lt(fabs(alone[0] - alone[1]), 0.05);
    ck_assert_double_lt(seconds[0], 1.1 * seconds[2]);
}
END_TEST

/* ---- stragglers ---- */

static uint64_t one_slow(aau_worker *w) {
    return w->rank == 3 ? 10000000 : 1000000 + w->rank * 7000;
}

/* One worker that is ten times slower holds up epochs, but nobody's steps: others go on while there is something new,
 * and nobody waits for longer than one of its gradients. */
START_TEST(a_straggler_holds_up_nobody_for_long) {
    weft_graph g;
    void *m = aau_graph(&g, AAU_RING, 8, 0);
    aau_desc d = aau_default(5, &g);
    aau t;
    uint32_t r;
    d.tensors = 3;
    d.count = small;
    d.pace = one_slow;
    d.steps = 1000;
    d.stay = 1;
    d.d.patience_ns = _i ? 500000 : 0;
    ck_assert(aau_open(&t, &d));
    aau_begin_all(&t);
    weft_sim_advance(&t.sim, 100000000);
    for (r = 0; r < 8; r++) {
        dsgd_aau_stats_t st;
        dsgd_aau_stats(t.worker[r].x, &st);
        ck_assert_uint_ge(t.worker[r].steps, r == 3 ? 9 : _i ? 60 : 20);
        ck_assert_uint_le(t.worker[r].longest_ns, _i ? 600000 : 10100000);
        ck_assert_uint_ge(st.epochs, _i ? 4 : 9); /* those who go on alone rarely meet the slow one */
    }
    fine(&t, 1);
    free(m);
}
END_TEST

/* ---- types, and the wire ---- */

START_TEST(types_and_wire) {
    static const weft_dtype types[6][3] = {{WEFT_F64, WEFT_F64, WEFT_F64},   {WEFT_F32, WEFT_F32, WEFT_F32},
                                           {WEFT_BF16, WEFT_F32, WEFT_BF16}, {WEFT_F16, WEFT_F64, WEFT_F32},
                                           {WEFT_F32, WEFT_F32, WEFT_F32},   {WEFT_F32, WEFT_F32, WEFT_F64}};
    static const double near[6] = {1e-12, 1e-5, 0.2, 0.02, 1e-5, 1e-5}; /* of a sum of some 6 x 10 roundings of x */
    static const size_t count[3] = {600, 1, 333};
    uint64_t seed;
    for (seed = 1; seed <= 4; seed++) {
        weft_graph g;
        void *m = aau_graph(&g, AAU_ER, 6, seed);
        aau_desc d = drawn(seed, &g);
        aau t;
        int ok;
        d.dtype = types[_i];
        d.tensors = 3;
        d.count = count;
        d.d.wire = _i >= 4 ? DSGD_AAU_WIRE_BF16 : DSGD_AAU_WIRE_OWN;
        d.d.piece_bytes = seed % 2 ? 1024 : 0;
        ok = aau_open(&t, &d) && aau_run(&t) && aau_conserved_to(&t, near[_i]) && aau_whole_stars(&t);
        if (_i == 4) { /* half the bytes: 934 elements */
            uint64_t models = 0;
            dsgd_aau_stats_t s;
            uint32_t r;
            for (r = 0; r < t.size; r++) {
                dsgd_aau_stats(t.worker[r].x, &s);
                models += s.traffic.payload_sent;
            }
            ck_assert_uint_eq(models % (2 * 934), 0);
            ck_assert_uint_ge(models / (2 * 934), 2 * AAU_TOTAL(&t, followed));
        }
        fine(&t, ok);
        free(m);
    }
}
END_TEST

/* What is stored in 16 bits, and what travels in them, leaves two workers that agree where they are. */
START_TEST(agreement_is_kept) {
    static const weft_dtype types[3] = {WEFT_F32, WEFT_BF16, WEFT_F16};
    weft_graph g;
    void *m = aau_graph(&g, AAU_COMPLETE, 4, 0);
    aau_desc d = aau_default(9, &g);
    aau t;
    weft_tensors before;
    d.tensors = 3;
    d.count = small;
    d.dtype = types;
    d.eta = 0;
    d.d.wire = _i ? DSGD_AAU_WIRE_BF16 : DSGD_AAU_WIRE_OWN;
    ck_assert(aau_open(&t, &d));
    before = cluster_tensors(3, small, types);
    cluster_copy(&t.worker[0].params, &before);
    ck_assert(aau_run(&t));
    ck_assert_uint_gt(t.stars, 5);
    ck_assert(cluster_same_bits(&t.worker[0].params, &before));
    ck_assert(cluster_same_bits(&t.worker[3].params, &before));
    cluster_tensors_free(&before);
    fine(&t, 1);
    free(m);
}
END_TEST

/* A model without elements, or without tensors: the protocol goes on. */
START_TEST(empty_models) {
    static const size_t none[2] = {0, 0};
    weft_graph g;
    void *m = aau_graph(&g, AAU_RING, 5, 0);
    aau_desc d = aau_default(2, &g);
    aau t;
    int ok;
    d.tensors = _i ? 2 : 0;
    d.count = none;
    ok = aau_open(&t, &d) && aau_run(&t) && aau_whole_stars(&t);
    ck_assert_uint_gt(t.stars, 5);
    fine(&t, ok);
    free(m);
}
END_TEST

/* ---- memory ---- */

START_TEST(memory_is_one_model_whatever_fan) {
    weft_graph g;
    void *m = aau_graph(&g, AAU_COMPLETE, 32, 0);
    static const size_t count[] = {1000000};
    static const weft_dtype f32[] = {WEFT_F32};
    weft_transport net = weft_transport_make(NULL, 31, 32, weft_sim_send, weft_sim_recv, weft_sim_test, weft_sim_cancel,
                                             weft_sim_now_of);
    weft_tensors params = cluster_tensors(1, count, f32);
    dsgd_aau_desc d;
    weft_memory_report r;
    size_t pairs, wide, i, sum = 0;
    memset(&d, 0, sizeof d);
    d.struct_size = sizeof d;
    d.params = params;
    d.transport = &net;
    d.graph = &g;
    d.fan = 1;
    pairs = dsgd_aau_memory(&d, NULL);
    d.fan = 31;
    wide = dsgd_aau_memory(&d, &r);
    ck_assert_uint_le(wide - pairs, 31 * sizeof(uint32_t));
    ck_assert_uint_eq(r.requests_per_peer, WEFT_LINK_REQUESTS);
    for (i = 0; i < r.count; i++) {
        sum += (r.entry[i].bytes + 63) / 64 * 64;
        if (!strcmp(r.entry[i].name, "accumulator")) ck_assert_uint_eq(r.entry[i].bytes, 4000000);
    }
    ck_assert_uint_eq(sum + 63, wide);
    ck_assert_uint_lt(wide, 4000000 + 262144 + 31 * 1500 + 32 * 20 + 496 * 8 + 4096);
    cluster_tensors_free(&params);
    free(m);
}
END_TEST

START_TEST(requests_are_few) {
    weft_graph g;
    void *m = aau_graph(&g, AAU_STAR, 7, 0);
    aau_desc d = drawn(77, &g);
    aau t;
    int ok;
    d.tensors = 4;
    d.count = medium;
    d.sim.mode = WEFT_SIM_RENDEZVOUS;
    ok = aau_open(&t, &d) && aau_run(&t);
    ck_assert_uint_le(weft_sim_most_outstanding(&t.sim), WEFT_LINK_REQUESTS);
    fine(&t, ok);
    free(m);
}
END_TEST

/* ---- what control costs ---- */

/* Control bytes as a part of the parameters' bytes, for a model of a megabyte. */
static double control_share(int kind, uint32_t n, uint64_t steps, uint64_t coalesce_ns) {
    static const size_t count[] = {32}; /* its bytes are counted as a megabyte each */
    weft_graph g;
    void *m = aau_graph(&g, kind, n, 3);
    aau_desc d = aau_default(n, &g);
    aau t;
    int ok;
    double share;
    uint64_t control = 0, transfers = 0;
    uint32_t r;
    d.tensors = 1;
    d.count = count;
    d.steps = steps;
    d.compute_ns = 1000000000;
    d.sim.watch = d.sim.scribble = 0;
    d.sim.latency_ns = 5000000;
    d.straggle = 0.1;
    d.slow = 10;
    d.d.grace_ns = 30000000;
    d.d.coalesce_ns = coalesce_ns;
    ok = aau_open(&t, &d) && aau_run(&t) && aau_conserved_to(&t, 1e-11);
    for (r = 0; r < t.size; r++) {
        dsgd_aau_stats_t s;
        dsgd_aau_stats(t.worker[r].x, &s);
        control += s.traffic.control_sent;
        transfers += s.traffic.payload_sent / (32 * 8);
    }
    share = (double)control / ((double)transfers * 1048576.0);
    if (getenv("AAU_VERBOSE"))
        printf("N %5u (%u edges): %.1f KB of control and %.2f models a gradient, %.3f %% of 1 MB; %.1f averagings an "
               "epoch, %.2f alone; %.2f gradients a worker and second\n",
               g.workers, g.edges, (double)control / 1e3 / (double)AAU_TOTAL(&t, steps),
               (double)transfers / (double)AAU_TOTAL(&t, steps), 100 * share,
               (double)t.stars * t.size / (double)(AAU_TOTAL(&t, epochs) + 1),
               (double)AAU_TOTAL(&t, alone) / (double)AAU_TOTAL(&t, steps),
               (double)AAU_TOTAL(&t, steps) / t.size / ((double)weft_sim_now(&t.sim) / 1e9));
    fine(&t, ok);
    free(m);
    return share;
}

START_TEST(control_is_little) {
    ck_assert_double_lt(control_share(AAU_ER, 128, 8, 0), 0.05);
    ck_assert_double_lt(control_share(AAU_ER, 128, 8, 20000000), 0.02);
    ck_assert_double_lt(control_share(AAU_TORUS, 144, 25, 20000000), 0.01);
    if (getenv("AAU_LARGE")) {
        control_share(AAU_TORUS, 1024, 20, 20000000);
        control_share(AAU_TORUS, 4096, 12, 20000000);
    }
}
END_TEST

int main(void) {
    Suite *s = suite_create("dsgd_aau");
    TCase *t = tcase_create("dsgd_aau");
    SRunner *r;
    int failed;
    tcase_set_timeout(t, 60);
    tcase_add_test(t, pathsearch_merges);
    tcase_add_test(t, weights_are_those_of_the_induced_graph);
    tcase_add_test(t, one_worker_is_untouched);
    tcase_add_loop_test(t, equal_speed_is_synchronous, 0, 12);
    tcase_add_loop_test(t, every_topology, 0, AAU_KINDS);
    tcase_add_test(t, a_seed_is_a_run);
    tcase_add_test(t, it_learns);
    tcase_add_test(t, released_workers_linger);
    tcase_add_loop_test(t, a_straggler_holds_up_nobody_for_long, 0, 2);
    tcase_add_loop_test(t, types_and_wire, 0, 6);
    tcase_add_loop_test(t, agreement_is_kept, 0, 2);
    tcase_add_loop_test(t, empty_models, 0, 2);
    tcase_add_test(t, memory_is_one_model_whatever_fan);
    tcase_add_test(t, requests_are_few);
    tcase_add_test(t, control_is_little);
    suite_add_tcase(s, t);
    r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
