/* AVX2 with FMA: x86 since 2013.
 * The vocabulary is that of serial.h. */
#define WEFT_SET_NAME(element, kernel) weft_avx2_##element##_##kernel
#define WEFT_KERNEL WEFT_FN __attribute__((target("avx2,fma,popcnt")))

#define WEFT_AVX2_MUL64(a, n)                                                                                          \
    _mm256_add_epi64(                                                                                                  \
        _mm256_mul_epu32(a, _mm256_set1_epi64x((int64_t)((n) & 0xFFFFFFFFu))),                                         \
        _mm256_slli_epi64(_mm256_add_epi64(_mm256_mul_epu32(a, _mm256_set1_epi64x((int64_t)((n) >> 32))),              \
                                           _mm256_mul_epu32(_mm256_srli_epi64(a, 32),                                  \
                                                            _mm256_set1_epi64x((int64_t)((n) & 0xFFFFFFFFu)))),        \
                          32))

#define WEFT_F __m256
#define WEFT_F_LANES 8
#define WEFT_F_SET(a) _mm256_set1_ps(a)
#define WEFT_F_LOAD(p) _mm256_loadu_ps(p)
#define WEFT_F_STORE(p, v) _mm256_storeu_ps(p, v)
#define WEFT_F_STREAM(p, v) _mm256_stream_ps(p, v)
#define WEFT_F_ADD(a, b) _mm256_add_ps(a, b)
#define WEFT_F_SUB(a, b) _mm256_sub_ps(a, b)
#define WEFT_F_MUL(a, b) _mm256_mul_ps(a, b)
#define WEFT_F_DIV(a, b) _mm256_div_ps(a, b)
#define WEFT_F_NONFINITE(v)                                                                                            \
    (unsigned)_mm_popcnt_u32((unsigned)_mm256_movemask_ps(_mm256_castsi256_ps(_mm256_cmpeq_epi32(                      \
        _mm256_and_si256(_mm256_castps_si256(v), _mm256_set1_epi32(0x7F800000)), _mm256_set1_epi32(0x7F800000)))))
#define WEFT_F_TO_I(v) _mm256_castps_si256(v)

#include "doubles256.h"
#define WEFT_D_NONFINITE(v)                                                                                            \
    (unsigned)_mm_popcnt_u32((unsigned)_mm256_movemask_pd(_mm256_castsi256_pd(                                         \
        _mm256_cmpeq_epi64(_mm256_and_si256(_mm256_castpd_si256(v), _mm256_set1_epi64x(0x7FF0000000000000)),           \
                           _mm256_set1_epi64x(0x7FF0000000000000)))))
#define WEFT_U_MUL(a, b) WEFT_AVX2_MUL64(a, b)

#define WEFT_I __m256i
#define WEFT_I_SET(a) _mm256_set1_epi32((int)(a))
#define WEFT_I_LOAD16(p) _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)(const void *)(p)))
#define WEFT_I_STORE16(p, v)                                                                                           \
    _mm_storeu_si128((__m128i *)(void *)(p),                                                                           \
                     _mm256_castsi256_si128(_mm256_permute4x64_epi64(_mm256_packus_epi32(v, v), 0x08)))
#define WEFT_I_ADD(a, b) _mm256_add_epi32(a, b)
#define WEFT_I_AND(a, b) _mm256_and_si256(a, b)
#define WEFT_I_OR(a, b) _mm256_or_si256(a, b)
#define WEFT_I_SHL(a, n) _mm256_slli_epi32(a, n)
#define WEFT_I_SHR(a, n) _mm256_srli_epi32(a, n)
#define WEFT_I_GREATER(a, b) _mm256_cmpgt_epi32(a, b)
#define WEFT_I_SELECT(mask, a, b) _mm256_blendv_epi8(b, a, mask)
#define WEFT_I_TO_F(v) _mm256_castsi256_ps(v)
/*==== WITH codec.h ====*/
#define WEFT_I_XOR(a, b) _mm256_xor_si256(a, b)
#define WEFT_I_MUL(a, b) _mm256_mullo_epi32(a, b)
#define WEFT_I_SRA(a, n) _mm256_srai_epi32(a, n)
#define WEFT_I_LOAD8(p) _mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)(const void *)(p)))
#define WEFT_I_STORE8(p, v) weft_avx2_store8(p, v)
#define WEFT_I_FROM_F(v) _mm256_cvttps_epi32(v)
#define WEFT_F_FROM_I(v) _mm256_cvtepi32_ps(v)
#define WEFT_I_MAX(a, b) _mm256_max_epi32(a, b)
#define WEFT_I_MASK(mask) (unsigned)_mm256_movemask_ps(_mm256_castsi256_ps(mask))

#if WEFT_FAMILY == WEFT_CODEC_FAMILY
WEFT_KERNEL void weft_avx2_store8(uint8_t *p, __m256i v) {
    const __m128i half = _mm_packs_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
    _mm_storel_epi64((__m128i *)(void *)p, _mm_packs_epi16(half, half));
}
#endif
/*==== END WITH ====*/

#define WEFT_ELEMENT 32
#include "body.h"
#define WEFT_ELEMENT 64
#include "body.h"

WEFT_FAMILY_TABLES(avx2, WEFT_ISA_AVX2, weft_x86_fence)
#undef WEFT_SET_NAME
