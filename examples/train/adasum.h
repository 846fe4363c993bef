/* SPDX-License-Identifier: MIT
 * adasum.h: the rule Adasum (Maleki et al., as in Horovod), which AdaCons is compared with, apart from the network. The
 * golden files are replayed through these lines too. */
#ifndef TRAIN_ADASUM_H
#define TRAIN_ADASUM_H

#include <float.h>
#include <math.h>
#include <stddef.h>

/* a <- (1 - <a,b> / 2|a|^2) a + (1 - <a,b> / 2|b|^2) b: the sum if they are orthogonal, the mean if they are equal. */
static inline void adasum_pair(size_t n, double *a, const double *b) {
    const double least = sqrt(DBL_MIN); /* of a squared norm that is divided by */
    double dot = 0.0, aa = 0.0, bb = 0.0;
    for (size_t i = 0; i < n; i++) {
        dot += a[i] * b[i];
        aa += a[i] * a[i];
        bb += b[i] * b[i];
    }
    const double ca = aa >= least ? 1.0 - 0.5 * dot / aa : 1.0, cb = bb >= least ? 1.0 - 0.5 * dot / bb : 1.0;
    for (size_t i = 0; i < n; i++) a[i] = ca * a[i] + cb * b[i];
}

/* The tree: neighbours at distance 1, then 2, then 4, ...; the result is in row[0], the other rows are scratch.
 * Published for powers of two only; here whoever has no partner goes on to the next level as it is, so that the job
 * also runs with another number of workers. Once for the whole model, or once for each layer (as in Horovod). */
static inline void adasum(size_t workers, double *const *row, size_t n) {
    for (size_t distance = 1; distance < workers; distance *= 2)
        for (size_t i = 0; i + distance < workers; i += 2 * distance) adasum_pair(n, row[i], row[i + distance]);
}

#endif
