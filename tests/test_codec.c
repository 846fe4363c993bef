/* SPDX-License-Identifier: MIT
 * Codecs (src/weft/codec.h): sizes, what comes out and how far it is from what went in, that nothing is lost however a
 * tensor is cut, the same bits from every instruction set, and what hostile messages can do, which is nothing. */
#define SADDLE_IMPLEMENTATION
#include "../saddle.h"

/* A header that is implemented after this one. */
#ifdef BESIDE
#define GRAWA_IMPLEMENTATION
#include BESIDE
#endif

#include <check.h>
#include <stdio.h>
#include <stdlib.h>

/* A set that is none of the header's: see test_codec_wide.c. */
#ifdef EXTRA_SET
#include EXTRA_SET
#endif

#ifdef EMULATED /* too slow for all of them */
#define SOME(n) ((n) / 10)
#else
#define SOME(n) (n)
#endif

/* ---- seeded numbers: WEFT_SEED replays a failure ---- */
static uint64_t seed = 20240607, state;

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

static size_t below(size_t n) {
    return (size_t)(draw() % n);
}
static double uniform(void) {
    return (double)(draw() >> 11) / 9007199254740992.0;
}
static double normal(void) {
    double s = 0;
    int i;
    for (i = 0; i < 12; i++) s += uniform();
    return s - 6;
}

static void *room(size_t bytes) {
    void *p = malloc(bytes + 1);
    if (!p) abort();
    memset(p, 0xA5, bytes + 1);
    return p;
}

/* ---- the sets of kernels ---- */
static const weft_codec_kernels *sets[WEFT_ISA_COUNT + 1];
static size_t set_count;

static void find_sets(void) {
    int i;
    set_count = 0;
    for (i = WEFT_ISA_SERIAL; i < WEFT_ISA_COUNT; i++) {
        const weft_codec_kernels *k = weft_codec_kernels_select((weft_isa)i, 0);
        if (k) {
            printf("kernels: %s\n", weft_isa_name((weft_isa)i));
            sets[set_count++] = k;
        }
    }
#ifdef EXTRA_SET
    sets[set_count++] = &weft_codec_kernels_wide[0];
#endif
}
#define K (sets[set_count - 1])

/* ---- the codecs ---- */
#define CODECS 12
static weft_codec codec_at(size_t i) {
    switch (i) {
    case 0: return weft_codec_identity();
    case 1: return weft_codec_bf16();
    case 2: return weft_codec_f16();
    case 3: return weft_codec_q8();
    case 4: return weft_codec_q4();
    case 5: return weft_codec_qsgd(1, 0);
    case 6: return weft_codec_qsgd(4, 1);
    case 7: return weft_codec_qsgd(8, 0);
    case 8: return weft_codec_qsgd(16, 0);
    case 9: return weft_codec_topk(0.9);
    case 10: return weft_codec_topk(0.25);
    default: return weft_codec_sign();
    }
}

/* ---- tensors ---- */
typedef struct vector {
    weft_dtype dtype;
    size_t n;
    void *p;
} vector;

static vector vector_make(weft_dtype t, size_t n) {
    vector v;
    v.dtype = t;
    v.n = n;
    v.p = room(n * weft_dtype_bytes(t));
    memset(v.p, 0, n * weft_dtype_bytes(t));
    return v;
}
static double get(const vector *v, size_t i) {
    float f = 0;
    switch (v->dtype) {
    case WEFT_F32: return (double)((const float *)v->p)[i];
    case WEFT_F64: return ((const double *)v->p)[i];
    case WEFT_BF16: K->core->bf16_to_f32(1, (const uint16_t *)v->p + i, &f); break;
    case WEFT_F16: K->core->f16_to_f32(1, (const uint16_t *)v->p + i, &f); break;
    }
    return (double)f;
}
static void put(vector *v, size_t i, double x) {
    const float f = (float)x;
    switch (v->dtype) {
    case WEFT_F32: ((float *)v->p)[i] = f; break;
    case WEFT_F64: ((double *)v->p)[i] = x; break;
    case WEFT_BF16: K->core->f32_to_bf16(1, &f, (uint16_t *)v->p + i); break;
    case WEFT_F16: K->core->f32_to_f16(1, &f, (uint16_t *)v->p + i); break;
    }
}
static weft_dtype kept_type(weft_dtype t) {
    return t == WEFT_F64 ? WEFT_F64 : WEFT_F32;
}

enum { NORMAL, SPARSE, TIED, WHOLE, WIDE_RANGE, KINDS };

static double value(int kind) {
    switch (kind) {
    case NORMAL: return normal();
    case SPARSE: return below(8) ? 0.0 : normal();
    case TIED: return (double)((int)below(7) - 3) / 4;
    case WHOLE: return (double)((int)below(2001) - 1000);
    default: return normal() * (double)weft_bits_f32((uint32_t)(64 + below(100)) << 23);
    }
}

static vector vector_draw(weft_dtype t, size_t n, int kind) {
    vector v = vector_make(t, n);
    size_t i;
    for (i = 0; i < n; i++) {
        double x = value(kind);
        if (t == WEFT_F16) x = fmax(-60000, fmin(x, 60000));
        put(&v, i, x);
    }
    return v;
}

/* ---- a tensor through a codec, in chunks ---- */
typedef struct piece {
    size_t first, count, bytes;
    unsigned char *message; /* exactly `bytes`, so that a sanitizer sees what is read beyond */
} piece;

typedef struct coded {
    weft_codec codec;
    weft_codec_job job;
    weft_codec_scale scale;
    piece *chunk;
    size_t chunks;
    uint64_t nonfinite;
    weft_detail d;
} coded;

static void coded_free(coded *c) {
    size_t i;
    for (i = 0; i < c->chunks; i++) free(c->chunk[i].message);
    free(c->chunk);
}

/* `cuts`: 0 one chunk, 1 blocks, else drawn; in an order that is drawn if they are. */
static coded code(const weft_codec_kernels *k, weft_codec codec, weft_codec_form form, const vector *data, vector *kept,
                  uint64_t key, int cuts) {
    coded c;
    size_t at, i;
    weft_status s;
    memset(&c, 0, sizeof c);
    c.d = weft_detail_none();
    c.codec = codec;
    c.job.codec = &codec;
    c.job.form = form;
    c.job.dtype = data->dtype;
    c.job.count = data->n;
    c.job.data = data->p;
    c.job.kept = form ? kept->p : NULL;
    c.job.key = key;
    s = weft_codec_measure(k, &c.job, &c.scale, &c.d);
    ck_assert_msg(s == WEFT_OK, "measure: %s, %s", weft_strerror(s), c.d.field);
    c.chunk = (piece *)calloc(data->n / 256 + 2, sizeof *c.chunk);
    for (at = 0; at < data->n || !c.chunks; at += c.chunk[c.chunks - 1].count) {
        size_t count = cuts == 0 ? data->n : cuts == 1 ? 256 : 256 * (1 + below(5));
        if (count > data->n - at) count = data->n - at;
        c.chunk[c.chunks].first = at;
        c.chunk[c.chunks++].count = count;
        if (!count) break;
    }
    if (cuts > 1)
        for (i = c.chunks; i > 1; i--) {
            const size_t other = below(i);
            const piece t = c.chunk[i - 1];
            c.chunk[i - 1] = c.chunk[other];
            c.chunk[other] = t;
        }
    for (i = 0; i < c.chunks; i++) {
        piece *h = &c.chunk[i];
        const size_t most = weft_codec_bytes(&codec, data->dtype, data->n, h->count);
        unsigned char *p = (unsigned char *)room(most);
        s = weft_codec_encode(k, &c.job, &c.scale, h->first, h->count, p, most, &h->bytes, &c.nonfinite, &c.d);
        ck_assert_msg(s == WEFT_OK, "encode: %s, %s", weft_strerror(s), c.d.field);
        ck_assert_msg(h->bytes <= most && p[most] == 0xA5, "a message is longer than its bound");
        h->message = (unsigned char *)room(h->bytes);
        memcpy(h->message, p, h->bytes);
        free(p);
    }
    c.job.codec = NULL; /* it was this function's */
    return c;
}

/* out = C(t), or += weight C(t) */
static void decode(const weft_codec_kernels *k, coded *c, const double *weight, vector *out) {
    size_t i;
    for (i = 0; i < c->chunks; i++) {
        const piece *h = &c->chunk[i];
        const weft_status s = weight ? weft_codec_decode_add(k, &c->codec, out->dtype, out->n, h->first, h->count,
                                                             h->message, h->bytes, *weight, out->p, &c->d)
                                     : weft_codec_decode(k, &c->codec, out->dtype, out->n, h->first, h->count,
                                                         h->message, h->bytes, out->p, &c->d);
        ck_assert_msg(s == WEFT_OK, "decode: %s, %s", weft_strerror(s), c->d.field);
    }
}

static int same_vectors(const vector *a, const vector *b) {
    return memcmp(a->p, b->p, a->n * weft_dtype_bytes(a->dtype)) == 0;
}

/* ---- sizes ---- */
START_TEST(sizes) {
    weft_codec c = weft_codec_q8();
    weft_detail d = weft_detail_none();
    size_t i;
    ck_assert_uint_eq(weft_codec_bytes(&c, WEFT_F32, 256, 256), 260);
    ck_assert_uint_eq(weft_codec_bytes(&c, WEFT_F32, 257, 257), 265);
    ck_assert_uint_eq(weft_codec_bytes(&c, WEFT_F64, 1, 1), 5);
    c = weft_codec_q4();
    ck_assert_uint_eq(weft_codec_bytes(&c, WEFT_F32, 256, 256), 132);
    ck_assert_uint_eq(weft_codec_bytes(&c, WEFT_F32, 257, 257), 137);
    c = weft_codec_qsgd(8, 0);
    ck_assert_uint_eq(weft_codec_bytes(&c, WEFT_F32, 256, 256), 4 + 288);
    ck_assert_uint_eq(weft_codec_bytes(&c, WEFT_F64, 3, 3), 8 + 4);
    c = weft_codec_topk(0.9);
    ck_assert_uint_eq(weft_codec_bytes(&c, WEFT_F32, 100, 100), 9 * 8);
    ck_assert_uint_eq(weft_codec_bytes(&c, WEFT_F64, 100, 100), 9 * 12);
    ck_assert_uint_eq(weft_codec_bytes(&c, WEFT_F32, 100000, 256), 256 * 8);
    c = weft_codec_sign();
    ck_assert_uint_eq(weft_codec_bytes(&c, WEFT_F32, 256, 256), 8 + 64);
    c = weft_codec_bf16();
    ck_assert_uint_eq(weft_codec_bytes(&c, WEFT_F32, 10, 10), 20);
    c = weft_codec_identity();
    ck_assert_uint_eq(weft_codec_bytes(&c, WEFT_BF16, 10, 10), 40);
    ck_assert_uint_eq(weft_codec_bytes(&c, WEFT_F64, 10, 10), 80);
    for (i = 0; i < CODECS; i++) {
        c = codec_at(i);
        ck_assert_int_eq(weft_codec_check(&c, &d), WEFT_OK);
        ck_assert_uint_eq(weft_codec_bytes(&c, WEFT_F32, 0, 0), 0);
        ck_assert_uint_eq(weft_codec_bytes(&c, WEFT_F32, 10, 0), 0);
        ck_assert_uint_eq(weft_codec_bytes(&c, WEFT_F32, 10, 11), SIZE_MAX);
        ck_assert_uint_eq(weft_codec_bytes(&c, (weft_dtype)9, 10, 10), SIZE_MAX);
        ck_assert_uint_eq(weft_codec_bytes(&c, WEFT_F32, SIZE_MAX / 31, 10), SIZE_MAX);
        ck_assert_uint_eq(weft_codec_bytes(&c, WEFT_F32, SIZE_MAX, SIZE_MAX), SIZE_MAX);
        ck_assert(weft_codec_bytes(&c, WEFT_F64, UINT32_MAX / 64, UINT32_MAX / 64) <= UINT32_MAX);
    }
    c.kind = (weft_codec_kind)8;
    ck_assert_uint_eq(weft_codec_bytes(&c, WEFT_F32, 10, 10), SIZE_MAX);
    ck_assert_uint_eq(weft_codec_bytes(&c, WEFT_F32, 10, 0), SIZE_MAX);
}
END_TEST

START_TEST(count_of_topk) {
    weft_codec c = weft_codec_topk(0.9);
    ck_assert_uint_eq(weft_codec_sent(&c, 0), 0);
    ck_assert_uint_eq(weft_codec_sent(&c, 1), 1);
    ck_assert_uint_eq(weft_codec_sent(&c, 100), 9);
    c = weft_codec_topk(0);
    ck_assert_uint_eq(weft_codec_sent(&c, 100), 100);
    ck_assert_uint_eq(weft_codec_sent(&c, SIZE_MAX), SIZE_MAX);
    c = weft_codec_q8();
    ck_assert_uint_eq(weft_codec_sent(&c, 100), 100);
}
END_TEST

/* ---- what is refused ---- */
static void expect(weft_status got, weft_status want, const weft_detail *d, const char *field) {
    ck_assert_msg(got == want && d->status == want && d->field && !strcmp(d->field, field), "%s, %s instead of %s, %s",
                  weft_strerror(got), d->field, weft_strerror(want), field);
}

START_TEST(bad_codecs) {
    weft_detail d = weft_detail_none();
    weft_codec c = weft_codec_q8();
    c.kind = (weft_codec_kind)8;
    expect(weft_codec_check(&c, &d), WEFT_ERR_ARGUMENT, &d, "codec.kind");
    c = weft_codec_qsgd(0, 0);
    expect(weft_codec_check(&c, &d), WEFT_ERR_ARGUMENT, &d, "codec.bits");
    c = weft_codec_qsgd(17, 0);
    expect(weft_codec_check(&c, &d), WEFT_ERR_ARGUMENT, &d, "codec.bits");
    c = weft_codec_q8();
    c.bits = 8;
    expect(weft_codec_check(&c, &d), WEFT_ERR_ARGUMENT, &d, "codec.bits");
    c = weft_codec_qsgd(8, 2);
    expect(weft_codec_check(&c, &d), WEFT_ERR_ARGUMENT, &d, "codec.biased");
    c = weft_codec_sign();
    c.biased = 1;
    expect(weft_codec_check(&c, &d), WEFT_ERR_ARGUMENT, &d, "codec.biased");
    c = weft_codec_topk(1);
    expect(weft_codec_check(&c, &d), WEFT_ERR_ARGUMENT, &d, "codec.drop");
    c = weft_codec_topk(-0.1);
    expect(weft_codec_check(&c, &d), WEFT_ERR_ARGUMENT, &d, "codec.drop");
    c = weft_codec_topk(weft_bits_f64(UINT64_C(0x7FF8000000000000)));
    expect(weft_codec_check(&c, &d), WEFT_ERR_ARGUMENT, &d, "codec.drop");
    c = weft_codec_q4();
    c.drop = 0.5;
    expect(weft_codec_check(&c, &d), WEFT_ERR_ARGUMENT, &d, "codec.drop");
}
END_TEST

START_TEST(bad_jobs) {
    static float data[600], kept[600];
    static double wide[300];
    static unsigned char message[8192];
    weft_codec c = weft_codec_q8(), q = weft_codec_qsgd(4, 0);
    const double u[600] = {0};
    weft_detail d = weft_detail_none();
    weft_codec_scale scale;
    weft_codec_job good, j;
    size_t bytes;
    memset(&good, 0, sizeof good);
    good.codec = &c;
    good.data = data;
    good.count = 600;
    good.form = WEFT_CODEC_FEEDBACK;
    good.kept = kept;
    ck_assert_int_eq(weft_codec_measure(K, &good, &scale, &d), WEFT_OK);
#define BAD(change, status, field)                                                                                     \
    j = good;                                                                                                          \
    change;                                                                                                            \
    expect(weft_codec_measure(K, &j, &scale, &d), status, &d, field);                                                  \
    expect(weft_codec_encode(K, &j, &scale, 0, 600, message, sizeof message, &bytes, NULL, &d), status, &d, field)
    BAD(j.dtype = (weft_dtype)4, WEFT_ERR_ARGUMENT, "job.dtype");
    BAD(j.form = (weft_codec_form)3, WEFT_ERR_ARGUMENT, "job.form");
    BAD(j.count = SIZE_MAX / 4, WEFT_ERR_OVERFLOW, "job.count");
    BAD(j.data = NULL, WEFT_ERR_ARGUMENT, "job.data");
    BAD(j.data = (char *)data + 1, WEFT_ERR_ARGUMENT, "job.data");
    BAD(j.kept = NULL, WEFT_ERR_ARGUMENT, "job.kept");
    BAD(j.form = WEFT_CODEC_PLAIN, WEFT_ERR_ARGUMENT, "job.kept");
    BAD(j.kept = (char *)kept + 1, WEFT_ERR_ARGUMENT, "job.kept (alignment)");
    BAD(j.uniform = u, WEFT_ERR_UNSUPPORTED, "job.uniform");
    BAD(j.codec = NULL, WEFT_ERR_ARGUMENT, "job.codec");
    BAD(c.bits = 3, WEFT_ERR_ARGUMENT, "codec.bits");
#undef BAD
    c.bits = 0;
    j = good;
    expect(weft_codec_encode(K, &j, &scale, 1, 599, message, sizeof message, &bytes, NULL, &d), WEFT_ERR_ARGUMENT, &d,
           "first");
    expect(weft_codec_encode(K, &j, &scale, 768, 0, message, sizeof message, &bytes, NULL, &d), WEFT_ERR_ARGUMENT, &d,
           "first");
    expect(weft_codec_encode(K, &j, &scale, 256, 100, message, sizeof message, &bytes, NULL, &d), WEFT_ERR_ARGUMENT, &d,
           "count");
    expect(weft_codec_encode(K, &j, &scale, 256, 345, message, sizeof message, &bytes, NULL, &d), WEFT_ERR_ARGUMENT, &d,
           "count");
    expect(weft_codec_encode(K, &j, &scale, 0, 600, message, 611, &bytes, NULL, &d), WEFT_ERR_CAPACITY, &d, "capacity");
    ck_assert_uint_eq(d.expected, 612);
    expect(weft_codec_encode(K, &j, &scale, 0, 600, NULL, 612, &bytes, NULL, &d), WEFT_ERR_ARGUMENT, &d, "message");
    expect(weft_codec_encode_tensor(K, &j, NULL, 612, &bytes, NULL, &d), WEFT_ERR_ARGUMENT, &d, "message");
    expect(weft_codec_decode(K, &c, WEFT_F32, 600, 0, 600, NULL, 612, data, &d), WEFT_ERR_ARGUMENT, &d, "message");
    ck_assert_int_eq(weft_codec_encode(K, &j, &scale, 0, 600, message, 612, &bytes, NULL, &d), WEFT_OK);
    ck_assert_uint_eq(bytes, 612);
    ck_assert_int_eq(weft_codec_encode(K, &j, &scale, 0, 0, message, 0, &bytes, NULL, &d), WEFT_OK);
    ck_assert_uint_eq(bytes, 0);
    /* decoding */
    expect(weft_codec_decode(K, &c, (weft_dtype)4, 600, 0, 600, message, 612, data, &d), WEFT_ERR_ARGUMENT, &d,
           "dtype or size");
    expect(weft_codec_decode(K, &c, WEFT_F32, SIZE_MAX / 4, 0, 0, message, 0, data, &d), WEFT_ERR_ARGUMENT, &d,
           "dtype or size");
    expect(weft_codec_decode(K, &c, WEFT_F32, 600, 0, 600, message, 612, (char *)data + 2, &d), WEFT_ERR_ARGUMENT, &d,
           "out");
    expect(weft_codec_decode(K, &c, WEFT_F32, 600, 0, 600, message, 612, NULL, &d), WEFT_ERR_ARGUMENT, &d, "out");
    expect(weft_codec_decode(K, &c, WEFT_F32, 600, 5, 5, message, 612, data, &d), WEFT_ERR_ARGUMENT, &d, "first");
    expect(weft_codec_decode_add(K, &c, WEFT_F32, 600, 0, 600, message, 612, weft_bits_f64(UINT64_C(0x7FF) << 52), data,
                                 &d),
           WEFT_ERR_ARGUMENT, &d, "weight");
    /* a weight that the type does not have */
    expect(weft_codec_decode_add(K, &c, WEFT_F32, 600, 0, 600, message, 612, 1e39, data, &d), WEFT_ERR_ARGUMENT, &d,
           "weight");
    expect(weft_codec_decode_add(K, &c, WEFT_BF16, 600, 0, 600, message, 612, -1e39, data, &d), WEFT_ERR_ARGUMENT, &d,
           "weight");
    ck_assert_int_eq(weft_codec_decode_add(K, &c, WEFT_F64, 300, 0, 256, message, 260, 1e39, wide, &d), WEFT_OK);
    q.bits = 99;
    expect(weft_codec_decode(K, &q, WEFT_F32, 600, 0, 600, message, 612, data, &d), WEFT_ERR_ARGUMENT, &d,
           "codec.bits");
    ck_assert_int_eq(weft_codec_decode(K, &c, WEFT_F32, 600, 0, 600, message, 612, data, &d), WEFT_OK);
}
END_TEST

/* ---- random numbers ---- */

/* Draws of neighbours, and of blocks, keys, streams that differ in one: flat, and not alike. */
START_TEST(draws) {
    enum { N = 1 << 18, BINS = 256 };
    int way, lag;
    for (way = 0; way < 5; way++) {
        static uint32_t v[N];
        size_t bin[BINS] = {0}, i;
        double chi = 0, mean = 0;
        for (i = 0; i < N; i++) {
            const uint64_t a = way == 1 ? i / 256 : 7, b = way == 2 ? i / 256 : 9, c = way == 3 ? i : 1;
            uint64_t key = weft_codec_key(1, b, c, 0);
            if (way == 4) key = weft_codec_key(i, 0, 0, 0);
            v[i] = weft_draw(weft_codec_block_key(key, way == 0 ? i / 256 * 256 : a * 256),
                             way >= 3 ? 5 : (uint32_t)(i % 256));
            bin[v[i] >> 24]++;
            mean += (double)v[i] / 4294967296.0;
        }
        for (i = 0; i < BINS; i++) {
            const double e = (double)bin[i] - (double)N / BINS;
            chi += e * e / ((double)N / BINS);
        }
        /* 255 degrees of freedom: mean 255, deviation 22.6; the bounds are at 5 deviations */
        ck_assert_msg(chi > 142 && chi < 368, "way %d: chi squared is %g", way, chi);
        ck_assert_msg(fabs(mean / N - 0.5) < 5 * 0.2887 / 512, "way %d: mean %g", way, mean / N);
        for (lag = 1; lag <= 512; lag *= 2) {
            double r = 0;
            for (i = 0; i + (size_t)lag < N; i++)
                r += ((double)v[i] / 4294967296.0 - 0.5) * ((double)v[i + (size_t)lag] / 4294967296.0 - 0.5) * 12;
            ck_assert_msg(fabs(r / N) < 5.0 / 512, "way %d, lag %d: correlation %g", way, lag, r / N);
        }
    }
}
END_TEST

START_TEST(draws_use_all_of_the_key) {
    uint64_t key = UINT64_C(0x123456789ABCDEF0);
    unsigned bit, changed;
    for (bit = 0; bit < 64; bit++) {
        uint32_t i;
        changed = 0;
        for (i = 0; i < 256; i++) {
            uint32_t x = weft_draw(key, i) ^ weft_draw(key ^ UINT64_C(1) << bit, i);
            for (x >>= 8; x; x &= x - 1) changed++;
        }
        ck_assert_msg(changed > 256 * 24 / 4 && changed < 256 * 24 / 4 * 3, "bit %u changes %u of %d", bit, changed,
                      256 * 24);
    }
    ck_assert(weft_codec_key(1, 0, 0, 0) != weft_codec_key(0, 1, 0, 0));
    ck_assert(weft_codec_key(0, 1, 0, 0) != weft_codec_key(0, 0, 1, 0));
    ck_assert(weft_codec_key(0, 0, 1, 0) != weft_codec_key(0, 0, 0, 1));
    ck_assert(weft_codec_key(0, 0, 0, 1) != weft_codec_key(0, 0, 0, 0));
}
END_TEST

/* ---- how far C(t) is from t ---- */

/* The mean of C(t) over many keys is t, to 5 standard deviations of what it should be, element by element. */
START_TEST(unbiased) {
    enum { N = 300, KEYS = SOME(2000) };
    const size_t which[5] = {3, 4, 5, 7, 8};
    const weft_dtype types[2] = {WEFT_F32, WEFT_F64};
    const weft_codec c = codec_at(which[_i % 5]);
    const weft_dtype t = types[_i / 5];
    vector x, q = vector_make(t, N);
    double sum[N] = {0}, step[2] = {0, 0};
    size_t key, i;
    reseed((uint64_t)_i + 1);
    x = vector_draw(t, N, NORMAL);
    put(&x, 3, 1e-6);
    put(&x, 4, -1e-4);
    for (key = 0; key < KEYS; key++) {
        coded h = code(K, c, WEFT_CODEC_PLAIN, &x, NULL, weft_codec_key(seed, key, 0, 0), 0);
        decode(K, &h, NULL, &q);
        for (i = 0; i < N; i++) {
            sum[i] += get(&q, i) - get(&x, i);
        }
        if (c.kind == WEFT_CODEC_QSGD) step[0] = step[1] = h.scale.step;
        coded_free(&h);
    }
    if (c.kind != WEFT_CODEC_QSGD)
        for (i = 0; i < N; i++)
            step[i / 256] = fmax(step[i / 256], fabs(get(&x, i)) / (c.kind == WEFT_CODEC_Q8 ? 127 : 7));
    for (i = 0; i < N; i++) {
        /* a level is one of two; of rare ones, a dozen more than there should be */
        const double f = fabs(get(&x, i)) / step[i / 256] - floor(fabs(get(&x, i)) / step[i / 256]);
        const double deviation = step[i / 256] * sqrt(f * (1 - f) / KEYS);
        ck_assert_msg(fabs(sum[i]) / KEYS < 5 * deviation + (f < 0.01 || f > 0.99 ? 12 * step[i / 256] / KEYS : 0) +
                                                2e-7 * fabs(get(&x, i)),
                      "element %zu, %g: the mean is off by %g (%g)", i, get(&x, i), sum[i] / KEYS, deviation);
    }
    free(x.p);
    free(q.p);
}
END_TEST

/* Over all elements at once, which is sharper: sum of e / sqrt(sum of e^2) is normal. */
START_TEST(unbiased_as_a_whole) {
    enum { N = 1 << 16 };
    const size_t which[4] = {3, 4, 7, 5};
    vector x, q = vector_make(WEFT_F32, N);
    double sum = 0, square = 0;
    coded h;
    size_t i;
    reseed((uint64_t)_i + 20);
    x = vector_draw(WEFT_F32, N, NORMAL);
    for (i = 0; i < N; i++) put(&x, i, fabs(get(&x, i))); /* a bias away from or towards zero, too */
    h = code(K, codec_at(which[_i]), WEFT_CODEC_PLAIN, &x, NULL, 77, 0);
    decode(K, &h, NULL, &q);
    for (i = 0; i < N; i++) {
        const double e = get(&q, i) - get(&x, i);
        sum += e;
        square += e * e;
    }
    ck_assert_msg(fabs(sum) < 5 * sqrt(square), "%g deviations", sum / sqrt(square));
    coded_free(&h);
    free(x.p);
    free(q.p);
}
END_TEST

static double contraction(const weft_codec *c, const vector *x) {
    double s, n = (double)x->n, one = 0, two = 0, least = 0;
    size_t i;
    switch (c->kind) {
    case WEFT_CODEC_Q8: return (sqrt(1 + 255 / (127.0 * 127.0)) - 1) / 2;
    case WEFT_CODEC_Q4: return (sqrt(1 + 255 / 49.0) - 1) / 2;
    case WEFT_CODEC_QSGD:
        s = (double)((1u << c->bits) - 1);
        least = n / (s * s) < sqrt(n) / s ? n / (s * s) : sqrt(n) / s;
        return c->biased ? least / (1 + least) : least;
    case WEFT_CODEC_TOPK: return 1 - (double)weft_codec_sent(c, x->n) / n;
    case WEFT_CODEC_SIGN:
        for (i = 0; i < x->n; i++) {
            one += fabs(get(x, i));
            two += get(x, i) * get(x, i);
        }
        return two > 0 ? 1 - one * one / (n * two) : 1;
    case WEFT_CODEC_BF16: return 1.0 / 65536; /* half of the last of 8 places, squared */
    case WEFT_CODEC_F16: return 1.0 / 65536;
    case WEFT_CODEC_IDENTITY: return 0;
    }
    return 0;
}

/* E|C(t) - t|^2 <= c |t|^2, for tensors of many kinds and for the worst ones */
START_TEST(contractions) {
    const weft_codec c = codec_at((size_t)_i);
    size_t kind, i, n;
    reseed((uint64_t)_i + 30);
    for (kind = 0; kind < 60; kind++) {
        const size_t sizes_of[4] = {1, 37, 256, 1000};
        double error = 0, square = 0, bound;
        int key, keys = 200;
        vector x, q;
        n = sizes_of[kind % 4];
        x = vector_draw(WEFT_F32, n, kind < 20 ? NORMAL : kind < 30 ? SPARSE : TIED);
        if (kind >= 40) { /* one large element, the others at a fraction of a step */
            const double f = (double)(kind - 39) / 20 / (c.kind == WEFT_CODEC_Q8 ? 127 : 7);
            for (i = 0; i < n; i++) put(&x, i, i == n / 2 ? -1 : i % 2 ? f : -f);
        }
        q = vector_make(WEFT_F32, n);
        for (i = 0; i < n; i++) square += get(&x, i) * get(&x, i);
        for (key = 0; key < keys; key++) {
            coded h = code(K, c, WEFT_CODEC_PLAIN, &x, NULL, (uint64_t)key * 1000 + kind, 0);
            decode(K, &h, NULL, &q);
            for (i = 0; i < n; i++) error += (get(&q, i) - get(&x, i)) * (get(&q, i) - get(&x, i)) / keys;
            coded_free(&h);
        }
        bound = contraction(&c, &x) * square;
        /* the mean over 200 keys strays: 5 deviations of a sum of n bounded terms, at most */
        if (c.kind == WEFT_CODEC_Q8 || c.kind == WEFT_CODEC_Q4 || c.kind == WEFT_CODEC_QSGD)
            bound *= 1 + 5 / sqrt((double)n * keys) * (n < 2 ? 4 : 1.5);
        ck_assert_msg(error <= bound + 1e-12 * square, "kind %zu, %zu elements: %g, not %g", kind, n,
                      square > 0 ? error / square : error, square > 0 ? bound / square : bound);
        free(x.p);
        free(q.p);
    }
}
END_TEST

/* The definition, in other words: every level is one of the two next to t / step, and no lane is out of place. */
START_TEST(levels) {
    const double s = _i % 2 ? 7 : 127;
    const weft_codec c = _i % 2 ? weft_codec_q4() : weft_codec_q8();
    size_t n, i, j;
    reseed((uint64_t)_i + 40);
    for (n = 1; n < 1100; n += 1 + below(60)) {
        vector x = vector_draw(WEFT_F32, n, _i / 2), q = vector_make(WEFT_F32, n);
        coded h = code(K, c, WEFT_CODEC_PLAIN, &x, NULL, n, 0);
        decode(K, &h, NULL, &q);
        for (i = 0; i < n; i += 256) {
            double most = 0, step;
            for (j = i; j < n && j < i + 256; j++) most = fmax(most, fabs(get(&x, j)));
            step = most / s;
            for (j = i; j < n && j < i + 256; j++) {
                const double level = step > 0 ? get(&q, j) / step : 0, want = step > 0 ? get(&x, j) / step : 0;
                const double u = (double)(weft_draw(weft_codec_block_key(n, i), (uint32_t)(j - i)) >> 8) / 16777216;
                const double exact = floor(want + u);
                ck_assert_msg(step > 0 || get(&q, j) == 0, "a zero comes out as %g", get(&q, j));
                if (step < 1e-37) continue;
                ck_assert_msg(fabs(level - round(level)) < 1e-3 && fabs(level) < s + 0.5, "level %g", level);
                /* where rounding decides, either is right */
                if (fabs(want + u - round(want + u)) > 2e-4)
                    ck_assert_msg(fabs(level - exact) < 0.1, "element %zu: %g instead of %g", j, level, exact);
            }
        }
        coded_free(&h);
        free(x.p);
        free(q.p);
    }
}
END_TEST

/* ---- top-k against sorting ---- */
typedef struct ranked {
    double magnitude;
    size_t index;
} ranked;

static int by_rank(const void *a, const void *b) {
    const ranked *x = (const ranked *)a, *y = (const ranked *)b;
    if (x->magnitude != y->magnitude) return x->magnitude > y->magnitude ? -1 : 1;
    return x->index < y->index ? -1 : 1;
}

START_TEST(topk_by_sorting) {
    static const double drops[] = {0, 0.01, 0.5, 0.9, 0.99, 0.999};
    static const weft_dtype types[] = {WEFT_F32, WEFT_F64, WEFT_BF16, WEFT_F16};
    const weft_dtype t = types[_i];
    size_t round_, i, set;
    reseed((uint64_t)_i + 50);
    for (round_ = 0; round_ < 60; round_++) {
        const size_t n = round_ < 20 ? 1 + below(40) : round_ < 50 ? 1 + below(2000) : 1 + below(60000);
        const weft_codec c = weft_codec_topk(drops[below(6)]);
        const size_t k = weft_codec_sent(&c, n);
        const int kind = (int)below(KINDS);
        vector x = vector_draw(t, n, kind), q = vector_make(t, n);
        ranked *r = (ranked *)room(n * sizeof *r);
        char *chosen = (char *)room(n);
        for (i = 0; i < n; i++) {
            r[i].magnitude = fabs(get(&x, i));
            r[i].index = i;
        }
        qsort(r, n, sizeof *r, by_rank);
        memset(chosen, 0, n);
        for (i = 0; i < k; i++) chosen[r[i].index] = 1;
        for (set = 0; set < set_count; set++) {
            coded h = code(sets[set], c, WEFT_CODEC_PLAIN, &x, NULL, 0, (int)below(3));
            size_t bytes = 0;
            for (i = 0; i < h.chunks; i++) bytes += h.chunk[i].bytes;
            ck_assert_uint_eq(bytes, k * (t == WEFT_F64 ? 12 : 8));
            decode(sets[set], &h, NULL, &q);
            for (i = 0; i < n; i++)
                if (get(&q, i) != (chosen[i] ? get(&x, i) : 0)) /* an assertion for each would take longer than all */
                    ck_abort_msg("n %zu, k %zu, kind %d: element %zu is %g", n, k, kind, i, get(&q, i));
            coded_free(&h);
        }
        free(r);
        free(chosen);
        free(x.p);
        free(q.p);
    }
}
END_TEST

/* Large tensors are sampled first: whatever the sample says, even where it has been led astray. */
START_TEST(topk_of_samples) {
    const size_t n = 300000 + 1000 * (size_t)_i + 77;
    const weft_codec c = weft_codec_topk(_i % 2 ? 0.9 : 0.999);
    const size_t k = weft_codec_sent(&c, n), stride = n / 256 / 128;
    vector x = vector_make(_i == 8 ? WEFT_BF16 : _i == 9 ? WEFT_F64 : WEFT_F32, n), q = vector_make(x.dtype, n), kept;
    ranked *r = (ranked *)room(n * sizeof *r);
    size_t i;
    coded h;
    reseed((uint64_t)_i + 55);
    kept = vector_make(kept_type(x.dtype), n);
    for (i = 0; i < n; i++) {
        const int sampled = i / 256 % stride == 0;
        switch (_i / 2) {
        case 0: put(&x, i, normal()); break;
        case 1: put(&x, i, sampled ? 1000 + uniform() : normal()); break; /* the sample is too high */
        case 2: put(&x, i, sampled ? 1e-3 * uniform() : normal()); break; /* too low */
        case 3: put(&x, i, below(1000) ? 0 : normal()); break;
        default: put(&x, i, (double)i); break;
        }
        r[i].magnitude = fabs(get(&x, i));
        r[i].index = i;
    }
    if (_i < 2) put(&x, 4444, weft_bits_f64(UINT64_C(0x7FF0000000000000))), r[4444].magnitude = 0;
    qsort(r, n, sizeof *r, by_rank);
    h = code(K, c, _i == 7 ? WEFT_CODEC_FEEDBACK : WEFT_CODEC_PLAIN, &x, &kept, 0, 0);
    ck_assert_uint_eq(h.scale.nonfinite, _i < 2);
    ck_assert_uint_eq(h.chunk[0].bytes, k * (x.dtype == WEFT_F64 ? 12 : 8));
    { /* in one pass, where that can be, and where the sample has led it astray */
        const size_t capacity = weft_codec_bytes(&c, x.dtype, n, n) * 3;
        unsigned char *p = (unsigned char *)room(capacity);
        weft_codec_job j = h.job;
        weft_detail d = weft_detail_none();
        size_t bytes;
        j.codec = &c;
        memset(kept.p, 0, n * weft_dtype_bytes(kept.dtype));
        ck_assert_int_eq(weft_codec_encode_tensor(K, &j, p, capacity, &bytes, NULL, &d), WEFT_OK);
        ck_assert(bytes == h.chunk[0].bytes && !memcmp(p, h.chunk[0].message, bytes));
        free(p);
    }
    decode(K, &h, NULL, &q);
    for (i = 0; i < n; i++) {
        const double want = i < k ? get(&x, r[i].index) : 0;
        if (get(&q, r[i].index) != want)
            ck_abort_msg("rank %zu of %zu, element %zu: %g instead of %g", i, k, r[i].index, get(&q, r[i].index), want);
    }
    coded_free(&h);
    free(r);
    free(x.p);
    free(q.p);
    free(kept.p);
}
END_TEST

/* The verb for whole tensors makes the same bits, with any room. */
START_TEST(whole_tensors) {
    const size_t at_codec = (size_t)_i / 6;
    const size_t n = at_codec < CODECS ? 1500 : 262144 + 300000 * (at_codec % 2) + 1000 * at_codec;
    const weft_codec c = at_codec < CODECS ? codec_at(at_codec) : weft_codec_topk(at_codec % 2 ? 0.9 : 0.99);
    const weft_dtype t = _i % 2 ? WEFT_BF16 : WEFT_F32;
    const weft_codec_form form = (weft_codec_form)(_i / 2 % 3);
    vector x, kept0, kept1 = vector_make(WEFT_F32, n), kept2 = vector_make(WEFT_F32, n);
    const size_t least = weft_codec_bytes(&c, t, n, n);
    size_t rooms[3], i, bytes;
    reseed((uint64_t)_i + 160);
    rooms[0] = least;
    rooms[1] = least + least / 8;
    rooms[2] = least + least / 4 + 64;
    x = vector_draw(t, n, at_codec % 4 == 3 ? TIED : NORMAL);
    kept0 = vector_draw(WEFT_F32, n, NORMAL);
    if (n > 300000) put(&x, 300000 - 1, weft_bits_f64(UINT64_C(0x7FF8000000000000)));
    for (i = 0; i < 3; i++) {
        unsigned char *p = (unsigned char *)room(rooms[i]);
        weft_codec_job j;
        weft_detail d = weft_detail_none();
        uint64_t nonfinite = 0;
        coded h;
        memcpy(kept1.p, kept0.p, n * 4);
        memcpy(kept2.p, kept0.p, n * 4);
        h = code(K, c, form, &x, &kept1, 3, 0);
        memset(&j, 0, sizeof j);
        j.codec = &c;
        j.form = form;
        j.dtype = t;
        j.count = n;
        j.data = x.p;
        j.kept = form ? kept2.p : NULL;
        j.key = 3;
        ck_assert_int_eq(weft_codec_encode_tensor(K, &j, p, rooms[i], &bytes, &nonfinite, &d), WEFT_OK);
        ck_assert_uint_eq(bytes, h.chunk[0].bytes);
        ck_assert_uint_eq(nonfinite, h.nonfinite);
        ck_assert_msg(!memcmp(p, h.chunk[0].message, bytes) && p[rooms[i]] == 0xA5, "another message, room %zu", i);
        ck_assert_msg(same_vectors(&kept1, &kept2), "other bits are kept, room %zu", i);
        if (i == 2 && at_codec == CODECS + 1) { /* the one pass is what has done it */
            uint64_t bad = 0;
            memcpy(kept2.p, kept0.p, n * 4);
            ck_assert_int_eq(weft_codec_topk_at_once(K, &j, p, rooms[i], &bytes, &bad), 1);
        }
        if (i == 0) {
            expect(weft_codec_encode_tensor(K, &j, p, least - 1, &bytes, NULL, &d), WEFT_ERR_CAPACITY, &d, "capacity");
            j.form = (weft_codec_form)5;
            expect(weft_codec_encode_tensor(K, &j, p, least, &bytes, NULL, &d), WEFT_ERR_ARGUMENT, &d, "job.form");
        }
        coded_free(&h);
        free(p);
    }
    free(x.p);
    free(kept0.p);
    free(kept1.p);
    free(kept2.p);
}
END_TEST

/* ---- nothing is lost ---- */

/* Rounds with new data, cut anew each time: what was sent plus what remains equals what came in. To the last bit where
 * every number on the way is one of f32: whole numbers, and a codec that sends those. */
START_TEST(conservation) {
    static const weft_dtype types[] = {WEFT_F32, WEFT_F64, WEFT_BF16, WEFT_F16};
    const size_t i_codec = (size_t)_i % CODECS;
    const weft_codec c = codec_at(i_codec);
    const weft_dtype t = types[(size_t)_i / CODECS % 4];
    const int exact = c.kind == WEFT_CODEC_IDENTITY || c.kind == WEFT_CODEC_TOPK || c.kind == WEFT_CODEC_BF16;
    enum { ROUNDS = 12 };
    const size_t n = 700 + below(900);
    vector kept = vector_make(kept_type(t), n), q = vector_make(kept_type(t), n);
    double *in = (double *)room(n * sizeof *in), *out = (double *)room(n * sizeof *out), largest = 0;
    size_t i;
    int round_;
    reseed((uint64_t)_i + 60);
    for (i = 0; i < n; i++) in[i] = out[i] = 0;
    for (round_ = 0; round_ < ROUNDS; round_++) {
        vector x = vector_draw(t, n, WHOLE);
        coded h = code(K, c, WEFT_CODEC_FEEDBACK, &x, &kept, (uint64_t)round_, 2);
        decode(K, &h, NULL, &q);
        for (i = 0; i < n; i++) {
            in[i] += get(&x, i);
            out[i] += get(&q, i);
            largest = fmax(largest, fmax(fabs(get(&q, i)), fabs(get(&kept, i)) + 1000));
        }
        coded_free(&h);
        free(x.p);
    }
    for (i = 0; i < n; i++) {
        const double slack = exact ? 0 : ROUNDS * 2 * largest * (t == WEFT_F64 ? 1e-15 : 6e-8);
        ck_assert_msg(fabs(in[i] - out[i] - get(&kept, i)) <= slack, "element %zu: %g came in, %g went out, %g stays",
                      i, in[i], out[i], get(&kept, i));
    }
    free(kept.p);
    free(q.p);
    free(in);
    free(out);
}
END_TEST

/* Whoever adds up what is sent has the sender's public copy, bit by bit; and it goes to z. */
START_TEST(public_copies) {
    static const weft_dtype types[] = {WEFT_F32, WEFT_F64};
    const weft_codec c = codec_at((size_t)_i % CODECS);
    const weft_dtype t = types[(size_t)_i / CODECS];
    const size_t n = 1000 + below(300);
    const double one = 1;
    vector x, kept = vector_make(t, n), theirs = vector_make(t, n);
    double before = 0, after = 0;
    size_t i;
    int round_;
    reseed((uint64_t)_i + 70);
    x = vector_draw(t, n, NORMAL);
    for (round_ = 0; round_ < 60; round_++) {
        coded h = code(K, c, WEFT_CODEC_DIFFERENCE, &x, &kept, (uint64_t)round_, 2);
        decode(sets[below(set_count)], &h, &one, &theirs);
        ck_assert_msg(same_vectors(&kept, &theirs), "round %d: copies differ", round_);
        coded_free(&h);
    }
    for (i = 0; i < n; i++) {
        before += get(&x, i) * get(&x, i);
        after += (get(&x, i) - get(&kept, i)) * (get(&x, i) - get(&kept, i));
    }
    /* QSGD with one bit is no contraction, and sign is next to none */
    if (c.kind != WEFT_CODEC_QSGD || c.bits > 1 || c.biased)
        if (c.kind != WEFT_CODEC_QSGD || c.bits > 4)
            ck_assert_msg(after < 0.02 * before, "%g of it is still unknown", after / before);
    free(x.p);
    free(kept.p);
    free(theirs.p);
}
END_TEST

/* ---- the same bits from every set, cut anyhow, in any order ---- */
START_TEST(same_bits) {
    static const weft_dtype types[] = {WEFT_F32, WEFT_F64, WEFT_BF16, WEFT_F16};
    const weft_codec c = codec_at((size_t)_i);
    size_t round_, set;
    reseed((uint64_t)_i + 80);
    for (round_ = 0; round_ < 420; round_++) {
        /* every size with f32, whose kernels have rests, and every third one with another type */
        const weft_dtype t = types[round_ < 330 ? (round_ % 3 ? 0 : round_ / 3 % 4) : round_ % 4];
        const size_t n = round_ < 330 ? round_ : 257 + below(3000);
        const weft_codec_form form = (weft_codec_form)(draw() % 3);
        const double weight = round_ % 5 ? -0.3333 : 1.0;
        vector x, kept0, out0;
        x = vector_draw(t, n, c.kind == WEFT_CODEC_QSGD ? NORMAL : (int)below(KINDS));
        kept0 = vector_draw(kept_type(t), n, NORMAL);
        out0 = vector_draw(t, n, NORMAL);
        {
            vector kept1 = vector_make(kept_type(t), n), out1 = vector_make(t, n);
            unsigned char *first = NULL;
            size_t first_bytes = 0;
            for (set = 0; set < 2 * set_count; set++) {
                const weft_codec_kernels *k = sets[set / 2];
                vector kept = vector_make(kept_type(t), n), out = vector_make(t, n);
                coded h;
                memcpy(kept.p, kept0.p, n * weft_dtype_bytes(kept.dtype));
                memcpy(out.p, out0.p, n * weft_dtype_bytes(t));
                h = code(k, c, form, &x, &kept, round_, set % 2 ? 2 : 0);
                if (!(set % 2)) { /* in one piece: the message itself */
                    if (!first) {
                        first_bytes = h.chunk[0].bytes;
                        first = (unsigned char *)room(first_bytes);
                        memcpy(first, h.chunk[0].message, first_bytes);
                    }
                    ck_assert_msg(h.chunk[0].bytes == first_bytes && !memcmp(first, h.chunk[0].message, first_bytes),
                                  "set %zu, n %zu, type %d: another message", set / 2, n, (int)t);
                }
                decode(k, &h, &weight, &out);
                if (set == 0) {
                    memcpy(kept1.p, kept.p, n * weft_dtype_bytes(kept.dtype));
                    memcpy(out1.p, out.p, n * weft_dtype_bytes(t));
                }
                ck_assert_msg(same_vectors(&kept, &kept1), "set %zu, n %zu, type %d, form %d: other bits are kept", set,
                              n, (int)t, (int)form);
                ck_assert_msg(same_vectors(&out, &out1), "set %zu, n %zu, type %d: other bits come out", set, n,
                              (int)t);
                ck_assert_msg(((unsigned char *)kept.p)[n * weft_dtype_bytes(kept.dtype)] == 0xA5 &&
                                  ((unsigned char *)out.p)[n * weft_dtype_bytes(t)] == 0xA5,
                              "written beyond the end");
                coded_free(&h);
                free(kept.p);
                free(out.p);
            }
            free(kept1.p);
            free(out1.p);
            free(first);
        }
        free(x.p);
        free(kept0.p);
        free(out0.p);
    }
}
END_TEST

static uint64_t digest_of(uint64_t h, const unsigned char *p, size_t n) {
    while (n--) h = (h ^ *p++) * UINT64_C(0x100000001B3);
    return h;
}

static uint64_t digest_of_values(uint64_t h, const vector *v) {
    unsigned char b[8];
    size_t i;
    for (i = 0; i < v->n; i++) {
        switch (v->dtype) {
        case WEFT_F32: weft_put32(b, weft_f32_bits(((const float *)v->p)[i])); break;
        case WEFT_F64: weft_put64(b, weft_load_u64((const double *)v->p + i)); break;
        default: weft_put32(b, ((const uint16_t *)v->p)[i]); break;
        }
        h = digest_of(h, b, v->dtype == WEFT_F64 ? 8 : 4);
    }
    return h;
}

/* And from every machine: bytes on the wire, what is kept and what comes out, of all types and forms. */
START_TEST(same_everywhere) {
    static const uint64_t known[CODECS] = {
        UINT64_C(0x641949C1DA95710C), UINT64_C(0xE1D8BBA8104F700C), UINT64_C(0xA65C8A3A34396AAD),
        UINT64_C(0x951355ABD2041DE7), UINT64_C(0x76EEE69225F63986), UINT64_C(0x0465E1262A13D998),
        UINT64_C(0x01E0C449FB3651E1), UINT64_C(0xA4CF4FD75756AA38), UINT64_C(0x6F0167BB5ACF6D29),
        UINT64_C(0x40F99892C36518B9), UINT64_C(0xF26762A999B845A0), UINT64_C(0x8CBD89E268549E9A)};
    const weft_codec c = codec_at((size_t)_i);
    uint64_t h = UINT64_C(0xCBF29CE484222325);
    const double weight = -0.3333;
    int round_;
    state = UINT64_C(42) + (uint64_t)_i; /* whatever WEFT_SEED says */
    for (round_ = 0; round_ < 24; round_++) {
        const weft_dtype t = (weft_dtype)(round_ % 4);
        const size_t n = 300 + 111 * (size_t)round_;
        const weft_codec_form form = (weft_codec_form)(round_ / 4 % 3);
        vector x = vector_draw(t, n, round_ < 12 ? NORMAL : SPARSE), kept = vector_draw(kept_type(t), n, NORMAL),
               out = vector_draw(t, n, NORMAL);
        coded m = code(K, c, form, &x, &kept, weft_codec_key(1, 2, 3, (uint64_t)round_), 0);
        h = digest_of(h, m.chunk[0].message, m.chunk[0].bytes);
        h = digest_of_values(h, &kept);
        decode(K, &m, &weight, &out);
        h = digest_of_values(h, &out);
        coded_free(&m);
        free(x.p);
        free(kept.p);
        free(out.p);
    }
    ck_assert_msg(h == known[_i], "codec %d: UINT64_C(0x%08lX%08lX)", _i, (unsigned long)(h >> 32),
                  (unsigned long)(h & 0xFFFFFFFFu));
}
END_TEST

/* The kernels of every set against what codec.h says of them, to the last bit. */
START_TEST(kernels) {
    size_t round_, set, i;
    reseed(85);
    for (round_ = 0; round_ < 300; round_++) {
        const size_t n = round_ < 257 ? round_ : 256;
        const uint64_t key = draw();
        const float step = 0.0078125f, places = 16777216.0f / step;
        const uint32_t least = weft_f32_bits((float)uniform()), most = least + (uint32_t)below(1 << 22);
        float t[256] = {0};
        for (i = 0; i < n; i++) t[i] = (float)(normal() * 0.1);
        for (i = 0; i < 10 && n; i++)
            t[below(n)] = weft_bits_f32(((i < 5 ? least : most) + (uint32_t)below(3)) | (i % 2 ? 0x80000000u : 0));
        for (i = 0; i < n; i++) t[i] = fabsf(t[i]) < 0.99f ? t[i] : 0.5f; /* 127 steps */
        for (i = 0; i < n; i += 1 + below(3)) {                           /* where the last bit of a draw decides */
            const uint32_t u = weft_draw(key, (uint32_t)i) >> 8;
            t[i] = (float)(16777216u - u - (u < 16777215u ? (uint32_t)below(2) : 0)) / places;
        }
        for (set = 0; set < set_count; set++) {
            uint8_t code_[256];
            uint32_t word[8] = {0}, any = 0;
            const uint32_t got = sets[set]->f32.between(n, t, least, most, word);
            sets[set]->f32.quantise(n, t, step, places, key, 0, NULL, code_);
            for (i = 0; i < n; i++) {
                const uint32_t bits = weft_f32_bits(t[i]) & 0x7FFFFFFFu, in = bits > least && bits <= most;
                const int64_t fixed = (int64_t)(t[i] * places) + (int64_t)(weft_draw(key, (uint32_t)i) >> 8);
                const int64_t level = fixed >= 0 ? fixed >> 24 : -((-fixed + 0xFFFFFF) >> 24);
                any |= in;
                ck_assert_msg((word[i / 32] >> i % 32 & 1u) == in, "set %zu, n %zu: element %zu is between", set, n, i);
                ck_assert_msg((int64_t)(int8_t)code_[i] == level, "set %zu, n %zu, element %zu: code %d, not %d", set,
                              n, i, (int)(int8_t)code_[i], (int)level);
            }
            ck_assert_uint_eq(got, any);
            if (n % 32) ck_assert_uint_eq(word[n / 32] >> n % 32, 0);
        }
    }
}
END_TEST

/* Adding is rounding the product and then the sum. */
START_TEST(adding) {
    const weft_codec c = codec_at((size_t)_i);
    const double weights[] = {0.0, 1.0, -0.7, 3e-5};
    size_t i, w;
    reseed((uint64_t)_i + 90);
    for (w = 0; w < 4; w++) {
        const size_t n = 777;
        vector x = vector_draw(WEFT_F32, n, NORMAL), y = vector_draw(WEFT_F32, n, NORMAL), q = vector_make(WEFT_F32, n),
               out = vector_make(WEFT_F32, n);
        coded h = code(K, c, WEFT_CODEC_PLAIN, &x, NULL, w, 1);
        memcpy(out.p, y.p, n * 4);
        decode(K, &h, NULL, &q);
        decode(K, &h, &weights[w], &out);
        for (i = 0; i < n; i++) {
            volatile float product = (float)weights[w] * (float)get(&q, i);
            volatile float sum = (float)get(&y, i) + product;
            ck_assert_msg((double)sum == get(&out, i), "element %zu: %a instead of %a", i, get(&out, i), (double)sum);
        }
        coded_free(&h);
        free(x.p);
        free(y.p);
        free(q.p);
        free(out.p);
    }
}
END_TEST

/* Elements that are not sent keep their bits, -0 among them; the others are rounded once to the tensor's type. */
START_TEST(adding_pairs) {
    static const weft_dtype types[] = {WEFT_F32, WEFT_F64, WEFT_BF16, WEFT_F16};
    const weft_dtype t = types[_i];
    const weft_codec c = weft_codec_topk(0.5);
    const size_t n = 700;
    const double weight = 0.75;
    vector x, out, before = vector_make(t, n), q = vector_make(t, n), want = vector_make(t, n);
    size_t i, sent = 0;
    coded h;
    reseed((uint64_t)_i + 95);
    x = vector_draw(t, n, NORMAL);
    out = vector_draw(t, n, NORMAL);
    for (i = 0; i < n; i += 3) put(&out, i, -0.0);
    memcpy(before.p, out.p, n * weft_dtype_bytes(t));
    h = code(K, c, WEFT_CODEC_PLAIN, &x, NULL, 0, 2);
    decode(K, &h, NULL, &q);
    decode(K, &h, &weight, &out);
    memcpy(want.p, before.p, n * weft_dtype_bytes(t));
    for (i = 0; i < n; i++) {
        if (get(&q, i) == 0) continue;
        sent++;
        if (t == WEFT_F64) {
            volatile double product = weight * get(&q, i);
            put(&want, i, get(&before, i) + product);
        } else {
            volatile float product = (float)weight * (float)get(&q, i);
            volatile float sum = (float)get(&before, i) + product;
            put(&want, i, (double)sum);
        }
    }
    ck_assert_uint_eq(sent, weft_codec_sent(&c, n));
    ck_assert(same_vectors(&out, &want));
    coded_free(&h);
    free(x.p);
    free(out.p);
    free(before.p);
    free(q.p);
    free(want.p);
}
END_TEST

/* ---- zeros, the smallest, the largest, and what is no number ---- */
START_TEST(zeros) {
    const weft_codec c = codec_at((size_t)_i % CODECS);
    const weft_dtype t = (weft_dtype)(_i / CODECS);
    const size_t n = 513;
    vector x = vector_make(t, n), kept = vector_make(kept_type(t), n), out = vector_draw(t, n, NORMAL);
    size_t i;
    int form;
    put(&x, 77, -0.0);
    for (form = 0; form < 3; form++) {
        coded h = code(K, c, (weft_codec_form)form, &x, &kept, 5, 2);
        decode(K, &h, NULL, &out);
        for (i = 0; i < n; i++)
            ck_assert_msg(get(&out, i) == 0 && get(&kept, i) == 0, "element %zu: %g, kept %g", i, get(&out, i),
                          get(&kept, i));
        coded_free(&h);
    }
    free(x.p);
    free(kept.p);
    free(out.p);
}
END_TEST

START_TEST(extremes) {
    const weft_codec c = codec_at((size_t)_i % CODECS);
    const double edge[] = {3.4028234663852886e38, 3.3e38, 1e30, 1.5e-38, 1.2e-38, 1e-39, 1.4e-45};
    const weft_dtype t = _i / CODECS ? WEFT_F64 : WEFT_F32;
    size_t i, e;
    for (e = 0; e < 7; e++) {
        const size_t n = 300;
        vector x = vector_make(t, n), kept = vector_make(t, n), q = vector_make(t, n);
        coded h;
        for (i = 0; i < n; i++) put(&x, i, i % 3 == 0 ? edge[e] : i % 3 == 1 ? -edge[e] / 3 : edge[e] / 1000);
        if (c.kind == WEFT_CODEC_QSGD && e < 2 && t == WEFT_F32) { /* the norm is beyond f32 */
            weft_codec_job j;
            weft_codec_scale scale;
            weft_detail d = weft_detail_none();
            memset(&j, 0, sizeof j);
            j.codec = &c;
            j.count = n;
            j.data = x.p;
            expect(weft_codec_measure(K, &j, &scale, &d), WEFT_ERR_NONFINITE, &d, "norm of the tensor");
        } else {
            h = code(K, c, WEFT_CODEC_FEEDBACK, &x, &kept, e, 0);
            decode(K, &h, NULL, &q);
            for (i = 0; i < n; i++) {
                const double lost = get(&x, i) - get(&q, i) - get(&kept, i);
                ck_assert_msg(weft_is_finite(get(&q, i)) && weft_is_finite(get(&kept, i)), "%g becomes %g, keeps %g",
                              get(&x, i), get(&q, i), get(&kept, i));
                ck_assert_msg(fabs(lost) <= 2e-7 * fmax(fabs(get(&q, i)), fabs(get(&x, i))) + 2e-45, "%g is lost of %g",
                              lost, get(&x, i));
                /* the scale of a whole tensor is no bound for its elements, of sign and of the norm */
                if (c.kind == WEFT_CODEC_Q8 && edge[e] > 2e-28)
                    ck_assert_msg(fabs(get(&kept, i)) < edge[e] / 120, "%g of %g is kept", get(&kept, i), get(&x, i));
            }
            coded_free(&h);
        }
        free(x.p);
        free(kept.p);
        free(q.p);
    }
}
END_TEST

/* f64 beyond f32's range: saturated by the codecs of 32 bits, with feedback not lost. */
START_TEST(beyond_f32) {
    const size_t which[] = {1, 2, 3, 4};
    const weft_codec c = codec_at(which[_i]);
    const size_t n = 270;
    vector x = vector_make(WEFT_F64, n), kept = vector_make(WEFT_F64, n), q = vector_make(WEFT_F64, n);
    coded h;
    size_t i;
    for (i = 0; i < n; i++) put(&x, i, i % 2 ? 1e200 : -1e100);
    h = code(K, c, WEFT_CODEC_FEEDBACK, &x, &kept, 3, 0);
    ck_assert_uint_eq(h.nonfinite, 0);
    decode(K, &h, NULL, &q);
    for (i = 0; i < n; i++) {
        ck_assert(fabs(get(&q, i)) > 6e4 && fabs(get(&q, i)) < 3.5e38 && (get(&q, i) > 0) == (get(&x, i) > 0));
        ck_assert(get(&kept, i) == get(&x, i) - get(&q, i));
    }
    coded_free(&h);
    free(x.p);
    free(kept.p);
    free(q.p);
}
END_TEST

START_TEST(not_finite) {
    const weft_codec c = codec_at((size_t)_i % CODECS);
    static const weft_dtype types[] = {WEFT_F32, WEFT_F64, WEFT_BF16, WEFT_F16};
    const weft_dtype t = types[(size_t)_i / CODECS];
    const double bad[] = {weft_bits_f64(UINT64_C(0x7FF0000000000000)), weft_bits_f64(UINT64_C(0xFFF0000000000000)),
                          weft_bits_f64(UINT64_C(0x7FF8000000000000))};
    const size_t n = 900, at[3] = {0, 300, 899};
    int form;
    size_t i, b;
    reseed((uint64_t)_i + 110);
    for (form = 0; form < 3; form++) {
        vector x = vector_draw(t, n, NORMAL), with = vector_make(t, n), kept1 = vector_draw(kept_type(t), n, NORMAL),
               kept2 = vector_make(kept_type(t), n), q1 = vector_make(t, n), q2 = vector_make(t, n);
        coded h1, h2;
        memcpy(kept2.p, kept1.p, n * weft_dtype_bytes(kept1.dtype));
        for (i = 0; i < 3; i++) /* the same, if what is no number counts as nothing */
            put(&x, at[i], form == WEFT_CODEC_DIFFERENCE ? get(&kept1, at[i]) : 0);
        if (form == WEFT_CODEC_DIFFERENCE)
            for (i = 0; i < 3; i++) { /* which 16-bit types cannot say: let the copy be what they can */
                put(&kept1, at[i], get(&x, at[i]));
                put(&kept2, at[i], get(&x, at[i]));
            }
        memcpy(with.p, x.p, n * weft_dtype_bytes(t));
        for (b = 0; b < 3; b++) put(&with, at[b], bad[b]);
        h1 = code(K, c, (weft_codec_form)form, &x, &kept1, 9, 0);
        h2 = code(K, c, (weft_codec_form)form, &with, &kept2, 9, 1);
        ck_assert_uint_eq(h1.nonfinite, 0);
        ck_assert_uint_eq(h2.nonfinite, 3);
        if (c.kind == WEFT_CODEC_QSGD || c.kind == WEFT_CODEC_SIGN || c.kind == WEFT_CODEC_TOPK)
            ck_assert_uint_eq(h2.scale.nonfinite, 3);
        decode(K, &h1, NULL, &q1);
        decode(K, &h2, NULL, &q2);
        for (i = 0; i < n; i++)
            ck_assert_msg(get(&q1, i) == get(&q2, i) && get(&kept1, i) == get(&kept2, i),
                          "form %d, element %zu: %g and %g, kept %g and %g", form, i, get(&q1, i), get(&q2, i),
                          get(&kept1, i), get(&kept2, i));
        coded_free(&h1);
        coded_free(&h2);
        free(x.p);
        free(with.p);
        free(kept1.p);
        free(kept2.p);
        free(q1.p);
        free(q2.p);
    }
}
END_TEST

/* Of a tensor that is sent whole, what is no number is sent as nothing. */
START_TEST(not_finite_whole) {
    const weft_codec c = weft_codec_topk(0);
    const size_t n = 600;
    vector x = vector_draw(WEFT_F32, n, NORMAL), q = vector_make(WEFT_F32, n);
    size_t i;
    coded h;
    for (i = 0; i < n; i += 50) put(&x, i, weft_bits_f64(UINT64_C(0x7FF8000000000000)));
    h = code(K, c, WEFT_CODEC_PLAIN, &x, NULL, 0, 0);
    decode(K, &h, NULL, &q);
    ck_assert_uint_eq(h.nonfinite, n / 50);
    ck_assert_uint_eq(h.chunk[0].bytes, 8 * n);
    for (i = 0; i < n; i++) ck_assert(get(&q, i) == (i % 50 ? get(&x, i) : 0));
    coded_free(&h);
    free(x.p);
    free(q.p);
}
END_TEST

/* A residual that has been spoiled heals. */
START_TEST(spoiled_residual) {
    const weft_dtype t = _i ? WEFT_F64 : WEFT_F32;
    vector x = vector_make(t, 10), kept = vector_make(t, 10), q = vector_make(t, 10);
    coded h;
    put(&kept, 4, weft_bits_f64(UINT64_C(0x7FF8000000000000)));
    put(&x, 5, 3);
    h = code(K, weft_codec_q8(), WEFT_CODEC_FEEDBACK, &x, &kept, 0, 0);
    decode(K, &h, NULL, &q);
    ck_assert_uint_eq(h.nonfinite, 1);
    ck_assert(get(&kept, 4) == 0 && get(&q, 4) == 0 && fabs(get(&q, 5) - 3) < 1e-5);
    coded_free(&h);
    free(x.p);
    free(kept.p);
    free(q.p);
}
END_TEST

/* ---- 16-bit wire formats ---- */
START_TEST(halves) {
    const weft_codec b = weft_codec_bf16(), f = weft_codec_f16();
    const double in[] = {1e39, -1e39, 3.4e38, 70000, -65520, 65519, 1, 1.00390625, 1e-8, -0.0};
    const double as_bf16[] = {3.3895313892515355e38,
                              -3.3895313892515355e38,
                              3.3895313892515355e38,
                              70144,
                              -65536,
                              65536,
                              1,
                              1.0,
                              1.0011717677116394e-8,
                              0};
    const double as_f16[] = {65504, -65504, 65504, 65504, -65504, 65504, 1, 1.00390625, 0, 0};
    vector x = vector_make(WEFT_F64, 10), q = vector_make(WEFT_F64, 10);
    coded h;
    size_t i;
    for (i = 0; i < 10; i++) put(&x, i, in[i]);
    h = code(K, b, WEFT_CODEC_PLAIN, &x, NULL, 0, 0);
    decode(K, &h, NULL, &q);
    for (i = 0; i < 10; i++) ck_assert_msg(get(&q, i) == as_bf16[i], "bf16 %zu: %.17g", i, get(&q, i));
    coded_free(&h);
    h = code(K, f, WEFT_CODEC_PLAIN, &x, NULL, 0, 0);
    decode(K, &h, NULL, &q);
    for (i = 0; i < 10; i++) ck_assert_msg(get(&q, i) == as_f16[i], "f16 %zu: %.17g", i, get(&q, i));
    coded_free(&h);
    free(x.p);
    free(q.p);
}
END_TEST

/* ---- hostile messages ---- */

/* Any change of a message: an error that leaves `out` alone, or a finite result. */
START_TEST(hostile) {
    static const weft_dtype types[] = {WEFT_F32, WEFT_F64, WEFT_BF16, WEFT_F16};
    const weft_codec c = codec_at((size_t)_i % CODECS);
    const weft_dtype t = types[(size_t)_i / CODECS];
    size_t round_, i, refused = 0, taken = 0;
    weft_detail d = weft_detail_none();
    reseed((uint64_t)_i + 130);
    for (round_ = 0; round_ < 800; round_++) {
        const size_t n = 1 + below(400);
        vector x = vector_draw(t, n, SPARSE), out = vector_make(t, n), before;
        coded h = code(K, c, WEFT_CODEC_PLAIN, &x, NULL, round_, 0);
        const size_t was = h.chunk[0].bytes, bytes = round_ % 4 == 0 ? below(was + 20) : was;
        unsigned char *p = (unsigned char *)malloc(bytes ? bytes : 1);
        weft_status s;
        for (i = 0; i < bytes; i++) p[i] = i < was ? h.chunk[0].message[i] : (unsigned char)draw();
        for (i = below(4); bytes && i < 4; i++) {
            const size_t at = below(3) ? below(bytes) : below(bytes < 16 ? bytes : 16);
            p[at] = below(2) ? 0xFF : (unsigned char)draw();
        }
        for (i = 0; i < n; i++) put(&out, i, 1);
        before = vector_make(t, n);
        memcpy(before.p, out.p, n * weft_dtype_bytes(t));
        s = round_ % 2 ? weft_codec_decode(K, &c, t, n, 0, n, p, bytes, out.p, &d)
                       : weft_codec_decode_add(K, &c, t, n, 0, n, p, bytes, 0.5, out.p, &d);
        if (s != WEFT_OK) {
            refused++;
            ck_assert_msg(s == WEFT_ERR_PROTOCOL || s == WEFT_ERR_NONFINITE, "%s", weft_strerror(s));
            ck_assert_msg(same_vectors(&out, &before), "a refused message leaves traces");
        } else {
            taken++;
            ck_assert_msg(bytes == was || c.kind == WEFT_CODEC_SIGN, "%zu bytes are taken for %zu", bytes, was);
            if (t != WEFT_F16 && t != WEFT_BF16) /* those may be rounded to infinity */
                for (i = 0; i < n; i++)
                    if (!weft_is_finite(get(&out, i))) ck_abort_msg("%g came out", get(&out, i));
        }
        free(p);
        free(x.p);
        free(out.p);
        free(before.p);
        coded_free(&h);
    }
    ck_assert_msg(refused > 100 && taken > 100, "%zu refused, %zu taken", refused, taken);
}
END_TEST

START_TEST(hostile_pairs) {
    const weft_codec c = weft_codec_topk(0.5);
    float out[8] = {0};
    unsigned char p[32];
    weft_detail d = weft_detail_none();
    static const uint32_t index[][4] = {{0, 1, 2, 8}, {0, 2, 1, 3}, {1, 1, 2, 3}, {UINT32_MAX, 0, 1, 2}};
    size_t i, j;
    for (i = 0; i < 4; i++) {
        for (j = 0; j < 4; j++) {
            weft_put32(p + 8 * j, index[i][j]);
            weft_put32(p + 8 * j + 4, weft_f32_bits(2.0f));
        }
        expect(weft_codec_decode(K, &c, WEFT_F32, 8, 0, 8, p, 32, out, &d), WEFT_ERR_PROTOCOL, &d, "index");
    }
    expect(weft_codec_decode(K, &c, WEFT_F32, 8, 0, 8, p, 24, out, &d), WEFT_ERR_PROTOCOL, &d, "message length");
    expect(weft_codec_decode(K, &c, WEFT_F32, 8, 0, 8, p, 31, out, &d), WEFT_ERR_PROTOCOL, &d, "message length");
    expect(weft_codec_decode(K, &c, WEFT_F32, 8, 0, 0, p, 1, out, &d), WEFT_ERR_PROTOCOL, &d, "message length");
    expect(weft_codec_decode(K, &c, WEFT_F32, 8, 0, 8, NULL, 0, out, &d), WEFT_ERR_PROTOCOL, &d, "message length");
    for (j = 0; j < 4; j++) weft_put32(p + 8 * j, (uint32_t)j);
    weft_put32(p + 12, 0x7F800000u);
    expect(weft_codec_decode(K, &c, WEFT_F32, 8, 0, 8, p, 32, out, &d), WEFT_ERR_NONFINITE, &d, "message");
    for (j = 0; j < 8; j++) ck_assert(out[j] == 0.0f);
}
END_TEST

/* A model of several tensors, coded in rounds, each cut anew, by what is kept of each; copied in the middle of a round
 * into other memory, and gone on with. The same bits as without a break, and nothing is lost. */
enum { MODEL = 4, ROUNDS_OF_MODEL = 8 };

typedef struct model {
    weft_tensor tensor[MODEL];
    void *kept[MODEL];
    double *sum[MODEL]; /* of what came in less what was sent */
    uint64_t digest;
} model;

static void model_init(model *m) {
    static const size_t count[MODEL] = {1300, 0, 5, 700};
    static const weft_dtype dtype[MODEL] = {WEFT_F32, WEFT_F16, WEFT_BF16, WEFT_F64};
    size_t i;
    memset(m, 0, sizeof *m);
    for (i = 0; i < MODEL; i++) {
        m->tensor[i].count = count[i];
        m->tensor[i].dtype = dtype[i];
        m->sum[i] = (double *)calloc(count[i] + 1, sizeof(double));
        m->kept[i] = calloc(count[i] + 1, weft_codec_value_bytes(dtype[i]));
        if (!m->sum[i] || !m->kept[i]) abort();
    }
    m->digest = 1;
}

static void model_free(model *m) {
    size_t i;
    for (i = 0; i < MODEL; i++) {
        free(m->sum[i]);
        free(m->kept[i]);
    }
}

/* Tensor i of a round. */
static void model_code(model *m, const weft_codec *c, int round_, size_t i, int cuts) {
    const weft_dtype t = m->tensor[i].dtype;
    const size_t n = m->tensor[i].count;
    vector x, kept, q = vector_make(kept_type(t), n);
    size_t e;
    coded h;
    state = (uint64_t)round_ * MODEL + i; /* the same data in every run */
    x = vector_draw(t, n, NORMAL);
    state = (uint64_t)round_ * 977 + (uint64_t)cuts; /* but cut in another way */
    kept.dtype = kept_type(t);
    kept.n = n;
    kept.p = m->kept[i];
    h = code(K, *c, WEFT_CODEC_FEEDBACK, &x, &kept, weft_codec_key(5, (uint64_t)round_, 0, i), n ? cuts : 0);
    decode(K, &h, NULL, &q);
    m->digest = digest_of_values(m->digest, &q);
    for (e = 0; e < n; e++) m->sum[i][e] += get(&x, e) - get(&q, e);
    coded_free(&h);
    free(x.p);
    free(q.p);
}

START_TEST(saved_midway) {
    const weft_codec c = codec_at((size_t)_i);
    const int stop = 3;
    model one, two;
    size_t i, e;
    int round_;
    model_init(&one);
    for (round_ = 0; round_ < ROUNDS_OF_MODEL; round_++)
        for (i = 0; i < MODEL; i++) model_code(&one, &c, round_, i, 0);
    model_init(&two);
    for (round_ = 0; round_ < ROUNDS_OF_MODEL; round_++)
        for (i = 0; i < MODEL; i++) {
            if (round_ == stop && i == 2) {
                model loaded;
                model_init(&loaded);
                for (e = 0; e < MODEL; e++) {
                    const weft_tensor *t = &two.tensor[e];
                    memcpy(loaded.sum[e], two.sum[e], t->count * sizeof(double));
                    memcpy(loaded.kept[e], two.kept[e], t->count * weft_codec_value_bytes(t->dtype));
                }
                loaded.digest = two.digest;
                model_free(&two);
                two = loaded;
            }
            model_code(&two, &c, round_, i, 2);
        }
    ck_assert_msg(one.digest == two.digest, "other bits were sent");
    for (i = 0; i < MODEL; i++)
        for (e = 0; e < one.tensor[i].count; e++) {
            const double slack = one.tensor[i].dtype == WEFT_F64 ? 1e-12 : 2e-4;
            const size_t each = weft_codec_value_bytes(one.tensor[i].dtype);
            const double kept = each == 8 ? ((const double *)two.kept[i])[e] : (double)((const float *)two.kept[i])[e];
            ck_assert_int_eq(memcmp((char *)one.kept[i] + e * each, (char *)two.kept[i] + e * each, each), 0);
            ck_assert_msg(fabs(two.sum[i][e] - kept) <= slack * (1 + fabs(kept)), "tensor %zu, element %zu: %g, not %g",
                          i, e, kept, two.sum[i][e]);
        }
    model_free(&one);
    model_free(&two);
}
END_TEST

/* Suites, so that a fault is looked for where it is to be noticed. */
static TCase *begin_suite(SRunner *r, const char *name) {
    Suite *s = suite_create(name);
    TCase *t = tcase_create(name);
    tcase_set_timeout(t, 300);
    suite_add_tcase(s, t);
    srunner_add_suite(r, s);
    return t;
}

int main(void) {
    SRunner *r = srunner_create(NULL);
    TCase *t = begin_suite(r, "api");
    int failed;
    find_sets();
    state = seed;
    tcase_add_test(t, sizes);
    tcase_add_test(t, count_of_topk);
    tcase_add_test(t, bad_codecs);
    tcase_add_test(t, bad_jobs);
    t = begin_suite(r, "draws");
    tcase_add_test(t, draws);
    tcase_add_test(t, draws_use_all_of_the_key);
    t = begin_suite(r, "values");
    tcase_add_loop_test(t, unbiased, 0, 10);
    tcase_add_loop_test(t, unbiased_as_a_whole, 0, 4);
    tcase_add_loop_test(t, contractions, 0, CODECS);
    tcase_add_loop_test(t, levels, 0, 2 * KINDS);
    tcase_add_test(t, halves);
    t = begin_suite(r, "topk");
    tcase_add_loop_test(t, topk_by_sorting, 0, 4);
    tcase_add_loop_test(t, topk_of_samples, 0, 10);
    tcase_add_loop_test(t, whole_tensors, 0, 6 * (CODECS + 4));
    t = begin_suite(r, "keeping");
    tcase_add_loop_test(t, conservation, 0, 4 * CODECS);
    tcase_add_loop_test(t, public_copies, 0, 2 * CODECS);
    tcase_add_loop_test(t, saved_midway, 0, CODECS);
    t = begin_suite(r, "bits");
    tcase_add_loop_test(t, same_bits, 0, CODECS);
    tcase_add_loop_test(t, same_everywhere, 0, CODECS);
    tcase_add_test(t, kernels);
    tcase_add_loop_test(t, adding, 0, CODECS);
    tcase_add_loop_test(t, adding_pairs, 0, 4);
    t = begin_suite(r, "edges");
    tcase_add_loop_test(t, zeros, 0, 4 * CODECS);
    tcase_add_loop_test(t, extremes, 0, 2 * CODECS);
    tcase_add_loop_test(t, beyond_f32, 0, 4);
    tcase_add_loop_test(t, not_finite, 0, 4 * CODECS);
    tcase_add_test(t, not_finite_whole);
    tcase_add_loop_test(t, spoiled_residual, 0, 2);
    t = begin_suite(r, "hostile");
    tcase_add_loop_test(t, hostile, 0, 4 * CODECS);
    tcase_add_test(t, hostile_pairs);
    srunner_run_all(r, CK_ENV);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
