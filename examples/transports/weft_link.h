/* SPDX-License-Identifier: MIT
 * weft_link.h: reliable, ordered messages over links that lose, double and reorder: serial lines, UDP, radio. Frames
 * may be as short as 24 bytes. All memory is the caller's, given once; no heap, no clock but the caller's.
 *
 *     weft_frames_desc d = {sizeof d};
 *     d.rank = 0; d.size = 2; d.largest_frame = 51;                   // bytes that the link takes at a time
 *     d.send = my_send; d.now = my_now; d.ctx = &radio;               // my_send(ctx, peer, frame, bytes)
 *     d.retry_ns = 300 * 1000000u;                                    // above the time there and back
 *     d.incarnation = a_number_that_no_earlier_run_had;               // of a counter in flash, of a clock, drawn
 *     static unsigned char memory[4096];                              // weft_frames_memory(&d) says how many
 *     weft_frames *f = weft_frames_init(&d, memory, sizeof memory, &net);
 *     ... and whenever a frame has come, from wherever:  weft_frames_arrived(f, peer, frame, bytes);
 *
 * Over a line of bytes, weft_slip_send and weft_slip_byte mark where frames begin and end.
 *
 * ---- How it works ----
 *
 * A frame has 10 bytes around what it carries: session u16, kind and acknowledgement bits u16, number u16,
 * acknowledged u16, CRC-16 u16. What is not acknowledged within retry_ns is sent again, at most `window` frames at a
 * time; after `tries` times the other side is lost, until it says hello again. A hello carries the incarnations of both
 * ends: who was started anew is lost first, and then there.
 *
 * Inside there are items: ROOM (a receive is posted; the sender may send one message of this tag), BACK (no longer),
 * BEGIN and MORE (of a message), DONE (all of it has come), NO (there is no receive for it: again later), VOID (the
 * sender has given up the rest) and GONE (so it is). So no message needs memory other than that of its receive, and a
 * send is over when its message is where it belongs.
 *
 * Include this file after one of the weft headers. Not for the unit of a program that is called from two threads. */
#ifndef WEFT_LINK_H
#define WEFT_LINK_H

#ifndef WEFT_VERSION
#error "include a weft header (grawa.h, ...) before weft_link.h"
#endif

#include <string.h>

enum {
    WEFT_FRAMES_AROUND = 10,
    WEFT_FRAMES_SMALLEST = 24,
    WEFT_FRAMES_LARGEST = 65535,
    WEFT_FRAMES_WINDOW = 10 /* acknowledgement bits, and one */
};

/* Gives a frame to the link. WEFT_OK: it is on its way, or lost: nobody asks. WEFT_AGAIN: the link is busy. It is not
 * called from within weft_frames_arrived. */
typedef weft_status (*weft_frames_send_fn)(void *ctx, uint32_t peer, const void *frame, size_t bytes);

/* Zero is the default. */
typedef struct weft_frames_desc {
    size_t struct_size;
    uint32_t rank, size;
    uint32_t largest_frame;     /* bytes; at least 24 */
    uint32_t window;            /* frames under way to a peer: 1 to 10; default 4 */
    uint32_t tries;             /* of a frame until a peer is taken for lost; default 50 */
    uint32_t requests_per_peer; /* sends and receives at a time; default 8 */
    uint64_t retry_ns;          /* default 200 ms */
    uint32_t incarnation;       /* another one for each start of this worker */
    weft_frames_send_fn send;
    weft_now_fn now;
    void *ctx; /* of both */
} weft_frames_desc;

typedef struct weft_frames_op {
    int used, is_send, over, orphan;
    int state; /* see below */
    uint32_t peer, tag;
    uint32_t order; /* of posting */
    unsigned char *at;
    uint64_t room, length, moved;
    weft_status status;
} weft_frames_op;

/* Of a send: waits for room; goes; is out, DONE is awaited; given up, DONE or GONE is awaited.
 * Of a receive: the other side is to be told; has been told; a message comes into it. */
enum { WEFT_FRAMES_WAITS, WEFT_FRAMES_GOES, WEFT_FRAMES_OUT, WEFT_FRAMES_VOID };

typedef struct weft_frames_slot {
    uint16_t bytes; /* of the payload; 0: free */
    uint16_t tried;
    uint64_t sent_ns;
    unsigned char *payload;
} weft_frames_slot;

typedef struct weft_frames_item {
    uint16_t tag;
    uint8_t kind;
} weft_frames_item;

typedef struct weft_frames_room {
    int32_t
        count; /* messages of this tag that may still be sent; below 0: one came for a receive that was taken back */
    uint32_t tag;
    int used;
} weft_frames_room;

typedef struct weft_frames_peer {
    int up, ack_due, hello_due;
    uint32_t mine, theirs; /* incarnations: this end has a new one for each session; theirs where `known` */
    int known, went, came;
    uint64_t hello_ns;
    uint16_t base, next;        /* numbers of the oldest frame that is not acknowledged, and of the next new one */
    uint16_t expected;          /* of the next frame to be taken */
    weft_frames_slot *out, *in; /* `window` each, by number modulo window */
    weft_frames_item *item;     /* a ring of answers that are due */
    uint32_t item_at, items;
    weft_frames_room *room;
} weft_frames_peer;

typedef struct weft_frames {
    weft_frames_desc desc;
    weft_frames_peer *peer;
    weft_frames_op *op;
    uint32_t ops, order, item_room, rooms;
    unsigned char *frame; /* one that goes */
    uint64_t frames_sent, frames_again, frames_bad;
} weft_frames;

/* ---- Bytes ---- */

WEFT_INLINE void weft_frames_put(unsigned char *p, uint32_t v, int bytes) {
    for (; bytes; bytes--, v >>= 8) *p++ = (unsigned char)(v & 255u);
}

WEFT_INLINE uint32_t weft_frames_get(const unsigned char *p, int bytes) {
    uint32_t v = 0;
    while (bytes--) v = v << 8 | p[bytes];
    return v;
}

/* CRC-16/CCITT-FALSE: polynomial 0x1021, all ones at first. */
WEFT_INLINE uint32_t weft_frames_crc(const unsigned char *p, size_t n) {
    uint32_t c = 0xFFFFu;
    for (; n; n--) {
        int k;
        c ^= (uint32_t)*p++ << 8;
        for (k = 0; k < 8; k++) c = (c & 0x8000u ? c << 1 ^ 0x1021u : c << 1) & 0xFFFFu;
    }
    return c;
}

/* Both ends of a session name it alike: by their incarnations, the lower rank's first. */
WEFT_INLINE uint32_t weft_frames_session(const weft_frames *f, uint32_t peer) {
    const uint32_t mine = f->peer[peer].mine, theirs = f->peer[peer].theirs;
    uint32_t a = f->desc.rank < peer ? mine : theirs, b = f->desc.rank < peer ? theirs : mine;
    a = (a ^ a >> 16) * 0x7FEB352Du + (b ^ b >> 15) * 0x846CA68Bu;
    return (a ^ a >> 16) & 0xFFFFu;
}

/* ---- Memory ---- */

WEFT_INLINE size_t weft_frames_align(size_t n) {
    return (n + 15) / 16 * 16;
}

WEFT_INLINE void *weft_frames_take(unsigned char *memory, size_t *at, size_t count, size_t each) {
    void *p = memory ? memory + *at : NULL;
    *at += weft_frames_align(count * each);
    return p;
}

/* 0: the descriptor is none. */
WEFT_INLINE size_t weft_frames_lay_out(const weft_frames_desc *in, unsigned char *memory, weft_frames **out) {
    weft_frames_desc d = *in;
    weft_frames *f;
    size_t at = 0, payload;
    uint32_t i, k;
    if (d.struct_size != sizeof d || !d.send || !d.now || d.size < 1 || d.size > 4096 || d.rank >= d.size) return 0;
    if (!d.window) d.window = 4;
    if (!d.tries) d.tries = 50;
    if (!d.requests_per_peer) d.requests_per_peer = 8;
    if (!d.retry_ns) d.retry_ns = 200000000u;
    if (d.largest_frame < WEFT_FRAMES_SMALLEST || d.largest_frame > WEFT_FRAMES_LARGEST) return 0;
    if (d.window > WEFT_FRAMES_WINDOW || d.tries > 65535 || d.requests_per_peer > 4096) return 0;
    payload = d.largest_frame - WEFT_FRAMES_AROUND;
    f = (weft_frames *)weft_frames_take(memory, &at, 1, sizeof *f);
    if (f) {
        memset(f, 0, sizeof *f);
        f->desc = d;
        f->ops = d.requests_per_peer * d.size;
        /* of each request at most two answers are due, and of those that were taken back one more: what makes new ones
         * goes out after them */
        f->item_room = 6 * d.requests_per_peer;
        f->rooms = 2 * d.requests_per_peer;
    }
    {
        weft_frames_op *op = (weft_frames_op *)weft_frames_take(memory, &at, d.requests_per_peer * d.size, sizeof *op);
        weft_frames_peer *peer = (weft_frames_peer *)weft_frames_take(memory, &at, d.size, sizeof *peer);
        unsigned char *frame = (unsigned char *)weft_frames_take(memory, &at, 1, d.largest_frame);
        if (f) {
            f->op = op;
            f->peer = peer;
            f->frame = frame;
            memset(op, 0, f->ops * sizeof *op);
            memset(peer, 0, d.size * sizeof *peer);
        }
    }
    for (i = 0; i < d.size; i++) {
        weft_frames_slot *slot;
        weft_frames_item *item;
        weft_frames_room *room;
        if (i == d.rank) continue;
        slot = (weft_frames_slot *)weft_frames_take(memory, &at, 2 * d.window, sizeof *slot);
        item = (weft_frames_item *)weft_frames_take(memory, &at, 6 * d.requests_per_peer, sizeof *item);
        room = (weft_frames_room *)weft_frames_take(memory, &at, 2 * d.requests_per_peer, sizeof *room);
        if (f) {
            memset(slot, 0, 2 * d.window * sizeof *slot);
            memset(room, 0, 2 * d.requests_per_peer * sizeof *room);
            f->peer[i].out = slot;
            f->peer[i].in = slot + d.window;
            f->peer[i].item = item;
            f->peer[i].room = room;
            f->peer[i].hello_due = 1;
            f->peer[i].mine = d.incarnation;
        }
        for (k = 0; k < 2 * d.window; k++) {
            unsigned char *p = (unsigned char *)weft_frames_take(memory, &at, 1, payload);
            if (f) slot[k].payload = p;
        }
    }
    if (out) *out = f;
    return at + 15;
}

/* Bytes that weft_frames_init needs, of any alignment; 0: the descriptor is refused. */
WEFT_INLINE size_t weft_frames_memory(const weft_frames_desc *d) {
    return weft_frames_lay_out(d, NULL, NULL);
}

/* ---- Requests ---- */

WEFT_INLINE void weft_frames_finish(weft_frames_op *op, weft_status s) {
    op->over = 1;
    op->status = s;
    if (op->orphan) op->used = 0;
}

/* The first in order of posting, of those of this peer that are of this kind, tag (any: UINT32_MAX) and state, or NULL.
 * */
WEFT_INLINE weft_frames_op *weft_frames_first(weft_frames *f, uint32_t peer, int is_send, uint32_t tag, int state) {
    weft_frames_op *best = NULL;
    uint32_t i;
    for (i = 0; i < f->ops; i++) {
        weft_frames_op *op = &f->op[i];
        if (!op->used || op->over || op->peer != peer || op->is_send != is_send || op->state != state) continue;
        if (tag != UINT32_MAX && op->tag != tag) continue;
        if (!best || (int32_t)(op->order - best->order) < 0) best = op;
    }
    return best;
}

/* How many messages of this tag may be sent; made if need be. NULL: the other side has promised more than it can keep.
 * */
WEFT_INLINE weft_frames_room *weft_frames_room_of(weft_frames *f, weft_frames_peer *p, uint32_t tag) {
    weft_frames_room *none = NULL;
    uint32_t i;
    for (i = 0; i < f->rooms; i++) {
        if (p->room[i].used && p->room[i].tag == tag) return &p->room[i];
        if (!none && (!p->room[i].used || p->room[i].count == 0)) none = &p->room[i];
    }
    if (!none) return NULL;
    none->used = 1;
    none->tag = tag;
    none->count = 0;
    return none;
}

/* The session is over, for all requests with this peer. */
WEFT_INLINE void weft_frames_lose(weft_frames *f, uint32_t peer) {
    weft_frames_peer *p = &f->peer[peer];
    uint32_t i;
    for (i = 0; i < f->ops; i++)
        if (f->op[i].used && !f->op[i].over && f->op[i].peer == peer) weft_frames_finish(&f->op[i], WEFT_ERR_PEER_LOST);
    for (i = 0; i < f->desc.window; i++) p->out[i].bytes = p->in[i].bytes = 0;
    memset(p->room, 0, f->rooms * sizeof *p->room);
    if (p->up) {
        p->went = 1;
        p->came = 0;
    }
    p->mine = p->mine * 0x9E3779B1u + 0x7F4A7C15u;
    p->base = p->next = p->expected = 0;
    p->items = p->item_at = 0;
    p->up = p->ack_due = 0;
    p->hello_due = 1;
    p->hello_ns = 0;
}

/* ---- Items ---- */

enum {
    WEFT_FRAMES_ROOM = 1,
    WEFT_FRAMES_BACK,
    WEFT_FRAMES_BEGIN,
    WEFT_FRAMES_MORE,
    WEFT_FRAMES_DONE,
    WEFT_FRAMES_NO,
    WEFT_FRAMES_GIVE_UP,
    WEFT_FRAMES_GONE
};

/* 0: there is no place for it. */
WEFT_INLINE int weft_frames_owe(weft_frames *f, weft_frames_peer *p, uint8_t kind, uint32_t tag) {
    weft_frames_item *t;
    if (p->items == f->item_room) return 0;
    t = &p->item[(p->item_at + p->items++) % f->item_room];
    t->kind = kind;
    t->tag = (uint16_t)tag;
    return 1;
}

/* An item that has come. 0: it does not fit what was said before. */
WEFT_INLINE int weft_frames_take_item(weft_frames *f, uint32_t peer, const unsigned char *p, size_t n) {
    weft_frames_peer *q = &f->peer[peer];
    const unsigned kind = p[0];
    const uint32_t tag = weft_frames_get(p + 1, 2);
    weft_frames_op *op;
    weft_frames_room *r;
    switch (kind) {
    case WEFT_FRAMES_ROOM:
    case WEFT_FRAMES_BACK:
        r = weft_frames_room_of(f, q, tag);
        if (!r || r->count > 65535 || r->count < -65535) return 0;
        r->count += kind == WEFT_FRAMES_ROOM ? 1 : -1;
        return 1;
    case WEFT_FRAMES_BEGIN: {
        const uint32_t length = n >= 7 ? weft_frames_get(p + 3, 4) : 0;
        if (n < 7 || n - 7 > length || weft_frames_first(f, peer, 0, tag, WEFT_FRAMES_OUT)) return 0;
        op = weft_frames_first(f, peer, 0, tag, WEFT_FRAMES_GOES);
        if (!op) return weft_frames_owe(f, q, WEFT_FRAMES_NO, tag);
        op->state = WEFT_FRAMES_OUT;
        op->length = length;
        op->moved = 0;
        p += 7;
        n -= 7;
        break;
    }
    case WEFT_FRAMES_MORE:
        op = weft_frames_first(f, peer, 0, tag, WEFT_FRAMES_OUT);
        if (!op) return 1; /* of a message that was told NO, or whose receive was taken back */
        if (n < 4 || n - 3 > op->length - op->moved) return 0;
        p += 3;
        n -= 3;
        break;
    case WEFT_FRAMES_GIVE_UP:
        op = weft_frames_first(f, peer, 0, tag, WEFT_FRAMES_OUT);
        if (!op) return 1;
        if (!op->orphan)
            op->state = WEFT_FRAMES_GOES; /* it waits for the next one; the sender counts its room again */
        else if (weft_frames_owe(f, q, WEFT_FRAMES_BACK, tag))
            op->used = 0;
        else
            return 0;
        return weft_frames_owe(f, q, WEFT_FRAMES_GONE, tag);
    case WEFT_FRAMES_DONE:
    case WEFT_FRAMES_NO:
    case WEFT_FRAMES_GONE:
        op = weft_frames_first(f, peer, 1, tag, WEFT_FRAMES_VOID);
        if (!op) op = weft_frames_first(f, peer, 1, tag, WEFT_FRAMES_OUT);
        if (!op && kind == WEFT_FRAMES_NO) op = weft_frames_first(f, peer, 1, tag, WEFT_FRAMES_GOES);
        r = weft_frames_room_of(f, q, tag);
        if (!op || !r) return 0;
        if (kind == WEFT_FRAMES_GONE) {
            if (op->state != WEFT_FRAMES_VOID) return 0;
            r->count++;
            weft_frames_finish(op, WEFT_ERR_TRANSPORT);
        } else if (kind == WEFT_FRAMES_DONE) {
            weft_frames_finish(op, WEFT_OK);
        } else if (op->state == WEFT_FRAMES_VOID) {
            weft_frames_finish(op, WEFT_ERR_TRANSPORT);
        } else { /* from the beginning, when there is room; what it has used is taken back by a BACK under way */
            op->state = WEFT_FRAMES_WAITS;
            op->moved = 0;
        }
        if (kind == WEFT_FRAMES_NO) r->count++;
        return 1;
    default: return 0;
    }
    if (op->moved < op->room) {
        const uint64_t left = op->room - op->moved;
        if (n) memcpy(op->at + op->moved, p, (size_t)(n < left ? n : left));
    }
    op->moved += n;
    if (op->moved < op->length) return 1;
    weft_frames_finish(op, op->length > op->room ? WEFT_ERR_TRUNCATED : WEFT_OK);
    return weft_frames_owe(f, q, WEFT_FRAMES_DONE, tag);
}

/* The next item for a frame of `most` bytes; returns its length, or 0: there is none. */
WEFT_INLINE size_t weft_frames_next_item(weft_frames *f, uint32_t peer, unsigned char *p, size_t most) {
    weft_frames_peer *q = &f->peer[peer];
    weft_frames_op *op;
    weft_frames_op *best = NULL;
    uint32_t i;
    size_t n, head;
    if (q->items) {
        const weft_frames_item *t = &q->item[q->item_at];
        p[0] = t->kind;
        weft_frames_put(p + 1, t->tag, 2);
        q->item_at = (q->item_at + 1) % f->item_room;
        q->items--;
        return 3;
    }
    op = weft_frames_first(f, peer, 0, UINT32_MAX, WEFT_FRAMES_WAITS);
    if (op) {
        op->state = WEFT_FRAMES_GOES;
        p[0] = WEFT_FRAMES_ROOM;
        weft_frames_put(p + 1, op->tag, 2);
        return 3;
    }
    /* one that has begun; else the first that may */
    best = weft_frames_first(f, peer, 1, UINT32_MAX, WEFT_FRAMES_GOES);
    for (i = 0; !best && i < f->rooms; i++) {
        if (!q->room[i].used || q->room[i].count <= 0) continue;
        if (weft_frames_first(f, peer, 1, q->room[i].tag, WEFT_FRAMES_OUT) ||
            weft_frames_first(f, peer, 1, q->room[i].tag, WEFT_FRAMES_VOID))
            continue; /* one at a time of a tag */
        op = weft_frames_first(f, peer, 1, q->room[i].tag, WEFT_FRAMES_WAITS);
        if (!op) continue;
        q->room[i].count--;
        op->state = WEFT_FRAMES_GOES;
        op->moved = 0;
        p[0] = WEFT_FRAMES_BEGIN;
        weft_frames_put(p + 1, op->tag, 2);
        weft_frames_put(p + 3, (uint32_t)op->length, 4);
        best = op;
    }
    if (!best) return 0;
    head = op == best ? 7 : 3;
    if (head == 3) {
        p[0] = WEFT_FRAMES_MORE;
        weft_frames_put(p + 1, best->tag, 2);
    }
    n = most - head;
    if (n > best->length - best->moved) n = (size_t)(best->length - best->moved);
    if (n) memcpy(p + head, best->at + best->moved, n);
    best->moved += n;
    if (best->moved == best->length) best->state = WEFT_FRAMES_OUT;
    return head + n;
}

/* ---- Frames ---- */

enum { WEFT_FRAMES_HELLO = 1, WEFT_FRAMES_DATA, WEFT_FRAMES_ACK };

/* Sends what is in f->frame from byte 8 on. */
WEFT_INLINE weft_status weft_frames_emit(weft_frames *f, uint32_t peer, unsigned kind, uint16_t number, size_t bytes) {
    weft_frames_peer *p = &f->peer[peer];
    unsigned char *b = f->frame;
    uint32_t bits = 0, k;
    weft_status s;
    for (k = 1; k < f->desc.window; k++)
        if (p->in[(uint16_t)(p->expected + k) % f->desc.window].bytes) bits |= 1u << (k - 1);
    weft_frames_put(b, kind == WEFT_FRAMES_HELLO ? 0 : weft_frames_session(f, peer), 2);
    weft_frames_put(b + 2, kind | bits << 2, 2);
    weft_frames_put(b + 4, number, 2);
    weft_frames_put(b + 6, p->expected, 2);
    weft_frames_put(b + 8 + bytes, weft_frames_crc(b, 8 + bytes), 2);
    s = f->desc.send(f->desc.ctx, peer, b, WEFT_FRAMES_AROUND + bytes);
    if (s == WEFT_OK) {
        f->frames_sent++;
        if (kind != WEFT_FRAMES_HELLO) p->ack_due = 0;
    }
    return s;
}

/* Says what there is to say to a peer. */
WEFT_INLINE void weft_frames_talk(weft_frames *f, uint32_t peer) {
    weft_frames_peer *p = &f->peer[peer];
    const uint64_t now = f->desc.now(f->desc.ctx);
    uint16_t n;
    if (p->hello_due || !p->up) {
        if (!p->hello_due && now - p->hello_ns < f->desc.retry_ns) return;
        weft_frames_put(f->frame + 8, p->mine, 4);
        weft_frames_put(f->frame + 12, p->known ? p->theirs : 0, 4);
        f->frame[16] = (unsigned char)(p->known | p->up << 1);
        if (weft_frames_emit(f, peer, WEFT_FRAMES_HELLO, 0, 9) != WEFT_OK) return;
        p->hello_due = 0;
        p->hello_ns = now;
        if (!p->up) return;
    }
    for (n = p->base; n != p->next; n++) { /* again */
        weft_frames_slot *s = &p->out[n % f->desc.window];
        if (!s->bytes || now - s->sent_ns < f->desc.retry_ns) continue;
        if (s->tried >= f->desc.tries) {
            weft_frames_lose(f, peer);
            return;
        }
        memcpy(f->frame + 8, s->payload, s->bytes);
        if (weft_frames_emit(f, peer, WEFT_FRAMES_DATA, n, s->bytes) != WEFT_OK) return;
        f->frames_again++;
        s->tried++;
        s->sent_ns = now;
    }
    while ((uint16_t)(p->next - p->base) < f->desc.window) {
        weft_frames_slot *s = &p->out[p->next % f->desc.window];
        size_t used = 0, got, most = f->desc.largest_frame - WEFT_FRAMES_AROUND;
        /* small items share a frame: each but the last is preceded by nothing, since its kind tells its length */
        while (most - used >= 8 && (got = weft_frames_next_item(f, peer, s->payload + used, most - used)) != 0) {
            const unsigned kind = s->payload[used];
            used += got;
            if (kind == WEFT_FRAMES_BEGIN || kind == WEFT_FRAMES_MORE) break; /* they take the rest */
        }
        if (!used) break;
        s->bytes = (uint16_t)used;
        s->tried = 1;
        s->sent_ns = now;
        memcpy(f->frame + 8, s->payload, used);
        /* a link that is busy counts as one that has lost it */
        if (weft_frames_emit(f, peer, WEFT_FRAMES_DATA, p->next++, used) != WEFT_OK) {
            s->sent_ns = now - f->desc.retry_ns;
            return;
        }
    }
    if (p->ack_due) weft_frames_emit(f, peer, WEFT_FRAMES_ACK, 0, 0);
}

/* All items of a frame that was next. 0: nonsense. */
WEFT_INLINE int weft_frames_take_frame(weft_frames *f, uint32_t peer, const unsigned char *p, size_t n) {
    while (n) {
        const size_t m = n >= 3 && (p[0] == WEFT_FRAMES_BEGIN || p[0] == WEFT_FRAMES_MORE) ? n : 3;
        if (n < 3 || !weft_frames_take_item(f, peer, p, m)) return 0;
        p += m;
        n -= m;
    }
    return 1;
}

/* Who is up leaves its session only for a hello that knows of this session's beginning: others may be old. */
WEFT_INLINE void weft_frames_take_hello(weft_frames *f, uint32_t peer, const unsigned char *b, size_t n) {
    weft_frames_peer *p = &f->peer[peer];
    uint32_t theirs;
    int knows_me;
    if (n != 9) return;
    theirs = weft_frames_get(b, 4);
    knows_me = (b[8] & 1) && weft_frames_get(b + 4, 4) == p->mine;
    if (p->up && p->theirs == theirs) {
        p->hello_due |= !(b[8] & 2); /* it waits for this one's */
        return;
    }
    if (p->up && !knows_me) {
        p->hello_due = 1;
        return;
    }
    if (p->up) {
        weft_frames_lose(f, peer);
        knows_me = 0;
    }
    p->known = 1;
    p->theirs = theirs;
    p->hello_due = 1;
    if (knows_me) p->up = p->came = 1;
}

/* A frame from a peer, as it came: of any length and contents, in any order, any number of times. Not to be called from
 * within `send`. */
WEFT_INLINE void weft_frames_arrived(weft_frames *f, uint32_t peer, const void *frame, size_t bytes) {
    const unsigned char *b = (const unsigned char *)frame;
    weft_frames_peer *p;
    uint32_t kind, bits, k;
    uint16_t number, acked, n;
    if (peer >= f->desc.size || peer == f->desc.rank) return;
    p = &f->peer[peer];
    if (bytes < WEFT_FRAMES_AROUND || bytes > f->desc.largest_frame ||
        weft_frames_get(b + bytes - 2, 2) != weft_frames_crc(b, bytes - 2)) {
        f->frames_bad++;
        return;
    }
    kind = weft_frames_get(b + 2, 2) & 3u;
    bits = weft_frames_get(b + 2, 2) >> 2;
    number = (uint16_t)weft_frames_get(b + 4, 2);
    acked = (uint16_t)weft_frames_get(b + 6, 2);
    bytes -= WEFT_FRAMES_AROUND;
    b += 8;
    if (kind == WEFT_FRAMES_HELLO) {
        weft_frames_take_hello(f, peer, b, bytes);
        return;
    }
    if (!p->up || weft_frames_get(b - 8, 2) != weft_frames_session(f, peer)) { /* of a session that is over */
        if (!p->up) p->hello_due = 1;
        return;
    }
    if ((uint16_t)(acked - p->base) <= (uint16_t)(p->next - p->base)) { /* else it is an old one */
        for (n = p->base; n != acked; n++) p->out[n % f->desc.window].bytes = 0;
        p->base = acked;
        for (k = 1; k < f->desc.window; k++)
            if ((bits >> (k - 1) & 1u) && (uint16_t)(acked + k - p->base) < (uint16_t)(p->next - p->base))
                p->out[(uint16_t)(acked + k) % f->desc.window].bytes = 0;
    }
    if (kind != WEFT_FRAMES_DATA) return;
    p->ack_due = 1;
    if ((uint16_t)(number - p->expected) >= f->desc.window || !bytes) return; /* it is here already */
    {
        weft_frames_slot *s = &p->in[number % f->desc.window];
        if (!s->bytes) {
            memcpy(s->payload, b, bytes);
            s->bytes = (uint16_t)bytes;
        }
    }
    for (;;) {
        weft_frames_slot *s = &p->in[p->expected % f->desc.window];
        const size_t m = s->bytes;
        if (!m) return;
        s->bytes = 0;
        p->expected++;
        if (!weft_frames_take_frame(f, peer, s->payload, m)) {
            weft_frames_lose(f, peer);
            p->known = 0;
            return;
        }
    }
}

/* ---- The transport ---- */

/* Drives hellos until peers are there (weft_frames_is_up); callbacks drive everything later on. */
WEFT_INLINE void weft_frames_poll(weft_frames *f) {
    uint32_t i;
    for (i = 0; i < f->desc.size; i++)
        if (i != f->desc.rank) weft_frames_talk(f, i);
}

WEFT_INLINE weft_status weft_frames_post(weft_frames *f, uint32_t peer, uint32_t tag, size_t bytes, weft_request *q,
                                         weft_frames_op **out) {
    uint32_t i;
    q->word[0] = 0;
    if (peer >= f->desc.size || peer == f->desc.rank || tag > 32767 || bytes > UINT32_MAX) return WEFT_ERR_ARGUMENT;
    if (!f->peer[peer].up) return WEFT_ERR_PEER_LOST;
    for (i = 0; i < f->ops; i++) {
        weft_frames_op *op = &f->op[i];
        if (op->used) continue;
        memset(op, 0, sizeof *op);
        op->used = 1;
        op->peer = peer;
        op->tag = tag;
        op->order = f->order++;
        op->room = op->length = bytes;
        q->word[0] = (uintptr_t)op;
        *out = op;
        return WEFT_OK;
    }
    return WEFT_ERR_CAPACITY;
}

WEFT_INLINE weft_status weft_frames_send(void *ctx, uint32_t peer, uint32_t tag, const void *data, size_t bytes,
                                         weft_request *q) {
    weft_frames *f = (weft_frames *)ctx;
    weft_frames_op *op;
    weft_status s = weft_frames_post(f, peer, tag, bytes, q, &op);
    if (s != WEFT_OK) return s;
    op->is_send = 1;
    op->at = (unsigned char *)(uintptr_t)data;
    weft_frames_talk(f, peer);
    return WEFT_OK;
}

WEFT_INLINE weft_status weft_frames_recv(void *ctx, uint32_t peer, uint32_t tag, void *data, size_t capacity,
                                         weft_request *q) {
    weft_frames *f = (weft_frames *)ctx;
    weft_frames_op *op;
    weft_status s = weft_frames_post(f, peer, tag, capacity < UINT32_MAX ? capacity : UINT32_MAX, q, &op);
    if (s != WEFT_OK) return s;
    op->at = (unsigned char *)data;
    weft_frames_talk(f, peer);
    return WEFT_OK;
}

WEFT_INLINE weft_status weft_frames_test(void *ctx, weft_request *q) {
    weft_frames *f = (weft_frames *)ctx;
    weft_frames_op *op = (weft_frames_op *)q->word[0];
    if (!op) return WEFT_ERR_PEER_LOST;
    weft_frames_poll(f);
    if (!op->over) return WEFT_AGAIN;
    q->bytes = op->length;
    q->word[0] = 0;
    op->used = 0;
    return op->status;
}

WEFT_INLINE void weft_frames_cancel(void *ctx, weft_request *q) {
    weft_frames *f = (weft_frames *)ctx;
    weft_frames_op *op = (weft_frames_op *)q->word[0];
    weft_frames_peer *p;
    q->word[0] = 0;
    if (!op) return;
    p = &f->peer[op->peer];
    if (op->over || op->state == WEFT_FRAMES_WAITS) {
        op->used = 0;
    } else if (op->is_send) { /* the buffer is not looked at again */
        if (op->state == WEFT_FRAMES_GOES) weft_frames_owe(f, p, WEFT_FRAMES_GIVE_UP, op->tag);
        op->state = WEFT_FRAMES_VOID;
        op->orphan = 1;
    } else if (op->state == WEFT_FRAMES_GOES) {
        weft_frames_owe(f, p, WEFT_FRAMES_BACK, op->tag);
        op->used = 0;
    } else { /* a message is on its way into it: the rest goes nowhere */
        op->room = 0;
        op->orphan = 1;
    }
}

/* Peers that went (up 0) or came (up 1) since the last time; 0: no news. */
WEFT_INLINE int weft_frames_news(weft_frames *f, uint32_t *rank, int *up) {
    uint32_t i;
    for (i = 0; i < f->desc.size; i++) {
        weft_frames_peer *p = &f->peer[i];
        if (!p->went && !p->came) continue;
        *rank = i;
        *up = !p->went;
        if (p->went)
            p->went = 0;
        else
            p->came = 0;
        return 1;
    }
    return 0;
}

WEFT_INLINE int weft_frames_is_up(const weft_frames *f, uint32_t rank) {
    return f->peer[rank].up;
}

WEFT_INLINE uint64_t weft_frames_now(void *ctx) {
    const weft_frames *f = (const weft_frames *)ctx;
    return f->desc.now(f->desc.ctx);
}

/* NULL: the descriptor is refused, or the memory is too small. */
WEFT_INLINE weft_frames *weft_frames_init(const weft_frames_desc *d, void *memory, size_t bytes, weft_transport *net) {
    unsigned char *base = (unsigned char *)memory;
    weft_frames *f = NULL;
    const size_t need = weft_frames_memory(d);
    if (!need || !memory || bytes < need) return NULL;
    base += (16 - (uintptr_t)base % 16) % 16;
    weft_frames_lay_out(d, base, &f);
    *net = weft_transport_make(f, d->rank, d->size, weft_frames_send, weft_frames_recv, weft_frames_test,
                               weft_frames_cancel, weft_frames_now);
    return f;
}

/* ---- A line of bytes: where frames begin and end (RFC 1055) ---- */

/* A frame as bytes for the line, through `put`. */
WEFT_INLINE void weft_slip_send(const void *frame, size_t bytes, void (*put)(void *ctx, unsigned char byte),
                                void *ctx) {
    const unsigned char *p = (const unsigned char *)frame;
    put(ctx, 0xC0);
    for (; bytes; bytes--, p++) {
        if (*p != 0xC0 && *p != 0xDB) {
            put(ctx, *p);
            continue;
        }
        put(ctx, 0xDB);
        put(ctx, *p == 0xC0 ? 0xDC : 0xDD);
    }
    put(ctx, 0xC0);
}

typedef struct weft_slip {
    unsigned char *frame; /* the caller's, of `room` bytes: the largest frame */
    size_t room, bytes;
    int escaped, spoilt;
} weft_slip;

/* A byte from the line. Not 0: so many bytes are a frame, to be looked at before the next byte. */
WEFT_INLINE size_t weft_slip_byte(weft_slip *s, unsigned char byte) {
    if (byte == 0xC0) {
        const size_t n = s->spoilt || s->escaped ? 0 : s->bytes;
        s->bytes = 0;
        s->escaped = s->spoilt = 0;
        return n;
    }
    if (s->escaped) {
        if (byte != 0xDC && byte != 0xDD) s->spoilt = 1;
        byte = byte == 0xDC ? 0xC0 : 0xDB;
        s->escaped = 0;
    } else if (byte == 0xDB) {
        s->escaped = 1;
        return 0;
    }
    if (s->bytes < s->room)
        s->frame[s->bytes++] = byte;
    else
        s->spoilt = 1;
    return 0;
}

#endif /* WEFT_LINK_H */
