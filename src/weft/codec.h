/* SPDX-License-Identifier: MIT
 * codec.h: what is sent instead of 32 bits a number, and what keeps the difference from getting lost. */
#include "base.h"
#include "tensor.h"
#include "kernels.h"
#include "wire.h"
#include "state.h"
/*==== API ====*/

/* ---- Codecs ----
 *
 * A codec makes a message of a tensor t, and of the message a tensor C(t) that stands for it. Codecs work tensor by
 * tensor, never across two.
 *
 *   kind      C(t), element by element                                bytes for n elements of f32
 *   IDENTITY  t                                                       4 n
 *   BF16      t rounded to nearest even; beyond the largest: that     2 n
 *   F16       t rounded to nearest even; beyond the largest: that     2 n
 *   Q8        step * floor(t / step + u), step = largest |t| / 127    n + 4 for each 256
 *   Q4        the same with 7 instead of 127                          n / 2 + 4 for each 256
 *   QSGD      sign(t) |t|_2 / s * (floor(r) + [u < r - floor(r)]),    n (bits + 1) / 8 + 4
 *             r = s |t| / |t|_2, s = 2^bits - 1; norm of the tensor
 *   TOPK      t where |t| is among the k largest of the tensor,       8 k
 *             else 0; k = max(1, trunc(n (1 - drop))); of equal
 *             magnitudes those with the lower index
 *   SIGN      sign(t) * mean |t| of the tensor; 0 where t is 0        n / 8 + 8, twice n / 8 where there are zeros
 *
 * u is uniform in [0, 1). Q8 and Q4 have one step for each 256 elements; QSGD with one norm for the whole tensor is
 * the form of the published code (D. Alistarh et al., QSGD, arXiv 1610.02132, section 3.1), and its error grows with
 * the tensor: prefer Q8. f64 tensors send f64 values in IDENTITY and TOPK, and f64 scales in QSGD and SIGN; with the
 * other codecs they are rounded to f32 first. bf16 and f16 tensors are taken as the f32 that they stand for. A tensor
 * of zeros comes out as zeros, with every codec.
 *
 * Q8, Q4 and QSGD are unbiased: the expectation over u of C(t) is t, but for the rounding of f32. (QSGD with `biased`
 * multiplies C(t) by 1 / (1 + min(n / s^2, sqrt(n) / s)), which makes it a contraction. Q8 and Q4 saturate where
 * |t| is within 1 % of the largest float; QSGD of f64 sends zeros where the squares of all elements underflow.)
 * How far C(t) is from t, E|C(t) - t|^2 <= c |t|^2:
 *   Q8, Q4    c = (sqrt(1 + 255 / s^2) - 1) / 2: 0.0039 and 0.746 (s = 127 and 7); derived here: with m = |t|_inf, the
 *             largest itself is exact, the others at fraction f of a step err by f (1 - f) against f^2, worst over f.
 *             Where a step would be below 2^-100, it is 2^-100 and c does not hold
 *   QSGD      c = min(n / s^2, sqrt(n) / s) (op. cit., theorem 3.2); `biased`: c / (1 + c)
 *   TOPK      c = 1 - k / n (S. Stich et al., Sparsified SGD with memory, arXiv 1809.07599)
 *   SIGN      c = 1 - |t|_1^2 / (n |t|_2^2) (S. Karimireddy et al., Error feedback fixes SignSGD, arXiv 1901.09847)
 *
 * ---- What is lost, and what is not ----
 *
 * An encoder works in one of three forms, on data z and what it keeps from call to call (one number an element: f64
 * for f64 tensors, f32 for all others; zeros at the start, in the host's memory):
 *   PLAIN       codes t = z and keeps nothing
 *   FEEDBACK    codes t = z + kept, then kept = t - C(t): what is not sent now is sent later
 *   DIFFERENCE  codes t = z - kept, then kept = kept + C(t): kept is what receivers know of z, if they add up what they
 *               are sent (weight 1), and has the same bits as theirs (A. Koloskova et al., CHOCO, arXiv 1902.00340)
 *
 * ---- Chunks, and random numbers ----
 *
 * A tensor may be coded in chunks: ranges that begin at a multiple of WEFT_CODEC_BLOCK elements and, but for the last
 * one, are a multiple long. A chunk is a message of its own, decoded on its own. Chunks can be coded in any order, by
 * any number of threads, and C(t) and kept do not depend on how a tensor is cut: u is a function of a key and the
 * element's index. The key is one of (seed, round, stream, tensor); the same run draws the same numbers.
 *
 * ---- What is not finite ----
 *
 * An element of z that is NaN or infinite, or becomes so on the way to t, is counted and left out: FEEDBACK codes what
 * was kept for it, the other forms code 0. Whether the round goes on is the host's choice. Decoders refuse messages
 * in which C(t) is not finite everywhere; what rounding to f16 or adding then makes of it they do not look at.
 *
 * ---- Use ----
 *
 *   weft_codec c = weft_codec_q8();
 *   const weft_codec_kernels *k = weft_codec_kernels_select(WEFT_ISA_AUTO, 0);
 *   weft_codec_job j;                               // one tensor, in every round
 *   memset(&j, 0, sizeof j);
 *   j.codec = &c; j.form = WEFT_CODEC_FEEDBACK; j.dtype = WEFT_F32; j.data = gradient; j.count = n;
 *   j.kept = kept;                                  // zeros at first: n of weft_codec_value_bytes each
 *   j.key = weft_codec_key(seed, round, my_rank, tensor);
 *   capacity = weft_codec_bytes(&c, j.dtype, n, n);  // the most that it takes
 *   s = weft_codec_encode_tensor(k, &j, message, capacity, &bytes, NULL, &detail);
 *   ...
 *   s = weft_codec_decode_add(k, &c, WEFT_F32, n, 0, n, message, bytes, weight, sum, &detail);
 *
 * For chunks there are weft_codec_measure and weft_codec_encode. The verbs stand where they are defined, with what they
 * promise. They need no object of an algorithm and no transport, but have internal linkage: they are there in the unit
 * that defines the X_IMPLEMENTATION of a header that carries this file. */
typedef enum weft_codec_kind {
    WEFT_CODEC_IDENTITY = 0,
    WEFT_CODEC_BF16 = 1,
    WEFT_CODEC_F16 = 2,
    WEFT_CODEC_Q8 = 3,
    WEFT_CODEC_Q4 = 4,
    WEFT_CODEC_QSGD = 5,
    WEFT_CODEC_TOPK = 6,
    WEFT_CODEC_SIGN = 7
} weft_codec_kind;

#define WEFT_CODEC_KINDS 8

/* Plain data; zeros are IDENTITY. Sender and receivers must agree on it. */
typedef struct weft_codec {
    weft_codec_kind kind;
    uint32_t bits; /* QSGD: 1 to 16, without the sign */
    int biased;    /* QSGD: 0 or 1 */
    double drop;   /* TOPK: the fraction that is not sent, at least 0 and less than 1 */
} weft_codec;

typedef enum weft_codec_form {
    WEFT_CODEC_PLAIN = 0,
    WEFT_CODEC_FEEDBACK = 1,
    WEFT_CODEC_DIFFERENCE = 2
} weft_codec_form;

#define WEFT_CODEC_BLOCK ((size_t)256)

/* One tensor on its way into messages. All pointers are aligned naturally: host memory, or a GPU's with its kernels. */
typedef struct weft_codec_job {
    const weft_codec *codec;
    weft_codec_form form;
    weft_dtype dtype;
    size_t count;          /* elements of the tensor */
    const void *data;      /* z: count elements of dtype; may be NULL where count is 0 */
    void *kept;            /* count elements of f32 (dtype F64: f64); NULL with PLAIN. Must not overlap data */
    uint64_t key;          /* weft_codec_key */
    const double *uniform; /* QSGD: u of every element, in [0, 1), instead of draws from the key; else NULL */
} weft_codec_job;

/* What a codec must know of a whole tensor before it codes a part. */
typedef struct weft_codec_scale {
    double step;        /* QSGD, SIGN: what a level stands for */
    double norm;        /* QSGD: |t|_2 */
    uint64_t least;     /* TOPK: the bits of the smallest magnitude sent, ... */
    size_t last;        /* ... and the highest index of it that is */
    uint64_t nonfinite; /* elements left out; encode finds as many. Not counted where nothing had to be measured */
} weft_codec_scale;

WEFT_INLINE weft_codec weft_codec_make(weft_codec_kind kind, uint32_t bits, int biased, double drop) {
    weft_codec c;
    c.kind = kind;
    c.bits = bits;
    c.biased = biased;
    c.drop = drop;
    return c;
}

WEFT_INLINE weft_codec weft_codec_identity(void) {
    return weft_codec_make(WEFT_CODEC_IDENTITY, 0, 0, 0.0);
}

WEFT_INLINE weft_codec weft_codec_bf16(void) {
    return weft_codec_make(WEFT_CODEC_BF16, 0, 0, 0.0);
}

WEFT_INLINE weft_codec weft_codec_f16(void) {
    return weft_codec_make(WEFT_CODEC_F16, 0, 0, 0.0);
}

WEFT_INLINE weft_codec weft_codec_q8(void) {
    return weft_codec_make(WEFT_CODEC_Q8, 0, 0, 0.0);
}

WEFT_INLINE weft_codec weft_codec_q4(void) {
    return weft_codec_make(WEFT_CODEC_Q4, 0, 0, 0.0);
}

WEFT_INLINE weft_codec weft_codec_qsgd(uint32_t bits, int biased) {
    return weft_codec_make(WEFT_CODEC_QSGD, bits, biased, 0.0);
}

WEFT_INLINE weft_codec weft_codec_topk(double drop) {
    return weft_codec_make(WEFT_CODEC_TOPK, 0, 0, drop);
}

WEFT_INLINE weft_codec weft_codec_sign(void) {
    return weft_codec_make(WEFT_CODEC_SIGN, 0, 0, 0.0);
}

/* WEFT_OK, or WEFT_ERR_ARGUMENT: detail names the field. Fields that the kind does not use must be 0. */
WEFT_INLINE weft_status weft_codec_check(const weft_codec *c, weft_detail *d) {
    const char *field = NULL;
    uint64_t expected = 0, got = 0;
    if ((unsigned)c->kind >= WEFT_CODEC_KINDS) {
        field = "codec.kind";
        expected = WEFT_CODEC_KINDS - 1;
        got = (uint64_t)(int64_t)c->kind;
    } else if (c->kind == WEFT_CODEC_QSGD ? c->bits < 1 || c->bits > 16 : c->bits != 0) {
        field = "codec.bits";
        expected = c->kind == WEFT_CODEC_QSGD ? 16 : 0;
        got = c->bits;
    } else if (c->biased != 0 && (c->biased != 1 || c->kind != WEFT_CODEC_QSGD)) {
        field = "codec.biased";
        expected = c->kind == WEFT_CODEC_QSGD;
        got = (uint64_t)(int64_t)c->biased;
    } else if (c->kind == WEFT_CODEC_TOPK ? !(c->drop >= 0 && c->drop < 1) : !(c->drop >= 0 && c->drop <= 0)) {
        field = "codec.drop";
        expected = c->kind == WEFT_CODEC_TOPK;
    }
    if (!field) return WEFT_OK;
    d->status = WEFT_ERR_ARGUMENT;
    d->field = field;
    d->expected = expected;
    d->got = got;
    return WEFT_ERR_ARGUMENT;
}

/* How many of n elements TOPK sends: max(1, trunc(n (1 - drop))) in double arithmetic (n = 100, drop = 0.9: 9); 0 of
 * none. Other codecs: n. */
WEFT_INLINE size_t weft_codec_sent(const weft_codec *c, size_t n) {
    double k;
    if (c->kind != WEFT_CODEC_TOPK || n == 0) return n;
    k = (double)n * (1.0 - c->drop);
    if (k < 1) return 1;
    return k < (double)n ? (size_t)k : n;
}

/* Bytes of the largest message for a chunk of `count` elements of a tensor that has n of this type; a message is no
 * shorter but for TOPK in chunks (encode tells) and SIGN without zeros. SIZE_MAX: the size does not fit (TOPK: 2^32
 * elements or more), or the codec or type is none. */
WEFT_INLINE size_t weft_codec_bytes(const weft_codec *c, weft_dtype dtype, size_t n, size_t count) {
    const size_t value = dtype == WEFT_F64 ? 8 : 4, blocks = count / WEFT_CODEC_BLOCK + (count % WEFT_CODEC_BLOCK != 0);
    const size_t most = SIZE_MAX / 32; /* no element takes more than 16 bytes and its part of what a block takes */
    if (count > most || n > most || count > n || !weft_dtype_bytes(dtype)) return SIZE_MAX;
    if (count == 0) return (unsigned)c->kind < WEFT_CODEC_KINDS ? 0 : SIZE_MAX;
    switch (c->kind) {
    case WEFT_CODEC_IDENTITY: return count * value;
    case WEFT_CODEC_BF16:
    case WEFT_CODEC_F16: return count * 2;
    case WEFT_CODEC_Q8: return count + 4 * blocks;
    case WEFT_CODEC_Q4: return count / 2 + count % 2 + 4 * blocks;
    case WEFT_CODEC_QSGD: return value + (count / 8) * (c->bits + 1) + ((count % 8) * (c->bits + 1) + 7) / 8;
    case WEFT_CODEC_TOPK: {
        const size_t k = weft_codec_sent(c, n);
        if (count >> 16 >> 16) return SIZE_MAX; /* an index has 32 bits */
        return (k < count ? k : count) * (4 + value);
    }
    case WEFT_CODEC_SIGN: return value + 4 + 2 * (count / 8 + (count % 8 != 0));
    }
    return SIZE_MAX;
}

/* The key of a tensor's random numbers. `stream` tells apart what is coded in one round: a rank, an edge. */
WEFT_INLINE uint64_t weft_codec_key(uint64_t seed, uint64_t round, uint64_t stream, uint64_t tensor) {
    uint64_t part[4], key = 0;
    int i;
    part[0] = seed;
    part[1] = round;
    part[2] = stream;
    part[3] = tensor;
    for (i = 0; i < 4; i++) { /* splitmix64 after each */
        key = (key ^ part[i]) + UINT64_C(0x9E3779B97F4A7C15);
        key = (key ^ key >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
        key = (key ^ key >> 27) * UINT64_C(0x94D049BB133111EB);
        key ^= key >> 31;
    }
    return key;
}
/*==== IMPLEMENTATION ====*/

/* ---- the kernels of codecs ---- */

/* f32 only, at most WEFT_GROUP elements a call. `t` has room for WEFT_GROUP. */
typedef struct weft_codec_set {
    /* t = z (form 0), z + kept (1) or z - kept (2). Returns the bits of the largest magnitude of t, NaN the largest. */
    uint32_t (*gather)(size_t n, const void *z, const void *kept, int form, float *t);
    /* code[i] = floor(t[i] * places / 2^24 + u), the first product less than 127 * 2^24, u drawn from `key` and i in
     * steps of 2^-24; t is zero from n on, code has room for n rounded up to 16. form 1: kept = t - code * step; form
     * 2: kept = kept + code * step */
    void (*quantise)(size_t n, const float *t, float step, float places, uint64_t key, int form, void *kept,
                     uint8_t *code);
    /* add 0: out = code * step; else out = out + w * (code * step) */
    void (*expand)(size_t n, const uint8_t *code, float step, float w, int add, void *out);
    /* Which magnitudes' bits are greater than `least` and not greater than `most`: bit i % 32 of word i / 32; the rest
     * of the last word is zero. Returns whether there are any. */
    uint32_t (*between)(size_t n, const float *t, uint32_t least, uint32_t most, uint32_t *word);
} weft_codec_set;

typedef struct weft_codec_kernels {
    const weft_kernels *core; /* of the same instruction set */
    weft_codec_set f32;
} weft_codec_kernels;

/* Random bits: i, multiplied, plus one half of the key; two rounds of shift and multiply, the other half of
 * the key between them. */
#define WEFT_DRAW_STEP 0x9E3779B9u
#define WEFT_DRAW_MUL1 0x21F0AAADu
#define WEFT_DRAW_MUL2 0xD35A2D97u

/* Draw i of a block whose key this is: 32 bits, of which the upper 24 are used. */
WEFT_FN uint32_t weft_draw(uint64_t key, uint32_t i) {
    uint32_t x = i * WEFT_DRAW_STEP + (uint32_t)(key & 0xFFFFFFFFu);
    x = (x ^ x >> 16) * WEFT_DRAW_MUL1 + (uint32_t)(key >> 32);
    x = (x ^ x >> 15) * WEFT_DRAW_MUL2;
    return x ^ x >> 15;
}

/* The indices of lanes, for those who draw several numbers at a time. */
static WEFT_UNUSED const uint16_t weft_draw_lanes[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};

#define WEFT_CODEC_SET                                                                                                 \
    {                                                                                                                  \
        WEFT_SET_NAME(f32, codec_gather), WEFT_SET_NAME(f32, codec_quantise), WEFT_SET_NAME(f32, codec_expand),        \
            WEFT_SET_NAME(f32, codec_between)                                                                          \
    }
#define WEFT_CODEC_TABLES(set, isa, fence)                                                                             \
    static WEFT_UNUSED const weft_codec_kernels weft_codec_kernels_##set[2] = {                                        \
        {&weft_kernels_##set[0], WEFT_CODEC_SET}, {&weft_kernels_##set[1], WEFT_CODEC_SET}};

#define WEFT_FAMILY WEFT_CODEC_FAMILY
#define WEFT_FAMILY_TABLES WEFT_CODEC_TABLES
#include "kernels/sets.h"

/* As weft_kernels_select. */
WEFT_FN const weft_codec_kernels *weft_codec_kernels_select(weft_isa isa, size_t bytes) {
    const weft_kernels *core = weft_kernels_select(isa, bytes);
    if (!core) return NULL;
    WEFT_SELECT(weft_codec_kernels, core->isa, core->stream)
}

/* ---- values ---- */

/* Bits of doubles and floats without their sign grow with the magnitude. */
#define WEFT_CODEC_F32_INFINITY UINT64_C(0x7F800000)
#define WEFT_CODEC_F64_INFINITY UINT64_C(0x7FF0000000000000)
#define WEFT_CODEC_F32_MAX 3.4028234663852886e38

/* A block on its way: f is in use, or where `wide` d. */
typedef union weft_codec_values {
    float f[WEFT_GROUP];
    double d[WEFT_GROUP];
} weft_codec_values;

/* On the stack they begin with a cache line, where the compiler can be told so: vectors of 64 bytes that straddle two
 * take twice as long. */
#if defined __GNUC__ || defined __clang__
#define WEFT_CODEC_SCRATCH __attribute__((aligned(64))) weft_codec_values
#elif defined _MSC_VER
#define WEFT_CODEC_SCRATCH __declspec(align(64)) weft_codec_values
#else
#define WEFT_CODEC_SCRATCH weft_codec_values
#endif

WEFT_FN size_t weft_codec_value_bytes(weft_dtype t) {
    return t == WEFT_F64 ? 8 : 4;
}

/* A value of `each` bytes, little-endian; doubles hold both. */
WEFT_FN void weft_codec_put(unsigned char *p, size_t each, double v) {
    if (each == 8)
        weft_put64(p, weft_double_bits(v));
    else
        weft_put32(p, weft_f32_bits((float)v));
}

WEFT_FN double weft_codec_get(const unsigned char *p, size_t each) {
    return each == 8 ? weft_bits_f64(weft_get64(p)) : (double)weft_bits_f32(weft_get32(p));
}

WEFT_FN uint64_t weft_codec_magnitude(const weft_codec_values *t, int wide, size_t i) {
    return wide ? weft_double_bits(t->d[i]) & UINT64_C(0x7FFFFFFFFFFFFFFF)
                : (uint64_t)(weft_f32_bits(t->f[i]) & 0x7FFFFFFFu);
}

WEFT_FN double weft_codec_value(const weft_codec_values *t, int wide, size_t i) {
    return wide ? t->d[i] : (double)t->f[i];
}

/* t = z, z + kept or z - kept for m elements from `at`; from m on it is zero. What is not finite is left out and
 * counted. Returns the bits of the largest magnitude. */
WEFT_FN uint64_t weft_codec_gather(const weft_codec_kernels *k, const weft_codec_job *j, size_t at, size_t m,
                                   weft_codec_values *t, uint64_t *nonfinite) {
    const int wide = j->dtype == WEFT_F64, form = (int)j->form;
    const uint64_t infinity = wide ? WEFT_CODEC_F64_INFINITY : WEFT_CODEC_F32_INFINITY;
    const unsigned char *z = (const unsigned char *)j->data + at * weft_dtype_bytes(j->dtype);
    const unsigned char *kept = j->kept ? (const unsigned char *)j->kept + at * weft_codec_value_bytes(j->dtype) : NULL;
    uint64_t most = 0, bits;
    size_t i;
    if (wide) {
        memcpy(t->d, z, m * sizeof(double));
        if (m < WEFT_GROUP) memset(t->d + m, 0, (WEFT_GROUP - m) * sizeof(double));
        if (form) k->core->f64.axpy(m, form == WEFT_CODEC_FEEDBACK ? 1.0 : -1.0, kept, t->d);
        for (i = 0; i < m; i++) {
            bits = weft_codec_magnitude(t, wide, i);
            if (bits > most) most = bits;
        }
    } else {
        if (m < WEFT_GROUP) memset(t->f + m, 0, (WEFT_GROUP - m) * sizeof(float));
        if (j->dtype == WEFT_BF16) k->core->bf16_to_f32(m, (const uint16_t *)(const void *)z, t->f);
        if (j->dtype == WEFT_F16) k->core->f16_to_f32(m, (const uint16_t *)(const void *)z, t->f);
        most = k->f32.gather(m, j->dtype == WEFT_F32 ? (const void *)z : t->f, kept, form, t->f);
    }
    if (most < infinity) return most;
    for (most = 0, i = 0; i < m; i++) {
        if (weft_codec_magnitude(t, wide, i) >= infinity) {
            ++*nonfinite;
            if (wide)
                t->d[i] = 0;
            else
                t->f[i] = 0;
            if (form == WEFT_CODEC_FEEDBACK) {
                memcpy(wide ? (void *)&t->d[i] : (void *)&t->f[i], kept + i * weft_codec_value_bytes(j->dtype),
                       weft_codec_value_bytes(j->dtype));
                if (weft_codec_magnitude(t, wide, i) >= infinity) { /* nothing sound has been kept */
                    if (wide)
                        t->d[i] = 0;
                    else
                        t->f[i] = 0;
                }
            }
        }
        bits = weft_codec_magnitude(t, wide, i);
        if (bits > most) most = bits;
    }
    return most;
}

/* kept = t - q or kept + q. Spoils t. */
WEFT_FN void weft_codec_keep(const weft_codec_kernels *k, const weft_codec_job *j, size_t at, size_t m,
                             weft_codec_values *t, const weft_codec_values *q) {
    const int wide = j->dtype == WEFT_F64;
    const size_t each = weft_codec_value_bytes(j->dtype);
    void *kept = j->form ? (unsigned char *)j->kept + at * each : NULL;
    const weft_kernel_set *s = wide ? &k->core->f64 : &k->core->f32;
    if (j->form == WEFT_CODEC_FEEDBACK) {
        s->axpy(m, -1.0, q, t);
        memcpy(kept, t, m * each);
    } else if (j->form == WEFT_CODEC_DIFFERENCE)
        s->axpy(m, 1.0, q, kept);
}

/* The key of a block of the tensor. */
WEFT_FN uint64_t weft_codec_block_key(uint64_t key, size_t at) {
    return weft_mix(key + WEFT_HASH_KEY * ((uint64_t)(at / WEFT_CODEC_BLOCK) + 1));
}

/* ---- Q8 and Q4 ----
 *
 * A block: the step as f32, then codes. Q8: a signed byte each. Q4: signed halves of bytes, of m elements the first
 * (m + 1) / 2 in the lower, the others in the upper ones. A step is so much larger than the largest magnitude / s that
 * t / step rounds to less than s. */
#define WEFT_CODEC_NUDGE (1.0 / 2097152.0) /* 2^-21 */

typedef struct weft_codec_step {
    float step, places; /* places: 2^24 / step */
} weft_codec_step;

WEFT_FN weft_codec_step weft_codec_step_of(float most, double s) {
    weft_codec_step r;
    const double step = (double)most * (1.0 + WEFT_CODEC_NUDGE) / s, least = 7.888609052210118e-31; /* 2^-100 */
    r.step = r.places = 0.0f;
    if (most <= 0) return r;
    if (step < least) {
        r.step = (float)least;
        r.places = (float)(16777216.0 / least);
        return r;
    }
    /* with this limit no code of eight bits stands for infinity */
    r.step = (float)(step < WEFT_CODEC_F32_MAX / 128.0 ? step : WEFT_CODEC_F32_MAX / 128.0);
    r.places = (float)(16777216.0 * s * (1.0 - WEFT_CODEC_NUDGE) / (double)most);
    return r;
}

#define WEFT_CODEC_LOW UINT64_C(0x0F0F0F0F0F0F0F0F)

/* Halves of bytes as signed bytes, eight at a time. */
WEFT_FN uint64_t weft_codec_halves(uint64_t v) {
    return v | (v & UINT64_C(0x0808080808080808)) * 0x1Eu;
}

/* Code has room for a whole block, and zeros from m on. */
WEFT_FN void weft_codec_pack4(size_t m, const uint8_t *code, unsigned char *p) {
    const size_t half = (m + 1) / 2;
    size_t i;
    if (m < WEFT_CODEC_BLOCK) {
        for (i = 0; i < half; i++) p[i] = (unsigned char)((code[i] & 15u) | (code[i + half] & 15u) << 4);
        return;
    }
    for (i = 0; i < WEFT_CODEC_BLOCK / 2; i += 8) {
        const uint64_t low = weft_load_u64(code + i), high = weft_load_u64(code + i + WEFT_CODEC_BLOCK / 2);
        const uint64_t v = (low & WEFT_CODEC_LOW) | (high & WEFT_CODEC_LOW) << 4;
        memcpy(p + i, &v, sizeof v);
    }
}

WEFT_FN void weft_codec_unpack4(size_t m, const unsigned char *p, uint8_t *code) {
    const size_t half = (m + 1) / 2;
    size_t i;
    if (m < WEFT_CODEC_BLOCK) {
        for (i = 0; i < m; i++) {
            const unsigned v = i < half ? p[i] & 15u : (unsigned)p[i - half] >> 4;
            code[i] = (uint8_t)((v ^ 8u) - 8u);
        }
        return;
    }
    for (i = 0; i < WEFT_CODEC_BLOCK / 2; i += 8) {
        const uint64_t v = weft_load_u64(p + i);
        const uint64_t low = weft_codec_halves(v & WEFT_CODEC_LOW), high = weft_codec_halves(v >> 4 & WEFT_CODEC_LOW);
        memcpy(code + i, &low, sizeof low);
        memcpy(code + i + WEFT_CODEC_BLOCK / 2, &high, sizeof high);
    }
}

WEFT_FN size_t weft_codec_quantised_bytes(weft_codec_kind kind, size_t m) {
    return 4 + (kind == WEFT_CODEC_Q8 ? m : (m + 1) / 2);
}

/* Codes a block, and brings kept up to date. */
WEFT_FN void weft_codec_quantise(const weft_codec_kernels *k, const weft_codec_job *j, size_t at, size_t m,
                                 weft_codec_values *t, uint64_t most, unsigned char *p) {
    const int wide = j->dtype == WEFT_F64, q8 = j->codec->kind == WEFT_CODEC_Q8;
    const uint64_t key = weft_codec_block_key(j->key, at);
    uint8_t code[WEFT_GROUP], *to = q8 && m == WEFT_GROUP ? p + 4 : code;
    WEFT_CODEC_SCRATCH q;
    weft_codec_step s;
    size_t i;
    if (wide) {
        for (i = 0; i < WEFT_GROUP; i++) {
            const double v = t->d[i], limit = WEFT_CODEC_F32_MAX;
            q.f[i] = (float)(v > limit ? limit : v < -limit ? -limit : v);
        }
        most = k->f32.gather(m, q.f, NULL, 0, q.f);
    }
    s = weft_codec_step_of(weft_bits_f32((uint32_t)most), q8 ? 127.0 : 7.0);
    weft_put32(p, weft_f32_bits(s.step));
    k->f32.quantise(m, wide ? q.f : t->f, s.step, s.places, key, wide ? 0 : (int)j->form,
                    wide || !j->form ? NULL : (float *)j->kept + at, to);
    if (!q8) {
        if (m < WEFT_GROUP) memset(code + m, 0, WEFT_GROUP - m);
        weft_codec_pack4(m, code, p + 4);
    } else if (to == code)
        memcpy(p + 4, code, m);
    if (!wide || !j->form) return;
    for (i = 0; i < m; i++) q.d[i] = 0;
    {
        float f[WEFT_GROUP];
        k->f32.expand(m, to, s.step, 1.0f, 0, f);
        for (i = 0; i < m; i++) q.d[i] = (double)f[i];
    }
    weft_codec_keep(k, j, at, m, t, &q);
}

/* ---- bits: fields of up to 17 bits, the lowest first ---- */
typedef struct weft_codec_bits {
    uint64_t word;
    unsigned held;
    unsigned char *to;
    const unsigned char *from, *end;
} weft_codec_bits;

WEFT_FN void weft_codec_write_bits(weft_codec_bits *b, uint32_t v, unsigned bits) {
    b->word |= (uint64_t)v << b->held;
    for (b->held += bits; b->held >= 8; b->held -= 8, b->word >>= 8) *b->to++ = (unsigned char)(b->word & 0xFFu);
}

WEFT_FN uint32_t weft_codec_read_bits(weft_codec_bits *b, unsigned bits) {
    uint32_t v;
    for (; b->held < bits; b->held += 8) b->word |= (uint64_t)(b->from < b->end ? *b->from++ : 0u) << b->held;
    v = (uint32_t)(b->word & ((UINT64_C(1) << bits) - 1));
    b->word >>= bits;
    b->held -= bits;
    return v;
}

/* ---- messages of the other codecs, read a block at a time ---- */
typedef struct weft_codec_reader {
    const weft_codec *codec;
    weft_dtype dtype;
    size_t count, bytes; /* of the chunk, of the message */
    const unsigned char *p;
    double step;  /* QSGD, SIGN */
    size_t pairs; /* TOPK */
    int zeros;    /* SIGN */
    size_t next;  /* TOPK: the pair to come */
} weft_codec_reader;

/* q = C(t) for the m elements from `at`, a multiple of the block, of a message that has been checked; blocks in
 * ascending order. */
WEFT_FN void weft_codec_read(const weft_codec_kernels *k, weft_codec_reader *r, size_t at, size_t m,
                             weft_codec_values *q) {
    const int wide = r->dtype == WEFT_F64;
    const size_t each = wide ? 8 : 4;
    const unsigned char *p = r->p;
    size_t i;
    switch (r->codec->kind) {
    case WEFT_CODEC_IDENTITY:
        memcpy(q, p + at * each, m * each);
        if (weft_big_endian()) weft_swap((unsigned char *)q, m * each, each);
        return;
    case WEFT_CODEC_BF16:
    case WEFT_CODEC_F16: {
        uint16_t half[WEFT_GROUP];
        memcpy(half, p + at * 2, m * 2);
        if (weft_big_endian()) weft_swap((unsigned char *)half, m * 2, 2);
        (r->codec->kind == WEFT_CODEC_BF16 ? k->core->bf16_to_f32 : k->core->f16_to_f32)(m, half, q->f);
        break;
    }
    case WEFT_CODEC_Q8:
    case WEFT_CODEC_Q4: {
        uint8_t code[WEFT_GROUP];
        p += at / WEFT_CODEC_BLOCK * weft_codec_quantised_bytes(r->codec->kind, WEFT_CODEC_BLOCK);
        if (r->codec->kind == WEFT_CODEC_Q8)
            memcpy(code, p + 4, m);
        else
            weft_codec_unpack4(m, p + 4, code);
        k->f32.expand(m, code, weft_bits_f32(weft_get32(p)), 1.0f, 0, q->f);
        break;
    }
    case WEFT_CODEC_QSGD: {
        weft_codec_bits b;
        const unsigned bits = r->codec->bits;
        memset(&b, 0, sizeof b);
        b.from = p + each + at / 8 * (bits + 1);
        b.end = p + r->bytes;
        for (i = 0; i < m; i++) {
            const uint32_t v = weft_codec_read_bits(&b, bits + 1);
            const double level = v & 1u ? -(double)(v >> 1) : (double)(v >> 1);
            if (wide)
                q->d[i] = level * r->step;
            else
                q->f[i] = (float)level * (float)r->step;
        }
        return;
    }
    case WEFT_CODEC_SIGN: {
        const unsigned char *sign = p + each + 4, *zero = sign + (r->count + 7) / 8;
        double value[2];
        value[0] = r->step;
        value[1] = -r->step;
        for (i = 0; i < m; i++) {
            const size_t byte = (at + i) / 8;
            const unsigned bit = (unsigned)(i % 8); /* at is a multiple of 8 */
            const unsigned none = r->zeros ? zero[byte] >> bit & 1u : 0u;
            const double v = none ? 0 : value[sign[byte] >> bit & 1u];
            if (wide)
                q->d[i] = v;
            else
                q->f[i] = (float)v;
        }
        return;
    }
    case WEFT_CODEC_TOPK:
        memset(q, 0, m * each);
        for (; r->next < r->pairs; r->next++) {
            const unsigned char *pair = p + r->next * (4 + each);
            const size_t index = weft_get32(pair);
            if (index >= at + m) return;
            if (wide)
                q->d[index - at] = weft_bits_f64(weft_get64(pair + 4));
            else
                q->f[index - at] = weft_bits_f32(weft_get32(pair + 4));
        }
        return;
    }
    if (wide)
        for (i = m; i-- > 0;) q->d[i] = (double)q->f[i]; /* downwards: in place */
}

#ifdef WEFT_CUDA
#define WEFT_DEVICE_CODEC
#include "kernels/cuda_codec.h"
#undef WEFT_DEVICE_CODEC
#endif

/* ---- what must be known of the whole tensor ---- */

/* The lowest bit of v, which has one. */
WEFT_FN unsigned weft_codec_lowest(uint32_t v) {
#if defined __GNUC__ || defined __clang__
    return (unsigned)__builtin_ctz(v);
#else
    unsigned i = 0;
    while (!(v >> i & 1u)) i++;
    return i;
#endif
}

/* Which elements of a block have a magnitude whose bits are from `low` to below `high`, bit by bit; of f64, and from 0
 * on, simply all. Where values can be read in place, *f is z, and what is not finite may be among them; else t, which
 * then holds them. Returns whether there are any. */
WEFT_FN uint32_t weft_codec_sift(const weft_codec_kernels *k, const weft_codec_job *j, size_t at, size_t m,
                                 uint64_t low, uint64_t high, weft_codec_values *t, const float **f, uint32_t *word,
                                 uint64_t *nonfinite) {
    *f = t->f;
    if (j->dtype == WEFT_F32 && !j->form && m == WEFT_GROUP && low) {
        *f = (const float *)j->data + at;
    } else {
        const uint64_t most = weft_codec_gather(k, j, at, m, t, nonfinite);
        if (most < low) return 0;
        if (j->dtype == WEFT_F64 || !low) {
            memset(word, 0xFF, WEFT_GROUP / 8);
            if (m % 32) word[m / 32] = (UINT32_C(1) << m % 32) - 1u;
            return 1;
        }
    }
    return k->f32.between(m, *f, (uint32_t)(low - 1), (uint32_t)(high - 1), word);
}

/* Magnitudes have bits below this, what is not finite included. */
WEFT_FN uint64_t weft_codec_no_magnitude(weft_dtype t) {
    return t == WEFT_F64 ? UINT64_C(1) << 63 : UINT64_C(1) << 31;
}

/* The magnitude of rank `rank`, from 1, among every `stride`-th block. It is looked for from `low` to below `high` at
 * first; if it is not there, elsewhere. Then the range narrows to one of its parts, until that is one magnitude. */
#define WEFT_CODEC_BINS ((size_t)2048)

typedef struct weft_codec_place {
    uint64_t bits;
    size_t same, left; /* elements of this magnitude, and of them those up to the rank */
    uint64_t nonfinite;
} weft_codec_place;

WEFT_FN WEFT_NOINLINE weft_codec_place weft_codec_rank(const weft_codec_kernels *k, const weft_codec_job *j,
                                                       size_t stride, size_t rank, uint64_t low, uint64_t high) {
    const int wide = j->dtype == WEFT_F64;
    const uint64_t infinity = wide ? WEFT_CODEC_F64_INFINITY : WEFT_CODEC_F32_INFINITY;
    size_t histogram[WEFT_CODEC_BINS], above = 0, bin, at, step, m, i;
    uint32_t word[WEFT_GROUP / 32];
    int counted = 0; /* `above` are known to lie above the range */
    WEFT_CODEC_SCRATCH t;
    weft_codec_place r;
    const float *f;
    memset(&r, 0, sizeof r);
    for (;;) {
        uint64_t nonfinite = 0;
        unsigned shift = 0;
        while ((high - low - 1) >> shift >= WEFT_CODEC_BINS) shift++;
        memset(histogram, 0, sizeof histogram);
        if (!counted) above = 0;
        for (at = 0; at < j->count; at += step) {
            const size_t left = j->count - at;
            step = left / WEFT_GROUP < stride ? left : stride * WEFT_GROUP;
            m = left < WEFT_GROUP ? left : WEFT_GROUP;
            if (!weft_codec_sift(k, j, at, m, low, counted ? high : weft_codec_no_magnitude(j->dtype), &t, &f, word,
                                 &nonfinite))
                continue;
            for (i = 0; i < m; i += 32) {
                uint32_t w = word[i / 32];
                for (; w; w &= w - 1) {
                    const size_t e = i + weft_codec_lowest(w);
                    const uint64_t bits =
                        wide ? weft_codec_magnitude(&t, 1, e) : (uint64_t)(weft_f32_bits(f[e]) & 0x7FFFFFFFu);
                    if (bits < low) continue;
                    if (bits < high)
                        histogram[(size_t)((bits - low) >> shift)]++;
                    else if (bits >= infinity)
                        nonfinite++; /* read in place: elsewhere they have been left out */
                    else if (!counted)
                        above++;
                }
            }
        }
        if (!counted) r.nonfinite = nonfinite;
        if (above >= rank) { /* it is higher up */
            low = high;
            high = infinity;
            continue;
        }
        r.left = rank - above;
        for (bin = WEFT_CODEC_BINS; bin > 0 && histogram[bin - 1] < r.left; bin--) r.left -= histogram[bin - 1];
        if (bin == 0) {             /* it is further down */
            if (low == 0) return r; /* never, unless the data change meanwhile: this ends in any case */
            high = low;
            low = 0;
            counted = 0;
            continue;
        }
        counted = 1;
        above = rank - r.left;
        low += (uint64_t)(bin - 1) << shift;
        if (high - low > UINT64_C(1) << shift) high = low + (UINT64_C(1) << shift); /* the last part may be shorter */
        r.bits = low;
        r.same = histogram[bin - 1];
        if (shift == 0) return r;
    }
}

/* The index of the `rank`-th, from 1, element whose magnitude has these bits. */
WEFT_FN size_t weft_codec_find(const weft_codec_kernels *k, const weft_codec_job *j, uint64_t bits, size_t rank) {
    const int wide = j->dtype == WEFT_F64;
    uint32_t word[WEFT_GROUP / 32], w;
    WEFT_CODEC_SCRATCH t;
    uint64_t ignored = 0;
    const float *f;
    size_t at, m, i;
    for (at = 0; at < j->count; at += m) {
        m = j->count - at < WEFT_GROUP ? j->count - at : WEFT_GROUP;
        if (!weft_codec_sift(k, j, at, m, bits, bits + 1, &t, &f, word, &ignored)) continue;
        for (i = 0; i < m; i += 32)
            for (w = word[i / 32]; w; w &= w - 1) {
                const size_t e = i + weft_codec_lowest(w);
                const uint64_t its =
                    wide ? weft_codec_magnitude(&t, 1, e) : (uint64_t)(weft_f32_bits(f[e]) & 0x7FFFFFFFu);
                if (its == bits && --rank == 0) return at + e;
            }
    }
    return j->count;
}

/* The k-th largest magnitude. A large tensor is sampled first: where the sample has its magnitude of this rank, give or
 * take five deviations, is where one looks. A sample that misleads costs time and nothing else. */
#define WEFT_CODEC_SAMPLE ((size_t)128) /* blocks */

WEFT_FN void weft_codec_cut(const weft_codec_kernels *k, const weft_codec_job *j, weft_codec_scale *scale) {
    const uint64_t infinity = j->dtype == WEFT_F64 ? WEFT_CODEC_F64_INFINITY : WEFT_CODEC_F32_INFINITY;
    const size_t rank = weft_codec_sent(j->codec, j->count), blocks = j->count / WEFT_GROUP;
    uint64_t low = 0, high = infinity;
    weft_codec_place p;
#ifdef WEFT_CUDA
    if (k->core->gpu) {
        weft_gpu_codec_cut(k->core->gpu, j, scale);
        return;
    }
#endif
    if (blocks >= 8 * WEFT_CODEC_SAMPLE) {
        const size_t stride = blocks / WEFT_CODEC_SAMPLE;
        const double sample = (double)(blocks / stride * WEFT_GROUP);
        const double middle = (double)rank / (double)j->count * sample, slack = 5 * (sqrt(middle) + 1);
        if (middle - slack >= 1) high = weft_codec_rank(k, j, stride, (size_t)(middle - slack), 0, infinity).bits + 1;
        if (middle + slack < sample) low = weft_codec_rank(k, j, stride, (size_t)(middle + slack), 0, high).bits;
    }
    p = weft_codec_rank(k, j, 1, rank, low, high);
    scale->nonfinite = p.nonfinite;
    scale->least = p.bits;
    scale->last = p.same == p.left ? j->count : weft_codec_find(k, j, p.bits, p.left);
}

/* Sums over the tensor as the kernels' contract has them: of squares, or of magnitudes. */
WEFT_FN double weft_codec_sum(const weft_codec_kernels *k, const weft_codec_job *j, int squares, uint64_t *nonfinite) {
    const int wide = j->dtype == WEFT_F64;
    double lanes[WEFT_LANES_OF_A_BLOCK], total = 0;
    WEFT_CODEC_SCRATCH t;
    size_t at, m, i;
#ifdef WEFT_CUDA
    if (k->core->gpu) return weft_gpu_codec_sum(k->core->gpu, j, squares, nonfinite);
#endif
    memset(lanes, 0, sizeof lanes);
    for (at = 0; at < j->count;) {
        m = j->count - at < WEFT_GROUP ? j->count - at : WEFT_GROUP;
        weft_codec_gather(k, j, at, m, &t, nonfinite);
        if (squares)
            (wide ? k->core->f64.sqnorm_block : k->core->f32.sqnorm_block)(m, &t, lanes);
        else
            for (i = 0; i < m; i += WEFT_LANES_OF_A_BLOCK) { /* zeros from m on */
                size_t l;
                for (l = 0; l < WEFT_LANES_OF_A_BLOCK; l++)
                    lanes[l] += wide ? weft_bits_f64(weft_codec_magnitude(&t, 1, i + l))
                                     : (double)weft_bits_f32(weft_f32_bits(t.f[i + l]) & 0x7FFFFFFFu);
            }
        at += m;
        if (at % WEFT_BLOCK == 0 || at == j->count) {
            total += weft_lanes_sum(lanes);
            memset(lanes, 0, sizeof lanes);
        }
    }
    return total;
}

/* Can s steps be told in f32, or in f64? */
WEFT_FN int weft_codec_fits(double step, double s, int wide) {
    if (wide) return weft_is_finite(s * step);
    return step <= WEFT_CODEC_F32_MAX && weft_is_finite((double)((float)s * (float)step));
}

/* What the job says, but for the codec itself. */
WEFT_FN weft_status weft_codec_job_check(const weft_codec_job *j, weft_detail *d) {
    const size_t each = weft_dtype_bytes(j->dtype), kept = weft_codec_value_bytes(j->dtype);
    if (!j->codec) return weft_refuse(d, WEFT_ERR_ARGUMENT, WEFT_TEXT("job.codec"), 1, 0);
    if (weft_codec_check(j->codec, d) != WEFT_OK) return d->status;
    if (!each) return weft_refuse(d, WEFT_ERR_ARGUMENT, WEFT_TEXT("job.dtype"), WEFT_F16, (uint64_t)j->dtype);
    if ((unsigned)j->form > WEFT_CODEC_DIFFERENCE)
        return weft_refuse(d, WEFT_ERR_ARGUMENT, WEFT_TEXT("job.form"), WEFT_CODEC_DIFFERENCE,
                           (uint64_t)(int64_t)j->form);
    if (weft_codec_bytes(j->codec, j->dtype, j->count, j->count) == SIZE_MAX)
        return weft_refuse(d, WEFT_ERR_OVERFLOW, WEFT_TEXT("job.count"), SIZE_MAX / 32, j->count);
    if (j->count && (!j->data || (uintptr_t)j->data % each))
        return weft_refuse(d, WEFT_ERR_ARGUMENT, WEFT_TEXT("job.data"), each, (uintptr_t)j->data);
    if (!j->form != !j->kept && (j->count || !j->form))
        return weft_refuse(d, WEFT_ERR_ARGUMENT, WEFT_TEXT("job.kept"), (uint64_t)j->form, 0);
    if ((uintptr_t)j->kept % kept)
        return weft_refuse(d, WEFT_ERR_ARGUMENT, WEFT_TEXT("job.kept (alignment)"), 0, (uintptr_t)j->kept % kept);
    if (j->uniform && j->codec->kind != WEFT_CODEC_QSGD)
        return weft_refuse(d, WEFT_ERR_UNSUPPORTED, WEFT_TEXT("job.uniform"), WEFT_CODEC_QSGD,
                           (uint64_t)j->codec->kind);
    return WEFT_OK;
}

/* Looks at the whole tensor where the codec must: QSGD, TOPK, SIGN; for the others it only checks the job. Between this
 * and the last encode, data may not change, and kept only by those. Errors: WEFT_ERR_ARGUMENT, WEFT_ERR_OVERFLOW,
 * WEFT_ERR_UNSUPPORTED (uniforms for another codec than QSGD); WEFT_ERR_NONFINITE: QSGD's norm or SIGN's mean does not
 * fit the type. */
WEFT_FN weft_status weft_codec_measure(const weft_codec_kernels *k, const weft_codec_job *j, weft_codec_scale *scale,
                                       weft_detail *d) {
    const int wide = j->dtype == WEFT_F64;
    const double n = (double)j->count;
    memset(scale, 0, sizeof *scale);
    if (weft_codec_job_check(j, d) != WEFT_OK) return d->status;
    if (j->count == 0) return WEFT_OK;
    if (j->codec->kind == WEFT_CODEC_TOPK) {
        weft_codec_cut(k, j, scale);
    } else if (j->codec->kind == WEFT_CODEC_SIGN) {
        scale->step = weft_codec_sum(k, j, 0, &scale->nonfinite) / n;
    } else if (j->codec->kind == WEFT_CODEC_QSGD) {
        const double s = (double)((UINT32_C(1) << j->codec->bits) - 1u), by_norm = n / (s * s), by_root = sqrt(n) / s;
        scale->norm = sqrt(weft_codec_sum(k, j, 1, &scale->nonfinite));
        scale->step = scale->norm / s;
        if (j->codec->biased) scale->step = scale->step / (1.0 + (by_norm < by_root ? by_norm : by_root));
        if (!weft_codec_fits(scale->step, s, wide))
            return weft_refuse(d, WEFT_ERR_NONFINITE, WEFT_TEXT("norm of the tensor"), 0,
                               weft_double_bits(scale->norm));
    }
    if (!wide) scale->step = (double)(float)scale->step;
    return weft_is_finite(scale->step)
               ? WEFT_OK
               : weft_refuse(d, WEFT_ERR_NONFINITE, WEFT_TEXT("mean of the tensor"), 0, weft_double_bits(scale->step));
}

/* ---- encoding ---- */

/* out[index] = out[index] + weight * value for the pairs from p to end. */
WEFT_FN void weft_codec_add_pairs(const unsigned char *p, const unsigned char *end, size_t each, double weight,
                                  void *out) {
    for (; p < end; p += 4 + each) {
        const size_t i = weft_get32(p);
        if (each == 8)
            ((double *)out)[i] += weight * weft_bits_f64(weft_get64(p + 4));
        else
            ((float *)out)[i] += (float)weight * weft_bits_f32(weft_get32(p + 4));
    }
}

/* A block of TOPK: appends its pairs. `t` need not hold anything before; it does afterwards if something is kept. */
WEFT_FN unsigned char *weft_codec_write_pairs(const weft_codec_kernels *k, const weft_codec_job *j,
                                              const weft_codec_scale *scale, size_t first, size_t at, size_t m,
                                              weft_codec_values *t, unsigned char *p, const unsigned char *end,
                                              uint64_t *nonfinite) {
    const int wide = j->dtype == WEFT_F64;
    const size_t each = wide ? 8 : 4;
    uint32_t word[WEFT_GROUP / 32], w;
    const float *f;
    size_t i;
    if (!weft_codec_sift(k, j, first + at, m, scale->least, weft_codec_no_magnitude(j->dtype), t, &f, word, nonfinite))
        return p;
    for (i = 0; i < m; i += 32)
        for (w = word[i / 32]; w; w &= w - 1) {
            const size_t e = i + weft_codec_lowest(w);
            const uint64_t bits = wide ? weft_codec_magnitude(t, 1, e) : (uint64_t)(weft_f32_bits(f[e]) & 0x7FFFFFFFu);
            if (bits <= scale->least && (bits < scale->least || first + at + e > scale->last)) continue;
            if (!wide && bits >= WEFT_CODEC_F32_INFINITY) { /* read in place */
                ++*nonfinite;
                continue;
            }
            if ((size_t)(end - p) < 4 + each) return p; /* not if the data are those that have been measured */
            weft_put32(p, (uint32_t)(at + e));
            if (wide)
                weft_put64(p + 4, weft_double_bits(t->d[e]));
            else
                weft_put32(p + 4, weft_f32_bits(f[e]));
            p += 4 + each;
        }
    return p;
}

/* A block of the codecs that have no kernel of their own: to the message, from whose reading q comes. */
WEFT_FN unsigned char *weft_codec_write(const weft_codec_kernels *k, const weft_codec_job *j,
                                        const weft_codec_scale *scale, size_t first, size_t at, size_t m,
                                        const weft_codec_values *t, weft_codec_reader *r, unsigned char *message,
                                        unsigned char *p) {
    const int wide = j->dtype == WEFT_F64;
    const size_t each = wide ? 8 : 4, tensor_at = first + at;
    size_t i;
    switch (j->codec->kind) {
    case WEFT_CODEC_IDENTITY:
        memcpy(p, t, m * each);
        if (weft_big_endian()) weft_swap(p, m * each, each);
        return p + m * each;
    case WEFT_CODEC_BF16:
    case WEFT_CODEC_F16: {
        const int bf16 = j->codec->kind == WEFT_CODEC_BF16;
        const float limit = bf16 ? weft_bits_f32(0x7F7F0000u) : 65504.0f;
        float f[WEFT_GROUP];
        uint16_t half[WEFT_GROUP];
        if (wide)
            for (i = 0; i < m; i++) {
                const double v = t->d[i];
                f[i] = v > (double)limit ? limit : v < -(double)limit ? -limit : (float)v;
            }
        else
            for (i = 0; i < m; i++) {
                const float v = t->f[i];
                f[i] = v > limit ? limit : v < -limit ? -limit : v;
            }
        (bf16 ? k->core->f32_to_bf16 : k->core->f32_to_f16)(m, f, half);
        if (weft_big_endian()) weft_swap((unsigned char *)half, m * 2, 2);
        memcpy(p, half, m * 2);
        return p + m * 2;
    }
    case WEFT_CODEC_QSGD: {
        const unsigned bits = j->codec->bits;
        const uint32_t s = (UINT32_C(1) << bits) - 1u;
        const uint64_t key = weft_codec_block_key(j->key, tensor_at);
        weft_codec_bits b;
        memset(&b, 0, sizeof b);
        b.to = p;
        for (i = 0; i < m; i++) {
            const double v = weft_codec_value(t, wide, i);
            const double u =
                j->uniform ? j->uniform[tensor_at + i] : (double)(weft_draw(key, (uint32_t)i) >> 8) / 16777216.0;
            const double ratio = scale->norm > 0 ? ((double)s * (v < 0 ? -v : v)) / scale->norm : 0;
            uint32_t level = ratio < (double)s ? (uint32_t)ratio : s;
            if (level < s && u < ratio - (double)level) level++;
            weft_codec_write_bits(&b, level << 1 | (uint32_t)(level != 0 && v < 0), bits + 1);
        }
        if (b.held) weft_codec_write_bits(&b, 0, 8 - b.held);
        return b.to;
    }
    case WEFT_CODEC_SIGN: {
        unsigned char *sign = message + each + 4, *zero = sign + (r->count + 7) / 8;
        for (i = 0; i < m; i += 8) {
            const size_t more = m - i < 8 ? m - i : 8;
            unsigned minus = 0, none = 0;
            size_t e;
            for (e = 0; e < more; e++) {
                const uint64_t d = wide ? weft_double_bits(t->d[i + e]) : 0;
                const uint64_t bits = wide ? d >> 32 | (d << 1 != 0) : (uint64_t)weft_f32_bits(t->f[i + e]);
                minus |= (unsigned)(bits >> 31 & 1u) << e;
                none |= (unsigned)((bits & 0x7FFFFFFFu) == 0) << e;
            }
            sign[(at + i) / 8] = (unsigned char)minus;
            zero[(at + i) / 8] = (unsigned char)none;
            r->zeros |= none != 0;
        }
        return zero + (at + m + 7) / 8;
    }
    case WEFT_CODEC_TOPK:
    case WEFT_CODEC_Q8:
    case WEFT_CODEC_Q4: break; /* have functions of their own */
    }
    return p;
}

/* A range of a tensor's elements that may be a chunk? */
WEFT_FN weft_status weft_codec_range(size_t n, size_t first, size_t count, weft_detail *d) {
    if (first % WEFT_CODEC_BLOCK || first > n) return weft_refuse(d, WEFT_ERR_ARGUMENT, WEFT_TEXT("first"), n, first);
    if (count > n - first || (count % WEFT_CODEC_BLOCK && count != n - first))
        return weft_refuse(d, WEFT_ERR_ARGUMENT, WEFT_TEXT("count"), n - first, count);
    return WEFT_OK;
}

/* Makes the message of a chunk: elements first .. first + count - 1, as above. `scale` is what measure has made of this
 * job. capacity: at least weft_codec_bytes(codec, dtype, job->count, count). *bytes: what the message has. kept is
 * brought up to date for these elements: encode each only once a round. Elements that were left out, since not finite,
 * are added to *nonfinite (may be NULL). Errors, with nothing done: WEFT_ERR_ARGUMENT, WEFT_ERR_OVERFLOW,
 * WEFT_ERR_UNSUPPORTED as measure; WEFT_ERR_CAPACITY. */
WEFT_FN weft_status weft_codec_encode(const weft_codec_kernels *k, const weft_codec_job *j,
                                      const weft_codec_scale *scale, size_t first, size_t count, void *message,
                                      size_t capacity, size_t *bytes, uint64_t *nonfinite, weft_detail *d) {
    unsigned char *p = (unsigned char *)message;
    const size_t each = weft_codec_value_bytes(j->dtype);
    WEFT_CODEC_SCRATCH t, q;
    weft_codec_reader r;
    uint64_t bad = 0, most;
    size_t at, m, need;
    *bytes = 0;
    if (weft_codec_job_check(j, d) != WEFT_OK || weft_codec_range(j->count, first, count, d) != WEFT_OK)
        return d->status;
    need = weft_codec_bytes(j->codec, j->dtype, j->count, count);
    if (capacity < need) return weft_refuse(d, WEFT_ERR_CAPACITY, WEFT_TEXT("capacity"), need, capacity);
    if (count == 0) return WEFT_OK;
    if (!message) return weft_refuse(d, WEFT_ERR_ARGUMENT, WEFT_TEXT("message"), need, 0);
#ifdef WEFT_CUDA
    if (k->core->gpu) {
        weft_gpu_codec_encode(k->core->gpu, j, scale, first, count, p, need, bytes, nonfinite);
        return WEFT_OK;
    }
#endif
    memset(&r, 0, sizeof r);
    r.codec = j->codec;
    r.dtype = j->dtype;
    r.count = count;
    r.bytes = need;
    r.p = p;
    r.step = scale->step;
    if (j->codec->kind == WEFT_CODEC_QSGD || j->codec->kind == WEFT_CODEC_SIGN) {
        weft_codec_put(p, each, scale->step);
        p += each;
    }
    for (at = 0; at < count; at += m) {
        m = count - at < WEFT_CODEC_BLOCK ? count - at : WEFT_CODEC_BLOCK;
        if (j->codec->kind == WEFT_CODEC_TOPK) {
            unsigned char *const before = p;
            p = weft_codec_write_pairs(k, j, scale, first, at, m, &t, p, (unsigned char *)message + need, &bad);
            r.pairs = (size_t)(p - (unsigned char *)message) / (4 + each);
            if (j->form == WEFT_CODEC_DIFFERENCE) { /* as decoding does it */
                weft_codec_add_pairs(before, p, each, 1.0, (unsigned char *)j->kept + first * each);
                continue;
            }
        } else {
            most = weft_codec_gather(k, j, first + at, m, &t, &bad);
            if (j->codec->kind == WEFT_CODEC_Q8 || j->codec->kind == WEFT_CODEC_Q4) {
                weft_codec_quantise(k, j, first + at, m, &t, most, p);
                p += weft_codec_quantised_bytes(j->codec->kind, m);
                continue;
            }
            p = weft_codec_write(k, j, scale, first, at, m, &t, &r, (unsigned char *)message, p);
        }
        if (!j->form) continue;
        weft_codec_read(k, &r, at, m, &q);
        weft_codec_keep(k, j, first + at, m, &t, &q);
    }
    if (j->codec->kind == WEFT_CODEC_SIGN) {
        weft_put32((unsigned char *)message + each, (uint32_t)r.zeros);
        if (!r.zeros) p -= (count + 7) / 8;
    }
    *bytes = (size_t)(p - (unsigned char *)message);
    if (nonfinite) *nonfinite += bad;
    return WEFT_OK;
}

/* Of pairs whose magnitudes have bits of at least `low`, keeps the first `rank` by magnitude and then by index. */
WEFT_FN WEFT_NOINLINE void weft_codec_select(unsigned char *p, size_t pairs, size_t rank, uint32_t low) {
    uint32_t histogram[WEFT_CODEC_BINS], high = (uint32_t)WEFT_CODEC_F32_INFINITY, bits;
    size_t left = rank, to = 0, bin, i;
    unsigned shift;
    for (;;) { /* as weft_codec_rank does it */
        for (shift = 0; (high - low - 1) >> shift >= WEFT_CODEC_BINS;) shift++;
        memset(histogram, 0, sizeof histogram);
        for (i = 0; i < pairs; i++) {
            bits = weft_get32(p + 8 * i + 4) & 0x7FFFFFFFu;
            if (bits >= low && bits < high) histogram[(bits - low) >> shift]++;
        }
        for (bin = WEFT_CODEC_BINS; histogram[bin - 1] < left; bin--) left -= histogram[bin - 1];
        low += (uint32_t)(bin - 1) << shift;
        if (high - low > UINT32_C(1) << shift) high = low + (UINT32_C(1) << shift);
        if (shift == 0) break;
    }
    for (i = 0; i < pairs; i++) {
        bits = weft_get32(p + 8 * i + 4) & 0x7FFFFFFFu;
        if (bits < low || (bits == low && left == 0)) continue;
        if (bits == low) left--;
        memmove(p + 8 * to++, p + 8 * i, 8);
    }
}

/* TOPK in one pass: a sample says what is surely large enough; of the pairs that this makes, the best stay. 0: it
 * cannot be done, and nothing has been but to the message. */
WEFT_FN int weft_codec_topk_at_once(const weft_codec_kernels *k, const weft_codec_job *j, unsigned char *message,
                                    size_t capacity, size_t *bytes, uint64_t *nonfinite) {
    const size_t rank = weft_codec_sent(j->codec, j->count), blocks = j->count / WEFT_GROUP;
    const unsigned char *end = message + capacity / 8 * 8;
    unsigned char *p = message;
    size_t at, m, stride, i;
    double sample, middle, slack;
    WEFT_CODEC_SCRATCH t;
    weft_codec_scale floor_;
    uint64_t bad = 0;
#ifdef WEFT_CUDA
    if (k->core->gpu) return 0;
#endif
    if (j->codec->kind != WEFT_CODEC_TOPK || j->dtype == WEFT_F64 || blocks < 8 * WEFT_CODEC_SAMPLE) return 0;
    stride = blocks / (blocks / 64 < WEFT_CODEC_SAMPLE       ? WEFT_CODEC_SAMPLE
                       : blocks / 64 < 8 * WEFT_CODEC_SAMPLE ? blocks / 64
                                                             : 8 * WEFT_CODEC_SAMPLE);
    sample = (double)(blocks / stride * WEFT_GROUP);
    middle = (double)rank / (double)j->count * sample;
    slack = 5 * (sqrt(middle) + 1);
    if (middle + slack >= sample || (middle + 2 * slack) / sample * (double)j->count * 8 > (double)capacity) return 0;
    memset(&floor_, 0, sizeof floor_);
    floor_.least = weft_codec_rank(k, j, stride, (size_t)(middle + slack), 0, WEFT_CODEC_F32_INFINITY).bits;
    floor_.last = j->count;
    if (floor_.least == 0) return 0;
    for (at = 0; at < j->count; at += m) {
        m = j->count - at < WEFT_GROUP ? j->count - at : WEFT_GROUP;
        p = weft_codec_write_pairs(k, j, &floor_, 0, at, m, &t, p, end, &bad);
    }
    if (p == end || (size_t)(p - message) / 8 < rank) return 0;
    weft_codec_select(message, (size_t)(p - message) / 8, rank, (uint32_t)floor_.least);
    *bytes = rank * 8;
    *nonfinite += bad;
    if (j->form == WEFT_CODEC_FEEDBACK) {
        float *kept = (float *)j->kept;
        for (at = 0; at < j->count; at += m) {
            m = j->count - at < WEFT_GROUP ? j->count - at : WEFT_GROUP;
            weft_codec_gather(k, j, at, m, &t, &bad);
            memcpy(kept + at, t.f, m * sizeof(float));
        }
        for (i = 0; i < rank; i++) kept[weft_get32(message + 8 * i)] = 0;
    } else if (j->form == WEFT_CODEC_DIFFERENCE)
        weft_codec_add_pairs(message, message + *bytes, 4, 1.0, j->kept);
    return 1;
}

/* measure and encode of a whole tensor, in one chunk and the same bits. With room for a quarter more than
 * weft_codec_bytes says, TOPK of a large tensor reads it once instead of three times. */
WEFT_FN weft_status weft_codec_encode_tensor(const weft_codec_kernels *k, const weft_codec_job *j, void *message,
                                             size_t capacity, size_t *bytes, uint64_t *nonfinite, weft_detail *d) {
    weft_codec_scale scale;
    uint64_t bad = 0;
    *bytes = 0;
    if (weft_codec_job_check(j, d) != WEFT_OK) return d->status;
    if (message && weft_codec_topk_at_once(k, j, (unsigned char *)message, capacity, bytes, &bad)) {
        if (nonfinite) *nonfinite += bad;
        return WEFT_OK;
    }
    if (weft_codec_measure(k, j, &scale, d) != WEFT_OK) return d->status;
    return weft_codec_encode(k, j, &scale, 0, j->count, message, capacity, bytes, nonfinite, d);
}

/* ---- decoding ---- */

/* Are n values of `each` bytes, `stride` bytes apart, finite? */
WEFT_FN int weft_codec_all_finite(const unsigned char *p, size_t n, size_t each, size_t stride) {
    size_t i;
    for (i = 0; i < n; i++, p += stride)
        if (each == 8 ? (weft_get64(p) & WEFT_CODEC_F64_INFINITY) == WEFT_CODEC_F64_INFINITY
                      : (weft_get32(p) & WEFT_CODEC_F32_INFINITY) == WEFT_CODEC_F32_INFINITY)
            return 0;
    return 1;
}

/* Does the message hold what it must, and nothing else? Fills in the reader. */
WEFT_FN weft_status weft_codec_message_check(const weft_codec_kernels *k, weft_codec_reader *r, size_t n,
                                             weft_detail *d) {
    const weft_codec *c = r->codec;
    const int wide = r->dtype == WEFT_F64;
    const size_t each = wide ? 8 : 4, need = weft_codec_bytes(c, r->dtype, n, r->count);
    const unsigned char *p = r->p;
    unsigned char head[12] = {0};
    size_t i, expected = need;
    int finite = 1;
    if (r->count == 0)
        return r->bytes ? weft_refuse(d, WEFT_ERR_PROTOCOL, WEFT_TEXT("message length"), 0, r->bytes) : WEFT_OK;
    if (c->kind == WEFT_CODEC_TOPK) {
        if (r->bytes > need || r->bytes % (4 + each) || (r->count == n && r->bytes != need))
            return weft_refuse(d, WEFT_ERR_PROTOCOL, WEFT_TEXT("message length"), need, r->bytes);
        r->pairs = r->bytes / (4 + each);
    } else {
        if (c->kind == WEFT_CODEC_SIGN) {
            if (r->bytes < each + 4)
                return weft_refuse(d, WEFT_ERR_PROTOCOL, WEFT_TEXT("message length"), need, r->bytes);
            weft_data_out(WEFT_GPU_OF(k->core), head, p, each + 4);
            if (weft_get32(head + each) > 1)
                return weft_refuse(d, WEFT_ERR_PROTOCOL, WEFT_TEXT("zeros"), 1, weft_get32(head + each));
            r->zeros = weft_get32(head + each) == 1;
            if (!r->zeros) expected -= (r->count + 7) / 8;
        }
        if (r->bytes != expected)
            return weft_refuse(d, WEFT_ERR_PROTOCOL, WEFT_TEXT("message length"), expected, r->bytes);
    }
    if (c->kind == WEFT_CODEC_SIGN || c->kind == WEFT_CODEC_QSGD) {
        const double s = c->kind == WEFT_CODEC_QSGD ? (double)((UINT32_C(1) << c->bits) - 1u) : 1.0;
        weft_data_out(WEFT_GPU_OF(k->core), head, p, each);
        r->step = weft_codec_get(head, each);
        finite = r->step >= 0 && weft_codec_fits(r->step, s, wide);
#ifdef WEFT_CUDA
    } else if (k->core->gpu) {
        uint32_t index = 0;
        const int astray = weft_gpu_codec_inspect(k->core->gpu, r, &finite, &index);
        if (astray) return weft_refuse(d, WEFT_ERR_PROTOCOL, WEFT_TEXT("index"), r->count, index);
#endif
    } else if (c->kind == WEFT_CODEC_TOPK) {
        for (i = 0; i < r->pairs; i++) {
            const uint32_t index = weft_get32(p + i * (4 + each));
            if (index >= r->count || (i && index <= weft_get32(p + (i - 1) * (4 + each))))
                return weft_refuse(d, WEFT_ERR_PROTOCOL, WEFT_TEXT("index"), r->count, index);
        }
        finite = weft_codec_all_finite(p + 4, r->pairs, each, 4 + each);
    } else if (c->kind == WEFT_CODEC_Q8 || c->kind == WEFT_CODEC_Q4) {
        const size_t stride = weft_codec_quantised_bytes(c->kind, WEFT_CODEC_BLOCK);
        for (i = 0; i < r->count; i += WEFT_CODEC_BLOCK) {
            const float step = weft_bits_f32(weft_get32(p + i / WEFT_CODEC_BLOCK * stride));
            if (!(step >= 0 && (double)step <= WEFT_CODEC_F32_MAX / 128.0)) finite = 0;
        }
    } else {
        WEFT_CODEC_SCRATCH q;
        for (i = 0; i < r->count && finite; i += WEFT_CODEC_BLOCK) {
            const size_t m = r->count - i < WEFT_CODEC_BLOCK ? r->count - i : WEFT_CODEC_BLOCK;
            weft_codec_read(k, r, i, m, &q);
            finite = (wide ? k->core->f64.count_nonfinite : k->core->f32.count_nonfinite)(m, &q) == 0;
        }
    }
    return finite ? WEFT_OK : weft_refuse(d, WEFT_ERR_NONFINITE, WEFT_TEXT("message"), 0, 1);
}

/* As weft_codec_add_pairs, for 16-bit types. */
WEFT_FN void weft_codec_add_narrow_pairs(const weft_codec_kernels *k, weft_dtype dtype, const unsigned char *p,
                                         const unsigned char *end, double weight, uint16_t *out) {
    for (; p < end; p += 8) {
        uint16_t *half = out + weft_get32(p);
        float v;
        (dtype == WEFT_BF16 ? k->core->bf16_to_f32 : k->core->f16_to_f32)(1, half, &v);
        v += (float)weight * weft_bits_f32(weft_get32(p + 4));
        (dtype == WEFT_BF16 ? k->core->f32_to_bf16 : k->core->f32_to_f16)(1, &v, half);
    }
}

/* Both ways to decode: add 0 stores. */
WEFT_FN weft_status weft_codec_decode_chunk(const weft_codec_kernels *k, const weft_codec *c, weft_dtype dtype,
                                            size_t n, size_t first, size_t count, const void *message, size_t bytes,
                                            int add, double weight, void *out, weft_detail *d) {
    const int wide = dtype == WEFT_F64, narrow = dtype == WEFT_BF16 || dtype == WEFT_F16;
    const int quantised = c->kind == WEFT_CODEC_Q8 || c->kind == WEFT_CODEC_Q4;
    const size_t each = weft_dtype_bytes(dtype);
    const weft_kernel_set *s = wide ? &k->core->f64 : &k->core->f32;
    weft_codec_reader r;
    WEFT_CODEC_SCRATCH q, sum;
    weft_status status;
    size_t at, m;
    if (weft_codec_check(c, d) != WEFT_OK) return d->status;
    if (!each || weft_codec_bytes(c, dtype, n, n) == SIZE_MAX)
        return weft_refuse(d, WEFT_ERR_ARGUMENT, WEFT_TEXT("dtype or size"), WEFT_F16, (uint64_t)dtype);
    if (!message && bytes) return weft_refuse(d, WEFT_ERR_ARGUMENT, WEFT_TEXT("message"), bytes, 0);
    if (!weft_is_finite(weight) || (!wide && (weight > WEFT_CODEC_F32_MAX || weight < -WEFT_CODEC_F32_MAX)))
        return weft_refuse(d, WEFT_ERR_ARGUMENT, WEFT_TEXT("weight"), 0, weft_double_bits(weight));
    if (weft_codec_range(n, first, count, d) != WEFT_OK) return d->status;
    if (count && (!out || (uintptr_t)out % each))
        return weft_refuse(d, WEFT_ERR_ARGUMENT, WEFT_TEXT("out"), each, (uintptr_t)out);
    memset(&r, 0, sizeof r);
    r.codec = c;
    r.dtype = dtype;
    r.count = count;
    r.bytes = bytes;
    r.p = (const unsigned char *)message;
    status = weft_codec_message_check(k, &r, n, d);
#ifdef WEFT_CUDA
    /* what a GPU that has failed makes of a message, says nothing of it; the object tells */
    if (k->core->gpu && k->core->gpu->failed < 0) return WEFT_OK;
#endif
    if (status != WEFT_OK) return status;
#ifdef WEFT_CUDA
    if (k->core->gpu) {
        if (count) weft_gpu_codec_decode(k->core->gpu, &r, first, add, weight, out);
        return WEFT_OK;
    }
#endif
    if (c->kind == WEFT_CODEC_TOPK && add) { /* only what was sent */
        if (narrow)
            weft_codec_add_narrow_pairs(k, dtype, r.p, r.p + bytes, weight, (uint16_t *)out + first);
        else
            weft_codec_add_pairs(r.p, r.p + bytes, each, weight, (unsigned char *)out + first * each);
        return WEFT_OK;
    }
    for (at = 0; at < count; at += m) {
        unsigned char *to = (unsigned char *)out + (first + at) * each;
        m = count - at < WEFT_CODEC_BLOCK ? count - at : WEFT_CODEC_BLOCK;
        if (quantised && dtype == WEFT_F32) {
            const unsigned char *p =
                r.p + at / WEFT_CODEC_BLOCK * weft_codec_quantised_bytes(c->kind, WEFT_CODEC_BLOCK);
            uint8_t code[WEFT_GROUP];
            if (c->kind == WEFT_CODEC_Q4) weft_codec_unpack4(m, p + 4, code);
            k->f32.expand(m, c->kind == WEFT_CODEC_Q4 ? code : p + 4, weft_bits_f32(weft_get32(p)), (float)weight, add,
                          to);
            continue;
        }
        weft_codec_read(k, &r, at, m, &q);
        if (narrow) {
            uint16_t *half = (uint16_t *)(void *)to;
            if (add) {
                (dtype == WEFT_BF16 ? k->core->bf16_to_f32 : k->core->f16_to_f32)(m, half, sum.f);
                s->axpy(m, weight, q.f, sum.f);
            } else
                memcpy(sum.f, q.f, m * sizeof(float));
            (dtype == WEFT_BF16 ? k->core->f32_to_bf16 : k->core->f32_to_f16)(m, sum.f, half);
        } else if (add)
            s->axpy(m, weight, &q, to);
        else
            memcpy(to, &q, m * each);
    }
    return WEFT_OK;
}

/* out = C(t) for a chunk of a tensor of n elements of this type: elements first .. first + count - 1 of the tensor that
 * begins at `out`. 16-bit types are rounded once. The message may be any bytes, of any alignment: an error leaves `out`
 * as it was. Errors: WEFT_ERR_ARGUMENT; WEFT_ERR_PROTOCOL (a length, an index), WEFT_ERR_NONFINITE (a value). */
WEFT_FN weft_status weft_codec_decode(const weft_codec_kernels *k, const weft_codec *c, weft_dtype dtype, size_t n,
                                      size_t first, size_t count, const void *message, size_t bytes, void *out,
                                      weft_detail *d) {
    return weft_codec_decode_chunk(k, c, dtype, n, first, count, message, bytes, 0, 1.0, out, d);
}

/* out = out + weight * C(t), in the same way: the product is rounded, then the sum, in f32 (f64 for f64 tensors). A
 * weight of 1 adds C(t) itself, as the encoder's DIFFERENCE does. Elements that TOPK has not sent are not touched. */
WEFT_FN weft_status weft_codec_decode_add(const weft_codec_kernels *k, const weft_codec *c, weft_dtype dtype, size_t n,
                                          size_t first, size_t count, const void *message, size_t bytes, double weight,
                                          void *out, weft_detail *d) {
    return weft_codec_decode_chunk(k, c, dtype, n, first, count, message, bytes, 1, weight, out, d);
}
