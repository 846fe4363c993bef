/* SPDX-License-Identifier: MIT
 * test_grawa_trainer.c: GRAWA beside a trainer: every row of the manual's table "with your trainer" that says
 * something works, the initial parameters, schedules, the probe, the total-step trigger, models to evaluate, two
 * objects on one transport, partial rounds. */
#define GRAWA_IMPLEMENTATION
#include "../grawa.h"
#include "cluster.h"

#include <check.h>

enum { N = 3, ROWS = 8 }; /* workers, layer sizes below */
static const size_t SIZE[2] = {12, 5};

#define must(c, e)                                                                                                     \
    do {                                                                                                               \
        if (!(e)) ck_abort_msg("%s", (c)->why[0] ? (c)->why : #e);                                                     \
    } while (0)

/* A gradient of the worker's own: a fixed direction, a length that depends on worker and layer. The parameters stay. */
static const weft_tensors *fixed(cluster_worker *w) {
    cluster_fill(&w->grads, 17, 1.0 + w->rank);
    return &w->grads;
}

static cluster_desc small(uint32_t workers) {
    cluster_desc d = cluster_default(42, workers);
    d.tensors = 2;
    d.count = SIZE;
    d.train = fixed;
    d.probe = fixed;
    d.start_unequal = 1;
    d.grawa.initial = GRAWA_INITIAL_KEEP;
    d.grawa.period_steps = 1;
    return d;
}

static void open_cluster(cluster *c, const cluster_desc *d) {
    must(c, cluster_open(c, d) && cluster_start(c));
}
static void close_cluster(cluster *c) {
    must(c, cluster_close(c));
}

static double weight(const cluster *c, uint32_t rank, uint32_t group) {
    return grawa_weight(c->worker[0].g, rank, group);
}

static grawa_stats_t stats(const cluster *c, uint32_t rank) {
    grawa_stats_t s;
    grawa_stats(c->worker[rank].g, &s);
    return s;
}

static grawa_group_t group(const cluster *c, uint32_t rank, uint32_t k) {
    grawa_group_t o;
    ck_assert_int_eq(grawa_group(c->worker[rank].g, k, &o), WEFT_OK);
    return o;
}

static grawa_desc effective(const cluster *c, uint32_t rank) {
    grawa_desc d;
    grawa_effective(c->worker[rank].g, &d);
    return d;
}

/* weights must be in the proportion 1/h0 : 1/h1 : ... */
static void check_weights(const cluster *c, uint32_t k, const double *h) {
    double sum = 0;
    uint32_t r;
    for (r = 0; r < c->size; r++) sum += h[r] > 0 ? 1 / h[r] : 0; /* 0: no say */
    for (r = 0; r < c->size; r++) ck_assert_double_eq_tol(weight(c, r, k), (h[r] > 0 ? 1 / h[r] : 0) / sum, 1e-6);
}

static double length(const weft_tensors *g, size_t first, size_t count) {
    double s = 0;
    size_t t, i;
    for (t = first; t < first + count; t++)
        for (i = 0; i < g->tensor[t].count; i++) s += cluster_get(&g->tensor[t], i) * cluster_get(&g->tensor[t], i);
    return sqrt(s);
}

/* The published model norm. */
static double norm_sum(const weft_tensors *g) {
    return length(g, 0, 1) + length(g, 1, 1);
}

static void scale_by(const weft_tensors *g, double f) {
    size_t t, i;
    for (t = 0; t < g->count; t++)
        for (i = 0; i < g->tensor[t].count; i++) cluster_set(&g->tensor[t], i, f * cluster_get(&g->tensor[t], i));
}

/* ---- the optimiser ---- */

/* A trainer's arena: parameters, gradients and two moments of each layer, one after the other. */
typedef struct trainer {
    float memory[4 * 17];
    weft_tensor p[2], g[2];
    weft_tensors params, grads;
    float *m[2], *v[2];
    double lr;
    int adam, t;
} trainer;

static void trainer_init(trainer *a, uint64_t seed, double lr, int adam) {
    float *at = a->memory;
    size_t l;
    memset(a, 0, sizeof *a);
    for (l = 0; l < 2; l++) {
        weft_tensor p = {NULL, SIZE[l], WEFT_F32};
        a->p[l] = a->g[l] = p;
        a->m[l] = at;
        a->p[l].data = at + SIZE[l];
        a->v[l] = at + 2 * SIZE[l];
        a->g[l].data = at + 3 * SIZE[l];
        at += 4 * SIZE[l];
    }
    a->params.tensor = a->p;
    a->grads.tensor = a->g;
    a->params.count = a->grads.count = 2;
    cluster_fill(&a->params, seed, 1);
    a->lr = lr;
    a->adam = adam;
}

/* Towards zero, with noise: 1/2 |x - noise|^2. */
static void trainer_step(trainer *a, uint64_t *rng) {
    size_t l, i;
    a->t++;
    for (l = 0; l < 2; l++)
        for (i = 0; i < SIZE[l]; i++) {
            float *x = (float *)a->p[l].data + i, *g = (float *)a->g[l].data + i;
            *g = *x + 0.3f * (float)cluster_uniform(rng);
            if (a->adam) {
                a->m[l][i] = 0.9f * a->m[l][i] + 0.1f * *g;
                a->v[l][i] = 0.999f * a->v[l][i] + 0.001f * *g * *g;
                *x -= (float)a->lr * a->m[l][i] / (1 - powf(0.9f, (float)a->t)) /
                      (sqrtf(a->v[l][i] / (1 - powf(0.999f, (float)a->t))) + 1e-8f);
            } else {
                a->m[l][i] = 0.9f * a->m[l][i] + *g;
                *x -= (float)a->lr * a->m[l][i];
            }
        }
}

/* What does the library leave alone? Everything of the arena but the parameters. */
static uint64_t trainer_rest(const trainer *a) {
    trainer b = *a;
    weft_tensor all = {NULL, sizeof b.memory / sizeof *b.memory, WEFT_F32};
    weft_tensors list = {&all, 1};
    size_t l;
    for (l = 0; l < 2; l++) memset(b.memory + ((const float *)a->p[l].data - a->memory), 0, SIZE[l] * sizeof(float));
    all.data = b.memory;
    return cluster_hash(&list);
}

static trainer workshop[N];

static int workshop_prepare(cluster_worker *w) {
    w->desc.params = workshop[w->rank].params;
    return 1;
}

static void run_optimiser(int adam, double lr, uint32_t period, double pull, float result[N][4 * 17]) {
    cluster c;
    cluster_desc d = small(N);
    uint64_t rng[N];
    uint32_t r;
    int step;
    for (r = 0; r < N; r++) {
        trainer_init(&workshop[r], 5, lr, adam);
        rng[r] = r + 1;
    }
    d.prepare = workshop_prepare;
    d.grawa.initial = GRAWA_INITIAL_CHECK;
    d.grawa.period_steps = period;
    d.grawa.pull = pull;
    open_cluster(&c, &d);
    for (step = 1; step <= 40; step++) {
        float x[N][17];
        uint64_t rest[N];
        size_t i;
        for (r = 0; r < N; r++) {
            cluster_worker *w = &c.worker[r];
            trainer_step(&workshop[r], &rng[r]);
            rest[r] = trainer_rest(&workshop[r]);
            memcpy(x[r], workshop[r].p[0].data, SIZE[0] * 4);
            memcpy(x[r] + SIZE[0], workshop[r].p[1].data, SIZE[1] * 4);
            w->status = grawa_step(w->g, &workshop[r].grads);
        }
        must(&c, cluster_finish_round(&c));
        for (r = 0; r < N; r++) ck_assert_uint_eq(rest[r], trainer_rest(&workshop[r])); /* moments, gradients */
        for (i = 0; i < 17; i++) {
            double center = 0;
            for (r = 0; r < N; r++) center += weight(&c, r, 0) * (double)x[r][i];
            for (r = 0; r < N; r++) {
                double now = (double)((const float *)workshop[r].p[i >= SIZE[0]].data)[i >= SIZE[0] ? i - SIZE[0] : i];
                double e = step % (int)period ? (double)x[r][i] : (1 - pull) * (double)x[r][i] + pull * center;
                ck_assert_double_eq_tol(now, e, 1e-6); /* the pull is not scaled by the learning rate */
            }
        }
    }
    ck_assert_uint_eq(stats(&c, 0).rounds, 40 / period);
    for (r = 0; r < N; r++) memcpy(result[r], workshop[r].memory, sizeof workshop[r].memory);
    close_cluster(&c);
}

START_TEST(moments_stay_local_and_the_pull_is_the_same_at_any_learning_rate) {
    static const double lr[] = {0.001, 0.05, 0.4};
    float out[N][4 * 17];
    run_optimiser(_i % 2, lr[_i / 2], 4, 0.5, out);
    ck_assert(out[0][0] != 0 && out[0][0] != out[1][0]); /* moments there are, and they differ */
}
END_TEST

START_TEST(with_weight_decay_in_the_gradient_or_not) {
    /* either is accepted: the norm is of what is handed over */
    int with;
    for (with = 0; with < 2; with++) {
        cluster c;
        cluster_desc d = small(N);
        double h[N];
        uint32_t r;
        size_t t, i;
        open_cluster(&c, &d);
        for (r = 0; r < N; r++) {
            cluster_worker *w = &c.worker[r];
            fixed(w);
            for (t = 0; with && t < 2; t++)
                for (i = 0; i < SIZE[t]; i++)
                    cluster_set(&w->grads.tensor[t], i,
                                cluster_get(&w->grads.tensor[t], i) + 0.5 * cluster_get(&w->params.tensor[t], i));
            h[r] = norm_sum(&w->grads);
            w->status = grawa_step(w->g, &w->grads);
        }
        must(&c, cluster_finish_round(&c));
        check_weights(&c, 0, h);
        close_cluster(&c);
    }
}
END_TEST

START_TEST(accumulated_gradients_count_once_and_common_factors_cancel) {
    /* four micro-batches: their sum, their mean, and the gradient of the whole batch give the same round */
    double w[3][N];
    int way;
    uint32_t r, k;
    for (way = 0; way < 3; way++) {
        cluster c;
        cluster_desc d = small(N);
        d.grawa.period_steps = 2;
        open_cluster(&c, &d);
        for (k = 0; k < 4; k++) { /* optimiser steps: two rounds */
            for (r = 0; r < N; r++) {
                cluster_worker *x = &c.worker[r];
                double sum[17] = {0};
                uint32_t micro;
                size_t t, i, j;
                for (micro = 0; micro < 4; micro++) {
                    cluster_fill(&x->grads, 100 * k + 10 * micro + r, 1.0 + r);
                    for (t = j = 0; t < 2; t++)
                        for (i = 0; i < SIZE[t]; i++, j++) sum[j] += cluster_get(&x->grads.tensor[t], i);
                }
                for (t = j = 0; t < 2; t++)
                    for (i = 0; i < SIZE[t]; i++, j++)
                        cluster_set(&x->grads.tensor[t], i, sum[j] * (way == 0 ? 1 : way == 1 ? 0.25 : 1 / 3.));
                x->status = grawa_step(x->g, &x->grads);
            }
            must(&c, cluster_finish_round(&c));
        }
        ck_assert_uint_eq(stats(&c, 0).steps, 4); /* optimiser steps, not backward passes */
        ck_assert_uint_eq(stats(&c, 0).rounds, 2);
        for (r = 0; r < N; r++) w[way][r] = weight(&c, r, 0);
        close_cluster(&c);
    }
    for (r = 0; r < N; r++) {
        ck_assert_double_eq(w[0][r], w[1][r]);
        ck_assert_double_eq_tol(w[0][r], w[2][r], 1e-6);
    }
}
END_TEST

START_TEST(clipping_before_the_call_hides_the_norms_after_it_does_not) {
    int before;
    for (before = 0; before < 2; before++) {
        cluster c;
        cluster_desc d = small(N);
        double h[N];
        uint32_t r;
        d.grawa.norm = GRAWA_NORM_EUCLIDEAN;
        open_cluster(&c, &d);
        for (r = 0; r < N; r++) {
            cluster_worker *w = &c.worker[r];
            fixed(w);
            if (before) scale_by(&w->grads, 0.5 / length(&w->grads, 0, 2));
            h[r] = length(&w->grads, 0, 2);
            w->status = grawa_step(w->g, &w->grads);
            scale_by(&w->grads, 0.5 / length(&w->grads, 0, 2)); /* read during the call only: this comes too late */
        }
        must(&c, cluster_finish_round(&c));
        check_weights(&c, 0, h);
        for (r = 0; before && r < N; r++) ck_assert_double_eq_tol(weight(&c, r, 0), 1.0 / N, 1e-6);
        close_cluster(&c);
    }
}
END_TEST

START_TEST(a_loss_scale_is_taken_out_of_the_norm) {
    double plain[3][N], norm[3][N];
    int scaled, round;
    uint32_t r;
    for (scaled = 0; scaled < 2; scaled++) {
        cluster c;
        cluster_desc d = small(N);
        d.grawa.source = _i ? GRAWA_SOURCE_STEPS : GRAWA_SOURCE_CLOSING;
        d.grawa.weighting = GRAWA_BY_LAYER;
        open_cluster(&c, &d);
        for (round = 0; round < 3; round++) {
            for (r = 0; r < N; r++) { /* each worker has a scale of its own, and it changes */
                cluster_worker *w = &c.worker[r];
                double s = scaled ? ldexp(1, (int)(4 * r + 3 * (uint32_t)round) - 2) * (r == 1 ? -1 : 1) : 1;
                cluster_fill(&w->grads, (uint64_t)round * 10 + r, 1.0 + r);
                scale_by(&w->grads, s);
                if (scaled) ck_assert_int_eq(grawa_set_grad_scale(w->g, s), WEFT_OK);
                w->status = grawa_step(w->g, &w->grads);
            }
            must(&c, cluster_finish_round(&c));
            for (r = 0; r < N; r++) {
                double h = group(&c, r, 1).corrected;
                if (!scaled) {
                    plain[round][r] = weight(&c, r, 1);
                    norm[round][r] = h;
                } else {
                    ck_assert_double_eq(weight(&c, r, 1), plain[round][r]);
                    ck_assert_double_eq(h, norm[round][r]); /* the true norm is what is read back */
                }
            }
        }
        ck_assert_int_eq(grawa_set_grad_scale(c.worker[0].g, 0), WEFT_ERR_ARGUMENT);
        ck_assert_int_eq(grawa_set_grad_scale(c.worker[0].g, (double)NAN), WEFT_ERR_ARGUMENT);
        ck_assert_int_eq(grawa_set_grad_scale(c.worker[0].g, (double)INFINITY), WEFT_ERR_ARGUMENT);
        close_cluster(&c);
    }
}
END_TEST

START_TEST(a_skipped_step_counts_and_the_norm_of_the_last_round_stands_in) {
    cluster c;
    cluster_desc d = small(N);
    grawa_group_t before, now;
    double h[N];
    uint32_t r;
    d.grawa.period_steps = 2;
    open_cluster(&c, &d);
    must(&c, cluster_steps(&c, 2));
    before = group(&c, 1, 0);
    /* a skipped step that does not close the period is just a step */
    CLUSTER_ALL(&c, w, grawa_step(w->g, w->rank == 2 ? NULL : fixed(w)));
    must(&c, !c.why[0]);
    ck_assert_uint_eq(stats(&c, 2).steps, 3);
    ck_assert_uint_eq(stats(&c, 2).rounds, 1);
    /* worker 1 skips the closing one; the others' norms change */
    for (r = 0; r < N; r++) {
        cluster_worker *w = &c.worker[r];
        cluster_fill(&w->grads, 5 + r, 2.5);
        w->status = grawa_step(w->g, r == 1 ? NULL : &w->grads);
    }
    must(&c, cluster_finish_round(&c));
    ck_assert_uint_eq(stats(&c, 1).rounds, 2);
    now = group(&c, 1, 0);
    ck_assert_double_eq(now.ema, before.ema);
    ck_assert_double_eq(now.corrected, before.corrected);
    for (r = 0; r < N; r++) h[r] = group(&c, r, 0).corrected;
    check_weights(&c, 0, h);
    ck_assert_double_gt(weight(&c, 1, 0), 0);
    ck_assert_uint_eq(stats(&c, 0).nonfinite_norms, 0);
    close_cluster(&c);

    /* in the first round nothing can stand in: no say, unless nobody has any */
    open_cluster(&c, &d);
    CLUSTER_ALL(&c, w, grawa_step(w->g, fixed(w)));
    CLUSTER_ALL(&c, w, grawa_step(w->g, w->rank == 1 ? NULL : fixed(w)));
    must(&c, !c.why[0]);
    ck_assert_double_eq(weight(&c, 1, 0), 0);
    ck_assert_uint_eq(stats(&c, 0).nonfinite_norms, 1);
    close_cluster(&c);
    open_cluster(&c, &d);
    CLUSTER_ALL(&c, w, grawa_step(w->g, NULL));
    CLUSTER_ALL(&c, w, grawa_step(w->g, NULL));
    must(&c, !c.why[0]);
    for (r = 0; r < N; r++) ck_assert_double_eq_tol(weight(&c, r, 0), 1.0 / N, 1e-15);
    close_cluster(&c);
}
END_TEST

START_TEST(the_gradient_is_looked_at_when_it_closes_the_period_and_not_before) {
    cluster c;
    cluster_desc d = small(N);
    double norm;
    d.grawa.period_steps = 3;
    open_cluster(&c, &d);
    must(&c, cluster_steps(&c, 3));
    norm = group(&c, 0, 0).norm;
    CLUSTER_ALL(&c, w, (scale_by(fixed(w), 5), grawa_step(w->g, &w->grads)));
    CLUSTER_ALL(&c, w, (scale_by(fixed(w), (double)NAN), grawa_step(w->g, &w->grads)));
    must(&c, !c.why[0]);
    ck_assert_double_eq(group(&c, 0, 0).norm, norm);
    CLUSTER_ALL(&c, w, (scale_by(fixed(w), 2), grawa_step(w->g, &w->grads)));
    must(&c, !c.why[0]);
    ck_assert_double_eq_tol(group(&c, 0, 0).norm, 2 * norm, 1e-6 * norm);
    ck_assert_uint_eq(stats(&c, 0).nonfinite_norms, 0);
    close_cluster(&c);
}
END_TEST

/* The same when the norm comes from local steps, also if a whole period is skipped. */
START_TEST(a_skipped_period_leaves_the_norm_of_the_last_round) {
    cluster c;
    cluster_desc d = small(N);
    double h[N], before;
    uint32_t r;
    d.grawa.source = GRAWA_SOURCE_STEPS;
    d.grawa.weighting = _i ? GRAWA_BY_LAYER : GRAWA_BY_MODEL;
    d.grawa.period_steps = 2;
    open_cluster(&c, &d);
    must(&c, cluster_steps(&c, 4));
    before = group(&c, 1, 0).corrected;
    CLUSTER_ALL(&c, w, grawa_step(w->g, w->rank == 1 ? NULL : fixed(w)));
    CLUSTER_ALL(&c, w, grawa_step(w->g, w->rank == 1 ? NULL : fixed(w)));
    must(&c, !c.why[0]);
    ck_assert_uint_eq(stats(&c, 1).rounds, 3);
    for (r = 0; r < N; r++) h[r] = r == 1 ? before : group(&c, r, 0).corrected;
    check_weights(&c, 0, h);
    must(&c, cluster_steps(&c, 2)); /* and then its own again */
    for (r = 0; r < N; r++) h[r] = group(&c, r, 0).corrected;
    check_weights(&c, 0, h);
    close_cluster(&c);
}
END_TEST

START_TEST(absent_gradients_add_nothing_by_model_and_have_no_say_by_layer) {
    int by_layer;
    for (by_layer = 0; by_layer < 2; by_layer++) {
        cluster c;
        cluster_desc d = small(N);
        weft_tensor list[N][2];
        double h[N], h1[N];
        uint32_t r;
        d.grawa.weighting = by_layer ? GRAWA_BY_LAYER : GRAWA_BY_MODEL;
        open_cluster(&c, &d);
        for (r = 0; r < N; r++) {
            cluster_worker *w = &c.worker[r];
            weft_tensors view = {NULL, 2};
            fixed(w);
            memcpy(list[r], w->grads.tensor, sizeof list[r]);
            if (r == 1) list[r][1].data = NULL;
            view.tensor = list[r];
            h[r] =
                by_layer ? length(&w->grads, 0, 1) : length(&w->grads, 0, 1) + (r == 1 ? 0 : length(&w->grads, 1, 1));
            h1[r] = r == 1 ? 0 : length(&w->grads, 1, 1);
            w->status = grawa_step(w->g, &view);
        }
        must(&c, cluster_finish_round(&c));
        check_weights(&c, 0, h);
        if (by_layer) check_weights(&c, 1, h1);
        ck_assert_uint_eq(stats(&c, 0).nonfinite_norms, by_layer ? 1 : 0);
        ck_assert_uint_eq(stats(&c, 0).zero_norms, 0);
        close_cluster(&c);
    }
}
END_TEST

START_TEST(tied_weights_listed_twice_are_refused) {
    float x[20];
    size_t overlap;
    for (overlap = 0; overlap < 3; overlap++) {
        /* the same memory, and two that share one element */
        weft_tensor t[2] = {{NULL, 10, WEFT_F32}, {NULL, 10, WEFT_F32}};
        weft_transport net = weft_transport_make(NULL, 0, 1, NULL, NULL, NULL, NULL, NULL);
        weft_memory_report report;
        grawa_desc d;
        memset(&d, 0, sizeof d);
        d.struct_size = sizeof d;
        t[0].data = x;
        t[1].data = overlap == 0 ? x : overlap == 1 ? x + 9 : x + 10;
        d.params.tensor = t;
        d.params.count = 2;
        d.transport = &net;
        if (overlap < 2) {
            ck_assert_uint_eq(grawa_memory(&d, &report), 0);
            ck_assert_int_eq(report.detail.status, WEFT_ERR_ARGUMENT);
            ck_assert(report.detail.field && strstr(report.detail.field, "overlap"));
        } else {
            ck_assert_uint_gt(grawa_memory(&d, &report), 0);
            ck_assert_int_eq(report.detail.status, WEFT_OK);
        }
    }
}
END_TEST

/* ---- models to evaluate ---- */

static weft_tensors buffers_of[N], into_of[N], into_buffers_of[N];
static const size_t BUFFER_SIZE[3] = {4, 0, 3};

static int with_buffers(cluster_worker *w) {
    buffers_of[w->rank] = cluster_tensors(3, BUFFER_SIZE, NULL);
    into_of[w->rank] = cluster_tensors(2, SIZE, NULL);
    into_buffers_of[w->rank] = cluster_tensors(3, BUFFER_SIZE, NULL);
    cluster_fill(&buffers_of[w->rank], 900 + w->rank, 3);
    w->desc.buffers = buffers_of[w->rank];
    return 1;
}

static void free_buffers(void) {
    uint32_t r;
    for (r = 0; r < N; r++) {
        ck_assert(cluster_tensors_whole(&buffers_of[r]) && cluster_tensors_whole(&into_of[r]) &&
                  cluster_tensors_whole(&into_buffers_of[r]));
        cluster_tensors_free(&buffers_of[r]);
        cluster_tensors_free(&into_of[r]);
        cluster_tensors_free(&into_buffers_of[r]);
    }
}

START_TEST(averages_are_formed_without_touching_any_model_and_statistics_only_there) {
    cluster c;
    cluster_desc d = small(N);
    uint64_t params[N], buffers[N];
    uint32_t r, s;
    size_t t, i;
    int model, turn;
    d.prepare = with_buffers;
    d.train = cluster_noise;
    d.grawa.weighting = _i ? GRAWA_BY_LAYER : GRAWA_BY_MODEL;
    d.grawa.pull = 0.3;
    d.grawa.period_steps = 3;
    open_cluster(&c, &d);
    for (r = 0; r < N; r++) buffers[r] = cluster_hash(&buffers_of[r]);
    for (turn = 0; turn < 3; turn++) {
        must(&c, cluster_steps(&c, 3));
        for (model = 0; model < 2; model++) {
            for (r = 0; r < N; r++) params[r] = cluster_hash(&c.worker[r].params);
            /* worker 1 does not want it; worker 2 wants no statistics */
            CLUSTER_ALL(&c, w,
                        grawa_average(w->g, model ? GRAWA_CENTER : GRAWA_MEAN, w->rank == 1 ? NULL : &into_of[w->rank],
                                      w->rank == 0 ? &into_buffers_of[0] : NULL));
            must(&c, !c.why[0]);
            for (r = 0; r < N; r++) {
                ck_assert_uint_eq(params[r], cluster_hash(&c.worker[r].params));
                ck_assert_uint_eq(buffers[r], cluster_hash(&buffers_of[r])); /* rounds leave them alone, too */
            }
            ck_assert(cluster_same_bits(&into_of[0], &into_of[2]));
            for (t = 0; t < 2; t++)
                for (i = 0; i < SIZE[t]; i++) {
                    double e = 0;
                    for (s = 0; s < N; s++)
                        e += (model ? weight(&c, s, _i ? (uint32_t)t : 0) : 1.0 / N) *
                             cluster_get(&c.worker[s].params.tensor[t], i);
                    ck_assert_double_eq_tol(cluster_get(&into_of[0].tensor[t], i), e, 1e-6);
                    ck_assert_double_eq(cluster_get(&into_of[1].tensor[t], i), 0);
                }
            for (t = 0; t < 3; t++)
                for (i = 0; i < BUFFER_SIZE[t]; i++) {
                    double e = 0;
                    for (s = 0; s < N; s++) e += cluster_get(&buffers_of[s].tensor[t], i) / N;
                    ck_assert_double_eq_tol(cluster_get(&into_buffers_of[0].tensor[t], i), e, 1e-6);
                    ck_assert_double_eq(cluster_get(&into_buffers_of[2].tensor[t], i), 0);
                }
        }
    }
    ck_assert_uint_eq(stats(&c, 0).rounds, 3); /* averages are no rounds */
    close_cluster(&c);
    free_buffers();
}
END_TEST

START_TEST(an_average_between_rounds_is_of_the_present_models) {
    cluster c;
    cluster_desc d = small(N);
    uint32_t s;
    size_t i;
    d.prepare = with_buffers;
    d.train = cluster_noise;
    d.grawa.period_steps = 4;
    open_cluster(&c, &d);
    CLUSTER_ALL(&c, w, grawa_average(w->g, GRAWA_MEAN, &into_of[w->rank], NULL)); /* before any step */
    must(&c, !c.why[0] && cluster_steps(&c, 6));
    CLUSTER_ALL(&c, w, grawa_average(w->g, GRAWA_MEAN, &into_of[w->rank], NULL)); /* in the middle of a period */
    must(&c, !c.why[0]);
    for (i = 0; i < SIZE[0]; i++) {
        double e = 0;
        for (s = 0; s < N; s++) e += cluster_get(&c.worker[s].params.tensor[0], i) / N;
        ck_assert_double_eq_tol(cluster_get(&into_of[1].tensor[0], i), e, 1e-6);
    }
    must(&c, cluster_steps(&c, 2)); /* the period goes on where it was */
    ck_assert_uint_eq(stats(&c, 0).rounds, 2);
    close_cluster(&c);
    free_buffers();
}
END_TEST

START_TEST(a_model_that_is_not_finite_spoils_no_average) {
    cluster c;
    cluster_desc d = small(N);
    uint64_t before;
    uint32_t r;
    d.prepare = with_buffers;
    d.train = cluster_noise;
    open_cluster(&c, &d);
    must(&c, cluster_steps(&c, 2));
    cluster_set(&c.worker[1].params.tensor[0], 4, (double)NAN);
    before = cluster_hash(&into_of[0]);
    CLUSTER_EACH(&c, w, grawa_average(w->g, GRAWA_MEAN, &into_of[w->rank], NULL));
    must(&c, cluster_settle(&c));
    for (r = 0; r < N; r++) ck_assert_int_eq(c.worker[r].status, WEFT_ERR_NONFINITE);
    ck_assert_uint_eq(before, cluster_hash(&into_of[0]));
    cluster_set(&c.worker[1].params.tensor[0], 4, 0);
    CLUSTER_ALL(&c, w, grawa_average(w->g, GRAWA_MEAN, &into_of[w->rank], NULL));
    must(&c, !c.why[0] && cluster_steps(&c, 2)); /* it was an error of that call only */
    ck_assert_uint_ne(before, cluster_hash(&into_of[0]));
    close_cluster(&c);
    free_buffers();
}
END_TEST

/* ---- schedules ---- */

START_TEST(a_new_pull_takes_effect_in_the_next_round) {
    static const double pull[] = {0.5, 0.25, 1, 0, 0.75}; /* here 0 means 0 */
    cluster c;
    cluster_desc d = small(N);
    size_t k, i;
    uint32_t r;
    open_cluster(&c, &d);
    ck_assert_double_eq(effective(&c, 0).pull, 0.5);
    for (k = 0; k < 5; k++) {
        double x[N], center = 0;
        if (k) CLUSTER_ALL(&c, w, grawa_set_pull(w->g, pull[k]));
        must(&c, !c.why[0]);
        ck_assert_double_eq(effective(&c, 1).pull, pull[k]);
        for (r = 0; r < N; r++) /* apart again */
            for (i = 0; i < SIZE[0]; i++) cluster_set(&c.worker[r].params.tensor[0], i, (double)(r * r) + (double)i);
        for (r = 0; r < N; r++) x[r] = cluster_get(&c.worker[r].params.tensor[0], 3);
        must(&c, cluster_steps(&c, 1));
        for (r = 0; r < N; r++) center += weight(&c, r, 0) * x[r];
        for (r = 0; r < N; r++)
            ck_assert_double_eq_tol(cluster_get(&c.worker[r].params.tensor[0], 3),
                                    (1 - pull[k]) * x[r] + pull[k] * center, 1e-5);
    }
    ck_assert_int_eq(grawa_set_pull(c.worker[0].g, -0.1), WEFT_ERR_ARGUMENT);
    ck_assert_int_eq(grawa_set_pull(c.worker[0].g, 1.01), WEFT_ERR_ARGUMENT);
    ck_assert_int_eq(grawa_set_pull(c.worker[0].g, (double)NAN), WEFT_ERR_ARGUMENT);
    ck_assert_double_eq(effective(&c, 0).pull, 0.75);
    close_cluster(&c);
}
END_TEST

START_TEST(a_new_period_takes_effect_at_the_next_round) {
    cluster c;
    cluster_desc d = small(N);
    uint64_t step, rounds = 0;
    d.grawa.period_steps = 3;
    open_cluster(&c, &d);
    must(&c, cluster_steps(&c, 1));
    CLUSTER_ALL(&c, w, grawa_set_period(w->g, 5)); /* in the middle: this period stays as long as it was */
    must(&c, !c.why[0]);
    for (step = 2; step <= 18; step++) {
        must(&c, cluster_steps(&c, 1));
        if (step == 3 || step == 8 || step == 13 || step == 18) rounds++;
        ck_assert_uint_eq(stats(&c, 0).rounds, rounds);
    }
    ck_assert_uint_eq(effective(&c, 2).period_steps, 5);
    CLUSTER_ALL(&c, w, grawa_set_period(w->g, 1)); /* right after a round: the next period is */
    must(&c, cluster_steps(&c, 5));
    ck_assert_uint_eq(stats(&c, 0).rounds, 5);
    must(&c, cluster_steps(&c, 3));
    ck_assert_uint_eq(stats(&c, 0).rounds, 8);
    ck_assert_int_eq(grawa_set_period(c.worker[0].g, 0), WEFT_ERR_ARGUMENT);
    close_cluster(&c);
}
END_TEST

START_TEST(a_new_proximal_pull_takes_effect_at_the_next_round) {
    cluster c;
    cluster_desc d = small(2);
    double x;
    d.grawa.proximal = 0.5;
    d.grawa.period_steps = 2;
    d.start_unequal = 0;
    open_cluster(&c, &d);
    must(&c, cluster_steps(&c, 2)); /* all are at the anchor, and stay there */
    CLUSTER_ALL(&c, w, grawa_set_proximal(w->g, 1.0));
    must(&c, !c.why[0]);
    x = cluster_get(&c.worker[0].params.tensor[0], 0);
    CLUSTER_EACH(&c, w, (cluster_set(&w->params.tensor[0], 0, x + 1), grawa_step(w->g, fixed(w))));
    must(&c, cluster_fine(&c, "step"));
    ck_assert_double_eq_tol(cluster_get(&c.worker[0].params.tensor[0], 0), x + 0.75, 1e-6); /* still 0.5 / 2 */
    must(&c, cluster_steps(&c, 1));
    x = cluster_get(&c.worker[0].params.tensor[0], 0); /* the new anchor: both are there */
    CLUSTER_EACH(&c, w, (cluster_set(&w->params.tensor[0], 0, x + 1), grawa_step(w->g, fixed(w))));
    ck_assert_double_eq_tol(cluster_get(&c.worker[0].params.tensor[0], 0), x + 0.5, 1e-6);
    CLUSTER_ALL(&c, w, grawa_set_proximal(w->g, 0));
    must(&c, !c.why[0] && cluster_steps(&c, 1));
    x = cluster_get(&c.worker[0].params.tensor[0], 0);
    CLUSTER_EACH(&c, w, (cluster_set(&w->params.tensor[0], 0, x + 1), grawa_step(w->g, fixed(w))));
    ck_assert_double_eq_tol(cluster_get(&c.worker[0].params.tensor[0], 0), x + 1, 1e-6);
    ck_assert_int_eq(grawa_set_proximal(c.worker[0].g, 1.5), WEFT_ERR_ARGUMENT);
    close_cluster(&c);
    d.grawa.proximal = 0;
    open_cluster(&c, &d);
    ck_assert_int_lt(grawa_set_proximal(c.worker[0].g, 0.5), 0); /* there is no memory for it */
    ck_assert_int_eq(grawa_set_proximal(c.worker[0].g, 0), WEFT_OK);
    close_cluster(&c);
}
END_TEST

START_TEST(setters_wait_for_the_end_of_a_round) {
    cluster c;
    cluster_desc d = small(2);
    open_cluster(&c, &d);
    c.worker[0].status = grawa_step(c.worker[0].g, fixed(&c.worker[0]));
    ck_assert_int_eq(c.worker[0].status, WEFT_AGAIN);
    ck_assert(!(grawa_state(c.worker[0].g) & GRAWA_MAY_STEP) && (grawa_state(c.worker[0].g) & GRAWA_MAY_POLL));
    ck_assert_int_eq(grawa_set_pull(c.worker[0].g, 0.1), WEFT_ERR_ORDER);
    ck_assert_int_eq(grawa_set_period(c.worker[0].g, 9), WEFT_ERR_ORDER);
    ck_assert_int_eq(grawa_set_grad_scale(c.worker[0].g, 2), WEFT_ERR_ORDER);
    ck_assert_int_eq(grawa_step(c.worker[0].g, NULL), WEFT_ERR_ORDER);
    ck_assert_int_eq(grawa_probe(c.worker[0].g, NULL), WEFT_ERR_ORDER);
    ck_assert_int_eq(grawa_leave(c.worker[0].g), WEFT_ERR_ORDER);
    c.worker[1].status = grawa_step(c.worker[1].g, fixed(&c.worker[1]));
    must(&c, cluster_settle(&c) && cluster_fine(&c, "round")); /* refused calls have changed nothing */
    ck_assert_double_eq(effective(&c, 0).pull, 0.5);
    ck_assert_uint_eq(stats(&c, 0).rounds, 1);
    close_cluster(&c);
}
END_TEST

START_TEST(the_defaults_can_be_read_back) {
    cluster c;
    cluster_desc d = small(2);
    grawa_desc e;
    d.grawa.initial = GRAWA_INITIAL_CHECK;
    d.grawa.period_steps = 0;
    must(&c, cluster_open(&c, &d));
    e = effective(&c, 1);
    ck_assert_uint_eq(e.period_steps, 32);
    ck_assert_double_eq(e.pull, 0.5);
    ck_assert_double_eq(e.proximal, 0);
    ck_assert_double_eq_tol(e.ema_rounds, pow(0.9, 8), 1e-15);
    ck_assert_double_eq(e.ema_steps, 0.85);
    ck_assert_int_eq(e.weighting, GRAWA_BY_MODEL);
    ck_assert_int_eq(e.norm, GRAWA_NORM_SUM);
    ck_assert_int_eq(e.source, GRAWA_SOURCE_CLOSING);
    ck_assert_int_eq(e.trigger, GRAWA_TRIGGER_PERIOD);
    close_cluster(&c);
    d.grawa.pull = WEFT_ZERO;
    d.grawa.ema_rounds = WEFT_ZERO;
    d.grawa.ema_steps = WEFT_ZERO;
    must(&c, cluster_open(&c, &d));
    e = effective(&c, 0);
    ck_assert_double_eq(e.pull, 0);
    ck_assert_double_eq(e.ema_rounds, 0);
    ck_assert_double_eq(e.ema_steps, 0);
    close_cluster(&c);
}
END_TEST

/* ---- initial parameters ---- */

static cluster_desc beginning(grawa_initial how) {
    cluster_desc d = small(N);
    d.grawa.initial = how;
    d.grawa.initial_rank = 2;
    d.train = cluster_noise;
    return d;
}

START_TEST(check_refuses_unequal_parameters_and_names_both_hashes) {
    cluster c;
    cluster_desc d = beginning(GRAWA_INITIAL_CHECK);
    uint64_t mine[N];
    uint32_t r;
    must(&c, cluster_open(&c, &d));
    CLUSTER_EACH(&c, w, _i ? grawa_step(w->g, fixed(w)) : grawa_start(w->g));
    must(&c, cluster_settle(&c));
    for (r = 0; r < N; r++) {
        const weft_detail *e = grawa_detail(c.worker[r].g);
        ck_assert_int_eq(c.worker[r].status, WEFT_ERR_MISMATCH);
        ck_assert_int_eq(e->status, WEFT_ERR_MISMATCH);
        ck_assert(e->field && strstr(e->field, "hash of the initial parameters"));
        ck_assert_uint_ne(e->expected, e->got);
        ck_assert_uint_lt(e->peer, N);
        ck_assert_uint_ne(e->peer, r);
        mine[r] = e->expected;
    }
    for (r = 0; r < N; r++)
        ck_assert_uint_eq(grawa_detail(c.worker[r].g)->got, mine[grawa_detail(c.worker[r].g)->peer]);
    close_cluster(&c);
    d.start_unequal = 0; /* equal ones are fine, also if the first step comes before first contact */
    must(&c, cluster_open(&c, &d));
    if (!_i) must(&c, cluster_start(&c));
    must(&c, cluster_steps(&c, 2));
    ck_assert_uint_eq(stats(&c, 0).rounds, 2);
    close_cluster(&c);
}
END_TEST

START_TEST(copy_gives_everybody_the_parameters_of_one_rank) {
    cluster c;
    cluster_desc d = beginning(GRAWA_INITIAL_COPY);
    uint64_t h;
    uint32_t r;
    d.grawa.proximal = 0.5;
    must(&c, cluster_open(&c, &d));
    h = cluster_hash(&c.worker[2].params);
    must(&c, cluster_start(&c));
    for (r = 0; r < N; r++) ck_assert_uint_eq(cluster_hash(&c.worker[r].params), h);
    ck_assert_uint_eq(stats(&c, 0).rounds, 0); /* that was no round */
    must(&c, cluster_steps(&c, 2));
    ck_assert_uint_eq(stats(&c, 0).rounds, 2);
    close_cluster(&c);
}
END_TEST

START_TEST(average_gives_everybody_the_mean) {
    cluster c;
    cluster_desc d = beginning(GRAWA_INITIAL_AVERAGE);
    double mean[12] = {0};
    uint32_t r;
    size_t i;
    if (_i) d.grawa.weighting = GRAWA_BY_LAYER;
    must(&c, cluster_open(&c, &d));
    for (r = 0; r < N; r++)
        for (i = 0; i < 12; i++) mean[i] += cluster_get(&c.worker[r].params.tensor[0], i) / N;
    must(&c, cluster_start(&c));
    for (r = 0; r < N; r++) {
        ck_assert(cluster_same_bits(&c.worker[r].params, &c.worker[0].params));
        for (i = 0; i < 12; i++) ck_assert_double_eq_tol(cluster_get(&c.worker[r].params.tensor[0], i), mean[i], 1e-6);
    }
    must(&c, cluster_steps(&c, 2));
    close_cluster(&c);
}
END_TEST

START_TEST(keep_leaves_everybody_its_own) {
    cluster c;
    cluster_desc d = beginning(GRAWA_INITIAL_KEEP);
    uint64_t h[N];
    uint32_t r;
    must(&c, cluster_open(&c, &d));
    for (r = 0; r < N; r++) h[r] = cluster_hash(&c.worker[r].params);
    must(&c, cluster_start(&c));
    for (r = 0; r < N; r++) ck_assert_uint_eq(cluster_hash(&c.worker[r].params), h[r]);
    ck_assert_uint_ne(h[0], h[1]);
    close_cluster(&c);
}
END_TEST

/* After COPY or AVERAGE the anchor is what was settled on: a proximal pull leads there. */
START_TEST(the_first_anchor_is_what_was_settled) {
    cluster c;
    cluster_desc d = beginning(_i ? GRAWA_INITIAL_AVERAGE : GRAWA_INITIAL_COPY);
    double x;
    uint32_t r;
    d.grawa.proximal = 1;
    d.grawa.period_steps = 4;
    open_cluster(&c, &d);
    x = cluster_get(&c.worker[0].params.tensor[1], 2);
    CLUSTER_EACH(&c, w, (cluster_set(&w->params.tensor[1], 2, x + 4), grawa_step(w->g, NULL)));
    for (r = 0; r < N; r++) ck_assert_double_eq_tol(cluster_get(&c.worker[r].params.tensor[1], 2), x + 3, 1e-6);
    close_cluster(&c);
}
END_TEST

START_TEST(other_settings_are_refused_by_name) {
    static const char *const field[] = {"weighting", "norm",       "source",    "trigger",        "initial",
                                        "guard",     "ema_rounds", "algorithm", "check_replicas", "partial",
                                        "params",    "buffers",    "ema_steps"};
    size_t i;
    for (i = 0; i < sizeof field / sizeof *field; i++) {
        cluster c;
        cluster_desc d = small(2);
        static float extra[2];
        static const weft_tensor one = {extra, 2, WEFT_F32};
        cluster_worker *w;
        uint32_t r;
        must(&c, cluster_open(&c, &d));
        w = &c.worker[1];
        cluster_worker_free(w);
        switch (i) {
        case 0: w->desc.weighting = GRAWA_UNIFORM; break;
        case 1: w->desc.norm = GRAWA_NORM_SQUARED; break;
        case 2: w->desc.source = GRAWA_SOURCE_PROBE; break;
        case 3: w->desc.trigger = GRAWA_TRIGGER_TOTAL; break;
        case 4: w->desc.initial = GRAWA_INITIAL_CHECK; break;
        case 5: w->desc.guard = GRAWA_GUARD_REJECT; break;
        case 6: w->desc.ema_rounds = 0.1; break;
        case 7: w->desc.algorithm = WEFT_ALGORITHM_RING; break;
        case 8: w->desc.check_replicas = 1; break;
        case 9: w->desc.partial_deadline_ns = 1; break;
        case 10: w->desc.params.count = 1; break;
        case 11:
            w->desc.buffers.tensor = &one;
            w->desc.buffers.count = 1;
            break;
        default: w->desc.ema_steps = 0.1; break;
        }
        must(&c, cluster_worker_init(w));
        CLUSTER_EACH(&c, v, grawa_start(v->g));
        must(&c, cluster_settle(&c));
        for (r = 0; r < 2; r++) {
            const weft_detail *e = grawa_detail(c.worker[r].g);
            ck_assert_int_eq(c.worker[r].status, WEFT_ERR_MISMATCH);
            if (!e->field || !strstr(e->field, field[i]))
                ck_abort_msg("%s: the field at fault is given as %s", field[i], e->field);
            ck_assert_uint_eq(e->peer, 1 - r);
            ck_assert_uint_ne(e->expected, e->got);
            ck_assert_uint_eq(e->expected, grawa_detail(c.worker[1 - r].g)->got);
        }
        close_cluster(&c);
    }
}
END_TEST

START_TEST(schedules_are_no_part_of_the_fingerprint) {
    cluster c;
    cluster_desc d = small(2);
    must(&c, cluster_open(&c, &d));
    cluster_worker_free(&c.worker[1]);
    c.worker[1].desc.pull = 0.25;
    c.worker[1].desc.timeout_ns = 1000000000;
    must(&c, cluster_worker_init(&c.worker[1]) && cluster_start(&c) && cluster_steps(&c, 1));
    close_cluster(&c);
}
END_TEST

/* ---- the probe ---- */

static uint32_t probes[N];

static const weft_tensors *counted_probe(cluster_worker *w) {
    probes[w->rank]++;
    cluster_fill(&w->grads, 500 + w->rank, 1.0 + 2 * w->rank);
    return &w->grads;
}

START_TEST(a_probe_is_asked_for_once_a_round_at_the_current_model) {
    cluster c;
    cluster_desc d = small(N);
    double h[N];
    uint32_t r, k;
    d.train = cluster_noise;
    d.probe = counted_probe;
    d.grawa.source = GRAWA_SOURCE_PROBE;
    d.grawa.period_steps = 3;
    d.grawa.ema_rounds = WEFT_ZERO;
    memset(probes, 0, sizeof probes);
    open_cluster(&c, &d);
    for (k = 1; k <= 7; k++) {
        must(&c, cluster_steps(&c, 1));
        for (r = 0; r < N; r++) ck_assert_uint_eq(probes[r], k / 3);
    }
    for (r = 0; r < N; r++) { /* the weights are of the probes, not of the steps */
        cluster_fill(&c.worker[r].grads, 500 + r, 1.0 + 2 * r);
        h[r] = norm_sum(&c.worker[r].grads);
    }
    check_weights(&c, 0, h);
    /* while it is wanted, the parameters are as the step (and the proximal pull) left them, and no other verb is
     * legal */
    must(&c, cluster_steps(&c, 1));
    for (r = 0; r < N; r++) {
        cluster_worker *w = &c.worker[r];
        const weft_tensors *g = cluster_noise(w);
        uint64_t hash = cluster_hash(&w->params);
        w->status = grawa_step(w->g, g);
        ck_assert_int_eq(w->status, WEFT_WANT_GRADIENT);
        ck_assert_uint_eq(hash, cluster_hash(&w->params));
        ck_assert_uint_eq(grawa_state(w->g) & (GRAWA_MAY_STEP | GRAWA_MAY_PROBE), GRAWA_MAY_PROBE);
        ck_assert_int_eq(grawa_step(w->g, g), WEFT_ERR_ORDER);
        ck_assert_int_eq(grawa_poll(w->g), WEFT_WANT_GRADIENT);
        ck_assert_int_eq(grawa_wait(w->g), WEFT_WANT_GRADIENT);
    }
    CLUSTER_ALL(&c, w, grawa_probe(w->g, counted_probe(w)));
    must(&c, !c.why[0]);
    ck_assert_uint_eq(stats(&c, 0).rounds, 3);
    close_cluster(&c);
}
END_TEST

START_TEST(a_worker_without_a_probe_has_no_say_in_its_first_round) {
    cluster c;
    cluster_desc d = small(N);
    d.grawa.source = GRAWA_SOURCE_PROBE;
    open_cluster(&c, &d);
    CLUSTER_EACH(&c, w, grawa_step(w->g, NULL));
    CLUSTER_ALL(&c, w, grawa_probe(w->g, w->rank == 2 ? NULL : fixed(w)));
    must(&c, !c.why[0]);
    ck_assert_double_eq(weight(&c, 2, 0), 0);
    ck_assert_double_gt(weight(&c, 0, 0), weight(&c, 1, 0));
    close_cluster(&c);
}
END_TEST

/* Without grawa_start the first step makes first contact; if it closes a period, its gradient counts. */
START_TEST(first_contact_by_the_first_step_is_the_same_round) {
    double b[2][N];
    uint64_t h[2];
    int start;
    uint32_t r;
    for (start = 0; start < 2; start++) {
        cluster c;
        cluster_desc d = small(N);
        d.train = cluster_noise;
        d.start_unequal = 0;
        d.grawa.initial = GRAWA_INITIAL_CHECK;
        d.grawa.source = (grawa_source)_i;
        must(&c, cluster_open(&c, &d) && (!start || cluster_start(&c)) && cluster_steps(&c, 1));
        ck_assert_uint_eq(stats(&c, 0).rounds, 1);
        for (r = 0; r < N; r++) b[start][r] = weight(&c, r, 0);
        h[start] = cluster_hash(&c.worker[0].params);
        must(&c, cluster_steps(&c, 3));
        ck_assert_uint_eq(stats(&c, 0).rounds, 4);
        close_cluster(&c);
    }
    for (r = 0; r < N; r++) ck_assert_double_eq(b[0][r], b[1][r]);
    ck_assert_double_ne(b[0][0], b[0][1]);
    ck_assert_uint_eq(h[0], h[1]);
}
END_TEST

/* ---- the total-step trigger ---- */

typedef struct journal {
    uint64_t rounds[8], steps[8], last[8];
    uint64_t joined[8][16], count[8][16], back[8][16];
    uint64_t want;
} journal;

static void note(cluster_worker *w) {
    journal *j = (journal *)w->user;
    uint64_t *k = &j->rounds[w->rank];
    if (!w->joined) return;
    if (*k < j->want) {
        j->joined[w->rank][*k] = w->joined_ns;
        j->back[w->rank][*k] = w->back_ns;
        j->count[w->rank][*k] = w->step - j->last[w->rank];
    }
    j->last[w->rank] = w->step;
    if (++*k == j->want) w->goal = w->step;
}

#define SECOND UINT64_C(1000000000)

START_TEST(fast_workers_take_more_steps_and_nobody_waits_longer_than_one_step_of_the_slowest) {
    static const uint64_t speed[4] = {1, 1, 2, 10};
    static const uint64_t expected[4] = {6, 6, 3, 1}; /* 4 x 4 steps begun when the fast ones begin their seventh */
    cluster c;
    cluster_desc d = small(4);
    journal j;
    uint32_t r, k;
    int deaf = _i % 2, far = _i / 2;
    memset(&j, 0, sizeof j);
    j.want = 8;
    d.grawa.trigger = GRAWA_TRIGGER_TOTAL;
    d.grawa.period_steps = 4;
    d.sim.latency_ns = far ? SECOND / 50 : 0;
    d.back = note;
    d.user = &j;
    d.train = cluster_noise;
    open_cluster(&c, &d);
    for (r = 0; r < 4; r++) {
        c.worker[r].step_ns = speed[r] * SECOND;
        c.worker[r].pause_ns = r;
        c.worker[r].poll_while_computing = !deaf;
    }
    must(&c, cluster_run(&c, 1000));
    for (k = 0; k < 8; k++) {
        uint64_t total = 0, first = UINT64_MAX, last = 0;
        for (r = 0; r < 4; r++) {
            if (!deaf && !far) ck_assert_uint_eq(j.count[r][k], expected[r]);
            total += j.count[r][k];
            if (j.joined[r][k] < first) first = j.joined[r][k];
            if (j.joined[r][k] > last) last = j.joined[r][k];
        }
        /* all M tau steps have been begun; news on their way may cost each worker a step or two more */
        ck_assert_uint_ge(total, 16);
        ck_assert_uint_le(total, deaf || far ? 16 + 8 : 16);
        /* waiting: at most the step that the slowest is in, and the messages' way */
        ck_assert_uint_le(last - first, 10 * SECOND + 20 * d.sim.latency_ns);
        for (r = 0; r < 4; r++) ck_assert_uint_le(j.back[r][k] - last, 20 * d.sim.latency_ns);
    }
    for (r = 0; r < 4; r++) ck_assert_uint_eq(stats(&c, r).rounds, 8);
    close_cluster(&c);
}
END_TEST

/* Every step takes a time of its own, and then the next. */
static uint64_t drawn_ns(uint64_t seed, uint32_t rank, uint64_t step) {
    uint64_t rng = seed * 1000003 + rank * 1009 + step;
    return 1000 + cluster_draw(&rng) % ((rank + 1) * 1000000);
}

static void note_and_draw(cluster_worker *w) {
    note(w);
    w->step_ns = drawn_ns(w->c->desc.sim.seed, w->rank, w->step);
}

/* The published rule, by itself: whoever has finished a step asks; while fewer than M tau steps have been begun it
 * begins another one, else it waits for all. */
START_TEST(steps_and_rounds_are_those_of_the_published_rule) {
    uint64_t seed;
    for (seed = 1; seed <= 60; seed++) {
        uint32_t n = 2 + (uint32_t)seed % 7, r, tau = 1 + (uint32_t)seed % 6, k;
        cluster c;
        cluster_desc d = small(n);
        journal j;
        uint64_t at[8], steps[8] = {0}, start;
        memset(&j, 0, sizeof j);
        j.want = 6;
        d.sim.seed = seed;
        d.sim.latency_ns = 0;
        d.grawa.trigger = GRAWA_TRIGGER_TOTAL;
        d.grawa.period_steps = tau;
        d.back = note_and_draw;
        d.user = &j;
        open_cluster(&c, &d);
        start = weft_sim_now(&c.sim);
        for (r = 0; r < n; r++) c.worker[r].step_ns = drawn_ns(seed, r, 0);
        must(&c, cluster_run(&c, 100000));
        for (k = 0; k < 6; k++) {
            uint64_t begun = n, joined[8], count[8], last = 0;
            uint32_t waiting = 0;
            for (r = 0; r < n; r++) {
                at[r] = start + drawn_ns(seed, r, steps[r]++);
                count[r] = 1;
                joined[r] = 0;
            }
            while (waiting < n) {
                uint32_t next = 0;
                for (r = 1; r < n; r++)
                    if (at[r] < at[next]) next = r;
                if (begun >= (uint64_t)n * tau) {
                    joined[next] = last = at[next];
                    at[next] = UINT64_MAX;
                    waiting++;
                } else {
                    begun++;
                    count[next]++;
                    at[next] += drawn_ns(seed, next, steps[next]++);
                }
            }
            for (r = 0; r < n; r++) {
                if (j.count[r][k] != count[r] || j.joined[r][k] != joined[r] || j.back[r][k] != last)
                    ck_abort_msg("seed %llu, round %u, worker %u of %u: %llu steps until %llu, not %llu until %llu",
                                 (unsigned long long)seed, k, r, n, (unsigned long long)j.count[r][k],
                                 (unsigned long long)j.joined[r][k], (unsigned long long)count[r],
                                 (unsigned long long)joined[r]);
            }
            start = last;
        }
        close_cluster(&c);
    }
}
END_TEST

START_TEST(the_total_trigger_ends_whatever_the_speeds_and_the_network) {
    uint64_t seed;
    for (seed = 1; seed <= 60; seed++) {
        cluster c;
        uint32_t r, n = 1 + (uint32_t)seed % 7;
        cluster_desc d = small(n);
        journal j;
        memset(&j, 0, sizeof j);
        j.want = 5;
        d.sim = weft_sim_torture(seed, n);
        d.grawa.trigger = GRAWA_TRIGGER_TOTAL;
        d.grawa.period_steps = 1 + (uint32_t)seed % 5;
        d.grawa.source = (grawa_source)(seed % 3);
        d.grawa.check_replicas = 1;
        d.back = note;
        d.user = &j;
        d.train = cluster_noise;
        open_cluster(&c, &d);
        for (r = 0; r < n; r++) {
            c.worker[r].step_ns = 1 + weft_sim_random(&c.sim) % 3000;
            c.worker[r].poll_while_computing = (int)(weft_sim_random(&c.sim) % 2);
        }
        must(&c, cluster_run(&c, n == 1 ? 5 * (1 + seed % 5) : 100000));
        for (r = 0; r < n; r++) ck_assert_uint_eq(stats(&c, r).rounds, 5);
        close_cluster(&c);
    }
}
END_TEST

START_TEST(any_worker_may_be_lost_and_the_others_go_on_counting) {
    uint32_t dead;
    for (dead = 0; dead < 4; dead++) {
        cluster c;
        cluster_desc d = small(4);
        journal j;
        uint32_t r, members[3], i = 0;
        weft_view view = {sizeof view, 1, 3, NULL};
        uint64_t steps = 0;
        memset(&j, 0, sizeof j);
        j.want = 3;
        d.grawa.trigger = GRAWA_TRIGGER_TOTAL;
        d.grawa.period_steps = 4;
        d.back = note;
        d.user = &j;
        d.train = cluster_noise;
        open_cluster(&c, &d);
        for (r = 0; r < 4; r++) c.worker[r].step_ns = (r + 1) * 1000000;
        must(&c, cluster_run(&c, 1000));
        must(&c, cluster_steps(&c, 1));
        weft_sim_lose(&c.sim, dead);
        for (r = 0; r < 4; r++)
            if (r != dead) members[i++] = r;
        view.members = members;
        CLUSTER_EACH(&c, w, w->rank == dead ? WEFT_OK : grawa_regroup(w->g, &view));
        must(&c, cluster_settle(&c) && cluster_fine(&c, "regroup"));
        for (r = 0; r < 4; r++) ck_assert_uint_eq(r == dead ? 3 : stats(&c, r).members, 3);
        j.want = 6;
        for (r = 0; r < 4; r++) {
            if (r == dead) continue;
            j.last[r] = c.worker[r].step;
        }
        must(&c, cluster_run(&c, 1000));
        for (r = 0; r < 4; r++)
            if (r != dead) {
                ck_assert_uint_eq(stats(&c, r).rounds, 6);
                ck_assert_uint_eq(stats(&c, r).participants, 3);
                steps += j.count[r][5];
            }
        ck_assert_uint_ge(steps, 12); /* members x period: three are left */
        ck_assert_uint_le(steps, 15);
        close_cluster(&c);
    }
}
END_TEST

/* ---- leaving ---- */

START_TEST(a_worker_out_of_data_leaves_and_the_others_go_on) {
    cluster c;
    cluster_desc d = small(4);
    uint32_t r;
    d.train = cluster_noise;
    d.grawa.period_steps = 2;
    open_cluster(&c, &d);
    for (r = 0; r < 4; r++) {
        c.worker[r].step_ns = 1000;
        c.worker[r].leaves = 1;
    }
    for (r = 0; r < 4; r++) weft_sim_worker(&c.sim, r, cluster_turn, &c.worker[r]);
    for (r = 0; r < 4; r++) c.worker[r].goal = 4 + 4 * r; /* 0 leaves after 2 rounds, 1 after 4, ... */
    ck_assert_int_eq(weft_sim_run(&c.sim, 100000), WEFT_SIM_DONE);
    must(&c, !c.why[0]);
    for (r = 0; r < 4; r++) ck_assert_uint_eq(stats(&c, r).rounds, 2 + 2 * r);
    for (r = 0; r < 4; r++) ck_assert_uint_eq(stats(&c, r).participants, 4 - r); /* in its last round */
    ck_assert_int_eq(grawa_step(c.worker[0].g, NULL), WEFT_ERR_ORDER);
    close_cluster(&c);
}
END_TEST

/* Whoever has left is in no view any more: the host can read who is, and a view that names it is refused. */
START_TEST(who_has_left_is_not_named_again) {
    cluster c;
    cluster_desc d = small(3);
    uint32_t all[3] = {0, 1, 2}, rest[2] = {0, 1}, ranks[3] = {9, 9, 9}, r;
    weft_view v = {sizeof v, 1, 3, all};
    open_cluster(&c, &d);
    ck_assert_uint_eq(grawa_members(c.worker[0].g, ranks, 3), 3);
    ck_assert(ranks[0] == 0 && ranks[1] == 1 && ranks[2] == 2);
    must(&c, cluster_start(&c));
    c.worker[2].status = grawa_leave(c.worker[2].g);
    for (r = 0; r < 2; r++) c.worker[r].status = grawa_step(c.worker[r].g, fixed(&c.worker[r]));
    must(&c, cluster_settle(&c));
    ranks[0] = ranks[1] = ranks[2] = 9;
    ck_assert_uint_eq(grawa_members(c.worker[1].g, ranks, 1), 2);
    ck_assert(ranks[0] == 0 && ranks[1] == 9 && ranks[2] == 9);
    ck_assert_uint_eq(grawa_members(c.worker[1].g, NULL, 0), 2);
    ck_assert_int_eq(grawa_regroup(c.worker[0].g, &v), WEFT_ERR_PEER_LOST);
    ck_assert_uint_eq(grawa_detail(c.worker[0].g)->peer, 2);
    v.count = 2;
    v.members = rest;
    for (r = 0; r < 2; r++) /* the refused one has cost nothing */
        c.worker[r].status = grawa_regroup(c.worker[r].g, &v);
    must(&c, cluster_settle(&c));
    for (r = 0; r < 2; r++) ck_assert_int_eq(c.worker[r].status, WEFT_OK);
    close_cluster(&c);
}
END_TEST

/* ---- two objects on one transport ---- */

typedef struct pair {
    cluster_worker *a;
    grawa *b;
    weft_status sa, sb;
} pair;

static int pair_poll(void *user, uint32_t rank) {
    pair *p = (pair *)user;
    int first = (int)(weft_sim_random(&p->a->c->sim) % 2), i;
    (void)rank;
    for (i = 0; i < 2; i++) {
        if (i != first && p->sa == WEFT_AGAIN) p->sa = grawa_poll(p->a->g);
        if (i == first && p->sb == WEFT_AGAIN) p->sb = grawa_poll(p->b);
    }
    return p->sa != WEFT_AGAIN && p->sb != WEFT_AGAIN;
}

/* Two models, learnt at the same time over the same links, of other shapes and periods: each as if it were alone. */
START_TEST(objects_on_different_channels_share_a_transport) {
    static const size_t other_size[3] = {2000, 3, 900};
    uint64_t seed;
    for (seed = 1; seed <= 12; seed++) {
        uint64_t alone[2], both[2];
        int turn;
        for (turn = 0; turn < 3; turn++) { /* the first alone, the second alone, both */
            cluster c;
            cluster_desc d = small(N);
            weft_tensors params[N], grads[N];
            void *memory[N];
            pair p[N];
            uint32_t r;
            uint64_t step, h = 0, k = 0;
            d.sim = weft_sim_torture(seed, N);
            d.grawa.period_steps = 2;
            d.grawa.channel = 3;
            must(&c, cluster_open(&c, &d));
            for (r = 0; r < N; r++) {
                grawa_desc e;
                size_t bytes;
                memset(&e, 0, sizeof e);
                params[r] = cluster_tensors(3, other_size, NULL);
                grads[r] = cluster_tensors(3, other_size, NULL);
                cluster_fill(&params[r], 70 + r, 1);
                e.struct_size = sizeof e;
                e.params = params[r];
                e.transport = &c.worker[r].net;
                e.channel = WEFT_CHANNELS - 1;
                e.initial = GRAWA_INITIAL_COPY;
                e.weighting = GRAWA_BY_LAYER;
                e.period_steps = 3;
                bytes = grawa_memory(&e, NULL);
                memory[r] = malloc(bytes);
                ck_assert_int_eq(grawa_init(&p[r].b, &e, memory[r], bytes), WEFT_OK);
                p[r].a = &c.worker[r];
            }
            for (step = 0; step < 12; step++) {
                for (r = 0; r < N; r++) {
                    p[r].sa = p[r].sb = WEFT_OK;
                    cluster_fill(&grads[r], step * 5 + r, 1);
                    if (turn != 1) p[r].sa = grawa_step(c.worker[r].g, fixed(&c.worker[r]));
                    if (turn != 0) p[r].sb = grawa_step(p[r].b, &grads[r]);
                    weft_sim_worker(&c.sim, r, pair_poll, &p[r]);
                }
                if (weft_sim_run(&c.sim, 1000000) != WEFT_SIM_DONE)
                    ck_abort_msg("seed %llu: %s", (unsigned long long)seed, weft_sim_text(&c.sim));
                for (r = 0; r < N; r++) {
                    ck_assert_int_eq(p[r].sa, WEFT_OK);
                    ck_assert_int_eq(p[r].sb, WEFT_OK);
                }
            }
            for (r = 0; r < N; r++) {
                h = h * 31 + cluster_hash(&c.worker[r].params);
                k = k * 31 + cluster_hash(&params[r]);
            }
            if (turn == 0) alone[0] = h;
            if (turn == 1) alone[1] = k;
            if (turn == 2) both[0] = h, both[1] = k;
            for (r = 0; r < N; r++) {
                grawa_close(p[r].b);
                free(memory[r]);
                cluster_tensors_free(&params[r]);
                cluster_tensors_free(&grads[r]);
            }
            close_cluster(&c);
        }
        ck_assert_uint_eq(both[0], alone[0]);
        ck_assert_uint_eq(both[1], alone[1]);
    }
}
END_TEST

/* ---- partial rounds ---- */

START_TEST(a_round_goes_on_without_a_late_worker_who_joins_the_next) {
    uint32_t late;
    for (late = 1; late < 4; late++) { /* the lowest rank keeps the time */
        cluster c;
        cluster_desc d = small(4);
        uint64_t hash, begun;
        uint32_t r;
        d.grawa.partial_deadline_ns = 1000000;
        open_cluster(&c, &d);
        hash = cluster_hash(&c.worker[late].params);
        begun = weft_sim_now(&c.sim);
        CLUSTER_EACH(&c, w, w->rank == late ? WEFT_OK : grawa_step(w->g, fixed(w)));
        for (r = 0; r < 4; r++)
            if (r != late) ck_assert_int_eq(c.worker[r].status, WEFT_AGAIN);
        while (weft_sim_now(&c.sim) < begun + 1200000) {
            cluster_advance(&c, 50000);
            if (c.worker[0].status == WEFT_AGAIN) c.worker[0].status = grawa_poll(c.worker[0].g);
            if (weft_sim_now(&c.sim) < begun + 1000000)
                for (r = 0; r < 4; r++) ck_assert_uint_eq(stats(&c, r).rounds, 0); /* not yet */
        }
        for (r = 0; r < 4; r++) {
            grawa_stats_t s = stats(&c, r);
            ck_assert_int_eq(c.worker[r].status, WEFT_OK);
            ck_assert_uint_eq(s.rounds, r != late);
            ck_assert_uint_eq(s.rounds_missed, r == late);
            if (r != late) ck_assert_uint_eq(s.participants, 3);
        }
        ck_assert_double_eq(weight(&c, late, 0), 0); /* the survivors' weights add up to one */
        ck_assert_double_eq_tol(weight(&c, 0, 0) + weight(&c, 1, 0) + weight(&c, 2, 0) + weight(&c, 3, 0), 1, 1e-14);
        ck_assert_uint_eq(hash, cluster_hash(&c.worker[late].params)); /* it has lost nothing */
        /* now all are in time, and take part */
        must(&c, cluster_steps(&c, 1));
        for (r = 0; r < 4; r++) {
            ck_assert_uint_eq(stats(&c, r).participants, 4);
            ck_assert_uint_eq(stats(&c, r).rounds, r == late ? 1 : 2);
            ck_assert_double_gt(weight(&c, r, 0), 0);
        }
        ck_assert_uint_ne(hash, cluster_hash(&c.worker[late].params));
        close_cluster(&c);
    }
}
END_TEST

START_TEST(a_slow_worker_takes_part_whenever_it_is_in_time) {
    cluster c;
    cluster_desc d = small(4);
    journal j;
    uint32_t r;
    memset(&j, 0, sizeof j);
    j.want = UINT64_MAX;
    d.grawa.partial_deadline_ns = 2000000;
    d.grawa.period_steps = 2;
    d.grawa.check_replicas = 1;
    d.train = cluster_noise;
    open_cluster(&c, &d);
    for (r = 0; r < 4; r++) {
        c.worker[r].step_ns = r == 2 ? 7000000 : 1000000;
        c.worker[r].poll_every_ns = 100000;
        c.worker[r].leaves = 1;
    }
    for (r = 0; r < 4; r++) weft_sim_worker(&c.sim, r, cluster_turn, &c.worker[r]);
    for (r = 0; r < 4; r++) c.worker[r].goal = r == 2 ? 12 : 60;
    ck_assert_int_eq(weft_sim_run(&c.sim, 1000000), WEFT_SIM_DONE);
    must(&c, !c.why[0]);
    for (r = 0; r < 4; r++) {
        grawa_stats_t s = stats(&c, r);
        if (r == 2) {
            ck_assert_uint_gt(s.rounds_missed, 5);
            ck_assert_uint_eq(s.rounds, 6); /* every arrival of its own came to something */
        } else {
            ck_assert_uint_eq(s.rounds, 30);
            ck_assert_uint_eq(s.rounds_missed, 0);
        }
    }
    close_cluster(&c);
}
END_TEST

static void until_the_bell(cluster_worker *w) {
    if (w->back_ns > 100000000) w->goal = w->step; /* and then it leaves */
    w->step_ns = drawn_ns(w->c->desc.sim.seed, w->rank, w->step);
}

START_TEST(partial_rounds_under_the_total_trigger_leave_nobody_behind) {
    uint64_t seed;
    for (seed = 1; seed <= 40; seed++) {
        uint32_t n = 2 + (uint32_t)seed % 5, r;
        cluster c;
        cluster_desc d = small(n);
        d.sim = weft_sim_torture(seed, n);
        d.grawa.trigger = GRAWA_TRIGGER_TOTAL;
        d.grawa.period_steps = 1 + (uint32_t)seed % 4;
        d.grawa.partial_deadline_ns = 300000 + seed * 50000;
        d.grawa.check_replicas = 1;
        d.train = cluster_noise;
        d.back = until_the_bell;
        open_cluster(&c, &d);
        for (r = 0; r < n; r++) {
            c.worker[r].step_ns = drawn_ns(seed, r, 0);
            c.worker[r].poll_every_ns = 100000;
            c.worker[r].leaves = 1;
        }
        must(&c, cluster_run(&c, UINT64_MAX / 2));
        for (r = 0; r < n; r++) {
            grawa_stats_t s = stats(&c, r);
            if (s.rounds < 3) /* a step of the slowest takes 5 ms at most, the whole 100 */
                ck_abort_msg("seed %llu: worker %u of %u: %llu rounds, %llu missed", (unsigned long long)seed, r, n,
                             (unsigned long long)s.rounds, (unsigned long long)s.rounds_missed);
        }
        close_cluster(&c);
    }
}
END_TEST

static Suite *suite(void) {
    Suite *s = suite_create("grawa_trainer");
    TCase *t = tcase_create("with your trainer");
    tcase_set_timeout(t, 30);
    tcase_add_loop_test(t, moments_stay_local_and_the_pull_is_the_same_at_any_learning_rate, 0, 6);
    tcase_add_test(t, with_weight_decay_in_the_gradient_or_not);
    tcase_add_test(t, accumulated_gradients_count_once_and_common_factors_cancel);
    tcase_add_test(t, clipping_before_the_call_hides_the_norms_after_it_does_not);
    tcase_add_loop_test(t, a_loss_scale_is_taken_out_of_the_norm, 0, 2);
    tcase_add_test(t, a_skipped_step_counts_and_the_norm_of_the_last_round_stands_in);
    tcase_add_test(t, the_gradient_is_looked_at_when_it_closes_the_period_and_not_before);
    tcase_add_loop_test(t, a_skipped_period_leaves_the_norm_of_the_last_round, 0, 2);
    tcase_add_test(t, absent_gradients_add_nothing_by_model_and_have_no_say_by_layer);
    tcase_add_test(t, tied_weights_listed_twice_are_refused);
    tcase_add_loop_test(t, averages_are_formed_without_touching_any_model_and_statistics_only_there, 0, 2);
    tcase_add_test(t, a_model_that_is_not_finite_spoils_no_average);
    tcase_add_test(t, an_average_between_rounds_is_of_the_present_models);
    suite_add_tcase(s, t);
    t = tcase_create("schedules");
    tcase_add_test(t, a_new_pull_takes_effect_in_the_next_round);
    tcase_add_test(t, a_new_period_takes_effect_at_the_next_round);
    tcase_add_test(t, a_new_proximal_pull_takes_effect_at_the_next_round);
    tcase_add_test(t, the_defaults_can_be_read_back);
    tcase_add_test(t, setters_wait_for_the_end_of_a_round);
    suite_add_tcase(s, t);
    t = tcase_create("beginning");
    tcase_add_loop_test(t, check_refuses_unequal_parameters_and_names_both_hashes, 0, 2);
    tcase_add_test(t, copy_gives_everybody_the_parameters_of_one_rank);
    tcase_add_loop_test(t, average_gives_everybody_the_mean, 0, 2);
    tcase_add_test(t, keep_leaves_everybody_its_own);
    tcase_add_loop_test(t, the_first_anchor_is_what_was_settled, 0, 2);
    tcase_add_loop_test(t, first_contact_by_the_first_step_is_the_same_round, 0, 3);
    tcase_add_test(t, other_settings_are_refused_by_name);
    tcase_add_test(t, schedules_are_no_part_of_the_fingerprint);
    suite_add_tcase(s, t);
    t = tcase_create("probe");
    tcase_add_test(t, a_probe_is_asked_for_once_a_round_at_the_current_model);
    tcase_add_test(t, a_worker_without_a_probe_has_no_say_in_its_first_round);
    suite_add_tcase(s, t);
    t = tcase_create("pace");
    tcase_set_timeout(t, 30);
    tcase_add_loop_test(t, fast_workers_take_more_steps_and_nobody_waits_longer_than_one_step_of_the_slowest, 0, 4);
    tcase_add_test(t, steps_and_rounds_are_those_of_the_published_rule);
    tcase_add_test(t, the_total_trigger_ends_whatever_the_speeds_and_the_network);
    tcase_add_test(t, any_worker_may_be_lost_and_the_others_go_on_counting);
    tcase_add_test(t, a_worker_out_of_data_leaves_and_the_others_go_on);
    tcase_add_test(t, who_has_left_is_not_named_again);
    tcase_add_test(t, objects_on_different_channels_share_a_transport);
    tcase_add_test(t, a_round_goes_on_without_a_late_worker_who_joins_the_next);
    tcase_add_test(t, partial_rounds_under_the_total_trigger_leave_nobody_behind);
    tcase_add_test(t, a_slow_worker_takes_part_whenever_it_is_in_time);
    suite_add_tcase(s, t);
    return s;
}

int main(void) {
    SRunner *r = srunner_create(suite());
    int failed;
    srunner_run_all(r, CK_NORMAL);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
