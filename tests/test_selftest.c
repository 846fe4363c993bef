/* SPDX-License-Identifier: MIT
 * weft_transport_selftest: passes on the transports that keep the contract, and names the rule that a broken one
 * breaks. */
#define GRAWA_IMPLEMENTATION
#include "../grawa.h"
#include "transports/weft_sim.h"
#include "transports/weft_threads.h"

#include <check.h>

#define MOST 6

/* ---- a small transport that can be broken in every way ---- */

typedef enum breakage {
    SOUND,
    LIFO_RECEIVES, LIFO_MESSAGES, LOST_MESSAGE, BYTE_TAGS, SHORT_TAGS, ANY_PEER, TWICE, CHANGED_BYTE, EARLY,
    BYTES_ARE_CAPACITY, SHORTER_IS_OK, SHORTER_SAYS_CAPACITY, WRITES_PAST_CAPACITY, WRITES_BEFORE, WRITES_PAST_REQUEST,
    ZERO_IS_NOTHING, CUTS_LARGE, BLOCKS_TAGS, BLOCKS_RECEIVES, BLOCKS_PEERS, READS_LATER, WRITES_SEND_BUFFER,
    CANCELLED_TAKES_MESSAGE, CANCELLED_IS_WRITTEN, CANCELLED_SEND_IS_CUT, CANCELLED_SEND_IS_READ, FORGETS_SENT,
    SEND_SAYS_AGAIN, RECV_SAYS_AGAIN, TEST_SAYS_STALL, SEND_FAILS, RECV_FAILS, TEST_FAILS, SEND_TEST_FAILS,
    CLOCK_GOES_BACK, NOTHING_GETS_OVER, WRONG_SUM, SUM_WITHOUT_WEIGHT, SUM_WRITES_INPUT, SUM_MISCOUNTS,
    SUM_FAILS, SUM_NEVER_OVER, SUM_TEST_FAILS
} breakage;

typedef struct toy_item {
    int used, is_send, ghost; /* ghost: its request is gone */
    uint32_t rank, peer, tag;
    const unsigned char *from; /* what a send reads when it is matched */
    unsigned char *into;
    size_t bytes;
    unsigned char copy[4096];
    uint64_t order;
    int over, tested;
    weft_status status;
    uint64_t length;
    weft_request *request;
} toy_item;

#define ITEMS 400

struct toy;
typedef struct toy_end {
    struct toy *toy;
    uint32_t rank;
    float sum[4];
    void *in, *out;
    int joined;
    uint32_t bad; /* in the last sum */
} toy_end;

typedef struct toy {
    breakage broken;
    int eager;
    uint32_t size;
    uint64_t order, clock;
    uint64_t sent;
    toy_item item[ITEMS];
    toy_end end[MOST];
} toy;

static toy_item *toy_new(toy *y) {
    int i;
    for (i = 0; i < ITEMS; i++)
        if (!y->item[i].used) {
            memset(&y->item[i], 0, offsetof(toy_item, copy));
            y->item[i].used = 1;
            y->item[i].over = y->item[i].tested = 0;
            y->item[i].status = WEFT_OK;
            y->item[i].order = ++y->order;
            return &y->item[i];
        }
    ck_abort_msg("the test transport is full");
    return NULL;
}

static int toy_fits(const toy *y, const toy_item *m, const toy_item *r) {
    uint32_t a = m->tag, b = r->tag;
    if (y->broken == BYTE_TAGS) a &= 255, b &= 255;
    if (y->broken == SHORT_TAGS) a &= 1023, b &= 1023;
    return r->used && !r->is_send && !r->over && r->rank == m->peer && (r->peer == m->rank || y->broken == ANY_PEER) &&
           a == b;
}

static void toy_deliver(toy *y, toy_item *m, toy_item *r) {
    const unsigned char *from = m->from ? m->from : m->copy;
    size_t n = m->bytes < r->bytes ? m->bytes : r->bytes;
    if (y->broken == WRITES_PAST_CAPACITY) n = m->bytes;
    if (y->broken == CUTS_LARGE && n > 1024) n = 1024;
    if (n) memcpy(r->into, from, n);
    if (y->broken == CHANGED_BYTE && n == 200) r->into[77] ^= 4;
    if (y->broken == WRITES_BEFORE && n == 64) r->into[-1] = 0;
    r->over = 1;
    r->length = m->bytes;
    r->status = m->bytes > r->bytes ? WEFT_ERR_TRUNCATED : WEFT_OK;
    if (y->broken == BYTES_ARE_CAPACITY) r->length = r->bytes;
    if (y->broken == SHORTER_IS_OK) r->status = WEFT_OK;
    if (y->broken == SHORTER_SAYS_CAPACITY) r->length = n;
    if (r->ghost) r->used = 0;
    if (y->broken == WRITES_SEND_BUFFER && m->from && m->bytes > 9) ((unsigned char *)(uintptr_t)m->from)[9] ^= 1;
    m->over = 1;
    m->length = m->bytes;
    if (m->ghost) m->used = 0;
}

/* Lets what fits meet, in the order of posting. */
static void toy_match(toy *y) {
    int again = 1;
    if (y->broken == NOTHING_GETS_OVER) return;
    while (again) {
        toy_item *m = NULL, *r = NULL;
        int i, j;
        again = 0;
        for (i = 0; i < ITEMS; i++) {
            toy_item *c = &y->item[i], *fit = NULL;
            int blocked = 0;
            if (!c->used || !c->is_send || c->over) continue;
            if (m && (y->broken == LIFO_MESSAGES ? c->order < m->order : c->order > m->order)) continue;
            for (j = 0; j < ITEMS; j++) {
                toy_item *d = &y->item[j];
                if (!d->used || d->over || d->order >= c->order || d == c) continue;
                if (y->broken == BLOCKS_TAGS && d->is_send && d->rank == c->rank && d->peer == c->peer) blocked = 1;
                if (y->broken == BLOCKS_PEERS && d->is_send && d->rank == c->rank && d->peer != c->peer) blocked = 1;
            }
            if (blocked) continue;
            for (j = 0; j < ITEMS; j++) {
                toy_item *d = &y->item[j];
                if (!toy_fits(y, c, d)) continue;
                if (!fit || (y->broken == LIFO_RECEIVES ? d->order > fit->order : d->order < fit->order)) fit = d;
            }
            if (fit && y->broken == BLOCKS_RECEIVES) /* a receive waits for the sends posted before it */
                for (j = 0; j < ITEMS; j++)
                    if (y->item[j].used && !y->item[j].over && y->item[j].is_send && y->item[j].rank == fit->rank &&
                        y->item[j].peer == fit->peer && y->item[j].order < fit->order)
                        fit = NULL, j = ITEMS;
            if (fit) m = c, r = fit;
        }
        if (!m) continue;
        again = 1;
        if (r->ghost && y->broken == CANCELLED_IS_WRITTEN) { /* written, and the message kept for the next */
            memcpy(r->into, m->from ? m->from : m->copy, m->bytes < r->bytes ? m->bytes : r->bytes);
            r->used = 0;
            continue;
        }
        toy_deliver(y, m, r);
    }
}

static weft_status toy_send(void *ctx, uint32_t peer, uint32_t tag, const void *data, size_t bytes, weft_request *q) {
    toy_end *e = (toy_end *)ctx;
    toy *y = e->toy;
    toy_item *o, *m;
    int times = y->broken == TWICE && bytes == 256 ? 2 : 1;
    y->sent++;
    if (y->broken == SEND_FAILS && y->sent == 20) return WEFT_ERR_PEER_LOST;
    o = NULL;
    while (times--) {
        m = toy_new(y);
        m->is_send = 1;
        m->rank = e->rank;
        m->peer = peer;
        m->tag = tag;
        m->bytes = bytes;
        m->from = (const unsigned char *)data;
        if (o || (y->eager && bytes <= sizeof m->copy)) { /* the message lives on its own, */
            if (y->broken != READS_LATER) {
                m->from = NULL;
                memcpy(m->copy, data, bytes);
            }
            m->ghost = 1;
        }
        if (!o) o = m;
    }
    if (o->ghost) { /* and the request is over */
        if ((y->broken == LOST_MESSAGE && bytes == 7) || (y->broken == FORGETS_SENT && bytes == 48) ||
            (y->broken == ZERO_IS_NOTHING && bytes == 0))
            o->used = 0;
        o = toy_new(y);
        o->is_send = o->over = 1;
        o->rank = e->rank;
        o->peer = peer;
        o->length = bytes;
    }
    o->request = q;
    q->word[0] = (uintptr_t)(o - y->item) + 1;
    if (y->broken == WRITES_PAST_REQUEST && bytes == 64) *((unsigned char *)q + sizeof *q) = 0;
    toy_match(y);
    return y->broken == SEND_SAYS_AGAIN ? WEFT_AGAIN : WEFT_OK;
}

static weft_status toy_recv(void *ctx, uint32_t peer, uint32_t tag, void *data, size_t capacity, weft_request *q) {
    toy_end *e = (toy_end *)ctx;
    toy *y = e->toy;
    toy_item *o;
    if (y->broken == RECV_FAILS && capacity == 96) return WEFT_ERR_MEMORY;
    o = toy_new(y);
    o->rank = e->rank;
    o->peer = peer;
    o->tag = tag;
    o->into = (unsigned char *)data;
    o->bytes = capacity;
    o->request = q;
    if (y->broken == EARLY && capacity == 96) o->over = 1;
    q->word[0] = (uintptr_t)(o - y->item) + 1;
    toy_match(y);
    return y->broken == RECV_SAYS_AGAIN ? WEFT_AGAIN : WEFT_OK;
}

static weft_status toy_test(void *ctx, weft_request *q) {
    toy *y = ((toy_end *)ctx)->toy;
    toy_item *o = &y->item[q->word[0] - 1];
    weft_status status;
    ck_assert_uint_ne(q->word[0], 0);
    ck_assert_ptr_eq(o->request, q);
    if (y->broken == TEST_SAYS_STALL && o->bytes == 5) return WEFT_STALL;
    if (!o->over) return WEFT_AGAIN;
    if (y->broken == TEST_FAILS && !o->is_send && o->bytes == 5) o->status = WEFT_ERR_PEER_LOST;
    if (y->broken == SEND_TEST_FAILS && o->is_send && o->bytes == 5) o->status = WEFT_ERR_TRUNCATED;
    if (y->broken == SUM_TEST_FAILS && o->peer == WEFT_NO_RANK) o->status = WEFT_ERR_PEER_LOST;
    status = o->status;
    q->bytes = o->length;
    if (o->peer == WEFT_NO_RANK) /* of a sum: some count, some do not */
        q->bytes = y->eager ? UINT64_MAX : y->end[o->rank].bad + (y->broken == SUM_MISCOUNTS);
    q->word[0] = 0;
    o->used = 0;
    return status;
}

static void toy_cancel(void *ctx, weft_request *q) {
    toy *y = ((toy_end *)ctx)->toy;
    toy_item *o = &y->item[q->word[0] - 1];
    ck_assert_uint_ne(q->word[0], 0);
    q->word[0] = 0;
    o->used = 0;
    if (o->over) return;
    if (!o->is_send && (y->broken == CANCELLED_TAKES_MESSAGE || y->broken == CANCELLED_IS_WRITTEN)) {
        o->used = o->ghost = 1;
        if (y->broken == CANCELLED_TAKES_MESSAGE) o->into = o->copy;
    }
    if (o->is_send && (y->broken == CANCELLED_SEND_IS_CUT || y->broken == CANCELLED_SEND_IS_READ)) {
        o->used = o->ghost = 1;
        if (y->broken == CANCELLED_SEND_IS_CUT) {
            memcpy(o->copy, o->from, o->bytes);
            o->from = NULL;
            o->bytes /= 2;
        }
        toy_match(y);
    }
}

static uint64_t toy_now(void *ctx) {
    toy *y = ((toy_end *)ctx)->toy;
    y->clock += 1000;
    if (y->broken == CLOCK_GOES_BACK && y->clock >= 200000) return y->clock - 100000;
    return y->clock;
}

/* The all_reduce ends when all have joined. */
static int toy_join(toy_end *e, weft_request *q, void *in, void *out) {
    toy *y = e->toy;
    toy_item *o = toy_new(y);
    uint32_t i, n = 0;
    o->request = q;
    o->rank = e->rank;
    o->peer = WEFT_NO_RANK;
    q->word[0] = (uintptr_t)(o - y->item) + 1;
    e->in = in;
    e->out = out;
    e->joined = 1;
    for (i = 0; i < y->size; i++) n += (uint32_t)y->end[i].joined;
    if (n < y->size) return 0;
    for (i = 0; i < y->size; i++) y->end[i].joined = 0;
    for (i = 0; i < ITEMS; i++)
        if (y->item[i].used && y->item[i].peer == WEFT_NO_RANK) y->item[i].over = y->broken != SUM_NEVER_OVER;
    return 1;
}

static weft_status toy_reduce(void *ctx, double weight, const void *in, void *out, size_t count, weft_dtype dtype,
                              weft_request *q) {
    toy_end *e = (toy_end *)ctx;
    toy *y = e->toy;
    uint32_t i, k;
    ck_assert_uint_eq(count, 4);
    ck_assert_int_eq(dtype, WEFT_F32);
    ck_assert_uint_eq(q->bytes, UINT64_MAX);
    if (y->broken == SUM_FAILS) return WEFT_ERR_UNSUPPORTED;
    memcpy(e->sum, in, sizeof e->sum);
    for (k = 0; k < 4; k++) {
        if (weight == 0) e->sum[k] = 0;
        if (y->broken != SUM_WITHOUT_WEIGHT) e->sum[k] *= (float)weight;
    }
    if (toy_join(e, q, (void *)(uintptr_t)in, out)) {
        float sum[4] = {0, 0, 0, 0};
        uint32_t bad = 0;
        for (i = 0; i < y->size; i++)
            for (k = 0; k < 4; k++) sum[k] += y->end[i].sum[k];
        if (y->broken == WRONG_SUM) sum[2] += 1;
        for (k = 0; k < 4; k++) bad += !isfinite(sum[k]);
        for (i = 0; i < y->size; i++) {
            if (y->broken == SUM_WRITES_INPUT) memcpy(y->end[i].in, sum, sizeof sum);
            memcpy(y->end[i].out, sum, sizeof sum);
            y->end[i].bad = bad;
        }
    }
    return WEFT_OK;
}

/* Runs the test on all workers by turns until all are through or one has failed; returns the first failure. */
static weft_selftest_report toy_run(breakage broken, int eager, uint32_t size, uint32_t channel, int with_clock) {
    static toy y;
    static weft_selftest st[MOST];
    static unsigned char memory[MOST][8192];
    weft_selftest_report report;
    uint32_t r, turns, through = 0;
    memset(&y, 0, sizeof y);
    memset(st, 0, sizeof st);
    memset(&report, 0, sizeof report);
    y.broken = broken;
    y.eager = eager;
    y.size = size;
    for (r = 0; r < size; r++) {
        y.end[r].toy = &y;
        y.end[r].rank = r;
        st[r].memory = memory[r];
        st[r].memory_bytes = sizeof memory[r];
        st[r].timeout_ns = 3000000;
    }
    for (turns = 0; turns < 100000 && through < size; turns++) {
        weft_status s;
        weft_transport t;
        r = turns % size;
        if (st[r].report.status == WEFT_OK && st[r].started) continue;
        t = weft_transport_make(&y.end[r], r, size, toy_send, toy_recv, toy_test, toy_cancel,
                                with_clock ? toy_now : NULL);
        t.all_reduce = toy_reduce;
        s = weft_transport_selftest(&t, &st[r], channel, &report);
        ck_assert_int_eq(s, report.status);
        if (s == WEFT_OK) through++;
        if (s < 0) {
            uint32_t i;
            ck_assert_int_eq(weft_transport_selftest(&t, &st[r], channel, NULL), s);
            for (i = 0; i < ITEMS; i++) /* it has left nothing behind */
                ck_assert(!y.item[i].used || y.item[i].ghost || y.item[i].rank != r);
            return report;
        }
    }
    ck_assert_msg(through == size, "breakage %d was not noticed, nor did the test end", (int)broken);
    ck_assert_uint_gt(report.checks, size > 1 ? 100 : 0);
    return report;
}

static const struct breaks {
    breakage what;
    int eager;
    uint32_t size;
    weft_selftest_rule rule;
    weft_status status;
} breaks[] = {
    {LIFO_RECEIVES, 0, 2, WEFT_RULE_ORDER, WEFT_ERR_TRANSPORT},
    {LIFO_RECEIVES, 1, 3, WEFT_RULE_ORDER, WEFT_ERR_TRANSPORT},
    {LIFO_MESSAGES, 0, 2, WEFT_RULE_ORDER, WEFT_ERR_TRANSPORT},
    {LIFO_MESSAGES, 1, 2, WEFT_RULE_ORDER, WEFT_ERR_TRANSPORT},
    {LOST_MESSAGE, 1, 2, WEFT_RULE_ORDER, WEFT_ERR_TRANSPORT},
    {BYTE_TAGS, 0, 2, WEFT_RULE_TAGS, WEFT_ERR_TRANSPORT},
    {BYTE_TAGS, 1, 3, WEFT_RULE_TAGS, WEFT_ERR_TRANSPORT},
    {SHORT_TAGS, 0, 2, WEFT_RULE_TAGS, WEFT_ERR_TRANSPORT},
    {ANY_PEER, 0, 3, WEFT_RULE_PEERS, WEFT_ERR_TRANSPORT},
    {ANY_PEER, 1, 4, WEFT_RULE_PEERS, WEFT_ERR_TRANSPORT},
    {TWICE, 0, 2, WEFT_RULE_ONCE, WEFT_ERR_TRANSPORT},
    {TWICE, 1, 2, WEFT_RULE_ONCE, WEFT_ERR_TRANSPORT},
    {CHANGED_BYTE, 0, 2, WEFT_RULE_CONTENT, WEFT_ERR_TRANSPORT},
    {EARLY, 0, 2, WEFT_RULE_ONCE, WEFT_ERR_TRANSPORT},
    {BYTES_ARE_CAPACITY, 0, 2, WEFT_RULE_LONGER, WEFT_ERR_TRANSPORT},
    {SHORTER_IS_OK, 0, 2, WEFT_RULE_SHORTER, WEFT_ERR_TRANSPORT},
    {SHORTER_SAYS_CAPACITY, 1, 2, WEFT_RULE_SHORTER, WEFT_ERR_TRANSPORT},
    {WRITES_PAST_CAPACITY, 0, 2, WEFT_RULE_BOUNDS, WEFT_ERR_TRANSPORT},
    {WRITES_BEFORE, 0, 2, WEFT_RULE_BOUNDS, WEFT_ERR_TRANSPORT},
    {WRITES_PAST_REQUEST, 0, 2, WEFT_RULE_BOUNDS, WEFT_ERR_TRANSPORT},
    {ZERO_IS_NOTHING, 1, 2, WEFT_RULE_ZERO, WEFT_ERR_TRANSPORT},
    {CUTS_LARGE, 0, 2, WEFT_RULE_LARGE, WEFT_ERR_TRANSPORT},
    {BLOCKS_TAGS, 0, 2, WEFT_RULE_PENDING, WEFT_ERR_TRANSPORT},
    {BLOCKS_TAGS, 0, 4, WEFT_RULE_PENDING, WEFT_ERR_TRANSPORT},
    {BLOCKS_RECEIVES, 0, 2, WEFT_RULE_PENDING, WEFT_ERR_TRANSPORT},
    {BLOCKS_PEERS, 0, 3, WEFT_RULE_PENDING_PEER, WEFT_ERR_TRANSPORT},
    {READS_LATER, 1, 2, WEFT_RULE_REUSE, WEFT_ERR_TRANSPORT},
    {WRITES_SEND_BUFFER, 0, 2, WEFT_RULE_SEND_BUFFER, WEFT_ERR_TRANSPORT},
    {CANCELLED_TAKES_MESSAGE, 0, 2, WEFT_RULE_CANCEL_RECV, WEFT_ERR_TRANSPORT},
    {CANCELLED_TAKES_MESSAGE, 1, 3, WEFT_RULE_CANCEL_RECV, WEFT_ERR_TRANSPORT},
    {CANCELLED_IS_WRITTEN, 0, 2, WEFT_RULE_CANCEL_TOUCH, WEFT_ERR_TRANSPORT},
    {CANCELLED_SEND_IS_CUT, 0, 2, WEFT_RULE_CANCEL_SEND, WEFT_ERR_TRANSPORT},
    {CANCELLED_SEND_IS_READ, 0, 2, WEFT_RULE_CANCEL_SEND, WEFT_ERR_TRANSPORT},
    {FORGETS_SENT, 1, 2, WEFT_RULE_CANCEL_SEND, WEFT_ERR_TRANSPORT},
    {SEND_SAYS_AGAIN, 0, 2, WEFT_RULE_STATUS, WEFT_ERR_TRANSPORT},
    {RECV_SAYS_AGAIN, 0, 2, WEFT_RULE_STATUS, WEFT_ERR_TRANSPORT},
    {TEST_SAYS_STALL, 0, 2, WEFT_RULE_STATUS, WEFT_ERR_TRANSPORT},
    {SEND_FAILS, 0, 2, WEFT_RULE_FAILED, WEFT_ERR_PEER_LOST},
    {RECV_FAILS, 0, 2, WEFT_RULE_FAILED, WEFT_ERR_MEMORY},
    {TEST_FAILS, 0, 2, WEFT_RULE_FAILED, WEFT_ERR_PEER_LOST},
    {SEND_TEST_FAILS, 0, 2, WEFT_RULE_FAILED, WEFT_ERR_TRUNCATED},
    {CLOCK_GOES_BACK, 0, 2, WEFT_RULE_TIME, WEFT_ERR_TRANSPORT},
    {NOTHING_GETS_OVER, 0, 2, WEFT_RULE_PROGRESS, WEFT_ERR_TRANSPORT},
    {WRONG_SUM, 0, 3, WEFT_RULE_ALL_REDUCE, WEFT_ERR_TRANSPORT},
    {SUM_WITHOUT_WEIGHT, 0, 3, WEFT_RULE_ALL_REDUCE, WEFT_ERR_TRANSPORT},
    {SUM_WITHOUT_WEIGHT, 0, 1, WEFT_RULE_ALL_REDUCE, WEFT_ERR_TRANSPORT},
    {SUM_WRITES_INPUT, 0, 2, WEFT_RULE_SUM_INPUT, WEFT_ERR_TRANSPORT},
    {SUM_MISCOUNTS, 0, 2, WEFT_RULE_SUM_COUNT, WEFT_ERR_TRANSPORT},
    {SUM_FAILS, 0, 3, WEFT_RULE_FAILED, WEFT_ERR_UNSUPPORTED},
    {SUM_TEST_FAILS, 0, 3, WEFT_RULE_FAILED, WEFT_ERR_PEER_LOST},
    {SUM_NEVER_OVER, 0, 3, WEFT_RULE_ALL_REDUCE, WEFT_ERR_TRANSPORT},
};

START_TEST(names_what_is_broken) {
    const struct breaks *b = &breaks[_i];
    weft_selftest_report r = toy_run(b->what, b->eager, b->size, 0, 1);
    ck_assert_msg(r.rule == b->rule, "breakage %d, %u workers: rule %d (%s), not %d; step %u, expected %llu, got %llu",
                  (int)b->what, b->size, (int)r.rule, r.text, (int)b->rule, r.step, (unsigned long long)r.expected,
                  (unsigned long long)r.got);
    ck_assert_int_eq(r.status, b->status);
    ck_assert_str_eq(r.text, weft_selftest_text(b->rule));
}
END_TEST

START_TEST(sound_transport_passes) {
    uint32_t size;
    int eager;
    for (size = 1; size <= MOST; size++)
        for (eager = 0; eager < 2; eager++) {
            ck_assert_int_eq(toy_run(SOUND, eager, size, size, 1).status, WEFT_OK);
            ck_assert_int_eq(toy_run(SOUND, eager, size, WEFT_CHANNELS - 1, 0).status, WEFT_OK);
        }
}
END_TEST

START_TEST(what_is_not_filled_in) {
    static weft_selftest st;
    weft_selftest_report r;
    weft_transport t = weft_transport_make(NULL, 0, 2, toy_send, toy_recv, toy_test, toy_cancel, NULL);
    int i;
    for (i = 0; i < 8; i++) {
        weft_transport u = t;
        uint32_t channel = 0;
        weft_status expected = WEFT_ERR_ARGUMENT;
        switch (i) {
        case 0: u.send = NULL; break;
        case 1: u.recv = NULL; break;
        case 2: u.test = NULL; break;
        case 3: u.cancel = NULL; break;
        case 4: u.rank = 2; break;
        case 5: u.size = 0; break;
        case 6: channel = WEFT_CHANNELS; break;
        default: u.struct_size = 1; expected = WEFT_ERR_ABI;
        }
        memset(&st, 0, sizeof st);
        ck_assert_int_eq(weft_transport_selftest(&u, &st, channel, &r), expected);
        ck_assert_int_eq(r.rule, WEFT_RULE_CALLBACKS);
        ck_assert_ptr_nonnull(r.text);
    }
    memset(&st, 0, sizeof st);
    ck_assert_int_eq(weft_transport_selftest(NULL, &st, 0, &r), WEFT_ERR_ARGUMENT);
    t.max_message_bytes = WEFT_SMALLEST_MESSAGE - 1;
    memset(&st, 0, sizeof st);
    ck_assert_int_eq(weft_transport_selftest(&t, &st, 0, &r), WEFT_ERR_ARGUMENT);
    ck_assert_uint_eq(r.expected, WEFT_SMALLEST_MESSAGE);
}
END_TEST

START_TEST(every_rule_has_a_text) {
    int i;
    for (i = WEFT_RULE_NONE; i <= WEFT_RULE_SUM_COUNT; i++)
        ck_assert_str_ne(weft_selftest_text((weft_selftest_rule)i), "unknown rule");
    ck_assert_str_eq(weft_selftest_text((weft_selftest_rule)i), "unknown rule");
}
END_TEST

/* ---- in virtual time ---- */

typedef struct simulated {
    weft_transport net;
    weft_selftest st;
    weft_selftest_report report;
    uint32_t channel;
    weft_status status;
    weft_sim *sim;
    unsigned char memory[4096];
} simulated;

static int simulated_step(void *user, uint32_t rank) {
    simulated *w = (simulated *)user;
    (void)rank;
    w->status = weft_transport_selftest(&w->net, &w->st, w->channel, &w->report);
    return w->status != WEFT_AGAIN;
}

static void simulate(const weft_sim_desc *d) {
    static simulated w[MOST];
    weft_sim sim;
    weft_sim_end end;
    uint32_t r;
    ck_assert_int_eq(weft_sim_init(&sim, d), WEFT_OK);
    memset(w, 0, sizeof w);
    for (r = 0; r < d->size; r++) {
        weft_sim_transport(&sim, r, &w[r].net);
        w[r].st.memory = w[r].memory;
        w[r].st.memory_bytes = sizeof w[r].memory;
        w[r].channel = (uint32_t)(d->seed % WEFT_CHANNELS);
        weft_sim_worker(&sim, r, simulated_step, &w[r]);
    }
    end = weft_sim_run(&sim, 1000000);
    for (r = 0; r < d->size; r++)
        ck_assert_msg(w[r].status == WEFT_OK || w[r].status == WEFT_AGAIN, "seed %llu, worker %u: %s (step %u)",
                      (unsigned long long)d->seed, r, w[r].report.text, w[r].report.step);
    ck_assert_msg(end == WEFT_SIM_DONE, "%s", weft_sim_text(&sim));
    ck_assert_msg(!weft_sim_violation(&sim), "seed %llu: %s", (unsigned long long)d->seed, weft_sim_violation(&sim));
    ck_assert_uint_eq(weft_sim_outstanding(&sim), 0);
    weft_sim_free(&sim);
}

START_TEST(sim_passes) {
    uint64_t seed;
    int mode;
    for (mode = WEFT_SIM_EAGER; mode <= WEFT_SIM_MIXED; mode++)
        for (seed = 0; seed < 20; seed++) {
            weft_sim_desc d;
            memset(&d, 0, sizeof d);
            d.seed = seed;
            d.size = 2 + (uint32_t)(seed % (MOST - 1));
            d.mode = (weft_sim_mode)mode;
            d.latency_ns = 100;
            d.jitter_ns = 1000;
            d.eager_bytes = 64;
            d.max_message_bytes = seed % 2 ? 300 : 0;
            simulate(&d);
        }
}
END_TEST

START_TEST(torture_passes) {
    uint64_t seed;
    for (seed = 0; seed < 150; seed++) {
        weft_sim_desc d = weft_sim_torture(seed, 2 + (uint32_t)(seed % (MOST - 1)));
        simulate(&d);
    }
}
END_TEST

/* Outside of the contract: the sim drops, changes or cuts one message, and the test sees it. */
START_TEST(sim_faults_are_seen) {
    uint64_t nth;
    int kind, caught[4] = {0, 0, 0, 0};
    for (kind = 0; kind < 4; kind++)
        for (nth = 1; nth <= 40; nth += 3) {
            static simulated w[2];
            weft_sim sim;
            weft_sim_desc d;
            uint32_t r;
            int fault = -1, failed = 0;
            memset(&d, 0, sizeof d);
            memset(w, 0, sizeof w);
            d.seed = nth;
            d.size = 2;
            d.latency_ns = 100;
            ck_assert_int_eq(weft_sim_init(&sim, &d), WEFT_OK);
            if (kind == 0) fault = weft_sim_drop(&sim, 0, 1, WEFT_SIM_ANY, nth);
            if (kind == 1) fault = weft_sim_corrupt(&sim, 0, 1, WEFT_SIM_ANY, nth, 4, 1);
            if (kind == 2) fault = weft_sim_resize(&sim, 0, 1, WEFT_SIM_ANY, nth, 3);
            if (kind == 3) fault = weft_sim_fail_call(&sim, WEFT_SIM_TEST, 0, nth, WEFT_ERR_PEER_LOST);
            for (r = 0; r < 2; r++) {
                weft_sim_transport(&sim, r, &w[r].net);
                weft_sim_worker(&sim, r, simulated_step, &w[r]);
            }
            if (weft_sim_run(&sim, 100000) == WEFT_SIM_DEADLOCK) failed = kind == 0 || kind == 3; /* the other waits */
            for (r = 0; r < 2; r++) failed |= w[r].status < 0;
            ck_assert_uint_le(weft_sim_fired(&sim, fault), 1);
            ck_assert_msg(failed == (weft_sim_fired(&sim, fault) == 1), "fault %d at %llu", kind,
                          (unsigned long long)nth);
            caught[kind] += failed;
            weft_sim_free(&sim);
        }
    for (kind = 0; kind < 4; kind++) ck_assert_int_ge(caught[kind], 5);
}
END_TEST

/* ---- on threads ---- */

typedef struct threaded {
    weft_threads_team *team;
    uint32_t rank;
    weft_status status;
    weft_selftest st;
    weft_selftest_report report;
    unsigned char *memory;
} threaded;

static void *threaded_run(void *arg) {
    threaded *w = (threaded *)arg;
    weft_transport net;
    weft_threads_transport(w->team, w->rank, &net);
    w->st.memory = w->memory;
    w->st.memory_bytes = 1 << 20;
    while ((w->status = weft_transport_selftest(&net, &w->st, 3, &w->report)) == WEFT_AGAIN)
        net.wait(net.ctx, net.now(net.ctx) + UINT64_C(11000000000));
    return NULL;
}

START_TEST(threads_pass) {
    static threaded w[MOST];
    uint32_t size, r;
    int again;
    for (again = 0; again < 5; again++)
        for (size = 1; size <= MOST; size++) {
            weft_threads_team team;
            pthread_t thread[MOST];
            ck_assert_int_eq(weft_threads_init(&team, size), WEFT_OK);
            memset(w, 0, sizeof w);
            for (r = 0; r < size; r++) {
                w[r].team = &team;
                w[r].rank = r;
                w[r].memory = (unsigned char *)malloc(1 << 20);
                ck_assert_int_eq(pthread_create(&thread[r], NULL, threaded_run, &w[r]), 0);
            }
            for (r = 0; r < size; r++) {
                ck_assert_int_eq(pthread_join(thread[r], NULL), 0);
                free(w[r].memory);
                ck_assert_msg(w[r].status == WEFT_OK, "%u workers, worker %u: %s (step %u)", size, r, w[r].report.text,
                              w[r].report.step);
            }
            weft_threads_free(&team);
        }
}
END_TEST

int main(void) {
    Suite *s = suite_create("selftest");
    TCase *t = tcase_create("rules");
    SRunner *runner;
    int failed;
    tcase_set_timeout(t, 60);
    tcase_add_loop_test(t, names_what_is_broken, 0, (int)(sizeof breaks / sizeof breaks[0]));
    tcase_add_test(t, sound_transport_passes);
    tcase_add_test(t, what_is_not_filled_in);
    tcase_add_test(t, every_rule_has_a_text);
    suite_add_tcase(s, t);
    t = tcase_create("transports");
    tcase_set_timeout(t, 60);
    tcase_add_test(t, sim_passes);
    tcase_add_test(t, torture_passes);
    tcase_add_test(t, sim_faults_are_seen);
    tcase_add_test(t, threads_pass);
    suite_add_tcase(s, t);
    runner = srunner_create(s);
    srunner_run_all(runner, CK_NORMAL);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
