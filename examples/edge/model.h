/* SPDX-License-Identifier: MIT
 * model.h: which digit is it: ten linear functions of the features, each trained to tell its digit from the others by
 * the squared hinge loss, which needs no library. */
#ifndef EDGE_MODEL_H
#define EDGE_MODEL_H

#include "sound.h"

static inline void model_scores(const float *w, const signed char *x, float *score) {
    int c, k;
    for (c = 0; c < CLASSES; c++) {
        const float *row = w + c * (FEATURES + 1);
        float sum = row[FEATURES];
        for (k = 0; k < FEATURES; k++) sum += row[k] * ((float)x[k] * (1.0f / 32));
        score[c] = sum;
    }
}

/* One step of gradient descent on one sample. */
static inline void model_step(float *w, const signed char *x, int y, float rate) {
    float score[CLASSES];
    int c, k;
    model_scores(w, x, score);
    for (c = 0; c < CLASSES; c++) {
        float *row = w + c * (FEATURES + 1);
        const float sign = c == y ? 1.0f : -1.0f, short_of = 1 - sign * score[c];
        if (short_of <= 0) continue;
        for (k = 0; k < FEATURES; k++) row[k] += rate * sign * short_of * ((float)x[k] * (1.0f / 32));
        row[FEATURES] += rate * sign * short_of;
    }
}

static inline int model_is_right(const float *w, const signed char *x, int y) {
    float score[CLASSES];
    int c, best = 0;
    model_scores(w, x, score);
    for (c = 1; c < CLASSES; c++)
        if (score[c] > score[best]) best = c;
    return best == y;
}

#endif
