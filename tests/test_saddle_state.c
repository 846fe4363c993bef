/* SPDX-License-Identifier: MIT
 * SADDLe's saved state: a run that is saved and loaded at any step goes on as if it had never stopped, bit for bit, in
 * every variant, with every feedback and codec; blobs that are hostile; what stands in a blob, byte by byte. */
#define GRAWA_IMPLEMENTATION
#include "../grawa.h"
#define SADDLE_IMPLEMENTATION
#include "../saddle.h"
#include "saddle_lock.h"

#include <check.h>

#ifdef EMULATED
enum { CODECS = 2 };
#else
enum { CODECS = 8 };
#endif
enum { WORKERS = 4, STEPS = 5 };

static const size_t count[3] = {5, 0, 40};
static const weft_dtype type[3] = {WEFT_F64, WEFT_F32, WEFT_F32};

static weft_codec codec_no(int i) {
    switch (i) {
    case 1: return weft_codec_q8();
    case 2: return weft_codec_bf16();
    case 3: return weft_codec_f16();
    case 4: return weft_codec_q4();
    case 5: return weft_codec_qsgd(8, 0);
    case 6: return weft_codec_topk(0.7);
    case 7: return weft_codec_sign();
    default: return weft_codec_identity();
    }
}

static lock_desc rule(int variant, int feedback, int codec) {
    lock_desc d = lock_default(WORKERS);
    d.tensors = 3;
    d.count = count;
    d.dtype = type;
    d.unequal = 1;
    d.s.isa = WEFT_ISA_SERIAL;
    d.s.variant = (saddle_variant)variant;
    d.s.feedback = (saddle_feedback)feedback;
    d.s.codec = codec_no(codec);
    d.s.gamma = 0.25;
    d.s.seed = 7;
    d.s.order = (saddle_order)((variant + feedback + codec) % 4);
    if ((variant == SADDLE_N || variant == SADDLE_NGC) && d.s.order == SADDLE_ATC) d.s.order = SADDLE_CTA;
    d.s.momentum = (saddle_momentum)((variant + codec) % 3 ? 0 : 3);
    d.s.share = codec % 3 == 2 ? 0.25 : 0;
    if ((variant == SADDLE_N || variant == SADDLE_NGC) && codec % 2) d.s.compress_self = 1;
    return d;
}

/* ---- saving and loading all workers ---- */

typedef struct saved {
    unsigned char *blob[WORKERS];
    size_t bytes[WORKERS];
    weft_tensors params[WORKERS];
} saved;

static void save(const lock *k, saved *s) {
    uint32_t r;
    for (r = 0; r < k->size; r++) {
        const lock_worker *w = &k->worker[r];
        size_t again = 0;
        if (saddle_save(w->x, NULL, 0, &s->bytes[r]) != WEFT_OK) ck_abort_msg("save: length");
        s->blob[r] = (unsigned char *)malloc(s->bytes[r]);
        if (saddle_save(w->x, s->blob[r], s->bytes[r], &again) != WEFT_OK || again != s->bytes[r]) ck_abort_msg("save");
        s->params[r] = cluster_tensors(k->desc.tensors, k->desc.count, k->desc.dtype);
        cluster_copy(&w->params, &s->params[r]);
    }
}

static void saved_free(const lock *k, saved *s) {
    uint32_t r;
    for (r = 0; r < k->size; r++) {
        free(s->blob[r]);
        cluster_tensors_free(&s->params[r]);
    }
}

static void load(lock *k, const saved *s, uint64_t step) {
    uint32_t r;
    for (r = 0; r < k->size; r++) {
        lock_worker *w = &k->worker[r];
        if (!(saddle_state(w->x) & SADDLE_MAY_LOAD)) ck_abort_msg("may not be loaded");
        cluster_copy(&s->params[r], &w->params);
        if (saddle_load(w->x, s->blob[r], s->bytes[r]) != WEFT_OK) ck_abort_msg("load: %s", saddle_detail(w->x)->field);
        if (saddle_state(w->x) & SADDLE_MAY_LOAD) ck_abort_msg("may be loaded twice");
        w->step = step;
    }
}

static void fine(lock *k, int ok) {
    int closed = lock_close(k);
    if (!ok || !closed) ck_abort_msg("%s", k->why[0] ? k->why : "a check failed");
}

/* One step; the rate changes from step to step, which quasi-global momentum remembers. */
static int step(lock *k, uint64_t s) {
    uint32_t r;
    for (r = 0; r < k->size; r++)
        if (saddle_set_learning_rate(k->worker[r].x, 0.0625 / (double)(1 + s % 3)) != WEFT_OK) return 0;
    return lock_step(k);
}

START_TEST(resume_at_every_step) {
    const int variant = _i / 3, feedback = 1 + _i % 3;
    int codec;
    for (codec = 0; codec < CODECS; codec++) {
        lock_desc d = rule(variant, feedback, codec);
        saved at[STEPS + 1];
        uint64_t s, from;
        uint32_t r;
        lock whole;
        int ok = lock_open(&whole, &d);
        for (s = 0; s <= STEPS; s++) {
            if (s) ok = ok && step(&whole, s);
            save(&whole, &at[s]);
        }
        if (!ok) ck_abort_msg("%s", whole.why);
        for (from = 0; from <= STEPS; from++) {
            lock again;
            saved end;
            ok = lock_open(&again, &d);
            load(&again, &at[from], from);
            for (s = from + 1; ok && s <= STEPS; s++) ok = step(&again, s);
            if (!ok) ck_abort_msg("%s", again.why);
            save(&again, &end);
            for (r = 0; r < WORKERS; r++) {
                saddle_stats_t a, b;
                saddle_stats(whole.worker[r].x, &a);
                saddle_stats(again.worker[r].x, &b);
                if (!cluster_same_bits(&whole.worker[r].params, &again.worker[r].params))
                    ck_abort_msg("variant %d, feedback %d, codec %d, from step %u: other parameters", variant, feedback,
                                 codec, (unsigned)from);
                if (end.bytes[r] != at[STEPS].bytes[r] || memcmp(end.blob[r], at[STEPS].blob[r], end.bytes[r]) != 0)
                    ck_abort_msg("variant %d, feedback %d, codec %d, from step %u: another state", variant, feedback,
                                 codec, (unsigned)from);
                if (a.steps != b.steps || a.evaluations != b.evaluations || a.exchanges != b.exchanges || b.skipped)
                    ck_abort_msg("counters");
            }
            saved_free(&again, &end);
            fine(&again, 1);
        }
        for (s = 0; s <= STEPS; s++) saved_free(&whole, &at[s]);
        fine(&whole, 1);
    }
}
END_TEST

/* Saved in the middle of a cluster's life: who is behind takes over the number of the step. */
START_TEST(different_moments) {
    lock_desc d = rule(_i, 0, 1 + _i % 2);
    saved early, late;
    uint32_t r;
    lock k, again;
    ck_assert(lock_open(&k, &d) && lock_steps(&k, 2));
    save(&k, &early);
    ck_assert(lock_steps(&k, 5));
    save(&k, &late);
    ck_assert(lock_open(&again, &d));
    for (r = 0; r < WORKERS; r++) {
        const saved *s = r == 1 ? &early : &late;
        ck_assert_int_eq(saddle_load(again.worker[r].x, s->blob[r], s->bytes[r]), WEFT_OK);
    }
    ck_assert_msg(lock_steps(&again, 3), "%s", again.why);
    for (r = 0; r < WORKERS; r++) {
        saddle_stats_t s;
        saddle_stats(again.worker[r].x, &s);
        ck_assert_uint_eq(again.worker[r].x->step, 10);
        ck_assert_uint_eq(s.steps, r == 1 ? 5 : 10);
        ck_assert_uint_eq(s.exchanges, 2 * s.steps);
        ck_assert_uint_eq(s.faults + s.skipped, 0);
        if (again.worker[r].x->kept)
            ck_assert_mem_eq(saddle_buffer(again.worker[r].x, SADDLE_OF_MODEL, 0, 2),
                             saddle_buffer(again.worker[(r + 1) % 4].x, SADDLE_OF_COPY, r, 2), 40 * sizeof(float));
    }
    saved_free(&k, &early);
    saved_free(&k, &late);
    fine(&k, 1);
    fine(&again, 1);
}
END_TEST

/* ---- hostile blobs ---- */

static void refit(unsigned char *blob, size_t bytes) {
    weft_put32(blob + bytes - 4, weft_crc32c(0, blob, bytes - 4));
}

/* Has a refused load left traces? */
static void untouched(const lock_worker *w, const unsigned char *before, size_t bytes) {
    unsigned char *now = (unsigned char *)malloc(bytes);
    saddle_desc e;
    saddle_effective(w->x, &e);
    if (saddle_save(w->x, now, bytes, NULL) != WEFT_OK || memcmp(before, now, bytes) != 0 || e.learning_rate < 0.25 ||
        e.learning_rate > 0.25 || !(saddle_state(w->x) & SADDLE_MAY_LOAD))
        ck_abort_msg("a refused blob leaves traces");
    free(now);
}

/* Every byte, with a wrong checksum and with a right one: an error that leaves a fresh object, or what is loaded is
 * what is saved. */
START_TEST(every_byte) {
    static const unsigned char flip[3] = {1, 0x80, 0xFF};
    lock_desc d = rule(_i % 2 ? SADDLE_N : SADDLE_Q, 2, 1);
    uint64_t refused = 0, taken = 0, h;
    unsigned char *blob, *fresh, *back;
    size_t i, n;
    lock k, one;
    saved s;
    int f;
    if (_i % 2 == 0) d.s.order = SADDLE_CTA;
    ck_assert(lock_open(&k, &d) && lock_steps(&k, 4));
    save(&k, &s);
    n = s.bytes[0];
    blob = (unsigned char *)malloc(n);
    fresh = (unsigned char *)malloc(n);
    back = (unsigned char *)malloc(n);
    ck_assert(lock_open(&one, &d));
    h = cluster_hash(&one.worker[0].params);
    for (i = 0; i < n; i++)
        for (f = 0; f < 3; f++) {
            lock_worker *w = &one.worker[0];
            weft_status status;
            lock_free(w);
            if (!lock_init(w) || saddle_set_learning_rate(w->x, 0.25) != WEFT_OK) ck_abort_msg("init");
            if (saddle_save(w->x, fresh, n, NULL) != WEFT_OK) ck_abort_msg("save");
            memcpy(blob, s.blob[0], n);
            blob[i] ^= flip[f];
            if (saddle_load(w->x, blob, n) >= 0) ck_abort_msg("byte %u: the checksum is not looked at", (unsigned)i);
            untouched(w, fresh, n);
            refit(blob, n);
            status = saddle_load(w->x, blob, n);
            if (status == WEFT_OK) {
                taken++;
                if (saddle_save(w->x, back, n, NULL) != WEFT_OK || memcmp(blob, back, n) != 0)
                    ck_abort_msg("byte %u: what is loaded is not what is saved", (unsigned)i);
                if (!(w->x->rate > 0) || w->x->stats.steps > w->x->step) ck_abort_msg("numbers that cannot be");
            } else {
                refused++;
                if (!saddle_detail(w->x)->field[0] || saddle_detail(w->x)->status != status) ck_abort_msg("no reason");
                untouched(w, fresh, n);
                if (saddle_load(w->x, s.blob[0], n) != WEFT_OK) ck_abort_msg("a good blob is refused after a bad one");
            }
        }
    ck_assert_uint_eq(cluster_hash(&one.worker[0].params), h);
    ck_assert_uint_gt(refused, 100);
    ck_assert_uint_gt(taken, 300);
    free(blob);
    free(fresh);
    free(back);
    saved_free(&k, &s);
    fine(&k, 1);
    fine(&one, 1);
}
END_TEST

enum {
    BLOB_STEP,
    BLOB_STEPS,
    BLOB_EVALUATIONS,
    BLOB_EXCHANGES,
    BLOB_SKIPPED,
    BLOB_NONFINITE,
    BLOB_RATE,
    BLOB_LAST_RATE,
    BLOB_FIELDS
};

static uint64_t bits_of(double v) {
    return weft_double_bits(v);
}

/* Numbers that nobody can have saved, with a right checksum. */
START_TEST(impossible) {
    static const struct {
        int field;
        double value;
        uint64_t number;
    } table[13] = {{BLOB_STEP, 0, UINT64_MAX},
                   {BLOB_STEP, 0, UINT64_MAX / 4 + 1},
                   {BLOB_STEP, 0, 3},
                   {BLOB_STEPS, 0, 5},
                   {BLOB_STEPS, 0, UINT64_MAX},
                   {BLOB_RATE, 0, 0},
                   {BLOB_RATE, -1, 1},
                   {BLOB_RATE, (double)NAN, 1},
                   {BLOB_RATE, (double)INFINITY, 1},
                   {BLOB_LAST_RATE, 0, 0},
                   {BLOB_LAST_RATE, -1, 1},
                   {BLOB_LAST_RATE, (double)NAN, 1},
                   {BLOB_LAST_RATE, (double)INFINITY, 1}};
    lock_desc d = rule(SADDLE_Q, 2, 1);
    unsigned char *at;
    size_t n;
    lock k, one;
    saved s;
    d.s.order = SADDLE_ATC;
    ck_assert(lock_open(&k, &d) && lock_steps(&k, 4));
    save(&k, &s);
    n = s.bytes[0];
    ck_assert(lock_open(&one, &d));
    at = s.blob[0] + WEFT_BLOB_HEAD;
    if (_i < 13)
        weft_put64(at + 8 * table[_i].field, table[_i].field == BLOB_RATE || table[_i].field == BLOB_LAST_RATE
                                                 ? bits_of(table[_i].value)
                                                 : table[_i].number);
    else if (_i == 13) /* of an f64 tensor */
        weft_put64(at + 8 * BLOB_FIELDS, bits_of((double)INFINITY));
    else if (_i == 14) /* of an f32 one */
        weft_put32(s.blob[0] + n - 8, 0x7FC00000u);
    else
        at = NULL; /* as it is */
    refit(s.blob[0], n);
    ck_assert_int_eq(saddle_load(one.worker[0].x, s.blob[0], n), at ? WEFT_ERR_ARGUMENT : WEFT_OK);
    if (at) ck_assert_str_eq(saddle_detail(one.worker[0].x)->field, "blob contents");
    saved_free(&k, &s);
    fine(&k, 1);
    fine(&one, 1);
}
END_TEST

START_TEST(refusals) {
    lock_desc d = rule(SADDLE_N, 2, 1), other;
    lock k, fresh;
    saved s;
    size_t n;
    int i;
    ck_assert(lock_open(&k, &d) && lock_steps(&k, 3));
    save(&k, &s);
    ck_assert_int_eq(saddle_load(k.worker[0].x, s.blob[0], s.bytes[0]), WEFT_ERR_ORDER);
    ck_assert_str_eq(saddle_detail(k.worker[0].x)->field, "steps");
    ck_assert(lock_open(&fresh, &d));
    for (n = 0; n < s.bytes[0]; n++)
        if (saddle_load(fresh.worker[0].x, s.blob[0], n) >= 0) ck_abort_msg("%u bytes are taken", (unsigned)n);
    ck_assert_int_eq(saddle_load(fresh.worker[0].x, NULL, s.bytes[0]), WEFT_ERR_ARGUMENT);
    ck_assert_int_eq(saddle_load(fresh.worker[0].x, s.blob[1], s.bytes[1]), WEFT_ERR_MISMATCH); /* another rank's */
    ck_assert_str_eq(saddle_detail(fresh.worker[0].x)->field, "blob fingerprint");
    ck_assert_int_eq(saddle_load(fresh.worker[0].x, s.blob[0], s.bytes[0]), WEFT_OK);
    ck_assert_int_eq(saddle_load(fresh.worker[0].x, s.blob[0], s.bytes[0]), WEFT_ERR_ORDER);
    fine(&fresh, 1);
    for (i = 0; i < 4; i++) {
        other = d;
        if (i == 0) other.s.seed = 8;
        if (i == 1) other.s.beta = 0.5;
        if (i == 2) other.s.codec = codec_no(2);
        if (i == 3) other.s.rho = WEFT_ZERO;
        ck_assert(lock_open(&fresh, &other));
        ck_assert_int_eq(saddle_load(fresh.worker[0].x, s.blob[0], s.bytes[0]), WEFT_ERR_MISMATCH);
        fine(&fresh, 1);
    }
    saved_free(&k, &s);
    fine(&k, 1);
}
END_TEST

/* ---- byte by byte ---- */

static const unsigned char *blob_at;

static uint64_t next_number(int bytes) {
    uint64_t v = 0;
    int i;
    for (i = 0; i < bytes; i++) v |= (uint64_t)*blob_at++ << (8 * i);
    return v;
}

/* A buffer, as it should stand there. */
static void next_buffer(const saddle *x, saddle_buffer_kind kind, uint32_t peer) {
    size_t t, i;
    for (t = 0; t < 3; t++) {
        const void *b = saddle_buffer(x, kind, peer, t);
        ck_assert_ptr_nonnull(b);
        for (i = 0; i < count[t]; i++) {
            if (type[t] == WEFT_F64) {
                if (next_number(8) != bits_of(((const double *)b)[i])) ck_abort_msg("a number is another one");
            } else if (next_number(4) != weft_f32_bits(((const float *)b)[i]))
                ck_abort_msg("a number is another one");
        }
    }
}

/* Little-endian, whatever the machine, in the order that the format has. */
START_TEST(byte_by_byte) {
    lock_desc d = rule(SADDLE_N, 2, 1);
    saddle_stats_t stats;
    const saddle *x;
    uint32_t crc;
    size_t i;
    lock k;
    saved s;
    ck_assert(lock_open(&k, &d) && lock_steps(&k, 3));
    ck_assert_int_eq(saddle_set_learning_rate(k.worker[2].x, 0.125), WEFT_OK);
    save(&k, &s);
    x = k.worker[2].x;
    saddle_stats(x, &stats);
    blob_at = s.blob[2];
    ck_assert_mem_eq(blob_at, "wefs", 4);
    blob_at += 4;
    ck_assert_uint_eq(next_number(4), WEFT_BLOB_VERSION);
    (void)next_number(8); /* a hash of the settings */
    ck_assert_uint_eq(next_number(8), s.bytes[2]);
    ck_assert_uint_eq(next_number(8), 3);
    ck_assert_uint_eq(next_number(8), 3);
    ck_assert_uint_eq(next_number(8), stats.evaluations);
    ck_assert_uint_eq(stats.evaluations, 3 * 2 * 3);
    ck_assert_uint_eq(next_number(8), 6);
    ck_assert_uint_eq(next_number(8), 0);
    ck_assert_uint_eq(next_number(8), 0);
    ck_assert_uint_eq(next_number(8), UINT64_C(0x3FC0000000000000)); /* 0.125 */
    ck_assert_uint_eq(next_number(8), UINT64_C(0x3FB0000000000000)); /* 0.0625 */
    next_buffer(x, SADDLE_OF_MOMENTUM, 0);
    next_buffer(x, SADDLE_OF_MODEL, 0);
    next_buffer(x, SADDLE_OF_GRADIENT, 2);
    next_buffer(x, SADDLE_OF_GRADIENT, 1);
    next_buffer(x, SADDLE_OF_GRADIENT, 3);
    for (crc = UINT32_MAX, i = 0; i < s.bytes[2] - 4; i++) { /* CRC-32C, bit by bit */
        int bit;
        crc ^= s.blob[2][i];
        for (bit = 0; bit < 8; bit++) crc = crc >> 1 ^ (crc & 1 ? 0x82F63B78u : 0);
    }
    ck_assert_uint_eq(next_number(4), crc ^ UINT32_MAX);
    ck_assert_ptr_eq(blob_at, s.blob[2] + s.bytes[2]);
    saved_free(&k, &s);
    fine(&k, 1);
}
END_TEST

int main(void) {
    Suite *s = suite_create("resume"), *h = suite_create("hostile");
    TCase *c = tcase_create("resume");
    SRunner *r;
    int failed;
    tcase_set_timeout(c, 60);
    tcase_add_loop_test(c, resume_at_every_step, 0, 18);
    tcase_add_loop_test(c, different_moments, 0, 6);
    suite_add_tcase(s, c);
    c = tcase_create("hostile");
    tcase_set_timeout(c, 60);
    tcase_add_loop_test(c, every_byte, 0, 2);
    tcase_add_loop_test(c, impossible, 0, 16);
    tcase_add_test(c, refusals);
    tcase_add_test(c, byte_by_byte);
    suite_add_tcase(h, c);
    r = srunner_create(s);
    srunner_add_suite(r, h);
    srunner_run_all(r, CK_NORMAL);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
