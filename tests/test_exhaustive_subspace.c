/* SPDX-License-Identifier: MIT
 * AdaCons: every worker lost before and after every message, N = 2 to 4, in every phase: first contact, rounds (of one
 * part and of several, in place and not), a worker that joins (a new one, and one restored from its blob), a good-bye;
 * and every second worker while the first loss is being settled. The crew's oracle looks at every bit of the gradients
 * after every verb: as submitted, or the aggregate.
 *
 * test_subspace_faults.c has one worker for each message, pairs at samples, and no bound on what settling takes; losses
 * in a join, and of and beside a restored worker, are only here. */
#define WEFT_NO_SIMD
#define GRAWA_IMPLEMENTATION
#include "../grawa.h"
#define SUBSPACE_IMPLEMENTATION
#include "../subspace.h"
#include "subspace_crew.h"

#include <check.h>

#include "exhaustive.h"

enum { PLAIN, BULK_GROUPS_PARTS, MEAN_IMPATIENT, IN_PLACE, VARIANTS };
/* JOIN, RESTORE: one worker had been lost after the first (JOIN_LATER: second) round and comes back. */
enum { TRAIN, LEAVE, JOIN, JOIN_LATER, RESTORE, SCENES };

static const size_t small_count[2] = {3, 2}, bulk_count[2] = {70, 33};
static const uint32_t group_of[2] = {0, 1};

static crew_desc variant(int v, uint32_t n) {
    crew_desc d = crew_default(11 + (uint64_t)v, n);
    uint32_t r;
    d.tensors = 2;
    d.count = small_count;
    switch (v) {
    case BULK_GROUPS_PARTS:
        d.count = bulk_count;
        d.parts = 2;
        d.s.groups = 2;
        d.s.group_of_tensor = group_of;
        break;
    case MEAN_IMPATIENT:
        d.s.rule = SUBSPACE_MEAN;
        d.impatient = 1;
        break;
    case IN_PLACE:
        d.count = bulk_count;
        d.s.in_place = 1;
        break;
    default: break;
    }
    d.deaf = v & 1;
    for (r = 0; r < CREW_MOST; r++) {
        d.step_ns[r] = 2500 + 700 * r;
        d.view_ns[r] = ((uint64_t)v + r) % 3 * 1700; /* hosts hear of a new view one after the other */
    }
    d.sim.mode = (weft_sim_mode)v;
    d.sim.eager_bytes = 100;
    return d;
}

typedef struct stage {
    crew f;
    const exh_case *c;
    exh_seen *seen;
    uint64_t abandoned[CREW_MOST];
} stage;

static int survives(const crew *f, uint32_t r) {
    return weft_sim_alive(&f->sim, r) && !f->worker[r].left && f->worker[r].a;
}

static void struck(void *ctx, uint32_t which) {
    stage *t = (stage *)ctx;
    uint32_t r;
    (void)which;
    for (r = 0; r < t->f.size; r++)
        if (survives(&t->f, r)) t->abandoned[r] = t->f.worker[r].a->stats.rounds_abandoned;
}

/* Nobody who is lost belongs to a survivor's view any more, and every view that there is has been agreed upon. */
static int settled(void *ctx, uint32_t lost) {
    stage *t = (stage *)ctx;
    crew *f = &t->f;
    exh_seen *s = t->seen;
    uint32_t r, i;
    for (r = 0; r < f->size; r++) {
        const crew_worker *w = &f->worker[r];
        if (!survives(f, r)) continue;
        if (w->a->group.epoch != f->epoch && f->in_view[r] && f->epoch) return 0;
        if (w->a->group.failed != WEFT_OK || w->a->state == SUBSPACE_SYNC) return 0;
        for (i = 0; i < lost; i++)
            if (w->a->group.peer[t->c->loss[i].rank].member) return 0;
    }
    for (r = 0; r < f->size; r++) {
        const crew_worker *w = &f->worker[r];
        if (!survives(f, r)) continue;
        exh_came_out(s, w->a->group.members == 1, w->a->stats.rounds_abandoned != t->abandoned[r]);
    }
    return 1;
}

static int bring_back(stage *t, const exh_case *c) {
    crew *f = &t->f;
    crew_worker *w = &f->worker[0];
    unsigned char blob[2000];
    size_t bytes = 0;
    if (c->scene != RESTORE) {
        weft_sim_lose(&f->sim, 0);
        return crew_run(f, c->scene == JOIN ? 2 : 3) && crew_rejoin(f, 0);
    }
    /* all are at the end of a round; the others regroup, and train no further */
    w->status = subspace_save(w->a, blob, sizeof blob, &bytes);
    if (w->status != WEFT_OK) return crew_fail_detail(w, "save", w->status);
    weft_sim_lose(&f->sim, 0);
    if (!crew_run(f, 1)) return 0;
    weft_sim_revive(&f->sim, 0);
    w->left_behind[w->lives++] = w->memory;
    w->memory = NULL;
    w->a = NULL;
    w->commits = 0;
    w->attempts = 0;
    if (!crew_make(w)) return 0;
    w->status = subspace_load(w->a, blob, bytes);
    if (w->status != WEFT_OK) return crew_fail_detail(w, "load", w->status);
    w->slots = crew_slots_of(w->a);
    w->slots_epoch = 0;
    crew_new_view(f);
    return 1;
}

static void play(const exh_case *c, exh_seen *s) {
    static stage t;
    crew *f = &t.f;
    crew_desc d = variant(c->variant, c->n);
    exh_watch w;
    uint64_t target = 2, round = 0;
    uint32_t r;
    int ok;
    memset(&t, 0, sizeof t);
    t.c = c;
    t.seen = s;
    if (c->scene == LEAVE) d.leave_at[c->n - 1] = 1;
    ok = crew_open(f, &d);
    if (ok && c->scene >= JOIN) {
        ok = crew_run(f, 1) && bring_back(&t, c);
        target = f->worker[c->n - 1].a->round + 1;
    }
    if (ok) {
        exh_begin(&w, &f->sim, c, s, settled, struck, &t);
        f->target = target;
        for (r = 0; r < f->size; r++) f->worker[r].attempts = f->worker[r].naps = 0;
        crew_wake(f);
        exh_pump(&w);
        ok = !f->why[0] && crew_run(f, target) && crew_agree(f);
    }
    for (r = 0; ok && r < f->size; r++)
        if (survives(f, r) && f->worker[r].a->round > round) round = f->worker[r].a->round;
    ok = ok && crew_run(f, round + 1) && crew_agree(f);
    crew_close(f);
    exh_end(s, ok, f->why);
}

/* To each other worker, from a loss until it is settled: what a worker may have under way (WEFT_LETTERS letters and one
 * piece in bulk: 5; for who notices sends nothing more but under a new view), under each of the two views that two
 * losses make at most one letter to agree on it (2), and between them the beginning of a round: a first piece in bulk,
 * sums, and HAVE (3). Steps: backward passes in which nobody hears of anything, of two parts, and the next ones. */
static const exh_family family = {"subspace", play, 5 + 2 + 3, 4};

START_TEST(losses) {
    int v, scene;
    uint32_t n;
    for (v = 0; v < VARIANTS; v++)
        for (scene = 0; scene < SCENES; scene++)
            for (n = 2; n <= 4; n++) {
                if (scene == JOIN_LATER && v != PLAIN) continue;
                if (n == 4 && v > (scene <= LEAVE ? BULK_GROUPS_PARTS : PLAIN)) continue; /* as with three */
                exh_all(&family, v, scene, n, n == 3 ? 100 : 0);
            }
    exh_tell("subspace", 8000);
}
END_TEST

int main(void) {
    return exh_main(losses);
}
