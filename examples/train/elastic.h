/* SPDX-License-Identifier: MIT
 * elastic.h: the arithmetic of the rules that GRAWA is compared with, apart from the network: elastic averaging
 * (EASGD) and leader SGD (LSGD), all workers together, as published with GRAWA. The golden files are replayed through
 * these lines too. */
#ifndef TRAIN_ELASTIC_H
#define TRAIN_ELASTIC_H

#include <stddef.h>
#include <stdint.h>

/* EASGD: each worker moves a little towards the center, and the center towards the workers' mean. With old values on
 * the right, alpha = beta / workers:  x <- x - alpha (x - center),  center <- (1 - beta) center + beta mean. */
static inline void easgd_move(size_t n, float *x, float *center, const float *mean, float alpha, float beta) {
    for (size_t i = 0; i < n; i++) {
        x[i] -= alpha * (x[i] - center[i]);
        center[i] = (1.0f - beta) * center[i] + beta * mean[i];
    }
}

/* LSGD: the leader is the worker with the lowest loss, the lowest rank on ties. loss[rank]; ranks ascending. */
static inline uint32_t lsgd_leader(const float *loss, const uint32_t *rank, size_t count) {
    uint32_t leader = rank[0];
    for (size_t i = 1; i < count; i++)
        if (loss[rank[i]] < loss[leader]) leader = rank[i];
    return leader;
}

/* LSGD: towards the leader z; in a round by the pull, after a local step (optional) by proximal / period. */
static inline void lsgd_pull(size_t n, float *x, const float *z, float pull) {
    for (size_t i = 0; i < n; i++) x[i] = (1.0f - pull) * x[i] + pull * z[i];
}

#endif
