/* SPDX-License-Identifier: MIT
 * HPSGD when views change and when numbers are not finite: replicas that would come apart in silence, joiners whose
 * giver goes, rounds void in the middle of a drain, models that overflow. */
#define GRAWA_IMPLEMENTATION
#include "../grawa.h"
#define HPSGD_IMPLEMENTATION
#include "../hpsgd.h"
#include "hpsgd_lock.h"

#include <check.h>

/* The host's word to one worker. */
static void view(lock *k, uint32_t rank, uint32_t epoch, const uint32_t *members, uint32_t count) {
    lock_worker *w = &k->worker[rank];
    weft_view v;
    uint32_t i;
    v.struct_size = sizeof v;
    v.epoch = epoch;
    v.count = count;
    v.members = members;
    for (i = 0; i < count; i++)
        if (members[i] != rank) hpsgd_peer_up(w->h, members[i]);
    w->status = hpsgd_regroup(w->h, &v);
}

/* Those in `mask` poll; errors stay. */
static void turns(lock *k, uint32_t mask, int times) {
    uint32_t r;
    while (times--) {
        weft_sim_advance(&k->sim, 2000);
        for (r = 0; r < k->size; r++) {
            lock_worker *w = &k->worker[r];
            if ((mask >> r & 1) && w->status >= 0) w->status = hpsgd_poll(w->h);
        }
    }
}

static void set_all(lock *k, double v) {
    uint32_t r;
    size_t t, i;
    for (r = 0; r < k->size; r++)
        for (t = 0; t < k->worker[r].params.count; t++)
            for (i = 0; i < k->worker[r].params.tensor[t].count; i++) cluster_set(&k->worker[r].params.tensor[t], i, v);
}

static void add_all(lock *k, double v) {
    set_all(k, cluster_get(&k->worker[0].params.tensor[0], 0) + v);
}

static double first(const lock *k, uint32_t rank) {
    return cluster_get(&k->worker[rank].params.tensor[0], 0);
}

/* ---- a worker that a view leaves out, and the next one names again ---- */

/* Round 1 of the first view is not round 1 of the second. `done`: worker 2 has merged the first one, which the others
 * have given up; else it was cut short in it. */
START_TEST(left_out) {
    static const uint32_t two[2] = {0, 1}, three[3] = {0, 1, 2};
    const int done = _i;
    lock_desc d = lock_default(3);
    lock k;
    uint32_t r;
    int i;
    d.h.mode = HPSGD_FIXED;
    d.h.max_steps = 1;
    ck_assert(lock_open(&k, &d));
    LOCK_ALL(&k, w, hpsgd_start(w->h));
    for (r = 0; r < 3; r++) {
        lock_train(&k.worker[r].params, r, 0);
        k.worker[r].status = hpsgd_step(k.worker[r].h);
    }
    if (!done) weft_sim_advance(&k.sim, 100);
    for (i = 0; done && i < 300 && k.worker[2].h->state != HPSGD_DONE; i++) {
        weft_sim_advance(&k.sim, 200);
        for (r = 0; r < 3; r++)
            if (r == 2 || k.worker[r].h->state < HPSGD_HAVE) hpsgd_progress(k.worker[r].h);
    }
    if (done) {
        ck_assert_int_eq(k.worker[2].h->state, HPSGD_DONE);
        for (r = 0; r < 2; r++) ck_assert_int_eq(k.worker[r].h->state, HPSGD_HAVE);
        k.worker[2].status = hpsgd_poll(k.worker[2].h);
    }
    for (r = 0; r < 2; r++) {
        hpsgd_peer_lost(k.worker[r].h, 2);
        view(&k, r, 1, two, 2);
    }
    turns(&k, 3, 80);
    for (r = 0; r < 3; r++) ck_assert_uint_eq(k.worker[r].h->round, done || r < 2);
    hpsgd_peer_lost(k.worker[2].h, 0);
    hpsgd_peer_lost(k.worker[2].h, 1);
    for (r = 0; r < 3; r++) view(&k, r, 2, three, 3);
    turns(&k, 7, 60);
    for (r = 0; r < 3; r++) {
        ck_assert_int_eq(k.worker[r].status, WEFT_ERR_MISMATCH);
        ck_assert_str_eq(hpsgd_detail(k.worker[r].h)->field, "round");
        ck_assert_uint_ne(hpsgd_detail(k.worker[r].h)->expected, hpsgd_detail(k.worker[r].h)->got);
    }
    /* as a new object it takes over their model */
    lock_free(&k.worker[2]);
    ck_assert(lock_init(&k.worker[2]));
    for (r = 0; r < 3; r++) view(&k, r, 3, three, 3);
    ck_assert(lock_settle(&k) && lock_fine(&k, "regroup"));
    ck_assert_msg(lock_drain(&k) && lock_alike(&k), "%s", k.why);
    ck_assert_msg(lock_close(&k), "%s", k.why);
}
END_TEST

/* ---- joiners ---- */

static int first_is_alone(lock_worker *w) {
    static const uint32_t me[1] = {0};
    static weft_view v;
    v.struct_size = sizeof v;
    v.epoch = 1;
    v.count = 1;
    v.members = me;
    if (w->rank == 0) w->desc.view = &v;
    return 1;
}

/* The only one with a trained model goes while it hands it to two others. Those are left with what they began with:
 * the same (then they go on) or not (then they are told). */
START_TEST(giver_lost) {
    static const size_t large[3] = {5000, 0, 12};
    static const uint32_t all[3] = {0, 1, 2}, two[2] = {1, 2};
    const int alike = _i;
    lock_desc d = lock_default(3);
    lock k;
    weft_tensors before;
    uint32_t r;
    int i, torn;
    d.prepare = first_is_alone;
    d.count = large;
    d.sim.max_message_bytes = 4096;
    d.unequal = !alike;
    d.sim.bytes_per_second = 1000000; /* a model takes 20 ms */
    ck_assert(lock_open(&k, &d));
    hpsgd_start(k.worker[0].h);
    lock_train(&k.worker[0].params, 0, 0);
    hpsgd_step(k.worker[0].h);
    ck_assert_uint_eq(k.worker[0].h->round, 1);
    before = cluster_tensors(3, large, NULL);
    cluster_copy(&k.worker[1].params, &before);
    for (r = 0; r < 3; r++) view(&k, r, 2, all, 3);
    turns(&k, 7, 200);
    for (r = 1; r < 3; r++) {
        size_t bytes;
        ck_assert_int_eq(k.worker[r].h->state, HPSGD_COPYING);
        ck_assert_int_eq(hpsgd_save(k.worker[r].h, NULL, 0, &bytes), WEFT_AGAIN); /* whose model? */
    }
    for (i = torn = 0; i < 100000 && torn < 2; i++) { /* a part has come, and not the whole */
        weft_sim_advance(&k.sim, 2000);
        for (r = 1, torn = 0; r < 3; r++) {
            hpsgd_progress(k.worker[r].h);
            torn += memcmp(hpsgd_w(k.worker[r].h, 0), k.worker[r].params.tensor[0].data, 4096) != 0;
        }
    }
    for (r = 1; r < 3; r++) ck_assert_int_eq(k.worker[r].h->state, HPSGD_COPYING);
    ck_assert_int_eq(torn, 2);
    weft_sim_lose(&k.sim, 0);
    k.worker[0].gone = 1;
    for (r = 1; r < 3; r++) {
        hpsgd_peer_lost(k.worker[r].h, 0);
        view(&k, r, 3, two, 2);
    }
    turns(&k, 6, 5000);
    for (r = 1; r < 3; r++) {
        ck_assert_int_eq(k.worker[r].status, alike ? WEFT_OK : WEFT_ERR_MISMATCH);
        if (!alike) ck_assert_str_eq(hpsgd_detail(k.worker[r].h)->field, "hash of the initial parameters");
    }
    if (alike) {
        for (r = 1; r < 3; r++) k.worker[r].status = hpsgd_drain(k.worker[r].h);
        turns(&k, 6, 100000);
        ck_assert_msg(lock_fine(&k, "drain"), "%s", k.why);
        for (r = 1; r < 3; r++) ck_assert(cluster_same_bits(&k.worker[r].params, &before));
    }
    cluster_tensors_free(&before);
    ck_assert_msg(lock_close(&k), "%s", k.why);
}
END_TEST

/* A worker comes before there was any round: it takes over W as later ones do, and whoever has the same W keeps the
 * steps it has taken. */
START_TEST(late_before_the_first_round) {
    static const uint32_t two[2] = {0, 1}, all[3] = {0, 1, 2};
    const int other = _i;
    lock_desc d = lock_default(3);
    lock k;
    hpsgd_stats_t s;
    uint32_t r;
    d.h.min_steps = d.h.max_steps = 4;
    ck_assert(lock_open(&k, &d));
    for (r = 0; r < 2; r++) view(&k, r, 1, two, 2);
    k.worker[2].gone = 1;
    ck_assert(lock_settle(&k) && lock_fine(&k, "regroup"));
    k.worker[2].gone = 0;
    if (other) {
        lock_free(&k.worker[2]);
        cluster_fill(&k.worker[2].params, 4711, 3.0);
        ck_assert(lock_init(&k.worker[2]));
    }
    for (r = 0; r < 3; r++) {
        lock_train(&k.worker[r].params, r, 0);
        k.worker[r].status = hpsgd_step(k.worker[r].h);
    }
    for (r = 0; r < 3; r++) view(&k, r, 2, all, 3);
    ck_assert(lock_settle(&k) && lock_fine(&k, "regroup"));
    ck_assert_msg(lock_drain(&k) && lock_alike(&k), "%s", k.why);
    for (r = 0; r < 3; r++) {
        hpsgd_stats(k.worker[r].h, &s);
        ck_assert_uint_eq(s.steps_lost, other && r == 2);
        ck_assert_uint_eq(s.steps_merged, !(other && r == 2));
    }
    ck_assert_msg(lock_close(&k), "%s", k.why);
}
END_TEST

/* ---- what is not finite ---- */

START_TEST(not_finite_at_first) {
    static const weft_status sum_of[2] = {WEFT_ERR_NONFINITE, WEFT_ERR_NONFINITE};
    lock_desc d = lock_default(2);
    lock k;
    uint32_t r;
    if (_i) d.h.initial = HPSGD_INITIAL_COPY;
    ck_assert(lock_open(&k, &d));
    for (r = 0; r < 2; r++) {
        if (_i && r) continue; /* the other one is handed it */
        cluster_set(&k.worker[r].params.tensor[0], 0, -(double)INFINITY);
    }
    for (r = 0; r < 2; r++) k.worker[r].status = hpsgd_start(k.worker[r].h);
    turns(&k, 3, 60);
    for (r = 0; r < 2; r++) {
        ck_assert_int_eq(k.worker[r].status, sum_of[r]);
        ck_assert_str_eq(hpsgd_detail(k.worker[r].h)->field, "initial parameters");
        ck_assert_uint_eq(hpsgd_detail(k.worker[r].h)->got, 1);
    }
    ck_assert_msg(lock_close(&k), "%s", k.why);
}
END_TEST

/* Every sum is finite, W is not any more: a drain ends all the same. */
START_TEST(overflow_drains) {
    lock_desc d = lock_default(2);
    lock k;
    hpsgd_stats_t s;
    uint32_t r;
    int i;
    d.h.mode = HPSGD_FIXED;
    d.h.max_steps = 1;
    ck_assert(lock_open(&k, &d));
    set_all(&k, 3e38);
    LOCK_ALL(&k, w, hpsgd_start(w->h));
    for (i = 0; i < 4; i++) {
        add_all(&k, 2e37);
        LOCK_ALL(&k, w, hpsgd_step(w->h));
    }
    ck_assert_msg(lock_drain(&k), "%s", k.why);
    for (r = 0; r < 2; r++) {
        ck_assert(isinf(first(&k, r)));
        hpsgd_stats(k.worker[r].h, &s);
        ck_assert_uint_gt(s.nonfinite, 0);
        ck_assert_uint_eq(s.drains, 1);
    }
    ck_assert_msg(lock_close(&k), "%s", k.why);
}
END_TEST

/* A round is void because of a sum that is not finite. In HPSGD_FIXED that is seen at the end of a phase, too: the same
 * bits whatever the network does. */
START_TEST(fixed_whatever_the_network) {
    static const uint64_t latency[5] = {10, 700, 1000, 2500, 6000};
    uint64_t want = 0, rounds = 0;
    int l, t;
    uint32_t r;
    for (l = 0; l < 5; l++) {
        lock_desc d = lock_default(3);
        lock k;
        hpsgd_stats_t s;
        d.sim.latency_ns = latency[l];
        d.h.mode = HPSGD_FIXED;
        d.h.max_steps = 4;
        ck_assert(lock_open(&k, &d));
        LOCK_ALL(&k, w, hpsgd_start(w->h));
        for (t = 0; t < 18; t++) {
            for (r = 0; r < 3; r++) {
                lock_train(&k.worker[r].params, r, (uint64_t)t);
                if (t == 2 && r == 1) cluster_set(&k.worker[r].params.tensor[0], 0, (double)INFINITY);
            }
            LOCK_ALL(&k, w, hpsgd_step(w->h));
            if (l)
                weft_sim_advance(&k.sim, 500);
            else
                lock_pump(&k, 40);
        }
        ck_assert_msg(lock_drain(&k) && lock_alike(&k), "%s", k.why);
        hpsgd_stats(k.worker[0].h, &s);
        ck_assert_uint_eq(s.rounds_void, 1);
        ck_assert_uint_eq(s.steps_lost, 0);
        if (!l) {
            want = hpsgd_hash(k.worker[0].h);
            rounds = s.rounds;
        }
        ck_assert_uint_eq(hpsgd_hash(k.worker[0].h), want);
        ck_assert_uint_eq(s.rounds, rounds);
        ck_assert_msg(lock_close(&k), "%s", k.why);
    }
}
END_TEST

/* A change that is not finite, in a round that a new view cuts short: nobody puts it back. */
START_TEST(cut_with_what_is_not_finite) {
    lock_desc d = lock_default(2);
    lock k;
    hpsgd_stats_t s;
    uint32_t r;
    ck_assert(lock_open(&k, &d));
    LOCK_ALL(&k, w, hpsgd_start(w->h));
    for (r = 0; r < 2; r++) {
        lock_train(&k.worker[r].params, r, 0);
        if (r) cluster_set(&k.worker[r].params.tensor[0], 0, (double)NAN);
        ck_assert_int_eq(hpsgd_step(k.worker[r].h), WEFT_OK);
        ck_assert_int_eq(k.worker[r].h->state, HPSGD_RECORD);
    }
    ck_assert_msg(lock_regroup(&k, 1), "%s", k.why);
    for (r = 0; r < 2; r++) {
        hpsgd_stats(k.worker[r].h, &s);
        ck_assert_uint_eq(s.rounds_void, 1);
        ck_assert_uint_eq(s.steps_lost, r);
        ck_assert(isfinite(first(&k, r)));
    }
    ck_assert_msg(lock_drain(&k) && lock_alike(&k) && lock_close(&k), "%s", k.why);
}
END_TEST

/* ---- what rounding leaves over ---- */

/* A new view in the middle of a drain, anywhere: a round that only carries what bf16 has left over is void, and what it
 * carried is not lost. */
START_TEST(void_while_flushing) {
    static const uint32_t both[2] = {0, 1};
    uint64_t voids = 0;
    int cut, i;
    uint32_t r;
    for (cut = 0; cut < 40; cut++) {
        lock_desc d = lock_default(2);
        lock k;
        hpsgd_stats_t s;
        d.h.payload = HPSGD_PAYLOAD_BF16;
        d.h.mode = HPSGD_FIXED;
        d.h.max_steps = 2;
        ck_assert(lock_open(&k, &d));
        set_all(&k, 0.0);
        LOCK_ALL(&k, w, hpsgd_start(w->h));
        for (i = 0; i < 2; i++) {
            add_all(&k, 1 + 1.0 / 1024);
            LOCK_ALL(&k, w, hpsgd_step(w->h));
        }
        for (r = 0; r < 2; r++) k.worker[r].status = hpsgd_drain(k.worker[r].h);
        for (i = 0; i < cut; i++) {
            weft_sim_advance(&k.sim, 300);
            for (r = 0; r < 2; r++) k.worker[r].status = hpsgd_poll(k.worker[r].h);
        }
        for (r = 0; r < 2; r++) view(&k, r, 1, both, 2);
        ck_assert_msg(lock_settle(&k), "%s", k.why);
        for (r = 0; r < 2; r++) {
            ck_assert_int_eq(k.worker[r].status, WEFT_OK);
            ck_assert_double_eq(first(&k, r), 2 + 2.0 / 1024);
            hpsgd_stats(k.worker[r].h, &s);
            voids += s.rounds_void;
            ck_assert_uint_eq(s.steps_lost, 0);
        }
        ck_assert_msg(lock_close(&k), "%s", k.why);
    }
    ck_assert_uint_gt(voids, 10);
}
END_TEST

/* Each drain has all its rounds: this one takes three. */
START_TEST(drains_again_and_again) {
    const double step = 1 + 0x1p-10 + 0x1p-20;
    lock_desc d = lock_default(2);
    lock k;
    uint32_t r;
    int i;
    d.h.payload = HPSGD_PAYLOAD_BF16;
    ck_assert(lock_open(&k, &d));
    set_all(&k, 0.0);
    LOCK_ALL(&k, w, hpsgd_start(w->h));
    for (i = 1; i <= 12; i++) {
        add_all(&k, step);
        LOCK_ALL(&k, w, hpsgd_step(w->h));
        ck_assert_msg(lock_drain(&k), "%s", k.why);
        for (r = 0; r < 2; r++) ck_assert_double_eq(first(&k, r), i * step);
    }
    ck_assert_msg(lock_close(&k), "%s", k.why);
}
END_TEST

/* ---- between the optimiser and hpsgd_step ---- */

/* A poll, a view or a drain finds a step in the replica that it has not been told of: it is kept. */
START_TEST(step_not_told_of) {
    static const uint32_t both[2] = {0, 1};
    lock_desc d = lock_default(2);
    lock k;
    uint32_t r;
    d.h.carry = _i > 2 ? 0.5 : 0.0;
    ck_assert(lock_open(&k, &d));
    set_all(&k, 0.0);
    LOCK_ALL(&k, w, hpsgd_start(w->h));
    for (r = 0; r < 2; r++) {
        cluster_set(&k.worker[r].params.tensor[0], 0, 1.0);
        ck_assert_int_eq(hpsgd_step(k.worker[r].h), WEFT_OK);
    }
    lock_pump(&k, 40);
    for (r = 0; r < 2; r++) {
        ck_assert_int_eq(k.worker[r].h->state, HPSGD_DONE);
        cluster_set(&k.worker[r].params.tensor[0], 1, 1.0);
    }
    for (r = 0; r < 2; r++) {
        lock_worker *w = &k.worker[r];
        if (_i % 3 == 0) w->status = hpsgd_poll(w->h);
        if (_i % 3 == 1) view(&k, r, 1, both, 2);
        if (_i % 3 == 2) w->status = hpsgd_drain(w->h);
    }
    ck_assert(lock_settle(&k) && lock_fine(&k, "the verb"));
    LOCK_ALL(&k, w, hpsgd_step(w->h));
    ck_assert_msg(lock_drain(&k) && lock_alike(&k), "%s", k.why);
    ck_assert_double_eq(cluster_get(&k.worker[0].params.tensor[0], 0), 1.0);
    ck_assert_double_eq(cluster_get(&k.worker[0].params.tensor[0], 1), 1.0);
    ck_assert_msg(lock_close(&k), "%s", k.why);
}
END_TEST

/* ---- beside training, on a pool whose thread does what the test says ---- */

static struct {
    void (*task)(void *);
    void *arg;
    int submitted, refuse;
} beside;

static weft_status submit(void *ctx, void (*task)(void *), void *arg) {
    (void)ctx;
    if (beside.refuse) return WEFT_ERR_ARGUMENT;
    beside.task = task;
    beside.arg = arg;
    beside.submitted++;
    return WEFT_OK;
}

static weft_pool pool_of_one(void) {
    weft_pool p;
    memset(&p, 0, sizeof p);
    p.submit = submit;
    memset(&beside, 0, sizeof beside);
    return p;
}

static int with_timeout(lock_worker *w) {
    w->desc.timeout_ns = 50000;
    return 1;
}

/* A worker that has to wait takes the network back, and so finds out that nothing comes. */
START_TEST(time_out_beside) {
    const weft_pool pool = pool_of_one();
    lock_desc d = lock_default(2);
    lock k;
    lock_worker *w;
    int i;
    d.h.max_steps = 1;
    d.h.pool = &pool;
    d.prepare = with_timeout;
    ck_assert(lock_open(&k, &d));
    LOCK_ALL(&k, v, hpsgd_start(v->h));
    w = &k.worker[0];
    lock_train(&w->params, 0, 0);
    ck_assert_int_eq(hpsgd_step(w->h), WEFT_OK);
    ck_assert_int_eq(beside.submitted, 1);
    lock_train(&w->params, 0, 1);
    ck_assert_int_eq(hpsgd_step(w->h), WEFT_STALL);
    ck_assert_uint_eq(w->h->stop, 1); /* else its thread would not let go */
    beside.task(beside.arg);
    for (i = 0, w->status = WEFT_STALL; i < 100 && w->status == WEFT_STALL; i++) {
        weft_sim_advance(&k.sim, 2000);
        w->status = hpsgd_step(w->h);
    }
    ck_assert_int_eq(w->status, WEFT_ERR_TIMEOUT);
    ck_assert_int_eq(beside.submitted, 1); /* nor is it given away again while it waits */
    ck_assert_msg(lock_close(&k), "%s", k.why);
}
END_TEST

/* A pool that takes no task: the rounds are driven by polling. */
START_TEST(pool_refuses) {
    const weft_pool pool = pool_of_one();
    lock_desc d = lock_default(2);
    lock k;
    d.h.pool = &pool;
    beside.refuse = 1;
    ck_assert(lock_open(&k, &d));
    ck_assert_msg(lock_steps(&k, 9) && lock_drain(&k) && lock_alike(&k), "%s", k.why);
    ck_assert_int_eq(beside.submitted, 0);
    ck_assert_uint_gt(k.worker[0].h->stats.rounds, 1);
    ck_assert_msg(lock_close(&k), "%s", k.why);
}
END_TEST

int main(void) {
    Suite *views = suite_create("views"), *numbers = suite_create("numbers"), *aside = suite_create("beside");
    TCase *c = tcase_create("views"), *n = tcase_create("numbers"), *b = tcase_create("beside");
    SRunner *r;
    int failed;
    tcase_set_timeout(c, 60);
    tcase_add_loop_test(c, left_out, 0, 2);
    tcase_add_loop_test(c, giver_lost, 0, 2);
    tcase_add_loop_test(c, late_before_the_first_round, 0, 2);
    tcase_add_loop_test(c, step_not_told_of, 0, 6);
    suite_add_tcase(views, c);
    tcase_set_timeout(n, 60);
    tcase_add_loop_test(n, not_finite_at_first, 0, 2);
    tcase_add_test(n, overflow_drains);
    tcase_add_test(n, fixed_whatever_the_network);
    tcase_add_test(n, cut_with_what_is_not_finite);
    tcase_add_test(n, void_while_flushing);
    tcase_add_test(n, drains_again_and_again);
    suite_add_tcase(numbers, n);
    tcase_set_timeout(b, 60);
    tcase_add_test(b, time_out_beside);
    tcase_add_test(b, pool_refuses);
    suite_add_tcase(aside, b);
    r = srunner_create(views);
    srunner_add_suite(r, numbers);
    srunner_add_suite(r, aside);
    srunner_run_all(r, CK_NORMAL);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
