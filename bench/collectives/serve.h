/* SPDX-License-Identifier: MIT
 * serve.h: a peer's process. It takes a command a line and answers each with a line from rank 0:
 *     hello                     -> what it is
 *     check BYTES               -> 1 if the sum is right on all ranks, 0 if not
 *     run BYTES OPERATIONS      -> seconds an operation
 *     quit
 * For C and C++. */
#ifndef BENCH_SERVE_H
#define BENCH_SERVE_H

#include "clock.h"
#include "collectives.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SERVE_LINE = 256 };

typedef struct serve {
    int rank, ranks;
    const char *hello;
    void (*all_reduce)(float *x, size_t count); /* in place */
    void (*barrier)(void);
    float *x;
    size_t bytes;
} serve;

static inline void serve_answer(const serve *s, const char *line) {
    if (s->rank) return;
    /* not at the beginning of a line that somebody else may have written on */
    printf("\n= %s\n", line);
    fflush(stdout);
}

static inline void serve_room(serve *s, size_t bytes) {
    if (bytes == s->bytes) return;
    free(s->x);
    s->x = (float *)aligned_alloc(64, (bytes + 63) / 64 * 64);
    s->bytes = bytes;
    if (s->x) return;
    fprintf(stderr, "out of memory\n");
    exit(1);
}

/* Returns 0 when it is over. All ranks take the same commands. */
static inline int serve_command(serve *s, const char *line) {
    char answer[SERVE_LINE];
    unsigned long long bytes;
    int operations, i;
    if (sscanf(line, "check %llu", &bytes) == 1) {
        float right;
        serve_room(s, (size_t)bytes);
        vector_fill_check(s->x, s->bytes, s->rank);
        s->all_reduce(s->x, s->bytes / sizeof(float));
        right = (float)vector_check(s->x, s->bytes, s->ranks);
        s->all_reduce(&right, 1);
        serve_answer(s, right == (float)s->ranks ? "1" : "0");
    } else if (sscanf(line, "run %llu %d", &bytes, &operations) == 2) {
        double start;
        serve_room(s, (size_t)bytes);
        vector_fill(s->x, s->bytes);
        for (i = warm_up(operations); i; i--) s->all_reduce(s->x, s->bytes / sizeof(float));
        s->barrier();
        start = clock_now();
        for (i = 0; i < operations; i++) s->all_reduce(s->x, s->bytes / sizeof(float));
        snprintf(answer, sizeof answer, "%.9g", (clock_now() - start) / operations);
        serve_answer(s, answer);
    } else if (!strncmp(line, "hello", 5)) {
        serve_answer(s, s->hello);
    } else {
        return 0;
    }
    return 1;
}

#endif
