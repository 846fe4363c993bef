#include "kernels/machine.h"

/* Contraction of a * b + c into one rounding would make results depend on the compiler and its flags. gcc ignores the
 * standard's pragma and fuses in its gnu modes, hence the option; clang and MSVC have pragmas of their own. */
#if defined __clang__
#pragma STDC FP_CONTRACT OFF
#pragma clang fp contract(off)
#elif defined __GNUC__
#ifdef __NVCC__ /* which hands the option on, but warns; nor does it see that (void) is meant */
#pragma nv_diag_suppress 1675, 550
#endif
#pragma GCC push_options
#pragma GCC optimize("fp-contract=off")
#elif defined _MSC_VER
#pragma float_control(precise, on, push)
#pragma fp_contract(off)
#endif
