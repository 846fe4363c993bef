/* SPDX-License-Identifier: MIT
 * test_grawa.c: what GRAWA promises as an algorithm: the facts P1 to P12 of its specification over many random cases,
 * agreement with a plain model of it, the same bits however it is carried out, and how many bytes a round moves. */
#define GRAWA_IMPLEMENTATION
#include "../grawa.h"
#include "cluster.h"
#include "grawa_model.h"
#include "../examples/transports/weft_threads.h"

#include <check.h>
#include <pthread.h>
#include <stdio.h>

#define MOST_WORKERS 9
#define MOST_TENSORS 8

/* ---- a game: a cluster with prescribed gradients ---- */

typedef struct game {
    uint64_t seed;
    cluster_desc d;
    cluster c;
    size_t count[MOST_TENSORS];
    weft_dtype dtype[MOST_TENSORS], grad_dtype[MOST_TENSORS];
    uint32_t group_of[MOST_TENSORS];
    uint32_t plays[MOST_WORKERS];                 /* whose parameters and gradients rank r has */
    double scale[MOST_WORKERS];                   /* of the gradients of player p */
    double factor;                                /* of everybody's gradients */
    uint64_t repeat;                              /* gradients come again after so many steps; 0: never */
    int same;                                     /* everybody has the same gradient */
    int strange;                                  /* some gradients are zero, absent or not finite */
    weft_tensor list[MOST_WORKERS][MOST_TENSORS]; /* a gradient with absent tensors */
    weft_tensors view[MOST_WORKERS];
} game;

#define must(g, e)                                                                                                     \
    do {                                                                                                               \
        if (!(e)) ck_abort_msg("%s", (g)->c.why[0] ? (g)->c.why : #e);                                                 \
    } while (0)
#define want(g, e, ...)                                                                                                \
    do {                                                                                                               \
        if (!(e)) {                                                                                                    \
            char text[200];                                                                                            \
            snprintf(text, sizeof text, __VA_ARGS__);                                                                  \
            ck_abort_msg("seed %llu: %s: %s", (unsigned long long)(g)->seed, #e, text);                                \
        }                                                                                                              \
    } while (0)

static int game_prepare(cluster_worker *w) {
    game *g = (game *)w->user;
    cluster_fill(&w->params, g->seed * 31 + 7 + g->plays[w->rank], 1.0);
    return 1;
}

/* The gradient of a player at a step; the parameters stay. */
static const weft_tensors *game_grads(cluster_worker *w) {
    game *g = (game *)w->user;
    uint32_t player = g->plays[w->rank];
    uint64_t step = g->repeat ? w->step % g->repeat : w->step,
             rng = g->seed * 1000 + step * 37 + (g->same ? 0 : player);
    size_t t;
    cluster_fill(&w->grads, cluster_draw(&rng), g->factor * (g->same ? 1.0 : g->scale[player]));
    if (!g->strange) return &w->grads;
    rng = g->seed * 77 + step * 101 + player;
    for (t = 0; t < w->grads.count; t++) {
        g->list[w->rank][t] = w->grads.tensor[t];
        if (w->grads.tensor[t].count == 0) continue;
        switch (cluster_below(&rng, 8)) {
        case 0:
            memset(w->grads.tensor[t].data, 0, w->grads.tensor[t].count * weft_dtype_bytes(w->grads.tensor[t].dtype));
            break;
        case 1: g->list[w->rank][t].data = NULL; break;
        case 2:
            cluster_set(&w->grads.tensor[t], cluster_below(&rng, (uint32_t)w->grads.tensor[t].count), (double)INFINITY);
            break;
        case 3:
            cluster_set(&w->grads.tensor[t], cluster_below(&rng, (uint32_t)w->grads.tensor[t].count), (double)NAN);
            break;
        }
    }
    g->view[w->rank].tensor = g->list[w->rank];
    g->view[w->rank].count = w->grads.count;
    return &g->view[w->rank];
}

/* A random shape and setting; one step a round. */
static void game_draw(game *g, uint64_t seed, uint32_t workers, size_t tensors) {
    uint64_t rng = seed * 0x9E3779B9u + 1;
    static const size_t sizes[] = {0, 1, 3, 16, 17, 100, 300};
    size_t t;
    memset(g, 0, sizeof *g);
    g->seed = seed;
    g->d = cluster_default(seed, workers);
    g->d.tensors = tensors;
    g->d.count = g->count;
    g->d.dtype = g->dtype;
    g->d.grad_dtype = g->grad_dtype;
    g->d.user = g;
    g->d.prepare = game_prepare;
    g->d.train = game_grads;
    g->d.probe = game_grads;
    g->d.grawa.period_steps = 1;
    g->d.grawa.initial = GRAWA_INITIAL_KEEP;
    g->factor = 1;
    for (t = 0; t < tensors; t++) g->count[t] = sizes[cluster_below(&rng, 7)];
    if (tensors && !g->count[0]) g->count[0] = 5;
    for (t = 0; t < workers; t++) {
        g->plays[t] = (uint32_t)t;
        g->scale[t] = exp(2 * cluster_uniform(&rng));
    }
}

static uint32_t draw_workers(uint64_t seed) {
    return 1 + (uint32_t)(seed * 7919 % MOST_WORKERS);
}

static void game_open(game *g) {
    must(g, cluster_open(&g->c, &g->d) && cluster_start(&g->c));
}
static void game_close(game *g) {
    must(g, cluster_close(&g->c));
}

static size_t elements(const game *g) {
    size_t t, n = 0;
    for (t = 0; t < g->d.tensors; t++) n += g->count[t];
    return n;
}

/* Everybody's parameters, as doubles: [rank][element]. */
static double *snapshot(const game *g) {
    size_t n = elements(g), k = 0, t, i;
    double *x = (double *)malloc((g->c.size * n + 1) * sizeof *x);
    uint32_t r;
    for (r = 0; r < g->c.size; r++)
        for (t = 0; t < g->d.tensors; t++)
            for (i = 0; i < g->count[t]; i++) x[k++] = cluster_get(&g->c.worker[r].params.tensor[t], i);
    return x;
}

/* How much one rounding may be off, relative. */
static double unit(weft_dtype d) {
    return d == WEFT_F32 ? 0x1p-24 : d == WEFT_F64 ? 0x1p-53 : d == WEFT_BF16 ? 0x1p-8 : 0x1p-11;
}

static size_t group_of(const game *g, size_t tensor) {
    if (g->d.grawa.weighting != GRAWA_BY_LAYER) return 0;
    return g->d.grawa.group_of_tensor ? g->group_of[tensor] : tensor;
}

static double beta(const game *g, uint32_t rank, size_t tensor) {
    return grawa_weight(g->c.worker[0].g, rank, (uint32_t)group_of(g, tensor));
}

static void draw_types(game *g, uint64_t seed) {
    uint64_t rng = seed + 99;
    size_t t;
    for (t = 0; t < MOST_TENSORS; t++) {
        g->dtype[t] = (weft_dtype)cluster_below(&rng, 4);
        g->grad_dtype[t] = (weft_dtype)cluster_below(&rng, 4);
    }
}

/* ---- P1, P2, P6, P8 of one round ---- */

static void check_round(uint64_t seed, double pull) {
    game g;
    double *x, *y, c[3];
    size_t n, t, i, k;
    uint32_t a, b;
    game_draw(&g, seed, draw_workers(seed), 1 + seed % MOST_TENSORS);
    draw_types(&g, seed);
    g.d.grawa.weighting = seed % 2 ? GRAWA_BY_LAYER : GRAWA_BY_MODEL;
    g.d.grawa.pull = pull == 0 ? WEFT_ZERO : pull;
    game_open(&g);
    x = snapshot(&g);
    must(&g, cluster_steps(&g.c, 1));
    y = snapshot(&g);
    n = elements(&g);
    for (t = 0, k = 0; t < g.d.tensors; t++) {
        double sum = 0;
        for (a = 0; a < g.c.size; a++) {
            sum += beta(&g, a, t);
            want(&g, beta(&g, a, t) >= 0 && beta(&g, a, t) <= 1, "weight %g", beta(&g, a, t));
        }
        want(&g, fabs(sum - 1) < 1e-14, "the weights add up to %.17g", sum);
        for (i = 0; i < g.count[t]; i++, k++) {
            double most = 0, u = unit(g.dtype[t]);
            c[0] = c[1] = 0;
            for (a = 0; a < g.c.size; a++) {
                if (fabs(x[a * n + k]) > most) most = fabs(x[a * n + k]);
                c[0] += beta(&g, a, t) * x[a * n + k];
                c[1] += beta(&g, a, t) * y[a * n + k];
            }
            most = most * u * (2 * g.c.size + 6) + 1e-7; /* the 16-bit types have subnormals */
            if (g.dtype[t] == WEFT_F32) most = fmax(most - 1e-7, 1e-30);
            if (g.dtype[t] == WEFT_F64) most = (most - 1e-7) + 1e-16;
            /* P2: the weighted center is the same before and after */
            want(&g, fabs(c[1] - c[0]) <= most, "center %.17g, then %.17g", c[0], c[1]);
            for (a = 0; a < g.c.size; a++) {
                want(&g, fabs(y[a * n + k] - ((1 - pull) * x[a * n + k] + pull * c[0])) <= most,
                     "worker %u moved to %.9g", a, y[a * n + k]);
                if (pull == 0 || g.c.size == 1) want(&g, y[a * n + k] == x[a * n + k], "P6, P7: worker %u moved", a);
                if (pull == 1) want(&g, y[a * n + k] == y[k], "P6: worker %u is not at the center", a);
                for (b = 0; b < a; b++) /* P1 */
                    want(&g, fabs((y[a * n + k] - y[b * n + k]) - (1 - pull) * (x[a * n + k] - x[b * n + k])) <= most,
                         "distance of %u and %u", a, b);
            }
        }
    }
    for (k = 0; k < grawa_groups(g.c.worker[0].g); k++) /* P8 */
        for (a = 0; a < g.c.size; a++)
            for (b = 0; b < a; b++) {
                grawa_group_t ga, gb;
                ck_assert_int_eq(grawa_group(g.c.worker[a].g, (uint32_t)k, &ga), WEFT_OK);
                ck_assert_int_eq(grawa_group(g.c.worker[b].g, (uint32_t)k, &gb), WEFT_OK);
                c[0] = grawa_weight(g.c.worker[0].g, a, (uint32_t)k) * ga.corrected;
                c[1] = grawa_weight(g.c.worker[0].g, b, (uint32_t)k) * gb.corrected;
                if (ga.corrected > 0 && gb.corrected > 0)
                    want(&g, fabs(c[0] - c[1]) <= 3e-7 * fabs(c[1]), "P8: beta h is %.9g and %.9g", c[0], c[1]);
            }
    free(x);
    free(y);
    game_close(&g);
}

START_TEST(p1_p2_p6_p7_p8_hold_in_every_round) {
    static const double pull[] = {0.5, 0, 1, 0.3, 0.875};
    uint64_t seed;
    for (seed = 1; seed <= 150; seed++) check_round(seed, pull[seed % 5]);
}
END_TEST

/* ---- P3, P4, P5 ---- */

START_TEST(p3_common_factors_of_the_gradients_change_no_bit_of_the_weights) {
    uint64_t seed;
    for (seed = 1; seed <= 60; seed++) {
        static const double factor[] = {1, 0x1p-9, 4, 0x1p14}; /* no rounding in any type but over- and underflow */
        double first[MOST_WORKERS][MOST_TENSORS];
        game g;
        int f;
        for (f = 0; f < 5; f++) {
            uint32_t r, k;
            game_draw(&g, seed, draw_workers(seed), 1 + seed % 5);
            g.d.grawa.weighting = (grawa_weighting)(seed % 2);
            g.d.grawa.norm = (grawa_norm)(seed % 3);
            g.factor = f < 4 ? factor[f] : 3.7;
            g.repeat = 1;
            game_open(&g);
            must(&g, cluster_steps(&g.c, 1 + seed % 4));
            for (r = 0; r < g.c.size; r++)
                for (k = 0; k < grawa_groups(g.c.worker[0].g); k++) {
                    double b = grawa_weight(g.c.worker[0].g, r, k);
                    if (f == 0)
                        first[r][k] = b;
                    else if (f < 4)
                        want(&g, b == first[r][k], "factor %g: %.17g instead of %.17g", factor[f], b, first[r][k]);
                    else
                        want(&g, fabs(b - first[r][k]) <= 1e-6 * first[r][k], "factor 3.7: %.9g, %.9g", b, first[r][k]);
                }
            game_close(&g);
        }
    }
}
END_TEST

START_TEST(p3_the_bias_correction_does_not_change_the_weights) {
    /* The same gradients in every round: e / (1 - mu^k) = n in each, so the weights are those of one round without
     * smoothing. */
    uint64_t seed;
    for (seed = 1; seed <= 30; seed++) {
        double once[MOST_WORKERS][MOST_TENSORS];
        int rounds;
        for (rounds = 1; rounds <= 6; rounds++) {
            game g;
            uint32_t r, k;
            game_draw(&g, seed, 2 + (uint32_t)seed % 4, 3);
            g.d.grawa.weighting = (grawa_weighting)(seed % 2);
            g.d.grawa.ema_rounds = rounds == 1 ? WEFT_ZERO : 0;
            g.repeat = 1;
            game_open(&g);
            must(&g, cluster_steps(&g.c, (uint64_t)rounds));
            for (r = 0; r < g.c.size; r++)
                for (k = 0; k < grawa_groups(g.c.worker[0].g); k++) {
                    double b = grawa_weight(g.c.worker[r].g, r, k);
                    if (rounds == 1)
                        once[r][k] = b;
                    else
                        want(&g, fabs(b - once[r][k]) < 3e-7, "round %d: %.9g, not %.9g", rounds, b, once[r][k]);
                }
            game_close(&g);
        }
    }
}
END_TEST

START_TEST(p4_equal_norms_give_equal_weights) {
    uint64_t seed;
    for (seed = 1; seed <= 40; seed++) {
        game g;
        uint32_t r, k;
        game_draw(&g, seed, draw_workers(seed), 1 + seed % 5);
        g.d.grawa.weighting = (grawa_weighting)(seed % 3); /* uniform, too */
        g.d.grawa.norm = (grawa_norm)(seed % 3);
        g.same = g.d.grawa.weighting != GRAWA_UNIFORM;
        game_open(&g);
        must(&g, cluster_steps(&g.c, 3));
        for (r = 0; r < g.c.size; r++)
            for (k = 0; k < grawa_groups(g.c.worker[0].g); k++)
                want(&g, fabs(grawa_weight(g.c.worker[0].g, r, k) * g.c.size - 1) < 1e-15 * g.c.size, "weight %.17g",
                     grawa_weight(g.c.worker[0].g, r, k));
        game_close(&g);
    }
}
END_TEST

START_TEST(p5_permuting_the_workers_permutes_the_results) {
    uint64_t seed;
    for (seed = 1; seed <= 40; seed++) {
        double *x[2], b[2][MOST_WORKERS][MOST_TENSORS];
        uint32_t plays[MOST_WORKERS], r, k;
        size_t n = 0, i, groups = 0;
        int turn;
        game g;
        for (turn = 0; turn < 2; turn++) {
            game_draw(&g, seed, 2 + (uint32_t)seed % 8, 1 + seed % 5);
            g.d.grawa.weighting = (grawa_weighting)(seed % 2);
            for (r = g.c.size = g.d.sim.size; turn && r > 1; r--) {
                uint64_t rng = seed * 13 + r;
                uint32_t other = cluster_below(&rng, r), t = g.plays[r - 1];
                g.plays[r - 1] = g.plays[other];
                g.plays[other] = t;
            }
            game_open(&g);
            must(&g, cluster_steps(&g.c, 3));
            x[turn] = snapshot(&g);
            n = elements(&g);
            groups = grawa_groups(g.c.worker[0].g);
            for (r = 0; r < g.c.size; r++)
                for (k = 0; k < groups; k++) b[turn][r][k] = grawa_weight(g.c.worker[0].g, r, k);
            memcpy(plays, g.plays, sizeof plays);
            game_close(&g);
        }
        for (r = 0; r < g.d.sim.size; r++) {
            for (k = 0; k < groups; k++)
                want(&g, fabs(b[1][r][k] - b[0][plays[r]][k]) < 1e-15, "weight %.17g, not %.17g", b[1][r][k],
                     b[0][plays[r]][k]);
            for (i = 0; i < n; i++)
                want(&g, fabs(x[1][r * n + i] - x[0][plays[r] * n + i]) < 2e-6, "%.9g, not %.9g", x[1][r * n + i],
                     x[0][plays[r] * n + i]);
        }
        free(x[0]);
        free(x[1]);
    }
}
END_TEST

/* ---- P7: one worker alone ---- */

START_TEST(p7_one_worker_is_not_changed_by_a_single_bit) {
    uint64_t seed;
    for (seed = 1; seed <= 60; seed++) {
        game g;
        double *x, *y;
        grawa_stats_t s;
        game_draw(&g, seed, 1, seed % MOST_TENSORS);
        draw_types(&g, seed);
        g.d.grawa.weighting = (grawa_weighting)(seed % 3);
        if (!g.d.tensors) g.d.grawa.weighting = GRAWA_BY_MODEL;
        g.d.grawa.source = (grawa_source)(seed / 3 % 3);
        g.d.grawa.trigger = (grawa_trigger)(seed / 9 % 2);
        g.d.grawa.initial = (grawa_initial)(seed / 2 % 4);
        g.d.grawa.pull = 0.7;
        game_open(&g);
        x = snapshot(&g);
        must(&g, cluster_steps(&g.c, 7));
        y = snapshot(&g);
        want(&g, memcmp(x, y, elements(&g) * sizeof *x) == 0, "the parameters have changed");
        grawa_stats(g.c.worker[0].g, &s);
        ck_assert_uint_eq(s.rounds, 7);
        ck_assert_uint_eq(s.traffic.payload_sent + s.traffic.control_sent, 0);
        free(x);
        free(y);
        game_close(&g);
    }
}
END_TEST

/* ---- P9, P10, uniform ---- */

static uint64_t outcome(game *g) {
    uint64_t h = 0;
    uint32_t r;
    for (r = 0; r < g->c.size; r++) h = h * 0x100000001B3u + cluster_hash(&g->c.worker[r].params);
    return h;
}

START_TEST(p9_by_layer_with_one_tensor_is_by_model) {
    uint64_t seed;
    for (seed = 1; seed <= 40; seed++) {
        uint64_t h[2];
        int turn;
        game g;
        for (turn = 0; turn < 2; turn++) {
            game_draw(&g, seed, 1 + (uint32_t)seed % 9, 1);
            g.count[0] = 1 + seed * 31 % 400;
            g.dtype[0] = (weft_dtype)(seed % 4);
            g.d.grawa.norm = (grawa_norm)(seed % 3);
            g.d.grawa.source = seed % 2 ? GRAWA_SOURCE_CLOSING : GRAWA_SOURCE_PROBE;
            g.d.grawa.weighting = turn ? GRAWA_BY_LAYER : GRAWA_BY_MODEL;
            g.d.grawa.proximal = seed % 5 ? 0 : 0.1;
            game_open(&g);
            must(&g, cluster_steps(&g.c, 5));
            h[turn] = outcome(&g);
            game_close(&g);
        }
        want(&g, h[0] == h[1], "the parameters differ");
    }
}
END_TEST

/* Every worker's gradient is a multiple of the same one, so all its tensors' norms have the same proportion to
 * another's. */
START_TEST(p10_sum_and_euclidean_agree_if_all_tensors_have_the_same_proportion) {
    uint64_t seed;
    for (seed = 1; seed <= 30; seed++) {
        double b[2][MOST_WORKERS];
        uint32_t r, turn;
        game g;
        for (turn = 0; turn < 2; turn++) {
            game_draw(&g, seed, 2 + (uint32_t)seed % 8, 4);
            g.d.grawa.norm = turn ? GRAWA_NORM_EUCLIDEAN : GRAWA_NORM_SUM;
            g.d.grawa.ema_rounds = WEFT_ZERO;
            game_open(&g);
            for (r = 0; r < g.c.size; r++) {
                cluster_worker *w = &g.c.worker[r];
                cluster_fill(&w->grads, seed, ldexp(1, (int)(r % 5)) * (r % 2 ? 3 : 1));
                w->status = grawa_step(w->g, &w->grads);
            }
            must(&g, cluster_finish_round(&g.c));
            for (r = 0; r < g.c.size; r++) b[turn][r] = grawa_weight(g.c.worker[0].g, r, 0);
            game_close(&g);
        }
        for (r = 0; r < g.d.sim.size; r++)
            want(&g, fabs(b[0][r] - b[1][r]) < 3e-7, "worker %u: %.9g, %.9g", r, b[0][r], b[1][r]);
        /* and they do not agree otherwise: the two norms are two things */
        for (turn = 0; turn < 2; turn++) {
            game_draw(&g, seed, 2, 4);
            g.count[1] = g.count[2] = g.count[3] = 20;
            g.d.grawa.norm = turn ? GRAWA_NORM_EUCLIDEAN : GRAWA_NORM_SUM;
            game_open(&g);
            for (r = 0; r < 2; r++) {
                cluster_worker *w = &g.c.worker[r];
                cluster_fill(&w->grads, seed, 1);
                if (r) cluster_set(&w->grads.tensor[1], 0, 50);
                w->status = grawa_step(w->g, &w->grads);
            }
            must(&g, cluster_finish_round(&g.c));
            b[turn][0] = grawa_weight(g.c.worker[0].g, 0, 0);
            game_close(&g);
        }
        want(&g, fabs(b[0][0] - b[1][0]) > 1e-3, "sum and Euclidean norm give the same weight %.9g", b[0][0]);
    }
}
END_TEST

START_TEST(uniform_weighting_is_the_plain_mean_and_looks_at_no_gradient) {
    uint64_t seed;
    for (seed = 1; seed <= 40; seed++) {
        game g;
        double *x, *y;
        size_t n, i;
        uint32_t r;
        game_draw(&g, seed, draw_workers(seed), 1 + seed % 5);
        g.d.grawa.weighting = GRAWA_UNIFORM;
        g.d.grawa.pull = 1;
        g.d.grawa.source = (grawa_source)(seed % 3); /* no probe is asked for either */
        game_open(&g);
        x = snapshot(&g);
        CLUSTER_ALL(&g.c, w, grawa_step(w->g, NULL));
        must(&g, !g.c.why[0]);
        y = snapshot(&g);
        n = elements(&g);
        for (i = 0; i < n; i++) {
            double mean = 0;
            for (r = 0; r < g.c.size; r++) mean += x[r * n + i] / g.c.size;
            for (r = 0; r < g.c.size; r++)
                want(&g, g.c.size == 1 || fabs(y[r * n + i] - mean) < 1e-6, "%.9g instead of %.9g", y[r * n + i], mean);
        }
        free(x);
        free(y);
        game_close(&g);
    }
}
END_TEST

/* ---- P11, P12: convex objectives ---- */

enum { DIM = 12, ROWS = 20 };

typedef struct convex {
    game g;
    int logistic;
    double a[ROWS][DIM], y[ROWS], eigen[DIM], target[DIM];
} convex;

static double convex_value(const convex *f, const double *x) {
    double v = 0;
    int i, j;
    if (!f->logistic) {
        for (i = 0; i < DIM; i++) v += 0.5 * f->eigen[i] * (x[i] - f->target[i]) * (x[i] - f->target[i]);
        return v;
    }
    for (j = 0; j < ROWS; j++) {
        double z = 0;
        for (i = 0; i < DIM; i++) z += f->a[j][i] * x[i];
        z *= f->y[j];
        v += z > 0 ? log1p(exp(-z)) : log1p(exp(z)) - z;
    }
    return v / ROWS;
}

/* Its gradient at a worker's parameters, which stay. */
static const weft_tensors *convex_grads(cluster_worker *w) {
    const convex *f = (const convex *)w->user;
    double x[DIM], d[DIM];
    int i, j;
    for (i = 0; i < DIM; i++) {
        x[i] = cluster_get(&w->params.tensor[i < 5 ? 0 : 1], (size_t)(i < 5 ? i : i - 5));
        d[i] = f->eigen[i] * (x[i] - f->target[i]);
        if (f->logistic) d[i] = 0;
    }
    for (j = 0; f->logistic && j < ROWS; j++) {
        double z = 0;
        for (i = 0; i < DIM; i++) z += f->a[j][i] * x[i];
        for (i = 0; i < DIM; i++) d[i] -= f->y[j] * f->a[j][i] / (1 + exp(f->y[j] * z)) / ROWS;
    }
    for (i = 0; i < DIM; i++) cluster_set(&w->grads.tensor[i < 5 ? 0 : 1], (size_t)(i < 5 ? i : i - 5), d[i]);
    return &w->grads;
}

static void convex_draw(convex *f, uint64_t seed) {
    uint64_t rng = seed * 5 + 3;
    int i, j;
    memset(f, 0, sizeof *f);
    game_draw(&f->g, seed, 2 + (uint32_t)seed % 7, 2);
    f->g.count[0] = 5;
    f->g.count[1] = DIM - 5;
    f->g.dtype[0] = f->g.dtype[1] = WEFT_F64;
    f->g.grad_dtype[0] = f->g.grad_dtype[1] = WEFT_F64;
    f->g.d.train = convex_grads;
    f->g.d.prepare = NULL;
    f->g.d.start_unequal = 1;
    f->g.d.user = f;
    f->logistic = seed % 2;
    for (i = 0; i < DIM; i++) {
        f->eigen[i] = exp(2 * cluster_uniform(&rng));
        f->target[i] = 2 * cluster_uniform(&rng);
        for (j = 0; j < ROWS; j++) f->a[j][i] = 3 * cluster_uniform(&rng);
    }
    for (j = 0; j < ROWS; j++) f->y[j] = cluster_below(&rng, 2) ? 1 : -1;
}

START_TEST(p11_on_a_convex_objective_a_round_makes_nothing_worse) {
    uint64_t seed;
    for (seed = 1; seed <= 60; seed++) {
        convex f;
        double *x, *y, c[DIM] = {0}, before = 0, after = 0, most = 0, most_after = 0;
        uint32_t r;
        int i;
        convex_draw(&f, seed);
        f.g.d.grawa.pull = 0.1 + 0.9 * (double)(seed % 10) / 9;
        f.g.d.grawa.norm = (grawa_norm)(seed % 3);
        game_open(&f.g);
        x = snapshot(&f.g);
        must(&f.g, cluster_steps(&f.g.c, 1));
        y = snapshot(&f.g);
        for (r = 0; r < f.g.c.size; r++) {
            double b = grawa_weight(f.g.c.worker[0].g, r, 0), v = convex_value(&f, x + r * DIM),
                   u = convex_value(&f, y + r * DIM);
            for (i = 0; i < DIM; i++) c[i] += b * x[r * DIM + (uint32_t)i];
            before += b * v;
            after += b * u;
            most = fmax(most, v);
            most_after = fmax(most_after, u);
        }
        want(&f.g, convex_value(&f, c) <= before * (1 + 1e-12), "f(c) %.17g, weighted mean of f %.17g",
             convex_value(&f, c), before);
        want(&f.g, most_after <= most * (1 + 1e-12), "the worst was %.17g and is %.17g", most, most_after);
        want(&f.g, after <= before * (1 + 1e-12), "the weighted mean of f was %.17g and is %.17g", before, after);
        free(x);
        free(y);
        game_close(&f.g);
    }
}
END_TEST

static double widest(const double *x, uint32_t workers, size_t n) {
    double most = 0;
    uint32_t a, b;
    size_t i;
    for (a = 0; a < workers; a++)
        for (b = 0; b < a; b++) {
            double s = 0;
            for (i = 0; i < n; i++) s += (x[a * n + i] - x[b * n + i]) * (x[a * n + i] - x[b * n + i]);
            most = fmax(most, sqrt(s));
        }
    return most;
}

/* Gradients of length 1 at most: half of the workers go one way, half the other (the worst case), or all go as they
 * like. */
static const weft_tensors *bounded(cluster_worker *w) {
    const game *g = (const game *)w->user;
    double s = 0;
    size_t i, n = g->count[0];
    uint64_t rng = g->seed * 991 + w->step * 17 + w->rank;
    for (i = 0; i < n; i++)
        cluster_set(&w->grads.tensor[0], i, g->same ? (w->rank % 2 ? 1.0 : -1.0) : cluster_uniform(&rng));
    for (i = 0; i < n; i++) s += cluster_get(&w->grads.tensor[0], i) * cluster_get(&w->grads.tensor[0], i);
    for (i = 0; i < n; i++) {
        double d = cluster_get(&w->grads.tensor[0], i) / sqrt(s);
        cluster_set(&w->grads.tensor[0], i, d);
        cluster_set(&w->params.tensor[0], i, cluster_get(&w->params.tensor[0], i) - 0.1 * d);
    }
    return &w->grads;
}

START_TEST(p12_disagreement_stays_within_its_bound_and_can_reach_it) {
    uint64_t seed;
    for (seed = 1; seed <= 16; seed++) {
        game g;
        double pull = 0.1 + 0.1 * (double)(seed % 8), step = 2 * 0.1 * 4, d, stationary = step * (1 - pull) / pull,
               last = 0;
        double *x;
        int r;
        game_draw(&g, seed, 2 + (uint32_t)seed % 5, 1);
        g.count[0] = 10;
        g.dtype[0] = g.grad_dtype[0] = WEFT_F64;
        g.d.train = bounded;
        g.same = seed % 2;
        g.d.grawa.weighting = (grawa_weighting)(seed % 2);
        g.d.grawa.pull = pull;
        g.d.grawa.period_steps = 4;
        game_open(&g);
        x = snapshot(&g);
        d = widest(x, g.c.size, 10);
        free(x);
        for (r = 0; r < 100; r++) {
            must(&g, cluster_steps(&g.c, 4));
            x = snapshot(&g);
            last = widest(x, g.c.size, 10);
            free(x);
            want(&g, last <= (1 - pull) * (d + step) * (1 + 1e-12), "round %d: %.9g after %.9g", r, last, d);
            d = last;
        }
        want(&g, last <= stationary * 1.001, "stationary %.9g, bound %.9g", last, stationary);
        if (g.same) want(&g, last >= stationary * 0.999, "the worst case comes to %.9g, not %.9g", last, stationary);
        game_close(&g);
    }
}
END_TEST

START_TEST(consensus_with_zero_gradients_stays_where_it_is) {
    uint32_t n;
    for (n = 1; n <= MOST_WORKERS; n++) {
        game g;
        double *x, *y;
        size_t i, k;
        grawa_stats_t s;
        game_draw(&g, n, n, 4);
        memset(g.plays, 0, sizeof g.plays);
        memset(g.scale, 0, sizeof g.scale);
        g.d.grawa.weighting = n % 2 ? GRAWA_BY_MODEL : GRAWA_BY_LAYER;
        game_open(&g);
        x = snapshot(&g);
        must(&g, cluster_steps(&g.c, 5));
        y = snapshot(&g);
        for (i = 0; i < n * elements(&g); i++)
            want(&g, fabs(x[i] - y[i]) <= 5e-7 * fabs(x[i]), "%.9g, now %.9g", x[i], y[i]);
        grawa_stats(g.c.worker[0].g, &s);
        for (i = k = 0; i < 4; i++) k += g.count[i] != 0; /* an empty tensor has no norm */
        ck_assert_uint_eq(s.zero_norms, 5 * (g.d.grawa.weighting == GRAWA_BY_LAYER ? k : 1));
        free(x);
        free(y);
        game_close(&g);
    }
}
END_TEST

/* ---- against the model ---- */

/* Several rounds of anything: groups, norms, smoothing, pull, sources, absent, zero and non-finite gradients. */
static void check_against_model(uint64_t seed, int strange) {
    game g;
    model m;
    uint64_t rng = seed * 3 + 1, unusable = 0, limit = 0;
    uint32_t r;
    size_t t, i, k, n, round, rounds = 1 + seed % 5;
    double *norm;
    game_draw(&g, seed, draw_workers(seed), 1 + seed % MOST_TENSORS);
    g.strange = strange;
    draw_types(&g, seed);
    for (t = 0; t < MOST_TENSORS; t++) { /* parameters that carry enough digits; gradients of any type */
        g.dtype[t] = seed % 2 ? WEFT_F64 : WEFT_F32;
        if (strange && g.count[t] == 0) g.count[t] = 2;
    }
    g.d.grawa.weighting = cluster_below(&rng, 2) ? GRAWA_BY_LAYER : GRAWA_BY_MODEL;
    g.d.grawa.norm = (grawa_norm)cluster_below(&rng, 3);
    g.d.grawa.source = cluster_below(&rng, 2) ? GRAWA_SOURCE_PROBE : GRAWA_SOURCE_CLOSING;
    g.d.grawa.pull = 0.05 + 0.9 * (double)cluster_below(&rng, 100) / 100;
    g.d.grawa.ema_rounds = cluster_below(&rng, 3) == 0 ? WEFT_ZERO : cluster_below(&rng, 2) ? 0 : 0.7;
    if (g.d.grawa.weighting == GRAWA_BY_LAYER && cluster_below(&rng, 2)) {
        g.d.grawa.groups = 1 + cluster_below(&rng, (uint32_t)g.d.tensors);
        for (t = 0; t < g.d.tensors; t++)
            g.group_of[t] = t < g.d.grawa.groups ? (uint32_t)t : cluster_below(&rng, g.d.grawa.groups);
        g.d.grawa.group_of_tensor = g.group_of;
    }
    model_open(&m, g.d.sim.size, g.d.tensors, g.count, g.d.grawa.weighting == GRAWA_BY_MODEL ? 1 : g.d.grawa.groups,
               g.d.grawa.group_of_tensor);
    m.norm = (model_norm)g.d.grawa.norm;
    m.pull = g.d.grawa.pull;
    m.mu = g.d.grawa.ema_rounds == 0 ? GRAWA_MODEL_MU : g.d.grawa.ema_rounds < 0 ? 0 : 0.7;
    game_open(&g);
    n = elements(&g);
    norm = (double *)malloc((m.groups + 1) * sizeof *norm);
    {
        double *x = snapshot(&g);
        memcpy(m.x, x, g.c.size * n * sizeof *x);
        free(x);
    }
    for (round = 0; round < rounds; round++) {
        for (r = 0; r < g.c.size; r++) { /* the gradients of this round, on the side */
            cluster_worker *w = &g.c.worker[r];
            const double *p[MOST_TENSORS] = {NULL};
            const weft_tensors *l;
            w->step += g.d.grawa.source == GRAWA_SOURCE_PROBE; /* probes are made after the step */
            l = game_grads(w);
            w->step -= g.d.grawa.source == GRAWA_SOURCE_PROBE;
            for (t = 0; t < g.d.tensors; t++) {
                double *v;
                if (!l->tensor[t].data) continue;
                p[t] = v = (double *)malloc((g.count[t] + 1) * sizeof *v);
                for (i = 0; i < g.count[t]; i++) v[i] = cluster_get(&l->tensor[t], i);
            }
            model_norms(&m, p, norm);
            model_smooth(&m, r, norm);
            for (k = 0; k < m.groups; k++) unusable += !isfinite(norm[k]) && model_group_counts(&m, k);
            for (t = 0; t < g.d.tensors; t++) free((void *)(uintptr_t)p[t]);
        }
        model_weigh(&m);
        model_move(&m);
        must(&g, cluster_steps(&g.c, 1));
        for (r = 0; r < g.c.size; r++) {
            for (k = 0; k < m.groups; k++) {
                grawa_group_t o;
                double b = grawa_weight(g.c.worker[(r + round) % g.c.size].g, r, (uint32_t)k),
                       mb = m.beta[r * m.groups + k];
                want(&g, fabs(b - mb) <= 1e-12 + 3e-7 * mb, "round %zu, worker %u, group %zu: weight %.9g, not %.9g",
                     round, r, k, b, mb);
                ck_assert_int_eq(grawa_group(g.c.worker[r].g, (uint32_t)k, &o), WEFT_OK);
                mb = m.n[r * m.groups + k];
                want(&g, isnan(mb) ? isnan(o.norm) : fabs(o.norm - mb) <= 1e-12 * mb,
                     "round %zu: norm %.17g, not %.17g", round, o.norm, mb);
                mb = m.ema[r * m.groups + k];
                want(&g, fabs(o.ema - mb) <= 1e-12 * mb, "round %zu: average %.17g, not %.17g", round, o.ema, mb);
                mb = m.hat[r * m.groups + k];
                if (!isnan(mb))
                    want(&g, fabs(o.corrected - mb) <= 1e-12 * mb, "corrected %.17g, not %.17g", o.corrected, mb);
            }
            for (t = 0; t < g.d.tensors; t++)
                for (i = 0; i < g.count[t]; i++) {
                    double got = cluster_get(&g.c.worker[r].params.tensor[t], i), mx = m.x[r * n + m.start[t] + i];
                    want(&g, fabs(got - mx) <= 3e-6, "round %zu, worker %u: parameter %.9g, not %.9g", round, r, got,
                         mx);
                    m.x[r * n + m.start[t] + i] = got; /* errors do not add up */
                }
        }
    }
    for (r = 0; r < g.c.size; r++) {
        grawa_stats_t s;
        grawa_stats(g.c.worker[r].g, &s);
        limit = m.limit;
        want(&g, s.rounds == rounds && s.rounds_abandoned == 0, "rounds %llu", (unsigned long long)s.rounds);
        want(&g, s.zero_norms == limit, "zero norms %llu, not %llu", (unsigned long long)s.zero_norms,
             (unsigned long long)limit);
        want(&g, s.nonfinite_norms == unusable, "unusable norms %llu, not %llu", (unsigned long long)s.nonfinite_norms,
             (unsigned long long)unusable);
    }
    free(norm);
    model_close(&m);
    game_close(&g);
}

START_TEST(rounds_agree_with_the_model) {
    uint64_t seed;
    for (seed = 1; seed <= 150; seed++) check_against_model(seed, 0);
}
END_TEST

START_TEST(rounds_with_strange_gradients_agree_with_the_model) {
    uint64_t seed;
    for (seed = 1001; seed <= 1200; seed++) check_against_model(seed, 1);
}
END_TEST

/* ---- the norm from local steps ---- */

START_TEST(step_averages_restart_after_a_round_by_model_and_never_by_layer) {
    uint64_t seed;
    for (seed = 1; seed <= 24; seed++) {
        game g;
        double e[MOST_WORKERS][MOST_TENSORS] = {{0}}, decay = 1, mu = seed % 3 ? 0.85 : 0.5;
        size_t t, i, round, step, rounds = 4, period = 1 + seed % 4;
        uint32_t r, by_model = seed % 2;
        game_draw(&g, seed, 1 + (uint32_t)seed % 5, 3);
        g.d.grawa.source = GRAWA_SOURCE_STEPS;
        g.d.grawa.weighting = by_model ? GRAWA_BY_MODEL : GRAWA_BY_LAYER;
        g.d.grawa.period_steps = (uint32_t)period;
        g.d.grawa.ema_steps = seed % 3 ? 0 : 0.5; /* 0.85 is the default */
        game_open(&g);
        for (round = 0; round < rounds; round++) {
            double h[MOST_WORKERS][MOST_TENSORS], sum[MOST_TENSORS] = {0};
            if (by_model) {
                memset(e, 0, sizeof e);
                decay = 1;
            }
            for (step = 0; step < period; step++) {
                decay *= mu;
                for (r = 0; r < g.c.size; r++) {
                    cluster_worker *w = &g.c.worker[r];
                    const weft_tensors *l = game_grads(w);
                    for (t = 0; t < 3; t++) {
                        double s = 0;
                        for (i = 0; i < g.count[t]; i++)
                            s += cluster_get(&l->tensor[t], i) * cluster_get(&l->tensor[t], i);
                        e[r][t] = mu * e[r][t] + (1 - mu) * sqrt(s);
                    }
                }
                must(&g, cluster_steps(&g.c, 1));
            }
            for (r = 0; r < g.c.size; r++)
                for (t = 0; t < 3; t++) {
                    h[r][t] = (by_model ? e[r][0] + e[r][1] + e[r][2] : e[r][t]) / (1 - decay);
                    sum[t] += h[r][t] > 0 ? 1 / h[r][t] : 0;
                }
            for (r = 0; r < g.c.size; r++)
                for (t = 0; t < (by_model ? 1u : 3u); t++) {
                    if (!by_model && !g.count[t]) continue;
                    double b = grawa_weight(g.c.worker[0].g, r, (uint32_t)t),
                           mb = h[r][t] > 0 ? 1 / h[r][t] / sum[t] : 1.0 / g.c.size;
                    grawa_group_t o;
                    want(&g, fabs(b - mb) < 1e-6, "round %zu, worker %u: weight %.9g, not %.9g", round, r, b, mb);
                    ck_assert_int_eq(grawa_group(g.c.worker[r].g, (uint32_t)t, &o), WEFT_OK);
                    want(&g, fabs(o.corrected - h[r][t]) <= 1e-12 * h[r][t], "round %zu: h %.17g, not %.17g", round,
                         o.corrected, h[r][t]);
                }
        }
        game_close(&g);
    }
}
END_TEST

/* Workers that take different numbers of steps: there the bias correction does matter. */
START_TEST(step_averages_are_corrected_for_each_workers_own_number_of_steps) {
    game g;
    double h[2];
    uint32_t r;
    game_draw(&g, 5, 2, 2);
    g.d.grawa.source = GRAWA_SOURCE_STEPS;
    g.d.grawa.trigger = GRAWA_TRIGGER_TOTAL;
    g.d.grawa.period_steps = 4;
    g.d.sim.latency_ns = 0;
    g.repeat = 1;
    g.scale[0] = g.scale[1] = 1;
    g.same = 1; /* equal gradients: equal weights, if and only if the correction is right */
    game_open(&g);
    g.c.worker[0].step_ns = 1000;
    g.c.worker[1].step_ns = 2600;
    for (r = 0; r < 2; r++) g.c.worker[r].goal = 0;
    g.c.worker[0].leaves = g.c.worker[1].leaves = 0;
    {
        /* until both have come back from the first round */
        uint64_t steps[2];
        weft_sim_worker(&g.c.sim, 0, cluster_turn, &g.c.worker[0]);
        weft_sim_worker(&g.c.sim, 1, cluster_turn, &g.c.worker[1]);
        g.c.worker[0].goal = 6;
        g.c.worker[1].goal = 2;
        weft_sim_run(&g.c.sim, 10000);
        must(&g, !g.c.why[0]);
        steps[0] = g.c.worker[0].step;
        steps[1] = g.c.worker[1].step;
        ck_assert_uint_ne(steps[0], steps[1]);
    }
    for (r = 0; r < 2; r++) {
        grawa_stats_t s;
        grawa_group_t o;
        grawa_stats(g.c.worker[r].g, &s);
        ck_assert_uint_eq(s.rounds, 1);
        ck_assert_int_eq(grawa_group(g.c.worker[r].g, 0, &o), WEFT_OK);
        h[r] = o.corrected;
        ck_assert_double_eq_tol(grawa_weight(g.c.worker[r].g, 0, 0), 0.5, 1e-7);
    }
    ck_assert_double_eq_tol(h[0], h[1], 1e-12 * h[0]);
    game_close(&g);
}
END_TEST

/* ---- the arithmetic, bit by bit ---- */

static float f32_once(float v) {
    volatile float o = v; /* no contraction, no wider register */
    return o;
}

/* What an element must be: the weighted sum in ascending rank, each product rounded, then fl(fl((1 - l) x) + fl(l
 * c)), in the tensor's type; the 16-bit types in f32, the center rounded once to its type, and the result once. */
static double element_by_rule(weft_dtype d, uint32_t n, const double *b, const double *x, double own, double pull) {
    uint32_t r;
    int first = 1;
    if (d == WEFT_F64) {
        volatile double c = 0, p, q;
        for (r = 0; r < n; r++) {
            if (b[r] == 0) continue;
            p = b[r] * x[r];
            c = first ? p : c + p;
            first = 0;
        }
        p = (1 - pull) * own;
        q = pull * c;
        c = p + q;
        return c;
    } else {
        float c = 0, p, q;
        for (r = 0; r < n; r++) {
            if ((float)b[r] == 0) continue;
            p = f32_once((float)b[r] * (float)x[r]);
            c = first ? p : f32_once(c + p);
            first = 0;
        }
        if (d == WEFT_BF16) c = cluster_of_bits((uint32_t)cluster_to_bf16(c) << 16);
        if (d == WEFT_F16) c = (float)cluster_of_half(cluster_to_half((double)c));
        p = f32_once((float)(1 - pull) * (float)own);
        q = f32_once((float)pull * c);
        c = f32_once(p + q);
        if (d == WEFT_BF16) c = cluster_of_bits((uint32_t)cluster_to_bf16(c) << 16);
        if (d == WEFT_F16) c = (float)cluster_of_half(cluster_to_half((double)c));
        return (double)c;
    }
}

START_TEST(every_bit_is_as_the_arithmetic_contract_says) {
    uint64_t seed;
    for (seed = 1; seed <= 120; seed++) {
        game g;
        double *x, *y;
        size_t t, i, k = 0, n;
        uint32_t r;
        game_draw(&g, seed, 2 + (uint32_t)seed % 8, 1 + seed % MOST_TENSORS);
        draw_types(&g, seed);
        if (seed % 3 == 0) g.count[0] = 5000; /* more than a control message, more than a block */
        g.d.grawa.weighting = (grawa_weighting)(seed % 3);
        g.d.grawa.pull = seed % 4 ? 0.3 : 0;
        g.strange = seed % 5 == 0; /* weights of zero are not read */
        game_open(&g);
        x = snapshot(&g);
        must(&g, cluster_steps(&g.c, 1));
        y = snapshot(&g);
        n = elements(&g);
        for (t = 0; t < g.d.tensors; t++)
            for (i = 0; i < g.count[t]; i++, k++) {
                double b[MOST_WORKERS], each[MOST_WORKERS];
                for (r = 0; r < g.c.size; r++) {
                    b[r] = beta(&g, r, t);
                    each[r] = x[r * n + k];
                }
                for (r = 0; r < g.c.size; r++) {
                    double rule =
                        element_by_rule(g.dtype[t], g.c.size, b, each, each[r], g.d.grawa.pull == 0 ? 0.5 : 0.3);
                    want(&g, y[r * n + k] == rule, "type %d, worker %u: %.17g, not %.17g", (int)g.dtype[t], r,
                         y[r * n + k], rule);
                }
            }
        free(x);
        free(y);
        game_close(&g);
    }
}
END_TEST

START_TEST(zero_norms_share_the_weight_and_nobodys_norm_means_equal_weights) {
    /* [worker][layer]: z zero, n NaN, i infinite, a absent, 1 a gradient; and the weights that must come of it */
    static const struct {
        const char *grad[3];
        double weight[3][2];
    } row[] = {
        {{"z1", "11", "11"}, {{1, -1}, {0, -1}, {0, -1}}},
        {{"z1", "z1", "11"}, {{0.5, -1}, {0.5, -1}, {0, -1}}},
        {{"zz", "zz", "zz"}, {{1. / 3, 1. / 3}, {1. / 3, 1. / 3}, {1. / 3, 1. / 3}}},
        {{"nn", "nn", "nn"}, {{1. / 3, 1. / 3}, {1. / 3, 1. / 3}, {1. / 3, 1. / 3}}},
        {{"ii", "1i", "11"}, {{0, 0}, {-1, 0}, {-1, 1}}},
        {{"nz", "11", "z1"}, {{0, 1}, {0, 0}, {1, 0}}},
        {{"aa", "1a", "1a"}, {{0, 1. / 3}, {-1, 1. / 3}, {-1, 1. / 3}}},
        {{"ai", "ni", "zz"}, {{0, 0}, {0, 0}, {1, 1}}},
    };
    size_t i;
    uint32_t r, k;
    for (i = 0; i < sizeof row / sizeof *row; i++) {
        game g;
        game_draw(&g, 10 + i, 3, 2);
        g.count[0] = g.count[1] = 20;
        g.d.grawa.weighting = GRAWA_BY_LAYER;
        game_open(&g);
        for (r = 0; r < 3; r++) {
            cluster_worker *w = &g.c.worker[r];
            cluster_fill(&w->grads, i * 3 + r, 1);
            for (k = 0; k < 2; k++) {
                weft_tensor *t = &g.list[r][k];
                *t = w->grads.tensor[k];
                switch (row[i].grad[r][k]) {
                case 'z': memset(t->data, 0, 80); break;
                case 'n': cluster_set(t, 19, (double)NAN); break;
                case 'i': cluster_set(t, 7, -(double)INFINITY); break;
                case 'a': t->data = NULL; break;
                }
            }
            g.view[r].tensor = g.list[r];
            g.view[r].count = 2;
            w->status = grawa_step(w->g, &g.view[r]);
        }
        must(&g, cluster_finish_round(&g.c));
        for (r = 0; r < 3; r++)
            for (k = 0; k < 2; k++) {
                double b = grawa_weight(g.c.worker[0].g, r, k), e = row[i].weight[r][k];
                if (e >= 0)
                    want(&g, fabs(b - e) < 1e-15, "row %zu, worker %u, layer %u: weight %.9g, not %.9g", i, r, k, b, e);
                else
                    want(&g, b > 0 && b < 1, "row %zu, worker %u, layer %u: weight %.9g", i, r, k, b);
            }
        for (r = 0; r < 3; r++)
            for (k = 0; k < 2; k++) { /* nothing of it stays */
                size_t j;
                for (j = 0; j < 20; j++) ck_assert(isfinite(cluster_get(&g.c.worker[r].params.tensor[k], j)));
            }
        must(&g, cluster_steps(&g.c, 1));
        for (r = 0; r < 3; r++)
            for (k = 0; k < 2; k++) {
                double b = grawa_weight(g.c.worker[0].g, r, k);
                want(&g, isfinite(b) && b >= 0, "row %zu, next round: weight %.9g", i, b);
                if (strchr("nia", row[i].grad[r][k]) && strcmp(row[i].grad[0], "ai"))
                    want(&g,
                         b > 0 || strchr("z", row[i].grad[(r + 1) % 3][k]) || strchr("z", row[i].grad[(r + 2) % 3][k]),
                         "row %zu, worker %u: no say in the next round either", i, r);
            }
        game_close(&g);
    }
}
END_TEST

START_TEST(norms_at_the_ends_of_the_range_give_weights_all_the_same) {
    static const double length[] = {1e-60, 1e-45, 1e-40, 3e-39, 1e-20, 1, 1e20, 3e38, 1e100};
    uint32_t a, b, norm;
    for (norm = 0; norm < 3; norm++)
        for (a = 0; a < 9; a++)
            for (b = 0; b < 9; b++) {
                game g;
                grawa_stats_t st;
                double wa, wb;
                game_draw(&g, a * 9 + b, 2, 1);
                g.count[0] = 3;
                g.grad_dtype[0] = WEFT_F64;
                g.d.grawa.norm = (grawa_norm)norm;
                game_open(&g);
                cluster_set(&g.c.worker[0].grads.tensor[0], 1, length[a]);
                cluster_set(&g.c.worker[1].grads.tensor[0], 1, length[b]);
                CLUSTER_ALL(&g.c, w, grawa_step(w->g, &w->grads));
                must(&g, !g.c.why[0]);
                grawa_stats(g.c.worker[0].g, &st);
                want(&g, !st.zero_norms && !st.nonfinite_norms, "norms %g, %g are neither zero nor infinite", length[a],
                     length[b]);
                wa = grawa_weight(g.c.worker[0].g, 0, 0);
                wb = grawa_weight(g.c.worker[0].g, 1, 0);
                want(&g, wa >= 0 && wb >= 0 && fabs(wa + wb - 1) < 1e-14, "norms %g, %g: weights %g, %g", length[a],
                     length[b], wa, wb);
                want(&g,
                     a == b  ? wa == wb
                     : a < b ? wa >= wb
                             : wa <= wb,
                     "norms %g, %g: weights %g, %g", length[a], length[b], wa, wb);
                if (length[a] > 1e-38 && length[a] < 1e38 && length[b] > 1e-38 && length[b] < 1e38 && a < b)
                    want(&g, fabs(wb - wa * pow(length[a] / length[b], norm == 2 ? 2 : 1)) <= 1e-6 * wb,
                         "weights %g, %g", wa, wb);
                game_close(&g);
            }
}
END_TEST

START_TEST(a_model_that_is_not_finite_never_enters_the_center) {
    uint64_t seed;
    for (seed = 1; seed <= 24; seed++) {
        game g;
        grawa_stats_t s;
        uint32_t r, n = 2 + (uint32_t)seed % 5, sick = (uint32_t)seed % n, also = seed % 3 ? sick : (sick + 1) % n;
        double *x, *y, sum = 0;
        size_t i, e, at, k;
        game_draw(&g, seed, n, 3);
        g.count[0] = seed % 2 ? 3000 : 10;
        g.d.grawa.weighting = (grawa_weighting)(seed % 3);
        g.d.grawa.check_replicas = 1;
        g.d.grawa.ema_rounds = WEFT_ZERO;
        if (n == 2) also = sick;
        game_open(&g);
        must(&g, cluster_steps(&g.c, 1));
        at = seed * 7 % g.count[0];
        cluster_set(&g.c.worker[sick].params.tensor[0], at, seed % 4 ? (double)NAN : (double)INFINITY);
        cluster_set(&g.c.worker[also].params.tensor[0], 0, -(double)INFINITY);
        x = snapshot(&g);
        for (r = 0; r < n; r++) { /* norms of zero are counted once, however often the center is tried */
            game_grads(&g.c.worker[r]);
            for (i = 1; r == (sick + 1) % n && i < 3; i++)
                memset(g.c.worker[r].grads.tensor[i].data, 0, g.count[i] * 4);
            g.c.worker[r].status = grawa_step(g.c.worker[r].g, &g.c.worker[r].grads);
        }
        must(&g, cluster_finish_round(&g.c));
        y = snapshot(&g);
        e = elements(&g);
        for (r = 0; r < n; r++) {
            grawa_stats(g.c.worker[r].g, &s);
            k = g.d.grawa.weighting == GRAWA_BY_LAYER ? (g.count[1] != 0) + (g.count[2] != 0) : 0;
            ck_assert_uint_eq(s.zero_norms, k);
            ck_assert_uint_eq(s.nonfinite_models, also == sick ? 1 : 2);
            ck_assert_uint_eq(s.participants, n - (also == sick ? 1 : 2));
            ck_assert_uint_eq(s.rounds, 2);
            sum += grawa_weight(g.c.worker[0].g, r, 0);
            if (r == sick || r == also) {
                ck_assert_double_eq(grawa_weight(g.c.worker[0].g, r, 0), 0);
                want(&g, memcmp(x + r * e, y + r * e, e * sizeof *x) == 0,
                     "the sick model was moved"); /* the host's to mend */
            } else {
                for (i = 0; i < e; i++) want(&g, isfinite(y[r * e + i]), "worker %u caught it", r);
            }
        }
        ck_assert_double_eq_tol(sum, 1, 1e-14);
        free(x);
        free(y);
        for (r = 0; r < n; r++) /* mended, they are back */
            if (r == sick || r == also) {
                cluster_set(&g.c.worker[r].params.tensor[0], at, 0.5);
                cluster_set(&g.c.worker[r].params.tensor[0], 0, 0.5);
            }
        must(&g, cluster_steps(&g.c, 1));
        grawa_stats(g.c.worker[0].g, &s);
        ck_assert_uint_eq(s.participants, n);
        game_close(&g);
    }
}
END_TEST

START_TEST(a_guard_that_rejects_leaves_all_parameters_alone) {
    int what;
    for (what = 0; what < 4; what++) { /* a zero norm, a NaN in a gradient, a NaN in a model, nothing */
        game g;
        double *x, *y;
        grawa_stats_t s;
        uint32_t r;
        game_draw(&g, 50 + (uint64_t)what, 3, 2);
        g.count[0] = g.count[1] = 2500;
        g.d.grawa.guard = GRAWA_GUARD_REJECT;
        g.d.grawa.ema_rounds = WEFT_ZERO; /* a moving average would not be zero */
        g.d.grawa.weighting = what % 2 ? GRAWA_BY_LAYER : GRAWA_BY_MODEL;
        game_open(&g);
        must(&g, cluster_steps(&g.c, 1));
        CLUSTER_EACH(&g.c, w, (cluster_fill(&w->grads, w->rank, 1), WEFT_OK));
        if (what == 0)
            memset(g.c.worker[1].grads.tensor[0].data, 0, 10000), memset(g.c.worker[1].grads.tensor[1].data, 0, 10000);
        if (what == 1) cluster_set(&g.c.worker[1].grads.tensor[1], 2499, (double)NAN);
        if (what == 2) cluster_set(&g.c.worker[1].params.tensor[0], 1234, (double)NAN);
        x = snapshot(&g);
        CLUSTER_EACH(&g.c, w, grawa_step(w->g, &w->grads));
        must(&g, cluster_settle(&g.c));
        y = snapshot(&g);
        for (r = 0; r < 3; r++) {
            ck_assert_int_eq(g.c.worker[r].status, what == 3 ? WEFT_OK : WEFT_ERR_NONFINITE);
            grawa_stats(g.c.worker[r].g, &s);
            ck_assert_uint_eq(s.rounds_abandoned, what != 3);
            ck_assert_uint_eq(s.rounds, what == 3 ? 2 : 1);
        }
        ck_assert_int_eq(memcmp(x, y, 3 * elements(&g) * sizeof *x) == 0, what != 3);
        if (what == 2) ck_assert_uint_eq(grawa_detail(g.c.worker[0].g)->peer, 1);
        cluster_set(&g.c.worker[1].params.tensor[0], 1234, 0);
        must(&g, cluster_steps(&g.c, 2)); /* training may go on */
        grawa_stats(g.c.worker[2].g, &s);
        ck_assert_uint_eq(s.rounds, what == 3 ? 4 : 3);
        free(x);
        free(y);
        game_close(&g);
    }
}
END_TEST

/* ---- the same bits, however it is carried out ---- */

typedef struct way {
    const char *name;
    int torture; /* 1: a nasty network */
    weft_sim_mode mode;
    uint64_t latency, jitter, most, seed; /* most: max_message_bytes */
    weft_algorithm algorithm;
    int pool, threads;
    weft_isa isa;
} way;

typedef struct shape {
    uint32_t workers;
    size_t tensors, count[5];
    weft_dtype dtype[5];
    grawa_weighting weighting;
    grawa_source source;
    double proximal;
    uint64_t steps, period;
} shape;

/* A pool that runs its pieces backwards. */
static void backwards(void *ctx, size_t n, weft_pool_body body, void *arg) {
    (void)ctx;
    while (n--) body(arg, n);
}

typedef struct gang {
    pthread_mutex_t lock;
    size_t next, n;
    weft_pool_body body;
    void *arg;
} gang;

static void *gang_work(void *p) {
    gang *g = (gang *)p;
    for (;;) {
        size_t i;
        pthread_mutex_lock(&g->lock);
        i = g->next++;
        pthread_mutex_unlock(&g->lock);
        if (i >= g->n) return NULL;
        g->body(g->arg, i);
    }
}

/* And one with three threads. */
static void together(void *ctx, size_t n, weft_pool_body body, void *arg) {
    gang g = {PTHREAD_MUTEX_INITIALIZER, 0, n, body, arg};
    pthread_t t[2];
    int i;
    (void)ctx;
    for (i = 0; i < 2; i++) ck_assert_int_eq(pthread_create(&t[i], NULL, gang_work, &g), 0);
    gang_work(&g);
    for (i = 0; i < 2; i++) pthread_join(t[i], NULL);
}

static void *worker_thread(void *p) {
    cluster_worker *w = (cluster_worker *)p;
    cluster_blocking(w, *(const uint64_t *)w->user);
    return NULL;
}

/* Hash of everything that came of it; worker 0's parameters in *first if not NULL (the caller frees them). */
static uint64_t play(const shape *s, const way *y, weft_tensors *first) {
    static const weft_pool pools[2] = {{NULL, backwards, NULL}, {NULL, together, NULL}};
    cluster_desc d = cluster_default(y->seed, s->workers);
    cluster c;
    weft_threads_team team;
    weft_transport net[MOST_WORKERS];
    uint64_t h = 0, steps = s->steps;
    uint32_t r, k, i;
    int ok;
    if (y->torture)
        d.sim = weft_sim_torture(y->seed, s->workers);
    else
        d.sim.mode = y->mode;
    if (y->latency || y->jitter) {
        d.sim.latency_ns = y->latency;
        d.sim.jitter_ns = y->jitter;
    }
    d.sim.max_message_bytes = y->most;
    d.data_seed = s->workers * 100 + s->count[0];
    d.start_unequal = 1;
    d.tensors = s->tensors;
    d.count = s->count;
    d.dtype = s->dtype;
    d.user = &steps;
    d.grawa.initial = GRAWA_INITIAL_AVERAGE;
    d.grawa.weighting = s->weighting;
    d.grawa.source = s->source;
    d.grawa.proximal = s->proximal;
    d.grawa.period_steps = (uint32_t)s->period;
    d.grawa.algorithm = y->algorithm;
    d.grawa.isa = y->isa;
    d.grawa.check_replicas = 1;
    if (y->pool) d.grawa.pool = &pools[y->pool - 1];
    if (y->threads) {
        ck_assert_int_eq(weft_threads_init(&team, s->workers), WEFT_OK);
        for (r = 0; r < s->workers; r++) {
            weft_threads_transport(&team, r, &net[r]);
            net[r].max_message_bytes = y->most;
        }
        d.net = net;
    }
    ok = cluster_open(&c, &d);
    if (ok && y->threads) {
        pthread_t t[MOST_WORKERS];
        for (r = 0; r < s->workers; r++) ck_assert_int_eq(pthread_create(&t[r], NULL, worker_thread, &c.worker[r]), 0);
        for (r = 0; r < s->workers; r++) pthread_join(t[r], NULL);
        ok = cluster_fine(&c, "step");
    } else if (ok) {
        ok = cluster_steps(&c, steps);
    }
    if (!ok) ck_abort_msg("%s, %u workers: %s", y->name, s->workers, c.why);
    for (r = 0; r < s->workers; r++) {
        grawa_stats_t st;
        grawa_stats(c.worker[r].g, &st);
        ck_assert_uint_eq(st.rounds, steps / s->period);
        h = h * 0x100000001B3u + cluster_hash(&c.worker[r].params);
        for (i = 0; i < s->workers; i++)
            for (k = 0; k < grawa_groups(c.worker[r].g); k++) {
                double b = grawa_weight(c.worker[r].g, i, k);
                uint64_t bits;
                memcpy(&bits, &b, sizeof bits);
                h = h * 0x100000001B3u + bits;
            }
    }
    if (first) {
        *first = c.worker[0].params;
        c.worker[0].params.tensor = NULL;
        c.worker[0].params.count = 0;
    }
    ok = cluster_close(&c);
    if (!ok) ck_abort_msg("%s, %u workers: %s", y->name, s->workers, c.why);
    if (y->threads) weft_threads_free(&team);
    return h;
}

static const way ways[] = {
    {"eager", 0, WEFT_SIM_EAGER, 0, 0, 0, 1, WEFT_ALGORITHM_AUTO, 0, 0, WEFT_ISA_AUTO},
    {"rendezvous", 0, WEFT_SIM_RENDEZVOUS, 0, 0, 0, 2, WEFT_ALGORITHM_AUTO, 0, 0, WEFT_ISA_AUTO},
    {"slow links", 0, WEFT_SIM_MIXED, 1000, 500000, 0, 3, WEFT_ALGORITHM_AUTO, 0, 0, WEFT_ISA_SERIAL},
    {"messages of 256", 0, WEFT_SIM_EAGER, 10, 0, 256, 4, WEFT_ALGORITHM_AUTO, 0, 0, WEFT_ISA_AUTO},
    {"messages of 1000", 0, WEFT_SIM_RENDEZVOUS, 10, 90, 1000, 5, WEFT_ALGORITHM_AUTO, 0, 0, WEFT_ISA_AUTO},
    {"direct", 0, WEFT_SIM_EAGER, 0, 0, 0, 6, WEFT_ALGORITHM_DIRECT, 0, 0, WEFT_ISA_AUTO},
    {"direct, messages of 256", 0, WEFT_SIM_MIXED, 5, 50, 256, 7, WEFT_ALGORITHM_DIRECT, 0, 0, WEFT_ISA_AUTO},
    {"gather", 0, WEFT_SIM_EAGER, 0, 0, 0, 8, WEFT_ALGORITHM_GATHER, 0, 0, WEFT_ISA_AUTO},
    {"gather, messages of 1000", 0, WEFT_SIM_RENDEZVOUS, 7, 70, 1000, 9, WEFT_ALGORITHM_GATHER, 0, 0, WEFT_ISA_AUTO},
    {"pool, backwards", 0, WEFT_SIM_EAGER, 0, 0, 0, 10, WEFT_ALGORITHM_AUTO, 1, 0, WEFT_ISA_AUTO},
    {"pool of threads", 0, WEFT_SIM_EAGER, 0, 0, 0, 11, WEFT_ALGORITHM_DIRECT, 2, 0, WEFT_ISA_AUTO},
    {"threads", 0, WEFT_SIM_EAGER, 0, 0, 0, 12, WEFT_ALGORITHM_AUTO, 0, 1, WEFT_ISA_AUTO},
    {"threads, messages of 256", 0, WEFT_SIM_EAGER, 0, 0, 256, 13, WEFT_ALGORITHM_DIRECT, 0, 1, WEFT_ISA_AUTO},
    {"threads, messages of 1000", 0, WEFT_SIM_EAGER, 0, 0, 1000, 14, WEFT_ALGORITHM_GATHER, 0, 1, WEFT_ISA_AUTO},
};

static const shape shapes[] = {
    {0, 1, {0}, {WEFT_F32}, GRAWA_BY_MODEL, GRAWA_SOURCE_CLOSING, 0, 4, 2},
    {0, 0, {0}, {WEFT_F32}, GRAWA_BY_MODEL, GRAWA_SOURCE_CLOSING, 0, 2, 1},
    {0, 1, {1}, {WEFT_F32}, GRAWA_BY_LAYER, GRAWA_SOURCE_PROBE, 0.1, 4, 2},
    {0, 4, {3, 0, 1, 3}, {WEFT_F32, WEFT_F64, WEFT_F16, WEFT_BF16}, GRAWA_BY_LAYER, GRAWA_SOURCE_CLOSING, 0.1, 6, 2},
    {0,
     5,
     {333, 250, 0, 416, 1},
     {WEFT_BF16, WEFT_F32, WEFT_F32, WEFT_F64, WEFT_F16},
     GRAWA_BY_MODEL,
     GRAWA_SOURCE_STEPS,
     0,
     6,
     3},
    {0, 3, {999, 1, 0}, {WEFT_F32, WEFT_F32, WEFT_F32}, GRAWA_BY_LAYER, GRAWA_SOURCE_PROBE, 0.2, 4, 2},
};

START_TEST(all_ways_give_the_same_bits) {
    uint32_t n = (uint32_t)_i + 1;
    size_t i, k;
    for (i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        shape s = shapes[i];
        uint64_t h;
        s.workers = n;
        h = play(&s, &ways[0], NULL);
        for (k = 1; k < sizeof ways / sizeof *ways; k++)
            if (play(&s, &ways[k], NULL) != h)
                ck_abort_msg("%s: other bits than %s, shape %zu, %u workers", ways[k].name, ways[0].name, i, n);
    }
}
END_TEST

START_TEST(all_ways_give_the_same_bits_for_large_models) {
    static const uint32_t workers[] = {2, 3, 5, 9};
    shape s = {
        0, 4, {40000, 0, 1, 30000}, {WEFT_F32, WEFT_F32, WEFT_F64, WEFT_BF16}, GRAWA_BY_LAYER, GRAWA_SOURCE_CLOSING, 0,
        2, 1};
    uint64_t h;
    size_t k;
    s.workers = workers[_i];
    h = play(&s, &ways[0], NULL);
    for (k = 1; k < sizeof ways / sizeof *ways; k++)
        if (play(&s, &ways[k], NULL) != h)
            ck_abort_msg("%s: other bits than %s, %u workers", ways[k].name, ways[0].name, s.workers);
}
END_TEST

START_TEST(no_network_within_the_contract_changes_a_bit) {
    uint64_t seed;
    for (seed = 1; seed <= 60; seed++) {
        shape s = shapes[2 + seed % 4];
        way y = ways[0];
        uint64_t h;
        s.workers = 2 + (uint32_t)seed % 6;
        h = play(&s, &y, NULL);
        y.name = "torture";
        y.torture = 1;
        y.seed = seed;
        y.most = seed % 3 ? 0 : 256 + seed * 7;
        if (play(&s, &y, NULL) != h) ck_abort_msg("seed %llu: other bits on a nasty network", (unsigned long long)seed);
    }
}
END_TEST

/* Ring and recursive doubling have an order of their own: the same bits on all workers (check_replicas says so in
 * every round) and in all ways, close to those of the canonical order. */
START_TEST(ring_and_doubling_are_the_same_on_all_workers_and_close_to_the_others) {
    static const weft_algorithm own[] = {WEFT_ALGORITHM_RING, WEFT_ALGORITHM_DOUBLING};
    uint32_t n = (uint32_t)_i + 1;
    size_t i, k, a, t, j;
    for (a = 0; a < 2; a++)
        for (i = 2; i < sizeof shapes / sizeof *shapes; i++) {
            shape s = shapes[i];
            way y = ways[0];
            weft_tensors canonical, other;
            uint64_t h;
            s.workers = n;
            play(&s, &y, &canonical);
            y.name = a ? "doubling" : "ring";
            y.algorithm = own[a];
            h = play(&s, &y, &other);
            for (t = 0; t < s.tensors; t++)
                for (j = 0; j < s.count[t]; j++)
                    if (fabs(cluster_get(&canonical.tensor[t], j) - cluster_get(&other.tensor[t], j)) >
                        40 * unit(s.dtype[t]))
                        ck_abort_msg("%s, %u workers, shape %zu: %.9g, not %.9g", y.name, n, i,
                                     cluster_get(&other.tensor[t], j), cluster_get(&canonical.tensor[t], j));
            cluster_tensors_free(&canonical);
            cluster_tensors_free(&other);
            for (k = 1; k < sizeof ways / sizeof *ways; k++) {
                way z = ways[k];
                if (z.algorithm != WEFT_ALGORITHM_AUTO) continue;
                z.algorithm = own[a];
                if (play(&s, &z, NULL) != h)
                    ck_abort_msg("%s, %s: other bits, shape %zu, %u workers", y.name, z.name, i, n);
            }
        }
}
END_TEST

/* ---- what goes over the wire ---- */

typedef struct tap {
    uint64_t payload[MOST_WORKERS], control[MOST_WORKERS], messages[MOST_WORKERS];
} tap;

/* Everything outside of control messages is payload; of these, what follows the header of an exchange. */
static void tap_message(void *user, const weft_sim_message *m) {
    tap *t = (tap *)user;
    const unsigned char *p = (const unsigned char *)m->data;
    t->messages[m->src]++;
    if (m->tag % WEFT_TAGS_PER_CHANNEL) {
        t->payload[m->src] += m->bytes;
    } else {
        uint64_t data = p[6] == 1 ? m->bytes - WEFT_HEADER_BYTES : 0; /* kind */
        t->payload[m->src] += data;
        t->control[m->src] += m->bytes - data;
    }
}

START_TEST(a_round_moves_the_bytes_that_the_manual_says) {
    uint64_t seed;
    for (seed = 1; seed <= 100; seed++) {
        game g;
        tap t, before;
        grawa_stats_t s;
        uint64_t bytes = 0, sum = 0, rounds = 3, norms, own[MOST_WORKERS];
        uint32_t r, n = 2 + (uint32_t)seed % 8;
        weft_algorithm a = seed % 2 ? WEFT_ALGORITHM_DIRECT : WEFT_ALGORITHM_GATHER;
        size_t i;
        memset(&t, 0, sizeof t);
        game_draw(&g, seed, n, 1 + seed % 6);
        if (seed % 3 == 0) g.count[0] = 3000 + seed;
        g.d.sim.on_message = tap_message;
        g.d.sim.user = &t;
        g.d.sim.max_message_bytes = seed % 5 ? 0 : 1024;
        g.d.grawa.algorithm = a;
        g.d.grawa.weighting = (grawa_weighting)(seed / 2 % 3);
        game_open(&g);
        before = t;
        for (r = 0; r < n; r++) {
            grawa_stats(g.c.worker[r].g, &s);
            own[r] = s.traffic.payload_sent;
        }
        must(&g, cluster_steps(&g.c, rounds));
        for (i = 0; i < g.d.tensors; i++) bytes += g.count[i] * 4;
        norms = g.d.grawa.weighting == GRAWA_UNIFORM ? 0 : 4 * grawa_groups(g.c.worker[0].g);
        for (r = 0; r < n; r++) {
            uint64_t paid = t.payload[r] - before.payload[r] - rounds * norms * (n - 1);
            sum += paid;
            if (a == WEFT_ALGORITHM_GATHER)
                want(&g, paid == rounds * (n - 1) * bytes, "worker %u sent %llu bytes", r, (unsigned long long)paid);
            grawa_stats(g.c.worker[r].g, &s);
            want(&g,
                 s.traffic.payload_sent == t.payload[r] && s.traffic.control_sent == t.control[r] &&
                     s.traffic.messages_sent == t.messages[r],
                 "worker %u counts %llu + %llu bytes", r, (unsigned long long)s.traffic.payload_sent,
                 (unsigned long long)s.traffic.control_sent);
            want(&g, s.traffic.payload_sent - own[r] == t.payload[r] - before.payload[r], "worker %u", r);
        }
        /* direct: 2 (N - 1) / N of the parameters' bytes, on average over the workers */
        if (a == WEFT_ALGORITHM_DIRECT)
            want(&g, sum == rounds * 2 * (n - 1) * bytes, "%llu bytes by all, %llu of parameters",
                 (unsigned long long)sum, (unsigned long long)bytes);
        game_close(&g);
    }
}
END_TEST

START_TEST(in_the_total_trigger_a_step_costs_one_header_to_each_peer) {
    game g;
    tap t, before;
    uint32_t r;
    memset(&t, 0, sizeof t);
    game_draw(&g, 3, 5, 2);
    g.d.sim.on_message = tap_message;
    g.d.sim.user = &t;
    g.d.grawa.trigger = GRAWA_TRIGGER_TOTAL;
    g.d.grawa.period_steps = 10;
    game_open(&g);
    cluster_advance(&g.c, 1000000);
    before = t;
    must(&g, cluster_steps(&g.c, 4));
    cluster_advance(&g.c, 1000000);
    for (r = 0; r < 5; r++) {
        ck_assert_uint_eq(t.payload[r] - before.payload[r], 0);
        ck_assert_uint_eq(t.messages[r] - before.messages[r], 4 * 4);
        ck_assert_uint_eq(t.control[r] - before.control[r], 4 * 4 * 64);
    }
    game_close(&g);
}
END_TEST

START_TEST(memory_is_what_the_manual_says) {
    /* one copy of the parameters, one more with a proximal pull, and little else */
    uint32_t n;
    for (n = 1; n <= MOST_WORKERS; n += 4) {
        size_t d = 100000, bytes[2];
        int prox;
        for (prox = 0; prox < 2; prox++) {
            game g;
            game_draw(&g, n, n, 3);
            g.count[0] = g.count[1] = 0;
            g.count[2] = d;
            g.d.grawa.proximal = prox ? 0.5 : 0;
            game_open(&g);
            bytes[prox] = g.c.worker[0].bytes;
            game_close(&g);
        }
        ck_assert_uint_le(bytes[0], d * 4 + 3 * 64 + n * (2048 + 1024) + 8192);
        ck_assert_uint_ge(bytes[1] - bytes[0], d * 4);
        ck_assert_uint_le(bytes[1] - bytes[0], d * 4 + 1024);
    }
}
END_TEST

/* ---- the proximal pull ---- */

START_TEST(the_proximal_pull_follows_every_step_towards_the_last_center) {
    uint64_t seed;
    for (seed = 1; seed <= 30; seed++) {
        game g;
        double *x, *y, anchor[400], p = 0.4, tau = 1 + (double)(seed % 4);
        size_t n, i;
        uint32_t r, step;
        game_draw(&g, seed, 2 + (uint32_t)seed % 4, 2);
        g.count[0] = 7;
        g.count[1] = 12;
        g.dtype[0] = g.dtype[1] = WEFT_F64;
        g.d.grawa.proximal = p;
        g.d.grawa.period_steps = (uint32_t)tau;
        memset(g.plays, 0, sizeof g.plays); /* equal in the beginning */
        game_open(&g);
        n = elements(&g);
        x = snapshot(&g);
        memcpy(anchor, x, n * sizeof *x);
        free(x);
        for (step = 0; step < 3 * (uint32_t)tau; step++) {
            int closes = (step + 1) % (uint32_t)tau == 0;
            for (r = 0; r < g.c.size; r++) /* they drift apart */
                for (i = 0; i < n; i++) {
                    const weft_tensor *t = &g.c.worker[r].params.tensor[i < 7 ? 0 : 1];
                    size_t k = i < 7 ? i : i - 7;
                    cluster_set(t, k, cluster_get(t, k) + 0.1 * (double)(r + 1) * (double)(i % 3));
                }
            x = snapshot(&g);
            for (r = 0; r < g.c.size; r++)
                for (i = 0; i < n; i++) x[r * n + i] = (1 - p / tau) * x[r * n + i] + p / tau * anchor[i];
            for (i = 0; i < n; i++) anchor[i] = closes ? 0 : anchor[i];
            must(&g, cluster_steps(&g.c, 1));
            for (r = 0; closes && r < g.c.size; r++)
                for (i = 0; i < n; i++) anchor[i] += grawa_weight(g.c.worker[0].g, r, 0) * x[r * n + i];
            y = snapshot(&g);
            for (r = 0; r < g.c.size; r++)
                for (i = 0; i < n; i++) {
                    double e = closes ? 0.5 * x[r * n + i] + 0.5 * anchor[i] : x[r * n + i];
                    want(&g, fabs(y[r * n + i] - e) < 1e-12, "step %u, worker %u: %.15g, not %.15g", step, r,
                         y[r * n + i], e);
                }
            free(x);
            free(y);
        }
        game_close(&g);
    }
}
END_TEST

static Suite *suite(void) {
    Suite *s = suite_create("grawa");
    TCase *t = tcase_create("facts");
    tcase_set_timeout(t, 60);
    tcase_add_test(t, p1_p2_p6_p7_p8_hold_in_every_round);
    tcase_add_test(t, p3_common_factors_of_the_gradients_change_no_bit_of_the_weights);
    tcase_add_test(t, p3_the_bias_correction_does_not_change_the_weights);
    tcase_add_test(t, p4_equal_norms_give_equal_weights);
    tcase_add_test(t, p5_permuting_the_workers_permutes_the_results);
    tcase_add_test(t, p7_one_worker_is_not_changed_by_a_single_bit);
    tcase_add_test(t, p9_by_layer_with_one_tensor_is_by_model);
    tcase_add_test(t, p10_sum_and_euclidean_agree_if_all_tensors_have_the_same_proportion);
    tcase_add_test(t, uniform_weighting_is_the_plain_mean_and_looks_at_no_gradient);
    tcase_add_test(t, p11_on_a_convex_objective_a_round_makes_nothing_worse);
    tcase_add_test(t, p12_disagreement_stays_within_its_bound_and_can_reach_it);
    tcase_add_test(t, consensus_with_zero_gradients_stays_where_it_is);
    suite_add_tcase(s, t);
    t = tcase_create("rules");
    tcase_set_timeout(t, 60);
    tcase_add_test(t, rounds_agree_with_the_model);
    tcase_add_test(t, rounds_with_strange_gradients_agree_with_the_model);
    tcase_add_test(t, step_averages_restart_after_a_round_by_model_and_never_by_layer);
    tcase_add_test(t, step_averages_are_corrected_for_each_workers_own_number_of_steps);
    tcase_add_test(t, every_bit_is_as_the_arithmetic_contract_says);
    tcase_add_test(t, zero_norms_share_the_weight_and_nobodys_norm_means_equal_weights);
    tcase_add_test(t, norms_at_the_ends_of_the_range_give_weights_all_the_same);
    tcase_add_test(t, a_model_that_is_not_finite_never_enters_the_center);
    tcase_add_test(t, a_guard_that_rejects_leaves_all_parameters_alone);
    tcase_add_test(t, the_proximal_pull_follows_every_step_towards_the_last_center);
    suite_add_tcase(s, t);
    t = tcase_create("bits");
    tcase_set_timeout(t, 120);
    tcase_add_loop_test(t, all_ways_give_the_same_bits, 0, MOST_WORKERS);
    tcase_add_loop_test(t, all_ways_give_the_same_bits_for_large_models, 0, 4);
    tcase_add_test(t, no_network_within_the_contract_changes_a_bit);
    tcase_add_loop_test(t, ring_and_doubling_are_the_same_on_all_workers_and_close_to_the_others, 0, MOST_WORKERS);
    suite_add_tcase(s, t);
    t = tcase_create("wire");
    tcase_set_timeout(t, 60);
    tcase_add_test(t, a_round_moves_the_bytes_that_the_manual_says);
    tcase_add_test(t, in_the_total_trigger_a_step_costs_one_header_to_each_peer);
    tcase_add_test(t, memory_is_what_the_manual_says);
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
