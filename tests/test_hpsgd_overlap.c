/* SPDX-License-Identifier: MIT
 * How much of a synchronisation is hidden behind training, from the trace of events alone, in virtual time.
 *
 * ROUND_BEGUN tells the launch and how many steps the payload holds; the steps taken while a round was under way are
 * those of the next payload. The last RECEIVED before COMMITTED is when the network was through. */
#define GRAWA_IMPLEMENTATION
#include "../grawa.h"
#define HPSGD_IMPLEMENTATION
#include "../hpsgd.h"
#include "hpsgd_crew.h"

#include <check.h>

enum { WORKERS = 4, H_MAX = 8, STEPS = 60, STEP_NS = 1000 };

typedef struct story {
    crew_worker *w;
    uint64_t launched, received, committed; /* when, of the round under way; 0: not yet */
    uint64_t flights;                       /* rounds whose whole flight was seen */
    uint64_t sync, flight, trained;         /* sums over them: until the network was through, until merged, steps */
    uint64_t waited;                        /* flights that were longer than the steps in them */
} story;

static story told[WORKERS];

static void listen(void *ctx, const weft_event *e) {
    story *s = (story *)ctx;
    const uint64_t now = weft_sim_now(&s->w->c->sim);
    if (e->kind == WEFT_EVENT_RECEIVED) {
        s->received = now;
    } else if (e->kind == WEFT_EVENT_COMMITTED) {
        s->committed = now;
    } else if (e->kind == WEFT_EVENT_ROUND_BEGUN) {
        /* a drain's rounds hold no training */
        if (s->launched && s->committed && !s->w->h->draining) {
            const uint64_t trained = e->value * STEP_NS, flight = s->committed - s->launched;
            s->flights++;
            s->sync += s->received - s->launched;
            s->flight += flight;
            s->trained += trained;
            s->waited += flight > trained;
        }
        s->launched = now;
        s->committed = s->received = 0;
    }
}

static int listened_to(crew_worker *w) {
    story *s = &told[w->rank];
    memset(s, 0, sizeof *s);
    s->w = w;
    w->desc.trace = listen;
    w->desc.trace_ctx = s;
    return 1;
}

/* An all-reduce of so few parameters is three messages behind one another: records, the payload, HAVE. */
static void run(hpsgd_mode mode, uint64_t latency_ns, hpsgd_stats_t *stats) {
    crew_desc d = crew_default(1, WORKERS);
    crew c;
    uint32_t r;
    int ok;
    d.sim.latency_ns = latency_ns;
    d.h.mode = mode;
    d.h.max_steps = mode == HPSGD_BLOCKING ? 0 : H_MAX;
    d.h.min_steps = mode == HPSGD_BLOCKING ? H_MAX : 0;
    d.prepare = listened_to;
    for (r = 0; r < WORKERS; r++) {
        d.steps[r] = STEPS;
        d.step_ns[r] = STEP_NS;
    }
    ok = crew_open(&c, &d) && crew_run(&c) && crew_check(&c);
    ck_assert_msg(ok, "%s", c.why);
    for (r = 0; r < WORKERS; r++) hpsgd_stats(c.worker[r].h, &stats[r]);
    ck_assert_msg(crew_close(&c), "%s", c.why);
}

/* in steps */
static double sync_of(const story *s) {
    return (double)s->sync / (double)s->flights / STEP_NS;
}

static double hidden_of(const story *s) {
    return (double)s->trained / (double)s->flight;
}

/* From a fast network to one that takes all of h_max: nothing is waited for. */
START_TEST(hidden) {
    static const uint64_t latency[4] = {100, 330, 1500, 2660};
    static const hpsgd_mode mode[2] = {HPSGD_FREE, HPSGD_FIXED};
    hpsgd_stats_t s[WORKERS];
    uint32_t m, l, r;
    for (m = 0; m < 2; m++)
        for (l = 0; l < 4; l++) {
            run(mode[m], latency[l], s);
            for (r = 0; r < WORKERS; r++) {
                const story *t = &told[r];
                ck_assert_uint_ge(t->flights, 5);
                ck_assert_double_eq_tol(sync_of(t), 3e-3 * (double)latency[l], 1e-9);
                ck_assert_double_ge(hidden_of(t), 0.95);
                ck_assert_uint_eq(t->waited, 0);
                ck_assert_uint_eq(s[r].stalls, 0);
                if (mode[m] == HPSGD_FIXED) ck_assert_uint_eq(t->trained, t->flights * H_MAX * STEP_NS);
                /* free: no step more than the network wants */
                if (mode[m] == HPSGD_FREE) ck_assert_uint_lt(t->flight, t->sync + t->flights * STEP_NS);
            }
        }
}
END_TEST

/* Half as long again as h_max: the third part is waited for, in every round, and counted. */
START_TEST(stalls) {
    static const hpsgd_mode mode[2] = {HPSGD_FREE, HPSGD_FIXED};
    hpsgd_stats_t s[WORKERS];
    uint32_t m, r;
    for (m = 0; m < 2; m++) {
        run(mode[m], 4000, s);
        for (r = 0; r < WORKERS; r++) {
            const story *t = &told[r];
            ck_assert_uint_ge(t->flights, 5);
            ck_assert_double_eq_tol(sync_of(t), 1.5 * H_MAX, 1e-9);
            ck_assert_double_eq_tol(hidden_of(t), 2.0 / 3.0, 1e-9);
            ck_assert_uint_eq(t->waited, t->flights);
            ck_assert_uint_eq(s[r].stalls, t->flights);
        }
    }
}
END_TEST

/* What the same trace tells of a worker that does wait: nothing is hidden. */
START_TEST(blocking_hides_nothing) {
    hpsgd_stats_t s[WORKERS];
    uint32_t r;
    run(HPSGD_BLOCKING, 1000, s);
    for (r = 0; r < WORKERS; r++) {
        const story *t = &told[r];
        ck_assert_uint_ge(t->flights, 5);
        ck_assert_double_eq_tol(sync_of(t), 3.0, 1e-9);
        ck_assert_uint_eq(t->flight, t->sync);
        ck_assert_uint_ge(s[r].stalls, t->flights);
    }
}
END_TEST

int main(void) {
    Suite *suite = suite_create("hpsgd_overlap");
    TCase *t = tcase_create("overlap");
    SRunner *runner;
    int failed;
    tcase_set_timeout(t, 120);
    tcase_add_test(t, hidden);
    tcase_add_test(t, stalls);
    tcase_add_test(t, blocking_hides_nothing);
    suite_add_tcase(suite, t);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? 1 : 0;
}
