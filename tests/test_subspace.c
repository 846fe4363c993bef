/* SPDX-License-Identifier: MIT
 * test_subspace.c: what AdaCons promises as an algorithm: the properties of its specification over many random cases,
 * agreement with a plain model of it, the same bits however it is carried out, and how many bytes a round moves. */
#define GRAWA_IMPLEMENTATION
#include "../grawa.h"
#define SUBSPACE_IMPLEMENTATION
#include "../subspace.h"
#include "../examples/transports/weft_threads.h"
#include "subspace_model.h"
#include "subspace_team.h"

#include <check.h>
#include <pthread.h>
#include <stdio.h>

#define MOST_WORKERS 9
#define MOST_TENSORS 24

#define must(t, e)                                                                                                     \
    do {                                                                                                               \
        if (!(e)) ck_abort_msg("%s: %s", #e, (t)->why);                                                                \
    } while (0)

static double unit(weft_dtype d) { /* half a distance of neighbours, relative */
    return d == WEFT_F32 ? 0x1p-24 : d == WEFT_F64 ? 0x1p-53 : d == WEFT_BF16 ? 0x1.01p-8 : 0x1.01p-11;
}

static double smallest(weft_dtype d) { /* half the distance of subnormals */
    return d == WEFT_F32 ? 0x1p-150 : d == WEFT_F64 ? 0x1p-1074 : d == WEFT_BF16 ? 0x1p-134 : 0x1p-25;
}

static double dot_of(const double *a, const double *b, size_t n) {
    long double s = 0;
    size_t i;
    for (i = 0; i < n; i++) s += (long double)a[i] * b[i];
    return (double)s;
}

/* Everybody's gradients as doubles: [rank][element]; the caller frees them. */
static double *snapshot(const team *t) {
    size_t n = team_elements(t);
    double *x = model_room(t->size * n);
    uint32_t r;
    for (r = 0; r < t->size; r++) team_flat(&t->worker[r].grads, x + r * n);
    return x;
}

static int untouched(const team *t, const double *before) {
    double *now = snapshot(t);
    size_t i, n = t->size * team_elements(t);
    int same = 1;
    for (i = 0; i < n; i++) same = same && (now[i] == before[i] || (isnan(now[i]) && isnan(before[i])));
    free(now);
    return same;
}

static subspace_worker_t numbers_of(const team *t, uint32_t by, uint32_t rank, uint32_t group) {
    subspace_worker_t n;
    memset(&n, 0, sizeof n);
    ck_assert_int_eq(subspace_worker(t->worker[by].a, rank, group, &n), WEFT_OK);
    return n;
}

static subspace_stats_t stats_of(const team *t, uint32_t rank) {
    subspace_stats_t s;
    subspace_stats(t->worker[rank].a, &s);
    return s;
}

/* ---- agreement with the model ---- */

/* A model with the settings of a team; its gradients are those that the team has now. */
static void model_of(model *m, const team *t, const uint32_t *group_of_tensor) {
    size_t n = team_elements(t), k = 0, i, j;
    uint32_t *group_of = (uint32_t *)calloc(n + 1, sizeof *group_of);
    subspace_desc d;
    for (i = 0; group_of_tensor && i < t->desc.tensors; i++)
        for (j = 0; j < t->desc.count[i]; j++) group_of[k++] = group_of_tensor[i];
    subspace_effective(t->worker[0].a, &d);
    model_open(m, t->size, n, d.groups, group_of);
    free(group_of);
    m->rule = d.rule;
    m->assignment = d.assignment;
    m->scale = d.scale;
    m->negative = d.negative;
    m->momentum = d.momentum;
    m->epsilon = d.epsilon;
}

static void model_take(model *m, const team *t) {
    uint32_t r;
    for (r = 0; r < t->size; r++) team_flat(&t->worker[r].grads, m->g + r * m->elements);
}

/* All objects' numbers, and what they made of the gradients, against a round of the model. Weights whose sum cancels
 * carry the errors of the alphas with them, as often larger as the weights are. */
static void agree(const team *t, const model *m, const subspace_stats_t *before, const char *what) {
    const size_t each = m->workers * m->groups;
    double *out = model_room(m->elements), most[64], length = 0;
    uint32_t r, i, g, k;
    size_t e, tensor, at;
    ck_assert(m->groups <= 64);
    for (i = 0; i < each; i++)
        if (!m->excluded[i]) length += m->norm[i] * m->samples[i % m->workers];
    for (g = 0; g < m->groups; g++)
        for (most[g] = 1, i = 0; i < m->workers; i++) most[g] += fabs(m->weight[g * m->workers + i]);
    for (r = 0; r < t->size; r++) {
        const subspace *a = t->worker[r].a;
        subspace_stats_t s = stats_of(t, r);
        uint32_t out_of = 0;
        for (i = 0; i < m->workers; i++) {
            for (g = 0; g < m->groups && !m->excluded[g * m->workers + i]; g++) continue;
            out_of += g < m->groups;
        }
        ck_assert_msg(s.rounds == before->rounds + 1 && s.members == m->workers &&
                          s.participants == m->workers - out_of &&
                          s.nonfinite_gradients == before->nonfinite_gradients + out_of,
                      "%s: the counts of workers", what);
        ck_assert_msg(s.zero_sums == before->zero_sums + m->zero_sums, "%s: %llu zero sums instead of %llu", what,
                      (unsigned long long)(s.zero_sums - before->zero_sums), (unsigned long long)m->zero_sums);
        ck_assert_msg(s.scale_fallbacks == before->scale_fallbacks + m->fallbacks, "%s: %llu fallbacks instead of %llu",
                      what, (unsigned long long)(s.scale_fallbacks - before->scale_fallbacks),
                      (unsigned long long)m->fallbacks);
        ck_assert_msg(s.restarts == before->restarts + m->restarts, "%s: restarts", what);
        for (g = 0; g < m->groups; g++) {
            double slots[64], f = subspace_scale_of(a, g);
            ck_assert_uint_eq(subspace_slots(a, g, slots, 64), m->slot_count[g]);
            for (k = 0; k < m->slot_count[g]; k++)
                ck_assert_msg(fabs(slots[k] - m->slots[g * m->workers + k]) <=
                                  1e-12 * (length + fabs(m->slots[g * m->workers + k]) + 1e-300),
                              "%s: slot %u of group %u is %.17g instead of %.17g", what, k, g, slots[k],
                              m->slots[g * m->workers + k]);
            ck_assert_msg(fabs(f - m->factor[g]) <= 1e-12 * most[g] * most[g] * fabs(m->factor[g]),
                          "%s: the scale of group %u is %.17g instead of %.17g", what, g, f, m->factor[g]);
            for (i = 0; i < m->workers; i++) {
                const size_t w = g * m->workers + i;
                subspace_worker_t n;
                weft_status st = subspace_worker(a, i, g, &n);
                if (m->excluded[w]) {
                    ck_assert_int_eq(st, WEFT_ERR_ARGUMENT);
                    continue;
                }
                ck_assert_int_eq(st, WEFT_OK);
                if (m->rule != SUBSPACE_MEAN) {
                    ck_assert_msg(fabs(n.norm - m->norm[w]) <= 1e-13 * m->norm[w], "%s: norm %.17g instead of %.17g",
                                  what, n.norm, m->norm[w]);
                    ck_assert_msg(fabs(n.dot - m->dot[w]) <= 1e-12 * m->norm[w] * length,
                                  "%s: dot %.17g instead of %.17g", what, n.dot, m->dot[w]);
                    ck_assert_msg(fabs(n.alpha - m->alpha[w]) <= 1e-12 * length, "%s: alpha %.17g instead of %.17g",
                                  what, n.alpha, m->alpha[w]);
                }
                ck_assert_msg(fabs(n.weight - m->weight[w]) <= 1e-12 * most[g] * most[g] * (1 + fabs(m->weight[w])),
                              "%s: weight of %u in group %u is %.17g instead of %.17g", what, i, g, n.weight,
                              m->weight[w]);
                ck_assert_msg(fabs(n.coefficient - m->coefficient[w]) <=
                                  1e-12 * most[g] * most[g] *
                                      (fabs(m->coefficient[w]) + 1 / (m->norm[w] + m->epsilon + 1e-300)),
                              "%s: coefficient of %u in group %u is %.17g instead of %.17g", what, i, g, n.coefficient,
                              m->coefficient[w]);
            }
        }
        team_flat(&t->worker[r].grads, out);
        for (tensor = 0, at = 0; tensor < t->desc.tensors; tensor++) {
            const weft_dtype dt = t->worker[r].grads.tensor[tensor].dtype;
            for (e = 0; e < t->desc.count[tensor]; e++, at++) {
                double sum = m->rule == SUBSPACE_MEAN ? (m->workers + 1) * unit(dt == WEFT_F64 ? dt : WEFT_F32) : 0;
                double allowed = unit(dt) * fabs(m->out[at]) + smallest(dt) +
                                 (sum + 1e-12 * most[m->group_of[at]] * most[m->group_of[at]]) * m->size[at];
                ck_assert_msg(fabs(out[at] - m->out[at]) <= 1.01 * allowed,
                              "%s: worker %u, element %zu of %zu is %.17g instead of %.17g (%.3g allowed)", what, r, at,
                              m->elements, out[at], m->out[at], allowed);
            }
        }
    }
    free(out);
}

static const size_t some_sizes[] = {0, 1, 3, 15, 16, 17, 63, 64, 65, 100, 300};

typedef struct draw {
    uint64_t seed;
    team_desc d;
    size_t count[MOST_TENSORS];
    weft_dtype dtype[MOST_TENSORS];
    uint32_t group_of[MOST_TENSORS];
    double samples[MOST_WORKERS];
    int by_group;
} draw;

/* A random shape, types, groups and all settings. */
static void draw_all(draw *w, uint64_t seed, uint32_t workers, size_t tensors) {
    uint64_t rng = seed * 0x9E3779B9u + 1;
    size_t i;
    memset(w, 0, sizeof *w);
    w->seed = seed;
    w->d = team_default(seed, workers);
    w->d.tensors = tensors;
    w->d.count = w->count;
    w->d.dtype = w->dtype;
    for (i = 0; i < tensors; i++) {
        w->count[i] = some_sizes[cluster_below(&rng, 11)];
        w->dtype[i] = (weft_dtype)cluster_below(&rng, 4);
    }
    if (!w->count[0]) w->count[0] = 7;
    w->d.s.assignment = (subspace_assignment)cluster_below(&rng, 2);
    w->d.s.rule = cluster_below(&rng, 4) ? SUBSPACE_NORMALISED : (subspace_rule)(1 + cluster_below(&rng, 2));
    w->d.s.scale = w->d.s.rule == SUBSPACE_MEAN ? SUBSPACE_SCALE_DEFAULT : (subspace_scale)cluster_below(&rng, 4);
    w->d.s.negative = (subspace_negative)cluster_below(&rng, 3);
    w->d.s.momentum = cluster_below(&rng, 3) ? 0.5 + 0.499 * fabs(cluster_uniform(&rng)) : 0;
    if (cluster_below(&rng, 3) == 0) w->d.s.epsilon = cluster_below(&rng, 2) ? WEFT_ZERO : 0.5;
    w->by_group = cluster_below(&rng, 2) != 0;
    if (w->by_group) {
        w->d.s.groups = 1 + cluster_below(&rng, 5);
        w->d.s.group_of_tensor = w->group_of;
        for (i = 0; i < tensors; i++) w->group_of[i] = cluster_below(&rng, w->d.s.groups);
    }
    for (i = 0; i < workers; i++) w->samples[i] = cluster_below(&rng, 2) ? 1 : 1 + cluster_below(&rng, 9);
}

static void random_rounds(uint64_t seed, int strange) {
    uint64_t rng = seed * 31 + 5;
    draw w;
    team t;
    model m;
    uint64_t round;
    uint32_t r, weighted = cluster_below(&rng, 2);
    char what[80];
    draw_all(&w, seed, 1 + (uint32_t)(seed * 7919 % MOST_WORKERS), 1 + seed % 7);
    must(&t, team_open(&t, &w.d));
    model_of(&m, &t, w.by_group ? w.group_of : NULL);
    for (round = 0; round < 3; round++) {
        subspace_stats_t before = stats_of(&t, 0);
        weft_status all = WEFT_OK;
        team_fill(&t, seed * 10 + round);
        for (r = 0; r < t.size && strange; r++) {
            const weft_tensors *g = &t.worker[r].grads;
            size_t k = cluster_below(&rng, (uint32_t)g->count), i;
            const uint32_t kind = cluster_below(&rng, 6);
            if (!g->tensor[k].count) continue;
            if (kind == 0) /* a zero tensor */
                memset(g->tensor[k].data, 0, g->tensor[k].count * weft_dtype_bytes(g->tensor[k].dtype));
            if (kind == 1) cluster_set(&g->tensor[k], cluster_below(&rng, (uint32_t)g->tensor[k].count), (double)NAN);
            if (kind == 2) cluster_set(&g->tensor[k], g->tensor[k].count - 1, -(double)INFINITY);
            if (kind == 3) /* nothing at all */
                for (i = 0; i < g->count; i++)
                    memset(g->tensor[i].data, 0, g->tensor[i].count * weft_dtype_bytes(g->tensor[i].dtype));
            if (kind == 4 && r > 0) /* the same as another one */
                cluster_copy(&t.worker[r - 1].grads, g);
            if (kind == 5) /* opposed */
                for (k = 0; k < g->count; k++)
                    for (i = 0; i < g->tensor[k].count; i++)
                        cluster_set(&g->tensor[k], i, -0.5 * cluster_get(&g->tensor[k], i));
        }
        if (round == 1 && weighted)
            for (r = 0; r < t.size; r++) {
                ck_assert_int_eq(subspace_set_batch(t.worker[r].a, w.samples[r]), WEFT_OK);
                m.samples[r] = w.samples[r];
            }
        model_take(&m, &t);
        model_round(&m);
        snprintf(what, sizeof what, "seed %llu, round %llu", (unsigned long long)seed, (unsigned long long)round);
        if (m.nobody) {
            double *kept = snapshot(&t);
            TEAM_ALL(&t, x, subspace_submit(x->a, 0, x->grads.count));
            for (r = 0; r < t.size; r++) ck_assert_int_eq(t.worker[r].status, WEFT_ERR_NONFINITE);
            must(&t, untouched(&t, kept));
            free(kept);
            break; /* the model has taken the other groups' numbers into its average */
        }
        TEAM_ALL(&t, x, subspace_submit(x->a, 0, x->grads.count));
        all = t.worker[0].status;
        if (all == WEFT_ERR_NONFINITE) { /* an aggregate that does not fit its type: BASIC and small types */
            double most = 0;
            size_t i;
            for (i = 0; i < m.elements; i++) most = fmax(most, fabs(m.out[i]));
            ck_assert_msg(most > 60000, "%s: rejected", what);
            break;
        }
        must(&t, team_fine(&t, "round") && team_alike(&t));
        agree(&t, &m, &before, what);
    }
    model_close(&m);
    must(&t, team_close(&t));
}

START_TEST(rounds_agree_with_the_model) {
    uint64_t seed;
    for (seed = (uint64_t)_i * 60; seed < (uint64_t)_i * 60 + 60; seed++) random_rounds(seed, 0);
}
END_TEST

START_TEST(rounds_with_strange_gradients_agree_with_the_model) {
    uint64_t seed;
    for (seed = (uint64_t)_i * 60; seed < (uint64_t)_i * 60 + 60; seed++) random_rounds(1000 + seed, 1);
}
END_TEST

/* ---- the same bits, however it is carried out ---- */

typedef struct way {
    const char *name;
    int torture;
    weft_sim_mode mode;
    uint64_t latency, jitter, most, seed;
    int pool;    /* 1: backwards, 2: threads */
    int threads; /* workers are threads, with the blocking verb */
    weft_isa isa;
    subspace_plan plan;
    int in_place;
} way;

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

static void together(void *ctx, size_t n, weft_pool_body body, void *arg) {
    gang g = {PTHREAD_MUTEX_INITIALIZER, 0, n, body, arg};
    pthread_t t[2];
    int i;
    (void)ctx;
    for (i = 0; i < 2; i++) ck_assert_int_eq(pthread_create(&t[i], NULL, gang_work, &g), 0);
    gang_work(&g);
    for (i = 0; i < 2; i++) pthread_join(t[i], NULL);
}

static const weft_pool pools[2] = {{NULL, backwards, NULL}, {NULL, together, NULL}};

typedef struct shape {
    uint32_t workers;
    size_t tensors, count[MOST_TENSORS];
    weft_dtype dtype[MOST_TENSORS];
    subspace_desc s; /* settings */
    uint32_t group_of[MOST_TENSORS];
    uint64_t rounds;
    int sick; /* in round 1 worker 1 has an element that is not finite */
    int weighted;
} shape;

static void shape_of_all_sizes(shape *s, uint32_t workers, weft_dtype dtype) {
    static const size_t size[] = {0, 1, 63, 64, 65, 1023, 1024, 1025, 3, 2, 1, 5, 8, 0, 7, 31, 33, 2100};
    size_t i;
    memset(s, 0, sizeof *s);
    s->workers = workers;
    s->tensors = sizeof size / sizeof *size;
    for (i = 0; i < s->tensors; i++) {
        s->count[i] = size[i];
        s->dtype[i] = dtype;
    }
    s->rounds = 3;
    s->s.momentum = 0.9;
}

/* Many types beside each other, in groups. */
static void shape_of_all_types(shape *s, uint32_t workers) {
    size_t i;
    shape_of_all_sizes(s, workers, WEFT_F32);
    s->s.groups = 3;
    s->s.group_of_tensor = s->group_of;
    for (i = 0; i < s->tensors; i++) {
        s->dtype[i] = (weft_dtype)(i * 7 / 3 % 4);
        s->group_of[i] = (uint32_t)(i * 5 % 3);
    }
    s->weighted = 1;
}

static void fill_round(const shape *s, const weft_tensors *g, uint64_t round, uint32_t rank) {
    size_t k;
    team_fill_one(g, s->workers * 100 + round, rank, 1.5);
    if (s->sick && round == 1 && rank == 1 % s->workers && s->workers > 1)
        for (k = 0; k < g->count; k++)
            if (g->tensor[k].count > 60) cluster_set(&g->tensor[k], 60, (double)NAN);
}

static double samples_of(const shape *s, uint32_t rank) {
    return s->weighted ? 1 + rank % 3 : 1;
}

/* What is to be compared: bits of the aggregate, of everybody's numbers, of the average. */
static uint64_t everything(const subspace *a, const weft_tensors *out, uint32_t workers) {
    uint64_t h = cluster_hash(out);
    uint32_t g, i;
    for (g = 0; g < subspace_groups(a); g++) {
        double v[5 * 16 + 2];
        uint32_t n = subspace_slots(a, g, v, 16), k;
        for (i = 0; i < workers; i++) {
            subspace_worker_t w;
            if (subspace_worker(a, i, g, &w) != WEFT_OK) continue;
            v[n++] = w.norm;
            v[n++] = w.dot;
            v[n++] = w.alpha;
            v[n++] = w.weight;
            v[n++] = w.coefficient;
        }
        v[n++] = subspace_scale_of(a, g);
        for (k = 0; k < n; k++) h = h * 0x100000001B3u + weft_double_bits(v[k]);
    }
    return h;
}

static void *worker_thread(void *p) {
    team_worker *w = (team_worker *)p;
    const shape *s = (const shape *)w->t->desc.user;
    uint64_t round, h = 0;
    for (round = 0; round < s->rounds && w->status == WEFT_OK; round++) {
        fill_round(s, &w->grads, round, w->rank);
        w->status = subspace_aggregate(w->a);
        h = h * 0x100000001B3u + everything(w->a, &w->grads, s->workers);
    }
    ((uint64_t *)w->t->desc.s.trace_ctx)[w->rank] = h;
    return NULL;
}

static uint64_t over_the_network(shape *s, const way *y) {
    team_desc d = team_default(y->seed, s->workers);
    weft_threads_team threads;
    weft_transport net[MOST_WORKERS];
    uint64_t h = 0, of_thread[MOST_WORKERS], round;
    uint32_t r;
    team t;
    if (y->torture)
        d.sim = weft_sim_torture(y->seed, s->workers);
    else
        d.sim.mode = y->mode;
    d.sim.eager_bytes = 100;
    if (y->latency || y->jitter) {
        d.sim.latency_ns = y->latency;
        d.sim.jitter_ns = y->jitter;
    }
    d.sim.max_message_bytes = y->most;
    d.tensors = s->tensors;
    d.count = s->count;
    d.dtype = s->dtype;
    d.user = s;
    d.s = s->s;
    d.s.struct_size = sizeof d.s;
    d.s.isa = y->isa;
    d.s.plan = y->plan;
    d.s.in_place = y->in_place;
    d.sim.shared = y->plan == SUBSPACE_PLAN_SHARED;
    d.s.trace_ctx = of_thread;
    if (y->pool) d.s.pool = &pools[y->pool - 1];
    if (y->threads) {
        ck_assert_int_eq(weft_threads_init(&threads, s->workers), WEFT_OK);
        for (r = 0; r < s->workers; r++) {
            weft_threads_transport(&threads, r, &net[r]);
            net[r].max_message_bytes = y->most;
        }
        d.net = net;
    }
    must(&t, team_open(&t, &d));
    {
        subspace_desc e;
        subspace_effective(t.worker[0].a, &e);
        ck_assert_int_eq(e.plan, y->plan ? y->plan : y->threads ? SUBSPACE_PLAN_SHARED : SUBSPACE_PLAN_EXCHANGE);
        ck_assert_int_eq(e.in_place, y->in_place);
    }
    for (r = 0; r < s->workers; r++) ck_assert_int_eq(subspace_set_batch(t.worker[r].a, samples_of(s, r)), WEFT_OK);
    if (y->threads) {
        pthread_t thread[MOST_WORKERS];
        for (r = 0; r < s->workers; r++)
            ck_assert_int_eq(pthread_create(&thread[r], NULL, worker_thread, &t.worker[r]), 0);
        for (r = 0; r < s->workers; r++) pthread_join(thread[r], NULL);
        must(&t, team_fine(&t, "aggregate"));
        for (r = 0; r < s->workers; r++) ck_assert_uint_eq(of_thread[r], of_thread[0]);
        h = of_thread[0];
    } else {
        for (round = 0; round < s->rounds; round++) {
            for (r = 0; r < s->workers; r++) fill_round(s, &t.worker[r].grads, round, r);
            if (!team_aggregate(&t)) ck_abort_msg("%s, %u workers: %s", y->name, s->workers, t.why);
            for (r = 1; r < s->workers; r++)
                ck_assert_msg(everything(t.worker[r].a, &t.worker[r].grads, s->workers) ==
                                  everything(t.worker[0].a, &t.worker[0].grads, s->workers),
                              "%s, %u workers: not the same on workers 0 and %u", y->name, s->workers, r);
            h = h * 0x100000001B3u + everything(t.worker[0].a, &t.worker[0].grads, s->workers);
        }
    }
    for (r = 0; r < s->workers; r++) {
        subspace_stats_t st;
        subspace_stats(t.worker[r].a, &st);
        ck_assert_uint_eq(subspace_state(t.worker[r].a) & SUBSPACE_GRADIENTS_LOST, 0);
        if (y->plan == SUBSPACE_PLAN_SHARED) /* the others' addresses and numbers, no gradients */
            ck_assert_uint_le(st.traffic.payload_sent,
                              s->rounds * (s->workers - 1) *
                                  (sizeof(void *) + 2 * 16 * s->workers * subspace_groups(t.worker[r].a)));
    }
    if (!team_close(&t)) ck_abort_msg("%s, %u workers: %s", y->name, s->workers, t.why);
    if (y->threads) weft_threads_free(&threads);
    return h;
}

/* into: 0: a list of its own, 1: the first gradient, 2: the last one */
static uint64_t in_one_place(const shape *s, weft_isa isa, int pool, int into) {
    pile p;
    subspace_desc d = s->s;
    double samples[MOST_WORKERS];
    uint64_t round, h = 0;
    uint32_t r;
    d.isa = isa;
    d.pool = pool ? &pools[pool - 1] : NULL;
    ck_assert_int_eq(pile_open(&p, &d, s->workers, s->tensors, s->count, s->dtype), WEFT_OK);
    for (r = 0; r < s->workers; r++) samples[r] = samples_of(s, r);
    for (round = 0; round < s->rounds; round++) {
        const weft_tensors *out = into == 0 ? &p.out : into == 1 ? &p.grads[0] : &p.grads[s->workers - 1];
        for (r = 0; r < s->workers; r++) fill_round(s, &p.grads[r], round, r);
        ck_assert_int_eq(subspace_combine(p.a, p.grads, p.n, s->weighted ? samples : NULL, out), WEFT_OK);
        h = h * 0x100000001B3u + everything(p.a, out, s->workers);
    }
    ck_assert(pile_close(&p));
    return h;
}

static const way ways[] = {
    {"eager", 0, WEFT_SIM_EAGER, 0, 0, 0, 1, 0, 0, WEFT_ISA_AUTO, SUBSPACE_PLAN_DEFAULT, 0},
    {"rendezvous", 0, WEFT_SIM_RENDEZVOUS, 0, 0, 0, 2, 0, 0, WEFT_ISA_AUTO, SUBSPACE_PLAN_DEFAULT, 0},
    {"slow links", 0, WEFT_SIM_MIXED, 1000, 500000, 0, 3, 0, 0, WEFT_ISA_AUTO, SUBSPACE_PLAN_DEFAULT, 0},
    {"messages of 256 bytes", 0, WEFT_SIM_THRESHOLD, 0, 0, 256, 4, 0, 0, WEFT_ISA_AUTO, SUBSPACE_PLAN_DEFAULT, 0},
    {"messages of 256 bytes, rendezvous", 0, WEFT_SIM_RENDEZVOUS, 1000, 3000, 256, 5, 0, 0, WEFT_ISA_AUTO,
     SUBSPACE_PLAN_DEFAULT, 0},
    {"messages of 1000 bytes", 0, WEFT_SIM_EAGER, 1000, 3000, 1000, 6, 0, 0, WEFT_ISA_AUTO, SUBSPACE_PLAN_DEFAULT, 0},
    {"torture", 1, WEFT_SIM_EAGER, 0, 0, 0, 7, 0, 0, WEFT_ISA_AUTO, SUBSPACE_PLAN_DEFAULT, 0},
    {"torture", 1, WEFT_SIM_EAGER, 0, 0, 256, 8, 0, 0, WEFT_ISA_AUTO, SUBSPACE_PLAN_DEFAULT, 0},
    {"torture", 1, WEFT_SIM_EAGER, 0, 0, 0, 9, 0, 0, WEFT_ISA_AUTO, SUBSPACE_PLAN_DEFAULT, 0},
    {"pool, backwards", 0, WEFT_SIM_EAGER, 0, 0, 0, 10, 1, 0, WEFT_ISA_AUTO, SUBSPACE_PLAN_DEFAULT, 0},
    {"pool of threads", 0, WEFT_SIM_EAGER, 0, 0, 0, 11, 2, 0, WEFT_ISA_AUTO, SUBSPACE_PLAN_DEFAULT, 0},
    {"threads", 0, WEFT_SIM_EAGER, 0, 0, 0, 12, 0, 1, WEFT_ISA_AUTO, SUBSPACE_PLAN_DEFAULT, 0},
    {"threads, messages of 256 bytes", 0, WEFT_SIM_EAGER, 0, 0, 256, 13, 0, 1, WEFT_ISA_AUTO, SUBSPACE_PLAN_DEFAULT, 0},
    {"serial", 0, WEFT_SIM_EAGER, 0, 0, 0, 14, 0, 0, WEFT_ISA_SERIAL, SUBSPACE_PLAN_DEFAULT, 0},
    {"sse2", 0, WEFT_SIM_EAGER, 0, 0, 0, 15, 0, 0, WEFT_ISA_SSE2, SUBSPACE_PLAN_DEFAULT, 0},
    {"avx2", 0, WEFT_SIM_EAGER, 0, 0, 0, 16, 0, 0, WEFT_ISA_AVX2, SUBSPACE_PLAN_DEFAULT, 0},
    {"avx512", 0, WEFT_SIM_EAGER, 0, 0, 0, 17, 0, 0, WEFT_ISA_AVX512, SUBSPACE_PLAN_DEFAULT, 0},
    {"neon", 0, WEFT_SIM_EAGER, 0, 0, 0, 18, 0, 0, WEFT_ISA_NEON, SUBSPACE_PLAN_DEFAULT, 0},
    {"threads, exchange", 0, WEFT_SIM_EAGER, 0, 0, 0, 19, 0, 1, WEFT_ISA_AUTO, SUBSPACE_PLAN_EXCHANGE, 0},
    {"shared memory", 0, WEFT_SIM_EAGER, 0, 0, 0, 20, 0, 0, WEFT_ISA_AUTO, SUBSPACE_PLAN_SHARED, 0},
    {"shared memory, torture", 1, WEFT_SIM_EAGER, 0, 0, 0, 21, 2, 0, WEFT_ISA_AUTO, SUBSPACE_PLAN_SHARED, 0},
};
/* with chunks of their own */
static const way ways_in_place[] = {
    {"in place", 0, WEFT_SIM_EAGER, 0, 0, 0, 24, 0, 0, WEFT_ISA_AUTO, SUBSPACE_PLAN_EXCHANGE, 1},
    {"in place, torture", 1, WEFT_SIM_EAGER, 0, 0, 0, 25, 2, 0, WEFT_ISA_AUTO, SUBSPACE_PLAN_EXCHANGE, 1},
    {"in place, rendezvous", 0, WEFT_SIM_RENDEZVOUS, 1000, 3000, 256, 26, 0, 0, WEFT_ISA_SERIAL, SUBSPACE_PLAN_EXCHANGE,
     1},
    {"shared memory, in place", 0, WEFT_SIM_RENDEZVOUS, 0, 0, 0, 22, 0, 0, WEFT_ISA_AUTO, SUBSPACE_PLAN_SHARED, 1},
    {"threads, in place", 0, WEFT_SIM_EAGER, 0, 0, 0, 23, 0, 1, WEFT_ISA_AUTO, SUBSPACE_PLAN_SHARED, 1},
    {"in place, threads", 0, WEFT_SIM_EAGER, 0, 0, 0, 27, 1, 1, WEFT_ISA_AUTO, SUBSPACE_PLAN_EXCHANGE, 1},
};
#define WAYS_IN_PLACE (sizeof ways_in_place / sizeof *ways_in_place)
#define WAYS (sizeof ways / sizeof *ways)

static void all_ways_in_place(shape *s) {
    uint64_t want;
    size_t i;
    s->s.in_place = 1;
    s->s.plan = SUBSPACE_PLAN_EXCHANGE;
    want = in_one_place(s, WEFT_ISA_AUTO, 0, 0);
    for (i = 0; i < WAYS_IN_PLACE; i++)
        ck_assert_msg(over_the_network(s, &ways_in_place[i]) == want,
                      "%s, %u workers: not the bits of subspace_combine", ways_in_place[i].name, s->workers);
    s->s.in_place = 0;
    s->s.plan = SUBSPACE_PLAN_DEFAULT;
}

static void all_ways(shape *s, size_t from, size_t to) {
    const uint64_t want = in_one_place(s, WEFT_ISA_SERIAL, 0, 0);
    size_t i;
    int isa;
    if (s->s.group_of_tensor) s->s.group_of_tensor = s->group_of;
    for (isa = WEFT_ISA_AUTO; isa < WEFT_ISA_COUNT; isa++)
        if (weft_isa_available((weft_isa)isa)) {
            ck_assert_uint_eq(in_one_place(s, (weft_isa)isa, 1, 0), want);
            ck_assert_uint_eq(in_one_place(s, (weft_isa)isa, 0, 2), want);
        }
    ck_assert_uint_eq(in_one_place(s, WEFT_ISA_AUTO, 2, 1), want);
    for (i = from; i < to; i++) {
        if (!weft_isa_available(ways[i].isa)) continue;
        ck_assert_msg(over_the_network(s, &ways[i]) == want, "%s, %u workers: not the bits of subspace_combine",
                      ways[i].name, s->workers);
    }
    all_ways_in_place(s);
}

/* Every number of workers, every type, every way. */
START_TEST(all_ways_give_the_same_bits) {
    const uint32_t workers = 1 + (uint32_t)_i % 9;
    const int kind = _i / 9;
    shape s;
#ifdef __SANITIZE_ADDRESS__ /* the slowest of all; the bits of more workers are looked at without sanitizers */
    if (workers > 4) return;
#endif
    if (kind < 4)
        shape_of_all_sizes(&s, workers, (weft_dtype)kind);
    else
        shape_of_all_types(&s, workers);
    s.sick = kind == 4 || workers % 2 == 0;
    if (kind == 3) s.s.assignment = SUBSPACE_FORWARD;
    if (kind == 2) s.s.scale = SUBSPACE_SCALE_MEAN_NORM;
    if (kind == 1) s.s.negative = SUBSPACE_NEGATIVE_SHIFT;
    if (kind == 4) s.s.group_of_tensor = s.group_of;
    all_ways(&s, 0, WAYS);
}
END_TEST

START_TEST(the_other_rules_give_the_same_bits_all_ways) {
    shape s;
    shape_of_all_types(&s, 2 + (uint32_t)_i / 2);
    s.s.group_of_tensor = s.group_of;
    s.s.rule = _i % 2 ? SUBSPACE_BASIC : SUBSPACE_MEAN;
    s.sick = 1;
    all_ways(&s, 0, WAYS);
}
END_TEST

/* Runs that a pool takes in pieces; and gradients of more than one chunk of 4 MiB, tensors across their borders. */
START_TEST(large_gradients_give_the_same_bits_all_ways) {
    static const size_t few[] = {0, 6, 8, 9, 10, 11, 13, 18, 19, 20}; /* ways */
    static const size_t large[2][4] = {{70000, 65, 0, 5}, {1100000, 65, 0, 70000}};
    shape s;
    uint64_t want;
    size_t i;
    int isa;
    memset(&s, 0, sizeof s);
    s.workers = _i < 4 ? 3 : 5;
    s.tensors = 4;
    for (i = 0; i < 4; i++) {
        s.count[i] = large[_i >= 2][i];
        s.dtype[i] = i == 0 ? (_i % 2 ? WEFT_F64 : WEFT_F32) : (weft_dtype)i;
        if (_i >= 2 && i == 0 && s.dtype[0] == WEFT_F64) s.count[0] /= 2;
    }
    s.rounds = _i >= 2 ? 1 : 2;
    s.s.momentum = 0.5;
    want = in_one_place(&s, WEFT_ISA_SERIAL, 0, 0);
    for (isa = WEFT_ISA_AUTO; isa < WEFT_ISA_COUNT; isa++)
        if (weft_isa_available((weft_isa)isa))
            ck_assert_uint_eq(in_one_place(&s, (weft_isa)isa, isa % 3, isa % 3), want);
    for (i = 0; i < sizeof few / sizeof *few; i++)
        ck_assert_msg(over_the_network(&s, &ways[few[i]]) == want, "%s: not the bits of subspace_combine",
                      ways[few[i]].name);
    all_ways_in_place(&s);
}
END_TEST

/* ---- submitting in parts ---- */

typedef struct split {
    size_t n, first[8], count[8];
} split;

/* Submits part by part, polling in between, until nothing moves; everybody in the same order. */
static uint64_t play_split(const split *p, uint64_t network, int early, double *out) {
    static const size_t count[5] = {700, 0, 65, 3000, 9};
    static const weft_dtype dtype[5] = {WEFT_F64, WEFT_F32, WEFT_F64, WEFT_F64, WEFT_F64};
    team_desc d = team_default(network, 3);
    uint64_t h = 0, round;
    size_t k;
    uint32_t r;
    team t;
    if (network) d.sim = weft_sim_torture(network, 3);
    d.tensors = 5;
    d.count = count;
    d.dtype = dtype;
    d.s.momentum = 0.9;
    must(&t, team_open(&t, &d));
    for (round = 0; round < 2; round++) {
        team_fill(&t, round);
        for (k = 0; k < p->n; k++) {
            for (r = 0; r < 3; r++) {
                team_worker *w = &t.worker[(r + round + k) % 3];
                ck_assert_uint_ne(subspace_state(w->a) & SUBSPACE_MAY_SUBMIT, 0);
                w->status = subspace_submit(w->a, p->first[k], p->count[k]);
                ck_assert_msg(w->status == WEFT_AGAIN || w->status == WEFT_WANT_GRADIENT, "submit says %s",
                              weft_strerror(w->status));
            }
            if (early) continue;
            must(&t, team_settle(&t));
            for (r = 0; r < 3; r++) ck_assert_int_eq(t.worker[r].status, k + 1 < p->n ? WEFT_WANT_GRADIENT : WEFT_OK);
        }
        must(&t, team_settle(&t) && team_fine(&t, "round") && team_alike(&t));
        h = h * 31 + everything(t.worker[0].a, &t.worker[0].grads, 3);
    }
    team_flat(&t.worker[0].grads, out);
    must(&t, team_close(&t));
    return h;
}

START_TEST(splits_agree_and_each_is_deterministic) {
    static const split splits[] = {
        {1, {0}, {5}},
        {5, {0, 1, 2, 3, 4}, {1, 1, 1, 1, 1}},
        {5, {4, 3, 2, 1, 0}, {1, 1, 1, 1, 1}},
        {2, {3, 0}, {2, 3}},
        {3, {1, 3, 0}, {2, 2, 1}},
    };
    enum { ELEMENTS = 3774 };
    double *out[5], most = 0;
    uint64_t seed;
    size_t k, i;
    for (k = 0; k < 5; k++) {
        uint64_t h;
        out[k] = model_room(ELEMENTS);
        h = play_split(&splits[k], 0, 0, out[k]);
        for (seed = 0; seed < 8; seed++) ck_assert_uint_eq(play_split(&splits[k], seed, (int)seed % 2, out[k]), h);
    }
    for (i = 0; i < ELEMENTS; i++) most = fmax(most, fabs(out[0][i]));
    for (k = 1; k < 5; k++)
        for (i = 0; i < ELEMENTS; i++) ck_assert_double_le(fabs(out[k][i] - out[0][i]), 1e-12 * most);
    for (k = 0; k < 5; k++) free(out[k]);
}
END_TEST

/* What is not submitted yet belongs to the host. */
START_TEST(gradients_may_be_written_until_they_are_submitted) {
    static const size_t count[3] = {100, 7, 3000};
    team_desc d = team_default(3, 4);
    team t;
    weft_tensors plain[4];
    uint32_t r;
    d.tensors = 3;
    d.count = count;
    d.sim.scribble = 1;
    must(&t, team_open(&t, &d));
    team_fill(&t, 5);
    for (r = 0; r < 4; r++) {
        plain[r] = cluster_tensors(3, count, NULL);
        cluster_copy(&t.worker[r].grads, &plain[r]);
        cluster_fill(&t.worker[r].grads, 99 + r, 1e30); /* nothing that may count */
    }
    for (r = 0; r < 3; r++) {
        const size_t k = r == 0 ? 2 : r == 1 ? 0 : 1;
        team_worker *w;
        for (w = t.worker; w < t.worker + 4; w++)
            memcpy(w->grads.tensor[k].data, plain[w->rank].tensor[k].data, count[k] * sizeof(float));
        TEAM_ALL(&t, x, subspace_submit(x->a, k, 1));
    }
    must(&t, team_fine(&t, "round") && team_alike(&t));
    {
        weft_tensors first = cluster_tensors(3, count, NULL);
        double a[3107], b[3107];
        size_t i;
        cluster_copy(&t.worker[0].grads, &first);
        for (r = 0; r < 4; r++) cluster_copy(&plain[r], &t.worker[r].grads);
        must(&t, team_aggregate(&t));
        team_flat(&first, a);
        team_flat(&t.worker[0].grads, b);
        for (i = 0; i < 3107; i++) ck_assert_double_le(fabs(a[i] - b[i]), 1e-6);
        cluster_tensors_free(&first);
    }
    for (r = 0; r < 4; r++) cluster_tensors_free(&plain[r]);
    must(&t, team_close(&t));
}
END_TEST

/* Other ranges, or another order, on one worker: an error that names both, on it and on the others; nothing changes. */
START_TEST(another_order_is_a_mismatch) {
    static const size_t count[4] = {100, 100, 40, 3};
    static const struct {
        size_t a_first, a_count, b_first, b_count;
    } part[] = {{0, 1, 1, 1}, {0, 1, 2, 1}, {0, 1, 0, 2}, {0, 4, 3, 1},
                {2, 2, 2, 1}, {0, 3, 0, 4}, {3, 1, 0, 4}, {1, 1, 0, 4}};
    size_t k;
    for (k = 0; k < sizeof part / sizeof *part; k++) {
        uint32_t odd = (uint32_t)k % 3, r;
        team_desc d = team_default(k, 3);
        double *kept;
        team t;
        d.tensors = 4;
        d.count = count;
        d.sim.mode = (weft_sim_mode)(k % 4);
        must(&t, team_open(&t, &d));
        team_fill(&t, 5);
        kept = snapshot(&t);
        for (r = 0; r < 3; r++)
            t.worker[r].status = subspace_submit(t.worker[r].a, r == odd ? part[k].b_first : part[k].a_first,
                                                 r == odd ? part[k].b_count : part[k].a_count);
        team_advance(&t, 10000000);
        for (r = 0; r < 3; r++) {
            const weft_detail *e = subspace_detail(t.worker[r].a);
            uint64_t a = (uint64_t)part[k].a_first << 32 | part[k].a_count,
                     b = (uint64_t)part[k].b_first << 32 | part[k].b_count;
            ck_assert_msg(t.worker[r].status == WEFT_ERR_MISMATCH, "case %zu, worker %u: %s (%s)", k, r,
                          weft_strerror(t.worker[r].status), e->field ? e->field : "-");
            ck_assert_msg(e->field && strstr(e->field, "range"), "case %zu: field %s", k, e->field);
            ck_assert_uint_eq(e->expected, r == odd ? b : a);
            ck_assert_uint_eq(e->got, r == odd ? a : b);
            if (r != odd) ck_assert_uint_eq(e->peer, odd);
        }
        ck_assert(untouched(&t, kept));
        free(kept);
        must(&t, team_close(&t));
    }
}
END_TEST

/* The same ranges first, then different ones: or one worker is through with its tensors where another is not. */
START_TEST(another_order_later_is_a_mismatch) {
    static const size_t count[3] = {50, 60, 70};
    uint32_t n, r;
    for (n = 2; n <= 4; n++) {
        team_desc d = team_default(n, n);
        double *kept;
        team t;
        d.tensors = 3;
        d.count = count;
        must(&t, team_open(&t, &d));
        team_fill(&t, 5);
        kept = snapshot(&t);
        TEAM_ALL(&t, w, subspace_submit(w->a, 1, 1));
        for (r = 0; r < n; r++) ck_assert_int_eq(t.worker[r].status, WEFT_WANT_GRADIENT);
        /* worker 0 in two parts, the others in two others */
        for (r = 0; r < n; r++) t.worker[r].status = subspace_submit(t.worker[r].a, r ? 2 : 0, 1);
        team_advance(&t, 10000000);
        for (r = 0; r < n; r++) ck_assert_int_eq(t.worker[r].status, WEFT_ERR_MISMATCH);
        ck_assert_uint_eq(subspace_detail(t.worker[n - 1].a)->peer, 0);
        ck_assert(untouched(&t, kept));
        free(kept);
        must(&t, team_close(&t));
    }
}
END_TEST

/* ---- properties of the aggregate (specification, section 4) ---- */

static team_desc plain(uint64_t seed, uint32_t workers, size_t tensors, const size_t *count, const weft_dtype *dtype) {
    team_desc d = team_default(seed, workers);
    d.tensors = tensors;
    d.count = count;
    d.dtype = dtype;
    return d;
}

static const weft_dtype f64_each[4] = {WEFT_F64, WEFT_F64, WEFT_F64, WEFT_F64};
static const size_t two_tensors[2] = {40, 9};

START_TEST(weights_sum_to_one) {
    uint64_t seed;
    for (seed = 0; seed < 200; seed++) {
        uint64_t rng = seed;
        team_desc d = plain(seed, 1 + seed % MOST_WORKERS, 2, two_tensors, f64_each);
        team t;
        uint64_t round;
        uint32_t i;
        d.s.assignment = (subspace_assignment)cluster_below(&rng, 2);
        d.s.negative = (subspace_negative)cluster_below(&rng, 3);
        d.s.momentum = cluster_below(&rng, 2) ? 0.9 : 0;
        must(&t, team_open(&t, &d));
        for (round = 0; round < 3; round++) {
            double sum = 0, size = 0;
            team_fill(&t, seed + round);
            must(&t, team_aggregate(&t));
            for (i = 0; i < t.size; i++) {
                double w = numbers_of(&t, 0, i, 0).weight;
                sum += w;
                size += fabs(w);
                if (d.s.negative != SUBSPACE_NEGATIVE_KEEP) ck_assert_double_ge(w, 0);
            }
            ck_assert_double_le(fabs(sum - 1), 1e-12 * size);
        }
        must(&t, team_close(&t));
    }
}
END_TEST

/* One round of given gradients [rank][element], in f64; the aggregate of worker 0 into out, weights into w. */
static void one_round(const team_desc *d, const double *in, double *out, double *w) {
    team t;
    uint32_t i;
    size_t n;
    must(&t, team_open(&t, d));
    n = team_elements(&t);
    for (i = 0; i < t.size; i++) team_unflat(&t.worker[i].grads, in + i * n);
    must(&t, team_aggregate(&t) && team_alike(&t));
    if (out) team_flat(&t.worker[0].grads, out);
    for (i = 0; w && i < t.size; i++) w[i] = numbers_of(&t, 0, i, 0).weight;
    must(&t, team_close(&t));
}

enum { FEW = 49 }; /* elements of two_tensors */

static void random_gradients(uint64_t seed, uint32_t n, double noise, double *x) {
    uint64_t rng = seed * 77 + 5;
    double common[FEW];
    uint32_t r;
    size_t i;
    for (i = 0; i < FEW; i++) common[i] = cluster_uniform(&rng);
    for (r = 0; r < n; r++) {
        double size = exp(2 * cluster_uniform(&rng));
        for (i = 0; i < FEW; i++) x[r * FEW + i] = size * (common[i] + noise * cluster_uniform(&rng));
    }
}

START_TEST(common_factors_change_no_weight) {
    static const double factor[] = {0x1p-30, 0x1p-3, 2, 0x1p40, 3e-7, 1e9};
    uint64_t seed;
    for (seed = 0; seed < 40; seed++) {
        const uint32_t n = 2 + (uint32_t)seed % 6;
        double x[MOST_WORKERS * FEW], y[MOST_WORKERS * FEW], out[2][FEW], w[2][MOST_WORKERS], most;
        size_t k, i;
        int off;
        random_gradients(seed, n, 2, x);
        for (off = 0; off < 2; off++)
            for (k = 0; k < 6; k++) {
                team_desc d = plain(seed, n, 2, two_tensors, f64_each);
                const int exact = k < 4;
                d.s.epsilon = WEFT_ZERO;
                if (off) d.s.scale = SUBSPACE_SCALE_OFF;
                for (i = 0; i < n * FEW; i++) y[i] = factor[k] * x[i];
                one_round(&d, x, out[0], w[0]);
                one_round(&d, y, out[1], w[1]);
                for (most = 0, i = 0; i < FEW; i++) most = fmax(most, fabs(out[0][i]));
                for (i = 0; i < n; i++) ck_assert_double_le(fabs(w[0][i] - w[1][i]), exact ? 0 : 1e-9);
                for (i = 0; i < FEW; i++) /* off: psi does not see it; else it comes out as the factor */
                    ck_assert_double_le(fabs(out[1][i] / (off ? 1 : factor[k]) - out[0][i]), exact ? 0 : 1e-9 * most);
            }
    }
}
END_TEST

/* The norm of psi is at most 1 if no weight is negative. */
START_TEST(the_unscaled_aggregate_is_no_longer_than_one) {
    uint64_t seed;
    for (seed = 0; seed < 100; seed++) {
        const uint32_t n = 1 + (uint32_t)seed % 8;
        team_desc d = plain(seed, n, 2, two_tensors, f64_each);
        double x[MOST_WORKERS * FEW], out[FEW];
        d.s.scale = SUBSPACE_SCALE_OFF;
        d.s.negative = SUBSPACE_NEGATIVE_CLAMP;
        random_gradients(seed, n, 3, x);
        one_round(&d, x, out, NULL);
        ck_assert_double_le(dot_of(out, out, FEW), 1 + 1e-12);
    }
}
END_TEST

START_TEST(permuting_the_workers_permutes_the_weights) {
    uint64_t seed;
    int differs = 0;
    for (seed = 0; seed < 60; seed++) {
        const uint32_t n = 2 + (uint32_t)seed % 7;
        uint64_t rng = seed + 5;
        uint32_t p[MOST_WORKERS], i, forward;
        double x[MOST_WORKERS * FEW], y[MOST_WORKERS * FEW], out[2][FEW], w[2][MOST_WORKERS];
        for (i = 0; i < n; i++) p[i] = i;
        for (i = n; i-- > 1;) {
            uint32_t j = cluster_below(&rng, i + 1), k = p[i];
            p[i] = p[j];
            p[j] = k;
        }
        random_gradients(seed, n, 2, x);
        for (i = 0; i < n; i++) memcpy(y + p[i] * FEW, x + i * FEW, FEW * sizeof *x); /* worker i is now p[i] */
        for (forward = 0; forward < 2; forward++) {
            team_desc d = plain(seed, n, 2, two_tensors, f64_each);
            double most = 0, error = 0, apart = 0;
            d.s.assignment = forward ? SUBSPACE_FORWARD : SUBSPACE_INVERSE;
            one_round(&d, x, out[0], w[0]);
            one_round(&d, y, out[1], w[1]);
            for (i = 0; i < FEW; i++) {
                most = fmax(most, fabs(out[0][i]));
                error = fmax(error, fabs(out[0][i] - out[1][i]));
            }
            for (i = 0; i < n; i++) apart = fmax(apart, fabs(w[1][p[i]] - w[0][i]));
            if (!forward || n == 2) {
                ck_assert_double_le(error, 1e-11 * most);
                ck_assert_double_le(apart, 1e-11);
            } else {
                differs += apart > 1e-3 && error > 1e-3 * most;
            }
        }
    }
    ck_assert_int_gt(differs, 20);
}
END_TEST

/* Slots and alphas are ordered alike, so that the aggregate is never less along the mean than the mean of the unit
 * vectors is. As published that is not so. */
START_TEST(the_aggregate_is_aligned_with_the_mean) {
    uint64_t seed;
    int below[2] = {0, 0}, seen = 0;
    for (seed = 0; seed < 400; seed++) {
        enum { N = 8 };
        double x[N * FEW], out[FEW], mean[FEW], unit_mean[FEW], w[N];
        uint32_t i, forward;
        size_t k;
        random_gradients(seed, N, 6, x);
        memset(mean, 0, sizeof mean);
        memset(unit_mean, 0, sizeof unit_mean);
        for (i = 0; i < N; i++) {
            double norm = sqrt(dot_of(x + i * FEW, x + i * FEW, FEW));
            for (k = 0; k < FEW; k++) {
                mean[k] += x[i * FEW + k] / N;
                unit_mean[k] += x[i * FEW + k] / norm / N;
            }
        }
        for (forward = 0; forward < 2; forward++) {
            team_desc d = plain(seed, N, 2, two_tensors, f64_each);
            d.s.scale = SUBSPACE_SCALE_OFF;
            d.s.assignment = forward ? SUBSPACE_FORWARD : SUBSPACE_INVERSE;
            one_round(&d, x, out, w);
            below[forward] += dot_of(mean, out, FEW) < dot_of(mean, unit_mean, FEW) - 1e-9;
            seen++;
        }
    }
    ck_assert_int_eq(below[0], 0);
    ck_assert_int_gt(below[1], 50);
}
END_TEST

/* ---- one worker ---- */

START_TEST(one_worker_gets_its_gradient_back) {
    static const size_t count[4] = {5, 70, 1100, 4};
    static const weft_dtype types[4] = {WEFT_F32, WEFT_F64, WEFT_BF16, WEFT_F16};
    uint64_t round;
    int momentum, groups;
    for (momentum = 0; momentum < 2; momentum++)
        for (groups = 0; groups < 2; groups++) {
            static const uint32_t each[4] = {0, 1, 2, 3};
            team_desc d = plain(1, 1, 4, count, types);
            weft_tensors kept = cluster_tensors(4, count, types);
            team t;
            d.s.momentum = momentum ? 0.9 : 0;
            if (groups) {
                d.s.groups = 4;
                d.s.group_of_tensor = each;
            }
            must(&t, team_open(&t, &d));
            for (round = 0; round < 4; round++) {
                team_fill(&t, round);
                /* negative zeros and subnormals stay what they are */
                cluster_set(&t.worker[0].grads.tensor[0], 1, -0.0);
                cluster_set(&t.worker[0].grads.tensor[0], 2, 0x1p-149);
                cluster_set(&t.worker[0].grads.tensor[1], 3, -0x1p-1074);
                cluster_set(&t.worker[0].grads.tensor[2], 5, -0x1p-133);
                cluster_set(&t.worker[0].grads.tensor[3], 0, 0x1p-24);
                cluster_copy(&t.worker[0].grads, &kept);
                must(&t, team_aggregate(&t));
                ck_assert(cluster_same_bits(&kept, &t.worker[0].grads));
                ck_assert_uint_eq(stats_of(&t, 0).participants, 1);
            }
            must(&t, team_close(&t));
            cluster_tensors_free(&kept);
        }
}
END_TEST

START_TEST(one_worker_without_scale_is_normalised) {
    static const subspace_scale scale[2] = {SUBSPACE_SCALE_OFF, SUBSPACE_SCALE_MEAN_NORM};
    int k;
    for (k = 0; k < 2; k++) {
        team_desc d = plain(1, 1, 2, two_tensors, f64_each);
        double x[FEW], out[FEW], norm;
        size_t i;
        random_gradients(9, 1, 1, x);
        d.s.scale = scale[k];
        d.s.epsilon = 0.25;
        norm = sqrt(dot_of(x, x, FEW));
        one_round(&d, x, out, NULL);
        for (i = 0; i < FEW; i++)
            ck_assert_double_le(fabs(out[i] - x[i] / (norm + 0.25) * (k ? norm : 1)), 1e-14 * norm);
    }
}
END_TEST

/* ---- the length of the aggregate ---- */

START_TEST(the_projection_is_the_mean) {
    uint64_t seed;
    for (seed = 0; seed < 100; seed++) {
        const uint32_t n = 2 + (uint32_t)seed % 8;
        uint64_t rng = seed;
        double x[MOST_WORKERS * FEW], out[FEW], mean[FEW], samples[MOST_WORKERS], all = 0;
        team_desc d = plain(seed, n, 2, two_tensors, f64_each);
        team t;
        size_t i;
        uint32_t r;
        random_gradients(seed, n, 2, x);
        d.s.assignment = (subspace_assignment)(seed % 2);
        d.s.scale = SUBSPACE_SCALE_PROJECTION;
        if (seed % 5 == 0) d.s.rule = SUBSPACE_BASIC;
        must(&t, team_open(&t, &d));
        for (r = 0; r < n; r++) {
            samples[r] = seed % 3 ? 1 : 1 + cluster_below(&rng, 5);
            all += samples[r];
            subspace_set_batch(t.worker[r].a, samples[r]);
            team_unflat(&t.worker[r].grads, x + r * FEW);
        }
        memset(mean, 0, sizeof mean);
        for (r = 0; r < n; r++)
            for (i = 0; i < FEW; i++) mean[i] += samples[r] / all * x[r * FEW + i];
        must(&t, team_aggregate(&t));
        team_flat(&t.worker[0].grads, out);
        if (!stats_of(&t, 0).scale_fallbacks) {
            double a = dot_of(out, mean, FEW), b = dot_of(mean, mean, FEW);
            ck_assert_msg(fabs(a - b) <= 1e-12 * (b + sqrt(dot_of(out, out, FEW) * b)), "seed %llu: %.17g and %.17g",
                          (unsigned long long)seed, a, b);
        } else {
            ck_assert_uint_eq(seed % 2, 1); /* as published the sum of the weights may be negative */
        }
        must(&t, team_close(&t));
    }
}
END_TEST

/* The average over steps was of better days: the weights are positive, the alphas are not. */
START_TEST(a_projection_that_is_not_positive_falls_back_and_is_counted) {
    static const size_t count[1] = {2};
    team_desc d = plain(1, 3, 1, count, f64_each);
    double w[3], c = 0, out[2];
    team t;
    uint32_t r;
    d.s.momentum = 0.99;
    must(&t, team_open(&t, &d));
    for (r = 0; r < 3; r++) {
        const double x[2] = {100.0 + r, 1};
        team_unflat(&t.worker[r].grads, x);
    }
    must(&t, team_aggregate(&t));
    ck_assert_uint_eq(stats_of(&t, 0).scale_fallbacks, 0);
    for (r = 0; r < 3; r++) {
        const double x[2] = {r ? -1 : 100, 0};
        team_unflat(&t.worker[r].grads, x);
    }
    must(&t, team_aggregate(&t));
    for (r = 0; r < 3; r++) {
        ck_assert_uint_eq(stats_of(&t, r).scale_fallbacks, 1);
        ck_assert_uint_eq(stats_of(&t, r).zero_sums, 0);
        w[r] = numbers_of(&t, 0, r, 0).weight;
        c += w[r] * (r ? -1 : 1);
    }
    ck_assert_double_lt(c, 0); /* and so the aggregate is opposed to the mean */
    team_flat(&t.worker[1].grads, out);
    ck_assert_double_le(fabs(subspace_scale_of(t.worker[0].a, 0) - 34.0), 1e-12); /* (100 + 1 + 1) / 3 */
    ck_assert_double_le(fabs(out[0] - 34.0 * c), 1e-6);
    ck_assert(out[1] == 0);
    must(&t, team_close(&t));
}
END_TEST

START_TEST(the_mean_norm_is_the_length_of_equal_directions) {
    static const size_t count[1] = {3};
    team_desc d = plain(1, 4, 1, count, f64_each);
    double x[12], out[3];
    size_t i;
    for (i = 0; i < 12; i++) x[i] = (double)(1 + i / 3) * (i % 3 == 0 ? 3 : i % 3 == 1 ? 4 : 0);
    d.s.scale = SUBSPACE_SCALE_MEAN_NORM;
    one_round(&d, x, out, NULL);
    ck_assert_double_le(fabs(out[0] - 7.5), 1e-7); /* 2.5 times (3, 4, 0): mean of the norms 5, 10, 15, 20 */
    ck_assert_double_le(fabs(out[1] - 10.0), 1e-7);
    ck_assert(out[2] == 0);
}
END_TEST

/* ---- the average over steps ---- */

/* Orthogonal gradients of given lengths: alpha_i = length_i / N (without an epsilon). */
static void axes(team *t, const double *length) {
    uint32_t r;
    for (r = 0; r < t->size; r++) {
        double x[4] = {0, 0, 0, 0};
        x[r] = length[r];
        team_unflat(&t->worker[r].grads, x);
    }
}

START_TEST(the_average_is_over_order_statistics) {
    static const size_t count[1] = {4};
    static const double first[4] = {8, 2, 4, 6}, second[4] = {1, 5, 3, 7}, third[4] = {2, 2, 2, 2};
    double want[4] = {0.5, 1, 1.5, 2}, slots[5] = {0, 0, 0, 0, 77};
    team_desc d = plain(1, 4, 1, count, f64_each);
    team t;
    uint32_t k;
    double sum;
    d.s.momentum = 0.75;
    d.s.epsilon = WEFT_ZERO;
    must(&t, team_open(&t, &d));
    ck_assert_uint_eq(subspace_slots(t.worker[0].a, 0, slots, 4), 0); /* none yet */
    axes(&t, first);
    must(&t, team_aggregate(&t));
    ck_assert_uint_eq(subspace_slots(t.worker[2].a, 0, slots, 4), 4);
    for (k = 0; k < 4; k++) ck_assert(slots[k] == want[k]);
    ck_assert(slots[4] == 77);
    /* the smallest with the smallest, and so on, whoever has them */
    axes(&t, second);
    must(&t, team_aggregate(&t));
    for (k = 0; k < 4; k++) want[k] = 0.75 * want[k] + 0.25 * (double)(2 * k + 1) / 4;
    subspace_slots(t.worker[1].a, 0, slots, 4);
    for (sum = 0, k = 0; k < 4; k++) {
        ck_assert_double_le(fabs(slots[k] - want[k]), 1e-15);
        sum += want[k];
    }
    ck_assert_double_le(fabs(numbers_of(&t, 3, 0, 0).weight - want[0] / sum), 1e-15);
    ck_assert_double_le(fabs(numbers_of(&t, 3, 1, 0).weight - want[2] / sum), 1e-15);
    ck_assert_double_le(fabs(numbers_of(&t, 3, 2, 0).weight - want[1] / sum), 1e-15);
    ck_assert_double_le(fabs(numbers_of(&t, 3, 3, 0).weight - want[3] / sum), 1e-15);
    /* ties go by rank: the lower one is taken for the smaller */
    axes(&t, third);
    must(&t, team_aggregate(&t));
    for (k = 0; k < 4; k++) want[k] = 0.75 * want[k] + 0.25 * 0.5;
    for (sum = 0, k = 0; k < 4; k++) sum += want[k];
    for (k = 0; k < 4; k++) ck_assert_double_le(fabs(numbers_of(&t, 0, k, 0).weight - want[k] / sum), 1e-15);
    ck_assert_uint_eq(subspace_slots(t.worker[1].a, 0, slots, 2), 4); /* as far as there is room */
    must(&t, team_close(&t));
}
END_TEST

/* As published: worker i gets the slot whose number is the rank of the i-th smallest. */
START_TEST(the_forward_assignment_is_the_published_one) {
    static const size_t count[1] = {4};
    static const double length[4] = {8, 2, 4, 6}; /* sorted: workers 1, 2, 3, 0 */
    static const double want[4] = {4, 6, 8, 2};   /* slot[p[i]]: slots 1, 2, 3, 0 */
    team_desc d = plain(1, 4, 1, count, f64_each);
    team t;
    uint32_t k;
    d.s.assignment = SUBSPACE_FORWARD;
    must(&t, team_open(&t, &d));
    axes(&t, length);
    must(&t, team_aggregate(&t));
    for (k = 0; k < 4; k++) ck_assert_double_le(fabs(numbers_of(&t, 0, k, 0).weight - want[k] / 20), 1e-8);
    must(&t, team_close(&t));
}
END_TEST

static void regroup(team *t, uint32_t epoch, uint32_t mask) {
    uint32_t member[MOST_WORKERS], n = 0, r;
    weft_view v;
    for (r = 0; r < t->size; r++)
        if (mask >> r & 1) member[n++] = r;
    v.struct_size = sizeof v;
    v.epoch = epoch;
    v.count = n;
    v.members = member;
    for (r = 0; r < t->size; r++) t->worker[r].status = mask >> r & 1 ? subspace_regroup(t->worker[r].a, &v) : WEFT_OK;
    must(t, team_settle(t) && team_fine(t, "regroup"));
}

static void aggregate_some(team *t, uint32_t mask) {
    uint32_t r;
    for (r = 0; r < t->size; r++)
        t->worker[r].status = mask >> r & 1 ? subspace_submit(t->worker[r].a, 0, t->worker[r].grads.count) : WEFT_OK;
    must(t, team_settle(t) && team_fine(t, "round"));
}

START_TEST(the_average_begins_anew_with_other_workers) {
    static const size_t count[2] = {30, 19};
    static const uint32_t each[2] = {0, 1};
    team_desc d = plain(1, 4, 2, count, f64_each);
    double slots[4], alone[4];
    team t;
    uint32_t r, g, k;
    d.s.momentum = 0.9;
    d.s.groups = 2;
    d.s.group_of_tensor = each;
    must(&t, team_open(&t, &d));
    for (k = 0; k < 3; k++) {
        team_fill(&t, k);
        must(&t, team_aggregate(&t));
    }
    ck_assert_uint_eq(stats_of(&t, 0).restarts, 0);
    regroup(&t, 1, 7); /* without worker 3 */
    ck_assert_uint_eq(subspace_slots(t.worker[0].a, 0, slots, 4), 4);
    team_fill(&t, 10);
    aggregate_some(&t, 7);
    for (r = 0; r < 3; r++) {
        ck_assert_uint_eq(stats_of(&t, r).restarts, 2);
        ck_assert_uint_eq(stats_of(&t, r).members, 3);
        for (g = 0; g < 2; g++) {
            ck_assert_uint_eq(subspace_slots(t.worker[r].a, g, slots, 4), 3);
            for (k = 0; k < 3; k++) { /* this round's alphas alone, ascending */
                uint32_t below = 0, j;
                for (j = 0; j < 3; j++) alone[j] = numbers_of(&t, r, j, g).alpha;
                for (j = 0; j < 3; j++) below += alone[j] < alone[k];
                ck_assert(slots[below] == alone[k]);
            }
        }
        ck_assert_int_eq(subspace_worker(t.worker[r].a, 3, 0, &(subspace_worker_t){0}), WEFT_ERR_ARGUMENT);
    }
    /* the same workers under a new view: it goes on */
    subspace_slots(t.worker[0].a, 0, alone, 4);
    regroup(&t, 2, 7);
    ck_assert_uint_eq(subspace_slots(t.worker[0].a, 0, slots, 4), 3);
    for (k = 0; k < 3; k++) ck_assert(slots[k] == alone[k]);
    team_fill(&t, 11);
    aggregate_some(&t, 7);
    ck_assert_uint_eq(stats_of(&t, 0).restarts, 2);
    /* worker 3 is back, and is not new: it has an old average, of four */
    regroup(&t, 3, 15);
    team_fill(&t, 12);
    aggregate_some(&t, 15);
    must(&t, team_alike(&t));
    for (r = 0; r < 4; r++) ck_assert_uint_eq(subspace_slots(t.worker[r].a, 0, slots, 4), 4);
    must(&t, team_close(&t));
}
END_TEST

/* A worker that was away while the others went on must not come back with an average of its own. */
START_TEST(who_was_away_has_no_average_of_its_own) {
    static const size_t count[1] = {30};
    team_desc d = plain(1, 3, 1, count, f64_each);
    team t;
    uint32_t k, r;
    d.s.momentum = 0.9;
    must(&t, team_open(&t, &d));
    for (k = 0; k < 3; k++) {
        team_fill(&t, k);
        must(&t, team_aggregate(&t));
    }
    /* all three again, but first a view of two of them, in which nothing is aggregated; then one in which it is */
    for (r = 0; r < 2; r++) {
        regroup(&t, 1 + 2 * r, 3);
        if (r) {
            for (k = 0; k < 2; k++) {
                team_fill(&t, 20 + k);
                aggregate_some(&t, 3);
            }
        }
        regroup(&t, 2 + 2 * r, 7);
        for (k = 0; k < 3; k++) {
            double a[3], b[3];
            uint32_t n, i;
            team_fill(&t, 30 + k + 10 * r);
            must(&t, team_aggregate(&t) && team_alike(&t));
            n = subspace_slots(t.worker[0].a, 0, a, 3);
            ck_assert_uint_eq(n, subspace_slots(t.worker[2].a, 0, b, 3));
            for (i = 0; i < n; i++) ck_assert_msg(a[i] == b[i], "workers 0 and 2 have different averages");
        }
    }
    must(&t, team_close(&t));
}
END_TEST

/* ---- unequal batches ---- */

START_TEST(a_worker_with_two_samples_counts_as_two) {
    uint64_t seed;
    for (seed = 0; seed < 60; seed++) {
        const uint32_t n = 2 + (uint32_t)seed % 5;
        static const subspace_scale scales[3] = {SUBSPACE_SCALE_PROJECTION, SUBSPACE_SCALE_MEAN_NORM,
                                                 SUBSPACE_SCALE_OFF};
        double x[MOST_WORKERS * FEW], out[2][FEW], most = 0;
        team_desc d = plain(seed, n, 2, two_tensors, f64_each);
        team t, u;
        uint32_t r;
        size_t i;
        random_gradients(seed, n, 3, x);
        d.s.scale = scales[seed % 3];
        d.s.negative = (subspace_negative)(seed / 3 % 3);
        if (seed % 7 == 0) {
            d.s.rule = SUBSPACE_MEAN;
            d.s.scale = SUBSPACE_SCALE_DEFAULT;
        }
        if (seed % 7 == 1) {
            d.s.rule = SUBSPACE_BASIC;
            d.s.scale = SUBSPACE_SCALE_PROJECTION;
        }
        must(&t, team_open(&t, &d));
        d.sim.size = n + 1;
        must(&u, team_open(&u, &d));
        for (r = 0; r <= n; r++) { /* the last worker twice */
            if (r < n) team_unflat(&t.worker[r].grads, x + r * FEW);
            team_unflat(&u.worker[r].grads, x + (r < n ? r : n - 1) * FEW);
        }
        /* only ratios matter */
        for (r = 0; r < n; r++)
            ck_assert_int_eq(subspace_set_batch(t.worker[r].a, (r == n - 1 ? 2 : 1) * (seed % 2 ? 1 : 0.125)), WEFT_OK);
        must(&t, team_aggregate(&t));
        must(&u, team_aggregate(&u));
        team_flat(&t.worker[0].grads, out[0]);
        team_flat(&u.worker[0].grads, out[1]);
        for (i = 0; i < FEW; i++) most = fmax(most, fabs(out[1][i]));
        for (i = 0; i < FEW; i++)
            ck_assert_msg(fabs(out[0][i] - out[1][i]) <= 1e-10 * most, "seed %llu: %.17g and %.17g",
                          (unsigned long long)seed, out[0][i], out[1][i]);
        if (d.s.rule == SUBSPACE_NORMALISED) {
            ck_assert_double_le(fabs(numbers_of(&t, 0, n - 1, 0).weight - numbers_of(&u, 0, n - 1, 0).weight -
                                     numbers_of(&u, 0, n, 0).weight),
                                1e-10);
            ck_assert_double_le(fabs(numbers_of(&t, 0, 0, 0).alpha - numbers_of(&u, 0, 0, 0).alpha), 1e-12 * 100);
        }
        must(&t, team_close(&t));
        must(&u, team_close(&u));
    }
}
END_TEST

START_TEST(batches_stay_as_set_and_reach_all) {
    team_desc d = plain(1, 3, 2, two_tensors, f64_each);
    team t;
    uint32_t r, k;
    d.s.rule = SUBSPACE_MEAN;
    must(&t, team_open(&t, &d));
    ck_assert_int_eq(subspace_set_batch(t.worker[1].a, 6), WEFT_OK);
    for (k = 0; k < 2; k++) {
        team_fill(&t, k);
        must(&t, team_aggregate(&t));
        for (r = 0; r < 3; r++) {
            ck_assert(numbers_of(&t, r, 0, 0).weight == 0.125);
            ck_assert(numbers_of(&t, r, 1, 0).weight == 0.75);
        }
    }
    must(&t, team_close(&t));
}
END_TEST

/* ---- groups ---- */

/* Weights of their own for each group: the same bits as an object for each, submitted one by one. */
START_TEST(groups_are_as_separate_objects) {
    static const size_t count[3] = {500, 65, 1030};
    static const uint32_t each[3] = {2, 0, 1};
    uint64_t seed;
    for (seed = 0; seed < 12; seed++) {
        const uint32_t n = 1 + (uint32_t)seed % 5;
        weft_dtype dtype[3];
        team_desc d = plain(seed, n, 3, count, dtype), e = plain(seed, n, 1, count, dtype);
        team t, one[3];
        uint64_t round;
        uint32_t r, k, i;
        for (k = 0; k < 3; k++) dtype[k] = (weft_dtype)((seed + k) % 4);
        d.s.momentum = e.s.momentum = 0.5;
        d.s.assignment = e.s.assignment = (subspace_assignment)(seed % 2);
        d.s.scale = e.s.scale = (subspace_scale)(seed / 2 % 4);
        d.s.groups = 3;
        d.s.group_of_tensor = each;
        must(&t, team_open(&t, &d));
        for (k = 0; k < 3; k++) {
            e.count = &count[k];
            e.dtype = &dtype[k];
            must(&one[k], team_open(&one[k], &e));
        }
        ck_assert_uint_eq(subspace_groups(t.worker[0].a), 3);
        for (round = 0; round < 3; round++) {
            team_fill(&t, seed * 5 + round);
            for (k = 0; k < 3; k++) {
                for (r = 0; r < n; r++)
                    memcpy(one[k].worker[r].grads.tensor[0].data, t.worker[r].grads.tensor[k].data,
                           count[k] * weft_dtype_bytes(dtype[k]));
                must(&one[k], team_aggregate(&one[k]));
            }
            for (k = 0; k < 3; k++) TEAM_ALL(&t, w, subspace_submit(w->a, k, 1));
            must(&t, team_fine(&t, "round") && team_alike(&t));
            for (k = 0; k < 3; k++) {
                ck_assert(memcmp(one[k].worker[0].grads.tensor[0].data, t.worker[0].grads.tensor[k].data,
                                 count[k] * weft_dtype_bytes(dtype[k])) == 0);
                for (i = 0; i < n; i++) {
                    subspace_worker_t a = numbers_of(&t, 0, i, each[k]), b = numbers_of(&one[k], 0, i, 0);
                    ck_assert(memcmp(&a, &b, sizeof a) == 0);
                }
            }
        }
        must(&t, team_close(&t));
        for (k = 0; k < 3; k++) must(&one[k], team_close(&one[k]));
    }
}
END_TEST

/* ---- the other rules ---- */

START_TEST(the_mean_is_the_weighted_mean_bit_for_bit) {
    static const size_t count[4] = {100, 1, 4100, 33};
    static const weft_dtype types[4] = {WEFT_F32, WEFT_F64, WEFT_BF16, WEFT_F16};
    uint32_t n;
    for (n = 1; n <= MOST_WORKERS; n++) {
        team_desc d = plain(n, n, 4, count, types);
        weft_tensors want = cluster_tensors(4, count, types);
        double p[MOST_WORKERS], all = 0;
        team t;
        uint32_t r;
        size_t k;
        uint64_t round;
        d.s.rule = SUBSPACE_MEAN;
        must(&t, team_open(&t, &d));
        for (r = 0; r < n; r++) {
            p[r] = n % 2 ? 1 : 1 + r % 3;
            all += p[r];
            subspace_set_batch(t.worker[r].a, p[r]);
        }
        for (round = 0; round < 2; round++) {
            team_fill(&t, n + round);
            for (k = 0; k < 4; k++) {
                const void *x[MOST_WORKERS];
                double w[MOST_WORKERS];
                for (r = 0; r < n; r++) {
                    x[r] = t.worker[r].grads.tensor[k].data;
                    w[r] = p[r] / all;
                }
                weft_run_weighted_sum(weft_kernels_select(WEFT_ISA_SERIAL, 0), NULL, types[k], count[k], n, w, x,
                                      want.tensor[k].data);
            }
            must(&t, team_aggregate(&t));
            for (r = 0; r < n; r++) ck_assert(cluster_same_bits(&want, &t.worker[r].grads));
        }
        must(&t, team_close(&t));
        cluster_tensors_free(&want);
    }
}
END_TEST

START_TEST(the_basic_rule_is_a_gradient_step_of_the_coordinates) {
    uint64_t seed;
    for (seed = 0; seed < 30; seed++) {
        const uint32_t n = 1 + (uint32_t)seed % 6;
        team_desc d = plain(seed, n, 2, two_tensors, f64_each);
        double x[MOST_WORKERS * FEW], mean[FEW], want[FEW], out[FEW], most = 0;
        uint32_t r;
        size_t i;
        random_gradients(seed, n, 2, x);
        d.s.rule = SUBSPACE_BASIC;
        d.s.scale = SUBSPACE_SCALE_OFF;
        memset(mean, 0, sizeof mean);
        memset(want, 0, sizeof want);
        for (r = 0; r < n; r++)
            for (i = 0; i < FEW; i++) mean[i] += x[r * FEW + i] / n;
        for (r = 0; r < n; r++)
            for (i = 0; i < FEW; i++) want[i] += dot_of(x + r * FEW, mean, FEW) * x[r * FEW + i];
        one_round(&d, x, out, NULL);
        for (i = 0; i < FEW; i++) most = fmax(most, fabs(want[i]));
        for (i = 0; i < FEW; i++) ck_assert_double_le(fabs(out[i] - want[i]), 1e-12 * most);
    }
}
END_TEST

/* ---- negative weights ---- */

START_TEST(negative_weights_are_kept_or_shifted_or_clamped) {
    /* lengths 3 and 2 along u, 1 against it: alphas 4/3, 4/3, -4/3 */
    static const size_t count[1] = {2};
    static const double x[6] = {3, 0, 2, 0, -1, 0};
    static const double want[3][3] = {{1, 1, -1}, {0.5, 0.5, 0}, {0.5, 0.5, 0}};
    int k;
    for (k = 0; k < 3; k++) {
        team_desc d = plain(1, 3, 1, count, f64_each);
        double w[3], out[2];
        uint32_t r;
        d.s.epsilon = WEFT_ZERO;
        d.s.scale = SUBSPACE_SCALE_OFF;
        d.s.negative = (subspace_negative)k;
        one_round(&d, x, out, w);
        for (r = 0; r < 3; r++) ck_assert_double_le(fabs(w[r] - want[k][r]), 1e-12);
        ck_assert_double_le(fabs(out[0] - (k == 0 ? 3 : 1)), 1e-12);
    }
    /* nothing negative: nothing is shifted; and a shift moves all, a clamp only the negative ones */
    for (k = 0; k < 3; k++) {
        static const double y[6] = {3, 0, 0, 2, 1, 1}, z[6] = {4, 0, 0, 1, -1, 0.5};
        team_desc d = plain(1, 3, 1, count, f64_each);
        double w[3], base[3], a[3];
        uint32_t r;
        d.s.epsilon = WEFT_ZERO;
        one_round(&d, y, NULL, base);
        d.s.negative = (subspace_negative)k;
        one_round(&d, y, NULL, w);
        for (r = 0; r < 3; r++) ck_assert(w[r] == base[r]);
        /* z: s = (3, 1.5); alphas 3/3, 1.5/3, (-3 + 0.75)/sqrt(1.25)/3 */
        a[0] = 1;
        a[1] = 0.5;
        a[2] = -2.25 / sqrt(1.25) / 3;
        if (k == 1) {
            a[0] -= a[2];
            a[1] -= a[2];
            a[2] = 0;
        }
        if (k == 2) a[2] = 0;
        one_round(&d, z, NULL, w);
        for (r = 0; r < 3; r++) ck_assert_double_le(fabs(w[r] - a[r] / (a[0] + a[1] + a[2])), 1e-12);
    }
}
END_TEST

/* Nothing to divide by: equal weights (by samples), counted; the average takes the round in all the same. */
START_TEST(zero_sums_fall_back_to_equal_weights) {
    static const size_t count[1] = {2};
    static const double x[4][6] = {
        {1, 2, -1, -2, 0, 0},  /* opposed */
        {0, 0, 0, 0, 0, 0},    /* nothing */
        {100, 0, -1, 0, -1, 0} /* the sum of the weights is negative */
    };
    int k, forward;
    for (k = 0; k < 3; k++)
        for (forward = 0; forward < 2; forward++) {
            team_desc d = plain(1, 3, 1, count, f64_each);
            const int counted = k < 2 || !forward; /* as published, what is not exactly zero is divided by */
            double slots[3];
            team t;
            uint32_t r;
            d.s.assignment = forward ? SUBSPACE_FORWARD : SUBSPACE_INVERSE;
            must(&t, team_open(&t, &d));
            for (r = 0; r < 3; r++) team_unflat(&t.worker[r].grads, &x[k][2 * r]);
            must(&t, team_aggregate(&t) && team_alike(&t));
            for (r = 0; r < 3; r++) {
                ck_assert_uint_eq(stats_of(&t, r).zero_sums, counted);
                if (counted) ck_assert(numbers_of(&t, r, r, 0).weight == 1.0 / 3);
                ck_assert_uint_eq(subspace_slots(t.worker[r].a, 0, slots, 3), 3);
            }
            if (k == 1) {
                double out[2];
                team_flat(&t.worker[0].grads, out);
                ck_assert(out[0] == 0 && out[1] == 0);
            }
            must(&t, team_close(&t));
        }
}
END_TEST

/* A worker with nothing to say has no weight (momentum 0), and does not dilute the others. */
START_TEST(a_zero_gradient_has_no_weight) {
    static const size_t count[1] = {2};
    static const double x[6] = {3, 4, 0, 0, 6, 8};
    team_desc d = plain(1, 3, 1, count, f64_each);
    double w[3], out[2];
    d.s.scale = SUBSPACE_SCALE_OFF;
    one_round(&d, x, out, w);
    ck_assert(w[1] == 0);
    ck_assert_double_le(fabs(out[0] - 0.6), 1e-8);
    ck_assert_double_le(fabs(out[1] - 0.8), 1e-8);
}
END_TEST

/* ---- numbers that are not finite ---- */

START_TEST(what_is_not_finite_is_left_out) {
    enum { N = 4 };
    static const size_t count[3] = {20, 70, 9};
    static const weft_dtype types[3] = {WEFT_F32, WEFT_F16, WEFT_F64};
    const int mean = _i % 2, weighted = _i / 2;
    uint32_t mask, r;
    for (mask = 1; mask < 1u << N; mask++) {
        team_desc d = plain(mask, N, 3, count, types);
        weft_tensors clean[N];
        double slots[2][N], *kept;
        uint64_t rng = mask;
        uint32_t ill = 0, n;
        pile p;
        team t;
        d.s.momentum = 0.9;
        if (mean) d.s.rule = SUBSPACE_MEAN;
        must(&t, team_open(&t, &d));
        for (r = 0; r < N; r++)
            if (weighted) subspace_set_batch(t.worker[r].a, 1 + r);
        team_fill(&t, mask);
        must(&t, team_aggregate(&t));
        n = subspace_slots(t.worker[0].a, 0, slots[0], N);
        team_fill(&t, mask + 100);
        for (r = 0; r < N; r++) {
            const size_t k = cluster_below(&rng, 3);
            clean[r] = cluster_tensors(3, count, types);
            if (mask >> r & 1) {
                cluster_set(&t.worker[r].grads.tensor[k], cluster_below(&rng, (uint32_t)count[k]),
                            cluster_below(&rng, 2) ? (double)NAN : -(double)INFINITY);
                ill++;
            }
            cluster_copy(&t.worker[r].grads, &clean[r]);
        }
        kept = snapshot(&t);
        TEAM_ALL(&t, w, subspace_submit(w->a, 0, 3));
        if (ill == N) { /* nobody is left */
            for (r = 0; r < N; r++) {
                ck_assert_int_eq(t.worker[r].status, WEFT_ERR_NONFINITE);
                ck_assert_uint_eq(stats_of(&t, r).rounds, 1);
                ck_assert_uint_eq(stats_of(&t, r).rounds_abandoned, 1);
            }
            ck_assert(untouched(&t, kept));
        } else {
            double samples[N];
            uint32_t some = 0;
            must(&t, team_fine(&t, "round") && team_alike(&t));
            /* the others' aggregate, as if they were alone: to rounding, since their shards are not the same */
            ck_assert_int_eq(pile_open(&p, &d.s, N - ill, 3, count, types), WEFT_OK);
            for (r = 0; r < N; r++)
                if (!(mask >> r & 1)) {
                    samples[some] = weighted ? 1 + r : 1;
                    cluster_copy(&clean[r], &p.grads[some++]);
                }
            ck_assert_int_eq(pile_combine(&p, samples), WEFT_OK);
            {
                double a[99], b[99], most = 0;
                size_t i;
                team_flat(&t.worker[0].grads, a);
                team_flat(&p.out, b);
                for (i = 0; i < 99; i++) most = fmax(most, fabs(b[i]));
                for (i = 0; i < 99; i++) ck_assert_double_le(fabs(a[i] - b[i]), 1e-3 * most);
                for (i = 90; i < 99; i++) ck_assert_double_le(fabs(a[i] - b[i]), 1e-12 * most);
            }
            for (r = 0; r < N; r++) {
                subspace_stats_t s = stats_of(&t, r);
                ck_assert_uint_eq(s.rounds, 2);
                ck_assert_uint_eq(s.participants, N - ill);
                ck_assert_uint_eq(s.nonfinite_gradients, ill);
                ck_assert_int_eq(subspace_worker(t.worker[0].a, r, 0, &(subspace_worker_t){0}),
                                 mask >> r & 1 ? WEFT_ERR_ARGUMENT : WEFT_OK);
            }
            ck_assert(pile_close(&p));
        }
        /* the average over steps has sat it out */
        ck_assert_uint_eq(subspace_slots(t.worker[1].a, 0, slots[1], N), n);
        for (r = 0; r < n; r++) ck_assert(slots[0][r] == slots[1][r]);
        /* cured: all take part again */
        team_fill(&t, 5);
        must(&t, team_aggregate(&t) && team_alike(&t));
        ck_assert_uint_eq(stats_of(&t, 2).participants, N);
        for (r = 0; r < N; r++) cluster_tensors_free(&clean[r]);
        free(kept);
        must(&t, team_close(&t));
    }
}
END_TEST

START_TEST(a_guard_that_rejects_leaves_everything_alone) {
    enum { N = 3 };
    static const size_t count[2] = {70, 9};
    const int combine = _i % 2, rule = _i / 2;
    uint32_t mask, r;
    for (mask = 1; mask < 1u << N; mask++) {
        team_desc d = plain(mask, N, 2, count, NULL);
        double slots[2][N], *kept = NULL;
        uint32_t lowest = 0, n;
        pile p;
        team t;
        while (!(mask >> lowest & 1)) lowest++;
        d.s.momentum = 0.9;
        d.s.guard = SUBSPACE_GUARD_REJECT;
        d.s.rule = rule == 0 ? SUBSPACE_NORMALISED : rule == 1 ? SUBSPACE_MEAN : SUBSPACE_BASIC;
        if (combine) {
            weft_tensors before[N + 1];
            ck_assert_int_eq(pile_open(&p, &d.s, N, 2, count, NULL), WEFT_OK);
            for (r = 0; r < N; r++) team_fill_one(&p.grads[r], 7, r, 1);
            ck_assert_int_eq(pile_combine(&p, NULL), WEFT_OK);
            n = subspace_slots(p.a, 0, slots[0], N);
            for (r = 0; r <= N; r++) {
                const weft_tensors *g = r < N ? &p.grads[r] : &p.out;
                if (r < N) team_fill_one(g, 8, r, 1);
                if (r < N && mask >> r & 1) cluster_set(&g->tensor[1], 8, (double)NAN);
                before[r] = cluster_tensors(2, count, NULL);
                cluster_copy(g, &before[r]);
            }
            ck_assert_int_eq(pile_combine(&p, NULL), WEFT_ERR_NONFINITE);
            ck_assert_uint_eq(subspace_detail(p.a)->peer, lowest);
            for (r = 0; r <= N; r++) {
                ck_assert(cluster_same_bits(&before[r], r < N ? &p.grads[r] : &p.out));
                cluster_tensors_free(&before[r]);
            }
            ck_assert_uint_eq(subspace_slots(p.a, 0, slots[1], N), n);
            for (r = 0; r < n; r++) ck_assert(slots[0][r] == slots[1][r]);
            for (r = 0; r < N; r++) team_fill_one(&p.grads[r], 9, r, 1);
            ck_assert_int_eq(pile_combine(&p, NULL), WEFT_OK);
            ck_assert(pile_close(&p));
            continue;
        }
        must(&t, team_open(&t, &d));
        team_fill(&t, 7);
        must(&t, team_aggregate(&t));
        n = subspace_slots(t.worker[0].a, 0, slots[0], N);
        team_fill(&t, 8);
        for (r = 0; r < N; r++)
            if (mask >> r & 1) cluster_set(&t.worker[r].grads.tensor[1], 8, (double)NAN);
        kept = snapshot(&t);
        TEAM_ALL(&t, w, subspace_submit(w->a, 0, 2));
        ck_assert(untouched(&t, kept));
        for (r = 0; r < N; r++) {
            subspace_stats_t s = stats_of(&t, r);
            ck_assert_int_eq(t.worker[r].status, WEFT_ERR_NONFINITE);
            ck_assert_uint_eq(subspace_detail(t.worker[r].a)->peer, lowest);
            ck_assert_uint_eq(subspace_detail(t.worker[r].a)->round, 2);
            ck_assert_uint_eq(s.rounds, 1);
            ck_assert_uint_eq(s.rounds_abandoned, 1);
            ck_assert_uint_ge(s.nonfinite_gradients, 1);
            ck_assert_uint_eq(subspace_slots(t.worker[r].a, 0, slots[1], N), n);
            ck_assert(memcmp(slots[0], slots[1], n * sizeof(double)) == 0);
            ck_assert_uint_eq(subspace_state(t.worker[r].a) & (SUBSPACE_MAY_SUBMIT | SUBSPACE_MAY_SAVE),
                              SUBSPACE_MAY_SUBMIT | SUBSPACE_MAY_SAVE);
        }
        team_fill(&t, 9);
        must(&t, team_aggregate(&t) && team_alike(&t));
        free(kept);
        must(&t, team_close(&t));
    }
}
END_TEST

/* In one group only: the worker counts in the others. */
START_TEST(what_is_not_finite_in_one_group_counts_in_the_others) {
    static const size_t count[3] = {20, 70, 9};
    static const uint32_t each[3] = {0, 1, 1};
    team_desc d = plain(1, 3, 3, count, NULL);
    double before[2][3], after[3];
    team t;
    uint32_t r, k;
    d.s.momentum = 0.9;
    d.s.groups = 2;
    d.s.group_of_tensor = each;
    must(&t, team_open(&t, &d));
    team_fill(&t, 7);
    must(&t, team_aggregate(&t));
    for (k = 0; k < 2; k++) subspace_slots(t.worker[0].a, k, before[k], 3);
    team_fill(&t, 8);
    cluster_set(&t.worker[1].grads.tensor[2], 3, (double)NAN);
    must(&t, team_aggregate(&t) && team_alike(&t));
    for (r = 0; r < 3; r++) {
        ck_assert_int_eq(subspace_worker(t.worker[r].a, 1, 0, &(subspace_worker_t){0}), WEFT_OK);
        ck_assert_int_eq(subspace_worker(t.worker[r].a, 1, 1, &(subspace_worker_t){0}), WEFT_ERR_ARGUMENT);
        ck_assert_uint_eq(stats_of(&t, r).participants, 2);
        ck_assert_uint_eq(stats_of(&t, r).nonfinite_gradients, 1);
    }
    subspace_slots(t.worker[0].a, 0, after, 3); /* the group that is whole goes on, the other one waits */
    ck_assert(memcmp(before[0], after, sizeof after) != 0);
    subspace_slots(t.worker[0].a, 1, after, 3);
    ck_assert(memcmp(before[1], after, sizeof after) == 0);
    must(&t, team_close(&t));
}
END_TEST

/* All gradients are finite, their aggregate is not: rejected by all, whoever has seen it. */
START_TEST(an_aggregate_that_overflows_is_rejected) {
    enum { N = 3 };
    static const size_t count[2] = {500, 3};
    static const double size[4] = {1e30, 1e140, 1e30, 3e4};
    const weft_dtype dtype = (weft_dtype)_i;
    const weft_dtype types[2] = {dtype, dtype};
    uint32_t r;
    size_t where;
    for (where = 0; where < 3; where++) { /* in whose shard */
        team_desc d = plain(1, N, 2, count, types);
        double *kept;
        pile p;
        team t;
        d.s.rule = SUBSPACE_BASIC;
        d.s.scale = SUBSPACE_SCALE_OFF;
        must(&t, team_open(&t, &d));
        team_fill(&t, 7);
        for (r = 0; r < N; r++) cluster_set(&t.worker[r].grads.tensor[0], where * 200, size[_i]);
        kept = snapshot(&t);
        TEAM_ALL(&t, w, subspace_submit(w->a, 0, 2));
        ck_assert(untouched(&t, kept));
        for (r = 0; r < N; r++) {
            ck_assert_int_eq(t.worker[r].status, WEFT_ERR_NONFINITE);
            ck_assert_uint_eq(subspace_detail(t.worker[r].a)->peer, WEFT_NO_RANK);
            ck_assert(strstr(subspace_detail(t.worker[r].a)->field, "overflow") != NULL);
            ck_assert_uint_eq(stats_of(&t, r).rounds, 0);
            ck_assert_uint_eq(stats_of(&t, r).rounds_abandoned, 1);
        }
        ck_assert_int_eq(pile_open(&p, &d.s, N, 2, count, types), WEFT_OK);
        for (r = 0; r < N; r++) cluster_copy(&t.worker[r].grads, &p.grads[r]);
        ck_assert_int_eq(pile_combine(&p, NULL), WEFT_ERR_NONFINITE);
        ck_assert(pile_close(&p));
        team_fill(&t, 8);
        must(&t, team_aggregate(&t) && team_alike(&t));
        free(kept);
        must(&t, team_close(&t));
    }
}
END_TEST

/* By default the aggregate is about as long as the mean: near the largest number it still fits. */
START_TEST(large_gradients_are_no_overflow) {
    static const size_t count[1] = {40};
    static const double size[4] = {3e38, 1e150, 3e38, 65000};
    const weft_dtype dtype = (weft_dtype)_i;
    team_desc d = plain(1, 4, 1, count, &dtype);
    team t;
    uint32_t r;
    size_t i;
    must(&t, team_open(&t, &d));
    for (r = 0; r < 4; r++)
        for (i = 0; i < 40; i++) cluster_set(&t.worker[r].grads.tensor[0], i, i % 2 ? size[_i] : -size[_i] * 0.9);
    must(&t, team_aggregate(&t) && team_alike(&t));
    for (i = 0; i < 40; i++)
        ck_assert_double_le(
            fabs(cluster_get(&t.worker[0].grads.tensor[0], i) / (i % 2 ? size[_i] : -size[_i] * 0.9) - 1), 0.01);
    must(&t, team_close(&t));
}
END_TEST

/* ---- nothing to aggregate ---- */

START_TEST(empty_tensors_and_none_at_all) {
    static const size_t none[3] = {0, 0, 0};
    uint32_t n, k;
    for (n = 1; n <= 4; n++)
        for (k = 0; k <= 3; k += 3) {
            team_desc d = plain(n, n, k, none, NULL);
            uint64_t round;
            pile p;
            team t;
            d.s.momentum = 0.5;
            must(&t, team_open(&t, &d));
            for (round = 1; round <= 3; round++) {
                must(&t, team_aggregate(&t));
                ck_assert_uint_eq(stats_of(&t, 0).rounds, round);
            }
            must(&t, team_close(&t));
            ck_assert_int_eq(pile_open(&p, &d.s, n, k, none, NULL), WEFT_OK);
            ck_assert_int_eq(pile_combine(&p, NULL), WEFT_OK);
            ck_assert(pile_close(&p));
        }
}
END_TEST

/* ---- what is sent ---- */

/* Of the gradients' bytes everybody sends what the mean needs, and 2 N doubles a group beside them. */
START_TEST(a_round_moves_the_bytes_of_the_mean) {
    static const size_t count[5] = {3000, 0, 65, 1, 257};
    static const weft_dtype types[5] = {WEFT_F32, WEFT_F32, WEFT_F64, WEFT_BF16, WEFT_F16};
    static const uint32_t group_of[5] = {0, 1, 1, 2, 0};
    const uint64_t bytes = 3000 * 4 + 65 * 8 + 2 + 257 * 2;
    uint32_t n, r;
    int groups, parts;
    for (n = 1; n <= MOST_WORKERS; n++)
        for (groups = 0; groups < 2; groups++)
            for (parts = 0; parts < 3; parts++) { /* 2: in place */
                uint64_t sent[2][MOST_WORKERS], heads[2][MOST_WORKERS], all[2] = {0, 0}, back[2] = {0, 0};
                const uint64_t row = (groups ? 3 : 1) * 2 * n * sizeof(double);
                int mean;
                for (mean = 0; mean < 2; mean++) {
                    team_desc d = plain(n, n, 5, count, types);
                    team t;
                    if (mean) d.s.rule = SUBSPACE_MEAN;
                    d.s.in_place = parts == 2;
                    d.s.groups = groups ? 3 : 0;
                    d.s.group_of_tensor = groups ? group_of : NULL;
                    must(&t, team_open(&t, &d));
                    team_fill(&t, 1);
                    must(&t, team_aggregate(&t)); /* the first round also agrees on the view */
                    for (r = 0; r < n; r++) {
                        subspace_stats_t s = stats_of(&t, r);
                        sent[mean][r] = s.traffic.payload_sent;
                        heads[mean][r] = s.traffic.control_sent;
                        back[mean] -= s.traffic.payload_received;
                    }
                    team_fill(&t, 2);
                    if (parts == 1)
                        for (r = 0; r < 5; r++) TEAM_ALL(&t, w, subspace_submit(w->a, r, 1));
                    else
                        must(&t, team_aggregate(&t));
                    must(&t, team_fine(&t, "round"));
                    for (r = 0; r < n; r++) {
                        subspace_stats_t s = stats_of(&t, r);
                        const weft_sim_counts *c = weft_sim_counts_of(&t.sim, r);
                        sent[mean][r] = s.traffic.payload_sent - sent[mean][r];
                        heads[mean][r] = s.traffic.control_sent - heads[mean][r];
                        all[mean] += sent[mean][r];
                        back[mean] += s.traffic.payload_received;
                        /* what is counted is what went out */
                        ck_assert_uint_eq(c->sent_bytes[0] + c->sent_bytes[1],
                                          s.traffic.payload_sent + s.traffic.control_sent);
                    }
                    must(&t, team_close(&t));
                    /* together: every element to its owner, and back to the others; and the numbers */
                    ck_assert_uint_eq(all[mean], 2 * (n - 1) * bytes + (uint64_t)n * (n - 1) * row);
                    ck_assert_uint_eq(back[mean], all[mean]);
                }
                for (r = 0; r < n; r++) {
                    ck_assert_uint_ge(sent[0][r] + (n - 1) * row, sent[1][r]);
                    ck_assert_uint_le(sent[0][r], sent[1][r] + (n - 1) * row);
                    ck_assert_uint_eq(heads[0][r], heads[1][r]); /* no message more */
                }
            }
}
END_TEST

/* The shards are alike: nobody sends much more than 2 (N - 1) / N of the gradients' bytes. */
START_TEST(the_work_is_shared_evenly) {
    static const size_t count[2] = {100000, 77};
    uint32_t n, r;
    for (n = 2; n <= 8; n++) {
        team_desc d = plain(n, n, 2, count, NULL);
        const double bytes = 100077 * 4.0;
        team t;
        must(&t, team_open(&t, &d));
        team_fill(&t, 1);
        must(&t, team_aggregate(&t));
        for (r = 0; r < n; r++)
            ck_assert_double_le((double)stats_of(&t, r).traffic.payload_sent, 2 * bytes * (n - 1) / n * 1.01 + 4000);
        must(&t, team_close(&t));
    }
}
END_TEST

/* ---- in place, and with shared memory ---- */

/* Whoever sees a round come to nothing is told whether its gradients are still there. */
START_TEST(in_place_tells_what_is_lost) {
    static const size_t count[2] = {500, 70};
    const int shared = _i & 1, loss = _i & 2, rejects = shared && !loss;
    team_desc d = plain(1, 3, 2, count, NULL);
    float before[500], now[500];
    uint32_t r, lost = 0;
    team t;
    d.sim.shared = (uint32_t)shared;
    d.s.in_place = 1;
    if (rejects) d.s.guard = SUBSPACE_GUARD_REJECT;
    must(&t, team_open(&t, &d));
    team_fill(&t, 1);
    must(&t, team_aggregate(&t) && team_alike(&t));
    team_fill(&t, 2);
    if (!loss)
        for (r = 0; r < (rejects ? 1u : 3u); r++) cluster_set(&t.worker[r].grads.tensor[0], 499, (double)INFINITY);
    memcpy(before, t.worker[1].grads.tensor[0].data, sizeof before);
    if (loss) { /* when shards are exchanged, or numbers */
        const int fault = weft_sim_lose_at_message(&t.sim, 2, t.sim.arrived + 20, 1);
        uint32_t two[2] = {0, 1};
        weft_view v = {sizeof v, 1, 2, two};
        TEAM_ALL(&t, w, subspace_submit(w->a, 0, 2));
        ck_assert_uint_eq(weft_sim_fired(&t.sim, fault), 1);
        for (r = 0; r < 2; r++) {
            ck_assert_int_eq(t.worker[r].status, WEFT_ERR_PEER_LOST);
            t.worker[r].status = subspace_regroup(t.worker[r].a, &v);
        }
        t.worker[2].status = WEFT_OK;
        must(&t, team_settle(&t));
    } else {
        TEAM_ALL(&t, w, subspace_submit(w->a, 0, 2));
    }
    for (r = 0; r < (loss ? 2u : 3u); r++) {
        ck_assert_int_eq(t.worker[r].status, loss ? WEFT_WANT_GRADIENT : WEFT_ERR_NONFINITE);
        lost += (subspace_state(t.worker[r].a) & SUBSPACE_GRADIENTS_LOST) != 0;
        ck_assert_uint_ne(subspace_state(t.worker[r].a) & SUBSPACE_MAY_SUBMIT, 0);
    }
    memcpy(now, t.worker[1].grads.tensor[0].data, sizeof now);
    if (rejects) { /* nothing has been written */
        ck_assert_uint_eq(lost, 0);
        ck_assert_int_eq(memcmp(before, now, sizeof before), 0);
    } else if (!shared) {
        ck_assert_uint_eq(lost, loss ? 2 : 3);
        ck_assert_int_ne(memcmp(before, now, sizeof before), 0);
    } else {
        ck_assert_uint_ge(lost, 1);
    }
    /* with new gradients all is well */
    team_fill(&t, 3);
    for (r = 0; r < (loss ? 2u : 3u); r++) {
        t.worker[r].status = subspace_submit(t.worker[r].a, 0, 2);
        ck_assert_uint_eq(subspace_state(t.worker[r].a) & SUBSPACE_GRADIENTS_LOST, 0);
    }
    must(&t, team_settle(&t) && team_fine(&t, "afterwards"));
    ck_assert(cluster_same_bits(&t.worker[0].grads, &t.worker[1].grads));
    must(&t, team_close(&t));
}
END_TEST

typedef struct goer {
    team_worker *w;
    float kept[600];
    int leaving, gone;
} goer;

static int goes_at_once(void *user, uint32_t rank) {
    goer *g = (goer *)user;
    (void)rank;
    if (g->w->status == WEFT_AGAIN) g->w->status = subspace_poll(g->w->a);
    if (g->w->status == WEFT_OK && !g->leaving) {
        memcpy(g->kept, g->w->grads.tensor[0].data, sizeof g->kept);
        g->leaving = 1;
        g->w->status = subspace_leave(g->w->a);
    }
    if (g->w->status == WEFT_AGAIN) return 0;
    if (g->w->status == WEFT_OK) { /* its memory is the host's again, and used for something else */
        subspace_close(g->w->a);
        g->w->a = NULL;
        memset(g->w->memory + 1, 0xFF, g->w->bytes);
        memset(g->w->grads.tensor[0].data, 0xFF, sizeof g->kept);
        g->gone = 1;
    }
    return 1;
}

/* With shared memory a worker may go as soon as its round is over: nobody looks at its memory then. */
START_TEST(shared_memory_is_free_after_a_round) {
    static const size_t count[1] = {600};
    uint64_t seed;
    uint32_t r;
    for (seed = 0; seed < 40; seed++) {
        team_desc d = plain(seed, 4, 1, count, NULL);
        goer g[4];
        team t;
        d.sim.shared = 1;
        d.sim.jitter_ns = 100000;
        d.s.in_place = (int)(seed & 1);
        must(&t, team_open(&t, &d));
        team_fill(&t, seed);
        memset(g, 0, sizeof g);
        for (r = 0; r < 4; r++) {
            g[r].w = &t.worker[r];
            t.worker[r].status = subspace_submit(t.worker[r].a, 0, 1);
            weft_sim_worker(&t.sim, r, goes_at_once, &g[r]);
        }
        ck_assert_int_eq(weft_sim_run(&t.sim, 1000000), WEFT_SIM_DONE);
        for (r = 0; r < 4; r++) {
            ck_assert_int_eq(g[r].gone, 1);
            ck_assert_msg(memcmp(g[r].kept, g[0].kept, sizeof g[0].kept) == 0,
                          "seed %llu: worker %u has copied from one who is gone", (unsigned long long)seed, r);
        }
        must(&t, team_close(&t));
    }
}
END_TEST

/* A copy of the gradients is what in place saves; where memory is shared, all of it. */
START_TEST(in_place_needs_no_copy) {
    const size_t count[1] = {(size_t)50 << 20};
    weft_transport net = weft_transport_make(NULL, 0, 4, NULL, NULL, NULL, NULL, NULL);
    const double whole = (double)count[0] * 4;
    weft_tensor one = {(void *)64, 0, WEFT_F32};
    subspace_desc d;
    team_desc o = plain(1, 4, 1, count, NULL);
    team t;
    size_t bytes[2][2];
    int shared, in_place;
    memset(&d, 0, sizeof d);
    o.count = (const size_t[]){4};
    must(&t, team_open(&t, &o));
    net = t.worker[0].net;
    d.struct_size = sizeof d;
    one.count = count[0];
    d.gradients.tensor = &one;
    d.gradients.count = 1;
    d.transport = &net;
    for (shared = 0; shared < 2; shared++)
        for (in_place = 0; in_place < 2; in_place++) {
            net.shared = (uint32_t)shared;
            d.in_place = in_place;
            bytes[shared][in_place] = subspace_memory(&d, NULL);
            ck_assert_uint_gt(bytes[shared][in_place], 0);
        }
    ck_assert_double_ge((double)bytes[0][0], whole);
    ck_assert_double_ge((double)bytes[1][0], whole);
    ck_assert_double_le((double)bytes[0][1], (4 << 20) + 60000.0);
    ck_assert_double_le((double)bytes[1][1], 40000);
    must(&t, team_close(&t));
}
END_TEST

/* ---- reading ---- */

START_TEST(reading_tells_what_was_set_and_what_came_of_it) {
    static const size_t count[2] = {20, 9};
    team_desc d = plain(1, 3, 2, count, NULL);
    subspace_desc e;
    uint32_t ranks[3] = {9, 9, 9}, r;
    team t;
    must(&t, team_open(&t, &d));
    for (r = 0; r < 3; r++) {
        subspace *a = t.worker[r].a;
        subspace_stats_t s = stats_of(&t, r);
        subspace_effective(a, &e);
        ck_assert_int_eq(e.scale, SUBSPACE_SCALE_PROJECTION);
        ck_assert(e.epsilon == 1e-8);
        ck_assert(e.momentum == 0);
        ck_assert_uint_eq(e.groups, 1);
        ck_assert_int_ne(e.isa, WEFT_ISA_AUTO);
        ck_assert_uint_eq(s.rounds, 0);
        ck_assert_uint_eq(s.members, 3);
        ck_assert_int_eq(subspace_worker(a, 0, 0, &(subspace_worker_t){0}), WEFT_ERR_ARGUMENT); /* no round yet */
        ck_assert(isnan(subspace_scale_of(a, 0)));
        ck_assert(isnan(subspace_scale_of(a, 1)));
        ck_assert(isnan(subspace_scale_of(NULL, 0)));
        ck_assert_uint_eq(subspace_members(a, ranks, 2), 3);
        ck_assert_uint_eq(ranks[0], 0);
        ck_assert_uint_eq(ranks[1], 1);
        ck_assert_uint_eq(ranks[2], 9);
        ck_assert_uint_eq(subspace_members(a, NULL, 0), 3);
        ck_assert_uint_eq(subspace_slots(a, 0, NULL, 0), 0);
        ck_assert_uint_eq(subspace_slots(a, 1, NULL, 0), 0);
        ck_assert_uint_eq(subspace_state(a),
                          SUBSPACE_MAY_SUBMIT | SUBSPACE_MAY_SAVE | SUBSPACE_MAY_LOAD | SUBSPACE_MAY_REGROUP);
    }
    team_fill(&t, 3);
    t.worker[0].status = subspace_submit(t.worker[0].a, 0, 1);
    ck_assert_int_eq(t.worker[0].status, WEFT_AGAIN);
    ck_assert_uint_eq(subspace_state(t.worker[0].a), SUBSPACE_MAY_SUBMIT | SUBSPACE_MAY_POLL | SUBSPACE_MAY_REGROUP);
    t.worker[0].status = subspace_submit(t.worker[0].a, 1, 1);
    ck_assert_int_eq(t.worker[0].status, WEFT_AGAIN);
    ck_assert_uint_eq(subspace_state(t.worker[0].a), SUBSPACE_MAY_POLL | SUBSPACE_MAY_REGROUP);
    for (r = 1; r < 3; r++) {
        t.worker[r].status = subspace_submit(t.worker[r].a, 0, 1);
        if (t.worker[r].status >= 0) t.worker[r].status = subspace_submit(t.worker[r].a, 1, 1);
    }
    must(&t, team_settle(&t) && team_fine(&t, "round"));
    for (r = 0; r < 3; r++) {
        subspace *a = t.worker[r].a;
        subspace_stats_t s = stats_of(&t, r);
        ck_assert_uint_eq(s.rounds, 1);
        ck_assert_uint_eq(s.participants, 3);
        ck_assert_uint_eq(s.rounds_abandoned + s.nonfinite_gradients + s.zero_sums + s.scale_fallbacks + s.restarts, 0);
        ck_assert_uint_eq(subspace_state(a), SUBSPACE_MAY_SUBMIT | SUBSPACE_MAY_SAVE | SUBSPACE_MAY_REGROUP);
        ck_assert(subspace_scale_of(a, 0) > 0);
        ck_assert_int_eq(subspace_poll(a), WEFT_OK);
        ck_assert_int_eq(subspace_wait(a), WEFT_OK);
    }
    must(&t, team_close(&t));
}
END_TEST

/* The events of a round, in order. */
typedef struct log {
    uint64_t kind[64], round[64], value[64];
    size_t n;
} log_of;

static void note(void *ctx, const weft_event *e) {
    log_of *l = (log_of *)ctx;
    if (e->kind == WEFT_EVENT_SENT || e->kind == WEFT_EVENT_RECEIVED || l->n == 64) return;
    l->kind[l->n] = e->kind;
    l->round[l->n] = e->round;
    l->value[l->n++] = e->value;
}

static int prepare_log(team_worker *w) {
    w->desc.trace = note;
    w->desc.trace_ctx = (log_of *)w->t->desc.user + w->rank;
    return 1;
}

START_TEST(the_trace_tells_of_rounds) {
    log_of log[2];
    team_desc d = plain(1, 2, 2, two_tensors, NULL);
    team t;
    uint32_t r;
    memset(log, 0, sizeof log);
    d.prepare = prepare_log;
    d.user = log;
    d.s.guard = SUBSPACE_GUARD_REJECT;
    must(&t, team_open(&t, &d));
    team_fill(&t, 1);
    must(&t, team_aggregate(&t));
    cluster_set(&t.worker[1].grads.tensor[0], 0, (double)NAN);
    TEAM_ALL(&t, w, subspace_submit(w->a, 0, 2));
    for (r = 0; r < 2; r++) {
        static const uint64_t kind[5] = {WEFT_EVENT_VIEW, WEFT_EVENT_ROUND_BEGUN, WEFT_EVENT_COMMITTED,
                                         WEFT_EVENT_ROUND_BEGUN, WEFT_EVENT_ABANDONED};
        static const uint64_t round[5] = {0, 1, 1, 2, 2};
        size_t k;
        ck_assert_uint_eq(log[r].n, 5);
        for (k = 0; k < 5; k++) {
            ck_assert_uint_eq(log[r].kind[k], kind[k]);
            ck_assert_uint_eq(log[r].round[k], round[k]);
        }
        ck_assert_uint_eq(log[r].value[2], 2); /* workers */
    }
    must(&t, team_close(&t));
}
END_TEST

/* ---- in one address space ---- */

START_TEST(combine_takes_any_number_up_to_what_was_said) {
    static const size_t count[2] = {40, 9};
    subspace_desc d;
    double out[2][FEW], slots[6];
    pile p;
    uint32_t n, r;
    memset(&d, 0, sizeof d);
    d.momentum = 0.9;
    ck_assert_int_eq(pile_open(&p, &d, 6, 2, count, f64_each), WEFT_OK);
    ck_assert_uint_eq(subspace_state(p.a), SUBSPACE_MAY_SAVE | SUBSPACE_MAY_LOAD);
    for (r = 0; r < 6; r++) team_fill_one(&p.grads[r], 1, r, 1);
    for (n = 1; n <= 6; n++) {
        subspace_stats_t s;
        ck_assert_int_eq(subspace_combine(p.a, p.grads, n, NULL, &p.out), WEFT_OK);
        subspace_stats(p.a, &s);
        ck_assert_uint_eq(s.rounds, n);
        ck_assert_uint_eq(s.participants, n);
        ck_assert_uint_eq(s.restarts, n - 1); /* another number of gradients each time */
        ck_assert_uint_eq(subspace_slots(p.a, 0, slots, 6), n);
        ck_assert_int_eq(subspace_worker(p.a, n, 0, &(subspace_worker_t){0}), WEFT_ERR_ARGUMENT);
    }
    /* the same numbers, whatever the others were */
    team_flat(&p.out, out[0]);
    ck_assert_int_eq(subspace_combine(p.a, p.grads, 6, NULL, &p.out), WEFT_OK);
    team_flat(&p.out, out[1]);
    for (r = 0; r < FEW; r++) ck_assert_double_le(fabs(out[0][r] - out[1][r]), 1e-12);
    ck_assert(pile_close(&p));
}
END_TEST

/* Beside a transport: the object goes on with rounds as if nothing had been, also after one that was rejected. */
START_TEST(combine_and_rounds_of_the_transport_get_along) {
    static const size_t count[2] = {40, 9};
    team_desc d = plain(1, 3, 2, count, f64_each);
    weft_tensors g[2];
    team t;
    uint32_t k;
    uint64_t round;
    d.s.here = 2;
    d.s.guard = SUBSPACE_GUARD_REJECT;
    must(&t, team_open(&t, &d));
    for (k = 0; k < 2; k++) {
        g[k] = cluster_tensors(2, count, f64_each);
        team_fill_one(&g[k], 5, k, 1);
    }
    for (round = 0; round < 4; round++) {
        /* worker 0 only */
        if (round == 2) cluster_set(&g[1].tensor[0], 3, (double)NAN);
        ck_assert_int_eq(subspace_combine(t.worker[0].a, g, 2, NULL, &g[0]), round == 2 ? WEFT_ERR_NONFINITE : WEFT_OK);
        if (round == 2) cluster_set(&g[1].tensor[0], 3, 1);
        team_fill(&t, round);
        must(&t, team_aggregate(&t) && team_alike(&t));
    }
    for (k = 0; k < 2; k++) cluster_tensors_free(&g[k]);
    must(&t, team_close(&t));
}
END_TEST

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
    t = part(runner, "model");
    tcase_add_loop_test(t, rounds_agree_with_the_model, 0, 10);
    tcase_add_loop_test(t, rounds_with_strange_gradients_agree_with_the_model, 0, 10);
    t = part(runner, "bits");
    tcase_add_loop_test(t, all_ways_give_the_same_bits, 0, 45);
    tcase_add_loop_test(t, the_other_rules_give_the_same_bits_all_ways, 0, 10);
    tcase_add_loop_test(t, large_gradients_give_the_same_bits_all_ways, 0, 5);
    t = part(runner, "parts");
    tcase_add_test(t, splits_agree_and_each_is_deterministic);
    tcase_add_test(t, gradients_may_be_written_until_they_are_submitted);
    tcase_add_test(t, another_order_is_a_mismatch);
    tcase_add_test(t, another_order_later_is_a_mismatch);
    t = part(runner, "properties");
    tcase_add_test(t, weights_sum_to_one);
    tcase_add_test(t, common_factors_change_no_weight);
    tcase_add_test(t, the_unscaled_aggregate_is_no_longer_than_one);
    tcase_add_test(t, permuting_the_workers_permutes_the_weights);
    tcase_add_test(t, the_aggregate_is_aligned_with_the_mean);
    tcase_add_test(t, one_worker_gets_its_gradient_back);
    tcase_add_test(t, one_worker_without_scale_is_normalised);
    tcase_add_test(t, the_projection_is_the_mean);
    tcase_add_test(t, a_projection_that_is_not_positive_falls_back_and_is_counted);
    tcase_add_test(t, the_mean_norm_is_the_length_of_equal_directions);
    t = part(runner, "average");
    tcase_add_test(t, the_average_is_over_order_statistics);
    tcase_add_test(t, the_forward_assignment_is_the_published_one);
    tcase_add_test(t, the_average_begins_anew_with_other_workers);
    tcase_add_test(t, who_was_away_has_no_average_of_its_own);
    t = part(runner, "rules");
    tcase_add_test(t, a_worker_with_two_samples_counts_as_two);
    tcase_add_test(t, batches_stay_as_set_and_reach_all);
    tcase_add_test(t, groups_are_as_separate_objects);
    tcase_add_test(t, the_mean_is_the_weighted_mean_bit_for_bit);
    tcase_add_test(t, the_basic_rule_is_a_gradient_step_of_the_coordinates);
    tcase_add_test(t, negative_weights_are_kept_or_shifted_or_clamped);
    tcase_add_test(t, zero_sums_fall_back_to_equal_weights);
    tcase_add_test(t, a_zero_gradient_has_no_weight);
    t = part(runner, "numbers");
    tcase_add_loop_test(t, what_is_not_finite_is_left_out, 0, 4);
    tcase_add_loop_test(t, a_guard_that_rejects_leaves_everything_alone, 0, 6);
    tcase_add_test(t, what_is_not_finite_in_one_group_counts_in_the_others);
    tcase_add_loop_test(t, an_aggregate_that_overflows_is_rejected, 0, 4);
    tcase_add_loop_test(t, large_gradients_are_no_overflow, 0, 4);
    tcase_add_test(t, empty_tensors_and_none_at_all);
    t = part(runner, "wire");
    tcase_add_test(t, a_round_moves_the_bytes_of_the_mean);
    tcase_add_test(t, the_work_is_shared_evenly);
    t = part(runner, "plans");
    tcase_add_loop_test(t, in_place_tells_what_is_lost, 0, 4);
    tcase_add_test(t, shared_memory_is_free_after_a_round);
    tcase_add_test(t, in_place_needs_no_copy);
    t = part(runner, "reading");
    tcase_add_test(t, reading_tells_what_was_set_and_what_came_of_it);
    tcase_add_test(t, the_trace_tells_of_rounds);
    t = part(runner, "combine");
    tcase_add_test(t, combine_takes_any_number_up_to_what_was_said);
    tcase_add_test(t, combine_and_rounds_of_the_transport_get_along);
    srunner_run_all(runner, CK_NORMAL);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
