/* SPDX-License-Identifier: MIT
 * group.h: the workers that learn together: views, the fingerprint, control messages, and exchanges of data between
 * members. */
#include "base.h"
#include "tensor.h"
#include "transport.h"
#include "wire.h"
#include "device.h"
#include "trace.h"
/*==== API ====*/

/* Who takes part. Given by the host: the same on all members, with a higher epoch than any view before. `members`
 * are the ranks in ascending order; this worker is one of them. Messages of other epochs are dropped and counted. */
typedef struct weft_view {
    size_t struct_size; /* sizeof(weft_view) */
    uint32_t epoch;
    uint32_t count;
    const uint32_t *members;
} weft_view;
/*==== IMPLEMENTATION ====*/

/* ---- Ranges: where the bytes of an exchange are, without flattening the host's tensors ----
 *
 * A map gives every tensor a position in a "mirror", one flat buffer in which all tensors stand one after the other
 * at multiples of 64 bytes. Positions name the same elements on every worker, whether they lie in the host's tensors
 * or in a mirror. */
typedef struct weft_map {
    const weft_tensor *tensor;
    size_t count;
    size_t *position; /* count + 1 */
#ifdef WEFT_CUDA
    weft_gpu *gpu; /* NULL: mirrors and tensors are host memory */
#endif
} weft_map;

WEFT_FN size_t weft_map_bytes(const weft_map *m) {
    return m->position[m->count];
}

WEFT_FN void weft_map_init(weft_map *m, const weft_tensors *t, size_t *position) {
    size_t i, at = 0;
    m->tensor = t->tensor;
    m->count = t->count;
    m->position = position;
    for (i = 0; i < t->count; i++) {
        position[i] = at;
        at += (t->tensor[i].count * weft_dtype_bytes(t->tensor[i].dtype) + WEFT_ALIGNMENT - 1) / WEFT_ALIGNMENT *
              WEFT_ALIGNMENT;
    }
    position[i] = at;
}

/* The bytes of a mirror for these tensors; 0 in *ok on overflow. */
WEFT_FN size_t weft_map_measure(const weft_tensors *t, int *ok) {
    size_t i, at = 0;
    for (i = 0; i < t->count; i++) {
        size_t bytes = t->tensor[i].count * weft_dtype_bytes(t->tensor[i].dtype); /* checked by weft_tensors_check */
        if (!weft_add_size(at, (bytes + WEFT_ALIGNMENT - 1) / WEFT_ALIGNMENT * WEFT_ALIGNMENT, &at)) *ok = 0;
    }
    return at;
}

typedef struct weft_range {
    const weft_map *map;       /* NULL: raw bytes at base, elements of `each` bytes */
    const weft_tensor *tensor; /* with a map: the host's tensors, if base is NULL */
    unsigned char *base;       /* mirror memory holding position `origin` first */
    size_t origin, lo, hi, each;
    size_t at, index;    /* cursor */
    unsigned char *then; /* a mirror whose positions [then_lo, then_hi) follow; NULL: nothing does */
    size_t then_lo, then_hi;
} weft_range;

WEFT_FN WEFT_NOINLINE weft_range weft_range_raw(void *base, size_t bytes, size_t each) {
    weft_range r;
    memset(&r, 0, sizeof r);
    r.base = (unsigned char *)base;
    r.hi = bytes;
    r.each = each;
    return r;
}

WEFT_FN WEFT_NOINLINE weft_range weft_range_map(const weft_map *map, const weft_tensor *tensor, unsigned char *base,
                                                size_t origin, size_t lo, size_t hi) {
    weft_range r;
    size_t end = map->count;
    memset(&r, 0, sizeof r);
    while (r.index < end) { /* the first tensor that is not wholly before: there may be many */
        const size_t middle = r.index + (end - r.index) / 2;
        if (map->position[middle + 1] <= lo)
            r.index = middle + 1;
        else
            end = middle;
    }
    r.map = map;
    r.tensor = tensor;
    r.base = base;
    r.origin = origin;
    r.lo = lo;
    r.hi = hi;
    r.at = lo;
    return r;
}

/* The next contiguous piece of at most `limit` bytes; 0 at the end. *each: bytes of one element; *which: the tensor. */
WEFT_FN size_t weft_range_next(weft_range *r, size_t limit, unsigned char **p, size_t *each, size_t *which) {
    size_t bytes;
    limit = limit / WEFT_ALIGNMENT * WEFT_ALIGNMENT;
    *which = 0;
    if (!r->map) {
        bytes = r->hi - r->at < limit ? r->hi - r->at : limit;
        *p = bytes ? r->base + r->at : r->base;
        *each = r->each;
        r->at += bytes;
        return bytes;
    }
    for (;;) {
        for (; r->index < r->map->count; r->index++) {
            const weft_tensor *t = &r->map->tensor[r->index];
            size_t start = r->map->position[r->index], end = start + t->count * weft_dtype_bytes(t->dtype);
            if (end > r->hi) end = r->hi;
            if (r->at < start) r->at = start;
            if (r->at >= end) continue;
            bytes = end - r->at < limit ? end - r->at : limit;
            *p = r->base ? r->base + (r->at - r->origin) : (unsigned char *)r->tensor[r->index].data + (r->at - start);
            *each = weft_dtype_bytes(t->dtype);
            *which = r->index;
            r->at += bytes;
            return bytes;
        }
        if (!r->then) return 0;
        r->base = r->then;
        r->then = NULL;
        r->origin = r->index = 0;
        r->at = r->then_lo;
        r->hi = r->then_hi;
    }
}

WEFT_FN uint64_t weft_range_bytes(weft_range r) {
    unsigned char *p;
    size_t each, which, bytes;
    uint64_t total = 0;
    while ((bytes = weft_range_next(&r, SIZE_MAX, &p, &each, &which)) != 0) total += bytes;
    return total;
}

/* ---- Members and their links ---- */

enum { WEFT_LETTERS = 4 };                          /* control messages under way to one peer */
enum { WEFT_REQUESTS_PER_PEER = WEFT_LETTERS + 3 }; /* and a control receive, a bulk send, a bulk receive */
enum { WEFT_FLOW_DONE = 0, WEFT_FLOW_WAITING = 1, WEFT_FLOW_BULK = 2 };

typedef struct weft_flow {
    int state, active; /* active: the request is with the transport */
    weft_range range;
    weft_request request;
    unsigned char *piece; /* of the request under way */
    size_t piece_bytes, piece_each, piece_limit;
} weft_flow;

typedef struct weft_peer {
    int member, lost, left, control; /* control: WEFT_IN_... */
    int told;                        /* this worker's good-bye is on its way to it */
    int swap;                        /* the message being received is of the other byte order */
    weft_request request;            /* of the control receive */
    unsigned char bytes[WEFT_CONTROL_BYTES];
    weft_header head; /* of the message held */
    weft_letter slot[WEFT_LETTERS];
    weft_flow out, in;
    uint64_t out_arg, in_arg; /* argument 0 of the exchange */
} weft_peer;

typedef struct weft_group weft_group;

/* What the owner says to a control message of its own kind: taken, keep it for later, or an error. */
typedef weft_status (*weft_control_fn)(void *owner, uint32_t from, const weft_header *h, const unsigned char *payload);

struct weft_group {
    const weft_transport *net;
    uint32_t channel, epoch, members, here; /* here: index of this worker among the members */
    uint32_t *member;                       /* ascending ranks */
    weft_peer *peer;                        /* one a rank */
    weft_control_fn on_control;
    void *owner;
    uint32_t kind, step; /* of the exchange under way, or last */
    uint64_t round;
    int exchanging, synced, may_leave; /* may_leave: a good-bye is taken now */
    int hearing;                       /* a lost peer's last words are being read */
    int busy;                          /* a verb runs: re-entry is refused */
    int progress;                      /* something has moved since the deadline was looked at */
    uint64_t timeout_ns, since_ns;
    int timing;
    weft_status failed; /* sticky until the next view */
    const char *phase;
    uint64_t phase_round;       /* for detail: the round that the owner is in */
    weft_detail detail, broken; /* broken: of `failed` */
    weft_traffic traffic;
    weft_trace_fn trace;
    void *trace_ctx;
#ifdef WEFT_CUDA
    weft_gpu *gpu; /* computes what is sent; NULL: the processor does */
#endif
};

WEFT_FN void weft_group_layout(weft_layout *l, uint32_t size, weft_peer **peer, uint32_t **member) {
    *peer = (weft_peer *)weft_layout_take(l, WEFT_TEXT("links, one a worker"), size, sizeof(weft_peer));
    *member = (uint32_t *)weft_layout_take(l, WEFT_TEXT("members"), size, sizeof(uint32_t));
}

WEFT_FN WEFT_NOINLINE void weft_group_trace(const weft_group *g, weft_event_kind kind, uint32_t peer, uint64_t round,
                                            uint64_t value) {
    weft_event e;
    if (!g->trace) return;
    e.kind = (uint32_t)kind;
    e.rank = g->net->rank;
    e.peer = peer;
    e.round = round;
    e.value = value;
    e.phase = g->phase;
    g->trace(g->trace_ctx, &e);
}

/* Records an error with its place. */
WEFT_FN WEFT_NOINLINE weft_status weft_group_fail(weft_group *g, weft_status status, uint32_t peer, const char *field,
                                                  uint64_t expected, uint64_t got) {
    g->detail.status = status;
    g->detail.peer = peer;
    g->detail.round = g->phase_round;
    g->detail.phase = g->phase;
    g->detail.field = field;
    g->detail.expected = expected;
    g->detail.got = got;
    return status;
}

/* An error after which the messages of this view can no longer be trusted to match: only a new view helps. */
WEFT_FN WEFT_NOINLINE weft_status weft_group_break(weft_group *g, weft_status status, uint32_t peer, const char *field,
                                                   uint64_t expected, uint64_t got) {
    weft_group_fail(g, status, peer, field, expected, got);
    g->broken = g->detail;
    g->failed = status;
    return status;
}

WEFT_FN weft_status weft_view_check(const weft_view *v, const weft_transport *net, weft_detail *d) {
    uint32_t i, found = 0;
    if (v->struct_size != sizeof *v)
        return weft_refuse(d, WEFT_ERR_ABI, WEFT_TEXT("view.struct_size"), sizeof *v, v->struct_size);
    if (v->count == 0 || v->count > net->size || !v->members)
        return weft_refuse(d, WEFT_ERR_ARGUMENT, WEFT_TEXT("view.count"), net->size, v->count);
    for (i = 0; i < v->count; i++) {
        if (v->members[i] >= net->size || (i && v->members[i] <= v->members[i - 1]))
            return weft_refuse(d, WEFT_ERR_ARGUMENT, WEFT_TEXT("view.members (ascending ranks)"), net->size - 1,
                               v->members[i]);
        if (v->members[i] == net->rank) found = 1;
    }
    if (!found) return weft_refuse(d, WEFT_ERR_ARGUMENT, WEFT_TEXT("view.members (without this rank)"), net->rank, 0);
    return WEFT_OK;
}

/* Is this a view that may follow the present one? Changes nothing. */
WEFT_FN weft_status weft_group_check_view(weft_group *g, const weft_view *v) {
    weft_status s;
    uint32_t i;
    if (!v) return weft_group_fail(g, WEFT_ERR_ARGUMENT, WEFT_NO_RANK, WEFT_TEXT("view"), 1, 0);
    if ((s = weft_view_check(v, g->net, &g->detail)) != WEFT_OK) return s;
    if (v->epoch <= g->epoch)
        return weft_group_fail(g, WEFT_ERR_ARGUMENT, WEFT_NO_RANK, WEFT_TEXT("view.epoch"), (uint64_t)g->epoch + 1,
                               v->epoch);
    for (i = 0; i < v->count; i++)
        if (g->peer[v->members[i]].lost || g->peer[v->members[i]].left)
            return weft_group_fail(g, WEFT_ERR_PEER_LOST, v->members[i],
                                   g->peer[v->members[i]].left ? WEFT_TEXT("view.members (left)")
                                                               : WEFT_TEXT("view.members"),
                                   0, v->members[i]);
    return WEFT_OK;
}

/* Takes back from the transport whatever is under way with a peer: all of it, or only what touches the host's
 * memory. */
WEFT_FN void weft_peer_cancel(weft_group *g, weft_peer *p, int all) {
    int i;
    if (p->out.active) g->net->cancel(g->net->ctx, &p->out.request);
    if (p->in.active) g->net->cancel(g->net->ctx, &p->in.request);
    p->out.active = p->in.active = 0;
    p->out.state = p->in.state = WEFT_FLOW_DONE;
    if (!all) return;
    for (i = 0; i < WEFT_LETTERS; i++)
        if (p->slot[i].busy) {
            g->net->cancel(g->net->ctx, &p->slot[i].request);
            p->slot[i].busy = 0;
        }
    if (p->control == WEFT_IN_POSTED) g->net->cancel(g->net->ctx, &p->request);
    p->control = WEFT_IN_NONE;
}

/* Takes up a view (checked by the caller). Old control messages stay under way: they are dropped by their epoch. */
WEFT_FN void weft_group_set_view(weft_group *g, const weft_view *v) {
    uint32_t r, i;
    for (r = 0; r < g->net->size; r++) g->peer[r].member = g->peer[r].told = 0;
    for (i = 0; i < v->count; i++) {
        g->member[i] = v->members[i];
        g->peer[v->members[i]].member = 1;
        if (v->members[i] == g->net->rank) g->here = i;
    }
    for (r = 0; r < g->net->size; r++) weft_peer_cancel(g, &g->peer[r], !g->peer[r].member || g->peer[r].lost);
    g->members = v->count;
    g->epoch = v->epoch;
    g->exchanging = g->synced = 0;
    g->round = 0;
    g->step = 0;
    g->failed = WEFT_OK;
    g->timing = 0;
}

/* A worker has said good-bye, at a point where all others hear it before they need it again. */
WEFT_FN void weft_group_remove(weft_group *g, uint32_t rank) {
    uint32_t i, n = 0;
    weft_peer_cancel(g, &g->peer[rank], 1);
    g->peer[rank].left = 1;
    g->peer[rank].member = 0;
    for (i = 0; i < g->members; i++)
        if (g->member[i] != rank) g->member[n++] = g->member[i];
    g->members = n;
    for (i = 0; i < n; i++)
        if (g->member[i] == g->net->rank) g->here = i;
    weft_group_trace(g, WEFT_EVENT_PEER_LEFT, rank, g->phase_round, n);
}

WEFT_FN weft_status weft_group_lose(weft_group *g, uint32_t rank) {
    weft_peer *p = &g->peer[rank];
    /* whoever is back before its loss is noticed may have said its first word: for a view that is still to come */
    const int later = p->control == WEFT_IN_HELD && p->head.epoch > g->epoch;
    /* Whoever has been told good-bye is needed for nothing any more. It may have heard everybody's, said none of its
     * own, and ended; and if it did not live to hear it, the others settle that among themselves. */
    if (p->member && p->told) {
        weft_group_remove(g, rank);
        return WEFT_OK;
    }
    if (!p->lost) weft_group_trace(g, WEFT_EVENT_PEER_LOST, rank, g->phase_round, 0);
    p->lost = 1;
    weft_peer_cancel(g, p, 1);
    if (later) p->control = WEFT_IN_HELD;
    if (!p->member) return WEFT_OK;
    return weft_group_break(g, WEFT_ERR_PEER_LOST, rank, NULL, 0, 0);
}

WEFT_FN int weft_group_last_words(weft_group *g, uint32_t rank);

/* What a callback's error means. WEFT_OK: nothing, the peer has said good-bye and its link may close. */
WEFT_FN weft_status weft_group_error(weft_group *g, uint32_t rank, weft_status s, uint64_t expected, uint64_t got) {
    if (s == WEFT_ERR_PEER_LOST) return weft_group_last_words(g, rank) ? WEFT_OK : weft_group_lose(g, rank);
    if (s == WEFT_ERR_TRUNCATED)
        return weft_group_break(g, WEFT_ERR_PROTOCOL, rank, WEFT_TEXT("length"), expected, got);
    return weft_group_break(g, WEFT_ERR_TRANSPORT, rank, WEFT_TEXT("status of a callback"), 0, weft_status_value(s));
}

#ifdef WEFT_CUDA
/* Nothing that a GPU has failed to compute is told to anybody. */
WEFT_FN weft_status weft_group_device(weft_group *g) {
    if (!g->gpu || g->gpu->failed == WEFT_OK) return WEFT_OK;
    return weft_group_break(g, g->gpu->failed, WEFT_NO_RANK, WEFT_TEXT("cuda"), 0, (uint64_t)g->gpu->device.error);
}
#endif

/* Sends a control message if a slot is free; WEFT_AGAIN if not. `payload` bytes are copied from `data`. */
WEFT_FN weft_status weft_group_post(weft_group *g, uint32_t rank, weft_header *h, const void *data, uint32_t payload) {
    weft_peer *p = &g->peer[rank];
    weft_status s;
    size_t bytes;
    int i;
    if ((s = WEFT_GPU_BREAKS_GROUP(g)) < 0) return s;
    for (i = 0; i < WEFT_LETTERS && p->slot[i].busy; i++) continue;
    if (i == WEFT_LETTERS) return WEFT_AGAIN;
    h->big_endian = weft_big_endian();
    h->epoch = g->epoch;
    h->sender = g->net->rank;
    h->payload = payload;
    if (payload) memcpy(p->slot[i].bytes + WEFT_HEADER_BYTES, data, payload);
    bytes = weft_header_write(p->slot[i].bytes, h);
    memset(&p->slot[i].request, 0, sizeof p->slot[i].request);
    s = g->net->send(g->net->ctx, rank, g->channel * WEFT_TAGS_PER_CHANNEL, p->slot[i].bytes, bytes,
                     &p->slot[i].request);
    if (s < 0) return weft_group_error(g, rank, s, 0, 0); /* WEFT_OK: to one who has gone */
    p->slot[i].busy = 1;
    g->traffic.control_sent += bytes;
    g->traffic.messages_sent++;
    weft_group_trace(g, WEFT_EVENT_SENT, rank, g->phase_round, bytes);
    g->progress = 1;
    return WEFT_OK;
}

/* Bulk data of one view never meets that of another: each epoch has its own tag, so that what an abandoned round
 * left in the network is never taken for the next one's. Tags come round again after 2,047 epochs. */
WEFT_FN uint32_t weft_group_bulk_tag(const weft_group *g) {
    return g->channel * WEFT_TAGS_PER_CHANNEL + 1u + g->epoch % (WEFT_TAGS_PER_CHANNEL - 1u);
}

/* ---- Exchanges: in one step, some data to some members and some data from some ---- */

WEFT_FN void weft_group_begin(weft_group *g, uint32_t kind, uint64_t round, uint32_t step) {
    uint32_t i;
    g->kind = kind;
    g->round = round;
    g->step = step;
    g->exchanging = 1;
    g->timing = 0;
    for (i = 0; i < g->members; i++) {
        weft_peer *p = &g->peer[g->member[i]];
        p->out.state = p->in.state = WEFT_FLOW_DONE;
        p->in_arg = p->out_arg = 0;
    }
}

/* To and from one member; NULL: nothing in that direction. An empty range is a message all the same. */
WEFT_FN WEFT_NOINLINE void weft_group_flow(weft_group *g, uint32_t rank, const weft_range *out, const weft_range *in,
                                           uint64_t arg) {
    weft_peer *p = &g->peer[rank];
    if (out) {
        p->out.range = *out;
        p->out.state = WEFT_FLOW_WAITING;
        p->out_arg = arg;
    }
    if (in) {
        p->in.range = *in;
        p->in.state = WEFT_FLOW_WAITING;
    }
}

WEFT_FN size_t weft_group_piece_limit(const weft_group *g) {
    uint64_t most = g->net->max_message_bytes;
    return most && most < (uint64_t)1 << 30 ? (size_t)most / WEFT_ALIGNMENT * WEFT_ALIGNMENT : (size_t)1 << 30;
}

/* Data small enough travels in the control message itself. */
WEFT_FN size_t weft_range_pack(weft_range r, unsigned char *to) {
    unsigned char *p;
    size_t each, which, bytes, n = 0;
    while ((bytes = weft_range_next(&r, SIZE_MAX, &p, &each, &which)) != 0) {
        weft_data_out(WEFT_GPU_OF(r.map), to + n, p, bytes);
        n += bytes;
    }
    return n;
}

WEFT_FN void weft_range_unpack(weft_range r, const unsigned char *from, int swap) {
    unsigned char *p;
    size_t each, which, bytes, n = 0;
    while ((bytes = weft_range_next(&r, SIZE_MAX, &p, &each, &which)) != 0) {
        weft_data_in(WEFT_GPU_OF(r.map), p, from + n, bytes);
        if (swap) weft_data_swap(WEFT_GPU_OF(r.map), p, bytes, each);
        n += bytes;
    }
}

/* Moves the bulk messages of one flow on: one request at a time, piece by piece, straight from and into place. */
WEFT_FN weft_status weft_flow_bulk(weft_group *g, uint32_t rank, weft_flow *f, int sending) {
    weft_status s;
    size_t which;
    for (;;) {
        if (f->active) {
            s = g->net->test(g->net->ctx, &f->request);
            if (s == WEFT_AGAIN) return WEFT_OK;
            f->active = 0;
            if (s < 0) return weft_group_error(g, rank, s, f->piece_bytes, f->request.bytes);
            g->progress = 1;
            if (!sending) {
                if (f->request.bytes != f->piece_bytes)
                    return weft_group_break(g, WEFT_ERR_PROTOCOL, rank, WEFT_TEXT("bulk length"), f->piece_bytes,
                                            f->request.bytes);
                if (g->peer[rank].swap)
                    weft_data_swap(WEFT_GPU_OF(f->range.map), f->piece, f->piece_bytes, f->piece_each);
                g->traffic.payload_received += f->piece_bytes;
                g->traffic.messages_received++;
                weft_group_trace(g, WEFT_EVENT_RECEIVED, rank, g->phase_round, f->piece_bytes);
            }
        }
        f->piece_bytes = weft_range_next(&f->range, f->piece_limit, &f->piece, &f->piece_each, &which);
        if (f->piece_bytes == 0) {
            f->state = WEFT_FLOW_DONE;
            return WEFT_OK;
        }
        memset(&f->request, 0, sizeof f->request);
        s = sending ? g->net->send(g->net->ctx, rank, weft_group_bulk_tag(g), f->piece, f->piece_bytes, &f->request)
                    : g->net->recv(g->net->ctx, rank, weft_group_bulk_tag(g), f->piece, f->piece_bytes, &f->request);
        if (s < 0) return weft_group_error(g, rank, s, f->piece_bytes, 0);
        f->active = 1;
        if (sending) {
            g->traffic.payload_sent += f->piece_bytes;
            g->traffic.messages_sent++;
            weft_group_trace(g, WEFT_EVENT_SENT, rank, g->phase_round, f->piece_bytes);
        }
    }
}

WEFT_FN weft_status weft_flow_send(weft_group *g, uint32_t rank) {
    weft_peer *p = &g->peer[rank];
    weft_status s;
    if (p->out.state == WEFT_FLOW_WAITING) {
        unsigned char packed[WEFT_INLINE_BYTES];
        weft_header h;
        uint32_t payload = 0;
        memset(&h, 0, sizeof h);
        h.kind = g->kind;
        h.round = g->round;
        h.step = g->step;
        h.arg0 = p->out_arg;
        h.bytes = weft_range_bytes(p->out.range);
        p->out.piece_limit = weft_group_piece_limit(g);
        h.piece = (uint32_t)p->out.piece_limit;
        if (h.bytes <= WEFT_INLINE_BYTES) payload = (uint32_t)weft_range_pack(p->out.range, packed);
        s = weft_group_post(g, rank, &h, packed, payload);
        if (s == WEFT_AGAIN) return WEFT_OK;
        if (s < 0) return s;
        if (payload && g->kind == WEFT_KIND_EXCHANGE) {
            g->traffic.control_sent -= payload;
            g->traffic.payload_sent += payload;
        }
        p->out.state = h.bytes <= WEFT_INLINE_BYTES ? WEFT_FLOW_DONE : WEFT_FLOW_BULK;
    }
    return p->out.state == WEFT_FLOW_BULK ? weft_flow_bulk(g, rank, &p->out, 1) : WEFT_OK;
}

/* Is the message held the one that the exchange under way waits for? WEFT_AGAIN: it is for later. */
WEFT_FN weft_status weft_flow_accept(weft_group *g, uint32_t rank) {
    weft_peer *p = &g->peer[rank];
    const weft_header *h = &p->head;
    uint64_t want;
    if (h->kind == WEFT_KIND_SYNC ? g->synced : g->synced && h->round < g->round)
        return weft_group_break(g, WEFT_ERR_PROTOCOL, rank, WEFT_TEXT("header.round"), g->round, h->round);
    if (h->kind != WEFT_KIND_SYNC && g->synced && h->round == g->round && h->step < g->step + !g->exchanging)
        return weft_group_break(g, WEFT_ERR_PROTOCOL, rank, WEFT_TEXT("header.step"), g->step, h->step);
    if (!g->exchanging || h->kind != g->kind) return WEFT_AGAIN;
    if (h->kind == WEFT_KIND_EXCHANGE && (h->round != g->round || h->step != g->step)) return WEFT_AGAIN;
    if (p->in.state != WEFT_FLOW_WAITING)
        return weft_group_break(g, WEFT_ERR_PROTOCOL, rank, WEFT_TEXT("unawaited message"), g->step, h->step);
    want = weft_range_bytes(p->in.range);
    if (h->bytes != want)
        return weft_group_break(g, WEFT_ERR_PROTOCOL, rank, WEFT_TEXT("header.bytes"), want, h->bytes);
    if (h->payload != (want <= WEFT_INLINE_BYTES ? want : 0))
        return weft_group_break(g, WEFT_ERR_PROTOCOL, rank, WEFT_TEXT("header.payload"), want, h->payload);
    p->in_arg = h->arg0;
    p->swap = h->big_endian != weft_big_endian();
    if (want <= WEFT_INLINE_BYTES) {
        weft_range_unpack(p->in.range, p->bytes + WEFT_HEADER_BYTES, p->swap);
        if (h->kind == WEFT_KIND_EXCHANGE) {
            g->traffic.control_received -= want;
            g->traffic.payload_received += want;
        }
        p->in.state = WEFT_FLOW_DONE;
        return WEFT_OK;
    }
    if (h->piece < WEFT_ALIGNMENT || h->piece % WEFT_ALIGNMENT)
        return weft_group_break(g, WEFT_ERR_PROTOCOL, rank, WEFT_TEXT("header.piece"), WEFT_ALIGNMENT, h->piece);
    p->in.piece_limit = h->piece;
    p->in.state = WEFT_FLOW_BULK;
    return WEFT_OK;
}

/* What to do with the control message held of a member: WEFT_OK: taken; WEFT_AGAIN: not yet. */
WEFT_FN weft_status weft_group_take(weft_group *g, uint32_t rank) {
    weft_peer *p = &g->peer[rank];
    if (p->head.epoch != g->epoch) {
        if (p->head.epoch > g->epoch) return WEFT_AGAIN;
        g->traffic.dropped++;
        return WEFT_OK;
    }
    switch (p->head.kind) {
    case WEFT_KIND_EXCHANGE:
    case WEFT_KIND_SYNC: return weft_flow_accept(g, rank);
    case WEFT_KIND_LEAVE:
        if (!g->synced || !g->may_leave) return WEFT_AGAIN;
        weft_group_remove(g, rank);
        return WEFT_OK;
    default:
        if (!g->on_control)
            return weft_group_break(g, WEFT_ERR_PROTOCOL, rank, WEFT_TEXT("header.kind"), WEFT_KIND_EXCHANGE,
                                    p->head.kind);
        return g->synced ? g->on_control(g->owner, rank, &p->head, p->bytes + WEFT_HEADER_BYTES) : WEFT_AGAIN;
    }
}

/* Reads what has come from a member, as far as it can be taken now. The bound keeps a flood from one peer from
 * starving the host. */
WEFT_FN weft_status weft_peer_receive(weft_group *g, uint32_t rank) {
    weft_peer *p = &g->peer[rank];
    weft_status s;
    int bound;
    for (bound = 0; bound < 64; bound++) {
        if (p->control == WEFT_IN_NONE) {
            memset(&p->request, 0, sizeof p->request);
            s = g->net->recv(g->net->ctx, rank, g->channel * WEFT_TAGS_PER_CHANNEL, p->bytes, WEFT_CONTROL_BYTES,
                             &p->request);
            if (s < 0) return weft_group_error(g, rank, s, 0, 0);
            p->control = WEFT_IN_POSTED;
        }
        if (p->control == WEFT_IN_POSTED) {
            s = g->net->test(g->net->ctx, &p->request);
            if (s == WEFT_AGAIN) break;
            p->control = WEFT_IN_NONE;
            if (s < 0) return weft_group_error(g, rank, s, WEFT_CONTROL_BYTES, p->request.bytes);
            s = weft_header_read(p->bytes, p->request.bytes > SIZE_MAX ? 0 : (size_t)p->request.bytes, rank, &p->head,
                                 &g->detail);
            if (s < 0) return weft_group_break(g, s, rank, g->detail.field, g->detail.expected, g->detail.got);
            p->control = WEFT_IN_HELD;
            g->progress = 1;
            g->traffic.messages_received++;
            g->traffic.control_received += p->request.bytes;
            weft_group_trace(g, WEFT_EVENT_RECEIVED, rank, g->phase_round, p->request.bytes);
        }
        s = weft_group_take(g, rank);
        if (s < 0) return s;
        if (s == WEFT_AGAIN) break;
        p->control = WEFT_IN_NONE;
        if (!p->member) break; /* it has said good-bye */
    }
    return WEFT_OK;
}

/* A link fails: has the peer said good-bye before it closed it? What it sent last may still wait to be read, while
 * something of ours that it no longer wants has failed already. */
WEFT_FN int weft_group_last_words(weft_group *g, uint32_t rank) {
    const weft_peer *p = &g->peer[rank];
    if (!g->synced || g->failed) return 0;
    /* (not if it is the receive that has failed: a new one could only hear what comes after the loss) */
    if (!g->hearing && p->control == WEFT_IN_POSTED) {
        g->hearing = 1;
        if (weft_peer_receive(g, rank) < 0) {
            g->hearing = 0;
            return 0;
        }
        g->hearing = 0;
    }
    return !p->member || (p->control == WEFT_IN_HELD && p->head.kind == WEFT_KIND_LEAVE && p->head.epoch == g->epoch);
}

/* One link: everything that can move without waiting. */
WEFT_FN weft_status weft_peer_pump(weft_group *g, uint32_t rank) {
    weft_peer *p = &g->peer[rank];
    weft_status s = weft_peer_receive(g, rank);
    int i;
    if (s < 0 || !p->member) return s;
    for (i = 0; i < WEFT_LETTERS; i++) {
        if (!p->slot[i].busy) continue;
        s = g->net->test(g->net->ctx, &p->slot[i].request);
        if (s == WEFT_AGAIN) continue;
        p->slot[i].busy = 0;
        if (s < 0 && (s = weft_group_error(g, rank, s, 0, 0)) < 0) return s;
        if (!p->member) return WEFT_OK;
        g->progress = 1;
    }
    if (p->out.state != WEFT_FLOW_DONE && (s = weft_flow_send(g, rank)) < 0) return s;
    if (p->in.state == WEFT_FLOW_BULK) return weft_flow_bulk(g, rank, &p->in, 0);
    return WEFT_OK;
}

/* Moves all links on. WEFT_OK, or an error. */
WEFT_FN weft_status weft_group_pump(weft_group *g) {
    uint32_t i = 0;
    if (g->failed) {
        g->detail = g->broken;
        return g->failed;
    }
    while (i < g->members) {
        uint32_t rank = g->member[i];
        weft_status s;
        if (rank != g->net->rank && (s = weft_peer_pump(g, rank)) < 0) return s;
        if (i < g->members && g->member[i] == rank) i++; /* else it left, and the next one stands here */
    }
    return WEFT_OK;
}

/* No progress for timeout_ns while waiting for `peer`: said once a time-out, and nothing is lost. */
WEFT_FN weft_status weft_group_deadline(weft_group *g, uint32_t peer) {
    uint64_t now;
    if (!g->timeout_ns) return WEFT_AGAIN;
    now = g->net->now(g->net->ctx);
    if (g->progress || !g->timing) {
        g->progress = 0;
        g->timing = 1;
        g->since_ns = now;
    }
    if (now - g->since_ns < g->timeout_ns) return WEFT_AGAIN;
    g->timing = 0;
    return weft_group_fail(g, WEFT_ERR_TIMEOUT, peer, WEFT_TEXT("timeout_ns"), g->timeout_ns, now - g->since_ns);
}

/* Moves the exchange on: WEFT_OK when every flow of it is done. */
WEFT_FN weft_status weft_group_poll(weft_group *g) {
    weft_status s = weft_group_pump(g);
    uint32_t i;
    if (s < 0) return s;
    for (i = 0; i < g->members; i++) {
        const weft_peer *p = &g->peer[g->member[i]];
        if (p->in.state != WEFT_FLOW_DONE || p->out.state != WEFT_FLOW_DONE)
            return weft_group_deadline(g, g->member[i]);
    }
    g->exchanging = 0;
    if (g->kind == WEFT_KIND_SYNC) {
        g->synced = 1;
        g->round = 0; /* every exchange of the new view comes after this */
        g->step = 0;
    }
    return WEFT_OK;
}

/* Are all control messages of this worker gone? */
WEFT_FN int weft_group_flushed(const weft_group *g) {
    uint32_t i;
    int k;
    for (i = 0; i < g->members; i++)
        for (k = 0; k < WEFT_LETTERS; k++)
            if (g->peer[g->member[i]].slot[k].busy) return 0;
    return 1;
}

WEFT_FN void weft_group_close(weft_group *g) {
    uint32_t r;
    for (r = 0; r < g->net->size; r++) weft_peer_cancel(g, &g->peer[r], 1);
    g->members = 0;
    WEFT_GPU_SETTLE(*g); /* nothing is left to be done in memory that goes back to the host */
}

/* Says good-bye to all who are still there, as of `round`. WEFT_OK when it is complete: the group is then closed. */
WEFT_FN weft_status weft_group_leave(weft_group *g, uint64_t round) {
    uint32_t i = 0, due = 0;
    while (i < g->members) {
        const uint32_t r = g->member[i];
        weft_peer *p = &g->peer[r];
        if (r != g->net->rank && !p->told) {
            weft_header h;
            weft_status s;
            memset(&h, 0, sizeof h);
            h.kind = WEFT_KIND_LEAVE;
            h.round = round;
            if ((s = weft_group_post(g, r, &h, NULL, 0)) < 0) return s;
            p->told = s == WEFT_OK;
            due += s != WEFT_OK;
        }
        if (i < g->members && g->member[i] == r) i++; /* else it has left, too */
    }
    if (due || !weft_group_flushed(g)) return weft_group_deadline(g, WEFT_NO_RANK);
    weft_group_close(g);
    return WEFT_OK;
}
