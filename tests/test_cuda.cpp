/* SPDX-License-Identifier: MIT
 * Device kernels against the serial ones, bit by bit. Compiled by a C++ compiler they run on the CPU (cuda_shim.h);
 * compiled by nvcc (make cuda-test), on the GPU, or the status is 77 where there is none. */
#define WEFT_CUDA
#ifndef __CUDACC__
#define WEFT_CUDA_RUNTIME "cuda_shim.h"
#endif
#define GRAWA_IMPLEMENTATION
#include "../grawa.h"
#define HPSGD_IMPLEMENTATION
#include "../hpsgd.h"
#define SUBSPACE_IMPLEMENTATION
#include "../subspace.h"

#include <check.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <vector>

/* ---- seeded numbers: WEFT_SEED replays a failure ---- */
static uint64_t seed = 20240611, state;

static void reseed(uint64_t salt) {
    const char *s = getenv("WEFT_SEED"), *order = getenv("CUSHIM_SEED");
    if (s)
        seed = strtoull(s, NULL, 0);
    else if (order)
        seed += strtoull(order, NULL, 0);
    state = seed + (salt << 32);
}

static uint64_t draw(void) {
    uint64_t z = state += UINT64_C(0x9E3779B97F4A7C15);
    z = (z ^ z >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ z >> 27) * UINT64_C(0x94D049BB133111EB);
    return z ^ z >> 31;
}

static size_t below(size_t n) {
    return (size_t)(draw() % n);
}

#define OK(call) ck_assert_int_eq((int)(call), 0)

/* ---- arrays: the same bytes here and on the device, between guards ---- */
#define GUARD 64

struct array {
    weft_dtype type;
    size_t n, past; /* elements before the first one */
    std::vector<unsigned char> host;
    unsigned char *device;

    size_t bytes() const {
        return host.size();
    }
    void *h() {
        return host.data() + GUARD + past * weft_dtype_bytes(type);
    }
    void *d() const {
        return device + GUARD + past * weft_dtype_bytes(type);
    }
};

/* Every kind of value: what is usual, what has any exponent, corners, and what is not finite. */
enum { USUAL, ANY, CORNERS, BAD, KINDS };

static double value(weft_dtype t, int kind) {
    static const double corner[] = {0.0,   -0.0,    1.0,      -1.0,           5e-324,  -5e-324,   1.5e-45,   -1.5e-45,
                                    6e-8,  -6e-8,   65504.0,  -65504.0,       65519.0, 3.4e38,    -3.4e38,   1.7e308,
                                    1e-38, 1.1e-38, 1.2e-308, 1.000244140625, 2048.5,  6.104e-05, 6.098e-05, 0.333333};
    double v;
    if (kind == USUAL) return (double)(int64_t)draw() / 9223372036854775808.0;
    if (kind == CORNERS) return corner[below(sizeof corner / sizeof *corner)];
    if (kind == BAD && below(20) == 0) {
        static const uint32_t bad[] = {0x7F800000u, 0xFF800000u, 0x7FC00000u, 0xFFC00001u, 0x7F900000u};
        return (double)weft_bits_f32(bad[below(5)]);
    }
    do v = t == WEFT_F64 ? weft_bits_f64(draw()) : (double)weft_bits_f32((uint32_t)draw());
    while (!weft_is_finite(v));
    return v;
}

static const weft_kernels *K;
static const weft_gradient_kernels *G;
/* The device under test, and the tables by which verbs come to it. */
static weft_gpu U;
static weft_device &V = U.device;
static const weft_kernels &D = U.kernels;
static weft_gradient_kernels DG;
static weft_replica_kernels DR;

/* Bits of element i as u64; all NaN are one. */
static uint64_t bits_at(const void *p, weft_dtype t, size_t i) {
    const unsigned char *c = (const unsigned char *)p + i * weft_dtype_bytes(t);
    if (t == WEFT_F64) {
        const uint64_t b = weft_load_u64(c);
        return (b & INT64_MAX) > UINT64_C(0x7FF0000000000000) ? UINT64_MAX : b;
    }
    if (t == WEFT_F32) {
        const uint32_t b = weft_load_u32(c);
        return (b & INT32_MAX) > 0x7F800000u ? UINT64_MAX : b;
    }
    uint16_t b;
    memcpy(&b, c, 2);
    return (b & 0x7FFFu) > (t == WEFT_BF16 ? 0x7F80u : 0x7C00u) ? UINT64_MAX : b;
}

static void upload(const array &a) {
    OK(cudaMemcpy(a.device, a.host.data(), a.bytes(), cudaMemcpyHostToDevice));
}

static array array_make(weft_dtype t, size_t n, size_t past, int kind) {
    array a;
    size_t i;
    a.type = t;
    a.n = n;
    a.past = past;
    a.host.assign(2 * GUARD + (n + past) * weft_dtype_bytes(t), 0xA5);
    for (i = 0; i < n; i++) {
        const double v = value(t, kind);
        const float f = (float)v;
        unsigned char *to = (unsigned char *)a.h() + i * weft_dtype_bytes(t);
        uint16_t half = (uint16_t)draw();
        if (t == WEFT_F64)
            memcpy(to, &v, 8);
        else if (t == WEFT_F32)
            memcpy(to, &f, 4);
        else {
            /* any sixteen bits, or what a value is rounded to */
            if (kind == USUAL || kind == CORNERS)
                (t == WEFT_BF16 ? K->f32_to_bf16 : K->f32_to_f16)(1, &f, &half);
            else if (kind == ANY)
                while ((half & (t == WEFT_BF16 ? 0x7F80u : 0x7C00u)) == (t == WEFT_BF16 ? 0x7F80u : 0x7C00u))
                    half = (uint16_t)draw();
            memcpy(to, &half, 2);
        }
    }
    OK(cudaMalloc((void **)&a.device, a.bytes()));
    upload(a);
    return a;
}

/* What is on the device is what the serial kernels have left here, and nothing else was written. */
static void check_array(const char *what, array &a) {
    std::vector<unsigned char> got(a.bytes());
    const size_t first = GUARD + a.past * weft_dtype_bytes(a.type), end = first + a.n * weft_dtype_bytes(a.type);
    size_t i;
    OK(cudaStreamSynchronize(V.stream));
    OK(cudaMemcpy(got.data(), a.device, a.bytes(), cudaMemcpyDeviceToHost));
    for (i = 0; i < a.bytes(); i++)
        if ((i < first || i >= end) && got[i] != 0xA5)
            ck_abort_msg("%s type %d n=%zu: written outside (seed %llu)", what, a.type, a.n, (unsigned long long)seed);
    for (i = 0; i < a.n; i++)
        if (bits_at(got.data() + first, a.type, i) != bits_at(a.h(), a.type, i))
            ck_abort_msg("%s type %d n=%zu past=%zu element %zu: got %llx, want %llx (seed %llu)", what, a.type, a.n,
                         a.past, i, (unsigned long long)bits_at(got.data() + first, a.type, i),
                         (unsigned long long)bits_at(a.h(), a.type, i), (unsigned long long)seed);
}

static void array_free(array &a) {
    OK(cudaFree(a.device));
}

/* ---- the device, and what works yield ---- */
#define MOST ((size_t)3 << 20)
#define MOST_SOURCES 200
static void *scratch;
static weft_slot *on_device, *pinned;

static void setup(void) {
    const size_t bytes = weft_device_bytes(WEFT_BLOCK / WEFT_DEVICE_COLUMNS * MOST, MOST_SOURCES);
    cudaStream_t s;
    K = weft_kernels_select(WEFT_ISA_SERIAL, 0);
    G = weft_gradient_kernels_select(WEFT_ISA_SERIAL, 0);
    OK(cudaStreamCreate(&s));
    OK(cudaMalloc(&scratch, bytes + 8));
    memset(&U, 0, sizeof U);
    OK(weft_device_init(&V, s, (unsigned char *)scratch + 8, bytes, WEFT_BLOCK / WEFT_DEVICE_COLUMNS * MOST,
                        MOST_SOURCES));
    OK(cudaMalloc((void **)&on_device, WEFT_SLOTS * sizeof *on_device));
    OK(cudaMallocHost((void **)&pinned, WEFT_SLOTS * sizeof *pinned));
    U.total = on_device;
    U.kernels = *K;
    U.kernels.gpu = &U;
    DG = *G;
    DG.core = &D;
    DR = *weft_replica_kernels_select(WEFT_ISA_SERIAL, 0);
    DR.core = &D;
}

static void teardown(void) {
    OK(cudaStreamSynchronize(V.stream));
    OK(U.failed);
    OK(cudaFree(scratch));
    OK(cudaFree(on_device));
    OK(cudaFreeHost(pinned));
    OK(cudaStreamDestroy(V.stream));
}

static weft_slot *total_to(void) {
    return below(2) ? on_device : pinned;
}

static void fetch(weft_slot *from, weft_slot *total) {
    OK(cudaStreamSynchronize(V.stream));
    if (from == pinned)
        memcpy(total, pinned, WEFT_SLOTS * sizeof *total);
    else
        OK(cudaMemcpy(total, from, WEFT_SLOTS * sizeof *total, cudaMemcpyDeviceToHost));
}

/* ---- works that are only enqueued ---- */

/* What writes nothing. */
static weft_work work_of(weft_op op, weft_dtype t, size_t n, const void *x, const void *y, uint64_t first = 0) {
    weft_work j = weft_work_make(NULL, op, t, n, x, y, y ? 3 : 1, 0);
    j.sums = op == WEFT_OP_DOTS ? 3 : op == WEFT_OP_DOT || op == WEFT_OP_SQNORM;
    j.counts = !j.sums;
    j.first = first;
    return j;
}

/* v: NULL without momentum. */
static weft_work work_sgd(weft_dtype t, size_t n, const weft_sgd *o, const void *g, const void *v, void *x) {
    weft_work j = weft_work_make(NULL, WEFT_OP_SGD, t, n, g, v, v && !o->first ? 7 : 5, v ? 6 : 4);
    j.array[2] = x;
    j.sums = j.counts = 1;
    j.sgd = o;
    return j;
}

static weft_work work_weighted(weft_dtype t, size_t n, size_t k, const double *w, const void *const *x, void *out) {
    weft_work j = weft_work_make(NULL, WEFT_OP_WEIGHTED_SUM, t, n, out, NULL, 0, 0);
    j.counts = 1;
    j.sources = k;
    j.w = w;
    j.source = x;
    return j;
}

static weft_status enqueue(const weft_work &j, weft_slot *total) {
    return weft_device_run(&V, &j, total);
}

/* One time in two this way, to pinned memory, which the verbs' way does not know. */
static bool aside(const weft_work &j, weft_slot *got) {
    if (below(2)) return false;
    OK(enqueue(j, pinned));
    fetch(pinned, got);
    return true;
}

static void check_sum(const char *what, weft_dtype t, size_t n, double got, double want) {
    const double pair[2] = {got, want};
    if (bits_at(pair, WEFT_F64, 0) != bits_at(pair, WEFT_F64, 1))
        ck_abort_msg("%s type %d n=%zu: got %a, want %a (seed %llu)", what, t, n, got, want, (unsigned long long)seed);
}

static void check_count(const char *what, weft_dtype t, size_t n, uint64_t got, uint64_t want) {
    if (got != want)
        ck_abort_msg("%s type %d n=%zu: counted %llu, want %llu (seed %llu)", what, t, n, (unsigned long long)got,
                     (unsigned long long)want, (unsigned long long)seed);
}

/* ---- every work, type, size, alignment and kind of value ---- */
#ifdef CUSHIM_PTHREADS /* launches of one block, and some of all that there may be: it is not the values that matter */
#define ROUNDS(n, small, large) ((n) < 5000 ? (small) > 11 ? 4 : (small) : 1)
#define TYPES 2
#define THREADS 1
static const size_t sizes[] = {17, 69999};
#else
#define ROUNDS(n, small, large) ((n) < 5000 ? (small) : (large))
#define TYPES 4
#define THREADS 0
static const size_t sizes[] = {0, 1, 3, 15, 16, 17, 255, 256, 257, 1000, 4095, 4096, 4097, 3 * 4096 + 5, 69999};
#endif
#define SIZES (sizeof sizes / sizeof *sizes)

/* Under the address sanitizer, which is slow with fibers, every other size: which ones is the seed's choice. */
static size_t first_size(void) {
#ifdef __SANITIZE_ADDRESS__
    return (size_t)(seed % 2);
#else
    return 0;
#endif
}

static size_t next_size(size_t i) {
#ifdef __SANITIZE_ADDRESS__
    return i + 2;
#else
    return i + 1;
#endif
}
/* elements by which three arrays are off: all aligned, all off alike, each in its own way */
static const size_t offs[][3] = {{0, 0, 0}, {1, 1, 1}, {2, 2, 2}, {0, 1, 3}, {5, 7, 7}, {4, 8, 12}};
#define OFFS (sizeof offs / sizeof *offs)
static const double scalars[] = {0.0,  -0.0, 1.0,          -1.0,  0.1,   -0.3333333333333333,
                                 1e-3, 1e30, 1.0000000001, 3e-42, 1e-300};
static double scalar(void) {
    return scalars[below(sizeof scalars / sizeof *scalars)];
}

static void one_case(weft_op op, weft_dtype t, size_t n, const size_t *off, int kind) {
    array x = array_make(t, n, off[0], kind), y = array_make(t, n, off[1], kind), z = array_make(t, n, off[2], kind);
    const int same = below(5) == 0 && op != WEFT_OP_PERTURB && op != WEFT_OP_SGD; /* in place */
    array &v = same ? x : y;
    const double a = op == WEFT_OP_PULL && below(2) ? below(1000) / 999.0 : scalar();
    const uint64_t first = draw() >> 20;
    weft_slot got[WEFT_SLOTS];
    weft_sgd o;
    memset(got, 0, sizeof got);
    switch (op) {
    case WEFT_OP_COPY:
        weft_run_copy(&D, NULL, t, n, x.d(), v.d());
        weft_run_copy(K, NULL, t, n, x.h(), v.h());
        break;
    case WEFT_OP_SCALE:
        weft_run_scale(&D, NULL, t, n, a, x.d(), v.d());
        weft_run_scale(K, NULL, t, n, a, x.h(), v.h());
        break;
    case WEFT_OP_AXPY:
        weft_run_axpy(&D, NULL, t, n, a, x.d(), v.d());
        weft_run_axpy(K, NULL, t, n, a, x.h(), v.h());
        break;
    case WEFT_OP_PULL:
        weft_run_pull(&D, NULL, t, n, a, x.d(), v.d());
        weft_run_pull(K, NULL, t, n, a, x.h(), v.h());
        break;
    case WEFT_OP_PERTURB:
        weft_run_sam_perturb(&DG, NULL, t, n, a, x.d(), y.d(), z.d());
        weft_run_sam_perturb(G, NULL, t, n, a, x.h(), y.h(), z.h());
        if (below(2)) {
            weft_run_sam_restore(&D, NULL, t, n, z.d(), y.d());
            weft_run_sam_restore(K, NULL, t, n, z.h(), y.h());
        }
        break;
    case WEFT_OP_DOT:
        if (!aside(work_of(op, t, n, x.d(), v.d()), got)) got[0].sum = weft_run_dot(&DG, NULL, t, n, x.d(), v.d());
        check_sum("dot", t, n, got[0].sum, weft_run_dot(G, NULL, t, n, x.h(), v.h()));
        break;
    case WEFT_OP_SQNORM:
        if (!aside(work_of(op, t, n, x.d(), NULL), got)) got[0].sum = weft_run_sqnorm(&D, NULL, t, n, x.d());
        check_sum("sqnorm", t, n, got[0].sum, weft_run_sqnorm(K, NULL, t, n, x.h()));
        break;
    case WEFT_OP_DOTS: {
        const weft_dots want = weft_run_dots(G, NULL, t, n, x.h(), v.h());
        if (!aside(work_of(op, t, n, x.d(), v.d()), got)) {
            const weft_dots all = weft_run_dots(&DG, NULL, t, n, x.d(), v.d());
            got[0].sum = all.xy, got[1].sum = all.xx, got[2].sum = all.yy;
        }
        check_sum("dots xy", t, n, got[0].sum, want.xy);
        check_sum("dots xx", t, n, got[1].sum, want.xx);
        check_sum("dots yy", t, n, got[2].sum, want.yy);
        break;
    }
    case WEFT_OP_SGD: {
        memset(&o, 0, sizeof o);
        o.learning_rate = below(4) ? 0.1 : scalar();
        o.momentum = below(3) ? 0.9 : below(2) ? 0.0 : 1e-50; /* which f32 does not have */
        o.weight_decay = below(2) ? 1e-4 : below(2) ? 0.0 : 1e-60;
        o.nesterov = (int)below(2);
        o.first = (int)below(3) == 0;
        const int plain = t == WEFT_F64 ? o.momentum == 0 : (float)o.momentum == 0;
        void *const velocity = plain ? NULL : y.d();
        if (!aside(work_sgd(t, n, &o, x.d(), velocity, z.d()), got)) {
            const weft_grad_stats all = weft_run_sgd(&DG, NULL, t, n, &o, x.d(), velocity, z.d());
            got[0].sum = all.squared_norm, got[1].count = all.nonfinite;
        }
        const weft_grad_stats want = weft_run_sgd(G, NULL, t, n, &o, x.h(), plain ? NULL : y.h(), z.h());
        check_sum("sgd", t, n, got[0].sum, want.squared_norm);
        check_count("sgd", t, n, got[1].count, want.nonfinite);
        break;
    }
    case WEFT_OP_COUNT:
        if (!aside(work_of(op, t, n, x.d(), NULL), got)) got[0].count = weft_run_count_nonfinite(&D, NULL, t, n, x.d());
        check_count("count", t, n, got[0].count, weft_run_count_nonfinite(K, NULL, t, n, x.h()));
        break;
    case WEFT_OP_HASH:
        if (!aside(work_of(op, t, n, x.d(), NULL, first), got))
            got[0].count = weft_run_hash(&D, NULL, t, n, first, x.d());
        check_count("hash", t, n, got[0].count, weft_run_hash(K, NULL, t, n, first, x.h()));
        break;
    default: break;
    }
    OK(U.failed);
    {
        static const char *const name[] = {"copy", "scale",  "axpy", "pull", "perturb", "weighted sum",
                                           "dot",  "sqnorm", "dots", "sgd",  "count",   "hash"};
        check_array(name[op], x);
        check_array(name[op], y);
        check_array(name[op], z);
    }
    array_free(x);
    array_free(y);
    array_free(z);
}

START_TEST(all_works) {
    const weft_op op = (weft_op)(_i / TYPES);
    const weft_dtype t = (weft_dtype)(_i % TYPES);
    size_t i, k;
    if (op == WEFT_OP_WEIGHTED_SUM) return;
    reseed((uint64_t)_i);
    for (i = first_size(); i < SIZES; i = next_size(i))
        for (k = 0; k < ROUNDS(sizes[i], THREADS ? 1 : OFFS, 2); k++) {
            const size_t *off = offs[sizes[i] < 5000 ? k : below(OFFS)];
            one_case(op, t, sizes[i], off, (int)below(KINDS));
            if (sizes[i] == 257 || sizes[i] == 4097)
                for (int kind = 0; kind < KINDS; kind++) one_case(op, t, sizes[i], off, kind);
        }
}
END_TEST

START_TEST(weighted_sums) {
    static const double ws[] = {0.125, 0.3, -0.7, 1.0, 1e-3, 0.0, -0.0, 1e-60, 0.25, 2.0};
    static const size_t ks[] = {0, 1, 2, 3, 5, 31, 32, 64, 33, 65, 150};
    const weft_dtype t = (weft_dtype)_i;
    size_t i, s, round;
    reseed(100 + (uint64_t)_i);
    for (i = first_size(); i < SIZES; i = next_size(i))
        for (round = 0; round < ROUNDS(sizes[i], 11, 3); round++) {
            const size_t n = sizes[i], k = n == 17 || n == 1000 ? ks[round] : ks[below(5)], *off = offs[below(OFFS)];
            const int kind = round < KINDS ? (int)round : (int)below(KINDS);
            array out = array_make(t, n, off[0], kind);
            std::vector<array> x;
            std::vector<double> w(k + 1);
            std::vector<const void *> host(k + 1), device(k + 1);
            weft_slot got[WEFT_SLOTS];
            for (s = 0; s < k; s++) {
                w[s] = round == 8 && s % 40 ? 0.0 : round == 7 ? 0.5 : ws[below(10)];
                x.push_back(array_make(t, n, below(3) ? off[0] : off[1 + s % 2], kind));
                host[s] = x[s].h();
                device[s] = x[s].d();
                /* who does not count is not read: may be absent */
                if ((t == WEFT_F64 ? w[s] : (double)(float)w[s]) == 0 && below(2)) host[s] = device[s] = NULL;
            }
            array &into = k && below(2) ? x[below(k)] : out; /* one of the sources */
            const unsigned way = (unsigned)below(5);         /* the verbs'; only enqueued; without the count */
            const uint64_t want = weft_run_weighted_sum(K, NULL, t, n, k, w.data(), host.data(), into.h());
            got[0].count = want;
            if (way < 2)
                got[0].count = weft_run_weighted_sum(&D, NULL, t, n, k, w.data(), device.data(), into.d());
            else
                OK(enqueue(work_weighted(t, n, k, w.data(), device.data(), into.d()), way < 4 ? pinned : NULL));
            for (s = 0; s < k; s++) w[s] = 77.0, device[s] = NULL; /* the lists are not kept */
            if (way == 2 || way == 3) fetch(pinned, got);
            check_count("weighted sum", t, n, got[0].count, want);
            check_array("weighted sum", out);
            for (s = 0; s < k; s++) check_array("weighted sum, source", x[s]);
            array_free(out);
            for (s = 0; s < k; s++) array_free(x[s]);
        }
}
END_TEST

/* Sums in f64: to f32 or f64 in one rounding, to the 16-bit types by way of f32. */
START_TEST(wide_sums) {
    static const double ws[] = {0.1, -0.7, 1e-60, 0.0, 3.0, 1.0 + 1e-15, 1e20, -1e20};
    static const size_t ks[] = {0, 1, 4, 33};
    const weft_dtype t = (weft_dtype)_i;
    size_t i, s, e, round;
    reseed(150 + (uint64_t)_i);
    for (i = first_size(); i < SIZES; i = next_size(i))
        for (round = 0; round < ROUNDS(sizes[i], 4, 1); round++) {
            const size_t n = sizes[i], k = ks[round + (sizes[i] < 5000 ? 0 : 2)], *off = offs[below(OFFS)];
            array out = array_make(t, n, off[0], ANY);
            std::vector<array> x;
            double w[33];
            const void *device[33];
            weft_slot got[WEFT_SLOTS], *to = total_to();
            uint64_t bad = 0;
            for (s = 0; s < k; s++) {
                w[s] = ws[below(8)];
                x.push_back(array_make(t, n, off[s % 3], (int)below(KINDS)));
                device[s] = w[s] == 0 ? NULL : x[s].d();
            }
            OK(weft_device_sum_wide(&V, t, n, k, w, device, out.d(), to));
            for (e = 0; e < n; e++) {
                double sum = 0.0;
                int started = 0;
                for (s = 0; s < k; s++) {
                    double v = 0.0;
                    float f;
                    const unsigned char *p = (const unsigned char *)x[s].h() + e * weft_dtype_bytes(t);
                    uint16_t half;
                    if (w[s] == 0) continue;
                    memcpy(&half, p, 2);
                    if (t == WEFT_F64)
                        memcpy(&v, p, 8);
                    else if (t == WEFT_F32)
                        memcpy(&f, p, 4), v = (double)f;
                    else
                        (t == WEFT_BF16 ? K->bf16_to_f32 : K->f16_to_f32)(1, &half, &f), v = (double)f;
                    v = w[s] * v;
                    sum = started ? sum + v : v;
                    started = 1;
                }
                float f = (float)sum;
                uint16_t half = 0;
                unsigned char *p = (unsigned char *)out.h() + e * weft_dtype_bytes(t);
                if (t == WEFT_F64)
                    memcpy(p, &sum, 8);
                else if (t == WEFT_F32)
                    memcpy(p, &f, 4);
                else
                    (t == WEFT_BF16 ? K->f32_to_bf16 : K->f32_to_f16)(1, &f, &half), memcpy(p, &half, 2);
            }
            bad = weft_run_count_nonfinite(K, NULL, t, n, out.h());
            fetch(to, got);
            check_count("wide sum", t, n, got[0].count, bad);
            check_array("wide sum", out);
            array_free(out);
            for (s = 0; s < k; s++) array_free(x[s]);
        }
}
END_TEST

/* What subspace.h does to a block of 1,024 columns, by the serial kernels. */
static void numbers_of(weft_dtype t, size_t n, size_t count, const double *f, std::vector<array> &x, double *numbers) {
    const weft_wide_kernels *wide = weft_wide_kernels_select(WEFT_ISA_SERIAL, 0);
    const weft_wide_set *k = t == WEFT_F64 ? &wide->f64 : &wide->f32;
    const size_t each = weft_dtype_bytes(t);
    std::vector<std::vector<float>> room(count, std::vector<float>(WEFT_DEVICE_COLUMNS));
    for (size_t at = 0; at < n; at += WEFT_DEVICE_COLUMNS) {
        const size_t m = n - at < WEFT_DEVICE_COLUMNS ? n - at : WEFT_DEVICE_COLUMNS;
        std::vector<const void *> p(count);
        std::vector<double> out(2 * count), s(WEFT_DEVICE_COLUMNS);
        std::vector<size_t> who;
        double lanes[160];
        for (size_t i = 0; i < count; i++) {
            p[i] = (unsigned char *)x[i].h() + at * each;
            if (each == 2) {
                (t == WEFT_BF16 ? K->bf16_to_f32 : K->f16_to_f32)(m, (const uint16_t *)p[i], room[i].data());
                p[i] = room[i].data();
            }
            if (f[i] != 0) who.push_back(i);
        }
        if (count <= 4) {
            for (size_t i : who)
                for (size_t q : who) {
                    memset(lanes, 0, sizeof lanes);
                    k->dots_block(m, p[i], p[q], lanes);
                    const double dot = weft_lanes_sum(lanes);
                    if (i == q) out[count + i] = dot;
                    out[i] += f[q] * dot;
                }
        } else {
            int started = 0;
            for (size_t i : who) {
                const void *one = p[i];
                k->sum_wide(m, 1, &f[i], &one, s.data(), started, NULL, 0);
                started = 1;
            }
            for (size_t i : who) {
                memset(lanes, 0, sizeof lanes);
                k->dots_wide(m, p[i], s.data(), lanes);
                out[i] = weft_lanes_sum(lanes);
                out[count + i] = weft_lanes_sum(lanes + 16);
            }
        }
        for (size_t i = 0; i < 2 * count; i++) numbers[i] += out[i];
    }
}

START_TEST(subspace_numbers) {
    static const size_t ks[] = {1, 2, 3, 4, 5, 9, 33};
    const weft_dtype t = (weft_dtype)_i;
    size_t i, s, round;
    reseed(160 + (uint64_t)_i);
    for (i = first_size(); i < SIZES; i = next_size(i))
        for (round = 0; round < ROUNDS(sizes[i], THREADS ? 2 : 7, 2); round++) {
            const size_t n = sizes[i], k = ks[sizes[i] < 5000 && !THREADS ? round : 3 + round];
            const int kind = below(3) ? USUAL : (int)below(KINDS);
            std::vector<array> x;
            std::vector<double> f(k), want(2 * k);
            std::vector<const void *> device(k);
            std::vector<weft_slot> got(k * WEFT_SLOTS);
            weft_slot *total;
            for (s = 0; s < k; s++) {
                f[s] = below(5) ? (double)(1 + below(100)) : 0.0;
                x.push_back(array_make(t, n, offs[below(OFFS)][s % 3], kind));
                device[s] = f[s] == 0 ? NULL : x[s].d();
                got[s * WEFT_SLOTS].sum = got[s * WEFT_SLOTS + 1].sum = 0.0;
            }
            OK(cudaMalloc((void **)&total, got.size() * sizeof *total));
            OK(cudaMemcpy(total, got.data(), got.size() * sizeof *total, cudaMemcpyHostToDevice));
            /* twice: as if there were two tensors */
            OK(weft_device_numbers(&V, t, n, k, f.data(), device.data(), total));
            OK(weft_device_numbers(&V, t, n, k, f.data(), device.data(), total));
            numbers_of(t, n, k, f.data(), x, want.data());
            numbers_of(t, n, k, f.data(), x, want.data());
            OK(cudaStreamSynchronize(V.stream));
            OK(cudaMemcpy(got.data(), total, got.size() * sizeof *total, cudaMemcpyDeviceToHost));
            for (s = 0; s < k; s++) {
                check_sum("numbers: dot", t, n, got[s * WEFT_SLOTS].sum, want[s]);
                check_sum("numbers: square", t, n, got[s * WEFT_SLOTS + 1].sum, want[k + s]);
            }
            OK(cudaFree(total));
            for (s = 0; s < k; s++) array_free(x[s]);
        }
}
END_TEST

/* A replica's phases: with and without a sum, what it sent before, what is carried on; in place; payloads of bf16. */
START_TEST(replicas) {
    static const double carries[] = {0.0, 0.5, 0.9, -0.25, 1e-60};
    const weft_dtype t = _i == 1 ? WEFT_F64 : WEFT_F32, payload = _i == 2 ? WEFT_BF16 : t;
    size_t i, round;
    reseed(170 + (uint64_t)_i);
    for (i = first_size(); i < SIZES; i = next_size(i))
        for (round = 0; round < ROUNDS(sizes[i], 24, 3); round++) {
            const size_t n = sizes[i], *off = offs[round < 6 ? 0 : below(OFFS)];
            const int kind = (int)below(KINDS);
            array w = array_make(t, n, off[0], kind), x = array_make(t, n, off[1], kind);
            array sum = array_make(payload, n, below(3) ? off[2] : below(9), kind);
            array own = array_make(payload, n, off[0], kind);
            array out = array_make(payload, n, off[1], kind);
            array &into = round % 5 == 0 ? sum : round % 5 == 1 ? own : out;
            const int has_sum = below(3) != 0, has_own = (int)below(2);
            weft_slot got[WEFT_SLOTS], *to = below(4) ? pinned : NULL;
            weft_replica r, d;
            memset(&r, 0, sizeof r);
            r.kernels = weft_replica_kernels_select(WEFT_ISA_SERIAL, 0);
            r.dtype = t;
            r.payload = payload;
            r.launch = (int)(round & 1);
            r.phase.count = 1.0 + (double)below(7);
            r.phase.carry = carries[below(5)];
            r.phase.carried = carries[below(5)];
            r.phase.again = (int)below(2);
            r.sum = has_sum ? sum.h() : NULL;
            r.own = has_own ? own.h() : NULL;
            r.w = w.h(), r.x = x.h(), r.out = into.h();
            d = r;
            d.kernels = &DR;
            d.sum = has_sum ? sum.d() : NULL;
            d.own = has_own ? own.d() : NULL;
            d.w = w.d(), d.x = x.d(), d.out = into.d();
            const uint64_t bad = weft_run_replica(&r, NULL, n);
            if (below(2))
                check_count("replica", t, n, weft_run_replica(&d, NULL, n), bad);
            else {
                OK(weft_device_replica(&V, &d, n, to));
                if (to) {
                    fetch(to, got);
                    check_count("replica", t, n, got[0].count, bad);
                }
            }
            check_array("replica: w", w);
            check_array("replica: x", x);
            check_array("replica: sum", sum);
            check_array("replica: own", own);
            check_array("replica: out", out);
            array_free(w);
            array_free(x);
            array_free(sum);
            array_free(own);
            array_free(out);
        }
}
END_TEST

/* Elements as f32, and back. */
static std::vector<float> widened(array &a) {
    std::vector<float> v(a.n + 1); /* has an address even if empty */
    if (a.type == WEFT_F32)
        memcpy(v.data(), a.h(), a.n * sizeof(float));
    else
        (a.type == WEFT_BF16 ? K->bf16_to_f32 : K->f16_to_f32)(a.n, (const uint16_t *)a.h(), v.data());
    return v;
}

static void narrowed(const std::vector<float> &v, weft_dtype t, size_t n, void *to) {
    if (t == WEFT_F32)
        memcpy(to, v.data(), n * sizeof(float));
    else
        (t == WEFT_BF16 ? K->f32_to_bf16 : K->f32_to_f16)(n, v.data(), (uint16_t *)to);
}

/* Works between two types, each of f32, bf16 and f16 with each: what the serial kernels do by way of f32. */
START_TEST(sixteens) {
    static const weft_dtype types[] = {WEFT_F32, WEFT_BF16, WEFT_F16};
    const weft_dtype from = types[_i % 3], to = types[_i / 3];
    size_t i, round;
    reseed(180 + (uint64_t)_i);
    for (i = first_size(); i < SIZES; i = next_size(i))
        for (round = 0; round < ROUNDS(sizes[i], 16, 4); round++) {
            const size_t n = sizes[i], *off = offs[round < 8 ? 0 : below(OFFS)];
            const int kind = (int)below(KINDS);
            array x = array_make(from, n, off[0], kind), y = array_make(to, n, off[1], kind);
            weft_sixteen w = weft_sixteen_make((weft_sixteen_op)(round % 4), from, x.d(), to, y.d());
            const bool counts = w.op == WEFT_SIXTEEN_COUNT;
            std::vector<float> vx = widened(x), vy = widened(y);
            weft_slot got[WEFT_SLOTS], *total = total_to();
            w.wire = types[below(3)];
            w.a = below(4) ? 1.0 / (double)(2 + below(8)) : scalar();
            w.times = below(4) ? (double)(1 + below(8)) : scalar();
            if (counts) w.y = NULL;
            OK(weft_device_sixteen(&V, &w, n, counts || below(4) == 0 ? total : NULL));
            switch (w.op) {
            case WEFT_SIXTEEN_CONVERT: narrowed(vx, to, n, y.h()); break;
            case WEFT_SIXTEEN_COUNT: {
                std::vector<unsigned char> stored(4 * n + 1);
                narrowed(vx, to, n, stored.data());
                fetch(total, got);
                check_count("to be stored", to, n, got[0].count,
                            weft_run_count_nonfinite(K, NULL, to, n, stored.data()));
                break;
            }
            case WEFT_SIXTEEN_ADD:
                K->f32.axpy(n, 1.0, vx.data(), vy.data());
                narrowed(vy, to, n, y.h());
                break;
            case WEFT_SIXTEEN_MIX: {
                array sent = y;
                sent.type = w.wire;
                sent.past = 0;
                sent.host.assign(2 * GUARD + 4 * n, 0);
                narrowed(vy, w.wire, n, sent.h());
                K->f32.axpy(n, -w.times, widened(sent).data(), vx.data());
                K->f32.axpy(n, w.a, vx.data(), vy.data());
                narrowed(vy, to, n, y.h());
                break;
            }
            }
            check_array("between: x", x);
            check_array("between: y", y);
            array_free(x);
            array_free(y);
        }
}
END_TEST

/* hpsgd.h takes a payload for zero where its squares are. */
START_TEST(smallest_squares) {
    const size_t ns[] = {1, 4097};
    for (size_t n : ns)
        for (int sign = 0; sign < 2; sign++) {
            array x = array_make(WEFT_BF16, n, 0, USUAL);
            const uint16_t none = (uint16_t)(sign << 15), least = (uint16_t)(none | 1u);
            for (size_t i = 0; i < n; i++) memcpy((unsigned char *)x.h() + 2 * i, &none, 2);
            upload(x);
            ck_assert(weft_run_sqnorm(&D, NULL, WEFT_BF16, n, x.d()) == 0);
            memcpy((unsigned char *)x.h() + 2 * (n - 1), &least, 2);
            upload(x);
            ck_assert(weft_run_sqnorm(&D, NULL, WEFT_BF16, n, x.d()) > 0);
            array_free(x);
        }
}
END_TEST

/* all 65,536 of each, also as f32 whose rounding is close */
START_TEST(sixteen_bit_types) {
    const weft_dtype t = _i ? WEFT_F16 : WEFT_BF16;
    const double half[2] = {0.5, 0.5};
    size_t i, round;
    reseed(200);
    for (round = 0; round < 3; round++) {
        array x = array_make(t, 65536, round, ANY), y = array_make(t, 65536, round, ANY);
        const void *host[2], *device[2];
        for (i = 0; i < 65536; i++) {
            const uint16_t v = (uint16_t)i, near = (uint16_t)(i + (round ? below(3) : 1));
            memcpy((unsigned char *)x.h() + 2 * i, &v, 2);
            memcpy((unsigned char *)y.h() + 2 * i, &near, 2); /* the mean of neighbours is a tie */
        }
        upload(x);
        upload(y);
        host[0] = x.h(), host[1] = y.h(), device[0] = x.d(), device[1] = y.d();
        check_count("hash", t, 65536, weft_run_hash(&D, NULL, t, 65536, 0, x.d()),
                    weft_run_hash(K, NULL, t, 65536, 0, x.h()));
        check_count("mean", t, 65536, weft_run_weighted_sum(&D, NULL, t, 65536, 2, half, device, y.d()),
                    weft_run_weighted_sum(K, NULL, t, 65536, 2, half, host, y.h()));
        check_array("mean", y);
        for (i = 0; i < 8; i++) {
            const double a = i < 4 ? 1.0 / (double)(4u << i) : 1.0 + below(1000) / 999.0;
            weft_run_scale(&D, NULL, t, 65536, a, x.d(), y.d());
            weft_run_scale(K, NULL, t, 65536, a, x.h(), y.h());
            check_array("scale", y);
        }
        array_free(x);
        array_free(y);
    }
}
END_TEST

/* ---- many pieces, many launches ---- */

/* More pieces than blocks of threads, and than a warp looks at: adding up goes from hand to hand. */
START_TEST(many_pieces) {
    const weft_dtype t = (weft_dtype)_i;
    const size_t n = (t == WEFT_F32 ? 43u : 21u) * 65536u + 12345u;
    array x = array_make(t, n, (size_t)_i, USUAL), y = array_make(t, n, 1, USUAL), z = array_make(t, n, 0, USUAL);
    const weft_sgd o = {0.1, 0.9, 0.001, 1, 0};
    weft_slot *total, got[4][WEFT_SLOTS];
    size_t i;
    reseed(300 + (uint64_t)_i);
    ck_assert_uint_le(n, MOST);
    OK(cudaMalloc((void **)&total, sizeof got));
    /* one after the other, nobody waits between them */
    OK(enqueue(work_of(WEFT_OP_DOTS, t, n, x.d(), y.d()), total));
    OK(enqueue(work_of(WEFT_OP_SQNORM, t, 65536 + 1, x.d(), NULL), total + WEFT_SLOTS));
    OK(enqueue(work_sgd(t, n, &o, x.d(), y.d(), z.d()), total + 2 * WEFT_SLOTS));
    OK(enqueue(work_of(WEFT_OP_DOT, t, n, z.d(), y.d()), total + 3 * WEFT_SLOTS));
    OK(cudaStreamSynchronize(V.stream));
    OK(cudaMemcpy(got, total, sizeof got, cudaMemcpyDeviceToHost));
    const weft_dots d = weft_run_dots(G, NULL, t, n, x.h(), y.h());
    check_sum("xy", t, n, got[0][0].sum, d.xy);
    check_sum("xx", t, n, got[0][1].sum, d.xx);
    check_sum("yy", t, n, got[0][2].sum, d.yy);
    check_sum("sqnorm", t, 65537, got[1][0].sum, weft_run_sqnorm(K, NULL, t, 65537, x.h()));
    const weft_grad_stats s = weft_run_sgd(G, NULL, t, n, &o, x.h(), y.h(), z.h());
    check_sum("sgd", t, n, got[2][0].sum, s.squared_norm);
    check_count("sgd", t, n, got[2][1].count, s.nonfinite);
    check_sum("after", t, n, got[3][0].sum, weft_run_dot(G, NULL, t, n, z.h(), y.h()));
    check_array("velocity", y);
    check_array("model", z);
    /* counts of many blocks, and zeros left for the next one */
    for (i = 0; i < 3; i++) {
        OK(enqueue(work_of(WEFT_OP_HASH, t, n, x.d(), NULL, i), pinned));
        fetch(pinned, got[0]);
        check_count("hash", t, n, got[0][0].count, weft_run_hash(K, NULL, t, n, i, x.h()));
    }
    array_free(x);
    array_free(y);
    array_free(z);
    OK(cudaFree(total));
}
END_TEST

/* Sums and counts of gradients that are not finite, by turns with others: what one launch leaves, the next one finds. */
START_TEST(launches_in_a_row) {
    enum { N = 40 };
    weft_slot *total, got[N][WEFT_SLOTS];
    const weft_sgd o = {0.1, 0.0, 0.0, 0, 0};
    reseed(400);
    array x = array_make(WEFT_F32, 20000, 0, BAD), y = array_make(WEFT_F32, 20000, 0, USUAL);
    size_t i;
    OK(cudaMalloc((void **)&total, sizeof got));
    for (i = 0; i < N; i++) {
        weft_slot *const to = total + i * WEFT_SLOTS;
        switch (i % 4) {
        case 0: OK(enqueue(work_sgd(WEFT_F32, 20000 - i, &o, x.d(), NULL, y.d()), to)); break;
        case 1: OK(enqueue(work_of(WEFT_OP_COUNT, WEFT_F32, 20000 - i, x.d(), NULL), to)); break;
        case 2: OK(enqueue(work_of(WEFT_OP_SQNORM, WEFT_F32, 500 * i, y.d(), NULL), to)); break;
        default: OK(enqueue(work_sgd(WEFT_F32, 0, &o, x.d(), NULL, y.d()), to)); break;
        }
    }
    OK(cudaStreamSynchronize(V.stream));
    OK(cudaMemcpy(got, total, sizeof got, cudaMemcpyDeviceToHost));
    for (i = 0; i < N; i++) {
        weft_grad_stats s;
        switch (i % 4) {
        case 0:
            s = weft_run_sgd(G, NULL, WEFT_F32, 20000 - i, &o, x.h(), NULL, y.h());
            check_sum("sgd", WEFT_F32, i, got[i][0].sum, s.squared_norm);
            check_count("sgd", WEFT_F32, i, got[i][1].count, s.nonfinite);
            break;
        case 1:
            check_count("count", WEFT_F32, i, got[i][0].count,
                        weft_run_count_nonfinite(K, NULL, WEFT_F32, 20000 - i, x.h()));
            break;
        case 2:
            check_sum("sqnorm", WEFT_F32, i, got[i][0].sum, weft_run_sqnorm(K, NULL, WEFT_F32, 500 * i, y.h()));
            break;
        default:
            check_sum("nothing", WEFT_F32, i, got[i][0].sum, 0.0);
            check_count("nothing", WEFT_F32, i, got[i][1].count, 0);
        }
    }
    check_array("model", y);
    array_free(x);
    array_free(y);
    OK(cudaFree(total));
}
END_TEST

/* Many small fights for the lock: each sum and count once, and nothing of one launch in the next. */
START_TEST(contended) {
    enum { N = THREADS ? 4 : 24 };
    const size_t n = 5 * 65536 + 100;
    const weft_sgd o = {0.1, 0.0, 0.0, 0, 0};
    weft_slot *total, got[N][WEFT_SLOTS];
    reseed(500);
    array x = array_make(WEFT_BF16, n, 0, BAD), y = array_make(WEFT_F32, n, 0, USUAL);
    array z = array_make(WEFT_BF16, n, 0, USUAL);
    size_t i;
    OK(cudaMalloc((void **)&total, sizeof got));
    for (i = 0; i < N; i++)
        if (i % 2)
            OK(enqueue(work_of(WEFT_OP_SQNORM, WEFT_F32, n - 4096 * i, y.d(), NULL), total + i * WEFT_SLOTS));
        else
            OK(enqueue(work_sgd(WEFT_BF16, n - 4096 * i, &o, x.d(), NULL, z.d()), total + i * WEFT_SLOTS));
    OK(cudaStreamSynchronize(V.stream));
    OK(cudaMemcpy(got, total, sizeof got, cudaMemcpyDeviceToHost));
    for (i = 0; i < N; i++)
        if (i % 2)
            check_sum("sqnorm", WEFT_F32, i, got[i][0].sum, weft_run_sqnorm(K, NULL, WEFT_F32, n - 4096 * i, y.h()));
        else {
            const weft_grad_stats s = weft_run_sgd(G, NULL, WEFT_BF16, n - 4096 * i, &o, x.h(), NULL, z.h());
            check_sum("sgd", WEFT_BF16, i, got[i][0].sum, s.squared_norm);
            check_count("sgd", WEFT_BF16, i, got[i][1].count, s.nonfinite);
        }
    check_array("model", z);
    array_free(x);
    array_free(y);
    array_free(z);
    OK(cudaFree(total));
}
END_TEST

/* Two pieces, whose warps come to the lock at the same time in some of many launches: the one that finds it taken goes
   on, and the one that has it must look again after letting go. */
START_TEST(one_goes_on) {
    enum { N = THREADS ? 4 : 600 };
    const size_t n = 65536 + 17;
    weft_slot *total;
    std::vector<weft_slot> got(N * WEFT_SLOTS);
    reseed(600);
    array x = array_make(WEFT_F32, n, 0, USUAL);
    size_t i;
    OK(cudaMalloc((void **)&total, got.size() * sizeof(weft_slot)));
    for (i = 0; i < N; i++) OK(enqueue(work_of(WEFT_OP_SQNORM, WEFT_F32, n, x.d(), NULL), total + i * WEFT_SLOTS));
    OK(cudaStreamSynchronize(V.stream));
    OK(cudaMemcpy(&got[0], total, got.size() * sizeof(weft_slot), cudaMemcpyDeviceToHost));
    const double want = weft_run_sqnorm(K, NULL, WEFT_F32, n, x.h());
    for (i = 0; i < N; i++) check_sum("sqnorm", WEFT_F32, i, got[i * WEFT_SLOTS].sum, want);
    array_free(x);
    OK(cudaFree(total));
}
END_TEST

/* ---- the host's side ---- */

/* A device that fails is broken for good, and the results are zeros. */
static void broken(weft_gpu *u, weft_status how, double sum, uint64_t count) {
    ck_assert_int_eq(u->failed, how);
    ck_assert(sum == 0.0);
    ck_assert_uint_eq(count, 0);
}

START_TEST(what_is_refused) {
    weft_gpu u;
    weft_device &v = u.device;
    const size_t bytes = weft_device_bytes(10000, 40);
    double w[41];
    const void *x[41];
    array a = array_make(WEFT_F32, 12289, 0, USUAL);
    const weft_work most = work_of(WEFT_OP_SQNORM, WEFT_F32, 12288, a.d(), NULL);
    const weft_work more = work_of(WEFT_OP_SQNORM, WEFT_F32, 12289, a.d(), NULL);
    const weft_work count = work_of(WEFT_OP_COUNT, WEFT_F32, 12289, a.d(), NULL);
    const weft_work sum = work_weighted(WEFT_F32, 10, 41, w, x, a.d());
    size_t i;
    memset(&u, 0, sizeof u);
    u.total = on_device;
    u.kernels = *K;
    u.kernels.gpu = &u;
    ck_assert_uint_gt(bytes, 0);
    ck_assert_uint_eq(weft_device_bytes(SIZE_MAX, SIZE_MAX), 0);
    ck_assert_int_eq(weft_device_init(&v, V.stream, scratch, SIZE_MAX, SIZE_MAX, SIZE_MAX), WEFT_ERR_OVERFLOW);
    ck_assert_int_eq(weft_device_init(&v, V.stream, NULL, bytes, 10000, 40), WEFT_ERR_ARGUMENT);
    ck_assert_int_eq(weft_device_init(&v, V.stream, scratch, bytes - 1, 10000, 40), WEFT_ERR_MEMORY);
    OK(weft_device_init(&v, V.stream, scratch, bytes, 10000, 40));
    /* as many blocks as 10,000 elements have, and not one more */
    OK(weft_device_run(&v, &most, on_device));
    ck_assert_int_eq(weft_device_run(&v, &most, NULL), WEFT_ERR_ARGUMENT);
    ck_assert_int_eq(weft_device_run(&v, &more, on_device), WEFT_ERR_CAPACITY);
    OK(weft_device_run(&v, &count, on_device));
    ck_assert_int_eq(weft_device_run(&v, &count, NULL), WEFT_ERR_ARGUMENT);
    for (i = 0; i < 41; i++) w[i] = 1.0, x[i] = a.d();
    ck_assert_int_eq(weft_device_run(&v, &sum, on_device), WEFT_ERR_CAPACITY);
    broken(&u, WEFT_ERR_CAPACITY, 0.0, weft_run_weighted_sum(&u.kernels, NULL, WEFT_F32, 10, 41, w, x, a.d()));
    u.failed = WEFT_OK;
    w[7] = 0.0;
    OK(weft_device_run(&v, &sum, on_device)); /* once: what is refused leaves the model as it is */
    for (i = 0; i < 41; i++) x[i] = a.h();
    ck_assert_uint_eq(weft_run_weighted_sum(K, NULL, WEFT_F32, 10, 41, w, x, a.h()), 0);
    broken(&u, WEFT_ERR_CAPACITY, weft_run_sqnorm(&u.kernels, NULL, WEFT_F32, 12289, a.d()), 0);
    broken(&u, WEFT_ERR_CAPACITY, weft_run_sqnorm(&u.kernels, NULL, WEFT_F32, 12288, a.d()), 0); /* sticky */
    u.failed = WEFT_OK;
    check_sum("sqnorm", WEFT_F32, 12288, weft_run_sqnorm(&u.kernels, NULL, WEFT_F32, 12288, a.d()),
              weft_run_sqnorm(K, NULL, WEFT_F32, 12288, a.h()));
    OK(u.failed);
    /* the runtime's own errors are handed on */
    v.grid = 0;
    ck_assert_int_eq(weft_device_run(&v, &count, on_device), WEFT_ERR_UNSUPPORTED);
    ck_assert_int_eq(v.error, cudaErrorInvalidConfiguration);
    cudaGetLastError();
    broken(&u, WEFT_ERR_DEVICE, 0.0, weft_run_count_nonfinite(&u.kernels, NULL, WEFT_F32, 10, a.d()));
    cudaGetLastError();
    check_array("refused", a);
    array_free(a);
}
END_TEST

START_TEST(subnormals_are_kept) {
    weft_slot got[WEFT_SLOTS];
    OK(weft_device_float_probe(&V, on_device));
    fetch(on_device, got);
    ck_assert_uint_eq(got[0].count, 0);
}
END_TEST

#ifndef __CUDACC__
/* ---- does the shim notice? ---- */
struct fault_job {
    unsigned *out;
    unsigned branch;
};

static void reverse(const fault_job j, bool barrier) {
    WEFT_SHARED(unsigned, v);
    v[threadIdx.x] = threadIdx.x;
    if (barrier) __syncthreads();
    j.out[threadIdx.x] = v[blockDim.x - 1 - threadIdx.x];
}
static void whole(const fault_job j) {
    reverse(j, true);
}
static void no_barrier(const fault_job j) {
    reverse(j, false);
}
static void barrier_in_branch(const fault_job j) {
    if (threadIdx.x < j.branch) __syncthreads();
    j.out[threadIdx.x] = 1;
}
static void two_barriers(const fault_job j) {
    if (threadIdx.x < j.branch)
        __syncthreads();
    else
        __syncthreads();
    j.out[threadIdx.x] = 1;
}
static void half_a_warp(const fault_job j) {
    if (threadIdx.x % 32 < j.branch) j.out[threadIdx.x] = __shfl_sync(0xFFFFFFFFu, threadIdx.x, 0);
}
static void lane_without_mask(const fault_job j) {
    j.out[threadIdx.x] = __ballot_sync(0xFFFFu, 1);
}
static void lanes(const fault_job j) {
    j.out[threadIdx.x] =
        __shfl_down_sync(0xFFFFFFFFu, threadIdx.x % 32, 8, 16) + 100 * __ballot_sync(0xFFFFFFFFu, threadIdx.x == 5);
}
static void count_all(const fault_job j) {
    atomicAdd(&j.out[0], 1u);
}
static void count_badly(const fault_job j) {
    const unsigned was = j.out[0];
    __threadfence();
    j.out[0] = was + 1;
}
WEFT_UNUSED static void behind_shared(const fault_job j) {
    WEFT_SHARED(unsigned, word);
    word[j.branch] = 1;
}
WEFT_UNUSED static void beyond(const fault_job j) {
    j.out[j.branch] = 1;
}

static cudaError_t try_fault(void (*kernel)(const fault_job), unsigned grid, unsigned threads, unsigned branch,
                             unsigned *out) {
    cudaError_t e;
    fault_job j = {NULL, branch};
    cudaMalloc((void **)&j.out, 1024 * sizeof *out);
    cudaMemsetAsync(j.out, 0, 1024 * sizeof *out, NULL);
    WEFT_LAUNCH(e, kernel, grid, threads, 4 * threads, (cudaStream_t)NULL, j);
    if (e == cudaSuccess) e = cudaDeviceSynchronize();
    if (e == cudaSuccess) e = cudaMemcpy(out, j.out, 1024 * sizeof *out, cudaMemcpyDeviceToHost);
    cudaFree(j.out);
    return e;
}

START_TEST(shim_threads) {
    unsigned out[1024], i;
    OK(try_fault(whole, 3, 256, 0, out));
    for (i = 0; i < 256; i++) ck_assert_uint_eq(out[i], 255 - i);
    OK(try_fault(lanes, 1, 64, 0, out));
    for (i = 0; i < 32; i++) ck_assert_uint_eq(out[i], (i % 16 < 8 ? i + 8 : i) + 3200);
    OK(try_fault(count_all, 5, 96, 0, out));
    ck_assert_uint_eq(out[0], 480);
    OK(try_fault(barrier_in_branch, 1, 64, 64, out)); /* all of them */
    OK(try_fault(half_a_warp, 1, 64, 32, out));
    OK(try_fault(count_all, 1, 1024, 0, out));
}
END_TEST

START_TEST(shim_notices) {
    unsigned out[1024], i, wrong = 0;
    OK(try_fault(no_barrier, 1, 256, 0, out));
    for (i = 0; i < 256; i++) wrong += out[i] != 255 - i;
    ck_assert_uint_gt(wrong, 0);
    OK(try_fault(count_badly, 4, 256, 0, out));
    ck_assert_uint_lt(out[0], 1024);
    ck_assert_int_eq(try_fault(barrier_in_branch, 2, 64, 32, out), cudaErrorLaunchFailure);
    ck_assert_int_eq(try_fault(barrier_in_branch, 1, 64, 63, out), cudaErrorLaunchFailure);
    ck_assert_int_eq(try_fault(two_barriers, 1, 64, 32, out), cudaErrorLaunchFailure);
    ck_assert_int_eq(try_fault(half_a_warp, 1, 64, 16, out), cudaErrorLaunchFailure);
    ck_assert_int_eq(try_fault(lane_without_mask, 1, 32, 0, out), cudaErrorLaunchFailure);
    ck_assert_int_eq(try_fault(whole, 1, 2048, 0, out), cudaErrorInvalidConfiguration);
    ck_assert_int_eq(try_fault(whole, 0, 32, 0, out), cudaErrorInvalidConfiguration);
    OK(try_fault(behind_shared, 2, 64, 63, out));
    ck_assert_int_eq(try_fault(behind_shared, 2, 64, 64, out), cudaErrorLaunchFailure);
    OK(try_fault(whole, 1, 256, 0, out)); /* and goes on */
}
END_TEST

static sigjmp_buf back;
static void caught(int signal) {
    siglongjmp(back, signal);
}

START_TEST(shim_guards_memory) {
    struct sigaction act, was;
    unsigned char *p, host[16];
    volatile unsigned char seen = 0;
    volatile int faults = 0;
    memset(&act, 0, sizeof act);
    act.sa_handler = caught;
    sigaction(SIGSEGV, &act, &was);
    OK(cudaMalloc((void **)&p, 100));
    if (sigsetjmp(back, 1))
        faults = faults + 1;
    else
        seen = p[0];
    if (sigsetjmp(back, 1))
        faults = faults + 1;
    else
        p[99] = 1;
    ck_assert_int_eq(faults, 2);
    sigaction(SIGSEGV, &was, NULL);
    (void)seen;
    /* poisoned */
    OK(cudaMemcpy(host, p, 16, cudaMemcpyDeviceToHost));
    ck_assert(host[0] == 0xFF && host[15] == 0xFF);
    ck_assert_int_eq(cudaMemcpy(host, p, 16, cudaMemcpyHostToDevice), cudaErrorInvalidValue);
    ck_assert_int_eq(cudaMemcpy(p, host, 16, cudaMemcpyDeviceToHost), cudaErrorInvalidValue);
    ck_assert_int_eq(cudaMemcpy(p + 4096, host, 8, cudaMemcpyHostToDevice), cudaErrorInvalidValue);
    OK(cudaFree(p));
    ck_assert_int_eq(cudaFree(host), cudaErrorInvalidValue);
}
END_TEST

#ifndef __SANITIZE_ADDRESS__ /* which makes an exit of the signal */
START_TEST(shim_ends_memory) {
    unsigned out[1024];
    (void)try_fault(beyond, 1, 1, 1024, out);
}
END_TEST
#endif

/* A result that is read too early is not there. */
START_TEST(shim_waits_for_the_host) {
    array x = array_make(WEFT_F32, 5000, 0, USUAL);
    const double want = weft_run_sqnorm(K, NULL, WEFT_F32, 5000, x.h());
    pinned[0].count = UINT64_MAX;
    OK(enqueue(work_of(WEFT_OP_SQNORM, WEFT_F32, 5000, x.d(), NULL), pinned));
    ck_assert(pinned[0].count == UINT64_MAX);
    OK(cudaStreamSynchronize(V.stream));
    check_sum("sqnorm", WEFT_F32, 5000, pinned[0].sum, want);
    array_free(x);
}
END_TEST

/* ---- does the thread sanitizer? ---- */

/* A word from one block to all threads of another: there after out[0] is set. branch: 1 without the fence of who tells,
 * 2 without that of who hears. The sanitizer only remembers the last accesses to eight bytes: they are apart. */
static void tell(const fault_job j) {
    if (blockIdx.x == 0) {
        if (threadIdx.x) return;
        j.out[16] = 5;
        if (j.branch != 1) __threadfence();
        atomicExch(&j.out[0], 1u);
        return;
    }
    while (!((const volatile unsigned *)j.out)[0]) cushim::yield();
    if (j.branch != 2) __threadfence();
    j.out[32 + threadIdx.x] = j.out[16];
}
/* From one lane to its warp. branch: 1 with no more than an exchange */
static void tell_warp(const fault_job j) {
    WEFT_SHARED(unsigned, v);
    if (threadIdx.x == 0) v[0] = 7;
    if (j.branch == 1)
        (void)__shfl_sync(0xFFFFFFFFu, threadIdx.x, 0);
    else
        __syncwarp();
    j.out[threadIdx.x] = v[0];
}

START_TEST(threads_in_order) {
    unsigned out[1024], i;
    OK(try_fault(whole, 1, 256, 0, out));
    for (i = 0; i < 256; i++) ck_assert_uint_eq(out[i], 255 - i);
    OK(try_fault(lanes, 1, 64, 0, out));
    for (i = 0; i < 32; i++) ck_assert_uint_eq(out[i], (i % 16 < 8 ? i + 8 : i) + 3200);
    OK(try_fault(count_all, 5, 96, 0, out));
    ck_assert_uint_eq(out[0], 480);
    OK(try_fault(tell, 2, 64, 0, out));
    for (i = 0; i < 64; i++) ck_assert_uint_eq(out[32 + i], 5);
    OK(try_fault(tell_warp, 1, 32, 0, out));
    for (i = 0; i < 32; i++) ck_assert_uint_eq(out[i], 7);
}
END_TEST

/* Each of them is a process that ends with the sanitizer's status, in which nothing else is wrong. */
START_TEST(threads_in_none) {
    unsigned out[1024];
    switch (_i) {
    case 0: OK(try_fault(no_barrier, 1, 256, 0, out)); break;
    case 1: OK(try_fault(count_badly, 2, 32, 0, out)); break;
    case 2: OK(try_fault(tell, 2, 64, 1, out)); break;
    case 3: OK(try_fault(tell, 2, 64, 2, out)); break;
    default: OK(try_fault(tell_warp, 1, 32, 1, out)); break;
    }
}
END_TEST
#endif

static TCase *add(Suite *s, const char *name) {
    TCase *c = tcase_create(name);
    tcase_add_checked_fixture(c, setup, teardown);
    tcase_set_timeout(c, 300);
    suite_add_tcase(s, c);
    return c;
}

#ifdef __SANITIZE_THREAD__
#define SEES_RACES 1
/* After a race threads may come to other barriers, for good. */
extern "C" const char *__tsan_default_options(void) {
    return "halt_on_error=1";
}
#else
#define SEES_RACES 0
#endif

#ifndef __CUDACC__
/* In processes of their own, before this one has threads. */
static int planted_races(void) {
    Suite *races = suite_create("races");
    SRunner *r = srunner_create(races);
    int failed;
    tcase_add_loop_exit_test(add(races, "races"), threads_in_none, 66, 0, 5);
    if (srunner_fork_status(r) == CK_FORK) srunner_run_all(r, CK_NORMAL);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed;
}
#endif

int main(void) {
    Suite *works = suite_create("works"), *order = suite_create("order"), *host = suite_create("host");
    SRunner *r;
    TCase *c;
    int failed = 0;
#ifdef __CUDACC__
    int devices = 0;
    if (cudaGetDeviceCount(&devices) != cudaSuccess || !devices) {
        puts("no GPU");
        return 77;
    }
#endif
    tcase_add_loop_test(add(works, "works"), all_works, 0, 12 * TYPES);
    tcase_add_loop_test(add(works, "sums"), weighted_sums, 0, TYPES);
    tcase_add_loop_test(add(works, "wide"), wide_sums, 0, TYPES);
    tcase_add_loop_test(add(works, "numbers"), subspace_numbers, 0, TYPES);
    tcase_add_loop_test(add(works, "replicas"), replicas, 0, TYPES == 4 ? 3 : 2);
    tcase_add_loop_test(add(works, "sixteens"), sixteens, 0, TYPES == 4 ? 9 : 2);
    tcase_add_test(add(order, "contended"), contended);
    tcase_add_test(add(order, "one goes on"), one_goes_on);
    tcase_add_test(add(host, "probe"), subnormals_are_kept);
    if (!THREADS) {
        tcase_add_test(add(works, "squares"), smallest_squares);
        tcase_add_loop_test(add(works, "sixteen"), sixteen_bit_types, 0, 2);
        tcase_add_loop_test(add(order, "pieces"), many_pieces, 0, 4);
        tcase_add_test(add(order, "launches"), launches_in_a_row);
        tcase_add_test(add(host, "refused"), what_is_refused);
    }
    r = srunner_create(works);
    srunner_add_suite(r, order);
    srunner_add_suite(r, host);
#ifdef __CUDACC__
    srunner_set_fork_status(r, CK_NOFORK); /* a CUDA context does not live in two processes */
#else
    Suite *shim = suite_create("shim");
    c = add(shim, "shim");
    if (THREADS) {
        tcase_add_test(c, threads_in_order);
        if (SEES_RACES) failed = planted_races();
        srunner_set_fork_status(r, CK_NOFORK); /* hundreds of threads are made once */
        alarm(300);                            /* at a barrier that not all come to they wait for good */
    } else {
        tcase_add_test(c, shim_threads);
        tcase_add_test(c, shim_notices);
        tcase_add_test(c, shim_guards_memory);
        tcase_add_test(c, shim_waits_for_the_host);
#ifndef __SANITIZE_ADDRESS__
        if (srunner_fork_status(r) == CK_FORK) tcase_add_test_raise_signal(c, shim_ends_memory, SIGSEGV);
#endif
    }
    srunner_add_suite(r, shim);
#endif
    (void)c;
    srunner_run_all(r, CK_NORMAL);
    failed += srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
