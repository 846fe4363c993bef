/* SPDX-License-Identifier: MIT
 * task.h: something to learn, as this study sees it: parameters in one array, a gradient of one worker's samples at one
 * step, and the loss on samples that nobody trains on. Which samples a worker has at a step is a pure function of seed,
 * step and worker, so all rules see the same ones. */
#ifndef CONSENSUS_TASK_H
#define CONSENSUS_TASK_H

#include "train/rng.h"
#include "train/util.h"

#include <stddef.h>
#include <stdint.h>

enum { TASK_TENSORS = 64, TASK_MOST_BATCH = 256 };

/* Validation is what step sizes are tuned on, test what is told. */
typedef enum task_part { PART_VALIDATION, PART_TEST } task_part;

typedef struct task task;
struct task {
    const char *key; /* in options and rows */
    char data[64];   /* where samples are from */
    char title[96];  /* for headings */
    char model[96];  /* what learns, and by which optimiser */
    size_t parameters, tensors, tensor[TASK_TENSORS];
    int adam;        /* else: SGD */
    double momentum; /* of SGD */
    double rate;     /* where tuning of the mean begins */
    double guessing; /* the loss of who knows nothing: log of how many answers there are */
    int accuracy;    /* is there one? */
    void (*init)(task *t, float *params, uint64_t seed);
    /* The gradient of the mean loss over `batch` samples; returns that loss. */
    double (*gradient)(task *t, const float *params, uint64_t seed, size_t step, size_t worker, size_t batch,
                       float *grads);
    /* Mean loss; *accuracy in %, NaN where there is none. */
    double (*measure)(task *t, const float *params, task_part which, double *accuracy);
    void (*close)(task *t);
    void *own;
};

enum { STREAM_SAMPLES = 201 };

/* `n` of `count`, drawn anew at each step: no worker has samples of its own. */
static inline void task_draw(uint64_t seed, size_t step, size_t worker, size_t count, size_t n, uint32_t *index) {
    rng r = rng_make(seed, STREAM_SAMPLES, ((uint64_t)step << 16) + worker);
    for (size_t i = 0; i < n; i++) index[i] = rng_below(&r, (uint32_t)count);
}

void task_images(task *t, const char *folder); /* NULL: drawn glyphs */
/* NULL: drawn by a law of the program's own. by_age: each of eight workers has an eighth of them, the youngest, ... */
void task_people(task *t, const char *folder, int by_age);
void task_text(task *t, const char *file); /* NULL: the program's own story */

#endif
