/* SPDX-License-Identifier: MIT
 * weft_staged.h: memory of a GPU over a transport that takes the host's: TCP, a link, threads, an MPI that knows nothing
 * of CUDA.
 *
 *     weft_transport messages = ...;                                   // weft_tcp.h, weft_threads.h, yours
 *     weft_staged staged;
 *     weft_transport net;
 *     if (weft_staged_open(&staged, &net, &messages, 0) != WEFT_OK) complain(staged.why);
 *     ... X_desc: transport = &net, cuda = &cuda ...
 *     X_close(x); weft_staged_close(&staged);
 *
 * What is sent from a GPU is copied to pinned memory first, and goes out from there; what comes for a GPU arrives in
 * pinned memory, and is copied on. The copies of some requests run while others are on the network; pieces are of
 * `piece` bytes at most (0: 4 MiB; net.max_message_bytes), so that there are some. Messages from and to host memory are
 * handed on as they are, in their turn. Workers with and without this may be mixed: on the network nothing is different.
 *
 * Pinned memory is taken when it is first needed, kept, and given back by close: up to twice what is under way, but
 * workers that send larger pieces than this one's (who have no such limit in their transport: set max_message_bytes there)
 * make it receive as much. Copies run on a stream of their own; what is given to send must have been computed (the library sees to it). One
 * object is one thread's.
 *
 * Include this file after one of the weft headers; link with -lcudart. */
#ifndef WEFT_STAGED_H
#define WEFT_STAGED_H

#ifndef WEFT_VERSION
#error "include a weft header (grawa.h, ...) before weft_staged.h"
#endif

/* (tests have a runtime of their own) */
#ifndef WEFT_CUDA_RUNTIME
#include <cuda_runtime_api.h>
#endif
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* While a copy runs nothing wakes a worker that waits: it looks again after so long. */
#define WEFT_STAGED_LOOK_NS UINT64_C(50000)

typedef enum weft_staged_state {
    WEFT_STAGED_QUEUED, /* a send whose copy, or that of one before it, is not over */
    WEFT_STAGED_AWAY,   /* with the other transport */
    WEFT_STAGED_OUT     /* a receive that is copied to the GPU */
} weft_staged_state;

typedef struct weft_staged_op {
    struct weft_staged_op *next; /* of the queue, or of those that are free */
    weft_staged_state state;
    int copies; /* through `buffer` */
    uint32_t peer, tag;
    void *data;
    size_t bytes;
    weft_request request;
    void *buffer; /* pinned; stays with the op */
    size_t room;
    cudaEvent_t over; /* the copy */
    weft_status failed;
} weft_staged_op;

typedef struct weft_staged {
    weft_transport messages;
    cudaStream_t stream;
    weft_staged_op *free, *first, *last; /* first, last: the queue */
    unsigned out;                        /* receives that are copied to the GPU */
    int news;                            /* the queue has moved on: whoever waits should look */
    size_t pinned;                       /* bytes */
    uint64_t staged;                     /* messages that were copied, so far */
    char why[160];                       /* of the last failure */
} weft_staged;

WEFT_INLINE int weft_staged_cuda(weft_staged *t, const char *what, cudaError_t e) {
    if (e != cudaSuccess) snprintf(t->why, sizeof t->why, "%s: %s", what, cudaGetErrorString(e));
    return e == cudaSuccess;
}

/* Is it memory that only a GPU reaches? */
WEFT_INLINE int weft_staged_is_far(const void *p) {
    struct cudaPointerAttributes a;
    if (!p) return 0;
    if (cudaPointerGetAttributes(&a, p) != cudaSuccess) {
        (void)cudaGetLastError(); /* it is no error, and not for others to find */
        return 0;
    }
    return a.type == cudaMemoryTypeDevice;
}

/* An op with a buffer of `bytes` bytes or more, if any are wanted: of few sizes, so that they serve each other. */
WEFT_INLINE weft_staged_op *weft_staged_take(weft_staged *t, size_t bytes) {
    weft_staged_op **at = &t->free, *op;
    size_t room = bytes ? 4096 : 0;
    while (room && room < bytes) room = room <= SIZE_MAX / 2 ? 2 * room : bytes;
    while (*at && ((*at)->room < room || ((*at)->room != 0) != (room != 0))) at = &(*at)->next;
    op = *at;
    if (op) {
        *at = op->next;
    } else {
        op = (weft_staged_op *)calloc(1, sizeof *op);
        if (!op) return NULL;
        if (room && (!weft_staged_cuda(t, "cudaEventCreateWithFlags",
                                       cudaEventCreateWithFlags(&op->over, cudaEventDisableTiming)) ||
                     !weft_staged_cuda(t, "cudaMallocHost", cudaMallocHost(&op->buffer, room)))) {
            if (op->over) cudaEventDestroy(op->over);
            free(op);
            return NULL;
        }
        op->room = room;
        t->pinned += room;
    }
    op->next = NULL;
    op->failed = WEFT_OK;
    memset(&op->request, 0, sizeof op->request);
    return op;
}

WEFT_INLINE void weft_staged_release(weft_staged *t, weft_staged_op *op) {
    op->next = t->free;
    t->free = op;
}

/* Between an op's buffer and the GPU; over when its event is. */
WEFT_INLINE int weft_staged_copy(weft_staged *t, weft_staged_op *op, void *to, const void *from, size_t bytes,
                                 cudaMemcpyKind kind) {
    t->staged++;
    return weft_staged_cuda(t, "cudaMemcpyAsync", cudaMemcpyAsync(to, from, bytes, kind, t->stream)) &&
           weft_staged_cuda(t, "cudaEventRecord", cudaEventRecord(op->over, t->stream));
}

/* WEFT_AGAIN: it runs. */
WEFT_INLINE weft_status weft_staged_copied(weft_staged *t, const weft_staged_op *op) {
    const cudaError_t e = cudaEventQuery(op->over);
    if (e == cudaErrorNotReady) {
        (void)cudaGetLastError(); /* it is no error, and not for others to find */
        return WEFT_AGAIN;
    }
    return weft_staged_cuda(t, "a copy", e) ? WEFT_OK : WEFT_ERR_TRANSPORT;
}

/* Sends what has been copied, in the order in which it was given. */
WEFT_INLINE void weft_staged_pump(weft_staged *t) {
    while (t->first) {
        weft_staged_op *op = t->first;
        weft_status s = op->copies ? weft_staged_copied(t, op) : WEFT_OK;
        if (s == WEFT_AGAIN) return;
        if (s == WEFT_OK)
            s = t->messages.send(t->messages.ctx, op->peer, op->tag, op->copies ? op->buffer : op->data, op->bytes,
                                 &op->request);
        t->first = op->next;
        if (!t->first) t->last = NULL;
        op->state = WEFT_STAGED_AWAY;
        op->failed = s;
        t->news = 1;
    }
}

WEFT_INLINE weft_status weft_staged_send(void *ctx, uint32_t peer, uint32_t tag, const void *data, size_t bytes,
                                         weft_request *q) {
    weft_staged *t = (weft_staged *)ctx;
    const int far = bytes && weft_staged_is_far(data);
    weft_staged_op *op = weft_staged_take(t, far ? bytes : 0);
    if (!op) return WEFT_ERR_MEMORY;
    op->copies = far;
    op->peer = peer;
    op->tag = tag;
    op->data = (void *)(uintptr_t)data;
    op->bytes = bytes;
    op->state = WEFT_STAGED_QUEUED;
    if (far && !weft_staged_copy(t, op, op->buffer, data, bytes, cudaMemcpyDeviceToHost)) {
        weft_staged_release(t, op);
        return WEFT_ERR_TRANSPORT;
    }
    if (t->last)
        t->last->next = op;
    else
        t->first = op;
    t->last = op;
    weft_staged_pump(t);
    if (op->failed < 0) { /* it was its turn at once */
        const weft_status s = op->failed;
        weft_staged_release(t, op);
        return s;
    }
    q->word[0] = (uintptr_t)op;
    return WEFT_OK;
}

WEFT_INLINE weft_status weft_staged_recv(void *ctx, uint32_t peer, uint32_t tag, void *data, size_t capacity,
                                         weft_request *q) {
    weft_staged *t = (weft_staged *)ctx;
    const int far = capacity && weft_staged_is_far(data);
    weft_staged_op *op = weft_staged_take(t, far ? capacity : 0);
    weft_status s;
    if (!op) return WEFT_ERR_MEMORY;
    op->copies = far;
    op->data = data;
    op->bytes = capacity;
    op->state = WEFT_STAGED_AWAY;
    s = t->messages.recv(t->messages.ctx, peer, tag, far ? op->buffer : data, capacity, &op->request);
    if (s < 0) {
        weft_staged_release(t, op);
        return s;
    }
    q->word[0] = (uintptr_t)op;
    q->word[1] = 1; /* a receive */
    return WEFT_OK;
}

WEFT_INLINE weft_status weft_staged_test(void *ctx, weft_request *q) {
    weft_staged *t = (weft_staged *)ctx;
    weft_staged_op *op = (weft_staged_op *)q->word[0];
    weft_status s = WEFT_AGAIN;
    weft_staged_pump(t);
    if (op->state == WEFT_STAGED_AWAY) {
        s = op->failed < 0 ? op->failed : t->messages.test(t->messages.ctx, &op->request);
        q->bytes = op->request.bytes;
        if (s == WEFT_OK && op->copies && q->word[1] && op->request.bytes) {
            s = WEFT_AGAIN;
            if (!weft_staged_copy(t, op, op->data, op->buffer, (size_t)op->request.bytes, cudaMemcpyHostToDevice))
                s = WEFT_ERR_TRANSPORT;
            else {
                op->state = WEFT_STAGED_OUT;
                t->out++;
            }
        }
    }
    if (op->state == WEFT_STAGED_OUT && (s = weft_staged_copied(t, op)) != WEFT_AGAIN) t->out--;
    if (s != WEFT_AGAIN) weft_staged_release(t, op);
    return s;
}

WEFT_INLINE void weft_staged_cancel(void *ctx, weft_request *q) {
    weft_staged *t = (weft_staged *)ctx;
    weft_staged_op *op = (weft_staged_op *)q->word[0], **at = &t->first, *before = NULL;
    if (op->state == WEFT_STAGED_QUEUED) {
        for (; *at != op; at = &(*at)->next) before = *at;
        *at = op->next;
        if (t->last == op) t->last = before;
    } else if (op->state == WEFT_STAGED_AWAY && op->failed == WEFT_OK) {
        t->messages.cancel(t->messages.ctx, &op->request);
    }
    if (op->state == WEFT_STAGED_OUT) t->out--;
    /* the copy of a send may still read the memory, that of a receive still write it */
    if (op->copies && op->state != WEFT_STAGED_AWAY) (void)cudaEventSynchronize(op->over);
    weft_staged_release(t, op);
}

WEFT_INLINE uint64_t weft_staged_now(void *ctx) {
    const weft_staged *t = (const weft_staged *)ctx;
    return t->messages.now(t->messages.ctx);
}

WEFT_INLINE void weft_staged_wait(void *ctx, uint64_t until_ns) {
    weft_staged *t = (weft_staged *)ctx;
    weft_staged_pump(t);
    if (t->news) {
        t->news = 0;
        return;
    }
    if (t->first || t->out) {
        const uint64_t soon = t->messages.now ? weft_staged_now(t) + WEFT_STAGED_LOOK_NS : 0;
        if (soon < until_ns) until_ns = soon;
    }
    t->messages.wait(t->messages.ctx, until_ns);
}

/* Fills in `net`. `messages` is copied; what it stands for stays the host's, and must outlive this. `piece`: bytes, at
 * least WEFT_SMALLEST_MESSAGE; 0: 4 MiB. The GPU is the one that is current. */
WEFT_INLINE weft_status weft_staged_open(weft_staged *t, weft_transport *net, const weft_transport *messages,
                                         size_t piece) {
    memset(t, 0, sizeof *t);
    memset(net, 0, sizeof *net);
    if (!piece) piece = (size_t)4 << 20;
    if (piece < WEFT_SMALLEST_MESSAGE) {
        snprintf(t->why, sizeof t->why, "pieces of %zu bytes: at least %u are needed", piece, WEFT_SMALLEST_MESSAGE);
        return WEFT_ERR_ARGUMENT;
    }
    t->messages = *messages;
    if (!weft_staged_cuda(t, "cudaStreamCreateWithFlags", cudaStreamCreateWithFlags(&t->stream, cudaStreamNonBlocking)))
        return WEFT_ERR_TRANSPORT;
    *net = weft_transport_make(t, messages->rank, messages->size, weft_staged_send, weft_staged_recv, weft_staged_test,
                               weft_staged_cancel, messages->now ? weft_staged_now : NULL);
    net->max_message_bytes =
        messages->max_message_bytes && messages->max_message_bytes < piece ? messages->max_message_bytes : piece;
    if (messages->wait) net->wait = weft_staged_wait;
    return WEFT_OK;
}

/* After the objects on it were closed. */
WEFT_INLINE void weft_staged_close(weft_staged *t) {
    if (t->stream) (void)cudaStreamSynchronize(t->stream);
    while (t->free) {
        weft_staged_op *op = t->free;
        t->free = op->next;
        if (op->buffer) cudaFreeHost(op->buffer);
        if (op->over) cudaEventDestroy(op->over);
        free(op);
    }
    if (t->stream) cudaStreamDestroy(t->stream);
    memset(t, 0, sizeof *t);
}

#endif
