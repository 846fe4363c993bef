/* SPDX-License-Identifier: MIT
 * weft_members.h in the simulator: whatever is lost when, no two workers ever hold different views of one epoch, and
 * when the trouble is over all that live and hear each other are in one view, which names them and nobody else. */
#define GRAWA_IMPLEMENTATION
#include "../grawa.h"
#include "transports/weft_members.h"
#include "transports/weft_sim.h"

#include <check.h>
#include <stdlib.h>

enum { MOST = 6, EPOCHS = 4096 };

static const uint64_t MS = 1000000;
/* After the last fault: notice, grace, a letter or two each for every leader in turn, and a newcomer's way in. */
static const uint64_t CALM = UINT64_C(3000000000);

typedef struct worker {
    weft_transport net;
    weft_members m;
    int open, asleep; /* asleep: a stopped process: it is not called */
    int lies;         /* somebody does: views of an epoch may differ */
    uint64_t lives, news;
} worker;

static weft_sim sim;
static worker w[MOST];
static uint64_t silence, seed_now, busy; /* busy: a worker looks up only so often, at most */

/* Every view that anybody has ever held, by its epoch. */
static struct { uint64_t epoch, hash; } known[EPOCHS];
static size_t known_count;

static uint64_t hash_of(const weft_members *m) {
    uint64_t h = 1469598103934665603u;
    uint32_t r;
    for (r = 0; r < m->size; r++) h = (h ^ (m->peer[r].member ? 2 + 4 * m->peer[r].life_in_view : 1)) * 1099511628211u;
    return h;
}

static void note(const weft_members *m) {
    const uint64_t h = hash_of(m);
    size_t i;
    for (i = 0; i < known_count; i++) {
        if (known[i].epoch != m->epoch) continue;
        if (known[i].hash != h)
            ck_abort_msg("seed %llu: two views of epoch %u", (unsigned long long)seed_now, (unsigned)m->epoch);
        return;
    }
    ck_assert_uint_lt(known_count, EPOCHS);
    known[known_count].epoch = m->epoch;
    known[known_count++].hash = h;
}

static int step(void *user, uint32_t rank) {
    worker *x = &w[rank];
    const uint32_t before = x->m.epoch;
    (void)user;
    if (!x->open || x->asleep) return 0;
    x->news += (uint64_t)weft_members_poll(&x->m);
    if (weft_members_in(&x->m) && !x->lies) note(&x->m);
    if (x->m.epoch < before) ck_abort_msg("an epoch went back");
    if (busy)
        weft_sim_busy(&sim, rank, weft_sim_random(&sim) % busy);
    else
        weft_sim_sleep(&sim, rank, 10 * MS);
    return 0;
}

static void open_worker(uint32_t rank, uint64_t life) {
    weft_members_options o;
    uint32_t i;
    memset(&o, 0, sizeof o);
    o.tag = 7;
    o.life = life;
    o.silence_ns = silence;
    weft_sim_transport(&sim, rank, &w[rank].net);
    ck_assert_int_eq(weft_members_init(&w[rank].m, &w[rank].net, &o), WEFT_OK);
    w[rank].open = 1;
    w[rank].asleep = 0;
    for (i = 0; life && i < sim.desc.size; i++)
        if (i != rank && weft_sim_alive(&sim, i)) weft_members_up(&w[rank].m, i);
    weft_sim_worker(&sim, rank, step, NULL);
}

static void on_change(void *user, uint32_t rank, int alive) {
    uint32_t i;
    (void)user;
    if (!alive) w[rank].open = 0;
    for (i = 0; i < sim.desc.size; i++)
        if (i != rank && weft_sim_alive(&sim, i) && w[i].open)
            (alive ? weft_members_up : weft_members_lost)(&w[i].m, rank);
    if (alive) open_worker(rank, 1000 * (rank + 1u) + ++w[rank].lives);
}

static void on_link(void *user, uint32_t rank, uint32_t peer, int up) {
    (void)user;
    if (w[rank].open && weft_sim_alive(&sim, rank)) (up ? weft_members_up : weft_members_lost)(&w[rank].m, peer);
}

static void begin(uint64_t seed, uint32_t size) {
    weft_sim_desc d;
    uint32_t i;
    memset(&d, 0, sizeof d);
    memset(w, 0, sizeof w);
    known_count = 0;
    seed_now = seed;
    d.seed = seed;
    d.size = size;
    d.latency_ns = MS;
    d.jitter_ns = 5 * MS;
    d.detect_ns = 20 * MS;
    d.on_change = on_change;
    d.on_link = on_link;
    d.coy = 7;
    d.scribble = d.watch = 1;
    ck_assert_int_eq(weft_sim_init(&sim, &d), WEFT_OK);
    for (i = 0; i < size; i++) open_worker(i, 0);
}

static void end(void) {
    if (weft_sim_violation(&sim)) ck_abort_msg("%s", weft_sim_violation(&sim));
    weft_sim_free(&sim);
}

/* All that live and were not left out hold one view, of exactly themselves. Returns how many. (If all are gone that
 * were in, newcomers find nobody to let them in: 0.) */
static uint32_t check_one_view(void) {
    uint32_t i, k, first = MOST, n = 0;
    for (i = 0; i < sim.desc.size; i++) n += weft_sim_alive(&sim, i) && weft_members_in(&w[i].m);
    if (n == 0) return 0;
    n = 0;
    for (i = 0; i < sim.desc.size; i++) {
        if (!weft_sim_alive(&sim, i) || weft_members_out(&w[i].m)) continue;
        if (!weft_members_in(&w[i].m)) ck_abort_msg("seed %llu: worker %u is not in", (unsigned long long)seed_now, i);
        if (first == MOST) first = i;
        if (w[i].m.epoch != w[first].m.epoch)
            ck_abort_msg("seed %llu: worker %u is in epoch %u, worker %u in %u", (unsigned long long)seed_now, i,
                         (unsigned)w[i].m.epoch, first, (unsigned)w[first].m.epoch);
        n++;
    }
    for (k = 0; first < MOST && k < sim.desc.size; k++) {
        const int there = weft_sim_alive(&sim, k) && !weft_members_out(&w[k].m);
        if (w[first].m.peer[k].member != there)
            ck_abort_msg("seed %llu: worker %u in the view: %d, alive: %d", (unsigned long long)seed_now, k,
                         w[first].m.peer[k].member, there);
    }
    return n;
}

static void calm(void) {
    const uint64_t now = weft_sim_now(&sim), until = weft_sim_trouble_until(&sim);
    weft_sim_advance(&sim, (until > now ? until - now : 0) + (busy ? 10 : 1) * CALM);
}

START_TEST(nothing_happens) {
    uint32_t i;
    begin(1, 4);
    weft_sim_advance(&sim, 10 * CALM);
    ck_assert_uint_eq(check_one_view(), 4);
    for (i = 0; i < 4; i++) {
        ck_assert_uint_eq(w[i].m.epoch, 0);
        ck_assert_uint_eq(w[i].news, 0);
        ck_assert_int_eq(weft_members_half(&w[i].m), 0);
    }
    end();
}
END_TEST

/* N = 2..5; each worker lost before and after every message, alone and beside another that was lost (or is lost at the
 * same message, or comes back) meanwhile. */
START_TEST(every_loss) {
    uint64_t cases = 0, fired = 0, stay = 0;
    uint32_t n, victim, other, alive, there, k;
    for (n = 2; n <= 5; n++)
        for (victim = 0; victim < n; victim++)
            for (other = 0; other < n; other++) {
                uint64_t at;
                for (at = 1;; at++) {
                    int id, after;
                    uint64_t struck = 0;
                    for (after = 0; after < 2; after++) {
                        begin(at, n);
                        if (other != victim) weft_sim_lose_at(&sim, other, 100 * MS);
                        if (other != victim && at % 3 == 0) weft_sim_revive_at(&sim, other, 250 * MS);
                        id = weft_sim_lose_at_message(&sim, victim, at, after);
                        weft_sim_advance(&sim, 600 * MS);
                        struck += weft_sim_fired(&sim, id);
                        calm();
                        alive = check_one_view();
                        if (alive) stay++;
                        for (k = 0, there = 0; k < n; k++) there += (uint32_t)weft_sim_alive(&sim, k);
                        if (alive && alive != there) ck_abort_msg("%u live, %u are in", there, alive);
                        cases++;
                        fired += weft_sim_fired(&sim, id);
                        end();
                    }
                    if (at > 24 * n && (!struck || at % 40)) break; /* then nothing new comes but beats */
                }
            }
    ck_assert_uint_ge(cases, 10000);
    ck_assert_uint_ge(10 * fired, 9 * cases);
    ck_assert_uint_ge(10 * stay, 8 * cases);
    printf("members: %llu cases, %llu losses\n", (unsigned long long)cases, (unsigned long long)fired);
}
END_TEST

/* Losses and returns at random: nobody that lives is left out. */
START_TEST(any_schedule_of_losses) {
    uint64_t seed, back = 0;
    busy = _i ? 600 * MS : 0; /* longer than any grace */
    for (seed = 1; seed <= (_i ? 500 : 1500); seed++) {
        const uint32_t n = 2 + (uint32_t)(seed % 5);
        uint32_t k, i;
        begin(seed, n);
        for (k = 0; k < 6; k++) {
            const uint32_t rank = (uint32_t)(weft_sim_random(&sim) % n);
            const uint64_t at = weft_sim_random(&sim) % (1500 * MS);
            if (weft_sim_random(&sim) % 2 || k == 0) weft_sim_lose_at(&sim, rank, at);
            weft_sim_revive_at(&sim, rank, at + weft_sim_random(&sim) % (800 * MS)); /* nothing, if it lives */
        }
        calm();
        for (i = 0; i < n; i++) back += w[i].lives;
        for (i = 0; i < n; i++)
            if (weft_sim_alive(&sim, i) && weft_members_out(&w[i].m))
                ck_abort_msg("seed %llu: worker %u lives and was left out", (unsigned long long)seed, i);
        (void)check_one_view();
        end();
    }
    ck_assert_uint_ge(back, _i ? 300 : 1000);
    busy = 0;
}
END_TEST

/* A link that breaks for a moment: a new view of the same members, since what was under way is gone. */
START_TEST(a_link_breaks_for_a_moment) {
    uint32_t i;
    begin(1, 4);
    weft_sim_cut_at(&sim, 2, 3, 500 * MS);
    weft_sim_connect_at(&sim, 2, 3, 600 * MS);
    calm();
    ck_assert_uint_eq(weft_sim_happened(&sim, WEFT_SIM_FAULT_CUT), 1);
    ck_assert_uint_eq(check_one_view(), 4);
    for (i = 0; i < 4; i++) ck_assert_uint_eq(w[i].m.epoch, 7);
    end();
}
END_TEST

/* One that does not come again: the higher of the two is left out, and knows it. */
START_TEST(a_link_breaks_for_good) {
    uint32_t a, b;
    for (a = 0; a < 4; a++)
        for (b = a + 1; b < 4; b++) {
            begin(1, 4);
            weft_sim_cut_at(&sim, a, b, 500 * MS);
            calm();
            ck_assert_uint_eq(check_one_view(), 3);
            ck_assert_int_eq(weft_members_out(&w[b].m), 1);
            end();
        }
}
END_TEST

/* A stopped process is slow until its silence is over; then it is left out, and learns it when it goes on. */
START_TEST(a_worker_is_stopped) {
    uint32_t rank;
    silence = 2000 * MS;
    for (rank = 0; rank < 4; rank++) {
        begin(1, 4);
        weft_sim_advance(&sim, 500 * MS);
        w[rank].asleep = 1;
        weft_sim_advance(&sim, 1500 * MS);
        w[rank].asleep = 0;
        weft_sim_worker(&sim, rank, step, NULL);
        weft_sim_advance(&sim, CALM);
        ck_assert_uint_eq(check_one_view(), 4);
        ck_assert_uint_eq(w[0].m.epoch, 0); /* slow is not dead */
        w[rank].asleep = 1;
        weft_sim_advance(&sim, 2500 * MS);
        ck_assert_uint_eq(w[(rank + 1) % 4].m.view.count, 3);
        ck_assert_int_eq(weft_members_out(&w[rank].m), 0);
        w[rank].asleep = 0;
        weft_sim_worker(&sim, rank, step, NULL);
        weft_sim_advance(&sim, CALM);
        ck_assert_int_eq(weft_members_out(&w[rank].m), 1);
        ck_assert_uint_eq(check_one_view(), 3);
        end();
    }
    silence = 0;
}
END_TEST

/* Who has taken the last step goes when no later view counts on it, whoever leads then; its loss troubles nobody. */
START_TEST(one_after_another_goes) {
    uint64_t seed;
    for (seed = 1; seed <= 200; seed++) {
        const uint32_t n = 2 + (uint32_t)(seed % 4);
        uint32_t i, gone = 0, views = 0;
        begin(seed, n);
        weft_sim_advance(&sim, 300 * MS);
        if (seed % 3 == 0) weft_sim_lose_at(&sim, (uint32_t)(seed % n), 320 * MS); /* beside the first good-byes */
        while (gone < n) {
            const uint32_t rank = (uint32_t)(weft_sim_random(&sim) % n);
            gone = 0;
            if (w[rank].open && w[rank].m.wants != WEFT_MEMBERS_GOES) {
                weft_members_go(&w[rank].m);
                if (!weft_members_out(&w[rank].m) && weft_members_leader(&w[rank].m) != rank)
                    ck_assert_int_eq(weft_members_may_go(&w[rank].m), 0); /* nobody has heard of it */
            }
            weft_sim_advance(&sim, 60 * MS);
            for (i = 0; i < n; i++) {
                if (w[i].open && (weft_members_may_go(&w[i].m) || weft_members_out(&w[i].m))) {
                    const uint32_t leader = weft_members_leader(&w[i].m);
                    if (!weft_members_out(&w[i].m) && leader != i && w[leader].open)
                        ck_assert_uint_eq(w[leader].m.peer[i].wants & 255u, WEFT_MEMBERS_GOES); /* it has heard of it */
                    views += (uint32_t)w[i].news;
                    weft_members_close(&w[i].m);
                    w[i].open = 0;
                    weft_sim_lose(&sim, i);
                }
                gone += !w[i].open;
            }
            if (weft_sim_now(&sim) > 100 * CALM) ck_abort_msg("seed %llu: nobody goes", (unsigned long long)seed);
        }
        if (seed % 3) ck_assert_uint_eq(views, 0);
        end();
    }
}
END_TEST

/* All wait until all are done; who is lost before keeps nobody waiting, who is lost after makes no new view. */
START_TEST(all_are_done) {
    uint32_t i;
    begin(3, 4);
    for (i = 0; i < 3; i++) weft_members_done(&w[i].m);
    weft_sim_advance(&sim, CALM);
    for (i = 0; i < 4; i++) ck_assert_int_eq(weft_members_all_done(&w[i].m), 0);
    weft_sim_lose(&sim, 3);
    calm();
    ck_assert_uint_eq(check_one_view(), 3);
    for (i = 0; i < 3; i++) ck_assert_int_eq(weft_members_all_done(&w[i].m), 1);
    weft_sim_lose(&sim, 1);
    calm();
    ck_assert_int_eq(weft_members_all_done(&w[0].m), 1);
    ck_assert_uint_eq(w[0].m.epoch, 7); /* the loss of 3, not that of 1 */
    end();
}
END_TEST

/* A newcomer asks the lowest rank that needs nothing; it is named once, and asks the next one when that is lost. */
START_TEST(a_newcomer_asks) {
    begin(5, 4);
    weft_sim_lose_at(&sim, 0, 100 * MS);
    weft_sim_revive_at(&sim, 0, 900 * MS);
    calm();
    ck_assert_uint_eq(check_one_view(), 4);
    ck_assert_int_eq(weft_members_is_fresh(&w[1].m, 0), 1);
    ck_assert_uint_eq(weft_members_host(&w[0].m), 1);
    weft_members_ask(&w[0].m, 1);
    weft_sim_advance(&sim, 300 * MS);
    ck_assert_uint_eq(weft_members_asked(&w[2].m), WEFT_NO_RANK);
    ck_assert_uint_eq(weft_members_asked(&w[1].m), 0);
    ck_assert_uint_eq(weft_members_asked(&w[1].m), WEFT_NO_RANK);
    weft_sim_lose(&sim, 1);
    calm();
    ck_assert_uint_eq(weft_members_host(&w[0].m), 2);
    weft_members_ask(&w[0].m, 2);
    weft_sim_advance(&sim, 300 * MS);
    ck_assert_uint_eq(weft_members_asked(&w[2].m), 0);
    end();
}
END_TEST

/* Letters of which a byte is changed, or that are too short or too long, end a link or change a view; the rest of the
 * promise holds: no write outside, no view without its holder, all polls return. */
START_TEST(letters_of_a_liar) {
    const size_t bytes = WEFT_MEMBERS_HEAD + 5 + 8 * 4;
    uint64_t seed, struck = 0;
    for (seed = 1; seed <= 400; seed++) {
        uint32_t i, k;
        int id;
        begin(seed, 4);
        known_count = 0;
        for (k = 0; k < 4; k++) {
            const uint64_t nth = 1 + weft_sim_random(&sim) % 60;
            const size_t at = (size_t)(weft_sim_random(&sim) % bytes);
            if (seed % 4)
                id = weft_sim_corrupt(&sim, 3, WEFT_SIM_ANY, 7, nth, at, (unsigned)(weft_sim_random(&sim) % 255 + 1));
            else
                id = weft_sim_resize(&sim, 3, WEFT_SIM_ANY, 7, nth, at);
            ck_assert_int_ge(id, 0);
        }
        for (i = 0; i < 4; i++) w[i].lies = 1;
        weft_sim_advance(&sim, CALM);
        struck += weft_sim_happened(&sim, WEFT_SIM_FAULT_XOR) + weft_sim_happened(&sim, WEFT_SIM_FAULT_RESIZE);
        if (weft_sim_happened(&sim, WEFT_SIM_FAULT_RESIZE)) /* then somebody has broken with the liar */
            ck_assert(!w[0].m.peer[3].linked || !w[1].m.peer[3].linked || !w[2].m.peer[3].linked);
        for (i = 0; i < 4; i++) {
            if (!weft_members_in(&w[i].m)) continue;
            ck_assert_int_eq(weft_members_sees(&w[i].m, i), 1);
            ck_assert_uint_ge(weft_members_view(&w[i].m)->count, 1);
            ck_assert_uint_le(weft_members_view(&w[i].m)->count, 4);
        }
        end();
    }
    ck_assert_uint_ge(struck, 900); /* links that end spare the rest */
}
END_TEST

/* One is cut off from all others for long: two views; when its links heal, it is left out, and they are not. (The other
 * way round if it is worker 0, whose view is the later one.) */
START_TEST(one_is_cut_off) {
    uint32_t rank, i;
    for (rank = 0; rank < 4; rank++) {
        begin(1, 4);
        for (i = 0; i < 4; i++)
            if (i != rank) {
                weft_sim_cut_at(&sim, rank, i, 500 * MS);
                weft_sim_connect_at(&sim, rank, i, 1500 * MS);
            }
        weft_sim_advance(&sim, 1400 * MS);
        ck_assert_uint_eq(w[rank].m.view.count, 1);
        ck_assert_uint_eq(w[(rank + 1) % 4].m.view.count, 3);
        ck_assert_int_eq(weft_members_half(&w[rank].m), 1);
        ck_assert_int_eq(weft_members_half(&w[(rank + 1) % 4].m), 0);
        calm();
        for (i = 0; i < 4; i++) ck_assert_int_eq(weft_members_out(&w[i].m), rank == 0 ? i != 0 : i == rank);
        end();
    }
}
END_TEST

/* A clock that goes on while a worker polls. */
static uint64_t ticks;
static uint64_t ticking(void *ctx) {
    (void)ctx;
    return weft_sim_now(&sim) + ++ticks;
}

START_TEST(a_clock_that_ticks) {
    uint32_t i;
    ticks = 0;
    begin(1, 4);
    for (i = 0; i < 4; i++) w[i].net.now = ticking;
    sim.desc.on_link = NULL; /* a loss shows as a request that fails; that there is a link again is told */
    weft_sim_cut_at(&sim, 0, 3, 500 * MS);
    weft_sim_connect_at(&sim, 0, 3, 600 * MS);
    weft_sim_advance(&sim, 601 * MS);
    weft_members_up(&w[0].m, 3);
    weft_members_up(&w[3].m, 0);
    calm();
    ck_assert_uint_eq(check_one_view(), 4);
    end();
}
END_TEST

/* What was being sent to a newcomer when its link broke is sent again; and newcomers do not ask each other. */
START_TEST(a_newcomer_asks_again) {
    begin(5, 4);
    weft_sim_lose_at(&sim, 0, 100 * MS);
    weft_sim_lose_at(&sim, 1, 110 * MS);
    weft_sim_revive_at(&sim, 0, 900 * MS);
    weft_sim_revive_at(&sim, 1, 900 * MS);
    calm();
    ck_assert_uint_eq(check_one_view(), 4);
    weft_sim_lose(&sim, 3);
    calm();
    ck_assert_int_eq(weft_members_is_fresh(&w[0].m, 1), 0); /* (of that view) */
    ck_assert_uint_eq(weft_members_host(&w[0].m), 2);
    ck_assert_uint_eq(weft_members_host(&w[1].m), 2);
    weft_members_ask(&w[0].m, 2);
    weft_sim_advance(&sim, 300 * MS);
    ck_assert_uint_eq(weft_members_asked(&w[2].m), 0);
    weft_sim_cut_at(&sim, 0, 2, weft_sim_now(&sim) + 10 * MS);
    weft_sim_connect_at(&sim, 0, 2, weft_sim_now(&sim) + 60 * MS);
    calm();
    ck_assert_uint_eq(check_one_view(), 3);
    ck_assert_uint_eq(weft_members_asked(&w[2].m), 0);
    ck_assert_uint_eq(weft_members_asked(&w[2].m), WEFT_NO_RANK);
    end();
}
END_TEST

/* Everything at once, links and stops included. Somebody may be left out; one view there is, and nobody in two. */
START_TEST(any_schedule) {
    uint64_t seed, out = 0, cuts = 0;
    silence = 700 * MS;
    for (seed = 3700; seed < 5200; seed++) {
        const uint32_t n = 3 + (uint32_t)(seed % 4);
        uint32_t k, i, in;
        begin(seed, n);
        for (k = 0; k < 8; k++) {
            const uint32_t rank = (uint32_t)(weft_sim_random(&sim) % n), to = (uint32_t)(weft_sim_random(&sim) % n);
            const uint64_t at = weft_sim_random(&sim) % (1500 * MS), later = at + weft_sim_random(&sim) % (600 * MS);
            switch (weft_sim_random(&sim) % 3) {
            case 0: weft_sim_lose_at(&sim, rank, at); break;
            case 1: weft_sim_revive_at(&sim, rank, at); break;
            default:
                if (rank == to) break;
                weft_sim_cut_at(&sim, rank, to, at);
                weft_sim_connect_at(&sim, rank, to, later);
            }
        }
        for (k = 0; k < 3; k++) {
            const uint32_t rank = (uint32_t)(weft_sim_random(&sim) % n);
            weft_sim_advance(&sim, weft_sim_random(&sim) % (400 * MS));
            w[rank].asleep = 1;
            weft_sim_advance(&sim, weft_sim_random(&sim) % (1200 * MS));
            w[rank].asleep = 0;
            if (w[rank].open) weft_sim_worker(&sim, rank, step, NULL);
        }
        calm();
        for (i = 0; i < n; i++) out += weft_sim_alive(&sim, i) && weft_members_out(&w[i].m);
        cuts += weft_sim_happened(&sim, WEFT_SIM_FAULT_CUT);
        for (i = 0, in = 0; i < n; i++) in += weft_sim_alive(&sim, i) && weft_members_in(&w[i].m);
        if (in) (void)check_one_view();
        end();
    }
    silence = 0;
    ck_assert_uint_ge(out, 100);
    ck_assert_uint_ge(cuts, 1000);
}
END_TEST

int main(void) {
    Suite *s = suite_create("members");
    TCase *c = tcase_create("views");
    SRunner *r;
    int failed;
    tcase_add_test(c, nothing_happens);
    tcase_add_test(c, every_loss);
    tcase_add_loop_test(c, any_schedule_of_losses, 0, 2);
    tcase_add_test(c, a_link_breaks_for_a_moment);
    tcase_add_test(c, a_link_breaks_for_good);
    tcase_add_test(c, a_worker_is_stopped);
    tcase_add_test(c, one_after_another_goes);
    tcase_add_test(c, all_are_done);
    tcase_add_test(c, a_newcomer_asks);
    tcase_add_test(c, letters_of_a_liar);
    tcase_add_test(c, one_is_cut_off);
    tcase_add_test(c, a_clock_that_ticks);
    tcase_add_test(c, a_newcomer_asks_again);
    tcase_add_test(c, any_schedule);
    tcase_set_timeout(c, 120);
    suite_add_tcase(s, c);
    r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
