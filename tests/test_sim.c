/* SPDX-License-Identifier: MIT
 * The simulated network: the same seed gives the same run, times are what they should be, every fault strikes and is
 * counted, and whoever waits for ever is named. */
#define GRAWA_IMPLEMENTATION
#include "../grawa.h"
#include "transports/weft_sim.h"

#include "checkers.h"

#include <unistd.h>

#define MOST 16
static weft_sim sim;
static weft_transport net[MOST];

static weft_sim_desc plain(uint32_t size) {
    weft_sim_desc d;
    memset(&d, 0, sizeof d);
    d.size = size;
    return d;
}

static void set_up(const weft_sim_desc *d) {
    uint32_t r;
    ck_assert_int_eq(weft_sim_init(&sim, d), WEFT_OK);
    for (r = 0; r < d->size && r < MOST; r++) weft_sim_transport(&sim, r, &net[r]);
}

static weft_status send_from(uint32_t src, uint32_t dst, uint32_t tag, const void *data, size_t n, weft_request *q) {
    memset(q, 0, sizeof *q);
    return net[src].send(net[src].ctx, dst, tag, data, n, q);
}

static weft_status recv_at(uint32_t dst, uint32_t src, uint32_t tag, void *data, size_t n, weft_request *q) {
    memset(q, 0, sizeof *q);
    return net[dst].recv(net[dst].ctx, src, tag, data, n, q);
}

static weft_status test_of(uint32_t rank, weft_request *q) {
    return net[rank].test(net[rank].ctx, q);
}

/* ---- traffic of every worker with every worker, checked for order and content ---- */

#define TAGS 3
#define WINDOW 3

typedef struct lane {
    uint32_t posted, over;
    weft_request q[WINDOW];
    unsigned char buffer[WINDOW][160];
} lane;

typedef struct talker {
    uint32_t size, each, left;
    uint64_t rng;
    lane lanes[2][MOST][TAGS];
} talker;

static size_t length_of(uint32_t src, uint32_t dst, uint32_t tag, uint32_t n) {
    return (src * 7 + dst * 13 + tag * 29 + n * 31) % 150;
}

static unsigned char byte_of(uint32_t src, uint32_t dst, uint32_t tag, uint32_t n, size_t k) {
    return (unsigned char)(src * 3 + dst * 5 + tag * 11 + n * 17 + k * 23);
}

static int talk(void *user, uint32_t rank) {
    talker *w = (talker *)user;
    uint32_t way, peer, tag;
    int again = 1;
    while (again) {
        again = 0;
        for (way = 0; way < 2; way++)
            for (peer = 0; peer < w->size; peer++)
                for (tag = 0; tag < TAGS; tag++) {
                    lane *l = &w->lanes[way][peer][tag];
                    uint32_t src = way ? peer : rank, dst = way ? rank : peer, slot;
                    size_t k, n;
                    if (l->posted < w->each && l->posted - l->over < WINDOW && weft_sim_draw(&w->rng) % 3) {
                        slot = l->posted % WINDOW;
                        n = length_of(src, dst, tag, l->posted);
                        if (!way)
                            for (k = 0; k < n; k++) l->buffer[slot][k] = byte_of(src, dst, tag, l->posted, k);
                        ck_assert_int_eq(way ? recv_at(rank, peer, tag * 2048, l->buffer[slot], 160, &l->q[slot])
                                             : send_from(rank, peer, tag * 2048, l->buffer[slot], n, &l->q[slot]),
                                         WEFT_OK);
                        l->posted++;
                        again = 1;
                    }
                    if (l->over < l->posted) {
                        weft_status s;
                        slot = l->over % WINDOW;
                        s = test_of(rank, &l->q[slot]);
                        if (s == WEFT_AGAIN) continue;
                        ck_assert_int_eq(s, WEFT_OK);
                        if (way) {
                            n = length_of(src, dst, tag, l->over);
                            ck_assert_uint_eq(l->q[slot].bytes, n);
                            k = 0;
                            while (k < n && l->buffer[slot][k] == byte_of(src, dst, tag, l->over, k)) k++;
                            ck_assert_uint_eq(k, n);
                        } else {
                            memset(l->buffer[slot], 0xEE, 160);
                        }
                        if (++l->over == w->each) w->left--;
                        again = 1;
                    }
                }
    }
    for (way = 0; way < 2; way++)
        for (peer = 0; peer < w->size; peer++)
            for (tag = 0; tag < TAGS; tag++) again |= w->lanes[way][peer][tag].over < w->lanes[way][peer][tag].posted;
    if (w->left && !again) weft_sim_sleep(&sim, rank, 1); /* nothing will wake it, and the draws wanted it so */
    return w->left == 0;
}

/* of all talks, added up */
static weft_sim_packets packets;
static uint64_t happened[WEFT_SIM_KINDS];

static uint64_t talk_all(const weft_sim_desc *desc, uint32_t each) {
    static talker w[MOST];
    uint64_t hash;
    weft_sim_end end;
    weft_sim_desc with_mail = *desc;
    const weft_sim_desc *d = &with_mail;
    weft_sim_packets p;
    weft_check check;
    weft_mail mail;
    uint32_t r, k;
    weft_check_begin(&check, &sim);
    ck_assert(weft_mail_begin(&mail, &check, d->size));
    with_mail.on_mail = weft_mail_take;
    with_mail.mail_user = &mail;
    set_up(d);
    memset(w, 0, sizeof w);
    for (r = 0; r < d->size; r++) {
        w[r].size = d->size;
        w[r].each = each;
        w[r].left = 2 * d->size * TAGS;
        w[r].rng = d->seed + r;
        weft_sim_worker(&sim, r, talk, &w[r]);
    }
    end = weft_sim_run(&sim, 1000000);
    ck_assert_msg(end == WEFT_SIM_DONE, "%s", weft_sim_text(&sim));
    ck_assert_msg(!weft_sim_violation(&sim), "seed %llu: %s", (unsigned long long)d->seed, weft_sim_violation(&sim));
    ck_assert_uint_eq(weft_sim_outstanding(&sim), 0);
    ck_assert_uint_eq(weft_sim_sent(&sim), (uint64_t)d->size * d->size * TAGS * each);
    ck_assert_uint_eq(weft_sim_arrived(&sim), weft_sim_sent(&sim));
    ck_assert_uint_eq(sim.flow_live, 0); /* nothing is kept of what is through */
    ck_assert_uint_eq(weft_sim_under_way(&sim, WEFT_SIM_ANY), 0);
    weft_check_mail(&check, &mail);
    CHECKERS_FINE(&check);
    hash = weft_sim_hash(&sim);
    p = weft_sim_packets_of(&sim, WEFT_SIM_ANY, WEFT_SIM_ANY);
    for (k = 0; k < sizeof p / sizeof p.sent; k++) (&packets.sent)[k] += (&p.sent)[k];
    for (k = 0; k < WEFT_SIM_KINDS; k++) happened[k] += weft_sim_happened(&sim, (weft_sim_kind)k);
    weft_sim_free(&sim);
    weft_mail_free(&mail);
    return hash;
}

START_TEST(same_seed_same_run) {
    uint64_t seed, before = 0;
    for (seed = 0; seed < 40; seed++) {
        weft_sim_desc d = weft_sim_torture(seed, 2 + (uint32_t)(seed % 4));
        uint64_t a = talk_all(&d, 6), b = talk_all(&d, 6);
        ck_assert_uint_eq(a, b);
        ck_assert_uint_ne(a, before);
        before = a;
    }
}
END_TEST

/* What a seed gives is the same on every platform and in every version. */
START_TEST(known_seeds) {
    static const struct {
        uint64_t seed, hash;
    } known[] = {{1, UINT64_C(6695301012693267934)},
                 {2, UINT64_C(5900213359314624184)},
                 {3, UINT64_C(9288912393133457572)}};
    size_t i;
    for (i = 0; i < sizeof known / sizeof known[0]; i++) {
        weft_sim_desc d = weft_sim_torture(known[i].seed, 4);
        ck_assert_uint_eq(talk_all(&d, 6), known[i].hash);
    }
}
END_TEST

/* The test's own draws do not touch the schedule; another seed does. */
START_TEST(own_draws_are_apart) {
    weft_sim_desc d = weft_sim_torture(11, 2);
    unsigned char byte = 5, in;
    int i;
    uint64_t hash[2], drawn;
    for (i = 0; i < 2; i++) {
        weft_request s, r;
        set_up(&d);
        drawn = weft_sim_random(&sim);
        if (i) ck_assert_uint_ne(weft_sim_random(&sim), drawn);
        ck_assert_int_eq(send_from(0, 1, 1, &byte, 1, &s), WEFT_OK);
        ck_assert_int_eq(recv_at(1, 0, 1, &in, 1, &r), WEFT_OK);
        weft_sim_advance(&sim, 10000000);
        hash[i] = weft_sim_hash(&sim);
        weft_sim_free(&sim);
    }
    ck_assert_uint_eq(hash[0], hash[1]);
}
END_TEST

/* ---- times ---- */

START_TEST(latency_and_bandwidth) {
    weft_sim_desc d = plain(3);
    static unsigned char out[4000], in[4000];
    weft_request s[3], r[3];
    d.latency_ns = 500;
    d.bytes_per_second = 1000000000; /* a byte a nanosecond */
    set_up(&d);
    ck_assert_int_eq(send_from(0, 1, 1, out, 1000, &s[0]), WEFT_OK);
    ck_assert_int_eq(send_from(0, 1, 2, out, 200, &s[1]), WEFT_OK); /* queues behind the first */
    ck_assert_int_eq(send_from(0, 2, 1, out, 10, &s[2]), WEFT_OK);  /* another link */
    ck_assert_int_eq(test_of(0, &s[0]), WEFT_OK);                   /* eager */
    ck_assert_int_eq(recv_at(1, 0, 1, in, 4000, &r[0]), WEFT_OK);
    ck_assert_int_eq(recv_at(1, 0, 2, in, 4000, &r[1]), WEFT_OK);
    ck_assert_int_eq(recv_at(2, 0, 1, in, 4000, &r[2]), WEFT_OK);
    weft_sim_advance(&sim, 509);
    ck_assert_int_eq(test_of(2, &r[2]), WEFT_AGAIN);
    weft_sim_advance(&sim, 1);
    ck_assert_int_eq(test_of(2, &r[2]), WEFT_OK);
    weft_sim_advance(&sim, 989);
    ck_assert_int_eq(test_of(1, &r[0]), WEFT_AGAIN);
    weft_sim_advance(&sim, 1);
    ck_assert_int_eq(test_of(1, &r[0]), WEFT_OK);
    ck_assert_int_eq(test_of(1, &r[1]), WEFT_AGAIN);
    weft_sim_advance(&sim, 200);
    ck_assert_int_eq(test_of(1, &r[1]), WEFT_OK);
    ck_assert_uint_eq(r[1].bytes, 200);
    ck_assert_uint_eq(weft_sim_now(&sim), 1700);
    ck_assert_uint_eq(net[0].now(net[0].ctx), 1700);
    weft_sim_set_link(&sim, 2, 0, 7, 0, 0);
    ck_assert_int_eq(send_from(2, 0, 1, out, 4000, &s[0]), WEFT_OK);
    ck_assert_int_eq(recv_at(0, 2, 1, in, 4000, &r[0]), WEFT_OK);
    weft_sim_advance(&sim, 6);
    ck_assert_int_eq(test_of(0, &r[0]), WEFT_AGAIN);
    weft_sim_advance(&sim, 1);
    ck_assert_int_eq(test_of(0, &r[0]), WEFT_OK);
    weft_sim_free(&sim);
}
END_TEST

START_TEST(when_a_send_is_over) {
    int mode;
    for (mode = WEFT_SIM_EAGER; mode <= WEFT_SIM_THRESHOLD; mode++) {
        weft_sim_desc d = plain(2);
        unsigned char out[20] = {1}, in[20];
        weft_request s, t, r;
        d.mode = (weft_sim_mode)mode;
        d.latency_ns = 10;
        d.eager_bytes = 4;
        set_up(&d);
        ck_assert_int_eq(send_from(0, 1, 1, out, 5, &s), WEFT_OK);
        ck_assert_int_eq(send_from(0, 1, 2, out, 4, &t), WEFT_OK);
        ck_assert_int_eq(test_of(0, &t), mode == WEFT_SIM_RENDEZVOUS ? WEFT_AGAIN : WEFT_OK);
        if (mode == WEFT_SIM_EAGER) {
            ck_assert_int_eq(test_of(0, &s), WEFT_OK);
            out[0] = 2; /* the copy is unharmed */
        }
        weft_sim_advance(&sim, 1000);
        if (mode != WEFT_SIM_EAGER) ck_assert_int_eq(test_of(0, &s), WEFT_AGAIN); /* no receive yet */
        ck_assert_int_eq(recv_at(1, 0, 1, in, 20, &r), WEFT_OK);
        ck_assert_int_eq(test_of(1, &r), WEFT_OK);
        ck_assert_uint_eq(in[0], 1);
        if (mode != WEFT_SIM_EAGER) {
            weft_sim_advance(&sim, 9);
            ck_assert_int_eq(test_of(0, &s), WEFT_AGAIN);
            weft_sim_advance(&sim, 1);
            ck_assert_int_eq(test_of(0, &s), WEFT_OK);
        }
        weft_sim_free(&sim);
    }
}
END_TEST

/* Step functions that note when they were called. */
typedef struct diary {
    uint64_t at[64];
    uint32_t n, done_after;
    uint64_t sleep, busy;
    weft_request r, s;
    unsigned char in[8];
    uint32_t posted;
} diary;

static int keep_diary(void *user, uint32_t rank) {
    diary *w = (diary *)user;
    ck_assert_uint_lt(w->n, 64);
    w->at[w->n++] = weft_sim_now(&sim);
    if (w->sleep) weft_sim_sleep(&sim, rank, w->sleep);
    if (w->busy) weft_sim_busy(&sim, rank, w->busy);
    return w->n == w->done_after;
}

START_TEST(sleeping_and_computing) {
    weft_sim_desc d = plain(2);
    static diary w[2];
    unsigned char byte = 1;
    weft_request q[3];
    int i;
    memset(w, 0, sizeof w);
    d.latency_ns = 15;
    set_up(&d);
    w[0].sleep = 10;
    w[0].done_after = 4;
    w[1].busy = 100;
    w[1].done_after = 3;
    weft_sim_worker(&sim, 0, keep_diary, &w[0]);
    weft_sim_worker(&sim, 1, keep_diary, &w[1]);
    for (i = 0; i < 2; i++) { /* something happens for both at 15 */
        ck_assert_int_eq(recv_at(0 + (uint32_t)i, 1 - (uint32_t)i, 1, w[i].in, 8, &w[i].r), WEFT_OK);
        ck_assert_int_eq(send_from((uint32_t)i, 1 - (uint32_t)i, 1, &byte, 1, &q[i]), WEFT_OK);
    }
    ck_assert_int_eq(weft_sim_run(&sim, 100), WEFT_SIM_DONE);
    ck_assert_uint_eq(w[0].at[0], 0);
    ck_assert_uint_eq(w[0].at[1], 10);
    ck_assert_uint_eq(w[0].at[2], 15); /* woken in between; this set the timer anew */
    ck_assert_uint_eq(w[0].at[3], 25);
    ck_assert_uint_eq(w[1].at[0], 0);
    ck_assert_uint_eq(w[1].at[1], 100); /* not woken while it computed */
    ck_assert_uint_eq(w[1].at[2], 200);
    weft_sim_free(&sim);
}
END_TEST

/* ---- the end of a run ---- */

static int waits_for_ever(void *user, uint32_t rank) {
    diary *w = (diary *)user;
    if (!w->posted) {
        w->posted = 1;
        if (rank == 2) return 1;
        ck_assert_int_eq(recv_at(rank, 1 - rank, 40 + rank, w->in, 8, &w->r), WEFT_OK);
        ck_assert_int_eq(send_from(rank, 2, 77, w->in, 6, &w->s), WEFT_OK);
    }
    return 0;
}

START_TEST(deadlock_is_described) {
    weft_sim_desc d = plain(3);
    static diary w[3];
    uint32_t r;
    memset(w, 0, sizeof w);
    d.mode = WEFT_SIM_RENDEZVOUS;
    d.seed = 4711;
    set_up(&d);
    for (r = 0; r < 3; r++) weft_sim_worker(&sim, r, waits_for_ever, &w[r]);
    ck_assert_int_eq(weft_sim_run(&sim, 100), WEFT_SIM_DEADLOCK);
    ck_assert_ptr_nonnull(strstr(weft_sim_text(&sim), "deadlock"));
    ck_assert_ptr_nonnull(strstr(weft_sim_text(&sim), "seed 4711"));
    ck_assert_ptr_nonnull(strstr(weft_sim_text(&sim), "worker 0 waits for: receive from 1 (tag 40, 8 bytes)"));
    ck_assert_ptr_nonnull(strstr(weft_sim_text(&sim), "worker 1 waits for: receive from 0 (tag 41, 8 bytes)"));
    ck_assert_ptr_nonnull(strstr(weft_sim_text(&sim), "send to 2 (tag 77, 6 bytes)"));
    ck_assert_ptr_null(strstr(weft_sim_text(&sim), "worker 2"));
    weft_sim_free(&sim);
}
END_TEST

START_TEST(steps_are_bounded) {
    weft_sim_desc d = plain(1);
    static diary w;
    memset(&w, 0, sizeof w);
    w.sleep = 1;
    set_up(&d);
    weft_sim_worker(&sim, 0, keep_diary, &w);
    ck_assert_int_eq(weft_sim_run(&sim, 20), WEFT_SIM_EXHAUSTED);
    ck_assert_uint_eq(w.n, 20);
    w.done_after = 30;
    ck_assert_int_eq(weft_sim_run(&sim, 20), WEFT_SIM_DONE); /* goes on where it was */
    ck_assert_uint_eq(w.n, 30);
    ck_assert_uint_eq(weft_sim_counts_of(&sim, 0)->steps, 30);
    w.done_after = 31;
    weft_sim_worker(&sim, 0, keep_diary, &w); /* registered again */
    ck_assert_int_eq(weft_sim_run(&sim, 20), WEFT_SIM_DONE);
    ck_assert_uint_eq(w.n, 31);
    weft_sim_free(&sim);
    ck_assert_int_eq(weft_sim_init(&sim, &(weft_sim_desc){0}), WEFT_ERR_ARGUMENT);
}
END_TEST

/* A worker may block inside its step: the others go on. */
static int blocks(void *user, uint32_t rank) {
    diary *w = (diary *)user;
    weft_status s;
    int i;
    for (i = 0; i < 3; i++) {
        ck_assert_int_eq(recv_at(rank, 1, 9, w->in, 8, &w->r), WEFT_OK);
        while ((s = test_of(rank, &w->r)) == WEFT_AGAIN) net[rank].wait(net[rank].ctx, UINT64_MAX);
        ck_assert_int_eq(s, WEFT_OK);
        w->at[w->n++] = weft_sim_now(&sim);
    }
    return 1;
}

static int sends_now_and_then(void *user, uint32_t rank) {
    diary *w = (diary *)user;
    ck_assert_int_eq(send_from(rank, 0, 9, w->in, 1, &w->s), WEFT_OK);
    ck_assert_int_eq(test_of(rank, &w->s), WEFT_OK);
    weft_sim_sleep(&sim, rank, 1000);
    return ++w->n == 3;
}

START_TEST(blocking_inside_a_step) {
    weft_sim_desc d = plain(2);
    static diary w[2];
    uint64_t until;
    memset(w, 0, sizeof w);
    d.latency_ns = 5;
    set_up(&d);
    weft_sim_worker(&sim, 0, blocks, &w[0]);
    weft_sim_worker(&sim, 1, sends_now_and_then, &w[1]);
    ck_assert_int_eq(weft_sim_run(&sim, 100), WEFT_SIM_DONE);
    ck_assert_uint_eq(w[0].at[0], 5);
    ck_assert_uint_eq(w[0].at[1], 1005);
    ck_assert_uint_eq(w[0].at[2], 2005);
    until = weft_sim_now(&sim) + 12345; /* nothing will happen: time passes up to the limit */
    net[0].wait(net[0].ctx, until);
    ck_assert_uint_ge(weft_sim_now(&sim), until);
    net[0].wait(net[0].ctx, UINT64_MAX); /* and does not stand still without one */
    ck_assert_uint_gt(weft_sim_now(&sim), until + 1000000);
    weft_sim_free(&sim);
}
END_TEST

/* ---- faults: each strikes once where it should ---- */

static const weft_sim_call calls[3] = {WEFT_SIM_SEND, WEFT_SIM_RECV, WEFT_SIM_TEST};

START_TEST(a_chosen_call_fails) {
    int what, whom;
    for (what = 0; what < 3; what++)
        for (whom = 0; whom < 2; whom++) {
            weft_sim_desc d = plain(2);
            unsigned char byte = 3;
            weft_request q;
            weft_status s;
            int fault, i, failed = 0;
            set_up(&d);
            fault = weft_sim_fail_call(&sim, calls[what], whom ? WEFT_SIM_ANY : 0, 3, WEFT_ERR_NONFINITE);
            ck_assert_int_eq(weft_sim_fail_call(&sim, calls[what], 1, 100, WEFT_ERR_TIMEOUT), fault + 1);
            for (i = 1; i <= 4; i++) {
                uint32_t rank = whom ? (uint32_t)i % 2 : 0;
                s = what == 0 ? send_from(rank, 1 - rank, 1, &byte, 1, &q) : recv_at(rank, 1 - rank, 2, &byte, 1, &q);
                if (what == 2 && s == WEFT_OK) s = test_of(rank, &q) == WEFT_AGAIN ? WEFT_OK : WEFT_ERR_NONFINITE;
                if (s != WEFT_OK) {
                    ck_assert_int_eq(s, WEFT_ERR_NONFINITE);
                    ck_assert_int_eq(i, 3);
                    failed++;
                    ck_assert_uint_eq(q.word[0], 0); /* the request is over */
                } else {
                    net[rank].cancel(net[rank].ctx, &q);
                }
            }
            ck_assert_int_eq(failed, 1);
            ck_assert_uint_eq(weft_sim_fired(&sim, fault), 1);
            ck_assert_uint_eq(weft_sim_fired(&sim, fault + 1), 0);
            ck_assert_uint_eq(weft_sim_fired(&sim, -1), 0);
            ck_assert_uint_eq(weft_sim_outstanding(&sim), 0);
            ck_assert_uint_eq(weft_sim_counts_of(&sim, 0)->call[calls[what]], whom ? 2 : 4);
            weft_sim_free(&sim);
        }
}
END_TEST

START_TEST(a_call_fails_several_times) {
    weft_sim_desc d = plain(2);
    unsigned char byte = 3;
    weft_request q;
    int fault, i, failed = 0;
    set_up(&d);
    fault = weft_sim_fail_call(&sim, WEFT_SIM_SEND, 0, 2, WEFT_ERR_TRANSPORT);
    weft_sim_times(&sim, fault, 3);
    for (i = 0; i < 10; i++) failed += send_from(0, 1, 1, &byte, 1, &q) == WEFT_ERR_TRANSPORT;
    ck_assert_int_eq(failed, 3);
    ck_assert_uint_eq(weft_sim_fired(&sim, fault), 3);
    weft_sim_free(&sim);
}
END_TEST

/* Five messages from 0 to 1, each of ten bytes i, i, ...; what arrived, and how. */
static unsigned char got[6][32];
static weft_request got_q[6];
static weft_status got_s[6];

static void five_messages(weft_sim_mode mode) {
    unsigned char out[5][10];
    weft_request q[5];
    uint32_t i;
    for (i = 0; i < 5; i++) {
        memset(out[i], (int)i + 1, 10);
        memset(got[i], 0, 32);
        ck_assert_int_eq(recv_at(1, 0, 8, got[i], 32, &got_q[i]), WEFT_OK);
        ck_assert_int_eq(send_from(0, 1, 8, out[i], 10, &q[i]), WEFT_OK);
    }
    weft_sim_advance(&sim, 1000000);
    for (i = 0; i < 5; i++) {
        got_s[i] = test_of(1, &got_q[i]);
        if (test_of(0, &q[i]) == WEFT_AGAIN) net[0].cancel(net[0].ctx, &q[i]);
        if (got_s[i] == WEFT_AGAIN) net[1].cancel(net[1].ctx, &got_q[i]);
        ck_assert_uint_eq(out[i][3], i + 1); /* tampering is with the message, not with the sender's buffer */
    }
    (void)mode;
}

START_TEST(messages_are_tampered_with) {
    static const unsigned char other[] = {9, 8, 7};
    static unsigned char large[100];
    int mode, kind;
    for (mode = WEFT_SIM_EAGER; mode <= WEFT_SIM_RENDEZVOUS; mode++)
        for (kind = 0; kind < 7; kind++) {
            weft_sim_desc d = plain(2);
            int fault = -1;
            size_t i, n = 10;
            d.mode = (weft_sim_mode)mode;
            d.latency_ns = 10;
            set_up(&d);
            memset(large, 0x77, sizeof large);
            switch (kind) {
            case 0: fault = weft_sim_corrupt(&sim, 0, 1, 8, 3, 4, 0x81); break;
            case 1: fault = weft_sim_replace(&sim, 0, WEFT_SIM_ANY, WEFT_SIM_ANY, 3, other, 3); n = 3; break;
            case 2: fault = weft_sim_resize(&sim, WEFT_SIM_ANY, 1, 8, 3, 6); n = 6; break;
            case 3: fault = weft_sim_resize(&sim, 0, 1, 8, 3, 30); n = 30; break;
            case 4: fault = weft_sim_replace(&sim, 0, 1, 8, 3, large, 100); n = 100; break;
            case 5: fault = weft_sim_resize(&sim, 0, 1, 8, 3, 90); n = 90; break;
            default: fault = weft_sim_corrupt(&sim, 0, 1, 8, 3, 10, 1); break; /* no such byte */
            }
            ck_assert_int_eq(weft_sim_drop(&sim, 1, 0, 8, 1), fault + 1); /* another direction: never */
            five_messages((weft_sim_mode)mode);
            for (i = 0; i < 5; i++) {
                ck_assert_int_eq(got_s[i], i == 2 && n > 32 ? WEFT_ERR_TRUNCATED : WEFT_OK);
                ck_assert_uint_eq(got_q[i].bytes, i == 2 ? n : 10);
                ck_assert_uint_eq(got[i][0], i == 2 && kind == 1 ? 9 : i == 2 && kind == 4 ? 0x77 : i + 1);
            }
            if (kind == 0) ck_assert_uint_eq(got[2][4], 3 ^ 0x81);
            if (kind == 1) ck_assert_uint_eq(got[2][2], 7);
            if (kind == 2) ck_assert_uint_eq(got[2][6], 0);
            if (kind == 3) ck_assert_uint_eq(got[2][9], 3);
            if (kind == 3) ck_assert_uint_eq(got[2][10], 0);
            ck_assert_uint_eq(weft_sim_fired(&sim, fault), kind != 6);
            ck_assert_uint_eq(weft_sim_fired(&sim, fault + 1), 0);
            ck_assert_uint_eq(weft_sim_outstanding(&sim), 0);
            weft_sim_free(&sim);
        }
}
END_TEST

START_TEST(a_message_is_dropped) {
    int mode;
    for (mode = WEFT_SIM_EAGER; mode <= WEFT_SIM_RENDEZVOUS; mode++) {
        weft_sim_desc d = plain(2);
        int fault;
        d.mode = (weft_sim_mode)mode;
        set_up(&d);
        fault = weft_sim_drop(&sim, 0, 1, 8, 2);
        five_messages((weft_sim_mode)mode);
        ck_assert_uint_eq(weft_sim_fired(&sim, fault), 1);
        ck_assert_uint_eq(got[0][0], 1);
        ck_assert_uint_eq(got[1][0], 3);
        ck_assert_uint_eq(got[3][0], 5);
        ck_assert_int_eq(got_s[3], WEFT_OK);
        ck_assert_int_eq(got_s[4], WEFT_AGAIN);
        ck_assert_uint_eq(weft_sim_outstanding(&sim), 0);
        weft_sim_free(&sim);
    }
}
END_TEST

START_TEST(messages_are_injected) {
    static const unsigned char foreign[] = {0xF0, 0xF1};
    weft_sim_desc d = plain(3);
    int by_count, by_time, to_nobody;
    weft_request q;
    unsigned char in[4] = {0, 0, 0, 0};
    d.latency_ns = 10;
    set_up(&d);
    by_count = weft_sim_inject(&sim, 2, 0, 1, 8, foreign, 2);
    by_time = weft_sim_inject_at(&sim, 500, 2, 1, 9, foreign, 2);
    to_nobody = weft_sim_inject(&sim, 1, 0, 55, 8, foreign, 2);
    five_messages(WEFT_SIM_EAGER);
    ck_assert_uint_eq(got[1][0], 2);
    ck_assert_uint_eq(got[2][0], 0xF0); /* right after the second */
    ck_assert_uint_eq(got_q[2].bytes, 2);
    ck_assert_uint_eq(got[3][0], 3);
    ck_assert_int_eq(recv_at(1, 2, 9, in, 4, &q), WEFT_OK);
    ck_assert_int_eq(test_of(1, &q), WEFT_OK);
    ck_assert_uint_eq(in[1], 0xF1);
    ck_assert_uint_eq(weft_sim_fired(&sim, by_count), 1);
    ck_assert_uint_eq(weft_sim_fired(&sim, by_time), 1);
    ck_assert_uint_eq(weft_sim_fired(&sim, to_nobody), 0);
    weft_sim_free(&sim);
}
END_TEST

/* When did a message of one byte from src to dst, sent now, arrive? WEFT_SIM_FOREVER: not within 100 us. */
static uint64_t travel(uint32_t src, uint32_t dst) {
    uint64_t sent = weft_sim_now(&sim);
    unsigned char byte = 1, in;
    weft_request s, r;
    ck_assert_int_eq(recv_at(dst, src, 5, &in, 1, &r), WEFT_OK);
    ck_assert_int_eq(send_from(src, dst, 5, &byte, 1, &s), WEFT_OK);
    while (test_of(dst, &r) == WEFT_AGAIN) {
        if (weft_sim_now(&sim) > sent + 100000) {
            net[dst].cancel(net[dst].ctx, &r);
            return WEFT_SIM_FOREVER;
        }
        weft_sim_advance(&sim, 1);
    }
    return weft_sim_now(&sim) - sent;
}

START_TEST(links_are_delayed_clogged_and_parted) {
    static const unsigned char group[4] = {1, 1, 0, 0};
    weft_sim_desc d = plain(4);
    int delay, clog, part, dead;
    d.latency_ns = 10;
    set_up(&d);
    delay = weft_sim_delay(&sim, 0, 1, 90, 0, 200);
    clog = weft_sim_clog(&sim, 2, WEFT_SIM_ANY, 1000, 2000);
    part = weft_sim_partition(&sim, group, 10000, 20000);
    dead = weft_sim_clog(&sim, 3, 0, 100000, WEFT_SIM_FOREVER);
    ck_assert_uint_eq(travel(0, 1), 100);
    ck_assert_uint_eq(travel(1, 0), 10);
    weft_sim_advance(&sim, 100);
    ck_assert_uint_eq(travel(0, 1), 10); /* over */
    ck_assert_uint_eq(weft_sim_fired(&sim, delay), 1);
    weft_sim_advance(&sim, 1500 - weft_sim_now(&sim));
    ck_assert_uint_eq(travel(1, 2), 10);
    weft_sim_advance(&sim, 1600 - weft_sim_now(&sim));
    ck_assert_uint_eq(travel(2, 3), 410); /* sets off at 2000 */
    ck_assert_uint_eq(travel(2, 3), 10);
    ck_assert_uint_eq(weft_sim_fired(&sim, clog), 1);
    weft_sim_advance(&sim, 15000 - weft_sim_now(&sim));
    ck_assert_uint_eq(travel(2, 1), 10); /* the other way */
    ck_assert_uint_eq(travel(0, 1), 10); /* inside of the group */
    ck_assert_uint_eq(travel(3, 2), 10);
    ck_assert_uint_eq(weft_sim_fired(&sim, part), 0);
    weft_sim_advance(&sim, 16000 - weft_sim_now(&sim));
    ck_assert_uint_eq(travel(1, 3), 4010); /* healed at 20000 */
    ck_assert_uint_eq(travel(1, 3), 10);
    ck_assert_uint_eq(weft_sim_fired(&sim, part), 1);
    weft_sim_advance(&sim, 100000 - weft_sim_now(&sim));
    ck_assert_uint_eq(travel(3, 0), WEFT_SIM_FOREVER);
    ck_assert_uint_eq(weft_sim_fired(&sim, dead), 1);
    weft_sim_free(&sim);
}
END_TEST

/* ---- loss ---- */

static uint32_t lost_count, back_count, changed_rank;
static void on_change(void *user, uint32_t rank, int alive) {
    ck_assert_ptr_eq(user, &changed_rank);
    changed_rank = rank;
    if (alive) back_count++;
    else lost_count++;
}

START_TEST(a_worker_is_lost_at_a_message) {
    int mode, after;
    for (mode = WEFT_SIM_EAGER; mode <= WEFT_SIM_RENDEZVOUS; mode++)
        for (after = 0; after < 2; after++) {
            weft_sim_desc d = plain(3);
            unsigned char out[3] = {1, 2, 3}, in[3] = {0, 0, 0}, other;
            weft_request s[3], r[3], from_lost, to_lost, bystander[2];
            int fault, i;
            lost_count = 0;
            d.mode = (weft_sim_mode)mode;
            d.latency_ns = 10;
            d.on_change = on_change;
            d.user = &changed_rank;
            set_up(&d);
            fault = weft_sim_lose_at_message(&sim, 0, 2, after);
            for (i = 0; i < 3; i++) {
                ck_assert_int_eq(recv_at(1, 0, 1, &in[i], 1, &r[i]), WEFT_OK);
                ck_assert_int_eq(send_from(0, 1, 1, &out[i], 1, &s[i]), WEFT_OK);
            }
            ck_assert_int_eq(recv_at(2, 0, 1, &other, 1, &from_lost), WEFT_OK);
            ck_assert_int_eq(send_from(2, 0, 1, out, 1, &to_lost), WEFT_OK);
            ck_assert_int_eq(recv_at(2, 1, 1, &other, 1, &bystander[0]), WEFT_OK);
            ck_assert_int_eq(send_from(1, 2, 1, &out[2], 1, &bystander[1]), WEFT_OK);
            weft_sim_advance(&sim, 1000);
            ck_assert_uint_eq(weft_sim_fired(&sim, fault), 1);
            ck_assert_int_eq(test_of(1, &r[0]), WEFT_OK);
            ck_assert_int_eq(test_of(1, &r[1]), after ? WEFT_OK : WEFT_ERR_PEER_LOST);
            ck_assert_int_eq(test_of(1, &r[2]), WEFT_ERR_PEER_LOST);
            ck_assert_uint_eq(in[2], 0);
            ck_assert_int_eq(test_of(2, &from_lost), WEFT_ERR_PEER_LOST);
            ck_assert_int_eq(test_of(2, &to_lost), mode == WEFT_SIM_EAGER ? WEFT_OK : WEFT_ERR_PEER_LOST);
            ck_assert_int_eq(test_of(2, &bystander[0]), WEFT_OK);
            ck_assert_int_eq(test_of(1, &bystander[1]), WEFT_OK);
            ck_assert_int_eq(send_from(1, 0, 1, out, 1, &s[0]), WEFT_ERR_PEER_LOST);
            ck_assert_int_eq(recv_at(1, 0, 1, in, 1, &r[0]), WEFT_ERR_PEER_LOST);
            ck_assert_int_eq(recv_at(0, 1, 1, in, 1, &r[0]), WEFT_ERR_TRANSPORT); /* the lost one itself */
            ck_assert(!weft_sim_alive(&sim, 0) && weft_sim_alive(&sim, 1));
            ck_assert_uint_eq(lost_count, 1);
            ck_assert_uint_eq(changed_rank, 0);
            ck_assert_uint_eq(weft_sim_outstanding(&sim), 0);
            ck_assert_ptr_null(weft_sim_violation(&sim));
            weft_sim_free(&sim);
        }
}
END_TEST

START_TEST(lost_noticed_and_revived) {
    weft_sim_desc d = plain(2);
    unsigned char out = 1, in = 0;
    weft_request s, old, r, p;
    int lose, back;
    lost_count = back_count = 0;
    d.latency_ns = 10;
    d.detect_ns = 500;
    d.on_change = on_change;
    d.user = &changed_rank;
    set_up(&d);
    lose = weft_sim_lose_at(&sim, 1, 100);
    back = weft_sim_revive_at(&sim, 1, 2000);
    ck_assert_int_eq(recv_at(0, 1, 1, &in, 1, &r), WEFT_OK);
    ck_assert_int_eq(recv_at(1, 0, 7, &in, 1, &old), WEFT_OK);
    weft_sim_advance(&sim, 200);
    ck_assert_uint_eq(weft_sim_fired(&sim, lose), 1);
    ck_assert_int_eq(test_of(0, &r), WEFT_AGAIN); /* nobody knows yet */
    ck_assert_int_eq(send_from(0, 1, 7, &out, 1, &s), WEFT_OK);
    ck_assert_int_eq(test_of(0, &s), WEFT_OK);
    weft_sim_advance(&sim, 399);
    ck_assert_int_eq(test_of(0, &r), WEFT_AGAIN);
    weft_sim_advance(&sim, 1);
    ck_assert_int_eq(test_of(0, &r), WEFT_ERR_PEER_LOST);
    ck_assert_uint_eq(lost_count, 1);
    ck_assert_int_eq(test_of(1, &old), WEFT_ERR_TRANSPORT);
    weft_sim_advance(&sim, 1400);
    ck_assert_uint_eq(weft_sim_fired(&sim, back), 1);
    ck_assert_uint_eq(back_count, 1);
    ck_assert(weft_sim_alive(&sim, 1));
    ck_assert_int_eq(test_of(1, &old), WEFT_ERR_TRANSPORT); /* of the old life, and no breach */
    ck_assert_int_eq(recv_at(1, 0, 7, &in, 1, &p), WEFT_OK);
    weft_sim_advance(&sim, 100);
    ck_assert_int_eq(test_of(1, &p), WEFT_AGAIN); /* what was sent to the dead is gone */
    ck_assert_int_eq(send_from(0, 1, 7, &out, 1, &s), WEFT_OK);
    weft_sim_advance(&sim, 10);
    ck_assert_int_eq(test_of(1, &p), WEFT_OK);
    ck_assert_ptr_null(weft_sim_violation(&sim));
    /* revived before anybody noticed: they notice first */
    ck_assert_int_eq(recv_at(0, 1, 1, &in, 1, &r), WEFT_OK);
    weft_sim_lose(&sim, 1);
    weft_sim_revive(&sim, 1);
    weft_sim_revive(&sim, 1);
    ck_assert_int_eq(test_of(0, &r), WEFT_ERR_PEER_LOST);
    weft_sim_advance(&sim, 1000);
    ck_assert_uint_eq(lost_count, 2);
    ck_assert_uint_eq(back_count, 2);
    /* what was under way at the time reaches nobody, in neither direction */
    ck_assert_int_eq(send_from(0, 1, 7, &out, 1, &s), WEFT_OK);
    ck_assert_int_eq(send_from(1, 0, 7, &out, 1, &s), WEFT_OK);
    weft_sim_advance(&sim, 5);
    weft_sim_lose(&sim, 1);
    weft_sim_revive(&sim, 1);
    ck_assert_int_eq(recv_at(0, 1, 7, &in, 1, &r), WEFT_OK);
    ck_assert_int_eq(recv_at(1, 0, 7, &in, 1, &p), WEFT_OK);
    weft_sim_advance(&sim, 1000);
    ck_assert_int_eq(test_of(0, &r), WEFT_AGAIN);
    ck_assert_int_eq(test_of(1, &p), WEFT_AGAIN);
    weft_sim_free(&sim);
}
END_TEST

/* The lost do not keep a run from its end, and who waits for them is woken. */
static int waits_for_the_lost(void *user, uint32_t rank) {
    diary *w = (diary *)user;
    w->n++;
    if (!w->posted) {
        w->posted = 1;
        ck_assert_int_eq(recv_at(rank, 1 - rank, 1, w->in, 8, &w->r), WEFT_OK);
    }
    return test_of(rank, &w->r) == WEFT_ERR_PEER_LOST;
}

START_TEST(loss_ends_a_wait) {
    weft_sim_desc d = plain(2);
    static diary w[2];
    uint32_t r;
    memset(w, 0, sizeof w);
    set_up(&d);
    weft_sim_lose_at(&sim, 1, 50);
    for (r = 0; r < 2; r++) weft_sim_worker(&sim, r, waits_for_the_lost, &w[r]);
    ck_assert_int_eq(weft_sim_run(&sim, 100), WEFT_SIM_DONE);
    ck_assert_uint_eq(weft_sim_now(&sim), 50);
    ck_assert_uint_eq(w[1].n, 1);
    weft_sim_free(&sim);
}
END_TEST

/* Killing anybody at any message under every kind of traffic leaves a consistent sim (run under a sanitizer). */
START_TEST(loss_at_every_message) {
    static talker w[MOST];
    uint64_t nth;
    for (nth = 1; nth < 150; nth++) {
        weft_sim_desc d = _i ? weft_sim_bad_network(nth, 3) : weft_sim_torture(nth, 3);
        uint32_t r;
        int posted = 0;
        weft_check check;
        weft_mail mail;
        weft_check_begin(&check, &sim);
        ck_assert(weft_mail_begin(&mail, &check, 3));
        d.on_mail = weft_mail_take;
        d.mail_user = &mail;
        d.detect_ns = nth % 3 * 700;
        set_up(&d);
        memset(w, 0, sizeof w);
        for (r = 0; r < 3; r++) {
            weft_request q;
            unsigned char in[160];
            int i;
            weft_sim_lose_at_message(&sim, (uint32_t)(nth % 3), nth / 2 + 1, (int)(nth % 2));
            for (i = 0; i < 8; i++) {
                unsigned char *out = w[r].lanes[0][0][0].buffer[0];
                lane *to = &w[r].lanes[0][i][0], *from = &w[r].lanes[1][i][0];
                posted += send_from(r, (r + 1) % 3, (uint32_t)i % 2, out, (size_t)i * 20, &to->q[0]) == WEFT_OK;
                posted += recv_at(r, (r + 2) % 3, (uint32_t)i % 2, from->buffer[0], 160, &from->q[0]) == WEFT_OK;
            }
            weft_sim_advance(&sim, nth * 50);
            if (nth % 5 == 0) {
                weft_sim_revive(&sim, (uint32_t)(nth % 3));
                if (recv_at(r, r, 9, in, 160, &q) == WEFT_OK) net[r].cancel(net[r].ctx, &q);
            }
        }
        ck_assert_int_ge(posted, 16);
        weft_check_mail(&check, &mail);
        weft_sim_advance(&sim, 10000000);
        for (r = 0; r < 3; r++) {
            int i, k;
            for (i = 0; i < 8; i++)
                for (k = 0; k < 2; k++) {
                    weft_request *q = &w[r].lanes[k][i][0].q[0];
                    if (q->word[0] && test_of(r, q) == WEFT_AGAIN) net[r].cancel(net[r].ctx, q);
                }
        }
        ck_assert_uint_eq(weft_sim_outstanding(&sim), 0);
        weft_check_mail(&check, &mail);
        CHECKERS_FINE(&check);
        weft_sim_free(&sim);
        weft_mail_free(&mail);
    }
}
END_TEST

/* ---- cancel ---- */

START_TEST(cancelled_sends_come_or_not) {
    uint64_t seed;
    int came = 0, arrived;
    for (arrived = 0; arrived < 2; arrived++)
        for (seed = 0; seed < 32; seed++) {
            weft_sim_desc d = plain(2);
            unsigned char out[100], in[100];
            weft_request s, r;
            d.seed = seed;
            d.mode = WEFT_SIM_RENDEZVOUS;
            d.latency_ns = 10;
            d.cancel_delivers = d.watch = 1;
            set_up(&d);
            memset(out, 3, sizeof out);
            ck_assert_int_eq(send_from(0, 1, 1, out, 100, &s), WEFT_OK);
            if (arrived) weft_sim_advance(&sim, 100);
            net[0].cancel(net[0].ctx, &s);
            memset(out, 4, sizeof out);
            ck_assert_int_eq(recv_at(1, 0, 1, in, 100, &r), WEFT_OK);
            weft_sim_advance(&sim, 100);
            if (test_of(1, &r) == WEFT_OK) {
                came++;
                ck_assert_uint_eq(in[0], 3);
                ck_assert_uint_eq(in[99], 3);
            } else {
                net[1].cancel(net[1].ctx, &r);
            }
            ck_assert_uint_eq(weft_sim_outstanding(&sim), 0);
            ck_assert_uint_eq(sim.flow_live, 0);
            weft_sim_free(&sim);
        }
    ck_assert_int_gt(came, 10);
    ck_assert_int_lt(came, 54);
}
END_TEST

/* ---- torture and the library's own breaches ---- */

START_TEST(a_coy_transport_wakes_again) {
    weft_sim_desc d = plain(3);
    d.coy = 2;
    d.spurious = 2;
    d.latency_ns = 3;
    d.shuffle = 1;
    talk_all(&d, 5);
}
END_TEST

START_TEST(breaches_are_noticed) {
    int kind;
    for (kind = 0; kind < 9; kind++) {
        static const char *const text[9] = {"moved",           "used again", "not under way", "posted receive buffer",
                                            "pending send",    "longer than max_message_bytes", "out of range",
                                            "out of range",    "moved"};
        weft_sim_desc d = plain(2);
        unsigned char out[300] = {0}, in[8];
        weft_request s, r, moved;
        d.mode = WEFT_SIM_RENDEZVOUS;
        d.scribble = d.watch = 1;
        d.max_message_bytes = 256;
        set_up(&d);
        ck_assert_int_eq(send_from(0, 1, 1, out, 8, &s), WEFT_OK);
        ck_assert_int_eq(recv_at(1, 0, kind == 3 || kind == 4 ? 1 : 2, in, 8, &r), WEFT_OK);
        ck_assert_ptr_null(weft_sim_violation(&sim));
        switch (kind) {
        case 0: moved = s; test_of(0, &moved); break;
        case 1: net[0].send(net[0].ctx, 1, 3, out, 1, &s); break;
        case 2: memset(&moved, 0, sizeof moved); ck_assert_int_eq(test_of(0, &moved), WEFT_ERR_ORDER); break;
        case 3: in[5] = (unsigned char)(in[5] + 1); break;
        case 4: out[7] = 1; break;
        case 5: ck_assert_int_eq(send_from(0, 1, 3, out, 257, &moved), WEFT_ERR_ARGUMENT); break;
        case 6: ck_assert_int_eq(send_from(0, 2, 3, out, 1, &moved), WEFT_ERR_ARGUMENT); break;
        case 7: ck_assert_int_eq(recv_at(0, 1, 32768, in, 1, &moved), WEFT_ERR_ARGUMENT); break;
        default: moved = s; net[0].cancel(net[0].ctx, &moved); break;
        }
        weft_sim_advance(&sim, 1000);
        ck_assert_ptr_nonnull(weft_sim_violation(&sim));
        ck_assert_msg(strstr(weft_sim_violation(&sim), text[kind]), "%d: %s", kind, weft_sim_violation(&sim));
        weft_sim_free(&sim);
    }
}
END_TEST

/* ---- accounting ---- */

static uint64_t hook_messages, hook_bytes;
static void on_message(void *user, const weft_sim_message *m) {
    ck_assert_ptr_eq(user, &hook_bytes);
    ck_assert_uint_eq(m->src, 0);
    ck_assert_uint_eq(m->dst, 1);
    ck_assert_uint_eq(m->number, ++hook_messages);
    ck_assert_uint_eq(m->now_ns, weft_sim_now(&sim));
    hook_bytes += m->bytes;
    if (m->bytes) ck_assert_uint_eq(((const unsigned char *)m->data)[0], 6);
}

START_TEST(messages_are_counted) {
    weft_sim_desc d = plain(2);
    unsigned char out[50] = {6}, in[50];
    weft_request s[4], r[4];
    uint32_t i;
    static const uint32_t tag[4] = {0, 1, 2048, 4095};
    const weft_sim_counts *c;
    FILE *trace = tmpfile();
    char line[200];
    int lines = 0;
    ck_assert_ptr_nonnull(trace);
    hook_messages = hook_bytes = 0;
    d.on_message = on_message;
    d.user = &hook_bytes;
    d.trace = trace;
    d.seed = 99;
    set_up(&d);
    for (i = 0; i < 4; i++) {
        ck_assert_int_eq(send_from(0, 1, tag[i], out, i * 10, &s[i]), WEFT_OK);
        ck_assert_int_eq(recv_at(1, 0, tag[i], in, 50, &r[i]), WEFT_OK);
    }
    ck_assert_uint_eq(weft_sim_most_outstanding(&sim), 2); /* two on each of two channels */
    weft_sim_advance(&sim, 10);
    c = weft_sim_counts_of(&sim, 0);
    ck_assert_uint_eq(c->sent[0], 2);
    ck_assert_uint_eq(c->sent[1], 2);
    ck_assert_uint_eq(c->sent_bytes[0], 20);
    ck_assert_uint_eq(c->sent_bytes[1], 40);
    ck_assert_uint_eq(c->received[0], 0);
    ck_assert_uint_eq(c->call[WEFT_SIM_SEND], 4);
    c = weft_sim_counts_of(&sim, 1);
    ck_assert_uint_eq(c->received[0], 2);
    ck_assert_uint_eq(c->received_bytes[1], 40);
    ck_assert_uint_eq(c->call[WEFT_SIM_RECV], 4);
    ck_assert_uint_eq(hook_messages, 4);
    ck_assert_uint_eq(hook_bytes, 60);
    weft_sim_free(&sim);
    rewind(trace);
    while (fgets(line, sizeof line, trace)) {
        if (!lines++) ck_assert_str_eq(line, "seed 99 workers 2\n");
        else ck_assert_ptr_nonnull(strchr(line, ' '));
    }
    ck_assert_int_ge(lines, 1 + 4 * 4); /* send, recv, arrive, meet */
    fclose(trace);
}
END_TEST

/* A large ring: tables grow, nothing is left, and memory does not depend on how long it runs. */
typedef struct ringer {
    uint32_t size, round, posted;
    weft_transport net;
    weft_request s, r;
    uint32_t out, in;
} ringer;

static int ring(void *user, uint32_t rank) {
    ringer *w = (ringer *)user;
    for (;;) {
        weft_status s;
        if (!w->posted) {
            if (w->round == 50) return 1;
            w->out = w->round * w->size + rank;
            ck_assert_int_eq(w->net.send(w->net.ctx, (rank + 1) % w->size, w->round % 100, &w->out, 4, &w->s), WEFT_OK);
            s = w->net.recv(w->net.ctx, (rank + w->size - 1) % w->size, w->round % 100, &w->in, 4, &w->r);
            ck_assert_int_eq(s, WEFT_OK);
            w->posted = 3;
        }
        if (w->posted & 1) {
            s = w->net.test(w->net.ctx, &w->s);
            if (s == WEFT_OK) w->posted &= ~1u;
            else ck_assert_int_eq(s, WEFT_AGAIN);
        }
        if (w->posted & 2) {
            s = w->net.test(w->net.ctx, &w->r);
            if (s == WEFT_OK) w->posted &= ~2u;
            else ck_assert_int_eq(s, WEFT_AGAIN);
        }
        if (w->posted) return 0;
        ck_assert_uint_eq(w->in, w->round * w->size + (rank + w->size - 1) % w->size);
        w->round++;
    }
}

START_TEST(many_workers) {
    weft_sim_desc d = plain(2000);
    ringer *w = (ringer *)calloc(d.size, sizeof *w);
    uint32_t r;
    d.latency_ns = 1000;
    d.jitter_ns = 3000;
    d.mode = WEFT_SIM_MIXED;
    ck_assert_int_eq(weft_sim_init(&sim, &d), WEFT_OK);
    for (r = 0; r < d.size; r++) {
        w[r].size = d.size;
        weft_sim_transport(&sim, r, &w[r].net);
        weft_sim_worker(&sim, r, ring, &w[r]);
    }
    ck_assert_msg(weft_sim_run(&sim, 100000000) == WEFT_SIM_DONE, "%s", weft_sim_text(&sim));
    ck_assert_uint_eq(weft_sim_sent(&sim), 100000);
    ck_assert_uint_le(sim.op_count, 3 * d.size); /* as many as were under way at a time */
    ck_assert_uint_le(sim.msg_count, 2 * d.size);
    ck_assert_uint_eq(sim.link_count, 2 * d.size);
    ck_assert_uint_eq(sim.flow_live, 0);
    weft_sim_free(&sim);
    free(w);
}
END_TEST

/* ---- lossy links ---- */

/* What is above sees the contract, whatever happens to packets; and the same every time. */
START_TEST(lossy_links_keep_the_contract) {
    uint64_t seed;
    uint32_t k;
    memset(&packets, 0, sizeof packets);
    memset(happened, 0, sizeof happened);
    for (seed = 0; seed < 40; seed++) {
        weft_sim_desc d = weft_sim_bad_network(seed, 2 + (uint32_t)(seed % 4));
        uint64_t a = talk_all(&d, 6), b = talk_all(&d, 6);
        ck_assert_uint_eq(a, b);
    }
    for (k = 0; k < sizeof packets / sizeof packets.sent - 1; k++) ck_assert_uint_gt((&packets.sent)[k], 1000);
    ck_assert_uint_eq(packets.given_up, 0);
    for (k = WEFT_SIM_PACKET_LOST; k <= WEFT_SIM_ACK_LOST; k++) ck_assert_uint_gt(happened[k], 1000);
    ck_assert_uint_eq(happened[WEFT_SIM_PACKET_LOST], packets.lost);
    ck_assert_uint_eq(happened[WEFT_SIM_PACKET_TWICE], packets.duplicated);
    ck_assert_uint_eq(happened[WEFT_SIM_PACKET_LATE], packets.reordered);
    ck_assert_uint_eq(happened[WEFT_SIM_PACKET_AGAIN], packets.again);
    ck_assert_uint_eq(happened[WEFT_SIM_ACK_LOST], packets.acks_lost);
    ck_assert_uint_eq(happened[WEFT_SIM_GIVEN_UP], 0);
    /* every packet that got through was answered, and was new or was not */
    ck_assert_uint_le(packets.acks, packets.sent - packets.lost + packets.duplicated);
    ck_assert_uint_gt(packets.discarded, packets.duplicated / 2);
}
END_TEST

START_TEST(known_seeds_of_lossy_links) {
    static const struct {
        uint64_t seed, hash;
    } known[] = {{1, UINT64_C(18084354981956647646)},
                 {2, UINT64_C(1267070061854996397)},
                 {3, UINT64_C(17598715403989884455)}};
    size_t i;
    for (i = 0; i < sizeof known / sizeof known[0]; i++) {
        weft_sim_desc d = weft_sim_bad_network(known[i].seed, 4);
        ck_assert_uint_eq(talk_all(&d, 6), known[i].hash);
    }
}
END_TEST

static const weft_sim_lossy by_hand = {4, 0, 0, 0, 0, 100, 0, 0, 0}; /* packets of 4 bytes, sent again after 100 ns */

typedef struct watched {
    unsigned char out[64], in[64];
    weft_request s, r;
    uint64_t at;
} watched;

static void post(watched *w, uint32_t tag, size_t bytes) {
    memset(w->out, (int)tag, sizeof w->out);
    memset(w->in, 0, sizeof w->in);
    w->at = 0;
    ck_assert_int_eq(recv_at(1, 0, tag, w->in, 64, &w->r), WEFT_OK);
    ck_assert_int_eq(send_from(0, 1, tag, w->out, bytes, &w->s), WEFT_OK);
}

/* Until then, and when each of them has arrived. */
static void watch(watched *w, size_t n, uint64_t until) {
    size_t i;
    while (weft_sim_now(&sim) < until) {
        weft_sim_advance(&sim, 1);
        for (i = 0; i < n; i++)
            if (!w[i].at && test_of(1, &w[i].r) == WEFT_OK) w[i].at = weft_sim_now(&sim);
    }
}

/* Lost in the first 150 ns: sent again after 100, then after 200; what follows it waits, and is mended as soon as the
 * answer shows the hole. */
START_TEST(what_is_lost_is_sent_again) {
    static const unsigned char zero[2] = {1, 0};
    weft_sim_desc d = plain(2);
    watched w[2];
    int part;
    weft_sim_packets p;
    d.latency_ns = 10;
    d.lossy = by_hand;
    set_up(&d);
    part = weft_sim_partition(&sim, zero, 0, 150);
    post(&w[0], 1, 4);
    weft_sim_advance(&sim, 5);
    post(&w[1], 2, 4);
    watch(w, 2, 1000);
    ck_assert_uint_eq(w[0].at, 310); /* sent at 0, 100 and 300 */
    ck_assert_uint_eq(w[1].at, 330); /* sent at 5, and 320 when the answer to the first has come */
    ck_assert_uint_eq(w[1].in[3], 2);
    p = weft_sim_packets_of(&sim, 0, 1);
    ck_assert_uint_eq(p.sent, 5);
    ck_assert_uint_eq(p.again, 3);
    ck_assert_uint_eq(p.lost, 3);
    ck_assert_uint_eq(p.timeouts, 2);
    ck_assert_uint_eq(p.acks, 2);
    ck_assert_uint_eq(p.discarded + p.ahead + p.duplicated + p.reordered + p.acks_lost + p.given_up, 0);
    ck_assert_uint_eq(weft_sim_packets_of(&sim, 1, 0).sent, 0);
    ck_assert_uint_eq(weft_sim_fired(&sim, part), 3);
    ck_assert_uint_eq(weft_sim_trouble_until(&sim), 150);
    CHECKERS_HAPPENED(&sim);
    /* the waiting is short again, once something has got through */
    part = weft_sim_partition(&sim, zero, 1000, 1001);
    post(&w[0], 1, 4);
    watch(w, 1, 2000);
    ck_assert_uint_eq(w[0].at, 1110);
    weft_sim_free(&sim);
}
END_TEST

/* The waiting gets no longer than this. And losses may change in the middle of a message: it stays in one piece. */
START_TEST(losses_change) {
    static const unsigned char zero[2] = {1, 0};
    weft_sim_desc d = plain(2);
    weft_sim_lossy other;
    watched w[1];
    d.latency_ns = 10;
    d.lossy = by_hand;
    d.lossy.most_timeout_ns = 150;
    d.lossy.window = 2;
    set_up(&d);
    weft_sim_partition(&sim, zero, 0, 850);
    post(w, 1, 4);
    watch(w, 1, 1000);
    ck_assert_uint_eq(w[0].at, 860); /* sent at 0, 100, and then every 150 */
    ck_assert_uint_eq(weft_sim_packets_of(&sim, 0, 1).timeouts, 6);
    post(w, 1, 40);
    weft_sim_advance(&sim, 15); /* the first two of ten are there */
    memset(&other, 0, sizeof other);
    other.packet_bytes = 1000;
    other.window = 64;
    weft_sim_set_lossy(&sim, 0, 1, &other);
    watch(w, 1, 2000);
    ck_assert_uint_eq(w[0].at, 1030); /* the others all at once when the answers come */
    ck_assert_uint_eq(w[0].in[39], 1);
    ck_assert_uint_eq(weft_sim_packets_of(&sim, 0, 1).sent, 7 + 10);
    weft_sim_free(&sim);
}
END_TEST

/* Only answers are lost: the data is there, comes again, and is thrown away. */
START_TEST(answers_are_lost) {
    static const unsigned char one[2] = {0, 1};
    weft_sim_desc d = plain(2);
    watched w[1];
    weft_sim_packets p;
    d.latency_ns = 10;
    d.lossy = by_hand;
    set_up(&d);
    weft_sim_partition(&sim, one, 0, 150);
    post(w, 1, 4);
    watch(w, 1, 1000);
    ck_assert_uint_eq(w[0].at, 10);
    p = weft_sim_packets_of(&sim, 0, 1);
    ck_assert_uint_eq(p.sent, 3);
    ck_assert_uint_eq(p.lost, 0);
    ck_assert_uint_eq(p.acks, 3);
    ck_assert_uint_eq(p.acks_lost, 2);
    ck_assert_uint_eq(p.discarded, 2);
    ck_assert_uint_eq(weft_sim_happened(&sim, WEFT_SIM_ACK_LOST), 2);
    ck_assert_uint_eq(weft_sim_arrived(&sim), 1);
    weft_sim_free(&sim);
}
END_TEST

/* Three answers in a row that name the same packet: it is sent again without waiting for the timer. */
START_TEST(three_answers_show_a_hole) {
    static const unsigned char zero[2] = {1, 0};
    weft_sim_desc d = plain(2);
    watched w[4];
    weft_sim_packets p;
    uint32_t i;
    d.latency_ns = 10;
    d.lossy = by_hand;
    set_up(&d);
    weft_sim_partition(&sim, zero, 0, 1);
    post(&w[0], 1, 3);
    weft_sim_advance(&sim, 5);
    for (i = 1; i < 4; i++) post(&w[i], 1 + i, 4);
    watch(w, 4, 1000);
    for (i = 0; i < 4; i++) ck_assert_uint_eq(w[i].at, 35); /* 5 there, 10 back, and again: all at once */
    p = weft_sim_packets_of(&sim, 0, 1);
    ck_assert_uint_eq(p.ahead, 3);
    ck_assert_uint_eq(p.again, 1);
    ck_assert_uint_eq(p.timeouts, 0);
    weft_sim_free(&sim);
}
END_TEST

/* A lossy link without losses takes as long as any other, in one packet or many; but a window waits for answers. */
START_TEST(packets_take_their_time) {
    int window;
    for (window = 0; window < 3; window++) {
        weft_sim_desc d = plain(2);
        static unsigned char out[1000], in[1000];
        weft_request s, r;
        d.latency_ns = 50;
        d.bytes_per_second = 1000000000;
        d.lossy.packet_bytes = 100;
        d.lossy.window = (uint32_t)window;
        set_up(&d);
        ck_assert_int_eq(send_from(0, 1, 1, out, 1000, &s), WEFT_OK);
        ck_assert_int_eq(recv_at(1, 0, 1, in, 1000, &r), WEFT_OK);
        /* one at a time: ten of 100 + 50 + 50, but for the last answer; two are enough to keep the link busy */
        weft_sim_advance(&sim, window == 1 ? 1949 : 1049);
        ck_assert_int_eq(test_of(1, &r), WEFT_AGAIN);
        weft_sim_advance(&sim, 1);
        ck_assert_int_eq(test_of(1, &r), WEFT_OK);
        ck_assert_uint_eq(r.bytes, 1000);
        ck_assert_uint_eq(weft_sim_packets_of(&sim, 0, 1).sent, 10);
        ck_assert_uint_eq(weft_sim_packets_of(&sim, 0, 1).again, 0);
        weft_sim_free(&sim);
    }
}
END_TEST

/* A megabyte over a link that loses one packet in ten. */
START_TEST(a_long_message_over_a_bad_link) {
    enum { N = 1000000 };
    weft_sim_desc d = plain(2);
    unsigned char *out = (unsigned char *)malloc(N), *in = (unsigned char *)malloc(N);
    weft_request s, r;
    size_t i;
    weft_sim_packets p;
    d.seed = 5;
    d.mode = (weft_sim_mode)_i;
    d.latency_ns = 1000;
    d.lossy.loss_ppm = 100000;
    d.lossy.duplicate_ppm = 10000;
    d.lossy.reorder_ppm = 10000;
    for (i = 0; i < N; i++) out[i] = (unsigned char)(i * 7 >> 3);
    set_up(&d);
    ck_assert_int_eq(send_from(0, 1, 1, out, N, &s), WEFT_OK);
    ck_assert_int_eq(recv_at(1, 0, 1, in, N, &r), WEFT_OK);
    weft_sim_advance(&sim, UINT64_C(1000000000));
    ck_assert_int_eq(test_of(1, &r), WEFT_OK);
    ck_assert_int_eq(test_of(0, &s), WEFT_OK);
    ck_assert_int_eq(memcmp(in, out, N), 0);
    p = weft_sim_packets_of(&sim, 0, 1);
    ck_assert_uint_ge(p.sent - p.lost, (N + 1399) / 1400);
    ck_assert_uint_ge(p.lost * 20, p.sent); /* one in ten, more or less */
    ck_assert_uint_le(p.lost * 7, p.sent);
    CHECKERS_HAPPENED(&sim);
    weft_sim_free(&sim);
    free(out);
    free(in);
}
END_TEST

/* Links with numbers of their own; the others are as ever, and what they do is not disturbed. */
START_TEST(one_bad_link_among_good_ones) {
    weft_sim_lossy none, bad;
    uint64_t hash[3];
    int i;
    memset(&none, 0, sizeof none);
    memset(&bad, 0, sizeof bad);
    bad.loss_ppm = 300000;
    for (i = 0; i < 3; i++) {
        weft_sim_desc d = plain(3);
        watched w[1];
        uint32_t k;
        d.latency_ns = 1000;
        if (i == 2) d.lossy = bad;
        set_up(&d);
        if (i == 1) weft_sim_set_lossy(&sim, 2, 1, &bad);
        if (i == 2) weft_sim_set_lossy(&sim, 0, 1, &none);
        for (k = 0; k < 20; k++) {
            post(w, 1, 60);
            weft_sim_advance(&sim, 10000);
            ck_assert_int_eq(test_of(1, &w->r), WEFT_OK);
        }
        ck_assert_uint_eq(weft_sim_packets_of(&sim, 0, 1).sent, 0);
        hash[i] = weft_sim_hash(&sim);
        if (i)
            for (k = 0; k < 20; k++) {
                weft_request s;
                ck_assert_int_eq(send_from(2, 1, 1, w->out, 60, &s), WEFT_OK);
                ck_assert_int_eq(recv_at(1, 2, 1, w->in, 60, &w->r), WEFT_OK);
                weft_sim_advance(&sim, 10000000);
                ck_assert_int_eq(test_of(1, &w->r), WEFT_OK);
            }
        if (i) ck_assert_uint_gt(weft_sim_packets_of(&sim, 2, 1).lost, 1);
        if (i == 2) ck_assert_uint_gt(weft_sim_packets_of(&sim, 2, 1).acks_lost, 1);
        if (i == 1) ck_assert_uint_eq(weft_sim_packets_of(&sim, 2, 1).acks_lost, 0); /* the way back is good */
        weft_sim_free(&sim);
    }
    ck_assert_uint_eq(hash[0], hash[1]);
    ck_assert_uint_eq(hash[0], hash[2]);
}
END_TEST

static uint32_t unlinked[2], linked[2];
static void on_link(void *user, uint32_t rank, uint32_t peer, int up) {
    ck_assert_ptr_eq(user, &changed_rank);
    ck_assert_uint_eq(peer, 1 - rank);
    (up ? linked : unlinked)[rank]++;
}

/* After so many retries in vain the peer is given up; the other end learns it later; then they are connected again. */
START_TEST(a_peer_is_given_up) {
    static const unsigned char zero[2] = {1, 0};
    int mode;
    for (mode = WEFT_SIM_EAGER; mode <= WEFT_SIM_RENDEZVOUS; mode++) {
        weft_sim_desc d = plain(2);
        watched w[2];
        weft_request from_zero, from_one, s;
        unsigned char in[2];
        int back;
        memset(unlinked, 0, sizeof unlinked);
        memset(linked, 0, sizeof linked);
        d.mode = (weft_sim_mode)mode;
        d.latency_ns = 10;
        d.detect_ns = 5000;
        d.on_link = on_link;
        d.user = &changed_rank;
        d.lossy = by_hand;
        d.lossy.retries = 3;
        set_up(&d);
        weft_sim_partition(&sim, zero, 0, 9000);
        back = weft_sim_connect_at(&sim, 0, 1, 10000);
        post(&w[0], 1, 20);
        ck_assert_int_eq(recv_at(0, 1, 9, in, 1, &from_one), WEFT_OK);
        ck_assert_int_eq(recv_at(1, 0, 9, in + 1, 1, &from_zero), WEFT_OK);
        weft_sim_advance(&sim, 1499); /* sent again at 100, 300, 700; the next would be at 1500 */
        ck_assert_int_eq(test_of(0, &from_one), WEFT_AGAIN);
        weft_sim_advance(&sim, 1);
        ck_assert_int_eq(test_of(0, &from_one), WEFT_ERR_PEER_LOST);
        ck_assert_int_eq(test_of(0, &w[0].s), mode == WEFT_SIM_EAGER ? WEFT_OK : WEFT_ERR_PEER_LOST);
        ck_assert_int_eq(send_from(0, 1, 5, in, 1, &s), WEFT_ERR_PEER_LOST);
        ck_assert_int_eq(recv_at(0, 1, 5, in, 1, &s), WEFT_ERR_PEER_LOST);
        ck_assert_uint_eq(weft_sim_packets_of(&sim, 0, 1).given_up, 1);
        ck_assert_uint_eq(weft_sim_packets_of(&sim, 0, 1).again, 3);
        ck_assert_uint_eq(weft_sim_happened(&sim, WEFT_SIM_GIVEN_UP), 1);
        ck_assert(unlinked[0] == 1 && unlinked[1] == 0);
        ck_assert_int_eq(test_of(1, &from_zero), WEFT_AGAIN);
        ck_assert_int_eq(send_from(1, 0, 5, in, 1, &s), WEFT_OK); /* it knows nothing; this goes nowhere */
        weft_sim_advance(&sim, 4999);
        ck_assert_int_eq(test_of(1, &from_zero), WEFT_AGAIN);
        weft_sim_advance(&sim, 1);
        ck_assert_int_eq(test_of(1, &from_zero), WEFT_ERR_PEER_LOST);
        ck_assert_int_eq(test_of(1, &w[0].r), WEFT_ERR_PEER_LOST);
        ck_assert_int_eq(test_of(1, &s), mode == WEFT_SIM_EAGER ? WEFT_OK : WEFT_ERR_PEER_LOST);
        ck_assert_int_eq(send_from(1, 0, 5, in, 1, &s), WEFT_ERR_PEER_LOST);
        ck_assert(unlinked[0] == 1 && unlinked[1] == 1 && linked[0] == 0);
        ck_assert(weft_sim_alive(&sim, 0) && weft_sim_alive(&sim, 1));
        ck_assert_uint_eq(weft_sim_outstanding(&sim), 0);
        ck_assert_uint_eq(weft_sim_under_way(&sim, WEFT_SIM_ANY), 0);
        weft_sim_advance(&sim, 10000 - weft_sim_now(&sim));
        ck_assert_uint_eq(weft_sim_fired(&sim, back), 1);
        ck_assert(linked[0] == 1 && linked[1] == 1);
        post(&w[0], 1, 20);
        watch(w, 1, 11000);
        ck_assert_uint_eq(w[0].at, 10010); /* nothing old is in its way */
        ck_assert_uint_eq(w[0].in[19], 1);
        CHECKERS_HAPPENED(&sim);
        weft_sim_free(&sim);
    }
}
END_TEST

static int sends_once(void *user, uint32_t rank) {
    watched *w = (watched *)user;
    if (!w->at) {
        w->at = 1;
        if (rank) ck_assert_int_eq(recv_at(1, 0, 1, w->in, 64, &w->r), WEFT_OK);
        else ck_assert_int_eq(send_from(0, 1, 1, w->out, 64, &w->s), WEFT_OK);
    }
    return test_of(rank, rank ? &w->r : &w->s) == WEFT_OK;
}

/* Without an end to retries, and no hope: the run ends as a deadlock, and not never. */
START_TEST(hopeless_retries_are_a_deadlock) {
    static const unsigned char zero[2] = {1, 0};
    int kind;
    for (kind = 0; kind < 4; kind++) {
        weft_sim_desc d = plain(2);
        static watched w[2];
        weft_sim_lossy none;
        uint32_t r;
        memset(w, 0, sizeof w);
        memset(&none, 0, sizeof none);
        d.mode = WEFT_SIM_RENDEZVOUS;
        d.latency_ns = 10;
        d.lossy = by_hand;
        if (kind == 2) d.lossy.loss_ppm = 1000000;
        set_up(&d);
        if (kind == 0) weft_sim_partition(&sim, zero, 0, WEFT_SIM_FOREVER);
        if (kind == 1) weft_sim_clog(&sim, 0, WEFT_SIM_ANY, 0, WEFT_SIM_FOREVER);
        if (kind == 3) weft_sim_partition(&sim, zero, 0, 1000000);
        for (r = 0; r < 2; r++) weft_sim_worker(&sim, r, sends_once, &w[r]);
        if (kind < 3) {
            ck_assert_int_eq(weft_sim_run(&sim, 1000), WEFT_SIM_DEADLOCK);
            ck_assert_ptr_nonnull(strstr(weft_sim_text(&sim), "worker 0 waits for: send to 1 (tag 1, 64 bytes)"));
            ck_assert_uint_gt(weft_sim_packets_of(&sim, 0, 1).lost, 1);
        }
        if (kind >= 2) {
            weft_sim_set_lossy(&sim, 1, 0, &none); /* mended, first the way of the answers */
            weft_sim_set_lossy(&sim, 0, 1, &none);
            ck_assert_msg(weft_sim_run(&sim, 1000) == WEFT_SIM_DONE, "%s", weft_sim_text(&sim));
        }
        weft_sim_free(&sim);
    }
}
END_TEST

/* ---- reordering ---- */

/* Messages of different tags overtake each other; those of one tag do not (talk_all looks). */
START_TEST(flows_overtake_each_other) {
    weft_sim_desc d = plain(3);
    memset(happened, 0, sizeof happened);
    d.latency_ns = 100;
    talk_all(&d, 6);
    ck_assert_uint_eq(happened[WEFT_SIM_OVERTAKEN] + happened[WEFT_SIM_HELD_BACK], 0);
    d.overtake = 4;
    d.overtake_ns = 1000;
    talk_all(&d, 6);
    ck_assert_uint_gt(happened[WEFT_SIM_OVERTAKEN], 10);
    ck_assert_uint_gt(happened[WEFT_SIM_HELD_BACK], 10);
    memset(happened, 0, sizeof happened);
    d.overtake = 0;
    d.jitter_ns = 300;
    talk_all(&d, 6);
    ck_assert_uint_gt(happened[WEFT_SIM_OVERTAKEN], 10);
    memset(happened, 0, sizeof happened);
    d.jitter_ns = 0;
    d.lossy.loss_ppm = 100000; /* one stream: who is behind a lost packet waits */
    talk_all(&d, 6);
    ck_assert_uint_gt(happened[WEFT_SIM_PACKET_LOST], 10);
    ck_assert_uint_eq(happened[WEFT_SIM_OVERTAKEN], 0);
}
END_TEST

/* ---- partitions, connections ---- */

START_TEST(a_partition_in_both_directions_heals) {
    static const unsigned char group[4] = {1, 1, 0, 0};
    weft_sim_desc d = plain(4);
    int split, lossy;
    for (lossy = 0; lossy < 2; lossy++) {
        if (lossy) d.lossy = by_hand;
        d.latency_ns = 10;
        set_up(&d);
        split = weft_sim_split(&sim, group, 1000, 2000);
        ck_assert_uint_eq(travel(1, 2), 10);
        weft_sim_advance(&sim, 1000 - weft_sim_now(&sim));
        ck_assert_uint_eq(travel(0, 1), 10);
        ck_assert_uint_eq(travel(3, 2), 10);
        ck_assert_uint_eq(weft_sim_fired(&sim, split), 0);
        weft_sim_advance(&sim, 1100 - weft_sim_now(&sim));
        /* held, or lost and sent again after 100, 200, 400 and 800 */
        ck_assert_uint_eq(travel(1, 3), lossy ? 1510 : 910);
        ck_assert_uint_eq(travel(1, 3), 10);
        ck_assert_uint_eq(weft_sim_fired(&sim, split), lossy ? 4 : 1);
        weft_sim_free(&sim);
        set_up(&d);
        split = weft_sim_split(&sim, group, 0, 900);
        ck_assert_uint_eq(travel(3, 1), lossy ? 1510 : 910); /* and in the other direction */
        ck_assert_uint_eq(weft_sim_happened(&sim, WEFT_SIM_FAULT_PARTITION), lossy ? 4 : 1);
        ck_assert_uint_eq(weft_sim_trouble_until(&sim), 900);
        weft_sim_free(&sim);
    }
}
END_TEST

START_TEST(a_partition_in_one_direction_heals) {
    static const unsigned char group[2] = {1, 0};
    int lossy;
    for (lossy = 0; lossy < 2; lossy++) {
        weft_sim_desc d = plain(2);
        int part;
        if (lossy) d.lossy = by_hand;
        d.latency_ns = 10;
        set_up(&d);
        part = weft_sim_partition(&sim, group, 1000, 2000);
        weft_sim_advance(&sim, 1000);
        ck_assert_uint_eq(travel(1, 0), 10); /* data gets through, its answers do not */
        ck_assert_uint_eq(weft_sim_packets_of(&sim, 1, 0).acks_lost, (uint64_t)lossy);
        ck_assert_uint_eq(weft_sim_fired(&sim, part), (uint64_t)lossy);
        ck_assert_uint_eq(travel(0, 1), lossy ? 1510 : 1000);
        ck_assert_uint_ge(weft_sim_fired(&sim, part), 1);
        weft_sim_free(&sim);
    }
}
END_TEST

START_TEST(a_lossy_link_is_clogged_and_delayed) {
    weft_sim_desc d = plain(2);
    int clog, delay;
    d.latency_ns = 10;
    d.lossy = by_hand;
    set_up(&d);
    clog = weft_sim_clog(&sim, 0, 1, 0, 500);
    delay = weft_sim_delay(&sim, WEFT_SIM_ANY, 1, 40, 1000, 2000);
    ck_assert_uint_eq(travel(0, 1), 510); /* queued, not lost: nothing is sent again */
    ck_assert_uint_eq(weft_sim_packets_of(&sim, 0, 1).again, 0);
    weft_sim_advance(&sim, 1000 - weft_sim_now(&sim));
    ck_assert_uint_eq(travel(0, 1), 50);
    ck_assert_uint_eq(weft_sim_fired(&sim, clog), 1);
    ck_assert_uint_eq(weft_sim_fired(&sim, delay), 1);
    CHECKERS_HAPPENED(&sim);
    weft_sim_free(&sim);
}
END_TEST

START_TEST(a_connection_is_cut) {
    int detect, mode;
    for (mode = WEFT_SIM_EAGER; mode <= WEFT_SIM_RENDEZVOUS; mode++)
        for (detect = 0; detect < 2; detect++) {
            weft_sim_desc d = plain(3);
            watched w[3];
            weft_request other[2], s;
            unsigned char byte = 1, in;
            int cut, again, back;
            memset(unlinked, 0, sizeof unlinked);
            memset(linked, 0, sizeof linked);
            d.mode = (weft_sim_mode)mode;
            d.latency_ns = 10;
            d.detect_ns = detect ? 50 : 0;
            d.on_link = on_link;
            d.user = &changed_rank;
            set_up(&d);
            cut = weft_sim_cut_at(&sim, 0, 1, 15);
            again = weft_sim_cut_at(&sim, 1, 0, 16); /* it is cut already */
            back = weft_sim_connect_at(&sim, 1, 0, 1000);
            ck_assert_int_eq(send_from(0, 1, 3, &byte, 1, &s), WEFT_OK); /* arrived and not received: gone */
            weft_sim_advance(&sim, 9);
            post(&w[0], 1, 4); /* under way */
            ck_assert_int_eq(send_from(0, 2, 1, &byte, 1, &other[0]), WEFT_OK);
            ck_assert_int_eq(recv_at(2, 0, 1, &in, 1, &other[1]), WEFT_OK);
            weft_sim_advance(&sim, 10);
            ck_assert_int_eq(test_of(1, &w[0].r), detect ? WEFT_AGAIN : WEFT_ERR_PEER_LOST);
            weft_sim_advance(&sim, 100);
            if (detect) ck_assert_int_eq(test_of(1, &w[0].r), WEFT_ERR_PEER_LOST);
            ck_assert_int_eq(test_of(0, &w[0].s), mode == WEFT_SIM_EAGER ? WEFT_OK : WEFT_ERR_PEER_LOST);
            ck_assert_int_eq(test_of(0, &s), mode == WEFT_SIM_EAGER ? WEFT_OK : WEFT_ERR_PEER_LOST);
            ck_assert_int_eq(test_of(2, &other[1]), WEFT_OK); /* nobody else is touched */
            ck_assert_int_eq(send_from(0, 1, 3, &byte, 1, &s), WEFT_ERR_PEER_LOST);
            ck_assert_int_eq(send_from(1, 2, 3, &byte, 1, &s), WEFT_OK);
            net[1].cancel(net[1].ctx, &s);
            ck_assert_uint_eq(weft_sim_fired(&sim, cut), 1);
            ck_assert_uint_eq(weft_sim_fired(&sim, again), 0);
            ck_assert_str_eq(weft_sim_missing(&sim), "a connection cut");
            ck_assert(unlinked[0] == 1 && unlinked[1] == 1 && !linked[0]);
            weft_sim_advance(&sim, 1000);
            ck_assert_uint_eq(weft_sim_fired(&sim, back), 1);
            ck_assert(linked[0] == 1 && linked[1] == 1);
            ck_assert_int_eq(recv_at(1, 0, 3, &in, 1, &s), WEFT_OK);
            weft_sim_advance(&sim, 100);
            ck_assert_int_eq(test_of(1, &s), WEFT_AGAIN); /* what was sent before is gone */
            net[1].cancel(net[1].ctx, &s);
            ck_assert_uint_eq(travel(0, 1), 10);
            /* a worker that comes back has new connections */
            ck_assert_int_eq(weft_sim_disconnect(&sim, 0, 1, 0), 1);
            weft_sim_lose(&sim, 1);
            ck_assert_int_eq(weft_sim_disconnect(&sim, 0, 1, 0), 0);
            weft_sim_revive(&sim, 1);
            ck_assert_uint_eq(sim.cuts, 0);
            ck_assert_uint_eq(travel(0, 1), 10);
            ck_assert_ptr_null(weft_sim_violation(&sim));
            weft_sim_free(&sim);
        }
}
END_TEST

/* ---- crashes, and workers that come late ---- */

/* Worker 0 sends 1, 2, 3, ...; worker 1 adds up, and keeps its sum on a disk now and then. */
typedef struct adder {
    uint32_t next, posted;
    uint64_t sum, got;
    weft_request q;
    uint32_t number;
} adder;

static adder giver, taker;
static struct {
    uint64_t sum, got;
} disk;
static int from_disk, came_up;

static int gives(void *user, uint32_t rank) {
    adder *w = (adder *)user;
    ck_assert_uint_eq(rank, 0);
    if (w->posted && test_of(0, &w->q) == WEFT_AGAIN) return 0;
    w->posted = 0;
    if (weft_sim_now(&sim) < w->sum) return 0; /* when the next is due */
    w->sum = weft_sim_now(&sim) + 100;
    if (w->next == 20) return 1;
    w->number = ++w->next;
    if (send_from(0, 1, 1, &w->number, 4, &w->q) == WEFT_OK) w->posted = 1;
    weft_sim_sleep(&sim, 0, 100);
    return 0;
}

static int takes(void *user, uint32_t rank) {
    adder *w = (adder *)user;
    for (;;) {
        if (w->posted) {
            weft_status s = test_of(rank, &w->q);
            if (s == WEFT_AGAIN) return 0;
            ck_assert_int_eq(s, WEFT_OK);
            w->posted = 0;
            w->sum += w->number;
            if (++w->got % 4 == 0) {
                disk.sum = w->sum;
                disk.got = w->got;
            }
            if (w->number == 20) return 1;
        }
        ck_assert_int_eq(recv_at(1, 0, 1, &w->number, 4, &w->q), WEFT_OK);
        w->posted = 1;
    }
}

static void restart(void *user, uint32_t rank, int alive) {
    ck_assert_ptr_eq(user, &giver);
    ck_assert_uint_eq(rank, 1);
    if (!alive) {
        memset(&taker, 0xEE, sizeof taker); /* the memory of a process that is gone */
        return;
    }
    came_up++;
    memset(&taker, 0, sizeof taker);
    if (from_disk) {
        taker.sum = disk.sum;
        taker.got = disk.got;
    }
    weft_sim_worker(&sim, 1, takes, &taker);
}

static weft_sim_desc adders(void) {
    weft_sim_desc d = plain(2);
    memset(&giver, 0, sizeof giver);
    memset(&taker, 0, sizeof taker);
    memset(&disk, 0, sizeof disk);
    came_up = 0;
    d.latency_ns = 10;
    d.on_change = restart;
    d.user = &giver;
    return d;
}

/* Numbers 1 to 7 arrive before 650; 8 to 10 are sent to nobody; 1 to 4 are on the disk. */
static void crash_and_restart(void) {
    weft_sim_desc d = adders();
    int lose, back;
    set_up(&d);
    lose = weft_sim_lose_at(&sim, 1, 650);
    back = weft_sim_revive_at(&sim, 1, 950);
    weft_sim_worker(&sim, 0, gives, &giver);
    weft_sim_worker(&sim, 1, takes, &taker);
    ck_assert_int_eq(weft_sim_run(&sim, 1000), WEFT_SIM_DONE);
    ck_assert(weft_sim_fired(&sim, lose) == 1 && weft_sim_fired(&sim, back) == 1);
    ck_assert_int_eq(came_up, 1);
    ck_assert_uint_eq(weft_sim_trouble_until(&sim), 950);
    CHECKERS_HAPPENED(&sim);
    weft_sim_free(&sim);
}

START_TEST(crash_and_restart_with_saved_state) {
    from_disk = 1;
    crash_and_restart();
    ck_assert_uint_eq(taker.sum, 1 + 2 + 3 + 4 + 11 + 12 + 13 + 14 + 15 + 16 + 17 + 18 + 19 + 20);
    ck_assert_uint_eq(taker.got, 14);
}
END_TEST

START_TEST(crash_and_restart_without_saved_state) {
    from_disk = 0;
    crash_and_restart();
    ck_assert_uint_eq(taker.sum, 11 + 12 + 13 + 14 + 15 + 16 + 17 + 18 + 19 + 20);
    ck_assert_uint_eq(taker.got, 10);
}
END_TEST

/* It is not there at first, which nobody takes for a loss; and it has no past. */
START_TEST(a_worker_joins_late) {
    weft_sim_desc d = adders();
    weft_request q;
    int join;
    from_disk = 0;
    set_up(&d);
    join = weft_sim_join_at(&sim, 1, 1450);
    ck_assert(!weft_sim_alive(&sim, 1));
    ck_assert_int_eq(recv_at(0, 1, 1, &q, 0, &q), WEFT_ERR_PEER_LOST);
    weft_sim_worker(&sim, 0, gives, &giver);
    weft_sim_worker(&sim, 1, takes, &taker); /* nobody is there to do it */
    ck_assert_int_eq(weft_sim_run(&sim, 1000), WEFT_SIM_DONE);
    ck_assert_uint_eq(weft_sim_fired(&sim, join), 1);
    ck_assert_int_eq(came_up, 1);
    ck_assert_uint_eq(taker.sum, 16 + 17 + 18 + 19 + 20);
    ck_assert_uint_eq(weft_sim_counts_of(&sim, 0)->gone, 0); /* sends to nobody were refused */
    weft_sim_free(&sim);
}
END_TEST

/* ---- replay ---- */

/* The whole file; free it. */
static char *read_all(const char *path) {
    FILE *f = fopen(path, "r");
    char *text = (char *)calloc(1, 1 << 20);
    ck_assert(f && text && fread(text, 1, (1 << 20) - 1, f) > 0);
    fclose(f);
    return text;
}

START_TEST(a_failing_run_can_be_replayed) {
    static const char *const command[3] = {"WEFT_SEED=%s CK_RUN_CASE=net build/test/test_sim",
                                           "build/cluster --seed 4711", "100%d %% of %s or %s"};
    static const char *const line[3] = {"replay: WEFT_SEED=4711 CK_RUN_CASE=net build/test/test_sim\n",
                                        "replay: build/cluster --seed 4711\n", "replay: 100%d %% of 4711 or %s\n"};
    char path[64], *text, *first = NULL;
    weft_check c;
    int i;
    for (i = 0; i < 3; i++) {
        weft_sim_desc d = plain(3);
        static diary w[3];
        uint32_t r;
        FILE *trace = tmpfile();
        char *beside = (char *)calloc(1, 1 << 20);
        memset(w, 0, sizeof w);
        snprintf(path, sizeof path, "/tmp/test_sim-%ld-%d.trace", (long)getpid(), i);
        d.mode = WEFT_SIM_RENDEZVOUS;
        d.latency_ns = 1000;
        d.lossy.loss_ppm = 200000;
        d.seed = 4711;
        d.replay = command[i];
        d.trace_path = path;
        d.trace = trace;
        set_up(&d);
        for (r = 0; r < 3; r++) weft_sim_worker(&sim, r, waits_for_ever, &w[r]);
        ck_assert_int_eq(weft_sim_run(&sim, 100), WEFT_SIM_DEADLOCK);
        ck_assert_ptr_nonnull(strstr(weft_sim_text(&sim), "deadlock at "));
        ck_assert_ptr_nonnull(strstr(weft_sim_text(&sim), "seed 4711"));
        ck_assert_msg(strstr(weft_sim_text(&sim), line[i]) != NULL, "%s", weft_sim_text(&sim));
        weft_check_begin(&c, &sim); /* a check that fails names both, too */
        ck_assert(!weft_check_fail(&c, "no good"));
        ck_assert_ptr_nonnull(strstr(c.why, "seed 4711 at "));
        ck_assert_ptr_nonnull(strstr(c.why, "ns: no good; replay: "));
        weft_sim_free(&sim);
        text = read_all(path);
        remove(path);
        rewind(trace);
        ck_assert_uint_gt(fread(beside, 1, (1 << 20) - 1, trace), 0);
        fclose(trace);
        ck_assert_str_eq(text, beside);
        ck_assert_ptr_nonnull(strstr(beside, "seed 4711 workers 3\n"));
        ck_assert_ptr_nonnull(strstr(beside, " send 0 2 tag 77 6\n"));
        free(beside);
        if (!first) first = text;
        else ck_assert_str_eq(first, text); /* the same seed, the same bytes */
        if (text != first) free(text);
    }
    free(first);
    {
        weft_sim_desc d = plain(2);
        d.trace_path = "/no/such/folder/trace";
        ck_assert_int_eq(weft_sim_init(&sim, &d), WEFT_ERR_ARGUMENT);
    }
}
END_TEST

START_TEST(the_environment_gives_seed_and_trace) {
    weft_sim_desc d = plain(2);
    unsetenv("WEFT_SEED");
    unsetenv("WEFT_TRACE");
    d.seed = 3;
    ck_assert_int_eq(checkers_replay(&d, "WEFT_SEED=%s x"), 0);
    ck_assert_uint_eq(d.seed, 3);
    ck_assert_ptr_null(d.trace_path);
    setenv("WEFT_SEED", "18446744073709551615", 1);
    setenv("WEFT_TRACE", "trace.txt", 1);
    ck_assert_int_eq(checkers_replay(&d, "WEFT_SEED=%s x"), 1);
    ck_assert_uint_eq(d.seed, UINT64_MAX);
    ck_assert_str_eq(d.trace_path, "trace.txt");
    ck_assert_str_eq(d.replay, "WEFT_SEED=%s x");
    unsetenv("WEFT_SEED");
    unsetenv("WEFT_TRACE");
}
END_TEST

/* ---- what has happened ---- */

START_TEST(what_has_not_happened_is_named) {
    weft_sim_desc d = plain(2);
    unsigned char byte = 0, in;
    weft_request q;
    uint32_t k;
    set_up(&d);
    ck_assert_ptr_null(weft_sim_missing(&sim));
    weft_sim_corrupt(&sim, 0, 1, 8, 1, 0, 1);
    weft_sim_fail_call(&sim, WEFT_SIM_SEND, 1, 2, WEFT_ERR_TRANSPORT);
    ck_assert_str_eq(weft_sim_missing(&sim), "a byte changed");
    ck_assert_int_eq(send_from(0, 1, 8, &byte, 1, &q), WEFT_OK);
    ck_assert_str_eq(weft_sim_missing(&sim), "a call that fails");
    ck_assert_int_eq(send_from(1, 0, 8, &byte, 1, &q), WEFT_OK);
    ck_assert_int_eq(send_from(1, 0, 8, &byte, 1, &q), WEFT_ERR_TRANSPORT);
    ck_assert_ptr_null(weft_sim_missing(&sim));
    ck_assert_uint_eq(weft_sim_happened(&sim, WEFT_SIM_FAULT_CALL), 1);
    ck_assert_uint_eq(weft_sim_happened(&sim, WEFT_SIM_FAULT_XOR), 1);
    ck_assert_uint_eq(weft_sim_happened(&sim, WEFT_SIM_FAULT_DROP), 0);
    weft_sim_free(&sim);
    d.coy = 1000000;
    set_up(&d);
    ck_assert_str_eq(weft_sim_missing(&sim), "a coy test");
    weft_sim_free(&sim);
    d.coy = 0;
    d.lossy.loss_ppm = 1;
    set_up(&d);
    ck_assert_int_eq(recv_at(1, 0, 8, &in, 1, &q), WEFT_OK);
    ck_assert_str_eq(weft_sim_missing(&sim), "a packet lost");
    weft_sim_free(&sim);
    for (k = 0; k < WEFT_SIM_KINDS; k++) ck_assert_uint_gt(strlen(weft_sim_kind_name((weft_sim_kind)k)), 5);
    ck_assert_str_eq(weft_sim_kind_name(WEFT_SIM_FAULT_CUT), "a connection cut");
    ck_assert_str_eq(weft_sim_kind_name(WEFT_SIM_STRAGGLED), "a transient straggler");
    ck_assert_str_eq(weft_sim_kind_name(WEFT_SIM_KINDS), "nothing");
}
END_TEST

/* Every kind of torture leaves its mark. */
START_TEST(torture_leaves_marks) {
    uint64_t seed;
    weft_sim_desc d;
    memset(happened, 0, sizeof happened);
    for (seed = 0; seed < 10; seed++) {
        d = weft_sim_torture(seed, 3);
        talk_all(&d, 5);
    }
    ck_assert_uint_gt(happened[WEFT_SIM_COY], 100);
    ck_assert_uint_gt(happened[WEFT_SIM_SPURIOUS], 100);
    ck_assert_uint_gt(happened[WEFT_SIM_SHUFFLED], 100);
    ck_assert_uint_gt(happened[WEFT_SIM_OVERTAKEN], 100);
    ck_assert_uint_eq(happened[WEFT_SIM_FAULT_LOSE], 0);
}
END_TEST

int main(void) {
    Suite *s = suite_create("sim");
    TCase *t = tcase_create("runs");
    SRunner *runner;
    int failed;
    tcase_set_timeout(t, 30);
    tcase_add_test(t, same_seed_same_run);
    tcase_add_test(t, known_seeds);
    tcase_add_test(t, own_draws_are_apart);
    tcase_add_test(t, latency_and_bandwidth);
    tcase_add_test(t, when_a_send_is_over);
    tcase_add_test(t, sleeping_and_computing);
    tcase_add_test(t, deadlock_is_described);
    tcase_add_test(t, steps_are_bounded);
    tcase_add_test(t, blocking_inside_a_step);
    tcase_add_test(t, messages_are_counted);
    tcase_add_test(t, many_workers);
    suite_add_tcase(s, t);
    t = tcase_create("faults");
    tcase_set_timeout(t, 30);
    tcase_add_test(t, a_chosen_call_fails);
    tcase_add_test(t, a_call_fails_several_times);
    tcase_add_test(t, messages_are_tampered_with);
    tcase_add_test(t, a_message_is_dropped);
    tcase_add_test(t, messages_are_injected);
    tcase_add_test(t, links_are_delayed_clogged_and_parted);
    tcase_add_test(t, a_worker_is_lost_at_a_message);
    tcase_add_test(t, lost_noticed_and_revived);
    tcase_add_test(t, loss_ends_a_wait);
    tcase_add_loop_test(t, loss_at_every_message, 0, 2);
    tcase_add_test(t, cancelled_sends_come_or_not);
    tcase_add_test(t, a_coy_transport_wakes_again);
    tcase_add_test(t, breaches_are_noticed);
    suite_add_tcase(s, t);
    t = tcase_create("net");
    tcase_set_timeout(t, 30);
    tcase_add_test(t, lossy_links_keep_the_contract);
    tcase_add_test(t, known_seeds_of_lossy_links);
    tcase_add_test(t, what_is_lost_is_sent_again);
    tcase_add_test(t, losses_change);
    tcase_add_test(t, answers_are_lost);
    tcase_add_test(t, three_answers_show_a_hole);
    tcase_add_test(t, packets_take_their_time);
    tcase_add_loop_test(t, a_long_message_over_a_bad_link, 0, 2);
    tcase_add_test(t, one_bad_link_among_good_ones);
    tcase_add_test(t, a_peer_is_given_up);
    tcase_add_test(t, hopeless_retries_are_a_deadlock);
    tcase_add_test(t, flows_overtake_each_other);
    tcase_add_test(t, a_partition_in_both_directions_heals);
    tcase_add_test(t, a_partition_in_one_direction_heals);
    tcase_add_test(t, a_lossy_link_is_clogged_and_delayed);
    tcase_add_test(t, a_connection_is_cut);
    tcase_add_test(t, crash_and_restart_with_saved_state);
    tcase_add_test(t, crash_and_restart_without_saved_state);
    tcase_add_test(t, a_worker_joins_late);
    tcase_add_test(t, a_failing_run_can_be_replayed);
    tcase_add_test(t, the_environment_gives_seed_and_trace);
    tcase_add_test(t, what_has_not_happened_is_named);
    tcase_add_test(t, torture_leaves_marks);
    suite_add_tcase(s, t);
    runner = srunner_create(s);
    srunner_run_all(runner, CK_NORMAL);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
