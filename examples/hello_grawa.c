/* SPDX-License-Identifier: MIT
 * hello_grawa.c: the smallest whole program. Two workers, each a thread, each with a loss of its own,
 * f(x) = steepness / 2 |x - minimum|^2; they start far off, learn together, and meet at a point between the two minima.
 *
 *     cc -I. -Iexamples/transports examples/hello_grawa.c -lm -pthread -o hello_grawa && ./hello_grawa */
#define _POSIX_C_SOURCE 200809L
#define GRAWA_IMPLEMENTATION /* in one source file of a program */
#include "grawa.h"
#include "weft_threads.h" /* the network between the workers; see its folder for others */

#include <stdio.h>

enum { WORKERS = 2, SIZE = 2, STEPS = 1600 };
static const float STEEPNESS[WORKERS] = {1.0f, 2.0f};
static const float MINIMUM[WORKERS][SIZE] = {{0.0f, 0.0f}, {6.0f, 3.0f}};

static weft_threads_team team;

static void check(weft_status s, const char *what) {
    if (s >= 0) return;
    fprintf(stderr, "%s: %s\n", what, weft_strerror(s));
    exit(EXIT_FAILURE);
}

static void *worker(void *arg) {
    const uint32_t rank = *(const uint32_t *)arg;
    float x[SIZE] = {3.0f, -2.0f}, gradient[SIZE], center[SIZE];

    /* What the library wants to know: where the parameters are, and how to reach the others. */
    weft_transport net;
    weft_threads_transport(&team, rank, &net);
    weft_tensor x_tensor = {x, SIZE, WEFT_F32}, gradient_tensor = {gradient, SIZE, WEFT_F32};
    weft_tensor center_tensor = {center, SIZE, WEFT_F32};
    weft_tensors params = {&x_tensor, 1}, grads = {&gradient_tensor, 1}, into = {&center_tensor, 1};
    grawa_desc d = {.struct_size = sizeof d, .params = params, .transport = &net, .period_steps = 8};

    /* Its memory is yours: as much as it says, from wherever you like. */
    size_t bytes = grawa_memory(&d, NULL);
    void *memory = malloc(bytes);
    grawa *g;
    check(grawa_init(&g, &d, memory, bytes), "init");

    for (int step = 1; step <= STEPS; step++) {
        const float rate = 0.1f / (1.0f + 0.05f * (float)step); /* falling, so that they settle */
        for (int i = 0; i < SIZE; i++) gradient[i] = STEEPNESS[rank] * (x[i] - MINIMUM[rank][i]);
        for (int i = 0; i < SIZE; i++) x[i] -= rate * gradient[i]; /* the optimiser is yours, too */

        weft_status s = grawa_step(g, &grads); /* every eighth step: exchanges, and pulls x towards the center */
        if (s == WEFT_AGAIN) s = grawa_wait(g);
        check(s, "step");
        if (rank == 0 && (step == 8 || step % 320 == 0))
            printf("step %4d: worker 0 at (%.3f, %.3f), weights %.3f and %.3f\n", step, (double)x[0], (double)x[1],
                   grawa_weight(g, 0, 0), grawa_weight(g, 1, 0));
    }

    check(grawa_average(g, GRAWA_CENTER, &into, NULL), "average"); /* the model to keep */
    check(grawa_wait(g), "average");
    check(grawa_leave(g), "leave");
    check(grawa_wait(g), "leave");
    printf("worker %u ends at (%.3f, %.3f), the weighted center is (%.3f, %.3f)\n", (unsigned)rank, (double)x[0],
           (double)x[1], (double)center[0], (double)center[1]);
    grawa_close(g);
    free(memory);
    return NULL;
}

int main(void) {
    pthread_t thread[WORKERS];
    uint32_t rank[WORKERS] = {0, 1};
    check(weft_threads_init(&team, WORKERS), "threads");
    for (int i = 0; i < WORKERS; i++)
        if (pthread_create(&thread[i], NULL, worker, &rank[i])) return EXIT_FAILURE;
    for (int i = 0; i < WORKERS; i++) pthread_join(thread[i], NULL);
    weft_threads_free(&team);
    return EXIT_SUCCESS;
}
