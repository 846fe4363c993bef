/* SPDX-License-Identifier: MIT
 * The pool adapter: every index once, callers that share a pool, tasks, and an orderly end. */
#define GRAWA_IMPLEMENTATION
#include "../grawa.h"
#include "pool/weft_pthread_pool.h"

#include <check.h>
#include <time.h>

static const size_t team[] = {1, 2, 3, 7};
#define TEAMS (sizeof team / sizeof team[0])

/* ---- loops ---- */
#define MOST 1000

typedef struct tally {
    unsigned seen[MOST]; /* an index has one writer, so no lock: a second writer is a race */
} tally;

static void tick(void *arg, size_t index) {
    tally *t = (tally *)arg;
    t->seen[index]++;
}

static void check_tally(const tally *t, size_t n, unsigned times) {
    size_t i;
    for (i = 0; i < MOST; i++) ck_assert_uint_eq(t->seen[i], i < n ? times : 0);
}

START_TEST(every_index_once) {
    static const size_t sizes[] = {0, 1, 2, 3, 7, 8, 64, MOST};
    size_t i, j, k;
    for (i = 0; i < TEAMS; i++) {
        weft_pthread_pool p;
        ck_assert_int_eq(weft_pthread_pool_create(&p, team[i]), WEFT_OK);
        for (j = 0; j < sizeof sizes / sizeof sizes[0]; j++) {
            tally t;
            memset(&t, 0, sizeof t);
            for (k = 0; k < 50; k++) p.pool.parallel_for(p.pool.ctx, sizes[j], tick, &t);
            check_tally(&t, sizes[j], 50);
        }
        weft_pthread_pool_destroy(&p);
    }
}
END_TEST

/* Bodies that only return when all of them have begun: they do run side by side, the caller among them. */
typedef struct meeting {
    pthread_mutex_t lock;
    pthread_cond_t all;
    size_t here, expected;
    pthread_t caller;
    int caller_worked;
} meeting;

static void meet(void *arg, size_t index) {
    meeting *m = (meeting *)arg;
    (void)index;
    pthread_mutex_lock(&m->lock);
    if (pthread_equal(m->caller, pthread_self())) m->caller_worked = 1;
    if (++m->here == m->expected) pthread_cond_broadcast(&m->all);
    while (m->here < m->expected) pthread_cond_wait(&m->all, &m->lock);
    pthread_mutex_unlock(&m->lock);
}

START_TEST(all_threads_take_part) {
    size_t i;
    for (i = 0; i < TEAMS; i++) {
        weft_pthread_pool p;
        meeting m;
        memset(&m, 0, sizeof m);
        pthread_mutex_init(&m.lock, NULL);
        pthread_cond_init(&m.all, NULL);
        m.expected = team[i];
        m.caller = pthread_self();
        ck_assert_int_eq(weft_pthread_pool_create(&p, team[i]), WEFT_OK);
        p.pool.parallel_for(p.pool.ctx, team[i], meet, &m);
        ck_assert_uint_eq(m.here, team[i]);
        ck_assert_int_eq(m.caller_worked, 1);
        weft_pthread_pool_destroy(&p);
        pthread_cond_destroy(&m.all);
        pthread_mutex_destroy(&m.lock);
    }
}
END_TEST

/* ---- several callers, and loops inside of tasks ---- */
typedef struct caller {
    weft_pthread_pool *pool;
    tally t;
    int done;
} caller;

static void loop_many(void *arg) {
    caller *c = (caller *)arg;
    size_t k;
    for (k = 0; k < 100; k++) c->pool->pool.parallel_for(c->pool->pool.ctx, 37, tick, &c->t);
    c->done = 1;
}

static void *loop_many_thread(void *arg) {
    loop_many(arg);
    return NULL;
}

START_TEST(callers_share_a_pool) {
    weft_pthread_pool p;
    caller c[4];
    pthread_t th[4];
    size_t i;
    memset(c, 0, sizeof c);
    ck_assert_int_eq(weft_pthread_pool_create(&p, 3), WEFT_OK);
    for (i = 0; i < 4; i++) {
        c[i].pool = &p;
        ck_assert_int_eq(pthread_create(&th[i], NULL, loop_many_thread, &c[i]), 0);
    }
    for (i = 0; i < 4; i++) {
        pthread_join(th[i], NULL);
        check_tally(&c[i].t, 37, 100);
    }
    weft_pthread_pool_destroy(&p);
}
END_TEST

/* More tasks that loop than threads: every thread is busy, and still each loop ends, for its caller works. */
START_TEST(tasks_may_loop) {
    weft_pthread_pool p;
    caller c[5];
    size_t i;
    memset(c, 0, sizeof c);
    ck_assert_int_eq(weft_pthread_pool_create(&p, 3), WEFT_OK);
    for (i = 0; i < 5; i++) {
        c[i].pool = &p;
        ck_assert_int_eq(p.pool.submit(p.pool.ctx, loop_many, &c[i]), WEFT_OK);
    }
    weft_pthread_pool_destroy(&p); /* finishes what was submitted */
    for (i = 0; i < 5; i++) {
        ck_assert_int_eq(c[i].done, 1);
        check_tally(&c[i].t, 37, 100);
    }
}
END_TEST

/* ---- tasks ---- */
typedef struct gate {
    pthread_mutex_t lock;
    pthread_cond_t moved;
    int entered, open;
    size_t ran;
    int order[2 * WEFT_PTHREAD_POOL_TASKS];
    pthread_t caller;
    int on_caller;
} gate;

typedef struct numbered {
    gate *g;
    int number;
} numbered;

static void hold(void *arg) {
    gate *g = (gate *)arg;
    pthread_mutex_lock(&g->lock);
    g->entered = 1;
    pthread_cond_broadcast(&g->moved);
    while (!g->open) pthread_cond_wait(&g->moved, &g->lock);
    pthread_mutex_unlock(&g->lock);
}

static void note(void *arg) {
    numbered *n = (numbered *)arg;
    pthread_mutex_lock(&n->g->lock);
    if (pthread_equal(n->g->caller, pthread_self())) n->g->on_caller = 1;
    n->g->order[n->g->ran++] = n->number;
    pthread_mutex_unlock(&n->g->lock);
}

START_TEST(tasks_wait_in_order_and_are_bounded) {
    weft_pthread_pool p;
    gate g;
    numbered n[WEFT_PTHREAD_POOL_TASKS + 1];
    int i;
    memset(&g, 0, sizeof g);
    pthread_mutex_init(&g.lock, NULL);
    pthread_cond_init(&g.moved, NULL);
    g.caller = pthread_self();
    ck_assert_int_eq(weft_pthread_pool_create(&p, 2), WEFT_OK); /* one thread beside the caller */
    ck_assert_int_eq(p.pool.submit(p.pool.ctx, hold, &g), WEFT_OK);
    pthread_mutex_lock(&g.lock);
    while (!g.entered) pthread_cond_wait(&g.moved, &g.lock);
    pthread_mutex_unlock(&g.lock);
    for (i = 0; i <= WEFT_PTHREAD_POOL_TASKS; i++) {
        n[i].g = &g;
        n[i].number = i;
        ck_assert_int_eq(p.pool.submit(p.pool.ctx, note, &n[i]),
                         i < WEFT_PTHREAD_POOL_TASKS ? WEFT_OK : WEFT_ERR_CAPACITY);
    }
    pthread_mutex_lock(&g.lock);
    ck_assert_uint_eq(g.ran, 0);
    g.open = 1;
    pthread_cond_broadcast(&g.moved);
    pthread_mutex_unlock(&g.lock);
    weft_pthread_pool_destroy(&p);
    ck_assert_uint_eq(g.ran, WEFT_PTHREAD_POOL_TASKS);
    for (i = 0; i < WEFT_PTHREAD_POOL_TASKS; i++) ck_assert_int_eq(g.order[i], i);
    ck_assert_int_eq(g.on_caller, 0);
    pthread_cond_destroy(&g.moved);
    pthread_mutex_destroy(&g.lock);
}
END_TEST

START_TEST(refusals) {
    weft_pthread_pool p;
    tally t;
    memset(&t, 0, sizeof t);
    ck_assert_int_eq(weft_pthread_pool_create(&p, 0), WEFT_ERR_ARGUMENT);
    ck_assert_int_eq(weft_pthread_pool_create(&p, 1), WEFT_OK);
    ck_assert_int_eq(p.pool.submit(p.pool.ctx, hold, NULL), WEFT_ERR_UNSUPPORTED);
    p.pool.parallel_for(p.pool.ctx, 5, tick, &t);
    check_tally(&t, 5, 1);
    weft_pthread_pool_destroy(&p);
}
END_TEST

static double cpu_seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

START_TEST(idle_threads_sleep) {
    const struct timespec pause = {0, 200 * 1000 * 1000};
    weft_pthread_pool p;
    tally t;
    double before;
    memset(&t, 0, sizeof t);
    ck_assert_int_eq(weft_pthread_pool_create(&p, 7), WEFT_OK);
    p.pool.parallel_for(p.pool.ctx, 100, tick, &t);
    before = cpu_seconds();
    nanosleep(&pause, NULL);
    ck_assert(cpu_seconds() - before < 0.1);
    weft_pthread_pool_destroy(&p);
}
END_TEST

/* The library's own entry: without a pool, or with one that cannot loop, indices run in order on the caller. */
static void in_order(void *arg, size_t index) {
    size_t *next = (size_t *)arg;
    ck_assert_uint_eq(index, *next);
    ++*next;
}

START_TEST(without_a_pool) {
    weft_pool empty;
    size_t next = 0;
    memset(&empty, 0, sizeof empty);
    weft_parallel_for(NULL, 9, in_order, &next);
    ck_assert_uint_eq(next, 9);
    weft_parallel_for(&empty, 0, in_order, &next);
    next = 0;
    weft_parallel_for(&empty, 4, in_order, &next);
    ck_assert_uint_eq(next, 4);
}
END_TEST

int main(void) {
    Suite *s = suite_create("pool");
    TCase *c = tcase_create("pool");
    SRunner *r;
    int failed;
    tcase_add_test(c, every_index_once);
    tcase_add_test(c, all_threads_take_part);
    tcase_add_test(c, callers_share_a_pool);
    tcase_add_test(c, tasks_may_loop);
    tcase_add_test(c, tasks_wait_in_order_and_are_bounded);
    tcase_add_test(c, refusals);
    tcase_add_test(c, idle_threads_sleep);
    tcase_add_test(c, without_a_pool);
    suite_add_tcase(s, c);
    r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
