/* SPDX-License-Identifier: MIT
 * DSGD-AAU over real threads, which sleep until something comes for them: on a ring, a torus and a complete graph; one
 * that leaves early, one that is lost at some moment, some that come late; with threads of the host for large tensors,
 * whose bits are those without. To be run under a thread sanitizer too.
 *
 * Checkers, apart from the library: every averaging is applied by its leader and by as many leaves as it says, with the
 * same weights, and the sum of all parameters has moved by the gradient steps, and by nothing else. */
#define GRAWA_IMPLEMENTATION
#include "../grawa.h"
#define DSGD_AAU_IMPLEMENTATION
#include "../dsgd_aau.h"
#include "pool/weft_pthread_pool.h"
#include "transports/weft_threads.h"
#include "aau_team.h"

#include <check.h>

enum { MOST = 8, TENSORS = 3, STEPS = 25, TOLD = 4096, NOBODY = MOST };

static const size_t small_count[TENSORS] = {5, 0, 3}, medium_count[TENSORS] = {700, 0, 50},
                    large_count[TENSORS] = {60000, 0, 9000};

/* One averaging, as one of its members has applied it. */
typedef struct told {
    uint32_t leader;
    uint64_t tx, size;
} told;

typedef struct worker {
    uint32_t rank;
    weft_transport net;
    dsgd_aau_desc desc;
    dsgd_aau *x;
    unsigned char *memory;
    size_t bytes;
    weft_tensors params, goal;
    double *drift, *first;
    told told[TOLD];
    size_t tales;
    uint64_t steps, most; /* taken, and to be taken */
    dsgd_aau_stats_t stats;
    weft_status status;
    const char *failed; /* a check that failed; asserted by the main thread */
} worker;

static struct {
    weft_graph graph;
    void *graph_memory;
    uint32_t size, lost, late; /* late: workers from this rank on */
    uint64_t polls;            /* of the one that is lost, before it is */
    const size_t *count;
    size_t elements;
    uint32_t begun; /* steps of all; atomic */
    weft_threads_team team;
    worker worker[MOST];
    pthread_t thread[MOST];
} run;

static void note(void *ctx, const weft_event *e) {
    worker *w = (worker *)ctx;
    if (e->kind != WEFT_EVENT_COMMITTED || w->tales == TOLD) return;
    w->told[w->tales].leader = e->peer;
    w->told[w->tales].tx = e->round;
    w->told[w->tales++].size = e->value;
}

/* ---- a worker ---- */

#define NEED(condition)                                                                                                \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            if (!w->failed) w->failed = #condition;                                                                    \
            return 0;                                                                                                  \
        }                                                                                                              \
    } while (0)

static void gradient_step(worker *w) {
    size_t k, i, n = 0;
    for (k = 0; k < w->params.count; k++)
        for (i = 0; i < w->params.tensor[k].count; i++, n++) {
            const double x = cluster_get(&w->params.tensor[k], i);
            cluster_set(&w->params.tensor[k], i, x - 0.25 * (x - cluster_get(&w->goal.tensor[k], i)));
            w->drift[n] += cluster_get(&w->params.tensor[k], i) - x;
        }
}

/* How they wait is their own affair. */
static weft_status to_the_end(worker *w, weft_status s) {
    uint64_t i;
    for (i = 0; s == WEFT_AGAIN && (w->rank % 2 || i < w->rank); i++) {
        sched_yield();
        s = dsgd_aau_poll(w->x);
    }
    return s == WEFT_AGAIN ? dsgd_aau_wait(w->x) : s;
}

static int work(worker *w) {
    uint64_t i;
    while (w->desc.join != DSGD_AAU_FOUND && __atomic_load_n(&run.begun, __ATOMIC_RELAXED) < run.late) sched_yield();
    w->status = to_the_end(w, dsgd_aau_start(w->x));
    NEED(w->status == WEFT_OK);
    if (w->desc.join != DSGD_AAU_FOUND) aau_flat(&w->params, w->first);
    while (w->steps < w->most) {
        gradient_step(w);
        w->steps++;
        __atomic_fetch_add(&run.begun, 1, __ATOMIC_RELAXED);
        w->status = dsgd_aau_step(w->x);
        if (w->rank == run.lost && w->steps == w->most) {
            for (i = 0; i < run.polls && w->status == WEFT_AGAIN; i++) {
                sched_yield();
                w->status = dsgd_aau_poll(w->x);
            }
            NEED(w->status >= 0);
            return 1;
        }
        w->status = to_the_end(w, w->status);
        NEED(w->status == WEFT_OK);
        for (i = 0; i < w->rank; i++) NEED(dsgd_aau_poll(w->x) == WEFT_OK); /* between its layers */
    }
    w->status = to_the_end(w, dsgd_aau_leave(w->x));
    NEED(w->status == WEFT_OK);
    return 1;
}

/* Whoever has ended, in whatever way, is gone. */
static void *body(void *arg) {
    worker *w = (worker *)arg;
    work(w);
    dsgd_aau_stats(w->x, &w->stats);
    weft_threads_lose(&run.team, w->rank);
    dsgd_aau_close(w->x);
    return NULL;
}

/* ---- the whole ---- */

static void set_up(int kind, uint32_t size, const size_t *count, weft_dtype type, const dsgd_aau_desc *more) {
    const weft_dtype types[TENSORS] = {type, type, type};
    uint32_t r;
    size_t i;
    memset(&run, 0, sizeof run);
    run.graph_memory = aau_graph(&run.graph, kind, size, 1);
    run.size = run.graph.workers;
    run.lost = run.late = NOBODY;
    run.count = count;
    for (i = 0; i < TENSORS; i++) run.elements += count[i];
    ck_assert_int_eq(weft_threads_init(&run.team, run.size), WEFT_OK);
    for (r = 0; r < run.size; r++) {
        worker *w = &run.worker[r];
        w->rank = r;
        w->most = STEPS;
        w->params = cluster_tensors(TENSORS, count, types);
        w->goal = cluster_tensors(TENSORS, count, types);
        cluster_fill(&w->params, 17, 1.0);
        cluster_fill(&w->goal, 1000 + r, 2.0);
        w->drift = (double *)calloc(run.elements, sizeof *w->drift);
        w->first = (double *)calloc(run.elements, sizeof *w->first);
        aau_flat(&w->params, w->first);
        weft_threads_transport(&run.team, r, &w->net);
        memset(&w->desc, 0, sizeof w->desc);
        if (more) w->desc = *more;
        w->desc.struct_size = sizeof w->desc;
        w->desc.params = w->params;
        w->desc.transport = &w->net;
        w->desc.graph = &run.graph;
        w->desc.trace = note;
        w->desc.trace_ctx = w;
    }
}

/* Everybody works, and comes to an end. */
static void train(void) {
    uint32_t r;
    for (r = 0; r < run.size; r++) {
        worker *w = &run.worker[r];
        w->bytes = dsgd_aau_memory(&w->desc, NULL);
        w->memory = (unsigned char *)malloc(w->bytes + CLUSTER_CANARY);
        memset(w->memory + w->bytes, 0xA5, CLUSTER_CANARY);
        ck_assert_int_eq(dsgd_aau_init(&w->x, &w->desc, w->memory, w->bytes), WEFT_OK);
    }
    for (r = 0; r < run.size; r++) ck_assert_int_eq(pthread_create(&run.thread[r], NULL, body, &run.worker[r]), 0);
    for (r = 0; r < run.size; r++) ck_assert_int_eq(pthread_join(run.thread[r], NULL), 0);
    for (r = 0; r < run.size; r++) {
        const worker *w = &run.worker[r];
        ck_assert_msg(!w->failed, "%u polls: worker %u, step %u: %s (%s)", (unsigned)run.polls, r, (unsigned)w->steps,
                      w->failed, weft_strerror(w->status));
        ck_assert_uint_eq(w->steps, w->most);
        ck_assert_uint_lt(w->tales, TOLD);
        ck_assert_uint_eq(w->stats.faults, 0);
    }
}

/* Of each averaging, how many have applied it. Averagings with whoever was lost may lack it. */
static void stars(void) {
    uint32_t r, o;
    size_t i, k;
    for (r = 0; r < run.size; r++)
        for (i = 0; i < run.worker[r].tales; i++) {
            const told *t = &run.worker[r].told[i];
            uint64_t seen = 0, led = 0;
            for (o = 0; o < run.size; o++)
                for (k = 0; k < run.worker[o].tales; k++) {
                    const told *u = &run.worker[o].told[k];
                    if (u->leader != t->leader || u->tx != t->tx) continue;
                    ck_assert_uint_eq(u->size, t->size);
                    seen++;
                    led += u->leader == o;
                }
            if (run.lost == NOBODY) {
                ck_assert_uint_eq(led, 1);
                ck_assert_uint_eq(seen, t->size);
            }
            ck_assert_uint_le(led, 1);
            ck_assert_uint_le(seen, t->size);
        }
}

static void conserved(double tolerance) {
    double *sum = (double *)calloc(run.elements, sizeof *sum), *x = (double *)calloc(run.elements, sizeof *x);
    uint32_t r;
    size_t i;
    for (r = 0; r < run.size; r++) {
        aau_flat(&run.worker[r].params, x);
        for (i = 0; i < run.elements; i++) sum[i] += x[i] - run.worker[r].drift[i] - run.worker[r].first[i];
    }
    for (i = 0; i < run.elements; i++)
        ck_assert_msg(fabs(sum[i]) <= tolerance * run.size, "element %u: the sum of all is off by %g", (unsigned)i,
                      sum[i]);
    free(sum);
    free(x);
}

static uint64_t averagings(void) {
    uint64_t n = 0;
    uint32_t r;
    for (r = 0; r < run.size; r++) n += run.worker[r].stats.led;
    return n;
}

static void tear_down(void) {
    uint32_t r;
    for (r = 0; r < run.size; r++) {
        worker *w = &run.worker[r];
        ck_assert(cluster_canary(w->memory + w->bytes));
        ck_assert(cluster_tensors_whole(&w->params));
        cluster_tensors_free(&w->params);
        cluster_tensors_free(&w->goal);
        free(w->memory);
        free(w->drift);
        free(w->first);
    }
    weft_threads_free(&run.team);
    free(run.graph_memory);
}

static const int kinds[3] = {AAU_RING, AAU_TORUS, AAU_COMPLETE};

/* Bits: 1: data in bulk, 2: f32, 4: as bf16 on the wire, 8: grace and gathered news. */
START_TEST(all_take_their_steps) {
    const int kind = _i % 3, bits = _i / 3;
    dsgd_aau_desc more;
    uint32_t r;
    memset(&more, 0, sizeof more);
    more.wire = bits & 4 ? DSGD_AAU_WIRE_BF16 : DSGD_AAU_WIRE_OWN;
    more.fan = 1 + (uint32_t)bits % 4;
    more.piece_bytes = 1024;
    more.grace_ns = bits & 8 ? 30000 : 0;
    more.coalesce_ns = bits & 8 ? 20000 : 0;
    set_up(kinds[kind], kind == 1 ? 8 : 4 + (uint32_t)bits % 5, bits & 1 ? medium_count : small_count,
           bits & 2 ? WEFT_F32 : WEFT_F64, &more);
    train();
    stars();
    conserved(bits & 2 ? 1e-4 : 1e-12);
    ck_assert_uint_gt(averagings(), 0);
    for (r = 0; r < run.size; r++) ck_assert_uint_eq(run.worker[r].stats.steps, STEPS);
    tear_down();
}
END_TEST

START_TEST(large_tensors) {
    uint32_t r;
    set_up(kinds[_i], 4, large_count, WEFT_F32, NULL);
    for (r = 0; r < run.size; r++) run.worker[r].most = 4;
    train();
    stars();
    conserved(1e-4);
    tear_down();
}
END_TEST

/* They go at different times, and the last ones go on alone. */
START_TEST(some_leave_early) {
    uint32_t r;
    set_up(kinds[_i % 3], 6, _i / 3 ? medium_count : small_count, WEFT_F64, NULL);
    for (r = 0; r < run.size; r++) run.worker[r].most = 1 + 7 * ((r * 5 + (uint32_t)_i) % run.size);
    train();
    stars();
    conserved(1e-12);
    tear_down();
}
END_TEST

START_TEST(one_is_lost_at_some_moment) {
    uint64_t polls;
    uint32_t r;
    for (polls = 0; polls < 30; polls++) {
        uint64_t lost = 0;
        set_up(kinds[_i % 3], 5, _i / 3 ? medium_count : small_count, WEFT_F64, NULL);
        run.lost = (uint32_t)polls % run.size;
        run.polls = polls;
        run.worker[run.lost].most = 3 + polls % 4;
        train();
        stars();
        for (r = 0; r < run.size; r++) lost += run.worker[r].stats.lost;
        ck_assert_uint_ge(lost, 1);
        tear_down();
    }
}
END_TEST

/* The last two or three come when the others have taken some steps, at the same time, with noise for parameters: each
 * takes over somebody's. */
START_TEST(some_come_late) {
    uint32_t r;
    set_up(kinds[_i % 3], 6, _i / 3 % 2 ? medium_count : small_count, WEFT_F64, NULL);
    run.late = run.size - 2 - (uint32_t)_i / 6;
    for (r = run.late; r < run.size; r++) {
        run.worker[r].desc.join = DSGD_AAU_JOIN;
        cluster_fill(&run.worker[r].params, 4242 + r, 1e6);
    }
    train();
    stars();
    for (r = run.late; r < run.size; r++) {
        size_t i;
        for (i = 0; i < run.elements; i++) ck_assert_double_lt(fabs(run.worker[r].first[i]), 10.0);
    }
    conserved(1e-12);
    tear_down();
}
END_TEST

/* The same order of events, in virtual time, with the host's threads and without: the same bits. */
START_TEST(a_pool_changes_nothing) {
    static const weft_dtype type[3] = {WEFT_F64, WEFT_F32, WEFT_BF16};
    const weft_dtype types[TENSORS] = {type[_i % 3], type[_i % 3], type[_i % 3]};
    uint64_t hash[2][4], averaged = 0;
    weft_pthread_pool pool;
    int with;
    uint32_t r;
    ck_assert_int_eq(weft_pthread_pool_create(&pool, 3), WEFT_OK);
    for (with = 0; with < 2; with++) {
        weft_graph g;
        void *m = aau_graph(&g, AAU_COMPLETE, 4, 0);
        aau_desc d = aau_default(7, &g);
        aau t;
        d.tensors = TENSORS;
        d.count = large_count;
        d.dtype = types;
        d.steps = 3;
        d.d.wire = _i / 3 ? DSGD_AAU_WIRE_BF16 : DSGD_AAU_WIRE_OWN;
        d.d.pool = with ? &pool.pool : NULL;
        ck_assert(aau_open(&t, &d));
        ck_assert_msg(aau_run(&t), "%s", t.why);
        for (r = 0; r < 4; r++) hash[with][r] = cluster_hash(&t.worker[r].params);
        averaged += AAU_TOTAL(&t, led);
        ck_assert_msg(aau_close(&t), "%s", t.why);
        free(m);
    }
    weft_pthread_pool_destroy(&pool);
    ck_assert_uint_gt(averaged, 6);
    for (r = 0; r < 4; r++) ck_assert_msg(hash[0][r] == hash[1][r], "worker %u holds other bits", r);
}
END_TEST

int main(void) {
    Suite *s = suite_create("dsgd_aau threads");
    TCase *t = tcase_create("threads");
    SRunner *r;
    int failed;
    tcase_set_timeout(t, 60);
    tcase_add_loop_test(t, all_take_their_steps, 0, 48);
    tcase_add_loop_test(t, large_tensors, 0, 3);
    tcase_add_loop_test(t, some_leave_early, 0, 6);
    tcase_add_loop_test(t, one_is_lost_at_some_moment, 0, 6);
    tcase_add_loop_test(t, some_come_late, 0, 12);
    tcase_add_loop_test(t, a_pool_changes_nothing, 0, 4);
    suite_add_tcase(s, t);
    r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
