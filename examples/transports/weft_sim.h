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
 * Virtual time stands still inside a step. Include this file after one of the weft headers.
 *
 * Included here: weft_sim_faults.h (everything that can be asked to go wrong), weft_sim_lossy.h (links that lose
 * packets, below an adapter that mends it). Beside it: weft_sim_pace.h (drawn compute times), weft_sim_check.h (what
 * must hold, found out without asking the system). */
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

/* What became of a message. Each that was sent or forged is delivered or gone at last, and never both. */
typedef enum weft_sim_fate {
    WEFT_SIM_SENT = 0,
    WEFT_SIM_FORGED = 1,    /* injected: nobody sent it */
    WEFT_SIM_MATCHED = 2,   /* it has met its receive: in order, while what follows need not be */
    WEFT_SIM_DELIVERED = 3, /* its bytes are in a receive */
    WEFT_SIM_GONE = 4,      /* it will never arrive: dropped, cancelled, or an end of it was lost */
    WEFT_SIM_FATES = 5
} weft_sim_fate;

/* Hooks look and take notes; they call no transport. */
typedef void (*weft_sim_message_fn)(void *user, const weft_sim_message *message);
/* data is NULL but for those that are sent. */
typedef void (*weft_sim_mail_fn)(void *user, weft_sim_fate fate, const weft_sim_message *message);
/* `rank` learns that its connection with `peer`, which may well live, is gone (up 0) or there again (up 1). */
typedef void (*weft_sim_link_fn)(void *user, uint32_t rank, uint32_t peer, int up);
/* A worker was lost (alive 0; called when its peers learn of it) or came back (alive 1). */
typedef void (*weft_sim_change_fn)(void *user, uint32_t rank, int alive);
/* A worker runs: 1 if it is done for good, 0 to be called again when something has happened. */
typedef int (*weft_sim_step_fn)(void *user, uint32_t rank);

/* A link that loses packets, below an adapter that makes it reliable, as TCP does (weft_sim_lossy.h). All fields zero:
 * there is none. Probabilities are in millionths. */
typedef struct weft_sim_lossy {
    uint32_t packet_bytes;    /* messages are cut into so many; 0: 1,400 */
    uint32_t loss_ppm;        /* of every packet, and of every acknowledgement for the other direction, */
    uint32_t duplicate_ppm;   /* of arriving twice, */
    uint32_t reorder_ppm;     /* of coming later, behind those that were sent after it */
    uint64_t reorder_ns;      /* later by so much; 0: twice latency and jitter */
    uint64_t timeout_ns;      /* until the first retransmission; 0: twice latency and jitter of both directions */
    uint64_t most_timeout_ns; /* it doubles up to this; 0: 64 times the first */
    uint32_t window;          /* packets under way at most; 0: 64, which is the most */
    uint32_t retries;         /* after so many in vain the peer is given up: WEFT_ERR_PEER_LOST; 0: never */
} weft_sim_lossy;

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
    void *user; /* for these hooks, and on_link */
    weft_sim_link_fn on_link;
    weft_sim_mail_fn on_mail; /* for checkers, beside the hooks above, */
    void *mail_user;          /* with a pointer of its own */
    weft_sim_lossy lossy;     /* of every link */
    uint32_t overtake;        /* one in so many messages is held back, so that other flows overtake it; 0: none, */
    uint64_t overtake_ns;     /* by up to so much, drawn */
    const char *trace_path;   /* the trace goes into this file (beside `trace`); weft_sim_free closes it */
    const char *replay;       /* a command that replays a run, with %s for its seed: weft_sim_text quotes it */
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
    uint64_t delivered, gone, forged; /* of the messages in its name, all together */
} weft_sim_counts;

/* What has happened to the packets of lossy links. */
typedef struct weft_sim_packets {
    uint64_t sent;       /* retransmissions included, second copies not */
    uint64_t lost;       /* by chance or in a partition */
    uint64_t duplicated;
    uint64_t reordered;  /* held back */
    uint64_t again;      /* retransmitted */
    uint64_t ahead;      /* arrived before one that was sent earlier */
    uint64_t discarded;  /* arrived, and had arrived before */
    uint64_t acks, acks_lost;
    uint64_t timeouts, given_up;
} weft_sim_packets;

/* Everything that can go wrong, to be counted: weft_sim_happened. First what is asked for one by one, then what is
 * drawn. */
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
    WEFT_SIM_FAULT_PARTITION,
    WEFT_SIM_FAULT_CUT,
    WEFT_SIM_FAULT_RECONNECT,
    WEFT_SIM_PACKET_LOST,
    WEFT_SIM_PACKET_TWICE,
    WEFT_SIM_PACKET_LATE,
    WEFT_SIM_PACKET_AGAIN,
    WEFT_SIM_ACK_LOST,
    WEFT_SIM_GIVEN_UP,
    WEFT_SIM_HELD_BACK, /* a message, by `overtake` */
    WEFT_SIM_OVERTAKEN, /* a message arrived after one that was sent later on the same link */
    WEFT_SIM_COY,
    WEFT_SIM_SPURIOUS,
    WEFT_SIM_SHUFFLED,  /* something happened before what had been due earlier at the same time */
    WEFT_SIM_CAME_ALL_THE_SAME, /* a cancelled send was delivered */
    WEFT_SIM_STRAGGLED, /* a transient straggler (weft_sim_pace.h) */
    WEFT_SIM_KINDS
} weft_sim_kind;

/* ---- inside ---- */

#define WEFT_SIM_NONE UINT32_MAX

typedef struct weft_sim_fault {
    weft_sim_kind kind;
    uint32_t src, dst, tag;     /* filter of messages, or (src) whose call */
    uint64_t nth, times;        /* the n-th that passes the filter, and times - 1 more; nth 0: not counted but timed */
    uint64_t seen, fired;
    uint64_t from_ns, until_ns;
    uint32_t rank;              /* who is lost or revived */
    int after;  /* of a partition: in both directions */
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
    WEFT_SIM_TIMED_FAULT,
    WEFT_SIM_LINK_NOTICE,
    WEFT_SIM_PACKET,
    WEFT_SIM_ACK,
    WEFT_SIM_RETRY
} weft_sim_event_kind;

typedef struct weft_sim_event {
    uint64_t at, order;
    weft_sim_event_kind kind;
    uint32_t what, life, seq;
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
    int forged;
    uint32_t end;        /* on a lossy link: the sequence number after its last packet */
    size_t bytes;
    unsigned char *data; /* NULL: still in the sender's buffer */
    uint64_t hash, number;
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
    uint32_t pipe;  /* 1 + its number, of a lossy link; 0: none */
    uint32_t epoch; /* connections so far */
    unsigned char own, own_pipe; /* has numbers of its own, and its own ones of losses */
    unsigned char down, told; /* the connection is gone, and src knows it */
    uint64_t latency_ns, jitter_ns, ps_per_byte, free_at;
    uint64_t newest;                     /* number of the latest message of dst that has arrived at src */
    uint16_t outstanding[WEFT_CHANNELS]; /* requests of src with dst */
} weft_sim_link;

#define WEFT_SIM_WINDOW 64u

/* A connection over a lossy link: what src sends to dst, and the acknowledgements of it. Sequence numbers count packets
 * and wrap around; the receiver's buffer is a mask of what has come from `expected` on. */
typedef struct weft_sim_pipe {
    uint32_t there, back, epoch;
    weft_sim_lossy how;
    uint32_t acked, next, queued;  /* the first not acknowledged, the next to be sent, the end of what there is */
    uint32_t recover;              /* while acked is before it, each acknowledgement shows the next hole */
    uint32_t tries, same;          /* timeouts in a row, and acknowledgements of the same number */
    int recovering, pending;
    uint64_t deadline, timer_at;
    uint32_t msg_first, msg_last, cursor; /* messages not released yet; the first that is not wholly sent */
    size_t sent_of_cursor;
    uint32_t expected;
    uint64_t here;
    uint32_t bytes[WEFT_SIM_WINDOW]; /* of each packet under way */
    weft_sim_packets count;
} weft_sim_pipe;

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
    uint64_t now, order, sent, forged, arrived, steps, events, ps_per_byte;
    uint64_t rng_link, rng_torture, rng_user, rng_packet;
    uint64_t trace_hash;
    uint64_t happened[WEFT_SIM_KINDS];
    uint64_t trouble_until;     /* when the last planted fault was, or its window ends */
    uint64_t last_at, last_order; /* of the last event, for WEFT_SIM_SHUFFLED */
    uint64_t message_bytes;     /* held for long messages */
    uint64_t most_message_bytes;
    FILE *trace_file;
    int lossy;                  /* every link is */
    uint32_t cuts;              /* connections that are gone */
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
    weft_sim_pipe *pipe;
    uint32_t pipe_count, pipe_room;

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

WEFT_FN void weft_sim_line(FILE *to, uint64_t now, const char *what, uint32_t a, uint32_t b, uint32_t tag, uint64_t n) {
    fprintf(to, "%llu %s %lu %ld tag %ld %llu\n", (unsigned long long)now, what, (unsigned long)a,
            b == WEFT_SIM_NONE ? -1L : (long)b, tag == WEFT_SIM_NONE ? -1L : (long)tag, (unsigned long long)n);
}

/* A line of the trace that follows from what is in the hash already. */
WEFT_FN void weft_sim_tell(weft_sim *s, const char *what, uint32_t a, uint32_t b, uint32_t tag, uint64_t n) {
    if (s->desc.trace) weft_sim_line(s->desc.trace, s->now, what, a, b, tag, n);
    if (s->trace_file) weft_sim_line(s->trace_file, s->now, what, a, b, tag, n);
}

WEFT_FN void weft_sim_note(weft_sim *s, const char *what, uint32_t a, uint32_t b, uint32_t tag, uint64_t n) {
    s->trace_hash = weft_sim_mix(s->trace_hash ^ s->now) + (uint64_t)(unsigned char)what[0];
    s->trace_hash = weft_sim_mix(s->trace_hash ^ ((uint64_t)a << 32 | b)) + tag;
    s->trace_hash = weft_sim_mix(s->trace_hash ^ n);
    weft_sim_tell(s, what, a, b, tag, n);
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

WEFT_FN int weft_sim_push_seq(weft_sim *s, uint64_t at, weft_sim_event_kind kind, uint32_t what, uint32_t life,
                              uint32_t seq) {
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
    e.seq = seq;
    for (i = s->heap_count++; i && weft_sim_before(&e, &s->heap[(i - 1) / 4]); i = (i - 1) / 4)
        s->heap[i] = s->heap[(i - 1) / 4];
    s->heap[i] = e;
    return 1;
}

WEFT_FN int weft_sim_push(weft_sim *s, uint64_t at, weft_sim_event_kind kind, uint32_t what, uint32_t life) {
    return weft_sim_push_seq(s, at, kind, what, life, 0);
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
    m->is_void = m->arrived = m->forged = 0;
    m->number = 0;
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
    if (old) s->message_bytes -= m->bytes;
    if (bytes > WEFT_SIM_SMALL) s->message_bytes += bytes;
    if (s->message_bytes > s->most_message_bytes) s->most_message_bytes = s->message_bytes;
    free(old);
    m->data = to;
    m->bytes = bytes;
    return 1;
}

WEFT_FN void weft_sim_free_msg(weft_sim *s, uint32_t i) {
    weft_sim_msg *m = &s->msg[i];
    if (m->data && m->bytes > WEFT_SIM_SMALL) {
        s->message_bytes -= m->bytes;
        free(m->data);
    }
    m->data = NULL;
    m->next = s->msg_free;
    m->flow = WEFT_SIM_NONE;
    s->msg_free = i;
}

WEFT_FN void weft_sim_mail(weft_sim *s, weft_sim_fate fate, uint32_t i, const void *data) {
    const weft_sim_msg *m = &s->msg[i];
    weft_sim_message message;
    if (!s->desc.on_mail) return;
    message.src = m->src;
    message.dst = m->dst;
    message.tag = m->tag;
    message.bytes = m->bytes;
    message.data = data;
    message.number = m->number;
    message.now_ns = s->now;
    s->desc.on_mail(s->desc.mail_user, fate, &message);
}

/* The message will never arrive. */
WEFT_FN void weft_sim_gone(weft_sim *s, uint32_t i) {
    const weft_sim_msg *m = &s->msg[i];
    s->worker[m->src].counts.gone++;
    weft_sim_tell(s, "gone", m->src, m->dst, m->tag, m->number);
    weft_sim_mail(s, WEFT_SIM_GONE, i, NULL);
    weft_sim_free_msg(s, i);
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
    s->worker[m->src].counts.delivered++;
    weft_sim_tell(s, "deliver", m->src, m->dst, m->tag, m->number);
    weft_sim_mail(s, WEFT_SIM_DELIVERED, msg, NULL);
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
        weft_sim_mail(s, WEFT_SIM_MATCHED, mi, NULL);
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

/* ---- connections, losing and reviving ---- */

/* A request that is under way with somebody who is gone is over. */
WEFT_FN void weft_sim_end_op(weft_sim *s, uint32_t i) {
    weft_sim_op *o = &s->op[i];
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

/* Messages that have arrived and wait in a flow are gone. */
WEFT_FN void weft_sim_empty_flow(weft_sim *s, weft_sim_flow *f) {
    while (f->msg_first != WEFT_SIM_NONE) {
        uint32_t m = f->msg_first;
        if (s->msg[m].op != WEFT_SIM_NONE) s->op[s->msg[m].op].msg = WEFT_SIM_NONE;
        weft_sim_unlink_msg(s, m);
        weft_sim_gone(s, m);
    }
}

/* A message that is on no list any more (or on its way through the events) is gone, its flow with it if it was the
 * last. */
WEFT_FN void weft_sim_lose_msg(weft_sim *s, uint32_t msg) {
    uint32_t flow = s->msg[msg].flow;
    if (s->msg[msg].op != WEFT_SIM_NONE) s->op[s->msg[msg].op].msg = WEFT_SIM_NONE;
    s->flow[flow].under_way--;
    weft_sim_gone(s, msg);
    weft_sim_drop_flow(s, flow);
}

/* The connection begins anew: nothing of the old one is under way any more. */
WEFT_FN void weft_sim_reset_pipe(weft_sim *s, uint32_t pipe) {
    weft_sim_pipe *p = &s->pipe[pipe];
    uint32_t m = p->msg_first;
    p->epoch++;
    p->acked = p->next = p->queued = p->recover = p->expected = 0;
    p->tries = p->same = 0;
    p->recovering = p->pending = 0;
    p->here = 0;
    p->msg_first = p->msg_last = p->cursor = WEFT_SIM_NONE;
    p->sent_of_cursor = 0;
    while (m != WEFT_SIM_NONE) {
        uint32_t next = s->msg[m].next;
        weft_sim_lose_msg(s, m);
        m = next;
    }
}

/* `rank` learns that its connection with `peer` is gone: what it has pending with it is over. */
WEFT_FN void weft_sim_tell_cut(weft_sim *s, uint32_t rank, uint32_t peer) {
    uint32_t i, link = weft_sim_find_link(s, rank, peer);
    if (link == WEFT_SIM_NONE || !s->link[link].down || s->link[link].told) return;
    s->link[link].told = 1;
    weft_sim_note(s, "unlinked", rank, peer, WEFT_SIM_NONE, 0);
    for (i = 0; i < s->op_count; i++)
        if (s->op[i].state == WEFT_SIM_POSTED && s->op[i].rank == rank && s->op[i].peer == peer) weft_sim_end_op(s, i);
    weft_sim_wake(s, rank, s->now);
    if (s->desc.on_link) s->desc.on_link(s->desc.user, rank, peer, 0);
}

/* The connection between a and b is gone. Each end learns it detect_ns later, but a at once if it is a_knows. 0: it was
 * gone already, or one of them is. */
WEFT_FN int weft_sim_disconnect(weft_sim *s, uint32_t a, uint32_t b, int a_knows) {
    uint32_t i, k, end[2], link[2];
    link[0] = weft_sim_find_link(s, a, b);
    link[1] = weft_sim_find_link(s, b, a);
    if (a == b || link[0] == WEFT_SIM_NONE || link[1] == WEFT_SIM_NONE || s->link[link[0]].down || s->worker[a].dead ||
        s->worker[b].dead)
        return 0;
    weft_sim_note(s, "cut", a, b, WEFT_SIM_NONE, (uint64_t)a_knows);
    s->cuts++;
    for (k = 0; k < 2; k++) {
        s->link[link[k]].down = 1;
        s->link[link[k]].told = 0;
        s->link[link[k]].epoch++;
        if (s->link[link[k]].pipe) weft_sim_reset_pipe(s, s->link[link[k]].pipe - 1);
    }
    for (i = 0; i < s->msg_count; i++) {
        weft_sim_msg *m = &s->msg[i];
        if (m->flow == WEFT_SIM_NONE || m->arrived || !((m->src == a && m->dst == b) || (m->src == b && m->dst == a)))
            continue;
        if (m->op != WEFT_SIM_NONE) s->op[m->op].msg = WEFT_SIM_NONE;
        m->op = WEFT_SIM_NONE;
        m->is_void = 1; /* what is on its way arrives nowhere */
    }
    for (i = 0; i < s->flow_count; i++) {
        weft_sim_flow *f = &s->flow[i];
        if (f->src == WEFT_SIM_NONE || !((f->src == a && f->dst == b) || (f->src == b && f->dst == a))) continue;
        weft_sim_empty_flow(s, f);
        weft_sim_drop_flow(s, i);
    }
    end[0] = a;
    end[1] = b;
    for (k = 0; k < 2; k++)
        if (s->desc.detect_ns && !(a_knows && k == 0))
            weft_sim_push(s, s->now + s->desc.detect_ns, WEFT_SIM_LINK_NOTICE, link[k], s->link[link[k]].epoch);
        else
            weft_sim_tell_cut(s, end[k], end[1 - k]);
    return 1;
}

/* There is a connection again, and both ends know it. */
WEFT_FN int weft_sim_connect(weft_sim *s, uint32_t a, uint32_t b) {
    uint32_t k, end[2], link[2];
    link[0] = weft_sim_find_link(s, a, b);
    link[1] = weft_sim_find_link(s, b, a);
    if (link[0] == WEFT_SIM_NONE || link[1] == WEFT_SIM_NONE || !s->link[link[0]].down) return 0;
    end[0] = a;
    end[1] = b;
    for (k = 0; k < 2; k++) weft_sim_tell_cut(s, end[k], end[1 - k]);
    weft_sim_note(s, "connected", a, b, WEFT_SIM_NONE, 0);
    s->cuts--;
    for (k = 0; k < 2; k++) s->link[link[k]].down = s->link[link[k]].told = 0;
    for (k = 0; k < 2; k++) {
        weft_sim_wake(s, end[k], s->now);
        if (s->desc.on_link) s->desc.on_link(s->desc.user, end[k], end[1 - k], 1);
    }
    return 1;
}

/* A worker that is lost or new has no old connections. */
WEFT_FN void weft_sim_forget_links(weft_sim *s, uint32_t rank) {
    uint32_t i;
    for (i = 0; i < s->link_count; i++) {
        weft_sim_link *l = &s->link[i];
        if (l->src != rank && l->dst != rank) continue;
        if (l->pipe) weft_sim_reset_pipe(s, l->pipe - 1);
        s->cuts -= l->down && l->src < l->dst;
        l->down = l->told = 0;
        l->epoch++;
    }
}

/* Peers learn that a worker is gone: what they have pending with it is over. */
WEFT_FN void weft_sim_notice(weft_sim *s, uint32_t rank) {
    uint32_t i;
    if (s->worker[rank].noticed) return;
    s->worker[rank].noticed = 1;
    weft_sim_note(s, "notice", rank, WEFT_SIM_NONE, WEFT_SIM_NONE, 0);
    for (i = 0; i < s->op_count; i++) {
        weft_sim_op *o = &s->op[i];
        if (o->state == WEFT_SIM_POSTED && o->peer == rank) weft_sim_end_op(s, i);
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
    weft_sim_forget_links(s, rank);
    /* messages that have arrived from it or for it are gone too */
    for (i = 0; i < s->flow_count; i++) {
        weft_sim_flow *f = &s->flow[i];
        if (f->src == WEFT_SIM_NONE || (f->src != rank && f->dst != rank)) continue;
        weft_sim_empty_flow(s, f);
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
            weft_sim_gone(s, o->msg); /* met, but its time had not come */
        }
        weft_sim_free_op(s, i);
    }
    if (s->desc.detect_ns) weft_sim_push(s, s->now + s->desc.detect_ns, WEFT_SIM_NOTICE, rank, w->life);
    else weft_sim_notice(s, rank);
}

/* The worker is not there yet, and everybody knows; weft_sim_revive lets it join. To be called before it has done
 * anything. */
WEFT_FN void weft_sim_absent(weft_sim *s, uint32_t rank) {
    weft_sim_endpoint *w = &s->worker[rank];
    if (w->dead) return;
    weft_sim_note(s, "absent", rank, WEFT_SIM_NONE, WEFT_SIM_NONE, 0);
    if (!w->done && w->step) s->undone--;
    w->dead = w->noticed = w->done = 1;
    w->life++;
    w->wake_at = w->timer_at = UINT64_MAX;
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

#include "weft_sim_faults.h"

WEFT_FN weft_status weft_sim_count_call(weft_sim *s, weft_sim_call call, uint32_t rank) {
    uint32_t i;
    s->worker[rank].counts.call[call]++;
    for (i = 0; i < s->fault_count; i++) {
        weft_sim_fault *f = &s->fault[i];
        if (f->kind != WEFT_SIM_FAULT_CALL || f->call != call || (f->src != WEFT_SIM_ANY && f->src != rank)) continue;
        if (!weft_sim_strikes(f)) continue;
        weft_sim_fire(s, f);
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
        weft_sim_gone(s, msg);
    } else {
        weft_sim_link *l = &s->link[f->back]; /* the receiver's, which its request will touch anyway */
        weft_sim_note(s, "arrive", m->src, m->dst, m->tag, m->bytes);
        if (m->number < l->newest) s->happened[WEFT_SIM_OVERTAKEN]++;
        else if (!m->forged) l->newest = m->number;
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
    weft_sim_fire(s, f);
    s->msg[m].forged = 1;
    s->msg[m].number = UINT64_C(1) << 63 | ++s->forged; /* apart from those that were sent */
    s->worker[f->to_src].counts.forged++;
    weft_sim_mail(s, WEFT_SIM_FORGED, m, f->data);
    weft_sim_note(s, "inject", f->to_src, f->to_dst, f->to_tag, f->bytes);
    weft_sim_arrive(s, m);
}

/* A message has come to the end of its link. */
WEFT_FN void weft_sim_arrival(weft_sim *s, uint32_t msg) {
    uint32_t i;
    s->flow[s->msg[msg].flow].under_way--;
    s->arrived++;
    for (i = 0; i < s->fault_count; i++) {
        weft_sim_fault *f = &s->fault[i];
        if (f->kind != WEFT_SIM_FAULT_LOSE || f->after || f->nth != s->arrived) continue;
        if (!s->worker[f->rank].dead) weft_sim_fire(s, f);
        s->flow[s->msg[msg].flow].under_way++; /* the flow must not go while its message is in our hands */
        weft_sim_lose(s, s->fault[i].rank);
        s->flow[s->msg[msg].flow].under_way--;
    }
    weft_sim_arrive(s, msg);
    for (i = 0; i < s->fault_count; i++) {
        weft_sim_fault *f = &s->fault[i];
        if (f->nth != s->arrived) continue;
        if (f->kind == WEFT_SIM_FAULT_LOSE && f->after) {
            if (!s->worker[f->rank].dead) weft_sim_fire(s, f);
            weft_sim_lose(s, s->fault[i].rank);
        } else if (f->kind == WEFT_SIM_FAULT_INJECT) {
            weft_sim_do_inject(s, f);
        }
    }
    if (s->desc.spurious && weft_sim_draw(&s->rng_torture) % s->desc.spurious == 0) {
        s->happened[WEFT_SIM_SPURIOUS]++;
        weft_sim_wake(s, (uint32_t)(weft_sim_draw(&s->rng_torture) % s->desc.size), s->now);
    }
}

#include "weft_sim_lossy.h"

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
    if (s->cuts) {
        uint32_t link = weft_sim_find_link(s, w->rank, peer);
        if (link != WEFT_SIM_NONE && s->link[link].told) return WEFT_ERR_PEER_LOST;
    }
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
    int eager = s->desc.mode == WEFT_SIM_EAGER, control = tag % WEFT_TAGS_PER_CHANNEL == 0, dropped = 0, lossy;
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
    s->msg[msg].number = ++s->sent;
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
    weft_sim_mail(s, WEFT_SIM_SENT, msg, data);
    l = &s->link[s->flow[flow].there];
    if (l->down) dropped = 1;
    lossy = l->pipe || (s->lossy && !l->own_pipe);
    start = l->free_at > s->now ? l->free_at : s->now;
    at = 0;
    for (i = 0; i < s->fault_count; i++) {
        weft_sim_fault *f = &s->fault[i];
        if (f->kind == WEFT_SIM_FAULT_CALL || f->kind == WEFT_SIM_FAULT_LOSE || f->kind == WEFT_SIM_FAULT_REVIVE ||
            f->kind == WEFT_SIM_FAULT_INJECT || f->kind >= WEFT_SIM_FAULT_CUT ||
            !weft_sim_concerns(f, w->rank, peer, tag))
            continue;
        if (weft_sim_is_window(f)) {
            if (lossy || s->now < f->from_ns || s->now >= f->until_ns) continue; /* a lossy link: packet by packet */
            weft_sim_fire(s, f);
            if (f->kind == WEFT_SIM_FAULT_DELAY) at += f->nth;
            else if (start < f->until_ns) start = f->until_ns;
            continue;
        }
        if (!weft_sim_strikes(f)) continue;
        if (f->kind == WEFT_SIM_FAULT_DROP) {
            weft_sim_fire(s, f);
            dropped = 1;
            continue;
        }
        if (f->kind == WEFT_SIM_FAULT_XOR && f->at >= s->msg[msg].bytes) continue;
        if (!s->msg[msg].data && !weft_sim_own(s, msg, from, bytes, bytes)) continue;
        weft_sim_fire(s, f);
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
        weft_sim_gone(s, msg);
        weft_sim_drop_flow(s, flow);
        return WEFT_OK;
    }
    if (lossy) {
        s->flow[flow].under_way++;
        return weft_sim_enqueue(s, s->flow[flow].there, msg);
    }
    if (s->desc.overtake && weft_sim_draw(&s->rng_packet) % s->desc.overtake == 0) {
        s->happened[WEFT_SIM_HELD_BACK]++;
        at += weft_sim_up_to(&s->rng_packet, s->desc.overtake_ns);
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
        if (!o->is_send && o->msg != WEFT_SIM_NONE) weft_sim_gone(s, o->msg);
    } else if (!o->is_send) {
        weft_sim_unlink_recv(s, i);
        weft_sim_drop_flow(s, flow);
    } else if (o->msg != WEFT_SIM_NONE) {
        weft_sim_msg *m = &s->msg[o->msg];
        int deliver = s->desc.cancel_delivers && (weft_sim_draw(&s->rng_torture) & 1);
        if (deliver && !m->data && !weft_sim_own(s, o->msg, o->from, o->bytes, o->bytes)) deliver = 0;
        m->op = WEFT_SIM_NONE;
        if (deliver) s->happened[WEFT_SIM_CAME_ALL_THE_SAME]++;
        if (!deliver) {
            if (m->arrived) {
                weft_sim_unlink_msg(s, o->msg);
                weft_sim_gone(s, o->msg);
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
        s->happened[WEFT_SIM_COY]++;
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
    if (!s->heap_count || s->no_memory) return 0;
    e = weft_sim_pop(s);
    if (s->desc.shuffle) {
        uint64_t order = e.order & UINT64_C(0xFFFFFFFFFF);
        if (e.at == s->last_at && order < s->last_order) s->happened[WEFT_SIM_SHUFFLED]++;
        s->last_at = e.at;
        s->last_order = order;
    }
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
        weft_sim_arrival(s, e.what);
        break;
    case WEFT_SIM_TIMED_FAULT: {
        weft_sim_fault *f = &s->fault[e.what];
        const uint32_t rank = f->rank, src = f->src, dst = f->dst;
        switch ((int)f->kind) {
        case WEFT_SIM_FAULT_INJECT: weft_sim_do_inject(s, f); break;
        case WEFT_SIM_FAULT_LOSE:
            if (!s->worker[rank].dead) weft_sim_fire(s, f);
            weft_sim_lose(s, rank);
            break;
        case WEFT_SIM_FAULT_CUT:
            if (weft_sim_disconnect(s, src, dst, 0)) weft_sim_fire(s, &s->fault[e.what]);
            break;
        case WEFT_SIM_FAULT_RECONNECT:
            if (weft_sim_connect(s, src, dst)) weft_sim_fire(s, &s->fault[e.what]);
            break;
        default:
            if (s->worker[rank].dead) weft_sim_fire(s, f);
            weft_sim_revive(s, rank);
            break;
        }
        break;
    }
    case WEFT_SIM_LINK_NOTICE:
        if (s->link[e.what].epoch == e.life) weft_sim_tell_cut(s, s->link[e.what].src, s->link[e.what].dst);
        break;
    case WEFT_SIM_PACKET: weft_sim_packet(s, e.what, e.life, e.seq); break;
    case WEFT_SIM_ACK: weft_sim_ack(s, e.what, e.life, e.seq); break;
    case WEFT_SIM_RETRY: weft_sim_retry(s, e.what, e.life); break;
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

/* The command that replays this run; 0: the descriptor names none, or it is too long. */
WEFT_FN int weft_sim_replay(const weft_sim *s, char *out, size_t room) {
    const char *from = s->desc.replay, *at = from ? strstr(from, "%s") : NULL;
    int before = at ? (int)(at - from) : 0, k;
    if (!from) return 0;
    if (at) k = snprintf(out, room, "%.*s%llu%s", before, from, (unsigned long long)s->desc.seed, at + 2);
    else k = snprintf(out, room, "%s", from);
    return k > 0 && (size_t)k < room;
}

/* What still waits, for a report. */
WEFT_FN void weft_sim_describe(weft_sim *s, const char *what) {
    uint32_t r, i;
    size_t n = 0, room = sizeof s->text;
    char again[300];
    int k = snprintf(s->text, room, "%s at %llu ns, seed %llu (%llu messages, %llu steps)\n", what,
                     (unsigned long long)s->now, (unsigned long long)s->desc.seed, (unsigned long long)s->sent,
                     (unsigned long long)s->steps);
    if (k > 0) n = (size_t)k;
    if (weft_sim_replay(s, again, sizeof again)) {
        k = snprintf(s->text + n, room - n, "replay: %s\n", again);
        if (k > 0) n += (size_t)k;
    }
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
    free(s->pipe);
    free(s->heap);
    free(s->flow_hash);
    free(s->link_hash);
    free(s->worker);
    if (s->trace_file) fclose(s->trace_file);
    memset(s, 0, sizeof *s);
}

/* WEFT_OK, or WEFT_ERR_ARGUMENT (no workers, or trace_path cannot be written), WEFT_ERR_MEMORY. The sim must not move
 * afterwards. */
WEFT_FN weft_status weft_sim_init(weft_sim *s, const weft_sim_desc *d) {
    uint32_t i;
    memset(s, 0, sizeof *s);
    s->desc = *d;
    if (d->size == 0 || d->size > 1000000u) return WEFT_ERR_ARGUMENT;
    s->rng_link = weft_sim_mix(d->seed ^ UINT64_C(0x6C696E6B));
    s->rng_torture = weft_sim_mix(d->seed ^ UINT64_C(0x746F7274));
    s->rng_user = weft_sim_mix(d->seed ^ UINT64_C(0x75736572));
    s->rng_packet = weft_sim_mix(d->seed ^ UINT64_C(0x7061636B));
    s->lossy = weft_sim_is_lossy(&d->lossy);
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
    if (d->trace_path && d->trace_path[0] && !(s->trace_file = fopen(d->trace_path, "w"))) {
        weft_sim_free(s);
        return WEFT_ERR_ARGUMENT;
    }
    for (i = 0; i < 2; i++) {
        FILE *to = i ? s->trace_file : d->trace;
        if (to) fprintf(to, "seed %llu workers %lu\n", (unsigned long long)d->seed, (unsigned long)d->size);
    }
    return WEFT_OK;
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

/* The same over links that lose packets, and never give up. */
WEFT_FN weft_sim_desc weft_sim_bad_network(uint64_t seed, uint32_t size) {
    weft_sim_desc d = weft_sim_torture(seed, size);
    uint64_t rng = weft_sim_mix(seed + 2);
    d.lossy.packet_bytes = 16u << weft_sim_draw(&rng) % 7;
    d.lossy.loss_ppm = (uint32_t)(10000u + weft_sim_draw(&rng) % 190000u);
    d.lossy.duplicate_ppm = (uint32_t)(weft_sim_draw(&rng) % 100000u);
    d.lossy.reorder_ppm = (uint32_t)(weft_sim_draw(&rng) % 200000u);
    d.lossy.window = 1u + (uint32_t)(weft_sim_draw(&rng) % WEFT_SIM_WINDOW);
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
    if (w->dead || (w->timer_at == s->now + ns && !s->desc.shuffle)) return; /* (shuffled, each has a draw) */
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

/* How often something of this kind has happened, and what it is called. */
WEFT_FN uint64_t weft_sim_happened(const weft_sim *s, weft_sim_kind kind) {
    return s->happened[kind];
}
WEFT_FN const char *weft_sim_kind_name(weft_sim_kind kind) {
    static const char *const name[WEFT_SIM_KINDS] = {
        "a call that fails", "a worker lost",      "a worker back",       "a byte changed",   "a message replaced",
        "a message resized", "a message dropped",  "a message injected",  "a delay",          "a clogged link",
        "a partition",       "a connection cut",   "a connection back",   "a packet lost",    "a packet duplicated",
        "a packet reordered", "a packet sent again", "an answer lost",    "a peer given up",  "a message held back",
        "a message overtaken", "a coy test",       "a spurious wake-up",  "events shuffled",
        "a cancelled send delivered", "a transient straggler"};
    return (uint32_t)kind < WEFT_SIM_KINDS ? name[kind] : "nothing";
}

/* The first thing asked for (a planted fault, losses of every link, torture but for cancel_delivers) that has not
 * happened, by name; NULL: everything has. */
WEFT_FN const char *weft_sim_missing(const weft_sim *s) {
    const weft_sim_desc *d = &s->desc;
    const int drawn[][2] = {{d->lossy.loss_ppm != 0, WEFT_SIM_PACKET_LOST},
                            {d->lossy.loss_ppm != 0, WEFT_SIM_PACKET_AGAIN},
                            {d->lossy.loss_ppm != 0, WEFT_SIM_ACK_LOST},
                            {d->lossy.duplicate_ppm != 0, WEFT_SIM_PACKET_TWICE},
                            {d->lossy.reorder_ppm != 0, WEFT_SIM_PACKET_LATE},
                            {d->overtake != 0, WEFT_SIM_HELD_BACK},
                            {d->overtake != 0, WEFT_SIM_OVERTAKEN},
                            {d->coy != 0, WEFT_SIM_COY},
                            {d->spurious != 0, WEFT_SIM_SPURIOUS},
                            {d->shuffle != 0, WEFT_SIM_SHUFFLED}};
    uint32_t i;
    for (i = 0; i < s->fault_count; i++)
        if (!s->fault[i].fired) return weft_sim_kind_name(s->fault[i].kind);
    for (i = 0; i < sizeof drawn / sizeof *drawn; i++)
        if (drawn[i][0] && !s->happened[drawn[i][1]]) return weft_sim_kind_name((weft_sim_kind)drawn[i][1]);
    return NULL;
}

/* When the last planted fault struck, or (a window) ends: after that, progress is owed. */
WEFT_FN uint64_t weft_sim_trouble_until(const weft_sim *s) {
    return s->trouble_until;
}

/* Messages in the name of `rank` (or WEFT_SIM_ANY) that the sim holds, wherever: a walk over all of them. */
WEFT_FN uint64_t weft_sim_under_way(const weft_sim *s, uint32_t rank) {
    uint64_t n = 0;
    uint32_t i;
    for (i = 0; i < s->msg_count; i++)
        n += s->msg[i].flow != WEFT_SIM_NONE && (rank == WEFT_SIM_ANY || s->msg[i].src == rank);
    return n;
}

/* Bytes that the sim has taken from the heap: tables (which only grow), and the most that long messages ever took. */
WEFT_FN uint64_t weft_sim_memory(const weft_sim *s) {
    return (uint64_t)s->heap_room * sizeof *s->heap + (uint64_t)s->op_room * sizeof *s->op +
           (uint64_t)s->msg_room * sizeof *s->msg + (uint64_t)s->flow_room * sizeof *s->flow +
           (uint64_t)s->link_room * sizeof *s->link + (uint64_t)s->pipe_room * sizeof *s->pipe +
           (uint64_t)s->fault_room * sizeof *s->fault + (uint64_t)s->desc.size * sizeof *s->worker +
           ((uint64_t)s->flow_buckets + s->link_buckets) * sizeof *s->flow_hash + s->most_message_bytes;
}

/* Requests that are under way now, and the most that one worker ever had with one peer on one channel. */
WEFT_FN uint32_t weft_sim_outstanding(const weft_sim *s) {
    return s->op_live;
}
WEFT_FN uint32_t weft_sim_most_outstanding(const weft_sim *s) {
    return s->most_outstanding;
}

#endif /* WEFT_SIM_H */
