/* Every kernel, once, over the vocabulary of an instruction set. The set defines the vocabulary (serial.h says what it
 * is), includes this file with WEFT_ELEMENT 32 (float tensors and the 16-bit conversions) and with WEFT_ELEMENT 64
 * (double tensors), and takes the vocabulary back. */
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
#define WEFT_NONFINITE(v) WEFT_F_NONFINITE(v)
#define WEFT_WIDE(p) WEFT_D_LOAD32(p)
#define WEFT_BITS(p) WEFT_U_LOAD32(p)
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
#define WEFT_NONFINITE(v) WEFT_D_NONFINITE(v)
#define WEFT_WIDE(p) WEFT_D_LOAD(p)
#define WEFT_BITS(p) WEFT_U_LOAD64(p)
#endif

/* WEFT_STEP(LOAD, STORE) does elements i .. i + WEFT_LANES - 1. WEFT_EACH runs it over whole vectors; the rest goes
 * through padded copies, so that nothing outside of the arrays is touched. Iterations are independent, in place too. */
#if WEFT_LANES > 1
#define WEFT_LOAD_REST(p) WEFT_K(load_rest)(p, n - i)
#define WEFT_STORE_REST(p, v) WEFT_K(store_rest)(p, v, n - i)
#define WEFT_EACH                                                                                                      \
    for (i = 0; i < n - n % WEFT_LANES; i += WEFT_LANES) WEFT_STEP(WEFT_LOAD, WEFT_STORE)                              \
    if (i < n) WEFT_STEP(WEFT_LOAD_REST, WEFT_STORE_REST)

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
#else
#define WEFT_EACH WEFT_INDEPENDENT for (i = 0; i < n; i++) WEFT_STEP(WEFT_LOAD, WEFT_STORE)
#endif

WEFT_KERNEL void WEFT_K(copy)(size_t n, const void *xs, void *ys) {
    memmove(ys, xs, n * sizeof(WEFT_T));
}

WEFT_KERNEL void WEFT_K(scale)(size_t n, double a, const void *xs, void *ys) {
    const WEFT_T *x = (const WEFT_T *)xs;
    WEFT_T *y = (WEFT_T *)ys;
    const WEFT_V va = WEFT_SET((WEFT_T)a);
    size_t i;
#define WEFT_STEP(LOAD, STORE) { STORE(y + i, WEFT_MUL(va, LOAD(x + i))); }
    WEFT_EACH
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

WEFT_KERNEL void WEFT_K(sam_perturb)(size_t n, double a, const void *gs, void *xs, void *backups) {
    const WEFT_T *g = (const WEFT_T *)gs;
    WEFT_T *x = (WEFT_T *)xs, *backup = (WEFT_T *)backups;
    const WEFT_V va = WEFT_SET((WEFT_T)a);
    size_t i;
#define WEFT_STEP(LOAD, STORE)                                                                                         \
    {                                                                                                                  \
        const WEFT_V was = LOAD(x + i);                                                                                \
        STORE(backup + i, was);                                                                                        \
        STORE(x + i, WEFT_ADD(was, WEFT_MUL(va, LOAD(g + i))));                                                        \
    }
    WEFT_EACH
#undef WEFT_STEP
}

/* A group of elements at a time, which stays in the first-level cache while the sources are added to it in turn. */
WEFT_KERNEL uint64_t WEFT_K(weighted_sum)(size_t first, size_t n, size_t k, const double *w, const void *const *x,
                                          void *outs) {
    WEFT_T *out = (WEFT_T *)outs + first;
    uint64_t bad = 0;
    size_t s, j;
    while (n) {
        WEFT_V sum[WEFT_GROUP / WEFT_LANES];
        const size_t m = n < WEFT_GROUP ? n : WEFT_GROUP, whole = m / WEFT_LANES;
        unsigned group_bad = 0;
        int started = 0;
#if WEFT_LANES > 1
        const size_t rest = m % WEFT_LANES;
#endif
        for (s = 0; s < k; s++) {
            const WEFT_T a = (WEFT_T)w[s], *p;
            const WEFT_V va = WEFT_SET(a);
            if (a == 0) continue;
            p = (const WEFT_T *)x[s] + first;
            if (!started) {
                for (j = 0; j < whole; j++) sum[j] = WEFT_MUL(va, WEFT_LOAD(p + j * WEFT_LANES));
#if WEFT_LANES > 1
                if (rest) sum[j] = WEFT_MUL(va, WEFT_K(load_rest)(p + j * WEFT_LANES, rest));
#endif
                started = 1;
            } else {
                for (j = 0; j < whole; j++) sum[j] = WEFT_ADD(sum[j], WEFT_MUL(va, WEFT_LOAD(p + j * WEFT_LANES)));
#if WEFT_LANES > 1
                if (rest) sum[j] = WEFT_ADD(sum[j], WEFT_MUL(va, WEFT_K(load_rest)(p + j * WEFT_LANES, rest)));
#endif
            }
        }
        if (!started) memset(sum, 0, sizeof sum);
        for (j = 0; j < whole; j++) {
            WEFT_STORE(out + j * WEFT_LANES, sum[j]);
            group_bad += WEFT_NONFINITE(sum[j]);
        }
#if WEFT_LANES > 1
        if (rest) { /* the lanes of the rest that are padding hold zeros, or NaN if a weight is not finite */
            WEFT_K(store_rest)(out + j * WEFT_LANES, sum[j], rest);
            group_bad += WEFT_NONFINITE(WEFT_K(load_rest)(out + j * WEFT_LANES, rest));
        }
#endif
        bad += group_bad;
        out += m;
        first += m;
        n -= m;
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

/* ---- reductions: element i of a block belongs to lane i % 16 ---- */
#define WEFT_SUMS (WEFT_LANES_OF_A_BLOCK / WEFT_D_LANES) /* accumulators of all lanes */

/* WEFT_STEP(x, y) does 16 elements. The last ones are padded with zeros. */
WEFT_KERNEL void WEFT_K(dot_block)(size_t n, const void *xs, const void *ys, double *lanes) {
    const WEFT_T *x = (const WEFT_T *)xs, *y = (const WEFT_T *)ys;
    WEFT_D sum[WEFT_SUMS];
    size_t j;
    for (j = 0; j < WEFT_SUMS; j++) sum[j] = WEFT_D_LOAD(lanes + j * WEFT_D_LANES);
#define WEFT_STEP(x, y)                                                                                                \
    for (j = 0; j < WEFT_SUMS; j++)                                                                                    \
        sum[j] = WEFT_D_ADD(sum[j], WEFT_D_MUL(WEFT_WIDE(x + j * WEFT_D_LANES), WEFT_WIDE(y + j * WEFT_D_LANES)));
    for (; n >= WEFT_LANES_OF_A_BLOCK; n -= WEFT_LANES_OF_A_BLOCK) {
        WEFT_STEP(x, y)
        x += WEFT_LANES_OF_A_BLOCK;
        y += WEFT_LANES_OF_A_BLOCK;
    }
    if (n) {
        WEFT_T rest[2 * WEFT_LANES_OF_A_BLOCK];
        memset(rest, 0, sizeof rest);
        memcpy(rest, x, n * sizeof *x);
        memcpy(rest + WEFT_LANES_OF_A_BLOCK, y, n * sizeof *y);
        WEFT_STEP(rest, rest + WEFT_LANES_OF_A_BLOCK)
    }
#undef WEFT_STEP
    for (j = 0; j < WEFT_SUMS; j++) WEFT_D_STORE(lanes + j * WEFT_D_LANES, sum[j]);
}

WEFT_KERNEL void WEFT_K(sqnorm_block)(size_t n, const void *xs, double *lanes) {
    const WEFT_T *x = (const WEFT_T *)xs;
    WEFT_D sum[WEFT_SUMS];
    size_t j;
    for (j = 0; j < WEFT_SUMS; j++) sum[j] = WEFT_D_LOAD(lanes + j * WEFT_D_LANES);
#define WEFT_STEP(x)                                                                                                   \
    for (j = 0; j < WEFT_SUMS; j++) {                                                                                  \
        const WEFT_D v = WEFT_WIDE(x + j * WEFT_D_LANES);                                                              \
        sum[j] = WEFT_D_ADD(sum[j], WEFT_D_MUL(v, v));                                                                 \
    }
    for (; n >= WEFT_LANES_OF_A_BLOCK; n -= WEFT_LANES_OF_A_BLOCK) {
        WEFT_STEP(x)
        x += WEFT_LANES_OF_A_BLOCK;
    }
    if (n) {
        WEFT_T rest[WEFT_LANES_OF_A_BLOCK];
        memset(rest, 0, sizeof rest);
        memcpy(rest, x, n * sizeof *x);
        WEFT_STEP(rest)
    }
#undef WEFT_STEP
    for (j = 0; j < WEFT_SUMS; j++) WEFT_D_STORE(lanes + j * WEFT_D_LANES, sum[j]);
}

WEFT_KERNEL void WEFT_K(dots_block)(size_t n, const void *xs, const void *ys, double *lanes) {
    const WEFT_T *x = (const WEFT_T *)xs, *y = (const WEFT_T *)ys;
    double *const lanes_xx = lanes + WEFT_LANES_OF_A_BLOCK, *const lanes_yy = lanes_xx + WEFT_LANES_OF_A_BLOCK;
    WEFT_D xy[WEFT_SUMS], xx[WEFT_SUMS], yy[WEFT_SUMS];
    size_t j;
    for (j = 0; j < WEFT_SUMS; j++) {
        xy[j] = WEFT_D_LOAD(lanes + j * WEFT_D_LANES);
        xx[j] = WEFT_D_LOAD(lanes_xx + j * WEFT_D_LANES);
        yy[j] = WEFT_D_LOAD(lanes_yy + j * WEFT_D_LANES);
    }
#define WEFT_STEP(x, y)                                                                                                \
    for (j = 0; j < WEFT_SUMS; j++) {                                                                                  \
        const WEFT_D u = WEFT_WIDE(x + j * WEFT_D_LANES), v = WEFT_WIDE(y + j * WEFT_D_LANES);                         \
        xy[j] = WEFT_D_ADD(xy[j], WEFT_D_MUL(u, v));                                                                   \
        xx[j] = WEFT_D_ADD(xx[j], WEFT_D_MUL(u, u));                                                                   \
        yy[j] = WEFT_D_ADD(yy[j], WEFT_D_MUL(v, v));                                                                   \
    }
    for (; n >= WEFT_LANES_OF_A_BLOCK; n -= WEFT_LANES_OF_A_BLOCK) {
        WEFT_STEP(x, y)
        x += WEFT_LANES_OF_A_BLOCK;
        y += WEFT_LANES_OF_A_BLOCK;
    }
    if (n) {
        WEFT_T rest[2 * WEFT_LANES_OF_A_BLOCK];
        memset(rest, 0, sizeof rest);
        memcpy(rest, x, n * sizeof *x);
        memcpy(rest + WEFT_LANES_OF_A_BLOCK, y, n * sizeof *y);
        WEFT_STEP(rest, rest + WEFT_LANES_OF_A_BLOCK)
    }
#undef WEFT_STEP
    for (j = 0; j < WEFT_SUMS; j++) {
        WEFT_D_STORE(lanes + j * WEFT_D_LANES, xy[j]);
        WEFT_D_STORE(lanes_xx + j * WEFT_D_LANES, xx[j]);
        WEFT_D_STORE(lanes_yy + j * WEFT_D_LANES, yy[j]);
    }
}

/* The norm first, then the step: the block's gradient is still in the cache. An element that is not finite makes its
 * lane so; only then they are counted (lanes of f64 may also overflow: the count tells). */
WEFT_KERNEL uint64_t WEFT_K(sgd_block)(size_t n, const weft_sgd *o, const void *gs, void *vs, void *xs, double *lanes) {
    const WEFT_T *WEFT_RESTRICT g = (const WEFT_T *)gs;
    WEFT_T *WEFT_RESTRICT v = (WEFT_T *)vs, *WEFT_RESTRICT x = (WEFT_T *)xs;
    const WEFT_T decay = (WEFT_T)o->weight_decay, momentum = (WEFT_T)o->momentum;
    const WEFT_V rate = WEFT_SET((WEFT_T)o->learning_rate), wd = WEFT_SET(decay), mu = WEFT_SET(momentum);
    const int plain = momentum == 0, first = o->first, nesterov = o->nesterov;
    uint64_t bad = 0;
    size_t i;
    WEFT_K(sqnorm_block)(n, gs, lanes);
    for (i = 0; i < WEFT_LANES_OF_A_BLOCK; i++)
        if (!weft_is_finite(lanes[i])) break;
    if (i < WEFT_LANES_OF_A_BLOCK) bad = WEFT_K(count_nonfinite)(n, gs);
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
    WEFT_EACH
#undef WEFT_STEP
    return bad;
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
#define WEFT_LOAD16_REST(p) WEFT_K(load16_rest)(p, n - i)
#define WEFT_STORE16_REST(p, v) WEFT_K(store16_rest)(p, v, n - i)
#define WEFT_EACH16(LOAD, LOAD_REST, STORE, STORE_REST)                                                                \
    for (i = 0; i < n - n % WEFT_LANES; i += WEFT_LANES) WEFT_STEP(LOAD, STORE)                                        \
    if (i < n) WEFT_STEP(LOAD_REST, STORE_REST)
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
#undef WEFT_NONFINITE
#undef WEFT_WIDE
#undef WEFT_BITS
#undef WEFT_LOAD_REST
#undef WEFT_STORE_REST
#undef WEFT_EACH
#undef WEFT_SUMS
#undef WEFT_ELEMENT
