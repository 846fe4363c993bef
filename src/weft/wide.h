/* SPDX-License-Identifier: MIT
 * wide.h: kernels for sums over several workers in f64, and for products of their vectors. */
#include "base.h"
#include "kernels.h"
/*==== API ====*/
/*==== IMPLEMENTATION ====*/

/* Sums over several workers, in f64 before anything is rounded; for sums of gradients in their own subspace. */
typedef struct weft_wide_set {
    /* s (out NULL) or out, then rounded once, = (started: s +) w[0] * x[0] + ..., left to right over 1 to 4 sources,
     * for n columns: all in f64 */
    void (*sum_wide)(size_t n, size_t k, const double *w, const void *const *x, double *s, int started, void *out,
                     int stream);
    /* lanes[0..15] += x * s, [16..31] += x * x */
    void (*dots_wide)(size_t n, const void *x, const double *s, double *lanes);
    /* all products of four with each other: lanes[16 p ..] += x[i] * x[j], p counting the pairs i <= j, j fastest */
    void (*gram_block)(size_t n, const void *const *x, double *lanes);
    /* as in the gradients' set */
    void (*dots_block)(size_t n, const void *x, const void *y, double *lanes);
} weft_wide_set;

typedef struct weft_wide_kernels {
    const weft_kernels *core; /* of the same instruction set */
    weft_wide_set f32, f64;
} weft_wide_kernels;

#define WEFT_WIDE_SET(e)                                                                                               \
    {                                                                                                                  \
        WEFT_SET_NAME(e, sum_wide), WEFT_SET_NAME(e, dots_wide), WEFT_SET_NAME(e, gram_block),                         \
            WEFT_SET_NAME(e, dots_block)                                                                               \
    }
#define WEFT_WIDE_TABLES(set, isa, fence)                                                                              \
    static WEFT_UNUSED const weft_wide_kernels weft_wide_kernels_##set[2] = {                                          \
        {&weft_kernels_##set[0], WEFT_WIDE_SET(f32), WEFT_WIDE_SET(f64)},                                              \
        {&weft_kernels_##set[1], WEFT_WIDE_SET(f32), WEFT_WIDE_SET(f64)}};

#define WEFT_FAMILY WEFT_WIDE_FAMILY
#define WEFT_FAMILY_TABLES WEFT_WIDE_TABLES
#include "kernels/sets.h"

/* As weft_kernels_select. */
WEFT_FN const weft_wide_kernels *weft_wide_kernels_select(weft_isa isa, size_t bytes) {
    const weft_kernels *core = weft_kernels_select(isa, bytes);
    if (!core) return NULL;
    WEFT_SELECT(weft_wide_kernels, core->isa, core->stream)
}

#ifdef WEFT_CUDA
#define WEFT_DEVICE_WIDE
#include "kernels/cuda_wide.h"
#undef WEFT_DEVICE_WIDE
#endif
