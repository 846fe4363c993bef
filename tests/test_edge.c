/* SPDX-License-Identifier: MIT
 * test_edge.c: what examples/edge does on two boards, in virtual time: two workers of dsgd_aau.h over weft_link.h with
 * frames of 51 bytes, one of which has its line switched off for nine tenths of the time. Slow is not dead: nobody is
 * lost, the one that is awake goes on, and the sleeper takes part. */
#define DSGD_AAU_IMPLEMENTATION
#include "dsgd_aau.h"
#include "weft_link.h"
#include "../examples/edge/preset.h"
#include <check.h>
#include <stdlib.h>
#include <string.h>

enum { MS = 1000000, D = 300, MOST_FRAMES = 64, AWAKE_MS = 200, PERIOD_MS = 2000 };

typedef struct flying {
    unsigned char byte[EDGE_FRAME];
    size_t bytes;
    uint64_t at;
} flying;

/* A worker, its end of the line, and what is on its way to it. */
typedef struct node {
    struct pair *pair;
    uint32_t rank;
    float model[D];
    weft_tensor t;
    weft_transport net;
    weft_frames *frames;
    dsgd_aau *x;
    void *memory, *link_memory;
    flying come[MOST_FRAMES];
    uint32_t missed, times_lost, began;
    int computing; /* milliseconds until its step is done */
} node;

typedef struct pair {
    uint64_t now;
    weft_graph graph;
    unsigned char graph_memory[WEFT_GRAPH_BYTES(2, 1)];
    node node[2];
    int sleeps; /* node 1 does */
} pair;

static int asleep(const pair *p, uint32_t rank) {
    return p->sleeps && rank == 1 && p->now / MS % PERIOD_MS >= AWAKE_MS;
}

static uint64_t pair_now(void *ctx) {
    return ((node *)ctx)->pair->now;
}

/* A frame takes 5 ms; one that comes to a line that is off is gone. */
static weft_status pair_send(void *ctx, uint32_t peer, const void *data, size_t bytes) {
    node *to = &((node *)ctx)->pair->node[peer];
    int i;
    ck_assert_uint_le(bytes, EDGE_FRAME);
    for (i = 0; i < MOST_FRAMES; i++)
        if (!to->come[i].bytes) {
            memcpy(to->come[i].byte, data, bytes);
            to->come[i].bytes = bytes;
            to->come[i].at = to->pair->now + 5 * MS;
            return WEFT_OK;
        }
    return WEFT_AGAIN;
}

static void pair_open(pair *p, int sleeps, uint32_t tries) {
    uint32_t i;
    memset(p, 0, sizeof *p);
    p->sleeps = sleeps;
    p->now = MS;
    ck_assert_int_eq(weft_graph_complete(&p->graph, 2, p->graph_memory, sizeof p->graph_memory), WEFT_OK);
    for (i = 0; i < 2; i++) {
        node *n = &p->node[i];
        weft_frames_desc f;
        memset(&f, 0, sizeof f);
        n->pair = p;
        n->rank = i;
        edge_frames(&f, i, 2);
        if (tries) f.tries = tries;
        f.incarnation = 1 + i;
        f.send = pair_send;
        f.now = pair_now;
        f.ctx = n;
        n->link_memory = malloc(weft_frames_memory(&f));
        n->frames = weft_frames_init(&f, n->link_memory, weft_frames_memory(&f), &n->net);
        ck_assert_ptr_nonnull(n->frames);
    }
}

static void node_begin(node *n) {
    dsgd_aau_desc d;
    size_t bytes, k;
    for (k = 0; k < D; k++) n->model[k] = 0.5f;
    memset(&d, 0, sizeof d);
    n->t.data = n->model;
    n->t.count = D;
    n->t.dtype = WEFT_F32;
    d.struct_size = sizeof d;
    d.params.tensor = &n->t;
    d.params.count = 1;
    d.transport = &n->net;
    d.graph = &n->pair->graph;
    edge_dsgd_aau(&d);
    if (n->pair->sleeps && n->rank == 0) d.patience_ns = 50 * MS;
    bytes = dsgd_aau_memory(&d, NULL);
    n->memory = malloc(bytes);
    ck_assert_int_eq(dsgd_aau_init(&n->x, &d, n->memory, bytes), WEFT_OK);
    n->began = 1;
    n->computing = 10;
}

/* A millisecond of one worker. */
static void node_run(node *n) {
    pair *p = n->pair;
    uint32_t rank;
    int i, up;
    size_t k;
    for (i = 0; i < MOST_FRAMES; i++) {
        if (!n->come[i].bytes || n->come[i].at > p->now) continue;
        if (asleep(p, n->rank))
            n->missed++;
        else
            weft_frames_arrived(n->frames, 1 - n->rank, n->come[i].byte, n->come[i].bytes);
        n->come[i].bytes = 0;
    }
    if (asleep(p, n->rank)) return;
    weft_frames_poll(n->frames);
    while (n->x && weft_frames_news(n->frames, &rank, &up)) {
        n->times_lost += !up;
        (void)(up ? dsgd_aau_peer_up(n->x, rank) : dsgd_aau_peer_lost(n->x, rank));
    }
    if (!n->x) {
        if (weft_frames_is_up(n->frames, 1 - n->rank)) node_begin(n);
        return;
    }
    if (n->computing && --n->computing == 0) { /* a gradient step towards its own number */
        for (k = 0; k < D; k++) n->model[k] += 0.1f * ((float)(2 * n->rank) - n->model[k]);
        ck_assert_int_ge(dsgd_aau_step(n->x), 0);
    } else {
        const weft_status s = dsgd_aau_poll(n->x);
        ck_assert_int_ge(s, 0);
        if (s == WEFT_OK && !n->computing) n->computing = 10;
    }
}

static void pair_run(pair *p, int ms) {
    while (ms--) {
        p->now += MS;
        node_run(&p->node[0]);
        node_run(&p->node[1]);
    }
}

static void pair_close(pair *p) {
    int i;
    for (i = 0; i < 2; i++) {
        if (p->node[i].x) dsgd_aau_close(p->node[i].x);
        free(p->node[i].memory);
        free(p->node[i].link_memory);
    }
}

static dsgd_aau_stats_t stats_of(const node *n) {
    dsgd_aau_stats_t s;
    dsgd_aau_stats(n->x, &s);
    return s;
}

START_TEST(awake) {
    pair *p = (pair *)malloc(sizeof *p);
    dsgd_aau_stats_t s[2];
    pair_open(p, 0, 0);
    pair_run(p, 20000);
    s[0] = stats_of(&p->node[0]);
    s[1] = stats_of(&p->node[1]);
    ck_assert_uint_gt(s[0].led + s[0].followed, 20);
    ck_assert_uint_eq(s[0].alone + s[1].alone, 0); /* with one other worker there is no choice */
    ck_assert_uint_eq(s[0].lost + s[1].lost, 0);
    ck_assert_uint_eq(p->node[0].missed + p->node[1].missed, 0);
    pair_close(p);
    free(p);
}
END_TEST

START_TEST(sleeper) {
    pair *p = (pair *)malloc(sizeof *p);
    dsgd_aau_stats_t s[2];
    pair_open(p, 1, 0);
    pair_run(p, 60000);
    ck_assert(p->node[0].x && p->node[1].x);
    s[0] = stats_of(&p->node[0]);
    s[1] = stats_of(&p->node[1]);
    /* it has slept, and frames were lost by that and sent again */
    ck_assert_uint_gt(p->node[1].missed, 100);
    ck_assert_uint_gt(p->node[0].frames->frames_again, 100);
    /* nobody took it for dead, neither the line nor the algorithm */
    ck_assert_uint_eq(p->node[0].times_lost + p->node[1].times_lost, 0);
    ck_assert_uint_eq(s[0].lost + s[1].lost + s[0].faults + s[1].faults, 0);
    /* it takes part, in most of its own steps; and the other one does not wait for it */
    ck_assert_uint_ge(s[1].led + s[1].followed, 5);
    ck_assert_uint_eq(s[1].alone, 0);
    ck_assert_uint_gt(s[0].alone, 20);
    ck_assert_uint_gt(s[0].steps, 3 * s[1].steps);
    pair_close(p);
    free(p);
}
END_TEST

/* With a line that gives up before the sleeper wakes, it is lost, and comes back: the test above would see that. */
START_TEST(impatient) {
    pair *p = (pair *)malloc(sizeof *p);
    pair_open(p, 1, 5);
    pair_run(p, 60000);
    ck_assert_uint_gt(p->node[0].times_lost, 3);
    pair_close(p);
    free(p);
}
END_TEST

int main(void) {
    Suite *s = suite_create("edge");
    TCase *t = tcase_create("edge");
    SRunner *r = srunner_create(s);
    int failed;
    tcase_set_timeout(t, 60);
    tcase_add_test(t, awake);
    tcase_add_test(t, sleeper);
    tcase_add_test(t, impatient);
    suite_add_tcase(s, t);
    srunner_run_all(r, CK_ENV);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
