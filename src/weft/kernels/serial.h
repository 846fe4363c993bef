/* The serial set: one lane, any machine. It is also the pattern for the other sets: define the vocabulary, include
 * body.h for each element type, make the tables. All of it is read once for each family of kernels.
 *
 *   WEFT_SET_NAME(element, kernel)    the name of a kernel of this set
 *   WEFT_KERNEL                       storage class and attributes (target) of a kernel
 *   F: WEFT_F_LANES floats            D: WEFT_D_LANES doubles         U: WEFT_D_LANES 64-bit integers
 *   I: WEFT_F_LANES 32-bit integers   the numbers of lanes are 1, 2, 4, 8 or 16, known to the preprocessor
 *
 * Loads and stores are unaligned. ADD, SUB, MUL and DIV round each time. F_NONFINITE, D_NONFINITE: how many lanes are
 * NaN or infinite. D_LOAD32: WEFT_D_LANES floats, widened; D_STORE32: rounded to float. U_LOAD64, U_LOAD32: the bits of
 * doubles, of floats zero-extended. U_MUL: by a constant, the low 64 bits. I_LOAD16, I_STORE16: WEFT_F_LANES 16-bit
 * integers. I_GREATER: a mask for I_SELECT(mask, if set, if not), called with values below 2^31. F_TO_I, I_TO_F: the
 * bits. SHL, SHR: by a constant. D_MADD(sum, a, b): sum + a * b for widened floats, whose product is exact, so that it
 * may be fused. Optional: F_STREAM, D_STREAM, D_STREAM32, which store a whole aligned vector past the cache, and then,
 * for the tables, a function that makes such stores visible to other threads before anything that follows (else
 * NULL). */
#define WEFT_SET_NAME(element, kernel) weft_serial_##element##_##kernel
#define WEFT_KERNEL WEFT_FN

#define WEFT_F float
#define WEFT_F_LANES 1
#define WEFT_F_SET(a) (a)
#define WEFT_F_LOAD(p) (*(p))
#define WEFT_F_STORE(p, v) (void)(*(p) = (v))
#define WEFT_F_ADD(a, b) ((a) + (b))
#define WEFT_F_SUB(a, b) ((a) - (b))
#define WEFT_F_MUL(a, b) ((a) * (b))
#define WEFT_F_DIV(a, b) ((a) / (b))
#define WEFT_F_NONFINITE(v) weft_f32_nonfinite(v)
#define WEFT_F_TO_I(v) weft_f32_bits(v)

#define WEFT_D double
#define WEFT_D_LANES 1
#define WEFT_D_SET(a) (a)
#define WEFT_D_LOAD(p) (*(p))
#define WEFT_D_LOAD32(p) ((double)*(p))
#define WEFT_D_STORE(p, v) (void)(*(p) = (v))
#define WEFT_D_STORE32(p, v) (void)(*(p) = (float)(v))
#define WEFT_D_ADD(a, b) ((a) + (b))
#define WEFT_D_SUB(a, b) ((a) - (b))
#define WEFT_D_MUL(a, b) ((a) * (b))
#define WEFT_D_DIV(a, b) ((a) / (b))
#define WEFT_D_MADD(sum, a, b) ((sum) + (a) * (b))
#define WEFT_D_NONFINITE(v) weft_f64_nonfinite(v)

#define WEFT_U uint64_t
#define WEFT_U_SET(a) ((uint64_t)(a))
#define WEFT_U_LOAD64(p) weft_load_u64(p)
#define WEFT_U_LOAD32(p) ((uint64_t)weft_load_u32(p))
#define WEFT_U_STORE64(p, v) (void)(*(p) = (v))
#define WEFT_U_ADD(a, b) ((a) + (b))
#define WEFT_U_XOR(a, b) ((a) ^ (b))
#define WEFT_U_SHR(a, n) ((a) >> (n))
#define WEFT_U_MUL(a, b) ((a) * (b))

#define WEFT_I uint32_t
#define WEFT_I_SET(a) ((uint32_t)(a))
#define WEFT_I_LOAD16(p) ((uint32_t)*(p))
#define WEFT_I_STORE16(p, v) (void)(*(p) = (uint16_t)(v))
#define WEFT_I_ADD(a, b) ((a) + (b))
#define WEFT_I_AND(a, b) ((a) & (b))
#define WEFT_I_OR(a, b) ((a) | (b))
#define WEFT_I_SHL(a, n) ((a) << (n))
#define WEFT_I_SHR(a, n) ((a) >> (n))
#define WEFT_I_GREATER(a, b) ((a) > (b))
#define WEFT_I_SELECT(mask, a, b) ((mask) ? (a) : (b))
#define WEFT_I_TO_F(v) weft_bits_f32(v)
/*==== WITH codec.h ====*/
/* For codecs. I_LOAD8, I_STORE8: signed 8-bit integers. I_MASK: bit i is lane i of what I_GREATER says. I_MAX: of
 * values below 2^31. I_FROM_F: towards zero, called with what fits; F_FROM_I: of signed integers, exact up to 2^24.
 * I_SRA: with the sign. I_MUL: the low 32 bits. */
#define WEFT_I_XOR(a, b) ((a) ^ (b))
#define WEFT_I_MUL(a, b) ((a) * (b))
#define WEFT_I_SRA(a, n) ((a) >> (n) | (0u - ((a) >> 31)) << (32 - (n)))
#define WEFT_I_LOAD8(p) (((uint32_t)*(p) ^ 0x80u) - 0x80u)
#define WEFT_I_STORE8(p, v) (void)(*(p) = (uint8_t)((v) & 0xFFu))
#define WEFT_I_FROM_F(v) ((uint32_t)(int32_t)(v))
#define WEFT_F_FROM_I(v) ((float)(int32_t)(v))
#define WEFT_I_MAX(a, b) ((a) > (b) ? (a) : (b))
#define WEFT_I_MASK(mask) ((mask) ? 1u : 0u)
/*==== END WITH ====*/

#define WEFT_ELEMENT 32
#include "body.h"
#define WEFT_ELEMENT 64
#include "body.h"

WEFT_FAMILY_TABLES(serial, WEFT_ISA_SERIAL, NULL)
#undef WEFT_SET_NAME
