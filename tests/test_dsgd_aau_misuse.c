/* SPDX-License-Identifier: MIT
 * test_dsgd_aau_misuse.c: DSGD-AAU called wrongly: descriptors, order, re-entry; saved state, hostile too; reading. */
#define GRAWA_IMPLEMENTATION
#include "../grawa.h"
#define DSGD_AAU_IMPLEMENTATION
#include "../dsgd_aau.h"
#include "aau_team.h"

#include <check.h>

static const size_t small[] = {5, 0, 3};

static void fine(aau *t, int ok) {
    int closed = aau_close(t);
    if (!ok || !closed) ck_abort_msg("%s", t->why[0] ? t->why : "a check failed");
}

/* ---- descriptors ---- */

static float w1[8];

static void refused(dsgd_aau_desc d, weft_status status, const char *field) {
    static unsigned char memory[1 << 16];
    weft_memory_report r;
    weft_detail why;
    dsgd_aau *x = (dsgd_aau *)(void *)memory;
    ck_assert_uint_eq(dsgd_aau_memory(&d, &r), 0);
    ck_assert_int_eq(r.detail.status, status);
    ck_assert_str_eq(r.detail.field, field);
    ck_assert_int_eq(dsgd_aau_init_detail(&x, &d, memory, sizeof memory, &why), status);
    ck_assert_ptr_null(x);
    ck_assert_str_eq(why.field, field);
}

START_TEST(descriptors) {
    static unsigned char memory[1 << 16];
    weft_graph g, other;
    void *m = aau_graph(&g, AAU_RING, 4, 0), *o = aau_graph(&other, AAU_RING, 5, 0);
    weft_transport net =
        weft_transport_make(NULL, 1, 4, weft_sim_send, weft_sim_recv, weft_sim_test, weft_sim_cancel, weft_sim_now_of);
    weft_transport mute;
    weft_tensor t[] = {{w1, 8, WEFT_F32}};
    dsgd_aau_desc good, d;
    dsgd_aau *x;
    size_t bytes;
    memset(&good, 0, sizeof good);
    good.struct_size = sizeof good;
    good.params.tensor = t;
    good.params.count = 1;
    good.transport = &net;
    good.graph = &g;
    bytes = dsgd_aau_memory(&good, NULL);
    ck_assert_uint_gt(bytes, 0);
    ck_assert_uint_le(bytes, sizeof memory);
    ck_assert_int_eq(dsgd_aau_init(&x, &good, memory, bytes), WEFT_OK);
    dsgd_aau_effective(x, &d);
    ck_assert_uint_eq(d.fan, 8);
    ck_assert_uint_eq(d.piece_bytes, 262144);
    ck_assert_int_ne(d.isa, WEFT_ISA_AUTO);
    dsgd_aau_close(x);
    ck_assert_int_eq(dsgd_aau_init(&x, &good, memory, bytes - 1), WEFT_ERR_MEMORY);
    ck_assert_int_eq(dsgd_aau_init(&x, &good, NULL, bytes), WEFT_ERR_MEMORY);
    ck_assert_int_eq(dsgd_aau_init(NULL, &good, memory, bytes), WEFT_ERR_ARGUMENT);
    ck_assert_int_eq(dsgd_aau_init(&x, NULL, memory, bytes), WEFT_ERR_ARGUMENT);
    ck_assert_int_eq(dsgd_aau_init_abi(&x, &good, memory, bytes, NULL, sizeof good - 1, WEFT_ABI), WEFT_ERR_ABI);
    ck_assert_int_eq(dsgd_aau_init_abi(&x, &good, memory, bytes, NULL, sizeof good, WEFT_ABI + 1), WEFT_ERR_ABI);

    d = good;
    d.struct_size--;
    refused(d, WEFT_ERR_ABI, "desc.struct_size");
    d = good;
    d.transport = NULL;
    refused(d, WEFT_ERR_ARGUMENT, "transport");
    d = good;
    d.graph = NULL;
    refused(d, WEFT_ERR_ARGUMENT, "graph");
    d = good;
    d.graph = &other;
    refused(d, WEFT_ERR_ARGUMENT, "graph.workers");
    d = good;
    d.channel = WEFT_CHANNELS;
    refused(d, WEFT_ERR_ARGUMENT, "desc.channel");
    d = good;
    d.isa = (weft_isa)77;
    refused(d, WEFT_ERR_UNSUPPORTED, "desc.isa");
    d = good;
    d.join = (dsgd_aau_join)3;
    refused(d, WEFT_ERR_ARGUMENT, "desc.join");
    d = good;
    d.initial = (dsgd_aau_initial)2;
    refused(d, WEFT_ERR_ARGUMENT, "desc.initial");
    d = good;
    d.wire = (dsgd_aau_wire)2;
    refused(d, WEFT_ERR_ARGUMENT, "desc.wire");
    d = good;
    d.piece_bytes = 1000;
    refused(d, WEFT_ERR_ARGUMENT, "desc.piece_bytes");
    mute = net;
    mute.now = NULL;
    d = good;
    d.transport = &mute;
    d.grace_ns = 1;
    refused(d, WEFT_ERR_ARGUMENT, "transport.now (for a deadline)");
    d.grace_ns = DSGD_AAU_NO_GRACE; /* needs none; nor does the default */
    ck_assert_uint_gt(dsgd_aau_memory(&d, NULL), 0);
    d.grace_ns = 0;
    ck_assert_uint_gt(dsgd_aau_memory(&d, NULL), 0);
    d = good;
    t[0].count = SIZE_MAX / 4; /* its bytes are a size, but not its place in the accumulator */
    t[0].dtype = WEFT_F16;
    {
        weft_memory_report report;
        ck_assert_uint_eq(dsgd_aau_memory(&d, &report), 0);
        ck_assert_int_eq(report.detail.status, WEFT_ERR_OVERFLOW);
        ck_assert_str_ne(report.detail.field, "tensor.count");
    }
    t[0].count = 8;
    t[0].dtype = WEFT_F32;
    d = good;
    t[0].data = NULL;
    refused(d, WEFT_ERR_ARGUMENT, "tensor.data");
    t[0].count = SIZE_MAX / 2;
    refused(d, WEFT_ERR_OVERFLOW, "tensor.count");
    free(m);
    free(o);
}
END_TEST

/* ---- order ---- */

typedef struct nosy {
    dsgd_aau *x;
    uint64_t refused, calls;
} nosy;

static void nosy_trace(void *ctx, const weft_event *e) {
    nosy *n = (nosy *)ctx;
    (void)e;
    n->calls++;
    n->refused += dsgd_aau_poll(n->x) == WEFT_ERR_REENTRY;
    dsgd_aau_close(n->x); /* is not heard */
}

static int nosy_prepare(aau_worker *w) {
    if (w->rank) return 1;
    w->desc.trace = nosy_trace;
    w->desc.trace_ctx = w->t->desc.user;
    return 1;
}

START_TEST(order) {
    weft_graph g;
    void *m = aau_graph(&g, AAU_COMPLETE, 3, 0);
    aau_desc d = aau_default(4, &g);
    aau t;
    nosy n;
    dsgd_aau *x;
    unsigned char blob[4096];
    size_t bytes;
    uint32_t labels[3];
    memset(&n, 0, sizeof n);
    d.tensors = 3;
    d.count = small;
    d.prepare = nosy_prepare;
    d.user = &n;
    ck_assert(aau_open(&t, &d));
    x = n.x = t.worker[0].x;
    ck_assert_uint_eq(dsgd_aau_state(x),
                      DSGD_AAU_MAY_STEP | DSGD_AAU_MAY_LOAD | DSGD_AAU_MAY_START | DSGD_AAU_MAY_LINK);
    ck_assert_int_eq(dsgd_aau_poll(x), WEFT_OK); /* nothing is in progress */
    ck_assert_int_eq(dsgd_aau_peer_lost(x, 3), WEFT_ERR_ARGUMENT);
    ck_assert_int_eq(dsgd_aau_peer_up(x, 0), WEFT_ERR_ARGUMENT);
    ck_assert_str_eq(dsgd_aau_detail(x)->field, "rank");
    ck_assert_int_eq(dsgd_aau_step(x), WEFT_AGAIN);
    ck_assert_int_eq(dsgd_aau_detail(x)->status, WEFT_AGAIN);
    ck_assert_uint_eq(dsgd_aau_state(x), DSGD_AAU_MAY_POLL | DSGD_AAU_MAY_LINK);
    ck_assert_int_eq(dsgd_aau_step(x), WEFT_ERR_ORDER);
    ck_assert_int_eq(dsgd_aau_leave(x), WEFT_ERR_ORDER);
    ck_assert_int_eq(dsgd_aau_start(x), WEFT_ERR_ORDER);
    ck_assert_int_eq(dsgd_aau_save(x, blob, sizeof blob, &bytes), WEFT_ERR_ORDER);
    ck_assert_int_eq(dsgd_aau_load(x, blob, sizeof blob), WEFT_ERR_ORDER);
    ck_assert_int_eq(dsgd_aau_poll(x), WEFT_AGAIN);
    ck_assert_uint_gt(n.calls, 0);
    ck_assert_uint_eq(n.refused, n.calls);
    ck_assert_uint_eq(dsgd_aau_labels(x, labels, 2), 3);
    ck_assert_uint_eq(labels[1], 1);
    ck_assert_int_eq(dsgd_aau_link(x, 1), WEFT_LINK_OPENING);
    ck_assert_int_eq(dsgd_aau_link(x, 0), WEFT_LINK_DOWN);
    ck_assert_int_eq(dsgd_aau_link(x, 99), WEFT_LINK_DOWN);
    dsgd_aau_close(x);
    ck_assert_int_eq(dsgd_aau_poll(x), WEFT_ERR_ARGUMENT);
    ck_assert_uint_eq(dsgd_aau_state(x), 0);
    ck_assert_uint_eq(dsgd_aau_labels(x, labels, 3), 0);
    dsgd_aau_close(x);
    /* nobody at all */
    ck_assert_int_eq(dsgd_aau_step(NULL), WEFT_ERR_ARGUMENT);
    ck_assert_int_eq(dsgd_aau_wait(NULL), WEFT_ERR_ARGUMENT);
    ck_assert_ptr_null(dsgd_aau_detail(NULL));
    ck_assert_ptr_null(dsgd_aau_fault(NULL));
    ck_assert_uint_eq(dsgd_aau_state(NULL), 0);
    ck_assert(dsgd_aau_wake_ns(NULL) == UINT64_MAX);
    ck_assert_int_eq(dsgd_aau_link(NULL, 0), WEFT_LINK_DOWN);
    dsgd_aau_stats(NULL, NULL);
    dsgd_aau_effective(NULL, NULL);
    dsgd_aau_close(NULL);
    fine(&t, 1);
    free(m);
}
END_TEST

/* After the good-bye only close is left. */
START_TEST(left_is_left) {
    weft_graph g;
    void *m = aau_graph(&g, AAU_COMPLETE, 2, 0);
    aau_desc d = aau_default(4, &g);
    aau t;
    uint32_t r;
    d.tensors = 3;
    d.count = small;
    ck_assert(aau_open(&t, &d));
    ck_assert(aau_run(&t));
    for (r = 0; r < 2; r++) {
        ck_assert_int_eq(dsgd_aau_poll(t.worker[r].x), WEFT_OK);
        ck_assert_int_eq(dsgd_aau_step(t.worker[r].x), WEFT_ERR_ORDER);
        ck_assert_int_eq(dsgd_aau_leave(t.worker[r].x), WEFT_ERR_ORDER);
        ck_assert_int_eq(dsgd_aau_peer_up(t.worker[r].x, 1 - r), WEFT_ERR_ORDER);
        ck_assert_uint_eq(dsgd_aau_state(t.worker[r].x), 0);
    }
    fine(&t, 1);
    free(m);
}
END_TEST

/* ---- time ---- */

START_TEST(timeout_is_said_once_a_time) {
    weft_graph g;
    void *m = aau_graph(&g, AAU_COMPLETE, 2, 0);
    aau_desc d = aau_default(4, &g);
    aau t;
    dsgd_aau *x;
    d.tensors = 3;
    d.count = small;
    d.d.timeout_ns = 1000000;
    ck_assert(aau_open(&t, &d));
    x = t.worker[0].x;
    ck_assert_int_eq(dsgd_aau_step(x), WEFT_AGAIN); /* the other one never begins */
    ck_assert_int_eq(dsgd_aau_wait(x), WEFT_ERR_TIMEOUT);
    ck_assert_str_eq(dsgd_aau_detail(x)->field, "timeout_ns");
    ck_assert_str_eq(dsgd_aau_detail(x)->phase, "averaging");
    ck_assert_uint_ge(dsgd_aau_detail(x)->got, 1000000);
    ck_assert_int_eq(dsgd_aau_poll(x), WEFT_AGAIN);
    ck_assert_int_eq(dsgd_aau_wait(x), WEFT_ERR_TIMEOUT);
    ck_assert_int_eq(dsgd_aau_peer_lost(x, 1), WEFT_OK);
    ck_assert_int_eq(dsgd_aau_wait(x), WEFT_OK); /* alone */
    fine(&t, 1);
    free(m);
}
END_TEST

/* ---- saved state ---- */

START_TEST(save_and_load) {
    weft_graph g;
    void *m = aau_graph(&g, AAU_COMPLETE, 3, 0);
    aau_desc d = aau_default(4, &g);
    aau t, u;
    unsigned char blob[1024], copy[1024];
    size_t bytes = 0, i;
    dsgd_aau_stats_t a, b, before;
    d.tensors = 3;
    d.count = small;
    d.steps = 8;
    d.stay = 1;
    ck_assert(aau_open(&t, &d));
    aau_begin_all(&t);
    weft_sim_advance(&t.sim, 30000000);
    ck_assert_int_eq(dsgd_aau_save(t.worker[1].x, NULL, 0, NULL), WEFT_ERR_ARGUMENT);
    ck_assert_int_eq(dsgd_aau_save(t.worker[1].x, NULL, 0, &bytes), WEFT_OK);
    ck_assert_uint_le(bytes, sizeof blob);
    ck_assert_int_eq(dsgd_aau_save(t.worker[1].x, blob, bytes - 1, &bytes), WEFT_ERR_CAPACITY);
    ck_assert_int_eq(dsgd_aau_save(t.worker[1].x, blob, sizeof blob, &bytes), WEFT_OK);
    dsgd_aau_stats(t.worker[1].x, &a);
    ck_assert_uint_eq(a.steps, 8);
    ck_assert_int_eq(dsgd_aau_load(t.worker[1].x, blob, bytes), WEFT_ERR_ORDER); /* it is not fresh */
    fine(&t, 1);

    ck_assert(aau_open(&u, &d));
    dsgd_aau_stats(u.worker[1].x, &before);
    for (i = 0; i < bytes; i++) { /* every byte counts */
        memcpy(copy, blob, bytes);
        copy[i] ^= 0x10;
        ck_assert_int_lt(dsgd_aau_load(u.worker[1].x, copy, bytes), 0);
    }
    for (i = 0; i < bytes; i++) ck_assert_int_lt(dsgd_aau_load(u.worker[1].x, blob, i), 0);
    ck_assert_int_eq(dsgd_aau_load(u.worker[1].x, NULL, bytes), WEFT_ERR_ARGUMENT);
    ck_assert_int_eq(dsgd_aau_load(u.worker[2].x, blob, bytes), WEFT_ERR_MISMATCH); /* another rank's */
    dsgd_aau_stats(u.worker[1].x, &b);
    ck_assert(memcmp(&b, &before, sizeof b) == 0);
    ck_assert_int_eq(dsgd_aau_load(u.worker[1].x, blob, bytes), WEFT_OK);
    dsgd_aau_stats(u.worker[1].x, &b);
    ck_assert_uint_eq(b.steps, a.steps);
    ck_assert_uint_eq(b.led, a.led);
    ck_assert_uint_eq(b.followed, a.followed);
    ck_assert_uint_eq(b.partners, a.partners);
    ck_assert_uint_eq(b.epochs, a.epochs);
    ck_assert_uint_eq(b.merges, a.merges);
    ck_assert_uint_eq(dsgd_aau_state(u.worker[1].x) & DSGD_AAU_MAY_LOAD, 0);
    fine(&u, 1);
    free(m);
}
END_TEST

/* ---- what no worker of this library says ---- */

START_TEST(numbers_end) {
    unsigned char p[12];
    size_t at, n = dsgd_aau_put(p, 300), i;
    uint64_t v;
    ck_assert_uint_eq(n, 2);
    for (i = 0; i < n; i++) {
        at = 0;
        ck_assert_msg(!dsgd_aau_get(p, i, &at, UINT64_MAX, &v), "a number of %lu of its bytes", (unsigned long)i);
    }
    at = 0;
    ck_assert(dsgd_aau_get(p, n, &at, 300, &v) && v == 300 && at == n);
    at = 0;
    ck_assert(!dsgd_aau_get(p, n, &at, 299, &v));
    memset(p, 0xFF, sizeof p); /* more digits than a number has */
    at = 0;
    ck_assert(!dsgd_aau_get(p, sizeof p, &at, UINT64_MAX, &v));
}
END_TEST

START_TEST(hello_awry) {
    weft_graph g;
    void *m = aau_graph(&g, AAU_COMPLETE, 2, 0);
    aau_desc d = aau_default(4, &g);
    unsigned char payload[WEFT_INLINE_BYTES];
    weft_header good, h;
    weft_detail why;
    aau t;
    dsgd_aau *x;
    d.tensors = 3;
    d.count = small;
    ck_assert(aau_open(&t, &d));
    x = t.worker[0].x;
    memset(&good, 0, sizeof good);
    dsgd_aau_on_hello(t.worker[1].x, 0, &good, payload);
#define SAYS(change, status, what)                                                                                     \
    do {                                                                                                               \
        h = good;                                                                                                      \
        change;                                                                                                        \
        why = weft_detail_none();                                                                                      \
        ck_assert_int_eq(dsgd_aau_on_up(x, 0, &h, payload, &why), status);                                             \
        ck_assert_str_eq(why.field, what);                                                                             \
    } while (0)
    SAYS(h.payload--, WEFT_ERR_PROTOCOL, "hello");
    ck_assert_uint_eq(why.expected, good.payload);
    ck_assert_uint_eq(why.got, good.payload - 1);
    SAYS(h.arg0 = (uint64_t)DSGD_AAU_MOST_COUNTER + 1, WEFT_ERR_PROTOCOL, "hello");
    SAYS(h.arg0 = DSGD_AAU_MOST_COUNTER - 1, WEFT_ERR_PROTOCOL, "counter of the link (at its end)");
    ck_assert_uint_eq(why.got, DSGD_AAU_MOST_COUNTER - 1);
    payload[0] ^= 1;
    SAYS((void)0, WEFT_ERR_MISMATCH, "algorithm");
    payload[0] ^= 1;
#undef SAYS
    ck_assert_int_eq(dsgd_aau_on_up(x, 0, &good, payload, &why), WEFT_OK);
    fine(&t, 1);
    free(m);
}
END_TEST

/* A neighbour that asks before the data of its last letter is there, or again before it was answered. */
START_TEST(asked_out_of_turn) {
    weft_graph g;
    void *m = aau_graph(&g, AAU_COMPLETE, 2, 0);
    aau_desc d = aau_default(4, &g);
    weft_header h;
    weft_detail why = weft_detail_none();
    aau t;
    dsgd_aau *x;
    d.tensors = 3;
    d.count = small;
    ck_assert(aau_open(&t, &d));
    aau_begin_all(&t);
    weft_sim_advance(&t.sim, 100000);
    x = t.worker[0].x;
    ck_assert(x->core.mark[0] & DSGD_AAU_LINK);
    memset(&h, 0, sizeof h);
    h.step = DSGD_AAU_PROPOSE;
    x->due[0].announced = DSGD_AAU_ACCEPT;
    ck_assert_int_eq(dsgd_aau_on_letter(x, 0, &h, NULL, &why), WEFT_ERR_PROTOCOL);
    ck_assert_str_eq(why.field, "letter.kind (before its data)");
    x->due[0].announced = 0;
    dsgd_aau_act(x, DSGD_AAU_REJECT, 0, 1, 0);
    ck_assert(!x->due[0].clash);
    dsgd_aau_act(x, DSGD_AAU_REJECT, 0, 2, 0);
    ck_assert(x->due[0].clash);
    ck_assert_int_eq(dsgd_aau_poll(x), WEFT_OK); /* a fault of the link, which begins anew */
    ck_assert_uint_eq(x->net.faults, 1);
    ck_assert_int_eq(x->net.fault.status, WEFT_ERR_PROTOCOL);
    ck_assert_str_eq(x->net.fault.field, "a second transaction");
    ck_assert_uint_eq(x->net.fault.peer, 1);
    ck_assert(!(x->core.mark[0] & DSGD_AAU_LINK) && !x->due[0].clash);
    fine(&t, 1);
    free(m);
}
END_TEST

int main(void) {
    Suite *s = suite_create("dsgd_aau misuse");
    TCase *t = tcase_create("misuse");
    SRunner *r;
    int failed;
    tcase_set_timeout(t, 60);
    tcase_add_test(t, descriptors);
    tcase_add_test(t, order);
    tcase_add_test(t, left_is_left);
    tcase_add_test(t, timeout_is_said_once_a_time);
    tcase_add_test(t, save_and_load);
    tcase_add_test(t, numbers_end);
    tcase_add_test(t, hello_awry);
    tcase_add_test(t, asked_out_of_turn);
    suite_add_tcase(s, t);
    r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
