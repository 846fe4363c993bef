/* SPDX-License-Identifier: MIT
 * Saved state of HPSGD: at every step of a fixed schedule, resuming equals never having stopped, bit for bit; after a
 * drain in any mode; sizes, refusals, and hostile blobs. */
#define GRAWA_IMPLEMENTATION
#include "../grawa.h"
#define HPSGD_IMPLEMENTATION
#include "../hpsgd.h"
#include "hpsgd_lock.h"

#include <check.h>

typedef struct saved {
    unsigned char *blob[LOCK_MOST];
    size_t bytes[LOCK_MOST];
    weft_tensors params[LOCK_MOST];
} saved;

static const weft_dtype mixed[3] = {WEFT_F64, WEFT_F32, WEFT_F32};

static void save(lock *k, saved *s) {
    uint32_t r;
    for (r = 0; r < k->size; r++) {
        hpsgd *h = k->worker[r].h;
        size_t bytes = 0, again = 0;
        ck_assert_int_eq(hpsgd_save(h, NULL, 0, &bytes), WEFT_OK);
        s->bytes[r] = bytes;
        s->blob[r] = (unsigned char *)malloc(bytes + CLUSTER_CANARY);
        memset(s->blob[r], 0xA5, bytes + CLUSTER_CANARY);
        ck_assert_int_eq(hpsgd_save(h, s->blob[r], bytes - 1, &again), WEFT_ERR_CAPACITY);
        ck_assert_uint_eq(again, bytes);
        ck_assert(cluster_canary(s->blob[r]));
        ck_assert_int_eq(hpsgd_save(h, s->blob[r], bytes, NULL), WEFT_OK);
        ck_assert(cluster_canary(s->blob[r] + bytes));
        s->params[r] = cluster_tensors(k->desc.tensors, k->desc.count, k->desc.dtype);
        cluster_copy(&k->worker[r].params, &s->params[r]);
    }
}

static void saved_free(const lock *k, saved *s) {
    uint32_t r;
    for (r = 0; r < k->size; r++) {
        free(s->blob[r]);
        cluster_tensors_free(&s->params[r]);
    }
}

/* New objects that go on from there. */
static int resume(lock *k, const lock_desc *d, const saved *s, uint64_t step) {
    uint32_t r;
    if (!lock_open(k, d)) return 0;
    for (r = 0; r < k->size; r++) {
        lock_worker *w = &k->worker[r];
        ck_assert(hpsgd_state(w->h) & HPSGD_MAY_LOAD);
        cluster_copy(&s->params[r], &w->params);
        ck_assert_int_eq(hpsgd_load(w->h, s->blob[r], s->bytes[r]), WEFT_OK);
        ck_assert(!(hpsgd_state(w->h) & HPSGD_MAY_LOAD));
        w->step = step;
    }
    return 1;
}

static lock_desc variant(int v, uint32_t n) {
    lock_desc d = lock_default(n);
    d.h.mode = HPSGD_FIXED;
    d.h.max_steps = 3;
    if (v & 1) d.h.carry = 0.5;
    if (v & 2) d.dtype = mixed;
    if (v & 4) {
        d.dtype = NULL;
        d.h.payload = HPSGD_PAYLOAD_BF16;
    }
    if (v == 2) d.h.startup = HPSGD_CONTINUE;
    return d;
}

START_TEST(resume_at_every_step) {
    uint32_t n = 1 + (uint32_t)_i, r;
    int v;
    uint64_t at, steps = 11;
    for (v = 0; v < 6; v++)
        for (at = 0; at <= steps; at++) {
            lock_desc d = variant(v, n);
            lock whole, again;
            saved s;
            int ok = lock_open(&whole, &d) && lock_steps(&whole, at);
            if (ok && at == 0) LOCK_ALL(&whole, w, hpsgd_start(w->h));
            save(&whole, &s);
            ck_assert_msg(!whole.why[0], "%s", whole.why);
            ok = ok && lock_steps(&whole, steps - at) && lock_drain(&whole);
            ok = ok && resume(&again, &d, &s, at) && lock_steps(&again, steps - at);
            ok = ok && lock_drain(&again);
            ck_assert_msg(ok, "variant %d, step %llu: %s%s", v, (unsigned long long)at, whole.why, again.why);
            for (r = 0; r < n; r++) {
                hpsgd_stats_t a, b;
                ck_assert_msg(cluster_same_bits(&whole.worker[r].params, &again.worker[r].params),
                              "%u workers, variant %d, resumed at step %llu: other bits", n, v, (unsigned long long)at);
                hpsgd_stats(whole.worker[r].h, &a);
                hpsgd_stats(again.worker[r].h, &b);
                ck_assert_uint_eq(a.steps, b.steps);
                ck_assert_uint_eq(a.steps_merged, b.steps_merged);
                ck_assert_uint_eq(a.rounds, b.rounds);
                ck_assert_uint_eq(a.launches, b.launches);
            }
            saved_free(&whole, &s);
            ck_assert_msg(lock_close(&whole), "%s", whole.why);
            ck_assert_msg(lock_close(&again), "%s", again.why);
        }
}
END_TEST

/* One worker knows already that the round is done, the other does not: they go on together all the same. */
/* The same, with changes that are not finite, of all workers but one: their round is void, found so before or after it
 * is saved. Saving moves no parameter. */
static int steps_with_a_spoilt_one(lock *k, uint64_t from, uint64_t to) {
    uint32_t r;
    for (; from < to; from++) {
        for (r = 0; r < k->size; r++) {
            lock_train(&k->worker[r].params, r, from);
            if (from == 4 && r) cluster_set(&k->worker[r].params.tensor[0], 1, (double)NAN);
        }
        LOCK_ALL(k, w, hpsgd_step(w->h));
        if (from % 2) lock_pump(k, 40);
    }
    return !k->why[0];
}

START_TEST(resume_what_is_spoilt) {
    uint32_t n = 2 + (uint32_t)_i, r;
    int v;
    uint64_t at, steps = 11, spoilt = 0;
    for (v = 0; v < 6; v++)
        for (at = 3; at <= steps; at++) {
            lock_desc d = variant(v, n);
            lock whole, again;
            saved s;
            hpsgd_stats_t stats;
            uint64_t before;
            int ok = lock_open(&whole, &d) && steps_with_a_spoilt_one(&whole, 0, at);
            ck_assert_msg(ok, "%s", whole.why);
            spoilt += whole.worker[0].h->state == HPSGD_SPOILT;
            before = cluster_hash(&whole.worker[0].params);
            save(&whole, &s);
            ck_assert_uint_eq(cluster_hash(&whole.worker[0].params), before);
            ok = steps_with_a_spoilt_one(&whole, at, steps) && lock_drain(&whole) && resume(&again, &d, &s, at) &&
                 steps_with_a_spoilt_one(&again, at, steps) && lock_drain(&again);
            ck_assert_msg(ok, "variant %d, step %llu: %s%s", v, (unsigned long long)at, whole.why, again.why);
            for (r = 0; r < n; r++) {
                ck_assert_msg(cluster_same_bits(&whole.worker[r].params, &again.worker[r].params),
                              "%u workers, variant %d, resumed at step %llu: other bits", n, v, (unsigned long long)at);
                hpsgd_stats(again.worker[r].h, &stats);
                ck_assert_uint_eq(stats.rounds_void, 1);
                ck_assert_int_eq(stats.steps_lost > 0, r > 0);
            }
            saved_free(&whole, &s);
            ck_assert_msg(lock_close(&whole), "%s", whole.why);
            ck_assert_msg(lock_close(&again), "%s", again.why);
        }
    ck_assert_uint_gt(spoilt, 3);
}
END_TEST

/* What rounding has left over of a payload under way is known after loading, too: a drain waits for it. */
START_TEST(resume_what_is_left_over) {
    lock_desc d = lock_default(2);
    lock k, again;
    saved s;
    uint32_t r;
    d.h.payload = HPSGD_PAYLOAD_BF16;
    d.h.mode = HPSGD_FIXED;
    d.h.max_steps = 1;
    ck_assert(lock_open(&k, &d));
    for (r = 0; r < 2; r++) cluster_set(&k.worker[r].params.tensor[0], 0, 0.0);
    LOCK_ALL(&k, w, hpsgd_start(w->h));
    for (r = 0; r < 2; r++) cluster_set(&k.worker[r].params.tensor[0], 0, 1 + 1.0 / 1024);
    LOCK_ALL(&k, w, hpsgd_step(w->h));
    save(&k, &s);
    ck_assert_msg(resume(&again, &d, &s, 1) && lock_drain(&again), "%s", again.why);
    for (r = 0; r < 2; r++) ck_assert_double_eq(cluster_get(&again.worker[r].params.tensor[0], 0), 1 + 1.0 / 1024);
    saved_free(&k, &s);
    ck_assert_msg(lock_close(&k) && lock_close(&again), "%s%s", k.why, again.why);
}
END_TEST

START_TEST(one_knows_more) {
    lock_desc d = variant(1, 2);
    lock whole, again;
    saved s;
    uint32_t first = 2;
    int i, ok = lock_open(&whole, &d) && lock_steps(&whole, 3);
    for (i = 0; i < 80 && first == 2; i++) {
        weft_sim_advance(&whole.sim, 2000);
        hpsgd_progress(whole.worker[i % 2].h);
        if (whole.worker[i % 2].h->state == HPSGD_DONE) first = (uint32_t)i % 2;
    }
    ck_assert_uint_lt(first, 2);
    ck_assert_int_eq(whole.worker[1 - first].h->state, HPSGD_HAVE);
    save(&whole, &s);
    ok = ok && lock_steps(&whole, 4) && lock_drain(&whole);
    ok = ok && resume(&again, &d, &s, 3) && lock_steps(&again, 4) && lock_drain(&again);
    ck_assert_msg(ok, "%s%s", whole.why, again.why);
    ck_assert(cluster_same_bits(&whole.worker[0].params, &again.worker[0].params));
    ck_assert(cluster_same_bits(&whole.worker[1].params, &again.worker[1].params));
    saved_free(&whole, &s);
    ck_assert_msg(lock_close(&whole) && lock_close(&again), "%s%s", whole.why, again.why);
}
END_TEST

/* After a drain, in every mode; and a setter's values come along. */
START_TEST(after_a_drain) {
    int mode, keep;
    for (mode = 0; mode < 3; mode++)
        for (keep = WEFT_ZERO; keep <= 0; keep++) {
            lock_desc d = lock_default(3);
            lock k, again;
            saved s;
            hpsgd_desc e;
            int ok;
            d.h.mode = (hpsgd_mode)mode;
            d.h.keep_delta = keep;
            ok = lock_open(&k, &d) && lock_steps(&k, 5) && lock_drain(&k);
            LOCK_ALL(&k, w, hpsgd_set_steps(w->h, 2, 2));
            LOCK_ALL(&k, w, hpsgd_set_void(w->h, HPSGD_DROP));
            save(&k, &s);
            ok = ok && lock_steps(&k, 4) && lock_drain(&k) && resume(&again, &d, &s, 5);
            hpsgd_effective(again.worker[0].h, &e);
            ck_assert_uint_eq(e.min_steps, 2);
            ck_assert_uint_eq(e.max_steps, 2);
            ck_assert_int_eq(e.on_void, HPSGD_DROP);
            ok = ok && lock_steps(&again, 4) && lock_drain(&again) && lock_alike(&again);
            ck_assert_msg(ok, "mode %d: %s%s", mode, k.why, again.why);
            if (mode) ck_assert(cluster_same_bits(&k.worker[0].params, &again.worker[0].params));
            saved_free(&k, &s);
            ck_assert_msg(lock_close(&k) && lock_close(&again), "%s%s", k.why, again.why);
        }
}
END_TEST

/* Without the kept payload a round under way cannot be saved: later, or after a drain. */
START_TEST(busy_without_the_payload) {
    lock_desc d = lock_default(2);
    lock k;
    size_t bytes = 77;
    d.h.mode = HPSGD_FIXED;
    d.h.max_steps = 2;
    d.h.keep_delta = WEFT_ZERO;
    ck_assert(lock_open(&k, &d) && lock_steps(&k, 1));
    ck_assert_int_eq(hpsgd_save(k.worker[0].h, NULL, 0, &bytes), WEFT_OK);
    bytes = 77;
    ck_assert(lock_steps(&k, 1));
    ck_assert_int_eq(hpsgd_save(k.worker[0].h, NULL, 0, &bytes), WEFT_AGAIN);
    ck_assert_uint_eq(bytes, 77);
    ck_assert(lock_drain(&k));
    ck_assert_int_eq(hpsgd_save(k.worker[0].h, NULL, 0, &bytes), WEFT_OK);
    ck_assert_uint_ne(bytes, 77);
    ck_assert_msg(lock_close(&k), "%s", k.why);
}
END_TEST

/* Blobs of different moments do not go together. */
START_TEST(different_moments) {
    lock_desc d = variant(0, 2);
    lock k, again;
    saved s, t;
    uint32_t r;
    ck_assert(lock_open(&k, &d) && lock_steps(&k, 4));
    save(&k, &s);
    ck_assert(lock_steps(&k, 5));
    save(&k, &t);
    ck_assert(lock_open(&again, &d));
    ck_assert_int_eq(hpsgd_load(again.worker[0].h, s.blob[0], s.bytes[0]), WEFT_OK);
    ck_assert_int_eq(hpsgd_load(again.worker[1].h, t.blob[1], t.bytes[1]), WEFT_OK);
    for (r = 0; r < 2; r++) again.worker[r].status = hpsgd_start(again.worker[r].h);
    ck_assert(lock_settle(&again));
    for (r = 0; r < 2; r++) ck_assert_int_eq(again.worker[r].status, WEFT_ERR_MISMATCH);
    saved_free(&k, &s);
    saved_free(&k, &t);
    ck_assert_msg(lock_close(&k) && lock_close(&again), "%s%s", k.why, again.why);
}
END_TEST

/* ---- hostile blobs ---- */

static void refit(unsigned char *blob, size_t bytes) {
    weft_put32(blob + bytes - 4, weft_crc32c(0, blob, bytes - 4));
}

/* Every byte, with a right checksum: an error that leaves a fresh object, or something that works. */
START_TEST(every_byte) {
    lock_desc d = variant(1, 2);
    lock k;
    saved s;
    size_t i;
    uint64_t refused = 0, taken = 0;
    unsigned char *blob;
    ck_assert(lock_open(&k, &d) && lock_steps(&k, 7));
    save(&k, &s);
    blob = (unsigned char *)malloc(s.bytes[0]);
    for (i = 0; i < s.bytes[0]; i++) {
        static const unsigned char flip[3] = {1, 0x80, 0xFF};
        int f;
        for (f = 0; f < 3; f++) {
            lock one;
            lock_desc alone = d;
            weft_status status;
            ck_assert(lock_open(&one, &alone));
            memcpy(blob, s.blob[0], s.bytes[0]);
            blob[i] ^= flip[f];
            ck_assert_int_lt(hpsgd_load(one.worker[0].h, blob, s.bytes[0]), 0); /* the checksum */
            refit(blob, s.bytes[0]);
            status = hpsgd_load(one.worker[0].h, blob, s.bytes[0]);
            if (status == WEFT_OK) {
                const hpsgd *h = one.worker[0].h;
                taken++;
                ck_assert(h->desc.min_steps && h->desc.min_steps <= h->desc.max_steps);
                ck_assert(h->carried >= 0 && h->carried <= 1);
                ck_assert_uint_eq(h->stats.steps_merged + h->stats.steps_lost + h->n + h->flying, h->stats.steps);
            } else {
                refused++;
                ck_assert_ptr_nonnull(hpsgd_detail(one.worker[0].h)->field);
                ck_assert(hpsgd_state(one.worker[0].h) & HPSGD_MAY_LOAD);
                ck_assert_int_eq(hpsgd_load(one.worker[0].h, s.blob[0], s.bytes[0]), WEFT_OK);
            }
            ck_assert_msg(lock_close(&one), "%s", one.why);
        }
    }
    ck_assert_uint_gt(refused, 100);
    ck_assert_uint_gt(taken, 100);
    free(blob);
    saved_free(&k, &s);
    ck_assert_msg(lock_close(&k), "%s", k.why);
}
END_TEST

/* Counts that only add up beyond 64 bits, a model that is not finite, flags that are none, rounds all used up. */
START_TEST(impossible) {
    static const uint64_t all = UINT64_MAX;
    lock_desc d = lock_default(1);
    int i;
    for (i = 0; i < 6; i++) {
        lock k;
        unsigned char blob[4096], *counters = blob + WEFT_BLOB_HEAD;
        size_t n;
        ck_assert(lock_open(&k, &d));
        ck_assert_int_eq(hpsgd_save(k.worker[0].h, blob, sizeof blob, &n), WEFT_OK);
        if (i == 1) { /* n; steps, steps_merged and steps_lost */
            weft_put64(counters + 2 * 8, 1);
            weft_put64(counters + 8 * 8, all);
            weft_put64(counters + 9 * 8, all);
            weft_put64(counters + 10 * 8, all);
        }
        if (i == 2) weft_put32(counters + 18 * 8, 0x7F800000u);                         /* infinity */
        if (i == 3) weft_put64(counters + 6 * 8, 2);                                    /* on_void */
        if (i == 4) weft_put64(counters + 7 * 8, 5);                                    /* left_over */
        if (i == 5) weft_put64(counters + 1 * 8, (UINT64_C(1) << WEFT_ROUND_BITS) - 5); /* round: no view after it */
        refit(blob, n);
        ck_assert_int_eq(hpsgd_load(k.worker[0].h, blob, n), i ? WEFT_ERR_ARGUMENT : WEFT_OK);
        ck_assert_msg(lock_close(&k), "%s", k.why);
    }
}
END_TEST

START_TEST(refusals) {
    lock_desc d = variant(0, 2), other = variant(1, 2);
    lock k, fresh;
    saved s;
    size_t n;
    ck_assert(lock_open(&k, &d) && lock_steps(&k, 5));
    save(&k, &s);
    ck_assert_int_eq(hpsgd_load(k.worker[0].h, s.blob[0], s.bytes[0]), WEFT_ERR_ORDER);
    ck_assert(lock_open(&fresh, &d));
    for (n = 0; n < s.bytes[0]; n += n < 40 ? 1 : 37) ck_assert_int_lt(hpsgd_load(fresh.worker[0].h, s.blob[0], n), 0);
    ck_assert_int_eq(hpsgd_load(fresh.worker[0].h, NULL, 0), WEFT_ERR_ARGUMENT);
    ck_assert_int_eq(hpsgd_load(fresh.worker[0].h, s.blob[1], s.bytes[1]), WEFT_ERR_MISMATCH); /* another rank's */
    ck_assert_int_eq(hpsgd_save(fresh.worker[0].h, NULL, 0, NULL), WEFT_ERR_ARGUMENT);
    ck_assert_msg(lock_close(&fresh), "%s", fresh.why);
    ck_assert(lock_open(&fresh, &other));
    ck_assert_int_eq(hpsgd_load(fresh.worker[0].h, s.blob[0], s.bytes[0]), WEFT_ERR_MISMATCH);
    ck_assert_str_eq(hpsgd_detail(fresh.worker[0].h)->field, "blob fingerprint");
    saved_free(&k, &s);
    ck_assert_msg(lock_close(&k) && lock_close(&fresh), "%s%s", k.why, fresh.why);
}
END_TEST

int main(void) {
    Suite *s = suite_create("hpsgd_state");
    TCase *c = tcase_create("state");
    SRunner *r;
    int failed;
    tcase_set_timeout(c, 60);
    tcase_add_loop_test(c, resume_at_every_step, 0, 4);
    tcase_add_loop_test(c, resume_what_is_spoilt, 0, 2);
    tcase_add_test(c, resume_what_is_left_over);
    tcase_add_test(c, one_knows_more);
    tcase_add_test(c, after_a_drain);
    tcase_add_test(c, busy_without_the_payload);
    tcase_add_test(c, different_moments);
    tcase_add_test(c, every_byte);
    tcase_add_test(c, impossible);
    tcase_add_test(c, refusals);
    suite_add_tcase(s, c);
    r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
