/* SPDX-License-Identifier: MIT
 * mixing.h: what each rule does to parameters when workers average: arithmetic only, apart from when it is done. Row j
 * of x (dim numbers) is worker j's. Given the unit vectors as parameters, each of these leaves its mixing matrix. */
#ifndef STRAGGLERS_MIXING_H
#define STRAGGLERS_MIXING_H

#include <stdint.h>
#include <string.h>

/* The rows of `who` become their averages by w (count x count, w[i * count + j]: of who[j] in who[i]'s). scratch: count
 * rows. DSGD-AAU and synchronous DSGD. */
static inline void mix_by_weights(double *x, size_t dim, const uint32_t *who, uint32_t count, const double *w,
                                  double *scratch) {
    memset(scratch, 0, count * dim * sizeof *scratch);
    for (uint32_t i = 0; i < count; i++)
        for (uint32_t j = 0; j < count; j++) {
            const double a = w[(size_t)i * count + j], *from = x + who[j] * dim;
            double *to = scratch + i * dim;
            if (a == 0.0) continue;
            for (size_t k = 0; k < dim; k++) to[k] += a * from[k];
        }
    for (uint32_t i = 0; i < count; i++) memcpy(x + who[i] * dim, scratch + i * dim, dim * sizeof *x);
}

/* Both become their mean: AD-PSGD. */
static inline void mix_pair(double *x, size_t dim, uint32_t i, uint32_t j) {
    double *a = x + i * dim, *b = x + j * dim;
    for (size_t k = 0; k < dim; k++) a[k] = b[k] = 0.5 * (a[k] + b[k]);
}

/* All of a group become its mean: a partial all-reduce (Prague). */
static inline void mix_group(double *x, size_t dim, const uint32_t *who, uint32_t count) {
    for (size_t k = 0; k < dim; k++) {
        double sum = 0.0;
        for (uint32_t i = 0; i < count; i++) sum += x[who[i] * dim + k];
        for (uint32_t i = 0; i < count; i++) x[who[i] * dim + k] = sum / count;
    }
}

/* Push-sum (AGP): half of (x, weight) is kept and half goes off; what arrives is added. */
static inline void push_off(double *x, double *weight, double *parcel, double *parcel_weight, size_t dim) {
    for (size_t k = 0; k < dim; k++) parcel[k] = x[k] *= 0.5;
    *parcel_weight = *weight *= 0.5;
}

static inline void push_take(double *x, double *weight, const double *parcel, double parcel_weight, size_t dim) {
    for (size_t k = 0; k < dim; k++) x[k] += parcel[k];
    *weight += parcel_weight;
}

#endif
