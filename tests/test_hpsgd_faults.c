/* SPDX-License-Identifier: MIT
 * HPSGD when things fail, and when nothing does but timing: thousands of random schedules, workers lost at every
 * message, every callback failing in turn, void rounds, workers that come back or leave, changes that are not finite.
 * The crew's oracle looks on after every verb. */
#define GRAWA_IMPLEMENTATION
#include "../grawa.h"
#define HPSGD_IMPLEMENTATION
#include "../hpsgd.h"
#include "hpsgd_crew.h"

#include <check.h>

/* Anything that is legal. `faults`: void rounds, workers that leave, and so on, too. */
static crew_desc random_desc(uint64_t seed, int faults) {
    uint64_t rng = seed * 77 + 5;
    uint32_t n = 1 + cluster_below(&rng, CREW_MOST), r, leavers = 0;
    crew_desc d = crew_default(seed, n);
    static const double carry[6] = {0, 0, 0, 0.5, 1, 0.25};
    if (cluster_below(&rng, 3) == 0) {
        d.sim = weft_sim_torture(seed, n);
        d.sim.watch = d.sim.scribble = 1;
    } else {
        d.sim.latency_ns = cluster_below(&rng, 6000);
        d.sim.jitter_ns = cluster_below(&rng, 2) * 900;
    }
    d.h.mode = cluster_below(&rng, 2) ? HPSGD_FREE : (hpsgd_mode)cluster_below(&rng, 3);
    d.h.min_steps = 1 + cluster_below(&rng, 3);
    d.h.max_steps = d.h.min_steps + cluster_below(&rng, 5);
    if (d.h.mode != HPSGD_FREE) d.h.max_steps = d.h.min_steps;
    d.h.carry = carry[cluster_below(&rng, 6)];
    if (cluster_below(&rng, 8) == 0) d.h.carry = 1.0 / n;
    d.h.keep_delta = cluster_below(&rng, 3) ? 0 : WEFT_ZERO;
    d.dtype = cluster_below(&rng, 2) ? WEFT_F32 : WEFT_F64;
    if (d.dtype == WEFT_F32 && cluster_below(&rng, 3) == 0) d.h.payload = HPSGD_PAYLOAD_BF16;
    d.h.on_void = cluster_below(&rng, 3) ? HPSGD_REQUEUE : HPSGD_DROP;
    d.h.startup = cluster_below(&rng, 6) ? HPSGD_ROLL_BACK : HPSGD_CONTINUE;
    d.h.check_replicas = cluster_below(&rng, 3) == 0;
    d.h.algorithm = (weft_algorithm)cluster_below(&rng, 5);
    d.pieces = (int)cluster_below(&rng, 2);
    d.deaf = (int)cluster_below(&rng, 2);
    for (r = 0; r < n; r++) {
        d.steps[r] = cluster_below(&rng, 25);
        d.step_ns[r] = cluster_below(&rng, 4000);
        d.view_ns[r] = cluster_below(&rng, 3) * 900;
        if (faults && leavers + 1 < n && cluster_below(&rng, 6) == 0) {
            d.leaves[r] = 1;
            leavers++;
        }
        if (faults && cluster_below(&rng, 8) == 0) d.spoil[r] = 1 + cluster_below(&rng, 20);
    }
    d.h.guard = cluster_below(&rng, 2) ? HPSGD_GUARD_VOID : HPSGD_GUARD_SKIP;
    if (faults) {
        uint64_t at = 0;
        uint32_t k = cluster_below(&rng, 4);
        for (r = 0; r < k; r++) d.again_ns[r] = at += 1 + cluster_below(&rng, 30000);
    }
    return d;
}

/* Without faults: every step is in the model, none is lost. */
START_TEST(schedules) {
    uint64_t seed, stalls = 0, checks = 0;
    for (seed = 1 + (uint64_t)_i * 500; seed <= ((uint64_t)_i + 1) * 500; seed++) {
        crew_desc d = random_desc(seed, 0);
        crew c;
        uint32_t r;
        int ok = crew_open(&c, &d) && crew_run(&c) && crew_check(&c);
        ck_assert_msg(ok, "%s", c.why);
        for (r = 0; r < c.size; r++) {
            hpsgd_stats_t s;
            hpsgd_stats(c.worker[r].h, &s);
            ck_assert_uint_eq(s.steps_lost, 0);
            ck_assert_uint_eq(s.steps_merged, d.steps[r]);
            ck_assert_uint_eq(s.drains, 1);
            ck_assert_uint_eq(s.rounds_void, 0);
            stalls += s.stalls;
        }
        checks += c.checks;
        ck_assert_msg(crew_close(&c), "%s", c.why);
    }
    ck_assert_uint_gt(stalls, 100);
    ck_assert_uint_gt(checks, 10000);
}
END_TEST

/* Void rounds, leavers, changes that are not finite; nobody is lost. */
START_TEST(schedules_with_faults) {
    uint64_t seed, voids = 0, nonfinite = 0, lost = 0;
    for (seed = 100001 + (uint64_t)_i * 500; seed <= 100000 + ((uint64_t)_i + 1) * 500; seed++) {
        crew_desc d = random_desc(seed, 1);
        crew c;
        uint32_t r;
        int ok = crew_open(&c, &d) && crew_run(&c) && crew_check(&c);
        ck_assert_msg(ok, "%s", c.why);
        for (r = 0; r < c.size; r++) {
            hpsgd_stats_t s;
            hpsgd_stats(c.worker[r].h, &s);
            voids += s.rounds_void;
            nonfinite += s.nonfinite;
            lost += s.steps_lost;
        }
        ck_assert_msg(crew_close(&c), "%s", c.why);
    }
    ck_assert_uint_gt(voids, 100);
    ck_assert_uint_gt(nonfinite, 100);
    ck_assert_uint_gt(lost, 100);
}
END_TEST

/* And workers that are lost, before or after any message. */
START_TEST(schedules_with_losses) {
    uint64_t seed, fired = 0;
    for (seed = 200001 + (uint64_t)_i * 500; seed <= 200000 + ((uint64_t)_i + 1) * 500; seed++) {
        crew_desc d = random_desc(seed, 1);
        uint64_t rng = seed;
        uint32_t k, losses;
        int fault[2];
        crew c;
        int ok;
        d.sim.detect_ns = cluster_below(&rng, 3) * 1500;
        ok = crew_open(&c, &d);
        losses = c.size > 1 ? 1 + cluster_below(&rng, 2) : 0;
        for (k = 0; k < losses; k++)
            fault[k] = weft_sim_lose_at_message(&c.sim, cluster_below(&rng, c.size), 1 + cluster_below(&rng, 300),
                                                (int)cluster_below(&rng, 2));
        ok = ok && crew_run(&c) && crew_check(&c);
        ck_assert_msg(ok, "%s", c.why);
        for (k = 0; k < losses; k++) fired += weft_sim_fired(&c.sim, fault[k]) != 0;
        ck_assert_msg(crew_close(&c), "%s", c.why);
    }
    ck_assert_uint_gt(fired, 150);
}
END_TEST

/* ---- one fault at a time ---- */

enum { CARRY = 1, FIXED = 2, IN_PLACE = 4, NARROW = 8, DROPS = 16, BLOCKS = 32, LEAVER = 64 };

static crew_desc variant(uint64_t seed, uint32_t n, int bits) {
    crew_desc d = crew_default(seed, n);
    uint32_t r;
    d.dtype = bits & FIXED ? WEFT_F64 : WEFT_F32;
    d.pieces = 1;
    if (bits & CARRY) d.h.carry = 0.5;
    if (bits & FIXED) d.h.mode = HPSGD_FIXED;
    if (bits & BLOCKS) d.h.mode = HPSGD_BLOCKING;
    if (bits & IN_PLACE) {
        d.h.keep_delta = WEFT_ZERO;
        d.h.algorithm = WEFT_ALGORITHM_DIRECT;
    }
    if (bits & NARROW) {
        d.h.payload = HPSGD_PAYLOAD_BF16;
        d.dtype = WEFT_F32;
    }
    if (bits & DROPS) d.h.on_void = HPSGD_DROP;
    d.h.max_steps = d.h.mode == HPSGD_BLOCKING ? 0 : 3;
    d.h.check_replicas = 1;
    for (r = 0; r < n; r++) {
        d.steps[r] = 5 + r;
        d.step_ns[r] = 1200 + 700 * r;
        d.view_ns[r] = (seed / 4 + r) % 3 * 1700;
    }
    if (bits & LEAVER) d.leaves[n - 1] = 1;
    d.sim.mode = (weft_sim_mode)(seed % 4);
    d.sim.eager_bytes = 100;
    d.deaf = (int)(seed & 1);
    return d;
}

static const int VARIANTS[8] = {0,      CARRY,  FIXED | CARRY,  IN_PLACE,
                                NARROW, BLOCKS | DROPS, CARRY | NARROW, LEAVER};

START_TEST(lost_at_every_message) {
    int bits = VARIANTS[_i % 8], after;
    uint32_t n = 2 + (uint32_t)_i / 8;
    uint64_t k, total = 0, fired = 1;
    for (k = 1; fired; k++)
        for (after = 0; after < 2; after++) {
            uint32_t rank = (uint32_t)(k + k / n) % n, r;
            uint64_t said = 0;
            crew_desc d = variant(k, n, bits);
            crew c;
            int fault, ok = crew_open(&c, &d);
            fault = weft_sim_lose_at_message(&c.sim, rank, k, after);
            ok = ok && crew_run(&c) && crew_check(&c);
            ck_assert_msg(ok, "%u workers, variant %d, worker %u lost %s message %llu: %s", n, bits, rank,
                          after ? "after" : "before", (unsigned long long)k, c.why);
            fired = weft_sim_fired(&c.sim, fault);
            for (r = 0; fired && r < n; r++) {
                hpsgd_stats_t s;
                if (r == rank || c.worker[r].left) continue;
                said += c.worker[r].lost_errors;
                if (c.worker[r].lost_errors) ck_assert_uint_eq(c.worker[r].last_detail.peer, rank);
                hpsgd_stats(c.worker[r].h, &s);
                if (!(bits & (IN_PLACE | DROPS))) ck_assert_uint_eq(s.steps_lost, 0); /* requeued */
            }
            /* nobody needs to notice a loss after the last message */
            ck_assert(said || c.epoch == 0 || !fired || (bits & LEAVER));
            total += said != 0;
            ck_assert_msg(crew_close(&c), "%s", c.why);
        }
    ck_assert_uint_gt(total, 20);
}
END_TEST

START_TEST(every_call_fails) {
    static const weft_status status_of[2] = {WEFT_ERR_TRANSPORT, WEFT_ERR_PEER_LOST};
    int bits = VARIANTS[_i % 7], call, s;
    uint32_t n = 2 + (uint32_t)_i / 7;
    uint64_t total = 0;
    for (call = WEFT_SIM_SEND; call <= WEFT_SIM_TEST; call++)
        for (s = 0; s < 2; s++) {
            uint64_t k, stride = call == WEFT_SIM_TEST ? 5 : 2, fired = 1;
            for (k = 1; fired; k += stride) {
                uint32_t rank = (uint32_t)(k / stride + (uint64_t)s) % n;
                crew_desc d = variant(k, n, bits);
                crew c;
                int fault, ok = crew_open(&c, &d);
                fault = weft_sim_fail_call(&c.sim, (weft_sim_call)call, rank, k, status_of[s]);
                ok = ok && crew_run(&c) && crew_check(&c);
                ck_assert_msg(ok, "%u workers, variant %d, call kind %d number %llu of worker %u says %d: %s", n, bits,
                              call, (unsigned long long)k, rank, status_of[s], c.why);
                fired = weft_sim_fired(&c.sim, fault);
                if (fired && c.worker[rank].errors) ck_assert_uint_lt(c.worker[rank].last_detail.peer, n);
                total += fired && c.worker[rank].errors;
                ck_assert_msg(crew_close(&c), "%s", c.why);
            }
        }
    ck_assert_uint_gt(total, 20);
}
END_TEST

/* A lost worker comes back, after the others have drained, and all go on. */
START_TEST(comes_back) {
    int v;
    uint32_t rank;
    uint64_t k;
    for (v = 0; v < 7; v++)
        for (rank = 0; rank < 3; rank++)
            for (k = 5; k < 60; k += 9) {
                crew_desc d = variant(k, 3, VARIANTS[v]);
                crew c;
                uint32_t r;
                int fault, ok = crew_open(&c, &d);
                fault = weft_sim_lose_at_message(&c.sim, rank, k, 0);
                ok = ok && crew_run(&c) && crew_check(&c);
                ck_assert_msg(ok, "%s", c.why);
                if (!weft_sim_fired(&c.sim, fault)) {
                    c.sim.fault[fault].nth = 0; /* not later, either */
                    weft_sim_lose(&c.sim, rank);
                }
                for (r = 0; r < 3; r++) c.desc.steps[r] += 6;
                c.desc.steps[rank] = 9;
                ok = crew_rejoin(&c, rank) && crew_run(&c) && crew_check(&c);
                ck_assert_msg(ok, "variant %d, worker %u comes back: %s", VARIANTS[v], rank, c.why);
                ck_assert_uint_eq(c.worker[rank].h->group.members, 3);
                ck_assert_msg(crew_close(&c), "%s", c.why);
            }
}
END_TEST

/* Whoever has a change that is not finite goes back to the global model; the others lose nothing. */
START_TEST(not_finite) {
    int v, skip;
    for (v = 0; v < 7; v++)
        for (skip = 0; skip < 2; skip++) {
            crew_desc d = variant(3, 3, VARIANTS[v]);
            hpsgd_stats_t s;
            crew c;
            uint32_t r;
            int ok;
            d.h.guard = skip ? HPSGD_GUARD_SKIP : HPSGD_GUARD_VOID;
            d.spoil[1] = 3;
            ok = crew_open(&c, &d) && crew_run(&c) && crew_check(&c);
            ck_assert_msg(ok, "variant %d, skip %d: %s", VARIANTS[v], skip, c.why);
            for (r = 0; r < 3; r++) {
                hpsgd_stats(c.worker[r].h, &s);
                if (r == 1) {
                    ck_assert_uint_eq(s.nonfinite, 1);
                    ck_assert_uint_ge(s.steps_lost, 1);
                    ck_assert_uint_le(s.steps_lost, 6);
                } else if (skip || !(VARIANTS[v] & (IN_PLACE | DROPS))) {
                    ck_assert_uint_eq(s.steps_lost, 0);
                }
                ck_assert_uint_eq(s.rounds_void, skip ? 0 : 1);
            }
            ck_assert_msg(crew_close(&c), "%s", c.why);
        }
}
END_TEST

/* Only somebody who waits is told that nothing moves; nothing is lost by it. */
START_TEST(time_outs) {
    crew_desc d = variant(2, 3, 0);
    crew c;
    int ok;
    d.h.timeout_ns = 4000;
    d.step_ns[2] = 60000;
    d.h.max_steps = 2;
    ok = crew_open(&c, &d) && crew_run(&c) && crew_check(&c);
    ck_assert_msg(ok, "%s", c.why);
    ck_assert_uint_gt(c.worker[0].errors, 3);
    ck_assert_uint_eq(c.worker[2].errors, 0);
    ck_assert_int_eq(c.worker[0].last_detail.status, WEFT_ERR_TIMEOUT);
    ck_assert_uint_eq(c.worker[0].last_detail.peer, 2);
    ck_assert_msg(crew_close(&c), "%s", c.why);
}
END_TEST

int main(void) {
    Suite *s = suite_create("schedules"), *f = suite_create("faults");
    TCase *c = tcase_create("schedules");
    SRunner *r;
    int failed;
    tcase_set_timeout(c, 60);
    tcase_add_loop_test(c, schedules, 0, 2);
    tcase_add_loop_test(c, schedules_with_faults, 0, 2);
    tcase_add_loop_test(c, schedules_with_losses, 0, 2);
    suite_add_tcase(s, c);
    c = tcase_create("faults");
    tcase_set_timeout(c, 60);
    tcase_add_loop_test(c, lost_at_every_message, 0, 24);
    tcase_add_loop_test(c, every_call_fails, 0, 14);
    tcase_add_test(c, comes_back);
    tcase_add_test(c, not_finite);
    tcase_add_test(c, time_outs);
    suite_add_tcase(f, c);
    r = srunner_create(s);
    srunner_add_suite(r, f);
    srunner_run_all(r, CK_NORMAL);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
