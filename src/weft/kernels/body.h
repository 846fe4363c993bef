/*==== SECTION WEFT_ELEMENT ====*/
/* Every kernel of a family, once, over the vocabulary of an instruction set. The set defines the vocabulary (serial.h
 * says what it is) and includes this file with WEFT_ELEMENT 32 (float tensors and the 16-bit conversions) and then with
 * WEFT_ELEMENT 64 (double tensors), which takes the vocabulary back. */
#if WEFT_ELEMENT == 32
#define WEFT_K(kernel) WEFT_SET_NAME(f32, kernel)
#define WEFT_T float
#define WEFT_V WEFT_F
#define WEFT_LANES WEFT_F_LANES
#define WEFT_SET(a) WEFT_F_SET(a)
#define WEFT_LOAD(p) WEFT_F_LOAD(p)
#define WEFT_STORE(p, v) WEFT_F_STORE(p, v)
#define WEFT_ADD(a, b) WEFT_F_ADD(a, b)
#define WEFT_SUB(a, b) WEFT_F_SUB(a, b)
#define WEFT_MUL(a, b) WEFT_F_MUL(a, b)
#define WEFT_DIV(a, b) WEFT_F_DIV(a, b)
#define WEFT_NONFINITE(v) WEFT_F_NONFINITE(v)
#define WEFT_WIDE(p) WEFT_D_LOAD32(p)
#define WEFT_NARROW(p, v) WEFT_D_STORE32(p, v)
#ifdef WEFT_D_STREAM32
#define WEFT_NARROW_STREAM(p, v) WEFT_D_STREAM32(p, v)
#endif
#define WEFT_MADD(sum, a, b) WEFT_D_MADD(sum, a, b)
#define WEFT_BITS(p) WEFT_U_LOAD32(p)
#ifdef WEFT_F_STREAM
#define WEFT_STREAM(p, v) WEFT_F_STREAM(p, v)
#endif
#else
#define WEFT_K(kernel) WEFT_SET_NAME(f64, kernel)
#define WEFT_T double
#define WEFT_V WEFT_D
#define WEFT_LANES WEFT_D_LANES
#define WEFT_SET(a) WEFT_D_SET(a)
#define WEFT_LOAD(p) WEFT_D_LOAD(p)
#define WEFT_STORE(p, v) WEFT_D_STORE(p, v)
#define WEFT_ADD(a, b) WEFT_D_ADD(a, b)
#define WEFT_SUB(a, b) WEFT_D_SUB(a, b)
#define WEFT_MUL(a, b) WEFT_D_MUL(a, b)
#define WEFT_DIV(a, b) WEFT_D_DIV(a, b)
#define WEFT_NONFINITE(v) WEFT_D_NONFINITE(v)
#define WEFT_WIDE(p) WEFT_D_LOAD(p)
#define WEFT_NARROW(p, v) WEFT_D_STORE(p, v)
#ifdef WEFT_D_STREAM
#define WEFT_NARROW_STREAM(p, v) WEFT_D_STREAM(p, v)
#endif
#define WEFT_MADD(sum, a, b) WEFT_D_ADD(sum, WEFT_D_MUL(a, b))
#define WEFT_BITS(p) WEFT_U_LOAD64(p)
#ifdef WEFT_D_STREAM
#define WEFT_STREAM(p, v) WEFT_D_STREAM(p, v)
#endif
#endif

/* WEFT_STEP(LOAD, STORE) does elements i .. i + WEFT_LANES - 1. WEFT_EACH runs it over whole vectors; the rest goes
 * through padded copies, so that nothing outside of the arrays is touched. Iterations are independent, in place too.
 * WEFT_EACH_OUT also knows an array that is only written, for WEFT_STEP(LOAD, STORE, OUT): if `stream` is set and the
 * set can, its stores bypass the cache, from where it is aligned. */
#if WEFT_LANES > 1
#define WEFT_LOAD_REST(p) WEFT_K(load_rest)(p, part)
#define WEFT_STORE_REST(p, v) WEFT_K(store_rest)(p, v, part)
#define WEFT_EACH                                                                                                      \
    for (i = 0; n - i >= WEFT_LANES; i += WEFT_LANES) WEFT_STEP(WEFT_LOAD, WEFT_STORE)                                 \
    if (i < n) {                                                                                                       \
        const size_t part = n - i;                                                                                     \
        WEFT_STEP(WEFT_LOAD_REST, WEFT_STORE_REST)                                                                     \
    }
#ifdef WEFT_STREAM
#define WEFT_EACH_OUT(out)                                                                                             \
    i = 0;                                                                                                             \
    if (stream) {                                                                                                      \
        size_t part = WEFT_K(unaligned)(out, n);                                                                       \
        if (part) WEFT_STEP(WEFT_LOAD_REST, WEFT_STORE_REST, WEFT_STORE_REST)                                          \
        for (i = part; n - i >= WEFT_LANES; i += WEFT_LANES) WEFT_STEP(WEFT_LOAD, WEFT_STORE, WEFT_STREAM)             \
    } else {                                                                                                           \
        for (; n - i >= WEFT_LANES; i += WEFT_LANES) WEFT_STEP(WEFT_LOAD, WEFT_STORE, WEFT_STORE)                      \
    }                                                                                                                  \
    if (i < n) {                                                                                                       \
        const size_t part = n - i;                                                                                     \
        WEFT_STEP(WEFT_LOAD_REST, WEFT_STORE_REST, WEFT_STORE_REST)                                                    \
    }

#if WEFT_FAMILY == WEFT_CORE_FAMILY
/* How many of the n elements at p come before the first one that a whole vector can be streamed to. */
WEFT_KERNEL size_t WEFT_K(unaligned)(const void *p, size_t n) {
    const size_t past = (size_t)(uintptr_t)p / sizeof(WEFT_T) % WEFT_LANES, m = past ? WEFT_LANES - past : 0;
    return m < n ? m : n;
}
#endif
#else
#define WEFT_EACH_OUT(out)                                                                                             \
    (void)stream;                                                                                                      \
    for (i = 0; n - i >= WEFT_LANES; i += WEFT_LANES) WEFT_STEP(WEFT_LOAD, WEFT_STORE, WEFT_STORE)                     \
    if (i < n) {                                                                                                       \
        const size_t part = n - i;                                                                                     \
        WEFT_STEP(WEFT_LOAD_REST, WEFT_STORE_REST, WEFT_STORE_REST)                                                    \
    }
#endif

#if WEFT_FAMILY == WEFT_CORE_FAMILY
WEFT_KERNEL WEFT_V WEFT_K(load_rest)(const WEFT_T *p, size_t m) {
    WEFT_T rest[WEFT_LANES];
    memset(rest, 0, sizeof rest);
    memcpy(rest, p, m * sizeof *p);
    return WEFT_LOAD(rest);
}

WEFT_KERNEL void WEFT_K(store_rest)(WEFT_T *p, WEFT_V v, size_t m) {
    WEFT_T rest[WEFT_LANES];
    WEFT_STORE(rest, v);
    memcpy(p, rest, m * sizeof *p);
}
#endif
#else
#define WEFT_EACH WEFT_INDEPENDENT for (i = 0; i < n; i++) WEFT_STEP(WEFT_LOAD, WEFT_STORE)
#define WEFT_EACH_OUT(out)                                                                                             \
    (void)stream;                                                                                                      \
    WEFT_INDEPENDENT for (i = 0; i < n; i++) WEFT_STEP(WEFT_LOAD, WEFT_STORE, WEFT_STORE)
#endif

/* Reductions: element i of a block belongs to lane i % 16. */
#define WEFT_SUMS (WEFT_LANES_OF_A_BLOCK / WEFT_D_LANES) /* accumulators of all lanes */

/* DO(j) for each accumulator; written out, since compilers keep an array in registers only under constant indices. */
#if WEFT_D_LANES == 8
#define WEFT_EACH_SUM(DO) DO(0) DO(1)
#elif WEFT_D_LANES == 4
#define WEFT_EACH_SUM(DO) DO(0) DO(1) DO(2) DO(3)
#elif WEFT_D_LANES == 2
#define WEFT_EACH_SUM(DO) DO(0) DO(1) DO(2) DO(3) DO(4) DO(5) DO(6) DO(7)
#else
#define WEFT_EACH_SUM(DO) for (j = 0; j < WEFT_SUMS; j++) { DO(j) }
#endif
#if WEFT_D_LANES == 1
#define WEFT_SUM_INDEX size_t j;
#else
#define WEFT_SUM_INDEX
#endif
#define WEFT_SUM_OF(lanes, j) WEFT_D_LOAD((lanes) + (j) * WEFT_D_LANES)
#define WEFT_SUM_TO(lanes, j, sum) WEFT_D_STORE((lanes) + (j) * WEFT_D_LANES, sum);

#if WEFT_FAMILY == WEFT_CORE_FAMILY
WEFT_KERNEL void WEFT_K(copy)(size_t n, const void *xs, void *ys, int stream) {
#ifdef WEFT_STREAM
    const WEFT_T *x = (const WEFT_T *)xs;
    WEFT_T *y = (WEFT_T *)ys;
    size_t i;
    if (stream) {
#define WEFT_STEP(LOAD, STORE, OUT) { OUT(y + i, LOAD(x + i)); }
        WEFT_EACH_OUT(y)
#undef WEFT_STEP
        return;
    }
#else
    (void)stream;
#endif
    memmove(ys, xs, n * sizeof(WEFT_T));
}

WEFT_KERNEL void WEFT_K(scale)(size_t n, double a, const void *xs, void *ys, int stream) {
    const WEFT_T *x = (const WEFT_T *)xs;
    WEFT_T *y = (WEFT_T *)ys;
    const WEFT_V va = WEFT_SET((WEFT_T)a);
    size_t i;
#define WEFT_STEP(LOAD, STORE, OUT) { OUT(y + i, WEFT_MUL(va, LOAD(x + i))); }
    WEFT_EACH_OUT(y)
#undef WEFT_STEP
}

WEFT_KERNEL void WEFT_K(axpy)(size_t n, double a, const void *xs, void *ys) {
    const WEFT_T *x = (const WEFT_T *)xs;
    WEFT_T *y = (WEFT_T *)ys;
    const WEFT_V va = WEFT_SET((WEFT_T)a);
    size_t i;
#define WEFT_STEP(LOAD, STORE) { STORE(y + i, WEFT_ADD(LOAD(y + i), WEFT_MUL(va, LOAD(x + i)))); }
    WEFT_EACH
#undef WEFT_STEP
}

WEFT_KERNEL void WEFT_K(pull)(size_t n, double l, const void *cs, void *xs) {
    const WEFT_T *c = (const WEFT_T *)cs;
    WEFT_T *x = (WEFT_T *)xs;
    const WEFT_V keep = WEFT_SET((WEFT_T)(1.0 - l)), take = WEFT_SET((WEFT_T)l);
    size_t i;
#define WEFT_STEP(LOAD, STORE) { STORE(x + i, WEFT_ADD(WEFT_MUL(keep, LOAD(x + i)), WEFT_MUL(take, LOAD(c + i)))); }
    WEFT_EACH
#undef WEFT_STEP
}

WEFT_KERNEL void WEFT_K(sam_perturb)(size_t n, double a, const void *gs, void *xs, void *backups, int stream) {
    const WEFT_T *g = (const WEFT_T *)gs;
    WEFT_T *x = (WEFT_T *)xs, *backup = (WEFT_T *)backups;
    const WEFT_V va = WEFT_SET((WEFT_T)a);
    size_t i;
#define WEFT_STEP(LOAD, STORE, OUT)                                                                                    \
    {                                                                                                                  \
        const WEFT_V was = LOAD(x + i);                                                                                \
        OUT(backup + i, was);                                                                                          \
        STORE(x + i, WEFT_ADD(was, WEFT_MUL(va, LOAD(g + i))));                                                        \
    }
    WEFT_EACH_OUT(backup)
#undef WEFT_STEP
}

/* One way over m elements of a sum: v = (started: sum +) w[0] * p[0] + ... of up to four sources, to the sums at hand,
 * or the last time to the result. Returns how many of those are not finite. */
#if WEFT_LANES > 1
#define WEFT_AT_ONCE 4
#define WEFT_SUM_GROUP 128
WEFT_KERNEL unsigned WEFT_K(add_sources)(unsigned count, size_t m, const WEFT_T *const *p, const WEFT_V *w, WEFT_V *sum,
                                         int started, WEFT_T *out, int stream) {
    const WEFT_T *const p0 = p[0], *const p1 = p[1], *const p2 = p[2], *const p3 = p[3];
    const WEFT_V w0 = w[0], w1 = w[1], w2 = w[2], w3 = w[3];
    unsigned bad = 0;
    size_t i, j = 0;
#define WEFT_TERM(LOAD, q) v = WEFT_ADD(v, WEFT_MUL(w##q, LOAD(p##q + i)));
#define WEFT_ONE(LOAD)
#define WEFT_TWO(LOAD) WEFT_TERM(LOAD, 1)
#define WEFT_THREE(LOAD) WEFT_TERM(LOAD, 1) WEFT_TERM(LOAD, 2)
#define WEFT_FOUR(LOAD) WEFT_TERM(LOAD, 1) WEFT_TERM(LOAD, 2) WEFT_TERM(LOAD, 3)
#define WEFT_STEP(LOAD, MORE, TO)                                                                                      \
    {                                                                                                                  \
        WEFT_V v = WEFT_MUL(w0, LOAD(p0 + i));                                                                         \
        if (started) v = WEFT_ADD(sum[j], v);                                                                          \
        MORE(LOAD)                                                                                                     \
        TO(v)                                                                                                          \
    }
#define WEFT_TO_SUM(v) sum[j] = v;
#define WEFT_TO_OUT(v) WEFT_STORE(out + i, v); bad += WEFT_NONFINITE(v);
#define WEFT_TO_MEMORY(v) WEFT_STREAM(out + i, v); bad += WEFT_NONFINITE(v);
/* the lanes that are padding hold zeros, or NaN if a weight is not finite: not counted */
#define WEFT_TO_REST(v) WEFT_STORE_REST(out + i, v); bad += WEFT_NONFINITE(WEFT_LOAD_REST(out + i));
#define WEFT_LOOP(MORE, TO)                                                                                            \
    for (i = 0; m - i >= WEFT_LANES; i += WEFT_LANES, j++) WEFT_STEP(WEFT_LOAD, MORE, TO)                              \
    if (i < m) {                                                                                                       \
        const size_t part = m - i;                                                                                     \
        if (out) WEFT_STEP(WEFT_LOAD_REST, MORE, WEFT_TO_REST)                                                         \
        else WEFT_STEP(WEFT_LOAD_REST, MORE, WEFT_TO_SUM)                                                              \
    }
#ifdef WEFT_STREAM
#define WEFT_WAY(MORE)                                                                                                 \
    if (!out) { WEFT_LOOP(MORE, WEFT_TO_SUM) }                                                                         \
    else if (stream) { WEFT_LOOP(MORE, WEFT_TO_MEMORY) }                                                               \
    else { WEFT_LOOP(MORE, WEFT_TO_OUT) }
#else
#define WEFT_WAY(MORE)                                                                                                 \
    (void)stream;                                                                                                      \
    if (!out) { WEFT_LOOP(MORE, WEFT_TO_SUM) }                                                                         \
    else { WEFT_LOOP(MORE, WEFT_TO_OUT) }
#endif
    if (count == 1) {
        WEFT_WAY(WEFT_ONE)
    } else if (count == 2) {
        WEFT_WAY(WEFT_TWO)
    } else if (count == 3) {
        WEFT_WAY(WEFT_THREE)
    } else {
        WEFT_WAY(WEFT_FOUR)
    }
#undef WEFT_TERM
#undef WEFT_ONE
#undef WEFT_TWO
#undef WEFT_THREE
#undef WEFT_FOUR
#undef WEFT_STEP
#undef WEFT_TO_SUM
#undef WEFT_TO_OUT
#undef WEFT_TO_MEMORY
#undef WEFT_TO_REST
#undef WEFT_LOOP
#undef WEFT_WAY
    return bad;
}

#else
/* One source at a time, in loops that a compiler can make vectors of. */
#define WEFT_AT_ONCE 1
#define WEFT_SUM_GROUP WEFT_GROUP
WEFT_KERNEL unsigned WEFT_K(add_sources)(unsigned count, size_t m, const WEFT_T *const *p, const WEFT_V *w, WEFT_V *sum,
                                         int started, WEFT_T *out, int stream) {
    unsigned bad = 0;
    size_t i;
    (void)count, (void)stream;
    if (started)
        for (i = 0; i < m; i++) sum[i] = sum[i] + w[0] * p[0][i];
    else
        for (i = 0; i < m; i++) sum[i] = w[0] * p[0][i];
    if (!out) return 0;
    for (i = 0; i < m; i++) {
        out[i] = sum[i];
        bad += WEFT_NONFINITE(sum[i]);
    }
    return bad;
}
#endif

/* Four sources at a time: memory gives more so than to eight streams at once. With more than that, a group of elements
 * at a time, whose sums stay in the first-level cache; short groups, since memory likes those better, too. */
WEFT_KERNEL uint64_t WEFT_K(weighted_sum)(size_t first, size_t n, size_t k, const double *w, const void *const *x,
                                          void *outs, int stream) {
    WEFT_T *out = (WEFT_T *)outs + first;
    WEFT_V sum[WEFT_SUM_GROUP / WEFT_LANES], weight[WEFT_AT_ONCE];
    const WEFT_T *p[WEFT_AT_ONCE];
    uint64_t bad = 0;
    size_t s, m;
    unsigned q, count;
    int at_once; /* all in one way, so that no sums are kept */
    while (k && (WEFT_T)w[k - 1] == 0) k--;
    if (!k) memset(out, 0, n * sizeof *out);
    at_once = WEFT_LANES > 1 && k <= WEFT_AT_ONCE;
    for (s = 0; s < k; s++)
        if ((WEFT_T)w[s] == 0) at_once = 0;
    for (; k && n; out += m, first += m, n -= m) {
        int started = 0;
        m = n;
        if (!at_once && m > WEFT_SUM_GROUP) m = WEFT_SUM_GROUP;
#ifdef WEFT_STREAM
        if (stream && WEFT_K(unaligned)(out, n)) m = WEFT_K(unaligned)(out, n); /* the first time */
#endif
        for (s = 0; s < k; s += count) {
            if ((WEFT_T)w[s] == 0) {
                count = 1;
                continue;
            }
            for (count = 1; count < WEFT_AT_ONCE && s + count < k && (WEFT_T)w[s + count] != 0;) count++;
            for (q = 0; q < WEFT_AT_ONCE; q++) {
                const size_t source = q < count ? s + q : s;
                weight[q] = WEFT_SET((WEFT_T)w[source]);
                p[q] = (const WEFT_T *)x[source] + first;
            }
            bad += WEFT_K(add_sources)(count, m, p, weight, sum, started, s + count == k ? out : NULL, stream);
            started = 1;
        }
    }
    return bad;
}

WEFT_KERNEL uint64_t WEFT_K(count_nonfinite)(size_t n, const void *xs) {
    const WEFT_T *x = (const WEFT_T *)xs;
    uint64_t bad = 0;
    while (n) {
        const size_t m = n < WEFT_GROUP ? n : WEFT_GROUP, whole = m - m % WEFT_LANES;
        unsigned group_bad = 0;
        size_t i;
        for (i = 0; i < whole; i += WEFT_LANES) group_bad += WEFT_NONFINITE(WEFT_LOAD(x + i));
#if WEFT_LANES > 1
        if (i < m) group_bad += WEFT_NONFINITE(WEFT_K(load_rest)(x + i, m - i));
#endif
        bad += group_bad;
        x += m;
        n -= m;
    }
    return bad;
}

/* ---- reductions: a step is 16 elements. The last ones are padded with zeros. */
WEFT_KERNEL void WEFT_K(dot_block)(size_t n, const void *xs, const void *ys, double *lanes) {
    const WEFT_T *x = (const WEFT_T *)xs, *y = (const WEFT_T *)ys;
    WEFT_T rest[2 * WEFT_LANES_OF_A_BLOCK];
    WEFT_D sum[WEFT_SUMS];
    WEFT_SUM_INDEX
#define WEFT_DO(j) sum[j] = WEFT_SUM_OF(lanes, j);
    WEFT_EACH_SUM(WEFT_DO)
#undef WEFT_DO
#define WEFT_DO(j) sum[j] = WEFT_MADD(sum[j], WEFT_WIDE(x + (j) * WEFT_D_LANES), WEFT_WIDE(y + (j) * WEFT_D_LANES));
    for (; n >= WEFT_LANES_OF_A_BLOCK; n -= WEFT_LANES_OF_A_BLOCK) {
        WEFT_EACH_SUM(WEFT_DO)
        x += WEFT_LANES_OF_A_BLOCK;
        y += WEFT_LANES_OF_A_BLOCK;
    }
    if (n) {
        memset(rest, 0, sizeof rest);
        memcpy(rest, x, n * sizeof *x);
        memcpy(rest + WEFT_LANES_OF_A_BLOCK, y, n * sizeof *y);
        x = rest;
        y = rest + WEFT_LANES_OF_A_BLOCK;
        WEFT_EACH_SUM(WEFT_DO)
    }
#undef WEFT_DO
#define WEFT_DO(j) WEFT_SUM_TO(lanes, j, sum[j])
    WEFT_EACH_SUM(WEFT_DO)
#undef WEFT_DO
}

WEFT_KERNEL void WEFT_K(sqnorm_block)(size_t n, const void *xs, double *lanes) {
    const WEFT_T *x = (const WEFT_T *)xs;
    WEFT_T rest[WEFT_LANES_OF_A_BLOCK];
    WEFT_D sum[WEFT_SUMS];
    WEFT_SUM_INDEX
#define WEFT_DO(j) sum[j] = WEFT_SUM_OF(lanes, j);
    WEFT_EACH_SUM(WEFT_DO)
#undef WEFT_DO
#define WEFT_DO(j)                                                                                                     \
    {                                                                                                                  \
        const WEFT_D v = WEFT_WIDE(x + (j) * WEFT_D_LANES);                                                            \
        sum[j] = WEFT_MADD(sum[j], v, v);                                                                              \
    }
    for (; n >= WEFT_LANES_OF_A_BLOCK; n -= WEFT_LANES_OF_A_BLOCK) {
        WEFT_EACH_SUM(WEFT_DO)
        x += WEFT_LANES_OF_A_BLOCK;
    }
    if (n) {
        memset(rest, 0, sizeof rest);
        memcpy(rest, x, n * sizeof *x);
        x = rest;
        WEFT_EACH_SUM(WEFT_DO)
    }
#undef WEFT_DO
#define WEFT_DO(j) WEFT_SUM_TO(lanes, j, sum[j])
    WEFT_EACH_SUM(WEFT_DO)
#undef WEFT_DO
}

WEFT_KERNEL void WEFT_K(dots_block)(size_t n, const void *xs, const void *ys, double *lanes) {
    const WEFT_T *x = (const WEFT_T *)xs, *y = (const WEFT_T *)ys;
    double *const lanes_xx = lanes + WEFT_LANES_OF_A_BLOCK, *const lanes_yy = lanes_xx + WEFT_LANES_OF_A_BLOCK;
    WEFT_T rest[2 * WEFT_LANES_OF_A_BLOCK];
    WEFT_D xy[WEFT_SUMS], xx[WEFT_SUMS], yy[WEFT_SUMS];
    WEFT_SUM_INDEX
#define WEFT_DO(j)                                                                                                     \
    xy[j] = WEFT_SUM_OF(lanes, j);                                                                                     \
    xx[j] = WEFT_SUM_OF(lanes_xx, j);                                                                                  \
    yy[j] = WEFT_SUM_OF(lanes_yy, j);
    WEFT_EACH_SUM(WEFT_DO)
#undef WEFT_DO
#define WEFT_DO(j)                                                                                                     \
    {                                                                                                                  \
        const WEFT_D u = WEFT_WIDE(x + (j) * WEFT_D_LANES), v = WEFT_WIDE(y + (j) * WEFT_D_LANES);                     \
        xy[j] = WEFT_MADD(xy[j], u, v);                                                                                \
        xx[j] = WEFT_MADD(xx[j], u, u);                                                                                \
        yy[j] = WEFT_MADD(yy[j], v, v);                                                                                \
    }
    for (; n >= WEFT_LANES_OF_A_BLOCK; n -= WEFT_LANES_OF_A_BLOCK) {
        WEFT_EACH_SUM(WEFT_DO)
        x += WEFT_LANES_OF_A_BLOCK;
        y += WEFT_LANES_OF_A_BLOCK;
    }
    if (n) {
        memset(rest, 0, sizeof rest);
        memcpy(rest, x, n * sizeof *x);
        memcpy(rest + WEFT_LANES_OF_A_BLOCK, y, n * sizeof *y);
        x = rest;
        y = rest + WEFT_LANES_OF_A_BLOCK;
        WEFT_EACH_SUM(WEFT_DO)
    }
#undef WEFT_DO
#define WEFT_DO(j)                                                                                                     \
    WEFT_SUM_TO(lanes, j, xy[j])                                                                                       \
    WEFT_SUM_TO(lanes_xx, j, xx[j])                                                                                    \
    WEFT_SUM_TO(lanes_yy, j, yy[j])
    WEFT_EACH_SUM(WEFT_DO)
#undef WEFT_DO
}

/* Sixteen elements at a time: their part of the norm, then their step. An element that is not finite makes its lane so;
 * only then they are counted (lanes of f64 may also overflow: the count tells). */
WEFT_KERNEL uint64_t WEFT_K(sgd_block)(size_t n, const weft_sgd *o, const void *gs, void *vs, void *xs, double *lanes) {
    const WEFT_T *WEFT_RESTRICT g = (const WEFT_T *)gs;
    WEFT_T *WEFT_RESTRICT v = (WEFT_T *)vs, *WEFT_RESTRICT x = (WEFT_T *)xs;
    const WEFT_T decay = (WEFT_T)o->weight_decay, momentum = (WEFT_T)o->momentum;
    const WEFT_V rate = WEFT_SET((WEFT_T)o->learning_rate), wd = WEFT_SET(decay), mu = WEFT_SET(momentum);
    const int plain = momentum == 0, first = o->first, nesterov = o->nesterov;
    size_t i = 0;
#define WEFT_STEP(LOAD, STORE)                                                                                         \
    {                                                                                                                  \
        const WEFT_V was = LOAD(x + i);                                                                                \
        WEFT_V d = LOAD(g + i);                                                                                        \
        if (decay != 0) d = WEFT_ADD(d, WEFT_MUL(wd, was));                                                            \
        if (!plain) {                                                                                                  \
            WEFT_V u = d;                                                                                              \
            if (!first) u = WEFT_ADD(WEFT_MUL(mu, LOAD(v + i)), d);                                                    \
            STORE(v + i, u);                                                                                           \
            d = nesterov ? WEFT_ADD(d, WEFT_MUL(mu, u)) : u;                                                           \
        }                                                                                                              \
        STORE(x + i, WEFT_SUB(was, WEFT_MUL(rate, d)));                                                                \
    }
#if WEFT_LANES > 1
    {
        WEFT_D sum[WEFT_SUMS];
        size_t end;
#define WEFT_DO(j) sum[j] = WEFT_SUM_OF(lanes, j);
        WEFT_EACH_SUM(WEFT_DO)
#undef WEFT_DO
#define WEFT_DO(j)                                                                                                     \
    {                                                                                                                  \
        const WEFT_D u = WEFT_WIDE(g + i + (j) * WEFT_D_LANES);                                                        \
        sum[j] = WEFT_MADD(sum[j], u, u);                                                                              \
    }
        while (n - i >= WEFT_LANES_OF_A_BLOCK) {
            WEFT_EACH_SUM(WEFT_DO)
            for (end = i + WEFT_LANES_OF_A_BLOCK; i < end; i += WEFT_LANES) WEFT_STEP(WEFT_LOAD, WEFT_STORE)
        }
#undef WEFT_DO
#define WEFT_DO(j) WEFT_SUM_TO(lanes, j, sum[j])
        WEFT_EACH_SUM(WEFT_DO)
#undef WEFT_DO
    }
    WEFT_K(sqnorm_block)(n - i, g + i, lanes);
    for (; n - i >= WEFT_LANES; i += WEFT_LANES) WEFT_STEP(WEFT_LOAD, WEFT_STORE)
    if (i < n) {
        const size_t part = n - i;
        WEFT_STEP(WEFT_LOAD_REST, WEFT_STORE_REST)
    }
#else
    WEFT_K(sqnorm_block)(n, gs, lanes);
    WEFT_EACH
#endif
#undef WEFT_STEP
    for (i = 0; i < WEFT_LANES_OF_A_BLOCK; i++)
        if (!weft_is_finite(lanes[i])) return WEFT_K(count_nonfinite)(n, gs);
    return 0;
}

/* ---- the replica hash ---- */
WEFT_KERNEL uint64_t WEFT_K(hash)(size_t n, uint64_t first, const void *xs) {
    const WEFT_T *x = (const WEFT_T *)xs;
    const size_t whole = n - n % WEFT_D_LANES;
    uint64_t lanes[WEFT_D_LANES], sum = 0;
    size_t i, j;
    WEFT_U key, total = WEFT_U_SET(0);
    const WEFT_U step = WEFT_U_SET(WEFT_HASH_KEY * WEFT_D_LANES);
    for (j = 0; j < WEFT_D_LANES; j++) lanes[j] = WEFT_HASH_KEY * (first + j + 1);
    key = WEFT_U_LOAD64(lanes);
    for (i = 0; i < whole; i += WEFT_D_LANES) {
        WEFT_U z = WEFT_U_ADD(WEFT_BITS(x + i), key);
        key = WEFT_U_ADD(key, step);
        z = WEFT_U_MUL(WEFT_U_XOR(z, WEFT_U_SHR(z, 30)), WEFT_HASH_MUL1);
        z = WEFT_U_MUL(WEFT_U_XOR(z, WEFT_U_SHR(z, 27)), WEFT_HASH_MUL2);
        total = WEFT_U_ADD(total, WEFT_U_XOR(z, WEFT_U_SHR(z, 31)));
    }
    WEFT_U_STORE64(lanes, total);
    for (j = 0; j < WEFT_D_LANES; j++) sum += lanes[j];
#if WEFT_D_LANES > 1
    for (; i < n; i++) {
        uint64_t bits = 0;
#if WEFT_ELEMENT == 32
        uint32_t half;
        memcpy(&half, x + i, sizeof half);
        bits = half;
#else
        memcpy(&bits, x + i, sizeof bits);
#endif
        sum += weft_mix(bits + WEFT_HASH_KEY * (first + i + 1));
    }
#endif
    return sum;
}

#if WEFT_ELEMENT == 32
/* ---- 16-bit types: WEFT_I holds WEFT_F_LANES 32-bit integers ---- */
#if WEFT_LANES > 1
WEFT_KERNEL WEFT_I WEFT_K(load16_rest)(const uint16_t *p, size_t m) {
    uint16_t rest[WEFT_LANES];
    memset(rest, 0, sizeof rest);
    memcpy(rest, p, m * sizeof *p);
    return WEFT_I_LOAD16(rest);
}

WEFT_KERNEL void WEFT_K(store16_rest)(uint16_t *p, WEFT_I v, size_t m) {
    uint16_t rest[WEFT_LANES];
    WEFT_I_STORE16(rest, v);
    memcpy(p, rest, m * sizeof *p);
}
#define WEFT_LOAD16_REST(p) WEFT_K(load16_rest)(p, part)
#define WEFT_STORE16_REST(p, v) WEFT_K(store16_rest)(p, v, part)
#define WEFT_EACH16(LOAD, LOAD_REST, STORE, STORE_REST)                                                                \
    for (i = 0; n - i >= WEFT_LANES; i += WEFT_LANES) WEFT_STEP(LOAD, STORE)                                           \
    if (i < n) {                                                                                                       \
        const size_t part = n - i;                                                                                     \
        WEFT_STEP(LOAD_REST, STORE_REST)                                                                               \
    }
#else
#define WEFT_EACH16(LOAD, LOAD_REST, STORE, STORE_REST)                                                                \
    WEFT_INDEPENDENT for (i = 0; i < n; i++) WEFT_STEP(LOAD, STORE)
#endif

WEFT_KERNEL void WEFT_K(from_bf16)(size_t n, const uint16_t *x, float *y) {
    size_t i;
#define WEFT_STEP(LOAD, STORE) { STORE(y + i, WEFT_I_TO_F(WEFT_I_SHL(LOAD(x + i), 16))); }
    WEFT_EACH16(WEFT_I_LOAD16, WEFT_LOAD16_REST, WEFT_STORE, WEFT_STORE_REST)
#undef WEFT_STEP
}

WEFT_KERNEL void WEFT_K(to_bf16)(size_t n, const float *x, uint16_t *y) {
    const WEFT_I magnitude = WEFT_I_SET(0x7FFFFFFFu), infinity = WEFT_I_SET(0x7F800000u), quiet = WEFT_I_SET(0x40u),
                 half = WEFT_I_SET(0x7FFFu), one = WEFT_I_SET(1u);
    size_t i;
#define WEFT_STEP(LOAD, STORE)                                                                                         \
    {                                                                                                                  \
        const WEFT_I b = WEFT_F_TO_I(LOAD(x + i)), top = WEFT_I_SHR(b, 16);                                            \
        const WEFT_I up = WEFT_I_ADD(b, WEFT_I_ADD(half, WEFT_I_AND(top, one)));                                       \
        STORE(y + i, WEFT_I_SELECT(WEFT_I_GREATER(WEFT_I_AND(b, magnitude), infinity), WEFT_I_OR(top, quiet),          \
                                   WEFT_I_SHR(up, 16)));                                                               \
    }
    WEFT_EACH16(WEFT_LOAD, WEFT_LOAD_REST, WEFT_I_STORE16, WEFT_STORE16_REST)
#undef WEFT_STEP
}

/* Exponent and fraction move to where f32 has them, times 2^112 for the other bias; this makes subnormals right too. */
WEFT_KERNEL void WEFT_K(from_f16)(size_t n, const uint16_t *x, float *y) {
    const WEFT_I magnitude = WEFT_I_SET(0x7FFFu), sign = WEFT_I_SET(0x8000u), finite = WEFT_I_SET(0x0F7FFFFFu),
                 infinity = WEFT_I_SET(0x0F800000u), exponent = WEFT_I_SET(0x7F800000u), nan = WEFT_I_SET(0x7FC00000u);
    const WEFT_F bias = WEFT_I_TO_F(WEFT_I_SET(0x77800000u)); /* 2^112 */
    size_t i;
#define WEFT_STEP(LOAD, STORE)                                                                                         \
    {                                                                                                                  \
        const WEFT_I h = LOAD(x + i), m = WEFT_I_SHL(WEFT_I_AND(h, magnitude), 13);                                    \
        WEFT_I r = WEFT_F_TO_I(WEFT_F_MUL(WEFT_I_TO_F(m), bias));                                                      \
        r = WEFT_I_SELECT(WEFT_I_GREATER(m, finite), exponent, r);                                                     \
        r = WEFT_I_SELECT(WEFT_I_GREATER(m, infinity), WEFT_I_OR(m, nan), r);                                          \
        STORE(y + i, WEFT_I_TO_F(WEFT_I_OR(r, WEFT_I_SHL(WEFT_I_AND(h, sign), 16))));                                  \
    }
    WEFT_EACH16(WEFT_I_LOAD16, WEFT_LOAD16_REST, WEFT_STORE, WEFT_STORE_REST)
#undef WEFT_STEP
}

/* Normal results round in integers; subnormal ones by adding 0.5, whose last place is that of f16's smallest number. */
WEFT_KERNEL void WEFT_K(to_f16)(size_t n, const float *x, uint16_t *y) {
    const WEFT_I magnitude = WEFT_I_SET(0x7FFFFFFFu), sign = WEFT_I_SET(0x8000u), one = WEFT_I_SET(1u),
                 infinity = WEFT_I_SET(0x7F800000u), large = WEFT_I_SET(0x477FFFFFu), normal = WEFT_I_SET(0x38800000u),
                 bias = WEFT_I_SET(0xC8000FFFu), minus_half = WEFT_I_SET(0xC1000000u), inf16 = WEFT_I_SET(0x7C00u),
                 nan16 = WEFT_I_SET(0x7E00u), fraction = WEFT_I_SET(0x3FFu);
    const WEFT_F half = WEFT_F_SET(0.5f);
    size_t i;
#define WEFT_STEP(LOAD, STORE)                                                                                         \
    {                                                                                                                  \
        const WEFT_I b = WEFT_F_TO_I(LOAD(x + i)), m = WEFT_I_AND(b, magnitude), top = WEFT_I_SHR(m, 13);              \
        const WEFT_I tiny = WEFT_I_ADD(WEFT_F_TO_I(WEFT_F_ADD(WEFT_I_TO_F(m), half)), minus_half);                     \
        WEFT_I r = WEFT_I_SHR(WEFT_I_ADD(m, WEFT_I_ADD(bias, WEFT_I_AND(top, one))), 13);                              \
        r = WEFT_I_SELECT(WEFT_I_GREATER(normal, m), tiny, r);                                                         \
        r = WEFT_I_SELECT(WEFT_I_GREATER(m, large), inf16, r);                                                         \
        r = WEFT_I_SELECT(WEFT_I_GREATER(m, infinity), WEFT_I_OR(nan16, WEFT_I_AND(top, fraction)), r);                \
        STORE(y + i, WEFT_I_OR(r, WEFT_I_AND(WEFT_I_SHR(b, 16), sign)));                                               \
    }
    WEFT_EACH16(WEFT_LOAD, WEFT_LOAD_REST, WEFT_I_STORE16, WEFT_STORE16_REST)
#undef WEFT_STEP
}
#undef WEFT_LOAD16_REST
#undef WEFT_STORE16_REST
#undef WEFT_EACH16
#endif
#endif /* WEFT_CORE_FAMILY */

/*==== WITH wide.h ====*/
#if WEFT_FAMILY == WEFT_WIDE_FAMILY
#include "wide_body.h"
#endif
/*==== END WITH ====*/
/*==== WITH replica.h ====*/
#if WEFT_FAMILY == WEFT_REPLICA_FAMILY
#include "replica_body.h"
#endif
/*==== END WITH ====*/
/*==== WITH codec.h ====*/
#if WEFT_FAMILY == WEFT_CODEC_FAMILY && WEFT_ELEMENT == 32
#include "codec_body.h"
#endif
/*==== END WITH ====*/

#undef WEFT_K
#undef WEFT_T
#undef WEFT_V
#undef WEFT_LANES
#undef WEFT_SET
#undef WEFT_LOAD
#undef WEFT_STORE
#undef WEFT_ADD
#undef WEFT_SUB
#undef WEFT_MUL
#undef WEFT_DIV
#undef WEFT_NONFINITE
#undef WEFT_WIDE
#undef WEFT_NARROW
#undef WEFT_NARROW_STREAM
#undef WEFT_MADD
#undef WEFT_BITS
#undef WEFT_STREAM
#undef WEFT_LOAD_REST
#undef WEFT_STORE_REST
#undef WEFT_EACH
#undef WEFT_EACH_OUT
#undef WEFT_SUM_GROUP
#undef WEFT_AT_ONCE
#undef WEFT_SUMS
#undef WEFT_SUM_INDEX
#undef WEFT_SUM_OF
#undef WEFT_SUM_TO
#undef WEFT_EACH_SUM
#if WEFT_ELEMENT == 64 /* the last: the vocabulary is taken back, but for WEFT_SET_NAME */
#undef WEFT_KERNEL
#undef WEFT_F
#undef WEFT_F_LANES
#undef WEFT_F_SET
#undef WEFT_F_LOAD
#undef WEFT_F_STORE
#undef WEFT_F_STREAM
#undef WEFT_F_ADD
#undef WEFT_F_SUB
#undef WEFT_F_MUL
#undef WEFT_F_DIV
#undef WEFT_F_NONFINITE
#undef WEFT_F_TO_I
#undef WEFT_D
#undef WEFT_D_LANES
#undef WEFT_D_SET
#undef WEFT_D_LOAD
#undef WEFT_D_LOAD32
#undef WEFT_D_STORE
#undef WEFT_D_STORE32
#undef WEFT_D_STREAM
#undef WEFT_D_STREAM32
#undef WEFT_D_ADD
#undef WEFT_D_SUB
#undef WEFT_D_MUL
#undef WEFT_D_DIV
#undef WEFT_D_MADD
#undef WEFT_D_NONFINITE
#undef WEFT_U
#undef WEFT_U_SET
#undef WEFT_U_LOAD64
#undef WEFT_U_LOAD32
#undef WEFT_U_STORE64
#undef WEFT_U_ADD
#undef WEFT_U_XOR
#undef WEFT_U_SHR
#undef WEFT_U_MUL
#undef WEFT_I
#undef WEFT_I_SET
#undef WEFT_I_LOAD16
#undef WEFT_I_STORE16
#undef WEFT_I_ADD
#undef WEFT_I_AND
#undef WEFT_I_OR
#undef WEFT_I_SHL
#undef WEFT_I_SHR
#undef WEFT_I_GREATER
#undef WEFT_I_SELECT
#undef WEFT_I_TO_F
/*==== WITH codec.h ====*/
#undef WEFT_I_XOR
#undef WEFT_I_MUL
#undef WEFT_I_SRA
#undef WEFT_I_LOAD8
#undef WEFT_I_STORE8
#undef WEFT_I_FROM_F
#undef WEFT_F_FROM_I
#undef WEFT_I_MAX
#undef WEFT_I_MASK
/*==== END WITH ====*/
#endif
#undef WEFT_ELEMENT
