/* SPDX-License-Identifier: MIT
 * random.h: the numbers that torch.rand() draws on a CPU after torch.manual_seed(): MT19937, 24 bits a number. */
#ifndef BENCH_LINREG_RANDOM_H
#define BENCH_LINREG_RANDOM_H

#include <stdint.h>

enum { TWISTER_WORDS = 624, TWISTER_SHIFT = 397 };

typedef struct twister {
    uint32_t word[TWISTER_WORDS];
    int at;
} twister;

static inline void twister_seed(twister *s, uint32_t seed) {
    s->word[0] = seed;
    for (uint32_t i = 1; i < TWISTER_WORDS; i++) s->word[i] = 1812433253u * (s->word[i - 1] ^ s->word[i - 1] >> 30) + i;
    s->at = TWISTER_WORDS;
}

static inline uint32_t twister_turn(uint32_t high, uint32_t low, uint32_t far) {
    const uint32_t y = (high & 0x80000000u) | (low & 0x7fffffffu);
    return far ^ y >> 1 ^ (low & 1u ? 0x9908b0dfu : 0u);
}

static inline void twister_refill(twister *s) {
    uint32_t *w = s->word;
    int i;
    for (i = 0; i < TWISTER_WORDS - TWISTER_SHIFT; i++) w[i] = twister_turn(w[i], w[i + 1], w[i + TWISTER_SHIFT]);
    for (; i < TWISTER_WORDS - 1; i++) w[i] = twister_turn(w[i], w[i + 1], w[i + TWISTER_SHIFT - TWISTER_WORDS]);
    w[i] = twister_turn(w[i], w[0], w[TWISTER_SHIFT - 1]);
    s->at = 0;
}

/* In [0, 1), a multiple of 2^-24: exact as a float, and here as a double. */
static inline double twister_next(twister *s) {
    uint32_t y;
    if (s->at == TWISTER_WORDS) twister_refill(s);
    y = s->word[s->at++];
    y ^= y >> 11;
    y ^= y << 7 & 0x9d2c5680u;
    y ^= y << 15 & 0xefc60000u;
    y ^= y >> 18;
    return (double)(y & 0xFFFFFFu) * 0x1p-24;
}

#endif
