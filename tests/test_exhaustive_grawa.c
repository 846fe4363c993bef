/* SPDX-License-Identifier: MIT
 * GRAWA: every worker lost before and after every message, N = 2 to 4, in every phase: first contact, rounds, a worker
 * that joins (a new one, and one restored from its blob), a good-bye; and every second worker while the first loss is
 * being settled. The fleet's oracle looks at every bit of the parameters after every verb.
 *
 * test_grawa_faults.c has one worker for each message, pairs at samples, and no bound on what settling takes; losses in
 * a join, and of and beside a restored worker, are only here. */
#define WEFT_NO_SIMD
#define GRAWA_IMPLEMENTATION
#include "../grawa.h"
#include "fleet.h"

#include <check.h>

#include "exhaustive.h"

/* Weightings, and whatever makes another phase: norms by model and by layer, none; models in one letter, in bulk, in
 * pieces; probes; rounds without those who are late. */
enum { BY_MODEL, BY_LAYER_BULK, UNIFORM_PARTIAL, PROBE_PROXIMAL_TOTAL, VARIANTS };
/* What goes on while somebody is lost. JOIN, RESTORE: one worker had been lost after the first (JOIN_LATER: second)
 * round and comes back. REBORN: the lost one is there again, and has its view, before most have noticed. */
enum { TRAIN, LEAVE, REBORN, JOIN, JOIN_LATER, RESTORE, SCENES };

static const size_t small_count[2] = {3, 2}, bulk_count[2] = {70, 33};

static fleet_desc variant(int v, uint32_t n) {
    fleet_desc d = fleet_default(11 + (uint64_t)v, n);
    uint32_t r;
    d.tensors = 2;
    d.count = small_count;
    switch (v) {
    case BY_LAYER_BULK:
        d.grawa.weighting = GRAWA_BY_LAYER;
        d.grawa.algorithm = WEFT_ALGORITHM_DIRECT;
        d.count = bulk_count;
        d.chunk = 256;
        break;
    case UNIFORM_PARTIAL:
        d.grawa.weighting = GRAWA_UNIFORM;
        d.grawa.partial_deadline_ns = 4000;
        break;
    case PROBE_PROXIMAL_TOTAL:
        d.grawa.source = GRAWA_SOURCE_PROBE;
        d.grawa.proximal = 0.25;
        d.grawa.trigger = GRAWA_TRIGGER_TOTAL;
        break;
    default: break;
    }
    d.deaf = v & 1;
    for (r = 0; r < FLEET_MOST; r++) {
        d.step_ns[r] = 2500 + 700 * r;
        d.view_ns[r] = ((uint64_t)v + r) % 3 * 1700; /* hosts hear of a new view one after the other */
    }
    if (v == UNIFORM_PARTIAL) d.step_ns[1] = 9000; /* it is late */
    d.sim.mode = (weft_sim_mode)v;
    d.sim.eager_bytes = 100;
    return d;
}

typedef struct stage {
    fleet f;
    const exh_case *c;
    exh_seen *seen;
    uint64_t abandoned[FLEET_MOST];
} stage;

static int survives(const fleet *f, uint32_t r) {
    return weft_sim_alive(&f->sim, r) && !f->worker[r].left && f->worker[r].g;
}

static void struck(void *ctx, uint32_t which) {
    stage *t = (stage *)ctx;
    uint32_t r;
    if (t->c->scene == REBORN) weft_sim_revive_at(&t->f.sim, t->c->loss[which].rank, t->f.sim.now + 400);
    for (r = 0; r < t->f.size; r++)
        if (survives(&t->f, r)) t->abandoned[r] = t->f.worker[r].g->stats.rounds_abandoned;
}

/* Nobody who is lost belongs to a survivor's view any more, and every view that there is has been agreed upon. */
static int settled(void *ctx, uint32_t lost) {
    stage *t = (stage *)ctx;
    fleet *f = &t->f;
    exh_seen *s = t->seen;
    uint32_t r, i;
    for (r = 0; r < f->size; r++) {
        const fleet_worker *w = &f->worker[r];
        if (!survives(f, r)) continue;
        if (w->g->group.epoch != f->epoch && f->in_view[r] && f->epoch) return 0;
        if (w->g->group.failed != WEFT_OK || w->g->state == GRAWA_SYNC || w->g->state == GRAWA_SETTLE ||
            w->g->state == GRAWA_SETTLE_HAVE)
            return 0;
        for (i = 0; i < lost; i++) {
            if (t->c->scene == REBORN ? !weft_sim_alive(&f->sim, t->c->loss[i].rank)
                                      : w->g->group.peer[t->c->loss[i].rank].member != 0)
                return 0;
        }
    }
    for (r = 0; r < f->size; r++) {
        const fleet_worker *w = &f->worker[r];
        if (!survives(f, r)) continue;
        exh_came_out(s, w->g->group.members == 1, w->g->stats.rounds_abandoned != t->abandoned[r]);
    }
    return 1;
}

static void back_at_once(void *user, uint32_t rank, int alive) {
    if (alive) fleet_rejoin((fleet *)user, rank);
}

/* The worker comes back with parameters and blob of its last round's end, which is where the others still are. */
static int restore(fleet *f, uint32_t rank, const void *blob, size_t bytes, const float *params, const float *anchor) {
    fleet_worker *w = &f->worker[rank];
    size_t t, at = 0;
    weft_sim_revive(&f->sim, rank);
    free(w->memory);
    w->memory = NULL;
    w->g = NULL;
    if (!fleet_make(w)) return 0;
    for (t = 0; t < w->params.count; at += w->params.tensor[t++].count)
        memcpy(w->params.tensor[t].data, params + at, w->params.tensor[t].count * sizeof *params);
    memcpy(w->kept, params, f->elements * sizeof *params);
    memcpy(w->anchor, anchor, f->elements * sizeof *anchor);
    w->views = 1; /* it knows the center */
    w->commits = 0;
    w->run_steps = 0;
    w->status = grawa_load(w->g, blob, bytes);
    if (w->status != WEFT_OK) return fleet_fail_detail(w, "load", w->status);
    fleet_new_view(f);
    return 1;
}

static int bring_back(stage *t, const exh_case *c) {
    fleet *f = &t->f;
    fleet_worker *w = &f->worker[0];
    unsigned char blob[2000];
    float *params, *anchor;
    size_t bytes = 0;
    int ok;
    if (c->scene != RESTORE) {
        weft_sim_lose(&f->sim, 0);
        return fleet_run(f, c->scene == JOIN ? 2 : 3) && fleet_rejoin(f, 0);
    }
    /* all are at the end of a round */
    if (grawa_save(w->g, blob, sizeof blob, &bytes) != WEFT_OK) return fleet_fail_detail(w, "save", WEFT_ERR_ORDER);
    params = (float *)malloc(f->elements * sizeof *params);
    anchor = (float *)malloc(f->elements * sizeof *anchor);
    memcpy(params, w->kept, f->elements * sizeof *params);
    memcpy(anchor, w->anchor, f->elements * sizeof *anchor);
    weft_sim_lose(&f->sim, 0);
    ok = fleet_run(f, 1) && restore(f, 0, blob, bytes, params, anchor); /* the others regroup, and train no further */
    free(params);
    free(anchor);
    return ok;
}

static void play(const exh_case *c, exh_seen *s) {
    static stage t;
    fleet *f = &t.f;
    fleet_desc d = variant(c->variant, c->n);
    exh_watch w;
    uint64_t target = 2, round = 0;
    uint32_t r;
    int ok;
    memset(&t, 0, sizeof t);
    t.c = c;
    t.seen = s;
    if (c->scene == LEAVE) d.leave_step[c->n - 1] = 3;
    if (c->scene == REBORN) {
        d.sim.on_change = back_at_once;
        d.sim.user = f;
        d.deaf = 1;
        if (c->losses) d.view_ns[c->loss[0].rank] = 0; /* whoever comes is given the view before anything else */
    }
    ok = fleet_open(f, &d);
    if (ok && c->scene >= REBORN) {
        ok = fleet_run(f, 1) && (c->scene == REBORN || bring_back(&t, c));
        target = f->worker[c->n - 1].g->round + 1;
    }
    if (ok) {
        exh_begin(&w, &f->sim, c, s, settled, struck, &t);
        f->target = target;
        for (r = 0; r < f->size; r++) f->worker[r].run_steps = f->worker[r].naps = 0;
        fleet_wake(f);
        exh_pump(&w);
        ok = !f->why[0] && fleet_run(f, target) && fleet_agree(f);
    }
    for (r = 0; ok && r < f->size; r++)
        if (survives(f, r) && f->worker[r].g->round > round) round = f->worker[r].g->round;
    ok = ok && fleet_run(f, round + 2) && fleet_agree(f);
    fleet_close(f);
    exh_end(s, ok, f->why);
}

/* To each other worker, from a loss until it is settled: what a worker may have under way (WEFT_LETTERS letters and one
 * piece in bulk: 5; for who notices sends nothing more but under a new view), under each of the two views that two
 * losses make at most one letter to agree on it (2), and between them the beginning of a round: arrival, norms, and
 * who takes part (3). Steps: those of a period in which nobody hears of anything, and of the next one. */
static const exh_family family = {"grawa", play, 5 + 2 + 3, 4};

START_TEST(losses) {
    int v, scene;
    uint32_t n;
    for (v = 0; v < VARIANTS; v++)
        for (scene = 0; scene < SCENES; scene++)
            for (n = 2; n <= 4; n++) {
                if (scene == JOIN_LATER && v != BY_MODEL) continue;
                if (scene == REBORN && v == UNIFORM_PARTIAL) continue;      /* the only one with a center may be lost */
                if (n == 4 && v > BY_LAYER_BULK && scene > LEAVE) continue; /* the same phases as with three */
                exh_all(&family, v, scene, n, n == 3 && scene != REBORN ? 40 : 0);
            }
    exh_tell("grawa", 15000);
}
END_TEST

int main(void) {
    return exh_main(losses);
}
