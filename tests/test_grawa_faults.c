/* SPDX-License-Identifier: MIT
 * GRAWA when things fail: every callback failing in turn, workers lost at every message, coming back, leaving, hostile
 * bytes, non-finite numbers, time-outs. The fleet's oracle looks at the parameters after every verb. */
#define GRAWA_IMPLEMENTATION
#include "../grawa.h"
#include "fleet.h"

#include <check.h>

/* Variants of the same run: bits. CHUNKS: of a bulk exchange, several. */
enum { TOTAL = 1, PROXIMAL = 2, PROBE = 4, PARTIAL = 8, BY_LAYER = 16, BULK = 32, CHUNKS = 64, VARIANTS = 128 };

static const size_t small_count[3] = {7, 0, 3}, bulk_count[3] = {300, 0, 133};

static fleet_desc variant(uint64_t seed, uint32_t workers, int bits) {
    fleet_desc d = fleet_default(seed, workers);
    uint32_t r;
    if (bits & TOTAL) d.grawa.trigger = GRAWA_TRIGGER_TOTAL;
    if (bits & PROXIMAL) d.grawa.proximal = 0.25;
    if (bits & PROBE) d.grawa.source = GRAWA_SOURCE_PROBE;
    if (bits & PARTIAL) d.grawa.partial_deadline_ns = 4000;
    if (bits & BY_LAYER) d.grawa.weighting = GRAWA_BY_LAYER;
    d.count = small_count;
    if (bits & BULK) {
        d.count = bulk_count;
        d.grawa.algorithm = WEFT_ALGORITHM_DIRECT;
    }
    if (bits & CHUNKS) d.chunk = 256;
    d.grawa.period_steps = 2;
    d.step_ns[0] = 3000;
    d.step_ns[1] = bits & (TOTAL | PARTIAL) ? 9000 : 2500;
    d.step_ns[2] = 4000;
    d.step_ns[3] = 3500;
    for (r = 0; r < FLEET_MOST; r++) d.view_ns[r] = (seed / 4 + r) % 3 * 1700;
    d.sim.mode = (weft_sim_mode)(seed % 4);
    d.sim.eager_bytes = 100;
    return d;
}

/* Two more rounds with whoever is there, and the end. */
static void train_on(fleet *f, const char *what, uint64_t k) {
    uint64_t round = 0;
    uint32_t r;
    int ok;
    for (r = 0; r < f->size; r++)
        if (f->worker[r].g && weft_sim_alive(&f->sim, r) && f->worker[r].g->round > round)
            round = f->worker[r].g->round;
    ok = fleet_run(f, round + 2);
    if (ok) fleet_agree(f);
    ok = fleet_close(f);
    ck_assert_msg(ok, "%s %llu: %s", what, (unsigned long long)k, f->why);
}

static uint64_t errors_of(const fleet *f) {
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
        fleet_desc d = variant((uint64_t)bits, n, bits);
        fleet f;
        int ok = fleet_open(&f, &d) && fleet_run(&f, 4) && fleet_agree(&f);
        ck_assert_msg(ok, "%u workers, variant %d: %s", n, bits, f.why);
        ck_assert_uint_eq(errors_of(&f), 0);
        if (!(bits & PARTIAL)) ck_assert_uint_eq(f.commits_checked, 4 * n);
        ck_assert_msg(fleet_close(&f), "%u workers, variant %d: %s", n, bits, f.why);
    }
}
END_TEST

/* ---- (a) every callback fails in turn ---- */

START_TEST(every_call_fails) {
    static const int bits_of[7] = {0, PROXIMAL, PROBE, TOTAL, PARTIAL | BY_LAYER, BULK, BULK | CHUNKS};
    static const weft_status status_of[2] = {WEFT_ERR_TRANSPORT, WEFT_ERR_PEER_LOST};
    uint32_t n = 2 + (uint32_t)_i % 3;
    int bits = bits_of[_i / 3], call, s;
    uint64_t total = 0;
    for (call = WEFT_SIM_SEND; call <= WEFT_SIM_TEST; call++)
        for (s = 0; s < 2; s++) {
            uint64_t k, stride = call == WEFT_SIM_TEST ? 3 : 1, fired = 1;
            for (k = 1; fired; k += stride) {
                uint32_t rank = (uint32_t)(k / stride + (uint64_t)s) % n;
                fleet_desc d = variant(k, n, bits);
                fleet f;
                int fault, ok = fleet_open(&f, &d);
                fault = weft_sim_fail_call(&f.sim, (weft_sim_call)call, rank, k, status_of[s]);
                ok = ok && fleet_run(&f, 2) && fleet_agree(&f);
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
                    ck_assert_msg(fleet_close(&f), "%s", f.why);
                }
            }
        }
    ck_assert_uint_gt(total, 40);
}
END_TEST

/* ---- (b) a worker is lost before or after every message ---- */

START_TEST(lost_at_every_message) {
    /* every trigger, source and so on alone, and some of them together */
    static const int bits_of[10] = {0,
                                    TOTAL,
                                    PROXIMAL,
                                    PROBE,
                                    PARTIAL,
                                    BULK,
                                    TOTAL | PROBE,
                                    TOTAL | PARTIAL | PROXIMAL,
                                    BULK | BY_LAYER | PROXIMAL,
                                    BULK | CHUNKS};
    uint32_t n = 2 + (uint32_t)_i % 3;
    int bits = bits_of[_i / 3], after;
    uint64_t k, total = 0, fired = 1;
    for (k = 1; fired; k++)
        for (after = 0; after < 2; after++) {
            uint32_t rank = (uint32_t)(k + k / n) % n, r;
            uint64_t said = 0;
            fleet_desc d = variant(k, n, bits);
            fleet f;
            int fault, ok;
            d.deaf = (int)(k & 1);
            ok = fleet_open(&f, &d);
            fault = weft_sim_lose_at_message(&f.sim, rank, k, after);
            ok = ok && fleet_run(&f, 3) && fleet_agree(&f);
            ck_assert_msg(ok, "%u workers, variant %d, worker %u lost %s message %llu: %s", n, bits, rank,
                          after ? "after" : "before", (unsigned long long)k, f.why);
            fired = weft_sim_fired(&f.sim, fault);
            if (!fired) {
                ck_assert_msg(fleet_close(&f), "%s", f.why);
                continue;
            }
            for (r = 0; r < n; r++) {
                if (r == rank) continue;
                said += f.worker[r].lost_errors;
                ck_assert_uint_ge(f.worker[r].regroups, 1);
                ck_assert_uint_eq(f.worker[r].g->group.members, n - 1);
                if (f.worker[r].lost_errors) ck_assert_uint_eq(f.worker[r].last_detail.peer, rank);
            }
            ck_assert_uint_ge(said, 1);
            total++;
            train_on(&f, "message", k);
        }
    ck_assert_uint_gt(total, 20);
}
END_TEST

/* The host hears of the loss first, and says so. */
START_TEST(host_says_lost) {
    uint64_t k, fired = 1;
    for (k = 1; fired; k += 3) {
        fleet_desc d = variant(k, 3, _i);
        fleet f;
        int fault, ok;
        uint32_t r;
        d.sim.detect_ns = 1000000000; /* the transport notices much later */
        ok = fleet_open(&f, &d);
        fault = weft_sim_lose_at_message(&f.sim, 1, k, 0);
        f.target = 3;
        fleet_wake(&f);
        weft_sim_advance(&f.sim, 100000000); /* whatever is possible without worker 1 */
        fired = weft_sim_fired(&f.sim, fault);
        ck_assert_msg(ok && !f.why[0], "%s", f.why);
        if (fired) {
            for (r = 0; r < 3; r += 2) {
                fleet_worker *w = &f.worker[r];
                ck_assert_int_eq(grawa_peer_lost(w->g, 1), WEFT_OK);
                ck_assert_int_eq(grawa_peer_lost(w->g, 1), WEFT_OK); /* twice is as good */
                ck_assert_int_eq(grawa_poll(w->g), WEFT_ERR_PEER_LOST);
                ck_assert_uint_eq(grawa_detail(w->g)->peer, 1);
                fleet_look(w, "grawa_poll after a loss");
            }
            fleet_new_view(&f);
        }
        ck_assert_msg(fleet_run(&f, 3) && fleet_agree(&f), "message %llu: %s", (unsigned long long)k, f.why);
        train_on(&f, "host, message", k);
    }
    ck_assert_uint_gt(k, 30);
}
END_TEST

/* ---- (c) a lost worker comes back ---- */

START_TEST(comes_back) {
    static const int bits_of[5] = {0, TOTAL | PROXIMAL, PROBE, PARTIAL, BULK | BY_LAYER};
    int bits = bits_of[_i];
    uint32_t n, rank;
    uint64_t k;
    for (n = 2; n <= 4; n++)
        for (rank = 0; rank < n; rank++)
            for (k = 7; k < 60; k += 11) {
                fleet_desc d = variant(k, n, bits);
                fleet f;
                int fault, ok = fleet_open(&f, &d);
                uint64_t checked;
                fault = weft_sim_lose_at_message(&f.sim, rank, k, 0);
                ok = ok && fleet_run(&f, 2);
                ck_assert_msg(ok, "%s", f.why);
                if (!weft_sim_fired(&f.sim, fault)) {
                    f.sim.fault[fault].nth = 0; /* not later, either */
                    weft_sim_lose(&f.sim, rank);
                }
                ok = fleet_run(&f, 3) && fleet_agree(&f) && fleet_rejoin(&f, rank);
                checked = f.commits_checked;
                ok = ok && fleet_run(&f, 5) && fleet_agree(&f);
                ck_assert_msg(ok, "variant %d, %u workers, worker %u comes back: %s", bits, n, rank, f.why);
                ck_assert_uint_eq(f.worker[rank].g->round, 5);
                if (!(bits & PARTIAL)) {
                    ck_assert_uint_eq(f.worker[rank].commits, 2);
                    ck_assert(!f.worker[rank].fresh); /* the oracle has seen it take over the center */
                    ck_assert_uint_eq(f.commits_checked - checked, 2 * n);
                    ck_assert_uint_eq(f.worker[rank].participants[1], n);
                }
                train_on(&f, "back", k);
            }
}
END_TEST

static void back_at_once(void *user, uint32_t rank, int alive) {
    fleet *f = (fleet *)user;
    if (alive) fleet_rejoin(f, rank);
}

/* It comes back at any moment, as a rule in the middle of a round of the others, who may not have regrouped yet. */
START_TEST(comes_back_at_any_time) {
    uint64_t k, at;
    for (k = 1; k < 40; k++) {
        fleet_desc d = variant(k, 3, _i);
        fleet f;
        int ok, fault;
        d.sim.on_change = back_at_once;
        d.sim.user = &f;
        d.sim.detect_ns = k % 3 * 1500;
        ok = fleet_open(&f, &d) && fleet_run(&f, 2);
        at = f.sim.now;
        weft_sim_lose_at(&f.sim, (uint32_t)(k % 3), at + 1000 + k * 311);
        fault = weft_sim_revive_at(&f.sim, (uint32_t)(k % 3), at + 1000 + k * 311 + k * k % 29 * 400);
        ok = ok && fleet_run(&f, 6) && fleet_agree(&f);
        ck_assert_msg(ok, "%llu: %s", (unsigned long long)k, f.why);
        ck_assert_uint_eq(weft_sim_fired(&f.sim, fault), 1);
        train_on(&f, "back", k);
    }
}
END_TEST

/* ---- (d) a second loss while the first is being settled ---- */

START_TEST(cascaded) {
    static const int bits_of[4] = {0, TOTAL | PROXIMAL, PARTIAL, BULK | PROBE};
    int bits = bits_of[_i];
    uint64_t k, j, second = 0;
    for (k = 3; k < 90; k += 5)
        for (j = 1; j <= 12; j++) {
            uint32_t a = (uint32_t)(k % 4), b = (uint32_t)((k + 1 + j % 3) % 4);
            fleet_desc d = variant(k + j, 4, bits);
            fleet f;
            int one, two, ok = fleet_open(&f, &d);
            one = weft_sim_lose_at_message(&f.sim, a, k, (int)(j & 1));
            two = weft_sim_lose_at_message(&f.sim, b, k + j, (int)(j & 2));
            ok = ok && fleet_run(&f, 3) && fleet_agree(&f);
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
    fleet_desc d = variant(5, 4, _i);
    fleet f;
    int ok = fleet_open(&f, &d) && fleet_run(&f, 1);
    weft_sim_lose(&f.sim, 0);
    ok = ok && fleet_run(&f, 2);
    weft_sim_lose(&f.sim, 3);
    ok = ok && fleet_run(&f, 3);
    weft_sim_lose(&f.sim, 1);
    ok = ok && fleet_run(&f, 5);
    ck_assert_msg(ok, "%s", f.why);
    ck_assert_uint_eq(f.worker[2].g->group.members, 1);
    train_on(&f, "alone", 0);
}
END_TEST

/* ---- (e) good-byes ---- */

START_TEST(leaves) {
    static const int bits_of[6] = {0, TOTAL, PROBE, PARTIAL, PARTIAL | TOTAL, BULK};
    int bits = bits_of[_i];
    uint32_t n, rank, step, other;
    for (n = 1; n <= 4; n++)
        for (rank = 0; rank < n; rank++)
            for (step = 1; step <= 5; step++)
                for (other = 0; other < 3; other++) {
                    fleet_desc d = variant(step + 7 * rank, n, bits);
                    fleet f;
                    int ok;
                    d.leave_step[rank] = step;
                    if (other && n > 1)
                        d.leave_step[(rank + 1) % n] = step + (other - 1); /* and another one, then or later */
                    ok = fleet_open(&f, &d) && fleet_run(&f, 4) && fleet_agree(&f);
                    ck_assert_msg(ok, "variant %d, %u workers, worker %u leaves after step %u: %s", bits, n, rank, step,
                                  f.why);
                    ck_assert_uint_eq(errors_of(&f), 0);
                    ck_assert(f.worker[rank].left || f.worker[rank].doing == FLEET_RESTS);
                    train_on(&f, "leave", step);
                }
}
END_TEST

/* Good-bye as the first word, by one or by all; and after the last round while others are still in it. */
START_TEST(leaves_at_once) {
    uint32_t n, mask, r;
    for (n = 1; n <= 3; n++)
        for (mask = 1; mask < 1u << n; mask++) {
            cluster_desc d = cluster_default(mask, n);
            size_t count[1] = {4};
            cluster c;
            d.tensors = 1;
            d.count = count;
            d.grawa.period_steps = 1;
            ck_assert_msg(cluster_open(&c, &d), "%s", c.why);
            for (r = 0; r < n; r++) {
                cluster_worker *w = &c.worker[r];
                w->status = mask >> r & 1 ? grawa_leave(w->g) : grawa_start(w->g);
            }
            ck_assert_msg(cluster_settle(&c) && cluster_fine(&c, "leave or start"), "%s", c.why);
            for (r = 0; r < n; r++) {
                cluster_worker *w = &c.worker[r];
                ck_assert_int_eq(grawa_state(w->g) == 0, mask >> r & 1);
                w->status = mask >> r & 1 ? WEFT_OK : grawa_step(w->g, w->c->desc.train(w));
            }
            ck_assert_msg(cluster_settle(&c) && cluster_fine(&c, "step of those who stay"), "%s", c.why);
            ck_assert_msg(cluster_close(&c), "%s", c.why);
        }
}
END_TEST

/* Leaving and losing at once: the good-bye of one, and the loss of another at every message. */
START_TEST(leaves_and_losses) {
    uint64_t k, fired = 1, total = 0;
    for (k = 1; fired; k += 2) {
        fleet_desc d = variant(k, 4, _i);
        fleet f;
        int fault, ok;
        d.leave_step[k / 2 % 4] = 3;
        ok = fleet_open(&f, &d);
        fault = weft_sim_lose_at_message(&f.sim, (uint32_t)(k / 2 + 1 + k % 3) % 4, k, 1);
        ok = ok && fleet_run(&f, 3) && fleet_agree(&f);
        ck_assert_msg(ok, "variant %d, message %llu: %s", _i, (unsigned long long)k, f.why);
        fired = weft_sim_fired(&f.sim, fault);
        total += fired;
        train_on(&f, "leave and loss", k);
    }
    ck_assert_uint_gt(total, 20);
}
END_TEST

/* ---- (f) hostile bytes ---- */

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

static fleet_desc hostile_run(int bits, uint32_t n) {
    fleet_desc d = variant(3, n, bits);
    d.sim.mode = WEFT_SIM_THRESHOLD;
    d.policy = FLEET_STOP;
    d.grawa.timeout_ns = 60000;
    return d;
}

/* All messages of the run that the hostile ones are made from. */
static void capture_run(int bits, uint32_t n, uint64_t rounds) {
    fleet_desc d = hostile_run(bits, n);
    fleet f;
    memset(&seen, 0, sizeof seen);
    d.sim.on_message = remember;
    ck_assert_msg(fleet_open(&f, &d) && fleet_run(&f, rounds) && fleet_close(&f), "%s", f.why);
    ck_assert_uint_gt(seen.count, 2 * n);
    ck_assert_uint_lt(seen.count, sizeof seen.item / sizeof seen.item[0]);
}

static int is_control(const captured *m) {
    return m->tag % WEFT_TAGS_PER_CHANNEL == 0;
}

/* Whatever happened: it is over within a bound, every worker is done or has an error, nothing non-finite has got in. */
static void survive(fleet *f, uint64_t rounds, const char *what, size_t message, uint64_t which) {
    uint32_t r;
    int ok = fleet_run(f, rounds);
    ck_assert_msg(ok, "%s, message %zu, %llu: %s", what, message, (unsigned long long)which, f->why);
    for (r = 0; r < f->size; r++)
        ck_assert_msg(fleet_finite(f->worker[r].kept, f->elements),
                      "%s, message %zu, %llu: worker %u has got non-finite numbers", what, message,
                      (unsigned long long)which, r);
}

/* A flip of any bit is noticed: the checksum covers all of a control message, and the oracle holds. */
START_TEST(every_control_byte_flipped) {
    static const int bits_of[3] = {0, TOTAL, PARTIAL | PROBE};
    size_t i, at;
    int bits = bits_of[_i];
    capture_run(bits, 2, 2);
    for (i = 0; i < seen.count; i++) {
        const captured *m = &seen.item[i];
        if (!is_control(m)) continue;
        for (at = 0; at < m->bytes; at++) {
            fleet_desc d = hostile_run(bits, 2);
            fleet f;
            int fault, ok = fleet_open(&f, &d);
            weft_status s;
            ck_assert_msg(ok, "%s", f.why);
            fault = weft_sim_corrupt(&f.sim, m->src, m->dst, m->tag, m->nth, at, 1u << (at + i) % 8);
            survive(&f, 2, "flip", i, at);
            ck_assert_uint_eq(weft_sim_fired(&f.sim, fault), 1);
            s = f.worker[m->dst].stopped_by;
            ck_assert_msg(s == WEFT_ERR_CHECKSUM || s == WEFT_ERR_PROTOCOL || s == WEFT_ERR_VERSION,
                          "flip of byte %zu of message %zu: worker %u says %s", at, i, m->dst, weft_strerror(s));
            ck_assert_uint_eq(f.worker[m->dst].last_detail.peer, m->src);
            ck_assert_ptr_nonnull(f.worker[m->dst].last_detail.field);
            ck_assert_msg(fleet_close(&f), "%s", f.why);
        }
    }
}
END_TEST

/* Every control message cut or drawn out to every length. */
START_TEST(every_control_length) {
    size_t i, bytes;
    capture_run(0, 2, 1);
    for (i = 0; i < seen.count; i++) {
        const captured *m = &seen.item[i];
        if (!is_control(m)) continue;
        for (bytes = 0; bytes <= 270; bytes += bytes < 70 ? 1 : 9) {
            fleet_desc d = hostile_run(0, 2);
            fleet f;
            int fault, ok = fleet_open(&f, &d);
            weft_status s;
            if (bytes == m->bytes) {
                ck_assert_msg(fleet_close(&f), "%s", f.why);
                continue;
            }
            ck_assert_msg(ok, "%s", f.why);
            fault = weft_sim_resize(&f.sim, m->src, m->dst, m->tag, m->nth, bytes);
            survive(&f, 1, "length", i, bytes);
            ck_assert_uint_eq(weft_sim_fired(&f.sim, fault), 1);
            s = f.worker[m->dst].stopped_by;
            ck_assert_msg(s == WEFT_ERR_CHECKSUM || s == WEFT_ERR_PROTOCOL,
                          "length %zu of message %zu: worker %u says %s", bytes, i, m->dst, weft_strerror(s));
            ck_assert_msg(fleet_close(&f), "%s", f.why);
        }
    }
}
END_TEST

/* The k-th lie about a header, with a checksum that fits; 0 if there are no more. */
static int lie(weft_header *h, unsigned char *payload, uint32_t n, unsigned k) {
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
    if (k < 6) { /* another length */
        h->payload = (uint32_t)(k == 0   ? 0
                                : k == 1 ? 4
                                : k == 2 ? WEFT_INLINE_BYTES
                                : k == 3 ? h->payload / 2
                                : k == 4 ? 8
                                         : n);
        return 1;
    }
    k -= 6;
    if (h->payload && k < 6) { /* other contents */
        static const float bad[6] = {NAN, INFINITY, -INFINITY, -1.0f, 0.0f, 3.4e38f};
        for (i = 0; i + 4 <= h->payload; i += 4) memcpy(payload + i, &bad[k], 4);
        return 1;
    }
    if (h->payload) k -= 6;
    if (h->payload && k < h->payload) {
        payload[k] = (unsigned char)~payload[k];
        return 1;
    }
    return 0;
}

START_TEST(lies_with_a_checksum) {
    static const int bits_of[5] = {0, TOTAL, PARTIAL, BULK | PROBE, BULK | PARTIAL | TOTAL};
    int bits = bits_of[_i % 5];
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
            fleet_desc d = hostile_run(bits, 2);
            fleet f;
            int fault, never;
            memcpy(bytes, m->data, sizeof bytes);
            ck_assert_int_eq(weft_header_read(bytes, m->bytes, m->src, &h, &why), WEFT_OK);
            if (!lie(&h, bytes + WEFT_HEADER_BYTES, 2, k)) break;
            length = weft_header_write(bytes, &h);
            /* these cannot be right at any moment */
            never = h.sender != m->src || h.kind == 0 || h.kind > WEFT_KIND_LAST || h.big_endian > 1;
            d.no_oracle = 1;
            d.grawa.check_replicas = _i >= 5;
            ck_assert_msg(fleet_open(&f, &d), "%s", f.why);
            fault = weft_sim_replace(&f.sim, m->src, m->dst, m->tag, m->nth, bytes, length);
            survive(&f, 1, "lie", i, k);
            ck_assert_uint_eq(weft_sim_fired(&f.sim, fault), 1);
            if (never) ck_assert_int_eq(f.worker[m->dst].stopped_by, WEFT_ERR_PROTOCOL);
            errors += errors_of(&f) > 0;
            harmless += errors_of(&f) == 0;
            ck_assert_msg(fleet_close(&f), "%s", f.why);
        }
    }
    ck_assert_uint_gt(errors, 200);
    ck_assert_uint_gt(harmless, 1); /* an unused field, an older epoch and the like */
}
END_TEST

/* The header and the transport do not agree on how long a message is; the checksum fits what has come. */
START_TEST(two_lengths) {
    size_t i, total = 0;
    int k;
    capture_run(0, 2, 1);
    for (i = 0; i < seen.count; i++)
        for (k = -8; k <= 8; k += 4) {
            const captured *m = &seen.item[i];
            unsigned char bytes[WEFT_CONTROL_BYTES];
            fleet_desc d = hostile_run(0, 2);
            fleet f;
            uint32_t payload = (uint32_t)(m->bytes - WEFT_HEADER_BYTES), crc;
            int b;
            if (!is_control(m) || k == 0) continue;
            memcpy(bytes, m->data, sizeof bytes);
            payload += (uint32_t)k;
            for (b = 0; b < 4; b++) {
                bytes[56 + b] = (unsigned char)(payload >> (8 * b));
                bytes[60 + b] = 0;
            }
            crc = weft_crc32c(0, bytes, m->bytes);
            for (b = 0; b < 4; b++) bytes[60 + b] = (unsigned char)(crc >> (8 * b));
            ck_assert_msg(fleet_open(&f, &d), "%s", f.why);
            weft_sim_replace(&f.sim, m->src, m->dst, m->tag, m->nth, bytes, m->bytes);
            survive(&f, 1, "two lengths", i, (uint64_t)payload);
            ck_assert_int_eq(f.worker[m->dst].stopped_by, WEFT_ERR_PROTOCOL);
            ck_assert_str_eq(f.worker[m->dst].last_detail.field, "header.payload");
            ck_assert_msg(fleet_close(&f), "%s", f.why);
            total++;
        }
    ck_assert_uint_gt(total, 10);
}
END_TEST

/* A worker on a machine of the other byte order: everything it sends is turned, and says so. The bits are those of the
 * oracle. */
static void turn_around(void *user, const weft_sim_message *m) {
    fleet *f = (fleet *)user;
    unsigned char bytes[4096];
    if (m->src != 1) return;
    ck_assert_uint_le(m->bytes, sizeof bytes);
    memcpy(bytes, m->data, m->bytes);
    if (m->tag % WEFT_TAGS_PER_CHANNEL == 0) {
        weft_header h;
        weft_detail why;
        ck_assert_int_eq(weft_header_read(bytes, m->bytes, 1, &h, &why), WEFT_OK);
        h.big_endian = !weft_big_endian();
        if (h.kind == WEFT_KIND_EXCHANGE) weft_swap(bytes + WEFT_HEADER_BYTES, h.payload, 4);
        weft_header_write(bytes, &h);
    } else {
        weft_swap(bytes, m->bytes, 4);
    }
    weft_sim_replace(&f->sim, m->src, m->dst, m->tag, 1, bytes, m->bytes);
}

START_TEST(other_byte_order) {
    static const int bits_of[5] = {0, BULK | BY_LAYER, TOTAL | PROBE, PARTIAL | BULK, BULK | CHUNKS};
    fleet_desc d = variant(1, 3, bits_of[_i]);
    fleet f;
    d.sim.on_message = turn_around;
    d.sim.user = &f;
    ck_assert_msg(fleet_open(&f, &d) && fleet_run(&f, 3) && fleet_agree(&f), "%s", f.why);
    ck_assert_uint_eq(errors_of(&f), 0);
    ck_assert_uint_ge(f.commits_checked, 5);
    ck_assert_msg(fleet_close(&f), "%s", f.why);
}
END_TEST

/* A stranger's message, or a repeated one, between any two. */
START_TEST(messages_out_of_place) {
    size_t i, j;
    int bits = _i;
    capture_run(bits, 3, 1);
    for (i = 0; i < seen.count; i++)
        for (j = 0; j < seen.count; j += 3) {
            const captured *m = &seen.item[j];
            fleet_desc d = hostile_run(bits, 3);
            fleet f;
            int fault;
            d.no_oracle = 1;
            if (!is_control(m)) continue;
            ck_assert_msg(fleet_open(&f, &d), "%s", f.why);
            fault = weft_sim_inject(&f.sim, i, m->src, m->dst, m->tag, m->data, m->bytes);
            survive(&f, 1, "out of place", i, j);
            if (i) ck_assert_uint_eq(weft_sim_fired(&f.sim, fault), 1);
            ck_assert_msg(fleet_close(&f), "%s", f.why);
        }
}
END_TEST

/* Bulk messages of a wrong length: an error that names it, parameters untouched. */
START_TEST(bulk_of_wrong_length) {
    size_t i;
    uint64_t k, total = 0;
    static const size_t length[] = {0, 1, 63, 64, 100, 4000};
    const int bits = _i ? BULK | CHUNKS : BULK;
    capture_run(bits, 3, 1);
    for (i = 0; i < seen.count; i++)
        for (k = 0; k < sizeof length / sizeof length[0]; k++) {
            const captured *m = &seen.item[i];
            fleet_desc d = hostile_run(bits, 3);
            fleet f;
            int fault;
            if (is_control(m) || m->bytes == length[k]) continue;
            ck_assert_msg(fleet_open(&f, &d), "%s", f.why);
            fault = weft_sim_resize(&f.sim, m->src, m->dst, m->tag, m->nth, length[k]);
            survive(&f, 1, "bulk length", i, k);
            ck_assert_uint_eq(weft_sim_fired(&f.sim, fault), 1);
            ck_assert_int_eq(f.worker[m->dst].stopped_by, WEFT_ERR_PROTOCOL);
            ck_assert_uint_eq(f.worker[m->dst].last_detail.peer, m->src);
            ck_assert_uint_eq(f.worker[m->dst].last_detail.expected, m->bytes);
            ck_assert_uint_eq(f.worker[m->dst].last_detail.got, length[k]);
            ck_assert_uint_eq(f.commits_checked, 0);
            ck_assert_msg(fleet_close(&f), "%s", f.why);
            total++;
        }
    ck_assert_uint_gt(total, 20);
}
END_TEST

/* Non-finite numbers in bulk never reach anybody's parameters, whatever the guard, the algorithm and the place. */
START_TEST(bulk_not_finite) {
    static const weft_algorithm algorithm_of[4] = {WEFT_ALGORITHM_DIRECT, WEFT_ALGORITHM_GATHER, WEFT_ALGORITHM_RING,
                                                   WEFT_ALGORITHM_DOUBLING};
    static const float bad[3] = {NAN, INFINITY, -INFINITY};
    weft_algorithm algorithm = algorithm_of[_i / 2];
    int reject = _i % 2;
    size_t i, k, total = 0, e;
    memset(&seen, 0, sizeof seen);
    {
        fleet_desc d = hostile_run(BULK, 3);
        fleet f;
        d.grawa.algorithm = algorithm;
        d.sim.on_message = remember;
        d.no_oracle = 1;
        ck_assert_msg(fleet_open(&f, &d) && fleet_run(&f, 1) && fleet_close(&f), "%s", f.why);
    }
    for (i = 0; i < seen.count; i++)
        for (k = 0; k < 3; k++) {
            const captured *m = &seen.item[i];
            float data[512];
            fleet_desc d = hostile_run(BULK, 3);
            fleet f;
            int fault;
            if (is_control(m)) continue;
            ck_assert_uint_le(m->bytes, sizeof data);
            for (e = 0; e < 512; e++) data[e] = e % 5 == k ? bad[k] : 0.25f;
            d.grawa.algorithm = algorithm;
            d.grawa.guard = reject ? GRAWA_GUARD_REJECT : GRAWA_GUARD_LIMIT;
            d.grawa.check_replicas = 0;
            d.no_oracle = 1;
            ck_assert_msg(fleet_open(&f, &d), "%s", f.why);
            fault = weft_sim_replace(&f.sim, m->src, m->dst, m->tag, m->nth, data, m->bytes);
            survive(&f, 1, "bulk not finite", i, k);
            ck_assert_uint_eq(weft_sim_fired(&f.sim, fault), 1);
            ck_assert_msg(fleet_close(&f), "%s", f.why);
            total++;
        }
    ck_assert_uint_gt(total, 10);
}
END_TEST

/* The replica hash finds bulk data that was changed on its way, in the round in which it happens. */
START_TEST(bulk_changed_is_seen) {
    size_t i, seen_errors = 0, total = 0;
    capture_run(BULK, 3, 1);
    for (i = 0; i < seen.count; i++) {
        const captured *m = &seen.item[i];
        fleet_desc d = hostile_run(BULK, 3);
        fleet f;
        uint32_t r;
        if (is_control(m)) continue;
        d.no_oracle = 1;
        ck_assert_msg(fleet_open(&f, &d), "%s", f.why);
        weft_sim_corrupt(&f.sim, m->src, m->dst, m->tag, m->nth, 6, 0x10);
        survive(&f, 1, "bulk flip", i, 0);
        for (r = 0; r < 3; r++) seen_errors += f.worker[r].stopped_by == WEFT_ERR_MISMATCH;
        /* a piece that is changed before it is summed is the same wrong sum for all; one changed after that is not */
        for (r = 0; r < 3; r++)
            if (f.worker[r].stopped_by == WEFT_ERR_MISMATCH)
                ck_assert_uint_ne(f.worker[r].last_detail.expected, f.worker[r].last_detail.got);
        total++;
        ck_assert_msg(fleet_close(&f), "%s", f.why);
    }
    ck_assert_uint_gt(total, 5);
    ck_assert_uint_gt(seen_errors, 2);
}
END_TEST

/* ---- (g) non-finite numbers of a worker's own ---- */

static int sick[FLEET_MOST];

static const weft_tensors *train_sick(fleet_worker *w) {
    const weft_tensors *g = fleet_noise(w);
    float *x = (float *)w->params.tensor[0].data;
    if (sick[w->rank])
        x[1] = sick[w->rank] == 1 ? NAN : INFINITY;
    else if (!isfinite(x[1]))
        x[1] = 0.5f;
    return g;
}

START_TEST(parameters_not_finite) {
    static const weft_algorithm algorithm_of[4] = {WEFT_ALGORITHM_DIRECT, WEFT_ALGORITHM_GATHER, WEFT_ALGORITHM_RING,
                                                   WEFT_ALGORITHM_DOUBLING};
    weft_algorithm algorithm = algorithm_of[_i / 2];
    int reject = _i % 2;
    uint32_t n, mask, r;
    for (n = 2; n <= 4; n++)
        for (mask = 1; mask < 1u << n; mask++) {
            fleet_desc d = variant(mask, n, mask % 2 == 0 ? 0 : n == 3 ? BULK : BULK | CHUNKS);
            fleet f;
            uint32_t lowest = 0, ill = 0;
            int ok;
            while (!(mask >> lowest & 1)) lowest++;
            for (r = 0; r < n; r++) ill += mask >> r & 1;
            d.train = train_sick;
            d.grawa.algorithm = algorithm;
            d.grawa.guard = reject ? GRAWA_GUARD_REJECT : GRAWA_GUARD_LIMIT;
            d.grawa.pull = 0.25;
            /* ring and doubling have an order of their own: no bits to compare with, see test_collective.c */
            d.no_oracle = algorithm == WEFT_ALGORITHM_RING || algorithm == WEFT_ALGORITHM_DOUBLING;
            memset(sick, 0, sizeof sick);
            ok = fleet_open(&f, &d) && fleet_run(&f, 1);
            ck_assert_msg(ok, "%s", f.why);
            for (r = 0; r < n; r++) sick[r] = mask >> r & 1 ? 1 + (int)(r + mask) % 2 : 0;
            ok = fleet_run(&f, 2) && fleet_agree(&f);
            ck_assert_msg(ok, "%u workers, %#x not finite: %s", n, mask, f.why);
            for (r = 0; r < n; r++) {
                grawa_stats_t st;
                grawa_stats(f.worker[r].g, &st);
                if (reject || ill == n) {
                    ck_assert_uint_eq(f.worker[r].rejects, 1);
                    ck_assert_int_eq(f.worker[r].last_error, WEFT_ERR_NONFINITE);
                    if (reject) ck_assert_uint_eq(f.worker[r].last_detail.peer, lowest);
                    ck_assert_uint_eq(st.rounds, 1);
                    ck_assert_uint_eq(st.rounds_abandoned, 1);
                } else {
                    ck_assert_uint_eq(f.worker[r].errors, 0);
                    ck_assert_uint_eq(st.rounds, 2);
                    ck_assert_uint_eq(st.participants, n - ill);
                    ck_assert_uint_eq(st.nonfinite_models, ill);
                    ck_assert(grawa_weight(f.worker[r].g, lowest, 0) == 0.0);
                    if (!(mask >> r & 1)) ck_assert(fleet_finite(f.worker[r].kept, f.elements));
                }
            }
            /* cured: all take part again */
            memset(sick, 0, sizeof sick);
            ok = fleet_run(&f, 3) && fleet_agree(&f);
            ck_assert_msg(ok, "%s", f.why);
            for (r = 0; r < n; r++) {
                grawa_stats_t st;
                grawa_stats(f.worker[r].g, &st);
                ck_assert_uint_eq(st.participants, n);
                ck_assert(grawa_weight(f.worker[r].g, lowest, 0) > 0);
                ck_assert(fleet_finite(f.worker[r].kept, f.elements));
            }
            ck_assert_msg(fleet_close(&f), "%s", f.why);
        }
}
END_TEST

/* The same while workers are lost: the second attempt of a round is cut short as well as the first. */
START_TEST(not_finite_and_lost) {
    static const int bits_of[3] = {0, TOTAL, BULK | CHUNKS};
    uint64_t k, fired = 1, total = 0;
    for (k = 1; fired; k++) {
        fleet_desc d = variant(k, 4, bits_of[_i]);
        fleet f;
        int fault, ok;
        d.train = train_sick;
        memset(sick, 0, sizeof sick);
        sick[k % 3] = 1;
        ok = fleet_open(&f, &d);
        fault = weft_sim_lose_at_message(&f.sim, 3, k, 0);
        ok = ok && fleet_run(&f, 2) && fleet_agree(&f);
        ck_assert_msg(ok, "message %llu: %s", (unsigned long long)k, f.why);
        fired = weft_sim_fired(&f.sim, fault);
        total += fired;
        memset(sick, 0, sizeof sick);
        train_on(&f, "not finite, message", k);
    }
    ck_assert_uint_gt(total, 30);
}
END_TEST

/* ---- settling the initial parameters, with a loss at every message: untouched, or settled, on all alike ---- */

START_TEST(settle_and_lost) {
    uint64_t k, fired = 1, total = 0;
    size_t count[2] = {5, 90};
    for (k = 1; fired; k++) {
        cluster_desc d = cluster_default(k, 3);
        cluster c;
        uint32_t member[2], lost = (uint32_t)(k % 3), r, n = 0;
        weft_tensors before[3];
        weft_view v;
        int fault, moved = -1;
        d.sim.jitter_ns = 500;
        d.sim.mode = (weft_sim_mode)(k % 4);
        d.tensors = 2;
        d.count = count;
        d.start_unequal = 1;
        d.grawa.initial = _i % 2 ? GRAWA_INITIAL_COPY : GRAWA_INITIAL_AVERAGE;
        d.grawa.initial_rank = 1;
        d.grawa.algorithm = _i / 2 ? WEFT_ALGORITHM_DIRECT : WEFT_ALGORITHM_AUTO;
        ck_assert_msg(cluster_open(&c, &d), "%s", c.why);
        for (r = 0; r < 3; r++) {
            before[r] = cluster_tensors(2, count, NULL);
            cluster_copy(&c.worker[r].params, &before[r]);
        }
        fault = weft_sim_lose_at_message(&c.sim, lost, k, (int)(k & 1));
        CLUSTER_EACH(&c, w, grawa_start(w->g));
        cluster_advance(&c, 10000000);
        fired = weft_sim_fired(&c.sim, fault);
        if (fired) {
            for (r = 0; r < 3; r++)
                if (r != lost) member[n++] = r;
            memset(&v, 0, sizeof v);
            v.struct_size = sizeof v;
            v.epoch = 1;
            v.count = 2;
            v.members = member;
            for (r = 0; r < 3; r++)
                if (r != lost) {
                    int same = cluster_same_bits(&c.worker[r].params, &before[r]);
                    ck_assert(c.worker[r].status == WEFT_OK || c.worker[r].status == WEFT_ERR_PEER_LOST);
                    /* who says OK has settled, unless it is the model that the others take over */
                    if (c.worker[r].status == WEFT_OK && c.worker[r].g->round && !(_i % 2 && r == 1)) ck_assert(!same);
                }
            for (r = 0; r < 3; r++)
                if (r != lost) c.worker[r].status = grawa_regroup(c.worker[r].g, &v);
            if (d.grawa.initial == GRAWA_INITIAL_COPY && lost == 1) {
                /* the model to copy may be gone with its worker: an error that names it, or it had been taken over */
                cluster_advance(&c, 10000000);
                for (r = 0; r < 3; r++) {
                    if (r == lost) continue;
                    if (c.worker[r].status == WEFT_OK) {
                        ck_assert(moved != 0);
                        moved = 1;
                    } else {
                        ck_assert_int_eq(c.worker[r].status, WEFT_ERR_ARGUMENT);
                        ck_assert_uint_eq(grawa_detail(c.worker[r].g)->peer, 1);
                        ck_assert(cluster_same_bits(&c.worker[r].params, &before[r]));
                        ck_assert(moved != 1);
                        moved = 0;
                    }
                }
            } else {
                cluster_advance(&c, 10000000);
                for (r = 0; r < 3; r++)
                    if (r != lost)
                        ck_assert_msg(c.worker[r].status == WEFT_OK, "message %llu, worker %u: %s",
                                      (unsigned long long)k, r, weft_strerror(c.worker[r].status));
                /* all that remain now have the same model */
                ck_assert(cluster_same_bits(&c.worker[member[0]].params, &c.worker[member[1]].params));
                if (_i % 2) ck_assert(cluster_same_bits(&c.worker[member[0]].params, &before[1]));
            }
            total++;
        }
        for (r = 0; r < 3; r++) cluster_tensors_free(&before[r]);
        ck_assert_msg(cluster_close(&c), "message %llu: %s", (unsigned long long)k, c.why);
    }
    ck_assert_uint_gt(total, 15);
}
END_TEST

/* ---- (h) time-outs, in virtual time ---- */

START_TEST(times_out_and_goes_on) {
    int bits = _i;
    fleet_desc d = variant(2, 3, bits);
    fleet f;
    int ok;
    uint64_t from;
    uint32_t r;
    d.grawa.timeout_ns = 100000;
    d.sim.jitter_ns = 0;
    ok = fleet_open(&f, &d) && fleet_run(&f, 1);
    ck_assert_msg(ok, "%s", f.why);
    for (r = 0; r < 3; r++) ck_assert_uint_eq(f.worker[r].timeouts, 0);
    /* worker 2 is deaf and dumb for one millisecond */
    from = f.sim.now;
    weft_sim_clog(&f.sim, 2, WEFT_SIM_ANY, from, from + 1000000);
    ok = fleet_run(&f, 2) && fleet_agree(&f);
    ck_assert_msg(ok, "%s", f.why);
    for (r = 0; r < 3; r++) {
        fleet_worker *w = &f.worker[r];
        if (bits & PARTIAL && r == 2) continue;
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
    fleet_desc d = variant(4, 2, _i);
    fleet f;
    uint32_t r;
    d.grawa.timeout_ns = 50000;
    d.sim.latency_ns = 20000; /* nothing is fast here, but something always moves */
    d.step_ns[0] = 1000;
    d.step_ns[1] = 10000;
    ck_assert_msg(fleet_open(&f, &d) && fleet_run(&f, 3), "%s", f.why);
    for (r = 0; r < 2; r++) ck_assert_uint_eq(f.worker[r].timeouts, 0);
    train_on(&f, "slow", 0);
}
END_TEST

/* One exchange takes many time-outs, but piece after piece comes. */
START_TEST(many_pieces_are_progress) {
    static const size_t many[3] = {3000, 0, 1};
    fleet_desc d = variant(1, 2, BULK);
    fleet f;
    uint32_t r;
    d.count = many;
    d.sim.mode = WEFT_SIM_RENDEZVOUS;
    d.sim.max_message_bytes = 256;
    d.sim.latency_ns = 20000;
    d.grawa.timeout_ns = 70000;
    ck_assert_msg(fleet_open(&f, &d) && fleet_run(&f, 1), "%s", f.why);
    for (r = 0; r < 2; r++) ck_assert_uint_eq(f.worker[r].timeouts, 0);
    ck_assert_uint_gt(f.sim.now, 10 * d.grawa.timeout_ns);
    train_on(&f, "pieces", 0);
}
END_TEST

/* The blocking verb: back with the time-out when nothing comes, and again when asked again. */
START_TEST(wait_is_bounded) {
    cluster_desc d = cluster_default(1, 2);
    size_t count[1] = {4};
    cluster c;
    uint64_t t0;
    d.tensors = 1;
    d.count = count;
    d.grawa.period_steps = 1;
    d.grawa.timeout_ns = 1000000;
    ck_assert_msg(cluster_open(&c, &d), "%s", c.why);
    t0 = weft_sim_now(&c.sim);
    ck_assert_int_eq(cluster_blocking(&c.worker[0], 1), WEFT_ERR_TIMEOUT);
    ck_assert_uint_ge(weft_sim_now(&c.sim) - t0, 1000000);
    ck_assert_uint_le(weft_sim_now(&c.sim) - t0, 2500000);
    ck_assert_uint_eq(grawa_detail(c.worker[0].g)->peer, 1);
    t0 = weft_sim_now(&c.sim);
    ck_assert_int_eq(grawa_wait(c.worker[0].g), WEFT_ERR_TIMEOUT);
    ck_assert_uint_ge(weft_sim_now(&c.sim) - t0, 1000000);
    /* and now the other one comes */
    c.worker[0].status = WEFT_AGAIN;
    c.worker[1].status = grawa_step(c.worker[1].g, c.desc.train(&c.worker[1]));
    ck_assert_msg(cluster_settle(&c) && cluster_fine(&c, "step"), "%s", c.why);
    ck_assert_msg(cluster_close(&c), "%s", c.why);
}
END_TEST

/* ---- many seeds of everything at once, on nasty networks ---- */

START_TEST(storms) {
    uint64_t seed;
    for (seed = (uint64_t)_i * 40; seed < (uint64_t)_i * 40 + 40; seed++) {
        uint64_t rng = seed + 1;
        uint32_t n = 2 + cluster_below(&rng, 4), r;
        int bits = (int)cluster_below(&rng, VARIANTS), ok;
        fleet_desc d = variant(seed, n, bits);
        fleet f;
        d.sim = weft_sim_torture(seed, n);
        d.sim.detect_ns = cluster_below(&rng, 3) * 5000;
        d.deaf = (int)cluster_below(&rng, 2);
        d.grawa.initial = GRAWA_INITIAL_KEEP; /* those who come back may find nobody to learn from */
        for (r = 0; r < n; r++) d.step_ns[r] = cluster_below(&rng, 20000);
        if (cluster_below(&rng, 3) == 0) d.leave_step[cluster_below(&rng, n)] = 1 + cluster_below(&rng, 8);
        ok = fleet_open(&f, &d);
        for (r = 0; r + 1 < n; r++)
            if (cluster_below(&rng, 2)) weft_sim_lose_at_message(&f.sim, r, 1 + cluster_below(&rng, 120), (int)(r & 1));
        ok = ok && fleet_run(&f, 4) && fleet_agree(&f);
        for (r = 0; r < n; r++)
            if (ok && !weft_sim_alive(&f.sim, r) && !f.worker[r].left && cluster_below(&rng, 2))
                ok = fleet_rejoin(&f, r);
        ok = ok && fleet_run(&f, 7) && fleet_agree(&f);
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
    tcase_add_loop_test(t, every_call_fails, 0, 21);
    t = part(runner, "losses");
    tcase_add_loop_test(t, lost_at_every_message, 0, 30);
    tcase_add_loop_test(t, host_says_lost, 0, 2);
    tcase_add_loop_test(t, comes_back, 0, 5);
    tcase_add_loop_test(t, comes_back_at_any_time, 0, 4);
    tcase_add_loop_test(t, cascaded, 0, 4);
    tcase_add_loop_test(t, last_one_goes_on, 0, VARIANTS);
    tcase_add_loop_test(t, settle_and_lost, 0, 4);
    t = part(runner, "leaving");
    tcase_add_loop_test(t, leaves, 0, 6);
    tcase_add_test(t, leaves_at_once);
    tcase_add_loop_test(t, leaves_and_losses, 0, 4);
    t = part(runner, "hostile");
    tcase_add_loop_test(t, every_control_byte_flipped, 0, 3);
    tcase_add_test(t, every_control_length);
    tcase_add_loop_test(t, lies_with_a_checksum, 0, 10);
    tcase_add_test(t, two_lengths);
    tcase_add_loop_test(t, other_byte_order, 0, 5);
    tcase_add_loop_test(t, messages_out_of_place, 0, 2);
    tcase_add_loop_test(t, bulk_of_wrong_length, 0, 2);
    tcase_add_loop_test(t, bulk_not_finite, 0, 8);
    tcase_add_test(t, bulk_changed_is_seen);
    t = part(runner, "numbers");
    tcase_add_loop_test(t, parameters_not_finite, 0, 8);
    tcase_add_loop_test(t, not_finite_and_lost, 0, 3);
    t = part(runner, "time");
    tcase_add_loop_test(t, times_out_and_goes_on, 0, 2);
    tcase_add_loop_test(t, slow_is_not_dead, 0, 2);
    tcase_add_test(t, many_pieces_are_progress);
    tcase_add_test(t, wait_is_bounded);
    tcase_add_loop_test(t, storms, 0, 10);
    srunner_run_all(runner, CK_NORMAL);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
