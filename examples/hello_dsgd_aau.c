/* SPDX-License-Identifier: MIT
 * hello_dsgd_aau.c: the smallest whole program. Five workers on a ring, each a thread that sees one piece of a sine,
 * fit a network with one hidden layer to all of it; the last is three times slower than the others, and nobody waits
 * for it for long. What a trainer adds for it stands between dashes.
 *
 *     cc -I. -Iexamples/transports examples/hello_dsgd_aau.c -lm -pthread -o hello_dsgd_aau && ./hello_dsgd_aau */
#define _POSIX_C_SOURCE 200809L
#define DSGD_AAU_IMPLEMENTATION /* in one source file of a program */
#include "dsgd_aau.h"
#include "weft_threads.h" /* the network between the workers; see its folder for others */
#include <stdio.h>

enum { WORKERS = 5, HIDDEN = 16, SAMPLES = 16, EPOCHS = 1000 };

static weft_threads_team team;
static weft_graph ring; /* who talks to whom: the same for all */
static float model[WORKERS][3 * HIDDEN];
static dsgd_aau_stats_t stats[WORKERS];

static void check(weft_status s, const char *what) {
    if (s >= 0) return;
    fprintf(stderr, "%s: %s\n", what, weft_strerror(s));
    exit(EXIT_FAILURE);
}

/* One step of gradient descent on some samples, neighbours on the curve; the loss before it. */
static double train(float *w1, float *b1, float *w2, int first, int samples, float rate) {
    float dw1[HIDDEN] = {0}, db1[HIDDEN] = {0}, dw2[HIDDEN] = {0}, h[HIDDEN];
    double loss = 0;
    for (int i = 0; i < samples; i++) {
        float x = -3.0f + 6.0f * (float)(first + i) / (WORKERS * SAMPLES - 1), y = 0;
        for (int j = 0; j < HIDDEN; j++) y += w2[j] * (h[j] = tanhf(w1[j] * x + b1[j]));
        const float d = (y - sinf(x)) / (float)samples;
        loss += 0.5 * samples * (double)d * (double)d;
        for (int j = 0; j < HIDDEN; j++) {
            const float e = d * w2[j] * (1.0f - h[j] * h[j]);
            dw2[j] += d * h[j], dw1[j] += e * x, db1[j] += e;
        }
    }
    for (int j = 0; j < HIDDEN; j++) w1[j] -= rate * dw1[j], b1[j] -= rate * db1[j], w2[j] -= rate * dw2[j];
    return loss;
}

static void *worker(void *arg) {
    const uint32_t rank = *(const uint32_t *)arg;
    float *w1 = model[rank], *b1 = w1 + HIDDEN, *w2 = b1 + HIDDEN;
    for (int j = 0; j < HIDDEN; j++) w1[j] = 1.0f, b1[j] = 0.5f * (float)j - 3.75f, w2[j] = 0.0f;

    /* ---- where the parameters are, how to reach the others, and memory: as much as it says, from wherever you like */
    weft_transport net;
    weft_threads_transport(&team, rank, &net);
    weft_tensor t[] = {{w1, HIDDEN, WEFT_F32}, {b1, HIDDEN, WEFT_F32}, {w2, HIDDEN, WEFT_F32}};
    dsgd_aau_desc desc = {.struct_size = sizeof desc, .params = {t, 3}, .transport = &net, .graph = &ring};
    size_t bytes = dsgd_aau_memory(&desc, NULL);
    void *memory = malloc(bytes);
    dsgd_aau *x;
    check(dsgd_aau_init(&x, &desc, memory, bytes), "init");
    /* ---- */

    dsgd_aau_stats_t *s = &stats[rank];
    do { /* an epoch is what all workers have in common, however many steps each takes in it */
        const struct timespec pause = {0, rank == WORKERS - 1 ? 60000 : 20000}; /* a larger model would take as long */
        const double loss = train(w1, b1, w2, (int)rank * SAMPLES, SAMPLES, s->epochs < EPOCHS / 2 ? 0.2f : 0.02f);
        nanosleep(&pause, NULL);
        if (rank == 0 && s->steps % 500 == 0) printf("step %4d: loss of worker 0 %.5f\n", (int)s->steps, loss);
        /* ---- ready: average with whoever is, and go on */
        check(dsgd_aau_step(x), "step");
        check(dsgd_aau_wait(x), "wait");
        dsgd_aau_stats(x, s);
    } while (s->epochs < EPOCHS && s->part > 1); /* ---- part: workers that are still there */
    check(dsgd_aau_leave(x), "leave"); /* ---- the others go on without this one */
    check(dsgd_aau_wait(x), "leave");
    dsgd_aau_close(x); /* ---- */
    free(memory);
    return NULL;
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
        float *w = model[i];
        for (int j = 0; j < 3 * HIDDEN; j++) apart = fmax(apart, fabs((double)w[j] - (double)model[0][j]));
        const double loss = train(w, w + HIDDEN, w + 2 * HIDDEN, 0, WORKERS * SAMPLES, 0.0f); /* on all samples */
        worst = fmax(worst, loss);
        printf("worker %u: averaged in %llu of %llu steps, loss on everybody's samples %.5f\n", i,
               (unsigned long long)(stats[i].led + stats[i].followed), (unsigned long long)stats[i].steps, loss);
    }
    printf("the models are %.3f apart, %llu epochs\n", apart, (unsigned long long)stats[0].epochs);
    return worst < 0.01 && apart < 0.2 ? EXIT_SUCCESS : EXIT_FAILURE;
}
