/* SPDX-License-Identifier: MIT
 * SADDLe: every worker lost before and after every message, N = 2 to 4, in every phase: first contact, steps of every
 * kind (models, differences, cross gradients, with and without feedback), a worker that comes again with what it had
 * (from its blob or otherwise: to the others that is one thing), a good-bye; and every second worker while the first
 * loss is being settled. The crew's ledger finds out afterwards whether every averaging was what it promises: a model
 * that was half written would not be what its weights make of what was sent.
 *
 * test_saddle_faults.c has one worker for each message, before or after it in turn, and no bound on what settling
 * takes; pairs, and losses during a join or a good-bye, are drawn there, and every one of them is here. */
#define WEFT_NO_SIMD
#define GRAWA_IMPLEMENTATION
#include "../grawa.h"
#define SADDLE_IMPLEMENTATION
#include "../saddle.h"
#include "saddle_crew.h"

#include <check.h>

#include "exhaustive.h"

enum { PLAIN, CROSS, CROSS_FEEDBACK, TOPK_CTA, BULK_CWA, VARIANTS };
enum { TRAIN, LEAVE, JOIN, SCENES };

static crew_desc variant(int v, uint32_t n) {
    static const lock_make_graph graphs[VARIANTS] = {weft_graph_ring, weft_graph_complete, weft_graph_star,
                                                     weft_graph_ring, weft_graph_complete};
    crew_desc d = crew_default(11 + (uint64_t)v, n);
    saddle_desc *s = &d.k.s;
    s->learning_rate = 0.01;
    s->seed = 1;
    d.k.graph = graphs[v];
    d.k.sim.mode = (weft_sim_mode)(v % 4);
    d.k.sim.eager_bytes = 100;
    switch (v) {
    case CROSS: s->variant = SADDLE_N; break;
    case CROSS_FEEDBACK:
        s->variant = SADDLE_N;
        s->codec = weft_codec_q4();
        s->feedback = SADDLE_FEEDBACK;
        s->gamma = 0.2;
        s->share = 0.25;
        s->compress_self = 1;
        break;
    case TOPK_CTA:
        s->codec = weft_codec_topk(0.7);
        s->feedback = SADDLE_FEEDBACK;
        s->gamma = 0.2;
        s->order = SADDLE_CTA;
        break;
    case BULK_CWA:
        s->variant = SADDLE_DPSGD;
        s->order = SADDLE_CWA;
        s->in_place = 1;
        d.k.count = crew_large;
        break;
    default: break; /* Q-SADDLe */
    }
    return d;
}

typedef struct stage {
    crew c;
    const exh_case *c0;
    exh_seen *seen;
    uint64_t step[CREW_MOST], skipped[CREW_MOST];
} stage;

static void struck(void *ctx, uint32_t which) {
    stage *t = (stage *)ctx;
    uint32_t r;
    (void)which;
    for (r = 0; r < t->c.k.size; r++)
        if (crew_there(&t->c, r)) {
            t->step[r] = t->c.k.worker[r].x->step;
            t->skipped[r] = t->c.k.worker[r].x->stats.skipped;
        }
}

/* Every survivor has given up its links with those who are lost, and is through with the step that it was in. */
static int settled(void *ctx, uint32_t lost) {
    stage *t = (stage *)ctx;
    crew *c = &t->c;
    exh_seen *s = t->seen;
    uint32_t r, i;
    for (r = 0; r < c->k.size; r++) {
        const saddle *x = c->k.worker[r].x;
        if (!crew_there(c, r)) continue;
        for (i = 0; i < lost; i++)
            if (x->opened && !c->leaving[r] && weft_graph_has_edge(&c->k.graph, r, t->c0->loss[i].rank) &&
                !crew_down(c, r, t->c0->loss[i].rank))
                return 0;
        if (!c->leaving[r] && x->step < c->goal && x->step <= t->step[r]) return 0;
    }
    for (r = 0; r < c->k.size; r++) {
        saddle_stats_t now;
        if (!crew_there(c, r)) continue;
        saddle_stats(c->k.worker[r].x, &now);
        exh_came_out(s, now.neighbours == 0, now.skipped != t->skipped[r]); /* its part with the lost one */
    }
    return 1;
}

/* As crew_run, looking on after everything that happens. */
static int run(stage *t, exh_watch *w, uint64_t goal) {
    crew *c = &t->c;
    lock *k = &c->k;
    const uint32_t slice = 1000 + (uint32_t)(k->sim.desc.latency_ns + k->sim.desc.jitter_ns) / 2;
    uint32_t r, begin, left = 1;
    uint64_t turns = 0;
    int i, planned = 1;
    crew_now = c;
    c->goal = goal;
    for (exh_look(w); left || planned; c->turn++) {
        if (++turns > CREW_BOUND) return crew_fail(c, "it never ends");
        for (i = planned = 0; i < CREW_PLANS; i++) {
            crew_plan *p = &c->desc.plan[i];
            if (p->turn && p->turn <= c->turn && !crew_do(c, p)) return 0;
            planned |= p->turn != 0;
        }
        begin = cluster_below(&c->rng, k->size);
        for (r = left = 0; r < k->size; r++) {
            const uint32_t who = (r + begin) % k->size;
            if (!crew_there(c, who)) {
                if (planned) /* who was to leave is lost */
                    for (i = 0; i < CREW_PLANS; i++)
                        if (c->desc.plan[i].a == who && c->desc.plan[i].kind == CREW_LEAVE) c->desc.plan[i].turn = 0;
                continue;
            }
            left += k->worker[who].x->step < goal || c->leaving[who];
            if (!crew_turn(c, who, goal)) return 0;
            w->turns++;
            exh_look(w);
        }
        exh_advance(w, 200 + cluster_below(&c->rng, slice));
    }
    for (r = 0; r < 4; r++) exh_advance(w, 1000); /* what is still under way */
    for (r = 0; r < k->size; r++)
        if (crew_there(c, r) && !crew_turn(c, r, goal)) return 0;
    exh_look(w);
    w->seen->messages = weft_sim_arrived(&k->sim) - w->from;
    return !k->why[0];
}

static void plan(crew *c, uint64_t turn, crew_kind kind, uint32_t a, uint32_t b) {
    c->desc.plan[0].turn = turn;
    c->desc.plan[0].kind = kind;
    c->desc.plan[0].a = a;
    c->desc.plan[0].b = b;
}

static void play(const exh_case *c0, exh_seen *s) {
    static stage t;
    crew *c = &t.c;
    crew_desc d = variant(c0->variant, c0->n);
    exh_watch w;
    uint32_t r;
    int ok;
    memset(t.step, 0, sizeof t.step);
    memset(t.skipped, 0, sizeof t.skipped);
    t.c0 = c0;
    t.seen = s;
    ok = crew_open(c, &d);
    if (ok && c0->scene == JOIN) {
        ok = crew_run(c, 1, 0);
        weft_sim_lose(&c->k.sim, 0);
        ok = ok && crew_run(c, 2, 0);
        plan(c, c->turn, CREW_JOIN, 0, 0);
        ok = ok && crew_do(c, &c->desc.plan[0]);
    }
    if (ok) {
        if (c0->scene == LEAVE) plan(c, c->turn + 1, CREW_LEAVE, c0->n - 1, 1);
        exh_begin(&w, &c->k.sim, c0, s, settled, struck, &t);
        ok = run(&t, &w, c0->scene == JOIN ? 4 : 2) && crew_check(c);
    }
    for (r = 0; ok && r < c0->n; r++)
        if (crew_there(c, r) && c->k.worker[r].x->stats.faults) ok = crew_fail(c, "worker %u sees a fault", r);
    /* later steps, of those who are there */
    ok = ok && crew_run(c, c->goal + 1, 0) && crew_check(c);
    crew_close(c);
    exh_end(s, ok, c->k.why);
}

/* To each other worker, from a loss until it is settled: what a worker may have under way (letters and one piece: 5),
 * and what is left of its step and the next one's beginning (letters and data of models and of gradients: 2 x 4). A
 * worker waits for a neighbour that may be a step behind, and so on along a chain of N - 1 = 3, each step four
 * messages after one another; a message takes as long as 1,000 / 200 turns at most, in each of which every worker is
 * called: with the two that are needed to see it, 3 x 4 x (5 + 2) turns, in units of EXH_PER_STEP. */
static const exh_family family = {"saddle", play, 5 + 2 * 4, 3 * 4 * (5 + 2) / EXH_PER_STEP};

START_TEST(losses) {
    int v, scene;
    uint32_t n;
    for (v = 0; v < VARIANTS; v++)
        for (scene = 0; scene < SCENES; scene++)
            for (n = 2; n <= 4; n++)
                if (n < 4 || v <= CROSS) exh_all(&family, v, scene, n, n == 3 && v != BULK_CWA ? 150 : 0);
    exh_tell("saddle", 8000);
}
END_TEST

int main(void) {
    return exh_main(losses);
}
