/* SPDX-License-Identifier: MIT
 * A set of kernels of WIDE lanes (floats; half as many doubles) in plain C, so that what body.h does for wide vectors
 * is tested on any machine. Included after the header under test. */
#ifndef WIDE
#define WIDE 8
#endif
#if WIDE == 4
#define WIDE_HALF 2
#elif WIDE == 8
#define WIDE_HALF 4
#else
#define WIDE_HALF 8
#endif

typedef struct wide_f { float l[WIDE]; } wide_f;
typedef struct wide_d { double l[WIDE_HALF]; } wide_d;
typedef struct wide_u { uint64_t l[WIDE_HALF]; } wide_u;
typedef struct wide_i { uint32_t l[WIDE]; } wide_i;

/* name(a...), with one expression for lane i */
#define WIDE_FN(type, name, args, expression)                                                                          \
    static inline type name args {                                                                                     \
        type r;                                                                                                        \
        size_t i;                                                                                                      \
        for (i = 0; i < sizeof r.l / sizeof r.l[0]; i++) r.l[i] = (expression);                                        \
        return r;                                                                                                      \
    }
#define WIDE_COUNT(name, type, count)                                                                                  \
    static inline unsigned name(type a) {                                                                              \
        unsigned n = 0;                                                                                                \
        size_t i;                                                                                                      \
        for (i = 0; i < sizeof a.l / sizeof a.l[0]; i++) n += count(a.l[i]);                                           \
        return n;                                                                                                      \
    }
#define WIDE_STORE(name, type, element, cast)                                                                          \
    static inline void name(element *p, type a) {                                                                      \
        size_t i;                                                                                                      \
        for (i = 0; i < sizeof a.l / sizeof a.l[0]; i++) p[i] = cast a.l[i];                                           \
    }

WIDE_FN(wide_f, wide_f_set, (float a), a)
WIDE_FN(wide_f, wide_f_load, (const float *p), p[i])
WIDE_FN(wide_f, wide_f_add, (wide_f a, wide_f b), a.l[i] + b.l[i])
WIDE_FN(wide_f, wide_f_sub, (wide_f a, wide_f b), a.l[i] - b.l[i])
WIDE_FN(wide_f, wide_f_mul, (wide_f a, wide_f b), a.l[i] * b.l[i])
WIDE_FN(wide_f, wide_f_div, (wide_f a, wide_f b), a.l[i] / b.l[i])
WIDE_FN(wide_i, wide_f_to_i, (wide_f a), weft_f32_bits(a.l[i]))
WIDE_STORE(wide_f_store, wide_f, float, )
WIDE_COUNT(wide_f_nonfinite, wide_f, weft_f32_nonfinite)

WIDE_FN(wide_d, wide_d_set, (double a), a)
WIDE_FN(wide_d, wide_d_load, (const double *p), p[i])
WIDE_FN(wide_d, wide_d_load32, (const float *p), (double)p[i])
WIDE_FN(wide_d, wide_d_add, (wide_d a, wide_d b), a.l[i] + b.l[i])
WIDE_FN(wide_d, wide_d_sub, (wide_d a, wide_d b), a.l[i] - b.l[i])
WIDE_FN(wide_d, wide_d_mul, (wide_d a, wide_d b), a.l[i] * b.l[i])
WIDE_FN(wide_d, wide_d_div, (wide_d a, wide_d b), a.l[i] / b.l[i])
WIDE_STORE(wide_d_store, wide_d, double, )
WIDE_STORE(wide_d_store32, wide_d, float, (float))
WIDE_COUNT(wide_d_nonfinite, wide_d, weft_f64_nonfinite)

WIDE_FN(wide_u, wide_u_set, (uint64_t a), a)
WIDE_FN(wide_u, wide_u_load64, (const void *p), weft_load_u64((const char *)p + 8 * i))
WIDE_FN(wide_u, wide_u_load32, (const void *p), weft_load_u32((const char *)p + 4 * i))
WIDE_FN(wide_u, wide_u_add, (wide_u a, wide_u b), a.l[i] + b.l[i])
WIDE_FN(wide_u, wide_u_xor, (wide_u a, wide_u b), a.l[i] ^ b.l[i])
WIDE_FN(wide_u, wide_u_shr, (wide_u a, int n), a.l[i] >> n)
WIDE_FN(wide_u, wide_u_mul, (wide_u a, uint64_t b), a.l[i] * b)
WIDE_STORE(wide_u_store, wide_u, uint64_t, )

WIDE_FN(wide_i, wide_i_set, (uint32_t a), a)
WIDE_FN(wide_i, wide_i_load16, (const uint16_t *p), p[i])
WIDE_FN(wide_i, wide_i_add, (wide_i a, wide_i b), a.l[i] + b.l[i])
WIDE_FN(wide_i, wide_i_and, (wide_i a, wide_i b), a.l[i] & b.l[i])
WIDE_FN(wide_i, wide_i_or, (wide_i a, wide_i b), a.l[i] | b.l[i])
WIDE_FN(wide_i, wide_i_shl, (wide_i a, int n), a.l[i] << n)
WIDE_FN(wide_i, wide_i_shr, (wide_i a, int n), a.l[i] >> n)
/* signed, as vector instructions are */
WIDE_FN(wide_i, wide_i_greater, (wide_i a, wide_i b), (int32_t)a.l[i] > (int32_t)b.l[i] ? UINT32_MAX : 0)
WIDE_FN(wide_i, wide_i_select, (wide_i m, wide_i a, wide_i b), (m.l[i] & a.l[i]) | (~m.l[i] & b.l[i]))
WIDE_FN(wide_f, wide_i_to_f, (wide_i a), weft_bits_f32(a.l[i]))
WIDE_STORE(wide_i_store16, wide_i, uint16_t, (uint16_t))
WIDE_FN(wide_i, wide_i_xor, (wide_i a, wide_i b), a.l[i] ^ b.l[i])
WIDE_FN(wide_i, wide_i_mul, (wide_i a, wide_i b), a.l[i] * b.l[i])
WIDE_FN(wide_i, wide_i_sra, (wide_i a, int n), a.l[i] >> n | (0u - (a.l[i] >> 31)) << (32 - n))
WIDE_FN(wide_i, wide_i_max, (wide_i a, wide_i b), a.l[i] > b.l[i] ? a.l[i] : b.l[i])
WIDE_FN(wide_i, wide_i_load8, (const uint8_t *p), ((uint32_t)p[i] ^ 0x80u) - 0x80u)
WIDE_FN(wide_i, wide_i_from_f, (wide_f a), (uint32_t)(int32_t)a.l[i])
WIDE_FN(wide_f, wide_f_from_i, (wide_i a), (float)(int32_t)a.l[i])
WIDE_STORE(wide_i_store8, wide_i, uint8_t, (uint8_t))

static inline unsigned wide_i_mask(wide_i m) {
    unsigned bits = 0;
    size_t i;
    for (i = 0; i < WIDE; i++) bits |= (m.l[i] >> 31) << i;
    return bits;
}

#include "../src/weft/fp_begin.h"
#define WEFT_FAMILY WEFT_CORE_FAMILY
#include "wide_vocabulary.h"
WEFT_SET_TABLES(wide, WEFT_ISA_SERIAL, NULL)
#undef WEFT_SET_NAME
#undef WEFT_FAMILY
#ifdef WEFT_WIDE_TABLES
#define WEFT_FAMILY WEFT_WIDE_FAMILY
#include "wide_vocabulary.h"
WEFT_WIDE_TABLES(wide, WEFT_ISA_SERIAL, NULL)
#undef WEFT_SET_NAME
#undef WEFT_FAMILY
#endif
#ifdef WEFT_CODEC_TABLES
#define WEFT_FAMILY WEFT_CODEC_FAMILY
#include "wide_vocabulary.h"
WEFT_CODEC_TABLES(wide, WEFT_ISA_SERIAL, NULL)
#undef WEFT_SET_NAME
#undef WEFT_FAMILY
#endif
#include "../src/weft/fp_end.h"
