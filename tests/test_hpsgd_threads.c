/* SPDX-License-Identifier: MIT
 * HPSGD over real threads, with rounds driven beside training on a pool's thread: the same bits as by polling in
 * HPSGD_FIXED; every step once in HPSGD_FREE; a worker that is lost, one that closes at once. To be run under a thread
 * sanitizer too: the hand-over between the two threads is what it looks at. */
#define GRAWA_IMPLEMENTATION
#include "../grawa.h"
#define HPSGD_IMPLEMENTATION
#include "../hpsgd.h"
#include "transports/weft_threads.h"
#include "pool/weft_pthread_pool.h"
#include "cluster.h"

#include <check.h>

enum { MOST = 4, ELEMENTS = 20000, STEPS = 24, NEVER = 1000 };

typedef struct worker {
    uint32_t rank;
    weft_transport net;
    weft_pthread_pool pool;
    hpsgd *h;
    float *x;
    const char *failed; /* asserted by the main thread */
    weft_status status;
    hpsgd_stats_t stats;
    uint64_t hash;
    int back;
} worker;

static struct {
    hpsgd_mode mode;
    int polling, keep;
    uint32_t size, lost; /* lost: the rank that vanishes in the middle, or NEVER */
    double carry;
    weft_threads_team team;
    worker worker[MOST];
    pthread_t thread[MOST];
    uint32_t gone;
    pthread_mutex_t lock;
} run;

static void train(worker *w, uint32_t step) {
    size_t i;
    for (i = 0; i < ELEMENTS; i++) {
        float target = (float)((w->rank * 7u + step * 3u + (uint32_t)i) % 11u);
        w->x[i] = w->x[i] - 0.05f * (w->x[i] - target);
    }
}

/* The host gives the survivors a view. */
static weft_status regroup(worker *w) {
    uint32_t member[MOST], n = 0, r;
    weft_view v;
    weft_status s;
    for (r = 0; r < run.size; r++)
        if (r != run.lost) member[n++] = r;
    v.struct_size = sizeof v;
    v.epoch = 1;
    v.count = n;
    v.members = member;
    s = hpsgd_regroup(w->h, &v);
    return s == WEFT_AGAIN ? hpsgd_wait(w->h) : s;
}

static void *work(void *arg) {
    worker *w = (worker *)arg;
    weft_tensor t;
    hpsgd_desc d;
    void *memory;
    uint32_t step;
    size_t bytes;
    weft_status s;
    int regrouped = 0;
    memset(&d, 0, sizeof d);
    weft_threads_transport(&run.team, w->rank, &w->net);
    if (weft_pthread_pool_create(&w->pool, 2) != WEFT_OK) {
        w->failed = "pool";
        return NULL;
    }
    t.data = w->x;
    t.count = ELEMENTS;
    t.dtype = WEFT_F32;
    d.struct_size = sizeof d;
    d.params.tensor = &t;
    d.params.count = 1;
    d.transport = &w->net;
    d.pool = &w->pool.pool;
    d.polling = run.polling;
    d.mode = run.mode;
    d.max_steps = run.mode == HPSGD_BLOCKING ? 0 : 3;
    d.carry = run.carry;
    d.keep_delta = run.keep;
    bytes = hpsgd_memory(&d, NULL);
    memory = malloc(bytes);
    s = hpsgd_init(&w->h, &d, memory, bytes);
    for (step = 0; s == WEFT_OK && step < STEPS; step++) {
        if (w->rank == run.lost && step == STEPS / 2) break;
        train(w, step);
        while ((s = hpsgd_step(w->h)) == WEFT_STALL) {
            if (step % 2) {
                s = hpsgd_wait(w->h);
                break;
            }
            sched_yield();
        }
        hpsgd_stats(w->h, &w->stats);
        if (hpsgd_members(w->h, NULL, 0) != w->stats.members && !regrouped && run.lost == NEVER) w->failed = "members";
        if (s == WEFT_ERR_PEER_LOST && !regrouped) {
            regrouped = 1;
            s = regroup(w);
        }
    }
    if (w->rank == run.lost) {
        hpsgd_close(w->h); /* while a round runs beside */
        weft_threads_lose(&run.team, w->rank);
    } else {
        if (s == WEFT_OK) s = hpsgd_drain(w->h);
        if (s == WEFT_AGAIN) s = hpsgd_wait(w->h);
        if (s == WEFT_ERR_PEER_LOST && !regrouped) {
            s = regroup(w);
            if (s == WEFT_AGAIN) s = hpsgd_wait(w->h);
        }
        w->status = s;
        hpsgd_stats(w->h, &w->stats);
        w->hash = hpsgd_hash(w->h);
        hpsgd_close(w->h);
    }
    free(memory);
    weft_pthread_pool_destroy(&w->pool);
    return NULL;
}

static void go(uint32_t size, hpsgd_mode mode, int polling, int keep, double carry, uint32_t lost) {
    uint32_t r;
    memset(&run, 0, sizeof run);
    run.size = size;
    run.mode = mode;
    run.polling = polling;
    run.keep = keep;
    run.carry = carry;
    run.lost = lost;
    ck_assert_int_eq(weft_threads_init(&run.team, size), WEFT_OK);
    for (r = 0; r < size; r++) {
        run.worker[r].rank = r;
        run.worker[r].x = (float *)calloc(ELEMENTS, sizeof(float));
    }
    for (r = 0; r < size; r++) ck_assert_int_eq(pthread_create(&run.thread[r], NULL, work, &run.worker[r]), 0);
    for (r = 0; r < size; r++) pthread_join(run.thread[r], NULL);
    for (r = 0; r < size; r++) {
        const worker *w = &run.worker[r], *first = &run.worker[lost == 0];
        ck_assert_msg(!w->failed, "worker %u: %s", r, w->failed);
        if (r == lost) continue;
        ck_assert_msg(w->status == WEFT_OK, "worker %u: %s", r, weft_strerror(w->status));
        ck_assert_uint_eq(w->hash, first->hash);
        ck_assert_uint_eq(w->stats.steps, STEPS);
        ck_assert_uint_eq(w->stats.steps_merged + w->stats.steps_lost, STEPS);
        if (lost == NEVER) ck_assert_uint_eq(w->stats.steps_lost, 0);
        ck_assert(memcmp(w->x, first->x, ELEMENTS * sizeof(float)) == 0);
    }
    for (r = 0; r < size; r++) free(run.worker[r].x);
    weft_threads_free(&run.team);
}

static uint64_t bits(void) {
    return run.worker[0].hash;
}

START_TEST(beside_as_by_polling) {
    static const double carry[2] = {0, 0.5};
    uint32_t n;
    int i;
    for (n = 1; n <= MOST; n++)
        for (i = 0; i < 3; i++) {
            uint64_t want;
            int keep = i == 2 ? WEFT_ZERO : 0;
            go(n, HPSGD_FIXED, 1, keep, carry[i % 2], NEVER);
            want = bits();
            go(n, HPSGD_FIXED, 0, keep, carry[i % 2], NEVER);
            ck_assert_msg(bits() == want, "%u workers, carry %g, keep %d: other bits", n, carry[i % 2], keep);
            go(n, HPSGD_BLOCKING, 1, keep, 0, NEVER);
            want = bits();
            go(n, HPSGD_BLOCKING, 0, keep, 0, NEVER);
            ck_assert_msg(bits() == want, "%u workers, carry %g, keep %d: other bits", n, carry[i % 2], keep);
        }
}
END_TEST

START_TEST(every_step_once) {
    uint32_t n;
    for (n = 1; n <= MOST; n++) go(n, HPSGD_FREE, 0, n % 2 ? 0 : WEFT_ZERO, 0, NEVER);
}
END_TEST

START_TEST(lost_beside) {
    uint32_t lost;
    for (lost = 0; lost < 3; lost++) {
        go(3, HPSGD_FREE, 0, 0, 0.5, lost);
        go(3, HPSGD_FIXED, 0, WEFT_ZERO, 0, lost);
    }
}
END_TEST

int main(void) {
    Suite *s = suite_create("hpsgd_threads");
    TCase *c = tcase_create("beside");
    SRunner *r;
    int failed;
    tcase_set_timeout(c, 60);
    tcase_add_test(c, beside_as_by_polling);
    tcase_add_test(c, every_step_once);
    tcase_add_test(c, lost_beside);
    suite_add_tcase(s, c);
    r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
