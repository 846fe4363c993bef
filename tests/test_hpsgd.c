/* SPDX-License-Identifier: MIT
 * HPSGD without faults: kernels bit by bit, whole runs against a model in this file (fixed, blocking, without delay, of
 * every type, carry and payload), what the methods it contains must equal, memory, masters, views, and reading. */
#define GRAWA_IMPLEMENTATION
#include "../grawa.h"
#define HPSGD_IMPLEMENTATION
#include "../hpsgd.h"
#include "pool/weft_pthread_pool.h"
#include "hpsgd_lock.h"

#include <check.h>

/* ---- arithmetic: every operation rounded once to the type; of two floats in double, then to float, is right ---- */

static double rnd(int wide, double v) {
    volatile float f;
    if (wide) return v;
    f = (float)v;
    return (double)f;
}

static double bf16(double v) {
    return (double)cluster_of_bits((uint32_t)cluster_to_bf16((float)v) << 16);
}

static int same(double a, double b) {
    return memcmp(&a, &b, sizeof a) == 0 || (isnan(a) && isnan(b));
}

/* ---- kernels ---- */

enum { ROOM = 80, ARRAYS = 5 };

static double element(const void *p, int wide, size_t i) {
    return wide ? ((const double *)p)[i] : (double)((const float *)p)[i];
}

static void set(void *p, int wide, size_t i, double v) {
    if (wide) ((double *)p)[i] = v;
    else ((float *)p)[i] = (float)v;
}

/* sum, own, w, x, out; each behind `off` elements of canary */
typedef struct arrays {
    double memory[ARRAYS][ROOM + 16];
    unsigned char *p[ARRAYS];
} arrays;

static void arrays_fill(arrays *a, int wide, size_t n, uint64_t *rng) {
    size_t each = wide ? 8 : 4, i;
    int k;
    memset(a->memory, 0xA5, sizeof a->memory);
    for (k = 0; k < ARRAYS; k++) {
        a->p[k] = (unsigned char *)a->memory[k] + each * (1 + cluster_below(rng, 5));
        for (i = 0; i < n; i++) {
            double v = ldexp(cluster_uniform(rng), (int)cluster_below(rng, 12) - 6);
            if (cluster_below(rng, 97) == 0) v = cluster_below(rng, 2) ? (double)NAN : (double)INFINITY;
            set(a->p[k], wide, i, rnd(wide, v));
        }
    }
}

static int untouched(const arrays *a, int wide, size_t n, int k) {
    size_t each = wide ? 8 : 4, i;
    const unsigned char *all = (const unsigned char *)a->memory[k];
    for (i = 0; i < sizeof a->memory[k]; i++)
        if ((all + i < a->p[k] || all + i >= a->p[k] + n * each) && all[i] != 0xA5) return 0;
    return 1;
}

START_TEST(kernels) {
    static const weft_isa sets[] = {WEFT_ISA_SERIAL, WEFT_ISA_SSE2, WEFT_ISA_AVX2, WEFT_ISA_AVX512, WEFT_ISA_NEON};
    uint64_t rng = 12345;
    size_t n, i;
    int wide, v, s, stream, tested = 0;
    for (s = 0; s < 5; s++)
        for (stream = 0; stream < 2; stream++) {
            const weft_replica_kernels *k = weft_replica_kernels_select(sets[s], stream ? SIZE_MAX : 0);
            if (!k) continue;
            ck_assert_int_eq(k->core->isa, sets[s]);
            tested++;
            for (wide = 0; wide < 2; wide++)
                for (n = 0; n < ROOM; n += n < 40 ? 1 : 13)
                    for (v = 0; v < 32; v++) {
                        const weft_replica_set *set_of = wide ? &k->f64 : &k->f32;
                        arrays a, was;
                        weft_phase o;
                        const void *sum, *own;
                        void *out;
                        uint64_t bad = 0, said = 0;
                        int launch = v & 1, ok = 1, j;
                        memset(&o, 0, sizeof o);
                        o.count = (double)(1 + v % 7);
                        o.carry = v & 4 ? 0.3 : 0.0;
                        o.carried = v & 8 ? 0.7 : 0.0;
                        o.progress = v & 16 ? 1 : 0;
                        o.again = v & 4 ? 1 : 0;
                        arrays_fill(&a, wide, n, &rng);
                        memcpy(&was, &a, sizeof a);
                        sum = v & 2 ? a.p[0] : NULL;
                        own = v & 8 || (!launch && o.again) ? a.p[1] : NULL;
                        /* in place: over the sum, over the own payload, or apart */
                        out = n % 3 == 0 && sum ? a.p[0] : n % 3 == 1 && own ? a.p[1] : a.p[4];
                        if (launch)
                            said = set_of->launch(n, &o, sum, own, a.p[2], a.p[3], out,
                                                  stream && out == (void *)a.p[4]);
                        else
                            set_of->merge(n, &o, sum, own, a.p[2], a.p[3]);
                        for (i = 0; i < n; i++) {
#define OLD(q) element((unsigned char *)was.memory[q] + (a.p[q] - (unsigned char *)a.memory[q]), wide, i)
                            double w = OLD(2), x = OLD(3), from = w, d = 0, want_x;
                            if (own && (launch || o.carried != 0))
                                from = rnd(wide, w + rnd(wide, rnd(wide, o.carried) * OLD(1)));
                            d = rnd(wide, x - from);
                            if (!launch && own && o.again) d = rnd(wide, d + OLD(1));
                            if (sum) w = rnd(wide, w + rnd(wide, OLD(0) / o.count));
                            if (launch) {
                                want_x = o.carry != 0 ? rnd(wide, w + rnd(wide, rnd(wide, o.carry) * d)) : w;
                                bad += !isfinite(d);
                                ok &= same(element(out, wide, i), d);
                            } else {
                                want_x = o.progress ? rnd(wide, w + d) : w;
                            }
                            ok &= same(element(a.p[2], wide, i), w) && same(element(a.p[3], wide, i), want_x);
#undef OLD
                        }
                        for (j = 0; j < ARRAYS; j++) ok &= untouched(&a, wide, n, j);
                        ck_assert_msg(ok && bad == said, "set %d, stream %d, wide %d, %zu elements, variant %d",
                                      sets[s], stream, wide, n, v);
                        if (v >= 2) continue;
                        o.carry = v ? 0.3 : 0.0;
                        arrays_fill(&a, wide, n, &rng);
                        memcpy(&was, &a, sizeof a);
                        set_of->residual(n, &o, a.p[0], a.p[1], a.p[2], a.p[3]);
                        for (i = 0; i < n; i++) {
                            double w = element(a.p[0], wide, i), d = element(a.p[1], wide, i);
                            double q = element(a.p[2], wide, i);
                            if (v) w = rnd(wide, w + rnd(wide, rnd(wide, 0.3) * q));
                            ok &= same(element(a.p[3], wide, i), rnd(wide, w + rnd(wide, d - q)));
                        }
                        ck_assert_msg(ok, "residual, set %d, wide %d, %zu elements", sets[s], wide, n);
                    }
        }
    ck_assert_int_ge(tested, 2);
}
END_TEST

/* ---- whole runs against a model ---- */

enum { DIM = 17 };

typedef struct model {
    uint32_t n;
    int wide, narrow; /* narrow: bf16 payload */
    double beta, w[DIM], x[LOCK_MOST][DIM], a[LOCK_MOST][DIM], sent[LOCK_MOST][DIM];
    int in_flight, launches, from_start;
} model;

static void model_launch(model *m, int merging) {
    double sum[DIM], beta = m->from_start && m->launches == 0 ? 1.0 : m->beta;
    uint32_t r;
    int i;
    for (i = 0; merging && i < DIM; i++) {
        sum[i] = m->sent[0][i];
        for (r = 1; r < m->n; r++) sum[i] = rnd(m->wide, sum[i] + m->sent[r][i]);
        if (m->narrow) sum[i] = bf16(sum[i]);
    }
    for (i = 0; i < DIM; i++) {
        double w = merging ? rnd(m->wide, m->w[i] + rnd(m->wide, sum[i] / m->n)) : m->w[i];
        for (r = 0; r < m->n; r++) {
            double d = rnd(m->wide, m->x[r][i] - m->a[r][i]), q = m->narrow ? bf16(d) : d;
            m->sent[r][i] = q;
            m->a[r][i] = beta != 0 ? rnd(m->wide, w + rnd(m->wide, rnd(m->wide, beta) * q)) : w;
            m->x[r][i] = m->narrow ? rnd(m->wide, m->a[r][i] + rnd(m->wide, d - q)) : m->a[r][i];
        }
        m->w[i] = w;
    }
    m->launches++;
    m->in_flight = 1;
}

static void model_merge(model *m) {
    uint32_t r;
    int i;
    for (i = 0; i < DIM; i++) {
        double sum = m->sent[0][i];
        for (r = 1; r < m->n; r++) sum = rnd(m->wide, sum + m->sent[r][i]);
        if (m->narrow) sum = bf16(sum);
        m->w[i] = rnd(m->wide, m->w[i] + rnd(m->wide, sum / m->n));
        for (r = 0; r < m->n; r++) {
            double d = rnd(m->wide, m->x[r][i] - m->a[r][i]);
            m->x[r][i] = rnd(m->wide, m->w[i] + d);
            m->a[r][i] = m->w[i];
        }
    }
    m->in_flight = 0;
}

static void model_train(model *m, uint64_t step) {
    uint32_t r;
    int i;
    for (r = 0; r < m->n; r++)
        for (i = 0; i < DIM; i++) {
            size_t at = i < 5 ? (size_t)i : (size_t)(i - 5) + 200; /* the tensors of lock_count */
            double g = m->x[r][i] - lock_target(r, step, at);
            g = m->wide ? 0.0625 * g : (double)(float)(0.0625 * (double)(float)g);
            m->x[r][i] = rnd(m->wide, m->x[r][i] - g);
        }
}

static int model_is(const model *m, lock *k, uint64_t step) {
    uint32_t r;
    int i;
    for (r = 0; r < m->n; r++) {
        lock_worker *w = &k->worker[r];
        if (hpsgd_model(w->h, &w->out) != WEFT_OK) return lock_fail(k, "no model");
        for (i = 0; i < DIM; i++) {
            size_t t = i < 5 ? 0 : 2, at = (size_t)(i < 5 ? i : i - 5);
            if (cluster_get(&w->out.tensor[t], at) != m->w[i] || cluster_get(&w->params.tensor[t], at) != m->x[r][i])
                return lock_fail(k, "step %llu, worker %u, element %d: W %.17g, x %.17g instead of %.17g, %.17g",
                                 (unsigned long long)step, r, i, cluster_get(&w->out.tensor[t], at),
                                 cluster_get(&w->params.tensor[t], at), m->w[i], m->x[r][i]);
        }
    }
    return 1;
}

static void model_open(model *m, const lock *k) {
    uint32_t r;
    int i;
    memset(m, 0, sizeof *m);
    m->n = k->size;
    m->wide = k->desc.dtype && k->desc.dtype[0] == WEFT_F64;
    m->narrow = k->desc.h.payload == HPSGD_PAYLOAD_BF16;
    m->beta = k->desc.h.carry;
    m->from_start = k->desc.h.startup == HPSGD_CONTINUE;
    for (i = 0; i < DIM; i++) {
        m->w[i] = cluster_get(&k->worker[0].params.tensor[i < 5 ? 0 : 2], (size_t)(i < 5 ? i : i - 5));
        for (r = 0; r < m->n; r++) m->x[r][i] = m->a[r][i] = m->w[i];
    }
}

static const weft_dtype all_f64[3] = {WEFT_F64, WEFT_F64, WEFT_F64};

/* T steps, compared after each; then a drain. */
static void against_model(const lock_desc *d, uint32_t h, uint64_t steps, const char *name) {
    lock k;
    model m;
    uint64_t t;
    uint32_t r;
    int ok = lock_open(&k, d);
    model_open(&m, &k);
    if (ok && d->h.mode == HPSGD_FREE) LOCK_ALL(&k, w, hpsgd_start(w->h));
    for (t = 0; ok && t < steps; t++) {
        ok = lock_step(&k);
        if (d->h.mode == HPSGD_FREE) lock_pump(&k, 30);
        LOCK_ALL(&k, w, hpsgd_poll(w->h));
        model_train(&m, t);
        if ((t + 1) % h == 0) {
            model_launch(&m, m.in_flight);
            if (d->h.mode != HPSGD_FIXED) model_merge(&m);
        }
        ok = ok && !k.why[0] && model_is(&m, &k, t);
    }
    ok = ok && lock_drain(&k);
    if (steps % h || m.in_flight) {
        if (steps % h || m.narrow || m.in_flight) model_launch(&m, m.in_flight);
        model_merge(&m);
    }
    if (!m.narrow) ok = ok && model_is(&m, &k, steps);
    ok = ok && lock_alike(&k);
    for (r = 0; ok && r < k.size; r++) {
        hpsgd_stats_t s;
        lock_worker *w = &k.worker[r];
        hpsgd_stats(w->h, &s);
        ck_assert_uint_eq(s.steps, steps);
        ck_assert_uint_eq(s.steps_merged, steps);
        ck_assert_uint_eq(s.drains, 1);
        ck_assert_uint_eq(s.participants, k.size);
        hpsgd_model(w->h, &w->out);
        ck_assert(cluster_same_bits(&w->params, &w->out));
    }
    ok = lock_close(&k) && ok;
    ck_assert_msg(ok, "%s, %u workers, H %u, carry %g, payload %d, keep %d: %s", name, d->sim.size, h, d->h.carry,
                  d->h.payload, d->h.keep_delta, k.why);
}

START_TEST(fixed_as_the_model) {
    static const double carry[4] = {0, 1, 0.25, 0.3};
    uint32_t n, h;
    int b, v;
    for (n = 1; n <= 5; n++)
        for (h = 1; h <= 4; h++)
            for (b = 0; b < 4; b++)
                for (v = 0; v < 6; v++) {
                    lock_desc d = lock_default(n);
                    d.h.mode = HPSGD_FIXED;
                    d.h.max_steps = h;
                    d.h.carry = carry[b];
                    if (v & 1) d.dtype = all_f64;
                    if (v == 2) d.h.payload = HPSGD_PAYLOAD_BF16;
                    if (v == 3) d.h.keep_delta = WEFT_ZERO;
                    if (v == 4) d.h.startup = HPSGD_CONTINUE;
                    if (v == 5) d.h.algorithm = WEFT_ALGORITHM_DIRECT;
                    against_model(&d, h, 3 * h + n % 3, "fixed");
                }
}
END_TEST

START_TEST(blocking_and_without_delay) {
    uint32_t n, h;
    int v;
    for (n = 2; n <= 5; n++)
        for (h = 1; h <= 3; h++)
            for (v = 0; v < 4; v++) {
                lock_desc d = lock_default(n);
                d.h.mode = v & 1 ? HPSGD_BLOCKING : HPSGD_FREE;
                d.h.min_steps = h;
                if (v & 2) d.dtype = all_f64;
                against_model(&d, h, 4 * h + 1, d.h.mode == HPSGD_FREE ? "without delay" : "blocking");
            }
}
END_TEST

/* Alone, blocking or free, it is plain SGD, bit for bit; fixed gradients make it so after a drain in any mode. */
START_TEST(alone_is_sgd) {
    int v;
    for (v = 0; v < 4; v++) {
        lock_desc d = lock_default(1);
        lock k;
        weft_tensors plain;
        uint64_t t;
        int ok;
        d.h.mode = v & 1 ? HPSGD_BLOCKING : HPSGD_FREE;
        if (v & 2) d.dtype = all_f64;
        ok = lock_open(&k, &d);
        plain = cluster_tensors(3, lock_count, d.dtype);
        cluster_copy(&k.worker[0].params, &plain);
        for (t = 0; ok && t < 20; t++) {
            lock_train(&plain, 0, t);
            ok = lock_step(&k);
            ck_assert(cluster_same_bits(&plain, &k.worker[0].params));
        }
        ok = ok && lock_drain(&k);
        ck_assert(cluster_same_bits(&plain, &k.worker[0].params));
        cluster_tensors_free(&plain);
        ck_assert_msg(lock_close(&k) && ok, "%s", k.why);
    }
}
END_TEST

/* The same bits for every instruction set, with threads and without, in place and not; large enough for many slabs and
 * blocks, with tensors of every awkward size. */
START_TEST(every_set_the_same_bits) {
    static const size_t count[9] = {1, 0, 15, 4096, 17, 70001, 3, 4097, 64};
    static const weft_dtype mixed[9] = {WEFT_F32, WEFT_F64, WEFT_F32, WEFT_F64, WEFT_F32,
                                        WEFT_F32, WEFT_F64, WEFT_F32, WEFT_F64};
    weft_pthread_pool pool;
    int what, v;
    ck_assert_int_eq(weft_pthread_pool_create(&pool, 3), WEFT_OK);
    for (what = 0; what < 4; what++) { /* carry 0, carry 0.5, bf16, bf16 with carry */
        uint64_t want = 0;
        for (v = 0; v < 9; v++) {
            static const weft_isa isa[9] = {WEFT_ISA_SERIAL, WEFT_ISA_SSE2, WEFT_ISA_AVX2,
                                            WEFT_ISA_AVX512, WEFT_ISA_NEON, WEFT_ISA_AUTO,
                                            WEFT_ISA_AUTO,   WEFT_ISA_AUTO, WEFT_ISA_SERIAL};
            lock_desc d = lock_default(3);
            lock k;
            int ok;
            d.tensors = 9;
            d.count = count;
            d.dtype = what < 2 ? mixed : NULL;
            d.h.mode = HPSGD_FIXED;
            d.h.max_steps = 2;
            d.h.isa = isa[v];
            d.h.carry = what & 1 ? 0.5 : 0.0;
            d.h.payload = what < 2 ? HPSGD_PAYLOAD_FULL : HPSGD_PAYLOAD_BF16;
            if (v == 6) d.h.pool = &pool.pool;
            if (v == 7 || v == 8) d.h.keep_delta = WEFT_ZERO;
            d.h.polling = 1;
            if (!weft_kernels_select(d.h.isa, 0)) continue;
            ok = lock_open(&k, &d);
            if (v == 5) /* past the cache */
                LOCK_ALL(&k, w, (w->h->kernels = weft_replica_kernels_select(WEFT_ISA_AUTO, SIZE_MAX), WEFT_OK));
            ok = ok && lock_steps(&k, 7) && lock_drain(&k) && lock_alike(&k);
            if (!want) want = cluster_hash(&k.worker[0].params);
            ck_assert_msg(ok && cluster_hash(&k.worker[0].params) == want, "what %d, variant %d: other bits; %s", what,
                          v, k.why);
            ck_assert_msg(lock_close(&k), "%s", k.why);
        }
    }
    weft_pthread_pool_destroy(&pool);
}
END_TEST

/* ---- memory ---- */

static size_t named(const weft_memory_report *m, const char *name) {
    size_t i;
    for (i = 0; i < m->count; i++)
        if (!strcmp(m->entry[i].name, name)) return m->entry[i].bytes;
    ck_abort_msg("no buffer \"%s\"", name);
    return 0;
}

START_TEST(memory_is_exact) {
    enum { P = 1 << 18 };
    static const size_t count[1] = {P};
    weft_memory_report m;
    lock_desc d = lock_default(3);
    lock k;
    size_t i, small, sum;
    int v;
    d.tensors = 1;
    d.count = count;
    for (v = 0; v < 5; v++) {
        weft_detail why;
        hpsgd_desc e;
        d.h.keep_delta = v == 1 ? WEFT_ZERO : 0;
        d.h.carry = v == 2 ? 0.5 : 0;
        d.h.payload = v >= 3 ? HPSGD_PAYLOAD_BF16 : HPSGD_PAYLOAD_FULL;
        if (v == 4) d.h.keep_delta = WEFT_ZERO;
        ck_assert(lock_open(&k, &d));
        e = k.worker[0].desc;
        ck_assert_uint_eq(hpsgd_memory(&e, &m), k.worker[0].bytes);
        ck_assert_uint_eq(m.total_bytes, k.worker[0].bytes);
        ck_assert_int_eq(m.detail.status, WEFT_OK);
        for (i = sum = 0; i < m.count; i++) {
            ck_assert_uint_eq(m.entry[i].offset, sum);
            sum += (m.entry[i].bytes + 63) / 64 * 64;
        }
        ck_assert_uint_eq(sum + 63, m.total_bytes);
        ck_assert_uint_eq(named(&m, "global model"), 4 * P);
        ck_assert_uint_eq(named(&m, "payload"), (v >= 3 ? 2 : 4) * P);
        if (v == 1)
            ck_assert_uint_le(named(&m, "reduction"), 4 * P / 32 + 64 + 3 * 64);
        else if (v == 4)
            ck_assert_uint_le(named(&m, "reduction"), 2 * P / 32 + 64 + 3 * 64);
        else
            ck_assert_uint_eq(named(&m, "reduction"), (v == 3 ? 2 : 4) * P + 3 * 64);
        small = sum - named(&m, "global model") - named(&m, "payload") - named(&m, "reduction");
        ck_assert_uint_lt(small, 16000);
        /* a byte less is refused, and names both sizes */
        {
            unsigned char *p = (unsigned char *)malloc(m.total_bytes);
            hpsgd *h = NULL;
            ck_assert_int_eq(hpsgd_init_detail(&h, &e, p, m.total_bytes - 1, &why), WEFT_ERR_MEMORY);
            ck_assert_ptr_null(h);
            ck_assert_uint_eq(why.expected, m.total_bytes);
            ck_assert_uint_eq(why.got, m.total_bytes - 1);
            free(p);
        }
        ck_assert_msg(lock_steps(&k, 5) && lock_drain(&k) && lock_alike(&k), "%s", k.why);
        ck_assert_msg(lock_close(&k), "%s", k.why);
    }
}
END_TEST

/* ---- 16-bit parameters ---- */

static weft_tensor master_of[LOCK_MOST][3];
static weft_tensors masters[LOCK_MOST];

static int with_master(lock_worker *w) {
    int i;
    size_t j;
    for (i = 0; i < 3; i++) {
        master_of[w->rank][i].count = w->params.tensor[i].count;
        master_of[w->rank][i].dtype = WEFT_F32;
        master_of[w->rank][i].data = NULL;
        if (w->params.tensor[i].dtype == WEFT_F32 || !w->params.tensor[i].count) continue;
        master_of[w->rank][i].data = calloc(w->params.tensor[i].count, sizeof(float));
        for (j = 0; j < w->params.tensor[i].count; j++)
            ((float *)master_of[w->rank][i].data)[j] = (float)cluster_get(&w->params.tensor[i], j);
    }
    masters[w->rank].tensor = master_of[w->rank];
    masters[w->rank].count = 3;
    w->desc.master = masters[w->rank];
    return 1;
}

START_TEST(masters_are_trained) {
    static const weft_dtype types[2][3] = {{WEFT_BF16, WEFT_F16, WEFT_F16}, {WEFT_F16, WEFT_BF16, WEFT_F32}};
    int v, i, ok;
    uint32_t r;
    size_t j;
    uint64_t t;
    for (v = 0; v < 2; v++) {
        lock_desc d = lock_default(3), plain;
        lock k, p;
        d.dtype = types[v];
        d.h.mode = HPSGD_FIXED;
        d.h.max_steps = 2;
        plain = d;
        plain.dtype = NULL;
        d.prepare = with_master;
        ok = lock_open(&k, &d) && lock_open(&p, &plain);
        /* the same run in f32 only, from the same numbers */
        for (r = 0; ok && r < 3; r++)
            for (i = 0; i < 3; i++)
                for (j = 0; j < lock_count[i]; j++)
                    cluster_set(&p.worker[r].params.tensor[i], j, cluster_get(&k.worker[r].params.tensor[i], j));
        LOCK_ALL(&p, w, hpsgd_start(w->h));
        LOCK_ALL(&k, w, hpsgd_start(w->h));
        for (t = 0; ok && t < 5; t++) {
            for (r = 0; r < 3; r++) {
                weft_tensors work;
                work.tensor = k.worker[r].h->work;
                work.count = 3;
                lock_train(&work, r, t);
            }
            LOCK_ALL(&k, w, hpsgd_step(w->h));
            ok = !k.why[0] && lock_step(&p);
        }
        ok = ok && lock_drain(&k) && lock_drain(&p);
        for (r = 0; ok && r < 3; r++)
            for (i = 0; i < 3; i++)
                for (j = 0; j < lock_count[i]; j++) {
                    const weft_tensor *t16 = &k.worker[r].params.tensor[i];
                    double want = cluster_get(&p.worker[r].params.tensor[i], j), round;
                    ck_assert(cluster_get(&k.worker[r].h->work[i], j) == want);
                    round = t16->dtype == WEFT_BF16  ? bf16(want)
                            : t16->dtype == WEFT_F16 ? cluster_of_half(cluster_to_half(want))
                                                     : want;
                    ck_assert(cluster_get(t16, j) == round);
                }
        for (r = 0; r < 3; r++)
            for (i = 0; i < 3; i++) free(master_of[r][i].data);
        ok = lock_close(&k) && ok;
        ck_assert_msg(lock_close(&p) && ok, "%s%s", k.why, p.why);
    }
}
END_TEST

/* Whoever takes over a model takes it over in 16 bits, too. */
START_TEST(masters_are_taken_over) {
    static const weft_dtype types[3] = {WEFT_BF16, WEFT_F16, WEFT_F16};
    lock_desc d = lock_default(3);
    lock k;
    uint32_t r;
    int i;
    d.dtype = types;
    d.unequal = 1;
    d.h.initial = HPSGD_INITIAL_COPY;
    d.h.initial_rank = 2;
    d.prepare = with_master;
    ck_assert(lock_open(&k, &d));
    ck_assert(!cluster_same_bits(&k.worker[0].params, &k.worker[2].params));
    LOCK_ALL(&k, w, hpsgd_start(w->h));
    for (r = 0; r < 2; r++) ck_assert(cluster_same_bits(&k.worker[r].params, &k.worker[2].params));
    for (r = 0; r < 3; r++)
        for (i = 0; i < 3; i++) free(master_of[r][i].data);
    ck_assert_msg(lock_close(&k), "%s", k.why);
}
END_TEST

START_TEST(sixteen_bits_are_refused) {
    static const weft_dtype types[2] = {WEFT_BF16, WEFT_F16};
    uint16_t x[4] = {0, 0, 0, 0};
    double y[4];
    weft_tensor t, m;
    weft_transport net = weft_transport_make(NULL, 0, 1, NULL, NULL, NULL, NULL, NULL);
    hpsgd_desc d;
    weft_memory_report report;
    int i;
    for (i = 0; i < 2; i++) {
        memset(&d, 0, sizeof d);
        d.struct_size = sizeof d;
        t.data = x;
        t.count = 4;
        t.dtype = types[i];
        d.params.tensor = &t;
        d.params.count = 1;
        d.transport = &net;
        ck_assert_uint_eq(hpsgd_memory(&d, &report), 0);
        ck_assert_int_eq(report.detail.status, WEFT_ERR_UNSUPPORTED);
        ck_assert_str_eq(report.detail.field, "params.dtype (16-bit: name the f32 weights in master)");
        m.data = y;
        m.count = 4;
        m.dtype = WEFT_F64;
        d.master.tensor = &m;
        d.master.count = 1;
        ck_assert_uint_eq(hpsgd_memory(&d, &report), 0);
        ck_assert_int_eq(report.detail.status, WEFT_ERR_ARGUMENT);
        ck_assert_str_eq(report.detail.field, "master.dtype (f32, of 16-bit parameters)");
    }
    t.data = y;
    t.dtype = WEFT_F64;
    d.master.count = 0;
    d.payload = HPSGD_PAYLOAD_BF16;
    ck_assert_uint_eq(hpsgd_memory(&d, &report), 0);
    ck_assert_str_eq(report.detail.field, "params.dtype (payload bf16: f32 only)");
}
END_TEST

/* bf16: nothing is lost. Gradients that do not depend on the model: after the drain W is where all steps lead. */
START_TEST(residuals_are_kept) {
    lock_desc d = lock_default(2);
    lock k;
    uint64_t t;
    uint32_t r;
    size_t i;
    double want[5];
    int ok;
    d.h.payload = HPSGD_PAYLOAD_BF16;
    d.h.mode = HPSGD_FIXED;
    d.h.max_steps = 2;
    ok = lock_open(&k, &d);
    for (i = 0; i < 5; i++) want[i] = cluster_get(&k.worker[0].params.tensor[0], i);
    for (t = 0; ok && t < 40; t++) {
        for (r = 0; r < 2; r++)
            for (i = 0; i < 5; i++) {
                weft_tensor *p = (weft_tensor *)(uintptr_t)&k.worker[r].params.tensor[0];
                double g = (double)(float)((1.0 + (double)i) / 300.0 + 0.001 * (double)r);
                cluster_set(p, i, cluster_get(p, i) + g);
                want[i] += g / 2;
            }
        LOCK_ALL(&k, w, hpsgd_step(w->h));
        ok = !k.why[0];
    }
    ok = ok && lock_drain(&k) && lock_alike(&k);
    for (i = 0; ok && i < 5; i++) /* rounding of some eighty additions, and of the sums of small changes to 8 bits */
        ck_assert_msg(fabs(cluster_get(&k.worker[0].params.tensor[0], i) - want[i]) < 40 * 2 * 0.04 / 256,
                      "element %zu: %g instead of %g", i, cluster_get(&k.worker[0].params.tensor[0], i), want[i]);
    ck_assert_msg(lock_close(&k) && ok, "%s", k.why);
}
END_TEST

/* And exactly so where f32 is exact: steps of 1 + 2^-10 do not fit into bf16, their sums do into f32. */
START_TEST(nothing_is_left_over) {
    uint32_t n;
    double carry;
    for (n = 1; n <= 4; n *= 2)
        for (carry = 0; carry <= 1; carry += 0.5) {
            lock_desc d = lock_default(n);
            lock k;
            uint64_t t;
            uint32_t r;
            size_t i, j;
            int ok;
            d.h.payload = HPSGD_PAYLOAD_BF16;
            d.h.mode = HPSGD_FIXED;
            d.h.max_steps = 2;
            d.h.carry = carry;
            ok = lock_open(&k, &d);
            for (r = 0; r < n; r++)
                for (i = 0; i < 3; i++)
                    for (j = 0; j < lock_count[i]; j++) cluster_set(&k.worker[r].params.tensor[i], j, 0);
            LOCK_ALL(&k, w, hpsgd_start(w->h));
            for (t = 0; ok && t < 7; t++) {
                for (r = 0; r < n; r++)
                    for (i = 0; i < 3; i++)
                        for (j = 0; j < lock_count[i]; j++) {
                            const weft_tensor *p = &k.worker[r].params.tensor[i];
                            cluster_set(p, j, cluster_get(p, j) + 1.0 + 1.0 / 1024);
                        }
                LOCK_ALL(&k, w, hpsgd_step(w->h));
                ok = !k.why[0];
            }
            ok = ok && lock_drain(&k) && lock_alike(&k);
            ck_assert_msg(ok, "%s", k.why);
            ck_assert_msg(cluster_get(&k.worker[0].params.tensor[2], 3) == 7.0 + 7.0 / 1024,
                          "%u workers, carry %g: %.9g", n, carry, cluster_get(&k.worker[0].params.tensor[2], 3));
            ck_assert_msg(lock_close(&k), "%s", k.why);
        }
}
END_TEST

/* A sum that overflows is nobody's fault: all drop their changes, and it ends. */
START_TEST(overflow) {
    lock_desc d = lock_default(2);
    lock k;
    uint32_t r;
    ck_assert(lock_open(&k, &d));
    for (r = 0; r < 2; r++) cluster_fill(&k.worker[r].params, 1, 0.0);
    LOCK_ALL(&k, w, hpsgd_start(w->h));
    for (r = 0; r < 2; r++) cluster_set(&k.worker[r].params.tensor[0], 1, 2e38);
    LOCK_ALL(&k, w, hpsgd_step(w->h));
    lock_pump(&k, 20);
    LOCK_ALL(&k, w, hpsgd_poll(w->h));
    for (r = 0; r < 2; r++) {
        hpsgd_stats_t s;
        hpsgd_stats(k.worker[r].h, &s);
        ck_assert_uint_eq(s.rounds_void, 1);
        ck_assert_uint_eq(s.steps_lost, 1);
        ck_assert_uint_eq(s.steps_pending, 0);
        ck_assert_uint_eq(s.nonfinite, 0);
        ck_assert(!(hpsgd_state(k.worker[r].h) & HPSGD_IN_FLIGHT));
    }
    ck_assert_msg(lock_drain(&k) && lock_alike(&k) && lock_close(&k), "%s", k.why);
}
END_TEST

/* Longer than what one wave of the host's threads takes. */
START_TEST(long_tensor) {
    const size_t n = WEFT_REPLICA_WAVE * WEFT_REPLICA_PIECE + 77;
    float *a = (float *)malloc(4 * n * sizeof *a), *w = a + n, *sum = w + n, *out = sum + n;
    weft_replica r;
    size_t i;
    int ok = 1;
    for (i = 0; i < n; i++) {
        a[i] = (float)(i % 1000);
        w[i] = (float)(i % 7);
        sum[i] = (float)(i % 13) * 2;
        out[i] = -1;
    }
    a[n - 1] = NAN;
    memset(&r, 0, sizeof r);
    r.kernels = weft_replica_kernels_select(WEFT_ISA_AUTO, 0);
    r.phase.count = 2;
    r.dtype = r.payload = WEFT_F32;
    r.launch = 1;
    r.sum = sum;
    r.w = w;
    r.x = a;
    r.out = out;
    ck_assert_uint_eq(weft_run_replica(&r, NULL, n), 1);
    for (i = 0; i + 1 < n; i++)
        ok &= w[i] == (float)(i % 7 + i % 13) && a[i] == w[i] && out[i] == (float)(i % 1000) - (float)(i % 7);
    ck_assert(ok);
    free(a);
}
END_TEST

/* ---- when things happen ---- */

START_TEST(stalls) {
    lock_desc d = lock_default(2);
    lock k;
    hpsgd_stats_t s;
    lock_worker *w;
    int i;
    d.h.max_steps = 3;
    ck_assert(lock_open(&k, &d));
    LOCK_ALL(&k, v, hpsgd_start(v->h));
    w = &k.worker[0];
    /* worker 1 does nothing: the round of the first step never ends */
    for (i = 0; i < 3; i++) {
        lock_train(&w->params, 0, (uint64_t)i);
        ck_assert_int_eq(hpsgd_step(w->h), WEFT_OK);
        ck_assert_uint_eq(hpsgd_events(w->h), i == 0 ? HPSGD_LAUNCHED : 0);
        ck_assert(hpsgd_state(w->h) & HPSGD_IN_FLIGHT);
    }
    lock_train(&w->params, 0, 3);
    ck_assert_int_eq(hpsgd_step(w->h), WEFT_STALL);
    for (i = 0; i < 5; i++) {
        weft_sim_advance(&k.sim, 5000);
        ck_assert_int_eq(i % 2 ? hpsgd_step(w->h) : hpsgd_poll(w->h), WEFT_STALL);
    }
    hpsgd_stats(w->h, &s);
    ck_assert_uint_eq(s.steps, 4);
    ck_assert_uint_eq(s.stalls, 1);
    ck_assert_uint_eq(s.steps_pending, 4);
    ck_assert_int_eq(hpsgd_save(w->h, NULL, 0, NULL), WEFT_ERR_ORDER);
    /* its first step frees both */
    lock_train(&k.worker[1].params, 1, 0);
    k.worker[1].status = hpsgd_step(k.worker[1].h);
    w->status = WEFT_STALL;
    lock_pump(&k, 20);
    ck_assert(lock_settle(&k));
    ck_assert_int_eq(w->status, WEFT_OK);
    hpsgd_stats(w->h, &s);
    ck_assert_uint_eq(s.rounds, 1);
    ck_assert_uint_eq(s.launches, 2);
    ck_assert_uint_eq(s.round_steps, 2);
    ck_assert_int_eq(hpsgd_step(w->h), WEFT_OK); /* counted again */
    hpsgd_stats(w->h, &s);
    ck_assert_uint_eq(s.steps, 5);
    ck_assert_msg(lock_drain(&k) && lock_alike(&k), "%s", k.why);
    ck_assert_msg(lock_close(&k), "%s", k.why);
}
END_TEST

/* Messages may move in the middle of a step; neither model moves. */
START_TEST(progress_touches_nothing) {
    lock_desc d = lock_default(3);
    lock k;
    uint32_t r;
    ck_assert(lock_open(&k, &d));
    LOCK_ALL(&k, w, hpsgd_start(w->h));
    for (r = 0; r < 3; r++) {
        lock_train(&k.worker[r].params, r, 0);
        ck_assert_int_eq(hpsgd_step(k.worker[r].h), WEFT_OK);
    }
    for (r = 0; r < 3; r++) {
        hpsgd_model(k.worker[r].h, &k.worker[r].out);
        lock_train(&k.worker[r].params, r, 1); /* half of the next step */
    }
    {
        uint64_t before[3], w_before = cluster_hash(&k.worker[0].out);
        for (r = 0; r < 3; r++) before[r] = cluster_hash(&k.worker[r].params);
        lock_pump(&k, 40);
        for (r = 0; r < 3; r++) {
            ck_assert_uint_eq(cluster_hash(&k.worker[r].params), before[r]);
            hpsgd_model(k.worker[r].h, &k.worker[r].out);
            ck_assert_uint_eq(cluster_hash(&k.worker[r].out), w_before);
            ck_assert_int_eq(k.worker[r].h->state, HPSGD_DONE);
        }
        for (r = 0; r < 3; r++) {
            ck_assert_int_eq(hpsgd_step(k.worker[r].h), WEFT_OK);
            ck_assert_uint_eq(hpsgd_events(k.worker[r].h), HPSGD_MERGED | HPSGD_LAUNCHED);
            hpsgd_model(k.worker[r].h, &k.worker[r].out);
            ck_assert_uint_ne(cluster_hash(&k.worker[r].out), w_before);
            ck_assert(cluster_same_bits(&k.worker[r].out, &k.worker[0].out));
        }
    }
    ck_assert_msg(lock_close(&k), "%s", k.why);
}
END_TEST

/* Schedules: longer phases from now on. */
START_TEST(steps_can_be_set) {
    lock_desc d = lock_default(2);
    lock k;
    hpsgd_desc e;
    hpsgd_stats_t s;
    d.h.mode = HPSGD_FIXED;
    d.h.max_steps = 2;
    ck_assert(lock_open(&k, &d) && lock_steps(&k, 4));
    LOCK_ALL(&k, w, hpsgd_set_steps(w->h, 0, 5));
    hpsgd_effective(k.worker[0].h, &e);
    ck_assert_uint_eq(e.min_steps, 5);
    ck_assert_uint_eq(e.max_steps, 5);
    ck_assert(lock_steps(&k, 5));
    hpsgd_stats(k.worker[0].h, &s);
    ck_assert_uint_eq(s.launches, 3);
    ck_assert_int_eq(hpsgd_set_steps(k.worker[0].h, 2, 3), WEFT_ERR_ARGUMENT);
    ck_assert_int_eq(hpsgd_set_void(k.worker[0].h, HPSGD_DROP), WEFT_OK);
    ck_assert_msg(lock_drain(&k) && lock_alike(&k) && lock_close(&k), "%s", k.why);
}
END_TEST

START_TEST(defaults) {
    lock_desc d = lock_default(1);
    lock k;
    hpsgd_desc e;
    uint32_t ranks[2] = {7, 7};
    ck_assert(lock_open(&k, &d));
    hpsgd_effective(k.worker[0].h, &e);
    ck_assert_uint_eq(e.min_steps, 1);
    ck_assert_uint_eq(e.max_steps, 16);
    ck_assert_int_eq(e.keep_delta, 1);
    ck_assert_int_eq(e.mode, HPSGD_FREE);
    ck_assert_int_eq(e.on_void, HPSGD_REQUEUE);
    ck_assert_int_ne(e.isa, WEFT_ISA_AUTO);
    ck_assert_uint_eq(hpsgd_members(k.worker[0].h, ranks, 2), 1);
    ck_assert_uint_eq(ranks[0], 0);
    ck_assert_uint_eq(ranks[1], 7);
    ck_assert_uint_eq(hpsgd_state(k.worker[0].h),
                      HPSGD_MAY_STEP | HPSGD_MAY_SAVE | HPSGD_MAY_LOAD | HPSGD_MAY_REGROUP);
    ck_assert(lock_close(&k));
    d.h.mode = HPSGD_FIXED;
    ck_assert(lock_open(&k, &d));
    hpsgd_effective(k.worker[0].h, &e);
    ck_assert_uint_eq(e.min_steps, 16);
    ck_assert(lock_close(&k));
    d.h.mode = HPSGD_BLOCKING;
    d.h.keep_delta = WEFT_ZERO;
    ck_assert(lock_open(&k, &d));
    hpsgd_effective(k.worker[0].h, &e);
    ck_assert_uint_eq(e.max_steps, 1);
    ck_assert_int_eq(e.keep_delta, 0);
    ck_assert_int_eq(e.on_void, HPSGD_DROP);
    ck_assert(lock_close(&k));
    d.h.carry = 0.5; /* costs no memory, and needs it */
    ck_assert(lock_open(&k, &d));
    hpsgd_effective(k.worker[0].h, &e);
    ck_assert_int_eq(e.keep_delta, 1);
    ck_assert(lock_close(&k));
}
END_TEST

/* ---- first contact ---- */

START_TEST(initial_parameters) {
    lock_desc d = lock_default(3);
    lock k;
    uint32_t r;
    /* they differ, and that shows */
    d.unequal = 1;
    ck_assert(lock_open(&k, &d));
    for (r = 0; r < 3; r++) k.worker[r].status = hpsgd_start(k.worker[r].h);
    ck_assert(lock_settle(&k));
    for (r = 0; r < 3; r++) {
        ck_assert_int_eq(k.worker[r].status, WEFT_ERR_MISMATCH);
        ck_assert_str_eq(hpsgd_detail(k.worker[r].h)->field, "hash of the initial parameters");
        ck_assert_uint_ne(hpsgd_detail(k.worker[r].h)->expected, hpsgd_detail(k.worker[r].h)->got);
    }
    ck_assert_msg(lock_close(&k), "%s", k.why);
    /* all take over those of worker 1 */
    d.h.initial = HPSGD_INITIAL_COPY;
    d.h.initial_rank = 1;
    ck_assert(lock_open(&k, &d));
    {
        uint64_t want = cluster_hash(&k.worker[1].params);
        LOCK_ALL(&k, w, hpsgd_start(w->h));
        ck_assert_msg(!k.why[0], "%s", k.why);
        for (r = 0; r < 3; r++) ck_assert_uint_eq(cluster_hash(&k.worker[r].params), want);
    }
    ck_assert_msg(lock_steps(&k, 9) && lock_drain(&k) && lock_alike(&k), "%s", k.why);
    ck_assert_msg(lock_close(&k), "%s", k.why);
}
END_TEST

/* A joiner at the boundary of a drain, and one in the middle. */
static int late(lock_worker *w) {
    static const uint32_t first[2] = {0, 1};
    static weft_view v;
    v.struct_size = sizeof v;
    v.epoch = 1;
    v.count = 2;
    v.members = first;
    if (w->rank < 2) w->desc.view = &v;
    else w->gone = 1;
    return 1;
}

START_TEST(joins) {
    int drained;
    for (drained = 0; drained < 4; drained++) {
        lock_desc d = lock_default(3);
        lock k;
        hpsgd_stats_t s;
        int ok;
        d.prepare = late;
        if (drained & 2) d.h.payload = HPSGD_PAYLOAD_BF16;
        d.h.max_steps = 4;
        ok = lock_open(&k, &d) && lock_steps(&k, 7);
        if (drained & 1) ok = ok && lock_drain(&k);
        k.worker[2].gone = 0;
        cluster_fill(&k.worker[2].params, 4711, 3.0); /* never seen by the others */
        ok = ok && lock_regroup(&k, 2);
        ck_assert_msg(ok, "%s", k.why);
        hpsgd_model(k.worker[0].h, &k.worker[0].out);
        hpsgd_model(k.worker[2].h, &k.worker[2].out);
        if (drained & 1) ck_assert(cluster_same_bits(&k.worker[2].params, &k.worker[0].out));
        if (drained & 1) ck_assert(cluster_same_bits(&k.worker[2].out, &k.worker[0].out));
        ok = lock_steps(&k, 6) && lock_drain(&k) && lock_alike(&k);
        hpsgd_stats(k.worker[2].h, &s);
        ck_assert_uint_eq(s.members, 3);
        ck_assert_uint_eq(s.participants, 3);
        ck_assert_uint_eq(s.steps_merged, 6);
        ck_assert_msg(lock_close(&k) && ok, "%s", k.why);
    }
}
END_TEST

int main(void) {
    Suite *s[4];
    TCase *c;
    SRunner *r;
    int failed;
    s[0] = suite_create("kernels");
    c = tcase_create("kernels");
    tcase_set_timeout(c, 60);
    tcase_add_test(c, kernels);
    tcase_add_test(c, every_set_the_same_bits);
    tcase_add_test(c, long_tensor);
    suite_add_tcase(s[0], c);
    s[1] = suite_create("runs");
    c = tcase_create("runs");
    tcase_set_timeout(c, 60);
    tcase_add_test(c, fixed_as_the_model);
    tcase_add_test(c, blocking_and_without_delay);
    tcase_add_test(c, alone_is_sgd);
    tcase_add_test(c, residuals_are_kept);
    tcase_add_test(c, nothing_is_left_over);
    tcase_add_test(c, overflow);
    suite_add_tcase(s[1], c);
    s[2] = suite_create("memory");
    c = tcase_create("memory");
    tcase_add_test(c, memory_is_exact);
    tcase_add_test(c, masters_are_trained);
    tcase_add_test(c, masters_are_taken_over);
    tcase_add_test(c, sixteen_bits_are_refused);
    suite_add_tcase(s[2], c);
    s[3] = suite_create("verbs");
    c = tcase_create("verbs");
    tcase_add_test(c, stalls);
    tcase_add_test(c, progress_touches_nothing);
    tcase_add_test(c, steps_can_be_set);
    tcase_add_test(c, defaults);
    tcase_add_test(c, initial_parameters);
    tcase_add_test(c, joins);
    suite_add_tcase(s[3], c);
    r = srunner_create(s[0]);
    srunner_add_suite(r, s[1]);
    srunner_add_suite(r, s[2]);
    srunner_add_suite(r, s[3]);
    srunner_run_all(r, CK_NORMAL);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
