/* SPDX-License-Identifier: MIT
 * worker.c: one worker of a job whose workers run on different machines (tests/mixed/run). It trains a small network by
 * each of the rules, over TCP, and prints after each round a hash of what it then holds.
 *
 *     WEFT_RANK=0 WEFT_PEERS=127.0.0.1:7000,127.0.0.1:7001,127.0.0.1:7002 ./worker
 *     ./worker ports 3                                    addresses that nobody listens at, for WEFT_PEERS
 *
 * Lines: "machine RANK ORDER BITS KERNELS"; "same RULE ROUND HASH", which must be equal on all workers; "own RULE ROUND
 * RANK HASH", which must be what the same rank has on any other machine; "loss RULE RANK BEFORE AFTER".
 *
 * All of it is +, -, * and comparisons of floats that are made of integers: nothing of a C library that may round in
 * its own way. Built with -ffp-contract=off, it computes the same bits everywhere. */
#define _POSIX_C_SOURCE 200809L
#define SUBSPACE_IMPLEMENTATION
#include "subspace.h"
#define HPSGD_IMPLEMENTATION
#include "hpsgd.h"
#define GRAWA_IMPLEMENTATION
#include "grawa.h"
#define DSGD_AAU_IMPLEMENTATION
#include "dsgd_aau.h"
#define SADDLE_IMPLEMENTATION
#include "saddle.h"
#include "train/ports.h"
#include "weft_tcp.h"

#include <stdio.h>

enum { WORKERS = 3, INPUTS = 8, HIDDEN = 24, SAMPLES = 16, ROUNDS = 12, TENSORS = 3 };
enum { W1 = INPUTS * HIDDEN, B1 = HIDDEN, W2 = HIDDEN, SIZE = W1 + B1 + W2 };

static weft_tcp tcp;
static weft_transport net;
static float model[SIZE], gradient[SIZE];
static float input[SAMPLES][INPUTS], target[SAMPLES]; /* this worker's own */

static void check(weft_status s, const char *what) {
    if (s >= 0) return;
    fprintf(stderr, "worker %u: %s: %s\n", (unsigned)net.rank, what, weft_strerror(s));
    exit(EXIT_FAILURE);
}

/* ---- data and model ---- */

static uint32_t state;
/* A multiple of 1/16 from -1 to 15/16. */
static float draw(void) {
    state = state * 1664525u + 1013904223u;
    return (float)((int)(state >> 27) - 16) / 16.0f;
}

static void make_samples(uint32_t rank) {
    int i, j;
    state = 17u + 1000u * rank;
    for (i = 0; i < SAMPLES; i++) {
        for (j = 0; j < INPUTS; j++) input[i][j] = draw();
        target[i] = input[i][0] * input[i][1] + (input[i][2] > 0 ? input[i][2] : -0.5f * input[i][3]);
    }
}

/* The same on all workers. */
static void begin(void) {
    int i;
    state = 4711u;
    for (i = 0; i < SIZE; i++) model[i] = 0.25f * draw();
}

/* The loss on this worker's samples; its gradient at w into g, if that is not NULL. */
static float look(const float *w, float *g) {
    const float *w1 = w, *b1 = w + W1, *w2 = w + W1 + B1;
    float loss = 0.0f;
    int i, j, k;
    if (g)
        for (i = 0; i < SIZE; i++) g[i] = 0.0f;
    for (i = 0; i < SAMPLES; i++) {
        float h[HIDDEN], y = 0.0f, d;
        for (j = 0; j < HIDDEN; j++) {
            h[j] = b1[j];
            for (k = 0; k < INPUTS; k++) h[j] += w1[j * INPUTS + k] * input[i][k];
            if (!(h[j] > 0.0f)) h[j] = 0.0f;
            y += w2[j] * h[j];
        }
        d = (y - target[i]) * (1.0f / SAMPLES);
        loss += d * d * (0.5f * SAMPLES);
        for (j = 0; g && j < HIDDEN; j++) {
            const float e = h[j] > 0.0f ? d * w2[j] : 0.0f;
            g[W1 + B1 + j] += d * h[j];
            g[W1 + j] += e;
            for (k = 0; k < INPUTS; k++) g[j * INPUTS + k] += e * input[i][k];
        }
    }
    return loss;
}

static void descend(float rate) {
    int i;
    for (i = 0; i < SIZE; i++) model[i] -= rate * gradient[i];
}

/* FNV-1a over bit patterns as numbers, not as bytes: the same on machines of any byte order. */
static uint64_t hash_of(const float *x) {
    uint64_t h = UINT64_C(0xCBF29CE484222325);
    int i;
    for (i = 0; i < SIZE; i++) {
        uint32_t bits;
        memcpy(&bits, &x[i], 4);
        h = (h ^ bits) * UINT64_C(0x100000001B3);
    }
    return h;
}

static void same(const char *rule, int round, const float *x) {
    printf("same %s %d %016llx\n", rule, round, (unsigned long long)hash_of(x));
}

static void own(const char *rule, int round, const float *x) {
    printf("own %s %d %u %016llx\n", rule, round, (unsigned)net.rank, (unsigned long long)hash_of(x));
}

/* It has learnt something, or this has been no training. */
static void learnt(const char *rule, float before) {
    const float after = look(model, NULL);
    printf("loss %s %u %.9g %.9g\n", rule, (unsigned)net.rank, (double)before, (double)after);
    if (after < 0.9f * before) return;
    fprintf(stderr, "worker %u: %s: has not learnt\n", (unsigned)net.rank, rule);
    exit(EXIT_FAILURE);
}

/* Three tensors of parameters, gradients, or anything like them; `t` holds them. */
static weft_tensors tensors(weft_tensor *t, float *x) {
    weft_tensors all;
    memset(t, 0, TENSORS * sizeof *t);
    t[0].data = x, t[0].count = W1, t[0].dtype = WEFT_F32;
    t[1].data = x + W1, t[1].count = B1, t[1].dtype = WEFT_F32;
    t[2].data = x + W1 + B1, t[2].count = W2, t[2].dtype = WEFT_F32;
    memset(&all, 0, sizeof all);
    all.tensor = t;
    all.count = TENSORS;
    return all;
}

static void *memory(size_t bytes) {
    void *m = malloc(bytes);
    if (m && bytes) return m;
    fprintf(stderr, "no memory\n");
    exit(EXIT_FAILURE);
}

static const uint64_t MOST = UINT64_C(60000000000); /* without progress: an error rather than a test that hangs */

/* ---- the rules, each on a channel of its own ---- */

/* Aggregates of gradients: all workers take the same steps. */
static void train_subspace(const char *name, subspace_rule rule, uint32_t channel) {
    weft_tensor t[TENSORS];
    subspace_desc d;
    subspace *a;
    size_t bytes;
    void *m;
    float before;
    int round;
    begin();
    before = look(model, NULL);
    memset(&d, 0, sizeof d);
    d.struct_size = sizeof d;
    d.gradients = tensors(t, gradient);
    d.transport = &net;
    d.channel = channel;
    d.rule = rule;
    d.momentum = 0.5;
    d.timeout_ns = MOST;
    bytes = subspace_memory(&d, NULL);
    m = memory(bytes);
    check(subspace_init(&a, &d, m, bytes), name);
    for (round = 1; round <= ROUNDS; round++) {
        look(model, gradient);
        check(subspace_aggregate(a), name);
        descend(0.25f);
        same(name, round, model);
    }
    check(subspace_leave(a), name);
    check(subspace_wait(a), name);
    subspace_close(a);
    free(m);
    learnt(name, before);
}

/* Sums of changes while training goes on. The header itself compares the replicas every round; between two drains each
 * worker is ahead of them by steps of its own. */
static void train_hpsgd(uint32_t channel) {
    weft_tensor t[TENSORS];
    hpsgd_desc d;
    hpsgd_stats_t stats;
    hpsgd *x;
    size_t bytes;
    void *m;
    float before;
    int round, step;
    begin();
    before = look(model, NULL);
    memset(&d, 0, sizeof d);
    d.struct_size = sizeof d;
    d.params = tensors(t, model);
    d.transport = &net;
    d.channel = channel;
    d.mode = HPSGD_FIXED;
    d.max_steps = 2;
    d.carry = 0.5;
    d.check_replicas = 1;
    d.timeout_ns = MOST;
    bytes = hpsgd_memory(&d, NULL);
    m = memory(bytes);
    check(hpsgd_init(&x, &d, m, bytes), "hpsgd");
    for (round = 1; round <= ROUNDS; round++) {
        for (step = 0; step < 6; step++) {
            weft_status s;
            look(model, gradient);
            descend(0.05f);
            s = hpsgd_step(x);
            check(s == WEFT_STALL ? hpsgd_wait(x) : s, "hpsgd");
        }
        own("hpsgd", round, model);
        check(hpsgd_drain(x), "hpsgd");
        check(hpsgd_wait(x), "hpsgd");
        same("hpsgd", round, model);
    }
    memset(&stats, 0, sizeof stats);
    hpsgd_stats(x, &stats);
    if (stats.rounds <= ROUNDS) check(WEFT_ERR_ORDER, "hpsgd: rounds between drains");
    check(hpsgd_leave(x), "hpsgd");
    check(hpsgd_wait(x), "hpsgd");
    hpsgd_close(x);
    free(m);
    learnt("hpsgd", before);
}

/* Models that are pulled towards a center, which is the same for all. */
static void train_grawa(const char *name, grawa_weighting weighting, uint32_t channel) {
    static float center[SIZE];
    weft_tensor t[TENSORS], u[TENSORS], v[TENSORS];
    const weft_tensors gradients = tensors(u, gradient), into = tensors(v, center);
    grawa_desc d;
    grawa *x;
    size_t bytes;
    void *m;
    float before;
    int round, step;
    begin();
    before = look(model, NULL);
    memset(&d, 0, sizeof d);
    d.struct_size = sizeof d;
    d.params = tensors(t, model);
    d.transport = &net;
    d.channel = channel;
    d.weighting = weighting;
    d.period_steps = 3;
    d.check_replicas = 1;
    d.timeout_ns = MOST;
    bytes = grawa_memory(&d, NULL);
    m = memory(bytes);
    check(grawa_init(&x, &d, m, bytes), name);
    for (round = 1; round <= ROUNDS; round++) {
        for (step = 0; step < 3; step++) {
            weft_status s;
            look(model, gradient);
            descend(0.125f);
            s = grawa_step(x, &gradients);
            check(s == WEFT_AGAIN ? grawa_wait(x) : s, name);
        }
        own(name, round, model);
        check(grawa_average(x, GRAWA_CENTER, &into, NULL), name);
        check(grawa_wait(x), name);
        same(name, round, center);
    }
    check(grawa_leave(x), name);
    check(grawa_wait(x), name);
    grawa_close(x);
    free(m);
    learnt(name, before);
}

/* Models and cross-gradients in eight bits a number, between neighbours. */
static void train_saddle(const char *name, saddle_variant variant, uint32_t channel) {
    static unsigned char room[WEFT_GRAPH_BYTES(WORKERS, WORKERS)];
    weft_graph ring;
    weft_tensor t[TENSORS];
    saddle_desc d;
    saddle *x;
    size_t bytes;
    void *m;
    float before;
    int round;
    begin();
    before = look(model, NULL);
    check(weft_graph_ring(&ring, WORKERS, room, sizeof room), name);
    memset(&d, 0, sizeof d);
    d.struct_size = sizeof d;
    d.params = tensors(t, model);
    d.transport = &net;
    d.channel = channel;
    d.graph = &ring;
    d.variant = variant;
    d.learning_rate = 0.0625;
    d.rho = 0.03125;
    d.codec = weft_codec_q8();
    d.timeout_ns = MOST;
    bytes = saddle_memory(&d, NULL);
    m = memory(bytes);
    check(saddle_init(&x, &d, m, bytes), name);
    for (round = 1; round <= ROUNDS; round++) {
        weft_status s;
        saddle_want want;
        while ((s = saddle_wait(x, &want)) == WEFT_WANT_GRADIENT) {
            /* the tensors of what is wanted need not lie beside each other */
            float at[SIZE], g[SIZE], *from = at;
            size_t i;
            for (i = 0; i < TENSORS; from += want.at.tensor[i++].count)
                memcpy(from, want.at.tensor[i].data, want.at.tensor[i].count * sizeof *from);
            look(at, g);
            for (i = 0, from = g; i < TENSORS; from += want.into.tensor[i++].count)
                memcpy(want.into.tensor[i].data, from, want.into.tensor[i].count * sizeof *from);
        }
        check(s, name);
        own(name, round, model);
    }
    check(saddle_leave(x), name);
    check(saddle_wait(x, NULL), name);
    saddle_close(x);
    free(m);
    learnt(name, before);
}

/* Two of the workers, as a job of its own. With three, who averages with whom is a matter of time. */
typedef struct couple {
    uint32_t other;
} couple;

static weft_status couple_send(void *ctx, uint32_t peer, uint32_t tag, const void *data, size_t bytes,
                               weft_request *q) {
    (void)peer;
    return net.send(net.ctx, ((const couple *)ctx)->other, tag, data, bytes, q);
}
static weft_status couple_recv(void *ctx, uint32_t peer, uint32_t tag, void *data, size_t room, weft_request *q) {
    (void)peer;
    return net.recv(net.ctx, ((const couple *)ctx)->other, tag, data, room, q);
}
static weft_status couple_test(void *ctx, weft_request *q) {
    (void)ctx;
    return net.test(net.ctx, q);
}
static void couple_cancel(void *ctx, weft_request *q) {
    (void)ctx;
    net.cancel(net.ctx, q);
}
static uint64_t couple_now(void *ctx) {
    (void)ctx;
    return net.now(net.ctx);
}
static void couple_wait(void *ctx, uint64_t until_ns) {
    (void)ctx;
    net.wait(net.ctx, until_ns);
}

/* Averages between neighbours. */
static void train_aau(const char *name, uint32_t one, uint32_t two, uint32_t channel) {
    static unsigned char room[WEFT_GRAPH_BYTES(2, 1)];
    couple both;
    weft_transport pair;
    weft_graph graph;
    weft_tensor t[TENSORS];
    dsgd_aau_desc d;
    dsgd_aau *x;
    size_t bytes;
    void *m;
    float before;
    int round;
    if (net.rank != one && net.rank != two) return;
    both.other = net.rank == one ? two : one;
    pair = weft_transport_make(&both, net.rank == two, 2, couple_send, couple_recv, couple_test, couple_cancel,
                               couple_now);
    pair.max_message_bytes = net.max_message_bytes;
    pair.wait = couple_wait;
    begin();
    before = look(model, NULL);
    check(weft_graph_chain(&graph, 2, room, sizeof room), name);
    memset(&d, 0, sizeof d);
    d.struct_size = sizeof d;
    d.params = tensors(t, model);
    d.transport = &pair;
    d.channel = channel;
    d.graph = &graph;
    d.timeout_ns = MOST;
    bytes = dsgd_aau_memory(&d, NULL);
    m = memory(bytes);
    check(dsgd_aau_init(&x, &d, m, bytes), name);
    for (round = 1; round <= ROUNDS; round++) {
        look(model, gradient);
        descend(0.125f);
        check(dsgd_aau_step(x), name);
        check(dsgd_aau_wait(x), name);
        own(name, round, model);
    }
    check(dsgd_aau_leave(x), name);
    check(dsgd_aau_wait(x), name);
    dsgd_aau_close(x);
    free(m);
    learnt(name, before);
}

int main(int argc, char **argv) {
    static const uint32_t one = 1;
    unsigned char first;
    if (argc == 3 && strcmp(argv[1], "ports") == 0) {
        char *list = ports_free((size_t)atoi(argv[2]));
        fputs(list, stdout);
        free(list);
        return 0;
    }
    if (weft_tcp_transport(&tcp, &net, NULL) != WEFT_OK || net.size != WORKERS) {
        fprintf(stderr, "worker: %s\n", tcp.why);
        return EXIT_FAILURE;
    }
    memcpy(&first, &one, 1);
    printf("machine %u %s %d %s\n", (unsigned)net.rank, first ? "little" : "big", (int)sizeof(void *) * 8,
           weft_isa_name(weft_kernels_select(WEFT_ISA_AUTO, 0)->isa));
    make_samples(net.rank);
    train_subspace("mean", SUBSPACE_MEAN, 0);
    train_subspace("adacons", SUBSPACE_NORMALISED, 1);
    train_hpsgd(2);
    train_grawa("mgrawa", GRAWA_BY_MODEL, 3);
    train_grawa("lgrawa", GRAWA_BY_LAYER, 4);
    train_saddle("qsaddle", SADDLE_Q, 5);
    train_saddle("nsaddle", SADDLE_N, 6);
    train_aau("dsgd_aau-01", 0, 1, 7);
    train_aau("dsgd_aau-12", 1, 2, 8);
    train_aau("dsgd_aau-02", 0, 2, 9);
    weft_tcp_close(&tcp);
    return EXIT_SUCCESS;
}
