/* SPDX-License-Identifier: MIT
 * weft_recorder.h: a flight recorder. The last events of a worker, in memory of the caller's, for the moment when
 * something is wrong: a report of who is awaited and since when, and a file for a look at the whole.
 *
 *     static weft_record ring[4096];
 *     weft_recorder box;
 *     weft_recorder_init(&box, ring, 4096, &net);          // after the transport is there: it has the clock
 *     d.trace = weft_recorder_event;  d.trace_ctx = &box;  // in any descriptor
 *     ...
 *     if (s == WEFT_ERR_TIMEOUT) weft_recorder_report(&box, stderr);
 *     weft_recorder_write(&box, file);                     // a line an event
 *
 *     build/trace2json worker-*.trace > run.json           // for chrome://tracing, Perfetto
 *
 * An event costs a call of the transport's clock and 48 bytes written. Include this file after one of the weft
 * headers. */
#ifndef WEFT_RECORDER_H
#define WEFT_RECORDER_H

#ifndef WEFT_VERSION
#error "include a weft header (grawa.h, ...) before weft_recorder.h"
#endif

#include <stdio.h>
#include <string.h>

typedef struct weft_record {
    uint64_t at_ns; /* on the transport's clock; 0 where it has none */
    weft_event event;
} weft_record;

typedef struct weft_recorder {
    weft_record *ring;
    size_t room;
    uint64_t count; /* events so far: the last `room` of them are there */
    const weft_transport *net;
} weft_recorder;

WEFT_INLINE void weft_recorder_init(weft_recorder *b, weft_record *ring, size_t room, const weft_transport *net) {
    b->ring = ring;
    b->room = room;
    b->count = 0;
    b->net = net;
}

/* A weft_trace_fn. */
WEFT_INLINE void weft_recorder_event(void *ctx, const weft_event *event) {
    weft_recorder *b = (weft_recorder *)ctx;
    weft_record *r;
    if (!b->room) return;
    r = &b->ring[b->count++ % b->room];
    r->at_ns = b->net && b->net->now ? b->net->now(b->net->ctx) : 0;
    r->event = *event;
}

/* The i-th of the events that are there, the oldest being 0; NULL: there are not so many. */
WEFT_INLINE const weft_record *weft_recorder_at(const weft_recorder *b, uint64_t i) {
    const uint64_t there = b->count < b->room ? b->count : b->room;
    return i < there ? &b->ring[(b->count - there + i) % b->room] : NULL;
}

WEFT_INLINE const char *weft_recorder_name(uint32_t kind) {
    switch (kind) {
    case WEFT_EVENT_ROUND_BEGUN: return "begun";
    case WEFT_EVENT_SENT: return "sent";
    case WEFT_EVENT_RECEIVED: return "received";
    case WEFT_EVENT_COMMITTED: return "committed";
    case WEFT_EVENT_ABANDONED: return "abandoned";
    case WEFT_EVENT_PEER_LOST: return "lost";
    case WEFT_EVENT_PEER_LEFT: return "left";
    case WEFT_EVENT_VIEW: return "view";
    }
    return "?";
}

/* What the worker was doing at an event; never NULL. */
WEFT_INLINE const char *weft_recorder_phase(const weft_record *r) {
    return r->event.phase ? r->event.phase : "";
}

/* A line an event: nanoseconds, rank, what, peer (- for none), round, value, and what the worker was doing. If there
 * were more than the ring has room for, a line says first how many have gone. Returns 0 if the file cannot be
 * written. */
WEFT_INLINE int weft_recorder_write(const weft_recorder *b, FILE *out) {
    const weft_record *r;
    uint64_t i;
    if (b->count > b->room)
        fprintf(out, "# rank %lu: %llu earlier events are gone\n", (unsigned long)(b->net ? b->net->rank : 0),
                (unsigned long long)(b->count - b->room));
    for (i = 0; (r = weft_recorder_at(b, i)) != NULL; i++) {
        char peer[16] = "-";
        if (r->event.peer != WEFT_NO_RANK) snprintf(peer, sizeof peer, "%lu", (unsigned long)r->event.peer);
        fprintf(out, "%llu %lu %s %s %llu %llu%s%s\n", (unsigned long long)r->at_ns, (unsigned long)r->event.rank,
                weft_recorder_name(r->event.kind), peer, (unsigned long long)r->event.round,
                (unsigned long long)r->event.value, *weft_recorder_phase(r) ? " " : "", weft_recorder_phase(r));
    }
    return fflush(out) == 0 && !ferror(out);
}

/* The newest event of a peer (WEFT_NO_RANK: of any) that is of one of these kinds (bits), or NULL. */
WEFT_INLINE const weft_record *weft_recorder_last(const weft_recorder *b, uint32_t peer, unsigned kinds) {
    uint64_t i = b->count < b->room ? b->count : b->room;
    while (i-- > 0) {
        const weft_record *r = weft_recorder_at(b, i);
        if ((peer == WEFT_NO_RANK || r->event.peer == peer) && kinds >> r->event.kind & 1u) return r;
    }
    return NULL;
}

/* Who is awaited? A line for this worker: its round, what it is doing, and since when it has been doing so. And one for
 * each of the others that it has heard of or written to: what came last, in which round and phase, and how long ago;
 * marked if nothing has come since the present phase began. A phase begins at the first event that names it: a worker
 * that has nothing to say in it is taken to be in the last one still. */
WEFT_INLINE void weft_recorder_report(const weft_recorder *b, FILE *out) {
    const uint64_t now = b->net && b->net->now ? b->net->now(b->net->ctx) : 0;
    const uint32_t size = b->net ? b->net->size : 0, me = b->net ? b->net->rank : 0;
    const weft_record *last = weft_recorder_last(b, WEFT_NO_RANK, ~0u), *r;
    uint64_t i = b->count < b->room ? b->count : b->room, since = last ? last->at_ns : 0;
    uint32_t peer;
    fprintf(out, "worker %lu of %lu: ", (unsigned long)me, (unsigned long)size);
    if (!last) {
        fprintf(out, "nothing has happened\n");
        return;
    }
    while (i-- > 0 && (r = weft_recorder_at(b, i)) != NULL && r->event.round == last->event.round &&
           strcmp(weft_recorder_phase(r), weft_recorder_phase(last)) == 0)
        since = r->at_ns;
    fprintf(out, "round %llu, %s since %.6f s\n", (unsigned long long)last->event.round, weft_recorder_phase(last),
            (double)(now - since) * 1e-9);
    for (peer = 0; peer < size; peer++) {
        const weft_record *came = weft_recorder_last(b, peer, 1u << WEFT_EVENT_RECEIVED);
        const weft_record *went = weft_recorder_last(b, peer, 1u << WEFT_EVENT_SENT);
        const weft_record *fate = weft_recorder_last(b, peer, 1u << WEFT_EVENT_PEER_LOST | 1u << WEFT_EVENT_PEER_LEFT);
        if (peer == me || (!came && !went && !fate)) continue;
        fprintf(out, "  peer %lu: ", (unsigned long)peer);
        if (fate && (!came || fate->at_ns >= came->at_ns)) {
            fprintf(out, "%s in round %llu, %s, %.6f s ago\n", weft_recorder_name(fate->event.kind),
                    (unsigned long long)fate->event.round, weft_recorder_phase(fate),
                    (double)(now - fate->at_ns) * 1e-9);
            continue;
        }
        if (came)
            fprintf(out, "last heard of in round %llu, %s, %.6f s ago", (unsigned long long)came->event.round,
                    weft_recorder_phase(came), (double)(now - came->at_ns) * 1e-9);
        else
            fprintf(out, "never heard of");
        if (went)
            fprintf(out, "; last sent to in round %llu, %s, %.6f s ago", (unsigned long long)went->event.round,
                    weft_recorder_phase(went), (double)(now - went->at_ns) * 1e-9);
        fprintf(out, "%s\n", came && came->at_ns >= since ? "" : "; nothing in this phase");
    }
}

#endif /* WEFT_RECORDER_H */
