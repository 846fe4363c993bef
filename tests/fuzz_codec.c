/* SPDX-License-Identifier: MIT
 * libFuzzer: codecs. Four bytes choose codec, type, sizes; the rest is a message, which is decoded (refused without a
 * trace, or a finite result), and data, which is encoded in two chunks and must be what its decoding says. */
#define SADDLE_IMPLEMENTATION
#include "../saddle.h"

#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void need(int ok, const char *why) {
    if (ok) return;
    fprintf(stderr, "%s\n", why);
    abort();
}

static int finite_at(weft_dtype t, const unsigned char *p, size_t i) {
    double d;
    float f;
    if (t == WEFT_F64) {
        memcpy(&d, p + 8 * i, 8);
        return weft_is_finite(d);
    }
    memcpy(&f, p + 4 * i, 4);
    return weft_is_finite((double)f);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const weft_dtype types[4] = {WEFT_F32, WEFT_F64, WEFT_BF16, WEFT_F16};
    const weft_codec_kernels *k = weft_codec_kernels_select(data && size && (data[0] & 1) ? WEFT_ISA_AUTO
                                                                                         : WEFT_ISA_SERIAL, 0);
    weft_detail d = weft_detail_none();
    weft_codec c;
    weft_dtype t;
    size_t n, each, first, i, bytes, cut, most;
    unsigned char *out, *before, *message, *z, *kept;
    weft_codec_job j;
    weft_codec_scale scale;
    weft_status s;
    if (size < 4) return 0;
    memset(&c, 0, sizeof c);
    c.kind = (weft_codec_kind)(data[0] >> 1 & 7);
    t = types[data[0] >> 4 & 3];
    if (c.kind == WEFT_CODEC_QSGD) {
        c.bits = 1 + (data[1] & 15u);
        c.biased = data[1] >> 4 & 1;
    }
    if (c.kind == WEFT_CODEC_TOPK) c.drop = (double)data[1] / 256;
    n = (size_t)data[2] | (size_t)(data[3] & 7u) << 8;
    each = weft_dtype_bytes(t);
    data += 4;
    size -= 4;

    /* a message, where the second block begins if there is one */
    first = n > 256 ? 256 : 0;
    out = (unsigned char *)calloc(n + 1, each);
    before = (unsigned char *)calloc(n + 1, each);
    message = (unsigned char *)malloc(size ? size : 1); /* exactly so long */
    need(out && before && message, "memory");
    memcpy(message, data, size);
    s = weft_codec_decode_add(k, &c, t, n, first, n - first, message, size, 1.0, out, &d);
    if (s != WEFT_OK) {
        need(s == WEFT_ERR_PROTOCOL || s == WEFT_ERR_NONFINITE, "another error");
        need(!memcmp(out, before, n * each), "a refused message leaves traces");
    } else {
        need(!memcmp(out, before, first * each), "written outside of the chunk");
        for (i = 0; each > 2 && i < n; i++) need(finite_at(t, out, i), "not finite");
    }
    free(message);

    /* data: whatever the bytes make, NaN included */
    z = (unsigned char *)calloc(n + 1, each);
    kept = (unsigned char *)calloc(n + 1, 8);
    need(z && kept, "memory");
    memcpy(z, data, size < n * each ? size : n * each);
    memset(&j, 0, sizeof j);
    j.codec = &c;
    j.form = WEFT_CODEC_DIFFERENCE;
    j.dtype = t;
    j.count = n;
    j.data = z;
    j.kept = kept;
    s = weft_codec_measure(k, &j, &scale, &d);
    need(s == WEFT_OK || s == WEFT_ERR_NONFINITE, "measure");
    memset(out, 0, n * each);
    for (cut = 0; s == WEFT_OK && cut < 2; cut++) {
        const size_t from = cut ? first : 0, count = cut ? n - first : first;
        most = weft_codec_bytes(&c, t, n, count);
        message = (unsigned char *)malloc(most ? most : 1);
        need(message != NULL, "memory");
        need(weft_codec_encode(k, &j, &scale, from, count, message, most, &bytes, NULL, &d) == WEFT_OK, "encode");
        need(bytes <= most, "longer than its bound");
        need(weft_codec_decode(k, &c, t, n, from, count, message, bytes, out, &d) == WEFT_OK, "decode");
        free(message);
    }
    if (s == WEFT_OK && each > 2)
        for (i = 0; i < n; i++) need(finite_at(t, out, i) && finite_at(t, kept, i), "encoded what is not finite");
    if (s == WEFT_OK && each > 2)
        for (i = 0; i < n * each; i++) /* 0 + C(t) is C(t), but for the sign of zero */
            need(out[i] == kept[i] || ((out[i] ^ kept[i]) & 0x7F) == 0, "the copy is not what was sent");
    free(out);
    free(before);
    free(z);
    free(kept);
    return 0;
}
