/* SPDX-License-Identifier: MIT
 * weft_link.h: over links that lose, double, reorder and damage frames it keeps the contract of transport.h; in virtual
 * time. */
#define GRAWA_IMPLEMENTATION
#include "../grawa.h"
#include "transports/weft_link.h"

#include <check.h>
#include <stdlib.h>

enum { MOST = 4, FRAMES = 4096 };

typedef struct flying {
    uint64_t due;
    uint32_t from, to;
    size_t bytes;
    unsigned char frame[2048];
} flying;

typedef struct world {
    uint64_t now, state;
    double loss, twice, damage;
    uint64_t latency, jitter;
    int cut; /* nothing comes through */
    int flights;
    flying air[FRAMES];
    uint64_t lost, doubled, damaged, sent, longest;
} world;

static world W;
static struct end {
    uint32_t rank;
} end_[MOST];
static weft_frames *F[MOST];
static weft_transport net[MOST];
static unsigned char memory[MOST][65536];
static uint32_t workers;

static double draw(void) {
    uint64_t z = W.state += UINT64_C(0x9E3779B97F4A7C15);
    z = (z ^ z >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ z >> 27) * UINT64_C(0x94D049BB133111EB);
    return (double)((z ^ z >> 31) >> 11) * 0x1p-53;
}

static uint64_t my_now(void *ctx) {
    (void)ctx;
    return W.now;
}

static void fly(uint32_t from, uint32_t to, const void *frame, size_t bytes) {
    flying *a;
    if (W.flights == FRAMES) ck_abort_msg("the air is full");
    a = &W.air[W.flights++];
    a->due = W.now + W.latency + (uint64_t)(draw() * (double)W.jitter);
    a->from = from;
    a->to = to;
    a->bytes = bytes;
    memcpy(a->frame, frame, bytes);
    if (draw() < W.damage) {
        a->frame[(size_t)(draw() * (double)bytes)] ^= (unsigned char)(1 + draw() * 254);
        W.damaged++;
    }
}

static weft_status my_send(void *ctx, uint32_t peer, const void *frame, size_t bytes) {
    const uint32_t me = ((struct end *)ctx)->rank;
    ck_assert_uint_le(bytes, sizeof W.air[0].frame);
    W.sent++;
    if (bytes > W.longest) W.longest = bytes;
    if (W.cut || draw() < W.loss) {
        W.lost++;
        return WEFT_OK;
    }
    fly(me, peer, frame, bytes);
    if (draw() < W.twice) {
        fly(me, peer, frame, bytes);
        W.doubled++;
    }
    return WEFT_OK;
}

/* Time goes on by a millisecond; what is due comes down. */
static void tick(void) {
    int i;
    uint32_t k;
    W.now += 1000000;
    for (i = 0; i < W.flights;) {
        flying a = W.air[i];
        if (a.due > W.now) {
            i++;
            continue;
        }
        W.air[i] = W.air[--W.flights];
        if (F[a.to]) weft_frames_arrived(F[a.to], a.from, a.frame, a.bytes);
    }
    for (k = 0; k < workers; k++)
        if (F[k]) weft_frames_poll(F[k]);
}

static void open_one(uint32_t rank, uint32_t frame, uint32_t incarnation) {
    weft_frames_desc d;
    memset(&d, 0, sizeof d);
    d.struct_size = sizeof d;
    d.rank = rank;
    d.size = workers;
    d.largest_frame = frame;
    d.window = 8;
    d.requests_per_peer = 16;
    d.retry_ns = 30000000;
    d.incarnation = incarnation;
    d.send = my_send;
    d.now = my_now;
    end_[rank].rank = rank;
    d.ctx = &end_[rank];
    ck_assert_uint_le(weft_frames_memory(&d), sizeof memory[rank]);
    F[rank] = weft_frames_init(&d, memory[rank] + 3, weft_frames_memory(&d), &net[rank]);
    ck_assert_ptr_nonnull(F[rank]);
}

static int all_up(void) {
    uint32_t i, j;
    for (i = 0; i < workers; i++)
        for (j = 0; j < workers; j++)
            if (i != j && !weft_frames_is_up(F[i], j)) return 0;
    return 1;
}

static void open_all(uint32_t n, uint32_t frame, uint64_t seed) {
    uint32_t i;
    int k;
    const char *given = getenv("WEFT_SEED");
    memset(&W, 0, sizeof W);
    W.state = given ? strtoull(given, NULL, 0) : seed;
    W.latency = 2000000;
    workers = n;
    for (i = 0; i < n; i++) open_one(i, frame, 100 + i);
    for (k = 0; !all_up(); k++) {
        tick();
        if (k > 100000) ck_abort_msg("no hello comes through");
    }
}

static const struct {
    uint32_t workers, frame;
    double loss, twice, damage;
    uint64_t jitter;
} scene[] = {
    {2, 51, 0, 0, 0, 0},         {2, 24, 0, 0, 0, 0},       {2, 51, 0.2, 0, 0, 0},        {2, 51, 0.2, 0.2, 0.1, 40000000},
    {3, 51, 0.2, 0.1, 0.1, 20000000}, {4, 255, 0.2, 0.05, 0.05, 20000000}, {2, 1472, 0.2, 0.2, 0.2, 100000000},
};

START_TEST(contract) {
    static weft_selftest st[MOST];
    weft_selftest_report r[MOST];
    weft_status s[MOST];
    uint32_t i, left;
    int k;
    memset(&W, 0, sizeof W);
    open_all(scene[_i].workers, scene[_i].frame, 77 + (uint64_t)_i);
    W.loss = scene[_i].loss;
    W.twice = scene[_i].twice;
    W.damage = scene[_i].damage;
    W.jitter = scene[_i].jitter;
    memset(st, 0, sizeof st);
    for (i = 0; i < workers; i++) {
        s[i] = WEFT_AGAIN;
        st[i].timeout_ns = UINT64_C(1000000000000);
        st[i].memory_bytes = 8000;
        st[i].memory = malloc(st[i].memory_bytes);
    }
    for (k = 0, left = workers; left; k++) {
        if (k > 3000000) ck_abort_msg("no end of it");
        for (i = 0; i < workers; i++) {
            if (s[i] != WEFT_AGAIN) continue;
            s[i] = weft_transport_selftest(&net[i], &st[i], 0, &r[i]);
            if (s[i] == WEFT_AGAIN) continue;
            left--;
            if (s[i] != WEFT_OK)
                ck_abort_msg("%u: %s (peer %u, tag %u, step %u, expected %llu, got %llu)", i, r[i].text, r[i].peer,
                             r[i].tag, r[i].step, (unsigned long long)r[i].expected, (unsigned long long)r[i].got);
        }
        tick();
    }
    for (i = 0; i < workers; i++) {
        ck_assert_uint_gt(r[i].checks, 200);
        free(st[i].memory);
    }
    ck_assert_uint_le(W.longest, scene[_i].frame);
    if (W.loss > 0) ck_assert(W.lost * 6 > W.sent); /* it fired */
    if (W.twice > 0) ck_assert_uint_gt(W.doubled, 20);
    if (W.damage > 0) ck_assert_uint_gt(W.damaged, 20);
}
END_TEST

/* Many messages of many lengths both ways, and of several tags at once. */
START_TEST(messages_arrive_once_and_in_order) {
    static unsigned char from[2][3][700], to[2][3][700];
    weft_request a[2][3], b[2][3];
    int sent[2][3] = {{0}}, got[2][3] = {{0}}, sending[2][3] = {{0}}, waiting[2][3] = {{0}};
    int w, t, k, left = 2 * 3 * 60;
    open_all(2, 51, 5);
    W.loss = 0.2;
    W.twice = 0.1;
    W.jitter = 30000000;
    for (k = 0; left; k++) {
        if (k > 1000000) ck_abort_msg("%d are still to come", left);
        for (w = 0; w < 2; w++)
            for (t = 0; t < 3; t++) {
                if (!sending[w][t] && sent[w][t] < 60) {
                    const size_t n = (size_t)(sent[w][t] * 37 + t * 5) % 700;
                    memset(from[w][t], sent[w][t] * 3 + t + w, n);
                    memset(&a[w][t], 0, sizeof a[w][t]);
                    ck_assert_int_eq(net[w].send(net[w].ctx, (uint32_t)!w, (uint32_t)t, from[w][t], n, &a[w][t]),
                                     WEFT_OK);
                    sending[w][t] = 1;
                    sent[w][t]++;
                } else if (sending[w][t]) {
                    const weft_status s = net[w].test(net[w].ctx, &a[w][t]);
                    ck_assert_int_ge(s, 0);
                    if (s == WEFT_OK) sending[w][t] = 0;
                }
                if (!waiting[w][t] && got[w][t] < 60) {
                    memset(&b[w][t], 0, sizeof b[w][t]);
                    ck_assert_int_eq(net[w].recv(net[w].ctx, (uint32_t)!w, (uint32_t)t, to[w][t], 700, &b[w][t]),
                                     WEFT_OK);
                    waiting[w][t] = 1;
                } else if (waiting[w][t]) {
                    const weft_status s = net[w].test(net[w].ctx, &b[w][t]);
                    size_t i;
                    ck_assert_int_ge(s, 0);
                    if (s != WEFT_OK) continue;
                    ck_assert_uint_eq(b[w][t].bytes, (uint64_t)((got[w][t] * 37 + t * 5) % 700));
                    for (i = 0; i < b[w][t].bytes; i++)
                        if (to[w][t][i] != (unsigned char)(got[w][t] * 3 + t + !w)) ck_abort_msg("another message");
                    waiting[w][t] = 0;
                    got[w][t]++;
                    left--;
                }
            }
        tick();
    }
    ck_assert_uint_gt(W.lost, 100);
}
END_TEST

/* Sends and receives are taken back at random, at every stage: what is not taken back arrives once and in order, what
 * is arrives whole or not at all, and nothing gets stuck. */
typedef struct sent_message {
    weft_request q;
    unsigned char body[120];
    int live, cancelled, came;
    size_t n;
} sent_message;

START_TEST(requests_are_taken_back) {
    enum { MESSAGES = 400, TAGS = 2, AT_ONCE = 3 };
    static sent_message m[TAGS][MESSAGES];
    static unsigned char into[TAGS][AT_ONCE][130];
    weft_request q[TAGS][AT_ONCE];
    int posted[TAGS][AT_ONCE], order[TAGS][AT_ONCE], next[TAGS] = {0}, last[TAGS] = {-1, -1}, posts[TAGS] = {0};
    int t, i, k, cancelled_sends = 0, cancelled_receives = 0, in_the_middle = 0, done = 0;
    memset(m, 0, sizeof m);
    memset(posted, 0, sizeof posted);
    open_all(2, 32, 900 + (uint64_t)_i);
    W.loss = 0.1;
    W.jitter = 10000000;
    for (k = 0; !done; k++) {
        const int ending = k > 12000; /* nothing more is taken back */
        if (k > 200000) ck_abort_msg("stuck");
        done = ending;
        for (t = 0; t < TAGS; t++) {
            int under_way = 0;
            for (i = 0; i < next[t]; i++) {
                sent_message *o = &m[t][i];
                weft_status s;
                if (!o->live) continue;
                under_way++;
                s = net[0].test(net[0].ctx, &o->q);
                if (s == WEFT_OK) {
                    o->live = 0;
                    continue;
                }
                ck_assert_int_eq(s, WEFT_AGAIN);
                done = 0;
                if (ending || draw() > 0.01) continue;
                net[0].cancel(net[0].ctx, &o->q);
                memset(o->body, 0xEE, sizeof o->body);
                o->live = 0;
                o->cancelled = 1;
                cancelled_sends++;
            }
            if (under_way < 3 && next[t] < MESSAGES && !ending && draw() < 0.3) {
                sent_message *o = &m[t][next[t]];
                o->n = 4 + (size_t)(draw() * 110);
                memset(o->body, next[t] & 255, o->n);
                weft_frames_put(o->body, (uint32_t)next[t], 4);
                memset(&o->q, 0, sizeof o->q);
                ck_assert_int_eq(net[0].send(net[0].ctx, 1, (uint32_t)t, o->body, o->n, &o->q), WEFT_OK);
                o->live = 1;
                next[t]++;
            }
            for (i = 0; i < AT_ONCE; i++) { /* receives of a tag match in the order of posting: tested in that order */
                int first = -1, j;
                uint32_t id;
                for (j = 0; j < AT_ONCE; j++)
                    if (posted[t][j] == 1 && (first < 0 || order[t][j] < order[t][first])) first = j;
                if (first < 0) break;
                {
                    const weft_status s = net[1].test(net[1].ctx, &q[t][first]);
                    sent_message *o;
                    size_t b;
                    if (s == WEFT_AGAIN) break;
                    ck_assert_int_eq(s, WEFT_OK);
                    posted[t][first] = 0;
                    id = weft_frames_get(into[t][first], 4);
                    ck_assert_uint_lt(id, (unsigned)next[t]);
                    o = &m[t][id];
                    ck_assert_int_gt((int)id, last[t]);
                    last[t] = (int)id;
                    o->came++;
                    ck_assert_uint_eq(q[t][first].bytes, o->n);
                    for (b = 4; b < o->n; b++)
                        if (into[t][first][b] != (unsigned char)(id & 255)) ck_abort_msg("a message in pieces of two");
                }
            }
            for (i = 0; i < AT_ONCE; i++) {
                if (!posted[t][i] && (ending || draw() < 0.2)) {
                    memset(&q[t][i], 0, sizeof q[t][i]);
                    ck_assert_int_eq(net[1].recv(net[1].ctx, 0, (uint32_t)t, into[t][i], sizeof into[t][i], &q[t][i]),
                                     WEFT_OK);
                    posted[t][i] = 1;
                    order[t][i] = posts[t]++;
                } else if (posted[t][i] && !ending && draw() < 0.02) {
                    weft_frames_op *op = (weft_frames_op *)q[t][i].word[0];
                    if (op->over) continue; /* it has its message */
                    in_the_middle += op->state == WEFT_FRAMES_OUT;
                    if (op->state == WEFT_FRAMES_OUT) continue; /* it would take that with it */
                    net[1].cancel(net[1].ctx, &q[t][i]);
                    memset(into[t][i], 0xDD, sizeof into[t][i]);
                    posted[t][i] = 0;
                    cancelled_receives++;
                }
            }
        }
        tick();
    }
    for (t = 0; t < TAGS; t++)
        for (i = 0; i < next[t]; i++) {
            ck_assert_int_le(m[t][i].came, 1);
            if (!m[t][i].cancelled && !m[t][i].came) { /* it is over, so it has come: to a receive not tested yet */
                int k2, seen = 0;
                for (k2 = 0; k2 < AT_ONCE; k2++)
                    seen |= posted[t][k2] && ((weft_frames_op *)q[t][k2].word[0])->over &&
                            weft_frames_get(into[t][k2], 4) == (uint32_t)i;
                ck_assert(seen);
            }
        }
    ck_assert_int_gt(cancelled_sends, 30);
    ck_assert_int_gt(cancelled_receives, 100);
    ck_assert_int_gt(in_the_middle, 5);
}
END_TEST

static weft_status until_over(uint32_t rank, weft_request *q) {
    weft_status s;
    int k;
    for (k = 0; (s = net[rank].test(net[rank].ctx, q)) == WEFT_AGAIN; k++) {
        tick();
        if (k > 100000) ck_abort_msg("it never gets over");
    }
    return s;
}

/* A link that is cut, and one end that is started anew, are a loss at both ends, and then the link is there again. */
START_TEST(lost_and_there_again) {
    unsigned char word = 9, got = 0;
    weft_request a, b;
    uint32_t rank;
    int up, k;
    open_all(2, 51, 6);
    for (k = 0; k < 2; k++) {
        while (weft_frames_news(F[0], &rank, &up) || weft_frames_news(F[1], &rank, &up)) continue;
        memset(&a, 0, sizeof a);
        memset(&b, 0, sizeof b);
        ck_assert_int_eq(net[0].recv(net[0].ctx, 1, 1, &got, 1, &b), WEFT_OK);
        ck_assert_int_eq(net[1].send(net[1].ctx, 0, 2, &word, 1, &a), WEFT_OK);
        if (k == 0) {
            W.cut = 1;
            ck_assert_int_eq(until_over(0, &b), WEFT_ERR_PEER_LOST);
            if (weft_frames_is_up(F[1], 0)) net[1].cancel(net[1].ctx, &a);
            W.cut = 0;
        } else {
            open_one(1, 51, 999); /* it forgets everything */
            ck_assert_int_eq(until_over(0, &b), WEFT_ERR_PEER_LOST);
        }
        while (!all_up()) tick();
        ck_assert_int_eq(weft_frames_news(F[0], &rank, &up), 1);
        ck_assert_int_eq(up, 0);
        ck_assert_int_eq(weft_frames_news(F[0], &rank, &up), 1);
        ck_assert_int_eq(up, 1);
        word++;
        memset(&a, 0, sizeof a);
        memset(&b, 0, sizeof b);
        ck_assert_int_eq(net[0].recv(net[0].ctx, 1, 1, &got, 1, &b), WEFT_OK);
        ck_assert_int_eq(net[1].send(net[1].ctx, 0, 1, &word, 1, &a), WEFT_OK);
        ck_assert_int_eq(until_over(0, &b), WEFT_OK);
        ck_assert_int_eq(until_over(1, &a), WEFT_OK);
        ck_assert_uint_eq(got, word);
    }
}
END_TEST

/* Anything may come over the air. */
START_TEST(noise) {
    unsigned char word = 3, got = 0, frame[60];
    weft_request a, b;
    int i;
    open_all(2, 51, 7);
    memset(&a, 0, sizeof a);
    memset(&b, 0, sizeof b);
    ck_assert_int_eq(net[0].recv(net[0].ctx, 1, 1, &got, 1, &b), WEFT_OK);
    for (i = 0; i < 20000; i++) {
        size_t n = (size_t)(draw() * 60), k;
        for (k = 0; k < n; k++) frame[k] = (unsigned char)(draw() * 256);
        if (n >= 10 && i % 2) { /* with a sound checksum, in the right session, but no hello */
            weft_frames_put(frame, weft_frames_session(F[0], 1), 2);
            frame[2] = (unsigned char)((frame[2] & 0xFCu) | 3u);
            weft_frames_put(frame + n - 2, weft_frames_crc(frame, n - 2), 2);
        }
        weft_frames_arrived(F[0], 1, frame, n);
    }
    ck_assert_uint_gt(F[0]->frames_bad, 8000);
    ck_assert(weft_frames_is_up(F[0], 1));
    ck_assert_int_eq(net[1].send(net[1].ctx, 0, 1, &word, 1, &a), WEFT_OK);
    ck_assert_int_eq(until_over(0, &b), WEFT_OK);
    ck_assert_int_eq(until_over(1, &a), WEFT_OK);
    ck_assert_uint_eq(got, 3);
}
END_TEST

static unsigned char line[300];
static size_t line_bytes;

static void put(void *ctx, unsigned char byte) {
    (void)ctx;
    line[line_bytes++] = byte;
}

START_TEST(slip) {
    unsigned char frame[51], back[51];
    weft_slip s;
    int i;
    size_t k, n, seen;
    memset(&s, 0, sizeof s);
    s.frame = back;
    s.room = sizeof back;
    W.state = 8;
    for (i = 0; i < 2000; i++) {
        n = 1 + (size_t)(draw() * 51);
        if (n > 51) n = 51;
        for (k = 0; k < n; k++) frame[k] = (unsigned char)(draw() < 0.5 ? 0xC0 + (int)(draw() * 2) * 27 : draw() * 256);
        line_bytes = 0;
        weft_slip_send(frame, n, put, NULL);
        if (i % 3 == 0) { /* after noise and a frame that is cut off */
            weft_slip_byte(&s, 0xDB);
            for (k = 0; k < 70; k++) weft_slip_byte(&s, 0x55);
        }
        for (seen = 0, k = 0; k < line_bytes; k++) {
            const size_t got = weft_slip_byte(&s, line[k]);
            if (!got) continue;
            seen++;
            ck_assert_uint_eq(got, n);
            ck_assert_int_eq(memcmp(frame, back, n), 0);
        }
        ck_assert_uint_eq(seen, 1);
    }
}
END_TEST

START_TEST(descriptors) {
    weft_frames_desc d, bad;
    weft_transport t;
    int i;
    memset(&d, 0, sizeof d);
    d.struct_size = sizeof d;
    d.size = 2;
    d.largest_frame = 51;
    d.send = my_send;
    d.now = my_now;
    ck_assert_uint_gt(weft_frames_memory(&d), 0);
    ck_assert_uint_lt(weft_frames_memory(&d), 6000);
    ck_assert_ptr_null(weft_frames_init(&d, memory[0], weft_frames_memory(&d) - 1, &t));
    for (i = 0; i < 9; i++) {
        bad = d;
        switch (i) {
        case 0: bad.struct_size--; break;
        case 1: bad.size = 0; break;
        case 2: bad.rank = 2; break;
        case 3: bad.largest_frame = 23; break;
        case 4: bad.largest_frame = 65536; break;
        case 5: bad.window = 11; break;
        case 6: bad.send = NULL; break;
        case 7: bad.now = NULL; break;
        default: bad.requests_per_peer = 5000;
        }
        if (weft_frames_memory(&bad) != 0) ck_abort_msg("case %d", i);
    }
}
END_TEST

/* ---- item by item: what comes at a moment at which it need not ---- */

static void ticks(int n) {
    while (n--) tick();
}

static void ask(int is_send, uint32_t rank, uint32_t tag, void *at, size_t n, weft_request *q) {
    memset(q, 0, sizeof *q);
    ck_assert_int_eq(is_send ? net[rank].send(net[rank].ctx, !rank, tag, at, n, q)
                             : net[rank].recv(net[rank].ctx, !rank, tag, at, n, q),
                     WEFT_OK);
}

static int no_news(void) {
    uint32_t rank;
    int up;
    return !weft_frames_news(F[0], &rank, &up) && !weft_frames_news(F[1], &rank, &up);
}

static void forget_news(void) {
    while (!no_news()) continue;
}

static uint32_t used(const weft_frames *f) {
    uint32_t i, n = 0;
    for (i = 0; i < f->ops; i++) n += f->op[i].used != 0;
    return n;
}

/* How many messages of this tag an end may still send. */
static int room_for(const weft_frames *f, uint32_t peer, uint32_t tag) {
    uint32_t i;
    for (i = 0; i < f->rooms; i++)
        if (f->peer[peer].room[i].used && f->peer[peer].room[i].tag == tag) return f->peer[peer].room[i].count;
    return 0;
}

/* A message that gets through, both ends say so, and nothing is left of it. */
static void goes_through(uint32_t tag, size_t n) {
    static unsigned char from[600], to[600];
    weft_request a, b;
    size_t i;
    for (i = 0; i < n; i++) from[i] = (unsigned char)(i * 7 + tag);
    memset(to, 0, sizeof to);
    ask(0, 1, tag, to, n, &b);
    ask(1, 0, tag, from, n, &a);
    ck_assert_int_eq(until_over(1, &b), WEFT_OK);
    ck_assert_int_eq(until_over(0, &a), WEFT_OK);
    ck_assert_uint_eq(b.bytes, n);
    ck_assert_int_eq(memcmp(from, to, n), 0);
    ticks(20);
    ck_assert_uint_eq(used(F[0]) + used(F[1]), 0);
    ck_assert_int_eq(room_for(F[0], 1, tag), 0);
    ck_assert(no_news());
}

/* A receive is taken back while a message for it sets off: that is told NO, and goes when there is a receive again. */
START_TEST(told_no) {
    unsigned char word[3] = {1, 2, 3}, got[3];
    weft_request a, b;
    int k;
    open_all(2, 51, 21);
    forget_news();
    for (k = 0; k < 20; k++) { /* each time it must get its room back */
        ask(0, 1, 5, got, 3, &b);
        ticks(5);
        ck_assert_int_eq(room_for(F[0], 1, 5), 1);
        ask(1, 0, 5, word, 3, &a);
        net[1].cancel(net[1].ctx, &b);
        ticks(20);
        ck_assert_int_eq(net[0].test(net[0].ctx, &a), WEFT_AGAIN);
        ck_assert_int_eq(room_for(F[0], 1, 5), 0);
        memset(got, 0, sizeof got);
        ask(0, 1, 5, got, 3, &b);
        ck_assert_int_eq(until_over(1, &b), WEFT_OK);
        ck_assert_int_eq(until_over(0, &a), WEFT_OK);
        ck_assert_int_eq(memcmp(word, got, 3), 0);
        ticks(10);
        ck_assert_uint_eq(used(F[0]) + used(F[1]), 0);
    }
    goes_through(5, 300);
}
END_TEST

/* A receive is taken back in the middle of its message: nothing is written into it any more, and nothing is left of it;
 * _i: the sender gives up as well. */
START_TEST(taken_back_in_the_middle) {
    static unsigned char from[400], to[400], was[400];
    weft_request a, b;
    int k, i;
    open_all(2, 51, 22);
    forget_news();
    for (k = 0; k < 20; k++) {
        memset(from, 7, sizeof from);
        memset(to, 0, sizeof to);
        ask(0, 1, 6, to, sizeof to, &b);
        ask(1, 0, 6, from, sizeof from, &a);
        for (i = 0; ((weft_frames_op *)b.word[0])->state != WEFT_FRAMES_OUT; i++) {
            tick();
            ck_assert_int_lt(i, 100);
        }
        if (_i) W.cut = 1; /* so that the rest does not come before the sender gives up */
        net[1].cancel(net[1].ctx, &b);
        memset(to, 0xDD, sizeof to);
        memcpy(was, to, sizeof to);
        if (_i) {
            net[0].cancel(net[0].ctx, &a);
            memset(from, 0xEE, sizeof from);
            W.cut = 0;
            ticks(200);
        } else {
            ck_assert_int_eq(until_over(0, &a), WEFT_OK);
            ticks(20);
        }
        ck_assert_int_eq(memcmp(to, was, sizeof to), 0);
        ck_assert_uint_eq(used(F[0]), 0);
        ck_assert_uint_eq(used(F[1]), 0);
        ck_assert_int_eq(room_for(F[0], 1, 6), 0);
    }
    goes_through(6, 400);
}
END_TEST

/* A frame to worker 0 as worker 1 would seal it, with anything in it. */
static void forged(unsigned kind, uint32_t session, uint32_t number, const unsigned char *payload, size_t n,
                   int spoil) {
    unsigned char frame[60];
    weft_frames_put(frame, session, 2);
    weft_frames_put(frame + 2, kind, 2);
    weft_frames_put(frame + 4, number, 2);
    weft_frames_put(frame + 6, F[0]->peer[1].base, 2);
    memcpy(frame + 8, payload, n);
    weft_frames_put(frame + 8 + n, weft_frames_crc(frame, 8 + n) ^ (spoil ? 1u : 0), 2);
    weft_frames_arrived(F[0], 1, frame, WEFT_FRAMES_AROUND + n);
}

static void hello(uint32_t mine, uint32_t yours, unsigned flags) {
    unsigned char p[9];
    weft_frames_put(p, mine, 4);
    weft_frames_put(p + 4, yours, 4);
    p[8] = (unsigned char)flags;
    forged(WEFT_FRAMES_HELLO, 0, 0, p, 9, 0);
}

/* Hellos while all is well: of this session, once more; old ones; of one that knows nothing of this end. Nothing is
 * lost by any of them. One that was started anew, and knows this end, is another matter. */
START_TEST(hellos_again) {
    unsigned char got;
    weft_request b;
    uint32_t rank;
    int up;
    open_all(2, 51, 23);
    forget_news();
    ask(0, 0, 7, &got, 1, &b);
    ticks(20);
    {
        const uint32_t mine = F[0]->peer[1].mine, theirs = F[0]->peer[1].theirs;
        uint64_t sent;
        ck_assert_uint_eq(theirs, F[1]->peer[0].mine);
        hello(theirs, mine, 3);
        ck_assert(weft_frames_is_up(F[0], 1) && no_news());
        sent = W.sent;
        weft_frames_poll(F[0]);
        ck_assert_uint_eq(W.sent, sent); /* it needs no answer, */
        hello(theirs, mine, 1);
        weft_frames_poll(F[0]);
        ck_assert_uint_eq(W.sent, sent + 1); /* but from one who is not up */
        hello(theirs, 0, 0);
        hello(theirs - 1, 0, 0); /* of an earlier start: late */
        hello(theirs - 1, mine - 1, 1);
        hello(theirs - 1, mine, 0);
        ck_assert(weft_frames_is_up(F[0], 1) && no_news());
        ck_assert_int_eq(net[0].test(net[0].ctx, &b), WEFT_AGAIN);
        ck_assert_uint_eq(F[0]->peer[1].mine, mine);
        hello(theirs + 1, mine, 1);
        ck_assert(!weft_frames_is_up(F[0], 1));
        ck_assert_int_eq(weft_frames_news(F[0], &rank, &up), 1);
        ck_assert_int_eq(up, 0);
        ck_assert_int_eq(net[0].test(net[0].ctx, &b), WEFT_ERR_PEER_LOST);
        ck_assert_uint_ne(F[0]->peer[1].mine, mine); /* another session on this end, too */
    }
}
END_TEST

/* Frames that are not for now are not looked into: nonsense in them would end the session. */
START_TEST(frames_that_are_not_for_now) {
    static const unsigned char nonsense[3] = {99, 0, 0};
    const weft_frames_peer *p;
    uint32_t session;
    open_all(2, 51, 24);
    forget_news();
    goes_through(1, 100);
    p = &F[0]->peer[1];
    session = weft_frames_session(F[0], 1);
    forged(WEFT_FRAMES_DATA, session, p->expected, nonsense, 3, 1); /* damaged */
    ck_assert_uint_eq(F[0]->frames_bad, 1);
    forged(WEFT_FRAMES_DATA, session ^ 1u, p->expected, nonsense, 3, 0);
    forged(WEFT_FRAMES_DATA, session, p->expected + F[0]->desc.window, nonsense, 3, 0);
    forged(WEFT_FRAMES_DATA, session, p->expected - 1u, nonsense, 3, 0); /* it has been here */
    forged(WEFT_FRAMES_DATA, session, p->expected, nonsense, 0, 0);
    forged(WEFT_FRAMES_ACK, session, p->expected, nonsense, 3, 0);
    ck_assert(weft_frames_is_up(F[0], 1));
    goes_through(1, 100);
    forged(WEFT_FRAMES_DATA, session, p->expected, nonsense, 3, 0);
    ck_assert(!weft_frames_is_up(F[0], 1));
}
END_TEST

int main(void) {
    Suite *s = suite_create("link"), *items = suite_create("items");
    TCase *t = tcase_create("contract");
    SRunner *r;
    int failed;
    tcase_set_timeout(t, 120);
    tcase_add_loop_test(t, contract, 0, (int)(sizeof scene / sizeof *scene));
    tcase_add_test(t, messages_arrive_once_and_in_order);
    tcase_add_loop_test(t, requests_are_taken_back, 0, 6);
    suite_add_tcase(s, t);
    t = tcase_create("faults");
    tcase_set_timeout(t, 60);
    tcase_add_test(t, lost_and_there_again);
    tcase_add_test(t, noise);
    tcase_add_test(t, slip);
    tcase_add_test(t, descriptors);
    suite_add_tcase(s, t);
    t = tcase_create("items");
    tcase_add_test(t, told_no);
    tcase_add_loop_test(t, taken_back_in_the_middle, 0, 2);
    tcase_add_test(t, hellos_again);
    tcase_add_test(t, frames_that_are_not_for_now);
    suite_add_tcase(items, t);
    r = srunner_create(s);
    srunner_add_suite(r, items);
    srunner_run_all(r, CK_ENV);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
