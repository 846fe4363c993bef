/* SPDX-License-Identifier: MIT
 * SADDLe used wrongly: every field of the descriptor, every verb in every state, from inside every callback, without an
 * object; memory that is too short or crooked; messages that must be small; models of odd shapes. Nothing of it may
 * crash, and every refusal names what it is about and changes nothing. */
#define GRAWA_IMPLEMENTATION
#include "../grawa.h"
#define SADDLE_IMPLEMENTATION
#include "../saddle.h"
#include "saddle_lock.h"
#include "silent.h"

#include <check.h>

static void fine(lock *k, int ok) {
    int closed = lock_close(k);
    if (!ok || !closed) ck_abort_msg("%s", k->why[0] ? k->why : "a check failed");
}

/* ---- descriptors ---- */

static float memory_of_x[8];
static weft_tensor x_tensor = {memory_of_x, 8, WEFT_F32};
static weft_transport net1;
static weft_graph graph2, graph3;
static unsigned char memory_of_graph2[WEFT_GRAPH_BYTES(2, 2)], memory_of_graph3[WEFT_GRAPH_BYTES(3, 3)];

static int always(void *ctx, uint64_t step, uint32_t i, uint32_t j) {
    (void)ctx, (void)step, (void)i, (void)j;
    return 1;
}

static saddle_desc good(void) {
    saddle_desc d;
    memset(&d, 0, sizeof d);
    d.struct_size = sizeof d;
    d.params.tensor = &x_tensor;
    d.params.count = 1;
    net1 = silent_transport(NULL, 2, NULL);
    d.transport = &net1;
    ck_assert_int_eq(weft_graph_ring(&graph2, 2, memory_of_graph2, sizeof memory_of_graph2), WEFT_OK);
    ck_assert_int_eq(weft_graph_ring(&graph3, 3, memory_of_graph3, sizeof memory_of_graph3), WEFT_OK);
    d.graph = &graph2;
    d.learning_rate = 0.1;
    return d;
}

#define ANY UINT64_C(0xA5A5A5A5) /* a value that the test does not look at */

/* Both saddle_memory and saddle_init say no, and why. */
static void refused(const saddle_desc *d, weft_status status, const char *field, uint64_t expected, uint64_t got) {
    weft_memory_report m;
    weft_detail why;
    unsigned char some[64];
    saddle *x = (saddle *)(void *)some;
    ck_assert_uint_eq(saddle_memory(d, &m), 0);
    ck_assert_msg(m.detail.status == status && m.detail.field && !strcmp(m.detail.field, field), "%s: got %s, %s",
                  field, weft_strerror(m.detail.status), m.detail.field ? m.detail.field : "-");
    ck_assert_uint_eq(m.total_bytes, 0);
    if (expected != ANY) ck_assert_msg(m.detail.expected == expected, "%s: expected", field);
    if (got != ANY) ck_assert_msg(m.detail.got == got, "%s: got %llu", field, (unsigned long long)m.detail.got);
    ck_assert_int_eq(saddle_init_detail(&x, d, some, sizeof some, &why), status);
    ck_assert_ptr_null(x);
    ck_assert_str_eq(why.field, field);
    ck_assert_uint_eq(why.expected, m.detail.expected);
    ck_assert_uint_eq(why.got, m.detail.got);
    ck_assert_uint_eq(saddle_memory(d, NULL), 0);
}

START_TEST(descriptor) {
    saddle_desc d = good();
    const weft_codec bad = weft_codec_make(WEFT_CODEC_Q8, 3, 0, 0), q8 = weft_codec_q8();
    const weft_codec none = weft_codec_make((weft_codec_kind)8, 0, 0, 0);
    uint32_t group[1] = {1};
    uint16_t halves[8];
    weft_tensor narrow = {halves, 8, WEFT_BF16},
                twice[2] = {{memory_of_x, 8, WEFT_F32}, {memory_of_x + 4, 4, WEFT_F32}};
    weft_tensor huge = {memory_of_x, SIZE_MAX / 8, WEFT_F32};
    weft_graph broken;
    saddle *x;
    unsigned char *p;
    size_t bytes;
    ck_assert_uint_gt(saddle_memory(&d, NULL), 0);
#define BITS(v) weft_double_bits(v)
#define BAD(change, status, field, expected, got)                                                                      \
    do {                                                                                                               \
        d = good();                                                                                                    \
        change;                                                                                                        \
        refused(&d, status, field, expected, got);                                                                     \
    } while (0)
    refused(NULL, WEFT_ERR_ARGUMENT, "desc", 1, 0);
    BAD(d.struct_size--, WEFT_ERR_ABI, "desc.struct_size", sizeof d, sizeof d - 1);
    BAD(d.transport = NULL, WEFT_ERR_ARGUMENT, "transport", 1, 0);
    BAD(net1.rank = 2, WEFT_ERR_ARGUMENT, "transport.rank", 1, 2);
    BAD(net1.recv = NULL, WEFT_ERR_ARGUMENT, "transport callbacks", 4, 0);
    BAD(net1.max_message_bytes = 255, WEFT_ERR_ARGUMENT, "transport.max_message_bytes", 256, 255);
    BAD(d.params.tensor = NULL, WEFT_ERR_ARGUMENT, "tensors.tensor", 1, 0);
    BAD((d.params.tensor = twice, d.params.count = 2), WEFT_ERR_ARGUMENT, "tensors overlap (tied? list it once)", 0, 1);
    BAD(d.params.tensor = &narrow, WEFT_ERR_UNSUPPORTED, "params.dtype", WEFT_F64, WEFT_BF16);
    BAD(d.params.tensor = &huge, WEFT_ERR_OVERFLOW, "params.count", UINT32_MAX, SIZE_MAX / 8);
    BAD(d.graph = NULL, WEFT_ERR_ARGUMENT, "graph", ANY, ANY);
    BAD(d.graph = &graph3, WEFT_ERR_ARGUMENT, "graph.workers", 2, 3);
    (void)good();
    broken = graph2;
    broken.struct_size = 1;
    BAD(d.graph = &broken, WEFT_ERR_ABI, "graph.struct_size", ANY, 1);
    BAD(d.channel = WEFT_CHANNELS, WEFT_ERR_ARGUMENT, "desc.channel", WEFT_CHANNELS - 1, WEFT_CHANNELS);
    BAD(d.isa = (weft_isa)99, WEFT_ERR_UNSUPPORTED, "desc.isa", 0, 99);
    BAD(d.variant = (saddle_variant)6, WEFT_ERR_ARGUMENT, "desc.variant", 5, 6);
    BAD(d.order = (saddle_order)4, WEFT_ERR_ARGUMENT, "desc.order", 3, 4);
    BAD((d.variant = SADDLE_N, d.order = SADDLE_ATC), WEFT_ERR_ARGUMENT, "desc.order", 3, 1);
    BAD(d.momentum = (saddle_momentum)4, WEFT_ERR_ARGUMENT, "desc.momentum", 3, 4);
    BAD(d.learning_rate = 0, WEFT_ERR_ARGUMENT, "desc.learning_rate", ANY, 0);
    BAD(d.learning_rate = -1, WEFT_ERR_ARGUMENT, "desc.learning_rate", ANY, BITS(-1));
    BAD(d.learning_rate = (double)INFINITY, WEFT_ERR_ARGUMENT, "desc.learning_rate", ANY, BITS((double)INFINITY));
    BAD(d.learning_rate = (double)NAN, WEFT_ERR_ARGUMENT, "desc.learning_rate", ANY, ANY);
    BAD(d.rho = -2, WEFT_ERR_ARGUMENT, "desc.rho", BITS(1e30), BITS(-2));
    BAD(d.rho = 1e31, WEFT_ERR_ARGUMENT, "desc.rho", BITS(1e30), BITS(1e31));
    BAD(d.rho = (double)NAN, WEFT_ERR_ARGUMENT, "desc.rho", ANY, ANY);
    BAD((d.variant = SADDLE_NGC, d.rho = 0.1), WEFT_ERR_ARGUMENT, "desc.rho", BITS(0), BITS(0.1));
    BAD((d.variant = SADDLE_DSGDM, d.rho = 0.1), WEFT_ERR_ARGUMENT, "desc.rho", BITS(0), BITS(0.1));
    BAD(d.beta = 1, WEFT_ERR_ARGUMENT, "desc.beta", BITS(1), BITS(1));
    BAD(d.beta = -0.5, WEFT_ERR_ARGUMENT, "desc.beta", BITS(1), BITS(-0.5));
    BAD(d.mu = 1, WEFT_ERR_ARGUMENT, "desc.mu", BITS(1), BITS(1));
    BAD(d.mu = (double)NAN, WEFT_ERR_ARGUMENT, "desc.mu", BITS(1), ANY);
    BAD(d.nesterov = 2, WEFT_ERR_ARGUMENT, "desc.nesterov", 1, 2);
    BAD(d.nesterov = -2, WEFT_ERR_ARGUMENT, "desc.nesterov", 1, (uint64_t)INT64_C(-2));
    BAD(d.weight_decay = -1, WEFT_ERR_ARGUMENT, "desc.weight_decay", ANY, BITS(-1));
    BAD(d.weight_decay = (double)INFINITY, WEFT_ERR_ARGUMENT, "desc.weight_decay", ANY, ANY);
    BAD(d.gamma = 1.5, WEFT_ERR_ARGUMENT, "desc.gamma", BITS(1), BITS(1.5));
    BAD(d.gamma = -1, WEFT_ERR_ARGUMENT, "desc.gamma", BITS(1), BITS(-1));
    BAD(d.gamma = (double)NAN, WEFT_ERR_ARGUMENT, "desc.gamma", BITS(1), ANY);
    BAD(d.share = 2, WEFT_ERR_ARGUMENT, "desc.share", BITS(1), BITS(2));
    BAD(d.share = -3, WEFT_ERR_ARGUMENT, "desc.share", BITS(1), BITS(-3));
    BAD(d.mixing = (weft_mixing_rule)3, WEFT_ERR_ARGUMENT, "desc.mixing", 2, 3);
    BAD(d.mixing = WEFT_OWN_WEIGHTS, WEFT_ERR_ARGUMENT, "desc.mixing", 2, 2);
    BAD(d.codec = bad, WEFT_ERR_ARGUMENT, "codec.bits", 0, 3);
    BAD(d.codec = none, WEFT_ERR_ARGUMENT, "codec.kind", 7, 8);
    BAD((d.variant = SADDLE_N, d.gradient_codec = &bad), WEFT_ERR_ARGUMENT, "codec.bits", 0, 3);
    BAD(d.feedback = (saddle_feedback)4, WEFT_ERR_ARGUMENT, "desc.feedback", 3, 4);
    BAD((d.codec = q8, d.active = always), WEFT_ERR_UNSUPPORTED, "desc.active (with SADDLE_DIFFERENCE)", 0, 1);
    BAD(d.gradient_feedback = 2, WEFT_ERR_ARGUMENT, "desc.gradient_feedback", 1, 2);
    BAD(d.gradient_feedback = -2, WEFT_ERR_ARGUMENT, "desc.gradient_feedback", 1, (uint64_t)INT64_C(-2));
    BAD(d.compress_self = 1, WEFT_ERR_ARGUMENT, "desc.compress_self", 0, 1);
    BAD((d.variant = SADDLE_N, d.codec = q8, d.compress_self = 2), WEFT_ERR_ARGUMENT, "desc.compress_self", 1, 2);
    BAD((d.variant = SADDLE_N, d.codec = q8, d.share = WEFT_ZERO, d.compress_self = 1), WEFT_ERR_ARGUMENT,
        "desc.compress_self", 0, 1);
    BAD(d.groups = 1, WEFT_ERR_ARGUMENT, "desc.groups (without group_of_tensor)", 0, 1);
    BAD((d.group_of_tensor = group, d.groups = 1), WEFT_ERR_ARGUMENT, "desc.group_of_tensor", 1, 1);
    BAD(d.group_of_tensor = group, WEFT_ERR_ARGUMENT, "desc.group_of_tensor", 0, 1);
    BAD(d.guard = (saddle_guard)2, WEFT_ERR_ARGUMENT, "desc.guard", 1, 2);
    BAD(d.initial = (saddle_initial)2, WEFT_ERR_ARGUMENT, "desc.initial", 1, 2);
    BAD(d.piece_bytes = 4095, WEFT_ERR_ARGUMENT, "desc.piece_bytes, transport.max_message_bytes", 4096, 4095);
    BAD(net1.max_message_bytes = 4095, WEFT_ERR_UNSUPPORTED, "desc.piece_bytes, transport.max_message_bytes", 4096,
        4095);
    BAD(d.timeout_ns = 1, WEFT_ERR_ARGUMENT, "transport.now (for a deadline)", 1, 0);
#undef BAD
    d = good();
    ck_assert_uint_eq(saddle_memory_abi(&d, NULL, sizeof d - 8, WEFT_ABI), 0);
    ck_assert_uint_eq(saddle_memory_abi(&d, NULL, sizeof d, WEFT_ABI + 16), 0);
    bytes = saddle_memory(&d, NULL);
    p = (unsigned char *)malloc(bytes);
    ck_assert_int_eq(saddle_init(NULL, &d, p, bytes), WEFT_ERR_ARGUMENT);
    ck_assert_int_eq(saddle_init(&x, &d, NULL, bytes), WEFT_ERR_MEMORY);
    ck_assert_int_eq(saddle_init_abi(&x, &d, p, bytes, NULL, sizeof d, WEFT_ABI + 16), WEFT_ERR_ABI);
    ck_assert_int_eq(saddle_init_abi(&x, &d, p, bytes, NULL, sizeof d - 8, WEFT_ABI), WEFT_ERR_ABI);
    ck_assert_int_eq(saddle_init(&x, &d, p, bytes - 1), WEFT_ERR_MEMORY);
    ck_assert_ptr_null(x);
    ck_assert_int_eq(saddle_init(&x, &d, p, bytes), WEFT_OK);
    saddle_close(x);
    free(p);
}
END_TEST

/* What is 0 or WEFT_ZERO comes back as what it means. */
START_TEST(effective) {
    static const saddle_momentum momentum[6] = {SADDLE_MOMENTUM_GLOBAL, SADDLE_MOMENTUM_LOCAL, SADDLE_MOMENTUM_GLOBAL,
                                                SADDLE_MOMENTUM_LOCAL,  SADDLE_MOMENTUM_NONE,  SADDLE_MOMENTUM_LOCAL};
    int v, zero;
    for (v = 0; v < 6; v++)
        for (zero = 0; zero < 2; zero++) {
            const int sharp = v == SADDLE_Q || v == SADDLE_N, cross = v == SADDLE_N || v == SADDLE_NGC;
            saddle_desc d = good(), e;
            size_t bytes;
            unsigned char *p;
            saddle *x;
            d.variant = (saddle_variant)v;
            d.codec = weft_codec_q8();
            if (zero) {
                d.rho = d.beta = d.mu = d.share = WEFT_ZERO;
                d.nesterov = d.gradient_feedback = WEFT_ZERO;
                d.gamma = 0.5;
                d.codec = weft_codec_identity();
            }
            bytes = saddle_memory(&d, NULL);
            p = (unsigned char *)malloc(bytes);
            ck_assert_int_eq(saddle_init(&x, &d, p, bytes), WEFT_OK);
            saddle_effective(x, &e);
            ck_assert_int_eq(e.order, cross ? SADDLE_CWA : SADDLE_ATC);
            ck_assert_int_eq(e.momentum, momentum[v]);
            ck_assert_double_eq(e.rho, zero || !sharp ? 0 : 0.05);
            ck_assert_double_eq(e.beta, zero ? 0 : 0.9);
            ck_assert_double_eq(e.mu, zero ? 0 : 0.9);
            ck_assert_double_eq(e.share, zero ? 0 : 1);
            ck_assert_double_eq(e.gamma, zero ? 0.5 : 1);
            ck_assert_int_eq(e.nesterov, !zero);
            ck_assert_int_eq(e.gradient_feedback, !zero && cross);
            ck_assert_int_eq(e.feedback, zero ? SADDLE_NO_FEEDBACK : SADDLE_DIFFERENCE);
            ck_assert_uint_eq(e.piece_bytes, 262144);
            ck_assert_uint_eq(e.groups, 1);
            ck_assert_int_ne(e.isa, WEFT_ISA_AUTO);
            saddle_close(x);
            free(p);
        }
}
END_TEST

/* ---- memory ---- */

/* At any alignment the object fits into what was asked for, and the report adds up. */
START_TEST(any_alignment) {
    lock_desc d = lock_default(2);
    const unsigned off = (unsigned)_i;
    lock k;
    uint32_t r;
    unsigned char *block[2];
    uint64_t h[2] = {0, 0};
    int pass;
    d.s.variant = SADDLE_N;
    d.s.codec = weft_codec_q8();
    for (pass = 0; pass < 2; pass++) {
        ck_assert(lock_open(&k, &d));
        for (r = 0; pass && r < 2; r++) {
            lock_worker *w = &k.worker[r];
            size_t i;
            lock_free(w);
            block[r] = (unsigned char *)malloc(w->bytes + off + 64);
            memset(block[r], 0xA5, w->bytes + off + 64);
            ck_assert_int_eq(saddle_init(&w->x, &w->desc, block[r] + off, w->bytes - 1), WEFT_ERR_MEMORY);
            ck_assert_ptr_null(w->x);
            for (i = 0; i < w->bytes + off + 64; i++)
                if (block[r][i] != 0xA5) ck_abort_msg("a refused init has written");
            ck_assert_int_eq(saddle_init(&w->x, &w->desc, block[r] + off, w->bytes), WEFT_OK);
        }
        ck_assert_msg(lock_steps(&k, 3), "%s", k.why);
        for (r = 0; r < 2; r++) h[pass] = h[pass] * 31 + cluster_hash(&k.worker[r].params);
        for (r = 0; pass && r < 2; r++) {
            lock_worker *w = &k.worker[r];
            size_t i;
            saddle_close(w->x);
            w->x = NULL;
            for (i = 0; i < off; i++)
                if (block[r][i] != 0xA5) ck_abort_msg("somebody wrote before the memory");
            for (i = 0; i < 64; i++)
                if (block[r][off + w->bytes + i] != 0xA5) ck_abort_msg("somebody wrote behind the memory");
            free(block[r]);
        }
        fine(&k, 1);
    }
    ck_assert_uint_eq(h[0], h[1]);
}
END_TEST

/* Names and sizes of all buffers for the settings that have most of them. */
START_TEST(reported) {
    saddle_desc d = good();
    weft_memory_report m;
    size_t i, sum = 0, bytes;
    d.variant = SADDLE_N;
    d.order = SADDLE_CTA;
    d.codec = weft_codec_q8();
    d.compress_self = 1;
    bytes = saddle_memory(&d, &m);
    ck_assert_uint_gt(bytes, 0);
    ck_assert_uint_eq(m.total_bytes, bytes);
    ck_assert_int_eq(m.detail.status, WEFT_OK);
    ck_assert_uint_eq(m.requests_per_peer, WEFT_LINK_REQUESTS);
    for (i = 0; i < m.count; i++) {
        ck_assert_ptr_nonnull(m.entry[i].name);
        sum += m.entry[i].bytes;
    }
    ck_assert_uint_ge(bytes, sum);
    ck_assert_uint_ge(m.count, 20);
}
END_TEST

/* ---- no object ---- */

static weft_status no_gradient(void *ctx, const saddle_want *want) {
    (void)ctx, (void)want;
    ck_abort_msg("a gradient is asked for");
    return WEFT_OK;
}

enum { VERBS = 11 };

/* Every verb, by number. */
static weft_status verb(saddle *x, int which) {
    static unsigned char blob[100000];
    saddle_want want;
    size_t n;
    switch (which) {
    case 0: return saddle_next(x, &want);
    case 1: return saddle_wait(x, &want);
    case 2: return saddle_step(x, no_gradient, NULL);
    case 3: return saddle_step(x, NULL, NULL);
    case 4: return saddle_poll(x);
    case 5: return saddle_set_learning_rate(x, 0.5);
    case 6: return saddle_leave(x);
    case 7: return saddle_peer_lost(x, 1);
    case 8: return saddle_peer_up(x, 1);
    case 9: return saddle_save(x, blob, sizeof blob, &n);
    default: return saddle_load(x, blob, 40);
    }
}

START_TEST(nobody) {
    lock_desc d = lock_default(1);
    saddle_stats_t s;
    saddle_desc e;
    saddle *closed;
    int pass, v;
    lock k;
    ck_assert(lock_open(&k, &d));
    closed = k.worker[0].x;
    saddle_close(closed);
    for (pass = 0; pass < 2; pass++) {
        saddle *x = pass ? closed : NULL;
        for (v = 0; v < VERBS; v++) ck_assert_int_eq(verb(x, v), WEFT_ERR_ARGUMENT);
        ck_assert_uint_eq(saddle_state(x), 0);
        ck_assert_int_eq(saddle_link(x, 0), WEFT_LINK_DOWN);
        ck_assert_ptr_null(saddle_buffer(x, SADDLE_OF_MOMENTUM, 0, 0));
        saddle_close(x);
    }
    ck_assert_ptr_null(saddle_detail(NULL));
    ck_assert_ptr_null(saddle_fault(NULL));
    memset(&s, 0x5A, sizeof s);
    saddle_stats(NULL, &s);
    ck_assert_uint_eq(s.steps, UINT64_C(0x5A5A5A5A5A5A5A5A));
    saddle_effective(NULL, &e);
    saddle_stats(closed, NULL);
    saddle_effective(closed, NULL);
    saddle_stats(closed, &s);
    ck_assert_uint_eq(s.neighbours, 0);
    fine(&k, 1);
}
END_TEST

/* ---- every verb in every state ---- */

static void ones(lock_worker *w, const saddle_want *want) {
    size_t t, i;
    (void)w;
    for (t = 0; t < want->into.count; t++)
        for (i = 0; i < want->into.tensor[t].count; i++) cluster_set(&want->into.tensor[t], i, 1);
}

/* Brings worker 0 of three into a state; the others do what is needed for that. */
static int bring(lock *k, int state) {
    saddle_want want;
    saddle *x = k->worker[0].x;
    int times;
    for (times = 0; times < 4000; times++) {
        const int due = x->step >= 2, idle = x->state == SADDLE_IDLE;
        weft_status s;
        uint32_t r;
        if (due && x->state == state) return 1;
        if (due && idle && (state == SADDLE_LEAVING || state == SADDLE_LEFT)) {
            s = saddle_leave(x);
        } else if (due && idle && state == SADDLE_READY && !x->edge[0].pending) { /* nobody has answered yet */
            if (x->net.link[0].state == WEFT_LINK_UP && x->edge[0].agreed) saddle_peer_up(x, 1);
            s = saddle_poll(x);
        } else if (x->state == SADDLE_LEAVING) {
            s = saddle_poll(x);
        } else {
            s = saddle_next(x, &want);
        }
        if (due && x->state == state) return 1;
        if (s == WEFT_WANT_GRADIENT) {
            ones(&k->worker[0], &want);
            if (state == SADDLE_SPOILT && x->step >= 2) cluster_set(&want.into.tensor[2], 3, 3e38);
        }
        for (r = 1; r < 3; r++) lock_go(&k->worker[r]);
        weft_sim_advance(&k->sim, 300);
    }
    return 0;
}

START_TEST(every_verb_in_every_state) {
    /* legal: next wait step step(NULL) poll rate leave lost up save load */
    static const struct {
        int state;
        const char *legal;
    } table[8] = {{SADDLE_IDLE, "111-1111110"},    {SADDLE_WANTING, "111-1001100"},   {SADDLE_READY, "111-1001100"},
                  {SADDLE_MODELS, "111-1001100"},  {SADDLE_GRADIENTS, "111-1001100"}, {SADDLE_SPOILT, "111-1001100"},
                  {SADDLE_LEAVING, "010-1001100"}, {SADDLE_LEFT, "010-1000000"}};
    const int state = table[_i % 8].state, v = _i / 8;
    lock_desc d = lock_default(3);
    weft_status s;
    uint32_t may;
    saddle before, after;
    uint64_t params;
    lock k;
    saddle *x;
    d.graph = weft_graph_complete;
    d.gradient = ones;
    d.s.variant = SADDLE_N;
    d.s.order = SADDLE_CTA;
    d.sim.mode = state == SADDLE_LEAVING ? WEFT_SIM_RENDEZVOUS : WEFT_SIM_EAGER;
    d.s.learning_rate = state == SADDLE_SPOILT ? 1e3 : 0.01;
    d.s.rho = WEFT_ZERO;
    ck_assert(lock_open(&k, &d));
    ck_assert_msg(bring(&k, state), "state %d is not reached: %d, step %u", state, k.worker[0].x->state,
                  (unsigned)k.worker[0].x->step);
    x = k.worker[0].x;
    may = saddle_state(x);
    memcpy(&before, x, sizeof before);
    params = cluster_hash(&k.worker[0].params);
    if (v == 2 && state == SADDLE_WANTING) { /* that would ask again */
        fine(&k, 1);
        return;
    }
    if ((v == 1 || v == 2) && table[_i % 8].legal[v] == '1' && state != SADDLE_SPOILT && state != SADDLE_LEFT) {
        fine(&k, 1); /* they are next and poll in a loop */
        return;
    }
    s = verb(x, v);
    if (v == 3) { /* wrong, or not legal */
        ck_assert_int_eq(s, state == SADDLE_LEFT ? WEFT_ERR_ORDER : WEFT_ERR_ARGUMENT);
        if (s == WEFT_ERR_ARGUMENT) ck_assert_str_eq(saddle_detail(x)->field, "gradient");
    } else if (table[_i % 8].legal[v] == '1') {
        ck_assert_msg(s != WEFT_ERR_ORDER && s != WEFT_ERR_ARGUMENT, "state %d, verb %d: %s", state, v,
                      weft_strerror(s));
        if (state == SADDLE_SPOILT && v < 5) {
            ck_assert_int_eq(s, WEFT_ERR_NONFINITE);
            ck_assert_str_eq(saddle_detail(x)->field, "diverged");
        }
    } else {
        ck_assert_int_eq(s, WEFT_ERR_ORDER);
        ck_assert_str_eq(saddle_detail(x)->field, v == 10 && state == SADDLE_IDLE ? "steps" : "state");
    }
    if (v == 3 || table[_i % 8].legal[v] != '1') {
        memcpy(&after, x, sizeof after);
        after.detail = before.detail;
        ck_assert_mem_eq(&before, &after, sizeof before);
        ck_assert_uint_eq(cluster_hash(&k.worker[0].params), params);
    }
    /* what the state says is what is legal */
    ck_assert_int_eq(!!(may & SADDLE_MAY_NEXT), table[_i % 8].legal[0] == '1' && state != SADDLE_SPOILT);
    ck_assert_int_eq(!!(may & SADDLE_MAY_SET), state == SADDLE_IDLE);
    ck_assert_int_eq(!!(may & SADDLE_MAY_GIVE), state == SADDLE_WANTING);
    ck_assert_int_eq(!!(may & SADDLE_MAY_LINK), state != SADDLE_LEFT);
    ck_assert_int_eq(!!(may & SADDLE_MAY_LOAD), 0);
    fine(&k, 1);
}
END_TEST

/* A fresh object may be loaded, and an opened one not. */
START_TEST(before_the_first_step) {
    lock_desc d = lock_default(2);
    saddle_want want;
    size_t bytes = 0;
    int v;
    lock k;
    saddle *x;
    ck_assert(lock_open(&k, &d));
    x = k.worker[0].x;
    ck_assert_uint_eq(saddle_state(x), SADDLE_MAY_NEXT | SADDLE_MAY_SET | SADDLE_MAY_LINK | SADDLE_MAY_LOAD);
    ck_assert_int_eq(saddle_poll(x), WEFT_OK);
    ck_assert_int_eq(saddle_save(x, NULL, 0, &bytes), WEFT_OK);
    ck_assert_uint_gt(bytes, 0);
    ck_assert_int_eq(saddle_peer_lost(x, 1), WEFT_OK);
    ck_assert_int_eq(saddle_peer_up(x, 1), WEFT_OK);
    ck_assert_int_eq(saddle_next(x, &want), WEFT_AGAIN);
    ck_assert_uint_eq(saddle_state(x), SADDLE_MAY_NEXT | SADDLE_MAY_POLL | SADDLE_MAY_LINK);
    for (v = 0; v < VERBS; v++)
        if (v == 5 || v == 6 || v >= 9) ck_assert_int_eq(verb(x, v), WEFT_ERR_ORDER);
    fine(&k, 1);
}
END_TEST

START_TEST(arguments) {
    lock_desc d = lock_default(4);
    saddle_want want;
    size_t bytes = 0;
    unsigned char byte[1];
    lock k;
    saddle *x;
    d.s.codec = weft_codec_q8();
    ck_assert(lock_open(&k, &d));
    x = k.worker[0].x;
    ck_assert_int_eq(saddle_next(x, NULL), WEFT_ERR_ARGUMENT);
    ck_assert_str_eq(saddle_detail(x)->field, "want");
    ck_assert_int_eq(saddle_wait(x, NULL), WEFT_ERR_ARGUMENT);
    ck_assert_int_eq(saddle_set_learning_rate(x, 0), WEFT_ERR_ARGUMENT);
    ck_assert_int_eq(saddle_set_learning_rate(x, -1), WEFT_ERR_ARGUMENT);
    ck_assert_int_eq(saddle_set_learning_rate(x, (double)NAN), WEFT_ERR_ARGUMENT);
    ck_assert_int_eq(saddle_set_learning_rate(x, (double)INFINITY), WEFT_ERR_ARGUMENT);
    ck_assert_str_eq(saddle_detail(x)->field, "learning_rate");
    ck_assert_uint_eq(saddle_detail(x)->got, weft_double_bits((double)INFINITY));
    ck_assert_int_eq(saddle_peer_lost(x, 0), WEFT_ERR_ARGUMENT); /* itself */
    ck_assert_int_eq(saddle_peer_up(x, 4), WEFT_ERR_ARGUMENT);
    ck_assert_str_eq(saddle_detail(x)->field, "rank");
    ck_assert_uint_eq(saddle_detail(x)->expected, 4);
    ck_assert_uint_eq(saddle_detail(x)->got, 4);
    ck_assert_int_eq(saddle_peer_lost(x, 2), WEFT_OK); /* no neighbour: no news */
    ck_assert_int_eq(saddle_save(x, NULL, 0, NULL), WEFT_ERR_ARGUMENT);
    ck_assert_str_eq(saddle_detail(x)->field, "bytes");
    ck_assert_int_eq(saddle_save(x, byte, 1, &bytes), WEFT_ERR_CAPACITY);
    ck_assert_uint_eq(saddle_detail(x)->expected, bytes);
    ck_assert_uint_eq(saddle_detail(x)->got, 1);
    ck_assert_int_eq(saddle_load(x, NULL, 0), WEFT_ERR_ARGUMENT);
    ck_assert_int_eq(saddle_load(x, byte, 1), WEFT_ERR_ARGUMENT);
    ck_assert_ptr_null(saddle_buffer(x, SADDLE_OF_MOMENTUM, 0, 4));
    ck_assert_ptr_null(saddle_buffer(x, SADDLE_OF_COPY, 2, 0));
    ck_assert_ptr_null(saddle_buffer(x, SADDLE_OF_COPY, 77, 0));
    ck_assert_ptr_null(saddle_buffer(x, (saddle_buffer_kind)9, 1, 0));
    ck_assert_ptr_nonnull(saddle_buffer(x, SADDLE_OF_COPY, 1, 0));
    ck_assert_ptr_null(saddle_buffer(x, SADDLE_OF_GRADIENT, 1, 0));
    ck_assert_int_eq(saddle_link(x, 2), WEFT_LINK_DOWN);
    ck_assert_int_eq(saddle_link(x, 99), WEFT_LINK_DOWN);
    /* parameters that are not finite are refused at the beginning of a step, and it may be begun again */
    cluster_set(&k.worker[0].params.tensor[2], 7, (double)NAN);
    ck_assert_int_eq(saddle_next(x, &want), WEFT_ERR_NONFINITE);
    ck_assert_str_eq(saddle_detail(x)->field, "params");
    ck_assert_uint_eq(saddle_detail(x)->got, 1);
    ck_assert_uint_eq(saddle_state(x) & SADDLE_MAY_LOAD, SADDLE_MAY_LOAD);
    memcpy(k.worker[0].params.tensor[2].data, k.worker[1].params.tensor[2].data, 300 * sizeof(float));
    ck_assert_msg(lock_steps(&k, 2), "%s", k.why);
    fine(&k, 1);
}
END_TEST

/* ---- from inside a callback ---- */

static saddle *inside;
static uint64_t called[10], wrong;

/* All verbs say no, and the object is as it was. */
static void reenter(int from) {
    static saddle before;
    int v;
    if (!inside) return;
    called[from]++;
    memcpy(&before, inside, sizeof before);
    for (v = 0; v < VERBS; v++) wrong += verb(inside, v) != WEFT_ERR_REENTRY;
    saddle_close(inside); /* does nothing */
    wrong += memcmp(&before, inside, sizeof before) != 0;
}

static weft_transport real;

static weft_status re_send(void *ctx, uint32_t peer, uint32_t tag, const void *data, size_t bytes, weft_request *q) {
    reenter(0);
    return real.send(ctx, peer, tag, data, bytes, q);
}

static weft_status re_recv(void *ctx, uint32_t peer, uint32_t tag, void *data, size_t capacity, weft_request *q) {
    reenter(1);
    return real.recv(ctx, peer, tag, data, capacity, q);
}

static weft_status re_test(void *ctx, weft_request *q) {
    reenter(2);
    return real.test(ctx, q);
}

static void re_cancel(void *ctx, weft_request *q) {
    reenter(3);
    real.cancel(ctx, q);
}

static uint64_t re_now(void *ctx) {
    reenter(4);
    return real.now(ctx);
}

static void re_trace(void *ctx, const weft_event *e) {
    (void)ctx, (void)e;
    reenter(5);
}

static int re_active(void *ctx, uint64_t step, uint32_t i, uint32_t j) {
    (void)ctx, (void)step, (void)i, (void)j;
    reenter(6);
    return 1;
}

static double re_weight(void *ctx, uint32_t i, uint32_t j) {
    (void)ctx, (void)i, (void)j;
    reenter(7);
    return 0.25;
}

static const double *re_uniform(void *ctx, uint64_t step, uint32_t peer, size_t tensor) {
    (void)ctx, (void)step, (void)peer, (void)tensor;
    reenter(8);
    return NULL;
}

static weft_status re_gradient(void *ctx, const saddle_want *want) {
    ones((lock_worker *)ctx, want);
    reenter(9);
    return WEFT_OK;
}

static int make_inside(lock_worker *w) {
    w->desc.weight = re_weight; /* they are harmless for the others */
    w->desc.active = re_active;
    if (w->rank) return 1;
    real = w->net;
    w->net.send = re_send;
    w->net.recv = re_recv;
    w->net.test = re_test;
    w->net.cancel = re_cancel;
    w->net.now = re_now;
    w->desc.trace = re_trace;
    w->desc.uniform = re_uniform;
    w->desc.timeout_ns = 1000000000;
    return 1;
}

START_TEST(reentry) {
    lock_desc d = lock_default(3);
    int i, step;
    uint32_t r;
    lock k;
    d.gradient = ones;
    d.prepare = make_inside;
    d.s.variant = _i ? SADDLE_N : SADDLE_Q;
    d.s.codec = weft_codec_qsgd(6, 1);
    d.s.feedback = SADDLE_FEEDBACK;
    d.s.gamma = 0.25;
    d.s.mixing = WEFT_OWN_WEIGHTS;
    inside = NULL;
    memset(called, 0, sizeof called);
    wrong = 0;
    ck_assert(lock_open(&k, &d));
    for (step = 0; step < 3; step++) {
        int done[3] = {0, 0, 0}, left = 3, times;
        for (times = 0; left && times < 5000; times++) {
            left = 0;
            for (r = 0; r < 3; r++) {
                if (!done[r] && r == 0) {
                    inside = k.worker[0].x;
                    k.worker[0].status = saddle_step(inside, re_gradient, &k.worker[0]);
                    inside = NULL;
                    done[0] = k.worker[0].status != WEFT_AGAIN;
                    ck_assert_int_ge(k.worker[0].status, 0);
                } else if (!done[r])
                    done[r] = lock_go(&k.worker[r]);
                left += !done[r];
            }
            weft_sim_advance(&k.sim, 1000);
        }
        ck_assert_int_eq(left, 0);
    }
    inside = k.worker[0].x;
    saddle_close(inside); /* cancels what it has posted */
    inside = NULL;
    k.worker[0].x = NULL;
    for (i = 0; i < 10; i++) ck_assert_msg(called[i] > 0, "callback %d is never called", i);
    ck_assert_uint_eq(wrong, 0);
    fine(&k, 1);
}
END_TEST

/* ---- networks that want small messages; models of odd shapes ---- */

static size_t longest;

static void note_length(void *user, const weft_sim_message *m) {
    (void)user;
    if (m->bytes > longest) longest = m->bytes;
}

static weft_codec codec_no(int i) {
    switch (i) {
    case 1: return weft_codec_bf16();
    case 2: return weft_codec_f16();
    case 3: return weft_codec_q8();
    case 4: return weft_codec_q4();
    case 5: return weft_codec_qsgd(16, 0);
    case 6: return weft_codec_topk(0.2);
    case 7: return weft_codec_sign();
    default: return weft_codec_identity();
    }
}

/* No message is longer than the transport allows, nor than the descriptor says: all codecs and types. */
START_TEST(small_messages) {
    static const size_t count[5] = {1, 0, 257, 5000, 256};
    static const weft_dtype type[5] = {WEFT_F64, WEFT_F32, WEFT_F64, WEFT_F64, WEFT_F32};
    lock_desc d = lock_default(3);
    int pass;
    for (pass = 0; pass < 2; pass++) {
        lock k;
        d.count = count;
        d.dtype = type;
        d.tensors = 5;
        d.s.variant = _i / 8 ? SADDLE_N : SADDLE_Q;
        d.s.codec = codec_no(_i % 8);
        d.s.gamma = 0.25;
        d.sim.max_message_bytes = pass ? 0 : 4096;
        d.s.piece_bytes = pass ? 5000 : 0;
        d.sim.on_message = note_length;
        longest = 0;
        ck_assert(lock_open(&k, &d));
        ck_assert_msg(lock_steps(&k, 2), "%s", k.why);
        ck_assert_uint_le(longest, pass ? 5000 : 4096);
        ck_assert_uint_gt(longest, 200);
        fine(&k, 1);
    }
}
END_TEST

/* Tensors of no, one and 257 elements, of both types, beside each other, in all variants and orders; and no tensors. */
START_TEST(odd_shapes) {
    static const size_t count[6] = {0, 1, 257, 0, 1, 257};
    static const weft_dtype type[6] = {WEFT_F64, WEFT_F64, WEFT_F32, WEFT_F32, WEFT_F32, WEFT_F64};
    int order, codec;
    for (order = 1; order <= 3; order++)
        for (codec = 0; codec < 8; codec++) {
            lock_desc d = lock_default(3);
            size_t tensors;
            d.s.variant = (saddle_variant)_i;
            d.s.order = (saddle_order)order;
            if (order == 1 && (_i == SADDLE_N || _i == SADDLE_NGC)) continue;
            d.s.codec = codec_no(codec);
            d.s.gamma = 0.25;
            d.s.in_place = codec & 1;
            d.count = count;
            d.dtype = type;
            for (tensors = 0; tensors <= 6; tensors += tensors ? 5 : 1) {
                lock k;
                uint32_t r;
                d.tensors = tensors;
                ck_assert(lock_open(&k, &d));
                ck_assert_msg(lock_steps(&k, 3), "%s", k.why);
                for (r = 0; r < 3; r++) {
                    ck_assert_uint_eq(k.worker[r].x->step, 3);
                    ck_assert_uint_eq(k.worker[r].memory[0], 0xC3); /* before its memory */
                }
                fine(&k, 1);
            }
        }
}
END_TEST

/* ---- in_place ---- */

static void watch_place(lock_worker *w, const saddle_want *want) {
    size_t t;
    for (t = 0; t < want->at.count; t++)
        if (want->at.tensor[t].data != w->params.tensor[t].data) wrong++;
    lock_pull(w, want);
}

/* Gradients are wanted at the parameters' own addresses; closed in the middle of it, the object puts them back. */
START_TEST(in_place) {
    lock_desc d = lock_default(3);
    saddle_want want;
    uint64_t h;
    int times, asked;
    lock k;
    d.gradient = watch_place;
    d.unequal = 1;
    d.s.in_place = 1;
    d.s.variant = SADDLE_N;
    d.s.codec = codec_no(_i % 2 ? 3 : 0);
    wrong = 0;
    ck_assert(lock_open(&k, &d));
    ck_assert_msg(lock_steps(&k, 3), "%s", k.why);
    ck_assert_uint_eq(wrong, 0);
    h = cluster_hash(&k.worker[0].params);
    for (times = asked = 0; asked <= _i / 2 && times < 5000; times++) {
        k.worker[0].status = saddle_next(k.worker[0].x, &want);
        if (k.worker[0].status == WEFT_WANT_GRADIENT) {
            if (++asked > _i / 2) break;
            watch_place(&k.worker[0], &want);
        }
        lock_go(&k.worker[1]);
        lock_go(&k.worker[2]);
        weft_sim_advance(&k.sim, 1000);
    }
    ck_assert_uint_eq(want.evaluation, (unsigned)_i / 2);
    if (_i / 2) ck_assert_uint_ne(cluster_hash(&k.worker[0].params), h);
    saddle_close(k.worker[0].x);
    ck_assert_uint_eq(cluster_hash(&k.worker[0].params), h);
    fine(&k, 1);
}
END_TEST

/* ---- one worker ---- */

/* Of both types: values as the arithmetic contract has them. */
#define PLAIN_STEP(T)                                                                                                  \
    for (i = 0; i < n; i++) {                                                                                          \
        T *x = (T *)params->tensor[t].data, *m = (T *)(void *)momentum[t];                                             \
        T s = ((T *)(void *)sharp[t])[i], u = s, y;                                                                    \
        const T decay = (T)0.125 * x[i];                                                                               \
        if (d->s.weight_decay > 0) u = s = s + decay;                                                                  \
        if (d->s.momentum != SADDLE_MOMENTUM_NONE) {                                                                   \
            const T old = (T)0.9 * m[i], v = old + s, ahead = (T)0.9 * v;                                              \
            u = d->s.nesterov < 0 ? v : s + ahead;                                                                     \
            if (d->s.momentum == SADDLE_MOMENTUM_LOCAL) m[i] = v;                                                      \
        }                                                                                                              \
        y = (T)-0.0625 * u;                                                                                            \
        y = x[i] + y;                                                                                                  \
        if (d->s.momentum == SADDLE_MOMENTUM_GLOBAL) {                                                                 \
            const T old = (T)0.5 * m[i], step = x[i] - y, fresh = (T)(0.5 / 0.0625) * step;                            \
            m[i] = old + fresh;                                                                                        \
        }                                                                                                              \
        x[i] = y;                                                                                                      \
    }

static void plain_step(const lock_desc *d, lock_worker *w, const weft_tensors *params, unsigned char **momentum) {
    unsigned char *g[6], *sharp[6], *near_[6];
    weft_tensor at[6], into[6];
    saddle_want want;
    double norm = 0, a;
    size_t t, i;
    for (t = 0; t < 6; t++) {
        const size_t n = params->tensor[t].count;
        g[t] = (unsigned char *)calloc(n + 1, 8);
        sharp[t] = (unsigned char *)calloc(n + 1, 8);
        near_[t] = (unsigned char *)calloc(n + 1, 8);
        at[t] = into[t] = params->tensor[t];
        into[t].data = g[t];
    }
    want.at.tensor = at;
    want.into.tensor = into;
    want.at.count = want.into.count = 6;
    lock_pull(w, &want);
    for (t = 0; t < 6; t++) {
        double lanes[16] = {0};
        for (i = 0; i < params->tensor[t].count; i++) {
            const double v = cluster_get(&into[t], i);
            lanes[i % 16] += v * v;
        }
        norm += weft_lanes_sum(lanes);
    }
    a = 0.25 / (sqrt(norm) + 1e-12);
    for (t = 0; t < 6; t++) {
        for (i = 0; i < params->tensor[t].count; i++) {
            if (at[t].dtype == WEFT_F64) {
                const double climb = a * ((double *)(void *)g[t])[i];
                ((double *)(void *)near_[t])[i] = ((double *)params->tensor[t].data)[i] + climb;
            } else {
                const float climb = (float)a * ((float *)(void *)g[t])[i];
                ((float *)(void *)near_[t])[i] = ((float *)params->tensor[t].data)[i] + climb;
            }
        }
        at[t].data = near_[t];
        into[t].data = sharp[t];
    }
    lock_pull(w, &want);
    for (t = 0; t < 6; t++) {
        const size_t n = params->tensor[t].count;
        if (at[t].dtype == WEFT_F64) {
            PLAIN_STEP(double)
        } else {
            PLAIN_STEP(float)
        }
        free(g[t]);
        free(sharp[t]);
        free(near_[t]);
    }
}

/* Without neighbours it is SAM with momentum, bit for bit, written out plainly: local and quasi-global, Nesterov or
 * not, with decay, in every order. */
START_TEST(alone) {
    static const size_t count[6] = {0, 1, 257, 0, 1, 257};
    static const weft_dtype type[6] = {WEFT_F64, WEFT_F64, WEFT_F32, WEFT_F32, WEFT_F32, WEFT_F64};
    static const saddle_variant v[2] = {SADDLE_Q, SADDLE_N};
    int order, momentum;
    for (order = 1; order <= 3; order++)
        for (momentum = 1; momentum <= 3; momentum++) {
            lock_desc d = lock_default(1);
            weft_tensors mine;
            unsigned char *m[6];
            lock_worker w;
            size_t t;
            lock k;
            int s;
            d.s.variant = v[_i & 1];
            d.s.order = (saddle_order)order;
            d.s.momentum = (saddle_momentum)momentum;
            if (order == SADDLE_ATC && d.s.variant == SADDLE_N) continue;
            if (order == SADDLE_CTA && momentum == SADDLE_MOMENTUM_GLOBAL) continue; /* refreshed a step later */
            d.s.rho = 0.25;
            d.s.mu = 0.5;
            d.s.nesterov = _i & 2 ? WEFT_ZERO : 0;
            d.s.weight_decay = _i & 4 ? 0.125 : 0;
            d.s.codec = codec_no(_i & 2 ? 3 : 0); /* nothing is sent */
            d.tensors = 6;
            d.count = count;
            d.dtype = type;
            ck_assert(lock_open(&k, &d));
            mine = cluster_tensors(6, count, type);
            cluster_copy(&k.worker[0].params, &mine);
            for (t = 0; t < 6; t++) m[t] = (unsigned char *)calloc(count[t] + 1, 8);
            w = k.worker[0];
            for (s = 0; s < 4; s++) {
                w.step = (uint64_t)s;
                plain_step(&d, &w, &mine, m);
                ck_assert_msg(lock_step(&k), "%s", k.why);
                ck_assert_msg(cluster_same_bits(&mine, &k.worker[0].params), "order %d, momentum %d, step %d", order,
                              momentum, s);
            }
            ck_assert_uint_eq(k.worker[0].asked, 8);
            for (t = 0; t < 6; t++) free(m[t]);
            cluster_tensors_free(&mine);
            fine(&k, 1);
        }
}
END_TEST

/* ---- polls ---- */

static weft_status fails_at_first(void *ctx, const saddle_want *want) {
    lock_worker *w = (lock_worker *)ctx;
    size_t t;
    if (w->asked++ % 2 == 0) {
        for (t = 0; t < want->into.count; t++)
            if (want->into.tensor[t].count) cluster_set(&want->into.tensor[t], 0, 77);
        return WEFT_ERR_TRANSPORT;
    }
    lock_pull(w, want);
    return WEFT_OK;
}

/* A poll may find that the next gradient is due; the host learns which from saddle_next, and nothing is taken as given
 * that has not been asked for. Callbacks that fail are asked again. The numbers are those of a run without. */
START_TEST(polls_in_between) {
    lock_desc d = lock_default(3);
    uint64_t h[3], polled = 0;
    int pass;
    d.s.variant = _i & 1 ? SADDLE_N : SADDLE_Q;
    d.s.order = _i & 2 ? SADDLE_CTA : SADDLE_ORDER_DEFAULT;
    d.s.in_place = _i >> 2 & 1;
    for (pass = 0; pass < 3; pass++) {
        uint32_t r, left = 3;
        int times;
        lock k;
        h[pass] = 0;
        ck_assert(lock_open(&k, &d));
        for (times = 0; left && times < 20000; times++) {
            for (r = left = 0; r < 3; r++) {
                lock_worker *w = &k.worker[r];
                if (w->step == 4) {
                    saddle_poll(w->x);
                    continue;
                }
                left++;
                if (pass && times % 3 < 2) {
                    polled += saddle_poll(w->x) == WEFT_WANT_GRADIENT;
                    continue;
                }
                if (pass < 2) {
                    (void)lock_go(w);
                } else {
                    w->status = saddle_step(w->x, fails_at_first, w);
                    if (w->status == WEFT_ERR_TRANSPORT) w->status = WEFT_AGAIN;
                    w->step += w->status == WEFT_OK;
                }
                ck_assert_msg(w->status >= 0, "%s", weft_strerror(w->status));
            }
            weft_sim_advance(&k.sim, 700);
        }
        ck_assert_uint_eq(left, 0);
        for (r = 0; r < 3; r++) h[pass] = h[pass] * 31 + cluster_hash(&k.worker[r].params);
        fine(&k, 1);
    }
    ck_assert_uint_gt(polled, 0);
    ck_assert_uint_eq(h[0], h[1]);
    ck_assert_uint_eq(h[0], h[2]);
}
END_TEST

/* ---- settings that differ ---- */

static int differ;

/* Worker 1 has something else: the link is refused at both ends, each names the field. */
static int make_other(lock_worker *w) {
    static const weft_codec sign = {WEFT_CODEC_SIGN, 0, 0, 0.0};
    saddle_desc *s = &w->desc;
    if (w->rank != 1) return 1;
    switch (differ) {
    case 0: s->order = SADDLE_CTA; break;
    case 1: s->momentum = SADDLE_MOMENTUM_GLOBAL; break;
    case 2: s->rho = 0.125; break;
    case 3: s->beta = 0.5; break;
    case 4: s->mu = 0.5; break;
    case 5: s->nesterov = WEFT_ZERO; break;
    case 6: s->weight_decay = 0.5; break;
    case 7: s->gamma = 0.5; break;
    case 8: s->share = 0.5; break;
    case 9: s->mixing = WEFT_UNIFORM; break;
    case 10: s->codec = weft_codec_q4(); break;
    case 11: s->feedback = SADDLE_FEEDBACK; break;
    case 12: s->gradient_codec = &sign; break;
    case 13: s->gradient_feedback = WEFT_ZERO; break;
    case 14: s->compress_self = 1; break;
    case 15: s->piece_bytes = 8192; break;
    case 16: s->variant = SADDLE_NGC; break;
    case 17: cluster_set(&w->params.tensor[0], 0, 0.25); break;
    default: break;
    }
    return 1;
}

/* ---- what no worker of this library says, and numbers that are none ---- */

START_TEST(letters_awry) {
    lock_desc d = lock_default(2);
    unsigned char payload[SADDLE_ROUND_BYTES], bytes[WEFT_CONTROL_BYTES];
    weft_header good, h;
    weft_detail why;
    saddle_stats_t before, after;
    size_t n;
    saddle *x;
    lock k;
    ck_assert(lock_open(&k, &d) && lock_steps(&k, 2));
    x = k.worker[0].x;
    memset(&good, 0, sizeof good);
    memset(payload, 0, sizeof payload);
    good.step = SADDLE_ROUND;
    good.payload = SADDLE_ROUND_BYTES;
    x->edge[0].heard = 0;
    weft_put64(payload, x->step + 1);
    weft_put32(payload + 8, 1);
#define SAYS(change, what)                                                                                             \
    do {                                                                                                               \
        h = good;                                                                                                      \
        change;                                                                                                        \
        why = weft_detail_none();                                                                                      \
        ck_assert_int_eq(saddle_on_letter(x, 0, &h, payload, &why), WEFT_ERR_PROTOCOL);                                \
        ck_assert_str_eq(why.field, what);                                                                             \
    } while (0)
    SAYS(h.step = SADDLE_PROPOSE - 1, "letter.kind");
    SAYS(h.step = SADDLE_ROUND + 1, "letter.kind");
    SAYS(h.piece = 1, "letter.kind");
    SAYS(h.round = 1, "letter.kind");
    SAYS(h.payload = 8, "letter.payload");
    SAYS(h.step = SADDLE_PROPOSE, "letter.payload");
    weft_put32(payload + 8, 0);
    SAYS((void)0, "letter: neighbours, or flags");
    weft_put32(payload + 8, 2); /* it has one */
    SAYS((void)0, "letter: neighbours, or flags");
    ck_assert_uint_eq(why.got, 2);
    weft_put32(payload + 8, 1);
    weft_put32(payload + 12, 2);
    SAYS((void)0, "letter: neighbours, or flags");
    weft_put32(payload + 12, 0);
    ck_assert_int_eq(saddle_on_letter(x, 0, &good, payload, &why), WEFT_OK);
#undef SAYS
    /* a header of a kind that is none of a link, and a hello of no session */
    memset(&h, 0, sizeof h);
    h.kind = WEFT_KIND_COUNT;
    h.sender = 1;
    n = weft_header_write(bytes, &h);
    ck_assert_int_eq(weft_link_read(bytes, n, 1, &h, &why), WEFT_ERR_PROTOCOL);
    ck_assert_str_eq(why.field, "header.kind");
    ck_assert_uint_eq(why.got, WEFT_KIND_COUNT);
    memset(&h, 0, sizeof h);
    saddle_stats(x, &before);
    weft_link_take_hello(&x->net, 0, &h, payload);
    saddle_stats(x, &after);
    ck_assert_uint_eq(after.faults, before.faults + 1);
    ck_assert_str_eq(x->net.fault.field, "hello");
    fine(&k, 1);
}
END_TEST

/* A neighbour that sends letter after letter: a look at the network reads 64 of them, and says that there may be more. */
START_TEST(letters_without_end) {
    lock_desc d = lock_default(2);
    uint64_t before;
    weft_links *n;
    int i;
    lock k;
    ck_assert(lock_open(&k, &d) && lock_steps(&k, 2));
    for (i = 0; i < 100; i++) {
        weft_link_hello(&k.worker[1].x->net, 0);
        weft_sim_advance(&k.sim, 10000);
        weft_link_pump(&k.worker[1].x->net, 0);
    }
    n = &k.worker[0].x->net;
    before = n->traffic.messages_received;
    n->moved = 0;
    weft_link_receive(n, 0);
    ck_assert_uint_eq(n->traffic.messages_received - before, 64);
    ck_assert(n->moved);
    weft_link_receive(n, 0);
    ck_assert_uint_ge(n->traffic.messages_received - before, 100);
    ck_assert_int_eq(n->link[0].state, WEFT_LINK_UP); /* they said nothing new */
    fine(&k, 1);
}
END_TEST

static uint64_t asked_until;

static void noted_wait(void *ctx, uint64_t until) {
    asked_until = until;
    weft_sim_wait(ctx, until);
}

/* Where the transport can sleep, a wait sleeps until its time is over, and no longer. */
START_TEST(wait_ends_in_time) {
    lock_desc d = lock_default(2);
    saddle_want want;
    lock k;
    d.s.timeout_ns = 5000;
    ck_assert(lock_open(&k, &d) && lock_steps(&k, 2));
    k.worker[0].net.wait = noted_wait;
    (void)lock_go(&k.worker[0]);
    ck_assert_int_eq(k.worker[0].status, WEFT_AGAIN); /* the other one never goes on */
    asked_until = 0;
    ck_assert_int_eq(saddle_wait(k.worker[0].x, &want), WEFT_ERR_TIMEOUT);
    ck_assert_uint_eq(asked_until, k.worker[0].x->since_ns + 5000);
    fine(&k, 1);
}
END_TEST

/* Wherever a number is none: in the model to send, in what models make, in a gradient that is coded for a neighbour or as
 * if for one. The worker is out, and each look says so. */
START_TEST(nothing_that_is_not_finite_is_sent) {
    const weft_codec q8 = weft_codec_q8();
    lock_desc d = lock_default(2);
    saddle_want want;
    saddle *x;
    size_t i;
    lock k;
    d.s.variant = SADDLE_N;
    d.s.gradient_codec = &q8;
    d.s.gradient_feedback = 1;
    d.s.compress_self = _i == 2;
    if (_i == 0) d.s.codec = weft_codec_q8();
    ck_assert(lock_open(&k, &d) && lock_steps(&k, 2));
    x = k.worker[0].x;
    if (_i == 1) {
        x->sending = NULL;
        ((float *)saddle_at(x, x->gradient, 2))[3] = (float)INFINITY;
        saddle_combine(x, 1);
    }
    if (_i == 0) { /* finite, but not its distance from the neighbours' copy */
        cluster_set(&k.worker[0].params.tensor[2], 3, -3e38);
        ((float *)saddle_at(x, x->kept, 2))[3] = 3e38f;
    }
    for (i = 0; i < 2000 && x->state != SADDLE_SPOILT; i++) {
        if (saddle_next(x, &want) == WEFT_WANT_GRADIENT) {
            ones(&k.worker[0], &want);
            /* given it is finite; together with what was kept of the last one it is not */
            if (_i >= 2 && (x->slot == SADDLE_OWN) == (_i == 2)) {
                unsigned char *kept = _i == 2 ? x->self_kept : x->edge[x->slot].kept;
                ((float *)saddle_at(x, kept, 2))[3] = 3e38f;
                cluster_set(&want.into.tensor[2], 3, 3e38);
            }
        }
        lock_go(&k.worker[1]);
        weft_sim_advance(&k.sim, 300);
    }
    ck_assert_msg(x->state == SADDLE_SPOILT, "case %d: state %d", _i, x->state);
    ck_assert_int_eq(saddle_next(x, &want), WEFT_ERR_NONFINITE);
    ck_assert_str_eq(saddle_detail(x)->field, "diverged");
    fine(&k, 1);
}
END_TEST

START_TEST(settings_differ) {
    static const char *const field[18] = {"order",
                                          "momentum",
                                          "rho",
                                          "beta",
                                          "mu",
                                          "nesterov",
                                          "weight_decay",
                                          "gamma",
                                          "share",
                                          "mixing",
                                          "codec, feedback",
                                          "codec, feedback",
                                          "gradient_codec, gradient_feedback, compress_self",
                                          "gradient_codec, gradient_feedback, compress_self",
                                          "gradient_codec, gradient_feedback, compress_self",
                                          "piece_bytes",
                                          "variant",
                                          "hash of the initial parameters"};
    lock_desc d = lock_default(2);
    uint64_t expected[2] = {0, 0}, got[2] = {0, 0};
    int said[2] = {0, 0}, times;
    uint32_t r;
    lock k;
    differ = _i;
    d.prepare = make_other;
    d.s.variant = SADDLE_N;
    d.s.codec = weft_codec_q8();
    ck_assert(lock_open(&k, &d));
    for (times = 0; times < 60; times++) {
        for (r = 0; r < 2; r++) {
            lock_worker *w = &k.worker[r];
            lock_go(w);
            if (w->status >= 0) continue;
            ck_assert_int_eq(w->status, WEFT_ERR_MISMATCH);
            /* rho and share come before what they change */
            if (strcmp(saddle_detail(w->x)->field, field[_i]) != 0 && !(_i == 16 || _i == 0))
                ck_abort_msg("%s, not %s", saddle_detail(w->x)->field, field[_i]);
            expected[r] = saddle_detail(w->x)->expected;
            got[r] = saddle_detail(w->x)->got;
            said[r]++;
        }
        weft_sim_advance(&k.sim, 1000);
    }
    ck_assert_int_eq(said[0] + said[1] >= 1 && said[0] <= 1 && said[1] <= 1, 1);
    ck_assert(said[0] ? expected[0] != got[0] : expected[1] != got[1]);
    if (said[0] && said[1]) {
        ck_assert_uint_eq(expected[0], got[1]);
        ck_assert_uint_eq(expected[1], got[0]);
    }
    for (r = 0; r < 2; r++) { /* and they go on, each for itself */
        saddle_stats_t s;
        saddle_stats(k.worker[r].x, &s);
        ck_assert_uint_gt(s.steps, 2);
        ck_assert_uint_eq(s.exchanges, 0);
    }
    fine(&k, 1);
}
END_TEST

int main(void) {
    Suite *s = suite_create("misuse"), *a = suite_create("shapes");
    TCase *c = tcase_create("misuse");
    SRunner *r;
    int failed;
    tcase_set_timeout(c, 60);
    tcase_add_test(c, descriptor);
    tcase_add_test(c, effective);
    tcase_add_loop_test(c, any_alignment, 0, 66);
    tcase_add_test(c, reported);
    tcase_add_test(c, nobody);
    tcase_add_loop_test(c, every_verb_in_every_state, 0, 8 * VERBS);
    tcase_add_test(c, before_the_first_step);
    tcase_add_test(c, arguments);
    tcase_add_loop_test(c, reentry, 0, 2);
    tcase_add_loop_test(c, polls_in_between, 0, 8);
    tcase_add_loop_test(c, settings_differ, 0, 18);
    tcase_add_test(c, letters_awry);
    tcase_add_test(c, letters_without_end);
    tcase_add_test(c, wait_ends_in_time);
    tcase_add_loop_test(c, nothing_that_is_not_finite_is_sent, 0, 4);
    suite_add_tcase(s, c);
    c = tcase_create("shapes");
    tcase_set_timeout(c, 60);
    tcase_add_loop_test(c, small_messages, 0, 16);
    tcase_add_loop_test(c, odd_shapes, 0, 6);
    tcase_add_loop_test(c, in_place, 0, 8);
    tcase_add_loop_test(c, alone, 0, 8);
    suite_add_tcase(a, c);
    r = srunner_create(s);
    srunner_add_suite(r, a);
    srunner_run_all(r, CK_NORMAL);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
