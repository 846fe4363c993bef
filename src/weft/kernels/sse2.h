/* SSE2: what every x86-64 machine has.
 * The vocabulary is that of serial.h. */
#define WEFT_SET_NAME(element, kernel) weft_sse2_##element##_##kernel
#define WEFT_KERNEL WEFT_FN

/* The two halves of a 64-bit product that fit into 64 bits; n is a constant. */
#define WEFT_SSE2_MUL64(a, n)                                                                                          \
    _mm_add_epi64(_mm_mul_epu32(a, _mm_set1_epi64x((int64_t)((n) & 0xFFFFFFFFu))),                                     \
                  _mm_slli_epi64(_mm_add_epi64(_mm_mul_epu32(a, _mm_set1_epi64x((int64_t)((n) >> 32))),                \
                                               _mm_mul_epu32(_mm_srli_epi64(a, 32),                                    \
                                                             _mm_set1_epi64x((int64_t)((n) & 0xFFFFFFFFu)))),          \
                                 32))
/* How many of four bits are set, without an instruction that came later. */
#define WEFT_SSE2_COUNT(bits) ((unsigned)(UINT64_C(0x4332322132212110) >> 4 * (unsigned)(bits)) & 7u)

#define WEFT_F __m128
#define WEFT_F_LANES 4
#define WEFT_F_SET(a) _mm_set1_ps(a)
#define WEFT_F_LOAD(p) _mm_loadu_ps(p)
#define WEFT_F_STORE(p, v) _mm_storeu_ps(p, v)
#define WEFT_F_STREAM(p, v) _mm_stream_ps(p, v)
#define WEFT_F_ADD(a, b) _mm_add_ps(a, b)
#define WEFT_F_SUB(a, b) _mm_sub_ps(a, b)
#define WEFT_F_MUL(a, b) _mm_mul_ps(a, b)
#define WEFT_F_DIV(a, b) _mm_div_ps(a, b)
#define WEFT_F_NONFINITE(v)                                                                                            \
    WEFT_SSE2_COUNT(_mm_movemask_ps(_mm_castsi128_ps(_mm_cmpeq_epi32(                                                  \
        _mm_and_si128(_mm_castps_si128(v), _mm_set1_epi32(0x7F800000)), _mm_set1_epi32(0x7F800000)))))
#define WEFT_F_TO_I(v) _mm_castps_si128(v)

#define WEFT_D __m128d
#define WEFT_D_LANES 2
#define WEFT_D_SET(a) _mm_set1_pd(a)
#define WEFT_D_LOAD(p) _mm_loadu_pd(p)
#define WEFT_D_LOAD32(p) _mm_cvtps_pd(_mm_castsi128_ps(_mm_loadl_epi64((const __m128i *)(const void *)(p))))
#define WEFT_D_STORE(p, v) _mm_storeu_pd(p, v)
#define WEFT_D_STORE32(p, v) _mm_storel_epi64((__m128i *)(void *)(p), _mm_castps_si128(_mm_cvtpd_ps(v)))
#define WEFT_D_STREAM(p, v) _mm_stream_pd(p, v)
#define WEFT_D_ADD(a, b) _mm_add_pd(a, b)
#define WEFT_D_SUB(a, b) _mm_sub_pd(a, b)
#define WEFT_D_MUL(a, b) _mm_mul_pd(a, b)
#define WEFT_D_DIV(a, b) _mm_div_pd(a, b)
#define WEFT_D_MADD(sum, a, b) _mm_add_pd(sum, _mm_mul_pd(a, b))
#define WEFT_D_NONFINITE(v)                                                                                            \
    WEFT_SSE2_COUNT(_mm_movemask_pd(_mm_castsi128_pd(                                                                  \
        _mm_cmpeq_epi32(_mm_and_si128(_mm_castpd_si128(v), _mm_set1_epi64x(0x7FF0000000000000)),                       \
                        _mm_set1_epi64x(0x7FF0000000000000)))))

#define WEFT_U __m128i
#define WEFT_U_SET(a) _mm_set1_epi64x((int64_t)(a))
#define WEFT_U_LOAD64(p) _mm_loadu_si128((const __m128i *)(const void *)(p))
#define WEFT_U_LOAD32(p) _mm_unpacklo_epi32(_mm_loadl_epi64((const __m128i *)(const void *)(p)), _mm_setzero_si128())
#define WEFT_U_STORE64(p, v) _mm_storeu_si128((__m128i *)(void *)(p), v)
#define WEFT_U_ADD(a, b) _mm_add_epi64(a, b)
#define WEFT_U_XOR(a, b) _mm_xor_si128(a, b)
#define WEFT_U_SHR(a, n) _mm_srli_epi64(a, n)
#define WEFT_U_MUL(a, b) WEFT_SSE2_MUL64(a, b)

#define WEFT_I __m128i
#define WEFT_I_SET(a) _mm_set1_epi32((int)(a))
#define WEFT_I_LOAD16(p) _mm_unpacklo_epi16(_mm_loadl_epi64((const __m128i *)(const void *)(p)), _mm_setzero_si128())
/* packing saturates as for signed numbers: the sign is spread first */
#define WEFT_SSE2_SPREAD(v) _mm_srai_epi32(_mm_slli_epi32(v, 16), 16)
#define WEFT_I_STORE16(p, v)                                                                                           \
    _mm_storel_epi64((__m128i *)(void *)(p), _mm_packs_epi32(WEFT_SSE2_SPREAD(v), WEFT_SSE2_SPREAD(v)))
#define WEFT_I_ADD(a, b) _mm_add_epi32(a, b)
#define WEFT_I_AND(a, b) _mm_and_si128(a, b)
#define WEFT_I_OR(a, b) _mm_or_si128(a, b)
#define WEFT_I_SHL(a, n) _mm_slli_epi32(a, n)
#define WEFT_I_SHR(a, n) _mm_srli_epi32(a, n)
#define WEFT_I_GREATER(a, b) _mm_cmpgt_epi32(a, b)
#define WEFT_I_SELECT(mask, a, b) weft_sse2_select(mask, a, b)
#define WEFT_I_TO_F(v) _mm_castsi128_ps(v)
/*==== WITH codec.h ====*/
#define WEFT_I_XOR(a, b) _mm_xor_si128(a, b)
#define WEFT_I_MUL(a, b) weft_sse2_mul32(a, b)
#define WEFT_I_SRA(a, n) _mm_srai_epi32(a, n)
#define WEFT_I_LOAD8(p) weft_sse2_load8(p)
#define WEFT_I_STORE8(p, v) weft_sse2_store8(p, v)
#define WEFT_I_FROM_F(v) _mm_cvttps_epi32(v)
#define WEFT_F_FROM_I(v) _mm_cvtepi32_ps(v)
#define WEFT_I_MAX(a, b) weft_sse2_select(_mm_cmpgt_epi32(a, b), a, b)
#define WEFT_I_MASK(mask) (unsigned)_mm_movemask_ps(_mm_castsi128_ps(mask))

#if WEFT_FAMILY == WEFT_CODEC_FAMILY
WEFT_KERNEL __m128i weft_sse2_mul32(__m128i a, __m128i b) {
    const __m128i even = _mm_mul_epu32(a, b), odd = _mm_mul_epu32(_mm_srli_epi64(a, 32), _mm_srli_epi64(b, 32));
    return _mm_unpacklo_epi32(_mm_shuffle_epi32(even, 0x08), _mm_shuffle_epi32(odd, 0x08));
}

WEFT_KERNEL __m128i weft_sse2_load8(const uint8_t *p) {
    __m128i v = _mm_cvtsi32_si128((int)weft_load_u32(p));
    v = _mm_unpacklo_epi8(v, v);
    return _mm_srai_epi32(_mm_unpacklo_epi16(v, v), 24);
}

WEFT_KERNEL void weft_sse2_store8(uint8_t *p, __m128i v) {
    int packed;
    v = _mm_packs_epi32(v, v);
    packed = _mm_cvtsi128_si32(_mm_packs_epi16(v, v));
    memcpy(p, &packed, sizeof packed);
}
#endif
/*==== END WITH ====*/

#if WEFT_FAMILY == WEFT_CORE_FAMILY
WEFT_KERNEL __m128i weft_sse2_select(__m128i mask, __m128i a, __m128i b) {
    return _mm_or_si128(_mm_and_si128(mask, a), _mm_andnot_si128(mask, b));
}
#endif

#define WEFT_ELEMENT 32
#include "body.h"
#define WEFT_ELEMENT 64
#include "body.h"

WEFT_FAMILY_TABLES(sse2, WEFT_ISA_SSE2, weft_x86_fence)
#undef WEFT_SET_NAME
