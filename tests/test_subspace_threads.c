/* SPDX-License-Identifier: MIT
 * AdaCons over real threads, which read each other's gradients where they are, or send them: rounds as a whole and in
 * parts, a worker that leaves, one that is lost at some moment, one that comes back. What every round leaves is
 * compared with the bits of subspace_combine. To be run under a thread sanitizer too. */
#define GRAWA_IMPLEMENTATION
#include "../grawa.h"
#define SUBSPACE_IMPLEMENTATION
#include "../subspace.h"
#include "transports/weft_threads.h"
#include "subspace_team.h"

#include <check.h>

enum { MOST = 4, TENSORS = 4, ROUNDS = 9, NEVER = 1000, GONE = 1 /* the rank that goes */ };

/* Variants: bits. */
enum { EXCHANGE = 1, IN_PLACE = 2, MEAN = 4, GROUPS = 8, VARIANTS = 16, LARGE = 16 };

static const size_t small_count[TENSORS] = {1500, 0, 3, 260}, large_count[TENSORS] = {1100000, 0, 5, 70000};
static const weft_dtype dtype[TENSORS] = {WEFT_F32, WEFT_F32, WEFT_F64, WEFT_BF16};
static const uint32_t group_of[TENSORS] = {0, 1, 1, 2};

typedef struct worker {
    uint32_t rank;
    weft_transport net;
    subspace_desc desc;
    subspace *a;
    unsigned char *memory[2]; /* also of the life before: others may still look at it */
    size_t bytes;
    weft_tensors grads;
    const char *failed; /* a check that failed; asserted by the main thread */
    weft_status status;
    uint64_t lost_errors, abandoned;
    uint64_t participants[ROUNDS], result[ROUNDS]; /* of each round that it was in; none: 0 */
} worker;

static struct {
    int variant;
    uint32_t size;
    uint64_t rounds;
    uint64_t leaves_at, lost_at, back_at; /* rounds in which worker GONE does that */
    uint64_t polls;                       /* before it is lost */
    int all_in;                           /* it has submitted everything by then; else the first part of a round */
    weft_threads_team team;
    worker worker[MOST];
    pthread_t thread[MOST];
} run;

/* A place where all threads meet. */
static struct {
    pthread_mutex_t lock;
    pthread_cond_t all_here;
    uint32_t here, times;
    int open; /* somebody will not come */
} gate = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, 0, 0, 0};

static void meet(void) {
    pthread_mutex_lock(&gate.lock);
    if (++gate.here == run.size) {
        gate.here = 0;
        gate.times++;
        pthread_cond_broadcast(&gate.all_here);
    } else {
        const uint32_t now = gate.times;
        while (gate.times == now && !gate.open) pthread_cond_wait(&gate.all_here, &gate.lock);
    }
    pthread_mutex_unlock(&gate.lock);
}

static void open_gate(void) {
    pthread_mutex_lock(&gate.lock);
    gate.open = 1;
    pthread_cond_broadcast(&gate.all_here);
    pthread_mutex_unlock(&gate.lock);
}

/* ---- gradients ---- */

static int in_parts(uint64_t round) {
    return round % 3 == 1;
}

/* In parts, and in place, sums are formed in another order than by subspace_combine: these rounds' gradients are small
 * integers, of which every sum is exact. */
static void fill(const weft_tensors *t, uint64_t round, uint32_t rank) {
    const int exact = in_parts(round) || run.variant & IN_PLACE;
    uint64_t rng = round * 1000 + rank;
    size_t i, k;
    if (!exact) {
        team_fill_one(t, round, rank, 1.0);
        return;
    }
    for (i = 0; i < t->count; i++)
        for (k = 0; k < t->tensor[i].count; k++) cluster_set(&t->tensor[i], k, (double)cluster_below(&rng, 65) - 24);
}

/* ---- a worker ---- */

#define NEED(condition)                                                                                                \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            if (!w->failed) w->failed = #condition;                                                                    \
            weft_threads_lose(&run.team, w->rank); /* so that nobody waits for it */                                   \
            open_gate();                                                                                               \
            return 0;                                                                                                  \
        }                                                                                                              \
    } while (0)

static int begin(worker *w, unsigned char **memory, const weft_view *view) {
    w->desc.view = view;
    w->bytes = subspace_memory(&w->desc, NULL);
    *memory = (unsigned char *)malloc(w->bytes + CLUSTER_CANARY);
    memset(*memory + w->bytes, 0xA5, CLUSTER_CANARY);
    NEED(subspace_init(&w->a, &w->desc, *memory, w->bytes) == WEFT_OK);
    NEED(subspace_set_batch(w->a, 1 + w->rank % 3) == WEFT_OK);
    return 1;
}

/* All tensors, in the manner of the round, which is the same for all workers; or only what is first. */
static weft_status submit(worker *w, uint64_t round, int all) {
    weft_status s;
    uint64_t i;
    if (!in_parts(round)) return subspace_submit(w->a, 0, TENSORS);
    s = subspace_submit(w->a, 2, 2);
    for (i = 0; i < w->rank && s >= 0; i++) s = subspace_poll(w->a);
    if (s >= 0 && all) s = subspace_submit(w->a, 1, 1);
    if (s >= 0 && all) s = subspace_submit(w->a, 0, 1);
    return s;
}

/* How they wait is their own affair. */
static weft_status aggregate(worker *w, uint64_t round) {
    weft_status s;
    if (!in_parts(round) && (round + w->rank) % 2) return subspace_aggregate(w->a);
    s = submit(w, round, 1);
    while (s == WEFT_AGAIN && w->rank % 2) {
        sched_yield();
        s = subspace_poll(w->a);
    }
    return s == WEFT_AGAIN ? subspace_wait(w->a) : s;
}

static weft_view view_of(uint32_t *members, uint32_t epoch, int with_gone) {
    weft_view v;
    uint32_t r;
    memset(&v, 0, sizeof v);
    v.struct_size = sizeof v;
    v.epoch = epoch;
    v.members = members;
    for (r = 0; r < run.size; r++)
        if (r != GONE || with_gone) members[v.count++] = r;
    return v;
}

/* Until the round is committed; a loss on the way is answered as all survivors answer it. */
static int one_round(worker *w, uint64_t round, uint64_t before) {
    subspace_stats_t stats;
    uint32_t members[MOST];
    do {
        fill(&w->grads, round, w->rank);
        w->status = aggregate(w, round);
        if (w->status == WEFT_ERR_PEER_LOST) {
            const weft_view v = view_of(members, 1, 0);
            NEED(subspace_detail(w->a)->peer == GONE);
            w->lost_errors++;
            w->status = subspace_regroup(w->a, &v);
            if (w->status == WEFT_AGAIN) w->status = subspace_wait(w->a);
        }
        NEED(w->status == WEFT_OK || w->status == WEFT_WANT_GRADIENT);
        subspace_stats(w->a, &stats);
        w->abandoned += w->status == WEFT_WANT_GRADIENT;
        NEED(w->status == WEFT_OK ? stats.rounds == before + 1 : stats.rounds == before);
    } while (w->status != WEFT_OK);
    w->participants[round] = stats.participants;
    w->result[round] = cluster_hash(&w->grads);
    return 1;
}

/* Gives up in the middle of a round, and is not heard of any more. */
static int be_lost(worker *w, uint64_t round) {
    uint64_t i;
    fill(&w->grads, round, w->rank);
    w->status = submit(w, round, run.all_in);
    for (i = 0; i < run.polls && w->status >= 0; i++) {
        sched_yield();
        w->status = subspace_poll(w->a);
    }
    NEED(w->status >= 0);
    weft_threads_lose(&run.team, w->rank);
    subspace_close(w->a);
    w->a = NULL;
    return 1;
}

static int work(worker *w) {
    uint32_t members[MOST];
    uint64_t round, before = 0;
    weft_view v;
    if (!begin(w, &w->memory[0], NULL)) return 0;
    for (round = 0; round < run.rounds; round++, before++) {
        if (round == run.back_at) {
            meet();
            if (w->rank == GONE) weft_threads_revive(&run.team, GONE);
            meet();
            v = view_of(members, 2, 1);
            if (w->rank == GONE) {
                if (!begin(w, &w->memory[1], &v)) return 0;
                before = 0;
            } else {
                NEED(subspace_peer_up(w->a, GONE) == WEFT_OK);
                NEED((w->status = subspace_regroup(w->a, &v)) >= 0);
                NEED((w->status = subspace_wait(w->a)) == WEFT_OK);
            }
        }
        if (w->rank == GONE) {
            if (round == run.leaves_at) break;
            if (round == run.lost_at) {
                if (!be_lost(w, round)) return 0;
                if (run.back_at == NEVER) return 1;
            }
            if (!w->a) continue;
        }
        if (!one_round(w, round, before)) return 0;
    }
    NEED((w->status = subspace_leave(w->a)) >= 0);
    NEED((w->status = subspace_wait(w->a)) == WEFT_OK);
    subspace_close(w->a);
    return 1;
}

static void *body(void *arg) {
    worker *w = (worker *)arg;
    work(w);
    return NULL;
}

/* ---- the whole ---- */

static void set_up(int variant, uint32_t size) {
    memset(&run, 0, sizeof run);
    run.variant = variant;
    run.size = size;
    run.rounds = ROUNDS;
    run.leaves_at = run.lost_at = run.back_at = NEVER;
}

static const size_t *counts(void) {
    return run.variant & LARGE ? large_count : small_count;
}

static subspace_desc describe(void) {
    subspace_desc d;
    memset(&d, 0, sizeof d);
    d.struct_size = sizeof d;
    d.momentum = 0.9;
    if (run.variant & EXCHANGE) d.plan = SUBSPACE_PLAN_EXCHANGE;
    if (run.variant & IN_PLACE) d.in_place = 1;
    if (run.variant & MEAN) d.rule = SUBSPACE_MEAN;
    if (run.variant & GROUPS) {
        d.groups = 3;
        d.group_of_tensor = group_of;
    }
    return d;
}

/* Everybody works, and comes to an end. */
static void train(void) {
    uint32_t r;
    ck_assert_int_eq(weft_threads_init(&run.team, run.size), WEFT_OK);
    for (r = 0; r < run.size; r++) {
        worker *w = &run.worker[r];
        w->rank = r;
        w->grads = cluster_tensors(TENSORS, counts(), dtype);
        weft_threads_transport(&run.team, r, &w->net);
        w->desc = describe();
        w->desc.gradients = w->grads;
        w->desc.transport = &w->net;
    }
    for (r = 0; r < run.size; r++) ck_assert_int_eq(pthread_create(&run.thread[r], NULL, body, &run.worker[r]), 0);
    for (r = 0; r < run.size; r++) ck_assert_int_eq(pthread_join(run.thread[r], NULL), 0);
    for (r = 0; r < run.size; r++)
        ck_assert_msg(!run.worker[r].failed, "variant %d, %u polls: worker %u: %s (%s)", run.variant,
                      (unsigned)run.polls, r, run.worker[r].failed, weft_strerror(run.worker[r].status));
}

/* What subspace_combine makes of the same rounds, among those who were in them: all, or all but worker GONE. */
static void compare(void) {
    subspace_desc d = describe();
    double samples[MOST];
    pile p;
    uint64_t round;
    uint32_t r;
    d.plan = SUBSPACE_PLAN_DEFAULT;
    d.in_place = 0;
    ck_assert_int_eq(pile_open(&p, &d, run.size, TENSORS, counts(), dtype), WEFT_OK);
    for (round = 0; round < run.rounds; round++) {
        const uint64_t in = run.worker[0].participants[round];
        uint32_t n = 0;
        uint64_t want;
        ck_assert_msg(in == run.size || in == run.size - 1, "round %u with %u workers", (unsigned)round, (unsigned)in);
        for (r = 0; r < run.size; r++) {
            if (r == GONE && in != run.size) continue;
            fill(&p.grads[n], round, r);
            samples[n++] = 1 + r % 3;
        }
        ck_assert_int_eq(subspace_combine(p.a, p.grads, n, samples, &p.out), WEFT_OK);
        want = cluster_hash(&p.out);
        for (r = 0; r < run.size; r++) {
            const worker *w = &run.worker[r];
            /* worker GONE may have been in it without having learnt what came of it */
            if (r == GONE && (in != run.size || !w->participants[round])) continue;
            ck_assert_msg(w->participants[round] == in, "variant %d: round %u had %u workers for 0 and %u for %u",
                          run.variant, (unsigned)round, (unsigned)in, (unsigned)w->participants[round], r);
            ck_assert_msg(w->result[round] == want, "variant %d: worker %u holds other bits after round %u",
                          run.variant, r, (unsigned)round);
        }
    }
    ck_assert(pile_close(&p));
}

static void tear_down(void) {
    uint32_t r, life;
    for (r = 0; r < run.size; r++) {
        worker *w = &run.worker[r];
        ck_assert(cluster_tensors_whole(&w->grads));
        for (life = 0; life < 2; life++) {
            ck_assert(!w->memory[life] || cluster_canary(w->memory[life] + w->bytes));
            free(w->memory[life]);
        }
        cluster_tensors_free(&w->grads);
    }
    weft_threads_free(&run.team);
}

START_TEST(rounds) {
    set_up(_i, 3 + (uint32_t)_i % 2);
    train();
    compare();
    ck_assert_uint_eq(run.worker[0].participants[ROUNDS - 1], run.size);
    tear_down();
}
END_TEST

/* Of several chunks. */
START_TEST(large_rounds) {
    set_up(LARGE | _i, 3);
    run.rounds = 3;
    train();
    compare();
    tear_down();
}
END_TEST

START_TEST(one_leaves) {
    uint64_t at;
    for (at = 0; at < 5; at += 2) {
        set_up(_i, 4);
        run.leaves_at = at;
        train();
        compare();
        ck_assert_uint_eq(run.worker[0].participants[at], 3);
        if (at) ck_assert_uint_eq(run.worker[0].participants[at - 1], 4);
        tear_down();
    }
}
END_TEST

/* It has not submitted everything: the round is abandoned, and formed again without it. */
START_TEST(one_is_lost) {
    uint64_t polls, abandoned = 0;
    uint32_t r;
    for (polls = 0; polls < 10; polls++) {
        set_up(_i, 4);
        run.lost_at = polls % 2 ? 1 : 4;
        run.polls = polls;
        train();
        compare();
        ck_assert_uint_eq(run.worker[0].participants[run.lost_at], 3);
        for (r = 0; r < run.size; r++)
            if (r != GONE) {
                ck_assert_uint_eq(run.worker[r].lost_errors, 1);
                abandoned += run.worker[r].abandoned;
            }
        tear_down();
    }
    ck_assert_uint_gt(abandoned, 10);
}
END_TEST

/* It has: whether the round is committed or abandoned is a matter of time, but the same for all. */
START_TEST(one_is_lost_at_some_moment) {
    uint64_t polls;
    uint32_t r;
    for (polls = 0; polls < 40; polls++) {
        set_up(_i, 3 + (uint32_t)polls % 2);
        run.lost_at = 3 + polls % 3;
        run.all_in = 1;
        run.polls = polls;
        train();
        compare();
        for (r = 0; r < run.size; r++)
            if (r != GONE) ck_assert_uint_eq(run.worker[r].lost_errors, 1);
        ck_assert_uint_eq(run.worker[0].participants[run.lost_at + 1], run.size - 1);
        tear_down();
    }
}
END_TEST

START_TEST(one_comes_back) {
    uint64_t polls;
    for (polls = 0; polls < 12; polls += 3) {
        set_up(_i, 4);
        run.lost_at = 4;
        run.back_at = 6;
        run.all_in = (int)(polls % 2);
        run.polls = polls;
        train();
        compare();
        ck_assert_uint_eq(run.worker[0].participants[5], 3);
        ck_assert_uint_eq(run.worker[GONE].participants[5], 0);
        ck_assert_uint_eq(run.worker[GONE].participants[6], 4);
        tear_down();
    }
}
END_TEST

int main(void) {
    Suite *s = suite_create("threads");
    TCase *t = tcase_create("threads");
    SRunner *runner;
    int failed;
    tcase_set_timeout(t, 60);
    tcase_add_loop_test(t, rounds, 0, VARIANTS);
    tcase_add_loop_test(t, large_rounds, 0, 4);
    tcase_add_loop_test(t, one_leaves, 0, 4);
    tcase_add_loop_test(t, one_is_lost, 0, 4);
    tcase_add_loop_test(t, one_is_lost_at_some_moment, 0, VARIANTS);
    tcase_add_loop_test(t, one_comes_back, 0, 4);
    suite_add_tcase(s, t);
    runner = srunner_create(s);
    srunner_run_all(runner, CK_NORMAL);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
