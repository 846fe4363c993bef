/* SPDX-License-Identifier: MIT
 * HPSGD: every worker lost before and after every message, N = 2 to 4, in every phase: first contact, rounds beside
 * training and at its steps, the drain, a good-bye, a worker that joins (a new one, and one restored from its blob);
 * and every second worker while the first loss is being settled. The crew's oracle looks on after every verb: the
 * global model changes only in a merge, and is the same on all; each step is in it once, whole, or is counted as lost.
 *
 * test_hpsgd_faults.c has one worker for each message, pairs drawn at random, and no bound on what settling takes;
 * losses in a join, and of and beside a restored worker, are only here. */
#define WEFT_NO_SIMD
#define GRAWA_IMPLEMENTATION
#include "../grawa.h"
#define HPSGD_IMPLEMENTATION
#include "../hpsgd.h"
#define CREW_STEPS 12
#include "hpsgd_crew.h"

#include <check.h>

#include "exhaustive.h"

enum { PLAIN, FIXED_CARRY, BLOCKS_DROPS, IN_PLACE, VARIANTS }; /* FREE, FIXED, BLOCKING, and FREE again */
enum { TRAIN, LEAVE, JOIN, RESTORE, SCENES };

static crew_desc variant(int v, uint32_t n) {
    crew_desc d = crew_default(11 + (uint64_t)v, n);
    uint32_t r;
    d.dtype = v == FIXED_CARRY ? WEFT_F64 : WEFT_F32;
    d.pieces = v != PLAIN;
    switch (v) {
    case FIXED_CARRY:
        d.h.mode = HPSGD_FIXED;
        d.h.carry = 0.5;
        break;
    case BLOCKS_DROPS:
        d.h.mode = HPSGD_BLOCKING;
        d.h.on_void = HPSGD_DROP;
        break;
    case IN_PLACE:
        d.h.keep_delta = WEFT_ZERO;
        d.h.algorithm = WEFT_ALGORITHM_DIRECT;
        break;
    default: break;
    }
    d.h.max_steps = d.h.mode == HPSGD_BLOCKING ? 0 : 2;
    d.h.check_replicas = 1;
    for (r = 0; r < n; r++) {
        d.steps[r] = 2 + r % 2;
        d.step_ns[r] = 1200 + 700 * r;
        d.view_ns[r] = ((uint64_t)v + r) % 3 * 1700; /* hosts hear of a new view one after the other */
    }
    d.sim.mode = (weft_sim_mode)v;
    d.sim.eager_bytes = 100;
    d.sim.complete_ns = v & 1 ? 500 : 0; /* what has met its receive is not in it yet */
    d.deaf = v & 1;
    return d;
}

typedef struct stage {
    crew f;
    const exh_case *c;
    exh_seen *seen;
    uint64_t voided[CREW_MOST];
} stage;

static int survives(const crew *f, uint32_t r) {
    return weft_sim_alive(&f->sim, r) && !f->worker[r].left && f->worker[r].h && f->worker[r].h->state < HPSGD_LEFT;
}

static void struck(void *ctx, uint32_t which) {
    stage *t = (stage *)ctx;
    uint32_t r;
    (void)which;
    for (r = 0; r < t->f.size; r++)
        if (survives(&t->f, r)) t->voided[r] = t->f.worker[r].h->stats.rounds_void;
}

/* Nobody who is lost belongs to a survivor's view any more, and every view that there is has been agreed upon; or all
 * have drained, and nobody needs to hear of it. */
static int settled(void *ctx, uint32_t lost) {
    stage *t = (stage *)ctx;
    crew *f = &t->f;
    exh_seen *s = t->seen;
    uint32_t r, i, done = 1;
    for (r = 0; r < f->size; r++)
        if (survives(f, r) && f->worker[r].doing != CREW_DONE) done = 0;
    for (r = 0; r < f->size && !done; r++) {
        const crew_worker *w = &f->worker[r];
        if (!survives(f, r)) continue;
        if (w->h->group.epoch != f->epoch && f->in_view[r] && f->epoch) return 0;
        if (w->h->group.failed != WEFT_OK || w->h->state == HPSGD_SYNC || w->h->state == HPSGD_AGREED) return 0;
        for (i = 0; i < lost; i++)
            if (w->h->group.peer[t->c->loss[i].rank].member) return 0;
    }
    for (r = 0; r < f->size; r++) {
        const crew_worker *w = &f->worker[r];
        if (!survives(f, r)) continue;
        exh_came_out(s, w->h->group.members == 1, w->h->stats.rounds_void != t->voided[r]);
    }
    return 1;
}

/* All have drained; worker 0 is lost and comes back, as a new one or with parameters and blob of that moment. */
static int bring_back(stage *t, const exh_case *c) {
    crew *f = &t->f;
    crew_worker *w = &f->worker[0];
    static unsigned char blob[65536];
    double kept[CREW_MOST * CREW_STEPS + 3];
    size_t bytes = 0, i;
    uint32_t base = w->base, r;
    for (r = 0; r < f->size; r++) f->desc.steps[r] += 2;
    if (c->scene == RESTORE) {
        w->status = hpsgd_save(w->h, blob, sizeof blob, &bytes);
        if (w->status != WEFT_OK) return crew_fail_detail(w, "save");
        for (i = 0; i < f->elements; i++) {
            size_t at = i;
            const weft_tensor *x = crew_at(&w->params, &at);
            kept[i] = cluster_get(x, at);
        }
    }
    weft_sim_lose(&f->sim, 0);
    for (i = 0; i < f->elements; i++) { /* nothing of what it was before */
        size_t at = i;
        weft_tensor *x = crew_at(&w->params, &at);
        cluster_set(x, at, c->scene == RESTORE ? kept[i] : 0.0);
    }
    if (!crew_rejoin(f, 0)) return 0;
    if (c->scene != RESTORE) {
        f->desc.steps[0] = 3;
        return 1;
    }
    w->base = base; /* the blob counts those steps, too */
    w->status = hpsgd_load(w->h, blob, bytes);
    if (w->status != WEFT_OK) return crew_fail_detail(w, "load");
    w->w_hash = crew_model_hash(w->h);
    return 1;
}

static void play(const exh_case *c, exh_seen *s) {
    static stage t;
    crew *f = &t.f;
    crew_desc d = variant(c->variant, c->n);
    exh_watch w;
    uint32_t r;
    int ok;
    memset(&t, 0, sizeof t);
    t.c = c;
    t.seen = s;
    if (c->scene == LEAVE) d.leaves[c->n - 1] = 1;
    if (c->scene >= JOIN) d.view_ns[0] = 0; /* whoever comes is given the view before anything else */
    ok = crew_open(f, &d);
    if (ok && c->scene >= JOIN) ok = crew_run(f) && bring_back(&t, c);
    if (ok) {
        exh_begin(&w, &f->sim, c, s, settled, struck, &t);
        for (r = 0; r < f->size; r++)
            if (weft_sim_alive(&f->sim, r)) weft_sim_worker(&f->sim, r, crew_turn, &f->worker[r]);
        exh_pump(&w);
        ok = !f->why[0] && crew_run(f) && crew_check(f);
    }
    /* later rounds */
    for (r = 0; ok && r < f->size; r++) {
        f->desc.steps[r] += 1;
        if (survives(f, r) && f->worker[r].doing == CREW_DONE) f->worker[r].doing = CREW_BEGINS;
    }
    ok = ok && crew_run(f) && crew_check(f);
    crew_close(f);
    exh_end(s, ok, f->why);
}

/* To each other worker, from a loss until it is settled: what a worker may have under way (WEFT_LETTERS letters and one
 * piece in bulk: 5; for who notices sends nothing more but under a new view), under each of the two views that two
 * losses make at most one letter to agree on it (2), and between them the beginning of a round: its record, a first
 * piece in bulk, HAVE, or a model that is handed on (4). Steps: those in which nobody hears of anything, and the next
 * ones. */
static const exh_family family = {"hpsgd", play, 5 + 2 + 4, 4};

START_TEST(losses) {
    int v, scene;
    uint32_t n;
    for (v = 0; v < VARIANTS; v++)
        for (scene = 0; scene < SCENES; scene++)
            for (n = 2; n <= 4; n++)
                if (n < 4 || v == PLAIN) exh_all(&family, v, scene, n, n == 3 ? 100 : 0);
    exh_tell("hpsgd", 8000);
}
END_TEST

int main(void) {
    return exh_main(losses);
}
