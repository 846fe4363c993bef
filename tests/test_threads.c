/* SPDX-License-Identifier: MIT
 * The threads transport: traffic checked byte for byte, sums bit for bit, cancels and losses that race with copies and
 * sums, no lost wake-ups. To be run under a thread sanitizer too. */
#define GRAWA_IMPLEMENTATION
#include "../grawa.h"

#include <pthread.h>
#include <sched.h>

/* Copies go through here, so that a test can step in between the two halves of one. */
static void copy(void *into, const void *from, size_t bytes);
#define WEFT_THREADS_COPY copy
/* So that a test can have everybody sleep at once. */
static uint32_t yields = 50;
#define WEFT_THREADS_YIELDS yields
#include "transports/weft_threads.h"

#include <check.h>

static pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t gate_news = PTHREAD_COND_INITIALIZER;
static int slow;   /* set while one thread runs */
static int inside; /* a slow copy has come half way */

static void copy(void *into, const void *from, size_t bytes) {
    size_t half = bytes / 2;
    int i;
    if (!slow) {
        memcpy(into, from, bytes);
        return;
    }
    memcpy(into, from, half);
    pthread_mutex_lock(&gate);
    inside = 1;
    pthread_cond_signal(&gate_news);
    pthread_mutex_unlock(&gate);
    for (i = 0; i < 2000; i++) sched_yield(); /* the others have their chance to go wrong */
    memcpy((unsigned char *)into + half, (const unsigned char *)from + half, bytes - half);
}

static void until_inside(void) {
    pthread_mutex_lock(&gate);
    while (!inside) pthread_cond_wait(&gate_news, &gate);
    inside = 0;
    pthread_mutex_unlock(&gate);
}

static uint64_t draw(uint64_t *state) {
    uint64_t z = *state += UINT64_C(0x9E3779B97F4A7C15);
    z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
    return z ^ (z >> 31);
}

static unsigned char byte_of(uint64_t key, size_t k) {
    uint64_t x = (key + k) * UINT64_C(0x9E3779B97F4A7C15);
    return (unsigned char)(x >> 56);
}

static void fill(unsigned char *p, uint64_t key, size_t n) {
    size_t k;
    for (k = 0; k < n; k++) p[k] = byte_of(key, k);
}

static int is_filled(const unsigned char *p, uint64_t key, size_t n) {
    size_t k;
    for (k = 0; k < n; k++)
        if (p[k] != byte_of(key, k)) return 0;
    return 1;
}

#define MOST 8
typedef struct worker {
    weft_threads_team *team;
    weft_transport net;
    uint32_t rank;
    uint64_t seed;
    const char *failed; /* a check that failed; asserted by the main thread */
    uint64_t a, b, c;   /* counts */
    unsigned char *memory;
} worker;

#define NEED(condition)                                                                                                \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            w->failed = #condition;                                                                                    \
            return NULL;                                                                                               \
        }                                                                                                              \
    } while (0)

static weft_threads_team team;
static worker all[MOST];
static pthread_t thread[MOST];

static void set_up(uint32_t size, uint64_t seed) {
    uint32_t r;
    memset(all, 0, sizeof all);
    ck_assert_int_eq(weft_threads_init(&team, size), WEFT_OK);
    for (r = 0; r < size; r++) {
        all[r].team = &team;
        all[r].rank = r;
        all[r].seed = seed * 1000 + r;
        weft_threads_transport(&team, r, &all[r].net);
    }
}

static void start(uint32_t rank, void *(*body)(void *)) {
    ck_assert_int_eq(pthread_create(&thread[rank], NULL, body, &all[rank]), 0);
}

static void join(uint32_t rank) {
    ck_assert_int_eq(pthread_join(thread[rank], NULL), 0);
    ck_assert_msg(!all[rank].failed, "worker %u: %s", rank, all[rank].failed);
}

static weft_status finish(worker *w, weft_request *q) {
    weft_status s;
    while ((s = w->net.test(w->net.ctx, q)) == WEFT_AGAIN) w->net.wait(w->net.ctx, UINT64_MAX);
    return s;
}

/* ---- traffic: every worker to every worker, on several tags, in an order of each worker's own ---- */

#define WORKERS 4
#define TAGS 3
#define EACH 25  /* messages for each (source, destination, tag) */
#define WINDOW 4 /* under way at a time for each */
#define LONGEST 3000

typedef struct lane {
    uint32_t posted, over;
    weft_request q[WINDOW];
    unsigned char busy[WINDOW];
    unsigned char *buffer[WINDOW];
    size_t capacity[WINDOW];
} lane;

static uint64_t key_of(uint32_t src, uint32_t dst, uint32_t tag, uint32_t n) {
    return ((uint64_t)src << 48) + ((uint64_t)dst << 40) + ((uint64_t)tag << 32) + (uint64_t)n * 4096;
}

static size_t length_of(uint64_t key) {
    uint64_t s = key, l = draw(&s);
    return l % 5 == 0 ? 0 : (size_t)(l >> 8) % LONGEST;
}

static void *traffic(void *arg) {
    worker *w = (worker *)arg;
    lane(*lanes)[WORKERS][TAGS] = (lane(*)[WORKERS][TAGS])calloc(2, sizeof *lanes); /* [0] sends, [1] receives */
    uint32_t left = 2 * WORKERS * TAGS, way, peer, tag, i;
    for (way = 0; way < 2; way++)
        for (peer = 0; peer < WORKERS; peer++)
            for (tag = 0; tag < TAGS; tag++)
                for (i = 0; i < WINDOW; i++)
                    lanes[way][peer][tag].buffer[i] = (unsigned char *)malloc(LONGEST);
    while (left) {
        int idle = 1;
        for (i = 0; i < 40; i++) { /* a few lanes at random, all of them seldom */
            lane *l;
            uint32_t slot;
            way = (uint32_t)(draw(&w->seed) % 2);
            peer = (uint32_t)(draw(&w->seed) % WORKERS);
            tag = (uint32_t)(draw(&w->seed) % TAGS);
            l = &lanes[way][peer][tag];
            if (l->posted < EACH && l->posted - l->over < WINDOW && draw(&w->seed) % 2) {
                uint64_t key = way ? key_of(peer, w->rank, tag, l->posted) : key_of(w->rank, peer, tag, l->posted);
                size_t n = length_of(key);
                slot = l->posted++ % WINDOW;
                memset(&l->q[slot], 0, sizeof l->q[slot]);
                if (way) {
                    l->capacity[slot] = draw(&w->seed) % 4 ? LONGEST : n / 2;
                    memset(l->buffer[slot], 0xC3, LONGEST);
                    NEED(w->net.recv(w->net.ctx, peer, tag, l->buffer[slot], l->capacity[slot], &l->q[slot]) ==
                         WEFT_OK);
                } else {
                    fill(l->buffer[slot], key, n);
                    NEED(w->net.send(w->net.ctx, peer, tag, l->buffer[slot], n, &l->q[slot]) == WEFT_OK);
                }
                idle = 0;
            }
            if (l->over < l->posted) {
                weft_status s;
                slot = l->over % WINDOW;
                s = w->net.test(w->net.ctx, &l->q[slot]);
                if (s == WEFT_AGAIN) continue;
                idle = 0;
                if (way) {
                    uint64_t key = key_of(peer, w->rank, tag, l->over);
                    size_t n = length_of(key), m = n < l->capacity[slot] ? n : l->capacity[slot];
                    NEED(s == (n > l->capacity[slot] ? WEFT_ERR_TRUNCATED : WEFT_OK));
                    NEED(l->q[slot].bytes == n);
                    NEED(is_filled(l->buffer[slot], key, m));
                    NEED(m == LONGEST || l->buffer[slot][m] == 0xC3); /* and no further */
                } else {
                    NEED(s == WEFT_OK);
                    memset(l->buffer[slot], 0xEE, LONGEST); /* ours again */
                }
                if (++l->over == EACH) left--;
                w->a++;
            }
        }
        /* nothing was done in a random look around: not a reason to sleep without limit */
        if (idle && left) w->net.wait(w->net.ctx, w->net.now(w->net.ctx) + 200000);
    }
    for (way = 0; way < 2; way++)
        for (peer = 0; peer < WORKERS; peer++)
            for (tag = 0; tag < TAGS; tag++)
                for (i = 0; i < WINDOW; i++) free(lanes[way][peer][tag].buffer[i]);
    free(lanes);
    return NULL;
}

START_TEST(every_byte_arrives) {
    uint32_t r;
    uint64_t seed;
    for (seed = 0; seed < 4; seed++) {
        set_up(WORKERS, seed);
        for (r = 0; r < WORKERS; r++) start(r, traffic);
        for (r = 0; r < WORKERS; r++) join(r);
        for (r = 0; r < WORKERS; r++) ck_assert_uint_eq(all[r].a, 2 * WORKERS * TAGS * EACH);
        weft_threads_free(&team);
    }
}
END_TEST

/* ---- no lost wake-up: a ring that sleeps without limit ---- */

static void *ring(void *arg) {
    worker *w = (worker *)arg;
    uint32_t n = w->net.size, i;
    for (i = 0; i < 3000; i++) {
        uint32_t value = i * n + w->rank, got = 0;
        weft_request s, r;
        memset(&s, 0, sizeof s);
        memset(&r, 0, sizeof r);
        if ((i + w->rank) % 3) {
            NEED(w->net.recv(w->net.ctx, (w->rank + n - 1) % n, 7, &got, sizeof got, &r) == WEFT_OK);
            NEED(w->net.send(w->net.ctx, (w->rank + 1) % n, 7, &value, sizeof value, &s) == WEFT_OK);
        } else {
            NEED(w->net.send(w->net.ctx, (w->rank + 1) % n, 7, &value, sizeof value, &s) == WEFT_OK);
            NEED(w->net.recv(w->net.ctx, (w->rank + n - 1) % n, 7, &got, sizeof got, &r) == WEFT_OK);
        }
        NEED(finish(w, &r) == WEFT_OK);
        NEED(finish(w, &s) == WEFT_OK);
        NEED(got == i * n + (w->rank + n - 1) % n);
    }
    return NULL;
}

START_TEST(no_wake_up_is_lost) {
    uint32_t size, r;
    for (size = 1; size <= 5; size++) {
        set_up(size, size);
        for (r = 0; r < size; r++) start(r, ring);
        for (r = 0; r < size; r++) join(r);
        weft_threads_free(&team);
    }
}
END_TEST

/* What happened before wait was called counts, on both sides and whoever copied. */
START_TEST(wait_remembers) {
    unsigned char a = 1, b = 0;
    weft_request s, r;
    uint32_t i;
    set_up(2, 0);
    for (i = 0; i < 2; i++) {
        worker *first = &all[i], *second = &all[1 - i];
        uint64_t until = first->net.now(first->net.ctx) + UINT64_C(10000000000);
        memset(&s, 0, sizeof s);
        memset(&r, 0, sizeof r);
        if (i) ck_assert_int_eq(first->net.send(first->net.ctx, 0, 1, &a, 1, &s), WEFT_OK);
        else ck_assert_int_eq(first->net.recv(first->net.ctx, 1, 1, &b, 1, &r), WEFT_OK);
        if (i) ck_assert_int_eq(second->net.recv(second->net.ctx, 1, 1, &b, 1, &r), WEFT_OK);
        else ck_assert_int_eq(second->net.send(second->net.ctx, 0, 1, &a, 1, &s), WEFT_OK);
        first->net.wait(first->net.ctx, until);
        second->net.wait(second->net.ctx, until);
        ck_assert_uint_lt(first->net.now(first->net.ctx), until);
        ck_assert_int_eq(finish(&all[1], &s), WEFT_OK);
        ck_assert_int_eq(finish(&all[0], &r), WEFT_OK);
    }
    weft_threads_free(&team);
}
END_TEST

START_TEST(wait_ends_at_its_time) {
    worker *w = &all[0];
    uint64_t until;
    set_up(1, 0);
    until = w->net.now(w->net.ctx) + 2000000;
    w->net.wait(w->net.ctx, until);
    ck_assert_uint_ge(w->net.now(w->net.ctx), until);
    w->net.wait(w->net.ctx, 0); /* long past */
    w->net.wait(w->net.ctx, w->net.now(w->net.ctx));
    weft_threads_free(&team);
}
END_TEST

/* ---- cancel against copy ---- */

#define TRIES 400
#define BLOCK ((size_t)1 << 18)

/* Cheap, so that much of the time goes into copies: the number of the block, then one byte all over. */
static void stamp(unsigned char *p, uint32_t i) {
    memset(p, (int)(i % 251), BLOCK);
    memcpy(p, &i, sizeof i);
}

static int is_stamped(const unsigned char *p, uint32_t *i) {
    memcpy(i, p, sizeof *i);
    return p[sizeof *i] == *i % 251 && memcmp(p + sizeof *i, p + sizeof *i + 1, BLOCK - sizeof *i - 1) == 0;
}

static void *sends_and_cancels(void *arg) {
    worker *w = (worker *)arg;
    unsigned char *buffer = (unsigned char *)malloc(BLOCK);
    weft_request q;
    uint32_t i;
    for (i = 1; i <= TRIES; i++) {
        weft_status s = WEFT_AGAIN;
        uint64_t tests = draw(&w->seed) % 60;
        stamp(buffer, i);
        memset(&q, 0, sizeof q);
        NEED(w->net.send(w->net.ctx, 1, 1, buffer, BLOCK, &q) == WEFT_OK);
        if (tests == 0) s = finish(w, &q);
        while (s == WEFT_AGAIN && tests--) s = w->net.test(w->net.ctx, &q);
        if (s == WEFT_AGAIN) {
            w->net.cancel(w->net.ctx, &q);
            w->b++;
        } else {
            NEED(s == WEFT_OK);
            w->a++;
        }
        memset(buffer, 0xFE, BLOCK); /* ours again, either way */
    }
    memset(&q, 0, sizeof q);
    NEED(w->net.send(w->net.ctx, 1, 2, buffer, 0, &q) == WEFT_OK);
    NEED(finish(w, &q) == WEFT_OK);
    free(buffer);
    return NULL;
}

static void *receives_and_cancels(void *arg) {
    worker *w = (worker *)arg;
    unsigned char *buffer = (unsigned char *)malloc(BLOCK);
    weft_request q, end;
    uint32_t last = 0, over = 0, i;
    memset(&end, 0, sizeof end);
    NEED(w->net.recv(w->net.ctx, 0, 2, NULL, 0, &end) == WEFT_OK);
    while (!over) {
        weft_status s = WEFT_AGAIN;
        uint64_t tests = draw(&w->seed) % 60;
        memset(&q, 0, sizeof q);
        NEED(w->net.recv(w->net.ctx, 0, 1, buffer, BLOCK, &q) == WEFT_OK);
        while (s == WEFT_AGAIN && tests-- && !over) {
            s = w->net.test(w->net.ctx, &q);
            if (s == WEFT_AGAIN && w->net.test(w->net.ctx, &end) == WEFT_OK) over = 1;
        }
        if (s == WEFT_AGAIN) {
            w->net.cancel(w->net.ctx, &q);
            w->b++;
            memset(buffer, 0x11, BLOCK);
            NEED(buffer[BLOCK - 1] == 0x11 && memcmp(buffer, buffer + 1, BLOCK - 1) == 0);
        } else {
            NEED(s == WEFT_OK && q.bytes == BLOCK);
            NEED(is_stamped(buffer, &i)); /* wholly or not at all */
            NEED(i > last && i <= TRIES);
            last = i;
            w->a++;
        }
    }
    free(buffer);
    return NULL;
}

START_TEST(cancels_race_with_copies) {
    uint64_t seed, sends = 0, receives = 0;
    for (seed = 0; seed < 4; seed++) {
        set_up(2, seed);
        start(0, sends_and_cancels);
        start(1, receives_and_cancels);
        join(0);
        join(1);
        ck_assert_uint_eq(all[0].a + all[0].b, TRIES);
        /* what was sent was received, or went with a receive that was cancelled while it was matched */
        ck_assert_uint_ge(all[1].a + all[1].b, all[0].a);
        ck_assert_uint_gt(all[1].a, 0);
        sends += all[0].b;
        receives += all[1].b;
        weft_threads_free(&team);
    }
    ck_assert_uint_gt(sends, 0);
    ck_assert_uint_gt(receives, 0);
}
END_TEST

/* ---- loss ---- */

static pthread_barrier_t posted; /* both receives are, before worker 0 is lost */
static int meet;

/* Waits without limit for a message that never comes, and to be rid of another, while worker 0 is lost. */
static void *waits_for_the_lost(void *arg) {
    worker *w = (worker *)arg;
    unsigned char in[8], out[8] = {0};
    weft_request r, s;
    memset(&r, 0, sizeof r);
    memset(&s, 0, sizeof s);
    if (w->net.recv(w->net.ctx, 0, 1, in, sizeof in, &r) == WEFT_OK) {
        if (meet) pthread_barrier_wait(&posted);
        NEED(finish(w, &r) == WEFT_ERR_PEER_LOST);
        w->a++;
    }
    if (w->net.send(w->net.ctx, 0, 1, out, sizeof out, &s) == WEFT_OK)
        NEED(finish(w, &s) == WEFT_ERR_PEER_LOST);
    NEED(w->net.send(w->net.ctx, 0, 1, out, sizeof out, &s) == WEFT_ERR_PEER_LOST);
    NEED(w->net.recv(w->net.ctx, 0, 1, out, sizeof out, &s) == WEFT_ERR_PEER_LOST);
    /* the others are as before */
    memset(&r, 0, sizeof r);
    memset(&s, 0, sizeof s);
    NEED(w->net.send(w->net.ctx, 3 - w->rank, 1, out, sizeof out, &s) == WEFT_OK);
    NEED(w->net.recv(w->net.ctx, 3 - w->rank, 1, in, sizeof in, &r) == WEFT_OK);
    NEED(finish(w, &r) == WEFT_OK && finish(w, &s) == WEFT_OK);
    return NULL;
}

START_TEST(loss_wakes_who_waits) {
    uint32_t i, waited = 0;
    for (i = 0; i < 200; i++) {
        volatile uint32_t k;
        set_up(3, i);
        meet = i % 2 == 0;
        ck_assert_int_eq(pthread_barrier_init(&posted, NULL, 3), 0);
        start(1, waits_for_the_lost);
        start(2, waits_for_the_lost);
        if (meet) pthread_barrier_wait(&posted);
        for (k = 0; k < i * 100; k++) continue; /* earlier and later, without sleeping */
        weft_threads_lose(&team, 0);
        weft_threads_lose(&team, 0);
        weft_threads_lose(&team, 99);
        join(1);
        join(2);
        waited += (uint32_t)(all[1].a + all[2].a);
        pthread_barrier_destroy(&posted);
        weft_threads_free(&team);
    }
    ck_assert_uint_ge(waited, 200);
}
END_TEST

#define BIG ((size_t)1 << 16)

/* Takes what worker 0 sends; it does the copying. */
static void *takes(void *arg) {
    worker *w = (worker *)arg;
    unsigned char *into = (unsigned char *)malloc(BIG);
    weft_request r;
    weft_status s;
    memset(&r, 0, sizeof r);
    s = w->net.recv(w->net.ctx, 0, 1, into, BIG, &r);
    if (s == WEFT_OK) s = finish(w, &r);
    if (s == WEFT_OK) {
        NEED(r.bytes == BIG && into[0] == 5 && memcmp(into, into + 1, BIG - 1) == 0);
        w->a++;
    } else {
        NEED(s == WEFT_ERR_PEER_LOST);
    }
    free(into);
    return NULL;
}

/* When lose or cancel returns, the memory of a send may be freed: whoever copies from it has finished. */
START_TEST(copies_are_waited_for) {
    uint32_t i;
    slow = 1;
    for (i = 0; i < 20; i++) {
        unsigned char *from = (unsigned char *)malloc(BIG);
        weft_request q;
        memset(from, 5, BIG);
        memset(&q, 0, sizeof q);
        set_up(2, i);
        ck_assert_int_eq(all[0].net.send(all[0].net.ctx, 1, 1, from, BIG, &q), WEFT_OK);
        ck_assert_int_eq(all[0].net.test(all[0].net.ctx, &q), WEFT_AGAIN);
        start(1, takes);
        until_inside();
        if (i % 2) weft_threads_lose(&team, 0);
        else all[0].net.cancel(all[0].net.ctx, &q);
        memset(from, 0, BIG);
        free(from);
        join(1);
        ck_assert_uint_eq(all[1].a, 1); /* it was matched, so it comes */
        weft_threads_free(&team);
    }
    slow = 0;
}
END_TEST

/* The other way round: the memory of a receive, while the sender copies. */
static void *gives(void *arg) {
    worker *w = (worker *)arg;
    unsigned char *from = (unsigned char *)calloc(1, BIG);
    weft_request r;
    memset(&r, 0, sizeof r);
    NEED(w->net.send(w->net.ctx, 0, 1, from, BIG, &r) == WEFT_OK);
    NEED(finish(w, &r) == WEFT_OK);
    free(from);
    return NULL;
}

START_TEST(copies_into_are_waited_for) {
    uint32_t i;
    slow = 1;
    for (i = 0; i < 20; i++) {
        unsigned char *into = (unsigned char *)malloc(BIG);
        weft_request q;
        memset(&q, 0, sizeof q);
        set_up(2, i);
        ck_assert_int_eq(all[0].net.recv(all[0].net.ctx, 1, 1, into, BIG, &q), WEFT_OK);
        start(1, gives);
        until_inside();
        if (i % 2) weft_threads_lose(&team, 0);
        else all[0].net.cancel(all[0].net.ctx, &q);
        memset(into, 7, BIG);
        join(1);
        ck_assert(into[0] == 7 && memcmp(into, into + 1, BIG - 1) == 0); /* not touched any more */
        free(into);
        weft_threads_free(&team);
    }
    slow = 0;
}
END_TEST

START_TEST(revived_begins_anew) {
    weft_request q[6], p;
    unsigned char c[6][1];
    uint32_t i;
    unsigned char a[4] = {1, 2, 3, 4}, b[4] = {0, 0, 0, 0};
    worker *x = &all[0], *y = &all[1];
    set_up(3, 0);
    memset(q, 0, sizeof q);
    /* a message of the old life and a receive of it */
    ck_assert_int_eq(x->net.send(x->net.ctx, 1, 1, a, 4, &q[0]), WEFT_OK);
    ck_assert_int_eq(x->net.recv(x->net.ctx, 1, 2, b, 4, &q[1]), WEFT_OK);
    ck_assert_int_eq(y->net.recv(y->net.ctx, 0, 3, b, 4, &q[2]), WEFT_OK);
    weft_threads_lose(&team, 0);
    ck_assert_int_eq(x->net.test(x->net.ctx, &q[0]), WEFT_ERR_PEER_LOST); /* cut off itself */
    ck_assert_int_eq(x->net.send(x->net.ctx, 2, 1, a, 4, &q[3]), WEFT_ERR_PEER_LOST);
    weft_threads_lose(&team, 2);
    weft_threads_revive(&team, 0);
    weft_threads_revive(&team, 1); /* was never lost */
    weft_threads_revive(&team, 77);
    ck_assert_int_eq(x->net.send(x->net.ctx, 2, 1, a, 4, &q[3]), WEFT_ERR_PEER_LOST); /* worker 2 is */
    ck_assert_int_eq(y->net.test(y->net.ctx, &q[2]), WEFT_ERR_PEER_LOST);
    memset(q, 0, sizeof q);
    ck_assert_int_eq(y->net.recv(y->net.ctx, 0, 1, b, 4, &q[4]), WEFT_OK);
    ck_assert_int_eq(y->net.test(y->net.ctx, &q[4]), WEFT_AGAIN); /* not the old message */
    a[0] = 9;
    ck_assert_int_eq(x->net.send(x->net.ctx, 1, 1, a, 4, &q[5]), WEFT_OK);
    ck_assert_int_eq(y->net.test(y->net.ctx, &q[4]), WEFT_OK);
    ck_assert_int_eq(x->net.test(x->net.ctx, &q[5]), WEFT_OK);
    ck_assert_uint_eq(b[0], 9);
    /* lost with some requests given back and some not: the new life has all of them, each once */
    for (i = 0; i < 6; i++) ck_assert_int_eq(x->net.recv(x->net.ctx, 1, i, c[i], 1, &q[i]), WEFT_OK);
    for (i = 0; i < 4; i++) x->net.cancel(x->net.ctx, &q[i]);
    weft_threads_lose(&team, 0);
    weft_threads_revive(&team, 0);
    memset(q, 0, sizeof q);
    for (i = 0; i < 6; i++) ck_assert_int_eq(x->net.recv(x->net.ctx, 1, i, c[i], 1, &q[i]), WEFT_OK);
    for (i = 0; i < 6; i++) {
        a[0] = (unsigned char)(20 + i);
        memset(&p, 0, sizeof p);
        ck_assert_int_eq(y->net.send(y->net.ctx, 0, i, a, 1, &p), WEFT_OK);
        ck_assert_int_eq(y->net.test(y->net.ctx, &p), WEFT_OK);
    }
    for (i = 0; i < 6; i++) {
        ck_assert_int_eq(x->net.test(x->net.ctx, &q[i]), WEFT_OK);
        ck_assert_uint_eq(c[i][0], 20 + i);
    }
    weft_threads_free(&team);
}
END_TEST

/* ---- bounds ---- */

START_TEST(requests_are_bounded) {
    enum { N = 2 * WEFT_THREADS_REQUESTS_PER_PEER };
    static weft_request q[N + 1];
    unsigned char byte = 0;
    worker *w = &all[0];
    uint32_t round, i;
    set_up(2, 0);
    for (round = 0; round < 3; round++) {
        memset(q, 0, sizeof q);
        for (i = 0; i < N; i++)
            ck_assert_int_eq(w->net.recv(w->net.ctx, i % 2, i, &byte, 1, &q[i]), WEFT_OK);
        ck_assert_int_eq(w->net.recv(w->net.ctx, 1, N, &byte, 1, &q[N]), WEFT_ERR_CAPACITY);
        ck_assert_int_eq(w->net.send(w->net.ctx, 1, N, &byte, 1, &q[N]), WEFT_ERR_CAPACITY);
        w->net.cancel(w->net.ctx, &q[N]); /* not under way: nothing happens */
        for (i = 0; i < N; i++) w->net.cancel(w->net.ctx, &q[(i * 37 + round) % N]);
    }
    ck_assert_int_eq(w->net.test(w->net.ctx, &q[0]), WEFT_ERR_ORDER);
    weft_threads_free(&team);
}
END_TEST

START_TEST(a_send_stays_pending_until_received) {
    unsigned char a[3] = {1, 2, 3}, b[3] = {0, 0, 0};
    weft_request s, r;
    worker *x = &all[0], *y = &all[1];
    set_up(2, 0);
    memset(&s, 0, sizeof s);
    memset(&r, 0, sizeof r);
    ck_assert_int_eq(x->net.send(x->net.ctx, 1, 1, a, 3, &s), WEFT_OK);
    ck_assert_int_eq(x->net.test(x->net.ctx, &s), WEFT_AGAIN);
    ck_assert_int_eq(y->net.recv(y->net.ctx, 0, 2, b, 3, &r), WEFT_OK);
    ck_assert_int_eq(x->net.test(x->net.ctx, &s), WEFT_AGAIN); /* another tag */
    y->net.cancel(y->net.ctx, &r);
    ck_assert_int_eq(y->net.recv(y->net.ctx, 0, 1, b, 3, &r), WEFT_OK);
    ck_assert_int_eq(x->net.test(x->net.ctx, &s), WEFT_OK);
    ck_assert_int_eq(y->net.test(y->net.ctx, &r), WEFT_OK);
    ck_assert_mem_eq(a, b, 3);
    weft_threads_free(&team);
}
END_TEST

START_TEST(illegal_arguments) {
    weft_request q;
    unsigned char byte = 0;
    worker *w = &all[0];
    ck_assert_int_eq(weft_threads_init(&team, 0), WEFT_ERR_ARGUMENT);
    ck_assert_int_eq(weft_threads_init(&team, 65537), WEFT_ERR_ARGUMENT);
    weft_threads_free(&team); /* of what was refused: harmless */
    set_up(2, 0);
    memset(&q, 0, sizeof q);
    ck_assert_int_eq(w->net.send(w->net.ctx, 2, 0, &byte, 1, &q), WEFT_ERR_ARGUMENT);
    ck_assert_int_eq(w->net.recv(w->net.ctx, 0, 32768, &byte, 1, &q), WEFT_ERR_ARGUMENT);
    ck_assert_int_eq(w->net.recv(w->net.ctx, 1, 32767, &byte, 1, &q), WEFT_OK);
    w->net.cancel(w->net.ctx, &q);
    weft_threads_free(&team);
}
END_TEST

/* ---- all_reduce ---- */

/* One vector of a worker: elements that differ by worker and by `key`, with a margin on both sides that nobody may
 * write, at any alignment. */
typedef struct vector {
    unsigned char *memory, *at;
    size_t bytes;
} vector;

#define MARGIN ((size_t)128)

static vector vector_make(size_t bytes, size_t shift) {
    vector v;
    v.memory = (unsigned char *)malloc(bytes + 2 * MARGIN + 64);
    v.at = v.memory + MARGIN + shift;
    v.bytes = bytes;
    memset(v.memory, 0xC3, bytes + 2 * MARGIN + 64);
    return v;
}

static int vector_whole(const vector *v) {
    const unsigned char *p;
    for (p = v->memory; p < v->memory + v->bytes + 2 * MARGIN + 64; p++)
        if ((p < v->at || p >= v->at + v->bytes) && *p != 0xC3) return 0;
    return 1;
}

/* Numbers of all sizes, or (where `bad` says so) one that is not finite. */
static void vector_fill(unsigned char *at, size_t n, weft_dtype t, uint64_t key, size_t bad) {
    size_t i;
    for (i = 0; i < n; i++) {
        uint64_t x = (key + i) * UINT64_C(0x9E3779B97F4A7C15);
        float v = ((float)(int32_t)(x >> 40) - 8388608.0f) * (x & 1 ? 1e-3f : 1e3f);
        double d = (double)v * 1.000000001;
        uint16_t h = (uint16_t)(x >> 50); /* bf16: up to 1e38 / 4; f16: finite, as bit 14 is clear */
        if (t == WEFT_BF16) h = (uint16_t)(h & 0x3FFF);
        if (i == bad) {
            v = INFINITY;
            d = (double)NAN;
            h = t == WEFT_BF16 ? 0x7F80 : 0x7C00;
        }
        if (t == WEFT_F32) memcpy(at + i * 4, &v, 4);
        else if (t == WEFT_F64) memcpy(at + i * 8, &d, 8);
        else memcpy(at + i * 2, &h, 2);
    }
}

typedef struct sum_case {
    size_t count;
    weft_dtype dtype;
    int in_place, pace; /* pace: workers come at different times */
    size_t shift;
    uint64_t key;
    double weight[MOST];
    size_t bad; /* this element of the last worker is not finite; SIZE_MAX: none */
    unsigned char *expect;
    uint64_t nonfinite;
} sum_case;

#define CASES 40
static sum_case cases[CASES];
static uint32_t case_count;

static void case_make(sum_case *c, uint32_t size, uint64_t *rng, size_t most) {
    static const size_t edges[] = {0, 1, 5, 10, 31, 256, 257, 511, 512, 513, 1024};
    uint64_t kind = draw(rng) % 3;
    size_t each, bytes;
    unsigned char *inputs;
    const void *x[MOST];
    uint32_t r;
    memset(c, 0, sizeof *c);
    c->dtype = (weft_dtype)(draw(rng) % 4);
    each = weft_dtype_bytes(c->dtype);
    c->count = kind == 0 ? edges[draw(rng) % 11] : kind == 1 ? draw(rng) % 3000 : draw(rng) % most / each;
    c->in_place = draw(rng) % 2;
    c->pace = draw(rng) % 4 == 0;
    c->shift = draw(rng) % 2 ? 0 : draw(rng) % 8 * each;
    c->key = draw(rng);
    c->bad = draw(rng) % 3 || !c->count ? SIZE_MAX : draw(rng) % c->count;
    for (r = 0; r < size; r++) c->weight[r] = draw(rng) % 4 ? (double)(draw(rng) % 2000) * 1e-3 - 0.7 : 1.0;
    /* what is not finite counts, unless it has no weight; also one that only rounds to 0 */
    if (draw(rng) % 2) c->weight[size - 1] = draw(rng) % 2 || c->dtype == WEFT_F64 ? 0 : 1e-60;
    bytes = c->count * each;
    inputs = (unsigned char *)malloc(bytes * size + 1);
    c->expect = (unsigned char *)malloc(bytes + 1);
    for (r = 0; r < size; r++) {
        x[r] = inputs + r * bytes;
        vector_fill(inputs + r * bytes, c->count, c->dtype, c->key + r * 77777, r == size - 1 ? c->bad : SIZE_MAX);
    }
    /* as the library adds up in WEFT_ALGORITHM_DIRECT */
    c->nonfinite = weft_run_weighted_sum(weft_kernels_select(WEFT_ISA_SERIAL, 0), NULL, c->dtype, c->count, size,
                                         c->weight, x, c->expect);
    free(inputs);
}

static weft_status add_up(worker *w, double weight, const void *in, void *out, size_t n, weft_dtype t,
                          weft_request *q) {
    weft_status s;
    memset(q, 0, sizeof *q);
    q->bytes = UINT64_MAX;
    s = w->net.all_reduce(w->net.ctx, weight, in, out, n, t, q);
    return s == WEFT_OK ? finish(w, q) : s;
}

static void *sums(void *arg) {
    worker *w = (worker *)arg;
    uint32_t k, i;
    for (k = 0; k < case_count; k++) {
        const sum_case *c = &cases[k];
        size_t bytes = c->count * weft_dtype_bytes(c->dtype);
        vector in = vector_make(bytes, c->shift), out = c->in_place ? in : vector_make(bytes, c->shift);
        unsigned char *before = (unsigned char *)malloc(bytes + 1);
        weft_request q;
        vector_fill(in.at, c->count, c->dtype, c->key + w->rank * 77777,
                    w->rank == w->net.size - 1 ? c->bad : SIZE_MAX);
        memcpy(before, in.at, bytes);
        if (c->pace)
            for (i = (uint32_t)(draw(&w->seed) % 100); i; i--) sched_yield();
        NEED(add_up(w, c->weight[w->rank], in.at, out.at, c->count, c->dtype, &q) == WEFT_OK);
        NEED(memcmp(out.at, c->expect, bytes) == 0);
        NEED(q.bytes == c->nonfinite);
        NEED(vector_whole(&in) && vector_whole(&out));
        NEED(c->in_place || memcmp(in.at, before, bytes) == 0);
        w->a++;
        free(before);
        free(in.memory);
        if (!c->in_place) free(out.memory);
    }
    return NULL;
}

/* All types, sizes, alignments and weights; _i: how the workers wait. */
START_TEST(sums_have_the_named_bits) {
    uint32_t size, r, k, nonfinite = 0;
    for (size = 1; size <= 5; size++) {
        uint64_t rng = size * 100 + (uint64_t)_i;
        set_up(size, size);
        yields = _i == 0 ? 0 : 50;
        if (_i < 2) team.spins = 0;
        for (r = 0; r < size; r++) {
            if (_i == 1) team.sum[r].exceeds = 1;             /* results bypass the cache */
            if (_i == 2) team.sum[r].number = UINT32_MAX - 7; /* numbers go round */
        }
        case_count = CASES;
        for (k = 0; k < CASES; k++) {
            case_make(&cases[k], size, &rng, 150000);
            nonfinite += cases[k].nonfinite != 0;
        }
        for (r = 0; r < size; r++) start(r, sums);
        for (r = 0; r < size; r++) join(r);
        for (r = 0; r < size; r++) ck_assert_uint_eq(all[r].a, CASES);
        for (k = 0; k < CASES; k++) free(cases[k].expect);
        ck_assert_uint_eq(team.sleepers, 0);
        weft_threads_free(&team);
    }
    ck_assert_uint_gt(nonfinite, 3);
}
END_TEST

/* Many small ones, one after the other: nobody overtakes. */
static void *small_sums(void *arg) {
    worker *w = (worker *)arg;
    uint32_t i, k;
    for (i = 0; i < 4000; i++) {
        size_t n = i % 7 == 0 ? 40 : 1;
        float in[40], other[40], *out = i % 3 ? other : in, expect = 0;
        weft_request q;
        for (k = 0; k < 40; k++) in[k] = (float)(i * w->net.size + w->rank + k);
        NEED(add_up(w, 1.0, in, out, n, WEFT_F32, &q) == WEFT_OK);
        for (k = 0; k < w->net.size; k++) expect += (float)(i * w->net.size + k + (uint32_t)n - 1);
        NEED(out[n - 1] == expect);
        NEED(q.bytes == 0);
        w->a++;
    }
    return NULL;
}

START_TEST(sums_do_not_overtake) {
    uint32_t size, r;
    for (size = 1; size <= 5; size++) {
        set_up(size, size);
        yields = size % 2 ? 0 : 50;
        if (size == 3) team.spins = 0;
        for (r = 0; r < size; r++) start(r, small_sums);
        for (r = 0; r < size; r++) join(r);
        weft_threads_free(&team);
    }
}
END_TEST

/* Sums and messages at the same time; a message is news in the middle of a sum. */
static void *sums_and_messages(void *arg) {
    worker *w = (worker *)arg;
    uint32_t i, n = w->net.size;
    for (i = 0; i < 500; i++) {
        uint32_t value = i * n + w->rank, got = 0;
        float one = 1, all_of_them = 0;
        weft_request s, r, q;
        memset(&s, 0, sizeof s);
        memset(&r, 0, sizeof r);
        memset(&q, 0, sizeof q);
        NEED(w->net.recv(w->net.ctx, (w->rank + n - 1) % n, 7, &got, sizeof got, &r) == WEFT_OK);
        NEED(w->net.all_reduce(w->net.ctx, 1.0, &one, &all_of_them, 1, WEFT_F32, &q) == WEFT_OK);
        NEED(w->net.send(w->net.ctx, (w->rank + 1) % n, 7, &value, sizeof value, &s) == WEFT_OK);
        NEED(finish(w, i % 2 ? &q : &r) == WEFT_OK);
        NEED(finish(w, i % 2 ? &r : &q) == WEFT_OK);
        NEED(finish(w, &s) == WEFT_OK);
        NEED(got == i * n + (w->rank + n - 1) % n);
        NEED(all_of_them == (float)n);
    }
    return NULL;
}

START_TEST(sums_and_messages_mix) {
    uint32_t r;
    for (yields = 0; yields <= 50; yields += 50) {
        set_up(3, 0);
        team.spins = 0;
        for (r = 0; r < 3; r++) start(r, sums_and_messages);
        for (r = 0; r < 3; r++) join(r);
        weft_threads_free(&team);
    }
    yields = 50;
}
END_TEST

/* Workers that do not mean the same are told so, all of them, and nothing is written; then on. */
static void *mismatches(void *arg) {
    worker *w = (worker *)arg;
    uint32_t k;
    for (k = 0; k < 40; k++) {
        size_t n = k % 5 * 1000 + k % 2, mine = n + (w->rank == k % w->net.size ? 1 + k % 3 * 2000 : 0);
        weft_dtype t = k % 4 == 3 && w->rank == 1 ? WEFT_F16 : WEFT_F32;
        vector in = vector_make(mine * 4, 0), out = vector_make(mine * 4, 0);
        float x = 2, sum = 0;
        weft_request q;
        if (k % 4 == 3) mine = n;
        NEED(add_up(w, 1.0, in.at, out.at, mine, t, &q) == WEFT_ERR_MISMATCH);
        out.bytes = 0;
        NEED(vector_whole(&out));
        free(in.memory);
        free(out.memory);
        NEED(add_up(w, 0.5, &x, &sum, 1, WEFT_F32, &q) == WEFT_OK && sum == (float)w->net.size);
    }
    return NULL;
}

START_TEST(sums_must_match) {
    uint32_t size, r;
    for (size = 2; size <= 4; size++) {
        set_up(size, size);
        for (r = 0; r < size; r++) start(r, mismatches);
        for (r = 0; r < size; r++) join(r);
        weft_threads_free(&team);
    }
}
END_TEST

START_TEST(sums_check_their_arguments) {
    float x = 3, y = 0;
    weft_request q, second;
    weft_transport *t = &all[0].net;
    set_up(1, 0);
    memset(&q, 0, sizeof q);
    memset(&second, 0, sizeof second);
    ck_assert_int_eq(t->all_reduce(t->ctx, 1, &x, &y, 1, (weft_dtype)9, &q), WEFT_ERR_ARGUMENT);
    ck_assert_int_eq(t->all_reduce(t->ctx, 1, NULL, &y, 1, WEFT_F32, &q), WEFT_ERR_ARGUMENT);
    ck_assert_int_eq(t->all_reduce(t->ctx, 1, &x, NULL, 1, WEFT_F32, &q), WEFT_ERR_ARGUMENT);
    ck_assert_int_eq(t->all_reduce(t->ctx, 1, &x, &y, SIZE_MAX / 2, WEFT_F32, &q), WEFT_ERR_ARGUMENT);
    ck_assert_int_eq(t->test(t->ctx, &q), WEFT_ERR_ORDER);
    ck_assert_int_eq(t->all_reduce(t->ctx, 0.5, &x, &y, 1, WEFT_F32, &q), WEFT_OK);
    ck_assert_int_eq(t->all_reduce(t->ctx, 0.5, &x, &y, 1, WEFT_F32, &second), WEFT_ERR_CAPACITY);
    ck_assert_int_eq(t->test(t->ctx, &q), WEFT_OK);
    ck_assert_int_eq(t->test(t->ctx, &q), WEFT_ERR_ORDER);
    ck_assert(y == 1.5f);
    ck_assert_int_eq(t->all_reduce(t->ctx, 1, NULL, NULL, 0, WEFT_F32, &q), WEFT_OK);
    ck_assert_int_eq(t->test(t->ctx, &q), WEFT_OK);
    weft_threads_lose(&team, 0);
    ck_assert_int_eq(t->all_reduce(t->ctx, 1, &x, &y, 1, WEFT_F32, &q), WEFT_ERR_PEER_LOST);
    weft_threads_revive(&team, 0);
    ck_assert_int_eq(t->all_reduce(t->ctx, 1, &x, &y, 1, WEFT_F32, &q), WEFT_OK);
    ck_assert_int_eq(t->test(t->ctx, &q), WEFT_OK);
    ck_assert(y == 3.0f);
    weft_threads_free(&team);
}
END_TEST

/* Loss and cancel at any moment: whoever has an error in hand, or has cancelled, frees its memory at once (the address
 * sanitizer sees who still touches it). Then all meet, and the next sums are right. */
static pthread_barrier_t meeting;
enum { LARGE = 1 << 18 };
static int cut_by_cancel; /* otherwise the main thread loses a worker */
static size_t cut_count;
static uint32_t cancelled; /* atomic: somebody has; who begins only now would wait for ever */

static void *cut_short(void *arg) {
    worker *w = (worker *)arg;
    uint32_t i, k;
    for (i = 0; i < 60; i++) {
        float *in = (float *)malloc(LARGE * sizeof *in), *out = i % 2 ? in : (float *)malloc(LARGE * sizeof *out);
        float x = 1, sum;
        size_t n = cut_count;
        weft_request q;
        weft_status s;
        for (k = 0; k < LARGE; k++) in[k] = (float)(k % 1000);
        pthread_barrier_wait(&meeting); /* the main thread is told, too */
        memset(&q, 0, sizeof q);
        s = w->net.all_reduce(w->net.ctx, 1.0, in, out, n, WEFT_F32, &q);
        if (s == WEFT_OK && cut_by_cancel) {
            uint64_t tests = w->rank == i % w->net.size ? draw(&w->seed) % 4 : UINT64_MAX;
            if (tests < 4)
                for (k = (uint32_t)(draw(&w->seed) % 2000); k; k--) weft_threads_pause();
            do {
                s = w->net.test(w->net.ctx, &q);
                if (s == WEFT_AGAIN && tests == UINT64_MAX) w->net.wait(w->net.ctx, w->net.now(w->net.ctx) + 1000000);
            } while (s == WEFT_AGAIN && tests-- && !weft_threads_look(&cancelled));
            if (s == WEFT_AGAIN) {
                w->net.cancel(w->net.ctx, &q);
                weft_threads_show(&cancelled, 1);
                s = WEFT_STALL;
                w->c++;
            }
        } else if (s == WEFT_OK) {
            s = finish(w, &q);
        }
        NEED(s == WEFT_OK || s == WEFT_STALL || s == (cut_by_cancel ? WEFT_ERR_TRANSPORT : WEFT_ERR_PEER_LOST));
        for (k = 0; s == WEFT_OK && k < n; k++) NEED(out[k] == (float)(k % 1000 * w->net.size));
        if (s == WEFT_OK) w->a++;
        else if (s < 0) w->b++;
        memset(in, 0, LARGE * sizeof *in);
        if (out != in) free(out);
        free(in);
        pthread_barrier_wait(&meeting);
        /* the main thread makes all alive again */
        pthread_barrier_wait(&meeting);
        NEED(add_up(w, 1.0, &x, &sum, 1, WEFT_F32, &q) == WEFT_OK && sum == (float)w->net.size);
    }
    return NULL;
}

/* _i: 0, 1: losses of small and large sums; 2, 3: cancels */
START_TEST(sums_are_cut_short) {
    uint32_t size, r, i;
    uint64_t over = 0, failed = 0, given_up = 0, rng = 5;
    cut_by_cancel = _i / 2;
    cut_count = _i % 2 ? LARGE : 30;
    for (size = 2; size <= 4; size++) {
        set_up(size, size);
        yields = size == 3 ? 0 : 50;
        ck_assert_int_eq(pthread_barrier_init(&meeting, NULL, size + 1), 0);
        for (r = 0; r < size; r++) start(r, cut_short);
        for (i = 0; i < 60; i++) {
            volatile uint64_t k;
            pthread_barrier_wait(&meeting);
            for (k = draw(&rng) % (_i % 2 ? 200000 : 3000); k; k--) continue;
            if (!cut_by_cancel) weft_threads_lose(&team, i % size);
            pthread_barrier_wait(&meeting);
            if (!cut_by_cancel) weft_threads_revive(&team, i % size);
            cancelled = 0;
            pthread_barrier_wait(&meeting);
        }
        for (r = 0; r < size; r++) {
            join(r);
            over += all[r].a;
            failed += all[r].b;
            given_up += all[r].c;
        }
        pthread_barrier_destroy(&meeting);
        weft_threads_free(&team);
    }
    ck_assert_uint_gt(failed, 0);
    if (cut_by_cancel) ck_assert_uint_gt(given_up, 0);
    ck_assert_uint_eq(over + failed + given_up, 60 * (2 + 3 + 4));
}
END_TEST

/* Everybody waits for worker 0, without limit, and it never comes. */
static void *waits_for_a_sum(void *arg) {
    worker *w = (worker *)arg;
    float x[2000], y[2000];
    weft_request q;
    memset(x, 0, sizeof x);
    NEED(add_up(w, 1.0, x, y, w->seed % 2 ? 2000 : 1, WEFT_F32, &q) == WEFT_ERR_PEER_LOST);
    NEED(add_up(w, 1.0, x, y, 1, WEFT_F32, &q) == WEFT_ERR_PEER_LOST);
    return NULL;
}

START_TEST(loss_wakes_who_waits_for_a_sum) {
    uint32_t i, r;
    for (i = 0; i < 60; i++) {
        volatile uint32_t k;
        set_up(4, i);
        yields = i % 2 ? 0 : 50;
        for (r = 1; r < 4; r++) {
            all[r].seed = i / 2;
            start(r, waits_for_a_sum);
        }
        for (k = 0; k < i * 5000; k++) continue;
        weft_threads_lose(&team, i % 3 ? 0 : 2);
        for (r = 1; r < 4; r++) join(r);
        ck_assert_uint_eq(team.sleepers, 0);
        weft_threads_free(&team);
    }
}
END_TEST

/* ---- the library over it ---- */

#define TENSORS 5
typedef struct trained {
    weft_tensor tensor[TENSORS];
    weft_tensors x;
    unsigned char *memory;
} trained;

static const size_t element_count[TENSORS] = {3000, 1, 0, 20001, 130};
static const weft_dtype element_type[TENSORS] = {WEFT_F32, WEFT_F64, WEFT_F32, WEFT_BF16, WEFT_F16};
static int by_host, lossy;
static uint64_t trained_hash[2][MOST];

static void trained_make(trained *t, uint64_t key) {
    size_t i, bytes = 0;
    for (i = 0; i < TENSORS; i++) bytes += element_count[i] * 8 + 8;
    t->memory = (unsigned char *)malloc(bytes);
    for (bytes = i = 0; i < TENSORS; i++) {
        t->tensor[i].data = t->memory + bytes;
        t->tensor[i].count = element_count[i];
        t->tensor[i].dtype = element_type[i];
        vector_fill(t->memory + bytes, element_count[i], element_type[i], key + i * 999983, SIZE_MAX);
        bytes += element_count[i] * 8 + 8;
    }
    t->x.tensor = t->tensor;
    t->x.count = TENSORS;
}

static weft_status collect(worker *w, weft_collective *c, weft_operation op, const double *weight) {
    weft_status s = weft_collective_begin(c, op, weight, 0);
    while (s == WEFT_AGAIN) {
        w->net.wait(w->net.ctx, UINT64_MAX);
        s = weft_collective_poll(c);
    }
    return s;
}

static void *collects(void *arg) {
    worker *w = (worker *)arg;
    trained t;
    weft_collective_desc d;
    weft_collective *c;
    size_t bytes;
    void *memory;
    double weight[MOST];
    uint32_t i, r, survivors[MOST];
    trained_make(&t, w->rank);
    memset(&d, 0, sizeof d);
    d.struct_size = sizeof d;
    d.tensors = t.x;
    d.transport = &w->net;
    d.algorithm = WEFT_ALGORITHM_DIRECT;
    d.host_collectives = by_host;
    bytes = weft_collective_memory(&d, NULL);
    memory = malloc(bytes);
    NEED(weft_collective_init(&c, &d, memory, bytes, NULL) == WEFT_OK);
    for (i = 0; i < 6; i++) {
        /* sums of ever the same would leave the range of f16 */
        for (r = 0; r < w->net.size; r++) weight[r] = r == i ? 0 : 0.3 / (double)(1 + (r + i) % 3);
        NEED(collect(w, c, WEFT_OP_ALL_REDUCE, i == 5 ? NULL : weight) == WEFT_OK);
    }
    if (lossy) {
        /* worker 0 is lost in the middle of one; the others go on without it, and so without the host's sums */
        weft_view v;
        weft_status s;
        memset(&v, 0, sizeof v);
        v.struct_size = sizeof v;
        v.epoch = 1;
        v.members = survivors;
        for (r = 1; r < w->net.size; r++) survivors[v.count++] = r;
        pthread_barrier_wait(&meeting);
        if (w->rank == 0) {
            weft_collective_begin(c, WEFT_OP_ALL_REDUCE, weight, 0);
            weft_threads_lose(w->team, 0);
            weft_collective_close(c);
        } else {
            s = collect(w, c, WEFT_OP_ALL_REDUCE, weight);
            NEED(s == WEFT_OK || s == WEFT_ERR_PEER_LOST);
            NEED(s == WEFT_OK || weft_collective_detail(c)->peer == 0);
            s = weft_collective_regroup(c, &v);
            while (s == WEFT_AGAIN) {
                w->net.wait(w->net.ctx, UINT64_MAX);
                s = weft_collective_poll(c);
            }
            NEED(s == WEFT_OK);
            vector_fill(t.memory, element_count[0], WEFT_F32, w->rank, SIZE_MAX);
            NEED(collect(w, c, WEFT_OP_ALL_REDUCE, weight) == WEFT_OK);
            weft_collective_close(c);
        }
    } else {
        /* not finite: refused by all, tensors untouched */
        uint64_t before;
        if (w->rank == 0) ((float *)t.tensor[0].data)[77] = INFINITY;
        before = weft_tensors_hash(weft_kernels_select(WEFT_ISA_SERIAL, 0), NULL, &t.x, NULL, NULL);
        NEED(collect(w, c, WEFT_OP_ALL_REDUCE, NULL) == WEFT_ERR_NONFINITE);
        NEED(before == weft_tensors_hash(weft_kernels_select(WEFT_ISA_SERIAL, 0), NULL, &t.x, NULL, NULL));
        if (w->rank == 0) ((float *)t.tensor[0].data)[77] = 1.0f;
        weight[0] = 1;
        for (r = 1; r < w->net.size; r++) weight[r] = 0;
        NEED(collect(w, c, WEFT_OP_ALL_REDUCE, weight) == WEFT_OK);
        weft_collective_close(c);
    }
    trained_hash[by_host][w->rank] =
        weft_tensors_hash(weft_kernels_select(WEFT_ISA_SERIAL, 0), NULL, &t.x, NULL, NULL);
    free(memory);
    free(t.memory);
    return NULL;
}

/* The sums of the host are those of the library, bit for bit. */
START_TEST(collectives_by_the_host) {
    uint32_t size, r;
    for (size = 2; size <= 4; size++) {
        lossy = 0;
        for (by_host = 0; by_host < 2; by_host++) {
            set_up(size, size);
            for (r = 0; r < size; r++) start(r, collects);
            for (r = 0; r < size; r++) join(r);
            weft_threads_free(&team);
        }
        for (r = 0; r < size; r++) {
            ck_assert_uint_eq(trained_hash[0][r], trained_hash[1][r]);
            ck_assert_uint_eq(trained_hash[1][r], trained_hash[1][0]);
        }
    }
}
END_TEST

START_TEST(collectives_by_the_host_and_loss) {
    uint32_t i, r;
    lossy = by_host = 1;
    ck_assert_int_eq(pthread_barrier_init(&meeting, NULL, 4), 0);
    for (i = 0; i < 30; i++) {
        set_up(4, i);
        for (r = 0; r < 4; r++) start(r, collects);
        for (r = 0; r < 4; r++) join(r);
        for (r = 2; r < 4; r++) ck_assert_uint_eq(trained_hash[1][r], trained_hash[1][1]);
        weft_threads_free(&team);
    }
    pthread_barrier_destroy(&meeting);
}
END_TEST

static weft_status waited(grawa *g, weft_status s) {
    return s == WEFT_AGAIN ? grawa_wait(g) : s;
}

static void *trains(void *arg) {
    worker *w = (worker *)arg;
    trained x, gradient;
    grawa_desc d;
    grawa *g;
    size_t bytes;
    void *memory;
    uint32_t i;
    trained_make(&x, w->rank);
    trained_make(&gradient, w->rank + 10);
    memset(&d, 0, sizeof d);
    d.struct_size = sizeof d;
    d.params = x.x;
    d.transport = &w->net;
    d.initial = GRAWA_INITIAL_AVERAGE;
    d.weighting = GRAWA_BY_LAYER;
    d.algorithm = WEFT_ALGORITHM_DIRECT;
    d.proximal = 0.1;
    d.period_steps = 2;
    d.check_replicas = 1;
    d.host_collectives = by_host;
    bytes = grawa_memory(&d, NULL);
    memory = malloc(bytes);
    NEED(grawa_init(&g, &d, memory, bytes) == WEFT_OK);
    NEED(waited(g, grawa_start(g)) == WEFT_OK);
    for (i = 0; i < 10; i++) {
        size_t k;
        float *p = (float *)x.tensor[0].data, *q = (float *)gradient.tensor[0].data;
        for (k = 0; k < x.tensor[0].count; k++) p[k] -= 0.01f * q[k];
        NEED(waited(g, grawa_step(g, &gradient.x)) == WEFT_OK);
    }
    NEED(waited(g, grawa_average(g, GRAWA_CENTER, &x.x, NULL)) == WEFT_OK);
    NEED(waited(g, grawa_leave(g)) == WEFT_OK);
    grawa_close(g);
    trained_hash[by_host][w->rank] =
        weft_tensors_hash(weft_kernels_select(WEFT_ISA_SERIAL, 0), NULL, &x.x, NULL, NULL);
    free(memory);
    free(x.memory);
    free(gradient.memory);
    return NULL;
}

START_TEST(training_by_the_host) {
    uint32_t r;
    for (by_host = 0; by_host < 2; by_host++) {
        set_up(3, 1);
        for (r = 0; r < 3; r++) start(r, trains);
        for (r = 0; r < 3; r++) join(r);
        weft_threads_free(&team);
    }
    for (r = 0; r < 3; r++) {
        ck_assert_uint_eq(trained_hash[0][r], trained_hash[1][r]);
        ck_assert_uint_eq(trained_hash[1][r], trained_hash[1][0]);
    }
}
END_TEST

int main(void) {
    Suite *s = suite_create("threads");
    TCase *t = tcase_create("traffic");
    SRunner *runner;
    int failed;
    tcase_set_timeout(t, 60);
    tcase_add_test(t, every_byte_arrives);
    tcase_add_test(t, no_wake_up_is_lost);
    tcase_add_test(t, wait_remembers);
    tcase_add_test(t, wait_ends_at_its_time);
    tcase_add_test(t, a_send_stays_pending_until_received);
    suite_add_tcase(s, t);
    t = tcase_create("cancel and loss");
    tcase_set_timeout(t, 60);
    tcase_add_test(t, cancels_race_with_copies);
    tcase_add_test(t, loss_wakes_who_waits);
    tcase_add_test(t, copies_are_waited_for);
    tcase_add_test(t, copies_into_are_waited_for);
    tcase_add_test(t, revived_begins_anew);
    suite_add_tcase(s, t);
    t = tcase_create("sums");
    tcase_set_timeout(t, 60);
    tcase_add_loop_test(t, sums_have_the_named_bits, 0, 3);
    tcase_add_test(t, sums_do_not_overtake);
    tcase_add_test(t, sums_and_messages_mix);
    tcase_add_test(t, sums_must_match);
    tcase_add_test(t, sums_check_their_arguments);
    tcase_add_loop_test(t, sums_are_cut_short, 0, 4);
    tcase_add_test(t, loss_wakes_who_waits_for_a_sum);
    tcase_add_test(t, collectives_by_the_host);
    tcase_add_test(t, collectives_by_the_host_and_loss);
    tcase_add_test(t, training_by_the_host);
    suite_add_tcase(s, t);
    t = tcase_create("bounds");
    tcase_add_test(t, requests_are_bounded);
    tcase_add_test(t, illegal_arguments);
    suite_add_tcase(s, t);
    runner = srunner_create(s);
    srunner_run_all(runner, CK_NORMAL);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
