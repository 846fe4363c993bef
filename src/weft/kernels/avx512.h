/* AVX-512 F, DQ and VL.
 * The vocabulary is that of serial.h. */
#define WEFT_SET_NAME(element, kernel) weft_avx512_##element##_##kernel
#define WEFT_KERNEL WEFT_FN __attribute__((target("avx512f,avx512dq,avx512vl,fma,popcnt")))

#define WEFT_F __m512
#define WEFT_F_LANES 16
#define WEFT_F_SET(a) _mm512_set1_ps(a)
#define WEFT_F_LOAD(p) _mm512_loadu_ps(p)
#define WEFT_F_STORE(p, v) _mm512_storeu_ps(p, v)
#define WEFT_F_STREAM(p, v) _mm512_stream_ps(p, v)
#define WEFT_F_ADD(a, b) _mm512_add_ps(a, b)
#define WEFT_F_SUB(a, b) _mm512_sub_ps(a, b)
#define WEFT_F_MUL(a, b) _mm512_mul_ps(a, b)
#define WEFT_F_DIV(a, b) _mm512_div_ps(a, b)
/* 0x99: NaN of either kind, infinity of either sign */
#define WEFT_F_NONFINITE(v) (unsigned)_mm_popcnt_u32((unsigned)_mm512_fpclass_ps_mask(v, 0x99))
#define WEFT_F_TO_I(v) _mm512_castps_si512(v)

#include "doubles256.h"
#define WEFT_D_NONFINITE(v) (unsigned)_mm_popcnt_u32((unsigned)_mm256_fpclass_pd_mask(v, 0x99))
#define WEFT_U_MUL(a, b) _mm256_mullo_epi64(a, _mm256_set1_epi64x((int64_t)(b)))

#define WEFT_I __m512i
#define WEFT_I_SET(a) _mm512_set1_epi32((int)(a))
#define WEFT_I_LOAD16(p) _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)(const void *)(p)))
#define WEFT_I_STORE16(p, v) _mm256_storeu_si256((__m256i *)(void *)(p), _mm512_cvtepi32_epi16(v))
#define WEFT_I_ADD(a, b) _mm512_add_epi32(a, b)
#define WEFT_I_AND(a, b) _mm512_and_si512(a, b)
#define WEFT_I_OR(a, b) _mm512_or_si512(a, b)
#define WEFT_I_SHL(a, n) _mm512_slli_epi32(a, n)
#define WEFT_I_SHR(a, n) _mm512_srli_epi32(a, n)
#define WEFT_I_GREATER(a, b) _mm512_cmpgt_epi32_mask(a, b)
#define WEFT_I_SELECT(mask, a, b) _mm512_mask_blend_epi32(mask, b, a)
#define WEFT_I_TO_F(v) _mm512_castsi512_ps(v)
/*==== WITH codec.h ====*/
#define WEFT_I_XOR(a, b) _mm512_xor_si512(a, b)
#define WEFT_I_MUL(a, b) _mm512_mullo_epi32(a, b)
#define WEFT_I_SRA(a, n) _mm512_srai_epi32(a, n)
#define WEFT_I_LOAD8(p) _mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)(const void *)(p)))
#define WEFT_I_STORE8(p, v) _mm_storeu_si128((__m128i *)(void *)(p), _mm512_cvtepi32_epi8(v))
#define WEFT_I_FROM_F(v) _mm512_cvttps_epi32(v)
#define WEFT_F_FROM_I(v) _mm512_cvtepi32_ps(v)
#define WEFT_I_MAX(a, b) _mm512_max_epi32(a, b)
#define WEFT_I_MASK(mask) (unsigned)(mask)
/*==== END WITH ====*/

#define WEFT_ELEMENT 32
#include "body.h"
#define WEFT_ELEMENT 64
#include "body.h"

WEFT_FAMILY_TABLES(avx512, WEFT_ISA_AVX512, weft_x86_fence)
#undef WEFT_SET_NAME
