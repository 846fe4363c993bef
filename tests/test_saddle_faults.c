/* SPDX-License-Identifier: MIT
 * SADDLe when things fail, and when nothing does but timing: random schedules over graphs of all shapes; workers lost
 * at every message, every callback failing in turn, messages torn, spoilt, late and twice; links that one end gives up
 * before the other, workers that leave and come again. What each did is checked afterwards by the crew's ledger. */
#define GRAWA_IMPLEMENTATION
#include "../grawa.h"
#define SADDLE_IMPLEMENTATION
#include "../saddle.h"
#include "saddle_crew.h"

#include <check.h>

static crew c; /* large */

static void fine(int ok) {
    int closed = crew_close(&c);
    if (!ok || !closed) ck_abort_msg("%s", c.k.why[0] ? c.k.why : "a check failed");
}

static weft_codec codec_no(uint32_t i) {
    switch (i % 8) {
    case 1: return weft_codec_bf16();
    case 2: return weft_codec_f16();
    case 3: return weft_codec_q8();
    case 4: return weft_codec_q4();
    case 5: return weft_codec_qsgd(8, 1);
    case 6: return weft_codec_topk(0.7);
    case 7: return weft_codec_sign();
    default: return weft_codec_identity();
    }
}

/* A chain, and every second worker knows the first. */
static weft_status irregular(weft_graph *g, uint32_t workers, void *memory, size_t bytes) {
    weft_edge e[2 * CREW_MOST];
    size_t n = 0;
    uint32_t i;
    for (i = 0; i + 1 < workers; i++, n++) {
        e[n].a = i;
        e[n].b = i + 1;
    }
    for (i = 2; i < workers; i += 2, n++) {
        e[n].a = 0;
        e[n].b = i;
    }
    return weft_graph_from_edges(g, workers, e, n, memory, bytes);
}

static const lock_make_graph graphs[4] = {weft_graph_ring, weft_graph_star, weft_graph_complete, irregular};

static double half(void *ctx, uint32_t i, uint32_t j) {
    (void)ctx;
    return (i + j) % 2 ? 0.125 : 0.0625;
}

static int one_peer(void *ctx, uint64_t step, uint32_t i, uint32_t j) {
    return weft_graph_one_peer(*(const uint32_t *)ctx, step, i) == j || (i + j + step) % 3 == 0;
}

static crew_desc random_desc(uint64_t seed) {
    static uint32_t workers;
    uint64_t rng = seed * 77 + 5;
    uint32_t n = 2 + cluster_below(&rng, 5);
    crew_desc d = crew_default(seed, n);
    saddle_desc *s = &d.k.s;
    if (cluster_below(&rng, 3) == 0) {
        d.k.sim = weft_sim_torture(seed, n);
        d.k.sim.watch = d.k.sim.scribble = 1;
    } else {
        d.k.sim.mode = (weft_sim_mode)cluster_below(&rng, 4);
        d.k.sim.eager_bytes = 100;
        d.k.sim.latency_ns = cluster_below(&rng, 4000);
        d.k.sim.jitter_ns = cluster_below(&rng, 2) * 2500;
    }
    d.k.graph = graphs[cluster_below(&rng, 4)];
    d.k.count = cluster_below(&rng, 8) ? crew_count : crew_large;
    d.k.dtype = cluster_below(&rng, 4) ? crew_f64 : crew_mixed;
    d.lazy = (int)cluster_below(&rng, 2);
    s->variant = (saddle_variant)cluster_below(&rng, 6);
    s->order = (saddle_order)cluster_below(&rng, 4);
    if ((s->variant == SADDLE_N || s->variant == SADDLE_NGC) && s->order == SADDLE_ATC) s->order = SADDLE_CWA;
    s->momentum = (saddle_momentum)cluster_below(&rng, 4);
    s->nesterov = cluster_below(&rng, 2) ? WEFT_ZERO : 0;
    s->codec = codec_no(cluster_below(&rng, 12));
    s->feedback = (saddle_feedback)cluster_below(&rng, 4);
    s->gamma = s->codec.kind >= WEFT_CODEC_Q4 ? 0.1 : s->codec.kind == WEFT_CODEC_IDENTITY ? 0 : 0.5;
    s->share = cluster_below(&rng, 3) == 0 ? WEFT_ZERO : cluster_below(&rng, 2) ? 0.25 : 0;
    s->gradient_feedback = cluster_below(&rng, 3) ? 0 : WEFT_ZERO;
    if ((s->variant == SADDLE_N || s->variant == SADDLE_NGC) && s->share >= 0 && s->codec.kind != WEFT_CODEC_IDENTITY)
        s->compress_self = (int)cluster_below(&rng, 2);
    s->mixing = (weft_mixing_rule)cluster_below(&rng, 3);
    s->weight = half;
    s->weight_decay = cluster_below(&rng, 4) ? 0 : 0.01;
    s->learning_rate = 0.01;
    s->in_place = (int)cluster_below(&rng, 2);
    s->seed = seed;
    if (cluster_below(&rng, 5) == 0 && s->codec.kind == WEFT_CODEC_IDENTITY && s->feedback != SADDLE_DIFFERENCE) {
        workers = n;
        s->active = one_peer;
        s->active_ctx = &workers;
    }
    return d;
}

/* Without faults: nobody is skipped, and every step is checked. */
START_TEST(schedules) {
    uint64_t seed, models = 0, means = 0, gradients = 0;
    for (seed = 1 + (uint64_t)_i * 100; seed <= ((uint64_t)_i + 1) * 100; seed++) {
        crew_desc d = random_desc(seed);
        uint32_t r;
        int ok = crew_open(&c, &d) && crew_run(&c, 8, 0) && crew_check(&c);
        for (r = 0; ok && r < c.k.size; r++) {
            saddle_stats_t s;
            saddle_stats(c.k.worker[r].x, &s);
            if (s.skipped + s.lost + s.faults) ok = crew_fail(&c, "somebody is skipped or lost");
        }
        if (ok && c.troubles) ok = crew_fail(&c, "troubles without faults");
        models += c.checked;
        means += c.checked_means;
        gradients += c.checked_gradients;
        fine(ok);
    }
    ck_assert_uint_gt(models, 1000);
    ck_assert_uint_gt(means, 500);
    ck_assert_uint_gt(gradients, 300);
}
END_TEST

static void plan(crew_desc *d, int i, uint64_t turn, crew_kind kind, uint32_t a, uint32_t b) {
    d->plan[i].turn = turn;
    d->plan[i].kind = kind;
    d->plan[i].a = a;
    d->plan[i].b = b;
}

/* Everything at once: cuts, hosts that give up a link, losses, returns, good-byes. */
static crew_desc troubled_desc(uint64_t seed) {
    crew_desc d = random_desc(seed);
    uint64_t rng = seed * 3 + 1;
    const uint32_t n = d.k.sim.size;
    int i = 0;
    d.k.sim.detect_ns = cluster_below(&rng, 3) * 1500;
    while (i + 3 < CREW_PLANS && (i < 2 || cluster_below(&rng, 5))) {
        const uint64_t turn = 5 + cluster_below(&rng, 160), later = turn + 1 + cluster_below(&rng, 40);
        const uint32_t a = cluster_below(&rng, n), b = (a + 1 + cluster_below(&rng, n - 1)) % n;
        switch (cluster_below(&rng, 6)) {
        case 0:
            plan(&d, i++, turn, CREW_LOSE, a, 0);
            if (cluster_below(&rng, 3)) plan(&d, i++, later, CREW_JOIN, a, 0);
            break;
        case 1: plan(&d, i++, turn, CREW_JOIN, a, 0); break; /* so soon that nobody has noticed */
        case 2:
            plan(&d, i++, turn, CREW_UNLINK, a, b);                              /* the other end does not know, */
            if (cluster_below(&rng, 2)) plan(&d, i++, later, CREW_UNLINK, b, a); /* or knows later */
            plan(&d, i++, later + 5, CREW_LINK, a, b);
            break;
        case 3: plan(&d, i++, turn, CREW_LINK, a, b); break; /* of a link that is up */
        case 4:
            plan(&d, i++, turn, CREW_CUT, a, b);
            plan(&d, i++, later, CREW_CONNECT, a, b);
            break;
        default:
            if (i < 2 || n > 3) plan(&d, i++, turn, CREW_LEAVE, a, 0);
        }
    }
    return d;
}

START_TEST(schedules_with_faults) {
    uint64_t seed, models = 0, means = 0, gradients = 0, troubles = 0, skipped = 0;
    for (seed = 100001 + (uint64_t)_i * 100; seed <= 100000 + ((uint64_t)_i + 1) * 100; seed++) {
        crew_desc d = troubled_desc(seed);
        uint32_t r;
        int ok = crew_open(&c, &d) && crew_run(&c, 14, 250) && crew_check(&c);
        for (r = 0; ok && r < d.k.sim.size; r++) {
            saddle_stats_t s;
            if (!weft_sim_alive(&c.k.sim, r)) continue;
            saddle_stats(c.k.worker[r].x, &s);
            skipped += s.skipped;
            if (s.faults) ok = crew_fail(&c, "worker %u sees a fault: %s", r, saddle_fault(c.k.worker[r].x)->field);
        }
        models += c.checked;
        means += c.checked_means;
        gradients += c.checked_gradients;
        troubles += c.troubles;
        fine(ok);
    }
    ck_assert_uint_gt(models, 1000);
    ck_assert_uint_gt(means, 200);
    ck_assert_uint_gt(gradients, 200);
    ck_assert_uint_gt(troubles, 60);
    ck_assert_uint_gt(skipped, 60);
}
END_TEST

/* ---- one fault at a time ---- */

enum { VARIANTS = 10 };

static crew_desc variant(uint64_t seed, uint32_t n, int v) {
    crew_desc d = crew_default(seed, n);
    saddle_desc *s = &d.k.s;
    s->learning_rate = 0.01;
    s->seed = seed;
    d.k.graph = graphs[seed % 4];
    d.k.sim.mode = (weft_sim_mode)(seed % 4);
    d.k.sim.eager_bytes = 100;
    d.lazy = (int)(seed & 1);
    switch (v) {
    case 0: break; /* Q-SADDLe */
    case 1: s->variant = SADDLE_N; break;
    case 2: s->codec = weft_codec_q8(); break;
    case 3:
        s->variant = SADDLE_N;
        s->codec = weft_codec_q8();
        d.k.count = crew_large;
        break;
    case 4:
        s->codec = weft_codec_topk(0.7);
        s->feedback = SADDLE_FEEDBACK;
        s->gamma = 0.2;
        s->order = SADDLE_CTA;
        break;
    case 5:
        s->variant = SADDLE_N;
        s->codec = weft_codec_q4();
        s->feedback = SADDLE_FEEDBACK;
        s->gamma = 0.2;
        s->share = 0.25;
        s->compress_self = 1;
        break;
    case 6:
        s->variant = SADDLE_NGC;
        s->share = WEFT_ZERO;
        d.k.count = crew_large;
        break;
    case 7:
        s->variant = SADDLE_DPSGD;
        s->order = SADDLE_CWA;
        s->codec = weft_codec_bf16();
        d.k.count = crew_large;
        break;
    case 8:
        s->variant = SADDLE_N;
        s->order = SADDLE_CTA;
        s->momentum = SADDLE_MOMENTUM_GLOBAL;
        s->in_place = 1;
        s->codec = weft_codec_f16();
        break;
    default:
        s->mixing = WEFT_OWN_WEIGHTS;
        s->weight = half;
        s->variant = SADDLE_DSGDM;
        s->codec = weft_codec_sign();
        s->gamma = 0.1;
    }
    return d;
}

/* The others finish the step without it, and it comes again: before or after any message of the first steps. */
START_TEST(lost_at_every_message) {
    const int v = _i % VARIANTS;
    const uint32_t n = 2 + (uint32_t)_i / VARIANTS;
    uint64_t k, fired = 1, troubles = 0, total = 0;
    for (k = 1; fired; k++) {
        const uint32_t rank = (uint32_t)(k + k / n) % n;
        crew_desc d = variant(k, n, v);
        int fault, ok = crew_open(&c, &d);
        uint32_t r;
        fault = weft_sim_lose_at_message(&c.k.sim, rank, k, (int)(k / 2 & 1));
        ok = ok && crew_run(&c, 3, 0) && crew_check(&c);
        fired = weft_sim_fired(&c.k.sim, fault);
        total += fired;
        troubles += c.troubles;
        for (r = 0; ok && fired && r < n; r++) {
            saddle_stats_t s;
            if (r == rank) continue;
            saddle_stats(c.k.worker[r].x, &s);
            if (s.faults || s.steps != 3 || s.lost > 1) ok = crew_fail(&c, "worker %u: steps, losses or faults", r);
        }
        if (ok && fired) {
            plan(&c.desc, 0, c.turn + 1, CREW_JOIN, rank, 0);
            ok = crew_run(&c, 8, 0) && crew_check(&c);
            for (r = 0; ok && r < n; r++) {
                saddle_stats_t s;
                saddle_stats(c.k.worker[r].x, &s);
                if (s.faults || s.neighbours != weft_graph_degree(&c.k.graph, r))
                    ok = crew_fail(&c, "worker %u has not all neighbours again", r);
            }
        }
        fine(ok);
    }
    ck_assert_uint_gt(total, 20);
    ck_assert_uint_gt(troubles, 5);
}
END_TEST

START_TEST(every_call_fails) {
    static const weft_status status_of[2] = {WEFT_ERR_TRANSPORT, WEFT_ERR_PEER_LOST};
    const int v = _i % VARIANTS;
    const uint32_t n = 3;
    uint64_t total = 0, faults = 0;
    int call, s;
    for (call = WEFT_SIM_SEND; call <= WEFT_SIM_TEST; call++)
        for (s = 0; s < 2; s++) {
            const uint64_t stride = call == WEFT_SIM_TEST ? 7 : 1;
            uint64_t k, fired = 1;
            for (k = 1; fired; k += stride) {
                const uint32_t rank = (uint32_t)(k / stride) % n;
                crew_desc d = variant(k, n, v);
                uint32_t r;
                int fault, ok = crew_open(&c, &d);
                fault = weft_sim_fail_call(&c.k.sim, (weft_sim_call)call, rank, k, status_of[s]);
                ok = ok && crew_run(&c, 3, 60) && crew_check(&c);
                fired = weft_sim_fired(&c.k.sim, fault);
                total += fired;
                for (r = 0; ok && fired && r < n; r++) {
                    saddle_stats_t t;
                    saddle_stats(c.k.worker[r].x, &t);
                    faults += t.faults;
                    if (r == rank && s == 0 && t.faults != 1) ok = crew_fail(&c, "a failed call is not counted");
                    if ((r != rank || s) && t.faults) ok = crew_fail(&c, "a fault is counted that was none");
                    if (r == rank && !t.lost) ok = crew_fail(&c, "a lost link is not counted");
                    if (r == rank && s == 0 && (saddle_fault(c.k.worker[r].x)->status != WEFT_ERR_TRANSPORT))
                        ok = crew_fail(&c, "the fault is not told");
                }
                fine(ok);
            }
        }
    ck_assert_uint_gt(total, 60);
    ck_assert_uint_gt(faults, 30);
}
END_TEST

/* Every message in turn: a bit flipped in a control message, any message cut, emptied or too long. Nobody takes it for
 * what it is not: the link begins anew, and then all goes on. */
START_TEST(torn_messages) {
    const int v = _i % VARIANTS;
    const uint32_t n = 3;
    int how;
    uint64_t total = 0, faults = 0;
    for (how = 0; how < 5; how++) {
        uint64_t k, fired = 1;
        for (k = 1; fired; k++) {
            crew_desc d = variant(k, n, v);
            const int topk = d.k.s.codec.kind == WEFT_CODEC_TOPK;
            uint32_t r;
            int fault, ok = crew_open(&c, &d);
            switch (how) {
            case 0: fault = weft_sim_corrupt(&c.k.sim, WEFT_SIM_ANY, WEFT_SIM_ANY, 0, k, k % 20, 1u << k % 8); break;
            case 1: fault = weft_sim_resize(&c.k.sim, WEFT_SIM_ANY, WEFT_SIM_ANY, 0, k, (k * 7) % 19); break;
            case 2: fault = weft_sim_resize(&c.k.sim, WEFT_SIM_ANY, WEFT_SIM_ANY, WEFT_SIM_ANY, k, 9000); break;
            case 3: fault = weft_sim_resize(&c.k.sim, WEFT_SIM_ANY, WEFT_SIM_ANY, WEFT_SIM_ANY, k, topk ? 3 : 0); break;
            default: fault = weft_sim_resize(&c.k.sim, WEFT_SIM_ANY, WEFT_SIM_ANY, WEFT_SIM_ANY, k, 5); break;
            }
            ok = ok && crew_run(&c, 3, 0) && crew_check(&c);
            fired = weft_sim_fired(&c.k.sim, fault);
            total += fired;
            for (r = 0; ok && fired && r < n; r++) {
                saddle_stats_t t;
                saddle_stats(c.k.worker[r].x, &t);
                faults += t.faults;
                if (t.faults > 1) ok = crew_fail(&c, "one bad message, and %u faults", (unsigned)t.faults);
                if (t.faults && !saddle_fault(c.k.worker[r].x)->field[0]) ok = crew_fail(&c, "a fault without a name");
            }
            fine(ok);
        }
    }
    ck_assert_uint_gt(total, 60);
    /* those that came when all was over nobody has read */
    ck_assert_uint_gt(faults * 2, total);
}
END_TEST

/* ---- messages that come twice, or late ---- */

static struct {
    unsigned char bytes[9000];
    size_t n;
    uint32_t src, dst, tag;
    uint64_t nth;
    int taken;
} held;

static void hold(void *user, const weft_sim_message *m) {
    (void)user;
    if (m->number != held.nth || m->bytes > sizeof held.bytes) return;
    memcpy(held.bytes, m->data, m->bytes);
    held.n = m->bytes;
    held.src = m->src;
    held.dst = m->dst;
    held.tag = m->tag;
    held.taken = 1;
}

/* A letter once more: at once, or some steps later. It is out of order, and not believed. */
START_TEST(letters_twice) {
    const int v = _i % VARIANTS;
    uint64_t k, total = 0, faults = 0;
    for (k = 1; k < 90; k++) {
        crew_desc d = variant(k, 3, v);
        int fault = -1, ok;
        uint32_t r;
        held.nth = k;
        held.taken = 0;
        d.k.sim.on_message = hold;
        ok = crew_open(&c, &d) && crew_run(&c, k % 3, 0);
        if (ok && held.taken && held.tag == 0)
            fault = weft_sim_inject_at(&c.k.sim, weft_sim_now(&c.k.sim) + k % 5 * 700, held.src, held.dst, 0,
                                       held.bytes, held.n);
        ok = ok && crew_run(&c, 6, 0) && crew_check(&c);
        total += weft_sim_fired(&c.k.sim, fault);
        for (r = 0; ok && r < 3; r++) {
            saddle_stats_t t;
            saddle_stats(c.k.worker[r].x, &t);
            faults += t.faults;
            if (t.faults > 1 || t.neighbours != weft_graph_degree(&c.k.graph, r))
                ok = crew_fail(&c, "faults, or links that are gone");
        }
        fine(ok);
    }
    ck_assert_uint_gt(total, 10);
    ck_assert_uint_gt(faults, 3);
}
END_TEST

/* ---- links that come and go ---- */

/* One end gives the link up, at every turn of some steps; the other learns of it later, or when it is opened again. */
START_TEST(one_end_first) {
    const int v = _i % VARIANTS;
    uint64_t turn, troubles = 0, lost = 0;
    for (turn = 1; turn < 60; turn++) {
        crew_desc d = variant(turn, 4, v);
        const uint32_t a = (uint32_t)turn % 4;
        int ok;
        uint32_t b, r;
        d.k.graph = turn % 2 ? weft_graph_ring : weft_graph_complete;
        b = (a + (turn / 4 % 2 ? 1 : 3)) % 4;
        plan(&d, 0, turn, CREW_UNLINK, a, b);
        switch (turn / 8 % 3) {
        case 0: plan(&d, 1, turn + 3 + turn % 5, CREW_UNLINK, b, a); break; /* and never again, until hosts mend it */
        case 1: plan(&d, 1, turn + 1 + turn % 7, CREW_LINK, a, b); break;   /* the hello tells the other end */
        default:
            plan(&d, 1, turn + turn % 4, CREW_UNLINK, b, a);
            plan(&d, 2, turn + 6, CREW_LINK, a, b);
            plan(&d, 3, turn + 6 + turn % 9, CREW_LINK, b, a);
        }
        ok = crew_open(&c, &d) && crew_run(&c, 10, 90) && crew_check(&c);
        troubles += c.troubles;
        for (r = 0; ok && r < 4; r++) {
            saddle_stats_t t;
            saddle_stats(c.k.worker[r].x, &t);
            lost += t.lost;
            if (t.faults || t.steps != 10) ok = crew_fail(&c, "faults, or steps that are missing");
            if (t.lost && r != a && r != b) ok = crew_fail(&c, "worker %u has lost a link", r);
        }
        fine(ok);
    }
    ck_assert_uint_gt(lost, 60);
    ck_assert_uint_gt(troubles, 5);
}
END_TEST

/* The one in the middle comes to one neighbour that is in its first step, and one that has been alone for long. */
START_TEST(between_early_and_late) {
    const int v = _i % VARIANTS;
    int order, ok;
    for (order = 0; order < 6; order++) {
        crew_desc d = variant((uint64_t)order + 1, 3, v);
        uint32_t r;
        d.k.graph = weft_graph_chain;
        ok = crew_open(&c, &d);
        saddle_peer_lost(c.k.worker[2].x, 1);
        c.k.worker[0].gone = c.k.worker[1].gone = 1;
        ok = ok && crew_run(&c, 6, 0);
        c.k.worker[0].gone = c.k.worker[1].gone = 0;
        plan(&c.desc, 0, c.turn + (uint64_t)order * 5, CREW_LINK, 2, 1);
        ok = ok && crew_run(&c, 12, 40) && crew_check(&c);
        for (r = 0; ok && r < 3; r++) {
            saddle_stats_t s;
            saddle_stats(c.k.worker[r].x, &s);
            if (s.faults || s.lost > (r > 0)) ok = crew_fail(&c, "faults or losses");
            if (s.skipped && order == 0) ok = crew_fail(&c, "somebody is skipped");
            if (s.neighbours != weft_graph_degree(&c.k.graph, r)) ok = crew_fail(&c, "a neighbour is missing");
        }
        fine(ok);
    }
}
END_TEST

/* A worker that has lost all its neighbours goes on alone. When they are there again it takes over the number of their
 * step: they do not wait until it has taken all the steps that it missed. */
START_TEST(alone_for_a_while) {
    const int v = _i % VARIANTS;
    saddle_stats_t s;
    uint32_t r;
    int ok, times;
    crew_desc d = variant((uint64_t)_i, 3, v);
    d.k.graph = weft_graph_complete;
    ok = crew_open(&c, &d) && crew_run(&c, 3, 0);
    for (r = 0; r < 2; r++) { /* the host of 2 is slow */
        saddle_peer_lost(c.k.worker[r].x, 2);
        saddle_peer_lost(c.k.worker[2].x, r);
    }
    c.k.worker[2].gone = 1;
    ok = ok && crew_run(&c, 50, 100000);
    c.k.worker[2].gone = 0;
    for (times = 0; times < _i / VARIANTS; times++) crew_turn(&c, 2, 50); /* in the middle of a step, or not */
    for (r = 0; r < 2; r++) {
        saddle_peer_up(c.k.worker[r].x, 2);
        saddle_peer_up(c.k.worker[2].x, r);
    }
    ok = ok && crew_run(&c, 60, 100000) && crew_check(&c);
    saddle_stats(c.k.worker[2].x, &s);
    if (s.steps > 20) ok = crew_fail(&c, "%u steps by one that was away for most of them", (unsigned)s.steps);
    if (s.exchanges < 2 * 8) ok = crew_fail(&c, "%u exchanges", (unsigned)s.exchanges);
    fine(ok);
}
END_TEST

/* Somebody who leaves when its step is done takes nothing away from those who are still at theirs, whenever the news
 * come. */
START_TEST(good_byes_in_between) {
    static const uint32_t who[3] = {0, 2, 3};
    const int v = _i % VARIANTS;
    uint64_t h = 0, early = 0, seed;
    for (seed = 1; seed <= 12; seed++) {
        crew_desc d = variant(4, 4, v);
        uint64_t now = 0;
        saddle_stats_t s;
        uint32_t r;
        int ok;
        d.k.graph = weft_graph_complete;
        d.seed = seed;
        d.lazy = seed % 3 != 0;
        d.k.sim.seed = seed;
        d.k.sim.jitter_ns = seed % 4 * 2000;
        plan(&d, 0, 1, CREW_LEAVE, 1, 3);
        ok = crew_open(&c, &d) && crew_run(&c, 3, 100000) && crew_check(&c);
        for (r = 0; ok && r < 3; r++) {
            saddle_stats(c.k.worker[who[r]].x, &s);
            if (s.skipped || s.lost || s.faults) ok = crew_fail(&c, "worker %u has skipped somebody", who[r]);
            early += saddle_link(c.k.worker[who[r]].x, 1) == WEFT_LINK_LEFT;
            now = now * 31 + cluster_hash(&c.k.worker[who[r]].params);
        }
        ok = ok && crew_run(&c, 6, 100000) && crew_check(&c);
        for (r = 0; ok && r < 3; r++)
            if (saddle_link(c.k.worker[who[r]].x, 1) != WEFT_LINK_LEFT) ok = crew_fail(&c, "it has not left");
        if (ok && seed > 1 && now != h) ok = crew_fail(&c, "when a good-bye comes changes the result");
        h = now;
        fine(ok);
    }
    ck_assert_uint_gt(early, 0);
}
END_TEST

/* Who leaves without having taken a step is waited for by nobody. */
START_TEST(good_bye_before_the_first_step) {
    crew_desc d = variant((uint64_t)_i, 4, _i % VARIANTS);
    saddle_stats_t s;
    uint32_t r;
    int ok = crew_open(&c, &d);
    c.leaving[_i % 4] = 1;
    if (saddle_leave(c.k.worker[_i % 4].x) < 0) ok = crew_fail(&c, "leave");
    c.desc.unhealed = 1;
    ok = ok && crew_run(&c, 4, 0) && crew_check(&c);
    for (r = 0; ok && r < 4; r++) {
        saddle_stats(c.k.worker[r].x, &s);
        if (s.lost || s.faults || s.skipped) ok = crew_fail(&c, "somebody is lost or skipped");
        if (s.steps != (r == (uint32_t)_i % 4 ? 0 : 4)) ok = crew_fail(&c, "%u steps", (unsigned)s.steps);
    }
    fine(ok);
}
END_TEST

/* A letter of a step that is none now, with all checksums right, ends the link. */
START_TEST(letters_of_other_steps) {
    static const uint64_t step[5] = {0, 1, 3, 9, UINT64_MAX}; /* the next one is 4 */
    crew_desc d = variant(1, 2, 0);
    unsigned char bytes[WEFT_LETTER_BYTES + SADDLE_ROUND_BYTES];
    saddle_stats_t s;
    int fault, ok;
    d.k.graph = weft_graph_ring;
    d.lazy = 0;
    ok = crew_open(&c, &d) && crew_run(&c, 3, 0);
    if (ok) lock_pump(&c.k, 10);
    memset(bytes, 0, sizeof bytes);
    bytes[0] = WEFT_LETTER_MAGIC & 0xFFu;
    bytes[1] = WEFT_LETTER_MAGIC >> 8;
    bytes[2] = (unsigned char)(WEFT_WIRE_VERSION | weft_big_endian() << 7);
    bytes[3] = SADDLE_ROUND;
    weft_put32(bytes + 4, c.k.worker[1].x->net.link[0].mine);
    weft_put64(bytes + WEFT_LETTER_BYTES, step[_i]);
    weft_put32(bytes + WEFT_LETTER_BYTES + 8, 1);
    weft_put32(bytes + 16, weft_letter_crc(bytes, sizeof bytes, 1));
    fault = weft_sim_inject_at(&c.k.sim, weft_sim_now(&c.k.sim), 1, 0, 0, bytes, sizeof bytes);
    if (ok) lock_pump(&c.k, 10);
    ck_assert_uint_eq(weft_sim_fired(&c.k.sim, fault), 1);
    saddle_stats(c.k.worker[0].x, &s);
    ck_assert_uint_eq(s.faults,
                      step[_i] == 9 ? 0 : 1); /* that may be one of a graph that changes, until it is step 4 */
    ok = ok && crew_run(&c, 8, 100000) && crew_check(&c);
    saddle_stats(c.k.worker[0].x, &s);
    if (ok && (s.faults != 1 || s.neighbours != 1)) ok = crew_fail(&c, "%u faults", (unsigned)s.faults);
    fine(ok);
}
END_TEST

int main(void) {
    Suite *s = suite_create("schedules"), *f = suite_create("faults"), *l = suite_create("links");
    TCase *t = tcase_create("schedules");
    SRunner *r;
    int failed;
    tcase_set_timeout(t, 60);
    tcase_add_loop_test(t, schedules, 0, 3);
    tcase_add_loop_test(t, schedules_with_faults, 0, 4);
    suite_add_tcase(s, t);
    t = tcase_create("faults");
    tcase_set_timeout(t, 60);
    tcase_add_loop_test(t, lost_at_every_message, 0, 3 * VARIANTS);
    tcase_add_loop_test(t, every_call_fails, 0, VARIANTS);
    tcase_add_loop_test(t, torn_messages, 0, VARIANTS);
    tcase_add_loop_test(t, letters_twice, 0, VARIANTS);
    suite_add_tcase(f, t);
    t = tcase_create("links");
    tcase_set_timeout(t, 60);
    tcase_add_loop_test(t, one_end_first, 0, VARIANTS);
    tcase_add_loop_test(t, between_early_and_late, 0, VARIANTS);
    tcase_add_loop_test(t, alone_for_a_while, 0, 3 * VARIANTS);
    tcase_add_loop_test(t, good_byes_in_between, 0, VARIANTS);
    tcase_add_loop_test(t, good_bye_before_the_first_step, 0, VARIANTS);
    tcase_add_loop_test(t, letters_of_other_steps, 0, 5);
    suite_add_tcase(l, t);
    r = srunner_create(s);
    srunner_add_suite(r, f);
    srunner_add_suite(r, l);
    srunner_run_all(r, CK_NORMAL);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
