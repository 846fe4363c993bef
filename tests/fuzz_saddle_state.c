/* SPDX-License-Identifier: MIT
 * libFuzzer: saddle_load. The input is a blob as it is (first byte even), or how the contents differ from one that was
 * saved after some steps (odd: nine bytes a number: which, and what is XORed; length, fingerprint and checksum fit).
 * Bits 1 .. 3 choose the settings, 4 and 5 the moment at which it was saved, 6 and 7 who goes on with it.
 *
 * What must hold: it is refused and the object is as saddle_init makes it, or what is saved again is what was loaded;
 * then the workers take some steps within a bound, with parameters that are finite, and copies that are the same at
 * both ends. */
#define WEFT_NO_SIMD /* asking the processor takes longer than a run */
#define GRAWA_IMPLEMENTATION
#include "../grawa.h"
#define SADDLE_IMPLEMENTATION
#include "../saddle.h"
/* what surrounds it is not to be explored */
#pragma clang attribute push(__attribute__((no_sanitize("coverage"))), apply_to = function)
#include "saddle_lock.h"
#include "blob.h"
#pragma clang attribute pop

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { TENSORS = 3, WORKERS = 2, CHANGE = 9, ROOM = 2048, GO_ON = 3, TURNS = 400 };

static const size_t count[TENSORS] = {5, 0, 12};
static const weft_dtype type[TENSORS] = {WEFT_F64, WEFT_F32, WEFT_F32};

static void need(int ok, const char *why) {
    if (ok) return;
    fprintf(stderr, "%s\n", why);
    abort();
}

static lock_desc settings(int bits) {
    lock_desc d = lock_default(WORKERS);
    d.tensors = TENSORS;
    d.count = count;
    d.dtype = type;
    d.unequal = 1;
    d.s.isa = WEFT_ISA_SERIAL;
    d.s.gamma = 0.5;
    switch (bits & 7) {
    case 0: break;
    case 1: d.s.codec = weft_codec_q8(); break;
    case 2:
        d.s.order = SADDLE_CTA;
        d.s.codec = weft_codec_q4();
        d.s.feedback = SADDLE_FEEDBACK;
        break;
    case 3: d.s.variant = SADDLE_N; break;
    case 4:
        d.s.variant = SADDLE_N;
        d.s.codec = weft_codec_topk(0.7);
        d.s.compress_self = 1;
        break;
    case 5:
        d.s.variant = SADDLE_NGC;
        d.s.order = SADDLE_CTA;
        d.s.momentum = SADDLE_MOMENTUM_GLOBAL;
        d.s.codec = weft_codec_sign();
        d.s.share = 0.25;
        break;
    case 6: d.s.variant = SADDLE_DPSGD; break;
    default:
        d.s.variant = SADDLE_DSGDM;
        d.s.order = SADDLE_CWA;
        d.s.codec = weft_codec_qsgd(6, 1);
    }
    return d;
}

/* ---- the past ---- */

typedef struct past {
    size_t bytes;
    unsigned char blob[ROOM];
} past;

static past saved[32][WORKERS];

static void make_past(int bits) {
    const lock_desc d = settings(bits);
    uint32_t r;
    lock k;
    need(lock_open(&k, &d) && lock_steps(&k, (uint64_t)(bits >> 3) * 2), k.why);
    for (r = 0; r < WORKERS; r++)
        need(saddle_save(k.worker[r].x, saved[bits][r].blob, ROOM, &saved[bits][r].bytes) == WEFT_OK, "save");
    need(lock_close(&k), k.why);
}

/* ---- loading ---- */

/* Everything of an object that can be seen. */
typedef struct seen {
    unsigned char blob[ROOM];
    saddle_stats_t stats;
    saddle_desc desc;
    uint32_t state;
} seen;

static void see(const lock_worker *w, seen *s) {
    memset(s, 0, sizeof *s);
    need(saddle_save(w->x, s->blob, ROOM, NULL) == WEFT_OK, "save");
    saddle_stats(w->x, &s->stats);
    saddle_effective(w->x, &s->desc);
    s->state = saddle_state(w->x);
}

static void load(const lock_worker *w, int bits, const uint8_t *data, size_t size) {
    static seen before, after;
    const past *p = &saved[bits][w->rank];
    const int changes = !data || (data[0] & 1);
    unsigned char *exact;
    size_t bytes = changes ? p->bytes : size - 1, i, k;
    weft_status s;
    see(w, &before);
    need((before.state & SADDLE_MAY_LOAD) != 0, "an object that is not fresh");
    if (changes) {
        const size_t room = bytes - WEFT_BLOB_TAIL - WEFT_BLOB_HEAD;
        exact = (unsigned char *)malloc(bytes);
        memcpy(exact, p->blob, bytes);
        for (i = 1; data && i + CHANGE <= size; i += CHANGE) {
            const size_t at = data[i] % ((room + 7) / 8) * 8;
            for (k = 0; k < 8 && at + k < room; k++) exact[WEFT_BLOB_HEAD + at + k] ^= data[i + 1 + k];
        }
        blob_seal(exact, bytes, weft_get64(p->blob + 8));
    } else {
        exact = (unsigned char *)malloc(bytes + 1) + 1; /* at an odd address, at the very end of its memory */
        memcpy(exact, data + 1, bytes);
    }
    s = saddle_load(w->x, exact, bytes);
    need(data || s == WEFT_OK, "what was saved cannot be loaded");
    see(w, &after);
    if (s != WEFT_OK) {
        const weft_detail *why = saddle_detail(w->x);
        need(s < 0, "a refusal is an error");
        need(why->status == WEFT_OK || why->field, "a refusal says why"); /* saddle_save has cleared it */
        need(memcmp(&before, &after, sizeof before) == 0, "a refused blob leaves traces");
    } else {
        need(!(after.state & SADDLE_MAY_LOAD), "it may be loaded twice");
        need(memcmp(exact, after.blob, bytes) == 0, "what was loaded is not what is saved");
        need(after.stats.steps <= w->x->step && after.desc.learning_rate > 0, "numbers that cannot be");
    }
    free(changes ? exact : exact - 1);
}

/* Each takes steps as far as it can: a worker that says that it is ahead by a billion leaves the other behind. */
static void go_on(lock *k, int honest) {
    uint32_t r;
    int times, spoilt[WORKERS] = {0, 0};
    uint64_t first[WORKERS];
    size_t t, i;
    for (r = 0; r < WORKERS; r++) first[r] = k->worker[r].x->stats.steps;
    for (times = 0; times < TURNS; times++) {
        for (r = 0; r < WORKERS; r++) {
            lock_worker *w = &k->worker[r];
            if (spoilt[r] || w->x->stats.steps - first[r] >= GO_ON) {
                if (!spoilt[r]) saddle_poll(w->x);
                continue;
            }
            lock_go(w);
            if (w->status >= 0) continue;
            need(!honest && w->status == WEFT_ERR_NONFINITE, "an error after loading");
            need(saddle_detail(w->x)->field != NULL, "an error that does not say why");
            spoilt[r] = 1; /* numbers so large that they overflow */
            weft_sim_lose(&k->sim, r);
        }
        weft_sim_advance(&k->sim, 1000);
    }
    for (r = 0; r < WORKERS; r++) {
        lock_worker *w = &k->worker[r];
        need(spoilt[r] || w->x->stats.steps - first[r] >= GO_ON, "steps never end");
        for (t = 0; t < TENSORS; t++)
            for (i = 0; i < count[t]; i++) need(isfinite(cluster_get(&w->params.tensor[t], i)), "not finite");
    }
    if (honest && k->worker[0].x->kept && k->worker[0].x->edge[0].copy)
        for (t = 0; t < TENSORS; t++)
            need(!count[t] ||
                     !memcmp(saddle_buffer(k->worker[0].x, SADDLE_OF_MODEL, 0, t),
                             saddle_buffer(k->worker[1].x, SADDLE_OF_COPY, 0, t), count[t] * weft_dtype_bytes(type[t])),
                 "copies differ");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    int bits;
    lock_desc d;
    lock k;
    if (size < 1 || size > 4096) return 0;
    bits = data[0] >> 1 & 31;
    if (!saved[bits][0].bytes) make_past(bits);
    d = settings(bits);
    need(lock_open(&k, &d), k.why);
    load(&k.worker[0], bits, data, size);
    if (data[0] >> 6 == 0) load(&k.worker[1], bits, NULL, 0);    /* has what was saved */
    if (data[0] >> 6 == 1) load(&k.worker[1], bits, data, size); /* has the same differences; else it is new */
    go_on(&k, size == 1 && (data[0] & 1));
    need(lock_close(&k), k.why);
    return 0;
}
