/* SPDX-License-Identifier: MIT
 * kernels.h: the arithmetic contract, the kernel table, and the drivers that run kernels over tensors and threads. */
#include "base.h"
#include "tensor.h"
#include "pool.h"
/*==== API ====*/

/* ---- The arithmetic contract ----
 *
 * Results are bit-identical for any instruction set, thread count, chunk size and arrival order:
 * - Element-wise kernels: f32 tensors in f32, f64 tensors in f64, evaluated exactly as the formula beside each
 *   kernel is written, left to right, no contraction into FMA, round to nearest even. Scalars are rounded once to
 *   the element type.
 * - 16-bit types are storage: widened to f32 (exact), computed there, rounded once.
 * - Reductions: products and sums in f64 (f32 products are exact in f64). WEFT_BLOCK elements make a block, blocks
 *   restart at each tensor; inside a block element i goes to lane i % 16, each lane adds in index order from +0.0,
 *   tails are padded with zeros; the 16 lanes are combined in a pairwise tree (l[i] + l[i + 8], then + 4, + 2, + 1);
 *   block sums are added in index order from +0.0, whoever computed them.
 * - NaN payloads are excepted. */
#define WEFT_BLOCK ((size_t)4096)

/* Which instruction set to use. WEFT_ISA_AUTO takes the best that compiler and machine have, found at run time: no
 * compiler flags are needed. One that is not there is refused with WEFT_ERR_UNSUPPORTED. The results are the same. */
typedef enum weft_isa {
    WEFT_ISA_AUTO = 0,
    WEFT_ISA_SERIAL = 1, /* plain C; all there is with WEFT_NO_SIMD */
    WEFT_ISA_SSE2 = 2,   /* x86-64 */
    WEFT_ISA_AVX2 = 3,   /* with FMA */
    WEFT_ISA_AVX512 = 4, /* F, DQ and VL */
    WEFT_ISA_NEON = 5,   /* aarch64, little-endian */
    WEFT_ISA_WASM = 6    /* simd128, where the module is compiled with it */
} weft_isa;

#define WEFT_ISA_COUNT 7

/* "serial", "avx2", ...; "auto" for WEFT_ISA_AUTO, NULL for what is none. */
WEFT_INLINE const char *weft_isa_name(weft_isa isa) {
    switch (isa) {
    case WEFT_ISA_AUTO: return "auto";
    case WEFT_ISA_SERIAL: return "serial";
    case WEFT_ISA_SSE2: return "sse2";
    case WEFT_ISA_AVX2: return "avx2";
    case WEFT_ISA_AVX512: return "avx512";
    case WEFT_ISA_NEON: return "neon";
    case WEFT_ISA_WASM: return "wasm";
    }
    return NULL;
}
/*==== IMPLEMENTATION ====*/

/* Sums that a pass over two vectors yields: x.y, x.x, y.y. */
typedef struct weft_dots {
    double xy, xx, yy;
} weft_dots;

/* Options of one SGD step; all scalars are rounded to the element type before use. `momentum` 0: plain SGD. */
typedef struct weft_sgd {
    double learning_rate, momentum, weight_decay;
    int nesterov;
    int first; /* the velocity holds nothing yet: v = d, as torch.optim.SGD starts */
} weft_sgd;

/* What an SGD step sees of the gradient on its way. */
typedef struct weft_grad_stats {
    double squared_norm; /* of the gradient without weight decay */
    uint64_t nonfinite;  /* elements that are NaN or infinite */
} weft_grad_stats;

/* The kernels of one element type. Vectors of n elements; n may be 0; no alignment beyond the element's. Outputs
 * may be the same array as an input of the same role (in place), but must not overlap partially.
 * `stream`: what is only written may bypass the cache, since it will be gone from there before it is read.
 * Block kernels take a block (n <= WEFT_BLOCK), or in order the pieces of one, each but the last a multiple of 16
 * long. They add to the 16 lanes of each sum, which are zero when the block begins; weft_lanes_sum makes them the
 * block's sum. */
typedef struct weft_kernel_set {
    /* y = x */
    void (*copy)(size_t n, const void *x, void *y, int stream);
    /* y = a * x */
    void (*scale)(size_t n, double a, const void *x, void *y, int stream);
    /* y = y + a * x */
    void (*axpy)(size_t n, double a, const void *x, void *y);
    /* x = (1 - l) * x + l * c, with 1 - l computed in f64 and rounded once; each product rounded, then the sum */
    void (*pull)(size_t n, double l, const void *c, void *x);
    /* out = w[0] * x[0] + w[1] * x[1] + ..., left to right over the k sources, for the n elements of all arrays that
     * begin with element `first`. A source whose weight, rounded to the element type, is 0 is not read; with no
     * source left the result is +0. Returns how many elements of the result are not finite. out may be one of the
     * sources. */
    uint64_t (*weighted_sum)(size_t first, size_t n, size_t k, const double *w, const void *const *x, void *out,
                             int stream);
    /* lanes[0..15] += x * x. An f64 element beyond 1e154 overflows its square: the sum is then infinite. */
    void (*sqnorm_block)(size_t n, const void *x, double *lanes);
    /* elements that are NaN or infinite */
    uint64_t (*count_nonfinite)(size_t n, const void *x);
    /* The sum modulo 2^64 of mix(bits(x[i]), first + i): the same for any split into calls, any thread count, any
     * order. */
    uint64_t (*hash)(size_t n, uint64_t first, const void *x);
} weft_kernel_set;

/* Those that some algorithms use, in a table of its own, so that the others do not carry them. */
typedef struct weft_gradient_set {
    /* lanes[0..15] += x * y */
    void (*dot_block)(size_t n, const void *x, const void *y, double *lanes);
    /* lanes[0..15] += x * y, [16..31] += x * x, [32..47] += y * y; each equal to the single kernels bit for bit */
    void (*dots_block)(size_t n, const void *x, const void *y, double *lanes);
    /* SGD: d = g + weight_decay * x (weight_decay 0: d = g); v = momentum * v + d (first: v = d, v is not read);
     * nesterov: x = x - lr * (d + momentum * v), else x = x - lr * v; momentum 0: x = x - lr * d and v may be NULL.
     * lanes[0..15] += g * g; returns the number of elements of g that are not finite. g, v and x are three arrays. */
    uint64_t (*sgd_block)(size_t n, const weft_sgd *o, const void *g, void *v, void *x, double *lanes);
    /* SAM: backup = x; x = x + a * g (a = rho / (norm + eps), from the caller) */
    void (*sam_perturb)(size_t n, double a, const void *g, void *x, void *backup, int stream);
} weft_gradient_set;

/* All kernels of one instruction set. `f32` and `f64` compute; the 16-bit types have only conversions. */
typedef struct weft_kernels {
#ifdef WEFT_CUDA
    struct weft_gpu *gpu; /* computes with data of its own memory; NULL: this table with the host's */
#endif
    weft_isa isa;
    int stream;          /* for the kernels that ask */
    void (*fence)(void); /* after streaming, before another thread is told; NULL: not needed */
    weft_kernel_set f32, f64;
    void (*bf16_to_f32)(size_t n, const uint16_t *x, float *y);
    void (*f32_to_bf16)(size_t n, const float *x, uint16_t *y); /* nearest even; NaN stays NaN (quiet) */
    void (*f16_to_f32)(size_t n, const uint16_t *x, float *y);
    void (*f32_to_f16)(size_t n, const float *x, uint16_t *y); /* nearest even, subnormals kept, overflow to infinity */
} weft_kernels;

typedef struct weft_gradient_kernels {
    const weft_kernels *core; /* of the same instruction set */
    weft_gradient_set f32, f64;
} weft_gradient_kernels;

/* What the vocabulary of an instruction set and the kernels over it have in common. */
#define WEFT_LANES_OF_A_BLOCK 16
#define WEFT_GROUP 256 /* elements that a kernel keeps on the stack: a multiple of 16 */

/* Iterations of the loop that follows are independent, even if two of its pointers are equal. */
#if defined __GNUC__ && !defined __clang__ && __GNUC__ >= 5
#define WEFT_INDEPENDENT _Pragma("GCC ivdep")
#else
#define WEFT_INDEPENDENT
#endif

/* mix(bits, index) of the replica hash: splitmix64's finaliser over bits + (index + 1) * 2^64 / golden ratio. */
#define WEFT_HASH_KEY UINT64_C(0x9E3779B97F4A7C15)
#define WEFT_HASH_MUL1 UINT64_C(0xBF58476D1CE4E5B9)
#define WEFT_HASH_MUL2 UINT64_C(0x94D049BB133111EB)

WEFT_FN uint64_t weft_mix(uint64_t z) {
    z = (z ^ z >> 30) * WEFT_HASH_MUL1;
    z = (z ^ z >> 27) * WEFT_HASH_MUL2;
    return z ^ z >> 31;
}

WEFT_FN uint32_t weft_load_u32(const void *p) {
    uint32_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

WEFT_FN uint64_t weft_load_u64(const void *p) {
    uint64_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

WEFT_FN uint32_t weft_f32_bits(float v) {
    return weft_load_u32(&v);
}

WEFT_FN float weft_bits_f32(uint32_t bits) {
    float v;
    memcpy(&v, &bits, sizeof v);
    return v;
}

WEFT_FN double weft_bits_f64(uint64_t bits) {
    double v;
    memcpy(&v, &bits, sizeof v);
    return v;
}

WEFT_FN unsigned weft_f32_nonfinite(float v) {
    return (weft_f32_bits(v) & 0x7F800000u) == 0x7F800000u;
}

WEFT_FN unsigned weft_f64_nonfinite(double v) {
    return !weft_is_finite(v);
}

/* The tables of a set, by its WEFT_SET_NAME. */
#define WEFT_KERNEL_SET(e)                                                                                             \
    {                                                                                                                  \
        WEFT_SET_NAME(e, copy), WEFT_SET_NAME(e, scale), WEFT_SET_NAME(e, axpy), WEFT_SET_NAME(e, pull),               \
            WEFT_SET_NAME(e, weighted_sum), WEFT_SET_NAME(e, sqnorm_block), WEFT_SET_NAME(e, count_nonfinite),         \
            WEFT_SET_NAME(e, hash)                                                                                     \
    }
#define WEFT_KERNEL_SETS                                                                                               \
    WEFT_KERNEL_SET(f32), WEFT_KERNEL_SET(f64), WEFT_SET_NAME(f32, from_bf16), WEFT_SET_NAME(f32, to_bf16),            \
        WEFT_SET_NAME(f32, from_f16), WEFT_SET_NAME(f32, to_f16)
#define WEFT_GRADIENT_SET(e)                                                                                           \
    {                                                                                                                  \
        WEFT_SET_NAME(e, dot_block), WEFT_SET_NAME(e, dots_block), WEFT_SET_NAME(e, sgd_block),                        \
            WEFT_SET_NAME(e, sam_perturb)                                                                              \
    }
#define WEFT_GRADIENT_SETS WEFT_GRADIENT_SET(f32), WEFT_GRADIENT_SET(f64)
/* [0] keeps to the cache, [1] streams where the set can. */
#ifdef WEFT_CUDA
#define WEFT_SET_HEAD(isa, stream) NULL, isa, stream
#else
#define WEFT_SET_HEAD(isa, stream) isa, stream
#endif
#define WEFT_SET_TABLES(set, isa, fence)                                                                               \
    static WEFT_UNUSED const weft_kernels weft_kernels_##set[2] = {{WEFT_SET_HEAD(isa, 0), fence, WEFT_KERNEL_SETS},   \
                                                                   {WEFT_SET_HEAD(isa, 1), fence, WEFT_KERNEL_SETS}};  \
    static WEFT_UNUSED const weft_gradient_kernels weft_gradient_kernels_##set[2] = {                                  \
        {&weft_kernels_##set[0], WEFT_GRADIENT_SETS}, {&weft_kernels_##set[1], WEFT_GRADIENT_SETS}};

#ifdef WEFT_HAVE_X86
WEFT_FN void weft_x86_fence(void) {
    _mm_sfence();
}
#endif

/* Kernels come in families. Headers that are implemented in one unit may need different ones, so each is made where the
 * file that needs it stands: here what all headers have, elsewhere what codec.h, wide.h and replica.h need. */
#define WEFT_CORE_FAMILY 1
#define WEFT_CODEC_FAMILY 2
#define WEFT_WIDE_FAMILY 3
#define WEFT_REPLICA_FAMILY 4

#define WEFT_FAMILY WEFT_CORE_FAMILY
#define WEFT_FAMILY_TABLES WEFT_SET_TABLES
#include "kernels/sets.h"
#include "kernels/dispatch.h"
#include "kernels/drivers.h"
#ifdef WEFT_CUDA
#define WEFT_DEVICE_PART
#include "kernels/cuda.h"
#undef WEFT_DEVICE_PART
#endif
