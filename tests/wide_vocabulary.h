/* SPDX-License-Identifier: MIT
 * The vocabulary of wide_set.h, which body.h takes back: included once for each family of kernels. */
#define WEFT_SET_NAME(element, kernel) weft_wide_##element##_##kernel
#define WEFT_KERNEL WEFT_FN
#define WEFT_F wide_f
#define WEFT_F_LANES WIDE
#define WEFT_F_SET wide_f_set
#define WEFT_F_LOAD wide_f_load
#define WEFT_F_STORE wide_f_store
#define WEFT_F_ADD wide_f_add
#define WEFT_F_SUB wide_f_sub
#define WEFT_F_MUL wide_f_mul
#define WEFT_F_DIV wide_f_div
#define WEFT_F_NONFINITE wide_f_nonfinite
#define WEFT_F_TO_I wide_f_to_i
#define WEFT_D wide_d
#define WEFT_D_LANES WIDE_HALF
#define WEFT_D_SET wide_d_set
#define WEFT_D_LOAD wide_d_load
#define WEFT_D_LOAD32 wide_d_load32
#define WEFT_D_STORE wide_d_store
#define WEFT_D_STORE32 wide_d_store32
#define WEFT_D_ADD wide_d_add
#define WEFT_D_SUB wide_d_sub
#define WEFT_D_MUL wide_d_mul
#define WEFT_D_DIV wide_d_div
#define WEFT_D_MADD(sum, a, b) wide_d_add(sum, wide_d_mul(a, b))
#define WEFT_D_NONFINITE wide_d_nonfinite
#define WEFT_U wide_u
#define WEFT_U_SET wide_u_set
#define WEFT_U_LOAD64 wide_u_load64
#define WEFT_U_LOAD32 wide_u_load32
#define WEFT_U_STORE64 wide_u_store
#define WEFT_U_ADD wide_u_add
#define WEFT_U_XOR wide_u_xor
#define WEFT_U_SHR wide_u_shr
#define WEFT_U_MUL wide_u_mul
#define WEFT_I wide_i
#define WEFT_I_SET wide_i_set
#define WEFT_I_LOAD16 wide_i_load16
#define WEFT_I_STORE16 wide_i_store16
#define WEFT_I_ADD wide_i_add
#define WEFT_I_AND wide_i_and
#define WEFT_I_OR wide_i_or
#define WEFT_I_SHL wide_i_shl
#define WEFT_I_SHR wide_i_shr
#define WEFT_I_GREATER wide_i_greater
#define WEFT_I_SELECT wide_i_select
#define WEFT_I_TO_F wide_i_to_f
#define WEFT_I_XOR wide_i_xor
#define WEFT_I_MUL wide_i_mul
#define WEFT_I_SRA wide_i_sra
#define WEFT_I_LOAD8 wide_i_load8
#define WEFT_I_STORE8 wide_i_store8
#define WEFT_I_FROM_F wide_i_from_f
#define WEFT_F_FROM_I wide_f_from_i
#define WEFT_I_MAX wide_i_max
#define WEFT_I_MASK wide_i_mask

#define WEFT_ELEMENT 32
#include "../src/weft/kernels/body.h"
#define WEFT_ELEMENT 64
#include "../src/weft/kernels/body.h"
