/* SPDX-License-Identifier: MIT
 * hello_saddle.c: the smallest whole program. Five workers on a ring, each a thread that sees one piece of a sine, fit
 * a network with one hidden layer to all of it, by Q-SADDLe with messages of eight bits a number. The library is the
 * optimiser: it says where it wants a gradient. What a trainer adds for it stands between dashes.
 *
 *     cc -I. -Iexamples/transports examples/hello_saddle.c -lm -pthread -o hello_saddle && ./hello_saddle */
#define _POSIX_C_SOURCE 200809L
#define SADDLE_IMPLEMENTATION /* in one source file of a program */
#include "saddle.h"
#include "weft_threads.h" /* the network between the workers; see its folder for others */
#include <stdio.h>

enum { WORKERS = 5, HIDDEN = 16, SAMPLES = 16, STEPS = 2000 };

static weft_threads_team team;
static weft_graph ring; /* who talks to whom: the same for all */
static float model[WORKERS][3 * HIDDEN];
static saddle_stats_t stats[WORKERS];

static void check(weft_status s, const char *what) {
    if (s >= 0) return;
    fprintf(stderr, "%s: %s\n", what, weft_strerror(s));
    exit(EXIT_FAILURE);
}

/* The gradient of the mean loss on some samples, neighbours on the curve (g: where to put it, or NULL); the loss. */
static double gradient(const float *w, float *g, int first, int samples) {
    const float *w1 = w, *b1 = w + HIDDEN, *w2 = b1 + HIDDEN;
    double loss = 0;
    for (int j = 0; g && j < 3 * HIDDEN; j++) g[j] = 0.0f;
    for (int i = 0; i < samples; i++) {
        float x = -3.0f + 6.0f * (float)(first + i) / (WORKERS * SAMPLES - 1), y = 0, h[HIDDEN];
        for (int j = 0; j < HIDDEN; j++) y += w2[j] * (h[j] = tanhf(w1[j] * x + b1[j]));
        const float d = (y - sinf(x)) / (float)samples;
        loss += 0.5 * samples * (double)d * (double)d;
        for (int j = 0; g && j < HIDDEN; j++) {
            const float e = d * w2[j] * (1.0f - h[j] * h[j]);
            g[j] += e * x, g[HIDDEN + j] += e, g[2 * HIDDEN + j] += d * h[j];
        }
    }
    return loss;
}

static void *worker(void *arg) {
    const uint32_t rank = *(const uint32_t *)arg;
    float *w = model[rank];
    for (int j = 0; j < HIDDEN; j++) w[j] = 1.0f, w[HIDDEN + j] = 0.5f * (float)j - 3.75f, w[2 * HIDDEN + j] = 0.0f;

    /* ---- where the parameters are, how to reach the others, and memory: as much as it says, from wherever you like */
    weft_transport net;
    weft_threads_transport(&team, rank, &net);
    weft_tensor t[] = {{w, 3 * HIDDEN, WEFT_F32}};
    saddle_desc desc = {.struct_size = sizeof desc, .params = {t, 1}, .transport = &net, .graph = &ring};
    desc.variant = SADDLE_Q, desc.learning_rate = 0.02, desc.rho = 0.02, desc.codec = weft_codec_q8();
    size_t bytes = saddle_memory(&desc, NULL);
    void *memory = malloc(bytes);
    saddle *x;
    check(saddle_init(&x, &desc, memory, bytes), "init");
    /* ---- */

    for (int step = 0; step < STEPS; step++) {
        weft_status s;
        saddle_want want;
        if (step == STEPS / 2) check(saddle_set_learning_rate(x, 0.005), "learning rate");
        if (rank == 0 && step % 200 == 0) printf("step %4d: loss %.5f\n", step, gradient(w, NULL, 0, SAMPLES));
        /* ---- as long as it wants gradients, here or there, of the same samples */
        while ((s = saddle_wait(x, &want)) == WEFT_WANT_GRADIENT)
            gradient((const float *)want.at.tensor[0].data, (float *)want.into.tensor[0].data, (int)rank * SAMPLES,
                     SAMPLES);
        check(s, "step"); /* ---- the step is done: the parameters are updated, and averaged with the neighbours' */
    }
    check(saddle_leave(x), "leave"); /* ---- */
    check(saddle_wait(x, NULL), "leave");
    saddle_stats(x, &stats[rank]);
    saddle_close(x); /* ---- */
    return free(memory), NULL;
}

int main(void) {
    static unsigned char memory[WEFT_GRAPH_BYTES(WORKERS, WORKERS)];
    pthread_t thread[WORKERS];
    uint32_t rank[WORKERS] = {0, 1, 2, 3, 4};
    double apart = 0, worst = 0;
    check(weft_graph_ring(&ring, WORKERS, memory, sizeof memory), "graph");
    check(weft_threads_init(&team, WORKERS), "threads");
    for (uint32_t i = 0; i < WORKERS; i++)
        if (pthread_create(&thread[i], NULL, worker, &rank[i])) return EXIT_FAILURE;
    for (uint32_t i = 0; i < WORKERS; i++) pthread_join(thread[i], NULL);
    weft_threads_free(&team);
    for (uint32_t i = 0; i < WORKERS; i++) {
        const double loss = gradient(model[i], NULL, 0, WORKERS * SAMPLES); /* on all samples */
        for (int j = 0; j < 3 * HIDDEN; j++) apart = fmax(apart, fabs((double)model[i][j] - (double)model[0][j]));
        worst = fmax(worst, loss);
        printf("worker %u: %d bytes sent, loss on all samples %.5f\n", i, (int)stats[i].traffic.payload_sent, loss);
    }
    printf("the models are %.4f apart\n", apart);
    return worst < 0.01 && apart < 0.2 ? EXIT_SUCCESS : EXIT_FAILURE;
}
