/* SPDX-License-Identifier: MIT
 * The threads transport: traffic checked byte for byte, cancels and losses that race with copies, no lost wake-ups. To
 * be run under a thread sanitizer too. */
#define GRAWA_IMPLEMENTATION
#include "../grawa.h"

#include <pthread.h>
#include <sched.h>

/* Copies go through here, so that a test can step in between the two halves of one. */
static void copy(void *into, const void *from, size_t bytes);
#define WEFT_THREADS_COPY copy
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
