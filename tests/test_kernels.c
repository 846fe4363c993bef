/* SPDX-License-Identifier: MIT
 * Kernels and drivers against the written contract: each is compared bit by bit with a plain reference in this file
 * that rounds every operation on its own, at all small sizes, unaligned, in place, and by pools of any size. */
#define SUBSPACE_IMPLEMENTATION
#include "../subspace.h"
#include "pool/weft_pthread_pool.h"

#include <check.h>
#include <fenv.h>
#include <stdio.h>
#include <stdlib.h>
#if (defined __x86_64__ || (defined __i386__ && defined __SSE2__)) && defined __GNUC__
#include <xmmintrin.h>
#define CAN_FLUSH 1
#endif

/* A set that is none of the header's: see test_kernels_wide.c. */
#ifdef EXTRA_SET
#include EXTRA_SET
#endif

/* the tables under test: those of every set that this machine has, one after the other */
static const weft_kernels *K;
static const weft_gradient_kernels *G;
static const weft_wide_kernels *W;

/* ---- seeded numbers: WEFT_SEED replays a failure ---- */
static uint64_t seed = 20240607, state = 20240607;

/* First thing in a test; those that do not care start from the seed itself. */
static void reseed(uint64_t salt) {
    const char *s = getenv("WEFT_SEED");
    if (s) seed = strtoull(s, NULL, 0);
    state = seed + (salt << 32);
}

static uint64_t draw(void) {
    uint64_t z = state += UINT64_C(0x9E3779B97F4A7C15);
    z = (z ^ z >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ z >> 27) * UINT64_C(0x94D049BB133111EB);
    return z ^ z >> 31;
}

static size_t below(size_t n) { return (size_t)(draw() % n); }

/* ---- elements of either type, seen as doubles; every operation rounds once to the element type ---- */
static float f32_of(uint32_t bits) {
    float v;
    memcpy(&v, &bits, 4);
    return v;
}
static double f64_of(uint64_t bits) {
    double v;
    memcpy(&v, &bits, 8);
    return v;
}
static uint32_t bits32(float v) {
    uint32_t b;
    memcpy(&b, &v, 4);
    return b;
}
static uint64_t bits64(double v) {
    uint64_t b;
    memcpy(&b, &v, 8);
    return b;
}
static int is_nan(double v) { return (bits64(v) & INT64_MAX) > UINT64_C(0x7FF0000000000000); }
static int is_bad(double v) { return (bits64(v) & INT64_MAX) >= UINT64_C(0x7FF0000000000000); }
static int same(double a, double b) { return (is_nan(a) && is_nan(b)) || bits64(a) == bits64(b); }

static double rnd(int wide, double v) {
    volatile float f;
    if (wide) return v;
    f = (float)v;
    return (double)f;
}
/* the sum or product of two floats in double, then rounded to float, is their correctly rounded sum or product */
static double add(int wide, double a, double b) {
    volatile double r = a + b;
    return rnd(wide, r);
}
static double sub(int wide, double a, double b) {
    volatile double r = a - b;
    return rnd(wide, r);
}
static double mul(int wide, double a, double b) {
    volatile double r = a * b;
    return rnd(wide, r);
}

/* ---- arrays: aligned to their element only, between guards; half of them end where their memory ends ---- */
#define GUARD 32

typedef struct array {
    unsigned char *base;
    size_t n, front, back;
    int wide;
    void *p;
} array;

static double get(const array *a, size_t i) {
    return a->wide ? ((const double *)a->p)[i] : (double)((const float *)a->p)[i];
}
static void put(const array *a, size_t i, double v) {
    if (a->wide) ((double *)a->p)[i] = v;
    else ((float *)a->p)[i] = (float)v;
}

static array array_make(int wide, size_t n) {
    const size_t each = wide ? 8 : 4;
    array a;
    a.n = n;
    a.wide = wide;
    a.front = GUARD + each * below(16);
    a.back = below(2) ? GUARD : 0;
    a.base = (unsigned char *)malloc(a.front + n * each + a.back);
    if (!a.base) abort();
    memset(a.base, 0xA5, a.front + n * each + a.back);
    a.p = a.base + a.front;
    return a;
}

static void array_free(array *a) {
    const size_t end = a->front + a->n * (a->wide ? 8u : 4u);
    size_t i;
    int whole = 1; /* Check is slow: one call for many comparisons, here and below */
    for (i = 0; i < a->front; i++) whole &= a->base[i] == 0xA5;
    for (i = 0; i < a->back; i++) whole &= a->base[end + i] == 0xA5;
    ck_assert_msg(whole, "written outside of an array of %zu", a->n);
    free(a->base);
}

enum { UNIFORM, ANY_EXPONENT, CORNERS, WITH_BAD, KINDS };

static double value(int wide, int kind) {
    static const uint32_t corner32[] = {0, 0x80000000u, 1, 0x80000001u, 0x007FFFFFu, 0x00800000u, 0x7F7FFFFFu,
                                        0xFF7FFFFFu, 0x3F800000u, 0xBF800000u, 0x3F800001u, 0x33800000u};
    static const uint64_t corner64[] = {0, UINT64_C(1) << 63, 1, UINT64_C(0x8000000000000001),
                                        UINT64_C(0x000FFFFFFFFFFFFF),
                                        UINT64_C(0x0010000000000000), UINT64_C(0x7FEFFFFFFFFFFFFF),
                                        UINT64_C(0xFFEFFFFFFFFFFFFF), UINT64_C(0x3FF0000000000000),
                                        UINT64_C(0xBFF0000000000000), UINT64_C(0x3FF0000000000001),
                                        UINT64_C(0x3CA0000000000000)};
    double v;
    switch (kind) {
    case UNIFORM: return rnd(wide, (double)(int64_t)draw() / 9223372036854775808.0);
    case CORNERS: return wide ? f64_of(corner64[below(12)]) : (double)f32_of(corner32[below(12)]);
    case WITH_BAD:
        if (below(20) == 0) {
            static const uint32_t bad[] = {0x7F800000u, 0xFF800000u, 0x7FC00000u, 0xFFC00001u, 0x7FFFFFFFu};
            return (double)f32_of(bad[below(5)]);
        }
        break;
    default: break;
    }
    do v = wide ? f64_of(draw()) : (double)f32_of((uint32_t)draw());
    while (is_bad(v));
    return v;
}

static array array_draw(int wide, size_t n, int kind) {
    array a = array_make(wide, n);
    size_t i;
    for (i = 0; i < n; i++) put(&a, i, value(wide, kind));
    return a;
}

static double *doubles_of(const array *a) {
    double *v = (double *)malloc((a->n + 1) * sizeof *v);
    size_t i;
    for (i = 0; i < a->n; i++) v[i] = get(a, i);
    return v;
}

static void check_same(const char *what, int wide, size_t n, size_t i, double got, double want) {
    if (!same(got, want))
        ck_abort_msg("%s f%d n=%zu element %zu: got %a, want %a (WEFT_SEED=%llu)", what, wide ? 64 : 32, n, i, got,
                     want, (unsigned long long)seed);
}

static void check_array(const char *what, const array *a, const double *want) {
    size_t i;
    for (i = 0; i < a->n; i++) check_same(what, a->wide, a->n, i, get(a, i), want[i]);
}

static const weft_kernel_set *set_of(int wide) { return wide ? &K->f64 : &K->f32; }
static const weft_gradient_set *gradient_set_of(int wide) { return wide ? &G->f64 : &G->f32; }
static const weft_wide_set *wide_set_of(int wide) { return wide ? &W->f64 : &W->f32; }

/* all sizes to 300, and around the block, with every kind of value; `wide` comes from the loop test's index */
static size_t size_at(size_t i) {
    static const size_t large[] = {511, 512, 513, 1000, 4095, 4096, 4097};
    return i <= 300 ? i : large[i - 301];
}
#define SIZES 308

/* ---- element-wise kernels ---- */
static const double scalars[] = {0.0, -0.0, 1.0, -1.0, 0.1, -0.3333333333333333, 1e-3, 1e30, 1.0000000001, 3e-42};

static double scalar(void) { return scalars[below(sizeof scalars / sizeof scalars[0])]; }

START_TEST(copies) {
    const int wide = _i;
    size_t i;
    reseed(1);
    for (i = 0; i < SIZES; i++) {
        const size_t n = size_at(i);
        array x = array_draw(wide, n, WITH_BAD), y = array_draw(wide, n, UNIFORM);
        set_of(wide)->copy(n, x.p, y.p, K->stream);
        ck_assert(memcmp(x.p, y.p, n * (wide ? 8u : 4u)) == 0);
        set_of(wide)->copy(n, x.p, x.p, K->stream);
        ck_assert(memcmp(x.p, y.p, n * (wide ? 8u : 4u)) == 0);
        array_free(&x);
        array_free(&y);
    }
}
END_TEST

START_TEST(scale_is_one_product) {
    const int wide = _i;
    size_t i, j;
    int kind;
    reseed(2);
    for (i = 0; i < SIZES; i++)
        for (kind = 0; kind < KINDS; kind++) {
            const size_t n = size_at(i);
            const double a = scalar();
            array x = array_draw(wide, n, kind), y = array_draw(wide, n, kind);
            double *want = doubles_of(&x);
            for (j = 0; j < n; j++) want[j] = mul(wide, rnd(wide, a), want[j]);
            set_of(wide)->scale(n, a, x.p, y.p, K->stream);
            check_array("scale", &y, want);
            set_of(wide)->scale(n, a, x.p, x.p, K->stream);
            check_array("scale in place", &x, want);
            free(want);
            array_free(&x);
            array_free(&y);
        }
}
END_TEST

START_TEST(axpy_rounds_twice) {
    const int wide = _i;
    size_t i, j;
    int kind;
    reseed(3);
    for (i = 0; i < SIZES; i++)
        for (kind = 0; kind < KINDS; kind++) {
            const size_t n = size_at(i);
            const double a = scalar();
            array x = array_draw(wide, n, kind), y = array_draw(wide, n, kind);
            double *want = doubles_of(&y), *self = doubles_of(&x);
            for (j = 0; j < n; j++) {
                want[j] = add(wide, want[j], mul(wide, rnd(wide, a), self[j]));
                self[j] = add(wide, self[j], mul(wide, rnd(wide, a), self[j]));
            }
            set_of(wide)->axpy(n, a, x.p, y.p);
            check_array("axpy", &y, want);
            set_of(wide)->axpy(n, a, x.p, x.p);
            check_array("axpy to itself", &x, self);
            free(want);
            free(self);
            array_free(&x);
            array_free(&y);
        }
}
END_TEST

START_TEST(pull_is_two_products_and_a_sum) {
    static const double ls[] = {0.0, 1.0, 0.5, 0.1, 0.3, 1e-9, 0.99999999, 0.7};
    const int wide = _i;
    size_t i, j;
    int kind;
    reseed(4);
    for (i = 0; i < SIZES; i++)
        for (kind = 0; kind < KINDS; kind++) {
            const size_t n = size_at(i);
            const double l = ls[below(8)];
            volatile double keep = 1.0 - l;
            array c = array_draw(wide, n, kind), x = array_draw(wide, n, kind);
            double *want = doubles_of(&x), *self = doubles_of(&c);
            for (j = 0; j < n; j++) {
                want[j] = add(wide, mul(wide, rnd(wide, keep), want[j]), mul(wide, rnd(wide, l), self[j]));
                self[j] = add(wide, mul(wide, rnd(wide, keep), self[j]), mul(wide, rnd(wide, l), self[j]));
            }
            set_of(wide)->pull(n, l, c.p, x.p);
            check_array("pull", &x, want);
            set_of(wide)->pull(n, l, c.p, c.p);
            check_array("pull to itself", &c, self);
            free(want);
            free(self);
            array_free(&c);
            array_free(&x);
        }
}
END_TEST

START_TEST(perturb_keeps_a_backup) {
    const int wide = _i;
    size_t i, j;
    int kind;
    reseed(5);
    for (i = 0; i < SIZES; i++)
        for (kind = 0; kind < KINDS; kind++) {
            const size_t n = size_at(i);
            const double a = scalar();
            array g = array_draw(wide, n, kind), x = array_draw(wide, n, kind), b = array_make(wide, n);
            double *was = doubles_of(&x), *want = doubles_of(&g);
            for (j = 0; j < n; j++) want[j] = add(wide, was[j], mul(wide, rnd(wide, a), want[j]));
            gradient_set_of(wide)->sam_perturb(n, a, g.p, x.p, b.p, K->stream);
            check_array("perturb", &x, want);
            check_array("backup", &b, was);
            set_of(wide)->copy(n, b.p, x.p, K->stream);
            check_array("restore", &x, was);
            free(was);
            free(want);
            array_free(&g);
            array_free(&x);
            array_free(&b);
        }
}
END_TEST

/* the contract, element by element; returns how many results are bad */
static uint64_t ref_weighted(int wide, size_t n, size_t k, const double *w, const array *x, size_t first,
                             double *want) {
    uint64_t bad = 0;
    size_t i, s;
    for (i = 0; i < n; i++) {
        int started = 0;
        double v = 0.0;
        for (s = 0; s < k; s++) {
            const double a = rnd(wide, w[s]);
            double product;
            if (a == 0) continue;
            product = mul(wide, a, get(&x[s], first + i));
            v = started ? add(wide, v, product) : product;
            started = 1;
        }
        want[i] = v;
        bad += (uint64_t)is_bad(v);
    }
    return bad;
}

START_TEST(weighted_sum_goes_left_to_right) {
    static const double ws[] = {0.125, 0.3, -0.7, 1.0, 1e-3, 0.0, -0.0, 1e-60, 0.25, 2.0};
    static const size_t ks[] = {0, 1, 2, 3, 4, 6, 8, 17};
    const int wide = _i;
    size_t i, s;
    int kind;
    reseed(6);
    for (i = 0; i < SIZES; i++)
        for (kind = 0; kind < KINDS; kind++) {
            const size_t n = size_at(i), k = ks[below(8)], first = below(3) ? below(40) : 0;
            array x[17], out = array_draw(wide, first + n, kind);
            const void *source[17];
            double w[17], *want = (double *)malloc((n + 1) * sizeof *want);
            uint64_t bad, got;
            for (s = 0; s < k; s++) {
                x[s] = array_draw(wide, first + n, kind);
                source[s] = x[s].p;
                w[s] = ws[below(10)];
                if (rnd(wide, w[s]) == 0 && below(2)) { /* is not read: may be nonsense, or absent */
                    size_t e;
                    for (e = 0; e < first + n; e++) put(&x[s], e, f64_of(UINT64_C(0x7FF8000000000000)));
                    if (below(2)) source[s] = NULL;
                }
            }
            bad = ref_weighted(wide, n, k, w, x, first, want);
            got = set_of(wide)->weighted_sum(first, n, k, w, source, out.p, K->stream);
            ck_assert_uint_eq(got, bad);
            for (s = 0; s < n; s++) check_same("weighted_sum", wide, n, s, get(&out, first + s), want[s]);
            if (k) { /* into one of the sources */
                array *into = &x[below(k)];
                got = set_of(wide)->weighted_sum(first, n, k, w, source, into->p, K->stream);
                ck_assert_uint_eq(got, bad);
                for (s = 0; s < n; s++) check_same("weighted_sum in place", wide, n, s, get(into, first + s), want[s]);
            }
            for (s = 0; s < k; s++) array_free(&x[s]);
            array_free(&out);
            free(want);
        }
}
END_TEST

START_TEST(weight_zero_hides_nan) {
    const int wide = _i;
    const size_t n = 1000;
    array good = array_draw(wide, n, UNIFORM), nan = array_make(wide, n), out = array_make(wide, n);
    const void *source[3];
    double w[3] = {0.0, 0.5, 0.0}, *want;
    size_t i;
    for (i = 0; i < n; i++) put(&nan, i, f64_of(UINT64_C(0x7FF8000000000000)));
    source[0] = nan.p;
    source[1] = good.p;
    source[2] = NULL;
    want = doubles_of(&good);
    for (i = 0; i < n; i++) want[i] = mul(wide, 0.5, want[i]);
    ck_assert_uint_eq(set_of(wide)->weighted_sum(0, n, 3, w, source, out.p, K->stream), 0);
    check_array("weights 0, 1/2, 0", &out, want);
    w[1] = 0.0; /* nobody left: zeros, and positive ones */
    for (i = 0; i < n; i++) want[i] = 0.0;
    ck_assert_uint_eq(set_of(wide)->weighted_sum(0, n, 3, w, source, out.p, K->stream), 0);
    check_array("no weights", &out, want);
    w[0] = 1.0;
    ck_assert_uint_eq(set_of(wide)->weighted_sum(0, n, 3, w, source, out.p, K->stream), n);
    free(want);
    array_free(&good);
    array_free(&nan);
    array_free(&out);
}
END_TEST

/* What pads the last vector is multiplied as well, but is nobody's result. */
START_TEST(infinite_weight_counts_only_elements) {
    const int wide = _i;
    size_t n;
    for (n = 0; n < 70; n++) {
        array x = array_draw(wide, n, UNIFORM), out = array_make(wide, n);
        const void *source[2];
        double w[2] = {1.0, 0.0};
        w[1] = f64_of(UINT64_C(0x7FF0000000000000));
        source[0] = source[1] = x.p;
        ck_assert_uint_eq(set_of(wide)->weighted_sum(0, n, 2, w, source, out.p, K->stream), n);
        array_free(&x);
        array_free(&out);
    }
}
END_TEST

START_TEST(nonfinite_are_counted) {
    const int wide = _i;
    size_t i, j;
    int kind;
    reseed(8);
    for (i = 0; i < SIZES; i++)
        for (kind = 0; kind < KINDS; kind++) {
            const size_t n = size_at(i);
            array x = array_draw(wide, n, kind);
            uint64_t bad = 0;
            for (j = 0; j < n; j++) bad += (uint64_t)is_bad(get(&x, j));
            ck_assert_uint_eq(set_of(wide)->count_nonfinite(n, x.p), bad);
            array_free(&x);
        }
}
END_TEST

/* ---- reductions: the contract, naively ---- */
static double tree(const double *lane) {
    volatile double l[16];
    int i, half;
    for (i = 0; i < 16; i++) l[i] = lane[i];
    for (half = 8; half; half /= 2)
        for (i = 0; i < half; i++) l[i] = l[i] + l[i + half];
    return l[0];
}

static void ref_lanes(const array *x, const array *y, size_t first, size_t n, double *lane) {
    size_t i;
    for (i = 0; i < 16; i++) lane[i] = 0.0;
    for (i = 0; i < n; i++) {
        volatile double product = get(x, first + i) * get(y, first + i);
        volatile double sum = lane[i % 16] + product;
        lane[i % 16] = sum;
    }
}

static double ref_dot(const array *x, const array *y) {
    double lane[16];
    volatile double total = 0.0;
    size_t b;
    for (b = 0; b < x->n; b += 4096) {
        ref_lanes(x, y, b, x->n - b < 4096 ? x->n - b : 4096, lane);
        total = total + tree(lane);
    }
    return total;
}

/* from the block's start, in pieces whose lengths are multiples of 16 but for the last */
static size_t next_piece(size_t left) {
    const size_t m = 16 * (1 + below(20));
    return m < left ? m : left;
}

START_TEST(block_sums_follow_the_contract) {
    const int wide = _i;
    const size_t each = wide ? 8 : 4;
    size_t i, j, at, m;
    int kind;
    reseed(9);
    for (i = 0; i < SIZES - 1; i++)
        for (kind = 0; kind < KINDS; kind++) {
            const size_t n = size_at(i);
            array x = array_draw(wide, n, kind), y = array_draw(wide, n, kind);
            double want[3][16], got[48];
            ref_lanes(&x, &y, 0, n, want[0]);
            ref_lanes(&x, &x, 0, n, want[1]);
            ref_lanes(&y, &y, 0, n, want[2]);
            memset(got, 0, sizeof got);
            gradient_set_of(wide)->dot_block(n, x.p, y.p, got);
            for (j = 0; j < 16; j++) check_same("dot lane", wide, n, j, got[j], want[0][j]);
            memset(got, 0, sizeof got);
            set_of(wide)->sqnorm_block(n, x.p, got);
            for (j = 0; j < 16; j++) check_same("sqnorm lane", wide, n, j, got[j], want[1][j]);
            memset(got, 0, sizeof got);
            gradient_set_of(wide)->dots_block(n, x.p, y.p, got);
            for (j = 0; j < 48; j++) check_same("dots lane", wide, n, j, got[j], want[j / 16][j % 16]);
            memset(got, 0, sizeof got);
            for (at = 0; at < n; at += m) {
                m = next_piece(n - at);
                gradient_set_of(wide)->dot_block(m, (const char *)x.p + at * each, (const char *)y.p + at * each, got);
            }
            for (j = 0; j < 16; j++) check_same("dot lane in pieces", wide, n, j, got[j], want[0][j]);
            memset(got, 0, sizeof got);
            for (at = 0; at < n; at += m) {
                m = next_piece(n - at);
                gradient_set_of(wide)->dots_block(m, (const char *)x.p + at * each, (const char *)y.p + at * each, got);
            }
            for (j = 0; j < 48; j++) check_same("dots lane in pieces", wide, n, j, got[j], want[j / 16][j % 16]);
            memset(got, 0, sizeof got);
            for (at = 0; at < n; at += m) {
                m = next_piece(n - at);
                set_of(wide)->sqnorm_block(m, (const char *)x.p + at * each, got);
            }
            for (j = 0; j < 16; j++) check_same("sqnorm lane in pieces", wide, n, j, got[j], want[1][j]);
            check_same("tree", wide, n, 0, weft_lanes_sum(got), tree(want[1]));
            array_free(&x);
            array_free(&y);
        }
}
END_TEST

/* All products of four with each other, at once and in pieces. */
START_TEST(products_of_four_follow_the_contract) {
    const int wide = _i;
    const size_t each = wide ? 8 : 4;
    size_t i, j, at, m, u, v, p;
    int kind;
    reseed(16);
    for (i = 0; i < SIZES - 1; i++)
        for (kind = 0; kind < KINDS; kind++) {
            const size_t n = size_at(i);
            array x[4];
            const void *source[4];
            double want[16], got[160], parts[160];
            for (u = 0; u < 4; u++) x[u] = array_draw(wide, n, u == 3 ? 0 : kind);
            memset(got, 0, sizeof got);
            memset(parts, 0, sizeof parts);
            for (u = 0; u < 4; u++) source[u] = x[u].p;
            wide_set_of(wide)->gram_block(n, source, got);
            for (at = 0; at < n; at += m) {
                m = next_piece(n - at);
                for (u = 0; u < 4; u++) source[u] = (const char *)x[u].p + at * each;
                wide_set_of(wide)->gram_block(m, source, parts);
            }
            for (u = p = 0; u < 4; u++)
                for (v = u; v < 4; v++, p++) {
                    ref_lanes(&x[u], &x[v], 0, n, want);
                    for (j = 0; j < 16; j++) {
                        check_same("gram lane", wide, n, j, got[16 * p + j], want[j]);
                        check_same("gram lane in pieces", wide, n, j, parts[16 * p + j], want[j]);
                    }
                }
            for (u = 0; u < 4; u++) array_free(&x[u]);
        }
}
END_TEST

typedef void (*wide_sum)(size_t, size_t, const double *, const void *const *, double *, int, void *, int);

/* (s +) w[0] * x + w[1] * y + w[2] * x + w[3] * y, as far as k goes */
static double ref_wide(size_t k, const double *w, const array *x, const array *y, size_t i, int started, double s) {
    size_t q;
    for (q = 0; q < k; q++) {
        const double term = mul(1, w[q], get(q % 2 ? y : x, i));
        s = q || started ? add(1, s, term) : term;
    }
    return s;
}

/* Sums over workers: everything in f64, one rounding at the end. */
START_TEST(wide_sums_follow_the_contract) {
    const int wide = _i;
    size_t i, j;
    int kind;
    reseed(15);
    for (i = 0; i < SIZES; i++)
        for (kind = 0; kind < KINDS; kind++) {
            const size_t n = size_at(i);
            const double w[4] = {scalar(), scalar(), scalar(), scalar()};
            array x = array_draw(wide, n, kind), y = array_draw(wide, n, kind), s = array_make(1, n);
            array out = array_make(wide, n);
            const void *source[4];
            double got[32], want[32];
            size_t k;
            source[0] = source[2] = x.p;
            source[1] = source[3] = y.p;
            for (k = 1; k <= 4; k++) {
                const wide_sum sum = wide_set_of(wide)->sum_wide;
                sum(n, k, w, source, (double *)s.p, 0, NULL, 0);
                for (j = 0; j < n; j++) check_same("sum_wide", wide, n, j, get(&s, j), ref_wide(k, w, &x, &y, j, 0, 0));
                sum(n, k, w, source, NULL, 0, out.p, K->stream);
                for (j = 0; j < n; j++)
                    check_same("sum_wide, out", wide, n, j, get(&out, j), rnd(wide, ref_wide(k, w, &x, &y, j, 0, 0)));
                sum(n, 5 - k, w, source, (double *)s.p, 1, out.p, K->stream);
                sum(n, 5 - k, w, source, (double *)s.p, 1, NULL, 0);
                for (j = 0; j < n; j++) {
                    const double on = ref_wide(5 - k, w, &x, &y, j, 1, ref_wide(k, w, &x, &y, j, 0, 0));
                    check_same("sum_wide, on", wide, n, j, get(&s, j), on);
                    check_same("sum_wide, on, out", wide, n, j, get(&out, j), rnd(wide, on));
                }
            }
            memset(got, 0, sizeof got);
            memset(want, 0, sizeof want);
            for (j = 0; j < n; j++) {
                want[j % 16] = add(1, want[j % 16], mul(1, get(&x, j), get(&s, j)));
                want[16 + j % 16] = add(1, want[16 + j % 16], mul(1, get(&x, j), get(&x, j)));
            }
            for (; j % 16; j++) { /* what pads the end: 0 * 0 */
                want[j % 16] = add(1, want[j % 16], 0.0);
                want[16 + j % 16] = add(1, want[16 + j % 16], 0.0);
            }
            wide_set_of(wide)->dots_wide(n, x.p, (const double *)s.p, got);
            for (j = 0; j < 32; j++) check_same("dots_wide", wide, n, j, got[j], want[j]);
            array_free(&x);
            array_free(&y);
            array_free(&s);
            array_free(&out);
        }
}
END_TEST

START_TEST(tensor_sums_follow_the_contract) {
    static const size_t sizes[] = {0, 1, 15, 16, 17, 4095, 4096, 4097, 8192, 65535, 65537, 70001, 300000};
    const int wide = _i;
    const weft_dtype t = wide ? WEFT_F64 : WEFT_F32;
    size_t i;
    int kind;
    reseed(10);
    for (i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
        for (kind = 0; kind < CORNERS; kind++) {
            const size_t n = sizes[i];
            array x = array_draw(wide, n, kind), y = array_draw(wide, n, kind);
            const weft_dots d = weft_run_dots(G, NULL, t, n, x.p, y.p);
            check_same("dot", wide, n, 0, weft_run_dot(G, NULL, t, n, x.p, y.p), ref_dot(&x, &y));
            check_same("sqnorm", wide, n, 0, weft_run_sqnorm(K, NULL, t, n, x.p), ref_dot(&x, &x));
            check_same("dots.xy", wide, n, 0, d.xy, ref_dot(&x, &y));
            check_same("dots.xx", wide, n, 0, d.xx, ref_dot(&x, &x));
            check_same("dots.yy", wide, n, 0, d.yy, ref_dot(&y, &y));
            array_free(&x);
            array_free(&y);
        }
}
END_TEST

START_TEST(squared_norm_is_accurate) {
    const int wide = _i;
    const size_t n = 1000000;
    array x = array_make(wide, n);
    long double exact = 0, rest = 0; /* what the sum has lost in rounding: long double may be no wider than double */
    double got;
    size_t i;
    for (i = 0; i < n; i++) put(&x, i, value(wide, UNIFORM) * (i % 1000 ? 1e-3 : 1e3));
    for (i = 0; i < n; i++) {
        const volatile long double square = (long double)get(&x, i) * (long double)get(&x, i), sum = exact + square;
        rest += exact >= square ? exact - sum + square : square - sum + exact;
        exact = sum;
    }
    exact += rest;
    got = weft_run_sqnorm(K, NULL, wide ? WEFT_F64 : WEFT_F32, n, x.p);
    ck_assert_ldouble_le_tol((long double)got / exact - 1, 0, 1e-14L);
    ck_assert_ldouble_ge_tol((long double)got / exact - 1, 0, 1e-14L);
    array_free(&x);
}
END_TEST

/* Sums leave their inputs alone: even what would not come back the same from a rounding, signalling NaNs. */
START_TEST(sums_write_nothing) {
    static const weft_dtype type[2] = {WEFT_BF16, WEFT_F16};
    static const uint16_t bits[2] = {0x7F81u, 0x7C01u};
    uint16_t x[100], y[100];
    size_t i;
    int t;
    for (t = 0; t < 2; t++) {
        for (i = 0; i < 100; i++) x[i] = y[i] = bits[t];
        (void)weft_run_sqnorm(K, NULL, type[t], 100, x);
        (void)weft_run_dot(G, NULL, type[t], 100, x, y);
        (void)weft_run_dots(G, NULL, type[t], 100, x, y);
        ck_assert_uint_eq(weft_run_count_nonfinite(K, NULL, type[t], 100, x), 100);
        (void)weft_run_hash(K, NULL, type[t], 100, 0, x);
        for (i = 0; i < 100; i++) {
            ck_assert_uint_eq(x[i], bits[t]);
            ck_assert_uint_eq(y[i], bits[t]);
        }
    }
}
END_TEST

START_TEST(squares_of_f64_may_overflow) {
    double x[20];
    weft_sgd o;
    weft_grad_stats s;
    size_t i;
    memset(&o, 0, sizeof o);
    for (i = 0; i < 20; i++) x[i] = 1e200;
    ck_assert(is_bad(weft_run_sqnorm(K, NULL, WEFT_F64, 20, x)));
    ck_assert_uint_eq(weft_run_count_nonfinite(K, NULL, WEFT_F64, 20, x), 0);
    {
        double y[20] = {0};
        s = weft_run_sgd(G, NULL, WEFT_F64, 20, &o, x, NULL, y);
    }
    ck_assert(is_bad(s.squared_norm)); /* all gradients are finite, and counted so */
    ck_assert_uint_eq(s.nonfinite, 0);
}
END_TEST

/* ---- SGD, against the definition ---- */
static void ref_sgd(int wide, const weft_sgd *o, double g, double *v, double *x) {
    const double lr = rnd(wide, o->learning_rate), mu = rnd(wide, o->momentum), wd = rnd(wide, o->weight_decay);
    double d = g;
    if (wd != 0) d = add(wide, g, mul(wide, wd, *x));
    if (mu != 0) {
        *v = o->first ? d : add(wide, mul(wide, mu, *v), d);
        d = o->nesterov ? add(wide, d, mul(wide, mu, *v)) : *v;
    }
    *x = sub(wide, *x, mul(wide, lr, d));
}

static weft_sgd sgd_options(size_t variant) {
    weft_sgd o;
    o.learning_rate = 0.05;
    o.momentum = variant & 1 ? 0.9 : 0.0;
    o.weight_decay = variant & 2 ? 1e-4 : 0.0;
    o.nesterov = variant & 4 ? 1 : 0;
    o.first = variant & 8 ? 1 : 0;
    return o;
}

START_TEST(sgd_follows_the_definition) {
    const int wide = _i;
    const size_t each = wide ? 8 : 4;
    size_t i, j, at, m;
    int kind;
    reseed(12);
    for (i = 0; i < SIZES - 1; i++)
        for (kind = 0; kind < KINDS; kind++) {
            const size_t n = size_at(i);
            const weft_sgd o = sgd_options(i + (size_t)kind * 5);
            const int in_pieces = below(2) != 0;
            array g = array_draw(wide, n, kind), v = array_draw(wide, n, kind), x = array_draw(wide, n, kind);
            double *wg = doubles_of(&g), *wv = doubles_of(&v), *wx = doubles_of(&x), lanes[16], want[16];
            uint64_t bad = 0, got = 0;
            for (j = 0; j < n; j++) {
                ref_sgd(wide, &o, wg[j], &wv[j], &wx[j]);
                bad += (uint64_t)is_bad(wg[j]);
            }
            ref_lanes(&g, &g, 0, n, want);
            memset(lanes, 0, sizeof lanes);
            for (at = 0; at < n; at += m) {
                m = in_pieces ? next_piece(n - at) : n;
                got += gradient_set_of(wide)->sgd_block(m, &o, (const char *)g.p + at * each,
                                               o.momentum == 0 ? NULL : (void *)((char *)v.p + at * each),
                                               (char *)x.p + at * each, lanes);
            }
            check_array("sgd x", &x, wx);
            check_array("sgd v", &v, wv);
            check_array("sgd g", &g, wg);
            ck_assert_uint_eq(got, bad);
            for (j = 0; j < 16; j++) check_same("sgd norm lane", wide, n, j, lanes[j], want[j]);
            free(wg);
            free(wv);
            free(wx);
            array_free(&g);
            array_free(&v);
            array_free(&x);
        }
}
END_TEST

/* ---- the replica hash ---- */
static uint64_t ref_mix(uint64_t bits, uint64_t index) {
    uint64_t z = bits + (index + 1) * UINT64_C(0x9E3779B97F4A7C15);
    z ^= z >> 30;
    z *= UINT64_C(0xBF58476D1CE4E5B9);
    z ^= z >> 27;
    z *= UINT64_C(0x94D049BB133111EB);
    return z ^ z >> 31;
}

static uint64_t element_bits(const array *a, size_t i) {
    return a->wide ? bits64(((const double *)a->p)[i]) : bits32(((const float *)a->p)[i]);
}

START_TEST(hash_is_a_sum_over_elements) {
    const int wide = _i;
    const size_t each = wide ? 8 : 4;
    size_t i, j, at, m;
    reseed(13);
    /* splitmix64's first output */
    ck_assert_uint_eq(weft_mix(UINT64_C(0x9E3779B97F4A7C15)), UINT64_C(0xE220A8397B1DCDAF));
    for (i = 0; i < SIZES; i++) {
        const size_t n = size_at(i);
        const uint64_t first = below(2) ? draw() : below(100);
        array x = array_draw(wide, n, ANY_EXPONENT);
        uint64_t want = 0, got = 0;
        for (j = 0; j < n; j++) want += ref_mix(element_bits(&x, j), first + j);
        ck_assert_uint_eq(set_of(wide)->hash(n, first, x.p), want);
        for (at = n; at > 0; at -= m) { /* pieces of any length, from the end */
            m = 1 + below(at);
            got += set_of(wide)->hash(m, first + at - m, (const char *)x.p + (at - m) * each);
        }
        ck_assert_uint_eq(got, want);
        array_free(&x);
    }
}
END_TEST

START_TEST(hash_sees_every_bit) {
    const int wide = _i;
    const size_t n = 300, bits = wide ? 64 : 32;
    array x = array_draw(wide, n, UNIFORM);
    uint64_t h = set_of(wide)->hash(n, 0, x.p), changed = 0, flips = 0;
    size_t i, b, one;
    for (i = 0; i < n; i++)
        for (b = 0; b < bits; b++) {
            unsigned char *byte = (unsigned char *)x.p + i * bits / 8 + b / 8;
            uint64_t diff;
            *byte = (unsigned char)(*byte ^ 1u << b % 8);
            diff = h ^ set_of(wide)->hash(n, 0, x.p);
            *byte = (unsigned char)(*byte ^ 1u << b % 8);
            if (diff == 0) ck_abort_msg("bit %zu of element %zu does not change the hash", b, i);
            for (one = 0; one < 64; one++) changed += diff >> one & 1u;
            flips++;
        }
    ck_assert_double_eq_tol((double)changed / (double)flips, 32.0, 0.5); /* half of the bits, on average */
    { /* order, and the sign of zero */
        const double a = get(&x, 10), c = get(&x, 11);
        put(&x, 10, c);
        put(&x, 11, a);
        ck_assert_uint_ne(set_of(wide)->hash(n, 0, x.p), h);
        put(&x, 10, 0.0);
        h = set_of(wide)->hash(n, 0, x.p);
        put(&x, 10, -0.0);
        ck_assert_uint_ne(set_of(wide)->hash(n, 0, x.p), h);
    }
    array_free(&x);
}
END_TEST

/* ---- 16-bit types: reference conversions by arithmetic on doubles ---- */
typedef struct half_type {
    int fraction, least; /* bits of the fraction; exponent of the smallest normal number */
    weft_dtype dtype;
} half_type;
static const half_type halves[2] = {{7, -126, WEFT_BF16}, {10, -14, WEFT_F16}};

static uint16_t half_infinity(const half_type *h) { return (uint16_t)(0x7FFF >> h->fraction << h->fraction); }

static double ref_widen(const half_type *h, uint16_t code) {
    const int field = (code & 0x7FFF) >> h->fraction, m = code & ((1 << h->fraction) - 1);
    double v;
    if ((code & 0x7FFF) > half_infinity(h)) return f64_of(UINT64_C(0x7FF8000000000000));
    if ((code & 0x7FFF) == half_infinity(h)) v = f64_of(UINT64_C(0x7FF0000000000000));
    else if (field == 0) v = ldexp(m, h->least - h->fraction);
    else v = ldexp((1 << h->fraction) + m, field - 1 + h->least - h->fraction);
    return code & 0x8000 ? -v : v;
}

/* Nearest even; NaN gives the code of a quiet NaN. */
static uint16_t ref_narrow(const half_type *h, double v) {
    const uint16_t sign = (uint16_t)(bits64(v) >> 63 << 15);
    double q;
    int e;
    if (is_nan(v)) return (uint16_t)(half_infinity(h) | 1 << (h->fraction - 1));
    v = fabs(v);
    if (is_bad(v)) return (uint16_t)(sign | half_infinity(h));
    if (v == 0) return sign;
    frexp(v, &e); /* v in [2^(e-1), 2^e) */
    if (e - 1 < h->least) e = h->least + 1;
    q = nearbyint(ldexp(v, h->fraction - (e - 1))); /* in units of the last place: at most 2^(fraction + 1) */
    /* a carry into the next binade, and out of the subnormals, is what the code's addition does anyway */
    q += ldexp(e - 1 - h->least, h->fraction);
    return (uint16_t)(sign | (q >= half_infinity(h) ? half_infinity(h) : (int)q));
}

static void narrow_all(const half_type *h, size_t n, const float *x, uint16_t *y) {
    (h->dtype == WEFT_BF16 ? K->f32_to_bf16 : K->f32_to_f16)(n, x, y);
}
static void widen_all(const half_type *h, size_t n, const uint16_t *x, float *y) {
    (h->dtype == WEFT_BF16 ? K->bf16_to_f32 : K->f16_to_f32)(n, x, y);
}

static void check_code(const half_type *h, float from, uint16_t got) {
    const uint16_t want = ref_narrow(h, (double)from);
    const int quiet = (got & 0x7FFF) > half_infinity(h) && (got >> (h->fraction - 1) & 1);
    const int ok = is_nan((double)from) ? quiet : got == want;
    if (!ok)
        ck_abort_msg("%s of %a: got %04x, want %04x", h->dtype == WEFT_F16 ? "f16" : "bf16", (double)from, got, want);
}

START_TEST(every_16_bit_code) {
    const half_type *h = &halves[_i];
    uint16_t *code = (uint16_t *)malloc(65536 * 2), *back = (uint16_t *)malloc(65536 * 2);
    float *v = (float *)malloc(65536 * 4);
    size_t i;
    for (i = 0; i < 65536; i++) code[i] = (uint16_t)i;
    widen_all(h, 65536, code, v);
    narrow_all(h, 65536, v, back);
    for (i = 0; i < 65536; i++) {
        const double want = ref_widen(h, (uint16_t)i);
        if (!same((double)v[i], want)) ck_abort_msg("code %04zx: got %a, want %a", i, (double)v[i], want);
        if (is_nan(want) ? (back[i] & 0x7FFF) <= half_infinity(h) || ((back[i] ^ i) & 0x8000) : back[i] != i)
            ck_abort_msg("code %04zx comes back as %04x", i, back[i]);
    }
    free(code);
    free(back);
    free(v);
}
END_TEST

/* Each number half way between two neighbours, and just off it on both sides. */
START_TEST(rounding_half_way) {
    const half_type *h = &halves[_i];
    const size_t codes = half_infinity(h);
    size_t c;
    for (c = 0; c < codes; c++) {
        /* beyond the largest, where infinity begins, the next number would be 2^(exponent + 1) */
        const double low = ref_widen(h, (uint16_t)c);
        const double high = c + 1 < codes ? ref_widen(h, (uint16_t)(c + 1))
                                          : low + (low - ref_widen(h, (uint16_t)(c - 1)));
        const float mid = (float)(low + (high - low) / 2);
        float x[6];
        uint16_t y[6];
        size_t i;
        if (bits64((double)mid) != bits64(low + (high - low) / 2)) ck_abort_msg("%a is not exact", low);
        x[0] = mid;
        x[1] = f32_of(bits32(mid) - 1);
        x[2] = f32_of(bits32(mid) + 1);
        for (i = 0; i < 3; i++) x[3 + i] = -x[i];
        narrow_all(h, 6, x, y);
        if (y[0] != (c & 1 ? c + 1 : c) || y[1] != c || y[2] != c + 1)
            ck_abort_msg("after %04zx: half way %04x, below %04x, above %04x", c, y[0], y[1], y[2]);
        for (i = 0; i < 3; i++)
            if (y[3 + i] != (y[i] | 0x8000)) ck_abort_msg("%04x: the sign changes the magnitude", y[i]);
        for (i = 0; i < 6; i++) check_code(h, x[i], y[i]);
    }
}
END_TEST

START_TEST(narrowing_any_float) {
    const half_type *h = &halves[_i];
    static const uint32_t corners[] = {0, 0x80000000u, 1, 0x80000001u, 0x7F800000u, 0xFF800000u, 0x7F800001u,
                                       0xFF800001u,
                                       0x7FC00000u, 0x7FFFFFFFu, 0xFFFFFFFFu, 0x7F7FFFFFu, 0xFF7FFFFFu, 0x477FE000u,
                                       0x477FEFFFu, 0x477FF000u, 0x47800000u, 0x38800000u, 0x387FFFFFu, 0x33000000u,
                                       0x33000001u, 0x32FFFFFFu, 0x00008000u, 0x00008001u, 0x00018000u, 0x7F7F8000u};
    float x[301];
    uint16_t y[301];
    size_t i, n, round;
    reseed(15);
    for (i = 0; i < sizeof corners / sizeof corners[0]; i++) x[i] = f32_of(corners[i]);
    narrow_all(h, i, x, y);
    for (n = i, i = 0; i < n; i++) check_code(h, x[i], y[i]);
    for (round = 0; round < 3000; round++) {
        n = round % 300;
        for (i = 0; i < n; i++) x[i] = f32_of((uint32_t)draw());
        y[n] = 0xBEEF;
        narrow_all(h, n, x, y);
        ck_assert_uint_eq(y[n], 0xBEEF);
        for (i = 0; i < n; i++) check_code(h, x[i], y[i]);
    }
    for (round = 0; round < 1000; round++) /* around f16's range */
        for (i = 0; i < 300; i++) {
            x[i] = f32_of((uint32_t)((100 + below(50)) << 23) | ((uint32_t)draw() & 0x807FFFFFu));
            if (i == 299) {
                narrow_all(h, 300, x, y);
                for (n = 0; n < 300; n++) check_code(h, x[n], y[n]);
            }
        }
}
END_TEST

/* ---- drivers: the same bits for every dtype and any number of threads ---- */
#ifdef EMULATED /* too slow for more */
static const size_t team[] = {3};
#else
static const size_t team[] = {1, 2, 3, 7};
#endif
#define TEAMS (sizeof team / sizeof team[0])
static weft_pthread_pool pool[TEAMS];

static void pools_begin(void) {
    size_t i;
    for (i = 0; i < TEAMS; i++) ck_assert_int_eq(weft_pthread_pool_create(&pool[i], team[i]), WEFT_OK);
}
static void pools_end(void) {
    size_t i;
    for (i = 0; i < TEAMS; i++) weft_pthread_pool_destroy(&pool[i]);
}

/* n elements of dtype t from doubles, and back */
static void *encode(weft_dtype t, size_t n, const double *v) {
    const size_t each = weft_dtype_bytes(t);
    unsigned char *p = (unsigned char *)malloc(n * each + each);
    size_t i;
    for (i = 0; i < n; i++) {
        const float f = (float)v[i];
        const uint16_t c = t == WEFT_BF16 || t == WEFT_F16 ? ref_narrow(&halves[t == WEFT_F16], (double)f) : 0;
        const void *from = &c;
        if (t == WEFT_F64) from = &v[i];
        if (t == WEFT_F32) from = &f;
        memcpy(p + i * each, from, each);
    }
    memset(p + n * each, 0x5A, each); /* a guard */
    return p;
}

static double decode(weft_dtype t, const void *p, size_t i) {
    if (t == WEFT_F64) return ((const double *)p)[i];
    if (t == WEFT_F32) return (double)((const float *)p)[i];
    return ref_widen(&halves[t == WEFT_F16], ((const uint16_t *)p)[i]);
}

/* v as it is after being stored */
static double stored(weft_dtype t, double v) {
    if (t == WEFT_F64 || t == WEFT_F32) return v;
    return ref_widen(&halves[t == WEFT_F16], ref_narrow(&halves[t == WEFT_F16], v));
}

static void check_tensor(const char *what, weft_dtype t, size_t n, const void *p, const double *want) {
    const unsigned char *end = (const unsigned char *)p + n * weft_dtype_bytes(t);
    size_t i;
    for (i = 0; i < n; i++)
        if (!same(decode(t, p, i), want[i]))
            ck_abort_msg("%s dtype %d n=%zu element %zu: got %a, want %a (WEFT_SEED=%llu)", what, (int)t, n, i,
                         decode(t, p, i), want[i], (unsigned long long)seed);
    for (i = 0; i < weft_dtype_bytes(t); i++)
        if (end[i] != 0x5A) ck_abort_msg("%s dtype %d n=%zu: written beyond the end", what, (int)t, n);
}

#ifdef EMULATED
static const size_t run_sizes[] = {0, 1, 255, 256, 257, 4097, 70001};
#else
static const size_t run_sizes[] = {0, 1, 255, 256, 257, 4095, 4097, 65537, 70001, 300000};
#endif
#define RUN_SIZES (sizeof run_sizes / sizeof run_sizes[0])

static double *draw_doubles(weft_dtype t, size_t n, double scale, int with_bad) {
    double *v = (double *)malloc((n + 1) * sizeof *v);
    size_t i;
    for (i = 0; i < n; i++) {
        v[i] = stored(t, rnd(t == WEFT_F64, scale * value(1, UNIFORM)));
        if (with_bad && below(50) == 0)
            v[i] = f64_of(below(2) ? UINT64_C(0x7FF0000000000000) : UINT64_C(0x7FF8000000000000));
    }
    return v;
}

/* Runs `call` without a pool (pool index TEAMS) and with each, on fresh copies, and compares with the reference. */
#define FOR_POOLS(p) for (p = 0; p <= TEAMS; p++)
#define POOL(p) ((p) < TEAMS ? &pool[p].pool : NULL)

START_TEST(elementwise_drivers) {
    const weft_dtype t = (weft_dtype)_i;
    const int wide = t == WEFT_F64;
    size_t s, p, i;
    reseed(16);
    pools_begin();
    for (s = 0; s < RUN_SIZES; s++) {
        const size_t n = run_sizes[s], each = weft_dtype_bytes(t);
        double *x = draw_doubles(t, n, 2.0, 0), *y = draw_doubles(t, n, 3.0, 0);
        double *scaled = (double *)malloc((n + 1) * 8), *axpy = (double *)malloc((n + 1) * 8);
        double *pulled = (double *)malloc((n + 1) * 8);
        for (i = 0; i < n; i++) {
            scaled[i] = stored(t, mul(wide, rnd(wide, 0.3), x[i]));
            axpy[i] = stored(t, add(wide, y[i], mul(wide, rnd(wide, -0.1), x[i])));
            pulled[i] = stored(t, add(wide, mul(wide, rnd(wide, 1 - 0.3), y[i]), mul(wide, rnd(wide, 0.3), x[i])));
        }
        FOR_POOLS(p) {
            void *a = encode(t, n, x), *b = encode(t, n, y), *c = encode(t, n, y);
            weft_run_scale(K, POOL(p), t, n, 0.3, a, b);
            check_tensor("scale", t, n, b, scaled);
            weft_run_copy(K, POOL(p), t, n, c, b);
            check_tensor("copy", t, n, b, y);
            weft_run_axpy(K, POOL(p), t, n, -0.1, a, b);
            check_tensor("axpy", t, n, b, axpy);
            weft_run_pull(K, POOL(p), t, n, 0.3, a, c);
            check_tensor("pull", t, n, c, pulled);
            memcpy(c, b, n * each);
            weft_run_copy(K, POOL(p), t, n, a, c); /* c = x */
            weft_run_scale(K, POOL(p), t, n, 0.3, c, c);
            check_tensor("scale in place", t, n, c, scaled);
            check_tensor("x stays", t, n, a, x);
            { /* perturb, and back */
                void *g = encode(t, n, x), *w = encode(t, n, y), *backup = encode(t, n, x);
                weft_run_sam_perturb(G, POOL(p), t, n, -0.1, g, w, backup);
                check_tensor("perturb", t, n, w, axpy);
                check_tensor("backup", t, n, backup, y);
                weft_run_sam_restore(K, POOL(p), t, n, backup, w);
                check_tensor("restore", t, n, w, y);
                free(g);
                free(w);
                free(backup);
            }
            free(a);
            free(b);
            free(c);
        }
        free(x);
        free(y);
        free(scaled);
        free(axpy);
        free(pulled);
    }
    pools_end();
}
END_TEST

START_TEST(weighted_sum_driver) {
    static const double w[4] = {0.25, 0.0, -0.4, 0.7};
    const weft_dtype t = (weft_dtype)_i;
    const int wide = t == WEFT_F64;
    size_t s, p, i, j;
    reseed(17);
    pools_begin();
    for (s = 0; s < RUN_SIZES; s++) {
        const size_t n = run_sizes[s];
        double *v[4], *want = (double *)malloc((n + 1) * 8);
        uint64_t bad = 0;
        /* the largest f16 is 65504: some results become infinite only when they are stored */
        for (j = 0; j < 4; j++) v[j] = draw_doubles(t, n, t == WEFT_F16 ? 64000.0 : 2.0, j == 1);
        for (i = 0; i < n; i++) {
            double sum = mul(wide, rnd(wide, w[0]), v[0][i]);
            sum = add(wide, sum, mul(wide, rnd(wide, w[2]), v[2][i]));
            sum = add(wide, sum, mul(wide, rnd(wide, w[3]), v[3][i]));
            want[i] = stored(t, sum);
            bad += (uint64_t)is_bad(want[i]);
        }
        if (t == WEFT_F16 && n > 4000) ck_assert_uint_gt(bad, 0);
        FOR_POOLS(p) {
            void *x[4], *out = encode(t, n, v[0]);
            const void *source[4];
            static const double zero[2] = {0.0, -0.0};
            for (j = 0; j < 4; j++) source[j] = x[j] = encode(t, n, v[j]);
            ck_assert_uint_eq(weft_run_weighted_sum(K, POOL(p), t, n, 4, w, source, out), bad);
            check_tensor("weighted_sum", t, n, out, want);
            ck_assert_uint_eq(weft_run_weighted_sum(K, POOL(p), t, n, 4, w, source, x[2]), bad);
            check_tensor("weighted_sum in place", t, n, x[2], want);
            ck_assert_uint_eq(weft_run_weighted_sum(K, POOL(p), t, n, 2, zero, source, out), 0);
            for (i = 0; i < n; i++)
                if (!same(decode(t, out, i), 0.0)) ck_abort_msg("no weights: element %zu is %a", i, decode(t, out, i));
            for (j = 0; j < 4; j++) free(x[j]);
            free(out);
        }
        for (j = 0; j < 4; j++) free(v[j]);
        free(want);
    }
    pools_end();
}
END_TEST

START_TEST(reducing_drivers) {
    const weft_dtype t = (weft_dtype)_i;
    size_t s, p, i;
    reseed(18);
    pools_begin();
    for (s = 0; s < RUN_SIZES; s++) {
        const size_t n = run_sizes[s];
        const uint64_t first = draw();
        double *x = draw_doubles(t, n, 2.0, 0), *y = draw_doubles(t, n, 3.0, 0), *z = draw_doubles(t, n, 2.0, 1);
        void *a = encode(t, n, x), *b = encode(t, n, y), *c = encode(t, n, z);
        /* 16-bit tensors are reduced as the floats that they stand for */
        array ax = array_make(t == WEFT_F64, n), ay = array_make(t == WEFT_F64, n);
        double xx, xy, yy;
        uint64_t bad = 0, hash = 0;
        for (i = 0; i < n; i++) {
            put(&ax, i, x[i]);
            put(&ay, i, y[i]);
            bad += (uint64_t)is_bad(z[i]);
            hash += ref_mix(element_bits(&ax, i), first + i);
        }
        xx = ref_dot(&ax, &ax);
        xy = ref_dot(&ax, &ay);
        yy = ref_dot(&ay, &ay);
        FOR_POOLS(p) {
            const weft_dots d = weft_run_dots(G, POOL(p), t, n, a, b);
            check_same("dots.xy", (int)t, n, p, d.xy, xy);
            check_same("dots.xx", (int)t, n, p, d.xx, xx);
            check_same("dots.yy", (int)t, n, p, d.yy, yy);
            check_same("dot", (int)t, n, p, weft_run_dot(G, POOL(p), t, n, a, b), xy);
            check_same("sqnorm", (int)t, n, p, weft_run_sqnorm(K, POOL(p), t, n, a), xx);
            ck_assert_uint_eq(weft_run_count_nonfinite(K, POOL(p), t, n, c), bad);
            ck_assert_uint_eq(weft_run_hash(K, POOL(p), t, n, first, a), hash);
            /* the hash of a tensor is that of its parts */
            ck_assert_uint_eq(weft_run_hash(K, POOL(p), t, n / 3, first, a) +
                                  weft_run_hash(K, POOL(p), t, n - n / 3, first + n / 3,
                                                (const char *)a + n / 3 * weft_dtype_bytes(t)),
                              hash);
        }
        array_free(&ax);
        array_free(&ay);
        free(x);
        free(y);
        free(z);
        free(a);
        free(b);
        free(c);
    }
    pools_end();
}
END_TEST

START_TEST(sgd_driver) {
    const weft_dtype t = (weft_dtype)_i;
    const int wide = t == WEFT_F64;
    size_t s, p, i, variant;
    reseed(19);
    pools_begin();
    for (s = 0; s < RUN_SIZES; s++)
        for (variant = s % 3; variant < 16; variant += run_sizes[s] > 5000 ? 8 : 3) {
            const size_t n = run_sizes[s];
            const weft_sgd o = sgd_options(variant);
            double *g = draw_doubles(t, n, 1.0, variant % 4 == 1), *v = draw_doubles(t, n, 1.0, 0);
            double *x = draw_doubles(t, n, 1.0, 0), *wv = (double *)malloc((n + 1) * 8);
            double *wx = (double *)malloc((n + 1) * 8), norm;
            array ag = array_make(wide, n);
            uint64_t bad = 0;
            for (i = 0; i < n; i++) {
                wv[i] = v[i];
                wx[i] = x[i];
                ref_sgd(wide, &o, g[i], &wv[i], &wx[i]);
                wv[i] = stored(t, wv[i]);
                wx[i] = stored(t, wx[i]);
                put(&ag, i, g[i]);
                bad += (uint64_t)is_bad(g[i]);
            }
            norm = ref_dot(&ag, &ag);
            FOR_POOLS(p) {
                void *eg = encode(t, n, g), *ev = encode(t, n, v), *ex = encode(t, n, x);
                const weft_grad_stats r = weft_run_sgd(G, POOL(p), t, n, &o, eg, o.momentum == 0 ? NULL : ev, ex);
                check_tensor("sgd x", t, n, ex, wx);
                check_tensor("sgd v", t, n, ev, wv);
                check_tensor("sgd g", t, n, eg, g);
                check_same("sgd norm", (int)t, n, p, r.squared_norm, norm);
                ck_assert_uint_eq(r.nonfinite, bad);
                free(eg);
                free(ev);
                free(ex);
            }
            free(g);
            free(v);
            free(x);
            free(wv);
            free(wx);
            array_free(&ag);
        }
    pools_end();
}
END_TEST

/* Longer than one wave of partial sums. */
#ifndef EMULATED
START_TEST(several_waves) {
    const size_t n = WEFT_WAVE_SLOTS * WEFT_BLOCK + 12345;
    float *x = (float *)malloc(n * 4);
    volatile double total = 0.0;
    weft_dots d;
    size_t i, p;
    reseed(20);
    for (i = 0; i < n; i++) x[i] = (float)value(0, UNIFORM);
    for (i = 0; i < n; i += 4096) {
        double lanes[16] = {0};
        K->f32.sqnorm_block(n - i < 4096 ? n - i : 4096, x + i, lanes);
        total = total + tree(lanes);
    }
    pools_begin();
    FOR_POOLS(p) {
        check_same("sqnorm", 0, n, p, weft_run_sqnorm(K, POOL(p), WEFT_F32, n, x), total);
        d = weft_run_dots(G, POOL(p), WEFT_F32, n, x, x);
        check_same("dots.yy", 0, n, p, d.yy, total);
        check_same("dots.xy", 0, n, p, d.xy, total);
    }
    pools_end();
    free(x);
}
END_TEST
#endif

/* A parallel_for that goes backwards, or visits in a mixed order, changes nothing either. */
static void backwards(void *ctx, size_t n, weft_pool_body body, void *arg) {
    (void)ctx;
    while (n) body(arg, --n);
}

START_TEST(order_of_pieces_does_not_matter) {
    const size_t n = 300000;
    array x = array_draw(0, n, ANY_EXPONENT);
    weft_pool reverse;
    memset(&reverse, 0, sizeof reverse);
    reverse.parallel_for = backwards;
    check_same("sqnorm", 0, n, 0, weft_run_sqnorm(K, &reverse, WEFT_F32, n, x.p), ref_dot(&x, &x));
    array_free(&x);
}
END_TEST

/* ---- which set, and in which floating-point environment ---- */
#ifdef WEFT_NO_SIMD
#define NO_SIMD 1
#else
#define NO_SIMD 0
#endif

START_TEST(selection) {
    const weft_isa best = weft_isa_resolve(WEFT_ISA_AUTO);
    const char *expected = getenv("WEFT_EXPECT_ISA"); /* what an emulated machine must find */
    int i, available = 0;
    ck_assert_int_eq(weft_kernels_select(WEFT_ISA_AUTO, 0)->isa, best);
    ck_assert_int_eq(weft_kernels_select(WEFT_ISA_SERIAL, 0)->isa, WEFT_ISA_SERIAL);
    for (i = WEFT_ISA_SERIAL; i < WEFT_ISA_COUNT; i++) {
        const weft_isa isa = (weft_isa)i;
        const weft_kernels *k = weft_kernels_select(isa, 0);
        const weft_gradient_kernels *g = weft_gradient_kernels_select(isa, 0);
        ck_assert_int_eq(k != NULL, weft_isa_available(isa));
        ck_assert_int_eq(g != NULL, weft_isa_available(isa));
        ck_assert(!weft_isa_available(isa) || i <= (int)best);
        if (!k) continue;
        available++;
        ck_assert_int_eq(k->isa, isa);
        ck_assert_ptr_eq(g->core, k);
        ck_assert_ptr_eq(weft_wide_kernels_select(isa, 0)->core, k);
    }
    ck_assert_int_ge(available, 1);
    ck_assert_ptr_null(weft_kernels_select((weft_isa)99, 0));
    ck_assert_ptr_null(weft_gradient_kernels_select((weft_isa)99, 0));
    ck_assert_ptr_null(weft_isa_name((weft_isa)99));
    ck_assert_str_eq(weft_isa_name(WEFT_ISA_AUTO), "auto");
#ifdef WEFT_NO_SIMD
    ck_assert_int_eq(best, WEFT_ISA_SERIAL);
#elif defined __x86_64__
    ck_assert(weft_isa_available(WEFT_ISA_SSE2));
#elif defined __aarch64__ && !defined __ARM_BIG_ENDIAN
    ck_assert_int_eq(best, WEFT_ISA_NEON);
#elif defined __wasm_simd128__
    ck_assert_int_eq(best, WEFT_ISA_WASM);
#endif
#if defined __x86_64__ && defined __GNUC__
    /* the compiler's own opinion of this machine */
    ck_assert_int_eq(weft_isa_available(WEFT_ISA_AVX2),
                     __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && !NO_SIMD);
    ck_assert_int_eq(weft_isa_available(WEFT_ISA_AVX512),
                     __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
                         __builtin_cpu_supports("avx512vl") && !NO_SIMD);
#endif
    if (expected) ck_assert_str_eq(weft_isa_name(best), expected);
}
END_TEST

/* Stores bypass the cache only for what does not fit into it. */
START_TEST(streaming_begins_beyond_the_cache) {
    const size_t cache = weft_cache_bytes();
    int i;
    ck_assert_uint_ge(cache, 1u << 18);
    for (i = WEFT_ISA_SERIAL; i < WEFT_ISA_COUNT; i++) {
        const weft_kernels *k = weft_kernels_select((weft_isa)i, cache);
        if (!k) continue;
        ck_assert_int_eq(k->stream, 0);
        ck_assert_int_eq(weft_kernels_select((weft_isa)i, 0)->stream, 0);
        k = weft_kernels_select((weft_isa)i, cache + 1);
        ck_assert_int_eq(k->stream, 1);
        ck_assert_int_eq(weft_gradient_kernels_select((weft_isa)i, cache + 1)->core->stream, 1);
        if (i >= WEFT_ISA_SSE2 && i <= WEFT_ISA_AVX512) ck_assert(k->fence != NULL);
    }
}
END_TEST

static void check_refused(weft_status s, const weft_detail *d, const char *word) {
    ck_assert_int_eq(s, WEFT_ERR_FLOAT_ENV);
    ck_assert_int_eq(d->status, WEFT_ERR_FLOAT_ENV);
    ck_assert_ptr_nonnull(d->field);
    ck_assert_msg(strstr(d->field, word) != NULL, "\"%s\" does not name %s", d->field, word);
}

START_TEST(probe_accepts_the_default) {
    weft_detail d = weft_detail_none();
    const weft_status s = weft_float_probe(&d);
    ck_assert_msg(s == WEFT_OK, "%s", d.field ? d.field : "?");
    ck_assert_ptr_null(d.field);
}
END_TEST

START_TEST(probe_refuses_flushing) {
#ifdef CAN_FLUSH
    const unsigned was = _mm_getcsr();
    weft_detail ftz = weft_detail_none(), daz = weft_detail_none(), both = weft_detail_none();
    weft_status s_ftz, s_daz, s_both;
    _mm_setcsr(was | 0x8000u);
    s_ftz = weft_float_probe(&ftz);
    _mm_setcsr(was | 0x0040u);
    s_daz = weft_float_probe(&daz);
    _mm_setcsr(was | 0x8040u);
    s_both = weft_float_probe(&both);
    _mm_setcsr(was);
    check_refused(s_ftz, &ftz, "results");
    check_refused(s_daz, &daz, "operands");
    check_refused(s_both, &both, "subnormal");
#endif
}
END_TEST

START_TEST(probe_refuses_other_roundings) {
    static const int modes[] = {
#ifdef FE_UPWARD
        FE_UPWARD,
#endif
#ifdef FE_DOWNWARD
        FE_DOWNWARD,
#endif
#ifdef FE_TOWARDZERO
        FE_TOWARDZERO,
#endif
        FE_TONEAREST};
    const int was = fegetround();
    size_t i;
    for (i = 0; i < sizeof modes / sizeof modes[0]; i++) {
        weft_detail d = weft_detail_none();
        weft_status s;
        if (fesetround(modes[i]) != 0) continue;
        s = weft_float_probe(&d);
        fesetround(was);
        if (modes[i] == FE_TONEAREST) ck_assert_int_eq(s, WEFT_OK);
        else check_refused(s, &d, "rounding");
    }
}
END_TEST

/* test_kernels_fma.c sets this where the same expression outside of the header is fused: operands that can tell. */
#ifdef FUSES_OUTSIDE
START_TEST(operands_can_tell) {
    volatile double a = 1.0 + 1.0 / 134217728.0, c = -(1.0 + 1.0 / 67108864.0);
    ck_assert_double_ne(FUSES_OUTSIDE(a, a, c), 0.0);
}
END_TEST
#endif

static Suite *environment_suite(void) {
    Suite *s = suite_create("environment");
    TCase *c = tcase_create("environment");
    tcase_add_test(c, selection);
    tcase_add_test(c, streaming_begins_beyond_the_cache);
    tcase_add_test(c, probe_accepts_the_default);
    tcase_add_test(c, probe_refuses_flushing);
    tcase_add_test(c, probe_refuses_other_roundings);
#ifdef FUSES_OUTSIDE
    tcase_add_test(c, operands_can_tell);
#endif
    suite_add_tcase(s, c);
    return s;
}

/* All tests with the tables K and G; their floating-point environment is everyone's, so that it is tested once. */
static int run_all(const char *set, int with_environment) {
    Suite *s[4];
    TCase *c;
    SRunner *r;
    int failed;
    size_t i;

    printf("kernels: %s%s\n", set, K->stream ? ", streaming" : "");
    fflush(stdout); /* before Check forks */

    s[0] = suite_create("elements");
    c = tcase_create("elements");
    tcase_set_timeout(c, 60);
    tcase_add_loop_test(c, copies, 0, 2);
    tcase_add_loop_test(c, scale_is_one_product, 0, 2);
    tcase_add_loop_test(c, axpy_rounds_twice, 0, 2);
    tcase_add_loop_test(c, pull_is_two_products_and_a_sum, 0, 2);
    tcase_add_loop_test(c, perturb_keeps_a_backup, 0, 2);
    tcase_add_loop_test(c, weighted_sum_goes_left_to_right, 0, 2);
    tcase_add_loop_test(c, weight_zero_hides_nan, 0, 2);
    tcase_add_loop_test(c, infinite_weight_counts_only_elements, 0, 2);
    tcase_add_loop_test(c, nonfinite_are_counted, 0, 2);
    tcase_add_loop_test(c, sgd_follows_the_definition, 0, 2);
    suite_add_tcase(s[0], c);

    s[1] = suite_create("sums");
    c = tcase_create("sums");
    tcase_set_timeout(c, 60);
    tcase_add_loop_test(c, block_sums_follow_the_contract, 0, 2);
    tcase_add_loop_test(c, wide_sums_follow_the_contract, 0, 2);
    tcase_add_loop_test(c, products_of_four_follow_the_contract, 0, 2);
    tcase_add_loop_test(c, tensor_sums_follow_the_contract, 0, 2);
    tcase_add_loop_test(c, squared_norm_is_accurate, 0, 2);
    tcase_add_test(c, squares_of_f64_may_overflow);
    tcase_add_test(c, sums_write_nothing);
    tcase_add_loop_test(c, hash_is_a_sum_over_elements, 0, 2);
    tcase_add_loop_test(c, hash_sees_every_bit, 0, 2);
    suite_add_tcase(s[1], c);

    s[2] = suite_create("halves");
    c = tcase_create("halves");
    tcase_set_timeout(c, 60);
    tcase_add_loop_test(c, every_16_bit_code, 0, 2);
    tcase_add_loop_test(c, rounding_half_way, 0, 2);
    tcase_add_loop_test(c, narrowing_any_float, 0, 2);
    suite_add_tcase(s[2], c);

    s[3] = suite_create("drivers");
    c = tcase_create("drivers");
    tcase_set_timeout(c, 120);
    tcase_add_loop_test(c, elementwise_drivers, 0, 4);
    tcase_add_loop_test(c, weighted_sum_driver, 0, 4);
    tcase_add_loop_test(c, reducing_drivers, 0, 4);
    tcase_add_loop_test(c, sgd_driver, 0, 4);
#ifndef EMULATED
    tcase_add_test(c, several_waves);
#endif
    tcase_add_test(c, order_of_pieces_does_not_matter);
    suite_add_tcase(s[3], c);

    r = srunner_create(s[0]);
    for (i = 1; i < 4; i++) srunner_add_suite(r, s[i]);
    if (with_environment) srunner_add_suite(r, environment_suite());
    srunner_run_all(r, CK_ENV);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed;
}

int main(void) {
    int failed = 0;
#ifdef EXTRA_SET
    K = KERNELS_UNDER_TEST;
    G = GRADIENT_KERNELS_UNDER_TEST;
    W = WIDE_KERNELS_UNDER_TEST;
    failed = run_all("a set of the tests", 1);
#else
    const char *only = getenv("WEFT_ISA");
    int i;
    for (i = WEFT_ISA_SERIAL; i < WEFT_ISA_COUNT; i++) {
        const weft_isa isa = (weft_isa)i;
        if (only && strcmp(only, weft_isa_name(isa)) != 0) continue;
        if (!weft_isa_available(isa)) {
            printf("kernels: %s is not here: skipped\n", weft_isa_name(isa));
            continue;
        }
        K = weft_kernels_select(isa, 0);
        G = weft_gradient_kernels_select(isa, 0);
        W = weft_wide_kernels_select(isa, 0);
        failed += run_all(weft_isa_name(isa), isa == WEFT_ISA_SERIAL);
        if (!K->fence) continue; /* this one has no other stores */
        K = weft_kernels_select(isa, SIZE_MAX);
        G = weft_gradient_kernels_select(isa, SIZE_MAX);
        W = weft_wide_kernels_select(isa, SIZE_MAX);
        failed += run_all(weft_isa_name(isa), 0);
    }
#endif
    return failed != 0;
}
