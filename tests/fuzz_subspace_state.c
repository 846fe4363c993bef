/* SPDX-License-Identifier: MIT
 * libFuzzer: subspace_load. The input is a blob as it is (first byte even), or how the contents differ from one that
 * was saved after some rounds (odd: nine bytes a number: which, and what is XORed; length, fingerprint and checksum
 * fit). Bits 1 .. choose the settings, and who goes on with it: gradients in one address space, one worker, two workers
 * that have both loaded it, two of which one is new.
 *
 * What must hold: it is refused and the object is as it was, or what is saved again is what was loaded; then rounds go
 * on, end, and whatever they leave is finite, and the same on all workers. */
#define GRAWA_IMPLEMENTATION
#include "../grawa.h"
#define SUBSPACE_IMPLEMENTATION
#include "../subspace.h"
#include "subspace_team.h"
#include "blob.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { TENSORS = 4, MOST = 3, PAST = 2, ROUNDS = 4, CHANGE = 9, ROOM = 1024 };

static const size_t count[TENSORS] = {4, 1, 0, 5};
static const weft_dtype dtype[TENSORS] = {WEFT_F32, WEFT_BF16, WEFT_F32, WEFT_F64};
static const uint32_t group_of[TENSORS] = {1, 0, 2, 1};

static void need(int ok, const char *why) {
    if (ok) return;
    fprintf(stderr, "%s\n", why);
    abort();
}

static void need_finite(const weft_tensors *t) {
    size_t k, i;
    for (k = 0; k < t->count; k++)
        for (i = 0; i < t->tensor[k].count; i++)
            need(isfinite(cluster_get(&t->tensor[k], i)), "what a round leaves is not finite");
}

/* Of an object that has rounds behind it, for each of the settings and each rank: made when it is needed. */
typedef struct past {
    size_t bytes;
    unsigned char blob[ROOM];
} past;

static past saved[128][MOST];

static void save(subspace *a, past *p) {
    need(subspace_save(a, p->blob, sizeof p->blob, &p->bytes) == WEFT_OK, "save");
}

/* Loads; 0: refused. */
static int load(subspace *a, uint32_t rank, const uint8_t *data, size_t size) {
    static past before, after;
    unsigned char *exact;
    size_t bytes = size - 1, i;
    uint32_t g;
    weft_status s;
    weft_detail why;
    need(subspace_set_batch(a, 5) == WEFT_OK, "set_batch");
    save(a, &before);
    if (data[0] & 1) {
        const past *p = &saved[data[0] >> 1][rank];
        bytes = p->bytes;
        need(bytes == before.bytes && weft_get64(p->blob + 8) == weft_get64(before.blob + 8), "another fingerprint");
        exact = (unsigned char *)malloc(bytes);
        memcpy(exact, p->blob, bytes);
        for (i = 1; i + CHANGE <= size; i += CHANGE) {
            unsigned char *at = exact + 24 + data[i] % ((bytes - 28) / 8) * 8;
            weft_put64(at, weft_get64(at) ^ weft_get64(data + i + 1));
        }
        blob_seal(exact, bytes, weft_get64(before.blob + 8));
    } else {
        exact = (unsigned char *)malloc(bytes + 1) + 1; /* at the very end of its memory */
        memcpy(exact, data + 1, bytes);
    }
    s = subspace_load(a, exact, bytes);
    why = *subspace_detail(a);
    save(a, &after);
    need(after.bytes == before.bytes, "another length");
    if (s != WEFT_OK) {
        need(s < 0 && why.status == s && why.field, "a refusal is an error that says why");
        need(memcmp(before.blob, after.blob, before.bytes) == 0, "a refused blob leaves traces");
        need((subspace_state(a) & SUBSPACE_MAY_LOAD) != 0, "a refused blob ends the state of being fresh");
    } else { /* but for slots that are not in use */
        need(memcmp(exact + 24, after.blob + 24, 8 * (10 + (size_t)subspace_groups(a))) == 0,
             "what was loaded is not what is saved");
        for (g = 0; g < subspace_groups(a); g++) {
            double slot[MOST];
            uint32_t n = subspace_slots(a, g, slot, MOST), k;
            need(n <= MOST, "more slots than there is room for");
            for (k = 0; k < n; k++) need(isfinite(slot[k]), "a slot that is not finite");
        }
    }
    free(data[0] & 1 ? exact : exact - 1);
    return s == WEFT_OK;
}

/* What can be read of a round that was. The published assignment divides by sums that are as good as zero, too. */
static void look(const subspace *a, uint32_t workers) {
    subspace_desc d;
    uint32_t g, r;
    subspace_effective(a, &d);
    for (g = 0; g < subspace_groups(a); g++) {
        double sum = 0;
        for (r = 0; r < workers; r++) {
            subspace_worker_t w;
            need(subspace_worker(a, r, g, &w) == WEFT_OK, "a worker without numbers");
            need(isfinite(w.norm) && isfinite(w.alpha) && isfinite(w.weight), "a weight that is not finite");
            sum += w.weight;
        }
        need(d.assignment == SUBSPACE_FORWARD || fabs(sum - 1) < 1e-6, "weights that do not sum to 1");
        need(subspace_slots(a, g, NULL, 0) <= workers, "more slots than workers");
    }
}

/* Gradients of all sizes: the k-th round's are small, or large, or of one worker zero. */
static void gradient(const weft_tensors *t, uint64_t k, uint32_t rank) {
    static const double size[ROUNDS] = {1, 1e-12, 1e12, 1};
    size_t i, e;
    team_fill_one(t, k, rank, 1.0);
    for (i = 0; i < t->count; i++)
        for (e = 0; e < t->tensor[i].count; e++)
            cluster_set(&t->tensor[i], e, k == 3 && rank == 0 ? 0.0 : size[k % ROUNDS] * cluster_get(&t->tensor[i], e));
}

/* The rounds of an input; data NULL: those that `saved` is of. */
static void here(const subspace_desc *d, int bits, const uint8_t *data, size_t size) {
    const uint64_t rounds = data ? ROUNDS : PAST;
    subspace_stats_t before, after;
    pile p;
    uint64_t k;
    uint32_t r;
    need(pile_open(&p, d, MOST, TENSORS, count, dtype) == WEFT_OK, "open");
    if (data) load(p.a, 0, data, size);
    for (k = 0; k < rounds; k++) {
        weft_status s;
        for (r = 0; r < MOST; r++) gradient(&p.grads[r], k, r);
        subspace_stats(p.a, &before);
        s = pile_combine(&p, NULL);
        subspace_stats(p.a, &after);
        need(s == WEFT_OK || s == WEFT_ERR_NONFINITE, "gradients that are here do not come together");
        need(after.rounds == before.rounds + (s == WEFT_OK), "a round is not counted");
        if (s != WEFT_OK) continue;
        need_finite(&p.out);
        look(p.a, MOST);
    }
    if (!data) save(p.a, &saved[bits][0]);
    need(pile_close(&p), "memory was overrun");
}

/* All but `fresh` of the workers load it. */
static void apart(const subspace_desc *s, uint32_t workers, uint32_t fresh, int bits, const uint8_t *data,
                  size_t size) {
    const uint64_t rounds = data ? ROUNDS : PAST;
    team_desc d = team_default(1, workers);
    subspace_stats_t before, after;
    team t;
    uint64_t k;
    uint32_t r;
    d.tensors = TENSORS;
    d.count = count;
    d.dtype = dtype;
    d.s = *s;
    d.s.struct_size = sizeof d.s;
    need(team_open(&t, &d), t.why);
    for (r = 0; r < workers; r++) {
        if (!data)
            need(subspace_set_batch(t.worker[r].a, 2 + r) == WEFT_OK, "set_batch");
        else if (r + fresh < workers)
            load(t.worker[r].a, r, data, size);
    }
    for (k = 0; k < rounds; k++) {
        weft_status end;
        for (r = 0; r < workers; r++) gradient(&t.worker[r].grads, k, r);
        subspace_stats(t.worker[0].a, &before);
        if (k == 1) TEAM_ALL(&t, w, subspace_submit(w->a, 2, 2));
        TEAM_ALL(&t, w, subspace_submit(w->a, 0, k == 1 ? 2 : TENSORS));
        need(!t.why[0], t.why);
        subspace_stats(t.worker[0].a, &after);
        end = t.worker[0].status;
        need(end == WEFT_OK || end == WEFT_ERR_NONFINITE, "a round does not come to its end");
        need(after.rounds == before.rounds + (end == WEFT_OK), "a round is not counted");
        for (r = 0; r < workers; r++) {
            need(t.worker[r].status == end, "workers do not agree on what became of a round");
            need_finite(&t.worker[r].grads);
            if (end == WEFT_OK) look(t.worker[r].a, workers);
        }
        if (end == WEFT_OK) need(team_alike(&t), t.why);
    }
    for (r = 0; !data && r < workers; r++) save(t.worker[r].a, &saved[bits][r]);
    need(team_close(&t), t.why);
}

static void run(int bits, const uint8_t *data, size_t size) {
    subspace_desc d;
    memset(&d, 0, sizeof d);
    d.momentum = 0.75;
    d.isa = WEFT_ISA_SERIAL; /* no looking for what the machine has, each time */
    if (bits & 4) d.assignment = SUBSPACE_FORWARD;
    if (bits & 8) {
        d.groups = 3;
        d.group_of_tensor = group_of;
    }
    if (bits & 16) d.guard = SUBSPACE_GUARD_REJECT;
    if (bits & 32) d.negative = SUBSPACE_NEGATIVE_SHIFT;
    if (bits & 64) d.scale = SUBSPACE_SCALE_MEAN_NORM;
    switch (bits & 3) {
    case 0: here(&d, bits, data, size); break;
    case 1: apart(&d, 1, 0, bits, data, size); break;
    case 2: apart(&d, 2, 0, bits, data, size); break;
    default: apart(&d, 2, 1, bits, data, size);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 1 || size > 4096) return 0;
    if (!saved[data[0] >> 1][0].bytes) run(data[0] >> 1, NULL, 0);
    run(data[0] >> 1, data, size);
    return 0;
}
