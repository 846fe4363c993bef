/* WebAssembly's simd128. A module that holds such instructions runs nowhere without them: hence no choice at run time.
 * The vocabulary is that of serial.h. */
#define WEFT_SET_NAME(element, kernel) weft_wasm_##element##_##kernel
#define WEFT_KERNEL WEFT_FN

#define WEFT_F v128_t
#define WEFT_F_LANES 4
#define WEFT_F_SET(a) wasm_f32x4_splat(a)
#define WEFT_F_LOAD(p) wasm_v128_load(p)
#define WEFT_F_STORE(p, v) wasm_v128_store(p, v)
#define WEFT_F_ADD(a, b) wasm_f32x4_add(a, b)
#define WEFT_F_SUB(a, b) wasm_f32x4_sub(a, b)
#define WEFT_F_MUL(a, b) wasm_f32x4_mul(a, b)
#define WEFT_F_DIV(a, b) wasm_f32x4_div(a, b)
#define WEFT_F_NONFINITE(v)                                                                                            \
    ((unsigned)__builtin_popcount((unsigned)wasm_i32x4_bitmask(                                                        \
        wasm_i32x4_eq(wasm_v128_and(v, wasm_i32x4_splat(0x7F800000)), wasm_i32x4_splat(0x7F800000)))))
#define WEFT_F_TO_I(v) (v)

#define WEFT_D v128_t
#define WEFT_D_LANES 2
#define WEFT_D_SET(a) wasm_f64x2_splat(a)
#define WEFT_D_LOAD(p) wasm_v128_load(p)
#define WEFT_D_LOAD32(p) wasm_f64x2_promote_low_f32x4(wasm_v128_load64_zero(p))
#define WEFT_D_STORE(p, v) wasm_v128_store(p, v)
#define WEFT_D_STORE32(p, v) wasm_v128_store64_lane(p, wasm_f32x4_demote_f64x2_zero(v), 0)
#define WEFT_D_ADD(a, b) wasm_f64x2_add(a, b)
#define WEFT_D_SUB(a, b) wasm_f64x2_sub(a, b)
#define WEFT_D_MUL(a, b) wasm_f64x2_mul(a, b)
#define WEFT_D_DIV(a, b) wasm_f64x2_div(a, b)
#define WEFT_D_MADD(sum, a, b) wasm_f64x2_add(sum, wasm_f64x2_mul(a, b))
#define WEFT_D_NONFINITE(v)                                                                                            \
    ((unsigned)__builtin_popcount((unsigned)wasm_i64x2_bitmask(                                                        \
        wasm_i64x2_eq(wasm_v128_and(v, wasm_i64x2_splat(INT64_C(0x7FF0000000000000))),                                 \
                      wasm_i64x2_splat(INT64_C(0x7FF0000000000000))))))

#define WEFT_U v128_t
#define WEFT_U_SET(a) wasm_i64x2_splat((int64_t)(a))
#define WEFT_U_LOAD64(p) wasm_v128_load(p)
#define WEFT_U_LOAD32(p) wasm_u64x2_load32x2(p)
#define WEFT_U_STORE64(p, v) wasm_v128_store(p, v)
#define WEFT_U_ADD(a, b) wasm_i64x2_add(a, b)
#define WEFT_U_XOR(a, b) wasm_v128_xor(a, b)
#define WEFT_U_SHR(a, n) wasm_u64x2_shr(a, n)
#define WEFT_U_MUL(a, b) wasm_i64x2_mul(a, wasm_i64x2_splat((int64_t)(b)))

#define WEFT_I v128_t
#define WEFT_I_SET(a) wasm_i32x4_splat((int32_t)(a))
#define WEFT_I_LOAD16(p) wasm_u32x4_load16x4(p)
/* narrowing saturates, but nothing larger than 16 bits comes here */
#define WEFT_I_STORE16(p, v) wasm_v128_store64_lane(p, wasm_u16x8_narrow_i32x4(v, v), 0)
#define WEFT_I_ADD(a, b) wasm_i32x4_add(a, b)
#define WEFT_I_AND(a, b) wasm_v128_and(a, b)
#define WEFT_I_OR(a, b) wasm_v128_or(a, b)
#define WEFT_I_SHL(a, n) wasm_i32x4_shl(a, n)
#define WEFT_I_SHR(a, n) wasm_u32x4_shr(a, n)
#define WEFT_I_GREATER(a, b) wasm_u32x4_gt(a, b)
#define WEFT_I_SELECT(mask, a, b) wasm_v128_bitselect(a, b, mask)
#define WEFT_I_TO_F(v) (v)
/*==== WITH codec.h ====*/
#define WEFT_I_XOR(a, b) wasm_v128_xor(a, b)
#define WEFT_I_MUL(a, b) wasm_i32x4_mul(a, b)
#define WEFT_I_SRA(a, n) wasm_i32x4_shr(a, n)
#define WEFT_I_LOAD8(p) weft_wasm_load8(p)
#define WEFT_I_STORE8(p, v) weft_wasm_store8(p, v)
#define WEFT_I_FROM_F(v) wasm_i32x4_trunc_sat_f32x4(v)
#define WEFT_F_FROM_I(v) wasm_f32x4_convert_i32x4(v)
#define WEFT_I_MAX(a, b) wasm_u32x4_max(a, b)
#define WEFT_I_MASK(mask) (unsigned)wasm_i32x4_bitmask(mask)

#if WEFT_FAMILY == WEFT_CODEC_FAMILY
/* clang 14 moves a load that becomes a vector at once past stores to the same place: this one is an operand first. */
WEFT_KERNEL v128_t weft_wasm_load8(const uint8_t *p) {
    const v128_t bytes = wasm_i32x4_splat((int32_t)(weft_load_u32(p) ^ 0x80808080u));
    return wasm_i32x4_sub(wasm_u32x4_extend_low_u16x8(wasm_u16x8_extend_low_u8x16(bytes)), wasm_i32x4_splat(128));
}

WEFT_KERNEL void weft_wasm_store8(uint8_t *p, v128_t v) {
    v = wasm_i16x8_narrow_i32x4(v, v);
    wasm_v128_store32_lane(p, wasm_i8x16_narrow_i16x8(v, v), 0);
}
#endif
/*==== END WITH ====*/

#define WEFT_ELEMENT 32
#include "body.h"
#define WEFT_ELEMENT 64
#include "body.h"

WEFT_FAMILY_TABLES(wasm, WEFT_ISA_WASM, NULL)
#undef WEFT_SET_NAME
