/* SPDX-License-Identifier: MIT
 * rng.h: a counter-based random generator. The n-th number of a stream is a pure function of (seed, stream, n), so
 * every worker, epoch and image draws from a stream of its own and nothing depends on who drew first. */
#ifndef TRAIN_RNG_H
#define TRAIN_RNG_H

#include <stddef.h>
#include <stdint.h>

typedef struct rng {
    uint64_t key;
    uint64_t counter;
} rng;

/* The finaliser of SplitMix64: a bijection of 64-bit words that passes as random on a counter. */
static inline uint64_t rng_mix(uint64_t z) {
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

/* A generator for one purpose: `stream` names the purpose, `index` which of its kind (worker, epoch, image, ...). */
static inline rng rng_make(uint64_t seed, uint64_t stream, uint64_t index) {
    rng r;
    r.key =
        rng_mix(rng_mix(rng_mix(seed + UINT64_C(0x9e3779b97f4a7c15)) ^ stream) + index * UINT64_C(0xd1b54a32d192ed03));
    r.counter = 0;
    return r;
}

static inline uint64_t rng_next(rng *r) {
    return rng_mix(r->key + UINT64_C(0x9e3779b97f4a7c15) * ++r->counter);
}

/* Uniform in 0 .. n-1, n >= 1. The high bits of a product: the bias is below n / 2^32, of no account here. */
static inline uint32_t rng_below(rng *r, uint32_t n) {
    return (uint32_t)(((rng_next(r) >> 32) * n) >> 32);
}

/* Uniform in lo .. hi, both included. */
static inline int32_t rng_range(rng *r, int32_t lo, int32_t hi) {
    return lo + (int32_t)rng_below(r, (uint32_t)(hi - lo) + 1u);
}

/* Uniform in [0, 1), with all 53 bits of a double. */
static inline double rng_uniform(rng *r) {
    return (double)(rng_next(r) >> 11) * (1.0 / 9007199254740992.0);
}

/* Fisher-Yates. */
static inline void rng_shuffle(rng *r, uint32_t *items, size_t n) {
    for (size_t i = n; i > 1; i--) {
        size_t j = rng_below(r, (uint32_t)i);
        uint32_t t = items[i - 1];
        items[i - 1] = items[j];
        items[j] = t;
    }
}

/* What the streams are for, so that no two purposes share one. */
enum { RNG_INIT = 1, RNG_SHUFFLE, RNG_PARTITION, RNG_GLYPH, RNG_LABEL, RNG_GOAL, RNG_NOISE };

#endif
