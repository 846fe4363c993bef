/* SPDX-License-Identifier: MIT
 * DSGD-AAU: every worker lost before and after every message, N = 2 to 4, in every phase: first contact, averagings
 * (parameters in a letter and in bulk), the good-byes of all, a worker that joins while the others go on; and every
 * second worker while the first loss is being settled. After everything that happens: parameters that have changed were
 * changed by a gradient step, by an averaging that the worker counts, or by joining, and are as at no other time.
 *
 * test_dsgd_aau_faults.c has every worker for each message, but before or after it in turn, and no bound on what
 * settling takes; pairs are drawn there, and losses during a join, with and without the joiner, are only here. */
#define WEFT_NO_SIMD
#define GRAWA_IMPLEMENTATION
#include "../grawa.h"
#define DSGD_AAU_IMPLEMENTATION
#include "../dsgd_aau.h"
#include "aau_team.h"

#include <check.h>

#include "exhaustive.h"

enum { SMALL_RING, BULK_COMPLETE, SMALL_STAR_FAN, BULK_CHAIN_DEAF, VARIANTS, MOST = 4 };
enum { TRAIN, JOIN, SCENES }; /* both end with good-byes */

static const size_t small_count[] = {5, 3}, bulk_count[] = {5, 40}, pieces_count[] = {150, 40};

static aau_desc variant(int v, const weft_graph *g) {
    aau_desc d = aau_default(11 + (uint64_t)v, g);
    d.sim.mode = (weft_sim_mode)v;
    d.sim.eager_bytes = 100;
    d.sim.jitter_ns = 700;
    d.tensors = 2;
    d.count = v == SMALL_RING || v == SMALL_STAR_FAN ? small_count : bulk_count;
    d.deaf = v == BULK_CHAIN_DEAF;
    d.d.fan = v == SMALL_STAR_FAN || v == BULK_COMPLETE ? 3 : 1;
    d.compute_ns = v == BULK_COMPLETE ? 40000 : 1000000; /* not much longer than data is under way */
    if (v == BULK_COMPLETE) { /* so that a leaf is lost with a part of its parameters in the sum */
        d.count = pieces_count;
        d.d.piece_bytes = 1024;
        d.sim.bytes_per_second = 100000000;
    }
    d.d.grace_ns = v == BULK_COMPLETE ? 20000 : DSGD_AAU_NO_GRACE;
    d.steps = 2;
    d.recover = 1;
    return d;
}

typedef struct stage {
    aau t;
    const exh_case *c;
    exh_seen *seen;
    uint64_t hash[MOST], steps[MOST], averaged[MOST], life[MOST];
    int phase[MOST], known[MOST];
    uint64_t waited_ns[MOST], called_off[MOST], committed[MOST];
    int waits[MOST]; /* since a loss, with a step that is not over */
} stage;

static uint64_t averaged_by(aau_worker *w) {
    dsgd_aau_stats_t s;
    dsgd_aau_stats(w->x, &s);
    return s.led + s.followed;
}

static int survives(const aau *t, uint32_t r) {
    return weft_sim_alive(&t->sim, r) && t->worker[r].phase != AAU_GONE;
}

static void struck(void *ctx, uint32_t which) {
    stage *s = (stage *)ctx;
    uint32_t r;
    (void)which;
    for (r = 0; r < s->t.size; r++) {
        dsgd_aau_stats_t now;
        if (!survives(&s->t, r)) continue;
        dsgd_aau_stats(s->t.worker[r].x, &now);
        s->called_off[r] = now.called_off;
        s->committed[r] = now.led + now.followed;
        s->waits[r] = s->t.worker[r].phase == AAU_WAITING;
        s->waited_ns[r] = s->t.worker[r].waited_ns;
    }
}

/* Whenever the parameters are the host's, nothing has touched them that had no right to. (In an averaging its leader
 * sums up in them; one that is called off must leave every bit as it was.) */
static void look(void *ctx) {
    stage *s = (stage *)ctx;
    uint32_t r;
    for (r = 0; r < s->t.size; r++) {
        aau_worker *w = &s->t.worker[r];
        uint64_t h, n;
        if (!w->x || !weft_sim_alive(&s->t.sim, r) || !(dsgd_aau_state(w->x) & DSGD_AAU_MAY_STEP)) continue;
        h = cluster_hash(&w->params);
        n = averaged_by(w);
        if (s->known[r] && h != s->hash[r] && w->steps == s->steps[r] && n == s->averaged[r] && w->life == s->life[r] &&
            s->phase[r] != AAU_JOINING)
            aau_fail(&s->t, "worker %u: parameters changed outside of a step and of an averaging", (unsigned)r);
        s->known[r] = 1;
        s->hash[r] = h;
        s->steps[r] = w->steps;
        s->averaged[r] = n;
        s->life[r] = w->life;
        s->phase[r] = w->phase;
    }
}

/* Every survivor has given up its links with those who are lost, and has got over the step that it waited in. */
static int settled(void *ctx, uint32_t lost) {
    stage *s = (stage *)ctx;
    aau *t = &s->t;
    uint32_t r, i;
    for (r = 0; r < t->size; r++) {
        aau_worker *w = &t->worker[r];
        if (!survives(t, r)) continue;
        for (i = 0; i < lost; i++)
            if (weft_graph_has_edge(t->desc.graph, r, s->c->loss[i].rank)) {
                const weft_link_state l = dsgd_aau_link(w->x, s->c->loss[i].rank);
                if (l == WEFT_LINK_UP || l == WEFT_LINK_OPENING) return 0;
            }
        if (s->waits[r] && (w->phase != AAU_WAITING || w->waited_ns != s->waited_ns[r])) s->waits[r] = 0;
        if (s->waits[r]) return 0;
    }
    for (r = 0; r < t->size; r++) {
        dsgd_aau_stats_t now;
        if (!survives(t, r)) continue;
        dsgd_aau_stats(t->worker[r].x, &now);
        exh_came_out(s->seen, now.neighbours == 0, now.called_off != s->called_off[r]);
    }
    return 1;
}

static void play(const exh_case *c, exh_seen *s) {
    static stage t;
    static const int kind[VARIANTS] = {AAU_RING, AAU_COMPLETE, AAU_STAR, AAU_CHAIN};
    weft_graph g;
    void *m = aau_graph(&g, c->n == 2 ? AAU_CHAIN : kind[c->variant], c->n, 1);
    aau_desc d = variant(c->variant, &g);
    exh_watch w;
    uint32_t r, i;
    int ok;
    memset(&t, 0, sizeof t);
    t.c = c;
    t.seen = s;
    if (c->scene == JOIN) d.steps = 3;
    ok = aau_open(&t.t, &d);
    if (ok) {
        aau_begin_all(&t.t);
        look(&t);
        if (c->scene == JOIN) {
            weft_sim_lose_at(&t.t.sim, 0, d.compute_ns * 12 / 10);
            weft_sim_advance(&t.t.sim, d.compute_ns * 17 / 10);
            weft_sim_revive(&t.t.sim, 0);
        }
        look(&t);
        exh_begin(&w, &t.t.sim, c, s, settled, struck, &t);
        w.look = look;
        exh_pump(&w);
        ok = !t.t.why[0] && aau_finish(&t.t);
    }
    for (r = 0; ok && r < c->n; r++) {
        aau_worker *x = &t.t.worker[r];
        size_t k;
        double flat[200];
        for (i = 0; i < c->losses && c->loss[i].rank != r; i++) continue;
        if (i < c->losses) continue;
        if (x->steps != d.steps && !x->life) /* whoever finds nobody to join is gone, too */
            ok = aau_fail(&t.t, "worker %u has been stopped after %u steps", (unsigned)r, (unsigned)x->steps);
        if (x->life && !x->x->stats.steps) continue; /* it has found nobody who could give it parameters */
        aau_flat(&x->params, flat);
        for (k = 0; k < t.t.elements; k++)
            if (!(fabs(flat[k]) < 10)) ok = aau_fail(&t.t, "worker %u ends with nonsense", (unsigned)r);
    }
    if (ok && t.t.errors) ok = aau_fail(&t.t, "a verb said that there was an error");
    if (ok && !c->losses && c->scene == TRAIN) ok = aau_conserved(&t.t) && aau_whole_stars(&t.t);
    aau_close(&t.t);
    free(m);
    exh_end(s, ok, t.t.why);
}

/* To each other worker, from a loss until it is settled: what a worker may have under way (letters and one piece: 5),
 * and averagings, each of at most six letters between two workers, parameters both ways in two pieces, and a letter of
 * state before and after it (12): until one who waits is in one, each of the others may first be in as many as it has
 * steps left, 3 at most. Steps: those three, and the good-bye. */
static const exh_family family = {"dsgd_aau", play, 5 + 3 * 12, 4};

START_TEST(losses) {
    int v, scene;
    uint32_t n;
    for (v = 0; v < VARIANTS; v++)
        for (scene = 0; scene < SCENES; scene++)
            for (n = 2; n <= 4; n++)
                if (n < 4 || v < SMALL_STAR_FAN) exh_all(&family, v, scene, n, n == 3 ? 30 : 0);
    exh_tell("dsgd_aau", 5000);
}
END_TEST

int main(void) {
    return exh_main(losses);
}
