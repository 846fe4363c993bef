/* NEON of 64-bit Arm, which unlike that of 32-bit Arm has doubles and keeps subnormals.
 * The vocabulary is that of serial.h. */
#define WEFT_SET_NAME(element, kernel) weft_neon_##element##_##kernel
#define WEFT_KERNEL WEFT_FN

/* Bits are loaded as bytes, which may be part of elements of any type. */
#define WEFT_NEON_BYTES(p) ((const uint8_t *)(const void *)(p))

#define WEFT_F float32x4_t
#define WEFT_F_LANES 4
#define WEFT_F_SET(a) vdupq_n_f32(a)
#define WEFT_F_LOAD(p) vld1q_f32(p)
#define WEFT_F_STORE(p, v) vst1q_f32(p, v)
#define WEFT_F_ADD(a, b) vaddq_f32(a, b)
#define WEFT_F_SUB(a, b) vsubq_f32(a, b)
#define WEFT_F_MUL(a, b) vmulq_f32(a, b)
#define WEFT_F_DIV(a, b) vdivq_f32(a, b)
#define WEFT_F_NONFINITE(v) weft_neon_f_nonfinite(v)
#define WEFT_F_TO_I(v) vreinterpretq_u32_f32(v)

#define WEFT_D float64x2_t
#define WEFT_D_LANES 2
#define WEFT_D_SET(a) vdupq_n_f64(a)
#define WEFT_D_LOAD(p) vld1q_f64(p)
#define WEFT_D_LOAD32(p) vcvt_f64_f32(vld1_f32(p))
#define WEFT_D_STORE(p, v) vst1q_f64(p, v)
#define WEFT_D_STORE32(p, v) vst1_f32(p, vcvt_f32_f64(v))
#define WEFT_D_ADD(a, b) vaddq_f64(a, b)
#define WEFT_D_SUB(a, b) vsubq_f64(a, b)
#define WEFT_D_MUL(a, b) vmulq_f64(a, b)
#define WEFT_D_DIV(a, b) vdivq_f64(a, b)
#define WEFT_D_MADD(sum, a, b) vfmaq_f64(sum, a, b)
#define WEFT_D_NONFINITE(v) weft_neon_d_nonfinite(v)

#define WEFT_U uint64x2_t
#define WEFT_U_SET(a) vdupq_n_u64(a)
#define WEFT_U_LOAD64(p) vreinterpretq_u64_u8(vld1q_u8(WEFT_NEON_BYTES(p)))
#define WEFT_U_LOAD32(p) vmovl_u32(vreinterpret_u32_u8(vld1_u8(WEFT_NEON_BYTES(p))))
#define WEFT_U_STORE64(p, v) vst1q_u64(p, v)
#define WEFT_U_ADD(a, b) vaddq_u64(a, b)
#define WEFT_U_XOR(a, b) veorq_u64(a, b)
#define WEFT_U_SHR(a, n) vshrq_n_u64(a, n)
#define WEFT_U_MUL(a, b) weft_neon_mul64(a, b)

#define WEFT_I uint32x4_t
#define WEFT_I_SET(a) vdupq_n_u32(a)
#define WEFT_I_LOAD16(p) vmovl_u16(vld1_u16(p))
#define WEFT_I_STORE16(p, v) vst1_u16(p, vmovn_u32(v))
#define WEFT_I_ADD(a, b) vaddq_u32(a, b)
#define WEFT_I_AND(a, b) vandq_u32(a, b)
#define WEFT_I_OR(a, b) vorrq_u32(a, b)
#define WEFT_I_SHL(a, n) vshlq_n_u32(a, n)
#define WEFT_I_SHR(a, n) vshrq_n_u32(a, n)
#define WEFT_I_GREATER(a, b) vcgtq_u32(a, b)
#define WEFT_I_SELECT(mask, a, b) vbslq_u32(mask, a, b)
#define WEFT_I_TO_F(v) vreinterpretq_f32_u32(v)
/*==== WITH codec.h ====*/
#define WEFT_I_XOR(a, b) veorq_u32(a, b)
#define WEFT_I_MUL(a, b) vmulq_u32(a, b)
#define WEFT_I_SRA(a, n) vreinterpretq_u32_s32(vshrq_n_s32(vreinterpretq_s32_u32(a), n))
#define WEFT_I_LOAD8(p) weft_neon_load8(p)
#define WEFT_I_STORE8(p, v) weft_neon_store8(p, v)
#define WEFT_I_FROM_F(v) vreinterpretq_u32_s32(vcvtq_s32_f32(v))
#define WEFT_F_FROM_I(v) vcvtq_f32_s32(vreinterpretq_s32_u32(v))
#define WEFT_I_MAX(a, b) vmaxq_u32(a, b)
#define WEFT_I_MASK(mask) weft_neon_mask(mask)

#if WEFT_FAMILY == WEFT_CODEC_FAMILY
WEFT_KERNEL uint32x4_t weft_neon_load8(const uint8_t *p) {
    const int8x8_t bytes = vreinterpret_s8_u32(vdup_n_u32(weft_load_u32(p)));
    return vreinterpretq_u32_s32(vmovl_s16(vget_low_s16(vmovl_s8(bytes))));
}

WEFT_KERNEL void weft_neon_store8(uint8_t *p, uint32x4_t v) {
    const uint16x4_t half = vmovn_u32(v);
    const uint32_t packed = vget_lane_u32(vreinterpret_u32_u8(vmovn_u16(vcombine_u16(half, half))), 0);
    memcpy(p, &packed, sizeof packed);
}

WEFT_KERNEL unsigned weft_neon_mask(uint32x4_t mask) {
    static const uint32_t bit[4] = {1u, 2u, 4u, 8u};
    return vaddvq_u32(vandq_u32(mask, vld1q_u32(bit)));
}
#endif
/*==== END WITH ====*/

#if WEFT_FAMILY == WEFT_CORE_FAMILY
WEFT_KERNEL unsigned weft_neon_f_nonfinite(float32x4_t v) {
    const uint32x4_t exponent = vdupq_n_u32(0x7F800000u);
    return vaddvq_u32(vshrq_n_u32(vceqq_u32(vandq_u32(vreinterpretq_u32_f32(v), exponent), exponent), 31));
}

WEFT_KERNEL unsigned weft_neon_d_nonfinite(float64x2_t v) {
    const uint64x2_t exponent = vdupq_n_u64(UINT64_C(0x7FF0000000000000));
    return (unsigned)vaddvq_u64(vshrq_n_u64(vceqq_u64(vandq_u64(vreinterpretq_u64_f64(v), exponent), exponent), 63));
}

/* The products of the 32-bit halves that reach into the low 64 bits. */
WEFT_KERNEL uint64x2_t weft_neon_mul64(uint64x2_t a, uint64_t n) {
    const uint32x2_t low = vmovn_u64(a), high = vshrn_n_u64(a, 32);
    const uint32x2_t cross = vmla_n_u32(vmul_n_u32(low, (uint32_t)(n >> 32)), high, (uint32_t)n);
    return vmlal_n_u32(vshlq_n_u64(vmovl_u32(cross), 32), low, (uint32_t)n);
}
#endif

#define WEFT_ELEMENT 32
#include "body.h"
#define WEFT_ELEMENT 64
#include "body.h"

WEFT_FAMILY_TABLES(neon, WEFT_ISA_NEON, NULL)
#undef WEFT_SET_NAME
