/* SPDX-License-Identifier: MIT
 * ceiling.c: what the memory gives to a pass that reads and writes as a kernel does and computes nothing: each line
 * that is read goes into an OR, each that is updated is stored as it was, each that is only written takes the OR. What
 * is best differs from machine to machine and from mix to mix, so there are several ways: streams in turn, a line or
 * four of each; or each array in four parts at once; with stores through the cache or by it. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "kernels.h"

#include "spin.h"

#include <string.h>
#if defined __SSE2__
#include <immintrin.h>
#endif

typedef unsigned line __attribute__((vector_size(64), may_alias)); /* 64 bytes: one or more registers */

enum { LINE = sizeof(line) / sizeof(float) };

static const struct {
    const char *name;
    size_t burst, parts; /* lines of a stream in turn; parts of an array at once */
    int bypass;
} way[CEILINGS] = {{"line by line", 1, 1, 0},
                   {"line by line, streaming stores", 1, 1, 1},
                   {"4 lines of each in turn", 4, 1, 0},
                   {"4 lines of each in turn, streaming stores", 4, 1, 1},
                   {"in four parts at once", 1, 4, 0},
                   {"in four parts at once, streaming stores", 1, 4, 1}};

const char *ceiling_name(int which) { return way[which].name; }
int ceiling_bypasses(int which) { return way[which].bypass; }

static inline __attribute__((always_inline)) void put(float *p, line v, int bypass) {
#if defined __AVX512F__
    if (bypass) {
        _mm512_stream_si512((__m512i *)(void *)p, (__m512i)v);
        return;
    }
#elif defined __SSE2__
    if (bypass) {
        __m128i quarter[4];
        int i;
        memcpy(quarter, &v, sizeof quarter);
        for (i = 0; i < 4; i++) _mm_stream_si128((__m128i *)(void *)p + i, quarter[i]);
        return;
    }
#endif
    (void)bypass;
    *(line *)(void *)p = v;
}

static inline __attribute__((always_inline)) line get(const float *p) { return *(const line *)(const void *)p; }

/* Lines [lo, hi). All but these two are constants where this is inlined. */
static inline __attribute__((always_inline)) line range(const arrays *a, size_t lo, size_t hi, int read, int update,
                                                        int write, size_t burst, size_t parts, int bypass) {
    const size_t part = (hi - lo) / parts * LINE; /* elements */
    line all[4];
    size_t at, i, q;
    int s;
    memset(all, 0, sizeof all);
    for (at = lo * LINE; at + burst * LINE <= lo * LINE + part; at += burst * LINE) {
        for (s = 0; s < read + update; s++) {
            float *p = a->x[s] + at;
            for (q = 0; q < parts; q++) {
                for (i = 0; i < burst; i++) {
                    const line v = get(p + q * part + i * LINE);
                    all[(i + q + (size_t)s) % 4] |= v;
                    if (s < update) put(p + q * part + i * LINE, v, 0);
                }
            }
        }
        for (q = 0; write && q < parts; q++)
            for (i = 0; i < burst; i++) put(a->out + at + q * part + i * LINE, all[i % 4], bypass);
    }
#if defined __SSE2__
    if (bypass) _mm_sfence();
#endif
    return all[0] | all[1] | all[2] | all[3];
}

typedef struct pass {
    arrays *a;
    streams s;
    int which;
} pass;

static volatile unsigned sink;
static spin_team team;

/* Loops that are made for their mix and way: way[], once more, as constants. */
#define MIX(r, u, w)                                                                                                   \
    if (p->s.read == r && p->s.update == u && p->s.write == w) {                                                       \
        if (p->which == 0) v = range(p->a, lo, hi, r, u, w, 1, 1, 0);                                                  \
        else if (p->which == 1) v = range(p->a, lo, hi, r, u, w, 1, 1, 1);                                             \
        else if (p->which == 2) v = range(p->a, lo, hi, r, u, w, 4, 1, 0);                                             \
        else if (p->which == 3) v = range(p->a, lo, hi, r, u, w, 4, 1, 1);                                             \
        else if (p->which == 4) v = range(p->a, lo, hi, r, u, w, 1, 4, 0);                                             \
        else v = range(p->a, lo, hi, r, u, w, 1, 4, 1);                                                                \
    } else

/* the share of one thread */
static void share(void *arg, int thread, int threads) {
    const pass *p = (const pass *)arg;
    const size_t lines = p->a->d / LINE, t = (size_t)thread, n = (size_t)threads;
    const size_t lo = lines / n * t, hi = t + 1 == n ? lines : lines / n * (t + 1);
    line v;
    MIX(1, 0, 0)
    MIX(2, 0, 0)
    MIX(1, 1, 0)
    MIX(8, 0, 1)
    MIX(7, 1, 1)
    MIX(1, 2, 0)
    MIX(1, 1, 1)
    MIX(1, 2, 1)
    MIX(1, 3, 0)
    v = range(p->a, lo, hi, p->s.read, p->s.update, p->s.write, way[p->which].burst, way[p->which].parts,
              way[p->which].bypass); /* a mix of a new row */
    sink = v[0];
}

void ceiling_threads(int threads) { spin_start(&team, threads); }
void ceiling_begin(void) { spin_join(&team); }
void ceiling_end(void) { spin_leave(&team); }

void ceiling_run(int which, streams s, arrays *a) {
    pass p;
    p.a = a;
    p.s = s;
    p.which = which;
    spin_run(&team, share, &p);
}
