/* SPDX-License-Identifier: MIT
 * HPSGD used wrongly: every field of the descriptor, verbs at the wrong time, from their own callbacks, without an
 * object; views and ranks that cannot be; records from a peer that make no sense. Nothing of it may crash, and every
 * refusal names what it is about and changes nothing. */
#define GRAWA_IMPLEMENTATION
#include "../grawa.h"
#define HPSGD_IMPLEMENTATION
#include "../hpsgd.h"
#include "hpsgd_lock.h"
#include "silent.h"

#include <check.h>

/* ---- descriptors ---- */

static float memory_of_x[8];
static weft_tensor x_tensor = {memory_of_x, 8, WEFT_F32};
static weft_transport net1;

static hpsgd_desc good(void) {
    hpsgd_desc d;
    memset(&d, 0, sizeof d);
    d.struct_size = sizeof d;
    d.params.tensor = &x_tensor;
    d.params.count = 1;
    net1 = silent_transport(NULL, 2, NULL);
    d.transport = &net1;
    return d;
}

/* Both hpsgd_memory and hpsgd_init say no, and why. */
static void refused(const hpsgd_desc *d, weft_status status, const char *field) {
    weft_memory_report m;
    weft_detail why;
    unsigned char some[64];
    hpsgd *h = (hpsgd *)some;
    ck_assert_uint_eq(hpsgd_memory(d, &m), 0);
    ck_assert_msg(m.detail.status == status && m.detail.field && !strcmp(m.detail.field, field), "%s: got %s, %s",
                  field, weft_strerror(m.detail.status), m.detail.field ? m.detail.field : "-");
    ck_assert_uint_eq(m.total_bytes, 0);
    ck_assert_int_eq(hpsgd_init_detail(&h, d, some, sizeof some, &why), status);
    ck_assert_ptr_null(h);
    ck_assert_str_eq(why.field, field);
    ck_assert_uint_eq(hpsgd_memory(d, NULL), 0);
}

START_TEST(descriptor) {
    hpsgd_desc d = good();
    weft_view v;
    uint32_t members[2] = {0, 1};
    weft_tensor twice[2] = {{memory_of_x, 8, WEFT_F32}, {memory_of_x + 4, 4, WEFT_F32}};
    weft_tensor wider = {memory_of_x, 8, WEFT_F64};
    uint16_t halves[8];
    weft_tensor narrow[2] = {{halves, 4, WEFT_BF16}, {halves + 4, 4, WEFT_BF16}};
    weft_tensor tied[2] = {{memory_of_x, 4, WEFT_F32}, {memory_of_x, 4, WEFT_F32}};
    hpsgd *h;
    unsigned char *p;
    size_t bytes;
    ck_assert_uint_gt(hpsgd_memory(&d, NULL), 0);
#define BAD(change, status, field)                                                                                     \
    do {                                                                                                               \
        d = good();                                                                                                    \
        change;                                                                                                        \
        refused(&d, status, field);                                                                                    \
    } while (0)
    refused(NULL, WEFT_ERR_ARGUMENT, "desc");
    BAD(d.struct_size--, WEFT_ERR_ABI, "desc.struct_size");
    BAD(d.transport = NULL, WEFT_ERR_ARGUMENT, "transport");
    BAD(net1.rank = 2, WEFT_ERR_ARGUMENT, "transport.rank");
    BAD(d.params.tensor = NULL, WEFT_ERR_ARGUMENT, "tensors.tensor");
    BAD((d.params.tensor = twice, d.params.count = 2), WEFT_ERR_ARGUMENT, "tensors overlap (tied? list it once)");
    BAD(d.channel = WEFT_CHANNELS, WEFT_ERR_ARGUMENT, "desc.channel");
    BAD(d.isa = (weft_isa)99, WEFT_ERR_UNSUPPORTED, "desc.isa");
    BAD(d.mode = (hpsgd_mode)3, WEFT_ERR_ARGUMENT, "desc.mode");
    BAD(d.payload = (hpsgd_payload)2, WEFT_ERR_ARGUMENT, "desc.payload");
    BAD(d.on_void = (hpsgd_void)2, WEFT_ERR_ARGUMENT, "desc.on_void");
    BAD(d.guard = (hpsgd_guard)2, WEFT_ERR_ARGUMENT, "desc.guard");
    BAD(d.initial = (hpsgd_initial)2, WEFT_ERR_ARGUMENT, "desc.initial");
    BAD(d.startup = (hpsgd_startup)2, WEFT_ERR_ARGUMENT, "desc.startup");
    BAD(d.algorithm = (weft_algorithm)9, WEFT_ERR_ARGUMENT, "desc.algorithm");
    BAD(d.initial_rank = 2, WEFT_ERR_ARGUMENT, "desc.initial_rank");
    BAD(d.keep_delta = 2, WEFT_ERR_ARGUMENT, "desc.keep_delta");
    BAD(d.keep_delta = -2, WEFT_ERR_ARGUMENT, "desc.keep_delta");
    BAD(d.carry = -0.5, WEFT_ERR_ARGUMENT, "desc.carry");
    BAD(d.carry = 1.5, WEFT_ERR_ARGUMENT, "desc.carry");
    BAD(d.carry = (double)NAN, WEFT_ERR_ARGUMENT, "desc.carry");
    BAD((d.min_steps = 5, d.max_steps = 4), WEFT_ERR_ARGUMENT, "desc.min_steps");
    BAD((d.mode = HPSGD_FIXED, d.min_steps = 3, d.max_steps = 4), WEFT_ERR_ARGUMENT, "desc.min_steps");
    BAD((d.mode = HPSGD_BLOCKING, d.min_steps = 3, d.max_steps = 4), WEFT_ERR_ARGUMENT, "desc.min_steps");
    BAD(d.timeout_ns = 1, WEFT_ERR_ARGUMENT, "transport.now (for timeout_ns)");
    BAD(d.host_collectives = 1, WEFT_ERR_ARGUMENT, "transport.all_reduce (for host_collectives)");
    memset(&v, 0, sizeof v);
    BAD(d.view = &v, WEFT_ERR_ABI, "view.struct_size");
    v.struct_size = sizeof v;
    BAD(d.view = &v, WEFT_ERR_ARGUMENT, "view.count");
    v.count = 1;
    v.members = members + 1;
    BAD(d.view = &v, WEFT_ERR_ARGUMENT, "view.members (without this rank)");
    BAD((d.master.tensor = twice, d.master.count = 2), WEFT_ERR_ARGUMENT, "tensors.count");
    BAD((d.master.tensor = twice + 1, d.master.count = 1), WEFT_ERR_ARGUMENT, "tensor.count");
    BAD((d.master.tensor = &wider, d.master.count = 1), WEFT_ERR_ARGUMENT,
        "master.dtype (f32, of 16-bit parameters)"); /* the memory is the parameter's own, and half as long */
    BAD((d.params.tensor = narrow, d.params.count = 2, d.master.tensor = tied, d.master.count = 2), WEFT_ERR_ARGUMENT,
        "tensors overlap (tied? list it once)");
#undef BAD
    d = good();
    ck_assert_uint_eq(hpsgd_memory_abi(&d, NULL, sizeof d - 8, WEFT_ABI), 0);
    ck_assert_uint_eq(hpsgd_memory_abi(&d, NULL, sizeof d, WEFT_ABI + 16), 0);
    bytes = hpsgd_memory(&d, NULL);
    p = (unsigned char *)malloc(bytes);
    ck_assert_int_eq(hpsgd_init(NULL, &d, p, bytes), WEFT_ERR_ARGUMENT);
    ck_assert_int_eq(hpsgd_init(&h, &d, NULL, bytes), WEFT_ERR_MEMORY);
    ck_assert_int_eq(hpsgd_init_abi(&h, &d, p, bytes, NULL, sizeof d, WEFT_ABI + 16), WEFT_ERR_ABI);
    ck_assert_int_eq(hpsgd_init(&h, &d, p, bytes), WEFT_OK);
    hpsgd_close(h);
    free(p);
}
END_TEST

/* ---- no object ---- */

START_TEST(nobody) {
    hpsgd_stats_t s;
    hpsgd_desc e;
    weft_view v;
    int pass;
    lock_desc d = lock_default(1);
    lock k;
    hpsgd *closed;
    ck_assert(lock_open(&k, &d));
    closed = k.worker[0].h;
    hpsgd_close(closed);
    memset(&v, 0, sizeof v);
    for (pass = 0; pass < 2; pass++) {
        hpsgd *h = pass ? closed : NULL;
        ck_assert_int_eq(hpsgd_start(h), WEFT_ERR_ARGUMENT);
        ck_assert_int_eq(hpsgd_step(h), WEFT_ERR_ARGUMENT);
        ck_assert_int_eq(hpsgd_poll(h), WEFT_ERR_ARGUMENT);
        ck_assert_int_eq(hpsgd_progress(h), WEFT_ERR_ARGUMENT);
        ck_assert_int_eq(hpsgd_wait(h), WEFT_ERR_ARGUMENT);
        ck_assert_int_eq(hpsgd_drain(h), WEFT_ERR_ARGUMENT);
        ck_assert_int_eq(hpsgd_leave(h), WEFT_ERR_ARGUMENT);
        ck_assert_int_eq(hpsgd_model(h, NULL), WEFT_ERR_ARGUMENT);
        ck_assert_int_eq(hpsgd_peer_lost(h, 1), WEFT_ERR_ARGUMENT);
        ck_assert_int_eq(hpsgd_peer_up(h, 1), WEFT_ERR_ARGUMENT);
        ck_assert_int_eq(hpsgd_regroup(h, &v), WEFT_ERR_ARGUMENT);
        ck_assert_int_eq(hpsgd_save(h, NULL, 0, NULL), WEFT_ERR_ARGUMENT);
        ck_assert_int_eq(hpsgd_load(h, NULL, 0), WEFT_ERR_ARGUMENT);
        ck_assert_int_eq(hpsgd_set_steps(h, 1, 1), WEFT_ERR_ARGUMENT);
        ck_assert_int_eq(hpsgd_set_void(h, HPSGD_DROP), WEFT_ERR_ARGUMENT);
        ck_assert_uint_eq(hpsgd_state(h), 0);
        hpsgd_close(h);
    }
    ck_assert_ptr_null(hpsgd_detail(NULL));
    ck_assert_uint_eq(hpsgd_events(NULL), 0);
    ck_assert_uint_eq(hpsgd_members(NULL, NULL, 0), 0);
    hpsgd_stats(NULL, &s);
    hpsgd_effective(NULL, &e);
    hpsgd_stats(closed, NULL);
    hpsgd_effective(closed, NULL);
    ck_assert_msg(lock_close(&k), "%s", k.why);
}
END_TEST

/* ---- at the wrong time ---- */

START_TEST(wrong_order) {
    lock_desc d = lock_default(2);
    lock k;
    hpsgd *h;
    hpsgd_stats_t before, after;
    uint32_t state;
    ck_assert(lock_open(&k, &d) && lock_steps(&k, 2));
    h = k.worker[0].h;
    /* in a drain: no steps */
    ck_assert_int_eq(hpsgd_drain(h), WEFT_AGAIN);
    ck_assert_int_eq(hpsgd_drain(h), WEFT_AGAIN); /* that is a poll */
    state = hpsgd_state(h);
    ck_assert(!(state & HPSGD_MAY_STEP) && (state & HPSGD_MAY_POLL) && (state & HPSGD_MAY_REGROUP));
    ck_assert(!(state & (HPSGD_MAY_SAVE | HPSGD_MAY_LOAD)));
    hpsgd_stats(h, &before);
    ck_assert_int_eq(hpsgd_step(h), WEFT_ERR_ORDER);
    ck_assert_str_eq(hpsgd_detail(h)->field, "state (draining or leaving)");
    ck_assert_int_eq(hpsgd_start(h), WEFT_ERR_ORDER);
    ck_assert_int_eq(hpsgd_leave(h), WEFT_ERR_ORDER);
    ck_assert_int_eq(hpsgd_save(h, NULL, 0, NULL), WEFT_ERR_ORDER);
    ck_assert_int_eq(hpsgd_load(h, NULL, 0), WEFT_ERR_ORDER);
    ck_assert_int_eq(hpsgd_set_steps(h, 1, 1), WEFT_ERR_ORDER);
    hpsgd_stats(h, &after);
    ck_assert_uint_eq(before.steps, after.steps);
    ck_assert_uint_eq(state, hpsgd_state(h));
    k.worker[0].status = WEFT_AGAIN;
    k.worker[1].status = hpsgd_drain(k.worker[1].h);
    ck_assert(lock_settle(&k) && lock_fine(&k, "drain") && lock_alike(&k));
    /* and after it they are legal again */
    ck_assert(lock_steps(&k, 3));
    ck_assert_int_eq(hpsgd_load(h, NULL, 0), WEFT_ERR_ORDER);
    /* after a good-bye only polls */
    LOCK_ALL(&k, w, hpsgd_leave(w->h));
    ck_assert_msg(!k.why[0], "%s", k.why);
    ck_assert_uint_eq(hpsgd_state(h), 0);
    ck_assert_int_eq(hpsgd_poll(h), WEFT_OK);
    ck_assert_int_eq(hpsgd_wait(h), WEFT_OK);
    ck_assert_int_eq(hpsgd_progress(h), WEFT_OK);
    ck_assert_int_eq(hpsgd_step(h), WEFT_ERR_ORDER);
    ck_assert_int_eq(hpsgd_drain(h), WEFT_ERR_ORDER);
    ck_assert_int_eq(hpsgd_leave(h), WEFT_ERR_ORDER);
    ck_assert_int_eq(hpsgd_regroup(h, NULL), WEFT_ERR_ORDER);
    ck_assert_int_eq(hpsgd_peer_lost(h, 1), WEFT_ERR_ORDER);
    ck_assert_msg(lock_close(&k), "%s", k.why);
}
END_TEST

START_TEST(drain_while_leaving) {
    lock_desc d = lock_default(2);
    lock k;
    ck_assert(lock_open(&k, &d));
    k.worker[0].step = 1;
    ck_assert_int_eq(hpsgd_step(k.worker[0].h), WEFT_OK);
    ck_assert_int_eq(hpsgd_leave(k.worker[0].h), WEFT_AGAIN);
    ck_assert_int_eq(hpsgd_drain(k.worker[0].h), WEFT_ERR_ORDER);
    ck_assert_str_eq(hpsgd_detail(k.worker[0].h)->field, "state (leaving)");
    ck_assert_msg(lock_close(&k), "%s", k.why);
}
END_TEST

/* ---- views, ranks, tensors ---- */

START_TEST(arguments) {
    lock_desc d = lock_default(3);
    lock k;
    hpsgd *h;
    uint32_t members[3] = {0, 1, 2}, wrong[3] = {0, 2, 1};
    weft_view v;
    weft_tensor t[3];
    weft_tensors into;
    ck_assert(lock_open(&k, &d) && lock_steps(&k, 1));
    h = k.worker[0].h;
    ck_assert_int_eq(hpsgd_peer_lost(h, 0), WEFT_ERR_ARGUMENT); /* itself */
    ck_assert_int_eq(hpsgd_peer_lost(h, 3), WEFT_ERR_ARGUMENT);
    ck_assert_int_eq(hpsgd_peer_up(h, 3), WEFT_ERR_ARGUMENT);
    ck_assert_str_eq(hpsgd_detail(h)->field, "rank");
    ck_assert_int_eq(hpsgd_regroup(h, NULL), WEFT_ERR_ARGUMENT);
    memset(&v, 0, sizeof v);
    v.struct_size = sizeof v;
    v.count = 3;
    v.members = members;
    ck_assert_int_eq(hpsgd_regroup(h, &v), WEFT_ERR_ARGUMENT); /* the same epoch */
    ck_assert_str_eq(hpsgd_detail(h)->field, "view.epoch");
    v.epoch = 1;
    v.members = wrong;
    ck_assert_int_eq(hpsgd_regroup(h, &v), WEFT_ERR_ARGUMENT);
    ck_assert_int_eq(hpsgd_model(h, NULL), WEFT_ERR_ARGUMENT);
    into.tensor = t;
    into.count = 2;
    memcpy(t, k.worker[0].out.tensor, sizeof t);
    ck_assert_int_eq(hpsgd_model(h, &into), WEFT_ERR_ARGUMENT);
    into.count = 3;
    t[2].count--;
    ck_assert_int_eq(hpsgd_model(h, &into), WEFT_ERR_ARGUMENT);
    t[2].count++;
    t[2].dtype = WEFT_BF16;
    ck_assert_int_eq(hpsgd_model(h, &into), WEFT_ERR_ARGUMENT);
    ck_assert_str_eq(hpsgd_detail(h)->field, "into.dtype");
    t[2].dtype = WEFT_F32;
    ck_assert_int_eq(hpsgd_model(h, &into), WEFT_OK);
    ck_assert_int_eq(hpsgd_set_steps(h, 9, 3), WEFT_ERR_ARGUMENT);
    ck_assert_int_eq(hpsgd_set_void(h, (hpsgd_void)7), WEFT_ERR_ARGUMENT);
    /* a lost worker cannot be in a view */
    v.members = members;
    ck_assert_int_eq(hpsgd_peer_lost(h, 2), WEFT_OK);
    ck_assert_int_eq(hpsgd_step(h), WEFT_ERR_PEER_LOST);
    ck_assert_uint_eq(hpsgd_detail(h)->peer, 2);
    ck_assert_int_eq(hpsgd_drain(h), WEFT_ERR_PEER_LOST);
    ck_assert_int_eq(hpsgd_regroup(h, &v), WEFT_ERR_PEER_LOST);
    ck_assert_msg(lock_close(&k), "%s", k.why);
    d.h.keep_delta = WEFT_ZERO;
    ck_assert(lock_open(&k, &d));
    ck_assert_int_eq(hpsgd_set_void(k.worker[0].h, HPSGD_REQUEUE), WEFT_ERR_UNSUPPORTED);
    ck_assert_msg(lock_close(&k), "%s", k.why);
}
END_TEST

/* ---- from inside a callback ---- */

static lock *inside;
static uint64_t called;

static void call_back(void *ctx, const weft_event *e) {
    hpsgd *h = inside->worker[e->rank].h;
    weft_view v;
    (void)ctx;
    memset(&v, 0, sizeof v);
    called++;
    ck_assert_int_eq(hpsgd_step(h), WEFT_ERR_REENTRY);
    ck_assert_int_eq(hpsgd_poll(h), WEFT_ERR_REENTRY);
    ck_assert_int_eq(hpsgd_wait(h), WEFT_ERR_REENTRY);
    ck_assert_int_eq(hpsgd_progress(h), WEFT_ERR_REENTRY);
    ck_assert_int_eq(hpsgd_drain(h), WEFT_ERR_REENTRY);
    ck_assert_int_eq(hpsgd_regroup(h, &v), WEFT_ERR_REENTRY);
    ck_assert_int_eq(hpsgd_peer_lost(h, 1), WEFT_ERR_REENTRY);
    hpsgd_close(h); /* does nothing */
    ck_assert_uint_ne(hpsgd_state(h), 0);
}

static uint64_t asked_until, asked_at;

static void noted_wait(void *ctx, uint64_t until) {
    asked_at = weft_sim_now_of(ctx);
    asked_until = until;
    weft_sim_wait(ctx, until);
}

/* Where the transport can sleep, a wait sleeps until its time is over, and no longer. */
START_TEST(wait_ends_in_time) {
    lock_desc d = lock_default(2);
    lock k;
    hpsgd *h;
    d.h.timeout_ns = 5000;
    ck_assert(lock_open(&k, &d));
    k.worker[0].net.wait = noted_wait;
    h = k.worker[0].h;
    ck_assert_int_eq(hpsgd_start(h), WEFT_AGAIN);
    asked_until = 0;
    ck_assert_int_eq(hpsgd_wait(h), WEFT_ERR_TIMEOUT);
    ck_assert_uint_eq(asked_until, asked_at + 5000);
    ck_assert_msg(lock_close(&k), "%s", k.why);
}
END_TEST

/* Whose parameters all are to begin with is not in the first view. */
START_TEST(nobody_to_copy) {
    lock_desc d = lock_default(3);
    uint32_t r;
    lock k;
    d.h.initial = HPSGD_INITIAL_COPY;
    d.h.initial_rank = 2;
    ck_assert(lock_open(&k, &d));
    for (r = 0; r < 2; r++) {
        uint32_t member[2] = {0, 1};
        weft_view v = {sizeof v, 1, 2, member};
        k.worker[r].status = hpsgd_regroup(k.worker[r].h, &v);
    }
    k.worker[2].status = WEFT_OK;
    lock_pump(&k, 100);
    for (r = 0; r < 2; r++) {
        ck_assert_int_eq(hpsgd_poll(k.worker[r].h), WEFT_ERR_ARGUMENT);
        ck_assert_str_eq(hpsgd_detail(k.worker[r].h)->field, "initial_rank (not a member)");
        ck_assert_uint_eq(hpsgd_detail(k.worker[r].h)->peer, 2);
    }
    ck_assert_msg(lock_close(&k), "%s", k.why);
}
END_TEST

START_TEST(reentry) {
    lock_desc d = lock_default(2);
    lock k;
    d.h.trace = call_back;
    inside = &k;
    called = 0;
    ck_assert_msg(lock_open(&k, &d) && lock_steps(&k, 4) && lock_drain(&k) && lock_alike(&k), "%s", k.why);
    ck_assert_uint_gt(called, 20);
    k.worker[0].desc.trace = NULL;
    ck_assert_msg(lock_close(&k), "%s", k.why);
}
END_TEST

/* ---- settings that differ ---- */

static int other_mode(lock_worker *w) {
    if (w->rank == 1) w->desc.mode = HPSGD_FIXED;
    return 1;
}

static int other_carry(lock_worker *w) {
    if (w->rank == 1) w->desc.carry = 0.5;
    return 1;
}

static int other_payload(lock_worker *w) {
    if (w->rank == 1) w->desc.payload = HPSGD_PAYLOAD_BF16;
    return 1;
}

static int other_startup(lock_worker *w) {
    if (w->rank == 1) w->desc.startup = HPSGD_CONTINUE;
    return 1;
}

static int other_check(lock_worker *w) {
    if (w->rank == 1) w->desc.check_replicas = 1;
    return 1;
}

static int other_slabs(lock_worker *w) {
    if (w->rank == 1) w->desc.keep_delta = WEFT_ZERO;
    return 1;
}

static int other_initial(lock_worker *w) {
    if (w->rank == 1) w->desc.initial_rank = 1;
    return 1;
}

static int other_algorithm(lock_worker *w) {
    if (w->rank == 1) w->desc.algorithm = WEFT_ALGORITHM_RING;
    return 1;
}

START_TEST(settings_differ) {
    static int (*const all[8])(lock_worker *) = {other_mode,  other_carry, other_payload, other_startup,
                                                 other_check, other_slabs, other_initial, other_algorithm};
    static const char *const field[8] = {"mode",           "carry", "payload", "startup",
                                         "check_replicas", "slabs", "initial", "algorithm of the sum"};
    static const size_t large[3] = {60000, 0, 30000};
    int i;
    uint32_t r;
    for (i = 0; i < 8; i++) {
        lock_desc d = lock_default(2);
        lock k;
        d.prepare = all[i];
        if (i == 5) d.count = large; /* a small model is in one piece anyway */
        ck_assert(lock_open(&k, &d));
        for (r = 0; r < 2; r++) k.worker[r].status = hpsgd_start(k.worker[r].h);
        ck_assert(lock_settle(&k));
        for (r = 0; r < 2; r++) {
            const weft_detail *e = hpsgd_detail(k.worker[r].h);
            ck_assert_int_eq(k.worker[r].status, WEFT_ERR_MISMATCH);
            ck_assert_str_eq(e->field, field[i]);
            ck_assert_uint_eq(e->peer, 1 - r);
            ck_assert_uint_ne(e->expected, e->got);
        }
        ck_assert_msg(lock_close(&k), "%s", k.why);
    }
}
END_TEST

/* ---- records of a peer that make no sense ---- */

static void record_from_1(lock *k, uint64_t flags, uint64_t steps, uint64_t hash) {
    unsigned char message[WEFT_CONTROL_BYTES];
    weft_header h;
    memset(&h, 0, sizeof h);
    h.kind = WEFT_KIND_EXCHANGE;
    h.big_endian = weft_big_endian();
    h.sender = 1;
    h.round = 1;
    h.bytes = h.payload = HPSGD_RECORD_BYTES;
    h.piece = 1u << 30;
    weft_put64(message + WEFT_HEADER_BYTES, flags);
    weft_put64(message + WEFT_HEADER_BYTES + 8, steps);
    weft_put64(message + WEFT_HEADER_BYTES + 16, hash);
    ck_assert_int_ge(weft_sim_replace(&k->sim, 1, 0, 0, 2, message, weft_header_write(message, &h)),
                     0); /* behind the fingerprint */
}

START_TEST(records) {
    int i;
    for (i = 0; i < 3; i++) {
        lock_desc d = lock_default(2);
        lock k;
        const weft_detail *e;
        ck_assert(lock_open(&k, &d));
        record_from_1(&k, i == 0 ? 4 : 0, i == 2 ? UINT64_MAX : 1, i == 1 ? 1 : 0);
        LOCK_ALL(&k, w, hpsgd_start(w->h));
        LOCK_ALL(&k, w, hpsgd_step(w->h));
        lock_pump(&k, 5);
        k.worker[0].status = hpsgd_poll(k.worker[0].h);
        e = hpsgd_detail(k.worker[0].h);
        if (i == 0) {
            ck_assert_int_eq(k.worker[0].status, WEFT_ERR_PROTOCOL);
            ck_assert_str_eq(e->field, "record.flags");
            ck_assert_uint_eq(e->got, 4);
        } else if (i == 1) {
            ck_assert_int_eq(k.worker[0].status, WEFT_ERR_MISMATCH);
            ck_assert_str_eq(e->field, "hash of the global model");
        } else {
            hpsgd_stats_t s;
            ck_assert_int_eq(k.worker[0].status, WEFT_OK);
            lock_pump(&k, 10);
            hpsgd_poll(k.worker[0].h);
            hpsgd_stats(k.worker[0].h, &s);
            ck_assert_uint_eq(s.rounds, 1);
            ck_assert_uint_eq(s.round_steps, UINT64_MAX); /* not wrapped round */
        }
        if (i < 2) ck_assert_uint_eq(e->peer, 1);
        ck_assert_msg(lock_close(&k), "%s", k.why);
    }
}
END_TEST

/* Global models that differ are noticed in the round in which they do. */
START_TEST(replicas_are_compared) {
    lock_desc d = lock_default(3);
    lock k;
    uint32_t r, said = 0;
    d.h.check_replicas = 1;
    d.h.mode = HPSGD_BLOCKING;
    ck_assert(lock_open(&k, &d) && lock_steps(&k, 3));
    ((float *)(void *)k.worker[1].h->w)[0] += 1.0f;
    for (r = 0; r < 3; r++) k.worker[r].status = hpsgd_step(k.worker[r].h);
    ck_assert(lock_settle(&k));
    for (r = 0; r < 3; r++) {
        ck_assert_int_eq(k.worker[r].status, WEFT_ERR_MISMATCH);
        said += !strcmp(hpsgd_detail(k.worker[r].h)->field, "hash of the global model");
    }
    ck_assert_uint_eq(said, 3);
    ck_assert_msg(lock_close(&k), "%s", k.why);
}
END_TEST

int main(void) {
    Suite *s = suite_create("hpsgd_misuse");
    TCase *c = tcase_create("misuse");
    SRunner *r;
    int failed;
    tcase_add_test(c, descriptor);
    tcase_add_test(c, nobody);
    tcase_add_test(c, wrong_order);
    tcase_add_test(c, drain_while_leaving);
    tcase_add_test(c, arguments);
    tcase_add_test(c, wait_ends_in_time);
    tcase_add_test(c, nobody_to_copy);
    tcase_add_test(c, reentry);
    tcase_add_test(c, settings_differ);
    tcase_add_test(c, records);
    tcase_add_test(c, replicas_are_compared);
    suite_add_tcase(s, c);
    r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
