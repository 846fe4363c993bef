/* SPDX-License-Identifier: MIT
 * Codecs on device memory against the serial kernels: the same bytes in messages, the same bits in what is kept and
 * decoded, the same refusals. Compiled by a C++ compiler they run on the CPU (cuda_shim.h); compiled by nvcc (make
 * cuda-test), on the GPU, or the status is 77 where there is none. */
#define WEFT_CUDA
#ifndef __CUDACC__
#define WEFT_CUDA_RUNTIME "cuda_shim.h"
#endif
#define SADDLE_IMPLEMENTATION
#include "../saddle.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <vector>

#define OK(call) ck_assert_int_eq((int)(call), 0)

typedef std::vector<unsigned char> bytes;

enum { GUARD = 64, MOST = 70000 };

/* ---- seeded numbers: CUSHIM_SEED draws others ---- */
static uint64_t state;

static uint64_t draw(void) {
    return weft_mix(state += UINT64_C(0x9E3779B97F4A7C15));
}

static size_t below(size_t n) {
    return (size_t)(draw() % n);
}

static void reseed(uint64_t salt) {
    const char *s = getenv("CUSHIM_SEED");
    state = weft_mix(salt + 77) + (s ? strtoull(s, NULL, 0) : 0);
}

/* ---- both sides ---- */
static const weft_codec_kernels *serial; /* on the processor */
static weft_codec_kernels far;           /* on the device */
static weft_gpu gpu;
static weft_cuda lent;

static void open_device(void) {
    static const weft_tensor t = {NULL, MOST, WEFT_F64};
    static const weft_tensors list = {const_cast<weft_tensor *>(&t), 1};
    static const weft_kernels *table;
    weft_detail why = weft_detail_none();
    cudaStream_t stream;
    weft_layout l;
    serial = weft_codec_kernels_select(WEFT_ISA_SERIAL, 0);
    OK(cudaStreamCreate(&stream));
    memset(&lent, 0, sizeof lent);
    lent.struct_size = sizeof lent;
    lent.stream = (void *)stream;
    for (int real = 0; real < 2; real++) {
        memset(&l, 0, sizeof l);
        memset(&gpu, 0, sizeof gpu);
        weft_cuda_lend(&lent, &l);
        weft_gpu_layout(&l, &gpu, &list, &list, 1, 1);
        weft_gpu_codec_layout(&l, &gpu, &list);
        if (real) break;
        lent.bytes = weft_layout_device_total(&l);
        OK(cudaMalloc(&lent.memory, lent.bytes));
    }
    table = serial->core;
    OK(weft_gpu_init(&gpu, &lent, &l, &table, &why));
    far = *serial;
    far.core = table;
}

/* The same bytes here and there, `past` bytes behind a guard. */
struct twin {
    bytes host;
    unsigned char *device;
    size_t past;

    twin(size_t n, size_t shift, int fill) : host(2 * GUARD + shift + n, (unsigned char)fill), past(GUARD + shift) {
        void *p;
        OK(cudaMalloc(&p, host.size()));
        device = (unsigned char *)p;
        put();
    }
    twin(const twin &) = delete;
    twin &operator=(const twin &) = delete;
    ~twin() {
        cudaStreamSynchronize(gpu.device.stream); /* what is enqueued may be about it */
        cudaFree(device);
    }
    unsigned char *h() {
        return host.data() + past;
    }
    unsigned char *d() const {
        return device + past;
    }
    void put() {
        OK(cudaMemcpy(device, host.data(), host.size(), cudaMemcpyHostToDevice));
    }
    /* What the device has, guards included, is what the host has. */
    void same(const char *what) {
        bytes is(host.size());
        OK(cudaStreamSynchronize(gpu.device.stream));
        OK(cudaMemcpy(is.data(), device, is.size(), cudaMemcpyDeviceToHost));
        for (size_t i = 0; i < is.size(); i++)
            ck_assert_msg(is[i] == host[i], "%s: byte %ld is %02x, not %02x", what, (long)i - (long)past, is[i],
                          host[i]);
    }
};

static void set(weft_dtype t, unsigned char *p, size_t i, double v) {
    const float f = (float)v;
    uint16_t h;
    if (t == WEFT_F64) memcpy(p + 8 * i, &v, 8);
    if (t == WEFT_F32) memcpy(p + 4 * i, &f, 4);
    if (weft_dtype_bytes(t) != 2) return;
    (t == WEFT_BF16 ? serial->core->f32_to_bf16 : serial->core->f32_to_f16)(1, &f, &h);
    memcpy(p + 2 * i, &h, 2);
}

/* Numbers as they come; of few magnitudes, so that many are equal; zeros; of any size; very small; and with some that
 * are not finite. */
enum { USUAL, TIES, ZEROS, WIDE, TINY, BAD, KINDS };

static double value(int kind) {
    const double v = (double)(int64_t)draw() / 9223372036854775808.0;
    switch (kind) {
    case TIES: return (double)((int)below(5) - 2) * 0.25;
    case ZEROS: return below(40) ? (below(2) ? 0.0 : -0.0) : v;
    case WIDE: return ldexp(v, (int)below(280) - 140);
    case TINY: return ldexp(v, -100 - (int)below(20));
    case BAD: return below(9) ? v : below(2) ? (double)NAN : below(2) ? (double)INFINITY : -(double)INFINITY;
    default: return v;
    }
}

static const weft_codec codecs[] = {
    {WEFT_CODEC_IDENTITY, 0, 0, 0.0}, {WEFT_CODEC_BF16, 0, 0, 0.0},  {WEFT_CODEC_F16, 0, 0, 0.0},
    {WEFT_CODEC_Q8, 0, 0, 0.0},       {WEFT_CODEC_Q4, 0, 0, 0.0},    {WEFT_CODEC_QSGD, 1, 0, 0.0},
    {WEFT_CODEC_QSGD, 4, 1, 0.0},     {WEFT_CODEC_QSGD, 7, 0, 0.0},  {WEFT_CODEC_QSGD, 16, 0, 0.0},
    {WEFT_CODEC_TOPK, 0, 0, 0.9},     {WEFT_CODEC_TOPK, 0, 0, 0.25}, {WEFT_CODEC_TOPK, 0, 0, 0.999},
    {WEFT_CODEC_SIGN, 0, 0, 0.0}};
enum { CODECS = sizeof codecs / sizeof *codecs };
static const weft_dtype types[] = {WEFT_F32, WEFT_F64, WEFT_BF16, WEFT_F16};

/* One tensor, coded twice in chunks of `cut` blocks (0: in one), and decoded, on both sides. */
static void both_ways(const weft_codec *c, weft_dtype t, weft_codec_form form, size_t n, int kind, size_t cut,
                      bool uniforms) {
    const size_t each = weft_dtype_bytes(t), keeps = weft_codec_value_bytes(t), shift = below(9);
    const size_t chunk = cut ? cut * WEFT_CODEC_BLOCK : n;
    twin z(n * each, 8 * below(2), 0x5A), kept(n * keeps, 8 * below(2), 0), out(n * each, 8 * below(2), 0x33);
    twin u(n * sizeof(double), 0, 0);
    weft_codec_job here, there;
    memset(&here, 0, sizeof here);
    here.codec = c;
    here.form = form;
    here.dtype = t;
    here.count = n;
    for (size_t i = 0; i < n; i++) {
        set(t, z.h(), i, value(kind));
        set(t, out.h(), i, value(USUAL));
        set(t == WEFT_F64 ? t : WEFT_F32, kept.h(), i, form ? value(kind == BAD && i % 7 ? USUAL : kind) : 0.0);
        set(WEFT_F64, u.h(), i, (double)(draw() >> 11) / 9007199254740992.0);
    }
    z.put();
    kept.put();
    out.put();
    u.put();
    for (int round = 0; round < 2; round++) {
        weft_codec_scale a, b;
        weft_detail da = weft_detail_none(), db = da;
        weft_status s;
        here.key = weft_codec_key(3, (uint64_t)round, 5, n);
        here.data = z.h();
        here.kept = form ? kept.h() : NULL;
        here.uniform = uniforms ? (const double *)(const void *)u.h() : NULL;
        there = here;
        there.data = z.d();
        there.kept = form ? kept.d() : NULL;
        there.uniform = uniforms ? (const double *)(const void *)u.d() : NULL;
        s = weft_codec_measure(serial, &here, &a, &da);
        ck_assert_int_eq(weft_codec_measure(&far, &there, &b, &db), s);
        ck_assert_uint_eq(da.got, db.got);
        if (s != WEFT_OK) return;
        ck_assert_uint_eq(weft_double_bits(a.step), weft_double_bits(b.step));
        ck_assert_uint_eq(weft_double_bits(a.norm), weft_double_bits(b.norm));
        ck_assert_uint_eq(a.least, b.least);
        ck_assert_uint_eq(a.last, b.last);
        ck_assert_uint_eq(a.nonfinite, b.nonfinite);
        for (size_t first = 0; first < n; first += chunk) {
            const size_t m = n - first < chunk ? n - first : chunk, room = weft_codec_bytes(c, t, n, m);
            const int add = (int)below(2);
            const double weight = below(3) ? 1.0 : 0.3;
            twin message(room, shift, 0x77);
            uint64_t bad = 0, its = 0;
            size_t had, has;
            OK(weft_codec_encode(serial, &here, &a, first, m, message.h(), room, &had, &bad, &da));
            OK(weft_codec_encode(&far, &there, &a, first, m, message.d(), room, &has, &its, &db));
            ck_assert_uint_eq(had, has);
            ck_assert_uint_eq(bad, its);
            if (c->kind == WEFT_CODEC_SIGN && had < room) { /* planes of zeros that do not belong to the message */
                bytes tail(room - had);
                OK(cudaMemcpy(tail.data(), message.d() + had, tail.size(), cudaMemcpyDeviceToHost));
                memcpy(message.h() + had, tail.data(), tail.size());
            }
            message.same("message");
            s = weft_codec_decode_chunk(serial, c, t, n, first, m, message.h(), had, add, weight, out.h(), &da);
            ck_assert_int_eq(
                weft_codec_decode_chunk(&far, c, t, n, first, m, message.d(), had, add, weight, out.d(), &db), s);
        }
        kept.same("kept");
        out.same("decoded");
    }
    z.same("data");
}

START_TEST(codecs_have_the_bits_of_the_serial_kernels) {
#ifdef CUSHIM_PTHREADS /* it is not the values that matter */
    static const size_t sizes[] = {5, 257, 5, 257, 300, 300, 300, 300, 300};
    enum { TYPES = 2, TURNS = 1 };
#else
    static const size_t sizes[] = {1, 5, 31, 255, 256, 257, 770, 4099, 9000};
    enum { TYPES = 4, TURNS = 3 }; /* with all seeds, most sizes */
#endif
    const weft_codec *c = &codecs[_i];
    reseed((uint64_t)_i);
    for (size_t t = 0; t < TYPES; t++)
        for (int form = 0; form < 3; form++)
            for (int turn = 0; turn < TURNS; turn++)
                both_ways(c, types[t], (weft_codec_form)form, sizes[below(turn ? 9 : 6)], (int)below(KINDS), below(4),
                          c->kind == WEFT_CODEC_QSGD && below(2));
}
END_TEST

/* Every kind of numbers; and a tensor whose blocks are more than the threads that add up their counts. */
START_TEST(numbers_of_all_kinds) {
    const weft_codec *c = &codecs[_i];
    reseed(100 + (uint64_t)_i);
#ifdef CUSHIM_PTHREADS
    const int kinds = 1;
#else
    const int kinds = KINDS;
#endif
    for (int kind = 0; kind < kinds; kind++)
        for (int form = 0; form < 3; form++)
            both_ways(c, below(3) ? WEFT_F32 : WEFT_F64, (weft_codec_form)form, 1 + below(2000), kind, below(3), false);
}
END_TEST

START_TEST(large_tensors) {
    static const weft_codec topk = weft_codec_topk(0.5), sign = weft_codec_sign();
    reseed(200);
#if defined __SANITIZE_ADDRESS__ || defined CUSHIM_PTHREADS
    both_ways(&sign, WEFT_F32, WEFT_CODEC_PLAIN, 9000, TIES, 0, false);
    both_ways(&topk, WEFT_F32, WEFT_CODEC_FEEDBACK, 9000, TIES, 0, false);
#else
    both_ways(&sign, WEFT_F32, WEFT_CODEC_PLAIN, MOST, USUAL, 0, false);
    both_ways(&topk, WEFT_F64, WEFT_CODEC_FEEDBACK, MOST, TIES, 0, false);
    both_ways(&topk, WEFT_F32, WEFT_CODEC_DIFFERENCE, MOST - 1, TIES, 100, false);
    static const weft_codec most = weft_codec_topk(0.001);
    both_ways(&most, WEFT_F32, WEFT_CODEC_PLAIN, MOST, ZEROS, 0, false);
#endif
}
END_TEST

/* Any bytes: refused on both sides for the same reason, and then nothing is changed; or decoded alike. */
START_TEST(hostile_messages) {
    const weft_codec *c = &codecs[_i];
    reseed(300 + (uint64_t)_i);
    unsigned refused = 0;
#ifdef CUSHIM_PTHREADS
    const int turns = 20;
#else
    const int turns = 60;
#endif
    for (int turn = 0; turn < turns; turn++) {
        const weft_dtype t = types[below(2)];
        const size_t n = 1 + below(700), each = weft_dtype_bytes(t), room = weft_codec_bytes(c, t, n, n);
        twin z(n * each, 0, 0), out(n * each, 0, 0x21), message(room + 8, below(5), 0);
        weft_codec_scale scale;
        weft_detail da = weft_detail_none(), db = da;
        weft_codec_job j;
        size_t had;
        weft_status s;
        memset(&j, 0, sizeof j);
        j.codec = c;
        j.dtype = t;
        j.count = n;
        j.data = z.h();
        j.key = draw();
        for (size_t i = 0; i < n; i++) set(t, z.h(), i, value(TIES));
        OK(weft_codec_measure(serial, &j, &scale, &da));
        OK(weft_codec_encode(serial, &j, &scale, 0, n, message.h(), room, &had, NULL, &da));
        switch (below(4)) {
        case 0: /* a number of it is none */
            for (size_t i = below(4); i + 4 <= had; i += 4 + 4 * below(40)) weft_put32(message.h() + i, 0x7FC00000u);
            break;
        case 1: had = below(2) ? below(had + 1) : had + 1 + below(7); break;
        case 2: message.h()[below(had)] ^= (unsigned char)(1u << below(8)); break;
        default: { /* an index twice, or out of bounds */
            const size_t pairs = had / (4 + weft_codec_value_bytes(t)), i = 1 + below(pairs + 1);
            if ((c->kind == WEFT_CODEC_Q8 || c->kind == WEFT_CODEC_Q4) && n > WEFT_CODEC_BLOCK) /* or the last step */
                weft_put32(message.h() +
                               (n - 1) / WEFT_CODEC_BLOCK * weft_codec_quantised_bytes(c->kind, WEFT_CODEC_BLOCK),
                           below(2) ? 0xBF800000u : 0x7F000000u);
            if (c->kind == WEFT_CODEC_TOPK && i < pairs)
                weft_put32(message.h() + i * (4 + each),
                           below(2) ? weft_get32(message.h() + (i - 1) * (4 + each)) : (uint32_t)(n + below(9)));
            break;
        }
        }
        message.put();
        s = weft_codec_decode_add(serial, c, t, n, 0, n, message.h(), had, 0.5, out.h(), &da);
        ck_assert_int_eq(weft_codec_decode_add(&far, c, t, n, 0, n, message.d(), had, 0.5, out.d(), &db), s);
        refused += s != WEFT_OK;
        if (s != WEFT_OK) {
            ck_assert_str_eq(da.field, db.field);
            ck_assert_uint_eq(da.expected, db.expected);
            if (strcmp(da.field, "index")) ck_assert_uint_eq(da.got, db.got); /* of several any is told */
        }
        out.same("out");
    }
    ck_assert_int_gt((int)refused, turns / 20);
}
END_TEST

/* Whatever a GPU that has failed makes of messages, none is taken for sound and written anywhere. */
START_TEST(after_a_failure_nothing_is_decoded) {
    const weft_codec c = weft_codec_topk(0.5);
    twin out(8 * sizeof(float), 0, 0x21), message(4 * 8, 0, 0);
    weft_detail why = weft_detail_none();
    for (size_t i = 0; i < 4; i++) weft_put32(message.h() + 8 * i, (uint32_t)(1000000 + i));
    message.put();
    ck_assert_int_eq(weft_codec_decode_add(&far, &c, WEFT_F32, 8, 0, 8, message.d(), 32, 1.0, out.d(), &why),
                     WEFT_ERR_PROTOCOL);
    gpu.failed = WEFT_ERR_DEVICE;
    OK(weft_codec_decode_add(&far, &c, WEFT_F32, 8, 0, 8, message.d(), 32, 1.0, out.d(), &why));
    OK(weft_codec_decode(&far, &c, WEFT_F32, 8, 0, 8, message.d(), 32, out.d(), &why));
    out.same("out");
    gpu.failed = WEFT_OK;
}
END_TEST

START_TEST(places_change) {
    reseed(400);
    for (size_t n = 4; n < 3000; n = n * 3 + 4) {
        twin a(n, 4 * below(3), 0x11), b(n, 4 * below(3), 0x22);
        for (size_t i = 0; i < n; i++) {
            a.h()[i] = (unsigned char)draw();
            b.h()[i] = (unsigned char)draw();
        }
        a.put();
        b.put();
        weft_gpu_exchange(&gpu, a.d(), b.d(), n);
        OK(gpu.failed);
        std::swap_ranges(a.h(), a.h() + n, b.h());
        a.same("first");
        b.same("second");
    }
}
END_TEST

static void add(SRunner *r, const char *name, const TTest *t, int end) {
    Suite *s = suite_create(name);
    TCase *c = tcase_create(name);
    tcase_set_timeout(c, 300);
    tcase_add_checked_fixture(c, open_device, NULL);
    tcase_add_loop_test(c, t, 0, end);
    suite_add_tcase(s, c);
    srunner_add_suite(r, s);
}

int main(void) {
    SRunner *r = srunner_create(NULL);
    int devices = 0, failed;
    if (cudaGetDeviceCount(&devices) != cudaSuccess || !devices) {
        printf("no GPU\n");
        return 77;
    }
    add(r, "codecs", codecs_have_the_bits_of_the_serial_kernels, CODECS);
    add(r, "numbers", numbers_of_all_kinds, CODECS);
    add(r, "large", large_tensors, 1);
    add(r, "hostile", hostile_messages, CODECS);
    add(r, "failed", after_a_failure_nothing_is_decoded, 1);
    add(r, "places", places_change, 1);
#ifdef __CUDACC__
    srunner_set_fork_status(r, CK_NOFORK); /* a context of the GPU does not live through a fork */
#endif
    srunner_run_all(r, CK_ENV);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
