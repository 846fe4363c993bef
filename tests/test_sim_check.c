/* SPDX-License-Identifier: MIT
 * The checks of weft_sim_check.h catch what is planted, and find nothing wrong with dsgd_aau.h on a network that loses
 * packets, falls apart and heals. Drawn compute times in the simulator. */
#define GRAWA_IMPLEMENTATION
#include "../grawa.h"
#define DSGD_AAU_IMPLEMENTATION
#include "../dsgd_aau.h"
#include "aau_team.h"
#include "checkers.h"

#include "transports/weft_sim_pace.h"

static weft_sim sim;
static weft_transport net[4];
static weft_check check;

static weft_sim_desc plain(uint32_t size) {
    weft_sim_desc d;
    memset(&d, 0, sizeof d);
    d.size = size;
    d.seed = 77;
    return d;
}

static void set_up(const weft_sim_desc *d) {
    uint32_t r;
    ck_assert_int_eq(weft_sim_init(&sim, d), WEFT_OK);
    for (r = 0; r < d->size && r < 4; r++) weft_sim_transport(&sim, r, &net[r]);
    weft_check_begin(&check, &sim);
}

/* ---- averagings ---- */

START_TEST(mixing_is_doubly_stochastic) {
    const double good[9] = {0.5, 0.25, 0.25, 0.25, 0.75, 0.0, 0.25, 0.0, 0.75};
    double w[9];
    weft_check_begin(&check, NULL);
    ck_assert(weft_check_mixing(&check, 3, good, 1e-12));
    CHECKERS_FINE(&check);
    ck_assert_uint_eq(check.checks, 1);
#define PLANT(i, by, k, too) memcpy(w, good, sizeof w), w[i] += (by), w[k] += (too)
    PLANT(1, 0.01, 4, 0);
    CHECKERS_CATCHES(&check, weft_check_mixing(&check, 3, w, 1e-12), "the weights of worker 0 sum to 1.01");
    PLANT(1, 0.01, 0, -0.01); /* the rows are right */
    CHECKERS_CATCHES(&check, weft_check_mixing(&check, 3, w, 1e-12), "what is given of worker 0 sums to 0.98999999999");
    PLANT(5, -0.25, 4, 0.25);
    CHECKERS_CATCHES(&check, weft_check_mixing(&check, 3, w, 1e-12), "the weight of worker 2 for worker 1 is -0.25");
    PLANT(8, (double)NAN, 0, 0);
    CHECKERS_CATCHES(&check, weft_check_mixing(&check, 3, w, 1e-12), "the weight of worker 2 for worker 2 is ");
    PLANT(0, -0.5, 1, 0.5); /* a permutation mixes nothing in, and keeps nothing */
    memset(w, 0, sizeof w);
    w[1] = w[5] = w[6] = 1.0;
    CHECKERS_CATCHES(&check, weft_check_mixing(&check, 3, w, 1e-12), "worker 0 keeps nothing");
    ck_assert(weft_check_mixing_own(&check, 3, w, 1e-12, 0));
    PLANT(1, 1e-9, 0, 0);
    ck_assert(weft_check_mixing(&check, 3, w, 1e-8));
    ck_assert(!weft_check_mixing(&check, 3, w, 1e-10));
    ck_assert_uint_eq(check.failures, 1);
    ck_assert(!weft_check_replicas(&check, 0, 1, "a", "b", 1));
    ck_assert_uint_eq(check.failures, 2);
    ck_assert_ptr_nonnull(strstr(check.why, "mixing")); /* the first stays */
}
END_TEST

START_TEST(every_averaging_conserves_the_sum) {
    const double before[6] = {1, -1000, 2, 1000, 3, 0}, good[6] = {2, 0, 2, 0, 2, 0};
    double after[6];
    weft_check_begin(&check, NULL);
    ck_assert(weft_check_conserved(&check, 3, 2, before, good, 1e-15));
    memcpy(after, good, sizeof after);
    after[4] += 1e-9;
    ck_assert(weft_check_conserved(&check, 3, 2, before, after, 1e-9));
    CHECKERS_FINE(&check);
    CHECKERS_CATCHES(&check, weft_check_conserved(&check, 3, 2, before, after, 1e-12), "element 0: the sum over the");
    memcpy(after, good, sizeof after);
    after[5] += 1e-9; /* a thousand times what is in this column */
    ck_assert(weft_check_conserved(&check, 3, 2, before, after, 1e-12));
    CHECKERS_FINE(&check);
    after[3] = (double)NAN;
    CHECKERS_CATCHES(&check, weft_check_conserved(&check, 3, 2, before, after, 1e-12), "element 1: the sum over the");
}
END_TEST

START_TEST(replicas_agree_in_every_bit) {
    float a[3] = {1.0f, 0.0f, 3.0f}, b[3] = {1.0f, 0.0f, 3.0f};
    weft_sim_desc d = plain(2);
    d.replay = "WEFT_SEED=%s build/test/test_sim_check";
    set_up(&d);
    ck_assert(weft_check_replicas(&check, 0, 1, a, b, sizeof a));
    CHECKERS_FINE(&check);
    b[1] = -0.0f; /* equal, and not the same */
    CHECKERS_CATCHES(&check, weft_check_replicas(&check, 0, 1, a, b, sizeof a), "seed 77 at 0 ns: workers 0 and 1");
    weft_check_replicas(&check, 0, 1, a, b, sizeof a);
    ck_assert_ptr_nonnull(strstr(check.why, "replay: WEFT_SEED=77 build/test/test_sim_check"));
    weft_sim_free(&sim);
}
END_TEST

START_TEST(the_union_of_edges_is_connected) {
    weft_union u;
    uint32_t i;
    memset(&u, 0, sizeof u);
    weft_check_begin(&check, NULL);
    ck_assert(weft_union_begin(&u, 6));
    for (i = 0; i < 5; i++) {
        CHECKERS_CATCHES(&check, weft_check_union(&check, &u), "parts: nothing joins workers 0 and ");
        weft_union_edge(&u, i + 1, i / 2);
        weft_union_edge(&u, i / 2, i + 1);
        ck_assert_uint_eq(u.parts, 5 - i);
    }
    ck_assert(weft_check_union(&check, &u));
    ck_assert(weft_union_begin(&u, 4)); /* the next epoch begins with nothing */
    weft_union_edge(&u, 0, 2);
    weft_union_edge(&u, 1, 3);
    CHECKERS_CATCHES(&check, weft_check_union(&check, &u), "2 parts: nothing joins workers 0 and 1");
    weft_union_edge(&u, 3, 2);
    ck_assert(weft_check_union(&check, &u));
    ck_assert(weft_union_begin(&u, 1));
    ck_assert(weft_check_union(&check, &u));
    CHECKERS_FINE(&check);
    weft_union_free(&u);
}
END_TEST

/* ---- progress and memory ---- */

static weft_live live;
static uint64_t stand_still; /* worker 1 does nothing for so long, once */

static int gets_on(void *user, uint32_t rank) {
    uint32_t *steps = (uint32_t *)user;
    weft_live_progress(&live, &check, rank, 1500);
    if (++*steps == 10) return 1;
    weft_sim_sleep(&sim, rank, rank == 1 && *steps == 5 ? stand_still : 1000);
    return 0;
}

START_TEST(workers_get_on_within_a_bound) {
    int kind;
    for (kind = 0; kind < 4; kind++) {
        weft_sim_desc d = plain(3);
        uint32_t steps[3] = {0, 0, 0}, r;
        set_up(&d);
        ck_assert(weft_live_begin(&live, 3));
        stand_still = kind ? 5000 : 1000;
        if (kind == 2) weft_sim_lose_at(&sim, 2, 8000); /* trouble until then: nothing is owed before */
        if (kind == 3) weft_sim_lose_at(&sim, 1, 4500); /* whoever is dead owes nothing */
        for (r = 0; r < 3; r++) weft_sim_worker(&sim, r, gets_on, &steps[r]);
        weft_sim_advance(&sim, 6500);
        if (kind == 1) {
            CHECKERS_CATCHES(&check, weft_check_live(&check, &live, 1500), "worker 1 has stood still for 2500 ns");
        } else if (kind != 2) {
            weft_check_live(&check, &live, 1500);
            CHECKERS_FINE(&check);
        }
        ck_assert_int_eq(weft_sim_run(&sim, 100), WEFT_SIM_DONE);
        if (kind == 1) CHECKERS_CATCHES(&check, 0, "worker 1 got on only after 5000 ns");
        weft_check_live(&check, &live, 1);
        CHECKERS_FINE(&check); /* all are done */
        if (kind == 2) ck_assert_uint_eq(weft_sim_trouble_until(&sim), 8000);
        ck_assert_uint_eq(live.longest_ns, kind == 1 ? 5000 : 1000);
        weft_live_free(&live);
        weft_sim_free(&sim);
    }
}
END_TEST

START_TEST(memory_is_bounded) {
    weft_sim_desc d = plain(2);
    static unsigned char out[100000];
    weft_request q[8];
    uint64_t before;
    int i;
    set_up(&d);
    before = weft_sim_memory(&sim);
    ck_assert_uint_ge(before, 2 * sizeof(weft_sim_endpoint));
    ck_assert(weft_check_memory(&check, 8, 100000));
    memset(q, 0, sizeof q);
    for (i = 0; i < 8; i++) ck_assert_int_eq(net[0].send(net[0].ctx, 1, 1, out, 4, &q[i]), WEFT_OK);
    ck_assert(weft_check_memory(&check, 8, 100000));
    CHECKERS_FINE(&check);
    CHECKERS_CATCHES(&check, weft_check_memory(&check, 7, 0), "8 requests of one worker with one peer");
    for (i = 0; i < 8; i++) net[0].cancel(net[0].ctx, &q[i]);
    CHECKERS_CATCHES(&check, weft_check_memory(&check, 7, 0), "8 requests"); /* it has been */
    ck_assert_int_eq(net[0].send(net[0].ctx, 1, 1, out, sizeof out, &q[0]), WEFT_OK);
    ck_assert_uint_ge(weft_sim_memory(&sim), before + sizeof out);
    ck_assert_uint_eq(sim.message_bytes, sizeof out);
    CHECKERS_CATCHES(&check, weft_check_memory(&check, 0, 50000), "bytes a worker, at most 50000");
    weft_sim_resize(&sim, 0, 1, 1, 2, 70); /* the tenth, so as to be counted right */
    weft_sim_times(&sim, 0, WEFT_SIM_FOREVER);
    ck_assert_int_eq(net[0].send(net[0].ctx, 1, 1, out, 200, &q[1]), WEFT_OK);
    ck_assert_int_eq(net[0].send(net[0].ctx, 1, 1, out, 200, &q[2]), WEFT_OK);
    ck_assert_uint_eq(sim.message_bytes, sizeof out + 200 + 70);
    weft_sim_lose(&sim, 1);
    weft_sim_advance(&sim, 1000);
    ck_assert_uint_eq(sim.message_bytes, 0);
    weft_sim_free(&sim);
}
END_TEST

/* ---- messages ---- */

/* Ten messages from 0 to 1, of which six are received. */
static void ten_messages(weft_mail *mail, uint32_t size) {
    weft_sim_desc d = plain(size);
    unsigned char byte = 1, in;
    weft_request s, r;
    int i;
    memset(&r, 0, sizeof r);
    memset(&s, 0, sizeof s);
    ck_assert(weft_mail_begin(mail, &check, size));
    d.on_mail = weft_mail_take;
    d.mail_user = mail;
    d.latency_ns = 10;
    set_up(&d);
    for (i = 0; i < 10; i++) {
        ck_assert_int_eq(net[0].send(net[0].ctx, 1, 1, &byte, 1, &s), WEFT_OK);
        ck_assert_int_eq(net[0].test(net[0].ctx, &s), WEFT_OK);
        if (i >= 6) continue;
        ck_assert_int_eq(net[1].recv(net[1].ctx, 0, 1, &in, 1, &r), WEFT_OK);
        weft_sim_advance(&sim, 10);
        ck_assert_int_eq(net[1].test(net[1].ctx, &r), WEFT_OK);
    }
}

START_TEST(every_message_is_accounted_for) {
    weft_mail mail;
    weft_sim_message m;
    uint32_t size;
    for (size = 2; size < 200; size += 100) {
        ten_messages(&mail, size);
        weft_check_mail(&check, &mail);
        CHECKERS_FINE(&check);
        ck_assert_uint_eq(mail.count[WEFT_SIM_SENT][0], 10);
        ck_assert_uint_eq(mail.count[WEFT_SIM_DELIVERED][0], 6);
        ck_assert_uint_eq(weft_sim_under_way(&sim, 0), 4);
        ck_assert_uint_eq(weft_sim_under_way(&sim, 1), 0);
        /* one gets lost without a word */
        weft_sim_free_msg(&sim, sim.heap[0].what);
        CHECKERS_CATCHES(&check, weft_check_mail(&check, &mail), "of its messages not done with, 1 are not there");
        weft_sim_free(&sim);
        weft_mail_free(&mail);
    }
    /* the simulator counts one too many, or too few */
    ten_messages(&mail, 2);
    sim.worker[0].counts.delivered++;
    CHECKERS_CATCHES(&check, weft_check_mail(&check, &mail), "worker 0: 10 messages seen, 6 done with; its own");
    sim.worker[0].counts.delivered--;
    sim.worker[1].counts.sent[1]++;
    CHECKERS_CATCHES(&check, weft_check_mail(&check, &mail), "worker 1: 0 messages seen, 0 done with; its own");
    sim.worker[1].counts.sent[1]--;
    /* dropped, forged, and lost with their receiver: all of it is told */
    weft_sim_drop(&sim, 0, 1, WEFT_SIM_ANY, 1);
    weft_sim_inject_at(&sim, 500, 1, 0, 1, "x", 1);
    ck_assert_int_eq(net[0].send(net[0].ctx, 1, 2, "y", 1, &(weft_request){0}), WEFT_OK);
    weft_sim_advance(&sim, 1000);
    ck_assert_uint_eq(mail.count[WEFT_SIM_GONE][0], 1);
    ck_assert_uint_eq(mail.count[WEFT_SIM_FORGED][1], 1);
    ck_assert_uint_eq(weft_sim_under_way(&sim, 1), 1);
    weft_check_mail(&check, &mail);
    weft_sim_lose(&sim, 1);
    ck_assert_uint_eq(mail.count[WEFT_SIM_GONE][0], 5);
    ck_assert_uint_eq(mail.count[WEFT_SIM_GONE][1], 1);
    ck_assert_uint_eq(weft_sim_under_way(&sim, WEFT_SIM_ANY), 0);
    weft_check_mail(&check, &mail);
    CHECKERS_FINE(&check);
    /* out of order, or twice; another tag has an order of its own */
    memset(&m, 0, sizeof m);
    m.dst = 1;
    m.tag = 1;
    m.number = 5;
    weft_mail_take(&mail, WEFT_SIM_MATCHED, &m);
    CHECKERS_CATCHES(&check, 0, "worker 1 gets message 5 of worker 0, tag 1, after message 6");
    m.number = 8;
    weft_mail_take(&mail, WEFT_SIM_MATCHED, &m);
    m.tag = 2;
    m.number = 7;
    weft_mail_take(&mail, WEFT_SIM_MATCHED, &m);
    CHECKERS_FINE(&check);
    weft_mail_take(&mail, WEFT_SIM_MATCHED, &m);
    CHECKERS_CATCHES(&check, 0, "gets message 7 of worker 0, tag 2, after message 7");
    for (m.tag = 0; m.tag < 2000; m.tag++) { /* the table grows */
        m.number++;
        weft_mail_take(&mail, WEFT_SIM_MATCHED, &m);
    }
    CHECKERS_FINE(&check);
    for (m.tag = 0; m.tag < 2000; m.tag++) weft_mail_take(&mail, WEFT_SIM_MATCHED, &m);
    ck_assert_uint_eq(check.failures, 1); /* of the last tag only: it has had this number */
    m.src = 9;
    weft_check_begin(&check, &sim);
    weft_mail_take(&mail, WEFT_SIM_SENT, &m);
    CHECKERS_CATCHES(&check, 0, "a message from worker 9");
    weft_sim_free(&sim);
    weft_mail_free(&mail);
}
END_TEST

/* ---- compute times ---- */

typedef struct computing {
    const weft_pace *pace;
    uint64_t steps, at[20];
} computing;

static int computes(void *user, uint32_t rank) {
    computing *w = (computing *)user;
    w->at[w->steps] = weft_sim_now(&sim);
    if (w->steps == 19) return 1;
    ck_assert_uint_eq(weft_sim_compute(&sim, rank, w->pace, w->steps), weft_pace_draw_ns(w->pace, 77, rank, w->steps));
    w->steps++;
    return 0;
}

START_TEST(workers_compute_for_drawn_times) {
    static const char *const text[5] = {"0.001", "uniform:0.001:0.5", "exponential:0.001", "lognormal:0.001:0.5",
                                        "pareto:0.001:2"};
    weft_sim_desc d = plain(3);
    weft_pace p = weft_pace_default();
    computing w[3];
    unsigned char byte = 1, in;
    weft_request q[2];
    uint64_t k, slow = 0;
    uint32_t r;
    memset(w, 0, sizeof w);
    memset(q, 0, sizeof q);
    ck_assert(weft_pace_parse(&p, text[_i]));
    if (_i == 1) weft_pace_parse_stragglers(&p, "0.2x10");
    if (_i == 2) p.slow = 1, p.slow_factor = 3.0;
    set_up(&d);
    for (r = 0; r < 3; r++) {
        w[r].pace = &p;
        weft_sim_worker(&sim, r, computes, &w[r]);
    }
    /* news in the middle of it change nothing */
    ck_assert_int_eq(net[1].recv(net[1].ctx, 0, 1, &in, 1, &q[0]), WEFT_OK);
    weft_sim_advance(&sim, 5);
    ck_assert_int_eq(net[0].send(net[0].ctx, 1, 1, &byte, 1, &q[1]), WEFT_OK);
    ck_assert_int_eq(weft_sim_run(&sim, 100), WEFT_SIM_DONE);
    for (r = 0; r < 3; r++)
        for (k = 0; k < 19; k++) {
            uint64_t ns = weft_pace_draw_ns(&p, 77, r, k);
            ck_assert_uint_eq(w[r].at[k + 1] - w[r].at[k], ns);
            if (_i == 0) ck_assert_uint_eq(ns, 1000000);
            slow += ns > 1500000;
        }
    if (_i == 1) ck_assert_uint_eq(weft_sim_happened(&sim, WEFT_SIM_STRAGGLED), slow);
    if (_i == 1) ck_assert(slow > 3 && slow < 25);
    if (_i != 1) ck_assert_uint_eq(weft_sim_happened(&sim, WEFT_SIM_STRAGGLED), 0);
    weft_sim_free(&sim);
}
END_TEST

/* ---- dsgd_aau.h on a bad network, and all checks ---- */

/* An averaging, and one of its edges. It was agreed on in one of these epochs: after its leader's step, before it was
 * through for the leader. */
typedef struct star_seen {
    uint64_t tx, from, to;
    uint32_t leader;
} star_seen;
typedef struct edge_seen {
    size_t star;
    uint32_t leaf;
} edge_seen;

enum { MOST = 20000 };
static struct {
    weft_live live;
    uint64_t bound, first, epoch; /* the first that all links were up for, and the latest */
    int began;
    uint64_t begun[64];
    edge_seen edge[MOST];
    star_seen star[MOST];
    size_t edges, stars;
} watch;

/* What a worker claims that sees all links up. (Before, epochs are those of fewer workers.) */
static void look_at_epoch(const aau_worker *w) {
    const dsgd_aau_core *c = &w->x->core;
    uint32_t k;
    for (k = 0; k < c->edges; k++)
        if (!(c->view[k] & 1u)) return;
    if (!watch.began) watch.first = watch.epoch = c->epoch;
    watch.began = 1;
    if (c->epoch > watch.epoch) watch.epoch = c->epoch;
}

/* Every averaging, as its members tell of it, in any order. */
static void on_trace(void *ctx, const weft_event *e) {
    aau_worker *w = (aau_worker *)ctx;
    size_t i = watch.stars;
    aau_trace(ctx, e);
    if (w->x) look_at_epoch(w);
    if (e->kind == WEFT_EVENT_ROUND_BEGUN) watch.begun[w->rank] = watch.epoch;
    if (e->kind != WEFT_EVENT_COMMITTED) return;
    while (i > 0 && (watch.star[i - 1].leader != e->peer || watch.star[i - 1].tx != e->round)) i--;
    if (!i) {
        ck_assert_uint_lt(watch.stars, MOST);
        i = ++watch.stars;
        watch.star[i - 1].leader = e->peer;
        watch.star[i - 1].tx = e->round;
        watch.star[i - 1].from = watch.begun[e->peer];
    }
    if (e->peer == w->rank) {
        watch.star[i - 1].to = watch.epoch;
    } else {
        ck_assert_uint_lt(watch.edges, MOST);
        watch.edge[watch.edges].star = i - 1;
        watch.edge[watch.edges++].leaf = w->rank;
    }
}

/* Worker i starts from the i-th unit vector: what becomes of it is a row of the product of all mixings. */
static int unit_vector(aau_worker *w) {
    size_t k;
    for (k = 0; k < w->params.tensor[0].count; k++) cluster_set(&w->params.tensor[0], k, k == w->rank ? 1.0 : 0.0);
    aau_flat(&w->params, w->first);
    w->desc.trace = on_trace;
    return 1;
}

static uint64_t pace_and_watch(aau_worker *w) {
    look_at_epoch(w);
    weft_live_progress(&watch.live, &check, w->rank, watch.bound);
    return w->t->desc.compute_ns - w->t->desc.compute_ns / 10 + cluster_draw(&w->rng) % (w->t->desc.compute_ns / 5 + 1);
}

#define REPLAY "WEFT_SEED=%s CK_RUN_CASE=dsgd_aau build/test/test_sim_check"

/* The kinds: 0 packets lost, 1 and a partition in the middle that heals, 2 in one direction. */
static void train_on_a_bad_network(uint64_t seed, int kind, uint64_t *longest) {
    weft_graph g;
    void *m = aau_graph(&g, (int)(seed % AAU_KINDS), 4 + (uint32_t)(seed % 5), seed);
    const uint32_t n = g.workers;
    const size_t count[1] = {n};
    aau_desc d = aau_default(seed, &g);
    aau t;
    weft_mail mail;
    double *before = (double *)calloc(n * n, sizeof *before), *after = (double *)calloc(n * n, sizeof *after);
    unsigned char group[64];
    weft_union u;
    uint64_t k;
    size_t i;
    uint32_t r;
    int ok;
    memset(&watch, 0, sizeof watch);
    memset(&u, 0, sizeof u);
    weft_check_begin(&check, &t.sim);
    ck_assert(weft_mail_begin(&mail, &check, n) && weft_live_begin(&watch.live, n));
    watch.bound = UINT64_C(60000000); /* fifteen retransmissions that each wait as long as they may */
    d.sim = weft_sim_bad_network(seed, n);
    d.sim.lossy.packet_bytes += 50; /* a state is some hundred bytes */
    d.sim.lossy.most_timeout_ns = 4000000;
    d.sim.on_mail = weft_mail_take;
    d.sim.mail_user = &mail;
    checkers_replay(&d.sim, REPLAY);
    d.tensors = 1;
    d.count = count;
    d.steps = 20;
    d.apart = 1;
    d.eta = 0.0;
    d.prepare = unit_vector;
    d.pace = pace_and_watch;
    for (r = 0; r < n; r++) group[r] = r < n / 2;
    ok = aau_open(&t, &d);
    for (r = 0; r < n; r++) aau_flat(&t.worker[r].params, before + (size_t)r * n);
    if (kind == 1) weft_sim_split(&t.sim, group, 5000000, 9000000);
    if (kind == 2) weft_sim_partition(&t.sim, group, 5000000, 9000000);
    ok = ok && aau_run(&t);
    ck_assert_msg(ok, "%s", t.why);
    ck_assert_uint_gt(weft_sim_happened(&t.sim, WEFT_SIM_PACKET_LOST), 10);
    ck_assert_uint_gt(weft_sim_happened(&t.sim, WEFT_SIM_PACKET_AGAIN), 10);
    if (kind) ck_assert_uint_gt(weft_sim_happened(&t.sim, WEFT_SIM_FAULT_PARTITION), 0);
    for (r = 0; r < n; r++) {
        aau_flat(&t.worker[r].params, after + (size_t)r * n);
        ck_assert_uint_eq(t.worker[r].steps, d.steps);
    }
    ck_assert(aau_whole_stars(&t));
    weft_check_conserved(&check, n, n, before, after, 1e-14);
    weft_check_mixing(&check, n, after, 1e-13);
    weft_check_mail(&check, &mail);
    weft_check_memory(&check, 64, 100000);
    ck_assert_uint_gt(watch.epoch, watch.first + 1);
    for (k = watch.first; k < watch.epoch; k++) {
        ck_assert(weft_union_begin(&u, n));
        for (i = 0; i < watch.edges; i++) {
            const star_seen *star = &watch.star[watch.edge[i].star];
            if (star->from <= k && k <= star->to) weft_union_edge(&u, star->leader, watch.edge[i].leaf);
        }
        weft_check_union(&check, &u);
    }
    CHECKERS_FINE(&check);
    ck_assert_uint_gt(check.checks, 100);
    if (watch.live.longest_ns > *longest) *longest = watch.live.longest_ns;
    ck_assert_msg(aau_close(&t), "%s", t.why);
    weft_mail_free(&mail);
    weft_live_free(&watch.live);
    weft_union_free(&u);
    free(before);
    free(after);
    free(m);
}

START_TEST(training_on_a_bad_network) {
    uint64_t seed, longest = 0;
    weft_sim_desc one;
    if (checkers_replay(&one, REPLAY)) { /* only this one */
        train_on_a_bad_network(one.seed, _i, &longest);
        return;
    }
    for (seed = 1; seed <= 12; seed++) train_on_a_bad_network(seed, _i, &longest);
    ck_assert_uint_gt(longest, 1000000); /* the bound is one: somebody has waited */
}
END_TEST

static uint32_t links_lost, links_up;
static void link_changed(void *user, uint32_t rank, uint32_t peer, int up) {
    aau *t = (aau *)user;
    aau_worker *w = &t->worker[rank];
    if (up) links_up++;
    else links_lost++;
    if (!w->x) return;
    if (up) dsgd_aau_peer_up(w->x, peer);
    else dsgd_aau_peer_lost(w->x, peer);
}

/* The adapter gives peers up while the network is in two parts; each part goes on, and they grow together again. */
START_TEST(peers_are_given_up_and_found_again) {
    weft_graph g;
    void *m = aau_graph(&g, AAU_RING, 8, 0);
    aau_desc d = aau_default(9 + (uint64_t)_i, &g);
    static const size_t count[] = {5, 40};
    static const unsigned char group[8] = {1, 1, 1, 1, 0, 0, 0, 0};
    aau t;
    uint64_t steps[8];
    uint32_t r;
    dsgd_aau_stats_t s;
    weft_mail mail;
    links_lost = links_up = 0;
    weft_check_begin(&check, &t.sim);
    ck_assert(weft_mail_begin(&mail, &check, 8));
    d.sim.on_mail = weft_mail_take;
    d.sim.mail_user = &mail;
    d.sim.on_link = link_changed;
    d.sim.detect_ns = 200000;
    d.sim.lossy.loss_ppm = 20000;
    d.sim.lossy.retries = 6;
    d.tensors = 2;
    d.count = count;
    d.steps = 100000;
    d.stay = 1;
    ck_assert(aau_open(&t, &d));
    weft_sim_split(&t.sim, group, 10000000, 20000000);
    weft_sim_connect_at(&t.sim, 3, 4, 21000000);
    weft_sim_connect_at(&t.sim, 7, 0, 22000000);
    aau_begin_all(&t);
    weft_sim_advance(&t.sim, 19000000);
    ck_assert_uint_eq(links_lost, 4);
    ck_assert_uint_eq(weft_sim_happened(&t.sim, WEFT_SIM_GIVEN_UP), 2);
    for (r = 0; r < 8; r++) {
        dsgd_aau_stats(t.worker[r].x, &s);
        ck_assert_uint_eq(s.part, 4);
        steps[r] = t.worker[r].steps;
    }
    weft_check_mail(&check, &mail);
    weft_sim_advance(&t.sim, 21000000);
    ck_assert_uint_eq(links_up, 4);
    for (r = 0; r < 8; r++) {
        dsgd_aau_stats(t.worker[r].x, &s);
        ck_assert_uint_eq(s.part, 8);
        ck_assert_uint_gt(t.worker[r].steps, steps[r] + 10);
    }
    CHECKERS_HAPPENED(&t.sim);
    weft_check_mail(&check, &mail);
    CHECKERS_FINE(&check);
    ck_assert_msg(aau_close(&t), "%s", t.why);
    weft_mail_free(&mail);
    free(m);
}
END_TEST

int main(void) {
    Suite *s = suite_create("sim_check");
    TCase *t = tcase_create("checks");
    SRunner *runner;
    int failed;
    tcase_add_test(t, mixing_is_doubly_stochastic);
    tcase_add_test(t, every_averaging_conserves_the_sum);
    tcase_add_test(t, replicas_agree_in_every_bit);
    tcase_add_test(t, the_union_of_edges_is_connected);
    tcase_add_test(t, workers_get_on_within_a_bound);
    tcase_add_test(t, memory_is_bounded);
    tcase_add_test(t, every_message_is_accounted_for);
    tcase_add_loop_test(t, workers_compute_for_drawn_times, 0, 5);
    suite_add_tcase(s, t);
    t = tcase_create("dsgd_aau");
    tcase_set_timeout(t, 30);
    tcase_add_loop_test(t, training_on_a_bad_network, 0, 3);
    tcase_add_loop_test(t, peers_are_given_up_and_found_again, 0, 3);
    suite_add_tcase(s, t);
    runner = srunner_create(s);
    srunner_run_all(runner, CK_NORMAL);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
