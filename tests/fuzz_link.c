/* SPDX-License-Identifier: MIT
 * libFuzzer: weft_link.h between two ends. Input is a program: sends, receives, their taking back, time, ends started
 * anew, frames that are lost, doubled, overtaken and damaged, and (if its first byte allows them) frames that nobody
 * sent: of any bytes, and sealed as by the other end, with any items inside; and a line of bytes.
 *
 * Buffers belong to the link only until their request is over or taken back. If nobody forges frames, what is sent and
 * not taken back arrives once, whole and in order, and when faults cease every request comes to an end. */
#define GRAWA_IMPLEMENTATION
#include "../grawa.h"
#include "transports/weft_link.h"

#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { REQUESTS = 8, AIR = 64, FRAME = 32, TAGS = 3, BODY = 90 };

static void need(int ok, const char *why) {
    if (ok) return;
    fprintf(stderr, "%s\n", why);
    abort();
}

typedef struct asked {
    weft_request q;
    int live, is_send;
    uint32_t tag, number; /* of a send: how many its end has sent with this tag; of a receive: has posted */
    size_t room;
    unsigned char *at; /* exactly so long */
} asked;

typedef struct end {
    uint32_t rank;
    weft_frames *f;
    weft_transport net;
    void *memory;
    asked r[REQUESTS];
    uint32_t sent[TAGS], posted[TAGS];
    int64_t last[TAGS]; /* the number of the message that was received last */
} end;

static end E[2];
static uint64_t now, incarnations;
static struct {
    uint32_t to;
    int damaged;
    size_t bytes;
    unsigned char frame[FRAME];
} air[AIR];
static int flights, deaf, forging;

static uint64_t my_now(void *ctx) {
    (void)ctx;
    return now;
}

static weft_status my_send(void *ctx, uint32_t peer, const void *frame, size_t bytes) {
    (void)ctx;
    need(bytes >= WEFT_FRAMES_AROUND && bytes <= FRAME, "a frame of a length that the link does not take");
    if (deaf || flights == AIR) return deaf == 2 ? WEFT_AGAIN : WEFT_OK; /* lost, or the link is busy */
    air[flights].to = peer;
    air[flights].damaged = 0;
    air[flights].bytes = bytes;
    memcpy(air[flights++].frame, frame, bytes);
    return WEFT_OK;
}

static void start(uint32_t rank) {
    end *e = &E[rank];
    weft_frames_desc d;
    size_t bytes;
    memset(&d, 0, sizeof d);
    d.struct_size = sizeof d;
    d.rank = rank;
    d.size = 2;
    d.largest_frame = FRAME;
    d.window = 3;
    d.tries = 5;
    d.requests_per_peer = REQUESTS / 2; /* of both peers' places together so many */
    d.retry_ns = 10;
    d.incarnation = (uint32_t)++incarnations;
    d.send = my_send;
    d.now = my_now;
    d.ctx = e;
    e->rank = rank;
    bytes = weft_frames_memory(&d);
    e->memory = malloc(bytes);
    need(e->memory != NULL, "memory");
    e->f = weft_frames_init(&d, e->memory, bytes, &e->net);
    need(e->f != NULL, "init");
}

static void put_down(asked *a) {
    free(a->at);
    memset(a, 0, sizeof *a);
}

static void stop(uint32_t rank) {
    int i;
    for (i = 0; i < REQUESTS; i++)
        if (E[rank].r[i].live) put_down(&E[rank].r[i]);
    free(E[rank].memory);
}

/* What the n-th message of an end and a tag is: its number, and bytes that go with it. */
static void compose(unsigned char *p, size_t n, uint32_t rank, uint32_t tag, uint32_t number) {
    size_t i;
    for (i = 0; i < n; i++) p[i] = (unsigned char)(i < 4 ? number >> 8 * i : number * 7 + tag * 31 + rank * 101 + i);
}

static void is_it(end *e, asked *a) {
    unsigned char want[BODY + 4];
    uint32_t number = 0, i;
    if (forging) return;
    need(a->q.bytes >= 4 && a->q.bytes <= sizeof want && a->q.bytes <= a->room, "a message of another length");
    for (i = 4; i-- > 0;) number = number << 8 | a->at[i];
    need((int64_t)number > e->last[a->tag], "twice, or out of order");
    e->last[a->tag] = (int64_t)number;
    compose(want, (size_t)a->q.bytes, !e->rank, a->tag, number);
    need(memcmp(want, a->at, (size_t)a->q.bytes) == 0, "not what was sent");
}

/* Receives of a tag are looked at in the order of posting, as their messages came. */
static int may_test(const end *e, const asked *a) {
    int i;
    for (i = 0; i < REQUESTS && !a->is_send; i++)
        if (e->r[i].live && !e->r[i].is_send && e->r[i].tag == a->tag && e->r[i].number < a->number) return 0;
    return 1;
}

static void test(end *e, asked *a) {
    const weft_status s = e->net.test(e->net.ctx, &a->q);
    if (s == WEFT_AGAIN) return;
    need(s == WEFT_OK || s == WEFT_ERR_PEER_LOST || (forging && s == WEFT_ERR_TRUNCATED) ||
             (forging && s == WEFT_ERR_TRANSPORT),
         "status");
    if (s == WEFT_OK && !a->is_send) is_it(e, a);
    put_down(a);
}

static void ask(end *e, asked *a, int is_send, uint32_t tag, size_t n) {
    weft_status s;
    memset(a, 0, sizeof *a);
    a->is_send = is_send;
    a->tag = tag;
    a->room = is_send ? 4 + n % BODY : forging ? n : BODY + 4;
    a->at = (unsigned char *)malloc(a->room ? a->room : 1);
    need(a->at != NULL, "memory");
    a->number = is_send ? e->sent[tag] : e->posted[tag];
    if (is_send)
        compose(a->at, a->room, e->rank, tag, a->number);
    else
        memset(a->at, 0xEE, a->room);
    s = is_send ? e->net.send(e->net.ctx, !e->rank, tag, a->at, a->room, &a->q)
                : e->net.recv(e->net.ctx, !e->rank, tag, a->at, a->room, &a->q);
    need(s == WEFT_OK || s == WEFT_ERR_PEER_LOST || s == WEFT_ERR_CAPACITY, "status of a post");
    if (s != WEFT_OK) {
        put_down(a);
        return;
    }
    a->live = 1;
    if (is_send)
        e->sent[tag]++;
    else
        e->posted[tag]++;
}

static void land(int i, int keep) {
    const uint32_t to = air[i].to;
    unsigned char *copy = (unsigned char *)malloc(air[i].bytes);
    const size_t n = air[i].bytes;
    need(copy != NULL, "memory");
    memcpy(copy, air[i].frame, n);
    if (!keep) {
        memmove(&air[i], &air[i + 1], (size_t)(flights - i - 1) * sizeof *air);
        flights--;
    }
    weft_frames_arrived(E[to].f, !to, copy, n);
    free(copy);
}

/* Time goes on, both ends are polled, and nothing goes wrong. */
static void calm(int turns) {
    int i;
    deaf = 0;
    while (turns--) {
        now += 10;
        weft_frames_poll(E[0].f);
        weft_frames_poll(E[1].f);
        for (i = flights; i-- > 0;) land(0, 0);
    }
}

static void settle(void) {
    int turn, i, left = 1, before = 0, still = 0;
    uint32_t r, t;
    uint32_t surplus[2][TAGS];
    calm(40);
    need(weft_frames_is_up(E[0].f, 1) && weft_frames_is_up(E[1].f, 0), "no hello comes through");
    /* once nothing moves any more, what is waited for is posted or sent */
    for (turn = 0; turn < 400 && left; turn++) {
        calm(2);
        memset(surplus, 0, sizeof surplus);
        for (r = left = 0; r < 2; r++)
            for (i = 0; i < REQUESTS; i++) {
                asked *a = &E[r].r[i];
                if (a->live && may_test(&E[r], a)) test(&E[r], a);
                if (!a->live) continue;
                surplus[a->is_send ? r : !r][a->tag] += a->is_send ? 1u : UINT32_MAX;
                left++;
            }
        still = left == before ? still + 1 : 0;
        before = left;
        if (still < 8) continue;
        still = 0;
        for (r = 0; r < 2; r++)
            for (t = 0; t < TAGS; t++) {
                const int32_t n = (int32_t)surplus[r][t];
                end *e = &E[n > 0 ? !r : r];
                for (i = 0; i < REQUESTS && n; i++)
                    if (!e->r[i].live) {
                        ask(e, &e->r[i], n < 0, t, 30);
                        break;
                    }
                if (n && i == REQUESTS) { /* no place: something is taken back */
                    asked *a = &e->r[(unsigned)turn / 8 % REQUESTS];
                    e->net.cancel(e->net.ctx, &a->q);
                    put_down(a);
                }
            }
    }
    need(!left, "requests that never come to an end");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    uint32_t r, t;
    weft_slip slip;
    unsigned char line[FRAME];
    if (!size) return 0;
    memset(E, 0, sizeof E);
    memset(&slip, 0, sizeof slip);
    slip.frame = line;
    slip.room = sizeof line;
    now = incarnations = 0;
    flights = deaf = 0;
    forging = data[0] & 1;
    for (r = 0; r < 2; r++) {
        for (t = 0; t < TAGS; t++) E[r].last[t] = -1;
        start(r);
    }
    if (!(data[0] & 2)) calm(3); /* both are up */
    for (data++, size--; size >= 2; data += 2, size -= 2) {
        const unsigned op = data[0] & 15u, n = data[1];
        end *e = &E[data[0] >> 4 & 1];
        asked *a = &e->r[n % REQUESTS];
        switch (op) {
        case 0:
        case 1:
            if (!a->live) ask(e, a, op == 0, n / REQUESTS % TAGS, n / 2);
            break;
        case 2:
            if (a->live && may_test(e, a)) test(e, a);
            break;
        case 3:
            if (!a->live) break;
            e->net.cancel(e->net.ctx, &a->q);
            /* a message that was coming into it is gone with it; and so is none after it that comes into the next */
            put_down(a);
            break;
        case 4: now += n % 16; break;
        case 5: weft_frames_poll(e->f); break;
        case 6:
        case 7:
        case 8:
            if (flights) land((int)n % (op == 8 ? flights : 1), op == 7); /* in order, twice, out of order */
            break;
        case 9:
            if (flights) { /* lost */
                memmove(&air[0], &air[1], (size_t)(flights - 1) * sizeof *air);
                flights--;
            }
            break;
        case 10: deaf = (int)n % 3; break;
        case 11:
            if (flights) { /* damaged: one bit, which the checksum must see; of many it may not */
                const int i = (int)n % flights;
                if (air[i].damaged) break;
                air[i].damaged = 1;
                air[i].frame[n % air[i].bytes] ^= (unsigned char)(1u << n / 32);
            }
            break;
        case 12:
            if (data[0] & 128) { /* started anew; what was under way may still come */
                stop(e->rank);
                memset(e->r, 0, sizeof e->r);
                start(e->rank);
            }
            break;
        case 13: calm((int)n % 4); break;
        default: { /* forged: bytes of the input, sealed (14) or not */
            unsigned char frame[FRAME];
            const size_t m = n % (FRAME - WEFT_FRAMES_AROUND + 1) + (op == 14 ? WEFT_FRAMES_AROUND : 0);
            size_t k;
            if (!forging) break;
            memset(frame, 0, sizeof frame);
            for (k = 0; k < m && k + 2 < size; k++) frame[k] = data[2 + k];
            if (op == 14) {
                const weft_frames_peer *p = &e->f->peer[!e->rank];
                if (data[0] & 32) weft_frames_put(frame, weft_frames_session(e->f, !e->rank), 2);
                if (data[0] & 64) {
                    frame[2] = (unsigned char)((frame[2] & 0xFCu) | WEFT_FRAMES_DATA);
                    weft_frames_put(frame + 4, p->expected, 2);
                    weft_frames_put(frame + 6, p->base, 2);
                }
                weft_frames_put(frame + m - 2, weft_frames_crc(frame, m - 2), 2);
                data += k;
                size -= k;
                weft_frames_arrived(e->f, !e->rank, frame, m);
            } else {
                for (k = 0; k < m; k++) {
                    const size_t got = weft_slip_byte(&slip, frame[k]);
                    need(got <= sizeof line, "a frame longer than there is room for");
                    if (got) weft_frames_arrived(e->f, !e->rank, line, got);
                }
                weft_frames_arrived(e->f, n & 1 ? !e->rank : n, frame, m);
            }
        }
        }
    }
    if (!forging) settle();
    stop(0);
    stop(1);
    return 0;
}
