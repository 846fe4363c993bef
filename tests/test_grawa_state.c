/* SPDX-License-Identifier: MIT
 * Saved state: stopping and going on at any step is the same as never having stopped, bit for bit; and no blob, however
 * hostile, does harm. */
#define GRAWA_IMPLEMENTATION
#include "../grawa.h"
#include "cluster.h"

#include <check.h>

enum { WORKERS = 3, STEPS = 11 };

static const size_t count[4] = {6, 1, 0, 19};
static const weft_dtype dtype[4] = {WEFT_F32, WEFT_BF16, WEFT_F32, WEFT_BF16};
static const weft_dtype grad_dtype[4] = {WEFT_F32, WEFT_F32, WEFT_F32, WEFT_F32};

static cluster_desc config(int bits, uint32_t workers) {
    cluster_desc d = cluster_default((uint64_t)bits + 1, workers);
    d.tensors = 4;
    d.count = count;
    d.dtype = dtype;
    d.grad_dtype = grad_dtype;
    d.grawa.period_steps = 3;
    d.grawa.source = (grawa_source)(bits % 3);
    if (bits / 3 % 2) d.grawa.weighting = GRAWA_BY_LAYER;
    if (bits / 6 % 2) d.grawa.proximal = 0.3;
    if (bits / 12 % 2) {
        d.start_unequal = 1;
        d.grawa.initial = GRAWA_INITIAL_AVERAGE;
    }
    return d;
}
enum { CONFIGS = 24 };

/* A schedule: what the host does before step k. */
static void schedule(cluster *c, uint64_t k) {
    uint32_t r;
    for (r = 0; r < c->size; r++) {
        grawa *g = c->worker[r].g;
        if (k == 3) ck_assert_int_eq(grawa_set_period(g, 2), WEFT_OK);
        if (k == 4) ck_assert_int_eq(grawa_set_pull(g, 0.25), WEFT_OK);
        if (k == 4 && c->desc.grawa.proximal > 0) ck_assert_int_eq(grawa_set_proximal(g, 0.125), WEFT_OK);
        if (k == 5) ck_assert_int_eq(grawa_set_grad_scale(g, -8.0), WEFT_OK);
    }
}

/* Gradients of which some are strange: an absent tensor, one that is not finite, a skipped step. */
static const weft_tensors *odd_noise(cluster_worker *w) {
    const weft_tensors *g = cluster_noise(w);
    if (w->step % 5 == 2 && w->rank == 1) cluster_set(&w->grads.tensor[0], 2, (double)INFINITY);
    if (w->step % 7 == 5 && w->rank == 0) return NULL;
    return g;
}

typedef struct saved {
    unsigned char *blob;
    size_t bytes;
    weft_tensors params;
    uint64_t rng, step;
} saved;

static void save(cluster_worker *w, saved *s) {
    size_t again = 0;
    ck_assert_int_eq(grawa_save(w->g, NULL, 0, &s->bytes), WEFT_OK);
    s->blob = (unsigned char *)malloc(s->bytes + CLUSTER_CANARY);
    memset(s->blob + s->bytes, 0xA5, CLUSTER_CANARY);
    ck_assert_int_eq(grawa_save(w->g, s->blob, s->bytes, &again), WEFT_OK);
    ck_assert_uint_eq(again, s->bytes);
    ck_assert(cluster_canary(s->blob + s->bytes));
    s->params = cluster_tensors(4, count, dtype);
    cluster_copy(&w->params, &s->params);
    s->rng = w->rng;
    s->step = w->step;
}

static void forget(saved *s) {
    free(s->blob);
    cluster_tensors_free(&s->params);
}

static void load(cluster_worker *w, const saved *s) {
    cluster_copy(&s->params, &w->params);
    w->rng = s->rng;
    w->step = s->step;
    w->status = grawa_load(w->g, s->blob, s->bytes);
    ck_assert_msg(w->status == WEFT_OK, "load: %s (%s)", weft_strerror(w->status), grawa_detail(w->g)->field);
}

static void steps(cluster *c, uint64_t from, uint64_t to) {
    for (; from < to; from++) {
        schedule(c, from);
        ck_assert_msg(cluster_steps(c, 1), "step %llu: %s", (unsigned long long)from, c->why);
    }
}

static int alike(double a, double b) {
    return a == b || (isnan(a) && isnan(b));
}

/* All that a host can read, and all that is saved. */
static void same(cluster *a, cluster *b, int k) {
    uint32_t r, q, i;
    for (r = 0; r < a->size; r++) {
        grawa_stats_t s, t;
        grawa_desc e, f;
        saved x, y;
        grawa_stats(a->worker[r].g, &s);
        grawa_stats(b->worker[r].g, &t);
        memset(&s.traffic, 0, sizeof s.traffic);
        memset(&t.traffic, 0, sizeof t.traffic);
        ck_assert_msg(cluster_same_bits(&a->worker[r].params, &b->worker[r].params),
                      "stopped at %d: parameters of worker %u", k, r);
        ck_assert_msg(memcmp(&s, &t, sizeof s) == 0, "stopped at %d: stats of worker %u", k, r);
        for (q = 0; q < a->size; q++)
            for (i = 0; i < grawa_groups(a->worker[r].g); i++)
                ck_assert_msg(grawa_weight(a->worker[r].g, q, i) == grawa_weight(b->worker[r].g, q, i),
                              "stopped at %d: weights", k);
        for (i = 0; i < grawa_groups(a->worker[r].g); i++) {
            grawa_group_t m, n;
            ck_assert_int_eq(grawa_group(a->worker[r].g, i, &m), WEFT_OK);
            ck_assert_int_eq(grawa_group(b->worker[r].g, i, &n), WEFT_OK);
            ck_assert_msg(alike(m.norm, n.norm) && alike(m.ema, n.ema) && alike(m.corrected, n.corrected),
                          "stopped at %d: norms of worker %u, group %u: %g %g %g, %g %g %g", k, r, i, m.norm, m.ema,
                          m.corrected, n.norm, n.ema, n.corrected);
        }
        grawa_effective(a->worker[r].g, &e);
        grawa_effective(b->worker[r].g, &f);
        ck_assert_uint_eq(e.period_steps, f.period_steps);
        ck_assert(e.pull == f.pull && e.proximal == f.proximal);
        save(&a->worker[r], &x);
        save(&b->worker[r], &y);
        ck_assert_uint_eq(x.bytes, y.bytes);
        ck_assert_msg(memcmp(x.blob, y.blob, x.bytes) == 0, "stopped at %d: what worker %u saves in the end", k, r);
        forget(&x);
        forget(&y);
    }
}

START_TEST(resumes_at_every_step) {
    uint32_t workers = _i % 8 == 7 ? 1 : WORKERS, r;
    static saved kept[STEPS + 1][WORKERS];
    cluster_desc d = config(_i, workers);
    cluster whole, rest;
    int k;
    d.train = odd_noise;
    ck_assert_msg(cluster_open(&whole, &d), "%s", whole.why);
    for (k = 0; k <= STEPS; k++) {
        for (r = 0; r < workers; r++) save(&whole.worker[r], &kept[k][r]);
        if (k < STEPS) steps(&whole, (uint64_t)k, (uint64_t)k + 1);
    }
    for (k = 0; k <= STEPS; k++) {
        d.sim.seed = (uint64_t)k + 100; /* another network, too */
        ck_assert_msg(cluster_open(&rest, &d), "%s", rest.why);
        for (r = 0; r < workers; r++) {
            load(&rest.worker[r], &kept[k][r]);
            if (k) ck_assert(!(grawa_state(rest.worker[r].g) & GRAWA_MAY_LOAD));
        }
        steps(&rest, (uint64_t)k, STEPS);
        same(&whole, &rest, k);
        ck_assert_msg(cluster_close(&rest), "%s", rest.why);
    }
    for (k = 0; k <= STEPS; k++)
        for (r = 0; r < workers; r++) forget(&kept[k][r]);
    ck_assert_msg(cluster_close(&whole), "%s", whole.why);
}
END_TEST

/* A worker that is new in a view has no weights of a round yet, and the others have: they mean different centers. */
START_TEST(a_newcomer_has_no_center) {
    cluster_desc d = config(6, WORKERS);
    uint32_t members[3] = {0, 1, 2}, r;
    weft_view v = {sizeof v, 1, 3, members};
    cluster c;
    cluster_worker *w;
    ck_assert_msg(cluster_open(&c, &d) && cluster_steps(&c, 3), "%s", c.why);
    w = &c.worker[2];
    weft_sim_lose(&c.sim, 2);
    weft_sim_revive(&c.sim, 2);
    free(w->memory);
    ck_assert(cluster_worker_init(w));
    for (r = 0; r < 2; r++) {
        ck_assert_int_eq(grawa_peer_lost(c.worker[r].g, 2), WEFT_OK);
        ck_assert_int_eq(grawa_peer_up(c.worker[r].g, 2), WEFT_OK);
    }
    CLUSTER_ALL(&c, x, grawa_regroup(x->g, &v));
    for (r = 0; r < 3; r++) c.worker[r].status = grawa_average(c.worker[r].g, GRAWA_CENTER, NULL, NULL);
    ck_assert_msg(cluster_settle(&c), "%s", c.why);
    for (r = 0; r < 3; r++) {
        ck_assert_int_eq(c.worker[r].status, WEFT_ERR_MISMATCH);
        ck_assert_str_eq(grawa_detail(c.worker[r].g)->field, "model, or round of the weights");
        ck_assert_uint_eq(grawa_detail(c.worker[r].g)->peer, r == 2 ? 0 : 2);
    }
    ck_assert_msg(cluster_steps(&c, 3), "%s", c.why); /* after its first round all have the same */
    CLUSTER_ALL(&c, x, grawa_average(x->g, GRAWA_CENTER, NULL, NULL));
    ck_assert_msg(cluster_close(&c), "%s", c.why);
}
END_TEST

/* A worker that has come back and has not had its first round yet: it still takes over the center after having been
 * loaded. */
START_TEST(resumes_with_a_newcomer) {
    cluster_desc d = config(6, WORKERS);
    cluster whole, rest;
    saved kept[WORKERS];
    uint32_t members[3] = {0, 1, 2}, r;
    weft_view v = {sizeof v, 1, 3, members};
    cluster_worker *w;
    ck_assert_msg(cluster_open(&whole, &d), "%s", whole.why);
    ck_assert_msg(cluster_steps(&whole, 3), "%s", whole.why);
    w = &whole.worker[2];
    weft_sim_lose(&whole.sim, 2);
    weft_sim_revive(&whole.sim, 2);
    free(w->memory);
    cluster_fill(&w->params, 99, 2.0);
    ck_assert(cluster_worker_init(w));
    for (r = 0; r < 2; r++) {
        ck_assert_int_eq(grawa_peer_lost(whole.worker[r].g, 2), WEFT_OK);
        ck_assert_int_eq(grawa_peer_up(whole.worker[r].g, 2), WEFT_OK);
    }
    CLUSTER_ALL(&whole, x, grawa_regroup(x->g, &v));
    ck_assert_msg(!whole.why[0], "%s", whole.why);
    ck_assert_msg(cluster_steps(&whole, 1), "%s", whole.why);
    ck_assert_msg(cluster_open(&rest, &d), "%s", rest.why);
    for (r = 0; r < WORKERS; r++) save(&whole.worker[r], &kept[r]);
    for (r = 0; r < WORKERS; r++) load(&rest.worker[r], &kept[r]);
    ck_assert_msg(cluster_steps(&whole, 5), "%s", whole.why);
    ck_assert_msg(cluster_steps(&rest, 5), "%s", rest.why);
    for (r = 0; r < WORKERS; r++) {
        forget(&kept[r]);
        ck_assert_msg(cluster_same_bits(&whole.worker[r].params, &rest.worker[r].params), "worker %u", r);
    }
    ck_assert_msg(cluster_close(&rest), "%s", rest.why);
    ck_assert_msg(cluster_close(&whole), "%s", whole.why);
}
END_TEST

/* ---- the format ---- */

static uint32_t crc_by_the_bit(const unsigned char *p, size_t n) {
    uint32_t c = 0xFFFFFFFFu;
    int k;
    while (n--) {
        c ^= *p++;
        for (k = 0; k < 8; k++) c = c & 1 ? c >> 1 ^ 0x82F63B78u : c >> 1;
    }
    return ~c;
}

static uint64_t le(const unsigned char *p, int n) {
    uint64_t v = 0;
    while (n--) v = v << 8 | p[n];
    return v;
}

static void reseal(unsigned char *p, size_t n) {
    uint32_t c = crc_by_the_bit(p, n - 4);
    int k;
    for (k = 0; k < 4; k++) p[n - 4 + (size_t)k] = (unsigned char)(c >> (8 * k));
}

static int finds(const saved *s, double v) {
    uint64_t bits;
    size_t at;
    memcpy(&bits, &v, sizeof bits);
    for (at = 24; at + 8 <= s->bytes - 4; at += 8)
        if (le(s->blob + at, 8) == bits) return 1;
    return 0;
}

START_TEST(format) {
    cluster_desc d = config(6, 1); /* proximal: the anchor is the last thing in the blob */
    cluster c;
    saved s;
    size_t i, at;
    ck_assert_msg(cluster_open(&c, &d), "%s", c.why);
    ck_assert_int_eq(grawa_set_pull(c.worker[0].g, 0.40625), WEFT_OK);
    ck_assert_int_eq(grawa_set_grad_scale(c.worker[0].g, 1024.5), WEFT_OK);
    ck_assert_int_eq(grawa_set_period(c.worker[0].g, 0x01020304), WEFT_OK);
    save(&c.worker[0], &s);
    ck_assert(memcmp(s.blob, "wefs", 4) == 0);
    ck_assert_uint_eq(le(s.blob + 4, 4), WEFT_BLOB_VERSION);
    ck_assert_uint_eq(le(s.blob + 16, 8), s.bytes);
    ck_assert_uint_eq(le(s.blob + s.bytes - 4, 4), crc_by_the_bit(s.blob, s.bytes - 4));
    ck_assert(finds(&s, 0.40625));
    ck_assert(finds(&s, 1024.5));
    ck_assert(finds(&s, 0.3));
    for (at = 24; at + 8 <= s.bytes && le(s.blob + at, 8) != 0x01020304; at += 8) continue;
    ck_assert_uint_lt(at, s.bytes - 8);
    /* the anchor: before the first round the initial parameters, in the elements' own types */
    at = s.bytes - 4 - (6 * 4 + 1 * 2 + 19 * 2);
    for (i = 0; i < 6; i++, at += 4) {
        uint32_t bits;
        memcpy(&bits, (float *)c.worker[0].params.tensor[0].data + i, 4);
        ck_assert_uint_eq(le(s.blob + at, 4), bits);
    }
    ck_assert_uint_eq(le(s.blob + at, 2), *(uint16_t *)c.worker[0].params.tensor[1].data);
    at += 2;
    for (i = 0; i < 19; i++, at += 2)
        ck_assert_uint_eq(le(s.blob + at, 2), ((uint16_t *)c.worker[0].params.tensor[3].data)[i]);
    forget(&s);
    ck_assert_msg(cluster_close(&c), "%s", c.why);
}
END_TEST

START_TEST(capacity_is_named) {
    cluster_desc d = config(1, 1);
    cluster c;
    grawa *g;
    size_t need = 0, bytes, k;
    unsigned char *buf;
    ck_assert_msg(cluster_open(&c, &d), "%s", c.why);
    g = c.worker[0].g;
    ck_assert_int_eq(grawa_save(g, NULL, 0, NULL), WEFT_ERR_ARGUMENT);
    ck_assert_int_eq(grawa_save(g, NULL, 0, &need), WEFT_OK);
    buf = (unsigned char *)malloc(need + 1);
    memset(buf, 0x5A, need + 1);
    for (k = 0; k < need; k += need / 7) {
        bytes = 0;
        ck_assert_int_eq(grawa_save(g, buf, k, &bytes), WEFT_ERR_CAPACITY);
        ck_assert_uint_eq(bytes, need);
        ck_assert_uint_eq(grawa_detail(g)->expected, need);
        ck_assert_uint_eq(grawa_detail(g)->got, k);
        for (bytes = 0; bytes <= need; bytes++) ck_assert_uint_eq(buf[bytes], 0x5A);
    }
    ck_assert_int_eq(grawa_save(g, buf, need, NULL), WEFT_OK);
    ck_assert_uint_eq(buf[need], 0x5A);
    free(buf);
    ck_assert_msg(cluster_close(&c), "%s", c.why);
}
END_TEST

/* ---- hostile blobs ---- */

/* Refused, and everything as before: what would be saved now, what may be done now, and the parameters. */
static weft_detail why;

static weft_status refused(cluster_worker *w, const unsigned char *blob, size_t bytes, const char *what, size_t k) {
    saved before, after;
    weft_status s;
    save(w, &before);
    s = grawa_load(w->g, blob, bytes);
    why = *grawa_detail(w->g);
    ck_assert_msg(s < 0, "%s %zu: %s", what, k, weft_strerror(s));
    ck_assert_int_eq(why.status, s);
    ck_assert_ptr_nonnull(why.field);
    ck_assert(grawa_state(w->g) & GRAWA_MAY_LOAD);
    save(w, &after);
    ck_assert_msg(before.bytes == after.bytes && memcmp(before.blob, after.blob, before.bytes) == 0,
                  "%s %zu: a refused blob leaves traces", what, k);
    ck_assert(cluster_same_bits(&before.params, &after.params));
    forget(&before);
    forget(&after);
    return s;
}

static void blob_of(int bits, uint32_t workers, uint32_t rank, uint64_t after, saved *s) {
    cluster_desc d = config(bits, workers);
    cluster c;
    ck_assert_msg(cluster_open(&c, &d) && cluster_steps(&c, after), "%s", c.why);
    save(&c.worker[rank], s);
    ck_assert_msg(cluster_close(&c), "%s", c.why);
}

/* A fresh object whose host has used all setters before it loads. */
static void fresh_object(cluster *c, int bits, uint32_t workers) {
    cluster_desc d = config(bits, workers);
    grawa *g;
    ck_assert_msg(cluster_open(c, &d), "%s", c->why);
    g = c->worker[0].g;
    ck_assert_int_eq(grawa_set_period(g, 5), WEFT_OK);
    ck_assert_int_eq(grawa_set_pull(g, 0.75), WEFT_OK);
    ck_assert_int_eq(grawa_set_grad_scale(g, 64.0), WEFT_OK);
    if (c->desc.grawa.proximal > 0) ck_assert_int_eq(grawa_set_proximal(g, 0.0625), WEFT_OK);
}

START_TEST(every_byte_flipped) {
    saved s;
    cluster c;
    size_t at;
    blob_of(_i ? 9 : 2, 2, 0, 4, &s);
    fresh_object(&c, _i ? 9 : 2, 2);
    for (at = 0; at < s.bytes; at++) {
        unsigned mask = 1u << at % 8;
        s.blob[at] = (unsigned char)(s.blob[at] ^ mask);
        refused(&c.worker[0], s.blob, s.bytes, "flip of byte", at);
        s.blob[at] = (unsigned char)(s.blob[at] ^ mask);
    }
    ck_assert_int_eq(grawa_load(c.worker[0].g, s.blob, s.bytes), WEFT_OK);
    forget(&s);
    ck_assert_msg(cluster_close(&c), "%s", c.why);
}
END_TEST

/* A blob of other beginnings whose contents cannot be leaves nothing behind: those who begin together still have the
 * same parameters to begin with. */
START_TEST(bad_contents_leave_nothing) {
    cluster_desc d = config(0, 2);
    cluster other, c;
    saved kept;
    uint64_t seed = d.data_seed;
    d.data_seed = seed + 1;
    ck_assert_msg(cluster_open(&other, &d) && cluster_steps(&other, 4), "%s", other.why);
    save(&other.worker[0], &kept);
    d.data_seed = seed;
    ck_assert_msg(cluster_open(&c, &d), "%s", c.why);
    ck_assert(c.worker[0].g->initial_hash != other.worker[0].g->initial_hash);
    memset(kept.blob + 24, 0xFF, 8);
    reseal(kept.blob, kept.bytes);
    ck_assert_int_eq(grawa_load(c.worker[0].g, kept.blob, kept.bytes), WEFT_ERR_ARGUMENT);
    ck_assert_msg(cluster_steps(&c, 4), "%s", c.why); /* (grawa_start would take a new look at them) */
    forget(&kept);
    ck_assert_msg(cluster_close(&c) && cluster_close(&other), "%s", c.why);
}
END_TEST

START_TEST(every_length) {
    saved s;
    cluster c;
    size_t n;
    blob_of(9, 2, 0, 4, &s);
    fresh_object(&c, 9, 2);
    for (n = 0; n < s.bytes; n++) {
        unsigned char *exact = (unsigned char *)malloc(n + 1); /* at the very end of its memory */
        memcpy(exact + 1, s.blob, n);
        refused(&c.worker[0], exact + 1, n, "truncation to", n);
        if (n >= 28) { /* and with everything else as it should be */
            size_t k;
            for (k = 0; k < 8; k++) exact[1 + 16 + k] = (unsigned char)((uint64_t)n >> (8 * k));
            reseal(exact + 1, n);
            refused(&c.worker[0], exact + 1, n, "consistent truncation to", n);
        }
        free(exact);
    }
    refused(&c.worker[0], NULL, s.bytes, "no blob", 0);
    {
        unsigned char *longer = (unsigned char *)calloc(1, s.bytes + 8);
        memcpy(longer, s.blob, s.bytes);
        refused(&c.worker[0], longer, s.bytes + 1, "longer", 1);
        longer[16] = (unsigned char)(longer[16] + 8);
        reseal(longer, s.bytes + 8);
        refused(&c.worker[0], longer, s.bytes + 8, "longer", 8);
        free(longer);
    }
    ck_assert_int_eq(grawa_load(c.worker[0].g, s.blob, s.bytes), WEFT_OK);
    forget(&s);
    ck_assert_msg(cluster_close(&c), "%s", c.why);
}
END_TEST

/* The blob of another worker, of other settings, of another version. */
START_TEST(somebody_elses) {
    saved s;
    cluster c;
    int bits;
    fresh_object(&c, 0, 2);
    blob_of(0, 2, 1, 4, &s);
    ck_assert_int_eq(refused(&c.worker[0], s.blob, s.bytes, "other rank", 1), WEFT_ERR_MISMATCH);
    ck_assert_uint_ne(why.expected, why.got);
    forget(&s);
    blob_of(0, 3, 0, 4, &s);
    ck_assert_int_eq(refused(&c.worker[0], s.blob, s.bytes, "other size", 3), WEFT_ERR_MISMATCH);
    forget(&s);
    for (bits = 1; bits < CONFIGS; bits++) {
        if (bits / 6 == 1)
            continue; /* only the proximal pull, not in the fingerprint: the length tells, or it is a legal blob */
        blob_of(bits, 2, 0, 4, &s);
        ck_assert_int_eq(refused(&c.worker[0], s.blob, s.bytes, "other settings", (size_t)bits), WEFT_ERR_MISMATCH);
        forget(&s);
    }
    blob_of(6, 2, 0, 4, &s);
    refused(&c.worker[0], s.blob, s.bytes, "with an anchor", 6);
    forget(&s);
    blob_of(0, 2, 0, 4, &s);
    s.blob[4]++;
    reseal(s.blob, s.bytes);
    ck_assert_int_eq(refused(&c.worker[0], s.blob, s.bytes, "version", 2), WEFT_ERR_VERSION);
    forget(&s);
    ck_assert_msg(cluster_close(&c), "%s", c.why);
}
END_TEST

/* The checksum fits, the contents do not: each number in turn is replaced by a bad one. Refused without a trace; or it
 * was a legal value, and then training goes on, ends, and stays finite. */
START_TEST(contents_out_of_range) {
    static const uint64_t bad[] = {0,
                                   1,
                                   2,
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
                                   UINT64_C(0x8000000000000000),
                                   UINT64_C(0x7F8000007F800000),
                                   UINT64_C(0x7FC07FC07FC07FC0)};
    int bits = _i % 2 ? 9 : 5;
    uint32_t workers = _i / 2 ? 2 : 1;
    saved s[2];
    cluster c;
    size_t at, k, i;
    uint32_t r;
    uint64_t turned_down = 0, taken = 0;
    for (r = 0; r < workers; r++) blob_of(bits, workers, r, 4, &s[r]);
    fresh_object(&c, bits, workers);
    for (at = 24; at + 8 <= s[0].bytes - 4; at += 8)
        for (k = 0; k < sizeof bad / sizeof bad[0]; k++) {
            unsigned char old[2][8];
            weft_status st = WEFT_OK;
            for (r = 0; r < workers; r++) {
                memcpy(old[r], s[r].blob + at, 8);
                for (i = 0; i < 8; i++) s[r].blob[at + i] = (unsigned char)(bad[k] >> (8 * i));
                reseal(s[r].blob, s[r].bytes);
            }
            {
                cluster_desc d = config(bits, workers);
                cluster probe;
                d.grawa.timeout_ns = 1000000;
                ck_assert_msg(cluster_open(&probe, &d), "%s", probe.why);
                for (r = 0; r < workers && st == WEFT_OK; r++)
                    st = grawa_load(probe.worker[r].g, s[r].blob, s[r].bytes);
                if (st == WEFT_OK) {
                    int n, asked;
                    uint32_t t;
                    size_t e;
                    for (n = 0; n < 5; n++) {
                        for (r = 0; r < workers; r++)
                            if (probe.worker[r].status == WEFT_OK)
                                probe.worker[r].status = grawa_step(probe.worker[r].g, cluster_noise(&probe.worker[r]));
                        do {
                            cluster_advance(&probe, 5000000);
                            for (asked = 0, r = 0; r < workers; r++)
                                if (probe.worker[r].status == WEFT_WANT_GRADIENT)
                                    probe.worker[r].status =
                                        grawa_probe(probe.worker[r].g, cluster_noise_probe(&probe.worker[r])),
                                    asked = 1;
                        } while (asked);
                    }
                    for (r = 0; r < workers; r++)
                        for (t = 0; t < 4; t++)
                            for (e = 0; e < count[t]; e++)
                                ck_assert_msg(isfinite(cluster_get(&probe.worker[r].params.tensor[t], e)),
                                              "bytes %zu.. = %#llx: parameters are not finite any more", at,
                                              (unsigned long long)bad[k]);
                    taken++;
                }
                ck_assert_msg(cluster_close(&probe), "%s", probe.why);
            }
            if (st != WEFT_OK && refused(&c.worker[0], s[0].blob, s[0].bytes, "number at", at) < 0) turned_down++;
            for (r = 0; r < workers; r++) memcpy(s[r].blob + at, old[r], 8);
        }
    ck_assert_uint_gt(turned_down, 50);
    ck_assert_uint_gt(taken, 50);
    for (r = 0; r < workers; r++) forget(&s[r]);
    ck_assert_msg(cluster_close(&c), "%s", c.why);
}
END_TEST

/* ---- when ---- */

START_TEST(only_into_a_fresh_object) {
    saved s, late;
    cluster_desc d = config(1, 2);
    cluster c;
    size_t bytes;
    uint32_t r;
    blob_of(1, 2, 0, 4, &s);
    ck_assert_msg(cluster_open(&c, &d) && cluster_start(&c), "%s", c.why);
    ck_assert_int_eq(grawa_load(c.worker[0].g, s.blob, s.bytes), WEFT_ERR_ORDER);
    ck_assert_msg(cluster_steps(&c, 2), "%s", c.why);
    ck_assert_int_eq(grawa_load(c.worker[0].g, s.blob, s.bytes), WEFT_ERR_ORDER);
    save(&c.worker[0], &late);
    ck_assert_uint_eq(late.bytes, s.bytes);
    /* not in the middle of a round, either */
    for (r = 0; r < 2; r++) c.worker[r].status = grawa_step(c.worker[r].g, cluster_noise(&c.worker[r]));
    ck_assert_int_eq(c.worker[0].status, WEFT_WANT_GRADIENT);
    ck_assert_int_eq(grawa_save(c.worker[0].g, late.blob, late.bytes, &bytes), WEFT_ERR_ORDER);
    ck_assert_int_eq(grawa_load(c.worker[0].g, s.blob, s.bytes), WEFT_ERR_ORDER);
    for (r = 0; r < 2; r++) c.worker[r].status = grawa_probe(c.worker[r].g, &c.worker[r].grads);
    ck_assert_int_eq(grawa_save(c.worker[0].g, late.blob, late.bytes, &bytes), WEFT_ERR_ORDER);
    ck_assert_msg(cluster_finish_round(&c), "%s", c.why);
    forget(&late);
    ck_assert_msg(cluster_close(&c), "%s", c.why);
    /* twice: what has been loaded counts as begun */
    ck_assert_msg(cluster_open(&c, &d), "%s", c.why);
    ck_assert_int_eq(grawa_load(c.worker[0].g, s.blob, s.bytes), WEFT_OK);
    ck_assert_int_eq(grawa_load(c.worker[0].g, s.blob, s.bytes), WEFT_ERR_ORDER);
    forget(&s);
    ck_assert_msg(cluster_close(&c), "%s", c.why);
}
END_TEST

/* Workers that load blobs of different moments are told so before any number is mixed. */
START_TEST(different_moments) {
    saved a, b;
    cluster_desc d = config(0, 2);
    cluster c;
    uint32_t r;
    blob_of(0, 2, 0, 4, &a);
    blob_of(0, 2, 1, 7, &b);
    ck_assert_msg(cluster_open(&c, &d), "%s", c.why);
    load(&c.worker[0], &a);
    load(&c.worker[1], &b);
    for (r = 0; r < 2; r++) c.worker[r].status = grawa_start(c.worker[r].g);
    ck_assert_msg(cluster_settle(&c), "%s", c.why);
    ck_assert(c.worker[0].status == WEFT_ERR_MISMATCH || c.worker[1].status == WEFT_ERR_MISMATCH);
    for (r = 0; r < 2; r++)
        if (c.worker[r].status == WEFT_ERR_MISMATCH) {
            ck_assert_str_eq(grawa_detail(c.worker[r].g)->field, "round");
            ck_assert_uint_eq(grawa_detail(c.worker[r].g)->expected, 2);
            ck_assert_uint_eq(grawa_detail(c.worker[r].g)->got, 1);
        }
    forget(&a);
    forget(&b);
    ck_assert_msg(cluster_close(&c), "%s", c.why);
}
END_TEST

/* A blob that is shorter than what is read of it: nothing is read beyond its end, and what was there stays. */
START_TEST(short_blobs) {
    unsigned char bytes[12];
    weft_blob_buffer m;
    uint64_t v = 5;
    weft_blob b;
    memset(&b, 0, sizeof b);
    memset(bytes, 0, sizeof bytes);
    bytes[0] = 77;
    m.from = bytes;
    b.read = weft_blob_from_buffer;
    b.ctx = &m;
    b.capacity = sizeof bytes;
    weft_blob_u64(&b, &v);
    ck_assert(b.at == 8 && b.status == WEFT_OK && v == 77);
    v = 5;
    weft_blob_u64(&b, &v);
    ck_assert(b.at == 8 && b.status == WEFT_ERR_ARGUMENT && v == 5);
}
END_TEST

int main(void) {
    Suite *s = suite_create("state");
    TCase *t = tcase_create("resume");
    SRunner *runner;
    int failed;
    tcase_set_timeout(t, 60);
    tcase_add_loop_test(t, resumes_at_every_step, 0, CONFIGS);
    tcase_add_test(t, resumes_with_a_newcomer);
    tcase_add_test(t, a_newcomer_has_no_center);
    tcase_add_test(t, different_moments);
    suite_add_tcase(s, t);
    t = tcase_create("blobs");
    tcase_set_timeout(t, 60);
    tcase_add_test(t, format);
    tcase_add_test(t, capacity_is_named);
    tcase_add_loop_test(t, every_byte_flipped, 0, 2);
    tcase_add_test(t, bad_contents_leave_nothing);
    tcase_add_test(t, every_length);
    tcase_add_test(t, somebody_elses);
    tcase_add_loop_test(t, contents_out_of_range, 0, 4);
    tcase_add_test(t, only_into_a_fresh_object);
    tcase_add_test(t, short_blobs);
    suite_add_tcase(s, t);
    runner = srunner_create(s);
    srunner_run_all(runner, CK_NORMAL);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
