/* SPDX-License-Identifier: MIT
 * exp.h: exp(x) in float, from additions and multiplications only: the C library's is a call for each number, and its
 * last digit is another one on the next system. Compilers make vectors of a loop around it. */
#ifndef LLM_EXP_H
#define LLM_EXP_H

#include <stdint.h>
#include <string.h>

/* To 2e-7 of its value; what is beyond -87 and 88 is taken for these. */
static inline float llm_exp(float x) {
    const float round = 12582912.0f; /* 1.5 * 2^23: added, it leaves whole numbers only */
    x = x < -87.0f ? -87.0f : x;
    x = x > 88.0f ? 88.0f : x;
    const float t = x * 1.44269504f + round, n = t - round; /* x = n log(2) + r, |r| <= log(2) / 2 */
    const float r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
    float e = 1.0f / 5040.0f;
    e = e * r + 1.0f / 720.0f;
    e = e * r + 1.0f / 120.0f;
    e = e * r + 1.0f / 24.0f;
    e = e * r + 1.0f / 6.0f;
    e = e * r + 0.5f;
    e = e * r + 1.0f;
    e = e * r + 1.0f;
    uint32_t bits;
    memcpy(&bits, &t, sizeof bits);
    bits = (bits << 23) + (UINT32_C(127) << 23); /* 2^n: the low bits of t are those of n */
    float power;
    memcpy(&power, &bits, sizeof power);
    return e * power;
}

#endif
