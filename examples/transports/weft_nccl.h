/* SPDX-License-Identifier: MIT
 * weft_nccl.h: sums by NCCL, between GPUs, over a transport that carries the messages. NCCL 2.14 or newer.
 *
 *     weft_transport messages = ...;                                   // weft_mpi.h, weft_tcp.h, weft_threads.h, yours
 *     ncclUniqueId id;                                                 // 128 bytes that the host moves:
 *     if (messages.rank == 0) ncclGetUniqueId(&id);                    // rank 0 makes them
 *     MPI_Bcast(&id, sizeof id, MPI_BYTE, 0, MPI_COMM_WORLD);          // all get them, however
 *     weft_nccl nccl;
 *     weft_transport net;
 *     if (weft_nccl_transport(&nccl, &net, &messages, &id, device) != WEFT_OK) complain(nccl.why);   // all call it
 *     ... weft_collective_desc, X_desc: transport = &net, host_collectives = 1 ...
 *     weft_nccl_close(&nccl);
 *
 * What it offers: net.all_reduce for f32 and f64. `in` and `out` are memory of a GPU, managed or pinned memory, which
 * NCCL reads and writes in place; or any other memory, which goes through a buffer of this object on the GPU. Order and
 * bits are NCCL's. The stream (nccl.stream) is its own: what the host's streams have written to `in` must be complete
 * when all_reduce is called.
 *
 * What it does not offer: messages by NCCL. ncclSend and ncclRecv have no tags, no lengths that the receiver learns, no
 * cancel, and one that waits for its other half holds up all that is behind it on its stream: none of them can stand
 * for the contract's send and recv. So messages go over `messages`, which net hands on as they are.
 *
 * Tensors of objects may be device memory where the descriptor has a `cuda` (WEFT_CUDA): `messages` must then take device
 * memory, too, or have weft_staged.h around it. Without, an object's memory, and the non-finite count and copies made
 * there, are the processor's: tensors must be main or managed memory. Those who call net.all_reduce themselves may use
 * any.
 *
 * A sum cannot be taken back alone: a cancel of one under way ends the communicator (ncclCommAbort), as does a failure.
 * The other ranks then see an error, or wait until they cancel, too; further sums are WEFT_ERR_TRANSPORT. Messages go
 * on. After a loss: close, and for sums again a new id, by those that are left.
 *
 * Include this file after one of the weft headers; link with -lnccl -lcudart. One GPU a rank. */
#ifndef WEFT_NCCL_H
#define WEFT_NCCL_H

#ifndef WEFT_VERSION
#error "include a weft header (grawa.h, ...) before weft_nccl.h"
#endif

#include <cuda_runtime_api.h>
#include <nccl.h>
#include <stdio.h>
#include <string.h>

typedef struct weft_nccl {
    weft_transport messages;
    ncclComm_t comm; /* NULL: aborted */
    cudaStream_t stream;
    cudaEvent_t over;
    int device;
    void *buffer; /* on the GPU, for memory that it does not reach */
    size_t buffer_bytes;
    /* of the sum under way */
    weft_request *request; /* NULL: none is */
    ncclRedOp_t op;
    void *out, *back; /* back: where in the buffer the result is that belongs to out; NULL: it is there already */
    size_t bytes;
    int queued;     /* NCCL has put it on the stream, and the event is behind it */
    char why[160]; /* of the last failure */
} weft_nccl;

/* 1: all went well. Otherwise `why` says what did not. */
WEFT_INLINE int weft_nccl_cuda(weft_nccl *n, const char *what, cudaError_t e) {
    if (e != cudaSuccess) snprintf(n->why, sizeof n->why, "%s: %s", what, cudaGetErrorString(e));
    return e == cudaSuccess;
}

WEFT_INLINE int weft_nccl_ok(weft_nccl *n, const char *what, ncclResult_t r) {
    if (r == ncclSuccess || r == ncclInProgress) return 1;
    snprintf(n->why, sizeof n->why, "%s: %s", what, ncclGetErrorString(r));
    return 0;
}

/* Nothing touches anybody's memory any more. */
WEFT_INLINE void weft_nccl_abort(weft_nccl *n) {
    if (n->comm) ncclCommAbort(n->comm);
    n->comm = NULL;
    if (n->stream) cudaStreamSynchronize(n->stream);
    n->request = NULL;
}

/* Does a GPU reach it? */
WEFT_INLINE int weft_nccl_reaches(const void *p) {
    struct cudaPointerAttributes a;
    if (cudaPointerGetAttributes(&a, p) != cudaSuccess) {
        cudaGetLastError(); /* it is no error, and not for others to find */
        return 0;
    }
    return a.type != cudaMemoryTypeUnregistered && a.devicePointer == p;
}

WEFT_INLINE weft_status weft_nccl_room(weft_nccl *n, size_t bytes) {
    if (bytes <= n->buffer_bytes) return WEFT_OK;
    if (n->buffer) cudaFree(n->buffer);
    n->buffer = NULL;
    n->buffer_bytes = 0;
    if (!weft_nccl_cuda(n, "cudaMalloc", cudaMalloc(&n->buffer, bytes))) return WEFT_ERR_MEMORY;
    n->buffer_bytes = bytes;
    return WEFT_OK;
}

WEFT_INLINE weft_status weft_nccl_all_reduce(void *ctx, double weight, const void *in, void *out, size_t count,
                                             weft_dtype dtype, weft_request *q) {
    weft_nccl *n = (weft_nccl *)ctx;
    const size_t each = dtype == WEFT_F64 ? 8 : 4;
    const ncclDataType_t type = dtype == WEFT_F64 ? ncclDouble : ncclFloat;
    float single = (float)weight;
    const int none = dtype == WEFT_F64 ? weight == 0 : single == 0;
    const void *from;
    void *to;
    if ((dtype != WEFT_F32 && dtype != WEFT_F64) || count > SIZE_MAX / each) return WEFT_ERR_UNSUPPORTED;
    if (!n->comm || n->request) return WEFT_ERR_TRANSPORT;
    if (!weft_nccl_cuda(n, "cudaSetDevice", cudaSetDevice(n->device))) return WEFT_ERR_TRANSPORT;
    n->bytes = count * each;
    n->back = NULL;
    n->out = out;
    from = in;
    to = out;
    if (count && !(weft_nccl_reaches(in) && weft_nccl_reaches(out))) {
        weft_status s = weft_nccl_room(n, n->bytes);
        if (s != WEFT_OK) return s;
        from = to = n->back = n->buffer;
        if (!none && !weft_nccl_cuda(n, "copying in",
                                     cudaMemcpyAsync(n->buffer, in, n->bytes, cudaMemcpyDefault, n->stream)))
            return WEFT_ERR_TRANSPORT;
    }
    if (none) { /* what stands in `in` may be NaN */
        from = to;
        if (count && !weft_nccl_cuda(n, "cudaMemsetAsync", cudaMemsetAsync(to, 0, n->bytes, n->stream)))
            return WEFT_ERR_TRANSPORT;
    }
    /* the same operator on all ranks, whatever their weights are */
    if (!weft_nccl_ok(n, "ncclRedOpCreatePreMulSum",
                      ncclRedOpCreatePreMulSum(&n->op, dtype == WEFT_F64 ? (void *)&weight : (void *)&single, type,
                                               ncclScalarHostImmediate, n->comm)))
        return WEFT_ERR_TRANSPORT;
    n->request = q;
    n->queued = 0;
    if (weft_nccl_ok(n, "ncclAllReduce", ncclAllReduce(from, to, count, type, n->op, n->comm, n->stream)))
        return WEFT_OK;
    weft_nccl_abort(n);
    return WEFT_ERR_TRANSPORT;
}

/* The sum: NCCL first gets it on the stream, then the stream gets to its end. */
WEFT_INLINE weft_status weft_nccl_look(weft_nccl *n) {
    ncclResult_t state = ncclSuccess;
    cudaError_t e;
    if (!weft_nccl_ok(n, "ncclCommGetAsyncError", ncclCommGetAsyncError(n->comm, &state))) state = ncclInternalError;
    if (state != ncclInProgress && !weft_nccl_ok(n, "ncclAllReduce", state)) {
        weft_nccl_abort(n);
        return state == ncclRemoteError ? WEFT_ERR_PEER_LOST : WEFT_ERR_TRANSPORT;
    }
    if (!n->queued) {
        if (state == ncclInProgress) return WEFT_AGAIN;
        if ((n->back && n->bytes &&
             !weft_nccl_cuda(n, "copying back",
                             cudaMemcpyAsync(n->out, n->back, n->bytes, cudaMemcpyDefault, n->stream))) ||
            !weft_nccl_cuda(n, "cudaEventRecord", cudaEventRecord(n->over, n->stream))) {
            weft_nccl_abort(n);
            return WEFT_ERR_TRANSPORT;
        }
        n->queued = 1;
    }
    e = cudaEventQuery(n->over);
    if (e == cudaErrorNotReady) return WEFT_AGAIN;
    if (!weft_nccl_cuda(n, "the sum", e)) {
        weft_nccl_abort(n);
        return WEFT_ERR_TRANSPORT;
    }
    ncclRedOpDestroy(n->op, n->comm);
    n->request = NULL;
    return WEFT_OK;
}

/* ---- Messages: as they are ---- */

WEFT_INLINE weft_status weft_nccl_send(void *ctx, uint32_t peer, uint32_t tag, const void *data, size_t bytes,
                                       weft_request *q) {
    const weft_transport *m = &((weft_nccl *)ctx)->messages;
    return m->send(m->ctx, peer, tag, data, bytes, q);
}

WEFT_INLINE weft_status weft_nccl_recv(void *ctx, uint32_t peer, uint32_t tag, void *data, size_t capacity,
                                       weft_request *q) {
    const weft_transport *m = &((weft_nccl *)ctx)->messages;
    return m->recv(m->ctx, peer, tag, data, capacity, q);
}

WEFT_INLINE weft_status weft_nccl_test(void *ctx, weft_request *q) {
    weft_nccl *n = (weft_nccl *)ctx;
    return q == n->request ? weft_nccl_look(n) : n->messages.test(n->messages.ctx, q);
}

WEFT_INLINE void weft_nccl_cancel(void *ctx, weft_request *q) {
    weft_nccl *n = (weft_nccl *)ctx;
    if (q == n->request)
        weft_nccl_abort(n);
    else
        n->messages.cancel(n->messages.ctx, q);
}

WEFT_INLINE uint64_t weft_nccl_now(void *ctx) {
    const weft_transport *m = &((weft_nccl *)ctx)->messages;
    return m->now(m->ctx);
}

/* While a sum is under way nobody tells of its end: a look around, no sleep. */
WEFT_INLINE void weft_nccl_wait(void *ctx, uint64_t until_ns) {
    weft_nccl *n = (weft_nccl *)ctx;
    if (n->messages.wait && !n->request) n->messages.wait(n->messages.ctx, until_ns);
}

WEFT_INLINE void weft_nccl_close(weft_nccl *n) {
    weft_nccl_abort(n);
    if (n->buffer) cudaFree(n->buffer);
    if (n->over) cudaEventDestroy(n->over);
    if (n->stream) cudaStreamDestroy(n->stream);
    n->buffer = NULL;
    n->over = NULL;
    n->stream = NULL;
}

/* All ranks of `messages` call it, each with a GPU of its own, and wait for each other. On an error n->why says what it
 * was, and all is given back. `messages` must outlive the object. */
WEFT_INLINE weft_status weft_nccl_transport(weft_nccl *n, weft_transport *net, const weft_transport *messages,
                                            const ncclUniqueId *id, int device) {
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    ncclResult_t state = ncclInProgress;
    memset(n, 0, sizeof *n);
    n->messages = *messages;
    n->device = device;
    config.blocking = 0; /* what NCCL has to do before it can begin, it does beside */
    if (!weft_nccl_cuda(n, "cudaSetDevice", cudaSetDevice(device)) ||
        !weft_nccl_cuda(n, "cudaStreamCreate", cudaStreamCreateWithFlags(&n->stream, cudaStreamNonBlocking)) ||
        !weft_nccl_cuda(n, "cudaEventCreate", cudaEventCreateWithFlags(&n->over, cudaEventDisableTiming)) ||
        !weft_nccl_ok(n, "ncclCommInitRank",
                      ncclCommInitRankConfig(&n->comm, (int)messages->size, *id, (int)messages->rank, &config))) {
        weft_nccl_close(n);
        return WEFT_ERR_TRANSPORT;
    }
    while (state == ncclInProgress)
        if (ncclCommGetAsyncError(n->comm, &state) != ncclSuccess) state = ncclInternalError;
    if (!weft_nccl_ok(n, "ncclCommInitRank", state)) {
        weft_nccl_close(n);
        return WEFT_ERR_TRANSPORT;
    }
    *net = weft_transport_make(n, messages->rank, messages->size, weft_nccl_send, weft_nccl_recv, weft_nccl_test,
                               weft_nccl_cancel, messages->now ? weft_nccl_now : NULL);
    net->max_message_bytes = messages->max_message_bytes;
    net->wait = weft_nccl_wait;
    net->all_reduce = weft_nccl_all_reduce;
    net->shared = messages->shared;
    return WEFT_OK;
}

#endif /* WEFT_NCCL_H */
