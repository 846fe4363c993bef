/* SPDX-License-Identifier: MIT
 * link.h: links to the neighbours in a graph, each for itself: opened by a handshake, lost and opened again without the
 * others; control messages, and bulk data a piece at a time. */
#include "base.h"
#include "device.h"
#include "transport.h"
#include "wire.h"
#include "trace.h"
/*==== API ====*/

/* What there is between this worker and a neighbour. */
typedef enum weft_link_state {
    WEFT_LINK_DOWN = 0,    /* lost, or never there; X_peer_up opens it */
    WEFT_LINK_OPENING = 1, /* this end has said hello, and waits for an answer */
    WEFT_LINK_UP = 2,
    WEFT_LINK_LEFT = 3 /* the neighbour has said good-bye */
} weft_link_state;
/*==== IMPLEMENTATION ====*/

/* ---- Letters ----
 *
 * Between neighbours that have said hello, control messages have a header of 20 bytes, little-endian, since there are
 * many of them:  0 u16 magic 'wl'  2 u8 wire version, and 128 if the sender is big-endian  3 u8 kind  4 u32 the
 * sender's attempt  8 u32 id  12 u32 count  16 u32 CRC-32C of the sender's rank and the message with this field zero
 * 20 ... payload. HELLO and BYE have the header of wire.h. */
enum { WEFT_LETTER_BYTES = 20 };
#define WEFT_LETTER_MAGIC 0x6C77u

/* ---- The handshake ----
 *
 * Each end numbers its attempts to open the link; a HELLO carries the number of its sender's attempt and the other
 * end's that it answers, or 0. A link is up for an end that has read an answer to its own present attempt. Letters
 * carry the sender's number: what belongs to an attempt that is over is dropped. A HELLO of another attempt, or that
 * answers nothing, on a link that is up, says that the other end begins anew: then so does this one. One that answers
 * an attempt that is over (both ends have begun anew, and each has read what the other said before) is answered. */

enum { WEFT_LINK_LETTERS = 2 };                      /* control messages under way to one neighbour */
enum { WEFT_LINK_REQUESTS = WEFT_LINK_LETTERS + 3 }; /* and a control receive, a bulk send, a bulk receive */
enum { WEFT_LINK_PATIENCE = 8 };                     /* malformed messages after which a link is given up */
enum { WEFT_LINK_AMENDS = 256 };                     /* good letters that make up for one of them */
enum { WEFT_LINK_HELLO = WEFT_KIND_SYNC, WEFT_LINK_LETTER = WEFT_KIND_EXCHANGE, WEFT_LINK_BYE = WEFT_KIND_LEAVE };

typedef struct weft_link {
    uint32_t rank;
    weft_link_state state;
    int in; /* the control receive: WEFT_IN_... */
    int failing, hello_due, bye_due, out_active, in_active;
    uint32_t mine, theirs, answered; /* answered: the attempt of theirs that this end has answered last */
    uint32_t faults, good;
    size_t in_bytes; /* expected of the bulk receive; of one that may be shorter, at most */
    int in_shorter;
    weft_request request, out, bulk;
    unsigned char bytes[WEFT_CONTROL_BYTES];
    weft_header head; /* of the message held */
    weft_letter slot[WEFT_LINK_LETTERS];
} weft_link;

/* The owner. hello: fills in arg0, round and payload of this end's HELLO. up: an answer is here, the link is up unless
 * an error says that it must not be. down: it was up or opening, and is no more. letter: an error says that it is
 * malformed. busy: bulk data that a letter has announced is still to come, so that a good-bye has to wait. They post
 * nothing. Control messages are read whatever bulk data is under way: a hello among them says that it will not come. */
typedef struct weft_link_owner {
    void *self;
    void (*hello)(void *self, uint32_t slot, weft_header *h, unsigned char *payload);
    weft_status (*up)(void *self, uint32_t slot, const weft_header *h, const unsigned char *payload, weft_detail *d);
    void (*down)(void *self, uint32_t slot, int left);
    weft_status (*letter)(void *self, uint32_t slot, const weft_header *h, const unsigned char *payload,
                          weft_detail *d);
    int (*busy)(void *self, uint32_t slot);
} weft_link_owner;

typedef struct weft_links {
    const weft_transport *net;
    weft_link_owner owner;
    weft_link *link; /* one a neighbour */
    uint32_t count, channel;
    uint64_t round;    /* for detail and trace: where the owner is */
    const char *phase; /* likewise */
    int progress, moved;
    weft_status refused;       /* a neighbour runs with other settings: said once by the next verb */
    weft_detail detail, fault; /* fault: why a link was last given up */
    uint64_t faults, lost;
    weft_traffic traffic;
    weft_trace_fn trace;
    void *trace_ctx;
#ifdef WEFT_CUDA
    weft_gpu *gpu; /* computes what is sent; NULL: the processor does */
#endif
} weft_links;

WEFT_FN WEFT_NOINLINE void weft_link_trace(const weft_links *n, weft_event_kind kind, uint32_t peer, uint64_t round,
                                           uint64_t value) {
    weft_event e;
    if (!n->trace) return;
    e.kind = (uint32_t)kind;
    e.rank = n->net->rank;
    e.peer = peer;
    e.round = round;
    e.value = value;
    e.phase = n->phase;
    n->trace(n->trace_ctx, &e);
}

WEFT_FN WEFT_NOINLINE weft_status weft_link_say(weft_links *n, weft_detail *d, weft_status s, uint32_t peer,
                                                const char *field, uint64_t expected, uint64_t got) {
    weft_refuse(d, s, field, expected, got);
    d->peer = peer;
    d->round = n->round;
    d->phase = n->phase;
    return s;
}

/* Takes back what is under way. */
WEFT_FN void weft_link_cancel(weft_links *n, weft_link *l) {
    const weft_transport *t = n->net;
    int i;
    if (l->out_active) t->cancel(t->ctx, &l->out);
    if (l->in_active) t->cancel(t->ctx, &l->bulk);
    if (l->in == WEFT_IN_POSTED) t->cancel(t->ctx, &l->request);
    for (i = 0; i < WEFT_LINK_LETTERS; i++) {
        if (l->slot[i].busy) t->cancel(t->ctx, &l->slot[i].request);
        l->slot[i].busy = 0;
    }
    l->out_active = l->in_active = l->failing = l->hello_due = l->bye_due = 0;
    l->in = WEFT_IN_NONE;
}

/* The link is no more. */
WEFT_FN WEFT_NOINLINE void weft_link_down(weft_links *n, uint32_t slot, int left) {
    weft_link *l = &n->link[slot];
    weft_link_state was = l->state;
    weft_link_cancel(n, l);
    l->state = left ? WEFT_LINK_LEFT : WEFT_LINK_DOWN;
    l->theirs = l->answered = 0;
    n->moved = n->progress = 1;
    if (was != WEFT_LINK_UP && was != WEFT_LINK_OPENING) return;
    n->lost += !left;
    weft_link_trace(n, left ? WEFT_EVENT_PEER_LEFT : WEFT_EVENT_PEER_LOST, l->rank, n->round, 0);
    n->owner.down(n->owner.self, slot, left);
}

WEFT_FN void weft_link_open(weft_links *n, uint32_t slot) {
    weft_link *l = &n->link[slot];
    weft_link_cancel(n, l);
    l->state = WEFT_LINK_OPENING;
    l->theirs = l->answered = 0;
    l->mine += l->mine == UINT32_MAX ? 2u : 1u;
    l->hello_due = 1;
    n->moved = 1;
}

/* What came is not what a neighbour of this library sends. The link begins anew, which tells the other end; if that
 * does not help, it is over, with a good-bye. */
WEFT_FN WEFT_NOINLINE void weft_link_fault(weft_links *n, uint32_t slot, weft_status s, const char *field,
                                           uint64_t expected, uint64_t got) {
    weft_link *l = &n->link[slot];
    weft_link_say(n, &n->fault, s, l->rank, field, expected, got);
    n->faults++;
    l->good = 0;
    weft_link_down(n, slot, 0);
    if (l->faults++ < WEFT_LINK_PATIENCE)
        weft_link_open(n, slot);
    else
        l->bye_due = 1;
}

/* A callback has failed: WEFT_ERR_PEER_LOST, or for a reason of its own, after which the link begins anew. What a lost
 * neighbour sent before it went may still be there to be read: `failing` waits for one more look. */
WEFT_FN void weft_link_error(weft_links *n, uint32_t slot, weft_status s, int reading) {
    n->moved = 1;
    if (n->link[slot].state != WEFT_LINK_UP && n->link[slot].state != WEFT_LINK_OPENING) return; /* it is over */
    if (s != WEFT_ERR_PEER_LOST)
        weft_link_fault(n, slot, WEFT_ERR_TRANSPORT, WEFT_TEXT("status of a callback"), 0, weft_status_value(s));
    else if (reading)
        weft_link_down(n, slot, 0);
    else
        n->link[slot].failing = 1;
}

WEFT_FN uint32_t weft_letter_crc(unsigned char *p, size_t bytes, uint32_t sender) {
    unsigned char rank[4];
    weft_put32(rank, sender);
    weft_put32(p + 16, 0);
    return weft_crc32c(weft_crc32c(0, rank, 4), p, bytes);
}

/* Sends a control message if there is room; WEFT_AGAIN if not. h: of a HELLO or BYE, kind, round, bytes and arg0; of a
 * letter, step (its kind), piece (id) and round (count). The payload is copied. To a link that fails it is lost:
 * WEFT_OK. */
WEFT_FN weft_status weft_link_post(weft_links *n, uint32_t slot, weft_header *h, const void *payload, uint32_t bytes) {
    weft_link *l = &n->link[slot];
    unsigned char *p;
    weft_status s;
    size_t all;
    int i;
    for (i = 0; i < WEFT_LINK_LETTERS && l->slot[i].busy; i++) continue;
    if (i == WEFT_LINK_LETTERS || WEFT_GPU_IS_BROKEN(n)) return WEFT_AGAIN;
    if (l->failing) return WEFT_OK;
    p = l->slot[i].bytes;
    if (h->kind == WEFT_LINK_LETTER) {
        all = WEFT_LETTER_BYTES + bytes;
        if (bytes) memcpy(p + WEFT_LETTER_BYTES, payload, bytes);
        p[0] = WEFT_LETTER_MAGIC & 0xFFu;
        p[1] = WEFT_LETTER_MAGIC >> 8;
        p[2] = (unsigned char)(WEFT_WIRE_VERSION | weft_big_endian() << 7);
        p[3] = (unsigned char)h->step;
        weft_put32(p + 4, l->mine);
        weft_put32(p + 8, h->piece);
        weft_put32(p + 12, (uint32_t)h->round);
        weft_put32(p + 16, weft_letter_crc(p, all, n->net->rank));
    } else {
        h->big_endian = weft_big_endian();
        h->epoch = l->mine;
        h->sender = n->net->rank;
        h->payload = bytes;
        if (bytes) memcpy(p + WEFT_HEADER_BYTES, payload, bytes);
        all = weft_header_write(p, h);
    }
    memset(&l->slot[i].request, 0, sizeof l->slot[i].request);
    s = n->net->send(n->net->ctx, l->rank, n->channel * WEFT_TAGS_PER_CHANNEL, p, all, &l->slot[i].request);
    n->moved = 1;
    if (s < 0) {
        weft_link_error(n, slot, s, 0);
        return WEFT_OK;
    }
    l->slot[i].busy = 1;
    n->progress = 1;
    n->traffic.control_sent += all;
    n->traffic.messages_sent++;
    weft_link_trace(n, WEFT_EVENT_SENT, l->rank, n->round, all);
    return WEFT_OK;
}

/* Reads and checks what has come; *h is only set if all of it holds. */
WEFT_FN weft_status weft_link_read(unsigned char *p, size_t bytes, uint32_t from, weft_header *h, weft_detail *d) {
    uint32_t crc, got;
    if (bytes < WEFT_LETTER_BYTES || p[0] != (WEFT_LETTER_MAGIC & 0xFFu) || p[1] != WEFT_LETTER_MAGIC >> 8) {
        weft_header r;
        weft_status s = weft_header_read(p, bytes, from, &r, d);
        if (s < 0) return s;
        if (r.kind != WEFT_LINK_HELLO && r.kind != WEFT_LINK_BYE)
            return weft_refuse(d, WEFT_ERR_PROTOCOL, WEFT_TEXT("header.kind"), WEFT_LINK_HELLO, r.kind);
        *h = r;
        return WEFT_OK;
    }
    if ((p[2] & 127u) != WEFT_WIRE_VERSION)
        return weft_refuse(d, WEFT_ERR_VERSION, WEFT_TEXT("letter.version"), WEFT_WIRE_VERSION, p[2] & 127u);
    got = weft_get32(p + 16);
    crc = weft_letter_crc(p, bytes, from);
    if (got != crc) return weft_refuse(d, WEFT_ERR_CHECKSUM, WEFT_TEXT("letter.crc"), crc, got);
    memset(h, 0, sizeof *h);
    h->kind = WEFT_LINK_LETTER;
    h->big_endian = p[2] >> 7;
    h->step = p[3];
    h->epoch = weft_get32(p + 4);
    h->sender = from;
    h->piece = weft_get32(p + 8);
    h->round = weft_get32(p + 12);
    h->payload = (uint32_t)(bytes - WEFT_LETTER_BYTES);
    return WEFT_OK;
}

/* The payload of the message held. */
WEFT_FN const unsigned char *weft_link_payload(const weft_link *l) {
    return l->bytes + (l->head.kind == WEFT_LINK_LETTER ? (size_t)WEFT_LETTER_BYTES : (size_t)WEFT_HEADER_BYTES);
}

/* Is a letter free? */
WEFT_FN int weft_link_room(const weft_link *l) {
    int i;
    for (i = 0; i < WEFT_LINK_LETTERS; i++)
        if (!l->slot[i].busy) return 1;
    return 0;
}

WEFT_FN void weft_link_hello(weft_links *n, uint32_t slot) {
    unsigned char payload[WEFT_INLINE_BYTES];
    weft_link *l = &n->link[slot];
    weft_header h;
    memset(&h, 0, sizeof h);
    h.kind = WEFT_LINK_HELLO;
    h.bytes = l->theirs; /* answers this */
    n->owner.hello(n->owner.self, slot, &h, payload);
    if (!weft_link_room(l)) return;
    l->answered = l->theirs;
    l->hello_due = 0; /* if it fails, another one is due */
    weft_link_post(n, slot, &h, payload, h.payload);
}

/* The other end's HELLO. */
WEFT_FN void weft_link_take_hello(weft_links *n, uint32_t slot, const weft_header *h, const unsigned char *payload) {
    weft_link *l = &n->link[slot];
    weft_detail why = weft_detail_none();
    weft_status s;
    if (h->epoch == 0 || h->bytes > UINT32_MAX) {
        weft_link_fault(n, slot, WEFT_ERR_PROTOCOL, WEFT_TEXT("hello"), 1, h->epoch);
        return;
    }
    if (l->state == WEFT_LINK_UP || h->bytes != l->mine) {
        if (l->state == WEFT_LINK_UP) {
            if (h->bytes && h->epoch == l->theirs) return; /* old */
            weft_link_down(n, slot, 0);
            weft_link_open(n, slot);
        }
        l->theirs = h->epoch;
        if (!h->bytes || l->answered != l->theirs) l->hello_due = 1;
        return;
    }
    l->theirs = h->epoch;
    s = n->owner.up(n->owner.self, slot, h, payload, &why);
    if (s == WEFT_ERR_PROTOCOL) {
        weft_link_fault(n, slot, s, why.field, why.expected, why.got);
        return;
    }
    if (s < 0) {
        const int unanswered = l->answered != h->epoch;
        n->refused = weft_link_say(n, &n->fault, s, l->rank, why.field, why.expected, why.got);
        weft_link_down(n, slot, 0);
        l->bye_due = 1;
        if (unanswered) { /* so that the other end sees as well what differs */
            l->theirs = h->epoch;
            l->hello_due = 1;
        }
        return;
    }
    l->state = WEFT_LINK_UP;
    l->hello_due = l->answered != l->theirs;
    n->moved = 1;
}

/* A whole control message is here. 1: on to the next one. A good-bye may have to wait. */
WEFT_FN int weft_link_take(weft_links *n, uint32_t slot) {
    weft_link *l = &n->link[slot];
    const unsigned char *payload = weft_link_payload(l);
    const weft_header *h = &l->head;
    weft_detail why = weft_detail_none();
    weft_status s;
    if (h->kind == WEFT_LINK_HELLO) {
        l->in = WEFT_IN_NONE;
        weft_link_take_hello(n, slot, h, payload);
        return l->state == WEFT_LINK_UP || l->state == WEFT_LINK_OPENING;
    }
    if (h->kind == WEFT_LINK_BYE && h->bytes && l->state == WEFT_LINK_OPENING && h->epoch == l->theirs) {
        weft_link_down(n, slot, 0); /* it has thought better of it */
        return 0;
    }
    if (l->state != WEFT_LINK_UP || h->epoch != l->theirs) {
        n->traffic.dropped++;
        l->in = WEFT_IN_NONE;
        return 1;
    }
    if (h->kind == WEFT_LINK_BYE) { /* with `bytes`: from a link that was given up, and nothing more comes */
        if (!h->bytes && n->owner.busy(n->owner.self, slot)) return 0;
        weft_link_down(n, slot, !h->bytes);
        return 0;
    }
    l->in = WEFT_IN_NONE;
    s = n->owner.letter(n->owner.self, slot, h, payload, &why);
    if (s < 0) {
        weft_link_fault(n, slot, s, why.field, why.expected, why.got);
        return 0;
    }
    if (l->faults && ++l->good == WEFT_LINK_AMENDS) {
        l->faults--;
        l->good = 0;
    }
    return 1;
}

/* Reads what has come, as far as it can be taken now. The bound keeps a flood from one neighbour from starving the
 * host. */
WEFT_FN void weft_link_receive(weft_links *n, uint32_t slot) {
    weft_link *l = &n->link[slot];
    const weft_transport *t = n->net;
    weft_detail why;
    weft_status s;
    int bound;
    for (bound = 0; bound < 64; bound++) {
        if (l->state != WEFT_LINK_UP && l->state != WEFT_LINK_OPENING) return;
        if (l->in == WEFT_IN_HELD && !weft_link_take(n, slot)) return;
        if (l->in == WEFT_IN_NONE) {
            memset(&l->request, 0, sizeof l->request);
            s = t->recv(t->ctx, l->rank, n->channel * WEFT_TAGS_PER_CHANNEL, l->bytes, WEFT_CONTROL_BYTES, &l->request);
            if (s < 0) {
                weft_link_error(n, slot, s, 1);
                return;
            }
            l->in = WEFT_IN_POSTED;
        }
        s = t->test(t->ctx, &l->request);
        if (s == WEFT_AGAIN) return;
        l->in = WEFT_IN_NONE;
        n->moved = n->progress = 1;
        if (s == WEFT_ERR_TRUNCATED) {
            weft_link_fault(n, slot, WEFT_ERR_PROTOCOL, WEFT_TEXT("length"), WEFT_CONTROL_BYTES, l->request.bytes);
            return;
        }
        if (s < 0) {
            weft_link_error(n, slot, s, 1);
            return;
        }
        n->traffic.messages_received++;
        n->traffic.control_received += l->request.bytes;
        weft_link_trace(n, WEFT_EVENT_RECEIVED, l->rank, n->round, l->request.bytes);
        why = weft_detail_none();
        s = weft_link_read(l->bytes, l->request.bytes > SIZE_MAX ? 0 : (size_t)l->request.bytes, l->rank, &l->head,
                           &why);
        if (s < 0) {
            weft_link_fault(n, slot, s, why.field, why.expected, why.got);
            return;
        }
        l->in = WEFT_IN_HELD;
        if (!weft_link_take(n, slot)) return;
    }
    n->moved = 1; /* there may be more */
}

/* Whatever can move on a link without waiting, but for bulk data. */
WEFT_FN void weft_link_pump(weft_links *n, uint32_t slot) {
    weft_link *l = &n->link[slot];
    weft_header h;
    weft_status s;
    int i;
    weft_link_receive(n, slot);
    for (i = 0; i < WEFT_LINK_LETTERS; i++) {
        if (!l->slot[i].busy || (s = n->net->test(n->net->ctx, &l->slot[i].request)) == WEFT_AGAIN) continue;
        l->slot[i].busy = 0;
        n->moved = n->progress = 1;
        if (s < 0 && l->state != WEFT_LINK_DOWN) weft_link_error(n, slot, s, 0);
    }
    if (l->failing) {
        weft_link_receive(n, slot);
        if (l->failing) weft_link_down(n, slot, 0);
    }
    if (l->hello_due) weft_link_hello(n, slot);
    if (l->bye_due) {
        memset(&h, 0, sizeof h);
        h.kind = WEFT_LINK_BYE;
        h.bytes = l->state == WEFT_LINK_DOWN;
        if (weft_link_post(n, slot, &h, NULL, 0) == WEFT_OK) l->bye_due = l->failing = 0;
    }
}

/* ---- Bulk data: one piece at a time in each direction ----
 *
 * Each attempt has a tag of its own, so that what an older one left in the network is never taken for this one's. */
WEFT_FN uint32_t weft_link_tag(const weft_links *n, const weft_link *l) {
    return n->channel * WEFT_TAGS_PER_CHANNEL + 1u + (l->mine + l->theirs) % (WEFT_TAGS_PER_CHANNEL - 1u);
}

WEFT_FN void weft_link_send(weft_links *n, uint32_t slot, const void *data, size_t bytes) {
    weft_link *l = &n->link[slot];
    weft_status s;
    if (l->failing || l->state != WEFT_LINK_UP || WEFT_GPU_IS_BROKEN(n)) return;
    memset(&l->out, 0, sizeof l->out);
    s = n->net->send(n->net->ctx, l->rank, weft_link_tag(n, l), data, bytes, &l->out);
    n->moved = 1;
    if (s < 0) {
        weft_link_error(n, slot, s, 0);
        return;
    }
    l->out_active = 1;
    n->traffic.payload_sent += bytes;
    n->traffic.messages_sent++;
    weft_link_trace(n, WEFT_EVENT_SENT, l->rank, n->round, bytes);
}

/* Is the piece gone (or the link)? */
WEFT_FN int weft_link_sent(weft_links *n, uint32_t slot) {
    weft_link *l = &n->link[slot];
    weft_status s;
    if (!l->out_active) return 1;
    s = n->net->test(n->net->ctx, &l->out);
    if (s == WEFT_AGAIN) return 0;
    l->out_active = 0;
    n->moved = n->progress = 1;
    if (s < 0) weft_link_error(n, slot, s, 0);
    return 1;
}

/* Whoever sets in_shorter after this takes any length up to `bytes`, and finds it in in_bytes. */
WEFT_FN void weft_link_fetch(weft_links *n, uint32_t slot, void *into, size_t bytes) {
    weft_link *l = &n->link[slot];
    weft_status s;
    memset(&l->bulk, 0, sizeof l->bulk);
    l->in_bytes = bytes;
    l->in_shorter = 0;
    s = n->net->recv(n->net->ctx, l->rank, weft_link_tag(n, l), into, bytes, &l->bulk);
    if (s < 0)
        weft_link_error(n, slot, s, 1);
    else
        l->in_active = 1;
}

/* WEFT_OK: the piece is here; WEFT_AGAIN: not yet; an error: the link is down. */
WEFT_FN weft_status weft_link_fetched(weft_links *n, uint32_t slot) {
    weft_link *l = &n->link[slot];
    weft_status s;
    if (!l->in_active) return WEFT_ERR_PEER_LOST;
    s = n->net->test(n->net->ctx, &l->bulk);
    if (s == WEFT_AGAIN) return s;
    l->in_active = 0;
    n->moved = n->progress = 1;
    if (s == WEFT_OK && l->in_shorter && l->bulk.bytes < l->in_bytes) l->in_bytes = (size_t)l->bulk.bytes;
    if (s == WEFT_ERR_TRUNCATED || (s == WEFT_OK && l->bulk.bytes != l->in_bytes)) {
        weft_link_fault(n, slot, WEFT_ERR_PROTOCOL, WEFT_TEXT("bulk length"), l->in_bytes, l->bulk.bytes);
        return WEFT_ERR_PROTOCOL;
    }
    if (s < 0) {
        weft_link_error(n, slot, s, 1);
        return s;
    }
    n->traffic.payload_received += l->in_bytes;
    n->traffic.messages_received++;
    weft_link_trace(n, WEFT_EVENT_RECEIVED, l->rank, n->round, l->in_bytes);
    return WEFT_OK;
}

/* Are all control messages gone, but for those to whom this end has given up? Those may not be listening any more. */
WEFT_FN int weft_links_flushed(const weft_links *n) {
    uint32_t k;
    int i;
    for (k = 0; k < n->count; k++)
        for (i = 0; i < WEFT_LINK_LETTERS; i++)
            if (n->link[k].slot[i].busy && n->link[k].state != WEFT_LINK_DOWN) return 0;
    return 1;
}

WEFT_FN void weft_links_close(weft_links *n) {
    uint32_t k;
    for (k = 0; k < n->count; k++) {
        weft_link_cancel(n, &n->link[k]);
        n->link[k].state = WEFT_LINK_DOWN;
    }
    WEFT_GPU_SETTLE(*n); /* nothing is left to be done in memory that goes back to the host */
}
