/* SPDX-License-Identifier: MIT
 * adam.h: the optimiser: Adam, weight decay apart from the gradient (AdamW), on all parameters as one array. Its state
 * is a worker's own: nobody averages it. */
#ifndef LLM_ADAM_H
#define LLM_ADAM_H

#include <stddef.h>
#include <stdint.h>

typedef struct adam {
    size_t count;
    uint64_t steps;
    float decay;
    float *first, *second; /* running means of the gradient and of its squares */
} adam;

void adam_init(adam *a, size_t count, double decay);
void adam_free(adam *a);

/* first <- 0.9 first + 0.1 g;   second <- 0.99 second + 0.01 g^2
 * x <- x - rate (first / (1 - 0.9^t) / (sqrt(second / (1 - 0.99^t)) + 1e-8) + decay x) */
void adam_step(adam *a, float *x, const float *g, double rate);

/* Makes a gradient that is longer than `most` as long as that. */
void clip(size_t count, float *g, double most);

#endif
