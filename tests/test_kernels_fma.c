/* SPDX-License-Identifier: MIT
 * The tests of the kernels once more, in a unit that is optimised hard and allowed to fuse a * b + c, as user code
 * built with -O3 -march=native in a gnu mode is: the header must switch contraction off for itself. */
#if defined __x86_64__ && defined __GNUC__
#define FMA_OPTIONAL 1
#endif
#if defined __aarch64__ || defined __s390x__ || defined __powerpc__ || defined __riscv || defined __ARM_FEATURE_FMA
#define FMA_ALWAYS 1
#endif
#if defined __GNUC__ && (defined FMA_OPTIONAL || defined FMA_ALWAYS)
#if defined __clang__
#ifdef FMA_OPTIONAL
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#endif
#pragma STDC FP_CONTRACT ON
#else
#pragma GCC push_options
#pragma GCC optimize("O3", "fp-contract=fast")
#ifdef FMA_OPTIONAL
#pragma GCC target("avx2,fma")
#endif
#define FMA_PUSHED 1
#endif

/* control: this one is fused */
static double fused_outside(double a, double b, double c) { return a * b + c; }
#define FUSES_OUTSIDE fused_outside
#endif

#define main kernels_main
#include "test_kernels.c"
#undef main

#ifdef FMA_PUSHED
#pragma GCC pop_options
#elif defined FMA_OPTIONAL
#pragma clang attribute pop
#endif

int kernels_main(void);

int main(void) {
#ifdef FMA_OPTIONAL
    if (!__builtin_cpu_supports("fma") || !__builtin_cpu_supports("avx2")) {
        printf("no FMA here: nothing to test\n");
        return 0;
    }
#endif
    return kernels_main();
}
