/* SPDX-License-Identifier: MIT
 * Saved state of AdaCons: stopping and going on at any round is the same as never having stopped, bit for bit; and no
 * blob, however hostile, does harm. */
#define GRAWA_IMPLEMENTATION
#include "../grawa.h"
#define SUBSPACE_IMPLEMENTATION
#include "../subspace.h"
#include "subspace_team.h"

#include <check.h>

enum { WORKERS = 3, ROUNDS = 8, CONFIGS = 8 };

static const size_t count[4] = {6, 1, 0, 19};
static const weft_dtype dtype[4] = {WEFT_F32, WEFT_BF16, WEFT_F32, WEFT_F64};
static const uint32_t group_of[4] = {1, 0, 2, 1};

static team_desc config(int bits, uint32_t workers) {
    team_desc d = team_default((uint64_t)bits + 1, workers);
    d.tensors = 4;
    d.count = count;
    d.dtype = dtype;
    d.s.momentum = 0.9;
    if (bits & 1) {
        d.s.groups = 3;
        d.s.group_of_tensor = group_of;
    }
    if (bits & 2) d.s.assignment = SUBSPACE_FORWARD;
    if (bits & 4) d.s.guard = SUBSPACE_GUARD_REJECT;
    return d;
}

/* One round with its number's gradients, of which some are strange; and what the host sets before it. */
static void one_round(team *t, uint64_t k) {
    uint32_t r;
    weft_status want = WEFT_OK;
    team_fill(t, k + 40);
    for (r = 0; r < t->size; r++)
        if (k % 4 == 2) ck_assert_int_eq(subspace_set_batch(t->worker[r].a, 1 + (double)((r + k) % 3)), WEFT_OK);
    if (k % 5 == 3 && t->size > 1) {
        cluster_set(&t->worker[1].grads.tensor[0], 2, (double)INFINITY);
        if (t->desc.s.guard == SUBSPACE_GUARD_REJECT) want = WEFT_ERR_NONFINITE;
    }
    if (k % 6 == 4) /* nothing */
        for (r = 0; r < t->size; r++) cluster_fill(&t->worker[r].grads, 1, 0.0);
    TEAM_ALL(t, w, subspace_submit(w->a, 0, 4));
    for (r = 0; r < t->size; r++)
        ck_assert_msg(t->worker[r].status == want, "round %llu: %s", (unsigned long long)k,
                      weft_strerror(t->worker[r].status));
}

typedef struct saved {
    unsigned char *blob;
    size_t bytes;
} saved;

static void save(team_worker *w, saved *s) {
    size_t again = 0;
    ck_assert_int_eq(subspace_save(w->a, NULL, 0, &s->bytes), WEFT_OK);
    s->blob = (unsigned char *)malloc(s->bytes + CLUSTER_CANARY);
    memset(s->blob + s->bytes, 0xA5, CLUSTER_CANARY);
    ck_assert_int_eq(subspace_save(w->a, s->blob, s->bytes, &again), WEFT_OK);
    ck_assert_uint_eq(again, s->bytes);
    ck_assert(cluster_canary(s->blob + s->bytes));
}

static void forget(saved *s) {
    free(s->blob);
}

/* All that a host can read, and all that is saved. */
static void same(team *a, team *b, uint64_t k) {
    uint32_t r, i, g;
    for (r = 0; r < a->size; r++) {
        subspace_stats_t s, t;
        saved x, y;
        subspace_stats(a->worker[r].a, &s);
        subspace_stats(b->worker[r].a, &t);
        memset(&s.traffic, 0, sizeof s.traffic);
        memset(&t.traffic, 0, sizeof t.traffic);
        ck_assert_msg(cluster_same_bits(&a->worker[r].grads, &b->worker[r].grads),
                      "stopped at %llu: aggregate of worker %u", (unsigned long long)k, r);
        ck_assert_msg(memcmp(&s, &t, sizeof s) == 0, "stopped at %llu: stats of worker %u", (unsigned long long)k, r);
        for (g = 0; g < subspace_groups(a->worker[r].a); g++)
            for (i = 0; i < a->size; i++) {
                subspace_worker_t m, n;
                weft_status p = subspace_worker(a->worker[r].a, i, g, &m),
                            q = subspace_worker(b->worker[r].a, i, g, &n);
                ck_assert_int_eq(p, q);
                ck_assert_msg(p != WEFT_OK || memcmp(&m, &n, sizeof m) == 0, "stopped at %llu: numbers",
                              (unsigned long long)k);
            }
        save(&a->worker[r], &x);
        save(&b->worker[r], &y);
        ck_assert_uint_eq(x.bytes, y.bytes);
        ck_assert_msg(memcmp(x.blob, y.blob, x.bytes) == 0, "stopped at %llu: what worker %u saves in the end",
                      (unsigned long long)k, r);
        forget(&x);
        forget(&y);
    }
}

START_TEST(resumes_at_every_round) {
    const uint32_t workers = _i == 0 ? 1 : WORKERS;
    const team_desc d = config(_i, workers);
    saved kept[ROUNDS + 1][WORKERS];
    team whole, part;
    uint64_t k, i;
    uint32_t r;
    ck_assert_msg(team_open(&whole, &d), "%s", whole.why);
    for (k = 0; k <= ROUNDS; k++) {
        for (r = 0; r < workers; r++) save(&whole.worker[r], &kept[k][r]);
        if (k < ROUNDS) one_round(&whole, k);
    }
    for (k = 0; k < ROUNDS; k++) {
        ck_assert_msg(team_open(&part, &d), "%s", part.why);
        for (r = 0; r < workers; r++) {
            weft_status s = subspace_load(part.worker[r].a, kept[k][r].blob, kept[k][r].bytes);
            ck_assert_msg(s == WEFT_OK, "load: %s (%s)", weft_strerror(s), subspace_detail(part.worker[r].a)->field);
        }
        for (i = k; i < ROUNDS; i++) one_round(&part, i);
        same(&whole, &part, k);
        ck_assert_msg(team_close(&part), "%s", part.why);
    }
    for (k = 0; k <= ROUNDS; k++)
        for (r = 0; r < workers; r++) forget(&kept[k][r]);
    ck_assert_msg(team_close(&whole), "%s", whole.why);
}
END_TEST

/* In one address space, too. */
START_TEST(combining_resumes) {
    subspace_desc d;
    pile a, b;
    unsigned char blob[4096];
    size_t bytes;
    uint32_t r, k;
    memset(&d, 0, sizeof d);
    d.momentum = 0.8;
    ck_assert_int_eq(pile_open(&a, &d, 4, 4, count, dtype), WEFT_OK);
    ck_assert_int_eq(pile_open(&b, &d, 4, 4, count, dtype), WEFT_OK);
    for (k = 0; k < 6; k++) {
        if (k == 3) {
            ck_assert_int_eq(subspace_save(a.a, blob, sizeof blob, &bytes), WEFT_OK);
            ck_assert_int_eq(subspace_load(b.a, blob, bytes), WEFT_OK);
        }
        for (r = 0; r < 4; r++) {
            team_fill_one(&a.grads[r], k, r, 1);
            cluster_copy(&a.grads[r], &b.grads[r]);
        }
        ck_assert_int_eq(pile_combine(&a, NULL), WEFT_OK);
        if (k < 3) continue;
        ck_assert_int_eq(pile_combine(&b, NULL), WEFT_OK);
        ck_assert(cluster_same_bits(&a.out, &b.out));
    }
    ck_assert(pile_close(&a));
    ck_assert(pile_close(&b));
}
END_TEST

/* Those who load go on with one who has nothing to load, or something older: nobody has an average then. */
START_TEST(resumes_with_a_newcomer) {
    const team_desc d = config(1, WORKERS);
    saved kept[2][WORKERS];
    uint32_t r, odd;
    int older;
    team t;
    uint64_t k;
    ck_assert_msg(team_open(&t, &d), "%s", t.why);
    for (k = 0; k < 2; k++) one_round(&t, k);
    for (r = 0; r < WORKERS; r++) save(&t.worker[r], &kept[0][r]);
    one_round(&t, k);
    for (r = 0; r < WORKERS; r++) save(&t.worker[r], &kept[1][r]);
    ck_assert_msg(team_close(&t), "%s", t.why);
    for (older = 0; older < 2; older++)
        for (odd = 0; odd < WORKERS; odd++) {
            double a[WORKERS], b[WORKERS];
            subspace_stats_t s;
            uint32_t g;
            ck_assert_msg(team_open(&t, &d), "%s", t.why);
            for (r = 0; r < WORKERS; r++)
                if (r != odd || older)
                    ck_assert_int_eq(subspace_load(t.worker[r].a, kept[r != odd][r].blob, kept[r != odd][r].bytes),
                                     WEFT_OK);
            for (k = 0; k < 2; k++) {
                team_fill(&t, k);
                ck_assert_msg(team_aggregate(&t) && team_alike(&t), "%s", t.why);
                for (r = 1; r < WORKERS; r++)
                    for (g = 0; g < 3; g++) {
                        uint32_t n = subspace_slots(t.worker[0].a, g, a, WORKERS), i;
                        ck_assert_uint_eq(subspace_slots(t.worker[r].a, g, b, WORKERS), n);
                        for (i = 0; i < n; i++) ck_assert_msg(a[i] == b[i], "different averages");
                    }
            }
            subspace_stats(t.worker[(odd + 1) % WORKERS].a, &s);
            ck_assert_uint_eq(s.restarts, 3);
            ck_assert_uint_eq(s.rounds, 5);
            ck_assert_msg(team_close(&t), "%s", t.why);
        }
    for (r = 0; r < WORKERS; r++) {
        forget(&kept[0][r]);
        forget(&kept[1][r]);
    }
}
END_TEST

/* ---- the format ---- */

static uint64_t le(const unsigned char *p, int n) {
    uint64_t v = 0;
    while (n--) v = v << 8 | p[n];
    return v;
}

static void reseal(unsigned char *blob, size_t bytes) {
    uint32_t crc = weft_crc32c(0, blob, bytes - 4);
    int i;
    for (i = 0; i < 4; i++) blob[bytes - 4 + (size_t)i] = (unsigned char)(crc >> (8 * i));
}

START_TEST(format) {
    const team_desc d = config(0, 2);
    double slots[2];
    size_t at;
    team t;
    saved s;
    uint32_t k;
    ck_assert_msg(team_open(&t, &d), "%s", t.why);
    one_round(&t, 0);
    ck_assert_int_eq(subspace_set_batch(t.worker[0].a, 40.625), WEFT_OK);
    save(&t.worker[0], &s);
    ck_assert(memcmp(s.blob, "wefs", 4) == 0);
    ck_assert_uint_eq(le(s.blob + 4, 4), WEFT_BLOB_VERSION);
    ck_assert_uint_eq(le(s.blob + 16, 8), s.bytes);
    for (at = 24; at + 8 <= s.bytes && le(s.blob + at, 8) != weft_double_bits(40.625); at += 8) continue;
    ck_assert_uint_lt(at, s.bytes - 8);
    /* the average over steps is the last thing in it */
    ck_assert_uint_eq(subspace_slots(t.worker[0].a, 0, slots, 2), 2);
    for (k = 0; k < 2; k++) ck_assert_uint_eq(le(s.blob + s.bytes - 4 - 16 + 8 * k, 8), weft_double_bits(slots[k]));
    forget(&s);
    ck_assert_msg(team_close(&t), "%s", t.why);
}
END_TEST

START_TEST(capacity_is_named) {
    const team_desc d = config(1, 1);
    size_t need = 0, bytes, k;
    unsigned char *buf;
    subspace *a;
    team t;
    ck_assert_msg(team_open(&t, &d), "%s", t.why);
    a = t.worker[0].a;
    ck_assert_int_eq(subspace_save(a, NULL, 0, NULL), WEFT_ERR_ARGUMENT);
    ck_assert_int_eq(subspace_save(a, NULL, 0, &need), WEFT_OK);
    buf = (unsigned char *)malloc(need + 1);
    memset(buf, 0x5A, need + 1);
    for (k = 0; k < need; k += need / 7) {
        bytes = 0;
        ck_assert_int_eq(subspace_save(a, buf, k, &bytes), WEFT_ERR_CAPACITY);
        ck_assert_uint_eq(bytes, need);
        ck_assert_uint_eq(subspace_detail(a)->expected, need);
        ck_assert_uint_eq(subspace_detail(a)->got, k);
        for (bytes = 0; bytes <= need; bytes++) ck_assert_uint_eq(buf[bytes], 0x5A);
    }
    ck_assert_int_eq(subspace_save(a, buf, need, NULL), WEFT_OK);
    ck_assert_uint_eq(buf[need], 0x5A);
    free(buf);
    ck_assert_msg(team_close(&t), "%s", t.why);
}
END_TEST

/* ---- hostile blobs ---- */

static weft_detail why;

/* Refused, and everything as before: what would be saved now, and what may be done now. */
static weft_status refused(team_worker *w, const unsigned char *blob, size_t bytes, const char *what, size_t k) {
    saved before, after;
    weft_status s;
    save(w, &before);
    s = subspace_load(w->a, blob, bytes);
    why = *subspace_detail(w->a);
    ck_assert_msg(s < 0, "%s %zu: %s", what, k, weft_strerror(s));
    ck_assert_int_eq(why.status, s);
    ck_assert_ptr_nonnull(why.field);
    ck_assert(subspace_state(w->a) & SUBSPACE_MAY_LOAD);
    save(w, &after);
    ck_assert_msg(before.bytes == after.bytes && memcmp(before.blob, after.blob, before.bytes) == 0,
                  "%s %zu: a refused blob leaves traces", what, k);
    forget(&before);
    forget(&after);
    return s;
}

static void blob_of(int bits, uint32_t workers, uint32_t rank, uint64_t after, saved *s) {
    const team_desc d = config(bits, workers);
    team t;
    uint64_t k;
    ck_assert_msg(team_open(&t, &d), "%s", t.why);
    for (k = 0; k < after; k++) one_round(&t, k);
    save(&t.worker[rank], s);
    ck_assert_msg(team_close(&t), "%s", t.why);
}

/* A fresh object whose host has used the setter before it loads. */
static void fresh_object(team *t, int bits, uint32_t workers) {
    const team_desc d = config(bits, workers);
    ck_assert_msg(team_open(t, &d), "%s", t->why);
    ck_assert_int_eq(subspace_set_batch(t->worker[0].a, 5), WEFT_OK);
}

START_TEST(every_byte_flipped) {
    saved s;
    team t;
    size_t at;
    blob_of(_i, 2, 0, 3, &s);
    fresh_object(&t, _i, 2);
    for (at = 0; at < s.bytes; at++) {
        unsigned mask = 1u << at % 8;
        s.blob[at] = (unsigned char)(s.blob[at] ^ mask);
        refused(&t.worker[0], s.blob, s.bytes, "flip of byte", at);
        s.blob[at] = (unsigned char)(s.blob[at] ^ mask);
    }
    ck_assert_int_eq(subspace_load(t.worker[0].a, s.blob, s.bytes), WEFT_OK);
    forget(&s);
    ck_assert_msg(team_close(&t), "%s", t.why);
}
END_TEST

START_TEST(every_length) {
    saved s;
    team t;
    size_t n, k;
    blob_of(1, 2, 0, 3, &s);
    fresh_object(&t, 1, 2);
    for (n = 0; n < s.bytes; n++) {
        unsigned char *exact = (unsigned char *)malloc(n + 1); /* at the very end of its memory */
        memcpy(exact + 1, s.blob, n);
        refused(&t.worker[0], exact + 1, n, "truncation to", n);
        if (n >= 28) { /* and with everything else as it should be */
            for (k = 0; k < 8; k++) exact[1 + 16 + k] = (unsigned char)((uint64_t)n >> (8 * k));
            reseal(exact + 1, n);
            refused(&t.worker[0], exact + 1, n, "consistent truncation to", n);
        }
        free(exact);
    }
    refused(&t.worker[0], NULL, s.bytes, "no blob", 0);
    {
        unsigned char *longer = (unsigned char *)calloc(1, s.bytes + 8);
        memcpy(longer, s.blob, s.bytes);
        refused(&t.worker[0], longer, s.bytes + 1, "longer", 1);
        for (k = 0; k < 8; k++) longer[16 + k] = (unsigned char)((uint64_t)(s.bytes + 8) >> (8 * k));
        reseal(longer, s.bytes + 8);
        refused(&t.worker[0], longer, s.bytes + 8, "longer", 8);
        free(longer);
    }
    ck_assert_int_eq(subspace_load(t.worker[0].a, s.blob, s.bytes), WEFT_OK);
    forget(&s);
    ck_assert_msg(team_close(&t), "%s", t.why);
}
END_TEST

/* The blob of another worker, of other settings, of another version. */
START_TEST(somebody_elses) {
    saved s;
    team t;
    int bits;
    fresh_object(&t, 0, 2);
    blob_of(0, 2, 1, 3, &s);
    ck_assert_int_eq(refused(&t.worker[0], s.blob, s.bytes, "other rank", 1), WEFT_ERR_MISMATCH);
    ck_assert_uint_ne(why.expected, why.got);
    forget(&s);
    blob_of(0, 3, 0, 3, &s);
    ck_assert_int_eq(refused(&t.worker[0], s.blob, s.bytes, "other size", 3), WEFT_ERR_MISMATCH);
    forget(&s);
    for (bits = 1; bits < CONFIGS; bits++) {
        blob_of(bits, 2, 0, 3, &s);
        ck_assert_int_eq(refused(&t.worker[0], s.blob, s.bytes, "other settings", (size_t)bits), WEFT_ERR_MISMATCH);
        forget(&s);
    }
    blob_of(0, 2, 0, 3, &s);
    s.blob[4]++;
    reseal(s.blob, s.bytes);
    ck_assert_int_eq(refused(&t.worker[0], s.blob, s.bytes, "version", 2), WEFT_ERR_VERSION);
    forget(&s);
    ck_assert_msg(team_close(&t), "%s", t.why);
}
END_TEST

/* The checksum fits, the contents do not: each number in turn is replaced by a bad one. Refused without a trace; or it
 * was a legal value, and then rounds go on, end, and stay finite. */
START_TEST(contents_out_of_range) {
    static const uint64_t bad[] = {0,
                                   1,
                                   2,
                                   3,
                                   UINT64_C(0xFFFFFFFF),
                                   UINT64_C(0x100000000),
                                   UINT64_C(1) << 47,
                                   UINT64_C(1) << 63,
                                   UINT64_MAX - 1,
                                   UINT64_MAX,
                                   UINT64_C(0x7FF0000000000000),
                                   UINT64_C(0xFFF0000000000000),
                                   UINT64_C(0x7FF8000000000000),
                                   UINT64_C(0xBFF0000000000000),
                                   UINT64_C(0x4000000000000000),
                                   UINT64_C(0x7FEFFFFFFFFFFFFF),
                                   UINT64_C(0x8000000000000000)};
    const int bits = _i % 2;
    const uint32_t workers = _i / 2 ? 2 : 1;
    saved s[2];
    team t;
    size_t at, k, i;
    uint32_t r;
    uint64_t turned_down = 0, taken = 0;
    for (r = 0; r < workers; r++) blob_of(bits, workers, r, 3, &s[r]);
    fresh_object(&t, bits, workers);
    for (at = 24; at + 8 <= s[0].bytes - 4; at += 8)
        for (k = 0; k < sizeof bad / sizeof bad[0]; k++) {
            unsigned char old[2][8];
            weft_status st = WEFT_OK;
            team_desc d = config(bits, workers);
            team probe;
            for (r = 0; r < workers; r++) {
                memcpy(old[r], s[r].blob + at, 8);
                for (i = 0; i < 8; i++) s[r].blob[at + i] = (unsigned char)(bad[k] >> (8 * i));
                reseal(s[r].blob, s[r].bytes);
            }
            d.s.timeout_ns = 1000000;
            ck_assert_msg(team_open(&probe, &d), "%s", probe.why);
            for (r = 0; r < workers && st == WEFT_OK; r++)
                st = subspace_load(probe.worker[r].a, s[r].blob, s[r].bytes);
            if (st == WEFT_OK) {
                uint32_t e;
                int n;
                for (n = 0; n < 3; n++) {
                    team_fill(&probe, (uint64_t)n);
                    for (r = 0; r < workers; r++)
                        if (probe.worker[r].status >= 0)
                            probe.worker[r].status = subspace_submit(probe.worker[r].a, 0, 4);
                    team_advance(&probe, 5000000);
                    for (r = 0; r < workers; r++)
                        if (probe.worker[r].status == WEFT_ERR_NONFINITE) probe.worker[r].status = WEFT_OK;
                }
                for (r = 0; r < workers; r++)
                    for (e = 0; e < 4; e++)
                        for (i = 0; i < count[e]; i++)
                            ck_assert_msg(isfinite(cluster_get(&probe.worker[r].grads.tensor[e], i)),
                                          "bytes %zu.. = %#llx: an aggregate is not finite", at,
                                          (unsigned long long)bad[k]);
                taken++;
            }
            ck_assert_msg(team_close(&probe), "%s", probe.why);
            if (st != WEFT_OK && refused(&t.worker[0], s[0].blob, s[0].bytes, "number at", at) < 0) turned_down++;
            for (r = 0; r < workers; r++) memcpy(s[r].blob + at, old[r], 8);
        }
    ck_assert_uint_gt(turned_down, 20);
    ck_assert_uint_gt(taken, 50);
    for (r = 0; r < workers; r++) forget(&s[r]);
    ck_assert_msg(team_close(&t), "%s", t.why);
}
END_TEST

/* ---- when ---- */

START_TEST(only_into_a_fresh_object) {
    const team_desc d = config(1, 2);
    saved s, late;
    size_t bytes;
    uint32_t r;
    team t;
    blob_of(1, 2, 0, 3, &s);
    ck_assert_msg(team_open(&t, &d), "%s", t.why);
    team_fill(&t, 1);
    ck_assert_msg(team_aggregate(&t), "%s", t.why);
    ck_assert_int_eq(subspace_load(t.worker[0].a, s.blob, s.bytes), WEFT_ERR_ORDER);
    save(&t.worker[0], &late);
    ck_assert_uint_eq(late.bytes, s.bytes);
    /* not in the middle of a round, either */
    for (r = 0; r < 2; r++) t.worker[r].status = subspace_submit(t.worker[r].a, 0, 2);
    ck_assert_int_eq(subspace_save(t.worker[0].a, late.blob, late.bytes, &bytes), WEFT_ERR_ORDER);
    ck_assert_int_eq(subspace_load(t.worker[0].a, s.blob, s.bytes), WEFT_ERR_ORDER);
    ck_assert_msg(team_settle(&t), "%s", t.why);
    for (r = 0; r < 2; r++) ck_assert_int_eq(t.worker[r].status, WEFT_WANT_GRADIENT);
    ck_assert_int_eq(subspace_save(t.worker[0].a, late.blob, late.bytes, &bytes), WEFT_ERR_ORDER);
    TEAM_ALL(&t, w, subspace_submit(w->a, 2, 2));
    ck_assert_msg(team_fine(&t, "round"), "%s", t.why);
    forget(&late);
    ck_assert_msg(team_close(&t), "%s", t.why);
    /* twice: what has been loaded counts as begun */
    ck_assert_msg(team_open(&t, &d), "%s", t.why);
    ck_assert_int_eq(subspace_load(t.worker[0].a, s.blob, s.bytes), WEFT_OK);
    ck_assert_int_eq(subspace_load(t.worker[0].a, s.blob, s.bytes), WEFT_ERR_ORDER);
    forget(&s);
    ck_assert_msg(team_close(&t), "%s", t.why);
}
END_TEST

int main(void) {
    Suite *s = suite_create("state");
    TCase *t = tcase_create("resume");
    SRunner *runner;
    int failed;
    tcase_set_timeout(t, 60);
    tcase_add_loop_test(t, resumes_at_every_round, 0, CONFIGS);
    tcase_add_test(t, combining_resumes);
    tcase_add_test(t, resumes_with_a_newcomer);
    suite_add_tcase(s, t);
    t = tcase_create("blobs");
    tcase_set_timeout(t, 60);
    tcase_add_test(t, format);
    tcase_add_test(t, capacity_is_named);
    tcase_add_loop_test(t, every_byte_flipped, 0, 2);
    tcase_add_test(t, every_length);
    tcase_add_test(t, somebody_elses);
    tcase_add_loop_test(t, contents_out_of_range, 0, 4);
    tcase_add_test(t, only_into_a_fresh_object);
    suite_add_tcase(s, t);
    runner = srunner_create(s);
    srunner_run_all(runner, CK_NORMAL);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
