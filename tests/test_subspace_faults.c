/* SPDX-License-Identifier: MIT
 * AdaCons when things fail: every callback failing in turn, workers lost at every message, coming back, leaving,
 * hostile bytes, numbers that are not finite, time-outs. The crew's oracle looks at the gradients after every verb. */
#define GRAWA_IMPLEMENTATION
#include "../grawa.h"
#define SUBSPACE_IMPLEMENTATION
#include "../subspace.h"
#include "subspace_crew.h"

#include <check.h>

/* Variants of the same run: bits. */
enum {
    BULK = 1,
    PARTS = 2,
    GROUPS = 4,
    MEAN = 8,
    BATCH = 16,
    IMPATIENT = 32,
    SHARED = 64,
    IN_PLACE = 128,
    VARIANTS = 256
};

static const size_t small_count[3] = {7, 0, 3}, bulk_count[3] = {300, 0, 133};
static const uint32_t group_of[3] = {0, 1, 1};

static crew_desc variant(uint64_t seed, uint32_t workers, int bits) {
    crew_desc d = crew_default(seed, workers);
    uint32_t r;
    d.count = bits & BULK ? bulk_count : small_count;
    if (bits & PARTS) d.parts = 2 + (uint32_t)(seed & 1);
    if (bits & GROUPS) {
        d.s.groups = 2;
        d.s.group_of_tensor = group_of;
    }
    if (bits & MEAN) d.s.rule = SUBSPACE_MEAN;
    if (bits & IMPATIENT) d.impatient = 1;
    if (bits & SHARED) d.sim.shared = 1;
    if (bits & IN_PLACE) d.s.in_place = 1;
    d.step_ns[0] = 3000;
    d.step_ns[1] = 2500;
    d.step_ns[2] = 9000;
    d.step_ns[3] = 3500;
    for (r = 0; r < CREW_MOST; r++) {
        d.view_ns[r] = (seed / 4 + r) % 3 * 1700;
        if (bits & BATCH) d.samples[r] = 1 + r % 3;
    }
    d.sim.mode = (weft_sim_mode)(seed % 4);
    d.sim.eager_bytes = 100;
    return d;
}

/* Two more rounds with whoever is there, and the end. */
static void train_on(crew *f, const char *what, uint64_t k) {
    uint64_t round = 0;
    uint32_t r;
    int ok;
    f->desc.spoil = NULL;
    for (r = 0; r < f->size; r++)
        if (f->worker[r].a && weft_sim_alive(&f->sim, r) && f->worker[r].a->round > round)
            round = f->worker[r].a->round;
    ok = crew_run(f, round + 2);
    if (ok) crew_agree(f);
    ok = crew_close(f);
    ck_assert_msg(ok, "%s %llu: %s", what, (unsigned long long)k, f->why);
}

static uint64_t errors_of(const crew *f) {
    uint64_t n = 0;
    uint32_t r;
    for (r = 0; r < f->size; r++) n += f->worker[r].errors;
    return n;
}

/* ---- without faults, to know that the harness itself is right ---- */

START_TEST(no_faults) {
    int bits = _i;
    uint32_t n;
    for (n = 1; n <= 4; n++) {
        crew_desc d = variant((uint64_t)bits, n, bits);
        crew f;
        int ok = crew_open(&f, &d) && crew_run(&f, 4) && crew_agree(&f);
        ck_assert_msg(ok, "%u workers, variant %d: %s", n, bits, f.why);
        ck_assert_uint_eq(errors_of(&f), 0);
        ck_assert_uint_eq(f.commits_checked, 4 * n);
        ck_assert_msg(crew_close(&f), "%u workers, variant %d: %s", n, bits, f.why);
    }
}
END_TEST

/* ---- every callback fails in turn ---- */

START_TEST(every_call_fails) {
    static const int bits_of[8] = {
        0, BULK, PARTS | BATCH, GROUPS | BULK | PARTS, MEAN | BULK, IMPATIENT | PARTS, SHARED | BULK, IN_PLACE | PARTS};
    static const weft_status status_of[2] = {WEFT_ERR_TRANSPORT, WEFT_ERR_PEER_LOST};
    uint32_t n = 2 + (uint32_t)_i % 3;
    int bits = bits_of[_i / 3], call, s;
    uint64_t total = 0;
    for (call = WEFT_SIM_SEND; call <= WEFT_SIM_TEST; call++)
        for (s = 0; s < 2; s++) {
            uint64_t k, stride = call == WEFT_SIM_TEST ? 5 : 1, fired = 1;
            for (k = 1; fired; k += stride) {
                uint32_t rank = (uint32_t)(k / stride + (uint64_t)s) % n;
                crew_desc d = variant(k, n, bits);
                crew f;
                int fault, ok = crew_open(&f, &d);
                fault = weft_sim_fail_call(&f.sim, (weft_sim_call)call, rank, k, status_of[s]);
                ok = ok && crew_run(&f, 2) && crew_agree(&f);
                ck_assert_msg(ok, "%u workers, variant %d, call kind %d number %llu of worker %u says %d: %s", n, bits,
                              call, (unsigned long long)k, rank, status_of[s], f.why);
                fired = weft_sim_fired(&f.sim, fault);
                if (fired) {
                    const weft_detail *e = &f.worker[rank].last_detail;
                    ck_assert_msg(f.worker[rank].errors > 0, "call kind %d number %llu failed and nobody said so", call,
                                  (unsigned long long)k);
                    ck_assert_int_eq(f.worker[rank].last_error, status_of[s]);
                    ck_assert_uint_lt(e->peer, n);
                    ck_assert_uint_ne(e->peer, rank);
                    total++;
                    train_on(&f, "call", k);
                } else {
                    ck_assert_uint_eq(errors_of(&f), 0);
                    ck_assert_msg(crew_close(&f), "%s", f.why);
                }
            }
        }
    ck_assert_uint_gt(total, 40);
}
END_TEST

/* ---- a worker is lost before or after every message ---- */

static void lost_at_every_message_of(int bits, uint32_t n, void (*spoil)(crew_worker *), subspace_desc *s,
                                     uint64_t least) {
    int after;
    uint64_t k, total = 0, fired = 1, abandoned = 0;
    for (k = 1; fired; k++)
        for (after = 0; after < 2; after++) {
            uint32_t rank = (uint32_t)(k + k / n) % n, r;
            uint64_t said = 0;
            crew_desc d = variant(k, n, bits);
            crew f;
            int fault, ok;
            d.deaf = (int)(k & 1);
            d.spoil = spoil;
            if (s) {
                d.s.guard = s->guard;
                d.s.rule = s->rule;
                d.s.scale = s->scale;
            }
            ok = crew_open(&f, &d);
            fault = weft_sim_lose_at_message(&f.sim, rank, k, after);
            ok = ok && crew_run(&f, 3) && crew_agree(&f);
            ck_assert_msg(ok, "%u workers, variant %d, worker %u lost %s message %llu: %s", n, bits, rank,
                          after ? "after" : "before", (unsigned long long)k, f.why);
            fired = weft_sim_fired(&f.sim, fault);
            if (!fired) {
                ck_assert_msg(crew_close(&f), "%s", f.why);
                continue;
            }
            for (r = 0; r < n; r++) {
                if (r == rank) continue;
                said += f.worker[r].lost_errors;
                abandoned += f.worker[r].abandoned;
                ck_assert_uint_ge(f.worker[r].regroups, 1);
                ck_assert_uint_eq(f.worker[r].a->group.members, n - 1);
                if (f.worker[r].lost_errors && !spoil) ck_assert_uint_eq(f.worker[r].last_detail.peer, rank);
            }
            ck_assert_uint_ge(said, 1);
            total++;
            train_on(&f, "message", k);
        }
    ck_assert_uint_gt(total, least);
    ck_assert_uint_gt(abandoned, least / 4);
}

START_TEST(lost_at_every_message) {
    static const int bits_of[13] = {0,
                                    BULK,
                                    PARTS,
                                    BULK | PARTS,
                                    GROUPS | BATCH,
                                    BULK | GROUPS | PARTS | IMPATIENT,
                                    MEAN,
                                    MEAN | BULK | PARTS,
                                    BATCH | IMPATIENT,
                                    SHARED | BULK,
                                    SHARED | MEAN | PARTS,
                                    IN_PLACE | BULK | IMPATIENT,
                                    IN_PLACE | SHARED | PARTS | GROUPS};
    lost_at_every_message_of(bits_of[_i / 3], 2 + (uint32_t)_i % 3, NULL, NULL, 20);
}
END_TEST

/* The host hears of the loss first, and says so. */
START_TEST(host_says_lost) {
    uint64_t k, fired = 1;
    for (k = 1; fired; k += 3) {
        crew_desc d = variant(k, 3, _i);
        crew f;
        int fault, ok;
        uint32_t r;
        d.sim.detect_ns = 1000000000; /* the transport notices much later */
        ok = crew_open(&f, &d);
        fault = weft_sim_lose_at_message(&f.sim, 1, k, 0);
        f.target = 3;
        crew_wake(&f);
        weft_sim_advance(&f.sim, 100000000); /* whatever is possible without worker 1 */
        fired = weft_sim_fired(&f.sim, fault);
        ck_assert_msg(ok && !f.why[0], "%s", f.why);
        if (fired) {
            for (r = 0; r < 3; r += 2) {
                crew_worker *w = &f.worker[r];
                ck_assert_int_eq(subspace_peer_lost(w->a, 1), WEFT_OK);
                ck_assert_int_eq(subspace_peer_lost(w->a, 1), WEFT_OK); /* twice is as good */
                ck_assert_int_eq(subspace_poll(w->a), WEFT_ERR_PEER_LOST);
                ck_assert_uint_eq(subspace_detail(w->a)->peer, 1);
                crew_look(w, "subspace_poll after a loss");
            }
            crew_new_view(&f);
        }
        ck_assert_msg(crew_run(&f, 3) && crew_agree(&f), "message %llu: %s", (unsigned long long)k, f.why);
        train_on(&f, "host, message", k);
    }
    ck_assert_uint_gt(k, 30);
}
END_TEST

/* ---- a lost worker comes back ---- */

START_TEST(comes_back) {
    static const int bits_of[6] = {0, BULK | GROUPS, PARTS | BATCH, MEAN, SHARED | BULK, IN_PLACE | BULK};
    int bits = bits_of[_i];
    uint32_t n, rank;
    uint64_t k;
    for (n = 2; n <= 4; n++)
        for (rank = 0; rank < n; rank++)
            for (k = 7; k < 60; k += 11) {
                crew_desc d = variant(k, n, bits);
                crew f;
                int fault, ok;
                uint64_t checked;
                memset(d.view_ns, 0, sizeof d.view_ns); /* nobody goes on alone in the meantime */
                ok = crew_open(&f, &d);
                fault = weft_sim_lose_at_message(&f.sim, rank, k, 0);
                ok = ok && crew_run(&f, 2);
                ck_assert_msg(ok, "%s", f.why);
                if (!weft_sim_fired(&f.sim, fault)) {
                    f.sim.fault[fault].nth = 0; /* not later, either */
                    weft_sim_lose(&f.sim, rank);
                }
                ok = crew_run(&f, 3) && crew_agree(&f) && crew_rejoin(&f, rank);
                checked = f.commits_checked;
                ok = ok && crew_run(&f, 5) && crew_agree(&f);
                ck_assert_msg(ok, "variant %d, %u workers, worker %u comes back: %s", bits, n, rank, f.why);
                ck_assert_uint_eq(f.worker[rank].a->round, 5);
                ck_assert_uint_eq(f.worker[rank].commits, 2);
                ck_assert_uint_eq(f.commits_checked - checked, 2 * n);
                ck_assert_uint_eq(f.worker[rank].participants[1], n);
                train_on(&f, "back", k);
            }
}
END_TEST

/* Another one is lost at once, so that the number of workers is as before: the average begins anew all the same. */
START_TEST(one_comes_and_one_goes) {
    uint64_t k;
    for (k = 0; k < 12; k++) {
        crew_desc d = variant(k, 3, _i);
        crew f;
        subspace_stats_t s;
        int ok = crew_open(&f, &d) && crew_run(&f, 1);
        weft_sim_lose(&f.sim, 0);
        ok = ok && crew_run(&f, 4);
        subspace_stats(f.worker[1].a, &s);
        ck_assert_uint_eq(s.restarts, (d.s.rule == SUBSPACE_MEAN ? 0u : 1u) * (d.s.groups ? 2 : 1));
        ok = ok && crew_rejoin(&f, 0);
        weft_sim_lose(&f.sim, 2);
        ok = ok && crew_run(&f, 6) && crew_agree(&f);
        ck_assert_msg(ok, "%s", f.why);
        subspace_stats(f.worker[1].a, &s);
        ck_assert_uint_ge(s.restarts, (d.s.rule == SUBSPACE_MEAN ? 0u : 2u) * (d.s.groups ? 2 : 1));
        train_on(&f, "one for another", k);
    }
}
END_TEST

static void back_at_once(void *user, uint32_t rank, int alive) {
    crew *f = (crew *)user;
    if (alive) crew_rejoin(f, rank);
}

/* It comes back at any moment, as a rule in the middle of a round of the others, who may not have regrouped yet. */
START_TEST(comes_back_at_any_time) {
    static const int bits_of[6] = {0, BULK, PARTS, BULK | PARTS, SHARED | BULK, SHARED | IN_PLACE};
    uint64_t k, at;
    for (k = 1; k < 60; k++) {
        crew_desc d = variant(k, 3, bits_of[_i]);
        crew f;
        int ok, fault;
        d.sim.on_change = back_at_once;
        d.sim.user = &f;
        d.sim.detect_ns = k % 3 * 1500;
        ok = crew_open(&f, &d) && crew_run(&f, 2);
        at = f.sim.now;
        weft_sim_lose_at(&f.sim, (uint32_t)(k % 3), at + 1000 + k * 311);
        fault = weft_sim_revive_at(&f.sim, (uint32_t)(k % 3), at + 1000 + k * 311 + k * k % 29 * 400);
        ok = ok && crew_run(&f, 6) && crew_agree(&f);
        ck_assert_msg(ok, "%llu: %s", (unsigned long long)k, f.why);
        ck_assert_uint_eq(weft_sim_fired(&f.sim, fault), 1);
        train_on(&f, "back", k);
    }
}
END_TEST

/* ---- a second loss while the first is being settled ---- */

START_TEST(cascaded) {
    static const int bits_of[6] = {0, BULK | PARTS, GROUPS | IMPATIENT | PARTS, MEAN | BULK, SHARED, IN_PLACE | SHARED};
    int bits = bits_of[_i];
    uint64_t k, j, second = 0;
    for (k = 3; k < 110; k += 4)
        for (j = 1; j <= 12; j++) {
            uint32_t a = (uint32_t)(k % 4), b = (uint32_t)((k + 1 + j % 3) % 4);
            crew_desc d = variant(k + j, 4, bits);
            crew f;
            int one, two, ok = crew_open(&f, &d);
            one = weft_sim_lose_at_message(&f.sim, a, k, (int)(j & 1));
            two = weft_sim_lose_at_message(&f.sim, b, k + j, (int)(j & 2));
            ok = ok && crew_run(&f, 3) && crew_agree(&f);
            ck_assert_msg(ok, "variant %d, workers %u and %u lost at messages %llu and %llu: %s", bits, a, b,
                          (unsigned long long)k, (unsigned long long)(k + j), f.why);
            second += weft_sim_fired(&f.sim, one) && weft_sim_fired(&f.sim, two);
            train_on(&f, "cascade", k);
        }
    ck_assert_uint_gt(second, 100);
}
END_TEST

/* All but one are lost, one after the other. */
START_TEST(last_one_goes_on) {
    crew_desc d = variant(5, 4, _i);
    crew f;
    int ok = crew_open(&f, &d) && crew_run(&f, 1);
    weft_sim_lose(&f.sim, 0);
    ok = ok && crew_run(&f, 2);
    weft_sim_lose(&f.sim, 3);
    ok = ok && crew_run(&f, 3);
    weft_sim_lose(&f.sim, 1);
    ok = ok && crew_run(&f, 5);
    ck_assert_msg(ok, "%s", f.why);
    ck_assert_uint_eq(f.worker[2].a->group.members, 1);
    train_on(&f, "alone", 0);
}
END_TEST

/* New views although nothing has failed, at any moment, and gradients submitted while they are being agreed on. */
START_TEST(views_without_a_loss) {
    uint64_t k;
    for (k = 0; k < 12; k++) {
        crew_desc d = variant(k, 3, _i);
        crew f;
        int ok = crew_open(&f, &d);
        uint64_t i;
        f.target = 12;
        crew_wake(&f);
        for (i = 0; i < 6 && ok && !f.why[0]; i++) {
            weft_sim_advance(&f.sim, 2000 + (k * 577 + i * 1319) % 15000);
            crew_new_view(&f);
        }
        ok = ok && crew_run(&f, 12) && crew_agree(&f);
        ck_assert_msg(ok, "%llu: %s", (unsigned long long)k, f.why);
        ck_assert_uint_eq(errors_of(&f), 0);
        train_on(&f, "views", k);
    }
}
END_TEST

/* The host knows of a loss before a round is begun: what is then submitted is not taken, and wanted after the
 * regroup. */
START_TEST(submitted_after_a_loss) {
    static const size_t count[2] = {50, 60};
    uint32_t alone[1] = {0};
    weft_view v = {sizeof v, 1, 1, alone};
    team_desc d = team_default(1, 2);
    team t;
    d.tensors = 2;
    d.count = count;
    ck_assert_msg(team_open(&t, &d), "%s", t.why);
    team_fill(&t, 1);
    ck_assert_msg(team_aggregate(&t), "%s", t.why);
    team_fill(&t, 2);
    ck_assert_int_eq(subspace_peer_lost(t.worker[0].a, 1), WEFT_OK);
    ck_assert_int_eq(subspace_submit(t.worker[0].a, 1, 1), WEFT_ERR_PEER_LOST);
    ck_assert_int_eq(subspace_regroup(t.worker[0].a, &v), WEFT_WANT_GRADIENT);
    ck_assert_int_eq(subspace_wait(t.worker[0].a), WEFT_WANT_GRADIENT);
    ck_assert_int_eq(subspace_submit(t.worker[0].a, 1, 1), WEFT_WANT_GRADIENT);
    ck_assert_int_eq(subspace_submit(t.worker[0].a, 0, 1), WEFT_OK);
    ck_assert_int_eq(subspace_poll(t.worker[0].a), WEFT_OK);
    ck_assert_msg(team_close(&t), "%s", t.why);
}
END_TEST

/* Polls everybody who waits, and lets time pass, until `until` says that it is enough. */
static void poll_until(team *t, int (*until)(const team *t), uint64_t ns) {
    uint32_t k, r;
    for (k = 0; k < 20000 && !until(t); k++) {
        for (r = 0; r < t->size; r++)
            if (t->worker[r].status == WEFT_AGAIN) t->worker[r].status = subspace_poll(t->worker[r].a);
        if (!until(t)) weft_sim_advance(&t->sim, ns);
    }
    ck_assert_uint_lt(k, 20000);
}

static int two_have_rejected(const team *t) {
    return t->worker[0].status == WEFT_ERR_NONFINITE && t->worker[1].status == WEFT_ERR_NONFINITE;
}

static weft_view all_of(uint32_t count) {
    static const uint32_t all[4] = {0, 1, 2, 3};
    weft_view v = {sizeof v, 1, count, all};
    return v;
}

/* Two have rejected a round when a new view of the same three cuts it short for the third: it is no new worker for
 * that, and its average over steps is the same. */
START_TEST(the_average_survives_a_rejection) {
    static const size_t count[1] = {10};
    const weft_view v = all_of(3);
    team_desc d = team_default(1, 3);
    subspace_stats_t stats;
    subspace_worker_t w;
    uint32_t r;
    team t;
    d.tensors = 1;
    d.count = count;
    d.s.guard = SUBSPACE_GUARD_REJECT;
    d.s.momentum = 0.9;
    ck_assert_msg(team_open(&t, &d), "%s", t.why);
    team_fill(&t, 1);
    ck_assert_msg(team_aggregate(&t), "%s", t.why);
    ck_assert_int_eq(subspace_worker(t.worker[0].a, 1, 0, &w), WEFT_OK);
    team_fill(&t, 2);
    cluster_set(&t.worker[2].grads.tensor[0], 0, (double)NAN);
    weft_sim_set_link(&t.sim, 0, 2, 10000000, 0, 0);
    TEAM_EACH(&t, m, subspace_submit(m->a, 0, 1));
    ck_assert_int_eq(subspace_worker(t.worker[0].a, 1, 0, &w), WEFT_ERR_ARGUMENT); /* in a round: of neither */
    poll_until(&t, two_have_rejected, 1000);
    ck_assert_int_eq(t.worker[2].status, WEFT_AGAIN);
    ck_assert_int_eq(subspace_worker(t.worker[0].a, 1, 0, &w), WEFT_ERR_ARGUMENT); /* it came to nothing */
    weft_sim_set_link(&t.sim, 0, 2, 1000, 0, 0);
    TEAM_ALL(&t, m, subspace_regroup(m->a, &v));
    for (r = 0; r < 3; r++) {
        ck_assert_int_eq(t.worker[r].status, r == 2 ? WEFT_WANT_GRADIENT : WEFT_OK);
        ck_assert_uint_eq(subspace_slots(t.worker[r].a, 0, NULL, 0), 3);
        subspace_stats(t.worker[r].a, &stats);
        ck_assert_uint_eq(stats.restarts, 0);
    }
    team_fill(&t, 3);
    ck_assert_msg(team_aggregate(&t) && team_alike(&t), "%s", t.why);
    ck_assert_msg(team_close(&t), "%s", t.why);
}
END_TEST

static int both_have(const team *t) {
    return t->worker[0].a->state == SUBSPACE_HAVE && t->worker[1].a->state == SUBSPACE_HAVE;
}

static int the_first_has_committed(const team *t) {
    return t->worker[0].a->state != SUBSPACE_HAVE;
}

static int the_view_is_agreed(const team *t) {
    return t->worker[0].a->state != SUBSPACE_SYNC;
}

/* With shared memory the end of a view's agreement may be a copy: the next round's tensors are taken all the while. */
START_TEST(parts_while_a_view_settles) {
    static const size_t count[2] = {10, 10};
    const weft_view v = all_of(2);
    team_desc d = team_default(1, 2);
    team t;
    d.tensors = 2;
    d.count = count;
    d.sim.shared = 1;
    ck_assert_msg(team_open(&t, &d), "%s", t.why);
    team_fill(&t, 1);
    TEAM_EACH(&t, w, subspace_submit(w->a, 0, 2));
    poll_until(&t, both_have, 100);
    t.worker[1].status = WEFT_OK; /* is not polled for a while */
    poll_until(&t, the_first_has_committed, 100);
    TEAM_EACH(&t, w, subspace_regroup(w->a, &v));
    ck_assert_int_eq(t.worker[0].a->state, SUBSPACE_SYNC);
    ck_assert_uint_ne(subspace_state(t.worker[0].a) & SUBSPACE_MAY_SUBMIT, 0);
    t.worker[0].status = subspace_submit(t.worker[0].a, 0, 1);
    ck_assert_int_eq(t.worker[0].status, WEFT_AGAIN);
    poll_until(&t, the_view_is_agreed, 100);
    ck_assert_int_eq(t.worker[0].a->state, SUBSPACE_COPIED);
    ck_assert_uint_ne(subspace_state(t.worker[0].a) & SUBSPACE_MAY_SUBMIT, 0);
    t.worker[0].status = subspace_submit(t.worker[0].a, 1, 1);
    ck_assert_int_eq(t.worker[0].status, WEFT_AGAIN);
    t.worker[1].status = subspace_wait(t.worker[1].a);
    ck_assert_int_eq(t.worker[1].status, WEFT_OK); /* the round of before, committed */
    t.worker[1].status = subspace_submit(t.worker[1].a, 0, 1);
    t.worker[1].status = subspace_submit(t.worker[1].a, 1, 1);
    ck_assert_msg(team_settle(&t) && team_fine(&t, "the next round") && team_alike(&t), "%s", t.why);
    ck_assert_msg(team_close(&t), "%s", t.why);
}
END_TEST

static int the_first_exchanges_numbers(const team *t) {
    return t->worker[0].a->state == SUBSPACE_NUMBERS;
}

/* As long as it is open whether the round commits, nothing is said to be lost. */
START_TEST(what_is_open_is_not_lost) {
    static const size_t count[1] = {300};
    const weft_view v = all_of(2);
    team_desc d = team_default(1, 2);
    team t;
    d.tensors = 1;
    d.count = count;
    d.s.in_place = 1;
    ck_assert_msg(team_open(&t, &d), "%s", t.why);
    team_fill(&t, 1);
    TEAM_EACH(&t, w, subspace_submit(w->a, 0, 1));
    poll_until(&t, the_first_exchanges_numbers, 100);
    t.worker[0].status = subspace_regroup(t.worker[0].a, &v);
    ck_assert_int_eq(t.worker[0].a->state, SUBSPACE_SYNC);
    ck_assert_uint_eq(subspace_state(t.worker[0].a) & SUBSPACE_GRADIENTS_LOST, 0);
    t.worker[1].status = subspace_regroup(t.worker[1].a, &v);
    ck_assert_msg(team_settle(&t), "%s", t.why);
    ck_assert_int_eq(t.worker[0].status, WEFT_WANT_GRADIENT);
    ck_assert_uint_ne(subspace_state(t.worker[0].a) & SUBSPACE_GRADIENTS_LOST, 0);
    ck_assert_msg(team_close(&t), "%s", t.why);
}
END_TEST

static int the_first_has_a_piece_home(const team *t) {
    const subspace *a = t->worker[0].a;
    return a->state == SUBSPACE_SCATTER && a->begun == 1 && !a->in_flight && a->summed == 1;
}

/* What is submitted while it is open what becomes of a round is of that round: its gradients are lost all the same. */
START_TEST(what_comes_late_restores_nothing) {
    static const size_t count[2] = {300, 300};
    const weft_view v = all_of(2);
    team_desc d = team_default(1, 2);
    team t;
    d.tensors = 2;
    d.count = count;
    d.s.in_place = 1;
    ck_assert_msg(team_open(&t, &d), "%s", t.why);
    team_fill(&t, 1);
    TEAM_EACH(&t, w, subspace_submit(w->a, 0, 1));
    poll_until(&t, the_first_has_a_piece_home, 100);
    t.worker[0].status = subspace_regroup(t.worker[0].a, &v);
    ck_assert_int_eq(t.worker[0].a->state, SUBSPACE_SYNC);
    t.worker[0].status = subspace_submit(t.worker[0].a, 1, 1);
    ck_assert_int_eq(t.worker[0].a->state, SUBSPACE_SYNC);
    t.worker[1].status = subspace_regroup(t.worker[1].a, &v);
    ck_assert_msg(team_settle(&t), "%s", t.why);
    ck_assert_int_eq(t.worker[0].status, WEFT_WANT_GRADIENT);
    ck_assert_uint_ne(subspace_state(t.worker[0].a) & SUBSPACE_GRADIENTS_LOST, 0);
    team_fill(&t, 2);
    ck_assert_msg(team_aggregate(&t) && team_alike(&t), "%s", t.why);
    ck_assert_uint_eq(subspace_state(t.worker[0].a) & SUBSPACE_GRADIENTS_LOST, 0);
    ck_assert_msg(team_close(&t), "%s", t.why);
}
END_TEST

/* ---- good-byes ---- */

START_TEST(leaves) {
    static const int bits_of[7] = {0, BULK, PARTS, GROUPS | BATCH, MEAN, SHARED | BULK, IN_PLACE};
    int bits = bits_of[_i];
    uint32_t n, rank, other;
    uint64_t at;
    for (n = 1; n <= 4; n++)
        for (rank = 0; rank < n; rank++)
            for (at = 1; at <= 4; at++)
                for (other = 0; other < 3; other++) {
                    crew_desc d = variant(at + 7 * rank, n, bits);
                    crew f;
                    int ok;
                    d.leave_at[rank] = at;
                    if (other && n > 1)
                        d.leave_at[(rank + 1) % n] = at + (other - 1); /* and another one, then or later */
                    ok = crew_open(&f, &d) && crew_run(&f, 4) && crew_agree(&f);
                    ck_assert_msg(ok, "variant %d, %u workers, worker %u leaves after round %llu: %s", bits, n, rank,
                                  (unsigned long long)at, f.why);
                    ck_assert_uint_eq(errors_of(&f), 0);
                    ck_assert(f.worker[rank].left);
                    train_on(&f, "leave", at);
                }
}
END_TEST

/* Good-bye as the first word, by one or by all. */
START_TEST(leaves_at_once) {
    uint32_t n, mask, r;
    for (n = 1; n <= 3; n++)
        for (mask = 1; mask < 1u << n; mask++) {
            team_desc d = team_default(mask, n);
            size_t count[1] = {4};
            team t;
            d.tensors = 1;
            d.count = count;
            ck_assert_msg(team_open(&t, &d), "%s", t.why);
            team_fill(&t, 1);
            for (r = 0; r < n; r++) {
                team_worker *w = &t.worker[r];
                w->status = mask >> r & 1 ? subspace_leave(w->a) : subspace_submit(w->a, 0, 1);
            }
            ck_assert_msg(team_settle(&t) && team_fine(&t, "leave or round"), "%s", t.why);
            for (r = 0; r < n; r++) {
                team_worker *w = &t.worker[r];
                subspace_stats_t s;
                subspace_stats(w->a, &s);
                ck_assert_int_eq(subspace_state(w->a) == 0, mask >> r & 1);
                ck_assert_int_eq(s.rounds == 0, mask >> r & 1);
                w->status = mask >> r & 1 ? WEFT_OK : subspace_submit(w->a, 0, 1);
            }
            ck_assert_msg(team_settle(&t) && team_fine(&t, "round of those who stay"), "%s", t.why);
            ck_assert_msg(team_close(&t), "%s", t.why);
        }
}
END_TEST

/* Leaving and losing at once: the good-bye of one, and the loss of another at every message. */
START_TEST(leaves_and_losses) {
    uint64_t k, fired = 1, total = 0;
    for (k = 1; fired; k += 2) {
        crew_desc d = variant(k, 4, _i);
        crew f;
        int fault, ok;
        d.leave_at[k / 2 % 4] = 2;
        ok = crew_open(&f, &d);
        fault = weft_sim_lose_at_message(&f.sim, (uint32_t)(k / 2 + 1 + k % 3) % 4, k, 1);
        ok = ok && crew_run(&f, 3) && crew_agree(&f);
        ck_assert_msg(ok, "variant %d, message %llu: %s", _i, (unsigned long long)k, f.why);
        fired = weft_sim_fired(&f.sim, fault);
        total += fired;
        train_on(&f, "leave and loss", k);
    }
    ck_assert_uint_gt(total, 20);
}
END_TEST

/* ---- hostile bytes ---- */

typedef struct captured {
    uint32_t src, dst, tag;
    uint64_t nth; /* of its (src, dst, tag) */
    size_t bytes;
    unsigned char data[WEFT_CONTROL_BYTES];
} captured;

typedef struct capture {
    captured item[400];
    size_t count;
} capture;

static capture seen;

static void remember(void *user, const weft_sim_message *m) {
    captured *c;
    size_t i;
    (void)user;
    if (seen.count == sizeof seen.item / sizeof seen.item[0]) return;
    c = &seen.item[seen.count];
    c->src = m->src;
    c->dst = m->dst;
    c->tag = m->tag;
    c->bytes = m->bytes;
    c->nth = 1;
    memset(c->data, 0, sizeof c->data);
    memcpy(c->data, m->data, m->bytes < sizeof c->data ? m->bytes : sizeof c->data);
    for (i = 0; i < seen.count; i++)
        if (seen.item[i].src == m->src && seen.item[i].dst == m->dst && seen.item[i].tag == m->tag) c->nth++;
    seen.count++;
}

static crew_desc hostile_run(int bits, uint32_t n) {
    crew_desc d = variant(3, n, bits);
    d.sim.mode = WEFT_SIM_THRESHOLD;
    d.policy = CREW_STOP;
    d.s.timeout_ns = 60000;
    return d;
}

/* All messages of the run that the hostile ones are made from. */
static void capture_run(int bits, uint32_t n, uint64_t rounds) {
    crew_desc d = hostile_run(bits, n);
    crew f;
    memset(&seen, 0, sizeof seen);
    d.sim.on_message = remember;
    ck_assert_msg(crew_open(&f, &d) && crew_run(&f, rounds) && crew_close(&f), "%s", f.why);
    ck_assert_uint_gt(seen.count, 2 * n);
    ck_assert_uint_lt(seen.count, sizeof seen.item / sizeof seen.item[0]);
}

static int is_control(const captured *m) {
    return m->tag % WEFT_TAGS_PER_CHANNEL == 0;
}

/* Whatever happened: it is over within a bound, every worker is done or has an error. */
static void survive(crew *f, uint64_t rounds, const char *what, size_t message, uint64_t which) {
    int ok = crew_run(f, rounds);
    ck_assert_msg(ok, "%s, message %zu, %llu: %s", what, message, (unsigned long long)which, f->why);
}

/* A flip of any bit is noticed: the checksum covers all of a control message, and the oracle holds. */
START_TEST(every_control_byte_flipped) {
    static const int bits_of[2] = {0, PARTS | GROUPS};
    size_t i, at;
    int bits = bits_of[_i];
    capture_run(bits, 2, 1);
    for (i = 0; i < seen.count; i++) {
        const captured *m = &seen.item[i];
        if (!is_control(m)) continue;
        for (at = 0; at < m->bytes; at++) {
            crew_desc d = hostile_run(bits, 2);
            crew f;
            int fault, ok = crew_open(&f, &d);
            weft_status s;
            ck_assert_msg(ok, "%s", f.why);
            fault = weft_sim_corrupt(&f.sim, m->src, m->dst, m->tag, m->nth, at, 1u << (at + i) % 8);
            survive(&f, 1, "flip", i, at);
            ck_assert_uint_eq(weft_sim_fired(&f.sim, fault), 1);
            s = f.worker[m->dst].stopped_by;
            ck_assert_msg(s == WEFT_ERR_CHECKSUM || s == WEFT_ERR_PROTOCOL || s == WEFT_ERR_VERSION,
                          "flip of byte %zu of message %zu: worker %u says %s", at, i, m->dst, weft_strerror(s));
            ck_assert_uint_eq(f.worker[m->dst].last_detail.peer, m->src);
            ck_assert_ptr_nonnull(f.worker[m->dst].last_detail.field);
            ck_assert_msg(crew_close(&f), "%s", f.why);
        }
    }
}
END_TEST

/* The k-th lie about a header, with a checksum that fits; 0 if there are no more. */
static int lie(weft_header *h, unsigned char *payload, unsigned k) {
    static const uint64_t u64[] = {0,
                                   1,
                                   2,
                                   3,
                                   4,
                                   7,
                                   UINT64_C(1) << 31,
                                   UINT64_C(1) << 32,
                                   (UINT64_C(1) << 32) + 1,
                                   UINT64_C(1) << 40,
                                   UINT64_C(0x7FF0000000000000),
                                   UINT64_C(0xBFF0000000000000),
                                   INT64_MAX,
                                   UINT64_MAX - 1,
                                   UINT64_MAX};
    static const uint32_t u32[] = {
        0, 1, 2, 63, 64, 65, 128, 1u << 16, WEFT_STEP_HAVE, WEFT_STEP_HAVE + 1, 1u << 31, UINT32_MAX - 1, UINT32_MAX};
    enum { N64 = sizeof u64 / sizeof u64[0], N32 = sizeof u32 / sizeof u32[0] };
    unsigned field, i;
    for (field = 0; field < 3; field++) {
        uint64_t *p = field == 0 ? &h->round : field == 1 ? &h->bytes : &h->arg0;
        if (k < N64) return *p = u64[k], 1;
        k -= N64;
        if (k < 2) return *p += k ? UINT64_MAX : 1, 1;
        k -= 2;
    }
    for (field = 0; field < 4; field++) {
        uint32_t *p = field == 0 ? &h->epoch : field == 1 ? &h->step : field == 2 ? &h->piece : &h->sender;
        if (k < N32) return *p = u32[k], 1;
        k -= N32;
        if (k < 2) return *p += k ? UINT32_MAX : 1, 1;
        k -= 2;
    }
    if (k < 10) return h->kind = k < 8 ? k : k == 8 ? 255 : 65535, 1;
    k -= 10;
    if (k < 2) return h->big_endian = k ? 255 : 1, 1;
    k -= 2;
    if (k < 5) { /* another length */
        h->payload = (uint32_t)(k == 0 ? 0 : k == 1 ? 4 : k == 2 ? WEFT_INLINE_BYTES : k == 3 ? h->payload / 2 : 8);
        return 1;
    }
    k -= 5;
    if (h->payload && k < 12) { /* other contents */
        static const float bad[6] = {NAN, INFINITY, -INFINITY, -1.0f, 0.0f, 3.4e38f};
        const double worse = k == 6 ? (double)NAN : k == 7 ? (double)INFINITY : k == 8 ? -1.0 : k == 9 ? 1e308 : 0.0;
        for (i = 0; k < 6 && i + 4 <= h->payload; i += 4) memcpy(payload + i, &bad[k], 4);
        for (i = 0; k >= 6 && i + 8 <= h->payload; i += 8) memcpy(payload + i, &worse, 8);
        return 1;
    }
    if (h->payload) k -= 12;
    if (h->payload && k < h->payload) {
        payload[k] = (unsigned char)~payload[k];
        return 1;
    }
    return 0;
}

START_TEST(lies_with_a_checksum) {
    static const int bits_of[5] = {0, BULK, PARTS | GROUPS, MEAN, BULK | PARTS | BATCH};
    int bits = bits_of[_i];
    size_t i;
    unsigned k;
    uint64_t harmless = 0, errors = 0;
    capture_run(bits, 2, 1);
    for (i = 0; i < seen.count; i++) {
        const captured *m = &seen.item[i];
        if (!is_control(m)) continue;
        for (k = 0;; k++) {
            unsigned char bytes[WEFT_CONTROL_BYTES];
            weft_header h;
            weft_detail why;
            size_t length;
            crew_desc d = hostile_run(bits, 2);
            crew f;
            int fault, never;
            memcpy(bytes, m->data, sizeof bytes);
            ck_assert_int_eq(weft_header_read(bytes, m->bytes, m->src, &h, &why), WEFT_OK);
            if (!lie(&h, bytes + WEFT_HEADER_BYTES, k)) break;
            length = weft_header_write(bytes, &h);
            /* these cannot be right at any moment */
            never = h.sender != m->src || h.kind == 0 || h.kind > WEFT_KIND_LAST || h.big_endian > 1;
            d.no_oracle = 1;
            ck_assert_msg(crew_open(&f, &d), "%s", f.why);
            fault = weft_sim_replace(&f.sim, m->src, m->dst, m->tag, m->nth, bytes, length);
            survive(&f, 1, "lie", i, k);
            ck_assert_uint_eq(weft_sim_fired(&f.sim, fault), 1);
            if (never) ck_assert_int_eq(f.worker[m->dst].stopped_by, WEFT_ERR_PROTOCOL);
            errors += errors_of(&f) > 0;
            harmless += errors_of(&f) == 0;
            ck_assert_msg(crew_close(&f), "%s", f.why);
        }
    }
    ck_assert_uint_gt(errors, 200);
    ck_assert_uint_gt(harmless, 1); /* an unused field, an older epoch and the like */
}
END_TEST

/* Samples that cannot be: named, with who has said so. */
START_TEST(samples_are_checked) {
    static const double bad[5] = {0.0, -1.0, (double)INFINITY, (double)NAN, -0.0};
    size_t i, k, total = 0;
    capture_run(0, 2, 1);
    for (i = 0; i < seen.count; i++)
        for (k = 0; k < 5; k++) {
            const captured *m = &seen.item[i];
            unsigned char bytes[WEFT_CONTROL_BYTES];
            weft_header h;
            weft_detail why;
            crew_desc d = hostile_run(0, 2);
            crew f;
            memcpy(bytes, m->data, sizeof bytes);
            ck_assert_int_eq(weft_header_read(bytes, m->bytes, m->src, &h, &why), WEFT_OK);
            if (h.kind != WEFT_KIND_EXCHANGE || h.step != 0) continue;
            h.arg0 = weft_double_bits(bad[k]);
            weft_header_write(bytes, &h);
            ck_assert_msg(crew_open(&f, &d), "%s", f.why);
            weft_sim_replace(&f.sim, m->src, m->dst, m->tag, m->nth, bytes, m->bytes);
            survive(&f, 1, "samples", i, k);
            ck_assert_int_eq(f.worker[m->dst].stopped_by, WEFT_ERR_PROTOCOL);
            ck_assert_str_eq(f.worker[m->dst].last_detail.field, "samples");
            ck_assert_uint_eq(f.worker[m->dst].last_detail.peer, m->src);
            ck_assert_msg(crew_close(&f), "%s", f.why);
            total++;
        }
    ck_assert_uint_ge(total, 10);
}
END_TEST

/* A worker on a machine of the other byte order: everything it sends is turned, and says so. The bits are those of the
 * oracle. Step 2 is the numbers, in f64; the gradients are f32. */
static void turn_around(void *user, const weft_sim_message *m) {
    static size_t each = 4;
    crew *f = (crew *)user;
    unsigned char bytes[4096];
    if (m->src != 1) return;
    ck_assert_uint_le(m->bytes, sizeof bytes);
    memcpy(bytes, m->data, m->bytes);
    if (m->tag % WEFT_TAGS_PER_CHANNEL == 0) {
        weft_header h;
        weft_detail why;
        ck_assert_int_eq(weft_header_read(bytes, m->bytes, 1, &h, &why), WEFT_OK);
        h.big_endian = !weft_big_endian();
        each = h.step == 2 ? 8 : 4;
        if (h.kind == WEFT_KIND_EXCHANGE) weft_swap(bytes + WEFT_HEADER_BYTES, h.payload, each);
        weft_header_write(bytes, &h);
    } else {
        weft_swap(bytes, m->bytes, 4);
    }
    weft_sim_replace(&f->sim, m->src, m->dst, m->tag, 1, bytes, m->bytes);
}

START_TEST(other_byte_order) {
    static const int bits_of[4] = {0, BULK, MEAN | BULK, BATCH};
    crew_desc d = variant(1, 3, bits_of[_i]);
    crew f;
    d.sim.on_message = turn_around;
    d.sim.user = &f;
    ck_assert_msg(crew_open(&f, &d) && crew_run(&f, 3) && crew_agree(&f), "%s", f.why);
    ck_assert_uint_eq(errors_of(&f), 0);
    ck_assert_uint_eq(f.commits_checked, 9);
    ck_assert_msg(crew_close(&f), "%s", f.why);
}
END_TEST

/* A stranger's message, or a repeated one, between any two. */
START_TEST(messages_out_of_place) {
    static const int bits_of[2] = {0, PARTS};
    size_t i, j;
    int bits = bits_of[_i];
    capture_run(bits, 3, 1);
    for (i = 0; i < seen.count; i++)
        for (j = 0; j < seen.count; j += 3) {
            const captured *m = &seen.item[j];
            crew_desc d = hostile_run(bits, 3);
            crew f;
            int fault;
            d.no_oracle = 1;
            if (!is_control(m)) continue;
            ck_assert_msg(crew_open(&f, &d), "%s", f.why);
            fault = weft_sim_inject(&f.sim, i, m->src, m->dst, m->tag, m->data, m->bytes);
            survive(&f, 1, "out of place", i, j);
            if (i) ck_assert_uint_eq(weft_sim_fired(&f.sim, fault), 1);
            ck_assert_msg(crew_close(&f), "%s", f.why);
        }
}
END_TEST

/* Bulk messages of a wrong length: an error that names it, gradients untouched. */
START_TEST(bulk_of_wrong_length) {
    size_t i;
    uint64_t k, total = 0;
    static const size_t length[] = {0, 1, 63, 64, 100, 4000};
    capture_run(BULK, 3, 1);
    for (i = 0; i < seen.count; i++)
        for (k = 0; k < sizeof length / sizeof length[0]; k++) {
            const captured *m = &seen.item[i];
            crew_desc d = hostile_run(BULK, 3);
            crew f;
            int fault;
            if (is_control(m) || m->bytes == length[k]) continue;
            ck_assert_msg(crew_open(&f, &d), "%s", f.why);
            fault = weft_sim_resize(&f.sim, m->src, m->dst, m->tag, m->nth, length[k]);
            survive(&f, 1, "bulk length", i, k);
            ck_assert_uint_eq(weft_sim_fired(&f.sim, fault), 1);
            ck_assert_int_eq(f.worker[m->dst].stopped_by, WEFT_ERR_PROTOCOL);
            ck_assert_uint_eq(f.worker[m->dst].last_detail.peer, m->src);
            ck_assert_uint_eq(f.worker[m->dst].last_detail.expected, m->bytes);
            ck_assert_uint_eq(f.worker[m->dst].last_detail.got, length[k]);
            ck_assert_uint_eq(f.commits_checked, 0);
            ck_assert_msg(crew_close(&f), "%s", f.why);
            total++;
        }
    ck_assert_uint_gt(total, 20);
}
END_TEST

/* ---- numbers that are not finite, while workers are lost ---- */

/* In every third attempt one of them, another one each time, has no gradient to speak of. */
static void spoil_one(crew_worker *w) {
    float *x = (float *)w->grads.tensor[0].data;
    if (w->attempts % 3 == 2 && w->attempts / 3 % w->f->size == w->rank)
        x[w->attempts % 7] = w->rank % 2 ? NAN : INFINITY;
}

static void spoil_all(crew_worker *w) {
    if (w->attempts % 3 == 2) ((float *)w->grads.tensor[2].data)[1] = NAN;
}

/* All are finite, the aggregate is not; one shard only is to blame. */
static void spoil_sum(crew_worker *w) {
    if (w->attempts % 3 == 2) ((float *)w->grads.tensor[0].data)[w->attempts / 3 % 2 ? 6 : 0] = 1e30f;
}

START_TEST(not_finite_and_lost) {
    static const int bits_of[6] = {0, BULK | PARTS, GROUPS, MEAN, SHARED | BULK, SHARED | IN_PLACE};
    subspace_desc s;
    memset(&s, 0, sizeof s);
    if (bits_of[_i / 2] & MEAN) s.rule = SUBSPACE_MEAN;
    s.guard = _i % 2 ? SUBSPACE_GUARD_REJECT : SUBSPACE_GUARD_EXCLUDE;
    lost_at_every_message_of(bits_of[_i / 2], 3, spoil_one, &s, 20);
}
END_TEST

START_TEST(nobody_is_finite_and_lost) {
    subspace_desc s;
    memset(&s, 0, sizeof s);
    lost_at_every_message_of(_i ? BULK : 0, 3, spoil_all, &s, 20);
}
END_TEST

START_TEST(overflow_and_lost) {
    static const int bits_of[4] = {0, BULK, PARTS, BULK | PARTS | GROUPS};
    subspace_desc s;
    memset(&s, 0, sizeof s);
    s.rule = SUBSPACE_BASIC;
    s.scale = SUBSPACE_SCALE_OFF;
    lost_at_every_message_of(bits_of[_i], 3, spoil_sum, &s, 20);
    lost_at_every_message_of(bits_of[_i], 4, spoil_sum, &s, 20);
}
END_TEST

/* ---- time-outs, in virtual time ---- */

START_TEST(times_out_and_goes_on) {
    static const int bits_of[3] = {0, BULK, PARTS};
    crew_desc d = variant(2, 3, bits_of[_i]);
    crew f;
    int ok;
    uint64_t from;
    uint32_t r;
    d.s.timeout_ns = 100000;
    d.sim.jitter_ns = 0;
    ok = crew_open(&f, &d) && crew_run(&f, 1);
    ck_assert_msg(ok, "%s", f.why);
    for (r = 0; r < 3; r++) ck_assert_uint_eq(f.worker[r].timeouts, 0);
    /* worker 2 is deaf and dumb for one millisecond */
    from = f.sim.now;
    weft_sim_clog(&f.sim, 2, WEFT_SIM_ANY, from, from + 1000000);
    ok = crew_run(&f, 2) && crew_agree(&f);
    ck_assert_msg(ok, "%s", f.why);
    for (r = 0; r < 3; r++) {
        crew_worker *w = &f.worker[r];
        ck_assert_msg(w->timeouts >= 5 && w->timeouts <= 11, "worker %u has timed out %llu times", r,
                      (unsigned long long)w->timeouts);
        ck_assert_int_eq(w->last_detail.status, WEFT_ERR_TIMEOUT);
        ck_assert_uint_eq(w->last_detail.expected, 100000);
        ck_assert_uint_ge(w->last_detail.got, 100000);
        if (r != 2) ck_assert_uint_eq(w->last_detail.peer, 2);
        ck_assert_uint_eq(w->lost_errors, 0);
        ck_assert_uint_eq(w->regroups, 0);
    }
    train_on(&f, "time-out", 0);
}
END_TEST

START_TEST(slow_is_not_dead) {
    crew_desc d = variant(4, 2, _i);
    crew f;
    uint32_t r;
    d.s.timeout_ns = 50000;
    d.sim.latency_ns = 20000; /* nothing is fast here, but something always moves */
    d.step_ns[0] = 1000;
    d.step_ns[1] = 10000;
    ck_assert_msg(crew_open(&f, &d) && crew_run(&f, 3), "%s", f.why);
    for (r = 0; r < 2; r++) ck_assert_uint_eq(f.worker[r].timeouts, 0);
    train_on(&f, "slow", 0);
}
END_TEST

/* A worker that computes for long between two parts is waited for by the others, and that is no progress; it itself
 * waits for nobody. */
START_TEST(between_parts_nobody_times_out_who_is_waited_for) {
    static const size_t count[2] = {50, 60};
    team_desc d = team_default(1, 2);
    uint64_t t0;
    team t;
    d.tensors = 2;
    d.count = count;
    d.s.timeout_ns = 1000000;
    ck_assert_msg(team_open(&t, &d), "%s", t.why);
    team_fill(&t, 1);
    TEAM_ALL(&t, w, subspace_submit(w->a, 1, 1));
    ck_assert_int_eq(t.worker[0].status, WEFT_WANT_GRADIENT);
    t.worker[0].status = subspace_submit(t.worker[0].a, 0, 1);
    t0 = weft_sim_now(&t.sim);
    ck_assert_int_eq(subspace_wait(t.worker[0].a), WEFT_ERR_TIMEOUT);
    ck_assert_uint_ge(weft_sim_now(&t.sim) - t0, 1000000);
    ck_assert_uint_le(weft_sim_now(&t.sim) - t0, 2500000);
    ck_assert_uint_eq(subspace_detail(t.worker[0].a)->peer, 1);
    ck_assert_int_eq(subspace_poll(t.worker[1].a), WEFT_WANT_GRADIENT);
    ck_assert_int_eq(subspace_wait(t.worker[1].a), WEFT_WANT_GRADIENT);
    t.worker[0].status = WEFT_AGAIN; /* nothing is lost */
    t.worker[1].status = subspace_submit(t.worker[1].a, 0, 1);
    ck_assert_msg(team_settle(&t) && team_fine(&t, "round") && team_alike(&t), "%s", t.why);
    ck_assert_msg(team_close(&t), "%s", t.why);
}
END_TEST

/* The blocking verb: back with the time-out when nothing comes, and again when asked again. */
START_TEST(wait_is_bounded) {
    team_desc d = team_default(1, 2);
    size_t count[1] = {4};
    uint64_t t0;
    team t;
    d.tensors = 1;
    d.count = count;
    d.s.timeout_ns = 1000000;
    ck_assert_msg(team_open(&t, &d), "%s", t.why);
    team_fill(&t, 1);
    t0 = weft_sim_now(&t.sim);
    ck_assert_int_eq(subspace_aggregate(t.worker[0].a), WEFT_ERR_TIMEOUT);
    ck_assert_uint_ge(weft_sim_now(&t.sim) - t0, 1000000);
    ck_assert_uint_le(weft_sim_now(&t.sim) - t0, 2500000);
    ck_assert_uint_eq(subspace_detail(t.worker[0].a)->peer, 1);
    t0 = weft_sim_now(&t.sim);
    ck_assert_int_eq(subspace_aggregate(t.worker[0].a), WEFT_ERR_TIMEOUT); /* goes on with what was submitted */
    ck_assert_uint_ge(weft_sim_now(&t.sim) - t0, 1000000);
    /* and now the other one comes */
    t.worker[0].status = WEFT_AGAIN;
    t.worker[1].status = subspace_submit(t.worker[1].a, 0, 1);
    ck_assert_msg(team_settle(&t) && team_fine(&t, "round") && team_alike(&t), "%s", t.why);
    ck_assert_msg(team_close(&t), "%s", t.why);
}
END_TEST

/* ---- many seeds of everything at once, on nasty networks ---- */

START_TEST(storms) {
    uint64_t seed;
    for (seed = (uint64_t)_i * 40; seed < (uint64_t)_i * 40 + 40; seed++) {
        uint64_t rng = seed + 1;
        uint32_t n = 2 + cluster_below(&rng, 4), r;
        int bits = (int)cluster_below(&rng, VARIANTS), ok;
        crew_desc d = variant(seed, n, bits);
        crew f;
        d.sim = weft_sim_torture(seed, n);
        d.sim.shared = (bits & SHARED) != 0;
        d.sim.detect_ns = cluster_below(&rng, 3) * 5000;
        d.deaf = (int)cluster_below(&rng, 2);
        if (cluster_below(&rng, 3) == 0) d.spoil = spoil_one;
        if (cluster_below(&rng, 3) == 0 && (!(bits & IN_PLACE) || bits & SHARED)) d.s.guard = SUBSPACE_GUARD_REJECT;
        for (r = 0; r < n; r++) d.step_ns[r] = cluster_below(&rng, 20000);
        if (cluster_below(&rng, 3) == 0) d.leave_at[cluster_below(&rng, n)] = 1 + cluster_below(&rng, 5);
        ok = crew_open(&f, &d);
        for (r = 0; r + 1 < n; r++)
            if (cluster_below(&rng, 2)) weft_sim_lose_at_message(&f.sim, r, 1 + cluster_below(&rng, 120), (int)(r & 1));
        ok = ok && crew_run(&f, 4) && crew_agree(&f);
        for (r = 0; r < n; r++)
            if (ok && !weft_sim_alive(&f.sim, r) && !f.worker[r].left && cluster_below(&rng, 2))
                ok = crew_rejoin(&f, r);
        ok = ok && crew_run(&f, 7) && crew_agree(&f);
        ck_assert_msg(ok, "storm %llu (variant %d, %u workers): %s", (unsigned long long)seed, bits, n, f.why);
        train_on(&f, "storm", seed);
    }
}
END_TEST

/* A suite of its own, so that it can be run alone. */
static TCase *part(SRunner *runner, const char *name) {
    Suite *s = suite_create(name);
    TCase *t = tcase_create(name);
    tcase_set_timeout(t, 60);
    suite_add_tcase(s, t);
    srunner_add_suite(runner, s);
    return t;
}

int main(void) {
    SRunner *runner = srunner_create(NULL);
    TCase *t;
    int failed;
    t = part(runner, "calls");
    tcase_add_loop_test(t, no_faults, 0, VARIANTS);
    tcase_add_loop_test(t, every_call_fails, 0, 24);
    t = part(runner, "losses");
    tcase_add_test(t, submitted_after_a_loss); /* the quick ones first */
    tcase_add_test(t, the_average_survives_a_rejection);
    tcase_add_test(t, parts_while_a_view_settles);
    tcase_add_test(t, what_is_open_is_not_lost);
    tcase_add_test(t, what_comes_late_restores_nothing);
    tcase_add_loop_test(t, host_says_lost, 0, 4);
    tcase_add_loop_test(t, comes_back, 0, 6);
    tcase_add_loop_test(t, one_comes_and_one_goes, 0, 9);
    tcase_add_loop_test(t, comes_back_at_any_time, 0, 6);
    tcase_add_loop_test(t, cascaded, 0, 6);
    tcase_add_loop_test(t, last_one_goes_on, 0, VARIANTS);
    tcase_add_loop_test(t, views_without_a_loss, 0, VARIANTS);
    tcase_add_loop_test(t, lost_at_every_message, 0, 39);
    t = part(runner, "leaving");
    tcase_add_loop_test(t, leaves, 0, 7);
    tcase_add_test(t, leaves_at_once);
    tcase_add_loop_test(t, leaves_and_losses, 0, 4);
    t = part(runner, "hostile");
    tcase_add_loop_test(t, every_control_byte_flipped, 0, 2);
    tcase_add_loop_test(t, lies_with_a_checksum, 0, 5);
    tcase_add_test(t, samples_are_checked);
    tcase_add_loop_test(t, other_byte_order, 0, 4);
    tcase_add_loop_test(t, messages_out_of_place, 0, 2);
    tcase_add_test(t, bulk_of_wrong_length);
    t = part(runner, "numbers");
    tcase_add_loop_test(t, not_finite_and_lost, 0, 12);
    tcase_add_loop_test(t, nobody_is_finite_and_lost, 0, 2);
    tcase_add_loop_test(t, overflow_and_lost, 0, 4);
    t = part(runner, "time");
    tcase_add_loop_test(t, times_out_and_goes_on, 0, 3);
    tcase_add_loop_test(t, slow_is_not_dead, 0, 4);
    tcase_add_test(t, between_parts_nobody_times_out_who_is_waited_for);
    tcase_add_test(t, wait_is_bounded);
    tcase_add_loop_test(t, storms, 0, 10);
    srunner_run_all(runner, CK_NORMAL);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
