/* SPDX-License-Identifier: MIT
 * The tests of the kernels once more, in a unit that is optimised hard and allowed to fuse a * b + c, as user code
 * built with -O3 -march=native in a gnu mode is: the header must switch contraction off for itself. */
#if defined __x86_64__ && defined __GNUC__
#define FMA_HERE 1
#if defined __clang__
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#pragma STDC FP_CONTRACT ON
#else
#pragma GCC push_options
#pragma GCC optimize("O3", "fp-contract=fast")
#pragma GCC target("avx2,fma")
#endif

/* control: this one is fused */
static double fused_outside(double a, double b, double c) { return a * b + c; }
#define FUSES_OUTSIDE fused_outside
#endif

#define main kernels_main
#include "test_kernels.c"
#undef main

#ifdef FMA_HERE
#if defined __clang__
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#endif

int kernels_main(void);

int main(void) {
#ifdef FMA_HERE
    if (!__builtin_cpu_supports("fma") || !__builtin_cpu_supports("avx2")) {
        printf("no FMA here: nothing to test\n");
        return 0;
    }
#endif
    return kernels_main();
}
