/* SPDX-License-Identifier: MIT
 * weft_sim.h: a cluster in one thread and in virtual time: N workers, links with latency, jitter and bandwidth, and
 * every fault a network has. The production state machines run over it unchanged. One 64-bit seed gives the whole
 * schedule, the same on every platform.
 *
 *     weft_sim_desc d = {0};                       // or d = weft_sim_torture(seed, size)
 *     d.seed = 7; d.size = 4; d.latency_ns = 1000;
 *     weft_sim sim;
 *     weft_sim_init(&sim, &d);
 *     for (r = 0; r < 4; r++) {
 *         weft_sim_transport(&sim, r, &net[r]);
 *         weft_sim_worker(&sim, r, step, &mine[r]);   // int step(void *user, uint32_t rank): 1 when done
 *     }
 *     weft_sim_fail_call(&sim, WEFT_SIM_SEND, 2, 5, WEFT_ERR_TRANSPORT);   // the fifth send of worker 2
 *     if (weft_sim_run(&sim, 100000) != WEFT_SIM_DONE) puts(weft_sim_text(&sim));
 *     weft_sim_free(&sim);
 *
 * A worker's step is called when something happened for it: a request of its is over, its timer fired, a peer was lost.
 * Virtual time stands still inside a step. Include this file after one of the weft headers. */
#ifndef WEFT_SIM_H
#define WEFT_SIM_H

#ifndef WEFT_VERSION
#error "include a weft header (grawa.h, ...) before weft_sim.h"
#endif

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WEFT_SIM_ANY UINT32_MAX /* where a rank or a tag is expected: all of them */
#define WEFT_SIM_FOREVER UINT64_MAX

/* When is a send over? */
typedef enum weft_sim_mode {
    WEFT_SIM_EAGER = 0,      /* at once: the data is copied */
    WEFT_SIM_RENDEZVOUS = 1, /* when the receive has been posted and has met it, one latency later */
    WEFT_SIM_THRESHOLD = 2,  /* eager up to eager_bytes */
    WEFT_SIM_MIXED = 3       /* each message as a coin says */
} weft_sim_mode;

/* A message as a hook sees it, when the sender has handed it over (before any fault touches it). */
typedef struct weft_sim_message {
    uint32_t src, dst, tag;
    size_t bytes;
    const void *data;
    uint64_t number; /* of all messages, from 1 */
    uint64_t now_ns;
} weft_sim_message;

typedef void (*weft_sim_message_fn)(void *user, const weft_sim_message *message);
/* A worker was lost (alive 0; called when its peers learn of it) or came back (alive 1). */
typedef void (*weft_sim_change_fn)(void *user, uint32_t rank, int alive);
/* A worker runs: 1 if it is done for good, 0 to be called again when something has happened. */
typedef int (*weft_sim_step_fn)(void *user, uint32_t rank);

/* Zero is the default everywhere; size must be given. */
typedef struct weft_sim_desc {
    uint64_t seed;
    uint32_t size;
    weft_sim_mode mode;
    uint64_t eager_bytes;
    uint64_t latency_ns;        /* of every link, */
    uint64_t jitter_ns;         /* and up to so much more, drawn for each message */
    uint64_t bytes_per_second;  /* of every link; 0: unlimited */
    uint64_t complete_ns;       /* a receive that has met its message is over up to so much later, drawn */
    uint64_t detect_ns;         /* a lost worker is noticed by its peers so much later */
    uint64_t max_message_bytes; /* handed on to the transports, */
    uint32_t shared;            /* as is this */
    /* Torture: all within the contract. */
    uint32_t coy;        /* one in so many tests of a request that is over says WEFT_AGAIN once more; 0: none */
    uint32_t spurious;   /* one in so many deliveries also wakes a worker that has nothing to do; 0: none */
    int shuffle;         /* what happens at the same time happens in any order */
    int scribble;        /* a posted receive buffer is filled with noise, as it belongs to the transport */
    int watch;           /* notice a library that writes into a buffer it has lent */
    int cancel_delivers; /* a coin says whether a cancelled send is delivered all the same */
    FILE *trace;         /* one line for everything that happens */
    weft_sim_message_fn on_message;
    weft_sim_change_fn on_change;
    void *user; /* for both hooks */
} weft_sim_desc;

typedef enum weft_sim_end {
    WEFT_SIM_DONE = 0,      /* every worker is done (or lost) */
    WEFT_SIM_DEADLOCK = 1,  /* nothing will ever happen any more and somebody is not done: weft_sim_text says who */
    WEFT_SIM_EXHAUSTED = 2, /* the bound on steps was reached */
    WEFT_SIM_NO_MEMORY = 3
} weft_sim_end;

typedef enum weft_sim_call {
    WEFT_SIM_SEND = 0,
    WEFT_SIM_RECV = 1,
    WEFT_SIM_TEST = 2,
    WEFT_SIM_CANCEL = 3 /* cannot fail */
} weft_sim_call;

/* What a worker sent and received; [0]: control (tag a multiple of WEFT_TAGS_PER_CHANNEL), [1]: everything else. */
typedef struct weft_sim_counts {
    uint64_t sent[2], sent_bytes[2];
    uint64_t received[2], received_bytes[2];
    uint64_t call[4]; /* by weft_sim_call */
    uint64_t steps;
} weft_sim_counts;

/* ---- inside ---- */

#define WEFT_SIM_NONE UINT32_MAX

typedef enum weft_sim_kind {
    WEFT_SIM_FAULT_CALL,
    WEFT_SIM_FAULT_LOSE,
    WEFT_SIM_FAULT_REVIVE,
    WEFT_SIM_FAULT_XOR,
    WEFT_SIM_FAULT_REPLACE,
    WEFT_SIM_FAULT_RESIZE,
    WEFT_SIM_FAULT_DROP,
    WEFT_SIM_FAULT_INJECT,
    WEFT_SIM_FAULT_DELAY,
    WEFT_SIM_FAULT_CLOG,
    WEFT_SIM_FAULT_PARTITION
} weft_sim_kind;

typedef struct weft_sim_fault {
    weft_sim_kind kind;
    uint32_t src, dst, tag;     /* filter of messages, or (src) whose call */
    uint64_t nth, times;        /* the n-th that passes the filter, and times - 1 more; nth 0: not counted but timed */
    uint64_t seen, fired;
    uint64_t from_ns, until_ns;
    uint32_t rank;              /* who is lost or revived */
    int after;
    weft_status status;
    weft_sim_call call;
    size_t at, bytes;
    unsigned mask;
    unsigned char *data;        /* owned: bytes of a message, or who is on the sending side of a partition */
    uint32_t to_src, to_dst, to_tag; /* of an injected message */
} weft_sim_fault;

typedef enum weft_sim_event_kind {
    WEFT_SIM_ARRIVE,
    WEFT_SIM_OVER,
    WEFT_SIM_WAKE,
    WEFT_SIM_TIMER,
    WEFT_SIM_NOTICE,
    WEFT_SIM_TIMED_FAULT
} weft_sim_event_kind;

typedef struct weft_sim_event {
    uint64_t at, order;
    weft_sim_event_kind kind;
    uint32_t what, life;
} weft_sim_event;

typedef enum weft_sim_op_state { WEFT_SIM_FREE, WEFT_SIM_POSTED, WEFT_SIM_MET, WEFT_SIM_IS_OVER } weft_sim_op_state;

/* A request under way. */
typedef struct weft_sim_op {
    weft_request *request;
    weft_sim_op_state state;
    int is_send;
    uint32_t rank, peer, tag, life;
    uint32_t flow, link, next, prev, msg;
    weft_status status;
    uint64_t length;
    unsigned char *into;       /* receive */
    const unsigned char *from; /* send */
    size_t bytes;
    uint64_t noise;
} weft_sim_op;

#define WEFT_SIM_SMALL 64

/* A message under way, or arrived without a receive. */
typedef struct weft_sim_msg {
    uint32_t src, dst, tag, flow, next, prev;
    uint32_t op;         /* the pending send, while there is one */
    uint32_t src_life, dst_life;
    int is_void;         /* cancelled while under way */
    int arrived;
    size_t bytes;
    unsigned char *data; /* NULL: still in the sender's buffer */
    uint64_t hash;
    unsigned char small[WEFT_SIM_SMALL];
} weft_sim_msg;

/* All messages and receives of one (src, dst, tag). It lives while there are any. */
typedef struct weft_sim_flow {
    uint32_t src, dst, tag, hash_next;
    uint32_t there, back; /* the links src -> dst and dst -> src */
    uint32_t msg_first, msg_last, recv_first, recv_last;
    uint32_t under_way;
    uint64_t last_arrival;
} weft_sim_flow;

/* What one worker has to do with another. */
typedef struct weft_sim_link {
    uint32_t src, dst, hash_next;
    int own; /* has numbers of its own */
    uint64_t latency_ns, jitter_ns, ps_per_byte, free_at;
    uint16_t outstanding[WEFT_CHANNELS]; /* requests of src with dst */
} weft_sim_link;

struct weft_sim;

typedef struct weft_sim_endpoint {
    struct weft_sim *sim;
    uint32_t rank, life;
    int dead, noticed, done, inside, news;
    uint32_t untested;
    weft_sim_step_fn step;
    void *user;
    uint64_t wake_at, timer_at, busy_until;
    weft_sim_counts counts;
} weft_sim_endpoint;

typedef struct weft_sim {
    weft_sim_desc desc;
    uint64_t now, order, sent, arrived, steps, events, ps_per_byte;
    uint64_t rng_link, rng_torture, rng_user;
    uint64_t trace_hash;
    int no_memory;
    uint32_t most_outstanding;
    uint32_t undone;
    weft_sim_endpoint *worker;

    weft_sim_event *heap;
    size_t heap_count, heap_room;
    weft_sim_op *op;
    uint32_t op_count, op_room, op_free, op_live;
    weft_sim_msg *msg;
    uint32_t msg_count, msg_room, msg_free;
    weft_sim_flow *flow;
    uint32_t flow_count, flow_room, flow_free, flow_live;
    uint32_t *flow_hash;
    uint32_t flow_buckets;
    weft_sim_link *link;
    uint32_t link_count, link_room;
    uint32_t *link_hash;
    uint32_t link_buckets;
    weft_sim_fault *fault;
    uint32_t fault_count, fault_room;

    uint64_t violations;
    char violation[160];
    char text[2048];
} weft_sim;

WEFT_FN uint64_t weft_sim_mix(uint64_t z) {
    z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
    return z ^ (z >> 31);
}

WEFT_FN uint64_t weft_sim_draw(uint64_t *state) {
    return weft_sim_mix(*state += UINT64_C(0x9E3779B97F4A7C15));
}

/* 0 .. bound, both included */
WEFT_FN uint64_t weft_sim_up_to(uint64_t *state, uint64_t bound) {
    uint64_t r = weft_sim_draw(state);
    return bound == UINT64_MAX ? r : r % (bound + 1);
}

WEFT_FN uint64_t weft_sim_hash_bytes(const unsigned char *p, size_t n) {
    uint64_t h = UINT64_C(0xCBF29CE484222325) ^ (uint64_t)n;
    size_t i;
    for (i = 0; i < n; i++) h = (h ^ p[i]) * UINT64_C(0x100000001B3);
    return h;
}

WEFT_FN void weft_sim_note(weft_sim *s, const char *what, uint32_t a, uint32_t b, uint32_t tag, uint64_t n) {
    s->trace_hash = weft_sim_mix(s->trace_hash ^ s->now) + (uint64_t)(unsigned char)what[0];
    s->trace_hash = weft_sim_mix(s->trace_hash ^ ((uint64_t)a << 32 | b)) + tag;
    s->trace_hash = weft_sim_mix(s->trace_hash ^ n);
    if (s->desc.trace)
        fprintf(s->desc.trace, "%llu %s %lu %ld tag %ld %llu\n", (unsigned long long)s->now, what, (unsigned long)a,
                b == WEFT_SIM_NONE ? -1L : (long)b, tag == WEFT_SIM_NONE ? -1L : (long)tag, (unsigned long long)n);
}

WEFT_FN void weft_sim_violate(weft_sim *s, const char *what, uint32_t rank, uint32_t peer, uint32_t tag) {
    if (s->violations++ == 0)
        snprintf(s->violation, sizeof s->violation, "worker %lu, peer %lu, tag %lu at %llu ns: %s",
                 (unsigned long)rank, (unsigned long)peer, (unsigned long)tag, (unsigned long long)s->now, what);
}

/* Makes room for one more. */
WEFT_FN int weft_sim_grow(weft_sim *s, void **array, uint32_t *room, uint32_t count, size_t each) {
    void *p;
    uint32_t n = *room ? *room * 2 : 64;
    if (count < *room) return 1;
    p = n > *room && (size_t)n <= SIZE_MAX / each ? realloc(*array, (size_t)n * each) : NULL;
    if (!p) {
        s->no_memory = 1;
        return 0;
    }
    *array = p;
    *room = n;
    return 1;
}

/* ---- events ---- */

WEFT_FN int weft_sim_before(const weft_sim_event *a, const weft_sim_event *b) {
    return a->at != b->at ? a->at < b->at : a->order < b->order;
}

WEFT_FN int weft_sim_push(weft_sim *s, uint64_t at, weft_sim_event_kind kind, uint32_t what, uint32_t life) {
    weft_sim_event e;
    size_t i;
    if (s->heap_count == s->heap_room) {
        size_t n = s->heap_room ? s->heap_room * 2 : 256;
        void *p = n <= SIZE_MAX / sizeof *s->heap ? realloc(s->heap, n * sizeof *s->heap) : NULL;
        if (!p) {
            s->no_memory = 1;
            return 0;
        }
        s->heap = (weft_sim_event *)p;
        s->heap_room = n;
    }
    e.at = at;
    e.order = ++s->order;
    if (s->desc.shuffle) e.order = (weft_sim_draw(&s->rng_torture) << 40) | (e.order & UINT64_C(0xFFFFFFFFFF));
    e.kind = kind;
    e.what = what;
    e.life = life;
    for (i = s->heap_count++; i && weft_sim_before(&e, &s->heap[(i - 1) / 4]); i = (i - 1) / 4)
        s->heap[i] = s->heap[(i - 1) / 4];
    s->heap[i] = e;
    return 1;
}

WEFT_FN weft_sim_event weft_sim_pop(weft_sim *s) {
    weft_sim_event top = s->heap[0], last = s->heap[--s->heap_count];
    size_t i = 0, n = s->heap_count;
    for (;;) {
        size_t k, best = 4 * i + 1, end = best + 4 < n ? best + 4 : n;
        if (best >= n) break;
        for (k = best + 1; k < end; k++)
            if (weft_sim_before(&s->heap[k], &s->heap[best])) best = k;
        if (!weft_sim_before(&s->heap[best], &last)) break;
        s->heap[i] = s->heap[best];
        i = best;
    }
    if (n) s->heap[i] = last;
    return top;
}

WEFT_FN void weft_sim_wake(weft_sim *s, uint32_t rank, uint64_t at) {
    weft_sim_endpoint *w = &s->worker[rank];
    if (at < w->busy_until) at = w->busy_until;
    if (w->wake_at <= at || w->dead) return;
    if (weft_sim_push(s, at, WEFT_SIM_WAKE, rank, w->life)) w->wake_at = at;
}

/* ---- links and flows, found by hash ---- */

WEFT_FN uint32_t weft_sim_find_link(weft_sim *s, uint32_t src, uint32_t dst) {
    uint64_t h = weft_sim_mix((uint64_t)src << 32 | dst);
    uint32_t i, b;
    for (i = s->link_hash[h & (s->link_buckets - 1)]; i != WEFT_SIM_NONE; i = s->link[i].hash_next)
        if (s->link[i].src == src && s->link[i].dst == dst) return i;
    if (s->link_count >= s->link_buckets) {
        uint32_t *table = (uint32_t *)malloc((size_t)s->link_buckets * 2 * sizeof *table);
        if (!table) {
            s->no_memory = 1;
            return WEFT_SIM_NONE;
        }
        free(s->link_hash);
        s->link_hash = table;
        s->link_buckets *= 2;
        memset(table, 0xFF, (size_t)s->link_buckets * sizeof *table);
        for (i = 0; i < s->link_count; i++) {
            uint64_t g = weft_sim_mix((uint64_t)s->link[i].src << 32 | s->link[i].dst);
            b = (uint32_t)(g & (s->link_buckets - 1));
            s->link[i].hash_next = table[b];
            table[b] = i;
        }
    }
    {
        void *p = s->link;
        int ok = weft_sim_grow(s, &p, &s->link_room, s->link_count, sizeof *s->link);
        s->link = (weft_sim_link *)p;
        if (!ok) return WEFT_SIM_NONE;
    }
    i = s->link_count++;
    memset(&s->link[i], 0, sizeof s->link[i]);
    s->link[i].src = src;
    s->link[i].dst = dst;
    b = (uint32_t)(h & (s->link_buckets - 1));
    s->link[i].hash_next = s->link_hash[b];
    s->link_hash[b] = i;
    return i;
}

WEFT_FN uint64_t weft_sim_flow_key(uint32_t src, uint32_t dst, uint32_t tag) {
    return weft_sim_mix(((uint64_t)src << 32 | dst) * UINT64_C(0x9E3779B97F4A7C15) + tag);
}

WEFT_FN uint32_t weft_sim_find_flow(weft_sim *s, uint32_t src, uint32_t dst, uint32_t tag) {
    uint64_t h = weft_sim_flow_key(src, dst, tag);
    uint32_t i, b, there, back;
    weft_sim_flow *f;
    for (i = s->flow_hash[h & (s->flow_buckets - 1)]; i != WEFT_SIM_NONE; i = s->flow[i].hash_next)
        if (s->flow[i].src == src && s->flow[i].dst == dst && s->flow[i].tag == tag) return i;
    there = weft_sim_find_link(s, src, dst);
    back = weft_sim_find_link(s, dst, src);
    if (there == WEFT_SIM_NONE || back == WEFT_SIM_NONE) return WEFT_SIM_NONE;
    if (s->flow_live >= s->flow_buckets) {
        uint32_t *table = (uint32_t *)malloc((size_t)s->flow_buckets * 2 * sizeof *table), old;
        if (!table) {
            s->no_memory = 1;
            return WEFT_SIM_NONE;
        }
        memset(table, 0xFF, (size_t)s->flow_buckets * 2 * sizeof *table);
        for (old = 0; old < s->flow_buckets; old++)
            for (i = s->flow_hash[old]; i != WEFT_SIM_NONE;) {
                uint32_t next = s->flow[i].hash_next;
                b = (uint32_t)(weft_sim_flow_key(s->flow[i].src, s->flow[i].dst, s->flow[i].tag) &
                               (s->flow_buckets * 2 - 1));
                s->flow[i].hash_next = table[b];
                table[b] = i;
                i = next;
            }
        free(s->flow_hash);
        s->flow_hash = table;
        s->flow_buckets *= 2;
    }
    if (s->flow_free != WEFT_SIM_NONE) {
        i = s->flow_free;
        s->flow_free = s->flow[i].hash_next;
    } else {
        void *p = s->flow;
        int ok = weft_sim_grow(s, &p, &s->flow_room, s->flow_count, sizeof *s->flow);
        s->flow = (weft_sim_flow *)p;
        if (!ok) return WEFT_SIM_NONE;
        i = s->flow_count++;
    }
    s->flow_live++;
    f = &s->flow[i];
    memset(f, 0, sizeof *f);
    f->src = src;
    f->dst = dst;
    f->tag = tag;
    f->there = there;
    f->back = back;
    f->msg_first = f->msg_last = f->recv_first = f->recv_last = WEFT_SIM_NONE;
    b = (uint32_t)(h & (s->flow_buckets - 1));
    f->hash_next = s->flow_hash[b];
    s->flow_hash[b] = i;
    return i;
}

/* Gives a flow back that has nothing left. */
WEFT_FN void weft_sim_drop_flow(weft_sim *s, uint32_t i) {
    weft_sim_flow *f = &s->flow[i];
    uint32_t *at;
    if (f->under_way || f->msg_first != WEFT_SIM_NONE || f->recv_first != WEFT_SIM_NONE) return;
    at = &s->flow_hash[weft_sim_flow_key(f->src, f->dst, f->tag) & (s->flow_buckets - 1)];
    while (*at != i) at = &s->flow[*at].hash_next;
    *at = f->hash_next;
    f->src = WEFT_SIM_NONE;
    f->hash_next = s->flow_free;
    s->flow_free = i;
    s->flow_live--;
}

/* ---- requests and messages ---- */

WEFT_FN uint32_t weft_sim_new_op(weft_sim *s, int is_send, uint32_t rank, uint32_t peer, uint32_t tag, uint32_t flow,
                                 weft_request *request) {
    uint32_t i;
    weft_sim_op *o;
    uint16_t *out;
    if (s->op_free != WEFT_SIM_NONE) {
        i = s->op_free;
        s->op_free = s->op[i].next;
    } else {
        void *p = s->op;
        int ok = weft_sim_grow(s, &p, &s->op_room, s->op_count, sizeof *s->op);
        s->op = (weft_sim_op *)p;
        if (!ok) return WEFT_SIM_NONE;
        i = s->op_count++;
        s->op[i].life = 0;
    }
    o = &s->op[i];
    {
        uint32_t life = o->life + 1;
        memset(o, 0, sizeof *o);
        o->life = life;
    }
    s->op_live++;
    o->request = request;
    o->state = WEFT_SIM_POSTED;
    o->is_send = is_send;
    o->rank = rank;
    o->peer = peer;
    o->tag = tag;
    o->flow = flow;
    o->link = is_send ? s->flow[flow].there : s->flow[flow].back;
    o->next = o->prev = o->msg = WEFT_SIM_NONE;
    request->bytes = 0;
    request->word[0] = (uintptr_t)i + 1;
    request->word[1] = o->life;
    out = &s->link[o->link].outstanding[tag / WEFT_TAGS_PER_CHANNEL];
    if (++*out > s->most_outstanding) s->most_outstanding = *out;
    return i;
}

/* The request is not touched: its owner may be gone. */
WEFT_FN void weft_sim_free_op(weft_sim *s, uint32_t i) {
    weft_sim_op *o = &s->op[i];
    s->link[o->link].outstanding[o->tag / WEFT_TAGS_PER_CHANNEL]--;
    o->state = WEFT_SIM_FREE;
    o->life++;
    o->next = s->op_free;
    s->op_free = i;
    s->op_live--;
}

WEFT_FN uint32_t weft_sim_new_msg(weft_sim *s, uint32_t src, uint32_t dst, uint32_t tag, uint32_t flow, size_t bytes) {
    uint32_t i;
    weft_sim_msg *m;
    if (s->msg_free != WEFT_SIM_NONE) {
        i = s->msg_free;
        s->msg_free = s->msg[i].next;
    } else {
        void *p = s->msg;
        int full = s->msg_count == s->msg_room;
        int ok = weft_sim_grow(s, &p, &s->msg_room, s->msg_count, sizeof *s->msg);
        s->msg = (weft_sim_msg *)p;
        for (i = 0; full && i < s->msg_count; i++) /* short messages lie inside, and may have moved */
            if (s->msg[i].data && s->msg[i].bytes <= WEFT_SIM_SMALL) s->msg[i].data = s->msg[i].small;
        if (!ok) return WEFT_SIM_NONE;
        i = s->msg_count++;
    }
    m = &s->msg[i];
    m->src = src;
    m->dst = dst;
    m->tag = tag;
    m->flow = flow;
    m->next = m->prev = m->op = WEFT_SIM_NONE;
    m->src_life = s->worker[src].life;
    m->dst_life = s->worker[dst].life;
    m->is_void = m->arrived = 0;
    m->bytes = bytes;
    m->data = NULL;
    m->hash = 0;
    return i;
}

/* The message gets bytes of its own: `copy` of them from `from`, zeros after that. */
WEFT_FN int weft_sim_own(weft_sim *s, uint32_t i, const unsigned char *from, size_t copy, size_t bytes) {
    weft_sim_msg *m = &s->msg[i];
    unsigned char keep[WEFT_SIM_SMALL];
    unsigned char *to, *old = m->data && m->bytes > WEFT_SIM_SMALL ? m->data : NULL;
    if (copy > bytes) copy = bytes;
    if (from == m->small) { /* growing out of itself */
        if (copy) memcpy(keep, from, copy);
        from = keep;
    }
    to = bytes <= WEFT_SIM_SMALL ? m->small : (unsigned char *)malloc(bytes);
    if (!to) {
        s->no_memory = 1;
        return 0;
    }
    if (copy) memcpy(to, from, copy);
    if (bytes > copy) memset(to + copy, 0, bytes - copy);
    free(old);
    m->data = to;
    m->bytes = bytes;
    return 1;
}

WEFT_FN void weft_sim_free_msg(weft_sim *s, uint32_t i) {
    weft_sim_msg *m = &s->msg[i];
    if (m->data && m->bytes > WEFT_SIM_SMALL) free(m->data);
    m->data = NULL;
    m->next = s->msg_free;
    m->flow = WEFT_SIM_NONE;
    s->msg_free = i;
}

WEFT_FN void weft_sim_unlink_msg(weft_sim *s, uint32_t i) {
    weft_sim_msg *m = &s->msg[i];
    weft_sim_flow *f = &s->flow[m->flow];
    if (m->prev != WEFT_SIM_NONE) s->msg[m->prev].next = m->next;
    else f->msg_first = m->next;
    if (m->next != WEFT_SIM_NONE) s->msg[m->next].prev = m->prev;
    else f->msg_last = m->prev;
    m->next = m->prev = WEFT_SIM_NONE;
}

WEFT_FN void weft_sim_unlink_recv(weft_sim *s, uint32_t i) {
    weft_sim_op *o = &s->op[i];
    weft_sim_flow *f = &s->flow[o->flow];
    if (o->prev != WEFT_SIM_NONE) s->op[o->prev].next = o->next;
    else f->recv_first = o->next;
    if (o->next != WEFT_SIM_NONE) s->op[o->next].prev = o->prev;
    else f->recv_last = o->prev;
    o->next = o->prev = WEFT_SIM_NONE;
}

/* A request is over: its worker has news. */
WEFT_FN void weft_sim_over(weft_sim *s, uint32_t i, weft_status status, uint64_t length) {
    weft_sim_op *o = &s->op[i];
    weft_sim_endpoint *w = &s->worker[o->rank];
    o->state = WEFT_SIM_IS_OVER;
    o->status = status;
    o->length = length;
    w->untested++;
    if (w->inside) w->news = 1; /* looked at when its step returns */
    else weft_sim_wake(s, o->rank, s->now);
}

WEFT_FN unsigned char weft_sim_noise(uint64_t noise, size_t k) {
    return (unsigned char)((noise >> (k % 8 * 8)) + k);
}

/* The bytes of a message reach the buffer of a receive. */
WEFT_FN void weft_sim_deliver(weft_sim *s, uint32_t op, uint32_t msg) {
    weft_sim_op *o = &s->op[op];
    weft_sim_msg *m = &s->msg[msg];
    weft_sim_counts *c = &s->worker[o->rank].counts;
    const unsigned char *from = m->data ? m->data : m->op != WEFT_SIM_NONE ? s->op[m->op].from : NULL;
    size_t k, n = m->bytes < o->bytes ? m->bytes : o->bytes;
    int data = o->tag % WEFT_TAGS_PER_CHANNEL != 0;
    if (s->desc.watch && s->desc.scribble)
        for (k = 0; k < o->bytes; k++)
            if (o->into[k] != weft_sim_noise(o->noise, k)) {
                weft_sim_violate(s, "the library wrote into a posted receive buffer", o->rank, o->peer, o->tag);
                break;
            }
    if (n) memcpy(o->into, from, n);
    c->received[data]++;
    c->received_bytes[data] += m->bytes;
    weft_sim_over(s, op, m->bytes > o->bytes ? WEFT_ERR_TRUNCATED : WEFT_OK, m->bytes);
}

WEFT_FN uint64_t weft_sim_latency(weft_sim *s, const weft_sim_link *l) {
    uint64_t jitter = l->own ? l->jitter_ns : s->desc.jitter_ns;
    uint64_t latency = l->own ? l->latency_ns : s->desc.latency_ns;
    return latency + (jitter ? weft_sim_up_to(&s->rng_link, jitter) : 0);
}

/* Lets arrived messages meet posted receives. */
WEFT_FN void weft_sim_meet(weft_sim *s, uint32_t flow) {
    weft_sim_flow *f = &s->flow[flow];
    while (f->msg_first != WEFT_SIM_NONE && f->recv_first != WEFT_SIM_NONE) {
        uint32_t mi = f->msg_first, oi = f->recv_first;
        weft_sim_msg *m = &s->msg[mi];
        uint64_t later = s->desc.complete_ns ? weft_sim_up_to(&s->rng_torture, s->desc.complete_ns) : 0;
        weft_sim_unlink_msg(s, mi);
        weft_sim_unlink_recv(s, oi);
        weft_sim_note(s, "meet", m->src, m->dst, m->tag, m->bytes);
        if (m->op != WEFT_SIM_NONE) {
            weft_sim_op *o = &s->op[m->op];
            if (s->desc.watch && weft_sim_hash_bytes(o->from, o->bytes) != m->hash)
                weft_sim_violate(s, "the library wrote into the buffer of a pending send", o->rank, o->peer, o->tag);
            if (later && !m->data && !weft_sim_own(s, mi, o->from, o->bytes, o->bytes)) return;
        }
        if (later) {
            s->op[oi].state = WEFT_SIM_MET;
            s->op[oi].msg = mi;
            weft_sim_push(s, s->now + later, WEFT_SIM_OVER, oi, s->op[oi].life);
        } else {
            weft_sim_deliver(s, oi, mi);
        }
        m = &s->msg[mi];
        if (m->op != WEFT_SIM_NONE) {
            uint64_t back = weft_sim_latency(s, &s->link[f->back]);
            s->op[m->op].state = WEFT_SIM_MET;
            s->op[m->op].msg = WEFT_SIM_NONE;
            weft_sim_push(s, s->now + back, WEFT_SIM_OVER, m->op, s->op[m->op].life);
            m->op = WEFT_SIM_NONE;
        }
        if (!later) weft_sim_free_msg(s, mi);
    }
}

/* ---- losing and reviving ---- */

/* Peers learn that a worker is gone: what they have pending with it is over. */
WEFT_FN void weft_sim_notice(weft_sim *s, uint32_t rank) {
    uint32_t i;
    if (s->worker[rank].noticed) return;
    s->worker[rank].noticed = 1;
    weft_sim_note(s, "notice", rank, WEFT_SIM_NONE, WEFT_SIM_NONE, 0);
    for (i = 0; i < s->op_count; i++) {
        weft_sim_op *o = &s->op[i];
        if (o->state != WEFT_SIM_POSTED || o->peer != rank) continue;
        if (o->is_send && o->msg != WEFT_SIM_NONE) {
            s->msg[o->msg].op = WEFT_SIM_NONE;
            s->msg[o->msg].is_void = 1; /* still under way, to nobody */
            o->msg = WEFT_SIM_NONE;
        } else if (!o->is_send) {
            uint32_t flow = o->flow;
            weft_sim_unlink_recv(s, i);
            weft_sim_drop_flow(s, flow);
        }
        weft_sim_over(s, i, WEFT_ERR_PEER_LOST, 0);
    }
    for (i = 0; i < s->desc.size; i++)
        if (i != rank) weft_sim_wake(s, i, s->now);
    if (s->desc.on_change) s->desc.on_change(s->desc.user, rank, 0);
}

/* The worker `rank` is gone, now. What it had pending is dropped and its memory is not touched any more; its peers
 * learn of it detect_ns later. */
WEFT_FN void weft_sim_lose(weft_sim *s, uint32_t rank) {
    weft_sim_endpoint *w = &s->worker[rank];
    uint32_t i;
    if (w->dead) return;
    weft_sim_note(s, "lose", rank, WEFT_SIM_NONE, WEFT_SIM_NONE, 0);
    w->dead = 1;
    w->noticed = 0;
    w->life++; /* what is under way from or to it will reach nobody */
    w->wake_at = w->timer_at = UINT64_MAX;
    w->busy_until = 0;
    w->untested = 0;
    if (!w->done && w->step) s->undone--;
    w->done = 1;
    /* messages that have arrived from it or for it are gone too */
    for (i = 0; i < s->flow_count; i++) {
        weft_sim_flow *f = &s->flow[i];
        if (f->src == WEFT_SIM_NONE || (f->src != rank && f->dst != rank)) continue;
        while (f->msg_first != WEFT_SIM_NONE) {
            uint32_t m = f->msg_first;
            if (s->msg[m].op != WEFT_SIM_NONE) s->op[s->msg[m].op].msg = WEFT_SIM_NONE;
            weft_sim_unlink_msg(s, m);
            weft_sim_free_msg(s, m);
        }
        if (f->dst == rank)
            while (f->recv_first != WEFT_SIM_NONE) {
                uint32_t o = f->recv_first;
                weft_sim_unlink_recv(s, o);
                weft_sim_free_op(s, o);
            }
        weft_sim_drop_flow(s, i);
    }
    for (i = 0; i < s->op_count; i++) {
        weft_sim_op *o = &s->op[i];
        if (o->state == WEFT_SIM_FREE || o->rank != rank) continue;
        if (o->msg != WEFT_SIM_NONE && o->is_send) {
            s->msg[o->msg].op = WEFT_SIM_NONE;
            s->msg[o->msg].is_void = 1;
        } else if (o->msg != WEFT_SIM_NONE) {
            weft_sim_free_msg(s, o->msg);
        }
        weft_sim_free_op(s, i);
    }
    if (s->desc.detect_ns) weft_sim_push(s, s->now + s->desc.detect_ns, WEFT_SIM_NOTICE, rank, w->life);
    else weft_sim_notice(s, rank);
}

/* The worker is back, with nothing pending and nothing on its way. Register its step again with weft_sim_worker. */
WEFT_FN void weft_sim_revive(weft_sim *s, uint32_t rank) {
    weft_sim_endpoint *w = &s->worker[rank];
    if (!w->dead) return;
    weft_sim_notice(s, rank);
    weft_sim_note(s, "revive", rank, WEFT_SIM_NONE, WEFT_SIM_NONE, 0);
    w->dead = w->noticed = 0;
    if (s->desc.on_change) s->desc.on_change(s->desc.user, rank, 1);
}

/* ---- faults ---- */

WEFT_FN weft_sim_fault *weft_sim_new_fault(weft_sim *s, weft_sim_kind kind, uint32_t src, uint32_t dst, uint32_t tag,
                                           uint64_t nth) {
    void *p = s->fault;
    weft_sim_fault *f;
    int ok = weft_sim_grow(s, &p, &s->fault_room, s->fault_count, sizeof *s->fault);
    s->fault = (weft_sim_fault *)p;
    if (!ok) return NULL;
    f = &s->fault[s->fault_count++];
    memset(f, 0, sizeof *f);
    f->kind = kind;
    f->src = src;
    f->dst = dst;
    f->tag = tag;
    f->nth = nth;
    f->times = 1;
    return f;
}

WEFT_FN int weft_sim_keep(weft_sim *s, weft_sim_fault *f, const void *data, size_t bytes) {
    f->data = (unsigned char *)malloc(bytes ? bytes : 1);
    if (!f->data) {
        s->no_memory = 1;
        s->fault_count--;
        return 0;
    }
    if (bytes) memcpy(f->data, data, bytes);
    f->bytes = bytes;
    return 1;
}

WEFT_FN int weft_sim_fault_id(const weft_sim *s, const weft_sim_fault *f) {
    return f ? (int)(f - s->fault) : -1;
}

/* All of the following return the number of the fault for weft_sim_fired, or -1 without memory. A message fault counts
 * the messages sent from src to dst with tag (each may be WEFT_SIM_ANY) and strikes at the nth, from 1. */

/* The nth call (send, recv or test) of a worker fails with status. */
WEFT_FN int weft_sim_fail_call(weft_sim *s, weft_sim_call call, uint32_t rank, uint64_t nth, weft_status status) {
    weft_sim_fault *f = weft_sim_new_fault(s, WEFT_SIM_FAULT_CALL, rank, WEFT_SIM_ANY, WEFT_SIM_ANY, nth);
    if (!f) return -1;
    f->call = call;
    f->status = status;
    return weft_sim_fault_id(s, f);
}

/* A worker is lost when the nth message of all arrives: just before (after 0) or just after it. */
WEFT_FN int weft_sim_lose_at_message(weft_sim *s, uint32_t rank, uint64_t nth, int after) {
    weft_sim_fault *f = weft_sim_new_fault(s, WEFT_SIM_FAULT_LOSE, WEFT_SIM_ANY, WEFT_SIM_ANY, WEFT_SIM_ANY, nth);
    if (!f) return -1;
    f->rank = rank;
    f->after = after;
    return weft_sim_fault_id(s, f);
}

WEFT_FN int weft_sim_timed(weft_sim *s, weft_sim_fault *f, uint64_t at) {
    int id = weft_sim_fault_id(s, f);
    if (id >= 0 && !weft_sim_push(s, at < s->now ? s->now : at, WEFT_SIM_TIMED_FAULT, (uint32_t)id, 0)) return -1;
    return id;
}

WEFT_FN int weft_sim_lose_at(weft_sim *s, uint32_t rank, uint64_t at_ns) {
    weft_sim_fault *f = weft_sim_new_fault(s, WEFT_SIM_FAULT_LOSE, WEFT_SIM_ANY, WEFT_SIM_ANY, WEFT_SIM_ANY, 0);
    if (f) f->rank = rank;
    return weft_sim_timed(s, f, at_ns);
}

WEFT_FN int weft_sim_revive_at(weft_sim *s, uint32_t rank, uint64_t at_ns) {
    weft_sim_fault *f = weft_sim_new_fault(s, WEFT_SIM_FAULT_REVIVE, WEFT_SIM_ANY, WEFT_SIM_ANY, WEFT_SIM_ANY, 0);
    if (f) f->rank = rank;
    return weft_sim_timed(s, f, at_ns);
}

/* Byte `at` of the nth message is changed by XOR (a message too short for it is left alone, and not counted). */
WEFT_FN int weft_sim_corrupt(weft_sim *s, uint32_t src, uint32_t dst, uint32_t tag, uint64_t nth, size_t at,
                             unsigned mask) {
    weft_sim_fault *f = weft_sim_new_fault(s, WEFT_SIM_FAULT_XOR, src, dst, tag, nth);
    if (!f) return -1;
    f->at = at;
    f->mask = mask;
    return weft_sim_fault_id(s, f);
}

/* The nth message has these bytes in place of its own. */
WEFT_FN int weft_sim_replace(weft_sim *s, uint32_t src, uint32_t dst, uint32_t tag, uint64_t nth, const void *data,
                             size_t bytes) {
    weft_sim_fault *f = weft_sim_new_fault(s, WEFT_SIM_FAULT_REPLACE, src, dst, tag, nth);
    return f && weft_sim_keep(s, f, data, bytes) ? weft_sim_fault_id(s, f) : -1;
}

/* The nth message is cut, or filled up with zeros, to `bytes`. */
WEFT_FN int weft_sim_resize(weft_sim *s, uint32_t src, uint32_t dst, uint32_t tag, uint64_t nth, size_t bytes) {
    weft_sim_fault *f = weft_sim_new_fault(s, WEFT_SIM_FAULT_RESIZE, src, dst, tag, nth);
    if (!f) return -1;
    f->bytes = bytes;
    return weft_sim_fault_id(s, f);
}

/* The nth message vanishes. Outside of the contract: for tests of the tests. */
WEFT_FN int weft_sim_drop(weft_sim *s, uint32_t src, uint32_t dst, uint32_t tag, uint64_t nth) {
    return weft_sim_fault_id(s, weft_sim_new_fault(s, WEFT_SIM_FAULT_DROP, src, dst, tag, nth));
}

/* Right after the nth message of all has arrived, a message that nobody sent arrives. */
WEFT_FN int weft_sim_inject(weft_sim *s, uint64_t nth, uint32_t src, uint32_t dst, uint32_t tag, const void *data,
                            size_t bytes) {
    weft_sim_fault *f = weft_sim_new_fault(s, WEFT_SIM_FAULT_INJECT, WEFT_SIM_ANY, WEFT_SIM_ANY, WEFT_SIM_ANY, nth);
    if (!f || !weft_sim_keep(s, f, data, bytes)) return -1;
    f->to_src = src;
    f->to_dst = dst;
    f->to_tag = tag;
    return weft_sim_fault_id(s, f);
}

WEFT_FN int weft_sim_inject_at(weft_sim *s, uint64_t at_ns, uint32_t src, uint32_t dst, uint32_t tag, const void *data,
                               size_t bytes) {
    int id = weft_sim_inject(s, 0, src, dst, tag, data, bytes);
    return id < 0 ? id : weft_sim_timed(s, &s->fault[id], at_ns);
}

/* What is sent from src to dst between two times takes so much longer. */
WEFT_FN int weft_sim_delay(weft_sim *s, uint32_t src, uint32_t dst, uint64_t extra_ns, uint64_t from_ns,
                           uint64_t until_ns) {
    weft_sim_fault *f = weft_sim_new_fault(s, WEFT_SIM_FAULT_DELAY, src, dst, WEFT_SIM_ANY, 0);
    if (!f) return -1;
    f->nth = extra_ns;
    f->from_ns = from_ns;
    f->until_ns = until_ns;
    return weft_sim_fault_id(s, f);
}

/* What is sent from src to dst between two times sets off at the second (WEFT_SIM_FOREVER: never). */
WEFT_FN int weft_sim_clog(weft_sim *s, uint32_t src, uint32_t dst, uint64_t from_ns, uint64_t until_ns) {
    weft_sim_fault *f = weft_sim_new_fault(s, WEFT_SIM_FAULT_CLOG, src, dst, WEFT_SIM_ANY, 0);
    if (!f) return -1;
    f->from_ns = from_ns;
    f->until_ns = until_ns;
    return weft_sim_fault_id(s, f);
}

/* The same from every worker of a group (group[rank] != 0) to every worker outside of it; the other direction works.
 * Give two, one with the group inverted, for a partition in both directions. */
WEFT_FN int weft_sim_partition(weft_sim *s, const unsigned char *group, uint64_t from_ns, uint64_t until_ns) {
    weft_sim_fault *f = weft_sim_new_fault(s, WEFT_SIM_FAULT_PARTITION, WEFT_SIM_ANY, WEFT_SIM_ANY, WEFT_SIM_ANY, 0);
    if (!f || !weft_sim_keep(s, f, group, s->desc.size)) return -1;
    f->from_ns = from_ns;
    f->until_ns = until_ns;
    return weft_sim_fault_id(s, f);
}

/* A fault that counts (calls or messages) strikes so many times in a row from its nth on; WEFT_SIM_FOREVER: always. */
WEFT_FN void weft_sim_times(weft_sim *s, int fault, uint64_t times) {
    if (fault >= 0) s->fault[fault].times = times;
}

/* How often a fault has really struck. */
WEFT_FN uint64_t weft_sim_fired(const weft_sim *s, int fault) {
    return fault < 0 ? 0 : s->fault[fault].fired;
}

/* Counts, and says whether the fault strikes now. */
WEFT_FN int weft_sim_strikes(weft_sim_fault *f) {
    f->seen++;
    return f->nth && f->seen >= f->nth && f->seen - f->nth < f->times;
}

WEFT_FN weft_status weft_sim_count_call(weft_sim *s, weft_sim_call call, uint32_t rank) {
    uint32_t i;
    s->worker[rank].counts.call[call]++;
    for (i = 0; i < s->fault_count; i++) {
        weft_sim_fault *f = &s->fault[i];
        if (f->kind != WEFT_SIM_FAULT_CALL || f->call != call || (f->src != WEFT_SIM_ANY && f->src != rank)) continue;
        if (!weft_sim_strikes(f)) continue;
        f->fired++;
        weft_sim_note(s, "fail", rank, (uint32_t)call, WEFT_SIM_NONE, f->seen);
        return f->status;
    }
    return WEFT_OK;
}

WEFT_FN void weft_sim_arrive(weft_sim *s, uint32_t msg) {
    weft_sim_msg *m = &s->msg[msg];
    uint32_t flow = m->flow;
    weft_sim_flow *f = &s->flow[flow];
    if (m->is_void || m->src_life != s->worker[m->src].life || m->dst_life != s->worker[m->dst].life ||
        s->worker[m->dst].dead) {
        if (m->op != WEFT_SIM_NONE) s->op[m->op].msg = WEFT_SIM_NONE;
        weft_sim_free_msg(s, msg);
    } else {
        weft_sim_note(s, "arrive", m->src, m->dst, m->tag, m->bytes);
        m->arrived = 1;
        m->prev = f->msg_last;
        if (f->msg_last != WEFT_SIM_NONE) s->msg[f->msg_last].next = msg;
        else f->msg_first = msg;
        f->msg_last = msg;
        weft_sim_meet(s, flow);
    }
    weft_sim_drop_flow(s, flow);
}

WEFT_FN void weft_sim_do_inject(weft_sim *s, weft_sim_fault *f) {
    uint32_t flow, m;
    if (f->to_src >= s->desc.size || f->to_dst >= s->desc.size || s->worker[f->to_src].dead ||
        s->worker[f->to_dst].dead)
        return;
    flow = weft_sim_find_flow(s, f->to_src, f->to_dst, f->to_tag);
    if (flow == WEFT_SIM_NONE) return;
    m = weft_sim_new_msg(s, f->to_src, f->to_dst, f->to_tag, flow, f->bytes);
    if (m == WEFT_SIM_NONE) return;
    if (!weft_sim_own(s, m, f->data, f->bytes, f->bytes)) return;
    f->fired++;
    weft_sim_note(s, "inject", f->to_src, f->to_dst, f->to_tag, f->bytes);
    weft_sim_arrive(s, m);
}

/* ---- the callbacks ---- */

WEFT_FN uint32_t weft_sim_of(weft_sim *s, uint32_t rank, const weft_request *r) {
    uintptr_t i = r->word[0];
    if (i == 0 || i > s->op_count) return WEFT_SIM_NONE;
    i--;
    if (s->op[i].state == WEFT_SIM_FREE || s->op[i].life != r->word[1] || s->op[i].rank != rank) return WEFT_SIM_NONE;
    return (uint32_t)i;
}

WEFT_FN weft_status weft_sim_may_post(weft_sim_endpoint *w, weft_sim_call call, uint32_t peer, uint32_t tag,
                                      const void *data, size_t bytes, const weft_request *r) {
    weft_sim *s = w->sim;
    weft_status status = weft_sim_count_call(s, call, w->rank);
    if (w->dead) return WEFT_ERR_TRANSPORT;
    if (peer >= s->desc.size || tag >= WEFT_CHANNELS * WEFT_TAGS_PER_CHANNEL || (!data && bytes)) {
        weft_sim_violate(s, "peer, tag or buffer out of range", w->rank, peer, tag);
        return WEFT_ERR_ARGUMENT;
    }
    if (weft_sim_of(s, w->rank, r) != WEFT_SIM_NONE && s->op[r->word[0] - 1].request == r)
        weft_sim_violate(s, "a request is used again while it is under way", w->rank, peer, tag);
    if (call == WEFT_SIM_SEND && s->desc.max_message_bytes && bytes > s->desc.max_message_bytes) {
        weft_sim_violate(s, "a message longer than max_message_bytes", w->rank, peer, tag);
        return WEFT_ERR_ARGUMENT;
    }
    if (status != WEFT_OK) return status;
    if (s->worker[peer].noticed) return WEFT_ERR_PEER_LOST;
    return WEFT_OK;
}

WEFT_FN weft_status weft_sim_send(void *ctx, uint32_t peer, uint32_t tag, const void *data, size_t bytes,
                                  weft_request *r) {
    weft_sim_endpoint *w = (weft_sim_endpoint *)ctx;
    weft_sim *s = w->sim;
    const unsigned char *from = (const unsigned char *)data;
    weft_status status = weft_sim_may_post(w, WEFT_SIM_SEND, peer, tag, data, bytes, r);
    uint32_t flow, op, msg, i;
    uint64_t start, at, ps;
    int eager = s->desc.mode == WEFT_SIM_EAGER, control = tag % WEFT_TAGS_PER_CHANNEL == 0, dropped = 0;
    weft_sim_link *l;
    if (status != WEFT_OK) return status;
    if (s->desc.mode == WEFT_SIM_THRESHOLD) eager = bytes <= s->desc.eager_bytes;
    if (s->desc.mode == WEFT_SIM_MIXED) eager = (int)(weft_sim_draw(&s->rng_torture) & 1);
    flow = weft_sim_find_flow(s, w->rank, peer, tag);
    if (flow == WEFT_SIM_NONE) return WEFT_ERR_MEMORY;
    op = weft_sim_new_op(s, 1, w->rank, peer, tag, flow, r);
    if (op == WEFT_SIM_NONE) return WEFT_ERR_MEMORY;
    msg = weft_sim_new_msg(s, w->rank, peer, tag, flow, bytes);
    if (msg == WEFT_SIM_NONE || (eager && !weft_sim_own(s, msg, from, bytes, bytes))) {
        r->word[0] = 0;
        weft_sim_free_op(s, op);
        return WEFT_ERR_MEMORY;
    }
    s->sent++;
    w->counts.sent[!control]++;
    w->counts.sent_bytes[!control] += bytes;
    weft_sim_note(s, "send", w->rank, peer, tag, bytes);
    if (s->desc.watch) s->trace_hash = weft_sim_mix(s->trace_hash ^ weft_sim_hash_bytes(from, bytes));
    s->op[op].from = from;
    s->op[op].bytes = bytes;
    if (eager) {
        weft_sim_over(s, op, WEFT_OK, bytes);
    } else {
        s->op[op].msg = msg;
        s->msg[msg].op = op;
        if (s->desc.watch) s->msg[msg].hash = weft_sim_hash_bytes(from, bytes);
    }
    if (s->desc.on_message) {
        weft_sim_message m;
        m.src = w->rank;
        m.dst = peer;
        m.tag = tag;
        m.bytes = bytes;
        m.data = data;
        m.number = s->sent;
        m.now_ns = s->now;
        s->desc.on_message(s->desc.user, &m);
    }
    l = &s->link[s->flow[flow].there];
    start = l->free_at > s->now ? l->free_at : s->now;
    at = 0;
    for (i = 0; i < s->fault_count; i++) {
        weft_sim_fault *f = &s->fault[i];
        if (f->kind == WEFT_SIM_FAULT_CALL || f->kind == WEFT_SIM_FAULT_LOSE || f->kind == WEFT_SIM_FAULT_REVIVE ||
            f->kind == WEFT_SIM_FAULT_INJECT || (f->src != WEFT_SIM_ANY && f->src != w->rank) ||
            (f->dst != WEFT_SIM_ANY && f->dst != peer) || (f->tag != WEFT_SIM_ANY && f->tag != tag))
            continue;
        if (f->kind == WEFT_SIM_FAULT_PARTITION && (!f->data[w->rank] || f->data[peer])) continue;
        if (f->kind == WEFT_SIM_FAULT_DELAY || f->kind == WEFT_SIM_FAULT_CLOG || f->kind == WEFT_SIM_FAULT_PARTITION) {
            if (s->now < f->from_ns || s->now >= f->until_ns) continue;
            f->fired++;
            if (f->kind == WEFT_SIM_FAULT_DELAY) at += f->nth;
            else if (start < f->until_ns) start = f->until_ns;
            continue;
        }
        if (!weft_sim_strikes(f)) continue;
        if (f->kind == WEFT_SIM_FAULT_DROP) {
            f->fired++;
            dropped = 1;
            continue;
        }
        if (f->kind == WEFT_SIM_FAULT_XOR && f->at >= s->msg[msg].bytes) continue;
        if (!s->msg[msg].data && !weft_sim_own(s, msg, from, bytes, bytes)) continue;
        f->fired++;
        weft_sim_note(s, "tamper", w->rank, peer, tag, (uint64_t)f->kind);
        if (f->kind == WEFT_SIM_FAULT_XOR)
            s->msg[msg].data[f->at] = (unsigned char)(s->msg[msg].data[f->at] ^ f->mask);
        else if (f->kind == WEFT_SIM_FAULT_REPLACE)
            weft_sim_own(s, msg, f->data, f->bytes, f->bytes);
        else
            weft_sim_own(s, msg, s->msg[msg].data, s->msg[msg].bytes, f->bytes);
    }
    if (start == WEFT_SIM_FOREVER || dropped) { /* it never arrives; an unfinished send stays so */
        if (s->msg[msg].op != WEFT_SIM_NONE) s->op[op].msg = WEFT_SIM_NONE;
        weft_sim_free_msg(s, msg);
        weft_sim_drop_flow(s, flow);
        return WEFT_OK;
    }
    ps = l->own ? l->ps_per_byte : s->ps_per_byte;
    l->free_at = start + bytes / 1000 * ps + bytes % 1000 * ps / 1000;
    at += l->free_at + weft_sim_latency(s, l);
    if (s->flow[flow].under_way && at < s->flow[flow].last_arrival + (s->desc.shuffle != 0))
        at = s->flow[flow].last_arrival + (s->desc.shuffle != 0); /* in order, however the draws fell */
    s->flow[flow].last_arrival = at;
    s->flow[flow].under_way++;
    if (!weft_sim_push(s, at, WEFT_SIM_ARRIVE, msg, 0)) return WEFT_ERR_MEMORY;
    return WEFT_OK;
}

WEFT_FN weft_status weft_sim_recv(void *ctx, uint32_t peer, uint32_t tag, void *data, size_t capacity,
                                  weft_request *r) {
    weft_sim_endpoint *w = (weft_sim_endpoint *)ctx;
    weft_sim *s = w->sim;
    weft_status status = weft_sim_may_post(w, WEFT_SIM_RECV, peer, tag, data, capacity, r);
    uint32_t flow, op;
    weft_sim_op *o;
    weft_sim_flow *f;
    if (status != WEFT_OK) return status;
    flow = weft_sim_find_flow(s, peer, w->rank, tag);
    if (flow == WEFT_SIM_NONE) return WEFT_ERR_MEMORY;
    op = weft_sim_new_op(s, 0, w->rank, peer, tag, flow, r);
    if (op == WEFT_SIM_NONE) return WEFT_ERR_MEMORY;
    o = &s->op[op];
    f = &s->flow[flow];
    o->into = (unsigned char *)data;
    o->bytes = capacity;
    if (s->desc.scribble) {
        size_t k;
        o->noise = weft_sim_draw(&s->rng_torture);
        for (k = 0; k < capacity; k++) o->into[k] = weft_sim_noise(o->noise, k);
    }
    o->prev = f->recv_last;
    if (f->recv_last != WEFT_SIM_NONE) s->op[f->recv_last].next = op;
    else f->recv_first = op;
    f->recv_last = op;
    weft_sim_note(s, "recv", peer, w->rank, tag, capacity);
    weft_sim_meet(s, flow);
    weft_sim_drop_flow(s, flow);
    return WEFT_OK;
}

/* Takes a request away from the transport; what it sent may stay under way. */
WEFT_FN void weft_sim_forget(weft_sim *s, uint32_t i) {
    weft_sim_op *o = &s->op[i];
    uint32_t flow = o->flow;
    if (o->state == WEFT_SIM_IS_OVER) {
        s->worker[o->rank].untested--;
    } else if (o->state == WEFT_SIM_MET) {
        if (!o->is_send && o->msg != WEFT_SIM_NONE) weft_sim_free_msg(s, o->msg);
    } else if (!o->is_send) {
        weft_sim_unlink_recv(s, i);
        weft_sim_drop_flow(s, flow);
    } else if (o->msg != WEFT_SIM_NONE) {
        weft_sim_msg *m = &s->msg[o->msg];
        int deliver = s->desc.cancel_delivers && (weft_sim_draw(&s->rng_torture) & 1);
        if (deliver && !m->data && !weft_sim_own(s, o->msg, o->from, o->bytes, o->bytes)) deliver = 0;
        m->op = WEFT_SIM_NONE;
        if (!deliver) {
            if (m->arrived) {
                weft_sim_unlink_msg(s, o->msg);
                weft_sim_free_msg(s, o->msg);
                weft_sim_drop_flow(s, flow);
            } else {
                m->is_void = 1;
            }
        }
    }
    weft_sim_free_op(s, i);
}

WEFT_FN weft_status weft_sim_test(void *ctx, weft_request *r) {
    weft_sim_endpoint *w = (weft_sim_endpoint *)ctx;
    weft_sim *s = w->sim;
    weft_status status = weft_sim_count_call(s, WEFT_SIM_TEST, w->rank);
    uint32_t i = weft_sim_of(s, w->rank, r);
    weft_sim_op *o;
    if (w->dead) return WEFT_ERR_TRANSPORT;
    if (i == WEFT_SIM_NONE) {
        if (w->life == 0) weft_sim_violate(s, "test of a request that is not under way", w->rank, WEFT_SIM_NONE, 0);
        return w->life == 0 ? WEFT_ERR_ORDER : WEFT_ERR_TRANSPORT;
    }
    o = &s->op[i];
    if (o->request != r) weft_sim_violate(s, "a request has moved", w->rank, o->peer, o->tag);
    if (status != WEFT_OK) { /* an error ends the request */
        r->word[0] = 0;
        weft_sim_forget(s, i);
        return status;
    }
    if (o->state != WEFT_SIM_IS_OVER) return WEFT_AGAIN;
    if (s->desc.coy && weft_sim_draw(&s->rng_torture) % s->desc.coy == 0) {
        weft_sim_wake(s, w->rank, s->now + 1);
        return WEFT_AGAIN;
    }
    r->bytes = o->length;
    r->word[0] = 0;
    status = o->status;
    weft_sim_note(s, "over", w->rank, o->peer, o->tag, (uint64_t)(uint32_t)status);
    weft_sim_forget(s, i);
    return status;
}

WEFT_FN void weft_sim_cancel(void *ctx, weft_request *r) {
    weft_sim_endpoint *w = (weft_sim_endpoint *)ctx;
    weft_sim *s = w->sim;
    uint32_t i = weft_sim_of(s, w->rank, r);
    weft_sim_count_call(s, WEFT_SIM_CANCEL, w->rank);
    r->word[0] = 0;
    if (w->dead || i == WEFT_SIM_NONE) return;
    if (s->op[i].request != r) weft_sim_violate(s, "a request has moved", w->rank, s->op[i].peer, s->op[i].tag);
    weft_sim_note(s, "cancel", w->rank, s->op[i].peer, s->op[i].tag, (uint64_t)s->op[i].is_send);
    weft_sim_forget(s, i);
}

WEFT_FN uint64_t weft_sim_now_of(void *ctx) {
    return ((weft_sim_endpoint *)ctx)->sim->now;
}

/* ---- the loop ---- */

WEFT_FN void weft_sim_run_worker(weft_sim *s, weft_sim_endpoint *w) {
    uint32_t life = w->life;
    int done;
    if (w->dead || w->done || w->inside || !w->step) return;
    w->inside = 1;
    w->news = 0;
    s->steps++;
    w->counts.steps++;
    done = w->step(w->user, w->rank);
    w->inside = 0;
    if (w->dead || w->life != life || w->done) return;
    if (done) {
        w->done = 1;
        s->undone--;
        weft_sim_note(s, "done", w->rank, WEFT_SIM_NONE, WEFT_SIM_NONE, 0);
    } else if (w->news && w->untested) {
        weft_sim_wake(s, w->rank, s->now);
    }
}

/* Lets the next thing happen; 0 if nothing is left. */
WEFT_FN int weft_sim_next(weft_sim *s) {
    weft_sim_event e;
    uint32_t i;
    if (!s->heap_count || s->no_memory) return 0;
    e = weft_sim_pop(s);
    s->now = e.at;
    s->events++;
    switch (e.kind) {
    case WEFT_SIM_WAKE:
        if (s->worker[e.what].life != e.life || s->worker[e.what].wake_at != e.at) break;
        s->worker[e.what].wake_at = UINT64_MAX;
        if (s->worker[e.what].busy_until > s->now) weft_sim_wake(s, e.what, s->now);
        else weft_sim_run_worker(s, &s->worker[e.what]);
        break;
    case WEFT_SIM_TIMER:
        if (s->worker[e.what].life != e.life || s->worker[e.what].timer_at != e.at) break;
        s->worker[e.what].timer_at = UINT64_MAX;
        weft_sim_wake(s, e.what, s->now);
        break;
    case WEFT_SIM_NOTICE:
        if (s->worker[e.what].life == e.life && s->worker[e.what].dead) weft_sim_notice(s, e.what);
        break;
    case WEFT_SIM_OVER: {
        weft_sim_op *o = &s->op[e.what];
        uint32_t msg = o->msg;
        if (o->life != e.life || o->state != WEFT_SIM_MET) break;
        if (o->is_send) {
            weft_sim_over(s, e.what, WEFT_OK, o->bytes);
        } else {
            weft_sim_deliver(s, e.what, msg);
            s->op[e.what].msg = WEFT_SIM_NONE;
            weft_sim_free_msg(s, msg);
        }
        break;
    }
    case WEFT_SIM_ARRIVE:
        s->flow[s->msg[e.what].flow].under_way--;
        s->arrived++;
        for (i = 0; i < s->fault_count; i++) {
            weft_sim_fault *f = &s->fault[i];
            if (f->kind != WEFT_SIM_FAULT_LOSE || f->after || f->nth != s->arrived) continue;
            f->fired += !s->worker[f->rank].dead;
            s->flow[s->msg[e.what].flow].under_way++; /* the flow must not go while its message is in our hands */
            weft_sim_lose(s, f->rank);
            s->flow[s->msg[e.what].flow].under_way--;
        }
        weft_sim_arrive(s, e.what);
        for (i = 0; i < s->fault_count; i++) {
            weft_sim_fault *f = &s->fault[i];
            if (f->nth != s->arrived) continue;
            if (f->kind == WEFT_SIM_FAULT_LOSE && f->after) {
                f->fired += !s->worker[f->rank].dead;
                weft_sim_lose(s, f->rank);
            } else if (f->kind == WEFT_SIM_FAULT_INJECT) {
                weft_sim_do_inject(s, f);
            }
        }
        if (s->desc.spurious && weft_sim_draw(&s->rng_torture) % s->desc.spurious == 0)
            weft_sim_wake(s, (uint32_t)(weft_sim_draw(&s->rng_torture) % s->desc.size), s->now);
        break;
    case WEFT_SIM_TIMED_FAULT: {
        weft_sim_fault *f = &s->fault[e.what];
        if (f->kind == WEFT_SIM_FAULT_INJECT) {
            weft_sim_do_inject(s, f);
        } else if (f->kind == WEFT_SIM_FAULT_LOSE) {
            f->fired += !s->worker[f->rank].dead;
            weft_sim_lose(s, f->rank);
        } else {
            f->fired += s->worker[f->rank].dead != 0;
            weft_sim_revive(s, f->rank);
        }
        break;
    }
    }
    return 1;
}

/* A worker that blocks inside its step: the others go on until something happened for it or the time has come. Workers
 * that wait inside a wait get on with it only when the inner one returns. */
WEFT_FN void weft_sim_wait(void *ctx, uint64_t until_ns) {
    weft_sim_endpoint *w = (weft_sim_endpoint *)ctx;
    weft_sim *s = w->sim;
    if (w->untested && w->news) {
        w->news = 0;
        return;
    }
    while (!w->news && !w->dead) {
        if (s->heap_count && s->heap[0].at <= until_ns) {
            if (s->heap[0].kind == WEFT_SIM_WAKE && s->heap[0].what == w->rank) {
                weft_sim_event e = weft_sim_pop(s);
                s->now = e.at;
                if (w->life == e.life && w->wake_at == e.at) {
                    w->wake_at = UINT64_MAX;
                    break;
                }
            } else if (!weft_sim_next(s)) {
                break;
            }
        } else {
            /* Nothing will happen any more: time passes, so that whoever has a deadline meets it. */
            if (until_ns == UINT64_MAX) s->now += UINT64_C(1000000000);
            else if (until_ns > s->now) s->now = until_ns;
            break;
        }
    }
    w->news = 0;
}

/* What still waits, for a report. */
WEFT_FN void weft_sim_describe(weft_sim *s, const char *what) {
    uint32_t r, i;
    size_t n = 0, room = sizeof s->text;
    int k = snprintf(s->text, room, "%s at %llu ns, seed %llu (%llu messages, %llu steps)\n", what,
                     (unsigned long long)s->now, (unsigned long long)s->desc.seed, (unsigned long long)s->sent,
                     (unsigned long long)s->steps);
    if (k > 0) n = (size_t)k;
    for (r = 0; r < s->desc.size && n + 1 < room; r++) {
        const weft_sim_endpoint *w = &s->worker[r];
        if (!w->step || w->done) continue;
        k = snprintf(s->text + n, room - n, "worker %lu waits for:", (unsigned long)r);
        if (k > 0) n += (size_t)k;
        for (i = 0; i < s->op_count && n + 1 < room; i++) {
            const weft_sim_op *o = &s->op[i];
            if (o->state == WEFT_SIM_FREE || o->rank != r) continue;
            k = snprintf(s->text + n, room - n, " %s %lu (tag %lu, %llu bytes%s)",
                         o->is_send ? "send to" : "receive from", (unsigned long)o->peer, (unsigned long)o->tag,
                         (unsigned long long)o->bytes,
                         o->state == WEFT_SIM_IS_OVER ? ", over but not tested" : "");
            if (k > 0) n += (size_t)k;
        }
        if (n + 1 < room) {
            k = snprintf(s->text + n, room - n, "\n");
            if (k > 0) n += (size_t)k;
        }
    }
    s->text[room - 1] = 0;
}

/* ---- what a user calls ---- */

/* WEFT_OK, or WEFT_ERR_ARGUMENT, WEFT_ERR_MEMORY. The sim must not move afterwards. */
WEFT_FN weft_status weft_sim_init(weft_sim *s, const weft_sim_desc *d) {
    uint32_t i;
    memset(s, 0, sizeof *s);
    s->desc = *d;
    if (d->size == 0 || d->size > 1000000u) return WEFT_ERR_ARGUMENT;
    s->rng_link = weft_sim_mix(d->seed ^ UINT64_C(0x6C696E6B));
    s->rng_torture = weft_sim_mix(d->seed ^ UINT64_C(0x746F7274));
    s->rng_user = weft_sim_mix(d->seed ^ UINT64_C(0x75736572));
    s->trace_hash = weft_sim_mix(d->seed);
    if (d->bytes_per_second) s->ps_per_byte = UINT64_C(1000000000000) / d->bytes_per_second;
    s->op_free = s->msg_free = s->flow_free = WEFT_SIM_NONE;
    s->flow_buckets = s->link_buckets = 256;
    s->worker = (weft_sim_endpoint *)calloc(d->size, sizeof *s->worker);
    s->flow_hash = (uint32_t *)malloc(s->flow_buckets * sizeof *s->flow_hash);
    s->link_hash = (uint32_t *)malloc(s->link_buckets * sizeof *s->link_hash);
    if (!s->worker || !s->flow_hash || !s->link_hash) {
        free(s->worker);
        free(s->flow_hash);
        free(s->link_hash);
        memset(s, 0, sizeof *s);
        return WEFT_ERR_MEMORY;
    }
    memset(s->flow_hash, 0xFF, s->flow_buckets * sizeof *s->flow_hash);
    memset(s->link_hash, 0xFF, s->link_buckets * sizeof *s->link_hash);
    for (i = 0; i < d->size; i++) {
        s->worker[i].sim = s;
        s->worker[i].rank = i;
        s->worker[i].wake_at = s->worker[i].timer_at = UINT64_MAX;
    }
    if (d->trace) fprintf(d->trace, "seed %llu workers %lu\n", (unsigned long long)d->seed, (unsigned long)d->size);
    return WEFT_OK;
}

WEFT_FN void weft_sim_free(weft_sim *s) {
    uint32_t i;
    for (i = 0; i < s->msg_count; i++)
        if (s->msg[i].data && s->msg[i].bytes > WEFT_SIM_SMALL) free(s->msg[i].data);
    for (i = 0; i < s->fault_count; i++) free(s->fault[i].data);
    free(s->fault);
    free(s->msg);
    free(s->op);
    free(s->flow);
    free(s->link);
    free(s->heap);
    free(s->flow_hash);
    free(s->link_hash);
    free(s->worker);
    memset(s, 0, sizeof *s);
}

/* A nasty network drawn from the seed, all of it within the contract. */
WEFT_FN weft_sim_desc weft_sim_torture(uint64_t seed, uint32_t size) {
    static const uint64_t latency[4] = {0, 1, 1000, 100000};
    weft_sim_desc d;
    uint64_t rng = weft_sim_mix(seed + 1);
    memset(&d, 0, sizeof d);
    d.seed = seed;
    d.size = size;
    d.mode = (weft_sim_mode)(weft_sim_draw(&rng) % 4);
    d.eager_bytes = weft_sim_draw(&rng) % 300;
    d.latency_ns = latency[weft_sim_draw(&rng) % 4];
    d.jitter_ns = latency[weft_sim_draw(&rng) % 4] * 3;
    d.bytes_per_second = weft_sim_draw(&rng) % 2 ? 0 : UINT64_C(1000000000);
    d.complete_ns = latency[weft_sim_draw(&rng) % 3] * 2;
    d.coy = weft_sim_draw(&rng) % 2 ? 0 : 3;
    d.spurious = weft_sim_draw(&rng) % 2 ? 0 : 4;
    d.shuffle = (int)(weft_sim_draw(&rng) % 2);
    d.scribble = d.watch = d.cancel_delivers = 1;
    return d;
}

/* Fills in a transport for one worker. */
WEFT_FN void weft_sim_transport(weft_sim *s, uint32_t rank, weft_transport *net) {
    *net = weft_transport_make(&s->worker[rank], rank, s->desc.size, weft_sim_send, weft_sim_recv, weft_sim_test,
                               weft_sim_cancel, weft_sim_now_of);
    net->max_message_bytes = s->desc.max_message_bytes;
    net->shared = s->desc.shared;
    net->wait = weft_sim_wait;
}

/* Registers what a worker does (again, after it was revived or done): called soon, and then when there is news. */
WEFT_FN void weft_sim_worker(weft_sim *s, uint32_t rank, weft_sim_step_fn step, void *user) {
    weft_sim_endpoint *w = &s->worker[rank];
    if (w->dead) return;
    if (w->step && !w->done) s->undone--;
    w->step = step;
    w->user = user;
    w->done = step == NULL;
    if (step) s->undone++;
    if (step) weft_sim_wake(s, rank, s->now);
}

/* One link with numbers of its own. bytes_per_second 0: unlimited. */
WEFT_FN void weft_sim_set_link(weft_sim *s, uint32_t src, uint32_t dst, uint64_t latency_ns, uint64_t jitter_ns,
                               uint64_t bytes_per_second) {
    uint32_t i = weft_sim_find_link(s, src, dst);
    if (i == WEFT_SIM_NONE) return;
    s->link[i].own = 1;
    s->link[i].latency_ns = latency_ns;
    s->link[i].jitter_ns = jitter_ns;
    s->link[i].ps_per_byte = bytes_per_second ? UINT64_C(1000000000000) / bytes_per_second : 0;
}

/* From inside a step (or outside): call the step again after so long at the latest. One timer a worker. */
WEFT_FN void weft_sim_sleep(weft_sim *s, uint32_t rank, uint64_t ns) {
    weft_sim_endpoint *w = &s->worker[rank];
    if (w->dead) return;
    w->timer_at = s->now + ns;
    weft_sim_push(s, w->timer_at, WEFT_SIM_TIMER, rank, w->life);
}

/* The worker computes for so long: whatever happens, its step is not called before, and is called then. */
WEFT_FN void weft_sim_busy(weft_sim *s, uint32_t rank, uint64_t ns) {
    weft_sim_endpoint *w = &s->worker[rank];
    if (w->dead) return;
    w->busy_until = s->now + ns;
    w->wake_at = UINT64_MAX; /* an earlier wake-up is void */
    weft_sim_wake(s, rank, w->busy_until);
}

/* Runs until every registered worker is done, nothing can happen any more, or so many steps have been made. May be
 * called again. */
WEFT_FN weft_sim_end weft_sim_run(weft_sim *s, uint64_t max_steps) {
    uint64_t end = s->steps + max_steps;
    while (s->undone) {
        if (s->steps >= end) {
            weft_sim_describe(s, "too many steps");
            return WEFT_SIM_EXHAUSTED;
        }
        if (!weft_sim_next(s)) {
            weft_sim_describe(s, s->no_memory ? "out of memory" : "deadlock");
            return s->no_memory ? WEFT_SIM_NO_MEMORY : WEFT_SIM_DEADLOCK;
        }
    }
    weft_sim_describe(s, "done");
    return WEFT_SIM_DONE;
}

/* Lets so much time pass, with all that happens in it. */
WEFT_FN void weft_sim_advance(weft_sim *s, uint64_t ns) {
    uint64_t until = s->now + ns;
    while (s->heap_count && s->heap[0].at <= until && weft_sim_next(s)) continue;
    s->now = until;
}

WEFT_FN uint64_t weft_sim_now(const weft_sim *s) {
    return s->now;
}

/* A draw of the test's own, from the same seed; it does not disturb the schedule. */
WEFT_FN uint64_t weft_sim_random(weft_sim *s) {
    return weft_sim_draw(&s->rng_user);
}

/* Everything that happened, in one number. */
WEFT_FN uint64_t weft_sim_hash(const weft_sim *s) {
    return s->trace_hash;
}

/* How the last run ended: seed, time, and who waits for what. */
WEFT_FN const char *weft_sim_text(const weft_sim *s) {
    return s->text;
}

/* The first breach of the contract by the library, or NULL. */
WEFT_FN const char *weft_sim_violation(const weft_sim *s) {
    return s->violations ? s->violation : NULL;
}

WEFT_FN const weft_sim_counts *weft_sim_counts_of(const weft_sim *s, uint32_t rank) {
    return &s->worker[rank].counts;
}

WEFT_FN int weft_sim_alive(const weft_sim *s, uint32_t rank) {
    return !s->worker[rank].dead;
}

/* Messages sent, and messages that have arrived (lose_at_message and inject count these), by all. */
WEFT_FN uint64_t weft_sim_sent(const weft_sim *s) {
    return s->sent;
}
WEFT_FN uint64_t weft_sim_arrived(const weft_sim *s) {
    return s->arrived;
}

/* Requests that are under way now, and the most that one worker ever had with one peer on one channel. */
WEFT_FN uint32_t weft_sim_outstanding(const weft_sim *s) {
    return s->op_live;
}
WEFT_FN uint32_t weft_sim_most_outstanding(const weft_sim *s) {
    return s->most_outstanding;
}

#endif /* WEFT_SIM_H */
