/* SPDX-License-Identifier: MIT
 * weft_tcp.h: workers as processes, on one machine or many, with one TCP connection between each two of them. POSIX.
 *
 *     weft_tcp tcp;
 *     weft_transport net;
 *     if (weft_tcp_transport(&tcp, &net, "peers.txt") != WEFT_OK) complain(tcp.why);     // else all are connected
 *     ...
 *     while (weft_tcp_news(&tcp, &rank, &up)) (up ? X_peer_up : X_peer_lost)(x, rank);   // between verbs, regularly
 *     ...
 *     weft_tcp_close(&tcp);
 *
 * peers.txt, the same for all, has a line a worker, in the order of their ranks: "host:port" or "[v6 address]:port". #
 * begins a comment. Without a file (NULL) the list stands in the environment, WEFT_PEERS, separated by commas. Which
 * worker this is says WEFT_RANK. weft_tcp_open takes all of that as fields instead.
 *
 * With WEFT_TCP_TLS defined before the include (OpenSSL 3: -lssl -lcrypto) and weft_tcp_options.tls_folder given
 * (WEFT_TCP_TLS_DIR in the environment), all of it goes over TLS, and only workers get a byte in: the folder holds
 * authority.pem, rank-N.pem and rank-N.key of this worker (`certificates` beside this file makes them; weft_tls.h says
 * what is checked). Else nothing is encrypted, and without weft_tcp_options.plaintext_on_any_network
 * (WEFT_TCP_PLAINTEXT_ON_ANY_NETWORK=1) this listens on, and connects to, loopback addresses only.
 *
 * Bytes move in the callbacks and nowhere else, on the caller's thread, straight between socket and posted buffer. A
 * message of up to WEFT_TCP_EAGER bytes goes at once and waits, copied, for its receive; a longer one goes when the
 * other side has told that there is a receive for it. So a message that nobody awaits blocks no other one. There is an
 * end to what a worker keeps for another: who sends WEFT_TCP_EARLY bytes of short messages (64 MiB, with so much for
 * each as it takes to keep it) before any of them is received loses the connection; link[rank].words says so.
 *
 * A connection that breaks is WEFT_ERR_PEER_LOST for all requests with that worker; who connected tries again for as
 * long as the object lives. weft_tcp_news tells the host of workers that went and came, for X_peer_lost and X_peer_up.
 * It must be asked: until the host has been told that a connection broke, all with that worker is WEFT_ERR_PEER_LOST,
 * even if there is a new one, so that messages of two lives are not taken for those of one. (What the worker had sent
 * as a whole is still received, until it comes again.)
 * A machine that has gone silent is noticed by the system's keep-alive; a worker that is slow is not lost: deadlines
 * are the descriptors' affair. A worker that was started anew sets `again` (WEFT_TCP_AGAIN=1): it connects to all.
 *
 * Between machines of any byte order: heads are little-endian, payloads untouched. Heads carry a CRC-32C; payloads that
 * leave the machine without TLS, too.
 *
 * Include this file after one of the weft headers; with -std=c11 (not gnu11) define _POSIX_C_SOURCE as 200809L before
 * the first include. */
#ifndef WEFT_TCP_H
#define WEFT_TCP_H

#ifndef WEFT_VERSION
#error "include a weft header (grawa.h, ...) before weft_tcp.h"
#endif

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#ifndef CLOCK_MONOTONIC
#error "weft_tcp.h needs POSIX: define _POSIX_C_SOURCE as 200809L before the first include"
#endif

#ifndef WEFT_TCP_EAGER
#define WEFT_TCP_EAGER 16384u
#endif
/* The longest message; what a peer may make this worker keep for receives that are not posted, with WEFT_TCP_KEEP for
 * each message. */
#ifndef WEFT_TCP_LONGEST
#define WEFT_TCP_LONGEST (UINT64_C(16) << 20)
#endif
#ifndef WEFT_TCP_EARLY
#define WEFT_TCP_EARLY (UINT64_C(64) << 20)
#endif
#define WEFT_TCP_KEEP (sizeof(weft_tcp_op) + 16)
/* From connecting to a hello. */
#define WEFT_TCP_MANNERS_NS UINT64_C(5000000000)
/* While others wait: how long one may say nothing, at first; and in the middle of what it has begun. */
#define WEFT_TCP_MUTE_NS UINT64_C(20000000)
#define WEFT_TCP_PAUSE_NS UINT64_C(500000000)
/* How long wait looks around before it sleeps, unless workers on this machine outnumber its processors. */
#ifndef WEFT_TCP_SPIN_NS
#define WEFT_TCP_SPIN_NS UINT64_C(50000)
#endif

enum {
    WEFT_TCP_HEADS = 16,       /* that go out at a time, if there is nothing behind them */
    WEFT_TCP_HEAD = 16,        /* u8 kind, u8 flags, u16 tag, u32 CRC-32C with this field zero, u64 length */
    WEFT_TCP_HELLO_BYTES = 24, /* u32 version, u32 rank, u32 size, u32 flags, u64 peers' hash */
    WEFT_TCP_VERSION = 1,
    WEFT_TCP_TAGS = 32768,
    WEFT_TCP_BUFFER = 65536,
    WEFT_TCP_CHUNK = 1048576, /* of a payload, between two looks at its checksum */
    WEFT_TCP_HOST = 256,
    WEFT_TCP_WORDS = 160,
    WEFT_TCP_GUESTS = 16, /* connections that have not said yet who they are, beside one for each worker */
    WEFT_TCP_SUM = 1      /* flag, of a hello: the sender wants payloads checked; of data: CRC-32C after the payload */
};

enum { WEFT_TCP_HELLO = 1, WEFT_TCP_DATA, WEFT_TCP_ROOM, WEFT_TCP_ASK }; /* kinds */

typedef enum weft_tcp_state {
    WEFT_TCP_DOWN, /* not connected; where this side connects, it tries again at retry_ns */
    WEFT_TCP_CONNECTING,
    WEFT_TCP_SHAKING,  /* connected, TLS makes sure of who is there */
    WEFT_TCP_GREETING, /* the other's hello is awaited */
    WEFT_TCP_UP
} weft_tcp_state;

typedef struct weft_tcp_op {
    struct weft_tcp_op *next, *made_before;
    unsigned char *at;     /* the caller's buffer; of a message that came early, and a cancelled send, its own */
    unsigned char *own;    /* to be freed */
    uint64_t room, length; /* of the buffer; of the message */
    uint32_t peer, tag;
    int is_send, taken, asked, over, orphan; /* taken: matched, or on its way; orphan: nobody holds the request */
    uint64_t looked;                         /* the pumps that there had been when it was tested last */
    weft_status status;
} weft_tcp_op;

typedef struct weft_tcp_list {
    weft_tcp_op *first, *last;
} weft_tcp_list;

/* What goes out or comes in now. */
typedef struct weft_tcp_frame {
    unsigned char head[WEFT_TCP_HEADS * WEFT_TCP_HEAD], tail[4];
    size_t head_bytes, tail_bytes;
    uint64_t bytes, at, summed; /* payload: its length, moved (head, payload and tail together), under the checksum */
    uint32_t tag, crc;
    weft_tcp_op *op; /* out: NULL: the head is all there is; in: NULL: nobody wants it */
    int busy;
} weft_tcp_frame;

/* By tag: long messages, and receives that are posted for them. */
typedef struct weft_tcp_room {
    uint16_t room;  /* how many more may be sent */
    uint16_t given; /* how many the other side may still send, as it has been told or will be */
    uint16_t want;  /* long receives that are posted */
    uint16_t owed;  /* of `given`: it has not been told yet */
    uint16_t asked; /* 1: the other side has one, and there was no receive */
} weft_tcp_room;

/* A connection as bytes see it. */
typedef struct weft_tcp_wire {
    int fd;                        /* -1: none */
    short read_needs, write_needs; /* of poll */
    void *tls;                     /* NULL: plaintext */
} weft_tcp_wire;

typedef struct weft_tcp_link {
    weft_tcp_wire wire;
    int connects; /* this side does */
    weft_tcp_state state;
    int went, came; /* news that the host has not been told */
    int parting;    /* it has been told that nothing more comes */
    int more;       /* there may be bytes that poll does not see */
    uint64_t retry_ns, since_ns; /* since: of the attempt; once it is up, of that */
    int own; /* this side's attempt it was that came up */
    unsigned tries;
    int trouble;                /* errno of the last attempt; 0: hung up, or nothing */
    char words[WEFT_TCP_WORDS]; /* or what TLS says of it */
    const char *fault;          /* what is about to go into them */
    int sums;                   /* payloads carry checksums */
    weft_tcp_frame out, in;
    weft_tcp_list sends, receives;
    weft_tcp_list early; /* messages without a receive, all there but the last, which may be in.op */
    uint64_t early_bytes;
    weft_tcp_room *room; /* one a tag */
    uint16_t *owing;     /* a ring of the tags of which something is owed */
    uint32_t owing_at, owing_count;
    unsigned char *buffer;
    size_t begin, end;
} weft_tcp_link;

typedef struct weft_tcp_guest {
    weft_tcp_wire wire;
    int shaken;
    size_t got;
    uint64_t since_ns, heard_ns; /* heard: of it last, or since */
    int said;                    /* bytes have come */
    unsigned char hello[WEFT_TCP_HEAD + WEFT_TCP_HELLO_BYTES];
} weft_tcp_guest;

typedef struct weft_tcp_address {
    char host[WEFT_TCP_HOST];
    char port[8];
} weft_tcp_address;

/* Zero is the default. */
typedef struct weft_tcp_options {
    uint32_t rank;
    const char *peers;            /* the text of the list, as in a file; commas are ends of lines */
    int again;                    /* 1: the others are running already */
    int plaintext_on_any_network; /* 1: other addresses than loopback, too */
    uint64_t job;                 /* another number: another crowd, though at the same addresses */
    int checksums;                /* 1: of payloads that stay on this machine, too */
    uint64_t linger_ns;           /* how long weft_tcp_close waits for what is on its way; 0: 2 s */
    uint64_t connect_ns;          /* how long weft_tcp_join waits for all; 0: 30 s */
    const char *listen_host;      /* where to listen, if not at the address in the list (a container, NAT) */
    const char *tls_folder;       /* of authority.pem, rank-N.pem, rank-N.key; or one by one, as PEM: */
    const char *authority, *certificate, *key;
} weft_tcp_options;

typedef struct weft_tcp {
    weft_tcp_options options;
    uint32_t rank, size;
    uint64_t hash;
    int listener;
    weft_tcp_address *address;
    weft_tcp_link *link; /* one a rank; that of this one is not used */
    weft_tcp_guest *guest;
    uint32_t guests;
    struct pollfd *look;
    uint32_t *who; /* whose entry of `look` this is: a rank, size + 1: the listener, or + 2: and so on, a guest */
    weft_tcp_op *made, *free; /* all there are; those that are not in use */
    uint64_t refused;         /* connections that were turned away */
    uint64_t sent, received;  /* bytes between workers, all of them */
    uint64_t ended, seen;     /* requests that are over; how many were when wait returned last */
    uint64_t pumps, pumped_ns;
    long processors;
    uint32_t table[8][256];   /* of the checksum */
    void *tls;                /* what weft_tls.h keeps; NULL: plaintext */
    char refusal[WEFT_TCP_WORDS]; /* why somebody was turned away, the last time */
    char why[512];                /* of the last failure of open or join */
} weft_tcp;

/* ---- Bytes ---- */

WEFT_INLINE void weft_tcp_put(unsigned char *p, size_t bytes, uint64_t v) {
    size_t i;
    for (i = 0; i < bytes; i++) p[i] = (unsigned char)(v >> (8 * i));
}

WEFT_INLINE uint64_t weft_tcp_get(const unsigned char *p, size_t bytes) {
    uint64_t v = 0;
    while (bytes--) v = v << 8 | p[bytes];
    return v;
}

/* CRC-32C, reflected: a table for each of eight bytes; on x86 by the instruction for it. */
WEFT_INLINE void weft_tcp_make_table(weft_tcp *t) {
    uint32_t i, k, c;
    for (i = 0; i < 256; i++) {
        for (c = i, k = 0; k < 8; k++) c = c & 1u ? c >> 1 ^ 0x82F63B78u : c >> 1;
        t->table[0][i] = c;
    }
    for (k = 1; k < 8; k++)
        for (i = 0; i < 256; i++) t->table[k][i] = t->table[k - 1][i] >> 8 ^ t->table[0][t->table[k - 1][i] & 255u];
}

#if defined __x86_64__ && (defined __GNUC__ || defined __clang__)
__attribute__((target("sse4.2"))) WEFT_INLINE uint32_t weft_tcp_crc_fast(uint32_t crc, const unsigned char *p,
                                                                         size_t n) {
    unsigned long long c = crc, v;
    for (; n >= 8; n -= 8, p += 8) {
        memcpy(&v, p, 8);
        c = __builtin_ia32_crc32di(c, v);
    }
    for (; n; n--) c = __builtin_ia32_crc32qi((unsigned)c, *p++);
    return (uint32_t)c;
}
#endif

/* Chains calls; begins with 0. */
WEFT_INLINE uint32_t weft_tcp_crc(const weft_tcp *t, uint32_t crc, const unsigned char *p, size_t n) {
    crc = ~crc;
#if defined __x86_64__ && (defined __GNUC__ || defined __clang__)
    if (__builtin_cpu_supports("sse4.2")) return ~weft_tcp_crc_fast(crc, p, n);
#endif
    for (; n >= 8; n -= 8, p += 8)
        crc = t->table[7][p[0] ^ (crc & 255u)] ^ t->table[6][p[1] ^ (crc >> 8 & 255u)] ^
              t->table[5][p[2] ^ (crc >> 16 & 255u)] ^ t->table[4][p[3] ^ crc >> 24] ^ t->table[3][p[4]] ^
              t->table[2][p[5]] ^ t->table[1][p[6]] ^ t->table[0][p[7]];
    for (; n; n--) crc = crc >> 8 ^ t->table[0][(crc ^ *p++) & 255u];
    return ~crc;
}

WEFT_INLINE uint64_t weft_tcp_now(void *ctx) {
    struct timespec ts;
    (void)ctx;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

/* ---- Requests ---- */

WEFT_INLINE void weft_tcp_append(weft_tcp_list *l, weft_tcp_op *op) {
    op->next = NULL;
    if (l->last)
        l->last->next = op;
    else
        l->first = op;
    l->last = op;
}

WEFT_INLINE void weft_tcp_remove(weft_tcp_list *l, weft_tcp_op *op) {
    weft_tcp_op *before = NULL, *at = l->first;
    for (; at && at != op; at = at->next) before = at;
    if (!at) return;
    if (before)
        before->next = op->next;
    else
        l->first = op->next;
    if (l->last == op) l->last = before;
}

WEFT_INLINE weft_tcp_op *weft_tcp_find(const weft_tcp_list *l, uint32_t tag) {
    weft_tcp_op *op = l->first;
    while (op && op->tag != tag) op = op->next;
    return op;
}

WEFT_INLINE weft_tcp_op *weft_tcp_new(weft_tcp *t, uint32_t peer, uint32_t tag) {
    weft_tcp_op *op = t->free, *before;
    if (op)
        t->free = op->next;
    else if ((op = (weft_tcp_op *)malloc(sizeof *op)) != NULL) {
        op->made_before = t->made;
        t->made = op;
    } else
        return NULL;
    before = op->made_before;
    memset(op, 0, sizeof *op);
    op->made_before = before;
    op->peer = peer;
    op->tag = tag;
    op->looked = t->pumps;
    return op;
}

WEFT_INLINE void weft_tcp_release(weft_tcp *t, weft_tcp_op *op) {
    free(op->own);
    op->own = NULL;
    op->next = t->free;
    t->free = op;
}

WEFT_INLINE void weft_tcp_finish(weft_tcp *t, weft_tcp_op *op, weft_status s) {
    op->over = 1;
    op->status = s;
    t->ended++;
    if (op->orphan) weft_tcp_release(t, op);
}

WEFT_INLINE weft_status weft_tcp_say(weft_tcp *t, weft_status s, const char *what, const char *which) {
    snprintf(t->why, sizeof t->why, "%.240s%s%.240s", what, which ? ": " : "", which ? which : "");
    return s;
}

/* ---- The way of the bytes: a socket, or TLS over it ---- */

#ifdef WEFT_TCP_TLS
#include "weft_tls.h"
#else
#define weft_tls_load(t) weft_tcp_say(t, WEFT_ERR_ARGUMENT, "TLS: this was built without WEFT_TCP_TLS", NULL)
#define weft_tls_unload(t) (void)(t)
#define weft_tls_begin(t, w, peer) ((void)(peer), 0)
#define weft_tls_shake(w) (-1)
#define weft_tls_is(w, rank) 0
#define weft_tls_words(w, words) (void)(w)
#define weft_tls_holds(w) 0
#define weft_tls_send(w, part, parts) (-2)
#define weft_tls_recv(w, part, parts) (-2)
#define weft_tls_part(w) 1
#define weft_tls_end(w) (void)(w)
#endif

/* Bytes that went; -1: none now, or none ever, which reading finds out after what the other side has sent before it
 * went; -2: it is broken. */
WEFT_INLINE ssize_t weft_tcp_push(weft_tcp_wire *w, struct iovec *part, int parts) {
    struct msghdr m;
    ssize_t n;
    if (w->tls) return weft_tls_send(w, part, parts);
    memset(&m, 0, sizeof m);
    m.msg_iov = part;
    m.msg_iovlen = (size_t)parts;
    do n = sendmsg(w->fd, &m, MSG_NOSIGNAL | MSG_DONTWAIT);
    while (n < 0 && errno == EINTR);
    return n;
}

/* Bytes that came; 0: the other side hung up; -1: none now; -2: errno says it. */
WEFT_INLINE ssize_t weft_tcp_pull(weft_tcp_wire *w, const struct iovec *part, int parts) {
    ssize_t n;
    if (w->tls) return weft_tls_recv(w, part, parts);
    do n = readv(w->fd, part, parts);
    while (n < 0 && errno == EINTR);
    return n >= 0 ? n : errno == EAGAIN || errno == EWOULDBLOCK ? -1 : -2;
}

WEFT_INLINE void weft_tcp_hang_up(weft_tcp_wire *w) {
    weft_tls_end(w);
    if (w->fd >= 0) close(w->fd);
    w->fd = -1;
}

/* ---- A connection ends ---- */

WEFT_INLINE void weft_tcp_clear_early(weft_tcp *t, weft_tcp_link *l) {
    while (l->early.first) {
        weft_tcp_op *op = l->early.first;
        weft_tcp_remove(&l->early, op);
        weft_tcp_release(t, op);
    }
    l->early_bytes = 0;
}

/* What the other side sent as a whole stays, for receives to come. trouble: an errno, or 0. */
WEFT_INLINE void weft_tcp_drop(weft_tcp *t, weft_tcp_link *l, int trouble) {
    const uint64_t now = weft_tcp_now(NULL);
    weft_tcp_op *in = l->in.busy ? l->in.op : NULL, *op;
    int unheard = 0; /* the host has never been told of this life */
    l->words[0] = 0;
    weft_tls_words(&l->wire, l->words);
    if (l->state == WEFT_TCP_GREETING && !l->wire.tls && l->end && l->buffer[0] == 0x15)
        snprintf(l->words, sizeof l->words, "it expects TLS");
    if (!l->words[0] && l->fault) snprintf(l->words, sizeof l->words, "%s", l->fault);
    l->fault = NULL;
    weft_tcp_hang_up(&l->wire);
    if (l->state == WEFT_TCP_UP) {
        unheard = l->went;
        l->went = 1;
        l->came = 0;
        l->tries = 0;
    }
    l->trouble = trouble;
    l->state = WEFT_TCP_DOWN;
    l->retry_ns = now + (UINT64_C(20000000) << (l->tries < 7 ? l->tries : 7));
    l->tries++;
    if (in && in->own) { /* one that came early, cut off */
        l->early_bytes -= in->length + WEFT_TCP_KEEP;
        weft_tcp_remove(&l->early, in);
        weft_tcp_release(t, in);
    } else if (in)
        weft_tcp_finish(t, in, WEFT_ERR_PEER_LOST);
    if (unheard) weft_tcp_clear_early(t, l);
    if (l->out.busy && l->out.op) weft_tcp_finish(t, l->out.op, WEFT_ERR_PEER_LOST);
    while ((op = l->sends.first ? l->sends.first : l->receives.first) != NULL) {
        weft_tcp_remove(op->is_send ? &l->sends : &l->receives, op);
        weft_tcp_finish(t, op, WEFT_ERR_PEER_LOST);
    }
    memset(&l->in, 0, sizeof l->in);
    memset(&l->out, 0, sizeof l->out);
    memset(l->room, 0, WEFT_TCP_TAGS * sizeof *l->room);
    l->owing_at = l->owing_count = 0;
    l->parting = l->more = 0;
    l->begin = l->end = 0;
}

/* ---- What goes out ---- */

WEFT_INLINE void weft_tcp_head(const weft_tcp *t, unsigned char *p, unsigned kind, unsigned flags, uint32_t tag,
                               uint64_t length) {
    p[0] = (unsigned char)kind;
    p[1] = (unsigned char)flags;
    weft_tcp_put(p + 2, 2, tag);
    weft_tcp_put(p + 4, 4, 0);
    weft_tcp_put(p + 8, 8, length);
    weft_tcp_put(p + 4, 4, weft_tcp_crc(t, 0, p, WEFT_TCP_HEAD));
}

/* The other side may send one more long message. */
WEFT_INLINE void weft_tcp_give(weft_tcp_link *l, uint32_t tag) {
    weft_tcp_room *r = &l->room[tag];
    if (!r->owed++) l->owing[(l->owing_at + l->owing_count++) % WEFT_TCP_TAGS] = (uint16_t)tag;
    r->given++;
    r->asked = 0;
}

/* Makes up the next frame; 0: there is nothing to be sent. */
WEFT_INLINE int weft_tcp_choose(const weft_tcp *t, weft_tcp_link *l) {
    weft_tcp_frame *f = &l->out;
    const size_t most = sizeof f->head - WEFT_TCP_HEAD; /* the last is for data */
    weft_tcp_op *op;
    memset(f, 0, sizeof *f);
    while (l->owing_count && f->head_bytes < most) {
        const uint32_t tag = l->owing[l->owing_at];
        weft_tcp_head(t, f->head + f->head_bytes, WEFT_TCP_ROOM, 0, tag, 0);
        f->head_bytes += WEFT_TCP_HEAD;
        if (--l->room[tag].owed) continue;
        l->owing_at = (l->owing_at + 1) % WEFT_TCP_TAGS;
        l->owing_count--;
    }
    for (op = l->sends.first; op; op = op->next) {
        const int is_long = op->length > WEFT_TCP_EAGER;
        if (weft_tcp_find(&l->sends, op->tag) != op) continue; /* in order */
        if (!is_long || l->room[op->tag].room) break;
        if (op->asked || f->head_bytes >= most) continue;
        op->asked = 1;
        weft_tcp_head(t, f->head + f->head_bytes, WEFT_TCP_ASK, 0, op->tag, op->length);
        f->head_bytes += WEFT_TCP_HEAD;
    }
    if (op) {
        weft_tcp_remove(&l->sends, op);
        op->taken = 1;
        if (op->length > WEFT_TCP_EAGER) l->room[op->tag].room--;
        weft_tcp_head(t, f->head + f->head_bytes, WEFT_TCP_DATA, l->sums ? WEFT_TCP_SUM : 0, op->tag, op->length);
        f->head_bytes += WEFT_TCP_HEAD;
        f->op = op;
        f->bytes = op->length;
        f->tail_bytes = l->sums ? 4 : 0;
    }
    return f->busy = f->head_bytes != 0;
}

WEFT_INLINE void weft_tcp_write(weft_tcp *t, weft_tcp_link *l) {
    weft_tcp_frame *f = &l->out;
    while (l->state >= WEFT_TCP_GREETING && (f->busy || (l->state == WEFT_TCP_UP && weft_tcp_choose(t, l)))) {
        struct iovec part[3];
        ssize_t n;
        uint64_t upto, past = f->at < f->head_bytes ? 0 : f->at - f->head_bytes; /* of payload and tail */
        int parts = 0;
        if (f->at < f->head_bytes) {
            part[parts].iov_base = f->head + f->at;
            part[parts++].iov_len = f->head_bytes - (size_t)f->at;
        }
        upto = f->bytes - (past < f->bytes ? past : f->bytes) > WEFT_TCP_CHUNK ? past + WEFT_TCP_CHUNK : f->bytes;
        if (past < upto) {
            part[parts].iov_base = f->op->at + past;
            part[parts++].iov_len = (size_t)(upto - past);
        }
        if (f->tail_bytes && f->summed < upto) {
            f->crc = weft_tcp_crc(t, f->crc, f->op->at + f->summed, (size_t)(upto - f->summed));
            f->summed = upto;
        }
        if (upto == f->bytes && f->tail_bytes) {
            const size_t gone = past > f->bytes ? (size_t)(past - f->bytes) : 0;
            weft_tcp_put(f->tail, 4, f->crc);
            part[parts].iov_base = f->tail + gone;
            part[parts++].iov_len = f->tail_bytes - gone;
        }
        n = weft_tcp_push(&l->wire, part, parts);
        if (n == -2) weft_tcp_drop(t, l, EPROTO);
        if (n < 0) return;
        f->at += (uint64_t)n;
        t->sent += (uint64_t)n;
        if (f->at < f->head_bytes + f->bytes + f->tail_bytes) continue;
        f->busy = 0;
        if (f->op) weft_tcp_finish(t, f->op, WEFT_OK);
        f->op = NULL;
    }
}

/* ---- What comes in ---- */

/* A whole message is there: into the receive that waits for it. */
WEFT_INLINE void weft_tcp_deliver(weft_tcp *t, weft_tcp_op *receive, uint64_t length) {
    receive->length = length;
    weft_tcp_finish(t, receive, length > receive->room ? WEFT_ERR_TRUNCATED : WEFT_OK);
}

WEFT_INLINE void weft_tcp_take_early(weft_tcp *t, weft_tcp_link *l, weft_tcp_op *early, weft_tcp_op *receive) {
    const uint64_t n = early->length < receive->room ? early->length : receive->room;
    if (n) memcpy(receive->at, early->own, (size_t)n);
    weft_tcp_deliver(t, receive, early->length);
    l->early_bytes -= early->length + WEFT_TCP_KEEP;
    weft_tcp_remove(&l->early, early);
    weft_tcp_release(t, early);
}

/* The first receive posted for a tag leaves the list. */
WEFT_INLINE weft_tcp_op *weft_tcp_match(weft_tcp_link *l, uint32_t tag) {
    weft_tcp_op *op = weft_tcp_find(&l->receives, tag);
    if (!op) return NULL;
    weft_tcp_remove(&l->receives, op);
    if (op->room > WEFT_TCP_EAGER) l->room[tag].want--;
    op->taken = 1;
    return op;
}

/* A head that has come. 0: it is none. */
WEFT_INLINE int weft_tcp_take_head(weft_tcp *t, weft_tcp_link *l, uint32_t peer) {
    weft_tcp_frame *f = &l->in;
    unsigned char *p = l->buffer + l->begin;
    const uint32_t crc = (uint32_t)weft_tcp_get(p + 4, 4);
    weft_tcp_room *r;
    weft_tcp_put(p + 4, 4, 0);
    if (weft_tcp_crc(t, 0, p, WEFT_TCP_HEAD) != crc) return 0;
    memset(f, 0, sizeof *f);
    f->tag = (uint32_t)weft_tcp_get(p + 2, 2);
    f->bytes = weft_tcp_get(p + 8, 8);
    if (f->tag >= WEFT_TCP_TAGS || f->bytes > WEFT_TCP_LONGEST) return 0;
    r = &l->room[f->tag];
    l->begin += WEFT_TCP_HEAD;
    switch (p[0]) {
    case WEFT_TCP_ROOM:
        if (r->room == UINT16_MAX || f->bytes) return 0;
        r->room++;
        return 1;
    case WEFT_TCP_ASK:
        r->asked = 1;
        if (!r->given && weft_tcp_find(&l->receives, f->tag)) weft_tcp_give(l, f->tag);
        return 1;
    case WEFT_TCP_DATA: break;
    default: return 0;
    }
    if ((p[1] & WEFT_TCP_SUM) != (l->sums ? WEFT_TCP_SUM : 0)) return 0;
    if (f->bytes > WEFT_TCP_EAGER && r->given == 0) return 0; /* it has not been told that it may */
    if (f->bytes > WEFT_TCP_EAGER) r->given--;
    f->busy = 1;
    f->tail_bytes = l->sums ? 4 : 0;
    f->op = weft_tcp_match(l, f->tag);
    if (f->op) return 1;
    if (f->bytes + WEFT_TCP_KEEP > WEFT_TCP_EARLY - l->early_bytes) {
        l->fault = "it sends messages that nobody here receives, more than WEFT_TCP_EARLY bytes of them";
        return 0;
    }
    f->op = weft_tcp_new(t, peer, f->tag);
    if (!f->op) return 0;
    f->op->own = f->op->at = (unsigned char *)malloc(f->bytes ? (size_t)f->bytes : 1);
    f->op->room = f->op->length = f->bytes;
    if (!f->op->own) {
        weft_tcp_release(t, f->op);
        f->op = NULL;
        return 0;
    }
    l->early_bytes += f->bytes + WEFT_TCP_KEEP;
    weft_tcp_append(&l->early, f->op);
    return 1;
}

/* The message under way is there as a whole. */
WEFT_INLINE void weft_tcp_end_of_message(weft_tcp *t, weft_tcp_link *l) {
    weft_tcp_frame *f = &l->in;
    weft_tcp_op *op = f->op, *receive;
    f->busy = 0;
    f->op = NULL;
    if (!op) return;
    if (!op->own) {
        weft_tcp_deliver(t, op, f->bytes);
        return;
    }
    receive = weft_tcp_match(l, f->tag); /* one may have been posted meanwhile */
    if (receive) weft_tcp_take_early(t, l, op, receive);
}

/* Bytes of the payload that are at p: wherever they belong. */
WEFT_INLINE void weft_tcp_payload(weft_tcp *t, weft_tcp_frame *f, const unsigned char *p, size_t n) {
    if (f->tail_bytes) f->crc = weft_tcp_crc(t, f->crc, p, n);
    if (f->op && f->at < f->op->room) {
        const uint64_t left = f->op->room - f->at;
        unsigned char *to = f->op->at + f->at;
        if (to != p) memcpy(to, p, (size_t)(n < left ? n : left));
    }
    f->at += n;
}

/* All that is in the buffer. 0: the other side does not keep to the format. */
WEFT_INLINE int weft_tcp_parse(weft_tcp *t, weft_tcp_link *l, uint32_t peer) {
    weft_tcp_frame *f = &l->in;
    for (;;) {
        size_t have = l->end - l->begin;
        if (!f->busy) {
            if (have < WEFT_TCP_HEAD) break;
            if (!weft_tcp_take_head(t, l, peer)) return 0;
            continue;
        }
        if (f->at < f->bytes) {
            if (have > f->bytes - f->at) have = (size_t)(f->bytes - f->at);
            if (!have) break;
            weft_tcp_payload(t, f, l->buffer + l->begin, have);
            l->begin += have;
            continue;
        }
        if (have < f->tail_bytes) break;
        if (f->tail_bytes && weft_tcp_get(l->buffer + l->begin, 4) != f->crc) return 0;
        l->begin += f->tail_bytes;
        weft_tcp_end_of_message(t, l);
    }
    if (l->begin) memmove(l->buffer, l->buffer + l->begin, l->end - l->begin);
    l->end -= l->begin;
    l->begin = 0;
    return 1;
}

WEFT_INLINE int weft_tcp_check_hello(const weft_tcp *t, const unsigned char *p, uint32_t *rank, int *sums);

/* The answer of a worker that this one has connected to. 0: it is not the one that was meant. */
WEFT_INLINE int weft_tcp_take_hello(weft_tcp *t, weft_tcp_link *l, uint32_t peer) {
    uint32_t rank;
    int sums;
    if (l->end < WEFT_TCP_HEAD + WEFT_TCP_HELLO_BYTES) return 1;
    if (!weft_tcp_check_hello(t, l->buffer, &rank, &sums) || rank != peer) return 0;
    l->begin = WEFT_TCP_HEAD + WEFT_TCP_HELLO_BYTES;
    l->sums |= sums;
    l->state = WEFT_TCP_UP;
    l->own = l->came = 1;
    l->since_ns = weft_tcp_now(NULL);
    l->tries = 0;
    weft_tcp_clear_early(t, l);
    return 1;
}

WEFT_INLINE void weft_tcp_read(weft_tcp *t, weft_tcp_link *l, uint32_t peer) {
    int turn;
    l->more = 0;
    for (turn = 0; turn < 64 && l->state >= WEFT_TCP_GREETING; turn++) {
        weft_tcp_frame *f = &l->in;
        struct iovec part[2];
        unsigned char *straight = NULL;
        size_t most = 0, asked;
        ssize_t n;
        int parts = 0;
        /* a long payload goes straight to its place, what follows it into the buffer */
        if (f->busy && l->begin == l->end && f->op && f->at < f->bytes && f->at < f->op->room) {
            const uint64_t left = (f->bytes < f->op->room ? f->bytes : f->op->room) - f->at;
            straight = f->op->at + f->at;
            most = left < WEFT_TCP_CHUNK ? (size_t)left : (size_t)WEFT_TCP_CHUNK;
            part[parts].iov_base = straight;
            part[parts++].iov_len = most;
        }
        if (!straight || f->at + most == f->bytes) {
            part[parts].iov_base = l->buffer + l->end;
            part[parts++].iov_len = WEFT_TCP_BUFFER - l->end;
        }
        asked = part[0].iov_len + (parts == 2 ? part[1].iov_len : 0);
        n = weft_tcp_pull(&l->wire, part, parts);
        if (n == -1) return;
        if (n <= 0) {
            weft_tcp_drop(t, l, n < 0 ? errno : 0);
            return;
        }
        t->received += (uint64_t)n;
        if ((size_t)n < most) most = (size_t)n;
        if (straight) weft_tcp_payload(t, f, straight, most);
        l->end += (size_t)n - most;
        if ((l->state == WEFT_TCP_GREETING && !weft_tcp_take_hello(t, l, peer)) ||
            (l->state == WEFT_TCP_UP && !weft_tcp_parse(t, l, peer))) {
            weft_tcp_drop(t, l, EPROTO);
            return;
        }
        if (!l->wire.tls && (size_t)n < asked) return; /* that was all for now: poll tells of more */
    }
    l->more = l->wire.tls != NULL;
}

/* ---- Who is there ---- */

WEFT_INLINE void weft_tcp_hello(const weft_tcp *t, int sums, unsigned char *p) {
    weft_tcp_head(t, p, WEFT_TCP_HELLO, 0, 0, WEFT_TCP_HELLO_BYTES);
    p += WEFT_TCP_HEAD;
    weft_tcp_put(p, 4, WEFT_TCP_VERSION);
    weft_tcp_put(p + 4, 4, t->rank);
    weft_tcp_put(p + 8, 4, t->size);
    weft_tcp_put(p + 12, 4, sums ? WEFT_TCP_SUM : 0);
    weft_tcp_put(p + 16, 8, t->hash);
}

WEFT_INLINE int weft_tcp_check_hello(const weft_tcp *t, const unsigned char *p, uint32_t *rank, int *sums) {
    unsigned char head[WEFT_TCP_HEAD];
    weft_tcp_head(t, head, WEFT_TCP_HELLO, 0, 0, WEFT_TCP_HELLO_BYTES);
    if (memcmp(head, p, sizeof head) != 0) return 0;
    p += WEFT_TCP_HEAD;
    *rank = (uint32_t)weft_tcp_get(p + 4, 4);
    *sums = (int)(weft_tcp_get(p + 12, 4) & WEFT_TCP_SUM);
    return weft_tcp_get(p, 4) == WEFT_TCP_VERSION && *rank < t->size && *rank != t->rank &&
           weft_tcp_get(p + 8, 4) == t->size && weft_tcp_get(p + 16, 8) == t->hash;
}

WEFT_INLINE int weft_tcp_is_loopback(const struct sockaddr *a) {
    if (a->sa_family == AF_INET)
        return ntohl(((const struct sockaddr_in *)(const void *)a)->sin_addr.s_addr) >> 24 == 127;
    return a->sa_family == AF_INET6 && IN6_IS_ADDR_LOOPBACK(&((const struct sockaddr_in6 *)(const void *)a)->sin6_addr);
}

WEFT_INLINE void weft_tcp_set(int fd, int level, int name, int value) {
    setsockopt(fd, level, name, &value, sizeof value);
}

/* As this file wants its sockets. Returns whether the other end is on this machine. */
WEFT_INLINE int weft_tcp_tune(int fd) {
    struct sockaddr_storage other;
    socklen_t bytes = sizeof other;
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
    fcntl(fd, F_SETFD, FD_CLOEXEC);
    weft_tcp_set(fd, IPPROTO_TCP, TCP_NODELAY, 1);
    weft_tcp_set(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
#if defined TCP_KEEPIDLE && defined TCP_KEEPINTVL && defined TCP_KEEPCNT
    weft_tcp_set(fd, IPPROTO_TCP, TCP_KEEPIDLE, 10);
    weft_tcp_set(fd, IPPROTO_TCP, TCP_KEEPINTVL, 5);
    weft_tcp_set(fd, IPPROTO_TCP, TCP_KEEPCNT, 4);
#endif
#ifdef TCP_USER_TIMEOUT
    weft_tcp_set(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, 30000); /* ms without an answer */
#endif
    return getpeername(fd, (struct sockaddr *)(void *)&other, &bytes) == 0 &&
           weft_tcp_is_loopback((const struct sockaddr *)(const void *)&other);
}

/* The addresses of a worker; NULL, and t->why says it. */
WEFT_INLINE struct addrinfo *weft_tcp_resolve(weft_tcp *t, const char *host, const char *port, int flags) {
    struct addrinfo hint, *found = NULL, *a;
    int e;
    memset(&hint, 0, sizeof hint);
    hint.ai_socktype = SOCK_STREAM;
    hint.ai_flags = flags | AI_NUMERICSERV;
    e = getaddrinfo(host, port, &hint, &found);
    if (e) {
        snprintf(t->why, sizeof t->why, "%.100s: %.100s", host, gai_strerror(e));
        return NULL;
    }
    for (a = found; a && !t->tls && !t->options.plaintext_on_any_network; a = a->ai_next)
        if (!weft_tcp_is_loopback(a->ai_addr)) {
            snprintf(t->why, sizeof t->why,
                     "%.100s is not a loopback address, and nothing would be encrypted: TLS (tls_folder, "
                     "WEFT_TCP_TLS_DIR) is for that, WEFT_TCP_PLAINTEXT_ON_ANY_NETWORK=1 allows it",
                     host);
            freeaddrinfo(found);
            return NULL;
        }
    return found;
}

WEFT_INLINE void weft_tcp_connect(weft_tcp *t, uint32_t rank, uint64_t now) {
    weft_tcp_link *l = &t->link[rank];
    struct addrinfo *found = weft_tcp_resolve(t, t->address[rank].host, t->address[rank].port, 0), *a;
    int trouble = EADDRNOTAVAIL;
    for (a = found; a && l->state == WEFT_TCP_DOWN; a = a->ai_next) {
        l->wire.fd = socket(a->ai_family, SOCK_STREAM, 0);
        if (l->wire.fd < 0) {
            trouble = errno;
            continue;
        }
        l->sums = t->options.checksums || (!t->tls && !weft_tcp_is_loopback(a->ai_addr));
        weft_tcp_tune(l->wire.fd);
        if (connect(l->wire.fd, a->ai_addr, a->ai_addrlen) == 0 || errno == EINPROGRESS) {
            l->state = WEFT_TCP_CONNECTING;
            l->since_ns = now;
        } else {
            trouble = errno;
            weft_tcp_hang_up(&l->wire);
        }
    }
    if (found) freeaddrinfo(found);
    if (l->state == WEFT_TCP_DOWN) weft_tcp_drop(t, l, trouble);
}

/* This side's hello is the first to go. */
WEFT_INLINE void weft_tcp_greet(weft_tcp *t, weft_tcp_link *l, weft_tcp_state state) {
    l->state = state;
    l->out.busy = 1;
    l->out.head_bytes = WEFT_TCP_HEAD + WEFT_TCP_HELLO_BYTES;
    weft_tcp_hello(t, l->sums, l->out.head);
    weft_tcp_write(t, l);
}

/* The connection is there, or has failed; then TLS looks who it is. */
WEFT_INLINE void weft_tcp_connected(weft_tcp *t, weft_tcp_link *l, uint32_t peer) {
    int e = 0, shaken = 1;
    socklen_t bytes = sizeof e;
    if (l->state == WEFT_TCP_CONNECTING) {
        if (getsockopt(l->wire.fd, SOL_SOCKET, SO_ERROR, &e, &bytes) != 0) e = errno;
        l->wire.read_needs = POLLIN;
        l->wire.write_needs = POLLOUT;
        if (!e && t->tls && !weft_tls_begin(t, &l->wire, peer)) e = ENOMEM;
        if (e) {
            weft_tcp_drop(t, l, e);
            return;
        }
        l->state = WEFT_TCP_SHAKING;
    }
    if (l->wire.tls) shaken = weft_tls_shake(&l->wire);
    if (shaken > 0)
        weft_tcp_greet(t, l, WEFT_TCP_GREETING);
    else if (shaken < 0) {
        t->refused++;
        weft_tcp_drop(t, l, EPROTO);
    }
}

/* Who has connected is turned away. */
WEFT_INLINE void weft_tcp_dismiss(weft_tcp *t, weft_tcp_guest *g, const char *why) {
    snprintf(t->refusal, sizeof t->refusal, "%s", why);
    weft_tls_words(&g->wire, t->refusal);
    weft_tcp_hang_up(&g->wire);
    t->refused++;
}

/* Has it hung up, and is nothing left to be read? */
WEFT_INLINE int weft_tcp_is_gone(const weft_tcp_wire *w) {
    unsigned char c;
    const ssize_t n = recv(w->fd, &c, 1, MSG_PEEK | MSG_DONTWAIT);
    return !weft_tls_holds(w) && (n == 0 || (n < 0 && errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR));
}

/* Somebody has connected and said a hello: it becomes the connection with that worker, or is turned away. */
WEFT_INLINE void weft_tcp_admit(weft_tcp *t, weft_tcp_guest *g) {
    weft_tcp_link *l;
    uint32_t rank;
    int sums;
    if (!weft_tcp_check_hello(t, g->hello, &rank, &sums)) {
        weft_tcp_dismiss(t, g, g->hello[0] == 0x16 ? "it speaks TLS, and plaintext is expected here"
                                                   : "its hello is none, or its list of workers is another");
        return;
    }
    if (t->tls && !weft_tls_is(&g->wire, rank)) {
        weft_tcp_dismiss(t, g, "it says that it is another than its certificate does");
        return;
    }
    l = &t->link[rank];
    /* both have tried: of the two the one stays that the higher rank has made. The lower one's attempt may be found
     * late, and dead already, when that one is up; what comes long after it is no attempt of that time. */
    if (l->state != WEFT_TCP_DOWN && t->rank > rank &&
        (l->state != WEFT_TCP_UP || (l->own && weft_tcp_now(NULL) - l->since_ns < WEFT_TCP_MANNERS_NS))) {
        weft_tcp_hang_up(&g->wire);
        return;
    }
    if (l->state == WEFT_TCP_UP && weft_tcp_is_gone(&g->wire)) {
        weft_tcp_hang_up(&g->wire);
        return;
    }
    if (l->state != WEFT_TCP_DOWN) weft_tcp_drop(t, l, 0);
    weft_tcp_clear_early(t, l); /* of its former life */
    l->wire = g->wire;
    g->wire.fd = -1;
    g->wire.tls = NULL;
    l->sums = sums || t->options.checksums || (!weft_tcp_tune(l->wire.fd) && !t->tls);
    l->came = 1;
    l->own = 0;
    l->tries = 0;
    l->more = l->wire.tls != NULL; /* it may have read further than the hello */
    weft_tcp_greet(t, l, WEFT_TCP_UP);
}

WEFT_INLINE void weft_tcp_listen_to(weft_tcp *t, weft_tcp_guest *g) {
    struct iovec part;
    ssize_t n;
    g->heard_ns = weft_tcp_now(NULL); /* or it has hung up */
    g->said = 1;
    if (g->wire.tls && !g->shaken) {
        g->shaken = weft_tls_shake(&g->wire);
        if (g->shaken < 0) weft_tcp_dismiss(t, g, "");
        if (g->shaken <= 0) return;
    }
    part.iov_base = g->hello + g->got;
    part.iov_len = sizeof g->hello - g->got;
    n = weft_tcp_pull(&g->wire, &part, 1);
    if (n == -1) return;
    if (n <= 0) {
        weft_tcp_dismiss(t, g, "it hung up before it had said who it is");
        return;
    }
    g->got += (size_t)n;
    if (g->got == sizeof g->hello) weft_tcp_admit(t, g);
}

/* A place for one more: a free one, or that of whom nobody has heard of for longest, first of those who never said a
 * byte. t->guests: there is none. */
WEFT_INLINE uint32_t weft_tcp_place(const weft_tcp *t, uint64_t now) {
    uint32_t i, place = t->guests;
    for (i = 0; i < t->guests; i++) {
        const weft_tcp_guest *g = &t->guest[i], *than = place < t->guests ? &t->guest[place] : NULL;
        if (g->wire.fd < 0) return i;
        if (now - g->heard_ns <= (g->said ? WEFT_TCP_PAUSE_NS : WEFT_TCP_MUTE_NS)) continue;
        if (!than || g->said < than->said || (g->said == than->said && g->heard_ns < than->heard_ns)) place = i;
    }
    return place;
}

/* As many as there are free places, or one: who is here already has been listened to in this turn. */
WEFT_INLINE void weft_tcp_accept(weft_tcp *t) {
    weft_tcp_guest *g;
    uint32_t i, places = 0;
    for (i = 0; i < t->guests; i++) places += t->guest[i].wire.fd < 0;
    do {
        const uint64_t now = weft_tcp_now(NULL);
        const uint32_t place = weft_tcp_place(t, now);
        const int fd = place < t->guests ? accept(t->listener, NULL, NULL) : -1;
        if (fd < 0) return;
        g = &t->guest[place];
        if (g->wire.fd >= 0) weft_tcp_dismiss(t, g, "it was silent for too long, and others wait");
        weft_tcp_tune(fd);
        memset(g, 0, sizeof *g);
        g->wire.fd = fd;
        g->wire.read_needs = POLLIN;
        g->wire.write_needs = POLLOUT;
        g->since_ns = g->heard_ns = now;
        if (t->tls && !weft_tls_begin(t, &g->wire, WEFT_NO_RANK)) weft_tcp_dismiss(t, g, "out of memory");
    } while (places-- > 1);
}

WEFT_INLINE void weft_tcp_look_at(weft_tcp *t, nfds_t n, uint32_t who, int fd, int events) {
    t->look[n].fd = fd;
    t->look[n].events = (short)events;
    t->look[n].revents = 0;
    t->who[n] = who;
}

/* Moves what can be moved; sleeps for as long as timeout_ms if there is nothing. */
WEFT_INLINE void weft_tcp_pump(weft_tcp *t, int timeout_ms) {
    const uint64_t now = weft_tcp_now(NULL);
    nfds_t n = 0, k;
    uint32_t i;
    int events;
    t->pumps++;
    t->pumped_ns = now;
    for (i = 0; i < t->size; i++) {
        weft_tcp_link *l = &t->link[i];
        if (i == t->rank) continue;
        if (l->state == WEFT_TCP_DOWN && l->connects && now >= l->retry_ns) weft_tcp_connect(t, i, now);
        if (l->state == WEFT_TCP_DOWN) {
            if (l->connects && timeout_ms > 20) timeout_ms = 20;
            continue;
        }
        if (l->state < WEFT_TCP_UP && now - l->since_ns > WEFT_TCP_MANNERS_NS) {
            weft_tcp_drop(t, l, ETIMEDOUT);
            continue;
        }
        if (l->state == WEFT_TCP_UP && !l->out.busy) weft_tcp_write(t, l); /* else poll tells when there is room */
        if (l->more) timeout_ms = 0;
        events = l->wire.read_needs | (l->out.busy ? l->wire.write_needs : 0);
        weft_tcp_look_at(t, n++, i, l->wire.fd, l->state == WEFT_TCP_CONNECTING ? POLLOUT : events);
    }
    for (i = 0; i < t->guests; i++) {
        weft_tcp_guest *g = &t->guest[i];
        if (g->wire.fd >= 0 && now - g->since_ns > WEFT_TCP_MANNERS_NS)
            weft_tcp_dismiss(t, g, "it did not say in time who it is");
        if (g->wire.fd >= 0) weft_tcp_look_at(t, n++, t->size + 1 + i, g->wire.fd, g->wire.read_needs);
    }
    /* the last, so that guests have been heard before one of them makes room */
    if (weft_tcp_place(t, now) < t->guests)
        weft_tcp_look_at(t, n++, t->size, t->listener, POLLIN);
    else if (timeout_ms > 20)
        timeout_ms = 20;
    if (poll(t->look, n, timeout_ms) < 0) return;
    for (k = 0; k < n; k++) {
        const uint32_t who = t->who[k];
        const int fd = t->look[k].fd, ready = t->look[k].revents;
        weft_tcp_link *l = who < t->size ? &t->link[who] : NULL;
        if (l && l->wire.fd == fd && (ready || l->more)) { /* it may have been replaced by a guest */
            if (l->state < WEFT_TCP_GREETING)
                weft_tcp_connected(t, l, who);
            else if (l->more || ready & (l->wire.read_needs | ~POLLOUT))
                weft_tcp_read(t, l, who);
            if (l->state >= WEFT_TCP_GREETING && (ready & l->wire.write_needs || !l->out.busy)) weft_tcp_write(t, l);
        } else if (!l && ready) {
            weft_tcp_guest *g = who > t->size ? &t->guest[who - t->size - 1] : NULL;
            if (!g)
                weft_tcp_accept(t);
            else if (g->wire.fd == fd)
                weft_tcp_listen_to(t, g);
        }
    }
}

/* ---- The transport ---- */

WEFT_INLINE weft_status weft_tcp_post(weft_tcp *t, uint32_t peer, uint32_t tag, size_t bytes, weft_request *q,
                                      weft_tcp_op **out) {
    q->word[0] = 0;
    if (peer >= t->size || peer == t->rank || tag >= WEFT_TCP_TAGS || bytes > WEFT_TCP_LONGEST)
        return WEFT_ERR_ARGUMENT;
    *out = weft_tcp_new(t, peer, tag);
    if (!*out) return WEFT_ERR_MEMORY;
    q->word[0] = (uintptr_t)*out;
    return WEFT_OK;
}

WEFT_INLINE weft_status weft_tcp_send(void *ctx, uint32_t peer, uint32_t tag, const void *data, size_t bytes,
                                      weft_request *q) {
    weft_tcp *t = (weft_tcp *)ctx;
    weft_tcp_op *op;
    weft_status s = weft_tcp_post(t, peer, tag, bytes, q, &op);
    if (s != WEFT_OK) return s;
    if (t->link[peer].state != WEFT_TCP_UP || t->link[peer].went) {
        weft_tcp_release(t, op);
        return WEFT_ERR_PEER_LOST;
    }
    op->is_send = 1;
    op->at = (unsigned char *)(uintptr_t)data;
    op->length = op->room = bytes;
    weft_tcp_append(&t->link[peer].sends, op);
    if (!t->link[peer].out.busy) weft_tcp_write(t, &t->link[peer]);
    return WEFT_OK;
}

WEFT_INLINE weft_status weft_tcp_recv(void *ctx, uint32_t peer, uint32_t tag, void *data, size_t capacity,
                                      weft_request *q) {
    weft_tcp *t = (weft_tcp *)ctx;
    weft_tcp_link *l;
    weft_tcp_op *op, *early;
    weft_tcp_room *r;
    weft_status s;
    if (capacity > WEFT_TCP_LONGEST) capacity = WEFT_TCP_LONGEST; /* none is longer */
    s = weft_tcp_post(t, peer, tag, capacity, q, &op);
    if (s != WEFT_OK) return s;
    l = &t->link[peer];
    op->at = (unsigned char *)data;
    op->room = capacity;
    early = l->state == WEFT_TCP_UP && l->went ? NULL : weft_tcp_find(&l->early, tag);
    if (early && !(l->in.busy && l->in.op == early)) {
        weft_tcp_take_early(t, l, early, op);
        return WEFT_OK;
    }
    r = &l->room[tag];
    if (l->state != WEFT_TCP_UP || l->went || r->want == UINT16_MAX || r->given == UINT16_MAX) {
        weft_tcp_release(t, op);
        return l->state != WEFT_TCP_UP || l->went ? WEFT_ERR_PEER_LOST : WEFT_ERR_CAPACITY;
    }
    weft_tcp_append(&l->receives, op);
    if (capacity > WEFT_TCP_EAGER) r->want++;
    if (r->given < r->want || (r->asked && !r->given)) {
        weft_tcp_give(l, tag);
        if (!l->out.busy) weft_tcp_write(t, l);
    }
    return WEFT_OK;
}

WEFT_INLINE weft_status weft_tcp_test(void *ctx, weft_request *q) {
    weft_tcp *t = (weft_tcp *)ctx;
    weft_tcp_op *op = (weft_tcp_op *)q->word[0];
    weft_status s;
    if (!op) return WEFT_ERR_PEER_LOST;
    /* who looks at many requests in turn has all links moved once a turn */
    if (!op->over && op->looked == t->pumps) weft_tcp_pump(t, 0);
    op->looked = t->pumps;
    if (!op->over) return WEFT_AGAIN;
    s = op->status;
    q->bytes = op->length;
    q->word[0] = 0;
    weft_tcp_release(t, op);
    return s;
}

WEFT_INLINE void weft_tcp_cancel(void *ctx, weft_request *q) {
    weft_tcp *t = (weft_tcp *)ctx;
    weft_tcp_op *op = (weft_tcp_op *)q->word[0];
    weft_tcp_link *l;
    q->word[0] = 0;
    if (!op) return;
    l = &t->link[op->peer];
    if (op->over) {
        weft_tcp_release(t, op);
    } else if (!op->is_send) {
        if (op->taken) /* the rest of its message goes nowhere */
            l->in.op = NULL;
        else {
            weft_tcp_remove(&l->receives, op);
            if (op->room > WEFT_TCP_EAGER) l->room[op->tag].want--;
        }
        weft_tcp_release(t, op);
    } else if (!op->taken) {
        weft_tcp_remove(&l->sends, op);
        weft_tcp_release(t, op);
        if (l->state == WEFT_TCP_UP && !l->out.busy) weft_tcp_write(t, l); /* those behind it may go now */
    } else { /* it has begun to go: the rest of it does, from a copy */
        op->own = (unsigned char *)malloc(op->length ? (size_t)op->length : 1);
        if (!op->own) {
            op->orphan = 1;
            weft_tcp_drop(t, l, ENOMEM);
            return;
        }
        if (op->length) memcpy(op->own, op->at, (size_t)op->length);
        op->at = op->own;
        op->orphan = 1;
    }
}

WEFT_INLINE void weft_tcp_wait(void *ctx, uint64_t until_ns) {
    weft_tcp *t = (weft_tcp *)ctx;
    const uint64_t begun = weft_tcp_now(NULL);
    uint64_t now = begun;
    uint32_t i;
    long here = 1;
    int ms = 100;
    for (i = 0; i < t->size; i++) here += t->link[i].state == WEFT_TCP_UP && !t->link[i].sums;
    /* what a test of another request has brought to its end is news, too */
    while (t->ended == t->seen && here <= t->processors && now < until_ns && now - begun < WEFT_TCP_SPIN_NS) {
        weft_tcp_pump(t, 0);
        now = weft_tcp_now(NULL);
    }
    if (t->ended != t->seen || until_ns <= now)
        ms = 0;
    else if (until_ns - now < UINT64_C(100000000))
        ms = (int)((until_ns - now + 999999) / 1000000);
    if (ms) weft_tcp_pump(t, ms);
    t->seen = t->ended;
}

/* Workers that went (up 0) or came (up 1) since the last time; 0: no news. Legal between verbs. It looks around itself,
 * at most once a millisecond: who has no requests would not hear that others are back. */
WEFT_INLINE int weft_tcp_news(weft_tcp *t, uint32_t *rank, int *up) {
    uint32_t i;
    if (weft_tcp_now(NULL) - t->pumped_ns >= 1000000) weft_tcp_pump(t, 0);
    for (i = 0; i < t->size; i++) {
        weft_tcp_link *l = &t->link[i];
        if (!l->went && !l->came) continue;
        *rank = i;
        *up = !l->went;
        if (l->went)
            l->went = 0;
        else
            l->came = 0;
        return 1;
    }
    return 0;
}

/* ---- The list of workers ---- */

/* Reads the next address of a list. 1: *a is filled in; 0: there is none; -1: the line is none. `line` counts. */
WEFT_INLINE int weft_tcp_next_address(const char **at, uint32_t *line, weft_tcp_address *a) {
    for (;;) {
        const char *p = *at, *end, *colon, *host;
        size_t n;
        unsigned long port = 0;
        if (!*p) return 0;
        ++*line;
        end = p + strcspn(p, ",\n#");
        *at = *end == '#' ? end + strcspn(end, "\n") : end; /* a comment may have commas */
        *at += **at != 0;
        while (p < end && (*p == ' ' || *p == '\t')) p++;
        for (; end > p && (end[-1] == ' ' || end[-1] == '\t' || end[-1] == '\r'); end--) continue;
        if (p == end) continue;
        for (colon = end; colon > p && *colon != ':'; colon--) continue;
        host = p;
        n = (size_t)(colon - p);
        if (n > 2 && host[0] == '[' && host[n - 1] == ']') {
            host++;
            n -= 2;
        } else if (memchr(host, ':', n))
            return -1;
        if (!n || n >= sizeof a->host || end - colon < 2 || end - colon > 6) return -1;
        memcpy(a->host, host, n);
        a->host[n] = 0;
        for (p = colon + 1; p < end; p++) {
            if (*p < '0' || *p > '9') return -1;
            port = port * 10 + (unsigned long)(*p - '0');
        }
        if (!port || port > 65535) return -1;
        snprintf(a->port, sizeof a->port, "%lu", port);
        return 1;
    }
}

/* Nothing is open: it can be closed, and opened. */
WEFT_INLINE void weft_tcp_blank(weft_tcp *t) {
    memset(t, 0, sizeof *t);
    t->listener = -1;
    weft_tcp_make_table(t);
}

WEFT_INLINE weft_status weft_tcp_read_list(weft_tcp *t, const char *text) {
    const char *at = text;
    uint32_t line = 0, n = 0;
    weft_tcp_address a;
    int got;
    uint64_t h = UINT64_C(0xCBF29CE484222325) ^ t->options.job * UINT64_C(0x9E3779B97F4A7C15);
    while ((got = weft_tcp_next_address(&at, &line, &a)) > 0 && n < 65536) {
        const char *p;
        for (p = a.host; *p; p++) h = (h ^ (unsigned char)*p) * UINT64_C(0x100000001B3);
        for (p = a.port; *p; p++) h = (h ^ (unsigned char)*p) * UINT64_C(0x100000001B3);
        h = (h ^ '\n') * UINT64_C(0x100000001B3);
        n++;
    }
    if (got) {
        snprintf(t->why, sizeof t->why, "peers: line %u: host:port is expected", (unsigned)line);
        return WEFT_ERR_ARGUMENT;
    }
    if (t->options.rank >= n) {
        snprintf(t->why, sizeof t->why, "rank %u: the list of peers has %u", (unsigned)t->options.rank, (unsigned)n);
        return WEFT_ERR_ARGUMENT;
    }
    t->hash = h;
    t->size = n;
    t->rank = t->options.rank;
    t->address = (weft_tcp_address *)calloc(n, sizeof *t->address);
    t->link = (weft_tcp_link *)calloc(n, sizeof *t->link);
    t->guest = (weft_tcp_guest *)calloc((size_t)n + WEFT_TCP_GUESTS, sizeof *t->guest);
    t->look = (struct pollfd *)calloc(2 * (size_t)n + 1 + WEFT_TCP_GUESTS, sizeof *t->look);
    t->who = (uint32_t *)calloc(2 * (size_t)n + 1 + WEFT_TCP_GUESTS, sizeof *t->who);
    if (!t->address || !t->link || !t->guest || !t->look || !t->who)
        return weft_tcp_say(t, WEFT_ERR_MEMORY, "out of memory", NULL);
    for (t->guests = 0; t->guests < n + WEFT_TCP_GUESTS; t->guests++) t->guest[t->guests].wire.fd = -1;
    for (at = text, line = 0, n = 0; n < t->size; n++) weft_tcp_next_address(&at, &line, &t->address[n]);
    for (n = 0; n < t->size; n++) {
        weft_tcp_link *l = &t->link[n];
        l->wire.fd = -1;
        if (n == t->rank) continue;
        l->connects = n < t->rank || t->options.again;
        l->room = (weft_tcp_room *)calloc(WEFT_TCP_TAGS, sizeof *l->room);
        l->owing = (uint16_t *)calloc(WEFT_TCP_TAGS, sizeof *l->owing);
        l->buffer = (unsigned char *)malloc(WEFT_TCP_BUFFER);
        if (!l->room || !l->owing || !l->buffer) return weft_tcp_say(t, WEFT_ERR_MEMORY, "out of memory", NULL);
    }
    return WEFT_OK;
}

/* What has been sent goes out, and what comes is read, until the others have hung up as well: a connection that is
 * closed with bytes unread takes those along that the other side has not read yet. */
WEFT_INLINE void weft_tcp_part(weft_tcp *t) {
    const uint64_t begun = weft_tcp_now(NULL), most = t->options.linger_ns ? t->options.linger_ns : 2000000000u;
    unsigned char waste[4096];
    struct iovec part;
    part.iov_base = waste;
    part.iov_len = sizeof waste;
    for (;;) {
        nfds_t n = 0;
        uint32_t i;
        int turn;
        for (i = 0; i < t->size; i++) {
            weft_tcp_link *l = &t->link[i];
            if (i == t->rank || l->state != WEFT_TCP_UP) continue;
            if (!l->parting) weft_tcp_write(t, l);
            if (l->state == WEFT_TCP_UP && !l->out.busy && !l->parting && (!l->wire.tls || weft_tls_part(&l->wire)))
                l->parting = shutdown(l->wire.fd, SHUT_WR) == 0;
            for (turn = 0; turn < 64 && l->wire.fd >= 0; turn++) {
                const ssize_t got = weft_tcp_pull(&l->wire, &part, 1);
                if (got == 0 || got == -2) weft_tcp_drop(t, l, 0);
                if (got <= 0) break;
            }
            if (l->wire.fd >= 0) weft_tcp_look_at(t, n++, i, l->wire.fd, POLLIN | (l->parting ? 0 : POLLOUT));
        }
        if (!n || weft_tcp_now(NULL) - begun >= most || poll(t->look, n, 10) < 0) return;
    }
}

WEFT_INLINE void weft_tcp_close(weft_tcp *t) {
    uint32_t i;
    weft_tcp_op *op;
    if (t->link && t->look) weft_tcp_part(t);
    for (i = 0; t->link && i < t->size; i++) {
        weft_tcp_link *l = &t->link[i];
        if (i == t->rank || !l->room) continue;
        weft_tcp_drop(t, l, 0);
        weft_tcp_clear_early(t, l);
        free(l->room);
        free(l->owing);
        free(l->buffer);
    }
    for (i = 0; i < t->guests; i++) weft_tcp_hang_up(&t->guest[i].wire);
    weft_tls_unload(t);
    if (t->listener >= 0) close(t->listener);
    t->listener = -1;
    while ((op = t->made) != NULL) {
        t->made = op->made_before;
        free(op->own);
        free(op);
    }
    free(t->address);
    free(t->link);
    free(t->guest);
    free(t->look);
    free(t->who);
    t->free = NULL;
    t->address = NULL;
    t->link = NULL;
    t->guest = NULL;
    t->look = NULL;
    t->who = NULL;
    t->size = t->guests = 0;
}

/* Listens, and begins to connect; weft_tcp_join then waits for all. On an error t->why says what it was, and all is
 * given back. */
WEFT_INLINE weft_status weft_tcp_open(weft_tcp *t, weft_transport *net, const weft_tcp_options *given) {
    struct addrinfo *found, *a;
    weft_status s;
    weft_tcp_blank(t);
    t->options = *given;
    s = given->peers ? weft_tcp_read_list(t, given->peers) : weft_tcp_say(t, WEFT_ERR_ARGUMENT, "no peers", NULL);
    if (s == WEFT_OK && (given->tls_folder || given->authority || given->certificate || given->key))
        s = weft_tls_load(t);
    /* they need not stay */
    t->options.peers = t->options.tls_folder = t->options.authority = t->options.certificate = t->options.key = NULL;
    if (s != WEFT_OK) {
        weft_tcp_close(t);
        return s;
    }
    found = weft_tcp_resolve(t, given->listen_host ? given->listen_host : t->address[t->rank].host,
                             t->address[t->rank].port, AI_PASSIVE);
    for (a = found; a && t->listener < 0; a = a->ai_next) {
        const int fd = socket(a->ai_family, SOCK_STREAM, 0);
        if (fd < 0) continue;
        weft_tcp_set(fd, SOL_SOCKET, SO_REUSEADDR, 1);
        weft_tcp_tune(fd);
        if (bind(fd, a->ai_addr, a->ai_addrlen) == 0 && listen(fd, 128) == 0)
            t->listener = fd;
        else {
            snprintf(t->why, sizeof t->why, "listening at %.100s:%s: %.100s", t->address[t->rank].host,
                     t->address[t->rank].port, strerror(errno));
            close(fd);
        }
    }
    if (found) freeaddrinfo(found);
    if (t->listener < 0) {
        weft_tcp_close(t);
        return WEFT_ERR_TRANSPORT;
    }
#ifdef _SC_NPROCESSORS_ONLN
    t->processors = sysconf(_SC_NPROCESSORS_ONLN);
#endif
    *net = weft_transport_make(t, t->rank, t->size, weft_tcp_send, weft_tcp_recv, weft_tcp_test, weft_tcp_cancel,
                               weft_tcp_now);
    net->max_message_bytes = WEFT_TCP_LONGEST;
    net->wait = weft_tcp_wait;
    return WEFT_OK;
}

/* Waits until all are connected, for as long as connect_ns. WEFT_ERR_TIMEOUT: t->why names who is missing; those that
 * come later are news. */
WEFT_INLINE weft_status weft_tcp_join(weft_tcp *t) {
    const uint64_t begun = weft_tcp_now(NULL), most = t->options.connect_ns ? t->options.connect_ns : 30000000000u;
    for (;;) {
        uint32_t i, missing = 0, first = 0;
        for (i = 0; i < t->size; i++)
            if (i != t->rank && t->link[i].state != WEFT_TCP_UP && missing++ == 0) first = i;
        if (!missing) {
            for (i = 0; i < t->size; i++) t->link[i].came = t->link[i].went = 0;
            t->why[0] = 0;
            return WEFT_OK;
        }
        if (weft_tcp_now(NULL) - begun > most) {
            const weft_tcp_link *l = &t->link[first];
            snprintf(t->why, sizeof t->why, "%u of %u workers are not here; worker %u (%.100s:%s): %s%s%s",
                     (unsigned)missing, (unsigned)t->size - 1, (unsigned)first, t->address[first].host,
                     t->address[first].port,
                     l->words[0]               ? l->words
                     : l->trouble              ? strerror(l->trouble)
                     : l->connects && l->tries ? "it hung up: is its list of workers the same?"
                                               : "it has not connected",
                     t->refusal[0] ? "; somebody was turned away: " : "", t->refusal);
            return WEFT_ERR_TIMEOUT;
        }
        weft_tcp_pump(t, 20);
    }
}

/* The whole, from a file (NULL: the environment's WEFT_PEERS) and WEFT_RANK. On an error all is given back. */
WEFT_INLINE weft_status weft_tcp_transport(weft_tcp *t, weft_transport *net, const char *path) {
    const char *rank = getenv("WEFT_RANK"), *list = getenv("WEFT_PEERS"), *again = getenv("WEFT_TCP_AGAIN");
    const char *any = getenv("WEFT_TCP_PLAINTEXT_ON_ANY_NETWORK"), *tls = getenv("WEFT_TCP_TLS_DIR");
    char *text = NULL, *end;
    unsigned long number;
    weft_tcp_options o;
    weft_status s;
    memset(&o, 0, sizeof o);
    weft_tcp_blank(t);
    if (!rank || !*rank) return weft_tcp_say(t, WEFT_ERR_ARGUMENT, "WEFT_RANK is not set", NULL);
    number = strtoul(rank, &end, 10); /* one that is too great is ULONG_MAX */
    if (*end || *rank < '0' || *rank > '9' || number >= WEFT_NO_RANK)
        return weft_tcp_say(t, WEFT_ERR_ARGUMENT, "WEFT_RANK is no rank", rank);
    if (tls && !*tls) /* whoever has set it does not mean plaintext */
        return weft_tcp_say(t, WEFT_ERR_ARGUMENT, "WEFT_TCP_TLS_DIR is empty: a folder is expected", NULL);
    o.rank = (uint32_t)number;
    o.again = again && strcmp(again, "1") == 0;
    o.plaintext_on_any_network = any && strcmp(any, "1") == 0;
    o.tls_folder = tls;
    if (path) {
        FILE *f = fopen(path, "rb");
        size_t n;
        if (!f) return weft_tcp_say(t, WEFT_ERR_ARGUMENT, path, strerror(errno));
        text = (char *)malloc(1u << 20);
        n = text ? fread(text, 1, (1u << 20) - 1, f) : 0;
        fclose(f);
        if (!text) return weft_tcp_say(t, WEFT_ERR_MEMORY, "out of memory", NULL);
        text[n] = 0;
        list = text;
    }
    if (!list)
        return weft_tcp_say(t, WEFT_ERR_ARGUMENT, "neither a file nor WEFT_PEERS says who the workers are", NULL);
    o.peers = list;
    s = weft_tcp_open(t, net, &o);
    free(text);
    if (s != WEFT_OK) return s;
    s = weft_tcp_join(t);
    if (s != WEFT_OK) weft_tcp_close(t);
    return s;
}

#endif /* WEFT_TCP_H */
