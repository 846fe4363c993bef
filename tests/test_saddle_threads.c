/* SPDX-License-Identifier: MIT
 * SADDLe over real threads, which sleep until something comes for them: on a ring and a complete graph, the same bits
 * as in lock-step over a simulated network, with threads of the host for large tensors, too; some that leave early,
 * one that is lost at some moment. To be run under a thread sanitizer too.  What a schedule may change is looked at
 * from outside: gradients are zeros then, so that all models together keep their sum (nobody is lost) or stay between
 * the lowest and the highest of the beginning (somebody is). */
#define GRAWA_IMPLEMENTATION
#include "../grawa.h"
#define SADDLE_IMPLEMENTATION
#include "../saddle.h"
#include "pool/weft_pthread_pool.h"
#include "transports/weft_threads.h"
#include "saddle_lock.h"

#include <check.h>

enum { MOST = 6, TENSORS = 3, STEPS = 10, NOBODY = MOST };

static const size_t medium_count[TENSORS] = {700, 0, 50}, large_count[TENSORS] = {300000, 0, 9000};
static const weft_dtype mixed[TENSORS] = {WEFT_F32, WEFT_F64, WEFT_F64}, f64s[TENSORS] = {WEFT_F64, WEFT_F64, WEFT_F64};

typedef struct worker {
    lock_worker w; /* as in lock-step; what is of the simulated network is not used */
    uint64_t most; /* steps to be taken */
    saddle_stats_t stats;
    const char *failed; /* asserted by the main thread */
} worker;

static struct {
    uint32_t size, lost;
    uint64_t calls; /* of the one that is lost, in its last step, before it is */
    int together;   /* nobody leaves before all are done with their steps */
    uint32_t done;  /* so many are; atomic */
    void (*gradient)(lock_worker *w, const saddle_want *want);
    weft_graph graph;
    void *graph_memory;
    weft_threads_team team;
    worker worker[MOST];
    pthread_t thread[MOST];
} run;

/* ---- a worker ---- */

/* How they wait is their own affair; some look at their messages while they compute. */
static weft_status take_step(worker *o, uint64_t calls) {
    lock_worker *w = &o->w;
    saddle_want want;
    uint64_t i;
    for (i = 0;; i++) {
        if (i == calls) return WEFT_AGAIN;
        w->status = w->rank % 2 || calls != UINT64_MAX ? saddle_next(w->x, &want) : saddle_wait(w->x, &want);
        if (w->status == WEFT_AGAIN)
            sched_yield();
        else if (w->status == WEFT_WANT_GRADIENT) {
            w->asked++;
            run.gradient(w, &want);
            if (w->rank > 1 && saddle_poll(w->x) != WEFT_WANT_GRADIENT) o->failed = "poll in a gradient";
        } else
            return w->status;
    }
}

static void *body(void *arg) {
    worker *o = (worker *)arg;
    lock_worker *w = &o->w;
    const int lost = w->rank == run.lost;
    while (w->step < o->most && !o->failed) {
        const weft_status s = take_step(o, lost && w->step + 1 == o->most ? run.calls : UINT64_MAX);
        if (s < 0) o->failed = "step";
        w->step++;
        if (s == WEFT_AGAIN) break;
    }
    __atomic_fetch_add(&run.done, 1, __ATOMIC_RELAXED);
    while (run.together && !o->failed && __atomic_load_n(&run.done, __ATOMIC_RELAXED) < run.size) {
        sched_yield();
        if (saddle_poll(w->x) < 0) o->failed = "poll between steps";
    }
    if (lost) {
        weft_threads_lose(&run.team, w->rank);
    } else if (!o->failed) {
        w->status = saddle_leave(w->x);
        if (w->status == WEFT_AGAIN) w->status = saddle_wait(w->x, NULL);
        if (w->status != WEFT_OK) o->failed = "leave";
    }
    saddle_stats(w->x, &o->stats);
    saddle_close(w->x);
    return NULL;
}

/* ---- the whole ---- */

static void set_up(const lock_desc *d) {
    uint32_t r;
    memset(&run, 0, sizeof run);
    run.size = d->sim.size;
    run.lost = NOBODY;
    run.gradient = d->gradient ? d->gradient : lock_pull;
    d->graph(&run.graph, run.size, NULL, 0);
    run.graph_memory = malloc(run.graph.bytes);
    ck_assert_int_eq(d->graph(&run.graph, run.size, run.graph_memory, run.graph.bytes), WEFT_OK);
    ck_assert_int_eq(weft_threads_init(&run.team, run.size), WEFT_OK);
    for (r = 0; r < run.size; r++) {
        lock_worker *w = &run.worker[r].w;
        w->rank = r;
        run.worker[r].most = STEPS;
        w->params = cluster_tensors(d->tensors, d->count, d->dtype);
        cluster_fill(&w->params, 99 + (d->unequal ? r : 0), 1.0);
        weft_threads_transport(&run.team, r, &w->net);
        w->desc = d->s;
        w->desc.params = w->params;
        w->desc.transport = &w->net;
        w->desc.graph = &run.graph;
        if (d->unequal) w->desc.initial = SADDLE_INITIAL_KEEP;
        w->bytes = saddle_memory(&w->desc, NULL);
        w->memory = (unsigned char *)malloc(w->bytes + CLUSTER_CANARY);
        memset(w->memory + w->bytes, 0xA5, CLUSTER_CANARY);
        ck_assert_int_eq(saddle_init(&w->x, &w->desc, w->memory, w->bytes), WEFT_OK);
    }
}

/* Everybody works, and comes to an end. */
static void train(void) {
    uint32_t r;
    for (r = 0; r < run.size; r++) ck_assert_int_eq(pthread_create(&run.thread[r], NULL, body, &run.worker[r]), 0);
    for (r = 0; r < run.size; r++) ck_assert_int_eq(pthread_join(run.thread[r], NULL), 0);
    for (r = 0; r < run.size; r++) {
        const worker *o = &run.worker[r];
        ck_assert_msg(!o->failed, "%u calls: worker %u, step %u: %s (%s)", (unsigned)run.calls, r, (unsigned)o->w.step,
                      o->failed, weft_strerror(o->w.status));
        ck_assert_uint_eq(o->w.step, o->most);
        ck_assert_uint_eq(o->stats.faults, 0);
        if (r != run.lost) ck_assert_uint_eq(o->stats.steps, o->most);
    }
}

static void tear_down(void) {
    uint32_t r;
    for (r = 0; r < run.size; r++) {
        lock_worker *w = &run.worker[r].w;
        ck_assert(cluster_canary(w->memory + w->bytes));
        ck_assert(cluster_tensors_whole(&w->params));
        cluster_tensors_free(&w->params);
        free(w->memory);
    }
    weft_threads_free(&run.team);
    free(run.graph_memory);
}

static weft_codec codec_no(int i) {
    return i == 1   ? weft_codec_q8()
           : i == 2 ? weft_codec_topk(0.7)
           : i == 3 ? weft_codec_qsgd(6, 0)
                    : weft_codec_identity();
}

/* All of them in lock-step, and on threads: everybody holds the same bits, and has sent as much. */
static void same_as_in_lock_step(const lock_desc *d) {
    lock k;
    uint32_t r;
    int ok = lock_open(&k, d) && lock_steps(&k, STEPS);
    set_up(d);
    run.together = 1;
    train();
    for (r = 0; ok && r < k.size; r++) {
        saddle_stats_t s;
        saddle_stats(k.worker[r].x, &s);
        ck_assert_msg(cluster_same_bits(&k.worker[r].params, &run.worker[r].w.params), "worker %u holds other bits", r);
        ck_assert_uint_eq(run.worker[r].w.asked, k.worker[r].asked);
        ck_assert_uint_eq(run.worker[r].stats.exchanges, s.exchanges);
        ck_assert_uint_eq(run.worker[r].stats.traffic.payload_sent, s.traffic.payload_sent);
        ck_assert_uint_eq(run.worker[r].stats.skipped + run.worker[r].stats.lost, 0);
    }
    tear_down();
    if (!lock_close(&k) || !ok) ck_abort_msg("%s", k.why);
}

/* Variants, codecs, graphs. */
START_TEST(the_same_bits_on_threads) {
    static const saddle_variant v[6] = {SADDLE_Q, SADDLE_N, SADDLE_NGC, SADDLE_DSGDM, SADDLE_Q, SADDLE_N};
    const int kind = _i % 6, codec = _i / 6 % 4;
    lock_desc d = lock_default(_i / 24 ? 4 : 5);
    d.graph = _i / 24 ? weft_graph_complete : weft_graph_ring;
    d.tensors = TENSORS;
    d.count = medium_count;
    d.dtype = mixed;
    d.s.variant = v[kind];
    d.s.order = kind >= 4 ? SADDLE_CTA : SADDLE_ORDER_DEFAULT;
    d.s.share = kind == 2 ? WEFT_ZERO : 0;
    d.s.codec = codec_no(codec);
    d.s.feedback = kind == 4 && codec ? SADDLE_FEEDBACK : SADDLE_FEEDBACK_DEFAULT;
    d.s.gamma = codec == 3 ? 0.25 : 0;
    d.s.weight_decay = 0.01;
    d.s.piece_bytes = 4096;
    d.s.in_place = _i % 2;
    same_as_in_lock_step(&d);
}
END_TEST

/* The threads of a pool that has been asked. */
typedef struct counted {
    weft_pool pool;
    weft_pthread_pool *real;
    uint32_t calls;
} counted;

static void count_and_go(void *ctx, size_t n, weft_pool_body what, void *arg) {
    counted *c = (counted *)ctx;
    __atomic_fetch_add(&c->calls, 1, __ATOMIC_RELAXED);
    c->real->pool.parallel_for(c->real->pool.ctx, n, what, arg);
}

/* Threads of the host, shared by all workers, for large tensors: the bits are those without. */
START_TEST(a_pool_changes_nothing) {
    lock_desc d = lock_default(3);
    weft_pthread_pool real;
    counted pool;
    uint64_t without[3];
    uint32_t r;
    int with;
    ck_assert_int_eq(weft_pthread_pool_create(&real, 3), WEFT_OK);
    memset(&pool, 0, sizeof pool);
    pool.real = &real;
    pool.pool.ctx = &pool;
    pool.pool.parallel_for = count_and_go;
    d.tensors = TENSORS;
    d.count = large_count;
    d.s.variant = _i % 2 ? SADDLE_N : SADDLE_Q;
    d.s.codec = codec_no(_i / 2);
    for (with = 0; with < 2; with++) {
        d.s.pool = with ? &pool.pool : NULL;
        set_up(&d);
        for (r = 0; r < run.size; r++) run.worker[r].most = 3;
        train();
        for (r = 0; r < run.size; r++) {
            const uint64_t h = cluster_hash(&run.worker[r].w.params);
            if (!with) without[r] = h;
            ck_assert_msg(h == without[r], "worker %u holds other bits", r);
        }
        tear_down();
        ck_assert_int_eq(pool.calls > 0, with);
    }
    weft_pthread_pool_destroy(&real);
}
END_TEST

/* ---- some go ---- */

static void nothing(lock_worker *w, const saddle_want *want) {
    size_t i;
    (void)w;
    for (i = 0; i < want->into.count; i++)
        memset(want->into.tensor[i].data, 0, want->into.tensor[i].count * weft_dtype_bytes(want->into.tensor[i].dtype));
}

static lock_desc of_zeros(int i) {
    lock_desc d = lock_default(i % 2 ? 5 : 6);
    d.graph = i % 2 ? weft_graph_complete : weft_graph_ring;
    d.gradient = nothing;
    d.tensors = TENSORS;
    d.count = medium_count;
    d.dtype = f64s;
    d.unequal = 1;
    return d;
}

static double sum_of_all(size_t tensor, size_t i) {
    double sum = 0;
    uint32_t r;
    for (r = 0; r < run.size; r++) sum += cluster_get(&run.worker[r].w.params.tensor[tensor], i);
    return sum;
}

/* They go at different times, and the last ones go on alone: no sum is changed by it, whatever a codec takes away. */
START_TEST(some_leave_early) {
    static const saddle_variant v[4] = {SADDLE_DPSGD, SADDLE_NGC, SADDLE_N, SADDLE_DPSGD};
    lock_desc d = of_zeros(_i);
    double before[700];
    uint64_t exchanges = 0;
    uint32_t r;
    size_t i;
    d.s.variant = v[_i / 2 % 4];
    d.s.codec = codec_no(_i / 8);
    d.s.gamma = 0.5;
    d.s.feedback = _i / 2 % 4 == 3 && _i / 8 ? SADDLE_FEEDBACK : SADDLE_FEEDBACK_DEFAULT;
    set_up(&d);
    for (i = 0; i < 700; i++) before[i] = sum_of_all(0, i);
    for (r = 0; r < run.size; r++) run.worker[r].most = 1 + 4 * ((r * 5 + (uint32_t)_i) % run.size);
    train();
    for (i = 0; i < 700; i++) ck_assert_double_eq_tol(sum_of_all(0, i), before[i], 1e-11);
    for (r = 0; r < run.size; r++) {
        ck_assert_uint_eq(run.worker[r].stats.lost, 0);
        exchanges += run.worker[r].stats.exchanges;
    }
    ck_assert_uint_gt(exchanges, 0);
    tear_down();
}
END_TEST

/* One vanishes, in the middle of anything: the others take all their steps. */
START_TEST(one_is_lost_at_some_moment) {
    static const saddle_variant v[3] = {SADDLE_DPSGD, SADDLE_N, SADDLE_Q};
    for (uint64_t calls = 0; calls < 24; calls++) {
        lock_desc d = of_zeros(_i);
        double low[700], high[700], apart = 0, began = 0;
        uint64_t lost = 0;
        uint32_t r;
        size_t i;
        d.s.variant = v[_i / 2 % 3];
        d.s.codec = codec_no(_i / 6);
        if (d.s.variant == SADDLE_Q) d.gradient = lock_pull;
        set_up(&d);
        run.lost = (uint32_t)calls % run.size;
        run.calls = calls;
        run.worker[run.lost].most = 2 + calls % 4;
        for (i = 0; i < 700; i++) {
            low[i] = 1e300;
            high[i] = -1e300;
            for (r = 0; r < run.size; r++) {
                low[i] = fmin(low[i], cluster_get(&run.worker[r].w.params.tensor[0], i));
                high[i] = fmax(high[i], cluster_get(&run.worker[r].w.params.tensor[0], i));
            }
            began = fmax(began, high[i] - low[i]);
        }
        train();
        for (i = 0; i < 700; i++) {
            double least = 1e300, most = -1e300;
            for (r = 0; r < run.size; r++) {
                const double x = cluster_get(&run.worker[r].w.params.tensor[0], i);
                ck_assert(isfinite(x));
                if (r == run.lost) continue;
                least = fmin(least, x);
                most = fmax(most, x);
            }
            /* without a codec (and without gradients) every step is a mean */
            if (d.s.variant != SADDLE_Q && _i / 6 == 0) ck_assert(least >= low[i] - 1e-12 && most <= high[i] + 1e-12);
            apart = fmax(apart, most - least);
        }
        if (d.s.variant != SADDLE_Q) ck_assert_double_lt(apart, 0.75 * began);
        for (r = 0; r < run.size; r++) {
            lost += run.worker[r].stats.lost;
            if (r != run.lost) ck_assert_uint_le(run.worker[r].stats.lost, 1);
        }
        ck_assert_uint_ge(lost, 1);
        tear_down();
    }
}
END_TEST

int main(void) {
    Suite *s = suite_create("saddle threads");
    TCase *t = tcase_create("threads");
    SRunner *r;
    int failed;
    tcase_set_timeout(t, 60);
    tcase_add_loop_test(t, the_same_bits_on_threads, 0, 48);
    tcase_add_loop_test(t, a_pool_changes_nothing, 0, 4);
    tcase_add_loop_test(t, some_leave_early, 0, 16);
    tcase_add_loop_test(t, one_is_lost_at_some_moment, 0, 12);
    suite_add_tcase(s, t);
    r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
