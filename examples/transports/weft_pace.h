/* SPDX-License-Identifier: MIT
 * weft_pace.h: how long the steps of workers take: drawn times, transient stragglers, workers that are always slow. For
 * simulations and for demonstrations; include it after one of the weft headers. Link with -lm.
 *
 *     weft_pace p = weft_pace_default();                 // every step takes one second
 *     if (!weft_pace_parse(&p, "lognormal:0.2:0.5")) ... // --compute: what a step takes
 *     if (!weft_pace_parse_stragglers(&p, "0.1x10")) ... // --stragglers: one step in ten takes ten times as long
 *     seconds = weft_pace_draw(&p, seed, worker, step);
 *
 * A draw is a pure function of (seed, worker, step): every algorithm that is compared sees the same times, and the
 * order in which workers draw makes no difference. */
#ifndef WEFT_PACE_H
#define WEFT_PACE_H

#ifndef WEFT_VERSION
#error "include a weft header (grawa.h, ...) before weft_pace.h"
#endif

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef enum weft_pace_kind {
    WEFT_PACE_CONSTANT = 0,
    WEFT_PACE_UNIFORM = 1,     /* mean (1 - spread) .. mean (1 + spread), spread in [0, 1] */
    WEFT_PACE_EXPONENTIAL = 2, /* no spread */
    WEFT_PACE_LOGNORMAL = 3,   /* spread: standard deviation of the logarithm, in [0, 5] */
    WEFT_PACE_PARETO = 4       /* spread: the shape, above 1 (so that there is a mean), at most 100 */
} weft_pace_kind;

typedef struct weft_pace {
    weft_pace_kind kind;
    double mean; /* seconds a step, before any slow-down; above 0, at most 1e6 */
    double spread;
    double probability; /* transient stragglers: each step, with this probability, */
    double slowdown;    /* takes so many times as long; 1 .. 1e6 */
    uint32_t slow;      /* the workers below this number always take */
    double slow_factor; /* so many times as long; 1 .. 1e6 */
} weft_pace;

WEFT_FN weft_pace weft_pace_default(void) {
    weft_pace p;
    memset(&p, 0, sizeof p);
    p.mean = p.slowdown = p.slow_factor = 1.0;
    return p;
}

/* A number in least .. most that ends at one of the characters of `end` (or at the end of the text); NULL if it does
 * not. Returns where it ends. Strings as strtod takes them, but for infinities and NaNs, which no range holds. */
WEFT_FN const char *weft_pace_number(const char *text, const char *end, double least, double most, double *out) {
    char *stop;
    if (!((*text >= '0' && *text <= '9') || *text == '.')) return NULL;
    *out = strtod(text, &stop);
    if (stop == text || !(*out >= least && *out <= most)) return NULL;
    return *stop == 0 || strchr(end, *stop) ? stop : NULL;
}

/* "MEAN", "constant:MEAN", "uniform:MEAN:SPREAD", "exponential:MEAN", "lognormal:MEAN:SIGMA", "pareto:MEAN:SHAPE":
 * 1 if it is one of these, else 0 and *p is as before. */
WEFT_FN int weft_pace_parse(weft_pace *p, const char *text) {
    static const struct {
        const char *name;
        weft_pace_kind kind;
        double least, most;
    } kind[5] = {{"constant:", WEFT_PACE_CONSTANT, 0.0, -1.0},
                 {"uniform:", WEFT_PACE_UNIFORM, 0.0, 1.0},
                 {"exponential:", WEFT_PACE_EXPONENTIAL, 0.0, -1.0},
                 {"lognormal:", WEFT_PACE_LOGNORMAL, 0.0, 5.0},
                 {"pareto:", WEFT_PACE_PARETO, 1.001, 100.0}};
    weft_pace q = *p;
    size_t i;
    const char *at = text;
    q.kind = WEFT_PACE_CONSTANT;
    q.spread = 0.0;
    for (i = 0; i < 5 && strncmp(text, kind[i].name, strlen(kind[i].name)) != 0; i++) continue;
    if (i < 5) at += strlen(kind[i].name);
    at = weft_pace_number(at, ":", 1e-9, 1e6, &q.mean);
    if (!at) return 0;
    if (i < 5) q.kind = kind[i].kind;
    if (i < 5 && kind[i].most > 0.0) {
        at = *at == ':' ? weft_pace_number(at + 1, "", kind[i].least, kind[i].most, &q.spread) : NULL;
        if (!at) return 0;
    }
    if (*at) return 0;
    *p = q;
    return 1;
}

/* "PROBABILITYxSLOWDOWN" (0.1x10): transient stragglers. As above. */
WEFT_FN int weft_pace_parse_stragglers(weft_pace *p, const char *text) {
    double probability, slowdown;
    const char *at = weft_pace_number(text, "x", 0.0, 1.0, &probability);
    if (!at || *at != 'x') return 0;
    at = weft_pace_number(at + 1, "", 1.0, 1e6, &slowdown);
    if (!at || *at) return 0;
    p->probability = probability;
    p->slowdown = slowdown;
    return 1;
}

/* Uniform in (0, 1): the n-th draw of this worker's step. */
WEFT_FN double weft_pace_uniform(uint64_t seed, uint32_t worker, uint64_t step, uint64_t n) {
    uint64_t z = seed + UINT64_C(0x9E3779B97F4A7C15);
    const uint64_t part[3] = {worker, step, n};
    size_t i;
    for (i = 0; i <= 3; i++) {
        z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
        z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
        z ^= z >> 31;
        if (i < 3) z += (part[i] + 1) * UINT64_C(0x9E3779B97F4A7C15);
    }
    return ((double)(z >> 12) + 0.5) * (1.0 / 4503599627370496.0);
}

/* Seconds that this step takes. */
WEFT_FN double weft_pace_draw(const weft_pace *p, uint64_t seed, uint32_t worker, uint64_t step) {
    const double u = weft_pace_uniform(seed, worker, step, 0);
    double t = p->mean;
    switch (p->kind) {
    case WEFT_PACE_CONSTANT: break;
    case WEFT_PACE_UNIFORM: t *= 1.0 + p->spread * (2.0 * u - 1.0); break;
    case WEFT_PACE_EXPONENTIAL: t *= -log(u); break;
    case WEFT_PACE_LOGNORMAL: {
        const double v = weft_pace_uniform(seed, worker, step, 1);
        const double normal = sqrt(-2.0 * log(u)) * cos(6.283185307179586 * v);
        t *= exp(p->spread * normal - 0.5 * p->spread * p->spread); /* so that the mean is the mean */
        break;
    }
    case WEFT_PACE_PARETO: t *= (p->spread - 1.0) / p->spread * pow(u, -1.0 / p->spread); break;
    }
    if (p->probability > 0.0 && weft_pace_uniform(seed, worker, step, 2) < p->probability) t *= p->slowdown;
    return worker < p->slow ? t * p->slow_factor : t;
}

/* The same as nanoseconds of virtual time, at most 1e18. */
WEFT_FN uint64_t weft_pace_draw_ns(const weft_pace *p, uint64_t seed, uint32_t worker, uint64_t step) {
    const double ns = weft_pace_draw(p, seed, worker, step) * 1e9 + 0.5;
    return ns < 1e18 ? (uint64_t)ns : UINT64_C(1000000000000000000);
}

#endif /* WEFT_PACE_H */
