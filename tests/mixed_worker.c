/* SPDX-License-Identifier: MIT
 * mixed_worker.c: one of three workers on unlike machines, joined over TCP (WEFT_PEERS, WEFT_RANK): every algorithm of
 * weft for some rounds, on numbers that every machine makes alike. Prints a line for each round, "RULE ROUND HASH", with
 * the hash of what should be the same on all workers, or of this worker's own model. tests/mixed starts the workers and
 * compares. */
#define _POSIX_C_SOURCE 200809L
#define GRAWA_IMPLEMENTATION
#include "grawa.h"
#define SUBSPACE_IMPLEMENTATION
#include "subspace.h"
#define DSGD_AAU_IMPLEMENTATION
#include "dsgd_aau.h"
#define HPSGD_IMPLEMENTATION
#include "hpsgd.h"
#define SADDLE_IMPLEMENTATION
#include "saddle.h"
#include "weft_tcp.h"

#include <stdio.h>
#include <stdlib.h>

enum { FIRST = 3001, SECOND = 257, D = FIRST + SECOND, ROUNDS = 12, MOST = 60 };
#define LIMIT_NS UINT64_C(120000000000) /* of a worker that hangs */

static weft_tcp tcp;
static weft_transport net;
static float x[D], g[D], at[D];
static weft_tensor params[2] = {{x, FIRST, WEFT_F32}, {x + FIRST, SECOND, WEFT_F32}};
static weft_tensor grads[2] = {{g, FIRST, WEFT_F32}, {g + FIRST, SECOND, WEFT_F32}};
static const weft_tensors model = {params, 2}, gradient = {grads, 2};
static weft_graph ring;

static void check(weft_status s, const char *rule, const char *what, const weft_detail *d) {
    if (s >= 0) return;
    fprintf(stderr, "worker %u: %s: %s: %s: %s (here %llu, there %llu)\n", (unsigned)net.rank, rule, what,
            weft_strerror(s), d && d->field ? d->field : "", d ? (unsigned long long)d->expected : 0,
            d ? (unsigned long long)d->got : 0);
    exit(1);
}

/* A small whole number, the same everywhere. */
static int whole(uint32_t i, uint32_t k) {
    uint32_t h = (i * 2654435761u + 1) ^ (k * 2246822519u);
    h ^= h >> 15;
    h *= 2654435769u;
    return (int)((h >> 13) % 257) - 128;
}

static void begin(void) {
    uint32_t k;
    for (k = 0; k < D; k++) x[k] = (float)whole(99, k) / 64;
}

/* The gradient of this worker's own bowl at y. */
static void slope(const float *y, float *to) {
    uint32_t k;
    for (k = 0; k < D; k++)
        to[k] = (y[k] - (float)whole(net.rank, k) / 32) * ((float)(whole(10 + net.rank, k) + 200) / 256);
}

static void descend(float rate) {
    uint32_t k;
    for (k = 0; k < D; k++) x[k] -= rate * g[k];
}

static void tell(const char *rule, int round, const float *what) {
    uint64_t h = UINT64_C(14695981039346656037);
    uint32_t k, bits;
    for (k = 0; k < D; k++) {
        memcpy(&bits, &what[k], 4);
        h = (h ^ bits) * UINT64_C(1099511628211);
    }
    printf("%s %d %016llx\n", rule, round, (unsigned long long)h);
}

#define OPEN(P, d)                                                                                                     \
    P *o = NULL;                                                                                                       \
    weft_detail why = weft_detail_none();                                                                              \
    const size_t bytes = P##_memory(&(d), NULL);                                                                       \
    void *memory = malloc(bytes ? bytes : 1);                                                                          \
    check(P##_init_detail(&o, &(d), memory, bytes, &why), #P, "init", &why)
#define CLOSE(P, wait)                                                                                                 \
    check(P##_leave(o), #P, "leave", P##_detail(o));                                                                   \
    check(wait, #P, "leave", P##_detail(o));                                                                           \
    P##_close(o);                                                                                                      \
    free(memory)

static void of_grawa(uint32_t channel, grawa_weighting weighting, const char *name) {
    grawa_desc d = {.struct_size = sizeof d};
    int round;
    d.params = model;
    d.transport = &net;
    d.channel = channel;
    d.weighting = weighting;
    d.period_steps = 2;
    d.pull = 1; /* onto the center: one model, the same bits */
    d.check_replicas = 1;
    d.timeout_ns = LIMIT_NS;
    OPEN(grawa, d);
    begin();
    for (round = 0; round < ROUNDS; round++) {
        slope(x, g);
        descend(0.125f);
        check(grawa_step(o, &gradient), name, "step", grawa_detail(o));
        check(grawa_wait(o), name, "wait", grawa_detail(o));
        if (round % 2) tell(name, round, x);
    }
    CLOSE(grawa, grawa_wait(o));
}

static void of_subspace(uint32_t channel, subspace_rule rule, const char *name) {
    subspace_desc d = {.struct_size = sizeof d};
    int round;
    d.gradients = gradient;
    d.transport = &net;
    d.channel = channel;
    d.rule = rule;
    d.momentum = rule == SUBSPACE_MEAN ? 0 : 0.5;
    d.timeout_ns = LIMIT_NS;
    OPEN(subspace, d);
    begin();
    for (round = 0; round < ROUNDS; round++) {
        slope(x, g);
        check(subspace_aggregate(o), name, "aggregate", subspace_detail(o));
        descend(0.125f);
        tell(name, round, x);
    }
    CLOSE(subspace, subspace_wait(o));
}

static void of_hpsgd(uint32_t channel, hpsgd_payload payload, const char *name) {
    hpsgd_desc d = {.struct_size = sizeof d};
    int round;
    d.params = model;
    d.transport = &net;
    d.channel = channel;
    d.mode = HPSGD_FIXED;
    d.max_steps = 3;
    d.carry = 0.5;
    d.payload = payload;
    d.check_replicas = 1;
    d.timeout_ns = LIMIT_NS;
    begin();
    OPEN(hpsgd, d);
    check(hpsgd_start(o), name, "start", hpsgd_detail(o));
    check(hpsgd_wait(o), name, "start", hpsgd_detail(o));
    for (round = 0; round < ROUNDS; round++) {
        weft_status s;
        slope(x, g);
        descend(0.03125f);
        while ((s = hpsgd_step(o)) == WEFT_STALL) check(hpsgd_poll(o), name, "poll", hpsgd_detail(o));
        check(s, name, "step", hpsgd_detail(o));
        if (round % 6 != 5) continue;
        check(hpsgd_drain(o), name, "drain", hpsgd_detail(o));
        check(hpsgd_wait(o), name, "drain", hpsgd_detail(o));
        tell(name, round, x);
    }
    CLOSE(hpsgd, hpsgd_wait(o));
}

static void of_saddle(uint32_t channel, saddle_variant variant, weft_codec codec, const char *name) {
    saddle_desc d = {.struct_size = sizeof d};
    int round;
    d.params = model;
    d.transport = &net;
    d.graph = &ring;
    d.channel = channel;
    d.variant = variant;
    d.learning_rate = 0.03125;
    d.rho = 0.05;
    d.codec = codec;
    d.seed = 7;
    d.timeout_ns = LIMIT_NS;
    OPEN(saddle, d);
    begin();
    for (round = 0; round < ROUNDS; round++) {
        saddle_want w;
        weft_status s;
        while ((s = saddle_wait(o, &w)) == WEFT_WANT_GRADIENT) {
            size_t t, k, n = 0;
            for (t = 0; t < w.at.count; t++)
                for (k = 0; k < w.at.tensor[t].count; k++) at[n++] = ((const float *)w.at.tensor[t].data)[k];
            slope(at, g);
            for (n = 0, t = 0; t < w.into.count; t++)
                for (k = 0; k < w.into.tensor[t].count; k++) ((float *)w.into.tensor[t].data)[k] = g[n++];
        }
        check(s, name, "wait", saddle_detail(o));
        tell(name, round, x);
    }
    CLOSE(saddle, saddle_wait(o, NULL));
}

/* Who averages with whom is a matter of speed: that all of them do, and end near each other, is what can be said. */
static void of_dsgd_aau(uint32_t channel, dsgd_aau_wire wire, const char *name) {
    dsgd_aau_desc d = {.struct_size = sizeof d};
    dsgd_aau_stats_t stats;
    double sum = 0;
    uint32_t k;
    int step;
    d.params = model;
    d.transport = &net;
    d.graph = &ring;
    d.channel = channel;
    d.wire = wire;
    d.initial = DSGD_AAU_INITIAL_KEEP;
    d.timeout_ns = LIMIT_NS;
    OPEN(dsgd_aau, d);
    begin();
    for (k = 0; k < D; k++) x[k] += (float)net.rank - 1; /* the mean of the three is where they began */
    check(dsgd_aau_start(o), name, "start", dsgd_aau_detail(o));
    for (step = 0; step < MOST; step++) {
        check(dsgd_aau_step(o), name, "step", dsgd_aau_detail(o));
        check(dsgd_aau_wait(o), name, "wait", dsgd_aau_detail(o));
    }
    dsgd_aau_stats(o, &stats);
    CLOSE(dsgd_aau, dsgd_aau_wait(o));
    for (k = 0; k < D; k++) {
        const double off = (double)x[k] - whole(99, k) / 64.0;
        sum = sum > off * off ? sum : off * off;
    }
    /* sixty averagings of three workers: within a hundredth */
    printf("%s %d %s\n", name, (int)(stats.led + stats.followed > 10), sum < 0.0001 && !stats.faults ? "near" : "far");
}

int main(void) {
    static unsigned char memory[WEFT_GRAPH_BYTES(3, 3)];
    if (weft_tcp_transport(&tcp, &net, NULL) != WEFT_OK || net.size != 3) {
        fprintf(stderr, "mixed_worker: %s\n", *tcp.why ? tcp.why : "three workers are wanted");
        return 2;
    }
    check(weft_graph_ring(&ring, 3, memory, sizeof memory), "graph", "ring", NULL);
    of_subspace(0, SUBSPACE_MEAN, "mean");
    of_subspace(1, SUBSPACE_NORMALISED, "adacons");
    of_grawa(2, GRAWA_BY_MODEL, "mgrawa");
    of_grawa(3, GRAWA_BY_LAYER, "lgrawa");
    of_hpsgd(4, HPSGD_PAYLOAD_FULL, "hpsgd");
    of_hpsgd(5, HPSGD_PAYLOAD_BF16, "hpsgd-bf16");
    of_saddle(6, SADDLE_Q, weft_codec_q8(), "own-qsaddle-q8");
    of_saddle(7, SADDLE_N, weft_codec_topk(0.9), "own-nsaddle-topk");
    of_dsgd_aau(8, DSGD_AAU_WIRE_OWN, "all-dsgd_aau");
    of_dsgd_aau(9, DSGD_AAU_WIRE_BF16, "all-dsgd_aau-bf16");
    weft_tcp_close(&tcp);
    return 0;
}
