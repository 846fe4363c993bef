/* SPDX-License-Identifier: MIT
 * weft_threads.h: workers as pthreads of one process. A message is one memcpy, from the sender's buffer to the
 * receiver's, by whichever of the two comes second; until then a send stays pending. Nobody spins: wait sleeps.
 *
 *     weft_threads_team team;                              // shared by all
 *     weft_threads_init(&team, workers);
 *     ... in each thread:
 *     weft_transport net;
 *     weft_threads_transport(&team, rank, &net);
 *     ... after all threads have been joined:
 *     weft_threads_free(&team);
 *
 * One thread drives one rank at a time. Any thread may call weft_threads_lose. Include this file after one of the weft
 * headers; with -std=c11 (not gnu11) define _POSIX_C_SOURCE as 200809L before the first include. Link with -pthread. */
#ifndef WEFT_THREADS_H
#define WEFT_THREADS_H

#ifndef WEFT_VERSION
#error "include a weft header (grawa.h, ...) before weft_threads.h"
#endif

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#ifndef CLOCK_MONOTONIC
#error "weft_threads.h needs POSIX clocks: define _POSIX_C_SOURCE as 200809L before the first include"
#endif

/* Memory is taken once, in weft_threads_init: each worker can have this times the number of workers requests under way
 * (with one peer or several). One more is refused with WEFT_ERR_CAPACITY. */
#ifndef WEFT_THREADS_REQUESTS_PER_PEER
#define WEFT_THREADS_REQUESTS_PER_PEER 32u
#endif

/* How the bytes of a message move; something else may be put here before this file is included. */
#ifndef WEFT_THREADS_COPY
#define WEFT_THREADS_COPY(into, from, bytes) memcpy(into, from, bytes)
#endif

typedef enum weft_threads_state {
    WEFT_THREADS_WAITING, /* in the list of its pair */
    WEFT_THREADS_COPYING, /* it has met its counterpart: the bytes move */
    WEFT_THREADS_OVER
} weft_threads_state;

typedef struct weft_threads_op {
    struct weft_threads_op *next, *prev; /* in the list of the pair, or of free ones */
    const void *from;                    /* send */
    void *into;                          /* receive */
    size_t bytes;                        /* length or capacity */
    uint64_t length;
    uint32_t owner, peer, tag;
    int is_send;
    weft_threads_state state;
    weft_status status;
} weft_threads_op;

typedef struct weft_threads_list {
    weft_threads_op *first, *last;
} weft_threads_list;

/* Everything from one worker to another; guarded by the lock of the receiver. */
typedef struct weft_threads_pair {
    weft_threads_list sends, receives;
    uint32_t copying;
    int lost;
} weft_threads_pair;

struct weft_threads_team;

typedef struct weft_threads_worker {
    struct weft_threads_team *team;
    uint32_t rank;
    pthread_mutex_t lock;  /* of the pairs that end here */
    pthread_cond_t copied; /* a copy into or out of one of them has ended */

    pthread_mutex_t news_lock;
    pthread_cond_t news_come;
    uint64_t news; /* counts what happened to this worker's requests */
    uint64_t seen; /* what it was when wait returned last */

    weft_threads_op *op; /* of this worker; given out and taken back by its own thread only */
    weft_threads_op *idle;
    uint32_t used; /* how many of op were ever given out: memory is touched when it is needed */
} weft_threads_worker;

typedef struct weft_threads_team {
    uint32_t size;
    pthread_mutex_t lock; /* of dead; taken before any other */
    unsigned char *dead;
    weft_threads_worker *worker;
    weft_threads_pair *pair; /* [source * size + destination] */
} weft_threads_team;

WEFT_FN uint64_t weft_threads_now(void *ctx) {
    struct timespec t;
    (void)ctx;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * UINT64_C(1000000000) + (uint64_t)t.tv_nsec;
}

WEFT_FN void weft_threads_add(weft_threads_list *l, weft_threads_op *o) {
    o->next = NULL;
    o->prev = l->last;
    if (l->last) l->last->next = o;
    else l->first = o;
    l->last = o;
}

WEFT_FN void weft_threads_remove(weft_threads_list *l, weft_threads_op *o) {
    if (o->prev) o->prev->next = o->next;
    else l->first = o->next;
    if (o->next) o->next->prev = o->prev;
    else l->last = o->prev;
}

/* The worker has reason to look at its requests. No lock of a pair is held here. */
WEFT_FN void weft_threads_tell(weft_threads_worker *w) {
    pthread_mutex_lock(&w->news_lock);
    w->news++;
    pthread_cond_signal(&w->news_come);
    pthread_mutex_unlock(&w->news_lock);
}

WEFT_FN void weft_threads_release(weft_threads_worker *w, weft_threads_op *o) {
    o->next = w->idle;
    w->idle = o;
}

/* A send or a receive: meets its counterpart, or waits for it. */
WEFT_FN weft_status weft_threads_post(weft_threads_worker *w, int is_send, uint32_t peer, uint32_t tag,
                                      const void *from, void *into, size_t bytes, weft_request *request) {
    weft_threads_team *team = w->team;
    uint32_t src = is_send ? w->rank : peer, dst = is_send ? peer : w->rank;
    weft_threads_pair *pair;
    weft_threads_worker *end;
    weft_threads_op *mine, *other, *send, *receive;
    weft_threads_list *theirs;
    if (peer >= team->size || tag >= WEFT_CHANNELS * WEFT_TAGS_PER_CHANNEL) return WEFT_ERR_ARGUMENT;
    if (!w->idle && w->used == WEFT_THREADS_REQUESTS_PER_PEER * team->size) return WEFT_ERR_CAPACITY;
    pair = &team->pair[(size_t)src * team->size + dst];
    end = &team->worker[dst];
    pthread_mutex_lock(&end->lock);
    if (pair->lost) {
        pthread_mutex_unlock(&end->lock);
        return WEFT_ERR_PEER_LOST;
    }
    mine = w->idle ? w->idle : &w->op[w->used++];
    if (mine == w->idle) w->idle = mine->next;
    mine->owner = w->rank;
    mine->from = from;
    mine->into = into;
    mine->bytes = bytes;
    mine->length = 0;
    mine->peer = peer;
    mine->tag = tag;
    mine->is_send = is_send;
    mine->status = WEFT_OK;
    request->bytes = 0;
    request->word[0] = (uintptr_t)mine;
    theirs = is_send ? &pair->receives : &pair->sends;
    for (other = theirs->first; other && other->tag != tag; other = other->next) continue;
    if (!other) {
        mine->state = WEFT_THREADS_WAITING;
        weft_threads_add(is_send ? &pair->sends : &pair->receives, mine);
        pthread_mutex_unlock(&end->lock);
        return WEFT_OK;
    }
    weft_threads_remove(theirs, other);
    mine->state = other->state = WEFT_THREADS_COPYING;
    pair->copying++;
    send = is_send ? mine : other;
    receive = is_send ? other : mine;
    pthread_mutex_unlock(&end->lock);

    bytes = send->bytes < receive->bytes ? send->bytes : receive->bytes;
    if (bytes) WEFT_THREADS_COPY(receive->into, send->from, bytes);

    pthread_mutex_lock(&end->lock);
    if (send->bytes > receive->bytes) receive->status = WEFT_ERR_TRUNCATED;
    send->length = receive->length = send->bytes;
    send->state = receive->state = WEFT_THREADS_OVER;
    pair->copying--;
    pthread_cond_broadcast(&end->copied);
    peer = other->owner;
    pthread_mutex_unlock(&end->lock);
    weft_threads_tell(&team->worker[peer]);
    weft_threads_tell(w); /* its own wait must not sleep over it either */
    return WEFT_OK;
}

WEFT_FN weft_status weft_threads_send(void *ctx, uint32_t peer, uint32_t tag, const void *data, size_t bytes,
                                      weft_request *request) {
    return weft_threads_post((weft_threads_worker *)ctx, 1, peer, tag, data, NULL, bytes, request);
}

WEFT_FN weft_status weft_threads_recv(void *ctx, uint32_t peer, uint32_t tag, void *data, size_t capacity,
                                      weft_request *request) {
    return weft_threads_post((weft_threads_worker *)ctx, 0, peer, tag, NULL, data, capacity, request);
}

WEFT_FN weft_status weft_threads_test(void *ctx, weft_request *request) {
    weft_threads_worker *w = (weft_threads_worker *)ctx;
    weft_threads_op *o = (weft_threads_op *)request->word[0];
    weft_threads_worker *end;
    weft_status status = WEFT_AGAIN;
    if (!o) return WEFT_ERR_ORDER;
    end = o->is_send ? &w->team->worker[o->peer] : w;
    pthread_mutex_lock(&end->lock);
    if (o->state == WEFT_THREADS_OVER) {
        status = o->status;
        request->bytes = o->length;
        request->word[0] = 0;
    }
    pthread_mutex_unlock(&end->lock);
    if (status != WEFT_AGAIN) weft_threads_release(w, o);
    return status;
}

WEFT_FN void weft_threads_cancel(void *ctx, weft_request *request) {
    weft_threads_worker *w = (weft_threads_worker *)ctx;
    weft_threads_op *o = (weft_threads_op *)request->word[0];
    weft_threads_worker *end;
    if (!o) return;
    end = o->is_send ? &w->team->worker[o->peer] : w;
    pthread_mutex_lock(&end->lock);
    while (o->state == WEFT_THREADS_COPYING) pthread_cond_wait(&end->copied, &end->lock);
    if (o->state == WEFT_THREADS_WAITING) {
        weft_threads_pair *pair = o->is_send ? &w->team->pair[(size_t)w->rank * w->team->size + o->peer]
                                             : &w->team->pair[(size_t)o->peer * w->team->size + w->rank];
        weft_threads_remove(o->is_send ? &pair->sends : &pair->receives, o);
    }
    pthread_mutex_unlock(&end->lock);
    request->word[0] = 0;
    weft_threads_release(w, o);
}

WEFT_FN void weft_threads_wait(void *ctx, uint64_t until_ns) {
    weft_threads_worker *w = (weft_threads_worker *)ctx;
    pthread_mutex_lock(&w->news_lock);
    while (w->news == w->seen) {
        if (until_ns == UINT64_MAX) {
            pthread_cond_wait(&w->news_come, &w->news_lock);
        } else {
            struct timespec t;
#ifdef __APPLE__
            uint64_t now = weft_threads_now(NULL), left = until_ns > now ? until_ns - now : 0;
            if (!left) break;
            t.tv_sec = (time_t)(left / UINT64_C(1000000000));
            t.tv_nsec = (long)(left % UINT64_C(1000000000));
            if (pthread_cond_timedwait_relative_np(&w->news_come, &w->news_lock, &t)) break;
#else
            t.tv_sec = (time_t)(until_ns / UINT64_C(1000000000));
            t.tv_nsec = (long)(until_ns % UINT64_C(1000000000));
            if (pthread_cond_timedwait(&w->news_come, &w->news_lock, &t)) break;
#endif
        }
    }
    w->seen = w->news;
    pthread_mutex_unlock(&w->news_lock);
}

/* What waits in a list is over: the peer is lost. */
WEFT_FN void weft_threads_end(weft_threads_list *l) {
    weft_threads_op *o, *next;
    for (o = l->first; o; o = next) {
        next = o->next;
        o->status = WEFT_ERR_PEER_LOST;
        o->state = WEFT_THREADS_OVER;
    }
    l->first = l->last = NULL;
}

WEFT_FN void weft_threads_all_pairs(weft_threads_team *team, uint32_t rank) {
    uint32_t i, way;
    for (i = 0; i < team->size; i++) {
        for (way = 0; way < 2; way++) {
            uint32_t src = way ? rank : i, dst = way ? i : rank;
            weft_threads_pair *pair = &team->pair[(size_t)src * team->size + dst];
            weft_threads_worker *end = &team->worker[dst];
            pthread_mutex_lock(&end->lock);
            pair->lost = team->dead[src] || team->dead[dst];
            if (pair->lost) {
                weft_threads_end(&pair->sends);
                weft_threads_end(&pair->receives);
                while (pair->copying) pthread_cond_wait(&end->copied, &end->lock);
            }
            pthread_mutex_unlock(&end->lock);
        }
    }
}

/* The worker `rank` is gone: whatever others have pending with it ends in WEFT_ERR_PEER_LOST, now and from now on, and
 * so does whatever it asks for itself. When this returns, its buffers are not touched any more. From any thread. */
WEFT_FN void weft_threads_lose(weft_threads_team *team, uint32_t rank) {
    uint32_t i;
    if (rank >= team->size) return;
    pthread_mutex_lock(&team->lock);
    team->dead[rank] = 1;
    weft_threads_all_pairs(team, rank);
    pthread_mutex_unlock(&team->lock);
    for (i = 0; i < team->size; i++) weft_threads_tell(&team->worker[i]);
}

/* A lost worker is back, with nothing pending: its old requests are void. When its old thread is through with it. */
WEFT_FN void weft_threads_revive(weft_threads_team *team, uint32_t rank) {
    uint32_t i;
    if (rank >= team->size) return;
    pthread_mutex_lock(&team->lock);
    if (team->dead[rank]) {
        weft_threads_worker *w = &team->worker[rank];
        w->idle = NULL;
        w->used = 0;
        team->dead[rank] = 0;
        weft_threads_all_pairs(team, rank);
    }
    pthread_mutex_unlock(&team->lock);
    for (i = 0; i < team->size; i++) weft_threads_tell(&team->worker[i]);
}

WEFT_FN void weft_threads_free(weft_threads_team *team) {
    uint32_t i;
    for (i = 0; team->worker && i < team->size; i++) {
        weft_threads_worker *w = &team->worker[i];
        if (!w->team) break; /* init came no further */
        pthread_cond_destroy(&w->copied);
        pthread_cond_destroy(&w->news_come);
        pthread_mutex_destroy(&w->lock);
        pthread_mutex_destroy(&w->news_lock);
        free(w->op);
    }
    if (team->size) pthread_mutex_destroy(&team->lock);
    free(team->worker);
    free(team->pair);
    free(team->dead);
    memset(team, 0, sizeof *team);
}

/* WEFT_OK, WEFT_ERR_ARGUMENT (no workers, or more than 65,536) or WEFT_ERR_MEMORY. */
WEFT_FN weft_status weft_threads_init(weft_threads_team *team, uint32_t size) {
    uint32_t i, n = WEFT_THREADS_REQUESTS_PER_PEER * size;
    memset(team, 0, sizeof *team);
    if (size == 0 || size > 65536u) return WEFT_ERR_ARGUMENT;
    if (pthread_mutex_init(&team->lock, NULL)) return WEFT_ERR_MEMORY;
    team->size = size;
    team->worker = (weft_threads_worker *)calloc(size, sizeof *team->worker);
    team->dead = (unsigned char *)calloc(size, 1);
    team->pair = size <= SIZE_MAX / size / sizeof *team->pair
                     ? (weft_threads_pair *)calloc((size_t)size * size, sizeof *team->pair)
                     : NULL;
    for (i = 0; team->worker && team->dead && team->pair && i < size; i++) {
        weft_threads_worker *w = &team->worker[i];
        int bad = 0;
        w->op = (weft_threads_op *)calloc(n, sizeof *w->op);
        if (!w->op) break;
#ifdef __APPLE__
        bad |= pthread_cond_init(&w->news_come, NULL);
#else
        pthread_condattr_t monotonic;
        bad |= pthread_condattr_init(&monotonic);
        bad |= pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
        bad |= pthread_cond_init(&w->news_come, &monotonic);
        pthread_condattr_destroy(&monotonic);
#endif
        bad |= pthread_cond_init(&w->copied, NULL);
        bad |= pthread_mutex_init(&w->lock, NULL);
        bad |= pthread_mutex_init(&w->news_lock, NULL);
        if (bad) {
            free(w->op);
            break;
        }
        w->team = team;
        w->rank = i;
    }
    if (i < size) {
        weft_threads_free(team);
        return WEFT_ERR_MEMORY;
    }
    return WEFT_OK;
}

/* Fills in the transport of one worker. */
WEFT_FN void weft_threads_transport(weft_threads_team *team, uint32_t rank, weft_transport *net) {
    *net = weft_transport_make(&team->worker[rank], rank, team->size, weft_threads_send, weft_threads_recv,
                               weft_threads_test, weft_threads_cancel, weft_threads_now);
    net->wait = weft_threads_wait;
}

#endif /* WEFT_THREADS_H */
