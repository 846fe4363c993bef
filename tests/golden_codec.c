/* SPDX-License-Identifier: MIT
 * golden_codec.c: replays golden vectors of compressors (tests/golden/codec/README.md says what is in them) through
 * encode and decode, for f64 and f32 tensors, in one piece and in all forms. Where the published code divides by zero
 * (a tensor of zeros), zeros are required. */
#define SADDLE_IMPLEMENTATION
#include "../saddle.h"

#define GOLDEN_NAME "codec"
#define GOLDEN_USAGE                                                                                                   \
    "Replays golden vectors (JSON) of compressors through the codecs of codec.h, by every set of kernels here.\n"
#define GOLDEN_FIELDS int sets; /* of kernels */
#include "golden.h"

enum { MOST = 100000 };

static const weft_codec_kernels *K;

static int near(golden *g, const char *what, size_t i, double got, double want, double tolerance) {
    const double error = fabs(got - want);
    g->checks++;
    if (!(error <= tolerance)) {
        g->worst = HUGE_VAL;
        return bad(g, "%s, element %zu: %.17g instead of %.17g", what, i, got, want);
    }
    if (error > 0 && error / tolerance > g->worst) g->worst = error / tolerance;
    return 1;
}

/* The numbers of an array, in memory of their own; NULL if there is none. */
static double *list_of(golden *g, const cJSON *j, const char *what, size_t *n) {
    const cJSON *e;
    double *v;
    *n = 0;
    if (!cJSON_IsArray(j) || cJSON_GetArraySize(j) > MOST) {
        bad(g, "%s: an array of at most %d is expected", what, MOST);
        return NULL;
    }
    v = (double *)room((size_t)cJSON_GetArraySize(j), sizeof *v);
    cJSON_ArrayForEach(e, j) {
        if (!number(g, e, what, &v[(*n)++])) {
            free(v);
            return NULL;
        }
    }
    return v;
}

/* x through the codec, as f64 or f32 in this form; the result, and in `message` what was sent (memory of its own).
 * What is kept begins with the number `before`. */
static double *replay(golden *g, const char *what, const weft_codec *c, weft_dtype t, weft_codec_form form, size_t n,
                      const double *x, const double *u, weft_codec_scale *scale, unsigned char **message) {
    const size_t each = weft_dtype_bytes(t), capacity = weft_codec_bytes(c, t, n, n);
    void *data = calloc(n + 1, each), *kept = calloc(n + 1, each), *out = calloc(n + 1, each);
    double *q = (double *)calloc(n + 1, sizeof *q);
    weft_codec_job j;
    weft_detail d = weft_detail_none();
    weft_status s;
    size_t i, bytes = 0;
    *message = (unsigned char *)malloc(capacity + 1);
    if (!data || !kept || !out || !q || !*message) exit(2);
    for (i = 0; i < n; i++) {
        if (t == WEFT_F64)
            ((double *)data)[i] = x[i];
        else
            ((float *)data)[i] = (float)x[i];
    }
    memset(&j, 0, sizeof j);
    j.codec = c;
    j.form = form;
    j.dtype = t;
    j.count = n;
    j.data = data;
    j.kept = form ? kept : NULL;
    j.uniform = u;
    s = weft_codec_measure(K, &j, scale, &d);
    if (s == WEFT_OK) s = weft_codec_encode(K, &j, scale, 0, n, *message, capacity, &bytes, NULL, &d);
    if (s == WEFT_OK) s = weft_codec_decode(K, c, t, n, 0, n, *message, bytes, out, &d);
    if (s != WEFT_OK) bad(g, "%s: %s", what, weft_strerror(s));
    for (i = 0; i < n; i++) {
        double k = t == WEFT_F64 ? ((double *)kept)[i] : (double)((float *)kept)[i];
        q[i] = t == WEFT_F64 ? ((double *)out)[i] : (double)((float *)out)[i];
        /* what was sent and what remains is what came in; what receivers know is what they were sent */
        if (form == WEFT_CODEC_FEEDBACK) near(g, "sent and kept", i, q[i] + k, x[i], each == 8 ? 1e-15 : 3e-7);
        if (form == WEFT_CODEC_DIFFERENCE) near(g, "public copy", i, k, q[i], 0);
    }
    free(data);
    free(kept);
    free(out);
    return q;
}

static int one_case(golden *g, const char *what, const weft_codec *c, const cJSON *o) {
    size_t n = 0, m = 0, nu = 0, nq = 0, i, pass;
    double *x = list_of(g, item(o, "x"), "x", &n), *want = list_of(g, item(o, "q"), "q", &nq), *u = NULL, *list = NULL;
    const char *key = c->kind == WEFT_CODEC_TOPK ? "idx" : c->kind == WEFT_CODEC_QSGD ? "level" : NULL;
    if (x && item(o, "u")) u = list_of(g, item(o, "u"), "u", &nu);
    if (x && key) list = list_of(g, item(o, key), key, &m);
    if (!x || !want || n != nq || (u && nu != n) || (key && !list) || (c->kind == WEFT_CODEC_QSGD && (!u || m != n)))
        bad(g, "%s: x, q and what belongs to them do not fit", what);
    else
        for (pass = 0; pass < 6; pass++) {
            const weft_dtype t = pass % 2 ? WEFT_F32 : WEFT_F64;
            const size_t each = weft_dtype_bytes(t);
            weft_codec_scale scale;
            unsigned char *message;
            double *q = replay(g, what, c, t, (weft_codec_form)(pass / 2), n, x, u, &scale, &message);
            for (i = 0; i < n; i++)
                near(g, what, i, q[i], want[i], (t == WEFT_F64 ? 2e-15 : 3e-7) * (fabs(want[i]) + 1e-3));
            for (i = 0; i < m; i++) {
                if (key[0] == 'i')
                    near(g, "idx", i, (double)weft_get32(message + i * (4 + each)), list[i], 0);
                else
                    near(g, "level", i, scale.step > 0 ? round(fabs(q[i]) / scale.step) : 0, list[i], 0);
            }
            if (key && key[0] == 'i') near(g, "how many", 0, (double)weft_codec_sent(c, n), (double)m, 0);
            free(q);
            free(message);
        }
    free(x);
    free(want);
    free(u);
    free(list);
    return g->misses == 0;
}

static void replay_zeros(golden *g, const cJSON *o) {
    size_t n, i, pass;
    double *want;
    weft_codec c[WEFT_CODEC_KINDS];
    if (!known(g, o, "qsgd_zero_tensor", "reference_gives we_require")) return;
    want = list_of(g, item(o, "we_require"), "we_require", &n);
    if (!want) return;
    c[0] = weft_codec_identity();
    c[1] = weft_codec_bf16();
    c[2] = weft_codec_f16();
    c[3] = weft_codec_q8();
    c[4] = weft_codec_q4();
    c[5] = weft_codec_qsgd(8, 0);
    c[6] = weft_codec_topk(0.5);
    c[7] = weft_codec_sign();
    for (pass = 0; pass < 2 * WEFT_CODEC_KINDS; pass++) {
        weft_codec_scale scale;
        unsigned char *message;
        double *zero = (double *)calloc(n + 1, sizeof *zero);
        double *q = replay(g, "zeros", &c[pass / 2], pass % 2 ? WEFT_F32 : WEFT_F64, WEFT_CODEC_PLAIN, n, zero, NULL,
                           &scale, &message);
        for (i = 0; i < n; i++) near(g, "zeros", i, q[i], want[i], 0);
        free(zero);
        free(q);
        free(message);
    }
    free(want);
}

/* The uniforms of the case files: what makes the `u` of such a file where it only names a seed. */
static void replay_uniforms(golden *g, const cJSON *o) {
    size_t n, i;
    double seed = 0, *want;
    if (!known(g, o, "splitmix_uniform", "seed first8") || !number(g, item(o, "seed"), "seed", &seed)) return;
    want = list_of(g, item(o, "first8"), "first8", &n);
    for (i = 0; want && i < n; i++)
        near(g, "splitmix_uniform", i,
             (double)(weft_mix((uint64_t)seed + WEFT_HASH_KEY * (uint64_t)(i + 1)) >> 11) / 9007199254740992.0, want[i],
             0);
    free(want);
}

static void replay_set(golden *g, const cJSON *doc) {
    const cJSON *e;
    weft_codec c;
    double v = 0, bits = 0;
    if (!known(g, doc, "the file",
               "origin note topk_count topk qsgd scaled_sign qsgd_zero_tensor qsgd_reference_max_abs_diff"
               " splitmix_uniform"))
        return;
    cJSON_ArrayForEach(e, item(doc, "topk_count")) {
        size_t n;
        double *row = list_of(g, e, "topk_count", &n);
        if (row && n == 3) {
            c = weft_codec_topk(row[1]);
            near(g, "topk_count", (size_t)row[0], (double)weft_codec_sent(&c, (size_t)row[0]), row[2], 0);
        } else
            bad(g, "topk_count: three numbers are expected");
        free(row);
    }
    cJSON_ArrayForEach(e, item(doc, "topk")) {
        if (!known(g, e, "topk", "x drop_ratio idx q note") || !number(g, item(e, "drop_ratio"), "drop_ratio", &v))
            return;
        c = weft_codec_topk(v);
        one_case(g, "topk", &c, e);
    }
    cJSON_ArrayForEach(e, item(doc, "qsgd")) {
        if (!known(g, e, "qsgd", "x bits biased u level q min_margin seed_of_u note") ||
            !number(g, item(e, "bits"), "bits", &bits))
            return;
        if (!cJSON_IsBool(item(e, "biased")) || bits < 1 || bits > 16) {
            bad(g, "qsgd: bits from 1 to 16 and biased, true or false, are expected");
            return;
        }
        c = weft_codec_qsgd((uint32_t)bits, cJSON_IsTrue(item(e, "biased")));
        one_case(g, "qsgd", &c, e);
    }
    cJSON_ArrayForEach(e, item(doc, "scaled_sign")) {
        if (!known(g, e, "scaled_sign", "x q note")) return;
        c = weft_codec_sign();
        one_case(g, "scaled_sign", &c, e);
    }
    if (item(doc, "qsgd_zero_tensor")) replay_zeros(g, item(doc, "qsgd_zero_tensor"));
    if (item(doc, "splitmix_uniform")) replay_uniforms(g, item(doc, "splitmix_uniform"));
}

static void replay_file(golden *g) {
    int isa;
    for (isa = WEFT_ISA_SERIAL; isa < WEFT_ISA_COUNT; isa++) {
        K = weft_codec_kernels_select((weft_isa)isa, 0);
        if (!K) continue;
        g->sets++;
        replay_set(g, g->doc);
    }
}

static void forget_file(golden *g) {
    (void)g;
}

static void tell_file(const golden *g) {
    printf(", %d sets of kernels", g->sets);
}

int main(int argc, char **argv) {
    return golden_main(argc, argv, replay_file, forget_file, tell_file);
}
