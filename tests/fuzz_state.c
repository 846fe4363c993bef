/* SPDX-License-Identifier: MIT
 * libFuzzer: grawa_load. The input is a blob as it is (first byte even), or the contents of one whose length,
 * fingerprint and checksum fit (odd; bits 1.. choose the settings). Either it is refused and the object is as it was,
 * or training goes on with it, ends, and stays finite. */
#define GRAWA_IMPLEMENTATION
#include "../grawa.h"
#include "cluster.h"
#include "blob.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void need(int ok, const char *why) {
    if (ok) return;
    fprintf(stderr, "%s\n", why);
    abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const size_t count[3] = {4, 1, 5};
    static const weft_dtype dtype[3] = {WEFT_F32, WEFT_BF16, WEFT_F64}, grads[3] = {WEFT_F32, WEFT_F32, WEFT_F32};
    static unsigned char before[4096], after[4096], blob[4096];
    cluster_desc d;
    cluster c;
    grawa *g;
    size_t bytes, n, i, t;
    weft_status s;
    int bits;
    if (size < 1) return 0;
    bits = data[0] >> 1;
    d = cluster_default(1, 1);
    d.tensors = 3;
    d.count = count;
    d.dtype = dtype;
    d.grad_dtype = grads;
    d.grawa.period_steps = 2;
    d.grawa.source = (grawa_source)(bits % 3);
    if (bits & 4) d.grawa.weighting = GRAWA_BY_LAYER;
    if (bits & 8) d.grawa.proximal = 0.5;
    if (bits & 16) d.grawa.trigger = GRAWA_TRIGGER_TOTAL;
    need(cluster_open(&c, &d), c.why);
    g = c.worker[0].g;
    need(grawa_set_grad_scale(g, 4) == WEFT_OK, "set_grad_scale");
    need(grawa_save(g, before, sizeof before, &bytes) == WEFT_OK, "save");
    if (data[0] & 1) { /* fits from outside */
        memcpy(blob, before, bytes);
        n = size - 1 < bytes - 28 ? size - 1 : bytes - 28;
        for (i = 0; i < n; i++) blob[24 + i] = data[1 + i] ^ before[24 + i]; /* zeros are what it is */
        blob_seal(blob, bytes, weft_get64(before + 8));
        s = grawa_load(g, blob, bytes);
    } else {
        unsigned char *exact = (unsigned char *)malloc(size);
        memcpy(exact, data + 1, size - 1);
        s = grawa_load(g, exact, size - 1);
        free(exact);
    }
    if (s != WEFT_OK) {
        need(s < 0, "a refusal is an error");
        need(grawa_save(g, after, sizeof after, &n) == WEFT_OK && n == bytes && memcmp(before, after, n) == 0,
             "a refused blob leaves traces");
        need((grawa_state(g) & GRAWA_MAY_LOAD) != 0, "a refused blob ends the state of being fresh");
    }
    for (i = 0; i < 5; i++) {
        s = grawa_step(g, cluster_noise(&c.worker[0]));
        if (s == WEFT_WANT_GRADIENT) s = grawa_probe(g, cluster_noise_probe(&c.worker[0]));
        need(s == WEFT_OK || s < 0, "alone, nothing has to be waited for");
    }
    for (t = 0; t < 3; t++)
        for (i = 0; i < count[t]; i++)
            need(isfinite(cluster_get(&c.worker[0].params.tensor[t], i)), "parameters are not finite");
    need(cluster_close(&c), c.why);
    return 0;
}
