/* SPDX-License-Identifier: MIT
 * hello_hpsgd.c: the smallest whole program. Two workers, each a thread, each with a loss of its own,
 * f(x) = steepness / 2 |x - minimum|^2; they train one model together, and neither waits for the network: what each has
 * learnt is summed up while it takes its next steps.
 *
 *     cc -I. -Iexamples/transports examples/hello_hpsgd.c -lm -pthread -o hello_hpsgd && ./hello_hpsgd */
#define _POSIX_C_SOURCE 200809L
#define HPSGD_IMPLEMENTATION /* in one source file of a program */
#include "hpsgd.h"
#include "weft_threads.h" /* the network between the workers; see its folder for others */

#include <stdio.h>

enum { WORKERS = 2, SIZE = 2, STEPS = 400 };
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
    float x[SIZE] = {3.0f, -2.0f}; /* the same on all workers */

    /* What the library wants to know: where the parameters are, and how to reach the others. */
    weft_transport net;
    weft_threads_transport(&team, rank, &net);
    weft_tensor x_tensor = {x, SIZE, WEFT_F32};
    weft_tensors params = {&x_tensor, 1};
    hpsgd_desc d = {.struct_size = sizeof d, .params = params, .transport = &net};
    d.mode = HPSGD_FIXED; /* the same run every time; HPSGD_FREE takes as many steps as fit into a round */
    d.max_steps = 4;
    d.carry = 0.5;

    /* Its memory is yours: as much as it says, from wherever you like. */
    size_t bytes = hpsgd_memory(&d, NULL);
    void *memory = malloc(bytes);
    hpsgd *h;
    check(hpsgd_init(&h, &d, memory, bytes), "init");

    for (int step = 1; step <= STEPS; step++) {
        const float rate = 0.1f / (1.0f + 0.05f * (float)step);
        for (int i = 0; i < SIZE; i++) x[i] -= rate * STEEPNESS[rank] * (x[i] - MINIMUM[rank][i]);

        weft_status s = hpsgd_step(h); /* takes in what has come, sends off what is new */
        if (s == WEFT_STALL) s = hpsgd_wait(h); /* the network is behind */
        check(s, "step");
    }

    check(hpsgd_drain(h), "drain"); /* everything that is under way goes into the model */
    check(hpsgd_wait(h), "drain");
    hpsgd_stats_t stats;
    hpsgd_stats(h, &stats);
    printf("worker %u: %llu steps in %llu rounds; the model, the same on all workers: (%.3f, %.3f)\n", (unsigned)rank,
           (unsigned long long)stats.steps, (unsigned long long)stats.rounds, (double)x[0], (double)x[1]);
    check(hpsgd_leave(h), "leave");
    check(hpsgd_wait(h), "leave");
    hpsgd_close(h);
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
