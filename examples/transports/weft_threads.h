/* SPDX-License-Identifier: MIT
 * weft_threads.h: workers as pthreads of one process. A message is one memcpy, from the sender's buffer to the
 * receiver's, by whichever of the two comes second; until then a send stays pending. wait looks around for some tens of
 * microseconds, most of the time letting other threads run, and then sleeps.
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
 * headers; with -std=c11 (not gnu11) define _POSIX_C_SOURCE as 200809L before the first include. Link with -pthread.
 *
 * There is an all_reduce (desc.host_collectives = 1) in a unit that defines an X_IMPLEMENTATION before this file is
 * included. What is large is not copied on its way: each worker adds up its share of the vector where the others have
 * it, and writes the result to where they want it. Its bits are those of WEFT_ALGORITHM_DIRECT. A worker that is lost
 * ends it for all with WEFT_ERR_PEER_LOST, one that cancels it with WEFT_ERR_TRANSPORT (who begins only after that has
 * begun the next one, and must cancel it, too); workers that do not mean the same count and type all get
 * WEFT_ERR_MISMATCH. It also serves threads that want nothing but sums:
 *
 *     weft_request q = {0};
 *     s = net.all_reduce(net.ctx, weight, in, out, count, WEFT_F32, &q);
 *     if (s == WEFT_OK)
 *         while ((s = net.test(net.ctx, &q)) == WEFT_AGAIN) net.wait(net.ctx, UINT64_MAX); */
#ifndef WEFT_THREADS_H
#define WEFT_THREADS_H

#ifndef WEFT_VERSION
#error "include a weft header (grawa.h, ...) before weft_threads.h"
#endif

#if !defined __GNUC__ && !defined __clang__
#error "weft_threads.h needs the atomics of gcc and clang"
#endif

#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

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

/* all_reduce: vectors of up to WEFT_THREADS_SMALL bytes are handed over by copying them, so that the workers meet once
 * instead of twice; larger ones are added up in pieces of WEFT_THREADS_PIECE. Two pieces a worker. */
#ifndef WEFT_THREADS_PIECE
#define WEFT_THREADS_PIECE 16384u
#endif
#ifndef WEFT_THREADS_SMALL
#define WEFT_THREADS_SMALL 1024u
#endif

/* How often wait looks around before it sleeps: at first at once, then (or if there are more workers than processors)
 * after other threads have had their turn. */
#ifndef WEFT_THREADS_SPINS
#define WEFT_THREADS_SPINS 100u
#endif
#ifndef WEFT_THREADS_YIELDS
#define WEFT_THREADS_YIELDS 50u
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

/* What one worker writes while others look at something else stands so far apart: two cache lines, since processors
 * fetch them in pairs. */
#define WEFT_THREADS_LINE 128u
#define WEFT_THREADS_ALIGNED __attribute__((aligned(WEFT_THREADS_LINE)))

/* What a worker brings to an all_reduce. It is free again when all have come to the next one, so two are enough. */
typedef struct weft_threads_part {
    uint32_t number WEFT_THREADS_ALIGNED; /* atomic, written last: of the all_reduce that this is for */
    weft_dtype dtype;
    size_t count;
    double weight;
    union {
        struct {
            const void *in;
            void *out;
        } at;
        unsigned char value[WEFT_THREADS_PIECE]; /* the first few come with the number */
    } data;
} weft_threads_part;

typedef enum weft_threads_phase { WEFT_THREADS_IDLE, WEFT_THREADS_MEETING, WEFT_THREADS_PARTING } weft_threads_phase;

/* Of one worker; written by it alone, what is atomic read by all. */
typedef struct weft_threads_sum {
    weft_threads_part part[2];            /* by the parity of its number */
    uint32_t done WEFT_THREADS_ALIGNED;   /* atomic: the last all_reduce whose share is written */
    uint64_t nonfinite;                   /* in that share */
    uint32_t inside WEFT_THREADS_ALIGNED; /* atomic: it reads or writes what belongs to others */
    uint32_t asleep;                      /* atomic */
    /* its own affair */
    weft_threads_phase phase;
    uint32_t generation, number; /* of the last all_reduce that it has begun */
    uint32_t seen;               /* how many workers, in order, are known to be as far */
    void *out;
    const void **x; /* scratch: one a worker */
    double *w;
    const void *kernels[2]; /* that keep to the cache; that bypass it */
    size_t fits, exceeds;   /* bytes for which the one and the other are known to be right */
} weft_threads_sum;

typedef struct weft_threads_worker {
    struct weft_threads_team *team;
    uint32_t rank;
    pthread_mutex_t lock;  /* of the pairs that end here */
    pthread_cond_t copied; /* a copy into or out of one of them has ended */

    pthread_mutex_t news_lock;
    pthread_cond_t news_come;
    uint32_t news; /* atomic: counts what happened to this worker's requests */
    uint32_t seen; /* what it was when wait returned last */

    weft_threads_op *op; /* of this worker; given out and taken back by its own thread only */
    weft_threads_op *idle;
    uint32_t used; /* how many of op were ever given out: memory is touched when it is needed */

    weft_threads_sum *sum; /* of the team's, its own */
} weft_threads_worker;

typedef struct weft_threads_team {
    uint32_t size;
    pthread_mutex_t lock; /* of dead and base; taken before any other */
    unsigned char *dead;
    weft_threads_worker *worker;
    weft_threads_pair *pair; /* [source * size + destination] */

    unsigned char *memory; /* of what follows */
    weft_threads_sum *sum; /* one a worker */
    uint32_t spins;
    /* A loss or a cancel begins a new generation: what belongs to an older one comes to nothing. */
    uint32_t generation; /* atomic */
    uint32_t settled;    /* atomic: follows as soon as nobody touches anything any more for an older one */
    uint32_t lost;       /* atomic: the last generation that began with a loss */
    uint32_t base;       /* its numbers begin after this */
    uint32_t sleepers;   /* atomic: workers that sleep, or are about to, while they have an all_reduce under way */
} weft_threads_team;

/* ---- Atomics, on 32 bits ---- */

/* They keep one order for all: of two workers that each show something and then look, one sees what the other has
 * shown. */
WEFT_FN uint32_t weft_threads_look(const uint32_t *p) {
    return __atomic_load_n(p, __ATOMIC_SEQ_CST);
}

WEFT_FN void weft_threads_show(uint32_t *p, uint32_t v) {
    __atomic_store_n(p, v, __ATOMIC_SEQ_CST);
}

WEFT_FN void weft_threads_add_to(uint32_t *p, uint32_t by) {
    (void)__atomic_fetch_add(p, by, __ATOMIC_SEQ_CST);
}

/* A moment for the other threads of this processor. */
WEFT_FN void weft_threads_pause(void) {
#if defined __x86_64__ || defined __i386__
    __builtin_ia32_pause();
#elif defined __aarch64__
    __asm__ volatile("yield");
#endif
}

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
    weft_threads_add_to(&w->news, 1);
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

/* ---- all_reduce ----
 *
 * Every worker counts its calls. It shows what it brings under the call's number (a part), and waits until all have
 * shown theirs. What is small stands in the part itself, and everybody adds it all up. Of what is large everybody adds
 * up its own share, shows that it is done, and waits until all are.
 *
 * Numbers are only looked at for being equal, and no part is used again before all have come to the next call. So that
 * this holds in spite of losses and cancels, these begin a new generation: they wait until nobody is inside of others'
 * memory for the old one, and the new one goes on with numbers that nobody has used. */

/* Have all others come as far as this worker? */
WEFT_FN int weft_threads_all_here(weft_threads_worker *w) {
    const weft_threads_team *team = w->team;
    weft_threads_sum *s = w->sum;
    for (; s->seen < team->size; s->seen++) {
        const weft_threads_sum *o = &team->sum[s->seen];
        if (weft_threads_look(s->phase == WEFT_THREADS_MEETING ? &o->part[s->number & 1].number : &o->done) !=
            s->number)
            return 0;
    }
    return 1;
}

/* Is there anything to do for this worker's all_reduce? */
WEFT_FN int weft_threads_can_go_on(weft_threads_worker *w) {
    return w->sum->phase != WEFT_THREADS_IDLE &&
           (weft_threads_all_here(w) || weft_threads_look(&w->team->settled) != w->sum->generation);
}

/* A new generation; with the team's lock. The wait is for as long as it takes to add up one piece. */
WEFT_FN void weft_threads_next_generation(weft_threads_team *team, int lost) {
    uint32_t g = team->generation + 1, i, k;
    if (lost) weft_threads_show(&team->lost, g);
    weft_threads_show(&team->generation, g);
    for (i = 0; i < team->size; i++)
        while (weft_threads_look(&team->sum[i].inside)) sched_yield();
    /* who shows a part only now, for the old generation, is at most one further than it was */
    for (i = 0; i < team->size; i++)
        for (k = 0; k < 2; k++) {
            uint32_t number = weft_threads_look(&team->sum[i].part[k].number);
            if (number - team->base < UINT32_MAX / 2) team->base = number;
        }
    team->base += 2;
    weft_threads_show(&team->settled, g);
}

WEFT_FN void weft_threads_tell_all(weft_threads_team *team) {
    uint32_t i;
    for (i = 0; i < team->size; i++) weft_threads_tell(&team->worker[i]);
}

#ifdef WEFT_KERNELS_IMPLEMENTATION

/* This worker has shown something. If it was the last one that the others have waited for, who sleeps is woken. */
WEFT_FN void weft_threads_wake(weft_threads_worker *w) {
    weft_threads_team *team = w->team;
    uint32_t i;
    if (!weft_threads_look(&team->sleepers) || !weft_threads_all_here(w)) return;
    for (i = 0; i < team->size; i++)
        if (weft_threads_look(&team->sum[i].asleep)) weft_threads_tell(&team->worker[i]);
}

/* Will it come to nothing? Said only when nobody is inside of this worker's memory any more. */
WEFT_FN weft_status weft_threads_stuck(weft_threads_worker *w) {
    weft_threads_sum *s = w->sum;
    if (weft_threads_look(&w->team->settled) == s->generation) return WEFT_AGAIN;
    s->phase = WEFT_THREADS_IDLE;
    if (weft_threads_look(&w->team->lost) - s->generation - 1 < UINT32_MAX / 2) return WEFT_ERR_PEER_LOST;
    return WEFT_ERR_TRANSPORT;
}

/* The kernels for results of so many bytes. To ask the library each time would take longer than many a sum. */
WEFT_FN const weft_kernels *weft_threads_kernels(weft_threads_sum *s, size_t bytes) {
    if (bytes > s->fits && bytes < s->exceeds) {
        if (weft_kernels_select(WEFT_ISA_AUTO, bytes) == s->kernels[0])
            s->fits = bytes;
        else
            s->exceeds = bytes;
    }
    return (const weft_kernels *)s->kernels[bytes > s->fits];
}

/* This worker's share of a large vector: whole lines, piece by piece. 0: the generation has ended. */
WEFT_FN int weft_threads_share(weft_threads_worker *w, const weft_threads_part *mine) {
    weft_threads_team *team = w->team;
    weft_threads_sum *s = w->sum;
    const uint32_t parity = s->number & 1;
    const size_t each = weft_dtype_bytes(mine->dtype), line = 64 / each, piece = WEFT_THREADS_PIECE / each;
    const size_t lines = (mine->count + line - 1) / line, some = lines / team->size, more = lines % team->size;
    size_t at = (some * w->rank + (w->rank < more ? w->rank : more)) * line;
    size_t end = at + (some + (w->rank < more)) * line, n;
    const size_t all = mine->count * each;
    const weft_kernels *near = (const weft_kernels *)s->kernels[0];
    const weft_kernels *far = weft_threads_kernels(s, all > SIZE_MAX / team->size ? SIZE_MAX : all * team->size);
    unsigned char *sum = s->part[1 - parity].data.value; /* nobody looks at that one any more */
    uint32_t i;
    if (end > mine->count) end = mine->count;
    s->nonfinite = 0;
    for (; at < end; at += n) {
        if (weft_threads_look(&team->generation) != s->generation) return 0;
        n = end - at < piece ? end - at : piece;
        for (i = 0; i < team->size; i++)
            s->x[i] = (const unsigned char *)team->sum[i].part[parity].data.at.in + at * each;
        s->nonfinite += weft_run_weighted_sum(near, NULL, mine->dtype, n, team->size, s->w, s->x, sum);
        for (i = 0; i < team->size; i++) {
            const weft_threads_part *p = &team->sum[i].part[parity];
            /* what was read just now is in the cache, and better stays there until it is written */
            weft_run_copy(p->data.at.out == p->data.at.in ? near : far, NULL, mine->dtype, n, sum,
                          (unsigned char *)p->data.at.out + at * each);
        }
    }
    return 1;
}

/* All have come: checks that all mean the same, and adds up what is to be added up here. WEFT_AGAIN: there is more to
 * wait for. */
WEFT_FN weft_status weft_threads_meet(weft_threads_worker *w) {
    weft_threads_team *team = w->team;
    weft_threads_sum *s = w->sum;
    const weft_threads_part *mine = &s->part[s->number & 1];
    weft_status status = WEFT_OK;
    uint32_t i;
    weft_threads_show(&s->inside, 1);
    if (weft_threads_look(&team->generation) != s->generation) {
        weft_threads_show(&s->inside, 0);
        return WEFT_AGAIN;
    }
    for (i = 0; i < team->size; i++) {
        const weft_threads_part *p = &team->sum[i].part[s->number & 1];
        if (p->count != mine->count || p->dtype != mine->dtype) status = WEFT_ERR_MISMATCH;
        s->w[i] = p->weight;
        s->x[i] = p->data.value;
    }
    if (status == WEFT_OK && mine->count * weft_dtype_bytes(mine->dtype) <= WEFT_THREADS_SMALL) {
        s->nonfinite = weft_run_weighted_sum((const weft_kernels *)s->kernels[0], NULL, mine->dtype, mine->count,
                                             team->size, s->w, s->x, s->out);
    } else if (status == WEFT_OK) {
        status = WEFT_AGAIN;
        if (weft_threads_share(w, mine)) s->phase = WEFT_THREADS_PARTING;
    }
    weft_threads_show(&s->inside, 0);
    if (s->phase == WEFT_THREADS_PARTING) {
        s->seen = 0;
        weft_threads_show(&s->done, s->number);
        weft_threads_wake(w);
    }
    return status;
}

/* Moves this worker's all_reduce on. */
WEFT_FN weft_status weft_threads_sum_test(weft_threads_worker *w, weft_request *request) {
    weft_threads_team *team = w->team;
    weft_threads_sum *s = w->sum;
    weft_status status = WEFT_AGAIN;
    uint32_t i;
    if (s->phase == WEFT_THREADS_MEETING && weft_threads_all_here(w)) status = weft_threads_meet(w);
    if (s->phase == WEFT_THREADS_PARTING && weft_threads_all_here(w)) status = WEFT_OK;
    if (status == WEFT_AGAIN) return weft_threads_stuck(w);
    request->bytes = s->nonfinite;
    for (i = 0; s->phase == WEFT_THREADS_PARTING && i < team->size; i++)
        if (i != w->rank) request->bytes += team->sum[i].nonfinite;
    s->phase = WEFT_THREADS_IDLE;
    return status;
}

/* One at a time. */
WEFT_FN weft_status weft_threads_all_reduce(void *ctx, double weight, const void *in, void *out, size_t count,
                                            weft_dtype dtype, weft_request *request) {
    weft_threads_worker *w = (weft_threads_worker *)ctx;
    weft_threads_team *team = w->team;
    weft_threads_sum *s = w->sum;
    const size_t each = weft_dtype_bytes(dtype);
    size_t bytes;
    weft_threads_part *p;
    if (!each || count > SIZE_MAX / each || (count && (!in || !out))) return WEFT_ERR_ARGUMENT;
    if (s->phase != WEFT_THREADS_IDLE) return WEFT_ERR_CAPACITY;
    if (weft_threads_look(&team->generation) != s->generation) {
        uint32_t i;
        pthread_mutex_lock(&team->lock);
        for (i = 0; i < team->size && !team->dead[i]; i++) continue;
        if (i == team->size) {
            s->generation = team->generation;
            s->number = team->base;
        }
        pthread_mutex_unlock(&team->lock);
        if (i < team->size) return WEFT_ERR_PEER_LOST;
    }
    bytes = count * each;
    s->number++;
    p = &s->part[s->number & 1];
    p->count = count;
    p->dtype = dtype;
    p->weight = weight;
    if (bytes > WEFT_THREADS_SMALL) {
        p->data.at.in = in;
        p->data.at.out = out;
        weft_threads_show(&s->done, s->number - 1); /* whatever stood there in former times */
    } else if (bytes) {
        memcpy(p->data.value, in, bytes);
    }
    s->out = out;
    s->seen = 0;
    s->phase = WEFT_THREADS_MEETING;
    request->word[0] = (uintptr_t)w;
    weft_threads_show(&p->number, s->number);
    weft_threads_wake(w);
    return WEFT_OK;
}

#endif /* WEFT_KERNELS_IMPLEMENTATION */

WEFT_FN weft_status weft_threads_test(void *ctx, weft_request *request) {
    weft_threads_worker *w = (weft_threads_worker *)ctx;
    weft_threads_op *o = (weft_threads_op *)request->word[0];
    weft_threads_worker *end;
    weft_status status = WEFT_AGAIN;
    if (!o) return WEFT_ERR_ORDER;
#ifdef WEFT_KERNELS_IMPLEMENTATION
    if (request->word[0] == (uintptr_t)w) {
        status = weft_threads_sum_test(w, request);
        if (status != WEFT_AGAIN) request->word[0] = 0;
        return status;
    }
#endif
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
    request->word[0] = 0;
    if ((uintptr_t)o == (uintptr_t)w) {
        w->sum->phase = WEFT_THREADS_IDLE;
        /* also if this generation has ended: when the lock is ours, nobody is inside any more */
        pthread_mutex_lock(&w->team->lock);
        if (w->team->generation == w->sum->generation) weft_threads_next_generation(w->team, 0);
        pthread_mutex_unlock(&w->team->lock);
        weft_threads_tell_all(w->team);
        return;
    }
    end = o->is_send ? &w->team->worker[o->peer] : w;
    pthread_mutex_lock(&end->lock);
    while (o->state == WEFT_THREADS_COPYING) pthread_cond_wait(&end->copied, &end->lock);
    if (o->state == WEFT_THREADS_WAITING) {
        weft_threads_pair *pair = o->is_send ? &w->team->pair[(size_t)w->rank * w->team->size + o->peer]
                                             : &w->team->pair[(size_t)o->peer * w->team->size + w->rank];
        weft_threads_remove(o->is_send ? &pair->sends : &pair->receives, o);
    }
    pthread_mutex_unlock(&end->lock);
    weft_threads_release(w, o);
}

WEFT_FN void weft_threads_wait(void *ctx, uint64_t until_ns) {
    weft_threads_worker *w = (weft_threads_worker *)ctx;
    weft_threads_team *team = w->team;
    weft_threads_sum *s = w->sum;
    uint32_t i;
    for (i = 0; i < team->spins + WEFT_THREADS_YIELDS; i++) {
        if (weft_threads_can_go_on(w)) return;
        if (weft_threads_look(&w->news) != w->seen) break;
        if (i < team->spins)
            weft_threads_pause();
        else
            sched_yield();
    }
    pthread_mutex_lock(&w->news_lock);
    if (s->phase != WEFT_THREADS_IDLE) {
        /* from here on whoever brings what is waited for sees that it must say so */
        weft_threads_show(&s->asleep, 1);
        weft_threads_add_to(&team->sleepers, 1);
    }
    while (w->news == w->seen && !weft_threads_can_go_on(w)) {
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
    if (s->phase != WEFT_THREADS_IDLE) {
        weft_threads_add_to(&team->sleepers, UINT32_MAX);
        weft_threads_show(&s->asleep, 0);
    }
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
 * so does whatever it asks for itself, and everybody's all_reduce. When this returns, the transport does not touch its
 * buffers any more; an algorithm of another worker that goes by `shared` may, until that one has a view without it.
 * From any thread. */
WEFT_FN void weft_threads_lose(weft_threads_team *team, uint32_t rank) {
    if (rank >= team->size) return;
    pthread_mutex_lock(&team->lock);
    team->dead[rank] = 1;
    weft_threads_all_pairs(team, rank);
    weft_threads_next_generation(team, 1);
    pthread_mutex_unlock(&team->lock);
    weft_threads_tell_all(team);
}

/* A lost worker is back, with nothing pending: its old requests are void. When its old thread is through with it. */
WEFT_FN void weft_threads_revive(weft_threads_team *team, uint32_t rank) {
    if (rank >= team->size) return;
    pthread_mutex_lock(&team->lock);
    if (team->dead[rank]) {
        weft_threads_worker *w = &team->worker[rank];
        w->idle = NULL;
        w->used = 0;
        w->sum->phase = WEFT_THREADS_IDLE;
        team->dead[rank] = 0;
        weft_threads_all_pairs(team, rank);
    }
    pthread_mutex_unlock(&team->lock);
    weft_threads_tell_all(team);
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
    free(team->memory);
    memset(team, 0, sizeof *team);
}

/* WEFT_OK, WEFT_ERR_ARGUMENT (no workers, or more than 65,536) or WEFT_ERR_MEMORY. */
WEFT_FN weft_status weft_threads_init(weft_threads_team *team, uint32_t size) {
    uint32_t i, n = WEFT_THREADS_REQUESTS_PER_PEER * size;
    const size_t row = (size * (sizeof(double) + sizeof(void *)) / WEFT_THREADS_LINE + 1) * WEFT_THREADS_LINE;
    memset(team, 0, sizeof *team);
    if (size == 0 || size > 65536u) return WEFT_ERR_ARGUMENT;
    if (pthread_mutex_init(&team->lock, NULL)) return WEFT_ERR_MEMORY;
    team->size = size;
    team->worker = (weft_threads_worker *)calloc(size, sizeof *team->worker);
    team->dead = (unsigned char *)calloc(size, 1);
    team->pair = size <= SIZE_MAX / size / sizeof *team->pair
                     ? (weft_threads_pair *)calloc((size_t)size * size, sizeof *team->pair)
                     : NULL;
    team->memory = size <= SIZE_MAX / (sizeof *team->sum + row) - 1
                       ? (unsigned char *)calloc(size + 1, sizeof *team->sum + row)
                       : NULL;
    if (team->memory) {
        size_t past = (size_t)((uintptr_t)team->memory % WEFT_THREADS_LINE);
        team->sum = (weft_threads_sum *)(void *)(team->memory + (WEFT_THREADS_LINE - past));
    }
    team->spins = WEFT_THREADS_SPINS;
#ifdef _SC_NPROCESSORS_ONLN
    if (sysconf(_SC_NPROCESSORS_ONLN) < (long)size) team->spins = 0;
#endif
    for (i = 0; team->worker && team->dead && team->pair && team->memory && i < size; i++) {
        weft_threads_worker *w = &team->worker[i];
        weft_threads_sum *s = &team->sum[i];
        unsigned char *own = (unsigned char *)(team->sum + size) + i * row;
        int bad = 0;
        s->w = (double *)(void *)own;
        s->x = (const void **)(void *)(s->w + size);
        w->sum = s;
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
    net->shared = 1;
#ifdef WEFT_KERNELS_IMPLEMENTATION
    net->all_reduce = weft_threads_all_reduce;
    team->sum[rank].kernels[0] = weft_kernels_select(WEFT_ISA_AUTO, 0);
    team->sum[rank].kernels[1] = weft_kernels_select(WEFT_ISA_AUTO, SIZE_MAX);
    team->sum[rank].exceeds = SIZE_MAX;
#endif
}

#endif /* WEFT_THREADS_H */
