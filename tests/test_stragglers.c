/* SPDX-License-Identifier: MIT
 * The rules that bench-stragglers compares: what their averagings do to parameters, that nothing but gradients moves
 * the mean, that they agree where theory says so, and the problem that they are run on. */
#define _POSIX_C_SOURCE 200809L
#define DSGD_AAU_IMPLEMENTATION
#include "../dsgd_aau.h"

#include "weft_pace.h"
#include "weft_sim.h"

#include "../bench/stragglers/methods.h"

#include "train/util.c"

#include <check.h>

enum { MOST = 24 };

/* ---- mixing matrices ---- */

/* Rows are workers; as parameters, the unit vectors: what a rule makes of them is its matrix. */
static void units(double *x, uint32_t n) {
    memset(x, 0, (size_t)n * n * sizeof *x);
    for (uint32_t i = 0; i < n; i++) x[i * n + i] = 1.0;
}

static void ck_doubly_stochastic(const double *x, uint32_t n) {
    for (uint32_t i = 0; i < n; i++) {
        double row = 0.0, column = 0.0;
        for (uint32_t j = 0; j < n; j++) {
            row += x[i * n + j];
            column += x[j * n + i];
            ck_assert(x[i * n + j] >= 0.0);
        }
        ck_assert_double_eq_tol(row, 1.0, 1e-14);
        ck_assert_double_eq_tol(column, 1.0, 1e-14);
        ck_assert(x[i * n + i] > 0.0);
    }
}

START_TEST(weights_are_doubly_stochastic) {
    static double x[MOST * MOST], w[MOST * MOST], scratch[MOST * MOST];
    const uint32_t n = MOST;
    weft_graph g;
    void *memory = graph_open(&g, n, (uint64_t)_i + 1);
    rng r = rng_make((uint64_t)_i, 1, 0);
    for (int round = 0; round < 50; round++) {
        uint32_t who[MOST], count = 0;
        unsigned char in[MOST] = {0};
        for (uint32_t i = 0; i < n; i++)
            if (round == 0 || rng_uniform(&r) < 0.4) { /* the first: synchronous DSGD */
                who[count++] = i;
                in[i] = 1;
            }
        units(x, n);
        if (count) ck_assert(dsgd_aau_weights(&g, who, count, w) == WEFT_OK);
        mix_by_weights(x, n, who, count, w, scratch);
        ck_doubly_stochastic(x, n);
        for (uint32_t i = 0; i < n; i++)
            for (uint32_t j = 0; j < n; j++) {
                const int may = i == j || (in[i] && in[j] && weft_graph_has_edge(&g, i, j));
                ck_assert((x[i * n + j] > 0.0) == may); /* whoever does not take part keeps what it has */
                ck_assert_double_eq_tol(x[i * n + j], x[j * n + i], 1e-15);
            }
    }
    free(memory);
}
END_TEST

START_TEST(pairs_and_groups_are_doubly_stochastic) {
    static double x[MOST * MOST];
    const uint32_t who[4] = {2, 3, 11, 17};
    units(x, MOST);
    mix_pair(x, MOST, 3, 7);
    ck_doubly_stochastic(x, MOST);
    ck_assert(x[3 * MOST + 7] == 0.5 && x[7 * MOST + 3] == 0.5 && x[3 * MOST + 3] == 0.5 && x[4 * MOST + 4] == 1.0);
    mix_group(x, MOST, who, 4); /* a product of two is again */
    ck_doubly_stochastic(x, MOST);
    for (int k = 1; k < 4; k++) ck_assert(!memcmp(x + 2 * MOST, x + who[k] * MOST, MOST * sizeof *x));
    ck_assert(x[2 * MOST + 11] == 0.25 && x[11 * MOST + 7] == 0.125 && x[7 * MOST + 3] == 0.5);
}
END_TEST

/* Parcels go off and come later, in another order: what left a worker (a column) is all there, and the weights are
 * what the same matrix makes of ones. */
START_TEST(push_sum_is_column_stochastic) {
    static double x[MOST * MOST], parcel[10][MOST];
    double weight[MOST], parcel_weight[10];
    uint32_t to[10];
    rng r = rng_make(7, 1, 0);
    units(x, MOST);
    for (uint32_t i = 0; i < MOST; i++) weight[i] = 1.0;
    for (int k = 0; k < 2000; k++) {
        const int slot = k % 10;
        const uint32_t from = rng_below(&r, MOST);
        if (k >= 10) push_take(x + to[slot] * MOST, &weight[to[slot]], parcel[slot], parcel_weight[slot], MOST);
        push_off(x + from * MOST, &weight[from], parcel[slot], &parcel_weight[slot], MOST);
        to[slot] = rng_below(&r, MOST);
    }
    for (uint32_t j = 0; j < MOST; j++) {
        double column = 0.0, row = 0.0;
        for (uint32_t i = 0; i < MOST; i++) {
            column += x[i * MOST + j];
            row += x[j * MOST + i];
        }
        for (int k = 0; k < 10; k++) column += parcel[k][j];
        ck_assert_double_eq_tol(column, 1.0, 1e-12);
        ck_assert_double_eq_tol(row, weight[j], 1e-12);
        ck_assert(weight[j] > 0.0);
    }
}
END_TEST

/* ---- whole runs ---- */

/* Everything that a run wants; bench_close frees it. */
typedef struct bench {
    weft_graph graph;
    weft_pace pace;
    void *memory;
    task task;
    trial trial;
    outcome out;
} bench;

static void bench_open(bench *b, uint32_t workers, uint64_t seed, double straggling) {
    const logistic_desc d = logistic_noniid(workers, seed);
    memset(b, 0, sizeof *b);
    b->memory = graph_open(&b->graph, workers, seed);
    b->pace = straggling < 0.0 ? weft_pace_default() : pace_of(straggling, 10.0);
    logistic_open(&b->task, &d);
    b->trial.task = &b->task;
    b->trial.graph = &b->graph;
    b->trial.pace = &b->pace;
    b->trial.seed = seed;
    b->trial.eta = 0.2;
    b->trial.cost = 0.05;
    b->trial.goal = task_goal(&b->task, 0.02);
    b->trial.interval = 0.25;
    b->trial.horizon = 4000.0;
    b->trial.last = (double *)new_array(workers * b->task.dim, sizeof(double));
}

static void bench_close(bench *b) {
    free(b->trial.last);
    free(b->memory);
    logistic_close(&b->task);
}

static const uint32_t sizes[] = {1, 2, 3, 4, 5, 16};
enum { SIZES = sizeof sizes / sizeof *sizes };

/* Under every rule with one eye: all reach the target, and the mean has moved by gradients only. */
START_TEST(gradients_alone_move_the_mean) {
    const method m = (method)(_i / SIZES);
    bench b;
    if (m == AAU_PROTOCOL) return;
    bench_open(&b, sizes[_i % SIZES], 3, 0.1);
    method_run(m, &b.trial, &b.out);
    ck_assert_msg(isfinite(b.out.t_mean) && isfinite(b.out.t_all), "%s, %u workers", method_name[m], sizes[_i % SIZES]);
    ck_assert(b.out.t_all >= b.out.t_mean && b.out.t_mean > 50.0);
    ck_assert_double_le(b.out.leak, 1e-12);
    ck_assert(b.out.steps > 0 && b.out.rate > 0.0 && b.out.idle > -0.02 && b.out.idle < 1.0);
    ck_assert(b.out.points > 10 && b.out.points <= CURVE_POINTS);
    for (size_t i = 1; i < b.out.points; i++) ck_assert(b.out.time[i] > b.out.time[i - 1]);
    if (m != AGP) { /* there a model is x / weight */
        const uint32_t n = sizes[_i % SIZES];
        double all = 0.0;
        for (uint32_t j = 0; j < n; j++) all += b.task.value(&b.task, b.trial.last + j * LOGISTIC_DIM) / n;
        ck_assert_double_le(all, b.trial.goal); /* that is what it has stopped for */
    }
    bench_close(&b);
}
END_TEST

START_TEST(push_sum_keeps_all_weight) {
    double weights = 0.0;
    bench b;
    bench_open(&b, 16, (uint64_t)_i + 1, 0.1);
    b.trial.horizon = 500.0;
    ideal_agp_weights(&b.trial, &b.out, &weights);
    ck_assert_double_eq_tol(weights, 16.0, 1e-12);
    bench_close(&b);
}
END_TEST

/* A worker serves its groups in the order in which they were made: the second waits for the first, even if all its
 * members are there. */
START_TEST(groups_are_in_order) {
    prague_group group[2] = {{{0, 1, 2, 3}, 4, {PRAGUE_NONE, PRAGUE_NONE, PRAGUE_NONE, 1}},
                             {{3, 4, 5, 6}, 4, {PRAGUE_NONE, PRAGUE_NONE, PRAGUE_NONE, PRAGUE_NONE}}};
    size_t head[7] = {0, 0, 0, 0, 1, 1, 1};
    unsigned char ready[7] = {1, 1, 0, 1, 1, 1, 1};
    prague p;
    bench b;
    bench_open(&b, 7, 1, 0.1);
    memset(&p, 0, sizeof p);
    field_open(&p.f, &b.trial, &b.out);
    p.group = group;
    p.groups = 2;
    p.head = head;
    p.ready = ready;
    prague_try(&p, 1);
    prague_try(&p, 0);
    ck_assert_uint_eq(p.f.queue.count, 0);
    ready[2] = 1;
    prague_try(&p, 1);
    ck_assert_uint_eq(p.f.queue.count, 0);
    prague_try(&p, 0);
    ck_assert_uint_eq(p.f.queue.count, 1);
    ck_assert(events_pop(&p.f.queue).step == 0 && !ready[0] && !ready[3] && ready[4]);
    prague_mix(&p, 0); /* three go on, the fourth is in the second group at once */
    ck_assert_uint_eq(p.f.queue.count, 4);
    ck_assert(head[0] == PRAGUE_NONE && head[3] == 1 && !ready[3] && !ready[4]);
    for (int i = 0; i < 4; i++) {
        const event e = events_pop(&p.f.queue);
        if (i == 0)
            ck_assert(e.kind == EVENT_MIX && e.step == 1 && e.at == 0.05);
        else
            ck_assert(e.kind == EVENT_FINISH && e.who < 3);
    }
    field_close(&p.f);
    bench_close(&b);
}
END_TEST

/* As long as all workers are equally fast, the paper's rule is synchronous DSGD: bit for bit, since both mix by the
 * same weights. And not when they are not, unless there are only two. */
START_TEST(equal_speeds_are_synchronous) {
    static outcome other;
    double *last;
    bench b;
    bench_open(&b, sizes[_i], 5, -1.0);
    b.trial.horizon = 30.0;
    last = b.trial.last;
    ideal_aau(&b.trial, &b.out);
    b.trial.last = (double *)new_array(sizes[_i] * b.task.dim, sizeof(double));
    ideal_dsgd(&b.trial, &other);
    ck_assert(!memcmp(last, b.trial.last, sizes[_i] * b.task.dim * sizeof(double)));
    ck_assert(b.out.averagings == 28.0 && b.out.averagings == other.averagings); /* of 1.05 s */
    if (sizes[_i] > 1) ck_assert(b.out.epochs == other.epochs);
    ck_assert(b.out.steps == other.steps && b.out.averaged == other.averaged && b.out.sent == other.sent);
    b.pace = pace_of(0.1, 10.0);
    ideal_dsgd(&b.trial, &other);
    memcpy(last, b.trial.last, sizes[_i] * b.task.dim * sizeof(double));
    ideal_aau(&b.trial, &b.out);
    ck_assert(!memcmp(last, b.trial.last, sizes[_i] * b.task.dim * sizeof(double)) == (sizes[_i] <= 2));
    free(last);
    bench_close(&b);
}
END_TEST

/* Every iteration of an epoch joins at least two parts. */
START_TEST(epochs_are_short) {
    bench b;
    bench_open(&b, 16, (uint64_t)_i + 1, 0.1);
    b.trial.horizon = b.trial.plateau_from = 300.0;
    b.trial.goal = -1.0;
    ideal_aau(&b.trial, &b.out);
    ck_assert(b.out.epochs > 10.0 && b.out.averagings >= b.out.epochs);
    ck_assert(b.out.averagings <= 15.0 * (b.out.epochs + 1.0));
    bench_close(&b);
}
END_TEST

/* One worker alone trains as if there were no rule. (AD-PSGD reads before its last gradient is applied.) */
START_TEST(alone_all_are_sgd) {
    static const method of[] = {AAU_IDEAL, AAU_PROTOCOL, DSGD, PRAGUE, AGP};
    double x[LOGISTIC_DIM], g[LOGISTIC_DIM], t = 0.0;
    uint64_t step = 0;
    bench b;
    bench_open(&b, 1, 11, 0.1);
    b.trial.cost = 0.0;
    b.trial.horizon = 60.0;
    method_run(of[_i], &b.trial, &b.out);
    logistic_start(&b.task, x);
    while (step < b.out.steps) {
        t += weft_pace_draw(&b.pace, 11, 0, step);
        logistic_gradient(&b.task, 0, 11, step++, x, g);
        for (size_t k = 0; k < LOGISTIC_DIM; k++) x[k] -= 0.2 * g[k];
    }
    ck_assert(b.out.steps > 20 && t <= 60.3 && t + 11.0 > 60.0);
    ck_assert(!memcmp(x, b.trial.last, sizeof x));
    bench_close(&b);
}
END_TEST

/* What is drawn for a worker's step depends on nothing else, so that all rules are given the same. */
START_TEST(a_seed_gives_one_run) {
    static outcome again;
    bench b;
    bench_open(&b, 5, 21, 0.1);
    b.trial.horizon = 100.0;
    method_run((method)_i, &b.trial, &b.out);
    method_run((method)_i, &b.trial, &again);
    ck_assert(b.out.steps == again.steps && b.out.end == again.end);
    ck_assert(b.out.points == again.points);
    ck_assert(!memcmp(b.out.share, again.share, again.points * sizeof *again.share));
    b.trial.seed++;
    method_run((method)_i, &b.trial, &again);
    ck_assert(memcmp(b.out.share, again.share, 20 * sizeof *again.share));
    bench_close(&b);
}
END_TEST

/* The objects over a network do what the rule does with one eye, a little later. */
START_TEST(the_protocol_is_near_the_rule) {
    static outcome real;
    bench b;
    bench_open(&b, 16, (uint64_t)_i + 1, 0.1);
    b.trial.only_mean = 1;
    ideal_aau(&b.trial, &b.out);
    method_run(AAU_PROTOCOL, &b.trial, &real);
    ck_assert_msg(real.t_mean > 0.8 * b.out.t_mean && real.t_mean < 1.25 * b.out.t_mean, "%g and %g", real.t_mean,
                  b.out.t_mean);
    ck_assert(real.epochs > 5.0 && real.control_messages > real.steps && real.sent > 0.3);
    ck_assert(outcome_participations(&real) > real.steps * 9 / 10); /* every step is an averaging, or alone */
    ck_assert(outcome_participations(&real) <= real.steps);
    bench_close(&b);
}
END_TEST

/* Two workers that finish at once: their averagings are one after the other, each followed by the gradient of the one
 * that began it, taken at the start. */
START_TEST(adpsgd_averages_and_then_steps) {
    double x[LOGISTIC_DIM] = {0}, g[2][LOGISTIC_DIM];
    bench b;
    bench_open(&b, 2, 1, -1.0);
    b.trial.horizon = 1.3;
    ideal_adpsgd(&b.trial, &b.out);
    for (uint32_t j = 0; j < 2; j++) logistic_gradient(&b.task, j, 1, 0, x, g[j]);
    for (size_t k = 0; k < LOGISTIC_DIM; k++) {
        ck_assert_double_eq_tol(b.trial.last[k], -0.1 * g[0][k], 1e-15);
        ck_assert_double_eq_tol(b.trial.last[LOGISTIC_DIM + k], -0.1 * g[0][k] - 0.2 * g[1][k], 1e-15);
    }
    ck_assert(b.out.steps == 2 && b.out.age_writes == 1.5); /* one and two averagings */
    bench_close(&b);
}
END_TEST

/* AD-PSGD's gradients are of older parameters; nobody writes into those of the others while they compute. */
START_TEST(ages) {
    bench b;
    bench_open(&b, 16, 2, 0.1);
    b.trial.horizon = b.trial.plateau_from = 200.0;
    ideal_adpsgd(&b.trial, &b.out);
    /* the last gradient and its averaging, its own averaging, and on average one that a neighbour has begun */
    ck_assert_double_eq_tol(b.out.age_writes, 4.0, 0.2);
    ck_assert(b.out.age_seconds > 1.5 && fabs(b.out.idle) < 0.02);
    ideal_aau(&b.trial, &b.out);
    ck_assert(b.out.age_writes == 0.0 && b.out.age_seconds > 1.5);
    bench_close(&b);
}
END_TEST

/* ---- the problem ---- */

START_TEST(the_minimum_is_one) {
    double g[LOGISTIC_DIM], h[LOGISTIC_DIM][LOGISTIC_DIM], x[LOGISTIC_DIM];
    const logistic_desc d = _i ? logistic_noisy(4, 9) : logistic_noniid(4, 9);
    task t;
    const logistic *p;
    rng r = rng_make(1, 2, 3);
    logistic_open(&t, &d);
    p = (const logistic *)t.self;
    ck_assert_double_eq_tol(t.first, log(2.0), 1e-14);
    ck_assert(t.least > 0.1 && t.least < 0.6);
    ck_assert(t.value(&t, p->best) == t.least);
    logistic_derivatives(p, p->best, g, h);
    for (size_t k = 0; k < LOGISTIC_DIM; k++) ck_assert_double_eq_tol(g[k], 0.0, 1e-12);
    for (int i = 0; i < 100; i++) { /* nothing near or far is below */
        for (size_t k = 0; k < LOGISTIC_DIM; k++)
            x[k] = p->best[k] + (2.0 * rng_uniform(&r) - 1.0) * (i < 50 ? 1e-3 : 1.0);
        ck_assert(t.value(&t, x) > t.least);
    }
    logistic_derivatives(p, x, g, h); /* against differences of values */
    for (size_t k = 0; k < LOGISTIC_DIM; k++) {
        const double keep = x[k];
        double up, down;
        x[k] = keep + 1e-5;
        up = t.value(&t, x);
        x[k] = keep - 1e-5;
        down = t.value(&t, x);
        x[k] = keep;
        ck_assert_double_eq_tol(g[k], (up - down) / 2e-5, 1e-8);
    }
    logistic_close(&t);
}
END_TEST

/* Over many draws, what workers see is the gradient of the whole. */
START_TEST(gradients_are_unbiased) {
    enum { DRAWS = 20000 };
    double g[LOGISTIC_DIM], h[LOGISTIC_DIM][LOGISTIC_DIM], x[LOGISTIC_DIM], one[LOGISTIC_DIM];
    double sum[LOGISTIC_DIM] = {0}, square[LOGISTIC_DIM] = {0};
    const logistic_desc d = _i ? logistic_noisy(2, 4) : logistic_noniid(2, 4);
    task t;
    logistic_open(&t, &d);
    for (size_t k = 0; k < LOGISTIC_DIM; k++) x[k] = 0.1 * (double)k - 1.0;
    logistic_derivatives((const logistic *)t.self, x, g, h);
    for (uint64_t i = 0; i < DRAWS; i++) {
        double both[LOGISTIC_DIM];
        t.gradient(&t, 0, 5, i, x, both);
        t.gradient(&t, 1, 5, i, x, one);
        for (size_t k = 0; k < LOGISTIC_DIM; k++) {
            both[k] = 0.5 * (both[k] + one[k]);
            sum[k] += both[k] / DRAWS;
            square[k] += both[k] * both[k] / DRAWS;
        }
    }
    for (size_t k = 0; k < LOGISTIC_DIM; k++) {
        const double error = sqrt((square[k] - sum[k] * sum[k]) / DRAWS);
        ck_assert(error > 0.0 && error < 0.02);
        ck_assert_double_eq_tol(sum[k], g[k], 5.0 * error);
    }
    logistic_close(&t);
}
END_TEST

int main(void) {
    Suite *s = suite_create("stragglers");
    TCase *c = tcase_create("mixing");
    SRunner *r;
    int failed;
    tcase_add_loop_test(c, weights_are_doubly_stochastic, 0, 5);
    tcase_add_test(c, pairs_and_groups_are_doubly_stochastic);
    tcase_add_test(c, push_sum_is_column_stochastic);
    suite_add_tcase(s, c);
    c = tcase_create("runs");
    tcase_set_timeout(c, 120);
    tcase_add_loop_test(c, gradients_alone_move_the_mean, 0, METHODS * SIZES);
    tcase_add_loop_test(c, push_sum_keeps_all_weight, 0, 3);
    tcase_add_test(c, groups_are_in_order);
    tcase_add_loop_test(c, equal_speeds_are_synchronous, 0, SIZES);
    tcase_add_loop_test(c, epochs_are_short, 0, 3);
    tcase_add_loop_test(c, alone_all_are_sgd, 0, 5);
    tcase_add_loop_test(c, a_seed_gives_one_run, 0, METHODS);
    tcase_add_loop_test(c, the_protocol_is_near_the_rule, 0, 3);
    tcase_add_test(c, adpsgd_averages_and_then_steps);
    tcase_add_test(c, ages);
    suite_add_tcase(s, c);
    c = tcase_create("problem");
    tcase_add_loop_test(c, the_minimum_is_one, 0, 2);
    tcase_add_loop_test(c, gradients_are_unbiased, 0, 2);
    suite_add_tcase(s, c);
    r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
