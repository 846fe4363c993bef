/* SPDX-License-Identifier: MIT
 * libFuzzer: hpsgd_load. The input is a blob as it is (first byte even), or how the contents differ from one that was
 * saved after some steps (odd: nine bytes a number: which, and what is XORed; length, fingerprint and checksum fit).
 * Bits 1 .. choose the settings, the moment at which it was saved, and who goes on with it.
 *
 * What must hold: it is refused and the object is as hpsgd_init makes it, or what is saved again is what was loaded;
 * then the workers go on, drain, come into a new view, drain once more, and end with the same finite parameters or the
 * same error. */
#define WEFT_NO_SIMD /* asking the processor takes longer than a run */
#define GRAWA_IMPLEMENTATION
#include "../grawa.h"
#define HPSGD_IMPLEMENTATION
#include "../hpsgd.h"
/* what surrounds it is not to be explored */
#pragma clang attribute push(__attribute__((no_sanitize("coverage"))), apply_to = function)
#include "hpsgd_lock.h"
#include "blob.h"
#pragma clang attribute pop

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { TENSORS = 3, ELEMENTS = 17, WORKERS = 2, STEPS = 5, CHANGE = 9, ROOM = 1024 };

static const size_t count[TENSORS] = {5, 0, 12};

static void need(int ok, const char *why) {
    if (ok) return;
    fprintf(stderr, "%s\n", why);
    abort();
}

/* ---- settings ---- */

static weft_tensor master_of[WORKERS][TENSORS];
static float master_data[WORKERS][ELEMENTS];

static int with_master(lock_worker *w) {
    size_t i, k, at = 0;
    for (i = 0; i < TENSORS; i++) {
        weft_tensor *m = &master_of[w->rank][i];
        const weft_tensor *p = &w->params.tensor[i];
        m->count = p->count;
        m->dtype = WEFT_F32;
        m->data = p->count ? &master_data[w->rank][at] : NULL;
        for (k = 0; k < p->count; k++) master_data[w->rank][at++] = (float)cluster_get(p, k);
    }
    w->desc.master.tensor = master_of[w->rank];
    w->desc.master.count = TENSORS;
    return 1;
}

/* Two bits of what, eight kinds of it. */
static lock_desc settings(int bits) {
    static const weft_dtype mixed[TENSORS] = {WEFT_F64, WEFT_F32, WEFT_F32};
    static const weft_dtype narrow[TENSORS] = {WEFT_BF16, WEFT_F16, WEFT_F16};
    lock_desc d = lock_default(bits >> 5 == 3 ? 1 : WORKERS);
    d.count = count;
    d.h.isa = WEFT_ISA_SERIAL;
    d.h.mode = HPSGD_FIXED;
    d.h.max_steps = 3;
    switch (bits & 7) {
    case 0: d.h.carry = 0.5; break;
    case 1:
        d.h.payload = HPSGD_PAYLOAD_BF16;
        d.h.carry = 0.25;
        break;
    case 2:
        d.dtype = mixed;
        d.h.startup = HPSGD_CONTINUE;
        d.h.check_replicas = 1;
        break;
    case 3:
        d.h.mode = HPSGD_FREE;
        d.h.keep_delta = WEFT_ZERO;
        break;
    case 4:
        d.h.mode = HPSGD_BLOCKING;
        d.h.min_steps = d.h.max_steps = 2;
        d.h.guard = HPSGD_GUARD_SKIP;
        break;
    case 5:
        d.dtype = narrow;
        d.prepare = with_master;
        break;
    case 6:
        d.h.mode = HPSGD_FREE;
        d.h.payload = HPSGD_PAYLOAD_BF16;
        d.h.max_steps = 2;
        break;
    default:
        d.h.initial = HPSGD_INITIAL_COPY;
        d.h.carry = 1;
        d.h.algorithm = WEFT_ALGORITHM_RING;
        d.unequal = 1;
    }
    return d;
}

/* What is trained: the parameters, or their masters. */
static weft_tensors trained(const lock_worker *w) {
    weft_tensors t;
    t.tensor = w->h->work;
    t.count = TENSORS;
    return t;
}

/* Puts the host's numbers into the parameters (and masters), or takes them out. */
static void numbers(const lock_worker *w, double *x, int in) {
    const weft_tensors t = trained(w);
    size_t i, k;
    for (i = 0; i < TENSORS; i++)
        for (k = 0; k < count[i]; k++, x++) {
            if (!in) *x = cluster_get(&t.tensor[i], k);
            if (in) cluster_set(&t.tensor[i], k, *x);
            if (in) cluster_set(&w->params.tensor[i], k, *x);
        }
}

/* ---- running ---- */

/* Local steps of all who may take one. No two need agree on when rounds are: some wait while others train. */
static void steps(lock *k, int n) {
    uint32_t r;
    int times;
    while (n--) {
        for (r = 0; r < k->size; r++) {
            lock_worker *w = &k->worker[r];
            const weft_tensors t = trained(w);
            if (w->status != WEFT_OK) continue;
            lock_train(&t, r, w->step++);
            w->status = hpsgd_step(w->h);
        }
        for (times = 0; times < 12; times++) {
            weft_sim_advance(&k->sim, 2000);
            for (r = 0; r < k->size; r++) {
                lock_worker *w = &k->worker[r];
                if (w->status == WEFT_AGAIN || w->status == WEFT_STALL) w->status = hpsgd_poll(w->h);
            }
        }
    }
}

/* 0: all have the same error, and that is the end. `met`: they have come together before. */
static int alike(lock *k, int met, const char *what) {
    uint32_t r;
    need(lock_settle(k), what);
    for (r = 0; r < k->size; r++) {
        const lock_worker *w = &k->worker[r];
        need(w->status == k->worker[0].status, "workers see different ends");
        if (w->status == WEFT_OK) continue;
        need(w->status == WEFT_ERR_MISMATCH && !met, "another error than that they have loaded different moments");
        need(hpsgd_detail(w->h)->status == w->status && hpsgd_detail(w->h)->field, "an error that does not say why");
    }
    return k->worker[0].status == WEFT_OK;
}

/* All are on the same global model. wild: numbers so large that they overflow. */
static void look(lock *k, int wild) {
    uint32_t r;
    size_t i;
    for (r = 0; r < k->size; r++) {
        lock_worker *w = &k->worker[r];
        const weft_tensors t = trained(w), first = trained(&k->worker[0]);
        double x[ELEMENTS];
        hpsgd_stats_t s;
        hpsgd_stats(w->h, &s);
        need(s.steps == s.steps_merged + s.steps_lost && !s.steps_pending, "steps that are neither merged nor lost");
        need(!(hpsgd_state(w->h) & HPSGD_IN_FLIGHT), "something is under way after a drain");
        numbers(w, x, 0);
        for (i = 0; i < ELEMENTS; i++) need(wild || isfinite(x[i]), "parameters that are not finite");
        need(wild || cluster_same_bits(&t, &first), "workers end with different parameters");
        need(wild || cluster_same_bits(&w->params, &k->worker[0].params), "their narrow copies differ");
    }
}

static int drain(lock *k, int met, int wild) {
    uint32_t r;
    for (r = 0; r < k->size; r++)
        if (k->worker[r].status >= 0) k->worker[r].status = hpsgd_drain(k->worker[r].h);
    if (!alike(k, met, "a drain does not end")) return 0;
    look(k, wild);
    return 1;
}

static int regroup(lock *k) {
    static const uint32_t all[WORKERS] = {0, 1};
    uint32_t r;
    weft_view v;
    v.struct_size = sizeof v;
    v.epoch = 1;
    v.count = k->size;
    v.members = all;
    for (r = 0; r < k->size; r++) k->worker[r].status = hpsgd_regroup(k->worker[r].h, &v);
    return alike(k, 1, "a new view does not settle");
}

/* ---- the past ---- */

/* Of objects that have some steps behind them, for each of the settings and each rank: made when it is needed. */
typedef struct past {
    size_t bytes;
    unsigned char blob[ROOM];
    double x[ELEMENTS];
} past;

static past saved[128][WORKERS];

static void save_all(lock *k, past *p) {
    uint32_t r;
    int again = 0;
    for (r = 0; r < k->size; r++) again |= hpsgd_save(k->worker[r].h, NULL, 0, &p[r].bytes) == WEFT_AGAIN;
    if (again) drain(k, 1, 0); /* under way, without the payload */
    for (r = 0; r < k->size; r++) {
        need(hpsgd_save(k->worker[r].h, p[r].blob, ROOM, &p[r].bytes) == WEFT_OK, "save");
        numbers(&k->worker[r], p[r].x, 0);
    }
}

static void make_past(int bits) {
    const lock_desc d = settings(bits);
    lock k;
    need(lock_open(&k, &d), k.why);
    LOCK_ALL(&k, w, hpsgd_start(w->h));
    switch (bits >> 3 & 3) {
    case 0: break;
    case 1: steps(&k, 4); break;
    case 2:
        steps(&k, 3);
        lock_pump(&k, 60); /* done, and not taken in */
        break;
    default:
        steps(&k, 5);
        drain(&k, 1, 0);
        steps(&k, 1);
    }
    need(!k.why[0], k.why);
    save_all(&k, saved[bits]);
    need(lock_close(&k), k.why);
}

/* ---- loading ---- */

/* Everything of an object that can be seen. */
typedef struct seen {
    size_t bytes;
    unsigned char blob[ROOM];
    float model[ELEMENTS];
    double wide[ELEMENTS];
    hpsgd_stats_t stats;
    hpsgd_desc desc;
    uint32_t state;
} seen;

static void see(lock_worker *w, seen *s) {
    weft_tensor t[TENSORS];
    weft_tensors into;
    size_t i, at = 0;
    memset(s, 0, sizeof *s);
    for (i = 0; i < TENSORS; at += count[i++]) {
        t[i] = w->h->work[i];
        t[i].data = !count[i] ? NULL : t[i].dtype == WEFT_F64 ? (void *)&s->wide[at] : (void *)&s->model[at];
    }
    into.tensor = t;
    into.count = TENSORS;
    need(hpsgd_model(w->h, &into) == WEFT_OK, "model");
    hpsgd_stats(w->h, &s->stats);
    hpsgd_effective(w->h, &s->desc);
    s->state = hpsgd_state(w->h);
    if (hpsgd_save(w->h, s->blob, ROOM, &s->bytes) != WEFT_OK) /* not yet: it may be another's model */
        need(s->desc.initial == HPSGD_INITIAL_COPY && !s->bytes, "save");
}

/* Is any number of the global model, of the payload or of the replica so large that sums of it overflow? */
static int large(const lock_worker *w, const double *x) {
    size_t i, k;
    int wild = 0;
    for (i = 0; i < TENSORS; i++)
        for (k = 0; k < count[i]; k++) {
            weft_tensor m = w->h->work[i];
            m.data = hpsgd_w(w->h, i);
            wild |= !(fabs(cluster_get(&m, k)) < 1e30) || !(fabs(cluster_get(&w->h->payload[i], k)) < 1e30) ||
                    !(fabs(*x++) < 1e30);
        }
    return wild;
}

/* The host has its numbers back when the blob is taken. */
static void load(lock_worker *w, int bits, const uint8_t *data, size_t size, int *wild) {
    static seen before, after;
    const past *p = &saved[bits][w->rank];
    unsigned char *exact;
    size_t bytes = data ? size - 1 : p->bytes, i, k;
    weft_status s;
    see(w, &before);
    need((before.state & HPSGD_MAY_LOAD) != 0, "an object that is not fresh");
    if (!data || data[0] & 1) {
        bytes = p->bytes;
        exact = (unsigned char *)malloc(bytes);
        memcpy(exact, p->blob, bytes);
        for (i = 1; data && i + CHANGE <= size; i += CHANGE) {
            const size_t room = bytes - WEFT_BLOB_TAIL - WEFT_BLOB_HEAD, at = data[i] % ((room + 7) / 8) * 8;
            for (k = 0; k < 8 && at + k < room; k++) exact[WEFT_BLOB_HEAD + at + k] ^= data[i + 1 + k];
        }
        blob_seal(exact, bytes, weft_get64(p->blob + 8));
    } else {
        exact = (unsigned char *)malloc(bytes + 1) + 1; /* at an odd address, at the very end of its memory */
        memcpy(exact, data + 1, bytes);
    }
    s = hpsgd_load(w->h, exact, bytes);
    need(data || s == WEFT_OK, "what was saved cannot be loaded");
    if (s != WEFT_OK) {
        const weft_detail *why = hpsgd_detail(w->h);
        need(s < 0 && why->status == s && why->field, "a refusal is an error that says why");
        see(w, &after);
        need(memcmp(&before, &after, sizeof before) == 0, "a refused blob leaves traces");
    } else {
        unsigned char again[ROOM];
        need(!(hpsgd_state(w->h) & HPSGD_MAY_LOAD), "it may be loaded twice");
        need(hpsgd_save(w->h, again, bytes - 1, &i) == WEFT_ERR_CAPACITY && i == bytes, "another length");
        need(hpsgd_save(w->h, again, bytes, NULL) == WEFT_OK, "what was loaded cannot be saved");
        need(memcmp(exact, again, bytes - WEFT_BLOB_TAIL) == 0, "what was loaded is not what is saved");
        see(w, &after);
        need(after.stats.steps_merged <= after.stats.steps &&
                 after.stats.steps_lost <= after.stats.steps - after.stats.steps_merged && after.desc.min_steps &&
                 after.desc.min_steps <= after.desc.max_steps && w->h->carried >= 0 && w->h->carried <= 1,
             "numbers that cannot be");
        numbers(w, saved[bits][w->rank].x, 1);
        *wild |= large(w, p->x);
    }
    free(!data || data[0] & 1 ? exact : exact - 1);
}

static void run(int bits, const uint8_t *data, size_t size) {
    const lock_desc d = settings(bits);
    int wild = 0;
    lock k;
    need(lock_open(&k, &d), k.why);
    load(&k.worker[0], bits, data, size, &wild);
    if (bits >> 5 == 0) load(&k.worker[1], bits, NULL, 0, &wild);    /* has what was saved */
    if (bits >> 5 == 1) load(&k.worker[1], bits, data, size, &wild); /* has the same differences; else it is new */
    steps(&k, STEPS);
    if (drain(&k, 0, wild) && regroup(&k)) {
        steps(&k, 1);
        drain(&k, 1, wild);
    }
    need(lock_close(&k), k.why);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 1 || size > 4096) return 0;
    if (!saved[data[0] >> 1][0].bytes) make_past(data[0] >> 1);
    run(data[0] >> 1, data, size);
    return 0;
}
