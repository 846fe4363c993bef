/* Sums over workers in f64, and products of their vectors (wide.h): a few hundred columns at a time, which stay in the
 * first-level cache. Part of body.h. */
/* Up to four sources; into s, or if `out` is not NULL, rounded, there. */
WEFT_KERNEL void WEFT_K(sum_wide)(size_t n, size_t k, const double *w, const void *const *xs, double *s, int started,
                                  void *outs, int stream) {
    /* what is not used stands in for what is */
    const WEFT_T *const x0 = (const WEFT_T *)xs[0], *const x1 = (const WEFT_T *)xs[k > 1 ? 1 : 0];
    const WEFT_T *const x2 = (const WEFT_T *)xs[k > 2 ? 2 : 0], *const x3 = (const WEFT_T *)xs[k > 3 ? 3 : 0];
    const double w0 = w[0], w1 = w[k > 1 ? 1 : 0], w2 = w[k > 2 ? 2 : 0], w3 = w[k > 3 ? 3 : 0];
    const WEFT_D a0 = WEFT_D_SET(w0), a1 = WEFT_D_SET(w1), a2 = WEFT_D_SET(w2), a3 = WEFT_D_SET(w3);
    WEFT_T *out = (WEFT_T *)outs;
    size_t i = 0, m;
#define WEFT_MORE(q) v = WEFT_D_ADD(v, WEFT_D_MUL(a##q, WEFT_WIDE(x##q + i)));
#define WEFT_ONE_MORE(q) v = v + w##q * (double)x##q[i];
#define WEFT_STEP(MORE, TO)                                                                                            \
    {                                                                                                                  \
        WEFT_D v = WEFT_D_MUL(a0, WEFT_WIDE(x0 + i));                                                                  \
        if (started) v = WEFT_D_ADD(WEFT_D_LOAD(s + i), v);                                                           \
        MORE                                                                                                           \
        TO;                                                                                                            \
    }
#define WEFT_ONE(ONE_MORE)                                                                                             \
    {                                                                                                                  \
        double v = w0 * (double)x0[i];                                                                                 \
        if (started) v = s[i] + v;                                                                                     \
        ONE_MORE                                                                                                       \
        if (out) out[i] = (WEFT_T)v;                                                                                   \
        else s[i] = v;                                                                                                 \
    }
#if WEFT_D_LANES > 1
#ifdef WEFT_NARROW_STREAM
#define WEFT_SUM_STREAM(MORE)                                                                                          \
    if (out && stream) {                                                                                               \
        for (; n - i >= WEFT_D_LANES; i += WEFT_D_LANES) WEFT_STEP(MORE, WEFT_NARROW_STREAM(out + i, v))               \
    } else
#else
#define WEFT_SUM_STREAM(MORE)
#endif
#define WEFT_SUM(MORE, ONE_MORE)                                                                                       \
    for (; i < m; i++) WEFT_ONE(ONE_MORE)                                                                              \
    WEFT_SUM_STREAM(MORE)                                                                                              \
    if (out) {                                                                                                         \
        for (; n - i >= WEFT_D_LANES; i += WEFT_D_LANES) WEFT_STEP(MORE, WEFT_NARROW(out + i, v))                      \
    } else {                                                                                                           \
        for (; n - i >= WEFT_D_LANES; i += WEFT_D_LANES) WEFT_STEP(MORE, WEFT_D_STORE(s + i, v))                       \
    }                                                                                                                  \
    for (; i < n; i++) WEFT_ONE(ONE_MORE)
#else
#define WEFT_SUM(MORE, ONE_MORE) for (i = 0; i < n; i++) WEFT_ONE(ONE_MORE)
#endif
    m = 0; /* how many columns come before whole vectors can be streamed */
#ifdef WEFT_NARROW_STREAM
    if (out && stream && (size_t)(uintptr_t)out / sizeof(WEFT_T) % WEFT_D_LANES)
        m = WEFT_D_LANES - (size_t)(uintptr_t)out / sizeof(WEFT_T) % WEFT_D_LANES;
    if (m > n) m = n;
#endif
    (void)m, (void)stream, (void)a0, (void)a1, (void)a2, (void)a3;
    if (k == 1) {
        WEFT_SUM(, )
    } else if (k == 2) {
        WEFT_SUM(WEFT_MORE(1), WEFT_ONE_MORE(1))
    } else if (k == 3) {
        WEFT_SUM(WEFT_MORE(1) WEFT_MORE(2), WEFT_ONE_MORE(1) WEFT_ONE_MORE(2))
    } else {
        WEFT_SUM(WEFT_MORE(1) WEFT_MORE(2) WEFT_MORE(3), WEFT_ONE_MORE(1) WEFT_ONE_MORE(2) WEFT_ONE_MORE(3))
    }
#undef WEFT_MORE
#undef WEFT_ONE_MORE
#undef WEFT_STEP
#undef WEFT_ONE
#undef WEFT_SUM
#undef WEFT_SUM_STREAM
}

WEFT_KERNEL void WEFT_K(dots_wide)(size_t n, const void *xs, const double *s, double *lanes) {
    const WEFT_T *x = (const WEFT_T *)xs;
    double *const lanes_xx = lanes + WEFT_LANES_OF_A_BLOCK, wide[WEFT_LANES_OF_A_BLOCK];
    WEFT_T rest[WEFT_LANES_OF_A_BLOCK];
    WEFT_D xs_sum[WEFT_SUMS], xx_sum[WEFT_SUMS];
    WEFT_SUM_INDEX
#define WEFT_DO(j)                                                                                                     \
    xs_sum[j] = WEFT_SUM_OF(lanes, j);                                                                                 \
    xx_sum[j] = WEFT_SUM_OF(lanes_xx, j);
    WEFT_EACH_SUM(WEFT_DO)
#undef WEFT_DO
#define WEFT_DO(j)                                                                                                     \
    {                                                                                                                  \
        const WEFT_D u = WEFT_WIDE(x + (j) * WEFT_D_LANES);                                                            \
        xs_sum[j] = WEFT_D_ADD(xs_sum[j], WEFT_D_MUL(u, WEFT_D_LOAD(s + (j) * WEFT_D_LANES)));                         \
        xx_sum[j] = WEFT_MADD(xx_sum[j], u, u);                                                                        \
    }
    for (; n >= WEFT_LANES_OF_A_BLOCK; n -= WEFT_LANES_OF_A_BLOCK) {
        WEFT_EACH_SUM(WEFT_DO)
        x += WEFT_LANES_OF_A_BLOCK;
        s += WEFT_LANES_OF_A_BLOCK;
    }
    if (n) {
        memset(rest, 0, sizeof rest);
        memset(wide, 0, sizeof wide);
        memcpy(rest, x, n * sizeof *x);
        memcpy(wide, s, n * sizeof *s);
        x = rest;
        s = wide;
        WEFT_EACH_SUM(WEFT_DO)
    }
#undef WEFT_DO
#define WEFT_DO(j)                                                                                                     \
    WEFT_SUM_TO(lanes, j, xs_sum[j])                                                                                   \
    WEFT_SUM_TO(lanes_xx, j, xx_sum[j])
    WEFT_EACH_SUM(WEFT_DO)
#undef WEFT_DO
}

/* Vector after vector of the lanes, each through all columns: ten sums and four sources fit sixteen registers, and
 * what is read again is in the first-level cache. */
WEFT_KERNEL void WEFT_K(gram_columns)(size_t columns, const WEFT_T *const *x, double *lanes) {
    size_t i, at;
    for (at = 0; at < WEFT_LANES_OF_A_BLOCK; at += WEFT_D_LANES) {
        double *l = lanes + at;
#if WEFT_D_LANES > 1
#define WEFT_EACH_PAIR(DO)                                                                                             \
    DO(aa, 0) DO(ab, 1) DO(ac, 2) DO(ad, 3) DO(bb, 4) DO(bc, 5) DO(bd, 6) DO(cc, 7) DO(cd, 8) DO(dd, 9)
#define WEFT_DO(sum, p) WEFT_D sum = WEFT_D_LOAD(l + (p) * WEFT_LANES_OF_A_BLOCK);
        WEFT_EACH_PAIR(WEFT_DO)
#undef WEFT_DO
        for (i = at; i < columns; i += WEFT_LANES_OF_A_BLOCK) {
            const WEFT_D a = WEFT_WIDE(x[0] + i), b = WEFT_WIDE(x[1] + i), c = WEFT_WIDE(x[2] + i);
            const WEFT_D d = WEFT_WIDE(x[3] + i);
            aa = WEFT_MADD(aa, a, a);
            ab = WEFT_MADD(ab, a, b);
            ac = WEFT_MADD(ac, a, c);
            ad = WEFT_MADD(ad, a, d);
            bb = WEFT_MADD(bb, b, b);
            bc = WEFT_MADD(bc, b, c);
            bd = WEFT_MADD(bd, b, d);
            cc = WEFT_MADD(cc, c, c);
            cd = WEFT_MADD(cd, c, d);
            dd = WEFT_MADD(dd, d, d);
        }
#define WEFT_DO(sum, p) WEFT_D_STORE(l + (p) * WEFT_LANES_OF_A_BLOCK, sum);
        WEFT_EACH_PAIR(WEFT_DO)
#undef WEFT_DO
#undef WEFT_EACH_PAIR
#else /* little code where there are no vectors */
        size_t u, v;
        for (u = 0; u < 4; u++)
            for (v = u; v < 4; v++, l += WEFT_LANES_OF_A_BLOCK)
                for (i = at; i < columns; i += WEFT_LANES_OF_A_BLOCK)
                    *l = WEFT_MADD(*l, WEFT_WIDE(x[u] + i), WEFT_WIDE(x[v] + i));
#endif
    }
}

WEFT_KERNEL void WEFT_K(gram_block)(size_t n, const void *const *xs, double *lanes) {
    const size_t whole = n - n % WEFT_LANES_OF_A_BLOCK;
    WEFT_T rest[4 * WEFT_LANES_OF_A_BLOCK];
    const WEFT_T *x[4];
    size_t i;
    for (i = 0; i < 4; i++) x[i] = (const WEFT_T *)xs[i];
    WEFT_K(gram_columns)(whole, x, lanes);
    if (n == whole) return;
    memset(rest, 0, sizeof rest);
    for (i = 0; i < 4; i++) {
        memcpy(rest + i * WEFT_LANES_OF_A_BLOCK, x[i] + whole, (n - whole) * sizeof *rest);
        x[i] = rest + i * WEFT_LANES_OF_A_BLOCK;
    }
    WEFT_K(gram_columns)(WEFT_LANES_OF_A_BLOCK, x, lanes);
}
