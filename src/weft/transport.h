/* SPDX-License-Identifier: MIT
 * transport.h: the host's network, as callbacks; and what a host promises when it fills them in. */
#include "base.h"
#include "tensor.h"
/*==== API ====*/

/* ---- The transport contract, on one page ----
 *
 * A transport carries messages between `size` workers with ranks 0 .. size-1. It is point to point, non-blocking,
 * tagged, and delivers into posted buffers, so it maps one to one onto MPI, UCX, libfabric, NCCL, sockets, or shared
 * memory.
 *
 * Order. For each (sender, receiver, tag): reliable, exactly once, in order; the n-th message matches the n-th receive
 *   posted for that peer and tag. Nothing is promised between different tags or peers.
 * Sizes. A receive may be longer than its message (request.bytes then tells the length). A receive shorter than its
 *   message completes with WEFT_ERR_TRUNCATED, request.bytes being the length of the message; what then stands in the
 *   buffer is undefined. Zero bytes are a message. No message exceeds max_message_bytes, if that is not 0.
 * Progress. send and recv return at once: WEFT_OK when the request is under way (or done), or an error. test returns
 *   WEFT_OK once when the request is done, WEFT_AGAIN before, or an error; after WEFT_OK or an error the request is
 *   over. A send whose receive is not posted yet may stay pending, but blocks no other message (of another tag or
 *   peer, or a receive).
 *   Bytes may only move inside callbacks; then every one of them moves all links, also those whose sends are over.
 * Ownership. From send or recv until test says that it is over, or cancel returns, request and buffer belong to the
 *   transport: the request does not move, the buffer is neither written (send, recv) nor read (recv) by the library.
 *   Nobody sends to itself. request.bytes is looked at for receives only.
 * Cancel. Returns at once, needs nobody's cooperation; afterwards the buffer is not touched again. A cancelled send may
 *   have been delivered, wholly or not at all. A cancelled receive takes no message with it, unless it was matched
 *   already.
 * End. X_leave is done when test has said of the last messages that they are over, which may be before they are on the
 *   line: a transport that copies must be flushed before the process ends.
 * Threads. Callbacks are called on the thread that called the verb, never on another (hpsgd.h with a pool that has
 *   `submit`: also on one of its threads, one at a time). Objects on several threads that share one transport need a
 *   transport that says so itself. A callback must not call verbs of the object that
 *   called it (they answer WEFT_ERR_REENTRY).
 * Loss. A peer that is gone is WEFT_ERR_PEER_LOST from send, recv or test of any request with that peer, or a call of
 *   X_peer_lost by the host. A send may still be taken, but receives tell. What a peer sent before it went is still
 *   received: a receive says so only when nothing is left. Any other negative status is a failure of the transport:
 *   WEFT_ERR_TRANSPORT, the status in detail.got.
 * Tags. Below 32,768 (what MPI guarantees). An object uses the WEFT_TAGS_PER_CHANNEL tags of its own `channel`, so that
 *   up to WEFT_CHANNELS objects share one transport.
 * Outstanding. At most `requests_per_peer` (see X_memory) per object and peer at a time.
 * Time. now is monotonic, in nanoseconds; only differences matter. It is called only where a deadline is asked for.
 * Sums. all_reduce is optional, and the host's own: out = the sum of weight * in over all ranks, each with a weight of
 *   its own. All call it in the same order, one at a time, with the same count and dtype; so one object a transport may
 *   use it. out may be in; otherwise in is not written. A weight that is 0 once it is rounded to the type in which sums
 *   are formed (f32 for 16-bit types) keeps out of the sum whatever stands in that rank's `in`. The order of summation
 *   is the host's affair; all ranks get the same.
 *   It returns at once; test ends it. request.bytes, which was UINT64_MAX, is then the number of elements of the whole
 *   result that are not finite; or it still is UINT64_MAX, and the library counts them. Until then, or until cancel,
 *   request, in and out belong to the transport. A sum that is cancelled by a rank, or loses one, comes to nothing for
 *   the others, too: they get an error, or wait until they cancel it. No rank begins the next one before all have.
 * Shared memory. `shared` = 1 says that all ranks live in one address space: an address of one is good at all, and what
 *   a rank wrote before it sent is there for whoever has received. An algorithm may then read its peers' memory, and
 *   where its header says so write it, instead of having it sent. Tensors and the memory of an object then stay where
 *   they are until no other worker is in a round with it; those of a rank that was lost, until the others are in a
 *   view without it.
 *
 * weft_transport_selftest() checks an implementation against this page. */

#define WEFT_CHANNELS 16u
#define WEFT_TAGS_PER_CHANNEL 2048u

/* One message under way. The library allocates it zeroed; the words are the transport's to use. */
typedef struct weft_request {
    uint64_t bytes;    /* set by the transport when done: the length of the message */
    uintptr_t word[4]; /* the transport's */
} weft_request;

typedef weft_status (*weft_send_fn)(void *ctx, uint32_t peer, uint32_t tag, const void *data, size_t bytes,
                                    weft_request *request);
typedef weft_status (*weft_recv_fn)(void *ctx, uint32_t peer, uint32_t tag, void *data, size_t capacity,
                                    weft_request *request);
typedef weft_status (*weft_test_fn)(void *ctx, weft_request *request);
typedef void (*weft_cancel_fn)(void *ctx, weft_request *request);
typedef uint64_t (*weft_now_fn)(void *ctx);
typedef weft_status (*weft_all_reduce_fn)(void *ctx, double weight, const void *in, void *out, size_t count,
                                          weft_dtype dtype, weft_request *request);

typedef struct weft_transport {
    size_t struct_size;         /* sizeof(weft_transport) where it was filled in */
    void *ctx;                  /* handed to every callback */
    uint32_t rank;              /* of this worker */
    uint32_t size;              /* number of workers, >= 1 */
    uint64_t max_message_bytes; /* 0: no limit; otherwise at least WEFT_SMALLEST_MESSAGE */

    weft_send_fn send;
    weft_recv_fn recv;
    weft_test_fn test;
    weft_cancel_fn cancel;
    weft_now_fn now; /* may be NULL if no deadline is asked for */

    /* Optional: sleep until something may have happened for this worker, or until `until_ns` on the clock of now
     * (UINT64_MAX: no limit). Returning early, or at once, is always legal. Used by the blocking verbs only. What other
     * callbacks have taken in since the last wait is such a happening, too: who reads bytes for all requests in each
     * of them keeps a mark, or it sleeps on what is there. */
    void (*wait)(void *ctx, uint64_t until_ns);

    weft_all_reduce_fn all_reduce; /* optional: see "Sums" above; used where a descriptor asks for it */
    uint32_t shared;               /* 1: see "Shared memory" above; 0 otherwise */
} weft_transport;

/* The smallest largest message that the library can work over: its control message. */
#define WEFT_SMALLEST_MESSAGE 256u

WEFT_INLINE weft_transport weft_transport_make(void *ctx, uint32_t rank, uint32_t size, weft_send_fn send,
                                               weft_recv_fn recv, weft_test_fn test, weft_cancel_fn cancel,
                                               weft_now_fn now) {
    weft_transport t;
    t.struct_size = sizeof t;
    t.ctx = ctx;
    t.rank = rank;
    t.size = size;
    t.max_message_bytes = 0;
    t.send = send;
    t.recv = recv;
    t.test = test;
    t.cancel = cancel;
    t.now = now;
    t.wait = NULL;
    t.all_reduce = NULL;
    t.shared = 0;
    return t;
}
/*==== IMPLEMENTATION ====*/

WEFT_FN weft_status weft_transport_check(const weft_transport *t, weft_detail *d) {
    if (!t) return weft_refuse(d, WEFT_ERR_ARGUMENT, WEFT_TEXT("transport"), 1, 0);
    if (t->struct_size != sizeof *t)
        return weft_refuse(d, WEFT_ERR_ABI, WEFT_TEXT("transport.struct_size"), sizeof *t, t->struct_size);
    if (t->size == 0 || t->size == WEFT_NO_RANK)
        return weft_refuse(d, WEFT_ERR_ARGUMENT, WEFT_TEXT("transport.size"), 1, t->size);
    if (t->rank >= t->size) return weft_refuse(d, WEFT_ERR_ARGUMENT, WEFT_TEXT("transport.rank"), t->size - 1, t->rank);
    if (t->size > 1 && (!t->send || !t->recv || !t->test || !t->cancel))
        return weft_refuse(d, WEFT_ERR_ARGUMENT, WEFT_TEXT("transport callbacks"), 4, 0);
    if (t->max_message_bytes && t->max_message_bytes < WEFT_SMALLEST_MESSAGE)
        return weft_refuse(d, WEFT_ERR_ARGUMENT, WEFT_TEXT("transport.max_message_bytes"), WEFT_SMALLEST_MESSAGE,
                           t->max_message_bytes);
    if (t->shared > 1) return weft_refuse(d, WEFT_ERR_ARGUMENT, WEFT_TEXT("transport.shared"), 1, t->shared);
    return WEFT_OK;
}
