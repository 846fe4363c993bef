/* SPDX-License-Identifier: MIT
 * hello_subspace.c: the smallest whole program. Three workers, each a thread with samples of its own, fit a network
 * with one hidden layer to a sine. What a trainer adds for it stands between dashes.
 *
 *     cc -I. -Iexamples/transports examples/hello_subspace.c -lm -pthread -o hello_subspace && ./hello_subspace */
#define _POSIX_C_SOURCE 200809L
#define SUBSPACE_IMPLEMENTATION /* in one source file of a program */
#include "subspace.h"
#include "weft_threads.h" /* the network between the workers; see its folder for others */

#include <stdio.h>

enum { WORKERS = 3, HIDDEN = 16, SAMPLES = 24, STEPS = 1500 };

static weft_threads_team team;
static float model[WORKERS][3 * HIDDEN]; /* each worker's own: all begin alike, and stay alike */
static double loss[WORKERS];

static void check(weft_status s, const char *what) {
    if (s >= 0) return;
    fprintf(stderr, "%s: %s\n", what, weft_strerror(s));
    exit(EXIT_FAILURE);
}

static void *worker(void *arg) {
    const uint32_t rank = *(const uint32_t *)arg;
    float *w1 = model[rank], *b1 = w1 + HIDDEN, *w2 = b1 + HIDDEN, dw1[HIDDEN], db1[HIDDEN], dw2[HIDDEN];
    float x[SAMPLES], d[SAMPLES], h[SAMPLES][HIDDEN];
    for (int i = 0; i < SAMPLES; i++) x[i] = -3.0f + 6.0f * (float)(WORKERS * i + (int)rank) / (WORKERS * SAMPLES - 1);
    for (int j = 0; j < HIDDEN; j++) w1[j] = 1.0f, b1[j] = 0.5f * (float)j - 3.75f, w2[j] = 0.0f;

    /* ---- where the gradients are, how to reach the others, and memory: as much as it says, from wherever you like */
    weft_transport net;
    weft_threads_transport(&team, rank, &net);
    weft_tensor t[] = {{dw1, HIDDEN, WEFT_F32}, {db1, HIDDEN, WEFT_F32}, {dw2, HIDDEN, WEFT_F32}};
    subspace_desc desc = {.struct_size = sizeof desc, .gradients = {t, 3}, .transport = &net, .momentum = 0.9};
    size_t bytes = subspace_memory(&desc, NULL);
    void *memory = malloc(bytes);
    subspace *a;
    check(subspace_init(&a, &desc, memory, bytes), "init");
    /* ---- */

    for (int step = 1; step <= STEPS; step++) {
        loss[rank] = 0.0;
        for (int i = 0; i < SAMPLES; i++) { /* forward, and the gradient of the last layer */
            float y = 0.0f;
            for (int j = 0; j < HIDDEN; j++) y += w2[j] * (h[i][j] = tanhf(w1[j] * x[i] + b1[j]));
            d[i] = (y - sinf(x[i])) / SAMPLES;
            loss[rank] += 0.5 * SAMPLES * (double)d[i] * (double)d[i];
            for (int j = 0; j < HIDDEN; j++) dw2[j] = (i ? dw2[j] : 0.0f) + d[i] * h[i][j];
        }
        check(subspace_submit(a, 2, 1), "submit"); /* ---- it is on its way, ---- */
        for (int i = 0; i < SAMPLES; i++)          /* while the gradient of the first layer is taken */
            for (int j = 0; j < HIDDEN; j++) {
                const float e = d[i] * w2[j] * (1.0f - h[i][j] * h[i][j]);
                dw1[j] = (i ? dw1[j] : 0.0f) + e * x[i];
                db1[j] = (i ? db1[j] : 0.0f) + e;
            }
        /* ---- the rest; then the gradients hold the aggregate, the same on all workers */
        check(subspace_submit(a, 0, 2), "submit");
        check(subspace_wait(a), "wait");
        /* ---- */
        for (int j = 0; j < HIDDEN; j++) w1[j] -= 0.1f * dw1[j], b1[j] -= 0.1f * db1[j], w2[j] -= 0.1f * dw2[j];

        subspace_worker_t w[WORKERS];
        for (uint32_t i = 0; i < WORKERS; i++) check(subspace_worker(a, i, 0, &w[i]), "worker");
        if (rank == 0 && (step == 1 || step % 300 == 0))
            printf("step %4d: loss %.5f, the workers' weights %.3f %.3f %.3f\n", step, loss[0], w[0].weight,
                   w[1].weight, w[2].weight);
    }
    check(subspace_leave(a), "leave"); /* ---- */
    check(subspace_wait(a), "leave");
    subspace_close(a);
    free(memory);
    return NULL;
}

int main(void) {
    pthread_t thread[WORKERS];
    uint32_t rank[WORKERS] = {0, 1, 2};
    check(weft_threads_init(&team, WORKERS), "threads");
    for (uint32_t i = 0; i < WORKERS; i++)
        if (pthread_create(&thread[i], NULL, worker, &rank[i])) return EXIT_FAILURE;
    for (uint32_t i = 0; i < WORKERS; i++) pthread_join(thread[i], NULL);
    weft_threads_free(&team);
    for (uint32_t i = 1; i < WORKERS; i++) /* to the bit, though no parameters were ever exchanged */
        if (memcmp(model[i], model[0], sizeof model[0])) return puts("the workers' models differ"), EXIT_FAILURE;
    printf("all %d workers hold the same model\n", WORKERS);
    return loss[0] < 0.01 ? EXIT_SUCCESS : EXIT_FAILURE;
}
