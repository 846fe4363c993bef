/* SPDX-License-Identifier: MIT */
#include "adam.h"

#include "train/util.h"

#include <math.h>
#include <stdlib.h>

static const float KEEP_FIRST = 0.9f, KEEP_SECOND = 0.99f;

void adam_init(adam *a, size_t count, double decay) {
    a->count = count;
    a->steps = 0;
    a->decay = (float)decay;
    a->first = new_floats(count);
    a->second = new_floats(count);
}

void adam_free(adam *a) {
    free(a->first);
    free(a->second);
}

static void step(size_t n, float *restrict x, const float *restrict g, float *restrict first, float *restrict second,
                 float rate, float decay, float unbias1, float unbias2) {
    for (size_t i = 0; i < n; i++) {
        first[i] = KEEP_FIRST * first[i] + (1.0f - KEEP_FIRST) * g[i];
        second[i] = KEEP_SECOND * second[i] + (1.0f - KEEP_SECOND) * g[i] * g[i];
        x[i] -= rate * (unbias1 * first[i] / (sqrtf(unbias2 * second[i]) + 1e-8f) + decay * x[i]);
    }
}

void adam_step(adam *a, float *x, const float *g, double rate) {
    const double t = (double)++a->steps;
    step(a->count, x, g, a->first, a->second, (float)rate, a->decay, (float)(1.0 / (1.0 - pow((double)KEEP_FIRST, t))),
         (float)(1.0 / (1.0 - pow((double)KEEP_SECOND, t))));
}

void clip(size_t count, float *g, double most) {
    double square = 0.0;
    for (size_t i = 0; i < count; i++) square += (double)g[i] * (double)g[i];
    if (!(square > most * most)) return;
    const float factor = (float)(most / sqrt(square));
    for (size_t i = 0; i < count; i++) g[i] *= factor;
}
