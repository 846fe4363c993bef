/* The kernels of codecs; codec.h says what they do. WEFT_EACH_IN_ORDER: something is carried along. */
#if WEFT_LANES > 1
#define WEFT_EACH_IN_ORDER WEFT_EACH
#else
#define WEFT_EACH_IN_ORDER for (i = 0; i < n; i++) WEFT_STEP(WEFT_LOAD, WEFT_STORE)
#endif

WEFT_KERNEL uint32_t WEFT_K(codec_gather)(size_t n, const void *zs, const void *kepts, int form, float *t) {
    const float *z = (const float *)zs, *kept = (const float *)kepts;
    const WEFT_I magnitude = WEFT_I_SET(0x7FFFFFFFu);
    float lanes[WEFT_LANES];
    WEFT_I most = WEFT_I_SET(0u);
    uint32_t bits, result = 0;
    size_t i;
#define WEFT_TO(STORE, expression)                                                                                     \
    {                                                                                                                  \
        const WEFT_F v = expression;                                                                                   \
        const WEFT_I a = WEFT_I_AND(WEFT_F_TO_I(v), magnitude);                                                        \
        most = WEFT_I_MAX(a, most);                                                                                    \
        STORE(t + i, v);                                                                                               \
    }
    if (form == 0) {
#define WEFT_STEP(LOAD, STORE) WEFT_TO(STORE, LOAD(z + i))
        WEFT_EACH
#undef WEFT_STEP
    } else if (form == 1) {
#define WEFT_STEP(LOAD, STORE) WEFT_TO(STORE, WEFT_F_ADD(LOAD(z + i), LOAD(kept + i)))
        WEFT_EACH
#undef WEFT_STEP
    } else {
#define WEFT_STEP(LOAD, STORE) WEFT_TO(STORE, WEFT_F_SUB(LOAD(z + i), LOAD(kept + i)))
        WEFT_EACH
#undef WEFT_STEP
    }
#undef WEFT_TO
    WEFT_STORE(lanes, WEFT_I_TO_F(most));
    for (i = 0; i < WEFT_LANES; i++) {
        bits = weft_load_u32(lanes + i);
        if (bits > result) result = bits;
    }
    return result;
}

/* The draws are those of weft_draw. What is coded is a fixed-point number with 24 places. */
WEFT_KERNEL void WEFT_K(codec_quantise)(size_t n, const float *t, float step, float places, uint64_t key, int form,
                                        void *kepts, uint8_t *code) {
    float *kept = (float *)kepts;
    const WEFT_F vstep = WEFT_F_SET(step), vplaces = WEFT_F_SET(places);
    const WEFT_I high = WEFT_I_SET((uint32_t)(key >> 32)), mul1 = WEFT_I_SET(WEFT_DRAW_MUL1),
                 mul2 = WEFT_I_SET(WEFT_DRAW_MUL2), next = WEFT_I_SET(WEFT_DRAW_STEP * WEFT_LANES);
    WEFT_I count = WEFT_I_MUL(WEFT_I_LOAD16(weft_draw_lanes), WEFT_I_SET(WEFT_DRAW_STEP));
    size_t i;
    count = WEFT_I_ADD(count, WEFT_I_SET((uint32_t)(key & 0xFFFFFFFFu)));
/* t is read in whole vectors: it has room for them */
#define WEFT_CODE                                                                                                      \
    const WEFT_F v = WEFT_F_LOAD(t + i);                                                                               \
    const WEFT_I x1 = WEFT_I_ADD(WEFT_I_MUL(WEFT_I_XOR(count, WEFT_I_SHR(count, 16)), mul1), high);                    \
    const WEFT_I x2 = WEFT_I_MUL(WEFT_I_XOR(x1, WEFT_I_SHR(x1, 15)), mul2);                                            \
    const WEFT_I u = WEFT_I_SHR(WEFT_I_XOR(x2, WEFT_I_SHR(x2, 15)), 8);                                                \
    const WEFT_I y = WEFT_I_FROM_F(WEFT_F_MUL(v, vplaces));                                                            \
    const WEFT_I c = WEFT_I_SRA(WEFT_I_ADD(y, u), 24);                                                                 \
    count = WEFT_I_ADD(count, next);                                                                                   \
    WEFT_I_STORE8(code + i, c);
    if (form == 0) {
        for (i = 0; i < n; i += WEFT_LANES) {
            WEFT_CODE
        }
    } else if (form == 1) {
#define WEFT_STEP(LOAD, STORE)                                                                                         \
    {                                                                                                                  \
        WEFT_CODE                                                                                                      \
        STORE(kept + i, WEFT_F_SUB(v, WEFT_F_MUL(WEFT_F_FROM_I(c), vstep)));                                           \
    }
        WEFT_EACH_IN_ORDER
#undef WEFT_STEP
    } else {
#define WEFT_STEP(LOAD, STORE)                                                                                         \
    {                                                                                                                  \
        WEFT_CODE                                                                                                      \
        STORE(kept + i, WEFT_F_ADD(LOAD(kept + i), WEFT_F_MUL(WEFT_F_FROM_I(c), vstep)));                              \
    }
        WEFT_EACH_IN_ORDER
#undef WEFT_STEP
    }
#undef WEFT_CODE
}

#if WEFT_LANES > 1
WEFT_KERNEL WEFT_I WEFT_K(load8_rest)(const uint8_t *p, size_t m) {
    uint8_t rest[WEFT_LANES];
    memset(rest, 0, sizeof rest);
    memcpy(rest, p, m);
    return WEFT_I_LOAD8(rest);
}
#define WEFT_LOAD8_REST(p) WEFT_K(load8_rest)(p, part)
#define WEFT_EACH8                                                                                                     \
    for (i = 0; n - i >= WEFT_LANES; i += WEFT_LANES) WEFT_STEP(WEFT_LOAD, WEFT_STORE, WEFT_I_LOAD8)                   \
    if (i < n) {                                                                                                       \
        const size_t part = n - i;                                                                                     \
        WEFT_STEP(WEFT_LOAD_REST, WEFT_STORE_REST, WEFT_LOAD8_REST)                                                    \
    }
#else
#define WEFT_EACH8 for (i = 0; i < n; i++) WEFT_STEP(WEFT_LOAD, WEFT_STORE, WEFT_I_LOAD8)
#endif

WEFT_KERNEL void WEFT_K(codec_expand)(size_t n, const uint8_t *code, float step, float w, int add, void *outs) {
    float *out = (float *)outs;
    const WEFT_F vstep = WEFT_F_SET(step), vw = WEFT_F_SET(w);
    size_t i;
    if (add) {
#define WEFT_STEP(LOAD, STORE, LOAD8)                                                                                  \
    {                                                                                                                  \
        const WEFT_F q = WEFT_F_MUL(WEFT_F_FROM_I(LOAD8(code + i)), vstep);                                            \
        STORE(out + i, WEFT_F_ADD(LOAD(out + i), WEFT_F_MUL(vw, q)));                                                  \
    }
        WEFT_EACH8
#undef WEFT_STEP
    } else {
#define WEFT_STEP(LOAD, STORE, LOAD8) { STORE(out + i, WEFT_F_MUL(WEFT_F_FROM_I(LOAD8(code + i)), vstep)); }
        WEFT_EACH8
#undef WEFT_STEP
    }
}

WEFT_KERNEL unsigned WEFT_K(codec_lanes_between)(WEFT_F v, WEFT_I magnitude, WEFT_I lower, WEFT_I upper) {
    const WEFT_I a = WEFT_I_AND(WEFT_F_TO_I(v), magnitude);
    return WEFT_I_MASK(WEFT_I_GREATER(a, lower)) & ~WEFT_I_MASK(WEFT_I_GREATER(a, upper));
}

WEFT_KERNEL uint32_t WEFT_K(codec_between)(size_t n, const float *t, uint32_t least, uint32_t most, uint32_t *word) {
    const WEFT_I magnitude = WEFT_I_SET(0x7FFFFFFFu), lower = WEFT_I_SET(least), upper = WEFT_I_SET(most);
    const float *p;
    float rest[32];
    uint32_t any = 0, bits;
    size_t i;
#define WEFT_AT(j) (uint32_t)WEFT_K(codec_lanes_between)(WEFT_F_LOAD(p + (j)), magnitude, lower, upper) << (j)
#if WEFT_LANES == 16
#define WEFT_WORD bits = WEFT_AT(0) | WEFT_AT(16);
#elif WEFT_LANES == 8
#define WEFT_WORD bits = WEFT_AT(0) | WEFT_AT(8) | WEFT_AT(16) | WEFT_AT(24);
#elif WEFT_LANES == 4
#define WEFT_WORD                                                                                                      \
    bits = WEFT_AT(0) | WEFT_AT(4) | WEFT_AT(8) | WEFT_AT(12);                                                         \
    bits |= WEFT_AT(16) | WEFT_AT(20) | WEFT_AT(24) | WEFT_AT(28);
#else
#define WEFT_WORD                                                                                                      \
    {                                                                                                                  \
        size_t j;                                                                                                      \
        for (bits = 0, j = 0; j < 32; j += WEFT_LANES) bits |= WEFT_AT(j);                                             \
    }
#endif
    for (i = 0; n - i >= 32; i += 32) {
        p = t + i;
        WEFT_WORD
        word[i / 32] = bits;
        any |= bits;
    }
    if (i < n) {
        memset(rest, 0, sizeof rest); /* below any limit */
        memcpy(rest, t + i, (n - i) * sizeof *t);
        p = rest;
        WEFT_WORD
        word[i / 32] = bits;
        any |= bits;
    }
#undef WEFT_AT
#undef WEFT_WORD
    return any != 0;
}
#undef WEFT_LOAD8_REST
#undef WEFT_EACH8
#undef WEFT_EACH_IN_ORDER
